/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what becomes of the state when the configuration changes.
 *
 * 1. Every option of streams and rules has its class: a table by hand, and no option without a line in it.
 * 2. Every change that is refused says so in the words of a second table.
 * 3. Streams and rules are found by name: new, gone, in another order.
 * 4. Of each of these: whether what is kept of the stream can go on, and rows of the rule stay in their table.
 * 5. Every allocation failing in turn.
 *
 * test_change_model.c has random pairs, test_state.c the text that both sides are read from.
 */
#include "support.h"

#include "base/alloc.h"
#include "config/options.h"

#define STREAM(more) "streams: { s: { id: i, time: t, " more " } }\n"
#define ID(more)     "streams: { s: { time: t, " more " } }\n"
#define STORES(one, other, node, cluster)                                                          \
    "node: { id: " node " }\ncluster: { name: " cluster ", secret: sixteen-bytes-of }\n"           \
    "stores: { " one ": { type: redis, nodes: [h] }, " other ": { type: redis, nodes: [g] } }\n"
#define REDIS(more)    "dedup: { mode: redis, store: " more " }"
#define CLAIMING(more) STORES("a", "b", "n", "c") STREAM(REDIS(more))
#define RULE(keys)                                                                                 \
    "streams: { s: { id: i, time: t }, u: { id: i, time: t } }\nrules: { r: { " keys " } }\n"
#define SINKS                                                                                      \
    "stores: { m: { type: redis, nodes: [h] } }\n"                                                 \
    "sinks: { l: { type: redis, store: m }, k: { type: redis, store: m } }\n"
#define FROM_S "from: s, window: { size: 1m }, metrics: { n: count }"
#define WINDOW(window, more)                                                                       \
    RULE("from: s, window: { " window " }, metrics: { n: count }" more)
#define METRICS(metrics) RULE("from: [s, u], window: { size: 1m }, metrics: { " metrics " }")
#define OTHER_FIELD(function)                                                                      \
    {MR_SCOPE_METRIC, function, METRICS("n: { " function ": x }"),                                 \
     METRICS("n: { " function ": y }"), MR_CHANGE_ANEW, NULL}
/* Stream s derives, the rule takes it and u. */
#define DERIVE(derive, keys)                                                                       \
    "streams: { s: { id: i, time: t, derive: { " derive " } }, u: { id: i, time: t } }\n"          \
    "rules: { r: { from: [s, u], window: { size: 1m }, " keys " } }\n"
#define COUNT "metrics: { n: count }"

/* One setting differs: what that does to stream or rule 0. text: it is refused with these words. */
struct change {
    enum mr_scope scope;
    const char *key;
    const char *before;
    const char *now;
    enum mr_change change;
    const char *text;
};

