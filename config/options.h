/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Options: the one table of everything that can stand in a configuration: name, type, bounds,
 * default and meaning. Loading, checking, "did you mean", `millrace check`, help and docs/CONFIG.md
 * come from it.
 *
 * Idea        A scope is a mapping in the file; its options fill the fields of one struct (the holder). Scopes inside
 *             a stream or a rule share that stream's or rule's holder.
 *
 *                 streams:                 ROOT       holder: mr_config
 *                   clicks:                STREAM     holder: mr_config_stream
 *                     dedup:               DEDUP      the same one
 *                       horizon: 24h       a value    its field dedup.horizon_ms
 *
 * Shape       Rows of six kinds, in the order of help and of the printed file:
 *                 V  a value          scope, holder, key, type, field, minimum, maximum, default, doc
 *                 C  one of a few     scope, holder, key, field, choices, default, doc
 *                 F  one of a few, only one of which this version has (no field)
 *                                     scope, key, choices, default, doc
 *                 S  a scope in it    scope, key, scope, presence, doc
 *                 U  read by code     scope, key, name (mr_option_load_<name>, _print_<name>), default, values, doc
 *                 L  known, but not in this version: scope, key
 *             A default of MR_NEEDED: must be given; MR_OPTIONAL: may be left out, and then is nothing.
 *             A row of a stream or a rule also has a line in config/change.c: what a change of it does to state.
 * Units       Bounds: milliseconds, bytes, counts; of a RATE in 10^-9.
 */
#include "base/check.h"
#include "base/limits.h"
#include "config/config.h"
#include "config/value.h"

#define MR_NEEDED   NULL
#define MR_OPTIONAL ""

#define MR_TOKENS_MAX       1024
#define MR_HTTP_THREADS_MAX 64
#define MR_CPUS_AUTO_MAX    16 /* shards and threads that `auto` takes at most */
#define MR_TOP_MAX          1000
#define MR_COLLECT_MAX      10000

#define MR_MS_10MS  10
#define MR_MS_100MS 100
#define MR_MS_1S    1000
#define MR_MS_1M    60000
#define MR_MS_1H    3600000
#define MR_MS_1D    86400000
#define MR_MS_10Y   UINT64_C(315360000000) /* 3650d */
#define MR_MS_100Y                                                                                 \
    UINT64_C(3153600000000) /* 36500d: as good as never, and its sums fit in 64 bits */
#define MR_KIB UINT64_C(1024)
#define MR_MIB (1024 * MR_KIB)
#define MR_GIB (1024 * MR_MIB)
#define MR_TIB (1024 * MR_GIB)

/* X(scope, where: as shown in messages and help) */
#define MR_SCOPES(X)                                                                               \
    X(ROOT, "")                                                                                    \
    X(NODE, "node")                                                                                \
    X(HTTP, "http")                                                                                \
    X(TLS, "http.tls")                                                                             \
    X(AUTH, "auth")                                                                                \
    X(TOKEN, "auth.tokens.NAME")                                                                   \
    X(LIMITS, "limits")                                                                            \
    X(LOG, "log")                                                                                  \
    X(CHECKPOINT, "checkpoint")                                                                    \
    X(CLUSTER, "cluster")                                                                          \
    X(STORE, "stores.NAME")                                                                        \
    X(STORE_TLS, "stores.NAME.tls")                                                                \
    X(SINK, "sinks.NAME")                                                                          \
    X(LOOKUP, "lookups.NAME")                                                                      \
    X(STREAM, "streams.NAME")                                                                      \
    X(TIME, "streams.NAME.time")                                                                   \
    X(DEDUP, "streams.NAME.dedup")                                                                 \
    X(WATERMARK, "streams.NAME.watermark")                                                         \
    X(RULE, "rules.NAME")                                                                          \
    X(WINDOW, "rules.NAME.window")                                                                 \
    X(TRIGGER, "rules.NAME.trigger")                                                               \
    X(METRIC, "rules.NAME.metrics.NAME")                                                           \
    X(GROUPS, "rules.NAME.groups")

