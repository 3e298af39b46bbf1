# SPDX-License-Identifier: Apache-2.0
"""
Hostile input: smuggling, slow clients, floods, thousands of mutations. The server answers or closes, never hangs,
never reads a request twice, and goes on. Run under ASan as well.
"""
import concurrent.futures
import contextlib
import http.client
import random
import re
import socket
import time

from harness import GIVE_UP_S, run, server, until

PATIENT = "header_timeout: 10m, body_timeout: 10m, idle_timeout: 10m"  # nobody is cut off whom a busy machine delays
CONFIG = f"""
http: {{ listen: 127.0.0.1:0, {PATIENT}, connections: 60 }}
""" + """
node: { data_dir: "@DIR@/data", shards: 2 }
limits: { body: 1MiB, inflated: 2MiB, event: 64KiB, in_flight: 4MiB }
log: { segment: 64MiB }
streams:
  s: { id: id, time: { field: time, format: ms }, dedup: { mode: exact, horizon: 1h, ids: 100000 } }
rules:
  r: { from: s, group_by: [key], window: { type: tumbling, size: 1m }, metrics: { n: count, total: { sum: value } } }
"""

CUTS_BODIES = CONFIG.replace("body_timeout: 10m", "body_timeout: 2s")
IMPATIENT = CONFIG.replace(PATIENT, "header_timeout: 1s, body_timeout: 2s, idle_timeout: 2s")

E = "/v1/streams/s/events"
GOOD = b'{"id":"g"}'


def head(*lines, method=b"POST", path=E.encode(), version=b"HTTP/1.1"):
    return b"\r\n".join([method + b" " + path + b" " + version, *lines, b"", b""])


def statuses(data):
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def alive(s):
    answer = s.post(E, GOOD)
    assert answer.status == 200 and answer.json["received"] == 1, answer


def alive_again(s):
    """Alive, though it may have cut us off as well, or had no room for us."""
    def served():
        try:
            alive(s)
            return True
        except (OSError, http.client.HTTPException):
            return False
    until("it serves", served)


SMUGGLING = [
    (b"Host: x", b"Content-Length: 10", b"Content-Length: 10"),
    (b"Host: x", b"Content-Length: 10", b"Content-Length: 11"),
    (b"Host: x", b"Content-Length: 10", b"Transfer-Encoding: chunked"),
    (b"Host: x", b"Transfer-Encoding: chunked", b"Content-Length: 3"),
    (b"Host: x", b"Transfer-Encoding: chunked, identity"),
    (b"Host: x", b"Transfer-Encoding: xchunked"),
    (b"Host: x", b"Transfer-Encoding : chunked"),
    (b"Host: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    (b"Host: x", b"Content-Length: +10"),
    (b"Host: x", b"Content-Length: 0x10"),
    (b"Host: x", b"Content-Length: -1"),
    (b"Host: x", b"Content-Length: 10 10"),
    (b"Host: x", b"Content-Length: 99999999999999999999999"),
    (b"Host: x", b"Host: y", b"Content-Length: 10"),
    (b"Content-Length: 10",),
    (b"Host: x", b"Bad Name: 1", b"Content-Length: 10"),
    (b"Host: x", b"Bad\x01: 1", b"Content-Length: 10"),
]


def test_smuggling_is_refused_and_closed():
    with server(CONFIG) as s:
        for lines in SMUGGLING:
            before = s.metric("millrace_events_received_total", stream="s")
            got = s.raw(head(*lines) + GOOD + head(b"Host: x", b"Content-Length: 10") + GOOD)
            codes = statuses(got)
            # (libmicrohttpd says its own 400 for a malformed length twice, then closes.)
            assert set(codes) <= {400, 413, 501}, (lines, got[:200])
            assert s.metric("millrace_events_received_total", stream="s") == before, lines
        alive(s)


def test_paths():
    with server(CONFIG) as s:
        for path in (b"/v1/../v1/events", b"/v1/%2e%2e/v1/events", b"/v1//events", b"/v1/streams/s%00/events",
                     b"/v1/streams/%zz/events", b"/v1/streams/\xff/events"):
            codes = statuses(s.raw(head(b"Host: x", b"Content-Length: 10", path=path) + GOOD))
            assert not codes or codes[0] in (400, 404), path
        assert statuses(s.raw(head(b"Host: x", b"Connection: close", method=b"BREW", path=b"/")))[:1] in \
            ([], [400], [405], [501])
        assert statuses(s.raw(head(b"Host: x", path=b"/" + b"a" * 60000)))[:1] in ([], [400], [414], [431])
        alive(s)


def test_a_page_of_another_site_is_no_administrator():
    """A browser on this machine reaches a loopback address for any page that it shows."""
    with server(CONFIG) as s:
        here = f"127.0.0.1:{s.port}".encode()
        ask = lambda *lines: statuses(s.raw(head(*lines, b"Content-Length: 0", b"Connection: close", path=b"/v1/checkpoint")))
        for lines in ((b"Host: " + here, b"Origin: http://page.example"), (b"Host: " + here, b"Origin: null"),
                      (b"Host: page.example",), (b"Host: page.example", b"Origin: http://page.example")):
            assert ask(*lines) == [403], lines
        assert ask(b"Host: " + here, b"Origin: http://" + here) == [200]
        assert ask(b"Host: " + here) == [200]
        alive(s)


def closes(s, *pieces, pause=0.0):
    """Sends pieces with pauses; true when the server closes the connection by itself."""
    with socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S) as c:
        try:
            for piece in pieces:
                c.sendall(piece)
                time.sleep(pause)
            while c.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        return True


