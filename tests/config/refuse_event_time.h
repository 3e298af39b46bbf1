/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Refuse event time: what is wrong in windows, triggers, metrics, expressions and lookups, and the words for it.
 */
#include "support.h"

#define STREAMS        "streams: { s: { id: i, time: t }, u: { id: i, time: t }, t: { id: i, time: t } }\n"
#define STREAM(more)   "streams: { s: { id: i, time: t, " more " } }\n"
#define COUNT          "metrics: { n: count }"
#define KEYS(keys)     STREAMS "rules: { r: { from: s, " keys " } }\n"
#define WINDOW(keys)   KEYS("window: { " keys " }, " COUNT)
#define MORE(keys)     KEYS("window: { size: 1m }, " COUNT ", " keys)
#define METRICS(names)                                                                             \
    STREAMS "rules: { r: { from: [s, u], window: { size: 1m }, metrics: { " names " } } }\n"
#define LOOKUP(keys)   "lookups: { ads: { " keys " } }\n"

static const struct refuse refuse_windows[] = {
    {WINDOW("type: tumbling"), "f:2:24: `window` lacks `size`; expected a duration, 1ms to 3650d"},
    {WINDOW("type: sliding"), "f:2:24: `window` lacks `size`; expected a duration, 1ms to 3650d"},
    {WINDOW("type: sliding, size: 1m"),
     "f:2:24: `window` lacks `every`; expected a duration, 1ms to 3650d"},
    {WINDOW("type: session"), "f:2:24: `window` lacks `gap`; expected a duration, 1ms to 3650d"},
    {KEYS("window: , " COUNT), "f:2:24: `window` lacks `size`; expected a duration, 1ms to 3650d"},
    {WINDOW("size: 1m, every: 1s"), "f:2:44: `every`: a tumbling window has none"},
    {WINDOW("gap: 1m"), "f:2:34: `gap`: a tumbling window has none"},
    {WINDOW("max: 1m"), "f:2:34: `max`: a tumbling window has none"},
    {WINDOW("type: sliding, time_zone: UTC"), "f:2:49: `time_zone`: a sliding window has none"},
    {WINDOW("type: session, gap: 1m, size: 1m"), "f:2:58: `size`: a session window has none"},
    {WINDOW("offset: 1m, type: session, gap: 1m"), "f:2:34: `offset`: a session window has none"},
    {WINDOW("type: global, size: 1m"), "f:2:48: `size`: a global window has none"},
    {WINDOW("type: slidng"),
     "f:2:40: `type: slidng`; expected tumbling, sliding, session or global; did you mean `sliding`?"},
    {WINDOW("type: sliding, size: 1m, evry: 1s"),
     "f:2:59: unknown key `evry` in rules.NAME.window; did you mean `every`?"},
    {WINDOW("size: 1m, offset: 1m"), "f:2:52: `offset: 1m`; expected less than `size`, 1m"},
    {WINDOW("type: sliding, size: 1h, every: 1m, offset: 1h"),
     "f:2:78: `offset: 1h`; expected less than `every`, 1m"},
    {WINDOW("type: sliding, size: 1m, every: 61s"),
     "f:2:66: `every: 61s`; expected at most `size`, 1m: events between two windows would be in none"},
    {WINDOW("type: sliding, size: 10h, every: 359ms"),
     "f:2:67: `every: 359ms`: each event would be in 100279 windows; expected at most 100000, so at least "
     "360ms"},
    {WINDOW("type: sliding, size: 100001ms, every: 1ms"),
     "f:2:72: `every: 1ms`: each event would be in 100001 windows; expected at most 100000, so at least "
     "2ms"},
    {WINDOW("type: sliding, size: 1d, every: 9999ms"),
     "f:2:66: `every: 9999ms`: windows of `size`, 1d, would be made of 9600000 slices of 9ms; expected at most "
     "100000, as when `size` is a multiple of `every`"},
    {KEYS("window: { type: sliding, size: 1001s, every: 1s }, " COUNT ", trigger: { early: 1s }"),
     "f:2:116: `early`: each event is in more than 1000 windows, which then have no early panes; "
     "expected it left out: queries show open windows"},
    {KEYS("window: { type: sliding, size: 1001s, every: 1s }, " COUNT ", trigger: { early_count: 1 }"),
     "f:2:122: `early_count`: each event is in more than 1000 windows, which then have no early "
     "panes; expected it left out: queries show open windows"},
    {"node: { shards: 2 }\n" KEYS("window: { type: sliding, size: 1d, every: 10s }, groups: { max: 17279 }, " COUNT),
     "f:3:88: `groups.max: 17279`: each event is in 8640 windows, and of each that is a group; expected at least "
     "17280, with `node.shards` 2"},
    {WINDOW("type: sliding, size: 2000s, every: 100ms"),
     "f:2:69: `allowed_lateness: 5m`: a late event would change 3000 windows, one each `every`, "
     "100ms; expected at most 1000, so at most 100s"},
    {KEYS("window: { type: sliding, size: 2000s, every: 1s }, allowed_lateness: 1001s, " COUNT),
     "f:2:93: `allowed_lateness: 1001s`: a late event would change 1001 windows, one each `every`, "
     "1s; expected at most 1000, so at most 1000s"},
    {WINDOW("size: 1h, time_zone: Europe/Berlin"),
     "f:2:40: `size: 1h`; with `time_zone` expected whole days, such as 1d: the days of a calendar"},
    {WINDOW("size: 1d, time_zone: Europe/Berln"),
     "f:2:55: `time_zone: Europe/Berln`: this machine has no such time zone; expected a name such as Europe/Berlin "
     "(package tzdata)"},
    {WINDOW("size: 1d, time_zone: New York"),
     "f:2:55: `time_zone: New York`; expected a text without spaces"},
    {WINDOW("size: 1d, time_zone: [UTC]"),
     "f:2:55: `time_zone`: found a list; expected a text without spaces"},
    {WINDOW("type: session, gap: 1m, max: 1m"),
     "f:2:63: `max: 1m`; expected off, or at least twice `gap`, 2m"},
    {WINDOW("type: session, gap: off"),
     "f:2:54: `gap: off`; expected a duration, 1ms to 3650d"},
    {WINDOW("type: global"),
     "f:2:40: `type: global`: the window ends when the input does, and nothing comes out before; "
     "expected `trigger` with `early` or `early_count`"},
    {MORE("trigger: { early: 99ms }"),
     "f:2:87: `early: 99ms`; expected 0s (off), or at least 100ms"},
    {MORE("trigger: { early: off }"), "f:2:87: `early: off`; expected a duration, 0s to 3650d"},
    {MORE("trigger: { early_count: -1 }"), "f:2:93: `early_count: -1`; expected 0 to 1000000000"},
    {MORE("trigger: { early_count: 1000000001 }"),
     "f:2:93: `early_count: 1000000001`; expected 0 to 1000000000"},
    {MORE("trigger: { panes: discrding }"),
     "f:2:87: `panes: discrding`; expected accumulating, discarding or "
     "accumulating_and_retracting; did you mean `discarding`?"},
    {MORE("trigger: { erly: 1s }"),
     "f:2:80: unknown key `erly` in rules.NAME.trigger; did you mean `early`?"},
};

