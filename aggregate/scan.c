/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans in slices: collect → sort → emit, once for each window (window order) or once for all
 * (metric order). Only the best `limit` rows are kept, in a heap with the worst of them on top, so
 * that memory is bounded by the answer and not by the window.
 *
 * OPEN windows of a rule that has slices are not there: their rows are put together as they are asked for. All of them
 * begin after those that are there.
 */
#include "aggregate/combine_state.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/key.h"

enum { ENTRIES_FIRST = 64, ROW_BYTES_MIN = 48, TEXTS_FIRST = 1024, TEXTS_MAX = 64 * 1024 };

enum phase { COLLECT, SORT, EMIT };

struct entry {
    struct mr_number number; /* metric order */
    const struct mr_combine_window *window; /* NULL: one that is not there, of this start and key */
    struct mr_group *group;
    int64_t start_ms;
    const struct mr_sliced_key *key;
};

struct work {
    enum phase phase;
    struct mr_combine_window *window; /* being collected; NULL: it is not there, or the next one is to be found */
    bool in_slices;                   /* it is not there */
    const struct mr_sliced_key *key;  /* of that: the next one; NULL: its end */
    bool exhausted;                   /* there is no next one */
    struct entry *entries;
    uint32_t len;
    uint32_t cap;
    uint32_t at; /* SORT: entries [at, len) are in their place. EMIT: the next to go */
    struct mr_arena texts; /* of entries' numbers */
    uint8_t *live;         /* a live block, neutral: where slices are put together */
    struct mr_buf row;     /* what was put together of them: its state, then its key */
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

/* The key of a row put together, behind len bytes of work->row: it will be pane 0. */
static bool put_key(const struct slice *s, struct mr_bytes key, size_t len) {
    struct mr_buf *row = &s->work->row;
    uint8_t *at = mr_buf_reserve(row, key.len + MR_KEY_PANE_LEN);
    if (at == NULL) {
        return false;
    }
    memcpy(at, key.ptr, key.len);
    mr_key_write_pane(at + key.len, 0);
    row->len = len + key.len + (s->rule->rule->trigger.panes == MR_DISCARDING ? MR_KEY_PANE_LEN : 0);
    return true;
}

/* A row of a window that is not there. events 0: it has nothing of this key. state.ptr NULL: out of memory. */
static struct mr_row put_together(const struct slice *s, int64_t start_ms, const struct mr_sliced_key *key) {
    const struct mr_rule *rule = s->rule->rule;
    struct work *work = s->work;
    struct mr_slices_value value;
    struct mr_row row = {.window_start_ms = start_ms, .window_end_ms = mr_window_end(rule, start_ms)};
    if (mr_slices_add(s->rule->slices, key, start_ms, work->live, &value) == MR_OK) {
        uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, work->live);
        mr_buf_clear(&work->row);
        uint8_t *at = mr_buf_reserve(&work->row, len);
        if (at != NULL) {
            mr_metric_encode(rule->metrics, rule->metric_count, work->live, at);
            work->row.len = len;
        }
        if (at != NULL && put_key(s, mr_slices_key_bytes(key), len)) {
            row.state = mr_bytes_of(work->row.ptr, len);
            row.key = mr_bytes_of(work->row.ptr + len, work->row.len - len);
        }
    }
    row.events = value.events;
    row.revision = value.revision;
    mr_metric_release(rule->metrics, rule->metric_count, work->live);
    return row;
}

/* What an open window has not said yet, a closed one has been late. */
static struct mr_row row_of(const struct slice *s, const struct entry *entry) {
    if (entry->window == NULL) {
        return put_together(s, entry->start_ms, entry->key);
    }
    enum mr_timing timing = entry->window->state == MR_WINDOW_OPEN ? MR_TIMING_EARLY : MR_TIMING_LATE;
    return mr_combine_row(s->combine, entry->window, entry->group, timing);
}

