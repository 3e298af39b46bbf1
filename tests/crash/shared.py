# SPDX-License-Identifier: Apache-2.0
"""
Shared: several nodes over one Redis, clients that send the same batches to several of them at once and retry until they
are told 200, and what all nodes together must have counted: each id once.

Batch i of a group is a function of (seed, group, i), so that whoever sends it sends the same bytes. The rule `each`
counts by id, over all time: so what is lost or double is known by name.
"""
import collections
import contextlib
import http.client
import json
import pathlib
import random
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from harness import GIVE_UP_S, Answer, Server, until  # noqa: E402

T0 = 1700000000000
DAY_MS = 86400000
KEYS = [f"k{i}" for i in range(7)]

CONFIG = """
node: {{ id: {node}, data_dir: "@DIR@/{data}", shards: {shards} }}
http: {{ listen: 127.0.0.1:0, threads: 2 }}
limits: {{ body: 1MiB, inflated: 1MiB }}
log: {{ segment: 4MiB{log} }}
checkpoint: {{ every: {checkpoint} }}
cluster: {{ name: {cluster}, secret: "{secret}" }}
stores:
  main: {{ type: redis, nodes: [{addresses}], cluster: {cluster_mode}, timeout: {timeout}{store} }}
streams:
  s:
    id: id
    time: {{ field: ts, format: ms }}
    dedup: {{ mode: redis, store: main, layout: {layout}, outage: {outage}, horizon: {horizon} }}
    watermark: {{ out_of_orderness: 2d, idle_timeout: off }}
rules:
  r:
    from: s
    group_by: [key]
    window: {{ type: tumbling, size: 10s }}
    metrics: {{ n: count, total: {{ sum: value }} }}
  each:
    from: s
    group_by: [id]
    window: {{ type: tumbling, size: 1d }}
    metrics: {{ n: count }}
"""


class Difference(Exception):
    """The nodes and what the clients know do not agree."""


class Node(Server):
    """A server whose port is None while it is down."""

    def __init__(self, name, addresses, **more):
        values = dict(node=name, data="data", shards=2, checkpoint="1s", log="", cluster="t",
                      secret="a secret of 16 bytes and more", addresses=", ".join(f'"{a}"' for a in addresses),
                      cluster_mode="false", timeout="4s", store="", layout="bucket", outage="reject", horizon="1h")
        assert set(more) <= set(values), more
        self.name = name
        self.values = dict(values, **more)
        super().__init__(CONFIG.format(**self.values))

    def change(self, **more):
        """For the next start."""
        self.values.update(more)
        self.configure(CONFIG.format(**self.values))

    def kill(self):
        self.port = None
        super().kill()

    def stop(self):
        self.port = None
        return super().stop()

    def ready(self):
        """None, or why it is not."""
        answer = self.get("/readyz")
        return None if answer.status == 200 else answer.json.get("detail", answer.body.decode())

    def await_ready(self):
        last = [None]

        def is_so():
            assert self.process.poll() is None, f"{self.name} ended: {self.said()[-2000:]}"
            last[0] = self.ready()
            # /readyz is a moment ahead of the reports, and of taking events
            return last[0] is None and \
                re.findall("event=(store_away|store_strict)", self.said())[-1:] == ["store_strict"]
        try:
            until(f"{self.name} ready", is_so)
        except AssertionError as e:
            raise AssertionError(f"{e}: {last[0]}") from None
        return self

    def counters(self):
        return self.get("/v1/streams/s").json["counters"]

    def await_decided(self):
        """Until nothing is pending, and what was decided has taken effect: then the ledger adds up."""
        def is_so():
            c = self.counters()
            return c["pending"] == 0 and \
                c["received"] == c["accepted"] + c["duplicate"] + c["late"] + c["rejected"]
        try:
            until(f"{self.name} to decide all", is_so)
        except AssertionError as e:
            raise Difference(f"{e}: {self.counters()}, {self.ready()}") from None

    def counts(self):
        """Of each id, how often it was counted here."""
        return collections.Counter({row["key"]["id"]: row["metrics"]["n"] for row in self.rows("each")})


