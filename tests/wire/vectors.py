#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of the protocol, which shares nothing with the C code: it reads the golden vectors. TAP.

usage: vectors.py PROTO_FOLDER [PAGE]

PAGE is docs/PROTOCOL.md, whose worked example must show the same bytes. Each vector (PROTO_FOLDER/vectors/*.txt) is one frame in hex, with lines "= path value" that say what it holds. The reader
decodes the bytes by overlapd.proto, which it parses itself, and by the tables below, compares what it found with
those lines, and encodes it again: the same bytes must come out.
"""

import json
import pathlib
import re
import struct
import sys

# --- Layouts (layout.h, written down a second time) --------------------------------------------------------------

KINDS = {1: "CONTROL", 2: "POST", 3: "RECORDS"}
BODY_MAX = {1: 16384, 2: 131072, 3: 131072}
FAMILIES = {0: "NONE", 1: "UNIX", 2: "INET", 10: "INET6"}
OPS = {1: "CONNECT", 2: "ACCEPT", 3: "RECV", 4: "SEND", 5: "RECVFROM", 6: "SENDTO", 7: "RECVMSG", 8: "SENDMSG",
       9: "DISCONNECT", 10: "TRANSMIT_FILE", 11: "TRANSMIT_PACKETS", 12: "IOCTL", 13: "POLL", 14: "RESOLVE",
       15: "CONNECT_NAME"}
INDICATIONS = {0: "PLAIN", 1: "ROUTINE", 2: "QUIET"}
RECORD_KINDS = {0: "COMPLETION", 1: "APC", 2: "SETTLED", 3: "WAITING"}

ENTRY = [("tag", "Q"), ("socket", "Q"), ("op", "B", OPS), ("indication", "B", INDICATIONS), ("n_slots", "B"),
         ("flags", "B"), ("op_flags", "I"), ("buffer.offset", "Q"), ("buffer.len", "I"), ("buffer.region", "I"),
         ("other", "Q"), ("aux.offset", "Q"), ("aux.len", "I"), ("aux.region", "I")]
ADDRESS = [("address.family", "B", FAMILIES), ("address.path_len", "B"), ("address.port", "H"),
           ("address.scope_id", "I")]
RECORD = [("tag", "Q"), ("thread", "Q"), ("key", "Q"), ("sequence", "Q"), ("bytes", "Q"), ("value", "Q"),
          ("status", "i"), ("flags", "H"), ("reason", "H"), ("kind", "B", RECORD_KINDS), ("op", "B", OPS),
          ("indication", "B", INDICATIONS), ("reserved", "B"), ("payload_len", "I")]
SLOT = 64
HOST_MAX = 108


def form_of(table):
    return struct.Struct("<" + "".join(row[1] for row in table))


def name_of(row, value):
    return row[2].get(value, value) if len(row) > 2 else value


def number_of(row, value):
    if len(row) > 2 and isinstance(value, str):
        return next(number for number, name in row[2].items() if name == value)
    return value


def read_table(table, raw, prefix):
    """Pairs of path and value, without those that are zero."""
    found = []
    for row, value in zip(table, form_of(table).unpack(raw)):
        if value:
            found.append((f"{prefix}.{row[0]}", name_of(row, value)))
    return found


def write_table(table, values, prefix):
    return form_of(table).pack(*(number_of(row, values.get(f"{prefix}.{row[0]}", 0)) for row in table))


def host_len(family, path_len):
    return {1: path_len, 2: 4, 10: 16}.get(family, 0)


def read_entry(body, at, prefix):
    found = read_table(ENTRY, body[at:at + SLOT], prefix)
    n_slots = body[at + 18]
    expect(1 <= n_slots <= 3, f"{prefix} has {n_slots} slots")
    raw = body[at:at + n_slots * SLOT]
    expect(len(raw) == n_slots * SLOT, f"{prefix} passes the end of its frame")
    if n_slots > 1:
        found += read_table(ADDRESS, raw[SLOT:SLOT + 8], prefix)
        length = host_len(raw[SLOT], raw[SLOT + 1])
        host, rest = raw[SLOT + 8:SLOT + 8 + length], raw[SLOT + 8 + length:]
        expect(len(host) == length, f"{prefix}: the host passes its slots")
        expect(not any(rest), f"{prefix}: a byte behind the host is not zero")
        found.append((f"{prefix}.address.host", bytes(host)))
    return found, at + n_slots * SLOT


def write_entry(values, prefix):
    raw = write_table(ENTRY, values, prefix)
    n_slots = values[f"{prefix}.n_slots"]
    if n_slots > 1:
        raw += write_table(ADDRESS, values, prefix) + values[f"{prefix}.address.host"]
    return raw.ljust(n_slots * SLOT, b"\0")


def read_post(body):
    n_slots, reserved = struct.unpack_from("<II", body)
    expect(reserved == 0, "the reserved word of the post header is not zero")
    found, at, index, used = [], 8, 0, 0
    while used < n_slots:
        entry, at = read_entry(body, at, f"entry[{index}]")
        used = (at - 8) // SLOT
        found += entry
        index += 1
    expect(used == n_slots, "the entries do not fill the slots of their frame")
    return [("entries", index)] + found + ([("payload", bytes(body[at:]))] if body[at:] else [])


def write_post(values):
    entries = [write_entry(values, f"entry[{index}]") for index in range(values["entries"])]
    raw = b"".join(entries)
    return struct.pack("<II", len(raw) // SLOT, 0) + raw + values.get("payload", b"")


def read_records(body):
    n_records, reserved = struct.unpack_from("<II", body)
    expect(reserved == 0, "the reserved word of the records header is not zero")
    found, payload_len = [("records", n_records)], 0
    for index in range(n_records):
        raw = body[8 + index * 64:8 + (index + 1) * 64]
        found += read_table(RECORD, raw, f"record[{index}]")
        payload_len += struct.unpack_from("<I", raw, 60)[0]
    payload = bytes(body[8 + n_records * 64:])
    expect(len(payload) == payload_len, "the payload is not as long as the records say")
    return found + ([("payload", payload)] if payload else [])


def write_records(values):
    raw = b"".join(write_table(RECORD, values, f"record[{index}]") for index in range(values["records"]))
    return struct.pack("<II", values["records"], 0) + raw + values.get("payload", b"")


# --- Control messages (overlapd.proto, read as text) --------------------------------------------------------------

class Schema:
    """Messages: name -> {number: (field, type)}. Enums: name -> {number: value's name}."""

    def __init__(self, text):
        self.messages, self.enums = {}, {}
        text = re.sub(r"//[^\n]*", "", text)
        for name, body in re.findall(r"enum (\w+) \{(.*?)\}", text, re.DOTALL):
            self.enums[name] = {int(number): value for value, number in re.findall(r"(\w+) = (\d+);", body)}
        # A oneof is only a grouping here: its members are fields like others.
        text = re.sub(r"oneof \w+ \{(.*?)\}", r"\1", text, flags=re.DOTALL)
        for name, body in re.findall(r"message (\w+) \{(.*?)\}", text, re.DOTALL):
            self.messages[name] = {int(number): (field, kind)
                                   for kind, field, number in re.findall(r"(\w+) (\w+) = (\d+);", body)}


def read_varint(raw, at):
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def write_varint(value):
    raw = bytearray()
    while value >= 0x80:
        raw.append(value & 0x7f | 0x80)
        value >>= 7
    raw.append(value)
    return bytes(raw)


def read_scalar(schema, kind, value):
    if kind in ("sint32", "sint64"):
        return value >> 1 if not value & 1 else -((value + 1) >> 1)
    if kind in schema.enums:
        return schema.enums[kind].get(value, value)
    return value


def write_scalar(schema, kind, value):
    if kind in ("sint32", "sint64"):
        return value << 1 if value >= 0 else (-value << 1) - 1
    if kind in schema.enums and isinstance(value, str):
        return next(number for number, name in schema.enums[kind].items() if name == value)
    return value


def read_message(schema, name, raw, prefix=""):
    """Pairs of path and value in the order of the wire. An empty message gives one pair with the value {}."""
    found, at = [], 0
    if not raw and prefix:
        return [(prefix[:-1], {})]
    while at < len(raw):
        tag, at = read_varint(raw, at)
        expect(tag >> 3 in schema.messages[name], f"{name} has no field {tag >> 3}")
        field, kind = schema.messages[name][tag >> 3]
        wire = tag & 7
        if wire == 0:
            value, at = read_varint(raw, at)
            found.append((prefix + field, read_scalar(schema, kind, value)))
        elif wire == 1:
            expect(kind == "fixed64", f"{field} is not of type fixed64")
            found.append((prefix + field, struct.unpack_from("<Q", raw, at)[0]))
            at += 8
        else:
            expect(wire == 2, f"{field} has wire type {wire}")
            length, at = read_varint(raw, at)
            run, at = raw[at:at + length], at + length
            expect(len(run) == length, f"{field} passes the end")
            if kind in schema.messages:
                found += read_message(schema, kind, run, prefix + field + ".")
            else:
                found.append((prefix + field, run.decode() if kind == "string" else bytes(run)))
    return found


def write_message(schema, name, pairs, prefix=""):
    """Encodes in the order of the pairs."""
    raw, done = b"", set()
    for path, value in pairs:
        if not path.startswith(prefix):
            continue
        field = path[len(prefix):].split(".")[0]
        number, kind = next((number, kind) for number, (known, kind) in schema.messages[name].items()
                            if known == field)
        if kind in schema.messages:
            if field in done:
                continue
            done.add(field)
            value = write_message(schema, kind, pairs, prefix + field + ".")
        if isinstance(value, str) and kind == "string":
            value = value.encode()
        if kind == "fixed64":
            raw += write_varint(number << 3 | 1) + struct.pack("<Q", value)
        elif isinstance(value, bytes):
            raw += write_varint(number << 3 | 2) + write_varint(len(value)) + value
        else:
            raw += write_varint(number << 3) + write_varint(write_scalar(schema, kind, value))
    return raw


# --- Frames -------------------------------------------------------------------------------------------------------

class Unexpected(Exception):
    pass


READ_ERRORS = (Unexpected, IndexError, KeyError, ValueError, StopIteration, struct.error)


def expect(condition, problem):
    if not condition:
        raise Unexpected(problem)


def read_frame(schema, raw, message):
    """Pairs of path and value of one frame. message: the type of a CONTROL body."""
    body_len, kind, n_fds, reserved = struct.unpack_from("<IBBH", raw)
    body = raw[8:]
    expect(kind in KINDS and reserved == 0, "the frame header is malformed")
    expect(body_len == len(body) and 0 < body_len <= BODY_MAX[kind], f"the body has {len(body)} bytes")
    found = [("frame", KINDS[kind])] + ([("fds", n_fds)] if n_fds else [])
    if kind == 1:
        return found + [("message", message)] + read_message(schema, message, body)
    return found + (read_post(body) if kind == 2 else read_records(body))


def write_frame(schema, pairs):
    values = dict(pairs)
    kind = next(number for number, name in KINDS.items() if name == values["frame"])
    if kind == 1:
        rest = [pair for pair in pairs if pair[0] not in ("frame", "fds", "message")]
        body = write_message(schema, values["message"], rest)
    else:
        body = write_post(values) if kind == 2 else write_records(values)
    return struct.pack("<IBBH", len(body), kind, values.get("fds", 0), 0) + body


# --- Vector files -------------------------------------------------------------------------------------------------

def format_value(value):
    """Text in quotes, bytes as x00ff, numbers in decimal, names and {} as they are."""
    if isinstance(value, bytes):
        return "x" + value.hex()
    if isinstance(value, str) and not re.fullmatch(r"[A-Z][A-Za-z0-9_]*", value):
        return json.dumps(value)
    return str(value)


def parse_vector(text):
    """The lines "= path value" as pairs of text, and the bytes."""
    pairs, raw = [], bytearray()
    for line in text.splitlines():
        if line.startswith("= "):
            pairs.append(tuple(line[2:].split(" ", 1)))
        else:
            raw += bytes.fromhex(line.split("#")[0])
    return pairs, bytes(raw)


def check_vector(schema, text):
    pairs, raw = parse_vector(text)
    message = dict(pairs).get("message")
    found = read_frame(schema, raw, message)
    texts = [(path, format_value(value)) for path, value in found]
    for said, is_there in zip(pairs, texts):
        expect(said == is_there, f"the file says {' '.join(said)}, its bytes say {' '.join(is_there)}")
    expect(len(pairs) == len(texts), f"the file says {len(pairs)} things, its bytes {len(texts)}")
    expect(write_frame(schema, found) == raw, "encoded again it gives other bytes")


def is_accepted(schema, pairs, raw):
    """Whether these bytes would pass as a vector with these lines."""
    try:
        found = read_frame(schema, raw, dict(pairs).get("message"))
        return [(path, format_value(value)) for path, value in found] == pairs and write_frame(schema, found) == raw
    except READ_ERRORS:
        return False


def check_attention(schema, paths):
    """A reader that overlooks something proves nothing: it must notice each byte that is changed, and each lost end."""
    for path in paths:
        pairs, raw = parse_vector(path.read_text())
        expect(is_accepted(schema, pairs, raw), f"{path.stem} is not read at all")
        for at in range(len(raw)):
            for bit in (0x01, 0x80):
                changed = raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1:]
                expect(not is_accepted(schema, pairs, changed), f"{path.stem}: a change of byte {at} is not noticed")
            expect(not is_accepted(schema, pairs, raw[:at]), f"{path.stem}: an end at byte {at} is not noticed")


EXAMPLE = re.compile(r"\[([\w-]+)\.txt\]\(\.\./proto/vectors/[^\n]*\n\n((?: {4}[0-9a-f ]+\n)+)")


def check_page(folder, text):
    """Compares each block of hex behind a link to a vector with that vector."""
    examples = EXAMPLE.findall(text)
    expect(len(examples) >= 10, f"only {len(examples)} examples were found")
    for name, block in examples:
        shown = bytes.fromhex(block)
        raw = parse_vector((folder / "vectors" / f"{name}.txt").read_text())[1]
        expect(shown == raw, f"the bytes shown for {name} are not those of the vector")


def main():
    folder = pathlib.Path(sys.argv[1])
    schema = Schema((folder / "overlapd.proto").read_text())
    paths = sorted((folder / "vectors").glob("*.txt"))
    cases = [(path.stem, lambda path=path: check_vector(schema, path.read_text())) for path in paths]
    cases += [(page, lambda page=page: check_page(folder, pathlib.Path(page).read_text())) for page in sys.argv[2:]]
    cases += [("attention", lambda: check_attention(schema, paths))]
    failed = not paths
    print(f"1..{len(cases)}")
    for number, (name, check) in enumerate(cases, 1):
        problem = None
        try:
            check()
        except READ_ERRORS as error:
            problem = f"{type(error).__name__}: {error}"
        print(f"{'not ok' if problem else 'ok'} {number} - {pathlib.Path(name).name}")
        if problem:
            print(f"# {name}: {problem}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
