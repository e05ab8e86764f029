#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 13 of docs/SEMANTICS.md: accepts and connects with data, disconnects, files. TAP."""

import contextlib
import errno
import random
import socket
import tempfile

import section
import stage

import overlap
from overlap.error import Reason

PAYLOAD = random.Random(13).randbytes(300000)


class Meeting(section.Case):
    """A listener, and a socket that may be prepared for it."""

    def setUp(self):
        super().setUp()
        self.listener, self.address = self.listen(self.session)
        self.fresh = self.stream()

    def stream(self):
        return self.session.socket(socket.AF_INET, socket.SOCK_STREAM)

    def dial(self, data=b""):
        """An ordinary socket that connects, and sends."""
        other = socket.create_connection(self.address, timeout=stage.PATIENCE_S)
        self.addCleanup(other.close)
        if data:
            other.sendall(data)
        return other

    def connected_for(self, which):
        return which.get_option(overlap.Option.CONNECT_TIME)

    def await_connection(self):
        """Waits until the accept that the socket is prepared for has its connection."""
        stage.eventually(self, lambda: self.connected_for(self.fresh) < 60)


class Accepting(Meeting):
    """Accepts into a socket, with the first data."""

    def test_what_an_accept_takes(self):
        """13.1 what an accept takes is checked"""
        bound = self.stream()
        bound.bind(("127.0.0.1", 0))
        for wrong in (self.mine, bound, self.listener, self.session.socket(socket.AF_INET6, socket.SOCK_STREAM)):
            self.not_started(errno.EINVAL, self.listener.accept, into=wrong, verdict=True)
        self.not_started(errno.EINVAL, self.mine.accept, into=self.fresh, verdict=True)
        accepting = self.listener.accept(into=self.fresh, verdict=True)
        self.refused(Reason.PREPARED, self.listener.accept, into=self.fresh, verdict=True)
        self.refused(Reason.PREPARED, self.fresh.connect, self.address, verdict=True)
        self.refused(Reason.PREPARED, self.fresh.bind, ("127.0.0.1", 0))
        self.assertTrue(accepting.cancel())
        again = self.listener.accept(into=self.fresh)
        self.dial()
        self.assertIs(again.finish(stage.PATIENCE_S), self.fresh)

    def test_when_an_accept_ends(self):
        """13.2 an accept ends with the connection, or with its first data or the end of the stream"""
        bare = self.listener.accept()
        self.dial()
        bare.finish(stage.PATIENCE_S)
        place = bytearray(5)
        accepting = self.listener.accept(place, into=self.fresh)
        other = self.dial()
        self.assertFalse(accepting.wait(section.NOTHING_S))
        other.sendall(b"hello!")
        self.assertIs(accepting.finish(stage.PATIENCE_S), self.fresh)
        self.assertEqual((bytes(place), accepting.bytes), (b"hello", 5))
        self.assertEqual(self.fresh.recv(10).finish(stage.PATIENCE_S), 1)
        ending = self.listener.accept(10)
        self.dial().shutdown(socket.SHUT_WR)
        ending.finish(stage.PATIENCE_S)
        self.assertEqual((ending.bytes, ending.data), (0, b""))

    def test_data_and_addresses(self):
        """13.3 data and addresses come with the completion"""
        accepting, naming = self.listener.accept(100, into=self.fresh, names=True), self.listener.accept(names=True)
        other = self.dial(b"first words")
        accepting.finish(stage.PATIENCE_S)
        self.assertEqual((accepting.bytes, accepting.data), (11, b"first words"))
        self.assertEqual((accepting.local, accepting.address), (self.address, other.getsockname()))
        other = self.dial()
        naming.finish(stage.PATIENCE_S)
        self.assertEqual((naming.local, naming.address), (self.address, other.getsockname()))

    def test_the_prepared_socket_is_whole(self):
        """13.4 the prepared socket is a whole connection"""
        self.assertEqual(self.connected_for(self.fresh), 0xffffffff)
        accepting = self.listener.accept(1, into=self.fresh, verdict=True)
        other = self.dial()
        self.await_connection()
        other.sendall(b"1")
        accepting.finish(stage.PATIENCE_S)
        self.assertLess(self.connected_for(self.fresh), 60)
        self.assertEqual(self.fresh.getpeername(), other.getsockname())
        self.fresh.shutdown(socket.SHUT_WR)
        self.assertEqual(other.recv(1), b"")

    def test_closing(self):
        """13.5 closing the prepared socket, or the listener, ends the accept"""
        for which in ("fresh", "listener"):
            accepting = self.listener.accept(100, into=self.fresh, verdict=True)
            other = self.dial()
            self.await_connection()
            getattr(self, which).close()
            self.assertTrue(accepting.wait(stage.PATIENCE_S))
            self.assertEqual(accepting.failure().errno, errno.ECANCELED)
            self.assertEqual(other.recv(1), b"")
            self.fresh = self.stream()

    def test_one_order(self):
        """13.6 accepts of all kinds share one order, and one that waits for data holds up none"""
        first, second = self.listener.accept(1, into=self.fresh), self.listener.accept()
        one, two = self.dial(), self.dial()
        self.assertEqual(second.finish(stage.PATIENCE_S).getpeername(), two.getsockname())
        self.assertFalse(first.done)
        one.sendall(b"1")
        self.assertEqual(first.finish(stage.PATIENCE_S).getpeername(), one.getsockname())


