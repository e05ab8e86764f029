#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 11 of docs/SEMANTICS.md: shutdown, close, cancel, exit. TAP."""

import errno
import os
import random
import socket
import threading

import overlap
import section
import stage

ROUNDS = 300  # of cancels that race


class Endings(section.Case):
    """How operations end that nobody let finish."""

    def expect(self, operation, status, n_bytes=0):
        """The operation has ended so."""
        self.assertTrue(operation.wait(stage.PATIENCE_S))
        self.assertEqual((operation.status, operation.bytes), (status, n_bytes))

    def expect_closed(self, operation):
        """A close has ended the operation."""
        self.expect(operation, -errno.ECANCELED)
        self.assertEqual(operation.reason, overlap.Reason.CLOSED)

    def join(self, shared):
        """A second session that has the socket, too."""
        guest = self.open()
        return guest, guest.join(shared.share(guest.number))

    def test_shut_receiving(self):
        """11.1 what is pending survives a shutdown of receiving"""
        receive = self.mine.recv(10, verdict=True)
        self.mine.shutdown(socket.SHUT_RD)
        self.not_started(errno.ESHUTDOWN, self.mine.recv, 10, verdict=True)
        self.other.sendall(b"five!")
        self.expect(receive, 0, 5)

    def test_what_can_be_shut(self):
        """11.3 what can be shut down, and how often"""
        for _ in range(2):
            self.mine.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.other.recv(1), b"")
        stream = self.session.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.not_started(errno.ENOTCONN, stream.shutdown, socket.SHUT_WR)
        datagrams = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.shutdown(socket.SHUT_WR)
        self.not_started(errno.ESHUTDOWN, datagrams.sendto, b"x", ("127.0.0.1", 9), verdict=True)

    def test_close(self):
        """11.5 11.6 11.10 a close ends what is pending, each in its way, and nothing else comes"""
        port = self.port_of(self.mine, 7)
        mine, other = self.connect(self.session)
        packet_of, noted = self.mine.recv(10, verdict=True), mine.recv(10, routine=self.ran, user="noted", verdict=True)
        self.mine.close()
        mine.close()
        self.expect_closed(packet_of)
        self.expect_closed(noted)
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.status), (7, packet_of, -errno.ECANCELED))
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["noted"])
        self.nothing_at(port)
        self.not_started(errno.EBADF, mine.recv, 10, verdict=True)
        other.close()

    def test_the_last_close(self):
        """11.8 the last close of a shared socket ends what is pending, whoever posted it"""
        _, theirs = self.join(self.mine)
        port = self.port_of(self.mine, 7)
        receives = [self.mine.recv(10, verdict=True) for _ in range(3)]
        last = theirs.recv(10, verdict=True)
        self.mine.close()
        self.nothing_at(port)
        self.other.sendall(b"five!")
        self.expect(receives[0], 0, 5)
        self.assertEqual(port.wait(stage.PATIENCE_S)[0].key, 7)
        self.assertTrue(receives[1].cancel())
        self.assertEqual(receives[1].reason, overlap.Reason.CANCELLED)
        self.assertFalse(receives[2].done)
        theirs.close()
        self.expect_closed(last)
        self.expect_closed(receives[2])

    def test_a_thread_ends_what_goes_on(self):
        """11.8 11.17 what goes on after a close ends with its thread"""
        _, theirs = self.join(self.mine)
        thread = self.session.thread_open()
        receive, kept = self.mine.recv(10, thread=thread, verdict=True), theirs.recv(10, verdict=True)
        self.mine.close()
        self.assertFalse(receive.done)
        thread.close()
        self.expect(receive, -errno.ECANCELED)
        self.other.sendall(b"five!")
        self.expect(kept, 0, 5)

    def test_cancel(self):
        """11.12 11.13 a cancel of one, and of all, is done when it returns"""
        receives = [self.mine.recv(10, verdict=True) for _ in range(4)]
        self.assertTrue(receives[2].cancel())
        self.assertEqual((receives[2].status, receives[2].reason), (-errno.ECANCELED, overlap.Reason.CANCELLED))
        self.assertFalse(receives[0].done)
        self.assertEqual(self.mine.cancel(), 3)
        self.assertTrue(all(receive.done for receive in receives))
        self.not_started(errno.ENOENT, self.mine.cancel)
        self.bring(b"five!")
        self.expect(self.mine.recv(10), 0, 5)

    def test_races(self):
        """11.16 11.20 cancels that race with data lose no byte"""
        sent, received = os.urandom(ROUNDS * 8), bytearray()
        turn = threading.Semaphore(0)

        def write():
            for at in range(0, len(sent), 8):
                turn.acquire()
                self.other.sendall(sent[at:at + 8])

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(ROUNDS):
            receive = self.mine.recv(64, waitall=random.random() < 0.3)
            turn.release()
            cancelled = receive.cancel()
            self.assertEqual(receive.status, -errno.ECANCELED if cancelled else 0)
            received += receive.data or b""
        writer.join()
        while len(received) < len(sent):
            rest = self.mine.recv(4096)
            rest.finish(stage.PATIENCE_S)
            received += rest.data or b""
        self.assertEqual(received, sent)

    def test_a_thread(self):
        """11.17 11.18 what a thread posted ends with it, but for what only a port is told, and nothing of others"""
        thread = self.session.thread_open()
        mine = self.mine.recv(10, thread=self.session.thread, verdict=True)
        theirs = self.mine.recv(10, thread=thread, verdict=True)
        with_port, other = self.connect(self.session)
        port = self.port_of(with_port, 9)
        to_port = with_port.recv(10, thread=thread, verdict=True)
        thread.close()
        self.expect(theirs, -errno.ECANCELED)
        self.assertFalse(mine.done or to_port.done)
        other.sendall(b"five!")
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.bytes), (9, to_port, 5))
        other.close()


if __name__ == "__main__":
    stage.main()
