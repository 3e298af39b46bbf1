# SPDX-License-Identifier: Apache-2.0
"""
GET /v1/rules/{rule}/stream over HTTP, against the rows that the same server says.

Proves that every pane of a run arrives exactly once and in order, whatever the rule does with panes: applied to an
empty table by revision they make the rows of /windows; that a stream goes on behind Last-Event-ID after the client
went, after a restart and after kill -9; that what cannot be gone on with is told (410); and that clients who do not read, one too
many, and a shutdown hold up nobody.
"""
import contextlib
import hashlib
import json
import random
import socket
import sqlite3
import threading
import time

from harness import GIVE_UP_S, run, server, until

CONFIG = """
node: { data_dir: "@DIR@/data", shards: 2 }
http: { listen: 127.0.0.1:0, connections_per_address: 500, body_timeout: 2s }
streams:
  s: { id: id, time: { field: ts, format: ms }, watermark: { out_of_orderness: 0s, idle_timeout: off } }
rules:
  plain: { from: s, group_by: [k], window: { size: 1s }, allowed_lateness: 5s, metrics: { n: count, v: { sum: v } } }
  parts: { from: s, group_by: [k], window: { size: 1s }, allowed_lateness: 5s, metrics: { n: count, v: { sum: v } },
           trigger: { early_count: 3, panes: discarding } }
  back: { from: s, group_by: [k], window: { size: 1s }, allowed_lateness: 5s, metrics: { n: count, v: { sum: v } },
          trigger: { early_count: 3, panes: accumulating_and_retracting } }
"""
RULES = ("plain", "parts", "back")
BASE = 1700000000000


class Stream:
    """One stream, read by a thread of its own."""

    def __init__(self, s, path, headers=None, last=None):
        self.connection = s.connect()
        headers = dict(headers or {})
        if last is not None:
            headers["Last-Event-ID"] = last
        self.connection.request("GET", path, headers=headers)
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        self.events, self.last, self.comments, self.ended = [], last, 0, False
        if self.status != 200:
            self.problem = json.loads(self.response.read())
            return
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        event = {}
        try:
            for line in self.response:
                line = line.decode().rstrip("\n")
                if line == "":
                    self.last = event.get("id", self.last)
                    if "data" in event:
                        self.events.append((event["id"], event["event"], json.loads(event["data"])))
                    event = {}
                elif line.startswith(":"):
                    self.comments += 1
                else:
                    name, value = line.split(": ", 1)
                    assert name not in event, line
                    event[name] = value
        except (OSError, ValueError, AttributeError):
            pass
        self.ended = True

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(GIVE_UP_S)
        assert not self.thread.is_alive()
        self.connection.close()


def path(rule, query=""):
    return f"/v1/rules/{rule}/stream" + (query and "?" + query)


def events(count, seed, first=0):
    r = random.Random(seed)
    return [{"id": f"{seed}-{i}", "ts": BASE + (first + i) * 10 - r.randrange(3000), "k": f"k{r.randrange(5)}",
             "v": r.randrange(100)} for i in range(count)]


def send(s, some, size=100):
    for at in range(0, len(some), size):
        answer = s.post("/v1/streams/s/events", "\n".join(map(json.dumps, some[at:at + size])))
        assert answer.status == 200, answer


def place(row, rule):
    return row["window_start"], json.dumps(row["key"]), row["pane"] if rule == "parts" else None


def apply(panes, rule):
    """What a client does with panes: upsert by revision; a retraction removes what it takes back."""
    table = {}
    for _, kind, data in panes:
        if kind == "retraction":
            assert data["retraction"] is True
            assert table.pop(place(data, rule)) == (data["metrics"], data["events"]), data
        else:
            assert "retraction" not in data
            table[place(data, rule)] = (data["metrics"], data["events"])
    return table


def fired(s, rule):
    """The rows that have fired: those in the store, that no later event has changed. All, when behind_all was sent."""
    return {place(row, rule): (row["metrics"], row["events"]) for row in s.rows(rule) if row["key"]["k"] != "last"}


def send_last(s):
    """Closes every window but its own."""
    send(s, [{"id": f"last-{random.random()}", "ts": BASE + 10 ** 7, "k": "last", "v": 0}])


def newest(s):
    """The newest id of the store."""
    stream = Stream(s, path("plain"))
    until("the place", lambda: stream.last)
    stream.close()
    return int(stream.last.split("-")[1])


def wait_fired(s, rule, stream, before=()):
    until(f"all panes of {rule}", lambda: apply([*before, *stream.events], rule) == fired(s, rule))