@contextlib.contextmanager
def nodes(count, addresses, **more):
    """Nodes n1…, started and ready."""
    all_of_them = [Node(f"n{i + 1}", addresses, **more) for i in range(count)]
    try:
        for node in all_of_them:
            node.start()
        for node in all_of_them:
            node.await_ready()
        yield all_of_them
    except BaseException:
        for node in all_of_them:
            if node.process is not None:
                sys.stderr.write(f"-- {node.name}\n{node.stderr()[-2500:]}")
        raise
    finally:
        for node in all_of_them:
            node.close()


def event(seed, group, i, k):
    r = random.Random(f"{seed} {group} {i} {k}")
    return {"id": f"{group}-{i}-{k}", "ts": T0 + i * 200 + r.randrange(1000), "key": r.choice(KEYS),
            "value": r.randrange(1 << 30)}


class Batch:
    def __init__(self, seed, group, i, size):
        r = random.Random(f"{seed} {group} {i}")
        new = [event(seed, group, i, k) for k in range(r.choice((1, size // 2 + 1, size)))]
        again = [r.choice(new) for _ in range(r.choice((0, 0, 1, 3)))]
        if i > 0 and r.random() < 0.4:
            again.append(event(seed, group, r.randrange(max(0, i - 30), i), 0))
        self.events = new + again
        self.body = "\n".join(json.dumps(e) for e in self.events).encode()


class Load:
    """`groups` times `copies` clients: the copies of a group send the same batches, each to a node of its own first,
    and to any when that one fails them."""

    def __init__(self, nodes_, seed=1, groups=2, copies=2, size=20, pause_s=0.002, ahead=60, before=None):
        self.nodes, self.seed, self.size, self.pause_s, self.ahead = nodes_, seed, size, pause_s, ahead
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.failure = None
        self.sent = before.sent if before else {}  # id: event, of all batches begun
        self.told_new = before.told_new if before else collections.Counter()  # id: 200s that said A of it
        self.sums = before.sums if before else collections.Counter()
        self.first = before.first + groups if before else 0  # another load over the same nodes: other groups
        self.done = {(self.first + g, c): 0 for g in range(groups) for c in range(copies)}
        self.threads = [threading.Thread(target=self.run, args=key, daemon=True) for key in self.done]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        self.finish(kind is not None)

    def finish(self, failed=False):
        self.over.set()
        if failed:
            self.failure = self.failure or Difference("given up")
        for thread in self.threads:
            thread.join(3 * GIVE_UP_S)
        if self.failure is not None and not failed:
            raise self.failure

    def run(self, group, copy):
        r = random.Random(f"{self.seed} {group} {copy} sending")
        home = self.nodes[(group + copy) % len(self.nodes)]
        connections = {}
        try:
            while not self.over.is_set() and self.failure is None:
                i = self.done[group, copy]
                if i > min(d for (g, _), d in self.done.items() if g == group) + self.ahead:
                    time.sleep(0.005)
                    continue
                self.deliver(Batch(self.seed, group, i, self.size), home, connections, r)
                self.done[group, copy] += 1
                time.sleep(self.pause_s * r.random() * 2)
        except BaseException as e:  # told by who waits
            self.failure = self.failure or e
        finally:
            for connection, _ in connections.values():
                connection.close()

    def deliver(self, batch, node, connections, r):
        with self.lock:
            self.sent.update({e["id"]: e for e in batch.events})
        began = time.monotonic()
        while True:
            if self.failure is not None:
                raise self.failure
            if time.monotonic() - began > GIVE_UP_S:
                raise Difference(f"no 200 for a batch in {GIVE_UP_S} s: {self.sums}")
            answer = self.post(node, batch.body, connections)
            if answer is not None and answer.status == 200:
                return self.note(batch, answer.json)
            if answer is not None and (answer.status != 503 or "Retry-After" not in answer.headers):
                raise Difference(f"{node.name}: {answer} {answer.headers}")
            with self.lock:
                self.sums["refused" if answer is not None else "broken"] += 1
            time.sleep(r.uniform(0.005, 0.05))
            if r.random() < 0.5:
                node = r.choice(self.nodes)

    def post(self, node, body, connections):
        """None: nobody knows."""
        port = node.port
        if port is None:
            return None
        connection, was = connections.get(node.name, (None, None))
        try:
            if was != port:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
                connections[node.name] = connection, port
            connection.request("POST", "/v1/streams/s/events?return=results", body,
                               {"Content-Type": "application/x-ndjson"})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            connections.pop(node.name, None)
            return None

    def note(self, batch, answer):
        letters = answer["results"]
        counts = {"A": answer["accepted"], "D": answer["duplicate"], "P": answer.get("pending", 0)}
        if len(letters) != len(batch.events) or any(letters.count(x) != n for x, n in counts.items()) or \
                sum(counts.values()) != len(letters):
            raise Difference(f"an answer that contradicts itself: {answer}")
        with self.lock:
            self.sums.update(batches=1, events=len(letters), pending=counts["P"])
            for event, letter in zip(batch.events, letters):
                if letter == "A":
                    self.told_new[event["id"]] += 1

    def wait(self, batches):
        """Until so many more batches were acknowledged."""
        goal = self.sums["batches"] + batches

        def is_so():
            if self.failure is not None:
                raise self.failure
            return self.sums["batches"] >= goal
        until(f"{batches} more batches", is_so)

    # -- comparing

    def compare(self, reported=0):
        """Each id sent was counted once, by one node; but for as many as the nodes said they counted twice. In the key
        layout they say how many it may be: claims that were sent into a store that had just lost its data stand there
        as if they counted."""
        for node in self.nodes:
            node.await_decided()
        counts = sum((node.counts() for node in self.nodes), collections.Counter())
        lost = [i for i in self.sent if counts[i] == 0]
        double = [i for i, n in counts.items() if n > 1]
        strange = [i for i in counts if i not in self.sent]
        twice = [i for i, n in self.told_new.items() if n > 1]
        doubles = sum(counts[i] - 1 for i in double)
        self.sums["lost"], self.sums["double"], self.sums["reported"] = len(lost), doubles, reported
        at_most = self.nodes[0].values["layout"] == "key"
        if lost or strange or not (doubles <= reported if at_most else doubles == reported) or len(twice) > doubles:
            raise Difference(f"of {len(self.sent)} ids {len(lost)} lost {lost[:3]}, {doubles} double {double[:3]} "
                             f"where {reported} were reported, {len(twice)} told twice as new {twice[:3]}, "
                             f"{len(strange)} strange; {dict(self.sums)}")
        if not doubles:
            self.compare_windows()
        return len(self.sent)

    def compare_windows(self):
        expected, found = {}, {}
        for e in self.sent.values():
            row = expected.setdefault((e["ts"] // 10000, e["key"]), [0, 0])
            row[:] = [row[0] + 1, row[1] + e["value"]]
        for node in self.nodes:
            for row in node.rows("r"):
                place = found.setdefault((seconds(row["window_start"]) // 10, row["key"]["key"]), [0, 0])
                place[:] = [place[0] + row["metrics"]["n"], place[1] + row["metrics"]["total"]]
        if found != expected:
            wrong = [p for p in set(expected) | set(found) if expected.get(p) != found.get(p)]
            raise Difference(f"{len(wrong)} windows, such as {wrong[0]}: expected {expected.get(wrong[0])}, "
                             f"found {found.get(wrong[0])}")


def seconds(text):
    from datetime import datetime, timezone
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp())
