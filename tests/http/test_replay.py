# SPDX-License-Identifier: Apache-2.0
"""
Replay of the retained log under other rules, into a store of its own, while the server goes on.

Proves: the rows that a replay makes are those of `millrace run` over all events that were sent, for every window that
was final by then, whatever the server's own rules were, were before, or became; it reads beside live traffic and
after a kill; what it cannot know, because the log was trimmed, it leaves out and says so. The oracle for `compare` is
Python over both files; that for rows, `millrace run` over the events.
"""
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import threading
import time

from harness import GIVE_UP_S, MILLRACE, run, server, until

BASE = 1790000000000
LIMITS = "limits: { body: 256KiB, inflated: 256KiB, event: 64KiB, batch_events: 2000, in_flight: 16MiB }\n"
HEAD = LIMITS + "log: { segment: 1280KiB, retain: off, retain_bytes: off }\n"
CLICKS = """
  clicks:
    id: id
    time: { field: ts, format: ms }
    dedup: { ids: 1000000 }
    watermark: { out_of_orderness: 0s, max_future: 0s, idle_timeout: off }
"""
BUYS = CLICKS.replace("clicks", "buys")
VIEWS = """
  views:
    from: clicks
    where: kind == "@KIND@"
    group_by: [country]
    window: { type: tumbling, size: @SIZE@ }
    allowed_lateness: 0s
    metrics: { n: count, spend: { sum: price }, users: { distinct: user } }
"""
SALES = """
  sales:
    from: buys
    group_by: [country]
    window: { type: tumbling, size: 1s }
    allowed_lateness: 0s
    metrics: { n: count }
"""


def config(kind="view", size="1s", streams=CLICKS, rules=None, head=HEAD):
    rules = (VIEWS if rules is None else rules).replace("@KIND@", kind).replace("@SIZE@", size)
    return f"{head}\nstreams:\n{streams}\nrules:\n{rules}"


