# SPDX-License-Identifier: Apache-2.0
"""
millrace-bench against the real server: what it sends is counted as it says, it finds out when that is not so, and its
outputs and exit codes are what scripts rely on.

Proves that --verify passes for every workload with duplicates, disorder and lateness, in every encoding, after an earlier
run, over 503s and over a restart of the server; that it fails with another seed, after events of somebody else, and for a
rule of other windows; and that wrong options, an unknown stream and no server at all are told as such.
"""
import json
import os
import pathlib
import re
import subprocess
import threading
import time

from harness import MILLRACE, ROOT, Server, run, until

BENCH = os.environ.get("MILLRACE_BENCH", str(pathlib.Path(MILLRACE).parents[1] / "bench/load/millrace-bench"))
ALL = ("--dup-events", "5%", "--dup-requests", "3%", "--late", "1%", "--disorder", "2s")


def bench(*arguments, expect=0):
    done = subprocess.run([BENCH, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    text = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == expect, (done.returncode, text)
    return done.stdout.decode(), done.stderr.decode()


class started(Server):
    """A server with the configuration that millrace-bench prints; more: lines to change in it."""

    def __init__(self, *arguments, more="", replace=()):
        config = bench(*arguments, "--print-config")[0]
        config = config.replace("./millrace-bench-data", "@DIR@/data").replace("127.0.0.1:8080", "127.0.0.1:0")
        config = config.replace("file: ads.csv", "file: @DIR@/ads.csv")
        for old, new in (*replace, ("ids: 20000000", "ids: 2000000")):
            assert old in config, (old, config)
            config = config.replace(old, new)
        super().__init__(config + more)
        if arguments[0] == "yahoo":
            (self.directory / "ads.csv").write_text(bench("yahoo", "--print-ads")[0])

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def bench(self, *arguments, expect=0):
        return bench(*arguments, "--url", f"http://127.0.0.1:{self.port}", expect=expect)

    def json(self, *arguments, expect=0):
        return json.loads(self.bench(*arguments, "--json", expect=expect)[0])


def test_verifies_zipf_with_everything():
    with started("zipf", *ALL) as s:
        r = s.json("zipf", "--rate", "100k", "--duration", "1s", "--warmup", "300ms", "--verify", *ALL, "--seed", 7)
        assert r["verified"] and r["mismatches"] == 0 and r["events"] == 130000 and r["open_loop"]
        assert r["duplicate"] > 5000 and r["late"] > 500 and r["rejected"] == 0
        assert r["missed_duplicates"] == r["false_duplicates"] == 0
        assert s.metric("millrace_events_total", stream="events", verdict="accepted") == r["accepted"]
        # Again on the same server, with other events: what was there before does no harm. Also not the same seed. As many
        # events as were counted on: as fast as it can for a while would be more than dedup.ids on a fast machine.
        for more in (("--seed", 8, "--rate", "max", "--threads", 2, "--connections", 8), ("--format", "json"),
                     ("--compress", "gzip"), ("--compress", "zstd"), ("--compress", "deflate", "--batch", 37)):
            r = s.json("zipf", "--events", 200000, "--verify", *ALL, *more)
            assert r["verified"] and r["events"] >= 200000 and r["accepted"] > 0, r  # whole requests


def test_verifies_other_workloads():
    for workload in ("uniform", "hot", "yahoo", "nexmark"):
        with started(workload) as s:
            out, _ = s.bench(workload, "--duration", "500ms", "--rate", "60k", "--batch", 500, "--verify", "--dup-events",
                             "0.1", "--late", "0.01")
            assert "verified: every verdict count and all" in out, out


def test_same_seed_and_start_are_the_same_bytes():
    again = ("--seed", 3, "--start", "2026-01-01T00:00:00Z", "--events", 20000, "--disorder", "3s", "--dup-events", "3%")
    with started("zipf", "--disorder", "3s") as s:
        first = s.json("zipf", "--verify", *again)
        rows = s.rows("by_key", state="all")
        assert first["events"] == 20000 and first["verified"]
        assert min(r["window_start"] for r in rows) >= "2025-12-31T23:59:50"
        second = s.json("zipf", *again, "--batch", 1000)
        assert second["accepted"] == 0 and second["duplicate"] == 20000
        strip = lambda rows: [{**r, "revision": 0} for r in rows]
        assert strip(s.rows("by_key", state="all")) == strip(rows)


def test_beyond_the_horizon_counts_again():
    what = ("--rate", "20k", "--horizon", "1s", "--dup-beyond", "5%", "--dup-events", "5%", "--dup-delay", 500)
    with started("zipf", *what) as s:
        r = s.json("zipf", "--duration", "4s", "--batch", 100, "--verify", *what)
        assert r["verified"] and r["duplicate"] > 0, r
        assert s.metric("millrace_dedup_expired_total", stream="events") > 0


def test_finds_what_is_wrong():
    with started("zipf") as s:
        short = ("zipf", "--duration", "300ms", "--rate", "50k", "--seed", 1, "--dup-events", "5%")
        out, _ = s.bench(*short, "--verify", "--verify-as", 2, expect=1)
        assert "NOT VERIFIED" in out and "expected" in out, out
        # One event of somebody else, in the very rows.
        out = []
        other = threading.Thread(target=lambda: out.append(s.bench("zipf", "--duration", "1s", "--rate", "50k", "--verify",
                                                                   expect=1)))
        other.start()
        received = lambda: s.metric("millrace_events_received_total", stream="events")
        before = received()
        until("it sends", lambda: received() > before)
        answer = s.post("/v1/streams/events/events", json.dumps({"id": "x", "ts": int(time.time() * 1000), "key": "/page/0",
                                                                 "value": 0.125}))
        assert answer.json["accepted"] == 1
        other.join()
        assert "server: accepted" in out[0][0] and "/page/0: " in out[0][0], out
    groups = "allowed_lateness: 1m\n    groups: { max: 100, when_full: "
    for old, new, words in (("size: 10s", "size: 5s", "not a window of 10 s"),
                            ("{ sum: value }", "{ max: value }", " events, "),
                            ("views: count", "seen: count", "count metric is missing"),
                            ("spend: {", "spent: {", "second metric is missing"),
                            ("allowed_lateness: 1m", groups + "drop }", "no row; expected"),
                            ("allowed_lateness: 1m", groups + "other }", "a key that was never sent")):
        with started("zipf", replace=[(old, new)]) as s:
            out, _ = s.bench("zipf", "--duration", "300ms", "--rate", "50k", "--verify", expect=1)
            assert "NOT VERIFIED" in out and words in out, (words, out)


def test_a_server_that_forgets_is_found_out():
    with started("zipf", replace=[("mode: exact", "mode: observe")]) as s:
        r = s.json("zipf", "--duration", "300ms", "--rate", "50k", "--dup-events", "10%", "--slo", "missed_duplicates==0",
                   "--verify", expect=1)
        assert not r["verified"] and r["missed_duplicates"] > 500 and not r["slo"][0]["holds"], r


def test_slo():
    with started("zipf") as s:
        short = ("zipf", "--duration", "300ms", "--rate", "20k")
        out, _ = s.bench(*short, "--slo", "p99<60s, missed_duplicates==0, rate>=1k, server_rss<64GiB")
        assert out.count("holds ") == 4 and "BROKEN" not in out, out
        out, err = s.bench(*short, "--slo", "p99<1ns,rejected==0", expect=3)
        assert "BROKEN  p99<1ns" in out and "holds   rejected==0" in out and "p99<1ns does not hold" in err, out
        r = s.json(*short, "--slo", "p50<1ns", expect=3)
        assert r["slo"] == [{"term": "p50<1ns", "value": r["latency_ms"]["p50"], "holds": False}]


def test_outputs():
    with started("zipf") as s:
        hdr = s.directory / "latency.hgrm"
        out, err = s.bench("zipf", "--duration", "2500ms", "--rate", "20k", "--hdr", hdr, "--live")
        assert len(re.findall(r"^ +\d s .* events/s .* p99 ", err, re.M)) == 2, err
        for word in ("open loop", "latency, from when a request was due", "service time", "CPU for a million events",
                     "answered", "20,00"):
            assert word in out, (word, out)
        lines = hdr.read_text().splitlines()
        assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"] and lines[1] == ""
        rows = [list(map(float, line.split())) for line in lines[2:] if not line.startswith("#")]
        assert rows[0][1] == 0 and rows[-1][1] == 1 and rows[-1][2] == 50
        for column in range(3):
            assert [r[column] for r in rows] == sorted(r[column] for r in rows)
        assert [line.split()[0] for line in lines[-3:]] == ["#[Mean", "#[Max", "#[Buckets"]
        r = s.json("zipf", "--duration", "300ms", "--rate", "20k", "--seed", 5)
        assert r["options"]["seed"] == 5 and r["options"]["rate"] == 20000 and r["options"]["duration_ms"] == 300
        assert r["latency_ms"]["count"] == r["requests"] == 6 and r["server_cpu"] is not None
        assert r["latency_ms"]["max"] >= r["latency_ms"]["p99"] >= r["latency_ms"]["p50"] >= r["service_ms"]["p50"] > 0


def test_file():
    with started("zipf") as s:
        path = s.directory / "events.ndjson"
        now = int(time.time() * 1000)
        lines = [json.dumps({"id": str(i % 900), "ts": now, "key": "k", "value": 1}) for i in range(1000)]
        path.write_text("\n".join(lines[:500]) + "\n\n  \r\nbroken\n" + "\n".join(lines[500:]))
        r = s.json("file", path, "--batch", 64, "--verify", "--connections", 1)
        assert r["verified"] and (r["accepted"], r["duplicate"], r["rejected"]) == (900, 100, 1)
        r = s.json("file", path, "--batch", 64, "--loop", 3, "--verify")
        assert r["verified"] and (r["accepted"], r["duplicate"], r["rejected"]) == (0, 3000, 3)
        bench("file", s.directory / "none", expect=1)


def test_503_is_sent_again_until_taken():
    limits = "\nlimits: { body: 512KiB, inflated: 512KiB, event: 4KiB, in_flight: 1MiB }\n"
    with started("zipf", more=limits) as s:
        r = s.json("zipf", "--batch", 2500, "--connections", 12, "--events", 300000, "--dup-events", "2%", "--verify",
                   "--start", "2026-01-01T00:00:00Z", "--time-rate", "100k", "--duration", "60s")
        assert r["retried"] > 0 and r["verified"] and r["events"] == 300000 and r["missed_duplicates"] == 0, r


def test_gives_up_on_a_server_that_never_takes_it():
    with started("zipf") as s:
        s.stop()
        s.configure(s.config.read_text().replace("ids: 2000000", "ids: 10000"))
        s.start()
        out, err = s.bench("zipf", "--keys", 10, "--events", 30000, "--duration", "1s", "--timeout", "500ms", expect=1)
        assert "the server answered 503: " in err and "no room for more ids" in err and "FAILED" in out, (out, err)


def test_goes_on_after_a_restart():
    with started("zipf") as s:
        out = []
        what = ("zipf", "--rate", "20k", "--batch", 100, "--duration", "3s", "--verify", "--dup-events", "5%", "--json")
        url = f"http://127.0.0.1:{s.port}"
        sender = threading.Thread(target=lambda: out.append(bench(*what, "--url", url)))
        sender.start()
        until("it sends", lambda: s.metric("millrace_events_received_total", stream="events") > 5000)
        s.kill()
        s.configure(s.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{s.port}"))
        s.start()
        sender.join()
        r = json.loads(out[0][0])
        # What was under way when it died, if anything was, is sent again; every request is counted with what it waited.
        assert r["requests"] == 600 and r["latency_ms"]["count"] == 600, r
        assert r["verified"] and r["missed_duplicates"] == 0, r


def test_says_what_is_wrong():
    _, err = bench("zipf", "--url", "http://127.0.0.1:1", "--duration", "1s", expect=1)
    assert "cannot connect to http://127.0.0.1:1: Connection refused" in err, err
    for arguments, words in (
            ((), "which workload"), (("zipff",), "did you mean `zipf`?"), (("zipf", "--conections", "3"), "did you mean `--connections`?"),
            (("zipf", "--rate", "fast"), "expected max, or a number"), (("zipf", "--batch", "0"), "a whole number from 1"),
            (("zipf", "--dup-events", "200%"), "a share"), (("zipf", "--seed"), "needs a value"),
            (("zipf", "--duration", "10"), "a duration"), (("zipf", "--format", "jsn"), "did you mean `json`?"),
            (("zipf", "--start", "soon"), "RFC 3339"), (("zipf", "--slo", "p99<50"), "its unit"),
            (("zipf", "--slo", "missed_dups==0"), "unknown name"), (("zipf", "--dup-beyond", "1%"), "certain"),
            (("zipf", "--url", "https://x:1"), None), (("file",), "which one"), (("zipf", "--print-ads"), "only yahoo has ads"), (("zipf", "more"), "unexpected argument"),
            (("zipf", "--threads", "5", "--connections", "2"), "more than --connections")):
        code = 1 if words is None else 2
        out, err = bench(*arguments, expect=code)
        assert out == "" and (words or "plain http only") in err, (arguments, err)
    with started("zipf") as s:
        out, err = s.bench("zipf", "--stream", "nothing", "--duration", "300ms", expect=1)
        assert "404" in err and "--print-config" in err, err


def test_help_and_docs_name_every_option():
    out, _ = bench("--help")
    options = re.findall(r"^  (--[a-z-]+)", out, re.M)
    assert len(options) > 30
    docs = (ROOT / "docs/BENCH.md").read_text()
    assert [o for o in options if f"`{o}" not in docs] == []
    assert bench("--version")[0].startswith("millrace-bench ")


if __name__ == "__main__":
    run(globals())
