#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page of rules, their tests and the mutations fit together.

usage: rules.py ROOT
"""

import pathlib
import sys

import tap

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "script" / "parts"))

import rules  # noqa: E402  (from the folder above)

report = tap.Report()
report.case("docs/SEMANTICS.md, tests/rules and its mutations agree", rules.problems(ROOT))
report.finish()
