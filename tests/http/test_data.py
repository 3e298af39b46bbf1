# SPDX-License-Identifier: Apache-2.0
"""
What becomes of data, against the real program.

Proves: what a changed, shared, damaged or incomplete data directory does at a start, and what the log's tools show;
how time closes windows and where events that are not counted end, in answers, metrics, dead letters and results.db;
the modes of dedup; and bounded runs over every kind of input.
"""
import collections
import contextlib
import csv
import gzip
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import time

from harness import MILLRACE, Server, check_ledger, run, server, until
from test_operation import BASE, CONFIG, E, SMALL, STREAM, accepted, directory, events, millrace, refused


def dead(s, **query):
    answer = s.get("/v1/dead-letters?" + "&".join(f"{k}={v}" for k, v in query.items()))
    assert answer.status == 200, answer
    return answer.json["entries"]


def stored(s, rule):
    """A rule's rows in results.db, read as anybody would."""
    with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f'select * from "{rule}"')]


# ---- the data directory ----

def test_one_process_a_directory():
    with server(CONFIG) as s:
        second = Server(CONFIG, directory=s.directory)
        second.config = s.config  # the same file, the same directory
        said = refused(second, 1, str(s.directory / "data"))
        assert "another process" in said or "in use" in said or "locked" in said, said
        accepted(s.post(E, events({"id": "1", "t": BASE})), 1)
        s.kill()
        s.start()
        accepted(s.post(E, events({"id": "2", "t": BASE})), 1)


def test_a_window_of_more_groups_than_fit_on_the_way_to_the_store():
    """64 slices of 1,024 a shard are on their way at most; the shard and the store go on until all are there."""
    groups = 150000
    config = CONFIG.replace("ids: 100000", "ids: 300000").replace("allowed_lateness: 1m", "allowed_lateness: 0s")
    for shards in (1, 2):
        with server(config + f"node: {{ shards: {shards}, data_dir: \"@DIR@/data\" }}\n") as s:
            for first in range(0, groups, 10000):
                accepted(s.post(E, events(*({"id": str(i), "t": BASE, "k": f"k{i}", "v": 1}
                                            for i in range(first, first + 10000)))), 10000)
            accepted(s.post(E, events({"id": "last", "t": BASE + 1000, "k": "a", "v": 1})), 1)  # closes it
            until("all rows in the store", lambda: s.metric("millrace_panes_total", rule="r") >= groups)
            accepted(s.post(E, events({"id": "after", "t": BASE + 1000, "k": "a", "v": 1})), 1)


def test_another_id_or_format_is_refused():
    with server(CONFIG) as s:
        accepted(s.post(E, events({"id": "1", "t": BASE, "k": "a", "v": 1})), 1)
        assert s.stop() == 0
        original = s.config.read_text()
        assert "id: id" in original
        s.config.write_text(original.replace("id: id", "id: other"))
        said = refused(s, 78, "data")
        assert "stream" in said, said
        for old, new in (("segment: 4MiB", "segment: 8MiB"), ("ids: 100000", "ids: 200000"),
                         ("rules:", "# a comment\nrules:")):
            s.config.write_text(original.replace(old, new))
            s.start()
            assert [r["events"] for r in s.rows("r")] == [1]
            assert s.stop() == 0
        (s.directory / "data/FORMAT").write_text("millrace data, format 99\n")
        refused(s, 78, "format")


def plain(rows):
    return sorted((r["window_start"], json.dumps(r["key"]), r["events"], r["metrics"]["n"], r["metrics"]["v"])
                  for r in rows)


