#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlapctl ping: what it measures, and what it says where it cannot. TAP."""

import os
import signal
import socket
import subprocess
import tempfile

import tool
from tool import LOST, USAGE

FIGURES = ["min_us", "p50_us", "p90_us", "p99_us", "max_us"]


class Ping(tool.Case):
    """What a round trip costs."""

    def check_figures(self, part, count):
        self.assertEqual(part["count"], count)
        figures = [part[name] for name in FIGURES]
        self.assertEqual(figures, sorted(figures))
        self.assertGreater(figures[0], 0)

    def test_each_way_is_measured(self):
        said = self.ctl("ping", "-c", "20", "--json").json()
        self.assertEqual(said["socket"], self.daemon.path)
        self.assertEqual(said["engine"], os.environ.get("OVL_TEST_ENGINE", "uring"))
        self.assertTrue(said["engine_reason"])
        self.assertEqual(said["level"], os.environ.get("OVERLAPD_LEVEL") or "ring")
        for way in ("control", "frame", "ring", "asleep"):
            self.check_figures(said[way], 20)
        self.assertAlmostEqual(said["wake_up_us"], said["asleep"]["p50_us"] - said["ring"]["p50_us"], delta=0.2)
        with open(f"/proc/{said['worker_pid']}/comm", encoding="ascii") as file:
            self.assertEqual(file.read(), "overlapd-worker\n")

    def test_from_sleep_fewer_are_counted(self):
        said = self.ctl("ping", "--count=150", "--json").json()
        self.assertEqual([said[way]["count"] for way in ("control", "frame", "ring", "asleep")], [150, 150, 150, 100])

    def test_a_table_for_people(self):
        lines = self.ctl("ping", "-c", "10").out.splitlines()
        self.assertIn(f"overlapd at {self.daemon.path}: engine ", lines[0])
        self.assertEqual(lines[2].split(), ["ROUND", "TRIP", "COUNT", "MIN", "P50", "P90", "P99", "MAX"])
        self.assertEqual([line.split()[-6] for line in lines[3:7]], ["10"] * 4)

    def test_no_words_but_the_status(self):
        done = self.ctl("--quiet", "ping", "-c", "1")
        self.assertEqual((done.out, done.said), ("", ""))

    def test_the_pause_is_made(self):
        """Two round trips of each kind, 50 ms apart: the operations find the daemon asleep."""
        before = len(self.daemon.log().splitlines())
        self.ctl("ping", "-c", "2", "-i", "0.05", "--json")
        tool.eventually(self, lambda: len(self.daemon.log().splitlines()) >= before + 4)
        ended = [line for line in self.daemon.log().splitlines()[before:] if "session ended after" in line]
        for line in ended:
            self.assertGreater(float(line.split("session ended after ")[1].split(" s:")[0]), 0.1, line)

    def test_a_command_line_that_is_wrong(self):
        for arguments, words in (
                (["-c", "0"], "-c 0: must be a number from 1 to 1000000"),
                (["-c", "1000001"], "-c 1000001: must be"),
                (["-c", "12x"], "-c 12x: must be"),
                (["-c", ""], "-c : must be"),
                (["-c"], "-c needs a value"),
                (["-i", "-1"], "-i -1: must be a number of seconds from 0 to 3600"),
                (["-i", "nan"], "-i nan: must be"),
                (["-i", "3601"], "-i 3601: must be"),
                (["-x"], "unknown option '-x'"),
                (["there"], "unexpected argument 'there'")):
            with self.subTest(arguments):
                done = self.ctl("ping", *arguments, status=USAGE)
                self.assertIn(words, done.said)
                self.assertIn("Try 'overlapctl ping --help'", done.said)
                self.assertEqual(done.out, "")

    def test_nobody_is_there(self):
        done = tool.run("--socket", "/nowhere/at/all", "ping")
        self.assertEqual(done.status, LOST)
        self.assertIn("no overlapd at /nowhere/at/all", done.said)
        self.assertIn("overlapctl doctor", done.said)
        self.assertEqual(done.out, "")

    def test_a_path_that_no_socket_has(self):
        done = tool.run("--socket", "/" + "x" * 200, "ping")
        self.assertEqual(done.status, USAGE)
        self.assertIn("at most 107", done.said)

    def test_somebody_else_answers(self):
        with tempfile.TemporaryDirectory(prefix="overlapctl-") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/s")
            listener.listen()
            child = os.fork()
            if child == 0:
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(4096)
                os._exit(0)
            done = tool.run("--socket", f"{folder}/s", "ping")
            os.waitpid(child, 0)
        self.assertEqual(done.status, LOST)
        self.assertIn("overlapd sent what it must not", done.said)
        self.assertEqual(done.out, "")

    def test_a_daemon_that_stands_still(self):
        """It says so instead of waiting for ever."""
        self.ctl("ping", "-c", "1")
        with open(f"/proc/{self.daemon.process.pid}/task/{self.daemon.process.pid}/children", encoding="ascii") as file:
            processes = [self.daemon.process.pid, *map(int, file.read().split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            done = self.ctl("ping", "-c", "1", status=LOST)
        finally:
            for process in reversed(processes):
                os.kill(process, signal.SIGCONT)
        self.assertIn("within 10 s", done.said)

    def test_a_worker_that_stops_meanwhile(self):
        """A round trip that does not end is told, and ends the program."""
        worker = self.ctl("ping", "-c", "1", "--json").json()["worker_pid"]
        program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "ping", "-c", "1000000", "-i", "0.01"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            tool.eventually(self, lambda: [session for session in self.ctl("list", "sessions", "--json").json()["sessions"]
                                           if session["age_ns"] > 500_000_000])
            os.kill(worker, signal.SIGSTOP)
            _, said = program.communicate(timeout=tool.PATIENCE_S)
        finally:
            os.kill(worker, signal.SIGCONT)
            program.kill()
        self.assertEqual(program.returncode, LOST)
        self.assertIn("did not answer within 10 s: is it stopped", said)


if __name__ == "__main__":
    tool.main()
