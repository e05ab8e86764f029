#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The service in a booted Debian. Each case is a story of an administrator; they build on each other.

usage: run.py PLACE PACKAGES
"""

import json
import pathlib
import re
import shutil
import signal
import sys
import time

import container

WAIT_S = 60
EXPOSURE_MAX = 13  # tenths, as systemd-analyze takes its threshold
SANDBOX = ["-p", "PrivateNetwork=yes", "-p", "RestrictAddressFamilies=AF_UNIX", "-p", "DynamicUser=yes",
           "-p", "SupplementaryGroups=overlapd", "-p", "CapabilityBoundingSet=", "-p", "NoNewPrivileges=yes"]
# For a daemon that decides by rules; one that does not takes no notice of it.
POLICY = """[allow sandboxed-connects]
Unit=sandboxed-*.service
Action=connect
Protocol=tcp
To=localhost
Port=7001

[allow sandboxed-serves]
Unit=sandboxed-*.service
Action=listen
Protocol=tcp
At=localhost
Port=7002
"""
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
EVENTS = dict(re.findall(r'#define EVENT_(\w+) "(\w+)"', (SOURCE / "daemon/monitor/events.h").read_text()))


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_for(question, text):
    """Waits until the question is answered with something that is true, and gives that."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"within {WAIT_S} s it was not so that {text}")


