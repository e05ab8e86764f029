#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 13 of docs/SEMANTICS.md: files. TAP."""

import contextlib
import errno
import random
import socket
import tempfile

import section
import stage

import overlap

PAYLOAD = random.Random(13).randbytes(300000)


class Transmits(section.Case):
    """What is sent of a file, and in which order."""

    @contextlib.contextmanager
    def file(self):
        """A file of the session. At level 0 it says that it lends none, and there is nothing more to see."""
        with tempfile.NamedTemporaryFile(buffering=0) as made:
            made.write(PAYLOAD)
            with open(made.name, "rb") as file:
                if self.level == 0:
                    self.not_started(errno.EOPNOTSUPP, self.session.file, file)
                    self.skipTest("level 0 lends no files")
                with self.session.file(file) as lent:
                    yield lent

    def read(self, size):
        """So many bytes from the ordinary end."""
        data = b""
        while len(data) < size and (piece := self.other.recv(size - len(data))):
            data += piece
        return data

    def test_in_order(self):
        """13.11 head, file and tail leave in this order"""
        with self.file() as lent:
            sending = self.mine.transmit(lent, head=b"head", tail=b"tail!")
            self.assertEqual(self.read(300009), b"head" + PAYLOAD + b"tail!")
            self.assertEqual(sending.finish(stage.PATIENCE_S), 300009)
            self.assertEqual(self.mine.transmit(lent, 1000, 10, tail=b"!").finish(stage.PATIENCE_S), 11)
            self.assertEqual(self.read(11), PAYLOAD[1000:1010] + b"!")
            self.assertEqual(self.mine.transmit(None).finish(stage.PATIENCE_S), 0)

    def test_refused(self):
        """13.11 what is not transmitted"""
        with self.file() as lent:
            datagram = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for other in (self.session.socket(), datagram):
                self.not_started(errno.ENOTCONN, other.transmit, lent, verdict=True)
            self.not_started(errno.ENOTCONN, datagram.transmit_packets, [[b"x"]], verdict=True)
            with self.assertRaises(overlap.OverlapError) as caught:
                self.mine.transmit(lent, 0, 2147483646, head=b"x")
            self.assertEqual(caught.exception.errno, errno.EMSGSIZE)
            self.not_started(errno.EOPNOTSUPP, self.mine.transmit, lent, reuse=True, verdict=True)

    def test_disconnects(self):
        """13.11 a transmit disconnects"""
        with self.file() as lent:
            sending = self.mine.transmit(lent, disconnect=True)
            self.not_started(errno.ESHUTDOWN, self.mine.send, b"x", verdict=True)
            self.assertEqual(self.read(300001), PAYLOAD)
            self.assertEqual(sending.finish(stage.PATIENCE_S), 300000)

    def test_packets(self):
        """13.12 packets follow each other on a stream, and are datagrams"""
        with self.file() as lent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            packets = [[b"ab", overlap.Range(7, 5)], [], [overlap.Range(299990)]]
            self.assertEqual(self.mine.transmit_packets(packets, lent).finish(stage.PATIENCE_S), 17)
            self.assertEqual(self.read(17), b"ab" + PAYLOAD[7:12] + PAYLOAD[299990:])
            other.bind(("127.0.0.1", 0))
            mine = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
            mine.connect(other.getsockname()).finish(stage.PATIENCE_S)
            self.assertEqual(mine.transmit_packets(packets, lent).finish(stage.PATIENCE_S), 17)
            self.assertEqual([other.recv(100) for _ in range(3)], [b"ab" + PAYLOAD[7:12], b"", PAYLOAD[299990:]])


if __name__ == "__main__":
    stage.main()
