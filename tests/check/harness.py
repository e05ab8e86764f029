#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of tests/harness/broken.c: each must be reported as what it is. TAP.

usage: harness.py PROGRAM SANITIZE
"""

import re
import subprocess
import sys


def main():
    program, sanitize = sys.argv[1:]
    result = subprocess.run([program], stdout=subprocess.PIPE, text=True)
    said = {}
    for line in result.stdout.splitlines():
        found = re.match(r"(ok|not ok) \d+ - (\S+)( # SKIP .+)?$", line)
        if found:
            said[found[2]] = "skip" if found[3] else found[1]

    expected = dict.fromkeys(["assertion", "crash", "exit", "hang", "open", "close", "child", "orphan"], "not ok")
    expected["leak"] = "not ok" if "address" in sanitize else "ok"
    expected["not-at-all"] = "ok"
    expected["skip"] = "skip"

    print(f"1..{len(expected) + 3}")
    number = 0
    good = True

    def report(name, fine, why):
        nonlocal number, good
        number += 1
        good = good and fine
        print(f"{'ok' if fine else 'not ok'} {number} - {name}")
        if not fine:
            print(f"# {why}")

    for name, what in expected.items():
        got = said.get(name, "nothing")
        report(f"case {name}", got == what, f"the harness must say '{what}' of this case, but said '{got}'")
    report("exit status", result.returncode == 1, f"it is {result.returncode}, not 1, though cases failed")
    explained = "# assertion: " in result.stdout and "1 != 0x2" in result.stdout
    crash = "AddressSanitizer: SEGV" if "address" in sanitize else "ended by signal 11"
    report("a crash ends as a crash", crash in result.stdout, f"nothing says '{crash}'")
    report("output of a failed case", explained, "it was not printed:\n# " + result.stdout.replace("\n", "\n# "))
    return 0 if good else 1


sys.exit(main())
