# SPDX-License-Identifier: Apache-2.0
"""
script/bench-peers, so that it cannot rot: the generator, two peers that are always there (millrace and libmicrohttpd
alone) with few events, the shape of what is printed, and what is said of a peer that is not installed.
"""
import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

from harness import GIVE_UP_S, MILLRACE, ROOT, run

PEERS = ROOT / "bench/peers"
BUILD = pathlib.Path(MILLRACE).resolve().parents[1]
EVENTS = 20000
sys.path.insert(0, str(PEERS))

import peers
import servers


def bench(*arguments, expected=0):
    done = subprocess.run([sys.executable, PEERS / "peers.py", "--build", BUILD, *map(str, arguments)],
                          capture_output=True, text=True, timeout=4 * GIVE_UP_S)
    assert done.returncode == expected, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done


def generate(directory, seed):
    path = pathlib.Path(directory) / f"{seed}.ndjson"
    done = subprocess.run([BUILD / "bench/peers/peers_events", path, str(EVENTS), str(seed), "1700000000000", "0.1"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout), path.read_bytes()


def test_generator():
    with tempfile.TemporaryDirectory() as directory:
        said, data = generate(directory, 1)
        again, same = generate(directory, 1)
        _, other = generate(directory, 2)
    lines = data.splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert data == same and said == again and data != other
    assert said == {"events": EVENTS, "repeats": len(ids) - len(set(ids)), "bytes": len(data)}, said
    assert 0.05 * EVENTS < said["repeats"] < 0.15 * EVENTS, said
    assert len(set(lines)) == len(set(ids)), "a repeat is the same to the byte"
    assert set(json.loads(lines[0])) == {"id", "ts", "key", "country", "value", "user"}
    assert len(data) / EVENTS < 130


def test_two_peers():
    got = json.loads(bench("--events", EVENTS, "--turns", 2, "--json", "millrace", "libmicrohttpd").stdout)
    assert got["events"] == EVENTS and got["repeats"] > 0 and got["turns"] == 2 and not got["failed"], got
    assert set(got["peers"]) == {"millrace", "libmicrohttpd"}
    for name, peer in got["peers"].items():
        assert len(peer["turns"]) == 2 and peer["batch"] == 1000, peer
        for turn in peer["turns"]:
            assert turn["events"] == EVENTS and turn["version"] and turn["settings"], turn
            assert turn["rate"] > 0 and turn["memory_bytes"] > 1 << 20, turn
            # An empty clock would say 0; one that counts something else, seconds.
            assert 1 < turn["cpu_ns"] < 1e6, turn
            assert turn["counted_again"] == (0 if name == "millrace" else None), turn
    goals = {goal["goal"]: goal for goal in got["goals"]}
    first = goals["CPU an event ÷ libmicrohttpd that discards"]
    assert first["ratio"] > 1 and first["met"] == (first["ratio"] <= 3), first
    assert goals["simdjson ÷ decode"]["ratio"] is None, goals


def test_table():
    lines = bench("--events", 2000, "--turns", 1, "libmicrohttpd", "libmicrohttpd-1").stdout.splitlines()
    assert lines[0].startswith("2,000 events of 12"), lines[0]
    head = next(i for i, line in enumerate(lines) if line.startswith("peer "))
    for line, batch, connections in ((lines[head + 1], "1,000", "8"), (lines[head + 2], "1", "64")):
        cells = [cell for cell in line.split("  ") if cell]
        assert cells[0].startswith("libmicrohttpd"), line
        assert [cell.strip() for cell in cells[2:4]] == [batch, connections], line
        for name in ("CPU ns", "counted again"):
            at = lines[head].index(name) + len(name)
            assert line[at - 1] != " " and line[at:at + 2] == "  ", (name, line)
    assert any(line.startswith("libmicrohttpd 0.") and "32 KiB" in line for line in lines), lines
    assert sum("not measured" in line for line in lines) == len(peers.GOALS), lines


def test_a_missing_peer_is_skipped():
    kept = servers.PATH
    said = []
    try:
        servers.PATH = "/nonexistent"
        with tempfile.TemporaryDirectory() as directory:
            arguments = argparse.Namespace(turns=2, peers=["nginx", "redis", "nats", "libmicrohttpd", "decode"],
                                           build=pathlib.Path(directory), seed=1)
            file = {"path": "none", "events": 1, "repeats": 0, "bytes": 1}
            files = {name: file for name in ("warm", "measured", "single-warm", "single")}
            turns, skipped, failed = peers.run_turns(arguments, files, said.append)
            assert peers.run_decode(arguments, files, skipped, failed) is None
    finally:
        servers.PATH = kept
    assert not turns and not failed, (turns, failed)
    assert skipped["nginx"] == "no nginx (Debian: nginx-light)", skipped
    assert "libmicrohttpd-dev" in skipped["libmicrohttpd"] and "libsimdjson-dev" in skipped["decode"], skipped
    assert said.count("skipped: nginx: no nginx (Debian: nginx-light)") == 1, "once, not each turn"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        peers.print_all(arguments, files, turns, skipped, failed, None)
    assert "skipped: redis: no redis-server (Debian: redis-server)" in printed.getvalue(), printed.getvalue()


def test_repeats_that_are_counted_are_seen():
    exact, lossy = {"repeats": 90}, {"repeats": 70}
    peer = servers.Peer(BUILD, "/")
    file = {"events": 1000, "repeats": 90}
    assert peer.counted_again(file, exact) == 0 and peer.counted_again(file, lossy) == 20
    assert peer.counted_again(file, {"repeats": None}) is None
    failed = {}
    peers.exact({"millrace": [{"counted_again": 0}, {"counted_again": 20}]}, failed)
    assert failed == {"millrace": "20 repeats counted again"}, failed


def test_usage():
    assert "unknown peer `ngnix`" in bench("ngnix", expected=2).stderr
    assert "at least 1000 events" in bench("--events", 10, expected=2).stderr


if __name__ == "__main__":
    run(globals())
