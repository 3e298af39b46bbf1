/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the SQLite store keeps generations of rules apart, against a model that is a plain array of them:
 *   1. random bundles with panes and retractions; opens with a generation that is new, known (older or newer), or was
 *      never there; rewinds;
 *      of rules whose names look like each other's, and like those of what is aside;
 *   2. after each: the rows of every generation, the panes of the outbox with ids and names, which tables and entries
 *      of millrace_meta there are; after a rewind, where rows that are open begin;
 *   3. names that are moved out of the way keep out of the way with a generation, too.
 */
#include "tests/sink/results_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NAME(text)                                                                                 \
    { (const uint8_t *)(text), sizeof(text) - 1 }

enum { RULES = 5, WINDOWS = 4, TABLES_MAX = 64, PANES_MAX = 60, STEPS = 250, TEXT_MAX = 1 << 20 };

static const struct {
    struct mr_bytes name;
    const char *table;
} names[RULES] = {
    {NAME("panes"), "rule:panes"}, {NAME("A_b"), "A_b"}, {NAME("axb"), "axb"}, {NAME("a"), "a"},
    {NAME("a:b"), "a:b"},
};

struct row {
    uint64_t revision; /* 0: none */
    uint64_t value;
    bool final;
};

struct table {
    uint64_t generation;
    struct row rows[WINDOWS];
};

struct pane {
    uint64_t id;
    uint32_t rule;
    uint64_t generation;
    uint64_t revision;
    bool final;
    bool retraction;
};

struct model {
    struct rig_dir dir;
    struct mr_results *results;
    struct mr_results_rule rules[RULES]; /* with the generation of now */
    struct table tables[RULES][TABLES_MAX];
    size_t table_counts[RULES];
    struct pane panes[2 * PANES_MAX];
    size_t pane_count;
    uint64_t next_id;
    uint64_t seq;
    uint64_t random;
};

/* ---- the model ---- */

static struct table *find_table(struct model *m, uint32_t rule, uint64_t generation) {
    for (size_t i = 0; i < m->table_counts[rule]; i++) {
        if (m->tables[rule][i].generation == generation) {
            return &m->tables[rule][i];
        }
    }
    assert_true(m->table_counts[rule] < TABLES_MAX);
    struct table *table = &m->tables[rule][m->table_counts[rule]++];
    *table = (struct table){.generation = generation};
    return table;
}

static struct table *table_now(struct model *m, uint32_t rule) {
    return find_table(m, rule, m->rules[rule].generation);
}

static void model_put(struct model *m, uint32_t rule, uint64_t window, struct row row) {
    struct row *have = &table_now(m, rule)->rows[window];
    if (have->revision >= row.revision) {
        return;
    }
    m->panes[m->pane_count++] =
        (struct pane){m->next_id++, rule, m->rules[rule].generation, row.revision, row.final, false};
    row.final = row.final || have->final;
    *have = row;
}

static void model_retract(struct model *m, uint32_t rule, uint64_t window, uint64_t revision) {
    struct row *have = &table_now(m, rule)->rows[window];
    if (have->revision > 0 && have->revision <= revision) {
        m->panes[m->pane_count++] =
            (struct pane){m->next_id++, rule, m->rules[rule].generation, have->revision, have->final, true};
        *have = (struct row){.revision = 0};
    }
}

static void model_prune(struct model *m) {
    size_t gone = m->pane_count > PANES_MAX ? m->pane_count - PANES_MAX : 0;
    m->pane_count -= gone;
    memmove(m->panes, m->panes + gone, m->pane_count * sizeof *m->panes);
}

/* What is left of a table that is aside is all of it or nothing. */
static bool is_left(const struct model *m, uint32_t rule, uint64_t generation, uint64_t revision,
                    uint64_t seq) {
    return m->rules[rule].generation == generation ? revision <= seq : generation <= seq;
}

