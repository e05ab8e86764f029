# SPDX-License-Identifier: Apache-2.0
"""The echo benchmark, run by script/bench as the command of a private daemon.

Three servers run side by side and sleep while they are not asked: direct epoll, direct io_uring, and overlapd. In every
round each gets the same load, in an order that rotates, so that whatever else the machine does hits all three. Only the
ratios within a round mean something; what is printed is their median.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

SERVERS = ("epoll", "uring", "overlap")


class Server:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"bench: {command[-1]} did not start")
        self.port = line.strip().rsplit(":", 1)[1]

    def stop(self, pid=None):
        """Ends the server, and returns what it counted."""
        os.kill(pid or self.process.pid, 15)
        words = self.process.communicate(timeout=30)[0].split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2])}


def load(options, server, milliseconds):
    run = subprocess.run([os.path.join(options.programs, "load"), server.port, str(options.connections),
                          str(options.size), str(milliseconds)], stdout=subprocess.PIPE, text=True, check=True)
    return float(run.stdout)


def compare(options):
    servers = {name: Server([os.path.join(options.programs, f"echo-{name}")]) for name in SERVERS}
    rates = {name: [] for name in SERVERS}
    for number in range(options.pairs):
        turn = number % len(SERVERS)
        for name in SERVERS[turn:] + SERVERS[:turn]:
            rates[name].append(load(options, servers[name], options.milliseconds))
        print(f"bench: round {number + 1} of {options.pairs}: " +
              ", ".join(f"{name} {rates[name][-1]:.0f}/s" for name in SERVERS), flush=True)
    counted = {name: server.stop() for name, server in servers.items()}
    return rates, counted


def client_calls(options):
    """System calls of the process that uses overlapd per message and per operation, in a short run under strace."""
    with tempfile.NamedTemporaryFile(mode="r") as summary:
        server = Server(["strace", "-f", "-c", "-o", summary.name, os.path.join(options.programs, "echo-overlap")])
        child = subprocess.run(["pgrep", "-P", str(server.process.pid)], stdout=subprocess.PIPE, text=True, check=True)
        load(options, server, 1000)
        counted = server.stop(int(child.stdout.split()[0]))
        for line in summary:
            fields = line.split()
            if fields and fields[-1] == "total":
                calls = int(fields[3])
                return calls / max(counted["messages"], 1), calls / max(counted["entries"], 1)
    raise SystemExit("bench: strace printed no total")


def ratio_line(rates, name, other):
    ratios = sorted(mine / theirs for mine, theirs in zip(rates[name], rates[other]))
    return (f"bench: {name} against {other}: median {statistics.median(ratios):.2f} "
            f"(from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def main():
    parser = argparse.ArgumentParser(prog="script/bench")
    parser.add_argument("programs")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message, at most 65536")
    parser.add_argument("--milliseconds", type=int, default=1000, help="of load for each server in each round")
    parser.add_argument("--pairs", type=int, default=20, help="rounds")
    options = parser.parse_args()
    if not (1 <= options.connections <= 256 and 1 <= options.size <= 65536 and options.pairs >= 1):
        parser.error("1 to 256 connections, 1 to 65536 bytes and at least one round, please")

    print(f"bench: {options.connections} connections, {options.size} bytes, {options.pairs} rounds of "
          f"{options.milliseconds} ms each, on {os.cpu_count()} processors, Linux {os.uname().release}", flush=True)
    rates, counted = compare(options)
    for name in SERVERS:
        print(f"bench: {name}: median {statistics.median(rates[name]):.0f} round trips per second")
    print(ratio_line(rates, "overlap", "uring"))
    print(ratio_line(rates, "overlap", "epoll"))
    print(ratio_line(rates, "epoll", "uring"))
    for name in ("epoll", "uring"):
        print(f"bench: {name}: {counted[name]['calls'] / max(counted[name]['messages'], 1):.2f} system calls per message")
    mine = counted["overlap"]
    per_message, per_operation = client_calls(options)
    print(f"bench: overlap at level {mine['level']}: {per_message:.3f} system calls per message in the client, "
          f"{per_operation:.3f} per operation (under strace, which slows it and so makes its batches larger), {mine['worker_calls'] / max(mine['messages'], 1):.2f} in the worker; a "
          f"message is {mine['entries'] / max(mine['messages'], 1):.2f} operations; "
          f"{mine['wakeups'] / max(mine['messages'], 1):.3f} wake-ups of the worker per message, {mine['polls'] / max(mine['messages'], 1):.3f} "
          f"sleeps spared by looking")
    return 0


if __name__ == "__main__":
    sys.exit(main())