class Leaving(Meeting):
    """Connects with data, and disconnects."""

    def test_connect_with_data(self):
        """13.7 a connect sends its data first"""
        for size in (1, 60000):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                data, mine = random.Random(size).randbytes(size), self.stream()
                connecting = mine.connect(listener.getsockname(), data)
                other, _ = listener.accept()
                with other, other.makefile("rb") as stream:
                    self.assertEqual(connecting.finish(stage.PATIENCE_S), size)
                    mine.disconnect().finish(stage.PATIENCE_S)
                    self.assertEqual(stream.read(), data)
        self.not_started(errno.EISCONN, self.mine.connect, self.address, b"data", verdict=True)
        if self.level == 0:
            self.not_started(errno.EMSGSIZE, self.fresh.connect, self.address, bytes(65536))

    def test_refused_and_again(self):
        """13.8 13.9 a refused socket connects again, and is whole at once"""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nowhere = listener.getsockname()
        self.not_started(errno.ECONNREFUSED, self.fresh.connect(nowhere, b"data").finish, stage.PATIENCE_S)
        accepting = self.listener.accept(10)
        self.assertEqual(self.fresh.connect(self.address, b"data").finish(stage.PATIENCE_S), 4)
        self.assertEqual(self.fresh.getpeername(), self.address)
        self.assertEqual(accepting.finish(stage.PATIENCE_S).getpeername(), self.fresh.getsockname())
        self.assertEqual(accepting.data, b"data")

    def test_disconnect(self):
        """13.10 a disconnect sends the end behind all else, and receives go on"""
        self.not_started(errno.ENOTCONN, self.fresh.disconnect, verdict=True)
        self.mine.send(b"last words")
        self.assertEqual(self.mine.disconnect().finish(stage.PATIENCE_S), 0)
        with self.other.makefile("rb") as stream:
            self.assertEqual(stream.read(), b"last words")
        self.not_started(errno.ESHUTDOWN, self.mine.send, b"more", verdict=True)
        self.not_started(errno.EISCONN, self.mine.connect, self.address, verdict=True)
        self.other.sendall(b"answer")
        self.assertEqual(self.mine.recv(10).finish(stage.PATIENCE_S), 6)
        self.assertEqual(self.mine.disconnect().finish(stage.PATIENCE_S), 0)

    def test_reuse(self):
        """13.10 a socket is used again"""
        pending = self.mine.recv(10, verdict=True)
        self.assertEqual(self.mine.disconnect(reuse=True).finish(stage.PATIENCE_S), 0)
        self.assertEqual(self.other.recv(1), b"")
        self.assertTrue(pending.wait(stage.PATIENCE_S))
        self.assertEqual(pending.failure().reason, Reason.REPLACED)
        accepting = self.listener.accept(10, into=self.mine)
        self.dial(b"again")
        self.assertIs(accepting.finish(stage.PATIENCE_S), self.mine)
        self.assertEqual(accepting.data, b"again")
        self.assertEqual(self.mine.disconnect(reuse=True).finish(stage.PATIENCE_S), 0)
        accepting = self.listener.accept()
        self.assertEqual(self.mine.connect(self.address).finish(stage.PATIENCE_S), 0)
        accepting.finish(stage.PATIENCE_S)


