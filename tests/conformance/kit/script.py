# SPDX-License-Identifier: Apache-2.0
"""What the interpreters of both kinds of cases have in common: verbs, variables, peers, and how a failure is told."""

import os
import shutil
import tempfile

from kit import kernel
from kit.values import Mistake, Problem, Values, pair


class NotServed(Exception):
    """The side under test says that it does not have what the case needs."""


def halves(words):
    """What stands before and behind =>; the second is None without one."""
    if "=>" not in words:
        return words, None
    at = words.index("=>")
    return words[:at], words[at + 1:]


class Script:
    """Runs the steps of one case. A subclass has a method do_VERB(*words) for each verb."""

    def __init__(self, contract, level, patience):
        self.contract, self.level, self.patience = contract, level, patience
        self.values = Values(contract)
        self.folder = tempfile.mkdtemp(prefix="overlap-")
        self.peers = kernel.Kernel(self.values, self.folder, patience)
        self.values.variables.update({"level": level, "dir": self.folder.encode()})

    def close(self):
        self.peers.close_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, case):
        """Raises Problem, with the line of the step, or NotServed."""
        for number, line, words in case.steps:
            try:
                self.step(words)
            except NotServed:
                raise
            except Mistake as error:
                raise Problem(f"{case.path.name}:{number}: {line}\nthe case itself is wrong: {error}") from None
            except (Problem, OSError, TypeError) as error:
                if isinstance(error, TypeError) and "do_" not in str(error):
                    raise
                raise Problem(f"{case.path.name}:{number}: {line}\n{error}") from None

    def step(self, words):
        verb = getattr(self, "do_" + words[0].replace("-", "_"), None)
        if verb is None:
            raise Mistake(f"there is no verb {words[0]}")
        verb(*words[1:])

    def do_times(self, count, *words):
        """times N STEP"""
        for _ in range(self.values.value("count", count)):
            self.step(words)

    def do_peer(self, verb, *words):
        if verb not in kernel.VERBS:
            raise Mistake(f"a peer cannot {verb}")
        getattr(self.peers, verb)(*words)

    def do_set(self, name, text):
        self.values.variables[name] = self.values.value("data", text)

    def do_expect(self, name, text):
        """expect $VARIABLE[+$VARIABLE] MATCHER"""
        found = [self.values.variable(part) for part in name.split("+")]
        self.values.check(name, {name: found[0] if len(found) == 1 else sum(found)}, [(name, text)])

    def do_path(self, name):
        """A path in the case's own directory, as $NAME."""
        self.values.variables[name] = os.path.join(self.folder, name).encode()

    @staticmethod
    def pairs(words):
        return [pair(word) for word in words]
