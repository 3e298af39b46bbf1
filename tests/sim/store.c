/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/store.h"

#include "base/check.h"

#include <stdlib.h>

static const char file_name[] = "data/results.db";

static void open_results(struct sim_store *store) {
    struct mr_memory_results_options options = {
        .rules = store->tables, .rule_count = store->table_count, .outbox_panes_max = SIM_OUTBOX_MAX};
    store->results = mr_memory_results_open(&options);
}

void sim_store_open(struct sim_store *store) {
    *store = (struct sim_store){.rule_count = 0};
    open_results(store);
}

void sim_store_finish(struct sim_store *store) {
    mr_results_close(store->results);
    store->results = NULL;
}

struct copying {
    struct mr_results *to;
    uint32_t rule;
};

static bool copy_row(void *ctx, const struct mr_pane *row) {
    const struct copying *c = ctx;
    struct mr_pane pane = *row;
    pane.rule = c->rule;
    enum mr_status status = mr_results_put(c->to, &pane);
    MR_ASSERT(status == MR_OK);
    return true;
}

static void copy_table(const struct sim_store *from, uint32_t table, struct sim_store *to, uint32_t rule) {
    struct copying c = {to->results, rule};
    mr_memory_results_each(from->results, table, copy_row, &c);
}

static bool same_table(const struct mr_results_rule *a, const struct mr_results_rule *b) {
    return mr_bytes_equal(a->name, b->name) && a->generation == b->generation;
}

static uint32_t find_table(const struct sim_store *store, const struct mr_results_rule *rule) {
    uint32_t i = 0;
    while (i < store->table_count && !same_table(&store->tables[i], rule)) {
        i++;
    }
    return i;
}

static void add_table(struct sim_store *store, const struct mr_results_rule *rule) {
    static const char *const names[] = {"r0", "r1"};
    static const struct mr_bytes columns[3] = {
        {(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}, {(const uint8_t *)"c", 1}};
    static_assert(SIM_RULES == sizeof names / sizeof *names, "a name for each");
    bool second = mr_bytes_equal(rule->name, mr_bytes_text(names[1]));
    MR_ASSERT(store->table_count < SIM_TABLES_MAX && rule->metric_count == sizeof columns / sizeof *columns);
    store->tables[store->table_count++] = (struct mr_results_rule){
        .name = mr_bytes_text(names[second]),
        .key_names = columns,
        .key_count = rule->key_count,
        .metric_names = columns,
        .metric_count = rule->metric_count,
        .shape = MR_BYTES("its window"), /* which nobody compares here */
        .ends_vary = rule->ends_vary,
        .discarding = rule->discarding,
        .retracting = rule->retracting,
        .generation = rule->generation,
    };
}

static bool is_same(const struct sim_store *store, const struct mr_data *data) {
    bool same = store->rule_count == data->plan->rule_count;
    for (uint32_t i = 0; same && i < store->rule_count; i++) {
        same = same_table(&store->tables[i], &data->results_rules[i]);
    }
    return same;
}

bool sim_store_lend(struct sim_store *store, struct virtual_disk *disk, const struct mr_data *data) {
    bool anew = !virtual_disk_exists(disk, file_name);
    if (anew) {
        sim_store_finish(store);
        sim_store_open(store);
        virtual_disk_put(disk, file_name, mr_bytes_of(NULL, 0));
    }
    if (is_same(store, data)) {
        return anew;
    }
    struct sim_store before = *store;
    store->rule_count = data->plan->rule_count;
    store->table_count = 0;
    for (uint32_t i = 0; i < store->rule_count; i++) {
        add_table(store, &data->results_rules[i]);
    }
    for (uint32_t i = 0; i < before.table_count; i++) {
        if (find_table(store, &before.tables[i]) == store->table_count) {
            add_table(store, &before.tables[i]);
        }
    }
    open_results(store);
    enum mr_status status = mr_results_begin(store->results);
    MR_ASSERT(status == MR_OK);
    for (uint32_t i = 0; i < before.table_count; i++) {
        copy_table(&before, i, store, find_table(store, &before.tables[i]));
    }
    status = mr_results_commit(store->results, mr_results_flushed_seq(before.results));
    MR_ASSERT(status == MR_OK);
    mr_results_close(before.results);
    return true;
}

void sim_store_copy(const struct sim_store *from, struct sim_store *ret) {
    *ret = *from;
    open_results(ret);
    enum mr_status status = mr_results_begin(ret->results);
    MR_ASSERT(status == MR_OK);
    for (uint32_t i = 0; i < ret->table_count; i++) {
        copy_table(from, i, ret, i);
    }
    status = mr_results_commit(ret->results, mr_results_flushed_seq(from->results));
    MR_ASSERT(status == MR_OK);
}

/* ---- comparison ---- */

struct list {
    const struct mr_pane **rows;
    uint64_t count;
};

static bool list_row(void *ctx, const struct mr_pane *row) {
    struct list *list = ctx;
    list->rows[list->count++] = row;
    return true;
}

/* The committed rows, in order. */
static struct list list_rows(const struct sim_store *store, uint32_t rule) {
    uint64_t count = mr_memory_results_count(store->results, rule);
    struct list list = {calloc(count + 1, sizeof(struct mr_pane *)), 0};
    MR_ASSERT(list.rows != NULL);
    mr_memory_results_each(store->results, rule, list_row, &list);
    return list;
}

static const char *compare_rows(const struct list *a, const struct list *b) {
    const char *difference = a->count == b->count ? NULL : "another number of rows";
    for (uint64_t i = 0; difference == NULL && i < a->count; i++) {
        const struct mr_pane *x = a->rows[i];
        const struct mr_pane *y = b->rows[i];
        bool place = x->window_start_ms == y->window_start_ms && mr_bytes_equal(x->key, y->key);
        bool firing = x->index == y->index && x->timing == y->timing;
        bool content = x->window_end_ms == y->window_end_ms && x->events == y->events && x->final == y->final &&
                       mr_bytes_equal(x->state, y->state);
        difference = !place                       ? "other rows"
                     : !content                   ? "a row with other content"
                     : !firing                    ? "a row of another firing"
                     : x->revision != y->revision ? "a row of another revision"
                                                  : NULL;
    }
    return difference;
}

const char *sim_store_compare(const struct sim_store *a, const struct sim_store *b) {
    const char *difference = a->rule_count == b->rule_count ? NULL : "other rules";
    for (uint32_t i = 0; difference == NULL && i < a->rule_count; i++) {
        struct list x = list_rows(a, i);
        struct list y = list_rows(b, i);
        difference = compare_rows(&x, &y);
        free(x.rows);
        free(y.rows);
    }
    return difference;
}
