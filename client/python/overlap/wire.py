# SPDX-License-Identifier: Apache-2.0
"""The fixed layouts: frames, entries, records and addresses, as docs/PROTOCOL.md sections 3, 5 and 7 have them.

Nothing here does anything but turn numbers into bytes and back; who may say what when is the business of channel.py and
session.py. Numbers that are not known stay numbers: a newer daemon may send them.
"""

import enum
import struct
from typing import NamedTuple

PROTOCOL_MIN = PROTOCOL_MAX = 1


class Frame(enum.IntEnum):
    """Kinds of frames."""

    CONTROL = 1
    POST = 2
    RECORDS = 3


FRAME_MAX = {Frame.CONTROL: 16384, Frame.POST: 131072, Frame.RECORDS: 131072}  # bytes of a body
SLOT_SIZE = RECORD_SIZE = 64
SLICE_SIZE = 16
ADDRESS_SIZE = 116
BATCH_MAX = 2047  # slots of a POST frame, records of a RECORDS frame
SLICES_MAX = 64  # of one operation
LEN_MAX = 1 << 30  # bytes of one operation
TRANSMIT_LEN_MAX = 2147483646  # bytes of one that sends a file
INLINE_LEN_MAX = 65535  # bytes of the payload of one entry
INLINE_OP_LEN_MAX = 64 * 16384  # bytes of a send that is continued
INLINE_PIECE = 16384  # in which the daemon keeps payload
RESOLVE_ADDRESSES_MAX = 64
RESOLVE_NAME_MAX = 253
SERVICE_NAME_MAX = 63
INTERFACES_MAX = 256
KEEP_ALIVE_MS_MAX = 32767000

FRAME_HEADER = struct.Struct("<IBBH")
BATCH_HEADER = struct.Struct("<II")
ENTRY = struct.Struct("<QQBBBBIQIIQQII")
ADDRESS = struct.Struct("<BBHI108s")
RECORD = struct.Struct("<QQQQQQiHHBBBBI")
SLICE = struct.Struct("<QII")
ELEMENT = struct.Struct("<QIHH")
KEEP_ALIVE = struct.Struct("<IIII")
INTERFACE = struct.Struct("<IIB7x16s116s4x")
MESSAGE = struct.Struct("<116sIII")  # the sender, flags, bytes of items, 0
CONTROL = struct.Struct("<IHH")
PACKET_INFO = struct.Struct("<B3xI16s")
CONTROL_LEN_MAX = 256


class Op(enum.IntEnum):
    """The operations."""

    CONNECT = 1
    ACCEPT = 2
    RECV = 3
    SEND = 4
    RECVFROM = 5
    SENDTO = 6
    RECVMSG = 7
    SENDMSG = 8
    DISCONNECT = 9
    TRANSMIT_FILE = 10
    TRANSMIT_PACKETS = 11
    IOCTL = 12
    POLL = 13
    RESOLVE = 14
    CONNECT_NAME = 15


class Indication(enum.IntEnum):
    """Where the record of an operation goes."""

    PLAIN = 0
    ROUTINE = 1
    QUIET = 2


class EntryFlags(enum.IntFlag):
    """Flags of an entry."""

    WANT_VERDICT = 0x01
    VECTOR = 0x02
    INLINE = 0x04
    MORE = 0x08


class MessageFlags(enum.IntFlag):
    """Flags of what sends and receives."""

    OOB = 0x01
    PEEK = 0x02
    DONTROUTE = 0x04
    PUSH_IMMEDIATE = 0x20
    DONTWAIT = 0x40
    WAITALL = 0x100
    PARTIAL = 0x8000


class TransmitFlags(enum.IntFlag):
    """Flags of what disconnects, and of what may when it has sent a file."""

    DISCONNECT = 0x01
    REUSE = 0x02


class ElementFlags(enum.IntFlag):
    """Flags of an element of TRANSMIT_PACKETS."""

    FILE = 0x01
    PACKET_END = 0x02


class Poll(enum.IntFlag):
    """Events that a poll waits for and reports."""

    IN = 0x01
    PRIORITY = 0x02
    OUT = 0x04
    ERROR = 0x08
    HUP = 0x10


class Ioctl(enum.IntEnum):
    """What an ioctl is about."""

    ADDRESS_LIST_CHANGE = 1
    ROUTING_INTERFACE_CHANGE = 2
    ROUTING_INTERFACE_QUERY = 3
    INTERFACE_LIST = 4
    KEEP_ALIVE_VALUES = 5
    BYTES_TO_READ = 6
    AT_MARK = 7
    FLUSH = 8


class InterfaceFlags(enum.IntFlag):
    """What an interface is."""

    UP = 0x01
    BROADCAST = 0x02
    LOOPBACK = 0x04
    POINT_TO_POINT = 0x08
    MULTICAST = 0x10


class RecordKind(enum.IntEnum):
    """What a record tells of."""

    COMPLETION = 0
    APC = 1
    SETTLED = 2
    WAITING = 3


