#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pages keep step with what they describe: section 3 with the header, the journal's with the daemon's lines; and what
they and the README give as examples compiles, or is taken by the daemon.

usage: manual.py SOURCE_ROOT BUILD_ROOT CC OVERLAPD [MANDOC]

CC is a command.
"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import tap

STRICT = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-fsyntax-only"]


# --- Section 3 ----------------------------------------------------------------------------------------------------------

def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def exported(source):
    return set(re.findall(r"\bovl_\w+", without_comments((source / "client/c/overlap.sym").read_text())))


def frames(source):
    return sorted((source / "docs/man/api").glob("*.scd.in"))


def check_calls(source):
    """Each call that the library exports is on one page, in its name, its synopsis and its text."""
    on_pages = {}
    for frame in frames(source):
        text = frame.read_text()
        name = re.search(r"^# NAME\n\n(.*?) - ", text, re.MULTILINE)[1]
        named, declared = set(name.split(", ")), set()
        for line in re.findall(r"^%synopsis (.*)$", text, re.MULTILINE):
            declared |= set(line.split())
        if not text.startswith(f"{frame.name.split('.')[0]}(3)\n"):
            yield f"{frame.name} does not begin with its own name and section"
        for call in sorted((named ^ declared) - {"ovl_overlapped"}):  # a page of no call
            yield f"{frame.name}: {call} is in one of NAME and %synopsis, but not in both"
        for call in declared:
            if call in on_pages:
                yield f"{call}() is on {frame.name} and on {on_pages[call]}"
            on_pages[call] = frame.name
    for call in sorted(exported(source) - set(on_pages)):
        yield f"no page of docs/man/api has {call}(), which the library exports: add it to %synopsis, NAME and %call of one"
    for call in sorted(set(on_pages) - exported(source)):
        yield f"{on_pages[call]} has {call}(), which the library does not export"


def check_described(source, build):
    """What the pages say, as they are made: each call has its text, each type and constant of the header its place."""
    made = "\n".join(page.read_text() for page in (build / "docs/man/api").glob("*.3.scd"))
    header = (source / "client/c/overlap.h").read_text()
    for call in sorted(exported(source)):
        if not re.search(rf"^## (.*, )?{call}\(\)", made, re.MULTILINE):
            yield f"no page says what {call}() does: add %call {call}"
    code = without_comments(header)
    enumerated = set(re.findall(r"^\s+(OVL_[A-Z_]+) =", code, re.MULTILINE))
    for constant in sorted(set(re.findall(r"\bOVL_[A-Z_]+\b", code)) - {"OVL_API", "OVL_ROUTINE", "OVL_APC"}):
        defined = rf"^\s+{constant} =" if constant in enumerated else rf"\b{constant}\b"
        if not re.search(defined, made, re.MULTILINE):
            yield f"no page has {constant}: add the %type that it is in, or a sentence"
    for kind in sorted(set(re.findall(r"^struct (ovl_\w+) \{", code, re.MULTILINE))):
        if f"\nstruct {kind} {{" not in made and kind not in ("ovl_ticket", "ovl_thread_handle"):
            yield f"no page has struct {kind}: add %type struct {kind}"


def check_links(source, build):
    """`man CALL` finds the page of each call."""
    folder = build / "docs/man/api"
    known = exported(source) | {frame.name[:-len(".scd.in")] for frame in frames(source)}
    for page in sorted(folder.glob("*.3")):
        if page.name[:-len(".3")] not in known:
            yield f"{page.name} is of no call"
    for call in sorted(exported(source)):
        page = folder / f"{call}.3"
        if not page.exists():
            yield f"there is no {call}.3"
            continue
        link = re.match(r"\.so man3/(\S+)$", page.read_text().strip())
        if link and not (folder / link[1]).exists():
            yield f"{call}.3 leads to {link[1]}, which is not there"


