#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlapctl against the daemon: what it prints is what is there. TAP."""

import os
import signal
import socket
import subprocess

import frame
import openmetrics
import overlap
from frame import DONE, FAILED, LOST, USAGE, eventually

ENGINE = os.environ.get("OVL_TEST_ENGINE", "uring")


class Status(frame.Case):
    """overlapctl status."""

    def daemon_arguments(self):
        return "--workers", "2"

    def test_of_an_idle_daemon(self):
        eventually(self, lambda: self.ask_json("status", status=None)["workers_ready"] == 2)
        now = self.ask_json("status")
        self.assertEqual(now["state"], "serving")
        self.assertEqual(now["pid"], self.daemon.process.pid)
        self.assertEqual(now["socket"], self.daemon.path)
        self.assertEqual(now["engine_wanted"], ENGINE)
        self.assertEqual([worker["engine"] for worker in now["workers"]], [ENGINE] * 2)
        self.assertTrue(all(worker["engine_reason"] for worker in now["workers"]))
        self.assertEqual(now["totals"]["sessions"], 0)
        self.assertIn("may do what it could do itself", now["policy"])
        said = self.ask("status")
        for word in ("serving", ENGINE, "2 of 2 ready", self.daemon.path):
            self.assertIn(word, said)
        self.assertEqual(self.ask("status", "--quiet"), "")
        self.assertEqual(self.ask("status", "--quiet", "--json"), "")

    def test_counts_what_a_session_does(self):
        # That of the test which looked whether the daemon is there.
        eventually(self, lambda: self.ask_json("status", status=None)["channels_accepted"] == 1)
        before = self.ask_json("status", status=None)
        session = self.open()
        mine, other = self.connect(session)
        receiving = mine.recv(5)
        other.sendall(b"hello")
        receiving.finish(frame.PATIENCE_S)
        pending = mine.recv(5)
        # Posted is not taken yet.
        eventually(self, lambda: self.ask_json("status", status=None)["totals"]["ops_in_flight"] >= 1)
        now = self.ask_json("status", status=None)
        self.assertEqual(now["totals"]["sessions"], 1)
        self.assertEqual(now["totals"]["sockets"], 1)
        self.assertGreaterEqual(now["totals"]["ops_in_flight"], 1)
        self.assertEqual(now["totals"]["bytes_received"] - before["totals"]["bytes_received"], 5)
        self.assertGreaterEqual(now["channels_open"], 1)
        self.assertEqual(now["channels_accepted"] - before["channels_accepted"], 1)
        self.assertGreaterEqual(now["policy_allowed"], 1)
        other.close()
        pending.finish(frame.PATIENCE_S)

    def ask_json(self, *arguments, status=DONE):
        """status: None: the second worker may not be ready yet."""
        if status is None:
            printed = subprocess.run([frame.CTL, *arguments, "--json"], stdout=subprocess.PIPE, check=False,
                                     env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path}).stdout
            return frame.json.loads(printed)
        return super().ask_json(*arguments, status=status)

    def test_a_worker_that_hangs_is_told_of(self):
        eventually(self, lambda: self.ask_json("status", status=None)["workers_ready"] == 2)
        pid = self.ask_json("status")["workers"][1]["pid"]
        os.kill(pid, signal.SIGSTOP)
        printed, said = self.run_ctl("status", "--json", status=LOST)
        now = frame.json.loads(printed)
        self.assertEqual([worker["answered"] for worker in now["workers"]], [True, False])
        self.assertIn(f"worker 1 (process {pid})", said)
        self.assertIn("does not answer", said)
        os.kill(pid, signal.SIGCONT)
        # Its late answer is nobody's.
        self.assertTrue(all(worker["answered"] for worker in self.ask_json("status")["workers"]))

    def test_a_worker_that_died_is_counted(self):
        eventually(self, lambda: self.ask_json("status", status=None)["workers_ready"] == 2)
        os.kill(self.ask_json("status")["workers"][0]["pid"], signal.SIGKILL)
        eventually(self, lambda: self.ask_json("status", status=None)["worker_deaths"] == 1)
        eventually(self, lambda: self.ask_json("status", status=None)["workers_ready"] == 2)


