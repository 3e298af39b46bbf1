/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what is wrong in a configuration is refused with the right words at the right place,
 * and that nothing else is: a table of refusals (refuse.h), the counts at both sides of every
 * bound, and every allocation failing in turn.
 */
#include "support.h"

#include "base/alloc.h"
#include "config/node.h"
#include "config/options.h"
#include "refuse.h"

#include <stdio.h>

REFUSES(yaml)
REFUSES(unknown)
REFUSES(later)
REFUSES(types)
REFUSES(streams)
REFUSES(rules)
REFUSES(cross)
REFUSES(tokens)
REFUSES(environment)

/* Each LATER row of the table is refused where it stands; nothing of API.md can be lost from
 * refuse.h. */
static void every_later_row_is_in_the_table(void **state_) {
    (void)state_;
    size_t count;
    const struct mr_option *options = mr_options(&count);
    for (size_t i = 0; i < count; i++) {
        if (options[i].type != MR_OPTION_LATER) {
            continue;
        }
        char wanted[64];
        (void)snprintf(wanted, sizeof wanted, ": `%s`: known, not in this version", options[i].key);
        bool found = false;
        for (size_t j = 0; j < sizeof refuse_later / sizeof refuse_later[0]; j++) {
            found = found || strstr(refuse_later[j].text, wanted) != NULL;
        }
        assert_true(found);
    }
}

static void add_streams(struct mr_buf *yaml, uint32_t count) {
    mr_buf_append_text(yaml, "streams:\n");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(yaml, "  s%u: { id: i, time: t }\n", i);
    }
}

static void add_rule(struct mr_buf *yaml, uint32_t name, uint32_t field_first,
                     uint32_t field_count) {
    mr_buf_printf(yaml, "  r%u: { from: s0, window: { size: 1m }, metrics: { ", name);
    for (uint32_t i = 0; i < field_count; i++) {
        mr_buf_printf(yaml, "%sm%u: { sum: f%u }", i == 0 ? "" : ", ", i, field_first + i);
    }
    mr_buf_append_text(yaml, " } }\n");
}

static void counts_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);

    add_streams(&yaml, MR_STREAMS_MAX);
    assert_int_equal(status_of(&yaml, &error), MR_OK);
    add_streams(&yaml, MR_STREAMS_MAX + 1);
    assert_int_equal(status_of(&yaml, &error), MR_INVALID);
    assert_string_equal(error.text, "f:66:3: `streams`: more than 64 of them");

    for (uint32_t more = 0; more <= 1; more++) {
        add_streams(&yaml, 1);
        mr_buf_append_text(&yaml, "rules:\n");
        for (uint32_t i = 0; i < MR_RULES_MAX + more; i++) {
            add_rule(&yaml, i, 0, 1);
        }
        assert_int_equal(status_of(&yaml, &error), more ? MR_INVALID : MR_OK);
    }
    assert_string_equal(error.text, "f:260:3: `rules`: more than 256 of them");

    for (uint32_t more = 0; more <= 1; more++) {
        add_streams(&yaml, 1);
        mr_buf_append_text(&yaml, "rules:\n");
        add_rule(&yaml, 0, 0, MR_RULE_METRICS_MAX + more);
        assert_int_equal(status_of(&yaml, &error), more ? MR_INVALID : MR_OK);
    }
    assert_non_null(strstr(error.text, "`metrics`: more than 64 of them"));
    mr_buf_finish(&yaml);
}

static void fields_of_a_stream_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    add_streams(&yaml, 2);
    mr_buf_append_text(&yaml, "rules:\n");
    add_rule(&yaml, 0, 0, 64);
    add_rule(&yaml, 1, 64, 64);
    add_rule(&yaml, 2, 0, 64); /* the same columns again */
    mr_buf_append_text(&yaml, "  r3: { from: s1, group_by: other, window: { size: 1s }, "
                              "metrics: { n: count } }\n");
    assert_int_equal(status_of(&yaml, &error), MR_OK);
    add_streams(&yaml, 2);
    mr_buf_append_text(&yaml, "rules:\n");
    add_rule(&yaml, 0, 0, 64);
    add_rule(&yaml, 1, 64, 64);
    mr_buf_append_text(&yaml, "  r3: { from: s0, group_by: [f0], window: { size: 1s }, "
                              "metrics: { n: count } }\n");
    assert_int_equal(status_of(&yaml, &error), MR_INVALID); /* f0 as text is one column more */
    assert_string_equal(error.text, "f:7:30: the rules of stream `s0` use more than 128 fields");
    mr_buf_finish(&yaml);
}

