# SPDX-License-Identifier: Apache-2.0
"""The frame of overlap-nc's tests: the cases of tests/python/stage.py, and a running overlap-nc."""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import stage
from stage import PATIENCE_S, eventually, main  # what the tests use

__all__ = ["PATIENCE_S", "Case", "Nc", "eventually", "main"]

NC = os.environ.get("OVL_TEST_NC", "")

# Of overlap-nc, as its manual page has them.
DONE, FAILED, USAGE, LOST = range(4)


def noise(seed, size):
    """Bytes that nobody confuses with others."""
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read_all(connection):
    """What comes to the end of the stream."""
    back = bytearray()
    while piece := connection.recv(1 << 16):
        back += piece
    return bytes(back)


def reset(connection):
    """Closes with a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Nc:
    """An overlap-nc with pipes for its standard descriptors; what it says goes into a file."""

    def __init__(self, daemon, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, prefix=(), **options):
        self.said_file = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        options["env"] = os.environ | {"OVERLAPD_SOCKET": daemon} | options.pop("env", {})
        self.process = subprocess.Popen([*prefix, NC, *map(str, arguments)], stdin=stdin, stdout=stdout, bufsize=0,
                                        stderr=self.said_file, **options)
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def said(self):
        self.said_file.seek(0)
        return self.said_file.read().decode()

    def wait(self, status=DONE):
        """Waits for its end. Returns what it said."""
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it does not end; it said: {self.said()}") from error
        assert self.process.returncode == status, f"exit status {self.process.returncode}, not {status}: {self.said()}"
        return self.said()

    def read(self):
        """What it writes to the end of its standard output."""
        back = bytearray()
        while piece := os.read(self.stdout.fileno(), 1 << 16):
            back += piece
        return bytes(back)

    def read_exactly(self, size):
        back = bytearray()
        while len(back) < size:
            piece = os.read(self.stdout.fileno(), size - len(back))
            assert piece, f"it ended its output after {len(back)} of {size} bytes: {self.said()}"
            back += piece
        return bytes(back)

    def write(self, data):
        """Everything, however long it takes."""
        view = memoryview(data)
        while view:
            view = view[self.stdin.write(view):]

    def close(self):
        for pipe in (self.stdin, self.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self.said_file.close()


class Case(stage.Case):
    """A case with a daemon, in which any number of overlap-nc run."""

    def localhost_for_all(self):
        """Arguments of a daemon that lets everybody connect to localhost, from whatever network namespace."""
        return "--policy", self.policy_of("[allow localhost]\nCgroup=/\nAction=connect resolve\nTo=localhost\n")

    def policy_of(self, rules):
        """A directory with a file of rules, for the time of the case."""
        place = tempfile.mkdtemp(prefix="overlap-nc-policy-")
        self.addCleanup(shutil.rmtree, place)
        with open(f"{place}/rules.conf", "w", encoding="utf-8") as file:
            file.write(rules)
        return place

    def nc(self, *arguments, **options):
        """An overlap-nc that ends with the case."""
        if not NC:
            self.fail("OVL_TEST_NC does not name an overlap-nc: run this test through meson test")
        program = Nc(self.daemon.path, *arguments, **options)
        self.addCleanup(program.close)
        return program

    def run_nc(self, *arguments, status=DONE, **options):
        """Runs one to its end without input. Returns what it said."""
        return self.nc(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options).wait(status)

    def listening(self, program):
        """Waits until an overlap-nc with -v listens. Returns where, as it says."""
        found = []

        def look():
            found[:] = re.findall(r"listening at (.*)\n", program.said())
            return found or program.process.poll() is not None

        eventually(self, look)
        self.assertTrue(found, program.said())
        return found[0]

    def port_of(self, program):
        return int(self.listening(program).rsplit(":", 1)[1])

    def says(self, program, text):
        """Waits until an overlap-nc has said something."""
        eventually(self, lambda: text in program.said() or program.process.poll() is not None)
        self.assertIn(text, program.said())

    def lost(self, program):
        """Waits for its end because overlapd has ended, which it says once: a worker may still have said so itself."""
        said = program.wait(LOST)
        self.assertEqual(len(re.findall(r"the connection to overlapd was lost|overlapd ended the session", said)), 1, said)

    def server(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        """A socket of the kernel, bound to loopback, listening if it can. Returns it and its port."""
        made = socket.socket(family, kind)
        self.addCleanup(made.close)
        made.settimeout(PATIENCE_S)
        made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made, made.getsockname()[1]

    def accept(self, listener):
        peer, _ = listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE_S)
        return peer

    def connected(self, *options, **more):
        """An overlap-nc that is connected to a socket of the kernel. Returns both."""
        listener, port = self.server()
        program = self.nc(*options, "127.0.0.1", port, **more)
        peer = self.accept(listener)
        listener.close()
        return program, peer

    def reach(self, address, family=socket.AF_INET):
        """A socket of the kernel that is connected there."""
        peer = socket.socket(family, socket.SOCK_STREAM)
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE_S)
        peer.connect(address)
        return peer

    def file(self, contents=b""):
        """A file with contents, open, at its beginning."""
        made = tempfile.TemporaryFile(buffering=0)  # pylint: disable=consider-using-with
        self.addCleanup(made.close)
        made.write(contents)
        made.seek(0)
        return made

    def folder(self):
        made = tempfile.TemporaryDirectory(prefix="overlap-nc-")  # pylint: disable=consider-using-with
        self.addCleanup(made.cleanup)
        return made.name

    def without_proc(self):
        """Options of an overlap-nc that finds no /proc. Its library is then to be found in another way."""
        prefix = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs root, to hide /proc")
        if stage.SLOWNESS > 1:
            self.skipTest("sanitizers need /proc")
        return {"prefix": prefix, "env": {"LD_LIBRARY_PATH": os.path.join(os.path.dirname(NC), "../c")}}

    def stall(self, write):
        """Writes until nothing is taken any more. Returns how many bytes were."""
        size = 0
        while True:
            try:
                size += write(bytes(65536))
            except (BlockingIOError, TimeoutError):
                return size

    def kill_worker(self):
        """Kills the only worker of the daemon."""
        with open(f"/proc/{self.daemon.process.pid}/task/{self.daemon.process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/comm", encoding="ascii") as file:
                if file.read().strip() == "overlapd-worker":
                    os.kill(int(child), signal.SIGKILL)
                    # Gone when the monitor has dealt with it: who comes from here on is not given to it.
                    eventually(self, lambda: not os.path.exists(f"/proc/{child}"))
                    return
        self.fail(f"none of {children} is a worker")


def patient_writer(pipe):
    """A write to a pipe that gives up when nothing was taken for a moment."""
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_NONBLOCK)

    def write(data):
        for _ in range(50):
            with contextlib.suppress(BlockingIOError):
                return os.write(pipe.fileno(), data)
            time.sleep(0.01)
        raise BlockingIOError

    return write
