#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlap-nc that listens, its datagrams, its Unix sockets, and where connections come from. TAP."""

import contextlib
import os
import socket
import subprocess

import frame
from frame import DONE, FAILED


class Listens(frame.Case):
    """-l: one connection, or with -k one after the other."""

    def test_one_connection_both_ways(self):
        program = self.nc("-v", "-l", "127.0.0.1", 0)
        port = self.port_of(program)
        peer = self.reach(("127.0.0.1", port))
        peer.sendall(b"question")
        self.assertEqual(program.read_exactly(8), b"question")
        program.write(b"answer")
        self.assertEqual(peer.recv(6), b"answer")
        self.says(program, f"connection from 127.0.0.1:{peer.getsockname()[1]}")
        with self.assertRaises(ConnectionRefusedError):  # nobody else is taken
            self.reach(("127.0.0.1", port))
        peer.close()
        self.assertEqual(program.read(), b"")
        program.wait()  # though its input goes on

    def test_one_after_the_other(self):
        program = self.nc("-v", "-k", "-l", "-p", 0, stdin=subprocess.DEVNULL)
        port = self.port_of(program)
        for index in range(3):
            data = frame.noise(index, 300000)
            peer = self.reach(("127.0.0.1", port))
            sending = self.thread(lambda peer=peer, data=data: (peer.sendall(data), peer.close()))
            self.assertEqual(frame.digest(program.read_exactly(len(data))), frame.digest(data))
            sending.join()
        broken = self.reach(("127.0.0.1", port))
        broken.sendall(b"x")
        self.assertEqual(program.read_exactly(1), b"x")
        frame.reset(broken)
        peer = self.reach(("127.0.0.1", port))
        peer.sendall(b"last")
        self.assertEqual(program.read_exactly(4), b"last")
        self.assertIsNone(program.process.poll())

    def test_k_ends_when_nobody_reads(self):
        program = self.nc("-v", "-k", "-l", "127.0.0.1", 0, stdin=subprocess.DEVNULL)
        port = self.port_of(program)
        program.stdout.close()
        peer = self.reach(("127.0.0.1", port))
        peer.sendall(b"nobody")
        peer.close()
        program.wait()

    def test_a_file_is_sent_to_its_end_though_the_receiver_ended_its_sending(self):
        data = frame.noise(20, 12000007)
        program = self.nc("-v", "-l", "127.0.0.1", 0, stdin=self.file(data))
        peer = self.reach(("127.0.0.1", self.port_of(program)))
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(program.read(), b"")  # it knows, and goes on
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(data))
        program.wait()

    def test_with_N_both_directions_end_each_for_itself(self):
        program = self.nc("-v", "-N", "-l", "127.0.0.1", 0)
        peer = self.reach(("127.0.0.1", self.port_of(program)))
        peer.sendall(b"question")
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual(program.read(), b"question")
        data = frame.noise(21, 500000)
        program.write(data[:100000])
        self.assertEqual(peer.recv(1), data[:1])
        writing = self.thread(lambda: (program.write(data[100000:]), program.stdin.close()))
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(data[1:]))
        writing.join()
        program.wait()

    def test_the_address_is_taken(self):
        _, port = self.server()
        said = self.run_nc("-l", "127.0.0.1", port, status=FAILED)
        self.assertIn(f"cannot listen: bind to 127.0.0.1:{port}: address in use: see who holds it", said)

    def test_over_IPv6(self):
        try:
            _, port = self.server(socket.AF_INET6)
        except OSError:
            self.skipTest("no IPv6 here")
        program = self.nc("-v", "-6", "-l", 0)
        where = self.listening(program)
        self.assertTrue(where.startswith("[::]:"), where)
        client = self.nc("-N", "::1", where.rsplit(":", 1)[1])
        client.write(b"over IPv6")
        client.stdin.close()
        self.assertEqual(program.read(), b"over IPv6")
        self.assertIn("[::1]", self.run_nc("-z", "-v", "-6", "::1", port))

    def test_the_daemon_dies_while_it_waits(self):
        programs = [self.nc("-v", "-l", "127.0.0.1", 0), self.nc("-v", "-u", "-l", "127.0.0.1", 0)]
        for program in programs:
            self.listening(program)
        self.daemon.kill()
        for program in programs:
            self.lost(program)


