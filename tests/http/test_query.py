# SPDX-License-Identifier: Apache-2.0
"""
The read side over HTTP, against sums made here.

Proves that pages of any size, in both directions, hold every row once, and with the right numbers; also while windows
move from memory to the results store under the reader, after a restart, and where the shards' overflow groups are one
row; that the order of a metric is that of all rows; that windows add up to steps, the greatest are those of all rows,
columns hold what rows hold; and that wrong questions are refused with what was wrong.
"""
import json
import random
import threading
import time
import urllib.parse

from harness import run, server

CONFIG = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
streams:
  clicks:
    id: [src, id]
    time: {{ field: ts, format: ms }}
    watermark: {{ out_of_orderness: 1s, idle_timeout: off }}
rules:
  views:
    from: clicks
    group_by: [country, paid]
    window: {{ type: tumbling, size: 10s }}
    allowed_lateness: 20s
    metrics: {{ n: count, spend: {{ sum: price }} }}
    groups: {{ max: {groups}, when_full: other }}
"""
BASE = 1700000000000
EVENTS = "/v1/streams/clicks/events"
WINDOWS = "/v1/rules/views/windows?"
TOP = "/v1/rules/views/top?"


def events(count, seed, step=50):
    r = random.Random(seed)
    return [{"src": "a", "id": str(i), "ts": BASE + i * step, "country": f"C{r.randrange(12)}",
             "paid": r.random() < 0.5, "price": r.randrange(100)} for i in range(count)]


def send(s, some):
    answer = s.post(EVENTS, "\n".join(map(json.dumps, some)))
    assert answer.status == 200 and answer.json["accepted"] == len(some), answer


def sums(some):
    table = {}
    for e in some:
        key = (e["ts"] // 10000 * 10000, e["country"], e["paid"])
        n, spend = table.get(key, (0, 0))
        table[key] = (n + 1, spend + e["price"])
    return table


def milliseconds(text):
    from datetime import datetime
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def as_table(rows):
    table = {(milliseconds(r["window_start"]), r["key"]["country"], r["key"]["paid"]):
             (r["metrics"]["n"], r["metrics"]["spend"]) for r in rows}
    assert len(table) == len(rows), "a row came twice"
    assert all(r["events"] == r["metrics"]["n"] for r in rows)
    return table


def get(s, **query):
    answer = s.get(WINDOWS + urllib.parse.urlencode(query))
    assert answer.status == 200, answer
    return answer


def test_pages_hold_every_row_once():
    some = events(6000, 1)
    with server(CONFIG.format(shards=3, groups=100000)) as s:
        for i in range(0, len(some), 500):
            send(s, some[i:i + 500])
        for again in range(2):
            for limit in (1, 7, 100, 10000):
                for order in ("window_start", "-window_start"):
                    if limit == 1 and order == "window_start":
                        continue  # one row a page is slow: once is enough
                    rows = s.rows("views", limit=limit, order=order)
                    assert as_table(rows) == sums(some)
                    starts = [r["window_start"] for r in rows]
                    assert starts == sorted(starts, reverse=order[0] == "-")
            both = s.rows("views", state="open") + s.rows("views", state="final")
            assert as_table(both) == sums(some)
            assert s.stop() == 0
            s.start()


def test_filters_and_ranges():
    some = events(3000, 2)
    with server(CONFIG.format(shards=2, groups=100000)) as s:
        send(s, some)
        table = as_table(s.rows("views", limit=5, **{"key.country": "C3", "key.paid": "true"}))
        assert table == sums(e for e in some if e["country"] == "C3" and e["paid"])
        first, last = BASE + 20000, BASE + 90000
        table = as_table(s.rows("views", limit=11, **{"from": first, "to": last}))
        assert table == sums(e for e in some if first <= e["ts"] // 10000 * 10000 < last)
        answer = get(s, **{"from": "2023-11-14T23:13:40+01:00", "limit": 1, "metrics": "spend"})
        assert answer.json["from"] == "2023-11-14T22:13:40.000Z" and answer.json["to"] is None
        assert list(answer.json["rows"][0]["metrics"]) == ["spend"]
        assert get(s, **{"from": "now", "limit": 1}).json["rows"] == []


def test_order_of_a_metric():
    some = events(6000, 3)
    for shards, groups in ((1, 100000), (3, 100000), (3, 60)):
        with server(CONFIG.format(shards=shards, groups=groups)) as s:
            send(s, some)
            everything = s.rows("views")
            for metric in ("n", "spend"):
                for sign in ("", "-"):
                    values = sorted((r["metrics"][metric] for r in everything), reverse=sign == "-")
                    for limit in (1, 40, 10000):
                        page = get(s, order=sign + metric, limit=limit).json
                        assert [r["metrics"][metric] for r in page["rows"]] == values[:limit]
                        assert page["next_cursor"] is None
                        assert all(r in everything for r in page["rows"])


def step_sums(some, step_ms):
    table = {}
    for (start, country, paid), (n, spend) in sums(some).items():
        key = (start // step_ms * step_ms, country, paid)
        had = table.get(key, (0, 0))
        table[key] = (had[0] + n, had[1] + spend)
    return table


def check_steps(s, some, step, step_ms):
    windows = {}
    for start, country, paid in sums(some):
        key = (start // step_ms * step_ms, country, paid)
        windows[key] = windows.get(key, 0) + 1
    for order in ("window_start", "-window_start"):
        for limit in (7, 24, 10000):
            rows = s.rows("views", limit=limit, order=order, step=step)
            assert as_table(rows) == step_sums(some, step_ms)
            starts = [r["window_start"] for r in rows]
            assert starts == sorted(starts, reverse=order[0] == "-")
    for r in rows:
        start = milliseconds(r["window_start"])
        assert milliseconds(r["window_end"]) == start + step_ms and start % step_ms == 0
        assert r["windows"] == windows[start, r["key"]["country"], r["key"]["paid"]]
    both = {state: s.rows("views", state=state, step=step, limit=9) for state in ("open", "final")}
    assert both["open"] and (both["final"] or step == "1h")
    assert as_table(both["open"] + both["final"]) == step_sums(some, step_ms)
    assert not any(r["final"] for r in both["open"]) and all(r["final"] for r in both["final"])
    page = get(s, step=step, limit=10000).json
    assert page["step_ms"] == step_ms
    assert all(r["final"] == (r["window_end"] <= page["complete_until"]) for r in page["rows"])


def test_windows_add_up_to_steps():
    some = events(6000, 11)
    with server(CONFIG.format(shards=3, groups=100000)) as s:
        for i in range(0, len(some), 500):
            send(s, some[i:i + 500])
        for again in range(2):
            for step, step_ms in (("10s", 10000), ("30s", 30000), ("1m", 60000), ("1h", 3600000)):
                check_steps(s, some, step, step_ms)
            assert s.stop() == 0
            s.start()
        first, last = BASE + 20500, BASE + 90500
        answer = get(s, step="1m", **{"from": first, "to": last, "key.country": "C3"}).json
        low, high = first // 60000 * 60000, -(-last // 60000) * 60000
        assert (milliseconds(answer["from"]), milliseconds(answer["to"])) == (low, high)
        assert as_table(answer["rows"]) == step_sums(
            (e for e in some if low <= e["ts"] < high and e["country"] == "C3"), 60000)
        lines = get(s, step="1m", format="csv", limit=1).body.decode().splitlines()
        assert lines[0] == "window_start,window_end,country,paid,n,spend,events,revision,final,windows"


def test_pages_of_steps_while_events_come():
    some = events(16000, 12, step=20)
    half = len(some) // 2
    failure = []
    with server(CONFIG.format(shards=3, groups=100000)) as s:
        send(s, some[:half])

        def write():
            try:
                for i in range(half, len(some), 100):
                    send(s, some[i:i + 100])
            except BaseException as e:
                failure.append(e)

        before = step_sums(some[:half], 30000)
        writer = threading.Thread(target=write)
        writer.start()
        for order in ("window_start", "-window_start"):
            rows, cursor, pages = [], None, 0
            while True:
                page = get(s, step="30s", order=order, limit=5, **({"cursor": cursor} if cursor else {})).json
                rows += page["rows"]
                pages += 1
                cursor = page["next_cursor"]
                if cursor is None:
                    break
                assert len(page["rows"]) == 5
            table = as_table(rows)
            starts = [r["window_start"] for r in rows]
            assert starts == sorted(starts, reverse=order[0] == "-") and pages > 20
            # What was there when the first page was asked for is there, and no less.
            assert all(table[key][0] >= n for key, (n, _) in before.items())
        writer.join()
        assert not failure, failure
        assert as_table(s.rows("views", step="30s", limit=5)) == step_sums(some, 30000)


def test_steps_of_more_rows_than_are_read_at_a_time():
    keys, slice_rows = 50000, 65536
    some = [{"src": "a", "id": str(i), "ts": BASE + i // keys * 10000, "country": f"K{i % keys}",
             "paid": True, "price": i * 7919 % 10007} for i in range(2 * keys)]
    with server(CONFIG.format(shards=1, groups=200000)) as s:
        for i in range(0, len(some), 20000):
            send(s, some[i:i + 20000])
        assert len(some) > slice_rows  # of the one shard
        assert as_table(s.rows("views", step="1h", limit=10000)) == step_sums(some, 3600000)
        values, table = greatest(some, 1, 100)
        rows = s.get(TOP + "metric=spend&n=100").json["rows"]
        assert [r["metrics"]["spend"] for r in rows] == values
        assert all(table[r["key"]["country"], True] == (2, r["metrics"]["spend"]) for r in rows)


def greatest(some, metric, n):
    table = {}
    for e in some:
        had = table.get((e["country"], e["paid"]), (0, 0))
        table[e["country"], e["paid"]] = (had[0] + 1, had[1] + e["price"])
    return sorted((v[metric] for v in table.values()), reverse=True)[:n], table


def test_the_greatest():
    some = events(6000, 13)
    with server(CONFIG.format(shards=3, groups=100000)) as s:
        for i in range(0, len(some), 500):
            send(s, some[i:i + 500])
        for again in range(2):
            for metric, index, n in (("n", 0, 1), ("n", 0, 100), ("spend", 1, 5)):
                page = s.get(TOP + f"metric={metric}&n={n}").json
                assert page["metric"] == metric and page["next_cursor"] is None
                values, table = greatest(some, index, n)
                assert [r["metrics"][metric] for r in page["rows"]] == values
                for r in page["rows"]:
                    assert list(r) == ["key", "metrics", "events"], r
                    assert (r["events"], r["metrics"]["spend"]) == table[r["key"]["country"], r["key"]["paid"]]
            first, last = BASE // 10000 * 10000 + 30000, BASE // 10000 * 10000 + 110000
            page = s.get(TOP + f"metric=spend&n=3&from={first}&to={last}&key.paid=true&metrics=spend").json
            values, _ = greatest((e for e in some if first <= e["ts"] < last and e["paid"]), 1, 3)
            assert [r["metrics"] for r in page["rows"]] == [{"spend": v} for v in values]
            assert all(r["key"]["paid"] for r in page["rows"])
            page = s.get(TOP + "metric=n&n=2&step=1m").json
            steps = sorted({e["ts"] // 60000 * 60000 for e in some})
            assert [milliseconds(r["window_start"]) for r in page["rows"]] == [t for t in steps for _ in range(2)]
            expected = [v for t in steps
                        for v in greatest((e for e in some if e["ts"] // 60000 * 60000 == t), 0, 2)[0]]
            assert [r["metrics"]["n"] for r in page["rows"]] == expected
            assert s.stop() == 0
            s.start()
        lines = s.get(TOP + "metric=n&n=2&format=csv").body.decode().splitlines()
        assert lines[0] == "country,paid,n,spend,events" and len(lines) == 3
        assert len(s.get(TOP + "metric=n&n=2&format=ndjson").body.splitlines()) == 2
    with server(CONFIG.format(shards=4, groups=20)) as s:
        send(s, some)
        rows = s.get(TOP + "metric=n&n=1000").json["rows"]
        assert sum(r["metrics"]["n"] for r in rows) == len(some)
        assert [r["key"]["country"] for r in rows].count("(other)") == 1
        steps = s.rows("views", step="1h", limit=4)
        assert sum(r["metrics"]["n"] for r in steps) == len(some)
        assert sum(r["key"]["country"] == "(other)" for r in steps) == len({r["window_start"] for r in steps})


EVERYTHING = CONFIG.format(shards=3, groups=100000).replace("rules:", """rules:
  wide:
    from: clicks
    group_by: [country]
    window: { type: tumbling, size: 10s }
    allowed_lateness: 20s
    metrics:
      n: count
      users: { distinct: id }
      price: { quantiles: [0.5, 0.9], of: price }
      prices: { top: price, n: 3 }
  parts:
    from: clicks
    group_by: [country]
    window: { type: tumbling, size: 10s }
    allowed_lateness: 20s
    trigger: { early_count: 3, late: true, panes: discarding }
    metrics: { n: count, spend: { sum: price } }
  overlapping:
    from: clicks
    window: { type: sliding, size: 10s, every: 5s }
    metrics: { n: count }
