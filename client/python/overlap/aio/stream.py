# SPDX-License-Identifier: Apache-2.0
"""The transport of a stream.

Several receives are outstanding, and what they get is delivered in their order. A transport that finds no memory for
its receives posts one of no bytes instead, which ends when there is something to read and holds nothing until then;
so thousands of quiet connections cost as many credits, and no memory.

Writes are gathered in a buffer, and up to SENDS_MAX pieces of it are on their way at a time. What counts against the
limits of flow control is both.

Ends: close() stops delivering, lets everything leave, and then closes the socket; abort() and errors close it at once.
Either way the daemon answers the close behind the records of all that was pending, and only then connection_lost() is
called: nothing is in flight any more, and every buffer was given back.
"""

import asyncio
import errno
import socket
from asyncio import constants, futures, transports
from collections import deque
from collections.abc import Callable
from typing import Any

from overlap.aio.file import send_file
from overlap.aio.sock import Socket
from overlap.error import OverlapError
from overlap.message import Message
from overlap.operation import Operation

RECEIVES_MIN, RECEIVES_MAX = 2, 4  # outstanding, for a quiet peer and for one that fills them
RECEIVE_MIN, RECEIVE_MAX = 16384, 65535  # bytes of one
SENDS_MAX = 4
SEND_MAX = 262144  # bytes of one


