# SPDX-License-Identifier: Apache-2.0
"""
Event time against the real program, judged by event_time_model.py, which works every row out from the list of events.

Proves: `run`, HTTP in order and out of it, and a server stopped and killed in the middle all give the model's rows, for
every kind of window and metric, with conditions, derived fields and lookups; panes come as the published semantics of
event-time triggers have them (the Beam model: T. Akidau and others, The Dataflow Model, 2015); a rule over several
streams goes by the slowest, but not for ever; what a changed configuration keeps and what begins anew; and a bad
expression is refused with its place.
"""
import contextlib
import json
import random
import subprocess
import sys

from event_time_model import Model, as_yaml, bounded, differences, instant
from harness import MILLRACE, Server, check_ledger, run, until

BASE = 1711756800000  # 2024-03-30T00:00Z: a day later the clocks of Europe are put on
COUNTRIES = "ad,country,note\na1,DE,\"x, y\"\na2,AT,\na3,CH,z\na4,DE,\n"
COUNTRY = dict(a1="DE", a2="AT", a3="CH", a4="DE")
STREAM = {"id": "id", "time": {"field": "t"}, "dedup": {"mode": "exact", "horizon": "24h", "ids": 100000},
          "watermark": {"out_of_orderness": "30s", "idle_timeout": "off"}}


def is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def above(field, limit):
    return f"{field} > {limit}", lambda e: e[field] > limit if is_number(e.get(field)) else None


def cost(e):
    v, p = e.get("v"), e.get("p")
    return v * p if is_number(v) and is_number(p) else 0


CHEAP = ("v < 500 || p == null",
         lambda e: True if e.get("p") is None else e["v"] < 500 if is_number(e.get("v")) else None)
DERIVED = {"country": ('lookup("countries", ad)', lambda e: COUNTRY.get(e.get("ad"))),
           "cost": ("coalesce(v * p, 0)", cost),
           "dear": ('cost > 400 ? "dear" : "cheap"', lambda e: "dear" if e["cost"] > 400 else "cheap")}
NUMBERS = {"n": "count", "sum": {"sum": "v"}, "psum": {"sum": "p"}, "least": {"min": "p"}, "most": {"max": "v"},
           "mean": {"avg": "p"}, "var": {"variance": "v"}, "dev": {"stddev": "p"},
           "share": {"ratio": ["big", "n"]}, "big": {"count": "events", "where": above("v", 700)},
           "bars": {"histogram": "v", "bounds": [0, 250.5, 900]}}
SKETCHES = {"first": {"first": "x"}, "last": {"last": "x"}, "users": {"distinct": "u"}, "kinds": {"distinct": "x"},
            "q": {"quantiles": [0, 0.25, 0.5, 0.99, 1], "of": "v"}, "top": {"top": "x", "n": 5},
            "some": {"collect": "x", "n": 7}, "dear_users": {"distinct": "u", "where": above("cost", 400)}}
RULES = {
    "minutes": {"from": "s", "group_by": ["k"], "window": {"size": "1m", "offset": "7s"}, "metrics": NUMBERS},
    "days": {"from": "s", "group_by": ["country", "k"], "window": {"size": "1d", "time_zone": "Europe/Berlin"},
             "allowed_lateness": "2h", "metrics": {**NUMBERS, **SKETCHES}},
    "two_days": {"from": "s", "window": {"size": "2d", "time_zone": "America/New_York", "offset": "6h"},
                 "metrics": SKETCHES},
    "sliding": {"from": "s", "group_by": "dear", "window": {"type": "sliding", "size": "10m", "every": "4m"},
                "where": CHEAP, "allowed_lateness": "1m", "metrics": {"n": "count", "sum": {"sum": "v"},
                                                                    "spent": {"sum": "cost"}, **SKETCHES}},
    "hops": {"from": "s", "window": {"type": "sliding", "size": "1h", "every": "7m", "offset": "3m"},
             "metrics": {"n": "count", "q": {"quantiles": [0.5], "of": "p", "error": 0.05}}},
    "visits": {"from": "s", "group_by": ["ad"], "window": {"type": "session", "gap": "3m"}, "allowed_lateness": "1h",
               "metrics": {**NUMBERS, **SKETCHES}},
    "busy": {"from": "s", "where": above("v", 300), "window": {"type": "session", "gap": "1m"}, "metrics": SKETCHES},
    "ever": {"from": "s", "group_by": ["country"], "window": {"type": "global"}, "trigger": {"early_count": 100},
             "metrics": {**NUMBERS, **SKETCHES}},
}
CONFIG = {"lookups": {"countries": {"file": "@DIR@/countries.csv", "key": "ad", "value": "country"}},
          "streams": {"s": {**STREAM, "derive": DERIVED}}, "rules": RULES}


