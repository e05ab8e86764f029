# SPDX-License-Identifier: Apache-2.0
"""What units without a network do with the world outside: real data, a real ssh, a real database."""

import re

from frame import INSIDE, OUTSIDE, OUTSIDE_NAME, expect, wait_for

KEYS = "/opt/test/keys"
DATA = "/opt/test/data"
N_ROWS = 50000
SSHD = f"""ListenAddress {OUTSIDE}
HostKey {KEYS}/host
AuthorizedKeysFile {KEYS}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


def serves_the_outside(machine):
    machine.python("sandboxed-serve", "serve", INSIDE, "7002", wait=False)
    wait_for(lambda: machine.listens(7002), "the sandboxed server listens")
    done = machine.outside("outside-client", "/usr/bin/python3", "/opt/test/peer.py", "send", INSIDE, "7002", wait=True)
    expect(done.returncode == 0 and "sum " in done.stdout, done.stdout)


def start_sshd(machine):
    run = machine.box.run
    run("useradd", "--system", "--create-home", "--shell=/bin/sh", "--password=*", "app")
    run("sh", "-c", f"mkdir -m 755 {KEYS} /run/sshd; cd {KEYS}; head -c 8388608 /dev/urandom >{DATA};"
                    f"ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; chown app user;"
                    f"echo \"{OUTSIDE_NAME} $(cat host.pub)\" >known")
    machine.box.path(f"{KEYS}/config").write_text(SSHD)
    machine.outside("outside-sshd", "/usr/sbin/sshd", "-D", "-e", "-f", f"{KEYS}/config")
    wait_for(lambda: machine.listens_outside(22), "sshd listens")


def ssh(*options):
    return ["ssh", "-F", "none", "-i", f"{KEYS}/user", "-o", f"UserKnownHostsFile={KEYS}/known", "-o", "BatchMode=yes",
            *options, f"app@{OUTSIDE_NAME}"]


def reaches_sshd(machine):
    """By name, with 8 MiB there and back, and the exit status of the command."""
    start_sshd(machine)
    plain = machine.sandbox("sandboxed-ssh", *ssh(), "true", user="User=app")
    expect(plain.returncode == 255, f"this is no sandbox: ssh by itself ended with {plain.returncode}: {plain.stdout}")
    there = " ".join(f"'{word}'" for word in ssh("-o", "ProxyCommand=overlap-nc %h %p"))
    sums = machine.sandbox("sandboxed-ssh", "sh", "-c", f"{there} 'tee /dev/stderr | sha256sum >&2; echo said >&2; exit 7'"
                           f" <{DATA} 2>/dev/null; echo status $?", user="User=app").stdout
    expect("status 7" in sums, f"the command on the other side ended otherwise: {sums}")
    back = machine.sandbox("sandboxed-ssh", "sh", "-c", f"{there} cat <{DATA} | sha256sum", user="User=app").stdout
    wanted = machine.box.run("sha256sum", DATA).stdout.split()[0]
    expect(wanted in back, f"{wanted} was sent, and what came back is {back}")
    line = machine.journal("CONNECTED", "CLIENT_UNIT=sandboxed-ssh.service")[-1]
    expect(line["REMOTE"] == f"{OUTSIDE}:22", f"the journal has {line['MESSAGE']}")


def start_database(machine):
    """PostgreSQL of its own: what installing it made belongs to the machine, not to the outside."""
    folder = "/opt/database"
    program = re.search(r"\S+/bin(?=/initdb)", machine.box.run("sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb").stdout)[0]
    machine.box.run("install", "--directory", "--owner=postgres", folder)
    machine.box.run("runuser", "-u", "postgres", "--", f"{program}/initdb", "-D", folder, "-A", "trust", "-N")
    with open(machine.box.path(f"{folder}/pg_hba.conf"), "a", encoding="utf-8") as access:
        access.write(f"host all all {INSIDE}/32 trust\n")
    machine.outside("outside-database", f"{program}/postgres", "-D", folder, "-c", f"listen_addresses={OUTSIDE}", "-c",
                    "unix_socket_directories=", "-c", "fsync=off", settings=["User=postgres"])
    wait_for(lambda: machine.box.run("ip", "netns", "exec", "outside", f"{program}/pg_isready", "-q", "-h", OUTSIDE,
                                     check=False).returncode == 0, "PostgreSQL serves")


def reaches_a_database(machine):
    """As overlap-nc(1) has it: a unit that passes connections on, and psql in another, both without a network."""
    start_database(machine)
    place = "/run/app"
    machine.sandbox("sandboxed-database", "/usr/bin/overlap-nc", "--local", f"{place}/.s.PGSQL.5432", OUTSIDE_NAME,
                    "5432", user="User=app", settings=["Type=notify", "RuntimeDirectory=app"], wait=False)
    expect(machine.is_active("sandboxed-database.service"), "overlap-nc --local is not ready after its start")

    def psql(*commands):
        # No group of overlapd: psql needs nothing but the socket of its own user.
        arguments = [argument for command in commands for argument in ("-c", command)]
        done = machine.sandbox("sandboxed-psql", "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", place, "-U",
                               "postgres", *arguments, user="User=app", settings=["SupplementaryGroups="])
        expect(done.returncode == 0, f"psql ended with {done.returncode}: {done.stdout}")
        return done.stdout

    rows = f"select number, md5(number::text) as sum from generate_series(1, {N_ROWS}) number"
    machine.box.run("python3", "-c", f"import hashlib\nwith open('{DATA}.rows', 'w') as file:\n for n in range(1, "
                    f"{N_ROWS + 1}): print(n, hashlib.md5(str(n).encode()).hexdigest(), sep='\\t', file=file)")
    psql("create table things (number integer, sum text)", f"\\copy things from '{DATA}.rows'")
    said = psql(f"select count(*) from things join ({rows}) made using (number, sum)")
    expect(said.strip() == str(N_ROWS), f"of {N_ROWS} rows {said.strip()} arrived as they were sent")
    said = psql("select inet_client_addr()").strip()
    expect(said == INSIDE, f"PostgreSQL sees its client at {said}")
    machine.box.run("systemctl", "stop", "sandboxed-database.service")
