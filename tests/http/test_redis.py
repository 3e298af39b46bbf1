# SPDX-License-Identifier: Apache-2.0
"""
Redis: several nodes over real Redis servers (tests/http/redis.py), with clients that send the same batches to several
nodes at once and retry (tests/crash/shared.py): whatever happens to nodes, Redis and connections, each id is counted
once in the sum of the nodes. A node that cannot be sure says so in /readyz, and goes on by itself when things are right
again.

Kills of nodes in great number: tests/crash/redis.py.
"""
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from datetime import datetime

from harness import MILLRACE, until
from redis import Redis, cluster, free_port, is_installed, redis
from test_operation import certificate

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))
from crash_redis import campaign  # noqa: E402
from shared import Load, Node, nodes  # noqa: E402


def lines(ids, **more):
    return "\n".join(json.dumps({"id": i, "ts": 1700000000000, "key": "k", "value": 1, **more}) for i in ids)


def post(node, ids, **more):
    return node.post("/v1/streams/s/events?return=results", lines(ids, **more))


def must_refuse(answer, *words):
    assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0, answer
    assert all(w in answer.json["detail"] for w in words), answer


def await_reason(node, *words):
    """Until /readyz is 503 and says these words."""
    last = [None]

    def says():
        last[0] = node.ready()
        return last[0] is not None and all(w in last[0] for w in words)
    try:
        until(f"{node.name}: {words}", says)
    except AssertionError as e:
        raise AssertionError(f"{e}: {last[0]}") from None
    return last[0]


def await_outage(node, *words):
    """Until it takes nothing: from its doubts on that lasts as long as the store's timeout."""
    await_reason(node, *words)
    until("it takes nothing", lambda: "nothing of this request was taken" in
          post(node, ["probe"]).json.get("detail", ""))


def claims(all_nodes, name):
    return int(sum(node.metric(f"millrace_claims_{name}_total") for node in all_nodes))


# ---- counted once ----

def test_three_nodes_bucket():
    with redis() as r, nodes(3, [r.address]) as three:
        with Load(three, seed=1, groups=3, copies=2) as load:
            load.wait(400)
        assert load.compare() > 1000
        assert sum(1 for node in three if node.counters()["accepted"] > 0) == 3


def test_two_nodes_key():
    with redis() as r, nodes(2, [r.address], layout="key", outage="hold") as two:
        with Load(two, seed=2) as load:
            load.wait(300)
        load.compare()
        ids = list(load.sent)[:100]
        assert all(post(node, ids).json["duplicate"] == 100 for node in two)
        assert r.call("DBSIZE") >= len(load.sent)
        ttl_ms = [r.call("PTTL", key) for key in r.call("KEYS", "d:*")[:20]]
        assert all(3600000 <= ms <= 2 * 3600000 for ms in ttl_ms), ttl_ms  # horizon to two horizons


def test_whether_an_id_was_seen():
    """By whichever node: one that never saw it knows, too. Not while Redis is away."""
    for layout in ("bucket", "key"):
        with redis() as r, nodes(2, [r.address], layout=layout, outage="hold", timeout="1s") as (one, other):
            before = time.time()
            assert post(one, ["a"]).json["accepted"] == 1
            for node in (one, other):
                page = node.get("/v1/streams/s/events/a").json
                assert page["seen"] and page["first_seen"]["from"] <= page["first_seen"]["to"], page
                until_s = datetime.fromisoformat(page["remembered_until"].replace("Z", "+00:00")).timestamp()
                assert until_s >= before + 3600 - 1, page  # the horizon
                page = node.get("/v1/streams/s/events/b").json
                assert not page["seen"] and page["first_seen"] is None and page["remembered_until"] is None, page
            r.kill()
            await_reason(one, r.address)
            answer = one.get("/v1/streams/s/events/a")
            assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0, answer
            r.start()
            one.await_ready()
            assert one.get("/v1/streams/s/events/a").json["seen"]


# ---- ends of nodes and of Redis ----

def test_nodes_killed():
    """kill -9 of a node at random points, under load; more of it: tests/crash/redis.py."""
    sums = campaign(seed=3, rounds=6, check_every=3)
    assert sums["rounds"] == 6 and sums["lost"] == sums["double"] == 0