static const struct refuse refuse_metrics[] = {
    {METRICS("n: quantiles"),
     "f:2:65: `n: quantiles`: of which field? expected { quantiles: [0.5, 0.95], of: FIELD }"},
    {METRICS("n: histogram"),
     "f:2:65: `n: histogram`: of which field? expected { histogram: FIELD, bounds: [10, 20] }"},
    {METRICS("n: ratio"), "f:2:65: `n: ratio`: of which metrics? expected { ratio: [METRIC, METRIC] }"},
    {METRICS("n: first"), "f:2:65: `n: first`: of which field? expected { first: FIELD }"},
    {METRICS("n: { where: a }"),
     "f:2:65: `n` has no function; expected count, or a function such as { sum: FIELD }"},
    {METRICS("n: { sum: a, count: events }"), "f:2:75: `count` beside `sum`; expected one function"},
    {METRICS("n: { count: true }"),
     "f:2:74: `count: true`; expected count: events, with `where` or `from` beside it"},
    {METRICS("n: { count: [events] }"),
     "f:2:74: `count`: found a list; expected count: events, with `where` or `from` beside it"},
    {METRICS("n: { sum: a, of: b }"), "f:2:75: `of`: only quantiles has one"},
    {METRICS("n: { sum: a, n: 5 }"), "f:2:75: `n`: only top and collect have one"},
    {METRICS("n: { error: 0.01, top: a }"), "f:2:67: `error`: only distinct and quantiles have one"},
    {METRICS("n: { top: a, bounds: [1] }"), "f:2:75: `bounds`: only histogram has them"},
    {METRICS("a: count, b: count, n: { ratio: [a, b], where: x }"),
     "f:2:102: `where`: a ratio has none; the metrics it is of may"},
    {METRICS("a: count, b: count, n: { from: s, ratio: [a, b] }"),
     "f:2:87: `from`: a ratio has none; the metrics it is of may"},
    {METRICS("n: { quantiles: [0.5] }"),
     "f:2:62: `n` lacks `of`; expected a field such as time or data.order.id"},
    {METRICS("n: { of: x }"),
     "f:2:65: `n` has no function; expected count, or a function such as { sum: FIELD }"},
    {METRICS("n: { quantiles: [], of: x }"),
     "f:2:78: `quantiles`: a list of 0; expected a list of 1 to 16 ascending numbers, 0 to 1"},
    {METRICS("n: { quantiles: [0.5, 50], of: x }"),
     "f:2:84: `quantiles: 50`; expected a list of 1 to 16 ascending numbers, 0 to 1"},
    {METRICS("n: { quantiles: [-0.5], of: x }"),
     "f:2:79: `quantiles: -0.5`; expected a list of 1 to 16 ascending numbers, 0 to 1"},
    {METRICS("n: { quantiles: [0.9, 0.5], of: x }"),
     "f:2:84: `quantiles: 0.5` is not above the one before it; expected a list of 1 to 16 ascending "
     "numbers, 0 to 1"},
    {METRICS("n: { quantiles: [p95], of: x }"),
     "f:2:79: `quantiles: p95` is no number; expected a list of 1 to 16 ascending numbers, 0 to 1"},
    {METRICS("n: { quantiles: [0.5], of: x, error: 0.0009 }"),
     "f:2:99: `error: 0.0009`; expected 0.001 to 0.1"},
    {METRICS("n: { distinct: x, error: 0.004 }"),
     "f:2:87: `error: 0.004`; expected 0.005 to 0.1 for distinct"},
    {METRICS("n: { distinct: x, error: 0.11 }"), "f:2:87: `error: 0.11`; expected 0.001 to 0.1"},
    {METRICS("n: { top: x, n: 0 }"), "f:2:78: `n: 0`; expected 1 to 10000"},
    {METRICS("n: { top: x, n: 1001 }"), "f:2:78: `n: 1001`; expected 1 to 1000 for top"},
    {METRICS("n: { collect: x, n: 10001 }"), "f:2:82: `n: 10001`; expected 1 to 10000"},
    {METRICS("n: { histogram: x }"),
     "f:2:62: `n` lacks `bounds`; expected a list of 1 to 64 ascending numbers"},
    {METRICS("n: { histogram: x, bounds: [1, 1.0] }"),
     "f:2:93: `bounds: 1.0` is not above the one before it; expected a list of 1 to 64 ascending "
     "numbers"},
    {METRICS("n: { histogram: x, bounds: [0, -0] }"),
     "f:2:93: `bounds: -0` is not above the one before it; expected a list of 1 to 64 ascending "
     "numbers"},
    {METRICS("n: { histogram: x, bounds: [inf] }"),
     "f:2:90: `bounds: inf` is no number; expected a list of 1 to 64 ascending numbers"},
    {METRICS("n: { ratio: a }"),
     "f:2:74: `ratio`: one metric; expected two metrics of this rule, as in [clicks, views]"},
    {METRICS("n: { ratio: [a, b, c] }"),
     "f:2:74: `ratio`: a list of 3; expected two metrics of this rule, as in [clicks, views]"},
    {METRICS("views: count, n: { ratio: [veiws, views] }"),
     "f:2:89: `veiws` is no metric; did you mean `views`?"},
    {METRICS("views: count, n: { ratio: [other, views] }"),
     "f:2:89: `other` is no metric; expected one of those under `metrics`"},
    {METRICS("views: count, n: { ratio: [views, views] }"), "f:2:96: `views` is here twice"},
    {METRICS("views: count, n: { ratio: [views, n] }"),
     "f:2:96: `n` is a ratio and no number to divide; expected count, sum, min, max, avg, variance, "
     "stddev or distinct"},
    {METRICS("n: { ratio: [a, b] }, a: count, b: { last: x }"),
     "f:2:78: `b` is a last and no number to divide; expected count, sum, min, max, avg, variance, "
     "stddev or distinct"},
    {METRICS("n: { count: events, from: t }"),
     "f:2:88: `from: t`: rule `r` takes no events of it; expected one of its `from`"},
    {METRICS("n: { count: events, from: clicks }"),
     "f:2:88: `clicks` is no stream; expected one of those under `streams`"},
    {METRICS("n: { sum: t.x, from: s }"),
     "f:2:72: `t.x` is used here, and `t` in line 1: a field of stream `s` cannot be both a value and "
     "a mapping"},
    {METRICS("n: { quantiles: [0.5], of: t.x }"),
     "f:2:89: `t.x` is used here, and `t` in line 1: a field of stream `s` cannot be both a value and "
     "a mapping"},
    {METRICS("pane: count"), "f:2:62: `pane` is a column of every result; expected another name"},
    {METRICS("timing: count"), "f:2:62: `timing` is a column of every result; expected another name"},
    {MORE("group_by: [Pane_Index]"),
     "f:2:80: `Pane_Index` is a column of every result; expected another name"},
};

