#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlap-nc --local: a socket here, through which programs reach a host there. TAP."""

import os
import resource
import signal
import socket
import stat

import frame
from frame import DONE, FAILED


class Local(frame.Case):
    """Connections that are carried, and the socket at which they come in."""

    def carrier(self, where, port, *options):
        """An overlap-nc that carries connections to a port. Returns it and where it listens."""
        program = self.nc("-v", *options, "--local", where, "127.0.0.1", port)
        return program, self.listening(program)

    def come(self, path):
        return self.reach(path, socket.AF_UNIX)

    def test_two_connections_at_once(self):
        listener, port = self.server()
        path = self.folder() + "/.s.PGSQL.5432"
        self.carrier(path, port)
        clients = [self.come(path) for _ in range(2)]
        peers = []
        for client in clients:
            client.sendall(b"%d" % len(peers))
            peers.append(self.accept(listener))
            self.assertEqual(peers[-1].recv(1), b"%d" % (len(peers) - 1))
        tasks = []
        for index in range(2):
            for sender in (clients[index], peers[index]):
                data = frame.noise(40 + len(tasks), 3 << 20)
                reader = peers[index] if sender is clients[index] else clients[index]
                tasks.append((data, self.thread(lambda sender=sender, data=data:
                                                (sender.sendall(data), sender.shutdown(socket.SHUT_WR))),
                              self.thread(frame.read_all, reader)))
        for data, sending, reading in tasks:
            sending.join()
            self.assertEqual(frame.digest(reading.join()), frame.digest(data))

    def test_half_closed_either_way(self):
        listener, port = self.server()
        path = self.folder() + "/s"
        self.carrier(path, port)
        for first in range(2):
            client = self.come(path)
            ends = [client, self.accept(listener)]
            one, other = ends[first], ends[1 - first]
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            self.assertEqual(frame.read_all(other), b"question")
            other.sendall(b"answer")
            other.close()
            self.assertEqual(frame.read_all(one), b"answer")
            one.close()

    def test_a_port_here(self):
        listener, port = self.server()
        _, where = self.carrier("0", port)
        host, here = where.rsplit(":", 1)
        self.assertEqual(host, "127.0.0.1")
        client = self.reach((host, int(here)))
        peer = self.accept(listener)
        client.sendall(b"question")
        self.assertEqual(peer.recv(100), b"question")
        peer.sendall(b"answer")
        self.assertEqual(client.recv(100), b"answer")

    def test_more_than_it_serves_at_a_time(self):
        """Those that find no memory wait, and lose nothing."""
        listener, port = self.server()
        listener.listen(256)
        path = self.folder() + "/s"
        self.carrier(path, port)
        clients = []
        for index in range(128):
            clients.append(self.come(path))
            clients[-1].sendall(b"%3d" % index)
        n_peers = 0
        while n_peers < 128:
            peer = self.accept(listener)
            asked = peer.recv(3)
            peer.sendall(asked)
            peer.close()
            n_peers += 1
            client = clients[int(asked)]
            self.assertEqual(frame.read_all(client), asked)
            client.close()

    def test_a_client_that_goes_away(self):
        listener, port = self.server()
        path = self.folder() + "/s"
        self.carrier(path, port)
        client = self.come(path)
        peer = self.accept(listener)
        data = frame.noise(50, 500000)
        client.sendall(data)
        client.close()
        self.assertEqual(frame.digest(frame.read_all(peer)), frame.digest(data))

    def test_a_client_that_breaks_off(self):
        listener, port = self.server()
        program, where = self.carrier("0", port)
        client = self.reach(("127.0.0.1", int(where.rsplit(":", 1)[1])))
        client.sendall(b"x")
        peer = self.accept(listener)
        self.assertEqual(peer.recv(1), b"x")
        frame.reset(client)
        self.assertEqual(frame.read_all(peer), b"")  # though it goes on itself
        self.assertIsNone(program.process.poll())

    def test_no_descriptors_are_left(self):
        """Who comes then waits until somebody has gone."""
        listener, port = self.server()
        path = self.folder() + "/s"
        program, _ = self.carrier(path, port)
        used = [int(name) for name in os.listdir(f"/proc/{program.process.pid}/fd")]
        resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (max(used) + 3, max(used) + 3))
        clients = [self.come(path) for _ in range(6)]
        for index, client in enumerate(clients):
            client.sendall(b"%d" % index)
        for _ in range(6):
            peer = self.accept(listener)
            client = clients[int(peer.recv(1))]
            peer.close()
            self.assertEqual(frame.read_all(client), b"")
            client.close()
        self.assertIn("others wait: Too many open files", program.said())

    def test_a_peer_that_breaks_off(self):
        listener, port = self.server()
        path = self.folder() + "/s"
        program, _ = self.carrier(path, port)
        client = self.come(path)
        client.sendall(b"x")
        peer = self.accept(listener)
        self.assertEqual(peer.recv(1), b"x")
        frame.reset(peer)
        self.assertEqual(frame.read_all(client), b"")
        self.says(program, "Connection reset by peer")
        again = self.come(path)
        again.sendall(b"y")
        self.assertEqual(self.accept(listener).recv(1), b"y")

    def test_nobody_is_there(self):
        listener, port = self.server()
        listener.close()
        path = self.folder() + "/s"
        program, _ = self.carrier(path, port)
        for _ in range(2):
            self.assertEqual(frame.read_all(self.come(path)), b"")
        self.says(program, f"cannot connect to 127.0.0.1:{port}: Connection refused")
        self.assertIsNone(program.process.poll())

    def test_the_file_is_its_own_and_goes_with_it(self):
        path = self.folder() + "/s"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            program, _ = self.carrier(path, 1)
            mode = os.stat(path).st_mode
            self.assertTrue(stat.S_ISSOCK(mode))
            self.assertEqual(stat.S_IMODE(mode), 0o600)
            program.process.send_signal(number)
            program.wait(DONE)
            self.assertFalse(os.path.exists(path))

    def test_the_service_manager_is_told(self):
        folder = self.folder()
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.settimeout(frame.PATIENCE_S)
        manager.bind(f"{folder}/notify")
        environment = {"NOTIFY_SOCKET": f"{folder}/notify"}
        self.nc("--local", f"{folder}/s", "127.0.0.1", 1, env=environment)
        self.assertEqual(manager.recv(1000), f"READY=1\nSTATUS=Listening at {folder}/s".encode())
        self.come(f"{folder}/s")
        self.nc("-l", "127.0.0.1", 0, env=environment)
        self.assertTrue(manager.recv(1000).startswith(b"READY=1\nSTATUS=Listening at 127.0.0.1:"))

    def test_what_is_in_its_place(self):
        path = self.folder() + "/s"
        program, _ = self.carrier(path, 1)
        self.assertIn("somebody listens there", self.run_nc("--local", path, "127.0.0.1", 1, status=FAILED))
        program.process.kill()
        program.process.wait()
        self.assertTrue(os.path.exists(path))
        again, _ = self.carrier(path, 1)  # one that was left behind is replaced
        os.unlink(path)
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        again.process.terminate()
        again.wait(DONE)
        self.assertIn("Address already in use", self.run_nc("--local", path, "127.0.0.1", 1, status=FAILED))
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_it_ends_with_connections(self):
        listener, port = self.server()
        path = self.folder() + "/s"
        program, _ = self.carrier(path, port)
        client = self.come(path)
        peer = self.accept(listener)
        program.process.terminate()
        program.wait(DONE)
        self.assertEqual(frame.read_all(client), b"")
        self.assertEqual(frame.read_all(peer), b"")

    def test_the_worker_dies(self):
        listener, port = self.server()
        path = self.folder() + "/s"
        for is_idle in (False, True):
            program, _ = self.carrier(path, port)
            if not is_idle:
                client = self.come(path)
                client.sendall(b"x")
                self.assertEqual(self.accept(listener).recv(1), b"x")
            self.kill_worker()
            self.lost(program)
            self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    frame.main()
