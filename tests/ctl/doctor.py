#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlapctl doctor: each finding that can be provoked is, and names what was found and the repair. TAP.

A machine that is ill is made in a mount namespace: files are bound over those of /proc/sys, /sys and /etc, systemctl is
one that says what the case wants, and a filter of system calls refuses what a container's would.
"""

import ctypes
import errno
import os
import platform
import resource
import shlex
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time

import stage
import tool
from tool import DONE, FAILED, USAGE

OTHER_UID = 4001
NUMBERS = {  # of system calls
    "x86_64": {"io_uring_setup": 425, "memfd_create": 319, "socket": 41},
    "aarch64": {"io_uring_setup": 425, "memfd_create": 279, "socket": 198},
}
KILL = 0x80000000
UNIT = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success",
        "UnitFileState": "enabled", "NRestarts": "0", "NeedDaemonReload": "no", "LimitNOFILE": "1048576"}


def filtered(**refused):
    """A function for the child: from then on these system calls fail, with these errors; 0: they kill."""
    numbers = NUMBERS.get(platform.machine())
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # the number of the call
    for name, error in refused.items():
        code.append(struct.pack("HBBI", 0x15, 0, 1, numbers[name] if numbers else 0))
        code.append(struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error if error else KILL))
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000))
    lines = ctypes.create_string_buffer(b"".join(code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(lines))
    libc = ctypes.CDLL(None, use_errno=True)

    def install():
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP
        _ = lines

    return install


class Doctor(tool.Case):
    """One machine after the other."""

    def look(self, *arguments, status=None, path=None, **options):
        """Runs it. Returns its findings by check, each a list; what is not fine has a repair."""
        done = tool.run("--socket", path or self.daemon.path, "doctor", "--json", *arguments, **options)
        self.assertIn(done.status, (DONE, FAILED), done.said)
        said, found = done.json(), {}
        verdicts = [finding["verdict"] for finding in said["findings"]]
        self.assertEqual(said["problems"], verdicts.count("problem"))
        self.assertEqual(said["warnings"], verdicts.count("warning"))
        self.assertEqual(done.status, FAILED if said["problems"] else DONE)
        if status is not None:
            self.assertEqual(done.status, status, done.out)
        for finding in said["findings"]:
            found.setdefault(finding["check"], []).append(finding)
            self.assertTrue(finding["found"])
            if finding["verdict"] == "problem":
                self.assertTrue(finding["repair"], finding)
            if finding["verdict"] == "ok":
                self.assertIsNone(finding["repair"], finding)
        return found

    def finds(self, found, check, verdict, words, repair=None):
        """Among the findings of a check is this one."""
        for finding in found[check]:
            if finding["verdict"] == verdict and words in finding["found"]:
                if repair is not None:
                    self.assertEqual(finding["repair"].removeprefix("sudo "), repair)
                return
        self.fail(f"{check} does not tell a {verdict} with {words!r}: {found[check]}")

    def folder(self):
        made = tempfile.TemporaryDirectory(prefix="overlapctl-")  # pylint: disable=consider-using-with
        self.addCleanup(made.cleanup)
        os.chmod(made.name, 0o755)
        return made.name

    def ill(self, *steps):
        """What overlapctl is started with on a machine on which these commands of a shell were run."""
        prefix = ["unshare", "--mount", "sh", "-ec", "\n".join([*steps, 'exec "$@"']), "sh"]
        if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs root, and a mount namespace in which files can be bound over others")
        return prefix

    def bound(self, path, text):
        """A step: the file has this text."""
        name = f"{self.folder()}/file"
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        return f"mount --bind {name} {path}"

    # --- The way to the daemon

    def test_all_is_well(self):
        found = self.look(status=DONE)
        self.finds(found, "socket", "ok", f"{self.daemon.path} is a socket of mode 0600")
        self.finds(found, "permission", "ok", "may connect")
        self.finds(found, "daemon", "ok", "it answers, and grants the level")
        self.finds(found, "engine", "ok", f"runs on {os.environ.get('OVL_TEST_ENGINE', 'uring')}: it was asked for")
        self.finds(found, "service", "skipped", "is the socket of no service")
        self.finds(found, "status", "ok", " as this program, serving, with 1 of 1 workers")
        self.finds(found, "kernel", "ok", f"Linux {platform.release()};")
        self.finds(found, "memfd", "ok", "can be made, sealed and mapped")
        self.finds(found, "clock", "ok" if found["clock"][0]["verdict"] == "ok" else "warning", "a look at the clock costs ")
        self.finds(found, "wake", "ok" if found["wake"][0]["verdict"] == "ok" else "warning",
                   "waking a sleeping thread costs ")
        self.assertEqual(list(found), ["service", "socket", "permission", "daemon", "engine", "limits", "status", "kernel", "seccomp",
                                       "io_uring", "memfd", "sysctl", "cgroup", "clock", "wake"])

    def test_for_people(self):
        done = self.ctl("doctor")
        self.assertIn("\nok       socket      ", done.out)
        self.assertRegex(done.out, r"\n\n(Nothing is wrong|0 problems, \d+ warnings?)\.\n$")
        done = tool.run("--socket", "/nowhere/s", "doctor")
        self.assertEqual(done.status, FAILED)
        self.assertIn("problem  socket      there is no socket at /nowhere/s (No such file or directory)", done.out)
        self.assertIn("\n           repair:   ", done.out)
        self.assertRegex(done.out, r"\n\n1 problem, \d+ warnings?\.\n$")
        quiet = tool.run("--socket", "/nowhere/s", "--quiet", "doctor").out.splitlines()
        self.assertEqual(quiet[0][:20], "problem  socket     ")
        self.assertFalse([line for line in quiet if line.startswith(("ok", "skipped"))])
        quiet = tool.run("--socket", "/nowhere/s", "--quiet", "--json", "doctor").json()["findings"]
        self.assertEqual({finding["verdict"] for finding in quiet} - {"problem", "warning"}, set())
        self.assertEqual(quiet[0]["check"], "socket")

    def test_a_command_line_that_is_wrong(self):
        self.assertIn("unexpected argument 'there'", self.ctl("doctor", "there", status=USAGE).said)
        self.assertIn("unknown option '-x'", self.ctl("doctor", "-x", status=USAGE).said)

    def test_no_socket(self):
        found = self.look(path="/nowhere/it's here/s", status=FAILED)
        self.finds(found, "socket", "problem", "there is no socket at /nowhere/it's here/s",
                   r"overlapd --socket '/nowhere/it'\''s here/s'")
        for check in ("permission", "daemon", "engine", "limits", "status"):
            self.assertEqual(found[check][0]["verdict"], "skipped")

    def test_what_is_no_socket(self):
        folder = self.folder()
        with open(f"{folder}/s", "w", encoding="ascii"):
            pass
        # No repair moves what somebody named by mistake.
        for path, words in ((f"{folder}/s", "is a regular file, and no socket"), (folder, "is a directory, and no socket"),
                            ("/dev/null", "is a device, and no socket")):
            self.finds(self.look(path=path, status=FAILED), "socket", "problem", words,
                       "export OVERLAPD_SOCKET=/run/overlapd/overlapd.sock")

    def test_a_path_that_is_too_long(self):
        self.finds(self.look(path="/" + "x" * 120, status=FAILED), "socket", "problem", "has 121 bytes",
                   "export OVERLAPD_SOCKET=/run/overlapd/overlapd.sock")

    def test_a_daemon_that_has_gone(self):
        with socket.socket(socket.AF_UNIX) as left:
            path = f"{self.folder()}/s"
            left.bind(path)
        found = self.look(path=path, status=FAILED)
        self.finds(found, "socket", "ok", "is a socket")
        self.finds(found, "daemon", "problem", "Connection refused", f"overlapd --socket {path}")

    def test_a_daemon_of_another_protocol(self):
        path = f"{self.folder()}/s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            child = os.fork()
            if child == 0:
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(bytes(64))
                connection.recv(4096)
                os._exit(0)
            found = tool.run("--socket", path, "doctor", "--json").json()["findings"]
            os.waitpid(child, 0)
        told = [finding for finding in found if finding["check"] == "daemon"]
        self.assertEqual(told[0]["verdict"], "problem", told)

    def test_a_level_that_there_is_not(self):
        found = self.look(env={"OVERLAPD_LEVEL": "seventh"}, status=FAILED)
        self.finds(found, "daemon", "problem", 'must be inline, shared or ring, and is "seventh"', "unset OVERLAPD_LEVEL")

    # --- Who may connect

    def as_other(self, *options):
        """overlapctl as somebody who may read what it needs to start, and is in a database that knows one group more."""
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        os.chmod(self.daemon.folder, 0o755)
        return ["setpriv", f"--reuid={OTHER_UID}", f"--regid={OTHER_UID}", *(options or ["--clear-groups"]), "--"]

    def people(self, members=""):
        return self.ill(self.bound("/etc/passwd", f"root:x:0:0::/:/bin/sh\nann:x:{OTHER_UID}:{OTHER_UID}::/:/bin/sh\n"),
                        self.bound("/etc/group", f"root:x:0:\nann:x:{OTHER_UID}:\noverlapd:x:4777:{members}\n"))

    def lend_to_group(self):
        os.chown(self.daemon.path, 0, 4777)
        os.chmod(self.daemon.path, 0o660)

    def test_nobody_but_the_owner(self):
        found = self.look(prefix=self.as_other(), status=FAILED)
        self.finds(found, "permission", "problem", "started by user root, and serves nobody else",
                   "overlapd --private -- COMMAND")
        self.assertEqual(found["daemon"][0]["verdict"], "skipped")

    def test_a_folder_that_is_closed(self):
        prefix = self.as_other()
        os.chmod(self.daemon.folder, 0o700)
        self.finds(self.look(prefix=prefix, status=FAILED), "socket", "problem",
                   f"cannot enter {self.daemon.folder} on the way to {self.daemon.path}", "overlapd --private -- COMMAND")

    def test_who_is_not_in_the_group(self):
        prefix = self.people() + self.as_other()
        self.lend_to_group()
        self.finds(self.look(prefix=prefix, status=FAILED), "permission", "problem",
                   "user ann is not in the group overlapd, whose members may connect", "usermod -aG overlapd ann")

    def test_who_has_to_log_in_again(self):
        prefix = self.people("ann") + self.as_other()
        self.lend_to_group()
        self.finds(self.look(prefix=prefix, status=FAILED), "permission", "problem",
                   "user ann is in the group overlapd, but this login is older", "newgrp overlapd")

    def test_who_is_in_the_group(self):
        prefix = self.people("ann") + self.as_other("--groups=4777")
        self.lend_to_group()
        self.finds(self.look(prefix=prefix), "permission", "ok", "user ann may connect")

    # --- The service

    def service(self, **units):
        """A machine that systemd runs, and whose systemctl says this of the units, with the daemon as the service's."""
        folder, cases = self.folder(), []
        for name, changes in units.items():
            lines = "\n".join(f"{key}={value}" for key, value in (UNIT | changes).items())
            cases.append(f"*overlapd.{name}) cat <<'END'\n{lines}\nEND\n;;\n")
        with open(f"{folder}/systemctl", "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\ncase \"$*\" in\n" + "".join(cases) + "*) exit 1;;\nesac\n")
        os.chmod(f"{folder}/systemctl", 0o755)
        prefix = self.ill("mount -t tmpfs none /run", "mkdir -p /run/systemd/system /run/overlapd",
                          f"mount --bind {self.daemon.folder} /run/overlapd",
                          "ln -sf s /run/overlapd/overlapd.sock", "ln -sf s.admin /run/overlapd/admin.sock")
        for name in ("overlapd.sock", "admin.sock"):
            self.addCleanup(lambda link=f"{self.daemon.folder}/{name}": os.path.lexists(link) and os.unlink(link))
        return {"prefix": prefix, "path": "/run/overlapd/overlapd.sock",
                "env": {"PATH": f"{folder}:{os.environ['PATH']}"}}

    def test_a_service_that_serves(self):
        found = self.look(**self.service(socket={}, service={}), status=DONE)
        self.finds(found, "service", "ok", "overlapd.socket is active and enabled")
        self.finds(found, "service", "ok", "overlapd.service is active")
        self.finds(found, "status", "warning", "the policy has no rules, so nobody may use the network",
                   "editor /etc/overlapd/policy.d/10-local.conf && systemctl reload overlapd.service")
        self.finds(found, "daemon", "ok", "it answers")

    def test_a_service_that_waits(self):
        found = self.look(**self.service(socket={}, service={"ActiveState": "inactive"}), status=DONE)
        self.finds(found, "service", "ok", "overlapd.service is inactive: the first client starts it")

    def test_a_service_that_failed(self):
        found = self.look(**self.service(socket={}, service={"ActiveState": "failed", "Result": "start-limit-hit"}),
                          status=FAILED)
        self.finds(found, "service", "problem", "overlapd.service has failed (result: start-limit-hit)",
                   "systemctl reset-failed overlapd.service && systemctl restart overlapd.service")

    def test_a_service_that_was_restarted(self):
        found = self.look(**self.service(socket={}, service={"NRestarts": "7"}))
        self.finds(found, "service", "warning", "was restarted 7 times", "journalctl -xeu overlapd.service")

    def test_a_socket_that_was_stopped(self):
        found = self.look(**self.service(socket={"ActiveState": "inactive"}, service={}), status=FAILED)
        self.finds(found, "service", "problem", "overlapd.socket is inactive (result: success): nobody can connect",
                   "systemctl enable --now overlapd.socket")

    def test_a_socket_that_no_boot_starts(self):
        found = self.look(**self.service(socket={"UnitFileState": "disabled"}, service={}), status=DONE)
        self.finds(found, "service", "warning", "overlapd.socket is active, but disabled", "systemctl enable overlapd.socket")

    def test_units_that_cannot_be_started(self):
        found = self.look(**self.service(socket={"LoadState": "masked"}, service={"LoadState": "bad-setting"}),
                          status=FAILED)
        self.finds(found, "service", "problem", "overlapd.socket is masked", "systemctl unmask overlapd.socket")
        self.finds(found, "service", "problem", "overlapd.service cannot be loaded (bad-setting)",
                   "systemd-analyze verify overlapd.service")

    def test_a_socket_that_is_masked_and_gone(self):
        world = self.service(socket={"LoadState": "masked"}, service={})
        world["prefix"][4] = world["prefix"][4].replace('exec "$@"', 'rm /run/overlapd/overlapd.sock; exec "$@"')
        repair = "systemctl unmask overlapd.socket && systemctl enable --now overlapd.socket"
        self.finds(self.look(**world, status=FAILED), "socket", "problem", "there is no socket at", repair)
        self.daemon.kill()
        world["prefix"][4] = world["prefix"][4].replace("rm /run/overlapd/overlapd.sock; ", "")
        with socket.socket(socket.AF_UNIX) as left:
            os.unlink(self.daemon.path)
            left.bind(self.daemon.path)
        self.finds(self.look(**world, status=FAILED), "daemon", "problem", "Connection refused", repair)

    def test_units_that_there_are_not(self):
        found = self.look(**self.service(socket={"LoadState": "not-found"}, service={"LoadState": "not-found"}))
        self.finds(found, "service", "skipped", "there is no unit overlapd.socket")

    def test_units_that_were_edited(self):
        found = self.look(**self.service(socket={}, service={"NeedDaemonReload": "yes"}))
        self.finds(found, "service", "warning", "the files of overlapd.service have changed",
                   "systemctl daemon-reload && systemctl restart overlapd.service")

    def test_a_systemctl_that_fails_or_is_not_there(self):
        self.finds(self.look(**self.service()), "service", "skipped", "systemctl cannot tell how overlapd.socket does")
        world = self.service()
        world["prefix"][4] = world["prefix"][4].replace('exec "$@"', 'PATH=/nowhere exec "$@"')
        self.finds(self.look(**world), "service", "skipped", "there is no systemctl to ask")

    def test_a_systemctl_that_hangs(self):
        """It is not waited for, and ended."""
        world, start = self.service(), time.monotonic()
        with open(f"{world['env']['PATH'].split(':', maxsplit=1)[0]}/systemctl", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexec sleep 1000\n")
        self.finds(self.look(**world), "service", "warning", "did not say within 5 s")
        self.assertLess(time.monotonic() - start, tool.PATIENCE_S)

    def test_everybody_may_connect(self):
        world = self.service(socket={}, service={})
        os.chmod(self.daemon.path, 0o666)
        self.finds(self.look(**world), "permission", "warning", "so may everybody: the mode of",
                   "chmod 0660 /run/overlapd/overlapd.sock")

    def test_a_service_that_is_not_there(self):
        """Everything says so, and how it is started."""
        world = self.service(socket={"ActiveState": "inactive"}, service={"ActiveState": "inactive"})
        world["prefix"][4] = world["prefix"][4].replace('exec "$@"', 'rm /run/overlapd/overlapd.sock; exec "$@"')
        self.finds(self.look(**world, status=FAILED), "socket", "problem", "there is no socket at",
                   "systemctl enable --now overlapd.socket")

    # --- Limits and engine

    def worker(self):
        return tool.run("--socket", self.daemon.path, "ping", "-c", "1", "--json").json()["worker_pid"]

    def test_few_descriptors(self):
        worker = self.worker()
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (1000, hard))
        found = self.look()
        self.finds(found, "limits", "warning", "the daemon may open 1000 descriptors")
        self.assertIn("ulimit -n 65536", found["limits"][0]["repair"])
        found = self.look(**self.service(socket={}, service={"LimitNOFILE": "1000"}))
        self.assertIn("LimitNOFILE=1048576", found["limits"][0]["repair"])
        self.assertIn("/etc/systemd/system/overlapd.service.d/zz-", found["limits"][0]["repair"])
        found = self.look(**self.service(socket={}, service={}))
        self.finds(found, "limits", "warning", "may open 1000 descriptors, though its unit asks for 1048576")
        self.assertIn("--ulimit nofile=1048576", found["limits"][0]["repair"])

    def test_limits_as_the_kernel_tells_them(self):
        worker = self.worker()
        head = "Limit                     Soft Limit           Hard Limit           Units     \n"
        for nofile, verdict, words in (
                ("65536", "ok", "the daemon may open 65536 descriptors; bytes of locked memory: 8388608"),
                ("unlimited", "ok", "the daemon may open unlimited descriptors; bytes of locked memory: 8388608"),
                ("65535", "warning", "the daemon may open 65535 descriptors, and needs one for each")):
            prefix = self.ill(self.bound(f"/proc/{worker}/limits", head +
                                         "Max locked memory         8388608              8388608              bytes     \n"
                                         f"Max open files            {nofile:<20} 1048576              files     \n"))
            with self.subTest(nofile):
                self.finds(self.look(prefix=prefix), "limits", verdict, words)
        self.finds(self.look(prefix=self.ill(self.bound(f"/proc/{worker}/limits", head))), "limits", "skipped",
                   "cannot be seen from here")

    def test_an_engine_that_was_fallen_back_to(self):
        folder = self.folder()
        with open(f"{folder}/log", "w", encoding="utf-8") as log:
            daemon = subprocess.Popen([stage.OVERLAPD, "--socket", f"{folder}/s", "--log", "stderr", "--engine", "auto"],
                                      stderr=log, preexec_fn=filtered(io_uring_setup=errno.EPERM))
        try:
            stage.eventually(self, lambda: os.path.exists(f"{folder}/s"))
            found = self.look(path=f"{folder}/s", preexec_fn=filtered(io_uring_setup=errno.EPERM))
        finally:
            daemon.terminate()
            daemon.wait()
        self.finds(found, "engine", "warning", "the daemon runs on epoll, which does the same and costs more, because: ")
        self.assertIn("EPERM", found["engine"][0]["found"])
        self.finds(found, "io_uring", "warning", "io_uring is refused to this process (EPERM) while a filter")

    # --- What the daemon says

    def test_workers_that_died(self):
        os.kill(self.worker(), signal.SIGKILL)
        stage.eventually(self, lambda: tool.run("--socket", self.daemon.path, "status", "--quiet").status == DONE)
        self.finds(self.look(), "status", "warning", "1 workers of the daemon have died", "overlapctl log --any -n 50")

    def test_who_may_not_ask(self):
        os.chmod(self.daemon.folder, 0o755)
        os.chmod(self.daemon.path, 0o666)
        found = self.look(prefix=self.as_other())
        self.finds(found, "daemon", "ok", "it answers")
        self.finds(found, "status", "skipped", f"{self.daemon.path}.admin is for root and members of its group")

    def test_nobody_can_ask(self):
        os.unlink(f"{self.daemon.path}.admin")
        found = self.look()
        self.finds(found, "status", "warning", f"{self.daemon.path}.admin: No such file or directory")
        world = self.service(socket={}, service={})
        self.finds(self.look(**world), "status", "warning", "cannot be asked what it does",
                   "systemctl enable --now overlapd-admin.socket")

    # --- The kernel

    def test_io_uring_behind_a_filter(self):
        for error, name in ((errno.EPERM, "EPERM"), (errno.ENOSYS, "ENOSYS")):
            with self.subTest(name):
                found = self.look(path="/nowhere/s", preexec_fn=filtered(io_uring_setup=error))
                self.finds(found, "io_uring", "warning", f"refused to this process ({name}) while a filter of system calls")
                self.finds(found, "seccomp", "ok", "filter(s) of system calls bind this process")

    def test_io_uring_of_a_running_daemon(self):
        """What this process may not is no matter where the daemon may."""
        if os.environ.get("OVL_TEST_ENGINE") == "epoll":
            self.skipTest("this daemon does not use it")
        found = self.look(status=DONE, preexec_fn=filtered(io_uring_setup=errno.EPERM))
        self.finds(found, "io_uring", "ok", "the running daemon has it all the same")

    def test_io_uring_and_its_sysctl(self):
        refused = filtered(io_uring_setup=errno.EPERM)
        for value, words, repair in (
                ("2", "to everybody: kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"),
                ("1", "to this user: kernel.io_uring_disabled is 1",
                 "sysctl -w kernel.io_uring_group=$(getent group overlapd | cut -d: -f3)")):
            prefix = self.ill(self.bound("/proc/sys/kernel/io_uring_disabled", value + "\n"))
            with self.subTest(value):
                self.finds(self.look(path="/nowhere/s", prefix=prefix, preexec_fn=refused), "io_uring", "warning", words,
                           repair)

    def test_io_uring_that_there_is_not_memory_for(self):
        self.finds(self.look(path="/nowhere/s", preexec_fn=filtered(io_uring_setup=errno.ENOMEM)), "io_uring", "warning",
                   "ENOMEM", "ulimit -l unlimited")

    def test_no_memory_to_lend(self):
        found = self.look(path="/nowhere/s", status=FAILED, preexec_fn=filtered(memfd_create=errno.EPERM))
        self.finds(found, "memfd", "problem", "mapped to be lent (EPERM, while a filter of system calls binds",
                   "export OVERLAPD_LEVEL=inline")

    def test_filters_that_kill(self):
        """Who asks survives it, and goes on."""
        found = self.look(status=FAILED, preexec_fn=filtered(io_uring_setup=0, memfd_create=0))
        self.finds(found, "memfd", "problem", "(who tries is killed, while a filter of system calls binds this process)",
                   "export OVERLAPD_LEVEL=inline")
        self.finds(found, "daemon", "ok", "it answers, and grants the level inline")
        found = self.look(status=FAILED, env={"OVERLAPD_LEVEL": "ring"}, preexec_fn=filtered(memfd_create=errno.EPERM))
        self.finds(found, "daemon", "problem", "Operation not permitted", "export OVERLAPD_LEVEL=inline")
        found = self.look(path="/nowhere/s", preexec_fn=filtered(io_uring_setup=0))
        self.finds(found, "io_uring", "warning", "refused to this process (who tries is killed) while a filter")
        found = self.look(status=FAILED, preexec_fn=filtered(socket=0))
        self.finds(found, "seccomp", "problem", "may not open Unix sockets (who tries is killed)")
        self.assertNotIn("daemon", found)

    def test_no_unix_sockets(self):
        found = self.look(path="/nowhere/s", status=FAILED, preexec_fn=filtered(socket=errno.EAFNOSUPPORT))
        self.finds(found, "seccomp", "problem", "may not open Unix sockets (EAFNOSUPPORT)")

    def test_an_old_kernel(self):
        prefix = ["setarch", platform.machine(), "--uname-2.6"]
        if subprocess.run([*prefix, "true"], check=False).returncode != 0:
            self.skipTest("setarch cannot make the kernel look old")
        found = self.look(prefix=prefix, status=FAILED)
        self.finds(found, "kernel", "problem", "this is Linux 2.6.")
        self.assertIn("apt install linux-image-", found["kernel"][0]["repair"])

    def test_sysctls_that_leave_no_room(self):
        for path, value, words, repair in (
                ("net/core/somaxconn", "128", "net.core.somaxconn is 128: ", "sysctl -w net.core.somaxconn=4096"),
                ("fs/nr_open", "1024", "fs.nr_open is 1024: ", "sysctl -w fs.nr_open=1048576"),
                ("net/core/wmem_default", "4608", "net.core.wmem_default is 4608: ", "sysctl -w net.core.wmem_default=212992"),
                ("net/ipv4/ip_local_port_range", "60000\t60999", "is 60000 to 60999: all clients together can have no more "
                 "than 1000", "sysctl -w net.ipv4.ip_local_port_range='32768 60999'"),
                ("fs/file-nr", "900\t0\t1000", "900 files are open on this machine, and fs.file-max is 1000",
                 "sysctl -w fs.file-max=2000")):
            prefix = self.ill(self.bound(f"/proc/sys/{path}", value + "\n"))
            with self.subTest(path):
                self.finds(self.look(prefix=prefix), "sysctl", "warning", words, repair)

    def test_no_control_groups(self):
        found = self.look(prefix=self.ill("mount -t tmpfs none /sys/fs/cgroup"))
        self.finds(found, "cgroup", "warning", "no control groups are mounted", "mount -t cgroup2 none /sys/fs/cgroup")

    def test_files_that_are_nonsense(self):
        """What cannot be read as a number is not judged."""
        for text in ("", "many\n", "-3\n", "9" * 60 + "\n"):
            prefix = self.ill(*(self.bound(f"/proc/sys/{path}", text) for path in
                                ("net/core/somaxconn", "fs/nr_open", "net/core/wmem_default", "kernel/io_uring_disabled",
                                 "net/ipv4/ip_local_port_range", "fs/file-nr")))
            with self.subTest(text):
                self.finds(self.look(prefix=prefix), "sysctl", "skipped", "/proc/sys cannot be read")

    def test_without_proc(self):
        """Nothing is concluded from what cannot be seen."""
        if stage.SLOWNESS > 1:
            self.skipTest("sanitizers need /proc")
        prefix = self.ill("mount -t tmpfs none /proc")
        folder = os.path.dirname(tool.CTL)
        found = self.look(prefix=prefix, env={"LD_LIBRARY_PATH": f"{folder}/../c"}, status=DONE)
        self.finds(found, "limits", "skipped", "cannot be seen from here")
        self.finds(found, "seccomp", "skipped", "cannot be read")
        self.finds(found, "sysctl", "skipped", "cannot be read")

    def test_nothing_is_changed(self):
        """The commands are for others to run: the socket, its folder and their modes are as before."""
        def state():
            return [(name, stat.filemode(os.stat(f"{self.daemon.folder}/{name}").st_mode))
                    for name in sorted(os.listdir(self.daemon.folder))]

        before = state()
        self.look()
        self.assertEqual(state(), before)
        self.assertTrue(shlex.split(before[0][0]))


if __name__ == "__main__":
    tool.main()