def with_rules(rules, config=CONFIG):
    return {**config, "rules": rules}


def small(rules):
    """Many rules fit into the memory of one process."""
    return {name: {**rule, "groups": {"bytes": "16MiB"}} for name, rule in rules.items()}


def with_trigger(rules, trigger):
    return {name: {**rule, "trigger": trigger} for name, rule in rules.items()}


def event(r, name, at):
    """Some fields are missing or null now and then."""
    e = {"id": name, "t": at, "k": r.choice(["a", "b", 3, True, None]), "v": r.randrange(-100, 1000),
         "p": r.choice([0.5, 0.25, 1, 3.75, -2.5, 1e-3]), "u": f"user{r.randrange(400)}",
         "ad": r.choice(["a1", "a2", "a3", "a4", "a5"]),
         "x": r.choice(["/", "/x", "ü", 1, 1.0, 2.5, True, False, "1", None, [1], -7])}
    for field in ("k", "v", "p", "x", "ad"):
        if r.random() < 0.03:
            del e[field]
    if r.random() < 0.03:
        e["p"] = None
    return e


class Events:
    """A random stream: time goes on at the speed of `step`, and events come up to `disorder` behind it."""

    def __init__(self, seed, step=20000, disorder=30000):
        self.random, self.step, self.disorder = random.Random(seed), step, disorder
        self.now, self.made = BASE, []

    def batch(self, fresh, again=2, late=0, by=0):
        r = self.random
        got = [dict(r.choice(self.made)) for _ in range(again if self.made else 0)]
        began = self.now
        for i in range(fresh):
            self.now += r.randrange(2 * self.step)
            self.made.append(event(r, f"e{len(self.made)}", max(BASE, self.now - r.randrange(self.disorder + 1))))
            got.append(self.made[-1])
        for i in range(late):
            self.made.append(event(r, f"e{len(self.made)}", began - r.randrange(by)))
            got.append(self.made[-1])
        r.shuffle(got)
        return got


def lines(events):
    return "".join(json.dumps(e) + "\n" for e in events)


class Life:
    """A server and the model beside it: both get the same, and must always say the same."""

    def __init__(self, s, config):
        self.s, self.config, self.model = s, config, Model(config)

    def post(self, events, stream="s"):
        want = self.model.bundle(stream, events)
        answer = self.s.post(f"/v1/streams/{stream}/events", lines(events))
        assert answer.status == 200, answer
        got = {k: answer.json[k] for k in want}
        assert got == want and answer.json["rejected"] == 0, (answer.json, want)

    def close(self, stream="s", at=BASE + 400 * 86400000):
        """An event far ahead closes what is open."""
        self.post([{"id": "last", "t": at}], stream)

    def check(self, final=True):
        for name, rule in self.model.rules.items():
            discards = rule.trigger.get("panes") == "discarding"
            got = self.s.rows(name, state="all")
            wrong = differences(rule, sums(got) if discards else got, rule.rows(), final=final and not discards)
            assert not wrong, "\n".join(wrong[:6])


def sums(rows):
    """Discarding panes of a group: their counts and sums add up. A session's end is that of its newest pane."""
    total = {}
    for row in rows:
        at = row["window_start"], json.dumps(row["key"], sort_keys=True)
        into = total.setdefault(at, {**row, "events": 0, "metrics": dict.fromkeys(row["metrics"], 0)})
        into["window_end"] = max(into["window_end"], row["window_end"])
        into["events"] += row["events"]
        for m, v in row["metrics"].items():
            into["metrics"][m] += v
    return list(total.values())


