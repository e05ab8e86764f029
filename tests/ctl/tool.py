# SPDX-License-Identifier: Apache-2.0
"""The frame of the tests of overlapctl's tools: the cases of tests/python/stage.py, and overlapctl run to its end."""

import json
import os
import subprocess

import stage
from stage import PATIENCE_S, eventually, main  # what the tests use

__all__ = ["PATIENCE_S", "CTL", "Case", "Done", "DONE", "FAILED", "USAGE", "LOST", "eventually", "main", "run"]

CTL = os.environ.get("OVL_TEST_CTL", "")

# Of overlapctl, as its manual page has them.
DONE, FAILED, USAGE, LOST = range(4)


class Done:
    """An overlapctl that has ended."""

    def __init__(self, ended):
        self.status, self.out, self.said = ended.returncode, ended.stdout, ended.stderr

    def json(self):
        return json.loads(self.out)

    def lines(self):
        """A JSON document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments, prefix=(), env=None, **options):
    """Runs overlapctl to its end, without standard input."""
    assert CTL, "OVL_TEST_CTL does not name an overlapctl: run this test through meson test"
    return Done(subprocess.run([*prefix, CTL, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False,
                               env=os.environ | (env or {}), **options))


class Case(stage.Case):
    """A case with a daemon."""

    def ctl(self, *arguments, status=DONE, **options):
        """Runs overlapctl, which asks the daemon of the case."""
        done = run("--socket", self.daemon.path, *arguments, **options)
        self.assertEqual(done.status, status, done.said + done.out)
        return done