static void model_rewind(struct model *m, uint64_t seq) {
    for (uint32_t r = 0; r < RULES; r++) {
        for (uint64_t w = 0; w < WINDOWS; w++) {
            struct row *row = &table_now(m, r)->rows[w];
            *row = row->revision <= seq ? (struct row){row->revision, row->value, false}
                                        : (struct row){.revision = 0};
        }
        size_t left = 0;
        for (size_t i = 0; i < m->table_counts[r]; i++) {
            if (is_left(m, r, m->tables[r][i].generation, 0, seq)) {
                m->tables[r][left++] = m->tables[r][i];
            }
        }
        m->table_counts[r] = left;
    }
    size_t left = 0;
    for (size_t i = 0; i < m->pane_count; i++) {
        const struct pane *pane = &m->panes[i];
        if (is_left(m, pane->rule, pane->generation, pane->revision, seq)) {
            m->panes[left++] = *pane;
        }
    }
    m->pane_count = left;
    m->seq = seq;
}

/* ---- the comparison ---- */

static void append_name(struct mr_buf *buf, const struct model *m, uint32_t rule, const char *name,
                        uint64_t generation) {
    mr_buf_append_text(buf, name);
    if (m->rules[rule].generation != generation) {
        mr_buf_printf(buf, ":%llu", (unsigned long long)generation);
    }
}

static void assert_query(const struct model *m, struct mr_buf *sql, struct mr_buf *want) {
    mr_buf_append_char(sql, 0);
    mr_buf_append_char(want, 0);
    assert_false(sql->failed || want->failed);
    rig_assert_query(&m->dir, (const char *)sql->ptr, (const char *)want->ptr);
    mr_buf_clear(sql);
    mr_buf_clear(want);
}

static void compare_tables(const struct model *m, struct mr_buf *sql, struct mr_buf *want) {
    uint64_t count = 0;
    for (uint32_t r = 0; r < RULES; r++) {
        for (size_t i = 0; i < m->table_counts[r]; i++) {
            const struct table *table = &m->tables[r][i];
            mr_buf_printf(sql, "%sSELECT %llu,(window_start_ms-%lld)/1000,n,revision,final FROM \"",
                          count == 0 ? "" : "\" UNION ALL ", (unsigned long long)count,
                          (long long)rig_window_ms(2, 0));
            append_name(sql, m, r, names[r].table, table->generation);
            for (uint64_t w = 0; w < WINDOWS; w++) {
                const struct row *row = &table->rows[w];
                if (row->revision > 0) {
                    mr_buf_printf(want, "%llu|%llu|%llu|%llu|%d\n", (unsigned long long)count,
                                  (unsigned long long)w, (unsigned long long)row->value,
                                  (unsigned long long)row->revision, row->final);
                }
            }
            count++;
        }
    }
    mr_buf_append_text(sql, "\" ORDER BY 1,2");
    assert_query(m, sql, want);
    mr_buf_append_text(sql, "SELECT count(*) FROM sqlite_schema WHERE type='table' UNION ALL "
                            "SELECT count(*) FROM millrace_meta");
    mr_buf_printf(want, "%llu\n%llu\n", (unsigned long long)(2 + count),
                  (unsigned long long)(6 + 3 * count));
    assert_query(m, sql, want);
}

static void compare(struct model *m) {
    struct mr_buf sql;
    struct mr_buf want;
    mr_buf_init(&sql, TEXT_MAX);
    mr_buf_init(&want, TEXT_MAX);
    assert_int_equal(mr_results_flushed_seq(m->results), m->seq);
    compare_tables(m, &sql, &want);
    for (size_t i = 0; i < m->pane_count; i++) {
        const struct pane *pane = &m->panes[i];
        mr_buf_printf(&want, "%llu|", (unsigned long long)pane->id);
        append_name(&want, m, pane->rule, (const char *)names[pane->rule].name.ptr,
                    pane->generation);
        mr_buf_printf(&want, "|%llu|%d|%d\n", (unsigned long long)pane->revision, pane->final, pane->retraction);
    }
    mr_buf_append_text(&sql, "SELECT id,rule,revision,final,retraction FROM panes");
    assert_query(m, &sql, &want);
    mr_buf_finish(&sql);
    mr_buf_finish(&want);
}

