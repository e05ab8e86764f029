# SPDX-License-Identifier: Apache-2.0
"""One overlapped operation: from its post until its record has come, and what it came to.

The object belongs to the program and to the library at once: the library keeps it until the record has come, so a
program may forget an operation whose end does not interest it. The results are written once, `done` last.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from overlap import address as addresses
from overlap import wire
from overlap.error import OverlapError, Reason, error
from overlap.interface import Interface, interface_from_wire
from overlap.items import Items, items_from_wire
from overlap.wait import deadline_of
from overlap.channel import timed_out

if TYPE_CHECKING:
    from overlap.region import Block, Region
    from overlap.session import Session
    from overlap.socket import Socket
    from overlap.thread import Thread

Routine = Callable[["Operation"], None]


class Operation:
    """An operation that was posted. Made by the methods of Socket and by Session.resolve_start().

    Results, once `done` is set: `status` (0 or -errno), `bytes` (transferred), `value` (what it yields beyond bytes),
    `reason`, `flags` (wire.RecordFlags), `data` (what a receive without a buffer of the program's got), `address` (of a
    datagram's sender, or of the other side of a connection that was accepted), `local` (of this side), `items` and
    `received` (of a message: what came with it, and wire.ReceivedFlags). `user` is the program's own.
    """

    __slots__ = ("session", "thread", "socket", "op", "tag", "indication", "routine", "user", "done", "status", "bytes",
                 "value", "reason", "flags", "data", "address", "local", "addresses", "into", "accepted", "room",
                 "aux_room", "target", "block", "aux", "vector", "regions", "inline", "number", "verdict", "is_own",
                 "is_inline", "ioctl", "interfaces", "items", "received")

    def __init__(self, thread: "Thread", socket: "Socket | None", op: wire.Op) -> None:
        self.session: Session = thread.session
        self.thread, self.socket, self.op = thread, socket, op
        self.indication = wire.Indication.PLAIN
        self.tag = self.status = self.bytes = self.value = self.reason = self.flags = 0
        self.number = 0  # its place among the entries of the channel
        self.routine: Routine | None = None
        self.user: Any = None
        self.done = self.verdict = self.is_own = self.is_inline = False
        self.data: bytes | None = None
        self.address: Any = None
        self.local: Any = None
        self.addresses: list[tuple[int, Any]] = []
        self.into: Socket | None = None  # that was prepared for an accept
        self.accepted: Socket | None = None
        self.ioctl: wire.Ioctl | None = None
        self.interfaces: list[Interface] = []
        self.items: Items | None = None
        self.received = wire.ReceivedFlags(0)
        self.room = self.aux_room = 0  # bytes that the record may report
        self.target: memoryview | None = None  # where received bytes are copied to
        self.block: Block | None = None  # of the arena: what is sent or received
        self.aux: Block | None = None
        self.vector: Block | None = None
        self.regions: tuple[Region, ...] = ()
        self.inline = 0  # payload that the daemon holds for it, in whole pieces

    def __repr__(self) -> str:
        state = f"status {self.status}, {self.bytes} bytes" if self.done else "pending"
        return f"<Operation {self.op.name} tag {self.tag}: {state}>"

    def take(self, record: wire.Record, payload: memoryview) -> None:
        """Takes the results from a record, and copies what came to where the program wants it. With the lock held,
        before the buffers are given back.

        payload: what travelled in the frame: the bytes of the buffer, then those of aux. Raises ValueError when the
        record reports what cannot be; the operation has then not ended.
        """
        is_question = self.op in (wire.Op.RESOLVE, wire.Op.IOCTL)
        if record.bytes > (self.aux_room if is_question else self.room) or record.status > 0:
            raise ValueError(f"a record reports {record.bytes} bytes of {self.room} that were lent, and the status "
                             f"{record.status}")
        n_data = record.bytes if self.is_own and not is_question else 0
        expected = (n_data, n_data + (record.bytes if is_question else self.aux_room)) if self.is_inline else (0, 0)
        if len(payload) not in expected:
            raise ValueError(f"{len(payload)} bytes of payload came with a record of {record.bytes} bytes")
        self.bytes, self.value, self.status = record.bytes, record.value, record.status
        self.flags, self.reason = record.flags, record.reason
        self._collect(payload, n_data)

    def _collect(self, payload: memoryview, n_data: int) -> None:
        if self.is_own:
            source = self.block.view if self.block is not None else payload
            if self.target is not None:
                self.target[:n_data] = source[:n_data]
            else:
                self.data = bytes(source[:n_data])
        if self.aux_room and (self.aux is not None or len(payload) > n_data):
            self._collect_aux(self.aux.view if self.aux is not None else payload[n_data:])
        if self.op == wire.Op.ACCEPT and self.status == 0 and self.socket is not None:
            self.accepted = self.into or self.socket.sibling(self.value)

    def _collect_aux(self, raw: memoryview) -> None:
        if self.op == wire.Op.IOCTL:
            self._collect_output(raw)
        elif self.op == wire.Op.RECVMSG:
            self._collect_message(raw)
        elif self.op == wire.Op.RESOLVE:
            for at in range(0, self.bytes - self.bytes % wire.ADDRESS_SIZE, wire.ADDRESS_SIZE):
                part = raw[at:at + wire.ADDRESS_SIZE]
                self.addresses.append((addresses.family_of_wire(part), addresses.from_wire(part)))
        elif self.op == wire.Op.ACCEPT and self.status == 0:
            self.local = addresses.from_wire(raw[:wire.ADDRESS_SIZE])
            self.address = addresses.from_wire(raw[wire.ADDRESS_SIZE:])
        elif self.op != wire.Op.ACCEPT and len(raw) >= wire.ADDRESS_SIZE:
            self.address = addresses.from_wire(raw)

    def _collect_message(self, raw: memoryview) -> None:
        """The header and the items of a message. There are none where no datagram was taken."""
        truncated = wire.RecordFlags.TRUNCATED | wire.RecordFlags.CONTROL_TRUNCATED
        if self.status != 0 and not self.flags & truncated:
            return
        address, flags, length, reserved = wire.MESSAGE.unpack_from(raw)
        if reserved or length > self.aux_room - wire.MESSAGE.size:
            raise ValueError(f"a message has {length} bytes of items in a place of {self.aux_room}")
        self.address, self.received = addresses.from_wire(address), wire.ReceivedFlags(flags)
        self.items = items_from_wire(bytes(raw[wire.MESSAGE.size:wire.MESSAGE.size + length]))

    def _collect_output(self, raw: memoryview) -> None:
        """What an ioctl wrote: as many bytes as the record says."""
        if self.ioctl == wire.Ioctl.INTERFACE_LIST:
            self.interfaces = [interface_from_wire(raw[at:at + wire.INTERFACE.size])
                               for at in range(0, self.bytes, wire.INTERFACE.size)]
        elif self.bytes:
            self.address = addresses.from_wire(raw)

    def goes_to_port(self) -> bool:
        """Whether its end is a packet of the socket's port."""
        return self.indication == wire.Indication.PLAIN and self.socket is not None and self.socket.port is not None

    def failure(self) -> OverlapError | None:
        """The error that the operation ended with; None if it succeeded or is pending."""
        return error(self.status, self.reason) if self.done and self.status < 0 else None

    def explained(self) -> OverlapError | None:
        """As failure(). Where the policy refused the operation it asks the daemon, and the text says by which rule."""
        failure = self.failure()
        if failure is not None and failure.reason == Reason.DENIED:
            failure = error(self.status, self.reason, self.session.denied())
        return failure

    def result(self) -> Any:
        """What the operation came to: the new Socket of an accept, the events of a poll, the list of (family, address)
        of a resolve, what the methods for ioctls say, and else the number of bytes.

        Raises OverlapError with what it failed with; EINPROGRESS while it is pending.
        """
        if not self.done:
            raise error(-errno.EINPROGRESS, 0, "the operation is pending: wait for it first")
        if failure := self.failure():
            raise failure
        if self.op == wire.Op.ACCEPT:
            return self.accepted
        if self.op == wire.Op.POLL:
            return wire.Poll(self.value)
        if self.ioctl is not None:
            return self._ioctl_result(self.ioctl)
        return self.addresses if self.op == wire.Op.RESOLVE else self.bytes

    def _ioctl_result(self, ioctl: wire.Ioctl) -> Any:
        match ioctl:
            case wire.Ioctl.INTERFACE_LIST:
                return self.interfaces
            case wire.Ioctl.ROUTING_INTERFACE_QUERY:
                return self.value, self.address
            case wire.Ioctl.BYTES_TO_READ:
                return self.value
            case wire.Ioctl.AT_MARK:
                return bool(self.value)
            case _:
                return None

    def wait(self, timeout: float | None = None, *, alertable: bool = False) -> bool:
        """Waits for the end. Any thread of the program may.

        timeout: seconds; 0 only looks, and runs nothing; None: for ever. alertable: also runs routines of the calling
        thread, which has to own one, and returns as soon as one has run: routines that are queued win over an
        operation that has ended.
        Returns whether the operation has ended. One with a routine has ended before its routine has run.
        """
        deadline = deadline_of(timeout)
        if alertable and timeout != 0:
            self.session.current().wait_alertable(lambda: True if self.done else None, deadline)
            return self.done
        self.session.flush()
        return self.session.lobby.wait(lambda: True if self.done else None, deadline) is not None

    def finish(self, timeout: float | None = None) -> Any:
        """wait() and result(). Raises OverlapError: also ETIMEDOUT, and with the rule where the policy refused it."""
        deadline = deadline_of(timeout)
        if not self.wait(timeout):
            raise timed_out(f"{self.op.name} (tag {self.tag})", deadline)
        if (failure := self.explained()) and failure.reason == Reason.DENIED:
            raise failure
        return self.result()

    def cancel(self) -> bool:
        """Cancels, and waits until the operation has ended, whichever way. Then its buffers are the program's again.

        Nothing is lost: data that had come is in the operation's buffer, or still in the socket.
        Returns whether it ended because it was cancelled. Raises OverlapError when the daemon is gone; it has ended
        then.
        """
        wait = 0.001
        while not self.done:
            # One whose socket was closed here while others hold it is found by its tag alone.
            fields = {"socket": self.socket.id if self.socket and not self.socket.closed else 0, "tag": self.tag}
            try:
                self.session.request("cancel", fields)
            except FileNotFoundError:
                # It has ended and its record is on its way, or its entry was not taken yet: another thread posted it.
                wait *= 2
            self.wait(wait)
        return self.status == -errno.ECANCELED
