/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans in slices: collect → sort → emit. One pass over all sessions, of which the best `limit` are kept, in a heap
 * with the worst of them on top.
 */
#include "aggregate/sessions_state.h"
#include "base/alloc.h"

enum { ENTRIES_FIRST = 64, ROW_BYTES_MIN = 48 };

enum phase { COLLECT, SORT, EMIT };

struct entry {
    struct mr_number number; /* metric order; kept ones own their text */
    struct mr_session *session;
};

struct work {
    enum phase phase;
    bool finals;            /* collecting from that list */
    struct mr_session *at;  /* the next one to look at */
    struct entry *entries;
    uint32_t len;
    uint32_t cap;
    uint32_t next; /* SORT: entries [next, len) are in their place. EMIT: the next to go */
};

struct slice {
    struct mr_sessions *s;
    const struct mr_scan *scan;
    struct mr_scan_result *result;
    struct work *work;
};

/* As mr_scan_compare, with the number at hand. Keys of two sessions differ before a pane's index could. */
static int compare(const struct slice *c, const struct entry *a, const struct entry *b) {
    int sign = 1;
    if (c->scan->order != MR_SCAN_ORDER_WINDOW) {
        int order = mr_number_compare(a->number, b->number);
        if (order != 0) {
            return c->scan->descending ? -order : order;
        }
    } else if (c->scan->descending) {
        sign = -1;
    }
    if (a->session->start_ms != b->session->start_ms) {
        return a->session->start_ms < b->session->start_ms ? -sign : sign;
    }
    return sign * mr_bytes_compare(mr_session_key_bytes(a->session), mr_session_key_bytes(b->session));
}

