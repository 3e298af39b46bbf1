# SPDX-License-Identifier: Apache-2.0
"""
Operating millrace: what an operator sees and does, against the real program.

Proves: TLS and tokens; what is refused at a start and how it is said (file:line:column, exit codes); that a stop in
the middle of posting loses nothing that was answered, and that draining is seen; every metric of the API; pipelining,
HTTP/1.0 and HEAD. What becomes of data is in test_data.py.
"""
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import warnings

from harness import GIVE_UP_S, MILLRACE, Answer, Server, check_ledger, run, server, until

SMALL = """
limits: { body: 1MiB, inflated: 2MiB, event: 64KiB, in_flight: 16MiB }
log: { segment: 4MiB }
"""
STREAM = "s: { id: id, time: { field: t, format: ms }, dedup: { ids: 100000 }, watermark: " \
         "{ out_of_orderness: 0s, idle_timeout: off } }"
CONFIG = SMALL + f"""
streams:
  {STREAM}
rules:
  r: {{ from: s, group_by: [k], window: {{ type: tumbling, size: 1s }}, allowed_lateness: 1m,
       metrics: {{ n: count, v: {{ sum: v }} }} }}
"""
E = "/v1/streams/s/events"
BASE = 1700000000000


def millrace(*arguments, stdin=b"", cwd=None, environment=None):
    done = subprocess.run([MILLRACE, *map(str, arguments)], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=GIVE_UP_S, cwd=cwd, env=environment)
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


@contextlib.contextmanager
def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="millrace-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def refused(s, code, *words):
    """The server does not start, ends with the code, and says the words."""
    before = len(s.stderr()) if (s.directory / "stderr.txt").exists() else 0
    s.start(expect_failure=True)
    said = s.stderr()[before:]
    assert s.process.poll() == code, (s.process.poll(), said)
    for word in words:
        assert word in said, (word, said)
    return said


def events(*some):
    return "\n".join(json.dumps(e) for e in some)


def accepted(answer, count):
    assert answer.status == 200 and answer.json["accepted"] == count, answer


# ---- TLS, tokens, listening ----

def certificate(path, name="server", arguments=()):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", path / f"{name}.key", "-out",
                    path / f"{name}.pem", *arguments], check=True, stderr=subprocess.DEVNULL)


def tls_config(path, cert="server.pem", key="server.key"):
    return CONFIG + f"http: {{ listen: 127.0.0.1:0, tls: {{ cert_file: {path}/{cert}, key_file: {path}/{key} }} }}\n"


def test_tls():
    with directory() as path:
        certificate(path)
        with server(tls_config(path)) as s:
            assert "url=https://" in s.stderr()
            trust = ssl.create_default_context(cafile=path / "server.pem")
            connection = http.client.HTTPSConnection("127.0.0.1", s.port, context=trust, timeout=GIVE_UP_S)
            for i in range(20):  # several requests in one session
                accepted(s.post(E, events({"id": str(i), "t": BASE}), connection=connection), 1)
            body = "\n".join(json.dumps({"id": f"b{i}", "t": BASE, "pad": "x" * 100}) for i in range(5000))
            accepted(s.post(E, body, connection=connection), 5000)  # many TLS records
            answer = s.get("/v1/rules/r/windows", connection=connection)
            assert sum(r["events"] for r in answer.json["rows"]) == 5020
            assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
            for version in ("TLSv1", "TLSv1_1", "TLSv1_2"):  # the last one shows that it is the version
                old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
                old.set_ciphers("ALL:@SECLEVEL=0")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    old.minimum_version = old.maximum_version = ssl.TLSVersion[version]
                let_in = True
                try:
                    with socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S) as plain:
                        old.wrap_socket(plain).close()
                except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
                    let_in = False
                assert let_in == (version == "TLSv1_2"), version
            assert b"200" not in s.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")  # plain text on the TLS port
            assert s.get("/livez", connection=connection).status == 200
            connection.close()
            assert s.stop() == 0


