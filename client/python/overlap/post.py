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
from overlap.file import File, Range, range_fits
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
        self._items = b""
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
        self._check_lent(buffers)
        self.operation.regions = tuple(buffer.region for buffer in buffers)
        if len(buffers) <= 1:
            self.buffer = buffers[0].slice() if buffers else wire.NO_SLICE
            return
        self.flags |= wire.EntryFlags.VECTOR
        self._put_vector(b"".join(wire.SLICE.pack(*buffer.slice()) for buffer in buffers))

    def _check_lent(self, buffers: Sequence[Buffer]) -> None:
        for buffer in buffers:
            if buffer.region.session is not self._session or buffer.region.number not in self._session.regions:
                raise error(-errno.EFAULT, Reason.UNKNOWN_REGION, "a buffer lies in a region that was closed, or that "
                                                                  "belongs to another session")

    def _put_vector(self, raw: bytes) -> None:
        self.operation.vector = block = self._session.arena.take(len(raw))
        block.view[:] = raw
        self.buffer = block.slice()

    # --- Transmits ------------------------------------------------------------------------------------------------

    def transmit(self, file: File | None, part: Range, head: Bytes | Buffer, tail: Bytes | Buffer) -> None:
        """A range of a file between a head and a tail."""
        self._check_level()
        self.other = self._number_of(file)
        if file is not None:
            self.aux = wire.Slice(part.offset, part.count, 0)
        slices = self._place([head, tail])
        open_end = file is not None and part.count == 0
        self._transmit([part] if file is not None else [], [wire.SLICE.pack(*place) for place in slices]
                       if slices != [wire.NO_SLICE] * 2 else [], len(head) + len(tail), open_end)

    def transmit_packets(self, file: File | None, packets: Sequence[Sequence[Bytes | Buffer | Range]]) -> None:
        """Memory and ranges of a file, in packets."""
        self._check_level()
        self.other = self._number_of(file)
        memory = [part for packet in packets for part in packet if not isinstance(part, Range)]
        ranges = [part for packet in packets for part in packet if isinstance(part, Range)]
        places = iter(self._place(memory))
        elements: list[tuple[wire.Slice, wire.ElementFlags]] = []
        for packet in packets:
            for index, part in enumerate(packet or [b""]):
                ends = wire.ElementFlags.PACKET_END if index + 1 >= len(packet) else wire.ElementFlags(0)
                if isinstance(part, Range):
                    place, ends = wire.Slice(part.offset, part.count, 0), ends | wire.ElementFlags.FILE
                else:
                    place = next(places) if packet else wire.NO_SLICE
                elements.append((place, ends))
        self._transmit(ranges, [wire.ELEMENT.pack(*place, flags) for place, flags in elements],
                       sum(len(part) for part in memory), any(part.count == 0 for part in ranges))

    def _check_level(self) -> None:
        if self._session.level < 1:
            raise error(-errno.EOPNOTSUPP, Reason.LEVEL)

    def _number_of(self, file: File | None) -> int:
        if file is not None and (file.closed or file.session is not self._session):
            raise error(-errno.EBADF, Reason.UNKNOWN_FILE, "the file was closed, or belongs to another session")
        return file.number if file is not None else 0

    def _place(self, parts: list[Bytes | Buffer]) -> list[wire.Slice]:
        """Slices of all parts; what is the program's own is copied into one block."""
        own = [memoryview(part).cast("B") for part in parts if not isinstance(part, Buffer)]
        lent = [part for part in parts if isinstance(part, Buffer)]
        self._check_lent(lent)
        self.operation.regions = tuple(buffer.region for buffer in lent)
        length, at = sum(len(view) for view in own), 0
        if length:
            self.operation.block = self._session.arena.take(length)
        slices: list[wire.Slice] = []
        for part in parts:
            if isinstance(part, Buffer):
                slices.append(part.slice() if len(part) else wire.NO_SLICE)
            elif len(view := own.pop(0)) and (block := self.operation.block) is not None:
                block.view[at:at + len(view)] = view
                slices.append(block[at:at + len(view)].slice())
                at += len(view)
            else:
                slices.append(wire.NO_SLICE)
        return slices

    def _transmit(self, ranges: list[Range], array: list[bytes], n_memory: int, open_end: bool) -> None:
        for part in ranges:
            if not range_fits(part):
                raise error(-errno.EINVAL, Reason.BAD_ELEMENT, f"{part} is no range of a file that one operation sends")
        room = n_memory + sum(part.count for part in ranges)
        if room > wire.TRANSMIT_LEN_MAX:
            raise error(-errno.EMSGSIZE, Reason.BUFFER_TOO_LONG)
        if len(array) > wire.SLICES_MAX:
            raise error(-errno.EMSGSIZE, Reason.TOO_MANY_BUFFERS)
        self.operation.room = wire.TRANSMIT_LEN_MAX if open_end else room
        if array:
            self.flags |= wire.EntryFlags.VECTOR
            self._put_vector(b"".join(array))

    def want_addresses(self, count: int) -> None:
        """Room for the addresses that the operation yields."""
        self.want(count * wire.ADDRESS_SIZE)

    def want(self, length: int) -> None:
        """Room for so many bytes of what the operation yields beside what it receives."""
        self.operation.aux_room = length
        if self._session.level == 0:
            self.flags |= wire.EntryFlags.INLINE
            self.operation.is_inline = True
            self.aux = wire.Slice(0, length, 0)
            self.operation.inline += _pieces(length)
        else:
            self.operation.aux = block = self._session.arena.take(length)
            block.view[:] = bytes(length)
            self.aux = block.slice()

    def send_items(self, raw: bytes) -> None:
        """Control items that go along with what is sent, which was given before."""
        if not raw:
            return
        if self._session.level == 0:
            self._items = raw
            self.aux = wire.Slice(0, len(raw), 0)
        else:
            self.operation.aux = block = self._session.arena.take(len(raw))
            block.view[:] = raw
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
            entries.append((entry._replace(buffer=wire.Slice(0, len(piece), 0), flags=entry.flags | more),
                            bytes(piece) + self._items if self._items else piece))
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