class RecordFlags(enum.IntFlag):
    """Flags of a record."""

    REFUSED = 0x01
    TRUNCATED = 0x02
    CONTROL_TRUNCATED = 0x04
    PARTIAL = 0x08
    INDETERMINATE = 0x10
    PORT = 0x20
    IMMEDIATE = 0x40


class ReceivedFlags(enum.IntFlag):
    """What a message says of its datagram."""

    TRUNCATED = 0x02  # it was longer than the buffers
    CONTROL_TRUNCATED = 0x04  # its items were longer than their place
    BROADCAST = 0x400  # it was sent to all of a network
    MULTICAST = 0x800  # it was sent to a group


class Slice(NamedTuple):
    """A run of bytes in a region; region 0 names none."""

    offset: int = 0
    len: int = 0
    region: int = 0


NO_SLICE = Slice()


class Entry(NamedTuple):
    """One operation, as it is posted; `address` is 116 bytes, or empty where the operation has none."""

    tag: int
    socket: int
    op: int
    indication: int = Indication.PLAIN
    flags: int = 0
    op_flags: int = 0
    buffer: Slice = NO_SLICE
    other: int = 0
    aux: Slice = NO_SLICE
    address: bytes = b""

    def n_slots(self) -> int:
        """1, or with an address 2 or 3."""
        if not self.address:
            return 1
        return 3 if self.address[0] == 1 else 2

    def pack(self) -> bytes:
        """The slots of the entry."""
        n_slots = self.n_slots()
        head = ENTRY.pack(self.tag, self.socket, self.op, self.indication, n_slots, self.flags, self.op_flags,
                          *self.buffer, self.other, *self.aux)
        return head + self.address.ljust(2 * SLOT_SIZE, b"\0")[:(n_slots - 1) * SLOT_SIZE]


def entry_unpack(raw: bytes | memoryview) -> tuple[Entry, int]:
    """The entry at the start of some slots, and how many of them it has. Raises ValueError when that is not
    possible."""
    if len(raw) < SLOT_SIZE:
        raise ValueError("an entry is cut off")
    tag, socket, op, indication, n_slots, flags, op_flags, *rest = ENTRY.unpack_from(raw)
    if not 1 <= n_slots <= 3 or len(raw) < n_slots * SLOT_SIZE:
        raise ValueError(f"an entry has {n_slots} slots")
    address = bytes(raw[SLOT_SIZE:n_slots * SLOT_SIZE]).ljust(ADDRESS_SIZE, b"\0")[:ADDRESS_SIZE]
    return Entry(tag, socket, op, indication, flags, op_flags, Slice(*rest[:3]), rest[3], Slice(*rest[4:]),
                 address if n_slots > 1 else b""), n_slots


class Record(NamedTuple):
    """The end of one operation, an APC, or a verdict."""

    tag: int
    thread: int
    key: int
    sequence: int
    bytes: int
    value: int
    status: int
    flags: int
    reason: int
    kind: int
    op: int
    indication: int
    reserved: int
    payload_len: int


def frame_pack(kind: Frame, body: bytes | bytearray, n_fds: int = 0) -> bytes:
    """A frame: header and body. Raises ValueError when the body is empty or too long."""
    if not 0 < len(body) <= FRAME_MAX[kind]:
        raise ValueError(f"a body of {len(body)} bytes: a {kind.name} frame has 1 to {FRAME_MAX[kind]}")
    return FRAME_HEADER.pack(len(body), kind, n_fds, 0) + body


def frame_parse(raw: bytes | bytearray | memoryview) -> tuple[int, int, int] | None:
    """The header of the frame that begins here: body_len, kind, n_fds; None while it is incomplete.

    Raises ValueError when it can be no frame: the connection is then of no more use.
    """
    if len(raw) < FRAME_HEADER.size:
        return None
    body_len, kind, n_fds, reserved = FRAME_HEADER.unpack_from(raw)
    if kind not in FRAME_MAX or reserved or n_fds > 1 or not 0 < body_len <= FRAME_MAX[Frame(kind)]:
        raise ValueError(f"a frame of kind {kind} with {body_len} bytes, {n_fds} descriptors and {reserved} reserved")
    return body_len, kind, n_fds


def records_unpack(body: bytes | memoryview) -> tuple[list[Record], memoryview]:
    """The records of a RECORDS frame, and the payloads behind them. Raises ValueError when the lengths do not agree."""
    if len(body) < BATCH_HEADER.size:
        raise ValueError("a RECORDS frame is shorter than its header")
    n_records, reserved = BATCH_HEADER.unpack_from(body)
    end = BATCH_HEADER.size + n_records * RECORD_SIZE
    if reserved or not 0 < n_records <= BATCH_MAX or end > len(body):
        raise ValueError(f"a RECORDS frame of {len(body)} bytes claims to hold {n_records} records")
    view = memoryview(body)
    records = [Record._make(fields) for fields in RECORD.iter_unpack(view[BATCH_HEADER.size:end])]
    if sum(record.payload_len for record in records) != len(body) - end:
        raise ValueError(f"{len(body) - end} bytes of payload are not what the records say")
    return records, view[end:]