/* Kinds of values. The C type of the field is checked when config/options.c is compiled. */
#define MR_OPTION_TYPES(X)                                                                         \
    X(NAME)         /* struct mr_bytes */                                                          \
    X(TEXT)         /* struct mr_bytes; a file path: any text but an empty one or one with NUL */  \
    X(WORD)         /* struct mr_bytes; any characters but spaces and control characters */        \
    X(FIELD)        /* struct mr_bytes; a dotted path into an event */                             \
    X(COLUMN)       /* struct mr_bytes; the name of a column of a file */                          \
    X(EXPR)         /* struct mr_config_expr; an expression over an event's fields */              \
    X(COUNT)        /* uint32_t */                                                                 \
    X(COUNT64)      /* uint64_t */                                                                 \
    X(CPUS)         /* uint32_t, or `auto` */                                                      \
    X(BYTES)        /* uint64_t */                                                                 \
    X(BYTES_OFF)    /* uint64_t, or `off`: UINT64_MAX */                                           \
    X(DURATION)     /* int64_t */                                                                  \
    X(DURATION_OFF) /* int64_t, or `off`: INT64_MAX */                                             \
    X(RATE)         /* double */

/* clang-format off */
#define MR_OPTIONS_PROCESS(V, C, F, S, U, L)                                                       \
    S(ROOT, "node", NODE, MR_OPTIONAL, "Who this process is and where its data lies.")             \
    S(ROOT, "http", HTTP, MR_OPTIONAL, "Where and how it listens.")                                \
    S(ROOT, "auth", AUTH, MR_OPTIONAL, "Who may use it.")                                          \
    S(ROOT, "limits", LIMITS, MR_OPTIONAL, "What one request and all of them may take.")           \
    S(ROOT, "log", LOG, MR_OPTIONAL, "The durable event log.")                                     \
    S(ROOT, "checkpoint", CHECKPOINT, MR_OPTIONAL, "How state is saved, for a quick start.")       \
    S(ROOT, "cluster", CLUSTER, MR_OPTIONAL, "The nodes that share a store. Only with one.")       \
    U(ROOT, "stores", stores, MR_OPTIONAL, "a mapping NAME: store, up to 8",                       \
      "The services beside it that nodes share.")                                                  \
    U(ROOT, "sinks", sinks, MR_OPTIONAL, "a mapping NAME: sink, up to 8",                          \
      "Where results are sent to, besides this node's own store of them.")                         \
    U(ROOT, "lookups", lookups, MR_OPTIONAL, "a mapping NAME: lookup, up to 16",                   \
      "Tables from files, for expressions to look things up in. A file is read at the start.")     \
    U(ROOT, "streams", streams, MR_OPTIONAL, "a mapping NAME: stream, 1 to 64",                    \
      "The named inputs. Left out: the built-in stream `events`.")                                 \
    U(ROOT, "rules", rules, MR_OPTIONAL, "a mapping NAME: rule, up to 256",                        \
      "The aggregations. Without streams and rules: the built-in rule `events_by_type`.")          \
    L(ROOT, "results")                                                                             \
    V(NODE, mr_config, "id", NAME, node.id, 0, 0, "node-1",                                        \
      "Name of this node, unique among those that write to one place. With dedup mode redis it "   \
      "must be given.")                                                                            \
    V(NODE, mr_config, "data_dir", TEXT, node.data_dir, 0, 0, "./millrace-data",                   \
      "Directory of the log and of all else that must outlive the process.")                       \
    V(NODE, mr_config, "shards", CPUS, node.shards, 1, MR_SHARDS_MAX, "auto",                      \
      "Threads that remove duplicates and aggregate. auto: half of the processors, 1 to 16.")      \
    U(HTTP, "listen", listen, "127.0.0.1:8080",                                                    \
      "ADDRESS:PORT, [IPV6]:PORT, an address (port 8080) or a port (of 127.0.0.1)",                \
      "Where to listen. Port 0 takes any free one. Beyond loopback needs tokens and TLS.")         \
    V(HTTP, mr_config, "threads", CPUS, http.threads, 1, MR_HTTP_THREADS_MAX, "auto",              \
      "Threads that read and decode requests. auto: half of the processors, 1 to 16.")             \
    S(HTTP, "tls", TLS, MR_OPTIONAL, "Serve HTTPS with this certificate.")                         \
    C(HTTP, mr_config, "allow_insecure", http.allow_insecure, mr_choices_bool, "false",            \
      "Listen beyond loopback even without tokens or without TLS.")                                \
    V(HTTP, mr_config, "connections", COUNT, http.connections, 1, 100000, "1000",                  \
      "Connections at a time.")                                                                    \
    V(HTTP, mr_config, "connections_per_address", COUNT, http.connections_per_address, 0, 100000,  \
      "0", "Connections of one client address at a time. 0: no limit below the total.")            \
    V(HTTP, mr_config, "header_timeout", DURATION, http.header_timeout_ms, MR_MS_10MS, MR_MS_1H,   \
      "10s", "Time for a request's whole header to come in.")                                      \
    V(HTTP, mr_config, "body_timeout", DURATION, http.body_timeout_ms, MR_MS_10MS, MR_MS_1H,       \
      "60s", "Time for a request's whole body to come in.")                                        \
    V(HTTP, mr_config, "idle_timeout", DURATION, http.idle_timeout_ms, MR_MS_10MS, MR_MS_1H,       \
      "75s", "Time that a connection may stay open between requests.")                             \
    L(HTTP, "redirects")                                                                           \
    V(TLS, mr_config, "cert_file", TEXT, http.tls_cert_file, 0, 0, MR_NEEDED,                      \
      "Certificate chain, PEM.")                                                                   \
    V(TLS, mr_config, "key_file", TEXT, http.tls_key_file, 0, 0, MR_NEEDED, "Private key, PEM.")   \
    U(AUTH, "tokens", tokens, MR_OPTIONAL, "a mapping NAME: token, up to 1024",                    \
      "Bearer tokens, by the hash of their secret. None: no authentication.")                      \
    U(TOKEN, "sha256", sha256, MR_OPTIONAL, "64 hexadecimal digits",                               \
      "SHA-256 of the token. Either this or sha256_file.")                                         \
    U(TOKEN, "sha256_file", sha256_file, MR_OPTIONAL, "a file path",                               \
      "File that holds the 64 digits.")                                                            \
    U(TOKEN, "allow", allow, MR_NEEDED, "a list of ingest, query, admin", "What the token may do.")\
    U(TOKEN, "streams", token_streams, MR_OPTIONAL, "a list of streams",                           \
      "Which streams it may use. Left out: all of them.")                                          \
    L(TOKEN, "quota")                                                                              \
    V(LIMITS, mr_config, "body", BYTES, limits.body_bytes, MR_KIB, MR_GIB, "32MiB",                \
      "One request body as sent.")                                                                 \
    V(LIMITS, mr_config, "inflated", BYTES, limits.inflated_bytes, MR_KIB, MR_GIB, "64MiB",        \
      "One request body after inflating; at least `body`.")                                        \
    V(LIMITS, mr_config, "inflate_ratio", COUNT, limits.inflate_ratio, 1, 100000, "200",           \
      "How many times its size a body may inflate to.")                                            \
    V(LIMITS, mr_config, "event", BYTES, limits.event_bytes, 64, MR_GIB, "1MiB",                   \
      "One event; a longer one is rejected alone.")                                                \
    V(LIMITS, mr_config, "batch_events", COUNT, limits.batch_events, 1, 1000000, "100000",         \
      "Events of one request.")                                                                    \
    V(LIMITS, mr_config, "in_flight", BYTES, limits.in_flight_bytes, MR_MIB, MR_TIB, "256MiB",     \
      "All requests not yet answered; at least `body` + `inflated`, so that one always fits.")     \
    V(LIMITS, mr_config, "memory", BYTES, limits.memory_bytes, 16 * MR_MIB, 64 * MR_TIB, "4GiB",   \
      "The whole process; a configuration that adds up to more is refused.")                       \
    C(LOG, mr_config, "sync", log.sync, mr_choices_sync, "group",                                  \
      "group: an answer means on disk. off: an answer means in the page cache.")                   \
    V(LOG, mr_config, "segment", BYTES, log.segment_bytes, MR_MIB, 16 * MR_GIB, "128MiB",          \
      "Size of one log file; at least `limits.inflated` + 1MiB.")                                  \
    V(LOG, mr_config, "reserve", BYTES, log.reserve_bytes, 0, 64 * MR_TIB, "64MiB",                \
      "Disk space that is kept free: below it events are refused.")                                \
    V(LOG, mr_config, "retain", DURATION_OFF, log.retain_ms, MR_MS_1M, MR_MS_10Y, "48h",           \
      "How long events are kept; longer while a start needs them. off: for ever.")                 \
    V(LOG, mr_config, "retain_bytes", BYTES_OFF, log.retain_bytes, 2 * MR_MIB, 64 * MR_TIB,        \
      "50GiB", "Disk space that they take, at most; more while a start needs it. At least two "    \
      "segments. off: no bound.")                                                                  \
    V(CHECKPOINT, mr_config, "every", DURATION, checkpoint.every_ms, MR_MS_100MS, MR_MS_1D, "30s", \
      "Time between two checkpoints. A start reads the last one and the log behind it.")

