#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The completions of each shell offer what --help has, asked of the shells themselves.

usage: completions.py NAME=PROGRAM=PREFIX...

PREFIX.bash, PREFIX.zsh and PREFIX.fish are the completions of the program.
"""

import fcntl
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import tap

PATIENCE_S = 30
# A command line, and what must be among what it can go on with; {dir} has the file "settings.conf" in it.
VALUES = {
    "overlapd": [("overlapd --engine ", {"auto", "uring", "epoll"}), ("overlapd --log ", {"journal", "stderr"}),
                 ("overlapd --policy ", {"system", "own"}), ("overlapd --config {dir}/set", {"settings.conf"}),
                 ("overlapd --private -- overlapd-is-no-com", {"overlapd-is-no-command"})],
    "overlap-nc": [("overlap-nc --socket {dir}/set", {"settings.conf"}), ("overlap-nc -U {dir}/set", {"settings.conf"}),
                   ("overlap-nc -lU {dir}/set", {"settings.conf"})],
    "overlapctl": [("overlapctl ", {"config", "doctor", "list", "log", "metrics", "ping", "policy", "status"}),
                   ("overlapctl list ", {"sessions", "sockets", "ops", "ports", "threads", "quotas"}),
                   ("overlapctl --json list --", {"--session", "--user", "--unit", "--limit"}),
                   ("overlapctl policy test --", {"--unit", "--user", "--group", "--cgroup", "--private-network"}),
                   ("overlapctl ping --", {"--count", "--interval"}),
                   ("overlapctl log --", {"--follow", "--lines", "--since", "--until", "--unit", "--user", "--session",
                                          "--refused", "--directory", "--file", "--own", "--any"}),
                   ("overlapctl config ", {"cat"}), ("overlapctl status --admin {dir}/set", {"settings.conf"}),
                   ("overlapctl list sockets --user ", {"root", "nobody"})],
}


def environment(folder):
    return {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8",
            "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


# --- Shells -------------------------------------------------------------------------------------------------------------

def ask_bash(prefix, name, line, folder, _wanted):
    """What bash's function replies."""
    words = line.split(" ")
    script = f"""
        compopt() {{ :; }}
        source {shlex.quote(prefix + '.bash')}
        COMP_WORDS=({' '.join(shlex.quote(word) for word in words)})
        COMP_CWORD={len(words) - 1}
        function=$(complete -p {name}); function=${{function#*-F }}; function=${{function%% *}}
        $function
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment(folder), timeout=PATIENCE_S, check=False)
    return done.stdout.splitlines(), done.stderr


def ask_fish(prefix, _name, line, folder, _wanted):
    """What fish offers."""
    script = f"source {shlex.quote(prefix + '.fish')}; complete -C {shlex.quote(line)}"
    done = subprocess.run(["fish", "--no-config", "--private", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment(folder), timeout=PATIENCE_S, check=False)
    return [offer.split("\t")[0] for offer in done.stdout.splitlines()], done.stderr


class Terminal:
    """A shell that believes that somebody types."""

    def __init__(self, command, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 200, 0, 0))
        self.shown = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, is_there):
        """Reads until it is there, or patience is over. Returns whether it is."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_there(self.shown):
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                return False
            try:
                self.shown += os.read(self.fd, 65536).decode("utf-8", "replace")
            except OSError:
                return False
        return True

    def close(self):
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def words_of(shown):
    return set(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x07]", " ", shown).split())


def ask_zsh(prefix, name, line, folder, wanted):
    """What zsh lists, or writes where there is only one way to go on, when somebody presses its keys."""
    shutil.copyfile(prefix + ".zsh", folder / f"_{name}")
    terminal = Terminal(["zsh", "-f", "-i"], environment(folder))
    try:
        terminal.type(f"PS1='ready''> '; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump; "
                      "LISTMAX=1000; setopt no_always_last_prompt; bindkey '^X' list-choices; bindkey '^I' complete-word\n")
        if not terminal.wait(lambda shown: "ready> " in shown):
            return [], f"zsh says: {terminal.shown[-500:]}"
        terminal.shown = ""
        terminal.type(line + ("\t" if len(wanted) == 1 else "\x18"))
        # What was typed is shown, too: it is not what was offered.
        typed = set(line.split())
        terminal.wait(lambda shown: all(any(word == want or word.endswith("/" + want) for word in words_of(shown) - typed)
                                        for want in wanted))
        return [word.rsplit("/", 1)[-1] if "/" in word else word for word in words_of(terminal.shown) - typed], terminal.shown
    finally:
        terminal.close()


SHELLS = {"bash": ask_bash, "zsh": ask_zsh, "fish": ask_fish}


# --- Checks -------------------------------------------------------------------------------------------------------------

def options_of(program):
    helped = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(re.findall(r"--[a-z][a-z0-9-]+", helped.split("\n\n", 2)[2]))


def check_options(shell, name, program, prefix, folder):
    wanted = options_of(program)
    offers, said = SHELLS[shell](prefix, name, f"{name} --", folder, wanted)
    offered = {offer.rstrip("=") for offer in offers if re.fullmatch(r"--[a-z][a-z0-9-]+=?", offer)}
    for option in sorted(wanted - offered):
        yield f"{shell} does not offer {option}, which --help of {name} has: {said[-300:]}"
    for option in sorted(offered - wanted):
        yield f"{shell} offers {option}, which --help of {name} has not"


def check_values(shell, name, _program, prefix, folder):
    for line, wanted in VALUES[name]:
        offers, said = SHELLS[shell](prefix, name, line.format(dir=folder), folder, wanted)
        offered = {offer.rsplit("/", 1)[-1] for offer in offers}
        for value in sorted(wanted - offered):
            yield f"{shell} does not offer {value} for: {line} (but {sorted(offered)[:20]}; {said[-300:]})"


def main():
    report = tap.Report()
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = pathlib.Path(name_of_folder)
        (folder / "settings.conf").touch()
        command = folder / "overlapd-is-no-command"
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        for triple in sys.argv[1:]:
            name, program, prefix = triple.split("=")
            os.symlink(os.path.abspath(program), folder / name)
            for shell in SHELLS:
                if not shutil.which(shell):
                    report.skip(f"{shell} completes {name}", f"there is no {shell} on this machine")
                    continue
                report.case(f"{shell} completes the options of {name}", check_options(shell, name, program, prefix, folder))
                report.case(f"{shell} completes the values of {name}", check_values(shell, name, program, prefix, folder))
    report.finish()


main()