static const struct refuse refuse_expressions[] = {
    {MORE("where: ''"), "f:2:76: `where`: no value; expected an expression such as price > 0, at most "
                        "4096 bytes"},
    {MORE("where: '  '"),
     "f:2:76: `where`: 2 bytes of white space; expected an expression such as price > 0, at most 4096 "
     "bytes"},
    {MORE("where: [a > 0]"), "f:2:76: `where`: found a list; expected an expression such as price > 0, "
                             "at most 4096 bytes"},
    {METRICS("n: { count: events, where: {} }"),
     "f:2:89: `where`: found a mapping; expected an expression such as price > 0, at most 4096 bytes"},
    {STREAM("derive: a + b"), "f:1:41: `derive`: expected a mapping NAME: expression, up to 32"},
    {STREAM("derive: [a]"), "f:1:41: `derive`: expected a mapping NAME: expression, up to 32"},
    {STREAM("derive: { d: }"), "f:1:46: `d`: no value; expected an expression such as price > 0, at "
                               "most 4096 bytes"},
    {STREAM("derive: { a.b: c }"),
     "f:1:43: `a.b` is no name of a derived field; expected letters, digits and _, not beginning with a "
     "digit, at most 64"},
    {STREAM("derive: { 1a: c }"),
     "f:1:43: `1a` is no name of a derived field; expected letters, digits and _, not beginning with a "
     "digit, at most 64"},
    {STREAM("derive: { a-b: c }"),
     "f:1:43: `a-b` is no name of a derived field; expected letters, digits and _, not beginning with a "
     "digit, at most 64"},
    {STREAM("derive: { d: 1, d: 2 }"), "f:1:49: `d` is here twice; the first is in line 1"},
    {STREAM("derive: { i: x }"), "f:1:43: `i` is the id, time or source of stream `s`, in line 1; "
                                 "expected another name"},
    {STREAM("derive: { t: x }"), "f:1:43: `t` is the id, time or source of stream `s`, in line 1; "
                                 "expected another name"},
    {STREAM("derive: { w: x }, watermark: { source: w }"),
     "f:1:43: `w` is the id, time or source of stream `s`, in line 1; expected another name"},
    {STREAM("watermark: { source: a..b }"),
     "f:1:54: `a..b` is no field; expected names with dots between, at most 8 and 256 bytes, such as "
     "data.order.id"},
    {STREAM("watermark: { source: i.x }"),
     "f:1:54: `i.x` is used here, and `i` in line 1: a field of stream `s` cannot be both a value and a "
     "mapping"},
    {STREAM("dedup: { conflicts: true }"), "f:1:53: `conflicts: true`; expected detect or ignore"},
    {STREAM("dedup: { mode: bloom, conflicts: detect }"),
     "f:1:55: `conflicts`: only mode exact finds them"},
    {STREAM("dedup: { mode: observe, conflicts: ignore }"),
     "f:1:57: `conflicts`: only mode exact finds them"},
};

