# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints, retention and repair, against the real program.

Proves: a start loads the newest sound checkpoint and replays no more than what came after it, and everything that can
be asked is as it was: rows with their revisions, counters, dead letters, what was seen; open windows go on. A damaged
checkpoint is said and passed over; the log keeps what the older of two needs and no more than it may; what cannot be
made good is refused with a text that says what to do, and doing that works. Any number of shards loads any checkpoint.
"""
import collections
import contextlib
import http.client
import json
import random
import re
import shutil
import sqlite3
import threading
import time

from harness import GIVE_UP_S, check_ledger, run, server, until
from test_operation import millrace, refused, sha

E = "/v1/streams/s/events"
T0 = 1700000000000
HOUR_MS, DAY_MS = 3600000, 86400000
METRICS = "n: count, total: { sum: v }, low: { min: v }, high: { max: v }, mean: { avg: v }"
CONFIG = f"""
node: {{ data_dir: "@DIR@/data", shards: 2 }}
limits: {{ body: 256KiB, inflated: 256KiB, event: 64KiB, in_flight: 16MiB }}
log: {{ segment: 1280KiB, retain: off, retain_bytes: off }}
checkpoint: {{ every: 1d }}
streams:
  s:
    id: id
    time: {{ field: t, format: ms }}
    dedup: {{ mode: exact, horizon: 24h, ids: 300000 }}
    watermark: {{ out_of_orderness: 0s, idle_timeout: off }}
rules:
  narrow: {{ from: s, group_by: [k], window: {{ size: 10s }}, allowed_lateness: 20s, metrics: {{ {METRICS} }} }}
  wide: {{ from: s, window: {{ size: 1d }}, allowed_lateness: 30d, metrics: {{ {METRICS} }} }}
