#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The synchronous library against the daemon: how bytes flow, what goes wrong, and how things end. TAP."""

import errno
import hashlib
import os
import random
import socket
import struct
import tempfile
import threading
import time

import overlap
import stage
from overlap import wire
from overlap.error import Reason


class Streams(stage.Case):
    """Bytes, their order, and the ends of streams."""

    def test_connect_accept_and_names(self):
        session = self.open(name="stories")
        for family in (socket.AF_INET, socket.AF_INET6):
            listener, address = self.listen(session, family)
            accepting = listener.accept()
            self.assertFalse(accepting.done)
            mine = session.socket(family, socket.SOCK_STREAM)
            self.assertEqual(mine.connect(address).finish(stage.PATIENCE_S), 0)
            other = accepting.finish(stage.PATIENCE_S)
            self.assertEqual(mine.getsockname(), other.getpeername())
            self.assertEqual(mine.getpeername(), other.getsockname())
            receiving = other.recv(100)
            mine.send(b"over loopback").finish(stage.PATIENCE_S)
            self.assertEqual((receiving.finish(stage.PATIENCE_S), receiving.data), (13, b"over loopback"))
            mine.close()
            self.assertEqual(other.recv(100).finish(stage.PATIENCE_S), 0)

    def test_both_ways_with_checksums(self):
        mine, other = self.connect(self.open())
        payload = random.Random(1).randbytes(6 << 20)

        def peer():
            echoing = hashlib.sha256()
            n_left = len(payload)
            while n_left:
                piece = other.recv(65536)
                echoing.update(piece)
                other.sendall(piece)
                n_left -= len(piece)
            other.shutdown(socket.SHUT_WR)
            return echoing.digest()

        task = self.thread(peer)
        view, at, sends = memoryview(payload), 0, []
        back = hashlib.sha256()
        dice = random.Random(2)
        receives = [mine.recv(dice.randrange(1, 70000)) for _ in range(6)]
        while receives:
            while at < len(view) and len(sends) < 4:
                size = dice.randrange(1, 300000)
                sends.append(mine.send(view[at:at + size]))
                at += size
            n_bytes = receives.pop(0)
            if n_bytes.finish(stage.PATIENCE_S):
                back.update(n_bytes.data)
                receives.append(mine.recv(dice.randrange(1, 70000)))
            sends = [send for send in sends if not send.done or send.result() < 0]
        expected = hashlib.sha256(payload).digest()
        self.assertEqual(task.join(), expected)
        self.assertEqual(back.digest(), expected)

    def test_receives_fill_in_the_order_of_their_posts(self):
        session = self.open()
        mine, other = self.connect(session)
        with session.thread.cork():
            receives = [mine.recv(7, waitall=True) for _ in range(40)]
        other.sendall(b"".join(b"%07d" % index for index in range(40)))
        for index, receive in enumerate(receives):
            self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (7, b"%07d" % index))

    def test_memory_of_the_programs_own(self):
        mine, other = self.connect(self.open())
        place = bytearray(10)
        receiving = mine.recv(memoryview(place)[2:7], waitall=True)
        other.sendall(b"hello")
        self.assertEqual(receiving.finish(stage.PATIENCE_S), 5)
        self.assertEqual(bytes(place), b"\0\0hello\0\0\0")
        self.assertIsNone(receiving.data)

    def test_peek_and_half_close(self):
        mine, other = self.connect(self.open())
        other.sendall(b"abc")
        peeking = mine.recv(10, peek=True)
        self.assertEqual((peeking.finish(stage.PATIENCE_S), peeking.data), (3, b"abc"))
        taking = mine.recv(10)
        self.assertEqual((taking.finish(stage.PATIENCE_S), taking.data), (3, b"abc"))
        mine.send(b"last words")
        mine.shutdown(socket.SHUT_WR)
        self.assertEqual(other.recv(100), b"last words")
        self.assertEqual(other.recv(100), b"")
        self.refused(Reason.SEND_SHUT, mine.send, b"more", verdict=True)
        other.sendall(b"answer")
        self.assertEqual(mine.recv(100).finish(stage.PATIENCE_S), 6)

    def test_files(self):
        session = self.open()
        mine, other = self.connect(session)
        payload = random.Random(5).randbytes(3000000)
        with tempfile.NamedTemporaryFile(buffering=0) as made:
            made.write(payload)
            with open(made.name, "rb") as file:
                self._file(session, mine, other, file, payload)
                reading = self.thread(self._read, other, 500 + len(payload) - 2000)
                self.assertEqual(mine.sendfile(file, 1000, 500), 500)
                self.assertEqual(file.tell(), 1500)
                self.assertEqual(mine.sendfile(file, 2000), len(payload) - 2000)
                self.assertEqual(reading.join(), payload[1000:1500] + payload[2000:])
            with open(made.name, "r+b") as file:  # it could be written: it is read here
                reading = self.thread(self._read, other, len(payload))
                self.assertEqual(mine.sendfile(file), len(payload))
                self.assertEqual(reading.join(), payload)

    def _file(self, session, mine, other, file, payload):
        if session.level == 0:
            self.refused(Reason.LEVEL, session.file, file)
            self.refused(Reason.LEVEL, mine.transmit, None, head=b"x")
            return
        with session.file(file) as lent:
            reading = self.thread(self._read, other, len(payload) + 8)
            sending = mine.transmit(lent, head=b"head", tail=b"tail")
            self.assertEqual(sending.finish(stage.PATIENCE_S), len(payload) + 8)
            self.assertEqual(reading.join(), b"head" + payload + b"tail")
            region = session.region(4096)
            region.view[:5] = b"memor"
            parts = [[b"a", region.buffer(0, 5), overlap.Range(7, 3)], [], [b"yy", overlap.Range(len(payload) - 2)]]
            self.assertEqual(mine.transmit_packets(parts, lent).finish(stage.PATIENCE_S), 13)
            self.assertEqual(self._read(other, 13), b"amemor" + payload[7:10] + b"yy" + payload[-2:])
            region.close()
            self.refused(Reason.FILE_TOO_SHORT, mine.transmit(lent, len(payload), 1).finish, stage.PATIENCE_S)
            self.refused(Reason.BAD_ELEMENT, mine.transmit, lent, -1)
            self.refused(Reason.BUFFER_TOO_LONG, mine.transmit, lent, 0, 2147483646, head=b"x")
        self.refused(Reason.UNKNOWN_FILE, mine.transmit, lent)
        folder = os.open("/", os.O_RDONLY)
        self.refused(Reason.BAD_FILE, session.file, folder)
        os.close(folder)

    @staticmethod
    def _read(other, size):
        data = bytearray()
        while len(data) < size and (piece := other.recv(size - len(data))):
            data += piece
        return bytes(data)

    def test_a_long_send_is_one_operation(self):
        mine, other = self.connect(self.open())
        payload = random.Random(3).randbytes(1 << 20)
        sending = mine.send(payload)
        got = bytearray()
        while len(got) < len(payload):
            got += other.recv(1 << 20)
        self.assertEqual(sending.finish(stage.PATIENCE_S), len(payload))
        self.assertEqual(bytes(got), payload)
        with self.assertRaises(overlap.OverlapError) as caught:
            mine.send(bytes((1 << 20) + 1))
        self.assertEqual(caught.exception.errno, errno.EMSGSIZE)
        empty = mine.send(b"")
        self.assertEqual(empty.finish(stage.PATIENCE_S), 0)

    def test_a_receive_of_nothing_waits_and_takes_nothing(self):
        mine, other = self.connect(self.open())
        probe = mine.recv(0)
        self.assertFalse(probe.wait(0))
        other.sendall(b"x")
        self.assertEqual(probe.finish(stage.PATIENCE_S), 0)
        self.assertEqual(mine.recv(10).finish(stage.PATIENCE_S), 1)

    def test_options(self):
        mine, _ = self.connect(self.open())
        mine.set_option(overlap.Option.NO_DELAY, 1)
        self.assertEqual(mine.get_option(overlap.Option.NO_DELAY), 1)
        self.assertEqual(mine.get_option(overlap.Option.ERROR), 0)
        self.refused(Reason.UNKNOWN_OPTION, mine.set_option, 999, 1)


