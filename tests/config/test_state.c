/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the log and the checkpoints say of streams and rules (mr_config_print_state).
 *
 * 1. The text is the one known by heart, whatever the settings outside of streams and rules are.
 * 2. It reads back to itself: for every mode, metric and awkward name, and at the largest counts.
 * 3. A configuration whose text a start could not read is refused.
 * 4. With a shared store it says the names that claims are made under, and no secret and no address, which may change.
 */
#include "support.h"

#include "config/node.h"
#include "config/value.h"

/* Known by heart: this text is in the log of every data directory. */
static const char known[] = "streams:\n"
                            "  s:\n"
                            "    id: [a, \"b\\\"c\"]\n"
                            "    time:\n"
                            "      field: t\n"
                            "      format: us\n"
                            "    missing_id: reject\n"
                            "    missing_time: arrival\n"
                            "    dedup:\n"
                            "      mode: exact\n"
                            "      horizon: 1d\n"
                            "      ids: 10000000\n"
                            "      when_full: reject\n"
                            "      conflicts: ignore\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: 1m\n"
                            "      max_future: 5m\n"
                            "  u:\n"
                            "    time:\n"
                            "      field: \"$$t\"\n"
                            "      format: ms\n"
                            "    missing_id: accept\n"
                            "    missing_time: reject\n"
                            "    dedup:\n"
                            "      mode: none\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: off\n"
                            "      max_future: 5m\n"
                            "  v:\n"
                            "    id: [i]\n"
                            "    time:\n"
                            "      field: t\n"
                            "      format: ms\n"
                            "    missing_id: reject\n"
                            "    missing_time: arrival\n"
                            "    dedup:\n"
                            "      mode: bloom\n"
                            "      horizon: 1d\n"
                            "      ids: 10000000\n"
                            "      when_full: evict_oldest\n"
                            "      error: 0.0001\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: 1m\n"
                            "      max_future: 5m\n"
                            "rules:\n"
                            "  r:\n"
                            "    from: u\n"
                            "    group_by: [x, y.z]\n"
                            "    window:\n"
                            "      type: tumbling\n"
                            "      size: 10s\n"
                            "      offset: 0s\n"
                            "    allowed_lateness: 5m\n"
                            "    trigger:\n"
                            "      early: 0s\n"
                            "      early_count: 0\n"
                            "      late: true\n"
                            "      panes: accumulating\n"
                            "    metrics:\n"
                            "      n: count\n"
                            "      m: { avg: p }\n"
                            "    groups:\n"
                            "      max: 1000000\n"
                            "      bytes: 256MiB\n"
                            "      when_full: drop\n";

/* What was written before there were other windows, triggers and metrics. */
static const char known_before[] = "streams:\n"
                            "  s:\n"
                            "    id: [a, \"b\\\"c\"]\n"
                            "    time:\n"
                            "      field: t\n"
                            "      format: us\n"
                            "    missing_id: reject\n"
                            "    missing_time: arrival\n"
                            "    dedup:\n"
                            "      mode: exact\n"
                            "      horizon: 1d\n"
                            "      ids: 10000000\n"
                            "      when_full: reject\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: 1m\n"
                            "      max_future: 5m\n"
                            "  u:\n"
                            "    time:\n"
                            "      field: \"$$t\"\n"
                            "      format: ms\n"
                            "    missing_id: accept\n"
                            "    missing_time: reject\n"
                            "    dedup:\n"
                            "      mode: none\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: off\n"
                            "      max_future: 5m\n"
                            "  v:\n"
                            "    id: [i]\n"
                            "    time:\n"
                            "      field: t\n"
                            "      format: ms\n"
                            "    missing_id: reject\n"
                            "    missing_time: arrival\n"
                            "    dedup:\n"
                            "      mode: bloom\n"
                            "      horizon: 1d\n"
                            "      ids: 10000000\n"
                            "      when_full: evict_oldest\n"
                            "      error: 0.0001\n"
                            "    watermark:\n"
                            "      out_of_orderness: 30s\n"
                            "      idle_timeout: 1m\n"
                            "      max_future: 5m\n"
                            "rules:\n"
                            "  r:\n"
                            "    from: u\n"
                            "    group_by: [x, y.z]\n"
                            "    window:\n"
                            "      type: tumbling\n"
                            "      size: 10s\n"
                            "    allowed_lateness: 5m\n"
                            "    trigger:\n"
                            "      late: true\n"
                            "      panes: accumulating\n"
                            "    metrics:\n"
                            "      n: count\n"
                            "      m: { avg: p }\n"
                            "    groups:\n"
                            "      max: 1000000\n"
                            "      bytes: 256MiB\n"
                            "      when_full: drop\n";

