/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Change: two settings are equal when they print the same, so the option table says what is compared, and a table
 * beside it what a difference does.
 */
#include "config/change.h"

#include "base/check.h"
#include "config/node.h"
#include "config/print.h"
#include "config/use.h"

enum { LINES_MAX = 1 << 20 }; /* of one option: a part of a state text */

enum effect {
    LIVE,
    ANEW,
    REFUSED,
    IDS,  /* refused where ids are remembered before and after */
    MODE, /* by the two modes */
    TABLE, /* anew where ids are remembered here before or after, and not both */
    APART, /* not compared: it is no part of the state text */
};

struct row {
    enum mr_scope scope;
    const char *key;
    enum effect effect;
    const char *why; /* it is refused */
};

/* Each option of streams and rules, and the names that claims are made under: an option without a row fails the first
 * comparison. Of a mapping, its options have the rows. */
static const struct row rows[] = {
    {MR_SCOPE_NODE, "id", REFUSED, "claims made by the one are not known as the other's own"},
    {MR_SCOPE_CLUSTER, "name", REFUSED, "claims made under the one are not found under the other"},
    {MR_SCOPE_STREAM, "id", IDS, "ids remembered by the one are not found by the other"},
    {MR_SCOPE_STREAM, "time", LIVE, NULL}, /* its options, too: they print in it */
    {MR_SCOPE_STREAM, "missing_id", LIVE, NULL},
    {MR_SCOPE_STREAM, "missing_time", LIVE, NULL},
    {MR_SCOPE_STREAM, "derive", LIVE, NULL}, /* what it does to rules: config/use.h */
    {MR_SCOPE_DEDUP, "mode", MODE, "what the one remembers cannot be moved to the other"},
    {MR_SCOPE_DEDUP, "horizon", LIVE, NULL},
    {MR_SCOPE_DEDUP, "ids", LIVE, NULL},
    {MR_SCOPE_DEDUP, "when_full", LIVE, NULL},
    {MR_SCOPE_DEDUP, "error", REFUSED, "filters that are filled cannot be made anew"},
    {MR_SCOPE_DEDUP, "store", ANEW, NULL},
    {MR_SCOPE_DEDUP, "layout", ANEW, NULL},
    {MR_SCOPE_DEDUP, "outage", TABLE, NULL},
    {MR_SCOPE_DEDUP, "conflicts", LIVE, NULL},
    {MR_SCOPE_WATERMARK, "out_of_orderness", LIVE, NULL},
    {MR_SCOPE_WATERMARK, "idle_timeout", LIVE, NULL},
    {MR_SCOPE_WATERMARK, "max_future", LIVE, NULL},
    {MR_SCOPE_WATERMARK, "source", LIVE, NULL},
    {MR_SCOPE_RULE, "from", ANEW, NULL},
    {MR_SCOPE_RULE, "where", ANEW, NULL},
    {MR_SCOPE_RULE, "group_by", ANEW, NULL},
    {MR_SCOPE_RULE, "allowed_lateness", LIVE, NULL},
    {MR_SCOPE_RULE, "metrics", ANEW, NULL},
    {MR_SCOPE_RULE, "sinks", APART, NULL},
    {MR_SCOPE_WINDOW, "type", ANEW, NULL},
    {MR_SCOPE_WINDOW, "size", ANEW, NULL},
    {MR_SCOPE_WINDOW, "every", ANEW, NULL},
    {MR_SCOPE_WINDOW, "offset", ANEW, NULL},
    {MR_SCOPE_WINDOW, "time_zone", ANEW, NULL},
    {MR_SCOPE_WINDOW, "gap", ANEW, NULL},
    {MR_SCOPE_WINDOW, "max", ANEW, NULL},
    {MR_SCOPE_TRIGGER, "early", LIVE, NULL},
    {MR_SCOPE_TRIGGER, "early_count", LIVE, NULL},
    {MR_SCOPE_TRIGGER, "late", LIVE, NULL},
    {MR_SCOPE_TRIGGER, "panes", ANEW, NULL},
    {MR_SCOPE_GROUPS, "max", LIVE, NULL},
    {MR_SCOPE_GROUPS, "bytes", LIVE, NULL},
    {MR_SCOPE_GROUPS, "when_full", LIVE, NULL},
};

struct compare {
    struct mr_print before; /* each prints into a buffer of its own */
    struct mr_print now;
    struct mr_error *error;
};

/* The two holders of one name, and what is known of their difference. */
struct pair {
    struct mr_bytes name;
    const void *before;
    const void *now;
    enum mr_change change;
};

