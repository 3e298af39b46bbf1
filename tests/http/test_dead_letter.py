# SPDX-License-Identifier: Apache-2.0
"""
One dead letter by its address, against the real program.

Proves: every entry of the list, of whatever reason, has one address, and under it is that entry and no other, over
restarts; discarding one discards that one, in the list, in pages and for redrives, until a wider discard takes its
place; redriving one redrives that one, once; an address of which there is nothing says whether it was discarded, is not kept
any more, or never was. Who may do it is who may with the list.
"""
import hashlib
import json

from harness import run, server, until
from test_dead_letters import E, config, conserved, counted, dead, discard, event, now, problem, redrive

D = "/v1/dead-letters"
GROUPS = """
  g: { from: o, group_by: [k], window: { type: tumbling, size: 1s }, metrics: { n: count },
       groups: { max: 1, when_full: drop } }
"""


def one(s, address, status=200):
    answer = s.get(f"{D}/{address}")
    assert answer.status == status, answer
    return answer.json


def delete(s, address):
    return s.request("DELETE", f"{D}/{address}")


def redrive_one(s, address):
    answer = s.post(f"{D}/{address}/redrive", b"", None)
    assert answer.status == 200, answer
    return answer.json


def rejects(s, count):
    """So many entries of one record."""
    assert s.post(E, "\n".join(event(f"r{i}") for i in range(count))).json["rejected"] == count


def check_all(s, entries):
    assert dead(s) == entries
    for entry in entries:
        assert one(s, entry["address"]) == entry


def test_every_entry_has_an_address():
    with server(config() + GROUPS) as s:
        at = now()
        s.post(E, "\n".join([event("f", at + 2 * 3600 * 1000), event("r"), "{", event("ok", at)]))
        old = 1700000000000
        s.post("/v1/streams/o/events", "\n".join(json.dumps({"id": f"a{k}", "k": k, "t": old}) for k in range(5)))
        s.post("/v1/streams/o/events", event("later", old + 3600000))
        s.post("/v1/streams/o/events", event("late", old))
        until("groups are dropped", lambda: any(e["reason"] == "groups" for e in dead(s)))
        entries = dead(s)
        assert {e["reason"] for e in entries} == {"future", "rejected", "groups", "late"}, entries
        assert len({e["address"] for e in entries}) == len(entries) >= 5
        check_all(s, entries)
        lines = s.get(D, headers={"Accept": "application/x-ndjson"}).body.decode().splitlines()
        assert [json.loads(line) for line in lines] == entries
        s.kill()
        s.start()
        check_all(s, entries)
        gone = entries[1]["address"]
        assert delete(s, gone).json == {"discarded": 1}
        check_all(s, entries[:1] + entries[2:])
        problem(s.get(f"{D}/{gone}"), 404, "discarded")
        problem(delete(s, gone), 404, "discarded")
        problem(s.post(f"{D}/{gone}/redrive", b""), 404, "discarded")
        lsn, entry = gone.split("-")
        for address in (f"{lsn}-99", f"{int(lsn) + 1000}-0"):
            problem(s.get(f"{D}/{address}"), 404, "no dead letter", "lists them")
        for address in ("0-0", f"0{lsn}-{entry}", f"{lsn}-0{entry}", lsn, f"{lsn}-", f"-{entry}", f"{lsn}-{entry}x",
                        "x", "redrive", f"{lsn}-4294967295", "9223372036854775808-0", "99999999999999999999-0", f"{lsn}-%2B1"):
            problem(s.get(f"{D}/{address}"), 404, "no address")
        problem(s.get(f"{D}/{gone}?x=1"), 400, "x")
        assert s.post(f"{D}/{gone}", b"").status == 405 and s.get(f"{D}/{gone}/redrive").status == 405


def test_one_is_discarded():
    with server(config()) as s:
        rejects(s, 30)
        entries = dead(s)
        for k in (0, 7, 8, 29):
            assert delete(s, entries[k]["address"]).json == {"discarded": 1}
        left = [e for k, e in enumerate(entries) if k not in (0, 7, 8, 29)]
        check_all(s, left)
        s.kill()
        s.start()
        check_all(s, left)
        pages, cursor = [], ""
        while cursor is not None:
            page = s.get(f"{D}?limit=5" + (cursor and "&cursor=" + cursor)).json
            pages += page["entries"]
            cursor = page["next_cursor"]
        assert pages == left
        got = redrive(s, stream="s", reason="rejected")
        assert got["rejected"] == 26, "what is discarded is not redriven"
        assert discard(s) == 52 and dead(s) == []
        problem(s.get(f"{D}/{left[0]['address']}"), 404, "discarded")
        assert conserved(s) == 56


