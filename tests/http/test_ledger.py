# SPDX-License-Identifier: Apache-2.0
"""
Ledger: after any mix of good, bad, duplicate, late and future events from several connections at once,
received = accepted + duplicate + late + rejected, in the metrics and in the answers summed; and the rows hold
exactly what was accepted. Also across a kill and a restart.
"""
import json
import random
import threading
import time

from harness import check_ledger, run, server

CONFIG = """
node: { data_dir: "@DIR@/data", shards: 3 }
streams:
  a:
    id: id
    time: { field: ts, format: ms }
    dedup: { mode: exact, horizon: 1h, ids: 200000 }
    watermark: { out_of_orderness: 1s, idle_timeout: off, max_future: 1m }
  b:
    id: id
    time: { field: ts, format: s }
    missing_id: accept
    dedup: { mode: exact, horizon: 1h, ids: 200000 }
    watermark: { out_of_orderness: 1s, idle_timeout: off }
rules:
  per_key:
    from: a
    group_by: [key]
    window: { type: tumbling, size: 10s }
    allowed_lateness: 5s
    metrics: { n: count, total: { sum: value } }
  per_day:
    from: a
    window: { type: tumbling, size: 1d }
    allowed_lateness: 30d
    metrics: { n: count, low: { min: value }, high: { max: value }, mean: { avg: value } }
  of_b:
    from: b
    group_by: [key]
    window: { type: tumbling, size: 10s }
    allowed_lateness: 1d
    metrics: { n: count }
http: { listen: 127.0.0.1:0, threads: 2 }
"""

KEYS = ("received", "accepted", "duplicate", "late", "rejected")


def line(r, now, stream):
    kind = r.random()
    unit = 1 if stream == "a" else 1000
    event = {"id": f"{r.randrange(3000)}", "ts": (now - r.randrange(3000)) // unit, "key": f"k{r.randrange(20)}",
             "value": r.randrange(-50, 50)}
    if kind < 0.05:
        event["ts"] = (now - 86400000 * 40) // unit  # late for every rule of stream a
    elif kind < 0.10:
        event["ts"] = (now - 60000) // unit  # late for per_key only
    elif kind < 0.12:
        event["ts"] = (now + 3600000) // unit  # future
    elif kind < 0.14:
        return json.dumps(event)[:-3]  # not JSON
    elif kind < 0.16:
        del event["id"]
    elif kind < 0.18:
        event["value"] = "many"
    elif kind < 0.20:
        event["ts"] = "yesterday"
    elif kind < 0.22:
        event["key"] = {"not": "a key"}
    return json.dumps(event)


def client(s, seed, sums, lock, rounds):
    r = random.Random(seed)
    connection = s.connect()
    for _ in range(rounds):
        stream = r.choice("aab")
        now = int(time.time() * 1000)
        lines = [line(r, now, stream) for _ in range(r.randrange(1, 60))]
        array = r.random() < 0.2
        if array:  # an array ends at a syntax error, so only well-formed ones go there
            lines = [l for l in lines if l.endswith("}")] or ['{"id":"1"}']
        body = "[" + ",".join(lines) + "]" if array else "\n".join(lines)
        answer = s.post(f"/v1/streams/{stream}/events?return=results", body, connection=connection,
                        content_type="application/json" if array else "application/x-ndjson")
        assert answer.status in (200, 400), answer
        a = answer.json
        assert a["received"] == len(lines) and a["received"] == sum(a[k] for k in KEYS[1:]), a
        if answer.status == 200:
            letters = a["results"]
            assert len(letters) == len(lines)
            assert [letters.count(x) for x in "ADLR"] == [a[k] for k in KEYS[1:]], a
        with lock:
            for k in KEYS:
                sums[stream][k] += a[k]


def check(s, sums):
    for stream in "ab":
        received, accepted = check_ledger(s, stream)
        assert received == sums[stream]["received"] and accepted == sums[stream]["accepted"]
        for verdict in KEYS[1:]:
            assert s.metric("millrace_events_total", stream=stream, verdict=verdict) == sums[stream][verdict]
    for rule, stream in (("per_key", "a"), ("per_day", "a"), ("of_b", "b")):
        outcome = lambda o: s.metric("millrace_rule_events_total", rule=rule, outcome=o)
        rows = s.rows(rule, state="all")
        applied = outcome("applied")
        assert applied == sum(row["events"] for row in rows) == sum(row["metrics"]["n"] for row in rows)
        assert sums[stream]["accepted"] == applied + outcome("filtered") + outcome("late") + outcome("dropped")
    assert s.metric("millrace_rule_events_total", rule="per_key", outcome="late") > 0


def test_mixed_from_several_connections():
    with server(CONFIG) as s:
        sums = {x: dict.fromkeys(KEYS, 0) for x in "ab"}
        lock, errors = threading.Lock(), []

        def guarded(seed):
            try:
                client(s, seed, sums, lock, 40)
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=guarded, args=(i,)) for i in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        if errors:
            raise errors[0]
        assert sums["a"]["late"] > 0 and sums["a"]["rejected"] > 0 and sums["a"]["duplicate"] > 0
        check(s, sums)
        s.kill()
        s.start()
        check(s, sums)
        assert s.stop() == 0
        s.start()
        check(s, sums)


if __name__ == "__main__":
    run(globals())