class Transmits(section.Case):
    """What is sent of a file, and in which order."""

    @contextlib.contextmanager
    def file(self):
        """A file of the session. At level 0 it says that it lends none, and there is nothing more to see."""
        with tempfile.NamedTemporaryFile(buffering=0) as made:
            made.write(PAYLOAD)
            with open(made.name, "rb") as file:
                if self.level == 0:
                    self.not_started(errno.EOPNOTSUPP, self.session.file, file)
                    self.skipTest("level 0 lends no files")
                with self.session.file(file) as lent:
                    yield lent

    def read(self, size):
        """So many bytes from the ordinary end."""
        data = b""
        while len(data) < size and (piece := self.other.recv(size - len(data))):
            data += piece
        return data

    def test_in_order(self):
        """13.11 head, file and tail leave in this order"""
        with self.file() as lent:
            sending = self.mine.transmit(lent, head=b"head", tail=b"tail!")
            self.assertEqual(self.read(300009), b"head" + PAYLOAD + b"tail!")
            self.assertEqual(sending.finish(stage.PATIENCE_S), 300009)
            self.assertEqual(self.mine.transmit(lent, 1000, 10, tail=b"!").finish(stage.PATIENCE_S), 11)
            self.assertEqual(self.read(11), PAYLOAD[1000:1010] + b"!")
            self.assertEqual(self.mine.transmit(None).finish(stage.PATIENCE_S), 0)

    def test_refused(self):
        """13.11 what is not transmitted"""
        with self.file() as lent:
            datagram = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for other in (self.session.socket(), datagram):
                self.not_started(errno.ENOTCONN, other.transmit, lent, verdict=True)
            self.not_started(errno.ENOTCONN, datagram.transmit_packets, [[b"x"]], verdict=True)
            with self.assertRaises(overlap.OverlapError) as caught:
                self.mine.transmit(lent, 0, 2147483646, head=b"x")
            self.assertEqual(caught.exception.errno, errno.EMSGSIZE)
            self.not_started(errno.EOPNOTSUPP, self.mine.transmit, lent, reuse=True, verdict=True)

    def test_disconnects(self):
        """13.11 a transmit disconnects"""
        with self.file() as lent:
            sending = self.mine.transmit(lent, disconnect=True)
            self.not_started(errno.ESHUTDOWN, self.mine.send, b"x", verdict=True)
            self.assertEqual(self.read(300001), PAYLOAD)
            self.assertEqual(sending.finish(stage.PATIENCE_S), 300000)

    def test_packets(self):
        """13.12 packets follow each other on a stream, and are datagrams"""
        with self.file() as lent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            packets = [[b"ab", overlap.Range(7, 5)], [], [overlap.Range(299990)]]
            self.assertEqual(self.mine.transmit_packets(packets, lent).finish(stage.PATIENCE_S), 17)
            self.assertEqual(self.read(17), b"ab" + PAYLOAD[7:12] + PAYLOAD[299990:])
            other.bind(("127.0.0.1", 0))
            mine = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
            mine.connect(other.getsockname()).finish(stage.PATIENCE_S)
            self.assertEqual(mine.transmit_packets(packets, lent).finish(stage.PATIENCE_S), 17)
            self.assertEqual([other.recv(100) for _ in range(3)], [b"ab" + PAYLOAD[7:12], b"", PAYLOAD[299990:]])


if __name__ == "__main__":
    stage.main()