static const struct change changes[] = {
    {MR_SCOPE_STREAM, "id", ID("id: a"), ID("id: [a, b]"), 0,
     "f: `streams.s.id: [a, b]`: so far it was [a], and ids remembered by the one are not found by "
     "the other; go "
     "back to [a], or begin empty with another node.data_dir"},
    {MR_SCOPE_STREAM, "id", ID("id: [a, b]"), ID("id: [b, a]"), 0,
     "f: `streams.s.id: [b, a]`: so far it was [a, b], and ids remembered by the one are not found "
     "by the other; go "
     "back to [a, b], or begin empty with another node.data_dir"},
    {MR_SCOPE_STREAM, "id", ID("id: a, dedup: { mode: bloom }"),
     ID("id: \"x y\", dedup: { mode: bloom }"), 0,
     "f: `streams.s.id: [\"x y\"]`: so far it was [a], and ids remembered by the one are not found "
     "by the other; go "
     "back to [a], or begin empty with another node.data_dir"},
    {MR_SCOPE_STREAM, "id", ID("id: a, dedup: { mode: exact }"),
     ID("id: b, dedup: { mode: observe }"), 0,
     "f: `streams.s.id: [b]`: so far it was [a], and ids remembered by the one are not found by "
     "the other; go "
     "back to [a], or begin empty with another node.data_dir"},
    {MR_SCOPE_STREAM, "id", ID("id: a, dedup: { mode: none }"), ID("id: b, dedup: { mode: none }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "id", ID("dedup: { mode: none }"), ID("id: b, dedup: { mode: none }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "id", ID("id: a, dedup: { mode: none }"), ID("id: b"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_STREAM, "id", ID("id: a"), ID("dedup: { mode: none }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_STREAM, "id", ID("id: a"), ID("id: [a]"), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_STREAM, "time", STREAM(""), "streams: { s: { id: i, time: u } }\n", MR_CHANGE_LIVE,
     NULL},
    {MR_SCOPE_TIME, "field", STREAM(""), "streams: { s: { id: i, time: { field: u } } }\n",
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_TIME, "format", STREAM(""),
     "streams: { s: { id: i, time: { field: t, format: s } } }\n", MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_TIME, "format", STREAM(""),
     "streams: { s: { id: i, time: { field: t, format: ms } } }\n", MR_CHANGE_NONE, NULL},
    {MR_SCOPE_STREAM, "missing_id", STREAM(""), STREAM("missing_id: accept"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "missing_time", STREAM(""), STREAM("missing_time: reject"), MR_CHANGE_LIVE,
     NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM(""), STREAM("dedup: { mode: observe }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: observe }"), STREAM(""), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM(""), STREAM("dedup: { mode: none }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: none }"), STREAM(""), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: observe }"), STREAM("dedup: { mode: none }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: bloom }"), STREAM("dedup: { mode: none }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: none }"),
     STREAM("dedup: { mode: bloom, horizon: 1h, ids: 5, error: 1e-3 }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", STREAM(""), STREAM("dedup: { mode: bloom }"), 0,
     "f: `streams.s.dedup.mode: bloom`: so far it was exact, and what the one remembers cannot be "
     "moved to the "
     "other; go back to exact, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: bloom }"), STREAM(""), 0,
     "f: `streams.s.dedup.mode: exact`: so far it was bloom, and what the one remembers cannot be "
     "moved to the "
     "other; go back to bloom, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: observe }"),
     STREAM("dedup: { mode: bloom, error: 0.1 }"), 0,
     "f: `streams.s.dedup.mode: bloom`: so far it was observe, and what the one remembers cannot "
     "be moved to the "
     "other; go back to observe, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: bloom }"), STREAM("dedup: { mode: observe }"),
     0,
     "f: `streams.s.dedup.mode: observe`: so far it was bloom, and what the one remembers cannot "
     "be moved to the "
     "other; go back to bloom, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "horizon", STREAM(""), STREAM("dedup: { horizon: 1h }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "horizon", STREAM(""), STREAM("dedup: { horizon: 1440m }"), MR_CHANGE_NONE,
     NULL},
    {MR_SCOPE_DEDUP, "ids", STREAM(""), STREAM("dedup: { ids: 5 }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "ids", STREAM("dedup: { mode: bloom }"),
     STREAM("dedup: { mode: bloom, ids: 5 }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "when_full", STREAM(""), STREAM("dedup: { when_full: evict_oldest }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "error", STREAM("dedup: { mode: bloom }"),
     STREAM("dedup: { mode: bloom, error: 1e-3 }"), 0,
     "f: `streams.s.dedup.error: 0.001`: so far it was 0.0001, and filters that are filled cannot "
     "be made anew; go "
     "back to 0.0001, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: exact }"), CLAIMING("a"), 0,
     "f: `streams.s.dedup.mode: redis`: so far it was exact, and what the one remembers cannot be "
     "moved to the other; go back to exact, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", CLAIMING("a"), STREAM("dedup: { mode: exact }"), 0,
     "f: `streams.s.dedup.mode: exact`: so far it was redis, and what the one remembers cannot be "
     "moved to the other; go back to redis, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: bloom }"), CLAIMING("a"), 0,
     "f: `streams.s.dedup.mode: redis`: so far it was bloom, and what the one remembers cannot be "
     "moved to the other; go back to bloom, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", CLAIMING("a"), STREAM("dedup: { mode: bloom }"), 0,
     "f: `streams.s.dedup.mode: bloom`: so far it was redis, and what the one remembers cannot be "
     "moved to the other; go back to redis, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: observe }"), CLAIMING("a"), 0,
     "f: `streams.s.dedup.mode: redis`: so far it was observe, and what the one remembers cannot be "
     "moved to the other; go back to observe, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", CLAIMING("a"), STREAM("dedup: { mode: observe }"), 0,
     "f: `streams.s.dedup.mode: observe`: so far it was redis, and what the one remembers cannot be "
     "moved to the other; go back to redis, or begin empty with another node.data_dir"},
    {MR_SCOPE_DEDUP, "mode", STREAM("dedup: { mode: none }"), CLAIMING("a"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "mode", CLAIMING("a"), STREAM("dedup: { mode: none }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "store", CLAIMING("a"), CLAIMING("b"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "store", CLAIMING("a"), STORES("b", "a", "n", "c") STREAM(REDIS("a")),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_DEDUP, "store", STREAM(""), "stores: { a: { type: redis, nodes: [h] } }\n" STREAM(""),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_DEDUP, "layout", CLAIMING("a"), CLAIMING("a, layout: key"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "layout", CLAIMING("a"), CLAIMING("a, layout: bucket"), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_DEDUP, "layout", CLAIMING("a"), CLAIMING("b, layout: key, horizon: 1h"), MR_CHANGE_ANEW,
     NULL},
    {MR_SCOPE_DEDUP, "outage", CLAIMING("a"), CLAIMING("a, outage: hold"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "outage", CLAIMING("a, outage: local, ids: 5"), CLAIMING("a"), MR_CHANGE_ANEW,
     NULL},
    {MR_SCOPE_DEDUP, "outage", CLAIMING("a, outage: hold"), CLAIMING("a, outage: local"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "outage", CLAIMING("a, layout: key"), CLAIMING("a, outage: local"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_DEDUP, "ids", CLAIMING("a, outage: local"), CLAIMING("a, outage: local, ids: 5"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "horizon", CLAIMING("a"), CLAIMING("a, horizon: 1h"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "id", CLAIMING("a"), STORES("a", "b", "n", "c") ID("id: j, " REDIS("a")), 0,
     "f: `streams.s.id: [j]`: so far it was [i], and ids remembered by the one are not found by "
     "the other; go back to [i], or begin empty with another node.data_dir"},
    {MR_SCOPE_CLUSTER, "name", CLAIMING("a"), STORES("a", "b", "n", "d") STREAM(REDIS("a")), 0,
     "f: `cluster.name: d`: so far it was c, and claims made under the one are not found under the "
     "other; go back to c, or begin empty with another node.data_dir"},
    {MR_SCOPE_NODE, "id", CLAIMING("a"), STORES("a", "b", "m", "c") STREAM(REDIS("a")), 0,
     "f: `node.id: m`: so far it was n, and claims made by the one are not known as the other's "
     "own; go back to n, or begin empty with another node.data_dir"},
    {MR_SCOPE_NODE, "id", STREAM(""), "node: { id: m }\n" STREAM(""), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_NODE, "id", STREAM("dedup: { mode: none }"), CLAIMING("a"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_NODE, "id", CLAIMING("a"), "node: { id: m }\n" STREAM("dedup: { mode: none }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WATERMARK, "out_of_orderness", STREAM(""),
     STREAM("watermark: { out_of_orderness: 1s }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_WATERMARK, "idle_timeout", STREAM(""), STREAM("watermark: { idle_timeout: off }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_WATERMARK, "max_future", STREAM(""), STREAM("watermark: { max_future: 0s }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_WATERMARK, "source", STREAM(""), STREAM("watermark: { source: a.b }"), MR_CHANGE_LIVE,
     NULL},
    {MR_SCOPE_WATERMARK, "source", STREAM("watermark: { source: a }"),
     STREAM("watermark: { source: b }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "conflicts", STREAM(""), STREAM("dedup: { conflicts: detect }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_DEDUP, "conflicts", STREAM("dedup: { conflicts: detect }"),
     STREAM("dedup: { mode: observe }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", STREAM(""), STREAM("derive: { d: a + 1 }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", STREAM("derive: { d: a + 1, e: b }"),
     STREAM("derive: { e: b, d: a + 1 }"), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", STREAM("derive: {}"), STREAM("derive: "), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_RULE, "where", RULE(FROM_S), RULE(FROM_S ", where: a > 0"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "where", RULE(FROM_S ", where: a > 0"), RULE(FROM_S ", where: a > 1"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "where", RULE(FROM_S ", where: a > 0"), RULE(FROM_S ", where: 'a > 0'"),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_WINDOW, "type", RULE(FROM_S), WINDOW("type: session, gap: 1m", ""), MR_CHANGE_ANEW,
     NULL},
    {MR_SCOPE_WINDOW, "type", WINDOW("type: sliding, size: 1m, every: 1m", ""), RULE(FROM_S),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "every", WINDOW("type: sliding, size: 1m, every: 1s", ""),
     WINDOW("type: sliding, size: 1m, every: 2s", ""), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "offset", RULE(FROM_S), WINDOW("size: 1m, offset: 1s", ""), MR_CHANGE_ANEW,
     NULL},
    {MR_SCOPE_WINDOW, "time_zone", WINDOW("size: 1d", ""),
     WINDOW("size: 1d, time_zone: Europe/Berlin", ""), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "gap", WINDOW("type: session, gap: 1m", ""),
     WINDOW("type: session, gap: 2m", ""), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "max", WINDOW("type: session, gap: 1m", ""),
     WINDOW("type: session, gap: 1m, max: 1h", ""), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_TRIGGER, "early", RULE(FROM_S), RULE(FROM_S ", trigger: { early: 1s }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_TRIGGER, "early_count", RULE(FROM_S), RULE(FROM_S ", trigger: { early_count: 5 }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_TRIGGER, "late", RULE(FROM_S), RULE(FROM_S ", trigger: { late: false }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_TRIGGER, "panes", RULE(FROM_S), RULE(FROM_S ", trigger: { panes: discarding }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_TRIGGER, "panes", RULE(FROM_S ", trigger: { panes: discarding, early: 1s }"),
     RULE(FROM_S ", trigger: { panes: accumulating_and_retracting, late: false }"), MR_CHANGE_ANEW,
     NULL},
    {MR_SCOPE_METRIC, "count", METRICS("n: count"), METRICS("n: { count: events }"), MR_CHANGE_NONE,
     NULL},
    {MR_SCOPE_METRIC, "where", METRICS("n: count"), METRICS("n: { count: events, where: a }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "from", METRICS("n: { sum: a, from: s }"), METRICS("n: { sum: a, from: u }"),
     MR_CHANGE_ANEW, NULL},
    OTHER_FIELD("sum"),
    OTHER_FIELD("min"),
    OTHER_FIELD("max"),
    OTHER_FIELD("avg"),
    OTHER_FIELD("variance"),
    OTHER_FIELD("stddev"),
    OTHER_FIELD("first"),
    OTHER_FIELD("last"),
    OTHER_FIELD("distinct"),
    OTHER_FIELD("top"),
    OTHER_FIELD("collect"),
    {MR_SCOPE_METRIC, "error", METRICS("n: { distinct: a }"),
     METRICS("n: { distinct: a, error: 0.02 }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "n", METRICS("n: { top: a }"), METRICS("n: { top: a, n: 10 }"),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_METRIC, "n", METRICS("n: { top: a }"), METRICS("n: { top: a, n: 11 }"),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "quantiles", METRICS("n: { quantiles: [0.5], of: a }"),
     METRICS("n: { quantiles: [0.5, 0.9], of: a }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "of", METRICS("n: { quantiles: [0.5], of: a }"),
     METRICS("n: { quantiles: [0.5], of: b }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "histogram", METRICS("n: { histogram: a, bounds: [1] }"),
     METRICS("n: { histogram: a, bounds: [1.0] }"), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_METRIC, "bounds", METRICS("n: { histogram: a, bounds: [1] }"),
     METRICS("n: { histogram: a, bounds: [2] }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_METRIC, "ratio", METRICS("a: count, b: { sum: x }, n: { ratio: [a, b] }"),
     METRICS("a: count, b: { sum: x }, n: { ratio: [b, a] }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "from", RULE(FROM_S), RULE("from: [s, u], window: { size: 1m }, " COUNT),
     MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "from", RULE("from: [u, s], window: { size: 1m }, " COUNT),
     RULE("from: [s, u], window: { size: 1m }, " COUNT), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "from", RULE("from: [s], window: { size: 1m }, " COUNT), RULE(FROM_S),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_RULE, "from", RULE(FROM_S),
     RULE("from: u, window: { size: 1m }, metrics: { n: count }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", RULE(FROM_S), RULE(FROM_S ", group_by: a"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", RULE(FROM_S ", group_by: [a, b]"),
     RULE(FROM_S ", group_by: [b, a]"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", RULE(FROM_S ", group_by: a"), RULE(FROM_S ", group_by: [a]"),
     MR_CHANGE_NONE, NULL},
    {MR_SCOPE_RULE, "allowed_lateness", RULE(FROM_S), RULE(FROM_S ", allowed_lateness: 6m"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_RULE, "metrics", RULE(FROM_S),
     RULE("from: s, window: { size: 1m }, metrics: { m: count }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "metrics", RULE("from: s, window: { size: 1m }, metrics: { n: { sum: x } }"),
     RULE("from: s, window: { size: 1m }, metrics: { n: { sum: y } }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "metrics", RULE("from: s, window: { size: 1m }, metrics: { n: { sum: x } }"),
     RULE("from: s, window: { size: 1m }, metrics: { n: { max: x } }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "metrics",
     RULE("from: s, window: { size: 1m }, metrics: { n: count, m: count }"),
     RULE("from: s, window: { size: 1m }, metrics: { m: count, n: count }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "size", RULE(FROM_S),
     RULE("from: s, window: { size: 2m }, metrics: { n: count }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "size", RULE(FROM_S ", allowed_lateness: 6m"),
     RULE("from: s, window: { size: 2m }, metrics: { n: count }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_WINDOW, "size", RULE(FROM_S),
     RULE("from: s, window: { size: 60s }, metrics: { n: count }"), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_GROUPS, "max", RULE(FROM_S), RULE(FROM_S ", groups: { max: 2 }"), MR_CHANGE_LIVE,
     NULL},
    {MR_SCOPE_GROUPS, "bytes", RULE(FROM_S), RULE(FROM_S ", groups: { bytes: 1MiB }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_GROUPS, "when_full", RULE(FROM_S), RULE(FROM_S ", groups: { when_full: drop }"),
     MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_RULE, "sinks", RULE(FROM_S), SINKS RULE(FROM_S ", sinks: l"), MR_CHANGE_NONE, NULL},
    {MR_SCOPE_RULE, "sinks", SINKS RULE(FROM_S ", sinks: [l]"), SINKS RULE(FROM_S ", sinks: [k, l]"),
     MR_CHANGE_NONE, NULL},
    /* A rule of the same settings, over a derived field that is another one: as group, number, in an expression, by way
     * of another; and not for one that it does not use. */
    {MR_SCOPE_RULE, "group_by", DERIVE("d: a", "group_by: d, " COUNT),
     DERIVE("d: b", "group_by: d, " COUNT), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", DERIVE("x: a", "group_by: d, " COUNT),
     DERIVE("x: a, d: b", "group_by: d, " COUNT), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", DERIVE("x: a, d: b", "group_by: d, " COUNT),
     DERIVE("x: a", "group_by: d, " COUNT), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "metrics", DERIVE("d: a", "metrics: { n: { max: d } }"),
     DERIVE("d: b", "metrics: { n: { max: d } }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "metrics", DERIVE("d: a", "metrics: { n: { max: x, where: 1<d } }"),
     DERIVE("d: b", "metrics: { n: { max: x, where: 1<d } }"), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "where", DERIVE("d: a", "where: (d) > 0, " COUNT),
     DERIVE("d: b", "where: (d) > 0, " COUNT), MR_CHANGE_ANEW, NULL},
    {MR_SCOPE_RULE, "where", DERIVE("d: a, e: d + 1, f: 2 * e", "where: f, " COUNT),
     DERIVE("d: b, e: d + 1, f: 2 * e", "where: f, " COUNT), MR_CHANGE_ANEW, NULL},
};

/* The stream is live, the rule goes on as it is. */
static const struct change unused[] = {
    {MR_SCOPE_STREAM, "derive", DERIVE("d: a", "group_by: e, " COUNT),
     DERIVE("d: b", "group_by: e, " COUNT), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", DERIVE("d: a, e: d", "where: dd + x.d + d_ + d1, " COUNT),
     DERIVE("d: b, e: d", "where: dd + x.d + d_ + d1, " COUNT), MR_CHANGE_LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", DERIVE("e: d, d: a", "where: x > 0, " COUNT),
     DERIVE("e: d, d: b", "where: x > 0, " COUNT), MR_CHANGE_LIVE, NULL},
};

enum { CHANGES = sizeof changes / sizeof changes[0] };

static bool is_of_rule(enum mr_scope scope) {
    return strncmp(mr_scope_where(scope), "rules.NAME", 10) == 0;
}

static bool is_of_stream(enum mr_scope scope) {
    return strncmp(mr_scope_where(scope), "streams.NAME", 12) == 0;
}

/* What is kept of a stream is kept under the same settings only, but for what it derives. */
static void assert_kept(const struct change *want, const struct mr_config *before, const struct mr_config *now) {
    struct mr_error error = {.text = ""};
    bool differs = is_of_stream(want->scope) && (want->text != NULL || want->change != MR_CHANGE_NONE);
    bool kept = !differs || strcmp(want->key, "derive") == 0;
    enum mr_status status = mr_config_compare_kept(before, now, &error);
    if (status != (kept ? MR_OK : MR_MISMATCH)) {
        print_error("%s: %s\n", want->key, error.text);
    }
    assert_int_equal(status, kept ? MR_OK : MR_MISMATCH);
    assert_true(kept || strstr(error.text, "so far it was") != NULL);
    assert_true(kept || strstr(error.text, "streams.s.") != NULL);
}

/* Rows stand in one table if what they are made of is the same; by which events they were made does not matter. */
static void assert_rows(const struct change *want, const struct mr_config *before, const struct mr_config *now) {
    bool derived = strstr(want->before, "derive") != NULL || strstr(want->now, "derive") != NULL;
    bool made_of = want->scope == MR_SCOPE_WINDOW || want->scope == MR_SCOPE_METRIC ||
                   strcmp(want->key, "panes") == 0 || strcmp(want->key, "metrics") == 0 ||
                   strcmp(want->key, "group_by") == 0;
    bool fits = false;
    assert_int_equal(mr_config_rows_fit(before, 0, now, 0, &fits), MR_OK);
    if (fits != (!made_of || derived || want->change == MR_CHANGE_NONE)) {
        print_error("%s\n->\n%s\n", want->before, want->now);
    }
    assert_int_equal(fits, !made_of || derived || want->change == MR_CHANGE_NONE);
}

static void assert_change(const struct change *want) {
    struct mr_config *before = parse(want->before);
    struct mr_config *now = parse(want->now);
    struct mr_config_change change = {.streams_gone = 77};
    struct mr_error error = {0};
    enum mr_status status = mr_config_compare(before, now, &change, &error);
    if (want->text != NULL) {
        assert_int_equal(status, MR_MISMATCH);
        assert_int_equal(error.status, MR_MISMATCH);
        assert_string_equal(error.text, want->text);
        assert_int_equal(change.streams_gone, 77); /* nothing is written */
    } else {
        assert_int_equal(status, MR_OK);
        enum mr_change found = is_of_rule(want->scope) ? change.rules[0] : change.streams[0];
        if (found != want->change) {
            print_error("%s\n->\n%s\n", want->before, want->now);
        }
        assert_int_equal(found, want->change);
        assert_int_equal(change.any, want->change != MR_CHANGE_NONE);
        assert_int_equal(change.any, texts_differ(before, now));
        assert_int_equal(change.streams_gone + change.rules_gone, 0);
    }
    if (is_of_stream(want->scope)) {
        assert_kept(want, before, now);
    }
    if (is_of_rule(want->scope)) {
        assert_kept(want, before, now);
        assert_rows(want, before, now);
    }
    assert_int_equal(mr_config_compare(now, now, &change, &error), MR_OK);
    assert_false(change.any);
    mr_config_close(before);
    mr_config_close(now);
}

static void every_change_has_its_class(void **state_) {
    (void)state_;
    for (int i = 0; i < CHANGES; i++) {
        assert_change(&changes[i]);
    }
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) {
        assert_change(&unused[i]);
        struct mr_config *before = parse(unused[i].before);
        struct mr_config *now = parse(unused[i].now);
        struct mr_config_change change;
        assert_int_equal(mr_config_compare(before, now, &change, NULL), MR_OK);
        assert_int_equal(change.rules[0], MR_CHANGE_NONE);
        mr_config_close(before);
        mr_config_close(now);
    }
}

/* A new option of a stream or rule must say what its change does, here and in config/change.c. */
static void every_option_has_its_class(void **state_) {
    (void)state_;
    size_t count;
    const struct mr_option *options = mr_options(&count);
    int seen = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mr_option *o = &options[i];
        bool of_state = is_of_rule(o->scope) || is_of_stream(o->scope);
        if (!of_state || o->type == MR_OPTION_LATER || o->type == MR_OPTION_SCOPE) {
            continue;
        }
        bool found = false;
        for (int k = 0; k < CHANGES; k++) {
            found = found || (changes[k].scope == o->scope && strcmp(changes[k].key, o->key) == 0);
        }
        if (!found && o->type == MR_OPTION_CHOICE) { /* nothing to change to */
            int choices = 0;
            for (const struct mr_choice *c = o->choices; c->text != NULL; c++) {
                choices += c->value != MR_CHOICE_LATER;
            }
            found = choices == 1;
        }
        if (!found) {
            print_error("%s.%s has no line in `changes`\n", mr_scope_where(o->scope), o->key);
        }
        assert_true(found);
        seen++;
    }
    assert_true(seen > 20);
}

static void streams_that_are_kept(void **state_) {
    (void)state_;
    struct mr_config *both = parse("streams: { a: { id: i, time: t }, b: { id: i, time: t } }\n");
    struct mr_config *one = parse("streams: { b: { id: i, time: t } }\n");
    struct mr_error error = {.text = ""};
    assert_int_equal(mr_config_compare_kept(both, one, &error), MR_OK); /* gone: nothing is to be kept */
    assert_int_equal(mr_config_compare_kept(one, both, &error), MR_MISMATCH);
    assert_string_equal(error.text, "f: streams.a is new: nothing is kept of it; leave it out here, and add it with a "
                                    "restart afterwards");
    mr_config_close(both);
    mr_config_close(one);
}

static void names_are_what_counts(void **state_) {
    (void)state_;
    struct mr_config *before =
        parse("streams: { a: { id: i, time: t }, b: { id: i, time: t }, c: { id: i, time: t } }\n"
              "rules:\n"
              "  x: { from: a, window: { size: 1m }, metrics: { n: count } }\n"
              "  y: { from: b, window: { size: 1m }, metrics: { n: count } }\n"
              "  z: { from: b, window: { size: 1m }, metrics: { n: count } }\n");
    struct mr_config *now =
        parse("streams: { c: { id: i, time: t }, d: { id: q, time: t }, a: { id: i, time: u } }\n"
              "rules:\n"
              "  z: { from: d, window: { size: 1m }, metrics: { n: count } }\n"
              "  x: { from: a, window: { size: 1m }, metrics: { n: count } }\n"
              "  v: { from: a, window: { size: 1m }, metrics: { n: count } }\n");
    struct mr_config_change change;
    assert_int_equal(mr_config_compare(before, now, &change, NULL), MR_OK);
    assert_true(change.any);
    assert_int_equal(change.stream_of[0], 2);
    assert_int_equal(change.streams[0], MR_CHANGE_NONE);
    assert_int_equal(change.stream_of[1], UINT32_MAX);
    assert_int_equal(change.streams[1], MR_CHANGE_NEW);
    assert_int_equal(change.stream_of[2], 0);
    assert_int_equal(change.streams[2], MR_CHANGE_LIVE);
    assert_int_equal(change.streams_gone, 1);
    assert_int_equal(change.rule_of[0], 2);
    assert_int_equal(change.rules[0], MR_CHANGE_ANEW);
    assert_int_equal(change.rule_of[1], 0);
    assert_int_equal(change.rules[1], MR_CHANGE_NONE);
    assert_int_equal(change.rule_of[2], UINT32_MAX);
    assert_int_equal(change.rules[2], MR_CHANGE_NEW);
    assert_int_equal(change.rules_gone, 1);
    mr_config_close(now);

    now = parse("streams: { a: { id: i, time: t }, c: { id: i, time: t }, b: { id: i, time: t } }\n"
                "rules:\n"
                "  x: { from: a, window: { size: 1m }, metrics: { n: count } }\n"
                "  y: { from: b, window: { size: 1m }, metrics: { n: count } }\n"
                "  z: { from: b, window: { size: 1m }, metrics: { n: count } }\n");
    assert_int_equal(mr_config_compare(before, now, &change, NULL), MR_OK);
    assert_true(change.any); /* their numbers in the log are others */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(change.streams[i], MR_CHANGE_NONE);
        assert_int_equal(change.rules[i], MR_CHANGE_NONE);
    }
    mr_config_close(now);
    mr_config_close(before);
}

#define YAML                                                                                       \
    STORES("x", "y", "n", "c")                                                                     \
    "streams:\n"                                                                                   \
    "  s: { id: [a, 'b\"c'], time: { field: t, format: us } }\n"                                   \
    "  u: { time: $t, missing_id: accept, missing_time: reject, dedup: { mode: none },\n"          \
    "       watermark: { idle_timeout: off } }\n"                                                  \
    "  v: { id: i, time: t, dedup: { mode: bloom, when_full: evict_oldest } }\n"                   \
    "  w: { id: i, time: t, dedup: { mode: redis, store: y } }\n"                                  \
    "rules:\n"                                                                                     \
    "  r: { from: u, group_by: [x, y.z], window: { size: 10s },\n"                                 \
    "       metrics: { n: count, m: { avg: p } }, groups: { when_full: drop } }\n"

static void memory_may_end_anywhere(void **state_) {
    (void)state_;
    struct mr_config *before = parse(YAML);
    struct mr_config *now = parse(STREAM(""));
    struct mr_config_change change = {.rules_gone = 77};
    struct mr_error error = {0};
    enum mr_status status = MR_NO_MEMORY;
    size_t failures = 0;
    while (status == MR_NO_MEMORY) {
        assert_int_equal(change.rules_gone, 77);
        mr_alloc_fail_at(failures + 1, 1);
        status = mr_config_compare(before, before, &change, &error);
        mr_alloc_fail_at(0, 0);
        assert_true(status == MR_OK || error.status == MR_NO_MEMORY);
        failures += status != MR_OK;
    }
    assert_int_equal(status, MR_OK);
    assert_true(failures >= 2);
    assert_string_equal(error.text, "f: out of memory");
    assert_int_equal(mr_config_compare(before, now, &change, &error),
                     MR_MISMATCH); /* and refusals are no leaks */
    mr_config_close(now);
    mr_config_close(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_has_its_class), cmocka_unit_test(every_option_has_its_class),
        cmocka_unit_test(streams_that_are_kept),      cmocka_unit_test(names_are_what_counts),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
