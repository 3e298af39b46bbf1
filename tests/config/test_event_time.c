/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that windows, triggers, metrics, expressions, derived fields and lookups mean what they say.
 *
 * 1. What is accepted prints as in a table, and reads back to the same.
 * 2. What is refused says so in the words of a second table (refuse_event_time.h).
 * 3. The structs hold what was written, with the defaults that depend on a type.
 * 4. Bounds are tried at both sides.
 * 5. A lookup's file is read, and its content is part of the state.
 */
#include "support.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "config/options.h"
#include "refuse_event_time.h"

struct accept {
    const char *yaml;
    const char *printed;
};

static const struct accept must_accept[] = {
    {WINDOW("size: 1h, offset: 59m"),
     "    window:\n      type: tumbling\n      size: 1h\n      offset: 59m\n    allowed_lateness:"},
    {WINDOW("size: 7d, offset: 4d, time_zone: America/Argentina/Buenos_Aires"),
     "      size: 7d\n      offset: 4d\n      time_zone: America/Argentina/Buenos_Aires\n"},
    {WINDOW("size: 24h, time_zone: Etc/GMT+5"), "      time_zone: \"Etc/GMT+5\"\n"},
    {WINDOW("type: sliding, size: 1h, every: 1m"),
     "      type: sliding\n      size: 1h\n      every: 1m\n      offset: 0s\n    allowed"},
    {WINDOW("every: 1m, offset: 59999ms, size: 1m, type: sliding"), "      offset: 59999ms\n"},
    {WINDOW("type: sliding, size: 1s, every: 1ms"), "      every: 1ms\n"},
    {WINDOW("type: sliding, size: 1d, every: 10s"), "      every: 10s\n"},
    {KEYS("window: { type: sliding, size: 10s, every: 1ms }, allowed_lateness: 1s, " COUNT), "      every: 1ms\n"},
    {KEYS("window: { type: sliding, size: 1000s, every: 1s }, trigger: { early: 1s }, " COUNT), "      early: 1s\n"},
    {WINDOW("type: session, gap: 30m"),
     "      type: session\n      gap: 30m\n      max: off\n    allowed"},
    {WINDOW("type: session, gap: 30m, max: 3600001ms"), "      max: 3600001ms\n"},
    {KEYS("window: { type: global }, trigger: { early: 100ms }, " COUNT),
     "    window:\n      type: global\n    allowed_lateness: 5m\n    trigger:\n      early: 100ms\n"
     "      early_count: 0\n      late: true\n      panes: accumulating\n"},
    {KEYS("window: { type: global }, trigger: { early_count: 1 }, " COUNT), "early_count: 1\n"},
    {MORE("trigger: { early: 1m, early_count: 1000000000, late: false, panes: discarding }"),
     "      early: 1m\n      early_count: 1000000000\n      late: false\n      panes: discarding\n"},
    {MORE("trigger: { early: 0s, panes: accumulating_and_retracting }"),
     "      panes: accumulating_and_retracting\n"},
    {MORE("where: price > 0"), "    from: s\n    where: \"price > 0\"\n    group_by: []\n"},
    {MORE("where: 'a == \"x\" && $b < 2'"), "    where: \"a == \\\"x\\\" && $$b < 2\"\n"},
    {MORE("where: x"), "    where: x\n"},
    {STREAMS "rules:\n  r:\n    from: [u, s, t]\n    window: { size: 1m }\n    metrics: { n: count }\n"
             "    where: |\n      a > 0 &&\n      b > 0\n",
     "    from: [u, s, t]\n    where: \"a > 0 &&\\u000ab > 0\\u000a\"\n"},
    {METRICS("n: { count: events }"), "      n: count\n"},
    {METRICS("n: { count: events, where: a > 0 }"),
     "      n: { count: events, where: \"a > 0\" }\n"},
    {METRICS("n: { where: a, from: u, count: events }"),
     "      n: { count: events, where: a, from: u }\n"},
    {METRICS("a: { sum: x, from: s }, b: { variance: x }, c: { stddev: x, where: y }"),
     "      a: { sum: x, from: s }\n      b: { variance: x }\n      c: { stddev: x, where: y }\n"},
    {METRICS("a: { first: x }, b: { last: y.y z }"),
     "      a: { first: x }\n      b: { last: \"y.y z\" }\n"},
    {METRICS("a: { distinct: x }, b: { distinct: y, error: 0.005 }"),
     "      a: { distinct: x, error: 0.01 }\n      b: { distinct: y, error: 0.005 }\n"},
    {METRICS("q: { quantiles: [0.5, 0.95, 0.99], of: ms }"),
     "      q: { quantiles: [0.5, 0.95, 0.99], of: ms, error: 0.01 }\n"},
    {METRICS("q: { of: ms, error: 0.001, quantiles: [0, 1] }"),
     "      q: { quantiles: [0, 1], of: ms, error: 0.001 }\n"},
    {METRICS("q: { quantiles: 0.5, of: ms, error: 1e-1 }"),
     "      q: { quantiles: [0.5], of: ms, error: 0.1 }\n"},
    {METRICS("q: { quantiles: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.91, 0.92, 0.93, "
             "0.94, 0.95, 1], of: x }"),
     "0.95, 1], of: x"},
    {METRICS("t: { top: url }, u: { top: url, n: 1000 }, c: { collect: url }, d: { collect: url, n: "
             "10000 }"),
     "      t: { top: url, n: 10 }\n      u: { top: url, n: 1000 }\n      c: { collect: url, n: 100 "
     "}\n      d: { collect: url, n: 10000 }\n"},
    {METRICS("h: { histogram: ms, bounds: [-1.5, -0, 10, 1e21] }"),
     "      h: { histogram: ms, bounds: [-1.5, 0, 10, 1e+21] }\n"},
    {METRICS("h: { histogram: ms, bounds: 10, where: ms > 0, from: u }"),
     "      h: { histogram: ms, bounds: [10], where: \"ms > 0\", from: u }\n"},
    {METRICS("ctr: { ratio: [clicks, views] }, views: count, clicks: { count: events, from: u }"),
     "      ctr: { ratio: [clicks, views] }\n      views: count\n      clicks: { count: events, from: "
     "u }\n"},
    {STREAM("derive: { day: 'time / 86400000', Double_2: day * 2 }"),
     "    missing_time: arrival\n    derive:\n      day: \"time / 86400000\"\n      Double_2: \"day * "
     "2\"\n    dedup:\n"},
    {STREAM("derive: {}"), "    missing_time: arrival\n    dedup:\n"},
    {STREAM("derive:"), "    missing_time: arrival\n    dedup:\n"},
    {STREAM("watermark: { source: data.source }"),
     "      max_future: 5m\n      source: data.source\nrules:"},
    {STREAM("watermark: { source: i }"), "      source: i\n"},
    {STREAM("dedup: { conflicts: detect }"), "      when_full: reject\n      conflicts: detect\n"},
    {STREAM("dedup: { mode: observe }"), "      when_full: reject\n    watermark:"},
    /* A derived field hides a field of the event, and is no parent of one. */
    {"streams: { s: { id: i, time: t, derive: { d: a + 1, i2: x } } }\nrules: { r: { from: s, group_by: "
     "[d, d.e], window: { size: 1m }, metrics: { n: { sum: d }, m: { sum: a.b } } } }\n",
     "    group_by: [d, d.e]\n"},
    /* What is a value in one stream may be a mapping in another, of which a metric takes nothing. */
    {"streams: { s: { id: i.a, time: t }, u: { id: j, time: t } }\nrules: { r: { from: [s, u], window: "
     "{ size: 1m }, metrics: { n: { sum: i, from: u } } } }\n",
     "      n: { sum: i, from: u }\n"},
    {"lookups:\n", "checkpoint:\n  every: 30s\nstreams:\n"},
    {"lookups: {}\n", "checkpoint:\n  every: 30s\nstreams:\n"},
};

