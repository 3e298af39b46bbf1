/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/truth.h"

#include "base/alloc.h"
#include "base/check.h"
#include "bench/load/random.h"

enum { CAPACITY_FIRST = 1024 };

void mr_load_table_init(struct mr_load_table *table, enum mr_load_second kind) {
    *table = (struct mr_load_table){.kind = kind};
}

void mr_load_table_finish(struct mr_load_table *table) {
    mr_free(table->rows);
    *table = (struct mr_load_table){.kind = table->kind};
}

/* The entry of (window, group), or the free one where it belongs. */
static struct mr_load_row *probe(struct mr_load_row *rows, uint64_t capacity, int64_t window_ms, uint64_t group) {
    uint64_t at = mr_load_mix(mr_load_mix((uint64_t)window_ms) + group);
    for (;; at++) {
        struct mr_load_row *row = &rows[at & (capacity - 1)];
        if (row->count == 0 || (row->window_ms == window_ms && row->group == group)) {
            return row;
        }
    }
}

static enum mr_status grow(struct mr_load_table *table) {
    uint64_t capacity = table->capacity == 0 ? CAPACITY_FIRST : table->capacity * 2;
    struct mr_load_row *rows = mr_alloc_zero(capacity, sizeof *rows);
    if (rows == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint64_t i = 0; i < table->capacity; i++) {
        const struct mr_load_row *row = &table->rows[i];
        if (row->count > 0) {
            *probe(rows, capacity, row->window_ms, row->group) = *row;
        }
    }
    mr_free(table->rows);
    table->rows = rows;
    table->capacity = capacity;
    return MR_OK;
}

enum mr_status mr_load_table_add(struct mr_load_table *table, int64_t window_ms, uint64_t group,
                                 uint64_t count, int64_t second) {
    MR_ASSERT(count > 0);
    if (table->used * 2 >= table->capacity) {
        enum mr_status status = grow(table);
        if (status != MR_OK) {
            return status;
        }
    }
    struct mr_load_row *row = probe(table->rows, table->capacity, window_ms, group);
    bool fresh = row->count == 0;
    if (fresh) {
        *row = (struct mr_load_row){.window_ms = window_ms, .group = group, .second = second};
        table->used++;
    } else if (table->kind == MR_LOAD_MAX_WHOLE) {
        row->second = second > row->second ? second : row->second;
    } else {
        row->second += second;
    }
    row->count += count;
    return MR_OK;
}

struct mr_load_row *mr_load_table_find(const struct mr_load_table *table, int64_t window_ms,
                                       uint64_t group) {
    if (table->capacity == 0) {
        return NULL;
    }
    struct mr_load_row *row = probe(table->rows, table->capacity, window_ms, group);
    return row->count == 0 ? NULL : row;
}

int64_t mr_load_window_of(int64_t time_ms) {
    MR_ASSERT(time_ms >= 0); /* event times are after 2000 */
    return time_ms / MR_LOAD_WINDOW_MS * MR_LOAD_WINDOW_MS;
}

enum mr_status mr_load_truth(const struct mr_load_plan *plan, const struct mr_load_events *events,
                             uint64_t slots, struct mr_load_table *table,
                             struct mr_load_verdicts *ret) {
    struct mr_load_verdicts verdicts = {0};
    for (uint64_t n = 0; n < slots; n++) {
        struct mr_load_slot slot = mr_load_plan_slot(plan, n);
        if (slot.kind == MR_LOAD_REPEATED) {
            verdicts.duplicate++;
            continue;
        }
        struct mr_load_fact fact = mr_load_events_fact(events, slot.source);
        if (!fact.filtered && mr_load_plan_is_late(plan, slot.source)) { /* for no rule nothing is late */
            verdicts.late++;
            continue;
        }
        verdicts.accepted++;
        if (fact.filtered) {
            continue;
        }
        int64_t window_ms = mr_load_window_of(mr_load_plan_time(plan, slot.source));
        enum mr_status status = mr_load_table_add(table, window_ms, fact.group, 1, fact.value);
        if (status != MR_OK) {
            return status;
        }
    }
    *ret = verdicts;
    return MR_OK;
}
