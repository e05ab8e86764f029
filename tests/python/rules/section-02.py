#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 2 of docs/SEMANTICS.md: the life of an operation. TAP.

Where the fields of a structure are (2.1), and in which order another thread sees them (2.2, 2.4), is about C memory.
"""

import errno
import socket

import overlap
import section
import stage


class Lives(section.Case):
    """What belongs to whom, and until when."""

    def test_buffers_are_left_alone(self):
        """2.5 while a receive is pending its buffer does not change, nor when it is cancelled"""
        target = bytearray(b"." * 10)
        receive = self.mine.recv(target, waitall=True, verdict=True)
        self.assertTrue(receive.cancel())
        self.other.sendall(b"0123456789")
        self.assertEqual(target, b"." * 10)
        self.expect(self.mine.recv(10, waitall=True), 0, 10)
        self.assertEqual(target, b"." * 10)

    def test_indications_name_the_operation(self):
        """2.7 what a cancel has ended is indicated afterwards, with the operation and what it holds"""
        target = bytearray(10)
        given = []
        receive = self.mine.recv(target, routine=given.append, user="mine", verdict=True)
        self.assertTrue(receive.cancel())
        self.assertEqual(given, [])
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(given, [receive])
        self.assertEqual((receive.user, receive.status), ("mine", -errno.ECANCELED))

    def test_packets_have_the_result(self):
        """2.8 who takes a packet finds the result in the operation"""
        port = self.port_of(self.mine)
        receive = self.mine.recv(10)
        self.other.sendall(b"five!")
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.operation, packet.bytes), (receive, 5))
        self.assertEqual((receive.done, receive.bytes, receive.data), (True, 5, b"five!"))

    def test_cut_datagrams(self):
        """2.9 a datagram that was cut ends its receive like others, also when the post itself says so"""
        mine = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        mine.bind(("127.0.0.1", 0))
        port = self.port_of(mine, 3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(mine.getsockname())
            pending = mine.recv(4, verdict=True)
            peer.send(b"0123456789")
            packet = port.wait(stage.PATIENCE_S)[0]
            self.assertEqual((packet.operation, packet.status, packet.bytes), (pending, -errno.EMSGSIZE, 4))
            peer.send(b"0123456789")
            mine.poll(quiet=True).finish(stage.PATIENCE_S)
            done = mine.recv(4, verdict=True)
            self.assertTrue(done.done)
            self.assertEqual(port.wait(stage.PATIENCE_S)[0].operation, done)
        for receive in (pending, done):
            self.assertEqual((receive.status, receive.data), (-errno.EMSGSIZE, b"0123"))
            self.assertTrue(receive.flags & overlap.RecordFlags.TRUNCATED)


if __name__ == "__main__":
    stage.main()
