# SPDX-License-Identifier: Apache-2.0
"""
The same events through millrace and through other programs, in turn, on this machine: one table (docs/BENCHMARKS.md).

Every turn starts each peer anew in a temporary directory, sends it warm-up events (half as many, with other ids),
then the file that all of them get, and reads the CPU time of the server's processes before and after. Ratios are of
one turn; what is shown is their median. script/bench-peers builds what is needed and runs this.
"""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import measure
import servers

WARM_PART = 2  # of the events
SINGLE_PART, SINGLE_MAX = 10, 100000  # one event a request takes longer
DECODE_ROUNDS = 7
GOALS = (  # what, ratio of which peers, of what, sense, goal
    ("CPU an event ÷ libmicrohttpd that discards", "millrace", "libmicrohttpd", "cpu_ns", "≤", 3.0),
    ("Redis (appendonly no) CPU an id ÷ CPU an event", "redis-off", "millrace", "cpu_ns", "≥", 12),
    ("Redis (appendonly yes) CPU an id ÷ CPU an event", "redis", "millrace", "cpu_ns", "≥", 12),
    ("ClickHouse, 1,000 an insert, ÷ CPU an event", "clickhouse-1k", "millrace", "cpu_ns", "≥", 20),
    ("ClickHouse, all in one insert, ÷ CPU an event", "clickhouse-1m", "millrace", "cpu_ns", "≥", 4),
    ("simdjson ÷ decode", "simdjson_stream", "ours", "decode", "≥", 3),
    ("one event a request: requests a second ÷ libmicrohttpd", "millrace-1", "libmicrohttpd-1", "rate", "≥", 0.6),
)


