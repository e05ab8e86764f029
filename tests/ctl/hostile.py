#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The administrators' socket against those who mean no good: the daemon serves on, and loses nothing. TAP."""

import array
import fcntl
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import termios

import frame
import stage
from frame import PATIENCE_S, STATUS, eventually, take_frame


class Case(frame.Case):
    """A case that leaves the monitor with the descriptors that it had."""

    def setUp(self):
        super().setUp()
        self.is_served()
        self.before, n_same = self.count(), 0
        while n_same < 20:  # until what was there for that has gone
            now = self.count()
            n_same = n_same + 1 if now == self.before else 0
            self.before = now
            self.ask_json("status")

    def count(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def unharmed(self):
        self.is_served()
        eventually(self, lambda: self.count() == self.before)

    def refusal(self, connection):
        """The last words, after which the connection ends."""
        body = take_frame(connection)
        self.assertIsNotNone(body, "it ended without a word")
        self.assertIsNone(take_frame(connection))
        return body

    def whole_answer(self, connection):
        """How many replies there are. A reply that is the last has field 3, of type varint, set."""
        n = 1
        while not is_last(take_frame(connection)):
            n += 1
        return n


def is_last(body):
    """Walks the top fields of a reply."""
    at = 0
    while at < len(body):
        tag = body[at]
        at += 1
        if tag == 0x18:
            return body[at] == 1
        value, shift = 0, 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        if tag & 7 == 2:
            at += value
    return False


class Bytes(Case):
    """Bytes that are no question."""

    def test_frames_that_are_none(self):
        for bad in (b"\xff" * 8, frame.frame(b"", length=16385), frame.frame(b"", length=0xffffffff),
                    frame.frame(STATUS, kind=2), frame.frame(STATUS, kind=3), frame.frame(STATUS, kind=0),
                    frame.frame(STATUS, n_fds=1), struct.pack("<IBBH", 2, 1, 0, 1) + STATUS):
            connection = self.administrator()
            connection.sendall(bad)
            self.refusal(connection)
            connection.close()
        self.unharmed()

    def test_bodies_that_are_none(self):
        for bad in (b"", b"\x0a", b"\x0a\x7f", b"\x0a\x05\xff\xff\xff\xff\xff", b"\x12\x02\x08\xff" * 3, b"\xff" * 100,
                    b"\x12\x04\x2a\x02\xc3\x28", b"\x1a\x02\x62\x7f"):
            connection = self.administrator()
            connection.sendall(frame.frame(bad))
            self.refusal(connection)
            connection.close()
        self.unharmed()

    def test_questions_that_are_none(self):
        """Well-formed, and refused without the end of the connection."""
        connection = self.administrator()
        for question, said in ((b"\x7a\x00", b"does not know the question"), (b"\x12\x02\x08\x63", b"kind 99"),
                               (b"\x12\x00", b"kind 0"), (b"\x1a\x00", b"action ''"),
                               (b"\x1a\x09\x4a\x07connect", b"protocol ''"),
                               (b"\x1a\x0e\x4a\x07connect\x52\x03tcp", b"needs an address"),
                               (b"\x1a\x13\x4a\x07connect\x52\x03tcp\x62\x03abc", b"must be 116"),
                               (b"\x1a\x0b\x4a\x06export\x2a\x01x", b"numbers of 4 bytes")):
            connection.sendall(frame.frame(question))
            body = take_frame(connection)
            self.assertIn(said, body)
            self.assertTrue(is_last(body))
        connection.sendall(frame.frame(STATUS))
        self.assertEqual(self.whole_answer(connection), 3)
        connection.close()
        self.unharmed()

    def test_any_bytes(self):
        dice = random.Random(64)
        for _ in range(300):
            connection = self.administrator()
            body = dice.randbytes(dice.randrange(1, 60))
            if dice.random() < 0.5:
                body = bytes([dice.choice(b"\x0a\x12\x1a\x22")]) + bytes([max(0, len(body))]) + body
            try:
                connection.sendall(frame.frame(body) if dice.random() < 0.9 else body)
                connection.shutdown(socket.SHUT_WR)
                while take_frame(connection) is not None:
                    pass
            except ConnectionError:
                pass
            connection.close()
        self.unharmed()

    def test_a_question_in_pieces(self):
        connection = self.administrator()
        for byte in frame.frame(STATUS):
            connection.sendall(bytes([byte]))
        self.assertEqual(self.whole_answer(connection), 3)
        connection.close()
        self.unharmed()

    def test_questions_at_once(self):
        """As many as fit, in one write: each is answered, in order."""
        connection = self.administrator()
        connection.sendall(frame.frame(STATUS) * 500)
        for _ in range(500):
            self.assertEqual(self.whole_answer(connection), 3)
        connection.close()
        self.unharmed()

    def test_half_a_question_has_a_deadline(self):
        connection = self.administrator()
        connection.sendall(frame.frame(STATUS)[:-1])
        self.assertIsNone(take_frame(connection))
        connection.close()
        self.unharmed()

    def test_who_says_nothing_has_a_deadline(self):
        connection = self.administrator()
        self.assertIsNone(take_frame(connection))
        connection.close()
        self.unharmed()

    def test_descriptors_are_not_kept(self):
        connection = self.administrator()
        with open("/dev/null", "rb") as null:
            try:
                connection.sendmsg([frame.frame(STATUS)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                                            array.array("i", [null.fileno()] * 4))])
            except PermissionError:  # since Linux 6.16 they do not even get there
                connection.sendall(frame.frame(STATUS))
        self.assertEqual(self.whole_answer(connection), 3)
        connection.close()
        self.unharmed()


