# SPDX-License-Identifier: Apache-2.0
"""
Operating millrace: what an operator sees and does, against the real program.

Proves, by doing each with a data directory of its own: TLS and tokens; what is refused at a start and how it is said
(file:line:column, exit codes); that a stop in the middle of posting loses nothing that was answered; what a changed,
shared or damaged data directory does; the log's tools; every metric of the API; how time closes windows and where
events that are not counted end; bounded runs; and HTTP's corners.
"""
import collections
import contextlib
import csv
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time

from harness import GIVE_UP_S, MILLRACE, Answer, Server, check_ledger, run, server

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
  r: {{ from: s, group_by: [k], window: {{ type: tumbling, size: 1s }}, allowed_lateness: 1m, metrics: {{ n: count, v: {{ sum: v }} }} }}
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


def until(what, true):
    """Asks until it is so; a wait without a measured time."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        got = true()
        if got:
            return got
        assert time.monotonic() < deadline, "in vain: " + what
        time.sleep(0.02)


def events(*some):
    return "\n".join(json.dumps(e) for e in some)


def accepted(answer, count):
    assert answer.status == 200 and answer.json["accepted"] == count, answer


def dead(s, **query):
    answer = s.get("/v1/dead-letters?" + "&".join(f"{k}={v}" for k, v in query.items()))
    assert answer.status == 200, answer
    return answer.json["entries"]


def stored(s, rule):
    """A rule's rows in results.db, read as anybody would."""
    with contextlib.closing(sqlite3.connect(f"file:{s.directory}/data/results.db?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f'select * from "{rule}"')]


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
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
                old.set_ciphers("ALL:@SECLEVEL=0")
                old.minimum_version = old.maximum_version = version
                try:
                    with socket.create_connection(("127.0.0.1", s.port), timeout=GIVE_UP_S) as plain:
                        old.wrap_socket(plain)
                    raise AssertionError(f"{version} was let in")
                except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
                    pass
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
    ("sinks: {}\n", "1:1", "not in this version"),
    ("results: { retain: 30d }\n", "1:1", "not in this version"),
    ("streams:\n  s: { id: id, time: t, dedup: { mode: redis } }\n", "2:40", "not in this version"),
    ("streams:\n  s: { id: id, time: t, dedup: { mode: exat } }\n", "2:40", "did you mean `exact`"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: x, window: { size: 1s }, metrics: { n: count } }\n",
     "4:14", "x"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: s, window: { type: session }, metrics: { n: count } }\n",
     "4:33", "not in this version"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: s, window: { size: 1s }, metrics: { n: cuont } }\n",
     "4:53", "did you mean `count`"),
    ("streams:\n  s: { id: id, time: t }\nrules:\n  r: { from: s, where: x == 1, window: { size: 1s }, metrics: { n: count } }\n",
     "4:17", "not in this version"),
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
auth: {{ tokens: {{ a: {{ sha256: {sha("y")}, streams: [s], allow: [ingest] }}, b: {{ sha256_file: {path}/hash, allow: [admin, query] }} }} }}
"""
        examples = pathlib.Path(__file__).resolve().parents[2] / "config/examples"
        texts = ["", full] + [file.read_text() for file in sorted(examples.glob("*.yaml"))]
        assert len(texts) > 3
        for text in texts:
            file = path / "c.yaml"
            file.write_text(text)
            first = millrace("check", "-c", file)
            assert first.returncode == 0 and "is fine" in first.err and "MiB  in all" in first.err, (text, first.err)
            file.write_text(first.out)
            second = millrace("check", "-c", file)
            assert second.returncode == 0, (first.out, second.err)
            assert second.out == first.out
            assert millrace("check", file).out == first.out
        assert millrace("check", cwd=path).returncode == 0  # the defaults
        file.write_text('node: { data_dir: "${MILLRACE_TEST_DIR}/data" }\n')
        done = millrace("check", "-c", file, environment=dict(os.environ, MILLRACE_TEST_DIR="/some/where"))
        assert done.returncode == 0 and "/some/where/data" in done.out, done.err


def test_usage():
    for arguments in (["serv"], ["check", "one", "two"], ["check", "one", "-c", "two"], ["serve", "--nope"], ["-c"], ["log"], ["log", "list"],
                      ["log", "show", "x"], ["log", "list", "x", "y"], ["run", "--rule"], ["replay"], ["log", "repair", "x"],
                      ["help", "nonsense"]):
        done = millrace(*arguments)
        assert done.returncode == 2, (arguments, done.returncode, done.err)
        assert done.err and done.out == "", (arguments, done)
    for later in (["replay", "-c", "x"], ["log", "repair", "x"]):
        assert "not in this version" in millrace(*later).err
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
            slow.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (E.encode(), len(body)) + body[:9])
            until("the request is under way",
                  lambda: s.metric("millrace_queue_bytes", queue="in_flight") > 0)
            s.process.terminate()

            def draining():
                answer = s.get("/readyz", connection=keep)
                return answer if answer.status == 503 else None
            answer = until("readyz says so", draining)
            assert answer.json["reason"] == "draining", answer
            assert s.get("/livez", connection=other).status == 200
            with socket.socket() as late:
                late.settimeout(1)
                try:  # no new connections: refused, or never served
                    late.connect(("127.0.0.1", s.port))
                    late.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert late.recv(100) == b""
                except OSError:
                    pass
            slow.sendall(body[9:])
            assert b" 200 OK" in slow.recv(65536)
        assert s.process.wait(GIVE_UP_S) == 0
        s.start()
        assert [r["events"] for r in s.rows("r")] == [1]


# ---- the data directory ----

def test_one_process_a_directory():
    with server(CONFIG) as s:
        second = Server(CONFIG, directory=s.directory)
        second.config = s.config  # the same file, the same directory
        said = refused(second, 1, str(s.directory / "data"))
        assert "another process" in said or "in use" in said or "locked" in said, said
        accepted(s.post(E, events({"id": "1", "t": BASE})), 1)
        s.kill()
        s.start()
        accepted(s.post(E, events({"id": "2", "t": BASE})), 1)


def test_changed_rules_are_refused():
    with server(CONFIG) as s:
        accepted(s.post(E, events({"id": "1", "t": BASE, "k": "a", "v": 1})), 1)
        assert s.stop() == 0
        original = s.config.read_text()
        for old, new in (("size: 1s", "size: 2s"), ("n: count", "m: count"), ("id: id", "id: other"),
                         ("group_by: [k]", "group_by: [j]"), ("format: ms", "format: s")):
            assert old in original
            s.config.write_text(original.replace(old, new))
            said = refused(s, 78, "data")
            assert "rule" in said or "stream" in said, said
        for old, new in (("segment: 4MiB", "segment: 8MiB"), ("ids: 100000", "ids: 200000"),
                         ("rules:", "# a comment\nrules:")):
            s.config.write_text(original.replace(old, new))
            s.start()
            assert [r["events"] for r in s.rows("r")] == [1]
            assert s.stop() == 0
        (s.directory / "data/FORMAT").write_text("millrace data, format 99\n")
        refused(s, 78, "format")


def plain(rows):
    return sorted((r["window_start"], json.dumps(r["key"]), r["events"], r["metrics"]["n"], r["metrics"]["v"])
                  for r in rows)


def test_changed_shards_give_the_same_rows():
    rule = "from: s, group_by: [k], window: {{ size: 1s }}, allowed_lateness: 0s, metrics: {{ n: count, v: {{ sum: v }} }}"
    config = SMALL + f"""