""", 1)


def test_sketches_add_up_to_steps():
    some = events(3000, 16)
    with server(EVERYTHING) as s:
        for i in range(0, len(some), 500):
            send(s, some[i:i + 500])
        row, = s.rows("wide", step="1h", **{"key.country": "C3"})[-1:]
        start = milliseconds(row["window_start"])
        prices = sorted(e["price"] for e in some if e["country"] == "C3" and start <= e["ts"] < start + 3600000)
        assert row["metrics"]["n"] == len(prices)
        assert abs(row["metrics"]["users"] - len(prices)) <= 0.05 * len(prices)
        for q, value in row["metrics"]["price"].items():
            exact = prices[int(float(q) * (len(prices) - 1))]
            assert abs(value - exact) <= 0.02 * exact + 1e-9, (q, value, exact)
        best = max(prices.count(p) for p in prices)
        assert row["metrics"]["prices"][0]["count"] == best
        assert s.get("/v1/rules/wide/top?metric=users&n=2").json["rows"][0]["metrics"]["users"] > 0
        for path in ("wide/top?metric=price", "wide/windows?order=-prices"):
            answer = s.get("/v1/rules/" + path)
            assert answer.status == 400 and "an object or a list" in answer.json["detail"], answer
        for path, text in (("top?metric=n", "overlap"), ("windows?step=1m", "only tumbling windows")):
            answer = s.get("/v1/rules/overlapping/" + path)
            assert answer.status == 400 and text in answer.json["detail"], answer


def test_panes_that_are_rows():
    some = events(6000, 17)
    whole = {}
    for (start, country, _), (n, spend) in sums(some).items():
        had = whole.get((start, country), (0, 0))
        whole[start, country] = (had[0] + n, had[1] + spend)

    def added(rows):
        table = {}
        for r in rows:
            key = (milliseconds(r["window_start"]), r["key"]["country"])
            had = table.get(key, (0, 0))
            table[key] = (had[0] + r["metrics"]["n"], had[1] + r["metrics"]["spend"])
        return table

    with server(EVERYTHING) as s:
        sent = 0
        for i in range(0, len(some), 300):
            send(s, some[i:i + 300])
            sent += 300
            if i % 1500 == 0:  # right behind the acknowledgement
                assert sum(r["metrics"]["n"] for r in s.rows("parts")) == sent
        for again in range(2):
            for limit in (7, 10000):
                rows = s.rows("parts", limit=limit)
                assert added(rows) == whole
                places = [(r["window_start"], r["key"]["country"], r["pane"]) for r in rows]
                assert len(set(places)) == len(places) and max(r["pane"] for r in rows) > 0
            both = {state: s.rows("parts", state=state) for state in ("open", "final")}
            assert added(both["open"] + both["final"]) == whole and both["open"] and both["final"]
            assert not any(r["final"] for r in both["open"]) and all(r["final"] for r in both["final"])
            steps = s.rows("parts", step="10s", limit=9)
            assert added(steps) == whole and len(steps) == len(whole)
            assert all(r["windows"] == 1 and "pane" not in r for r in steps)
            assert s.stop() == 0
            s.start()
        header = s.get("/v1/rules/parts/windows?format=csv").body.decode().splitlines()[0]
        assert header == "window_start,window_end,country,n,spend,events,revision,final,pane"
        assert "pane" in s.get("/v1/rules/parts/windows?format=columns").json["series"][0]


def test_columns():
    some = events(2000, 14)
    with server(CONFIG.format(shards=2, groups=100000)) as s:
        send(s, some)
        for query in ({}, {"step": "30s"}, {"order": "-window_start", "metrics": "spend"},
                      {"order": "-n", "limit": 20}):
            rows = get(s, **query).json["rows"]
            page = get(s, format="columns", **query).json
            assert page["t_unit"] == "s"
            assert page["t"] == sorted({milliseconds(r["window_start"]) // 1000 for r in rows})
            expected = {(r["key"]["country"], r["key"]["paid"], metric, milliseconds(r["window_start"]) // 1000): value
                        for r in rows for metric, value in r["metrics"].items()}
            found = {}
            for series in page["series"]:
                assert list(series) == ["key", "metric", "v"] and len(series["v"]) == len(page["t"])
                for t, value in zip(page["t"], series["v"]):
                    if value is not None:
                        found[series["key"]["country"], series["key"]["paid"], series["metric"], t] = value
            assert found == expected and "rows" not in page
        page = get(s, format="columns", limit=5).json
        following = get(s, format="columns", limit=5, cursor=page["next_cursor"]).json
        assert following["t"][0] >= page["t"][-1] and page["series"] != following["series"]
        assert get(s, format="columns", **{"from": "now"}).json["series"] == []


def test_what_is_said_around_rows():
    with server(CONFIG.format(shards=2, groups=100000)) as s:
        nothing = get(s).json
        assert list(nothing) == ["rule", "from", "to", "watermark", "complete_until", "freshness_ms", "rows",
                                 "next_cursor"]
        assert [nothing[name] for name in ("watermark", "complete_until", "freshness_ms")] == [None, None, None]
        send(s, events(2000, 15))
        for path in (WINDOWS, TOP + "metric=n"):
            page = s.get(path).json
            watermark = milliseconds(page["watermark"])
            assert watermark == BASE + 1999 * 50 - 1000
            assert milliseconds(page["complete_until"]) == (watermark - 20000) // 10000 * 10000
            assert page["freshness_ms"] <= time.time() * 1000 - watermark < page["freshness_ms"] + 600000
        everything = get(s, order="-n", limit=10000).json
        assert all(r["final"] == (r["window_end"] <= everything["complete_until"]) for r in everything["rows"])
        assert everything["truncated"] is False and everything["next_cursor"] is None
        first = get(s, order="-n", limit=3).json
        assert first["truncated"] is True and first["next_cursor"] is None
        assert [r["metrics"]["n"] for r in first["rows"]] == [r["metrics"]["n"] for r in everything["rows"][:3]]


def test_overflow_groups_are_one_row():
    some = events(6000, 4)
    with server(CONFIG.format(shards=4, groups=20)) as s:
        for i in range(0, len(some), 500):
            send(s, some[i:i + 500])
        for limit in (1, 3, 100):
            for order in ("window_start", "-window_start"):
                rows = s.rows("views", limit=limit, order=order)
                table = as_table(rows)
                assert any(key[1] == "(other)" for key in table)
                windows = {}
                for key, (n, spend) in table.items():
                    had = windows.get(key[0], (0, 0))
                    windows[key[0]] = (had[0] + n, had[1] + spend)
                expected = {}
                for key, (n, spend) in sums(some).items():
                    had = expected.get(key[0], (0, 0))
                    expected[key[0]] = (had[0] + n, had[1] + spend)
                assert windows == expected
        others = s.rows("views", limit=2, **{"key.country": "(other)"})
        assert len(others) == sum(key[1] == "(other)" for key in table)


def test_rows_are_never_lost_between_memory_and_store():
    some = events(20000, 5, step=100)
    sent = [0]
    failure = []

    def write(s):
        try:
            for i in range(0, len(some), 200):
                send(s, some[i:i + 200])
                sent[0] = i + 200
        except BaseException as e:
            failure.append(e)

    with server(CONFIG.format(shards=3, groups=100000)) as s:
        writer = threading.Thread(target=write, args=(s,))
        writer.start()
        limit = 0
        while writer.is_alive():
            before = sent[0]
            limit = limit % 3 + 1
            # One page is one cut: everything acknowledged before is in it, once.
            page = get(s, limit=10000, order=("window_start", "-window_start", "-n")[limit - 1]).json
            table = as_table(page["rows"])
            assert page["next_cursor"] is None
            assert before <= sum(n for n, _ in table.values()) <= sent[0] + 200
        writer.join()
        assert not failure, failure
        assert as_table(s.rows("views", limit=50)) == sums(some)


def test_formats():
    some = events(500, 6)
    with server(CONFIG.format(shards=2, groups=100000)) as s:
        send(s, some)
        rows = s.rows("views")
        lines, cursor = [], None
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = s.get(WINDOWS + urllib.parse.urlencode({"limit": 9, **more}),
                           headers={"Accept": "application/x-ndjson"})
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            lines += answer.body.splitlines()
            cursor = answer.headers["X-Next-Cursor"]
            if cursor is None:
                break
        assert [json.loads(line) for line in lines] == rows
        answer = get(s, format="csv")
        assert answer.body.count(b"\r\n") == len(rows) + 1 and answer.headers["X-Next-Cursor"] is None
        assert s.request("HEAD", WINDOWS).status == 200


def test_refusals():
    with server(CONFIG.format(shards=1, groups=100)) as s:
        send(s, events(100, 7))
        cursor = get(s, limit=1).json["next_cursor"]
        for query, status, text in (
                ("limt=1", 400, "`limt`; did you mean `limit`?"),
                ("limit=1&limit=2", 400, "given twice"),
                ("key.city=x", 400, "its keys are: country, paid"),
                ("order=clicks", 400, "window_start, n, spend"),
                ("from=%1b%5b2J", 400, "\\x1b[2J"),
                ("cursor=x", 400, "not a cursor"),
                ("state=open&cursor=" + cursor, 400, "another question"),
                ("order=n&cursor=" + cursor, 400, "no pages"),
                ("step=15s", 400, "expected a multiple of the rule's windows of 10s, such as 10s or 20s"),
                ("step=60", 400, "expected a duration such as 1m, 1h or 7d"),
                ("step=1m&order=-n", 400, "with `step` expected window_start"),
                ("step=1m&cursor=" + cursor, 400, "another question"),
                ("state=closed", 400, "expected one of all, open, final"),
                ("format=rows", 400, "expected one of json, ndjson, csv, columns")):
            answer = s.get(WINDOWS + query)
            assert answer.status == status and text in answer.json["detail"], answer
            assert answer.headers["Content-Type"] == "application/problem+json"
        for query, text in (
                ("", "`metric` is missing; expected one of n, spend"),
                ("metric=clicks", "expected one of n, spend"),
                ("metric=n&order=-n", "unknown query parameter `order`"),
                ("metric=n&n=0", "expected a whole number from 1 to 10000"),
                ("metric=n&key.city=x", "its keys are: country, paid"),
                ("metric=n&step=1s", "such as 10s or 20s"),
                ("metric=n&from=6&to=5", "is after"),
                ("metric=n&format=columns", "expected one of json, ndjson, csv")):
            answer = s.get(TOP + query)
            assert answer.status == 400 and text in answer.json["detail"], answer
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert s.get("/v1/rules/none/top?metric=n").status == 404
        assert s.get(WINDOWS, headers={"Accept": "text/html"}).status == 406
        assert s.get("/v1/rules/none/windows").status == 404
        assert s.get("/v1/streams/none").status == 404
        assert s.get("/v1/version?x=1").status == 400


def test_was_this_id_seen():
    with server(CONFIG.format(shards=3, groups=100)) as s:
        send(s, events(20, 8))
        for i in range(20):
            answer = s.get(f"/v1/streams/clicks/events/{i}?src=a").json
            assert answer["seen"] and answer["first_seen"]["from"] < answer["first_seen"]["to"]
            assert answer["remembered_until"] >= answer["first_seen"]["to"]
            for other in (f"{i}", f"{i}?src=", f"{i}?src=b", f"x{i}?src=a"):
                answer = s.get(f"/v1/streams/clicks/events/{other}").json
                assert answer["seen"] is False and answer["first_seen"] is None
        send(s, [{"src": "a", "id": "a/b %é", "ts": BASE}])
        assert s.get("/v1/streams/clicks/events/" + urllib.parse.quote("a/b %é", safe="") + "?src=a").json["seen"]
        assert s.get("/v1/streams/clicks/events/1?source=a").status == 400


def test_dead_letters():
    with server(CONFIG.format(shards=2, groups=100)) as s:
        send(s, events(2000, 9))
        late = [{"src": "a", "id": f"late{i}", "ts": BASE, "country": "C1"} for i in range(25)]
        body = "\n".join(map(json.dumps, late)) + "\n{broken\n"
        answer = s.post(EVENTS, body).json
        assert (answer["late"], answer["rejected"]) == (25, 1), answer
        entries, cursor, pages = [], None, 0
        while True:
            page = s.get("/v1/dead-letters?" + urllib.parse.urlencode(
                {"limit": 4, **({"cursor": cursor} if cursor else {})})).json
            entries += page["entries"]
            pages += 1
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert pages == 7 and len(entries) == 26
        assert sorted(e["event"]["id"] for e in entries if e["reason"] == "late") == sorted(e["id"] for e in late)
        assert len(s.get("/v1/dead-letters?reason=late&stream=clicks").json["entries"]) == 25
        assert len(s.get("/v1/dead-letters?reason=rejected&format=ndjson").body.splitlines()) == 1
        assert s.get("/v1/dead-letters?reason=x").status == 400
        assert s.get("/v1/dead-letters?stream=x").status == 400


def test_tokens_see_their_streams():
    import hashlib
    sha = lambda t: hashlib.sha256(t.encode()).hexdigest()
    config = CONFIG.format(shards=1, groups=100) + f"""
  others: {{ from: private, window: {{ type: tumbling, size: 10s }}, metrics: {{ n: count }} }}
  both: {{ from: [clicks, private], window: {{ type: tumbling, size: 10s }}, metrics: {{ n: count }} }}
