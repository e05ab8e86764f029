#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 8 of docs/SEMANTICS.md: sending on streams. TAP."""

import errno
import random
import socket
import struct

import section
import stage


class Sends(section.Case):
    """What leaves, and in which order."""

    def read(self, size):
        """So many bytes from the ordinary end."""
        data = b""
        while len(data) < size and (piece := self.other.recv(65536)):
            data += piece
        return data

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
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        receiving.wait(stage.PATIENCE_S)
        self.assertEqual(receiving.status, -errno.ECONNRESET)
        self.not_started(errno.ECONNRESET, second.send, b"x", verdict=True)
        second.close()
        self.not_started(errno.EBADF, second.send, b"x", verdict=True)


if __name__ == "__main__":
    stage.main()
