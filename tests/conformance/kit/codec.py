# SPDX-License-Identifier: Apache-2.0
"""The wire: frames, entries, records and the protobuf of control messages, packed and unpacked by field names.

Written from docs/PROTOCOL.md. Nothing here checks what a case wants to send: a wrong frame is what some cases are about.
"""

import struct

HEADER = struct.Struct("<IBBH")
CONTROL, POST, RECORDS = 1, 2, 3
BODY_MAX = {CONTROL: 16384, POST: 131072, RECORDS: 131072}
SLOT_SIZE = 64
ADDRESS_SIZE = 116

ENTRY_FIELDS = ("tag", "socket", "op", "indication", "n_slots", "flags", "op_flags", "buffer.offset", "buffer.len",
                "buffer.region", "other", "aux.offset", "aux.len", "aux.region")
ENTRY = struct.Struct("<QQBBBBIQIIQQII")
ADDRESS_FIELDS = ("family", "path_len", "port", "scope_id", "host")
ADDRESS = struct.Struct("<BBHI108s")
RECORD_FIELDS = ("tag", "thread", "key", "sequence", "bytes", "value", "status", "flags", "reason", "kind", "op",
                 "indication", "reserved", "payload_len")
RECORD = struct.Struct("<QQQQQQiHHBBBBI")


class Malformed(Exception):
    """The other side sent what the page does not allow."""


# --- Frames --------------------------------------------------------------------------------------------------------


def pack_frame(kind, body, n_fds=0, **other):
    """A frame; body_len, kind, n_fds and reserved may be given otherwise, as a case asks."""
    header = {"body_len": len(body), "kind": kind, "n_fds": n_fds, "reserved": 0, **other}
    return HEADER.pack(header["body_len"], header["kind"], header["n_fds"], header["reserved"]) + body


def pack_address(fields):
    host = fields.get("host", b"")
    return ADDRESS.pack(fields.get("family", 0), fields.get("path_len", len(host) if fields.get("family") == 1 else 0),
                        fields.get("port", 0), fields.get("scope_id", 0), host)


def unpack_address(raw):
    if len(raw) != ADDRESS_SIZE:
        raise Malformed(f"an address has {ADDRESS_SIZE} bytes, not {len(raw)}")
    found = dict(zip(ADDRESS_FIELDS, ADDRESS.unpack(raw)))
    size = {1: found["path_len"], 2: 4, 10: 16}.get(found["family"], 0)
    if any(found["host"][size:]):
        raise Malformed("the rest of an address is not zero")
    found["host"] = found["host"][:size]
    return found


def pack_entry(fields):
    """1 to 3 slots: as many as its field n_slots says, or as its address needs."""
    address = {key[8:]: value for key, value in fields.items() if key.startswith("address.")}
    needed = 1 if not address else 3 if address.get("family") == 1 else 2
    values = {"n_slots": needed, **fields}
    raw = ENTRY.pack(*(values.get(name, 0) for name in ENTRY_FIELDS))
    raw += pack_address(address) + values.get("reserved", b"").ljust(12, b"\0")
    size = values.get("slots_sent", values["n_slots"]) * SLOT_SIZE
    return raw[:size].ljust(size, b"\0")


def unpack_entries(body):
    """The entries of a POST frame and the payload behind them."""
    n_slots, reserved = struct.unpack_from("<II", body)
    end = 8 + n_slots * SLOT_SIZE
    if reserved or end > len(body):
        raise Malformed(f"a POST frame of {len(body)} bytes says {n_slots} slots, reserved {reserved}")
    entries, at = [], 8
    while at < end:
        entry = dict(zip(ENTRY_FIELDS, ENTRY.unpack_from(body, at)))
        if not 1 <= entry["n_slots"] <= 3 or at + entry["n_slots"] * SLOT_SIZE > end:
            raise Malformed(f"an entry has {entry['n_slots']} slots")
        if entry["n_slots"] > 1:
            raw = body[at + SLOT_SIZE:at + entry["n_slots"] * SLOT_SIZE].ljust(128, b"\0")
            entry.update((f"address.{key}", value) for key, value in unpack_address(raw[:ADDRESS_SIZE]).items())
            if any(raw[ADDRESS_SIZE:]):
                raise Malformed("the reserved bytes of an entry are not zero")
        entries.append(entry)
        at += entry["n_slots"] * SLOT_SIZE
    return entries, body[end:]