def test_bad_certificates_are_said():
    with directory() as path:
        certificate(path)
        certificate(path, "other")
        (path / "text.pem").write_text("not a certificate\n")
        (path / "empty.pem").write_text("")
        for cert, key, word in (("none.pem", "server.key", "none.pem"), ("server.pem", "none.key", "none.key"),
                                ("text.pem", "server.key", "certificate"), ("empty.pem", "server.key", "empty.pem"),
                                ("server.pem", "text.pem", "certificate"), ("server.pem", "other.key", "certificate")):
            s = Server(tls_config(path, cert, key))
            try:
                refused(s, 78, word)
            finally:
                s.close()


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_tokens():
    with directory() as path:
        (path / "web").write_text(sha("from-a-file") + "\n")
        config = SMALL + f"""
streams:
  {STREAM}
  {STREAM.replace("s:", "other:", 1)}
auth:
  tokens:
    in: {{ sha256: {sha("ingester")}, streams: [s], allow: [ingest] }}
    out: {{ sha256: {sha("reader")}, streams: [s], allow: [query] }}
    boss: {{ sha256: {sha("boss")}, allow: [admin] }}
    file: {{ sha256_file: {path}/web, allow: [ingest, query] }}
"""
        with server(config) as s:
            as_ = lambda token: {"Authorization": "Bearer " + token}
            event = events({"id": "1", "t": BASE})
            for headers in ({}, as_("nobody"), as_(sha("ingester")), {"Authorization": "Basic aW5nZXN0ZXI="},
                            {"Authorization": "Bearer"}, as_("ingester x"), as_("")):
                for answer in (s.post(E, event, headers=headers), s.get("/metrics", headers=headers),
                               s.get("/v1/streams/s", headers=headers)):
                    assert answer.status == 401, (headers, answer)
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer"), answer.headers
                    assert answer.headers["Content-Type"] == "application/problem+json"
            table = [  # method, path, then the tokens that may
                ("POST", E, "ingester from-a-file"),
                ("POST", "/v1/streams/other/events", "from-a-file"),
                ("GET", "/v1/streams/s", "reader from-a-file"),
                ("GET", "/v1/streams/other", "from-a-file"),
                ("GET", "/metrics", "reader from-a-file"),
                ("GET", "/v1/dead-letters", "reader from-a-file"),
                ("DELETE", "/v1/dead-letters", "boss"),
                ("POST", "/v1/checkpoint", "boss"),
                ("GET", "/v1/limits", "ingester reader boss from-a-file"),
                ("GET", "/v1/version", "ingester reader boss from-a-file"),
            ]
            for method, path_, may in table:
                for token in ("ingester", "reader", "boss", "from-a-file"):
                    body = event if path_.endswith("/events") else None
                    status = s.request(method, path_, body=body, headers=as_(token)).status
                    if token in may.split():
                        assert status in (200, 501), (method, path_, token, status)
                    else:
                        assert status == 403, (method, path_, token, status)
            for open_ in ("/livez", "/readyz", "/openapi.yaml"):
                assert s.get(open_).status == 200
            assert s.post(E, event, headers={"Authorization": "bearer   ingester"}).status == 200  # RFC 9110: no case
            everything = (s.get("/metrics", headers=as_("from-a-file")).body.decode() + s.stderr() +
                          s.get("/v1/streams", headers=as_("from-a-file")).body.decode())
            for secret in ("ingester", "reader", "boss", "from-a-file"):
                assert sha(secret) not in everything and f'"{secret}"' not in everything


def test_beyond_loopback_needs_tokens_and_tls():
    with directory() as path:
        certificate(path)
        tls = f"tls: {{ cert_file: {path}/server.pem, key_file: {path}/server.key }}"
        auth = f"auth: {{ tokens: {{ a: {{ sha256: {sha('a')}, allow: [ingest, query] }} }} }}\n"
        for host in ("0.0.0.0:0", '"[::]:0"'):
            for http_, tokens, lacks in (("", "", "auth.tokens"), (tls, "", "auth.tokens"), ("", auth, "http.tls")):
                comma = ", " if http_ else ""
                s = Server(CONFIG + tokens + f"http: {{ listen: {host}{comma}{http_} }}\n")
                try:
                    said = refused(s, 78, lacks, "allow_insecure", "config.yaml:")
                    assert re.search(r"config\.yaml:\d+:\d+: ", said), said
                finally:
                    s.close()
        for more in ("allow_insecure: true", tls):
            with server(CONFIG + (auth if more == tls else "") + f"http: {{ listen: 0.0.0.0:0, {more} }}\n") as s:
                assert s.stop() == 0


