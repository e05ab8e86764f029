# SPDX-License-Identifier: Apache-2.0
"""The session behind an event loop, and what is shared by everything that uses it.

The loop watches one descriptor, the thread's. When it is readable, what came is taken in, and routines and replies
run as callbacks of the loop. Posts are gathered and leave once an iteration of the loop.

Credits, inline payload and lent memory are limited, and asking for more than there is would be an error of the library,
not of the program. So posts wait their turn here: *who waits* is a function that posts as much as it can and is called
again, in order of arrival, when something has ended. Receives that wait for peers to speak may use up only a part of
each limit, so there is always something left for those that will end by themselves.

Cancellation: a task that is cancelled while its operation is pending goes on only when the record has come. What the
operation got nevertheless is kept for the next one; no byte is lost.
"""

import asyncio
import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable

from overlap.channel import Reply
from overlap.error import OverlapError, Reason, error
from overlap.message import Message
from overlap.operation import Operation, Routine
from overlap.session import Session
from overlap.socket import Socket as DaemonSocket

CREDITS = 16384  # what a loop asks for; it gets what the daemon grants
_SHORTAGES = (errno.ENOBUFS, errno.EDQUOT)


class Service:
    """A session for a loop. Used in the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str | os.PathLike[str] | None, level: int) -> None:
        self.loop = loop
        self.session = Session(path, level=level, credits=CREDITS, name="asyncio")
        self.thread = self.session.thread
        self.thread.channel.corks += 1
        self._waiting: deque[Callable[[], bool]] = deque()
        self._flushing = self._writing = False
        loop.add_reader(self.thread.fileno(), self.ready)

    def close(self) -> None:
        """Ends the session: the loop is closing, or the daemon is gone."""
        if not self.session.closed:
            self.loop.remove_reader(self.thread.fileno())
            self._stop_writing()
            self.session.close()

    # --- Turns ----------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Something came."""
        self.thread.owner = threading.get_ident()
        self.thread.dispatch()
        while True:
            try:
                self.thread.run()
                break
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                self.loop.call_exception_handler({"message": "a completion's callback failed", "exception": failure})
        self._serve_waiting()
        if self.session.lost and not self.session.closed:
            self.loop.call_soon(self.close)

    def _serve_waiting(self) -> None:
        while self._waiting and self._waiting[0]():
            self._waiting.popleft()

    def wait_turn(self, attempt: Callable[[], bool]) -> None:
        """Who could not post for a shortage is called again when something has ended, until it returns True."""
        self._waiting.append(attempt)

    def flush_soon(self) -> None:
        """What was gathered leaves at the end of this iteration."""
        if not self._flushing and not self.session.closed:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self.session.closed:
            return
        with self.session.lock:
            is_done = self.session.lost is not None or self.thread.channel.try_flush()
        if is_done:
            self._stop_writing()
        elif not self._writing:
            self._writing = True
            self.loop.add_writer(self.thread.channel.socket.fileno(), self._flush)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self.loop.remove_writer(self.thread.channel.socket.fileno())

    # --- Limits ---------------------------------------------------------------------------------------------------

    @staticmethod
    def is_shortage(failure: OverlapError | None) -> bool:
        """Whether an error only says that there is too little at the moment."""
        return failure is not None and failure.errno in _SHORTAGES

    def has_credit(self) -> bool:
        """Whether an operation may be posted that ends only when a peer speaks."""
        return self.session.n_pending() < self.session.credits * 3 // 4

    def has_room(self, length: int) -> bool:
        """Whether such an operation may hold a buffer of this length, too."""
        session = self.session
        used, total = ((session.inline_used, session.inline_bytes) if session.level == 0 else
                       (session.arena.bytes_lent, session.region_bytes))
        return session.n_pending() < session.credits // 2 and used + length <= total // 2

    # --- Requests and operations ----------------------------------------------------------------------------------

    def ask(self, what: str, fields: Message, on_end: Callable[[Message, OverlapError | None], None],
            fd: int | None = None) -> None:
        """Makes a request. on_end: called in the loop with the reply, or with what was refused. fd: rides along."""
        def on_reply(reply: Reply) -> None:
            failure = error(reply[0]["status"], reply[0].get("reason", 0), reply[0].get("text", "")) if reply[0].get(
                "status", 0) < 0 else None
            self.thread.queue(None, lambda: on_end(reply[0], failure))

        try:
            self.session.request_start(what, fields, on_reply, thread=self.thread, fd=fd)
        except OverlapError as failure:
            self.loop.call_soon(on_end, {}, failure)
        else:
            self.flush_soon()

    async def request(self, what: str, fields: Message, undo: Callable[[Message], None] | None = None,
                      fd: int | None = None) -> Message:
        """Makes a request and waits for the reply. undo: what to do with it when the task was cancelled meanwhile."""
        answered: asyncio.Future[Message] = self.loop.create_future()

        def on_end(reply: Message, failure: OverlapError | None) -> None:
            if answered.done():
                if failure is None and undo is not None:
                    undo(reply)
            elif failure is not None:
                answered.set_exception(failure)
            else:
                answered.set_result(reply)

        self.ask(what, fields, on_end, fd)
        return await answered

    def forget(self, socket: DaemonSocket) -> None:
        """Closes a socket without waiting for it."""
        if not socket.closed:
            socket.closed = True
            self.ask("socket_close", {"socket": socket.id}, lambda reply, failure: None)

    async def explained(self, operation: Operation) -> OverlapError | None:
        """The error that an operation ended with. Where the policy refused it, the text says by which rule."""
        failure = operation.failure()
        if failure is not None and failure.reason == Reason.DENIED:
            try:
                await self.request("denied", {})
            except OverlapError as refusal:
                if refusal.reason == Reason.DENIED:
                    return error(operation.status, operation.reason, refusal.text)
        return failure

    async def operate(self, post: Callable[[Routine], Operation],
                      salvage: Callable[[Operation], None] | None = None) -> Operation:
        """Posts an operation when there is room for it, and waits for its end.

        post: from a routine to the operation. salvage: gets what ended after all although the task was cancelled.
        Returns the operation; raises OverlapError when it could not be posted.
        """
        ended: asyncio.Future[None] = self.loop.create_future()
        posted: list[Operation] = []
        abandoned = False

        def attempt() -> bool:
            if abandoned:
                return True
            try:
                posted.append(post(lambda operation: ended.set_result(None)))
            except OverlapError as failure:
                if self.is_shortage(failure) and self.session.n_pending():
                    return False
                ended.set_exception(failure)
            except BaseException as failure:
                ended.set_exception(failure)
            self.flush_soon()
            return True

        if not attempt():
            self.wait_turn(attempt)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            abandoned = True
            if posted:
                await self._abandon(posted[0], ended)
                if salvage is not None:
                    salvage(posted[0])
            raise
        return posted[0]

    async def _abandon(self, operation: Operation, ended: "asyncio.Future[None]") -> None:
        """Cancels an operation and waits for its record, whatever else happens."""
        if not operation.done:
            fields = {"socket": operation.socket.id if operation.socket else 0, "tag": operation.tag}
            self.ask("cancel", fields, lambda reply, failure: None)
        while not ended.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([ended])