auth:
  tokens:
    mine: {{ sha256: {sha("mine")}, streams: [clicks], allow: [ingest, query] }}
    all: {{ sha256: {sha("all")}, allow: [ingest, query] }}
"""
    config = config.replace("rules:", "  private: { id: id, time: { field: ts, format: ms }, "
                            "watermark: { idle_timeout: off } }\nrules:", 1)
    with server(config) as s:
        mine, every = ({"Authorization": "Bearer " + t} for t in ("mine", "all"))
        for stream in ("clicks", "private"):
            answer = s.post(f"/v1/streams/{stream}/events", '{"id":"1"', headers=every)
            assert answer.json["rejected"] == 1, answer
        assert s.get("/v1/streams").status == 401
        for headers, count in ((mine, 1), (every, 2)):
            assert len(s.get("/v1/streams", headers=headers).json["streams"]) == count
            assert len(s.get("/v1/rules", headers=headers).json["rules"]) == (3 if count == 2 else 1)
            assert len(s.get("/v1/dead-letters", headers=headers).json["entries"]) == count
            metrics = s.get("/metrics", headers=headers).body
            assert (b"private" in metrics) == (b'rule="both"' in metrics) == (count == 2)
        for path in ("/v1/streams/private", "/v1/rules/others", "/v1/rules/others/windows",
                     "/v1/rules/others/top?metric=n", "/v1/rules/both", "/v1/rules/both/windows",
                     "/v1/streams/private/events/1", "/v1/dead-letters?stream=private"):
            assert s.get(path, headers=mine).status == 403, path
            assert s.get(path, headers=every).status == 200, path


if __name__ == "__main__":
    run(globals())
