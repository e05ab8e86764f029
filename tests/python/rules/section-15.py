#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 15 of docs/SEMANTICS.md: duplicating sockets. TAP.

15.1 to 15.3 are about sockets that are not overlapped, which the Python client has as views: Socket.blocking().
"""

import errno

import overlap
import section
import stage


class Shares(section.Case):
    """One socket, several sessions."""

    def test_a_ticket_is_for_one(self):
        """15.4 a ticket is for one session, once, and what it gives is the socket with all that was set"""
        guest, stranger = self.open(), self.open()
        self.not_started(errno.ESRCH, self.mine.share, 999)
        ticket = self.mine.share(guest.number)
        self.not_started(errno.ENOENT, stranger.join, ticket)
        theirs = guest.join(ticket)
        self.not_started(errno.ENOENT, guest.join, ticket)
        theirs.set_option(overlap.Option.NO_DELAY, 1)
        self.assertEqual(self.mine.get_option(overlap.Option.NO_DELAY), 1)
        self.assertEqual(theirs.getsockname(), self.mine.getsockname())
        self.mine.close()
        self.expect(theirs.send(b"five!"), 0, 5)
        self.assertEqual(self.read(5), b"five!")

    def test_one_queue(self):
        """15.5 the posts of all sessions stand in one queue, in the order in which they were taken"""
        guest = self.open()
        theirs = guest.join(self.mine.share(guest.number))
        receives = [side.recv(4, verdict=True) for _ in range(4) for side in (self.mine, theirs)]
        self.other.sendall(b"".join(b"%04d" % number for number in range(8)))
        for number, receive in enumerate(receives):
            self.expect(receive, 0, 4)
            self.assertEqual(receive.data, b"%04d" % number)
        sends = [side.send(bytes([number]) * 40000, verdict=True) for number in range(4)
                 for side in (self.mine, theirs)]
        self.assertEqual(self.read(320000), b"".join(bytes([number]) * 80000 for number in range(4)))
        for sending in sends:
            self.expect(sending, 0, 40000)


if __name__ == "__main__":
    stage.main()
