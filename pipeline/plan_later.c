/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plan later: what a configuration can say and the stations cannot do. One clause each: whoever teaches the stations
 * deletes it, and the file with the last one.
 */
#include "pipeline/plan_later.h"

#include "config/options.h"

static enum mr_status later(struct mr_error *error, const char *where, struct mr_bytes name,
                            const char *option) {
    return mr_error_set(error, MR_UNSUPPORTED, "`%s.%.*s.%s`: %s", where, (int)name.len,
                        (const char *)name.ptr, option, mr_status_text(MR_UNSUPPORTED));
}

static enum mr_status stream_later(const struct mr_config_stream *s, struct mr_error *error) {
    if (s->derived_count > 0) {
        return later(error, "streams", s->name, "derive");
    }
    if (s->watermark.source.len > 0) {
        return later(error, "streams", s->name, "watermark.source");
    }
    if (s->dedup.conflicts) {
        return later(error, "streams", s->name, "dedup.conflicts: detect");
    }
    return MR_OK;
}

static enum mr_status window_later(const struct mr_config_rule *r, struct mr_error *error) {
    if (r->window.kind != MR_CONFIG_TUMBLING) {
        return later(error, "rules", r->name, "window.type");
    }
    if (r->window.offset_ms != 0) {
        return later(error, "rules", r->name, "window.offset");
    }
    if (r->window.time_zone.len > 0) {
        return later(error, "rules", r->name, "window.time_zone");
    }
    return MR_OK;
}

static enum mr_status trigger_later(const struct mr_config_rule *r, struct mr_error *error) {
    if (r->trigger.early_ms != 0) {
        return later(error, "rules", r->name, "trigger.early");
    }
    if (r->trigger.early_count != 0) {
        return later(error, "rules", r->name, "trigger.early_count");
    }
    if (!r->trigger.late) {
        return later(error, "rules", r->name, "trigger.late: false");
    }
    if (r->trigger.panes != MR_CONFIG_ACCUMULATING) {
        return later(error, "rules", r->name, "trigger.panes");
    }
    return MR_OK;
}

static enum mr_status metric_later(const struct mr_config_rule *r,
                                   const struct mr_config_metric_def *m, struct mr_error *error) {
    const char *what = m->where.text.len > 0        ? "where"
                       : m->from != UINT32_MAX      ? "from"
                       : m->kind > MR_CONFIG_AVG    ? mr_choice_text(mr_choices_metric, (int)m->kind)
                                                    : NULL;
    if (what == NULL) {
        return MR_OK;
    }
    return mr_error_set(error, MR_UNSUPPORTED, "`rules.%.*s.metrics.%.*s: %s`: %s",
                        (int)r->name.len, (const char *)r->name.ptr, (int)m->name.len,
                        (const char *)m->name.ptr, what, mr_status_text(MR_UNSUPPORTED));
}

static enum mr_status rule_later(const struct mr_config_rule *r, struct mr_error *error) {
    if (r->stream_count > 1) { /* server/ looks at streams[0] alone, also for the right to see the rule */
        return later(error, "rules", r->name, "from: several streams");
    }
    if (r->where.text.len > 0) {
        return later(error, "rules", r->name, "where");
    }
    enum mr_status status = window_later(r, error);
    if (status == MR_OK) {
        status = trigger_later(r, error);
    }
    for (uint32_t i = 0; status == MR_OK && i < r->metric_count; i++) {
        status = metric_later(r, &r->metrics[i], error);
    }
    return status;
}

enum mr_status mr_plan_later(const struct mr_config *config, struct mr_error *error) {
    enum mr_status status = MR_OK;
    if (config->lookup_count > 0) {
        return mr_error_set(error, MR_UNSUPPORTED, "`lookups`: %s", mr_status_text(MR_UNSUPPORTED));
    }
    for (uint32_t i = 0; status == MR_OK && i < config->stream_count; i++) {
        status = stream_later(&config->streams[i], error);
    }
    for (uint32_t i = 0; status == MR_OK && i < config->rule_count; i++) {
        status = rule_later(&config->rules[i], error);
    }
    return status;
}
