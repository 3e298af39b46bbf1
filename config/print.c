/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Print: the effective configuration as YAML, from the same table that reads it.
 */
#include "config/print.h"
#include "base/check.h"
#include "config/options.h"

void mr_print_begin(struct mr_print *p, const char *key) {
    if (p->flow) {
        mr_buf_printf(p->out, "%s%s:", p->flow_more ? ", " : "", key);
        p->flow_more = true;
    } else {
        mr_buf_printf(p->out, "%*s%s:", (int)(2 * p->depth), "", key);
    }
}

void mr_print_end(struct mr_print *p) {
    if (!p->flow) {
        mr_buf_append_char(p->out, '\n');
    }
}

/* Its own syntax apart, a text of these only is plain whatever it says: everything is read as text.
 */
static bool plain(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && c != '_' && c != '/' && ((c != '.' && c != '-') || (i == 0 && c == '-'))) {
            return false;
        }
    }
    /* "..." and "---" end or begin a document in the first column only, but leave no doubt. */
    return text.len > 0 &&
           !(text.ptr[0] == '.' && text.len > 1 && text.ptr[1] == '.' && text.len == 3);
}

/* One character of a double-quoted scalar: characters that YAML has no place for, or that would end
 * the line, become \u escapes. Returns how many bytes it took. */
static size_t print_quoted_char(struct mr_print *p, const uint8_t *s, size_t len) {
    uint32_t c = s[0];
    size_t taken = 1;
    if (c >= 0xc0) {
        taken = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        MR_ASSERT(taken <= len); /* only UTF-8 comes this far */
        c &= 0xffu >> (taken + 1);
        for (size_t i = 1; i < taken; i++) {
            c = c << 6 | (s[i] & 0x3fu);
        }
    }
    bool unprintable = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
                       c == 0xfeff || c == 0xfffe || c == 0xffff;
    if (c == '"' || c == '\\') {
        mr_buf_append_char(p->out, '\\');
    }
    if (unprintable) {
        mr_buf_printf(p->out, "\\u%04x", c);
    } else {
        mr_buf_append(p->out, s, taken);
    }
    if (c == '$') {
        mr_buf_append_char(p->out, '$'); /* or it might begin a variable */
    }
    return taken;
}

void mr_print_text(struct mr_print *p, struct mr_bytes text) {
    if (plain(text)) {
        mr_buf_append_bytes(p->out, text);
        return;
    }
    mr_buf_append_char(p->out, '"');
    for (size_t i = 0; i < text.len;) {
        i += print_quoted_char(p, text.ptr + i, text.len - i);
    }
    mr_buf_append_char(p->out, '"');
}

static void print_number(struct mr_print *p, const struct mr_option *option, const uint8_t *field) {
    if (option->size == sizeof(uint32_t)) {
        uint32_t value;
        memcpy(&value, field, sizeof value);
        mr_buf_printf(p->out, "%u", value);
        return;
    }
    uint64_t value;
    MR_ASSERT(option->size == sizeof value);
    memcpy(&value, field, sizeof value);
    bool off = (option->type == MR_OPTION_DURATION_OFF && value == INT64_MAX) ||
               (option->type == MR_OPTION_BYTES_OFF && value == UINT64_MAX);
    if (off) {
        mr_buf_append_text(p->out, "off");
    } else if (option->type == MR_OPTION_BYTES || option->type == MR_OPTION_BYTES_OFF) {
        mr_value_show_bytes(value, p->out);
    } else if (option->type == MR_OPTION_COUNT64) {
        mr_buf_printf(p->out, "%llu", (unsigned long long)value);
    } else {
        mr_value_show_duration((int64_t)value, p->out);
    }
}

