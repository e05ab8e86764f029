#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The queries of overlapd-journal(7), asked of a journal that was made for the purpose: each finds what it is for, and not
what somebody else has put there.

usage: queries.py SOURCE_ROOT
"""

import datetime
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tap

REMOTE = pathlib.Path("/lib/systemd/systemd-journal-remote")
CONNECTED, REFUSED = "7515be9209d44d5781559be0798daa32", "777dc9027a334018b7105a7e52189294"
LISTENING, ENDED = "25d2bf603942466db2174496aab77528", "a962cdbe762e4b7b86cbd7532fcf924c"
START_FAILED = "f6e5ace16923430bbb288d98f0dd27df"
WEB = {"CLIENT_UNIT": "web.service", "CLIENT_UID": "4001", "CLIENT_PID": "812", "SESSION": "5e0c6d1f2a3b4c5d"}
MAIL = {"CLIENT_UNIT": "mail.service", "CLIENT_UID": "4002", "CLIENT_PID": "813", "SESSION": "00000000c0ffee02"}
# What a query of the page must find, by the sentence above it, and what it must not.
EXPECTED = {
    "What did this unit connect to yesterday?": (["web yesterday"], ["web today", "mail yesterday", "forged"]),
    "Who was refused since the machine was started": (["10-web.conf:3", "198.51.100.9:25"], ["forged", "web today"]),
    "The same, counted": (["2 web.service\t169.254.169.254:80\t/etc/overlapd/policy.d/10-web.conf:3: [deny metadata]",
                           "1 mail.service\t198.51.100.9:25\tno rule allows it"], ["forged"]),
    "Who reached this address, and when?": (["web yesterday", "web today"], ["mail yesterday", "forged"]),
    "Who listens, or has listened, where?": (["mail listens"], ["web today", "forged"]),
    "How much did each session of a unit move?": (["4096", "3750000"], ["777777", "forged"]),
    "All that is known of one session": (["web yesterday", "web today", "web ended"], ["mail", "forged"]),
    "What does the latest line mean": (["overlapd cannot start"], ["web"]),
    "Which units are there at all?": (["web.service", "mail.service"], []),
    "Why does overlapd not start": (["overlapd cannot start"], ["web", "mail"]),
    "Follow refusals, as they come": (["RULE=/etc/overlapd/policy.d/10-web.conf:3"], ["forged"]),
}


def entries():
    """Lines of two days, in their order; the last is the newest."""
    now = datetime.datetime.now(datetime.timezone.utc)
    yesterday = now.replace(hour=0, minute=0, second=0) - datetime.timedelta(hours=12)
    rule = "/etc/overlapd/policy.d/10-web.conf:3: [deny metadata]"
    lines = [
        (yesterday, "web yesterday", CONNECTED, WEB | {"REMOTE": "10.1.2.3:5432"}),
        (yesterday, "mail yesterday", CONNECTED, MAIL | {"REMOTE": "10.1.2.4:25"}),
        (yesterday, "forged", CONNECTED, WEB | {"REMOTE": "10.1.2.3:5432", "_SYSTEMD_UNIT": "other.service"}),
        (now, "web today", CONNECTED, WEB | {"REMOTE": "10.1.2.3:5432"}),
        (now, "web refused", REFUSED, WEB | {"REMOTE": "169.254.169.254:80", "RULE": rule}),
        (now, "web refused", REFUSED, WEB | {"REMOTE": "169.254.169.254:80", "RULE": rule}),
        (now, "mail refused", REFUSED, MAIL | {"REMOTE": "198.51.100.9:25", "RULE": "no rule allows it"}),
        (now, "forged", REFUSED, MAIL | {"REMOTE": "forged", "RULE": "forged", "_SYSTEMD_UNIT": "other.service"}),
        (now, "mail listens", LISTENING, MAIL | {"LOCAL": "[::]:8080"}),
        (now, "forged", LISTENING, MAIL | {"LOCAL": "[::]:8080", "_SYSTEMD_UNIT": "other.service"}),
        (now, "web ended", ENDED, WEB | {"OPERATIONS": "20", "BYTES_RECEIVED": "4096", "BYTES_SENT": "10",
                                         "DURATION_USEC": "3750000"}),
        (now, "mail ended", ENDED, MAIL | {"OPERATIONS": "777777"}),
        (now, "overlapd cannot start: no", START_FAILED, {"PRIORITY": "3"}),
    ]
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    for number, (when, message, event, fields) in enumerate(lines):
        yield {"__REALTIME_TIMESTAMP": str(int(when.timestamp() * 1_000_000) + number), "__MONOTONIC_TIMESTAMP": str(number + 1),
               "_BOOT_ID": boot, "_MACHINE_ID": boot, "PRIORITY": "5", "SYSLOG_IDENTIFIER": "overlapd", "_UID": "990",
               "_PID": "800", "_SYSTEMD_UNIT": "overlapd.service", "MESSAGE": message, "MESSAGE_ID": event} | fields


def make_journal(folder):
    text = "".join("".join(f"{name}={value}\n" for name, value in entry.items()) + "\n" for entry in entries())
    subprocess.run([REMOTE, f"--output={folder}/system.journal", "-"], input=text, text=True, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Who follows waits for what comes: here all is there.
    (folder / "journalctl").write_text('#!/bin/bash\nfor word; do shift; [[ $word = -f ]] || set -- "$@" "$word"; done\n'
                                       f'exec {shutil.which("journalctl")} --no-pager --file={folder}/system.journal "$@"\n')
    (folder / "journalctl").chmod(0o755)


def queries(page):
    """Pairs of the sentence above and the commands."""
    part = next(part for part in re.split(r"^# ", page, flags=re.MULTILINE) if part.startswith("QUERIES"))
    for found in re.finditer(r"^(\S[^\n]*(?:\n[^\n`]+)*)\n\n```\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
        yield " ".join(found[1].split()), found[2].replace("\\\\", "\\")


def ask(folder, command, expected, forbidden):
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=60, env={"PATH": f"{folder}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"})
    if done.returncode != 0:
        yield f"exit status {done.returncode}: {done.stdout[-500:]}"
    for text in expected:
        if text not in done.stdout:
            yield f"it does not find '{text}':\n{command}{done.stdout[-800:]}"
    for text in forbidden:
        if text in done.stdout:
            yield f"it finds '{text}', too:\n{command}{done.stdout[-800:]}"


def main():
    page = (pathlib.Path(sys.argv[1]) / "docs/man/overlapd-journal.7.scd").read_text()
    report = tap.Report()
    missing = [tool for tool in ("journalctl", "jq", str(REMOTE)) if not shutil.which(tool)]
    if missing:
        report.skip("the queries of overlapd-journal.7 find what they are for", f"there is no {' and no '.join(missing)}")
        report.finish()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_journal(folder)
        asked = set()
        for sentence, command in queries(page):
            key = next((key for key in EXPECTED if sentence.startswith(key)), None)
            asked.add(key)
            if key and not command.startswith("overlapctl"):
                report.case(f"overlapd-journal.7: {key}", ask(folder, command, *EXPECTED[key]))
            elif not key:
                report.case(f"overlapd-journal.7: {sentence}", ["it is not in EXPECTED: say what it must find"])
        report.case("overlapd-journal.7 has all queries", (f"there is no query: {key}" for key in EXPECTED if key not in asked))
    report.finish()


main()
