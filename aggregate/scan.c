/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans in slices: collect → sort → emit, once for each window (window order) or once for all
 * (metric order). Only the best `limit` rows are kept, in a heap with the worst of them on top, so
 * that memory is bounded by the answer and not by the window.
 */
#include "aggregate/combine_state.h"
#include "aggregate/window.h"
#include "base/alloc.h"

enum { ENTRIES_FIRST = 64, ROW_BYTES_MIN = 48, TEXTS_FIRST = 1024, TEXTS_MAX = 64 * 1024 };

enum phase { COLLECT, SORT, EMIT };

struct entry {
    struct mr_number number; /* metric order */
    const struct mr_combine_window *window;
    struct mr_group *group;
};

struct work {
    enum phase phase;
    struct mr_combine_window *window; /* being collected; NULL: the next one is to be found */
    bool exhausted;                   /* there is no next one */
    struct entry *entries;
    uint32_t len;
    uint32_t cap;
    uint32_t at; /* SORT: entries [at, len) are in their place. EMIT: the next to go */
    struct mr_arena texts; /* of entries' numbers */
};

/* One scan's slice: everything the helpers need. */
struct slice {
    struct mr_combine *combine;
    struct mr_combine_rule *rule;
    const struct mr_scan *scan;
    struct mr_scan_cursor *cursor;
    struct mr_scan_result *result;
    struct work *work;
};

/* What an open window has not said yet, a closed one has been late. */
static struct mr_row row_of(const struct slice *s, const struct mr_combine_window *window, struct mr_group *group) {
    enum mr_timing timing = window->state == MR_WINDOW_OPEN ? MR_TIMING_EARLY : MR_TIMING_LATE;
    return mr_combine_row(s->combine, window, group, timing);
}

/* As mr_scan_compare, with the metric's number at hand. */
static int compare(const struct slice *s, const struct entry *a, const struct entry *b) {
    if (s->scan->order != MR_SCAN_ORDER_WINDOW) {
        int order = mr_number_compare(a->number, b->number);
        if (order != 0) {
            return s->scan->descending ? -order : order;
        }
    }
    struct mr_scan place = {.order = MR_SCAN_ORDER_WINDOW};
    place.descending = s->scan->order == MR_SCAN_ORDER_WINDOW && s->scan->descending;
    struct mr_row row_a = mr_combine_place(a->window, a->group);
    struct mr_row row_b = mr_combine_place(b->window, b->group);
    return mr_scan_compare(&place, s->rule->rule, &row_a, &row_b);
}

