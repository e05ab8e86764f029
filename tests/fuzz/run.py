#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a fuzz target on seeds that are made from what the other tests are made of. TAP.

usage: run.py TARGET PROGRAM SOURCE_ROOT [RUNS]

With RUNS the program is linked with libFuzzer, and is run as often, with a fixed seed of its random numbers; otherwise it
replays the seeds. What a fuzzer has found before is in found/TARGET. An input that fails is printed and kept, and is to be
put there with what mends it.
"""

import base64
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LITERAL = r'"(?:[^"\\\n]|\\.)*"'
SEEDS_MIN = {"policy": 40, "config": 20, "ruling": 5, "wire": 60}


# --- Seeds --------------------------------------------------------------------------------------------------------------

def strings_of(path):
    """The strings of a source in C, with neighbours joined as the compiler joins them."""
    for found in re.finditer(rf"{LITERAL}(?:\s*{LITERAL})*", path.read_text()):
        text = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', found[0]))
        yield text.encode().decode("unicode_escape").encode("latin-1")


def examples_of(path):
    for found in re.finditer(r"^```\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1].encode()


def policy_seeds(root):
    texts = [*strings_of(root / "tests/monitor/policy.c"), *examples_of(root / "docs/man/overlapd-policy.5.scd")]
    texts = [text for text in texts if re.search(rb"\[(allow|deny)|^\w+=", text)]
    yield from texts
    # Networks around what a rule must name.
    for network in ("192.0.2.0/24", "192.0.2.0/31", "2001:db8::/32", "198.51.100.0/24", "127.0.0.0/8 ::1", "::/0", "0.0.0.0/0"):
        yield f"[allow a]\nUser=*\nUnit=*\nAction=connect sendto listen resolve\nTo={network}\nAt={network}\n".encode()
    for first, second in zip(texts, texts[1:]):  # more than one file
        yield first + b"\f" + second


def config_seeds(root):
    texts = [*strings_of(root / "tests/monitor/config.c"), *examples_of(root / "docs/man/overlapd.conf.5.scd")]
    yield from (text for text in texts if re.search(rb"^\[(Daemon|User|Unit)", text))
    for section in ("Session", "Unit", "User", "Worker", "User 7", "User root", "Unit a.service"):
        yield f"[{section}]\nRegions=64\nMemory=1M\nSockets=9\nOperations=9\nFiles=0\n".encode()
        yield f"[{section}]\nSessions=1\nListeners=unlimited\n".encode()
        yield f"[{section}]\nRequestsPerSecond=1\nRequestsBurst=1\nUnlimited=no\nConnectsPerSecond=unlimited\n".encode()


def ruling_seeds(_root):
    """Words at places: nothing; the size; lists that are longer; parents; the end cut off."""
    yield b""
    for place in range(0, 512, 24):
        yield b"".join((4 * (place + step)).to_bytes(4, "little") + value.to_bytes(4, "little")
                       for step, value in enumerate((1, 0xffffffff, 8)))
        yield (4 * place + 2).to_bytes(4, "little") + b"\x01\x00\x00\x00"
        yield (4 * place + 1).to_bytes(4, "little") + b"\x01\x00\x00\x00" + b"\x08"


def wire_seeds(root):
    """The golden bytes, and several frames one after the other."""
    streams = {0: b"", 1: b""}
    for path in sorted((root / "proto/vectors").glob("*.txt")):
        lines = path.read_text().splitlines()
        frame = bytes.fromhex("".join(line.split("#")[0] for line in lines if not line.startswith(("#", "="))))
        sender = int(any("message FromDaemon" in line or "frame RECORDS" in line for line in lines))
        yield bytes([sender]) + frame
        streams[sender] += frame
    yield from (bytes([sender]) + stream for sender, stream in streams.items())
    # What administrators ask, and answers: messages within messages, texts, numbers.
    for sender, body in ((2, b"\x0a\x00"), (2, b"\x12\x02\x08\x01"), (2, b"\x1a\x0b\x0a\x09a.service"), (2, b"\x22\x00"),
                         (3, b"\x08\x19\x12\x02no\x18\x01"), (3, b"\x22\x07\x0a\x050.1.0"), (3, b"\x2a\x02\x08\x07\x18\x01")):
        yield bytes([sender]) + len(body).to_bytes(4, "little") + b"\x01\x00\x00\x00" + body


def write_seeds(target, root, folder):
    seeds = set({"policy": policy_seeds, "config": config_seeds, "ruling": ruling_seeds, "wire": wire_seeds}[target](root))
    for number, seed in enumerate(sorted(seeds)):
        (folder / f"seed-{number:03}").write_bytes(seed)
    return len(seeds)


# --- Running ------------------------------------------------------------------------------------------------------------

def say(text):
    for line in text.splitlines():
        print(f"# {line}")


def run(command, folder):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
                               "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
                               "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
    return done.returncode, done.stdout.decode("utf-8", "replace")


def case(number, passed, name, output=""):
    print(f"{'ok' if passed else 'not ok'} {number} - {name}")
    if not passed:
        say("\n".join(output.splitlines()[-60:]))
    return passed


def explain_input(folder, kept):
    """Keeps what failed, and shows it."""
    for path in sorted(folder.glob("failed-*")):
        kept.mkdir(parents=True, exist_ok=True)
        (kept / path.name).write_bytes(path.read_bytes())
        say(f"the input is in {kept / path.name}; in base64: {base64.b64encode(path.read_bytes()).decode()}")
        say("put it into tests/fuzz/found with what mends it")


def fuzz(target, program, runs, folder, corpus, inputs):
    words = HERE / f"{target}.dict"
    # The first corpus gets what is new; a whole line of settings is short.
    command = [program, f"-runs={runs}", "-seed=1", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048",
               "-print_final_stats=1", f"-artifact_prefix={folder}/failed-"]
    command += [f"-dict={words}"] if words.exists() else []
    status, output = run([*command, str(corpus), *inputs], folder)
    done = re.search(r"stat::number_of_executed_units: (\d+)", output)
    return status == 0 and done is not None and int(done[1]) >= int(runs), output


def main():
    target, program, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    runs = sys.argv[4] if len(sys.argv) > 4 else None
    print("1..2", flush=True)
    with tempfile.TemporaryDirectory(prefix="overlapd-fuzz-") as name:
        folder = pathlib.Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        n_seeds = write_seeds(target, root, corpus)
        found = HERE / "found" / target
        passed = case(1, n_seeds >= SEEDS_MIN[target], f"{target}: there are {n_seeds} seeds")
        if runs:
            passed_too, output = fuzz(target, program, runs, folder, corpus, [str(found)] if found.is_dir() else [])
            passed &= case(2, passed_too, f"{target}: {runs} inputs", output)
            explain_input(folder, pathlib.Path(program).parent / "failed" / target)
        else:
            files = sorted(corpus.iterdir()) + (sorted(found.iterdir()) if found.is_dir() else [])
            status, output = run([program, *map(str, files)], folder)
            passed &= case(2, status == 0 and f"replayed {len(files)} files" in output, f"{target}: what is known", output)
    sys.exit(0 if passed else 1)


main()