class Datagrams(frame.Case):
    """-u: their borders, and who sends them."""

    def test_borders_are_kept(self):
        server, port = self.server(kind=socket.SOCK_DGRAM)
        program = self.nc("-u", "127.0.0.1", port)
        sender = None
        for size in (1, 1472, 16384):
            program.write(frame.noise(size, size))
            data, sender = server.recvfrom(65536)
            self.assertEqual(data, frame.noise(size, size))
        for size in (1, 0, 65000, 2):
            server.sendto(frame.noise(size, size), sender)
            self.assertEqual(program.read_exactly(size), frame.noise(size, size))

    def test_nobody_is_there(self):
        server, port = self.server(kind=socket.SOCK_DGRAM)
        server.close()
        program = self.nc("-u", "127.0.0.1", port)
        program.write(b"hello?")
        self.assertIn("Connection refused", program.wait(FAILED))

    def test_w_ends_it(self):
        server, port = self.server(kind=socket.SOCK_DGRAM)
        program = self.nc("-u", "-w", 1, "127.0.0.1", port)
        program.write(b"hello?")
        self.assertEqual(server.recvfrom(100)[0], b"hello?")
        program.wait()

    def test_w_ends_it_though_it_hears_everybody(self):
        program = self.nc("-v", "-k", "-w", 1, "-u", "-l", "127.0.0.1", 0)
        self._senders(self.port_of(program), 1)[0].send(b"once")
        self.assertEqual(program.read_exactly(4), b"once")
        program.wait()

    def _senders(self, port, n):
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(n)]
        for sender in senders:
            self.addCleanup(sender.close)
            sender.settimeout(frame.PATIENCE_S)
            sender.connect(("127.0.0.1", port))
        return senders

    def test_the_first_sender_is_the_peer(self):
        program = self.nc("-v", "-u", "-l", "127.0.0.1", 0)
        first, second = self._senders(self.port_of(program), 2)
        program.write(b"kept for whoever comes")
        first.send(b"one")
        self.assertEqual(program.read_exactly(3), b"one")
        self.assertEqual(first.recv(100), b"kept for whoever comes")
        second.send(b"two")
        first.send(b"three")
        self.assertEqual(program.read_exactly(5), b"three")
        program.write(b"answer")
        self.assertEqual(first.recv(100), b"answer")

    def test_with_k_all_are_heard(self):
        program = self.nc("-v", "-k", "-u", "-l", "127.0.0.1", 0)
        senders = self._senders(self.port_of(program), 3)
        for index, sender in enumerate(senders):
            sender.send(b"from %d" % index)
            self.assertEqual(program.read_exactly(6), b"from %d" % index)
            program.write(b"to %d" % index)
            self.assertEqual(sender.recv(100), b"to %d" % index)
        senders[2].close()
        program.write(b"nobody is there any more")
        senders[0].send(b"from 0")
        self.assertEqual(program.read_exactly(6), b"from 0")


class UnixSockets(frame.Case):
    """-U: for the daemon's own user."""

    def test_streams(self):
        folder = self.folder()
        server = self.nc("-v", "-N", "-U", "-l", "s", cwd=folder)  # a path of its own directory
        self.assertEqual(self.listening(server), f"{folder}/s")
        client = self.nc("-N", "-U", f"{folder}/s")
        data = frame.noise(30, 1 << 20)
        writing = self.thread(lambda: (client.write(data), client.stdin.close()))
        self.assertEqual(frame.digest(server.read()), frame.digest(data))
        server.write(b"answer")
        server.stdin.close()
        self.assertEqual(client.read(), b"answer")
        writing.join()
        client.wait()
        server.wait()

    def test_an_abstract_name(self):
        name = f"overlap-nc-{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind("\0" + name)
        listener.listen()
        program = self.nc("-v", "-U", "@" + name)
        peer = self.accept(listener)
        self.says(program, "connected to @" + name)
        peer.sendall(b"hello")
        self.assertEqual(program.read_exactly(5), b"hello")

    def test_datagrams_are_answered(self):
        folder = self.folder()
        server = self.nc("-v", "-u", "-U", "-l", f"{folder}/s")
        self.listening(server)
        for options in ([], ["-s", f"{folder}/client"]):
            client = self.nc("-u", "-U", *options, f"{folder}/s")
            client.write(b"question")
            if options:
                continue  # the first one is the peer
            self.assertEqual(server.read_exactly(8), b"question")
            server.write(b"answer")
            self.assertEqual(client.read_exactly(6), b"answer")

    def test_nobody_listens(self):
        self.assertIn("No such file or directory", self.run_nc("-U", "/nowhere/s", status=FAILED))
        self.assertIn("no path that a Unix socket could have", self.run_nc("-U", "/" + "x" * 200, status=frame.USAGE))