class Crowd(Case):
    """Many, and slow ones."""

    def test_no_more_than_sixteen(self):
        crowd = [self.administrator() for _ in range(16)]
        for connection in crowd:
            connection.sendall(frame.frame(STATUS))
            self.whole_answer(connection)
        self.assertIn(b"16 others are asking already", self.refusal(self.administrator()))
        self.open().close()
        for connection in crowd:
            connection.close()
        self.unharmed()

    def test_who_does_not_read_a_long_list(self):
        """The answer is longer than the kernel holds: it waits where it is, the monitor does not grow, others are served."""
        session = self.open()
        sockets = [session.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3000)]
        connection = self.administrator()
        connection.sendall(frame.frame(b"\x12\x02\x08\x02"))
        eventually(self, lambda: pending(connection) > 0)
        before = memory(self.daemon.process.pid)
        for _ in range(20):
            self.assertEqual(self.ask_json("status")["totals"]["sockets"], 3000)
        # Sanitizers keep what was freed.
        self.assertLess(memory(self.daemon.process.pid) - before, (2 if stage.SLOWNESS == 1 else 32) << 20)
        # After the deadline it is gone, with the rest of its answer.
        eventually(self, lambda: self.count() == self.before)
        n = 0
        try:
            while take_frame(connection) is not None:
                n += 1
        except (ConnectionError, AssertionError):
            pass
        self.assertIn(n, range(256, 3000))
        connection.close()
        del sockets
        session.close()
        self.unharmed()

    def test_ends_in_the_middle(self):
        session = self.open()
        sockets = [session.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(600)]
        for n_replies in (0, 1, 100, 300):
            connection = self.administrator()
            connection.sendall(frame.frame(b"\x12\x02\x08\x02"))
            for _ in range(n_replies):
                take_frame(connection)
            connection.close()
        self.assertEqual(len(self.listed("sockets")), 600)
        del sockets
        session.close()
        self.unharmed()

    def test_all_lists_at_once(self):
        """Each gets its turn: whoever asks for a long list does not keep the others from theirs."""
        session = self.open()
        sockets = [session.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(1000)]
        crowd = [self.administrator() for _ in range(8)]
        for connection in crowd:
            connection.sendall(frame.frame(b"\x12\x02\x08\x02"))
        self.assertEqual([self.whole_answer(connection) for connection in crowd], [1001] * 8)
        for connection in crowd:
            connection.close()
        del sockets
        session.close()
        self.unharmed()

    def test_a_worker_that_dies_while_it_is_asked(self):
        worker = self.ask_json("status")["workers"][0]["pid"]
        os.kill(worker, signal.SIGSTOP)
        connection = self.administrator()
        connection.sendall(frame.frame(b"\x12\x02\x08\x02"))
        other = self.administrator()
        other.sendall(frame.frame(b"\x12\x02\x08\x01"))
        os.kill(worker, signal.SIGKILL)
        for one in (connection, other):
            self.assertIn(one.recv(1), b"".join(bytes([n]) for n in range(256)))
            one.close()
        eventually(self, lambda: json.loads(self.run_any("status", "--json"))["workers_ready"] == 1)
        self.unharmed()

    def run_any(self, *arguments):
        """What it prints, whatever its exit status."""
        return subprocess.run([frame.CTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                              env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path}).stdout


class Strangers(Case):
    """Users who may not ask."""

    def daemon_arguments(self):
        return "--log", "stderr"

    def as_nobody(self, function):
        """Runs a function in a process of another user. Returns its exit status."""
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                status = function()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def test_the_file_is_its_owners(self):
        mode = os.stat(self.daemon.path + ".admin").st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode) & 0o007, 0)

    def test_refused_by_the_kernels_word_where_the_file_lets_in(self):
        if os.getuid() != 0:
            self.skipTest("only root can become somebody else")
        os.chmod(self.daemon.folder, 0o755)
        os.chmod(self.daemon.path + ".admin", 0o666)

        def come():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE_S)
                connection.connect(self.daemon.path + ".admin")
                body = take_frame(connection)
                return 0 if b"members of the group overlapd-admin" in body and take_frame(connection) is None else 1

        self.assertEqual(self.as_nobody(come), 0)
        eventually(self, lambda: "administrator refused" in self.daemon.log())
        self.assertIn("uid 65534", self.daemon.log())
        self.unharmed()

    def test_refused_by_the_file(self):
        if os.getuid() != 0:
            self.skipTest("only root can become somebody else")
        os.chmod(self.daemon.folder, 0o755)

        def come():
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(self.daemon.path + ".admin")
                except PermissionError:
                    return 0
                return 1

        self.assertEqual(self.as_nobody(come), 0)
        self.unharmed()


def pending(connection):
    """Bytes that can be read."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0\0\0\0"))[0]


def memory(pid):
    """Resident bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


frame.main()
