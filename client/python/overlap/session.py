# SPDX-License-Identifier: Apache-2.0
"""A session: the connection to the daemon, and everything that belongs to it.

Invariant: every operation that was posted ends exactly once: by its record, or when the session is lost or closed.
Losing the daemon ends all that is pending with ECONNABORTED, indicates it as usual, and lets every wait return; so
nothing hangs. What has ended gave back what it used (credit, payload, buffers) before anybody can see that it has.

States: open -> lost (a channel saw the end, or something that is not overlapd: Session._lost) -> closed (close()); or
open -> closed. Nothing leads back: a program opens another session.

Records are taken on no trust: an unknown tag, another thread's operation or more bytes than were lent end the session.
"""

import errno
import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from overlap import wire
from overlap.channel import Channel, Reply, socket_path, timed_out
from overlap.error import OverlapError, Reason, error
from overlap.file import File, FileLike
from overlap.message import Message
from overlap.operation import Operation, Routine
from overlap.port import Packet, Port
from overlap.region import Arena, Region
from overlap.thread import Thread
from overlap.wait import Lobby, deadline_of

if TYPE_CHECKING:
    from overlap.socket import Socket

VERSION = "0.1.0"
_OPEN_TIMEOUT_S = 10.0
_FUNCTIONS_MAX = 1024


