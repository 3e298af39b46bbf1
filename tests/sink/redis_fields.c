/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/redis_fields.h"

#include "base/json.h"
#include "base/key.h"
#include "base/time_text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static void add_field(struct redis_fields *f, struct mr_bytes name, const void *value, size_t len) {
    assert_true(f->count < 32);
    (void)snprintf(f->names[f->count], sizeof f->names[0], "%.*s", (int)name.len, (const char *)name.ptr);
    mr_buf_init(&f->values[f->count], 1 << 16);
    mr_buf_append(&f->values[f->count++], value, len);
}

static void add_text(struct redis_fields *f, const char *name, const char *format, uint64_t value) {
    char text[64];
    int len = snprintf(text, sizeof text, format, value);
    add_field(f, mr_bytes_text(name), text, (size_t)len);
}

static void add_group(struct redis_fields *f, const struct mr_results_rule *rule, struct mr_bytes key) {
    bool other = mr_key_is_other(key);
    for (uint32_t i = 0; i < rule->key_count; i++) {
        struct mr_key_value value;
        if (other) {
            add_field(f, rule->key_names[i], "(other)", 7);
            continue;
        }
        assert_true(mr_key_next(&key, &value));
        if (value.tag == MR_KEY_TRUE || value.tag == MR_KEY_FALSE) {
            const char *text = value.tag == MR_KEY_TRUE ? "true" : "false";
            add_field(f, rule->key_names[i], text, strlen(text));
        } else if (value.tag != MR_KEY_NULL) {
            add_field(f, rule->key_names[i], value.text.ptr, value.text.len);
        }
    }
}

void redis_fields_expect(struct redis_fields *f, const struct mr_results_rule *rule, const struct mr_pane *pane,
                         uint64_t epoch) {
    char text[64];
    char overflow[256] = "";
    static const char *const timings[] = {"EARLY", "ON_TIME", "LATE"};
    f->count = 0;
    add_text(f, "_epoch", "%" PRIu64, epoch);
    add_text(f, "revision", "%" PRIu64, pane->revision);
    if (pane->retraction) {
        add_text(f, "retracted", "%" PRIu64, 1);
        return;
    }
    add_text(f, "timing", timings[pane->timing], 0);
    add_text(f, "pane", "%" PRIu64, pane->index);
    add_text(f, "final", "%" PRIu64, pane->final);
    add_text(f, "events", "%" PRIu64, pane->events);
    mr_time_format(pane->window_start_ms, text);
    add_field(f, MR_BYTES("window_start"), text, MR_TIME_TEXT_LEN);
    mr_time_format(pane->window_end_ms, text);
    add_field(f, MR_BYTES("window_end"), text, MR_TIME_TEXT_LEN);
    add_group(f, rule, pane->key);
    for (uint32_t i = 0; i < rule->metric_count; i++) {
        const struct mr_number *n = &pane->numbers[i];
        if (n->kind == MR_NUMBER_INT) {
            int len = snprintf(text, sizeof text, "%" PRId64, n->i);
            add_field(f, rule->metric_names[i], text, (size_t)len);
        } else if (n->kind == MR_NUMBER_BOOL) {
            add_field(f, rule->metric_names[i], n->i == 1 ? "true" : "false", n->i == 1 ? 4 : 5);
        } else if (n->kind == MR_NUMBER_TEXT || n->kind == MR_NUMBER_JSON) {
            add_field(f, rule->metric_names[i], n->text, n->len);
        } else if (n->kind != MR_NUMBER_NULL && isfinite(n->d)) {
            add_field(f, rule->metric_names[i], text, mr_double_text(n->d, text));
        }
        if (n->kind == MR_NUMBER_OVERFLOW) {
            size_t len = strlen(overflow);
            (void)snprintf(overflow + len, sizeof overflow - len, "%s%.*s", len > 0 ? "," : "",
                           (int)rule->metric_names[i].len, (const char *)rule->metric_names[i].ptr);
        }
    }
    if (overflow[0] != 0) {
        add_field(f, MR_BYTES("_overflow"), overflow, strlen(overflow));
    }
}
