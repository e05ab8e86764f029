#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every event of the journal has its number once, its line somewhere in the daemon, and its text in the catalog.

usage: catalog.py SOURCE
"""

import pathlib
import re
import sys

import tap


def read_events(source):
    text = (source / "daemon/monitor/events.h").read_text()
    return re.findall(r'#define (EVENT_\w+) "([^"]*)"', text)


def read_catalog(source):
    """The entries: number, name in the comment above it, text."""
    text = (source / "units/overlapd.catalog").read_text()
    return re.findall(r"^# (EVENT_\w+)\n-- (\S+)\n(.*?)(?=^# EVENT_|\Z)", text, re.MULTILINE | re.DOTALL)


def check_numbers(events):
    for name, number in events:
        if not re.fullmatch(r"[0-9a-f]{32}", number):
            yield f"{name} is no number of 32 hexadecimal digits: {number}"
    for number in {number for _, number in events}:
        names = [name for name, other in events if other == number]
        if len(names) > 1:
            yield f"{' and '.join(names)} have the same number"


def check_lines(source, events):
    """Every event is written somewhere, and every line that is written is one."""
    text = "".join(path.read_text() for path in sorted((source / "daemon").rglob("*.c")))
    for name, _ in events:
        if not re.search(rf"\b{name}\b", text):
            yield f"{name} is written nowhere: remove it, or write it"
    for call in re.findall(r"journal_write\([^;]*;", text):
        if re.search(r"LOG_\w+,\s*NULL,", call):
            yield f"a line without an event: {' '.join(call.split())[:100]}"


def check_catalog(events, catalog):
    known = {(name, number) for name, number, _ in catalog}
    for event in events:
        if event not in known:
            yield f"{event[0]} {event[1]} has no entry in units/overlapd.catalog"
    for entry in known - set(events):
        yield f"the catalog explains {entry[0]} {entry[1]}, which events.h does not have"


def check_texts(source, catalog):
    """An entry says what it is, and names only fields that lines have."""
    journal = (source / "daemon/monitor/journal.c").read_text()
    for name, _, text in catalog:
        if not re.match(r"Subject: .+\nDefined-By: overlapd\nDocumentation: .+\n\n\S", text):
            yield f"the entry of {name} does not begin with subject, origin, documentation and an empty line"
        for field in re.findall(r"@(\w+)@", text):
            if f'"{field}"' not in journal:
                yield f"the entry of {name} names the field {field}, which journal.c does not write"


def main():
    source = pathlib.Path(sys.argv[1])
    events, catalog = read_events(source), read_catalog(source)
    report = tap.Report()
    report.case("each event has a number of its own", list(check_numbers(events)))
    report.case("each event is written, and each line is one", list(check_lines(source, events)))
    report.case("the catalog explains each event and nothing else", list(check_catalog(events, catalog)))
    report.case("the catalog's texts are whole", list(check_texts(source, catalog)))
    report.finish()


if __name__ == "__main__":
    main()
