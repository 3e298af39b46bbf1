/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Refuse store: as refuse.h, of stores and of what claiming ids in one takes.
 */

#define SECRET         "sixteen-bytes-of"
#define STREAM(more)   "streams: { s: { id: i, time: t, " more " } }\n"
#define STORE(keys)    "stores: { main: { " keys " } }\n"
#define CLUSTER(keys)  "cluster: { " keys " }\n"
#define NODES(list)    STORE("type: redis, nodes: " list)
#define SHARED         "node: { id: a }\n" CLUSTER("name: c, secret: " SECRET) NODES("[h]")
#define CLAIMING(more) STREAM("dedup: { mode: redis" more " }")
#define SINKS(list)    "sinks: { " list " }\n"
#define LIVE           "type: redis, store: main"
#define RULES(keys)                                                                                \
    "streams: { s: { id: i, time: t } }\n"                                                         \
    "rules: { r: { from: s, window: { size: 1m }, metrics: { n: count }, " keys " } }\n"

/* Stores. */
static const struct refuse refuse_stores[] = {
    {"stores: 5\n", "f:1:9: `stores`: found `5`; expected a mapping"},
    {"stores: { Main: {} }\n",
     "f:1:11: `Main` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"stores: { main: }\n", "f:1:11: `main` lacks `type`; expected redis"},
    {"stores: { main: redis }\n", "f:1:17: `main`: found `redis`; expected a mapping"},
    {STORE("nodes: [h]"), "f:1:11: `main` lacks `type`; expected redis"},
    {STORE("type: redis"),
     "f:1:11: `main` lacks `nodes`; expected a list of 1 to 32 of HOST:PORT, [IPV6]:PORT, HOST"},
    {STORE("type: rdis"), "f:1:25: `type: rdis`; expected redis; did you mean `redis`?"},
    {STORE("type: memcached"), "f:1:25: `type: memcached`; expected redis"},
    {STORE("type: redis, node: h"),
     "f:1:32: unknown key `node` in stores.NAME; did you mean `nodes`?"},
    {STORE("type: redis, url: h"),
     "f:1:32: unknown key `url` in stores.NAME; expected one of type, nodes, cluster, timeout, "
     "recent, assume_strict, user, password, password_file, tls"},
    {NODES("[]"),
     "f:1:39: `nodes`: a list of 0; expected a list of 1 to 32 such as [\"10.0.0.1:6379\"]"},
    {NODES("{}"),
     "f:1:39: `nodes`: found a mapping; expected a list of 1 to 32 such as [\"10.0.0.1:6379\"]"},
    {NODES(""),
     "f:1:40: `nodes`: no value; expected a list of 1 to 32 such as [\"10.0.0.1:6379\"]"},
    {NODES("[[h]]"),
     "f:1:40: `nodes`: found a list; expected a list of 1 to 32 such as [\"10.0.0.1:6379\"]"},
    {NODES("[\"\"]"),
     "f:1:40: `nodes`: no value; expected a list of 1 to 32 such as [\"10.0.0.1:6379\"]"},
    {NODES("[h, \"h:6379\"]"), "f:1:43: `h:6379` is here twice"},
    {NODES("[\"h:0\"]"),
     "f:1:40: `nodes: h:0`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"h:65536\"]"),
     "f:1:40: `nodes: h:65536`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"h:\"]"),
     "f:1:40: `nodes: h:`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or [::1]:6379, "
     "or HOST for port 6379"},
    {NODES("[\":6379\"]"),
     "f:1:40: `nodes: :6379`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("\"h:1,g:2\""),
     "f:1:39: `nodes: h:1,g:2`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"redis://h:6379\"]"),
     "f:1:40: `nodes: redis://h:6379`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"::1\"]"),
     "f:1:40: `nodes: ::1`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"[::1\"]"),
     "f:1:40: `nodes: [::1`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[10.0.0.300]"),
     "f:1:40: `nodes: 10.0.0.300`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 or "
     "[::1]:6379, or HOST for port 6379"},
    {NODES("[\"[10.0.0.1]:6379\"]"),
     "f:1:40: `nodes: [10.0.0.1]:6379`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 "
     "or [::1]:6379, or HOST for port 6379"},
    {NODES("[g, h]"), "f:1:39: `nodes`: 2 of them; expected one, or cluster: true"},
    {NODES("[g, h], cluster: false"), "f:1:39: `nodes`: 2 of them; expected one, or cluster: true"},
    {NODES("[h], cluster: yes"), "f:1:53: `cluster: yes`; expected true or false"},
    {NODES("[h], timeout: 9ms"), "f:1:53: `timeout: 9ms`; expected a duration, 10ms to 1m"},
    {NODES("[h], timeout: 61s"), "f:1:53: `timeout: 61s`; expected a duration, 10ms to 1m"},
    {NODES("[h], recent: 999ms"), "f:1:52: `recent: 999ms`; expected a duration, 1s to 1d"},
    {NODES("[h], recent: 25h"), "f:1:52: `recent: 25h`; expected a duration, 1s to 1d"},
    {NODES("[h], recent: off"), "f:1:52: `recent: off`; expected a duration, 1s to 1d"},
    {NODES("[h], assume_strict: 1"), "f:1:59: `assume_strict: 1`; expected true or false"},
    {NODES("[h], user: a b, password: p"), "f:1:50: `user: a b`; expected a text without spaces"},
    {NODES("[h], user: [a], password: p"),
     "f:1:50: `user`: found a list; expected a text without spaces"},
    {NODES("[h], user: \"\", password: p"),
     "f:1:50: `user`: no value; expected a text without spaces"},
    {NODES("[h], user: a"),
     "f:1:44: `user` without a password; expected one of `password` and `password_file`"},
    {NODES("[h], password: \"\""), "f:1:54: `password`: no value; expected 1 to 4096 bytes"},
    {NODES("[h], password: [p]"), "f:1:54: `password`: found a list; expected 1 to 4096 bytes"},
    {NODES("[h], password: (set)"),
     "f:1:54: `password: (set)` says that there is one, not which: it was printed so; write it "
     "here, or use password_file"},
    {NODES("[h], password_file: /nonexistent/p"),
     "f:1:59: `password_file: /nonexistent/p`: cannot be read: not found"},
    {NODES("[h], password_file: \"a\\0b\""), "f:1:59: `password_file`: expected a file path"},
    {NODES("[h], password_file: {}"),
     "f:1:59: `password_file`: found a mapping; expected a file path"},
    {NODES("[h], tls: yes"),
     "f:1:49: `tls: yes`; expected true, false, or { ca_file: FILE, cert_file: FILE, key_file: "
     "FILE }"},
    {NODES("[h], tls: [a]"),
     "f:1:49: `tls`: found a list; expected true, false, or { ca_file: FILE, cert_file: FILE, "
     "key_file: FILE }"},
    {NODES("[h], tls: "),
     "f:1:50: `tls`: no value; expected true, false, or { ca_file: FILE, cert_file: FILE, "
     "key_file: FILE }"},
    {NODES("[h], tls: { cert: a }"),
     "f:1:51: unknown key `cert` in stores.NAME.tls; did you mean `cert_file`?"},
    {NODES("[h], tls: { ca_file: \"\" }"), "f:1:60: `ca_file`: no value; expected a file path"},
    {NODES("[h], tls: { cert_file: a }"),
     "f:1:44: `tls` has `cert_file` without `key_file`; expected both, or neither"},
    {NODES("[h], tls: { ca_file: c, key_file: a }"),
     "f:1:44: `tls` has `key_file` without `cert_file`; expected both, or neither"},
};