static const struct row *find_row(const struct mr_option *option) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].scope == option->scope && strcmp(rows[i].key, option->key) == 0) {
            return &rows[i];
        }
    }
    MR_UNREACHABLE();
}

/* Modes that remember in the same form are one. */
static enum mr_config_dedup form_of(enum mr_config_dedup mode) {
    return mode == MR_CONFIG_OBSERVE ? MR_CONFIG_EXACT : mode;
}

static enum effect effect_of(const struct row *row, const struct pair *pair) {
    if (row->effect == TABLE) {
        return mr_config_keeps_ids(pair->before) == mr_config_keeps_ids(pair->now) ? LIVE : ANEW;
    }
    if (row->effect != IDS && row->effect != MODE) {
        return row->effect;
    }
    enum mr_config_dedup before = ((const struct mr_config_stream *)pair->before)->dedup.mode;
    enum mr_config_dedup now = ((const struct mr_config_stream *)pair->now)->dedup.mode;
    bool none = before == MR_CONFIG_NONE || now == MR_CONFIG_NONE;
    if (row->effect == IDS) {
        return none ? LIVE : REFUSED;
    }
    if (none) {
        return ANEW;
    }
    return form_of(before) == form_of(now) ? LIVE : REFUSED;
}

/* "1d" of "horizon: 1d\n". */
static struct mr_shown show_value(const struct mr_buf *line, const char *key) {
    size_t skip = strlen(key) + 2;
    if (line->len == 0) {
        return mr_show(MR_BYTES("left out"));
    }
    MR_ASSERT(line->len > skip && line->ptr[line->len - 1] == '\n');
    return mr_show(mr_bytes_of(line->ptr + skip, line->len - skip - 1));
}

static enum mr_status refuse(struct compare *c, const struct pair *pair, const struct mr_option *option,
                             const char *why, const char *otherwise) {
    static const char stream[] = "streams.NAME";
    const char *where = mr_scope_where(option->scope);
    bool of_stream = strncmp(where, stream, sizeof stream - 1) == 0;
    MR_ASSERT(of_stream == (pair->name.len > 0));
    struct mr_shown before = show_value(c->before.out, option->key);
    return mr_error_set(c->error, MR_MISMATCH, "%s: `%s%s%s.%s: %s`: so far it was %s, and %s; go back to %s, %s",
                        mr_show(c->now.config->source).text, of_stream ? "streams." : "", mr_show(pair->name).text,
                        of_stream ? where + sizeof stream - 1 : where, option->key,
                        show_value(c->now.out, option->key).text, before.text, why, before.text, otherwise);
}

static void print_alone(struct mr_print *print, const struct mr_option *option,
                        const void *holder) {
    mr_buf_clear(print->out);
    mr_print_option(print, option, holder);
}

static enum mr_status no_memory(const struct compare *c) {
    return mr_error_set(c->error, MR_NO_MEMORY, "%s: out of memory",
                        mr_show(c->now.config->source).text);
}

static enum mr_status compare_option(struct compare *c, struct pair *pair,
                                     const struct mr_option *option) {
    const struct row *row = find_row(option);
    const char *only;
    if (row->effect == APART) {
        return MR_OK;
    }
    if (!mr_option_applies(option, pair->before, &only) ||
        !mr_option_applies(option, pair->now, &only)) {
        return MR_OK; /* the mode differs, and says it all */
    }
    print_alone(&c->before, option, pair->before);
    print_alone(&c->now, option, pair->now);
    if (c->before.out->failed || c->now.out->failed) {
        return no_memory(c);
    }
    if (mr_bytes_equal(mr_buf_bytes(c->before.out), mr_buf_bytes(c->now.out))) {
        return MR_OK;
    }
    enum effect effect = effect_of(row, pair);
    if (effect == REFUSED) {
        return refuse(c, pair, option, row->why, "or begin empty with another node.data_dir");
    }
    if (effect == ANEW || pair->change == MR_CHANGE_NONE) {
        pair->change = effect == ANEW ? MR_CHANGE_ANEW : MR_CHANGE_LIVE;
    }
    return MR_OK;
}

/* As deep as scopes lie in each other: two. */
static enum mr_status compare_scope(struct compare *c, struct pair *pair, enum mr_scope scope) {
    enum mr_status status = MR_OK;
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL && status == MR_OK;
         o = mr_option_next(scope, o)) {
        if (o->type == MR_OPTION_SCOPE) {
            status = compare_scope(c, pair, o->inner);
        } else if (o->type != MR_OPTION_LATER) {
            status = compare_option(c, pair, o);
        }
    }
    return status;
}

