#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the administrators' socket is, and that a daemon without one serves all the same. TAP."""

import fcntl
import os
import re
import socket
import stat
import subprocess

import frame
from frame import LOST, PATIENCE_S, eventually

ENGINE = os.environ.get("OVL_TEST_ENGINE", "uring")


class Places(frame.Case):
    """Daemons that are started in different ways. The case's own has nothing to do with it."""

    def other(self, *arguments, **options):
        """Another daemon, which ends with the case. Returns its process, and what it has said so far."""
        log = f"{self.folder()}/log"
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen([os.environ["OVL_TEST_OVERLAPD"], "--log", "stderr", "--engine", ENGINE, *arguments],
                                       stdin=subprocess.DEVNULL, stderr=file, **options)
        self.addCleanup(self.end, process)

        def said():
            with open(log, encoding="utf-8", errors="replace") as file:
                return file.read()

        eventually(self, lambda: "serves at" in said() or process.poll() is not None)
        self.assertIn("serves at", said())
        return process, said

    def end(self, process):
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE_S)

    def mode(self, path):
        return stat.S_IMODE(os.lstat(path).st_mode)

    def test_beside_the_usual_name(self):
        place = self.folder()
        process, said = self.other("--socket", f"{place}/overlapd.sock")
        self.assertEqual(sorted(os.listdir(place)), ["admin.sock", "overlapd.sock"])
        self.assertEqual(self.mode(f"{place}/admin.sock") & 0o007, 0)
        self.run_ctl("status", daemon=f"{place}/overlapd.sock")
        self.end(process)
        self.assertEqual(process.returncode, 0, said())
        self.assertEqual(os.listdir(place), [])

    def test_two_daemons_in_one_folder(self):
        place = self.folder()
        for name in "one", "two":
            self.other("--socket", f"{place}/{name}")
        for name in "one", "two":
            now = frame.json.loads(self.run_ctl("status", "--json", daemon=f"{place}/{name}")[0])
            self.assertEqual(now["socket"], f"{place}/{name}")

    def test_a_path_of_any_bytes(self):
        """What is no text does not end the answer, and reaches no terminal; what is text stays."""
        for name, shown in (("gr\u00fcn", "gr\u00fcn"), ("\udcff\x1b[31m", "??[31m"), ("\u009b", "?")):
            place = f"{self.folder()}/{name}"
            os.mkdir(place)
            rules = f"{place}/rules"
            os.mkdir(rules)
            os.chmod(rules, 0o755)
            with open(f"{rules}/10-{name}.conf", "w", encoding="utf-8") as file:
                file.write("[allow one]\nUser=*\nAction=export\n[deny two]\nUser=*\nAction=connect\n")
            self.other("--socket", f"{place}/s", "--policy", rules)
            now = frame.json.loads(self.run_ctl("status", "--json", daemon=f"{place}/s")[0])
            self.assertEqual(now["socket"], f"{os.path.dirname(place)}/{shown}/s")
            said = self.run_ctl("policy", "test", "--unit", "x", "export", daemon=f"{place}/s")[0]
            self.assertIn(f"{shown}/rules/10-{shown}.conf:1", said)
            # Clients, too, are told which rule refused them, and go on.
            session = frame.overlap.Session(f"{place}/s")
            self.addCleanup(session.close)
            for _ in range(2):
                with self.assertRaises(frame.overlap.OverlapError) as caught:
                    session.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 1)).finish(PATIENCE_S)
                self.assertIn(".conf:4: [deny two]", str(caught.exception))
            for arguments in (["status"], ["config", "cat"], ["ping", "-c", "1"], ["doctor", "--json"]):
                said = self.run_ctl(*arguments, daemon=f"{place}/s")[0]
                self.assertIn(f"{shown}/s", said)
                self.assertNotIn("\x1b", said)
                self.assertNotIn("\u009b", said)

    def test_of_a_private_daemon(self):
        command = 'dirname "$OVERLAPD_SOCKET"; "$0" status --json; stat -c "%a %n" "$(dirname "$OVERLAPD_SOCKET")"/*'
        done = subprocess.run([os.environ["OVL_TEST_OVERLAPD"], "--private", "--engine", ENGINE, "--", "sh", "-c", command,
                               frame.CTL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        place = done.stdout.splitlines()[0]
        self.assertIn('"state": "serving"', done.stdout)
        self.assertIn(f"600 {place}/admin.sock\n", done.stdout)
        self.assertFalse(os.path.exists(place))

    def test_what_a_killed_daemon_left(self):
        path = f"{self.folder()}/s"
        process, _ = self.other("--socket", path)
        process.kill()
        process.wait(PATIENCE_S)
        self.assertTrue(os.path.exists(f"{path}.admin"))
        self.run_ctl("status", daemon=path, status=LOST)
        self.other("--socket", path)
        self.run_ctl("status", daemon=path)

    def test_a_file_is_in_the_way(self):
        path = f"{self.folder()}/s"
        with open(f"{path}.admin", "w", encoding="utf-8") as file:
            file.write("mine")
        _, said = self.other("--socket", path)
        self.assertIn(f"overlapctl cannot ask: {path}.admin exists and is no socket", said())
        frame.overlap.Session(path).close()
        with open(f"{path}.admin", encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")

    def test_a_second_daemon_at_the_path_says_only_that(self):
        done = subprocess.run([os.environ["OVL_TEST_OVERLAPD"], "--log", "stderr", "--socket", self.daemon.path],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"already running: a daemon answers at {self.daemon.path}\n", done.stdout)
        self.assertNotIn(".admin", done.stdout)
        self.is_served()

    def test_whoever_finds_the_clients_socket_can_ask(self):
        path = f"{self.folder()}/s"
        process = subprocess.Popen([os.environ["OVL_TEST_OVERLAPD"], "--log", "stderr", "--engine", ENGINE, "--socket", path],
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        eventually(self, lambda: os.path.exists(path))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{path}.admin")

    def test_a_path_that_would_be_too_long(self):
        path = f"{self.folder()}/"
        path += "s" * (107 - len(path))
        _, said = self.other("--socket", path)
        self.assertIn("overlapctl cannot ask: the path of its socket would be too long", said())
        frame.overlap.Session(path).close()

    def activated(self, *names):
        """A daemon with sockets of a service manager, at paths of these names; that of a second of a name ends with 2."""
        place, made = self.folder(), []
        for number, name in enumerate(names):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"{place}/{name.replace('.', '-')}{'2' * names[:number].count(name)}")
                listener.listen()
                made.append(fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, 20))

        def hand_over():
            for number, fd in enumerate(made, 3):
                os.dup2(fd, number)

        program = os.environ["OVL_TEST_OVERLAPD"]
        environment = os.environ | {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        log = f"{place}/log"
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', program, "--log", "stderr", "--engine",
                                        ENGINE, "--policy", "own"], env=environment, stdin=subprocess.DEVNULL, stderr=file,
                                       pass_fds=range(3, 3 + len(names)), preexec_fn=hand_over)
        self.addCleanup(self.end, process)
        for fd in made:
            os.close(fd)

        def said():
            with open(log, encoding="utf-8", errors="replace") as file:
                return file.read()

        eventually(self, lambda: "serves at" in said() or process.poll() is not None)
        return place, process, said

    def test_of_the_service_manager(self):
        for names in (("overlapd.socket", "admin"), ("admin", "overlapd.socket")):
            place, process, said = self.activated(*names)
            self.assertNotIn("ignored", said())
            self.assertNotIn("cannot ask", said())
            frame.overlap.Session(f"{place}/overlapd-socket").close()
            now = frame.json.loads(self.run_ctl("status", "--json", "--admin", f"{place}/admin")[0])
            self.assertEqual((now["pid"], now["socket"]), (process.pid, f"{place}/overlapd-socket"))
            self.end(process)
            self.assertEqual(process.returncode, 0, said())
            # They are the service manager's, and stay.
            self.assertEqual(sorted(os.listdir(place)), ["admin", "log", "overlapd-socket"])

    def test_the_service_manager_has_none(self):
        place, _, said = self.activated("overlapd.socket")
        self.assertIn("overlapctl cannot ask: the service manager handed over no socket", said())
        self.assertIn("overlapd-admin.socket", said())
        frame.overlap.Session(f"{place}/overlapd-socket").close()

    def test_the_service_manager_has_two(self):
        place, _, said = self.activated("admin", "overlapd.socket", "admin")
        self.assertTrue(re.search(r"descriptor 5 of the service manager is ignored", said()), said())
        self.run_ctl("status", "--admin", f"{place}/admin")


frame.main()
