/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check rule: whether the settings of a rule's window, trigger and metrics go together.
 */
#include "config/load.h"

#include "base/check.h"
#include "base/zone.h"

struct rule_at {
    const struct mr_load *load;
    const struct mr_config_rule *rule;
    const struct mr_node *key;    /* of the rule */
    const struct mr_node *window; /* its key */
};

/* The value of window's key, which was written. */
static const struct mr_node *in_window(const struct rule_at *at, const char *key) {
    return mr_node_get(at->window->value, key)->value;
}

struct duration_text {
    char text[32];
};

static struct duration_text show_duration(int64_t ms) {
    struct duration_text shown = {""};
    struct mr_buf buf;
    mr_buf_init(&buf, sizeof shown.text - 1);
    mr_value_show_duration(ms, &buf);
    memcpy(shown.text, buf.ptr == NULL ? (const void *)"" : buf.ptr, buf.len);
    mr_buf_finish(&buf);
    return shown;
}

/* Only what its type has, and all that it needs. */
static enum mr_status check_window_keys(const struct rule_at *at) {
    const struct mr_node *n = mr_node_empty(at->window->value) ? NULL : at->window->value->first;
    for (; n != NULL; n = n->next) {
        const struct mr_option *option = mr_option_find(MR_SCOPE_WINDOW, n->text);
        const char *only;
        MR_ASSERT(option != NULL);
        if (!mr_option_applies(option, at->rule, &only)) {
            return mr_node_error(at->load->error, n, MR_INVALID, "`%s`: %s", option->key, only);
        }
    }
    static const char *const needed[] = {"size", "every", "gap"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const struct mr_option *option =
            mr_option_find(MR_SCOPE_WINDOW, mr_bytes_text(needed[i]));
        const char *only;
        if (mr_option_applies(option, at->rule, &only) &&
            mr_node_get(at->window->value, needed[i]) == NULL) {
            return mr_load_missing(at->load, option, at->window);
        }
    }
    return MR_OK;
}

static enum mr_status check_offset(const struct rule_at *at, const char *step, int64_t step_ms) {
    int64_t offset_ms = at->rule->window.offset_ms;
    if (offset_ms < step_ms) { /* so is one that was not written */
        return MR_OK;
    }
    return mr_node_error(at->load->error, in_window(at, "offset"), MR_INVALID,
                         "`offset: %s`; expected less than `%s`, %s",
                         show_duration(offset_ms).text, step, show_duration(step_ms).text);
}

static enum mr_status check_tumbling(const struct rule_at *at) {
    int64_t size_ms = at->rule->window.size_ms;
    if (at->rule->window.time_zone.len > 0 && size_ms % MR_MS_1D != 0) {
        return mr_node_error(at->load->error, in_window(at, "size"), MR_INVALID,
                             "`size: %s`; with `time_zone` expected whole days, such as 1d: the "
                             "days of a calendar",
                             show_duration(size_ms).text);
    }
    struct mr_bytes zone = at->rule->window.time_zone;
    if (zone.len > 0 && !mr_zone_is_known(zone)) {
        return mr_node_error(at->load->error, in_window(at, "time_zone"), MR_INVALID,
                             "`time_zone: %.*s`: this machine has no such time zone; expected a name such as "
                             "Europe/Berlin (package tzdata)",
                             (int)zone.len, (const char *)zone.ptr);
    }
    return check_offset(at, "size", size_ms);
}

/* The value of a key of the rule, or of its trigger; NULL: it was not written. */
static const struct mr_node *in_rule(const struct rule_at *at, const char *key, const char *of) {
    const struct mr_node *n = mr_node_get(at->key->value, key);
    n = n == NULL || of == NULL ? n : mr_node_get(n->value, of);
    return n == NULL ? NULL : n->value;
}

/* Open windows that are kept as slices: what would cost too much for each of them. */
static enum mr_status check_sliced(const struct rule_at *at, const struct mr_node *every) {
    const struct mr_config_rule *rule = at->rule;
    struct mr_error *error = at->load->error;
    int64_t slice_ms = mr_config_rule_slice_ms(rule);
    int64_t slices = rule->window.size_ms / slice_ms;
    if (slices > MR_EVENT_WINDOWS_MAX) {
        return mr_node_error(error, every, MR_INVALID,
                             "`every: %s`: windows of `size`, %s, would be made of %lld slices of %s; expected at most "
                             "%d, as when `size` is a multiple of `every`",
                             show_duration(rule->window.every_ms).text, show_duration(rule->window.size_ms).text,
                             (long long)slices, show_duration(slice_ms).text, MR_EVENT_WINDOWS_MAX);
    }
    bool by_count = rule->trigger.early_ms == 0;
    if (!by_count || rule->trigger.early_count > 0) {
        return mr_node_error(error, in_rule(at, "trigger", by_count ? "early_count" : "early"), MR_INVALID,
                             "`%s`: each event is in more than %d windows, which then have no early panes; expected it "
                             "left out: queries show open windows",
                             by_count ? "early_count" : "early", MR_EVENT_WINDOWS_WHOLE);
    }
    int64_t windows = rule->allowed_lateness_ms / rule->window.every_ms;
    if (windows > MR_EVENT_WINDOWS_WHOLE) {
        const struct mr_node *lateness = in_rule(at, "allowed_lateness", NULL);
        return mr_node_error(error, lateness == NULL ? every : lateness, MR_INVALID,
                             "`allowed_lateness: %s`: a late event would change %lld windows, one each `every`, %s; "
                             "expected at most %d, so at most %s",
                             show_duration(rule->allowed_lateness_ms).text, (long long)windows,
                             show_duration(rule->window.every_ms).text, MR_EVENT_WINDOWS_WHOLE,
                             show_duration(rule->window.every_ms * MR_EVENT_WINDOWS_WHOLE).text);
    }
    return MR_OK;
}

