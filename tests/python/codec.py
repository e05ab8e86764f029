#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The codec against the golden vectors, the tables against the contract, and both against nonsense. TAP."""

import errno
import os
import pathlib
import random
import re
import socket
import unittest

import stage
from overlap import address, error, message, options, wire
from overlap.schema import MESSAGES

PROTO = pathlib.Path(os.environ["OVL_TEST_PROTO"])


def read_vector(path):
    """What a vector says of its frame, as pairs, and its bytes."""
    pairs, raw = [], bytearray()
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip() if not line.startswith("= ") else line
        if line.startswith("= "):
            pairs.append(tuple(line[2:].split(" ", 1)))
        else:
            raw += bytes.fromhex(line)
    return pairs, bytes(raw)


def show(value):
    """A value as the vectors write it."""
    if isinstance(value, bytes):
        return "x" + value.hex()
    return f'"{value}"' if isinstance(value, str) else str(int(value))


ENUMS = {"family": {1: "FAMILY_UNIX", 2: "FAMILY_INET", 10: "FAMILY_INET6"}, "type": {1: "TYPE_STREAM", 2: "TYPE_DATAGRAM"},
         "direction": {1: "DIRECTION_RECEIVE", 2: "DIRECTION_SEND", 3: "DIRECTION_BOTH"},
         "option": {each.value: f"OPTION_{each.name}" for each in options.Option}}


def flatten(name, fields, prefix=""):
    """A message as the pairs of a vector."""
    for number in sorted(MESSAGES[name]):
        field, kind = MESSAGES[name][number]
        if field not in fields:
            continue
        value = fields[field]
        if kind in MESSAGES:
            inner = list(flatten(kind, value, f"{prefix}{field}."))
            yield from inner or [(f"{prefix}{field}", "{}")]
        elif kind == "enum":
            yield f"{prefix}{field}", ENUMS[field].get(value, str(value))
        else:
            yield f"{prefix}{field}", show(value)


def flatten_entry(index, entry):
    prefix = f"entry[{index}]."
    for field in ("tag", "socket"):
        yield prefix + field, str(getattr(entry, field))
    yield prefix + "op", wire.Op(entry.op).name
    yield prefix + "indication", wire.Indication(entry.indication).name
    yield prefix + "n_slots", str(entry.n_slots())
    yield from ((prefix + field, str(getattr(entry, field))) for field in ("flags", "op_flags", "other"))
    for name in ("buffer", "aux"):
        yield from ((f"{prefix}{name}.{field}", str(getattr(getattr(entry, name), field)))
                    for field in ("offset", "len", "region"))


class Vectors(unittest.TestCase):
    """Every golden frame is decoded, compared, and encoded again to the same bytes."""

    def each(self):
        paths = sorted(PROTO.glob("vectors/*.txt"))
        self.assertGreater(len(paths), 35)
        for path in paths:
            pairs, raw = read_vector(path)
            body_len, kind, n_fds = wire.frame_parse(raw)
            self.assertEqual(len(raw), 8 + body_len, path.name)
            self.assertEqual(dict(pairs)["frame"], wire.Frame(kind).name, path.name)
            self.assertEqual(int(dict(pairs).get("fds", 0)), n_fds, path.name)
            yield pairs, raw, wire.Frame(kind), n_fds

    def test_control(self):
        seen = 0
        for pairs, raw, kind, n_fds in self.each():
            if kind is wire.Frame.CONTROL:
                name = dict(pairs)["message"]
                fields = message.unpack(name, raw[8:])
                said = [pair for pair in pairs if pair[0] not in ("frame", "fds", "message")]
                self.assertEqual(sorted(flatten(name, fields)), sorted(said))
                self.assertEqual(wire.frame_pack(kind, message.pack(name, fields), n_fds), raw)
                seen += 1
        self.assertGreater(seen, 20)

    def test_posts(self):
        seen = 0
        for pairs, raw, kind, _ in self.each():
            if kind is wire.Frame.POST:
                n_slots, _ = wire.BATCH_HEADER.unpack_from(raw, 8)
                at, entries = 16, []
                while at < 16 + 64 * n_slots:
                    entry, n_taken = wire.entry_unpack(raw[at:16 + 64 * n_slots])
                    entries.append(entry)
                    at += 64 * n_taken
                self.check_entries(dict(pairs), entries)
                body = wire.BATCH_HEADER.pack(n_slots, 0) + b"".join(entry.pack() for entry in entries) + raw[at:]
                self.assertEqual(wire.frame_pack(kind, body), raw)
                seen += 1
        self.assertGreater(seen, 5)

    def check_entries(self, said, entries):
        self.assertEqual(int(said["entries"]), len(entries))
        for index, entry in enumerate(entries):
            found = dict(flatten_entry(index, entry))
            for path, value in said.items():
                if path.startswith(f"entry[{index}].") and ".address" not in path and ".slice" not in path:
                    self.assertEqual(found[path], value, path)
            zero = {path: value for path, value in found.items() if path not in said}
            self.assertTrue(set(zero.values()) <= {"0", "PLAIN", "1"}, zero)

    def test_records(self):
        seen = 0
        for pairs, raw, kind, _ in self.each():
            if kind is wire.Frame.RECORDS:
                records, payload = wire.records_unpack(raw[8:])
                said = dict(pairs)
                self.assertEqual(int(said["records"]), len(records))
                for index, record in enumerate(records):
                    for field, value in record._asdict().items():
                        text = said.get(f"record[{index}].{field}", "0")
                        names = {"op": wire.Op, "indication": wire.Indication, "kind": wire.RecordKind}.get(field)
                        number = int(names[text]) if names and not text.isdigit() else int(text) if text.lstrip(
                            "-").isdigit() else int(error.Reason[text])
                        self.assertEqual(value, number, field)
                body = wire.BATCH_HEADER.pack(len(records), 0) + b"".join(
                    wire.RECORD.pack(*record) for record in records) + bytes(payload)
                self.assertEqual(wire.frame_pack(kind, body), raw)
                seen += 1
        self.assertGreater(seen, 7)


