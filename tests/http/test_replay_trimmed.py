# SPDX-License-Identifier: Apache-2.0
"""
Promoting a replay that has left something out: of a log that was trimmed, with --from, without a stream that is gone.

Proves: afterwards the rules that are as they were have their rows from before, to the last one, and go on exactly;
those that are others have, from the boundary that REPLAY names, the rows that `millrace run` makes of all events under
the new rules: closed, open at the change, and later; before it they have the rows that they had, and nothing in
between. A repeat of an event that the log has lost is a duplicate as ever. All of this also when the promotion is
killed, time and again, and run again. What cannot be joined is refused, and nothing has changed.
"""
import contextlib
import datetime
import json
import random
import signal
import sqlite3
import subprocess
import time

from harness import GIVE_UP_S, MILLRACE, run, server, until
from redis import is_installed, redis
from test_replay import (BASE, BUYS, CLICKS, HEAD, LIMITS, SALES, VIEWS, config, event, millrace, note, oracle, post,
                         promote, replay, settle, stored, upto, write)

SIZE_MS = 100
TRIMMED = LIMITS + "log: { segment: 1280KiB, retain: off, retain_bytes: 2560KiB }\ncheckpoint: { every: 1h }\n"
RULE = """
  {name}:
    from: clicks
    where: kind == "{kind}"
    group_by: [country]
    window: {{ {window} }}
    allowed_lateness: 0s
    metrics: {{ {metrics} }}
"""
METRICS = "n: count, spend: { sum: price }, users: { distinct: user }"
SHORT = "type: tumbling, size: 100ms"


def rule(name, kind, window=SHORT, metrics=METRICS):
    return RULE.format(name=name, kind=kind, window=window, metrics=metrics)


def rules(kind, metrics=METRICS):
    """views is put right later, and so is hourly, whose windows are longer than the log; clicks and total stay."""
    return (rule("views", kind, metrics=metrics) + rule("hourly", kind, "type: tumbling, size: 1h") +
            rule("clicks", "click") + rule("total", "click", "type: tumbling, size: 365d"))


class Sender:
    def __init__(self, s, seed):
        self.s, self.rng, self.sent = s, random.Random(seed), []

    def send(self, count=200, pad=500, stream="clicks"):
        now = int(time.time() * 1000)
        events = [dict(event(len(self.sent) + k, self.rng, now), pad="x" * pad) for k in range(count)]
        answer = post(self.s, events, stream)
        assert answer["accepted"] == count, answer
        self.sent.extend(events)

    def windows(self, seconds=0.7):
        """Some windows more."""
        began = time.monotonic()
        until("some windows more", lambda: self.send(20, 0) or time.monotonic() - began > seconds)

    def trim(self):
        """Until the log's beginning is gone for good."""
        segments = lambda: {path.name for path in (self.s.directory / "data/log").glob("*.log")}
        first = segments()

        def trimmed():
            self.send()
            if len(self.sent) % 4000 == 0:
                settle(self.s)
            return not first & segments()
        until("the log is trimmed", trimmed)
        self.windows()
        settle(self.s)
        settle(self.s)
        until("retention has ended", lambda: len(segments()) <= 2)


def repeat(s, sent):
    """How many of these are duplicates."""
    return post(s, [{key: value for key, value in one.items() if key != "pad"} for one in sent])["duplicate"]


def time_ms(row):
    return round(datetime.datetime.fromisoformat(row["window_start"].replace("Z", "+00:00")).timestamp() * 1000)


def end_of(sent):
    """All windows that end up to here are final: watermarks do not wait."""
    return sent[-1]["ts"]


def check_same(s, file, sent):
    """The rules that nobody changed: rows of all events there ever were."""
    final = upto(oracle(s, file, sent, "clicks"), end_of(sent), SIZE_MS)
    until("rows are final", lambda: len(stored(s.directory / "data/results.db", "clicks")) >= len(final))
    assert stored(s.directory / "data/results.db", "clicks") == final and len(final) > 20
    want = oracle(s, file, sent, "total")
    got = s.rows("total")
    assert {(row["key"]["country"], row["metrics"]["n"], row["metrics"]["spend"]) for row in got} == \
        {(key[1], value[0], value[1]) for key, value in want.items()}, "a window that was open all the time"