static void accepts(void **state_) {
    (void)state_;
    for (size_t i = 0; i < sizeof must_accept / sizeof must_accept[0]; i++) {
        struct mr_config *config = parse(must_accept[i].yaml);
        struct mr_buf text = print(config);
        if (strstr((const char *)text.ptr, must_accept[i].printed) == NULL) {
            print_error("%s\n->\n%s\nlacks\n%s\n", must_accept[i].yaml, (const char *)text.ptr,
                        must_accept[i].printed);
            fail();
        }
        assert_round_trip(config);
        mr_buf_finish(&text);
        mr_config_close(config);
    }
}

REFUSES(windows)
REFUSES(metrics)
REFUSES(expressions)
REFUSES(lookups)

static void windows_say_all_of_themselves(void **state_) {
    (void)state_;
    struct mr_config *c = parse(WINDOW("type: sliding, size: 1h, every: 1m, offset: 5s"));
    const struct mr_config_rule *r = &c->rules[0];
    assert_int_equal(r->window.kind, MR_CONFIG_SLIDING);
    assert_int_equal(r->window.size_ms, 3600000);
    assert_int_equal(r->window.every_ms, 60000);
    assert_int_equal(r->window.offset_ms, 5000);
    assert_int_equal(r->window.gap_ms, 0);
    assert_true(r->window.max_ms == INT64_MAX);
    assert_int_equal(r->window.time_zone.len, 0);
    assert_int_equal(r->trigger.early_ms + (int64_t)r->trigger.early_count, 0);
    assert_true(r->trigger.late);
    assert_int_equal(r->trigger.panes, MR_CONFIG_ACCUMULATING);
    mr_config_close(c);
    c = parse(KEYS("window: { type: session, gap: 2s, max: 1m }, trigger: { early: 1s, early_count: 9, "
                   "late: false, panes: accumulating_and_retracting }, " COUNT));
    r = &c->rules[0];
    assert_int_equal(r->window.kind, MR_CONFIG_SESSION);
    assert_int_equal(r->window.gap_ms, 2000);
    assert_int_equal(r->window.max_ms, 60000);
    assert_int_equal(r->window.size_ms + r->window.every_ms + r->window.offset_ms, 0);
    assert_int_equal(r->trigger.early_ms, 1000);
    assert_int_equal(r->trigger.early_count, 9);
    assert_false(r->trigger.late);
    assert_int_equal(r->trigger.panes, MR_CONFIG_RETRACTING);
    mr_config_close(c);
    c = parse(WINDOW("size: 1d, time_zone: Europe/Berlin"));
    assert_int_equal(c->rules[0].window.kind, MR_CONFIG_TUMBLING);
    assert_text(c->rules[0].window.time_zone, "Europe/Berlin");
    mr_config_close(c);
}

