# SPDX-License-Identifier: Apache-2.0
"""The service itself: how it is installed, started, watched, reloaded and removed."""

import re
import shutil
import signal

from frame import EVENTS, INSIDE, OUTSIDE, OUTSIDE_NAME, SOURCE, expect, wait_for

# Only units of this name may do anything; each rule is what one of the stories needs.
POLICY = """[allow sandboxed-connects]
Unit=sandboxed-*.service
Action=connect
Protocol=tcp
To={OUTSIDE}
Port=7001

[allow sandboxed-serves]
Unit=sandboxed-*.service
Action=listen
Protocol=tcp
At={INSIDE}
Port=7002

[allow sandboxed-ssh]
Unit=sandboxed-ssh.service
Action=connect
Protocol=tcp
To={OUTSIDE_NAME}
Port=22

[allow sandboxed-database]
Unit=sandboxed-database.service
Action=connect
Protocol=tcp
To={OUTSIDE_NAME}
Port=5432

[deny sandboxed-telnet]
Unit=sandboxed-*.service
Action=connect
Port=23
"""
EXPOSURE_MAX = 13  # tenths, as systemd-analyze takes its threshold


def socket_inode(machine):
    return machine.box.run("stat", "--format=%i", "/run/overlapd/overlapd.sock").stdout


def installs(machine):
    """As the README has it, without a network: what the packages need is there."""
    for package in machine.packages:
        shutil.copy(package, machine.box.path("/opt"))
    shutil.copytree(SOURCE / "tests/service/inside", machine.box.path("/opt/test"))
    wanted = re.search(r"^    apt (install .*)$", (SOURCE / "README.md").read_text(), re.MULTILINE)[1]
    machine.box.run("sh", "-c", f"cd /opt && apt-get -q --yes {wanted}")
    machine.box.run("sh", "-c", "dpkg --install /opt/liboverlap-dev_*.deb")
    policy = machine.box.path("/etc/overlapd/policy.d/50-test.conf")
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(POLICY.format(INSIDE=INSIDE, OUTSIDE=OUTSIDE, OUTSIDE_NAME=OUTSIDE_NAME))
    machine.make_outside()
    expect(not machine.is_active(), "the service runs before any client came")
    state = machine.show("ActiveState", unit="overlapd.socket")["ActiveState"]
    expect(state == "active", f"the socket is {state} after the installation")
    mode = machine.box.run("stat", "--format=%a %U %G", "/run/overlapd/overlapd.sock").stdout.strip()
    expect(mode == "660 root overlapd", f"the socket has mode and owner {mode}")


def verifies(machine):
    said = machine.box.run("systemd-analyze", "verify", "--man=no", "/lib/systemd/system/overlapd.service",
                            "/lib/systemd/system/overlapd.socket",
                            "/lib/systemd/system/overlapd-admin.socket").stdout
    expect(said.strip() == "", f"systemd-analyze verify says: {said}")


def is_hardened(machine):
    done = machine.box.run("systemd-analyze", "security", f"--threshold={EXPOSURE_MAX}", "overlapd.service",
                           check=False)
    expect(done.returncode == 0, f"{done.stdout.splitlines()[-1]}; open are:\n"
           + "\n".join(line for line in done.stdout.splitlines() if line.startswith("✗")))


def is_activated(machine):
    """The first client starts it; data goes to the outside and comes back."""
    machine.outside("outside-echo", "/usr/bin/python3", "/opt/test/peer.py", "echo", OUTSIDE, "7001")
    wait_for(lambda: machine.listens_outside(7001), "the echo server listens")
    done = machine.python("sandboxed-connect", "connect", OUTSIDE, "7001")
    expect(done.returncode == 0, done.stdout + machine.box.run("journalctl", "-n", "40", "--no-pager").stdout)
    expect(re.search("^sum [0-9a-f]{64}$", done.stdout, re.MULTILINE), f"the client said only: {done.stdout}")
    expect(machine.is_active(), "the service is not active after its first client")
    shown = machine.show("StatusText", "TriggeredBy")
    expect(shown["StatusText"].startswith("Serving at /run/overlapd/overlapd.sock: "), shown["StatusText"])
    expect(set(shown["TriggeredBy"].split()) == {"overlapd.socket", "overlapd-admin.socket"}, shown["TriggeredBy"])


def is_locked_down(machine):
    pid = machine.show("MainPID")["MainPID"]
    status = machine.box.run("cat", f"/proc/{pid}/status").stdout
    for line in ("CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        expect(line in status, f"the monitor has not '{line}'")
    expect(re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)[1] != "0", "the monitor runs as root")


