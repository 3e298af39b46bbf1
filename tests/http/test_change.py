# SPDX-License-Identifier: Apache-2.0
"""
A configuration that changes on existing data, against the real program; each change both behind a stop and behind a
kill that leaves a tail of the log to be replayed under the configuration it was taken with.

Proves: what was acknowledged before a change is a duplicate behind it; each rule has counted exactly what came since
it began; a rule that is not touched is as it was to the last revision; one that begins anew leaves its table in
results.db; what was final stays final under every lateness; what may not change is refused with 78 and a text, and
going back works. A kill while a change is made, several changes in a row, a damaged checkpoint and an old results.db
change nothing of that.
"""
import collections
import contextlib
import json
import random
import shutil
import sqlite3
import threading
import time

from harness import run, server
from test_checkpoint import checkpoint, dead_letters, files, flip, instant, replayed, without_results
from test_operation import refused

T0 = 1700000000000
DAY_MS = 86400000
STREAM = "id: {id}, time: {{ field: {time}, format: ms }}, dedup: {{ {dedup} }}, " \
         "watermark: {{ out_of_orderness: {behind}, idle_timeout: off }}"
EXACT = "mode: exact, horizon: 24h, ids: 50000"
KEYED = "from: s, group_by: [k], window: { size: 10s }, allowed_lateness: 20s, " \
        "metrics: { n: count, total: { sum: v } }"
DAY = "from: s, window: { size: 1d }, allowed_lateness: 30d, metrics: { n: count, total: { sum: v } }"
RULES = {"keyed": KEYED, "day": DAY}


def stream(id="id", time="t", dedup=EXACT, behind="0s"):
    return STREAM.format(id=id, time=time, dedup=dedup, behind=behind)


def config(rules=None, streams=None, shards=2, log="segment: 1280KiB", limits="event: 64KiB", more=""):
    named = lambda things: "".join(f"  {name}: {{ {text} }}\n" for name, text in things.items())
    return f"""
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
limits: {{ body: 256KiB, inflated: 256KiB, in_flight: 16MiB, {limits} }}
log: {{ {log} }}
checkpoint: {{ every: 1d }}
{more}
streams:
{named(streams or {"s": stream()})}
rules:
{named(rules or RULES)}"""


