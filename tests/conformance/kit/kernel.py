# SPDX-License-Identifier: Apache-2.0
"""Ordinary peers: sockets of the kernel, on loopback and port 0 or in a directory of the case, without the daemon.

Each step is one verb; all of them wait with a limit, and none sleeps.
"""

import fcntl
import os
import select
import socket
import struct
import termios
import time

from kit.values import Problem

FAMILIES = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}
LOOPBACK = {"INET": "127.0.0.1", "INET6": "::1"}
FILL_SNDBUF = 4096  # what waits at the sender is not to count for much
TCP_INFO_UNACKED = 24  # of struct tcp_info: segments on their way


class Kernel:
    def __init__(self, values, folder, patience):
        self.values, self.folder, self.patience = values, folder, patience
        self.sockets, self.families = {}, {}

    def close_all(self):
        for each in self.sockets.values():
            each.close()

    def keep(self, name, family, each):
        each.settimeout(self.patience)
        self.sockets[name], self.families[name] = each, family

    def get(self, name):
        if name not in self.sockets:
            raise Problem(f"the case has no kernel socket {name}")
        return self.sockets[name]

    def publish(self, name):
        """$NAME.port, $NAME.host and $NAME.path say where it is."""
        where, family = self.get(name).getsockname(), self.families[name]
        if family == "UNIX":
            self.values.variables[f"{name}.path"] = where.encode() if isinstance(where, str) else where
        else:
            self.values.variables[f"{name}.port"] = where[1]
            self.values.variables[f"{name}.host"] = socket.inet_pton(FAMILIES[family], where[0])

    def options(self, words):
        found = dict(word.partition("=")[::2] for word in words)
        return found, found.get("family", "INET")

    def place(self, name, family):
        return os.path.join(self.folder, name) if family == "UNIX" else (LOOPBACK[family], 0)

    def target(self, name, options, family):
        if family == "UNIX":
            return self.values.value("path", options["path"])
        return (LOOPBACK[family], self.values.value("port", options["port"]))

    # --- The verbs -------------------------------------------------------------------------------------------------

    def listen(self, name, *words):
        options, family = self.options(words)
        each = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        self.keep(name, family, each)
        if "rcvbuf" in options:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(options["rcvbuf"]))
        each.bind(self.place(name, family))
        each.listen(int(options.get("backlog", 16)))
        self.publish(name)

    def refuse(self, name, *words):
        """A port of loopback where nobody listens, kept busy so that nobody else takes it."""
        _, family = self.options(words)
        each = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        self.keep(name, family, each)
        each.bind(self.place(name, family))
        self.publish(name)

    def accept(self, listener, name):
        try:
            each, _ = self.get(listener).accept()
        except TimeoutError:
            raise Problem(f"nobody connected to {listener}") from None
        self.keep(name, self.families[listener], each)

    def dial(self, name, *words):
        options, family = self.options(words)
        each = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
        self.keep(name, family, each)
        try:
            each.connect(self.target(name, options, family))
        except OSError as error:
            raise Problem(f"{name} cannot connect: {error}") from None
        self.publish(name)

    def datagram(self, name, *words):
        _, family = self.options(words)
        each = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        self.keep(name, family, each)
        each.bind(self.place(name, family))
        self.publish(name)

    def write(self, name, what):
        self.get(name).sendall(self.values.value("data", what))

    def urgent(self, name, what):
        """Sends it; its last byte is urgent."""
        self.get(name).send(self.values.value("data", what), socket.MSG_OOB)

    def readurgent(self, name, what):
        """The urgent byte."""
        expected = self.values.value("data", what)
        if not select.select([], [], [self.get(name)], self.patience)[2]:
            raise Problem(f"no urgent byte came to {name}")
        got = self.get(name).recv(1, socket.MSG_OOB)
        if got != expected:
            raise Problem(f"the urgent byte that came to {name} is {got!r}, not {expected!r}")

    def fill(self, name, what):
        """Sends over and over until the other side takes no more: then the sender waits, and nothing is on its way. $NAME.n
        says how many bytes it was."""
        each, part = self.get(name), self.values.value("data", what)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FILL_SNDBUF)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.setblocking(False)
        n, deadline = 0, time.monotonic() + self.patience
        while time.monotonic() < deadline:
            try:
                n += each.send(part[n % len(part):])
                continue
            except BlockingIOError:
                pass
            waiting = struct.unpack("i", fcntl.ioctl(each, termios.TIOCOUTQ, bytes(4)))[0]
            unacked = struct.unpack_from("I", each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), TCP_INFO_UNACKED)[0]
            if waiting and not unacked and not select.select([], [each], [], 0)[1]:
                each.settimeout(self.patience)
                self.values.variables[f"{name}.n"] = n
                return
        raise Problem(f"{name} sent {n} bytes, and the other side took them all")

    def read(self, name, what):
        expected = self.values.value("data", what)
        got = b""
        try:
            while len(got) < len(expected):
                part = self.get(name).recv(len(expected) - len(got))
                if not part:
                    break
                got += part
        except OSError as error:
            raise Problem(f"{name} read {len(got)} of {len(expected)} bytes, then: {error}") from None
        if got != expected:
            at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
            raise Problem(f"{name} read something else, from byte {at} on\nexpected {expected[at:at + 40]!r} "
                          f"({len(expected)} bytes)\ngot {got[at:at + 40]!r} ({len(got)} bytes)")

    def readend(self, name):
        """The end of the stream comes, and nothing before it."""
        try:
            got = self.get(name).recv(4096)
        except ConnectionResetError:
            got = b""
        except TimeoutError:
            raise Problem(f"the end of the stream did not come to {name}") from None
        if got:
            raise Problem(f"{name} read {got!r}, where the stream should have ended")

    def nothing(self, name):
        """Nothing has come, not even the end."""
        if select.select([self.get(name)], [], [], 0)[0]:
            raise Problem(f"{name} has something to read: {self.get(name).recv(100)!r}")

    def sendto(self, name, what, *words):
        options, _ = self.options(words)
        self.get(name).sendto(self.values.value("data", what), self.target(name, options, self.families[name]))

    def recvfrom(self, name, what, *words):
        expected = self.values.value("data", what)
        try:
            got, where = self.get(name).recvfrom(1 << 17)
        except TimeoutError:
            raise Problem(f"no datagram came to {name}") from None
        if got != expected:
            raise Problem(f"{name} received something else\nexpected {expected[:80]!r} ({len(expected)} bytes)\n"
                          f"got {got[:80]!r} ({len(got)} bytes)")
        for word in words:
            if word.startswith("from=?") and self.families[name] != "UNIX":
                self.values.variables[word[6:]] = where[1]

    def shut(self, name):
        self.get(name).shutdown(socket.SHUT_WR)

    def reset(self, name):
        each = self.get(name)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()

    def close(self, name):
        self.get(name).close()


VERBS = ("listen", "refuse", "accept", "dial", "datagram", "write", "read", "readend", "nothing", "sendto", "recvfrom",
         "shut", "reset", "close", "urgent", "readurgent", "fill")