static void print_choice(struct mr_print *p, const struct mr_option *option, const uint8_t *field) {
    int value = 0;
    if (option->size == sizeof(bool)) {
        bool yes;
        memcpy(&yes, field, sizeof yes);
        value = yes;
    } else if (option->size != 0) {
        MR_ASSERT(option->size == sizeof value);
        memcpy(&value, field, sizeof value);
    }
    mr_buf_append_text(p->out, mr_choice_text(option->choices, value));
}

static void print_value(struct mr_print *p, const struct mr_option *option, const void *holder) {
    const uint8_t *field = (const uint8_t *)holder + option->offset;
    mr_print_begin(p, option->key);
    mr_buf_append_char(p->out, ' ');
    switch (option->type) {
    case MR_OPTION_NAME:
    case MR_OPTION_TEXT:
    case MR_OPTION_WORD:
    case MR_OPTION_FIELD:
    case MR_OPTION_COLUMN:
    case MR_OPTION_EXPR: { /* begins with its text */
        struct mr_bytes text;
        memcpy(&text, field, sizeof text);
        mr_print_text(p, text);
        break;
    }
    case MR_OPTION_RATE: {
        double rate;
        memcpy(&rate, field, sizeof rate);
        mr_value_show_rate(rate, p->out);
        break;
    }
    case MR_OPTION_CHOICE:
        print_choice(p, option, field);
        break;
    default:
        print_number(p, option, field);
        break;
    }
    mr_print_end(p);
}

void mr_print_option(struct mr_print *p, const struct mr_option *option, const void *holder) {
    MR_ASSERT(option->type != MR_OPTION_LATER);
    if (option->type == MR_OPTION_CODE) {
        option->print(p, option, holder);
    } else if (option->type == MR_OPTION_SCOPE) {
        mr_print_begin(p, option->key);
        mr_buf_append_char(p->out, '\n');
        p->depth++;
        mr_print_scope(p, option->inner, holder);
        p->depth--;
    } else {
        print_value(p, option, holder);
    }
}

/* Texts that may be left out, and mappings that stand for something by being there. */
static bool left_out(const struct mr_print *p, const struct mr_option *o, const void *holder) {
    if (o->type == MR_OPTION_SCOPE) {
        return (o->inner == MR_SCOPE_TLS && !p->config->http.tls) ||
               (o->inner == MR_SCOPE_CLUSTER && p->config->cluster.name.len == 0);
    }
    if (o->type != MR_OPTION_TEXT && o->type != MR_OPTION_WORD && o->type != MR_OPTION_FIELD &&
        o->type != MR_OPTION_EXPR) {
        return false;
    }
    struct mr_bytes text;
    memcpy(&text, (const uint8_t *)holder + o->offset, sizeof text);
    return text.len == 0;
}

/* Addresses and secrets may change; who this node is, and what it shares, is part of the state. */
static bool in_state(const struct mr_option *o) {
    switch (o->scope) {
    case MR_SCOPE_NODE:
        return strcmp(o->key, "id") == 0;
    case MR_SCOPE_CLUSTER:
        return strcmp(o->key, "name") == 0;
    case MR_SCOPE_STORE:
        return strcmp(o->key, "type") == 0;
    case MR_SCOPE_RULE:
        return strcmp(o->key, "sinks") != 0;
    default:
        return true;
    }
}

void mr_print_scope(struct mr_print *p, enum mr_scope scope, const void *holder) {
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL;
         o = mr_option_next(scope, o)) {
        const char *only;
        bool skip =
            o->type == MR_OPTION_LATER || left_out(p, o, holder) || (p->state && !in_state(o));
        if (!skip && mr_option_applies(o, holder, &only)) {
            mr_print_option(p, o, holder);
        }
    }
}

void mr_config_print(const struct mr_config *config, struct mr_buf *ret) {
    struct mr_print print = {.config = config, .out = ret};
    mr_print_scope(&print, MR_SCOPE_ROOT, config);
    MR_ASSERT(print.depth == 0);
}

