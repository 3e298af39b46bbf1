/* SPDX-License-Identifier: Apache-2.0 */
#include "server/windows.h"

#include "base/check.h"
#include "base/hash.h"
#include "config/value.h"
#include "server/cursor.h"
#include "server/merge.h"
#include "server/roll_up.h"
#include "server/time_param.h"

static const char *const names[] = {"from",  "to",     "metrics", "order", "limit",
                                    "state", "cursor", "format",  "step"};
static const char *const top_names[] = {"metric", "n", "from", "to", "metrics", "step", "format"};
static const char *const stream_names[] = {"from", "metrics", "last_event_id"};
static const char *const beginnings[] = {"now", "oldest"};
static const char *const states[] = {
    [MR_SCAN_ALL] = "all", [MR_SCAN_OPEN] = "open", [MR_SCAN_FINAL] = "final"};

#define KEY_PREFIX "key."

enum { LIST_MAX = 256 };

static enum mr_status take_times(struct mr_windows *w, int64_t now_ms, struct mr_error *error) {
    const struct mr_param *from = mr_params_find(&w->params, "from");
    const struct mr_param *to = mr_params_find(&w->params, "to");
    enum mr_status status = MR_OK;
    w->scan.from_ms = INT64_MIN;
    w->scan.to_ms = INT64_MAX;
    if (from != NULL) {
        status = mr_time_param("from", from->value, now_ms, &w->scan.from_ms, error);
    }
    if (status == MR_OK && to != NULL) {
        status = mr_time_param("to", to->value, now_ms, &w->scan.to_ms, error);
    }
    if (status == MR_OK && w->scan.from_ms > w->scan.to_ms) {
        status = mr_error_set(error, MR_INVALID, "query parameter `from`: `%s` is after `to`: `%s`",
                              mr_quote(from->value).text, mr_quote(to->value).text);
    }
    return status;
}

static void list_metrics(const struct mr_rule *rule, char *list, size_t cap) {
    for (uint32_t i = 0; i < rule->metric_count; i++) {
        mr_list_append(list, cap, rule->metrics[i].name);
    }
}

/* metric_count: none of that name. */
static uint32_t find_metric(const struct mr_rule *rule, struct mr_bytes name) {
    uint32_t i = 0;
    while (i < rule->metric_count && !mr_bytes_equal(rule->metrics[i].name, name)) {
        i++;
    }
    return i;
}

static enum mr_status take_metrics(struct mr_windows *w, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&w->params, "metrics");
    w->view.metrics = MR_ROWS_METRICS_ALL;
    if (param == NULL) {
        return MR_OK;
    }
    w->view.metrics = 0;
    for (size_t at = 0; at <= param->value.len;) {
        size_t len = 0;
        while (at + len < param->value.len && param->value.ptr[at + len] != ',') {
            len++;
        }
        struct mr_bytes name = mr_bytes_of(param->value.ptr + at, len);
        uint32_t metric = find_metric(w->view.rule, name);
        if (metric == w->view.rule->metric_count) {
            char list[LIST_MAX] = "";
            list_metrics(w->view.rule, list, sizeof list);
            return mr_error_set(error, MR_INVALID,
                                "query parameter `metrics`: `%s` is no metric of this rule; "
                                "expected some of %s, separated by commas",
                                mr_quote(name).text, list);
        }
        w->view.metrics |= UINT64_C(1) << metric;
        at += len + 1;
    }
    return MR_OK;
}

/* Whether its value is an object or a list: nothing to put in an order. */
static bool is_composite(const struct mr_metric *metric) {
    return metric->kind == MR_METRIC_QUANTILES || metric->kind == MR_METRIC_TOP ||
           metric->kind == MR_METRIC_HISTOGRAM || metric->kind == MR_METRIC_COLLECT;
}

static enum mr_status refuse_composite(const char *param, const struct mr_metric *metric, struct mr_error *error) {
    return mr_error_set(error, MR_INVALID,
                        "query parameter `%s`: `%s` is of kind %s, whose value is an object or a list; expected a "
                        "metric whose value is one number",
                        param, mr_quote(metric->name).text, mr_metric_kind_name(metric->kind));
}

