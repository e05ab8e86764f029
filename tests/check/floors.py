#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calls go down only: fails on every include that goes up or sideways.

usage: floors.py ROOT

    base < proto < {daemon, client}
    daemon/monitor and daemon/worker meet only in daemon/link.h, daemon/limit.h, daemon/ruling.h and daemon/snapshot.h
    (each has a daemon/reaper.h of its own), daemon/monitor and daemon/resolver in its query.h
    in the worker: quota < op < engine < {thread, port, socket} < session < control < worker

A module of the worker that is not in this list may stand anywhere, but nothing may go up through it.
"""

import pathlib
import re
import sys

import tap

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

# What a part may include besides itself. The longest prefix of a path decides.
MAY_INCLUDE = {
    "base": ["base"],
    "proto": ["base", "proto"],
    "client": ["base", "proto", "client"],
    # The tools are programs of users, which happen to live here.
    "client/nc": ["base", "client/c/overlap.h", "client/nc"],
    # This one also speaks with the monitor, over a socket of its own.
    "client/ctl": ["base", "proto", "client/c/overlap.h", "client/ctl"],
    "daemon/monitor": ["base", "proto", "daemon/limit.h", "daemon/link.h", "daemon/reaper.h", "daemon/ruling.h",
                       "daemon/snapshot.h",
                       "daemon/monitor",
                       "daemon/resolver/query.h"],
    "daemon/resolver": ["base", "proto", "daemon/resolver"],
    "daemon/worker": ["base", "proto", "daemon/limit.h", "daemon/link.h", "daemon/reaper.h", "daemon/ruling.h",
                      "daemon/snapshot.h",
                      "daemon/worker"],
    "daemon/limit": ["base", "daemon/limit.h"],
    "daemon/link": ["base", "proto", "daemon/limit.h", "daemon/link.h", "daemon/snapshot.h"],
    "daemon/snapshot": ["base", "proto", "daemon/limit.h"],
    "daemon/reaper": ["base", "daemon/reaper.h"],
    "daemon/ruling": ["base", "proto", "daemon/ruling.h"],
    # main.c is glue: it joins the two.
    "daemon/main": ["base", "proto", "daemon/monitor", "daemon/resolver/resolver.h", "daemon/worker/worker.h"],
    # An example includes what a stranger's program includes.
    "examples": ["client/c/overlap.h", "overlap.h"],
}

GENERATED = {"proto/overlapd.pb-c.h", "proto/admin.pb-c.h"}

WORKER_RANKS = [["quota"], ["op"], ["engine"], ["thread", "port", "socket"], ["session"], ["control"], ["worker"]]
RANK = {module: rank for rank, modules in enumerate(WORKER_RANKS) for module in modules}


def find_edges(root):
    """Pairs of an including and an included file, both relative to the root."""
    edges = []
    for folder in ["base", "proto", "daemon", "client", "examples"]:
        for path in sorted((root / folder).rglob("*.[ch]")):
            name = str(path.relative_to(root))
            for included in INCLUDE.findall(path.read_text()):
                edges.append((name, included))
    return edges


def is_under(name, prefix):
    return name == prefix or name.startswith(prefix + "/") or name.startswith(prefix + ".")


def part_of(name):
    parts = [part for part in MAY_INCLUDE if is_under(name, part)]
    return max(parts, key=len) if parts else None


def missing(root, edges):
    for name, included in edges:
        if included in GENERATED or (root / included).is_file() or included == "overlap.h":
            continue
        yield (f'{name} includes "{included}", which is no file of this tree.\n'
               "Write includes from the root, as in #include \"proto/frame.h\", so that the floor shows in the line.")


def upward(edges):
    for name, included in edges:
        part = part_of(name)
        if not part:
            yield f"{name} belongs to no part that this check knows: add its folder to MAY_INCLUDE in {__file__}."
            continue
        if any(is_under(included, allowed) for allowed in MAY_INCLUDE[part]):
            continue
        yield (f'{name} includes "{included}", but {part} may include only {", ".join(MAY_INCLUDE[part])}.\n'
               "Move what is needed down to a floor that both stand on, or hand it in from above.")


def module_of(name):
    """daemon/worker/engine-uring.c belongs to the module engine; files elsewhere to none."""
    found = re.fullmatch(r"daemon/worker/([a-z0-9-]+)\.[ch]", name)
    if not found:
        return None
    return "engine" if found[1].startswith("engine") else found[1]


def paths_from(start, graph):
    """The shortest way to each module that can be reached from one, without passing through a ranked one."""
    ways = {start: [start]}
    queue = [start]
    for module in queue:
        if module != start and module in RANK:
            continue
        for included in sorted(graph.get(module, ())):
            if included not in ways:
                ways[included] = ways[module] + [included]
                queue.append(included)
    return ways


def upward_in_worker(edges):
    graph = {}
    for name, included in edges:
        source, target = module_of(name), module_of(included)
        if source and target and source != target:
            graph.setdefault(source, set()).add(target)
    for module in sorted(graph.keys() & RANK.keys()):
        for target, way in sorted(paths_from(module, graph).items()):
            if target == module or target not in RANK or RANK[target] < RANK[module]:
                continue
            direction = "sideways" if RANK[target] == RANK[module] else "up"
            yield (f"in daemon/worker the includes {' -> '.join(way)} go {direction}: {module} stands "
                   f"{'beside' if direction == 'sideways' else 'below'} {target}.\n"
                   "Return or queue what goes up, and let the floor above fetch it.")


PLANTED = [
    ("base/list.h", "proto/frame.h", upward),
    ("proto/frame.c", "daemon/link.h", upward),
    ("proto/frame.c", "client/c/overlap.h", upward),
    ("client/c/session.c", "daemon/link.h", upward),
    ("daemon/link.c", "client/c/overlap.h", upward),
    ("daemon/monitor/monitor.c", "daemon/worker/worker.h", upward),
    ("daemon/worker/op.c", "daemon/monitor/policy.h", upward),
    ("examples/echo.c", "proto/frame.h", upward),
    ("daemon/worker/op.c", "daemon/worker/engine.h", upward_in_worker),
    ("daemon/worker/engine-uring.c", "daemon/worker/socket.h", upward_in_worker),
    ("daemon/worker/socket.c", "daemon/worker/port.h", upward_in_worker),
    ("daemon/worker/session.c", "daemon/worker/control.h", upward_in_worker),
]
HARMLESS = [
    ("proto/frame.c", "base/cleanup.h"),
    ("daemon/worker/engine-uring.c", "daemon/worker/engine.h"),
    ("daemon/worker/worker.c", "daemon/worker/op.h"),
    ("daemon/main.c", "daemon/worker/worker.h"),
]


def blind_spots():
    for name, included, check in PLANTED:
        if not list(check([(name, included)])):
            yield f"the check does not see that {name} must not include {included}: repair {__file__}."
    through = [("daemon/worker/op.c", "daemon/worker/extra.h"), ("daemon/worker/extra.c", "daemon/worker/session.h")]
    if not list(upward_in_worker(through)):
        yield f"the check does not see a way up through an unlisted module: repair {__file__}."
    for edge in HARMLESS:
        if list(upward([edge])) or list(upward_in_worker([edge])):
            yield f"the check objects to {edge[0]} including {edge[1]}, which is fine: repair {__file__}."


def main():
    root = pathlib.Path(sys.argv[1])
    edges = find_edges(root)
    report = tap.Report()
    report.case("planted edges are seen", blind_spots())
    report.case("there is something to check", [] if edges else ["no include was found: is the root right?"])
    report.case("includes are written from the root", missing(root, edges))
    report.case("no include goes up or sideways", upward(edges))
    report.case("no include goes up in the worker", upward_in_worker(edges))
    report.finish()


main()
