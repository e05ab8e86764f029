# SPDX-License-Identifier: Apache-2.0
"""What the pages tell an administrator to do is done as it stands there, and comes to what they say."""

import re

from frame import SOURCE, expect

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def squeeze(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def follow(machine, page):
    """Runs the blocks of commands of a page, and looks for each line of the text that follows, in this order."""
    place, said, heading = "/", None, ""
    text = (SOURCE / page).read_text()
    for block in BLOCK.finditer(text):
        kind, lines = block.groups()
        heading = (re.findall(r"^## (.*)$", text[:block.start()], re.MULTILINE) or [""])[-1]
        if kind == "sh":
            if moved := re.search(r"^cd (\S+)$", lines, re.MULTILINE):
                place = moved[1]
            done = machine.box.run("bash", "-e", "-o", "pipefail", "-c", f"cd {place}\njournalctl --sync\n{lines}", check=False)
            expect(done.returncode == 0, f"{page}, {heading}: ended with {done.returncode}: {lines}\n{done.stdout}")
            said = squeeze(done.stdout)
            continue
        left = iter(said)
        for wanted in squeeze(lines):
            expect(any(wanted in line for line in left), f"{page}, {heading}: '{wanted}' is not, or not there, in {said}")


def is_so(machine):
    follow(machine, "docs/SANDBOX.md")
    left = machine.box.run("systemctl", "list-units", "--all", "--no-legend", "visits*").stdout
    expect(not left, f"what the page takes away is still there: {left}")


def examples_are_valid(machine):
    """Also with what they leave commented out."""
    place = "/usr/share/doc/overlapd/examples/etc"
    machine.box.run("sh", "-c", f"sed 's/^#\\([^ ]\\)/\\1/' {place}/policy.conf >/etc/overlapd/policy.d/examples.conf;"
                                f"sed 's/^#\\([^ ]\\)/\\1/' {place}/overlapd.conf >/etc/overlapd/overlapd.conf")
    done = machine.box.run("overlapd", "--check-config", check=False)
    expect(done.returncode == 0, done.stdout)
    n_rules = machine.box.run("grep", "-c", r"^\[", "/etc/overlapd/policy.d/examples.conf").stdout.strip()
    expect(int(n_rules) >= 6, f"the example of a policy has {n_rules} rules")
    machine.box.run("rm", "/etc/overlapd/policy.d/examples.conf", "/etc/overlapd/overlapd.conf")
    expect(machine.reload().returncode == 0, "the settings from before are not taken again")
