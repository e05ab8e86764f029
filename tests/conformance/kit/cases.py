# SPDX-License-Identifier: Apache-2.0
"""Reads the files of cases.

A file is a subject. `case NAME` begins a case; then come its header words, then its steps, one a line. A line that ends
with a backslash goes on in the next.

    case NAME
      about   what the page says, in a sentence
      section where it says so
      levels  0 1 2          (all three if absent; `once`: it does not matter, one is enough)
      needs   op:POLL ...    (what a daemon, or a client, must have; see the README)
      STEPS
"""

import pathlib

from kit import values

HEADERS = {"about", "section", "levels", "needs"}


class Case:
    def __init__(self, path, name):
        self.path, self.name = path, name
        self.about, self.section = "", ""
        self.levels, self.needs, self.steps, self.is_once = [0, 1, 2], [], [], False

    @property
    def title(self):
        return f"{self.path.stem}/{self.name}"

    def levels_of(self, wanted):
        """Those at which it runs, where only some are wanted."""
        if self.is_once:
            return [1] if not wanted or 1 in wanted else wanted[:1]
        return [level for level in self.levels if not wanted or level in wanted]

    def take(self, number, line):
        word, _, rest = line.partition(" ")
        if word in HEADERS and not self.steps:
            rest = rest.strip()
            if word == "about":
                self.about = f"{self.about} {rest}".strip()
            elif word == "section":
                self.section = rest
            elif word == "levels" and rest == "once":
                self.is_once = True
            elif word == "levels":
                self.levels = [int(level) for level in rest.split()]
            else:
                self.needs += rest.split()
            return
        words = values.split(line)
        if words:
            self.steps.append((number, line, words))


def logical_lines(path):
    """Pairs of the number of a line and its text, continued lines joined."""
    pending, first = "", None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        first = first or number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending, at, first = (pending + line).strip(), "", first, None
        if line and not line.startswith("#"):
            yield at, line


def read_file(path):
    found, case = [], None
    for number, line in logical_lines(path):
        if line.startswith("case "):
            case = Case(path, line[5:].strip())
            found.append(case)
        elif case is None:
            raise values.Mistake(f"{path}:{number}: a step before the first case")
        else:
            case.take(number, line)
    for case in found:
        if not (case.about and case.section and case.steps):
            raise values.Mistake(f"{path}: case {case.name} has no about, section or steps")
    names = [case.name for case in found]
    if len(names) != len(set(names)):
        raise values.Mistake(f"{path}: two cases have one name")
    return found


def read_folder(folder, wanted):
    """All cases of a folder, or those that are wanted: by file, by SUBJECT, by SUBJECT/NAME or by path."""
    found = []
    for path in sorted(pathlib.Path(folder).glob("*.case")):
        found += read_file(path)
    for name in wanted:
        path = pathlib.Path(name)
        if path.suffix == ".case" and path.exists() and path.resolve().parent != pathlib.Path(folder).resolve():
            found += read_file(path)
    chosen = [case for case in found if not wanted or
              any(name in (case.title, case.path.stem, case.path.name, str(case.path)) for name in wanted)]
    if wanted and not chosen:
        raise values.Mistake(f"no case is named {', '.join(wanted)}")
    return chosen
