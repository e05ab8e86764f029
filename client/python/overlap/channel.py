# SPDX-License-Identifier: Apache-2.0
"""One connection to the daemon: frames out, frames in.

The lock is the session's, and every method is called with it held unless it says otherwise. What is sent goes through
an outbox in the order of the calls: entries are gathered in a POST frame until something else has to be said, or it
is flushed. A connection that is full must never be waited for without reading it, because a daemon with replies to
deliver reads no more either: flush() does both.

Rejected: blocking sendall(). Two thousand entries and a daemon that waits for room for its records would be a deadlock.
"""

import array
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from overlap import wire
from overlap.error import OverlapError, Reason, error
from overlap.message import BadMessage, Message, pack, unpack
from overlap.wait import Lobby

PATH = "/run/overlapd/overlapd.sock"
PATH_MAX = 107
_READ_SIZE = 1 << 18

Reply = tuple[Message, int | None]  # the reply, and the descriptor that came with it


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """The path of the daemon's socket: as given, or $OVERLAPD_SOCKET, or /run/overlapd/overlapd.sock."""
    found = os.fspath(path) if path else os.environ.get("OVERLAPD_SOCKET") or PATH
    if len(os.fsencode(found)) > PATH_MAX:
        raise error(-errno.ENAMETOOLONG, 0, f"{found}: the path of a Unix socket has at most {PATH_MAX} bytes")
    return found