static void sift_down(const struct slice *c, uint32_t at, uint32_t len) {
    struct entry *heap = c->work->entries;
    struct entry moved = heap[at];
    for (uint32_t child = 2 * at + 1; child < len; child = 2 * at + 1) {
        if (child + 1 < len && compare(c, &heap[child], &heap[child + 1]) < 0) {
            child++;
        }
        if (compare(c, &moved, &heap[child]) >= 0) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void sift_up(const struct slice *c, uint32_t at) {
    struct entry *heap = c->work->entries;
    struct entry moved = heap[at];
    for (; at > 0 && compare(c, &heap[(at - 1) / 2], &moved) < 0; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = moved;
}

/* No more rows than are wanted, nor than the answer could hold. */
static uint32_t entries_max(const struct slice *c) {
    uint32_t holds = MR_SCAN_BYTES_MAX / ROW_BYTES_MIN + 1;
    return c->scan->limit < holds ? c->scan->limit : holds;
}

static bool has_text(const struct entry *entry) {
    return entry->number.kind == MR_NUMBER_TEXT && entry->number.len > 0;
}

static void free_text(const struct entry *entry) {
    if (has_text(entry)) {
        mr_free((void *)(uintptr_t)entry->number.text);
    }
}

/* A copy whose text is its own: what is encoded goes with the next one. */
static enum mr_status copy_entry(struct entry *to, const struct entry *from) {
    *to = *from;
    if (has_text(from)) {
        uint8_t *text = mr_alloc(from->number.len);
        if (text == NULL) {
            return MR_NO_MEMORY;
        }
        memcpy(text, from->number.text, from->number.len);
        to->number.text = text;
    }
    return MR_OK;
}

static enum mr_status keep(const struct slice *c, const struct entry *borrowing) {
    struct work *work = c->work;
    bool all = work->len == entries_max(c);
    if (all && compare(c, borrowing, &work->entries[0]) >= 0) {
        return MR_OK;
    }
    struct entry entry;
    if (copy_entry(&entry, borrowing) != MR_OK) {
        return MR_NO_MEMORY;
    }
    if (all) {
        free_text(&work->entries[0]);
        work->entries[0] = entry;
        sift_down(c, 0, work->len);
        return MR_OK;
    }
    if (work->len == work->cap) {
        uint32_t cap = work->cap == 0 ? ENTRIES_FIRST : work->cap * 2;
        struct entry *entries = mr_realloc(work->entries, cap * sizeof *entries);
        if (entries == NULL) {
            free_text(&entry);
            return MR_NO_MEMORY;
        }
        work->entries = entries;
        work->cap = cap;
    }
    work->entries[work->len++] = entry;
    sift_up(c, work->len - 1);
    return MR_OK;
}

static bool is_wanted(const struct slice *c, const struct mr_session *session) {
    const struct mr_scan *scan = c->scan;
    bool final = session->state == MR_SESSION_FINAL;
    return session->events > 0 && session->start_ms >= scan->from_ms && session->start_ms < scan->to_ms &&
           (scan->state == MR_SCAN_ALL || final == (scan->state == MR_SCAN_FINAL)) &&
           mr_scan_matches(scan, mr_session_key_bytes(session));
}

static bool is_after(const struct mr_scan *scan, const struct mr_session *session, struct mr_bytes row_key) {
    if (!scan->has_after) {
        return true;
    }
    int order = mr_bytes_compare(row_key, scan->after_key);
    if (session->start_ms != scan->after_start_ms) {
        order = session->start_ms < scan->after_start_ms ? -1 : 1;
    }
    return scan->descending ? order < 0 : order > 0;
}

static enum mr_status collect(const struct slice *c) {
    struct work *work = c->work;
    struct mr_session *session = work->at;
    if (session == NULL) {
        work->phase = work->finals ? SORT : COLLECT;
        work->at = work->finals ? NULL : c->s->finals.first;
        work->finals = true;
        work->next = work->len;
        return MR_OK;
    }
    work->at = session->links[MR_SESSION_HOME].next;
    if (!is_wanted(c, session)) {
        return MR_OK;
    }
    struct mr_bytes bytes;
    enum mr_status status = mr_session_row_key(c->s, session, session->index, &bytes);
    if (status != MR_OK || !is_after(c->scan, session, bytes)) {
        return status;
    }
    struct entry entry = {.session = session};
    if (c->scan->order != MR_SCAN_ORDER_WINDOW) {
        const struct mr_rule *rule = c->s->rule;
        status = mr_session_encode(c->s, mr_session_live(session), &bytes);
        if (status != MR_OK) {
            return status;
        }
        entry.number = mr_metric_finish(rule->metrics, (uint32_t)c->scan->order, bytes, NULL);
    }
    return keep(c, &entry);
}

/* The worst of the heap goes behind it: at the end the best is first. */
static void sort(const struct slice *c) {
    struct work *work = c->work;
    if (work->next <= 1) {
        work->phase = EMIT;
        work->next = 0;
        return;
    }
    work->next--;
    struct entry worst = work->entries[0];
    work->entries[0] = work->entries[work->next];
    work->entries[work->next] = worst;
    sift_down(c, 0, work->next);
}

/* MR_END: the answer is complete. */
static enum mr_status emit(const struct slice *c) {
    struct work *work = c->work;
    if (work->next == work->len) {
        return MR_END;
    }
    struct mr_session *session = work->entries[work->next++].session;
    bool fired_last = session->index > 0 && session->fired_seq > session->changed_seq;
    struct mr_row row = {
        .window_start_ms = session->start_ms,
        .window_end_ms = session->end_ms,
        .events = session->events,
        .revision = fired_last ? session->fired_seq : session->changed_seq,
        .final = session->state == MR_SESSION_FINAL,
    };
    enum mr_status status = mr_session_row_key(c->s, session, session->index, &row.key);
    if (status == MR_OK) {
        status = mr_session_encode(c->s, mr_session_live(session), &row.state);
    }
    if (status != MR_OK) {
        return status;
    }
    mr_row_append(&c->result->rows, &row);
    if (c->result->rows.failed) {
        /* 64 MiB are met at the bound only: else it was the heap that refused. */
        return c->result->rows.len + ROW_BYTES_MIN + row.key.len + row.state.len + 8 > MR_SCAN_BYTES_MAX
                   ? MR_LIMIT
                   : MR_NO_MEMORY;
    }
    c->result->count++;
    return MR_OK;
}

static enum mr_status step(const struct slice *c) {
    switch (c->work->phase) {
    case COLLECT:
        return collect(c);
    case SORT:
        sort(c);
        return MR_OK;
    case EMIT:
        return emit(c);
    }
    MR_UNREACHABLE();
}

void mr_sessions_scan_stop(struct mr_sessions *s, struct mr_scan_cursor *cursor) {
    if (cursor->work != NULL) {
        MR_ASSERT(s->scans > 0);
        s->scans--;
        struct work *work = cursor->work;
        for (uint32_t i = 0; i < work->len; i++) {
            free_text(&work->entries[i]);
        }
        mr_free(work->entries);
        mr_free(work);
        cursor->work = NULL;
    }
}

bool mr_sessions_scan(struct mr_sessions *s, const struct mr_scan *scan, struct mr_scan_cursor *cursor, uint32_t budget,
                      struct mr_scan_result *result) {
    MR_ASSERT(!s->merging && !s->firing && budget > 0);
    MR_ASSERT(scan->order == MR_SCAN_ORDER_WINDOW || !scan->has_after);
    MR_ASSERT(scan->order < (int32_t)s->rule->metric_count);
    if (cursor->work == NULL) {
        *result = (struct mr_scan_result){.watermark_ms = s->watermark_ms};
        mr_buf_init(&result->rows, MR_SCAN_BYTES_MAX);
        if (scan->limit == 0) {
            return true;
        }
        struct work *work = mr_alloc_zero(1, sizeof *work);
        if (work == NULL) {
            result->status = MR_NO_MEMORY;
            return true;
        }
        work->at = s->live.first;
        cursor->work = work;
        s->scans++;
    }
    struct slice c = {s, scan, result, cursor->work};
    enum mr_status status = MR_OK;
    for (; budget > 0 && status == MR_OK; budget--) {
        status = step(&c);
    }
    if (status == MR_OK) {
        return false;
    }
    result->status = status == MR_END ? MR_OK : status;
    mr_sessions_scan_stop(s, cursor);
    return true;
}
