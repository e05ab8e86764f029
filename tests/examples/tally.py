#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How script/test counts: what says nothing, or not enough, must never pass for success. TAP.

usage: tally.py SOURCE_ROOT
"""

import importlib.util
import sys

# what: (standard output, meson's result) -> (passed, failed, skipped)
CASES = {
    "cases count one by one": ("1..2\nok 1 - a\nok 2 - b\n", "OK", (2, 0, 0)),
    "a failed case": ("1..2\nok 1 - a\nnot ok 2 - b\n", "FAIL", (1, 1, 0)),
    "a skipped case": ("1..2\nok 1 - a\nok 2 - b # SKIP no such kernel\n", "OK", (1, 0, 1)),
    "a program that dies half-way": ("1..3\nok 1 - a\n", "ERROR", (1, 1, 0)),
    "a program that is killed after its last case": ("1..1\nok 1 - a\n", "TIMEOUT", (1, 1, 0)),
    "a program without a plan": ("ok 1 - a\n", "ERROR", (1, 1, 0)),
    "a program that fails though its cases passed": ("1..1\nok 1 - a\n", "FAIL", (1, 1, 0)),
    "a program that says nothing and fails": ("", "FAIL", (0, 1, 0)),
    "a program that says nothing and is killed": ("", "TIMEOUT", (0, 1, 0)),
    "a plain program that passes": ("whatever\n", "OK", (1, 0, 0)),
    "a whole program that is skipped": ("1..0 # SKIP nothing to do\n", "SKIP", (0, 0, 1)),
}


def main():
    sys.dont_write_bytecode = True
    sys.path.insert(0, f"{sys.argv[1]}/script/parts")
    spec = importlib.util.spec_from_file_location("counted", f"{sys.argv[1]}/script/parts/test.py")
    counted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counted)

    failed = 0
    print(f"1..{len(CASES) + 1}")
    for number, (what, (output, result, expected)) in enumerate(CASES.items(), 1):
        tally = counted.Tally()
        test = {"name": "overlapd:unit / program", "stdout": output, "result": result, "returncode": 1}
        counted.count(test, tally, "test", [])
        got = (tally.passed, len(tally.failed), tally.skipped)
        failed += got != expected
        print(f"{'ok' if got == expected else 'not ok'} {number} - {what}")
        if got != expected:
            print(f"# passed, failed, skipped: {got}, not {expected}")

    tally = counted.Tally()
    tally.passed = 3
    fine = tally.line() == "3 passed, 0 failed"
    tally.skipped = 2
    fine = fine and tally.line() == "3 passed, 0 failed, 2 skipped"
    print(f"{'ok' if fine else 'not ok'} {len(CASES) + 1} - the last line")
    return 0 if not failed and fine else 1


sys.exit(main())