def writes_a_journal(machine):
    connected = machine.journal("CONNECTED")
    expect(connected, "no connect is in the journal")
    line = connected[-1]
    for name, value in {"REMOTE": f"{OUTSIDE}:7001", "PROTOCOL": "tcp", "PRIORITY": "5",
                        "CLIENT_UNIT": "sandboxed-connect.service"}.items():
        expect(line.get(name) == value, f"{name} is {line.get(name)} instead of {value} in {line.get('MESSAGE')}")
    expect("sandboxed-connect.service)" in line["MESSAGE"], f"who just reads is not told who it was: {line['MESSAGE']}")
    expect(machine.journal("LISTENING")[-1]["LOCAL"] == f"{INSIDE}:7002", "no listening is in the journal")
    ended = wait_for(lambda: machine.journal("SESSION_ENDED"), "the end of a session is in the journal")[0]
    expect(int(ended["BYTES_SENT"]) == int(ended["BYTES_RECEIVED"]) == 4 << 20, f"the totals are {ended}")


def explains(machine):
    said = machine.box.run("journalctl", "--catalog", "--no-pager", f"MESSAGE_ID={EVENTS['START']}").stdout
    expect("Subject: overlapd serves" in said, f"journalctl -x explains nothing: {said[-600:]}")
    known = machine.box.run("journalctl", "--list-catalog").stdout
    missing = [name for name, number in EVENTS.items() if number not in known]
    expect(not missing, f"the catalog of the machine lacks {missing}")


def reloads(machine):
    pid = machine.show("MainPID")["MainPID"]
    machine.box.run("systemctl", "reload", "overlapd.service")
    wait_for(lambda: machine.journal("RELOADED"), "the reload is in the journal")
    machine.box.path("/etc/overlapd").mkdir(exist_ok=True)
    config = machine.box.path("/etc/overlapd/overlapd.conf")
    config.write_text("[Daemon]\nWorkers=many\n")
    n_refused = len(machine.journal("RELOAD_REFUSED"))
    done = machine.box.run("systemctl", "reload", "overlapd.service", check=False)
    expect(done.returncode != 0, "a bad reload is reported as a good one")
    # Past the check of the unit, too: the daemon keeps what it has.
    machine.box.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "overlapd.service")
    line = wait_for(lambda: machine.journal("RELOAD_REFUSED")[n_refused:], "the bad reload is in the journal")[0]
    expect("/etc/overlapd/overlapd.conf:2: Workers=many: must be" in line["MESSAGE"], line["MESSAGE"])
    wait_for(lambda: "could not be reloaded" in machine.show("StatusText")["StatusText"], "the status says so")
    config.unlink()
    dropin = machine.box.path("/etc/overlapd/overlapd.conf.d/50-test.conf")
    dropin.write_text("[Daemon]\nSpeed=9\n")
    done = machine.box.run("overlapd", "--check-config", check=False)
    expect(done.returncode == 1 and "50-test.conf:2: Speed=9: unknown key" in done.stdout, done.stdout)
    dropin.write_text("[Daemon]\nPollMicroseconds=20\n")
    machine.box.run("systemctl", "reload", "overlapd.service")
    dropin.unlink()
    wait_for(lambda: "reloaded" not in machine.show("StatusText")["StatusText"], "the status is good again")
    expect(machine.is_active() and machine.show("MainPID")["MainPID"] == pid, "a reload restarted the service")


def watches(machine):
    """A monitor that is stopped is the watchdog's; systemd starts the service anew, and the socket stays."""
    before = machine.show("MainPID")["MainPID"]
    inode = socket_inode(machine)
    machine.box.run("systemctl", "kill", "--kill-whom=main", f"--signal={signal.SIGSTOP.name}", "overlapd.service")
    wait_for(lambda: machine.is_active() and machine.show("MainPID")["MainPID"] not in (before, "0"),
             "the watchdog started the service anew")
    expect(int(machine.show("NRestarts")["NRestarts"]) >= 1, "systemd counts no restart")
    expect(inode == socket_inode(machine), "the socket went")
    done = machine.python("sandboxed-again", "connect", OUTSIDE, "7001")
    expect(done.returncode == 0, f"a client is not served after the restart: {done.stdout}")


def replaces_workers(machine):
    """A worker that is stopped is the monitor's: the service goes on."""
    main = machine.show("MainPID")["MainPID"]
    workers = machine.box.run("pgrep", "--parent", main, "overlapd-worker").stdout.split()
    machine.box.run("kill", "-STOP", workers[0])
    wait_for(lambda: machine.box.run("pgrep", "--parent", main, "overlapd-worker", check=False).stdout.split()
             not in ([], workers), "the worker was replaced")
    expect(machine.show("MainPID")["MainPID"] == main, "the service was started anew")
    done = machine.python("sandboxed-third", "connect", OUTSIDE, "7001")
    expect(done.returncode == 0, f"a client is not served by the new worker: {done.stdout}")