def test_changed_shards_give_the_same_rows():
    rule = "from: s, group_by: [k], window: {{ size: 1s }}, allowed_lateness: 0s, " \
           "metrics: {{ n: count, v: {{ sum: v }} }}"
    config = SMALL + f"""
streams:
  {STREAM}
rules:
  all: {{ {rule} }}
  few: {{ {rule}, groups: {{ max: 12, when_full: other }} }}
node: {{ data_dir: "@DIR@/data", shards: 1 }}
""".replace("{{", "{").replace("}}", "}")
    with server(config) as s:
        some = [{"id": str(i), "t": BASE + i, "k": f"k{i % 29}", "v": i} for i in range(6000)]
        for i in range(0, len(some), 600):
            accepted(s.post(E, events(*some[i:i + 600])), 600)
        truth = collections.Counter()
        for e in some:
            truth[e["t"] // 1000] += 1
        first = {rule: plain(s.rows(rule)) for rule in ("all", "few")}
        assert len(first["all"]) == 6 * 29 and len(first["few"]) < len(first["all"])
        for shards in (3, 2, 1):
            assert s.stop() == 0
            s.config.write_text(re.sub(r"shards: \d", f"shards: {shards}", s.config.read_text()))
            s.start()
            until("all is written", lambda: s.metric("millrace_flush_lag_bundles") == 0)
            rows = {rule: s.rows(rule) for rule in ("all", "few")}
            assert plain(rows["all"]) == first["all"], shards
            for name in ("all", "few"):
                by_window, keys = collections.Counter(), set()
                for r in rows[name]:
                    by_window[r["window_start"]] += r["events"]
                    keys.add((r["window_start"], json.dumps(r["key"])))
                assert len(keys) == len(rows[name]), "a row twice"
                assert sorted(by_window.values()) == sorted(truth.values()), (shards, name)
                final = [r for r in rows[name] if r["final"]]
                in_file = [r for r in stored(s, name) if r["final"]]
                assert len(final) > 30 and sum(r["events"] for r in final) == sum(r["events"] for r in in_file)
                assert sum(r["metrics"]["v"] for r in final) == sum(r["v"] for r in in_file)
        assert plain(rows["few"]) == first["few"]  # of one shard, as in the beginning


def segment(s):
    files = sorted((s.directory / "data/log").glob("*.log"))
    assert len(files) == 1, files
    return files[0]


def post_three(s):
    for name in ("first-event", "second-event", "third-event"):
        accepted(s.post(E, events({"id": name, "t": BASE, "k": name, "v": 1})), 1)


def test_a_damaged_log_is_not_skipped():
    with server(CONFIG) as s:
        post_three(s)
        s.kill()
        file = segment(s)
        sound = file.read_bytes()
        records = [json.loads(line) for line in millrace("log", "dump", file.parent, "--json").out.splitlines()]
        first = next(r for r in records if "first-event" in r["payload"])
        payload_end = sound.index(b"}", sound.index(b"first-event")) + 1
        header = payload_end - first["payload_len"] - 80  # its 80 bytes, of which all but the padding are checked
        for at in (payload_end - 20, header, header + 4, header + 8, header + 16, header + 24, header + 79):
            data = bytearray(sound)
            data[at] ^= 0x20
            file.write_bytes(data)
            said = refused(s, 1, file.name)
            offset = int(re.search(r"offset (\d+)", said).group(1))
            assert offset == header, (at, header, said)
            assert file.read_bytes() == bytes(data), "a damaged file is left as it is"
            done = millrace("log", "list", file.parent)
            assert "sound" not in done.out, done.out
        file.write_bytes(sound)
        s.start()
        assert len(s.rows("r")) == 3


def test_what_is_missing():
    """Files of the data directory that went away: the key is refused, results are made anew."""
    with server(CONFIG) as s:
        post_three(s)
        rows = s.rows("r")
        assert s.stop() == 0
        data = s.directory / "data"
        key = data.joinpath("KEY").read_bytes()
        assert data.joinpath("KEY").stat().st_mode & 0o777 == 0o600
        data.joinpath("KEY").unlink()
        refused(s, 1, "KEY")
        data.joinpath("KEY").write_bytes(key)
        for name in data.glob("results.db*"):
            name.unlink()
        s.start()
        assert s.rows("r") == rows
        s.process.send_signal(signal.SIGHUP)  # known, not in this version: said, and nothing else
        until("it is said", lambda: "reload_ignored" in s.stderr())
        other = Server(CONFIG + f"http: {{ listen: 127.0.0.1:{s.port} }}\n")
        try:
            refused(other, 1, "127.0.0.1", str(s.port))
        finally:
            other.close()
        assert s.rows("r") == rows


def test_a_torn_tail_is_cut_and_said():
    with server(CONFIG) as s:
        post_three(s)
        s.kill()
        file = segment(s)
        used = json.loads(millrace("log", "list", file.parent, "--json").out)["bytes_used"]
        with open(file, "r+b") as f:  # garbage where the next record would have been
            f.seek(used)
            f.write(os.urandom(300))
        s.start()
        assert s.metric("millrace_log_torn_bytes") > 0
        assert re.search(r"torn_bytes=[1-9]", s.stderr()), s.stderr()
        assert len(s.rows("r")) == 3
        accepted(s.post(E, events({"id": "fourth-event", "t": BASE, "k": "x" * 100, "v": 1})), 1)
        s.kill()
        data = file.read_bytes()
        at = data.index(b"fourth-event") + 20
        file.write_bytes(data[:at] + bytes(len(data) - at))  # the disk lost the end of the last write
        before = len(s.stderr())
        s.start()
        assert re.search(r"torn_bytes=[1-9]", s.stderr()[before:]), s.stderr()[before:]
        assert len(s.rows("r")) == 3
        answer = s.post(E, events({"id": "fourth-event", "t": BASE, "k": "y", "v": 1},
                                  {"id": "third-event", "t": BASE, "k": "y", "v": 1}))
        assert (answer.json["accepted"], answer.json["duplicate"]) == (1, 1), answer
        s.kill()
        before = len(s.stderr())
        s.start()
        assert "torn_bytes=0" in s.stderr()[before:]
        assert len(s.rows("r")) == 4
        s.kill()
        os.truncate(file, used)  # no crash makes a file shorter that was made in full before
        refused(s, 1, file.name, f"offset {used}", "cut short")


def test_log_tools_on_a_running_server():
    with server(CONFIG) as s:
        post_three(s)
        path = s.directory / "data/log"
        for directory_ in (path, s.directory / "data"):
            done = millrace("log", "list", directory_)
            assert done.returncode == 0 and segment(s).name in done.out and "sound" in done.out, done
        one = json.loads(millrace("log", "list", path, "--json").out)
        assert one["name"] == segment(s).name and one["records"] >= 5 and one["torn_bytes"] == 0, one
        records = [json.loads(line) for line in millrace("log", "dump", path, "--json").out.splitlines()]
        assert [r["lsn"] for r in records] == list(range(1, len(records) + 1)) and len(records) == one["records"]
        kinds = [r["type"] for r in records]
        assert kinds[0] == "start" and "config" in kinds and kinds.count("events") == 3, kinds
        assert sum("second-event" in r["payload"] for r in records) == 1
        text = millrace("log", "dump", path).out
        assert text.count("\n") == len(records) + 1 and "third-event" in text
        control = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
        assert not control.search(text)
        for verb in ("list", "dump"):
            done = millrace("log", verb, s.directory / "nowhere")
            assert done.returncode == 1 and "nowhere" in done.err, done
            (s.directory / "empty").mkdir(exist_ok=True)
            done = millrace("log", verb, s.directory / "empty")
            assert done.returncode == 1 and "no segment" in done.err, done
        accepted(s.post(E, events({"id": "behind", "t": BASE})), 1)


# ---- time ----

def test_idle_closes_the_last_window():
    config = CONFIG.replace("idle_timeout: off", "idle_timeout: 1s").replace("lateness: 1m", "lateness: 0s")
    with server(config) as s:
        now = int(time.time() * 1000)
        accepted(s.post(E, events(*({"id": str(i), "t": now, "k": "a", "v": 2} for i in range(3)))), 3)
        until("the row is final", lambda: all(r["final"] for r in s.rows("r")))
        rows = until("the row is in results.db", lambda: stored(s, "r"))
        assert [(r["k"], r["n"], r["v"], r["events"], r["final"]) for r in rows] == [("a", 3, 6, 3, 1)], rows
        assert [(r["events"], r["final"]) for r in s.rows("r")] == [(3, True)]
        until("nothing is open", lambda: s.metric("millrace_windows_open", rule="r") == 0)
        kinds = [json.loads(line)["type"] for line in
                 millrace("log", "dump", s.directory / "data/log", "--json").out.splitlines()]
        assert "tick" in kinds
        s.kill()
        s.start()  # and again from the log
        assert [(r["events"], r["final"]) for r in s.rows("r")] == [(3, True)]
        answer = s.post(E, events({"id": "behind", "t": now - 60000, "k": "a", "v": 1}))
        assert answer.json["late"] == 1, answer


def test_late_events_correct_or_are_dead_letters():
    with server(CONFIG) as s:
        event = lambda name, at, **more: events(dict({"id": name, "t": BASE + at, "k": "a", "v": 1}, **more))
        row = lambda: [r for r in s.rows("r") if r["window_start"].endswith("20.000Z")][0]
        assert BASE % 60000 == 20000
        accepted(s.post(E, event("1", 0)), 1)
        accepted(s.post(E, event("2", 10000)), 1)  # the window fires
        before = row()
        assert before["events"] == 1 and not before["final"]
        accepted(s.post(E, event("3", 500)), 1)  # late, allowed
        after = row()
        assert after["events"] == 2 and after["metrics"] == {"n": 2, "v": 2}
        assert after["revision"] > before["revision"] and not after["final"]
        in_file = lambda: [(r["events"], r["revision"]) for r in stored(s, "r") if r["window_start_ms"] == BASE]
        until("the correction is written", lambda: in_file() == [(2, after["revision"])])
        accepted(s.post(E, event("4", 100000)), 1)  # lateness is over
        assert row()["final"] and row()["events"] == 2
        answer = s.post(E + "?return=results", event("5", 900))
        assert answer.json["results"] == "L" and answer.json["late"] == 1, answer
        assert s.post(E, event("5", 900)).json["duplicate"] == 1  # a late event's id is remembered
        assert row()["events"] == 2
        entry, = dead(s, reason="late")
        assert entry["stream"] == "s" and entry["rules"] == ["r"] and entry["event"]["id"] == "5", entry
        ahead = int(time.time() * 1000) + 3600000
        mark = s.get("/v1/streams/s").json["watermark"]
        answer = s.post(E, events({"id": "6", "t": ahead, "k": "a", "v": 1}))
        assert answer.status == 200 and answer.json["late"] == 1, answer
        entry, = dead(s, reason="future")
        assert entry["event"]["t"] == ahead, entry
        assert s.get("/v1/streams/s").json["watermark"] == mark, "the future moves no watermark"
        assert s.metric("millrace_events_future_total", stream="s") == 1
        answer = s.post(E, events({"id": "7", "t": "never"}, {"id": "8", "t": BASE + 100000, "k": "a", "v": 1}))
        assert (answer.json["rejected"], answer.json["accepted"]) == (1, 1), answer
        entry, = dead(s, reason="rejected")
        assert entry["stream"] == "s" and "never" in json.dumps(entry), entry
        assert s.metric("millrace_dead_letters_total") == 3 == len(dead(s))
        check_ledger(s, "s")
        s.kill()
        s.start()
        assert len(dead(s)) == 3, "dead letters once, also after a replay"


def test_late_for_some_rules_is_accepted():
    config = CONFIG + "  patient: { from: s, window: { size: 1s }, allowed_lateness: 1d, metrics: { n: count } }\n"
    with server(config) as s:
        accepted(s.post(E, events({"id": "1", "t": BASE + 100000, "k": "a", "v": 1})), 1)
        accepted(s.post(E, events({"id": "2", "t": BASE, "k": "a", "v": 1})), 1)
        assert s.metric("millrace_rule_events_total", rule="r", outcome="late") == 1
        assert s.metric("millrace_rule_events_total", rule="patient", outcome="applied") == 2
        entry, = dead(s, reason="late")
        assert entry["rules"] == ["r"], entry


def test_dropped_groups():
    config = CONFIG.replace("size: 1s }", "size: 1s }, groups: { max: 2, when_full: drop }")
    with server(config) as s:
        accepted(s.post(E, events(*({"id": str(i), "t": BASE, "k": f"k{i % 5}", "v": 1} for i in range(50)))), 50)
        rows = s.rows("r")
        assert len(rows) == 2 and sum(r["events"] for r in rows) == 20, rows
        assert s.metric("millrace_rule_events_total", rule="r", outcome="dropped") == 30
        assert s.metric("millrace_rule_events_total", rule="r", outcome="applied") == 20
        entries = dead(s, reason="groups")
        assert sum(e["events"] for e in entries) == 30 and all(e["rules"] == ["r"] for e in entries), entries
        kept = {r["key"]["k"] for r in rows}
        assert {e["group"]["k"] for e in entries} == {f"k{i}" for i in range(5)} - kept
        accepted(s.post(E, events({"id": "again", "t": BASE, "k": min(kept), "v": 1})), 1)
        assert sum(r["events"] for r in s.rows("r")) == 21


def test_modes_of_dedup():
    twice = events({"id": "1", "t": BASE, "k": "a", "v": 1}, {"id": "1", "t": BASE, "k": "a", "v": 1})
    for mode, rows, observed in (("exact", 1, 0), ("bloom", 1, 0), ("observe", 4, 3), ("none", 4, 0)):
        dedup = "dedup: { mode: none }" if mode == "none" else f"dedup: {{ mode: {mode}, ids: 100000 }}"
        with server(CONFIG.replace("dedup: { ids: 100000 }", dedup)) as s:
            for _ in range(2):
                answer = s.post(E, twice)
                assert answer.status == 200 and answer.json["received"] == 2, answer
            assert sum(r["events"] for r in s.rows("r")) == rows, mode
            assert s.metric("millrace_events_observed_duplicates_total", stream="s") == observed, mode
            assert s.metric("millrace_events_total", stream="s", verdict="accepted") == rows
            check_ledger(s, "s")
            s.kill()
            s.start()
            assert sum(r["events"] for r in s.rows("r")) == rows, mode
            assert s.metric("millrace_events_observed_duplicates_total", stream="s") == observed, mode
    with server(CONFIG.replace("id: id,", "id: id, missing_id: accept,")) as s:
        answer = s.post(E, events({"t": BASE}, {"t": BASE}, {"id": None, "t": BASE}, {"id": "1", "t": BASE},
                                  {"id": "1", "t": BASE}))
        assert (answer.json["accepted"], answer.json["duplicate"]) == (4, 1), answer
        answer = s.post(E, events({"id": "", "t": BASE}, {"id": True, "t": BASE}, {"id": "2", "t": BASE}))
        assert (answer.json["accepted"], answer.json["rejected"]) == (1, 2), answer
        check_ledger(s, "s")


# ---- bounded runs ----

def test_run():
    with directory() as path:
        config = path / "c.yaml"
        config.write_text(CONFIG + "  total: { from: s, window: { size: 1s }, metrics: { n: count } }\n"
                          f"node: {{ data_dir: {path}/data, shards: 2 }}\n")
        some = [{"id": str(i % 900), "t": BASE + i % 900 * 10, "k": f"k{i % 3}", "v": i % 900} for i in range(1000)]
        truth = collections.Counter()
        for e in some[:900]:
            truth[e["t"] // 1000 * 1000, e["k"]] += 1
        text = events(*some).encode() + b"\n"
        (path / "plain.ndjson").write_bytes(text)
        (path / "packed.ndjson.gz").write_bytes(gzip.compress(text[:9999]) + gzip.compress(text[9999:]))
        (path / "array.json").write_text(json.dumps(some, indent=1))
        subprocess.run(["zstd", "-q", path / "plain.ndjson", "-o", path / "packed.ndjson.zst"], check=True)
        outputs = set()
        for name in ("plain.ndjson", "packed.ndjson.gz", "packed.ndjson.zst", "array.json", "-", None):
            arguments = [] if name is None else ["-" if name == "-" else path / name]
            done = millrace("run", "-c", config, "--json", *arguments, stdin=text if name in ("-", None) else b"")
            assert done.returncode == 0, (name, done.err)
            rows = [json.loads(line) for line in done.out.splitlines()]
            got = {(r["window_start"], r["key"]["k"]): r["events"] for r in rows if r["rule"] == "r"}
            assert sorted(got.values()) == sorted(truth.values()) and len(got) == len(truth), name
            assert all(r["final"] for r in rows)
            summary = json.loads(done.err.splitlines()[-1])
            assert (summary["received"], summary["accepted"], summary["duplicate"]) == (1000, 900, 100), summary
            outputs.add(tuple(sorted(re.sub(r'"revision":\d+', "", line) for line in done.out.splitlines())))
        assert len(outputs) == 1, "the same rows whatever the packing"
        assert not (path / "data").exists(), "a run keeps nothing"

        done = millrace("run", "-c", config, "--csv", "--rule", "r", path / "plain.ndjson")
        table = list(csv.DictReader(io.StringIO(done.out)))
        assert len(table) == len(truth) and sum(int(r["n"]) for r in table) == 900, done.out[:300]
        store = path / "out.db"
        done = millrace("run", "-c", config, "--rule", "total", "--into", store, path / "plain.ndjson",
                        path / "array.json")
        assert done.returncode == 0 and {json.loads(line)["rule"] for line in done.out.splitlines()} == {"total"}
        with contextlib.closing(sqlite3.connect(store)) as db:
            assert db.execute("select sum(events), sum(v) from r").fetchone() == (900, sum(range(900)))
        again = millrace("run", "-c", config, "--into", store, path / "plain.ndjson")
        assert again.returncode == 1 and "out.db" in again.err, again  # never over a file
        assert millrace("run", "-c", config, "--csv", path / "plain.ndjson").returncode == 2
        assert millrace("run", "-c", config, "--rule", "nobody", path / "plain.ndjson").returncode == 2
        assert millrace("run", "-c", path / "none.yaml", path / "plain.ndjson").returncode == 78


def test_run_says_what_is_wrong_with_its_input():
    with directory() as path:
        config = path / "c.yaml"
        config.write_text(CONFIG + f"node: {{ data_dir: {path}/data, shards: 1 }}\n")
        good = lambda i: json.dumps({"id": str(i), "t": BASE, "k": "a", "v": 1})
        bad = path / "bad.ndjson"
        lines = [good(i) for i in range(30000)]  # more than one piece
        lines[2], lines[29990] = "broken", '{"id":null}'
        bad.write_text("\n".join(lines))  # and no newline at the end
        done = millrace("run", "-c", config, "--json", bad)
        assert done.returncode == 0, done.err
        assert f"{bad}:3: bad_json" in done.err and f"{bad}:29991: missing_id" in done.err, done.err
        assert json.loads(done.err.splitlines()[-1])["rejected"] == 2
        bad.write_text("\n".join(["x"] * 50))
        done = millrace("run", "-c", config, bad)
        assert done.err.count("bad_json") == 10 and "rejected 50" in done.err, done.err
        done = millrace("run", "-c", config, path / "nowhere.ndjson")
        assert done.returncode == 1 and "nowhere.ndjson" in done.err and done.out == "", done
        assert millrace("run", "-c", config, path).returncode == 1  # a directory
        for name, data in (("cut.gz", gzip.compress(good(1).encode() * 1000)[:-9]),
                           ("wrong.zst", b"\x28\xb5\x2f\xfdrubbish")):
            (path / name).write_bytes(data)
            done = millrace("run", "-c", config, path / name)
            assert done.returncode == 1 and name in done.err and done.out == "", (name, done)
        (path / "empty").write_bytes(b"")
        done = millrace("run", "-c", config, path / "empty")
        assert done.returncode == 0 and done.out == "" and "received 0" in done.err, done
        (path / "cut.json").write_text(f"[{good(1)},\n{good(2)},\n oops")
        done = millrace("run", "-c", config, path / "cut.json")
        assert f"{path}/cut.json:3: bad_json" in done.err and "accepted 2" in done.err, done.err
        with open("/dev/full", "wb") as full:
            (path / "good").write_text(good(1))
            done = subprocess.run([MILLRACE, "run", "-c", config, path / "good"], stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == 1, done.stderr


if __name__ == "__main__":
    run(globals())