/* So that one key has room, on the one shard it is on. */
static enum mr_status check_sliced_groups(const struct rule_at *at, const struct mr_node *every, int64_t windows) {
    uint64_t least = (uint64_t)windows * at->load->config->node.shards;
    if (at->rule->groups.max >= least) {
        return MR_OK;
    }
    const struct mr_node *max = in_rule(at, "groups", "max");
    return mr_node_error(at->load->error, max == NULL ? every : max, MR_INVALID,
                         "`groups.max: %llu`: each event is in %lld windows, and of each that is a group; expected at "
                         "least %llu, with `node.shards` %u",
                         (unsigned long long)at->rule->groups.max, (long long)windows, (unsigned long long)least,
                         at->load->config->node.shards);
}

static enum mr_status check_sliding(const struct rule_at *at) {
    int64_t size_ms = at->rule->window.size_ms;
    int64_t every_ms = at->rule->window.every_ms;
    const struct mr_node *every = in_window(at, "every");
    if (every_ms > size_ms) {
        return mr_node_error(at->load->error, every, MR_INVALID,
                             "`every: %s`; expected at most `size`, %s: events between two windows "
                             "would be in none",
                             show_duration(every_ms).text, show_duration(size_ms).text);
    }
    int64_t windows = (size_ms + every_ms - 1) / every_ms;
    if (windows > MR_EVENT_WINDOWS_MAX) {
        int64_t least_ms = (size_ms + MR_EVENT_WINDOWS_MAX - 1) / MR_EVENT_WINDOWS_MAX;
        return mr_node_error(at->load->error, every, MR_INVALID,
                             "`every: %s`: each event would be in %lld windows; expected at most %d, "
                             "so at least %s",
                             show_duration(every_ms).text, (long long)windows, MR_EVENT_WINDOWS_MAX,
                             show_duration(least_ms).text);
    }
    enum mr_status status = MR_OK;
    if (mr_config_rule_sliced(at->rule)) {
        status = check_sliced(at, every);
        status = status == MR_OK ? check_sliced_groups(at, every, windows) : status;
    }
    return status == MR_OK ? check_offset(at, "every", every_ms) : status;
}

static enum mr_status check_session(const struct rule_at *at) {
    int64_t gap_ms = at->rule->window.gap_ms;
    if (at->rule->window.max_ms / 2 >= gap_ms) { /* what one bundle has of a session may be nearly that long */
        return MR_OK;
    }
    return mr_node_error(at->load->error, in_window(at, "max"), MR_INVALID,
                         "`max: %s`; expected off, or at least twice `gap`, %s",
                         show_duration(at->rule->window.max_ms).text, show_duration(2 * gap_ms).text);
}

static enum mr_status check_global(const struct rule_at *at) {
    if (at->rule->trigger.early_ms > 0 || at->rule->trigger.early_count > 0) {
        return MR_OK;
    }
    return mr_node_error(at->load->error, in_window(at, "type"), MR_INVALID,
                         "`type: global`: the window ends when the input does, and nothing comes "
                         "out before; expected `trigger` with `early` or `early_count`");
}

static enum mr_status check_window(const struct rule_at *at) {
    enum mr_status status = check_window_keys(at);
    if (status != MR_OK) {
        return status;
    }
    switch (at->rule->window.kind) {
    case MR_CONFIG_TUMBLING:
        return check_tumbling(at);
    case MR_CONFIG_SLIDING:
        return check_sliding(at);
    case MR_CONFIG_SESSION:
        return check_session(at);
    case MR_CONFIG_GLOBAL:
        return check_global(at);
    }
    MR_UNREACHABLE();
}

static enum mr_status check_trigger(const struct rule_at *at) {
    int64_t early_ms = at->rule->trigger.early_ms;
    if (early_ms == 0 || early_ms >= MR_MS_100MS) {
        return MR_OK;
    }
    const struct mr_node *trigger = mr_node_get(at->key->value, "trigger")->value;
    return mr_node_error(at->load->error, mr_node_get(trigger, "early")->value, MR_INVALID,
                         "`early: %s`; expected 0s (off), or at least 100ms",
                         show_duration(early_ms).text);
}

static enum mr_status check_metrics(const struct rule_at *at) {
    const struct mr_node *n = mr_node_get(at->key->value, "metrics")->value->first;
    for (uint32_t i = 0; i < at->rule->metric_count; i++, n = n->next) {
        uint32_t from = at->rule->metrics[i].from;
        if (from != UINT32_MAX && !mr_config_rule_has_stream(at->rule, from)) {
            const struct mr_node *value = mr_node_get(n->value, "from")->value;
            return mr_node_error(at->load->error, value, MR_INVALID,
                                 "`from: %s`: rule `%s` takes no events of it; expected one of its "
                                 "`from`",
                                 mr_show(value->text).text, mr_show(at->rule->name).text);
        }
    }
    return MR_OK;
}

enum mr_status mr_config_check_rules(const struct mr_load *load) {
    enum mr_status status = MR_OK;
    const struct mr_node *key = load->rules == NULL ? NULL : load->rules->first;
    for (uint32_t i = 0; key != NULL && status == MR_OK; i++, key = key->next) {
        struct rule_at at = {.load = load,
                             .rule = &load->config->rules[i],
                             .key = key,
                             .window = mr_node_get(key->value, "window")};
        status = check_window(&at);
        if (status == MR_OK) {
            status = check_trigger(&at);
        }
        if (status == MR_OK) {
            status = check_metrics(&at);
        }
    }
    return status;
}