# ---- check, help, usage ----

BAD = [  # what is written, where, and what is said
    ("streems: {}\n", "1:1", "did you mean `streams`"),
    ("http: { listen: 127.0.0.1:0, thread: 2 }\n", "1:30", "did you mean `threads`"),
    ("sinks: { l: { type: kafka } }\n", "1:21", "not in this version"),
    ("results: { retain: 30d }\n", "1:1", "not in this version"),
    ("streams:\n  s: { id: id, time: t, dedup: { mode: redis } }\n", "2:25", "lacks `store`"),
    ("streams:\n  s: { id: id, time: t, dedup: { mode: exat } }\n", "2:40", "did you mean `exact`"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: x, window: { size: 1s }, metrics: { n: count } }\n",
     "4:14", "x"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: s, window: { type: session }, metrics: { n: count } }\n",
     "4:17", "`window` lacks `gap`"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: s, window: { size: 1s }, metrics: { n: cuont } }\n",
     "4:53", "did you mean `count`"),
    ("streams:\n  s: { id: id, time: t }\n"
     "rules:\n  r: { from: s, where: '', window: { size: 1s }, metrics: { n: count } }\n",
     "4:24", "an expression"),
    ("streams:\n  s: { id: id }\n", "2:3", "time"),
    ("limits: { body: 10 potatoes }\n", "1:17", "size"),
    ("limits: { body: 64MiB, inflated: 1MiB }\n", "1:34", "inflated"),
    ("node: { shards: 0 }\n", "1:17", "shards"),
    ("node: { shards: 1, shards: 2 }\n", "1:20", "shards"),
    ("node: { data_dir: \"${MILLRACE_TEST_UNSET:?say where}\" }\n", "1:19", "say where"),
    ("node: [\n", "", ""),
    ("a: b: c\n", "1:", ""),
    ("node: { data_dir: *nothing }\n", "1:", ""),
    ("- 1\n", "1:1", "expected sections"),
    ("auth: { tokens: { a: { sha256: hunter2, allow: [ingest] } } }\n", "1:32", "64 hexadecimal digits"),
    ("auth: { tokens: { a: { allow: [ingest] } } }\n", "1:19", "sha256_file"),
]


def test_check_says_where_and_what():
    with directory() as path:
        file = path / "bad.yaml"
        for text, place, what in BAD:
            file.write_text(text)
            done = millrace("check", "-c", file)
            assert done.returncode == 78, (text, done.returncode, done.err)
            assert f"{file}:{place}" in done.err and what in done.err, (text, place, what, done.err)
            assert re.search(r":\d+:\d+: ", done.err), (text, done.err)
            assert done.out == "" and "hunter2" not in done.err, (text, done)
        file.write_bytes(b"node: { id: \xff\xfe }\n")
        assert millrace("check", "-c", file).returncode == 78
        assert millrace("serve", "-c", file).returncode == 78
        done = millrace("check", "-c", path / "missing.yaml")
        assert done.returncode == 78 and "missing.yaml" in done.err, done.err
        done = millrace("check", "-c", path)
        assert done.returncode == 78, done.err
        file.write_text("limits: { memory: 16MiB, in_flight: 4MiB, body: 1MiB, inflated: 2MiB }\n")
        done = millrace("check", "-c", file)
        assert done.returncode == 78 and "limits.memory" in done.err and "dedup" in done.err, done.err


