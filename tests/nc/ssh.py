#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real ssh through overlap-nc as its ProxyCommand, to a real sshd, with keys that are thrown away. TAP.

usage: ssh.py SSHD...    where it may be; the first that is there

Each connection gets an sshd of its own, as inetd would start it: nothing of it listens, and no port is fixed.
"""

import getpass
import os
import shlex
import shutil
import subprocess
import sys

import frame

SSHD = next((path for path in sys.argv[1:] if os.access(path, os.X_OK)), None)
del sys.argv[1:]

CONFIG = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
"""

# As root sshd wants a user and a folder that installing it makes: it gets them in a view of its own of the files.
AS_ROOT = """set -e
mount -t tmpfs none /run && mkdir -m 755 /run/sshd
cp /etc/passwd "$0/passwd" && echo 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin' >>"$0/passwd"
mount --bind "$0/passwd" /etc/passwd
exec "$@"
"""


def can(*command):
    """Whether a command succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Ssh(frame.Case):
    """What one does with ssh."""

    def daemon_arguments(self):
        return self.localhost_for_all()

    def setUp(self):
        if not SSHD:
            self.skipTest("no sshd is here: script/bootstrap unpacks one")
        if not shutil.which("ssh") or not shutil.which("ssh-keygen"):
            self.skipTest("no ssh is here: script/bootstrap installs it")
        super().setUp()
        self.place = self.folder()
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.place}/{name}"], check=True)
        with open(f"{self.place}/config", "w", encoding="utf-8") as config:
            config.write(CONFIG.format(folder=self.place))
        self.command = [SSHD, "-i", "-e", "-f", f"{self.place}/config"]
        if os.geteuid() == 0:
            if not can("unshare", "--mount", "true"):
                self.skipTest("sshd as root needs a view of its own of the files, which cannot be had here")
            self.command = ["unshare", "--mount", "sh", "-c", AS_ROOT, self.place, *self.command]
        self.listener, self.port = self.server()
        self.log = open(f"{self.place}/log", "w+b")  # pylint: disable=consider-using-with
        self.addCleanup(self.log.close)

    def ssh(self, *command, prefix=(), proxy=()):
        """Starts ssh, and an sshd for its connection. Returns ssh, and the sshd."""
        proxy_command = shlex.join([frame.NC, *proxy]) + " %h %p"
        client = subprocess.Popen(
            [*prefix, "ssh", "-F", "none", "-i", f"{self.place}/key", "-p", str(self.port), "-o", "BatchMode=yes",
             "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.place}/known",
             "-o", f"ProxyCommand={proxy_command}", f"{getpass.getuser()}@127.0.0.1", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path})
        self.addCleanup(self._end, client)
        connection, _ = self.listener.accept()
        with connection:
            server = subprocess.Popen(self.command, stdin=connection, stdout=connection, stderr=self.log)
        self.addCleanup(self._end, server)
        return client, server

    def _end(self, process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def said(self):
        self.log.seek(0)
        return self.log.read().decode()

    def finish(self, client, data=b"", status=0):
        """Gives ssh its input, and waits for its end. Returns what it wrote."""
        out, said = client.communicate(data, timeout=frame.PATIENCE_S)
        self.assertEqual(client.returncode, status, f"{said.decode()}\n{self.said()}")
        return out, said.decode()

    def test_a_command_both_ways(self):
        data = frame.noise(60, 8 << 20)
        client, server = self.ssh("cat; echo said >&2; exit 7")
        out, said = self.finish(client, data, 7)
        self.assertEqual(frame.digest(out), frame.digest(data))
        self.assertIn("said", said)
        server.wait(frame.PATIENCE_S)

    def test_from_where_there_is_no_network(self):
        if not can("unshare", "--net", "true"):
            self.skipTest("needs root, to be without a network")
        data = frame.noise(61, 3 << 20)
        client, _ = self.ssh("sha256sum", prefix=["unshare", "--net"])
        out, _ = self.finish(client, data)
        self.assertEqual(out.split()[0].decode(), frame.digest(data))

    def test_the_server_goes_away(self):
        """ssh hears of it at once, and does not wait for somebody to type."""
        client, server = self.ssh("echo here; exec cat")
        self.assertEqual(client.stdout.readline(), b"here\n")
        subprocess.run(["pkill", "-KILL", "-P", str(server.pid)], check=False)
        server.kill()
        server.wait()
        client.wait(frame.PATIENCE_S)
        self.assertEqual(client.returncode, 255)

    def test_ssh_is_killed(self):
        """The server sees the end of the connection: overlap-nc does not stay behind."""
        client, server = self.ssh("echo here; exec cat")
        self.assertEqual(client.stdout.readline(), b"here\n")
        client.kill()
        server.wait(frame.PATIENCE_S)

    def test_nobody_listens(self):
        self.listener.close()
        done = subprocess.run(
            ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", f"ProxyCommand={frame.NC} %h %p", "-p", str(self.port),
             "127.0.0.1", "true"], capture_output=True, check=False, timeout=frame.PATIENCE_S,
            env=os.environ | {"OVERLAPD_SOCKET": self.daemon.path})
        self.assertEqual(done.returncode, 255)
        self.assertIn(f"overlap-nc: cannot connect to 127.0.0.1:{self.port}: Connection refused", done.stderr.decode())


if __name__ == "__main__":
    frame.main()
