/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State text: what shapes state, written by hand and not from the table: a new option must not make
 * old data directories look changed. Texts are quoted, so that no name can look like a line of its
 * own.
 *
 * Left out because they may change freely: dedup.ids (the table grows), settings that mean nothing
 * with the mode, everything outside of streams and rules.
 */
#include "base/check.h"
#include "config/options.h"

static void quote(struct mr_buf *out, struct mr_bytes text) {
    mr_buf_append_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == '\\') {
            mr_buf_append_char(out, '\\');
        }
        mr_buf_append_char(out, (char)c);
    }
    mr_buf_append_char(out, '"');
}

static void field(struct mr_buf *out, const char *key, struct mr_bytes text) {
    mr_buf_append_text(out, key);
    quote(out, text);
    mr_buf_append_char(out, '\n');
}

static void number(struct mr_buf *out, const char *key, int64_t value) {
    mr_buf_printf(out, "%s%lld\n", key, (long long)value);
}

static void choice(struct mr_buf *out, const char *key, const struct mr_choice *choices,
                   int value) {
    mr_buf_printf(out, "%s%s\n", key, mr_choice_text(choices, value));
}

static void dedup_text(struct mr_buf *out, const struct mr_config_stream *s) {
    choice(out, " dedup.mode ", mr_choices_dedup, (int)s->dedup.mode);
    if (s->dedup.mode == MR_CONFIG_NONE) {
        return;
    }
    number(out, " dedup.horizon_ms ", s->dedup.horizon_ms);
    choice(out, " dedup.when_full ", mr_choices_when_full, (int)s->dedup.when_full);
    if (s->dedup.mode == MR_CONFIG_BLOOM) {
        mr_buf_append_text(out, " dedup.error ");
        mr_value_show_rate(s->dedup.error, out);
        mr_buf_append_char(out, '\n');
    }
}

static void stream_text(struct mr_buf *out, const struct mr_config_stream *s) {
    field(out, "stream ", s->name);
    for (uint32_t i = 0; i < s->id_parts; i++) {
        field(out, " id ", s->id[i]);
    }
    field(out, " time ", s->time_field);
    choice(out, " time.format ", mr_choices_time, (int)s->time_format);
    choice(out, " missing_id ", mr_choices_missing_id, s->reject_missing_id);
    choice(out, " missing_time ", mr_choices_missing_time, s->reject_missing_time);
    dedup_text(out, s);
    number(out, " watermark.out_of_orderness_ms ", s->watermark.out_of_orderness_ms);
    if (s->watermark.idle_timeout_ms == INT64_MAX) {
        mr_buf_append_text(out, " watermark.idle_timeout_ms off\n");
    } else {
        number(out, " watermark.idle_timeout_ms ", s->watermark.idle_timeout_ms);
    }
    number(out, " watermark.max_future_ms ", s->watermark.max_future_ms);
}

static void rule_text(struct mr_buf *out, const struct mr_config *c,
                      const struct mr_config_rule *r) {
    field(out, "rule ", r->name);
    field(out, " from ", c->streams[r->stream].name);
    for (uint32_t i = 0; i < r->group_by_count; i++) {
        field(out, " group_by ", r->group_by[i]);
    }
    number(out, " window.tumbling_ms ", r->window_size_ms);
    number(out, " allowed_lateness_ms ", r->allowed_lateness_ms);
    mr_buf_append_text(out, " trigger late accumulating\n");
    for (uint32_t i = 0; i < r->metric_count; i++) {
        const struct mr_config_metric_def *m = &r->metrics[i];
        mr_buf_append_text(out, " metric ");
        quote(out, m->name);
        mr_buf_printf(out, " %s", mr_choice_text(mr_choices_metric, (int)m->kind));
        if (m->kind != MR_CONFIG_COUNT) {
            mr_buf_append_char(out, ' ');
            quote(out, m->field);
        }
        mr_buf_append_char(out, '\n');
    }
    mr_buf_printf(out, " groups.max %llu\n groups.bytes %llu\n", (unsigned long long)r->groups.max,
                  (unsigned long long)r->groups.bytes);
    choice(out, " groups.when_full ", mr_choices_groups, (int)r->groups.when_full);
}

void mr_config_state_text(const struct mr_config *config, struct mr_buf *ret) {
    MR_ASSERT(config->stream_count > 0);
    mr_buf_append_text(ret, "millrace state 1\n");
    for (uint32_t i = 0; i < config->stream_count; i++) {
        stream_text(ret, &config->streams[i]);
    }
    for (uint32_t i = 0; i < config->rule_count; i++) {
        MR_ASSERT(config->rules[i].stream < config->stream_count);
        rule_text(ret, config, &config->rules[i]);
    }
}