def make_file(arguments, directory, name, events, seed, start_ms):
    program = arguments.build / "bench/peers/peers_events"
    path = directory / f"{name}.ndjson"
    done = subprocess.run([program, path, str(events), str(seed), str(start_ms), str(arguments.repeats)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{program}: {done.stderr.strip()}")
    return {"path": path, **json.loads(done.stdout)}


def make_files(arguments, directory):
    """Measured and warm-up file, for many events a request and for one; event time goes on from one to the next."""
    events = arguments.events
    single = max(1, min(events // SINGLE_PART, SINGLE_MAX))
    now_ms = int(time.time()) * 1000
    files = {}
    for i, (name, count) in enumerate((("warm", max(1, events // WARM_PART)), ("measured", events),
                                       ("single-warm", max(1, single // WARM_PART)), ("single", single))):
        start_ms = now_ms - (20000 if "warm" in name else 10000)
        files[name] = make_file(arguments, directory, name, count, arguments.seed + i, start_ms)
    return files


def run_turn(kind, arguments, files):
    """Start, warm up, measure, stop."""
    warm, measured = (files["single-warm"], files["single"]) if kind.batch == 1 else (files["warm"], files["measured"])
    directory = pathlib.Path(tempfile.mkdtemp(prefix="millrace-peers-"))
    peer = kind(arguments.build, directory)
    try:
        peer.start()
        peer.send(warm)
        before = measure.settled_cpu_s(peer.pid())
        result = peer.send(measured)
        cpu = measure.settled_cpu_s(peer.pid()) - before
        again = peer.counted_again(measured, result)
        return {
            "version": peer.version, "settings": peer.settings, "events": result["events"],
            "repeats": measured["repeats"], "counted_again": again, "refused": result["refused"],
            "cpu_ns": cpu * 1e9 / result["events"], "client_cpu_ns": result["cpu_s"] * 1e9 / result["events"],
            "rate": result["events"] / result["wall_s"], "memory_bytes": peer.memory_bytes,
        }
    finally:
        peer.stop()
        shutil.rmtree(directory, ignore_errors=True)


def run_turns(arguments, files, say):
    """{name: [a dict for each turn]}, {name: why it was skipped}, {name: how it failed}."""
    turns, skipped, failed = {}, {}, {}
    for turn in range(arguments.turns):
        for kind in servers.PEERS:
            if kind.name not in arguments.peers or kind.name in skipped or kind.name in failed:
                continue
            try:
                got = run_turn(kind, arguments, files)
                turns.setdefault(kind.name, []).append(got)
                say(f"turn {turn + 1}: {kind.name}: {got['cpu_ns']:.0f} ns an event")
            except servers.Missing as why:
                skipped[kind.name] = str(why)
                say(f"skipped: {kind.name}: {why}")
            except (servers.Failed, OSError, subprocess.SubprocessError) as why:
                failed[kind.name] = str(why)
                say(f"FAILED: {kind.name}: {why}")
    return turns, skipped, failed


def run_decode(arguments, files, skipped, failed):
    program = arguments.build / "bench/peers/peers_decode"
    if not program.exists():
        skipped["decode"] = f"{program} was not built (Debian: libsimdjson-dev, g++)"
        return None
    done = subprocess.run([program, files["measured"]["path"], str(DECODE_ROUNDS)], capture_output=True, text=True)
    if done.returncode != 0:
        failed["decode"] = done.stderr.strip()
        return None
    return json.loads(done.stdout)


def median_of(turns, name, what):
    return statistics.median(turn[what] for turn in turns[name])


def ratio_of(turns, above, below, what):
    """Median of the turns' ratios; None when one of the two is not there, or was no longer in some turn."""
    pairs = list(zip(turns.get(above, ()), turns.get(below, ())))
    return statistics.median(a[what] / b[what] for a, b in pairs) if pairs else None


def goals_of(turns, decode):
    goals = []
    for text, above, below, what, sense, goal in GOALS:
        if what == "decode":
            ratio = decode and statistics.median(a / b for a, b in zip(decode[above], decode[below]))
        else:
            ratio = ratio_of(turns, above, below, what)
        met = ratio is not None and (ratio <= goal if sense == "≤" else ratio >= goal)
        goals.append({"goal": text, "ratio": ratio, "sense": sense, "wanted": goal, "met": met if ratio else None})
    return goals


def row_of(kind, turns):
    base = "millrace-1" if kind.batch == 1 else "millrace"
    ratio = ratio_of(turns, kind.name, base, "cpu_ns")
    last = turns[kind.name][-1]
    again = [turn["counted_again"] for turn in turns[kind.name]]
    cpu = [turn["cpu_ns"] for turn in turns[kind.name]]
    return [
        kind.name, last["version"], f"{min(kind.batch, last['events']):,}", str(kind.connections),
        f"{median_of(turns, kind.name, 'cpu_ns'):,.0f}", f"{min(cpu):,.0f}…{max(cpu):,.0f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{median_of(turns, kind.name, 'rate'):,.0f}", f"{median_of(turns, kind.name, 'client_cpu_ns'):,.0f}",
        f"{median_of(turns, kind.name, 'memory_bytes') / 1e6:,.0f}",
        "-" if again[0] is None else f"{statistics.median(again):,.0f} of {last['repeats']:,}", kind.work,
    ]


HEADS = ("peer", "version", "a request", "conns", "CPU ns", "of turns", "x millrace", "a second", "client ns", "MB",
         "counted again", "what it does")
LEFT = {0, 1, 11}


def print_table(rows):
    widths = [max(len(row[i]) for row in (HEADS, *rows)) for i in range(len(HEADS))]
    for row in (HEADS, *rows):
        cells = [cell.ljust(width) if i in LEFT else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def print_all(arguments, files, turns, skipped, failed, decode):
    measured = files["measured"]
    print(f"{measured['events']:,} events of {measured['bytes'] / measured['events']:.0f} bytes, "
          f"{measured['repeats']:,} of them repeats, seed {arguments.seed}; medians of {arguments.turns} turns; "
          f"CPU of the server's processes for each event")
    kinds = [kind for kind in servers.PEERS if kind.name in turns]
    print_table([row_of(kind, turns) for kind in kinds])
    if decode:
        print(f"\ndecode, ns of CPU an event: ours {statistics.median(decode['ours']):.0f}, "
              f"simdjson {decode['version']} On-Demand {statistics.median(decode['simdjson_stream']):.0f} as a stream, "
              f"{statistics.median(decode['simdjson_lines']):.0f} line by line")
    print()
    for kind in kinds:
        print(f"{kind.name} {turns[kind.name][-1]['version']}: {turns[kind.name][-1]['settings']}")
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}")
    for name, why in failed.items():
        print(f"FAILED: {name}: {why}")
    print()
    for goal in goals_of(turns, decode):
        shown = "not measured" if goal["ratio"] is None else f"{goal['ratio']:.2f}"
        verdict = {None: "", True: "met", False: "missed"}[goal["met"]]
        print(f"{goal['goal']:<56} {shown:>12}   goal {goal['sense']} {goal['wanted']:<4} {verdict}".rstrip())


def json_of(arguments, files, turns, skipped, failed, decode):
    work = {kind.name: {"work": kind.work, "batch": kind.batch, "connections": kind.connections}
            for kind in servers.PEERS}
    return {
        "events": files["measured"]["events"], "repeats": files["measured"]["repeats"],
        "bytes": files["measured"]["bytes"], "seed": arguments.seed, "turns": arguments.turns,
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]},
        "peers": {name: {**work[name], "turns": of} for name, of in turns.items()},
        "decode": decode, "skipped": skipped, "failed": failed, "goals": goals_of(turns, decode),
    }


def exact(turns, failed):
    """A millrace that counts a repeat, or loses an event, is no measurement."""
    for name in ("millrace", "millrace-off", "millrace-1"):
        for turn in turns.get(name, ()):
            if turn["counted_again"] != 0:
                failed[name] = f"{turn['counted_again']} repeats counted again"


def read_arguments():
    names = [kind.name for kind in servers.PEERS] + ["decode"]
    parser = argparse.ArgumentParser(prog="script/bench-peers", description="The same events through millrace and "
                                     "other programs, in turn; one table.")
    parser.add_argument("--events", type=int, default=1000000, help="measured a turn (1000000)")
    parser.add_argument("--turns", type=int, default=3, help="medians of so many (3)")
    parser.add_argument("--repeats", type=float, default=0.05, help="share of events that were sent before (0.05)")
    parser.add_argument("--seed", type=int, default=1, help="of the events (1)")
    parser.add_argument("--json", action="store_true", help="everything measured, as one JSON object")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="where it was built")
    parser.add_argument("peers", nargs="*", metavar="peer", help="all, or some of: " + " ".join(names))
    arguments = parser.parse_args()
    for name in arguments.peers:
        if name not in names:
            parser.error(f"unknown peer `{name}`; one of: {' '.join(names)}")
    if arguments.events < 1000 or arguments.turns < 1:
        parser.error("at least 1000 events and one turn")
    arguments.peers = arguments.peers or names
    arguments.build = arguments.build.resolve()
    return arguments


def main():
    arguments = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and directories go
    say = lambda text: print(text, file=sys.stderr, flush=True)
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-peers-")))
        files = make_files(arguments, directory)
        turns, skipped, failed = run_turns(arguments, files, say)
        decode = run_decode(arguments, files, skipped, failed) if "decode" in arguments.peers else None
    exact(turns, failed)
    if arguments.json:
        print(json.dumps(json_of(arguments, files, turns, skipped, failed, decode), indent=1))
    else:
        print_all(arguments, files, turns, skipped, failed, decode)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
