# SPDX-License-Identifier: Apache-2.0
"""Runs a case against a client: tells a driver what to do, and holds what it reports against the page.

The other side of the client is a daemon that runs, with ordinary peers behind it, or a fake one that the case plays.
"""

import os
import select
import shlex
import subprocess
import tempfile
import time

from kit import codec
from kit.fake import Fake
from kit.script import NotServed, Script, halves
from kit.values import Mistake, Problem, checksum, pair


def wait_for(timeout, stream):
    return select.select([stream], [], [], timeout)[0]


class Driver:
    """The program with the client under test: a line to it, a line from it."""

    def __init__(self, command, patience):
        self.patience = patience
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)
        self.raw = b""

    def tell(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Problem("the driver has ended\n" + self.story()) from None

    def answer(self, pump):
        """The next line. pump: waits for a descriptor, and serves others meanwhile."""
        deadline = time.monotonic() + self.patience
        while b"\n" not in self.raw:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Problem(f"the driver did not answer within {self.patience} s\n" + self.story())
            if pump(left, self.process.stdout):
                part = os.read(self.process.stdout.fileno(), 65536)
                if not part:
                    raise Problem("the driver ended instead of answering\n" + self.story())
                self.raw += part
        line, self.raw = self.raw.split(b"\n", 1)
        return line.decode(errors="replace")

    def story(self):
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").splitlines()[-30:]
        return "\n".join(["what it wrote to its standard error:"] + said) if said else "it wrote nothing to its standard error"

    def end(self, pump):
        """Closes its input: it must end by itself, well."""
        self.process.stdin.close()
        deadline = time.monotonic() + self.patience
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill()
                raise Problem(f"the driver did not end within {self.patience} s of the end of its input")
            if pump(left, self.process.stdout) and not os.read(self.process.stdout.fileno(), 65536):
                break
        status = self.process.wait(self.patience)
        if status != 0:
            raise Problem(f"the driver ended with status {status}\n" + self.story())

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def close(self):
        self.kill()
        self.log.close()


class ClientScript(Script):
    def __init__(self, contract, command, path, level, patience):
        super().__init__(contract, level, patience)
        self.driver = Driver(command, patience)
        self.fake = None
        self.values.variables["daemon"] = path.encode()

    def run(self, case):
        super().run(case)
        self.driver.end(self.pump)

    def close(self):
        self.driver.close()
        if self.fake:
            self.fake.close()
        super().close()

    def pump(self, timeout, also):
        if self.fake:
            return self.fake.pump(timeout, (also,))
        return wait_for(timeout, also)

    # --- The driver ------------------------------------------------------------------------------------------------

    def word(self, word):
        """A word for the driver: $variables are put in."""
        name, text = pair(word)
        if text is None or not text.startswith("$"):
            return word
        value = self.values.value(name, text)
        return f"{name}={value.decode() if isinstance(value, bytes) else value}"

    @staticmethod
    def parse(line):
        """("ok" or "error", dictionary): numbers are numbers."""
        words = line.split()
        if not words or words[0] not in ("ok", "error"):
            raise Problem(f"the driver answered '{line}', not ok or error")
        found = {}
        if words[0] == "error":
            if len(words) < 2 or not words[1].lstrip("-").isdigit():
                raise Problem(f"the driver answered '{line}': behind error there is no status")
            found["status"] = int(words[1])
        for word in words[1:]:
            name, text = pair(word)
            if text is not None:
                found[name] = int(text) if text.lstrip("-").isdigit() else text.encode()
            elif words[0] == "ok":
                found[name] = 1
        return words[0], found

    def check_answer(self, line, expected):
        what, found = self.parse(line)
        pairs = [pair(word) for word in expected or []]
        if pairs and pairs[0][0] == "either":
            return found
        if pairs and pairs[0][0] == "error":
            if what != "error":
                raise Problem(f"the driver answered '{line}', but the call should have failed")
            pairs = pairs[1:]
        elif what == "error":
            raise Problem(f"the driver answered '{line}', but the call should have succeeded")
        flags = [name for name, text in pairs if text is None]
        missing = [name for name in flags if name not in found]
        if missing:
            raise Problem(f"the driver answered '{line}', without {' '.join(missing)}")
        self.values.check("the answer", found, [each for each in pairs if each[1] is not None], "record.")
        return found

    def command(self, words):
        self.driver.tell(" ".join(self.word(word) for word in words))

    def do_do(self, *words):
        """do COMMAND ... [=> [error | either] FIELD=MATCHER ...]"""
        sent, expected = halves(words)
        self.command(sent)
        return self.check_answer(self.driver.answer(self.pump), expected)

    def do_tell(self, *words):
        """As do, but does not wait for the answer: `told` does."""
        self.command(words)

    def do_told(self, *words):
        _, expected = halves(words)
        self.check_answer(self.driver.answer(self.pump), expected)

    def do_open(self, *words):
        """open [credits=N]: a session s with a thread t, at the level of the run."""
        path = self.fake.path if self.fake else "$daemon"
        found = self.do_do("open", "s", f"path={path}", f"level={self.level}", *words)
        if found.get("level", 0) > self.level or (not self.fake and found.get("level", 0) < self.level):
            raise Problem(f"the client opened a session of level {found.get('level', 0)}, told to open one of {self.level}")
        self.do_do("thread", "t", "session=s")

    def do_connected(self, name, peer, *words):
        """connected k P [thread=t]: a socket k of the client, connected to the kernel's P."""
        thread = dict(pair(word) for word in words).get("thread", "t")
        self.peers.listen(peer + ".listener")
        self.do_do("socket", name, f"thread={thread}", "family=inet", "type=stream")
        self.do_do("connect", f"{name}.connect", f"thread={thread}", f"socket={name}", "host=127.0.0.1",
                   f"port=${peer}.listener.port")
        self.do_do("wait", f"{name}.connect", f"thread={thread}", "timeout=$patience", "=>", "status=0")
        self.peers.accept(peer + ".listener", peer)

    def do_listening(self, name):
        """listening k: a socket that listens on loopback; $k.port"""
        self.do_do("socket", name, "thread=t", "family=inet", "type=stream")
        self.do_do("bind", name, "thread=t", "host=127.0.0.1", "port=0")
        self.do_do("listen", name, "thread=t", "backlog=8")
        self.do_do("name", name, "thread=t", "=>", f"port=>0?{name}.port")

    def do_data(self, name, text):
        """data o BYTES: what the operation o received."""
        expected = self.values.value("data", text)
        found = self.do_do("data", name)
        if found.get("len") != len(expected) or found.get("fnv") != checksum(expected):
            raise Problem(f"{name} has {found.get('len')} bytes with the checksum {found.get('fnv')}; expected "
                          f"{len(expected)} with {checksum(expected)}: {expected[:60]!r}")

    # --- The fake daemon -------------------------------------------------------------------------------------------

    def do_fake(self, verb="start", *words):
        if verb == "start":
            self.fake = Fake(self.contract, self.folder, self.level, self.patience)
            self.values.variables["fake"] = self.fake.path.encode()
            return
        handler = getattr(self, "fake_" + verb.replace("-", "_"), None)
        if handler is None or self.fake is None:
            raise Mistake(f"a fake daemon cannot {verb}, or there is none")
        handler(*words)

    def entry(self, number):
        number = int(number)
        self.fake.wait(lambda: len(self.fake.entries) >= number, f"entry {number}")
        entry = self.fake.entries[number - 1]
        self.fake.wait(lambda: entry.connection.partial is not entry, "the last piece of an entry")
        return entry

    def record_fields(self, words):
        return {name: self.values.value("data" if name == "data" else "record." + name, text)
                for name, text in map(pair, words) if name != "on"}

    def fake_grant(self, *words):
        self.fake.grant.update(self.values.items(words))

    def fake_rule(self, kind, what, words):
        self.fake.rules[what] = (kind, {name: self.values.value("reply." + name, text)
                                        for name, text in map(pair, words)})

    def fake_refuse(self, what, *words):
        """fake refuse WHAT status= reason= text=: from here on"""
        self.fake_rule("refuse", what, words)

    def fake_answer(self, what, *words):
        """fake answer WHAT FIELD=...: honestly but for these fields"""
        self.fake_rule("answer", what, words)

    def fake_mute(self, what):
        self.fake.rules[what] = ("mute", None)

    def fake_hangup_at(self, what):
        self.fake.rules[what] = ("hangup", None)

    def fake_refuse_with_notice(self, what, *words):
        """fake refuse-with-notice WHAT FIELD=...: a notice instead of the reply, and the end of the connection"""
        fields = {name: self.values.value("notice." + name, text) for name, text in map(pair, words)}
        body = codec.pack_message(self.contract, "FromDaemon", {"notice": fields})
        self.fake.rules[what] = ("last", codec.pack_frame(codec.CONTROL, body))

    def fake_raw(self, what, text):
        """fake raw WHAT BYTES: these instead of a reply"""
        self.fake.rules[what] = ("raw", self.values.value("bytes", text))

    def fake_honest(self, what):
        self.fake.rules.pop(what, None)

    def fake_settles(self, text):
        """fake settles no: verdicts come only by `fake settle`"""
        self.fake.settles = text == "yes"

    def fake_entry(self, number, *words):
        """fake entry N FIELD=MATCHER ...: the N-th entry that came, from 1; data= is what it sends"""
        entry = self.entry(number)
        found = dict(entry.fields)
        if any(word.startswith("data=") for word in words):
            found["data"] = self.fake.sent(entry)
        self.values.check(f"entry {number}", found, self.pairs(words), "entry.")

    def fake_count(self, text):
        """fake count MATCHER: how many entries have come"""
        self.values.check("the number of entries", {"count": len(self.fake.entries)}, [("count", text)])

    def fake_also(self, number, *words):
        """As complete, but the record leaves with the next."""
        self.fake.batch.append(self.fake.record_of(self.entry(number), self.record_fields(words)))

    def fake_complete(self, number, *words):
        """fake complete N [FIELD=...] [data=BYTES] [on=p1]: ends an entry, honestly but for these fields"""
        entry = self.entry(number)
        where = next((text for name, text in map(pair, words) if name == "on"), None)
        batch, self.fake.batch = self.fake.batch, []
        batch.append(self.fake.record_of(entry, self.record_fields(words)))
        self.fake.send_records(self.fake.channel(where) if where else entry.connection, batch)

    def fake_record(self, *words):
        """fake record FIELD=... [on=t1]: any record at all"""
        where = next((text for name, text in map(pair, words) if name == "on"), None)
        fields = self.record_fields(words)
        payload = fields.pop("payload", b"")
        self.fake.send_records(self.fake.channel(where), [(fields, payload)])

    def fake_settle(self, *words):
        """fake settle [VALUE]: a verdict on as many entries, or on all that came, on the first connection"""
        value = self.values.value("value", words[0]) if words else None
        self.fake.settle(self.fake.channel(None), value)

    def fake_notice(self, *words):
        fields = {name: self.values.value("notice." + name, text) for name, text in map(pair, words)}
        body = codec.pack_message(self.contract, "FromDaemon", {"notice": fields})
        self.fake.send(self.fake.channel(None), codec.pack_frame(codec.CONTROL, body))

    def fake_message(self, *words):
        """fake message FIELD=...: a CONTROL frame with any FromDaemon"""
        fields = {name: self.values.value(name, text) for name, text in map(pair, words)}
        body = codec.pack_message(self.contract, "FromDaemon", codec.nest(fields))
        self.fake.send(self.fake.channel(None), codec.pack_frame(codec.CONTROL, body))

    def fake_frame(self, *words):
        fields = {name: self.values.value("frame" if name == "kind" else name, text) for name, text in map(pair, words)}
        self.fake.send(self.fake.channel(None), codec.pack_frame(fields.pop("kind"), fields.pop("body", b""), **fields))

    def fake_chop(self, text):
        for connection in self.fake.connections:
            connection.stream.chop = int(text)

    def fake_hangup(self, *words):
        """fake hangup [t1]: ends one connection, or all"""
        for connection in [self.fake.channel(words[0])] if words else self.fake.connections:
            self.fake.hang_up(connection)

    def fake_ended(self, *words):
        """The client closes the connection, or has."""
        connection = self.fake.channel(words[0] if words else None)
        self.fake.wait(lambda: connection.stream.has_ended, "the end of the connection")

    def fake_request(self, what, *words):
        """fake request WHAT FIELD=MATCHER ...: the last of this kind that came"""
        self.fake.wait(lambda: any(name == what for name, _ in self.fake.requests), f"a request {what}")
        found = [fields for name, fields in self.fake.requests if name == what][-1]
        self.values.check(f"the request {what}", found, self.pairs(words), what + ".")


class Target:
    """The client under test, and what it says that it has."""

    def __init__(self, contract, command, path, patience):
        self.contract, self.command, self.path, self.patience = contract, command, path or "", patience
        driver = Driver(command, patience)
        try:
            driver.tell("features")
            words = driver.answer(wait_for).split()
            driver.end(wait_for)
        finally:
            driver.close()
        if words[:1] != ["ok"]:
            raise Mistake(f"the driver answered '{' '.join(words)}' to features")
        self.features = set(words[1:])

    def script(self, case, level):
        for need in [f"level:{level}", *case.needs]:
            if need not in self.features:
                raise NotServed(f"{need}: the driver does not name it among its features")
        if not self.path and not any(words[0] == "fake" for _, _, words in case.steps):
            raise NotServed("a daemon: none was given with --daemon")
        script = ClientScript(self.contract, self.command, self.path, level, self.patience)
        script.values.variables["patience"] = int(self.patience * 1000)
        return script