def runs_without_io_uring(machine):
    """Asked for epoll it has epoll; where a filter refuses io_uring it has epoll, too, and says why."""
    settings = machine.box.path("/etc/overlapd/overlapd.conf.d/50-engine.conf")
    unit = machine.box.path("/etc/systemd/system/overlapd.service.d/50-engine.conf")
    unit.parent.mkdir(exist_ok=True)
    for path, text, said in (
            (settings, "[Daemon]\nEngine=epoll\n", "epoll (it was asked for)"),
            (unit, "[Service]\nSystemCallFilter=~io_uring_setup\n", "epoll (io_uring is refused: ")):
        path.write_text(text)
        machine.box.run("systemctl", "daemon-reload")
        machine.box.run("systemctl", "restart", "overlapd.service")
        for number in range(2):
            done = machine.python(f"sandboxed-epoll-{number}", "connect", OUTSIDE, "7001")
            expect(done.returncode == 0, f"with {text} a client is not served: {done.stdout}")
        status = machine.show("StatusText")["StatusText"]
        expect(f"engine {said}" in status, f"with {text} the status is: {status}")
        path.unlink()
    machine.box.run("systemctl", "daemon-reload")
    machine.box.run("systemctl", "restart", "overlapd.service")
    status = machine.show("StatusText")["StatusText"]
    expect("engine uring" in status, f"the status is afterwards: {status}")


def upgrades(machine):
    """The files of the administrator stay, the service runs anew, and who comes meanwhile waits in the socket's queue."""
    inode, pid = socket_inode(machine), machine.show("MainPID")["MainPID"]
    kept = machine.box.path("/etc/overlapd/policy.d/50-test.conf").read_text()
    done = machine.box.run("sh", "-c", "dpkg --install /opt/overlapd_*.deb /opt/overlapd-tools_*.deb")
    expect("rror" not in done.stdout, done.stdout)
    expect(machine.is_active() and machine.show("MainPID")["MainPID"] != pid, "the service was not started anew")
    expect(socket_inode(machine) == inode, "the socket was made anew: who came meanwhile was refused")
    expect(machine.is_active("overlapd.socket") and machine.is_active("overlapd-admin.socket"), "a socket is not active")
    expect(machine.box.path("/etc/overlapd/policy.d/50-test.conf").read_text() == kept, "the rules were changed")
    done = machine.python("sandboxed-upgraded", "connect", OUTSIDE, "7001")
    expect(done.returncode == 0, f"a client is not served after the upgrade: {done.stdout}")


def boots(machine):
    """After a boot the sockets wait, and the first client starts the service."""
    machine.box.reboot()
    expect(machine.is_active("overlapd.socket") and machine.is_active("overlapd-admin.socket"), "a socket is not active")
    expect(not machine.is_active(), "the service runs before any client came")
    done = machine.sandbox("sandboxed-first", "overlap-nc", "-z", OUTSIDE, "23")
    expect("[deny sandboxed-telnet]" in done.stdout, f"the first client after a boot is told: {done.stdout}")
    expect(machine.is_active(), "the service is not active after its first client")


def uninstalls(machine):
    names = [package.name.split("_")[0] for package in machine.packages]
    shutil.rmtree(machine.box.path("/etc/overlapd/policy.d"))
    machine.box.run("dpkg", "--purge", *names)
    wait_for(lambda: not machine.box.run("pgrep", "overlapd", check=False).stdout, "no process is left")
    left = machine.box.run("find", "/", "-xdev", "(", "-path", "/opt", "-o", "-path", "/proc", "-o", "-path", "/var/log", ")",
                           "-prune", "-o", "(", "-name", "*overlap*", "-o", "-user", "overlapd", "-o", "-group", "overlapd",
                           ")", "-print", check=False).stdout.splitlines()
    left += machine.box.run("find", "/run", "-name", "*overlap*").stdout.splitlines()
    # systemd keeps the fact that a unit has failed or run once; the kernel has modules of that name.
    left = [line for line in left if not re.search(r"^/(sys|lib/modules)/|/run/systemd/(transient|units|journal)/", line)]
    expect(not left, f"these files are left: {left}")
    left = machine.box.run("systemctl", "list-units", "--all", "--no-legend", "overlapd*").stdout \
        + machine.box.run("systemctl", "list-unit-files", "--no-legend", "overlapd*", check=False).stdout
    expect(not left.strip(), f"these units are left: {left}")
    expect("overlapd" not in machine.box.run("ss", "-xl").stdout, "somebody listens at the socket")
    # Debian keeps the users of packages, so that nobody else gets their numbers; nobody can be it.
    user = machine.box.run("getent", "passwd", "overlapd").stdout.strip()
    expect(user.endswith(":/usr/sbin/nologin"), f"the user that stays could log in: {user}")
