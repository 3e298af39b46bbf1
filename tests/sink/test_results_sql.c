/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that no name from a configuration can break a statement or meet another name:
 *   1. tables and columns of awkward rules, written down by hand;
 *   2. names that can't be are refused;
 *   3. the shape tells two rules apart whenever one of its parts differs;
 *   4. the text of a select for each kind of query.
 */
#include "sink/results_sql.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static struct mr_results_rule rule_of(const char *name, struct mr_bytes *keys, uint32_t key_count,
                                      struct mr_bytes *metrics, uint32_t metric_count) {
    return (struct mr_results_rule){
        .name = mr_bytes_text(name),
        .key_names = keys,
        .key_count = key_count,
        .metric_names = metrics,
        .metric_count = metric_count,
        .shape = MR_BYTES("window 1000 ms"),
    };
}

static void assert_contains(const char *text, const char *part) {
    assert_non_null(text);
    if (text != NULL && strstr(text, part) == NULL) {
        fail_msg("no %s in %s", part, text);
    }
}

static void tables_keep_out_of_the_way(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *table;
    } cases[] = {
        {"ad_views", "UPDATE \"ad_views\" SET"},
        {"panes", "UPDATE \"rule:panes\" SET"},
        {"Panes", "UPDATE \"rule:Panes\" SET"},
        {"millrace_meta", "UPDATE \"rule:millrace_meta\" SET"},
        {"sqlite_x", "UPDATE \"rule:sqlite_x\" SET"},
        {"SQLITE_", "UPDATE \"rule:SQLITE_\" SET"},
        {"rule:panes", "UPDATE \"rule:rule:panes\" SET"},
        {"Open:a:7", "UPDATE \"rule:Open:a:7\" SET"},
        {"select", "UPDATE \"select\" SET"},
        {"a\"; DROP TABLE panes; --", "UPDATE \"a\"\"; DROP TABLE panes; --\" SET"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mr_results_rule rule = rule_of(cases[i].name, NULL, 0, NULL, 0);
        struct mr_buf sql;
        mr_buf_init(&sql, 4096);
        mr_results_sql_finalize(&sql, &rule);
        assert_contains(mr_results_sql_end(&sql), cases[i].table);
        mr_buf_finish(&sql);
    }
}

