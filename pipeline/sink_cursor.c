/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sink cursor: SINK-<name>, a text:
 *
 *     millrace sink, format 1
 *     store 00c0ffee00c0ffee epoch 1763774400000 target 0123456789abcdef
 *     outbox 1234
 *     rule clicks generation 0 open_from -9223372036854775808
 */
#include "base/report.h"
#include "pipeline/sink_worker.h"

#include <inttypes.h>
#include <stdio.h>

enum { CURSOR_MAX = 128 + MR_RULES_MAX * (MR_NAME_MAX + 96) };

static void print_head(const struct mr_sink_worker *w, struct mr_buf *ret) {
    mr_buf_printf(ret, "millrace sink, format 1\nstore %016" PRIx64 " epoch %" PRIu64 " target %016" PRIx64 "\n",
                  w->store.incarnation, w->store.epoch, w->target);
}

static void print_rule(const struct mr_sink_worker *w, const struct mr_sink_rule *rule, struct mr_buf *ret) {
    const struct mr_results_rule *r = &w->sinks->options.results_rules[rule->rule];
    mr_buf_printf(ret, "rule %.*s generation %" PRIu64 " open_from ", (int)r->name.len, (const char *)r->name.ptr,
                  r->generation);
}

/* Takes the text that must come next. */
static bool take(struct mr_bytes *rest, struct mr_bytes wanted) {
    if (rest->len < wanted.len || memcmp(rest->ptr, wanted.ptr, wanted.len) != 0) {
        return false;
    }
    *rest = mr_bytes_of(rest->ptr + wanted.len, rest->len - wanted.len);
    return true;
}

/* A number and the end of its line. */
static bool take_number(struct mr_bytes *rest, int64_t *ret) {
    char text[32] = "";
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    if (end == NULL || end == rest->ptr || (size_t)(end - rest->ptr) >= sizeof text) {
        return false;
    }
    memcpy(text, rest->ptr, (size_t)(end - rest->ptr));
    char after = 0;
    if (sscanf(text, "%" SCNd64 "%c", ret, &after) != 1) {
        return false;
    }
    *rest = mr_bytes_of(end + 1, rest->len - (size_t)(end + 1 - rest->ptr));
    return true;
}

static bool parse(struct mr_sink_worker *w, struct mr_bytes rest, struct mr_buf *text) {
    int64_t id;
    print_head(w, text);
    mr_buf_append_text(text, "outbox ");
    if (text->failed || !take(&rest, mr_buf_bytes(text)) || !take_number(&rest, &id) || id < 0) {
        return false;
    }
    for (uint32_t i = 0; i < w->rule_count; i++) {
        int64_t *open_from_ms = &w->rules[i].open_from_ms;
        mr_buf_clear(text);
        print_rule(w, &w->rules[i], text);
        if (text->failed || !take(&rest, mr_buf_bytes(text)) || !take_number(&rest, open_from_ms)) {
            return false;
        }
        w->rules[i].open_from_ms_next = *open_from_ms;
    }
    w->arrived_id = (uint64_t)id;
    return rest.len == 0;
}

bool mr_sink_cursor_read(struct mr_sink_worker *w) {
    struct mr_buf stored;
    struct mr_buf text;
    struct mr_error error;
    if (w->sinks->options.dir == NULL) {
        return false;
    }
    mr_buf_init(&stored, CURSOR_MAX);
    mr_buf_init(&text, CURSOR_MAX);
    enum mr_status status = mr_datadir_read_sink(w->sinks->options.dir, w->sink->name, &stored, &error);
    bool fits = status == MR_OK && parse(w, mr_buf_bytes(&stored), &text);
    mr_buf_finish(&text);
    mr_buf_finish(&stored);
    return fits;
}

void mr_sink_cursor_write(struct mr_sink_worker *w) {
    struct mr_buf text;
    struct mr_error error;
    if (w->sinks->options.dir == NULL) {
        return;
    }
    mr_buf_init(&text, CURSOR_MAX);
    print_head(w, &text);
    mr_buf_printf(&text, "outbox %" PRIu64 "\n", w->arrived_id);
    for (uint32_t i = 0; i < w->rule_count; i++) {
        print_rule(w, &w->rules[i], &text);
        mr_buf_printf(&text, "%" PRId64 "\n", w->rules[i].open_from_ms);
    }
    enum mr_status status =
        text.failed ? mr_error_set(&error, MR_NO_MEMORY, "out of memory")
                    : mr_datadir_write_sink(w->sinks->options.dir, w->sink->name, mr_buf_bytes(&text), &error);
    mr_buf_finish(&text);
    if (status != MR_OK && !w->said_cursor) {
        char quoted[512];
        mr_report(MR_LEVEL_WARN, "sink_cursor_not_written", "sink=%.*s error=%s", (int)w->sink->name.len,
                  (const char *)w->sink->name.ptr, mr_report_value(error.text, quoted, sizeof quoted));
    }
    w->said_cursor = status != MR_OK;
    w->dirty = status != MR_OK;
}
