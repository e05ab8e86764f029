# SPDX-License-Identifier: Apache-2.0
"""Errors: an errno, a reason that is finer, and a sentence that says what was wrong and what to do.

Everything that the daemon refuses, and every operation that fails, raises an OverlapError. It is an OSError, and also
the subclass of OSError that Python has for its errno, so `except ConnectionResetError` catches what it catches
elsewhere.
"""

import enum
import errno as _errno
import os


class Reason(enum.IntEnum):
    """What an errno alone does not say. Numbers are for ever; `text` says what it means and what to do."""

    text: str

    def __new__(cls, number: int, text: str = "") -> "Reason":
        reason = int.__new__(cls, number)
        reason._value_ = number
        reason.text = text
        return reason

    NONE = 0, "no further reason"
    UNKNOWN_OP = 1, "the daemon does not know this operation: compare the protocol versions"
    OP_NOT_FOR_SOCKET = 2, "this operation does not go with this type of socket"
    UNKNOWN_FLAGS = 3, "a flag is set that this operation does not know"
    RESERVED_BITS = 4, "a reserved field is not zero"
    BAD_INDICATION = 5, "the indication is not one of plain, routine, quiet"
    ROUTINE_ON_PORT = 6, "a completion routine cannot be used on a socket that has a completion port"
    UNKNOWN_SOCKET = 7, "no socket of this session has this id: it was closed, or never opened"
    UNKNOWN_REGION = 8, "no region of this session has this number: it was released, or never added"
    OUTSIDE_REGION = 9, "the buffer does not lie within its region"
    BUFFER_TOO_LONG = 10, "an operation moves at most 1 GiB, a transmit 2 GiB: split it"
    TOO_MANY_BUFFERS = 11, "an operation takes at most 64 buffers: join some"
    BAD_VECTOR = 12, "the array of slices is not a multiple of 16 bytes, or not aligned to 8"
    BAD_ADDRESS = 13, "the address does not fit the socket's family, or is malformed"
    NOT_CONNECTED = 14, "the socket is not connected"
    ALREADY_CONNECTED = 15, "the socket is already connected"
    CONNECT_PENDING = 16, "a connect is already in progress on this socket"
    NOT_LISTENING = 17, "the socket does not listen: call listen first"
    LISTENING = 18, "the socket listens: it accepts, and neither sends, receives nor connects"
    SEND_SHUT = 19, "the sending side of the socket was shut down"
    RECV_SHUT = 20, "the receiving side of the socket was shut down"
    CREDITS = 21, "as many operations are in flight as the session has credits: wait for completions"
    QUOTA = 22, "a quota of the session or user is used up"
    CANCELLED = 23, "cancelled on request"
    CLOSED = 24, "the socket was closed while the operation was pending"
    THREAD_ENDED = 25, "the thread that posted the operation ended"
    SESSION_ENDED = 26, "the session ended"
    DAEMON_GONE = 27, "the connection to overlapd was lost: see its journal; open a new session"
    DENIED = 28, "the policy does not allow this"
    BAD_FRAME = 29, "a frame or message is malformed"
    OUT_OF_ORDER = 30, "this request is not possible in the present state"
    BAD_MEMORY = 31, "the descriptor is not memory that the daemon can accept"
    UNKNOWN_THREAD = 32, "no thread of this session has this number"
    UNKNOWN_PORT = 33, "no port of this session has this number"
    HAS_PORT = 34, "the socket already has a completion port: the association is for life"
    UNKNOWN_OPTION = 35, "this socket option is not on the list of those that clients may use"
    VERSION = 36, "client and daemon have no protocol version in common: upgrade the older one"
    BUSY = 37, "too many connections: try again later"
    NOT_FOUND = 38, "nothing matched: the operation is already done"
    DUPLICATE = 39, "this number is already in use"
    LEVEL = 40, "this needs a higher protocol level than the session has: ask for it in the hello"
    BAD_LANE = 41, "the lane breaks the rules of its layout"
    BAD_DESCRIPTOR = 42, "the descriptor is no socket that the daemon can take over"
    EXPORTED = 43, "the socket was exported while the operation was pending"
    UNKNOWN_SESSION = 44, "no session that this one may share with has this number"
    UNKNOWN_TICKET = 45, "no socket is shared under this ticket: it was used, or its socket is closed"
    UNKNOWN_HANDLE = 46, "this thread handle was closed, never made, or not given to this session"
    UNKNOWN_FUNCTION = 47, "the thread's session has registered no function with this number"
    BAD_NAME = 48, "the name is no host name or address"
    NAME_NOT_FOUND = 49, "the name does not exist, or has no address of this family"
    NAME_TRY_AGAIN = 50, "the name servers did not answer: try again later"
    NAME_FAILED = 51, "the name servers failed, or resolving is not possible here"
    OOB_INLINE = 52, "urgent data is in the stream of this socket: receive it there, or set OOB_INLINE to 0"
    WOULD_WAIT = 53, "it cannot be done now, and has the flag DONTWAIT"
    BAD_MESSAGE = 56, "a received message has a place of 128 to 384 bytes in aux, at a multiple of 8"
    BAD_CONTROL = 57, "a control item is unknown, malformed, there twice, or not for this socket"
    PREPARED = 60, "the socket is prepared for an accept: until that has ended it does nothing else"
    NOT_NEW = 61, "an accept takes a stream of its listener's family that is neither bound nor connected"
    REPLACED = 62, "another kernel socket took the place of the one on which the operation was pending"
    UNKNOWN_SERVICE = 63, "the machine knows no service of this name: give the number of its port"
    UNKNOWN_FILE = 65, "no file of this session has this number: it was removed, or never added"
    BAD_FILE = 66, "the descriptor is no file that can be sent: open a regular file for reading only"
    FILE_TOO_SHORT = 67, "the file ends before the bytes that were to be sent: the rest was not sent"
    FILE_UNREADABLE = 68, "the file cannot be read: the rest was not sent"
    BAD_ELEMENT = 69, "an element has unknown flags, a region and the flag FILE, or lies beyond any file"
    UNKNOWN_IOCTL = 70, "the daemon does not know this control code: compare the protocol versions"
    BAD_INPUT = 71, "the input of this control has another length or other values than it takes"
    OUTPUT_TOO_SMALL = 72, "there is no room for the output, or too little: the value says for how many"
    NOT_WATCHED = 73, "overlapd cannot see addresses and routes here: let its service have AF_NETLINK"
    NOT_OVERLAPPED = 79, "the socket is not overlapped: all calls on it are synchronous, and it has no port"


