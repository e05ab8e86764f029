# SPDX-License-Identifier: Apache-2.0
"""The demonstration itself, run by script/demo as the command of a private daemon.

All clients connect first and are released together, so that the connections are there at once and can be counted. Each
client is a pipe of ordinary programs: its file, nc or socat, sha256sum. Nothing that comes back is stored.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

MEGABYTE = 1000 * 1000
EDGES = [0, 1, 4095, 65535, 65536, 65537, 262144, 262145]  # around the size of one buffer and of one round of receives
STALL_SECONDS = 60


class Failure(Exception):
    """What the demonstration was to show is not so."""


def say(text):
    print(f"demo: {text}", flush=True)


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line now and then."""

    def __init__(self, interval):
        self.live = sys.stdout.isatty()
        self.interval = interval
        self.last = 0.0

    def show(self, text):
        if self.live:
            print(f"\r\033[Kdemo: {text}", end="", flush=True)
        elif time.monotonic() - self.last >= self.interval:
            self.last = time.monotonic()
            say(text)

    def end(self):
        if self.live:
            print("\r\033[K", end="", flush=True)


def make_files(directory, connections, megabytes):
    """Generated files of different sizes: the edges, and the others between half and one and a half of the mean."""
    progress = Progress(5)
    dice = random.Random(64)
    edges = EDGES[: connections // 2]
    others = connections - len(edges)
    weights = [dice.uniform(0.5, 1.5) for _ in range(others)]
    sizes = edges + [int(megabytes * MEGABYTE * weight / sum(weights)) + 1 for weight in weights]
    files = []
    for number, size in enumerate(sizes):
        path = os.path.join(directory, f"{number:04}")
        digest = hashlib.sha256()
        with open(path, "wb") as file:
            left = size
            while left > 0:
                block = os.urandom(min(left, MEGABYTE))
                digest.update(block)
                file.write(block)
                left -= len(block)
        files.append((path, size, digest.hexdigest()))
        progress.show(f"making files: {number + 1} of {len(sizes)}")
    progress.end()
    return files


class Server:
    """One of the example servers: an ordinary program that has no network."""

    def __init__(self, path, *arguments):
        self.name = os.path.basename(path)
        self.process = subprocess.Popen([path, *arguments], stdout=subprocess.PIPE, text=True)
        self.ending = ""
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise Failure(f"{self.name} did not start (exit status {self.process.wait()})")
        self.host, self.port = line.removeprefix("listening on ").strip().rsplit(":", 1)
        self.host = self.host.strip("[]")
        say(f"{self.name} (process {self.process.pid}) listens on {self.host} port {self.port}")

    def stop(self):
        self.process.terminate()
        try:
            self.ending, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"{self.name} did not end within 20 s of SIGTERM") from late
        if self.process.returncode != 0:
            raise Failure(f"{self.name} ended with status {self.process.returncode}: {self.ending.strip()}")


class Client:
    """A file through a server: sh waits for the word to go and feeds the file to nc or socat; sha256sum takes it."""

    def __init__(self, server, tool, file, gate):
        self.path, self.size, self.expected = file
        self.what = f"{tool} to {server.name}, {self.size} bytes"
        if tool == "nc":
            command = ["nc", "-N", server.host, server.port]
        else:
            version = "TCP6" if ":" in server.host else "TCP4"
            host = f"[{server.host}]" if ":" in server.host else server.host
            command = ["socat", "-t", "600", "-", f"{version}:{host}:{server.port}"]
        feed = ["sh", "-c", 'read go && exec cat "$0"', self.path]
        self.feed = subprocess.Popen(feed, stdin=gate, stdout=subprocess.PIPE)
        self.carry = subprocess.Popen(command, stdin=self.feed.stdout, stdout=subprocess.PIPE)
        self.sum = subprocess.Popen(["sha256sum"], stdin=self.carry.stdout, stdout=subprocess.PIPE, text=True)
        self.feed.stdout.close()
        self.carry.stdout.close()

    def is_done(self):
        return self.sum.poll() is not None

    def verdict(self):
        """None where the file came back as it left, or what is wrong."""
        digest = self.sum.communicate()[0].split()[0]
        status = self.carry.wait()
        self.feed.wait()
        if status != 0:
            return f"{self.what}: exit status {status}"
        if digest != self.expected:
            return f"{self.what}: the checksum differs"
        return None

    def kill(self):
        for process in (self.feed, self.carry, self.sum):
            if process.poll() is None:
                process.kill()
            process.wait()