class Reach(frame.Case):
    """Names, sources, times and probes."""

    def test_names(self):
        listener, port = self.server()
        program = self.nc("-v", "-4", "-N", "localhost", port)
        peer = self.accept(listener)
        self.says(program, f"connected to 127.0.0.1:{port}")
        peer.close()
        said = self.run_nc("no-such-host.invalid", port, status=FAILED)
        self.assertIn("'no-such-host.invalid'", said)
        for name in ("no host", "[::1]", ""):
            self.assertIn("the name is no host name or address", self.run_nc(name, port, status=FAILED))

    def test_another_address_is_tried(self):
        """localhost has two, and only one of them is listened at."""
        if len({found[4] for found in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}) < 2:
            self.skipTest("localhost has one address here")
        listener, port = self.server()
        program = self.nc("-v", "localhost", port)
        self.accept(listener)
        self.says(program, f"connected to 127.0.0.1:{port}")

    def test_refused(self):
        listener, port = self.server()
        listener.close()
        said = self.run_nc("127.0.0.1", port, status=FAILED)
        self.assertEqual(said, f"overlap-nc: cannot connect to 127.0.0.1:{port}: Connection refused\n")

    def test_source(self):
        listener, port = self.server()
        for options, host in ((["-s", "127.0.0.2"], "127.0.0.2"), ([], "127.0.0.1")):
            # Who holds a port so lets others that ask for it have it, too, and keeps everybody else from it.
            with socket.socket() as held:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind(("0.0.0.0", 0))
                free = held.getsockname()[1]
                self.nc(*options, "-p", free, "127.0.0.1", port)
                self.assertEqual(self.accept(listener).getpeername(), (host, free))
        said = self.run_nc("-s", "192.0.2.1", "127.0.0.1", port, status=FAILED)
        self.assertIn("cannot use the source", said)

    def test_w_gives_up_connecting(self):
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []  # fills the queue, until the kernel answers nobody any more
        with contextlib.ExitStack() as stack:
            while len(waiting) < 100:
                waiting.append(stack.enter_context(socket.socket()))
                waiting[-1].settimeout(0.3)
                try:
                    waiting[-1].connect(listener.getsockname())
                except TimeoutError:
                    break
            said = self.run_nc("-w", 1, "127.0.0.1", listener.getsockname()[1], status=FAILED)
        self.assertIn("Connection timed out", said)

    def test_w_ends_what_is_idle(self):
        program, peer = self.connected("-w", 1)
        program.write(b"hello")
        self.assertEqual(peer.recv(100), b"hello")
        program.wait()
        self.assertEqual(frame.read_all(peer), b"")

    def test_w_is_an_error_when_the_peer_takes_nothing(self):
        program, _ = self.connected("-w", 1)
        with contextlib.suppress(BrokenPipeError):
            self.stall(frame.patient_writer(program.stdin))
        self.assertIn("the peer took nothing", program.wait(FAILED))

    def test_probe(self):
        open_, port = self.server()
        closed, other = self.server()
        closed.close()
        self.assertEqual(self.run_nc("-z", "127.0.0.1", port), "")
        self.assertEqual(self.run_nc("-z", "-v", "127.0.0.1", port), f"overlap-nc: 127.0.0.1:{port} is open\n")
        self.assertIn("Connection refused", self.run_nc("-z", "127.0.0.1", other, status=FAILED))
        said = self.run_nc("-z", "127.0.0.1", f"{port - 2}-{min(port + 2, 65535)}")
        self.assertIn(f"127.0.0.1:{port} is open\n", said)
        self.assertNotIn("refused", said)
        self.accept(open_)

    def test_probe_of_datagrams(self):
        server, port = self.server(kind=socket.SOCK_DGRAM)
        program = self.nc("-z", "-v", "-u", "127.0.0.1", port)
        data, sender = server.recvfrom(100)
        self.assertEqual(data, b"")
        server.sendto(b"here", sender)
        self.assertEqual(program.wait(), f"overlap-nc: 127.0.0.1:{port} is open\n")
        self.assertIn("or does not answer", self.run_nc("-z", "-v", "-u", "127.0.0.1", port))
        server.close()
        self.assertIn("is closed", self.run_nc("-z", "-u", "127.0.0.1", port, status=FAILED))


