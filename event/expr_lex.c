/* SPDX-License-Identifier: Apache-2.0 */
#include "event/expr_lex.h"

#include "base/check.h"
#include "event/text.h"

#include <stdarg.h>
#include <stdio.h>

/* By token; NULL: not a word of fixed spelling. */
static const char *const operators[MR_TOKEN_COUNT] = {
    [MR_TOKEN_OR] = "||",          [MR_TOKEN_AND] = "&&",
    [MR_TOKEN_EQUAL] = "==",       [MR_TOKEN_UNEQUAL] = "!=",
    [MR_TOKEN_LESS_EQUAL] = "<=",  [MR_TOKEN_GREATER_EQUAL] = ">=",
    [MR_TOKEN_LESS] = "<",         [MR_TOKEN_GREATER] = ">",
    [MR_TOKEN_PLUS] = "+",         [MR_TOKEN_MINUS] = "-",
    [MR_TOKEN_STAR] = "*",         [MR_TOKEN_SLASH] = "/",
    [MR_TOKEN_PERCENT] = "%",      [MR_TOKEN_BANG] = "!",
    [MR_TOKEN_QUESTION] = "?",     [MR_TOKEN_COLON] = ":",
    [MR_TOKEN_COMMA] = ",",        [MR_TOKEN_OPEN] = "(",
    [MR_TOKEN_CLOSE] = ")",        [MR_TOKEN_OPEN_LIST] = "[",
    [MR_TOKEN_CLOSE_LIST] = "]",
};

static const struct {
    const char *text;
    enum mr_token_kind kind;
} words[] = {
    {"true", MR_TOKEN_TRUE}, {"false", MR_TOKEN_FALSE}, {"null", MR_TOKEN_NULL},
    {"not", MR_TOKEN_NOT},   {"in", MR_TOKEN_IN},
};

enum mr_status mr_lexer_refuse(const struct mr_lexer *lexer, uint32_t at, const char *format, ...) {
    uint32_t line = 1;
    uint32_t column = 1;
    for (uint32_t i = 0; i < at && i < lexer->len; i++) {
        bool feed = lexer->text[i] == '\n';
        line += feed;
        column = feed ? 1 : column + ((lexer->text[i] & 0xC0) != 0x80);
    }
    const char *more = memchr(lexer->text, '\n', lexer->len);
    char text[MR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args); /* cut at its capacity, as all errors */
    va_end(args);
    return more != NULL
               ? mr_error_set(lexer->error, MR_INVALID, "line %u, column %u: %s", line, column, text)
               : mr_error_set(lexer->error, MR_INVALID, "column %u: %s", column, text);
}