static enum mr_status take_order(struct mr_windows *w, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&w->params, "order");
    w->scan.order = MR_SCAN_ORDER_WINDOW;
    if (param == NULL) {
        return MR_OK;
    }
    struct mr_bytes name = param->value;
    if (name.len > 0 && name.ptr[0] == '-') {
        w->scan.descending = true;
        name = mr_bytes_of(name.ptr + 1, name.len - 1);
    }
    if (mr_bytes_equal(name, MR_BYTES("window_start"))) {
        return MR_OK;
    }
    uint32_t metric = find_metric(w->view.rule, name);
    if (metric == w->view.rule->metric_count) {
        char list[LIST_MAX] = "window_start";
        list_metrics(w->view.rule, list, sizeof list);
        return mr_error_set(error, MR_INVALID,
                            "query parameter `order`: `%s`; expected one of %s, with `-` before it "
                            "for descending",
                            mr_quote(param->value).text, list);
    }
    if (is_composite(&w->view.rule->metrics[metric])) {
        return refuse_composite("order", &w->view.rule->metrics[metric], error);
    }
    if (w->step_ms > 0) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `order`: `%s`; with `step` expected window_start or -window_start; "
                            "/v1/rules/{rule}/top has the greatest of each step",
                            mr_quote(param->value).text);
    }
    w->scan.order = (int32_t)metric;
    return MR_OK;
}

static enum mr_status take_metric(struct mr_windows *w, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&w->params, "metric");
    const struct mr_rule *rule = w->view.rule;
    char list[LIST_MAX] = "";
    list_metrics(rule, list, sizeof list);
    if (param == NULL) {
        return mr_error_set(error, MR_INVALID, "query parameter `metric` is missing; expected one of %s", list);
    }
    w->metric = find_metric(rule, param->value);
    if (w->metric == rule->metric_count) {
        return mr_error_set(error, MR_INVALID, "query parameter `metric`: `%s`; expected one of %s",
                            mr_quote(param->value).text, list);
    }
    if (is_composite(&rule->metrics[w->metric])) {
        return refuse_composite("metric", &rule->metrics[w->metric], error);
    }
    if (rule->window.kind == MR_WINDOW_SLIDING) {
        return mr_error_set(error, MR_INVALID,
                            "the windows of this rule overlap: added up they would count events several times; "
                            "expected a rule with another type of windows, or /windows with order=-%s",
                            mr_quote(param->value).text);
    }
    return MR_OK;
}

/* "10s", for a message. */
static void show_duration(int64_t ms, char *text, size_t cap) {
    struct mr_buf buf;
    mr_buf_init(&buf, cap - 1);
    mr_value_show_duration(ms, &buf);
    memcpy(text, buf.ptr == NULL ? (const uint8_t *)"" : buf.ptr, buf.len);
    text[buf.len] = '\0';
    mr_buf_finish(&buf);
}

static enum mr_status take_step(struct mr_windows *w, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&w->params, "step");
    const struct mr_window *window = &w->view.rule->window;
    int64_t ms = 0;
    if (param == NULL) {
        return MR_OK;
    }
    if (!mr_duration_parse(param->value, &ms) || ms <= 0 || ms > MR_STEP_MAX_MS) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `step`: `%s`; expected a duration such as 1m, 1h or 7d, up to 3660d",
                            mr_quote(param->value).text);
    }
    if (window->kind != MR_WINDOW_TUMBLING) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `step`: only tumbling windows are added up, and this rule has others; "
                            "leave `step` out");
    }
    if (ms % window->size_ms != 0) {
        enum { SHOWN = 64 };
        char size[SHOWN];
        char below[SHOWN];
        char above[SHOWN];
        int64_t times = ms / window->size_ms;
        show_duration(window->size_ms, size, sizeof size);
        show_duration((times == 0 ? 1 : times) * window->size_ms, below, sizeof below);
        show_duration((times == 0 ? 2 : times + 1) * window->size_ms, above, sizeof above);
        return mr_error_set(error, MR_INVALID,
                            "query parameter `step`: `%s`; expected a multiple of the rule's windows of %s, such as "
                            "%s or %s",
                            mr_quote(param->value).text, size, below, above);
    }
    w->step_ms = ms;
    w->view.shape = w->kind == MR_QUESTION_TOP ? MR_ROWS_TOP_STEPS : MR_ROWS_STEPS;
    return MR_OK;
}

