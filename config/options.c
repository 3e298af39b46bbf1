/* SPDX-License-Identifier: Apache-2.0 */
#include "config/options.h"

#include "base/check.h"

/* clang-format off */
const struct mr_choice mr_choices_bool[] = {{"true", true}, {"false", false}, {NULL, 0}};
const struct mr_choice mr_choices_sync[] = {{"group", true}, {"off", false}, {NULL, 0}};
const struct mr_choice mr_choices_missing_id[] = {{"reject", true}, {"accept", false}, {NULL, 0}};
const struct mr_choice mr_choices_missing_time[] = {{"arrival", false}, {"reject", true}, {NULL, 0}};
const struct mr_choice mr_choices_time[] = {
    {"rfc3339", MR_CONFIG_RFC3339}, {"s", MR_CONFIG_S},   {"ms", MR_CONFIG_MS},
    {"us", MR_CONFIG_US},           {"ns", MR_CONFIG_NS}, {NULL, 0}};
const struct mr_choice mr_choices_dedup[] = {
    {"exact", MR_CONFIG_EXACT}, {"bloom", MR_CONFIG_BLOOM}, {"redis", MR_CONFIG_REDIS},
    {"observe", MR_CONFIG_OBSERVE}, {"none", MR_CONFIG_NONE}, {NULL, 0}};
const struct mr_choice mr_choices_layout[] = {
    {"bucket", MR_CONFIG_BUCKET}, {"key", MR_CONFIG_KEY}, {NULL, 0}};
const struct mr_choice mr_choices_outage[] = {
    {"reject", MR_CONFIG_OUTAGE_REJECT}, {"hold", MR_CONFIG_OUTAGE_HOLD},
    {"local", MR_CONFIG_OUTAGE_LOCAL}, {NULL, 0}};
const struct mr_choice mr_choices_store[] = {
    {"redis", 0}, {"postgres", MR_CHOICE_LATER}, {"clickhouse", MR_CHOICE_LATER}, {NULL, 0}};
const struct mr_choice mr_choices_sink[] = {
    {"redis", 0}, {"postgres", MR_CHOICE_LATER}, {"clickhouse", MR_CHOICE_LATER},
    {"kafka", MR_CHOICE_LATER}, {"http", MR_CHOICE_LATER}, {NULL, 0}};
const struct mr_choice mr_choices_when_full[] = {
    {"reject", MR_CONFIG_REJECT}, {"evict_oldest", MR_CONFIG_EVICT_OLDEST}, {NULL, 0}};
const struct mr_choice mr_choices_conflicts[] = {{"detect", true}, {"ignore", false}, {NULL, 0}};
const struct mr_choice mr_choices_window[] = {
    {"tumbling", MR_CONFIG_TUMBLING}, {"sliding", MR_CONFIG_SLIDING},
    {"session", MR_CONFIG_SESSION}, {"global", MR_CONFIG_GLOBAL}, {NULL, 0}};
const struct mr_choice mr_choices_panes[] = {
    {"accumulating", MR_CONFIG_ACCUMULATING}, {"discarding", MR_CONFIG_DISCARDING},
    {"accumulating_and_retracting", MR_CONFIG_RETRACTING}, {NULL, 0}};
const struct mr_choice mr_choices_metric[] = {
    {"count", MR_CONFIG_COUNT}, {"sum", MR_CONFIG_SUM}, {"min", MR_CONFIG_MIN},
    {"max", MR_CONFIG_MAX}, {"avg", MR_CONFIG_AVG}, {"variance", MR_CONFIG_VARIANCE},
    {"stddev", MR_CONFIG_STDDEV}, {"first", MR_CONFIG_FIRST}, {"last", MR_CONFIG_LAST},
    {"distinct", MR_CONFIG_DISTINCT}, {"quantiles", MR_CONFIG_QUANTILES}, {"top", MR_CONFIG_TOP},
    {"histogram", MR_CONFIG_HISTOGRAM}, {"collect", MR_CONFIG_COLLECT}, {"ratio", MR_CONFIG_RATIO},
    {NULL, 0}};
const struct mr_choice mr_choices_groups[] = {
    {"other", MR_CONFIG_OTHER}, {"drop", MR_CONFIG_DROP}, {NULL, 0}};
const struct mr_choice mr_choices_right[] = {
    {"ingest", MR_RIGHT_INGEST}, {"query", MR_RIGHT_QUERY}, {"admin", MR_RIGHT_ADMIN}, {NULL, 0}};

#define FIELD(holder, field) (((struct holder *)0)->field)

