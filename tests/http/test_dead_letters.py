# SPDX-License-Identifier: Apache-2.0
"""
Dead letters, what can be done with them: redriving and discarding, against the real program.

Proves: an event from the future counts once its time has come, and once only: over a kill -9 and a stop between and
behind redrives; a rejected event counts once the configuration takes it; what still is in the future comes back as a
dead letter of its own; late events and dropped groups are refused with a text; who may redrive; counters and
conservation (received = accepted + duplicate + late + rejected); bad bodies are refused. What is discarded is neither
listed nor redriven any more, over restarts, and what comes behind it is.
"""
import json
import time

from harness import run, server, until

LIMITS = """
limits: { body: 1MiB, inflated: 2MiB, event: 64KiB, in_flight: 16MiB }
log: { segment: 4MiB }
"""


def config(time_rule="missing_time: reject, ", max_future="1h", dedup="ids: 100000"):
    return LIMITS + f"""
streams:
  s: {{ id: id, time: {{ field: t, format: ms }}, {time_rule}dedup: {{ {dedup} }},
       watermark: {{ out_of_orderness: 0s, idle_timeout: off, max_future: {max_future} }} }}
  o: {{ id: id, time: {{ field: t, format: ms }}, dedup: {{ ids: 1000 }} }}
rules:
  r: {{ from: s, group_by: [k], window: {{ type: tumbling, size: 1h }}, allowed_lateness: 30d, metrics: {{ n: count }} }}
  q: {{ from: o, window: {{ type: tumbling, size: 1s }}, metrics: {{ n: count }} }}
"""


E = "/v1/streams/s/events"
R = "/v1/dead-letters/redrive"


def now():
    return int(time.time() * 1000)


def event(name, at=None, **more):
    return json.dumps({"id": name, "k": "x", **({"t": at} if at else {}), **more})


def dead(s, query=""):
    answer = s.get("/v1/dead-letters?limit=1000" + query)
    assert answer.status == 200, answer
    return answer.json["entries"]


def redrive(s, **body):
    answer = s.post(R, json.dumps(body))
    assert answer.status == 200, answer
    got = answer.json
    assert got["redriven"] == got["accepted"] + got["duplicate"] + got["late"] + got["rejected"], got
    assert len(got["skips"]) == min(got["skipped"], 100), got
    return got


def counted(s):
    return sum(row["metrics"]["n"] for row in s.get("/v1/rules/r/windows?state=all").json["rows"])


def conserved(s):
    verdicts = [s.metric("millrace_events_total", stream="s", verdict=v)
                for v in ("accepted", "duplicate", "late", "rejected")]
    received = s.metric("millrace_events_received_total", stream="s")
    assert received == sum(verdicts), (received, verdicts)
    return received


def problem(answer, status, *words):
    assert answer.status == status, answer
    for word in words:
        assert word in answer.json["detail"], answer


def test_future_events_count_once():
    """Ten events two hours ahead; a larger max_future takes them, whatever is killed in between."""
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        assert s.post(E, "\n".join(event(f"f{i}", at + i) for i in range(10))).json["late"] == 10
        assert s.post(E, event("now", now())).json["accepted"] == 1
        s.kill()
        s.start()
        assert len(dead(s, "&reason=future")) == 10
        assert s.stop() == 0
        s.configure(config(max_future="3h"))
        s.start()
        first = redrive(s, stream="s", reason="future", limit=4)
        assert (first["redriven"], first["accepted"], first["more"]) == (4, 4, True), first
        s.kill()
        s.start()
        second = redrive(s, reason="future")
        assert (second["accepted"], second["skipped"], second["more"]) == (6, 4, False), second
        assert all(skip["detail"] == "redriven before" for skip in second["skips"]), second
        s.kill()
        s.start()
        third = redrive(s)
        assert (third["redriven"], third["skipped"]) == (0, 10), third
        assert counted(s) == 11
        assert s.post(E, "\n".join(event(f"f{i}", at + i) for i in range(10))).json["duplicate"] == 10
        assert s.stop() == 0
        s.start()
        assert redrive(s)["redriven"] == 0 and counted(s) == 11
        assert conserved(s) == 31
        assert s.metric("millrace_events_redriven_total", stream="s", verdict="accepted") == 10
        assert s.post("/v1/checkpoint", "").status == 200
        s.kill()
        s.start()
        assert redrive(s)["redriven"] == 0 and counted(s) == 11
        assert s.metric("millrace_events_redriven_total", stream="s", verdict="accepted") == 10


