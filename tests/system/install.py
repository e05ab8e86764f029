#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A release as a packager makes it: installed into a folder, and used by a program that knows nothing of this tree.

usage: install.py SOURCE EXAMPLE
"""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "check"))
import tap

DEADLINE_S = 60
BUILD_S = 300
PAYLOAD = bytes(range(256)) * 4096


def run(command, **options):
    """Runs a command. Returns what it printed; raises with it when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=BUILD_S, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def install(source, place):
    """Builds a release and installs it below `place`. Returns the folder with usr/ in it."""
    build, root = place / "build", place / "root"
    run(["meson", "setup", build, source, "--buildtype=release", "--prefix=/usr", "--libdir=lib", "-Dtests=false"])
    run(["ninja", "-C", build, "-j2"])
    run(["meson", "install", "-C", build, "--no-rebuild"], env={**os.environ, "DESTDIR": str(root)})
    return root


def check_files(root):
    for name in ("usr/bin/overlapd", "usr/lib/liboverlap.so", "usr/lib/liboverlap.so.0", "usr/include/overlap.h",
                 "usr/lib/pkgconfig/overlap.pc", "usr/bin/overlap-nc", "usr/share/bash-completion/completions/overlap-nc",
                 "usr/share/zsh/site-functions/_overlapd", "usr/share/fish/vendor_completions.d/overlapd.fish"):
        if not (root / name).exists():
            yield f"{name} was not installed"
    for page in ("man1/overlap-nc.1", "man5/overlapd.conf.5", "man7/overlap.7", "man8/overlapd.8", "man3/ovl_recv.3",
                 "man3/ovl_recvfrom.3", "man7/overlapd-journal.7"):
        if shutil.which("scdoc") and not (root / "usr/share/man" / page).exists():
            yield f"the manual page {page} was not installed"


def check_python(root):
    """The package for Python is there, whole, and can be imported from there."""
    folders = [path.parent.parent for path in root.glob("usr/**/overlap/__init__.py")]
    if len(folders) != 1:
        yield f"the Python package was installed {len(folders)} times, not once"
        return
    program = "import overlap, overlap.aio; print(overlap.__file__, overlap.Session.__name__)"
    said = run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(folders[0])})
    if not said.startswith(str(folders[0])) or not (folders[0] / "overlap/py.typed").exists():
        yield f"what was installed is not what is imported, or is not typed: {said}"


def check_library(root):
    dynamic = run(["readelf", "--dynamic", root / "usr/lib/liboverlap.so"])
    if "soname: [liboverlap.so.0]" not in dynamic:
        yield "liboverlap.so has no SONAME liboverlap.so.0"
    if re.search(r"R(UN)?PATH", dynamic) or re.search(r"R(UN)?PATH", run(["readelf", "--dynamic",
                                                                       root / "usr/bin/overlapd",
                                                                       root / "usr/bin/overlap-nc"])):
        yield "what was installed looks for libraries in the folder where it was built"


def check_daemon(root):
    done = subprocess.run([root / "usr/bin/overlapd", "--plant", "lost-record"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_S)
    if done.returncode == 0 or "test hooks" not in done.stdout:
        yield f"a release plants faults: {done.stdout}"


def compile_program(root, example, place):
    """Builds the example the way its reader would."""
    source = place / "echo.c"
    shutil.copy(example, source)
    environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root),
                   "PKG_CONFIG_LIBDIR": str(root / "usr/lib/pkgconfig")}
    flags = run(["pkg-config", "--cflags", "--libs", "overlap"], env=environment).split()
    run([os.environ.get("CC", "cc"), source, *flags, "-o", place / "echo"], cwd=place)
    return place / "echo"


def read_line(stream, deadline):
    """The next line of a program that may say nothing."""
    while time.monotonic() < deadline:
        if select.select([stream], [], [], 1)[0]:
            return stream.readline()
    raise RuntimeError("the program says nothing")


def echo(port):
    """Sends the payload and returns what came back."""
    back = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        sent = 0
        while len(back) < len(PAYLOAD):
            wants_write = [connection] if sent < len(PAYLOAD) else []
            readable, writable, _ = select.select([connection], wants_write, [], DEADLINE_S)
            if not readable and not writable:
                raise RuntimeError(f"{len(back)} bytes of {sent} came back, and then nothing")
            if writable:
                sent += connection.send(PAYLOAD[sent:sent + 65536])
            if readable:
                piece = connection.recv(65536)
                if not piece:
                    break
                back += piece
    return bytes(back)


def check_program(root, program):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(root / "usr/lib")}
    command = [root / "usr/bin/overlapd", "--private", "--", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment) as server:
        try:
            line = read_line(server.stdout, time.monotonic() + DEADLINE_S)
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if not found:
                yield f"the program said: {line}"
            elif echo(int(found.group(1))) != PAYLOAD:
                yield "what came back is not what was sent"
            server.send_signal(signal.SIGTERM)
            if server.wait(timeout=DEADLINE_S) != 0:
                yield f"the program ended with {server.returncode}"
        finally:
            server.kill()


def guarded(check, *arguments):
    """The problems that a check finds; that it cannot be made is one."""
    try:
        return list(check(*arguments))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return [str(error)]


def main():
    source, example = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    report = tap.Report()
    with tempfile.TemporaryDirectory(prefix="overlapd-install-") as name:
        place = pathlib.Path(name)
        try:
            root = install(source, place)
        except (RuntimeError, subprocess.SubprocessError) as error:
            report.case("a release is built and installed", [str(error)])
            report.finish()
        report.case("a release is built and installed", guarded(check_files, root))
        report.case("the Python package is installed and can be imported", guarded(check_python, root))
        report.case("the library has its name and nothing of the builder's", guarded(check_library, root))
        report.case("a release has no test hooks", guarded(check_daemon, root))
        problems, program = [], None
        try:
            program = compile_program(root, example, place)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            problems = [str(error)]
        report.case("a program of one file is built with pkg-config", problems)
        if program:
            report.case("it echoes under a private daemon", guarded(check_program, root, program))
    report.finish()


if __name__ == "__main__":
    main()
