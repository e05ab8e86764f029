#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The service in a booted Debian. Each case is a story of an administrator; they build on each other.

usage: run.py PLACE PACKAGES [--keep-packages] [--until NAME]

With --until the container stays as it is after that story, for a look, until a line comes on standard input.
"""

import argparse
import fcntl
import pathlib
import signal
import sys
import time

import administrators
import container
import frame
import lifecycle
import outside
import packages
import pages
import refusals
import users

STORIES = [
    ("the packages are installed, and the socket waits", lifecycle.installs),
    ("systemd-analyze verify is silent", lifecycle.verifies),
    (f"the exposure is at most {lifecycle.EXPOSURE_MAX / 10}", lifecycle.is_hardened),
    ("the first client, in a sandbox, starts the service and transfers data", lifecycle.is_activated),
    ("a sandboxed server serves the outside", outside.serves_the_outside),
    ("it has no privileges", lifecycle.is_locked_down),
    ("the journal has who, where and how much", lifecycle.writes_a_journal),
    ("the catalog explains", lifecycle.explains),
    ("ssh reaches a sshd by name from a unit without a network", outside.reaches_sshd),
    ("psql reaches PostgreSQL through overlap-nc --local", outside.reaches_a_database),
    ("who is refused is told by which rule, and so is the journal", refusals.is_told),
    ("what one unit may another may not", refusals.covers_one_unit),
    ("administrators see who is there", administrators.see_who_is_there),
    ("administrators are told what the policy would say", administrators.see_what_is_allowed),
    ("administrators are root and a group", administrators.are_few),
    ("the doctor finds nothing, or says what helps", administrators.are_helped),
    ("a unit has what its quota gives, and the journal says so", refusals.has_quotas),
    ("rules change while it runs, and connections stay", refusals.changes_while_it_runs),
    ("a mistake in a rule leaves all as they were", refusals.keeps_what_is_valid),
    ("reloads are taken or refused", lifecycle.reloads),
    ("the watchdog restarts a daemon that is stopped", lifecycle.watches),
    ("the monitor replaces a worker that is stopped", lifecycle.replaces_workers),
    ("it serves by epoll where io_uring is not to be had", lifecycle.runs_without_io_uring),
    ("docs/SANDBOX.md is so, line by line", pages.is_so),
    ("the examples of settings and rules are valid", pages.examples_are_valid),
    ("the packages pass their own tests", packages.pass_their_tests),
    ("a user without root has a daemon", users.has_a_daemon),
    ("root has one of its own, whose workers have no privileges", users.has_one_as_root),
    ("an upgrade keeps what is the administrator's", lifecycle.upgrades),
    ("after a boot the sockets wait for the first client", lifecycle.boots),
    ("the RPM packages build, and rpmlint is silent", packages.build_as_rpm),
    ("nothing is left after uninstalling", lifecycle.uninstalls),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=pathlib.Path)
    parser.add_argument("packages", type=pathlib.Path)
    parser.add_argument("--keep-packages", action="store_true")
    parser.add_argument("--until")
    parser.add_argument("--skip-status", type=int, default=0)
    arguments = parser.parse_args()
    place = arguments.place.resolve()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # the container ends, too
    lock = open(place / "lock", "w", encoding="utf-8")  # pylint: disable=consider-using-with
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"test-systemd: another one runs in {place}: wait for its end")
    chosen = sorted(path for path in arguments.packages.glob("*.deb") if "-dbgsym" not in path.name)
    n = {"ok": 0, "FAIL": 0, "skip": 0}
    try:
        run(arguments, place, chosen, n)
    except container.CannotBoot as reason:
        print(f"test-systemd: skipped: nothing can be booted here: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        sys.exit(arguments.skip_status)
    print(f"{n['ok']} passed, {n['FAIL']} failed" + (f", {n['skip']} skipped" if n["skip"] else ""))
    sys.exit(1 if n["FAIL"] else 0)


def run(arguments, place, chosen, n):
    """Counts in n what passed, failed and was skipped."""
    with container.Container(place / "root", place / "running") as box:
        machine = frame.Machine(box, chosen, arguments.keep_packages)
        for name, story in STORIES:
            verdict, said, began = "ok", "", time.monotonic()
            try:
                story(machine)
            except frame.Skipped as reason:
                verdict, said = "skip", f": {reason}"
            except (AssertionError, RuntimeError, KeyError, IndexError, OSError) as error:
                verdict, said = "FAIL", f": {type(error).__name__}: {error}"
            n[verdict] += 1
            print(f"{verdict:4} {name} ({time.monotonic() - began:.1f} s){said}", flush=True)
            if arguments.until and arguments.until in name:
                print(f"look at process {box.leader}, by nsenter", flush=True)
                sys.stdin.readline()
                break


if __name__ == "__main__":
    main()