class Endings(stage.Case):
    """Cancels, closes, resets, and what is not allowed."""

    def test_a_cancel_loses_no_byte(self):
        mine, other = self.connect(self.open())
        payload = random.Random(4).randbytes(400000)
        dice = random.Random(5)

        def peer():
            at = 0
            while at < len(payload):
                size = dice.randrange(1, 3000)
                other.sendall(payload[at:at + size])
                at += size
            other.shutdown(socket.SHUT_WR)

        task = self.thread(peer)
        got, n_cancelled, ended = bytearray(), 0, False
        while not ended:
            receives = [mine.recv(1000) for _ in range(4)]
            for receive in receives:
                n_cancelled += receive.cancel()
            for receive in receives:
                self.assertTrue(receive.done)
                got += receive.data
                ended = ended or (receive.status == 0 and receive.bytes == 0)
        task.join()
        self.assertEqual(bytes(got), payload)
        receive = mine.recv(10)
        self.assertEqual(receive.finish(stage.PATIENCE_S), 0)
        self.assertFalse(receive.cancel())  # it had ended by itself

    def test_a_pending_receive_is_cancelled(self):
        session = self.open()
        mine, _ = self.connect(session)
        receives = [mine.recv(10) for _ in range(3)]
        self.assertTrue(receives[1].cancel())
        self.assertEqual((receives[1].status, receives[1].reason), (-errno.ECANCELED, Reason.CANCELLED))
        self.assertFalse(receives[0].done or receives[2].done)
        self.assertEqual(mine.cancel(), 2)
        self.assertTrue(receives[0].done and receives[2].done)
        self.refused(Reason.NOT_FOUND, mine.cancel)
        self.assertEqual(session.n_pending(), 0)

    def test_close_ends_what_is_pending(self):
        session = self.open()
        mine, other = self.connect(session)
        receives = [mine.recv(10) for _ in range(3)]
        mine.close()
        self.assertEqual([(each.status, each.reason) for each in receives], [(-errno.ECANCELED, Reason.CLOSED)] * 3)
        self.assertEqual(other.recv(1), b"")
        late = mine.recv(10)
        with self.assertRaises(overlap.OverlapError) as caught:
            late.finish(stage.PATIENCE_S)
        self.assertEqual(caught.exception.reason, Reason.UNKNOWN_SOCKET)
        mine.close()

    def test_a_reset_is_an_error(self):
        mine, other = self.connect(self.open())
        receives = [mine.recv(10) for _ in range(2)]
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        for receive in receives:
            with self.assertRaises(ConnectionResetError):
                receive.finish(stage.PATIENCE_S)

    def test_nobody_listens(self):
        session = self.open()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError):
                session.socket().connect(unused.getsockname()).finish(stage.PATIENCE_S)

    def test_credits(self):
        session = self.open(credits=4)
        self.assertEqual(session.credits, 4)
        mine, other = self.connect(session)
        receives = [mine.recv(1, waitall=True) for _ in range(4)]
        self.refused(Reason.CREDITS, mine.recv, 1)
        other.sendall(b"x")
        receives[0].finish(stage.PATIENCE_S)
        receives.append(mine.recv(1))
        other.sendall(b"yyyy")
        for receive in receives:
            self.assertEqual(receive.finish(stage.PATIENCE_S), 1)

    def test_wrong_usage(self):
        session = self.open()
        fresh = session.socket()
        self.refused(Reason.OUT_OF_ORDER, fresh.listen)
        self.refused(Reason.NOT_CONNECTED, fresh.recv, 10, verdict=True)
        self.refused(Reason.NOT_CONNECTED, fresh.send, b"x", verdict=True)
        self.refused(Reason.NOT_CONNECTED, fresh.getpeername)
        self.refused(Reason.NOT_LISTENING, fresh.accept, verdict=True)
        self.refused(Reason.BAD_ADDRESS, fresh.connect, ("::1", 1, 0, 0))
        self.refused(Reason.BAD_ADDRESS, fresh.bind, ("localhost", 0))
        self.refused(Reason.BAD_NAME, session.resolve, "")
        listener, address = self.listen(session)
        self.refused(Reason.LISTENING, listener.recv, 10, verdict=True)
        taken = session.socket()
        with self.assertRaises(OSError) as caught:
            taken.bind(address)
        self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
        ghost = fresh.sibling(1 << 40)
        self.refused(Reason.UNKNOWN_SOCKET, ghost.listen)
        with self.assertRaises(ValueError):
            overlap.Session(self.daemon.path, level=2)
        pending = listener.accept()
        with self.assertRaises(BlockingIOError):
            pending.result()
        with self.assertRaises(TimeoutError):
            pending.finish(0)

    def test_no_daemon(self):
        with self.assertRaises(FileNotFoundError):
            overlap.Session(self.daemon.folder + "/nothing")
        with self.assertRaises(OSError) as caught:
            overlap.Session("/" + "x" * 200)
        self.assertEqual(caught.exception.errno, errno.ENAMETOOLONG)

    def test_use_after_the_session(self):
        session = self.open()
        mine, _ = self.connect(session)
        receive = mine.recv(10)
        task = self.thread(receive.wait)
        session.close()
        task.join()
        self.assertEqual((receive.status, receive.reason), (-errno.ECANCELED, Reason.SESSION_ENDED))
        self.refused(Reason.SESSION_ENDED, session.socket)
        mine.close()
        session.close()


