# SPDX-License-Identifier: Apache-2.0
"""Completion ports: queues of completions from which any number of threads take."""

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from overlap.channel import Channel, timed_out
from overlap.error import error
from overlap.wait import deadline_of

if TYPE_CHECKING:
    from overlap.operation import Operation
    from overlap.session import Session
    from overlap.socket import Socket


class Packet(NamedTuple):
    """What a port delivers: the end of an operation, or what somebody posted."""

    key: int  # of the socket's association, or as posted
    operation: "Operation | None" = None  # which has ended; None: posted
    bytes: int = 0  # transferred, or as posted
    status: int = 0  # of the operation
    value: Any = None  # as posted


class Port:
    """Made by Session.port_open()."""

    def __init__(self, session: "Session", number: int, channel: Channel) -> None:
        self.session, self.number, self.channel = session, number, channel
        self.closed = False
        self._packets: deque[Packet] = deque()

    def associate(self, socket: "Socket", key: int = 0) -> None:
        """Associates a socket with this port for the socket's life: what ends on it from now on comes here.

        key: 64 bits, which every packet of the socket carries. Raises OverlapError: EEXIST (HAS_PORT).
        """
        self.session.request("port_associate", {"socket": socket.id, "port": self.number, "key": key})
        socket.port, socket.key = self, key

    def queue(self, packet: Packet) -> None:
        """Puts a packet there. With the lock held."""
        if not self.closed:
            self._packets.append(packet)

    def post(self, key: int, bytes: int = 0, value: Any = None) -> None:
        """Posts a packet of the program's own. Any thread may. Raises OverlapError (ECANCELED) on a closed port."""
        with self.session.lock:
            if self.closed:
                raise error(-errno.ECANCELED, 0, "the port was closed")
            self.queue(Packet(key, None, bytes, 0, value))
            self.session.lobby.changed()

    def wait(self, timeout: float | None = None, *, maximum: int = 1) -> list[Packet]:
        """Takes packets in the order in which they came. The thread that came last to wait is served first.

        timeout: seconds; None: for ever. maximum: packets to be taken at once, 1 or more. Not an alertable wait.
        Returns 1 packet or more. Raises OverlapError: ETIMEDOUT, ECANCELED when the port was closed, ECONNABORTED when
        the daemon is gone and no packet is left.
        """
        def attempt() -> list[Packet] | None:
            if self._packets:
                return [self._packets.popleft() for _ in range(min(maximum, len(self._packets)))]
            return [] if self.closed or self.session.lost else None

        self.session.flush()
        deadline = deadline_of(timeout)
        packets = self.session.lobby.wait(attempt, deadline)
        if packets:
            return packets
        if packets is None:
            raise timed_out("the wait on the port", deadline)
        if not self.closed:
            self.session.check()
        raise error(-errno.ECANCELED, 0, "the port was closed")

    def close(self) -> None:
        """Closes the port: who waits on it gets ECANCELED, packets that nobody took are dropped. Its sockets stay open;
        what ends on them from now on is told by its operation alone. Closing twice is fine."""
        with self.session.lock:
            self.closed = True
            self._packets.clear()
            self.session.ports.pop(self.number, None)
            self.channel.close()
            self.session.lobby.changed()

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
