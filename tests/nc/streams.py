#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlap-nc connected to a stream: bytes both ways, their ends, and what standard input and output may be. TAP."""

import errno
import os
import pty
import socket
import time
import tty

import frame
from frame import FAILED, LOST


class Bytes(frame.Case):
    """What goes in comes out."""

    def test_both_ways_with_checksums(self):
        program, peer = self.connected("-N")
        mine, theirs = frame.noise(1, 9 << 20), frame.noise(2, 7 << 20)
        writing = self.thread(lambda: (program.write(mine), program.stdin.close()))
        sending = self.thread(lambda: (peer.sendall(theirs), peer.shutdown(socket.SHUT_WR)))
        reading = self.thread(program.read)
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(mine))
        self.assertEqual(frame.digest(reading.join()), frame.digest(theirs))
        writing.join(), sending.join()
        program.wait()

    def test_files_both_ways_between_two_of_them(self):
        mine, theirs = frame.noise(3, 5000001), frame.noise(4, 6000003)
        there, here = self.file(), self.file()
        server = self.nc("-v", "-N", "-l", "127.0.0.1", 0, stdin=self.file(theirs), stdout=there)
        client = self.nc("-N", "127.0.0.1", self.port_of(server), stdin=self.file(mine), stdout=here)
        client.wait()
        server.wait()
        there.seek(0)
        here.seek(0)
        self.assertEqual(frame.digest(there.read()), frame.digest(mine))
        self.assertEqual(frame.digest(here.read()), frame.digest(theirs))

    def test_single_bytes_leave_at_once(self):
        program, peer = self.connected()
        for index in range(100):
            program.write(bytes([index]))
            self.assertEqual(peer.recv(10), bytes([index]))
            peer.sendall(bytes([index, index]))
            self.assertEqual(program.read_exactly(2), bytes([index, index]))
        peer.close()
        self.assertEqual(program.read(), b"")
        program.stdin.close()
        program.wait()

    def test_one_socket_for_both_as_of_inetd(self):
        here, inside = socket.socketpair()
        here.settimeout(frame.PATIENCE_S)
        with here:
            with inside:
                program, peer = self.connected("-N", stdin=inside, stdout=inside)
            for index in range(3):  # neither direction waits for the other
                here.sendall(b"there %d" % index)
                self.assertEqual(peer.recv(100), b"there %d" % index)
                peer.sendall(b"and back %d" % index)
                self.assertEqual(here.recv(100), b"and back %d" % index)
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(frame.read_all(here), b"")  # the end comes through while the other direction goes on
            here.sendall(b"the rest")
            here.shutdown(socket.SHUT_WR)
            self.assertEqual(frame.read_all(peer), b"the rest")
            program.wait()


class Ends(frame.Case):
    """One direction ends before the other."""

    def test_the_input_ends_first(self):
        program, peer = self.connected("-N")
        program.write(b"question")
        program.stdin.close()
        self.assertEqual(frame.read_all(peer), b"question")
        answer = frame.noise(5, 3 << 20)
        reading = self.thread(program.read)
        peer.sendall(answer)
        peer.close()
        self.assertEqual(frame.digest(reading.join()), frame.digest(answer))
        program.wait()

    def test_the_peer_ends_first(self):
        program, peer = self.connected("-N")
        peer.sendall(b"said all")
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(program.read(), b"said all")  # the end was passed on
        rest = frame.noise(6, 3 << 20)
        writing = self.thread(lambda: (program.write(rest), program.stdin.close()))
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(rest))
        writing.join()
        program.wait()

    def test_without_N_the_end_of_the_input_is_not_told(self):
        program, peer = self.connected()
        program.write(b"question")
        program.stdin.close()
        self.assertEqual(peer.recv(100), b"question")
        peer.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            peer.recv(100)
        peer.settimeout(frame.PATIENCE_S)
        peer.sendall(b"answer")
        peer.close()
        self.assertEqual(program.read(), b"answer")
        program.wait()

    def test_q_ends_it_although_the_peer_goes_on(self):
        for seconds in (0, 1):
            program, peer = self.connected("-q", seconds)
            data = frame.noise(7, 1 << 20)
            writing = self.thread(lambda: (program.write(data), program.stdin.close()))
            self.assertEqual(frame.read_all(peer), data)
            writing.join()
            program.wait()

    def test_q_negative_never_ends_it(self):
        program, peer = self.connected("-q", -1)
        program.stdin.close()
        peer.sendall(b"still there")
        peer.close()
        self.assertEqual(program.read(), b"still there")
        program.wait()

    def test_the_reader_goes_away(self):
        program, peer = self.connected("-N")
        program.stdout.close()
        sending = self.thread(peer.sendall, bytes(1 << 20))  # nobody reads it, and it stops nobody
        data = frame.noise(8, 4 << 20)
        writing = self.thread(lambda: (program.write(data), program.stdin.close()))
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(data))
        writing.join()
        program.wait()
        try:
            sending.join()
        except OSError as error:
            self.assertIn(error.errno, (errno.EPIPE, errno.ECONNRESET))

    def test_both_ends_here_go_away(self):
        """As when ssh is killed: the peer says nothing, and yet it ends."""
        program, peer = self.connected()
        program.write(b"hello")
        self.assertEqual(peer.recv(100), b"hello")
        program.stdin.close()
        program.stdout.close()
        program.wait()
        self.assertEqual(frame.read_all(peer), b"")

    def test_the_peer_breaks_the_connection(self):
        program, peer = self.connected("-N")
        program.write(b"hello")
        self.assertEqual(peer.recv(100), b"hello")
        frame.reset(peer)
        self.assertIn("Connection reset by peer", program.wait(FAILED))

    def test_what_came_before_the_end_is_written_though_sending_fails(self):
        """A server that answers early and closes, while it is still being sent to."""
        program, peer = self.connected("-N")
        answer = frame.noise(9, 200000)
        stalled = self.stall(frame.patient_writer(program.stdin))
        self.assertGreater(stalled, 0)
        peer.sendall(answer[:100000])
        self.assertEqual(program.read_exactly(100000), answer[:100000])
        peer.close()
        self.assertIn("failed", program.wait(FAILED))

    def test_no_space_is_left(self):
        with open("/dev/full", "wb") as full:
            program, peer = self.connected("-N", stdout=full)
        peer.sendall(b"too much")
        self.assertIn("writing the output failed: No space left on device", program.wait(FAILED))