def test_redis_killed_and_stopped_and_cut():
    with redis() as r, nodes(2, [r.address]) as two:
        with Load(two, seed=4) as load:
            load.wait(50)
            for _ in range(2):
                r.kill()
                time.sleep(0.3)
                r.start()
                load.wait(50)
            for _ in range(5):
                r.call("CLIENT", "KILL", "TYPE", "normal")
                load.wait(10)
            r.pause()
            time.sleep(3)
            for node in two:
                await_reason(node, r.address)
            r.go_on()
            load.wait(50)
        assert load.sums["refused"] > 0
        load.compare()
        for node in two:
            node.await_ready()


# ---- outage ----

def test_outage_reject():
    with redis() as r, nodes(1, [r.address]) as (node,):
        assert post(node, ["a", "b"]).json["accepted"] == 2
        r.kill()
        await_outage(node, "store main", r.address, "not connected")
        before = node.counters()
        for _ in range(3):
            must_refuse(post(node, ["a", "c"]), "nothing of this request was taken", "/readyz")
        assert node.counters() == before
        assert sum(row["metrics"]["n"] for row in node.rows("r")) == 2
        assert node.get("/livez").status == 200
        assert node.metric("millrace_store_strict") == 0
        r.start()
        node.await_ready()
        answer = post(node, ["a", "c"]).json
        assert answer["results"] == "DA", answer
        assert node.metric("millrace_store_strict") == 1


def rss_mib(node):
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_outage_hold():
    """Pending, also over the death of the node; then decided, each once; however many there are, in no more memory."""
    with redis() as r, nodes(2, [r.address], outage="hold") as (one, other):
        assert post(one, ["a"]).json["results"] == "A"
        r.kill()
        await_reason(one, r.address)
        await_reason(other, r.address)
        for node in (one, other):
            answer = post(node, ["a", "b", "b"]).json
            assert answer["pending"] == 3 and answer["results"] == "PPP", answer
        assert one.counters()["pending"] == other.counters()["pending"] == 3
        hold = lambda n: [f"held-{n}-{k}" for k in range(1000)]
        for n in range(20):
            assert post(one, hold(n), pad="x" * 300).json["pending"] == 1000
        before = rss_mib(one)
        for n in range(20, 120):
            assert post(one, hold(n), pad="x" * 300).json["pending"] == 1000
        grown = rss_mib(one) - before
        assert grown < 16, f"{grown} MiB more for 100,000 events of 400 bytes held"
        assert one.counters()["pending"] == 120003
        one.kill()
        one.start()
        assert one.counters()["pending"] == 120003
        assert post(one, ["c"]).json["results"] == "P"
        r.start()
        for node in (one, other):
            node.await_ready()
            node.await_decided()
        got = one.counters(), other.counters()
        assert got[0]["accepted"] + got[1]["accepted"] == 120003, got
        until("answers that say", lambda: "P" not in post(one, ["a", "b", "c"]).json["results"])
        counted = sum((node.counts() for node in (one, other)), collections.Counter())
        assert len(counted) == 120003 and set(counted.values()) == {1}


def await_alone(node):
    until(f"{node.name} to decide alone", lambda: "this node alone" in node.get("/readyz").json.get("detail", ""))


def test_outage_local():
    """Each node goes on by what it has counted itself, and says so; then the ids are claimed, and doubles are counted."""
    with redis() as r, nodes(2, [r.address], outage="local", timeout="1s") as (one, other):
        assert post(one, ["a", "b"]).json["results"] == "AA"
        assert post(other, ["a"]).json["results"] == "D"
        r.kill()
        for node in (one, other):
            await_alone(node)
            assert node.get("/readyz").status == 200
        answer = post(one, ["a", "c", "c"]).json
        assert answer["results"] == "DAD" and answer["approximate"] is True, answer
        assert post(other, ["c", "d", "a"]).json["results"] == "AAA"  # it has counted neither
        one.kill()
        one.start()
        assert "this node alone" not in one.ready()  # it gives Redis some time first
        must_refuse(post(one, ["c"]), "nothing of this request was taken")
        await_alone(one)
        assert post(one, ["c", "e"]).json["results"] == "DA"
        assert all(row["approximate"] for row in one.rows("r"))
        page = one.get("/v1/streams/s").json["local"]
        assert page["events"] == 5 and page["spans"][0]["event_from"] == "2023-11-14T22:13:20.000Z", page
        r.start()
        for node in (one, other):
            node.await_ready()
        # a and c; of a, one had its claim: it says so, too, if the other was faster
        until("the doubles to be known", lambda: claims((one, other), "counted_twice") in (2, 3))
        assert post(other, ["e", "b"]).json["results"] == "DD"
        answer = post(one, ["d", "c", "f"]).json
        assert answer["results"] == "DDA" and "approximate" not in answer, answer
        for node in (one, other):
            node.await_decided()
        counted = sum((node.counts() for node in (one, other)), collections.Counter())
        assert counted == dict(a=2, b=1, c=2, d=1, e=1, f=1), counted