class Contract(unittest.TestCase):
    """The tables say what overlapd.proto and layout.h say."""

    def setUp(self):
        self.proto = re.sub(r"//[^\n]*", "", (PROTO / "overlapd.proto").read_text(encoding="utf-8"))
        self.layout = (PROTO / "layout.h").read_text(encoding="utf-8")

    def blocks(self, kind):
        return re.findall(rf"\b{kind}\s+(\w+)\s*\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}", self.proto)

    def test_messages(self):
        enums = {name for name, _ in self.blocks("enum")}
        found = {name: {int(number): (field, "enum" if kind in enums else kind)
                        for kind, field, number in re.findall(r"(\w+)\s+(\w+)\s*=\s*(\d+);", body)}
                 for name, body in self.blocks("message")}
        self.assertEqual(found, MESSAGES)

    def test_enums(self):
        found = {name: dict((field, int(number)) for field, number in re.findall(r"(\w+)\s*=\s*(\d+);", body))
                 for name, body in self.blocks("enum")}
        self.assertEqual({f"OPTION_{each.name}": each.value for each in options.Option} | {"OPTION_NONE": 0},
                         found["Option"])
        self.assertEqual(found["Family"], {"FAMILY_NONE": 0, "FAMILY_UNIX": socket.AF_UNIX, "FAMILY_INET": socket.AF_INET,
                                           "FAMILY_INET6": socket.AF_INET6})
        self.assertEqual(found["Type"], {"TYPE_NONE": 0, "TYPE_STREAM": socket.SOCK_STREAM,
                                         "TYPE_DATAGRAM": socket.SOCK_DGRAM})

    def test_reasons(self):
        found = re.findall(r'X\((\w+), (\d+),[\s\\]*"([^"]*)"\)', self.layout)
        self.assertEqual([(each.name, str(each.value), each.text) for each in error.Reason], found)

    def test_layouts(self):
        for prefix, kind in (("OVL_OP_", wire.Op), ("OVL_ENTRY_", wire.EntryFlags), ("OVL_INDICATE_", wire.Indication),
                             ("OVL_MESSAGE_", wire.MessageFlags), ("OVL_POLL_", wire.Poll),
                             ("OVL_RECORD_", (wire.RecordKind, wire.RecordFlags)), ("OVL_FRAME_", wire.Frame)):
            found = {name: int(number, 0) for name, number in re.findall(rf"\b{prefix}(\w+) = (\w+),", self.layout)}
            mine = {each.name: each.value for one in (kind if isinstance(kind, tuple) else (kind,)) for each in one}
            self.assertEqual(found, mine)