class Stories:
    def __init__(self, box, packages):
        self.box, self.packages = box, packages

    def show(self, *names, unit="overlapd.service"):
        said = self.box.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def is_active(self):
        return self.show("ActiveState")["ActiveState"] == "active"

    def journal(self, event):
        """The lines of an event, with their fields."""
        said = self.box.run("journalctl", "--output=json", f"MESSAGE_ID={EVENTS[event]}", check=False).stdout
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def sandbox(self, name, *arguments, wait=True):
        return self.box.run("systemd-run", "--quiet", f"--unit={name}", *(["--wait"] if wait else []), *SANDBOX,
                            "/usr/bin/python3", "/opt/test/sandboxed.py", *arguments, check=False)

    # --- the stories, in their order

    def installs(self):
        """apt-get's work, without a network: the packages and nothing else."""
        for package in self.packages:
            shutil.copy(package, self.box.path("/opt"))
        shutil.copytree(SOURCE / "tests/service/inside", self.box.path("/opt/test"))
        self.box.run("sh", "-c", "dpkg --install /opt/*.deb")
        policy = self.box.path("/etc/overlapd/policy.d/50-test.conf")
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text(POLICY)
        self.box.run("ip", "link", "set", "lo", "up")
        expect(not self.is_active(), "the service runs before any client came")
        state = self.show("ActiveState", unit="overlapd.socket")["ActiveState"]
        expect(state == "active", f"the socket is {state} after the installation")
        mode = self.box.run("stat", "--format=%a %U %G", "/run/overlapd/overlapd.sock").stdout.strip()
        expect(mode == "660 root overlapd", f"the socket has mode and owner {mode}")

    def verifies(self):
        said = self.box.run("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/overlapd.service",
                            "/lib/systemd/system/overlapd.socket").stdout
        expect(said.strip() == "", f"systemd-analyze verify says: {said}")

    def is_hardened(self):
        done = self.box.run("systemd-analyze", "security", f"--threshold={EXPOSURE_MAX}", "overlapd.service",
                            check=False)
        expect(done.returncode == 0, f"{done.stdout.splitlines()[-1]}; open are:\n"
               + "\n".join(line for line in done.stdout.splitlines() if line.startswith("✗")))

    def is_activated(self):
        """The first client starts it; data goes to the outside and comes back."""
        self.box.run("systemd-run", "--quiet", "--unit=echo", "/usr/bin/python3", "/opt/test/peer.py", "echo", "7001")
        wait_for(lambda: ":7001" in self.box.run("ss", "-ltn").stdout, "the echo server listens")
        done = self.sandbox("sandboxed-connect", "connect", "7001")
        expect(done.returncode == 0, done.stdout + self.box.run("journalctl", "-n", "40", "--no-pager").stdout)
        expect(self.is_active(), "the service is not active after its first client")
        shown = self.show("StatusText", "TriggeredBy")
        expect(shown["StatusText"].startswith("Serving at /run/overlapd/overlapd.sock: "), shown["StatusText"])
        expect("overlapd.socket" in shown["TriggeredBy"].split(), shown["TriggeredBy"])

    def serves_the_outside(self):
        self.sandbox("sandboxed-serve", "serve", "7002", wait=False)
        wait_for(lambda: ":7002" in self.box.run("ss", "-ltn").stdout, "the sandboxed server listens")
        done = self.box.run("python3", "/opt/test/peer.py", "send", "7002", check=False)
        expect(done.returncode == 0, done.stdout)

    def is_locked_down(self):
        pid = self.show("MainPID")["MainPID"]
        status = self.box.run("cat", f"/proc/{pid}/status").stdout
        for line in ("CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            expect(line in status, f"the monitor has not '{line}'")
        expect(re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)[1] != "0", "the monitor runs as root")

    def writes_a_journal(self):
        connected = self.journal("CONNECTED")
        expect(connected, "no connect is in the journal")
        line = connected[-1]
        for name, value in {"REMOTE": "127.0.0.1:7001", "PROTOCOL": "tcp", "PRIORITY": "5",
                            "CLIENT_UNIT": "sandboxed-connect.service"}.items():
            expect(line.get(name) == value, f"{name} is {line.get(name)} instead of {value} in {line.get('MESSAGE')}")
        expect(self.journal("LISTENING")[-1]["LOCAL"] == "127.0.0.1:7002", "no listening is in the journal")
        ended = wait_for(lambda: self.journal("SESSION_ENDED"), "the end of a session is in the journal")[0]
        expect(int(ended["BYTES_SENT"]) == int(ended["BYTES_RECEIVED"]) == 4 << 20, f"the totals are {ended}")

    def explains(self):
        said = self.box.run("journalctl", "--catalog", "--no-pager", f"MESSAGE_ID={EVENTS['START']}").stdout
        expect("Subject: overlapd serves" in said, f"journalctl -x explains nothing: {said[-600:]}")
        known = self.box.run("journalctl", "--list-catalog").stdout
        missing = [name for name, number in EVENTS.items() if number not in known]
        expect(not missing, f"the catalog of the machine lacks {missing}")

    def reloads(self):
        pid = self.show("MainPID")["MainPID"]
        self.box.run("systemctl", "reload", "overlapd.service")
        wait_for(lambda: self.journal("RELOADED"), "the reload is in the journal")
        self.box.path("/etc/overlapd").mkdir(exist_ok=True)
        config = self.box.path("/etc/overlapd/overlapd.conf")
        config.write_text("[Daemon]\nWorkers=many\n")
        done = self.box.run("systemctl", "reload", "overlapd.service", check=False)
        expect(done.returncode != 0, "a bad reload is reported as a good one")
        # Past the check of the unit, too: the daemon keeps what it has.
        self.box.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "overlapd.service")
        line = wait_for(lambda: self.journal("RELOAD_REFUSED"), "the bad reload is in the journal")[-1]
        expect("/etc/overlapd/overlapd.conf:2: Workers=many: must be" in line["MESSAGE"], line["MESSAGE"])
        wait_for(lambda: "could not be reloaded" in self.show("StatusText")["StatusText"], "the status says so")
        config.unlink()
        dropin = self.box.path("/etc/overlapd/overlapd.conf.d/50-test.conf")
        dropin.write_text("[Daemon]\nSpeed=9\n")
        done = self.box.run("overlapd", "--check-config", check=False)
        expect(done.returncode == 1 and "50-test.conf:2: Speed=9: unknown key" in done.stdout, done.stdout)
        dropin.write_text("[Daemon]\nPollMicroseconds=20\n")
        self.box.run("systemctl", "reload", "overlapd.service")
        dropin.unlink()
        wait_for(lambda: "reloaded" not in self.show("StatusText")["StatusText"], "the status is good again")
        expect(self.is_active() and self.show("MainPID")["MainPID"] == pid, "a reload restarted the service")

    def watches(self):
        """A monitor that is stopped is the watchdog's; systemd starts the service anew, and the socket stays."""
        before = self.show("MainPID")["MainPID"]
        inode = self.box.run("stat", "--format=%i", "/run/overlapd/overlapd.sock").stdout
        self.box.run("systemctl", "kill", "--kill-whom=main", f"--signal={signal.SIGSTOP.name}", "overlapd.service")
        wait_for(lambda: self.is_active() and self.show("MainPID")["MainPID"] not in (before, "0"),
                 "the watchdog started the service anew")
        expect(int(self.show("NRestarts")["NRestarts"]) >= 1, "systemd counts no restart")
        expect(inode == self.box.run("stat", "--format=%i", "/run/overlapd/overlapd.sock").stdout, "the socket went")
        done = self.sandbox("sandboxed-again", "connect", "7001")
        expect(done.returncode == 0, f"a client is not served after the restart: {done.stdout}")

    def replaces_workers(self):
        """A worker that is stopped is the monitor's: the service goes on."""
        main = self.show("MainPID")["MainPID"]
        workers = self.box.run("pgrep", "--parent", main, "overlapd-worker").stdout.split()
        self.box.run("kill", "-STOP", workers[0])
        wait_for(lambda: self.box.run("pgrep", "--parent", main, "overlapd-worker", check=False).stdout.split()
                 not in ([], workers), "the worker was replaced")
        expect(self.show("MainPID")["MainPID"] == main, "the service was started anew")
        done = self.sandbox("sandboxed-third", "connect", "7001")
        expect(done.returncode == 0, f"a client is not served by the new worker: {done.stdout}")

    def uninstalls(self):
        names = [package.name.split("_")[0] for package in self.packages]
        shutil.rmtree(self.box.path("/etc/overlapd/policy.d"))
        self.box.run("dpkg", "--purge", *names)
        wait_for(lambda: not self.box.run("pgrep", "overlapd", check=False).stdout, "no process is left")
        left = self.box.run("find", "/etc", "/usr", "/lib/systemd", "/run/overlapd", "/var/lib/systemd", "-name",
                            "*overlap*", "-not", "-path", "*/dpkg/*", check=False).stdout
        left = [line for line in left.splitlines() if not line.endswith("No such file or directory")]
        expect(not left, f"these files are left: {left}")