#define MR_OPTIONS_CLUSTER(V, C, F, S, U, L)                                                       \
    V(CLUSTER, mr_config, "name", NAME, cluster.name, 0, 0, MR_NEEDED,                             \
      "Name of the cluster, the same on all nodes; what they share begins with it.")               \
    U(CLUSTER, "secret", secret, MR_OPTIONAL, "16 to 4096 bytes",                                  \
      "The same on all nodes; ids are hashed with it. Either this or secret_file.")                \
    U(CLUSTER, "secret_file", secret_file, MR_OPTIONAL, "a file path",                             \
      "File that holds the secret; a newline at its end is left out.")                             \
    F(STORE, "type", mr_choices_store, MR_NEEDED, "redis: Redis 7.0 or newer, or Redis Cluster.")  \
    U(STORE, "nodes", nodes, MR_NEEDED, "a list of 1 to 32 of HOST:PORT, [IPV6]:PORT, HOST",       \
      "Where it listens; port 6379 where none is given. Exactly one without cluster: true, some "  \
      "of them with it.")                                                                          \
    C(STORE, mr_config_store, "cluster", cluster, mr_choices_bool, "false",                        \
      "It is a Redis Cluster.")                                                                    \
    V(STORE, mr_config_store, "timeout", DURATION, timeout_ms, MR_MS_10MS, MR_MS_1M, "200ms",      \
      "Time for an answer to come; after it the connection is made anew.")                         \
    V(STORE, mr_config_store, "recent", DURATION, recent_ms, MR_MS_1S, MR_MS_1D, "1m",             \
      "How far back ids are claimed again after Redis restarted or failed over.")                  \
    C(STORE, mr_config_store, "assume_strict", assume_strict, mr_choices_bool, "false",            \
      "Take what a managed service does not tell (its eviction policy, its persistence) to be "    \
      "right.")                                                                                    \
    V(STORE, mr_config_store, "user", WORD, user, 0, 0, MR_OPTIONAL,                               \
      "User to log in as, with a password. Left out: the default user.")                           \
    U(STORE, "password", password, MR_OPTIONAL, "1 to 4096 bytes",                                 \
      "Its password. At most one of this and password_file.")                                      \
    U(STORE, "password_file", password_file, MR_OPTIONAL, "a file path",                           \
      "File that holds the password; a newline at its end is left out.")                           \
    U(STORE, "tls", store_tls, "false", "true, false, or a mapping",                               \
      "Connect with TLS.")                                                                         \
    V(STORE_TLS, mr_config_store, "ca_file", TEXT, tls_ca_file, 0, 0, MR_OPTIONAL,                 \
      "Certificates, PEM, one of which must have signed the store's. Left out: the system's.")     \
    V(STORE_TLS, mr_config_store, "cert_file", TEXT, tls_cert_file, 0, 0, MR_OPTIONAL,             \
      "Certificate chain to show, PEM; with key_file.")                                            \
    V(STORE_TLS, mr_config_store, "key_file", TEXT, tls_key_file, 0, 0, MR_OPTIONAL,               \
      "Its private key, PEM.")                                                                     \
    F(SINK, "type", mr_choices_sink, MR_NEEDED, "redis: a hash for each rule, window and group.")  \
    U(SINK, "store", sink_store, MR_NEEDED, "the name of a store", "Where it is.")                 \
    V(SINK, mr_config_sink, "prefix", WORD, prefix, 0, 0, MR_OPTIONAL,                             \
      "What its keys begin with; another one on each node. Left out: millrace:NODE.ID: of this "   \
      "node.")                                                                                     \
    V(SINK, mr_config_sink, "ttl", DURATION_OFF, ttl_ms, MR_MS_1S, MR_MS_10Y, "7d",                \
      "A result goes so long after it changed last. off: it stays.")                               \
    U(LOOKUP, "file", lookup_file, MR_NEEDED, "a file path",                                       \
      "A CSV file with a header, at most 256MiB, relative to the working directory. Rules that "   \
      "use it begin anew when its content changes.")                                               \
    V(LOOKUP, mr_config_lookup, "key", COLUMN, key_column, 0, 0, MR_NEEDED,                        \
      "The column to look for.")                                                                   \
    V(LOOKUP, mr_config_lookup, "value", COLUMN, value_column, 0, 0, MR_NEEDED,                    \
      "The column to find.")

