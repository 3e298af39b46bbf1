# SPDX-License-Identifier: Apache-2.0
"""
Hot keys: which keys are heavy is known, and one that has nearly everything changes no result.

GET /v1/rules/{rule}/hot-keys and the metric millrace_hot_key_share, with one shard and several, for windows, sessions,
overflow groups and rules without keys, against shares known from what was sent; wrong questions and rights. And the
rows of rules with every kind of metric under a load of which one key has nine tenths, against numbers computed here.
"""
import collections
import datetime
import hashlib
import json
import math
import random

from harness import run, server

CONFIG = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
streams:
  s:
    id: id
    time: {{ field: ts, format: ms }}
    watermark: {{ out_of_orderness: 1h, idle_timeout: off }}
rules:
  tumbling: {{ from: s, group_by: [key, paid], window: {{ type: tumbling, size: 10s }}, metrics: {{ n: count }} }}
  sliding: {{ from: s, group_by: [key], window: {{ type: sliding, size: 20s, every: 10s }}, metrics: {{ n: count }} }}
  sessions: {{ from: s, group_by: [key], window: {{ type: session, gap: 1s }}, metrics: {{ n: count }} }}
  bounded:
    {{ from: s, group_by: [key], window: {{ type: tumbling, size: 1h }}, metrics: {{ n: count }},
      groups: {{ max: {shards} }} }}
  keyless: {{ from: s, window: {{ type: tumbling, size: 10s }}, metrics: {{ n: count }} }}
  silent:
    {{ from: s, where: "value < -1", group_by: [key], window: {{ type: tumbling, size: 10s }}, metrics: {{ n: count }} }}