def test_rejected_events_count_when_the_configuration_takes_them():
    """Without a time they are rejected; redriven in vain they come back as dead letters of their own."""
    with server(config()) as s:
        lines = [event("a"), '{"id":"b","k":"x"', event("c")]
        assert s.post(E, "\n".join([event("ok", now()), *lines])).json["rejected"] == 3
        vain = redrive(s, stream="s", reason="rejected")
        assert (vain["redriven"], vain["rejected"]) == (3, 3), vain
        entries = dead(s, "&reason=rejected")
        assert len(entries) == 6 and [e["raw"] for e in entries[3:]] == lines, entries
        assert len({(e["lsn"], e["index"]) for e in entries}) == 6
        assert s.stop() == 0
        s.configure(config(time_rule="missing_time: arrival, "))
        s.start()
        fixed = redrive(s, stream="s")
        assert (fixed["accepted"], fixed["rejected"], fixed["skipped"]) == (2, 1, 3), fixed
        s.kill()
        s.start()
        assert counted(s) == 3 and s.post(E, event("a")).json["duplicate"] == 1
        again = redrive(s, stream="s")
        assert (again["accepted"], again["rejected"], again["skipped"]) == (0, 1, 6), again
        assert conserved(s) == 12
        assert s.metric("millrace_events_redriven_total", stream="s", verdict="rejected") == 5


def test_by_number():
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        s.post(E, "[" + ",".join([event("x", now()), event("y", at), event("z", at)]) + "]", "application/json")
        y, z = dead(s)
        assert (y["index"], z["index"]) == (1, 2)
        place = {"lsn": z["lsn"], "index": 2}
        got = redrive(s, ids=[place, {"index": 0, "lsn": z["lsn"]}, {"lsn": 99999, "index": 7}, place])
        assert (got["redriven"], got["late"], got["skipped"]) == (1, 1, 2), got
        assert {skip["detail"] for skip in got["skips"]} == {"no dead letter is about it"}, got
        back = dead(s)[2]
        assert back["event"]["id"] == "z" and back["lsn"] > z["lsn"] and back["index"] == 0
        got = redrive(s, ids=[place, {"lsn": back["lsn"], "index": 0}])
        assert (got["redriven"], got["late"], got["skipped"]) == (1, 1, 1), got
        assert counted(s) == 1 and conserved(s) == 5


def test_what_is_not_redriven():
    with server(config()) as s:
        old = 1700000000000
        for at in (old + 3600000, old):
            s.post("/v1/streams/o/events", event(f"o{at}", at))
        late, = dead(s, "&reason=late")
        problem(s.post(R, '{"reason":"late"}'), 400, "allowed_lateness", "millrace replay")
        problem(s.post(R, '{"reason":"groups"}'), 400, "no events")
        got = redrive(s, ids=[{"lsn": late["lsn"], "index": late["index"]}])
        assert got["skipped"] == 1 and "millrace replay" in got["skips"][0]["detail"], got
        assert redrive(s)["redriven"] == 0
        for body, word in (("", "JSON"), ("[]", "no object"), ("{", "JSON"), ('{"limit":0}', "limit"), ('{"limit":1.5}', "whole"),
                           ('{"limit":10001}', "10000"), ('{"limit":-1}', "whole"), ('{"x":1}', "not known"),
                           ('{"stream":"s","stream":"s"}', "twice"), ('{"stream":"nobody"}', "nobody"),
                           ('{"stream":"\\u0073"}', "escape"), ('{"stream":7}', "string"), ('{"reason":"bad"}', "bad"),
                           ('{"ids":[{"lsn":1}]}', "index"), ('{"ids":[{"lsn":1,"index":4294967296}]}', "4294967295"),
                           ('{"ids":[1]}', "object"), ('{"ids":7}', "array"), ('{"ids":[],"limit":5}', "alone"),
                           ('{"ids":[{"lsn":1,"index":0,"lsn":1}]}', "once"), ('{"ids":[{}]}', "string")):
            problem(s.post(R, body), 400, word)
        assert redrive(s, ids=[]) == redrive(s), "nothing to do"
        problem(s.post(R + "?x=1", "{}"), 400, "x")


def discard(s, query=""):
    answer = s.request("DELETE", "/v1/dead-letters" + query)
    assert answer.status == 200, answer
    return answer.json["discarded"]


