# SPDX-License-Identifier: Apache-2.0
"""
The same id with another content (dedup.conflicts: detect), against the real program.

Proves: a conflict is answered as a duplicate, counted besides, and listed as a dead letter with the whole event; a
copy is only a duplicate, whatever framing or media type it came in; both hold over kill -9, checkpoints and other
numbers of shards; of 146,954 real events exactly those are conflicts that a plain computation says; the setting may be
switched on and off; conflicts are not redriven, and can be discarded.
"""
import contextlib
import gzip
import json
import re
import subprocess

from harness import MILLRACE, ROOT, Server, check_ledger, run, server

DATA = ROOT / "tests/data/git-commits.ndjson.gz"
E = "/v1/streams/s/events"
T = '"t":"2026-01-01T00:00:00Z"'


def config(conflicts="detect", shards=1, ids=100000):
    return f"""
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
limits: {{ body: 4MiB, inflated: 8MiB, event: 64KiB, in_flight: 64MiB }}
checkpoint: {{ every: 1d }}
streams:
  s: {{ id: id, time: {{ field: t }}, dedup: {{ horizon: 7d, ids: {ids}, conflicts: {conflicts} }},
       watermark: {{ out_of_orderness: 1h, idle_timeout: off }} }}
rules:
  r: {{ from: s, window: {{ type: tumbling, size: 1h }}, allowed_lateness: 3000d, metrics: {{ n: count }} }}
"""


def event(name, value):
    return f'{{"id":"{name}",{T},"v":{value}}}'


def conflicts(s):
    """Those listed; they are as many as were counted."""
    answer = s.get("/v1/dead-letters?reason=conflict&limit=1000")
    assert answer.status == 200, answer
    entries = answer.json["entries"]
    assert len(entries) == s.metric("millrace_events_conflicts_total", stream="s")
    assert len(entries) == s.get("/v1/streams").json["streams"][0]["counters"]["conflicts"]
    check_ledger(s, "s")
    return entries


def post(s, *events, accepted=0, duplicate=0):
    got = s.post(E, "\n".join(events)).json
    assert (got["accepted"], got["duplicate"]) == (accepted, duplicate), got


def again(s):
    s.kill()
    s.start()


def checkpoint_and_again(s):
    assert s.post("/v1/checkpoint", "").status == 200
    again(s)


def other_shards(s, shards):
    assert s.stop() == 0
    s.configure(config(shards=shards))
    s.start()


def test_conflicts_are_dead_letters():
    """Each of the ways to go on, then a copy and a conflict with an id of the very beginning."""
    with server(config()) as s:
        post(s, event("a", 1), event("b", 1), event("a", 1), event("a", 2), accepted=2, duplicate=2)
        first, = conflicts(s)
        assert list(first) == ["address", "reason", "stream", "lsn", "index", "time", "event"], first
        assert (first["reason"], first["stream"], first["index"]) == ("conflict", "s", 3), first
        assert first["event"] == json.loads(event("a", 2)) and first["time"] == "2026-01-01T00:00:00.000Z", first
        ways = (again, checkpoint_and_again, again, lambda s: other_shards(s, 4), again, lambda s: other_shards(s, 3),
                checkpoint_and_again, lambda s: other_shards(s, 1))
        for i, go_on in enumerate(ways):
            go_on(s)
            assert len(conflicts(s)) == 1 + i
            post(s, event("a", 1), event("b", 1), duplicate=2)
            post(s, event("b", 10 + i), duplicate=1)
            assert conflicts(s)[-1]["event"]["v"] == 10 + i
        assert s.rows("r")[0]["metrics"]["n"] == 2


def test_a_copy_is_a_copy_in_any_framing():
    """What is around an event is not part of it; what is in it is, to the byte."""
    with server(config()) as s:
        one = event("a", 1)
        post(s, one, accepted=1)
        array = s.post(E, f"[ {one} ,\n{event('b', 1)} ]", content_type="application/json").json
        assert (array["accepted"], array["duplicate"]) == (1, 1), array
        assert s.post(E, one, content_type="application/json").json["duplicate"] == 1
        packed = gzip.compress(b" \t" + one.encode() + b"\r\n")
        assert s.post(E, packed, headers={"Content-Encoding": "gzip"}).json["duplicate"] == 1
        assert conflicts(s) == []
        post(s, one.replace(":1}", ": 1}"), duplicate=1)
        post(s, f'{{{T},"id":"b","v":1}}', duplicate=1)
        assert [c["event"]["id"] for c in conflicts(s)] == ["a", "b"]


def test_cloudevents_in_binary_mode():
    """Compared is what the request was rewritten to: headers are part of the event."""
    def send(data, **more):
        headers = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/x", "ce-type": "t",
                   "ce-time": "2026-01-01T00:00:00Z", "content-type": "application/json", **more}
        answer = s.request("POST", E, body=data, headers=headers)
        assert answer.status == 200, answer
        return answer.json

    with server(config().replace("field: t ", "field: time ")) as s:
        assert send('{"v":1}')["accepted"] == 1
        assert send('{"v":1}')["duplicate"] == 1
        assert conflicts(s) == []
        assert send('{"v":2}')["duplicate"] == 1
        assert send('{"v":1}', **{"ce-subject": "other"})["duplicate"] == 1
        got = [(c["event"]["data"], c["event"].get("subject")) for c in conflicts(s)]
        assert got == [({"v": 2}, None), ({"v": 1}, "other")], got