static enum mr_status no_memory(const struct mr_lexer *lexer) {
    return mr_error_set(lexer->error, MR_NO_MEMORY, "out of memory");
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static bool begins_name(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool continues_name(uint8_t c) {
    return begins_name(c) || is_digit(c);
}

/* One part of a path: its bytes without backquotes; moves *at behind it. */
static enum mr_status lex_part(struct mr_lexer *lexer, uint32_t *at, struct mr_bytes *ret) {
    const uint8_t *text = lexer->text;
    uint32_t from = *at;
    if (text[from] == '`') {
        const uint8_t *close = memchr(text + from + 1, '`', lexer->len - from - 1);
        if (close == NULL) {
            return mr_lexer_refuse(lexer, from, "the backquote is not closed");
        }
        *ret = mr_bytes_of(text + from + 1, (size_t)(close - text) - from - 1);
        *at = (uint32_t)(close - text) + 1;
        if (ret->len == 0) {
            return mr_lexer_refuse(lexer, from, "an empty name");
        }
        for (size_t i = 0; i < ret->len; i++) {
            if (ret->ptr[i] < 0x20) {
                return mr_lexer_refuse(lexer, from, "a control character in a name");
            }
        }
        if (memchr(ret->ptr, '.', ret->len) != NULL) {
            return mr_lexer_refuse(lexer, from, "a name with a dot in it cannot be addressed");
        }
        return MR_OK;
    }
    if (!begins_name(text[from])) {
        return mr_lexer_refuse(lexer, from, "expected a name behind the dot (quote odd ones with `)");
    }
    uint32_t to = from;
    while (continues_name(text[to])) {
        to++;
    }
    *ret = mr_bytes_of(text + from, to - from);
    *at = to;
    return MR_OK;
}

/* data.`odd name`.x: the parts joined with dots. */
static enum mr_status lex_name(struct mr_lexer *lexer, struct mr_token *ret) {
    uint32_t at = ret->at;
    uint32_t parts = 0;
    size_t len = 0;
    uint8_t *path = mr_arena_alloc(lexer->arena, lexer->len + MR_PADDING);
    if (path == NULL) {
        return no_memory(lexer);
    }
    do {
        struct mr_bytes part = {NULL, 0};
        at += parts > 0;
        enum mr_status status = lex_part(lexer, &at, &part);
        if (status != MR_OK) {
            return status;
        }
        if (parts++ > 0) {
            path[len++] = '.';
        }
        memcpy(path + len, part.ptr, part.len);
        len += part.len;
    } while (lexer->text[at] == '.');
    ret->kind = MR_TOKEN_NAME;
    ret->len = at - ret->at;
    ret->text = mr_bytes_of(path, len);
    ret->plain = parts == 1 && lexer->text[ret->at] != '`';
    for (size_t i = 0; ret->plain && i < sizeof words / sizeof words[0]; i++) {
        if (mr_bytes_equal(ret->text, mr_bytes_text(words[i].text))) {
            ret->kind = words[i].kind;
        }
    }
    return MR_OK;
}

/* The escape at text[at], a backslash; *ret_len: its length. */
static enum mr_status check_escape(const struct mr_lexer *lexer, uint32_t at, uint8_t quote,
                                   uint32_t *ret_len) {
    const uint8_t *p = lexer->text + at;
    *ret_len = 2;
    if (p[1] != 'u') {
        if (p[1] != 0 && (strchr("\"\\/bfnrt", p[1]) != NULL || p[1] == quote)) {
            return MR_OK;
        }
        return mr_lexer_refuse(lexer, at, "not an escape of JSON; a backslash is written \\\\");
    }
    int32_t first = mr_hex4(p + 2);
    *ret_len = 6;
    if (first < 0) {
        return mr_lexer_refuse(lexer, at, "expected four hexadecimal digits behind \\u");
    }
    if (first < 0xD800 || first > 0xDFFF) {
        return MR_OK;
    }
    int32_t second = p[6] == '\\' && p[7] == 'u' ? mr_hex4(p + 8) : -1;
    if (first > 0xDBFF || second < 0xDC00 || second > 0xDFFF) {
        return mr_lexer_refuse(lexer, at, "half of a surrogate pair");
    }
    *ret_len = 12;
    return MR_OK;
}

static enum mr_status lex_text(struct mr_lexer *lexer, struct mr_token *ret) {
    const uint8_t *text = lexer->text;
    uint8_t quote = text[ret->at];
    uint32_t at = ret->at + 1;
    while (text[at] != quote) {
        uint32_t used = 1;
        if (at >= lexer->len) {
            return mr_lexer_refuse(lexer, ret->at, "the text is not closed: expected %c", quote);
        }
        if (text[at] < 0x20) {
            return mr_lexer_refuse(lexer, at, "a control character in a text; escape it as \\u%04x",
                                   text[at]);
        }
        if (text[at] == '\\') {
            enum mr_status status = check_escape(lexer, at, quote, &used);
            if (status != MR_OK) {
                return status;
            }
        }
        at += used;
    }
    uint8_t *plain = mr_arena_alloc(lexer->arena, at - ret->at + MR_PADDING);
    if (plain == NULL) {
        return no_memory(lexer);
    }
    size_t len = mr_unescape(text + ret->at + 1, at - ret->at - 1, plain);
    memset(plain + len, 0, MR_PADDING);
    ret->kind = MR_TOKEN_TEXT;
    ret->text = mr_bytes_of(plain, len);
    ret->len = at + 1 - ret->at;
    return MR_OK;
}

/* Its extent; the parser reads the value. */
static enum mr_status lex_number(struct mr_lexer *lexer, struct mr_token *ret) {
    const uint8_t *text = lexer->text;
    uint32_t at = ret->at;
    while (continues_name(text[at]) || text[at] == '.' ||
           ((text[at] == '-' || text[at] == '+') && (text[at - 1] | 0x20) == 'e')) {
        at++;
    }
    ret->kind = MR_TOKEN_NUMBER;
    ret->len = at - ret->at;
    ret->text = mr_bytes_of(text + ret->at, ret->len);
    return MR_OK;
}

static enum mr_status lex_operator(struct mr_lexer *lexer, struct mr_token *ret) {
    const uint8_t *p = lexer->text + ret->at;
    for (int kind = MR_TOKEN_OR; kind < MR_TOKEN_COUNT; kind++) {
        size_t len = strlen(operators[kind]);
        if (memcmp(p, operators[kind], len) == 0) { /* padding is readable */
            ret->kind = (enum mr_token_kind)kind;
            ret->len = (uint32_t)len;
            return MR_OK;
        }
    }
    if (*p == '=' || *p == '&' || *p == '|') {
        return mr_lexer_refuse(lexer, ret->at, "`%c` is not an operator; did you mean `%c%c`?", *p, *p,
                               *p);
    }
    if (*p >= 0x20 && *p < 0x7F) {
        return mr_lexer_refuse(lexer, ret->at, "`%c` means nothing here", *p);
    }
    return mr_lexer_refuse(lexer, ret->at, "byte 0x%02X means nothing here (quote odd names with `)", *p);
}

enum mr_status mr_lexer_next(struct mr_lexer *lexer, struct mr_token *ret) {
    while (lexer->at < lexer->len && is_space(lexer->text[lexer->at])) {
        lexer->at++;
    }
    struct mr_token token = {.kind = MR_TOKEN_END, .at = lexer->at};
    enum mr_status status = MR_OK;
    if (lexer->at < lexer->len) {
        uint8_t c = lexer->text[lexer->at];
        status = begins_name(c) || c == '`'   ? lex_name(lexer, &token)
                 : is_digit(c)                ? lex_number(lexer, &token)
                 : c == '"' || c == '\''      ? lex_text(lexer, &token)
                                              : lex_operator(lexer, &token);
    }
    if (status == MR_OK) {
        lexer->at = token.at + token.len;
        MR_ASSERT(lexer->at <= lexer->len);
        *ret = token;
    }
    return status;
}