static enum mr_status refuse_key(const struct mr_rule *rule, struct mr_bytes name,
                                 struct mr_error *error) {
    char list[LIST_MAX] = "";
    for (uint32_t i = 0; i < rule->key_count; i++) {
        mr_list_append(list, sizeof list, rule->key_names[i]);
    }
    return mr_error_set(error, MR_INVALID,
                        "query parameter `" KEY_PREFIX "%s`: no key of this rule; its keys are: %s",
                        mr_quote(name).text, rule->key_count == 0 ? "none" : list);
}

/* In the order of the rule's keys, so that the order of parameters does not make another question. */
static enum mr_status take_filters(struct mr_windows *w, struct mr_error *error) {
    const struct mr_rule *rule = w->view.rule;
    const struct mr_param *by_key[MR_RULE_KEYS_MAX] = {0};
    const size_t prefix = sizeof KEY_PREFIX - 1;
    for (uint32_t i = 0; i < w->params.count; i++) {
        const struct mr_param *param = &w->params.items[i];
        if (param->name.len < prefix || memcmp(param->name.ptr, KEY_PREFIX, prefix) != 0) {
            continue;
        }
        struct mr_bytes name = mr_bytes_of(param->name.ptr + prefix, param->name.len - prefix);
        uint32_t key = 0;
        while (key < rule->key_count && !mr_bytes_equal(rule->key_names[key], name)) {
            key++;
        }
        if (key == rule->key_count) {
            return refuse_key(rule, name, error);
        }
        MR_ASSERT(by_key[key] == NULL); /* names differ, and none is given twice */
        by_key[key] = param;
    }
    for (uint32_t key = 0; key < rule->key_count; key++) {
        if (by_key[key] != NULL) {
            w->scan.filters[w->scan.filter_count++] =
                (struct mr_scan_filter){.key = key, .text = by_key[key]->value};
        }
    }
    return MR_OK;
}

static void hash_part(struct mr_buf *text, struct mr_bytes part) {
    uint64_t len = part.len;
    mr_buf_append(text, &len, sizeof len);
    mr_buf_append_bytes(text, part);
}

/* What a cursor belongs to: all that decides which rows there are and in which order. Times as they were written:
 * now-1h stays the same question. */
static enum mr_status hash_question(struct mr_windows *w, struct mr_error *error) {
    static const char *const times[] = {"from", "to"};
    struct mr_buf text;
    mr_buf_init(&text, 64 << 10);
    hash_part(&text, MR_BYTES("windows"));
    hash_part(&text, w->view.rule->name);
    for (uint32_t i = 0; i < 2; i++) {
        const struct mr_param *param = mr_params_find(&w->params, times[i]);
        hash_part(&text, param == NULL ? MR_BYTES("") : param->value);
    }
    int64_t choices[3] = {w->scan.state, w->scan.order, w->scan.descending};
    hash_part(&text, mr_bytes_of(choices, sizeof choices));
    for (uint32_t i = 0; i < w->scan.filter_count; i++) {
        hash_part(&text, w->view.rule->key_names[w->scan.filters[i].key]);
        hash_part(&text, w->scan.filters[i].text);
    }
    if (w->step_ms > 0) {
        hash_part(&text, MR_BYTES("step"));
        hash_part(&text, mr_bytes_of(&w->step_ms, sizeof w->step_ms));
    }
    bool failed = text.failed;
    w->question = failed ? 0 : mr_checksum(mr_buf_bytes(&text));
    mr_buf_finish(&text);
    return failed ? mr_error_set(error, MR_NO_MEMORY, "no memory for the query") : MR_OK;
}

/* The rest of a step's cursor is 1 and a key, or nothing. */
enum { HAS_KEY = 1 };

static enum mr_status resume_step(struct mr_windows *w, const struct mr_cursor *cursor, struct mr_error *error) {
    int64_t step = (int64_t)cursor->place;
    bool has_key = cursor->rest.len > 0;
    if (step < MR_TIME_YEAR_0_MS - MR_STEP_MAX_MS || step >= MR_TIME_YEAR_10000_MS ||
        mr_step_floor(step, w->step_ms) != step || (has_key && cursor->rest.ptr[0] != HAS_KEY)) {
        return mr_error_set(error, MR_INVALID, "query parameter `cursor`: not a cursor of a step; expected the "
                                               "next_cursor of an earlier answer, unchanged");
    }
    w->resumed = true;
    w->resume_step_ms = step;
    w->resume_has_key = has_key;
    if (has_key) {
        w->resume_key = mr_bytes_of(cursor->rest.ptr + 1, cursor->rest.len - 1);
    }
    return MR_OK;
}