static void metrics_say_all_of_themselves(void **state_) {
    (void)state_;
    struct mr_config *c =
        parse(STREAMS "rules:\n  r:\n    from: [t, s, u]\n    window: { size: 1m }\n    metrics:\n"
                      "      a: count\n"
                      "      q: { quantiles: [0.25, 0.5], of: ms, where: ok, from: u }\n"
                      "      h: { histogram: ms, bounds: [-1, 0.5, 3] }\n"
                      "      d: { distinct: user }\n"
                      "      p: { top: url, n: 3 }\n"
                      "      x: { ratio: [d, a] }\n");
    const struct mr_config_rule *r = &c->rules[0];
    assert_int_equal(r->stream_count, 3);
    assert_text(c->streams[r->streams[0]].name, "t");
    assert_text(c->streams[r->streams[2]].name, "u");
    const struct mr_config_metric_def *m = r->metrics;
    assert_int_equal(m[0].kind, MR_CONFIG_COUNT);
    assert_int_equal(m[0].from, UINT32_MAX);
    assert_int_equal(m[0].where.text.len, 0);
    assert_true(m[0].error == 0);
    assert_int_equal(m[1].kind, MR_CONFIG_QUANTILES);
    assert_text(m[1].field, "ms");
    assert_text(m[1].where.text, "ok");
    assert_int_equal(m[1].where.line, 8);
    assert_int_equal(m[1].where.column, 51);
    assert_int_equal(m[1].from, r->streams[2]);
    assert_int_equal(m[1].param_count, 2);
    assert_true(m[1].params[0] == 0.25 && m[1].params[1] == 0.5 && m[1].error == 0.01);
    assert_int_equal(m[2].param_count, 3);
    assert_true(m[2].params[0] == -1 && m[2].params[2] == 3 && m[2].error == 0);
    assert_int_equal(m[2].limit, 0);
    assert_true(m[3].error == 0.01);
    assert_int_equal(m[4].limit, 3);
    assert_int_equal(m[5].kind, MR_CONFIG_RATIO);
    assert_int_equal(m[5].field.len, 0);
    assert_int_equal(m[5].over[0], 3);
    assert_int_equal(m[5].over[1], 0);
    assert_true(mr_config_metric_has_stream(&m[0], r->streams[0]));
    assert_true(mr_config_metric_has_stream(&m[1], r->streams[2]));
    assert_false(mr_config_metric_has_stream(&m[1], r->streams[0]));
    mr_config_close(c);
}