static const struct refuse refuse_lookups[] = {
    {LOOKUP("key: a, value: b"), "f:1:12: `ads` lacks `file`; expected a file path"},
    {LOOKUP("file: /dev/null, value: b"),
     "f:1:12: `ads` lacks `key`; expected the name of a column, at most 256 bytes"},
    {LOOKUP("file: /dev/null, key: b"),
     "f:1:12: `ads` lacks `value`; expected the name of a column, at most 256 bytes"},
    {LOOKUP("file: /nonexistent/ads.csv, key: a, value: b"),
     "f:1:25: `file: /nonexistent/ads.csv`: cannot be read: not found"},
    {LOOKUP("file: [a]"), "f:1:25: `file`: found a list; expected a file path"},
    {LOOKUP("file: \"a\\0b\""), "f:1:25: `file`: expected a file path"},
    {LOOKUP("key: \"a\\nb\""),
     "f:1:24: `key: a\\x0ab`; expected the name of a column, at most 256 bytes"},
    {LOOKUP("path: a"), "f:1:19: unknown key `path` in lookups.NAME; expected one of file, key, value"},
    {"lookups: { Ads: {} }\n",
     "f:1:12: `Ads` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"lookups: ads.csv\n", "f:1:10: `lookups`: found `ads.csv`; expected a mapping"},
};