class Session:
    """A session with the daemon. The calling thread becomes the owner of its first thread, `thread`."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, level: int = 1, credits: int = 0,
                 name: str = "", timeout: float = _OPEN_TIMEOUT_S) -> None:
        """Opens a session.

        path: of the daemon's socket; None: $OVERLAPD_SOCKET, or else /run/overlapd/overlapd.sock.
        level: 0 (payload travels in the frames) or 1 (buffers in shared memory): the highest that is wished. What was
        granted is in `level`.
        credits: operations that may be in flight at once; 0: the daemon chooses. What was granted is in `credits`.
        name: of the program, for the daemon's journal.
        timeout: seconds until the daemon must have answered.
        Raises OverlapError: ENOENT, ECONNREFUSED, EACCES (no daemon, or no permission), EPROTONOSUPPORT (no protocol
        version in common), EBUSY, ETIMEDOUT, ECONNABORTED (the daemon hung up), EPROTO (it granted what was not asked).
        """
        if level not in (0, 1):
            raise ValueError(f"level {level}: this library speaks levels 0 and 1")
        self.path = socket_path(path)
        self.lobby = Lobby()
        self.lock = self.lobby.lock
        self.lost: OverlapError | None = None
        self.closed = False
        self.threads: dict[int, Thread] = {}
        self.ports: dict[int, Port] = {}
        self.regions: dict[int, Region] = {}
        self.functions: dict[int, Callable[[int], Any]] = {}
        self._operations: dict[int, Operation] = {}
        self._tags, self._numbers, self._function_numbers = itertools.count(1), itertools.count(2), itertools.count(1)
        self._own = threading.local()
        self.credits, self.inline_used = 1, 0
        try:
            channel = self._connect()
            self.thread = self.threads[1] = Thread(self, 1, channel)
            self._own.thread = self.thread
            hello = self.request("hello", {
                "version_min": wire.PROTOCOL_MIN, "version_max": wire.PROTOCOL_MAX, "level": level, "thread": 1,
                "tid": threading.get_native_id(), "credits": credits,
                "client": f"python-overlap {VERSION} {name}".strip(),
            }, timeout=timeout).get("hello", {})
            self._believe(hello, level)
        except BaseException:
            self._shut()
            raise
        self._granted(hello)
        self.arena = Arena(self)

    @staticmethod
    def _believe(hello: Message, level: int) -> None:
        """Raises OverlapError (EPROTO) when the daemon grants what was not asked for."""
        version, granted = hello.get("version", 0), hello.get("level", 0)
        if not wire.PROTOCOL_MIN <= version <= wire.PROTOCOL_MAX or granted > level:
            raise error(-errno.EPROTO, 0, f"overlapd granted version {version} and level {granted}, but was asked for "
                        f"{wire.PROTOCOL_MIN} to {wire.PROTOCOL_MAX} and level {level}: is this overlapd?")

    def _granted(self, hello: Message) -> None:
        self.level: int = hello.get("level", 0)
        self.number: int = hello.get("session", 0)  # public: names the session in the daemon's journal
        self.secret: bytes = hello.get("secret", b"")
        self.credits = hello.get("credits", 0)
        self.regions_max: int = hello.get("regions", 0)
        self.region_bytes: int = hello.get("region_bytes", 0)
        self.sockets_max: int = hello.get("sockets", 0)
        self.inline_bytes: int = hello.get("inline_bytes", 0)  # payload of inline operations that may be pending
        self.engine: str = hello.get("engine", "")  # what performs the I/O
        self.engine_reason: str = hello.get("engine_reason", "")  # and why

    def _connect(self) -> Channel:
        with self.lock:
            self.check()
            return Channel(self.path, self.lobby, self._record, self._lost)

    # --- Requests -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises OverlapError when the session is over."""
        if self.closed:
            raise error(-errno.ECONNABORTED, Reason.SESSION_ENDED, "the session was closed")
        if self.lost:
            raise error(-(self.lost.errno or errno.ECONNABORTED), self.lost.reason, self.lost.text)

    def _channel_of(self, thread: Thread | Port | None) -> Channel:
        own: Thread | None = getattr(self._own, "thread", None)
        if thread is None and own is not None and self.threads.get(own.number) is own:
            thread = own
        return (thread or self.thread).channel

    def request_start(self, what: str, fields: Message, on_reply: Callable[[Reply], None], *,
                      thread: Thread | Port | None = None, fd: int | None = None, wants_fd: bool = False) -> None:
        """Makes a request of docs/PROTOCOL.md, section 4, without waiting for the reply.

        on_reply: called once, with the lock held, with the reply and the descriptor that came with it. thread: whose
        channel carries it; None: the calling thread's, or the first.
        """
        with self.lock:
            self.check()
            channel = self._channel_of(thread)
            channel.request(what, fields, on_reply, fd, wants_fd)
            channel.flush_unless_corked()

    def request(self, what: str, fields: Message, *, thread: Thread | Port | None = None, fd: int | None = None,
                wants_fd: bool = False, timeout: float | None = None) -> Message:
        """Makes a request and waits for the reply; what comes meanwhile is taken in, and no routine runs.

        Returns the reply, with a descriptor that came under the name `fd`. Raises OverlapError with what the daemon
        says.
        """
        replies: list[Reply] = []
        deadline = deadline_of(timeout)
        with self.lock:
            self.request_start(what, fields, replies.append, thread=thread, fd=fd, wants_fd=wants_fd)
            self._channel_of(thread).flush()
        if self.lobby.wait(lambda: replies or None, deadline) is None:
            raise timed_out(f"the request {what}", deadline)
        return self.reply_of(*replies[0])

    @staticmethod
    def reply_of(reply: Message, fd: int | None) -> Message:
        """The reply with its descriptor in it. Raises OverlapError when it is a refusal."""
        if reply.get("status", 0) < 0:
            if fd is not None:
                os.close(fd)
            raise error(reply["status"], reply.get("reason", 0), reply.get("text", ""))
        return reply if fd is None else {**reply, "fd": fd}

    def status(self) -> Message:
        """The counters of the worker that serves this session: the fields of StatusReply."""
        return self.request("status", {}).get("status_report", {})

    def denied(self) -> str:
        """Why the policy refused an operation of this session last: names the rule. Empty when it refused none."""
        try:
            self.request("denied", {})
        except OverlapError as refusal:
            if refusal.reason == Reason.DENIED:
                return refusal.text
        return ""

    # --- Threads, ports, functions --------------------------------------------------------------------------------

    def current(self) -> Thread:
        """The thread that the calling thread owns: the last that it opened. Raises RuntimeError when there is none."""
        thread: Thread | None = getattr(self._own, "thread", None)
        if thread is None or self.threads.get(thread.number) is not thread:
            raise RuntimeError("this thread of the program owns no thread of the session: call thread_open() in it")
        return thread

    def _attach(self, channel: Channel, fields: Message) -> None:
        replies: list[Reply] = []
        try:
            with self.lock:
                self.check()
                channel.request("attach", {"session": self.number, "secret": self.secret, **fields}, replies.append)
                channel.flush()
            if self.lobby.wait(lambda: replies or None, deadline_of(_OPEN_TIMEOUT_S)) is None:
                raise error(-errno.ETIMEDOUT, 0, "the daemon has not answered the attach in time")
            self.reply_of(*replies[0])
        except BaseException:
            with self.lock:
                channel.close()
            raise

    def thread_open(self) -> Thread:
        """Opens a further thread, with a connection of its own. The calling thread becomes its owner."""
        number = next(self._numbers)
        channel = self._connect()
        self._attach(channel, {"thread": number, "tid": threading.get_native_id()})
        thread = self.threads[number] = Thread(self, number, channel)
        self._own.thread = thread
        return thread

    def port_open(self) -> Port:
        """Opens a completion port."""
        number = next(self._numbers)
        channel = self._connect()
        self._attach(channel, {"port": number})
        port = self.ports[number] = Port(self, number, channel)
        return port

    def register(self, function: Callable[[int], Any]) -> int:
        """Lets those who hold a handle of a thread of this session call a function in it.

        function: called with the 64-bit argument, in an alertable wait of the thread. Returns its number.
        """
        number = next(self._function_numbers)
        self.functions[number] = function
        try:
            self.request("function_register", {"function": number})
        except OverlapError:
            del self.functions[number]
            raise
        return number

    def unregister(self, number: int) -> None:
        """The function can be called no more."""
        self.request("function_register", {"function": number, "remove": True})
        self.functions.pop(number, None)

    # --- Memory and sockets ---------------------------------------------------------------------------------------

    def region(self, size: int) -> Region:
        """Lends memory to the daemon: see region.Region. size: bytes, rounded up to a multiple of 4096.

        Raises OverlapError: EOPNOTSUPP (LEVEL) at level 0, EDQUOT (QUOTA).
        """
        if self.level < 1:
            raise error(-errno.EOPNOTSUPP, Reason.LEVEL)
        return Region(self, size)

    def file(self, file: FileLike) -> File:
        """Lends a file, for Socket.transmit() and Socket.transmit_packets().

        file: a regular file that is open for reading only, or its descriptor. It may be closed afterwards.
        Raises OverlapError: EOPNOTSUPP (LEVEL) at level 0, EBADFD (BAD_FILE: the text says why), EDQUOT (QUOTA).
        """
        if self.level < 1:
            raise error(-errno.EOPNOTSUPP, Reason.LEVEL)
        fd = file if isinstance(file, int) else file.fileno()
        return File(self, self.request("file_add", {}, fd=fd))

    def socket(self, family: int = 2, kind: int = 1) -> "Socket":
        """Opens a socket. family: AF_INET, AF_INET6 or AF_UNIX. kind: SOCK_STREAM or SOCK_DGRAM."""
        from overlap.socket import Socket

        reply = self.request("socket_open", {"family": int(family), "type": int(kind)})
        return Socket(self, reply.get("socket_open", {}).get("socket", 0), family, kind)

    def _taken(self, reply: Message) -> "Socket":
        from overlap.socket import Socket

        taken = reply.get("socket_taken", {})
        return Socket(self, taken.get("socket", 0), taken.get("family", 0), taken.get("type", 0),
                      listens=taken.get("listens", False))

    def adopt(self, fd: int) -> "Socket":
        """Gives the daemon a socket of the program's.

        fd: borrowed; to be closed by the caller, because what else is done with it disturbs the order of operations.
        Raises OverlapError: EBADFD (BAD_DESCRIPTOR), EDQUOT, EACCES (policy; a Unix socket of another user's daemon).
        """
        return self._taken(self.request("socket_adopt", {}, fd=fd))

    def join(self, ticket: bytes) -> "Socket":
        """Joins a socket that another session shared with this one: see Socket.share()."""
        return self._taken(self.request("socket_join", {"ticket": ticket}))

    def resolve_start(self, name: str, port: int = 0, *, family: int = 0, kind: int = 0, maximum: int = 16,
                      routine: Routine | None = None, thread: Thread | None = None) -> Operation:
        """Asks the daemon for the addresses of a host name.

        name: 1 to 253 bytes. port: of the addresses. family: 0 for any. kind: SOCK_STREAM, SOCK_DGRAM or 0 for both.
        maximum: addresses that are wanted, 1 to 64. routine, thread: see socket.py.
        The record: result() is a list of (family, address); EINVAL (BAD_NAME), ENOENT (NAME_NOT_FOUND), EAGAIN
        (NAME_TRY_AGAIN), EIO (NAME_FAILED).
        """
        from overlap.post import Post

        raw = name.encode()
        if not 0 < len(raw) <= wire.RESOLVE_NAME_MAX or b"\0" in raw:
            raise error(-errno.EINVAL, Reason.BAD_NAME, f"{name!r}: a name has 1 to {wire.RESOLVE_NAME_MAX} bytes")
        if maximum < 1:
            raise error(-errno.EINVAL, Reason.NONE, f"room for {maximum} addresses: there is 1 at least")
        post = Post(thread or self.current(), None, wire.Op.RESOLVE, routine)
        post.other = port | int(family) << 16 | int(kind) << 24
        post.send(raw)
        post.want_addresses(min(maximum, wire.RESOLVE_ADDRESSES_MAX))
        return post.start()

    def resolve(self, name: str, port: int = 0, *, family: int = 0, kind: int = 0) -> list[tuple[int, Any]]:
        """resolve_start(), and waits."""
        found: list[tuple[int, Any]] = self.resolve_start(name, port, family=family, kind=kind).finish()
        return found

    # --- Operations -----------------------------------------------------------------------------------------------

    def n_pending(self) -> int:
        """Operations whose records have not come."""
        return len(self._operations)

    def pending_of(self, thread: Thread) -> list[Operation]:
        """Those that a thread posted."""
        with self.lock:
            return [operation for operation in self._operations.values() if operation.thread is thread]

    def flush(self) -> None:
        """Sends what the calling thread has gathered under a cork."""
        thread: Thread | None = getattr(self._own, "thread", None)
        if thread is not None and not self.closed:
            thread.flush()

    def begin(self, operation: Operation, make: Callable[[int], list[tuple[wire.Entry, Any]]]) -> None:
        """Posts. make: from the tag to the entries and their payloads. Raises OverlapError (ENOBUFS), and nothing is
        sent."""
        with self.lock:
            self.check()
            if len(self._operations) >= self.credits:
                raise error(-errno.ENOBUFS, Reason.CREDITS)
            if operation.inline and self.inline_used + operation.inline > self.inline_bytes:
                raise error(-errno.ENOBUFS, Reason.QUOTA, f"{self.inline_used} of {self.inline_bytes} bytes of inline "
                                                          f"payload are in use: wait for completions")
            operation.tag = next(self._tags)
            self._operations[operation.tag] = operation
            self.inline_used += operation.inline
            for region in operation.regions:
                region.n_lent += 1
            operation.thread.channel.post(make(operation.tag))
            operation.number = operation.thread.channel.entries

    def verdict(self, operation: Operation) -> None:
        """Waits until a posted operation is refused, done or truly pending. Raises its error when it was refused."""
        channel = operation.thread.channel
        operation.thread.flush()
        self.lobby.wait(lambda: True if operation.done or channel.settled >= operation.number or self.lost else None,
                        None)
        if operation.flags & wire.RecordFlags.REFUSED and (failure := operation.failure()):
            raise failure

    def _record(self, channel: Channel, record: wire.Record, payload: memoryview) -> None:
        """Takes a record in. With the lock held."""
        if record.kind == wire.RecordKind.APC:
            self._apc(record)
        if record.kind != wire.RecordKind.COMPLETION:
            return
        operation = self._operations.get(record.tag)
        if operation is None or record.thread != operation.thread.number or record.op != operation.op:
            raise ValueError(f"a record of tag {record.tag}, thread {record.thread}, operation {record.op}, which "
                             f"nobody posted")
        operation.take(record, payload)
        del self._operations[record.tag]
        self._finish(operation)
        if not (record.flags & wire.RecordFlags.REFUSED and operation.verdict):
            self._indicate(operation)

    def _finish(self, operation: Operation) -> None:
        """What the operation used is the program's again."""
        for block in (operation.block, operation.aux, operation.vector):
            if block is not None:
                self.arena.give(block)
        operation.block = operation.aux = operation.vector = operation.target = None
        for region in operation.regions:
            region.n_lent -= 1
        operation.regions = ()
        self.inline_used -= operation.inline
        operation.done = True

    def _indicate(self, operation: Operation) -> None:
        socket = operation.socket
        if operation.routine is not None:
            routine = operation.routine
            operation.thread.queue(socket, lambda: routine(operation))
        elif socket is not None and socket.port is not None and operation.goes_to_port():
            socket.port.queue(Packet(socket.key, operation, operation.bytes, operation.status))

    def _apc(self, record: wire.Record) -> None:
        thread, function = self.threads.get(record.thread), self.functions.get(record.tag)
        if thread is not None and function is not None:
            argument = record.value
            called = function
            thread.queue(None, lambda: called(argument))

    # --- Ends -----------------------------------------------------------------------------------------------------

    def _lost(self, why: OverlapError) -> None:
        """The daemon is gone, or what speaks is not overlapd: everything ends. With the lock held."""
        if self.lost is not None:
            return
        self.lost = why
        self._end_all(-errno.ECONNABORTED, Reason.DAEMON_GONE, True)
        owners: list[Thread | Port] = [*self.threads.values(), *self.ports.values()]
        for owner in owners:
            self.lobby.remove(owner.channel.socket.fileno())
            owner.channel.lost(why)
        self.lobby.changed()

    def _end_all(self, status: int, reason: Reason, indicated: bool) -> None:
        operations, self._operations = self._operations, {}
        for operation in operations.values():
            operation.status, operation.reason = status, reason
            self._finish(operation)
            if indicated:
                self._indicate(operation)

    def _shut(self) -> None:
        with self.lock:
            self.closed = True
            self.lost = self.lost or error(-errno.ECONNABORTED, Reason.SESSION_ENDED, "the session was closed")
            for port in list(self.ports.values()):
                port.close()
            for thread in self.threads.values():
                thread.release()
            self.threads.clear()
        self.lobby.close()

    def close(self) -> None:
        """Ends the session: its sockets are closed, and what is pending ends with ECANCELED, but nothing is indicated.

        Waits of other threads return. Closing twice is fine.
        """
        if self.closed:
            return
        with self.lock:
            self._end_all(-errno.ECANCELED, Reason.SESSION_ENDED, False)
        self._shut()
        for region in self.regions.values():
            region._unmap()
        self.regions.clear()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
