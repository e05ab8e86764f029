#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 10 of docs/SEMANTICS.md: datagrams. TAP."""

import errno
import socket

import overlap
import section
import stage


class Datagrams(section.Case):
    """A socket of the daemon, and an ordinary one."""

    def setUp(self):
        super().setUp()
        self.udp = self.bound()
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.peer.close)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(stage.PATIENCE_S)

    def bound(self):
        """Another socket of the daemon that has an address."""
        one = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(one.close)
        one.bind(("127.0.0.1", 0))
        return one

    def give(self, *pieces):
        """Each is one datagram of the ordinary end."""
        for piece in pieces:
            self.peer.sendto(piece, self.udp.getsockname())

    def got(self, receive):
        """The bytes of a receive that succeeds."""
        receive.finish(stage.PATIENCE_S)
        return receive.data

    def failed(self, operation, code):
        """Sees that an operation ends with this error."""
        with self.assertRaises(overlap.OverlapError) as caught:
            operation.finish(stage.PATIENCE_S)
        self.assertEqual(caught.exception.errno, code, str(caught.exception))

    @staticmethod
    def nobody():
        """An address that nobody has."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            return gone.getsockname()

    def test_one_is_one(self):
        """10.1 one receive takes one datagram, in posting order"""
        receives = [self.udp.recv(10) for _ in range(3)]
        self.give(b"one", b"fourth", b"9")
        self.assertEqual([self.got(receive) for receive in receives], [b"one", b"fourth", b"9"])

    def test_too_long(self):
        """10.2 10.3 a datagram that is too long is cut, indicated, and has a sender"""
        port = self.port_of(self.udp)
        for is_there in (False, True):
            if is_there:
                self.give(b"too long")
            receive = self.udp.recvfrom(3)
            if not is_there:
                self.give(b"too long")
            (packet,) = port.wait(stage.PATIENCE_S)
            self.assertIs(packet.operation, receive)
            self.failed(receive, errno.EMSGSIZE)
            self.assertEqual((receive.data, receive.bytes, receive.address),
                             (b"too", 3, self.peer.getsockname()))
            self.assertTrue(receive.flags & overlap.RecordFlags.TRUNCATED)

    def test_needs_a_name(self):
        """10.4 a receive needs a name, a send gives one"""
        fresh = self.session.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(fresh.close)
        self.not_started(errno.EINVAL, fresh.recv, 10, verdict=True)
        fresh.sendto(b"ask", self.peer.getsockname()).finish(stage.PATIENCE_S)
        receive = fresh.recv(10)
        self.peer.sendto(b"answer", self.peer.recvfrom(10)[1])
        self.assertEqual(self.got(receive), b"answer")

    def test_nobody_is_there(self):
        """10.5 a receive is told that nobody was there, pending or later, and no send is"""
        where = self.nobody()
        pending = self.udp.recv(10, verdict=True)
        self.udp.sendto(b"x", where).finish(stage.PATIENCE_S)
        self.failed(pending, errno.ECONNREFUSED)
        for _ in range(2):
            self.udp.sendto(b"x", where).finish(stage.PATIENCE_S)
        for _ in range(2):
            self.failed(self.udp.recv(10), errno.ECONNREFUSED)
        receive = self.udp.recv(10, verdict=True)
        self.assertFalse(receive.wait(section.NOTHING_S))
        self.udp.set_option(overlap.Option.RECV_REFUSAL, 0)
        self.udp.sendto(b"x", where).finish(stage.PATIENCE_S)
        self.assertFalse(receive.wait(section.NOTHING_S))
        self.give(b"alive")
        self.assertEqual(self.got(receive), b"alive")

    def test_empty(self):
        """10.6 an empty datagram is a datagram"""
        self.give(b"", b"five!")
        self.assertEqual([self.got(self.udp.recv(10)) for _ in range(2)], [b"", b"five!"])

    def test_gathers(self):
        """10.7 a send gathers one datagram, or sends nothing"""
        where = self.peer.getsockname()
        if self.level > 0:
            parts = [self.session.region(4096).buffer()[:3] for _ in range(2)]
            parts[0].view[:], parts[1].view[:] = b"one", b"two"
            self.udp.sendto(parts, where).finish(stage.PATIENCE_S)
            self.assertEqual(self.peer.recv(100), b"onetwo")
            self.failed(self.udp.sendto(bytes(70000), where), errno.EMSGSIZE)
        self.udp.sendto(b"small", where).finish(stage.PATIENCE_S)
        self.assertEqual(self.peer.recv(100), b"small")

    def test_looks(self):
        """10.8 a look leaves the datagram"""
        self.give(b"first", b"second")
        looks = [self.got(self.udp.recv(10, peek=peek)) for peek in (True, True, False, False)]
        self.assertEqual(looks, [b"first", b"first", b"first", b"second"])

    def test_goes_where_it_is_sent(self):
        """10.9 a datagram goes where it is sent"""
        other = self.bound()
        self.failed(self.udp.send(b"x"), errno.EDESTADDRREQ)
        self.udp.connect(self.peer.getsockname()).finish(stage.PATIENCE_S)
        self.udp.sendto(b"B", other.getsockname()).finish(stage.PATIENCE_S)
        self.udp.send(b"A").finish(stage.PATIENCE_S)
        self.assertEqual(self.udp.sendto(b"C", ("127.0.0.1", 0)).finish(stage.PATIENCE_S), 1)
        self.assertEqual((self.got(other.recv(10)), self.peer.recv(10)), (b"B", b"A"))

    def test_ends_with_its_socket(self):
        """10.10 a close ends the receives"""
        receive = self.udp.recvfrom(10, verdict=True)
        self.udp.close()
        self.failed(receive, errno.ECANCELED)
        self.assertEqual((receive.bytes, receive.address), (0, None))

    def test_messages(self):
        """10.11 a message brings what there is beside it, and takes it along"""
        for option in (overlap.Option.RECV_PACKET_INFO, overlap.Option.RECV_HOP_LIMIT,
                       overlap.Option.RECV_TRAFFIC_CLASS):
            self.udp.set_option(option, 1)
        sender = self.bound()
        items = overlap.Items(overlap.PacketInfo("127.0.0.1"), 9, 0x28)
        receive = self.udp.recvmsg(10, verdict=True)
        sender.sendmsg(b"whole", items, self.udp.getsockname()).finish(stage.PATIENCE_S)
        self.assertEqual(self.got(receive), b"whole")
        self.assertEqual((receive.items.packet_info.host, *receive.items[1:]), ("127.0.0.1", 9, 0x28))
        self.assertEqual((receive.address, receive.received), (sender.getsockname(), 0))
        sender.sendmsg(b"whole", address=self.udp.getsockname()).finish(stage.PATIENCE_S)
        cut = self.udp.recvmsg(10, 40, peek=True)
        self.failed(cut, errno.EMSGSIZE)
        self.assertEqual((cut.data, cut.received), (b"whole", overlap.ReceivedFlags.CONTROL_TRUNCATED))
        self.assertEqual((cut.items.packet_info.host, cut.items.hop_limit), ("127.0.0.1", None))
        data, found, flags, address = self.udp.blocking(stage.PATIENCE_S).recvmsg(3)
        self.assertEqual((data, found.hop_limit, flags, address),
                         (b"who", 64, overlap.ReceivedFlags.TRUNCATED, sender.getsockname()))
        self.not_started(errno.EINVAL, sender.sendmsg, b"x", overlap.Items(hop_limit=0), self.udp.getsockname(),
                         verdict=True)
        self.not_started(errno.EINVAL, sender.sendmsg, b"x", overlap.Items(hop_limit=256), self.udp.getsockname())
        self.not_started(errno.EOPNOTSUPP, self.mine.recvmsg, 10, verdict=True)


if __name__ == "__main__":
    stage.main()
