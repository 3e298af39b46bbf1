# SPDX-License-Identifier: Apache-2.0
"""
Real events with an independent answer: the commits of the Git project (tests/data).

Proves that every way in gives the same 38,827 rows, exactly: over HTTP with 1, 2 and 5 shards, with every batch
sent twice, gzip-compressed, with the server killed three times on the way, through `millrace run`; in the SQLite
file after late panes; that bloom mode accepts no duplicate and loses no more than its configured error; and that
sessions, sliding weeks, distinct and top are those of a plain computation.
"""
import collections
import csv
import gzip
import json
import sqlite3
import subprocess

from harness import MILLRACE, ROOT, Server, check_ledger, run, server

DATA = ROOT / "tests/data/git-commits.ndjson.gz"
LINES = gzip.open(DATA, "rb").read().splitlines(keepends=True)
BATCHES = [b"".join(LINES[i:i + 1000]) for i in range(0, len(LINES), 1000)]
RECEIVED, ACCEPTED, DUPLICATE = 146954, 75546, 71408

with gzip.open(ROOT / "tests/data/git-commits.expected.csv.gz", "rt", newline="") as f:
    EXPECTED = {(int(r["window_start_ms"]), r["area"]):
                (int(r["count"]), int(r["sum_words"]), int(r["min_words"]), int(r["max_words"]))
                for r in csv.DictReader(f)}

CONFIG = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
streams:
  commits:
    id: id
    time: {{ field: time, format: ms }}
    dedup: {{ {dedup} }}
    watermark: {{ out_of_orderness: 1h, idle_timeout: off }}
rules:
  words_by_area:
    from: commits
    group_by: [area]
    window: {{ type: tumbling, size: 1d }}
    allowed_lateness: 6000d
    metrics:
      commits: count
      sum_words: {{ sum: words }}
      min_words: {{ min: words }}
      max_words: {{ max: words }}
"""


def config(shards=1, dedup="mode: exact, horizon: 7d, ids: 1000000"):
    return CONFIG.format(shards=shards, dedup=dedup)


def milliseconds(text):
    from datetime import datetime, timezone
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(
        tzinfo=timezone.utc).timestamp()) * 1000


def as_table(rows):
    table = {}
    for row in rows:
        key = (milliseconds(row["window_start"]), row["key"]["area"])
        assert key not in table, f"twice: {row}"
        m = row["metrics"]
        assert m["commits"] == row["events"]
        table[key] = (m["commits"], m["sum_words"], m["min_words"], m["max_words"])
    return table


def send(s, batches, twice=False, compress=False):
    """Posts batches in order; returns the verdict counts of the answers."""
    total = dict.fromkeys(("received", "accepted", "duplicate", "late", "rejected"), 0)
    connection = s.connect()
    for batch in batches:
        headers = {"Content-Encoding": "gzip"} if compress else {}
        body = gzip.compress(batch, 1) if compress else batch
        for _ in range(2 if twice else 1):
            answer = s.post("/v1/streams/commits/events", body, headers=headers, connection=connection)
            assert answer.status == 200, answer
            for key in total:
                total[key] += answer.json[key]
    return total


def sqlite_table(s):
    db = sqlite3.connect(s.directory / "data/results.db")
    rows = db.execute('select window_start_ms, area, commits, sum_words, min_words, max_words, events, window_start, '
                      'window_end_ms, final from words_by_area').fetchall()
    for r in rows:
        assert r[2] == r[6] and milliseconds(r[7]) == r[0] and r[8] == r[0] + 86400000, r
    db.close()
    return {(r[0], r[1]): r[2:6] for r in rows}


def check_all(s, total, shift=0):
    assert total == {"received": RECEIVED + shift, "accepted": ACCEPTED, "duplicate": DUPLICATE + shift,
                     "late": 0, "rejected": 0}, total
    assert as_table(s.rows("words_by_area", state="all")) == EXPECTED
    assert check_ledger(s, "commits")[1] == ACCEPTED


def test_in_order_with_1_2_and_5_shards():
    for shards in (1, 2, 5):
        with server(config(shards)) as s:
            check_all(s, send(s, BATCHES))
            s.get("/v1/dead-letters?limit=1")  # waits until everything is flushed
            closed = sqlite_table(s)
            # Windows above the watermark have not fired; all others stand in the file with their late corrections.
            watermark = milliseconds(s.get("/v1/rules/words_by_area/windows?limit=1").json["watermark"])
            assert closed == {k: v for k, v in EXPECTED.items() if k[0] + 86400000 <= watermark}
            assert len(closed) > 38700
            # The file holds the rest too once the last windows have closed.
            assert s.stop() == 0


def test_every_batch_twice():
    with server(config(2)) as s:
        check_all(s, send(s, BATCHES, twice=True), shift=RECEIVED)


def test_gzip():
    with server(config(1)) as s:
        check_all(s, send(s, BATCHES, compress=True))


def test_killed_three_times_on_the_way():
    with server(config(2)) as s:
        third = len(BATCHES) // 4
        for k in range(3):
            send(s, BATCHES[k * third:(k + 1) * third])
            # One more batch is on its way when the process dies: nobody hears whether it was taken.
            connection = s.connect()
            connection.request("POST", "/v1/streams/commits/events", BATCHES[(k + 1) * third],
                               {"Content-Type": "application/x-ndjson"})
            s.kill()
            connection.close()
            s.start()
        send(s, BATCHES[3 * third:])
        assert as_table(s.rows("words_by_area", state="all")) == EXPECTED
        assert check_ledger(s, "commits")[1] == ACCEPTED
        s.get("/v1/dead-letters?limit=1")
        before = sqlite_table(s)
        assert all(EXPECTED[k] == v for k, v in before.items()) and len(before) > 38700


def test_run_over_the_file_and_standard_input():
    with server(config(2)) as s:
        path = str(s.config)
        for how in ({"args": [str(DATA)]}, {"args": ["-"], "input": b"".join(LINES)}):
            done = subprocess.run([MILLRACE, "run", "-c", path, "--json", *how["args"]], input=how.get("input"),
                                  capture_output=True, check=True)
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert as_table(rows) == EXPECTED
            assert all(row["final"] for row in rows)
            summary = json.loads(done.stderr.splitlines()[-1])
            assert (summary["received"], summary["accepted"], summary["duplicate"]) == \
                (RECEIVED, ACCEPTED, DUPLICATE), summary
        done = subprocess.run([MILLRACE, "run", "-c", path, "--csv", str(DATA)], capture_output=True, check=True)
        rows = csv.DictReader(done.stdout.decode().splitlines())
        assert {(milliseconds(r["window_start"]), r["area"]): (int(r["commits"]), int(r["sum_words"]),
                int(r["min_words"]), int(r["max_words"])) for r in rows} == EXPECTED


def test_bloom_accepts_no_duplicate():
    error = 0.001
    with server(config(2, f"mode: bloom, horizon: 7d, ids: 80000, error: {error}")) as s:
        total = send(s, BATCHES)
        lost = ACCEPTED - total["accepted"]
        # No duplicate accepted: never more than the distinct ones. Lost: the filter's error, and 5 sigma.
        assert 0 <= lost <= error * ACCEPTED + 5 * (error * ACCEPTED) ** 0.5, lost
        assert total["received"] == RECEIVED
        check_ledger(s, "commits")
        table = as_table(s.rows("words_by_area", state="all"))
        assert all(table[k][0] <= EXPECTED[k][0] for k in table)


SESSIONS = """
streams:
  commits:
    id: id
    time: { field: time, format: ms }
    dedup: { mode: exact, horizon: 3650d, ids: 1000000 }
    watermark: { out_of_orderness: 3650d }
