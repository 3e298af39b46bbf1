/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/outbox.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct said {
    uint64_t id;
    struct mr_pane pane; /* borrows from the outbox, which does not change */
};

struct list {
    struct said *items;
    uint64_t count;
    uint64_t cap;
};

static void append(struct list *list, uint64_t id, const struct mr_pane *pane) {
    if (list->count == list->cap) {
        list->cap = list->cap == 0 ? 256 : list->cap * 2;
        list->items = realloc(list->items, list->cap * sizeof *list->items);
        MR_ASSERT(list->items != NULL);
    }
    list->items[list->count++] = (struct said){id, *pane};
}

static bool add_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    append(ctx, id, pane);
    return true;
}

static bool add_row(void *ctx, const struct mr_pane *row) {
    append(ctx, 0, row);
    return true;
}

static int compare_place(const struct mr_pane *a, const struct mr_pane *b) {
    if (a->window_start_ms != b->window_start_ms) {
        return a->window_start_ms < b->window_start_ms ? -1 : 1;
    }
    return mr_bytes_compare(a->key, b->key);
}

static int by_place(const void *left, const void *right) {
    const struct said *a = left;
    const struct said *b = right;
    int place = compare_place(&a->pane, &b->pane);
    return place != 0 ? place : (a->id > b->id) - (a->id < b->id);
}

static bool says_the_same(const struct mr_pane *a, const struct mr_pane *b) {
    return a->window_end_ms == b->window_end_ms && a->events == b->events && a->revision == b->revision &&
           a->index == b->index && mr_bytes_equal(a->state, b->state);
}

static void read_all(struct sim_world *w, uint32_t rule, struct list *panes) {
    struct mr_results_reader *reader = NULL;
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_results_reader_open(w->store.results, &reader);
    MR_ASSERT(status == MR_OK);
    uint64_t after = 0;
    uint64_t last = UINT64_MAX;
    while (after != last && status == MR_OK) {
        last = after;
        status = mr_results_read_outbox_rule(reader, rule, last, add_pane, panes, &after, &error);
    }
    MR_ASSERT(status == MR_OK);
    mr_results_reader_close(reader);
    if (panes->count > 0) {
        qsort(panes->items, panes->count, sizeof *panes->items, by_place);
    }
}

/* The panes of one place, in their order: a retraction takes back what was said just before. Returns how many. */
static uint64_t check_place(const struct list *panes, uint64_t first, uint32_t rule) {
    uint64_t i = first;
    for (; i < panes->count && compare_place(&panes->items[first].pane, &panes->items[i].pane) == 0; i++) {
        const struct mr_pane *pane = &panes->items[i].pane;
        const struct mr_pane *before = i == first ? NULL : &panes->items[i - 1].pane;
        bool sound = !pane->retraction || (before != NULL && !before->retraction && says_the_same(before, pane));
        if (!sound) {
            SIM_FAILS("outbox: rule %u window %" PRId64 ": a retraction of what was not said", rule,
                      pane->window_start_ms);
        }
    }
    return i - first;
}

void sim_outbox_check(struct sim_world *w, uint32_t rule) {
    struct list panes = {NULL, 0, 0};
    struct list rows = {NULL, 0, 0};
    read_all(w, rule, &panes);
    mr_memory_results_each(w->store.results, rule, add_row, &rows);
    uint64_t row = 0;
    for (uint64_t i = 0; i < panes.count;) {
        i += check_place(&panes, i, rule);
        const struct mr_pane *last = &panes.items[i - 1].pane;
        if (last->retraction) {
            continue;
        }
        if (row == rows.count || compare_place(last, &rows.items[row].pane) != 0 ||
            !says_the_same(last, &rows.items[row].pane)) {
            SIM_FAILS("outbox: rule %u window %" PRId64 " revision %" PRIu64 " is another row in the store", rule,
                      last->window_start_ms, last->revision);
        }
        row++;
    }
    if (row != rows.count) {
        SIM_FAILS("outbox: rule %u: %" PRIu64 " rows, the store has %" PRIu64, rule, row, rows.count);
    }
    free(panes.items);
    free(rows.items);
}