def pack_record(fields):
    return RECORD.pack(*(fields.get(name, 0) for name in RECORD_FIELDS))


def unpack_record(raw):
    return dict(zip(RECORD_FIELDS, RECORD.unpack(raw)))


def unpack_records(body):
    """The records of a RECORDS frame, each with its payload."""
    if len(body) < 8:
        raise Malformed(f"a RECORDS frame has a body of {len(body)} bytes")
    n_records, reserved = struct.unpack_from("<II", body)
    at = 8 + n_records * SLOT_SIZE
    if reserved or n_records == 0 or at > len(body):
        raise Malformed(f"a RECORDS frame of {len(body)} bytes says {n_records} records, reserved {reserved}")
    records = []
    for number in range(n_records):
        record = unpack_record(body[8 + number * SLOT_SIZE:8 + (number + 1) * SLOT_SIZE])
        record["payload"] = body[at:at + record["payload_len"]]
        at += record["payload_len"]
        records.append(record)
    if at != len(body):
        raise Malformed(f"a RECORDS frame has {len(body)} bytes, but its records and payloads are {at}")
    return records


# --- Control messages ----------------------------------------------------------------------------------------------


def pack_varint(value):
    value &= (1 << 64) - 1
    raw = bytearray()
    while value > 127:
        raw.append(value & 127 | 128)
        value >>= 7
    raw.append(value)
    return bytes(raw)


def pack_field(number, value):
    """A field of a number that need not be known: bytes by length, numbers as varint."""
    if isinstance(value, (bytes, bytearray)):
        return pack_varint(number << 3 | 2) + pack_varint(len(value)) + bytes(value)
    return pack_varint(number << 3) + pack_varint(value)


def pack_message(contract, message, values):
    """values: nested dictionaries by field name; a key "@N" is a field of number N that need not exist."""
    raw = b""
    for name, value in values.items():
        if name.startswith("@"):
            raw += pack_field(int(name[1:]), value)
            continue
        field = contract.field_named(message, name)
        if field.kind in contract.messages:
            raw += pack_field(field.number, pack_message(contract, field.kind, value))
        elif field.kind == "fixed64":
            raw += pack_varint(field.number << 3 | 1) + struct.pack("<Q", value)
        elif field.kind in ("string", "bytes"):
            raw += pack_field(field.number, value)
        elif field.kind in ("sint32", "sint64"):
            raw += pack_field(field.number, value << 1 ^ value >> 63)
        else:
            raw += pack_field(field.number, int(value))
    return raw


def unpack_varint(raw, at):
    value = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise Malformed("a varint does not end")
        value |= (raw[at] & 127) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 128:
            return value, at


def unpack_fields(raw):
    """Triples of number, wire type and value."""
    at = 0
    while at < len(raw):
        key, at = unpack_varint(raw, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = unpack_varint(raw, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = raw[at:at + size], at + size
        elif kind == 2:
            size, at = unpack_varint(raw, at)
            value, at = raw[at:at + size], at + size
        else:
            raise Malformed(f"wire type {kind}")
        if at > len(raw):
            raise Malformed("a field passes the end of its message")
        yield number, kind, value


def unpack_message(contract, message, raw, prefix=""):
    """A flat dictionary by path. A message that is there but empty has the value {}."""
    found = {}
    for number, kind, value in unpack_fields(raw):
        field = contract.messages[message].get(number)
        if field is None:
            continue
        path = prefix + field.name
        if field.kind in contract.messages:
            if kind != 2:
                raise Malformed(f"{path} is no message")
            found[path] = {}
            found.update(unpack_message(contract, field.kind, value, path + "."))
        elif field.kind == "fixed64":
            found[path] = struct.unpack("<Q", value)[0]
        elif field.kind in ("sint32", "sint64"):
            found[path] = value >> 1 ^ -(value & 1)
        else:
            found[path] = value
    return found


def nest(paths):
    """Turns {"address.port": 80} into {"address": {"port": 80}}."""
    tree = {}
    for path, value in paths.items():
        at = tree
        *parents, last = path.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return tree
