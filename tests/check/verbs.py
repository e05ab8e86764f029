#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual page of overlapctl has each verb, and of each what --help has, and no more.

usage: verbs.py SOURCE_ROOT OVERLAPCTL
"""

import pathlib
import re
import subprocess
import sys

import tap

LONG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")


def helped(program, *verb):
    return subprocess.run([program, *verb, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout


def verbs_of(program):
    """The first list of --help."""
    return re.findall(r"^  ([a-z]+) ", helped(program).split("\n\n")[2], flags=re.MULTILINE)


def sections_of(page):
    """The text of the section of each verb."""
    part = re.split(r"^# ", page.read_text(), flags=re.MULTILINE)
    part = next(text for text in part if text.startswith("VERBS"))
    return {text.split()[0]: text for text in re.split(r"^## ", part, flags=re.MULTILINE)[1:]}


def defined_in(text):
    """The options that a text defines."""
    return {found for line in text.splitlines() if line.startswith("*") for found in LONG.findall(line)}


def common(program, page):
    options = re.split(r"^# ", page.read_text(), flags=re.MULTILINE)
    options = next(text for text in options if text.startswith("OPTIONS"))
    in_help, on_page = set(LONG.findall(helped(program))), defined_in(options)
    for option in sorted(in_help ^ on_page):
        yield f"{option} is {'on the page' if option in on_page else 'in --help'} alone"


def each(program, page):
    sections, everywhere = sections_of(page), set(LONG.findall(helped(program)))
    for verb in verbs_of(program):
        if verb not in sections:
            yield f"{page.name} has no section for {verb}"
            continue
        # What is named in a text is not defined by it: options stand at the beginning of a line.
        lines = [line for line in helped(program, verb).splitlines() if re.match(r" +(?:-\w, )?--", line)]
        in_help = {LONG.findall(line)[0] for line in lines} - everywhere
        for option in sorted(in_help ^ defined_in(sections[verb])):
            yield f"{verb}: {option} is {'in --help' if option in in_help else 'on the page'} alone"


def main():
    root, program = pathlib.Path(sys.argv[1]), sys.argv[2]
    page = root / "docs/man/overlapctl.1.scd"
    report = tap.Report()
    report.case("there are verbs", [] if len(verbs_of(program)) > 4 else ["--help lists no verbs"])
    report.case("overlapctl.1 has the common options", common(program, page))
    report.case("overlapctl.1 has each verb and its options", each(program, page))
    report.finish()


main()