class Pressure(frame.Case):
    """Who does not read stops only who writes to it."""

    def test_a_peer_that_does_not_read(self):
        program, peer = self.connected("-N")
        taken = self.stall(frame.patient_writer(program.stdin))
        self.assertLess(taken, 64 << 20)
        peer.sendall(b"other way")
        self.assertEqual(program.read_exactly(9), b"other way")
        os.set_blocking(program.stdin.fileno(), True)
        program.stdin.close()
        self.assertEqual(len(frame.read_all(peer)), taken)
        peer.close()
        program.wait()

    def _no_reader_here(self, **options):
        program, peer = self.connected("-N", **options)
        peer.settimeout(1)
        sent = self.stall(peer.send)
        self.assertLess(sent, 64 << 20)
        program.write(b"other way")
        self.assertEqual(peer.recv(9), b"other way")
        peer.shutdown(socket.SHUT_WR)
        reading = self.thread(program.read)
        self.assertEqual(len(reading.join()), sent)
        program.stdin.close()
        program.wait()

    def test_nobody_reads_here(self):
        self._no_reader_here()

    def test_nobody_reads_here_and_the_pipe_cannot_be_opened_again(self):
        self._no_reader_here(**self.without_proc())

    def test_pipes_that_cannot_be_opened_again_lose_nothing(self):
        program, peer = self.connected("-N", **self.without_proc())
        data = frame.noise(10, 2000003)
        writing = self.thread(lambda: (program.write(data), program.stdin.close()))
        reading = self.thread(program.read)
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(data))
        peer.sendall(data)
        peer.close()
        self.assertEqual(frame.digest(reading.join()), frame.digest(data))
        writing.join()
        program.wait()


