#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Layout is settled by clang-format. Also what clang-format does not see: license lines and stray blanks.

usage: format.py ROOT [CLANG_FORMAT]
"""

import pathlib
import re
import subprocess
import sys

import tap

FOLDERS = ["base", "proto", "daemon", "client", "tests", "examples", "script", "units", "packaging", "docs"]
C_SUFFIXES = {".c", ".h"}
LICENSED_SUFFIXES = {".c", ".h", ".py", ".sh", ".proto", ".build"}
TEXT_SUFFIXES = LICENSED_SUFFIXES | {".md", ".txt", ".sym", ".in", ".service", ".socket"}
COLUMNS = 120


def find_files(root, suffixes):
    paths = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    paths += [path for path in root.iterdir() if path.is_file()]
    return sorted(path for path in paths if path.suffix in suffixes and "__pycache__" not in path.parts)


def unformatted(root, clang_format):
    names = [str(path.relative_to(root)) for path in find_files(root, C_SUFFIXES)]
    line = [clang_format, "--style=file", "--dry-run", "--ferror-limit=1", *names]
    done = subprocess.run(line, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    found = re.findall(r"^([^:\n]+):\d+:\d+: (?:warning|error): ", done.stderr, re.MULTILINE)
    for name in dict.fromkeys(found):
        yield f"{name} is not laid out as .clang-format says: run clang-format -i {name}"


def unlicensed(root):
    for path in find_files(root, LICENSED_SUFFIXES):
        head = path.read_text().splitlines()[:3]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield f"{path.relative_to(root)} lacks the line SPDX-License-Identifier: Apache-2.0 at its top: add it."


def untidy(root):
    for path in find_files(root, TEXT_SUFFIXES):
        name, text = path.relative_to(root), path.read_text()
        if text and not text.endswith("\n"):
            yield f"{name} does not end with a newline: add one."
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                yield f"{name}:{number} ends with blanks: remove them."
            if "\t" in line and path.suffix in C_SUFFIXES:
                yield f"{name}:{number} holds a tab: write blanks."
            if len(line) > COLUMNS and path.suffix in C_SUFFIXES:
                yield f"{name}:{number} is longer than {COLUMNS} columns: break it."


def main():
    root = pathlib.Path(sys.argv[1])
    report = tap.Report()
    if len(sys.argv) > 2:
        report.case("C files are laid out by clang-format", unformatted(root, sys.argv[2]))
    else:
        report.skip("C files are laid out by clang-format", "there is no clang-format on this machine")
    report.case("files carry the license line", unlicensed(root))
    report.case("files are tidy", untidy(root))
    report.finish()


main()