def check_changed(s, file, sent, begins, before):
    """views from the boundary on, closed and open; before it what it had."""
    want = {key: value for key, value in oracle(s, file, sent).items() if key[0] >= begins}
    final = upto(want, end_of(sent), SIZE_MS)
    now = lambda: stored(s.directory / "data/results.db")
    until("rows are final", lambda: len(now()) >= len(final) + len(before))
    got = now()
    assert {key: value for key, value in got.items() if key[0] >= begins} == final and len(final) > 10
    assert {key: value for key, value in got.items() if key[0] < begins} == before
    rows = [row for row in s.rows("views") if not row["final"]]
    open_ones = {key: value for key, value in want.items() if key not in final}
    assert sum(row["metrics"]["n"] for row in rows) == sum(value[0] for value in open_ones.values())
    return len(final)


def promotable(s, kind="view"):
    """A server whose views counts clicks, with a trimmed log, a replay of it and a tail behind it; stopped."""
    sender = Sender(s, 1)
    sender.trim()
    right = write(s, "right.yaml", config(rules=rules(kind), head=TRIMMED))
    assert replay(s, right).counts["trimmed"]
    begins = note(s)[1]["views"][0]
    sender.windows()
    return sender, right, begins


def wrong_rows(s, sent, begins):
    """What views had of windows before the boundary."""
    wrong = write(s, "wrong.yaml", config(rules=rules("click"), head=TRIMMED))
    rows = {key: value for key, value in oracle(s, wrong, sent).items() if key[0] < begins}
    assert len(rows) > 10
    return rows


def test_a_rule_is_repaired_in_place_though_the_log_was_trimmed():
    with server(config(rules=rules("click"), head=TRIMMED)) as s:
        sender, right, begins = promotable(s)
        sent = sender.sent
        before = wrong_rows(s, sent, begins)
        assert "in use" in promote(s, right, code=1).err
        assert s.stop() == 0
        promote(s, right)
        s.configure(config(rules=rules("view"), head=TRIMMED))
        s.start()
        report, = s.reported("replayed")
        assert report["checkpoint"] != "0" and report["events"] == "0", report
        for name in ("rule_begins", "windows_dropped", "results_rebuilt", "results_rewound", "results_incomplete"):
            assert not s.reported(name), name
        check_same(s, right, sent)
        counted = check_changed(s, right, sent, begins, before)
        assert repeat(s, sent[:2000]) == 2000, "ids that the log has lost long ago"
        sender.windows()
        assert check_changed(s, right, sent, begins, before) > counted
        check_same(s, right, sent)
        # What was left out and has not ended stays out: no row has a part of its events, and they are counted as late.
        assert all(time_ms(row) >= begins for row in s.rows("hourly"))
        assert s.metric("millrace_rule_events_total", rule="hourly", outcome="late") > 0
        s.kill()
        s.start()
        check_changed(s, right, sent, begins, before)
        check_same(s, right, sent)
        sender.windows()
        assert s.stop() == 0
        s.start()
        assert s.reported("replayed")[0]["events"] == "0"
        check_changed(s, right, sent, begins, before)
        assert repeat(s, sent) == len(sent)
        # Another one, over the log that has the change in it.
        s.stop()
        replay(s, write(s, "again.yaml", config(rules=rules("click"), head=TRIMMED)), "again")
        promote(s, write(s, "again.yaml", config(rules=rules("click"), head=TRIMMED)), "again")
        s.configure(config(rules=rules("click"), head=TRIMMED))
        s.start()
        check_same(s, write(s, "again.yaml", config(rules=rules("click"), head=TRIMMED)), sent)
        s.stop()
        for path in (s.directory / "data/checkpoint").iterdir():
            path.unlink()
        s.start(expect_failure=True)
        assert s.process.wait(GIVE_UP_S) != 0, "from zero such a log cannot be read, and nobody pretends"


