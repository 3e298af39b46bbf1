# SPDX-License-Identifier: Apache-2.0
"""
Crash: the real server, killed again and again, with clients that retry until they are told 200.

usage: crash.py [rounds] [seed] [--campaign ROUNDS] [--clients N] [--check-every ROUNDS] [--checkpoint EVERY|off]
                [--late yes|no] [--keep]

A round is one end of the process. A campaign is up to --campaign rounds on one data directory; then another begins,
with the next seed and other settings. Each client writes its own record of what it sent and was told. Every
--check-every rounds, and at the end of a campaign (there also after a stop and a start), the clients pause, and

  1. every window of every rule over REST holds exactly the events acknowledged: count, sum, minimum, maximum;
  2. the counters of the stream are the record's, and everything received ended in one state (L7);
  3. no answer contradicted the record: a batch never sent before has no duplicates in it but those it was given, and
     one sent before was taken whole or not at all;
  4. every late event is a dead letter, once, with the rules it is too late for; at the end results.db holds all final
     windows.

Kinds of ends: ingest (any moment), sent (a request was sent, no answer yet), acknowledged (right behind an answer),
recovery (before it listens), checkpoint (while its files change), stopping (behind a SIGTERM), term (SIGTERM alone).
Ends with sums; exits with 1 at the first difference, and leaves the data directory then. MILLRACE names the
binary; the environment is handed on to it (MILLRACE_BUG).
"""
import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from harness import GIVE_UP_S, MILLRACE, Server  # noqa: E402
from client import (AHEAD, DAY_MS, KEYS, LATENESS_MS, RULES, T0, WINDOW_MS, Client, Difference,  # noqa: E402
                    Record)

KINDS = {"ingest": 5, "sent": 4, "acknowledged": 4, "recovery": 4, "checkpoint": 5, "stopping": 2, "term": 1}

CONFIG = """
node: {{ data_dir: "@DIR@/data", shards: {shards} }}
http: {{ listen: 127.0.0.1:0, threads: 2 }}
limits: {{ body: 1MiB, inflated: 1MiB }}
log: {{ segment: 2MiB, sync: {sync}{retain} }}
{checkpoint}
streams:
  s:
    id: id
    time: {{ field: ts, format: ms }}
    dedup: {{ mode: exact, horizon: 7d, ids: {ids} }}
    watermark: {{ out_of_orderness: 1s, idle_timeout: off }}
rules:
  r:
    from: s
    group_by: [key]
    window: {{ type: tumbling, size: 5s }}
    allowed_lateness: 15s
    metrics: {{ n: count, total: {{ sum: value }}, low: {{ min: value }}, high: {{ max: value }} }}
  wide:
    from: s
    window: {{ type: tumbling, size: 1d }}
    allowed_lateness: 30d
    metrics: {{ n: count, total: {{ sum: value }}, low: {{ min: value }}, high: {{ max: value }} }}
"""


def milliseconds(text):
    from datetime import datetime, timezone
    return round(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp() * 1000)


# ---- the server ----

class Node(Server):
    """A server that may be ended before it listens; each of its processes has a file of reports of its own."""

    def __init__(self, config, directory):
        super().__init__(config, directory=directory)
        self.starts = 0
        self.start_s = 0.1   # how long the last one took until it listened
        self.ending = threading.Lock()

    def reports(self):
        return self.directory / f"stderr-{self.starts}.txt"

    def stderr(self):
        return self.reports().read_text(errors="replace") if self.starts > 0 else ""

    def spawn(self):
        (self.directory / f"stderr-{self.starts - 20}.txt").unlink(missing_ok=True)
        self.starts += 1
        with open(self.reports(), "wb") as log:
            self.process = subprocess.Popen([MILLRACE, "serve", "-c", str(self.config)], stdout=subprocess.DEVNULL,
                                            stderr=log, stdin=subprocess.DEVNULL)
        self.began, self.began_ns = time.monotonic(), time.time_ns()

    def listens(self):
        if self.port is None:
            found = re.search(r"event=listening url=http://\S+:(\d+) ", self.stderr())
            if found:
                self.start_s = time.monotonic() - self.began
                self.port = int(found.group(1))
        return self.port is not None

    def await_listening(self, until_s=GIVE_UP_S):
        while not self.listens():
            if self.process.poll() is not None:
                raise Difference(f"the server ended with {self.process.returncode} at its start: "
                                 f"{self.stderr()[-2000:]}")
            if time.monotonic() - self.began > until_s:
                return False
            time.sleep(0.002)
        return True

    def must_live(self):
        if self.process.poll() is not None:
            raise Difference(f"the server ended by itself with {self.process.returncode}: {self.stderr()[-2000:]}")

    def signal(self, number):
        """False: it is gone already, by our hand or its own."""
        with self.ending:
            if self.process.poll() is not None:
                return False
            self.process.send_signal(number)
            return True

    def await_end(self):
        try:
            code = self.process.wait(GIVE_UP_S)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise Difference(f"the server did not stop in {GIVE_UP_S} s") from None
        self.port = None
        return code

    def close(self):
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()


