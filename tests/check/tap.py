# SPDX-License-Identifier: Apache-2.0
"""The few lines of TAP that the checks share."""

import sys


class Report:
    """Collects cases: each has a name and the problems that were found; none means that it passed."""

    def __init__(self):
        self.cases = []

    def case(self, name, problems):
        self.cases.append((name, list(problems), None))

    def skip(self, name, reason):
        self.cases.append((name, [], reason))

    def finish(self):
        """Prints all cases and ends the program: with 1 when one failed."""
        print(f"1..{len(self.cases)}")
        failed = False
        for number, (name, problems, reason) in enumerate(self.cases, 1):
            suffix = f" # SKIP {reason}" if reason else ""
            print(f"{'not ok' if problems else 'ok'} {number} - {name}{suffix}")
            for problem in problems:
                for line in problem.splitlines():
                    print(f"# {line}")
            failed = failed or bool(problems)
        sys.exit(1 if failed else 0)
