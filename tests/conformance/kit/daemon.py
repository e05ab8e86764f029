# SPDX-License-Identifier: Apache-2.0
"""Runs a case against a daemon: the runner is a raw client.

The same steps run at each level. `send=` and `receive=` of a post put the bytes where the level has them: into the
frames at level 0, into the session's region above; entries go through frames, or through the lane at level 2; and
`data=` of a record finds them again. A case that wants it otherwise names the fields of the entry itself.
"""

import os
import socket
import struct
import time

from kit import codec, memory
from kit.channel import INLINE, PORT, REFUSED, Channel, Session
from kit.script import NotServed, Script, halves
from kit.values import Mistake, Problem, pair

WANT_VERDICT, VECTOR, MORE = 0x01, 0x02, 0x08
INLINE_MAX = 65535
REGION_SIZE = 4 << 20
LANE_SLOTS = 64
LOOPBACK = {"INET": bytes([127, 0, 0, 1]), "INET6": bytes(15) + b"\1"}
OP_RECVMSG, OP_RESOLVE = 7, 14
MESSAGE_SIZE = 128  # of what RECVMSG writes, the items not counted


class DaemonScript(Script):
    def __init__(self, contract, path, level, patience, probe):
        super().__init__(contract, level, patience)
        self.path, self.probe = path, probe
        self.channels, self.queued, self.fds, self.asked = {}, {}, {}, {}
        self.regions = []

    def close(self):
        for channel in self.channels.values():
            channel.close()
        for region in self.regions:
            region.close()
            os.close(region.fd)
        for fd in self.fds.values():
            os.close(fd)
        super().close()

    def channel(self, name):
        if name not in self.channels:
            raise Mistake(f"the case has no connection {name}")
        return self.channels[name]

    # --- Sessions --------------------------------------------------------------------------------------------------

    def do_connect(self, name):
        self.channels[name] = Channel(self.contract, self.path, self.patience)

    def hello_fields(self, words):
        fields = {"version_min": 1, "version_max": 1, "level": self.level, "thread": 7, "client": b"conformance"}
        fields.update(self.values.items(words, "hello."))
        return fields

    def do_hello(self, name, *words):
        """hello A FIELD=... [=> ...]: on a connection that is there. Level 1 regions are not made."""
        sent, expected = halves(words)
        channel = self.channel(name)
        fields = self.hello_fields(sent)
        reply = channel.reply(channel.send_request("hello", fields))
        self.check_reply(reply, expected)
        if reply.get("status", 0) == 0:
            self.begin_session(name, fields, reply)

    def begin_session(self, name, fields, reply):
        channel, session = self.channel(name), Session()
        session.number, session.secret = reply.get("hello.session", 0), reply.get("hello.secret", b"")
        session.level, session.hello = reply.get("hello.level", 0), reply
        channel.session, channel.thread = session, fields["thread"]
        for key in ("session", "secret", "credits", "sockets", "regions", "region_bytes", "inline_bytes", "level"):
            self.values.variables[f"{name}.{key}"] = reply.get(f"hello.{key}", 0)

    def do_session(self, name, *words):
        """session A [FIELD=...] [region=BYTES] [slots=N]: a connection, its hello, and what the level has: from 1 on a
        region, at 2 a lane."""
        given = dict(pair(word) for word in words)
        size = self.values.value("size", given.pop("region", str(REGION_SIZE)))
        slots = self.values.value("slots", given.pop("slots", str(LANE_SLOTS)))
        self.do_connect(name)
        self.do_hello(name, *(f"{key}={text}" for key, text in given.items()))
        session = self.channel(name).session
        if session.level > self.level:
            raise Problem(f"level {session.level} was granted, though {self.level} was wished")
        if session.level < self.level:
            raise NotServed(f"level {self.level}: the daemon grants {session.level}")
        if self.level >= 1 and size:
            session.region = self.add_region(self.channel(name), size)
            self.values.variables[f"{name}.region"] = session.region.number
        self.add_lane(self.channel(name), slots)

    def add_region(self, channel, size):
        region = memory.Region(size)
        self.regions.append(region)
        reply = channel.reply(channel.send_request("region_add", {"size": size}, region.fd))
        self.values.check("the reply to RegionAdd", reply, [("status", "0"), ("region_add.region", ">0")])
        region.number = reply["region_add.region"]
        return region

    def add_lane(self, channel, slots):
        if self.level < 2 or not slots:
            return
        lane = memory.Lane(slots)
        reply = channel.reply(channel.send_request("lane_add", {"n_slots": slots}, lane.fd))
        if reply.get("status", 0) or not channel.fds:
            lane.close()
            raise Problem(f"LaneAdd was refused, or no descriptor came: {self.values.describe(reply)}")
        fd = channel.fds.pop()
        try:
            lane.accept(fd, reply.get("lane_add.n_records", 0))
        finally:
            os.close(fd)
        channel.lane = lane

    def do_attach(self, name, *words):
        """attach B of=A thread=N | port=N [=> ...]: a further connection of A's session."""
        sent, expected = halves(words)
        given = dict(pair(word) for word in sent)
        first = self.channel(given.pop("of"))
        slots = self.values.value("slots", given.pop("slots", str(LANE_SLOTS)))
        fields = {"session": first.session.number, "secret": first.session.secret}
        fields.update(self.values.items([f"{key}={text}" for key, text in given.items()], "attach."))
        if name not in self.channels:
            self.do_connect(name)
        channel = self.channel(name)
        reply = channel.reply(channel.send_request("attach", fields))
        self.check_reply(reply, expected)
        if reply.get("status", 0) == 0:
            channel.session, channel.thread, channel.port = first.session, fields.get("thread"), fields.get("port")
            self.add_lane(channel, slots)

    def do_close(self, name):
        channel = self.channel(name)
        if channel.port is not None:
            channel.session.has_lost_port = True
        channel.close()
        del self.channels[name]

    def do_shutdown(self, name):
        self.channel(name).stream.connection.shutdown(socket.SHUT_WR)

    # --- Requests --------------------------------------------------------------------------------------------------

    def check_reply(self, reply, expected):
        pairs = self.pairs(expected) if expected is not None else [("status", "0")]
        if not any(name == "status" for name, _ in pairs):
            pairs.insert(0, ("status", "0"))
        self.values.check("the reply", reply, pairs, "reply.")
        if reply.get("status", 0) and not reply.get("text"):
            raise Problem("the reply has a status, but no text that says what was wrong")

    def ask(self, name, what, words):
        given = [pair(word) for word in words]
        number = next((self.values.value("id", text) for key, text in given if key == "id"), None)
        if ("fd", "new") in given:
            self.do_memfd("new", "size=" + dict(given)["size"])
        fd = next((self.fds[text] for key, text in given if key == "fd"), None)
        header = {key[7:]: self.values.value(key, text) for key, text in given if key.startswith("header.")}
        if what.startswith("@"):  # one that there is not, as @500="text"
            body = codec.pack_field(int(what[1:].partition("=")[0]), self.values.value("data", pair(what)[1]))
            channel = self.channel(name)
            channel.last_id += 1
            number = channel.last_id if number is None else number
            channel.send(codec.pack_frame(codec.CONTROL, codec.pack_field(1, number) + body))
            self.asked[name] = number
            return number
        message = "".join(part.title() for part in what.split("_"))
        fields = self.values.items([f"{key}={text}" for key, text in given
                                    if key not in ("id", "fd") and not key.startswith("header.")], f"{message}.")
        self.asked[name] = self.channel(name).send_request(what, fields, fd, number, header)
        return self.asked[name]

    def do_request(self, name, what, *words):
        """request A WHAT FIELD=... [id=N] [fd=MEMFD] [=> FIELD=MATCHER ...]: without => it must succeed."""
        sent, expected = halves(words)
        number = self.ask(name, what, sent)
        self.check_reply(self.channel(name).reply(number), expected)

    def do_until(self, name, what, *words):
        """until A WHAT ... => ...: asks again until the reply is as expected."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self.do_request(name, what, *words)
            except Problem:
                if time.monotonic() > deadline:
                    raise

    def do_again(self, name, *words):
        """again B of=A thread=N: attaches, again while the number is still in use."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self.do_attach(name, *words)
            except Problem:
                if time.monotonic() > deadline:
                    raise

    def do_ask(self, name, what, *words):
        """As request, but does not wait: `reply` does."""
        self.ask(name, what, words)

    def do_reply(self, name, *words):
        """reply A [id=N] [=> ...]: of the last request that was asked, or of that id."""
        sent, expected = halves(words)
        number = self.values.items(sent).get("id", self.asked.get(name))
        self.check_reply(self.channel(name).reply(number), expected)

    def do_notice(self, name, *words):
        self.values.check("the notice", self.channel(name).notice(), self.pairs(words), "notice.")

    def do_end(self, name):
        """The connection ends, and nothing that was not asked for came before. The notice of a session that ends may
        come on all of its connections."""
        channel = self.channel(name)
        channel.end()
        channel.notices = [each for each in channel.notices if not each[1].get("closing")]
        if channel.records or channel.notices or channel.replies:
            raise Problem("the connection ended, but before that something came\n" + channel.story())

    def do_memfd(self, name, *words):
        """memfd NAME size=N [hole] [sealed] [unsealable] [readonly]"""
        given = self.values.items(words)
        flags = os.MFD_CLOEXEC | (0 if "unsealable" in given else os.MFD_ALLOW_SEALING)
        seals = memory.F_SEAL_WRITE if "sealed" in given else memory.F_SEAL_SEAL if "shut" in given else 0
        fd = memory.make_memfd(given["size"], "hole" not in given, seals, flags)
        if "readonly" in given:
            again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            os.close(fd)
            fd = again
        self.keep_fd(name, fd)

    def keep_fd(self, name, fd):
        if name in self.fds:
            os.close(self.fds[name])
        self.fds[name] = fd

    def do_lane_memory(self, name, *words):
        """lane-memory NAME slots=N [magic=N] [version=N] [says=N] [size=N]: a client's half, perhaps a wrong one."""
        given = self.values.items(words)
        slots = given["slots"]
        size = given.get("size", memory.LANE_DATA + memory.SLOT * slots + 4095 & ~4095)
        fd = memory.make_memfd(size)
        mapping = memory.Mapping(fd, size)
        for at, key, usual in ((0, "magic", memory.LANE_MAGIC), (4, "version", 1), (8, "says", slots)):
            mapping.set_word(at, given.get(key, usual))
        self.regions.append(mapping)
        mapping.fd = fd
        self.keep_fd(name, os.dup(fd))

    def do_pass(self, kernel_name, name):
        """pass P NAME: the descriptor of a kernel socket, to send with a request."""
        self.keep_fd(name, os.dup(self.peers.get(kernel_name).fileno()))

    def do_receive_socket(self, name, peer, *words):
        """receive-socket A P: the descriptor that came with the last reply becomes the peer P."""
        channel = self.channel(name)
        if not channel.fds:
            raise Problem("no descriptor came with the reply")
        each = socket.socket(fileno=channel.fds.pop(0))
        if not each.getblocking() and each.gettimeout() == 0:
            self.peers.keep(peer, "INET", each)
            raise Problem("the descriptor is not in blocking mode")
        self.peers.keep(peer, "INET", each)

    # --- Sockets, in short -----------------------------------------------------------------------------------------

    def do_socket(self, name, variable, *words):
        """socket A s [family=INET] [type=STREAM]: SocketOpen; its id is $s."""
        options = dict(pair(word) for word in words)
        family, kind = options.get("family", "INET"), options.get("type", "STREAM")
        self.do_request(name, "socket_open", f"family=FAMILY_{family}", f"type=TYPE_{kind}", "=>",
                        f"socket_open.socket=>0?{variable}")

    def bind_words(self, options):
        family = options.get("family", "INET")
        if family == "UNIX":
            return ["address.family=FAMILY_UNIX", f"address.host={options['path']}"]
        return [f"address.family=FAMILY_{family}", f"address.host=x{LOOPBACK[family].hex()}"]

    def do_bound(self, name, variable, *words):
        """bound A s [family=] [type=] [path=]: SocketOpen, SocketBind to loopback and port 0, SocketName: $s.port"""
        options = dict(pair(word) for word in words)
        self.do_socket(name, variable, *words)
        self.do_request(name, "socket_bind", f"socket=${variable}", *self.bind_words(options))
        self.do_request(name, "socket_name", f"socket=${variable}", "=>",
                        f"socket_name.address.port=any?{variable}.port")

    def do_listener(self, name, variable, *words):
        """listener A s [family=] [path=]: as bound, and SocketListen."""
        self.do_bound(name, variable, *words)
        self.do_request(name, "socket_listen", f"socket=${variable}", "backlog=16")

    def do_stream(self, name, variable, peer, *words):
        """stream A s P [family=]: a socket of the daemon, connected to the kernel's socket P."""
        options = dict(pair(word) for word in words)
        family = options.get("family", "INET")
        listener = f"{peer}.listener"
        self.peers.listen(listener, f"family={family}")
        self.do_socket(name, variable, f"family={family}")
        self.do_post(name, "tag=0xc0", "op=CONNECT", f"socket=${variable}", f"to=${listener}." +
                     ("path" if family == "UNIX" else "port"), f"family={family}")
        record = self.channel(name).record(0xc0)
        self.values.check("the record of the connect", record, [("status", "0"), ("op", "CONNECT")], "record.")
        self.peers.accept(listener, peer)

    # --- Entries ---------------------------------------------------------------------------------------------------

    def needs_inline(self):
        if self.level == 0:
            self.probe("inline")

    def lend(self, session, tag, parts, entry):
        """Writes or reserves parts in the region, names them in an entry."""
        region = session.region
        if region is None:
            raise Mistake("the session has no region")
        slices = []
        for part in parts:
            length = part if isinstance(part, int) else len(part)
            offset = region.reserve(length)
            region.write(offset, bytes([0xee]) * length if isinstance(part, int) else part)
            slices.append((offset, length, region.number))
        session.buffers[tag] = {"region": region, "slices": slices}
        if len(slices) == 1 and not entry.pop("vector", False):
            entry["buffer.offset"], entry["buffer.len"], entry["buffer.region"] = slices[0]
            return
        raw = b"".join(offset.to_bytes(8, "little") + length.to_bytes(4, "little") + number.to_bytes(4, "little")
                       for offset, length, number in slices)
        at = region.reserve(len(raw))
        region.write(at, raw)
        entry["flags"] |= VECTOR
        entry["buffer.offset"], entry["buffer.len"], entry["buffer.region"] = at, len(raw), region.number

    def place(self, session, entry, given, inline):
        """Turns send, receive, gather, scatter and aux into fields. Returns the payload that goes with the entry."""
        tag, payload = entry.get("tag", 0), b""
        parts = given.get("gather") or given.get("scatter")
        if "send" in given:
            parts = [given["send"]]
        if "receive" in given:
            parts = [given["receive"]]
        if parts is not None and inline:
            if len(parts) > 1:
                raise Mistake("gather and scatter need a region")
            entry["flags"] |= INLINE
            if isinstance(parts[0], int):
                entry["buffer.len"] = parts[0]
            else:
                entry["buffer.len"], payload = len(parts[0]), parts[0]
            session.buffers[tag] = {"region": None}
        elif parts is not None:
            if "gather" in given or "scatter" in given:
                entry["vector"] = True
            self.lend(session, tag, parts, entry)
        if "aux" in given:
            entry["aux.len"] = given["aux"]
            session.buffers.setdefault(tag, {"region": None})["aux_len"] = given["aux"]
            if inline:
                entry["flags"] |= INLINE
            else:
                offset = session.region.reserve(given["aux"])
                entry["aux.offset"], entry["aux.region"] = offset, session.region.number
                session.buffers[tag]["aux"] = offset
        if "items" in given:
            entry["aux.len"] = len(given["items"])
            if inline:
                entry["flags"] |= INLINE
                payload += given["items"]
            else:
                offset = session.region.reserve(len(given["items"]))
                session.region.write(offset, given["items"])
                entry["aux.offset"], entry["aux.region"] = offset, session.region.number
        return payload

    def parse_entry(self, name, words):
        """The entry that the words describe, and its payload."""
        given = [pair(word) for word in words]
        entry, special = {"flags": 0}, {}
        flags = {"verdict": WANT_VERDICT, "more": MORE}
        family = next((text for key, text in given if key == "family"), "INET")
        for key, text in given:
            if text is None and key in flags:
                entry["flags"] |= flags[key]
            elif text is None and key in ("inline", "continues"):
                special[key] = True
            elif key in ("gather", "scatter"):
                special[key] = self.values.list(key, text)
            elif key in ("send", "receive", "aux", "items", "payload"):
                special[key] = self.values.value(key, text)
            elif key == "to":
                entry["address.family"] = self.contract.enums["ovl_family"][family]
                where = self.values.value("address.port", text)
                entry.update({"address.host": where} if family == "UNIX" else
                             {"address.host": LOOPBACK[family], "address.port": where})
            elif key == "flags":
                entry["flags"] |= self.values.value("entry.flags", text)
            elif key != "family":
                entry[key] = self.values.value(key, text)
        inline = self.level == 0 or "inline" in special
        if inline and (set(special) & {"send", "receive", "aux"}):
            self.needs_inline()
        payload = self.place(self.channel(name).session, entry, special, inline) if special else b""
        if "continues" in special:
            entry["continues"] = True
        return entry, special.get("payload", payload)

    def pieces(self, entry, payload):
        """A long inline send as one entry after the other."""
        if not entry["flags"] & INLINE or len(payload) <= INLINE_MAX:
            return [(entry, payload)]
        found = []
        for at in range(0, len(payload), INLINE_MAX):
            part = payload[at:at + INLINE_MAX]
            more = MORE if at + INLINE_MAX < len(payload) else 0
            found.append(({**entry, "buffer.len": len(part), "flags": entry["flags"] | more, "continues": at > 0},
                          part))
        return found

    def do_queue(self, name, *words):
        """As post, but the entry leaves in the frame of the next post."""
        self.queued.setdefault(name, []).append(self.parse_entry(name, words))

    def do_post(self, name, *words):
        """post A [FIELD=...] [send=BYTES | receive=N | gather=A,B | scatter=N,M] [aux=N] [items=BYTES] [to=PORT] [verdict] [more]
        [inline]; header.FIELD, n_slots_said and reserved_said are of the frame."""
        frame = {key: self.values.value(key, text) for key, text in map(pair, words)
                 if key in ("n_slots_said", "reserved_said") or key.startswith("header.")}
        header = {key[7:]: value for key, value in frame.items() if key.startswith("header.")}
        rest = [word for word in words if pair(word)[0] not in frame]
        batch = self.queued.pop(name, [])
        if rest:
            batch.append(self.parse_entry(name, rest))
        channel = self.channel(name)
        if len(batch) == 1 and len(batch[0][1]) > INLINE_MAX and "inline" not in rest:
            for entry, payload in self.pieces(*batch[0]):
                channel.send_entries([entry], payload)
            return
        channel.send_entries([entry for entry, _ in batch], b"".join(payload for _, payload in batch), header,
                             frame.get("n_slots_said"), frame.get("reserved_said", 0))

    # --- Records ---------------------------------------------------------------------------------------------------

    def data_of(self, channel, record):
        """What an operation received, and the bytes that came to its aux."""
        where = channel.session.buffers.get(record["tag"], {"region": None})
        length, payload = record["bytes"], record["payload"]
        if record["op"] == OP_RESOLVE:
            length = 0
        if where["region"] is None:
            data, aux = payload[:length], payload[length:]
        else:
            data, aux = b"", b""
            for offset, size, _ in where["slices"]:
                data += where["region"].read(offset, min(size, length - len(data)))
        if "aux" in where:
            aux = channel.session.region.read(where["aux"], where["aux_len"])
        return data, aux

    def check_record(self, channel, record, words, refused):
        expected = self.pairs(words)
        names = [name for name, _ in expected]
        found = dict(record)
        if any(name == "data" or name.startswith("aux.") for name in names):
            found["data"], aux = self.data_of(channel, record)
            if any(name.startswith("aux.") for name in names):
                address = codec.unpack_address(aux[:codec.ADDRESS_SIZE])
                found.update((f"aux.{key}", value) for key, value in address.items())
            if record["op"] == OP_RECVMSG and len(aux) >= MESSAGE_SIZE:
                flags, length = struct.unpack_from("<II", aux, codec.ADDRESS_SIZE)
                found.update({"aux.flags": flags, "aux.items": aux[MESSAGE_SIZE:MESSAGE_SIZE + length]})
        if "status" not in names:
            expected.append(("status", "0"))
        if "thread" not in names and channel.thread is not None:
            expected.append(("thread", str(channel.thread)))
        if "flags" not in names:
            expected.append(("flags", "has:REFUSED" if refused else "lacks:REFUSED"))
        if refused:
            expected += [("bytes", "0"), ("value", "0")]
        self.values.check("the record", found, expected, "record.")

    def do_record(self, name, *words):
        """record A FIELD=MATCHER ...: the next one."""
        channel = self.channel(name)
        self.check_record(channel, channel.record(), words, False)

    def do_refused(self, name, *words):
        """refused A ...: the next record, which is flagged REFUSED, with 0 in bytes and value."""
        channel = self.channel(name)
        self.check_record(channel, channel.record(), words, True)

    def do_find(self, name, *words):
        """find A tag=N ...: the first with this tag, wherever it stands."""
        channel = self.channel(name)
        tag = self.values.value("tag", dict(map(pair, words))["tag"])
        self.check_record(channel, channel.record(tag), words, False)

    def do_came(self, name, *words):
        """came A [tag=N] ...: a record that came before the last reply or verdict that the case took on A."""
        channel = self.channel(name)
        given = dict(map(pair, words))
        tag = self.values.value("tag", given["tag"]) if "tag" in given else None
        self.check_record(channel, channel.record(tag, channel.mark), words, "REFUSED" in given.get("flags", ""))

    def do_verdict(self, name, *words):
        """verdict A [COUNT]: that many entries, or all that were sent, are settled."""
        channel = self.channel(name)
        channel.verdict(self.values.value("count", words[0]) if words else channel.n_entries)

    def do_none(self, name):
        """No record is there: a request makes its way to the daemon and back."""
        channel = self.channel(name)
        channel.reply(channel.send_request("status", {}))
        if channel.records:
            raise Problem("a record came, where none should\n" + channel.story())

    def do_settled(self, name, text):
        """settled A MATCHER: what the last SETTLED record said; 0 if none came."""
        self.values.check("the verdict", {"value": self.channel(name).settled}, [("value", text)])

    # --- Frames ----------------------------------------------------------------------------------------------------

    def do_frame(self, name, *words):
        """frame A kind=N body=BYTES [body_len=N] [n_fds=N] [reserved=N] [fd=NAME]: as it stands."""
        given = [pair(word) for word in words]
        fd = next((self.fds[text] for key, text in given if key == "fd"), None)
        fields = {key: self.values.value("frame" if key == "kind" else key, text) for key, text in given if key != "fd"}
        self.channel(name).send(codec.pack_frame(fields.pop("kind"), fields.pop("body", b""), **fields), fd)

    def do_bytes(self, name, text):
        self.channel(name).send(self.values.value("bytes", text))

    def do_chop(self, name, text):
        """From here on at most N bytes leave at a time."""
        self.channel(name).stream.chop = int(text)

    # --- Lanes -----------------------------------------------------------------------------------------------------

    def do_sleep(self, name):
        """Writes 1 to the lane's `asleep`."""
        self.channel(name).lane.sleep(True)

    def do_bell(self, name):
        """A bell rings; the lane is awake again."""
        channel = self.channel(name)
        channel.wait(lambda: channel.bells > 0, "a bell")
        channel.bells = 0
        channel.lane.sleep(False)

    def do_tail(self, name, text):
        """Writes slots_tail, right or wrong, and rings the doorbell."""
        channel = self.channel(name)
        channel.lane.ours.set_word(64, channel.lane.tail + int(text))
        memory.barrier()
        channel.ring()

    def do_ring(self, name):
        self.channel(name).ring()