/* The same without state, its key without a pane's index. */
static struct mr_row place_of(const struct entry *entry) {
    return entry->window == NULL
               ? (struct mr_row){.window_start_ms = entry->start_ms, .key = mr_slices_key_bytes(entry->key)}
               : mr_combine_place(entry->window, entry->group);
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
    struct mr_row row_a = place_of(a);
    struct mr_row row_b = place_of(b);
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

static bool is_after(const struct mr_scan *scan, int64_t start_ms, struct mr_bytes key) {
    if (!scan->has_after || start_ms != scan->after_start_ms) {
        return true; /* first_window has left out the windows before it */
    }
    int order = mr_bytes_compare(key, scan->after_key);
    return scan->descending ? order < 0 : order > 0;
}

static bool goes_down(const struct mr_scan *scan) {
    return scan->order == MR_SCAN_ORDER_WINDOW && scan->descending;
}

/* Where the first window may begin, in the order of the scan; there is some time in [from, to). */
static int64_t first_start(const struct mr_scan *scan) {
    bool after = scan->has_after && scan->order == MR_SCAN_ORDER_WINDOW;
    if (goes_down(scan)) {
        int64_t last = scan->to_ms - 1;
        return after && scan->after_start_ms < last ? scan->after_start_ms : last;
    }
    return after && scan->after_start_ms > scan->from_ms ? scan->after_start_ms : scan->from_ms;
}

/* The next window that is not there, from start_ms on. */
static bool find_in_slices(const struct slice *s, int64_t start_ms, int64_t *ret_start_ms) {
    const struct mr_combine_rule *cr = s->rule;
    int64_t far = INT64_MAX / 4; /* no event is there */
    if (cr->slices == NULL || s->scan->state == MR_SCAN_FINAL) {
        return false;
    }
    if (goes_down(s->scan)) {
        return mr_slices_window_to(cr->slices, start_ms < far ? start_ms : far, ret_start_ms) &&
               *ret_start_ms >= cr->slices_open_ms;
    }
    start_ms = start_ms > cr->slices_open_ms ? start_ms : cr->slices_open_ms;
    return start_ms < far && mr_slices_window_from(cr->slices, start_ms, ret_start_ms);
}

/* Sets work->window or work->in_slices; false when there is none left in [from, to). */
static bool find_window(const struct slice *s) {
    struct mr_scan_cursor *cursor = s->cursor;
    bool down = goes_down(s->scan);
    int64_t start_ms = cursor->window_start_ms;
    if (s->scan->from_ms >= s->scan->to_ms || (cursor->started && start_ms == (down ? INT64_MIN : INT64_MAX))) {
        return false;
    }
    start_ms = cursor->started ? start_ms + (down ? -1 : 1) : first_start(s->scan);
    struct mr_combine_window *window =
        down ? mr_timeline_floor(&s->rule->windows, start_ms) : mr_timeline_ceil(&s->rule->windows, start_ms);
    int64_t found_ms;
    bool in_slices = (down || window == NULL) && find_in_slices(s, start_ms, &found_ms);
    if (!in_slices && window == NULL) {
        return false;
    }
    found_ms = in_slices ? found_ms : window->start_ms;
    if (found_ms < s->scan->from_ms || found_ms >= s->scan->to_ms) {
        return false;
    }
    cursor->started = true;
    cursor->window_start_ms = found_ms;
    cursor->group = 0;
    s->work->window = in_slices ? NULL : window;
    s->work->in_slices = in_slices;
    s->work->key = in_slices ? mr_slices_first_key(s->rule->slices) : NULL;
    return true;
}

/* A text borrows from the state, which the next group's takes the place of. Kept until the scan is done. */
static bool copy_text(struct work *work, struct mr_number *number) {
    struct mr_bytes copy = mr_arena_copy(&work->texts, mr_bytes_of(number->text, number->len));
    number->text = copy.ptr;
    return copy.ptr != NULL;
}

/* Whether the window has anything of this group; of one that is not there events say so. *ret_events. */
static enum mr_status count_events(const struct slice *s, const struct entry *entry, uint64_t *ret_events) {
    if (entry->window != NULL) {
        *ret_events = entry->group->events;
        return MR_OK;
    }
    struct mr_slices_value value;
    enum mr_status status = mr_slices_add(s->rule->slices, entry->key, entry->start_ms, NULL, &value);
    *ret_events = value.events;
    return status;
}

/* Looks at one group. false: out of memory. */
static bool collect_group(const struct slice *s, struct entry entry) {
    const struct mr_scan *scan = s->scan;
    const struct mr_rule *rule = s->rule->rule;
    bool by_metric = scan->order != MR_SCAN_ORDER_WINDOW;
    struct mr_row row = place_of(&entry);
    uint64_t events = 0;
    if (!mr_scan_matches(scan, row.key)) {
        return true;
    }
    if (count_events(s, &entry, &events) != MR_OK) {
        return false;
    }
    if (events == 0) {
        return true; /* it has said all, and begins anew; or has never been there */
    }
    if (by_metric || rule->trigger.panes == MR_DISCARDING) {
        row = row_of(s, &entry);
        if (row.state.ptr == NULL) {
            return false;
        }
    }
    if (!is_after(scan, row.window_start_ms, row.key)) {
        return true;
    }
    if (by_metric) {
        entry.number = mr_metric_finish(rule->metrics, (uint32_t)scan->order, row.state, NULL);
        if (entry.number.kind == MR_NUMBER_TEXT && !copy_text(s->work, &entry.number)) {
            return false;
        }
    }
    return keep(s, &entry);
}

/* The next group of the window; one without group and key: there is none. */
static struct entry next_group(const struct slice *s) {
    struct work *work = s->work;
    struct entry entry = {.window = work->window, .start_ms = s->cursor->window_start_ms};
    if (work->in_slices) {
        entry.key = work->key;
        work->key = work->key == NULL ? NULL : mr_slices_next_key(work->key);
    } else if (state_matches(s->scan, work->window)) {
        uint32_t ref = (uint32_t)s->cursor->group;
        entry.group = mr_groups_next(&work->window->groups, &ref);
        s->cursor->group = ref;
    }
    return entry;
}

/* One step of COLLECT: a window found, a group looked at, or the end of a window. */
static enum mr_status collect(const struct slice *s) {
    struct work *work = s->work;
    if (work->window == NULL && !work->in_slices) {
        work->exhausted = !find_window(s);
        if (work->exhausted) {
            work->phase = SORT;
            work->at = work->len;
        }
        return MR_OK;
    }
    struct entry entry = next_group(s);
    if (entry.group == NULL && entry.key == NULL) {
        work->window = NULL;
        work->in_slices = false;
        if (s->scan->order == MR_SCAN_ORDER_WINDOW && work->len > 0) {
            work->phase = SORT;
            work->at = work->len;
        }
        return MR_OK;
    }
    return collect_group(s, entry) ? MR_OK : MR_NO_MEMORY;
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
    struct mr_row row = row_of(s, entry);
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
        struct work *work = cursor->work;
        mr_arena_finish(&work->texts);
        mr_buf_finish(&work->row);
        mr_free(work->live);
        mr_free(work->entries);
        mr_free(work);
        cursor->work = NULL;
    }
}

bool mr_combine_scan(struct mr_combine *combine, const struct mr_scan *scan,
                     struct mr_scan_cursor *cursor, uint32_t budget,
                     struct mr_scan_result *result) {
    MR_ASSERT(!combine->merging && budget > 0 && scan->rule < combine->rule_count);
    struct mr_combine_rule *rule = &combine->rules[scan->rule];
    MR_ASSERT(scan->order == MR_SCAN_ORDER_WINDOW || !scan->has_after);
    MR_ASSERT(rule->slices == NULL || !combine->firing); /* what is put together as it fires is there */
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
        struct work *work = mr_alloc_zero(1, sizeof *work);
        uint8_t *live = mr_alloc_zero(1, rule->rule->state_len);
        if (work == NULL || live == NULL) {
            mr_free(work);
            mr_free(live);
            result->status = MR_NO_MEMORY;
            return true;
        }
        work->live = live;
        mr_buf_init(&work->row, MR_SCAN_BYTES_MAX);
        mr_arena_init(&work->texts, TEXTS_FIRST, TEXTS_MAX);
        cursor->work = work;
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
