/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz query: any bytes as a query string, as a time, as a cursor, as an Accept header. Either an
 * error with a text of printable ASCII, or a question: then its scan keeps the bounds that combine
 * and the store rely on, and a cursor made from it leads back into it; likewise the question for the greatest, and
 * those with a step. Any bytes as rows: added up in pages of any size they give what one page gives.
 */
#include "base/check.h"
#include "base/key.h"
#include "server/cursor.h"
#include "server/roll_up.h"
#include "server/time_param.h"
#include "server/windows.h"

#define NOW_MS INT64_C(1795326840123)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(enum mr_status status, const struct mr_error *error) {
    MR_ASSERT(status == MR_INVALID || status == MR_NOT_FOUND);
    MR_ASSERT(error->status == status && error->text[0] != '\0');
    for (const char *at = error->text; *at != '\0'; at++) {
        MR_ASSERT(*at >= 0x20 && *at < 0x7f);
    }
}

static struct mr_rule make_rule(void) {
    struct mr_rule rule = {.name = MR_BYTES("r"),
                           .key_count = 2,
                           .metric_count = 2,
                           .window.size_ms = 1000,
                           .final_floor_ms = INT64_MIN};
    rule.key_names[0] = MR_BYTES("country");
    rule.key_names[1] = MR_BYTES("data.kind");
    rule.metrics[0] = (struct mr_metric){.name = MR_BYTES("views"), .kind = MR_METRIC_COUNT};
    rule.metrics[1] = (struct mr_metric){.name = MR_BYTES("spend"), .kind = MR_METRIC_SUM};
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, 0);
    return rule;
}

static bool in_years(int64_t ms) {
    return mr_time_has_text(ms);
}

static void check_question(const struct mr_windows *w, const struct mr_rule *rule) {
    const struct mr_scan *scan = &w->scan;
    MR_ASSERT(scan->from_ms == INT64_MIN || in_years(scan->from_ms));
    MR_ASSERT(scan->to_ms == INT64_MAX || in_years(scan->to_ms));
    MR_ASSERT(scan->limit >= 1 && scan->limit <= MR_WINDOWS_LIMIT_MAX);
    MR_ASSERT(scan->order >= MR_SCAN_ORDER_WINDOW && scan->order < (int32_t)rule->metric_count);
    MR_ASSERT(scan->order == MR_SCAN_ORDER_WINDOW || !scan->has_after);
    MR_ASSERT(scan->filter_count <= rule->key_count);
    for (uint32_t i = 0; i < scan->filter_count; i++) {
        MR_ASSERT(scan->filters[i].key < rule->key_count);
        MR_ASSERT(i == 0 || scan->filters[i].key > scan->filters[i - 1].key);
    }
    MR_ASSERT(w->step_ms >= 0 && w->step_ms <= MR_STEP_MAX_MS && w->step_ms % rule->window.size_ms == 0);
    MR_ASSERT(w->step_ms == 0 || scan->order == MR_SCAN_ORDER_WINDOW);
    MR_ASSERT(mr_windows_from(w) <= scan->from_ms && mr_windows_to(w) >= mr_windows_from(w));
    if (w->resumed) {
        MR_ASSERT(w->step_ms > 0 && !scan->has_after && w->resume_step_ms % w->step_ms == 0);
        MR_ASSERT(w->resume_step_ms > INT64_MIN / 2 && w->resume_step_ms < INT64_MAX / 2);
    }
}

/* The next page's query is this one's with the cursor instead of another. */
static void follow(const struct mr_windows *w, const struct mr_rule *rule, struct mr_bytes query) {
    struct mr_buf next;
    mr_buf_init(&next, 1 << 20);
    mr_buf_append_bytes(&next, query);
    mr_buf_append_text(&next, "&cursor=");
    struct mr_bytes key = MR_BYTES("s\0\2DEs\0\1x");
    if (w->step_ms > 0) {
        mr_windows_step_cursor(w, 3 * w->step_ms, &key, &next);
    } else {
        mr_windows_cursor(w, 123000, key, &next);
    }
    struct mr_windows again;
    struct mr_error error = {0};
    enum mr_status status =
        mr_windows_init(&again, rule, mr_buf_bytes(&next), MR_BYTES(""), NOW_MS + 5000, &error);
    MR_ASSERT(status == MR_OK && again.question == w->question);
    if (w->step_ms > 0) {
        MR_ASSERT(again.resumed && again.resume_step_ms == 3 * w->step_ms && mr_bytes_equal(again.resume_key, key));
    } else {
        MR_ASSERT(again.scan.has_after && again.scan.after_start_ms == 123000);
        MR_ASSERT(mr_bytes_equal(again.scan.after_key, key));
    }
    MR_ASSERT(again.scan.from_ms == w->scan.from_ms && again.scan.to_ms == w->scan.to_ms);
    mr_windows_finish(&again);
    mr_buf_finish(&next);
}

