#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 7 of docs/SEMANTICS.md: receiving from streams. TAP."""

import errno
import socket

import overlap
import section
import stage

ROUNDS = 500  # of a race


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


    def test_does_not_overtake(self):
        """7.2 a receive that does not wait does not overtake one that does"""
        self.expect(self.mine.recv(10, dontwait=True, verdict=True), -errno.EAGAIN)
        self.bring(b"five!")
        self.expect(self.mine.recv(10, dontwait=True, verdict=True), 0, 5)
        first = self.mine.recv(10, waitall=True, verdict=True)
        self.other.sendall(b"01234")
        self.expect(self.mine.recv(10, dontwait=True, verdict=True), -errno.EAGAIN)
        self.other.sendall(b"56789")
        self.assertEqual((first.finish(stage.PATIENCE_S), first.data), (10, b"0123456789"))

    def test_a_race_for_the_first_byte(self):
        """7.2 whether data or the receives come first, the first receive has the first byte"""
        def feed():
            for _ in range(ROUNDS):
                self.other.sendall(b"12")
                self.assertEqual(self.other.recv(1), b"x")

        feeding = self.thread(feed)
        for _ in range(ROUNDS):
            receives = [self.mine.recv(1), self.mine.recv(1)]
            self.assertEqual([receive.finish(stage.PATIENCE_S) for receive in receives], [1, 1])
            self.assertEqual([receive.data for receive in receives], [b"1", b"2"])
            self.mine.send(b"x")
        feeding.join()

    def test_a_reset(self):
        """7.6 a reset ends all receives, what follows is refused, and the error is told once"""
        receives = [self.mine.recv(10, verdict=True) for _ in range(3)]
        self.reset()
        for receive in receives:
            self.expect(receive, -errno.ECONNRESET)
        self.not_started(errno.ECONNRESET, self.mine.recv, 10, verdict=True)
        self.not_started(errno.ECONNRESET, self.mine.send, b"x", verdict=True)
        self.assertEqual(self.mine.get_option(overlap.Option.ERROR), 0)

    def test_data_before_a_reset(self):
        """7.7 data that came before a reset is received, or the reset is told: never a part and an orderly end"""
        self.bring(b"0123456789")
        self.reset()
        receive = self.mine.recv(10)
        self.assertTrue(receive.wait(stage.PATIENCE_S))
        if receive.status == 0:
            self.assertEqual(receive.data, b"0123456789")
            receive = self.mine.recv(10)
        self.expect(receive, -errno.ECONNRESET)

    def test_urgent_data(self):
        """7.12 urgent data is received apart from the stream, and neither waits for the other"""
        receive = self.mine.recv(10, verdict=True)
        urgent = [self.mine.recv(10, oob=True, verdict=True) for _ in range(2)]
        for operation, byte in zip(urgent, (b"!", b"?")):
            self.other.send(byte, socket.MSG_OOB)
            self.expect(operation, 0, 1)
            self.assertEqual(operation.data, byte)
        self.expect_nothing(receive)
        late = self.mine.recv(10, oob=True, verdict=True)
        self.other.send(b"...!", socket.MSG_OOB)
        self.other.sendall(b"five.")
        self.expect(late, 0, 1)
        self.expect(receive, 0, 3)
        self.expect(self.mine.recv(10), 0, 5)
        self.expect(self.mine.recv(1, oob=True, dontwait=True, verdict=True), -errno.EAGAIN)
        never = self.mine.recv(1, oob=True, verdict=True)
        self.other.shutdown(socket.SHUT_WR)
        self.expect(never, 0)

    def test_what_is_received_is_not_told(self):
        """7.15 16.2 a poll is not told of what a receive takes, and is told of what comes next"""
        first = self.mine.recv(10, verdict=True)
        polling = self.mine.poll(verdict=True)
        second = self.mine.recv(10, verdict=True)
        for receive in (first, second):
            self.other.sendall(b"0123456789")
            self.expect(receive, 0, 10)
            self.expect_nothing(polling)
        self.other.sendall(b"x")
        self.assertEqual(polling.finish(stage.PATIENCE_S), overlap.Poll.IN)


if __name__ == "__main__":
    stage.main()