class Names(frame.Case):
    """Names that rules speak of: what they stand for is overlapd's affair."""

    HOSTS = ("db.test 192.0.2.1\ndb.test 127.0.0.2\ndb.test 127.0.0.1\nlog.test 127.0.0.1\nevil.test 127.0.0.1\n"
             "slow.test !hang\n")
    RULES = ("[allow near]\nUser=*\nAction=connect\nProtocol=tcp udp\nTo=127.0.0.1 127.0.0.2\nPort=1024-65535\n"
             "[deny evil]\nUser=*\nAction=resolve\nTo=evil.test\n"
             "[allow names]\nUser=*\nAction=resolve\nTo=*.test\n")

    def daemon_arguments(self):
        hosts = f"{self.folder()}/hosts"
        with open(hosts, "w", encoding="utf-8") as file:
            file.write(self.HOSTS)
        os.environ["OVL_TEST_HOSTS"] = hosts
        self.addCleanup(os.environ.pop, "OVL_TEST_HOSTS")
        return "--policy", self.policy_of(self.RULES)

    def test_a_name_is_reached(self):
        """Of its addresses one is refused by the policy, at one nobody listens, and one is reached."""
        listener, port = self.server()
        for options in (["-4"], []):
            program = self.nc("-v", "-N", *options, "db.test", port)
            peer = self.accept(listener)
            self.says(program, f"connected to 127.0.0.1:{port}")
            program.write(b"by name")
            self.assertEqual(peer.recv(100), b"by name")
            peer.close()

    def test_datagrams_go_to_a_name(self):
        server, port = self.server(kind=socket.SOCK_DGRAM)
        for options in (["-4"], []):
            program = self.nc("-u", "-q", 0, *options, "log.test", port, stdin=self.file(b"hello"))
            self.assertEqual(server.recv(100), b"hello")
            program.wait()

    def test_what_is_refused_is_told(self):
        said = self.run_nc("db.test", 80, status=FAILED)
        self.assertIn("cannot connect to db.test:80: Permission denied (overlapd: ", said)
        self.assertIn("no rule allows it (db.test is 127.0.0.1:80)", said)
        said = self.run_nc("evil.test", 8080, status=FAILED)
        self.assertIn("cannot connect to evil.test:8080: Permission denied", said)
        self.assertIn("[deny evil]", said)
        said = self.run_nc("-w", 1, "slow.test", 8080, status=FAILED)
        self.assertIn("cannot connect to slow.test:8080: Connection timed out", said)


class Arguments(frame.Case):
    """The command line: each mistake is named."""

    WRONG = {
        "": "two arguments are needed, HOST and PORT, and there are 0",
        "localhost": "two arguments are needed, HOST and PORT, and there is 1",
        "localhost 1 2": "there are 3",
        "-Q localhost 1": "unknown option '-Q'",
        "--no-such localhost 1": "unknown option '--no-such'",
        "-w": "-w needs a value",
        "-w 0 localhost 1": "-w 0: must be a number of seconds",
        "-w 1.5 localhost 1": "-w 1.5: must be",
        "-q x localhost 1": "-q x: must be",
        "localhost 0": "port '0': must be a number from 1 to 65535",
        "localhost 65536": "port '65536'",
        "localhost no-such-service": "or a name in /etc/services",
        "-n localhost 1": "'localhost' is no address, and -n forbids",
        "-n 127.0.0.1 ssh": "port 'ssh': must be a number",
        "-n -s localhost 127.0.0.1 1": "'localhost' is no address",
        "localhost 1-2": "a range of ports goes only with -z",
        "-z localhost 2-1": "the smaller one first",
        "-4 -6 localhost 1": "-4 and -6 contradict each other",
        "-U -4 /x": "-U and -4 contradict each other",
        "-U -p 1 /x": "-U and -p contradict each other",
        "-U a b": "-U takes one argument",
        "-k localhost 1": "-k goes with -l",
        "-z -l 1": "-z and -l contradict each other",
        "-l": "-l takes the arguments [HOST] PORT",
        "-l -s 127.0.0.1 1": "-l and -s contradict each other",
        "-d -N localhost 1": "-d and -N contradict each other",
        "--local /x -l 1": "--local and -l contradict each other",
        "--local /x -u localhost 1": "--local and -u contradict each other",
        "--local /x localhost": "two arguments are needed",
        "--local 70000 localhost 1": "--local 70000: must be a port",
        "--local nonsense localhost 1": "--local nonsense: must be",
    }

    def test_mistakes(self):
        for line, text in self.WRONG.items():
            with self.subTest(line):
                said = self.run_nc(*line.split(), status=frame.USAGE)
                self.assertIn(text, said)
                self.assertTrue(all(one.startswith("overlap-nc: ") for one in said.splitlines()), said)

    def test_help_and_version(self):
        for option, text in (("-h", "Usage: overlap-nc"), ("--help", "--probe"), ("-V", "overlap-nc 0."),
                             ("--version", "overlap-nc 0.")):
            program = self.nc(option)
            self.assertIn(text, program.read().decode())
            program.wait(DONE)

    def test_long_names(self):
        program = self.nc("--verbose", "--listen", "--numeric", "--shutdown", "--ipv4", "--source-port=0")
        client = self.nc("--quit", "0", "--timeout=9", "localhost", self.port_of(program))
        client.write(b"hello")
        client.stdin.close()
        self.assertEqual(program.read(), b"hello")

    def test_a_peer_cannot_write_to_the_terminal_by_its_name(self):
        said = self.run_nc("bad\033[31mname", 1, status=FAILED)
        self.assertNotIn("\033", said)


if __name__ == "__main__":
    frame.main()
