#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples, as a person runs them: below a private daemon, with peers of the kernel. TAP.

usage: pages.py EXAMPLES [CASE...]
"""

import contextlib
import os
import pathlib
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import stage

EXAMPLES = pathlib.Path(sys.argv.pop(1))


class Pages(unittest.TestCase):
    """One case an example."""

    @contextlib.contextmanager
    def server(self, name, *arguments):
        """The example and its port; it has to end well when it is asked to."""
        command = [stage.OVERLAPD, "--private", "--", sys.executable, EXAMPLES / name, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                self.assertTrue(select.select([process.stdout], [], [], stage.PATIENCE_S)[0], "it says nothing")
                line = process.stdout.readline()
                found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
                self.assertTrue(found, line + (process.stdout.read() if not found else ""))
                yield int(found.group(1))
                process.send_signal(signal.SIGTERM)
                output, _ = process.communicate(timeout=stage.PATIENCE_S)
                self.assertEqual(process.returncode, 0, output)
                self.assertNotIn("Traceback", output)
            finally:
                process.kill()

    def connect(self, port):
        return socket.create_connection(("127.0.0.1", port), timeout=stage.PATIENCE_S)

    def echo(self, port, payload):
        """Sends in one thread and reads in another, until both have come to their ends."""
        def send():
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)

        with self.connect(port) as connection:
            task = stage.Task(send)
            back = bytearray()
            while piece := connection.recv(65536):
                back += piece
            task.join()
        self.assertEqual(bytes(back), payload)

    def check_echo(self, name):
        with self.server(name) as port:
            payloads = [random.Random(index).randbytes(1 << 20) for index in range(8)]
            for task in [stage.Task(self.echo, port, payload) for payload in payloads]:
                task.join()
            with self.connect(port) as rude:
                rude.sendall(b"x" * 1000)
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.echo(port, b"still there")

    def test_echo(self):
        self.check_echo("echo.py")

    def test_echo_routines(self):
        self.check_echo("echo-routines.py")

    def test_file_receiver(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        payloads = sorted(random.Random(index).randbytes(index * 300000) for index in range(20))
        with self.server("file-receiver.py", "0", folder) as port:
            def send(payload):
                with self.connect(port) as connection:
                    connection.sendall(payload)

            for task in [stage.Task(send, payload) for payload in payloads]:
                task.join()
            with self.connect(port) as rude:
                rude.sendall(b"x" * 1000)
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            deadline = time.monotonic() + stage.PATIENCE_S
            while len(list(folder.glob("0*"))) < len(payloads) or list(folder.glob(".part*")):
                self.assertLess(time.monotonic(), deadline, os.listdir(folder))
                os.sched_yield()
        self.assertEqual(sorted(path.read_bytes() for path in folder.iterdir()), payloads)

    def test_usage(self):
        done = subprocess.run([sys.executable, EXAMPLES / "file-receiver.py"], stderr=subprocess.PIPE, text=True,
                              timeout=stage.PATIENCE_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "usage: file-receiver.py PORT DIRECTORY\n"))


if __name__ == "__main__":
    stage.main()