#define KNOWN_YAML                                                                                 \
    "streams:\n"                                                                                   \
    "  s: { id: [a, 'b\"c'], time: { field: t, format: us } }\n"                                   \
    "  u: { time: $t, missing_id: accept, missing_time: reject, dedup: { mode: none },\n"          \
    "       watermark: { idle_timeout: off } }\n"                                                  \
    "  v: { id: i, time: t, dedup: { mode: bloom, when_full: evict_oldest } }\n"                   \
    "rules:\n"                                                                                     \
    "  r: { from: u, group_by: [x, y.z], window: { size: 10s },\n"                                 \
    "       metrics: { n: count, m: { avg: p } }, groups: { when_full: drop } }\n"

static void the_state_is_the_known_text(void **state_) {
    (void)state_;
    static const char *const yamls[] = {
        KNOWN_YAML,
        "node: { id: other, shards: 2, data_dir: /x }\nhttp: { listen: 0.0.0.0, allow_insecure: "
        "true }\n"
        "limits: { body: 1MiB }\nlog: { sync: off, retain: off }\ncheckpoint: { every: 1s "
        "}\n" KNOWN_YAML,
        known,
        known_before,
    };
    for (size_t i = 0; i < sizeof yamls / sizeof yamls[0]; i++) {
        struct mr_config *config = parse(yamls[i]);
        struct mr_buf text = state_yaml(config);
        assert_string_equal((const char *)text.ptr, known);
        mr_buf_finish(&text);
        mr_config_close(state_again(config));
        mr_config_close(config);
    }
    struct mr_config *config = parse("streams: { s: { id: i, time: t } }\n");
    struct mr_buf text = state_yaml(config);
    assert_non_null(strstr((const char *)text.ptr,
                           "\nrules: {}\n")); /* left out, it would be the built-in one */
    mr_buf_finish(&text);
    struct mr_config *again = state_again(config);
    assert_int_equal(again->rule_count, 0);
    mr_config_close(again);
    mr_config_close(config);
}

/* Known by heart as well: with claims in a store. */
static const char known_shared[] = "node:\n"
                                   "  id: n\n"
                                   "cluster:\n"
                                   "  name: c\n"
                                   "stores:\n"
                                   "  b:\n"
                                   "    type: redis\n"
                                   "  a:\n"
                                   "    type: redis\n"
                                   "streams:\n"
                                   "  s:\n"
                                   "    id: [i]\n"
                                   "    time:\n"
                                   "      field: t\n"
                                   "      format: ms\n"
                                   "    missing_id: reject\n"
                                   "    missing_time: arrival\n"
                                   "    dedup:\n"
                                   "      mode: redis\n"
                                   "      horizon: 1d\n"
                                   "      store: b\n"
                                   "      layout: key\n"
                                   "      outage: hold\n"
                                   "    watermark:\n"
                                   "      out_of_orderness: 30s\n"
                                   "      idle_timeout: 1m\n"
                                   "      max_future: 5m\n"
                                   "  u:\n"
                                   "    id: [i]\n"
                                   "    time:\n"
                                   "      field: t\n"
                                   "      format: ms\n"
                                   "    missing_id: reject\n"
                                   "    missing_time: arrival\n"
                                   "    dedup:\n"
                                   "      mode: redis\n"
                                   "      horizon: 1d\n"
                                   "      ids: 7\n"
                                   "      when_full: reject\n"
                                   "      store: a\n"
                                   "      layout: bucket\n"
                                   "      outage: local\n"
                                   "    watermark:\n"
                                   "      out_of_orderness: 30s\n"
                                   "      idle_timeout: 1m\n"
                                   "      max_future: 5m\n"
                                   "rules: {}\n";

#define SHARED_STREAMS                                                                             \
    "streams:\n"                                                                                   \
    "  s: { id: i, time: t, dedup: { mode: redis, store: b, layout: key, outage: hold } }\n"       \
    "  u: { id: i, time: t, dedup: { mode: redis, store: a, outage: local, ids: 7 } }\n"

