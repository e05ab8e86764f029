#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a person outside the tree has: an installed overlapd, and programs built against it. TAP.

Installs the build into an empty directory, compiles the examples and the README's program with cc and pkg-config, and
runs each under `overlapd --private`.

usage: installed.py SOURCE_ROOT BUILD_ROOT
       installed.py --case NAME DIRECTORY    one case, as the command of a private daemon
"""

import contextlib
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

LIMIT_S = 60
EXAMPLES = ("echo-routines", "echo-port", "echo-datagrams", "file-receiver", "first-answer", "overlap-status")


def run(*command, **options):
    """Runs a command; raises with its output where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S,
                          check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}"
    return done.stdout


def find(directory, name):
    for parent, _, files in os.walk(directory):
        if name in files and "completions" not in parent:  # which have the names of the programs
            return os.path.join(parent, name)
    raise AssertionError(f"{name} was not installed")


# --- Inside: cases that run with a private daemon ------------------------------------------------------------------


class Server:
    def __init__(self, path, *arguments):
        # Nothing is read ahead: select() would not see a line that has been.
        self.process = subprocess.Popen([path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on "), f"{path} said '{line.strip()}'"
        host, port = line.removeprefix("listening on ").strip().rsplit(":", 1)
        self.address = (host.strip("[]"), int(port))

    def connect(self):
        return socket.create_connection(self.address, timeout=LIMIT_S)

    def read_until(self, pattern):
        """The lines that it prints, up to one that matches."""
        lines = ""
        while not re.search(pattern, lines):
            ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
            line = self.process.stdout.readline().decode() if ready else ""
            assert line, f"no line matches {pattern}: {lines}"
            lines += line
        return lines

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, f"exit status {self.process.returncode} after SIGTERM"
        return rest.decode()


def exchange(server, data, errors):
    """Sends data, ends the stream, and expects the same back to its end."""
    try:
        with server.connect() as connection:
            sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
            sender.start()
            back = bytearray()
            while chunk := connection.recv(1 << 16):
                back += chunk
            sender.join()
        if back != data:
            errors.append(f"{len(data)} bytes came back as {len(back)}, or changed")
    except OSError as error:
        errors.append(f"{len(data)} bytes: {error}")


def reset(connection):
    """Closes with a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def case_echo(server):
    """Many connections at once, some of them broken off: the others are echoed, in order."""
    errors = []
    for _ in range(8):
        broken = server.connect()
        broken.sendall(bytes(100000))
        reset(broken)
    dice = random.Random(1)
    sizes = [0, 1, 65535, 65536, 65537, 262144, 262145] + [dice.randrange(1, 2000000) for _ in range(17)]
    threads = [threading.Thread(target=exchange, args=(server, dice.randbytes(size), errors)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    idle = server.connect()
    said = server.stop()
    idle.close()
    assert not errors, "\n".join(errors)
    return said


def case_echo_routines(directory):
    said = case_echo(Server(f"{directory}/echo-routines", "0"))
    assert re.search(r"^[1-9]\d* routines ran, 0 of them", said), said


def case_echo_port(directory):
    case_echo(Server(f"{directory}/echo-port", "0"))


def case_echo_port_one_thread(directory):
    case_echo(Server(f"{directory}/echo-port", "0", "127.0.0.1", "1"))


def case_echo_datagrams(directory):
    server = Server(f"{directory}/echo-datagrams", "0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT_S)
        client.connect(server.address)
        for size in (1, 0, 4096, 4097, 3):
            client.send(bytes(size))
            if size <= 4096:
                assert len(client.recv(65536)) == size, "a datagram came back longer or shorter"
    said = server.stop()
    # The last one may be back before the server knows that it has left.
    assert re.search(r"^[34] datagrams were sent back, 1 were too long, 0 operations failed$", said), said


def case_file_receiver(directory):
    target = tempfile.mkdtemp(dir=directory)
    server = Server(f"{directory}/file-receiver", "0", target)
    with open(f"{target}/000001", "w", encoding="ascii") as present:
        present.write("here before")
    contents = random.Random(2).randbytes(3000001)
    with server.connect() as connection:
        connection.sendall(contents)
    server.read_until(r"000002: 3000001 bytes")
    broken = server.connect()
    broken.sendall(contents)
    reset(broken)
    with server.connect() as connection:
        connection.sendall(b"the last")
    server.read_until(r"000003: 8 bytes")
    server.stop()
    with open(f"{target}/000002", "rb") as received:
        assert received.read() == contents, "the file is not what was sent"
    with open(f"{target}/000001", encoding="ascii") as present:
        assert present.read() == "here before", "a file that was there before was overwritten"
    assert sorted(os.listdir(target)) == ["000001", "000002", "000003"], os.listdir(target)


def case_first_answer(directory):
    """One refuses, one hangs up, one says nothing, and one answers: that one is printed."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        ports = [str(listener.getsockname()[1]) for listener in listeners]
        listeners[0].close()
        program = subprocess.Popen([f"{directory}/first-answer", *ports], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        connections = [None] * 4
        for i in range(1, 4):
            listeners[i].settimeout(LIMIT_S)
            connections[i] = stack.enter_context(listeners[i].accept()[0])
            connections[i].settimeout(LIMIT_S)
            assert connections[i].recv(100) == b"hello\n"
        connections[1].close()
        line = program.stderr.readline() + program.stderr.readline()
        assert "server 1: Connection refused" in line and "server 2: Broken pipe" in line, line
        connections[3].sendall(b"the answer\n")
        said, rest = program.communicate(timeout=LIMIT_S)
        assert program.returncode == 0 and said == "server 4: the answer\n" and not rest, said + rest
    listeners[0].close()
    failed = subprocess.run([f"{directory}/first-answer", ports[0]], capture_output=True, text=True, timeout=LIMIT_S,
                            check=False)
    assert failed.returncode == 1 and not failed.stdout, failed


def case_overlap_status(directory):
    said = run(f"{directory}/overlap-status")
    engine = os.environ["OVL_TEST_ENGINE"]
    assert re.search(f"^engine {engine}$", said, re.MULTILINE) and re.search(r"^sessions 1$", said, re.MULTILINE), said


def case_worker_dies(directory):
    """Every server says why it ends, once, and ends; the next worker serves."""
    servers = [Server(f"{directory}/echo-routines", "0"), Server(f"{directory}/echo-port", "0"),
               Server(f"{directory}/file-receiver", "0", tempfile.mkdtemp(dir=directory))]
    idle = [server.connect() for server in servers]
    worker = int(re.search(r"^worker_pid (\d+)$", run(f"{directory}/overlap-status"), re.MULTILINE).group(1))
    os.kill(worker, signal.SIGKILL)
    for server, connection in zip(servers, idle):
        said, _ = server.process.communicate(timeout=LIMIT_S)
        said = said.decode()
        assert server.process.returncode == 1, f"exit status {server.process.returncode}: {said}"
        assert said.count("the connection to overlapd was lost") == 1, said
        connection.close()
    case_overlap_status(directory)


def case_readme(directory):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with open(f"{directory}/hello.c", encoding="utf-8") as source:
            text = source.read()
        assert "htons(7777)" in text
        with open(f"{directory}/hello.c", "w", encoding="utf-8") as source:
            source.write(text.replace("htons(7777)", f"htons({port})"))
        run("sh", "-c", f"cc -Wall {directory}/hello.c $(pkg-config --cflags --libs overlap) -o {directory}/hello")
        hello = subprocess.Popen([f"{directory}/hello"], stdout=subprocess.PIPE)
        listener.settimeout(LIMIT_S)
        connection, _ = listener.accept()
        with connection:
            said = connection.recv(100)
            connection.sendall(b"answer to " + said)
            assert hello.communicate(timeout=LIMIT_S)[0] == b"answer to hello\n"
        assert hello.returncode == 0, hello.returncode


# --- Outside ---------------------------------------------------------------------------------------------------------


def install(build_root, directory):
    run("meson", "install", "-C", build_root, "--no-rebuild", "--destdir", directory)
    for name in ("overlapd", "liboverlap.so.0", "overlap.h"):
        find(directory, name)
    dynamic = run("readelf", "-d", find(directory, "liboverlap.so"))
    assert "Library soname: [liboverlap.so.0]" in dynamic, dynamic
    os.environ["PKG_CONFIG_PATH"] = os.path.dirname(find(directory, "overlap.pc"))
    os.environ["PKG_CONFIG_SYSROOT_DIR"] = directory
    os.environ["LD_LIBRARY_PATH"] = os.path.dirname(find(directory, "liboverlap.so"))


def compile_examples(source_root, directory):
    for name in EXAMPLES:
        run("sh", "-c", f"cc -Wall -Werror {source_root}/examples/{name}.c $(pkg-config --cflags --libs overlap) "
                        f"-pthread -o {directory}/{name}")


def take_readme(source_root, directory):
    """The README's program: the first indented block after its heading."""
    with open(f"{source_root}/README.md", encoding="utf-8") as readme:
        text = readme.read()
    block = re.search(r"^## Thirty lines\n\n((?:(?:    .*)?\n)+)", text, re.MULTILINE)
    assert block, "the README has no program under 'Thirty lines'"
    with open(f"{directory}/hello.c", "w", encoding="utf-8") as source:
        source.write(re.sub(r"^    ", "", block.group(1), flags=re.MULTILINE))


def main():
    if sys.argv[1] == "--case":
        globals()[f"case_{sys.argv[2]}"](sys.argv[3])
        return 0

    source_root, build_root = sys.argv[1:]
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        def within_daemon(name):
            return lambda: run(find(directory, "overlapd"), "--private", "--engine", os.environ["OVL_TEST_ENGINE"], "--",
                               sys.executable, __file__, "--case", name, directory)

        cases = [("meson installs what a program needs", lambda: install(build_root, directory)),
                 ("the examples compile outside the tree", lambda: compile_examples(source_root, directory)),
                 ("the README has a program", lambda: take_readme(source_root, directory))]
        for name in ("readme", "overlap_status", "echo_routines", "echo_port", "echo_port_one_thread",
                     "echo_datagrams", "file_receiver", "first_answer", "worker_dies"):
            cases.append((f"under overlapd --private: {name}", within_daemon(name)))
        print(f"1..{len(cases)}")
        for number, (name, function) in enumerate(cases, 1):
            try:
                function()
                print(f"ok {number} - {name}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"not ok {number} - {name}")
                print("# " + str(error).replace("\n", "\n# "), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
