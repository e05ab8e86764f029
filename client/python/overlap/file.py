# SPDX-License-Identifier: Apache-2.0
"""Files that the daemon sends: lent once, by descriptor, and named by a number from then on."""

from typing import TYPE_CHECKING, NamedTuple, Protocol, Union

from overlap import wire
from overlap.error import Reason
from overlap.message import Message

if TYPE_CHECKING:
    from overlap.session import Session
    from overlap.thread import Thread


class HasFileno(Protocol):
    """What has a descriptor: an open file, for one."""

    def fileno(self) -> int:
        """The descriptor."""


FileLike = Union[int, HasFileno]


class Range(NamedTuple):
    """A range of a file that is transmitted. offset: bytes from its start. count: bytes; 0: all to its end."""

    offset: int = 0
    count: int = 0


# Why a file cannot be lent that can be sent all the same, by whoever reads it himself.
UNFIT = (Reason.LEVEL, Reason.BAD_FILE, Reason.QUOTA)


class File:
    """A file that is lent to the daemon. Made by Session.file()."""

    def __init__(self, session: "Session", reply: Message) -> None:
        """reply: to the request that lent it."""
        self.session = session
        self.number: int = reply.get("file_add", {}).get("file", 0)
        self.closed = False

    def __repr__(self) -> str:
        return f"<File {self.number}{' closed' if self.closed else ''}>"

    def close(self, thread: "Thread | None" = None) -> None:
        """Takes it back: waits for the end of the operations that use it. Closing twice is fine.

        thread: whose connection carries the request; None: the calling thread's.
        """
        if self.closed or self.session.closed or self.session.lost:
            self.closed = True
            return
        self.closed = True
        self.session.request("file_remove", {"file": self.number}, thread=thread)

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def range_fits(part: Range) -> bool:
    """Whether an entry can say it."""
    return 0 <= part.offset < 1 << 63 and 0 <= part.count <= wire.TRANSMIT_LEN_MAX
