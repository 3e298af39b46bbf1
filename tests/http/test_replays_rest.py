# SPDX-License-Identifier: Apache-2.0
"""
Replays over REST: /v1/replays against the real server.

Proves: a rule that was wrong is put right while the server goes on: what GET …/compare says are the rows that the
replay has, its promotion is done by the next start, after which the rows are those of `millrace run` over all events
and every repeat is a duplicate; a start under another configuration refuses and says what to do. A configuration is checked
as `millrace check` checks it. One replay runs at a time; it is ended by DELETE, by a stop and with a kill -9 of the
server, which finds it as interrupted; nothing is left of one that was removed. Only administrators of all streams may.
"""
import hashlib
import json
import os
import random
import signal
import subprocess
import threading

import test_examples
from harness import GIVE_UP_S, MILLRACE, ROOT, run, server, until
from test_replay import BASE, CLICKS, HEAD, VIEWS, config, event, millrace, oracle, post, settle, stored, upto

REPLAYS = "/v1/replays"


def start(s, name, text, query="", status=202, headers=None):
    answer = s.post(f"{REPLAYS}?name={name}{query}", text, "application/yaml", headers)
    assert answer.status == status, answer
    return answer


def look(s, name):
    answer = s.get(f"{REPLAYS}/{name}")
    assert answer.status == 200, answer
    return answer.json


def ended(s, name):
    """What it came to."""
    until("the replay ends", lambda: look(s, name)["state"] != "running")
    return look(s, name)


def problem(answer, status, *words):
    assert answer.status == status, answer
    for word in words:
        assert word in answer.json["detail"], answer


def children(s):
    """The server's child processes."""
    path = f"/proc/{s.process.pid}/task"
    return [int(pid) for task in os.listdir(path) for pid in open(f"{path}/{task}/children").read().split()]


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def slow(kind="view"):
    """A configuration whose replay takes a while: many windows an event."""
    return config(kind, rules=VIEWS.replace("type: tumbling, size: @SIZE@", "type: sliding, size: 900s, every: 1s"))


def fill(s, count=40000):
    rng = random.Random(1)
    events = [event(i, rng) for i in range(count)]
    post(s, events)
    return events


def started_slowly(s, name="slow"):
    """A replay that runs, and its process."""
    start(s, name, slow())
    until("its process", lambda: children(s) and (s.directory / f"data/replays/{name}/unfinished.db").exists())
    [pid] = children(s)
    assert look(s, name)["state"] == "running"
    return pid


