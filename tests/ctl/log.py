#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overlapctl log: journals that were made for the purpose, read back. TAP."""

import os
import pathlib
import re
import selectors
import struct
import subprocess
import tempfile
import unittest

import stage
import tool
from tool import DONE, FAILED, LOST, USAGE

REMOTE = "/lib/systemd/systemd-journal-remote"
ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOT = "0123456789abcdef0123456789abcdef"
START = 1_700_000_000  # 2023-11-14 22:13:20 UTC
CONNECTED, REFUSED = "7515be9209d44d5781559be0798daa32", "777dc9027a334018b7105a7e52189294"
LISTENING, ENDED = "25d2bf603942466db2174496aab77528", "a962cdbe762e4b7b86cbd7532fcf924c"
BUSY = "f04c1d883f70424293c6a59572c327b2"
SESSION = "00000000c0ffee01"
CLIENT = {"SESSION": SESSION, "CLIENT_PID": "812", "CLIENT_UID": "4001", "CLIENT_UNIT": "web.service"}
RULE = "/etc/overlapd/policy.d/10-web.conf:3 denies it [deny metadata]"


def entry(at_s, message, /, **fields):
    """An entry of the daemon, so many seconds after the start; a field that is None is not there."""
    return {"__REALTIME_TIMESTAMP": str(round((START + at_s) * 1_000_000)), "__MONOTONIC_TIMESTAMP": str(round(at_s * 1e6) + 1),
            "_BOOT_ID": BOOT, "_MACHINE_ID": BOOT, "PRIORITY": "5", "SYSLOG_IDENTIFIER": "overlapd", "_UID": "990",
            "_PID": "800", "_SYSTEMD_UNIT": "overlapd.service", "MESSAGE": message} | fields


def story():
    """A morning of a service."""
    return [
        entry(0, "Starting overlapd.service - Overlapped I/O for other processes...", UNIT="overlapd.service", _PID="1",
              _SYSTEMD_UNIT="init.scope", SYSLOG_IDENTIFIER="systemd", _UID="0"),
        entry(1, "worker 801 is ready: engine uring (io_uring is available)", ENGINE="uring", WORKER_PID="801", PRIORITY="6",
              MESSAGE_ID="0b4deac28f6844b3b4f5607be70e7abb"),
        entry(2.25, "connected to 192.0.2.7:5432 (tcp)", MESSAGE_ID=CONNECTED, PROTOCOL="tcp", REMOTE="192.0.2.7:5432",
              **CLIENT),
        entry(3, "169.254.169.254:80: the policy does not allow this: " + RULE, MESSAGE_ID=REFUSED, OVERLAPD_ERRNO="13",
              REMOTE="169.254.169.254:80", RULE=RULE, **CLIENT),
        entry(4, "listens at [::]:8080 (tcp)", MESSAGE_ID=LISTENING, PROTOCOL="tcp", LOCAL="[::]:8080",
              SESSION="00000000c0ffee02", CLIENT_PID="900", CLIENT_UID="0"),
        entry(5, "connection refused: too many sessions", MESSAGE_ID=BUSY, CLIENT_PID="901", CLIENT_UID="4001"),
        entry(6, "session ended after 3.750 s: 20 operations, 2 sockets, 4096 bytes received, 10 bytes sent", PRIORITY="6",
              MESSAGE_ID=ENDED, DURATION_USEC="3750000", OPERATIONS="20", SOCKETS="2", BYTES_RECEIVED="4096",
              BYTES_SENT="10", **CLIENT),
        entry(7, "a line of tomorrow", MESSAGE_ID="ffffffffffffffffffffffffffffffff"),
    ]


def exported(entries):
    """The export format of journals: see systemd's documentation of it."""
    out = bytearray()
    for fields in entries:
        for name, value in fields.items():
            data = value if isinstance(value, bytes) else None if value is None else value.encode()
            if data is None:
                continue
            if b"\n" in data or not data.isascii():
                out += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
            else:
                out += name.encode() + b"=" + data + b"\n"
        out += b"\n"
    return bytes(out)


