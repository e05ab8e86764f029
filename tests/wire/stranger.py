#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client that was written from docs/PROTOCOL.md alone talks to a running overlapd. TAP.

usage: stranger.py OVERLAPD PROTO_FOLDER

It knows the wire by vectors.py, the second reader of the golden vectors, and uses nothing but Python's own library.
"""

import array
import mmap
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import vectors

PATIENCE_S = 20 * int(os.environ.get("OVL_TEST_SLOWNESS", "1"))
REGION_SIZE = 1 << 20
REFUSED, PORT = 0x01, 0x20
WANT_VERDICT, VECTOR = 0x01, 0x02


class Daemon:
    """An overlapd of its own directory; its log is printed when something failed."""

    def __init__(self, program, folder):
        self.path = f"{folder}/s"
        self.log = open(f"{folder}/log", "w+")
        self.process = subprocess.Popen([program, "--socket", self.path, "--log", "stderr",
                                         "--engine", os.environ["OVL_TEST_ENGINE"]], stderr=self.log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.connect().close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                # Its end, or a few milliseconds, whichever comes first.
                try:
                    self.process.wait(0.005)
                except subprocess.TimeoutExpired:
                    pass

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


class Channel:
    """One connection: frames as pairs of path and value."""

    def __init__(self, daemon, schema):
        self.schema, self.connection, self.last_id = schema, daemon.connect(), 0
        self.records, self.settled = [], 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.connection.close()

    def send_raw(self, raw, fd=None):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        sent = self.connection.sendmsg([raw], rights)
        if sent < len(raw):
            self.connection.sendall(raw[sent:])

    def send(self, pairs, fd=None):
        self.send_raw(vectors.write_frame(self.schema, pairs), fd)

    def read_exactly(self, n):
        raw = b""
        while len(raw) < n:
            part = self.connection.recv(n - len(raw))
            if not part:
                raise EOFError("the daemon closed the connection")
            raw += part
        return raw

    def read(self):
        """One frame as a dictionary; completions are also kept, verdicts remembered."""
        header = self.read_exactly(8)
        raw = header + self.read_exactly(struct.unpack_from("<I", header)[0])
        found = dict(vectors.read_frame(self.schema, raw, "FromDaemon"))
        for index in range(found.get("records", 0)):
            prefix = f"record[{index}]."
            record = {path[len(prefix):]: value for path, value in found.items() if path.startswith(prefix)}
            if record.get("kind") == "SETTLED":
                self.settled = record["value"]
            else:
                self.records.append(record)
        return found

    def request(self, what, fields=(), fd=None):
        """The reply's fields, without the prefix."""
        self.last_id += 1
        pairs = [("frame", "CONTROL"), ("fds", 0 if fd is None else 1), ("message", "Request"), ("id", self.last_id)]
        pairs += [(f"{what}.{field}", value) for field, value in fields] or [(what, {})]
        self.send(pairs, fd)
        return self.read_reply(self.last_id)

    def read_reply(self, number):
        while True:
            found = self.read()
            if found["frame"] == "CONTROL" and found.get("reply.id", 0) == number:
                return {path[6:]: value for path, value in found.items() if path.startswith("reply.")}
            vectors.expect(found["frame"] == "RECORDS", f"unexpected: {found}")

    def read_notice(self):
        while True:
            found = self.read()
            if "notice.status" in found:
                return found

    def post(self, *entries):
        pairs = [("frame", "POST"), ("entries", len(entries))]
        for index, entry in enumerate(entries):
            entry = {"n_slots": 1, **entry}
            pairs += [(f"entry[{index}].{path}", value) for path, value in entry.items()]
        self.send(pairs)

    def wait_record(self, tag):
        while True:
            for record in self.records:
                if record.get("tag") == tag:
                    self.records.remove(record)
                    return record
            self.read()

    def wait_settled(self, count):
        while self.settled < count:
            self.read()

    def is_at_end(self):
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