class Sleep(frame.Case):
    """While nothing can move, nothing runs: a descriptor that stays ready for what is not wanted would keep it running."""

    def sleeps(self, program):
        def ticks():
            with open(f"/proc/{program.process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        before = ticks()
        time.sleep(0.6)
        self.assertIsNone(program.process.poll(), program.said())
        self.assertLess(ticks() - before, 6, "it runs, though there is nothing to do")

    def test_nothing_comes(self):
        program, _ = self.connected()
        self.sleeps(program)

    def test_the_input_has_ended(self):
        program, _ = self.connected()
        program.stdin.close()
        self.sleeps(program)

    def test_the_peer_has_ended(self):
        program, peer = self.connected()
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(program.read(), b"")
        self.sleeps(program)

    def test_nobody_reads_the_output(self):
        program, _ = self.connected()
        program.stdout.close()
        self.sleeps(program)

    def test_the_output_is_full(self):
        program, peer = self.connected()
        peer.settimeout(0.5)
        self.stall(peer.send)
        self.sleeps(program)

    def test_the_peer_is_full_and_the_input_has_ended(self):
        program, _ = self.connected()
        self.stall(frame.patient_writer(program.stdin))
        self.sleeps(program)
        program.stdin.close()
        self.sleeps(program)

    def test_one_end_of_a_socket_pair_is_shut(self):
        here, inside = socket.socketpair()
        with here:
            with inside:
                program, peer = self.connected(stdin=inside, stdout=inside)
            here.shutdown(socket.SHUT_WR)
            self.sleeps(program)
            peer.shutdown(socket.SHUT_WR)
            program.wait()

    def test_waiting_for_somebody(self):
        listening = self.nc("-v", "-l", "127.0.0.1", 0)
        local = self.nc("-v", "--local", "0", "127.0.0.1", 1)
        for program in (listening, local):
            self.listening(program)
            self.sleeps(program)


class Standard(frame.Case):
    """What standard input and output may be."""

    def test_they_were_closed(self):
        program, peer = self.connected(prefix=["sh", "-c", 'exec "$@" <&- >&-', "sh"])
        program.stdin.close()
        program.wait()
        self.assertEqual(frame.read_all(peer), b"")

    def test_standard_input_was_closed(self):
        program, peer = self.connected(prefix=["sh", "-c", 'exec "$@" <&-', "sh"])
        peer.sendall(b"hello")
        self.assertEqual(program.read_exactly(5), b"hello")
        peer.close()
        program.wait()

    def test_d_reads_nothing(self):
        program, peer = self.connected("-d")
        program.write(b"not this")
        peer.sendall(b"hello")
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(program.read(), b"hello")
        program.wait()
        self.assertEqual(frame.read_all(peer), b"")

    def test_a_directory_cannot_be_read(self):
        fd = os.open(self.folder(), os.O_RDONLY)
        program, _ = self.connected(stdin=fd)
        os.close(fd)
        self.assertIn("reading the input failed: Is a directory", program.wait(FAILED))

    def test_a_terminal_ends_with_the_peer_and_keeps_its_mode(self):
        outside, inside = pty.openpty()
        self.addCleanup(os.close, outside)
        tty.setraw(inside)
        program, peer = self.connected(stdin=inside, stdout=inside)
        os.write(outside, b"typed")
        self.assertEqual(peer.recv(100), b"typed")
        peer.sendall(b"shown")
        self.assertEqual(os.read(outside, 100), b"shown")
        peer.close()
        program.wait()
        self.assertTrue(os.get_blocking(inside))
        os.close(inside)

    def test_the_mode_of_a_pipe_is_not_touched(self):
        reading, writing = os.pipe()
        program, peer = self.connected("-N", stdin=reading)
        os.write(writing, b"hello")
        self.assertEqual(peer.recv(100), b"hello")
        self.assertTrue(os.get_blocking(reading) and os.get_blocking(writing))
        os.close(writing)
        os.close(reading)
        peer.close()
        program.wait()


class Lost(frame.Case):
    """overlapd is not there, or dies."""

    def test_the_daemon_is_killed(self):
        program, peer = self.connected("-N")
        data = frame.noise(11, 50000)
        peer.sendall(data)
        program.write(b"hello")
        self.assertEqual(peer.recv(100), b"hello")
        self.assertEqual(program.read_exactly(len(data)), data)
        self.daemon.kill()
        self.lost(program)
        self.assertEqual(len(program.said().splitlines()), 1, program.said())

    def test_what_had_come_is_written_though_the_worker_dies(self):
        program, peer = self.connected("-N")
        peer.settimeout(1)
        self.assertGreater(self.stall(peer.send), 1 << 20)
        program.read_exactly(1 << 19)
        time.sleep(0.3)  # for its buffers to be filled again
        self.kill_worker()
        self.says(program, "lost")
        self.assertIsNone(program.process.poll())
        size = 0
        while piece := os.read(program.stdout.fileno(), 8192):  # slowly: it cannot write all at once
            size += len(piece)
            time.sleep(0.001)
        self.assertGreater(size, 65536)  # which were in the pipe; the rest was in hand
        program.wait(LOST)

    def test_it_is_not_there(self):
        said = self.run_nc("127.0.0.1", 1, env={"OVERLAPD_SOCKET": "/nowhere/s"}, status=LOST)
        self.assertIn("no overlapd at /nowhere/s", said)
        self.assertIn("systemctl start overlapd", said)
        self.assertIn("no overlapd at /nowhere/t", self.run_nc("--socket", "/nowhere/t", "127.0.0.1", 1, status=LOST))

    def test_no_permission(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        os.chmod(self.daemon.path, 0o600)
        os.chmod(self.daemon.folder, 0o755)
        said = self.run_nc("127.0.0.1", 1, status=LOST, user=65534, group=65534, extra_groups=[])
        self.assertIn("no permission to use", said)
        self.assertIn("must be in the group", said)

    def test_the_policy_refuses(self):
        """Unix sockets are for the daemon's own user: somebody else is told so."""
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        os.chmod(self.daemon.path, 0o666)
        os.chmod(self.daemon.folder, 0o755)
        said = self.run_nc("-U", "/run/nothing", status=FAILED, user=65534, group=65534, extra_groups=[])
        self.assertIn("policy", said)


class Rules(frame.Case):
    """A daemon that allows nothing, and says so."""

    def daemon_arguments(self):
        self.rules = self.policy_of("[deny nine]\nUser=*\nAction=connect\nTo=localhost\nPort=9\n")
        return "--policy", self.rules

    def test_the_rule_is_named(self):
        """Who is refused is told by which rule, or that there is none."""
        self.assertIn("no rule allows it", self.run_nc("127.0.0.1", 1, status=FAILED))
        self.assertIn(f"{self.rules}/rules.conf:1", self.run_nc("127.0.0.1", 9, status=FAILED))


if __name__ == "__main__":
    frame.main()