def test_so_many_can_be_discarded_one_by_one():
    """1,024 marks hold at a time; a wider one takes their place."""
    with server(config()) as s:
        rejects(s, 1030)
        entries = s.get(f"{D}?limit=10000").json["entries"]
        connection = s.connect()
        for entry in entries[:1024]:
            assert s.request("DELETE", f"{D}/{entry['address']}", connection=connection).status == 200
        problem(delete(s, entries[1024]["address"]), 409, "1024 discards")
        assert len(dead(s)) == 6
        assert discard(s, "?stream=o") == 0
        problem(delete(s, entries[1024]["address"]), 409)
        assert discard(s, "?stream=s&reason=rejected") == 6 and dead(s) == []
        rejects(s, 2)
        first, second = dead(s)
        assert delete(s, first["address"]).status == 200 and dead(s) == [second]
        s.kill()
        s.start()
        assert dead(s) == [second]


def test_one_is_redriven():
    with server(config()) as s:
        at = now() + 2 * 3600 * 1000
        s.post(E, "\n".join([event("a", at), event("b", at), event("r")]))
        a, b, r = dead(s)
        got = redrive_one(s, r["address"])
        assert (got["redriven"], got["rejected"], got["skipped"], got["more"]) == (1, 1, 0, False), got
        assert s.stop() == 0
        s.configure(config(max_future="3h"))
        s.start()
        assert len(dead(s)) == 4
        assert redrive_one(s, b["address"])["accepted"] == 1 and counted(s) == 1
        got = redrive_one(s, b["address"])
        assert got["redriven"] == 0 and [k["detail"] for k in got["skips"]] == ["redriven before"], got
        s.kill()
        s.start()
        assert redrive_one(s, b["address"])["skipped"] == 1 and counted(s) == 1
        assert s.post(E, event("b", at)).json["duplicate"] == 1
        got = redrive(s, stream="s", reason="future")
        assert (got["accepted"], got["skipped"]) == (1, 1) and counted(s) == 2, got
        old = 1700000000000
        for time in (old + 3600000, old):
            s.post("/v1/streams/o/events", event(f"o{time}", time))
        late, = dead(s, "&reason=late")
        got = redrive_one(s, late["address"])
        assert got["redriven"] == 0 and "millrace replay" in got["skips"][0]["detail"], got


def test_what_is_not_kept_any_more():
    text = config().replace("log: { segment: 4MiB }", "log: { segment: 4MiB, retain_bytes: 8MiB }")
    with server(text) as s:
        for i in range(200):
            s.post(E, event(f"e{i}", pad="p" * 60000))  # no time: rejected
            if i == 0:
                first, = dead(s)
        for _ in range(2):
            assert s.post("/v1/checkpoint", "").status == 200
        until("removed", lambda: s.metric("millrace_dead_letters_segments_removed_total") > 0)
        left = dead(s)
        assert first not in left and one(s, left[0]["address"]) == left[0]
        problem(s.get(f"{D}/{first['address']}"), 404, "any more", "record " + left[0]["address"].split("-")[0])


def test_who_may():
    rights = {"root": "allow: [admin]", "ask": "allow: [ingest, query]", "own": "streams: [o], allow: [query, admin]"}
    tokens = ", ".join(f"{name}: {{ sha256: {hashlib.sha256(name.encode()).hexdigest()}, {more} }}"
                       for name, more in rights.items())
    with server(f"auth: {{ tokens: {{ {tokens} }} }}\n" + config()) as s:
        as_ = lambda name: {"Authorization": f"Bearer {name}"}
        s.post(E, event("r"), headers=as_("ask"))
        entry, = s.get(D, headers=as_("ask")).json["entries"]
        path = f"{D}/{entry['address']}"
        for method, where in (("GET", path), ("DELETE", path), ("POST", path + "/redrive")):
            assert s.request(method, where).status == 401
            problem(s.request(method, where, headers=as_("own")), 404, "no dead letter")
        assert s.get(path, headers=as_("ask")).json == entry
        for method, where in (("DELETE", path), ("POST", path + "/redrive")):
            problem(s.request(method, where, headers=as_("ask")), 403, "admin")
        assert s.post(path + "/redrive", b"", None, as_("root")).json["rejected"] == 1
        assert s.request("DELETE", path, headers=as_("root")).json == {"discarded": 1}


if __name__ == "__main__":
    run(globals())
