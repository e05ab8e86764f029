# SPDX-License-Identifier: Apache-2.0
"""What overlapctl says in a booted machine, and to whom."""

import json

from frame import OUTSIDE, OUTSIDE_NAME, expect, wait_for

RULES = "/etc/overlapd/policy.d/50-test.conf"
UNIT = "sandboxed-shown.service"


def ctl(machine, *arguments, status=0, user=None):
    prefix = ["runuser", "-u", user, "--"] if user else []
    done = machine.box.run(*prefix, "overlapctl", *arguments, check=False)
    expect(done.returncode == status, f"overlapctl {' '.join(arguments)} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def ask(machine, *arguments):
    return json.loads(ctl(machine, "--json", *arguments))


def ours(rows):
    return [row for row in rows if row.get("unit") == UNIT]


def see_who_is_there(machine):
    """A connection of a unit is in each list, with whose it is; the totals and metrics are of the same daemon."""
    machine.python(UNIT, "hold", OUTSIDE, "7001", wait=False)
    wait_for(lambda: "connected" in machine.lines_of(UNIT), "a client is connected")
    status = ask(machine, "status")
    expect(status["state"] == "serving" and str(status["pid"]) == machine.show("MainPID")["MainPID"], f"status: {status}")
    expect(len(ours(ask(machine, "list", "sessions")["sessions"])) == 1, "list sessions has not one session of the unit")
    sockets = ours(ask(machine, "list", "sockets")["sockets"])
    expect([row["remote"] for row in sockets] == [f"{OUTSIDE}:7001"], f"list sockets: {sockets}")
    expect(ours(ask(machine, "list", "ops")["ops"]), "list ops has no receive of the unit")
    expect(UNIT in ctl(machine, "list", "sockets"), "the table has not the unit")
    metrics = ctl(machine, "metrics")
    expect(metrics.endswith("# EOF\n") and "overlapd_sessions" in metrics, f"metrics: {metrics[-500:]}")
    expect(UNIT in ctl(machine, "log", "--unit", UNIT), "log does not name the unit")
    machine.box.run("systemctl", "stop", UNIT)
    wait_for(lambda: not ours(ask(machine, "list", "sockets")["sockets"]), "the socket went with its unit")
    expect("LimitNOFILE" not in ctl(machine, "config", "cat") and "Engine=" in ctl(machine, "config", "cat"), "config cat")


def see_what_is_allowed(machine):
    """The same rule, with its line, that decides when a client of that unit connects."""
    lines = machine.box.path(RULES).read_text().splitlines()
    for unit, target, status, rule in (("sandboxed-ssh", f"{OUTSIDE_NAME}:22", 0, "[allow sandboxed-ssh]"),
                                       ("sandboxed-x", f"{OUTSIDE}:23", 1, "[deny sandboxed-telnet]"),
                                       ("other", f"{OUTSIDE}:22", 1, None)):
        said = ctl(machine, "policy", "test", "--unit", f"{unit}.service", "connect", "tcp", target, status=status)
        reason = f"{RULES}:{lines.index(rule) + 1}: {rule}" if rule else "no rule allows it"
        expect(reason in said, f"policy test of {unit} does not say '{reason}' but: {said}")


def are_few(machine):
    """Root and a group; who is not one of them is told what to do, and that works."""
    mode = machine.box.run("stat", "--format=%a %U %G", "/run/overlapd/admin.sock").stdout.strip()
    expect(mode == "660 root overlapd-admin", f"the administrators' socket has mode and owner {mode}")
    said = ctl(machine, "status", status=3, user="app")
    expect("usermod -aG overlapd-admin" in said, f"who may not ask is told: {said}")
    machine.box.run("usermod", "-aG", "overlapd-admin", "app")
    expect("serving" in ctl(machine, "status", user="app"), "a member of the group is not answered")
    machine.box.run("gpasswd", "--delete", "app", "overlapd-admin")


def are_helped(machine):
    """The doctor finds no problem in a fresh machine; for a user who may not connect he has the command that helps."""
    said = ctl(machine, "doctor")
    expect("0 problems" in said, said)
    said = ctl(machine, "doctor", status=1, user="app")
    expect("usermod -aG overlapd app" in said, said)