# ---- is it strict ----

def test_settings_of_redis():
    with redis() as r, nodes(2, [r.address]) as two, Load(two, seed=5) as load:
        for setting, bad, good in (("maxmemory-policy", "allkeys-lru", "noeviction"),
                                   ("appendfsync", "everysec", "always")):
            load.wait(30)
            r.call("CONFIG", "SET", setting, bad)
            for node in two:
                reason = await_reason(node, setting, bad, good)
                assert r.address in reason, reason
                must_refuse(post(node, ["0-0-0"]))  # counted before
            r.call("CONFIG", "SET", setting, good)
            for node in two:
                node.await_ready()
        load.wait(30)
        load.finish()
        load.compare()




def must_tell_of_refusals(r, node, spoil, words, mend):
    spoil()
    answers = []
    told = threading.Event()

    def send():
        while not told.is_set():
            answers.append(node.post("/v1/streams/s/events", lines(["refused"]), connection=node.connect()).status)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        await_reason(node, words)
        until("it is refused", lambda: 503 in answers)
    finally:
        told.set()
        sender.join()
    mend()
    node.await_ready()
    until("it goes on", lambda: post(node, ["refused"]).status == 200)
    assert set(answers) == {503}, answers


def test_redis_full():
    with redis() as r, nodes(1, [r.address]) as (node,):
        must_tell_of_refusals(r, node, lambda: r.call("CONFIG", "SET", "maxmemory", "1mb"), "OOM",
                              lambda: r.call("CONFIG", "SET", "maxmemory", "0"))


def test_redis_without_its_replicas():
    with redis() as r, nodes(1, [r.address]) as (node,):
        must_tell_of_refusals(r, node, lambda: r.call("CONFIG", "SET", "min-replicas-to-write", "1"), "NOREPLICAS",
                              lambda: r.call("CONFIG", "SET", "min-replicas-to-write", "0"))


def test_command_not_allowed():
    with redis() as r, nodes(1, [r.address]) as (node,):
        must_tell_of_refusals(r, node, lambda: r.call("ACL", "SETUSER", "default", "-evalsha"), "NOPERM",
                              lambda: r.call("ACL", "SETUSER", "default", "+evalsha"))


def lose_data(layout):
    with redis() as r, nodes(2, [r.address], layout=layout) as two, Load(two, seed=6) as load:
        load.wait(50)
        r.call("SCRIPT", "FLUSH")
        load.wait(50)
        r.call("FLUSHALL")
        for node in two:
            await_reason(node, "asserted again")
        load.wait(30)  # it goes on by itself
        assert claims(two, "repaired") > 0
        load.finish()
        for node in two:
            node.await_ready()
        load.compare(reported=claims(two, "counted_twice"))
        assert load.sums["double"] == 0
        ids = list(load.sent)
        for node in two:
            assert post(node, ids[:500]).json["accepted"] == 0


def test_data_of_redis_lost_bucket():
    lose_data("bucket")


def test_data_of_redis_lost_key():
    lose_data("key")