def test_slow_clients_are_cut_off():
    with server(IMPATIENT) as s:
        assert closes(s, b"POST ")
        assert closes(s, *[bytes([b]) for b in b"POST /v1/events HTTP/1.1\r\n"], pause=0.1)
        assert closes(s, head(b"Host: x", b"Content-Length: 100"), *[b" "] * 40, pause=0.1)
        assert closes(s, head(b"Host: x", method=b"GET", path=b"/livez"))  # idle behind an answer
        alive_again(s)


def test_a_body_cut_short_leaves_nothing_behind():
    with server(CUTS_BODIES) as s:
        before = s.metric("millrace_events_received_total", stream="s")
        s.raw(head(b"Host: x", b"Content-Length: 500") + b'{"id":"cut1"}\n{"id":"cut2"}\n')
        s.raw(head(b"Host: x", b"Transfer-Encoding: chunked") + b'10\r\n{"id":"cut3"}   \r\n')
        assert s.metric("millrace_events_received_total", stream="s") == before
        assert s.post(E, '{"id":"cut1"}\n{"id":"cut3"}').json["accepted"] == 2


def test_in_flight_bound_gives_503_and_stays_alive():
    """Of 4 MiB. What was sent counts when the server has it, so each step waits for that, not for a time."""
    with server(CONFIG) as s, contextlib.ExitStack() as opened:
        in_flight = lambda: s.metric("millrace_queue_bytes", queue="in_flight")

        def announce(length):
            c = opened.enter_context(socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S))
            c.sendall(head(b"Host: x", b"Content-Length: %d" % length, b"Expect: 100-continue"))
            return c, c.recv(4096)

        def admitted(length):
            c, answer = announce(length)
            assert answer.startswith(b"HTTP/1.1 100 "), answer
            return c

        def arrives(c, count):
            total = in_flight() + count
            c.sendall(b" " * count)
            until("it is in the server", lambda: in_flight() == total)

        for _ in range(4):
            arrives(admitted(1000000), 900000)
        _, answer = announce(1000000)  # 3.6 and 1 MB
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After:" in answer, answer
        two = [admitted(500000) for _ in range(2)]  # there is room for each of them
        arrives(two[0], 499999)
        two[1].sendall(b" " * 500000)  # but not for both
        answer = two[1].recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After:" in answer, answer
        assert in_flight() == 4 * 900000 + 499999
        opened.close()
        until("all of it is given back", lambda: in_flight() == 0)
        alive(s)


