# SPDX-License-Identifier: Apache-2.0
"""
Sink: results as hashes in a real Redis. Whatever happens to Redis, to millrace, or to its data directory: in the end
Redis has for each row of GET /v1/rules/r/windows?state=all a hash that says the same, final or not, and no other.
"""
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from harness import MILLRACE, Server, run, until
from redis import cluster, is_installed, redis

CONFIG = """
node: { id: n1, data_dir: "@DIR@/data", shards: 2 }
http: { listen: 127.0.0.1:0 }
stores: { main: { type: redis, nodes: [%s], timeout: 200ms%s } }
sinks: { live: { type: redis, store: main%s } }
streams:
  s: { id: id, time: { field: ts, format: ms }, missing_time: reject,
       watermark: { out_of_orderness: 0s, idle_timeout: 1s, max_future: 1d } }
rules:
  r: { from: s, group_by: [k, other], window: { size: 1s }, allowed_lateness: 3s, sinks: [live],
       metrics: { n: count, total: { sum: v }, low: { min: v }, mean: { avg: v } } }
  silent: { from: s, window: { size: 1s }, metrics: { n: count } }
"""
KEYS = ["DE", "", "a:b", "50%", "17", 17, 1.5, True, "true", None, "null", 'say "hi"', "caf\u00e9", "tab\t", "(other)"]
FIXED = {"window_start", "window_end", "events", "revision", "final", "_epoch", "_overflow"}


def config(address, store="", sink=""):
    addresses = address if isinstance(address, str) else ", ".join(f'"{a}"' for a in address)
    return CONFIG % (addresses, store, sink)


def now_ms():
    return int(time.time() * 1000)