/* The names that the claims of a shared store are made under. */
static enum mr_status compare_claims(struct compare *c) {
    const struct mr_config *before = c->before.config;
    const struct mr_config *now = c->now.config;
    if (before->cluster.name.len == 0 || now->cluster.name.len == 0) {
        return MR_OK;
    }
    struct pair pair = {.name = MR_BYTES(""), .before = before, .now = now};
    enum mr_status status =
        compare_option(c, &pair, mr_option_find(MR_SCOPE_CLUSTER, MR_BYTES("name")));
    return status != MR_OK
               ? status
               : compare_option(c, &pair, mr_option_find(MR_SCOPE_NODE, MR_BYTES("id")));
}

static enum mr_status compare_streams(struct compare *c, struct mr_config_change *ret) {
    const struct mr_config *before = c->before.config;
    const struct mr_config *now = c->now.config;
    ret->streams_gone = before->stream_count;
    for (uint32_t i = 0; i < now->stream_count; i++) {
        uint32_t old = mr_config_stream_index(before, now->streams[i].name);
        ret->stream_of[i] = old;
        ret->streams[i] = MR_CHANGE_NEW;
        if (old != UINT32_MAX) {
            struct pair pair = {.name = now->streams[i].name,
                                .before = &before->streams[old],
                                .now = &now->streams[i]};
            enum mr_status status = compare_scope(c, &pair, MR_SCOPE_STREAM);
            if (status != MR_OK) {
                return status;
            }
            ret->streams[i] = pair.change;
            ret->streams_gone--; /* names are unique */
        }
        ret->any = ret->any || ret->streams[i] != MR_CHANGE_NONE || old != i;
    }
    ret->any = ret->any || ret->streams_gone > 0;
    return MR_OK;
}

static enum mr_status compare_rules(struct compare *c, struct mr_config_change *ret) {
    const struct mr_config *before = c->before.config;
    const struct mr_config *now = c->now.config;
    ret->rules_gone = before->rule_count;
    for (uint32_t i = 0; i < now->rule_count; i++) {
        uint32_t old = mr_config_rule_index(before, now->rules[i].name);
        ret->rule_of[i] = old;
        ret->rules[i] = MR_CHANGE_NEW;
        if (old != UINT32_MAX) {
            struct pair pair = {
                .name = now->rules[i].name, .before = &before->rules[old], .now = &now->rules[i]};
            enum mr_status status = compare_scope(c, &pair, MR_SCOPE_RULE);
            if (status != MR_OK) {
                return status;
            }
            struct mr_config_use use_before = {before, pair.before};
            struct mr_config_use use_now = {now, pair.now};
            if (pair.change != MR_CHANGE_ANEW && mr_config_use_differs(&use_before, &use_now)) {
                pair.change = MR_CHANGE_ANEW;
            }
            ret->rules[i] = pair.change;
            ret->rules_gone--;
        }
        ret->any = ret->any || ret->rules[i] != MR_CHANGE_NONE || old != i;
    }
    ret->any = ret->any || ret->rules_gone > 0;
    return MR_OK;
}

/* Those that no rule uses are part of the state text, too. */
static enum mr_status compare_lookups(struct compare *c, struct mr_config_change *ret) {
    const struct mr_option *option = mr_option_find(MR_SCOPE_ROOT, MR_BYTES("lookups"));
    print_alone(&c->before, option, c->before.config);
    print_alone(&c->now, option, c->now.config);
    if (c->before.out->failed || c->now.out->failed) {
        return no_memory(c);
    }
    ret->any =
        ret->any || !mr_bytes_equal(mr_buf_bytes(c->before.out), mr_buf_bytes(c->now.out));
    return MR_OK;
}

static struct compare compare_of(const struct mr_config *before, const struct mr_config *now, struct mr_buf *texts,
                                 struct mr_error *error) {
    mr_buf_init(&texts[0], LINES_MAX);
    mr_buf_init(&texts[1], LINES_MAX);
    return (struct compare){.before = {.config = before, .out = &texts[0], .state = true},
                            .now = {.config = now, .out = &texts[1], .state = true},
                            .error = error};
}

