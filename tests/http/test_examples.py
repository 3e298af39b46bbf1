# SPDX-License-Identifier: Apache-2.0
"""
Examples: what config/examples say of streaming benchmarks is what a plain computation over the whole input says
(workloads.py), through `millrace run` and over HTTP; every file there is a right configuration; and every command of
docs/WINDOWS.md gives the output that stands below it.
"""
import collections
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

import test_tour
import workloads
from harness import GIVE_UP_S, MILLRACE, ROOT, Server, run
from workloads import milliseconds

EXAMPLES = ROOT / "config/examples"
WINDOWS = pathlib.Path(os.environ.get("MILLRACE_WINDOWS", str(ROOT / "docs/WINDOWS.md")))
BENCH = os.environ.get("MILLRACE_BENCH", str(pathlib.Path(MILLRACE).parents[1] / "bench/load/millrace-bench"))


def run_example(name, sent):
    """The rows of `millrace run`, by rule, from the root of the sources: lookups are found there."""
    done = subprocess.run([MILLRACE, "run", "-c", str(EXAMPLES / name), "--json"], input=b"".join(workloads.lines(sent)),
                          cwd=ROOT, capture_output=True, timeout=GIVE_UP_S)
    assert done.returncode == 0, done.stderr.decode()
    rows = collections.defaultdict(list)
    for line in done.stdout.splitlines():
        row = json.loads(line)
        assert row["final"]
        rows[row["rule"]].append(row)
    return rows, json.loads(done.stderr.splitlines()[-1])


@contextlib.contextmanager
def serve_example(name):
    """A server with the example, but for its port and directory; and it waits for a test that pauses."""
    text = (EXAMPLES / name).read_text().replace("./millrace-data", "@DIR@/data, shards: 2")
    text = text.replace("idle_timeout: 1m", "idle_timeout: off")
    s = Server(text.replace("config/examples/", f"{EXAMPLES}/"))
    try:
        yield s.start()
    finally:
        s.close()


def start_of(row):
    return milliseconds(row["window_start"])


def extent(row):
    return milliseconds(row["window_start"]), milliseconds(row["window_end"])


def check_sent(summary, sent, events):
    assert summary["received"] == len(sent) and summary["accepted"] == len(events), summary
    assert summary["duplicate"] == len(sent) - len(events) > 100 and summary["rejected"] == 0, summary


def views(rows):
    assert all(r["metrics"]["views"] == r["events"] for r in rows)
    table = {(start_of(r), r["key"]["campaign"]): r["metrics"]["views"] for r in rows}
    assert len(table) == len(rows)
    return table


def test_yahoo():
    sent, events = workloads.ads()
    expected = workloads.views_by_campaign(events)
    assert len(expected) > 30 and sum(expected.values()) > 1500
    rows, summary = run_example("yahoo.yaml", sent)
    check_sent(summary, sent, events)
    assert views(rows["views_by_campaign"]) == expected


def send_with_a_kill(s, stream, sent):
    """In requests of 500; the server is killed on the way. Returns how many were accepted."""
    lines = workloads.lines(sent)
    accepted = 0
    for at in range(0, len(lines), 500):
        answer = s.post(f"/v1/streams/{stream}/events", b"".join(lines[at:at + 500]))
        assert answer.status == 200 and answer.json["late"] == answer.json["rejected"] == 0, answer
        accepted += answer.json["accepted"]
        if at == 3000:
            s.kill()
            s.start()
    return accepted


def test_yahoo_over_http_with_a_kill():
    sent, events = workloads.ads(seed=2)
    with serve_example("yahoo.yaml") as s:
        assert send_with_a_kill(s, "ads", sent) == len(events)
        assert views(s.rows("views_by_campaign", state="all")) == workloads.views_by_campaign(events)


