# SPDX-License-Identifier: Apache-2.0
"""
The outside of the ingest: formats, encodings, the status table, error answers, limits, per-event errors.
"""
import gzip
import json
import subprocess
import zlib

from harness import run, server

CONFIG = """
node: { data_dir: "@DIR@/data", shards: 2 }
limits: { body: 64KiB, inflated: 128KiB, event: 4KiB, batch_events: 500, in_flight: 4MiB }
log: { segment: 64MiB }
streams:
  s:
    id: id
    time: { field: time, format: ms }
    dedup: { mode: exact, horizon: 1h, ids: 100000 }
    watermark: { out_of_orderness: 1m, idle_timeout: off }
  ce:
    id: [source, id]
    time: time
    dedup: { mode: exact, horizon: 1h, ids: 100000 }
    watermark: { out_of_orderness: 1m, idle_timeout: off }
rules:
  r: { from: s, group_by: [key], window: { type: tumbling, size: 1m }, metrics: { n: count, total: { sum: value } } }
  by_type: { from: ce, group_by: [type, data.country], window: { type: tumbling, size: 1m }, metrics: { n: count } }
"""

E = "/v1/streams/s/events"


def problem(answer, status, *words):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.headers["Content-Type"]
    body = answer.json
    assert body["status"] == status and body["title"] and "detail" in body, body
    for word in words:
        assert word in answer.body.decode(), (word, answer)
    return body


def counts(answer, **expected):
    assert answer.status == 200, answer
    for key in ("received", "accepted", "duplicate", "late", "rejected"):
        assert answer.json[key] == expected.get(key, 0), (key, answer)
    return answer.json


def test_formats():
    with server(CONFIG) as s:
        counts(s.post(E, '{"id":"1"}'), received=1, accepted=1)
        counts(s.post(E, '{"id":"1"}\n{"id":"2"}\r\n\n{"id":"3"}'), received=3, accepted=2, duplicate=1)
        counts(s.post(E, '[{"id":"4"},{"id":4}, {"id":"5"}]', "application/json"), received=3, accepted=2, duplicate=1)
        counts(s.post(E, '{\n "id": "6",\n "key": "x"\n}\n', "application/json"), received=1, accepted=1)
        for i, kind in enumerate((None, "text/plain", "application/octet-stream", "application/x-www-form-urlencoded",
                                  "application/json; charset=UTF-8", "text/plain;charset=utf-8")):
            counts(s.post(E, f' {{"id":"a{i}"}}', kind), received=1, accepted=1)
            counts(s.post(E, f'[{{"id":"b{i}"}}]', kind), received=1, accepted=1)
            counts(s.post(E, f'{{"id":"c{i}"}}\n{{"id":"d{i}"}}', kind), received=2, accepted=2)
        counts(s.post(E, "[]", "application/json"))
        counts(s.post(E, ""))
        counts(s.post("/v1/events", '{"id":"default"}'), received=1, accepted=1)
        assert s.metric("millrace_duplicate_age_seconds_count", stream="s") == 2
        answer = s.post(E + "?return=results", '{"id":"1"}\nbroken\n{"id":"new"}')
        assert answer.json["results"] == "DRA", answer


def test_cloudevents():
    with server(CONFIG) as s:
        path = "/v1/streams/ce/events"
        one = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "time": "2026-01-01T00:00:00Z",
               "data": {"country": "DE"}}
        structured = "application/cloudevents+json"
        counts(s.post(path, json.dumps(one), structured), received=1, accepted=1)
        counts(s.post(path, json.dumps(one), structured), received=1, duplicate=1)
        counts(s.post(path, json.dumps([one, dict(one, id="2"), dict(one, source="/b")]),
                      "application/cloudevents-batch+json"), received=3, accepted=2, duplicate=1)
        headers = {"ce-specversion": "1.0", "ce-id": "3", "ce-source": "/a", "ce-type": "t",
                   "ce-time": "2026-01-01T00:00:01Z"}
        counts(s.post(path, '{"country":"FR"}', "application/json", headers), received=1, accepted=1)
        counts(s.post(path, '{"country":"FR"}', "application/json", headers), received=1, duplicate=1)
        problem(s.post(path, '1},{"x":1', "application/json", dict(headers, **{"ce-id": "4"})), 400)
        for missing in ("specversion", "id", "source", "type"):
            broken = {k: v for k, v in one.items() if k != missing}
            body = problem(s.post(path, json.dumps(broken), structured), 400, missing)
            assert body["errors"][0]["code"] in ("bad_cloudevent", "missing_id"), body
        rows = s.rows("by_type")
        assert {(r["key"]["type"], r["key"]["data.country"], r["events"]) for r in rows} == \
            {("t", "DE", 3), ("t", "FR", 1)}, rows