#define MR_OPTIONS_STREAM(V, C, F, S, U, L)                                                        \
    U(STREAM, "id", id, MR_OPTIONAL, "a field, or a list of up to 4",                              \
      "What names an event, the id proper last. May be left out with dedup mode none only.")       \
    U(STREAM, "time", time, MR_NEEDED, "a field, or a mapping of field and format",                \
      "Where the event time stands.")                                                              \
    C(STREAM, mr_config_stream, "missing_id", reject_missing_id, mr_choices_missing_id, "reject",  \
      "An event without id. accept: it is then never a duplicate.")                                \
    C(STREAM, mr_config_stream, "missing_time", reject_missing_time, mr_choices_missing_time,      \
      "arrival", "An event without time. arrival: it gets the time when it came in.")              \
    U(STREAM, "derive", derive, MR_OPTIONAL, "a mapping NAME: expression, up to 32",               \
      "Fields that are computed from others; rules use them as any field. A rule that uses one "   \
      "begins anew when it changes.")                                                              \
    S(STREAM, "dedup", DEDUP, MR_OPTIONAL, "How duplicates are found.")                            \
    S(STREAM, "watermark", WATERMARK, MR_OPTIONAL, "When event time counts as complete.")          \
    V(TIME, mr_config_stream, "field", FIELD, time_field, 0, 0, MR_NEEDED, "The field.")           \
    C(TIME, mr_config_stream, "format", time_format, mr_choices_time, "ms",                        \
      "Unit of numbers; strings of RFC 3339 are always understood. rfc3339: only these.")          \
    C(DEDUP, mr_config_stream, "mode", dedup.mode, mr_choices_dedup, "exact",                      \
      "exact: a table of ids. bloom: a filter, smaller, with false positives. redis: strict "      \
      "across nodes, ids are claimed in a store. observe: exact, but duplicates are only counted. "\
      "none: every event is new.")                                                                 \
    V(DEDUP, mr_config_stream, "horizon", DURATION, dedup.horizon_ms, MR_MS_1S, MR_MS_10Y, "24h",  \
      "How long an id is remembered, at least.")                                                   \
    V(DEDUP, mr_config_stream, "ids", COUNT64, dedup.ids, 1, UINT64_C(100000000000), "10000000",   \
      "How many ids are remembered at a time, over all shards. Mode redis: only for outage local.")\
    C(DEDUP, mr_config_stream, "when_full", dedup.when_full, mr_choices_when_full, "reject",       \
      "reject: answer 503 until ids expire. evict_oldest: forget the oldest early.")               \
    V(DEDUP, mr_config_stream, "error", RATE, dedup.error, 10000, 100000000, "1e-4",               \
      "Share of new events that mode bloom may take for duplicates.")                              \
    U(DEDUP, "store", dedup_store, MR_OPTIONAL, "the name of a store",                             \
      "Mode redis, which needs it: where ids are claimed.")                                        \
    C(DEDUP, mr_config_stream, "layout", dedup.layout, mr_choices_layout, "bucket",                \
      "Mode redis. bucket: many ids in a hash, several times faster. key: a key for each id, "     \
      "readable by others. All nodes must have the same.")                                         \
    C(DEDUP, mr_config_stream, "outage", dedup.outage, mr_choices_outage, "reject",                \
      "Mode redis, while the store is away or may have forgotten ids. reject: answer 503. hold: "  \
      "take events, decide later. local: this node's own table decides.")                          \
    C(DEDUP, mr_config_stream, "conflicts", dedup.conflicts, mr_choices_conflicts, "ignore",       \
      "Mode exact. detect: an event of a known id whose text is not that of the first one is a "   \
      "dead letter, besides being a duplicate; an id takes 36 bytes instead of 24. ignore: only "  \
      "ids are compared.")                                                                         \
    V(WATERMARK, mr_config_stream, "out_of_orderness", DURATION, watermark.out_of_orderness_ms, 0, \
      MR_MS_10Y, "30s", "How far behind the newest event others may come in order.")               \
    V(WATERMARK, mr_config_stream, "idle_timeout", DURATION_OFF, watermark.idle_timeout_ms,        \
      MR_MS_1S, MR_MS_10Y, "1m",                                                                   \
      "Silence after which time goes on by the clock. off: it waits for events.")                  \
    V(WATERMARK, mr_config_stream, "max_future", DURATION, watermark.max_future_ms, 0, MR_MS_10Y,  \
      "5m", "Events further ahead of the clock are refused as late.")                              \
    V(WATERMARK, mr_config_stream, "source", FIELD, watermark.source, 0, 0, MR_OPTIONAL,           \
      "Names the sender of an event: time goes on when all senders that are not idle have. Left "  \
      "out: the newest event of any decides.")