def test_log_shorter_than_the_horizon():
    """By time it is refused; by bytes the node says that it cannot assert all of its claims again."""
    with redis() as r, nodes(1, [r.address], layout="key", checkpoint="100ms", log=", retain_bytes: 8MiB") as (node,):
        for n in range(40):
            assert post(node, [f"{n}-{k}" for k in range(1000)], pad="x" * 500).json["accepted"] == 1000
        for _ in range(2):  # the one before needs its log, too
            assert node.post("/v1/checkpoint", "").status == 200
        until("the log to be cut", lambda: node.metric("millrace_log_bytes") < 10 << 20)
        r.call("FLUSHALL")
        until("it says so", lambda: "claims_not_asserted" in node.said())
        node.await_ready()
        assert post(node, [f"39-{k}" for k in range(1000)]).json["duplicate"] == 1000
        node.stop()
        node.change(log=", retain: 30m")
        node.start(expect_failure=True)
        assert "`log.retain` 30m is less than `streams.s.dedup.horizon` 1h" in node.said(), node.said()


def test_data_of_redis_lost_while_asserted():
    """Once more in the middle of the recovery: what was asserted before that is gone again."""
    with redis() as r, nodes(2, [r.address], layout="key") as (one, other):
        for n in range(12):
            body = lines([f"{n}-{k}" for k in range(10000)])
            until("it is taken", lambda: one.post("/v1/streams/s/events", body).status == 200)
        r.call("FLUSHALL")
        until("the middle of an assertion", lambda: r.call("DBSIZE") > 20000)
        r.call("FLUSHALL")
        for node in (one, other):
            node.await_ready()
        for n in range(12):
            body = lines([f"{n}-{k}" for k in range(0, 10000, 10)])
            answer = other.post("/v1/streams/s/events", body).json
            assert answer["duplicate"] == 1000, (n, answer)


def test_replica_that_lagged():
    """A copy from some time ago takes the place of the master: what was claimed since is asserted again."""
    with redis() as r, nodes(2, [r.address]) as two, Load(two, seed=7) as load:
        replica = Redis(r.directory / "replica", replicaof=("127.0.0.1", str(r.port)), repl_diskless_sync_delay="0")
        try:
            replica.start()
            until("a replica in step", lambda: replica.info("master_link_status") == "up")
            load.wait(50)
            replica.call("REPLICAOF", "NO", "ONE")
            load.wait(50)
            r.kill()
        finally:
            replica.close()
        r.directory = replica.directory
        r.start()
        load.wait(50)
        load.finish()
        for node in two:
            node.await_ready()
        assert claims(two, "repaired") > 0
        load.compare(reported=claims(two, "counted_twice"))


def test_nodes_that_differ_are_refused():
    """Another secret, horizon or layout: the node says what differs, takes nothing, and does not disturb the others."""
    with redis() as r, nodes(1, [r.address]) as (one,):
        for n, (change, words) in enumerate((({"secret": "another of 16 bytes or more"}, ("hash of the key",)),
                                             ({"horizon": "2h"}, ("3600000", "7200000")),
                                             ({"layout": "key"}, ("bucket", "key")))):
            node = Node(f"other{n}", [r.address], **change)
            try:
                node.start()
                await_reason(node, "store main", "of the nodes that share", *words)
                must_refuse(post(node, ["a"]))
            finally:
                node.close()
        assert post(one, ["a"]).json["results"] == "A"
        assert one.ready() is None


def test_assume_strict():
    with redis(appendonly="no") as r:
        node = Node("n1", [r.address])
        try:
            node.start()
            await_reason(node, "appendonly is no: set yes")
            node.stop()
            node.change(store=", assume_strict: true")
            node.start().await_ready()
            assert post(node, ["a", "a"]).json["results"] == "AD"
        finally:
            node.close()


def test_one_name_for_two_nodes():
    """Their tokens differ by the incarnation of the log: nothing is counted twice."""
    with redis() as r, nodes(2, [r.address]) as two:
        two[1].stop()
        two[1].change(node="n1")
        second = Node("n1", [r.address])
        try:
            second.start().await_ready()
            pair = [two[0], second]
            with Load(pair, seed=8) as load:
                load.wait(100)
            load.compare()
        finally:
            second.close()


# ---- Redis Cluster ----