static void columns_keep_out_of_the_way(void **state) {
    (void)state;
    struct mr_bytes keys[] = {MR_BYTES("country"), MR_BYTES("Country"), MR_BYTES("EVENTS"),
                              MR_BYTES("key0:country"), MR_BYTES("a\"b")};
    struct mr_bytes metrics[] = {MR_BYTES("views"), MR_BYTES("country"), MR_BYTES("_state"),
                                 MR_BYTES("metric1:country"), MR_BYTES("events")};
    struct mr_results_rule rule = rule_of("r", keys, COUNT(keys), metrics, COUNT(metrics));
    struct mr_buf sql;
    mr_buf_init(&sql, 65536);
    mr_results_sql_upsert(&sql, &rule);
    const char *text = mr_results_sql_end(&sql);
    assert_contains(text, "(window_start,window_end,window_start_ms,window_end_ms,"
                          "\"country\",\"key1:Country\",\"key2:EVENTS\",\"key3:key0:country\","
                          "\"a\"\"b\",\"views\",\"metric1:country\",\"metric2:_state\","
                          "\"metric3:metric1:country\",\"metric4:events\","
                          "events,revision,pane,timing,final,_key,_state)"
                          "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    assert_contains(text, "WHERE excluded.revision>t.revision");
    mr_buf_finish(&sql);
}

static void other_statements_name_their_table(void **state) {
    (void)state;
    struct mr_results_rule rule = rule_of("sqlite_\"x", NULL, 0, NULL, 0);
    struct mr_buf sql;
    mr_buf_init(&sql, 4096);
    mr_results_sql_put_aside(&sql, &rule, INT64_MAX);
    assert_string_equal(mr_results_sql_end(&sql), "ALTER TABLE \"rule:sqlite_\"\"x\" RENAME TO "
                                                  "\"rule:sqlite_\"\"x:9223372036854775807\"");
    mr_buf_clear(&sql);
    mr_results_sql_bring_back(&sql, &rule, 7);
    assert_string_equal(mr_results_sql_end(&sql),
                        "ALTER TABLE \"rule:sqlite_\"\"x:7\" RENAME TO \"rule:sqlite_\"\"x\"");
    mr_buf_clear(&sql);
    mr_results_sql_drop_aside(&sql, &rule, 7);
    assert_string_equal(mr_results_sql_end(&sql), "DROP TABLE IF EXISTS \"rule:sqlite_\"\"x:7\"");
    for (int vary = 0; vary < 2; vary++) {
        mr_buf_clear(&sql);
        rule.ends_vary = vary == 1;
        mr_results_sql_finalize(&sql, &rule);
        assert_contains(mr_results_sql_end(&sql), vary == 1 ? " WHERE window_end_ms<=? AND final=0"
                                                            : " WHERE window_start_ms=? AND final=0");
    }
    mr_buf_clear(&sql);
    rule.generation = 7;
    mr_results_sql_create_index(&sql, &rule);
    assert_string_equal(mr_results_sql_end(&sql), "CREATE INDEX \"open:sqlite_\"\"x:7\" ON "
                                                  "\"rule:sqlite_\"\"x\"(window_end_ms)WHERE final=0");
    mr_buf_clear(&sql);
    mr_results_sql_remove(&sql, &rule);
    assert_string_equal(mr_results_sql_end(&sql),
                        "DELETE FROM \"rule:sqlite_\"\"x\" WHERE window_start_ms=? AND _key=?");
    mr_buf_clear(&sql);
    mr_results_sql_open_all(&sql, &rule);
    assert_string_equal(mr_results_sql_end(&sql),
                        "UPDATE \"rule:sqlite_\"\"x\" SET final=0 WHERE final<>0");
    mr_buf_clear(&sql);
    mr_results_sql_first(&sql, &rule);
    assert_string_equal(
        mr_results_sql_end(&sql),
        "SELECT coalesce(min(window_start_ms),9223372036854775807)FROM \"rule:sqlite_\"\"x\"");
    mr_buf_clear(&sql);
    mr_results_sql_rewind(&sql, &rule);
    assert_string_equal(mr_results_sql_end(&sql),
                        "DELETE FROM \"rule:sqlite_\"\"x\" WHERE revision>?");
    static const char *const outbox[] = {"DELETE FROM panes WHERE revision>? AND rule IN()",
                                         "DELETE FROM panes WHERE revision>? AND rule IN(?)",
                                         "DELETE FROM panes WHERE revision>? AND rule IN(?,?)"};
    for (uint32_t count = 0; count < COUNT(outbox); count++) {
        mr_buf_clear(&sql);
        mr_results_sql_rewind_outbox(&sql, count);
        assert_string_equal(mr_results_sql_end(&sql), outbox[count]);
    }
    mr_buf_finish(&sql);
}

static void impossible_names_are_refused(void **state) {
    (void)state;
    struct mr_bytes fine[] = {MR_BYTES("a")};
    struct mr_bytes nul[] = {MR_BYTES("a\0b")};
    struct mr_error error = {0};
    struct mr_results_rule ok[] = {
        rule_of("a", fine, 1, fine, 1),  rule_of("b", NULL, 0, NULL, 0),
        rule_of("7", NULL, 0, NULL, 0),  rule_of("a7", NULL, 0, NULL, 0),
        rule_of("a:", NULL, 0, NULL, 0), rule_of("a:7b", NULL, 0, NULL, 0),
    };
    assert_int_equal(mr_results_sql_check(ok, COUNT(ok), &error), MR_OK);
    struct mr_results_rule bad[][2] = {
        {rule_of("a", NULL, 0, NULL, 0), rule_of("a", NULL, 0, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("A", NULL, 0, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("", NULL, 0, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("b", nul, 1, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("b", NULL, 0, nul, 1)},
        {rule_of("a", NULL, 0, NULL, 0), {.name = nul[0]}},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("a:0", NULL, 0, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of("rule:x:18446744073709551615", NULL, 0, NULL, 0)},
        {rule_of("a", NULL, 0, NULL, 0), rule_of(":7", NULL, 0, NULL, 0)},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        error = (struct mr_error){0};
        assert_int_equal(mr_results_sql_check(bad[i], 2, &error), MR_INVALID);
        assert_int_not_equal(error.text[0], 0);
    }
}

static void the_shape_tells_rules_apart(void **state) {
    (void)state;
    struct mr_bytes one[] = {MR_BYTES("a")};
    struct mr_bytes two[] = {MR_BYTES("a"), MR_BYTES("b")};
    struct mr_bytes odd[] = {MR_BYTES("a\",\"b")};
    struct mr_results_rule longer = rule_of("r", one, 1, one, 1);
    longer.shape = MR_BYTES("window 2000 ms");
    const struct mr_results_rule rules[] = {
        rule_of("r", one, 1, one, 1),
        rule_of("r", two, 2, one, 1),
        rule_of("r", odd, 1, one, 1),
        rule_of("r", one, 1, two, 2),
        rule_of("r", NULL, 0, one, 1),
        rule_of("r", one, 1, NULL, 0),
        longer,
    };
    struct mr_buf shapes[COUNT(rules)];
    for (size_t i = 0; i < COUNT(rules); i++) {
        mr_buf_init(&shapes[i], 4096);
        mr_results_sql_shape(&shapes[i], &rules[i]);
        for (size_t k = 0; k < i; k++) {
            assert_false(mr_bytes_equal(mr_buf_bytes(&shapes[i]), mr_buf_bytes(&shapes[k])));
        }
    }
    assert_true(mr_bytes_equal(mr_buf_bytes(&shapes[1]),
                               MR_BYTES("window 1000 ms keys(\"a\",\"b\") metrics(\"a\")")));
    for (size_t i = 0; i < COUNT(rules); i++) {
        mr_buf_finish(&shapes[i]);
    }
}

static void selects_say_what_is_asked(void **state) {
    (void)state;
    struct mr_bytes metrics[] = {MR_BYTES("views"), MR_BYTES("final")};
    struct mr_results_rule rule = rule_of("r", NULL, 0, metrics, 2);
    const struct {
        struct mr_results_query query;
        const char *tail;
    } cases[] = {
        {{.order = -1, .to_ms = 9},
         "WHERE window_start_ms>=?1 AND window_start_ms<?2 ORDER BY window_start_ms,_key"},
        {{.order = -1, .to_ms = 9, .descending = true, .final_only = true},
         "AND final=1 ORDER BY window_start_ms DESC,_key DESC"},
        {{.order = -1, .from_ms = 5, .to_ms = 9, .has_after = true, .after_start_ms = 5},
         "WHERE window_start_ms<?2 AND (window_start_ms,_key)>(?3,?4) ORDER"},
        {{.order = -1, .from_ms = 5, .to_ms = 9, .has_after = true, .after_start_ms = 4},
         "WHERE window_start_ms>=?1 AND window_start_ms<?2 ORDER"}, /* before the range: all of it
                                                                     */
        {{.order = -1, .to_ms = 9, .has_after = true, .after_start_ms = 8, .descending = true},
         "WHERE window_start_ms>=?1 AND (window_start_ms,_key)<(?3,?4) ORDER"},
        {{.order = -1, .to_ms = 9, .has_after = true, .after_start_ms = 9, .descending = true},
         "WHERE window_start_ms>=?1 AND window_start_ms<?2 ORDER"},
        {{.order = 0, .to_ms = 9, .open_only = true},
         "AND final=0 ORDER BY \"views\",window_start_ms,_key"},
        {{.order = 1, .to_ms = 9, .descending = true},
         "ORDER BY \"metric1:final\" DESC,window_start_ms,_key"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mr_buf sql;
        mr_buf_init(&sql, 4096);
        mr_results_sql_select(&sql, &rule, &cases[i].query);
        assert_contains(mr_results_sql_end(&sql), cases[i].tail);
        mr_buf_finish(&sql);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_keep_out_of_the_way),
        cmocka_unit_test(columns_keep_out_of_the_way),
        cmocka_unit_test(other_statements_name_their_table),
        cmocka_unit_test(impossible_names_are_refused),
        cmocka_unit_test(the_shape_tells_rules_apart),
        cmocka_unit_test(selects_say_what_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
