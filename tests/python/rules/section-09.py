#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Section 9 of docs/SEMANTICS.md: ioctls. Where addresses and routes change they are those of a network of the case's
own. TAP."""

import errno
import socket

import netns
import overlap
import section
import stage
from overlap import wire


class Watches(section.Case):
    """What waits for a change."""

    def setUp(self):
        netns.enter()
        super().setUp()

    def watch(self, **common):
        """A watch of the addresses, which is pending."""
        watching = self.mine.address_list_change(verdict=True, **common)
        self.assertFalse(watching.done)
        return watching

    def test_by_a_routine(self):
        """9.1 a change calls the routine of the watch once"""
        self.watch(routine=self.ran, user="changed")
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))
        netns.add_address("192.0.2.1")
        self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        netns.add_address("192.0.2.2")
        self.assertFalse(self.session.thread.sleep(section.NOTHING_S))
        self.assertEqual(self.order, ["changed"])

    def test_at_a_port(self):
        """9.1 9.3 a change is one packet at the port of the watch, and so is a close"""
        port = self.port_of(self.mine, 9)
        watching = self.watch()
        self.nothing_at(port)
        netns.add_address("192.0.2.1")
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.key, packet.operation, packet.status), (9, watching, 0))
        netns.add_address("192.0.2.2")
        self.nothing_at(port)
        watching = self.watch()
        self.mine.close()
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.operation, packet.status), (watching, -errno.ECANCELED))
        self.assertEqual(watching.reason, overlap.Reason.CLOSED)
        netns.add_address("192.0.2.3")
        self.nothing_at(port)

    def test_the_first_change(self):
        """9.2 the first change of the addresses of the socket's family ends a watch, and none from before"""
        netns.add_address("192.0.2.1")
        watching = self.watch()
        netns.add_address("192.0.2.1")
        netns.add_address("2001:db8::1")
        self.assertFalse(watching.wait(section.NOTHING_S))
        netns.remove_address("192.0.2.1")
        self.assertIsNone(watching.finish(stage.PATIENCE_S))
        watching = self.watch()
        self.assertFalse(watching.wait(section.NOTHING_S))
        netns.add_address("192.0.2.1")
        self.assertIsNone(watching.finish(stage.PATIENCE_S))

    def test_a_route(self):
        """9.4 the first change of a route ends a watch of it, and no other change does"""
        watching = self.mine.route_change(("198.51.100.1", 0), verdict=True)
        other = self.mine.route_change(("198.51.100.2", 0), verdict=True)
        self.assertFalse(watching.wait(section.NOTHING_S))
        netns.add_route("198.51.100.1")
        self.assertIsNone(watching.finish(stage.PATIENCE_S))
        watching = self.mine.route_change(("198.51.100.1", 0), verdict=True)
        netns.add_route("198.51.100.1")
        self.assertFalse(watching.wait(section.NOTHING_S))
        netns.remove_route("198.51.100.1")
        self.assertIsNone(watching.finish(stage.PATIENCE_S))
        self.assertFalse(other.wait(section.NOTHING_S))
        self.assertTrue(other.cancel())

    def test_what_is_counted(self):
        """9.5 what is written somewhere is counted, and a number of the socket is not"""
        netns.add_address("192.0.2.1")
        self.bring(b"five!")
        port = self.port_of(self.mine, 9)
        looking = self.mine.bytes_to_read(verdict=True)
        packet = port.wait(0)[0]
        self.assertEqual((packet.operation, packet.bytes), (looking, 0))
        self.assertEqual((looking.result(), looking.bytes), (5, 0))
        listing = self.mine.interface_list(8)
        packet = port.wait(stage.PATIENCE_S)[0]
        self.assertEqual((packet.operation, packet.bytes), (listing, 2 * wire.INTERFACE.size))
        self.assertEqual([interface.name for interface in listing.result()], ["lo", "lo"])
        self.assertEqual({interface.address[0] for interface in listing.result()}, {"127.0.0.1", "192.0.2.1"})

    def test_room(self):
        """9.6 where the output has no room nothing is written, and the record says how much there is"""
        netns.add_address("192.0.2.1")
        listing = self.mine.interface_list(1)
        self.assertTrue(listing.wait(stage.PATIENCE_S))
        self.assertEqual((listing.status, listing.bytes, listing.value), (-errno.ERANGE, 0, 2))
        self.assertEqual(listing.reason, overlap.Reason.OUTPUT_TOO_SMALL)
        self.not_started(errno.EFAULT, self.mine.interface_list, 0, verdict=True)


class Others(section.Case):
    """What has nothing to do with the network of the machine."""

    def test_unknown_codes(self):
        """9.7 a code that there is not is refused"""
        def ask(**common):
            post = self.mine._post(wire.Op.IOCTL, common)  # pylint: disable=protected-access
            post.other = 4711
            return post.start()

        self.not_started(errno.EOPNOTSUPP, ask, verdict=True)
        asking = ask()
        asking.wait(stage.PATIENCE_S)
        self.assertEqual(asking.status, -errno.EOPNOTSUPP)

    def test_bad_parameters(self):
        """9.8 bad parameters start nothing, and nothing is indicated"""
        port = self.port_of(self.mine)
        for idle, interval in ((0, 1), (1, 0), (-1, 1), (1, 1e9)):
            self.not_started(errno.EINVAL, self.mine.keep_alive, idle, interval)
        self.nothing_at(port)
        self.assertEqual(self.session.n_pending(), 0)

    def test_flush(self):
        """9.9 a flush ends what is pending, is told after it, and the socket goes on"""
        self.mine.set_option(overlap.Option.SEND_BUFFER, 16384)
        receives = [self.mine.recv(10, verdict=True) for _ in range(2)]
        sends = [self.mine.send(bytes(1 << 20)) for _ in range(14)]
        self.assertFalse(sends[-1].wait(section.NOTHING_S))
        ended = []
        flushing = self.mine.flush(routine=lambda _: ended.extend(op.status for op in receives + sends[-1:]))
        self.assertTrue(self.session.thread.sleep(stage.PATIENCE_S))
        self.assertIsNone(flushing.result())
        self.assertEqual(ended, [-errno.ECANCELED] * 3)
        self.other.settimeout(None)
        self.other.sendall(b"five!")
        receive = self.mine.recv(10)
        self.assertEqual((receive.finish(stage.PATIENCE_S), receive.data), (5, b"five!"))
        self.mine.shutdown(socket.SHUT_WR)
        arrived = 0
        while data := self.other.recv(1 << 20):
            arrived += len(data)
        self.assertLess(arrived, 14 << 20)


if __name__ == "__main__":
    stage.main()