static void expressions_know_their_place(void **state_) {
    (void)state_;
    struct mr_config *c =
        parse("streams:\n  s:\n    id: i\n    time: t\n    derive:\n      b: a + 1\n      a: 'x'\n"
              "rules:\n  r:\n    from: s\n    where:\n      a > 0\n    window: { size: 1m }\n"
              "    metrics: { n: count }\n");
    const struct mr_config_stream *s = &c->streams[0];
    assert_int_equal(s->derived_count, 2);
    assert_text(s->derived[0].name, "b");
    assert_text(s->derived[0].expr.text, "a + 1");
    assert_int_equal(s->derived[0].expr.line, 6);
    assert_int_equal(s->derived[0].expr.column, 10);
    assert_text(s->derived[1].expr.text, "x");
    assert_int_equal(mr_config_derived_index(s, MR_BYTES("a")), 1);
    assert_int_equal(mr_config_derived_index(s, MR_BYTES("x")), UINT32_MAX);
    assert_text(c->rules[0].where.text, "a > 0");
    assert_int_equal(c->rules[0].where.line, 12);
    assert_int_equal(c->rules[0].where.column, 7);
    struct mr_config *again = state_again(c);
    assert_text(again->rules[0].where.text, "a > 0");
    assert_int_equal(again->rules[0].where.line + again->rules[0].where.column, 0);
    assert_int_equal(again->streams[0].derived[0].expr.line, 0);
    mr_config_close(again);
    mr_config_close(c);
}

/* The status of `key` with an expression of that length, in a rule and in each of its metrics. */
static enum mr_status with_expression(size_t len, uint32_t metrics, struct mr_error *error) {
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    struct mr_buf expr;
    mr_buf_init(&expr, PRINT_MAX);
    for (size_t i = 0; i < len; i++) {
        mr_buf_append_char(&expr, "a + 1 > 0 || "[i % 13]);
    }
    mr_buf_append_text(&yaml, "streams: { s: { id: i, time: t } }\nrules:\n  r:\n    from: s\n"
                              "    window: { size: 1m }\n    where: '");
    mr_buf_append_bytes(&yaml, mr_buf_bytes(&expr));
    mr_buf_append_text(&yaml, "'\n    metrics:\n");
    for (uint32_t i = 0; i < metrics; i++) {
        mr_buf_printf(&yaml, "      m%u: { where: '%.*s', sum: f%u }\n", i, (int)expr.len,
                      (const char *)expr.ptr, i);
    }
    enum mr_status status = status_of(&yaml, error);
    mr_buf_finish(&expr);
    mr_buf_finish(&yaml);
    return status;
}

