/* SPDX-License-Identifier: Apache-2.0 */
#include "config/use.h"

#include "base/check.h"

static bool of_word(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* "day" in "lower(day)", not in "today" and "data.day". */
static bool has_word(struct mr_bytes text, struct mr_bytes word) {
    MR_ASSERT(word.len > 0);
    for (size_t i = 0; i + word.len <= text.len; i++) {
        size_t end = i + word.len;
        bool begins = i == 0 || (!of_word(text.ptr[i - 1]) && text.ptr[i - 1] != '.');
        bool ends = end == text.len || !of_word(text.ptr[end]);
        if (begins && ends && memcmp(text.ptr + i, word.ptr, word.len) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the rule's own settings name it. */
static bool names(const struct mr_config_rule *rule, struct mr_bytes name) {
    for (uint32_t i = 0; i < rule->group_by_count; i++) {
        if (mr_bytes_equal(rule->group_by[i], name)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < rule->metric_count; i++) {
        const struct mr_config_metric_def *metric = &rule->metrics[i];
        if (mr_bytes_equal(metric->field, name) || has_word(metric->where.text, name)) {
            return true;
        }
    }
    return has_word(rule->where.text, name);
}

static_assert(MR_DERIVED_MAX <= 32, "a bit for each");

/* The derived fields of the stream that the rule uses, also by way of others: a bit for each. */
static uint32_t derived_used(const struct mr_config_stream *stream,
                             const struct mr_config_rule *rule) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < stream->derived_count; i++) {
        used |= (uint32_t)names(rule, stream->derived[i].name) << i;
    }
    for (bool more = true; more;) {
        uint32_t before = used;
        for (uint32_t i = 0; i < stream->derived_count; i++) {
            for (uint32_t k = 0; k < stream->derived_count; k++) {
                bool by = (used >> k & 1u) != 0 &&
                          has_word(stream->derived[k].expr.text, stream->derived[i].name);
                used |= (uint32_t)by << i;
            }
        }
        more = used != before;
    }
    return used;
}

/* Whether the rule's values from that stream depend on something of that name. */
static bool uses(const struct mr_config_stream *stream, const struct mr_config_rule *rule,
                 struct mr_bytes name) {
    uint32_t used = derived_used(stream, rule);
    for (uint32_t i = 0; i < stream->derived_count; i++) {
        if ((used >> i & 1u) != 0 && has_word(stream->derived[i].expr.text, name)) {
            return true;
        }
    }
    return names(rule, name);
}

/* A derived field that the rule uses in a, and that b has not, or has another. */
static bool derived_differs(const struct mr_config_stream *a, const struct mr_config_rule *rule,
                            const struct mr_config_stream *b) {
    for (uint32_t i = 0; i < a->derived_count; i++) {
        const struct mr_config_derived *derived = &a->derived[i];
        uint32_t other = mr_config_derived_index(b, derived->name);
        bool same = other != UINT32_MAX &&
                    mr_bytes_equal(b->derived[other].expr.text, derived->expr.text);
        if (!same && uses(a, rule, derived->name)) {
            return true;
        }
    }
    return false;
}

static const struct mr_config_lookup *find_lookup(const struct mr_config *config,
                                                  struct mr_bytes name) {
    for (uint32_t i = 0; i < config->lookup_count; i++) {
        if (mr_bytes_equal(config->lookups[i].name, name)) {
            return &config->lookups[i];
        }
    }
    return NULL;
}

/* The same for the lookups of a. */
static bool lookup_differs(const struct mr_config *a, const struct mr_config_stream *stream,
                           const struct mr_config_rule *rule, const struct mr_config *b) {
    for (uint32_t i = 0; i < a->lookup_count; i++) {
        const struct mr_config_lookup *lookup = &a->lookups[i];
        const struct mr_config_lookup *other = find_lookup(b, lookup->name);
        bool same = other != NULL && other->data_hash == lookup->data_hash &&
                    other->data_len == lookup->data_len &&
                    mr_bytes_equal(other->key_column, lookup->key_column) &&
                    mr_bytes_equal(other->value_column, lookup->value_column);
        if (!same && uses(stream, rule, lookup->name)) {
            return true;
        }
    }
    return false;
}

bool mr_config_use_differs(const struct mr_config_use *before, const struct mr_config_use *now) {
    MR_ASSERT(before->rule->stream_count == now->rule->stream_count);
    for (uint32_t i = 0; i < now->rule->stream_count; i++) {
        const struct mr_config_stream *old = &before->config->streams[before->rule->streams[i]];
        const struct mr_config_stream *new = &now->config->streams[now->rule->streams[i]];
        MR_ASSERT(mr_bytes_equal(old->name, new->name));
        if (derived_differs(old, before->rule, new) || derived_differs(new, now->rule, old) ||
            lookup_differs(before->config, old, before->rule, now->config) ||
            lookup_differs(now->config, new, now->rule, before->config)) {
            return true;
        }
    }
    return false;
}
