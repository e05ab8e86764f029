# SPDX-License-Identifier: Apache-2.0
"""The frame of overlapctl's tests: the cases of tests/python/stage.py, overlapctl, and administrators that lie."""

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile

import overlap
import stage
from stage import PATIENCE_S, eventually, main  # what the tests use

__all__ = ["PATIENCE_S", "Case", "STATUS", "eventually", "frame", "main", "overlap", "take_frame"]

CTL = os.environ.get("OVL_TEST_CTL", "")

# Of overlapctl, as its manual page has them.
DONE, FAILED, USAGE, LOST = range(4)

CONTROL = 1
STATUS = b"\x0a\x00"  # AdminRequest with an empty AdminStatus


def frame(body, kind=CONTROL, n_fds=0, length=None):
    """A frame as docs/PROTOCOL.md has it."""
    return struct.pack("<IBBH", len(body) if length is None else length, kind, n_fds, 0) + body


def take_frame(connection):
    """The body of the next frame, or None at the end of the stream."""
    header = b""
    while len(header) < 8:
        piece = connection.recv(8 - len(header))
        if not piece:
            return None
        header += piece
    length = struct.unpack("<IBBH", header)[0]
    body = b""
    while len(body) < length:
        piece = connection.recv(length - len(body))
        assert piece, "the stream ended within a frame"
        body += piece
    return body


class Case(stage.Case):
    """A case with a daemon, that is asked about itself."""

    def setUp(self):
        if not CTL:
            self.fail("OVL_TEST_CTL does not name an overlapctl: run this test through meson test")
        super().setUp()
        eventually(self, self.answers)

    def answers(self):
        """With all of its workers: clients can connect before."""
        return subprocess.run([CTL, "status", "--quiet"], stderr=subprocess.DEVNULL, check=False,
                              env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path}).returncode == DONE

    def run_ctl(self, *arguments, status=DONE, daemon=None, **options):
        """Runs overlapctl. Returns what it printed, and what it said to standard error."""
        environment = os.environ | {"OVERLAPD_SOCKET": daemon or self.daemon.path}
        done = subprocess.run([CTL, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S * 2, check=False, env=environment,
                              **options)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout, done.stderr

    def ask(self, *arguments, status=DONE):
        """What overlapctl prints."""
        return self.run_ctl(*arguments, status=status)[0]

    def ask_json(self, *arguments, status=DONE):
        return json.loads(self.ask(*arguments, "--json", status=status))

    def listed(self, kind, *arguments):
        """The items of a list."""
        answer = self.ask_json("list", kind, *arguments)
        self.assertTrue(answer["complete"])
        return answer[kind]

    def refused(self, *arguments, status):  # pylint: disable=arguments-differ
        """Runs it; it must fail so. Returns what it said."""
        printed, said = self.run_ctl(*arguments, status=status)
        self.assertTrue(said.startswith("overlapctl: "), said)
        self.assertEqual(printed, "")
        return said

    def folder(self):
        place = tempfile.mkdtemp(prefix="overlapctl-")
        self.addCleanup(shutil.rmtree, place)
        return place

    def file(self, name, text):
        """A file in a folder of its own. Returns its path."""
        path = f"{self.folder()}/{name}"
        with open(path, "w", encoding="utf-8") as made:
            made.write(text)
        return path

    def administrator(self):
        """A raw connection to the administrators' socket."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(PATIENCE_S)
        connection.connect(self.daemon.path + ".admin")
        return connection

    def is_served(self):
        """Clients and administrators find the daemon as it should be."""
        self.open().close()
        self.assertEqual(self.ask_json("status")["state"], "serving")
