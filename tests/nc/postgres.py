#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real psql that may only use Unix sockets, to a real PostgreSQL, through overlap-nc --local. TAP.

Skipped where there is no PostgreSQL. It is not installed for this: an installed one is started, and stays.
"""

import glob
import os
import shutil
import socket
import subprocess

import frame

SERVER = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), None)


class Postgres(frame.Case):
    """What one does with a database."""

    def daemon_arguments(self):
        return self.localhost_for_all()

    def setUp(self):
        if not SERVER or not os.access(f"{SERVER}/initdb", os.X_OK) or not shutil.which("psql"):
            self.skipTest("no PostgreSQL is here")
        super().setUp()
        self.place = self.folder()
        self.user = {}
        if os.geteuid() == 0:  # which it refuses to be
            self.user = {"user": 65534, "group": 65534, "extra_groups": []}
            os.chown(self.place, 65534, 65534)
        subprocess.run([f"{SERVER}/initdb", "-D", f"{self.place}/data", "-U", "owner", "-A", "trust", "-N"], check=True,
                       stdout=subprocess.DEVNULL, cwd=self.place, **self.user)
        # It takes a fixed port: one that is held for it, in the way in which it asks for it itself.
        held = socket.socket()
        self.addCleanup(held.close)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self.port = held.getsockname()[1]
        self.log = open(f"{self.place}/log", "w+b")  # pylint: disable=consider-using-with
        self.addCleanup(self.log.close)
        server = subprocess.Popen(
            [f"{SERVER}/postgres", "-D", f"{self.place}/data", "-c", "listen_addresses=127.0.0.1", "-c",
             f"port={self.port}", "-c", "unix_socket_directories=", "-c", "fsync=off"],
            stdout=self.log, stderr=self.log, cwd=self.place, **self.user)
        self.addCleanup(self._stop, server)
        frame.eventually(self, lambda: subprocess.run([f"{SERVER}/pg_isready", "-q", "-h", "127.0.0.1", "-p",
                                                       str(self.port)], check=False).returncode == 0)
        self.prefix = []
        if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            self.prefix = ["unshare", "--net"]  # neither psql nor overlap-nc has a network
        program = self.nc("-v", "--local", f"{self.place}/.s.PGSQL.5432", "127.0.0.1", self.port, prefix=self.prefix)
        self.listening(program)

    def _stop(self, server):
        server.terminate()
        server.wait(frame.PATIENCE_S)

    def psql(self, command, **options):
        return subprocess.Popen([*self.prefix, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.place,
                                 "-p", "5432", "-U", "owner", "-d", "postgres", "-c", command],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)

    def ask(self, command, data=None):
        client = self.psql(command, stdin=subprocess.PIPE)
        said, _ = client.communicate(data, timeout=frame.PATIENCE_S)
        self.assertEqual(client.returncode, 0, said)
        return said

    def test_data_both_ways(self):
        self.ask("create table things (number integer, text text)")
        lines = b"".join(b"%d\t%s\n" % (index, frame.noise(index, 20).hex().encode()) for index in range(100000))
        self.ask("copy things from stdin", lines)
        self.assertEqual(self.ask("select count(*) from things"), b"100000\n")
        self.assertEqual(frame.digest(self.ask("copy (select * from things order by number) to stdout")),
                         frame.digest(lines))

    def test_several_at_once(self):
        self.ask("create table counts (number integer)")
        clients = [self.psql(f"insert into counts select {index} from generate_series(1, 1000)") for index in range(8)]
        for client in clients:
            said, _ = client.communicate(timeout=frame.PATIENCE_S)
            self.assertEqual(client.returncode, 0, said)
        self.assertEqual(self.ask("select count(*), count(distinct number) from counts"), b"8000|8\n")


if __name__ == "__main__":
    frame.main()
