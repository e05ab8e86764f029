# SPDX-License-Identifier: Apache-2.0
"""Builds, runs meson's suites and counts their cases, for script/test.

A test program that speaks TAP counts as its cases, another as one case. What ended without saying how (killed, out of
time, fewer cases than planned) counts as one failed case more, so that silence is never taken for success. A build that
fails is a failed case too.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import rules

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUITES = ["unit", "wire", "check", "client", "monitor", "system", "rules", "ledger", "sim", "python", "nc", "ctl",
          "examples", "conformance", "fuzz"]
SANITIZED = ["unit", "wire", "client", "monitor", "system", "rules", "sim", "nc", "ctl"]

# build: the suites that run on it without and with --full
BUILDS = {
    "test": (SUITES, SUITES),
    "asan": (SANITIZED, SUITES),
    "tsan": (["client", "tsan"], ["client", "tsan"]),
    "clang": ([], SUITES),
    "fuzz": (["fuzz"], ["fuzz"]),
}
# With --full, too, these builds are spared: every variant of each test (the sanitizers have each engine once), and all
# that is long (what another compiler makes of the sources shows without it).
SPARED = {"asan": ["matrix"], "clang": ["full"]}

# The lines of script/test-systemd.
SERVICE_LINE = re.compile(r"^(ok|FAIL|skip) +(.*)$")
SERVICE_PATIENCE_S = 900  # when all else has ended

TAP_LINE = re.compile(r"^(not )?ok\b\s*(\d*)\s*-?\s*(.*)$")
TAP_PLAN = re.compile(r"^1\.\.(\d+)")
TAP_SKIP = re.compile(r"#\s*skip", re.IGNORECASE)

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


def say(text):
    print(f"test: {text}", flush=True)


class Tally:
    def __init__(self):
        self.passed = self.skipped = 0
        self.failed = []  # (what, output, command that runs it again)
        self.kept, self.broken = set(), set()  # rules of docs/SEMANTICS.md
        self.kept_by_python = set()

    def rules(self):
        """How many of the rules that hold, as the page says, were seen to hold."""
        said = [rule for rule, verdict in rules.verdicts(rules.root_of(__file__)).items() if verdict == "holds"]
        kept, by_python = self.kept - self.broken, self.kept_by_python - self.broken
        return (f"{sum(rule in kept for rule in said)} of the {len(said)} rules of docs/SEMANTICS.md that hold were proved, "
                f"{sum(rule in by_python for rule in said)} of them also for Python")

    def line(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {len(self.failed)} failed{skipped}"


def fixed_addresses():
    """A prefix that switches address randomisation off: the sanitizers of Debian 12 cannot live with much of it."""
    prefix = ["setarch", platform.machine(), "-R"]
    if not shutil.which("setarch"):
        return []
    return prefix if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0 else []


def count_tap(test, tally, replay):
    """Counts the cases of one TAP program. Returns how many failed."""
    n_seen = n_failed = 0
    planned = None
    for line in test["stdout"].splitlines():
        plan = TAP_PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
        case = TAP_LINE.match(line)
        if not case:
            continue
        n_seen += 1
        proved = rules.rules_of(case.group(3)) if " / section-" in test["name"] else []
        if TAP_SKIP.search(case.group(3)):
            tally.skipped += 1
        elif case.group(1):
            n_failed += 1
            tally.broken.update(proved)
            tally.failed.append((f"{test['name']}: {case.group(3)}", "", replay))
        else:
            tally.passed += 1
            (tally.kept_by_python if "-python" in test["name"] else tally.kept).update(proved)
    if planned is None or n_seen < planned:
        n_failed += 1
        tally.failed.append((f"{test['name']}: ended before all its cases ({test['result']})", "", replay))
    return n_failed


def count(test, tally, build, prefix):
    name = test["name"].rsplit(" / ", 1)[-1]
    replay = shlex.join([*prefix, "meson", "test", "-C", f"build/{build}", "-v", name])
    # An empty plan with a reason is a whole program that was skipped.
    is_tap = re.search(r"^(not ok|ok|1\.\.[1-9])\b", test["stdout"], re.MULTILINE) is not None
    n_failed = count_tap(test, tally, replay) if is_tap else 0
    if n_failed == 0 and test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL"):
        tally.failed.append((f"{test['name']}: {test['result']}, exit status {test['returncode']}", "", replay))
        n_failed = 1
    elif not is_tap and test["result"] == "SKIP":
        tally.skipped += 1
    elif not is_tap:
        tally.passed += 1
    if n_failed:
        what, _, command = tally.failed[-1]
        tally.failed[-1] = (what, test["stdout"] + test.get("stderr", ""), command)


def known_suites(directory):
    run = subprocess.run(["meson", "introspect", "--tests", directory], stdout=subprocess.PIPE, text=True, check=True)
    return {suite.split(":")[-1] for test in json.loads(run.stdout) for suite in test["suite"]}


def run_build(build, suites, options, tally):
    """Builds one variant and runs suites on it."""
    start = time.monotonic()
    made = subprocess.run([os.path.join(ROOT, "script", "build"), build], check=False)
    if made.returncode != 0:
        tally.failed.append((f"build {build}", "", f"script/build {build}"))
        return
    directory = os.path.join(ROOT, "build", build)
    suites = [suite for suite in suites if suite in known_suites(directory)]
    if not suites:
        return
    say(f"{build}: built in {time.monotonic() - start:.0f} s, running {', '.join(suites)}")
    prefix = fixed_addresses() if build in ("asan", "tsan") else []
    # Tests wait more than they compute: one more than there are processors.
    command = [*prefix, "meson", "test", "-C", directory, "--no-rebuild", "--logbase", "suites", "--no-suite", "bench",
               "--num-processes", str(len(os.sched_getaffinity(0)) + 1)]
    for suite in SPARED.get(build, []) if options.full else ["full"]:
        command += ["--no-suite", suite]
    for suite in suites:
        command += ["--suite", suite]
    log = os.path.join(directory, "meson-logs", "suites.json")
    if os.path.exists(log):
        os.remove(log)
    start = time.monotonic()
    ended = subprocess.run(command, env=SANITIZER_OPTIONS | os.environ, stdin=subprocess.DEVNULL, check=False)
    n_failed = len(tally.failed)
    if os.path.exists(log):
        with open(log, encoding="utf-8") as lines:
            for line in lines:
                count(json.loads(line), tally, build, prefix)
    if ended.returncode != 0 and len(tally.failed) == n_failed:
        tally.failed.append((f"meson test on build {build}: exit status {ended.returncode}", "", shlex.join(command)))
    say(f"{build}: ran for {time.monotonic() - start:.0f} s; until now {tally.line()}")


class Service:
    """script/test-systemd, beside the builds and suites: it waits for disks and machines more than it computes."""

    def __init__(self):
        self.path = os.path.join(ROOT, "build", "test-systemd.log")
        self.start = time.monotonic()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(["nice", os.path.join(ROOT, "script", "test-systemd")], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def count(self, tally):
        try:
            status = self.process.wait(SERVICE_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.stop()
            status = "it did not end"
        with open(self.path, encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()
        n_failed = 0
        for verdict, what in (found.groups() for found in map(SERVICE_LINE.match, lines) if found):
            if verdict == "ok":
                tally.passed += 1
            elif verdict == "skip":
                tally.skipped += 1
            else:
                n_failed += 1
                tally.failed.append((f"service: {what}", "", "script/test-systemd"))
        for reason in (line for line in lines if line.startswith("test-systemd: skipped: ")):
            tally.skipped += 1
            say(reason)
        if status != 0 and n_failed == 0:
            tally.failed.append((f"script/test-systemd: exit status {status}", "\n".join(lines), "script/test-systemd"))
        say(f"service: ended within {time.monotonic() - self.start:.0f} s; until now {tally.line()}")


def arguments():
    parser = argparse.ArgumentParser(prog="script/test")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--suite", action="append", default=[])
    parser.add_argument("--build", action="append", default=[], choices=sorted(BUILDS))
    options = parser.parse_args()
    for suite in options.suite:
        if suite not in SUITES + ["tsan", "full"]:
            parser.error(f"there is no suite {suite}; there are: {', '.join(SUITES)}")
    return options


def main():
    options = arguments()
    start = time.monotonic()
    tally = Tally()
    status = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    service = None if options.suite or options.build else Service()
    try:
        for build, plan in BUILDS.items():
            suites = options.suite if options.build and options.suite else plan[options.full]
            if options.suite:
                suites = [suite for suite in suites if suite in options.suite]
            if suites and (not options.build or build in options.build):
                run_build(build, suites, options, tally)
        if service:
            service.count(tally)
    except KeyboardInterrupt:
        say("interrupted")
        status = 130
    finally:
        if service:
            service.stop()
    for what, output, replay in tally.failed:
        print(f"\nFAILED {what}")
        for line in output.splitlines()[-200:]:
            print(f"    {line}")
        print(f"    again: {replay}")
    say(f"took {time.monotonic() - start:.0f} s")
    if tally.kept or tally.broken:
        say(tally.rules())
    if tally.passed == 0 and not tally.failed:
        tally.failed.append(("nothing ran", "", ""))
        say("no case ran at all")
    print(tally.line(), flush=True)
    return status or (1 if tally.failed else 0)


if __name__ == "__main__":
    sys.exit(main())
