#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The kit must be able to fail: wrong expectations, daemons and drivers must each be told as what they are. TAP.

usage: broken.py DRIVER         where OVERLAPD_SOCKET names a daemon
       broken.py --daemon HOW PATH     a fake daemon that is wrong in one way
       broken.py --driver HOW          a driver that is wrong in one way
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from kit import contract, fake  # noqa: E402
from kit.values import Problem  # noqa: E402

PATIENCE_S = "1.5"

# What the explanation of each broken case must say.
DAEMON_CASES = {
    "right": None,
    "reply-field": "hello.version: expected 2, got 1",
    "reply-status": "status: expected -EPERM, got 0",
    "reply-refused": "status: expected 0, got -EBADF",
    "record-field": "bytes: expected 6, got 5",
    "record-data": "data: expected 'hullo', got 'hello'",
    "record-message": "aux.flags: expected 1024, got 0",
    "peer-fills": "expected a number < 32768",
    "peer-urgent": "the urgent byte that came to P is b'!', not b'?'",
    "record-order": "tag: expected 2, got 1",
    "record-missing": "a record did not come within",
    "record-too-many": "a record came, where none should",
    "record-not-refused": "flags: expected a value with REFUSED",
    "record-not-before": "no such record had come before",
    "no-verdict": "a verdict on 2 entries",
    "no-end": "the end of the connection did not come",
    "an-end": "the daemon closed the connection",
    "another-notice": "reason: expected QUOTA, got BAD_FRAME",
    "peer-data": "expected b'jello'",
    "peer-end": "the end of the stream did not come to P",
    "unknown-verb": "the case itself is wrong: there is no verb dance",
    "unknown-name": "the case itself is wrong: 'TELEPORT' is no value of op",
    "unknown-variable": "the case itself is wrong: there is no variable $nowhere",
}
CLIENT_CASES = {
    "right": None,
    "answer-field": "bytes: expected 99, got 100",
    "answer-fails": "but the call should have succeeded",
    "answer-succeeds": "but the call should have failed",
    "peer-data": "P read something else, from byte 0 on",
    "received-data": "has 5 bytes with the checksum",
    "entry-field": "op: expected RECV, got SEND",
    "entry-missing": "entry 1 did not come from the client",
    "request-field": "level: expected 7, got 1",
    "end-missing": "the end of the connection did not come from the client",
}

# A fake daemon that is wrong in one way, a case that is right, and what must be said.
DAEMONS = {
    "honest": ("hello/opens-a-session", None),
    "short-secret": ("hello/opens-a-session", "hello.secret: expected 16 bytes"),
    "silent": ("hello/opens-a-session", "the reply of id 1 did not come within"),
    "hangs-up": ("hello/opens-a-session", "the daemon closed the connection"),
    "garbled": ("hello/opens-a-session", "what is no frame of this protocol"),
    "long-frame": ("hello/opens-a-session", "a frame of kind 1 with 20000 bytes came"),
    "another-id": ("hello/opens-a-session", "the reply of id 1 did not come within"),
    "higher-level": ("hello/grants-no-more-than-is-wished", "hello.level: expected 0, got 1"),
    "old-sequence": ("refusals/unknown-socket", "sequence is 0 after 0"),
    "settles-too-much": ("verdicts/refused", "9 entries of the channel are said to be settled"),
    "settles-too-early": ("verdicts/refused", "no such record had come before"),
    "refused-with-bytes": ("refusals/unknown-socket", "it is REFUSED, yet it has bytes"),
}

# A driver that is wrong in one way, a case, and what must be said.
DRIVERS = {
    "agrees to all": ("live/send", "the client opened a session of level 0"),
    "talks nonsense": ("live/send", "not ok or error"),
    "dies": ("live/send", "the driver ended instead of answering"),
    "hangs": ("live/send", "the driver did not answer within"),
    "fails at last": ("live/no-daemon", "the driver ended with status 3"),
}


def run(*arguments):
    """The runner's exit status and output."""
    ended = subprocess.run([str(HERE / "run"), "--patience", PATIENCE_S, *arguments], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, check=False)
    return ended.returncode, ended.stdout


class Report:
    def __init__(self):
        self.number, self.n_failed = 0, 0

    def case(self, name, fine, output):
        self.number += 1
        self.n_failed += not fine
        print(f"{'ok' if fine else 'not ok'} {self.number} - {name}", flush=True)
        if not fine:
            for line in output.splitlines():
                print(f"# {line.replace('not ok', 'not-ok')}")

    def end(self):
        print(f"1..{self.number}")
        return 1 if self.n_failed else 0


def split(output):
    """By name of the case: whether it is ok, and what was said of it."""
    found, name = {}, None
    for line in output.splitlines():
        said = re.match(r"(ok|not ok) \d+ - \S+/(\S+) at level \d", line)
        if said:
            name = said[2]
            found[name] = (said[1] == "ok", "")
        elif name and line.startswith("#"):
            found[name] = (found[name][0], found[name][1] + line + "\n")
    return found


def check_cases(report, what, expected, output):
    found = split(output)
    for name, text in expected.items():
        is_ok, said = found.get(name, (None, "it was not run"))
        fine = is_ok is True if text is None else is_ok is False and text in said
        report.case(f"{what} {name}", fine, f"it must say: {text}\n{said}")


