# SPDX-License-Identifier: Apache-2.0
"""Where the threads of a program wait for what comes on the channels of their session.

One of those that wait, the leader, sleeps in the kernel on all channels at once and takes in what comes, for everybody;
the others sleep on conditions. So a record is never stuck in a channel whose thread is busy, and nobody needs a thread
that only reads. When the leader has what it waits for it leaves, and the waiter that came last leads on.

Each waiter brings an *attempt*: a function that is called with the lock held and returns what is waited for, or None.
Attempts are made in the order last come, first served, which is the order of a completion port; an attempt may take
something (a packet), and is then not made again.

Rejected: a condition on which all wake up. Each packet would wake every thread of a port to find that another took it.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_EVENTS = 64


class _Waiter:
    def __init__(self, lock: Any, attempt: Callable[[], Any]) -> None:
        self.attempt, self.result = attempt, None
        self.condition = threading.Condition(lock)


def deadline_of(timeout: float | None) -> float | None:
    """When a timeout in seconds ends, on the monotonic clock; None never does."""
    return None if timeout is None else time.monotonic() + timeout


class Lobby:
    """The lock of a session, and the waiting on it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._gone = threading.Condition(self.lock)  # somebody does not wait any more
        self._waiters: list[_Waiter] = []
        self._leader: _Waiter | None = None
        self._sources: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)

    def add(self, fd: int, take_in: Callable[[], None]) -> None:
        """From now on the leader looks at fd, and calls take_in with the lock held when it is readable."""
        self._sources[fd] = take_in
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """The leader looks at fd no more. To be called before it is closed."""
        if self._sources.pop(fd, None):
            self._epoll.unregister(fd)

    def changed(self) -> None:
        """Something that is waited for may have come. With the lock held."""
        for waiter in reversed(self._waiters):
            if waiter.result is None:
                waiter.result = waiter.attempt()
                if waiter.result is not None and waiter is self._leader:
                    os.eventfd_write(self._bell, 1)
                elif waiter.result is not None:
                    waiter.condition.notify()

    def wait(self, attempt: Callable[[], T | None], deadline: float | None) -> T | None:
        """Waits until an attempt succeeds. Without the lock.

        attempt: called with the lock held, at once and whenever something came, until it returns something; it must not
        raise. deadline: see deadline_of().
        Returns what the attempt returned, or None when the deadline has passed.
        """
        with self.lock:
            result = attempt()
            if result is not None:
                return result
            waiter = _Waiter(self.lock, attempt)
            self._waiters.append(waiter)
            try:
                while waiter.result is None:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    if self._leader is None:
                        self._lead(waiter, left)
                    else:
                        waiter.condition.wait(left)
            finally:
                self._waiters.remove(waiter)
                self._gone.notify_all()
                self._hand_over()
            return waiter.result

    def _lead(self, waiter: _Waiter, left: float | None) -> None:
        self._leader = waiter
        self.lock.release()
        events: list[tuple[int, int]] = []
        try:
            events = self._epoll.poll(left, _EVENTS)
        finally:
            self.lock.acquire()
            self._leader = None
        for fd, _ in events:
            if fd == self._bell:
                os.eventfd_read(self._bell)
            elif take_in := self._sources.get(fd):
                take_in()
        self.changed()

    def _hand_over(self) -> None:
        """Who waits in vain for a leader becomes it."""
        if self._leader is None:
            for waiter in reversed(self._waiters):
                if waiter.result is None:
                    waiter.condition.notify()
                    return

    def close(self) -> None:
        """Ends the waiting: every attempt has to succeed from now on. Returns when nobody waits any more."""
        with self.lock:
            self.changed()
            while self._waiters:
                self._gone.wait()
            if not self._epoll.closed:
                self._epoll.close()
                os.close(self._bell)
