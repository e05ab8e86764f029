#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlapctl top: who moves how much, as tables and on a terminal (which is tmux's). TAP."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import stage
import tool
from tool import DONE, LOST, USAGE

SORTS = ["bytes", "ops", "received", "sent", "sockets", "in-flight", "age"]


class Terminal:
    """overlapctl on a terminal of its own."""

    def __init__(self, folder, *arguments, width=120, height=20, term="screen"):
        self.base = ["tmux", "-L", "top", "-f", "/dev/null"]
        self.env = os.environ | {"TMUX_TMPDIR": folder, "TERM": "screen", "LC_ALL": "C.UTF-8"}
        self.ended = f"{folder}/ended"
        command = " ".join(f"'{word}'" for word in [tool.CTL, *map(str, arguments)])
        self.tmux("new-session", "-d", "-x", width, "-y", height,
                  f"env TERM={term} {command} 2>{folder}/said; echo $? >{self.ended}; exec cat")

    def tmux(self, *arguments):
        return subprocess.run([*self.base, *map(str, arguments)], env=self.env, stdout=subprocess.PIPE, text=True,
                              check=True).stdout

    def lines(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def shows(self, case, pattern):
        """Waits until a line matches. Returns the screen."""
        seen = []

        def look():
            seen[:] = self.lines()
            return any(re.search(pattern, line) for line in seen)

        try:
            stage.eventually(case, look)
        except AssertionError as error:
            raise AssertionError(f"nothing matches {pattern!r}:\n" + "\n".join(seen)) from error
        return seen

    def status(self, case):
        stage.eventually(case, lambda: os.path.exists(self.ended) and os.path.getsize(self.ended) > 0)
        with open(self.ended, encoding="ascii") as file:
            return int(file.read())

    def close(self):
        subprocess.run([*self.base, "kill-server"], env=self.env, stderr=subprocess.DEVNULL, check=False)


class Top(tool.Case):
    """Sessions that move data."""

    def mover(self, size):
        """A session that goes on sending so many bytes, until the case ends."""
        session = self.open()
        mine, other = self.connect(session)
        is_over = threading.Event()

        def move():
            data, thread = bytes(size), session.thread_open()
            while not is_over.is_set():
                mine.send(data).finish(stage.PATIENCE_S)
                left = size
                while left:
                    left -= len(other.recv(left))
            thread.close()

        task = self.thread(move)

        def end():
            is_over.set()
            task.join()

        self.addCleanup(end)
        return session

    def batch(self, *arguments, **options):
        return self.ctl("top", "--batch", "--json", "-d", "0.2", *arguments, **options).lines()

    # --- Tables

    def test_rates_are_differences(self):
        session = self.mover(3000)
        samples = self.batch("-n", "4")
        self.assertEqual(len(samples), 4)
        for sample in samples:
            self.assertEqual((sample["version"], sample["state"], sample["complete"]), (samples[0]["version"], "serving", True))
            self.assertGreaterEqual(sample["interval_ns"], 200_000_000)
            self.assertEqual(len(sample["sessions"]), 1)
            row = sample["sessions"][0]
            self.assertEqual((row["pid"], row["uid"], row["state"]), (os.getpid(), os.getuid(), "open"))
            self.assertEqual(row["session"], f"{session.number:016x}")
            self.assertEqual(row["sockets"], 1)
            self.assertGreater(sample["sent_per_s"], 0)
        for before, after in zip(samples, samples[1:]):
            seconds = after["interval_ns"] / 1e9
            old, new = before["sessions"][0], after["sessions"][0]
            for total, rate in (("entries", "ops_per_s"), ("bytes_sent", "sent_per_s"), ("bytes_received", "received_per_s")):
                self.assertAlmostEqual(new[rate] * seconds, new[total] - old[total], delta=1 + seconds)
            self.assertGreater(new["ops_per_s"], 0)
            # One may have been taken and not be done yet, at either look.
            self.assertAlmostEqual(new["sent_per_s"] * seconds, new["ops_per_s"] * seconds * 3000, delta=4 * 3000)

    def test_the_greatest_first(self):
        sessions = [self.open() for _ in range(4)]
        sockets = [[session.socket(2, 1) for _ in range(index)] for index, session in enumerate(sessions)]
        rows = self.batch("-n", "1", "-o", "sockets")[0]["sessions"]
        self.assertEqual([row["sockets"] for row in rows], [3, 2, 1, 0])
        self.assertEqual([row["session"] for row in rows], [f"{session.number:016x}" for session in reversed(sessions)])
        rows = self.batch("-n", "1", "--sort=age")[0]["sessions"]
        self.assertEqual([row["session"] for row in rows], [f"{session.number:016x}" for session in sessions])
        busy = self.mover(500)
        for sort in SORTS[:4:3] + ["ops"]:
            self.assertEqual(self.batch("-n", "1", "-o", sort)[0]["sessions"][0]["session"], f"{busy.number:016x}", sort)
        del sockets

    def test_a_session_that_is_new(self):
        """What it did since it began is its first rate."""
        program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "top", "--batch", "--json", "-d", "0.1"],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (program.kill(), program.wait(), program.stdout.close()))
        self.assertEqual(tool.json.loads(program.stdout.readline())["sessions"], [])
        self.mover(1000)
        while not (rows := tool.json.loads(program.stdout.readline())["sessions"]) or not rows[0]["entries"]:
            pass
        if rows[0]["age_ns"] < 100_000_000:
            self.assertAlmostEqual(rows[0]["ops_per_s"], rows[0]["entries"] / (rows[0]["age_ns"] / 1e9), delta=1)
        self.assertGreater(rows[0]["ops_per_s"], 0)

    def test_tables_for_people(self):
        session = self.mover(1000)
        text = self.ctl("top", "-b", "-n", "2", "-d", "0.1").out
        lines = text.splitlines()
        self.assertEqual([bool(line) for line in lines], [True, True, True, False] * 2)
        self.assertRegex(lines[0], r"^overlapd \S+ serving: 1 sessions, 1 sockets, \d+ operations in flight; \d+ ops/s, "
                                   r"\S+/s received, \S+/s sent$")
        self.assertEqual(lines[1].split(), "SESSION PID USER UNIT STATE AGE SOCKETS IN FLIGHT OPS/S RECEIVED/S SENT/S".split())
        self.assertEqual(lines[2].split()[:2], [f"{session.number:016x}", str(os.getpid())])
        self.assertEqual(self.ctl("--quiet", "top", "-b", "-n", "1", "-d", "0.1").out, "")

    def kill_worker(self):
        worker = tool.run("--socket", self.daemon.path, "ping", "-c", "1", "--json").json()["worker_pid"]
        os.kill(worker, signal.SIGKILL)

    def test_a_worker_that_dies(self):
        """Its successor counts anew, and no rate becomes negative."""
        self.ctl("ping", "-c", "1000", "--quiet")
        program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "top", "--batch", "--json", "-d", "0.1"],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (program.kill(), program.wait(), program.stdout.close()))
        tool.json.loads(program.stdout.readline())
        self.kill_worker()
        for _ in range(15):
            sample = tool.json.loads(program.stdout.readline())
            for name in ("ops_per_s", "received_per_s", "sent_per_s"):
                self.assertGreaterEqual(sample[name], 0)
                self.assertLess(sample[name], 1e9)
        self.assertIsNone(program.poll())

    def test_a_worker_that_hangs(self):
        """What is missing is said, it goes on, and what was done before is done in no second."""
        session = self.open()
        mine, other = self.connect(session)
        for _ in range(64):
            mine.send(bytes(1 << 16))
            other.recv(1 << 16, socket.MSG_WAITALL)
        worker = tool.run("--socket", self.daemon.path, "ping", "-c", "1", "--json").json()["worker_pid"]
        program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "top", "--batch", "--json", "-d", "0.1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (program.kill(), program.wait(), program.stdout.close(), program.stderr.close()))
        sample = tool.json.loads(program.stdout.readline())
        self.assertTrue(sample["complete"])
        os.kill(worker, signal.SIGSTOP)
        while sample["complete"]:
            sample = tool.json.loads(program.stdout.readline())
        self.assertIn(f"what worker 0 (process {worker}) has is missing", program.stderr.readline())
        os.kill(worker, signal.SIGCONT)
        while not sample["complete"]:
            sample = tool.json.loads(program.stdout.readline())
        for _ in range(3):
            self.assertEqual((sample["sent_per_s"], sample["sessions"][0]["bytes_sent"]), (0, 64 << 16))
            sample = tool.json.loads(program.stdout.readline())
        self.assertIsNone(program.poll())

    def test_a_daemon_that_ends(self):
        program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "top", "--batch", "-d", "0.1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while " serving: " not in (line := program.stdout.readline()):
            self.assertTrue(line)  # its worker may not be ready yet
        self.daemon.kill()
        _, said = program.communicate(timeout=tool.PATIENCE_S)
        self.assertEqual(program.returncode, LOST)
        self.assertIn("overlapctl: overlapd ended", said)

    def test_nobody_is_there(self):
        for arguments in (["--batch"], ["--batch", "--json"]):
            done = tool.run("--socket", "/nowhere/s", "top", *arguments)
            self.assertEqual((done.status, done.out), (LOST, ""))
            self.assertIn("/nowhere/s.admin: overlapd is not running", done.said)

    def test_a_command_line_that_is_wrong(self):
        for arguments, words in (
                (["-n", "0", "-b"], "-n 0: must be a number from 1 to"),
                (["-n", "x", "-b"], "-n x: must be"),
                (["-d", "0.05"], "-d 0.05: must be a number of seconds from 0.1 to 3600"),
                (["-d", "nan"], "-d nan: must be"),
                (["-d", "3601"], "-d 3601: must be"),
                (["-o", "luck"], "-o luck: must be bytes, ops, received, sent, sockets, in-flight or age"),
                (["-n", "2"], "--iterations has a meaning only with --batch"),
                (["--json"], "--json has a meaning only with --batch"),
                (["-o"], "-o needs a value"),
                (["-x"], "unknown option '-x'"),
                (["more"], "unexpected argument 'more'"),
                ([], "standard input and output must be a terminal: use --batch")):
            with self.subTest(arguments):
                done = self.ctl("top", *arguments, status=USAGE)
                self.assertIn(words, done.said)
                self.assertIn("Try 'overlapctl top --help'", done.said)

    # --- A terminal

    def terminal(self, *arguments, **options):
        if not shutil.which("tmux"):
            self.skipTest("there is no tmux")
        folder = tempfile.mkdtemp(prefix="overlapctl-")
        self.addCleanup(shutil.rmtree, folder)
        terminal = Terminal(folder, "--socket", self.daemon.path, "top", "-d", "0.1", *arguments, **options)
        self.addCleanup(terminal.close)
        return terminal

    def said(self, terminal):
        with open(f"{os.path.dirname(terminal.ended)}/said", encoding="utf-8") as file:
            return file.read()

    def test_a_screen(self):
        session = self.mover(2000)
        terminal = self.terminal()
        number = f"{session.number:016x}"
        terminal.shows(self, r"^sessions 1 .* [1-9]\d* ops/s ")
        lines = terminal.shows(self, number + rf" +{os.getpid()} .* open +1 +\d+ +[1-9]\d* +\S+ +[1-9]\S*$")
        self.assertRegex(lines[0], r"^overlapd \S+  serving  up \S+.*  engine (uring|epoll)  workers 1 of 1$")
        self.assertRegex(lines[1], r"^sessions 1  sockets 1  in flight \d+  [1-9]\d* ops/s  received \S+/s  sent \S+/s$")
        self.assertEqual(lines[2], "sorted by bytes   (h: help)")
        self.assertEqual(lines[4].split(), "SESSION PID USER UNIT STATE SOCKS FLIGHT OPS/S RECV/S SENT/S".split())
        terminal.keys("q")
        self.assertEqual(terminal.status(self), DONE)
        self.assertEqual(self.said(terminal), "")

    def test_keys(self):
        terminal = self.terminal()
        for sort in SORTS[1:] + SORTS[:1]:
            terminal.keys("s")
            terminal.shows(self, rf"^sorted by {sort}   ")
        terminal.keys("h")
        terminal.shows(self, "^  q +end$")
        terminal.keys("?")
        stage.eventually(self, lambda: not any(re.match("  q +end$", line) for line in terminal.lines()))
        terminal.keys("x", "Left", "0")
        terminal.keys("p")
        terminal.shows(self, "^paused, sorted by bytes")
        session = self.open()
        number = f"{session.number:016x}"
        terminal.keys("Space")
        terminal.shows(self, number)
        terminal.keys("p")
        terminal.shows(self, "^sorted by bytes")
        session.close()
        stage.eventually(self, lambda: not any(number in line for line in terminal.lines()))
        terminal.keys("Q")
        self.assertEqual(terminal.status(self), DONE)

    def test_what_is_paused_stands_still(self):
        terminal = self.terminal()
        terminal.shows(self, "^sessions 0 ")
        terminal.keys("p")
        terminal.shows(self, "^paused")
        before = terminal.lines()
        self.open()
        self.assertEqual(self.batch("-n", "2")[1]["sessions"][0]["pid"], os.getpid())
        self.assertEqual(terminal.lines(), before)

    def test_more_sessions_than_lines(self):
        sessions = sorted((self.open() for _ in range(12)), key=lambda session: session.number)
        numbers = [f"{session.number:016x}" for session in sessions]
        terminal = self.terminal("-o", "sockets", height=10)

        def shown():
            return [line.split()[0] for line in terminal.lines()[5:] if line]

        terminal.shows(self, numbers[0])
        n_rows = len(shown())
        self.assertIn(n_rows, (4, 5))
        self.assertEqual(shown(), numbers[:n_rows])
        terminal.keys("Down")
        stage.eventually(self, lambda: shown() == numbers[1:n_rows + 1])
        terminal.keys("NPage")
        stage.eventually(self, lambda: shown() == numbers[n_rows + 1:2 * n_rows + 1])
        terminal.keys("NPage", "NPage", "NPage")
        stage.eventually(self, lambda: shown() == numbers[-n_rows:])
        terminal.keys("Up")
        stage.eventually(self, lambda: shown() == numbers[-n_rows - 1:-1])
        terminal.keys("PPage")
        stage.eventually(self, lambda: shown() == numbers[-2 * n_rows - 1:-n_rows - 1])
        terminal.keys("Home")
        stage.eventually(self, lambda: shown() == numbers[:n_rows])
        for session in sessions[1:]:
            session.close()
        stage.eventually(self, lambda: shown() == numbers[:1])

    def test_the_size_changes(self):
        self.mover(100)
        terminal = self.terminal()
        terminal.shows(self, "SENT/S$")
        for width, height in ((60, 12), (20, 4), (5, 2), (1, 1), (200, 50), (120, 20)):
            terminal.tmux("resize-window", "-x", width, "-y", height)
            stage.eventually(self, lambda width=width: terminal.lines() and
                             terminal.lines()[0].startswith("overlapd"[:width - 1]))
            self.assertFalse(os.path.exists(terminal.ended), self.said(terminal))
        terminal.shows(self, "SENT/S$")
        terminal.keys("q")
        self.assertEqual(terminal.status(self), DONE)

    def test_the_daemon_comes_and_goes(self):
        """The last numbers stay, the reason is told, and it goes on by itself."""
        terminal = self.terminal()
        terminal.shows(self, "^overlapd .*  serving  ")
        self.daemon.kill()
        lines = terminal.shows(self, "overlapd (has )?ended|is not running|nobody listens")
        self.assertRegex(lines[0], "^overlapd .* serving")
        self.daemon.start()
        terminal.shows(self, "^sorted by bytes")
        self.open()
        terminal.shows(self, rf" {os.getpid()} ")
        terminal.keys("q")
        self.assertEqual(terminal.status(self), DONE)
        self.assertEqual(self.said(terminal), "")

    def test_a_terminal_that_nobody_knows(self):
        terminal = self.terminal(term="of-no-kind")
        self.assertEqual(terminal.status(self), USAGE)
        self.assertIn("the terminal 'of-no-kind' is not known here (TERM): use --batch", self.said(terminal))

    def test_a_terminal_without_a_screen(self):
        terminal = self.terminal(term="dumb")
        self.assertEqual(terminal.status(self), USAGE)
        self.assertIn("the terminal 'dumb' cannot move its cursor (TERM): use --batch", self.said(terminal))

    def test_a_terminal_that_is_taken_away(self):
        """From a program that was told to survive it, as by nohup."""
        for is_paused in (False, True):
            outer, inner = pty.openpty()
            program = subprocess.Popen([tool.CTL, "--socket", self.daemon.path, "top", "-d", "3600"], stdin=inner,
                                       stdout=inner, stderr=subprocess.DEVNULL, env=os.environ | {"TERM": "vt100"},
                                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
            self.addCleanup(lambda program=program: (program.kill(), program.wait()))
            os.close(inner)
            wanted, seen = b"sorted by bytes", b""
            while wanted not in seen:
                seen += os.read(outer, 4096)
                if is_paused and b"sorted by bytes" in seen and wanted == b"sorted by bytes":
                    os.write(outer, b"p")
                    wanted = b"paused"
            os.close(outer)
            self.assertEqual(program.wait(tool.PATIENCE_S), DONE)

    def test_no_daemon_and_no_screen(self):
        self.daemon.stop()
        os.mkdir(self.daemon.folder)
        terminal = self.terminal()
        self.assertEqual(terminal.status(self), LOST)
        self.assertIn("overlapd is not running", self.said(terminal))

    def test_it_is_ended_from_outside(self):
        """The terminal is as it was."""
        terminal = self.terminal()
        terminal.shows(self, "^sorted by")
        terminal.keys("C-c")
        terminal.status(self)
        stage.eventually(self, lambda: not any("sorted by" in line for line in terminal.lines()))


if __name__ == "__main__":
    tool.main()
