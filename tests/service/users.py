# SPDX-License-Identifier: Apache-2.0
"""A user's own daemon: no root, no group, the unit of the user's manager."""

from frame import EVENTS, OUTSIDE, expect, wait_for


def has_a_daemon(machine):
    """As the README has it; the user's rules are the user's own rights, and nobody else's."""
    machine.box.run("useradd", "--create-home", "person")
    machine.box.run("loginctl", "enable-linger", "person")
    number = machine.box.run("id", "--user", "person").stdout.strip()
    wait_for(lambda: machine.is_active(f"user@{number}.service"), "the user's manager runs")
    place = f"/run/user/{number}"
    path = f"{place}/overlapd/overlapd.sock"

    def as_person(*command):
        return machine.box.run("runuser", "-u", "person", "--", "env", f"XDG_RUNTIME_DIR={place}",
                               f"OVERLAPD_SOCKET={path}", *command, check=False)

    done = as_person("systemctl", "--user", "enable", "--now", "overlapd.socket")
    expect(done.returncode == 0, done.stdout)
    mode = machine.box.run("stat", "--format=%a %U", path).stdout.strip()
    expect(mode == "600 person", f"the socket has mode and owner {mode}")
    done = as_person("overlap-nc", "-v", "-z", OUTSIDE, "22")
    expect(done.returncode == 0, f"the user's daemon does not connect: {done.stdout}")
    expect("serving" in as_person("overlapctl", "status").stdout, "the user's daemon does not tell what it does")
    said = as_person("systemctl", "--user", "show", "overlapd.service", "--property=StatusText,ActiveState").stdout
    expect("ActiveState=active" in said and f"StatusText=Serving at {path}" in said, said)
    said = machine.box.run("journalctl", f"_UID={number}", f"MESSAGE_ID={EVENTS['CONNECTED']}", "--output=cat").stdout
    expect(f"connected to {OUTSIDE}:22" in said, f"the journal has: {said}")
    done = as_person("systemctl", "--user", "reload", "overlapd.service")
    expect(done.returncode == 0, done.stdout + machine.box.run("journalctl", f"_UID={number}", "-n", "20").stdout)
    stranger = machine.box.run("runuser", "-u", "app", "--", "overlap-nc", "--socket", path, "-z", OUTSIDE, "22", check=False)
    expect(stranger.returncode == 3, f"another user ended with {stranger.returncode}: {stranger.stdout}")
    done = as_person("systemctl", "--user", "disable", "--now", "overlapd.socket", "overlapd.service")
    expect(done.returncode == 0, done.stdout)
    wait_for(lambda: machine.box.run("pgrep", "-u", "person", "overlapd", check=False).stdout == "", "the daemon ended")
    machine.box.run("loginctl", "disable-linger", "person")


def has_one_as_root(machine):
    """Root's own instance: its workers give up what root could do."""
    machine.box.run("loginctl", "enable-linger", "root")
    wait_for(lambda: machine.is_active("user@0.service"), "root's manager runs")
    path = "/run/user/0/overlapd/overlapd.sock"

    def as_root(*command):
        return machine.box.run("env", "XDG_RUNTIME_DIR=/run/user/0", f"OVERLAPD_SOCKET={path}", *command, check=False)

    done = as_root("systemctl", "--user", "start", "overlapd.socket")
    expect(done.returncode == 0, done.stdout)
    done = as_root("overlap-nc", "-v", "-z", OUTSIDE, "22")
    expect(done.returncode == 0, f"root's own daemon does not connect: {done.stdout}")
    worker = machine.box.run("pgrep", "-n", "-f", "^overlapd --worker").stdout.strip()
    status = machine.box.run("cat", f"/proc/{worker}/status").stdout
    expect("CapEff:\t0000000000000000" in status, f"its worker has capabilities: {status}")
    done = as_root("systemctl", "--user", "stop", "overlapd.socket", "overlapd-admin.socket", "overlapd.service")
    expect(done.returncode == 0, done.stdout)
    machine.box.run("loginctl", "disable-linger", "root")