class StreamTransport(transports._FlowControlMixin, asyncio.Transport):  # type: ignore[misc,name-defined]
    """A connection of the daemon's, as asyncio wants it."""

    _loop: asyncio.AbstractEventLoop
    _extra: dict[str, Any]
    _protocol: Any
    _maybe_pause_protocol: Callable[[], None]
    _protocol_paused: bool

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE  # type: ignore[attr-defined]

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: Socket, protocol: asyncio.BaseProtocol,
                 waiter: "asyncio.Future[None] | None" = None, extra: dict[str, Any] | None = None,
                 server: Any = None) -> None:
        super().__init__(extra, loop)
        sock.know_names()
        self._extra.update(socket=sock, sockname=sock.sockname, peername=sock.peername)
        self._sock, self._service, self._daemon = sock, sock.service, sock.daemon
        self._protocol, self._server = protocol, server
        self._closing = self._closed = self._paused = self._ended = False
        self._eof_wanted = self._eof_sent = self._starving = self._choking = False
        self._error: BaseException | None = None
        self._receive_size, self._n_receives_max = RECEIVE_MIN, RECEIVES_MIN
        self._n_receives, self._has_probe = 0, False
        self._received: deque[Operation] = deque()
        self._buffer = bytearray()
        self._n_sends = self._n_sending = 0  # operations, and their bytes
        self._n_written_in_vain = 0
        self._emptied: asyncio.Future[None] | None = None  # what waits until all that was written has left
        if server is not None:
            server._attach()
        if sock.type == socket.SOCK_STREAM and sock.family != socket.AF_UNIX:
            self._service.ask("socket_option_set", {"socket": self._daemon.id, "option": 7, "value": 1},
                              lambda reply, failure: None)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._begin)
        if waiter is not None:
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        state = "closed" if self._closed else "closing" if self._closing else "open"
        return (f"<{type(self).__name__} {state} {self._daemon!r} receives={self._n_receives} "
                f"unsent={self.get_write_buffer_size()}>")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """What receives from now on."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """What receives."""
        return self._protocol

    # --- Receiving ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._sock.unread and not self._closing:
            data, self._sock.unread = bytes(self._sock.unread), bytearray()
            self._guarded("data_received", self._give, data)
        self._receive()

    def _wants(self) -> bool:
        return not (self._closing or self._paused or self._ended)

    def _receive(self) -> bool:
        """Posts receives up to the number that should be outstanding. Returns False when not even one can be."""
        while self._wants() and not self._has_probe and self._n_receives + len(self._received) < self._n_receives_max:
            if not self._service.has_room(self._receive_size):
                break
            if not self._post_receive(self._receive_size):
                break
        if not self._wants() or self._n_receives or self._received or self._has_probe:
            return True
        return self._service.has_credit() and self._post_receive(0) or self._starve()

    def _starve(self) -> bool:
        if not self._starving:
            self._starving = True
            self._service.wait_turn(self._receive_again)
        return False

    def _receive_again(self) -> bool:
        self._starving = False
        if self._receive():
            return True
        self._starving = True  # it stays in the queue
        return False

    def _post_receive(self, length: int) -> bool:
        try:
            self._daemon.recv(length, routine=self._on_received if length else self._on_probed,
                              thread=self._service.thread)
        except OverlapError as failure:
            if not self._service.is_shortage(failure):
                self._fail(failure)
                return True
            return False
        self._n_receives += length > 0
        self._has_probe = self._has_probe or length == 0
        self._service.flush_soon()
        return True

    def _on_probed(self, operation: Operation) -> None:
        """Something is there to be read: for that there is always room, sooner or later."""
        self._has_probe = False
        failure = operation.failure()
        if failure is not None and not self._service.is_shortage(failure):
            self._on_received(operation, was_probe=True)
        elif self._wants() and not self._post_receive(RECEIVE_MIN):
            self._service.wait_turn(
                lambda: not self._wants() or self._n_receives > 0 or self._post_receive(RECEIVE_MIN))

    def _on_received(self, operation: Operation, was_probe: bool = False) -> None:
        self._n_receives -= not was_probe
        if self._closing or self._ended:
            return
        failure = operation.failure()
        if self._service.is_shortage(failure):
            self._receive()
            return
        if failure is None and operation.bytes == operation.room:
            self._receive_size, self._n_receives_max = RECEIVE_MAX, RECEIVES_MAX
        self._received.append(operation)
        self._deliver()

    def _deliver(self) -> None:
        while self._received and self._wants():
            operation = self._received.popleft()
            if failure := operation.failure():
                self._fail(failure)
            elif operation.bytes == 0:
                self._deliver_eof()
            else:
                self._guarded("data_received", self._give, operation.data)
        self._receive()

    def _give(self, data: bytes) -> None:
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            self._protocol.data_received(data)
            return
        view = memoryview(data)
        while view and not self._closing:
            buffer = memoryview(self._protocol.get_buffer(len(view))).cast("B")
            if not buffer:
                raise RuntimeError("get_buffer() returned an empty buffer")
            n_bytes = min(len(buffer), len(view))
            buffer[:n_bytes] = view[:n_bytes]
            self._protocol.buffer_updated(n_bytes)
            view = view[n_bytes:]

    def _deliver_eof(self) -> None:
        self._ended = True
        self._received.clear()

        def give() -> None:
            if not self._protocol.eof_received():
                self.close()

        self._guarded("eof_received", give)

    def _guarded(self, what: str, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            self._fail(failure, f"the protocol's {what}() failed")

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Delivers nothing until resume_reading(); what is outstanding is kept."""
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        """Delivers what was kept, soon, and goes on."""
        if self._paused and not self._closing:
            self._paused = False
            self._loop.call_soon(self._deliver)

    # --- Sending --------------------------------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._buffer) + self._n_sending

    def can_write_eof(self) -> bool:
        """True: streams can be closed by half."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends, later. data: copied."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._emptied is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if not data:
            return
        if self._closing and (self._error is not None or self._closed or not self._is_leaving()):
            self._n_written_in_vain += 1
            return
        self._buffer += data
        self._push()
        self._maybe_pause_protocol()

    def writelines(self, list_of_data: Any) -> None:
        """write() of all of them together."""
        self.write(b"".join(list_of_data))

    def _is_leaving(self) -> bool:
        return bool(self._buffer) or self._n_sends > 0

    def _push(self) -> None:
        """Posts what may be on its way."""
        while self._buffer and self._n_sends < SENDS_MAX and not self._choking:
            piece = bytes(memoryview(self._buffer)[:SEND_MAX])
            try:
                self._daemon.send(piece, routine=self._on_sent, thread=self._service.thread)
            except OverlapError as failure:
                if self._service.is_shortage(failure):
                    self._choking = True
                    self._service.wait_turn(self._push_again)
                else:
                    self._fail(failure)
                return
            del self._buffer[:len(piece)]
            self._n_sends += 1
            self._n_sending += len(piece)
            self._service.flush_soon()
        if self._eof_wanted and not self._eof_sent and not self._buffer and not self._closed:
            self._eof_sent = True
            self._service.ask("socket_shutdown", {"socket": self._daemon.id, "direction": 2},
                              lambda reply, failure: None)

    def _push_again(self) -> bool:
        self._choking = False
        if self._error is None and not self._closed:
            self._push()
        return not self._choking

    def _on_sent(self, operation: Operation) -> None:
        self._n_sends -= 1
        self._n_sending -= operation.room
        if self._closed or self._error is not None:
            return
        if failure := operation.failure():
            self._fail(failure)
            return
        self._maybe_resume_protocol()
        self._push()
        if self._emptied is not None and not self._is_leaving():
            futures._set_result_unless_cancelled(self._emptied, None)  # type: ignore[attr-defined]
        if self._closing and not self._is_leaving():
            self._close_socket()

    async def send_file(self, file: Any, offset: int, count: int | None) -> int:
        """Sends a file behind what was written: for the loop's sendfile(). Returns the bytes that were sent."""
        if self._emptied is not None:
            raise RuntimeError("another sendfile() of this transport has not ended")
        was_reading = self.is_reading()
        self.pause_reading()
        self._emptied = self._loop.create_future()
        try:
            if self._is_leaving():
                await self._emptied
            return await send_file(self._sock, file, offset, count)
        finally:
            self._emptied = None
            if was_reading:
                self.resume_reading()

    def _maybe_resume_protocol(self) -> None:
        """asyncio's sendfile() may leave its own pause to the protocol that it puts back, which then was never paused
        and would not have itself resumed."""
        if self._protocol_paused and not getattr(self._protocol, "_paused", True):
            self._protocol_paused = False
        super()._maybe_resume_protocol()  # type: ignore[misc]

    def write_eof(self) -> None:
        """Sends the end of the stream behind what was written. The other direction stays open."""
        if not self._closing and not self._eof_wanted:
            self._eof_wanted = True
            self._push()

    # --- Ends -----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._closing

    def close(self) -> None:
        """Closes it when what was written has left."""
        if not self._closing:
            self._closing = True
            if not self._is_leaving():
                self._close_socket()

    def abort(self) -> None:
        """Closes it at once; what has not left is lost."""
        self._give_up(None)

    def _force_close(self, exc: BaseException | None) -> None:  # asyncio's TLS asks for it by this name
        self._give_up(exc)

    def _fail(self, failure: BaseException, message: str = "Fatal error on transport") -> None:
        if not isinstance(failure, OSError):
            self._loop.call_exception_handler(
                {"message": message, "exception": failure, "transport": self, "protocol": self._protocol})
        self._give_up(failure)

    def _give_up(self, failure: BaseException | None) -> None:
        if self._closed:
            return
        self._error = self._error or failure
        self._closing = True
        self._buffer.clear()
        self._close_socket()

    def _close_socket(self) -> None:
        if self._closed:
            return
        self._closed = self._daemon.closed = True
        self._received.clear()
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_exception(ConnectionError("Connection is closed by peer"))
        self._service.ask("socket_close", {"socket": self._daemon.id}, self._on_closed)

    def _on_closed(self, reply: Message, failure: OverlapError | None) -> None:
        if failure is not None and failure.errno != errno.EBADF:
            self._error = self._error or failure
        server, self._server = self._server, None
        try:
            self._protocol.connection_lost(self._error)
        finally:
            if server is not None:
                server._detach()