streams:
  {STREAM}
rules:
  all: {{ {rule} }}
  few: {{ {rule}, groups: {{ max: 12, when_full: other }} }}
node: {{ data_dir: "@DIR@/data", shards: 1 }}
""".replace("{{", "{").replace("}}", "}")
    with server(config) as s:
        some = [{"id": str(i), "t": BASE + i, "k": f"k{i % 29}", "v": i} for i in range(6000)]
        for i in range(0, len(some), 600):
            accepted(s.post(E, events(*some[i:i + 600])), 600)
        truth = collections.Counter()
        for e in some:
            truth[e["t"] // 1000] += 1
        first = {rule: plain(s.rows(rule)) for rule in ("all", "few")}
        assert len(first["all"]) == 6 * 29 and len(first["few"]) < len(first["all"])
        for shards in (3, 2, 1):
            assert s.stop() == 0
            s.config.write_text(re.sub(r"shards: \d", f"shards: {shards}", s.config.read_text()))
            s.start()
            until("all is written", lambda: s.metric("millrace_flush_lag_bundles") == 0)
            rows = {rule: s.rows(rule) for rule in ("all", "few")}
            assert plain(rows["all"]) == first["all"], shards
            for name in ("all", "few"):
                by_window, keys = collections.Counter(), set()
                for r in rows[name]:
                    by_window[r["window_start"]] += r["events"]
                    keys.add((r["window_start"], json.dumps(r["key"])))
                assert len(keys) == len(rows[name]), "a row twice"
                assert sorted(by_window.values()) == sorted(truth.values()), (shards, name)
                final = [r for r in rows[name] if r["final"]]
                in_file = [r for r in stored(s, name) if r["final"]]
                assert len(final) > 30 and sum(r["events"] for r in final) == sum(r["events"] for r in in_file)
                assert sum(r["metrics"]["v"] for r in final) == sum(r["v"] for r in in_file)
        assert plain(rows["few"]) == first["few"]  # of one shard, as in the beginning


def segment(s):
    files = sorted((s.directory / "data/log").glob("*.log"))
    assert len(files) == 1, files
    return files[0]


def post_three(s):
    for name in ("first-event", "second-event", "third-event"):
        accepted(s.post(E, events({"id": name, "t": BASE, "k": name, "v": 1})), 1)


def test_a_damaged_log_is_not_skipped():
    for what in ("payload", "header"):
        with server(CONFIG) as s:
            post_three(s)
            s.kill()
            file = segment(s)
            data = bytearray(file.read_bytes())
            at = data.index(b"first-event")
            if what == "header":
                listed = millrace("log", "dump", file.parent, "--json").out.splitlines()
                record = next(json.loads(line) for line in listed if "first-event" in line)
                assert record["type"] == "events"
                at -= at - data.rindex(b"\0" * 8, 0, at) + 40  # inside the record's header
            before = bytes(data)
            data[at] ^= 0x20
            file.write_bytes(data)
            said = refused(s, 1, file.name)
            assert re.search(r"offset \d+", said), said
            assert file.read_bytes() == bytes(data), "a damaged file is left as it is"
            assert millrace("log", "list", file.parent).returncode in (0, 1)
            file.write_bytes(before)
            s.start()
            assert len(s.rows("r")) == 3


def test_a_torn_tail_is_cut_and_said():
    with server(CONFIG) as s:
        post_three(s)
        s.kill()
        file = segment(s)
        used = json.loads(millrace("log", "list", file.parent, "--json").out)["bytes_used"]
        with open(file, "r+b") as f:  # garbage where the next record would have been
            f.seek(used)
            f.write(os.urandom(300))
        s.start()
        assert s.metric("millrace_log_torn_bytes") > 0
        assert re.search(r"torn_bytes=[1-9]", s.stderr()), s.stderr()
        assert len(s.rows("r")) == 3
        accepted(s.post(E, events({"id": "fourth-event", "t": BASE, "k": "x" * 100, "v": 1})), 1)
        s.kill()
        data = file.read_bytes()
        at = data.index(b"fourth-event") + 20
        file.write_bytes(data[:at] + bytes(len(data) - at))  # the disk lost the end of the last write
        before = len(s.stderr())
        s.start()
        assert re.search(r"torn_bytes=[1-9]", s.stderr()[before:]), s.stderr()[before:]
        assert len(s.rows("r")) == 3
        answer = s.post(E, events({"id": "fourth-event", "t": BASE, "k": "y", "v": 1},
                                  {"id": "third-event", "t": BASE, "k": "y", "v": 1}))
        assert (answer.json["accepted"], answer.json["duplicate"]) == (1, 1), answer
        s.kill()
        before = len(s.stderr())
        s.start()
        assert "torn_bytes=0" in s.stderr()[before:]
        assert len(s.rows("r")) == 4
        s.kill()
        os.truncate(file, used)  # no crash makes a file shorter that was made in full before
        refused(s, 1, file.name, f"offset {used}", "cut short")


def test_log_tools_on_a_running_server():
    with server(CONFIG) as s:
        post_three(s)
        path = s.directory / "data/log"
        for directory_ in (path, s.directory / "data"):
            done = millrace("log", "list", directory_)
            assert done.returncode == 0 and segment(s).name in done.out and "sound" in done.out, done
        one = json.loads(millrace("log", "list", path, "--json").out)
        assert one["name"] == segment(s).name and one["records"] >= 5 and one["torn_bytes"] == 0, one
        records = [json.loads(line) for line in millrace("log", "dump", path, "--json").out.splitlines()]
        assert [r["lsn"] for r in records] == list(range(1, len(records) + 1)) and len(records) == one["records"]
        kinds = [r["type"] for r in records]
        assert kinds[0] == "start" and "config" in kinds and kinds.count("events") == 3, kinds
        assert sum("second-event" in r["payload"] for r in records) == 1
        text = millrace("log", "dump", path).out
        assert text.count("\n") == len(records) + 1 and "third-event" in text
        control = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
        assert not control.search(text)
        for verb in ("list", "dump"):
            done = millrace("log", verb, s.directory / "nowhere")
            assert done.returncode == 1 and "nowhere" in done.err, done
            (s.directory / "empty").mkdir(exist_ok=True)
            done = millrace("log", verb, s.directory / "empty")
            assert done.returncode == 1 and "no segment" in done.err, done
        accepted(s.post(E, events({"id": "behind", "t": BASE})), 1)


# ---- metrics ----

METRICS = """events_received_total:counter events_total:counter rule_events_total:counter dedup_ids:gauge
    dedup_bytes:gauge watermark_timestamp_seconds:gauge system_lag_seconds:gauge data_freshness_seconds:gauge
    windows_open:gauge groups:gauge log_sync_duration_seconds:histogram log_bytes:gauge http_requests_total:counter
    http_request_duration_seconds:histogram queue_bytes:gauge build_info:gauge""".split()


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
            assert s.metric(name) > 0
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


# ---- time ----

def test_idle_closes_the_last_window():
    config = CONFIG.replace("idle_timeout: off", "idle_timeout: 1s").replace("lateness: 1m", "lateness: 0s")
    with server(config) as s:
        now = int(time.time() * 1000)
        accepted(s.post(E, events(*({"id": str(i), "t": now, "k": "a", "v": 2} for i in range(3)))), 3)
        until("the row is final", lambda: all(r["final"] for r in s.rows("r")))
        rows = until("the row is in results.db", lambda: stored(s, "r"))
        assert [(r["k"], r["n"], r["v"], r["events"], r["final"]) for r in rows] == [("a", 3, 6, 3, 1)], rows
        assert [(r["events"], r["final"]) for r in s.rows("r")] == [(3, True)]
        until("nothing is open", lambda: s.metric("millrace_windows_open", rule="r") == 0)
        kinds = [json.loads(line)["type"] for line in
                 millrace("log", "dump", s.directory / "data/log", "--json").out.splitlines()]
        assert "tick" in kinds
        s.kill()
        s.start()  # and again from the log
        assert [(r["events"], r["final"]) for r in s.rows("r")] == [(3, True)]
        answer = s.post(E, events({"id": "behind", "t": now - 60000, "k": "a", "v": 1}))
        assert answer.json["late"] == 1, answer


def test_late_events_correct_or_are_dead_letters():
    with server(CONFIG) as s:
        event = lambda name, at, **more: events(dict({"id": name, "t": BASE + at, "k": "a", "v": 1}, **more))
        row = lambda: [r for r in s.rows("r") if r["window_start"].endswith("20.000Z")][0]
        assert BASE % 60000 == 20000
        accepted(s.post(E, event("1", 0)), 1)
        accepted(s.post(E, event("2", 10000)), 1)  # the window fires
        before = row()
        assert before["events"] == 1 and not before["final"]
        accepted(s.post(E, event("3", 500)), 1)  # late, allowed
        after = row()
        assert after["events"] == 2 and after["metrics"] == {"n": 2, "v": 2}
        assert after["revision"] > before["revision"] and not after["final"]
        in_file = lambda: [(r["events"], r["revision"]) for r in stored(s, "r") if r["window_start_ms"] == BASE]
        until("the correction is written", lambda: in_file() == [(2, after["revision"])])
        accepted(s.post(E, event("4", 100000)), 1)  # lateness is over
        assert row()["final"] and row()["events"] == 2
        answer = s.post(E + "?return=results", event("5", 900))
        assert answer.json["results"] == "L" and answer.json["late"] == 1, answer
        assert s.post(E, event("5", 900)).json["duplicate"] == 1  # a late event's id is remembered
        assert row()["events"] == 2
        entry, = dead(s, reason="late")
        assert entry["stream"] == "s" and entry["rules"] == ["r"] and entry["event"]["id"] == "5", entry
        ahead = int(time.time() * 1000) + 3600000
        mark = s.get("/v1/streams/s").json["watermark"]
        answer = s.post(E, events({"id": "6", "t": ahead, "k": "a", "v": 1}))
        assert answer.status == 200 and answer.json["late"] == 1, answer
        entry, = dead(s, reason="future")
        assert entry["event"]["t"] == ahead, entry
        assert s.get("/v1/streams/s").json["watermark"] == mark, "the future moves no watermark"
        assert s.metric("millrace_events_future_total", stream="s") == 1
        answer = s.post(E, events({"id": "7", "t": "never"}, {"id": "8", "t": BASE + 100000, "k": "a", "v": 1}))
        assert (answer.json["rejected"], answer.json["accepted"]) == (1, 1), answer
        entry, = dead(s, reason="rejected")
        assert entry["stream"] == "s" and "never" in json.dumps(entry), entry
        assert s.metric("millrace_dead_letters_total") == 3 == len(dead(s))
        check_ledger(s, "s")
        s.kill()
        s.start()
        assert len(dead(s)) == 3, "dead letters once, also after a replay"


def test_late_for_some_rules_is_accepted():
    config = CONFIG + "  patient: { from: s, window: { size: 1s }, allowed_lateness: 1d, metrics: { n: count } }\n"
    with server(config) as s:
        accepted(s.post(E, events({"id": "1", "t": BASE + 100000, "k": "a", "v": 1})), 1)
        accepted(s.post(E, events({"id": "2", "t": BASE, "k": "a", "v": 1})), 1)
        assert s.metric("millrace_rule_events_total", rule="r", outcome="late") == 1
        assert s.metric("millrace_rule_events_total", rule="patient", outcome="applied") == 2
        entry, = dead(s, reason="late")
        assert entry["rules"] == ["r"], entry


def test_dropped_groups():
    config = CONFIG.replace("size: 1s }", "size: 1s }, groups: { max: 2, when_full: drop }")
    with server(config) as s:
        accepted(s.post(E, events(*({"id": str(i), "t": BASE, "k": f"k{i % 5}", "v": 1} for i in range(50)))), 50)
        rows = s.rows("r")
        assert len(rows) == 2 and sum(r["events"] for r in rows) == 20, rows
        assert s.metric("millrace_rule_events_total", rule="r", outcome="dropped") == 30
        assert s.metric("millrace_rule_events_total", rule="r", outcome="applied") == 20
        entries = dead(s, reason="groups")
        assert sum(e["events"] for e in entries) == 30 and all(e["rules"] == ["r"] for e in entries), entries
        kept = {r["key"]["k"] for r in rows}
        assert {e["group"]["k"] for e in entries} == {f"k{i}" for i in range(5)} - kept
        accepted(s.post(E, events({"id": "again", "t": BASE, "k": min(kept), "v": 1})), 1)
        assert sum(r["events"] for r in s.rows("r")) == 21


def test_modes_of_dedup():
    twice = events({"id": "1", "t": BASE, "k": "a", "v": 1}, {"id": "1", "t": BASE, "k": "a", "v": 1})
    for mode, rows, observed in (("exact", 1, 0), ("bloom", 1, 0), ("observe", 4, 3), ("none", 4, 0)):
        dedup = "dedup: { mode: none }" if mode == "none" else f"dedup: {{ mode: {mode}, ids: 100000 }}"
        with server(CONFIG.replace("dedup: { ids: 100000 }", dedup)) as s:
            for _ in range(2):
                answer = s.post(E, twice)
                assert answer.status == 200 and answer.json["received"] == 2, answer
            assert sum(r["events"] for r in s.rows("r")) == rows, mode
            assert s.metric("millrace_events_observed_duplicates_total", stream="s") == observed, mode
            assert s.metric("millrace_events_total", stream="s", verdict="accepted") == rows
            check_ledger(s, "s")
            s.kill()
            s.start()
            assert sum(r["events"] for r in s.rows("r")) == rows, mode
            assert s.metric("millrace_events_observed_duplicates_total", stream="s") == observed, mode
    with server(CONFIG.replace("id: id,", "id: id, missing_id: accept,")) as s:
        answer = s.post(E, events({"t": BASE}, {"t": BASE}, {"id": None, "t": BASE}, {"id": "1", "t": BASE},
                                  {"id": "1", "t": BASE}))
        assert (answer.json["accepted"], answer.json["duplicate"]) == (4, 1), answer
        answer = s.post(E, events({"id": "", "t": BASE}, {"id": True, "t": BASE}, {"id": "2", "t": BASE}))
        assert (answer.json["accepted"], answer.json["rejected"]) == (1, 2), answer
        check_ledger(s, "s")


# ---- bounded runs ----

def test_run():
    with directory() as path:
        config = path / "c.yaml"
        config.write_text(CONFIG + "  total: { from: s, window: { size: 1s }, metrics: { n: count } }\n"
                          f"node: {{ data_dir: {path}/data, shards: 2 }}\n")
        some = [{"id": str(i % 900), "t": BASE + i % 900 * 10, "k": f"k{i % 3}", "v": i % 900} for i in range(1000)]
        truth = collections.Counter()
        for e in some[:900]:
            truth[e["t"] // 1000 * 1000, e["k"]] += 1
        text = events(*some).encode() + b"\n"
        (path / "plain.ndjson").write_bytes(text)
        (path / "packed.ndjson.gz").write_bytes(gzip.compress(text[:len(text) // 2]) + gzip.compress(text[len(text) // 2:]))
        (path / "array.json").write_text(json.dumps(some, indent=1))
        subprocess.run(["zstd", "-q", path / "plain.ndjson", "-o", path / "packed.ndjson.zst"], check=True)
        outputs = set()
        for name in ("plain.ndjson", "packed.ndjson.gz", "packed.ndjson.zst", "array.json", "-", None):
            arguments = [] if name is None else ["-" if name == "-" else path / name]
            done = millrace("run", "-c", config, "--json", *arguments, stdin=text if name in ("-", None) else b"")
            assert done.returncode == 0, (name, done.err)
            rows = [json.loads(line) for line in done.out.splitlines()]
            got = {(r["window_start"], r["key"]["k"]): r["events"] for r in rows if r["rule"] == "r"}
            assert sorted(got.values()) == sorted(truth.values()) and len(got) == len(truth), name
            assert all(r["final"] for r in rows)
            summary = json.loads(done.err.splitlines()[-1])
            assert (summary["received"], summary["accepted"], summary["duplicate"]) == (1000, 900, 100), summary
            outputs.add(tuple(sorted(re.sub(r'"revision":\d+', "", line) for line in done.out.splitlines())))
        assert len(outputs) == 1, "the same rows whatever the packing"
        assert not (path / "data").exists(), "a run keeps nothing"

        done = millrace("run", "-c", config, "--csv", "--rule", "r", path / "plain.ndjson")
        table = list(csv.DictReader(io.StringIO(done.out)))
        assert len(table) == len(truth) and sum(int(r["n"]) for r in table) == 900, done.out[:300]
        store = path / "out.db"
        done = millrace("run", "-c", config, "--rule", "total", "--into", store, path / "plain.ndjson", path / "array.json")
        assert done.returncode == 0 and {json.loads(line)["rule"] for line in done.out.splitlines()} == {"total"}
        with contextlib.closing(sqlite3.connect(store)) as db:
            assert db.execute("select sum(events), sum(v) from r").fetchone() == (900, sum(range(900)))
        assert millrace("run", "-c", config, "--into", store, path / "plain.ndjson").returncode != 0  # never over a file
        assert millrace("run", "-c", config, "--csv", path / "plain.ndjson").returncode == 2
        assert millrace("run", "-c", config, "--rule", "nobody", path / "plain.ndjson").returncode == 2
        assert millrace("run", "-c", path / "none.yaml", path / "plain.ndjson").returncode == 78


def test_run_says_what_is_wrong_with_its_input():
    with directory() as path:
        config = path / "c.yaml"
        config.write_text(CONFIG + f"node: {{ data_dir: {path}/data, shards: 1 }}\n")
        good = lambda i: json.dumps({"id": str(i), "t": BASE, "k": "a", "v": 1})
        bad = path / "bad.ndjson"
        lines = [good(i) for i in range(30000)]  # more than one piece
        lines[2], lines[29990] = "broken", '{"id":null}'
        bad.write_text("\n".join(lines))  # and no newline at the end
        done = millrace("run", "-c", config, "--json", bad)
        assert done.returncode == 0, done.err
        assert f"{bad}:3: bad_json" in done.err and f"{bad}:29991: missing_id" in done.err, done.err
        assert json.loads(done.err.splitlines()[-1])["rejected"] == 2
        bad.write_text("\n".join(["x"] * 50))
        done = millrace("run", "-c", config, bad)
        assert done.err.count("bad_json") == 10 and "rejected 50" in done.err, done.err
        done = millrace("run", "-c", config, path / "nowhere.ndjson")
        assert done.returncode == 1 and "nowhere.ndjson" in done.err and done.out == "", done
        assert millrace("run", "-c", config, path).returncode == 1  # a directory
        for name, data in (("cut.gz", gzip.compress(good(1).encode() * 1000)[:-9]), ("wrong.zst", b"\x28\xb5\x2f\xfdrubbish")):
            (path / name).write_bytes(data)
            done = millrace("run", "-c", config, path / name)
            assert done.returncode == 1 and name in done.err and done.out == "", (name, done)
        (path / "empty").write_bytes(b"")
        done = millrace("run", "-c", config, path / "empty")
        assert done.returncode == 0 and done.out == "" and "received 0" in done.err, done
        (path / "cut.json").write_text(f"[{good(1)},\n{good(2)},\n oops")
        done = millrace("run", "-c", config, path / "cut.json")
        assert f"{path}/cut.json:3: bad_json" in done.err and "accepted 2" in done.err, done.err
        with open("/dev/full", "wb") as full:
            (path / "good").write_text(good(1))
            done = subprocess.run([MILLRACE, "run", "-c", config, path / "good"], stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == 1, done.stderr


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
        paths = ("/livez", "/readyz", "/metrics", "/v1/streams", "/v1/rules/r/windows", "/v1/limits", "/openapi.yaml", "/",
                 "/v1/dead-letters", "/v1/streams/s/events/1", "/v1/nothing", "/v1/rules/none")
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