def test_discarded_is_neither_listed_nor_redriven():
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        s.post(E, "\n".join([event("f1", at), event("f2", at), event("r1")]))
        s.post("/v1/streams/o/events", "{")
        assert len(dead(s)) == 4
        assert discard(s, "?before=0") == 0 == discard(s, "?before=now-1h") and len(dead(s)) == 4
        assert discard(s, "?stream=s&reason=future") == 2 and discard(s, "?stream=s&reason=future") == 0
        left = [(e["stream"], e["reason"]) for e in dead(s)]
        assert left == [("s", "rejected"), ("o", "rejected")], left
        assert redrive(s, stream="s", reason="future")["redriven"] == 0
        s.post(E, event("f3", at))
        assert [e["event"]["id"] for e in dead(s, "&reason=future")] == ["f3"], "what comes behind it is not discarded"
        s.kill()
        s.start()
        assert [e["reason"] for e in dead(s)] == ["rejected", "rejected", "future"]
        assert s.post("/v1/checkpoint", "").status == 200
        assert discard(s, "?stream=o") == 1 and discard(s, "?before=now%2B1h") == 2 and dead(s) == []
        s.kill()
        s.start()
        assert dead(s) == [] and redrive(s)["redriven"] == 0 == redrive(s)["skipped"]
        pages = s.get("/v1/dead-letters?limit=1").json
        assert pages == {"entries": [], "next_cursor": None}, pages
        for query, status, word in (("?x=1", 400, "x"), ("?stream=nobody", 400, "nobody"), ("?reason=bad", 400, "reason"),
                                    ("?before=yesterday", 400, "before")):
            problem(s.request("DELETE", "/v1/dead-letters" + query), status, word)
        assert conserved(s) == 4


def test_pages_pass_over_what_is_discarded():
    """Every third of 300 entries is of a reason that is discarded; pages of 7 give the others, each once, in order."""
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        for i in range(300):
            s.post(E, event(f"r{i}") if i % 3 == 0 else event(f"f{i}", at))
        assert discard(s, "?reason=rejected") == 100
        got, cursor = [], ""
        while cursor is not None:
            page = s.get("/v1/dead-letters?limit=7" + (cursor and "&cursor=" + cursor)).json
            got += [e["event"]["id"] for e in page["entries"]]
            cursor = page["next_cursor"]
        assert got == [f"f{i}" for i in range(300) if i % 3 != 0], got


def test_retention_removes_the_oldest():
    """Behind two checkpoints; what is left is listed, over a kill, and over a start from zero (the results are lost)."""
    text = config().replace("log: { segment: 4MiB }", "log: { segment: 4MiB, retain_bytes: 8MiB }")
    with server(text) as s:
        def fill(first):
            for i in range(first, first + 100):
                s.post(E, event(f"e{i}", pad="p" * 60000))  # no time: rejected
        fill(0)
        assert len(dead(s)) == 100
        fill(100)
        for _ in range(2):
            assert s.post("/v1/checkpoint", "").status == 200
        until("removed", lambda: s.metric("millrace_dead_letters_segments_removed_total") > 0)
        left = [json.loads(e["raw"])["id"] for e in dead(s)]
        assert 0 < len(left) < 200 and left == [f"e{i}" for i in range(200 - len(left), 200)], left
        fill(200)
        s.kill()
        s.start()
        left = [json.loads(e["raw"])["id"] for e in dead(s)]
        assert left == [f"e{i}" for i in range(300 - len(left), 300)] and len(left) > 100, left
        assert discard(s) == len(left) and dead(s) == []
        s.kill()
        s.start()
        assert dead(s) == []


def test_many_in_rounds():
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        for part in range(4):
            s.post(E, "\n".join(event(f"{part}-{i}", at, pad="p" * 100) for i in range(500)))
        assert s.stop() == 0
        s.configure(config(max_future="3h"))
        s.start()
        got = redrive(s, reason="future", limit=1500)
        assert (got["accepted"], got["more"]) == (1500, True), got
        got = redrive(s, reason="future", limit=1500)
        assert (got["accepted"], got["skipped"], got["more"]) == (500, 1500, False), got
        assert counted(s) == 2000


def test_who_may():
    tokens = "auth: { tokens: { root: { sha256: %s, allow: [admin] }, ask: { sha256: %s, allow: [ingest, query] }, " \
             "own: { sha256: %s, streams: [o], allow: [admin] } } }\n"
    import hashlib
    sums = tuple(hashlib.sha256(name.encode()).hexdigest() for name in ("root", "ask", "own"))
    with server(tokens % sums + config()) as s:
        def post(token, body):
            return s.post(R, body, headers={"Authorization": "Bearer " + token})
        at = now() + 2 * 3600 * 1000
        s.post(E, event("a", at), headers={"Authorization": "Bearer ask"})
        problem(s.post(R, "{}"), 401)
        problem(post("ask", "{}"), 403, "admin")
        problem(post("own", '{"stream":"s"}'), 403, "no right")
        assert post("own", "{}").json["redriven"] == 0
        assert post("root", '{"stream":"s"}').json["late"] == 1

        def delete(token, query=""):
            return s.request("DELETE", "/v1/dead-letters" + query, headers={"Authorization": "Bearer " + token})
        problem(delete("ask"), 403, "admin")
        problem(delete("own"), 403, "name one")
        problem(delete("own", "?stream=s"), 403, "no right")
        assert delete("own", "?stream=o").json["discarded"] == 0
        assert delete("root").json["discarded"] == 2


if __name__ == "__main__":
    run(globals())