static void sift_down(const struct slice *s, uint32_t at, uint32_t len) {
    struct entry *heap = s->work->entries;
    struct entry moved = heap[at];
    for (uint32_t child = 2 * at + 1; child < len; child = 2 * at + 1) {
        if (child + 1 < len && compare(s, &heap[child], &heap[child + 1]) < 0) {
            child++;
        }
        if (compare(s, &moved, &heap[child]) >= 0) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void sift_up(const struct slice *s, uint32_t at) {
    struct entry *heap = s->work->entries;
    struct entry moved = heap[at];
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;
        if (compare(s, &heap[parent], &moved) >= 0) {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = moved;
}

/* No more rows than are still wanted, nor than the answer could hold. */
static uint32_t entries_max(const struct slice *s) {
    uint32_t wanted = s->scan->limit - s->result->count;
    uint32_t holds = MR_SCAN_BYTES_MAX / ROW_BYTES_MIN + 1;
    return wanted < holds ? wanted : holds;
}

static bool keep(const struct slice *s, const struct entry *entry) {
    struct work *work = s->work;
    if (work->len == entries_max(s)) {
        if (compare(s, entry, &work->entries[0]) < 0) {
            work->entries[0] = *entry;
            sift_down(s, 0, work->len);
        }
        return true;
    }
    if (work->len == work->cap) {
        uint32_t cap = work->cap == 0 ? ENTRIES_FIRST : work->cap * 2;
        struct entry *entries = mr_realloc(work->entries, cap * sizeof *entries);
        if (entries == NULL) {
            return false;
        }
        work->entries = entries;
        work->cap = cap;
    }
    work->entries[work->len++] = *entry;
    sift_up(s, work->len - 1);
    return true;
}

static bool state_matches(const struct mr_scan *scan, const struct mr_combine_window *window) {
    bool final = window->state == MR_WINDOW_FINAL;
    return scan->state == MR_SCAN_ALL || final == (scan->state == MR_SCAN_FINAL);
}

static bool is_after(const struct mr_scan *scan, const struct mr_combine_window *window,
                     struct mr_bytes key) {
    if (!scan->has_after || window->start_ms != scan->after_start_ms) {
        return true; /* first_window has left out the windows before it */
    }
    int order = mr_bytes_compare(key, scan->after_key);
    return scan->descending ? order < 0 : order > 0;
}

static struct mr_combine_window *first_window(const struct slice *s) {
    const struct mr_scan *scan = s->scan;
    bool after = scan->has_after && scan->order == MR_SCAN_ORDER_WINDOW;
    if (scan->from_ms >= scan->to_ms) {
        return NULL;
    }
    if (scan->order == MR_SCAN_ORDER_WINDOW && scan->descending) {
        int64_t last = scan->to_ms - 1;
        last = after && scan->after_start_ms < last ? scan->after_start_ms : last;
        return mr_timeline_floor(&s->rule->windows, last);
    }
    int64_t first = scan->from_ms;
    first = after && scan->after_start_ms > first ? scan->after_start_ms : first;
    return mr_timeline_ceil(&s->rule->windows, first);
}

static struct mr_combine_window *following_window(const struct slice *s) {
    int64_t start = s->cursor->window_start_ms;
    if (s->scan->order == MR_SCAN_ORDER_WINDOW && s->scan->descending) {
        return start == INT64_MIN ? NULL : mr_timeline_floor(&s->rule->windows, start - 1);
    }
    return start == INT64_MAX ? NULL : mr_timeline_ceil(&s->rule->windows, start + 1);
}

/* Sets work->window; false when there is none left in [from, to). */
static bool find_window(const struct slice *s) {
    struct mr_combine_window *window = s->cursor->started ? following_window(s) : first_window(s);
    if (window == NULL || window->start_ms < s->scan->from_ms ||
        window->start_ms >= s->scan->to_ms) {
        return false;
    }
    s->cursor->started = true;
    s->cursor->window_start_ms = window->start_ms;
    s->cursor->group = 0;
    s->work->window = window;
    return true;
}

/* A text borrows from the state, which the next group's takes the place of. Kept until the scan is done. */
static bool copy_text(struct work *work, struct mr_number *number) {
    struct mr_bytes copy = mr_arena_copy(&work->texts, mr_bytes_of(number->text, number->len));
    number->text = copy.ptr;
    return copy.ptr != NULL;
}

/* Looks at one group. false: out of memory. */
static bool collect_group(const struct slice *s, struct mr_group *group) {
    const struct mr_scan *scan = s->scan;
    const struct mr_rule *rule = s->rule->rule;
    const struct mr_combine_window *window = s->work->window;
    bool by_metric = scan->order != MR_SCAN_ORDER_WINDOW;
    struct mr_row row = mr_combine_place(window, group);
    if (group->events == 0 || !mr_scan_matches(scan, row.key)) {
        return true; /* events 0: it has said all, and begins anew */
    }
    if (by_metric || rule->trigger.panes == MR_DISCARDING) {
        row = row_of(s, window, group);
        if (row.state.ptr == NULL) {
            return false;
        }
    }
    if (!is_after(scan, window, row.key)) {
        return true;
    }
    struct entry entry = {.window = window, .group = group};
    if (by_metric) {
        entry.number = mr_metric_finish(rule->metrics, (uint32_t)scan->order, row.state, NULL);
        if (entry.number.kind == MR_NUMBER_TEXT && !copy_text(s->work, &entry.number)) {
            return false;
        }
    }
    return keep(s, &entry);
}

/* One step of COLLECT: a window found, a group looked at, or the end of a window. */
static enum mr_status collect(const struct slice *s) {
    struct work *work = s->work;
    if (work->window == NULL) {
        work->exhausted = !find_window(s);
        if (work->exhausted) {
            work->phase = SORT;
            work->at = work->len;
        }
        return MR_OK;
    }
    uint32_t ref = (uint32_t)s->cursor->group;
    struct mr_group *group =
        state_matches(s->scan, work->window) ? mr_groups_next(&work->window->groups, &ref) : NULL;
    if (group == NULL) {
        work->window = NULL;
        if (s->scan->order == MR_SCAN_ORDER_WINDOW && work->len > 0) {
            work->phase = SORT;
            work->at = work->len;
        }
        return MR_OK;
    }
    s->cursor->group = ref;
    return collect_group(s, group) ? MR_OK : MR_NO_MEMORY;
}

/* The worst of the heap goes behind it: at the end the best is first. */
static void sort(const struct slice *s) {
    struct work *work = s->work;
    if (work->at <= 1) {
        work->phase = EMIT;
        work->at = 0;
        return;
    }
    work->at--;
    struct entry worst = work->entries[0];
    work->entries[0] = work->entries[work->at];
    work->entries[work->at] = worst;
    sift_down(s, 0, work->at);
}

/* MR_END: the answer is complete. */
static enum mr_status emit(const struct slice *s) {
    struct work *work = s->work;
    if (work->at == work->len) {
        work->len = 0;
        work->phase = COLLECT;
        return work->exhausted ? MR_END : MR_OK;
    }
    const struct entry *entry = &work->entries[work->at++];
    struct mr_row row = row_of(s, entry->window, entry->group);
    if (row.state.ptr == NULL) {
        return MR_NO_MEMORY;
    }
    mr_row_append(&s->result->rows, &row);
    if (s->result->rows.failed) {
        /* 64 MiB are met at the bound only: else it was the heap that refused. */
        return s->result->rows.len + ROW_BYTES_MIN + row.key.len + row.state.len + 8 >
                       MR_SCAN_BYTES_MAX
                   ? MR_LIMIT
                   : MR_NO_MEMORY;
    }
    s->result->count++;
    return s->result->count == s->scan->limit ? MR_END : MR_OK;
}

static enum mr_status step(const struct slice *s) {
    switch (s->work->phase) {
    case COLLECT:
        return collect(s);
    case SORT:
        sort(s);
        return MR_OK;
    case EMIT:
        return emit(s);
    }
    MR_UNREACHABLE();
}

void mr_combine_scan_stop(struct mr_combine *combine, struct mr_scan_cursor *cursor) {
    if (cursor->sessions != NULL) {
        mr_sessions_scan_stop(cursor->sessions, cursor);
    } else if (cursor->work != NULL) {
        MR_ASSERT(combine->scans > 0);
        combine->scans--;
        mr_arena_finish(&((struct work *)cursor->work)->texts);
        mr_free(((struct work *)cursor->work)->entries);
        mr_free(cursor->work);
        cursor->work = NULL;
    }
}

bool mr_combine_scan(struct mr_combine *combine, const struct mr_scan *scan,
                     struct mr_scan_cursor *cursor, uint32_t budget,
                     struct mr_scan_result *result) {
    MR_ASSERT(!combine->merging && budget > 0 && scan->rule < combine->rule_count);
    struct mr_combine_rule *rule = &combine->rules[scan->rule];
    MR_ASSERT(scan->order == MR_SCAN_ORDER_WINDOW || !scan->has_after);
    if (rule->sessions != NULL) {
        cursor->sessions = rule->sessions;
        return mr_sessions_scan(rule->sessions, scan, cursor, budget, result);
    }
    if (cursor->work == NULL) {
        *result = (struct mr_scan_result){.watermark_ms = mr_combine_watermark(combine, rule)};
        mr_buf_init(&result->rows, MR_SCAN_BYTES_MAX);
        if (scan->limit == 0) {
            return true;
        }
        cursor->work = mr_alloc_zero(1, sizeof(struct work));
        if (cursor->work == NULL) {
            result->status = MR_NO_MEMORY;
            return true;
        }
        mr_arena_init(&((struct work *)cursor->work)->texts, TEXTS_FIRST, TEXTS_MAX);
        combine->scans++;
    }
    struct slice s = {combine, rule, scan, cursor, result, cursor->work};
    enum mr_status status = MR_OK;
    for (; budget > 0 && status == MR_OK; budget--) {
        status = step(&s);
    }
    if (status == MR_OK) {
        return false;
    }
    result->status = status == MR_END ? MR_OK : status;
    mr_combine_scan_stop(combine, cursor);
    return true;
}
