# SPDX-License-Identifier: Apache-2.0
"""The packages by themselves: the tests that travel with them, and those for the other half of the world."""

import shutil
import subprocess

from frame import SOURCE, Skipped, expect


def pass_their_tests(machine):
    """autopkgtest runs packaging/debian/tests in the machine, as Debian's own machines would."""
    source = machine.box.path("/opt/source")
    shutil.copytree(SOURCE / "packaging/debian", source / "debian")
    machine.box.run("chmod", "-R", "a+rX", "/opt/source")
    done = machine.box.run("autopkgtest", "--no-built-binaries", "--user=app", "--output-dir=/opt/autopkgtest",
                           "--ignore-restrictions=isolation-container", "/opt/source/", "--", "null", check=False)
    machine.box.run("sh", "-c", "systemctl reset-failed; rm -rf /opt/source")
    expect(done.returncode == 0, done.stdout[-3000:])
    for name in ("private", "build", "service"):
        expect(any(line.split() == [name, "PASS"] for line in done.stdout.splitlines()), f"{name}: {done.stdout[-2000:]}")


def build_as_rpm(machine):
    """The spec file has all that is installed in one of its packages, and nothing else."""
    if machine.keeps_packages:
        raise Skipped("the packages are kept as they are")
    done = subprocess.run([SOURCE / "script/package", "--rpm"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    expect(done.returncode == 0, done.stdout[-3000:])
    for name in ("overlapd", "overlapd-tools", "liboverlap", "liboverlap-devel", "python3-overlap"):
        expect(f"/{name}-0" in done.stdout, f"there is no package {name}: {done.stdout[-1000:]}")
