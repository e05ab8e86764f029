# SPDX-License-Identifier: Apache-2.0
"""What docs/SEMANTICS.md, the tests and the mutations say of the rules of overlapped I/O."""

import dataclasses
import pathlib
import re

# | 7.3 | holds | ... |
ROW = re.compile(r"^\| (\d+\.\d+) \| (holds|differs|Windows) \| (.+) \|$", re.MULTILINE)
# { "7.3 7.4 what is seen", function }
NAMED = re.compile(r'\{\s*"((?:\d+\.\d+ )+)')
DIFFERS_MAX = 8


@dataclasses.dataclass
class Mutation:
    rule: str
    place: str  # file:line of its own text
    file: str
    old: str
    new: str
    test: str  # of meson


def key(rule):
    return [int(part) for part in rule.split(".")]


def verdicts(root):
    """Rule to verdict, in the order of the page."""
    return {rule: verdict for rule, verdict, _ in ROW.findall((root / "docs" / "SEMANTICS.md").read_text())}


def rules_of(name):
    """The rules that the name of a case begins with."""
    rules = []
    for word in name.split():
        if not re.fullmatch(r"\d+\.\d+", word):
            break
        rules.append(word)
    return rules


def tested(root):
    """Rules that a test in C names."""
    return {rule for path in (root / "tests" / "rules").glob("*.c") for named in NAMED.findall(path.read_text())
            for rule in named.split()}


def mutations(root):
    """Reads tests/rules/mutations/*.txt. Raises ValueError for what is none."""
    found = []
    for path in sorted((root / "tests" / "rules" / "mutations").glob("*.txt")):
        found += parse(path.read_text(), str(path.relative_to(root)))
    return sorted(found, key=lambda mutation: key(mutation.rule))


def parse(text, name):
    """
    Blocks like this, with empty lines between them; `test` may be left out, and - and + may have several lines:

        rule 7.3
        file daemon/worker/socket.c
        test section-07-epoll
        -the text as it stands there, once
        +what is there instead
    """
    found, block = [], {}
    for number, line in enumerate([*text.splitlines(), ""], 1):
        where = f"{name}:{number}"
        if line.startswith("#"):
            continue
        if not line.strip():
            if block:
                found.append(finish(block))
            block = {}
            continue
        block.setdefault("place", where)
        if line[0] in "-+":
            block.setdefault(line[0], []).append(line[1:])
            continue
        word, _, rest = line.partition(" ")
        if word not in ("rule", "file", "test") or not rest or word in block:
            raise ValueError(f"{where}: {line!r} is not `rule`, `file`, `test`, `-` or `+` of one mutation")
        block[word] = rest.strip()
    return found


def finish(block):
    if not {"rule", "file", "-"} <= block.keys():
        raise ValueError(f"{block['place']}: a mutation needs `rule`, `file` and `-`")
    section = int(block["rule"].split(".")[0])
    return Mutation(block["rule"], block["place"], block["file"], "\n".join(block["-"]),
                    "\n".join(block.get("+", [])), block.get("test", f"section-{section:02}"))


def apply(mutation, text):
    """Returns the changed text. Raises ValueError when the old one is not there exactly once."""
    pattern = re.compile(r"\s*\n\s*".join(re.escape(line.strip()) for line in mutation.old.splitlines()))
    n = len(pattern.findall(text))
    if n != 1:
        raise ValueError(f"{mutation.place}: the text to change is in {mutation.file} {n} times, not once:\n"
                         f"    {mutation.old.strip()}")
    return pattern.sub(lambda _: mutation.new.strip(), text, count=1)


def problems(root):
    """What does not fit together, a line each."""
    said = verdicts(root)
    tests = tested(root)
    found = []
    try:
        broken = mutations(root)
    except ValueError as error:
        return [str(error)]
    for mutation in broken:
        try:
            apply(mutation, (root / mutation.file).read_text())
        except (OSError, ValueError) as error:
            found.append(str(error))
    mutated = {mutation.rule for mutation in broken}
    for rule, verdict in said.items():
        if verdict == "holds" and rule not in tests:
            found.append(f"docs/SEMANTICS.md: {rule} holds, it says, but no case in tests/rules/*.c is named after it")
        if verdict == "holds" and rule not in mutated:
            found.append(f"docs/SEMANTICS.md: {rule} holds, it says, but tests/rules/mutations has none that breaks it")
    for rule in sorted((tests | mutated) - said.keys(), key=key):
        found.append(f"docs/SEMANTICS.md has no line for {rule}, which has a test or a mutation")
    differing = [rule for rule, verdict in said.items() if verdict == "differs"]
    if len(differing) > DIFFERS_MAX:
        found.append(f"docs/SEMANTICS.md: {len(differing)} rules differ, at most {DIFFERS_MAX} may: "
                     f"{', '.join(differing)}")
    return found


def root_of(file):
    return pathlib.Path(file).resolve().parents[2]
