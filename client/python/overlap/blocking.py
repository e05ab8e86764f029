# SPDX-License-Identifier: Apache-2.0
"""A socket's operations as blocking calls, in the manner of Python's socket module.

Below each call is an overlapped operation, which stands in the socket's queues among all others. A call that has to
wait does so alertably: routines and APCs of the calling thread run, and it goes on. What was moved before a timeout is
the call's result: nothing is lost.
"""

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from overlap.error import error
from overlap.items import ITEMS_SIZE, Items
from overlap.operation import Operation
from overlap.post import SendBuffers
from overlap.wait import deadline_of
from overlap.wire import ReceivedFlags

if TYPE_CHECKING:
    from overlap.socket import Socket


class BlockingSocket:
    """A view of a Socket, made by Socket.blocking(). Timeout and mode are the view's own: operations that are posted on
    the socket itself do not go by them."""

    def __init__(self, socket: "Socket", timeout: float | None = None) -> None:
        self.socket = socket
        self._timeout = timeout

    def settimeout(self, timeout: float | None) -> None:
        """How long a call may take, in seconds. None: for ever. 0: non-blocking mode. See socket.settimeout()."""
        if timeout is not None and timeout < 0:
            raise ValueError(f"a timeout of {timeout} seconds: it is 0 or more, or None")
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Shorthand for settimeout(None) or settimeout(0)."""
        self._timeout = None if flag else 0

    def getblocking(self) -> bool:
        """Whether calls may wait."""
        return self._timeout != 0

    # --- Calls ----------------------------------------------------------------------------------------------------

    def connect(self, address: Any) -> None:
        """Connects. Raises OverlapError: ETIMEDOUT, EOPNOTSUPP in non-blocking mode (Socket.connect() does not block),
        or what the connect ended with."""
        if self._timeout == 0:
            raise error(-errno.EOPNOTSUPP, 0,
                        "in non-blocking mode a connect would be cancelled: Socket.connect() does not block")
        self._call(self.socket.connect, address)

    def accept(self) -> "BlockingSocket":
        """Accepts a connection: the view of it has this one's timeout. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        return BlockingSocket(self._call(self.socket.accept).result(), self._timeout)

    def recv(self, size: int, *, waitall: bool = False) -> bytes:
        """Receives at most so many bytes; none at the end of a stream. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        return self._call(self.socket.recv, size, waitall=waitall).data or b""

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        """Receives a datagram, and tells its sender. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        operation = self._call(self.socket.recvfrom, size)
        return operation.data or b"", operation.address

    def recvmsg(self, size: int, room: int = ITEMS_SIZE) -> tuple[bytes, Items, ReceivedFlags, Any]:
        """Receives a datagram: its bytes, its items, flags and sender. One that was cut, or whose items were, is no
        error: the flags say so. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        operation = self._call(self.socket.recvmsg, size, room)
        return operation.data or b"", operation.items or Items(), operation.received, operation.address

    def send(self, data: SendBuffers) -> int:
        """Sends all bytes, or as many as leave within the timeout; returns how many. Raises OverlapError: ETIMEDOUT or
        EAGAIN when none did."""
        return self._call(self.socket.send, data).bytes

    def sendto(self, data: SendBuffers, address: Any) -> int:
        """Sends a datagram to an address. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        return self._call(self.socket.sendto, data, address).bytes

    def sendmsg(self, data: SendBuffers, items: Items = Items(), address: Any = None) -> int:
        """Sends a datagram with items. Raises OverlapError: ETIMEDOUT or EAGAIN."""
        return self._call(self.socket.sendmsg, data, items, address).bytes

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()

    def _call(self, post: Callable[..., Operation], *arguments: Any, **options: Any) -> Operation:
        """Posts, and waits for the end. Returns the operation, which has succeeded or moved bytes."""
        deadline = deadline_of(self._timeout)
        operation = post(*arguments, verdict=True, quiet=True, **options)
        while not operation.done and (left := self._left(deadline)) != 0:
            operation.wait(left, alertable=True)
        was_cancelled = not operation.done and operation.cancel()
        if operation.status == -errno.ECANCELED and operation.bytes:
            return operation
        if was_cancelled:
            raise error(-errno.ETIMEDOUT if self._timeout else -errno.EAGAIN, operation.reason,
                        f"{operation.op.name}: it was not done within {self._timeout} seconds, and was cancelled")
        if (failure := operation.explained()) and operation.items is None:
            raise failure
        return operation

    @staticmethod
    def _left(deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - time.monotonic())