class Prober:
    """Asks a daemon once for each thing that a case may need. NotServed says that it has not got it."""

    def __init__(self, contract, path, patience):
        self.contract, self.path, self.patience = contract, path, patience
        self.known = {}

    def __call__(self, need):
        if need not in self.known:
            self.known[need] = self.ask(need)
        if self.known[need]:
            raise NotServed(f"{need}: {self.known[need]}")

    def ask(self, need):
        """None if the daemon serves it, else what it said."""
        kind, _, what = need.partition(":")
        script = DaemonScript(self.contract, self.path, 1, self.patience, self)
        try:
            if kind == "level":
                script.level = int(what)
                script.do_connect("a")
                channel = script.channel("a")
                reply = channel.reply(channel.send_request("hello", script.hello_fields([])))
                if reply.get("status", 0):
                    return f"the daemon refuses the level: {reply.get('text', b'').decode()}"
                granted = reply.get("hello.level", 0)
                return None if granted == int(what) else f"the daemon grants level {granted}"
            script.do_connect("a")
            script.do_hello("a")
            ask = getattr(self, "ask_" + kind.replace("-", "_"))
            return ask(script, script.channel("a"), what)
        finally:
            script.close()

    def said(self, found, reasons):
        names = {number: name for name, number in self.contract.enums["ovl_reason"].items()}
        name = names.get(found.get("reason", 0))
        return f"the daemon says {name}" if name in reasons else None

    def ask_request(self, script, channel, what):
        number = channel.send_request(what, {})
        try:
            return self.said(channel.reply(number), ("UNKNOWN_OP", "LEVEL"))
        except Problem:
            return None  # it ends the session for want of a descriptor: so it is known

    def ask_socket(self, script, channel, what):
        family, _, kind = what.partition(":")
        fields = {"family": self.contract.enums["Family"]["FAMILY_" + family],
                  "type": self.contract.enums["Type"]["TYPE_" + kind]}
        reply = channel.reply(channel.send_request("socket_open", fields))
        return self.said(reply, ("UNKNOWN_OP", "OP_NOT_FOR_SOCKET", "LEVEL"))

    def ask_op(self, script, channel, what):
        script.do_socket("a", "s")
        number = 0 if what == "RESOLVE" else script.values.variables["s"]
        channel.send_entries([{"tag": 1, "op": self.contract.enums["ovl_op"][what], "socket": number,
                               "flags": WANT_VERDICT}], b"")
        channel.verdict(1)
        return self.said(channel.records[0][1], ("UNKNOWN_OP", "LEVEL")) if channel.records else None

    def ask_inline(self, script, channel, what):
        script.do_socket("a", "s")
        channel.send_entries([{"tag": 1, "op": 4, "socket": script.values.variables["s"], "flags": INLINE | WANT_VERDICT,
                               "buffer.len": 1}], b"x")
        try:
            channel.verdict(1)
        except Problem:
            return "the daemon takes no payload in the frames"
        return self.said(channel.records[0][1], ("UNKNOWN_OP", "LEVEL", "UNKNOWN_FLAGS")) if channel.records else None

    def ask_cancel_everywhere(self, script, channel, what):
        reply = channel.reply(channel.send_request("cancel", {"all": 1}))
        return self.said(reply, ("UNKNOWN_SOCKET",))