class Stranger(Channel):
    """The first channel of a session at level 1, with one region."""

    def __init__(self, daemon, schema, thread=7):
        super().__init__(daemon, schema)
        self.hello = self.request("hello", [("version_min", 1), ("version_max", 1), ("level", 1), ("thread", thread),
                                            ("client", "a stranger")])
        vectors.expect(self.hello.get("status", 0) == 0, f"the hello was refused: {self.hello}")

    def add_region(self):
        memfd = os.memfd_create("region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memfd, REGION_SIZE)
        os.posix_fallocate(memfd, 0, REGION_SIZE)
        memory = mmap.mmap(memfd, REGION_SIZE)
        reply = self.request("region_add", [("size", REGION_SIZE)], memfd)
        os.close(memfd)
        vectors.expect(reply.get("region_add.region", 0) > 0, f"the region was refused: {reply}")
        return reply["region_add.region"], memory

    def open_socket(self):
        reply = self.request("socket_open", [("family", "FAMILY_INET"), ("type", "TYPE_STREAM")])
        vectors.expect(reply.get("socket_open.socket", 0) > 0, f"no socket: {reply}")
        return reply["socket_open.socket"]


def slice_of(region, offset, length):
    return {"buffer.offset": offset, "buffer.len": length, "buffer.region": region}


def expect_fields(found, **expected):
    for field, value in expected.items():
        vectors.expect(found.get(field, 0) == value, f"{field} is {found.get(field, 0)}, not {value}: {found}")


# --- Cases --------------------------------------------------------------------------------------------------------

def case_hello(daemon, schema):
    with Stranger(daemon, schema) as stranger:
        expect_fields(stranger.hello, **{"hello.version": 1, "hello.level": 1})
        vectors.expect(len(stranger.hello["hello.secret"]) == 16, "the secret has not 16 bytes")
        vectors.expect(stranger.hello["hello.credits"] > 0, "there are no credits")


def case_versions(daemon, schema):
    with Channel(daemon, schema) as channel:
        reply = channel.request("hello", [("version_min", 2), ("version_max", 3), ("level", 1), ("thread", 1)])
        expect_fields(reply, status=-93, reason=36)
        vectors.expect(channel.is_at_end(), "the connection goes on")
    with Channel(daemon, schema) as channel:
        reply = channel.request("hello", [("version_min", 1), ("version_max", 9), ("level", 9), ("thread", 1)])
        expect_fields(reply, **{"status": 0, "hello.version": 1, "hello.level": 2})


def case_unknown_request(daemon, schema):
    with Stranger(daemon, schema) as stranger:
        body = bytes([0x08, 99, 0xa2, 0x1f, 0x02, 0x08, 0x01])  # id 99, and field 500 with a message
        stranger.send_raw(struct.pack("<IBBH", len(body), 1, 0, 0) + body)
        expect_fields(stranger.read_reply(99), status=-95, reason=1)
        expect_fields(stranger.request("status"), status=0)


def case_stream(daemon, schema):
    with Stranger(daemon, schema) as stranger, socket.create_server(("127.0.0.1", 0)) as server:
        region, memory = stranger.add_region()
        number = stranger.open_socket()
        stranger.post({"tag": 1, "socket": number, "op": "CONNECT", "n_slots": 2, "address.family": "INET",
                       "address.port": server.getsockname()[1], "address.host": bytes([127, 0, 0, 1])})
        expect_fields(stranger.wait_record(1), status=0, thread=7, key=number, op="CONNECT", sequence=1)
        peer = server.accept()[0]
        memory[0:5] = b"hello"
        stranger.post({"tag": 2, "socket": number, "op": "SEND", "indication": "ROUTINE", "flags": WANT_VERDICT,
                       **slice_of(region, 0, 5)})
        stranger.wait_settled(2)
        expect_fields(stranger.wait_record(2), status=0, bytes=5, indication="ROUTINE", op="SEND")
        vectors.expect(peer.recv(100) == b"hello", "something else was sent")

        # Two receives, of which one fills two places: the vector lies in the region, too.
        struct.pack_into("<QIIQII", memory, 512, 4096, 3, region, 8192, 4, region)
        stranger.post({"tag": 3, "socket": number, "op": "RECV", "flags": VECTOR | WANT_VERDICT, "op_flags": 0x100,
                       **slice_of(region, 512, 32)},
                      {"tag": 4, "socket": number, "op": "RECV", **slice_of(region, 16384, 100)})
        stranger.wait_settled(3)
        vectors.expect(not stranger.records, "a receive has ended before anything came")
        peer.sendall(b"abcdefgXYZ")
        expect_fields(stranger.wait_record(3), status=0, bytes=7)
        expect_fields(stranger.wait_record(4), status=0, bytes=3)
        vectors.expect(memory[4096:4099] == b"abc" and memory[8192:8196] == b"defg", "the bytes lie elsewhere")
        vectors.expect(memory[16384:16387] == b"XYZ", "the bytes lie elsewhere")

        peer.close()
        stranger.post({"tag": 5, "socket": number, "op": "RECV", **slice_of(region, 0, 100)})
        expect_fields(stranger.wait_record(5), status=0, bytes=0)
        expect_fields(stranger.request("socket_close", [("socket", number)]), status=0)
        expect_fields(stranger.request("socket_close", [("socket", number)]), status=-9, reason=7)
        expect_fields(stranger.request("region_remove", [("region", region)]), status=0)
        expect_fields(stranger.request("region_remove", [("region", region)]), status=-2, reason=8)
        memory.close()


def case_server(daemon, schema):
    with Stranger(daemon, schema) as stranger:
        region, memory = stranger.add_region()
        number = stranger.open_socket()
        address = [("address.family", "FAMILY_INET"), ("address.host", bytes([127, 0, 0, 1]))]
        expect_fields(stranger.request("socket_bind", [("socket", number)] + address), status=0)
        expect_fields(stranger.request("socket_listen", [("socket", number), ("backlog", 8)]), status=0)
        name = stranger.request("socket_name", [("socket", number)])
        port = name["socket_name.address.port"]
        stranger.post({"tag": 1, "socket": number, "op": "ACCEPT"})
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as peer:
            accepted = stranger.wait_record(1)["value"]
            name = stranger.request("socket_name", [("socket", accepted), ("peer", 1)])
            expect_fields(name, **{"socket_name.address.port": peer.getsockname()[1]})
            stranger.post({"tag": 2, "socket": accepted, "op": "RECV", "flags": WANT_VERDICT,
                           **slice_of(region, 0, 100)})
            stranger.wait_settled(2)
            reply = stranger.request("cancel", [("socket", accepted), ("tag", 2)])
            expect_fields(reply, **{"status": 0, "cancel.cancelled": 1})
            expect_fields(stranger.records.pop(), status=-125, reason=23, tag=2)
            expect_fields(stranger.request("cancel", [("socket", accepted), ("all", 1)]), status=-2, reason=38)
            peer.sendall(b"kept")
            stranger.post({"tag": 3, "socket": accepted, "op": "RECV", **slice_of(region, 0, 100)})
            expect_fields(stranger.wait_record(3), status=0, bytes=4)
            option = [("socket", accepted), ("option", "OPTION_NO_DELAY")]
            expect_fields(stranger.request("socket_option_set", option + [("value", 1)]), status=0)
            expect_fields(stranger.request("socket_option_get", option), **{"socket_option.value": 1})
            shutdown = [("socket", accepted), ("direction", "DIRECTION_SEND")]
            expect_fields(stranger.request("socket_shutdown", shutdown), status=0)
            vectors.expect(peer.recv(1) == b"", "the end of the stream did not come")
        memory.close()


def case_refusals(daemon, schema):
    with Stranger(daemon, schema) as stranger:
        region, memory = stranger.add_region()
        number = stranger.open_socket()
        good = slice_of(region, 0, 16)
        table = [
            ({"socket": number + 5, "op": "RECV", **good}, -9, 7),
            ({"socket": number, "op": 99, **good}, -95, 1),
            ({"socket": number, "op": "RECV", "op_flags": 0x10000, **good}, -95, 3),
            ({"socket": number, "op": "RECV", "other": 1, **good}, -22, 4),
            ({"socket": number, "op": "RECV", "indication": 3, **good}, -22, 5),
            ({"socket": number, "op": "RECV", **slice_of(region + 1, 0, 16)}, -14, 8),
            ({"socket": number, "op": "RECV", **slice_of(region, REGION_SIZE - 15, 16)}, -14, 9),
            ({"socket": number, "op": "RECV", **slice_of(region, 2**64 - 8, 16)}, -14, 9),
            ({"socket": number, "op": "RECV", **slice_of(region, 0, (1 << 30) + 1)}, -90, 10),
            ({"socket": number, "op": "RECV", "flags": VECTOR, **slice_of(region, 0, 65 * 16)}, -90, 11),
            ({"socket": number, "op": "RECV", "flags": VECTOR, **slice_of(region, 0, 17)}, -22, 12),
            ({"socket": number, "op": "RECV", **good}, -107, 14),
            ({"socket": number, "op": "ACCEPT"}, -22, 17),
            ({"socket": number, "op": "CONNECT"}, -97, 13),
        ]
        for tag, (entry, status, reason) in enumerate(table, 1):
            stranger.post({"tag": tag, **entry})
            record = stranger.wait_record(tag)
            expect_fields(record, status=status, reason=reason, thread=7, bytes=0)
            vectors.expect(record.get("flags", 0) & REFUSED, f"entry {tag} is not flagged as refused: {record}")
        memory.close()


def case_threads_and_ports(daemon, schema):
    with Stranger(daemon, schema) as stranger, socket.create_server(("127.0.0.1", 0)) as server:
        member = [("session", stranger.hello["hello.session"]), ("secret", stranger.hello["hello.secret"])]
        with Channel(daemon, schema) as thread, Channel(daemon, schema) as port:
            expect_fields(thread.request("attach", member + [("thread", 7)]), status=-17, reason=39)
            expect_fields(thread.request("attach", member + [("thread", 8)]), status=0)
            expect_fields(port.request("attach", member + [("port", 1)]), status=0)
            number = stranger.open_socket()
            associate = [("socket", number), ("port", 1), ("key", 0xbeef)]
            expect_fields(stranger.request("port_associate", associate), status=0)
            expect_fields(stranger.request("port_associate", associate), status=-17, reason=34)
            connect = {"socket": number, "op": "CONNECT", "n_slots": 2, "address.family": "INET",
                       "address.port": server.getsockname()[1], "address.host": bytes([127, 0, 0, 1])}
            thread.post({"tag": 1, "indication": "ROUTINE", **connect})
            expect_fields(thread.wait_record(1), status=-22, reason=6, thread=8)
            thread.post({"tag": 2, **connect})
            record = port.wait_record(2)
            expect_fields(record, status=0, thread=8, key=0xbeef)
            vectors.expect(record.get("flags", 0) & PORT, f"the record is not flagged as a port's: {record}")
    with Channel(daemon, schema) as forger:
        forger.send([("frame", "CONTROL"), ("message", "Request"), ("id", 1), ("attach.session", member[0][1]),
                     ("attach.secret", bytes(16)), ("attach.thread", 9)])
        expect_fields(forger.read_notice(), **{"notice.status": -13, "notice.closing": 1})
        vectors.expect(forger.is_at_end(), "the connection goes on")


def case_malformed_frames(daemon, schema):
    bad = [
        struct.pack("<IBBH", 16385, 1, 0, 0),
        struct.pack("<IBBH", 0xffffffff, 2, 0, 0),
        struct.pack("<IBBH", 8, 3, 0, 0) + bytes(8),
        struct.pack("<IBBH", 8, 77, 0, 0) + bytes(8),
        struct.pack("<IBBH", 8, 1, 0, 1) + bytes(8),
        struct.pack("<IBBH", 8, 2, 0, 0) + struct.pack("<II", 1, 0),
        struct.pack("<IBBH", 72, 2, 0, 0) + struct.pack("<II", 1, 0) + bytes(64),
    ]
    for raw in bad:
        with Stranger(daemon, schema) as stranger:
            stranger.send_raw(raw)
            expect_fields(stranger.read_notice(), **{"notice.status": -71, "notice.reason": 29, "notice.closing": 1})
            vectors.expect(stranger.is_at_end(), f"the connection goes on after {raw.hex()}")
    with Stranger(daemon, schema) as stranger:
        stranger.send_raw(struct.pack("<IBBH", 2, 1, 0, 0) + b"\x08\xff")  # a message that is cut off, twice
        expect_fields(stranger.read_reply(0), status=-71, reason=29)
        stranger.send_raw(struct.pack("<IBBH", 2, 1, 0, 0) + b"\x08\xff")
        expect_fields(stranger.read_reply(0), status=-71, reason=29)
        expect_fields(stranger.request("status"), status=0)
    with Channel(daemon, schema) as channel:
        channel.send([("frame", "CONTROL"), ("message", "Request"), ("id", 1), ("status", {})])
        expect_fields(channel.read_notice(), **{"notice.status": -71, "notice.reason": 30, "notice.closing": 1})


def case_farewell(daemon, schema):
    """The last case: the daemon is stopped."""
    with Stranger(daemon, schema) as stranger:
        vectors.expect(daemon.stop() == 0, "overlapd did not exit with 0")
        expect_fields(stranger.read_notice(), **{"notice.status": -108, "notice.reason": 27, "notice.closing": 1})
        vectors.expect(stranger.is_at_end(), "the connection goes on")


CASES = [case_hello, case_versions, case_unknown_request, case_stream, case_server, case_refusals,
         case_threads_and_ports, case_malformed_frames, case_farewell]


def run(program, schema, folder):
    daemon = Daemon(program, folder)
    failed = False
    print(f"1..{len(CASES)}")
    for number, case in enumerate(CASES, 1):
        name = case.__name__.removeprefix("case_").replace("_", "-")
        try:
            case(daemon, schema)
            print(f"ok {number} - {name}")
        except Exception:
            failed = True
            print(f"not ok {number} - {name}\n# " + traceback.format_exc().rstrip().replace("\n", "\n# "))
    if daemon.process.poll() is None:
        daemon.stop()
    if failed:
        daemon.log.seek(0)
        print("# --- overlapd's log\n# " + daemon.log.read().replace("\n", "\n# "))
    daemon.log.close()
    return failed


def main():
    program, proto = sys.argv[1:]
    schema = vectors.Schema((pathlib.Path(proto) / "overlapd.proto").read_text())
    with tempfile.TemporaryDirectory(prefix="ovl-", dir="/tmp") as folder:
        return 1 if run(program, schema, folder) else 0


if __name__ == "__main__":
    sys.exit(main())