/* What claiming ids in a store takes. */
static const struct refuse refuse_shared[] = {
    {CLAIMING(""), "f:1:33: `dedup` lacks `store`; expected one of those under `stores`"},
    {SHARED CLAIMING(""), "f:4:33: `dedup` lacks `store`; expected one of those under `stores`"},
    {SHARED CLAIMING(", store: "), "f:4:63: `store`: no value; expected the name of a store"},
    {SHARED CLAIMING(", store: [main]"),
     "f:4:62: `store`: found a list; expected the name of a store"},
    {SHARED CLAIMING(", store: mian"), "f:4:62: `mian` is no store; did you mean `main`?"},
    {SHARED CLAIMING(", store: other"),
     "f:4:62: `other` is no store; expected one of those under `stores`"},
    {CLAIMING(", store: main"), "f:1:62: `main` is no store; expected one of those under `stores`"},
    {NODES("[h]") CLAIMING(", store: main"),
     "f:2:48: `mode: redis` needs cluster: { name: NAME, secret_file: FILE }, the same on all "
     "nodes"},
    {CLUSTER("name: c, secret: " SECRET) NODES("[h]") CLAIMING(", store: main"),
     "f:3:48: `mode: redis` needs node: { id: NAME }, another one on each node: two of one name "
     "would take each other's claims for their own"},
    {CLUSTER("name: c, secret: " SECRET)
         NODES("[h]") "node: { shards: 1 }\n" CLAIMING(", store: main"),
     "f:4:48: `mode: redis` needs node: { id: NAME }, another one on each node: two of one name "
     "would take each other's claims for their own"},
    {"node: { id: a }\n" CLUSTER("name: c") NODES("[h]") CLAIMING(", store: main"),
     "f:2:1: `cluster` has neither; expected one of `secret` and `secret_file`"},
    {"node: { id: a }\n" CLUSTER("secret: " SECRET) NODES("[h]") CLAIMING(", store: main"),
     "f:2:1: `cluster` lacks `name`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or "
     "-, at most 64"},
    {"node: { id: a }\ncluster:\n" NODES("[h]") CLAIMING(", store: main"),
     "f:2:1: `cluster` lacks `name`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or "
     "-, at most 64"},
    {SHARED,
     "f:2:1: `cluster`: only with a shared store; expected a stream with dedup: { mode: redis }"},
    {SHARED STREAM("dedup: { mode: exact }"),
     "f:2:1: `cluster`: only with a shared store; expected a stream with dedup: { mode: redis }"},
    {CLUSTER("name: c"),
     "f:1:1: `cluster`: only with a shared store; expected a stream with dedup: { mode: redis }"},
    {CLUSTER("name: C"),
     "f:1:18: `name: C`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {CLUSTER("nmae: c"), "f:1:12: unknown key `nmae` in cluster; did you mean `name`?"},
    {CLUSTER("name: c, nodes: [a]"),
     "f:1:21: unknown key `nodes` in cluster; expected one of name, secret, secret_file"},
    {"cluster: c\n", "f:1:10: `cluster`: found `c`; expected a mapping"},
    {CLUSTER("name: c, secret: fifteen-bytes-o"),
     "f:1:29: `secret`: 15 bytes; expected 16 to 4096 bytes"},
    {CLUSTER("name: c, secret: [a]"), "f:1:29: `secret`: found a list; expected 16 to 4096 bytes"},
    {CLUSTER("name: c, secret: \"\""), "f:1:29: `secret`: no value; expected 16 to 4096 bytes"},
    {CLUSTER("name: c, secret: (set)"),
     "f:1:29: `secret: (set)` says that there is one, not which: it was printed so; write it "
     "here, or use secret_file"},
    {CLUSTER("name: c, secret_file: /nonexistent/s"),
     "f:1:34: `secret_file: /nonexistent/s`: cannot be read: not found"},
    {CLUSTER("name: c, secret_file: \"a\\0b\""), "f:1:34: `secret_file`: expected a file path"},
    {CLUSTER("name: c, secret_file:"), "f:1:34: `secret_file`: no value; expected a file path"},
    {"streams: { s: { time: t, dedup: { mode: redis, store: main } } }\n" SHARED,
     "f:1:12: `s` lacks `id`; expected the field that names an event, or dedup: { mode: none }"},
    {SHARED CLAIMING(", store: main, layout: buckets"),
     "f:4:76: `layout: buckets`; expected bucket or key; did you mean `bucket`?"},
    {SHARED CLAIMING(", store: main, outage: wait"),
     "f:4:76: `outage: wait`; expected reject, hold or local"},
    {SHARED CLAIMING(", store: main, ids: 5"),
     "f:4:68: `ids`: it means nothing with mode redis unless outage is local"},
    {SHARED CLAIMING(", store: main, outage: hold, when_full: reject"),
     "f:4:82: `when_full`: it means nothing with mode redis unless outage is local"},
    {SHARED CLAIMING(", store: main, outage: local, error: 1e-4"),
     "f:4:83: `error`: only mode bloom has one"},
    {SHARED CLAIMING(", store: main, hold: true"),
     "f:4:68: unknown key `hold` in streams.NAME.dedup; expected one of mode, horizon, ids, "
     "when_full, error, store, layout, outage, conflicts"},
    {SHARED STREAM("dedup: { store: main }"), "f:4:42: `store`: only mode redis has one"},
    {SHARED STREAM("dedup: { mode: bloom, layout: key }"),
     "f:4:55: `layout`: only mode redis has one"},
    {SHARED STREAM("dedup: { mode: observe, outage: local }"),
     "f:4:57: `outage`: only mode redis has one"},
    {SHARED STREAM("dedup: { mode: none, store: main }"),
     "f:4:54: `store`: it means nothing with mode none"},
    {"log: { retain: 1h }\n" SHARED CLAIMING(", store: main, horizon: 2h"),
     "f:1:16: `log.retain` 1h is less than `streams.s.dedup.horizon` 2h; expected at least as much: claims that Redis "
     "has lost are asserted again from the log"},
    {SHARED CLAIMING(", store: main, horizon: 3d"),
     "f:4:77: `log.retain` 2d is less than `streams.s.dedup.horizon` 3d; expected at least as much: claims that Redis "
     "has lost are asserted again from the log"},
};

/* Sinks, and rules that name them. */
static const struct refuse refuse_sinks[] = {
    {"sinks: [a]\n", "f:1:8: `sinks`: found a list; expected a mapping"},
    {SINKS("L: {}"),
     "f:1:10: `L` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {SINKS("l: {}"), "f:1:10: `l` lacks `type`; expected redis"},
    {SINKS("l: { type: redis }"), "f:1:10: `l` lacks `store`; expected the name of a store"},
    {SINKS("l: { type: rdis }"), "f:1:21: `type: rdis`; expected redis; did you mean `redis`?"},
    {SINKS("l: { type: redis, store: main }"),
     "f:1:35: `main` is no store; expected one of those under `stores`"},
    {NODES("[h]") SINKS("l: { type: redis, store: mian }"),
     "f:2:35: `mian` is no store; did you mean `main`?"},
    {NODES("[h]") SINKS("l: { type: redis, store: [main] }"),
     "f:2:35: `store`: found a list; expected the name of a store"},
    {NODES("[h]") SINKS("l: { " LIVE ", prefx: a }"),
     "f:2:41: unknown key `prefx` in sinks.NAME; did you mean `prefix`?"},
    {NODES("[h]") SINKS("l: { " LIVE ", url: a }"),
     "f:2:41: unknown key `url` in sinks.NAME; expected one of type, store, prefix, ttl"},
    {NODES("[h]") SINKS("l: { " LIVE ", prefix: \"\" }"),
     "f:2:49: `prefix`: no value; expected a text without spaces"},
    {NODES("[h]") SINKS("l: { " LIVE ", prefix: a b }"),
     "f:2:49: `prefix: a b`; expected a text without spaces"},
    {NODES("[h]") SINKS("l: { " LIVE ", ttl: 999ms }"),
     "f:2:46: `ttl: 999ms`; expected off, or a duration, 1s to 3650d"},
    {NODES("[h]") SINKS("l: { " LIVE ", ttl: 3651d }"),
     "f:2:46: `ttl: 3651d`; expected off, or a duration, 1s to 3650d"},
    {RULES("sinks: [live]"), "f:2:77: `live` is no sink; expected one of those under `sinks`"},
    {NODES("[h]") SINKS("live: { " LIVE " }") RULES("sinks: [lvie]"),
     "f:4:77: `lvie` is no sink; did you mean `live`?"},
    {NODES("[h]") SINKS("live: { " LIVE " }") RULES("sinks: [live, live]"),
     "f:4:83: `live` is here twice"},
    {NODES("[h]") SINKS("live: { " LIVE " }") RULES("sinks: {}"),
     "f:4:76: `sinks`: found a mapping; expected a sink, or a list of up to 8 such as [live]"},
    {NODES("[h]") SINKS("live: { " LIVE " }") RULES("sinks: [a, b, c, d, e, f, g, h, i]"),
     "f:4:76: `sinks`: a list of 9; expected a sink, or a list of up to 8 such as [live]"},
    {NODES("[h]") SINKS("live: { " LIVE " }") RULES("sinks: "),
     "f:4:77: `sinks`: no value; expected a sink, or a list of up to 8 such as [live]"},
    {NODES("[h]") SINKS("a: { " LIVE " }, b: { " LIVE " }, c: { " LIVE " }, d: { " LIVE " }, e: { " LIVE
                        " }, f: { " LIVE " }, g: { " LIVE " }, h: { " LIVE " }, i: { " LIVE " }"),
     "f:2:274: `sinks`: more than 8 of them"},
};