# ---- a campaign ----

class Campaign:
    def __init__(self, seed, rounds, options):
        self.seed, self.rounds, self.options = seed, rounds, options
        self.random = random.Random(f"{seed} campaign")
        r = self.random
        self.shards = r.choice((1, 2, 2, 3))
        self.late = {"yes": True, "no": False}.get(options.late, r.random() < 0.35)
        self.sync = r.choice(("group", "group", "group", "off"))
        every = r.choice(("100ms", "300ms", "1s"))
        self.checkpoint = every if options.checkpoint == "mixed" else options.checkpoint
        self.retain = options.retain
        self.record = Record()
        self.record.attempted["A"] = 1
        self.ends, self.phases = collections.Counter(), collections.Counter()
        self.gate = threading.Condition()
        self.paused, self.over, self.failure = False, False, None
        self.waiting = set()         # clients that wait for the pause to end
        self.armed, self.fired = None, threading.Event()
        self.directory = tempfile.mkdtemp(prefix="millrace-crash-")
        self.node = Node(self.config(), self.directory)
        self.clients = [Client(self, i) for i in range(options.clients)]

    def config(self):
        every = "" if self.checkpoint == "off" else f"checkpoint: {{ every: {self.checkpoint} }}"
        return CONFIG.format(shards=self.shards, sync=self.sync, checkpoint=every, ids=200000 + 20000 * self.rounds,
                             retain=", retain_bytes: 4MiB" if self.retain else "")

    def write_config(self):
        self.node.config.write_text(self.config().replace("@DIR@", str(self.directory)))

    def leave_out_what_is_unknown(self):
        """A build without checkpoints, or retention, is crashed without."""
        for checkpoint, retain in ((self.checkpoint, self.retain), (self.checkpoint, False), ("off", False)):
            self.checkpoint, self.retain = checkpoint, retain
            self.write_config()
            done = subprocess.run([MILLRACE, "check", str(self.node.config)], capture_output=True)
            if done.returncode == 0:
                return
        raise Difference(f"the configuration is refused: {done.stderr.decode()}")

    # -- what clients call

    def may_send(self, client):
        with self.gate:
            while True:
                if self.over or self.failure is not None:
                    return False
                slowest = min(c.done for c in self.clients)
                if not self.paused and client.done < slowest + AHEAD:
                    self.waiting.discard(client)
                    return True
                if self.paused:
                    self.waiting.add(client)
                    self.gate.notify_all()
                self.gate.wait(1)

    def delivered(self, client):
        with self.gate:
            client.done += 1
            self.gate.notify_all()

    def stop_if_failed(self):
        if self.failure is not None:
            raise self.failure

    def fail(self, e):
        with self.gate:
            self.failure = self.failure or e
            self.gate.notify_all()

    def at(self, point):
        """A client has got to this point: if the end was to be here, it is."""
        if self.armed == point:
            with self.gate:
                mine = self.armed == point
                self.armed = None if mine else self.armed
            if mine:
                if point == "sent":
                    time.sleep(random.choice((0, 0, 0.0003, 0.001)))
                self.node.signal(signal.SIGKILL)
                self.fired.set()

    # -- ends

    def checkpoint_files(self):
        found = []
        for folder, _, files in os.walk(self.directory + "/data"):
            for name in files:
                if name.startswith(("manifest", "part-")):
                    try:
                        stat = os.stat(f"{folder}/{name}")
                        found.append((name, stat.st_size, stat.st_mtime_ns))
                    except FileNotFoundError:
                        pass  # removed, or renamed, just now
        return sorted(found)

    def end_recovery(self):
        r = self.random
        listening = self.node.await_listening(r.uniform(0, 1.1) * self.node.start_s)
        self.phases["listening" if listening else "before it listened"] += 1
        return self.node.signal(signal.SIGKILL)

    def end_checkpoint(self):
        before, until = self.checkpoint_files(), time.monotonic() + 2.5
        while self.checkpoint != "off" and time.monotonic() < until and self.failure is None:
            if self.checkpoint_files() != before:
                time.sleep(self.random.choice((0, 0, 0.0005, 0.002, 0.005)))
                self.phases["checkpoint files changed"] += 1
                return self.node.signal(signal.SIGKILL)
            time.sleep(0.0003)
        self.phases["no checkpoint seen"] += 1
        return self.node.signal(signal.SIGKILL)

    def end_at(self, point):
        self.fired.clear()
        self.armed = point
        if self.fired.wait(2):
            return True
        self.armed = None
        return self.node.signal(signal.SIGKILL) or self.fired.is_set()

    def end_stopping(self):
        if not self.node.signal(signal.SIGTERM):
            return False
        time.sleep(self.random.choice((0, 0.001, 0.005, 0.01, 0.03)))
        if not self.node.signal(signal.SIGKILL):
            self.phases["it had stopped before"] += 1
        return True

    def end(self, kind):
        ours = {"recovery": self.end_recovery, "checkpoint": self.end_checkpoint, "stopping": self.end_stopping,
                "sent": lambda: self.end_at("sent"), "acknowledged": lambda: self.end_at("acknowledged"),
                "ingest": lambda: self.node.signal(signal.SIGKILL),
                "term": lambda: self.node.signal(signal.SIGTERM)}[kind]()
        code = self.node.await_end()
        if not ours:
            self.node.must_live()
        if kind == "term" and code != 0:
            raise Difference(f"the server answered SIGTERM with {code}: {self.node.stderr()[-2000:]}")
        self.ends[kind] += 1
        files = self.checkpoint_files()
        changed = lambda begin: max((ns for name, _, ns in files if name.startswith(begin)), default=0)
        if changed("part-") > max(changed("manifest-"), self.node.began_ns):
            self.phases["checkpoint without its manifest"] += 1
        self.phases["manifest half written"] += changed("manifest.tmp") > 0

    def round(self, n):
        kinds = dict(KINDS, checkpoint=0) if self.checkpoint == "off" else KINDS
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        if n > 0 and self.random.random() < 0.06:
            self.shards = self.random.choice([x for x in (1, 2, 3) if x != self.shards])
            self.phases["another number of shards"] += 1
            self.write_config()
        self.node.spawn()
        if kind != "recovery":
            self.node.await_listening()
            reports = self.node.stderr()
            self.phases["torn tail found"] += re.search(r"torn_bytes=[1-9]", reports) is not None
            self.phases["started from a checkpoint"] += re.search(r" checkpoint=[1-9]", reports) is not None
            time.sleep(self.random.choice((0, 0.1, 0.4, 1.2)) * self.random.random())
            if (n + 1) % self.options.check_every == 0:
                self.check()
        self.stop_if_failed()
        self.end(kind)

    # -- comparing

    def pause(self):
        with self.gate:
            self.paused = True
            self.gate.notify_all()
            until = time.monotonic() + 2 * GIVE_UP_S
            while len(self.waiting) < len(self.clients) and self.failure is None:
                self.node.must_live()
                if time.monotonic() > until:
                    raise Difference("the clients do not come to rest")
                self.gate.wait(1)
        self.stop_if_failed()

    def go_on(self):
        with self.gate:
            self.paused = False
            self.waiting.clear()
            self.gate.notify_all()

    def compare_rows(self, rule):
        expected = self.record.rows[rule]
        watermark = milliseconds(self.node.get(f"/v1/rules/{rule}/windows?limit=1").json["watermark"])
        lateness = LATENESS_MS if rule == "r" else 30 * DAY_MS
        found = {}
        for row in self.node.rows(rule, state="all"):
            m = row["metrics"]
            place = (milliseconds(row["window_start"]), row["key"].get("key"))
            if place in found:
                raise Difference(f"rule {rule}: twice: {row}")
            found[place] = [m["n"], m["total"], m["low"], m["high"]]
            if row["events"] != m["n"] or row["final"] != (place[0] + RULES[rule] + lateness <= watermark):
                raise Difference(f"rule {rule}, watermark {watermark}: {row}")
        lost = double = 0
        wrong = []
        for place in sorted(set(expected) | set(found), key=str):
            want, have = expected.get(place, [0, 0, None, None]), found.get(place, [0, 0, None, None])
            lost += max(0, want[0] - have[0])
            double += max(0, have[0] - want[0])
            if want != have:
                wrong.append(f"{place}: expected {want}, found {have}")
        if wrong:
            self.record.sums.update(lost=lost, double=double)
            raise Difference(f"rule {rule}: {lost} lost, {double} double, {len(wrong)} rows: " + "; ".join(wrong[:5]))
        return found

    def compare_counters(self):
        record = self.record
        c = self.node.get("/v1/streams").json["streams"][0]["counters"]
        r = next(x for x in self.node.get("/v1/rules").json["rules"] if x["name"] == "r")["counters"]
        if c["received"] != c["accepted"] + c["duplicate"] + c["late"] + c["rejected"]:
            raise Difference(f"the ledger does not add up: {c}")
        if (c["accepted"], c["late"]) != (record.accepted, record.late):
            raise Difference(f"accepted {record.accepted} and late {record.late} in the record; counters: {c}")
        if (r["applied"], r["late"]) != (record.accepted - record.old, record.old):
            raise Difference(f"rule r: accepted {record.accepted}, of these old {record.old}; counters: {r}")
        if not record.told["R"] <= c["rejected"] <= record.attempted["R"]:
            raise Difference(f"rejected {record.told['R']} to {record.attempted['R']}; counters: {c}")
        if not record.told["D"] <= c["duplicate"] or c["received"] > sum(record.attempted.values()):
            raise Difference(f"told {record.told}, attempted {record.attempted}; counters: {c}")

    def compare_dead_letters(self):
        found, cursor = collections.Counter(), None
        while True:
            answer = self.node.get("/v1/dead-letters?limit=1000&stream=s" + (f"&cursor={cursor}" if cursor else ""))
            if answer.status != 200:
                raise Difference(f"dead letters: {answer}")
            for entry in answer.json["entries"]:
                if entry["reason"] in ("late", "future"):
                    found[entry["event"]["id"], tuple(sorted(entry.get("rules", ())))] += 1
            cursor = answer.json.get("next_cursor")
            if not cursor:
                break
        dead = self.record.dead
        if found != dead:
            raise Difference(f"dead letters: missing {list(dead - found)[:5]}, more {list(found - dead)[:5]}")

    def compare_file(self, rows, watermark):
        """All final windows stand in results.db; nothing is pending there (the dead letters were just asked for)."""
        db = sqlite3.connect(self.directory + "/data/results.db")
        have = {(w, k): [n, t, l, h] for w, k, n, t, l, h in
                db.execute("select window_start_ms, key, n, total, low, high from r where final = 1")}
        db.close()
        want = {p: v for p, v in rows.items() if p[0] + WINDOW_MS + LATENESS_MS <= watermark}
        if have != want:
            wrong = [p for p in set(have) | set(want) if have.get(p) != want.get(p)]
            raise Difference(f"results.db: {len(wrong)} rows, such as {wrong[0]}: "
                             f"expected {want.get(wrong[0])}, found {have.get(wrong[0])}")

    def check(self, last=False):
        self.pause()
        try:
            rows = {rule: self.compare_rows(rule) for rule in RULES}
            self.compare_counters()  # of rules they may be behind; not behind the rows just read
            self.compare_dead_letters()
            if last:
                watermark = milliseconds(self.node.get("/v1/rules/r/windows?limit=1").json["watermark"])
                self.compare_file(rows["r"], watermark)
        except (OSError, http.client.HTTPException):
            self.node.must_live()
            raise
        self.record.sums["checks"] += 1
        self.go_on()

    # -- all of it

    def prime(self):
        """Moves the watermark to T0, so that what is meant to be late is late from the first batch on."""
        self.node.spawn()
        self.node.await_listening()
        event = {"id": "first", "ts": T0, "key": KEYS[0], "value": 0}
        answer = self.node.post("/v1/streams/s/events", json.dumps(event))
        if answer.status != 200 or answer.json["accepted"] != 1:
            raise Difference(f"the first event: {answer}")
        self.record.count(dict(event, kind="plain"))
        self.end("term")
        self.ends["term"] -= 1

    def finish(self):
        """Once more over what is then there, and what a stop and a start with another number of shards make of it."""
        for last in (False, True):
            self.node.spawn()
            self.node.await_listening()
            self.check(last=True)
            self.pause()
            if self.node.signal(signal.SIGTERM) and self.node.await_end() != 0:
                raise Difference(f"the last stop: {self.node.stderr()[-2000:]}")
            self.shards = self.shards % 3 + 1
            self.write_config()
            if last:
                break
        with self.gate:
            self.over = True
            self.gate.notify_all()

    def run(self):
        began = time.monotonic()
        try:
            self.leave_out_what_is_unknown()
            self.prime()
            for client in self.clients:
                client.start()
            for n in range(self.rounds):
                self.round(n)
            self.finish()
        except BaseException as e:
            self.fail(e)
            print(f"seed {self.seed}: FAILED in round {sum(self.ends.values()) + 1}: {e}\n"
                  f"seed {self.seed}: data and reports are in {self.directory}", flush=True)
            raise
        finally:
            self.node.close()
            for client in self.clients:
                if client.ident is not None:
                    client.join(GIVE_UP_S)
        if not self.options.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        s = self.record.sums
        print(f"seed {self.seed}: {self.rounds} rounds in {time.monotonic() - began:.1f} s, shards {self.shards}, "
              f"sync {self.sync}, checkpoint {self.checkpoint}, {'trimmed' if self.retain else 'whole'} log, "
              f"{'some late' if self.late else 'none late'}: {s['events']} events in {s['batches']} batches, "
              f"{s['retries']} retries, {s['checks']} checks, {s['lost']} lost, {s['double']} double", flush=True)


