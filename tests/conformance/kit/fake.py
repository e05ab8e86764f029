# SPDX-License-Identifier: Apache-2.0
"""A daemon that does nothing of itself, for cases of clients.

It answers requests as an honest daemon would, keeps the entries that come, and ends them when the case says so, honestly
or not. It has no thread: whoever waits for the client calls pump(). It grants levels 0 and 1.
"""

import os
import select
import socket
import time

from kit import codec, memory
from kit.stream import Stream
from kit.values import Problem

WANT_VERDICT, VECTOR, INLINE, MORE = 0x01, 0x02, 0x04, 0x08
SECRET = bytes(range(0xa0, 0xb0))
SESSION = 0x1122334455667788
FIRST_SOCKET = 0x100000001
INLINE_BYTES = 4 << 20


class Connection:
    def __init__(self, stream):
        self.stream = stream
        self.thread, self.port, self.n_entries = None, None, 0
        self.partial = None  # an entry whose next piece has not come


class Entry:
    def __init__(self, connection, fields, payload):
        self.connection, self.fields, self.payload, self.has_ended = connection, fields, payload, False


class Fake:
    def __init__(self, contract, folder, level, patience):
        self.contract, self.level, self.patience = contract, level, patience
        self.path = os.path.join(folder, "fake")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.connections, self.entries, self.requests, self.regions = [], [], [], {}
        self.rules = {}  # by request: how it is treated
        self.n_sockets, self.n_regions, self.sequence, self.batch = 0, 0, 0, []
        self.settles = True
        self.grant = {"version": 1, "credits": 64}

    def close(self):
        self.listener.close()
        for connection in self.connections:
            connection.stream.close()
        for region in self.regions.values():
            region.close()

    # --- What comes ------------------------------------------------------------------------------------------------

    def pump(self, timeout, also=()):
        """Serves whatever comes, until something of `also` is readable or the time is over. Returns what is."""
        alive = {connection.stream.connection: connection for connection in self.connections
                 if not connection.stream.has_ended}
        ready = select.select([self.listener, *alive, *also], [], [], max(0, timeout))[0]
        for each in ready:
            if each is self.listener:
                accepted, _ = self.listener.accept()
                self.connections.append(Connection(Stream(accepted, self.patience)))
            elif each in alive:
                self.read(alive[each])
        return [each for each in ready if each in also]

    def wait(self, condition, what):
        deadline = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > deadline:
                raise Problem(f"{what} did not come from the client within {self.patience} s\n{self.story()}")
            self.pump(deadline - time.monotonic())

    def story(self):
        shown = [f"requests: {', '.join(name for name, _ in self.requests) or 'none'}"]
        for number, entry in enumerate(self.entries, 1):
            fields = " ".join(f"{key}={self.contract.show(key, value)}" for key, value in entry.fields.items() if value)
            shown.append(f"entry {number}: {fields}")
        return "\n".join(shown)

    def read(self, connection):
        connection.stream.fill(0)
        while True:
            frame = connection.stream.take()
            if frame is None:
                return
            try:
                self.take(connection, frame)
            except codec.Malformed as error:
                raise Problem(f"the client sent what is no frame of this protocol: {error}") from None

    def take(self, connection, frame):
        if frame.reserved or frame.n_fds != len(frame.fds) or not frame.body or \
                len(frame.body) > codec.BODY_MAX.get(frame.kind, 0):
            raise Problem(f"a frame of kind {frame.kind} with {len(frame.body)} bytes, reserved {frame.reserved}, n_fds "
                          f"{frame.n_fds} ({len(frame.fds)} came)")
        if frame.kind == codec.CONTROL:
            self.take_request(connection, frame)
        elif frame.kind == codec.POST:
            self.take_entries(connection, frame)
        else:
            raise Problem(f"a client sends no frames of kind {frame.kind}")

    def take_entries(self, connection, frame):
        if connection.thread is None:
            raise Problem("entries came on a channel that is no thread's")
        entries, payload = codec.unpack_entries(frame.body)
        wants_verdict = False
        for fields in entries:
            size = self.payload_len(fields)
            part, payload = payload[:size], payload[size:]
            if len(part) < size:
                raise Problem("a POST frame has less payload than its entries say")
            self.take_entry(connection, fields, part)
            wants_verdict = wants_verdict or fields["flags"] & WANT_VERDICT
        if payload:
            raise Problem(f"a POST frame has {len(payload)} bytes that belong to no entry")
        if wants_verdict and self.settles:
            self.settle(connection)

    @staticmethod
    def payload_len(fields):
        sends = fields["op"] in (4, 6, 14)
        return fields["buffer.len"] if fields["flags"] & INLINE and sends else 0

    def take_entry(self, connection, fields, payload):
        names = ("tag", "socket", "op", "indication")
        before = connection.partial
        if before is not None:
            if any(before.fields[name] != fields[name] for name in names) or not fields["flags"] & INLINE:
                raise Problem("something else than the next piece of a continued send came")
            before.payload += payload
        else:
            before = Entry(connection, fields, payload)
            connection.n_entries += 1
            self.entries.append(before)
        connection.partial = before if fields["flags"] & MORE else None

    def take_request(self, connection, frame):
        found = codec.unpack_message(self.contract, "Request", frame.body)
        name = next((path for path in found if path != "id"), "nothing")
        fields = {path.partition(".")[2]: value for path, value in found.items() if path.startswith(name + ".")}
        self.requests.append((name, fields))
        first = connection.thread is None and connection.port is None
        if first and name not in ("hello", "attach"):
            raise Problem(f"the first message of a connection is {name}")
        fd = frame.fds[0] if frame.fds else None
        try:
            self.treat(connection, found.get("id", 0), name, fields, fd)
        finally:
            if fd is not None:
                os.close(fd)

    # --- Requests --------------------------------------------------------------------------------------------------

    def treat(self, connection, number, name, fields, fd):
        kind, what = self.rules.get(name, ("honest", None))
        reply = {"id": number}
        if kind == "mute":
            return
        if kind == "hangup":
            self.hang_up(connection)
            return
        if kind in ("raw", "last"):
            self.send(connection, what)
            if kind == "last":
                self.hang_up(connection)
            return
        if kind in ("refuse", "answer"):
            reply.update(what)
        if kind in ("honest", "answer"):
            honest = getattr(self, "honest_" + name, lambda *unused: {})(connection, fields, fd)
            reply = {**codec.nest(honest), **codec.nest(reply)} if kind == "honest" else self.merge(honest, reply)
        if kind == "refuse" and name == "hello":
            connection.thread = 0
        self.reply(connection, reply)

    @staticmethod
    def merge(honest, reply):
        return codec.nest({**honest, **reply})

    def reply(self, connection, reply):
        body = codec.pack_message(self.contract, "FromDaemon", {"reply": reply})
        self.send(connection, codec.pack_frame(codec.CONTROL, body))

    def honest_hello(self, connection, fields, fd):
        connection.thread = fields.get("thread", 0)
        level = min(fields.get("level", 0), self.level, 1)
        return {"hello.version": self.grant["version"], "hello.level": level, "hello.session": SESSION,
                "hello.secret": SECRET, "hello.credits": min(fields.get("credits", 0) or 64, self.grant["credits"]),
                "hello.regions": 64, "hello.region_bytes": 256 << 20, "hello.sockets": 4096, "hello.engine": b"fake",
                "hello.engine_reason": b"the case plays it", "hello.inline_bytes": INLINE_BYTES}

    def honest_attach(self, connection, fields, fd):
        if fields.get("session") != SESSION or fields.get("secret") != SECRET:
            raise Problem("an Attach has another session or secret than the Hello's reply gave")
        connection.thread, connection.port = fields.get("thread"), fields.get("port")
        return {}

    def honest_region_add(self, connection, fields, fd):
        if fd is None or os.fstat(fd).st_size != fields.get("size"):
            raise Problem("a RegionAdd came without memory of the size that it says")
        if self.level == 0:
            raise Problem("a client of level 0 adds a region")
        self.n_regions += 1
        self.regions[self.n_regions] = memory.Mapping(fd, fields["size"])
        return {"region_add.region": self.n_regions}

    def honest_socket_open(self, connection, fields, fd):
        self.n_sockets += 1
        return {"socket_open.socket": FIRST_SOCKET + self.n_sockets - 1}

    def honest_socket_name(self, connection, fields, fd):
        return {"socket_name.address.family": 2, "socket_name.address.port": 4242,
                "socket_name.address.host": bytes([127, 0, 0, 1])}

    def honest_socket_option_get(self, connection, fields, fd):
        return {"socket_option.value": 1}

    def honest_status(self, connection, fields, fd):
        return {"status_report.worker_pid": os.getpid(), "status_report.engine": b"fake"}

    def honest_cancel(self, connection, fields, fd):
        ended = [entry for entry in self.entries if not entry.has_ended and
                 fields.get("socket", 0) in (0, entry.fields["socket"]) and
                 fields.get("tag", entry.fields["tag"]) == entry.fields["tag"]]
        if not ended:
            return {"status": -2, "reason": 38, "text": b"nothing matched"}
        for entry in ended:
            self.finish(entry, {"status": -125, "reason": 23})
        return {"cancel.cancelled": len(ended)}

    def honest_socket_close(self, connection, fields, fd):
        for entry in self.entries:
            if not entry.has_ended and entry.fields["socket"] == fields.get("socket"):
                self.finish(entry, {"status": -125, "reason": 24})
        return {}

    # --- What it sends ---------------------------------------------------------------------------------------------

    def send(self, connection, raw):
        try:
            connection.stream.send(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def hang_up(self, connection):
        connection.stream.connection.shutdown(socket.SHUT_RDWR)
        connection.stream.has_ended = True

    def channel(self, name):
        """By thread's or port's order: t1, p1; the first connection without one."""
        if name is None:
            return self.connections[0]
        kind, number = name[0], int(name[1:])
        found = [each for each in self.connections if (each.thread if kind == "t" else each.port) is not None]
        if len(found) < number:
            raise Problem(f"the client has no connection {name}\n{self.story()}")
        return found[number - 1]

    def send_records(self, connection, records):
        body = len(records).to_bytes(4, "little") + bytes(4)
        body += b"".join(codec.pack_record(record) for record, _ in records)
        body += b"".join(payload for _, payload in records)
        self.send(connection, codec.pack_frame(codec.RECORDS, body))

    def settle(self, connection, value=None):
        self.send_records(connection, [({"kind": 2, "value": connection.n_entries if value is None else value}, b"")])

    def place(self, entry, data):
        """Puts received bytes where the entry wants them. Returns the payload for the frame."""
        fields = entry.fields
        if fields["flags"] & INLINE:
            return data
        slices = [(fields["buffer.offset"], fields["buffer.len"], fields["buffer.region"])]
        if fields["flags"] & VECTOR:
            raw = self.regions[fields["buffer.region"]].read(fields["buffer.offset"], fields["buffer.len"])
            slices = [(int.from_bytes(raw[at:at + 8], "little"), int.from_bytes(raw[at + 8:at + 12], "little"),
                       int.from_bytes(raw[at + 12:at + 16], "little")) for at in range(0, len(raw), 16)]
        for offset, length, region in slices:
            if data:
                self.regions[region].write(offset, data[:length])
                data = data[length:]
        return b""

    def sent(self, entry):
        """The bytes that an entry sends."""
        fields = entry.fields
        if fields["flags"] & INLINE:
            return entry.payload
        if fields["flags"] & VECTOR:
            raw = self.regions[fields["buffer.region"]].read(fields["buffer.offset"], fields["buffer.len"])
            data = b""
            for at in range(0, len(raw), 16):
                offset, length = int.from_bytes(raw[at:at + 8], "little"), int.from_bytes(raw[at + 8:at + 12], "little")
                data += self.regions[int.from_bytes(raw[at + 12:at + 16], "little")].read(offset, length)
            return data
        if not fields["buffer.len"]:
            return b""
        return self.regions[fields["buffer.region"]].read(fields["buffer.offset"], fields["buffer.len"])

    def record_of(self, entry, given):
        """An honest record of an entry, but for what is given, and its payload."""
        data = given.pop("data", b"")
        payload = self.place(entry, data)
        self.sequence += 1
        record = {"tag": entry.fields["tag"], "thread": entry.connection.thread, "key": entry.fields["socket"],
                  "sequence": self.sequence, "bytes": len(data), "op": entry.fields["op"],
                  "indication": entry.fields["indication"], "payload_len": len(payload)}
        record.update(given)
        entry.has_ended = True
        return record, payload

    def finish(self, entry, given):
        self.send_records(entry.connection, [self.record_of(entry, given)])