#define MR_OPTIONS_RULE(V, C, F, S, U, L)                                                          \
    U(RULE, "from", from, MR_NEEDED, "a stream, or a list of up to 8",                             \
      "The streams whose events it aggregates.")                                                   \
    V(RULE, mr_config_rule, "where", EXPR, where, 0, 0, MR_OPTIONAL,                               \
      "Which events it takes. Left out: all of them.")                                             \
    U(RULE, "group_by", group_by, MR_OPTIONAL, "a field, or a list of up to 8",                    \
      "One result per window and combination of these. Left out: one per window.")                 \
    S(RULE, "window", WINDOW, MR_NEEDED, "How event time is cut.")                                 \
    V(RULE, mr_config_rule, "allowed_lateness", DURATION, allowed_lateness_ms, 0, MR_MS_100Y,      \
      "5m", "How long after its end a window still takes events, each time with a new result.")    \
    S(RULE, "trigger", TRIGGER, MR_OPTIONAL, "When results come out.")                             \
    U(RULE, "metrics", metrics, MR_NEEDED, "a mapping NAME: metric, 1 to 64",                      \
      "count, or a mapping with one function, such as { sum: FIELD }.")                            \
    S(RULE, "groups", GROUPS, MR_OPTIONAL, "The bound on open groups.")                            \
    U(RULE, "sinks", rule_sinks, MR_OPTIONAL, "a sink, or a list of up to 8",                      \
      "Where its results are sent to.")                                                            \
    C(WINDOW, mr_config_rule, "type", window.kind, mr_choices_window, "tumbling",                  \
      "tumbling: one behind the other. sliding: one begins every `every`. session: of events of a "\
      "group less than `gap` apart. global: one, for ever.")                                       \
    V(WINDOW, mr_config_rule, "size", DURATION, window.size_ms, 1, MR_MS_10Y, MR_OPTIONAL,         \
      "Tumbling and sliding, which need it: length of a window. Windows begin at multiples of it " \
      "(sliding: of `every`) since 1970.")                                                         \
    V(WINDOW, mr_config_rule, "every", DURATION, window.every_ms, 1, MR_MS_10Y, MR_OPTIONAL,       \
      "Sliding, which needs it: from the beginning of one window to that of the next, at most "    \
      "`size`. An event is in 100000 windows at most; if in more than 1000, the rule has no early "    \
      "panes, and `allowed_lateness` is at most 1000 times `every`.")                                              \
    V(WINDOW, mr_config_rule, "offset", DURATION, window.offset_ms, 0, MR_MS_10Y, "0s",            \
      "Tumbling and sliding: windows begin so much later, less than `size` (sliding: `every`).")   \
    V(WINDOW, mr_config_rule, "time_zone", WORD, window.time_zone, 0, 0, MR_OPTIONAL,              \
      "Tumbling, with a size of whole days: a name such as Europe/Berlin, by whose clock days "    \
      "begin, some of them 23 or 25 hours long. Left out: UTC.")                                   \
    V(WINDOW, mr_config_rule, "gap", DURATION, window.gap_ms, 1, MR_MS_10Y, MR_OPTIONAL,           \
      "Session, which needs it: silence that ends one.")                                           \
    V(WINDOW, mr_config_rule, "max", DURATION_OFF, window.max_ms, 1, MR_MS_10Y, "off",             \
      "Session: the longest one, at least twice `gap`. off: any length.")                               \
    V(TRIGGER, mr_config_rule, "early", DURATION, trigger.early_ms, 0, MR_MS_10Y, "0s",            \
      "A result before the window's end, so long after a change; at least 100ms. 0s: off.")        \
    V(TRIGGER, mr_config_rule, "early_count", COUNT64, trigger.early_count, 0, 1000000000, "0",    \
      "A result before the window's end after so many events of a group. 0: off.")                 \
    C(TRIGGER, mr_config_rule, "late", trigger.late, mr_choices_bool, "true",                      \
      "A new result for each change within lateness. false: one, when the lateness is over.")      \
    C(TRIGGER, mr_config_rule, "panes", trigger.panes, mr_choices_panes, "accumulating",           \
      "accumulating: a result holds the whole value, and replaces the one before. discarding: "    \
      "only what came since the one before. accumulating_and_retracting: the whole value, and "    \
      "before it what it takes back.")                                                             \
    U(METRIC, "count", metric_count, MR_OPTIONAL, "events",                                        \
      "{ count: events, where: EXPRESSION }: how many. Without where and from: just `count`.")     \
    U(METRIC, "sum", metric_field, MR_OPTIONAL, "a field", "Their sum.")                           \
    U(METRIC, "min", metric_field, MR_OPTIONAL, "a field", "The least number.")                    \
    U(METRIC, "max", metric_field, MR_OPTIONAL, "a field", "The greatest number.")                 \
    U(METRIC, "avg", metric_field, MR_OPTIONAL, "a field", "Their mean.")                          \
    U(METRIC, "variance", metric_field, MR_OPTIONAL, "a field", "Their variance.")                 \
    U(METRIC, "stddev", metric_field, MR_OPTIONAL, "a field", "Its square root.")                  \
    U(METRIC, "first", metric_field, MR_OPTIONAL, "a field", "The value of the earliest event.")   \
    U(METRIC, "last", metric_field, MR_OPTIONAL, "a field", "The value of the latest event.")      \
    U(METRIC, "distinct", metric_field, MR_OPTIONAL, "a field",                                    \
      "How many different values, within `error`.")                                                \
    U(METRIC, "quantiles", quantiles, MR_OPTIONAL, "a list of 1 to 16 ascending numbers, 0 to 1",  \
      "{ quantiles: [0.5, 0.95], of: FIELD }: the values below which such shares lie, within "     \
      "`error`.")                                                                                  \
    V(METRIC, mr_config_metric_def, "of", FIELD, field, 0, 0, MR_OPTIONAL,                         \
      "quantiles, which needs it: the field.")                                                     \
    U(METRIC, "top", metric_field, MR_OPTIONAL, "a field", "The `n` most frequent values.")        \
    U(METRIC, "histogram", metric_field, MR_OPTIONAL, "a field",                                   \
      "{ histogram: FIELD, bounds: [10, 20] }: how many are below 10, below 20, and above.")       \
    U(METRIC, "bounds", bounds, MR_OPTIONAL, "a list of 1 to 64 ascending numbers",                \
      "histogram, which needs it: where one bar ends and the next begins.")                        \
    U(METRIC, "collect", metric_field, MR_OPTIONAL, "a field", "The values, up to `n`.")           \
    V(METRIC, mr_config_metric_def, "n", COUNT, limit, 1, MR_COLLECT_MAX, MR_OPTIONAL,             \
      "top: 1 to 1000, left out 10. collect: left out 100.")                                       \
    V(METRIC, mr_config_metric_def, "error", RATE, error, 1000000, 100000000, "0.01",              \
      "distinct (at least 0.005) and quantiles: relative error.")                                  \
    U(METRIC, "ratio", ratio, MR_OPTIONAL, "a list of two metrics",                                \
      "The first divided by the second; both are metrics of this rule that are numbers.")          \
    V(METRIC, mr_config_metric_def, "where", EXPR, where, 0, 0, MR_OPTIONAL,                       \
      "Which of the rule's events it takes; not for ratio. Left out: all of them.")                \
    U(METRIC, "from", metric_from, MR_OPTIONAL, "one of the rule's streams",                       \
      "Which stream's events it takes; not for ratio. Left out: those of all.")                    \
    V(GROUPS, mr_config_rule, "max", COUNT64, groups.max, 1, 1000000000, "1000000",                \
      "Open groups over all windows and shards.")                                                  \
    V(GROUPS, mr_config_rule, "bytes", BYTES, groups.bytes, 64 * MR_KIB, 16 * MR_TIB, "256MiB",    \
      "Memory for them.")                                                                          \
    C(GROUPS, mr_config_rule, "when_full", groups.when_full, mr_choices_groups, "other",           \
      "other: new groups are summed up in one named other. drop: their events are counted only.")
