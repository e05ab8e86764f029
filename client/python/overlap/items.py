# SPDX-License-Identifier: Apache-2.0
"""Control items: what a datagram has beside its bytes and its sender."""

import errno
import socket
import struct
from typing import NamedTuple

from overlap import wire
from overlap.error import Reason, error

ITEMS_SIZE = 64  # bytes of the place for one item of each type

_PACKET_INFO, _HOP_LIMIT, _TRAFFIC_CLASS = 1, 2, 3
_NUMBER = struct.Struct("<I")
_HOST_LEN = {socket.AF_INET: 4, socket.AF_INET6: 16}


class PacketInfo(NamedTuple):
    """Received: whom a datagram was sent to, and the number of the interface where it came in. To be sent: its source,
    or "" for any, and the interface where it is to leave, or 0."""

    host: str = ""
    interface: int = 0


class Items(NamedTuple):
    """The items of a datagram; None: it has none of this type."""

    packet_info: PacketInfo | None = None
    hop_limit: int | None = None  # 1 to 255
    traffic_class: int | None = None  # 0 to 255


def _item(kind: int, value: bytes) -> bytes:
    raw = wire.CONTROL.pack(wire.CONTROL.size + len(value), kind, 0) + value
    return raw + bytes(-len(raw) % 8)


def _number(name: str, value: int) -> bytes:
    if not 0 <= value <= 255:
        raise error(-errno.EINVAL, Reason.BAD_CONTROL, f"a {name} of {value}: it is a byte")
    return _NUMBER.pack(value)


def items_to_wire(family: int, items: Items) -> bytes:
    """What goes along with a datagram. Raises OverlapError with BAD_CONTROL."""
    raw = b""
    if (info := items.packet_info) is not None:
        try:
            host = socket.inet_pton(family, info.host) if info.host else b""
            raw += _item(_PACKET_INFO, wire.PACKET_INFO.pack(family, info.interface, host))
        except (OSError, struct.error) as failure:
            raise error(-errno.EINVAL, Reason.BAD_CONTROL, f"{info} is none of family {family}") from failure
    if items.hop_limit is not None:
        raw += _item(_HOP_LIMIT, _number("hop limit", items.hop_limit))
    if items.traffic_class is not None:
        raw += _item(_TRAFFIC_CLASS, _number("traffic class", items.traffic_class))
    return raw


def items_from_wire(raw: bytes | memoryview) -> Items:
    """What came with a datagram; items of a type that is not known are skipped. Raises ValueError when it is
    malformed."""
    items, at = Items(), 0
    while at < len(raw):
        if len(raw) - at < wire.CONTROL.size:
            raise ValueError("a control item is cut off")
        length, kind, _ = wire.CONTROL.unpack_from(raw, at)
        value = bytes(raw[at + wire.CONTROL.size:at + length])
        if not wire.CONTROL.size <= length <= len(raw) - at:
            raise ValueError(f"a control item of {length} bytes, where there are {len(raw) - at}")
        items = _with(items, kind, value)
        at += length + -length % 8
    return items


def _with(items: Items, kind: int, value: bytes) -> Items:
    try:
        if kind == _PACKET_INFO:
            family, interface, host = wire.PACKET_INFO.unpack(value)
            name = socket.inet_ntop(family, host[:_HOST_LEN[socket.AddressFamily(family)]])
            return items._replace(packet_info=PacketInfo(name, interface))
        if kind == _HOP_LIMIT:
            return items._replace(hop_limit=_NUMBER.unpack(value)[0])
        if kind == _TRAFFIC_CLASS:
            return items._replace(traffic_class=_NUMBER.unpack(value)[0])
    except (KeyError, struct.error) as failure:
        raise ValueError(f"a control item of type {kind} is malformed") from failure
    return items
