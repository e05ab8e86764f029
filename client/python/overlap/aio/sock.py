# SPDX-License-Identifier: Apache-2.0
"""What stands where asyncio has a socket: a socket of the daemon with the methods of Python's socket that asyncio and
its users call. It never blocks on the network: what transfers is loop.sock_*(); the methods here ask the daemon,
which answers at once.
"""

import contextlib
import errno
import socket
from typing import Any

from overlap.aio.service import Service
from overlap.error import OverlapError, Reason, error
from overlap.options import option_of
from overlap.socket import Socket as DaemonSocket


class Socket:
    """A socket of the daemon for loop.sock_*(), create_connection(sock=...) and so on: see open_socket()."""

    def __init__(self, service: Service, daemon: DaemonSocket) -> None:
        self.service, self.daemon = service, daemon
        self.family, self.type = daemon.family, daemon.type
        self.proto = socket.IPPROTO_TCP if self.type == socket.SOCK_STREAM else socket.IPPROTO_UDP
        self.unread = bytearray()  # what a cancelled receive got
        self.accepted: list[Socket] = []  # what a cancelled accept got
        self.sockname: Any = None  # once it cannot change any more
        self.peername: Any = None
        self.remote: Any = None  # where datagrams go that name no address

    def __repr__(self) -> str:
        return f"<overlap.aio.Socket of {self.daemon!r}, laddr={self.sockname}, raddr={self.peername}>"

    def fileno(self) -> int:
        """-1: the descriptor is the daemon's."""
        return -1

    def gettimeout(self) -> float:
        """0: it is what Python calls non-blocking."""
        return 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Only 0 is possible."""
        self.setblocking(timeout is None or timeout != 0)

    def setblocking(self, flag: bool) -> None:
        """Only False is possible."""
        if flag:
            raise ValueError("a socket of the daemon is used with loop.sock_*(), which never blocks")

    def bind(self, address: Any) -> None:
        """See Socket.bind()."""
        self.daemon.bind(address)

    def listen(self, backlog: int = 128) -> None:
        """See Socket.listen()."""
        self.daemon.listen(max(backlog, 1))
        self.sockname = self.daemon.getsockname()

    def shutdown(self, how: int) -> None:
        """See Socket.shutdown()."""
        self.daemon.shutdown(how)

    def getsockname(self) -> Any:
        """The local address."""
        return self.sockname or self.daemon.getsockname()

    def getpeername(self) -> Any:
        """The peer's address."""
        return self.peername or self.daemon.getpeername()

    def setsockopt(self, level: int, option: int, value: Any, length: int | None = None) -> None:
        """Sets one of the options that overlap.Option lists. Raises OverlapError: ENOPROTOOPT for others."""
        if not isinstance(value, int) or length is not None:
            raise error(-errno.ENOPROTOOPT, Reason.UNKNOWN_OPTION, "the daemon takes options whose values are numbers")
        self.daemon.set_option(option_of(level, option), int(value))

    def getsockopt(self, level: int, option: int, size: int = 0) -> int:
        """The value of such an option."""
        if size:
            raise error(-errno.ENOPROTOOPT, Reason.UNKNOWN_OPTION, "the daemon gives options whose values are numbers")
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            return int(self.type)
        return self.daemon.get_option(option_of(level, option))

    def close(self) -> None:
        """Closes it, without waiting."""
        self.service.forget(self.daemon)
        for connection in self.accepted:
            connection.close()

    def know_names(self) -> None:
        """Asks for the names that nobody has asked for: the program brought the socket along."""
        if self.sockname is None:
            with contextlib.suppress(OverlapError):
                self.sockname = self.daemon.getsockname()
                self.peername = self.daemon.getpeername()

    async def learn_names(self) -> None:
        """Asks for both names, so that they can be told without waiting."""
        self.sockname = await self._name(False)
        if self.peername is None:
            with contextlib.suppress(OverlapError):  # it has none, or is gone already
                self.peername = await self._name(True)

    async def _name(self, peer: bool) -> Any:
        from overlap import address as addresses

        reply = await self.service.request("socket_name", {"socket": self.daemon.id, "peer": peer})
        return addresses.from_message(reply.get("socket_name", {}).get("address", {}))

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