def test_the_effective_file_is_a_file():
    with directory() as path:
        (path / "hash").write_text(sha("x"))
        certificate(path)
        full = CONFIG + f"""
node: {{ id: n2, data_dir: "${{MILLRACE_TEST_DIR:-{path}/with space}}", shards: 2 }}
http: {{ listen: "[::1]:0", tls: {{ cert_file: {path}/server.pem, key_file: {path}/server.key }} }}
auth: {{ tokens: {{ a: {{ sha256: {sha("y")}, streams: [s], allow: [ingest] }},
                  b: {{ sha256_file: {path}/hash, allow: [admin, query] }} }} }}
"""
        root = pathlib.Path(__file__).resolve().parents[2]  # lookups of examples are named from there
        examples = root / "config/examples"
        texts = ["", full] + [file.read_text() for file in sorted(examples.glob("*.yaml"))]
        assert len(texts) > 3
        for text in texts:
            file = path / "c.yaml"
            file.write_text(text)
            first = millrace("check", "-c", file, cwd=root)
            assert first.returncode == 0 and "note:" not in first.err and "is fine" in first.err and "MiB  in all" in first.err, (text, first.err)
            file.write_text(first.out.replace("(set)", "0123456789abcdef"))  # secrets are not printed
            second = millrace("check", "-c", file, cwd=root)
            assert second.returncode == 0, (first.out, second.err)
            assert second.out == first.out
            assert millrace("check", file, cwd=root).out == first.out
        assert millrace("check", cwd=path).returncode == 0  # the defaults
        file.write_text("streams: { s: { id: i, time: t } }\nrules: { r: { from: s, group_by: lower(x), window: "
                        "{ size: 1m }, metrics: { a: { sum: price * 2 }, b: { sum: unit-price } } } }\n")
        done = millrace("check", file)  # an expression where a field's name is expected
        assert done.returncode == 0 and done.err.count("note:") == 2, done.err
        assert "takes `lower(x)` as the name" in done.err and "takes `price * 2` as the name" in done.err, done.err
        file.write_text('node: { data_dir: "${MILLRACE_TEST_DIR}/data" }\n')
        done = millrace("check", "-c", file, environment=dict(os.environ, MILLRACE_TEST_DIR="/some/where"))
        assert done.returncode == 0 and "/some/where/data" in done.out, done.err


def test_usage():
    for arguments in (["serv"], ["check", "one", "two"], ["check", "one", "-c", "two"], ["serve", "--nope"], ["-c"],
                      ["log"], ["log", "list"],
                      ["log", "show", "x"], ["log", "list", "x", "y"], ["run", "--rule"], ["replay"],
                      ["replay", "-c", "x"], ["replay", "compare"],
                      ["log", "repair", "x", "y"], ["help", "nonsense"]):
        done = millrace(*arguments)
        assert done.returncode == 2, (arguments, done.returncode, done.err)
        assert done.err and done.out == "", (arguments, done)
    assert "usage: millrace replay" in millrace("replay", "-c", "x").err
    for arguments in (["--help"], ["-h"], ["help"], ["serve", "--help"], ["run", "-h"]):
        done = millrace(*arguments)
        assert done.returncode == 0 and "usage:" in done.out and done.err == "", (arguments, done)
    version = json.loads(millrace("version", "--json").out)["version"]
    assert millrace("version").out == f"millrace {version}\n" == millrace("--version").out
    for more in ([], ["markdown"]):
        done = millrace("help", "config", *more)
        assert done.returncode == 0
        for key in ("data_dir", "allowed_lateness", "idle_timeout", "when_full", "sha256_file", "cert_file"):
            assert key in done.out, key
    with directory() as path, open("/dev/full", "wb") as full:  # what cannot be written is not fine
        for arguments in (["help", "config"], ["--help"], ["version"], ["check"]):
            done = subprocess.run([MILLRACE, *arguments], stdout=full, stderr=subprocess.PIPE, cwd=path)
            assert done.returncode == 1 and b"cannot write" in done.stderr, (arguments, done)


# ---- stopping ----