def reshard(c, giver, taker, slots):
    done = subprocess.run(["redis-cli", "--cluster", "reshard", giver.address, "--cluster-from", c.id_of(giver),
                           "--cluster-to", c.id_of(taker), "--cluster-slots", str(slots), "--cluster-yes"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def go_through_cluster(layout):
    """Slots move under load; then a master dies and its replica takes over, without what it had not got yet."""
    with cluster() as c, nodes(3, c.addresses, cluster_mode="true", layout=layout) as three, \
            Load(three, seed=9, groups=3) as load:
        load.wait(50)
        giver, taker, _ = c.masters()
        reshard(c, giver, taker, 300)
        load.wait(50)
        for node in three:
            node.await_ready()
        assert sum(node.metric("millrace_store_lost_total") for node in three) == 0
        taker.kill()
        for node in three:
            await_reason(node, "store main")
        load.wait(50)
        load.finish()
        for node in three:
            node.await_ready()
        assert sum(node.metric("millrace_store_suspected_total") for node in three) >= 3
        load.compare(reported=claims(three, "counted_twice"))
        taker.start()  # as a replica
        c.await_ok()
        assert post(three[0], ["when all is well"]).json["results"] == "A"


def test_cluster_bucket():
    go_through_cluster("bucket")


def test_cluster_key():
    go_through_cluster("key")


# ---- logging in ----

def test_user_and_password():
    user = ("millrace", "on", ">right-word", "~c:*", "~b:*", "~d:*", "~millrace:*", "&*", "-@all", "+ping", "+info",
            "+config|get", "+get", "+set", "+evalsha", "+hmget", "+exists", "+hset", "+hsetnx", "+hgetall", "+hdel",
            "+pttl", "+pexpire", "+client|setname", "+script|load")
    with redis(requirepass="main-word", user=user, login=("default", "main-word")) as r:
        node = Node("n1", [r.address])
        secret = node.directory / "word"
        try:
            for store, words in ((", user: millrace, password: wrong-word", ("WRONGPASS",)), ("", ("NOAUTH",))):
                node.change(store=store)
                node.start()
                await_reason(node, r.address, *words)
                must_refuse(post(node, ["a"]))
                node.stop()
            secret.write_text("right-word\n")
            for layout, store in (("bucket", "password: right-word"), ("key", f"password_file: {secret}")):
                node.change(store=f", user: millrace, {store}", layout=layout, cluster=layout, data=layout)
                node.start().await_ready()
                answer = post(node, [layout] * 2)
                assert answer.json.get("results") == "AD", answer
                node.stop()
            said = node.stderr() + subprocess.run([MILLRACE, "check", str(node.config)], capture_output=True,
                                                  text=True).stdout
            assert "right-word" not in said and "wrong-word" not in said
        finally:
            node.close()


def test_tls():
    """With a certificate on both sides; one that is not known is refused, by either."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("redis", "other"):
            certificate(pathlib.Path(directory), name)
        cert, other = (f"{directory}/{name}.pem" for name in ("redis", "other"))
        key, other_key = (f"{directory}/{name}.key" for name in ("redis", "other"))
        port = free_port()
        with redis(tls_port=str(port), tls_cert_file=cert, tls_key_file=key, tls_ca_cert_file=cert):
            node = Node("n1", [f"localhost:{port}"])
            try:
                for ca, client, client_key in ((other, cert, key), (cert, other, other_key)):
                    node.change(store=f", tls: {{ ca_file: {ca}, cert_file: {client}, key_file: {client_key} }}")
                    node.start()
                    await_reason(node, f"localhost:{port}", "certificate" if ca == other else "unknown ca")
                    must_refuse(post(node, ["a"]))
                    node.stop()
                node.change(store=f", tls: {{ ca_file: {cert}, cert_file: {cert}, key_file: {key} }}")
                node.start().await_ready()
                answer = post(node, ["a", "b", "a"])
                assert answer.json.get("results") == "AAD", answer
                node.stop()
            finally:
                node.close()


def run(tests, at_once=2):
    """As harness.run, several at once: most of the time each waits for something to be noticed."""
    chosen = sys.argv[1:]
    waiting = [(name, test) for name, test in tests.items()
               if name.startswith("test_") and callable(test) and (not chosen or name in chosen)]
    results = []

    def work():
        while waiting:
            name, test = waiting.pop(0)
            began = time.monotonic()
            try:
                test()
                results.append(True)
                print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:
                results.append(False)
                print(f"{traceback.format_exc()}FAIL {name}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{results.count(True)} passed, {results.count(False)} failed", flush=True)
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    if not is_installed():
        print("skipped: redis-server is not installed\n0 passed, 0 failed")
        sys.exit(0)
    run(globals())