"""
TRIMMED = CONFIG.replace("retain_bytes: off", "retain_bytes: 2560KiB")


def instant(milliseconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"


class Feed:
    """Posts events, and knows what must come of them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = T0
        self.ids = []
        self.rows = {"narrow": {}, "wide": {}}
        self.counts = collections.Counter()
        self.dead = []

    def count(self, rule, event):
        size = 10000 if rule == "narrow" else DAY_MS
        key = (instant(event["t"] // size * size), event["k"] if rule == "narrow" else None)
        v = event["v"]
        n, total, low, high = self.rows[rule].get(key, (0, 0, v, v))
        self.rows[rule][key] = (n + 1, total + v, min(low, v), max(high, v))

    def event(self, name, at, pad):
        r = self.random
        self.ids.append(name)
        more = {"pad": pad} if pad else {}
        return {"id": name, "t": at, "k": f"k{r.randrange(5)}", "v": r.randrange(-50, 50), **more}

    def make(self, fresh, old, ancient, pad):
        batch = len(self.ids)
        made = []
        for i in range(fresh):
            self.now += 20
            made.append(self.event(f"e{batch + i}", self.now, pad))
            for rule in self.rows:
                self.count(rule, made[-1])
        for i in range(old):  # too late for one rule, after the first post
            made.append(self.event(f"old{batch + i}", self.now - HOUR_MS, None))
            self.count("wide", made[-1])
            self.dead.append((made[-1]["id"], ["narrow"]))
        for i in range(ancient):  # for all of them
            made.append(self.event(f"ancient{batch + i}", self.now - 100 * DAY_MS, None))
            self.dead.append((made[-1]["id"], ["narrow", "wide"]))
        return made

    def post(self, s, posts=1, fresh=40, duplicates=5, old=0, ancient=0, pad=None):
        for _ in range(posts):
            known = self.ids[:]
            made = self.make(fresh, old, ancient, pad)
            again = [{"id": name, "t": self.now, "k": "twice", "v": 1000} for name in
                     (self.random.sample(known, duplicates) if len(known) > duplicates else [])]
            sent = made + again
            self.random.shuffle(again)
            answer = s.post(E, "\n".join(map(json.dumps, sent)))
            assert answer.status == 200, answer
            want = {"received": len(sent), "accepted": len(made) - ancient, "duplicate": len(again),
                    "late": ancient, "rejected": 0}
            assert {k: answer.json[k] for k in want} == want, (answer, want)
            self.counts.update(want)
            self.counts["old"] += old

    def known(self, s, ids=None):
        """Every id that was acknowledged is a duplicate."""
        ids = self.ids if ids is None else ids
        for i in range(0, len(ids), 1000):
            some = [{"id": name, "t": self.now, "k": "again", "v": 1} for name in ids[i:i + 1000]]
            answer = s.post(E, "\n".join(map(json.dumps, some)))
            assert answer.status == 200 and answer.json["duplicate"] == len(some), answer
            self.counts.update(received=len(some), duplicate=len(some))

    def check_rows(self, s, rule):
        """Rows of a key may be of several shards where there is no group_by; they add up."""
        got = {}
        for row in s.rows(rule, state="all"):
            key, m = (row["window_start"], (row["key"] or {}).get("k")), row["metrics"]
            assert row["events"] == m["n"] and abs(m["mean"] * m["n"] - m["total"]) < 1e-6, row
            n, total, low, high = got.get(key, (0, 0, m["low"], m["high"]))
            got[key] = (n + m["n"], total + m["total"], min(low, m["low"]), max(high, m["high"]))
        want = self.rows[rule]
        assert got == want, (rule, sorted(got.items() - want.items())[:3], sorted(want.items() - got.items())[:3])

    def check(self, s):
        for rule in self.rows:
            self.check_rows(s, rule)
        received, accepted = check_ledger(s, "s")
        c = self.counts
        assert (received, accepted) == (c["received"], c["accepted"]), (received, accepted, c)
        verdict = lambda v: s.metric("millrace_events_total", stream="s", verdict=v)
        assert (verdict("duplicate"), verdict("late")) == (c["duplicate"], c["late"]), c
        outcome = lambda rule, o: s.metric("millrace_rule_events_total", rule=rule, outcome=o)
        assert outcome("narrow", "applied") == c["accepted"] - c["old"] and outcome("wide", "applied") == c["accepted"]
        assert outcome("narrow", "late") == c["old"] and outcome("wide", "late") == 0
        assert s.metric("millrace_dedup_ids", stream="s") == len(self.ids)
        got = [(e["event"]["id"], sorted(e["rules"])) for e in dead_letters(s)]
        assert sorted(got) == sorted(self.dead), (len(got), len(self.dead))


def dead_letters(s):
    entries, cursor = [], ""
    while True:
        page = s.get("/v1/dead-letters?limit=1000" + cursor).json
        entries += page["entries"]
        if not page["next_cursor"]:
            return entries
        cursor = "&cursor=" + page["next_cursor"]


COUNTERS = ("events_total", "events_received_total", "rule_events_total", "dedup_ids", "watermark_timestamp_seconds",
            "windows_open", "groups", "bundles_total", "batches_total")


def snapshot(s, feed):
    """All that a client can see of the state, to be compared as it is."""
    dead = dead_letters(s)  # and all before is written
    lines = s.get("/metrics").body.decode().splitlines()
    some = random.Random(1).sample(feed.ids, min(30, len(feed.ids)))
    return {
        "rows": {rule: sorted(map(json.dumps, s.rows(rule, state="all"))) for rule in feed.rows},
        "counters": sorted(line for line in lines if re.match("millrace_(" + "|".join(COUNTERS) + r")\b", line)),
        "seen": [s.get(f"{E}/{name}").json for name in some + ["never"]],
        "dead": dead,
    }


def same(s, feed, before):
    now = snapshot(s, feed)
    for part in before:
        assert now[part] == before[part], (part, now[part], before[part])
    feed.check(s)


def checkpoint(s):
    answer = s.request("POST", "/v1/checkpoint")
    assert answer.status == 200, answer
    return answer.json["checkpoint"], answer.json["seq"]


def replayed(s):
    """(bundles, checkpoint, from_seq) of this start."""
    report, = s.reported("replayed")
    assert s.metric("millrace_replayed_bundles_total") == int(report["bundles"])
    return tuple(int(report[key]) for key in ("bundles", "checkpoint", "from_seq"))


def files(s, begin):
    return sorted(f.name for f in (s.directory / "data/checkpoint").iterdir() if f.name.startswith(begin))


def segments(s):
    return sorted((s.directory / "data/log").glob("*.log"))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def counted(part):
    """What a part holds, without the zeros that fill its last block on disk."""
    return part.read_bytes().rstrip(b"\0")


@contextlib.contextmanager
def saved(s):
    """The stopped server's data directory, as often as wanted: each call of what it gives puts it back."""
    copy = s.directory / "copy"
    shutil.copytree(s.directory / "data", copy)

    def put_back():
        shutil.rmtree(s.directory / "data")
        shutil.copytree(copy, s.directory / "data")
    yield put_back
    shutil.rmtree(copy)


# ---- a start ----

def test_a_start_replays_what_came_after():
    feed = Feed(1)
    with server(CONFIG) as s:
        feed.post(s, 3)
        numbers = [checkpoint(s)]
        feed.post(s, 4, old=2, ancient=1)
        numbers.append(checkpoint(s))
        assert numbers[1][0] == numbers[0][0] + 1 and numbers[1][1] == numbers[0][1] + 4, numbers
        feed.post(s, 7, old=1, ancient=2)
        before = snapshot(s, feed)
        s.kill()
        s.start()
        assert replayed(s) == (7, *numbers[1])
        same(s, feed, before)
        s.kill()
        s.start()  # nothing was added meanwhile, and nothing is lost by looking
        assert replayed(s)[0] == 7
        same(s, feed, before)
        feed.post(s, 5, old=1, ancient=1)
        feed.known(s)
        feed.check(s)
        before = snapshot(s, feed)
        assert s.stop() == 0
        s.start()
        bundles, number, _ = replayed(s)
        assert bundles == 0 and number == numbers[1][0] + 1
        same(s, feed, before)
        feed.post(s, 2)
        feed.known(s)
        feed.check(s)


def test_many_starts_in_a_row():
    feed = Feed(2)
    with server(CONFIG) as s:
        r = random.Random(2)
        last = 0
        for i in range(7):
            feed.post(s, 1 + r.randrange(4), old=i > 0 and r.randrange(2), ancient=i > 0 and r.randrange(2))
            if r.random() < 0.5:
                number = checkpoint(s)[0]
                assert number > last
                last = number
                feed.post(s, r.randrange(3))
            before = snapshot(s, feed)
            s.kill() if r.random() < 0.6 else s.stop()
            s.start()
            same(s, feed, before)
        feed.known(s)
        feed.check(s)


def test_open_windows_go_on():
    config = CONFIG.replace("shards: 2", "shards: 1")
    event = lambda name, at, v: json.dumps({"id": name, "t": T0 + at, "k": "a", "v": v})
    with server(config) as s:
        for name, at, v in (("1", 1000, 5), ("2", 2000, -3)):
            assert s.post(E, event(name, at, v)).json["accepted"] == 1
        checkpoint(s)
        assert s.post(E, event("3", 3000, 40)).json["accepted"] == 1
        s.kill()
        s.start()
        assert s.post(E, event("4", 9000, 100)).json["accepted"] == 1
        row, = s.rows("narrow", state="all")
        assert row["metrics"] == {"n": 4, "total": 142, "low": -3, "high": 100, "mean": 35.5} and not row["final"], row
        checkpoint(s)
        assert s.post(E, event("5", 10000 + 12000, 1)).json["accepted"] == 1  # its end passes: a result, not final
        s.kill()
        s.start()
        assert s.post(E, event("6", 5000, 7)).json["accepted"] == 1  # within lateness: one more result
        assert s.post(E, event("7", 60000, 1)).json["accepted"] == 1
        assert s.post(E, event("8", 5000, 7)).json["accepted"] == 1  # too late here, not for the day
        row = s.rows("narrow", state="all")[0]
        assert row["final"] and row["metrics"]["total"] == 149 and row["events"] == 5, row
        assert s.stop() == 0
        with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
            assert db.execute("select events, total, final from narrow where window_start_ms = ?",
                              (T0,)).fetchall() == [(5, 149, 1)]


def bearer(token):
    return {"Authorization": "Bearer " + token}


def test_who_may():
    tokens = "\n".join(f"    {n}: {{ sha256: {sha(n)}, allow: [{a}] }}" for n, a in
                       (("in", "ingest"), ("out", "query"), ("boss", "admin")))
    with server(CONFIG + f"auth:\n  tokens:\n{tokens}\n") as s:
        ask = lambda token: s.request("POST", "/v1/checkpoint", headers=bearer(token) if token else {}).status
        assert [ask(t) for t in (None, "nobody", "in", "out", "boss")] == [401, 401, 403, 403, 200]
        answer = s.get("/v1/checkpoint", headers=bearer("boss"))
        assert answer.status == 405 and answer.headers["Allow"] == "POST", answer


def test_two_are_kept():
    feed = Feed(3)
    with server(CONFIG) as s:
        for _ in range(6):
            feed.post(s, 2)
            number, _ = checkpoint(s)
        kept = [f"manifest-{n:016}" for n in (number - 1, number)]
        assert files(s, "manifest") == kept
        assert len(files(s, "part")) == 2 * 2 + 2, files(s, "")  # groups of two, by shard; ids by shard
        s.kill()
        folder = s.directory / "data/checkpoint"
        (folder / "part-0000000000000255").write_bytes(b"left over")
        (folder / "manifest.tmp").write_bytes(b"half")
        s.start()
        feed.check(s)
        assert files(s, "manifest") == kept and len(files(s, "part")) == 6, files(s, "")
        for _ in range(3):
            feed.post(s, 2)
            assert checkpoint(s)[0] > number
        assert len(files(s, "manifest")) == 2 and len(files(s, "part")) == 2 * 2 + 4, files(s, "")


MANY = "  many: { from: s, group_by: [g], window: { size: 1d }, allowed_lateness: 30d, metrics: { n: count } }\n"
GROUPS = 60000


def test_acknowledgements_keep_coming():
    """Also while many groups are saved: as they were, not as they have become meanwhile."""
    with server(CONFIG.replace("shards: 2", "shards: 1") + MANY) as s:
        event = lambda name, group: {"id": name, "t": T0, "g": group, "k": "k", "v": 1}
        truth = collections.Counter()
        for i in range(0, GROUPS, 2000):
            some = [event(f"first{k}", f"g{k}") for k in range(i, i + 2000)]
            assert s.post(E, "\n".join(map(json.dumps, some))).json["accepted"] == 2000
            truth.update(e["g"] for e in some)
        acknowledged, unanswered, slowest = [], [], []

        def client(number):
            r = random.Random(number)
            connection, i, worst = s.connect(), 0, 0.0
            while True:
                sent = [event(f"{number}-{i}-{k}", f"g{r.randrange(GROUPS)}") for k in range(50)]
                i += 1
                began = time.monotonic()
                try:
                    answer = s.post(E, "\n".join(map(json.dumps, sent)), connection=connection)
                except (OSError, http.client.HTTPException):
                    unanswered.extend(sent)
                    slowest.append(worst)
                    return
                worst = max(worst, time.monotonic() - began)
                assert answer.status == 200 and answer.json["accepted"] == 50, answer
                acknowledged.extend(sent)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        seen, numbers = [], []
        for _ in range(6):
            before = len(acknowledged)
            numbers.append(checkpoint(s)[0])
            until("answers", lambda: len(acknowledged) > before)
            seen.append(len(acknowledged))
        assert s.metric("millrace_checkpoint_failures_total") == 0
        numbers.append(checkpoint(s)[0])
        s.kill()  # in the middle of it all, right behind a checkpoint
        for t in threads:
            t.join()
        assert len(slowest) == 3 and max(slowest) < GIVE_UP_S / 2, slowest  # nobody was left to hang
        assert numbers == sorted(set(numbers)) and seen == sorted(set(seen))
        s.start()
        assert replayed(s)[1] == numbers[-1]
        assert s.post(E, "\n".join(map(json.dumps, unanswered))).status == 200  # what a client does
        truth.update(e["g"] for e in acknowledged + unanswered)
        assert {row["key"]["g"]: row["events"] for row in s.rows("many", state="all")} == truth
        ids = [f"first{k}" for k in range(0, GROUPS, 100)] + [e["id"] for e in acknowledged]
        for i in range(0, len(ids), 1000):
            some = "\n".join(json.dumps(event(x, "again")) for x in ids[i:i + 1000])
            assert s.post(E, some).json["duplicate"] == len(ids[i:i + 1000])


# ---- damage ----

def two_checkpoints(s, feed):
    """Two of them, with things before, between and behind."""
    feed.post(s, 4)
    older = checkpoint(s)
    feed.post(s, 3, old=1, ancient=1)
    newer = checkpoint(s)
    feed.post(s, 2, old=1, ancient=1)
    before = snapshot(s, feed)
    s.kill()
    return older, newer, before


def kinds(s):
    """The parts by kind, 1 or 2: of each the numbers, ascending."""
    found = {}
    for name in files(s, "part"):
        data = (s.directory / "data/checkpoint" / name).read_bytes()
        found.setdefault(int.from_bytes(data[8:12], "little"), []).append(name)
    return found


def test_a_damaged_one_is_passed_over():
    feed = Feed(5)
    with server(CONFIG) as s:
        older, newer, before = two_checkpoints(s, feed)
        folder = s.directory / "data/checkpoint"
        newest = folder / files(s, "manifest")[-1]
        by_kind = kinds(s)
        ids, groups = sorted(by_kind.values(), key=len)
        assert len(ids) == 2 and len(groups) == 4, by_kind
        own = folder / groups[-1]  # of the newest alone
        damages = {
            "a byte in the middle": lambda: flip(newest, newest.stat().st_size // 2),
            "its last byte": lambda: flip(newest, newest.stat().st_size - 1),
            "empty": lambda: newest.write_bytes(b""),
            "groups, a byte": lambda: flip(own, len(counted(own)) - 20),
            "groups, the header": lambda: flip(own, 16),
            "groups, missing": own.unlink,
            "ids, the last byte": lambda: flip(folder / ids[0], len(counted(folder / ids[0])) - 1),
            "ids, cut short": lambda: (folder / ids[1]).write_bytes(counted(folder / ids[1])[:-8]),
        }
        with saved(s) as put_back:
            for name, damage in damages.items():
                put_back()
                damage()
                s.start()
                report, = s.reported("checkpoint_damaged")
                assert report["number"] == str(newer[0]) and str(folder) in report["reason"], (name, report)
                assert replayed(s) == (5, *older), name
                same(s, feed, before)
                assert checkpoint(s)[0] == newer[0] + 1, name
                s.kill()
            put_back()
            newest.write_bytes(b"")
            s.start()
            s.kill()
            s.start()  # the damaged one is gone, and not missed
            assert not s.reported("checkpoint_damaged") and replayed(s) == (5, *older)
            feed.post(s, 1)
            checkpoint(s)
            s.kill()
            s.start()
            assert replayed(s)[0] == 0
            feed.known(s)
            feed.check(s)


def test_all_damaged_and_the_log_whole():
    feed = Feed(6)
    with server(CONFIG) as s:
        older, newer, before = two_checkpoints(s, feed)
        folder = s.directory / "data/checkpoint"
        manifests = [folder / name for name in files(s, "manifest")]
        ids = sorted(kinds(s).values(), key=len)[0]
        with saved(s) as put_back:
            for damage in (lambda: [flip(m, 40) for m in manifests], lambda: flip(folder / ids[0], 20),
                           lambda: flip(folder / ids[1], 4096 + 60)):
                put_back()
                damage()
                s.start()
                assert sorted(r["number"] for r in s.reported("checkpoint_damaged")) == [str(older[0]), str(newer[0])]
                assert replayed(s) == (9, 0, 0)
                same(s, feed, before)
                s.kill()
            put_back()
            shutil.rmtree(folder)  # a directory that is gone is nothing to report
            s.start()
            assert replayed(s) == (9, 0, 0) and "checkpoint_damaged" not in s.said()
            same(s, feed, before)
            number = checkpoint(s)
            s.kill()
            s.start()
            assert replayed(s) == (0, *number)
            same(s, feed, before)
            feed.known(s)


# ---- retention ----

PAD = "x" * 5000


def first_lsn(path):
    return int(path.name.split("-")[0])


def fill(s, feed, posts=7):
    """About a segment of posts (a record a post: here lsn and seq are equal), and a checkpoint."""
    if not feed.ids:
        feed.post(s, 1)
    feed.post(s, posts, fresh=40, duplicates=1, old=1, ancient=1, pad=PAD)
    return checkpoint(s)


def test_old_segments_go():
    feed = Feed(7)
    with server(TRIMMED) as s:
        feed.post(s, 25, pad=PAD)  # four segments, more than may be taken
        assert len(segments(s)) >= 4
        made = [checkpoint(s)]
        feed.post(s, 1)
        assert first_lsn(segments(s)[0]) == 1, "one checkpoint alone keeps all of the log"
        for _ in range(5):
            made.append(fill(s, feed))
            needed = made[-2][1] + 1

            def trimmed():
                found = segments(s)
                assert first_lsn(found[0]) <= needed, (found, needed)
                return first_lsn(found[1]) > needed or sum(f.stat().st_size for f in found) <= 2560 << 10
            until("old segments go", trimmed)
        assert first_lsn(segments(s)[0]) > 25
        feed.post(s, 3, ancient=1)
        before = snapshot(s, feed)
        s.kill()
        with saved(s) as put_back:
            s.start()
            assert replayed(s) == (3, *made[-1])
            same(s, feed, before)
            feed.known(s)
            s.kill()
            put_back()
            flip(s.directory / "data/checkpoint" / files(s, "manifest")[-1], 50)
            feed.counts.update(received=-len(feed.ids), duplicate=-len(feed.ids))
            s.start()
            assert replayed(s)[1:] == made[-2]
            same(s, feed, before)


def trimmed_log(s, feed):
    for _ in range(4):
        fill(s, feed)
    until("old segments go", lambda: first_lsn(segments(s)[0]) > 1)
    feed.post(s, 2)
    s.kill()


def test_nothing_sound_and_the_log_trimmed():
    feed = Feed(8)
    with server(TRIMMED) as s:
        trimmed_log(s, feed)
        folder = s.directory / "data/checkpoint"
        for name in files(s, "manifest"):
            flip(folder / name, 50)
        begins = first_lsn(segments(s)[0])
        said = refused(s, 1, f"{s.directory}/data/log", f"begins at lsn {begins}", "lsn 1 is needed", "restore")
        assert len(s.reported("checkpoint_damaged")) == 2 and files(s, "manifest")[-1] in said, said
        command = re.search(r"`millrace (log repair [^`]+)`", said).group(1).split()
        assert refused(s, 1, "lsn 1 is needed")  # the same again: nothing was touched
        done = millrace(*command)
        assert done.returncode == 0 and f"{begins - 1}" in done.out, (done.out, done.err)
        s.start()  # what is left is counted, and what is not is said
        gap, = s.reported("log_gap")
        assert gap["lsn"] == "1", gap
        rows = s.rows("wide", state="all")
        assert 0 < sum(r["events"] for r in rows) < feed.counts["accepted"]
        assert s.post(E, json.dumps({"id": feed.ids[-1], "t": T0, "k": "k", "v": 1})).json["duplicate"] == 1


def test_needed_segments_that_are_missing():
    feed = Feed(9)
    with server(CONFIG) as s:
        for _ in range(3):
            fill(s, feed)
        number = checkpoint(s)
        feed.post(s, 14, fresh=40, pad=PAD)  # over the segments behind the checkpoint
        before = snapshot(s, feed)
        s.kill()
        log = s.directory / "data/log"
        behind = [f for f in segments(s) if first_lsn(f) > number[1] + 1]
        below = [f for f in segments(s) if first_lsn(f) <= number[1]][:-1]
        assert len(behind) >= 2 and len(below) >= 1, segments(s)
        with saved(s) as put_back:
            behind[0].unlink()
            refused(s, 1, str(log), str(first_lsn(behind[0])), "millrace log repair")
            put_back()
            for f in segments(s)[segments(s).index(behind[0]) - 1:]:
                f.unlink()
            refused(s, 1, str(log), f"lsn {number[1]} is needed", "last segments are missing")
            put_back()
            for f in segments(s):
                f.unlink()
            refused(s, 1, str(log), f"lsn {number[1]} is needed", "the log files are missing; restore them")
            put_back()
            below[0].unlink()  # not needed any more
            s.start()
            assert replayed(s) == (14, *number)
            same(s, feed, before)
            s.kill()
            put_back()
            flip(below[0], 4096 + 300)  # nor is what stands in it
            s.start()
            same(s, feed, before)


def test_a_log_of_another_directory():
    feed, other = Feed(10), Feed(11)
    with server(CONFIG) as s, server(CONFIG) as t:
        for server_, feed_ in ((s, feed), (t, other)):
            feed_.post(server_, 3)
            checkpoint(server_)
            server_.kill()
        shutil.rmtree(s.directory / "data/log")
        shutil.copytree(t.directory / "data/log", s.directory / "data/log")
        refused(s, 78, f"{s.directory}/data/checkpoint", "another log", "put back")


# ---- repair ----

def find(s, name):
    """(segment, offset) where an id stands in the log."""
    for f in segments(s):
        at = f.read_bytes().find(f'"{name}"'.encode())
        if at >= 0:
            return f, at
    raise AssertionError(name)


def test_repair():
    feed = Feed(12)
    lost = [f"lost{i}" for i in range(3)]
    with server(CONFIG) as s:
        feed.post(s, 3)
        number = checkpoint(s)
        feed.post(s, 2)
        answer = s.post(E, "\n".join(json.dumps({"id": x, "t": feed.now, "k": "lost", "v": 1}) for x in lost))
        assert answer.json["accepted"] == 3, answer
        feed.post(s, 2, ancient=1)
        s.kill()
        file, at = find(s, "lost1")
        flip(file, at)
        said = refused(s, 1, file.name, "offset", "millrace log repair")
        command = re.search(r"`millrace (log repair [^`]+)`", said).group(1).split()
        assert command[2] == str(s.directory / "data/log"), command
        with saved(s) as put_back:
            done = millrace(*command)
            assert done.returncode == 0 and file.name in done.out and "quarantine" in done.out, (done.out, done.err)
            put_back()
        done = millrace("log", "repair", s.directory / "data", "--json")  # the directory above will do
        findings = [json.loads(line) for line in done.out.splitlines()]
        assert done.returncode == 0 and len(findings) == 2, (done.out, done.err)
        kept = [f for f in (s.directory / "data/log").rglob("*") if f.is_file() and f not in segments(s)]
        assert len(kept) == 1 and b"lost2" in kept[0].read_bytes() and kept[0].name in done.out, (kept, done.out)
        s.start()
        gap, = s.reported("log_gap")
        assert gap["lsn"] == str(number[1] + 3), (gap, number)
        assert replayed(s)[1:] == number
        feed.check(s)
        feed.known(s)
        done = millrace("log", "repair", s.directory / "data")
        assert done.returncode == 1 and "in use" in done.err, (done.out, done.err)
        done = millrace("log", "repair", s.directory / "data/log")
        assert done.returncode == 1 and "in use" in done.err, (done.out, done.err)
        answer = s.post(E, "\n".join(json.dumps({"id": x, "t": feed.now, "k": "lost", "v": 1}) for x in lost))
        assert answer.json["accepted"] == 3, "what was lost is new"
        assert s.stop() == 0
        s.start()
        assert not s.reported("log_gap") and replayed(s)[0] == 0
        assert s.stop() == 0
        done = millrace("log", "repair", s.directory / "data")
        assert done.returncode == 0, (done.out, done.err)
        s.start()
        assert sum(r["events"] for r in s.rows("wide", state="all")) == feed.counts["accepted"] + 3


def test_repair_of_what_a_checkpoint_holds():
    feed = Feed(13)
    with server(CONFIG) as s:
        feed.post(s, 5)
        name = feed.ids[90]
        number = checkpoint(s)
        feed.post(s, 2)
        before = snapshot(s, feed)
        s.kill()
        flip(*find(s, name))
        refused(s, 1, "millrace log repair")  # of the segment in which replay begins, all is read
        assert millrace("log", "repair", s.directory / "data").returncode == 0
        s.start()
        assert replayed(s) == (2, *number)
        same(s, feed, before)
        feed.known(s)


# ---- shards, results ----

def by_window(s, feed):
    totals = {}
    for rule in feed.rows:
        for row in s.rows(rule, state="all"):
            key = (rule, row["window_start"], json.dumps(row["key"]))
            n, total = totals.get(key, (0, 0))
            totals[key] = (n + row["events"], total + row["metrics"]["total"])
    return totals


def test_another_number_of_shards():
    feed = Feed(14)
    with server(CONFIG) as s:
        feed.post(s, 8, old=0)
        for shards in (3, 1, 5, 2):
            checkpoint(s)
            feed.post(s, 3, old=1, ancient=1)
            totals = by_window(s, feed)
            s.kill() if shards != 5 else s.stop()
            s.configure(CONFIG.replace("shards: 2", f"shards: {shards}"))
            s.start()
            assert replayed(s)[0] == (3 if shards != 5 else 0)
            assert by_window(s, feed) == totals, shards
            feed.check(s)
            feed.known(s)
            feed.post(s, 2)
            feed.check(s)
            s.kill()  # before the next checkpoint: the one of the other number once more
            s.start()
            feed.check(s)
            feed.known(s)


def without_results(s):
    for name in ("results.db", "results.db-wal", "results.db-shm"):
        (s.directory / "data" / name).unlink(missing_ok=True)


def test_results_deleted():
    feed = Feed(15)
    with server(CONFIG) as s:
        for _ in range(3):
            feed.post(s, 20)
            checkpoint(s)
        feed.post(s, 2, ancient=1, old=1)
        before = snapshot(s, feed)
        final = [row for row in s.rows("narrow", state="all") if row["final"]]
        assert len(final) > 4
        s.kill()
        without_results(s)
        s.start()
        assert len(s.reported("results_rebuilt")) == 1 and replayed(s) == (62, 0, 0), s.said()
        same(s, feed, before)
        checkpoint(s)
        s.kill()
        s.start()
        assert replayed(s)[0] == 0
        same(s, feed, before)


def test_results_deleted_and_the_log_trimmed():
    feed = Feed(16)
    with server(TRIMMED) as s:
        trimmed_log(s, feed)
        without_results(s)
        s.start()
        report, = s.reported("results_incomplete")
        assert int(report["have"]) == 0 and int(report["need"]) > 0, report
        feed.check_rows(s, "wide")  # open windows are of the checkpoint, whatever became of the store
        got = {(r["window_start"], r["key"]["k"]): r["events"] for r in s.rows("narrow", state="all")}
        want = {key: row[0] for key, row in feed.rows["narrow"].items()}
        assert got.items() <= want.items() and 0 < len(got), "some final ones are missing, none is wrong"
        feed.known(s)
        feed.post(s, 15)  # windows end, and the store goes on
        dead_letters(s)
        feed.check_rows(s, "wide")
        s.kill()
        s.start()
        assert "results_incomplete" not in s.said(), s.said()
        feed.check_rows(s, "wide")


if __name__ == "__main__":
    run(globals())