static void files_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);

    for (uint32_t more = 0; more <= 1; more++) {
        uint8_t *room = mr_buf_reserve(&yaml, MR_YAML_BYTES_MAX + more);
        assert_non_null(room);
        memset(room, '\n', MR_YAML_BYTES_MAX + more);
        yaml.len += MR_YAML_BYTES_MAX + more;
        assert_int_equal(status_of(&yaml, &error), more ? MR_LIMIT : MR_OK);
    }
    assert_string_equal(error.text, "f: longer than 1 MiB; this is no configuration");

    mr_buf_append_text(&yaml, "a: [");
    for (uint32_t i = 0; i < MR_YAML_NODES_MAX; i++) {
        mr_buf_append_text(&yaml, "x, ");
    }
    mr_buf_append_text(&yaml, "]\n");
    assert_int_equal(status_of(&yaml, &error), MR_LIMIT);
    assert_non_null(strstr(error.text, "more than 100,000 values"));

    for (uint32_t i = 0; i <= MR_YAML_KEYS_MAX; i++) {
        mr_buf_printf(&yaml, "k%u: 1\n", i);
    }
    assert_int_equal(status_of(&yaml, &error), MR_LIMIT);
    assert_string_equal(error.text, "f:1025:1: a mapping of more than 1,024 keys");
    mr_buf_finish(&yaml);
}

static void variables_are_bounded(void **state_) {
    (void)state_;
    static char big[(1 << 20) + 8];
    memset(big, 'x', sizeof big - 1);
    memcpy(big, "BIG=", 4);
    char *const only[] = {big, NULL};
    struct mr_config *config = NULL;
    struct mr_error error;
    static const char yaml[] = "node: { data_dir: \"${BIG}${BIG}${BIG}${BIG}\" }\n";
    enum mr_status status = mr_config_parse(MR_BYTES(yaml), "f", only, &config, &error);
    assert_int_equal(status, MR_LIMIT);
    assert_string_equal(error.text, "f:1:19: values of more than 4 MiB from the environment");
}

/* With the k-th allocation failing, for every k: no crash, no leak (the sanitizer looks), one
 * status. */
static void memory_may_end_anywhere(void **state_) {
    (void)state_;
    static const char yaml[] =
        "node: { id: \"${NAME}\", shards: 2 }\n"
        "auth: { tokens: { a: { sha256: \"" HASH "\", allow: [ingest, query], streams: [s] } } }\n"
        "cluster: { name: c, secret: sixteen-bytes-of }\n"
        "stores: { m: { type: redis, nodes: [h, \"[::1]:1\"], cluster: true, user: u, password: p, "
        "tls: { ca_file: f } } }\n"
        "streams: { s: { id: [a, b], time: { field: t, format: s }, "
        "dedup: { mode: redis, store: m } } }\n"
        "rules: { r: { from: s, group_by: [x, y], window: { size: 1m }, "
        "metrics: { n: count, m: { max: z } } } }\n";
    static const char bad[] = "nod: {}\n";
    uint32_t failures = 0;
    for (size_t k = 1;; k++) {
        struct mr_config *config = NULL;
        struct mr_error error = {0};
        mr_alloc_fail_at(k, 1);
        enum mr_status status = mr_config_parse(MR_BYTES(yaml), "f", environment, &config, &error);
        struct mr_config *none = NULL;
        enum mr_status status_bad = mr_config_parse(MR_BYTES(bad), "f", environment, &none, NULL);
        mr_alloc_fail_at(0, 0);
        assert_true(status_bad == MR_NO_MEMORY || status_bad == MR_INVALID);
        if (status == MR_OK) {
            mr_config_close(config);
            break;
        }
        assert_int_equal(status, MR_NO_MEMORY);
        assert_null(config);
        failures++;
    }
    assert_true(failures >= 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_yaml),
        cmocka_unit_test(refuses_unknown),
        cmocka_unit_test(refuses_later),
        cmocka_unit_test(refuses_types),
        cmocka_unit_test(refuses_streams),
        cmocka_unit_test(refuses_rules),
        cmocka_unit_test(refuses_cross),
        cmocka_unit_test(refuses_tokens),
        cmocka_unit_test(refuses_environment),
        cmocka_unit_test(every_later_row_is_in_the_table),
        cmocka_unit_test(counts_are_bounded),
        cmocka_unit_test(fields_of_a_stream_are_bounded),
        cmocka_unit_test(files_are_bounded),
        cmocka_unit_test(variables_are_bounded),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