/* A row whose field is of another type than its kind writes would corrupt the struct in silence. */
#define TYPE_NAME struct mr_bytes
#define TYPE_TEXT struct mr_bytes
#define TYPE_WORD struct mr_bytes
#define TYPE_FIELD struct mr_bytes
#define TYPE_COLUMN struct mr_bytes
#define TYPE_EXPR struct mr_config_expr
#define TYPE_COUNT uint32_t
#define TYPE_COUNT64 uint64_t
#define TYPE_CPUS uint32_t
#define TYPE_BYTES uint64_t
#define TYPE_BYTES_OFF uint64_t
#define TYPE_DURATION int64_t
#define TYPE_DURATION_OFF int64_t
#define TYPE_RATE double
#define V(scope, holder, key, type, field, min, max, default_text, doc)                            \
    static_assert(_Generic(FIELD(holder, field), TYPE_##type: 1, default: 0), key ": wrong type"); \
    static_assert((min) <= (max), key ": bounds");
#define C(scope, holder, key, field, choices, default_text, doc)                                   \
    static_assert(sizeof FIELD(holder, field) == sizeof(bool) ||                                   \
                      sizeof FIELD(holder, field) == sizeof(int), key ": wrong size");
#define F(scope, key, choices, default_text, doc)
#define S(scope, key, inner, default_text, doc)
#define U(scope, key, name, default_text, values, doc)
#define L(scope, key)
MR_OPTIONS_PROCESS(V, C, F, S, U, L)
MR_OPTIONS_CLUSTER(V, C, F, S, U, L)
MR_OPTIONS_STREAM(V, C, F, S, U, L)
MR_OPTIONS_RULE(V, C, F, S, U, L)
#undef V
#undef C
#undef F
#undef S
#undef U
#undef L

#define V(s, holder, k, t, f, low, high, d, text)                                                  \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_##t, .offset = offsetof(struct holder, f), \
     .size = sizeof FIELD(holder, f), .min = low, .max = high, .default_text = d, .doc = text},
#define C(s, holder, k, f, list, d, text)                                                          \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_CHOICE,                                    \
     .offset = offsetof(struct holder, f), .size = sizeof FIELD(holder, f), .choices = list,       \
     .default_text = d, .doc = text},
#define F(s, k, list, d, text)                                                                     \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_CHOICE, .choices = list,                   \
     .default_text = d, .doc = text},
#define S(s, k, in, d, text)                                                                       \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_SCOPE, .inner = MR_SCOPE_##in,             \
     .default_text = d, .doc = text},
#define U(s, k, name, d, v, text)                                                                  \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_CODE, .load = mr_option_load_##name,       \
     .print = mr_option_print_##name, .default_text = d, .values = v, .doc = text},
#define L(s, k)                                                                                    \
    {.scope = MR_SCOPE_##s, .key = k, .type = MR_OPTION_LATER, .default_text = MR_OPTIONAL},

static const struct mr_option options[] = {
    MR_OPTIONS_PROCESS(V, C, F, S, U, L)
    MR_OPTIONS_CLUSTER(V, C, F, S, U, L)
    MR_OPTIONS_STREAM(V, C, F, S, U, L)
    MR_OPTIONS_RULE(V, C, F, S, U, L)
};
#undef V
#undef C
#undef F
#undef S
#undef U
#undef L
/* clang-format on */

enum { OPTION_COUNT = sizeof options / sizeof options[0] };

const struct mr_option *mr_options(size_t *ret_count) {
    *ret_count = OPTION_COUNT;
    return options;
}

const struct mr_option *mr_option_next(enum mr_scope scope, const struct mr_option *after) {
    MR_ASSERT(scope < MR_SCOPE_COUNT);
    const struct mr_option *o = after == NULL ? options : after + 1;
    while (o < options + OPTION_COUNT && o->scope != scope) {
        o++;
    }
    return o == options + OPTION_COUNT ? NULL : o;
}

const struct mr_option *mr_option_find(enum mr_scope scope, struct mr_bytes key) {
    const struct mr_option *o = mr_option_next(scope, NULL);
    while (o != NULL && !mr_bytes_equal(key, mr_bytes_text(o->key))) {
        o = mr_option_next(scope, o);
    }
    return o;
}

const char *mr_scope_where(enum mr_scope scope) {
    static const char *const where[] = {
#define X(name, text) text,
        MR_SCOPES(X)
#undef X
    };
    MR_ASSERT(scope < MR_SCOPE_COUNT);
    return where[scope];
}

static bool dedup_applies(const char *key, const struct mr_config_stream *stream,
                          const char **ret_only) {
    static const struct {
        const char *key;
        enum mr_config_dedup mode;
        const char *only;
    } of_one_mode[] = {
        {"error", MR_CONFIG_BLOOM, "only mode bloom has one"},
        {"store", MR_CONFIG_REDIS, "only mode redis has one"},
        {"layout", MR_CONFIG_REDIS, "only mode redis has one"},
        {"outage", MR_CONFIG_REDIS, "only mode redis has one"},
        {"conflicts", MR_CONFIG_EXACT, "only mode exact finds them"},
    };
    if (strcmp(key, "mode") == 0) {
        return true;
    }
    if (stream->dedup.mode == MR_CONFIG_NONE) {
        *ret_only = "it means nothing with mode none";
        return false;
    }
    for (size_t i = 0; i < sizeof of_one_mode / sizeof of_one_mode[0]; i++) {
        if (strcmp(key, of_one_mode[i].key) == 0 && stream->dedup.mode != of_one_mode[i].mode) {
            *ret_only = of_one_mode[i].only;
            return false;
        }
    }
    bool of_table = strcmp(key, "ids") == 0 || strcmp(key, "when_full") == 0;
    if (of_table && !mr_config_keeps_ids(stream)) {
        *ret_only = "it means nothing with mode redis unless outage is local";
        return false;
    }
    return true;
}

#define BIT(kind) (1u << (kind))

/* Which kinds have the key: a bit for each. */
struct of_kinds {
    const char *key;
    uint32_t kinds;
    const char *only;
};

static bool kind_has(const struct of_kinds *rows, size_t count, const char *key, int kind,
                     const char **ret_only) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].key, key) == 0) {
            *ret_only = rows[i].only;
            return (rows[i].kinds & BIT(kind)) != 0;
        }
    }
    return true;
}