static void try_query(struct mr_bytes query, struct mr_bytes accept) {
    struct mr_rule rule = make_rule();
    struct mr_windows w;
    struct mr_error error = {0};
    enum mr_status status = mr_windows_init(&w, &rule, query, accept, NOW_MS, &error);
    mr_params_check(&w.params);
    if (status != MR_OK) {
        check_error(status, &error);
    } else {
        check_question(&w, &rule);
        if (w.scan.order == MR_SCAN_ORDER_WINDOW && !w.scan.has_after && !w.resumed &&
            mr_params_find(&w.params, "cursor") == NULL && w.params.count < MR_PARAMS_MAX &&
            w.scan.from_ms <= w.scan.to_ms && accept.len == 0) {
            follow(&w, &rule, query);
        }
    }
    mr_windows_finish(&w);
}

static void try_top(struct mr_bytes query) {
    struct mr_rule rule = make_rule();
    struct mr_windows w;
    struct mr_error error = {0};
    enum mr_status status = mr_windows_init_top(&w, &rule, query, MR_BYTES(""), NOW_MS, &error);
    mr_params_check(&w.params);
    if (status != MR_OK) {
        check_error(status, &error);
    } else {
        check_question(&w, &rule);
        MR_ASSERT(w.kind == MR_QUESTION_TOP && w.metric < rule.metric_count && w.n >= 1 && w.n <= MR_TOP_N_MAX);
        MR_ASSERT(w.answer < MR_ANSWER_COLUMNS && !w.resumed && !w.scan.has_after);
    }
    mr_windows_finish(&w);
}

/* Rows of a rule that counts, three bytes each, as window order needs them: one source. */
struct rolled {
    struct mr_rule rule;
    struct mr_buf rows;    /* all of them, packed */
    struct mr_buf slice;
    struct mr_merge_source source;
    struct mr_buf shown;   /* rows, packed */
};

static enum mr_status read_rows(void *ctx, const struct mr_scan *scan, struct mr_merge_source **ret_sources,
                                uint32_t *ret_count) {
    struct rolled *r = ctx;
    struct mr_bytes rest = mr_buf_bytes(&r->rows);
    struct mr_row row;
    uint32_t count = 0;
    mr_buf_clear(&r->slice);
    while (count < scan->limit && mr_row_next(&rest, &row)) {
        struct mr_row after = {.window_start_ms = scan->after_start_ms, .key = scan->after_key};
        if (row.window_start_ms >= scan->from_ms && row.window_start_ms < scan->to_ms &&
            (!scan->has_after || mr_scan_compare(scan, &r->rule, &row, &after) > 0)) {
            mr_row_append(&r->slice, &row);
            count++;
        }
    }
    r->source = (struct mr_merge_source){.rows = mr_buf_bytes(&r->slice), .more = count == scan->limit};
    *ret_sources = &r->source;
    *ret_count = 1;
    return MR_OK;
}

static bool show_row(void *ctx, const struct mr_row *row, uint64_t windows) {
    struct rolled *r = ctx;
    MR_ASSERT(windows > 0 && row->window_end_ms > row->window_start_ms);
    mr_row_append(&r->shown, row);
    return true;
}

static void roll(struct rolled *r, uint32_t limit, uint32_t slice, int64_t step_ms) {
    struct mr_roll_up roll;
    struct mr_buf key;
    bool more = true;
    mr_buf_init(&key, MR_KEY_LEN_MAX);
    mr_roll_up_init(&roll, &r->rule, step_ms);
    bool resumed = false;
    while (more) {
        int64_t next_step_ms = roll.next_step_ms;
        bool has_key = roll.next_has_key;
        mr_buf_clear(&key);
        mr_buf_append_bytes(&key, mr_buf_bytes(&roll.next_key));
        mr_roll_up_finish(&roll);
        mr_roll_up_init(&roll, &r->rule, step_ms);
        roll.scan.from_ms = INT64_MIN;
        roll.scan.to_ms = INT64_MAX;
        roll.limit = limit;
        roll.slice = slice;
        roll.read = read_rows;
        roll.visit = show_row;
        roll.ctx = r;
        roll.resumed = resumed;
        roll.resume_step_ms = next_step_ms;
        roll.resume_has_key = has_key;
        roll.resume_key = mr_buf_bytes(&key);
        struct mr_error error;
        MR_ASSERT(mr_roll_up_run(&roll, &error) == MR_OK);
        more = roll.more;
        resumed = true;
    }
    mr_roll_up_finish(&roll);
    mr_buf_finish(&key);
}