/* clang-format on */

enum mr_scope {
#define X(name, where) MR_SCOPE_##name,
    MR_SCOPES(X)
#undef X
        MR_SCOPE_COUNT
};

enum mr_option_type {
#define X(name) MR_OPTION_##name,
    MR_OPTION_TYPES(X)
#undef X
        MR_OPTION_CHOICE,
    MR_OPTION_SCOPE,
    MR_OPTION_CODE,
    MR_OPTION_LATER,
};

#define MR_CHOICE_LATER (-1) /* known, not in this version */

/* A list of these ends with text NULL. */
struct mr_choice {
    const char *text;
    int value;
};

struct mr_load;
struct mr_print;
struct mr_node;

struct mr_option {
    enum mr_scope scope;
    const char *key;
    enum mr_option_type type;
    size_t offset; /* of the field in the holder */
    size_t size;   /* 0: no field */
    uint64_t min;
    uint64_t max;
    const char *default_text; /* or MR_NEEDED, MR_OPTIONAL */
    const struct mr_choice *choices;
    enum mr_scope inner; /* MR_OPTION_SCOPE */
    /* MR_OPTION_CODE: key is the option's key in the file, or a stand-in for a default. */
    enum mr_status (*load)(struct mr_load *load, const struct mr_node *key, void *holder);
    void (*print)(struct mr_print *print, const struct mr_option *option, const void *holder);
    const char *values; /* MR_OPTION_CODE: what may stand there */
    const char *doc;
};