static void expressions_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error = {0};
    assert_int_equal(with_expression(MR_EXPR_LEN_MAX, MR_RULE_METRICS_MAX, &error), MR_OK);
    assert_int_equal(with_expression(MR_EXPR_LEN_MAX + 1, 1, &error), MR_INVALID);
    assert_string_equal(error.text, "f:6:12: `where`: 4097 bytes; expected an expression such as price "
                                    "> 0, at most 4096 bytes");
}

static enum mr_status with_derived(uint32_t count, uint32_t used, struct mr_error *error) {
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    mr_buf_append_text(&yaml, "streams:\n  s:\n    id: i\n    time: t\n    watermark: { source: w }\n"
                              "    derive:\n");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(&yaml, "      d%u: a + %u\n", i, i);
    }
    mr_buf_append_text(&yaml, "rules:\n");
    for (uint32_t r = 0; r * 64 < used; r++) {
        mr_buf_printf(&yaml, "  r%u: { from: s, window: { size: 1s }, metrics: {", r);
        for (uint32_t i = r * 64; i < used && i < (r + 1) * 64; i++) {
            mr_buf_printf(&yaml, "%s m%u: { max: %c%u }", i % 64 == 0 ? "" : ",", i,
                          i < count ? 'd' : 'f', i);
        }
        mr_buf_append_text(&yaml, " } }\n");
    }
    enum mr_status status = status_of(&yaml, error);
    mr_buf_finish(&yaml);
    return status;
}

static void derived_fields_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error = {0};
    assert_int_equal(with_derived(MR_DERIVED_MAX, MR_FIELDS_MAX, &error), MR_OK);
    assert_int_equal(with_derived(MR_DERIVED_MAX + 1, 1, &error), MR_INVALID);
    assert_string_equal(error.text, "f:7:7: `derive`: expected a mapping NAME: expression, up to 32");
    assert_int_equal(with_derived(MR_DERIVED_MAX, MR_FIELDS_MAX + 1, &error), MR_INVALID);
    assert_non_null(strstr(error.text, ": the rules of stream `s` use more than 128 fields"));
}

static enum mr_status with_streams(uint32_t count, uint32_t bounds, struct mr_error *error) {
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    mr_buf_append_text(&yaml, "streams:\n");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(&yaml, "  s%u: { id: i, time: t }\n", i);
    }
    mr_buf_append_text(&yaml, "rules: { r: { window: { size: 1m }, from: [");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(&yaml, "%ss%u", i == 0 ? "" : ", ", i);
    }
    mr_buf_append_text(&yaml, "], metrics: { h: { histogram: x, bounds: [");
    for (uint32_t i = 0; i < bounds; i++) {
        mr_buf_printf(&yaml, "%s%u.5", i == 0 ? "" : ", ", i);
    }
    mr_buf_append_text(&yaml, "] } } } }\n");
    enum mr_status status = status_of(&yaml, error);
    mr_buf_finish(&yaml);
    return status;
}

static void lists_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error = {0};
    assert_int_equal(with_streams(MR_RULE_INPUTS_MAX, MR_BOUNDS_MAX, &error), MR_OK);
    assert_int_equal(with_streams(MR_RULE_INPUTS_MAX + 1, 1, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "`from`: a list of 9; expected a stream, or a list of up to 8"));
    assert_int_equal(with_streams(1, MR_BOUNDS_MAX + 1, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "`bounds`: a list of 65; expected a list of 1 to 64 ascending"));
}

#define ADS "id,campaign\n1,a\n2,b\n"
#define USING(where)                                                                               \
    STREAM("derive: { c: 'lookup(ads, ad_id)' }")                                                  \
    "rules: { r: { from: s, window: { size: 1m }, " COUNT where " } }\n"

/* A configuration with the lookup `ads` of that content. The file is gone, but the printed text names it. */
static struct mr_config *with_lookup(struct mr_bytes content, const char *columns, const char *rest) {
    struct place p = write_file(content);
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    mr_buf_printf(&yaml, "lookups: { ads: { file: %s, %s } }\n%s", p.file, columns, rest);
    mr_buf_append_char(&yaml, 0);
    struct mr_config *config = parse((const char *)yaml.ptr);
    assert_round_trip(config);
    assert_text(config->lookups[0].file, p.file);
    mr_buf_finish(&yaml);
    remove_place(&p);
    return config;
}