void mr_print_list(struct mr_print *p, const char *key, const struct mr_bytes *items,
                   uint32_t count) {
    mr_print_begin(p, key);
    mr_buf_append_text(p->out, " [");
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_append_text(p->out, i == 0 ? "" : ", ");
        mr_print_text(p, items[i]);
    }
    mr_buf_append_char(p->out, ']');
    mr_print_end(p);
}

void mr_print_named(struct mr_print *p, enum mr_scope scope, struct mr_bytes name,
                    const void *holder) {
    mr_buf_printf(p->out, "%*s%.*s:\n", (int)(2 * p->depth), "", (int)name.len,
                  (const char *)name.ptr);
    p->depth++;
    mr_print_scope(p, scope, holder);
    p->depth--;
}

/* "key:" and a line for each name, with the scope of each below it; "key: {}" for none. */
static void print_names(struct mr_print *p, const char *key, enum mr_scope scope,
                        struct mr_named named) {
    mr_print_begin(p, key);
    mr_buf_append_text(p->out, named.count == 0 ? " {}\n" : "\n");
    p->depth++;
    for (uint32_t i = 0; i < named.count; i++) {
        mr_print_named(p, scope, mr_named_name(&named, i),
                       (const uint8_t *)named.items + i * named.size);
    }
    p->depth--;
}

void mr_option_print_streams(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    print_names(p, o->key, MR_SCOPE_STREAM,
                (struct mr_named){c->streams, sizeof *c->streams, c->stream_count});
}

void mr_option_print_rules(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    print_names(p, o->key, MR_SCOPE_RULE,
                (struct mr_named){c->rules, sizeof *c->rules, c->rule_count});
}

void mr_option_print_tokens(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    print_names(p, o->key, MR_SCOPE_TOKEN,
                (struct mr_named){c->auth.tokens, sizeof *c->auth.tokens, c->auth.token_count});
}

void mr_option_print_listen(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    bool v6 = memchr(c->http.host.ptr, ':', c->http.host.len) != NULL;
    mr_print_begin(p, o->key);
    mr_buf_printf(p->out, " \"%s%.*s%s:%u\"\n", v6 ? "[" : "", (int)c->http.host.len,
                  (const char *)c->http.host.ptr, v6 ? "]" : "", c->http.port);
}

void mr_option_print_sha256(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_token *token = holder;
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    for (size_t i = 0; i < sizeof token->sha256; i++) {
        mr_buf_printf(p->out, "%02x", token->sha256[i]);
    }
    mr_buf_append_char(p->out, '\n');
}

/* What the file said stands under sha256. */
void mr_option_print_sha256_file(struct mr_print *p, const struct mr_option *o,
                                 const void *holder) {
    (void)p;
    (void)o;
    (void)holder;
}

void mr_option_print_allow(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_token *token = holder;
    struct mr_bytes rights[3];
    uint32_t count = 0;
    for (const struct mr_choice *c = mr_choices_right; c->text != NULL; c++) {
        if ((token->rights & (uint32_t)c->value) != 0) {
            rights[count] = mr_bytes_text(c->text);
            count++;
        }
    }
    mr_print_list(p, o->key, rights, count);
}

void mr_option_print_token_streams(struct mr_print *p, const struct mr_option *o,
                                   const void *holder) {
    const struct mr_config_token *token = holder;
    if (token->all_streams) {
        return;
    }
    struct mr_bytes names[MR_STREAMS_MAX];
    for (uint32_t i = 0; i < token->stream_count; i++) {
        names[i] = p->config->streams[token->streams[i]].name;
    }
    mr_print_list(p, o->key, names, token->stream_count);
}

void mr_option_print_id(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_stream *stream = holder;
    if (stream->id_parts > 0) {
        mr_print_list(p, o->key, stream->id, stream->id_parts);
    }
}

void mr_option_print_time(struct mr_print *p, const struct mr_option *o, const void *holder) {
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, '\n');
    p->depth++;
    mr_print_scope(p, MR_SCOPE_TIME, holder);
    p->depth--;
}
