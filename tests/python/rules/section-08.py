#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 8 of docs/SEMANTICS.md: sending on streams. TAP."""

import contextlib
import errno
import random
import socket

import overlap
import section
import stage
from overlap import wire

BIG = 1000000  # bytes: more than both ends of a connection keep


class Sends(section.Case):
    """What leaves, and in which order."""

    def test_in_posting_order_and_whole(self):
        """8.1 8.2 sends leave in posting order, and each wholly however slowly the peer reads"""
        pieces = [random.Random(number).randbytes(65536) for number in range(40)]
        sends = []
        for piece in pieces:
            sends.append(self.mine.send(piece))
        self.assertFalse(all(send.done for send in sends))
        self.assertEqual(self.read(40 * 65536), b"".join(pieces))
        self.assertEqual([send.finish(stage.PATIENCE_S) for send in sends], [65536] * 40)

    def test_nothing_is_sent(self):
        """8.7 a send of no bytes succeeds and puts nothing on the wire"""
        self.assertEqual(self.mine.send(b"").finish(stage.PATIENCE_S), 0)
        self.assertEqual(self.mine.send([]).finish(stage.PATIENCE_S), 0)
        self.mine.send(b"x").finish(stage.PATIENCE_S)
        self.mine.shutdown(socket.SHUT_WR)
        self.assertEqual(self.read(10), b"x")

    def test_refused_at_once(self):
        """8.8 what cannot be sent is refused at once"""
        self.not_started(errno.ENOTCONN, self.session.socket().send, b"x", verdict=True)
        self.mine.shutdown(socket.SHUT_WR)
        self.not_started(errno.ESHUTDOWN, self.mine.send, b"x", verdict=True)
        second, other = self.connect(self.session)
        receiving = second.recv(10)
        self.reset(other)
        receiving.wait(stage.PATIENCE_S)
        self.assertEqual(receiving.status, -errno.ECONNRESET)
        self.not_started(errno.ECONNRESET, second.send, b"x", verdict=True)
        second.close()
        self.not_started(errno.EBADF, second.send, b"x", verdict=True)


    def test_does_not_wait(self):
        """8.3 a send that does not wait is taken whole or not at all"""
        data = random.Random(3).randbytes(BIG)
        self.mine.set_option(overlap.Option.SEND_BUFFER, 16384)
        taken = self.mine.send(data, dontwait=True, verdict=True)
        self.assertFalse(taken.done)
        self.expect(self.mine.send(b"x", dontwait=True, verdict=True), -errno.EAGAIN)
        self.assertEqual(self.read(BIG), data)
        self.expect(taken, 0, BIG)

    def test_pends_without_room(self):
        """8.4 8.6 a send pends while there is no room, and its buffer is free when it has ended"""
        self.mine.set_option(overlap.Option.SEND_BUFFER, 16384)
        data = bytearray(random.Random(4).randbytes(BIG))
        sent = bytes(data)
        sending = self.mine.send(data, verdict=True)
        self.expect_nothing(sending)
        received = bytearray()
        while len(received) < BIG and not sending.wait(0):
            received += self.other.recv(4096)
        self.expect(sending, 0, BIG)
        data[:] = b"!" * BIG
        self.assertEqual(bytes(received) + self.read(BIG - len(received)), sent)

    def test_waits_for_acknowledgements(self):
        """8.5 without a send buffer a send ends when its bytes were acknowledged, in posting order"""
        self.mine.set_option(overlap.Option.SEND_BUFFER, 400000)
        self.mine.set_option(overlap.Option.SEND_BUFFER, 0)
        self.assertEqual(self.mine.get_option(overlap.Option.SEND_BUFFER), 0)
        data = random.Random(5).randbytes(250000)
        sends = [self.mine.send(data), self.mine.send(b"0123456789"), self.mine.send(b"")]
        self.expect_nothing(*sends)
        self.assertEqual(self.read(250010), data + b"0123456789")
        for sending, n_bytes in zip(sends, (250000, 10, 0)):
            self.expect(sending, 0, n_bytes)

    def test_while_connecting(self):
        """8.9 while a connect is pending nothing is sent or received, and no other connect starts"""
        with socket.socket() as listener, contextlib.ExitStack() as fillers:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(3):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            stream = self.session.socket()
            connecting = stream.connect(listener.getsockname(), verdict=True)
            self.assertFalse(connecting.done)
            self.not_started(errno.ENOTCONN, stream.send, b"x", verdict=True)
            self.not_started(errno.ENOTCONN, stream.recv, 1, verdict=True)
            self.not_started(errno.EALREADY, stream.connect, listener.getsockname(), verdict=True)
            self.assertFalse(connecting.done)
            stream.close()
            self.expect(connecting, -errno.ECANCELED)

    def test_a_reset_in_the_middle(self):
        """8.10 a reset ends all sends, also one of which a part has left, and says nothing of bytes"""
        self.mine.set_option(overlap.Option.SEND_BUFFER, 16384)
        sends = [self.mine.send(bytes(BIG), verdict=True) for _ in range(4)]
        self.assertFalse(sends[0].done)
        self.reset()
        for sending in sends:
            self.expect(sending, -errno.ECONNRESET)

    def test_flags(self):
        """8.11 flags that a send has not got are refused, and only its last byte is urgent"""
        def odd(flags, **common):
            post = self.mine._post(wire.Op.SEND, common)  # pylint: disable=protected-access
            post.op_flags = flags
            post.send(b"x")
            return post.start()

        for flags in (0x40000000, wire.MessageFlags.PEEK, wire.MessageFlags.WAITALL):
            self.not_started(errno.EOPNOTSUPP, odd, flags, verdict=True)
        self.expect(self.mine.send(b"x", dontroute=True), 0, 1)
        self.assertEqual(self.other.recv(1), b"x")
        self.other.settimeout(None)  # with a timeout a read would wait for other data first
        self.expect(self.mine.send(b"abc", oob=True), 0, 3)
        self.assertEqual(self.read(2), b"ab")
        self.assertEqual(self.other.recv(1, socket.MSG_OOB), b"c")


if __name__ == "__main__":
    stage.main()