STORIES = [
    ("the packages are installed, and the socket waits", Stories.installs),
    ("systemd-analyze verify is silent", Stories.verifies),
    (f"the exposure is at most {EXPOSURE_MAX / 10}", Stories.is_hardened),
    ("the first client, in a sandbox, starts the service and transfers data", Stories.is_activated),
    ("a sandboxed server serves the outside", Stories.serves_the_outside),
    ("it has no privileges", Stories.is_locked_down),
    ("the journal has who, where and how much", Stories.writes_a_journal),
    ("the catalog explains", Stories.explains),
    ("reloads are taken or refused", Stories.reloads),
    ("the watchdog restarts a daemon that is stopped", Stories.watches),
    ("the monitor replaces a worker that is stopped", Stories.replaces_workers),
    ("nothing is left after uninstalling", Stories.uninstalls),
]


def main():
    place, packages = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    chosen = sorted(path for path in packages.glob("*.deb") if "-dbgsym" not in path.name)
    n_failed = 0
    with container.Container(place / "root", place / "running") as box:
        stories = Stories(box, chosen)
        for name, story in STORIES:
            try:
                story(stories)
                print(f"ok   {name}", flush=True)
            except (AssertionError, RuntimeError, KeyError, IndexError, OSError) as error:
                n_failed += 1
                print(f"FAIL {name}: {error}", flush=True)
    print(f"{len(STORIES) - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