def test_stopping_while_clients_post():
    with server(CONFIG.replace("limits:", "node: { data_dir: \"@DIR@/data\", shards: 2 }\nlimits:")) as s:
        answered, unanswered, stopping = [], [], threading.Event()

        def client(number):
            connection, i = s.connect(), 0
            while True:
                ids = [f"{number}-{i}-{k}" for k in range(50)]
                i += 1
                try:
                    answer = s.post(E, events(*({"id": x, "t": BASE, "k": number, "v": 1} for x in ids)),
                                    connection=connection)
                except (OSError, http.client.HTTPException):
                    unanswered.append(ids)
                    return
                (answered if answer.status == 200 else unanswered).append(ids)
                if answer.status != 200:
                    assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1, answer
                    return

        threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        until("some answers", lambda: len(answered) > 60)
        assert s.stop() == 0
        for t in threads:
            t.join()
        assert "event=stopped" in s.stderr() and len(answered) > 60
        s.start()
        assert s.get("/readyz").json["status"] == "ready"
        for ids in answered:
            answer = s.post(E, events(*({"id": x, "t": BASE, "k": 0, "v": 1} for x in ids)))
            assert answer.status == 200 and answer.json["duplicate"] == 50, answer
        for ids in unanswered:  # what a client does
            answer = s.post(E, events(*({"id": x, "t": BASE, "k": int(x[0]), "v": 1} for x in ids)))
            assert answer.json["duplicate"] in (0, 50) and answer.json["accepted"] in (0, 50), answer
        rows = s.rows("r")
        assert sum(r["events"] for r in rows) == 50 * (len(answered) + len(unanswered))
        assert all(r["metrics"]["v"] == r["events"] for r in rows)
        check_ledger(s, "s")


def test_draining_answers_what_is_under_way():
    with server(CONFIG) as s:
        body = events({"id": "slow", "t": BASE, "k": "a"}).encode()
        keep, other = s.connect(), s.connect()
        for connection in (keep, other):
            assert s.get("/readyz", connection=connection).status == 200
        with socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S) as slow:
            slow.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (E.encode(), len(body)))
            slow.sendall(body[:9])
            until("the request is under way",
                  lambda: s.metric("millrace_queue_bytes", queue="in_flight") > 0)
            s.process.terminate()

            def draining():
                answer = s.get("/readyz", connection=keep)
                return answer if answer.status == 503 else None
            answer = until("readyz says so", draining)
            assert answer.json["reason"] == "draining", answer
            assert s.get("/livez", connection=other).status == 200

            def refused():
                try:
                    socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S).close()
                    return False
                except (ConnectionRefusedError, ConnectionResetError):
                    return True
            until("new connections are refused", refused)  # readyz says so a moment earlier
            assert s.process.poll() is None
            slow.sendall(body[9:])
            assert b" 200 OK" in slow.recv(65536)
        assert s.process.wait(GIVE_UP_S) == 0
        s.start()
        assert [r["events"] for r in s.rows("r")] == [1]


# ---- metrics ----

# The API's names, without those of later versions: checkpoint_*, sink_*.
METRICS = """events_received_total:counter events_total:counter rule_events_total:counter dedup_ids:gauge
    dedup_bytes:gauge watermark_timestamp_seconds:gauge system_lag_seconds:gauge data_freshness_seconds:gauge
    windows_open:gauge groups:gauge log_sync_duration_seconds:histogram log_bytes:gauge http_requests_total:counter
    http_request_duration_seconds:histogram duplicate_age_seconds:histogram queue_bytes:gauge build_info:gauge""".split()


