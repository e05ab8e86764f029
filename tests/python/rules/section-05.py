#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 5 of docs/SEMANTICS.md: alertable waits. TAP."""

import time

import section
import stage


class Waits(section.Case):
    """What ends a wait, and what it runs."""

    def test_sleep(self):
        """5.2 a sleep tells whether something ran, and one of no time runs what is queued"""
        thread = self.session.thread
        start = time.monotonic()
        self.assertFalse(thread.sleep(section.NOTHING_S))
        self.assertGreaterEqual(time.monotonic() - start, section.NOTHING_S)
        thread.queue_apc(self.order.append, 1)
        self.assertTrue(thread.sleep(0))
        self.assertFalse(thread.sleep(0))
        self.assertEqual(self.order, [1])

    def test_an_apc_wins_at_the_entry(self):
        """5.3 an APC that is queued wins over an operation that has ended"""
        self.bring(b"five!")
        ended = self.mine.recv(10, verdict=True)
        self.assertTrue(ended.done)
        self.session.thread.queue_apc(self.order.append, 1)
        ended.wait(stage.PATIENCE_S, alertable=True)
        self.assertEqual(self.order, [1])

    def test_the_wait_goes_on_with_the_next_call(self):
        """5.5 after a routine ran the operation is still pending, and the caller waits again"""
        second, other = self.connect(self.session)
        waited = second.recv(10)
        self.bring(b"five!")
        self.mine.recv(10, routine=self.ran, user="routine", verdict=True)
        self.assertFalse(waited.wait(stage.PATIENCE_S, alertable=True))
        self.assertEqual(self.order, ["routine"])
        other.sendall(b"x")
        self.assertTrue(waited.wait(stage.PATIENCE_S, alertable=True))

    def test_a_wait_that_is_not_alertable(self):
        """5.7 a wait that is not alertable runs nothing"""
        pending = self.mine.recv(10)
        self.session.thread.queue_apc(self.order.append, 1)
        self.assertFalse(pending.wait(section.NOTHING_S))
        self.assertEqual(self.order, [])
        self.assertTrue(self.session.thread.sleep(0))

    def test_blocking_calls_are_alertable(self):
        """5.8 a blocking call runs APCs, and goes on"""
        mine = self.mine.blocking(stage.PATIENCE_S)
        self.session.thread.queue_apc(lambda argument: self.other.sendall(b"five!"), 1)
        self.assertEqual(mine.recv(10), b"five!")
        mine.settimeout(section.NOTHING_S)
        self.session.thread.queue_apc(self.order.append, 1)
        start = time.monotonic()
        with self.assertRaises(TimeoutError):
            mine.recv(10)
        self.assertGreaterEqual(time.monotonic() - start, section.NOTHING_S)
        self.assertEqual(self.order, [1])

    def test_a_look_runs_nothing(self):
        """5.10 who only looks for a result runs nothing"""
        pending = self.mine.recv(10)
        self.session.thread.queue_apc(self.order.append, 1)
        self.assertFalse(pending.wait(0, alertable=True))
        self.assertEqual(self.order, [])
        self.assertFalse(pending.wait(section.NOTHING_S, alertable=True))
        self.assertEqual(self.order, [1])


    def test_calls_within_apcs(self):
        """5.9 a blocking call in an APC that runs within another is one more operation, and a wait within a wait"""
        mine = self.mine.blocking(stage.PATIENCE_S)

        def inner():
            self.other.sendall(b"123")
            self.order.append(("inner", mine.recv(1)))

        def outer():
            self.session.thread.queue_apc(inner)
            self.order.append(("outer", mine.recv(1)))

        self.session.thread.queue_apc(outer)
        self.order.append(("all", mine.recv(1)))
        self.assertEqual(self.order, [("inner", b"3"), ("outer", b"2"), ("all", b"1")])


if __name__ == "__main__":
    stage.main()