def lint(build, mandoc):
    pages = [page for page in sorted((build / "docs/man/api").glob("*.3")) if not page.read_text().startswith(".so")]
    for page in pages:
        done = subprocess.run([mandoc, "-Tlint", "-W", "warning", page], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        yield from done.stdout.splitlines()


def sources(source):
    return sorted((source / "docs/man").glob("*.scd")) + frames(source)


def check_references(source):
    """Pages refer only to pages that there are; those of others are theirs."""
    ours = {path.name[:-len(".scd")] for path in (source / "docs/man").glob("*.scd")}
    ours |= {f"{call}.3" for call in exported(source)} | {frame.name[:-len(".scd.in")] + ".3" for frame in frames(source)}
    for path in sources(source):
        for name, section in re.findall(r"\*((?:ovl_|overlap)[\w.-]*)\*\((\d)\)", path.read_text()):
            if f"{name}.{section}" not in ours:
                yield f"{path.name} refers to {name}({section}), which is not there"


# --- The journal --------------------------------------------------------------------------------------------------------

def check_events(source):
    page = (source / "docs/man/overlapd-journal.7.scd").read_text()
    events = dict(re.findall(r'#define (EVENT_\w+) "([^"]*)"', (source / "daemon/monitor/events.h").read_text()))
    described = re.findall(r"^\*([0-9a-f]{32})\*, (?:notice|info|warning|err|debug)", page, re.MULTILINE)
    for name, number in sorted(events.items()):
        if described.count(number) != 1:
            yield f"overlapd-journal.7 has {described.count(number)} entries of {name} ({number}), not one"
    for number in sorted(set(re.findall(r"\b[0-9a-f]{32}\b", page)) - set(events.values())):
        yield f"overlapd-journal.7 has {number}, which is no event"


def check_fields(source):
    page = (source / "docs/man/overlapd-journal.7.scd").read_text()
    described = re.split(r"^# ", page, flags=re.MULTILINE)
    described = next(part for part in described if part.startswith("FIELDS"))
    written = set(re.findall(r'journal_add\w*\(\w+, "([A-Z_]+)"', (source / "daemon/monitor/journal.c").read_text()))
    written |= set(re.findall(r'journal_add\w*\(&packet, "([A-Z_]+)"', (source / "daemon/monitor/journal.c").read_text()))
    terms = set(re.findall(r"\*([A-Z][A-Z_]+)=(?:\w+)?\*", described))
    for field in sorted(written - terms):
        yield f"overlapd-journal.7 does not describe {field}=, which journal.c writes"
    for field in sorted(terms - written):
        yield f"overlapd-journal.7 describes {field}=, which journal.c does not write"
    for field in sorted(set(re.findall(r"\b([A-Z][A-Z_]{3,})=", page)) - written):
        yield f"overlapd-journal.7 asks for {field}=, which journal.c does not write"


# --- Examples -----------------------------------------------------------------------------------------------------------

def blocks_of(path):
    """The literal blocks of a page, or the indented ones of a text in Markdown."""
    text = path.read_text()
    if path.suffix == ".md":
        for found in re.finditer(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE):
            yield re.sub(r"^    ", "", found[0], flags=re.MULTILINE).strip("\n") + "\n"
        for found in re.finditer(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield found[1]
    else:
        for found in re.finditer(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield found[1].replace("\\\\", "\\")


def compile_c(command, source, text):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([*shlex.split(command), *STRICT, f"-I{source / 'client/c'}", file.name],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout if done.returncode else ""


def check_examples(source, command):
    n_c = n_python = 0
    for path in [*sources(source), source / "README.md"]:
        for block in blocks_of(path):
            if block.startswith("#include") and "{" in block:
                n_c += 1
                said = compile_c(command, source, block)
                if said:
                    yield f"an example of {path.name} does not compile:\n{said}"
            elif re.match(r"(import|from) \w+", block) and "\n\n" in block:
                n_python += 1
                try:
                    compile(block, path.name, "exec")
                except SyntaxError as error:
                    yield f"an example of {path.name} does not compile: {error}"
    if n_c < 20 or n_python < 4:
        yield f"only {n_c} examples in C and {n_python} in Python were found"


def check_settings(source, overlapd):
    """Rules and settings that are given as examples are such as the daemon takes."""
    n_rules = n_settings = 0
    for path in [*sources(source), *sorted((source / "docs").glob("*.md")), source / "README.md"]:
        for block in blocks_of(path):
            # What a shell shows stands behind its prompt.
            block = re.sub(r"\A# cat \S+\n(.*?)(^# .*)?\Z", r"\1", block, flags=re.MULTILINE | re.DOTALL)
            is_rules, is_settings = re.match(r"\[(allow|deny) ", block), re.match(r"\[(Daemon|User|Unit|Session|Worker)\b.*\]\n\w+=", block)
            if not is_rules and (not is_settings or "Exec" in block or "After=" in block):
                continue
            n_rules, n_settings = n_rules + bool(is_rules), n_settings + bool(is_settings)
            with tempfile.TemporaryDirectory() as folder:
                rules, settings = pathlib.Path(folder) / "rules.d", pathlib.Path(folder) / "overlapd.conf"
                rules.mkdir()
                (rules / "example.conf" if is_rules else settings).write_text(block)
                settings.touch()
                given = ["--policy", rules, "--config", settings]
                done = subprocess.run([overlapd, "--check-config", *given],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                yield f"an example of {path.name} is not taken: {done.stdout}"
    if n_rules < 5 or n_settings < 2:
        yield f"only {n_rules} examples of rules and {n_settings} of settings were found"


def main():
    source, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    report = tap.Report()
    report.case("each call is on one page of section 3", check_calls(source))
    if (build / "docs/man/api/ovl_recv.3").exists():
        report.case("the pages of section 3 have all of the header", check_described(source, build))
        report.case("man finds each call", check_links(source, build))
        if len(sys.argv) > 5:
            report.case("mandoc has nothing to say of section 3", lint(build, sys.argv[5]))
    else:
        report.skip("the pages of section 3 have all of the header", "there is no scdoc on this machine")
    report.case("pages refer to pages that there are", check_references(source))
    report.case("overlapd-journal.7 has each event", check_events(source))
    report.case("overlapd-journal.7 has each field", check_fields(source))
    report.case("the examples of the pages compile", check_examples(source, sys.argv[3]))
    report.case("the daemon takes the rules and settings of the pages", check_settings(source, sys.argv[4]))
    report.finish()


main()