def test_encodings():
    with server(CONFIG) as s:
        for i, (name, pack) in enumerate((
                ("gzip", gzip.compress), ("deflate", zlib.compress),
                ("zstd", lambda b: subprocess.run(["zstd", "-q", "-c"], input=b, stdout=subprocess.PIPE,
                                                  check=True).stdout), ("identity", bytes))):
            body = "".join(f'{{"id":"{i}-{k}"}}\n' for k in range(100)).encode()
            counts(s.post(E, pack(body), headers={"Content-Encoding": name}), received=100, accepted=100)
        answer = s.post(E, b"x", headers={"Content-Encoding": "br"})
        problem(answer, 415)
        assert "gzip" in answer.headers["Accept-Encoding"]
        problem(s.post(E, b"not gzip", headers={"Content-Encoding": "gzip"}), 400, "gzip")
        problem(s.post(E, gzip.compress(b"x" * 10)[:-4], headers={"Content-Encoding": "gzip"}), 400)
        problem(s.post(E, gzip.compress(b" " * 10000000), headers={"Content-Encoding": "gzip"}), 413)
        counts(s.post(E, '{"id":"after"}'), received=1, accepted=1)


def test_chunked():
    with server(CONFIG) as s:
        connection = s.connect()
        connection.request("POST", E, body=iter([b'{"id":"c1"}\n{"id"', b':"c2"}\n']),
                           headers={"Content-Type": "application/x-ndjson"}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["accepted"] == 2
        too_long = (b" " * 4096 for _ in range(40))
        connection = s.connect()
        try:
            connection.request("POST", E, body=too_long, encode_chunked=True)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while we were sending
        assert connection.getresponse().status == 413


def test_errors_of_events():
    with server(CONFIG) as s:
        bad = [('{"id":"1","time":"yesterday"}', "bad_time", "/time", "neither RFC 3339 nor a number"),
               ('{"id":"1","time":1e30}', "bad_time", "/time", ""),
               ('{"id":"1","time":0}', "bad_time", "/time", "2000"),
               ('{"id":null}', "missing_id", "/id", ""), ('{}', "missing_id", "/id", ""),
               ('{"id":true}', "bad_id", "/id", ""), ('{"id":""}', "bad_id", "/id", ""),
               ('{"id":"%s"}' % ("x" * 2000), "bad_id", "/id", ""),
               ('{"id":"1","value":"2"}', "bad_number", "/value", ""),
               ('{"id":"1","value":1e999}', "bad_number", "/value", ""),
               ('{"id":"1","key":[]}', "bad_key", "/key", ""),
               ('{"id":"1","id":"2"}', "duplicate_name", "/id", ""),
               ('{"id":"1","\\u0069d":"2"}', "duplicate_name", "/id", ""),
               ('{"id":"1",}', "bad_json", "", ""), ('nonsense', "bad_json", "", ""), ('"text"', "not_object", "", ""),
               ('{"id":"1"} x', "bad_json", "", ""), ('{"id":"\\ud800"}', "bad_json", "", ""),
               ('{"a":' * 40 + "1" + "}" * 40, "too_deep", "", ""), ('{"id":"%s"}' % ("y" * 5000), "too_long", "", "")]
        for i, (text, code, pointer, detail) in enumerate(bad):
            good = f'{{"id":"good{i}"}}'
            answer = counts(s.post(E, f"{good}\n{text}\n{good}x\n"), received=3, accepted=1, rejected=2)
            first = answer["errors"][0]
            assert first["index"] == 1 and first["line"] == 2, (text, first)
            assert first["code"] == code and first["pointer"] == pointer and detail in first["detail"], (text, first)
            problem(s.post(E, text), 400)
        assert s.post(E, b'{"id":"\xff"}\n{"id":"utf8"}').json["errors"][0]["code"] == "bad_utf8"
        answer = counts(s.post(E, "\n".join(["x"] * 300 + ['{"id":"last"}'])), received=301, accepted=1, rejected=300)
        assert answer["errors_truncated"] is True and len(answer["errors"]) == 100
        answer = counts(s.post(E, '[{"id":"t1"},{"id":"t2"}, oops', "application/json"), received=3, accepted=2,
                        rejected=1)


def test_status_table():
    with server(CONFIG) as s:
        problem(s.post(E, "x"), 400)
        problem(s.post(E, '"text"', "application/json"), 400)
        problem(s.post(E, "", "application/json"), 400)
        problem(s.post("/v1/streams/nobody/events", '{"id":"1"}'), 404, "nobody")
        problem(s.get("/v1/nothing"), 404)
        answer = s.get(E)
        problem(answer, 405)
        assert "POST" in answer.headers["Allow"]
        answer = s.request("DELETE", "/v1/rules")
        problem(answer, 405)
        assert "GET" in answer.headers["Allow"]
        problem(s.post(E, "x" * 70000), 413, "65536")
        problem(s.post(E, "<x/>", "application/xml"), 415)
        problem(s.post(E, "\n".join(f'{{"id":"{i}"}}' for i in range(501))), 413, "500")
        problem(s.post(E + "?return=all", '{"id":"1"}'), 400, "return")
        problem(s.post(E + "?nonsense=1", '{"id":"1"}'), 400, "nonsense")
        problem(s.post("/v1/dead-letters/redrive", ""), 400, "not JSON")
        made = s.post("/v1/checkpoint", "").json
        assert made["checkpoint"] >= 1 and s.post("/v1/checkpoint", "").json["checkpoint"] > made["checkpoint"], made
        problem(s.get("/v1/rules/r/top"), 400, "`metric` is missing")
        assert s.request("HEAD", "/livez").status == 200
        assert s.request("HEAD", "/readyz").body == b""
        assert s.get("/readyz").json["status"] == "ready"
        answer = s.post(E, '{"id":"x"}', headers={"X-Request-Id": "abc-1"})
        assert answer.headers["X-Request-Id"] == "abc-1"
        assert s.post(E, '{"id":"x"}').headers["X-Request-Id"]
        assert s.get("/v1/version").json["version"]
        assert s.get("/openapi.yaml").body.count(b"openapi: 3")
        assert s.get("/v1/limits").status == 200
        assert s.get("/").status == 200


PAGES = """
node: { data_dir: "@DIR@/data", shards: 2 }
streams:
  first:
    id: id
    time: { field: time, format: ms }
    watermark: { out_of_orderness: 1m, idle_timeout: off, source: site }
    derive: { big: "value > 10", host: "lower(site)" }
  second: { id: id, time: { field: time, format: ms }, watermark: { out_of_orderness: 2m, idle_timeout: off } }
rules:
  days:
    from: [first, second]
    where: value > 0
    group_by: [key]
    window: { type: tumbling, size: 1d, offset: 1h, time_zone: Europe/Berlin }
    trigger: { early: 10s, early_count: 5, late: false, panes: accumulating_and_retracting }
    metrics:
      n: { count: events, from: second, where: value > 5 }
      q: { quantiles: [0.5, 0.99], of: value, error: 0.02 }
      bars: { histogram: value, bounds: [1, 2.5] }
      best: { top: key, n: 3 }
      users: { distinct: id }
      total: { sum: value }
      per: { ratio: [total, n] }
  hops: { from: first, window: { type: sliding, size: 1m, every: 10s, offset: 1s }, metrics: { n: count } }
  visits: { from: first, group_by: [key], window: { type: session, gap: 30m, max: 4h }, metrics: { n: count } }
  ever: { from: first, window: { type: global }, trigger: { early: 1s }, metrics: { n: count } }
  plain: { from: second, window: { type: tumbling, size: 1m }, metrics: { n: count } }
"""


def test_pages_say_all_settings():
    with server(PAGES) as s:
        rule = lambda name: s.get("/v1/rules/" + name).json
        days = rule("days")
        assert days["stream"] == "first" and days["streams"] == ["first", "second"] and days["watermark"] is None
        assert days["settings"]["where"] == "value > 0" and days["settings"]["group_by"] == ["key"]
        assert days["settings"]["window"] == {"type": "tumbling", "size_ms": 86400000, "offset_ms": 3600000,
                                              "time_zone": "Europe/Berlin"}
        assert days["settings"]["trigger"] == {"early_ms": 10000, "early_count": 5, "late": False,
                                               "panes": "accumulating_and_retracting"}
        assert days["metrics"] == [
            {"name": "n", "kind": "count", "where": "value > 5", "from": "second"},
            {"name": "q", "kind": "quantiles", "field": "value", "quantiles": [0.5, 0.99], "error": 0.02},
            {"name": "bars", "kind": "histogram", "field": "value", "bounds": [1, 2.5]},
            {"name": "best", "kind": "top", "field": "key", "n": 3},
            {"name": "users", "kind": "distinct", "field": "id", "error": 0.01},
            {"name": "total", "kind": "sum", "field": "value"},
            {"name": "per", "kind": "ratio", "ratio": ["total", "n"]}], days["metrics"]
        windows = {r["name"]: r["settings"]["window"] for r in s.get("/v1/rules").json["rules"]}
        assert windows["hops"] == {"type": "sliding", "size_ms": 60000, "every_ms": 10000, "offset_ms": 1000}
        assert windows["visits"] == {"type": "session", "gap_ms": 1800000, "max_ms": 14400000}
        assert windows["ever"] == {"type": "global"}
        assert windows["plain"] == {"type": "tumbling", "size_ms": 60000, "offset_ms": 0, "time_zone": "UTC"}
        plain = rule("plain")["settings"]
        assert plain["where"] is None and plain["trigger"] == {"early_ms": None, "early_count": None, "late": True,
                                                               "panes": "accumulating"}
        first, second = (s.get("/v1/streams/" + name).json["settings"] for name in ("first", "second"))
        assert first["derive"] == {"big": "value > 10", "host": "lower(site)"} and second["derive"] == {}
        assert first["watermark"]["source"] == "site" and second["watermark"]["source"] is None
        assert first["watermark"]["idle_timeout_ms"] is None
        event = '{"id":"1","time":%d,"site":"a"}'
        counts(s.post("/v1/streams/first/events", event % 1700000600000), received=1, accepted=1)
        assert rule("hops")["watermark"] == "2023-11-14T22:22:20.000Z" and rule("days")["watermark"] is None
        counts(s.post("/v1/streams/second/events", event % 1700000000000), received=1, accepted=1)
        assert rule("days")["watermark"] == rule("plain")["watermark"] == "2023-11-14T22:11:20.000Z"


def test_table_full_is_503_and_nothing_is_lost():
    config = CONFIG.replace("horizon: 1h, ids: 100000", "horizon: 1h, ids: 1000", 1)
    with server(config) as s:
        sent, answer = 0, None
        for batch in range(10):
            answer = s.post(E, "\n".join(f'{{"id":"{batch}-{i}"}}' for i in range(400)))
            if answer.status != 200:
                break
            sent += answer.json["accepted"]
        problem(answer, 503, "dedup")
        assert int(answer.headers["Retry-After"]) >= 1
        assert 400 <= sent <= 1100
        assert sum(r["events"] for r in s.rows("r")) == sent
        again = s.post(E, "\n".join(f'{{"id":"0-{i}"}}' for i in range(10)))
        assert again.status in (200, 503), again


RULES = """
streams:
  a: { id: id, time: t, watermark: { out_of_orderness: 10s, idle_timeout: off, source: host } }
  b: { id: id, time: t, watermark: { out_of_orderness: 1h } }
rules:
  both:
    from: [a, b]
    where: x > 1
    window: { type: sliding, size: 1m, every: 20s }
    trigger: { early: 1s, early_count: 5, late: false, panes: discarding }
    metrics: { n: { count: events, from: a, where: y == "z" } }
  days: { from: a, window: { size: 1d, offset: 1h, time_zone: Europe/Berlin }, metrics: { n: count } }
"""


def test_a_rule_tells_what_it_is():
    with server(RULES) as s:
        both, days = s.get("/v1/rules").json["rules"]
        assert s.get("/v1/rules/both").json == both
        assert both["streams"] == ["a", "b"] and both["watermark"] is None and days["streams"] == ["a"]
        assert both["settings"]["where"] == "x > 1" and both["metrics"][0]["where"] == 'y == "z"'
        assert both["settings"]["window"] == {"type": "sliding", "size_ms": 60000, "offset_ms": 0, "every_ms": 20000}
        assert both["settings"]["trigger"] == {"early_ms": 1000, "early_count": 5, "late": False, "panes": "discarding"}
        assert days["settings"]["window"] == {"type": "tumbling", "size_ms": 86400000, "offset_ms": 3600000,
                                              "time_zone": "Europe/Berlin"}
        assert s.get("/v1/streams/a").json["settings"]["watermark"]["source"] == "host"
        # The watermark is the least of the streams'.
        for stream in ("a", "b"):
            s.post(f"/v1/streams/{stream}/events", '{"id":1,"t":1767225600000}')
        assert s.get("/v1/rules/both").json["watermark"] == "2025-12-31T23:00:00.000Z"
        assert s.get("/v1/rules/days").json["watermark"] == "2025-12-31T23:59:50.000Z"


if __name__ == "__main__":
    run(globals())
