# SPDX-License-Identifier: Apache-2.0
"""The small language of the cases' words: what a value is, and what a value must look like.

A word is `name` or `name=value`. Values: numbers, "text", x and hexadecimal digits, -EBADF, names of the contract
(RECV, UNKNOWN_SOCKET, REFUSED|PORT), $variable, $variable+1, -1, /2, pattern:SEED:LEN, repeat:"x":N, BYTES++BYTES. What is expected may also
be any, ?name (keeps what came as $name), >N, >=N, <N, <=N, !VALUE, has:FLAG, lacks:FLAG, len:N, text (not empty),
oneof:A,B.
"""

import ast
import errno
import re

WORD = re.compile(r'(?:[^\s"]|"(?:\\.|[^"\\])*")+')


class Problem(Exception):
    """A case is not as it should be: what was expected and what came."""


class Mistake(Exception):
    """The case itself is wrong."""


def split(line):
    """The words of a line, up to a # that begins one."""
    words = []
    for word in WORD.findall(line):
        if word.startswith("#"):
            break
        words.append(word)
    return words


def pair(word):
    name, found, value = word.partition("=")
    return (name, value if found else None)


def pattern(seed, length):
    """The bytes that a seed and a length stand for: byte i is (seed + i + i / 251) modulo 256."""
    return bytes((seed + i + i // 251) & 255 for i in range(length))


def checksum(data):
    """FNV-1a, 32 bits."""
    value = 0x811c9dc5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return value


class Values:
    def __init__(self, contract):
        self.contract = contract
        self.variables = {}

    def name_value(self, path, text):
        table, is_flags = self.contract.names_of(path)
        parts = text.split("|")
        if all(part in table for part in parts) and (is_flags or len(parts) == 1):
            value = 0
            for part in parts:
                value |= table[part]
            return value
        raise Mistake(f"'{text}' is no value of {path}: neither a number, nor text, nor one of {', '.join(table)}")

    def variable(self, text):
        name, sign, rest = re.fullmatch(r"\$([\w.]+?)(?:([+/-])(\w+))?", text).groups()
        if name not in self.variables:
            raise Mistake(f"there is no variable ${name}; there are: {', '.join(sorted(self.variables))}")
        value = self.variables[name]
        return value + int(rest, 0) if sign == "+" else value - int(rest, 0) if sign == "-" else \
            value // int(rest, 0) if sign == "/" else value

    def value(self, path, text):
        """What a word says. path: of the field, which decides what names it may have."""
        parts = re.findall(r'(?:[^+"]|(?<!\+)\+(?!\+)|"(?:\\.|[^"\\])*")+', text)
        if len(parts) > 1:
            return b"".join(self.value(path, part) for part in parts)
        if text.startswith("$"):
            return self.variable(text)
        if text.startswith('"'):
            return ast.literal_eval("b" + text)
        if re.fullmatch(r"x(?:[0-9a-fA-F]{2})*", text):
            return bytes.fromhex(text[1:])
        if re.fullmatch(r"-?\d+|-?0x[0-9a-fA-F]+", text):
            return int(text, 0)
        if text.startswith("-E"):
            return -getattr(errno, text[1:])
        if text.startswith("pattern:"):
            return pattern(*(int(part, 0) for part in text.split(":")[1:]))
        if text.startswith("repeat:"):
            _, what, count = text.split(":")
            return self.value(path, what) * self.value("count", count)
        return self.name_value(path, text)

    def items(self, words, prefix=""):
        """A dictionary of what the words say; those without "=" are true."""
        found = {}
        for word in words:
            name, text = pair(word)
            found[name] = True if text is None else self.value(prefix + name, text)
        return found

    def list(self, path, text):
        return [self.value(path, part) for part in re.findall(r'(?:[^,"]|"(?:\\.|[^"\\])*")+', text)]

    def mismatch(self, path, text, actual):
        """None, or what should have come. Keeps ?variables."""
        if "?" in text and not text.startswith('"'):
            text, _, name = text.partition("?")
            self.variables[name] = actual
        if text in ("", "any"):
            return None
        compare = re.match(r"(>=|<=|>|<)(.+)", text)
        if compare:
            sign, bound = compare[1], self.value(path, compare[2])
            fine = {">=": actual >= bound, "<=": actual <= bound, ">": actual > bound, "<": actual < bound}[sign]
            return None if fine else f"a number {sign} {bound}"
        if text.startswith("!"):
            return None if actual != self.value(path, text[1:]) else f"anything but {text[1:]}"
        if text.startswith("has:"):
            mask = self.value(path, text[4:])
            return None if actual & mask == mask else f"a value with {text[4:]}"
        if text.startswith("lacks:"):
            return None if not actual & self.value(path, text[6:]) else f"a value without {text[6:]}"
        if text.startswith("len:"):
            length = self.value(path, text[4:])
            return None if len(actual) == length else f"{length} bytes"
        if text == "text":
            return None if actual else "some text"
        if text.startswith("oneof:"):
            allowed = self.list(path, text[6:])
            return None if actual in allowed else "one of " + text[6:]
        value = self.value(path, text)
        return None if actual == value else self.contract.show(path, value)

    def check(self, what, found, expected, prefix=""):
        """Compares fields. found: a dictionary in which what is absent is 0; expected: pairs of name and text."""
        wrong = []
        for name, text in expected:
            if text is None:
                raise Mistake(f"'{name}' must be followed by = and a value")
            actual = found.get(name, b"" if text.startswith(('"', "x", "len:", "text")) else 0)
            if actual == {}:
                actual = 0
            should = self.mismatch(prefix + name, text, actual)
            if should is not None:
                wrong.append(f"{name}: expected {should}, got {self.contract.show(prefix + name, actual)}")
        if wrong:
            raise Problem(f"{what} is not as expected\n" + "\n".join(wrong) + "\nall of it: " + self.describe(found, prefix))

    def describe(self, found, prefix=""):
        shown = [f"{name}={self.contract.show(prefix + name, value)}" for name, value in found.items()
                 if value not in (0, b"", {}, None)]
        return " ".join(shown) or "(nothing but zeros)"