def check_order(panes):
    ids = [int(i.split("-")[1]) for i, _, _ in panes]
    assert ids == sorted(set(ids)) and len({i.split("-")[0] for i, _, _ in panes}) == 1


def test_every_pane_arrives_once_and_in_order():
    with server(CONFIG) as s:
        streams = {rule: Stream(s, path(rule)) for rule in RULES}
        some = Stream(s, path("plain", "key.k=k1&metrics=n"))
        assert streams["plain"].headers["Content-Type"] == "text/event-stream"
        assert streams["plain"].headers["Cache-Control"] == "no-store"
        for stream in [*streams.values(), some]:
            until("the first place", lambda: stream.last)
        send(s, events(3000, 1))
        send_last(s)
        for rule, stream in streams.items():
            wait_fired(s, rule, stream)
            check_order(stream.events)
        timings = {rule: {d["timing"] for _, _, d in streams[rule].events} for rule in RULES}
        assert timings["plain"] == {"ON_TIME", "LATE"}, timings
        assert timings["parts"] == timings["back"] == {"EARLY", "ON_TIME", "LATE"}, timings
        assert {kind for _, kind, _ in streams["back"].events} == {"pane", "retraction"}
        expected = [(i, {**d, "metrics": {"n": d["metrics"]["n"]}}) for i, _, d in streams["plain"].events
                    if d["key"]["k"] == "k1"]
        until("the filtered ones", lambda: len(some.events) >= len(expected))
        assert [(i, d) for i, _, d in some.events] == expected
        for rule in RULES:  # the same again, from the beginning
            again = Stream(s, path(rule, "from=oldest"))
            until("all again", lambda: len(again.events) >= len(streams[rule].events))
            assert again.events == streams[rule].events
            assert s.metric("millrace_stream_panes_total", rule=rule) >= 2 * len(again.events)
            again.close()
        until("those of before are gone", lambda: s.metric("millrace_streams_open") == 4)
        for stream in [*streams.values(), some]:
            stream.close()
        until("none is open", lambda: s.metric("millrace_streams_open") == 0)


def resume_over(interrupt):
    with server(CONFIG) as s:
        streams = {rule: Stream(s, path(rule)) for rule in RULES}
        for stream in streams.values():
            until("the first place", lambda: stream.last)
        got = {rule: [] for rule in RULES}
        for step in range(4):
            send(s, events(500, 10 + step, first=500 * step))
            until("some", lambda: all(len(st.events) > 5 for st in streams.values()))
            for stream in streams.values() if interrupt is None else ():
                stream.close()
            if interrupt is not None:
                interrupt(s)
                s.start()
            for rule, stream in streams.items():
                stream.thread.join(GIVE_UP_S)
                assert stream.ended
                got[rule] += stream.events
                by = {"last": stream.last} if step % 2 else {}
                query = "" if by else "last_event_id=" + stream.last
                streams[rule] = Stream(s, path(rule, query), **by)
                assert streams[rule].status == 200, streams[rule].problem
            send(s, events(100, 20 + step, first=500 * step + 400))
        send_last(s)
        for rule, stream in streams.items():
            wait_fired(s, rule, stream, got[rule])
            check_order(got[rule] + stream.events)
            stream.close()


def test_resume_after_a_disconnect():
    resume_over(None)


def test_resume_after_a_restart():
    resume_over(lambda s: s.stop())


def test_resume_after_kill():
    resume_over(lambda s: s.kill())


def test_gone():
    with server(CONFIG) as s:
        send(s, events(500, 3))
        until("panes", lambda: newest(s) > 20)
        stream = Stream(s, path("plain", "from=oldest"))
        until("some", lambda: len(stream.events) > 3)
        first, last = stream.events[0][0], stream.last
        stream.close()
        assert s.stop() == 0
        data = s.directory / "data"
        store = next(data.rglob("results.db"))
        with contextlib.closing(sqlite3.connect(store)) as db, db:
            db.execute("DELETE FROM panes WHERE id <= ?", (int(first.split("-")[1]) + 5,))
        s.start()
        for query, headers in ((f"last_event_id={first}", {}), ("", {"Last-Event-ID": first})):
            gone = Stream(s, path("plain", query), headers=headers)
            assert gone.status == 410 and "from=now" in gone.problem["detail"] and gone.problem["title"] == "Gone"
            assert gone.headers["Content-Type"] == "application/problem+json"
        good = Stream(s, path("plain", "last_event_id=" + first), last=last)  # the header is the newer one
        assert good.status == 200
        good.close()
        epoch, number = last.split("-")
        for bad, status in ((f"{int(epoch) - 1}-{number}", 410), (f"{epoch}-{2 ** 64 - 1}", 410),
                            (f"{epoch}-99999999", 410),
                            ("x", 400), (f"{epoch}-", 400), (f"{epoch}-{2 ** 64}", 400), (f"{epoch}-01", 400),
                            (f"{last}-1", 400)):
            answer = Stream(s, path("plain"), last=bad)
            assert answer.status == status, (bad, answer.status)
        for query in ("from=yesterday", "key.nokey=1", "metrics=none", "to=now", "from=now&from=now"):
            assert Stream(s, path("plain", query)).status == 400, query
        assert Stream(s, path("nothing")).status == 404
        assert s.request("HEAD", path("plain")).status == 200
        assert s.stop() == 0
        for file in data.rglob("results.db*"):
            file.unlink()
        s.start()  # the store is made anew: another epoch
        assert Stream(s, path("plain"), last=last).status == 410
        begun = Stream(s, path("plain"))
        until("a place", lambda: begun.last)
        assert begun.last.split("-")[0] != epoch
        begun.close()