def millrace(*arguments):
    done = subprocess.run([MILLRACE, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=GIVE_UP_S)
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


def event(i, rng, ts=None):
    return {"id": f"e{i}", "ts": BASE + i * 20 if ts is None else ts, "kind": rng.choice(["view", "view", "click"]),
            "country": rng.choice(["DE", "FR", "US"]), "user": f"u{rng.randrange(50)}", "price": rng.randrange(100) / 4}


def post(s, events, stream="clicks"):
    total = {}
    for k in range(0, len(events), 1000):
        answer = s.post(f"/v1/streams/{stream}/events", "\n".join(map(json.dumps, events[k:k + 1000])))
        assert answer.status == 200, answer
        for name in ("received", "accepted", "duplicate", "late", "rejected"):
            total[name] = total.get(name, 0) + answer.json[name]
    return total


def write(s, name, text):
    """A configuration that names the server's data directory."""
    path = s.directory / name
    path.write_text(f"{text}\nnode: {{ data_dir: {s.directory}/data, shards: 1 }}\n")
    return path


def replay(s, file, into="shadow", *more, code=0):
    done = millrace("replay", "-c", file, "--into", s.directory / into, "--json", *more)
    assert done.returncode == code, (done.returncode, done.out, done.err)
    done.counts = json.loads(done.out) if code == 0 else None
    return done


def settle(s):
    """What was posted is in the node's store."""
    assert s.request("POST", "/v1/checkpoint").status == 200


def note(s, into="shadow"):
    """REPLAY as a dict, and its rules: name -> (windows begin from, final up to)."""
    facts, rules = {}, {}
    for line in (s.directory / into / "REPLAY").read_text().splitlines()[1:-1]:
        word, value = line.split(" ", 1)
        if word == "rule":
            name, begins, final = value.split()
            rules[name] = int(begins), int(final)
        else:
            facts[word] = value
    return facts, rules


def stored(path, rule="views", where="final=1"):
    """(start, key) -> metrics."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        cursor = db.execute(f'SELECT * FROM "{rule}" WHERE {where}')
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor]
    finally:
        db.close()
    return {(row["window_start_ms"], row["country"]): tuple(row.get(m) for m in ("n", "spend", "users"))
            for row in rows}


def oracle(s, file, events, rule="views", stream="clicks"):
    """What `millrace run` makes of all events."""
    sent, results = s.directory / "sent.ndjson", s.directory / "oracle.db"
    results.unlink(missing_ok=True)
    sent.write_text("\n".join(map(json.dumps, events)))
    done = millrace("run", "-c", file, "--stream", stream, "--rule", rule, "--into", results, sent)
    assert done.returncode == 0, done.err
    return stored(results, rule)


def upto(rows, end_ms, size_ms=1000, begin_ms=0):
    return {key: value for key, value in rows.items() if begin_ms <= key[0] and key[0] + size_ms <= end_ms}


def check(s, file, events, into="shadow", rule="views", stream="clicks", size_ms=1000):
    """The rows of the replay are those of the oracle, for windows that were final; returns how many."""
    begins, final = note(s, into)[1][rule]
    want = upto(oracle(s, file, events, rule, stream), final, size_ms, max(begins, 0))
    got = stored(s.directory / into / "results.db", rule)
    assert got == want, (len(got), len(want), sorted(set(got.items()) ^ set(want.items()))[:4])
    return len(want)


def test_a_wrong_rule_is_repaired_while_the_server_goes_on():
    rng = random.Random(1)
    with server(config(kind="viwe")) as s:
        right = write(s, "right.yaml", config())
        sent, stop = [], threading.Event()

        def traffic():
            while not stop.is_set():
                events = [event(len(sent) + k, rng) for k in range(100)]
                again = rng.sample(sent, 20) if sent else []
                post(s, events)
                sent.extend(events)
                if again:  # repeats: in time or late, all duplicates
                    assert post(s, again)["duplicate"] == len(again)

        thread = threading.Thread(target=traffic)
        thread.start()
        try:
            windows = 0
            for i in range(4):
                until("traffic", lambda: len(sent) > 3000 * (i + 1))
                before = len(sent)
                done = replay(s, right, f"shadow{i}")
                assert done.counts["accepted"] >= before and not done.counts["trimmed"], done.counts
                assert "trimmed" not in done.err and "lost" not in done.err
                windows = i, before
        finally:
            stop.set()
            thread.join()
        assert windows[0] == 3
        assert s.rows("views") == [], "the rule was wrong"
        events = list(sent)
        for i in range(4):
            assert check(s, right, events, f"shadow{i}") > 100 * (i + 1)
        done = replay(s, right)
        assert done.counts["accepted"] == len(events) and done.counts["duplicate"] > 0
        assert check(s, right, events) == len(upto(oracle(s, right, events), BASE + (len(events) - 1) * 20))
        settle(s)
        compared = json.loads(millrace("replay", "compare", s.directory / "shadow", "--json").out)
        assert (compared["equal"], compared["changed"], compared["missing"]) == (0, 0, 0)
        assert compared["new"] == len(stored(s.directory / "shadow/results.db")) and len(compared["rows"]) == 10
        # Open windows stay open: the end of the log is not the end of time.
        final = note(s)[1]["views"][1]
        assert not stored(s.directory / "shadow/results.db", where=f"window_end_ms>{final} AND final=1")
        assert s.stop() == 0
        replay(s, right, "stopped")  # and of a server that does not run
        assert stored(s.directory / "stopped/results.db") == stored(s.directory / "shadow/results.db")


def test_every_record_counts_under_the_new_rules_whatever_held_before():
    rng = random.Random(2)
    with server(config(kind="click")) as s:
        events = [event(i, rng) for i in range(3000)]
        post(s, events[:1000])
        s.stop()
        s.configure(config(kind="view", size="2s"))
        s.start()
        post(s, events[1000:2000])
        s.kill()
        s.configure(config(kind="viwe"))
        s.start()
        post(s, events[2000:])
        right = write(s, "right.yaml", config())
        assert replay(s, right).counts["accepted"] == 3000
        assert check(s, right, events) > 100
        wider = VIEWS.replace("views:", "both:")
        both = write(s, "both.yaml", config(rules=VIEWS + wider))
        replay(s, both, "both")
        assert check(s, both, events, "both") == check(s, both, events, "both", "both") > 100


def test_several_streams_and_one_that_is_gone():
    rng = random.Random(3)
    with server(config(streams=CLICKS + BUYS, rules=VIEWS + SALES, kind="click")) as s:
        clicks = [event(i, rng) for i in range(2000)]
        buys = [event(i, rng) for i in range(1500)]
        for k in range(0, 2000, 100):
            post(s, clicks[k:k + 100])
            if k < 1500:
                post(s, buys[k:k + 100], "buys")
        both = write(s, "both.yaml", config(streams=CLICKS + BUYS, rules=VIEWS + SALES))
        done = replay(s, both)
        assert done.counts["received"] == 3500 and done.counts["gone"] == 0
        assert check(s, both, clicks) > 50 and check(s, both, buys, rule="sales", stream="buys") > 50
        one = write(s, "one.yaml", config())
        done = replay(s, one, "one")
        assert (done.counts["received"], done.counts["gone"]) == (2000, 1500)
        assert "1500 events are of streams" in done.err
        assert check(s, one, clicks, "one") > 50
        settle(s)
        lines = {line["rule"]: line for line in map(json.loads, millrace(
            "replay", "compare", s.directory / "shadow", "--json").out.splitlines())}
        assert lines["sales"]["equal"] == len(stored(s.directory / "shadow/results.db", "sales"))
        assert lines["sales"]["changed"] + lines["sales"]["missing"] + lines["sales"]["new"] == 0


def test_compare_finds_what_differs():
    rng = random.Random(4)
    with server(config(kind="click")) as s:
        events = [event(i, rng) for i in range(4000)]
        events = [e for e in events if not (e["country"] == "US" and e["kind"] == "view" and e["ts"] // 1000 % 3 == 0)]
        post(s, events)
        right = write(s, "right.yaml", config())
        replay(s, right)
        settle(s)
        final = note(s)[1]["views"][1]
        after = stored(s.directory / "shadow/results.db")
        before = upto(stored(s.directory / "data/results.db"), final)
        common = set(before) & set(after)
        want = {"equal": sum(before[k] == after[k] for k in common),
                "changed": sum(before[k] != after[k] for k in common),
                "missing": len(set(before) - set(after)), "new": len(set(after) - set(before))}
        assert want["changed"] > 50 and want["missing"] > 5, want
        done = millrace("replay", "compare", s.directory / "shadow", "--json", "--limit", "100000")
        assert done.returncode == 0, done.err
        got = json.loads(done.out)
        assert {k: got[k] for k in want} == want, (got, want)
        assert len(got["rows"]) == want["changed"] + want["missing"] + want["new"]
        kinds = {"changed": 0, "missing": 0, "new": 0}
        for row in got["rows"]:
            kinds[row["kind"]] += 1
            shown = row.get("after", row.get("before"))
            moment = sqlite3.connect(":memory:").execute(
                "SELECT CAST(strftime('%s', ?) AS INTEGER) * 1000", (row["window_start"],)).fetchone()[0]
            for side, rows in (("before", before), ("after", after)):
                if side in row:
                    assert rows[moment, shown["country"]] == tuple(row[side][m] for m in ("n", "spend", "users")), row
        assert kinds == {k: want[k] for k in kinds}
        people = millrace("replay", "compare", s.directory / "shadow", "--limit", "2", "--rule", "views")
        assert people.out.startswith(f"views: {want['equal']} equal, {want['changed']} changed"), people.out
        assert people.out.count("\n") == 4 and "more (--limit)" in people.out and " → " in people.out, people.out
        every = json.loads(millrace("replay", "compare", s.directory / "shadow", "--json", "--all").out)
        assert every["equal"] + every["changed"] + every["new"] >= len(after) and every["open"] == 0
        # The same rules: the same rows.
        replay(s, write(s, "same.yaml", config(kind="click")), "same")
        same = json.loads(millrace("replay", "compare", s.directory / "same", "--json").out)
        assert same["equal"] == len(before) and same["changed"] + same["missing"] + same["new"] == 0, same
        for arguments, code in ((["--rule", "nope"], 2), (["--limit", "x"], 2), (["--data", s.directory / "none"], 1)):
            assert millrace("replay", "compare", s.directory / "shadow", *arguments).returncode == code
        assert "no file REPLAY" in millrace("replay", "compare", s.directory / "data").err
    with server(config()) as other:
        post(other, [event(1, rng)])
        replay(other, write(other, "c.yaml", config()))
        with server(config()) as third:
            done = millrace("replay", "compare", other.directory / "shadow", "--data", third.directory / "data")
            assert done.returncode == 1 and "another log" in done.err, done


def test_from_leaves_out_what_begins_before():
    rng = random.Random(5)
    with server(config()) as s:
        events = [event(i, rng) for i in range(2000)]
        post(s, events)
        right = write(s, "right.yaml", config())
        at = BASE + 10000
        replay(s, right, "shadow", "--from", at)
        assert note(s)[1]["views"][0] == at
        assert min(key[0] for key in stored(s.directory / "shadow/results.db")) == at
        assert check(s, right, events) > 50


def test_a_trimmed_log_leaves_out_windows_that_may_lack_events():
    rng = random.Random(6)
    head = LIMITS + "log: { segment: 1280KiB, retain: off, retain_bytes: 2560KiB }\ncheckpoint: { every: 1h }"
    texts = {kind: config(kind, "100ms", head=head) for kind in ("click", "view")}
    with server(texts["click"]) as s:
        sent, first = [], set()
        segments = lambda: {path.name for path in (s.directory / "data/log").glob("*.log")}
        first = segments()

        def send(count=200, pad=500):
            now = int(time.time() * 1000)
            events = [dict(event(len(sent) + k, rng, now), pad="x" * pad) for k in range(count)]
            post(s, events)
            sent.extend(events)

        def trimmed():
            send()
            if len(sent) % 4000 == 0:
                assert s.request("POST", "/v1/checkpoint").status == 200
            return not (first & segments())
        until("the log is trimmed", trimmed)
        replaced = sent[:200]
        assert post(s, replaced)["duplicate"] == 200  # the live server knows them
        began = time.monotonic()
        until("some windows more", lambda: send(20, 0) or time.monotonic() - began > 1)
        settle(s)  # the older of two checkpoints is what the log must reach back to
        settle(s)
        until("retention has ended", lambda: len(segments()) <= 2)
        view = write(s, "view.yaml", texts["view"])
        done = replay(s, view)
        facts, rules = note(s)
        begins, final = rules["views"]
        assert done.counts["trimmed"] and int(facts["first_lsn"]) > 1
        assert begins == int(facts["first_ms"]) > sent[0]["ts"]
        assert f"begins at record {facts['first_lsn']}" in done.err and "views before" in done.err, done.err
        assert "(86400 s)" in done.err, done.err
        assert check(s, view, sent, size_ms=100) >= 10
        whole = oracle(s, view, sent)
        assert len(upto(whole, begins, 100)) >= 1, "windows were left out"
        same = write(s, "click.yaml", texts["click"])
        replay(s, same, "same")
        compared = json.loads(millrace("replay", "compare", s.directory / "same", "--json").out)
        assert compared["equal"] >= 10 and compared["changed"] + compared["missing"] + compared["new"] == 0, compared


def test_a_kill_leaves_nothing_that_the_next_run_trips_over():
    rng = random.Random(7)
    with server(config()) as s:
        events = [event(i, rng) for i in range(40000)]
        for k in range(0, len(events), 1000):
            post(s, events[k:k + 1000])
        right = write(s, "right.yaml", config())
        other = write(s, "other.yaml", config().replace("group_by: [country]", "group_by: [country, user]"))
        into = s.directory / "shadow"
        killed = 0
        for i in range(12):
            child = subprocess.Popen([MILLRACE, "replay", "-c", str(other), "--into", str(into), "--again"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until("it has begun", lambda: (into / "unfinished.db").exists() or child.poll() is not None)
            time.sleep(rng.random() * 0.2)
            child.send_signal(signal.SIGKILL)
            unfinished = child.wait() != 0
            assert unfinished or (into / "results.db").exists()
            if (into / "results.db").exists():
                assert (into / "REPLAY").exists() and stored(into / "results.db"), "what has its name is whole"
            else:
                killed += 1
        assert killed > 0
        replay(s, right, "shadow", "--again")
        assert check(s, right, events) > 100
        assert not [name for name in os.listdir(into) if name.startswith("unfinished")]
        done = replay(s, right, code=1)
        assert "--again" in done.err and check(s, right, events) > 100
        assert s.get("/livez").status == 200
        check(s, right, events)


def test_what_is_refused():
    with server(config()) as s:
        post(s, [event(1, random.Random(8))])
        right = write(s, "right.yaml", config())
        for arguments in ([], ["-c", right], ["--into", s.directory / "x"],
                          ["x", "-c", right, "--into", s.directory / "x"],
                          ["-c", right, "--into", s.directory / "x", "--from", "soon"], ["compare"],
                          ["compare", "a", "b"]):
            done = millrace("replay", *arguments)
            assert done.returncode == 2 and done.err and not done.out, (arguments, done)
        wrong = write(s, "wrong.yaml", config(kind="view").replace("from: clicks", "from: nothing"))
        assert replay(s, wrong, "x", code=78).err
        assert "is a data directory" in replay(s, right, "data", code=1).err
        (s.directory / "other").mkdir()
        (s.directory / "other/results.db").write_text("mine")
        assert "no replay has made" in replay(s, right, "other", "--again", code=1).err
        assert (s.directory / "other/results.db").read_text() == "mine"
        nowhere = s.directory / "nowhere"
        done = replay(s, right, "x", "--data", nowhere, code=1)
        assert "not a data directory" in done.err and not nowhere.exists() and not (s.directory / "x").exists()
        copy = pathlib.Path(s.directory / "data")
        listed = sorted(os.listdir(copy))
        replay(s, right, "y", "--data", copy)
        assert sorted(os.listdir(copy)) == listed, "the data directory is only read"


def promote(s, file, into="shadow", code=0):
    done = millrace("replay", "promote", s.directory / into, "-c", file)
    assert done.returncode == code, done.err
    return done


def check_live(s, file, events, final_ms, open_rows=True):
    """Rows of the node itself: those of all events under the rules of file, final or open."""
    want = oracle(s, file, events)
    final = upto(want, final_ms)
    assert len(final) > 100
    until("rows are final", lambda: len(stored(s.directory / "data/results.db")) >= len(final))
    got = stored(s.directory / "data/results.db")
    assert got == final, (len(got), len(final), sorted(set(got.items()) ^ set(final.items()))[:4])
    if open_rows:
        assert sum(row["metrics"]["n"] for row in s.rows("views")) == sum(value[0] for value in want.values())


def test_promoted_rows_and_windows_go_on_as_if_the_rules_had_always_held():
    rng = random.Random(9)
    with server(config(kind="viwe")) as s:
        events = [event(i, rng) for i in range(9000)]
        final = lambda count: BASE + (count - 1) * 20
        post(s, events[:3000])
        right = write(s, "right.yaml", config())
        replay(s, right)
        post(s, events[3000:3710])  # behind the replay, and in the middle of a window
        assert "in use" in promote(s, right, code=1).err
        s.stop()
        other = write(s, "other.yaml", config(kind="click"))
        assert "streams or rules differ" in promote(s, other, code=78).err
        assert "right.yaml" not in promote(s, right).err
        s.configure(config())
        s.start()
        report, = s.reported("replayed")  # the tail alone
        assert report["checkpoint"] != "0" and report["events"] == "710" and not s.reported("results_rebuilt"), report
        assert not s.reported("rule_begins") and not s.reported("windows_dropped")
        check_live(s, right, events[:3710], final(3710))
        assert post(s, events[2900:3710])["duplicate"] == 810 and post(s, events[:50])["duplicate"] == 50
        post(s, events[3710:5000])
        check_live(s, right, events[:5000], final(5000))
        s.kill()
        s.start()
        check_live(s, right, events[:5000], final(5000))
        post(s, events[5000:6000])
        assert s.stop() == 0
        # From zero, without checkpoint and rows: the log alone says the same.
        for name in os.listdir(s.directory / "data"):
            if name.startswith("results.db"):
                (s.directory / "data" / name).unlink()
        for path in (s.directory / "data/checkpoint").iterdir():
            path.unlink()
        s.start()
        check_live(s, right, events[:6000], final(6000))
        assert post(s, events[:6000])["duplicate"] == 6000
        s.stop()
        # And the next change is one like any other.
        s.configure(config(kind="click"))
        s.start()
        post(s, events[6000:])
        until("rows of the changed rule", lambda: stored(s.directory / "data/results.db"))
        s.stop()
        replay(s, right, "again")
        assert check(s, right, events, "again") > 100


def test_a_promotion_that_was_killed_is_run_again():
    rng = random.Random(10)
    with server(config(kind="viwe")) as s:
        events = [event(i, rng) for i in range(20000)]
        post(s, events[:15000])
        right = write(s, "right.yaml", config())
        replay(s, right)
        post(s, events[15000:16010])
        s.stop()
        s.configure(config())
        killed = 0
        for i in range(20):
            child = subprocess.Popen([MILLRACE, "replay", "promote", str(s.directory / "shadow"), "-c", str(right)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.002 + rng.random() * 0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()
            if (s.directory / "data/PROMOTING").exists():
                killed += 1
                s.start(expect_failure=True)
                assert s.process.wait(GIVE_UP_S) == 1 and "run it again" in s.said()
        for steps in ("1", "2"):  # whatever the kills have hit
            (s.directory / "data/PROMOTING").write_text(steps + "\n")
            s.start(expect_failure=True)
            assert s.process.wait(GIVE_UP_S) == 1 and "run it again" in s.said()
            promote(s, right)
            assert not (s.directory / "data/PROMOTING").exists()
        s.start()
        check_live(s, right, events[:16010], BASE + 16009 * 20)
        post(s, events[16010:])
        assert post(s, events[15900:])["duplicate"] == 4100
        check_live(s, right, events, BASE + 19999 * 20)


def test_what_is_not_promoted():
    rng = random.Random(11)
    with server(config()) as s, server(config()) as other:
        post(s, [event(i, rng) for i in range(1000)])
        post(other, [event(i, rng) for i in range(10)])
        one = write(s, "one.yaml", config())
        replay(s, one)
        replay(other, write(other, "right.yaml", config()))
        s.stop()
        done = millrace("replay", "promote", other.directory / "shadow", "-c", one)
        assert done.returncode in (1, 78) and "replay again" in done.err, done.err
        assert millrace("replay", "promote", other.directory / "shadow").returncode == 2
        assert promote(s, one, "nothing", code=1).err
        path = s.directory / "shadow/REPLAY"
        path.write_text(path.read_text().replace("promotable 1", "promotable 0"))
        assert "replay again" in promote(s, one, code=78).err
        s.start()
        assert s.rows("views"), "nothing has changed"


if __name__ == "__main__":
    run(globals())
