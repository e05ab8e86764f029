#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone; those that are promised to outsiders also as pedantic C and C++.

usage: headers.py ROOT GENERATED CC [CXX]

GENERATED is the root of the build, where proto/overlapd.pb-c.h is, CC and CXX are commands.
"""

import pathlib
import shlex
import subprocess
import sys
import tempfile

import tap

# What strangers compile, and the dialects that they may use.
PUBLIC = {
    "client/c/overlap.h": {"c": ["c99", "c11", "c17"], "c++": ["c++11", "c++17", "c++20"]},
    "proto/layout.h": {"c": ["c11", "c17"], "c++": ["c++11", "c++17", "c++20"]},
}
STRICT = ["-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
OURS = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-fsyntax-only"]


def compile_alone(command, arguments, language, header, folders):
    """Returns what the compiler says of a file that holds nothing but this include, twice."""
    suffix = ".c" if language == "c" else ".cc"
    with tempfile.NamedTemporaryFile("w", suffix=suffix) as source:
        source.write(f'#include "{header}"\n#include "{header}"\nint main(void);\n'.replace(
            "main(void)", "main(void)" if language == "c" else "main()"))
        source.flush()
        line = shlex.split(command) + arguments + [f"-I{folder}" for folder in folders] + [source.name]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout if done.returncode else ""


def public(report, root, header, commands):
    # Only its own folder is visible: a public header needs nothing else of this tree.
    folder = (root / header).parent
    for language, dialects in PUBLIC[header].items():
        name = f"{header} alone in {language.upper()}"
        if language not in commands:
            report.skip(name, "there is no such compiler on this machine")
            continue
        problems = []
        for dialect in dialects:
            said = compile_alone(commands[language], [f"-std={dialect}"] + STRICT, language,
                                 pathlib.Path(header).name, [folder])
            if said:
                problems.append(f"{header} does not compile alone as {dialect}: include what it uses, and keep to "
                                f"that standard.\n{said}")
        report.case(name, problems)


def internal(root, generated, command):
    for folder in ["base", "proto", "daemon", "client", "tests"]:
        for path in sorted((root / folder).rglob("*.h")):
            name = str(path.relative_to(root))
            said = compile_alone(command, OURS, "c", name, [root, generated])
            if said:
                yield f"{name} does not compile alone: let it include what it uses.\n{said}"


def main():
    root, generated = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    commands = dict(zip(["c", "c++"], sys.argv[3:]))
    report = tap.Report()
    for header in PUBLIC:
        public(report, root, header, commands)
    report.case("every header compiles alone", internal(root, generated, commands["c"]))
    report.finish()


main()
