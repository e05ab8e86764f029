#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual pages are clean, and say of each program's options, and of each call, that it is there.

usage: man.py SOURCE_ROOT BUILD_ROOT OVERLAPD OVERLAP_NC SYMBOLS [MANDOC]
"""

import pathlib
import re
import subprocess
import sys

import tap

LONG = re.compile(r"--[a-z][a-z0-9-]+")


def lint(pages, mandoc):
    for page in pages:
        done = subprocess.run([mandoc, "-Tlint", "-W", "warning", page], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        yield from done.stdout.splitlines()


def options(program, source):
    """What one of them says and the other does not."""
    helped = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    defined = re.split(r"^# ", source.read_text(), flags=re.MULTILINE)
    defined = next(part for part in defined if part.startswith("OPTIONS"))
    in_help = set(LONG.findall(helped))
    on_page = {found for line in defined.splitlines() if line.startswith("*") for found in LONG.findall(line)}
    for missing in sorted(in_help - on_page):
        yield f"{source.name} does not describe {missing}, which --help has"
    for missing in sorted(on_page - in_help):
        yield f"{source.name} describes {missing}, which --help has not"



def completion(program, path):
    helped = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    text = path.read_text()
    for option in sorted(set(LONG.findall(helped))):
        if not re.search(rf"{option}\b(?!-)", text):
            yield f"{path} does not complete {option}"


def calls(page, symbols):
    """The calls that the library exports and its page does not name."""
    text = page.read_text()
    for call in sorted(set(re.findall(r"\bovl_\w+", re.sub(r"/\*.*?\*/", "", symbols.read_text(), flags=re.DOTALL)))):
        if f"*{call}*()" not in text:
            yield f"{page.name} does not name {call}(), which liboverlap exports"


def main():
    root, build, overlapd, overlap_nc, symbols = (pathlib.Path(argument) for argument in sys.argv[1:6])
    man = root / "docs/man"
    report = tap.Report()
    pages = sorted(path for path in (build / "docs/man").glob("*.[1-8]"))
    if len(sys.argv) > 6 and pages:
        report.case("mandoc has nothing to say of the pages", lint(pages, sys.argv[6]))
    else:
        report.skip("mandoc has nothing to say of the pages", "there is no scdoc or no mandoc on this machine")
    report.case("overlapd.8 has the options of overlapd", options(overlapd, man / "overlapd.8.scd"))
    report.case("overlap-nc.1 has the options of overlap-nc", options(overlap_nc, man / "overlap-nc.1.scd"))
    report.case("the completion of overlap-nc has its options", completion(overlap_nc, root / "client/nc/overlap-nc.bash"))
    report.case("overlap.7 names each call", calls(man / "overlap.7.scd", symbols))
    report.finish()


main()
