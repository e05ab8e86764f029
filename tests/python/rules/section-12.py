#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 12 of docs/SEMANTICS.md: completion ports. TAP."""

import errno
import socket
import threading

import section
import stage

KEY = 0xfeedface12345678


class Ports(section.Case):
    """What comes to a port."""

    def setUp(self):
        super().setUp()
        self.port = self.session.port_open()
        self.addCleanup(self.port.close)

    def expect(self, operation, status, n_bytes, key=KEY):
        """The next packet is this one."""
        packet = self.port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.status, packet.bytes), (key, operation, status, n_bytes))

    def test_one_association(self):
        """12.1 one association, for life, and also for what was posted before"""
        receive = self.mine.recv(10, verdict=True)
        self.port.associate(self.mine, KEY)
        with self.session.port_open() as other:
            self.not_started(errno.EEXIST, other.associate, self.mine, 1)
            self.not_started(errno.EEXIST, self.port.associate, self.mine, 1)
        self.other.sendall(b"five!")
        self.expect(receive, 0, 5)

    def test_one_packet_for_each(self):
        """12.2 12.3 every operation that started gives one packet, done at once or not"""
        self.port.associate(self.mine, KEY)
        receive = self.mine.recv(10, verdict=True)
        self.nothing_at(self.port)
        self.other.sendall(b"five!")
        self.expect(receive, 0, 5)
        self.bring(b"six!!!")
        self.expect(self.mine.recv(10, verdict=True), 0, 6)
        receive = self.mine.recv(10, verdict=True)
        self.mine.cancel()
        self.expect(receive, -errno.ECANCELED, 0)
        self.mine.recv(10, quiet=True)
        self.mine.shutdown(socket.SHUT_RD)
        self.not_started(errno.ESHUTDOWN, self.mine.recv, 10, verdict=True)
        self.other.sendall(b"quiet")
        self.nothing_at(self.port)

    def test_waits_in_vain(self):
        """12.4 a wait in vain says why"""
        with self.assertRaises(TimeoutError):
            self.port.wait(0.001)
        waits = threading.Event()

        def waits_for_ever():
            waits.set()
            self.not_started(errno.ECANCELED, self.port.wait)

        task = self.thread(waits_for_ever)
        waits.wait(stage.PATIENCE_S)
        self.port.close()
        task.join()

    def test_takes_many(self):
        """12.8 one wait takes as many packets as there are and may be taken"""
        for number in range(11):
            self.port.post(number)
        self.assertEqual([packet.key for packet in self.port.wait(0, maximum=8)], list(range(8)))
        self.assertEqual([packet.key for packet in self.port.wait(0, maximum=8)], [8, 9, 10])

    def test_verbatim(self):
        """12.10 what is posted comes out as it went in"""
        value = object()
        self.port.post(KEY, 1 << 40, value)
        packet = self.port.wait(0)[0]
        self.assertEqual((packet.key, packet.operation, packet.bytes, packet.status), (KEY, None, 1 << 40, 0))
        self.assertIs(packet.value, value)

    def test_the_key_of_the_listener(self):
        """12.11 the packet of an accept has the key of the listener"""
        listener, address = self.listen(self.session)
        self.port.associate(listener, KEY)
        accept = listener.accept()
        with socket.create_connection(address):
            self.expect(accept, 0, 0)
            accept.result().close()

    def test_a_port_that_is_closed(self):
        """12.12 closing a port drops its packets, and its sockets go on"""
        self.port.associate(self.mine, KEY)
        self.port.post(1)
        receive = self.mine.recv(10)
        self.port.close()
        self.not_started(errno.ECANCELED, self.port.wait, 0)
        self.other.sendall(b"five!")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 5)

    def test_not_alertable(self):
        """12.13 the wait on a port is not alertable"""
        self.session.thread.queue_apc(self.order.append, 1)
        with self.assertRaises(TimeoutError):
            self.port.wait(section.NOTHING_S)
        self.assertEqual(self.order, [])
        self.assertTrue(self.session.thread.sleep(0))


    def test_the_last_waits_first(self):
        """12.6 packets come in order, and of those that wait who came last is served first"""
        port = self.session.port_open()
        self.addCleanup(port.close)
        waiting, tasks = threading.Semaphore(0), []

        def wait():
            waiting.release()
            return port.wait(stage.PATIENCE_S)[0].key

        for number in range(3):
            tasks.append(self.thread(wait))
            self.assertTrue(waiting.acquire(timeout=stage.PATIENCE_S))
            stage.eventually(self, lambda number=number: self.n_waiting() == number + 1)
        for key in range(3):
            port.post(key)
        self.assertEqual([task.join() for task in tasks], [2, 1, 0])

    def n_waiting(self):
        """How many threads wait for something of the session."""
        return len(self.session.lobby._waiters)  # pylint: disable=protected-access


if __name__ == "__main__":
    stage.main()
