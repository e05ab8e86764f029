#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What liboverlap exports is what its list promises and what its header declares: no more and no less.

usage: symbols.py LIBRARY LIST HEADER [NM]
"""

import pathlib
import re
import subprocess
import sys

import tap


def exported(library, nm):
    """Names and versions of the dynamic symbols that the library defines."""
    done = subprocess.run([nm, "--dynamic", "--defined-only", "--with-symbol-versions", library],
                          stdout=subprocess.PIPE, text=True, check=True)
    symbols = {}
    for line in done.stdout.splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the names of the versions themselves
            name, _, version = name.partition("@")
            symbols[name] = version.lstrip("@")
    return symbols


def without_comments(text):
    return re.sub(r"/\*.*?\*/|#[^\n]*|//[^\n]*", " ", text, flags=re.DOTALL)


def listed(path):
    """The names of a linker's version script, or of a plain list."""
    return set(re.findall(r"\bovl_\w+", without_comments(pathlib.Path(path).read_text())))


def declared(path):
    """The functions that the header marks with OVL_API."""
    text = re.sub(r"/\*.*?\*/", " ", pathlib.Path(path).read_text(), flags=re.DOTALL)
    text = re.sub(r"^#.*$", " ", text, flags=re.MULTILINE)
    return {re.match(r"[^(]*?\b(\w+)\s*\(", part)[1] for part in text.split("OVL_API")[1:]}


def differences(left, left_name, right, right_name, advice):
    for name in sorted(left - right):
        yield f"{name} is in {left_name} but not in {right_name}: {advice}"


def main():
    library, list_path, header = sys.argv[1:4]
    symbols = exported(library, sys.argv[4] if len(sys.argv) > 4 else "nm")
    names, promised, functions = set(symbols), listed(list_path), declared(header)
    report = tap.Report()
    report.case("there is something to compare", [] if names and promised and functions else
                [f"{len(names)} exported, {len(promised)} listed, {len(functions)} declared: one is empty."])
    report.case("only ovl_ is exported", (f"{name} is exported: hide it, or give it the prefix."
                                          for name in sorted(names) if not name.startswith("ovl_")))
    report.case("every symbol has a version", (f"{name} is exported without a version: list it in {list_path}."
                                               for name, version in sorted(symbols.items()) if not version))
    report.case("the list names all that is exported",
                differences(names, "the library", promised, list_path, "add it, or hide it."))
    report.case("all that is listed is exported",
                differences(promised, list_path, names, "the library",
                            "a promise was broken; define it again, or change the SONAME."))
    report.case("the header declares all that is exported",
                differences(names, "the library", functions, header, "declare it with OVL_API."))
    report.case("all that is declared is exported",
                differences(functions, header, names, "the library", "define it, or take the declaration away."))
    report.finish()


main()