/* An array of streams, rules, metrics, stores, sinks, lookups or tokens: structs that begin with their name. */
struct mr_named {
    const void *items;
    size_t size;
    uint32_t count;
};

static_assert(offsetof(struct mr_config_stream, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_rule, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_store, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_sink, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_token, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_lookup, name) == 0, "mr_named");
static_assert(offsetof(struct mr_config_metric_def, name) == 0, "mr_named");

static inline struct mr_bytes mr_named_name(const struct mr_named *named, uint32_t i) {
    struct mr_bytes name;
    memcpy(&name, (const uint8_t *)named->items + i * named->size, sizeof name);
    return name;
}

/* All rows, scope by scope in no order but in order within a scope. */
const struct mr_option *mr_options(size_t *ret_count);
/* The next row of the scope behind `after` (NULL: the first), or NULL. */
const struct mr_option *mr_option_next(enum mr_scope scope, const struct mr_option *after);
const struct mr_option *mr_option_find(enum mr_scope scope, struct mr_bytes key);
/* "streams.NAME.dedup"; "" for the top level. */
const char *mr_scope_where(enum mr_scope scope);

/* Whether the option means anything with the other settings of its holder (dedup.error with mode
 * exact, window.gap with a tumbling one, and bounds of a sum do not). Refused when written, left out when printed;
 * *ret_only says what it is for. */