def test_metrics():
    with server(CONFIG) as s:
        accepted(s.post(E, events({"id": "1", "t": BASE, "k": "a", "v": 1})), 1)
        syncs = s.metric("millrace_log_sync_duration_seconds_count")
        size = s.metric("millrace_log_bytes")
        for i in range(10):
            accepted(s.post(E, events({"id": f"m{i}", "t": BASE, "k": "a", "v": 1})), 1)
        assert s.metric("millrace_log_sync_duration_seconds_count") >= syncs + 10
        assert s.metric("millrace_log_bytes") > size
        answer = s.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.body.decode()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.M)
        assert len(helps) == len(dict(helps)) == len(kinds)
        for entry in METRICS:
            name, kind = entry.split(":")
            assert kinds.get("millrace_" + name) == kind, (name, kinds.get("millrace_" + name))
            assert re.search(rf"^millrace_{name}(_count)?[ {{]", text, re.M), name
        for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
                     "process_start_time_seconds"):
            until(f"{name} is above 0", lambda: s.metric(name) > 0)  # CPU is counted in ticks: the first are to come
        label = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
        for line in text.splitlines():
            assert line.startswith("# ") or re.fullmatch(
                rf"[a-z_0-9]+(?:\{{{label}(?:,{label})*\}})? (?:[-+0-9.e]+|NaN|[+-]Inf)", line), line
            name = re.match(r"(?:# \w+ )?(\w+)", line).group(1)
            assert name in kinds or re.sub(r"_(bucket|sum|count)$", "", name) in kinds, line
        buckets = re.findall(r'^millrace_log_sync_duration_seconds_bucket\{le="(.+)"\} (\d+)$', text, re.M)
        counts = [int(n) for _, n in buckets]
        assert counts == sorted(counts) and buckets[-1][0] == "+Inf"
        assert counts[-1] == s.metric("millrace_log_sync_duration_seconds_count")
        assert s.metric("millrace_watermark_timestamp_seconds", stream="s") == BASE / 1000
        s.get("/v1/rules/" + "a" * 50 + "/windows")  # what clients send makes no series
        s.get("/" + "b" * 50)
        after = s.get("/metrics").body.decode()
        assert "aaaa" not in after and "bbbb" not in after
        assert s.metric("millrace_http_requests_total", route="(none)", code="4xx") == 1
        check_ledger(s, "s")


# ---- HTTP ----

def answers(data):
    """The answers in a stream of bytes, by their Content-Length."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        found.append(Answer(status, head, data[:length]))
        data = data[length:]
    return found


def test_pipelining():
    with server(CONFIG) as s:
        sent = b""
        for i in range(100):
            body = events({"id": str(i), "t": BASE, "k": "a", "v": 1}).encode()
            last = b"Connection: close\r\n" if i == 99 else b""
            sent += b"POST %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: n%d\r\n%sContent-Length: %d\r\n\r\n%s" % (
                E.encode(), i, last, len(body), body)
        got = answers(s.raw(sent))
        assert [a.status for a in got] == [200] * 100, got
        for i, answer in enumerate(got):
            assert answer.json["accepted"] == 1 and b"n%d\r\n" % i in answer.headers + b"\r\n", (i, answer.headers)
        connection = s.connect()
        for i in range(100):
            assert s.get("/livez" if i % 2 else "/v1/rules/r/windows", connection=connection).status == 200
        connection.close()
        assert sum(r["events"] for r in s.rows("r")) == 100


def test_http_1_0_and_head():
    with server(CONFIG) as s:
        body = events({"id": "1", "t": BASE, "k": "a", "v": 1}).encode()
        for more in (b"", b"Host: x\r\n", b"Connection: keep-alive\r\n"):
            with socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S) as c:
                c.sendall(b"POST %s HTTP/1.0\r\n%sContent-Length: %d\r\n\r\n%s" % (E.encode(), more, len(body), body))
                data = c.recv(65536)
                assert b" 200 " in data.split(b"\r\n")[0] and b"chunked" not in data.lower(), data
                if b"keep-alive" not in more:
                    while c.recv(65536):  # the server closes
                        pass
        paths = ("/livez", "/readyz", "/metrics", "/v1/streams", "/v1/rules/r/windows", "/v1/limits", "/openapi.yaml",
                 "/", "/v1/dead-letters", "/v1/streams/s/events/1", "/v1/nothing", "/v1/rules/none")
        connection = s.connect()
        for path in paths:
            get, head = s.get(path, connection=connection), s.request("HEAD", path, connection=connection)
            assert (head.status, head.body) == (get.status, b""), path
            assert head.headers["Content-Type"] == get.headers["Content-Type"], path
            if path != "/metrics":
                assert head.headers["Content-Length"] == str(len(get.body)), path
        answer = s.request("HEAD", E)
        assert answer.status == 405 and answer.headers["Allow"] == "POST" and answer.body == b""


if __name__ == "__main__":
    run(globals())
