# SPDX-License-Identifier: Apache-2.0
"""A booted container: a copy of a root, its own network, and commands that are run inside it."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

BOOT_S = 120
COMMAND_S = 120
REBOOTS = 133  # the exit status by which nspawn asks to be started again


class CannotBoot(Exception):
    """Nothing can be booted on this machine."""


class Container:
    """Started by `with`; nothing of it is left behind."""

    def __init__(self, root, place):
        self.root, self.place = root, place
        self.leader = None
        self.nspawn = None
        self.console = None

    def __enter__(self):
        shutil.rmtree(self.place, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", self.root, self.place], check=True)
        self.console = open(f"{self.place}.console", "wb")
        try:
            self._boot()
        except RuntimeError as error:
            raise CannotBoot(" ".join(str(error).split())) from error
        return self

    def _boot(self):
        self.leader = None
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--directory", self.place, "--boot", "--register=no", "--keep-unit",
             "--private-network", "--console=pipe", "--machine", "overlapd-test"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            self._await_boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(self, *error):
        if self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        self.console.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def _find_leader(self):
        """The first process of the container: the child of nspawn that is init there."""
        children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        for child in children:
            for line in pathlib.Path(f"/proc/{child}/status").read_text().splitlines():
                if line.startswith("NSpid:") and line.split()[-1] == "1":
                    return int(child)
        return None

    def _await_boot(self):
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            if self.nspawn.poll() is not None:
                raise RuntimeError(f"systemd-nspawn ended with {self.nspawn.returncode}: {self.read_console()}")
            self.leader = self.leader or self._find_leader()
            if self.leader:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the container did not boot within {BOOT_S} s: {self.read_console()}")

    def reboot(self):
        """Returns when it has booted again."""
        self.run("systemctl", "reboot", "--no-block", check=False)
        status = self.nspawn.wait(timeout=BOOT_S)
        if status != REBOOTS:
            raise RuntimeError(f"systemd-nspawn ended with {status}: {self.read_console()}")
        self._boot()

    def read_console(self):
        return pathlib.Path(f"{self.place}.console").read_text(errors="replace")[-2000:]

    def run(self, *command, check=True, **options):
        """Runs a command inside. Returns what subprocess.run() does, with text."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
        done = subprocess.run(["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid",
                               "--root", "--wdns=/", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=COMMAND_S, env=environment, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}")
        return done

    def path(self, inside):
        return pathlib.Path(os.fspath(self.place) + inside)
