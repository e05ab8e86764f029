#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The driver of the Python client: does what the conformance runner says, a line at a time, and reports.

The lines are described in tests/conformance/README.md. Buffers are the client's own: `recv` says how many bytes, and what
came is in the operation. It knows nothing but the package overlap, which must be on the path.
"""

import contextlib
import errno
import socket
import sys

import overlap

FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "unix": socket.AF_UNIX}
TYPES = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}
DIRECTIONS = {"send": socket.SHUT_WR, "receive": socket.SHUT_RD, "both": socket.SHUT_RDWR}
FEATURES = "level:0 level:1 thread port routine verdict peek waitall cork option quiet cancel status"


def pattern(seed, length):
    return bytes((seed + i + i // 251) & 255 for i in range(length))


def checksum(data):
    value = 0x811c9dc5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return value


class Line:
    """A command, the name of what it is about, options and flags."""

    def __init__(self, text):
        words = text.split()
        self.verb, self.name = words[0], words[1] if len(words) > 1 else ""
        self.options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        self.flags = {word for word in words[1:] if "=" not in word}

    def number(self, name):
        return int(self.options.get(name, "0"), 0)


class Driver:
    def __init__(self):
        self.sessions, self.threads, self.ports, self.sockets = {}, {}, {}, {}
        self.operations, self.failed, self.into, self.corks, self.ran = {}, {}, {}, {}, []

    def thread(self, line):
        return self.threads[line.options["thread"]]

    def seconds(self, line):
        return line.number("timeout") / 1000

    # --- Sessions, threads, ports, sockets -------------------------------------------------------------------------

    def do_features(self, line):
        return FEATURES

    def do_open(self, line):
        session = overlap.Session(line.options["path"], level=line.number("level"), credits=line.number("credits"))
        self.sessions[line.name] = session
        return f"level={session.level} credits={session.credits}"

    def do_thread(self, line):
        session = self.sessions[line.options["session"]]
        is_first = session.thread not in self.threads.values()
        self.threads[line.name] = session.thread if is_first else session.thread_open()
        return f"number={self.threads[line.name].number}"

    def do_port(self, line):
        self.ports[line.name] = self.sessions[line.options["session"]].port_open()

    def do_socket(self, line):
        session = self.thread(line).session
        self.sockets[line.name] = session.socket(FAMILIES[line.options["family"]], TYPES[line.options["type"]])

    def do_bind(self, line):
        self.sockets[line.name].bind((line.options["host"], line.number("port")))

    def do_listen(self, line):
        self.sockets[line.name].listen(line.number("backlog"))

    def do_name(self, line):
        each = self.sockets[line.name]
        where = each.getpeername() if "peer" in line.flags else each.getsockname()
        return f"host={where[0]} port={where[1]}"

    def do_option_set(self, line):
        self.sockets[line.name].set_option(overlap.Option[line.options["option"].upper()], line.number("value"))

    def do_option_get(self, line):
        return f"value={self.sockets[line.name].get_option(overlap.Option[line.options['option'].upper()])}"

    def do_associate(self, line):
        self.ports[line.options["port"]].associate(self.sockets[line.name], line.number("key"))

    def do_shutdown(self, line):
        self.sockets[line.name].shutdown(DIRECTIONS[line.options["how"]])

    def do_status(self, line):
        return f"worker={self.thread(line).session.status().get('worker_pid', 0)}"

    def do_close_socket(self, line):
        self.sockets[line.name].close()

    def do_close_thread(self, line):
        self.threads[line.name].close()

    def do_close_port(self, line):
        self.ports[line.name].close()

    def do_close_session(self, line):
        self.sessions[line.name].close()

    # --- Operations ------------------------------------------------------------------------------------------------

    def post(self, line, what, *arguments, **options):
        """Posts by a method of the socket; tells whether the operation is pending or done."""
        if "routine" in line.flags:
            options["routine"] = lambda operation, name=line.name: self.ran.append(name)
        method = getattr(self.sockets[line.options["socket"]], what)
        self.failed.pop(line.name, None)
        try:
            operation = method(*arguments, thread=self.thread(line), verdict="verdict" in line.flags,
                               quiet="quiet" in line.flags, **options)
        except OSError as error:
            self.failed[line.name] = error
            raise
        self.operations[line.name] = operation
        return "done" if "verdict" in line.flags and operation.done else "pending"

    def do_connect(self, line):
        return self.post(line, "connect", (line.options["host"], line.number("port")))

    def do_accept(self, line):
        self.into[line.name] = line.options["into"]
        return self.post(line, "accept")

    def do_recv(self, line):
        return self.post(line, "recv", line.number("len"), peek="peek" in line.flags, waitall="waitall" in line.flags)

    def do_send(self, line):
        return self.post(line, "send", pattern(line.number("seed"), line.number("len")))

    def report(self, name):
        if name in self.failed:
            return f"status={-self.failed[name].errno} bytes=0 reason={int(getattr(self.failed[name], 'reason', 0))}"
        operation = self.operations[name]
        if not operation.done:
            return f"status={-errno.EINPROGRESS} bytes=0 reason=0"
        if name in self.into and operation.status == 0:
            self.sockets[self.into.pop(name)] = operation.accepted
        return f"status={operation.status} bytes={operation.bytes} reason={int(operation.reason)}"

    def do_wait(self, line):
        if not self.operations[line.name].wait(self.seconds(line)):
            raise TimeoutError(errno.ETIMEDOUT, "it is pending")
        return self.report(line.name)

    def do_result(self, line):
        with contextlib.suppress(OSError):
            self.thread(line).dispatch()
        return self.report(line.name)

    def do_data(self, line):
        data = self.operations[line.name].data or b""
        return f"len={len(data)} fnv={checksum(data)}"

    def do_sleep(self, line):
        alerted = self.threads[line.name].sleep(self.seconds(line))
        return f"{'alerted ' if alerted else ''}ran={','.join(self.ran)}"

    def do_port_wait(self, line):
        packet = self.ports[line.name].wait(self.seconds(line))[0]
        name = next(name for name, each in self.operations.items() if each is packet.operation)
        return f"key={packet.key} op={name} {self.report(name)}"

    def do_cancel(self, line):
        if "op" in line.options:
            cancelled = self.operations[line.options["op"]].cancel()
        else:
            cancelled = self.sockets[line.name].cancel()
        return f"cancelled={int(cancelled)}"

    def do_cork(self, line):
        self.corks[line.name] = self.threads[line.name].cork()
        self.corks[line.name].__enter__()

    def do_uncork(self, line):
        self.corks.pop(line.name).__exit__(None, None, None)

    def answer(self, text):
        self.ran = []
        try:
            line = Line(text)
            handler = getattr(self, "do_" + line.verb.replace("-", "_"))
            return f"ok {handler(line) or ''}".rstrip()
        except OSError as error:
            return f"error {-(error.errno or errno.EIO)} reason={int(getattr(error, 'reason', 0))} {error}".splitlines()[0]
        except (KeyError, AttributeError, ValueError) as error:
            return f"error {-errno.EINVAL} reason=0 {error!r}".splitlines()[0]

    def close(self):
        for session in self.sessions.values():
            session.close()


def main():
    driver = Driver()
    for text in sys.stdin:
        print(driver.answer(text), flush=True)
    driver.close()


main()