def test_slow_clients_hold_up_nobody():
    with server(CONFIG) as s:
        send(s, events(20000, 4), size=2000)
        slow = []
        for _ in range(10):
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect(("127.0.0.1", s.port))
            c.sendall(f"GET {path('back', 'from=oldest')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            slow.append(c)
        until("they are there", lambda: s.metric("millrace_streams_open") == 10)
        quick = Stream(s, path("back", "from=oldest"))
        send(s, events(20000, 5, first=20000), size=2000)
        send_last(s)
        wait_fired(s, "back", quick)
        check_order(quick.events)
        quick.close()
        # Those that take nothing are hung up on; those that had taken all by then end when they go.
        for c in slow:
            c.close()
        until("they are gone", lambda: s.metric("millrace_streams_open") == 0)


def test_one_too_many():
    with server(CONFIG) as s:
        limit = s.get("/v1/limits").json["event_streams"]
        assert limit == 100
        open_ = [Stream(s, path("plain")) for _ in range(limit)]
        assert all(stream.status == 200 for stream in open_)
        over = Stream(s, path("plain"))
        assert over.status == 503 and int(over.headers["Retry-After"]) > 0 and "100" in over.problem["detail"]
        assert s.get("/v1/rules/plain/windows").status == 200
        open_.pop().close()
        until("room", lambda: s.metric("millrace_streams_open") == limit - 1)
        open_.append(Stream(s, path("plain")))
        assert open_[-1].status == 200
        began = time.monotonic()
        assert s.stop() == 0  # with all of them open
        assert time.monotonic() - began < 20
        for stream in open_:
            stream.thread.join(GIVE_UP_S)
            assert stream.ended


def test_shutdown_with_a_client_who_does_not_read():
    with server(CONFIG) as s:
        send(s, events(20000, 6), size=2000)
        send_last(s)
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect(("127.0.0.1", s.port))
        c.sendall(f"GET {path('back', 'from=oldest')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        until("it is there", lambda: s.metric("millrace_streams_open") == 1)
        assert s.stop() == 0
        c.close()


def test_keep_alive_says_where_the_stream_stands():
    with server(CONFIG) as s:
        stream = Stream(s, path("plain", "key.k=nobody"))
        until("a place", lambda: stream.last)
        send(s, events(500, 7))
        until("panes", lambda: newest(s) > 20)
        until("a keep-alive", lambda: stream.comments)
        until("its place", lambda: int(stream.last.split("-")[1]) > 20)
        assert stream.events == []
        stream.close()


def test_rights():
    sha = lambda text: hashlib.sha256(text.encode()).hexdigest()
    config = CONFIG.replace("rules:", "  t: { id: id, time: { field: ts, format: ms } }\nrules:\n  both: { "
                            "from: [s, t], window: { size: 1s }, metrics: { n: count } }", 1) + f"""
auth:
  tokens:
    one: {{ sha256: {sha("one")}, streams: [s], allow: [query] }}
    all: {{ sha256: {sha("all")}, allow: [query] }}
    in: {{ sha256: {sha("in")}, allow: [ingest] }}
"""
    with server(config) as s:
        for rule, token, status in (("plain", None, 401), ("plain", "x", 401), ("plain", "in", 403),
                                    ("plain", "one", 200), ("both", "one", 403), ("both", "all", 200)):
            headers = {"Authorization": "Bearer " + token} if token else {}
            stream = Stream(s, path(rule), headers=headers)
            assert stream.status == status, (rule, token, stream.status)
            if status == 200:
                stream.close()


if __name__ == "__main__":
    run(globals())