static bool window_applies(const char *key, const struct mr_config_rule *rule,
                           const char **ret_only) {
    static const uint32_t cut = BIT(MR_CONFIG_TUMBLING) | BIT(MR_CONFIG_SLIDING);
    const struct of_kinds rows[] = {
        {"size", cut, NULL},
        {"every", BIT(MR_CONFIG_SLIDING), NULL},
        {"offset", cut, NULL},
        {"time_zone", BIT(MR_CONFIG_TUMBLING), NULL},
        {"gap", BIT(MR_CONFIG_SESSION), NULL},
        {"max", BIT(MR_CONFIG_SESSION), NULL},
    };
    static const char *const only[] = {
        [MR_CONFIG_TUMBLING] = "a tumbling window has none",
        [MR_CONFIG_SLIDING] = "a sliding window has none",
        [MR_CONFIG_SESSION] = "a session window has none",
        [MR_CONFIG_GLOBAL] = "a global window has none",
    };
    bool has =
        kind_has(rows, sizeof rows / sizeof rows[0], key, (int)rule->window.kind, ret_only);
    *ret_only = only[rule->window.kind];
    return has;
}

static bool metric_applies(const char *key, const struct mr_config_metric_def *metric,
                           const char **ret_only) {
    static const struct of_kinds rows[] = {
        {"of", BIT(MR_CONFIG_QUANTILES), "only quantiles has one"},
        {"bounds", BIT(MR_CONFIG_HISTOGRAM), "only histogram has them"},
        {"n", BIT(MR_CONFIG_TOP) | BIT(MR_CONFIG_COLLECT), "only top and collect have one"},
        {"error", BIT(MR_CONFIG_DISTINCT) | BIT(MR_CONFIG_QUANTILES),
         "only distinct and quantiles have one"},
        {"where", ~BIT(MR_CONFIG_RATIO), "a ratio has none; the metrics it is of may"},
        {"from", ~BIT(MR_CONFIG_RATIO), "a ratio has none; the metrics it is of may"},
    };
    const struct mr_choice *function = mr_choice_find(mr_choices_metric, mr_bytes_text(key));
    if (function != NULL) {
        *ret_only = "another function stands here already";
        return function->value == (int)metric->kind;
    }
    return kind_has(rows, sizeof rows / sizeof rows[0], key, (int)metric->kind, ret_only);
}

bool mr_option_applies(const struct mr_option *option, const void *holder, const char **ret_only) {
    switch (option->scope) {
    case MR_SCOPE_DEDUP:
        return dedup_applies(option->key, holder, ret_only);
    case MR_SCOPE_WINDOW:
        return window_applies(option->key, holder, ret_only);
    case MR_SCOPE_METRIC:
        return metric_applies(option->key, holder, ret_only);
    default:
        return true;
    }
}

