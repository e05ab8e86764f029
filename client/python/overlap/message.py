# SPDX-License-Identifier: Apache-2.0
"""Control messages as dictionaries, and their bytes: the part of protobuf (proto3) that overlapd speaks.

A message is a dictionary from the names of its fields to values: int, bool, bytes, str, or a dictionary. What is absent
is zero. A field that belongs to a `oneof` is present or not, also when it is empty; so `{"status": {}}` is a message.

The limits of docs/PROTOCOL.md, section 4, hold for what is read; what is written stays below them by itself. Rejected:
the protobuf package. It is a compiled module for five dozen lines, and a client that may have no network has often no
package index either.
"""

import struct
from typing import Any

from overlap.schema import MESSAGES

UNKNOWN_MAX = 64  # unknown fields of a message
FIELDS_MAX = 256  # fields in all
DEPTH_MAX = 4  # levels of messages in messages

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# The wire type of each scalar, and the bits of those that are numbers.
_SCALARS: dict[str, tuple[int, int]] = {
    "uint32": (_VARINT, 32), "uint64": (_VARINT, 64), "sint32": (_VARINT, 32), "sint64": (_VARINT, 64),
    "enum": (_VARINT, 31), "bool": (_VARINT, 1), "fixed64": (_FIXED64, 64), "bytes": (_BYTES, 0), "string": (_BYTES, 0),
}
_NUMBERS = {message: {name: (number, kind) for number, (name, kind) in fields.items()}
            for message, fields in MESSAGES.items()}

Message = dict[str, Any]


class BadMessage(ValueError):
    """The bytes are no such message; the text says where and why."""


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _write_value(kind: str, value: Any) -> bytes:
    if kind == "fixed64":
        return struct.pack("<Q", value)
    if kind in ("bytes", "string"):
        raw: bytes = value.encode() if kind == "string" else bytes(value)
        return _write_varint(len(raw)) + raw
    if kind in ("sint32", "sint64"):
        return _write_varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if value < 0 or value >> _SCALARS[kind][1]:
        raise ValueError(f"{value} does not fit a field of type {kind}")
    return _write_varint(int(value))


def pack(name: str, message: Message) -> bytes:
    """The bytes of a message.

    name: of its type, as in overlapd.proto.
    message: its fields. An unknown name is a KeyError, a number that does not fit a ValueError.
    """
    out = bytearray()
    for field, (number, kind) in _NUMBERS[name].items():
        if field not in message:
            continue
        value = message[field]
        if kind in MESSAGES:
            body = pack(kind, value)
            out += _write_varint(number << 3 | _BYTES) + _write_varint(len(body)) + body
        elif value or (name, field) in _CHOSEN:
            out += _write_varint(number << 3 | _SCALARS[kind][0]) + _write_value(kind, value)
    if unknown := message.keys() - _NUMBERS[name].keys():
        raise KeyError(f"{name} has no field {', '.join(sorted(unknown))}")
    return bytes(out)


# Members of a oneof that are no messages: written also when they are zero, because their presence says something.
_CHOSEN = {("Attach", "thread"), ("Attach", "port"), ("Cancel", "tag"), ("Cancel", "thread"), ("Cancel", "all")}


class _Reader:
    """A place in the bytes of one message and those in it, and what of the limits is used up."""

    def __init__(self, raw: bytes | bytearray | memoryview) -> None:
        self.raw, self.n_fields = bytes(raw), 0

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise BadMessage(f"a number is cut off at byte {at}")
            byte = self.raw[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                if value >> 64:
                    break
                return value, at
        raise BadMessage(f"the number before byte {at} has more than 64 bits")

    def skip_or_read(self, wire: int, at: int, end: int) -> tuple[int | bytes, int]:
        """The value of a field, whatever it is, and where the next one begins."""
        if wire == _VARINT:
            return self.varint(at, end)
        if wire == _BYTES:
            length, at = self.varint(at, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise BadMessage(f"byte {at} follows a field of the unknown wire type {wire}")
        if length > end - at:
            raise BadMessage(f"the field at byte {at} has {length} bytes, but only {end - at} are there")
        return self.raw[at:at + length], at + length

    def message(self, name: str, at: int, end: int, depth: int) -> Message:
        if depth > DEPTH_MAX:
            raise BadMessage(f"messages are nested more than {DEPTH_MAX} deep")
        message: Message = {}
        n_unknown = 0
        while at < end:
            key, at = self.varint(at, end)
            self.n_fields += 1
            field = MESSAGES[name].get(key >> 3)
            n_unknown += field is None
            if key >> 3 == 0 or n_unknown > UNKNOWN_MAX or self.n_fields > FIELDS_MAX:
                raise BadMessage(f"{name}: field number 0, or too many fields, before byte {at}")
            start = at
            value, at = self.skip_or_read(key & 7, at, end)
            if field is not None:
                message[field[0]] = self.value(field[1], key & 7, value, start, depth)
        return message

    def value(self, kind: str, wire: int, value: int | bytes, start: int, depth: int) -> Any:
        expected, bits = _SCALARS.get(kind, (_BYTES, 0))
        if wire != expected:
            raise BadMessage(f"the field before byte {start} has the wire type {wire}, not {expected}")
        if kind == "fixed64":
            return struct.unpack("<Q", bytes(value))[0]  # type: ignore[arg-type]
        if kind in MESSAGES:
            length, begin = self.varint(start, len(self.raw))
            return self.message(kind, begin, begin + length, depth + 1)
        if kind == "bytes":
            return value
        if kind == "string":
            return self.text(bytes(value), start)
        if value >> bits:  # type: ignore[operator]
            raise BadMessage(f"the number {value!r} at byte {start} does not fit a field of type {kind}")
        if kind in ("sint32", "sint64"):
            return (value >> 1) ^ -(value & 1)  # type: ignore[operator]
        return bool(value) if kind == "bool" else value

    @staticmethod
    def text(value: bytes, start: int) -> str:
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise BadMessage(f"the text at byte {start} is not UTF-8") from error
        if "\0" in text:
            raise BadMessage(f"the text at byte {start} has a NUL in it")
        return text


def unpack(name: str, raw: bytes | bytearray | memoryview) -> Message:
    """A message from its bytes.

    name: of its type. raw: all of its bytes, copied.
    Returns the fields that are there. Raises BadMessage when the bytes break the rules.
    """
    reader = _Reader(raw)
    return reader.message(name, 0, len(reader.raw), 1)