class Nonsense(unittest.TestCase):
    """What is no message is refused, and nothing worse happens."""

    def test_cut_messages(self):
        for path in PROTO.glob("vectors/*.txt"):
            pairs, raw = read_vector(path)
            name = dict(pairs).get("message")
            for end in range(8, len(raw)) if name else ():
                try:
                    message.unpack(name, raw[8:end])
                except message.BadMessage:
                    pass

    def test_random_bytes(self):
        dice = random.Random(7)
        n_refused = 0
        for _ in range(5000):
            raw = dice.randbytes(dice.randrange(1, 60))
            for read in (lambda: message.unpack("FromDaemon", raw), lambda: wire.records_unpack(raw),
                         lambda: wire.frame_parse(raw)):
                try:
                    read()
                except ValueError:
                    n_refused += 1
        self.assertGreater(n_refused, 10000)

    def test_limits(self):
        deep = b""
        for _ in range(6):
            deep = b"\x0a" + bytes([len(deep)]) + deep
        for raw in (b"\x0a\x7f", b"\x08" + b"\xff" * 10, b"\x0a\x02\x08", b"\x0b", b"\x00\x01", b"\xf8\x07\x01" * 65,
                    b"\x0a\x05\x22\x03\xff\xfe\xfd", b"\x0a\x03\x22\x01\x00", b"\x0a\x06\x18\xff\xff\xff\xff\x1f"):
            with self.assertRaises(message.BadMessage, msg=raw.hex()):
                message.unpack("FromDaemon", raw)
        self.assertEqual(message.unpack("FromDaemon", b"\xf8\x07\x01" * 64), {})

    def test_what_does_not_fit_is_not_written(self):
        for name, fields in (("RegionRemove", {"region": 1 << 32}), ("RegionRemove", {"region": -1})):
            with self.assertRaises(ValueError):
                message.pack(name, fields)
        with self.assertRaises(KeyError):
            message.pack("RegionRemove", {"regoin": 1})
        for body in (b"", bytes(16385)):
            with self.assertRaises(ValueError):
                wire.frame_pack(wire.Frame.CONTROL, body)

    def test_negative_numbers(self):
        for value in (0, 1, -1, -111, (1 << 63) - 1, -(1 << 63)):
            fields = {"socket_option": {"value": value}}
            self.assertEqual(message.unpack("Reply", message.pack("Reply", fields))["socket_option"].get("value", 0), value)


class Addresses(unittest.TestCase):
    """Python's forms, there and back."""

    def test_there_and_back(self):
        for family, each in ((socket.AF_INET, ("192.0.2.1", 80)), (socket.AF_INET6, ("fe80::1", 443, 0, 2)),
                             (socket.AF_UNIX, "/run/x"), (socket.AF_UNIX, b"\0abstract"), (socket.AF_UNIX, "/" + "y" * 107)):
            self.assertEqual(address.from_wire(address.to_wire(family, each)), each)
            self.assertEqual(address.from_message(address.to_message(family, each)), each)
        self.assertEqual(address.from_wire(address.to_wire(socket.AF_INET, ("", 1))), ("0.0.0.0", 1))
        self.assertEqual(address.from_wire(address.to_wire(socket.AF_UNIX, "x")), os.path.abspath("x"))
        self.assertIsNone(address.from_wire(bytes(wire.ADDRESS_SIZE)))

    def test_bad_ones(self):
        for family, each in ((socket.AF_INET, ("example.org", 80)), (socket.AF_INET, ("1.2.3.4", 65536)),
                             (socket.AF_INET, "1.2.3.4"), (socket.AF_INET6, ("1.2.3.4", 80)), (socket.AF_UNIX, ""),
                             (socket.AF_UNIX, "/" + "y" * 108), (socket.AF_UNIX, ("1.2.3.4", 1)), (99, ("1.2.3.4", 1))):
            with self.assertRaises(error.OverlapError, msg=repr(each)) as caught:
                address.to_wire(family, each)
            self.assertEqual((caught.exception.errno, caught.exception.reason), (errno.EINVAL, error.Reason.BAD_ADDRESS))


class Errors(unittest.TestCase):
    """One error is an OverlapError and what Python calls its errno."""

    def test_classes(self):
        for number, kind in ((errno.ECONNRESET, ConnectionResetError), (errno.EACCES, PermissionError),
                             (errno.ENOENT, FileNotFoundError), (errno.ETIMEDOUT, TimeoutError), (errno.ENOBUFS, OSError)):
            made = error.error(-number, error.Reason.DENIED, "words")
            self.assertIsInstance(made, kind)
            self.assertIsInstance(made, error.OverlapError)
            self.assertEqual((made.errno, made.reason_name, made.text), (number, "DENIED", "words"))
        self.assertIn("newer", error.error(-1, 9999).text)
        self.assertEqual(error.error(-1, 9999).reason_name, "9999")


if __name__ == "__main__":
    stage.main()
