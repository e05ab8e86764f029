#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 14 of docs/SEMANTICS.md: buffer sizes, and receive buffers of no bytes. TAP.

14.5 is about the worker's memory, and proved for the C library.
"""

import errno
import random
import socket

import overlap
import section
import stage

LEN = 250000  # bytes that a peer wants to send


class Buffers(section.Case):
    """What is kept for whom, and what is not."""

    def test_the_size_is_told(self):
        """14.1 a receive buffer of no bytes is told as such, and can be had back"""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            fresh = self.session.socket(socket.AF_INET, kind)
            fresh.set_option(overlap.Option.RECEIVE_BUFFER, 0)
            self.assertEqual(fresh.get_option(overlap.Option.RECEIVE_BUFFER), 0)
            fresh.set_option(overlap.Option.RECEIVE_BUFFER, 8192)
            self.assertGreaterEqual(fresh.get_option(overlap.Option.RECEIVE_BUFFER), 8192)

    def test_a_peer_stalls(self):
        """14.2 without a receive buffer a peer stalls after a few KiB, and nothing is lost"""
        listener = self.session.socket()
        listener.set_option(overlap.Option.RECEIVE_BUFFER, 0)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        data = random.Random(14).randbytes(LEN)
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
            peer.connect(listener.getsockname())
            stream = listener.accept().finish(stage.PATIENCE_S)
            self.assertEqual(stream.get_option(overlap.Option.RECEIVE_BUFFER), 0)
            peer.settimeout(2 * section.NOTHING_S)
            sent = 0
            with self.assertRaises(TimeoutError):
                while sent < LEN:
                    sent += peer.send(data[sent:])
            self.assertLess(sent, 65536)
            peer.settimeout(stage.PATIENCE_S)
            sending = self.thread(peer.sendall, data[sent:])
            received = bytearray()
            while len(received) < LEN:
                receive = stream.recv(LEN - len(received))
                receive.finish(stage.PATIENCE_S)
                received += receive.data
            sending.join()
        self.assertEqual(received, data)

    def test_datagrams_are_lost(self):
        """14.3 without a receive buffer a datagram that no receive waits for is lost, and no other"""
        mine = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        mine.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(mine.getsockname())
            peer.send(b"before")
            mine.set_option(overlap.Option.RECEIVE_BUFFER, 0)
            for _ in range(3):
                peer.send(b"lost")
                receives = [mine.recvfrom(10, verdict=True) for _ in range(3)]
                self.assertFalse(any(receive.done for receive in receives))
                for data in (b"1", b"22", b"333"):
                    peer.send(data)
                for n_bytes, receive in enumerate(receives, 1):
                    self.expect(receive, 0, n_bytes)
                self.assertTrue(mine.recv(10, verdict=True).cancel())
            mine.set_option(overlap.Option.RECEIVE_BUFFER, 65536)
            peer.send(b"kept")
            self.expect(mine.recv(10), 0, 4)

    def test_data_waits(self):
        """14.4 with a buffer data waits for the receive that takes it"""
        first = self.mine.recv(10, verdict=True)
        self.other.sendall(b"1")
        self.expect(first, 0, 1)
        self.bring(b"five.")
        receive = self.mine.recv(10, verdict=True)
        self.assertEqual((receive.done, receive.data), (True, b"five."))

    def test_operations_run_out(self):
        """14.6 1.11 operations run out with ENOBUFS, nothing is indicated, and one that ends makes room for one"""
        receives = []
        with self.assertRaises(overlap.OverlapError) as caught:
            while len(receives) < 100000:
                receives.append(self.mine.recv(0))
        self.assertEqual(caught.exception.errno, errno.ENOBUFS)
        self.assertEqual(self.session.n_pending(), len(receives))
        self.assertTrue(receives[7].cancel())
        receives[7] = self.mine.recv(0, verdict=True)
        self.assertFalse(receives[7].done)
        self.not_started(errno.ENOBUFS, self.mine.recv, 0)
        self.assertEqual(self.mine.cancel(), len(receives))


if __name__ == "__main__":
    stage.main()