class Channel:
    """A connection. on_record(channel, record, payload) and on_lost(error) are the session's."""

    def __init__(self, path: str, lobby: Lobby, on_record: Callable[["Channel", wire.Record, memoryview], None],
                 on_lost: Callable[[OverlapError], None]) -> None:
        self.lobby, self._on_record, self._on_lost = lobby, on_record, on_lost
        self.entries = self.settled = 0  # posted on this channel, and of those settled
        self.corks = 0
        self._inbox, self._outbox = bytearray(), bytearray()
        self._slots, self._payload, self._n_slots = bytearray(), bytearray(), 0
        self._fds: deque[int] = deque()  # that came and belong to frames in the inbox
        self._n_fd_requests = 0  # outstanding requests whose reply may bring a descriptor
        self._requests: dict[int, tuple[Callable[[Reply], None], bool]] = {}
        self._last_id = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.connect(path)
        except OSError as failure:
            self.socket.close()
            number = failure.errno or errno.EIO
            raise error(-number, 0, f"{path}: {os.strerror(number)}; is overlapd running, and may this user reach its "
                                    f"socket?") from failure
        self.socket.setblocking(False)
        lobby.add(self.socket.fileno(), self.take_in)

    def close(self) -> None:
        """Closes the connection; requests that are outstanding are answered with ECONNABORTED."""
        if self.socket.fileno() >= 0:
            self.lobby.remove(self.socket.fileno())
            self.socket.close()
        while self._fds:
            os.close(self._fds.popleft())
        self.lost(error(-errno.ECONNABORTED, Reason.SESSION_ENDED, "the session was closed"))

    # --- Out ------------------------------------------------------------------------------------------------------

    def post(self, entries: list[tuple[wire.Entry, bytes | memoryview]]) -> None:
        """Adds entries and their inline payloads, as one operation, to what is sent with the next flush."""
        for entry, payload in entries:
            slots = entry.pack()
            used = wire.BATCH_HEADER.size + len(self._slots) + len(self._payload)
            if used + len(slots) + len(payload) > wire.FRAME_MAX[wire.Frame.POST] or self._n_slots + 3 > wire.BATCH_MAX:
                self._seal()
            self._slots += slots
            self._payload += payload
            self._n_slots += len(slots) // wire.SLOT_SIZE
        self.entries += 1

    def _seal(self) -> None:
        """Entries that were gathered become a frame."""
        if self._n_slots:
            header = wire.BATCH_HEADER.pack(self._n_slots, 0)
            self._outbox += wire.frame_pack(wire.Frame.POST, header + self._slots + self._payload)
            self._slots, self._payload, self._n_slots = bytearray(), bytearray(), 0

    def request(self, what: str, fields: Message, on_reply: Callable[[Reply], None], fd: int | None = None,
                wants_fd: bool = False) -> None:
        """Asks the daemon.

        what, fields: the member of Request. on_reply: called with the lock held when the reply is read; when the
        connection is lost first, with a reply of ECONNABORTED. fd: borrowed; rides with the frame. wants_fd: whether
        the reply may bring one, which then belongs to on_reply.
        """
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        body = pack("Request", {"id": self._last_id, what: fields})
        self._requests[self._last_id] = (on_reply, wants_fd)
        self._n_fd_requests += wants_fd
        self._seal()
        frame = wire.frame_pack(wire.Frame.CONTROL, body, 0 if fd is None else 1)
        if fd is None:
            self._outbox += frame
        else:
            self._send_with_fd(frame, fd)

    def _send_with_fd(self, frame: bytes, fd: int) -> None:
        """The descriptor rides with the first byte of its frame, so nothing may be before it."""
        self.flush()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())]
        while True:
            try:
                sent = self.socket.sendmsg([frame], rights, socket.MSG_NOSIGNAL)
                break
            except BlockingIOError:
                self._wait_for_room()
            except OSError as failure:
                self._lose(failure)
                return
        self._outbox += frame[sent:]

    def try_flush(self) -> bool:
        """Sends what the connection takes at once. Returns whether nothing is left."""
        self._seal()
        while self._outbox:
            try:
                sent = self.socket.send(self._outbox, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as failure:
                # What the daemon said before it hung up is still to be read, and says why.
                self._outbox.clear()
                self.take_in()
                self._lose(failure)
                return True
            del self._outbox[:sent]
        return True

    def flush(self) -> None:
        """Sends everything, and takes in what comes while there is no room."""
        while not self.try_flush():
            self._wait_for_room()

    def flush_unless_corked(self) -> None:
        """After a post."""
        if self.corks == 0:
            self.flush()

    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLIN | select.POLLOUT)
        for _, events in poll.poll():
            if events & ~select.POLLOUT:
                self.take_in()
                self.lobby.changed()

    # --- In -------------------------------------------------------------------------------------------------------

    def take_in(self) -> None:
        """Reads what is there, without waiting, and gives records and replies to whom they belong."""
        while self.socket.fileno() >= 0:
            try:
                piece = self._read()
            except BlockingIOError:
                return
            except OSError as failure:
                self._lose(failure)
                return
            if not piece:
                self._lose(None)
                return
            self._inbox += piece
            try:
                self._cut()
            except (ValueError, BadMessage) as failure:
                self._on_lost(error(-errno.EPROTO, Reason.BAD_FRAME, f"the daemon sent what it must not: {failure}"))
                return
            if len(piece) < _READ_SIZE:
                return

    def _read(self) -> bytes:
        if self._n_fd_requests == 0:
            return self.socket.recv(_READ_SIZE)
        space = socket.CMSG_SPACE(self._n_fd_requests * 4)
        piece, ancillary, _, _ = self.socket.recvmsg(_READ_SIZE, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
                self._fds.extend(fds)
        return piece

    def _cut(self) -> None:
        """Cuts frames off the front of the inbox."""
        at = 0
        try:
            while (header := wire.frame_parse(memoryview(self._inbox)[at:at + 8])) is not None:
                body_len, kind, n_fds = header
                begin = at + wire.FRAME_HEADER.size
                if len(self._inbox) < begin + body_len:
                    break
                at = begin + body_len
                self._frame(kind, bytes(self._inbox[begin:at]), n_fds)
        finally:
            del self._inbox[:at]

    def _frame(self, kind: int, body: bytes, n_fds: int) -> None:
        fd = self._fds.popleft() if n_fds and self._fds else None
        if kind == wire.Frame.RECORDS:
            records, payload = wire.records_unpack(body)
            at = 0
            for record in records:
                self._record(record, payload[at:at + record.payload_len])
                at += record.payload_len
        elif kind == wire.Frame.CONTROL:
            message = unpack("FromDaemon", body)
            if "reply" in message:
                self._reply(message["reply"], fd)
            elif notice := message.get("notice"):
                self._notice(notice)
        else:
            raise ValueError(f"a frame of kind {kind} comes from clients only")

    def _record(self, record: wire.Record, payload: memoryview) -> None:
        if record.kind == wire.RecordKind.SETTLED:
            if not self.settled <= record.value <= self.entries:
                raise ValueError(f"{record.value} of {self.entries} entries are settled, after {self.settled}")
            self.settled = record.value
        else:
            self._on_record(self, record, payload)

    def _reply(self, reply: Message, fd: int | None) -> None:
        on_reply, wants_fd = self._requests.pop(reply.get("id", 0), (None, False))
        if on_reply is None:
            raise ValueError(f"a reply to request {reply.get('id', 0)}, which nobody made: {reply.get('text', '')}")
        self._n_fd_requests -= wants_fd
        on_reply((reply, fd))

    def _notice(self, notice: Message) -> None:
        if notice.get("closing"):
            self._on_lost(error(-errno.ECONNABORTED if notice.get("reason") == Reason.DAEMON_GONE
                                else notice.get("status", -errno.ECONNABORTED), notice.get("reason", 0),
                                notice.get("text", "")))

    def _lose(self, failure: OSError | None) -> None:
        why = "the daemon closed the connection" if failure is None else f"the connection broke: {failure}"
        self._on_lost(error(-errno.ECONNABORTED, Reason.DAEMON_GONE,
                            f"{why}; see its journal, and open a new session"))

    def lost(self, why: OverlapError) -> None:
        """The session is over: nothing is sent or answered any more."""
        requests, self._requests = self._requests, {}
        self._outbox.clear()
        self._slots, self._payload, self._n_slots = bytearray(), bytearray(), 0
        for on_reply, _ in requests.values():
            on_reply(({"status": -(why.errno or errno.EIO), "reason": why.reason, "text": why.text}, None))


def timed_out(what: str, deadline: float | None) -> OverlapError:
    """The error of a wait for `what` whose deadline has passed."""
    late = 0.0 if deadline is None else time.monotonic() - deadline
    return error(-errno.ETIMEDOUT, 0, f"{what} has not ended in time ({late:.3f} s over it)")