bool mr_option_applies(const struct mr_option *option, const void *holder, const char **ret_only);

/* What may stand there: "auto, or 1 to 64". Appended to ret. */
void mr_option_show_values(const struct mr_option *option, struct mr_buf *ret);
/* The name nearest to what was typed, or NULL when none is near. Only those of this version. */
const char *mr_option_suggest(enum mr_scope scope, struct mr_bytes typed);

/* The choice of that text, or NULL. */
const struct mr_choice *mr_choice_find(const struct mr_choice *choices, struct mr_bytes text);
const char *mr_choice_text(const struct mr_choice *choices, int value);
const char *mr_choice_suggest(const struct mr_choice *choices, struct mr_bytes typed);
/* "exact, bloom or none": those of this version. */
void mr_choices_show(const struct mr_choice *choices, struct mr_buf *ret);

extern const struct mr_choice mr_choices_bool[];
extern const struct mr_choice mr_choices_sync[];
extern const struct mr_choice mr_choices_missing_id[];
extern const struct mr_choice mr_choices_missing_time[];
extern const struct mr_choice mr_choices_time[];
extern const struct mr_choice mr_choices_dedup[];
extern const struct mr_choice mr_choices_layout[];
extern const struct mr_choice mr_choices_conflicts[];
extern const struct mr_choice mr_choices_outage[];
extern const struct mr_choice mr_choices_when_full[];
extern const struct mr_choice mr_choices_store[];
extern const struct mr_choice mr_choices_sink[];
extern const struct mr_choice mr_choices_window[];
extern const struct mr_choice mr_choices_panes[];
extern const struct mr_choice mr_choices_metric[];
extern const struct mr_choice mr_choices_groups[];
extern const struct mr_choice mr_choices_right[];

/* The rows read by code: config/load_*.c and config/print*.c. */
#define MR_OPTION_CODES(X)                                                                         \
    X(streams)                                                                                     \
    X(rules) X(listen) X(tokens) X(sha256) X(sha256_file) X(allow) X(token_streams) X(id) X(time)  \
        X(from) X(group_by) X(metrics) X(secret) X(secret_file) X(stores) X(nodes) X(password)     \
            X(password_file) X(store_tls) X(dedup_store) X(sinks) X(sink_store) X(rule_sinks)      \
                X(lookups) X(lookup_file) X(derive) X(metric_count) X(metric_field) X(quantiles)   \
                    X(bounds) X(ratio) X(metric_from)
#define X(name)                                                                                    \
    enum mr_status mr_option_load_##name(struct mr_load *load, const struct mr_node *key,          \
                                         void *holder);                                            \
    void mr_option_print_##name(struct mr_print *print, const struct mr_option *option,            \
                                const void *holder);
MR_OPTION_CODES(X)
#undef X
