# SPDX-License-Identifier: Apache-2.0
"""A raw client's connection to a daemon: what it sent, and everything that came, in the order in which it came.

Whatever comes is held against the rules that hold for every record and frame (check_record, take_control), so that each
case tests them, too.
"""

import os
import socket
import time

from kit import codec
from kit.memory import Lane
from kit.stream import Stream
from kit.values import Problem

REFUSED, PORT, INLINE = 0x01, 0x20, 0x04
COMPLETION, APC, SETTLED, WAITING = range(4)


class Session:
    """What the channels of one session share."""

    def __init__(self):
        self.number, self.secret, self.level = 0, b"", 0
        self.region, self.sequences, self.hello = None, set(), {}
        self.has_lost_port = False
        self.buffers = {}  # by tag: where the bytes of an operation lie, and whether they come inline


class Channel:
    def __init__(self, contract, path, patience):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(patience)
        connection.connect(path)
        self.contract, self.patience = contract, patience
        self.stream = Stream(connection, patience)
        self.session, self.thread, self.port = None, None, None
        self.lane = None
        self.records, self.replies, self.notices = [], {}, []
        self.n_events, self.mark = 0, 0  # counts what came; what the last reply or verdict that was taken had
        self.settled, self.n_entries, self.last_sequence, self.bells = 0, 0, 0, 0
        self.last_id = 0
        self.settled_at = 0
        self.fds = []

    def close(self):
        self.stream.close()
        if self.lane:
            self.lane.close()
            self.lane = None
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    # --- Sending ---------------------------------------------------------------------------------------------------

    def send(self, raw, fd=None):
        try:
            self.stream.send(raw, fd)
        except (BrokenPipeError, ConnectionResetError):
            self.stream.has_ended = self.stream.has_ended or not self.stream.fill(0)

    def send_request(self, what, fields, fd=None, number=None, header=None):
        if number is None:
            self.last_id += 1
            number = self.last_id
        values = {"id": number}
        if what:
            values[what] = b"" if what.startswith("@") else codec.nest(fields)
        body = codec.pack_message(self.contract, "Request", values)
        self.send(codec.pack_frame(codec.CONTROL, body, **{"n_fds": 0 if fd is None else 1, **(header or {})}), fd)
        return number

    def send_entries(self, entries, payload, header=None, n_slots=None, reserved=0):
        raw = b"".join(codec.pack_entry(entry) for entry in entries)
        self.n_entries += sum(not entry.get("continues") for entry in entries)
        if self.lane and not header and n_slots is None and not payload:
            return self.post_lane(raw)
        count = len(raw) // codec.SLOT_SIZE if n_slots is None else n_slots
        body = count.to_bytes(4, "little") + reserved.to_bytes(4, "little") + raw + payload
        self.send(codec.pack_frame(codec.POST, body, **(header or {})))
        return None

    def post_lane(self, raw):
        deadline = time.monotonic() + self.patience
        while self.lane.room() * codec.SLOT_SIZE < len(raw):
            if time.monotonic() > deadline:
                raise Problem("the daemon does not take the slots of the lane")
            self.pump(0.01)
        if self.lane.post(raw):
            self.ring()

    def ring(self):
        self.send(codec.pack_frame(codec.POST, bytes(8)))

    # --- What comes ------------------------------------------------------------------------------------------------

    def event(self):
        self.n_events += 1
        return self.n_events

    def drain_lane(self):
        if not (self.lane and self.lane.theirs):
            return False
        settled = self.lane.settled()
        found = self.lane.take()
        for raw in found:
            record = codec.unpack_record(raw)
            record["payload"] = b""
            if record["payload_len"]:
                raise Problem("a record in a lane has a payload")
            self.take_record(record)
        if settled != self.settled:
            self.take_settled(settled)
        return bool(found)

    def take_settled(self, value):
        if value < self.settled or value > self.n_entries:
            raise Problem(f"{value} entries of the channel are said to be settled, after {self.settled}; "
                          f"{self.n_entries} were sent")
        self.settled, self.settled_at = value, self.event()

    def check_record(self, record):
        wrong = []
        if record["reserved"]:
            wrong.append("reserved is not 0")
        if record["kind"] in (SETTLED, WAITING):
            allowed = ("kind", "value", "payload") + (("thread",) if record["kind"] == WAITING else ())
            wrong += [f"{name} is not 0" for name, value in record.items() if value and name not in allowed]
        else:
            if record["sequence"] <= self.last_sequence or record["sequence"] in self.session.sequences:
                wrong.append(f"sequence is {record['sequence']} after {self.last_sequence} on this channel")
            if record["kind"] == COMPLETION and record["status"] > 0:
                wrong.append("status is positive")
            if record["flags"] & REFUSED and (record["bytes"] or record["payload_len"] or record["status"] == 0):
                wrong.append("it is REFUSED, yet it has bytes, a payload or the status 0")
            # Only what a port that ended did not take may come elsewhere with its flag.
            if record["kind"] == COMPLETION and bool(record["flags"] & PORT) != (self.port is not None) and \
                    not self.session.has_lost_port:
                wrong.append("the flag PORT does not go with this channel")
        if wrong:
            shown = " ".join(f"{name}={self.contract.show('record.' + name, value)}"
                             for name, value in record.items() if value)
            raise Problem("a record breaks a rule that holds for all: " + "; ".join(wrong) + f"\nall of it: {shown}")

    def take_record(self, record):
        if self.session is None:
            raise Problem("a record came before the session was there")
        self.check_record(record)
        if record["kind"] == SETTLED:
            self.take_settled(record["value"])
        elif record["kind"] == WAITING:
            self.bells += 1
            self.event()
        else:
            self.last_sequence = record["sequence"]
            self.session.sequences.add(record["sequence"])
            self.records.append((self.event(), record))

    def take_control(self, frame):
        found = codec.unpack_message(self.contract, "FromDaemon", frame.body)
        if "notice" in found:
            self.notices.append((self.event(), self.without("notice.", found)))
            return
        if "reply" not in found:
            raise Problem(f"a CONTROL frame is neither reply nor notice: {frame.body.hex()}")
        reply = self.without("reply.", found)
        reply["fds"] = frame.fds
        number = reply.get("id", 0)
        self.replies.setdefault(number, []).append((self.event(), reply))

    @staticmethod
    def without(prefix, found):
        return {path[len(prefix):]: value for path, value in found.items() if path.startswith(prefix)}

    def take_frame(self, frame):
        if frame.reserved or frame.n_fds > 1 or len(frame.fds) != frame.n_fds:
            raise Problem(f"the header of a frame has reserved {frame.reserved}, n_fds {frame.n_fds} "
                          f"({len(frame.fds)} came)")
        if frame.kind not in (codec.CONTROL, codec.RECORDS) or not 0 < len(frame.body) <= codec.BODY_MAX[frame.kind]:
            raise Problem(f"a frame of kind {frame.kind} with {len(frame.body)} bytes came")
        self.drain_lane()
        try:
            if frame.kind == codec.CONTROL:
                self.take_control(frame)
                return
            for record in codec.unpack_records(frame.body):
                if self.lane and record["kind"] not in (WAITING,):
                    raise Problem("a record came in a frame, though the connection has a lane")
                self.take_record(record)
        except codec.Malformed as error:
            raise Problem(f"the daemon sent what is no frame of this protocol: {error}") from None

    def pump(self, timeout):
        """Takes in what has come, or waits for it. Returns whether anything did."""
        came = self.drain_lane()
        frame = self.stream.take()
        if frame is not None:
            self.take_frame(frame)
            return True
        if came or self.stream.has_ended:
            return came
        return self.stream.fill(timeout)

    def wait(self, condition, what):
        """Takes in until there is something. Returns it; explains what else came if it does not come."""
        deadline = time.monotonic() + self.patience
        while True:
            self.drain_lane()
            found = condition()
            if found is not None and found is not False:
                return found
            left = deadline - time.monotonic()
            if self.stream.has_ended and not self.stream.raw[8:]:
                if not self.pump(0):
                    found = condition()
                    if found is not None and found is not False:
                        return found
                    raise Problem(f"{what} did not come: the daemon closed the connection\n" + self.story())
            elif left <= 0:
                raise Problem(f"{what} did not come within {self.patience} s\n" + self.story())
            elif self.lane:
                self.lane.sleep(True)
                if not self.drain_lane() and self.lane.settled() == self.settled:
                    self.pump(min(left, 0.2))
                self.lane.sleep(False)
            else:
                self.pump(left)

    def story(self):
        """What came and was not asked for."""
        lines = []
        for _, record in self.records:
            lines.append("unread record: " + self.show("record.", record))
        for each in self.replies.values():
            lines += ["unread reply: " + self.show("", reply) for _, reply in each]
        lines += ["unread notice: " + self.show("", notice) for _, notice in self.notices]
        return "\n".join(lines) or "nothing else came"

    def show(self, prefix, found):
        return " ".join(f"{name}={self.contract.show(prefix + name, value)}" for name, value in found.items()
                        if value not in (0, b"", {}, []))

    # --- What a case waits for -------------------------------------------------------------------------------------

    def reply(self, number):
        event, reply = self.wait(lambda: self.replies[number].pop(0) if self.replies.get(number) else None,
                                 f"the reply of id {number}")
        if not self.replies[number]:
            del self.replies[number]
        self.mark = event
        self.fds += reply.pop("fds")
        return reply

    def record(self, tag=None, before=None):
        """The next record, or the first with a tag; with `before`, only one that came before that event."""
        def find():
            for at, (event, record) in enumerate(self.records):
                if before is not None and event > before:
                    return None
                if tag is None or record["tag"] == tag:
                    return self.records.pop(at)[1]
            return None
        if before is not None:
            found = find()
            if found is None:
                raise Problem("no such record had come before the reply or verdict\n" + self.story())
            return found
        return self.wait(find, "a record" if tag is None else f"the record of tag {tag}")

    def verdict(self, count):
        self.wait(lambda: self.settled >= count, f"a verdict on {count} entries (until now: {self.settled})")
        self.mark = self.settled_at

    def notice(self):
        return self.wait(lambda: self.notices.pop(0) if self.notices else None, "a notice")[1]

    def end(self):
        self.wait(lambda: self.stream.has_ended and not self.stream.raw, "the end of the connection")
