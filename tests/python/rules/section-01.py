#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 1 of docs/SEMANTICS.md: what a posting call returns. TAP."""

import errno
import socket

import section
import stage


class Posting(section.Case):
    """A post's own answer, and what follows it."""

    def test_done_is_indicated(self):
        """1.1 what is done when its call returns was indicated"""
        self.bring(b"five!")
        first = self.mine.recv(2, verdict=True, routine=self.ran, user="routine")
        self.assertTrue(first.done)
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["routine"])
        port = self.port_of(self.mine)
        second = self.mine.recv(10, verdict=True)
        self.assertTrue(second.done)
        self.assertIs(port.wait(0)[0].operation, second)

    def test_one_indication_for_each(self):
        """1.2 what is pending is indicated once, whatever ends it"""
        session = self.session
        data = self.mine.recv(10, routine=self.ran, user="data", verdict=True)
        self.other.sendall(b"five!")
        self.assertTrue(data.wait(stage.PATIENCE_S))
        cancelled = self.mine.recv(10, routine=self.ran, user="cancel", verdict=True)
        self.assertTrue(cancelled.cancel())
        closed = self.mine.recv(10, routine=self.ran, user="close", verdict=True)
        self.mine.close()
        self.assertTrue(closed.wait(stage.PATIENCE_S))
        self.assertTrue(session.thread.sleep(0))
        self.assertFalse(session.thread.sleep(section.NOTHING_S))
        self.assertEqual(self.order, ["data", "cancel", "close"])
        self.assertEqual([data.status, cancelled.status, closed.status], [0, -errno.ECANCELED, -errno.ECANCELED])

    def test_no_indication_of_what_did_not_start(self):
        """1.3 what did not start is not indicated"""
        self.mine.shutdown(socket.SHUT_RD)
        self.not_started(errno.ESHUTDOWN, self.mine.recv, 10, verdict=True, routine=self.ran)
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))
        port = self.port_of(self.mine)
        self.not_started(errno.ESHUTDOWN, self.mine.recv, 10, verdict=True)
        self.nothing_at(port)

    def test_pending_writes_nothing(self):
        """1.5 what is pending has no results, and a refused post gives none"""
        pending = self.mine.recv(10, verdict=True)
        self.assertEqual((pending.done, pending.bytes, pending.data), (False, 0, None))
        self.not_started(errno.EINPROGRESS, pending.result)
        self.other.sendall(b"five!")
        self.assertEqual((pending.finish(stage.PATIENCE_S), pending.data), (5, b"five!"))

    def test_the_sender_is_written_at_the_end(self):
        """1.7 the sender of a datagram is there when the receive has ended"""
        mine = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        mine.bind(("127.0.0.1", 0))
        pending = mine.recvfrom(10, verdict=True)
        self.assertIsNone(pending.address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.sendto(b"hi", mine.getsockname())
            self.assertEqual(pending.finish(stage.PATIENCE_S), 2)
            self.assertEqual(pending.address, other.getsockname())

    def test_no_buffer_is_no_receive(self):
        """1.9 a receive needs a buffer"""
        self.not_started(errno.EINVAL, self.mine.recv, [])

    def test_a_call_that_is_done_runs_nothing(self):
        """1.15 a call that is done at once runs no APC"""
        self.bring(b"five!")
        self.session.thread.queue_apc(self.order.append, "apc")
        self.assertTrue(self.mine.recv(10, verdict=True).done)
        self.assertEqual(self.order, [])
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["apc"])

    def test_the_mode_is_for_blocking_calls(self):
        """1.12 non-blocking mode is for blocking calls"""
        mine = self.mine.blocking()
        mine.setblocking(False)
        self.not_started(errno.EAGAIN, mine.recv, 10)
        pending = self.mine.recv(10, verdict=True)
        self.not_started(errno.EAGAIN, mine.recv, 10)
        self.assertFalse(pending.wait(section.NOTHING_S))
        self.other.sendall(b"five!")
        self.assertEqual(pending.finish(stage.PATIENCE_S), 5)
        self.bring(b"later")
        self.assertEqual(mine.recv(10), b"later")

    def test_blocking_calls_tell_no_port(self):
        """1.13 a blocking call returns what it got, and nothing goes to the port"""
        port = self.port_of(self.mine)
        self.other.sendall(b"five!")
        self.assertEqual(self.mine.blocking().recv(10), b"five!")
        self.assertEqual(self.mine.blocking().send(b"six"), 3)
        self.nothing_at(port)

    def test_timeouts_are_for_blocking_calls(self):
        """1.14 timeouts are for blocking calls, and what came before they are over is the result"""
        mine = self.mine.blocking(section.NOTHING_S)
        pending = self.mine.recv(10, verdict=True)
        self.not_started(errno.ETIMEDOUT, mine.recv, 10)
        self.assertFalse(pending.done)
        self.other.sendall(b"five!")
        self.assertEqual(pending.finish(stage.PATIENCE_S), 5)
        self.other.sendall(b"four")
        self.assertEqual(mine.recv(10, waitall=True), b"four")


    def test_data_is_there_already(self):
        """1.4 where data is there already a post without a verdict is pending all the same, and ends once"""
        self.bring(b"five!")
        receive = self.mine.recv(10, routine=self.ran, user="once")
        self.expect(receive, 0, 5)
        self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))
        self.assertEqual(self.order, ["once"])

    def test_the_list_is_captured(self):
        """1.8 the list of buffers is captured by the call, what it names is lent"""
        if self.level == 0:
            self.skipTest("at level 0 there are no regions, and so no lists of buffers")
        region = self.session.region(4096)
        buffers = [region.buffer(0, 2), region.buffer(8, 8)]
        receive = self.mine.recv(buffers, waitall=True, verdict=True)
        buffers[:] = [region.buffer(32, 10)]
        self.other.sendall(b"0123456789")
        self.expect(receive, 0, 10)
        self.assertEqual((bytes(region.view[:2]), bytes(region.view[8:16])), (b"01", b"23456789"))
        region.close()


if __name__ == "__main__":
    stage.main()
