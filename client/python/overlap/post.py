# SPDX-License-Identifier: Apache-2.0
"""Posting: from what a program says of its buffers to an entry.

Buffers are of two kinds. Those that lie in a region of the session are named by slices, and nothing is copied. All
others (bytes, bytearray, memoryview, or only a length) are the program's own: at level 1 they are copied through a
block of the session's arena, at level 0 they travel in the frames. Either way the program sees the same operation.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from overlap import address as addresses
from overlap import wire
from overlap.error import Reason, error
from overlap.operation import Operation, Routine
from overlap.region import Buffer

if TYPE_CHECKING:
    from overlap.socket import Socket
    from overlap.thread import Thread

Bytes = Union[bytes, bytearray, memoryview]
SendBuffers = Union[Bytes, Buffer, Sequence[Buffer]]
ReceiveBuffers = Union[int, bytearray, memoryview, Buffer, Sequence[Buffer]]


def _pieces(length: int) -> int:
    """What the daemon keeps payload of this length in, in bytes."""
    return -(-length // wire.INLINE_PIECE) * wire.INLINE_PIECE


class Post:
    """An operation while it is being described."""

    def __init__(self, thread: "Thread", socket: "Socket | None", op: wire.Op, routine: Routine | None = None, *,
                 verdict: bool = False, quiet: bool = False, user: Any = None) -> None:
        """verdict: wait until it is refused, done or truly pending. quiet: nothing to the socket's port. user: the
        program's own."""
        self.operation = Operation(thread, socket, op)
        self.operation.routine, self.operation.user, self.operation.verdict = routine, user, verdict
        self.operation.indication = (wire.Indication.ROUTINE if routine else wire.Indication.QUIET if quiet
                                     else wire.Indication.PLAIN)
        self.flags = wire.EntryFlags.WANT_VERDICT if verdict else wire.EntryFlags(0)
        self.op_flags = self.other = 0
        self.buffer = self.aux = wire.NO_SLICE
        self.address = b""
        self._payload: Bytes = b""
        self._session = thread.session

    # --- Buffers --------------------------------------------------------------------------------------------------

    def send(self, data: SendBuffers) -> None:
        """What is sent."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            view = memoryview(data).cast("B") if isinstance(data, memoryview) else data
            self._send_own(view)
        else:
            self._lend([data] if isinstance(data, Buffer) else list(data))

    def _send_own(self, data: Bytes) -> None:
        self.operation.room = len(data)
        if len(data) > wire.INLINE_OP_LEN_MAX:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG, f"{len(data)} bytes: an operation on the program's "
                        f"own memory moves at most {wire.INLINE_OP_LEN_MAX}; split it, or send from a region")
        if self._session.level == 0:
            self.flags |= wire.EntryFlags.INLINE
            self.operation.is_inline = True
            self._payload = data
            self.operation.inline = _pieces(len(data))
        elif data:
            self.operation.block = block = self._session.arena.take(len(data))
            block.view[:] = data
            self.buffer = block.slice()

    def receive(self, buffers: ReceiveBuffers, stream: bool) -> None:
        """Where to receive to. stream: fewer bytes than there is room for are fine."""
        if isinstance(buffers, (int, bytearray, memoryview)):
            if isinstance(buffers, int):
                length = buffers
            else:
                self.operation.target = memoryview(buffers).cast("B")
                length = len(self.operation.target)
            self._receive_own(length, stream)
            return
        lent = [buffers] if isinstance(buffers, Buffer) else list(buffers)
        if not lent:
            raise error(-errno.EINVAL, Reason.NONE, "no buffer: a receive that only waits for data has one of 0 bytes")
        self._lend(lent)

    def _receive_own(self, length: int, stream: bool) -> None:
        most = wire.INLINE_LEN_MAX if self._session.level == 0 else wire.INLINE_OP_LEN_MAX
        if length > most and self.op_flags & wire.MessageFlags.WAITALL:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG, f"{length} bytes: at level {self._session.level} a "
                        f"receive to the program's own memory that waits for all moves at most {most}")
        self.operation.room = length = min(length, most)
        self.operation.is_own = True
        if self._session.level == 0:
            self.flags |= wire.EntryFlags.INLINE
            self.operation.is_inline = True
            self.buffer = wire.Slice(0, length, 0)
            self.operation.inline = _pieces(length)
        elif length:
            self.operation.block = block = self._session.arena.take(length)
            self.buffer = block.slice()

    def _lend(self, buffers: list[Buffer]) -> None:
        self.operation.room = sum(len(buffer) for buffer in buffers)
        if len(buffers) > wire.SLICES_MAX:
            raise error(-errno.EMSGSIZE, Reason.TOO_MANY_BUFFERS)
        if self.operation.room > wire.LEN_MAX:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG)
        for buffer in buffers:
            if buffer.region.session is not self._session or buffer.region.number not in self._session.regions:
                raise error(-errno.EFAULT, Reason.UNKNOWN_REGION, "a buffer lies in a region that was closed, or that "
                                                                  "belongs to another session")
        self.operation.regions = tuple(buffer.region for buffer in buffers)
        if len(buffers) <= 1:
            self.buffer = buffers[0].slice() if buffers else wire.NO_SLICE
            return
        raw = b"".join(wire.SLICE.pack(*buffer.slice()) for buffer in buffers)
        self.flags |= wire.EntryFlags.VECTOR
        self.operation.vector = block = self._session.arena.take(len(raw))
        block.view[:] = raw
        self.buffer = block.slice()

    def want_addresses(self, count: int) -> None:
        """Room for the addresses that the operation yields."""
        self.operation.aux_room = length = count * wire.ADDRESS_SIZE
        if self.flags & wire.EntryFlags.INLINE:
            self.aux = wire.Slice(0, length, 0)
            self.operation.inline += _pieces(length)
        else:
            self.operation.aux = block = self._session.arena.take(length)
            block.view[:] = bytes(length)
            self.aux = block.slice()

    # --- Entries --------------------------------------------------------------------------------------------------

    def _entries(self, tag: int) -> list[tuple[wire.Entry, Bytes]]:
        operation = self.operation
        entry = wire.Entry(tag, operation.socket.id if operation.socket else 0, operation.op, operation.indication,
                           self.flags, self.op_flags, self.buffer, self.other, self.aux, self.address)
        if not self.flags & wire.EntryFlags.INLINE or self.buffer.len:
            return [(entry, b"")]
        return self._split(entry)

    def _split(self, entry: wire.Entry) -> list[tuple[wire.Entry, Bytes]]:
        """An inline send in pieces that entries can hold."""
        view = memoryview(self._payload)
        entries: list[tuple[wire.Entry, Bytes]] = []
        for at in range(0, max(len(view), 1), wire.INLINE_LEN_MAX):
            piece = view[at:at + wire.INLINE_LEN_MAX]
            more = wire.EntryFlags.MORE if at + len(piece) < len(view) else wire.EntryFlags(0)
            entries.append((entry._replace(buffer=wire.Slice(0, len(piece), 0), flags=entry.flags | more), piece))
        return entries

    def start(self) -> Operation:
        """Posts it. Returns the operation. Raises OverlapError when it could not be posted, or with a verdict was
        refused; then nothing is indicated."""
        operation = self.operation
        try:
            self._session.begin(operation, self._entries)
        except BaseException:
            self.drop()
            raise
        if operation.verdict:
            self._session.verdict(operation)
        else:
            operation.thread.post_flush()
        return operation

    def drop(self) -> None:
        """Gives back what a post took that did not come about."""
        operation = self.operation
        with self._session.lock:
            for block in (operation.block, operation.aux, operation.vector):
                if block is not None:
                    self._session.arena.give(block)
        operation.block = operation.aux = operation.vector = None