static enum mr_status take_cursor(struct mr_windows *w, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&w->params, "cursor");
    if (param == NULL) {
        return MR_OK;
    }
    if (w->scan.order != MR_SCAN_ORDER_WINDOW) {
        return mr_error_set(
            error, MR_INVALID,
            "query parameter `cursor`: there are no pages in the order of a metric; "
            "expected order=window_start or order=-window_start, or a larger `limit`");
    }
    struct mr_cursor cursor;
    enum mr_status status = mr_cursor_decode(param->value, w->question, &w->after, &cursor, error);
    if (status != MR_OK) {
        return status;
    }
    w->scan.from_ms = cursor.from_ms;
    w->scan.to_ms = cursor.to_ms;
    if (w->step_ms > 0) {
        return resume_step(w, &cursor, error);
    }
    w->scan.has_after = true;
    w->scan.after_start_ms = (int64_t)cursor.place;
    w->scan.after_key = cursor.rest;
    return MR_OK;
}

static enum mr_status take_state(struct mr_windows *w, struct mr_error *error) {
    uint32_t state = MR_SCAN_ALL;
    enum mr_status status =
        mr_params_choice(&w->params, "state", states, sizeof states / sizeof states[0], &state, error);
    w->scan.state = (enum mr_scan_state)state;
    return status;
}

/* What both questions have. */
static enum mr_status take_common(struct mr_windows *w, const char *const *known, uint32_t known_count, int64_t now_ms,
                                  struct mr_error *error) {
    enum mr_status status = mr_params_known(&w->params, known, known_count, KEY_PREFIX, error);
    status = status == MR_OK ? take_times(w, now_ms, error) : status;
    status = status == MR_OK ? take_filters(w, error) : status;
    status = status == MR_OK ? take_metrics(w, error) : status;
    status = status == MR_OK ? take_step(w, error) : status;
    return status;
}

static enum mr_status take_windows(struct mr_windows *w, struct mr_bytes accept, int64_t now_ms,
                                   struct mr_error *error) {
    w->scan.limit = MR_WINDOWS_LIMIT;
    enum mr_status status = take_common(w, names, sizeof names / sizeof names[0], now_ms, error);
    status = status == MR_OK ? take_order(w, error) : status;
    if (status == MR_OK) {
        status =
            mr_params_count(&w->params, "limit", 1, MR_WINDOWS_LIMIT_MAX, &w->scan.limit, error);
    }
    status = status == MR_OK ? take_state(w, error) : status;
    if (status == MR_OK) {
        status = mr_answer_choose(&w->params, accept, MR_ANSWER_COUNT, &w->answer, error);
    }
    status = status == MR_OK ? hash_question(w, error) : status;
    return status == MR_OK ? take_cursor(w, error) : status;
}

static enum mr_status take_top(struct mr_windows *w, struct mr_bytes accept, int64_t now_ms,
                               struct mr_error *error) {
    w->scan.order = MR_SCAN_ORDER_WINDOW;
    w->scan.limit = MR_TOP_N_MAX;
    w->n = MR_TOP_N;
    enum mr_status status = take_common(w, top_names, sizeof top_names / sizeof top_names[0], now_ms, error);
    status = status == MR_OK ? take_metric(w, error) : status;
    if (status == MR_OK) {
        status = mr_params_count(&w->params, "n", 1, MR_TOP_N_MAX, &w->n, error);
    }
    if (status == MR_OK) {
        status = mr_answer_choose(&w->params, accept, MR_ANSWER_CSV + 1, &w->answer, error);
    }
    return status;
}

static enum mr_status take_stream(struct mr_windows *w, struct mr_error *error) {
    uint32_t beginning = 0;
    enum mr_status status = mr_params_known(&w->params, stream_names, sizeof stream_names / sizeof stream_names[0],
                                            KEY_PREFIX, error);
    status = status == MR_OK ? take_filters(w, error) : status;
    status = status == MR_OK ? take_metrics(w, error) : status;
    if (status == MR_OK) {
        status = mr_params_choice(&w->params, "from", beginnings, sizeof beginnings / sizeof beginnings[0], &beginning,
                                  error);
    }
    w->from_oldest = beginning != 0;
    return status;
}