/* Other addresses, secrets, times, stores besides, another order: the same state. */
static void the_state_has_names_alone(void **state_) {
    (void)state_;
    static const char *const yamls[] = {
        "node: { id: n }\ncluster: { name: c, secret: hunter2-hunter2-hunter2 }\n"
        "stores: { a: { type: redis, nodes: [hunter2] }, b: { type: redis, nodes: [h] } }\n" SHARED_STREAMS,
        SHARED_STREAMS
        "node: { id: n, shards: 3, data_dir: hunter2 }\ncluster: { name: c, secret: another-one-of-these }\n"
        "stores:\n"
        "  c: { type: redis, nodes: [hunter2] }\n"
        "  b: { type: redis, nodes: [g, h], cluster: true, user: hunter2, password: hunter2-password, tls: { ca_file: hunter2 } }\n"
        "  a: { type: redis, nodes: [h], timeout: 1s, recent: 1h, assume_strict: true, tls: true }\n",
    };
    for (size_t i = 0; i < sizeof yamls / sizeof yamls[0]; i++) {
        struct mr_config *config = parse(yamls[i]);
        assert_round_trip(config);
        struct mr_buf text = state_yaml(config);
        assert_string_equal((const char *)text.ptr, known_shared);
        mr_buf_finish(&text);
        struct mr_config *again = state_again(config);
        assert_text(again->node.id, "n");
        assert_text(again->cluster.name, "c");
        assert_int_equal(again->cluster.secret.len, 0);
        assert_int_equal(again->store_count, 2);
        for (uint32_t k = 0; k < again->store_count; k++) {
            assert_int_equal(again->stores[k].node_count, 0);
        }
        assert_text(again->stores[again->streams[0].dedup.store].name, "b");
        assert_text(again->stores[again->streams[1].dedup.store].name, "a");
        struct mr_config_change change;
        assert_int_equal(mr_config_compare(again, config, &change, NULL), MR_OK);
        assert_false(change.any);
        mr_config_close(again);
        mr_config_close(config);
    }
}

