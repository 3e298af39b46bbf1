/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz query: any bytes as a query string, as a time, as a cursor, as an Accept header. Either an
 * error with a text of printable ASCII, or a question: then its scan keeps the bounds that combine
 * and the store rely on, and a cursor made from it leads back into it.
 */
#include "base/check.h"
#include "server/cursor.h"
#include "server/time_param.h"
#include "server/windows.h"

#define NOW_MS INT64_C(1795326840123)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(enum mr_status status, const struct mr_error *error) {
    MR_ASSERT(status == MR_INVALID || status == MR_UNSUPPORTED || status == MR_NOT_FOUND);
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
}

/* The next page's query is this one's with the cursor instead of another. */
static void follow(const struct mr_windows *w, const struct mr_rule *rule, struct mr_bytes query) {
    struct mr_buf next;
    mr_buf_init(&next, 1 << 20);
    mr_buf_append_bytes(&next, query);
    mr_buf_append_text(&next, "&cursor=");
    mr_windows_cursor(w, 123000, MR_BYTES("s\0\2DEs\0\1x"), &next);
    struct mr_windows again;
    struct mr_error error = {0};
    enum mr_status status =
        mr_windows_init(&again, rule, mr_buf_bytes(&next), MR_BYTES(""), NOW_MS + 5000, &error);
    MR_ASSERT(status == MR_OK && again.question == w->question);
    MR_ASSERT(again.scan.has_after && again.scan.after_start_ms == 123000 &&
              again.scan.after_key.len == 9);
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
        if (w.scan.order == MR_SCAN_ORDER_WINDOW && !w.scan.has_after &&
            mr_params_find(&w.params, "cursor") == NULL && w.params.count < MR_PARAMS_MAX &&
            w.scan.from_ms <= w.scan.to_ms && accept.len == 0) {
            follow(&w, &rule, query);
        }
    }
    mr_windows_finish(&w);
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
    switch (data[0] % 5) {
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
    default:
        try_query(MR_BYTES("limit=5"), rest);
        break;
    }
    return 0;
}
