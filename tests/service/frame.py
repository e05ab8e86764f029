# SPDX-License-Identifier: Apache-2.0
"""What the stories share: the booted machine, what it says of itself, and the world outside of it."""

import json
import pathlib
import re
import time

WAIT_S = 60
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
EVENTS = dict(re.findall(r'#define EVENT_(\w+) "(\w+)"', (SOURCE / "daemon/monitor/events.h").read_text()))
# No network, no capabilities, no sockets but Unix ones.
SANDBOX = ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "SupplementaryGroups=overlapd",
           "CapabilityBoundingSet=", "NoNewPrivileges=yes"]
# The other end of the wire: a network namespace that is joined to the machine's own.
OUTSIDE, INSIDE, OUTSIDE_NAME = "10.77.0.2", "10.77.0.1", "outside.test"


class Skipped(Exception):
    """A story that cannot be told here; says why."""


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


def properties(*settings):
    return [argument for setting in settings for argument in ("-p", setting)]


class Machine:
    """The booted container, and the packages that are tested in it."""

    def __init__(self, box, packages, keeps_packages):
        self.box, self.packages, self.keeps_packages = box, packages, keeps_packages

    def show(self, *names, unit="overlapd.service"):
        said = self.box.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def is_active(self, unit="overlapd.service"):
        return self.show("ActiveState", unit=unit)["ActiveState"] == "active"

    def journal(self, event, *matches):
        """The lines of an event, with their fields."""
        said = self.box.run("journalctl", "--output=json", f"MESSAGE_ID={EVENTS[event]}", *matches, check=False).stdout
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def lines_of(self, unit):
        return self.box.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", check=False).stdout

    def listens(self, port, *prefix):
        return f":{port} " in self.box.run(*prefix, "ss", "-ltn").stdout

    def unit(self, name, *command, settings=(), wait=True):
        """Runs a command in a unit of its own. Returns what it wrote, if it is waited for."""
        return self.box.run("systemd-run", "--quiet", "--collect", f"--unit={name}",
                            *(["--wait", "--pipe"] if wait else []), *properties(*settings), *command, check=False)

    def sandbox(self, name, *command, settings=(), user="DynamicUser=yes", wait=True):
        """The same in a unit that has no network."""
        return self.unit(name, *command, settings=(*SANDBOX, user, *settings), wait=wait)

    def python(self, name, *arguments, wait=True):
        """A program of the package overlap, in a sandbox."""
        return self.sandbox(name, "/usr/bin/python3", "/opt/test/sandboxed.py", *arguments, wait=wait)

    def make_outside(self):
        """Joins another network namespace to the machine's by a wire."""
        for command in (f"ip netns add outside; ip link add inner type veth peer name outer netns outside;"
                        f"ip addr add {INSIDE}/24 dev inner; ip link set inner up; ip link set lo up;"
                        f"ip -n outside addr add {OUTSIDE}/24 dev outer; ip -n outside link set outer up;"
                        f"ip -n outside link set lo up").split(";"):
            self.box.run(*command.split())
        hosts = self.box.path("/etc/hosts")
        hosts.write_text(f"127.0.0.1 localhost\n{OUTSIDE} {OUTSIDE_NAME}\n")

    def outside(self, name, *command, settings=(), wait=False):
        """Runs a command in the world outside; a server unless it is waited for."""
        return self.unit(name, *command, settings=("NetworkNamespacePath=/run/netns/outside", *settings), wait=wait)

    def listens_outside(self, port):
        return self.listens(port, "ip", "netns", "exec", "outside")

    def set_policy(self, name, text):
        """Writes a file of rules, and has it taken. Returns what systemctl said of that."""
        path = self.box.path(f"/etc/overlapd/policy.d/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self.reload()

    def reload(self):
        """Returns what systemctl said, once a reload that it calls good is in the journal."""
        before = len(self.journal("RELOADED"))
        done = self.box.run("systemctl", "reload", "overlapd.service", check=False)
        if done.returncode == 0:
            wait_for(lambda: len(self.journal("RELOADED")) > before, "the reload is in the journal")
        return done