def check_daemons(report):
    for how, (case, text) in DAEMONS.items():
        with tempfile.TemporaryDirectory(prefix="overlap-") as folder:
            path = os.path.join(folder, "fake")
            daemon = subprocess.Popen([sys.executable, __file__, "--daemon", how, folder], stdout=subprocess.PIPE)
            daemon.stdout.readline()
            try:
                status, output = run("--daemon", path, "--level", "0" if how == "higher-level" else "1", case)
            finally:
                daemon.kill()
                daemon.communicate()
        fine = status == 0 and "not ok" not in output if text is None else status == 1 and text in output
        report.case(f"daemon that is {how}", fine, f"it must say: {text}\n{output}")


def check_drivers(report):
    for how, (case, text) in DRIVERS.items():
        command = f"{sys.executable} {__file__} --driver '{how}'"
        status, output = run("--client", command, "--level", "1", case)
        report.case(f"driver that {how}", status == 1 and text in output, f"it must say: {text}\n{output}")


def check_runner(report):
    # Nobody serves what there is not: skipped, but not where all must be served.
    with tempfile.TemporaryDirectory(prefix="overlap-") as folder:
        path = pathlib.Path(folder) / "needy.case"
        path.write_text("case needy\n  about   x\n  section 1\n  needs   request:@500\n  session a\n", encoding="utf-8")
        status, output = run("--level", "1", str(path))
        report.case("what is not served is skipped", status == 0 and "# SKIP not served" in output, output)
        status, output = run("--level", "1", "--strict", str(path))
        report.case("but not with --strict", status == 1 and "not ok 1" in output, output)
        path.write_text("case empty\n  about   x\n  section 1\n", encoding="utf-8")
        status, output = run(str(path))
        report.case("a case without steps is a mistake", status == 1 and "no about, section or steps" in output, output)
    status, output = run("no/such-case")
    report.case("a name of no case is a mistake", status == 1 and "no case is named" in output, output)
    status, output = run("--daemon", "/nonexistent", "control/status", "--level", "1")
    report.case("a daemon that is not there is a failure", status == 1 and "No such file" in output, output)


# --- What is wrong -------------------------------------------------------------------------------------------------


def be_daemon(how, folder):
    wire = contract.Contract(HERE.parent.parent / "proto")
    daemon = fake.Fake(wire, folder, 1, 10)
    if how == "short-secret":
        daemon.rules["hello"] = ("answer", {"hello.secret": b"abc"})
    elif how == "silent":
        daemon.rules["hello"] = ("mute", None)
    elif how == "hangs-up":
        daemon.rules["hello"] = ("hangup", None)
    elif how == "garbled":
        daemon.rules["hello"] = ("raw", bytes([4, 0, 0, 0, 1, 0, 0, 0]) + b"\xff" * 4)
    elif how == "long-frame":
        daemon.rules["hello"] = ("raw", (20000).to_bytes(4, "little") + bytes([1, 0, 0, 0]) + bytes(20000))
    elif how == "another-id":
        daemon.rules["hello"] = ("answer", {"id": 77})
    elif how == "higher-level":
        # The probe asks for level 0 first, and is told so; the case is told otherwise.
        honest = daemon.honest_hello
        daemon.honest_hello = lambda connection, fields, fd: {
            **honest(connection, fields, fd), "hello.level": int(len(daemon.requests) > 1)}
    daemon.settles = how != "settles-too-much"
    print("ready", flush=True)
    while True:
        try:
            daemon.pump(10)
        except Problem:
            pass
        for entry in daemon.entries:
            if not entry.has_ended:
                daemon.finish(entry, {"status": -9, "reason": 7, "flags": 1,
                                      **{"old-sequence": {"sequence": 0},
                                         "refused-with-bytes": {"bytes": 5}}.get(how, {})})
                if how == "settles-too-much":  # here the verdict comes behind the record, as it should
                    daemon.settle(entry.connection, 9)


def be_driver(how):
    status = 0
    for line in sys.stdin:
        if line.startswith("features"):
            print("ok level:1", flush=True)
        elif how == "agrees to all":
            print("ok", flush=True)
        elif how == "fails at last":
            print("error -2 reason=0 nobody is there", flush=True)
            status = 3
        elif how == "talks nonsense":
            print("yes, gladly", flush=True)
        elif how == "dies":
            return 1
        elif how == "hangs":
            time.sleep(60)
    return status


def main():
    if sys.argv[1] == "--daemon":
        return be_daemon(*sys.argv[2:])
    if sys.argv[1] == "--driver":
        return be_driver(sys.argv[2])
    report = Report()
    status, output = run("--level", "1", str(HERE / "cases/broken/daemon.case"))
    check_cases(report, "daemon case", DAEMON_CASES, output)
    report.case("its exit status", status == 1, f"it is {status}")
    status, output = run("--client", sys.argv[1], "--level", "1", str(HERE / "cases/broken/client.case"))
    check_cases(report, "client case", CLIENT_CASES, output)
    report.case("its exit status", status == 1, f"it is {status}")
    check_daemons(report)
    check_drivers(report)
    check_runner(report)
    return report.end()


sys.exit(main())