"""
BASE = 1700000000000
E = "/v1/streams/s/events"


def load(count, seed, share=0.9, keys=500, spread=30000):
    """One key with a share, the others alike."""
    r = random.Random(seed)
    return [{"id": str(i), "ts": BASE + r.randrange(spread), "user": f"u{r.randrange(2000)}",
             "key": "hot" if r.random() < share else f"k{r.randrange(keys)}", "paid": True,
             "value": r.randrange(1000)} for i in range(count)]


def zipf(count, seed, keys=2000):
    r = random.Random(seed)
    ranks = r.choices(range(keys), [1 / (i + 1) for i in range(keys)], k=count)
    return [{"id": str(i), "ts": BASE + r.randrange(30000), "key": f"z{rank}", "paid": False, "value": 1}
            for i, rank in enumerate(ranks)]


def send(s, events, batch=500):
    for i in range(0, len(events), batch):
        answer = s.post(E, "\n".join(json.dumps(e) for e in events[i:i + batch]))
        assert answer.status == 200 and answer.json["accepted"] == len(events[i:i + batch]), answer


def hot(s, rule, query=""):
    answer = s.get(f"/v1/rules/{rule}/hot-keys{query}")
    assert answer.status == 200, answer
    body = answer.json
    assert body["rule"] == rule
    assert [k["events"] for k in body["keys"]] == sorted((k["events"] for k in body["keys"]), reverse=True)
    for k in body["keys"]:
        assert abs(k["share"] - k["events"] / body["events"]) < 1e-9 and 0 <= k["error"] <= k["events"], k
    return body


def test_a_hot_key_is_found():
    for shards in (1, 4):
        with server(CONFIG.format(shards=shards)) as s:
            assert hot(s, "tumbling") == {"rule": "tumbling", "since_ms": None, "events": 0, "keys": []}
            send(s, load(20000, 1))
            for rule in ("tumbling", "sliding", "sessions"):
                body = hot(s, rule)
                first = body["keys"][0]
                assert first["key"]["key"] == "hot" and 0.85 < first["share"] < 0.95, (shards, rule, first)
                assert first["key"].get("paid", True) is True
                assert abs(body["events"] - 20000) < 3000 and body["since_ms"] > BASE, body
                assert len(body["keys"]) == 10 and body["keys"][1]["share"] < 0.05, body
                assert 0.85 < s.metric("millrace_hot_key_share", rule=rule) < 0.95
            assert len(hot(s, "tumbling", "?n=1")["keys"]) == 1
            assert len(hot(s, "tumbling", "?n=64")["keys"]) == 64
            alone = hot(s, "keyless")
            assert [k["key"] for k in alone["keys"]] == [{}] and alone["keys"][0]["share"] == 1, alone
            assert hot(s, "silent")["keys"] == []
            assert 'millrace_hot_key_share{rule="silent"}' not in s.get("/metrics").body.decode()


def test_zipfian_keys():
    events = zipf(40000, 2)
    exact = collections.Counter(e["key"] for e in events)
    for shards in (1, 3):
        with server(CONFIG.format(shards=shards)) as s:
            send(s, events)
            shares = {k["key"]["key"]: k["share"] for k in hot(s, "tumbling", "?n=20")["keys"]}
            for key, count in exact.most_common(3):
                assert abs(shares[key] - count / len(events)) < 0.07, (shards, key, shares)


def test_overflow_group_is_one_key():
    for shards in (1, 3):
        with server(CONFIG.format(shards=shards)) as s:
            send(s, load(5000, 3, share=0, keys=1000))
            body = hot(s, "bounded", "?n=64")
            other = [k for k in body["keys"] if k["key"] == {"key": "(other)"}]
            assert len(other) == 1 and other[0] == body["keys"][0] and other[0]["share"] > 0.9, body


def test_few_events_are_counted_exactly():
    with server(CONFIG.format(shards=2)) as s:
        send(s, [{"id": str(i), "ts": BASE, "key": "abc"[i % 7 % 3], "paid": False} for i in range(70)])
        body = hot(s, "sliding")
        assert body["events"] == 70
        assert [(k["key"]["key"], k["events"], k["error"]) for k in body["keys"]] == \
            [("a", 30, 0), ("b", 20, 0), ("c", 20, 0)], body


def test_wrong_questions():
    with server(CONFIG.format(shards=1)) as s:
        assert s.get("/v1/rules/nobody/hot-keys").status == 404
        for query, word in (("n=0", "n"), ("n=65", "64"), ("n=x", "n"), ("limit=3", "limit")):
            answer = s.get("/v1/rules/tumbling/hot-keys?" + query)
            assert answer.status == 400 and word in answer.json["detail"], answer
        assert s.post("/v1/rules/tumbling/hot-keys", "").status == 405


def test_rights():
    def token(name, rights):
        return f"{name}: {{ sha256: {hashlib.sha256(name.encode()).hexdigest()}, {rights} }}"
    config = CONFIG.format(shards=1).replace("streams:\n", "streams:\n  t: { id: id, time: ts }\n", 1) + f"""
auth:
  tokens:
    {token("reader", "allow: [query]")}
    {token("writer", "allow: [ingest]")}
    {token("stranger", "allow: [query], streams: [t]")}
"""
    with server(config) as s:
        for name, status in (("reader", 200), ("writer", 403), ("stranger", 403), ("nobody", 401)):
            answer = s.get("/v1/rules/tumbling/hot-keys", headers={"Authorization": f"Bearer {name}"})
            assert answer.status == status, (name, answer)


EVERY_KIND = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
streams:
  s:
    id: id
    time: {{ field: ts, format: ms }}
    watermark: {{ out_of_orderness: 1h, idle_timeout: off }}
rules:
  tumbling:
    from: s
    group_by: [key]
    window: {{ type: tumbling, size: 10s }}
    metrics:
{metrics}
  sliding:
    from: s
    group_by: [key]
    window: {{ type: sliding, size: 20s, every: 10s }}
    metrics:
{metrics}
  sessions:
    from: s
    group_by: [key]
    window: {{ type: session, gap: 100ms }}
    metrics:
{metrics}
"""
METRICS = """
      n: count
      total: { sum: value }
      least: { min: value }
      most: { max: value }
      mean: { avg: value }
      var: { variance: value }
      dev: { stddev: value }
      opened: { first: value }
      closed: { last: value }
      users: { distinct: user }
      quant: { quantiles: [0.5, 0.99], of: value }
      best: { top: user, n: 3 }
      bars: { histogram: value, bounds: [100, 500] }
      all: { collect: user, n: 5 }
      per: { ratio: [total, n] }
""".strip("\n")
EXACT = ("n", "total", "least", "most", "mean", "bars", "users")