def test_a_joined_promotion_that_was_killed_is_run_again():
    with server(config(rules=rules("click"), head=TRIMMED)) as s:
        sender, right, begins = promotable(s)
        sent = sender.sent
        before = wrong_rows(s, sent, begins)
        s.kill()  # its last checkpoint is older than the replay
        promoting = s.directory / "data/PROMOTING"
        promote_to = [MILLRACE, "replay", "promote", str(s.directory / "shadow"), "-c", str(right)]
        killed = {"before": 0, "within": 0}
        takes = 0.1
        for i in range(24):
            started = time.monotonic()
            child = subprocess.Popen(promote_to, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if i % 2 == 0 or i < 8:  # while it joins, mostly; the first hardly begun: what is put in place stays so
                try:
                    child.wait(0.001 + (0.002 * i if i < 8 else sender.rng.random() * takes))
                except subprocess.TimeoutExpired:
                    pass
            else:  # while it puts in place what was joined
                while child.poll() is None and not promoting.exists():
                    pass
                time.sleep(sender.rng.random() * 0.004)
            child.send_signal(signal.SIGKILL)
            done = child.wait() == 0
            assert not (done and promoting.exists())
            killed["within" if promoting.exists() else "before"] += not done
            if promoting.exists():
                s.start(expect_failure=True)
                assert s.process.wait(GIVE_UP_S) == 1 and "run it again" in s.said()
                assert "may need it" in replay(s, right, "shadow", "--again", code=1).err
                replay(s, right, "other", "--again")
                assert "another replay was stopped in the middle" in promote(s, right, "other", code=78).err
            takes = max(takes, 1.2 * (time.monotonic() - started))
        assert killed["before"] > 0 and killed["within"] > 0, killed
        promote(s, right)
        assert not promoting.exists() and not (s.directory / "shadow/joined.db").exists()
        assert not list((s.directory / "shadow/joined").iterdir()), "copies that nobody needs"
        s.configure(config(rules=rules("view"), head=TRIMMED))
        s.start()
        check_same(s, right, sent)
        check_changed(s, right, sent, begins, before)
        sender.windows()
        assert repeat(s, sent) == len(sent)
        check_changed(s, right, sent, begins, before)
        check_same(s, right, sent)


def test_other_columns_begin_at_the_boundary_and_shards_may_change():
    more = METRICS + ", most: { max: price }"
    with server(config(rules=rules("click"), head=TRIMMED)) as s:
        sender = Sender(s, 3)
        sender.trim()
        text = config(rules=rules("view", metrics=more), head=TRIMMED)
        right = write(s, "right.yaml", text)
        right.write_text(right.read_text().replace("shards: 1", "shards: 3"))
        replay(s, right)
        begins = note(s)[1]["views"][0]
        sender.windows()
        s.stop()
        promote(s, right)
        s.configure(text + f"\nnode: {{ data_dir: {s.directory}/data, shards: 2 }}\n")
        s.start()
        check_same(s, right, sender.sent)
        check_changed(s, right, sender.sent, begins, {})
        sender.windows()
        assert repeat(s, sender.sent) == len(sender.sent)
        check_changed(s, right, sender.sent, begins, {})


def test_from_changes_nothing_before():
    rng = random.Random(4)
    with server(config(kind="click")) as s:
        events = [event(i, rng) for i in range(3000)]
        post(s, events[:2000])
        right, wrong = write(s, "right.yaml", config()), write(s, "wrong.yaml", config(kind="click"))
        at = BASE + 10000
        replay(s, right, "shadow", "--from", at)
        post(s, events[2000:2510])
        s.stop()
        promote(s, right)
        s.configure(config())
        s.start()

        def check(count):
            final = BASE + (count - 1) * 20
            want = upto(oracle(s, right, events[:count]), final, begin_ms=at)
            want.update({key: value for key, value in oracle(s, wrong, events[:count]).items() if key[0] < at})
            until("rows are final", lambda: len(stored(s.directory / "data/results.db")) >= len(want))
            assert stored(s.directory / "data/results.db") == want and len(want) > 100
        check(2510)
        assert post(s, events[:2510])["duplicate"] == 2510
        post(s, events[2510:])
        check(3000)


def test_a_stream_that_is_gone_goes_with_its_rules():
    rng = random.Random(5)
    with server(config(kind="click", streams=CLICKS + BUYS, rules=VIEWS + SALES)) as s:
        events = [event(i, rng) for i in range(3000)]
        post(s, events[:2000])
        post(s, events[:500], "buys")
        one = write(s, "one.yaml", config())
        replay(s, one)
        s.stop()
        promote(s, one)
        s.configure(config())
        s.start()
        assert post(s, events)["duplicate"] == 2000
        want = upto(oracle(s, one, events), BASE + 2999 * 20)
        until("rows are final", lambda: len(stored(s.directory / "data/results.db")) >= len(want))
        assert stored(s.directory / "data/results.db") == want
        assert s.get("/v1/rules/sales/windows").status == 404


def test_a_derived_field_is_put_right():
    streams = CLICKS + '    derive: { land: "@EXPR@" }\n'
    wrong_text = config(streams=streams.replace("@EXPR@", "user"), kind="view").replace("[country]", "[land]")
    right_text = config(streams=streams.replace("@EXPR@", "country"), kind="view").replace("[country]", "[land]")
    rng = random.Random(6)
    with server(wrong_text) as s:
        events = [event(i, rng) for i in range(2000)]
        post(s, events)
        right = write(s, "right.yaml", right_text)
        at = BASE + 10000
        replay(s, right, "shadow", "--from", at)
        s.stop()
        promote(s, right)
        s.configure(right_text)
        s.start()
        rows = [row for row in s.rows("views") if row["final"]]
        lands = {True: set(), False: set()}
        for row in rows:
            lands[time_ms(row) >= at].add(row["key"]["land"])
        assert lands[True] == {"DE", "FR", "US"} and all(land.startswith("u") for land in lands[False])
        assert len(lands[False]) > 10


SESSIONS = """
  visits:
    from: clicks
    where: kind == "@KIND@"
    group_by: [user]
    window: { type: session, gap: @SIZE@ }
    allowed_lateness: 0s
    metrics: { n: count }
"""


def test_what_cannot_be_joined_is_refused():
    rng = random.Random(7)
    with server(config(kind="click", size="10s", rules=SESSIONS)) as s:
        events = [event(i, rng) for i in range(2000)]
        post(s, events)
        right = write(s, "right.yaml", config(size="10s", rules=SESSIONS))
        replay(s, right, "sessions", "--from", BASE + 20000)
        horizon = write(s, "horizon.yaml", config(size="10s", rules=SESSIONS).replace(
            "dedup: { ids: 1000000 }", "dedup: { ids: 1000000, horizon: 2h }"))
        replay(s, horizon, "horizon", "--from", BASE + 20000)
        added = write(s, "added.yaml", config(size="10s", rules=SESSIONS, streams=CLICKS + BUYS))
        replay(s, added, "added", "--from", BASE + 20000)
        s.stop()
        names = lambda: {path.name for path in (s.directory / "data").iterdir()}
        listed = names()
        assert "session that may have begun before" in promote(s, right, "sessions", code=78).err
        said = promote(s, horizon, "horizon", code=78).err
        assert "streams.clicks.dedup.horizon: 2h" in said and "so far it was 1d" in said, said
        assert "streams.buys is new" in promote(s, added, "added", code=78).err
        assert names() == listed, "nothing of it is there"
        s.start()
        assert post(s, events)["duplicate"] == 2000 and s.rows("visits")
        # Once they have ended: the others come along.
        post(s, [dict(event(9999, rng, BASE + 100000), user="late")])
        replay(s, right, "sessions", "--from", BASE + 20000, "--again")
        s.stop()
        promote(s, right, "sessions")
        s.configure(config(size="10s", rules=SESSIONS))
        s.start()
        assert post(s, events)["duplicate"] == 2000


SLIDING = """
  views:
    from: clicks
    where: kind == "@KIND@"
    group_by: [country]
    window: { type: sliding, size: 2s, every: 500ms }
    trigger: { early: 1s }
    allowed_lateness: 1s
    metrics: { n: count, users: { distinct: user } }
  visits:
    from: clicks
    where: kind == "@KIND@"
    group_by: [user]
    window: { type: session, gap: 1s }
    allowed_lateness: 0s
    metrics: { n: count, spend: { sum: price } }
"""


def all_rows(path, rule_name, key):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        metrics = "n, users" if rule_name == "views" else "n, spend"
        return {row[:3]: row[3:] for row in db.execute(
            f"SELECT window_start_ms, window_end_ms, {key}, {metrics} FROM {rule_name} WHERE final=1")}


def run_into(s, file, events, rule_name):
    """oracle.db: what `millrace run` makes of all events."""
    (s.directory / "oracle.db").unlink(missing_ok=True)
    (s.directory / "sent.ndjson").write_text("\n".join(map(json.dumps, events)))
    done = millrace("run", "-c", file, "--stream", "clicks", "--rule", rule_name, "--into", s.directory / "oracle.db",
                    s.directory / "sent.ndjson")
    assert done.returncode == 0, done.err


def test_windows_that_slide_and_sessions_join():
    """Out of order as well, and with several shards: closed, open, and going on."""
    rng = random.Random(9)
    streams = CLICKS.replace("out_of_orderness: 0s", "out_of_orderness: 1s")
    text = lambda kind: config(kind=kind, streams=streams, rules=SLIDING)
    with server(text("click")) as s:
        events = [event(i, rng) for i in range(4000)]
        for k in range(0, len(events), 40):  # within 0.8 s
            part = events[k:k + 40]
            rng.shuffle(part)
            events[k:k + 40] = part
        post(s, events[:2000])
        right, wrong = write(s, "right.yaml", text("view")), write(s, "wrong.yaml", text("click"))
        right.write_text(right.read_text().replace("shards: 1", "shards: 3"))
        at = BASE + 10250
        replay(s, right, "shadow", "--from", at)
        post(s, events[2000:2617])
        s.kill()
        promote(s, right)
        s.configure(text("view") + f"\nnode: {{ data_dir: {s.directory}/data, shards: 2 }}\n")
        s.start()

        def check(count):
            final_ms = max(one["ts"] for one in events[:count]) - 1000 - 1000
            for name, key in (("views", "country"), ("visits", "user")):
                want = {}
                for file, begin_ms, end_ms in ((wrong, 0, at), (right, at, 1 << 62)):
                    run_into(s, file, events[:count], name)
                    rows = all_rows(s.directory / "oracle.db", name, key)
                    want.update({k: v for k, v in rows.items() if begin_ms <= k[0] < end_ms and k[1] <= final_ms})
                have = lambda: {k: v for k, v in all_rows(s.directory / "data/results.db", name, key).items()
                                if k[1] <= final_ms}
                until("rows are final", lambda: len(have()) >= len(want))
                assert have() == want and len(want) > 100, (name, sorted(set(have().items()) ^ set(want.items()))[:6])
        check(2617)
        assert post(s, events[:2617])["duplicate"] == 2617
        post(s, events[2617:])
        check(4000)


LIVE = """
  views:
    from: clicks
    where: kind == "view"
    group_by: [country]
    window: { type: tumbling, size: 1s }
    allowed_lateness: @LATE@
    metrics: { n: count, spend: { sum: price }, users: { distinct: user } }
  ever:
    from: clicks
    where: kind == "@KIND@"
    window: { type: global }
    trigger: { early_count: 100 }
    metrics: { n: count }
"""


def test_what_changes_live_goes_on_and_global_windows_have_the_log():
    """A lateness made shorter: windows are final that were not. One made longer: nothing is lost."""
    rng = random.Random(10)
    for before, after in (("20s", "0s"), ("0s", "20s")):
        text = lambda kind, late: config(kind=kind, rules=LIVE.replace("@LATE@", late))
        with server(text("click", before)) as s:
            events = [event(i, rng) for i in range(3000)]
            post(s, events[:2000])
            right = write(s, "right.yaml", text("view", after))
            replay(s, right, "shadow", "--from", BASE + 10000)
            s.stop()
            promote(s, right)
            s.configure(text("view", after))
            s.start()
            for count in (2000, 3000):
                post(s, events[2000:count])
                final_ms = BASE + (count - 1) * 20 - (20000 if after == "20s" and count == 3000 else 0)
                final_ms = max(final_ms, BASE + 1999 * 20) if before == "0s" else final_ms  # what was final stays so
                want = oracle(s, right, events[:count])
                final = upto(want, final_ms)
                until("rows are final", lambda: len(stored(s.directory / "data/results.db")) >= len(final))
                assert stored(s.directory / "data/results.db") == final, (before, after, count)
                assert sum(row["metrics"]["n"] for row in s.rows("views")) == sum(row[0] for row in want.values())
                ever, = s.rows("ever")
                assert ever["metrics"]["n"] == sum(one["kind"] == "view" for one in events[:count])
                assert not ever["final"]


SHARED = """
cluster: {{ name: one, secret: "{secret}" }}
stores: {{ main: {{ type: redis, nodes: ["{address}"], cluster: false, timeout: 500ms }} }}
"""


def test_where_a_shared_store_decides():
    """With events whose ids it has not decided yet: they count afterwards, once, under the new rules."""
    if not is_installed():
        print("     redis-server is not installed")
        return
    rng = random.Random(8)
    redis_decides = "dedup: { mode: redis, store: main, outage: hold, horizon: 1d }"
    streams = CLICKS.replace("dedup: { ids: 1000000 }", redis_decides)
    with redis() as r:
        head = HEAD + SHARED.format(secret="0123456789abcdef0123456789abcdef", address=r.address)
        node = '\nnode: { id: one, data_dir: "@DIR@/data", shards: 1 }\n'
        with server(config(kind="click", streams=streams, head=head) + node) as s:
            until("it is ready", lambda: s.get("/readyz").status == 200)
            events = [event(i, rng) for i in range(4000)]
            post(s, events[:1000])
            right = s.directory / "right.yaml"
            right.write_text((config(streams=streams, head=head) + node).replace("@DIR@", str(s.directory)))
            replay(s, right)
            post(s, events[1000:2000])
            r.kill()
            until("it knows", lambda: s.get("/readyz").status != 200)
            for k in (2000, 2500):
                body = "\n".join(map(json.dumps, events[k:k + 500]))
                assert s.post("/v1/streams/clicks/events", body).json["pending"] == 500
            s.kill()
            promote(s, right)
            s.configure(config(streams=streams, head=head) + node)
            s.start()
            r.start()
            until("it is ready", lambda: s.get("/readyz").status == 200)
            until("all is decided", lambda: s.metric("millrace_events_pending", stream="clicks") == 0)
            assert post(s, events[:3000])["duplicate"] == 3000
            post(s, events[3000:])
            local = write(s, "local.yaml", config())
            want = upto(oracle(s, local, events), BASE + 3999 * 20)
            until("rows are final", lambda: len(stored(s.directory / "data/results.db")) >= len(want))
            assert stored(s.directory / "data/results.db") == want and len(want) > 100
            assert r.call("DBSIZE") > 0


if __name__ == "__main__":
    run(globals())
