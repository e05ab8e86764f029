# SPDX-License-Identifier: Apache-2.0
"""The transport of datagrams: several receives outstanding, and sends that wait their turn.

A datagram that cannot be sent, or an error that the network reports for an earlier one, is told by error_received(),
and the transport goes on.
"""

import asyncio
import errno
from asyncio import futures, transports
from collections import deque
from collections.abc import Callable
from typing import Any

from overlap.aio.sock import Socket
from overlap.error import OverlapError
from overlap.message import Message
from overlap.operation import Operation

RECEIVES = 4
DATAGRAM_MAX = 65535
SENDS_MAX = 32


class DatagramTransport(transports._FlowControlMixin, asyncio.DatagramTransport):  # type: ignore[misc,name-defined]
    """A datagram socket of the daemon's, as asyncio wants it."""

    _loop: asyncio.AbstractEventLoop
    _extra: dict[str, Any]
    _protocol: Any
    _maybe_pause_protocol: Callable[[], None]
    _maybe_resume_protocol: Callable[[], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: Socket, protocol: asyncio.DatagramProtocol,
                 address: Any = None, waiter: "asyncio.Future[None] | None" = None,
                 extra: dict[str, Any] | None = None) -> None:
        super().__init__(extra, loop)
        sock.know_names()
        self._extra.update(socket=sock, sockname=sock.sockname, peername=sock.peername)
        self._service, self._daemon = sock.service, sock.daemon
        self._protocol, self._address = protocol, address
        self._is_connected = sock.peername is not None
        self._closing = self._closed = self._starving = self._choking = False
        self._error: BaseException | None = None
        self._n_receives = self._n_sends = self._n_unsent = 0
        self._queue: deque[tuple[bytes, Any]] = deque()
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._receive)
        if waiter is not None:
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)  # type: ignore[attr-defined]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """What receives from now on."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """What receives."""
        return self._protocol

    # --- Receiving ------------------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        while not self._closing and self._n_receives < RECEIVES:
            if self._n_receives and not self._service.has_room(DATAGRAM_MAX):
                break
            try:
                self._daemon.recvfrom(DATAGRAM_MAX, routine=self._on_received, thread=self._service.thread)
            except OverlapError as failure:
                if self._service.is_shortage(failure):
                    break
                self._give_up(failure)
                return True
            self._n_receives += 1
            self._service.flush_soon()
        if self._closing or self._n_receives:
            return True
        if not self._starving:
            self._starving = True
            self._service.wait_turn(self._receive_again)
        return False

    def _receive_again(self) -> bool:
        self._starving = False
        is_served = self._receive()
        self._starving = not is_served
        return is_served

    def _on_received(self, operation: Operation) -> None:
        self._n_receives -= 1
        failure = operation.failure()
        if self._closing:
            return
        if failure is None:
            self._call(self._protocol.datagram_received, operation.data, operation.address)
        elif operation.status in (-errno.EBADF, -errno.ECONNABORTED, -errno.EOPNOTSUPP):
            self._give_up(failure)
        elif not self._service.is_shortage(failure):
            self._call(self._protocol.error_received, failure)
        self._receive()

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self._loop.call_exception_handler({"message": "a datagram protocol failed", "exception": failure,
                                               "transport": self, "protocol": self._protocol})
            self._give_up(failure)

    # --- Sending --------------------------------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._n_unsent

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Sends one datagram, later. data: copied. addr: None: to the peer."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._address is not None and addr not in (None, self._address):
            raise ValueError(f"Invalid address: must be None or {self._address}")
        if self._closing:
            return
        self._queue.append((bytes(data), addr or self._address))
        self._n_unsent += len(data)
        self._push()
        self._maybe_pause_protocol()

    def _push(self) -> None:
        while self._queue and self._n_sends < SENDS_MAX and not self._choking:
            data, address = self._queue[0]
            try:
                if self._is_connected or address is None:
                    self._daemon.send(data, routine=self._on_sent, thread=self._service.thread)
                else:
                    self._daemon.sendto(data, address, routine=self._on_sent, thread=self._service.thread)
            except OverlapError as failure:
                if self._service.is_shortage(failure):
                    self._choking = True
                    self._service.wait_turn(self._push_again)
                    return
                self._n_unsent -= len(data)
                self._call(self._protocol.error_received, failure)
            else:
                self._n_sends += 1
                self._service.flush_soon()
            if self._queue:
                self._queue.popleft()

    def _push_again(self) -> bool:
        self._choking = False
        if not self._closed:
            self._push()
        return not self._choking

    def _on_sent(self, operation: Operation) -> None:
        self._n_sends -= 1
        self._n_unsent -= operation.room
        if self._closed:
            return
        if failure := operation.failure():
            self._call(self._protocol.error_received, failure)
        self._maybe_resume_protocol()
        self._push()
        if self._closing and not self._n_sends and not self._queue:
            self._close_socket()

    # --- Ends -----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._closing

    def close(self) -> None:
        """Closes it when what was sent has left."""
        if not self._closing:
            self._closing = True
            if not self._n_sends and not self._queue:
                self._close_socket()

    def abort(self) -> None:
        """Closes it at once; what has not left is lost."""
        self._give_up(None)

    def _give_up(self, failure: BaseException | None) -> None:
        self._error = self._error or failure
        self._closing = True
        self._queue.clear()
        self._close_socket()

    def _close_socket(self) -> None:
        if not self._closed:
            self._closed = self._daemon.closed = True
            self._service.ask("socket_close", {"socket": self._daemon.id}, self._on_closed)

    def _on_closed(self, reply: Message, failure: OverlapError | None) -> None:
        self._protocol.connection_lost(self._error)
