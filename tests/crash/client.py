# SPDX-License-Identifier: Apache-2.0
"""
Client: posts batches of events with ids of its own until it is told 200, and the record of what all clients know.

Event time goes on with a client's batches, and no client is far ahead of the slowest: so windows close on the way, and
only what is meant to be late is.
"""
import collections
import http.client
import json
import random
import threading
import time

from harness import GIVE_UP_S, Answer

T0 = 1700000000000   # event time of the first batch, ms
STEP_MS = 250        # event time from a client's batch to its next
WINDOW_MS = 5000
LATENESS_MS = 15000  # of rule r; more than AHEAD batches and JITTER_MS
JITTER_MS = 3000
AHEAD = 8            # batches that a client may be ahead of the slowest: nothing is late by accident
DAY_MS = 86400000
KEYS = [f"k{i}" for i in range(12)]
RULES = {"r": WINDOW_MS, "wide": DAY_MS}


class Difference(Exception):
    """The server and the record do not agree, or the server did what it must not."""


class Record:
    """What all clients together know: written by each of them under one lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rows = {rule: {} for rule in RULES}  # (window start, key): [count, sum, min, max]
        self.accepted = self.late = self.old = 0  # of distinct ids; old: late for rule r only
        self.dead = collections.Counter()         # (id, the rules it is too late for)
        self.shared = {}                          # number: times answered as accepted
        self.told = collections.Counter()         # letters of all answers
        self.attempted = collections.Counter()    # letters there were at most, if every attempt was taken
        self.sums = collections.Counter()         # for the report

    def count(self, event):
        """An event, acknowledged for the first time; the lock is held."""
        if event["kind"] == "late":
            self.late += 1
            self.dead[event["id"], ("r", "wide") if event["ts"] < T0 else ()] += 1
            return
        self.accepted += 1
        if event["kind"] == "old":
            self.old += 1
            self.dead[event["id"], ("r",)] += 1
        for rule, size in RULES.items():
            if rule == "r" and event["kind"] == "old":
                continue
            place = (event["ts"] // size * size, event["key"] if rule == "r" else None)
            value = event["value"]
            row = self.rows[rule].setdefault(place, [0, 0, value, value])
            row[:] = [row[0] + 1, row[1] + value, min(row[2], value), max(row[3], value)]


class Batch:
    def __init__(self, events):
        self.events = events
        self.body = "\n".join(e["line"] for e in events).encode()
        # A: new. D: known. L: late. R: rejected. ?: shared with other clients, who may have been first.
        self.expected = "".join(e["letter"] for e in events)


class Client(threading.Thread):
    def __init__(self, campaign, number):
        super().__init__(name=f"client {number}", daemon=True)
        self.campaign, self.number = campaign, number
        self.random = random.Random(f"{campaign.seed} {number}")
        self.done = 0        # batches acknowledged
        self.next_id = 0
        self.known = []      # a sample of events acknowledged
        self.connection, self.port = None, None

    def run(self):
        campaign = self.campaign
        try:
            while campaign.may_send(self):
                batch = self.make_batch()
                self.deliver(batch)
                campaign.delivered(self)
                time.sleep(self.random.choice((0, 0, 0.002, 0.005, 0.02)))
        except BaseException as e:  # told by the controller
            campaign.fail(e)
        finally:
            self.disconnect()

    def event(self, kind="plain", shared=None):
        r, now = self.random, T0 + self.done * STEP_MS
        if shared is not None:  # a function of its number: the same bytes, whoever sends it
            r, now = random.Random(f"{self.campaign.seed} shared {shared}"), T0 + shared * STEP_MS
            name = f"shared-{shared}"
        else:
            name = f"{self.number}-{self.next_id}"
            self.next_id += 1
        ts = {"plain": now + r.randrange(-JITTER_MS, JITTER_MS), "old": T0 - 2 * DAY_MS + r.randrange(DAY_MS),
              "late": T0 - 90 * DAY_MS + r.randrange(DAY_MS) if r.random() < 0.7 else 4000000000000}[kind]
        event = {"id": name, "ts": ts, "key": r.choice(KEYS), "value": r.randrange(-50, 51)}
        event["line"] = json.dumps(event)
        event.update(kind=kind, shared=shared, letter="?" if shared is not None else "L" if kind == "late" else "A")
        return event

    def make_batch(self):
        r, late = self.random, self.campaign.late
        events = []
        for _ in range(r.choice((1, 3, 10, 20, 40))):
            x = r.random()
            events.append(self.event("late" if late and x < 0.02 else "old" if late and x < 0.06 else "plain"))
        again = [r.choice(self.known) for _ in range(r.randrange(4))] if self.known else []
        again += [r.choice(events)] if r.random() < 0.2 else []
        events += [dict(e, letter="D") for e in again]  # behind its first copy
        if r.random() < 0.1:
            events.append({"line": '{"key":"no id","value":1}', "letter": "R", "kind": "bad", "shared": None})
        if r.random() < 0.3:
            events.insert(0, self.event(shared=self.done))
        return Batch(events)

    def deliver(self, batch):
        """Posts the same bytes until there is a 200."""
        record, attempts, began = self.campaign.record, 0, time.monotonic()
        sent = False
        while True:
            self.campaign.stop_if_failed()
            if time.monotonic() - began > GIVE_UP_S:
                raise Difference(f"{self.name}: no 200 for a batch in {GIVE_UP_S} s and {attempts} attempts")
            port = self.campaign.node.port
            if port is None:
                time.sleep(0.003)
                continue
            attempts += 1
            with record.lock:
                record.attempted.update(batch.expected)
            answer = self.post(port, batch.body)
            if answer is not None and answer.status == 200:
                return self.note(batch, answer.json, sent)
            if answer is not None and answer.status != 503:
                raise Difference(f"{self.name}: {answer} for {batch.body[:300]!r}")
            sent = True  # it may be in the log
            with record.lock:
                record.sums["retries"] += 1
                record.sums["refused" if answer is not None else "broken"] += 1
            time.sleep(self.random.uniform(0.001, 0.01))

    def post(self, port, body):
        """None: nobody knows."""
        try:
            if self.port != port:
                self.disconnect()
                self.connection, self.port = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S), port
            self.connection.request("POST", "/v1/streams/s/events?return=results", body,
                                    {"Content-Type": "application/x-ndjson"})
            self.campaign.at("sent")
            response = self.connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.disconnect()
            return None

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
        self.connection, self.port = None, None

    def note(self, batch, answer, sent):
        self.campaign.at("acknowledged")
        letters, expected = answer.get("results", ""), batch.expected
        counts = {"A": answer["accepted"], "D": answer["duplicate"], "L": answer["late"], "R": answer["rejected"]}
        if len(letters) != len(expected) or any(letters.count(x) != n for x, n in counts.items()) or \
                answer["received"] != len(expected):
            raise Difference(f"{self.name}: an answer that contradicts itself: {answer}")
        as_new = all(e in (x, "?") for e, x in zip(expected, letters))
        as_again = sent and all(x == "D" if e in "ADL" else e in (x, "?") for e, x in zip(expected, letters))
        if not as_new and not as_again:
            with self.campaign.record.lock:
                pairs = collections.Counter(zip(expected, letters))
                self.campaign.record.sums.update(double=pairs["D", "A"], lost=0 if sent else pairs["A", "D"])
            wrong = next(i for i, (e, x) in enumerate(zip(expected, letters)) if e not in (x, "?"))
            raise Difference(f"{self.name}: a batch {'' if sent else 'not '}sent before: expected {expected}, was told "
                             f"{letters}; the first that differs: {batch.events[wrong]['line']}")
        record = self.campaign.record
        with record.lock:
            record.told.update(letters)
            record.sums["events"] += len(letters)
            record.sums["batches"] += 1
            record.sums["taken before"] += not as_new
            for event, letter in zip(batch.events, letters):
                if event["shared"] is not None and event["letter"] == "?":
                    if event["shared"] not in record.shared:
                        record.count(event)
                        record.shared[event["shared"]] = 0
                    record.shared[event["shared"]] += letter == "A"
                    if record.shared[event["shared"]] > 1:
                        record.sums["double"] += 1
                        raise Difference(f"{event['line']} was accepted twice")
                elif event["letter"] in "AL":
                    record.count(event)
        for event in batch.events:
            if event["letter"] in "AL?":
                if len(self.known) < 2000:
                    self.known.append(event)
                else:
                    self.known[self.random.randrange(2000)] = event
