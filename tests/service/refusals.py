# SPDX-License-Identifier: Apache-2.0
"""What the policy does not allow: who hears of it, and when rules change."""

from frame import EVENTS, OUTSIDE, OUTSIDE_NAME, expect, wait_for

RULES = "/etc/overlapd/policy.d/50-test.conf"
QUOTA = """[Unit sandboxed-few.service]
Sockets=3
"""
RULE_FOR_OTHER = """[allow sandboxed-other]
Unit=sandboxed-other.service
Action=connect
To={OUTSIDE}
Port=22
"""
RULE_AGAINST_ALL = """[deny all]
User=*
Action=connect
"""


def line_of(machine, rule):
    """Where a rule stands, as the daemon says it."""
    lines = machine.box.path(RULES).read_text().splitlines()
    return f"{RULES}:{lines.index(rule) + 1}: {rule}"


def probe(machine, unit, port, host=OUTSIDE):
    """Connects, transfers nothing, and ends."""
    return machine.sandbox(unit, "overlap-nc", "-z", host, str(port))


def is_told(machine):
    """The client's error, the journal and its explanation have the rule, or that there is none."""
    for port, reason in ((23, line_of(machine, "[deny sandboxed-telnet]")),
                         (24, "no rule allows it")):
        done = probe(machine, "sandboxed-refused", port)
        expect(done.returncode == 1, f"overlap-nc ended with {done.returncode}: {done.stdout}")
        expect(reason in done.stdout, f"the client is not told '{reason}' but: {done.stdout}")
        line = machine.journal("REQUEST_REFUSED", "CLIENT_UNIT=sandboxed-refused.service", f"REMOTE={OUTSIDE}:{port}")[-1]
        expect(reason in line["MESSAGE"], f"the journal does not say '{reason}' but: {line['MESSAGE']}")
        expect(line["RULE"] == reason, f"the field RULE is: {line['RULE']}")
        expect(line["PRIORITY"] == "5", f"the refusal has priority {line['PRIORITY']}")
    said = machine.box.run("journalctl", "--catalog", "--no-pager", f"MESSAGE_ID={EVENTS['REQUEST_REFUSED']}").stdout
    expect("overlapd refused a request" in said and "CLIENT_UID=" in said, f"journalctl -x does not explain: {said}")


def covers_one_unit(machine):
    """What is allowed to one unit is not to another, nor to a user outside of all units."""
    allowed = probe(machine, "sandboxed-ssh", 22, OUTSIDE_NAME)
    expect(allowed.returncode == 0, f"the unit of the rule is refused: {allowed.stdout}")
    for unit, host in (("sandboxed-other", OUTSIDE), ("other-ssh", OUTSIDE), ("sandboxed-other", OUTSIDE_NAME)):
        done = probe(machine, unit, 22, host)
        expect(done.returncode == 1 and "no rule allows it" in done.stdout,
               f"{unit} at {host} ended with {done.returncode}: {done.stdout}")
    stranger = machine.sandbox("sandboxed-ssh", "overlap-nc", "-z", OUTSIDE, "22", settings=["SupplementaryGroups="])
    expect(stranger.returncode == 3 and "no permission to use" in stranger.stdout,
           f"who is not in the group ended with {stranger.returncode}: {stranger.stdout}")


def has_quotas(machine):
    """A unit has what the settings give it, live, and others what they had; who wants more is told, and so is the journal."""
    dropin = machine.box.path("/etc/overlapd/overlapd.conf.d/50-few.conf")
    dropin.write_text(QUOTA)
    expect(machine.reload().returncode == 0, "the reload of a quota fails")
    done = machine.python("sandboxed-few", "several", OUTSIDE, "7001")
    expect("connections: 3\n" in done.stdout and "QUOTA" in done.stdout, f"with a quota of 3 sockets: {done.stdout}")
    line = machine.journal("QUOTA_REACHED", "CLIENT_UNIT=sandboxed-few.service")[-1]
    expect("Sockets" in line["MESSAGE"], f"the journal says: {line['MESSAGE']}")
    done = machine.python("sandboxed-many", "several", OUTSIDE, "7001")
    expect("connections: 10\n" in done.stdout, f"another unit: {done.stdout}")
    dropin.unlink()
    expect(machine.reload().returncode == 0, "the reload without the quota fails")
    done = machine.python("sandboxed-few", "several", OUTSIDE, "7001")
    expect("connections: 10\n" in done.stdout, f"without the quota: {done.stdout}")


