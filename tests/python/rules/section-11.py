#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 11 of docs/SEMANTICS.md: shutdown, close, cancel, exit. TAP."""

import errno
import os
import random
import signal
import socket
import threading

import overlap
import section
import stage

ROUNDS = 300  # of cancels that race


class Endings(section.Case):
    """How operations end that nobody let finish."""

    def expect_closed(self, operation):
        """A close has ended the operation."""
        self.expect(operation, -errno.ECANCELED)
        self.assertEqual(operation.reason, overlap.Reason.CLOSED)

    def join(self, shared):
        """A second session that has the socket, too."""
        guest = self.open()
        return guest, guest.join(shared.share(guest.number))

    def test_shut_receiving(self):
        """11.1 what is pending survives a shutdown of receiving"""
        receive = self.mine.recv(10, verdict=True)
        self.mine.shutdown(socket.SHUT_RD)
        self.not_started(errno.ESHUTDOWN, self.mine.recv, 10, verdict=True)
        self.other.sendall(b"five!")
        self.expect(receive, 0, 5)

    def test_what_can_be_shut(self):
        """11.3 what can be shut down, and how often"""
        for _ in range(2):
            self.mine.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.other.recv(1), b"")
        stream = self.session.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.not_started(errno.ENOTCONN, stream.shutdown, socket.SHUT_WR)
        datagrams = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.shutdown(socket.SHUT_WR)
        self.not_started(errno.ESHUTDOWN, datagrams.sendto, b"x", ("127.0.0.1", 9), verdict=True)

    def test_close(self):
        """11.5 11.6 11.10 a close ends what is pending, each in its way, and nothing else comes"""
        port = self.port_of(self.mine, 7)
        mine, other = self.connect(self.session)
        packet_of, noted = self.mine.recv(10, verdict=True), mine.recv(10, routine=self.ran, user="noted", verdict=True)
        self.mine.close()
        mine.close()
        self.expect_closed(packet_of)
        self.expect_closed(noted)
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.status), (7, packet_of, -errno.ECANCELED))
        self.assertTrue(self.session.thread.sleep(0))
        self.assertEqual(self.order, ["noted"])
        self.nothing_at(port)
        self.not_started(errno.EBADF, mine.recv, 10, verdict=True)
        other.close()

    def test_the_last_close(self):
        """11.8 the last close of a shared socket ends what is pending, whoever posted it"""
        _, theirs = self.join(self.mine)
        port = self.port_of(self.mine, 7)
        receives = [self.mine.recv(10, verdict=True) for _ in range(3)]
        last = theirs.recv(10, verdict=True)
        self.mine.close()
        self.nothing_at(port)
        self.other.sendall(b"five!")
        self.expect(receives[0], 0, 5)
        self.assertEqual(port.wait(stage.PATIENCE_S)[0].key, 7)
        self.assertTrue(receives[1].cancel())
        self.assertEqual(receives[1].reason, overlap.Reason.CANCELLED)
        self.assertFalse(receives[2].done)
        theirs.close()
        self.expect_closed(last)
        self.expect_closed(receives[2])

    def test_a_thread_ends_what_goes_on(self):
        """11.8 11.17 what goes on after a close ends with its thread"""
        _, theirs = self.join(self.mine)
        thread = self.session.thread_open()
        receive, kept = self.mine.recv(10, thread=thread, verdict=True), theirs.recv(10, verdict=True)
        self.mine.close()
        self.assertFalse(receive.done)
        thread.close()
        self.expect(receive, -errno.ECANCELED)
        self.other.sendall(b"five!")
        self.expect(kept, 0, 5)

    def test_cancel(self):
        """11.12 11.13 a cancel of one, and of all, is done when it returns"""
        receives = [self.mine.recv(10, verdict=True) for _ in range(4)]
        self.assertTrue(receives[2].cancel())
        self.assertEqual((receives[2].status, receives[2].reason), (-errno.ECANCELED, overlap.Reason.CANCELLED))
        self.assertFalse(receives[0].done)
        self.assertEqual(self.mine.cancel(), 3)
        self.assertTrue(all(receive.done for receive in receives))
        self.not_started(errno.ENOENT, self.mine.cancel)
        self.bring(b"five!")
        self.expect(self.mine.recv(10), 0, 5)

    def test_races(self):
        """11.16 11.20 cancels that race with data lose no byte"""
        sent, received = os.urandom(ROUNDS * 8), bytearray()
        turn = threading.Semaphore(0)

        def write():
            for at in range(0, len(sent), 8):
                turn.acquire()
                self.other.sendall(sent[at:at + 8])

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(ROUNDS):
            receive = self.mine.recv(64, waitall=random.random() < 0.3)
            turn.release()
            cancelled = receive.cancel()
            self.assertEqual(receive.status, -errno.ECANCELED if cancelled else 0)
            received += receive.data or b""
        writer.join()
        while len(received) < len(sent):
            rest = self.mine.recv(4096)
            rest.finish(stage.PATIENCE_S)
            received += rest.data or b""
        self.assertEqual(received, sent)

    def test_a_thread(self):
        """11.17 11.18 what a thread posted ends with it, but for what only a port is told, and nothing of others"""
        thread = self.session.thread_open()
        mine = self.mine.recv(10, thread=self.session.thread, verdict=True)
        theirs = self.mine.recv(10, thread=thread, verdict=True)
        with_port, other = self.connect(self.session)
        port = self.port_of(with_port, 9)
        to_port = with_port.recv(10, thread=thread, verdict=True)
        thread.close()
        self.expect(theirs, -errno.ECANCELED)
        self.assertFalse(mine.done or to_port.done)
        other.sendall(b"five!")
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.bytes), (9, to_port, 5))
        other.close()


    def test_shut_sending(self):
        """11.2 what was posted leaves before the end of the stream, and further sends are refused"""
        sends = [self.mine.send(bytes([number]) * 100000) for number in range(10)]
        self.mine.shutdown(socket.SHUT_WR)
        self.not_started(errno.ESHUTDOWN, self.mine.send, b"x", verdict=True)
        self.assertEqual(self.read(1000001), b"".join(bytes([number]) * 100000 for number in range(10)))
        for sending in sends:
            self.expect(sending, 0, 100000)

    def test_close_with_data(self):
        """11.4 a close with data that nobody received resets the connection"""
        self.bring(b"five!")
        self.mine.close()
        with self.assertRaises(ConnectionResetError):
            self.other.recv(1)

    def test_what_was_taken_arrives(self):
        """11.7 what a send has handed over arrives after the close, and then the end of the stream"""
        self.expect(self.mine.send(b"0123456789" * 1000), 0, 10000)
        self.mine.close()
        self.assertEqual(self.read(10001), b"0123456789" * 1000)

    def receive_in_a_thread(self, started):
        """What a synchronous receive of another thread fails with."""
        with self.session.thread_open():
            started.set()
            with self.assertRaises(overlap.OverlapError) as caught:
                self.mine.blocking().recv(10)
        return caught.exception.errno, caught.exception.reason

    def test_close_wakes(self):
        """11.9 a close ends what other threads wait for, and synchronous calls"""
        listener, _ = self.listen(self.session)
        operations = self.mine.recv(10), self.mine.poll(verdict=True), listener.accept(verdict=True)
        waits = [self.thread(operation.wait, stage.PATIENCE_S) for operation in operations]
        started = threading.Event()
        blocked = self.thread(self.receive_in_a_thread, started)
        self.assertTrue(started.wait(stage.PATIENCE_S))
        stage.eventually(self, lambda: self.session.n_pending() == 4)
        self.mine.close()
        listener.close()
        self.assertTrue(all(wait.join() for wait in waits))
        for operation in operations:
            self.expect_closed(operation)
        self.assertEqual(blocked.join(), (errno.ECANCELED, overlap.Reason.CLOSED))

    def test_cancel_of_the_own(self):
        """11.11 a thread cancels what it has posted, and nothing of others"""
        thread = self.session.thread_open()
        mine = [self.mine.recv(10, thread=self.session.thread, verdict=True) for _ in range(2)]
        theirs = self.mine.recv(10, thread=thread, verdict=True)
        self.assertEqual(self.session.thread.cancel(), 2)
        for receive in mine:
            self.expect(receive, -errno.ECANCELED)
        self.assertFalse(theirs.done)
        self.assertEqual(self.session.thread.cancel(), 0)
        self.other.sendall(b"five!")
        self.expect(theirs, 0, 5)
        thread.close()

    def test_an_accept_belongs_to_its_listener(self):
        """11.14 a cancel on a prepared socket does not find the accept, closing it ends that"""
        listener, _ = self.listen(self.session)
        prepared = self.session.socket()
        accept = listener.accept(into=prepared, verdict=True)
        self.not_started(errno.ENOENT, prepared.cancel)
        self.assertFalse(accept.done)
        prepared.close()
        self.expect_closed(accept)
        accept = listener.accept(into=self.session.socket(), verdict=True)
        self.assertEqual(listener.cancel(), 1)
        self.expect(accept, -errno.ECANCELED)
        self.assertEqual(accept.reason, overlap.Reason.CANCELLED)

    def live_and_die(self, parent):
        """A process that has a session, a connection, and a part in another's socket."""
        session = overlap.Session(self.daemon.path, level=self.level)
        parent.sendall(session.number.to_bytes(8, "little"))
        joined = session.join(parent.recv(4096))
        mine, other = self.connect(session)
        mine.recv(10, verdict=True)
        joined.recv(10, verdict=True)
        socket.send_fds(parent, [b"!"], [other.fileno()])
        signal.pause()

    def test_the_end_of_a_process(self):
        """11.19 when a process ends all that it had ends with it, and what others hold with it goes on"""
        guest = self.open()
        shared, other = self.connect(guest)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                self.live_and_die(theirs)
            finally:
                os._exit(1)
        theirs.close()
        ours.settimeout(stage.PATIENCE_S)
        ours.sendall(shared.share(int.from_bytes(ours.recv(8), "little")))
        said, fds, _, _ = socket.recv_fds(ours, 1, 1)
        self.assertEqual(said, b"!")
        receive = shared.recv(10, verdict=True)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ours.close()
        with socket.socket(fileno=fds[0]) as end:
            end.settimeout(stage.PATIENCE_S)
            self.assertEqual(end.recv(1), b"")
        other.sendall(b"five!")
        self.expect(receive, 0, 5)
        self.assertEqual(guest.status()["sessions"], 2)
        other.close()


if __name__ == "__main__":
    stage.main()