class Feeder:
    """Events with ids of their own, of the last two seconds: none is late, and soon all windows are final."""

    def __init__(self, base_ms=None):
        self.base_ms = base_ms
        self.count = 0

    def lines(self, count, seconds=2):
        lines = []
        base_ms = self.base_ms or now_ms() // 1000 * 1000 - 2000
        for _ in range(count):
            n = self.count = self.count + 1
            event = {"id": f"e{n}", "ts": base_ms + n * 137 % (seconds * 1000), "k": KEYS[n % len(KEYS)],
                     "other": n // len(KEYS) % 3, "v": n * 0.5 if n % 7 else n}
            if n % 11 == 0:
                del event["v"]
            lines.append(json.dumps(event))
        return "\n".join(lines)

    def send(self, s, count=200, **more):
        answer = s.post("/v1/streams/s/events", self.lines(count, **more))
        assert answer.status == 200, answer


def key_text(value):
    if isinstance(value, str):
        text = "".join(f"%{ord(c):02X}" if c < " " or c in ':%"\x7f' else c for c in value)
        number = re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", value)
        quoted = number or value in ("true", "false", "null") or value.startswith("(other)")
        return f'"{text}"' if quoted else text
    return json.dumps(value)


def redis_key(prefix, row):
    return ":".join([f"{prefix}r:{row['window_start']}", *(key_text(row["key"][n]) for n in ("k", "other"))])


def hash_of(row):
    fields = {"window_start": row["window_start"], "window_end": row["window_end"], "events": str(row["events"]),
              "revision": str(row["revision"]), "final": str(int(row["final"]))}
    fields |= {name: value if isinstance(value, str) else json.dumps(value)
               for name, value in row["key"].items() if value is not None}
    fields |= {name: float(value) for name, value in row["metrics"].items() if value is not None}
    return fields


def hashes(servers, prefix):
    found = {}
    for server in servers:
        with server.connection() as c:
            names = [k for k in c.call("KEYS", prefix + "*")]
            for name in names:
                answer = c.call("HGETALL", name)
                fields = dict(zip(answer[::2], answer[1::2]))
                assert int(fields.pop("_epoch")) > 1700000000000, fields
                assert fields.pop("timing") in ("ON_TIME", "LATE") and int(fields.pop("pane")) >= 0, fields
                found[name] = {k: v if k in FIXED or k in ("k", "other") else float(v) for k, v in fields.items()}
    return found


def rows_of(s):
    return s.rows("r", state="all", **{"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"})


def await_same(s, servers, prefix="millrace:n1:", final=True, others=()):
    """Redis says what GET says, and (final) all of it is final. others: keys that GET does not know."""
    last = [None, None]

    def same():
        rows = rows_of(s)
        last[0] = {redis_key(prefix, row): hash_of(row) for row in rows}
        last[1] = {k: v for k, v in hashes(servers, prefix).items() if k not in others}
        return last[0] == last[1] and rows and (not final or all(row["final"] for row in rows))
    try:
        until("Redis has the rows", same)
    except AssertionError as e:
        differ = [(k, last[0].get(k), last[1].get(k)) for k in {**last[0], **last[1]}
                  if last[0].get(k) != last[1].get(k)]
        raise AssertionError(f"{e}: {len(last[0])} rows, {len(last[1])} hashes, {differ[:3]}") from None
    return last[0]


@contextlib.contextmanager
def serving(text, **more):
    s = Server(text, **more)
    try:
        yield s.start()
    except BaseException:
        sys.stderr.write(s.stderr()[-3000:])
        raise
    finally:
        s.close()


def test_redis_has_the_rows():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        feed.send(s, 500)
        await_same(s, [r], final=False)
        feed.send(s, 100)  # the same windows again: newer revisions, until they are final
        rows = await_same(s, [r])
        assert len(rows) > 60
        some = next(iter(rows))
        assert 0 < r.call("PTTL", some) <= 7 * 86400 * 1000
        assert s.metric("millrace_sink_rows_total", sink="live") >= len(rows)
        assert s.metric("millrace_sink_errors_total", sink="live") == 0
        until("no lag", lambda: s.metric("millrace_sink_lag_rows", sink="live") == 0)
        assert not r.call("KEYS", "*silent*")
        assert s.stop() == 0
        assert "sink_failing" not in s.said()


def test_ttl_off_and_a_prefix():
    with redis() as r, serving(config(r.address, sink=', prefix: "{x}/", ttl: off')) as s:
        Feeder().send(s, 50)
        rows = await_same(s, [r], prefix="{x}/")
        assert all(r.call("PTTL", key) == -1 for key in rows)


def test_redis_killed_and_started_again():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        feed.send(s, 300)
        await_same(s, [r], final=False)
        r.kill()
        for _ in range(10):
            feed.send(s, 100)  # taken all the same
        until("it is told", lambda: s.reported("sink_failing"))
        until("lag", lambda: s.metric("millrace_sink_lag_rows", sink="live") > 0)
        assert s.metric("millrace_sink_failing", sink="live") == 1
        r.start()
        await_same(s, [r])
        until("it is told", lambda: s.reported("sink_works"))
        assert s.metric("millrace_sink_failing", sink="live") == 0
        assert s.metric("millrace_sink_reconnects_total", sink="live") >= 1
        assert s.stop() == 0


def test_redis_killed_while_rows_are_sent():
    with redis() as r, serving(config(r.address)) as s:
        feed, stop = Feeder(), threading.Event()

        def kill():
            for _ in range(4):
                time.sleep(0.15)
                r.kill()
                r.start()
            stop.set()
        killer = threading.Thread(target=kill)
        killer.start()
        while not stop.is_set():
            feed.send(s, 50)
        killer.join()
        await_same(s, [r])


def test_redis_hangs():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        feed.send(s, 300)
        await_same(s, [r], final=False)
        r.pause()
        try:
            for _ in range(5):
                feed.send(s, 100)
            until("it is told", lambda: s.reported("sink_failing"))
        finally:
            r.go_on()
        await_same(s, [r])


def test_millrace_killed():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        for _ in range(5):
            feed.send(s, 200)
            s.kill()
            s.start()
        feed.send(s, 200)
        await_same(s, [r])


def test_redis_away_while_millrace_starts_again():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        feed.send(s, 100)
        await_same(s, [r], final=False)
        r.kill()
        feed.send(s, 300)
        assert s.stop() == 0  # it does not wait for one that is away
        s.start()
        feed.send(s, 100)
        r.start()
        await_same(s, [r])
        assert not s.reported("sink_copying")  # the cursor was kept


def test_a_new_data_directory_wins():
    with redis() as r, serving(config(r.address)) as s:
        base = now_ms() // 1000 * 1000 - 2000
        feed = Feeder(base)
        for _ in range(20):
            feed.send(s, 50)
        await_same(s, [r])
        assert s.stop() == 0
        shutil.rmtree(s.directory / "data")
        s.start()
        Feeder(base).send(s, 1000)  # one bundle: revisions far below
        await_same(s, [r])
        assert s.metric("millrace_sink_rows_refused_total", sink="live") == 0


def test_what_was_flushed_comes_back_with_the_cursor_gone():
    with redis() as r, serving(config(r.address)) as s:
        feed = Feeder()
        feed.send(s, 300)
        rows = await_same(s, [r])
        r.call("FLUSHALL")
        assert s.stop() == 0
        (s.directory / "data" / "SINK-live").unlink()
        s.start()
        assert await_same(s, [r]) == rows
        assert s.reported("sink_copying")


def test_a_rule_gets_a_sink():
    with redis() as r, serving(config(r.address).replace("sinks: [live],", "sinks: [],")) as s:
        feed = Feeder()
        feed.send(s, 300)
        until("rows", lambda: rows_of(s) and all(row["final"] for row in rows_of(s)))
        assert s.stop() == 0 and not r.call("KEYS", "*")
        s.configure(config(r.address))
        s.start()
        await_same(s, [r])


def test_keys_of_others_are_left_alone():
    with redis() as r, serving(config(r.address)) as s:
        feed, base = Feeder(), now_ms() // 1000 * 1000
        line = json.dumps({"id": "x", "ts": base, "k": "mine", "other": 1, "v": 1})
        start = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(base // 1000))
        key = f"millrace:n1:r:{start}:mine:1"
        r.call("SET", key, "theirs")
        s.post("/v1/streams/s/events", line)
        feed.send(s, 200)
        until("it is told", lambda: s.reported("sink_key_of_others"))
        until("the others", lambda: len(r.call("KEYS", "millrace:*")) == len(rows_of(s)))
        assert r.call("GET", key) == "theirs"
        r.call("DEL", key)
        s.post("/v1/streams/s/events", line.replace('"x"', '"y"'))  # comes with the next change
        await_same(s, [r])


def test_a_redis_that_is_full():
    with redis() as r, serving(config(r.address)) as s:
        r.call("CONFIG", "SET", "maxmemory", int(r.info("used_memory")) + 10000)
        feed = Feeder()
        for _ in range(5):
            feed.send(s, 200)
        until("it is told", lambda: any("OOM" in report["reason"] for report in s.reported("sink_failing")))
        r.call("CONFIG", "SET", "maxmemory", "100mb")
        await_same(s, [r])


def test_a_cluster_of_redis():
    with cluster() as c, serving(config(c.addresses, store=", cluster: true")) as s:
        feed = Feeder()
        feed.send(s, 500)
        await_same(s, c.masters(), final=False)
        feed.send(s, 100)
        await_same(s, c.masters())


def test_run_waits_for_its_sink():
    with redis() as r, tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        (path / "c.yaml").write_text(config(r.address).replace("@DIR@", directory))
        (path / "in.ndjson").write_text(Feeder(1600000000000).lines(500))  # however old
        r.kill()
        process = subprocess.Popen([MILLRACE, "run", "-c", str(path / "c.yaml"), "--sinks", "--rule", "r",
                                    str(path / "in.ndjson")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(3)
            assert process.poll() is None
            r.start()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, err
        assert "waiting for sink live: " in err and "refused" in err, err
        rows = [json.loads(line) for line in out.splitlines()]
        assert len(rows) > 50 and all(row["final"] for row in rows)
        assert {redis_key("millrace:n1:", row): hash_of(row) for row in rows} == hashes([r], "millrace:n1:")


if __name__ == "__main__":
    if not is_installed():
        print("skipped: redis-server is not installed\n0 passed, 0 failed")
        sys.exit(0)
    run(globals())