def test_the_ads_are_those_that_millrace_bench_sends():
    printed = subprocess.run([BENCH, "yahoo", "--print-ads"], capture_output=True, check=True).stdout
    assert (EXAMPLES / "ads.csv").read_bytes() == printed
    assert len(workloads.campaigns()) == 1000 and len(set(workloads.campaigns().values())) == 100


def check_hottest(hottest, counts):
    """The three best: exactly, or within what they say."""
    for entry in hottest:
        assert entry["count"] - entry["error"] <= counts[entry["value"]] <= entry["count"], (entry, counts)
    if all(entry["error"] == 0 for entry in hottest):
        assert [e["count"] for e in hottest] == sorted(counts.values(), reverse=True)[:3], (hottest, counts)
    first, second = (sorted(counts.values(), reverse=True) + [0])[:2]
    if hottest[0]["count"] - hottest[0]["error"] > second:
        assert counts[hottest[0]["value"]] == first, (hottest, counts)


def check_q5(rows, events):
    expected = workloads.q5_counts(events)
    assert {start_of(r) for r in rows} == set(expected) and len(rows) == len(expected)
    for row in rows:
        start, end = extent(row)
        counts, hottest = expected[start], row["metrics"]["hottest"]
        assert end - start == 10 * workloads.SECOND and start % (2 * workloads.SECOND) == 0
        assert row["events"] == sum(counts.values()) and len(hottest) == min(3, len(counts))
        assert len(counts) > 100 or all(entry["error"] == 0 for entry in hottest), "up to 100 values are exact"
        check_hottest(hottest, counts)
    return max(len(counts) for counts in expected.values())


def check_q7(rows, events):
    expected = workloads.q7(events)
    assert {start_of(r) for r in rows} == set(expected) and len(rows) == len(expected)
    for row in rows:
        price, bidders = expected[start_of(row)]
        both = row["metrics"]["price_and_bidder"]
        assert isinstance(both, int) and row["metrics"]["price"] == price
        assert divmod(both, 10 ** 9) == (price, max(bidders)), row


def check_q11(rows, events):
    expected = workloads.sessions(events, 10 * workloads.SECOND)
    assert len(expected) > 500 and max(expected.values()) > 5
    assert {(*extent(r), r["key"]["bidder"]): r["metrics"]["bids"] for r in rows} == expected
    assert len(rows) == len(expected)


def check_q17(rows, events):
    expected = workloads.q17(events)
    assert {end - start for start, end, _ in expected} == {23 * 3600000, 24 * 3600000}
    found = {(*extent(r), r["key"]["auction"]): r["metrics"] for r in rows}
    assert found == expected and len(rows) == len(expected)


def check_q18(rows, sent):
    found = {(start_of(r), (r["key"]["bidder"], r["key"]["auction"])): r["metrics"] for r in rows}
    assert found == workloads.q18(sent) and len(rows) == len(found)


def check_nexmark(rows, sent, events):
    assert check_q5(rows["q5_hot_items"], events) <= 100
    check_q7(rows["q7_highest_bid"], events)
    check_q11(rows["q11_bids_by_session"], events)
    check_q17(rows["q17_auction_statistics"], events)
    check_q18(rows["q18_last_bid"], sent)


def test_nexmark():
    sent, events = workloads.bids()
    rows, summary = run_example("nexmark.yaml", sent)
    check_sent(summary, sent, events)
    check_nexmark(rows, sent, events)


def test_nexmark_over_http_with_a_kill():
    sent, events = workloads.bids(seed=3)
    with serve_example("nexmark.yaml") as s:
        assert send_with_a_kill(s, "bids", sent) == len(events)
        rules = [rule["name"] for rule in s.get("/v1/rules").json["rules"]]
        check_nexmark({rule: s.rows(rule, state="all") for rule in rules}, sent, events)


def test_hot_items_among_more_auctions_than_are_counted():
    sent, events = workloads.bids(seed=2, spacing_ms=6)
    rows, _ = run_example("nexmark.yaml", sent)
    assert check_q5(rows["q5_hot_items"], events) > 150
    assert any(entry["error"] > 0 for r in rows["q5_hot_items"] for entry in r["metrics"]["hottest"])


