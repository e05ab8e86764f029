# SPDX-License-Identifier: Apache-2.0
"""A strict reader of OpenMetrics text, version 1.0.0: it raises where the page of the standard says MUST."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
ESCAPED = r'(?:[^"\\\n]|\\[\\"n])*'
LABELS = rf'\{{(?:{LABEL}="{ESCAPED}"(?:,{LABEL}="{ESCAPED}")*)?\}}'
NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN"
SAMPLE = re.compile(rf"({NAME})({LABELS})? ({NUMBER})")
ONE_LABEL = re.compile(rf'({LABEL})="({ESCAPED})"')
TYPES = {"counter", "gauge", "histogram", "gaugehistogram", "stateset", "info", "summary", "unknown"}
SUFFIXES = {"counter": {"_total", "_created"}, "gauge": {""}, "info": {"_info"}, "unknown": {""}}


class Broken(Exception):
    """The text is none."""


class Family:
    """One metric family: its metadata, and its samples by their labels."""

    def __init__(self, name):
        self.name, self.type, self.unit, self.help, self.samples = name, None, "", None, {}


def take_metadata(family, word, value):
    if family.samples:
        raise Broken(f"{word} of {family.name} comes after its samples")
    if word == "TYPE":
        if family.type is not None or value not in TYPES:
            raise Broken(f"a second or unknown type of {family.name}: {value}")
        family.type = value
    elif word == "UNIT":
        if family.unit or not family.name.endswith("_" + value):
            raise Broken(f"the unit {value} does not end the name {family.name}, or comes twice")
        family.unit = value
    elif family.help is not None or re.search(r"\\[^\\n\"]", value):
        raise Broken(f"a second help of {family.name}, or a bad escape in it")
    else:
        family.help = value


def take_sample(family, line):
    found = SAMPLE.fullmatch(line)
    if not found:
        raise Broken(f"no sample: {line}")
    name, labels, number = found[1], found[2] or "", found[3]
    kind = family.type or "unknown"
    if not name.startswith(family.name) or name.removeprefix(family.name) not in SUFFIXES[kind]:
        raise Broken(f"a sample {name} in the family {family.name} of type {kind}")
    pairs = ONE_LABEL.findall(labels)
    if len(dict(pairs)) != len(pairs):
        raise Broken(f"a label comes twice: {line}")
    key = tuple(sorted(pairs))
    if key in family.samples:
        raise Broken(f"the same sample twice: {line}")
    value = float(number)
    if kind == "counter" and not 0 <= value < float("inf"):
        raise Broken(f"a counter below zero or without end: {line}")
    if kind == "info" and value != 1:
        raise Broken(f"an info that is not 1: {line}")
    family.samples[key] = value


def family_of(line, families, now):
    """The name of the family of a sample: that of the metadata above it."""
    found = re.match(NAME, line)
    if found and now and found[0].startswith(now):
        return now
    raise Broken(f"a sample without metadata above it: {line}; families so far: {sorted(families)}")


def read(text):
    """Returns the families by name."""
    if not text.endswith("# EOF\n") or text.count("# EOF") != 1:
        raise Broken("it does not end with one '# EOF' and a line feed")
    families, now = {}, None
    for line in text.split("\n")[:-2]:
        if line.startswith("#"):
            found = re.fullmatch(rf"# (TYPE|UNIT|HELP) ({NAME}) (.*)", line)
            if not found:
                raise Broken(f"no metadata: {line!r}")
            if found[2] != now:
                if found[2] in families:
                    raise Broken(f"the family {found[2]} is interleaved with others")
                now = found[2]
                families[now] = Family(now)
            take_metadata(families[now], found[1], found[3])
        else:
            take_sample(families[family_of(line, families, now)], line)
    for one in families.values():
        for suffix in ("_total", "_info"):
            if one.name.endswith(suffix):
                raise Broken(f"the name of a family ends with {suffix}")
    return families