static void lookups_are_read(void **state_) {
    (void)state_;
    struct mr_config *c = with_lookup(MR_BYTES(ADS), "key: id, value: 'name, long'", USING(""));
    assert_int_equal(c->lookup_count, 1);
    const struct mr_config_lookup *l = &c->lookups[0];
    assert_text(l->name, "ads");
    assert_text(l->key_column, "id");
    assert_text(l->value_column, "name, long");
    assert_text(l->data, ADS);
    assert_true(l->data_hash == mr_checksum(MR_BYTES(ADS)));
    struct mr_buf text = print(c);
    assert_non_null(strstr((const char *)text.ptr, "\nlookups:\n  ads:\n    file: /"));
    assert_non_null(strstr((const char *)text.ptr, "\n    key: id\n    value: \"name, long\"\nstreams:"));
    mr_buf_finish(&text);
    char state_file[64];
    (void)snprintf(state_file, sizeof state_file, "lookups:\n  ads:\n    file: xxh3-%016llx-%zu\n",
                   (unsigned long long)l->data_hash, sizeof ADS - 1);
    struct mr_buf state = state_yaml(c);
    assert_ptr_equal(strstr((const char *)state.ptr, state_file), state.ptr);
    mr_buf_finish(&state);
    struct mr_config *again = state_again(c);
    assert_null(again->lookups[0].data.ptr);
    assert_int_equal(again->lookups[0].data_len, sizeof ADS - 1);
    assert_true(again->lookups[0].data_hash == l->data_hash);
    assert_int_equal(again->lookups[0].file.len, 0);
    mr_config_close(again);
    mr_config_close(c);
    c = with_lookup(MR_BYTES(""), "key: a, value: a", "");
    assert_int_equal(c->lookups[0].data.len, 0);
    assert_non_null(c->lookups[0].data.ptr);
    mr_config_close(c);
}

/* What becomes of a rule when the lookup changes from ADS, as the log has it, to this. */
static enum mr_change lookup_change(const char *where, const char *content, const char *columns,
                                    bool *ret_any) {
    char rest[512];
    (void)snprintf(rest, sizeof rest, STREAM("derive: { c: 'lookup(ads, ad_id)' }")
                   "rules: { r: { from: s, window: { size: 1m }, " COUNT "%s } }\n", where);
    struct mr_config *first = with_lookup(MR_BYTES(ADS), "key: id, value: campaign", rest);
    struct mr_config *before = state_again(first);
    struct mr_config *now = with_lookup(mr_bytes_text(content), columns, rest);
    struct mr_config_change change;
    assert_int_equal(mr_config_compare(before, now, &change, NULL), MR_OK);
    assert_int_equal(change.any, texts_differ(before, now));
    assert_int_equal(change.streams[0], MR_CHANGE_NONE);
    *ret_any = change.any;
    mr_config_close(now);
    mr_config_close(before);
    mr_config_close(first);
    return change.rules[0];
}

static void lookups_are_part_of_the_state(void **state_) {
    (void)state_;
    static const char same[] = "key: id, value: campaign";
    static const char other[] = "id,campaign\n1,a\n2,c\n";
    static const char *const using[] = {", group_by: c", ", where: c == \"a\"",
                                        ", where: 'lookup(ads, x) == 1'"};
    bool any;
    for (size_t i = 0; i < sizeof using / sizeof using[0]; i++) {
        assert_int_equal(lookup_change(using[i], ADS, same, &any), MR_CHANGE_NONE); /* another file */
        assert_false(any);
        assert_int_equal(lookup_change(using[i], other, same, &any), MR_CHANGE_ANEW);
        assert_true(any);
        assert_int_equal(lookup_change(using[i], ADS, "key: id, value: id", &any), MR_CHANGE_ANEW);
        assert_int_equal(lookup_change(using[i], ADS, "key: campaign, value: campaign", &any),
                         MR_CHANGE_ANEW);
    }
    assert_int_equal(lookup_change(", group_by: ads_", other, same, &any), MR_CHANGE_NONE);
    assert_true(any);
}

