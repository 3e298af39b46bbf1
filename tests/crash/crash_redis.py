# SPDX-License-Identifier: Apache-2.0
"""
Crash over Redis: nodes that share claims are killed again and again, and Redis with them, while clients send the same
batches to several nodes at once and retry until they are told 200 (tests/crash/shared.py).

usage: crash_redis.py [rounds] [seed] [--campaign ROUNDS] [--check-every ROUNDS] [--nodes N] [--flush]

A round is one end: node (SIGKILL at any moment), recovery (again, while it starts), term (SIGTERM), all (every node
at once), redis (SIGKILL, and back after a while), both (Redis and a node), pause (SIGSTOP for a while), cut (all
connections), flush and lose (only with --flush: FLUSHALL; the second kills a node in the recovery). Every
--check-every rounds the clients end, and each id sent must have been counted once in the sum of all nodes; doubles only
as many as the nodes reported. Ends with sums; with 1 at the first difference.
"""
import argparse
import collections
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from redis import redis  # noqa: E402
from shared import Difference, Load, nodes  # noqa: E402

KINDS = {"node": 6, "recovery": 3, "term": 1, "all": 1, "redis": 2, "both": 2, "pause": 1, "cut": 2}


class Campaign:
    def __init__(self, seed, server, all_nodes):
        self.random = random.Random(f"{seed} campaign over redis")
        self.seed, self.server, self.nodes = seed, server, all_nodes
        self.ends = collections.Counter()  # rounds of each kind, the one that runs too
        self.doubles = 0   # that nodes reported, by processes that have ended
        self.load = None

    def wait_a_while(self, longest_s):
        time.sleep(self.random.choice((0, 0.1, 1)) * self.random.random() * longest_s)

    def reported(self, node):
        return int(node.metric("millrace_claims_counted_twice_total"))

    def end_node(self, node, number="kill"):
        self.doubles += self.reported(node)
        getattr(node, number)()

    def node(self):
        node = self.random.choice(self.nodes)
        self.end_node(node)
        self.wait_a_while(0.5)
        node.start()

    def recovery(self):
        node = self.random.choice(self.nodes)
        self.end_node(node)
        node.start()
        self.wait_a_while(0.3)  # it asks what the log has left undecided
        self.end_node(node)
        node.start()

    def term(self):
        node = self.random.choice(self.nodes)
        self.end_node(node, "stop")
        node.start()

    def all(self):
        for node in self.nodes:
            self.end_node(node)
        for node in self.random.sample(self.nodes, len(self.nodes)):
            node.start()

    def redis(self):
        self.server.kill()
        self.wait_a_while(1)
        self.server.start()

    def both(self):
        node = self.random.choice(self.nodes)
        first = self.random.random() < 0.5
        if first:
            self.end_node(node)
        self.server.kill()
        self.wait_a_while(0.5)
        if not first:
            self.end_node(node)
        if self.random.random() < 0.5:
            node.start()
            self.server.start()
        else:
            self.server.start()
            node.start()

    def pause(self):
        self.server.pause()
        self.wait_a_while(2)
        self.server.go_on()

    def cut(self):
        for _ in range(self.random.randrange(1, 6)):
            self.server.call("CLIENT", "KILL", "TYPE", "normal")
            self.wait_a_while(0.05)

    def flush(self):
        for node in self.nodes:  # one that is not up would be waited for
            node.await_ready()
        self.server.call("FLUSHALL")
        self.load.wait(20)
        for node in self.nodes:
            node.await_ready()

    def lose(self):
        """FLUSHALL, and a node dies in the recovery."""
        for node in self.nodes:
            node.await_ready()
        self.server.call("FLUSHALL")
        self.wait_a_while(5)
        node = self.random.choice(self.nodes)
        self.end_node(node)
        node.start()
        for node in self.nodes:
            node.await_ready()

    def round(self, kinds):
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        self.wait_a_while(0.5)
        self.ends[kind] += 1
        getattr(self, kind)()

    def check(self):
        self.load.finish()
        for node in self.nodes:
            node.await_ready()
        self.load.compare(self.doubles + sum(self.reported(node) for node in self.nodes))
        known = self.random.sample(sorted(self.load.sent), min(200, len(self.load.sent)))
        for node in self.nodes:
            answer = node.post("/v1/streams/s/events", "\n".join(f'{{"id":"{i}","ts":1700000000000}}' for i in known))
            if answer.status != 200 or answer.json["duplicate"] != len(known):
                raise Difference(f"{node.name}: ids that are known: {answer}")

    def run(self, rounds, check_every, kinds):
        for n in range(rounds):
            if n % check_every == 0:
                self.load = Load(self.nodes, self.seed, before=self.load).start()
                self.load.wait(20)
            self.round(kinds)
            if (n + 1) % check_every == 0 or n + 1 == rounds:
                self.check()


def campaign(seed, rounds, check_every=10, count=2, kinds=None):
    """One data directory a node; returns sums, or raises at the first difference."""
    r = random.Random(f"{seed} settings")
    settings = dict(layout=r.choice(("bucket", "key")), outage=r.choice(("reject", "hold")),
                    checkpoint=r.choice(("100ms", "300ms", "1s")), shards=r.choice((1, 2, 3)))
    began = time.monotonic()
    with redis() as server, nodes(count, [server.address], **settings) as all_nodes:
        c = Campaign(seed, server, all_nodes)
        try:
            c.run(rounds, check_every, kinds or KINDS)
        except BaseException as e:
            print(f"seed {seed}, {settings}: FAILED in round {sum(c.ends.values())} of {dict(c.ends)}: {e}", flush=True)
            raise
        finally:
            if c.load is not None:
                c.load.over.set()
    sums = dict(c.load.sums, ids=len(c.load.sent), rounds=sum(c.ends.values()))
    print(f"seed {seed}, {settings}: {sums['rounds']} rounds in {time.monotonic() - began:.1f} s, {dict(c.ends)}, "
          f"{sums}", flush=True)
    return collections.Counter(sums)


def main(argv):
    parser = argparse.ArgumentParser(prog="crash_redis.py")
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--campaign", type=int, default=40, metavar="ROUNDS")
    parser.add_argument("--check-every", type=int, default=10, metavar="ROUNDS")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--flush", action="store_true")
    options = parser.parse_args(argv)
    kinds = dict(KINDS, flush=3, lose=3) if options.flush else KINDS
    sums, left, seed = collections.Counter(), options.rounds, options.seed
    try:
        while left > 0:
            sums.update(campaign(seed, min(left, options.campaign), options.check_every, options.nodes, kinds))
            left -= options.campaign
            seed += 1
    finally:
        print(f"{sums['rounds']} rounds, {sums['ids']} ids, {sums['events']} events, "
              f"{sums['refused'] + sums['broken']} retries: {sums['lost']} lost, {sums['double']} double", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (AssertionError, Difference):  # told by the campaign
        sys.exit(1)