class Losses(stage.Case):
    """The daemon dies in the middle."""

    def lose(self, kill):
        session = self.open()
        port = session.port_open()
        mine, _ = self.connect(session)
        ported, _ = self.connect(session)
        port.associate(ported, 5)
        ran = []
        pending = [mine.recv(10) for _ in range(5)] + [mine.recv(10, routine=ran.append), ported.recv(10)]
        waiting = [self.thread(pending[0].wait), self.thread(pending[4].wait), self.thread(self.wait_twice, port)]
        session.status()
        kill()
        for task in waiting:
            task.join()
        for operation in pending:
            self.assertTrue(operation.wait(stage.PATIENCE_S))
            self.assertEqual((operation.status, operation.reason), (-errno.ECONNABORTED, Reason.DAEMON_GONE))
        self.assertTrue(session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(ran, [pending[5]])
        for function in (session.status, lambda: mine.recv(1), lambda: session.thread.sleep(1), session.thread_open,
                         session.port_open):
            with self.assertRaises(ConnectionAbortedError):
                function()
        mine.close()

    def wait_twice(self, port):
        packets = port.wait(stage.PATIENCE_S)
        self.assertEqual((packets[0].key, packets[0].status), (5, -errno.ECONNABORTED))
        with self.assertRaises(ConnectionAbortedError):
            port.wait(stage.PATIENCE_S)

    def test_the_daemon_is_killed(self):
        self.lose(self.daemon.kill)

    def test_the_daemon_ends_in_order(self):
        def end():
            self.daemon.process.terminate()
            self.daemon.process.wait(stage.PATIENCE_S)

        self.lose(end)

    def test_traffic_is_cut_off(self):
        session = self.open()
        mine, other = self.connect(session)
        stop = threading.Event()

        def peer():
            try:
                while not stop.is_set():
                    other.sendall(bytes(65536))
            except OSError:
                pass

        task = self.thread(peer)
        with self.assertRaises(ConnectionAbortedError):
            n_bytes = 0
            while True:
                receives = [mine.recv(65536) for _ in range(8)]
                n_bytes += sum(receive.finish(stage.PATIENCE_S) for receive in receives)
                if n_bytes > 5 << 20 and self.daemon.process.returncode is None:
                    self.daemon.kill()
        stop.set()
        other.close()
        task.join()
        self.assertEqual(session.n_pending(), 0)


class Indications(stage.Case):
    """Routines, ports, verdicts, threads."""

    def test_routines_run_in_alertable_waits_of_their_thread(self):
        session = self.open()
        mine, other = self.connect(session)
        ran = []
        receive = mine.recv(10, routine=lambda operation: ran.append((threading.get_ident(), operation.data)))
        other.sendall(b"one")
        self.assertTrue(receive.wait(stage.PATIENCE_S))
        session.status()
        self.assertEqual(ran, [])
        task = self.thread(session.thread.run)
        with self.assertRaises(RuntimeError):
            task.join()
        self.assertTrue(session.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(ran, [(threading.get_ident(), b"one")])
        self.assertFalse(session.thread.sleep(0))

    def test_routines_of_one_socket_are_not_nested(self):
        session = self.open()
        (first, one), (second, two) = self.connect(session), self.connect(session)
        depth, log = [], []

        def routine(operation):
            self.assertNotIn(operation.socket, depth)
            depth.append(operation.socket)
            log.append((operation.socket is first, len(depth)))
            while len(log) < 4 and session.thread.sleep(0.2 if len(depth) == 1 else 0):
                pass
            depth.pop()

        operations = [each.recv(1, waitall=True, routine=routine) for each in (first, first, second, second)]
        one.sendall(b"ab")
        two.sendall(b"cd")
        for operation in operations:
            operation.wait(stage.PATIENCE_S)
        while session.thread.sleep(0):
            pass
        self.assertEqual(len(log), 4)
        self.assertEqual(max(level for _, level in log), 2)

    def test_an_alertable_wait_runs_routines(self):
        session = self.open()
        mine, other = self.connect(session)
        ran = []
        mine.recv(1, waitall=True, routine=ran.append)
        second = mine.recv(1)
        other.sendall(b"ab")
        while not second.wait(stage.PATIENCE_S, alertable=True):
            pass
        self.assertEqual(len(ran), 1)
        session.thread.queue_apc(ran.append, "apc")
        self.assertTrue(session.thread.sleep(0))
        self.assertEqual(ran[1], "apc")

    def test_verdicts(self):
        session = self.open()
        mine, other = self.connect(session)
        pending = mine.recv(10, verdict=True)
        self.assertFalse(pending.done)
        other.sendall(b"x")
        self.assertEqual(pending.finish(stage.PATIENCE_S), 1)
        self.assertTrue(mine.send(b"y", verdict=True).done)
        port = session.port_open()
        port.associate(mine, 1)
        error = self.refused(Reason.ROUTINE_ON_PORT, mine.recv, 1, routine=print, verdict=True)
        self.assertEqual(error.errno, errno.EINVAL)
        with self.assertRaises(TimeoutError):
            port.wait(0)
        self.refused(Reason.HAS_PORT, port.associate, mine, 2)

    def test_a_port_with_several_waiters(self):
        session = self.open()
        port = session.port_open()
        connections = [self.connect(session) for _ in range(4)]
        for key, (mine, _) in enumerate(connections):
            port.associate(mine, key)
        got, lock = [], threading.Lock()

        def work():
            with session.thread_open():
                while True:
                    for packet in port.wait(stage.PATIENCE_S, maximum=3):
                        if packet.operation is None:
                            return
                        with lock:
                            got.append((packet.key, packet.operation.data))
                        packet.operation.socket.recv(1, waitall=True)

        tasks = [self.thread(work) for _ in range(4)]
        for mine, _ in connections:
            mine.recv(1, waitall=True)
        for index in range(50):
            for _, other in connections:
                other.sendall(bytes([index]))
        deadline = time.monotonic() + stage.PATIENCE_S
        while len(got) < 200 and time.monotonic() < deadline:
            session.status()
        for _ in tasks:
            port.post(99)
        for task in tasks:
            task.join()
        self.assertEqual(sorted(got), sorted((key, bytes([index])) for key in range(4) for index in range(50)))

    def test_what_goes_to_a_port_outlives_its_thread(self):
        session = self.open()
        port = session.port_open()
        mine, other = self.connect(session)
        port.associate(mine, 1)

        def work():
            with session.thread_open():
                return mine.recv(5, waitall=True), mine.recv(5, quiet=True)

        plain, quiet = self.thread(work).join()
        self.assertEqual((quiet.done, quiet.status, plain.done), (True, -errno.ECANCELED, False))
        other.sendall(b"after")
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertIs(packet.operation, plain)
        self.assertEqual((plain.status, plain.data), (0, b"after"))

    def test_a_port_is_closed_under_its_waiters(self):
        session = self.open()
        port = session.port_open()
        port.post(7, 3, "mine")
        self.assertEqual(port.wait(0), [overlap.Packet(7, None, 3, 0, "mine")])
        tasks = [self.thread(port.wait) for _ in range(3)]
        session.status()
        port.close()
        for task in tasks:
            with self.assertRaises(overlap.OverlapError) as caught:
                task.join()
            self.assertEqual(caught.exception.errno, errno.ECANCELED)

    def test_threads_have_channels_of_their_own(self):
        session = self.open()
        pairs = [self.connect(session) for _ in range(3)]

        def work(mine, other, index):
            with session.thread_open() as thread:
                self.assertIs(session.current(), thread)
                for turn in range(100):
                    receive = mine.recv(4)
                    other.sendall(struct.pack("<HH", index, turn))
                    receive.finish(stage.PATIENCE_S)
                    self.assertEqual(receive.data, struct.pack("<HH", index, turn))
                return mine.recv(1)

        tasks = [self.thread(work, *pair, index) for index, pair in enumerate(pairs)]
        for task in tasks:
            last = task.join()
            self.assertTrue(last.done)  # the thread's end cancelled it
            self.assertEqual(last.status, -errno.ECANCELED)
        with self.assertRaises(RuntimeError):
            self.thread(session.current).join()

    def test_one_waits_for_anothers_operation(self):
        session = self.open()
        mine, other = self.connect(session)
        receive = mine.recv(10)
        tasks = [self.thread(receive.finish, stage.PATIENCE_S) for _ in range(5)]
        other.sendall(b"for all")
        self.assertEqual([task.join() for task in tasks], [7] * 5)
        second = mine.recv(10)
        self.assertTrue(self.thread(second.cancel).join())

    def test_a_cork_gathers(self):
        session = self.open()
        mine, other = self.connect(session)
        count = 3000 if session.level else session.inline_bytes // wire.INLINE_PIECE
        before = session.status().get("entries", 0)
        with session.thread.cork():
            receives = [mine.recv(1, waitall=True) for _ in range(count)]
        other.sendall(bytes(count))
        for receive in receives:
            self.assertEqual(receive.finish(stage.PATIENCE_S), 1)
        self.assertEqual(session.status()["entries"] - before, count)


class Memory(stage.Case):
    """Regions, and what must not grow."""

    def test_regions_and_vectors(self):
        session = self.open()
        if session.level == 0:
            self.refused(Reason.LEVEL, session.region, 4096)
            return
        mine, other = self.connect(session)
        with session.region(10000) as region:
            self.assertEqual((region.size, len(region.view)), (12288, 12288))
            parts = [region.buffer(0, 3), region.buffer(12285, 3), region.buffer(100, 4)]
            receive = mine.recv(parts, waitall=True)
            other.sendall(b"0123456789")
            self.assertEqual(receive.finish(stage.PATIENCE_S), 10)
            self.assertEqual([bytes(part.view) for part in parts], [b"012", b"345", b"6789"])
            mine.send([parts[2], parts[0][1:]]).finish(stage.PATIENCE_S)
            self.assertEqual(other.recv(100), b"678912")
            self.refused(Reason.OUTSIDE_REGION, region.buffer, 12280, 9)
            self.refused(Reason.TOO_MANY_BUFFERS, mine.send, [parts[0]] * 65)
        self.refused(Reason.UNKNOWN_REGION, mine.recv, parts[0])

    def test_the_quota_of_regions(self):
        session = self.open()
        if session.level == 0:
            self.skipTest("level 0 has no regions")
        regions = [session.region(4096) for _ in range(session.regions_max)]
        self.refused(Reason.QUOTA, session.region, 4096)
        regions.pop().close()
        session.region(4096).close()

    def test_nothing_grows(self):
        session = self.open()
        mine, other = self.connect(session)
        for turn in range(2000):
            receive = mine.recv(100)
            other.sendall(b"x" * 50)
            receive.finish(stage.PATIENCE_S)
            mine.send(b"y" * 50).finish(stage.PATIENCE_S)
            other.recv(100)
            if turn == 100:
                n_regions = len(session.regions)
        self.assertEqual((session.n_pending(), session.inline_used), (0, 0))
        self.assertEqual((session.arena.bytes_lent, len(session.regions)), (0, n_regions))

    def test_the_quota_of_inline_payload(self):
        session = self.open()
        if session.level > 0:
            self.skipTest("level 1 does not need inline payload")
        mine, other = self.connect(session)
        receives = []
        with self.assertRaises(overlap.OverlapError) as caught:
            while True:
                receives.append(mine.recv(65535))
        self.assertIn(caught.exception.reason, (Reason.QUOTA, Reason.CREDITS))
        self.assertGreater(len(receives), 3)
        mine.cancel()
        receive = mine.recv(65535)
        other.sendall(b"fits again")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 10)


class Wider(stage.Case):
    """What not every daemon serves: each case is skipped where the daemon says so."""

    def datagram(self, session):
        sock = self.served(session.socket, socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def test_datagrams(self):
        session = self.open()
        one, two = self.datagram(session), self.datagram(session)
        receives = [two.recvfrom(100) for _ in range(3)]
        for data in (b"first", b"", b"third" * 30):
            one.sendto(data, two.getsockname()).finish(stage.PATIENCE_S)
        self.assertEqual((receives[0].finish(stage.PATIENCE_S), receives[0].data), (5, b"first"))
        self.assertEqual(receives[0].address, one.getsockname())
        self.assertEqual(receives[1].finish(stage.PATIENCE_S), 0)
        with self.assertRaises(overlap.OverlapError) as caught:
            receives[2].finish(stage.PATIENCE_S)
        self.assertEqual(caught.exception.errno, errno.EMSGSIZE)
        self.assertTrue(receives[2].flags & overlap.RecordFlags.TRUNCATED)
        self.assertEqual(receives[2].data, (b"third" * 30)[:100])
        one.connect(two.getsockname()).finish(stage.PATIENCE_S)
        receive = two.recv(100)
        one.send(b"to the peer").finish(stage.PATIENCE_S)
        self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (11, b"to the peer"))

    def test_unix_sockets(self):
        session = self.open()
        listener = self.served(session.socket, socket.AF_UNIX, socket.SOCK_STREAM)
        path = f"{self.daemon.folder}/u"
        listener.bind(path)
        listener.listen()
        accepting = listener.accept()
        mine = session.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mine.connect(path).finish(stage.PATIENCE_S)
        other = accepting.finish(stage.PATIENCE_S)
        self.assertEqual(mine.getpeername(), path)
        receive = other.recv(10)
        mine.send(b"unix").finish(stage.PATIENCE_S)
        self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (4, b"unix"))

    def test_poll(self):
        mine, other = self.connect(self.open())
        polls = [self.served(mine.poll, overlap.Poll.IN, verdict=True) for _ in range(2)]
        self.assertFalse(polls[0].done)
        other.sendall(b"x")
        for poll in polls:
            self.assertTrue(poll.finish(stage.PATIENCE_S) & overlap.Poll.IN)
        self.assertTrue(mine.poll(overlap.Poll.OUT).finish(stage.PATIENCE_S) & overlap.Poll.OUT)
        self.assertEqual(mine.recv(10).finish(stage.PATIENCE_S), 1)

    def test_resolve(self):
        session = self.open()
        found = self.served(session.resolve, "127.0.0.1", 80)
        self.assertEqual(found, [(socket.AF_INET, ("127.0.0.1", 80))])
        self.assertEqual(session.resolve("::1", 443, family=socket.AF_INET6), [(socket.AF_INET6, ("::1", 443, 0, 0))])
        found = session.resolve("localhost", 7, family=socket.AF_INET, kind=socket.SOCK_STREAM)
        self.assertIn((socket.AF_INET, ("127.0.0.1", 7)), found)
        self.refused(Reason.BAD_NAME, session.resolve, "not a name")

    def test_connect_name(self):
        session = self.open()
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        for family, service in ((socket.AF_INET, port), (socket.AF_INET, str(port)), (socket.AF_INET6, port)):
            mine = session.socket(family)
            connecting = self.served(mine.connect_name, "localhost", service, timeout=stage.PATIENCE_S)
            self.assertEqual(connecting.finish(stage.PATIENCE_S), 0)
            other, _ = listener.accept()
            self.addCleanup(other.close)
            mine.send(b"by name").finish(stage.PATIENCE_S)
            self.assertEqual(other.recv(10), b"by name")
            self.assertEqual(mine.getpeername()[1], port)
        listener.close()
        mine = session.socket()
        with self.assertRaises(OSError) as caught:
            mine.connect_name("localhost", port).finish(stage.PATIENCE_S)
        self.assertEqual(caught.exception.errno, errno.ECONNREFUSED)
        self.refused(Reason.UNKNOWN_SERVICE, lambda: mine.connect_name("127.0.0.1", "no-such-service").finish(
            stage.PATIENCE_S))
        self.refused(Reason.NAME_NOT_FOUND, lambda: mine.connect_name("::1", 80).finish(stage.PATIENCE_S))
        for name, service in (("", 80), ("a" * 254, 80), ("two words", 80), ("a\0b", 80), ("a", 0), ("a", ""),
                              ("a", 65536), ("a", -1), ("a", "0"), ("a", "s" * 64), ("a", "two words"),
                              ("a", "+80"), ("a", "-1"), ("a", "00")):
            self.refused(Reason.BAD_NAME, mine.connect_name, name, service, verdict=True)
        for timeout in (-1, -0.001, float("nan"), float("-inf")):
            with self.assertRaises(OSError) as caught:
                mine.connect_name("127.0.0.1", port, timeout=timeout)
            self.assertEqual(caught.exception.errno, errno.EINVAL)
        for timeout in (0, 1e12, float("inf")):
            with self.assertRaises(OSError) as caught:
                mine.connect_name("127.0.0.1", port, timeout=timeout).finish(stage.PATIENCE_S)
            self.assertIn(caught.exception.errno, (errno.ECONNREFUSED, errno.ETIMEDOUT) if not timeout else
                          (errno.ECONNREFUSED,))

    def test_ioctls(self):
        session = self.open()
        mine, other = self.connect(session)
        other.sendall(b"five!")
        mine.poll(overlap.Poll.IN).finish(stage.PATIENCE_S)
        looking = self.served(mine.bytes_to_read)
        self.assertEqual((looking.finish(stage.PATIENCE_S), looking.bytes), (5, 0))
        self.assertIs(mine.at_mark().finish(stage.PATIENCE_S), False)
        self.assertIsNone(mine.keep_alive(1.5, 3).finish(stage.PATIENCE_S))
        options = [overlap.Option.KEEP_ALIVE, overlap.Option.KEEP_ALIVE_IDLE, overlap.Option.KEEP_ALIVE_INTERVAL]
        self.assertEqual([mine.get_option(option) for option in options], [1, 2, 3])
        mine.keep_alive(None).finish(stage.PATIENCE_S)
        self.assertEqual(mine.get_option(overlap.Option.KEEP_ALIVE), 0)
        self.refused(Reason.BAD_INPUT, mine.keep_alive, 0)
        self.refused(Reason.OP_NOT_FOR_SOCKET, session.socket(socket.AF_INET, socket.SOCK_DGRAM).keep_alive, 1,
                     verdict=True)

    def test_interfaces_and_routes(self):
        mine = self.open().socket(socket.AF_INET, socket.SOCK_DGRAM)
        listing = self.served(mine.interface_list, 256)
        found = [each for each in listing.finish(stage.PATIENCE_S) if each.address == ("127.0.0.1", 0)]
        self.assertEqual([(each.name, each.prefix_len) for each in found], [("lo", 8)])
        self.assertEqual(listing.value * 152, listing.bytes)
        self.assertTrue(found[0].flags & overlap.wire.InterfaceFlags.LOOPBACK)
        self.assertEqual(mine.route_query(("127.0.0.1", 0)).finish(stage.PATIENCE_S), (found[0].index, ("127.0.0.1", 0)))

    def test_watches_and_flushes(self):
        mine, _other = self.connect(self.open())
        pending = [self.served(mine.address_list_change, verdict=True),
                   mine.route_change(("127.0.0.1", 0), verdict=True), mine.recv(10)]
        self.assertFalse(any(operation.done for operation in pending))
        self.assertIsNone(mine.flush().finish(stage.PATIENCE_S))
        self.assertEqual([operation.status for operation in pending], [-errno.ECANCELED] * 3)

    def test_share_and_join(self):
        first, second = self.open(), self.open()
        mine, other = self.connect(first)
        ticket = self.served(mine.share, second.number)
        joined = second.join(ticket)
        self.assertEqual((joined.family, joined.type), (socket.AF_INET, socket.SOCK_STREAM))
        joined.send(b"from the second").finish(stage.PATIENCE_S)
        self.assertEqual(other.recv(100), b"from the second")
        self.refused(Reason.UNKNOWN_TICKET, second.join, ticket)
        self.refused(Reason.OUT_OF_ORDER, mine.export)
        mine.close()
        receive = joined.recv(10)
        other.sendall(b"lives on")
        self.assertEqual(receive.finish(stage.PATIENCE_S), 8)
        self.refused(Reason.UNKNOWN_SESSION, joined.share, 12345)

    def test_adopt_and_export(self):
        session = self.open()
        one, two = socket.socketpair()
        with one, two:
            adopted = self.served(session.adopt, one.fileno())
            one.close()
            self.assertEqual(adopted.family, socket.AF_UNIX)
            receive = adopted.recv(100)
            two.sendall(b"adopted")
            self.assertEqual(receive.finish(stage.PATIENCE_S), 7)
            pending = adopted.recv(100)
            with adopted.export() as back:
                self.assertTrue(pending.wait(stage.PATIENCE_S))
                self.assertEqual((pending.status, pending.reason), (-errno.ECANCELED, Reason.EXPORTED))
                back.sendall(b"exported")
                self.assertEqual(two.recv(100), b"exported")
        with open("/dev/null", "rb") as file:
            self.refused(Reason.BAD_DESCRIPTOR, session.adopt, file.fileno())

    def test_procedure_calls_across_sessions(self):
        target, caller = self.open(), self.open()
        called = []
        function = self.served(target.register, called.append)
        handle = target.thread.handle()
        other = overlap.ThreadHandle(caller, handle.raw)
        self.refused(Reason.UNKNOWN_HANDLE, other.queue, function, 1)
        handle.give(caller.number)
        for argument in (1, 1 << 63, 0):
            other.queue(function, argument)
        while len(called) < 3:
            self.assertTrue(target.thread.sleep(stage.PATIENCE_S))
        self.assertEqual(called, [1, 1 << 63, 0])
        self.refused(Reason.UNKNOWN_FUNCTION, other.queue, function + 1)
        handle.close()
        self.refused(Reason.UNKNOWN_HANDLE, other.queue, function)