static enum mr_status init(struct mr_windows *ret, const struct mr_rule *rule, enum mr_question kind,
                           struct mr_bytes query, struct mr_error *error) {
    *ret = (struct mr_windows){.kind = kind, .view = {.rule = rule, .metrics = MR_ROWS_METRICS_ALL}};
    ret->scan.rule = rule->index;
    ret->view.shape = kind == MR_QUESTION_TOP      ? MR_ROWS_TOP
                      : kind == MR_QUESTION_STREAM ? MR_ROWS_PANES
                                                   : MR_ROWS_WINDOWS;
    mr_buf_init(&ret->after, MR_CURSOR_TEXT_MAX);
    return mr_params_init(&ret->params, query, error);
}

enum mr_status mr_windows_init(struct mr_windows *ret, const struct mr_rule *rule,
                               struct mr_bytes query, struct mr_bytes accept, int64_t now_ms,
                               struct mr_error *error) {
    enum mr_status status = init(ret, rule, MR_QUESTION_WINDOWS, query, error);
    return status == MR_OK ? take_windows(ret, accept, now_ms, error) : status;
}

enum mr_status mr_windows_init_top(struct mr_windows *ret, const struct mr_rule *rule, struct mr_bytes query,
                                   struct mr_bytes accept, int64_t now_ms, struct mr_error *error) {
    enum mr_status status = init(ret, rule, MR_QUESTION_TOP, query, error);
    return status == MR_OK ? take_top(ret, accept, now_ms, error) : status;
}

enum mr_status mr_windows_init_stream(struct mr_windows *ret, const struct mr_rule *rule, struct mr_bytes query,
                                      struct mr_error *error) {
    enum mr_status status = init(ret, rule, MR_QUESTION_STREAM, query, error);
    return status == MR_OK ? take_stream(ret, error) : status;
}

void mr_windows_finish(struct mr_windows *windows) {
    mr_params_finish(&windows->params);
    mr_buf_finish(&windows->after);
}

int64_t mr_windows_from(const struct mr_windows *windows) {
    int64_t from_ms = windows->scan.from_ms;
    return windows->step_ms == 0 ? from_ms : mr_step_floor(from_ms, windows->step_ms);
}

int64_t mr_windows_to(const struct mr_windows *windows) {
    int64_t to_ms = windows->scan.to_ms;
    bool empty = windows->scan.from_ms == to_ms;
    return windows->step_ms == 0 ? to_ms
           : empty               ? mr_step_floor(to_ms, windows->step_ms)
                                 : mr_step_ceil(to_ms, windows->step_ms);
}

void mr_windows_cursor(const struct mr_windows *windows, int64_t window_start_ms,
                       struct mr_bytes key, struct mr_buf *ret) {
    MR_ASSERT(windows->scan.order == MR_SCAN_ORDER_WINDOW && windows->step_ms == 0);
    struct mr_cursor cursor = {
        .question = windows->question,
        .from_ms = windows->scan.from_ms,
        .to_ms = windows->scan.to_ms,
        .place = (uint64_t)window_start_ms,
        .rest = mr_merge_place(&windows->scan, key),
    };
    mr_cursor_encode(&cursor, ret);
}

void mr_windows_step_cursor(const struct mr_windows *windows, int64_t step_start_ms, const struct mr_bytes *key,
                            struct mr_buf *ret) {
    MR_ASSERT(windows->kind == MR_QUESTION_WINDOWS && windows->step_ms > 0);
    uint8_t rest[MR_CURSOR_REST_MAX] = {HAS_KEY};
    struct mr_cursor cursor = {
        .question = windows->question,
        .from_ms = windows->scan.from_ms,
        .to_ms = windows->scan.to_ms,
        .place = (uint64_t)step_start_ms,
    };
    if (key != NULL) {
        MR_ASSERT(key->len <= MR_KEY_LEN_MAX);
        if (key->len > 0) {
            memcpy(rest + 1, key->ptr, key->len);
        }
        cursor.rest = mr_bytes_of(rest, 1 + key->len);
    }
    mr_cursor_encode(&cursor, ret);
}
