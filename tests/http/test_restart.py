# SPDX-License-Identifier: Apache-2.0
"""
Starts in unusual places: results ahead of the log, another number of shards, a lost key; and a run whose ids do not
fit. Each either gives the right results or refuses with a text; none loses events without a word.
"""
import contextlib
import shutil
import sqlite3
import subprocess

from harness import MILLRACE, Server, run, server

CONFIG = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
streams:
  s:
    id: id
    time: {{ field: ts, format: s }}
    dedup: {{ mode: exact, horizon: 1h, ids: {ids} }}
    watermark: {{ out_of_orderness: 0s, idle_timeout: off }}
rules:
  r:
    from: s
    group_by: [key]
    window: {{ type: tumbling, size: 10s }}
    allowed_lateness: 0s
    groups: {{ max: 4, when_full: other }}
    metrics: {{ n: count }}
"""
T0 = 1700000000


def config(shards=1, ids=10000):
    return CONFIG.format(shards=shards, ids=ids)


def post(s, first, count, keys=3):
    lines = "\n".join(f'{{"id":"{i}","ts":{T0 + 10 * i},"key":"k{i % keys}"}}' for i in range(first, first + count))
    answer = s.post("/v1/streams/s/events", lines)
    assert answer.status == 200 and answer.json["accepted"] == count, answer


def windows(s):
    return {row["window_start"]: row["events"] for row in s.rows("r", state="all")}


def test_results_ahead_of_the_log_are_made_anew():
    with server(config()) as s:
        post(s, 0, 10)
        assert s.stop() == 0
        shutil.copytree(s.directory / "data/log", s.directory / "older")
        s.start()
        post(s, 10, 10)
        s.get("/v1/dead-letters?limit=1")  # flushed
        s.kill()
        shutil.rmtree(s.directory / "data/log")
        shutil.move(s.directory / "older", s.directory / "data/log")
        s.start()
        assert "event=results_rewound" in s.stderr()
        assert len(windows(s)) == 10
        for i in range(20, 30):
            post(s, i, 1)
        assert len(windows(s)) == 20 and set(windows(s).values()) == {1}


def test_rows_that_were_replaced_behind_the_checkpoint_come_back():
    """The log has lost what replaced them; nothing else would say them again before their window's end."""
    for panes in ("accumulating", "accumulating_and_retracting"):
        early = config().replace("size: 10s }", "size: 1h }\n    trigger: { early_count: 1, panes: " + panes + " }")
        with server(early) as s:
            def row():
                s.get("/v1/dead-letters?limit=1")  # flushed
                with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
                    return db.execute("select key, n, events, timing, pane from r").fetchall()

            post(s, 0, 1, keys=1)
            post(s, 1, 1, keys=1)
            assert row() == [("k0", 2, 2, "EARLY", 1)]
            assert s.stop() == 0
            shutil.copytree(s.directory / "data/log", s.directory / "older")
            s.start()
            post(s, 2, 1, keys=1)
            assert row() == [("k0", 3, 3, "EARLY", 2)]
            s.kill()
            shutil.rmtree(s.directory / "data/log")
            shutil.move(s.directory / "older", s.directory / "data/log")
            s.start()
            assert "event=results_rewound" in s.stderr()
            assert row() == [("k0", 2, 2, "EARLY", 1)], panes
            post(s, 3, 1, keys=1)
            assert row() == [("k0", 3, 3, "EARLY", 2)]


def test_another_number_of_shards_gives_the_same_rows():
    with server(config(shards=1)) as s:
        for start in range(0, 60, 20):
            lines = "\n".join(f'{{"id":"{start + i}","ts":{T0 + start},"key":"k{i}"}}' for i in range(20))
            assert s.post("/v1/streams/s/events", lines).json["accepted"] == 20
        totals = windows_sum(s)
        assert sum(totals.values()) == 60
        for shards in (3, 2, 1):
            assert s.stop() == 0
            s.config.write_text(s.config.read_text().replace("shards: 1 }", f"shards: {shards} }}")
                                .replace("shards: 2 }", f"shards: {shards} }}").replace("shards: 3 }",
                                                                                       f"shards: {shards} }}"))
            s.start()
            assert windows_sum(s) == totals, (shards, windows_sum(s), totals)


def windows_sum(s):
    totals = {}
    for row in s.rows("r", state="all"):
        totals[row["window_start"]] = totals.get(row["window_start"], 0) + row["events"]
    return totals


def test_a_log_without_its_key_is_refused():
    with server(config()) as s:
        post(s, 0, 10)
        assert s.stop() == 0
        key = s.directory / "data/KEY"
        original = key.read_bytes()
        for bit in range(0, 8 * len(original), 13):
            changed = bytearray(original)
            changed[bit // 8] ^= 1 << bit % 8
            key.write_bytes(changed)
            s.start(expect_failure=True)
            assert s.process.wait() == 1
            assert "is not the key this data was made with" in s.stderr(), s.stderr()
        key.unlink()
        s.start(expect_failure=True)
        assert s.process.wait() == 1
        assert "has a log but no KEY" in s.stderr()
        key.write_bytes(original)
        s.start()


def test_run_with_too_little_room_for_ids_fails():
    s = Server(config(ids=1000))
    try:
        lines = "".join(f'{{"id":"{i}","ts":{T0},"key":"k"}}\n' for i in range(50000)).encode()
        done = subprocess.run([MILLRACE, "run", "-c", str(s.config)], input=lines, capture_output=True)
        assert done.returncode == 1 and not done.stdout, done
        assert b"dedup.ids" in done.stderr, done.stderr
    finally:
        s.close()


def test_run_asks_for_the_stream_where_there_are_several():
    two = config() + "  r2: { from: s2, window: { type: tumbling, size: 10s }, metrics: { n: count } }\n"
    two = two.replace("rules:\n", "  s2: { id: id, time: { field: ts, format: s } }\nrules:\n")
    s = Server(two)
    try:
        lines = f'{{"id":"1","ts":{T0},"key":"k"}}\n'.encode()
        command = [MILLRACE, "run", "-c", str(s.config)]
        done = subprocess.run(command, input=lines, capture_output=True)
        assert done.returncode == 2 and b"--stream" in done.stderr, done
        done = subprocess.run([*command, "--stream", "s2"], input=lines, capture_output=True)
        assert done.returncode == 0 and done.stdout.count(b"\n") == 1 and b'"rule":"r2"' in done.stdout, done
    finally:
        s.close()


if __name__ == "__main__":
    run(globals())
