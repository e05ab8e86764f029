# SPDX-License-Identifier: Apache-2.0
"""Applies the mutations one after the other, builds, and runs the tests of their rules. For script/mutate."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import rules

ROOT = rules.root_of(__file__)
WORK = ROOT / "build" / "mutate"
SOURCE, BUILD = WORK / "source", WORK / "build"
LIMIT_S = 300  # of all cases of one rule


def say(text):
    print(f"mutate: {text}", flush=True)


def run(command, **options):
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def copy_sources():
    """The files that git knows, as they are in the working tree; what has not changed keeps its time."""
    SOURCE.mkdir(parents=True, exist_ok=True)
    listed = run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"]).stdout.splitlines()
    for name in listed:
        source, target = ROOT / name, SOURCE / name
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        if not target.exists() or target.read_bytes() != data:
            target.write_bytes(data)
            target.chmod(source.stat().st_mode)
    for path in [path for path in SOURCE.rglob("*") if path.is_file()]:
        if str(path.relative_to(SOURCE)) not in listed and "__pycache__" not in path.parts:
            path.unlink()


def configure():
    if not (BUILD / "build.ninja").exists():
        made = run(["meson", "setup", BUILD, SOURCE, "-Dtest_hooks=true", "-Dbuildtype=debug"])
        if made.returncode != 0:
            sys.exit(made.stdout)


def tests():
    """Name of meson to command and environment."""
    listed = json.loads(run(["meson", "introspect", "--tests", BUILD]).stdout)
    return {test["name"]: test for test in listed if "overlapd:rules" in test["suite"]}


def build(jobs):
    return run(["ninja", "-C", BUILD, *([f"-j{jobs}"] if jobs else []), "daemon/overlapd", "rules"])


def cases_of(test, rule):
    listed = run([*test["cmd"], "--list"], env=os.environ | test["env"]).stdout.splitlines()
    return [name for name in listed if rule in rules.rules_of(name)]


def run_cases(test, names):
    """Returns whether all passed, and what was printed. One that does not end is one that failed."""
    with subprocess.Popen([*test["cmd"], *names], env=os.environ | test["env"], cwd=test.get("workdir"), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False, "out of time"
    return process.returncode == 0, output


def judge(mutation, test, jobs):
    """Returns (caught, a few words)."""
    path = SOURCE / mutation.file
    original = path.read_text()
    names = cases_of(test, mutation.rule)
    if not names:
        return False, f"no case of {test['name']} is named after the rule"
    path.write_text(rules.apply(mutation, original))
    try:
        made = build(jobs)
        if made.returncode != 0:
            return False, f"does not compile:\n{made.stdout[-2000:]}"
        passed, output = run_cases(test, names)
    finally:
        path.write_text(original)
    failed = [line.split(" - ", 1)[-1] for line in output.splitlines() if line.startswith("not ok")]
    if passed:
        return False, f"survived {len(names)} case(s)"
    return True, f"caught: {failed[0]}" if failed else "caught"


def check_unchanged(chosen, known, name_of):
    """Without a mutation all must pass: a case that fails anyway would seem to catch everything. Returns the failures."""
    names = {}
    for mutation in chosen:
        test = name_of(mutation)
        if test in known:
            names.setdefault(test, set()).update(cases_of(known[test], mutation.rule))
    failed = []
    for test, cases in names.items():
        passed, output = run_cases(known[test], sorted(cases)) if cases else (True, "")
        if not passed:
            failed.append(f"{test} fails without any mutation:\n{output[-2000:]}")
    return failed


def wanted(mutation, names):
    return not names or mutation.rule in names or mutation.rule.split(".")[0] in names


def main():
    parser = argparse.ArgumentParser(prog="script/mutate")
    parser.add_argument("names", nargs="*", metavar="RULE|SECTION")
    parser.add_argument("--engine", choices=["uring", "epoll"], default="uring")
    parser.add_argument("--jobs", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()

    problems = rules.problems(ROOT)
    for problem in problems:
        say(problem)
    if problems:
        return 1
    chosen = [mutation for mutation in rules.mutations(ROOT) if wanted(mutation, options.names)]
    if not chosen:
        say("no mutation is of that name")
        return 1
    copy_sources()
    configure()
    say(f"building {SOURCE.relative_to(ROOT)} as it is")
    made = build(options.jobs)
    if made.returncode != 0:
        print(made.stdout)
        return 1
    known = tests()

    def name_of(mutation):
        wants_epoll = options.engine == "epoll" and not mutation.test.endswith("-epoll")
        return mutation.test + ("-epoll" if wants_epoll else "")

    failed = check_unchanged(chosen, known, name_of)
    for failure in failed:
        say(failure)
    if failed:
        return 1
    survivors = 0
    for number, mutation in enumerate(chosen, 1):
        name = name_of(mutation)
        began = time.monotonic()
        if name not in known:
            caught, words = False, f"there is no test {name}"
        else:
            try:
                caught, words = judge(mutation, known[name], options.jobs)
            except ValueError as error:
                caught, words = False, str(error)
        survivors += not caught
        change = f"{mutation.old.strip().splitlines()[0]} -> {(mutation.new.strip().splitlines() or ['(nothing)'])[0]}"
        print(f"{mutation.rule:6} {'caught  ' if caught else 'SURVIVED'} {mutation.file}: {change}", flush=True)
        print(f"       {words} ({time.monotonic() - began:.0f} s; {number} of {len(chosen)})", flush=True)
    build(options.jobs)
    said = rules.verdicts(ROOT)
    n_rules = len({mutation.rule for mutation in chosen})
    print(f"{len(chosen)} mutations of {n_rules} rules: {len(chosen) - survivors} caught, {survivors} survived; of "
          f"{len(said)} rules on the page {sum(v == 'holds' for v in said.values())} hold, "
          f"{sum(v == 'differs' for v in said.values())} differ; took {time.monotonic() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
