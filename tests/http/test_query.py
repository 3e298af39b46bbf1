# SPDX-License-Identifier: Apache-2.0
"""
The read side over HTTP, against sums made here.

Proves that pages of any size, in both directions, hold every row once, and with the right numbers; also while windows
move from memory to the results store under the reader, after a restart, and where the shards' overflow groups are one
row; that the order of a metric is that of all rows; and that wrong questions are refused with what was wrong.
"""
import json
import random
import threading
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
                ("step=1m", 501, "not in this version"),
                ("format=columns", 501, "not in this version")):
            answer = s.get(WINDOWS + query)
            assert answer.status == status and text in answer.json["detail"], answer
            assert answer.headers["Content-Type"] == "application/problem+json"
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
            assert len(s.get("/v1/rules", headers=headers).json["rules"]) == count
            assert len(s.get("/v1/dead-letters", headers=headers).json["entries"]) == count
            assert (b"private" in s.get("/metrics", headers=headers).body) == (count == 2)
        for path in ("/v1/streams/private", "/v1/rules/others", "/v1/rules/others/windows",
                     "/v1/streams/private/events/1", "/v1/dead-letters?stream=private"):
            assert s.get(path, headers=mine).status == 403, path
            assert s.get(path, headers=every).status == 200, path


if __name__ == "__main__":
    run(globals())