def test_connection_limit():
    """Those above it wait until there is room."""
    with server(CONFIG) as s, contextlib.ExitStack() as opened:
        own = s.connect()

        def connected():
            metrics = s.get("/metrics", connection=own).body.decode()
            return int(re.search(r"(?m)^millrace_http_connections (\d+)$", metrics).group(1))

        assert connected() == 1
        for _ in range(80):
            opened.enter_context(socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S))
        until("it is full", lambda: connected() >= 60)
        assert connected() == 60
        opened.close()
        alive_again(s)


def mutate(r, data):
    data = bytearray(data)
    for _ in range(r.randrange(1, 4)):
        where = r.randrange(len(data))
        what = r.randrange(6)
        if what == 0:
            data[where] = r.randrange(256)
        elif what == 1:
            del data[where]
        elif what == 2:
            data.insert(where, r.randrange(256))
        elif what == 3:
            data[where:where] = data[where:where + r.randrange(1, 30)]
        elif what == 4:
            data[where:where + r.randrange(1, 30)] = b""
        else:
            data[where] ^= 1 << r.randrange(8)
        if not data:
            return b" "
    return bytes(data)


def test_mutated_requests():
    r = random.Random(1)
    body = b'{"id":"m1","time":1700000000000,"key":"\\u00e9\xc3\xa9","value":-1.5e3}\n{"id":"m2","x":[1,{"y":null}]}\n'
    request = head(b"Host: localhost", b"Content-Type: application/x-ndjson", b"Content-Length: %d" % len(body)) + body
    hostile = [mutate(r, request) for _ in range(1500)]
    with server(IMPATIENT) as s:
        # Side by side: one whose body never comes holds its connection until its deadline.
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            list(pool.map(s.raw, hostile))
        alive_again(s)


def test_mutated_bodies():
    r = random.Random(2)
    bodies = [b'{"id":"m1","time":1700000000000,"key":"\\u00e9\xc3\xa9","value":-1.5e3,"o":{"a":[1,2,{}]}}\n{"id":"m2"}\n',
              b'[{"id":1,"time":"2026-01-01T00:00:00.5+02:00"},{"id":"2","value":12345678901234567890}]',
              b'{"id":"x","key":true,"value":null,"deep":[[[[[[[[[[]]]]]]]]]]}']
    with server(CONFIG) as s:
        connection = s.connect()
        for i in range(3000):
            answer = s.post(E + "?return=results", mutate(r, bodies[i % 3]), "application/json", connection=connection)
            assert answer.status in (200, 400, 413), answer
            if answer.status == 200:
                a = answer.json
                assert a["received"] == a["accepted"] + a["duplicate"] + a["late"] + a["rejected"] == len(a["results"])
        alive(s)


def test_a_flood_of_keys_meets_its_bound():
    config = CONFIG.replace("metrics: {", "groups: { max: 1000, when_full: other }, metrics: {")
    with server(config) as s:
        for batch in range(10):
            lines = "\n".join(f'{{"id":"{batch}-{i}","key":"k{batch}-{i}","time":{1700000000000 + i}}}'
                              for i in range(1000))
            assert s.post(E, lines).json["accepted"] == 1000
        rows = s.rows("r", state="all")
        other = [row for row in rows if row["key"]["key"] == "(other)"]
        assert sum(row["events"] for row in rows) == 10000
        assert len(other) == 1 and other[0]["events"] >= 8000, other
        assert s.metric("millrace_groups", rule="r") <= 1010


if __name__ == "__main__":
    run(globals())
