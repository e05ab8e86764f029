#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 16 of docs/SEMANTICS.md: what event-select is made of. TAP.
"""

import errno
import socket

import overlap
import section
import stage


class Polls(section.Case):
    """What a poll tells, and when."""

    def test_tells_once(self):
        """16.1 a poll tells once what is there, and the next one what is left"""
        polling = self.mine.poll(verdict=True)
        self.expect_nothing(polling)
        self.other.sendall(b"five!")
        self.assertEqual(polling.finish(stage.PATIENCE_S), overlap.Poll.IN)
        self.expect(self.mine.recv(2), 0, 2)
        again = self.mine.poll(verdict=True)
        self.assertTrue(again.done)
        self.assertEqual(again.result(), overlap.Poll.IN)
        self.expect(self.mine.recv(10), 0, 3)
        self.expect_nothing(self.mine.poll(verdict=True))

    def test_ends(self):
        """16.3 a close ends polls with ECANCELED, the other side's end is an event"""
        self.other.shutdown(socket.SHUT_WR)
        self.assertTrue(self.mine.poll().finish(stage.PATIENCE_S) & overlap.Poll.HUP)
        second, other = self.connect(self.session)
        polling = second.poll(verdict=True)
        second.close()
        self.expect(polling, -errno.ECANCELED)
        other.close()


if __name__ == "__main__":
    stage.main()
