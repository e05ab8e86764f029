# SPDX-License-Identifier: Apache-2.0
"""The frame of the Python client's tests: unittest's cases, each in a process of its own, told in TAP.

A case has a time limit, and the descriptors that its process has are counted before and after. It is the leader of a
process group that is killed when it has ended, so a case that dies leaves no daemon behind.
"""

import contextlib
import gc
import io
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

import overlap

SLOWNESS = int(os.environ.get("OVL_TEST_SLOWNESS", "1"))
LIMIT_S = 90 * SLOWNESS  # of a case
PATIENCE_S = 20 * SLOWNESS  # of one wait
OVERLAPD = os.environ.get("OVL_TEST_OVERLAPD", "")


class Daemon:
    """An overlapd with a socket in a directory of its own."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="overlapd-python-")
        self.path, self.arguments, self.process = f"{self.folder}/s", arguments, None
        self.start()

    def start(self):
        """Starts it, again, and waits until it accepts connections."""
        engine = os.environ.get("OVL_TEST_ENGINE", "uring")
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([OVERLAPD, "--socket", self.path, "--log", "stderr", "--engine", engine,
                                             *self.arguments], stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.connect(self.path)
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"overlapd does not serve: {self.log()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.005)

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8") as log:
            return log.read()

    def kill(self):
        """Kills it: a crash, for its clients."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self):
        """Ends it in order. Returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        shutil.rmtree(self.folder)
        return status


class Case(unittest.TestCase):
    """A case with a daemon. `level` is what its sessions ask for; a daemon that has not got it skips the case."""

    level = 1

    def setUp(self):
        if not OVERLAPD:
            self.fail("OVL_TEST_OVERLAPD does not name an overlapd: run this test through meson test")
        self.daemon = Daemon(*self.daemon_arguments())
        self.addCleanup(self._stop_daemon)
        if self.level == 0:
            try:
                overlap.Session(self.daemon.path, level=0).close()
            except overlap.OverlapError as error:
                if error.reason != overlap.Reason.VERSION:
                    raise
                self.skipTest(f"this daemon does not serve level 0: {error}")

    def daemon_arguments(self):
        """What the daemon of the case is started with besides."""
        return ()

    def policy_of(self, rules):
        """A directory with a file of rules, for the time of the case."""
        place = tempfile.mkdtemp(prefix="overlapd-python-policy-")
        self.addCleanup(shutil.rmtree, place)
        with open(f"{place}/rules.conf", "w", encoding="utf-8") as file:
            file.write(rules)
        return place

    def _stop_daemon(self):
        if self.daemon.process.returncode is None:
            self.assertEqual(self.daemon.stop(), 0, "overlapd did not end in order")
        else:
            shutil.rmtree(self.daemon.folder)

    def open(self, **options):
        """A session that ends with the case."""
        session = overlap.Session(self.daemon.path, level=self.level, **options)
        self.addCleanup(session.close)
        return session

    def served(self, function, *arguments, **options):
        """What a call returns; the case is skipped when the daemon says that it does not know the operation."""
        try:
            return function(*arguments, **options)
        except overlap.OverlapError as error:
            if error.reason in (overlap.Reason.UNKNOWN_OP, overlap.Reason.OP_NOT_FOR_SOCKET):
                self.skipTest(f"this daemon does not serve it: {error}")
            raise

    def refused(self, reason, function, *arguments, **options):
        """The error with which a call is refused, which has to have this reason."""
        with self.assertRaises(overlap.OverlapError) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.reason_name, reason.name, str(caught.exception))
        self.assertTrue(caught.exception.text)
        return caught.exception

    def listen(self, session, family=socket.AF_INET, backlog=128):
        """A listening socket of a session, and its address."""
        listener = session.socket(family, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listener.listen(backlog)
        return listener, listener.getsockname()

    def connect(self, session):
        """A socket of a session that is connected to one of the kernel."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            mine = session.socket(socket.AF_INET, socket.SOCK_STREAM)
            connecting = mine.connect(listener.getsockname())
            other, _ = listener.accept()
            other.settimeout(PATIENCE_S)
            self.addCleanup(other.close)
            connecting.finish(PATIENCE_S)
        return mine, other

    def thread(self, function, *arguments):
        """Runs a function in another thread; join() on what is returned raises what it raised, and returns its result."""
        return Task(function, *arguments)


def eventually(test, condition):
    """Waits until a condition that somebody else brings about is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        test.assertLess(time.monotonic(), deadline, "it did not come true in time")
        time.sleep(0.002)


class Task(threading.Thread):
    """A thread whose result can be had."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.function, self.arguments, self.result, self.error = function, arguments, None, None
        self.start()

    def run(self):
        try:
            self.result = self.function(*self.arguments)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def join(self, timeout=PATIENCE_S):
        super().join(timeout)
        if self.is_alive():
            raise TimeoutError(f"{self.function.__qualname__} has not ended in time")
        if self.error is not None:
            raise self.error
        return self.result


def descriptors():
    """What the process has open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def play(test):
    """Runs one case. Returns ('ok' | 'skip' | 'fail', why)."""
    before = descriptors()
    result = unittest.TestResult()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        test.run(result)
    for _, why in result.errors + result.failures:
        log = test.daemon.log() if hasattr(test, "daemon") and os.path.exists(f"{test.daemon.folder}/log") else ""
        return "fail", f"{why}\n{output.getvalue()}\n{log}"
    if result.skipped:
        return "skip", result.skipped[0][1]
    gc.collect()
    left = {fd: what for fd, what in descriptors().items() if fd not in before}
    # The directory that was listed is among them each time.
    left = {fd: what for fd, what in left.items() if not what.startswith("/proc/")}
    return ("fail", f"descriptors were left open: {left}") if left else ("ok", "")


def perform(test):
    """Runs one case in a process of its own. Returns as play()."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()
        signal.alarm(LIMIT_S)
        try:
            outcome = play(test)
        except BaseException:  # pylint: disable=broad-except
            outcome = "fail", traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if not raw:
        return "fail", f"the case ended with wait status {status:#x} (14: after {LIMIT_S} s)"
    return pickle.loads(raw)


def name_of(test):
    """What TAP calls a case: by its description, where that begins with the rules of docs/SEMANTICS.md that it proves."""
    if re.match(r"\d+\.\d+ ", described := test.shortDescription() or ""):
        return described
    return test.id().removeprefix("__main__.").replace(".test_", ": ").replace("_", " ")


def main():
    """Runs the cases of the program, or those that its arguments name."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    module = sys.modules["__main__"]
    cases = [case for suite in unittest.defaultTestLoader.loadTestsFromModule(module) for case in suite]
    if wanted := sys.argv[1:]:
        cases = [case for case in cases if any(name in case.id() for name in wanted)]
    print(f"1..{len(cases)}")
    n_failed = 0
    for number, case in enumerate(cases, 1):
        outcome, why = perform(case)
        name = name_of(case)
        n_failed += outcome == "fail"
        print(f"{'not ok' if outcome == 'fail' else 'ok'} {number} - {name}"
              f"{' # SKIP ' + why if outcome == 'skip' else ''}", flush=True)
        if outcome == "fail":
            print("# " + why.replace("\n", "\n# "), flush=True)
    sys.exit(1 if n_failed else 0)