/* A state with claims is no configuration; one without is. A state needs no environment and no files, and is checked. */
static void a_state_is_read_as_one(void **state_) {
    (void)state_;
    struct mr_config *config = NULL;
    struct mr_error error = {0};
    assert_int_equal(mr_config_parse(mr_bytes_text(known_shared), "f", NULL, &config, &error), MR_INVALID);
    assert_string_equal(error.text, "f:6:3: `b` lacks `nodes`; expected a list of 1 to 32 of HOST:PORT, "
                                    "[IPV6]:PORT, HOST");
    assert_int_equal(mr_config_parse_state(mr_bytes_text(known), "f", &config, &error), MR_OK);
    assert_int_equal(config->store_count + config->cluster.name.len, 0);
    mr_config_close(config);
    config = NULL;
    static const struct {
        const char *yaml;
        const char *text;
    } bad[] = {
        {"stream: {}\n", "f:1:1: unknown key `stream`; did you mean `streams`?"},
        {"node: { id: \"${NAME}\" }\n",
         "f:1:13: environment variable `NAME` is not set; set it, or write ${NAME:-default}"},
        {"cluster: { name: c, secret_file: /etc/hostname }\n",
         "f:1:34: `secret_file`: expected a file path"},
        {SHARED_STREAMS, "f:2:53: `b` is no store; expected one of those under `stores`"},
        {"stores: { a: { type: redis }, b: { type: redis } }\n" SHARED_STREAMS,
         "f:3:39: `mode: redis` needs cluster: { name: NAME, secret_file: FILE }, the same on all nodes"},
        {"cluster: { name: c }\nstores: { a: { type: redis }, b: { type: redis } }\n" SHARED_STREAMS,
         "f:4:39: `mode: redis` needs node: { id: NAME }, another one on each node: two of one name would "
         "take each other's claims for their own"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum mr_status status = mr_config_parse_state(mr_bytes_text(bad[i].yaml), "f", &config, &error);
        assert_int_equal(status, MR_INVALID);
        assert_string_equal(error.text, bad[i].text);
        assert_null(config);
    }
}

/* Names of fields that YAML, variables or a line could make something else of. */
static void awkward_names_read_back(void **state_) {
    (void)state_;
    static const char *const names[] = {
        "a b",
        "a: b",
        "- a",
        "#a",
        "'a'",
        "\"a\"",
        "a\\b",
        "{a}",
        "[a]",
        "a,b",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "$a",
        "${NAME}",
        "$$",
        "a$",
        "off",
        "true",
        "null",
        "~",
        "1",
        "0x1f",
        "1e3",
        "-",
        "---",
        " a",
        "a ",
        "a #b",
        "?",
        "? a",
        ":",
        "a:",
        "=",
        "<<",
        "\xc3\xb6",
        "\xc2\x85",
        "\xe2\x80\xa8",
        "\xef\xbb\xbf",
        "\xf0\x9f\x98\x80",
        "\xef\xbf\xbf",
        "a.b c.\"d\"",
    };
    enum { NAMES_COUNT = sizeof names / sizeof names[0] };
    static const char *const metrics[] = {"sum", "min", "max", "avg"};
    struct mr_config *config = parse(KNOWN_YAML);
    for (int i = 0; i < NAMES_COUNT; i++) {
        struct mr_bytes name = mr_bytes_text(names[i]);
        assert_true(mr_value_path(name));
        config->streams[0].id[0] = name;
        config->streams[1].time_field = mr_bytes_text(names[(i + 1) % NAMES_COUNT]);
        config->rules[0].group_by[0] = mr_bytes_text(names[(i + 2) % NAMES_COUNT]);
        config->rules[0].metrics[1].field = mr_bytes_text(names[(i + 3) % NAMES_COUNT]);
        config->rules[0].metrics[1].kind = (enum mr_config_metric)(MR_CONFIG_SUM + i % 4);
        struct mr_buf text = state_yaml(config);
        assert_non_null(strstr((const char *)text.ptr, metrics[i % 4]));
        mr_buf_finish(&text);
        struct mr_config *again = state_again(config);
        assert_true(mr_bytes_equal(again->streams[0].id[0], name));
        assert_true(mr_bytes_equal(again->streams[1].time_field, config->streams[1].time_field));
        assert_true(mr_bytes_equal(again->rules[0].group_by[0], config->rules[0].group_by[0]));
        assert_true(
            mr_bytes_equal(again->rules[0].metrics[1].field, config->rules[0].metrics[1].field));
        assert_int_equal(again->rules[0].metrics[1].kind, config->rules[0].metrics[1].kind);
        struct mr_config_change change;
        assert_int_equal(mr_config_compare(config, again, &change, NULL), MR_OK);
        assert_false(change.any);
        mr_config_close(again);
    }
    mr_config_close(config);
}

/* The largest counts of everything, with the shortest names that still differ. */
static void write_largest(struct mr_buf *yaml) {
    mr_buf_append_text(yaml, "streams:\n");
    for (int i = 0; i < MR_STREAMS_MAX; i++) {
        mr_buf_printf(yaml, "  s%d: {id: [a, b, c, d], time: t}\n", i);
    }
    mr_buf_append_text(yaml, "rules:\n");
    for (int i = 0; i < MR_RULES_MAX; i++) {
        mr_buf_printf(
            yaml,
            "  r%d: {from: s%d, window: {size: 1s}, group_by: [a, b, c, d, e, f, g, h], metrics: {",
            i, i % MR_STREAMS_MAX);
        for (int k = 0; k < MR_RULE_METRICS_MAX; k++) {
            mr_buf_printf(yaml, "%sm%d: {avg: x%d}", k == 0 ? "" : ", ", k, k);
        }
        mr_buf_append_text(yaml, "}}\n");
    }
    mr_buf_append_char(yaml, 0);
}

static void the_largest_state_reads_back(void **state_) {
    (void)state_;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    write_largest(&yaml);
    struct mr_config *config = parse((const char *)yaml.ptr);
    assert_int_equal(config->rules[MR_RULES_MAX - 1].metric_count, MR_RULE_METRICS_MAX);
    struct mr_config *again = state_again(config);
    struct mr_config_change change;
    assert_int_equal(mr_config_compare(config, again, &change, NULL), MR_OK);
    assert_false(change.any);
    mr_config_close(again);
    mr_config_close(config);
    mr_buf_finish(&yaml);
}

/* A field of 128 times U+0085: two bytes each in the file, \u0085 in the state text. */
static void write_long(struct mr_buf *yaml, uint32_t rules, char last) {
    mr_buf_append_text(yaml, "streams: { s: { id: i, time: t } }\nrules:\n");
    for (uint32_t r = 0; r < rules; r++) {
        mr_buf_printf(yaml, "  r%u: { from: s, window: { size: 1s }, metrics: {", r);
        for (int k = 0; k < MR_RULE_METRICS_MAX; k++) {
            mr_buf_printf(yaml, "%s m%d: { sum: \"", k == 0 ? "" : ",", k);
            for (int i = 0; i < 127; i++) {
                mr_buf_append_text(yaml, "\\N");
            }
            mr_buf_printf(yaml, "%c\" }", last);
        }
        mr_buf_append_text(yaml, " } }\n");
    }
}

static void a_state_that_could_not_be_read_is_refused(void **state_) {
    (void)state_;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    uint32_t fits = 0;
    enum mr_status status = MR_OK;
    struct mr_error error = {0};
    for (uint32_t rules = 20; status == MR_OK; rules++) {
        mr_buf_clear(&yaml);
        write_long(&yaml, rules, 'x');
        struct mr_config *config = NULL;
        status = mr_config_parse(mr_buf_bytes(&yaml), "f", NULL, &config, &error);
        if (status == MR_OK) {
            mr_config_close(state_again(config));
            mr_config_close(config);
            fits = rules;
        }
    }
    assert_int_equal(status, MR_LIMIT);
    assert_string_equal(
        error.text, "f:1:12: streams and rules of more than 1 MiB, with every default written out; "
                    "expected fewer, or shorter names of fields");
    assert_in_range(fits, 20, 24);
    mr_buf_finish(&yaml);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_state_is_the_known_text),
        cmocka_unit_test(the_state_has_names_alone),
        cmocka_unit_test(a_state_is_read_as_one),
        cmocka_unit_test(awkward_names_read_back),
        cmocka_unit_test(the_largest_state_reads_back),
        cmocka_unit_test(a_state_that_could_not_be_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