def test_a_wrong_rule_is_put_right():
    rng = random.Random(1)
    with server(config(kind="viwe")) as s:
        sent, stop = [], threading.Event()

        def traffic():
            while not stop.is_set():
                events = [event(len(sent) + k, rng) for k in range(100)]
                post(s, events)
                sent.extend(events)

        thread = threading.Thread(target=traffic)
        thread.start()
        try:
            until("traffic", lambda: len(sent) > 3000)
            before = len(sent)
            answer = start(s, "fixed", config())
            assert answer.headers["Location"] == f"{REPLAYS}/fixed" and answer.json["state"] in ("running", "finished")
            got = ended(s, "fixed")
            until("traffic goes on", lambda: len(sent) > before + 300)
        finally:
            stop.set()
            thread.join()
        assert got["state"] == "finished" and got["promote"] is False, got
        facts = got["replay"]
        assert facts["received"] == facts["accepted"] >= before and facts["promotable"] and not facts["trimmed"], facts
        assert s.rows("views") == [], "the rule was wrong"
        settle(s)
        shadow = stored(s.directory / "data/replays/fixed/results.db")
        [compared] = s.get(f"{REPLAYS}/fixed/compare?limit=10000").json["rules"]
        assert compared["rule"] == "views" and compared["new"] == len(shadow) == len(compared["rows"]) > 100
        assert (compared["equal"], compared["changed"], compared["missing"]) == (0, 0, 0)
        for row in compared["rows"]:
            assert row["kind"] == "new" and row["after"]["n"] in {v[0] for v in shadow.values()}, row
        assert len(s.get(f"{REPLAYS}/fixed/compare?rule=views").json["rules"][0]["rows"]) == 10
        problem(s.get(f"{REPLAYS}/fixed/compare?rule=nope"), 400, "nope")
        problem(s.get(f"{REPLAYS}/fixed/compare?limit=-1"), 400, "limit")
        right = s.directory / "data/replays/fixed/config.yaml"
        assert right.read_text() == config()
        answer = s.post(f"{REPLAYS}/fixed/promote", b"")
        assert answer.status == 202 and answer.json["promote"], answer
        assert s.post(f"{REPLAYS}/fixed/promote", b"").status == 202, "twice is once"
        problem(s.request("DELETE", f"{REPLAYS}/fixed"), 409, "/promote")
        problem(start(s, "fixed", config(), "&again=true", 409), 409, "/promote")
        behind = [event(len(sent) + k, rng) for k in range(100)]  # of what the replay has read
        post(s, behind)
        sent.extend(behind)
        assert s.stop() == 0
        s.start(expect_failure=True)
        assert s.process.wait(GIVE_UP_S) == 78, s.said()
        for words in ("replays/fixed/config.yaml", "millrace replay cancel --data"):
            assert words in s.said(), s.said()
        s.configure(config())
        s.start()
        assert "replay fixed promoted, as of record" in s.said() and not (s.directory / "data/PROMOTE").exists()
        assert look(s, "fixed")["promote"] is False
        events = list(sent)
        final = BASE + (len(events) - 1) * 20
        want = upto(oracle(s, s.config, events), final)
        settle(s)
        got = upto(stored(s.directory / "data/results.db"), final)
        assert got == want and len(want) > 100, sorted(set(got.items()) ^ set(want.items()))[:4]
        assert post(s, events)["duplicate"] == len(events)
        s.kill()
        s.start()
        more = [event(i, rng) for i in range(len(sent), len(sent) + 2000)]
        post(s, more)
        settle(s)
        got, want = (upto(rows, BASE + (more[-1]["ts"] - BASE) // 1000 * 1000, begin_ms=more[100]["ts"] // 1000 * 1000)
                     for rows in (stored(s.directory / "data/results.db"), oracle(s, s.config, events + more)))
        assert got == want and want, "further events count under the new rule"


def test_a_promotion_is_cancelled():
    rng = random.Random(2)
    with server(config(kind="viwe")) as s:
        post(s, [event(i, rng) for i in range(1000)])
        for name in ("a", "b"):
            start(s, name, config())
            assert ended(s, name)["state"] == "finished"
        assert s.post(f"{REPLAYS}/a/promote", b"").status == 202
        problem(s.post(f"{REPLAYS}/b/promote", b""), 409, "promotes replay `a`", "/v1/replays/a/promote")
        problem(s.request("DELETE", f"{REPLAYS}/b/promote"), 404, "not to be promoted")
        assert s.request("DELETE", f"{REPLAYS}/a/promote").json["promote"] is False
        assert s.stop() == 0
        s.start()
        assert s.rows("views") == [], "nothing was promoted"
        assert s.post(f"{REPLAYS}/b/promote", b"").status == 202
        s.kill()
        for code, words in ((0, "promotes nothing"), (1, "nothing is to be promoted")):
            done = millrace("replay", "cancel", "--data", s.directory / "data")
            assert done.returncode == code and words in done.err, done.err
        s.start()
        assert s.rows("views") == []
        # A promotion that a crash has stopped behind its last step is not done twice: the rows before stay.
        assert s.post(f"{REPLAYS}/b/promote", b"").status == 202
        mark = (s.directory / "data/PROMOTE").read_text()
        assert s.stop() == 0
        s.configure(config())
        s.start()
        rows = s.rows("views")
        assert rows
        assert s.stop() == 0
        (s.directory / "data/PROMOTE").write_text(mark)
        aside = (s.directory / "data/results.db.before").read_bytes()
        s.start()
        assert "is not promoted by this start" in s.said() and s.rows("views") == rows
        assert (s.directory / "data/results.db.before").read_bytes() == aside
        assert not (s.directory / "data/PROMOTE").exists()


def test_a_promotion_that_was_stopped_goes_on_at_the_next_start():
    rng = random.Random(3)
    with server(config(kind="viwe")) as s:
        events = [event(i, rng) for i in range(10000)]
        post(s, events)
        start(s, "fixed", config())
        assert ended(s, "fixed")["state"] == "finished"
        assert s.post(f"{REPLAYS}/fixed/promote", b"").status == 202
        assert s.stop() == 0
        s.configure(config())
        (s.directory / "data/PROMOTING").write_text("1\n")  # whatever the kills hit
        for i in range(20):
            child = subprocess.Popen([MILLRACE, "serve", "-c", str(s.config)], stderr=subprocess.DEVNULL)
            until("a step", lambda: (s.directory / "data/PROMOTING").exists() or child.poll() is not None or
                  not (s.directory / "data/PROMOTE").exists())
            child.send_signal(signal.SIGKILL)
            child.wait()
            if not (s.directory / "data/PROMOTE").exists():
                break
        s.start()
        assert not (s.directory / "data/PROMOTING").exists() and not (s.directory / "data/PROMOTE").exists()
        settle(s)
        final = BASE + (len(events) - 1) * 20
        assert upto(stored(s.directory / "data/results.db"), final) == upto(oracle(s, s.config, events), final)
        assert post(s, events)["duplicate"] == len(events)


def test_what_is_refused():
    with server(config()) as s:
        post(s, [event(i, random.Random(4)) for i in range(100)])
        problem(start(s, "x", config().replace("from: clicks", "from: cliks"), status=400), 400,
                "config.yaml:", "did you mean `clicks`")
        problem(start(s, "x", "{", status=400), 400, "config.yaml:")
        problem(start(s, "x", config() + "\nnode: { data_dir: /nowhere }\nlimits: { memory: 1KiB }", status=400), 400)
        problem(start(s, "x", "", status=400), 400, "no body")
        assert s.raw(b"POST /v1/replays?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n").startswith(
            b"HTTP/1.1 413 ")
        start(s, "long", config() + "#" * ((1 << 20) - len(config())))
        assert ended(s, "long")["state"] == "finished" and s.request("DELETE", f"{REPLAYS}/long").status == 200
        for name in ("X", "a/b", "..", "", "a" * 65, "-a", ".posted", "a%00b"):
            problem(start(s, name, config(), status=400), 400)
        problem(s.post(REPLAYS, config()), 400, "`name` is missing")
        problem(start(s, "x", config(), "&nmae=y", 400), 400, "did you mean `name`")
        problem(start(s, "x", config(), "&from=soon", 400), 400, "from")
        problem(start(s, "x", config(), "&again=maybe", 400), 400, "again")
        for method, path in (("GET", "x"), ("DELETE", "x"), ("GET", "x/compare"), ("POST", "x/promote"),
                             ("DELETE", "x/promote"), ("GET", "X"), ("GET", "%2e.x")):
            problem(s.request(method, f"{REPLAYS}/{path}"), 404)
        assert s.request("PUT", REPLAYS).status in (405, 501) and s.request("DELETE", REPLAYS).status == 405
        assert s.get(REPLAYS).json == {"replays": []}
        assert not [name for name in os.listdir(s.directory / "data/replays") if name != ".asked"]
        # What is there is not replaced unless that is asked for, and not by what is no configuration.
        start(s, "x", config())
        assert ended(s, "x")["state"] == "finished"
        problem(start(s, "x", config(), status=409), 409, "again=true")
        problem(start(s, "x", "rules: 1", "&again=true", status=400), 400)
        assert look(s, "x")["state"] == "finished" and look(s, "x")["replay"]["accepted"] == 100
        post(s, [event(i, random.Random(5)) for i in range(100, 150)])
        start(s, "x", config(), "&again=true")
        assert ended(s, "x")["replay"]["accepted"] == 150
        start(s, "part", config(), f"&from={BASE + 1000}")
        assert ended(s, "part")["replay"]["rules"][0]["windows_from"] == "2026-09-21T14:13:21.000Z"
        assert s.post(f"{REPLAYS}/part/promote", b"").json["promote"]  # joined with what the node has
        assert s.request("DELETE", f"{REPLAYS}/part/promote").status == 200
        for i in range(14):
            start(s, f"n{i}", config())
            assert ended(s, f"n{i}")["state"] == "finished"
        problem(start(s, "more", config(), status=409), 409, "16 replays")
        names = [one["name"] for one in s.get(REPLAYS).json["replays"]]
        assert names == sorted(["x", "part", *(f"n{i}" for i in range(14))])
        assert s.request("DELETE", f"{REPLAYS}/n3").json == {"removed": "n3"}
        assert not (s.directory / "data/replays/n3").exists()
        start(s, "more", config())
        assert ended(s, "more")["state"] == "finished"


def test_a_replay_that_fails_says_why():
    with server(config()) as s:
        post(s, [event(1, random.Random(6))])
        free = os.statvfs(s.directory)
        bytes_free = free.f_bavail * free.f_frsize
        redis = config(streams=CLICKS.replace("dedup: { ids: 1000000 }", "dedup: { mode: redis, store: main }")) + \
            "\nnode: { id: n, data_dir: x }\nstores: { main: { type: redis, nodes: ['127.0.0.1:1'] } }\n" \
            "cluster: { name: x, secret: 0123456789abcdef0123456789abcdef }\n"
        start(s, "other", redis)
        got = ended(s, "other")
        assert got["state"] == "failed" and got["message"], got
        problem(s.get(f"{REPLAYS}/other/compare"), 409, "failed")
        problem(s.post(f"{REPLAYS}/other/promote", b""), 409, "failed")
        assert s.stop() == 0
        s.configure(config(head=HEAD.replace("log: {", f"log: {{ reserve: {bytes_free * 3 // 4}, ")))
        s.start()
        assert look(s, "other")["state"] == "failed"
        start(s, "big", config())
        got = ended(s, "big")
        assert got["state"] == "failed" and "of the disk" in got["message"], got
        start(s, "other", config(), "&again=true")
        assert ended(s, "other")["state"] == "failed"


def test_one_at_a_time_and_removed_while_it_runs():
    with server(config()) as s:
        fill(s)
        pid = started_slowly(s)
        problem(start(s, "second", config(), status=409), 409, "`slow` is running")
        problem(s.get(f"{REPLAYS}/slow/compare"), 409, "is running")
        problem(s.post(f"{REPLAYS}/slow/promote", b""), 409, "is running")
        until("progress", lambda: "progress" in look(s, "slow"))
        assert 0 <= look(s, "slow").get("progress", {"progress": 0})["progress"] <= 1
        assert os.getpriority(os.PRIO_PROCESS, pid) == 10
        open_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [path for path in open_files if path.endswith("data/LOCK") or "socket" in path], open_files
        assert post(s, [event(40000, random.Random(7))])["accepted"] == 1, "the server goes on"
        assert s.request("DELETE", f"{REPLAYS}/slow").status == 200
        assert not is_alive(pid) and children(s) == []
        assert not (s.directory / "data/replays/slow").exists() and s.get(REPLAYS).json["replays"] == []
        start(s, "second", config())
        assert ended(s, "second")["state"] == "finished"
        assert s.stop() == 0


def test_a_stop_and_a_kill_interrupt_it():
    with server(config()) as s:
        fill(s)
        pid = started_slowly(s)
        s.kill()
        until("it ends with the server", lambda: not is_alive(pid))
        s.start()
        got = look(s, "slow")
        assert got["state"] == "interrupted", got
        problem(s.get(f"{REPLAYS}/slow/compare"), 409, "interrupted")
        problem(start(s, "slow", slow(), status=409), 409, "again=true")
        start(s, "slow", slow(), "&again=true")
        until("its process", lambda: children(s))
        [pid] = children(s)
        assert s.stop() == 0
        assert not is_alive(pid)
        s.start()
        assert look(s, "slow")["state"] == "interrupted"
        start(s, "slow", config(), "&again=true")
        got = ended(s, "slow")
        assert got["state"] == "finished" and got["replay"]["accepted"] == 40000, got
        assert s.request("DELETE", f"{REPLAYS}/slow").status == 200


def test_who_may():
    tokens = {"root": "allow: [admin]", "reader": "allow: [ingest, query]",
              "bound": "allow: [admin], streams: [clicks]"}
    lines = "".join(f"    {name}: {{ sha256: {hashlib.sha256(name.encode()).hexdigest()}, {more} }}\n"
                    for name, more in tokens.items())
    text = config() + f"auth:\n  tokens:\n{lines}"
    with server(text) as s:
        as_ = lambda name: {"Authorization": f"Bearer {name}"}
        every = (("GET", ""), ("POST", "?name=x"), ("GET", "/x"), ("DELETE", "/x"), ("GET", "/x/compare"),
                 ("POST", "/x/promote"), ("DELETE", "/x/promote"))
        for method, path in every:
            assert s.request(method, REPLAYS + path, body=config()).status == 401
            for name, words in (("reader", "lacks the right `admin`"), ("bound", "bound to streams")):
                problem(s.request(method, REPLAYS + path, body=config(), headers=as_(name)), 403, words)
        start(s, "x", config(), headers=as_("root"))
        until("it ends", lambda: s.request("GET", f"{REPLAYS}/x", headers=as_("root")).json["state"] == "finished")
        assert s.request("DELETE", f"{REPLAYS}/x", headers=as_("root")).status == 200


def test_no_page_of_another_site_posts_a_replay():
    with server(config()) as s:
        problem(start(s, "x", config(), status=403, headers={"Origin": "http://page.example"}), 403, "auth.tokens")
        assert s.request("GET", REPLAYS).json == {"replays": []}


def test_the_document_about_replays():
    text = (ROOT / "docs/REPLAY.md").read_text()
    command, rest = text.split("\n## Over REST\n")
    for part in (command, rest):
        commands, outputs = test_examples.follow(part)
        assert commands >= 10 and outputs >= 10, (commands, outputs)


if __name__ == "__main__":
    run(globals())