@contextlib.contextmanager
def life(config, shards=2, more=""):
    text = f'node: {{ data_dir: "@DIR@/data", shards: {shards} }}\ncheckpoint: {{ every: 1d }}\n{more}'
    s = Server(text + as_yaml(config))
    (s.directory / "countries.csv").write_text(COUNTRIES)
    try:
        yield Life(s.start(), config)
    except BaseException:
        sys.stderr.write(s.stderr()[-4000:])
        raise
    finally:
        s.close()


def run_over(life_, inputs):
    """`millrace run` with the configuration of a server: rows by rule, and the summaries by stream."""
    operands = []
    for stream, events in inputs.items():
        path = life_.s.directory / f"{stream}.ndjson"
        path.write_text(lines(events))
        operands.append(f"{stream}={path}")
    done = subprocess.run([MILLRACE, "run", "-c", str(life_.s.config), "--json", *operands], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    rows = {name: [] for name in life_.config["rules"]}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        rows[row["rule"]].append(row)
    said = [json.loads(line) for line in done.stderr.splitlines()[-len(inputs):]]
    if len(inputs) == 1:
        said[0]["stream"] = next(iter(inputs))
    return rows, {summary["stream"]: summary for summary in said}


def check_run(life_, inputs):
    model, verdicts = bounded(life_.config, inputs)
    rows, summaries = run_over(life_, inputs)
    for stream, expected in verdicts.items():
        assert {k: summaries[stream][k] for k in expected} == expected, (stream, summaries, verdicts)
    for name, rule in model.rules.items():
        wrong = differences(rule, rows[name], rule.rows())
        assert not wrong, "\n".join(wrong[:6])
    return rows


# ---- the same rows whichever way events come ----

def test_run_and_http_give_the_rows_of_the_model():
    for seed, shards in ((1, 1), (2, 3)):
        made = Events(seed)
        batches = [made.batch(made.random.randrange(1, 60)) for _ in range(60)]
        with life(CONFIG, shards) as l:
            for batch in batches:
                l.post(batch)
            l.check()
            l.close()
            l.check()
            last = {"id": "last", "t": BASE + 400 * 86400000}
            rows = check_run(l, {"s": [e for b in batches for e in b] + [last]})
            check_ledger(l.s, "s")
            # The same rows, final or not: the event far ahead is in a window of its own that is open over HTTP.
            for name, run_rows in rows.items():
                strip = lambda rows: sorted(json.dumps({k: v for k, v in r.items() if k not in
                                                        ("rule", "revision", "final")}, sort_keys=True) for r in rows)
                assert strip(run_rows) == strip(l.s.rows(name, state="all")), name


def test_late_events_are_judged_by_each_rule():
    made = Events(3)
    with life(CONFIG) as l:
        for i in range(60):
            l.post(made.batch(made.random.randrange(1, 40), late=made.random.randrange(4), by=8 * 3600000))
            if i % 20 == 19:
                l.check()
        l.close()
        l.check()
        check_ledger(l.s, "s")
        late = sum(l.s.metric("millrace_rule_events_total", rule=name, outcome="late") for name in RULES)
        assert late > 100, late


SUMS = {"n": "count", "sum": {"sum": "v"}, "big": {"count": "events", "where": above("v", 700)}}


def discarding(trigger=None, lateness="5m"):
    panes = {"trigger": {"early_count": 4, "panes": "discarding", **(trigger or {})}, "allowed_lateness": lateness,
             "metrics": SUMS}
    return {name: {**RULES[name], **panes} for name in RULES}


def check_panes(l):
    """Row by row: what discarding panes there are, and what waits for its own."""
    row = lambda r: (r["window_start"], r["window_end"], json.dumps(r["key"], sort_keys=True), r["events"],
                     r["metrics"]["n"], int(r["metrics"]["sum"]), r["metrics"]["big"])
    for name, rule in l.model.rules.items():
        if rule.config["window"].get("type") == "session":
            continue  # what is taken back and said again when they merge is not the model's: check adds it up
        got = sorted(row(r) for r in l.s.rows(name, state="all") if r["events"] > 0)
        want = sorted(map(row, rule.discarded()))
        assert got == want, (name, [x for x in got if x not in want][:4], [x for x in want if x not in got][:4])


def test_discarding_panes_hold_each_event_once():
    for trigger in ({}, {"late": False}, {"early_count": 1}):
        if trigger.get("early_count"):
            rules = discarding(trigger, "3h")
        else:
            rules = {n: r for n, r in discarding(trigger, "3h").items() if n != "ever"}
        made = Events(4)
        with life(with_rules(rules)) as l:
            for i in range(30):
                l.post(made.batch(made.random.randrange(1, 30), late=made.random.randrange(3), by=4 * 3600000))
                if i % 10 == 9:
                    check_panes(l)
                    l.check()
            l.close()
            check_panes(l)
            l.check()


def test_idleness_closes_windows():
    quick = {**STREAM, "watermark": {"out_of_orderness": "30s", "idle_timeout": "1s"}, "derive": DERIVED}
    made = Events(5)
    with life({**CONFIG, "streams": {"s": quick}}) as l:
        l.post(made.batch(200))  # one bundle: a pause between two would close windows, as it should
        until("all windows final", lambda: all(r["final"] for r in l.s.rows("days", state="all")))
        l.model.advance(BASE + 400 * 86400000)
        for name, rule in l.model.rules.items():
            until(f"the model's rows of {name}",
                  lambda: not differences(rule, l.s.rows(name, state="all"), rule.rows()))


# ---- restarts ----

def test_stops_and_kills_in_open_windows_change_no_row():
    for seed, early in ((6, {"early": "100ms", "early_count": 5}), (7, {"early_count": 3, "late": False})):
        rules = {**with_trigger(RULES, early), **{"panes_" + name: rule for name, rule in discarding(early).items()},
                 "retracting": {**RULES["minutes"], "trigger": {**early, "panes": "accumulating_and_retracting"}}}
        made = Events(seed, step=5000)
        r = made.random
        with life(with_rules(small(rules))) as l:
            for i in range(60):
                l.post(made.batch(r.randrange(1, 40), late=r.randrange(2), by=3600000))
                what = r.choice(["on"] * 6 + ["kill", "stop", "checkpoint", "checkpoint, kill", "panes, kill"])
                if "checkpoint" in what:
                    assert l.s.request("POST", "/v1/checkpoint").status == 200
                    l.post(made.batch(r.randrange(1, 20)))
                if "panes" in what and "early" in early:
                    until("early panes", lambda: l.s.metric("millrace_panes_total", rule="ever") > 0)
                if "kill" in what:
                    l.s.kill()
                    l.s.start()
                if what == "stop":
                    assert l.s.stop() == 0
                    l.s.start()
                if i % 15 == 14:
                    l.check()
            l.close()
            l.check()
            l.s.kill()
            l.s.start()
            l.check()


# ---- several streams ----

def two_streams(clicks=None, shown=None):
    stream = lambda watermark: {**STREAM, "watermark": {
        "out_of_orderness": "10s", "idle_timeout": "off", **(watermark or {})}}
    key = {"group_by": ["ad"], "allowed_lateness": "30s"}
    metrics = {"clicks": {"count": "events", "from": "clicks"}, "shown": {"count": "events", "from": "shown"},
               "rate": {"ratio": ["clicks", "shown"]}, "spent": {"sum": "v", "from": "clicks", "where": above("v", 0)},
               "users": {"distinct": "u"}, "last": {"last": "x", "from": "shown"},
               "most": {"max": "v"}}
    return {"streams": {"clicks": stream(clicks), "shown": stream(shown)},
            "rules": {"rate": {"from": ["clicks", "shown"], "window": {"size": "1m"}, **key, "metrics": metrics},
                      "hops": {"from": ["shown", "clicks"], "where": above("v", 100), **key, "metrics": metrics,
                               "window": {"type": "sliding", "size": "3m", "every": "2m"}},
                      "shown": {"from": "shown", "window": {"size": "1m"}, **key, "metrics": {"n": "count"}}}}


def test_two_streams_go_by_the_slower():
    made = {"clicks": Events(8, step=4000, disorder=10000), "shown": Events(9, step=1500, disorder=10000)}
    with life(two_streams()) as l:
        for i in range(80):
            stream = made["clicks"].random.choice(["clicks", "shown"])
            l.post(made[stream].batch(made[stream].random.randrange(1, 20), late=i % 2, by=300000), stream)
            if i % 20 == 19:
                l.check()
            if i in (25, 50):
                l.s.kill()
                l.s.start()
        rule = l.model.rules["rate"]
        assert any(r["final"] for r in rule.rows()) and not all(r["final"] for r in rule.rows())
        l.close("clicks")
        l.check()  # the other one holds it
        l.close("shown")
        l.check()
        for stream in made:
            check_ledger(l.s, stream)
        check_run(l, {"clicks": made["clicks"].made})
        check_run(l, {stream: m.made for stream, m in made.items()})


def test_a_silent_stream_does_not_hold_the_others_for_ever():
    for was_there in (True, False):
        made = {"clicks": Events(10, step=3000, disorder=10000), "shown": Events(11, step=3000, disorder=10000)}
        with life(two_streams(shown={"idle_timeout": "1s"})) as l:
            if was_there:
                l.post(made["shown"].batch(30), "shown")
            for _ in range(10):
                l.s.post("/v1/streams/clicks/events", lines(made["clicks"].batch(10)))
            asked = lambda: l.s.get("/v1/rules/rate/windows?limit=1").json["watermark"]
            newest = max(e["t"] for e in made["clicks"].made)
            until("the watermark of clicks", lambda: asked() == instant(newest - 10000))
            until("final rows", lambda: any(r["final"] for r in l.s.rows("rate", state="all")))
            # The rule goes by clicks alone: what they have still open takes events of the silent stream, however old.
            answer = l.s.post("/v1/streams/shown/events", lines([{"id": "new", "t": newest, "ad": "a1", "v": 1000}]))
            assert answer.json["accepted"] == 1, answer
            assert asked() == instant(newest - 10000)
            rows = [r for r in l.s.rows("rate", state="all") if r["key"] == {"ad": "a1"}]
            assert max(rows, key=lambda r: r["window_start"])["metrics"]["shown"] >= 1, rows[-1]


# ---- changes of the configuration ----

def restart(l, kill, config):
    if kill:
        l.s.kill()
    else:
        assert l.s.stop() == 0
    l.config = config
    l.s.configure(f'node: {{ data_dir: "@DIR@/data", shards: 2 }}\ncheckpoint: {{ every: 1d }}\n{as_yaml(config)}')
    l.s.start()


def posts(l, made, n, late=2):
    for _ in range(n):
        l.post(made.batch(made.random.randrange(5, 30), late=late, by=600000))


def test_early_panes_come_and_go_with_the_configuration():
    for kill in (False, True):
        made = Events(12, step=5000)
        config = with_rules({n: {**r, "groups": {"bytes": "16MiB"}} for n, r in RULES.items() if n != "ever"})
        with life(config) as l:
            for trigger in ({"early_count": 3}, {}, {"early": "100ms"}, {"early": "200ms", "early_count": 2},
                            {"late": False}, {}):
                posts(l, made, 6)
                l.check()
                changed = with_rules(with_trigger(config["rules"], trigger), config)
                restart(l, kill, changed)
                for name, rule in l.model.rules.items():
                    rule.trigger, rule.config = trigger, changed["rules"][name]
                l.check()  # open windows, and all they had, are there
            posts(l, made, 3)
            l.close()
            l.check()


def test_another_condition_begins_anew():
    for kill in (False, True):
        made = Events(13)
        with life(with_rules(small(RULES))) as l:
            posts(l, made, 8)
            changed = {**l.config["rules"], "sliding": {**l.config["rules"]["sliding"], "where": above("v", 250)},
                       "hops": {**l.config["rules"]["hops"], "where": CHEAP}}
            changed["minutes"] = {**changed["minutes"], "metrics": {
                **NUMBERS, "big": {"count": "events", "where": above("v", 600)}}}
            l.check()
            config = with_rules(dict(l.config["rules"]))
            l.model.config = config
            for name in ("sliding", "hops", "minutes"):
                l.model.begin_anew(name, changed[name])
            restart(l, kill, config)
            l.check()
            posts(l, made, 8)
            l.check()
            l.close()
            l.check()


def test_another_derived_field_begins_anew_what_uses_it():
    made = Events(14)
    with life(with_rules(small(RULES))) as l:
        posts(l, made, 5)
        derive = {**DERIVED, "cost": ("coalesce(v * p, 1)", lambda e: cost(e) if is_number(e.get("v")) and
                                      is_number(e.get("p")) else 1)}
        config = {**l.config, "streams": {"s": {**STREAM, "derive": derive}}, "rules": dict(l.config["rules"])}
        l.model.config = config
        for name in ("days", "two_days", "sliding", "visits", "busy", "ever"):  # in a metric's condition, too
            l.model.begin_anew(name, config["rules"][name])
        restart(l, True, config)
        l.check()
        posts(l, made, 5)
        l.close()
        l.check()


def test_another_lookup_begins_anew_what_uses_it():
    """What was taken before the change and is replayed behind a kill is judged by the table of its time."""
    in_de = ('lookup("countries", ad) == "DE"', lambda e: COUNTRY.get(e.get("ad")) == "DE")
    rules = {"german": {"from": "s", "where": in_de, "window": {"size": "1m"}, "allowed_lateness": "0s",
                        "metrics": {"n": "count"}},
             "by_country": {"from": "s", "where": in_de, "group_by": ["country"], "window": {"size": "4m"},
                            "allowed_lateness": "0s", "metrics": {"n": "count", "sum": {"sum": "v"}}},
             "plain": {"from": "s", "where": above("v", 2000), "window": {"size": "1m"}, "metrics": {"n": "count"}},
             "big": {"from": "s", "where": above("v", 500), "window": {"size": "1m"}, "allowed_lateness": "1d",
                     "metrics": {"n": "count"}}}
    for kill in (False, True):
        made = Events(15)
        old = dict(COUNTRY)
        with life(with_rules(small(rules))) as l:
            try:
                posts(l, made, 10, late=5)
                count = lambda v: l.s.metric("millrace_events_total", stream="s", verdict=v)
                dead = lambda: sorted((e["event"]["id"], tuple(e["rules"])) for e in
                                      l.s.get("/v1/dead-letters?limit=1000").json["entries"])
                before = {v: count(v) for v in ("accepted", "late", "duplicate")}, dead()
                assert before[0]["late"] > 0 and len(before[1]) > before[0]["late"], before
                l.check()
                (l.s.directory / "countries.csv").write_text("ad,country\na1,FR\na3,DE\na5,DE\n")
                COUNTRY.clear()
                COUNTRY.update(a1="FR", a3="DE", a5="DE")
                for name in ("german", "by_country"):
                    l.model.begin_anew(name, l.config["rules"][name])
                restart(l, kill, l.config)
                if kill:
                    assert {v: count(v) for v in before[0]} == before[0], before[0]
                assert dead() == before[1]
                l.check()
                posts(l, made, 10)
                l.check()
                restart(l, True, l.config)  # under the new table, begun anew no more
                l.check()
                l.close()
                l.check()
            finally:
                COUNTRY.clear()
                COUNTRY.update(old)


# ---- what is refused ----

BAD = """\
lookups:
  countries: {{ file: {directory}/countries.csv, key: {key}, value: country }}
streams:
  s:
    id: id
    time: t
    derive:
      cost: {derive}
rules:
  r:
    from: s
    where: {where}
    window: {{ size: 1d{window} }}
    metrics:
      n: count
      big:
        count: events
        where: {metric}
"""
GOOD = {"derive": "v * p", "where": "cost > 0", "window": "", "metric": "v > 1", "key": "ad"}
REFUSED = [  # what is wrong, and what is said of it
    ({"where": "cost >"}, ":12:", "where of r", "column"),
    ({"where": "cosst('x') > 1"}, ":12:", "where of r", "no function `cosst`"),
    ({"where": "1 + 2"}, ":12:", "where of r"),
    ({"where": "'\"x\" + 1 > 2'"}, ":12:", "where of r", "takes a number, found a text"),
    ({"where": "lookup(\"towns\", ad) == \"DE\""}, ":12:", "where of r", "no lookup table `towns`"),
    ({"metric": "v >> 1"}, ":18:", "where of big"),
    ({"metric": "lower(v, 1) == 'x'"}, ":18:", "where of big", "lower"),
    ({"derive": "v * "}, ":8:", "cost", "column"),
    ({"derive": "coalsce(v, 0)"}, ":8:", "cost", "coalesce"),
    ({"derive": "lookup(\"towns\", ad)"}, ":8:", "cost", "towns"),
    ({"window": ", time_zone: Europe/Berlim"}, ":13:", "`time_zone: Europe/Berlim`"),
    ({"key": "adv"}, "lookup countries", "countries.csv", "line 1", "no column `adv`"),
]


def check_refused(path, change, words):
    for command in (["check", path], ["serve", "-c", path], ["run", "-c", path]):
        done = subprocess.run([MILLRACE, *map(str, command)], capture_output=True, stdin=subprocess.DEVNULL)
        said = done.stderr.decode()
        assert done.returncode == 78, (change, command, done)
        for word in words:
            assert word in said, (change, word, said)


def test_bad_expressions_are_refused_with_their_place():
    """And leave no trace: on an empty directory, and on one with data."""
    s = Server(BAD)
    try:
        (s.directory / "countries.csv").write_text(COUNTRIES)
        text = lambda change: BAD.format(directory=s.directory, **{**GOOD, **change}) + \
            f"node: {{ data_dir: {s.directory}/data, shards: 2 }}\nhttp: {{ listen: 127.0.0.1:0 }}\n"
        for kept in ([], [3]):
            for change, *words in REFUSED:
                s.config.write_text(text(change))
                check_refused(s.config, change, words)
            s.config.write_text(text({}))
            assert subprocess.run([MILLRACE, "check", str(s.config)], capture_output=True).returncode == 0
            s.start()
            assert [r["events"] for r in s.rows("r", state="all")] == kept
            event = lambda i: {"id": f"{i}", "t": BASE, "v": 2, "p": 3}
            answer = s.post("/v1/streams/s/events", lines(map(event, range(3))))
            assert answer.json["accepted"] == 3 - sum(kept), answer
            assert s.stop() == 0
    except BaseException:
        sys.stderr.write(s.stderr()[-4000:])
        raise
    finally:
        s.close()


# ---- the semantics of panes, case by case ----

# Value, event time, in the order in which they come: the example of The Dataflow Model, and of all that was written
# about it since. In windows of two minutes they add up to 14, 18, 4 and 12.
EXAMPLE = [(5, "0:26"), (7, "2:26"), (3, "3:39"), (4, "4:19"), (8, "3:06"), (3, "6:39"), (9, "1:26"), (8, "7:26"),
           (1, "7:46")]
TWO = {"size": "2m"}
FOUR = {"type": "sliding", "size": "4m", "every": "2m"}
GLOBAL = {"type": "global"}
SESSION = {"type": "session", "gap": "1m"}


def minutes(text):
    return BASE + (int(text.split(":")[0]) * 60 + int(text.split(":")[1])) * 1000


def S(start, end, *sums):
    return {(minutes(start), minutes(end)): list(sums)}


def W(start, end, *sums):
    return {(None if start is None else BASE + start * 60000, None if end is None else BASE + end * 60000): list(sums)}


SESSIONS = S("0:26", "1:26", 5) | S("1:26", "2:26", 9) | S("2:26", "5:19", 22) | S("6:39", "8:46", 12)
# window, lateness, trigger, which were late, the sum in each window, and in each pane of it when panes discard (None:
# sessions, whose panes are taken back and said again when they merge: what is left adds up)
CASES = [
    (TWO, "10m", {}, [], W(0, 2, 14) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5, 9) | W(2, 4, 10, 8) | W(4, 6, 4) | W(6, 8, 12)),
    (TWO, "0s", {}, [8, 9], W(0, 2, 5) | W(2, 4, 10) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5) | W(2, 4, 10) | W(4, 6, 4) | W(6, 8, 12)),
    (TWO, "1m", {}, [9], W(0, 2, 5) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5) | W(2, 4, 10, 8) | W(4, 6, 4) | W(6, 8, 12)),
    (TWO, "10m", {"late": False}, [], W(0, 2, 14) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5, 9) | W(2, 4, 10, 8) | W(4, 6, 4) | W(6, 8, 12)),
    (TWO, "10m", {"early_count": 1}, [], W(0, 2, 14) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5, 9) | W(2, 4, 7, 3, 8) | W(4, 6, 4) | W(6, 8, 3, 8, 1)),
    (TWO, "10m", {"early_count": 2}, [], W(0, 2, 14) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5, 9) | W(2, 4, 10, 8) | W(4, 6, 4) | W(6, 8, 11, 1)),
    (TWO, "10m", {"early_count": 2, "late": False}, [], W(0, 2, 14) | W(2, 4, 18) | W(4, 6, 4) | W(6, 8, 12),
     W(0, 2, 5, 9) | W(2, 4, 10, 8) | W(4, 6, 4) | W(6, 8, 11, 1)),
    (FOUR, "10m", {}, [], W(-2, 2, 14) | W(0, 4, 32) | W(2, 6, 22) | W(4, 8, 16) | W(6, 10, 12),
     W(-2, 2, 5, 9) | W(0, 4, 15, 8, 9) | W(2, 6, 22) | W(4, 8, 16) | W(6, 10, 12)),
    (FOUR, "0s", {}, [9], W(-2, 2, 5) | W(0, 4, 15) | W(2, 6, 22) | W(4, 8, 16) | W(6, 10, 12),
     W(-2, 2, 5) | W(0, 4, 15) | W(2, 6, 22) | W(4, 8, 16) | W(6, 10, 12)),
    (SESSION, "10m", {}, [], SESSIONS, None),
    (SESSION, "10m", {"early_count": 1}, [], SESSIONS, None),
    (SESSION, "10m", {"early_count": 2, "late": False}, [], SESSIONS, None),
    (SESSION, "0s", {}, [8, 9], S("0:26", "1:26", 5) | S("2:26", "3:26", 7) | S("3:39", "5:19", 7) |
     S("6:39", "8:46", 12), None),
    (GLOBAL, "0s", {"early_count": 3}, [], W(None, None, 48), W(None, None, 15, 15, 18)),
]