def changes_while_it_runs(machine):
    """New rules hold for what is asked for from then on, and connections that are there stay."""
    machine.python("sandboxed-held", "hold", OUTSIDE, "7001", wait=False)
    wait_for(lambda: "connected" in machine.lines_of("sandboxed-held"), "a client is connected")
    expect(probe(machine, "sandboxed-other", 22).returncode == 1, "it is allowed before there is a rule")
    expect(machine.set_policy("60-more.conf", RULE_FOR_OTHER.format(OUTSIDE=OUTSIDE)).returncode == 0, "no reload")
    done = probe(machine, "sandboxed-other", 22)
    expect(done.returncode == 0, f"what the new rule allows is refused: {done.stdout}")
    expect(machine.set_policy("10-first.conf", RULE_AGAINST_ALL).returncode == 0, "no second reload")
    done = probe(machine, "sandboxed-other", 22)
    expect("/etc/overlapd/policy.d/10-first.conf:1: [deny all]" in done.stdout, f"the file before is not first: {done.stdout}")
    machine.box.run("systemctl", "kill", "--signal=USR1", "sandboxed-held.service")
    wait_for(lambda: "echoed" in machine.lines_of("sandboxed-held"), "a connection outlives its rule")
    machine.box.run("systemctl", "stop", "sandboxed-held.service")
    machine.box.path("/etc/overlapd/policy.d/10-first.conf").unlink()
    expect(machine.reload().returncode == 0, "no third reload")
    expect(probe(machine, "sandboxed-other", 22).returncode == 0, "the file that went still holds")


def keeps_what_is_valid(machine):
    """A mistake is said with its file and line, to whoever reloads and in the journal, and all rules stay."""
    mistake = "/etc/overlapd/policy.d/70-mistake.conf:5: Port=99999"
    before = machine.show("MainPID")["MainPID"]
    n_before = len(machine.journal("RELOAD_REFUSED"))
    done = machine.set_policy("70-mistake.conf", RULE_FOR_OTHER.format(OUTSIDE=OUTSIDE)
                              .replace("sandboxed-other", "sandboxed-mistake").replace("22", "99999"))
    expect(done.returncode != 0, "the reload of a mistake is called good")
    said = machine.box.run("overlapd", "--check-config", check=False)
    expect(said.returncode == 1 and mistake in said.stdout, f"--check-config says: {said.stdout}")
    machine.box.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "overlapd.service")
    line = wait_for(lambda: machine.journal("RELOAD_REFUSED")[n_before:], "the mistake is in the journal")[0]
    expect(mistake in line["MESSAGE"] and "?" not in line["MESSAGE"], f"the journal says: {line['MESSAGE']}")
    expect(probe(machine, "sandboxed-other", 22).returncode == 0, "the rules from before do not hold")
    expect(probe(machine, "sandboxed-mistake", 22).returncode == 1, "a rule of the file with the mistake holds")
    expect(machine.show("MainPID")["MainPID"] == before, "the service was started anew")
    for name in ("60-more.conf", "70-mistake.conf"):
        machine.box.path(f"/etc/overlapd/policy.d/{name}").unlink()
    expect(machine.reload().returncode == 0, "the mended rules are refused")
    wait_for(lambda: "could not" not in machine.show("StatusText")["StatusText"], "the status is good again")
