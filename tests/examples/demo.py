#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demonstration, small: it must end well, and say that it failed where a file comes back changed. TAP.

usage: demo.py SOURCE_ROOT BUILD_ROOT OVERLAPD
"""

import os
import subprocess
import sys
import tempfile

LIMIT_S = 100

# Stands before sha256sum in the search path and claims another sum for what came back.
LIAR = "#!/bin/sh\ncat >/dev/null\necho 0000 -\n"


def demo(source_root, build_root, overlapd, path):
    return subprocess.run(
        [overlapd, "--private", "--engine", os.environ["OVL_TEST_ENGINE"], "--", sys.executable,
         f"{source_root}/script/parts/demo.py", f"{build_root}/examples", "--connections", "16", "--megabytes", "8"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
        env=os.environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"})


def main():
    print("1..2")
    good = demo(*sys.argv[1:], os.environ["PATH"])
    fine = good.returncode == 0 and "all 16 checksums match" in good.stdout
    print(f"{'ok' if fine else 'not ok'} 1 - the demonstration ends well")
    if not fine:
        print("# " + good.stdout.replace("\n", "\n# "))

    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/sha256sum", "w", encoding="ascii") as liar:
            liar.write(LIAR)
        os.chmod(f"{directory}/sha256sum", 0o755)
        bad = demo(*sys.argv[1:], f"{directory}:{os.environ['PATH']}")
    caught = bad.returncode == 1 and "FAILED: 16 of 16 files" in bad.stdout
    print(f"{'ok' if caught else 'not ok'} 2 - a checksum that differs is an error")
    if not caught:
        print("# " + bad.stdout.replace("\n", "\n# "))
    return 0 if fine and caught else 1


sys.exit(main())