def check_case(case, panes):
    window, lateness, trigger, late, whole, discarded = case
    stream = {**STREAM, "watermark": {"out_of_orderness": "0s", "idle_timeout": "off"}}
    rule = {"from": "s", "window": window, "allowed_lateness": lateness, "trigger": {**trigger, "panes": panes},
            "metrics": {"n": "count", "sum": {"sum": "v"}}}
    with life({"streams": {"s": stream}, "rules": {"r": rule}}, shards=1) as l:
        were_late = []
        for i, (v, at) in enumerate(EXAMPLE):
            answer = l.s.post("/v1/streams/s/events", lines([{"id": f"{i}", "t": minutes(at), "v": v}]))
            assert answer.status == 200, answer
            were_late += [v] * answer.json["late"]
        l.s.post("/v1/streams/s/events", lines([{"id": "end", "t": minutes("59:00"), "v": 0}]))
        assert were_late == late, (case, were_late)
        got = {}
        rows = l.s.rows("r", state="all")
        for row in rows if discarded else sums(rows):
            at = None if window is GLOBAL else (row["window_start"], row["window_end"])
            if row["metrics"]["sum"] > 0:
                got.setdefault(at, []).append(row["metrics"]["sum"])
        expected = discarded if discarded and panes == "discarding" else whole
        want = {None if start is None else (instant(start), instant(end)): all_
                for (start, end), all_ in expected.items()}
        assert got == want, (case, panes, got, want)


def test_panes_are_those_of_the_beam_model():
    for case in CASES:
        for panes in ("accumulating", "discarding", "accumulating_and_retracting"):
            check_case(case, panes)


if __name__ == "__main__":
    run(globals())