enum mr_status mr_config_compare(const struct mr_config *before, const struct mr_config *now,
                                 struct mr_config_change *ret, struct mr_error *error) {
    struct mr_buf texts[2];
    struct compare c = compare_of(before, now, texts, error);
    struct mr_config_change change = {.any = false};
    enum mr_status status = compare_claims(&c);
    if (status == MR_OK) {
        status = compare_streams(&c, &change);
    }
    if (status == MR_OK) {
        status = compare_rules(&c, &change);
    }
    if (status == MR_OK) {
        status = compare_lookups(&c, &change);
    }
    if (status == MR_OK) {
        *ret = change;
    }
    mr_buf_finish(&texts[0]);
    mr_buf_finish(&texts[1]);
    return status;
}

static enum mr_status compare_kept(struct compare *c, const struct pair *pair, enum mr_scope scope) {
    const char *only;
    enum mr_status status = MR_OK;
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL && status == MR_OK;
         o = mr_option_next(scope, o)) {
        bool apart = o->type == MR_OPTION_LATER || strcmp(o->key, "derive") == 0;
        if (o->type == MR_OPTION_SCOPE) {
            status = compare_kept(c, pair, o->inner);
        } else if (!apart && mr_option_applies(o, pair->before, &only) && mr_option_applies(o, pair->now, &only)) {
            print_alone(&c->before, o, pair->before);
            print_alone(&c->now, o, pair->now);
            bool failed = c->before.out->failed || c->now.out->failed;
            bool same = mr_bytes_equal(mr_buf_bytes(c->before.out), mr_buf_bytes(c->now.out));
            status = failed ? no_memory(c)
                     : same ? MR_OK
                            : refuse(c, pair, o,
                                     "what is kept of the stream (ids, watermarks, events without a verdict) "
                                     "goes on from that",
                                     "and change it with a restart afterwards");
        }
    }
    return status;
}

enum mr_status mr_config_compare_kept(const struct mr_config *before, const struct mr_config *now,
                                      struct mr_error *error) {
    struct mr_buf texts[2];
    struct compare c = compare_of(before, now, texts, error);
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < now->stream_count; i++) {
        uint32_t old = mr_config_stream_index(before, now->streams[i].name);
        if (old == UINT32_MAX) {
            status = mr_error_set(error, MR_MISMATCH,
                                  "%s: streams.%s is new: nothing is kept of it; leave it out here, and add it with a "
                                  "restart afterwards",
                                  mr_show(now->source).text, mr_show(now->streams[i].name).text);
            break;
        }
        struct pair pair = {.name = now->streams[i].name, .before = &before->streams[old], .now = &now->streams[i]};
        status = compare_kept(&c, &pair, MR_SCOPE_STREAM);
    }
    mr_buf_finish(&texts[0]);
    mr_buf_finish(&texts[1]);
    return status;
}

enum mr_status mr_config_rows_fit(const struct mr_config *before, uint32_t before_rule, const struct mr_config *now,
                                  uint32_t now_rule, bool *ret) {
    static const struct {
        enum mr_scope scope;
        const char *key;
    } shapes[] = {{MR_SCOPE_RULE, "group_by"},
                  {MR_SCOPE_RULE, "window"},
                  {MR_SCOPE_RULE, "metrics"},
                  {MR_SCOPE_TRIGGER, "panes"}};
    struct mr_buf texts[2];
    struct compare c = compare_of(before, now, texts, NULL);
    bool same = true;
    bool failed = false;
    for (size_t i = 0; same && !failed && i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct mr_option *option = mr_option_find(shapes[i].scope, mr_bytes_text(shapes[i].key));
        print_alone(&c.before, option, &before->rules[before_rule]);
        print_alone(&c.now, option, &now->rules[now_rule]);
        failed = texts[0].failed || texts[1].failed;
        same = mr_bytes_equal(mr_buf_bytes(&texts[0]), mr_buf_bytes(&texts[1]));
    }
    mr_buf_finish(&texts[0]);
    mr_buf_finish(&texts[1]);
    *ret = same;
    return failed ? MR_NO_MEMORY : MR_OK;
}

void mr_config_print_state(const struct mr_config *config, struct mr_buf *ret) {
    static const char *const keys[] = {"node", "cluster", "stores", "lookups", "streams", "rules"};
    MR_ASSERT(config->stream_count > 0);
    struct mr_print print = {.config = config, .out = ret, .state = true};
    size_t first = config->cluster.name.len > 0 ? 0 : 3; /* I7 of config.h */
    for (size_t i = first; i < sizeof keys / sizeof keys[0]; i++) {
        const struct mr_option *option = mr_option_find(MR_SCOPE_ROOT, mr_bytes_text(keys[i]));
        MR_ASSERT(option != NULL);
        mr_print_option(&print, option, config);
    }
    MR_ASSERT(print.depth == 0);
}
