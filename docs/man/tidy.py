#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes out of what scdoc makes the paragraphs that are empty, so that mandoc's lint has nothing to say.

usage: tidy.py SCDOC PAGE > OUTPUT

A paragraph that begins where an indented one ends belongs behind it; one that nothing follows, or that a heading begins
by itself, is none.
"""

import subprocess
import sys


def tidy(lines):
    """The lines without empty paragraphs."""
    wants_paragraph = after_heading = False
    for line in lines:
        if line == ".P":
            wants_paragraph = True
            continue
        if wants_paragraph and line != ".RE":
            if not after_heading and not line.startswith((".SH", ".SS")):
                yield ".P"
            wants_paragraph = False
        after_heading = line.startswith((".TH", ".SH", ".SS"))
        yield line


def main():
    scdoc, page = sys.argv[1:]
    with open(page, "rb") as source:
        made = subprocess.run([scdoc], stdin=source, stdout=subprocess.PIPE, check=True).stdout.decode()
    print("\n".join(tidy(made.splitlines())))


main()