def expected(lines):
    """Which lines differ from the first one of their id."""
    first = {}
    return [line for line in lines if first.setdefault(json.loads(line)["id"], line) != line]


def send_all(s, lines):
    for i in range(0, len(lines), 1000):
        assert s.post("/v1/streams/s/events", b"".join(lines[i:i + 1000])).status == 200


def listed(s):
    """All of them, page by page."""
    events, cursor = [], ""
    while cursor is not None:
        page = s.get("/v1/dead-letters?reason=conflict&limit=1000" + (f"&cursor={cursor}" if cursor else "")).json
        events += [json.dumps(entry["event"], sort_keys=True) for entry in page["entries"]]
        cursor = page["next_cursor"]
    return events


def test_real_events():
    """The commits of Git: 71,408 duplicates. Nearly all say when they arrived, which is another content; without that
    there is no conflict; and then every hundredth line is changed. Killed on the way, but for the first time behind a
    checkpoint."""
    as_they_are = gzip.open(DATA, "rb").read().splitlines(keepends=True)
    copies = [re.sub(rb'"arrived":[0-9]+,', b"", line) for line in as_they_are]
    changed = [line.replace(b'"words":', b'"words":1') if i % 100 == 0 else line for i, line in enumerate(copies)]
    for lines, count in ((as_they_are, 71399), (copies, 0), (changed, 1353)):
        want = expected(lines)
        assert len(want) == count, len(want)
        with server(config(shards=3, ids=1000000).replace("field: t }", "field: time, format: ms }")) as s:
            half = len(lines) // 2
            send_all(s, lines[:half])
            if lines is not as_they_are:
                assert s.post("/v1/checkpoint", "").status == 200
            again(s)
            send_all(s, lines[half:])
            assert s.metric("millrace_events_total", stream="s", verdict="duplicate") == 71408
            assert s.metric("millrace_events_conflicts_total", stream="s") == count
            assert sorted(listed(s)) == sorted(json.dumps(json.loads(line), sort_keys=True) for line in want)
            check_ledger(s, "s")


def test_switched_on_and_off():
    """Ids remembered while it was off are not compared, those since are; off forgets what was known."""
    with server(config("ignore")) as s:
        def switch(to, shards=1):
            assert s.stop() == 0
            s.configure(config(to, shards))
            s.start()

        post(s, event("a", 1), event("a", 2), accepted=1, duplicate=1)
        switch("detect")
        post(s, event("a", 3), duplicate=1)
        post(s, event("b", 1), event("b", 2), accepted=1, duplicate=1)
        assert [c["event"]["id"] for c in conflicts(s)] == ["b"]
        switch("detect", shards=2)
        post(s, event("a", 4), event("b", 3), duplicate=2)
        assert [c["event"]["v"] for c in conflicts(s)] == [2, 3]
        switch("ignore")
        post(s, event("b", 4), duplicate=1)
        assert s.metric("millrace_events_conflicts_total", stream="s") == 2
        switch("detect")
        for i in range(2):
            post(s, event("b", 5), duplicate=1)
            again(s)
        assert len(conflicts(s)) == 2


def test_not_redriven_but_discarded():
    with server(config()) as s:
        post(s, event("a", 1), event("a", 2), accepted=1, duplicate=1)
        entry, = conflicts(s)
        answer = s.post("/v1/dead-letters/redrive", '{"reason":"conflict"}')
        assert answer.status == 400 and "id of its own" in answer.json["detail"], answer
        assert s.post("/v1/dead-letters/redrive", "{}").json["redriven"] == 0
        place = {"lsn": entry["lsn"], "index": entry["index"]}
        named = s.post("/v1/dead-letters/redrive", json.dumps({"ids": [place]})).json
        assert (named["redriven"], named["skipped"]) == (0, 1) and "conflicts" in named["skips"][0]["detail"], named
        post(s, event("a2", 2), accepted=1)  # what is to count as well gets an id of its own
        assert s.request("DELETE", "/v1/dead-letters?reason=conflict").json == {"discarded": 1}
        assert s.get("/v1/dead-letters?reason=conflict").json["entries"] == []
        again(s)
        assert s.get("/v1/dead-letters").json["entries"] == []


def test_what_it_costs():
    """`millrace check` counts up to 36 bytes an id instead of 24; `millrace run` takes conflicts for duplicates, too."""
    def dedup_mib(conflicts):
        with contextlib.closing(Server(config(conflicts, ids=10000000))) as s:
            out = subprocess.run([MILLRACE, "check", str(s.config)], capture_output=True, text=True, check=True)
            line, = re.findall(r"([0-9.]+) MiB  dedup of s", out.stdout + out.stderr)
            return float(line)

    ids = 10000000
    less, more = (dedup_mib(conflicts) * 1048576 / ids for conflicts in ("ignore", "detect"))
    assert 22 < less < 24 and 33 < more < 36, (less, more)
    with contextlib.closing(Server(config())) as s:
        lines = event("a", 1) + "\n" + event("a", 2) + "\n" + event("a", 1) + "\n"
        out = subprocess.run([MILLRACE, "run", "-c", str(s.config), "--json", "-"], capture_output=True, text=True,
                             check=True, input=lines)
        assert json.loads(out.stdout)["metrics"]["n"] == 1, out.stdout
        assert json.loads(out.stderr.splitlines()[-1])["duplicate"] == 2, out.stderr


if __name__ == "__main__":
    run(globals())
