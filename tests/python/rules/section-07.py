#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 7 of docs/SEMANTICS.md: receiving from streams. TAP."""

import errno
import socket

import section
import stage


class Receives(section.Case):
    """What receives get, and when they end."""

    def test_in_posting_order(self):
        """7.1 receives are filled in the order in which they were posted, several by one segment"""
        receives = [self.mine.recv(10) for _ in range(3)]
        receives[2].socket.poll(quiet=True)
        self.other.sendall(b"0123456789abcdefghijABC")
        self.assertEqual([receive.finish(stage.PATIENCE_S) for receive in receives], [10, 10, 3])
        self.assertEqual(b"".join(receive.data for receive in receives), b"0123456789abcdefghijABC")

    def test_any_byte_ends_it(self):
        """7.3 any byte ends a receive"""
        receive = self.mine.recv(10)
        self.other.sendall(b"1")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 1)

    def test_buffers_in_their_order(self):
        """7.4 buffers are filled in the order of the list, and what lies between them is not touched"""
        if self.level == 0:
            self.skipTest("at level 0 there are no regions, and so no lists of buffers")
        region = self.session.region(4096)
        region.view[:32] = b"." * 32
        receive = self.mine.recv([region.buffer(8, 3), region.buffer(0, 3), region.buffer(16, 3)], waitall=True)
        self.other.sendall(b"abcdefghi")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 9)
        self.assertEqual(bytes(region.view[:24]), b"def.....abc.....ghi.....")

    def test_the_end_of_the_stream(self):
        """7.5 the end of the stream ends all receives with 0 bytes, also later ones"""
        receives = [self.mine.recv(10) for _ in range(2)]
        self.other.shutdown(socket.SHUT_WR)
        self.assertEqual([receive.finish(stage.PATIENCE_S) for receive in receives], [0, 0])
        self.assertTrue((later := self.mine.recv(10, verdict=True)).done)
        self.assertEqual((later.status, later.bytes), (0, 0))

    def test_no_room_takes_nothing(self):
        """7.8 a receive of no bytes waits for data and takes nothing"""
        probe = self.mine.recv(0, verdict=True)
        self.assertFalse(probe.done)
        self.other.sendall(b"five!")
        self.assertEqual(probe.finish(stage.PATIENCE_S), 0)
        self.assertTrue(self.mine.recv(0, verdict=True).done)
        self.assertEqual((receive := self.mine.recv(10)).finish(stage.PATIENCE_S), 5)
        self.assertEqual(receive.data, b"five!")

    def test_a_look_takes_nothing(self):
        """7.9 a look stands in the queue, gives what is there and takes nothing"""
        looks = [self.mine.recv(10, peek=True) for _ in range(2)]
        self.other.sendall(b"five!")
        self.assertEqual([look.finish(stage.PATIENCE_S) for look in looks], [5, 5])
        self.assertEqual(self.mine.recv(10).finish(stage.PATIENCE_S), 5)

    def test_waits_for_all(self):
        """7.10 with waitall the buffers are full, or the stream has ended"""
        receive = self.mine.recv(10, waitall=True)
        self.other.sendall(b"0123")
        self.assertFalse(receive.wait(section.NOTHING_S))
        self.other.sendall(b"456789")
        self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (10, b"0123456789"))
        receive = self.mine.recv(10, waitall=True)
        self.other.sendall(b"0123")
        self.other.shutdown(socket.SHUT_WR)
        self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (4, b"0123"))
        self.not_started(errno.EOPNOTSUPP, self.mine.recv, 10, waitall=True, peek=True, verdict=True)

    def test_needs_a_connection(self):
        """7.14 a receive on a stream that is not connected, or listens, is refused"""
        self.not_started(errno.ENOTCONN, self.session.socket().recv, 10, verdict=True)
        self.not_started(errno.ENOTCONN, self.listen(self.session)[0].recv, 10, verdict=True)


if __name__ == "__main__":
    stage.main()
