#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 4 of docs/SEMANTICS.md: completion routines and APCs. TAP."""

import errno
import inspect
import socket
import threading

import section
import stage


class Routines(section.Case):
    """Where and when routines and APCs run."""

    def test_the_posting_thread_in_an_alertable_wait(self):
        """4.1 a routine runs in the posting thread, in an alertable wait"""
        pending = self.mine.recv(10, routine=self.ran, user="routine")
        thread_ready, go_on = threading.Event(), threading.Event()

        def waits_alertably():
            with self.session.thread_open() as thread:
                thread_ready.set()
                slept = thread.sleep(section.NOTHING_S)
                go_on.wait(stage.PATIENCE_S)
                return slept

        task = self.thread(waits_alertably)
        thread_ready.wait(stage.PATIENCE_S)
        self.other.sendall(b"five!")
        self.assertTrue(pending.wait(stage.PATIENCE_S))
        go_on.set()
        self.assertFalse(task.join())
        self.assertEqual(self.order, [])
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["routine"])

    def test_never_inside_the_call(self):
        """4.3 what is done at once has queued its routine, and not called it"""
        self.bring(b"five!")
        self.assertTrue(self.mine.recv(10, routine=self.ran, verdict=True).done)
        self.assertEqual(self.order, [])
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(len(self.order), 1)

    def test_what_did_not_start_queues_none(self):
        """4.4 what did not start queues no routine"""
        self.mine.shutdown(socket.SHUT_WR)
        self.not_started(errno.ESHUTDOWN, self.mine.send, b"x", routine=self.ran, verdict=True)
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))

    def test_one_queue_in_order(self):
        """4.5 routines and APCs run in the order in which they were queued"""
        second, other = self.connect(self.session)
        thread = self.session.thread
        self.bring(b"a")
        other.sendall(b"b")
        second.poll(quiet=True).finish(stage.PATIENCE_S)
        self.mine.recv(1, routine=self.ran, user=1, verdict=True)
        thread.queue_apc(self.order.append, 2)
        second.recv(1, routine=self.ran, user=3, verdict=True)
        thread.queue_apc(self.order.append, 4)
        self.bring(b"c")
        self.mine.recv(1, routine=self.ran, user=5, verdict=True)
        self.assertTrue(thread.sleep(0))
        self.assertEqual(self.order, [1, 2, 3, 4, 5])

    def test_one_wait_runs_all(self):
        """4.6 one alertable wait runs also what routines queue"""
        self.bring(b"two")

        def again(_operation):
            self.order.append("first")
            self.assertTrue(self.mine.recv(2, routine=self.ran, user="second", verdict=True).done)
            self.session.thread.queue_apc(self.order.append, "third")

        self.mine.recv(1, routine=again, verdict=True)
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["first", "second", "third"])

    def test_routines_of_a_socket_do_not_nest(self):
        """4.7 routines of one socket do not nest, others may"""
        second, other = self.connect(self.session)
        thread = self.session.thread
        other.sendall(b"x")
        second.poll(quiet=True).finish(stage.PATIENCE_S)
        self.bring(b"ab")

        def waits(_operation):
            self.order.append("in")
            self.mine.recv(1, routine=self.ran, user="same socket", verdict=True)
            second.recv(1, routine=self.ran, user="other socket", verdict=True)
            thread.queue_apc(self.order.append, "apc")
            self.assertTrue(thread.sleep(0))
            self.order.append("out")

        self.mine.recv(1, routine=waits, verdict=True)
        self.assertTrue(thread.sleep(0))
        self.assertEqual(self.order, ["in", "other socket", "apc", "out", "same socket"])

    def test_routine_and_port(self):
        """4.10 a routine on a socket with a port is refused"""
        port = self.port_of(self.mine)
        self.not_started(errno.EINVAL, self.mine.recv, 10, routine=self.ran, verdict=True)
        self.other.sendall(b"five!")
        self.nothing_at(port)
        self.assertFalse(self.session.thread.sleep(0))

    def test_routine_before_the_port(self):
        """4.11 a routine that was posted before the association runs, and there is no packet"""
        pending = self.mine.recv(10, routine=self.ran, user="routine", verdict=True)
        port = self.port_of(self.mine)
        self.other.sendall(b"five!")
        self.assertTrue(pending.wait(stage.PATIENCE_S))
        self.nothing_at(port)
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["routine"])

    def test_what_was_queued_ends_with_its_thread(self):
        """4.13 what is queued to a thread that is closed does not run, and its handle says so"""
        ran = threading.Event()
        number = self.session.register(lambda argument: ran.set())
        ready, closing = threading.Event(), threading.Event()
        handles = []

        def lives():
            with self.session.thread_open() as thread:
                handles.append(thread.handle())
                thread.queue_apc(ran.set)
                ready.set()
                closing.wait(stage.PATIENCE_S)

        task = self.thread(lives)
        ready.wait(stage.PATIENCE_S)
        closing.set()
        task.join()
        self.assertFalse(ran.is_set())
        stage.eventually(self, lambda: self._is_gone(handles[0], number))
        self.assertFalse(ran.is_set())

    def _is_gone(self, handle, number):
        try:
            handle.queue(number, 1)
        except ProcessLookupError:
            return True
        return False


    def test_what_a_routine_is_told(self):
        """4.2 4.12 a routine is given its operation with the result, which others can have looked at before"""
        given = []

        def routine(operation):
            given.append((operation.user, operation.status, operation.bytes, operation.data))

        first = self.mine.recv(10, routine=routine, user=1, verdict=True)
        second = self.mine.recv(10, routine=routine, user=2, verdict=True)
        self.assertTrue(second.cancel())
        self.assertFalse(first.wait(0))
        self.other.sendall(b"five!")
        self.assertTrue(first.wait(stage.PATIENCE_S))
        self.assertEqual((first.result(), first.data, given), (5, b"five!", []))
        while len(given) < 2:
            self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(given, [(2, -errno.ECANCELED, 0, b""), (1, 0, 5, b"five!")])

    def test_a_server_of_routines(self):
        """4.8 a routine may post, also where that is done at once, and the stack does not grow"""
        rounds, depths = 300, set()

        def echo(receive):
            depths.add(len(inspect.stack()))
            if receive.data:
                receive.socket.send(receive.data)
                receive.socket.recv(100, routine=echo, verdict=True)

        def feed():
            for number in range(rounds):
                self.other.sendall(b"%07d\n" % number)
            self.other.shutdown(socket.SHUT_WR)
            return self.read(8 * rounds)

        feeding = self.thread(feed)
        last = self.mine.recv(100, routine=echo)
        while feeding.is_alive():
            self.session.thread.sleep(section.NOTHING_S)
        self.assertEqual(feeding.join(), b"".join(b"%07d\n" % number for number in range(rounds)))
        self.assertTrue(last.done)
        self.assertEqual(len(depths), 1)

    def test_each_has_its_own(self):
        """4.9 each operation runs its own routine once, in the order in which they ended"""
        order = []
        receives = [self.mine.recv(1, routine=lambda operation, number=number: order.append(number), verdict=True)
                    for number in range(20)]
        self.assertTrue(receives[11].cancel())
        self.other.sendall(bytes(19))
        while len(order) < 20:
            self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(order, [11] + [number for number in range(20) if number != 11])
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))


if __name__ == "__main__":
    stage.main()
