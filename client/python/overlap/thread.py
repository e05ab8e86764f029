# SPDX-License-Identifier: Apache-2.0
"""A thread of a session: whoever posts operations and runs their completion routines.

Usually there is one for each thread of the program that posts; each has a connection of its own, the channel. Routines
are queued here when their records are taken in, by whichever thread of the program does that, and run in the owner's
alertable waits, nowhere else. Routines of one socket are never nested: a routine that waits alertably leaves those of
its own socket in the queue.
"""

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from overlap.channel import Channel
from overlap.wait import deadline_of

if TYPE_CHECKING:
    from overlap.handle import ThreadHandle
    from overlap.operation import Operation
    from overlap.session import Session


class Thread:
    """Made by Session.thread_open(); the session's first is Session.thread. The calling thread becomes its owner."""

    def __init__(self, session: "Session", number: int, channel: Channel) -> None:
        self.session, self.number, self.channel = session, number, channel
        self.owner = threading.get_ident()
        self._queue: deque[tuple[object, Callable[[], Any]]] = deque()
        self._running: list[object] = []  # the sockets whose routines are on the stack
        self._epoll: select.epoll | None = None
        self._bell = -1

    # --- Routines -------------------------------------------------------------------------------------------------

    def queue(self, of: object, routine: Callable[[], Any]) -> None:
        """Queues what the next alertable wait runs. With the lock held. of: the socket that it belongs to, or None."""
        self._queue.append((of, routine))
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def queue_apc(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Queues an APC from within the process: function(*arguments) runs in the next alertable wait of this thread.

        Any thread of the program may. Order: behind what was taken in before.
        """
        with self.session.lock:
            self.channel.take_in()
            self.queue(None, lambda: function(*arguments))
            self.session.lobby.changed()

    def _next(self) -> tuple[object, Callable[[], Any]] | None:
        for index, (of, routine) in enumerate(self._queue):
            if of is None or of not in self._running:
                del self._queue[index]
                return of, routine
        return None

    def _is_due(self) -> bool:
        return any(of is None or of not in self._running for of, _ in self._queue)

    def run(self) -> int:
        """Runs the routines that are queued, also those that are queued meanwhile. Only the owner.

        Returns how many ran. What a routine raises goes through; those behind it stay queued.
        """
        if threading.get_ident() != self.owner:
            raise RuntimeError(f"thread {self.number} belongs to another thread of the program: its routines run there")
        n_run = 0
        while True:
            with self.session.lock:
                due = self._next()
            if due is None:
                return n_run
            n_run += 1
            self._running.append(due[0])
            try:
                due[1]()
            finally:
                self._running.pop()

    def wait_alertable(self, attempt: Callable[[], Any], deadline: float | None) -> bool:
        """Waits for an attempt (see wait.Lobby) or for routines, and runs those. Returns whether one ran."""
        self.flush()
        session = self.session
        session.lobby.wait(lambda: True if self._is_due() or session.lost else attempt(), deadline)
        return self.run() > 0

    def sleep(self, timeout: float | None = None) -> bool:
        """An alertable wait: runs every routine that is queued; if there is none, waits for the first.

        timeout: seconds; 0 only runs what is there; None: for ever. By the owner.
        Returns whether a routine ran; False on timeout. Raises OverlapError (ECONNABORTED) when the daemon is gone
        and no routine is left to run.
        """
        if self.wait_alertable(lambda: None, deadline_of(timeout)):
            return True
        self.session.check()
        return False

    # --- Other loops ----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to dispatch, for another event loop.

        The loop then calls dispatch() and, if it uses routines, run(). Valid until the thread is closed.
        """
        if self._epoll is None:
            self._epoll = select.epoll()
            self._bell = os.eventfd(1 if self._queue else 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._bell, select.EPOLLIN)
            self._epoll.register(self.channel.socket.fileno(), select.EPOLLIN)
        return self._epoll.fileno()

    def dispatch(self) -> None:
        """Takes in what has arrived, without waiting and without running routines."""
        with self.session.lock:
            if self._bell >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            self.channel.take_in()
            self.session.lobby.changed()

    # --- Sending --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cork(self) -> Iterator[None]:
        """Within it posts are gathered, and leave with one system call at the end, or when the thread waits."""
        self.channel.corks += 1
        try:
            yield
        finally:
            self.channel.corks -= 1
            if self.channel.corks == 0:
                self.flush()

    def post_flush(self) -> None:
        """After a post: sends it, unless there is a cork."""
        if self.channel.corks == 0:
            self.flush()

    def flush(self) -> None:
        """Sends what was gathered."""
        with self.session.lock:
            if not self.session.lost:
                self.channel.flush()

    # --- Ends -----------------------------------------------------------------------------------------------------

    def handle(self) -> "ThreadHandle":
        """A handle with which others queue APCs to this thread: see handle.ThreadHandle."""
        from overlap.handle import ThreadHandle

        reply = self.session.request("thread_handle_open", {"thread": self.number}, thread=self)
        return ThreadHandle(self.session, reply.get("thread_handle", {}).get("handle", b""))

    def _own(self) -> list["Operation"]:
        """What this thread posted and no port will tell."""
        return [operation for operation in self.session.pending_of(self) if not operation.goes_to_port()]

    def cancel(self) -> int:
        """Cancels what this thread posted, but not what goes to a port, and waits until all of that has ended.

        Returns how many ended by that.
        """
        n_cancelled = 0
        session = self.session
        requests = {(number, "tag" if single else "thread", operation.tag if single else self.number)
                    for operation in self._own() for socket in [operation.socket]
                    for number in [socket.id if socket and not socket.closed else 0]
                    for single in [bool(socket and (socket.port or socket.closed))]}
        for number, which, value in requests:
            with contextlib.suppress(FileNotFoundError):
                reply = session.request("cancel", {"socket": number, which: value}, thread=self)
                n_cancelled += reply.get("cancel", {}).get("cancelled", 0)
        session.lobby.wait(lambda: True if session.lost or not self._own() else None, None)
        return n_cancelled

    def close(self) -> None:
        """Cancels what this thread posted (what goes to a port goes on), waits, and closes the connection.

        Routines that are queued never run. The session's first thread ends with the session only. Closing twice is
        fine.
        """
        session = self.session
        if session.threads.get(self.number) is not self or self is session.thread:
            return
        with contextlib.suppress(OSError):
            self.cancel()
        with session.lock:
            del session.threads[self.number]
            self.release()

    def release(self) -> None:
        """Gives descriptors back. With the lock held."""
        self.channel.close()
        self._queue.clear()
        if self._epoll is not None:
            self._epoll.close()
            os.close(self._bell)
            self._epoll, self._bell = None, -1

    def __enter__(self) -> "Thread":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