def arguments(argv):
    parser = argparse.ArgumentParser(prog="crash.py")
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--campaign", type=int, default=50, metavar="ROUNDS")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--check-every", type=int, default=10, metavar="ROUNDS")
    parser.add_argument("--checkpoint", default="mixed", metavar="EVERY", help="a duration, off, or mixed")
    parser.add_argument("--no-retain", dest="retain", action="store_false", help="never remove old log")
    parser.add_argument("--late", choices=("yes", "no"))
    parser.add_argument("--keep", action="store_true", help="leave the data directories")
    return parser.parse_args(argv)


def crash(argv):
    """Runs campaigns; returns the sums, or raises at the first difference."""
    options = arguments(argv)
    sys.setswitchinterval(0.0005)  # the one who ends the server should not wait for the others' turns
    sums = collections.Counter(lost=0, double=0)
    ends, phases = collections.Counter(), collections.Counter()
    seed, left, began = options.seed, options.rounds, time.monotonic()
    try:
        while left > 0:
            campaign = Campaign(seed, min(left, options.campaign), options)
            try:
                campaign.run()
            finally:
                sums.update(campaign.record.sums)
                ends.update(campaign.ends)
                phases.update(campaign.phases)
            left -= campaign.rounds
            seed += 1
    finally:
        listed = lambda counter: ", ".join(f"{k} {v}" for k, v in sorted(counter.items()) if v) or "none"
        print(f"from seed {options.seed}: {sum(ends.values())} rounds in {time.monotonic() - began:.0f} s")
        print(f"ends: {listed(ends)}")
        print(f"met: {listed(phases)}")
        print(f"clients: {listed(sums)}")
        print(f"{sums['lost']} lost, {sums['double']} double", flush=True)
    return ends, phases, sums


if __name__ == "__main__":
    try:
        crash(sys.argv[1:])
    except Difference:  # told by the campaign
        sys.exit(1)