/* After a rewind. */
static void compare_open_from(struct model *m) {
    struct mr_buf sql;
    struct mr_buf want;
    mr_buf_init(&sql, TEXT_MAX);
    mr_buf_init(&want, TEXT_MAX);
    for (uint32_t r = 0; r < RULES; r++) {
        uint64_t w = 0;
        while (w < WINDOWS && table_now(m, r)->rows[w].revision == 0) {
            w++;
        }
        int64_t first_ms = w == WINDOWS ? INT64_MAX : rig_window_ms(2, w);
        mr_buf_printf(&sql, "SELECT value FROM millrace_meta WHERE name='open_from_ms:%s'",
                      (const char *)names[r].name.ptr);
        mr_buf_printf(&want, "%lld\n", (long long)first_ms);
        assert_query(m, &sql, &want);
    }
    mr_buf_finish(&sql);
    mr_buf_finish(&want);
}

/* ---- the steps ---- */

static void open_store(struct model *m) {
    struct mr_results_sqlite_options options = rig_options(&m->dir);
    options.rules = m->rules;
    options.rule_count = RULES;
    options.outbox_panes_max = PANES_MAX;
    mr_results_close(m->results);
    m->results = rig_open(&options);
    for (uint32_t r = 0; r < RULES; r++) {
        (void)table_now(m, r); /* it is there now */
    }
}

static void put_both(struct model *m) {
    uint32_t rule = (uint32_t)rig_below(&m->random, RULES);
    uint64_t window = rig_below(&m->random, WINDOWS);
    struct row row = {m->seq, rig_below(&m->random, 1000), rig_below(&m->random, 4) == 0};
    struct rig_pane pane;
    rig_pane_simple(&pane, 2, 0, row.revision, (int64_t)row.value);
    pane.pane.rule = rule;
    pane.pane.window_start_ms = rig_window_ms(2, window);
    pane.pane.window_end_ms = rig_window_ms(2, window + 1);
    pane.pane.final = row.final;
    bool retraction = rig_below(&m->random, 5) == 0;
    if (retraction) {
        pane.pane.retraction = true;
        pane.pane.number_count = 0;
        pane.pane.revision -= rig_below(&m->random, row.revision); /* older than the row, now and then */
    }
    assert_int_equal(mr_results_put(m->results, &pane.pane), MR_OK);
    if (retraction) {
        model_retract(m, rule, window, pane.pane.revision);
    } else {
        model_put(m, rule, window, row);
    }
    rig_pane_finish(&pane);
}

static void finalize_both(struct model *m) {
    uint32_t rule = (uint32_t)rig_below(&m->random, RULES);
    uint64_t windows = rig_below(&m->random, WINDOWS + 1);
    int64_t end_ms = rig_window_ms(2, windows);
    assert_int_equal(mr_results_finalize(m->results, rule, end_ms), MR_OK);
    for (uint64_t w = 0; w < windows; w++) {
        struct row *row = &table_now(m, rule)->rows[w];
        row->final = row->revision > 0;
    }
}

static void flush_bundle(struct model *m) {
    m->seq++;
    assert_int_equal(mr_results_begin(m->results), MR_OK);
    for (uint64_t puts = rig_below(&m->random, 8); puts > 0; puts--) {
        put_both(m);
    }
    if (rig_below(&m->random, 3) == 0) {
        finalize_both(m);
    }
    assert_int_equal(mr_results_commit(m->results, m->seq), MR_OK);
    model_prune(m);
}

static void change_generations(struct model *m) {
    for (uint32_t r = 0; r < RULES; r++) {
        uint64_t known = rig_below(&m->random, m->table_counts[r]);
        switch (rig_below(&m->random, 8)) {
        case 0: /* it begins anew */
            m->rules[r].generation = m->seq + 1;
            break;
        case 1: /* mostly never there */
            m->rules[r].generation = rig_below(&m->random, m->seq + 1);
            break;
        case 2:
        case 3:
        case 4:
            m->rules[r].generation = m->tables[r][known].generation;
            break;
        default:
            break;
        }
    }
    open_store(m);
}