def reason_name(reason: int) -> str:
    """The name of a reason; for one that this version does not know, its number."""
    try:
        return Reason(reason).name
    except ValueError:
        return str(reason)


class OverlapError(OSError):
    """Something was refused, or an operation failed.

    errno: the positive Linux number. reason: finer, 0 where there is nothing to add (compare with Reason). text: what
    was wrong, with which value, and what to do; the daemon's own words where it said something.
    """

    reason: int = 0
    text: str = ""

    @property
    def reason_name(self) -> str:
        """The name of the reason, as docs/PROTOCOL.md section 11 has it."""
        return reason_name(self.reason)

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno or 0, str(self.errno))
        reason = f", {self.reason_name}" if self.reason else ""
        return f"[{name}{reason}] {self.text}"


_NUMBERS: dict[type[OSError], tuple[int, ...]] = {
    ConnectionRefusedError: (_errno.ECONNREFUSED,), ConnectionResetError: (_errno.ECONNRESET,),
    ConnectionAbortedError: (_errno.ECONNABORTED,), BrokenPipeError: (_errno.EPIPE, _errno.ESHUTDOWN),
    PermissionError: (_errno.EACCES, _errno.EPERM), TimeoutError: (_errno.ETIMEDOUT,),
    FileNotFoundError: (_errno.ENOENT,), FileExistsError: (_errno.EEXIST,), ProcessLookupError: (_errno.ESRCH,),
    BlockingIOError: (_errno.EAGAIN, _errno.EALREADY, _errno.EINPROGRESS),
}
_CLASSES: dict[int, type[OverlapError]] = {
    number: kind for base, numbers in _NUMBERS.items()
    for kind in [type(f"Overlap{base.__name__}", (OverlapError, base), {"__doc__": f"Also a {base.__name__}."})]
    for number in numbers
}


def error(status: int, reason: int = 0, text: str = "") -> OverlapError:
    """The error of a status.

    status: -errno. reason: a number. text: for a person; empty: what the reason means, or else the errno.
    Returns it, for the caller to raise.
    """
    if not text and reason:
        try:
            text = Reason(reason).text
        except ValueError:
            text = "a reason that this version does not know: the daemon is newer"
    made = _CLASSES.get(-status, OverlapError)(-status, text or os.strerror(-status))
    made.reason, made.text = reason, text or os.strerror(-status)
    return made
