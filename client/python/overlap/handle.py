# SPDX-License-Identifier: Apache-2.0
"""APCs across sessions: a handle names a thread, a number names a function that its session has registered.

Never an address: what another process may have called here is what was registered for that.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overlap.session import Session


class ThreadHandle:
    """Names a thread, in this session or another. `raw` is its 16 bytes, which can be sent to whom it was given."""

    def __init__(self, session: "Session", raw: bytes) -> None:
        """session: through which the APCs are queued. raw: the 16 bytes of a handle."""
        self.session, self.raw = session, bytes(raw)

    def queue(self, function: int, argument: int = 0) -> None:
        """Queues an APC to the thread: its session's function of that number runs in its next alertable wait.

        function: as Session.register() returned it, there. argument: 64 bits, which the function gets.
        Returns when it is queued. Raises OverlapError: EBADF (UNKNOWN_HANDLE), ESRCH (THREAD_ENDED), ENOENT
        (UNKNOWN_FUNCTION), ENOBUFS (too many wait).
        """
        self.session.request("apc_queue", {"handle": self.raw, "function": function, "argument": argument})

    def give(self, session: int) -> None:
        """Lets another session of the same user and unit use the handle.

        session: its public number (Session.number, there). Raises OverlapError: ESRCH (UNKNOWN_SESSION).
        """
        self.session.request("thread_handle_give", {"handle": self.raw, "session": session})

    def close(self) -> None:
        """Makes the handle useless for everybody. Only the session that opened it may."""
        self.session.request("thread_handle_close", {"handle": self.raw})
