# SPDX-License-Identifier: Apache-2.0
"""
Sliding windows of which an event is in thousands, against the real program.

Proves: windows of 2,000 seconds every second give the rows that event_time_model.py works out from the list of events,
through `millrace run` and over HTTP with late events, checkpoints and kills in the middle, while they are open and when
they are final; a day every 10 seconds (8,640 windows an event) gives the counts and sums of a plain computation; pages
of open windows, joined, are all of them; and groups over the bound are summed up in the other group.
"""
import itertools
import json
import random
import urllib.parse

from event_time_model import instant
from harness import check_ledger, run
from test_event_time import BASE, SKETCHES, STREAM, Events, check_run, life, lines, run_over

NUMBERS = {"n": "count", "sum": {"sum": "v"}, "most": {"max": "v"}}
SECOND = {"type": "sliding", "size": "2000s", "every": "1s"}
ROOM = {"groups": {"max": 10000000, "bytes": "512MiB"}}
RULES = {
    "seconds": {"from": "s", "group_by": ["k"], "window": SECOND, "allowed_lateness": "20s", "metrics": NUMBERS,
                **ROOM},
    "offset": {"from": "s", "window": {**SECOND, "every": "1900ms", "offset": "700ms"}, "allowed_lateness": "0s",
               "metrics": {"n": "count", "users": SKETCHES["users"], "last": SKETCHES["last"]}, **ROOM},
    "at_last": {"from": "s", "window": SECOND, "allowed_lateness": "10s", "trigger": {"late": False},
                "metrics": {"sum": {"sum": "v"}, "q": SKETCHES["q"]}, **ROOM},
}
CONFIG = {"streams": {"s": {**STREAM, "watermark": {"out_of_orderness": "3s", "idle_timeout": "off"}}}, "rules": RULES}


def made_of(seed):
    """A batch is some seconds; now and then a pause longer than a window."""
    made = Events(seed, step=1000, disorder=2500)
    pause = made.random.randrange(5, 9)
    for i in range(10):
        if i == pause:
            made.now += 2500000
        yield made.batch(made.random.randrange(1, 7), late=made.random.randrange(3) if i > 0 else 0, by=15000)


def test_run_and_http_give_the_rows_of_the_model():
    batches = list(made_of(2))
    with life(CONFIG, 3) as l:
        for batch, what in zip(batches, itertools.cycle(["on", "kill", "checkpoint", "checkpoint, kill"])):
            l.post(batch)
            if "checkpoint" in what:
                assert l.s.request("POST", "/v1/checkpoint").status == 200
            if "kill" in what:
                l.s.kill()
                l.s.start()
            if batch is batches[5]:
                l.check()
        l.close()
        l.check()
        check_ledger(l.s, "s")
        check_run(l, {"s": [e for b in batches for e in b] + [{"id": "last", "t": BASE + 400 * 86400000}]})


# ---- a day every 10 seconds ----

DAY, TEN = 86400000, 10000
DAYS = {"streams": {"s": STREAM},
        "rules": {"days": {"from": "s", "group_by": ["k"],
                           "window": {"type": "sliding", "size": "1d", "every": "10s"}, "allowed_lateness": "0s",
                           "metrics": {"n": "count", "sum": {"sum": "v"}}, **ROOM}}}


def days_of(events):
    """(start, key): count and sum, by adding what enters a window and taking away what leaves it."""
    rows = {}
    for key in {e["k"] for e in events}:
        changes = {}
        for e in events:
            if e["k"] == key:
                last = e["t"] // TEN * TEN
                for at, sign in ((last - DAY + TEN, 1), (last + TEN, -1)):
                    n, v = changes.get(at, (0, 0))
                    changes[at] = n + sign, v + sign * e["v"]
        n = v = 0
        times = sorted(changes)
        for at, until in zip(times, times[1:] + times[-1:]):
            n, v = n + changes[at][0], v + changes[at][1]
            if n > 0:
                rows.update({(start, key): (n, v) for start in range(at, until, TEN)})
        assert n == 0 and v == 0
    return rows


def row_of(row):
    return ((row["window_start"], row["key"]["k"]), (row["events"], row["metrics"]["n"], int(row["metrics"]["sum"])))


def check_days(got, events):
    want = {(instant(start), key): (n, n, v) for (start, key), (n, v) in days_of(events).items()}
    have = dict(map(row_of, got))
    assert len(have) == len(got) and len(have) > 8640
    wrong = [(p, have.get(p), want.get(p)) for p in have.keys() | want.keys() if have.get(p) != want.get(p)]
    assert not wrong, wrong[:6]


def test_a_day_every_ten_seconds():
    r = random.Random(7)
    events = [{"id": f"d{i}", "t": BASE + i * 400000 + r.randrange(20000), "k": r.choice("ab"),
               "v": r.randrange(-50, 50)} for i in range(300)]  # a day and a third
    with life(DAYS) as l:
        for at in range(0, 300, 20):
            assert l.s.post("/v1/streams/s/events", lines(events[at:at + 20])).json["accepted"] == 20
            if at in (100, 240):
                assert l.s.request("POST", "/v1/checkpoint").status == 200
            if at in (60, 120, 260):
                l.s.kill()
                l.s.start()
        check_days(l.s.rows("days", state="all"), events)
        open_rows = l.s.rows("days", state="open")
        assert open_rows and not any(row["final"] for row in open_rows)
        # Newest first, and in pages, both over what is open and what is final.
        down = l.s.rows("days", state="all", order="-window_start")
        assert [row_of(x)[0] for x in down] == sorted((row_of(x)[0] for x in down), reverse=True)
        check_days(down, events)
        most = l.s.get("/v1/rules/days/windows?" + urllib.parse.urlencode({"order": "-n", "limit": 5, "state": "open"}))
        counts = [row["metrics"]["n"] for row in most.json["rows"]]
        assert counts == sorted((row["metrics"]["n"] for row in open_rows), reverse=True)[:5]
        l.s.post("/v1/streams/s/events", lines([{"id": "last", "t": BASE + 400 * DAY, "k": "z", "v": 0}]))
        rows = [row for row in l.s.rows("days", state="final")]
        check_days(rows, events)
        rows, summaries = run_over(l, {"s": events})
        assert summaries["s"]["accepted"] == len(events)
        check_days(rows["days"], events)


def test_groups_over_the_bound_are_summed_up():
    config = {**DAYS, "rules": {"days": {**DAYS["rules"]["days"], "groups": {"max": 20000}}}}
    events = [{"id": f"g{i}", "t": BASE + i, "k": f"k{i % 5}", "v": 1} for i in range(50)]
    with life(config, shards=1) as l:
        for event in events:
            assert l.s.post("/v1/streams/s/events", lines([event])).json["accepted"] == 1
        l.s.post("/v1/streams/s/events", lines([{"id": "last", "t": BASE + 3 * DAY, "k": "k0", "v": 0}]))
        totals = {}
        for row in l.s.rows("days", state="final"):
            at = totals.setdefault(row["window_start"], {})
            at[json.dumps(row["key"])] = row["metrics"]["n"]
        assert len(totals) == 8640
        assert all(sum(at.values()) == 50 and len(at) == 3 for at in totals.values()), list(totals.values())[:3]
        # and the last event: there is no room yet
        assert l.s.metric("millrace_rule_overflow_events_total", rule="days") == 31


if __name__ == "__main__":
    run(globals())