static enum mr_status parse_lookup(const char *file, struct mr_error *error) {
    char yaml[256];
    (void)snprintf(yaml, sizeof yaml, "lookups: { ads: { file: %s, key: a, value: b } }\n", file);
    struct mr_config *config = NULL;
    enum mr_status status = mr_config_parse(mr_bytes_text(yaml), "f", NULL, &config, error);
    mr_config_close(config);
    return status;
}

static void lookup_files_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error = {0};
    struct place p = write_file(MR_BYTES("a,b\n"));
    assert_int_equal(parse_lookup(p.file, &error), MR_OK);
    struct mr_file *file;
    assert_int_equal(mr_file_open(mr_disk_system(), p.file, MR_FILE_WRITE, &file), MR_OK);
    assert_int_equal(mr_file_truncate(file, MR_LOOKUP_BYTES_MAX + 1), MR_OK); /* takes no disk */
    assert_int_equal(parse_lookup(p.file, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "/file`: 268435457 bytes; expected at most 256MiB"));
    mr_file_close(file);
    assert_int_equal(parse_lookup(p.dir, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "`: cannot be read: "));
    remove_place(&p);

    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    for (uint32_t more = 0; more <= 1; more++) {
        mr_buf_append_text(&yaml, "lookups:\n");
        for (uint32_t i = 0; i < MR_LOOKUPS_MAX + more; i++) {
            mr_buf_printf(&yaml, "  l%u: { file: /dev/null, key: a, value: b }\n", i);
        }
        assert_int_equal(status_of(&yaml, &error), more ? MR_INVALID : MR_OK);
    }
    assert_string_equal(error.text, "f:18:3: `lookups`: more than 16 of them");
    mr_buf_finish(&yaml);
}

/* With the k-th allocation failing, for every k: no crash, no leak, one status. */
static void memory_may_end_anywhere(void **state_) {
    (void)state_;
    struct place p = write_file(MR_BYTES(ADS));
    char yaml[1024];
    (void)snprintf(yaml, sizeof yaml,
                   "lookups: { ads: { file: %s, key: a, value: b } }\n"
                   "streams: { s: { id: i, time: t, derive: { d: a + 1 }, watermark: { source: w } } }\n"
                   "rules: { r: { from: s, where: d > 0, window: { type: sliding, size: 1m, every: 1s }, "
                   "metrics: { n: { count: events, where: x }, q: { quantiles: [0.5], of: d }, m: { sum: d "
                   "}, o: { ratio: [m, n] } } } }\n",
                   p.file);
    enum mr_status status = MR_NO_MEMORY;
    uint32_t failures = 0;
    for (size_t k = 1; status == MR_NO_MEMORY; k++) {
        struct mr_config *config = NULL;
        struct mr_error error = {0};
        mr_alloc_fail_at(k, 1);
        status = mr_config_parse(mr_bytes_text(yaml), "f", NULL, &config, &error);
        mr_alloc_fail_at(0, 0);
        failures += status != MR_OK;
        mr_config_close(config);
    }
    assert_int_equal(status, MR_OK);
    assert_true(failures >= 5);
    remove_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses_windows),
        cmocka_unit_test(refuses_metrics),
        cmocka_unit_test(refuses_expressions),
        cmocka_unit_test(refuses_lookups),
        cmocka_unit_test(windows_say_all_of_themselves),
        cmocka_unit_test(metrics_say_all_of_themselves),
        cmocka_unit_test(expressions_know_their_place),
        cmocka_unit_test(expressions_are_bounded),
        cmocka_unit_test(derived_fields_are_bounded),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(lookups_are_read),
        cmocka_unit_test(lookups_are_part_of_the_state),
        cmocka_unit_test(lookup_files_are_bounded),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