rules:
  sittings:
    from: commits
    group_by: [author]
    window: { type: session, gap: 1h }
    metrics: { n: count }
  weeks:
    from: commits
    window: { type: sliding, size: 7d, every: 1d }
    metrics: { n: count, authors: { distinct: author }, top: { top: author, n: 3 } }
"""
HOUR_MS, DAY_MS = 3600000, 86400000


def plain_sessions(events):
    times, sessions = collections.defaultdict(list), {}
    for e in events:
        times[e["author"]].append(e["time"])
    for author, ts in times.items():
        first = last = None
        for t in sorted(ts):
            first, n = (first, n) if last is not None and t - last < HOUR_MS else (t, 0)
            last, n = t, n + 1
            sessions[first, author] = (last + HOUR_MS, n)
    return sessions


def to_ms(text):
    from datetime import datetime
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def test_sessions_and_sliding_weeks():
    events = list({e["id"]: e for e in reversed([json.loads(line) for line in LINES])}.values())  # first arrival wins
    weeks = collections.defaultdict(list)
    for e in events:
        for k in range(7):
            weeks[e["time"] // DAY_MS * DAY_MS - k * DAY_MS].append(e["author"])
    for shards in (1, 3):
        with server(f'node: {{ data_dir: "@DIR@/data", shards: {shards} }}\n' + SESSIONS) as s:
            done = subprocess.run([MILLRACE, "run", "-c", str(s.config), str(DATA)], capture_output=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        got = {(to_ms(r["window_start"]), r["key"]["author"]): (to_ms(r["window_end"]), r["metrics"]["n"])
               for r in rows if r["rule"] == "sittings"}
        assert got == plain_sessions(events) and len(got) == 37002
        found = {to_ms(r["window_start"]): r["metrics"] for r in rows if r["rule"] == "weeks"}
        assert found.keys() == weeks.keys()
        for start, authors in weeks.items():
            m, most = found[start], collections.Counter(authors).most_common(3)
            assert (m["n"], m["authors"]) == (len(authors), len(set(authors))), (start, m)
            assert [t["count"] for t in m["top"]] == [n for _, n in most], (start, m)


if __name__ == "__main__":
    run(globals())