class Lists(frame.Case):
    """overlapctl list."""

    def test_a_session_and_what_it_has(self):
        session = self.open()
        mine, other = self.connect(session)
        pending = [mine.recv(1000) for _ in range(3)]
        found = self.listed("sessions")
        self.assertEqual(len(found), 1)
        number = found[0]["session"]
        self.assertEqual(found[0]["pid"], os.getpid())
        self.assertEqual(found[0]["uid"], os.getuid())
        self.assertEqual(found[0]["state"], "open")
        self.assertEqual(found[0]["level"], "shared")
        self.assertEqual(found[0]["sockets"], 1)
        self.assertEqual(found[0]["ops"], 3)
        sockets = self.listed("sockets")
        self.assertEqual(len(sockets), 1)
        self.assertEqual(sockets[0]["session"], number)
        self.assertEqual(sockets[0]["protocol"], "tcp")
        self.assertEqual(sockets[0]["state"], "connected")
        self.assertEqual(sockets[0]["local"], "%s:%d" % other.getpeername())
        self.assertEqual(sockets[0]["receives"], 3)
        self.assertEqual(sockets[0]["sends"], 0)
        self.assertGreater(sockets[0]["connected_ns"], 0)
        ops = self.listed("ops")
        self.assertEqual([(op["op"], op["len"], op["socket"]) for op in ops],
                         [("recv", 1000, sockets[0]["socket"])] * 3)
        self.assertEqual(sorted(op["state"] for op in ops), ["active", "queued", "queued"])
        threads = self.listed("threads")
        self.assertEqual([thread["session"] for thread in threads], [number])
        self.assertGreaterEqual(threads[0]["entries"], 4)
        self.assertIn(number.lstrip("0"), self.ask("list", "sockets"))
        other.close()
        for op in pending:
            op.finish(frame.PATIENCE_S)

    def test_bytes_that_wait(self):
        session = self.open()
        mine, other = self.connect(session)
        other.sendall(b"x" * 777)
        eventually(self, lambda: self.listed("sockets")[0]["unread"] == 777)
        self.assertEqual(self.listed("sockets")[0]["bytes_received"], 0)
        mine.recv(1000).finish(frame.PATIENCE_S)
        now = self.listed("sockets")[0]
        self.assertEqual((now["unread"], now["bytes_received"]), (0, 777))

    def test_a_listener_and_datagrams(self):
        session = self.open()
        _, address = self.listen(session)
        datagrams = session.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        found = {item["protocol"]: item for item in self.listed("sockets")}
        self.assertEqual(found["tcp"]["state"], "listening")
        self.assertEqual(found["tcp"]["local"], "%s:%d" % address)
        self.assertIsNone(found["tcp"]["remote"])
        self.assertEqual(found["udp"]["state"], "open")
        self.assertIsNone(found["udp"]["local"])
        datagrams.close()

    def test_ports(self):
        session = self.open()
        port = session.port_open()
        mine, other = self.connect(session)
        port.associate(mine, 7)
        found = self.listed("ports")
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["sockets"], found[0]["records"]), (1, 0))
        self.assertEqual(self.listed("sockets")[0]["port"], found[0]["port"])
        other.close()

    def test_quotas(self):
        session = self.open()
        mine, other = self.connect(session)
        pending = mine.recv(1)
        listener, _ = self.listen(session)
        worker, user, unit = self.listed("quotas")
        self.assertEqual([item["level"] for item in (worker, user, unit)], ["worker", "user", "unit"])
        self.assertIsNone(worker["uid"])
        self.assertEqual((user["uid"], unit["uid"]), (os.getuid(), os.getuid()))
        self.assertTrue(user["exempt"])
        for item in (worker, user, unit):
            self.assertEqual(item["sessions"]["used"], 1)
            self.assertEqual(item["sockets"]["used"], 2)
            self.assertEqual(item["listeners"]["used"], 1)
            self.assertEqual(item["operations"]["used"], 1)
        self.assertEqual(user["sockets"]["max"], 4096)
        self.assertEqual(worker["sessions"]["max"], 8192)
        self.assertIsNone(unit["sockets"]["max"])
        self.assertEqual(self.listed("quotas", "--user", os.getuid()), [user, unit])
        self.assertEqual(self.listed("quotas", "--user", 4242), [])
        self.assertEqual(self.listed("quotas", "--unit", "no-such.service"), [])
        self.assertIn("2/4096", self.ask("list", "quotas"))
        self.assertIn("quotas are of users", self.refused("list", "quotas", "--session", "1", status=USAGE))
        other.close()
        pending.finish(frame.PATIENCE_S)
        listener.close()

    def test_filters(self):
        first, second = self.open(), self.open()
        one, other = self.connect(first)
        two, another = self.connect(second)
        sessions = sorted(item["session"] for item in self.listed("sessions"))
        self.assertEqual(len(sessions), 2)
        for number in sessions:
            self.assertEqual([item["session"] for item in self.listed("sockets", "--session", number)], [number])
        self.assertEqual(len(self.listed("sockets", "--user", os.getuid())), 2)
        self.assertEqual(self.listed("sockets", "--user", 4242), [])
        self.assertEqual(self.listed("sockets", "--unit", "no-such"), [])
        self.assertEqual(self.listed("sessions", "--session", "1"), [])
        answer, said = self.run_ctl("list", "sockets", "--limit", "1", "--json")
        self.assertEqual(len(frame.json.loads(answer)["sockets"]), 1)
        self.assertIn("there are more than the 1", said)
        self.assertEqual(self.run_ctl("list", "sockets", "--limit", "2")[1], "")
        for item in (one, other, two, another):
            item.close()

    def test_more_than_a_page(self):
        """Each of 700 sockets and 700 operations once, over several pages."""
        session = self.open()
        sockets = [session.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(700)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        pending = [item.recvfrom(10) for item in sockets]
        found = self.listed("sockets")
        self.assertEqual(len({item["socket"] for item in found}), 700)
        self.assertEqual(len(found), 700)
        self.assertEqual(len({item["local"] for item in found}), 700)
        self.assertEqual(len({item["tag"] for item in self.listed("ops")}), 700)
        self.assertEqual(len(self.listed("sockets", "--limit", "300")), 300)
        del pending

    def test_while_everything_changes(self):
        """A list is no single instant, but it ends, and what stayed is in it."""
        session, other = self.open(), self.open()
        kept = [session.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(400)]
        going = True

        def churn():
            while going:
                made = [other.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(20)]
                for item in made:
                    item.close()

        task = self.thread(churn)
        numbers = None
        for _ in range(10):
            mine = [item for item in self.listed("sockets") if item["protocol"] == "udp"]
            self.assertEqual(len(mine), 400)
            self.assertIn(numbers, (None, [item["socket"] for item in mine]))
            numbers = [item["socket"] for item in mine]
        going = False
        task.join()
        del kept

    def test_a_client_that_is_killed_is_gone(self):
        program = subprocess.Popen(["python3", "-c", "import overlap, os, time\n"
                                    "session = overlap.Session(os.environ['OVERLAPD_SOCKET'])\n"
                                    "print('there', flush=True)\ninput()"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path})
        self.assertEqual(program.stdout.readline(), b"there\n")
        self.assertEqual([item["pid"] for item in self.listed("sessions")], [program.pid])
        program.kill()
        program.communicate()
        eventually(self, lambda: self.listed("sessions") == [])


RULES = """\
[allow database]
Unit=web.service
Action=connect
Protocol=tcp
To=192.0.2.0/24
Port=5432

[deny metadata]
User=*
Action=connect sendto
To=198.51.100.7

[allow people]
Group=4321
Action=connect sendto resolve
To=198.51.100.0/24 named.example

[allow door]
Unit=web.service
Action=listen
Protocol=tcp
Port=8080

[allow here]
Unit=web.service
Action=connect
Protocol=unix
To=/run/postgres/.s
"""


class Policy(frame.Case):
    """overlapctl policy test."""

    def daemon_arguments(self):
        self.rules = self.file("10-rules.conf", RULES)
        return "--policy", os.path.dirname(self.rules)

    def line(self, name):
        return 1 + RULES[:RULES.index(f" {name}]")].count("\n")

    def check(self, is_allowed, rule, *arguments):
        """One decision, and the rule that decides: None: none."""
        answer = self.ask_json("policy", "test", *arguments, status=DONE if is_allowed else FAILED)
        self.assertEqual(answer["allowed"], is_allowed)
        why = answer["decisions"][-1]["why"]
        if rule:
            self.assertIn(f"{self.rules}:{self.line(rule)}", why)
            self.assertIn(rule, why)
        else:
            self.assertIn("no rule allows it", why)

    def test_who(self):
        self.check(True, "database", "--unit", "web.service", "connect", "tcp", "192.0.2.9:5432")
        self.check(False, None, "--unit", "other.service", "connect", "tcp", "192.0.2.9:5432")
        self.check(False, None, "--user", "12345", "connect", "tcp", "192.0.2.9:5432")
        self.check(True, "people", "--group", "4321", "connect", "tcp", "198.51.100.8:1")
        self.check(True, "people", "--group", "4321", "sendto", "udp", "198.51.100.8:1")
        self.check(False, None, "--group", "4321", "--private-network", "connect", "tcp", "198.51.100.8:1")
        self.check(True, "database", "--unit", "web.service", "--private-network", "connect", "tcp", "192.0.2.9:5432")

    def test_what(self):
        self.check(False, None, "--unit", "web.service", "connect", "tcp", "192.0.2.9:5433")
        self.check(False, None, "--unit", "web.service", "connect", "udp", "192.0.2.9:5432")
        self.check(False, "metadata", "--group", "4321", "connect", "tcp", "198.51.100.7:80")
        self.check(True, "door", "--unit", "web.service", "listen", "tcp", "192.0.2.1:8080")
        self.check(True, "here", "--unit", "web.service", "connect", "unix", "/run/postgres/.s")
        self.check(False, None, "--unit", "web.service", "connect", "unix", "/run/other")
        self.check(True, "people", "--group", "4321", "resolve", "named.example")
        self.check(False, None, "--group", "4321", "resolve", "other.example")
        self.check(False, None, "--unit", "web.service", "export")

    def test_a_name_is_resolved_and_decided_by_its_addresses(self):
        """As the daemon does with a connect to a name."""
        reach, resolve = (f"[allow {action}]\nUser={os.getuid()}\nAction={action}\n" for action in ("connect", "resolve"))
        reach += "To=127.0.0.1 ::1\n"
        for rules, is_resolved, is_reached in ((reach, False, True), (resolve, True, False), (reach + resolve, True, True)):
            with open(self.rules, "w", encoding="utf-8") as file:
                file.write(rules)
            n_reloads = self.ask_json("status")["reloads"]
            self.daemon.process.send_signal(signal.SIGHUP)
            eventually(self, lambda n_reloads=n_reloads: self.ask_json("status")["reloads"] == n_reloads + 1)
            is_allowed = is_resolved and is_reached
            answer = self.ask_json("policy", "test", "--user", os.getuid(), "connect", "tcp", "localhost:1",
                                   status=DONE if is_allowed else FAILED)
            self.assertEqual(answer["allowed"], is_allowed)
            first, *others = answer["decisions"]
            self.assertEqual((first["action"], first["to"], first["allowed"]), ("resolve", "localhost", is_resolved))
            self.assertTrue(others)
            self.assertEqual({(item["action"], item["allowed"]) for item in others}, {("connect", is_reached)})
            self.assertTrue({item["to"] for item in others} <= {"127.0.0.1:1", "[::1]:1"})

    def test_for_a_person(self):
        said = self.ask("policy", "test", "--unit", "web.service", "connect", "tcp", "192.0.2.9:5432")
        self.assertTrue(said.startswith("allowed connect 192.0.2.9:5432: "), said)
        for format_of_programs in ((), ("--json",)):
            self.assertEqual(self.ask("policy", "test", "--unit", "x", "export", "--quiet", *format_of_programs,
                                      status=FAILED), "")

    def test_a_unit_by_its_short_name(self):
        self.check(True, "database", "--unit", "web", "connect", "tcp", "192.0.2.9:5432")
        self.check(False, None, "--unit", "web.socket", "connect", "tcp", "192.0.2.9:5432")

    def test_where_nobody_decides_nothing_is_allowed_or_denied(self):
        asked = "policy", "test", "--unit", "x", "export", "--json"
        self.assertEqual(frame.json.loads(self.run_ctl(*asked, "--admin", "/nowhere/s", status=LOST)[0]),
                         {"allowed": None, "decisions": []})

    def test_it_is_the_policy_in_force(self):
        asked = "--unit", "web.service", "connect", "tcp", "192.0.2.9:5432"
        self.check(True, "database", *asked)
        with open(self.rules, "w", encoding="utf-8") as file:
            file.write(RULES.replace("[allow database]", "[deny database]"))
        self.check(True, "database", *asked)
        self.daemon.process.send_signal(signal.SIGHUP)
        eventually(self, lambda: self.ask_json("status")["reloads"] == 1)
        self.check(False, "database", *asked)

    def test_what_the_daemon_does_is_what_it_says(self):
        """The same decision for a client that is there: rules for user and groups of this process."""
        with open(self.rules, "w", encoding="utf-8") as file:
            file.write(f"[allow one]\nUser={os.getuid()}\nAction=connect\nTo=127.0.0.1\nPort=1-2\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        eventually(self, lambda: self.ask_json("status")["reloads"] == 1)
        session = self.open()
        for port, is_allowed in ((1, True), (3, False)):
            answer = self.ask_json("policy", "test", "--user", os.getuid(), "connect", "tcp", f"127.0.0.1:{port}",
                                   status=DONE if is_allowed else FAILED)
            self.assertEqual(answer["allowed"], is_allowed)
            with self.assertRaises(overlap.OverlapError) as caught:
                session.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", port)).finish(frame.PATIENCE_S)
            self.assertEqual(caught.exception.errno, 111 if is_allowed else 13)
        now = self.ask_json("status")
        self.assertGreaterEqual(now["policy_allowed"], 1)
        self.assertGreaterEqual(now["policy_denied"], 1)

    def test_what_is_no_question(self):
        for said, arguments in {
                "of whom": ("connect", "tcp", "192.0.2.1:1"),
                "--user 'nobody-of-this-name'": ("--user", "nobody-of-this-name", "export"),
                "--group 'nobody-of-this-name'": ("--group", "nobody-of-this-name", "export"),
                "action 'fly'": ("--unit", "x", "fly", "tcp", "192.0.2.1:1"),
                "protocol 'sctp'": ("--unit", "x", "connect", "sctp", "192.0.2.1:1"),
                "HOST:PORT": ("--unit", "x", "connect", "tcp", "192.0.2.1"),
                "in brackets": ("--unit", "x", "connect", "tcp", "2001:db8::1:80"),
                "port http-of-old": ("--unit", "x", "connect", "tcp", "192.0.2.1:http-of-old"),
                "port 65536: must be": ("--unit", "x", "connect", "tcp", "192.0.2.1:65536"),
                "port 4294967376: must be": ("--unit", "x", "connect", "tcp", "192.0.2.1:4294967376"),
                "port -1: must be": ("--unit", "x", "connect", "tcp", "192.0.2.1:-1"),
                "port +80: must be": ("--unit", "x", "connect", "tcp", "192.0.2.1:+80"),
                "port  80: must be": ("--unit", "x", "connect", "tcp", "192.0.2.1: 80"),
                "*:80: goes with listen": ("--unit", "x", "connect", "tcp", "*:80"),
                "--unit '': must be the name of a unit": ("--unit", "", "export"),
                "--unit 'a/b': must be the name of a unit": ("--unit", "a/b", "export"),
                "has 264 bytes, and no unit has more than 255": ("--unit", "u" * 256, "export"),
                "--user '': there is no such user": ("--user", "", "export"),
                "must fit into 16384 bytes": ("--cgroup", "/" + "c" * 16384, "export"),
                "absolute path": ("--unit", "x", "connect", "unix", "relative"),
                "sendto goes with": ("--unit", "x", "sendto", "tcp", "192.0.2.1:1"),
                "export goes with nothing": ("--unit", "x", "export", "everything"),
                "must be a host name": ("--unit", "x", "resolve", "no host name"),
                "unknown option '--nit'": ("--nit", "x", "export"),
                "--unit needs a value": ("--unit",),
        }.items():
            self.assertIn(said, self.refused("policy", "test", *arguments, status=USAGE))


class Metrics(frame.Case):
    """overlapctl metrics."""

    def test_a_strict_reader_takes_them(self):
        session = self.open()
        mine, other = self.connect(session)
        other.sendall(b"x" * 1234)
        mine.recv(1234).finish(frame.PATIENCE_S)
        families = openmetrics.read(self.ask("metrics"))
        worker = (("worker", "0"),)
        self.assertEqual(families["overlapd_received_bytes"].samples[worker], 1234)
        self.assertEqual(families["overlapd_received_bytes"].type, "counter")
        self.assertEqual(families["overlapd_received_bytes"].unit, "bytes")
        self.assertEqual(families["overlapd_sessions"].samples[worker], 1)
        self.assertEqual(families["overlapd_sessions"].type, "gauge")
        self.assertEqual(families["overlapd_serving"].samples[()], 1)
        self.assertGreater(families["overlapd_uptime_seconds"].samples[()], 0)
        self.assertTrue(all(one.help and one.type for one in families.values()))
        self.assertTrue(all(one.samples for one in families.values()))
        info = dict(next(iter(families["overlapd_worker"].samples)))
        self.assertEqual(info["engine"], ENGINE)

    def test_counters_only_grow(self):
        session = self.open()
        before = openmetrics.read(self.ask("metrics"))
        session.socket(socket.AF_INET, socket.SOCK_STREAM).close()
        after = openmetrics.read(self.ask("metrics"))
        for name, one in before.items():
            if one.type == "counter":
                for key, value in one.samples.items():
                    self.assertGreaterEqual(after[name].samples[key], value, name)

    def test_the_reader_is_strict(self):
        right = "# TYPE a counter\n# HELP a Some.\na_total 1\n# EOF\n"
        openmetrics.read(right)
        for wrong in (right[:-1], right.replace("# EOF\n", ""), right.replace("a_total", "a"),
                      right.replace("a_total 1", "a_total 1\na_total 1"), right.replace("_total 1", "_total -1"),
                      right.replace("# HELP", "# TYPE a counter\n# HELP"), right.replace("a_total 1", "\na_total 1"),
                      right.replace("# HELP", "# UNIT a seconds\n# HELP"), "b 1\n" + right,
                      right.replace("a_total 1", 'a_total{x="y",x="y"} 1'), right.replace("a_total 1", "a_total one"),
                      right.replace("# EOF", "# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF")):
            with self.assertRaises(openmetrics.Broken):
                openmetrics.read(wrong)


class Config(frame.Case):
    """overlapctl config cat."""

    def daemon_arguments(self):
        self.settings = self.file("overlapd.conf", "# mine\n[Daemon]\n\nWorkers=1\nPollMicroseconds=7\n"
                                  "[User]\nMemory=3M\nConnectsPerSecond=unlimited\n[Unit web.service]\nSockets=12\n")
        return "--config", self.settings

    def test_where_each_value_is_from(self):
        found = {item["name"]: item for item in self.ask_json("config", "cat")["settings"]}
        self.assertEqual((found["PollMicroseconds"]["value"], found["PollMicroseconds"]["from"]),
                         ("7", f"{self.settings}:5"))
        self.assertEqual(found["Workers"]["from"], f"{self.settings}:4")
        self.assertEqual((found["Socket"]["value"], found["Socket"]["from"]), (self.daemon.path, "command line"))
        self.assertEqual(found["Engine"]["from"], "command line")
        self.assertEqual((found["Policy"]["value"], found["Policy"]["from"]), ("own", "because of --socket"))

    def test_quotas_and_where_they_are_from(self):
        found = {(item["section"], item["name"]): (item["value"], item["from"])
                 for item in self.ask_json("config", "cat")["settings"]}
        self.assertEqual(found["User", "Memory"], ("3M", f"{self.settings}:7"))
        self.assertEqual(found["User", "ConnectsPerSecond"], ("unlimited", f"{self.settings}:8"))
        self.assertEqual(found["Unit web.service", "Sockets"], ("12", f"{self.settings}:10"))
        self.assertEqual(found["User", "Sockets"], ("4096", "default"))
        self.assertEqual(found["Session", "Memory"], ("256M", "default"))
        self.assertEqual(found["Unit", "Operations"], ("unlimited", "default"))
        self.assertNotIn(("Unit web.service", "Memory"), found)
        with open(self.settings, "a", encoding="utf-8") as file:
            file.write("[Worker]\nFiles=77\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        eventually(self, lambda: self.ask_json("status")["reloads"] == 1)
        found = {(item["section"], item["name"]): (item["value"], item["from"])
                 for item in self.ask_json("config", "cat")["settings"]}
        self.assertEqual(found["Worker", "Files"], ("77", f"{self.settings}:12"))

    def test_it_can_be_read_again(self):
        """What is printed is a file of settings, with remarks."""
        said = self.ask("config", "cat")
        self.assertTrue(said.startswith("[Daemon]\n"))
        settings = [line.split(" #")[0].rstrip() for line in said.splitlines()]
        copy = self.file("again.conf", "\n".join(settings) + "\n")
        done = subprocess.run([os.environ["OVL_TEST_OVERLAPD"], "--check-config", "--config", copy],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "OK\n"))


class Errors(frame.Case):
    """What overlapctl says when it cannot."""

    def test_the_command_line(self):
        for said, arguments in {
                "Name a verb": (),
                "unknown verb 'stats'": ("stats",),
                "unknown option '--loud'": ("--loud", "status"),
                "--admin needs a path": ("status", "--admin"),
                "--admin= needs a path": ("status", "--admin="),
                "--socket needs a path": ("--socket", "", "status"),
                "unexpected argument 'now'": ("status", "now"),
                "unknown option '-x'": ("ping", "-xc", "1"),
                "top: unknown option '-x'": ("top", "--batch", "-xb"),
                "--batch=3: this option takes no value": ("top", "--batch=3"),
                "--own=yes: this option takes no value": ("log", "--own=yes"),
                "log: -n needs a value": ("log", "-n"),
                "unknown option '--loud' of status": ("status", "--loud"),
                "list: what?": ("list",),
                "list cars": ("list", "cars"),
                "one kind at a time": ("list", "ops", "ports"),
                "--session xyz": ("list", "ops", "--session", "xyz"),
                "--session  1": ("list", "ops", "--session", " 1"),
                "--unit ''": ("list", "ops", "--unit", ""),
                "--limit 0": ("list", "ops", "--limit", "0"),
                "--user 'nobody-of-this-name'": ("list", "ops", "--user", "nobody-of-this-name"),
                "config: what?": ("config",),
                "policy: what?": ("policy",),
        }.items():
            complaint = self.refused(*arguments, status=USAGE)
            self.assertIn(said.removesuffix(" of status"), complaint)
            self.assertIn("--help", complaint)

    def test_help_and_version(self):
        self.assertRegex(self.ask("--version"), r"^overlapctl \d+\.\d+\.\d+\n$")
        help_text = self.ask("--help")
        for verb in ("status", "list", "policy", "metrics", "config"):
            self.assertIn(f"  {verb} ", help_text)
            self.assertIn(f"Usage: overlapctl {verb}", self.ask(verb, "--help"))

    def test_no_daemon(self):
        place = self.folder()
        said = self.run_ctl("status", daemon=f"{place}/overlapd.sock", status=LOST)[1]
        self.assertIn(f"{place}/admin.sock: overlapd is not running", said)
        self.assertIn("systemctl start", said)
        self.daemon.kill()
        said = self.run_ctl("status", status=LOST)[1]
        self.assertIn("nobody listens there any more", said)

    def test_what_is_no_socket(self):
        for path in ("/etc/passwd", "/tmp"):
            self.assertIn(f"{path}: is no socket", self.refused("status", "--admin", path, status=LOST))

    def test_somebody_else_listens(self):
        path = f"{self.folder()}/s"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()

            def answer(bytes_of_his):
                connection, _ = other.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(bytes_of_his)

            for bytes_of_his, said in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not overlapd"),
                                       (frame.frame(b"\xff" * 20), "is not overlapd"), (b"", "ended")):
                task = self.thread(answer, bytes_of_his)
                self.assertIn(said, self.refused("status", "--admin", path, status=LOST))
                task.join()
            # The first says that it is the last, and nothing else.
            task = self.thread(answer, frame.frame(b"\x18\x01"))
            self.assertIn("says nothing of itself", self.refused("status", "--admin", path, status=LOST))
            task.join()
            # A session, socket, op, port, thread and quota with nothing in it: the numbers are those of admin.proto.
            for kind, field in (("sessions", 6), ("sockets", 7), ("ops", 8), ("ports", 9), ("threads", 10), ("quotas", 13)):
                for options in ((), ("--json",)):
                    task = self.thread(answer, frame.frame(bytes([field << 3 | 2, 0])) + frame.frame(b"\x18\x01"))
                    self.assertIn("0", self.run_ctl("list", kind, "--admin", path, *options)[0])
                    task.join()

    def test_nobody_takes_the_connection(self):
        """As where a daemon was stopped for long: whoever watches it does not hang for ever."""
        path = f"{self.folder()}/s"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen(0)
            waiting = []
            while len(waiting) < 100:
                one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self.addCleanup(one.close)
                waiting.append(one)
                if one.connect_ex(path) != 0:
                    break
            self.assertIn("as many wait as may", self.refused("status", "--admin", path, status=LOST))

    def test_standard_descriptors_that_are_closed(self):
        """What is printed and complained of does not go to the daemon, in place of a question."""
        line = ('"$0" top --batch -n 2 -d 0.1 >&- 2>"$1/said"; echo $? >"$1/top"; '
                '"$0" status --admin /nowhere/s <&- >&- 2>&-; echo $? >"$1/status"; "$0" ping -c 1 >&- 2>&-; '
                'echo $? >"$1/ping"')
        place = self.folder()
        subprocess.run(["sh", "-c", line, frame.CTL, place], check=True, timeout=frame.PATIENCE_S,
                       env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path})
        said = {}
        for name in ("said", "top", "status", "ping"):
            with open(f"{place}/{name}", encoding="utf-8") as file:
                said[name] = file.read()
        self.assertEqual((said["top"], said["status"], said["ping"]), (f"{FAILED}\n", f"{LOST}\n", f"{FAILED}\n"))
        self.assertEqual(said["said"], "overlapctl: standard output: Bad file descriptor\n")
        self.assertNotIn("refused", self.daemon.log())

    def test_standard_output_that_is_full(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([frame.CTL, "status"], stdout=full, stderr=subprocess.PIPE, check=False, text=True,
                                  env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path})
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("No space left", done.stderr)


frame.main()