def windows_of(rule, events):
    """{(start, end, key): events}"""
    table = collections.defaultdict(list)
    if rule == "sessions":
        by_key = collections.defaultdict(list)
        for e in sorted(events, key=lambda e: e["ts"]):
            by_key[e["key"]].append(e)
        for key, own in by_key.items():
            begin = 0
            for i in range(1, len(own) + 1):
                if i == len(own) or own[i]["ts"] - own[i - 1]["ts"] >= 100:
                    table[own[begin]["ts"], own[i - 1]["ts"] + 100, key] = own[begin:i]
                    begin = i
        return table
    for e in events:
        last = e["ts"] // 10000 * 10000
        for start in ([last] if rule == "tumbling" else [last, last - 10000]):
            table[start, start + (10000 if rule == "tumbling" else 20000), e["key"]].append(e)
    return table


def expect_close(got, wanted, relative, what):
    assert abs(got - wanted) <= relative * max(1, abs(wanted)), (what, got, wanted)


def expect_metrics(got, own, what):
    values = [e["value"] for e in own]
    n, mean = len(values), sum(values) / len(values)
    deviation = sum((v - mean) ** 2 for v in values)
    in_order = sorted(own, key=lambda e: e["ts"])
    counts = collections.Counter(e["user"] for e in own)
    assert (got["n"], got["total"], got["least"], got["most"]) == (n, sum(values), min(values), max(values)), what
    expect_close(got["mean"], mean, 1e-12, what)
    expect_close(got["per"], mean, 1e-12, what)
    assert got["opened"] in [e["value"] for e in own if e["ts"] == in_order[0]["ts"]], (what, got["opened"])
    assert got["closed"] in [e["value"] for e in own if e["ts"] == in_order[-1]["ts"]], (what, got["closed"])
    expect_close(got["var"], deviation / n, 1e-9, what)
    expect_close(got["dev"], math.sqrt(deviation / n), 1e-9, what)
    expect_close(got["users"], len(counts), 0.05, what)
    return values, counts


def test_results_under_a_hot_key_are_exact():
    events = load(30000, 9, keys=100)
    answers = []
    for shards in (1, 4):
        with server(EVERY_KIND.format(shards=shards, metrics=METRICS)) as s:
            send(s, events, 400)
            every = {}
            for rule in ("tumbling", "sliding", "sessions"):
                wanted = windows_of(rule, events)
                rows = s.rows(rule)
                assert len(rows) == len(wanted), (rule, len(rows), len(wanted))
                for row in rows:
                    place = (ms(row["window_start"]), ms(row["window_end"]), row["key"]["key"])
                    assert row["events"] == len(wanted[place]), (rule, place, row["events"])
                    got = row["metrics"]
                    values, counts = expect_metrics(got, wanted[place], (shards, rule, place))
                    expect_sketches(got, values, counts, (shards, rule, place))
                    every[rule, place] = {m: got[m] for m in EXACT}
            answers.append(every)
    assert answers[0] == answers[1]


def ms(text):
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round(when.timestamp() * 1000)


def expect_sketches(got, values, counts, what):
    values = sorted(values)
    for q in ("0.5", "0.99"):
        exact = values[int(float(q) * (len(values) - 1))]
        assert abs(got["quant"][q] - exact) <= 0.02 * exact + 1e-9, (what, q, got["quant"], exact)
    assert len(got["best"]) == min(3, len(counts)), (what, got["best"])
    for item in got["best"]:
        exact = counts[item["value"]]
        assert item["count"] - item["error"] <= exact <= item["count"], (what, item, exact)
    bars = [sum(v < 100 for v in values), sum(100 <= v < 500 for v in values), sum(v >= 500 for v in values)]
    assert got["bars"] == {"bounds": [100, 500], "counts": bars}, (what, got["bars"], bars)
    assert got["all"]["count"] == len(values) and len(got["all"]["values"]) == min(5, len(values)), (what, got["all"])
    assert not collections.Counter(got["all"]["values"]) - counts, (what, got["all"])


if __name__ == "__main__":
    run(globals())
