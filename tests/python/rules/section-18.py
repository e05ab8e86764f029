#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 18 of docs/SEMANTICS.md: thread handles. TAP."""

import errno
import os
import socket

import overlap
import section
import stage


class Handles(section.Case):
    """Who may queue to a thread, and what becomes of it."""

    def setUp(self):
        super().setUp()
        self.called = []
        self.number = self.session.register(self.called.append)

    def test_queueing(self):
        """18.1 18.2 queueing only queues, the argument comes as it was given, and no handle is refused"""
        raw = bytearray(self.session.thread.handle().raw)
        handle = overlap.ThreadHandle(self.session, raw)
        raw[:] = bytes(len(raw))
        for value in (0, 1, 2 ** 64 - 1):
            handle.queue(self.number, value)
        self.assertEqual(self.called, [])
        while len(self.called) < 3:
            self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(self.called, [0, 1, 2 ** 64 - 1])
        self.not_started(errno.EBADF, overlap.ThreadHandle(self.session, raw).queue, self.number, 1)

    def test_any_process(self):
        """18.3 a process that was given the handle may queue, and the thread that opened it runs the function"""
        handle = self.session.thread.handle()
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                with overlap.Session(self.daemon.path, level=self.level) as session:
                    theirs.sendall(session.number.to_bytes(8, "little"))
                    overlap.ThreadHandle(session, theirs.recv(100)).queue(self.number, os.getpid())
                os._exit(0)
            finally:
                os._exit(1)
        theirs.close()
        handle.give(int.from_bytes(ours.recv(8), "little"))
        ours.sendall(handle.raw)
        self.assertEqual(os.waitpid(child, 0), (child, 0))
        ours.close()
        self.assertEqual(self.called, [])
        self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(self.called, [child])

    def test_workers(self):
        """18.4 a thread opens and closes handles of itself, and what has ended or was closed is refused"""
        def work():
            with self.session.thread_open() as thread:
                closed, left = thread.handle(), thread.handle()
                left.queue(self.number, 1)
                closed.close()
                self.not_started(errno.EBADF, closed.queue, self.number, 2)
                self.assertTrue(thread.sleep(stage.PATIENCE_S))
                return left

        left = self.thread(work).join()
        self.assertEqual(self.called, [1])
        stage.eventually(self, lambda: self.is_over(left))
        self.assertEqual(self.called, [1])

    def is_over(self, handle):
        """Whether the daemon knows that the thread of the handle has ended."""
        try:
            handle.queue(self.number, 3)
        except overlap.OverlapError as error:
            self.assertEqual(error.errno, errno.ESRCH)
            return True
        return False

    def test_ends_are_whole(self):
        """18.7 4.13 what a thread has posted has ended when its close returns, and no routine or APC of it runs"""
        thread = self.session.thread_open()
        receives = [self.mine.recv(10, thread=thread, routine=self.ran if number % 2 else None, user=number)
                    for number in range(10)]
        thread.queue_apc(self.order.append, "an APC")
        thread.close()
        self.assertEqual([receive.status for receive in receives], [-errno.ECANCELED] * 10)
        self.other.sendall(b"five!")
        receive = self.mine.recv(10, thread=self.session.thread)
        self.expect(receive, 0, 5)
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))
        self.assertEqual(self.order, [])


if __name__ == "__main__":
    stage.main()
