# SPDX-License-Identifier: Apache-2.0
"""
What the event-time model means, as slowly and plainly as it can be said: a configuration and events in, rows out.

A configuration is a dict as in YAML. An expression is a pair: its text, and the same as a Python function of the event.
A Model is fed bundles (what one request brought) and keeps every event of every group; a metric is worked out from that
list when a row is asked for. Nothing is merged, encoded, sliced or sketched, and nothing is shared with the server.
"""
import collections
import datetime
import fractions
import functools
import json
import math
import zoneinfo

MINUS_INFINITY = -1 << 62
END_OF_TIME = 1 << 62
UNITS = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000}
YEAR_2000_MS, YEAR_2100_MS = 946684800000, 4102444800000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def ms(text):
    digits = text.rstrip("mshd")
    return int(digits) * UNITS[text[len(digits):]]


def instant(at):
    return (EPOCH + datetime.timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"


def as_yaml(config):
    """A section a line; JSON is YAML. Of an expression only its text."""
    plain = lambda x: x[0] if isinstance(x, tuple) else \
        {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x
    return "".join(f"{name}: {json.dumps(plain(section))}\n" for name, section in config.items())


# ---- windows ----

@functools.lru_cache(maxsize=None)
def first_instant_showing(zone, local):
    """When a zone's clock shows this or more for the first time; clocks are put on and back at full quarters."""
    quarter = 15 * 60000
    return next(at for at in range(local - 27 * 4 * quarter, local + 27 * 4 * quarter, quarter)
                if clock(zone, at) >= local)


def clock(zone, at):
    moment = EPOCH + datetime.timedelta(milliseconds=at)
    return at + moment.astimezone(zoneinfo.ZoneInfo(zone)).utcoffset() // datetime.timedelta(milliseconds=1)


def windows_of(window, t):
    """The windows [start, end) that hold t; of a session that of this event alone."""
    kind = window.get("type", "tumbling")
    if kind == "global":
        return [(YEAR_2000_MS, YEAR_2100_MS)]
    if kind == "session":
        return [(t, t + ms(window["gap"]))]
    size, offset = ms(window["size"]), ms(window.get("offset", "0s"))
    if "time_zone" in window:
        boundary = lambda k: first_instant_showing(window["time_zone"], offset + k * size)
        k = (clock(window["time_zone"], t) - offset) // size + 1
        while boundary(k) > t:
            k -= 1
        return [(boundary(k), boundary(k + 1))]
    every = ms(window.get("every", window["size"]))
    last = (t - offset) // every * every + offset
    return [(s, s + size) for s in range(last, t - size, -every)]


# ---- metrics ----

def kind_of(v):
    """Numbers are one kind; a value of another kind is another value."""
    return "bool" if isinstance(v, bool) else "number" if isinstance(v, (int, float)) else "text"


FIELD_KEYS = ("of", "sum", "min", "max", "avg", "variance", "stddev", "first", "last", "distinct", "top", "histogram",
              "collect")


def values_of(metric, items, model):
    field = next(metric[k] for k in FIELD_KEYS if k in metric)
    got = [(i.time, i.place, model.field(i.event, field)) for i in items]
    return [g for g in got if g[2] is not None and not isinstance(g[2], (dict, list))]


def mean(numbers):
    return sum(map(fractions.Fraction, numbers), fractions.Fraction(0)) / len(numbers)


def variance(numbers):
    m = mean(numbers)
    return sum((fractions.Fraction(x) - m) ** 2 for x in numbers) / len(numbers)


def order(v):
    return (("bool", "number", "text").index(kind_of(v)), v.encode() if isinstance(v, str) else v)


def measure(metrics, name, items, model):
    """The exact value; what only a bound is promised for comes as all that is needed to judge a number."""
    metric = metrics[name]
    if metric == "count":
        return len(items)
    if "ratio" in metric:
        over, by = (measure(metrics, n, items, model) for n in metric["ratio"])
        return None if over is None or not by else fractions.Fraction(over) / fractions.Fraction(by)
    if "from" in metric:
        items = [i for i in items if i.stream == metric["from"]]
    if "where" in metric:
        items = [i for i in items if metric["where"][1](i.event) is True]
    if "count" in metric:
        return len(items)
    placed = values_of(metric, items, model)
    values = [v for _, _, v in placed]
    if "sum" in metric:
        total = sum(map(fractions.Fraction, values), fractions.Fraction(0))
        return total
    if "top" in metric:
        counts = collections.Counter((kind_of(v), v) for v in values)
        return sorted(((v, n) for (_, v), n in counts.items()), key=lambda x: (-x[1], order(x[0])))
    if "distinct" in metric:
        return len({(kind_of(v), v) for v in values})
    if "histogram" in metric:
        edges = [-math.inf, *metric["bounds"], math.inf]
        return [sum(lo <= v < hi for v in values) for lo, hi in zip(edges, edges[1:])]
    if "collect" in metric:
        return [v for _, _, v in sorted(placed, key=lambda x: x[:2])]
    if "quantiles" in metric:
        return sorted(values)
    if not values:
        return None
    if "first" in metric or "last" in metric:
        return (min if "first" in metric else max)(placed, key=lambda x: x[:2])[2]
    by_name = {"min": min, "max": max, "avg": mean, "variance": variance,
               "stddev": lambda x: math.sqrt(variance(x))}
    return next(f(values) for n, f in by_name.items() if n in metric)


def near(got, want, relative):
    return abs(got - want) <= relative * abs(want) + 1e-300


def agrees(metric, got, want):
    """Whether what the server says is what was measured, as exactly as its documentation promises."""
    if want is None:
        return got is None
    if isinstance(metric, dict) and "quantiles" in metric:
        if not want:
            return got is None
        error = metric.get("error", 0.01)
        exact = lambda rank: rank in (0, len(want) - 1) or want[0] == want[-1]
        ranks = {q: math.floor(q * (len(want) - 1)) for q in metric["quantiles"]}
        return {float(q) for q in got} == set(ranks) and all(
            near(v, want[ranks[float(q)]], 1e-15 if exact(ranks[float(q)]) else error * 1.000001)
            for q, v in got.items())
    if isinstance(metric, dict) and "distinct" in metric:
        error = metric.get("error", 0.01)
        registers = 2 ** math.ceil(2 * math.log2(1.04 / error))
        return got == want if want <= max(registers * 3 // 32, 16) else near(got, want, 5 * error)
    if isinstance(metric, dict) and "top" in metric:
        n = metric.get("n", 10)
        if len(want) <= max(10 * n, 100):
            return got == [{"value": v, "count": c, "error": 0} for v, c in want[:n]]
        true = {json.dumps(v): c for v, c in want}
        return all(x["count"] - x["error"] <= true[json.dumps(x["value"])] <= x["count"] for x in got)
    if isinstance(metric, dict) and "histogram" in metric:
        return got == {"bounds": metric["bounds"], "counts": want}
    if isinstance(metric, dict) and "collect" in metric:
        return got == {"values": want[:metric.get("n", 100)], "count": len(want)}
    if isinstance(want, (fractions.Fraction, float)) and not isinstance(got, (bool, str, type(None))):
        rounded = "sum" not in metric
        return near(got, want, 1e-9) if rounded else got == (int(want) if want.denominator == 1 else float(want))
    return type(got) is type(want) and got == want or \
        kind_of(got) == kind_of(want) == "number" and got == want


# ---- rules ----

Item = collections.namedtuple("Item", "stream time place event")


class Group:
    """What came for one key of one window. since: not yet in a pane; fired: panes as lists of items."""

    def __init__(self, start, end):
        self.start, self.end = start, end
        self.items, self.since, self.panes = [], [], []

    def fire(self):
        self.panes.append(self.since)
        self.since = []


class Rule:
    def __init__(self, model, name, config):
        self.model, self.name, self.config = model, name, config
        self.streams = config["from"] if isinstance(config["from"], list) else [config["from"]]
        keys = config.get("group_by", [])
        self.keys = keys if isinstance(keys, list) else [keys]
        self.lateness = ms(config.get("allowed_lateness", "5m"))
        self.trigger = config.get("trigger", {})
        self.groups = collections.defaultdict(list)  # by key: those that are not final
        self.found = {}                              # by key and start, but for sessions
        self.over = []                               # (key, group): those that are
        self.changed = []

    def watermark(self):
        return min(self.model.watermarks[s] for s in self.streams)

    def is_final(self, end):
        return end + self.lateness <= self.watermark()

    def takes(self, stream, event):
        return stream in self.streams and ("where" not in self.config or self.config["where"][1](event) is True)

    def add(self, item):
        """false: late, all of its windows are final."""
        key = tuple(json.dumps(self.model.field(item.event, k)) for k in self.keys)
        found = [w for w in windows_of(self.config["window"], item.time) if not self.is_final(w[1])]
        for start, end in found:
            group = self.group(key, start, end)
            group.items.append(item)
            group.since.append(item)
            self.changed.append(group)
        return bool(found)

    def group(self, key, start, end):
        groups = self.groups[key]
        if self.config["window"].get("type") == "session":
            met = [g for g in groups if g.start < end and start < g.end]
            group = Group(min([start, *(g.start for g in met)]), max([end, *(g.end for g in met)]))
            group.items = [i for g in met for i in g.items]
            group.since = [i for g in met for i in g.since]
            groups[:] = [g for g in groups if g not in met] + [group]
        elif (key, start) in self.found:
            group = self.found[key, start]
        else:
            group = self.found[key, start] = Group(start, end)
            groups.append(group)
        return group

    def advance(self, before):
        """Event time has moved from `before`: what fires, and what is over."""
        count = self.trigger.get("early_count", 0)
        for key, groups in self.groups.items():
            for g in groups:
                if g.end <= before:
                    if g.since and self.trigger.get("late", True):
                        g.fire()
                elif g.end <= self.watermark():
                    g.fire()
                elif count > 0 and len(g.since) >= count:
                    g.fire()
            gone = [g for g in groups if self.is_final(g.end)]
            for g in gone:
                if g.since:
                    g.fire()
            self.over += [(key, g) for g in gone]
            groups[:] = [g for g in groups if not self.is_final(g.end)]

    def row(self, key, group, items, final):
        metrics = self.config["metrics"]
        return {"window_start": instant(group.start), "window_end": instant(group.end),
                "key": {k: json.loads(v) for k, v in zip(self.keys, key)}, "events": len(items), "final": final,
                "metrics": {m: measure(metrics, m, items, self.model) for m in metrics}}

    def rows(self):
        """One a group. What discarding panes hold adds up to it."""
        all_ = [(key, g, True) for key, g in self.over]
        all_ += [(key, g, False) for key, groups in self.groups.items() for g in groups]
        return [self.row(key, g, g.items, final) for key, g, final in all_]

    def discarded(self):
        """One a pane, and one of what has not fired yet."""
        all_ = [(key, g, True) for key, g in self.over]
        all_ += [(key, g, False) for key, groups in self.groups.items() for g in groups]
        return [self.row(key, g, pane, final) for key, g, final in all_
                for pane in g.panes + ([g.since] if g.since else []) if pane]


class Model:
    def __init__(self, config):
        self.config = config
        self.watermarks = dict.fromkeys(config["streams"], MINUS_INFINITY)
        self.ids = set()
        self.place = 0
        self.rules = {name: Rule(self, name, rule) for name, rule in config["rules"].items()}

    def field(self, event, path):
        value = event
        for part in [path] if path in event else path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def derived(self, stream, event):
        full = dict(event)
        for name, (_, value) in self.config["streams"][stream].get("derive", {}).items():
            full[name] = value(full)
        return full

    def bundle(self, stream, events):
        """One request, or all of a bounded input. Returns how many were accepted, duplicates, late."""
        verdicts = collections.Counter(accepted=0, duplicate=0, late=0)
        befores = {name: rule.watermark() for name, rule in self.rules.items()}
        for event in events:
            self.place += 1
            if (stream, event["id"]) in self.ids:
                verdicts["duplicate"] += 1
                continue
            self.ids.add((stream, event["id"]))
            item = Item(stream, event["t"], self.place, self.derived(stream, event))
            took = [rule.add(item) for rule in self.rules.values() if rule.takes(stream, item.event)]
            verdicts["late" if took and not any(took) else "accepted"] += 1
        newest = max((e["t"] for e in events), default=MINUS_INFINITY)
        late_by = ms(self.config["streams"][stream].get("watermark", {}).get("out_of_orderness", "30s"))
        self.watermarks[stream] = max(self.watermarks[stream], newest - late_by)
        for name, rule in self.rules.items():
            rule.advance(befores[name])
        return dict(verdicts)

    def begin_anew(self, name, config):
        """A rule whose meaning has changed has seen nothing yet; time, and the ids, go on."""
        self.config["rules"][name] = config
        self.rules[name] = Rule(self, name, config)

    def advance(self, to):
        """Of all streams: the end of bounded input, or silence."""
        befores = {name: rule.watermark() for name, rule in self.rules.items()}
        self.watermarks = {stream: max(w, to) for stream, w in self.watermarks.items()}
        for name, rule in self.rules.items():
            rule.advance(befores[name])


def bounded(config, inputs):
    """The rows of `millrace run` over {stream: events}, one after the other, and what became of each stream's events:
    nothing is late where all of time is one bundle."""
    model = Model(config)
    verdicts = {}
    for stream, events in inputs.items():
        verdicts[stream] = {"accepted": 0, "duplicate": 0, "late": 0, **model.bundle(stream, events)}
    model.advance(END_OF_TIME)
    return model, verdicts


def place_of(row):
    return row["window_start"], row["window_end"], json.dumps(row["key"], sort_keys=True)


def differences(rule, got, want, final=True):
    """What is wrong with these rows, as texts: none, if they are the model's. final: whether that flag is compared."""
    metrics = rule.config["metrics"]
    wrong = []
    have = {place_of(r): r for r in got}
    need = {place_of(r): r for r in want}
    if len(have) != len(got):
        wrong.append(f"{len(got) - len(have)} rows are there twice")
    wrong += [f"too much: {have[p]}" for p in have.keys() - need.keys()]
    wrong += [f"missing: {need[p]}" for p in need.keys() - have.keys()]
    for p in have.keys() & need.keys():
        g, w = have[p], need[p]
        if g["events"] != w["events"] or (final and g["final"] != w["final"]):
            wrong.append(f"{p}: {g['events']} events, final {g['final']}; expected {w['events']}, {w['final']}")
        wrong += [f"{p} {m}: {g['metrics'][m]!r}, expected {w['metrics'][m]!r}" for m in metrics
                  if not agrees(metrics[m], g["metrics"][m], w["metrics"][m])]
    return [f"{rule.name}: {x}" for x in sorted(wrong)]
