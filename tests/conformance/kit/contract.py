# SPDX-License-Identifier: Apache-2.0
"""What the numbers of the wire are called: read from proto/overlapd.proto and proto/layout.h, never written down here.

Control messages are tables of fields by number. The constants of layout.h are grouped by the field that they belong to,
so that a case can say op=RECV and reason=UNKNOWN_SOCKET, and a failure is explained in the same words.
"""

import errno
import pathlib
import re

SCALARS = {"uint32", "uint64", "sint32", "sint64", "fixed64", "bool", "string", "bytes"}

# Which enumeration of layout.h a field takes its names from, by the last part of its path.
ENUMS = {"op": "ovl_op", "indication": "ovl_indication", "frame": "ovl_frame_kind", "kind": "ovl_record_kind"}
FLAGS = {"entry.flags": "ovl_entry_flags", "record.flags": "ovl_record_flags", "op_flags": "ovl_message_flags",
         "other": "ovl_poll_events", "value": "ovl_poll_events"}


class Field:
    def __init__(self, name, kind, number):
        self.name, self.kind, self.number = name, kind, number


class Contract:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.messages, self.enums = {}, {}
        self.read_proto((folder / "overlapd.proto").read_text(encoding="utf-8"))
        self.read_layout((folder / "layout.h").read_text(encoding="utf-8"))

    def read_proto(self, text):
        text = re.sub(r"//[^\n]*", "", text)
        for what, name, body in re.findall(r"\b(message|enum)\s+(\w+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", text):
            if what == "enum":
                self.enums[name] = {key: int(value) for key, value in re.findall(r"(\w+)\s*=\s*(\d+)\s*;", body)}
                continue
            fields = re.findall(r"(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body)
            self.messages[name] = {int(number): Field(field, kind, int(number)) for kind, field, number in fields}
        assert "Request" in self.messages and "FromDaemon" in self.messages

    def read_layout(self, text):
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        for name, body in re.findall(r"enum\s+(ovl_\w+)\s*\{([^{}#]*)\}", text):
            found = re.findall(r"OVL_(\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)", body)
            shortest = [key.split("_") for key, _ in found]
            drop = 0
            while len(shortest) > 1 and all(len(parts) > drop + 1 for parts in shortest) and \
                    len({parts[drop] for parts in shortest}) == 1:
                drop += 1
            self.enums[name] = {"_".join(parts[drop:]): int(value, 0) for parts, (_, value) in zip(shortest, found)}
        self.enums["ovl_reason"] = {key: int(value) for key, value in re.findall(r"X\((\w+),\s*(\d+),", text)}
        assert self.enums["ovl_op"]["RECV"] == 3 and self.enums["ovl_reason"]["CREDITS"] == 21

    def field_named(self, message, name):
        for field in self.messages[message].values():
            if field.name == name:
                return field
        raise ValueError(f"overlapd.proto has no field {name} in {message}")

    def names_of(self, path):
        """The names that a field of this path may have: a table, and whether they are flags that add up."""
        last = path.rsplit(".", 1)[-1]
        if last == "reason":
            return self.enums["ovl_reason"], False
        if last == "family":
            return {**self.enums["Family"], **self.enums["ovl_family"]}, False
        for key, enum in ENUMS.items():
            if path == key or path.endswith("." + key) or last == key:
                return self.enums[enum], False
        for key, enum in FLAGS.items():
            if path == key or last == key:
                return self.enums[enum], True
        every = {}
        for enum in ("Family", "Type", "Option", "Direction"):
            every.update(self.enums[enum])
        return every, False

    def show(self, path, value):
        """A value as a case would write it."""
        last = path.rsplit(".", 1)[-1]
        if isinstance(value, (bytes, bytearray)):
            shown = repr(bytes(value[:80]))[1:] + ("" if len(value) <= 80 else f"... ({len(value)} bytes)")
            return shown
        if not isinstance(value, int) or isinstance(value, bool):
            return repr(value)
        if last == "status":
            return "0" if value == 0 else f"-{errno.errorcode[-value]}" if -value in errno.errorcode else str(value)
        if last in ("reason", "op", "indication", "kind"):
            table, _ = self.names_of(path)
            return next((f"{name}" for name, number in table.items() if number == value), str(value))
        if path in FLAGS and path.endswith("flags") and value:
            table, _ = self.names_of(path)
            return "|".join(name for name, number in table.items() if number & value) or str(value)
        return str(value) if value < 1 << 32 else hex(value)