class Life:
    """Posts events to a server whose configuration changes, and knows what each rule must have counted."""

    def __init__(self, s, seed):
        self.s, self.random = s, random.Random(seed)
        self.now = T0
        self.ids = collections.defaultdict(list)  # by stream
        self.rules = {}  # name: (window size, key field, stream)
        self.rows = {}   # name: {(window start, key): [events, total]}
        for name, size, key in (("keyed", 10000, "k"), ("day", DAY_MS, None)):
            self.begins(name, size, key)

    def begins(self, name, size, key, of="s"):
        self.rules[name] = (size, key, of)
        self.rows[name] = collections.defaultdict(lambda: [0, 0])

    def ends(self, name):
        del self.rules[name], self.rows[name]

    def counts(self, event, of):
        for name, (size, key, stream_) in self.rules.items():
            if stream_ == of:
                row = self.rows[name][event["t"] // size * size, event[key] if key else None]
                row[0] += 1
                row[1] += event["v"]

    def post(self, posts=1, fresh=20, of="s"):
        for _ in range(posts):
            ids, made = self.ids[of], []
            again = self.random.sample(ids, min(len(ids), 3))
            for _ in range(fresh):
                self.now += 100
                made.append({"id": f"{of}{len(ids)}", "t": self.now, "k": f"k{self.random.randrange(3)}",
                             "j": f"j{self.random.randrange(2)}", "v": self.random.randrange(100)})
                ids.append(made[-1]["id"])
                self.counts(made[-1], of)
            again = [{"id": x, "t": self.now, "k": "twice", "j": "twice", "v": 10000} for x in again]
            answer = self.send(made + again, of)
            assert (answer["accepted"], answer["duplicate"]) == (fresh, len(again)), answer

    def send(self, events, of="s"):
        answer = self.s.post(f"/v1/streams/{of}/events", "\n".join(map(json.dumps, events)))
        assert answer.status == 200, answer
        return answer.json

    def known(self):
        for of, ids in self.ids.items():
            if ids:
                answer = self.send([{"id": x, "t": self.now, "k": "again", "j": "again", "v": 1} for x in ids], of)
                assert answer["duplicate"] == len(ids), (of, answer)

    def got(self, name):
        got = {}
        for row in self.s.rows(name, state="all"):
            key = (row["window_start"], next(iter((row["key"] or {}).values()), None))
            events, total = got.get(key, (0, 0))
            got[key] = (events + row["events"], total + row["metrics"].get("total", 0))
        return got

    def want(self, name):
        return {(instant(start), key): tuple(row) for (start, key), row in self.rows[name].items()}

    def check(self):
        """Totals are exact, and what was acknowledged is known."""
        for name in self.rules:
            got, want = self.got(name), self.want(name)
            assert got == want, (name, sorted(got.items() - want.items())[:4], sorted(want.items() - got.items())[:4])
        self.known()

    def end(self, kill):
        """The process ends: by a stop, or by a kill behind a checkpoint and a tail."""
        if kill:
            checkpoint(self.s)
            self.post(2)
            self.s.kill()
        else:
            assert self.s.stop() == 0

    def begin(self, text):
        self.s.configure(text)
        self.s.start()


@contextlib.contextmanager
def life(text=None, seed=1, posts=12):
    with server(text or config()) as s:
        one = Life(s, seed)
        one.post(posts)
        yield one


def both_ways(test):
    def ways():
        for kill in (False, True):
            test(kill)
    ways.__name__ = test.__name__
    return ways


def exactly(s, name):
    dead_letters(s)  # a question behind all that was asked before
    return sorted(map(json.dumps, s.rows(name, state="all")))


def in_file(s, table, key=None):
    """{(window start, key): (events, final)} of a table, as anybody would read it."""
    with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
        got = {}
        for start, value, events, final in db.execute(
                f'select window_start_ms, {key or "null"}, events, final from "{table}"'):
            before = got.get((start, value), (0, 1))
            got[start, value] = (before[0] + events, min(before[1], final))
        return got


def tables(s):
    with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
        return sorted(name for name, in db.execute("select name from sqlite_master where type = 'table'")
                      if name not in ("panes", "millrace_meta") and not name.startswith("sqlite"))


def fired(rows, size, watermark):
    """What a table must hold: windows whose end has been reached."""
    return {key: row[0] for key, row in rows.items() if key[0] + size <= watermark}


def events_of(table):
    return {key: events for key, (events, _) in table.items()}


# ---- rules ----

@both_ways
def test_rule_added(kill):
    with life() as l:
        l.end(kill)
        l.s.start()
        before = {name: exactly(l.s, name) for name in RULES}
        assert l.s.stop() == 0
        l.begin(config({**RULES, "added": KEYED.replace("10s", "4s")}))
        report, = l.s.reported("rule_begins")
        assert report["rule"] == "added" and report["reason"] == "it is new", report
        assert l.s.rows("added", state="all") == []
        assert {name: exactly(l.s, name) for name in RULES} == before
        l.begins("added", 4000, "k")
        l.post(5)
        l.check()
        l.end(kill)
        l.s.start()
        assert not l.s.reported("rule_begins")
        l.check()


@both_ways
def test_rule_removed_and_brought_back(kill):
    with life() as l:
        l.end(kill)
        keyed, watermark = l.rows["keyed"], l.now
        l.begin(config({"day": DAY}))
        report, = l.s.reported("configuration_lost")
        assert (report["streams"], report["rules"]) == ("0", "1"), report
        assert l.s.reported("windows_dropped")
        assert l.s.get("/v1/rules/keyed").status == 404
        l.ends("keyed")
        l.post(4)
        l.check()
        assert events_of(in_file(l.s, "keyed", "k")) == fired(keyed, 10000, watermark)
        l.end(kill)
        l.begin(config())
        assert [r["rule"] for r in l.s.reported("rule_begins")] == ["keyed"]
        l.begins("keyed", 10000, "k")
        l.post(8)
        l.check()
        dead_letters(l.s)
        assert events_of(in_file(l.s, "keyed:0", "k")) == fired(keyed, 10000, watermark)
        assert events_of(in_file(l.s, "keyed", "k")) == fired(l.rows["keyed"], 10000, l.now)
        assert tables(l.s) == ["day", "keyed", "keyed:0"]


CHANGED = {  # what is written, then its window and key
    "metrics": (KEYED.replace("n: count", "n: count, most: { max: v }"), 10000, "k"),
    "a metric's name": (KEYED.replace("n: count", "m: count"), 10000, "k"),
    "window": (KEYED.replace("10s", "6s"), 6000, "k"),
    "group_by": (KEYED.replace("[k]", "[j]"), 10000, "j"),
}


@both_ways
def test_rule_begins_anew(kill):
    for name, (text, size, key) in list(CHANGED.items())[kill::2]:
        with life() as l:
            l.end(kill)
            keyed, watermark = l.rows["keyed"], l.now
            l.s.start()
            day = exactly(l.s, "day")
            l.s.kill()
            l.begin(config({**RULES, "keyed": text}))
            report, = l.s.reported("rule_begins")
            assert report["rule"] == "keyed" and report["reason"] == "its definition changed", (name, report)
            assert l.s.rows("keyed", state="all") == [] and exactly(l.s, "day") == day, name
            l.begins("keyed", size, key)
            l.post(8)
            l.check()
            dead_letters(l.s)
            assert events_of(in_file(l.s, "keyed:0", "k")) == fired(keyed, 10000, watermark), name
            assert events_of(in_file(l.s, "keyed", key)) == fired(l.rows["keyed"], size, l.now), name
            generation, keyed, watermark = report["generation"], l.rows["keyed"], l.now
            l.s.kill()
            l.begin(config())  # back: a third generation
            l.begins("keyed", 10000, "k")
            l.post(8)
            l.check()
            assert tables(l.s) == ["day", "keyed", "keyed:0", f"keyed:{generation}"], name
            assert events_of(in_file(l.s, f"keyed:{generation}", key)) == fired(keyed, size, watermark), name


@both_ways
def test_rules_in_another_order(kill):
    with life() as l:
        l.end(kill)
        l.s.start()
        before = {name: exactly(l.s, name) for name in RULES}
        l.s.kill()
        l.begin(config({"first": KEYED, "day": DAY, "keyed": KEYED}, {"t": stream(), "s": stream()}))
        assert {name: exactly(l.s, name) for name in RULES} == before
        l.begins("first", 10000, "k")
        l.post(3)
        l.check()


# ---- time ----

def lateness(value):
    return config({**RULES, "keyed": KEYED.replace("20s", value)})


def late(l, name, at):
    """Sends one event that is behind; whether `keyed` took it (the day always does)."""
    before = len([e for e in dead_letters(l.s) if e["rules"] == ["keyed"]])
    event = {"id": name, "t": at, "k": "late", "j": "late", "v": 1}
    answer = l.send([event])
    assert answer["accepted"] == 1, answer
    l.ids["s"].append(name)
    taken = len([e for e in dead_letters(l.s) if e["rules"] == ["keyed"]]) == before
    for rule in ("keyed", "day") if taken else ("day",):
        size, key, _ = l.rules[rule]
        row = l.rows[rule][at // size * size, event[key] if key else None]
        row[0], row[1] = row[0] + 1, row[1] + 1
    return taken


@both_ways
def test_lateness_longer(kill):
    with life(posts=30) as l:  # 60 s: windows that end up to 40 s are final
        l.end(kill)
        edge = (l.now - 20000) // 10000 * 10000
        final = {r["window_start"] for r in l.s.start().rows("keyed", state="all") if r["final"]}
        assert final == {instant(at) for at in range(T0, edge, 10000)}
        l.s.kill()
        l.begin(lateness("50s"))
        assert {r["window_start"] for r in l.s.rows("keyed", state="all") if r["final"]} == final
        assert not late(l, "a", edge - 1) and late(l, "b", edge)  # what was final is not opened again
        l.post((edge + 60000 - l.now) // 2000 - 1)  # what was open then is open for 50 s
        assert late(l, "c", edge)
        l.check()
        l.post(3)
        assert not late(l, "d", edge) and late(l, "e", edge + 20000)
        l.check()
        l.end(kill)
        l.s.start()
        l.check()


@both_ways
def test_lateness_shorter(kill):
    with life(posts=30) as l:
        assert late(l, "a", l.now - 15000)
        l.end(kill)
        l.begin(lateness("0s"))
        edge = l.now // 10000 * 10000
        l.known()
        rows = l.s.rows("keyed", state="all")
        assert {r["window_start"] for r in rows if not r["final"]} <= {instant(edge)}, "what is over becomes final"
        assert {r["window_start"] for r in rows if r["final"]} == {instant(at) for at in range(T0, edge, 10000)}
        assert not late(l, "b", edge - 1) and late(l, "c", edge)
        l.check()
        table = in_file(l.s, "keyed", "k")
        assert table and all(is_final for _, is_final in table.values())
        assert events_of(table) == fired(l.rows["keyed"], 10000, l.now)
        l.end(kill)
        l.begin(lateness("1h"))  # and back, and longer: still final
        assert not late(l, "d", edge - 1)
        l.post(10)
        assert late(l, "e", edge + 5000)
        l.check()


@both_ways
def test_late_data_kept_back(kill):
    """With late panes off the file has what came late once its window is final: also if a change makes it so, or turns
    late panes on."""
    quiet = {**RULES, "keyed": KEYED + ", trigger: { late: false }"}
    for change in (lateness("0s").replace("total: { sum: v } }", "total: { sum: v } }, trigger: { late: false }"),
                   lateness("20s")):
        with life(config(quiet), posts=30) as l:
            at = l.now - 10000
            place = at // 10000 * 10000, "late"
            assert late(l, "a", at)
            l.post(1)
            checkpoint(l.s)
            assert place not in in_file(l.s, "keyed", "k"), "kept back"
            l.end(kill)
            l.begin(change)
            for _ in range(2):
                events, final = in_file(l.s, "keyed", "k")[place]
                assert (events, final) == (1, int("late: false" in change))
                assert events_of(in_file(l.s, "keyed", "k")) == fired(l.rows["keyed"], 10000, l.now)
                l.check()
                l.s.kill()
                l.s.start()
            l.post(20)
            l.check()
            assert l.s.stop() == 0
            assert events_of(in_file(l.s, "keyed", "k")) == fired(l.rows["keyed"], 10000, l.now)


@both_ways
def test_out_of_orderness(kill):
    with life(posts=30) as l:
        mark = lambda: round(l.s.metric("millrace_watermark_timestamp_seconds", stream="s") * 1000)
        l.end(kill)
        before = l.now
        l.begin(config(streams={"s": stream(behind="30s")}))
        assert mark() == before, "a watermark never goes back"
        edge = (l.now - 20000) // 10000 * 10000
        assert not late(l, "a", edge - 1) and late(l, "b", edge)
        l.post(10)
        assert mark() == before
        l.post(10)
        assert mark() == l.now - 30000
        l.check()
        l.end(kill)
        l.begin(config(streams={"s": stream(behind="5s")}))
        l.known()
        l.post(1)
        assert mark() == l.now - 5000
        l.check()


@both_ways
def test_another_time_field(kill):
    with life() as l:
        l.end(kill)
        l.begin(config(streams={"s": stream(time="u")}))
        for name in l.rules:
            assert l.got(name) == l.want(name), name
        event = {"id": "u1", "t": 5, "u": l.now + 100, "k": "k1", "j": "j1", "v": 1}
        assert l.send([event])["accepted"] == 1
        l.counts({**event, "t": event["u"]}, "s")
        checkpoint(l.s)
        l.s.kill() if kill else l.s.stop()
        l.begin(config())
        l.ids["s"].append("u1")
        l.check()
        l.post(2)
        l.check()


@both_ways
def test_fewer_groups(kill):
    with life() as l:
        crowd = [{"id": f"c{i}", "t": l.now, "k": f"crowd{i}", "j": "j", "v": 1} for i in range(500)]
        assert l.send(crowd)["accepted"] == 500
        for event in crowd:
            l.ids["s"].append(event["id"])
            l.counts(event, "s")
        l.end(kill)
        for groups in ("max: 2", "bytes: 64KiB", "max: 2, when_full: drop"):
            l.begin(config({**RULES, "keyed": KEYED + f", groups: {{ {groups} }}"}))
            l.check()  # those that are open stay
            one = {"id": groups, "t": l.now, "k": "one more", "j": "j", "v": 1}
            assert l.send([one])["accepted"] == 1
            l.ids["s"].append(groups)
            l.counts(one, "s")
            start = l.now // 10000 * 10000
            taken = l.rows["keyed"].pop((start, "one more"))
            if "drop" not in groups:
                other = l.rows["keyed"][start, "(other)"]
                other[0], other[1] = other[0] + taken[0], other[1] + taken[1]
            l.check()
            l.s.kill()
        l.begin(config())
        l.check()


# ---- ids ----

def short(horizon):
    return config(streams={"s": stream(dedup=EXACT.replace("24h", horizon))})


def test_horizon_shorter():
    with life(short("1s"), posts=0) as control, life() as l:
        control.post(1, fresh=240)  # at once: a second later they may be forgotten
        control_ids, control.ids["s"] = control.ids["s"], []
        for kill in (False, True):
            l.end(kill)
            l.begin(short("1s"))
        l.post(2)
        time.sleep(1.2)
        assert control.send([{"id": x, "t": control.now, "k": "k", "j": "j", "v": 1} for x in control_ids])[
            "duplicate"] == 0, "such ids are forgotten that were never promised more"
        l.check()
        l.s.kill()
        l.s.start()
        l.check()


def horizons_in_time(seconds):
    """False: the machine was too slow to ask while the ids were promised."""
    began = time.monotonic()
    long, brief = short(f"{seconds}s"), short("1s")
    with life(long, posts=1) as shorter, life(long, posts=1) as longer:
        try:
            assert shorter.s.stop() == 0
            longer.end(True)
            shorter.begin(brief)
            longer.begin(config())
            for l in (shorter, longer):
                l.check()
        except AssertionError:
            if time.monotonic() - began < seconds:
                raise
            return False
        time.sleep(seconds * 1.1)
        first = [{"id": x, "t": T0, "k": "k", "j": "j", "v": 1} for x in shorter.ids["s"]]
        assert shorter.send(first)["accepted"] == len(first)
        longer.check()
        time.sleep(1.2)
        assert shorter.send(first)["accepted"] == len(first)
        longer.check()
        return True


def test_horizons_in_time():
    """A longer one holds at once; of a shorter one the promises of before are kept, and then it begins."""
    assert any(horizons_in_time(seconds) for seconds in (3, 15, 60))


@both_ways
def test_ids(kill):
    with life(posts=20) as l:  # 400 ids, and 40 more
        l.end(kill)
        l.begin(config(streams={"s": stream(dedup=EXACT.replace("50000", "2000"))}))
        l.check()
        l.end(kill)
        refusal = config(streams={"s": stream(dedup=EXACT.replace("50000", "20"))})
        l.s.configure(refusal)
        refused(l.s, 78, "dedup", "ids", "s")
        refused(l.s, 78, "ids")
        for ids in ("2000", "100000"):  # going back works, and going on
            l.begin(config(streams={"s": stream(dedup=EXACT.replace("50000", ids))}))
            l.check()
            l.post(1)
            l.s.kill()
        l.begin(config(streams={"s": stream(dedup=EXACT.replace("50000", "20") + ", when_full: evict_oldest")}))
        for name in l.rules:
            assert l.got(name) == l.want(name), name
        left = l.s.metric("millrace_dedup_ids", stream="s")
        assert left <= 24 and l.s.metric("millrace_dedup_evicted_total", stream="s") == len(l.ids["s"]) - left


REFUSED = {
    "exact to bloom": (stream(dedup="mode: bloom, horizon: 24h, ids: 50000"), ("dedup.mode", "bloom", "exact")),
    "another id": (stream(id="other"), ("`streams.s.id", "other", "so far it was")),
    "one part more": (stream(id="[k, id]"), ("`streams.s.id",)),
}


@both_ways
def test_what_is_refused(kill):
    with life() as l:
        l.end(kill)
        for text, words in REFUSED.values():
            l.s.configure(config(streams={"s": text}))
            refused(l.s, 78, "go back", "node.data_dir", *words)
        l.begin(config())
        l.check()
    bloom = "mode: bloom, horizon: 24h, ids: 50000, error: 1e-4"
    with life(config(streams={"s": stream(dedup=bloom)})) as l:
        l.end(kill)
        for dedup, word in ((EXACT, "dedup.mode"), (EXACT.replace("exact", "observe"), "dedup.mode"),
                            (bloom.replace("1e-4", "1e-3"), "dedup.error")):
            l.s.configure(config(streams={"s": stream(dedup=dedup)}))
            refused(l.s, 78, "go back", word)
        l.begin(config(streams={"s": stream(dedup=bloom.replace("50000", "200000"))}))
        l.check()
        l.end(kill)
        l.begin(config(streams={"s": stream(dedup=bloom.replace("24h", "48h"))}))
        l.check()


@both_ways
def test_observe_and_back(kill):
    with life() as l:
        l.end(kill)
        l.begin(config(streams={"s": stream(dedup=EXACT.replace("exact", "observe"))}))
        again = {"id": l.ids["s"][0], "t": l.now, "k": "k0", "j": "j0", "v": 1}
        assert l.send([again])["accepted"] == 1
        l.counts(again, "s")
        assert l.s.metric("millrace_events_observed_duplicates_total", stream="s") == 1
        fresh = {"id": "fresh", "t": l.now, "k": "k0", "j": "j0", "v": 1}
        for _ in range(2):
            assert l.send([fresh])["accepted"] == 1
            l.counts(fresh, "s")
        l.ids["s"].append("fresh")
        assert l.s.metric("millrace_events_observed_duplicates_total", stream="s") == 2
        checkpoint(l.s)
        l.s.kill() if kill else l.s.stop()
        l.begin(config())
        l.check()
        l.post(2)
        l.check()


@both_ways
def test_none_and_back(kill):
    with life() as l:
        l.end(kill)
        l.begin(config(streams={"s": stream(dedup="mode: none")}))
        for name in l.rules:
            assert l.got(name) == l.want(name), name
        again = {"id": l.ids["s"][0], "t": l.now, "k": "k0", "j": "j0", "v": 1}
        assert l.send([again])["accepted"] == 1
        l.counts(again, "s")
        checkpoint(l.s)
        l.s.kill() if kill else l.s.stop()
        l.begin(config(streams={"s": stream(dedup="mode: bloom, horizon: 24h, ids: 50000", id="id")}))
        l.ids["s"] = []  # what was remembered went with mode none
        assert l.send([again])["accepted"] == 1
        l.counts(again, "s")
        l.ids["s"] = [again["id"]]
        l.check()


# ---- streams ----

@both_ways
def test_stream_added_and_removed(kill):
    two = config({**RULES, "other": DAY.replace("from: s", "from: t")}, {"t": stream(), "s": stream()})
    with life() as l:
        l.end(kill)
        l.begin(two)
        l.begins("other", DAY_MS, None, "t")
        l.post(3, of="t")
        l.post(2)
        l.post(1, of="t")
        l.check()
        l.end(kill)
        if kill:
            l.s.start()
            l.post(2, of="t")  # a tail with events of a stream that is gone then
            l.s.kill()
        l.begin(config())
        report, = l.s.reported("configuration_lost")
        assert (report["streams"], report["rules"]) == ("1", "1"), report
        assert l.s.post("/v1/streams/t/events", "{}").status == 404
        l.ends("other")
        gone = l.ids.pop("t")
        l.check()
        l.end(kill)
        l.begin(two)
        l.begins("other", DAY_MS, None, "t")
        assert l.s.rows("other", state="all") == []
        event = {"id": gone[0], "t": l.now, "k": "k", "j": "j", "v": 1}
        assert l.send([event], "t")["accepted"] == 1, "its ids went with it"
        l.counts(event, "t")
        l.ids["t"] = [gone[0]]
        l.check()


# ---- several, and what goes wrong on the way ----

A = config()
B = config({"keyed": KEYED.replace("10s", "6s"), "day": DAY, "added": KEYED}, {"s": stream(behind="1s")})
C = config({"day": DAY, "added": KEYED.replace("20s", "1h")}, {"s": stream(dedup=EXACT.replace("24h", "1h"))})


def apply(l, before, text):
    """What the change means for the rules."""
    known = {A: {"keyed": (10000, "k"), "day": (DAY_MS, None)}, C: {"day": (DAY_MS, None), "added": (10000, "k")},
             B: {"keyed": (6000, "k"), "day": (DAY_MS, None), "added": (10000, "k")}}
    for name in set(known[before]) - set(known[text]):
        l.ends(name)
    for name, shape in known[text].items():
        if known[before].get(name) != shape:
            l.begins(name, *shape)


def test_changes_in_a_row():
    for seed in (1, 2):
        with life(A, seed=seed) as l:
            before = A
            for text in (B, C, A, C, B, B, A):
                how = l.random.randrange(4)
                if how == 0:
                    assert l.s.stop() == 0
                elif how == 1:
                    l.end(True)
                else:  # nothing but a tail, or nothing since the last change
                    l.post(l.random.randrange(3))
                    l.s.kill()
                l.begin(text)
                apply(l, before, text)
                before = text
                l.check()
            l.post(4)
            l.check()


def test_killed_while_it_changes():
    r = random.Random(3)
    with life(A, posts=30) as l:
        before = A
        for text in (B, A, C, A):
            l.end(True)
            l.s.configure(text)
            for _ in range(3):  # at any moment of the start
                try:
                    killer = kill_soon(l.s, r.uniform(0.003, 0.09))
                    l.s.start(expect_failure=True)
                finally:
                    killer.join()
                    l.s.process.wait()
            l.s.start()
            apply(l, before, text)
            before = text
            l.check()
            l.post(3)
            l.check()


def kill_soon(s, seconds):
    old = s.process

    def later():
        until = time.monotonic() + seconds
        while s.process is old or time.monotonic() < until:
            time.sleep(0.001)
        s.process.kill()
    thread = threading.Thread(target=later)
    thread.start()
    return thread


def test_a_change_that_is_taken_back_before_it_ran():
    with life(A) as l:
        l.end(True)
        l.s.configure(B)
        killer = kill_soon(l.s, 0.02)
        l.s.start(expect_failure=True)
        killer.join()
        l.s.process.wait()
        l.begin(A)
        # B may have been taken over before the kill: then `keyed` began anew, twice
        if any(r["rule"] == "keyed" for r in l.s.reported("rule_begins")):
            l.begins("keyed", 10000, "k")
        l.check()


def test_changes_and_damaged_checkpoints():
    with life(A) as l:
        before = A
        for text in (B, C, B):
            l.end(True)
            l.begin(text)
            apply(l, before, text)
            before = text
            l.post(6)
        checkpoint(l.s)
        l.post(2)
        l.check()
        rows = {name: exactly(l.s, name) for name in l.rules}
        l.s.kill()
        folder = l.s.directory / "data/checkpoint"
        shutil.copytree(l.s.directory / "data", l.s.directory / "copy")
        for damaged in (1, 2):
            shutil.rmtree(l.s.directory / "data")
            shutil.copytree(l.s.directory / "copy", l.s.directory / "data")
            for name in files(l.s, "manifest")[-damaged:]:
                flip(folder / name, 100)
            l.s.start()
            assert len(l.s.reported("checkpoint_damaged")) >= damaged  # said again in each stage on the way
            assert {name: exactly(l.s, name) for name in l.rules} == rows, damaged
            l.check()
            l.s.kill()
        l.s.start()
        assert not l.s.reported("checkpoint_damaged")
        l.check()


def test_changes_and_results_deleted():
    with life(A) as l:
        keyed, watermark = l.rows["keyed"], l.now
        l.s.stop()
        l.begin(B)
        apply(l, A, B)
        l.post(8)
        checkpoint(l.s)
        l.post(2)
        rows = {name: exactly(l.s, name) for name in l.rules}
        old = in_file(l.s, "keyed:0", "k")
        assert events_of(old) == fired(keyed, 10000, watermark)
        l.s.kill()
        without_results(l.s)
        l.s.start()
        assert {name: exactly(l.s, name) for name in l.rules} == rows
        assert in_file(l.s, "keyed:0", "k") == old, "the log has what the older generation was made from"
        l.check()


def test_results_of_before():
    """A results.db put back from before the checkpoint is brought up to date from the log."""
    with life() as l:
        assert l.s.stop() == 0
        data, old = l.s.directory / "data", l.s.directory / "old"
        shutil.copytree(data, old)
        l.s.start()
        l.post(20)
        checkpoint(l.s)
        l.post(10)
        rows = {name: exactly(l.s, name) for name in l.rules}
        l.s.kill()
        without_results(l.s)
        for file in old.glob("results.db*"):
            shutil.copy(file, data)
        l.s.start()
        assert len(l.s.reported("results_rebuilt")) == 1 and replayed(l.s)[1:] == (0, 0)
        assert {name: exactly(l.s, name) for name in l.rules} == rows
        l.check()


def test_what_was_said_of_a_watermark_before_a_change():
    """Behind the checkpoint there is nothing but that; it is replayed under the configuration it was said to."""
    with life() as l:
        checkpoint(l.s)
        to = l.now + 60000
        l.s.kill()
        l.s.start()
        answer = l.s.request("POST", f"/v1/streams/s/watermark?to={instant(to)}")
        assert answer.status == 200, answer
        l.s.kill()
        l.begin(lateness("5s"))
        l.s.kill()
        flip(l.s.directory / "data/checkpoint" / files(l.s, "manifest")[-1], 100)
        l.s.start()
        assert l.s.reported("checkpoint_damaged")
        assert round(l.s.metric("millrace_watermark_timestamp_seconds", stream="s") * 1000) == to
        assert all(row["final"] for row in l.s.rows("keyed", state="all"))
        l.known()


@both_ways
def test_what_changes_freely(kill):
    texts = (config(log="segment: 4MiB"), config(limits="event: 256"), config(shards=1),
             config(log="segment: 1280KiB, sync: off"), config(more="http: { listen: 127.0.0.1:0, threads: 3 }"),
             config().replace("every: 1d", "every: 2h"), config().replace("rules:", "# nothing\nrules:"), config())
    with life() as l:
        long = {"id": "long", "t": l.now, "k": "k0", "j": "j0", "v": 1, "pad": "x" * 1000}
        for text in texts:
            l.end(kill)
            l.begin(text)
            for event in ("configuration_stage", "rule_begins", "configuration_lost"):
                assert not l.s.reported(event), (event, text)
            assert replayed(l.s)[0] == (2 if kill else 0)
            l.check()
            if text is texts[0]:  # too long for the next limit, and taken under this one
                checkpoint(l.s)
                assert l.send([long])["accepted"] == 1
                l.counts(long, "s")
                l.ids["s"].append("long")
                l.s.kill()
                l.begin(texts[1])  # the tail is replayed under the limit it was taken with
                for name in l.rules:
                    assert l.got(name) == l.want(name), name
                l.s.stop()
                l.begin(texts[0])
                l.check()


if __name__ == "__main__":
    run(globals())