def status(examples):
    """The worker's counters, by examples/overlap-status."""
    run = subprocess.run([os.path.join(examples, "overlap-status")], stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise Failure("the daemon does not answer overlap-status")
    pairs = (line.split(" ", 1) for line in run.stdout.splitlines())
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


def network_inodes():
    inodes = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as lines:
                next(lines)
                inodes.update(line.split()[9] for line in lines)
        except FileNotFoundError:
            pass
    return inodes


def descriptors(pid):
    """What a process has open: [(number, target)]."""
    directory = f"/proc/{pid}/fd"
    found = []
    for number in sorted(os.listdir(directory), key=int):
        try:
            found.append((number, os.readlink(f"{directory}/{number}")))
        except FileNotFoundError:
            pass
    return found


def sockets_of(pid, inodes):
    """How many sockets a process has, and how many of them are network sockets."""
    sockets = [target[8:-1] for _, target in descriptors(pid) if target.startswith("socket:[")]
    return len(sockets), sum(inode in inodes for inode in sockets)


def show_who_holds_what(servers, worker_pid):
    inodes = network_inodes()
    for server in servers:
        n_sockets, n_network = sockets_of(server.process.pid, inodes)
        say(f"/proc/{server.process.pid}/fd of {server.name}: {n_sockets} sockets, {n_network} of them network sockets")
        if n_network:
            raise Failure(f"{server.name} holds a network socket of its own")
    try:
        n_sockets, n_network = sockets_of(worker_pid, inodes)
    except PermissionError:
        say(f"/proc/{worker_pid}/fd of the daemon's worker is closed to this user")
        return
    say(f"/proc/{worker_pid}/fd of the daemon's worker: {n_sockets} sockets, {n_network} of them network sockets")
    if not n_network:
        raise Failure("the daemon's worker holds no network socket either")


def await_connections(examples, clients, n_listeners):
    """Waits until every client is connected and the servers have posted their receives."""
    progress = Progress(5)
    deadline = time.monotonic() + STALL_SECONDS
    while True:
        now = status(examples)
        n_connected = now["sockets"] - n_listeners
        progress.show(f"connecting: {n_connected} of {len(clients)}")
        if n_connected >= len(clients):
            break
        if any(client.carry.poll() is not None for client in clients):
            raise Failure("a client ended before it was told to send")
        if time.monotonic() > deadline:
            raise Failure(f"only {n_connected} of {len(clients)} connections were made in {STALL_SECONDS} s")
        time.sleep(0.05)
    progress.end()
    say(f"{n_connected} connections at once, {now['ops_in_flight']} operations in flight")


def await_end(examples, clients, before, total):
    progress = Progress(2)
    start = last_change = time.monotonic()
    last_echoed = -1
    while not all(client.is_done() for client in clients):
        echoed = status(examples)["bytes_sent"] - before["bytes_sent"]
        n_done = sum(client.is_done() for client in clients)
        seconds = time.monotonic() - start
        progress.show(f"{echoed / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB echoed, {n_done} of {len(clients)} "
                      f"connections done, {seconds:.1f} s")
        if echoed != last_echoed:
            last_echoed, last_change = echoed, time.monotonic()
        elif time.monotonic() - last_change > STALL_SECONDS:
            raise Failure(f"nothing moved for {STALL_SECONDS} s: {n_done} of {len(clients)} connections are done")
        time.sleep(0.2)
    progress.end()
    return time.monotonic() - start


def push(options, files, servers):
    """Pushes the files through the servers; returns the seconds it took and what went wrong."""
    read_end, write_end = os.pipe()
    clients = []
    before = status(options.examples)
    try:
        for number, file in enumerate(files):
            server = servers[number % len(servers)]
            tool = ("nc", "socat")[number // len(servers) % 2]
            clients.append(Client(server, tool, file, read_end))
        os.close(read_end)
        await_connections(options.examples, clients, len(servers))
        show_who_holds_what(servers, before["worker_pid"])
        os.write(write_end, b"\n" * len(clients))
        seconds = await_end(options.examples, clients, before, sum(size for _, size, _ in files))
        return seconds, before, [wrong for wrong in (client.verdict() for client in clients) if wrong]
    finally:
        os.close(write_end)
        for client in clients:
            client.kill()


def report(options, files, seconds, before):
    after = status(options.examples)
    total = sum(size for _, size, _ in files)
    spent = {name: after[name] - before[name] for name in
             ("entries", "records", "system_calls", "wakeups", "turns", "merged_ops", "bytes_sent")}
    operations = max(spent["entries"], 1)
    say(f"{total / MEGABYTE:.0f} MB went and came back in {seconds:.1f} s: {total / MEGABYTE / seconds:.0f} MB/s, "
        f"clients and checksums on this machine included")
    say(f"engine {after['engine']} ({after['engine_reason']})")
    say(f"{spent['entries']} operations taken, {spent['records']} records sent, {spent['merged_ops']} operations merged; "
        f"{after['ops_in_flight']} still in flight (the servers' accepts)")
    say(f"{spent['turns']} turns, {spent['wakeups']} wake-ups, {spent['system_calls']} system calls of the worker: "
        f"{spent['system_calls'] / operations:.2f} per operation")
    if after["entries"] != after["records"] + after["ops_in_flight"]:
        raise Failure("operations and records do not add up: each operation must have exactly one record")
    if spent["bytes_sent"] != total:
        raise Failure(f"the daemon counted {spent['bytes_sent']} bytes sent, not {total}")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def demonstrate(options, directory):
    say(f"making {options.connections} files, {options.megabytes} MB in all")
    files = make_files(directory, options.connections, options.megabytes)
    servers = []
    try:
        servers.append(Server(os.path.join(options.examples, "echo-routines"), "0"))
        address = "::1" if has_ipv6() else "127.0.0.1"
        servers.append(Server(os.path.join(options.examples, "echo-port"), "0", address, "4"))
        seconds, before, wrong = push(options, files, servers)
        report(options, files, seconds, before)
        for server in servers:
            server.stop()
            say(f"{server.name}: {server.ending.strip()}")
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()
    for line in wrong:
        say(f"WRONG: {line}")
    if wrong:
        raise Failure(f"{len(wrong)} of {len(files)} files did not come back as they left")
    say(f"all {len(files)} checksums match")


def main():
    parser = argparse.ArgumentParser(prog="script/demo")
    parser.add_argument("examples")
    parser.add_argument("--connections", type=int, default=72)
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    if not 2 <= options.connections <= 200 or options.megabytes < 1:
        parser.error("between 2 and 200 connections and at least one megabyte, please")

    def leave(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    directory = tempfile.mkdtemp(prefix="demo-", dir=os.path.join(options.examples, ".."))
    try:
        demonstrate(options, directory)
    except Failure as failure:
        say(f"FAILED: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: everything that was started is ended")
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