def test_nexmark_q12_by_the_clock():
    """Each bidder bids in one request only, so its windows are those between the clock before it and after it."""
    _, events = workloads.bids(per_evening=100)
    size = 10 * workloads.SECOND
    asked = []
    with serve_example("nexmark-q12.yaml") as s:
        for at in range(0, len(events), 50):
            batch = [dict(e, bidder=at) for e in events[at:at + 50]]
            before = time.time_ns() // 10 ** 6
            answer = s.post("/v1/streams/bids/events", b"".join(workloads.lines(batch)))
            asked.append((at, before, time.time_ns() // 10 ** 6))
            assert answer.json["accepted"] == len(batch), answer
        rows = s.rows("q12_bids_by_arrival", state="all")
    assert sum(r["metrics"]["bids"] for r in rows) == len(events)
    for bidder, before, after in asked:
        (row,) = [r for r in rows if r["key"]["bidder"] == bidder]  # a request is of one moment
        start, end = extent(row)
        assert row["metrics"]["bids"] == 50 and end - start == size and start % size == 0
        assert start <= after and end > before, (row, before, after)


def test_every_example_is_right():
    names = sorted(p.name for p in EXAMPLES.glob("*.yaml"))
    assert len(names) >= 9, names
    for name in names:
        done = subprocess.run([MILLRACE, "check", "-c", str(EXAMPLES / name)], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, (name, done.stderr.decode())


# ---- docs/WINDOWS.md ----


def is_whole(text):
    """As test_tour.is_whole, but a here-document goes on to its end."""
    checked = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True)
    return test_tour.is_whole(text) and "here-document" not in checked.stderr


def commands_of(document):
    """The commands of all blocks of sh, each with the outputs shown below it."""
    commands, block, pending = [], False, None
    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("```"):
            assert pending is None, f"line {number}: the block ends within a command: {pending}"
            block = not block and line.strip() == "```sh"
        elif not block or (pending is None and not line.strip()):
            continue
        elif pending is None and test_tour.ARROW.match(line):
            commands[-1].expected.append(test_tour.ARROW.match(line).group(1).strip())
        else:
            if pending is None:
                pending = test_tour.Command(line, number)
            else:
                pending.text += "\n" + line
            if is_whole(pending.text):
                commands.append(pending)
                pending = None
    assert pending is None and not block, "the document ends within a block"
    return commands


def follow(document, patience_s=test_tour.PATIENCE_S):
    """Runs the commands in one empty directory; returns how many, and how many outputs they had."""
    commands = commands_of(document)
    with tempfile.TemporaryDirectory(prefix="millrace-windows-") as directory:
        tour = test_tour.Tour(pathlib.Path(directory))
        try:
            for command in commands:
                test_tour.check(tour, command, patience_s)
        finally:
            tour.close()
    return len(commands), sum(len(c.expected) for c in commands)


def test_the_document_about_windows():
    commands, outputs = follow(WINDOWS.read_text())
    assert commands >= 25 and outputs >= 35, (commands, outputs)


SMALL = """
```sh
cat > a.yaml <<'END'
streams: { s: { id: id, time: t } }
rules: { n: { from: s, window: { size: 1m }, metrics: { n: count } } }
END
echo '{"id":1,"t":1767225600000}' | millrace run -c a.yaml --csv
# → window_start,…
# → 2026-01-01T00:00:00.000Z,2026-01-01T00:01:00.000Z,1,…
```
```yaml
this: is no command
```
"""


def test_wrong_outputs_of_a_document_are_noticed():
    assert follow(SMALL) == (2, 2)
    for right, wrong in (("00Z,1,…", "00Z,2,…"), ("n: count", "n: sum"), ("run -c a.yaml", "run -c b.yaml")):
        test_tour.expect_noticed(follow, SMALL, right, wrong)


if __name__ == "__main__":
    run(globals())