static void show_bounds(const struct mr_option *o, struct mr_buf *ret) {
    switch (o->type) {
    case MR_OPTION_COUNT:
    case MR_OPTION_COUNT64:
    case MR_OPTION_CPUS:
        mr_buf_printf(ret, "%s%llu to %llu", o->type == MR_OPTION_CPUS ? "auto, or " : "",
                      (unsigned long long)o->min, (unsigned long long)o->max);
        return;
    case MR_OPTION_BYTES:
    case MR_OPTION_BYTES_OFF:
        mr_buf_append_text(ret, o->type == MR_OPTION_BYTES ? "a size, " : "off, or a size, ");
        mr_value_show_bytes(o->min, ret);
        mr_buf_append_text(ret, " to ");
        mr_value_show_bytes(o->max, ret);
        return;
    case MR_OPTION_RATE:
        mr_value_show_rate((double)o->min / 1e9, ret);
        mr_buf_append_text(ret, " to ");
        mr_value_show_rate((double)o->max / 1e9, ret);
        return;
    default:
        MR_ASSERT(o->type == MR_OPTION_DURATION || o->type == MR_OPTION_DURATION_OFF);
        mr_buf_append_text(ret,
                           o->type == MR_OPTION_DURATION ? "a duration, " : "off, or a duration, ");
        mr_value_show_duration((int64_t)o->min, ret);
        mr_buf_append_text(ret, " to ");
        mr_value_show_duration((int64_t)o->max, ret);
        return;
    }
}

void mr_option_show_values(const struct mr_option *option, struct mr_buf *ret) {
    switch (option->type) {
    case MR_OPTION_NAME:
        mr_buf_append_text(ret, "a name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64");
        return;
    case MR_OPTION_TEXT:
        mr_buf_append_text(ret, "a file path");
        return;
    case MR_OPTION_WORD:
        mr_buf_append_text(ret, "a text without spaces");
        return;
    case MR_OPTION_FIELD:
        mr_buf_append_text(ret, "a field such as time or data.order.id");
        return;
    case MR_OPTION_COLUMN:
        mr_buf_append_text(ret, "the name of a column, at most 256 bytes");
        return;
    case MR_OPTION_EXPR:
        mr_buf_append_text(ret, "an expression such as price > 0, at most 4096 bytes");
        return;
    case MR_OPTION_CHOICE:
        mr_choices_show(option->choices, ret);
        return;
    case MR_OPTION_SCOPE:
        mr_buf_append_text(ret, "a mapping");
        return;
    case MR_OPTION_CODE:
        mr_buf_append_text(ret, option->values);
        return;
    case MR_OPTION_LATER:
        mr_buf_append_text(ret, mr_status_text(MR_UNSUPPORTED));
        return;
    default:
        show_bounds(option, ret);
        return;
    }
}

const char *mr_option_suggest(enum mr_scope scope, struct mr_bytes typed) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL;
         o = mr_option_next(scope, o)) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(o->key));
        if (o->type != MR_OPTION_LATER && distance < best_distance) {
            best = o->key;
            best_distance = distance;
        }
    }
    return mr_value_near(best_distance, typed) ? best : NULL;
}

const struct mr_choice *mr_choice_find(const struct mr_choice *choices, struct mr_bytes text) {
    for (const struct mr_choice *c = choices; c->text != NULL; c++) {
        if (mr_bytes_equal(text, mr_bytes_text(c->text))) {
            return c;
        }
    }
    return NULL;
}

const char *mr_choice_text(const struct mr_choice *choices, int value) {
    MR_ASSERT(value != MR_CHOICE_LATER);
    for (const struct mr_choice *c = choices; c->text != NULL; c++) {
        if (c->value == value) {
            return c->text;
        }
    }
    MR_UNREACHABLE();
}

const char *mr_choice_suggest(const struct mr_choice *choices, struct mr_bytes typed) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (const struct mr_choice *c = choices; c->text != NULL; c++) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(c->text));
        if (c->value != MR_CHOICE_LATER && distance < best_distance) {
            best = c->text;
            best_distance = distance;
        }
    }
    return mr_value_near(best_distance, typed) ? best : NULL;
}

void mr_choices_show(const struct mr_choice *choices, struct mr_buf *ret) {
    size_t left = 0;
    for (const struct mr_choice *c = choices; c->text != NULL; c++) {
        left += c->value != MR_CHOICE_LATER;
    }
    MR_ASSERT(left > 0);
    for (const struct mr_choice *c = choices; c->text != NULL; c++) {
        if (c->value == MR_CHOICE_LATER) {
            continue;
        }
        left--;
        mr_buf_append_text(ret, c->text);
        mr_buf_append_text(ret, left == 0 ? "" : left == 1 ? " or " : ", ");
    }
}