/* The first bytes are the limit, the slice and the step; then rows: how much further the window is, and the key. */
static void try_rows(struct mr_bytes data) {
    if (data.len < 3) {
        return;
    }
    struct rolled r = {.rule = make_rule()};
    struct mr_buf once;
    r.rule.key_count = 1;
    r.rule.metric_count = 1;
    r.rule.state_len = mr_metric_layout(r.rule.metrics, 1, 0);
    mr_buf_init(&r.rows, 1 << 20);
    mr_buf_init(&r.slice, 1 << 20);
    mr_buf_init(&r.shown, 1 << 20);
    mr_buf_init(&once, 1 << 20);
    int64_t window = -5;
    uint8_t last = 0;
    for (size_t at = 3; at + 1 < data.len && at < 1000; at += 2) {
        window += data.ptr[at] % 8 == 0 || data.ptr[at + 1] <= last ? 1 + data.ptr[at] / 8 : 0;
        last = data.ptr[at + 1];
        uint8_t key[4] = {MR_KEY_STRING, 0, 1, last};
        bool other = last % 16 == 0;
        uint8_t other_key[2] = {MR_KEY_OTHER, last / 16};
        uint64_t state = at;
        const struct mr_row row = {.window_start_ms = window * 1000,
                                   .window_end_ms = window * 1000 + 1000,
                                   .events = at,
                                   .key = other ? mr_bytes_of(other_key, 2) : mr_bytes_of(key, 4),
                                   .state = mr_bytes_of(&state, sizeof state)};
        /* The overflow group sorts before strings: it begins a window, or another one. */
        if (other && r.rows.len > 0) {
            window++;
            struct mr_row moved = row;
            moved.window_start_ms += 1000;
            moved.window_end_ms += 1000;
            last = 0;
            mr_row_append(&r.rows, &moved);
        } else {
            mr_row_append(&r.rows, &row);
        }
    }
    int64_t step_ms = 1000 * (1 + (int64_t)(data.ptr[2] % 100));
    roll(&r, 1000, 1000, step_ms);
    mr_buf_append_bytes(&once, mr_buf_bytes(&r.shown));
    mr_buf_clear(&r.shown);
    roll(&r, 1 + data.ptr[0], 1 + data.ptr[1], step_ms);
    MR_ASSERT(mr_bytes_equal(mr_buf_bytes(&once), mr_buf_bytes(&r.shown)));
    mr_buf_finish(&r.rows);
    mr_buf_finish(&r.slice);
    mr_buf_finish(&r.shown);
    mr_buf_finish(&once);
}

static void try_time(struct mr_bytes text) {
    struct mr_error error = {0};
    int64_t ms = INT64_MIN;
    enum mr_status status = mr_time_param("from", text, NOW_MS, &ms, &error);
    if (status != MR_OK) {
        check_error(status, &error);
    } else {
        MR_ASSERT(in_years(ms));
    }
}

static void try_cursor(struct mr_bytes text) {
    struct mr_buf scratch;
    struct mr_buf again;
    struct mr_cursor cursor;
    struct mr_error error = {0};
    mr_buf_init(&scratch, MR_CURSOR_TEXT_MAX);
    mr_buf_init(&again, MR_CURSOR_TEXT_MAX);
    enum mr_status status = mr_cursor_decode(text, 0, &scratch, &cursor, &error);
    if (status != MR_OK) {
        check_error(status, &error);
    } else {
        mr_cursor_encode(&cursor, &again);
        MR_ASSERT(mr_bytes_equal(mr_buf_bytes(&again), text));
    }
    mr_buf_finish(&again);
    mr_buf_finish(&scratch);
}

/* Any rest as a cursor with a right checksum. */
static void try_made_cursor(struct mr_bytes rest) {
    struct mr_cursor cursor = {
        .from_ms = INT64_MIN, .to_ms = INT64_MAX, .place = rest.len, .rest = rest};
    struct mr_buf text;
    if (rest.len > MR_CURSOR_REST_MAX) {
        return;
    }
    mr_buf_init(&text, MR_CURSOR_TEXT_MAX);
    mr_cursor_encode(&cursor, &text);
    MR_ASSERT(!text.failed);
    try_cursor(mr_buf_bytes(&text));
    mr_buf_finish(&text);
}

/* The first byte says as what the others are read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct mr_bytes rest = mr_bytes_of(data + 1, size - 1);
    switch (data[0] % 8) {
    case 0:
        try_query(rest, MR_BYTES(""));
        break;
    case 1:
        try_time(rest);
        break;
    case 2:
        try_cursor(rest);
        break;
    case 3:
        try_made_cursor(rest);
        break;
    case 4:
        try_query(MR_BYTES("limit=5"), rest);
        break;
    case 5:
        try_top(rest);
        break;
    default:
        try_rows(rest);
        break;
    }
    return 0;
}