class Log(unittest.TestCase):
    """What is read back."""

    def setUp(self):
        if not os.path.exists(REMOTE):
            self.skipTest(f"there is no {REMOTE}: install systemd-journal-remote")
        made = tempfile.TemporaryDirectory(prefix="overlapctl-")  # pylint: disable=consider-using-with
        self.addCleanup(made.cleanup)
        self.folder = made.name
        os.chmod(self.folder, 0o755)

    def journal(self, entries, name="system"):
        """A file of a journal. Returns its path."""
        path = f"{self.folder}/{name}.journal"
        subprocess.run([REMOTE, f"--output={path}.new.journal", "-"], input=exported(entries), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.rename(f"{path}.new.journal", path)
        os.chmod(path, 0o644)
        return path

    def log(self, *arguments, status=DONE, env=None, **options):
        done = tool.run("log", *arguments, env={"TZ": "UTC"} | (env or {}), **options)
        self.assertEqual(done.status, status, done.said + done.out)
        return done

    def messages(self, *arguments, **options):
        """The times, in seconds after the start, of the entries that are shown."""
        return [round(float(line["time"][17:-1]) - 20, 3) for line in self.log("--json", *arguments, **options).lines()]

    # --- One line

    def test_each_kind_of_line(self):
        lines = self.log("--file", self.journal(story())).out.splitlines()
        self.assertEqual(lines, [
            "2023-11-14 22:13:20.000  systemd        -                         "
            "Starting overlapd.service - Overlapped I/O for other processes...",
            "2023-11-14 22:13:21.000  worker         -                         "
            "worker 801 is ready: engine uring (io_uring is available)",
            "2023-11-14 22:13:22.250  connected      web.service[812] 4001     tcp 192.0.2.7:5432  session " + SESSION,
            "2023-11-14 22:13:23.000  denied         web.service[812] 4001     "
            "169.254.169.254:80: " + RULE + "  session " + SESSION,
            "2023-11-14 22:13:24.000  listening      pid 900 root              tcp [::]:8080  session 00000000c0ffee02",
            "2023-11-14 22:13:25.000  refused        pid 901 4001              connection refused: too many sessions",
            "2023-11-14 22:13:26.000  session-end    web.service[812] 4001     after 3.8s: 20 operations, 2 sockets, "
            "4.0K bytes received, 10 sent  session " + SESSION,
            "2023-11-14 22:13:27.000  note           -                         a line of tomorrow",
        ])

    def test_the_time_is_local(self):
        path = self.journal(story())
        self.assertTrue(self.log("--file", path, "-n", "1", env={"TZ": "XYZ-3:30"}).out.startswith("2023-11-15 01:43:27.000"))

    def test_fields_that_are_missing_or_nonsense(self):
        """What the fields do not say is taken from the sentence, or left out."""
        path = self.journal([
            entry(0, "connected to nobody", MESSAGE_ID=CONNECTED, CLIENT_PID="x", CLIENT_UID="-1", SESSION=SESSION),
            entry(1, "a session of some length", MESSAGE_ID=ENDED, DURATION_USEC="99999999999999999999999"),
            entry(2, None, MESSAGE_ID=REFUSED),
            entry(3, "x" * 9000, PRIORITY="high"),
        ])
        done = self.log("--file", path)
        lines = done.out.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertIn("  connected      -                         connected to nobody  session ", lines[0])
        self.assertIn("  a session of some length", lines[1])
        self.assertIn("  refused        -  ", lines[2])
        self.assertLess(len(lines[3]), 2200)
        self.assertNotIn("priority", self.log("--json", "--file", path).lines()[3])

    def test_names_and_numbers(self):
        """What an operation asked for by name, and what the program itself knows of it."""
        path = self.journal([
            entry(0, "connected", MESSAGE_ID=CONNECTED, PROTOCOL="tcp", REMOTE="192.0.2.7:5432", REMOTE_NAME="db.internal",
                  CLIENT_CGROUP="/system.slice/web.service", CLIENT_THREAD="7", CLIENT_SOCKET="18446744073709551615",
                  CLIENT_OP="0", **CLIENT),
            entry(1, "refused", MESSAGE_ID=REFUSED, REMOTE="192.0.2.7:5432", REMOTE_NAME="db.internal", RULE=RULE, **CLIENT),
            entry(2, "administrator refused", MESSAGE_ID="32671ce9204d43debb6364fb04581f23", CLIENT_PID="5", CLIENT_UID="0"),
            entry(3, "a quota is reached", MESSAGE_ID="39b189a2163948768b7a6bd559065aa4", **CLIENT),
        ])
        lines = self.log("--file", path).out.splitlines()
        self.assertIn("  tcp 192.0.2.7:5432 (db.internal)  session ", lines[0])
        self.assertIn(f"  192.0.2.7:5432 (db.internal): {RULE}  session ", lines[1])
        self.assertIn("  admin-refused  pid 5 root  ", lines[2])
        line = self.log("--json", "--file", path).lines()[0]
        self.assertEqual([line[name] for name in ("remote_name", "client_cgroup", "client_thread", "client_socket",
                                                  "client_op")],
                         ["db.internal", "/system.slice/web.service", "0000000000000007", "f" * 16, "0" * 16])
        self.assertEqual(self.messages("--file", path, "-r"), [1, 2, 3])

    def test_nothing_steers_the_terminal(self):
        path = self.journal([entry(0, b"one\x1b[2Jtwo\nthree\x07\x7f", CLIENT_UNIT=b"we\rb.service", CLIENT_PID="1",
                                   MESSAGE_ID=CONNECTED, PROTOCOL=b"t\x1bcp", REMOTE=b"here\nthere"),
                             entry(1, b"one\x1b[2Jtwo\nthree\x07\x7f \xff\xc3\xa4\xc2\x9b\xe2\x82")])
        done = self.log("--file", path)
        self.assertNotRegex(done.out.replace("\n", ""), r"[\x00-\x1f\x7f-\x9f]")
        self.assertEqual(len(done.out.splitlines()), 2)
        self.assertIn("we?b.service[1]  ", done.out)
        self.assertIn("t?cp here?there", done.out)
        self.assertEqual(self.log("--json", "--file", path).lines()[1]["message"], "one?[2Jtwo?three?? ?\u00e4???")

    def test_for_programs(self):
        lines = self.log("--json", "--file", self.journal(story())).lines()
        self.assertEqual(len(lines), 8)
        refused = lines[3]
        self.assertRegex(refused.pop("cursor"), "^s=[0-9a-f]{32};")
        self.assertEqual(refused, {
            "time": "2023-11-14T22:13:23.000000Z", "event": "denied", "message_id": REFUSED, "priority": 5,
            "message": "169.254.169.254:80: the policy does not allow this: " + RULE, "session": SESSION, "client_pid": 812,
            "client_uid": 4001, "client_unit": "web.service", "remote": "169.254.169.254:80",
            "rule": RULE, "errno": 13})
        self.assertEqual({key: lines[6][key] for key in ("duration_us", "operations", "sockets", "bytes_received",
                                                         "bytes_sent")},
                         {"duration_us": 3750000, "operations": 20, "sockets": 2, "bytes_received": 4096, "bytes_sent": 10})
        self.assertEqual((lines[1]["worker_pid"], lines[1]["engine"]), (801, "uring"))

    def test_events_are_those_of_the_catalog(self):
        known = set(re.findall(r'"([0-9a-f]{32})"', (ROOT / "client/ctl/log-line.c").read_text(encoding="utf-8")))
        catalog = (ROOT / "units/overlapd.catalog").read_text(encoding="utf-8")
        explained = set(re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.MULTILINE))
        self.assertGreater(len(known), 20)
        self.assertEqual(known ^ explained, set(), "log_line_events and the catalog do not have the same events")

    # --- Which lines

    def test_who_it_is_about(self):
        path = self.journal(story())
        self.assertEqual(self.messages("--file", path, "-u", "web"), [2.25, 3, 6])
        self.assertEqual(self.messages("--file", path, "--unit=web.service"), [2.25, 3, 6])
        self.assertEqual(self.messages("--file", path, "--user", "4001"), [2.25, 3, 5, 6])
        self.assertEqual(self.messages("--file", path, "--user", "root"), [4])
        self.assertEqual(self.messages("--file", path, "-s", SESSION), [2.25, 3, 6])
        self.assertEqual(self.messages("--file", path, "--session", "C0FFEE02"), [4])
        self.assertEqual(self.messages("--file", path, "--refused"), [3, 5])
        self.assertEqual(self.messages("--file", path, "-r", "-u", "web.service"), [3])
        self.assertEqual(self.messages("--file", path, "-r", "--user", "root", status=FAILED), [])

    def test_lines_that_others_wrote(self):
        """Only journald's own fields count, unless somebody says otherwise."""
        path = self.journal([
            entry(0, "forged", _SYSTEMD_UNIT="evil.service", MESSAGE_ID=CONNECTED, **CLIENT),
            entry(1, "forged", _SYSTEMD_UNIT="evil.service", UNIT="overlapd.service"),
            entry(2, "private", _SYSTEMD_UNIT="user@4001.service", _SYSTEMD_USER_UNIT="overlapd.service",
                  _UID=str(os.getuid())),
            entry(3, "of another user", _SYSTEMD_UNIT="user@4001.service", _SYSTEMD_USER_UNIT="overlapd.service", _UID="77"),
            entry(4, "true"),
            entry(5, "no such identifier", SYSLOG_IDENTIFIER="other"),
        ])
        self.assertEqual(self.messages("--file", path), [4, 5])
        self.assertEqual(self.messages("--file", path, "-u", "web", status=FAILED), [])
        self.assertEqual(self.messages("--file", path, "--own"), [2])
        self.assertEqual(self.messages("--file", path, "--any"), [0, 1, 2, 3, 4])

    def test_how_many(self):
        path = self.journal([entry(at / 100, f"line {at}") for at in range(250)])
        self.assertEqual(self.messages("--file", path), [round(at / 100, 2) for at in range(150, 250)])
        self.assertEqual(len(self.messages("--file", path, "-n", "all")), 250)
        self.assertEqual(len(self.messages("--file", path, "-n", "1000")), 250)
        self.assertEqual(len(self.messages("--file", path, "-n", "250")), 250)
        self.assertEqual(self.messages("--file", path, "--lines=3"), [2.47, 2.48, 2.49])
        self.assertEqual(self.messages("--file", path, "-n", "0", status=FAILED), [])

    def test_from_when_to_when(self):
        path = self.journal(story())
        self.assertEqual(self.messages("--file", path, "-S", "2023-11-14 22:13:24"), [4, 5, 6, 7])
        self.assertEqual(self.messages("--file", path, "-S", f"@{START + 3}", "-U", f"@{START + 5}"), [3, 4, 5])
        self.assertEqual(self.messages("--file", path, "-U", "2023-11-14 22:13:21"), [0, 1])
        self.assertEqual(self.messages("--file", path, "-U", f"@{START + 5}", "-n", "2"), [4, 5])
        self.assertEqual(self.messages("--file", path, "-S", f"@{START + 6}", "-n", "5"), [6, 7])
        self.assertEqual(self.messages("--file", path, "-S", f"@{START + 2}", "-n", "1"), [7])
        self.assertEqual(self.messages("--file", path, "-S", "1h ago", status=FAILED), [])
        self.assertEqual(self.messages("--file", path, "-S", f"@{START + 3}", "-r"), [3, 5])

    def test_more_than_one_file(self):
        parts = story()
        first, second = self.journal(parts[::2], "one"), self.journal(parts[1::2], "two")
        everything = [0, 1, 2.25, 3, 4, 5, 6, 7]
        self.assertEqual(self.messages("--file", first, "--file", second), everything)
        self.assertEqual(self.messages("-D", self.folder), everything)
        self.assertEqual(self.messages("--file", first), everything[::2])

    # --- What comes

    def follow(self, *arguments):
        program = subprocess.Popen([tool.CTL, "log", "-f", "--json", "-D", self.folder, *arguments], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, bufsize=0)

        def end():
            program.kill()
            program.wait()
            program.stdout.close()

        self.addCleanup(end)
        return program

    def next_line(self, program):
        """The message of the next line, which is waited for."""
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(program.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                self.assertTrue(selector.select(tool.PATIENCE_S), f"no line came after {line}")
                byte = os.read(program.stdout.fileno(), 1)
                self.assertTrue(byte, f"it ended after {line}")
                line += byte
        return tool.json.loads(line)["message"]

    def test_what_comes_is_shown(self):
        self.journal([entry(at, f"line {at}") for at in range(12)], "one")
        program = self.follow("-n", "2")
        self.assertEqual([self.next_line(program) for _ in range(2)], ["line 10", "line 11"])
        for at in (20, 21, 22):
            self.journal([entry(at, f"line {at}"), entry(at, "of others", _SYSTEMD_UNIT="other.service")], f"more-{at}")
            self.assertEqual(self.next_line(program), f"line {at}")
        self.assertIsNone(program.poll())

    def test_what_comes_to_an_empty_journal(self):
        program = self.follow("-r")
        self.journal([entry(1, "no refusal"), entry(2, "refused", MESSAGE_ID=REFUSED)], "one")
        self.assertEqual(self.next_line(program), "refused")

    def test_nobody_reads_any_more(self):
        """It ends when its reader has, not with the next line."""
        self.journal([entry(0, "line 0")], "one")
        program = self.follow()
        self.assertEqual(self.next_line(program), "line 0")
        program.stdout.close()
        self.assertEqual(program.wait(tool.PATIENCE_S), DONE)

    # --- What cannot be read

    def test_nothing_is_found(self):
        path = self.journal([entry(0, "other", _SYSTEMD_UNIT="other.service")])
        self.assertIn("nothing is found", self.log("--file", path, status=FAILED).said)
        self.assertEqual(self.log("--quiet", "--file", path, status=FAILED).said, "")
        self.assertEqual(self.log("--quiet", "--any", "--file", path).out, "")

    def test_files_that_are_none(self):
        self.assertIn("/nowhere.journal: No such file", self.log("--file", "/nowhere.journal", status=LOST).said)
        self.assertIn("/nowhere cannot be read as a journal", self.log("-D", "/nowhere", status=LOST).said)
        path = f"{self.folder}/garbage.journal"
        for data in (b"", b"x" * 5000, os.urandom(5000)):
            with open(path, "wb") as file:
                file.write(data)
            self.assertIn(f"{path} cannot be read as a journal", self.log("--file", path, status=LOST).said)

    def test_files_that_were_cut_or_damaged(self):
        """What is left is shown, or it is said that nothing can be read; it never dies."""
        whole = pathlib.Path(self.journal(story())).read_bytes()
        path = f"{self.folder}/damaged.journal"
        for at in range(0, min(len(whole), 60000), 1777):
            for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xff]) + whole[at + 1:]):
                pathlib.Path(path).write_bytes(data)
                done = tool.run("log", "--file", path)
                self.assertIn(done.status, (DONE, FAILED, LOST), done.said)

    def world(self, *steps, members=""):
        """A machine with a journal of its own, as somebody who is not root."""
        passwd, group = f"{self.folder}/passwd", f"{self.folder}/group"
        pathlib.Path(passwd).write_text("root:x:0:0::/:/bin/sh\nann:x:4001:4001::/:/bin/sh\n", encoding="ascii")
        pathlib.Path(group).write_text(f"root:x:0:\nann:x:4001:\nsystemd-journal:x:4777:{members}\n", encoding="ascii")
        pathlib.Path(f"{self.folder}/machine-id").write_text(BOOT + "\n", encoding="ascii")
        script = "\n".join(["mount --bind $0/passwd /etc/passwd", "mount --bind $0/group /etc/group",
                            "mount --bind $0/machine-id /etc/machine-id", "mount -t tmpfs none /run", *steps,
                            'exec setpriv --reuid=4001 --regid=4001 --clear-groups -- "$@"'])
        prefix = ["unshare", "--mount", "sh", "-ec", script, self.folder]
        if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs root, to be somebody else on another machine")
        return prefix

    def test_who_may_not_read_it(self):
        os.chmod(self.journal(story()), 0o640)
        place = f"/run/log/journal/{BOOT}"
        steps = [f"mkdir -p {place}", f"cp $0/system.journal {place}/", f"chmod 0640 {place}/system.journal"]
        said = self.log(status=LOST, prefix=self.world(*steps)).said
        self.assertIn("user ann may not read the system's journal: 'usermod -aG systemd-journal ann'", said)
        said = self.log(status=LOST, prefix=self.world(*steps, members="ann")).said
        self.assertIn("this login is older than that: log in again", said)
        self.assertIn("newgrp systemd-journal", said)
        done = self.log(prefix=self.world(*steps, f"chmod 0644 {place}/system.journal"))
        self.assertIn("tcp 192.0.2.7:5432", done.out)
        done = self.log("-D", self.folder, status=LOST, prefix=self.world(*steps))
        self.assertIn("none of its 1 files of a journal can be read", done.said)

    def test_where_there_is_none(self):
        said = self.log(status=LOST, prefix=self.world()).said
        if os.path.isdir(f"/var/log/journal/{BOOT}"):
            self.skipTest("this machine has the id of the test's")
        self.assertIn("there is no journal on this machine", said)
        self.assertIn("overlapctl log -D DIR", said)

    def test_a_command_line_that_is_wrong(self):
        for arguments, words in (
                (["-n", "x"], "-n x: must be a number of lines from 0 to 2147483647, or all"),
                (["-n", "-1"], "-n -1: must be a number"),
                (["-n", "2147483648"], "-n 2147483648: must be"),
                (["-S", "soon"], "-S soon: must be a time: YYYY-MM-DD"),
                (["-U", "2023-02-30"], "-U 2023-02-30: must be a time"),
                (["-S", "today", "-U", "yesterday"], "--since is later than --until"),
                (["-u", ""], "--unit '': must be the name of a unit"),
                (["-u", "a/b"], "--unit 'a/b': must be the name of a unit"),
                (["-u", "x" * 300], "has 308 bytes, and no unit has more than 255"),
                (["--user", "nobody-of-this-name"], "--user 'nobody-of-this-name': there is no such user"),
                (["-s", "xyz"], "-s xyz: must be the number of a session"),
                (["-s", "0" * 17], "must be the number of a session"),
                (["-D", "/", "--file", "/"], "--directory and --file: only one"),
                (["--own", "--any"], "--own and --any: only one"),
                (["-f", "-U", "now"], "--follow and --until"),
                (["-n"], "-n needs a value"),
                (["--unknown"], "unknown option '--unknown'"),
                (["more"], "unexpected argument 'more'"),
                (["--file=/x"] * 65, "there are 64 already")):
            with self.subTest(arguments[:4]):
                done = self.log(*arguments, status=USAGE)
                self.assertIn(words, done.said)
                self.assertIn("Try 'overlapctl log --help'", done.said)


if __name__ == "__main__":
    stage.main()