class Refusals(stage.Case):
    """What the policy does not allow is told with its rule."""

    def daemon_arguments(self):
        self.place = self.policy_of("[deny telnet]\nUser=*\nAction=connect\nTo=127.0.0.1\nPort=23\n")
        return "--policy", self.place

    def test_whoever_waits_is_told(self):
        session = self.open()
        refused = session.socket(socket.AF_INET, socket.SOCK_STREAM)
        error = self.refused(overlap.Reason.DENIED, refused.connect(("127.0.0.1", 23)).finish)
        self.assertIn(f"{self.place}/rules.conf:1: [deny telnet]", str(error))
        error = self.refused(overlap.Reason.DENIED, refused.connect(("127.0.0.1", 24)).finish)
        self.assertIn("no rule allows it", str(error))

    def test_so_is_a_synchronous_call(self):
        session = self.open()
        with session.socket(socket.AF_INET, socket.SOCK_STREAM) as refused:
            error = self.refused(overlap.Reason.DENIED, refused.blocking().connect, ("127.0.0.1", 23))
        self.assertIn(f"{self.place}/rules.conf:1: [deny telnet]", str(error))


class Impostors(stage.Case):
    """What speaks is not overlapd: the session ends with an error, and nothing else happens."""

    HELLO = wire.frame_pack(wire.Frame.CONTROL, overlap.message.pack("FromDaemon", {"reply": {"id": 1, "hello": {
        "version": 1, "level": 1, "session": 5, "credits": 10, "inline_bytes": 1 << 20}}}))

    def serve(self, *answers):
        """The path of a server, and the thread in which it answers each thing that it reads with the next of these."""
        path = f"{self.daemon.folder}/impostor"
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(path)
        server.listen()

        def run():
            with server.accept()[0] as connection:
                connection.settimeout(stage.PATIENCE_S)
                for answer in answers:
                    connection.recv(65536)
                    for at in range(0, len(answer), 7):  # a stream has no boundaries
                        connection.sendall(answer[at:at + 7])
                while connection.recv(65536):
                    pass

        return path, self.thread(run)

    def impostor(self, answer):
        """The error with which a session ends whose server gives this answer to the first entry."""
        path, task = self.serve(self.HELLO, answer)
        session = overlap.Session(path)
        mine = overlap.Socket(session, 1, socket.AF_INET, socket.SOCK_STREAM)
        accepting = mine.accept()
        self.assertTrue(accepting.wait(stage.PATIENCE_S))
        self.assertEqual(accepting.status, -errno.ECONNABORTED)
        with self.assertRaises(overlap.OverlapError) as caught:
            mine.accept()
        session.close()
        task.join()
        return caught.exception

    def test_silence_after_the_hello(self):
        path, task = self.serve(self.HELLO)
        session = overlap.Session(path)
        mine = overlap.Socket(session, 1, socket.AF_INET, socket.SOCK_STREAM)
        waits = [self.thread(session.status), self.thread(mine.accept().wait), self.thread(mine.getsockname)]
        with self.assertRaises(TimeoutError):
            session.request("status", {}, timeout=0.1)
        session.close()
        for wait in waits[::2]:
            with self.assertRaises(ConnectionAbortedError):
                wait.join()
        self.assertTrue(waits[1].join())
        task.join()

    def test_silence_instead_of_the_hello(self):
        path, task = self.serve()
        with self.assertRaises(TimeoutError):
            overlap.Session(path, timeout=0.1)
        task.join()

    def record(self, **fields):
        base = {"tag": 1, "thread": 1, "key": 1, "sequence": 1, "op": wire.Op.ACCEPT}
        record = wire.Record(**{**dict.fromkeys(wire.Record._fields, 0), **base, **fields})
        return wire.frame_pack(wire.Frame.RECORDS, wire.BATCH_HEADER.pack(1, 0) + wire.RECORD.pack(*record))

    def expect_protocol_error(self, answer):
        error = self.impostor(answer)
        self.assertEqual((error.errno, error.reason), (errno.EPROTO, Reason.BAD_FRAME))

    def test_an_unknown_tag(self):
        self.expect_protocol_error(self.record(tag=77))

    def test_another_thread(self):
        self.expect_protocol_error(self.record(thread=2))

    def test_more_bytes_than_were_lent(self):
        self.expect_protocol_error(self.record(bytes=1))

    def test_another_operation(self):
        self.expect_protocol_error(self.record(op=wire.Op.RECV))

    def test_payload_that_nobody_asked_for(self):
        frame = self.record(payload_len=5)
        self.expect_protocol_error(wire.frame_pack(wire.Frame.RECORDS, frame[8:] + b"extra"))

    def test_payload_that_is_not_there(self):
        self.expect_protocol_error(self.record(payload_len=5))

    def test_a_verdict_on_what_was_never_posted(self):
        self.expect_protocol_error(self.record(kind=wire.RecordKind.SETTLED, value=2))

    def test_no_frame(self):
        self.expect_protocol_error(bytes(16))

    def test_a_reply_to_nothing(self):
        self.expect_protocol_error(wire.frame_pack(wire.Frame.CONTROL, overlap.message.pack(
            "FromDaemon", {"reply": {"id": 999}})))

    def test_a_hang_up_in_the_middle_of_a_frame(self):
        error = self.impostor(self.record(kind=99) + wire.frame_pack(wire.Frame.CONTROL, overlap.message.pack(
            "FromDaemon", {"notice": {"status": -errno.EACCES, "reason": Reason.DENIED, "text": "no", "closing": True}})))
        self.assertEqual((error.errno, error.text), (errno.EACCES, "no"))


for case in (Streams, Endings, Losses, Indications, Memory, Wider):
    name = f"{case.__name__}Inline"
    globals()[name] = type(name, (case,), {"level": 0, "__module__": __name__, "__doc__": f"{case.__doc__} At level 0."})
del case

if __name__ == "__main__":
    stage.main()