static void rewind_both(struct model *m) {
    uint64_t back = rig_below(&m->random, 40);
    uint64_t seq = back < m->seq ? m->seq - back : 0;
    assert_int_equal(mr_results_rewind(m->results, seq), MR_OK);
    model_rewind(m, seq);
    compare_open_from(m);
}

static void generations_are_kept_apart(void **state) {
    (void)state;
    struct model m = {.next_id = 1, .random = 20240301};
    rig_dir_init(&m.dir);
    for (uint32_t r = 0; r < RULES; r++) {
        m.rules[r] = rig_rules[2];
        m.rules[r].name = names[r].name;
    }
    open_store(&m);
    size_t tables = 0;
    size_t dropped = 0;
    for (int i = 0; i < STEPS; i++) {
        size_t before = m.table_counts[0];
        switch (rig_below(&m.random, 8)) {
        case 0:
            rewind_both(&m);
            break;
        case 1:
        case 2:
            change_generations(&m);
            break;
        default:
            flush_bundle(&m);
            break;
        }
        compare(&m);
        tables = m.table_counts[0] > tables ? m.table_counts[0] : tables;
        dropped += m.table_counts[0] < before;
    }
    assert_true(tables > 3 && dropped > 5 && m.next_id > PANES_MAX * 5); /* about something */
    mr_results_close(m.results);
    rig_dir_finish(&m.dir);
}

/* The names of rules, and of the table that generation 0 of them gets. */
static const struct {
    struct mr_bytes name;
    const char *table;
} odd_names[] = {
    {NAME("panes"), "rule:panes:0"},           {NAME("millrace_meta"), "rule:millrace_meta:0"},
    {NAME("sqlite_x"), "rule:sqlite_x:0"},     {NAME("rule"), "rule:0"},
    {NAME("rule:panes"), "rule:rule:panes:0"}, {NAME("0"), "0:0"},
    {NAME("say \"hi\""), "say \"hi\":0"},      {NAME("it's"), "it's:0"},
};

enum { ODD_NAMES = sizeof odd_names / sizeof odd_names[0] };

static void odd_names_keep_out_of_the_way(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_rule rules[ODD_NAMES];
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.rules = rules;
    options.rule_count = ODD_NAMES;
    for (uint64_t generation = 0; generation < 3; generation++) {
        for (int i = 0; i < ODD_NAMES; i++) {
            rules[i] = rig_rules[2];
            rules[i].name = odd_names[i].name;
            rules[i].generation = generation;
        }
        struct mr_results *results = rig_open(&options);
        for (uint32_t i = 0; i < ODD_NAMES; i++) {
            struct rig_pane pane;
            uint64_t seq = mr_results_flushed_seq(results) + 1;
            rig_pane_simple(&pane, 2, 0, seq, (int64_t)(100 * generation + i));
            pane.pane.rule = i;
            rig_store(results, &pane.pane, 1, seq);
            rig_pane_finish(&pane);
            assert_int_equal(rig_count(results, i), 1);
        }
        mr_results_close(results);
    }
    for (int i = 0; i < ODD_NAMES; i++) {
        struct mr_buf sql;
        mr_buf_init(&sql, 4096);
        mr_buf_append_text(&sql, "SELECT n FROM \"");
        for (const char *c = odd_names[i].table; *c != 0; c++) {
            mr_buf_append_text(&sql, *c == '"' ? "\"" : "");
            mr_buf_append_char(&sql, *c);
        }
        mr_buf_append_text(&sql, "\"");
        mr_buf_append_char(&sql, 0);
        char want[16];
        (void)snprintf(want, sizeof want, "%d\n", i);
        rig_assert_query(&dir, (const char *)sql.ptr, want);
        mr_buf_finish(&sql);
    }
    rig_assert_query(&dir, "SELECT count(*) FROM sqlite_schema WHERE type='table'", "26\n");
    rig_assert_query(&dir, "SELECT rule FROM panes WHERE id IN(1,9,17)",
                     "panes:0\npanes:1\npanes\n");
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generations_are_kept_apart),
        cmocka_unit_test(odd_names_keep_out_of_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
