/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From text to the postfix list: precedence climbing (Richards 1979), nodes appended as their
 * operands end, types checked and constants computed on the way.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "event/expr_build.h"
#include "event/number.h"
#include "event/text.h"

#include <stdio.h>

enum { SHOWN_MAX = 24 };

struct shown {
    char text[64];
};

/* What a token looks like in a message. */
static struct shown show(const struct mr_expr_build *b, const struct mr_token *token) {
    struct shown ret = {"the end"};
    if (token->kind != MR_TOKEN_END) {
        const uint8_t *text = b->lexer.text + token->at;
        bool cut = token->len > SHOWN_MAX;
        int len = (int)(cut ? mr_utf8_cut(text, SHOWN_MAX) : token->len);
        (void)snprintf(ret.text, sizeof ret.text, "`%.*s%s`", len, (const char *)text,
                       cut ? "\xE2\x80\xA6" : ""); /* fits */
    }
    return ret;
}

static enum mr_status unexpected(struct mr_expr_build *b, const char *expected) {
    return mr_lexer_refuse(&b->lexer, b->token.at, "expected %s, found %s", expected,
                           show(b, &b->token).text);
}

static enum mr_status next(struct mr_expr_build *b) {
    return mr_lexer_next(&b->lexer, &b->token);
}

static enum mr_status expect(struct mr_expr_build *b, enum mr_token_kind kind, const char *what) {
    return b->token.kind == kind ? next(b) : unexpected(b, what);
}

static enum mr_status enter(struct mr_expr_build *b) {
    if (b->depth == MR_EXPR_DEPTH_MAX) {
        return mr_lexer_refuse(&b->lexer, b->token.at,
                               "nested too deeply: at most %d levels (use a derived field)",
                               MR_EXPR_DEPTH_MAX);
    }
    b->depth++;
    return MR_OK;
}

static enum mr_status parse_choice(struct mr_expr_build *b);

static const struct {
    uint8_t level; /* of binding; 0: not an operator between two values */
    uint8_t op;
} between[MR_TOKEN_COUNT] = {
    [MR_TOKEN_OR] = {1, MR_OP_OR},
    [MR_TOKEN_AND] = {2, MR_OP_AND},
    [MR_TOKEN_EQUAL] = {3, MR_OP_EQUAL},
    [MR_TOKEN_UNEQUAL] = {3, MR_OP_UNEQUAL},
    [MR_TOKEN_LESS] = {4, MR_OP_LESS},
    [MR_TOKEN_LESS_EQUAL] = {4, MR_OP_LESS_EQUAL},
    [MR_TOKEN_GREATER] = {4, MR_OP_GREATER},
    [MR_TOKEN_GREATER_EQUAL] = {4, MR_OP_GREATER_EQUAL},
    [MR_TOKEN_IN] = {4, MR_OP_IN},
    [MR_TOKEN_NOT] = {4, MR_OP_NOT_IN},
    [MR_TOKEN_PLUS] = {5, MR_OP_ADD},
    [MR_TOKEN_MINUS] = {5, MR_OP_SUBTRACT},
    [MR_TOKEN_STAR] = {6, MR_OP_MULTIPLY},
    [MR_TOKEN_SLASH] = {6, MR_OP_DIVIDE},
    [MR_TOKEN_PERCENT] = {6, MR_OP_REMAINDER},
};

/* The number at the token, behind a minus or not. */
static enum mr_status parse_number(struct mr_expr_build *b, uint32_t at, bool minus) {
    struct mr_decimal decimal;
    const uint8_t *end = mr_decimal_scan(b->token.text.ptr, &decimal);
    struct mr_expr_value value = {.kind = MR_VALUE_INT};
    if (end != b->token.text.ptr + b->token.text.len) {
        return mr_lexer_refuse(&b->lexer, b->token.at, "%s is not a number",
                               show(b, &b->token).text);
    }
    decimal.negative = minus; /* the smallest int has no positive twin */
    if (!mr_decimal_int(&decimal, &value.datum.i)) {
        decimal.negative = false; /* doubles are read from the text again, which has no sign */
        value.kind = MR_VALUE_DOUBLE;
        if (!mr_decimal_double(&decimal, b->expr->c_locale, &value.datum.d)) {
            return mr_lexer_refuse(&b->lexer, b->token.at, "%s is over the range of a number",
                                   show(b, &b->token).text);
        }
        value.datum.d = minus ? -value.datum.d : value.datum.d;
    }
    enum mr_status status = mr_expr_add_constant(b, at, &value);
    return status == MR_OK ? next(b) : status;
}

static enum mr_status parse_constant(struct mr_expr_build *b) {
    struct mr_expr_value value = {.kind = MR_VALUE_NULL};
    switch (b->token.kind) {
    case MR_TOKEN_TRUE:
        value.kind = MR_VALUE_TRUE;
        break;
    case MR_TOKEN_FALSE:
        value.kind = MR_VALUE_FALSE;
        break;
    case MR_TOKEN_TEXT:
        value.kind = MR_VALUE_STRING;
        value.datum.text = b->token.text.ptr;
        value.len = (uint32_t)b->token.text.len;
        break;
    default:
        MR_ASSERT(b->token.kind == MR_TOKEN_NULL);
        break;
    }
    enum mr_status status = mr_expr_add_constant(b, b->token.at, &value);
    if (status == MR_OK && b->token.kind == MR_TOKEN_NULL) {
        b->nodes[b->count - 1].null_literal = true;
    }
    return status == MR_OK ? next(b) : status;
}

static enum mr_status parse_lookup_name(struct mr_expr_build *b, const struct mr_lookup **ret) {
    if (b->token.kind != MR_TOKEN_TEXT) {
        return unexpected(b, "the name of a lookup table in quotes");
    }
    enum mr_status status = mr_expr_find_lookup(b, &b->token, ret);
    if (status == MR_OK) {
        status = next(b);
    }
    return status == MR_OK ? expect(b, MR_TOKEN_COMMA, "`,` and the key") : status;
}

/* The token is behind the opening parenthesis; name is the function's. */
static enum mr_status parse_call(struct mr_expr_build *b, const struct mr_token *name) {
    const struct mr_expr_function *function;
    const struct mr_lookup *lookup = NULL;
    enum mr_status status = mr_expr_find_function(b, name, &function);
    if (status == MR_OK && function->op == MR_OP_LOOKUP) {
        status = parse_lookup_name(b, &lookup);
    }
    uint32_t count = 0;
    for (bool more = b->token.kind != MR_TOKEN_CLOSE; status == MR_OK && more;) {
        status = parse_choice(b);
        count++;
        if (status == MR_OK && function->op == MR_OP_COALESCE && count > 1) {
            status = mr_expr_add_op(b, MR_OP_COALESCE, name->at, function->name);
        }
        more = b->token.kind == MR_TOKEN_COMMA;
        if (status == MR_OK && more) {
            status = next(b);
        }
    }
    uint32_t wanted = function != NULL ? function->arguments : 0;
    if (status != MR_OK) {
        return status;
    }
    if (b->token.kind != MR_TOKEN_CLOSE) {
        return unexpected(b, "`,` or `)`");
    }
    if (function->op == MR_OP_COALESCE ? count < wanted : count != wanted) {
        return mr_lexer_refuse(&b->lexer, name->at, "%s takes %s, found %u", function->name,
                               function->takes, lookup != NULL ? count + 1 : count);
    }
    if (function->op != MR_OP_COALESCE) {
        status = mr_expr_add_op(b, function->op, name->at, function->name);
    }
    if (lookup != NULL && status == MR_OK) {
        mr_expr_set_lookup(b, lookup);
        status = mr_expr_fold(b);
    }
    return status == MR_OK ? next(b) : status;
}

static enum mr_status parse_name(struct mr_expr_build *b) {
    struct mr_token name = b->token;
    enum mr_status status = next(b);
    if (status == MR_OK && name.plain && b->token.kind == MR_TOKEN_OPEN) {
        status = next(b);
        return status == MR_OK ? parse_call(b, &name) : status;
    }
    return status == MR_OK ? mr_expr_add_field(b, &name) : status;
}

static enum mr_status parse_primary(struct mr_expr_build *b) {
    enum mr_status status;
    switch (b->token.kind) {
    case MR_TOKEN_NUMBER:
        return parse_number(b, b->token.at, false);
    case MR_TOKEN_TEXT:
    case MR_TOKEN_TRUE:
    case MR_TOKEN_FALSE:
    case MR_TOKEN_NULL:
        return parse_constant(b);
    case MR_TOKEN_NAME:
        return parse_name(b);
    case MR_TOKEN_OPEN:
        status = next(b);
        if (status == MR_OK) {
            status = parse_choice(b);
        }
        return status == MR_OK ? expect(b, MR_TOKEN_CLOSE, "an operator or `)`") : status;
    default:
        return unexpected(b, "a value");
    }
}

static enum mr_status parse_unary(struct mr_expr_build *b) {
    enum mr_token_kind kind = b->token.kind;
    uint32_t at = b->token.at;
    if (kind != MR_TOKEN_BANG && kind != MR_TOKEN_MINUS) {
        return parse_primary(b);
    }
    enum mr_status status = next(b);
    if (status == MR_OK && kind == MR_TOKEN_MINUS && b->token.kind == MR_TOKEN_NUMBER) {
        return parse_number(b, at, true);
    }
    if (status == MR_OK) {
        status = enter(b);
    }
    if (status == MR_OK) {
        status = parse_unary(b);
        b->depth--;
    }
    bool bang = kind == MR_TOKEN_BANG;
    return status == MR_OK
               ? mr_expr_add_op(b, bang ? MR_OP_NOT : MR_OP_MINUS, at, bang ? "!" : "-")
               : status;
}

/* The list behind `in`: its values are constant and leave the nodes again. */
static enum mr_status parse_list(struct mr_expr_build *b, struct mr_expr_value *values,
                                 uint32_t *ret_count, uint8_t *ret_types) {
    uint32_t count = 0;
    uint8_t types = 0;
    enum mr_status status = expect(b, MR_TOKEN_OPEN_LIST, "`[` and a list");
    for (bool more = true; status == MR_OK && more;) {
        uint32_t at = b->token.at;
        status = parse_choice(b);
        if (status == MR_OK && b->nodes[b->count - 1].op != MR_OP_CONSTANT) {
            status = mr_lexer_refuse(&b->lexer, at, "the values of a list must be constant");
        } else if (status == MR_OK && count == MR_EXPR_LIST_MAX) {
            status = mr_lexer_refuse(&b->lexer, at,
                                     "more than %d values in a list (use a lookup table)",
                                     MR_EXPR_LIST_MAX);
        }
        if (status == MR_OK) {
            const struct mr_expr_node *node = &b->nodes[--b->count];
            values[count++] = node->as.constant;
            types |= node->types;
            more = b->token.kind == MR_TOKEN_COMMA;
            status = more ? next(b) : MR_OK;
        }
    }
    *ret_count = count;
    *ret_types = types;
    return status == MR_OK ? expect(b, MR_TOKEN_CLOSE_LIST, "`,` or `]`") : status;
}

static enum mr_status parse_in(struct mr_expr_build *b, uint8_t op, uint32_t at) {
    uint32_t count = 0;
    uint8_t types = 0;
    struct mr_expr_value *values = mr_alloc(MR_EXPR_LIST_MAX * sizeof *values);
    if (values == NULL) {
        return mr_error_set(b->lexer.error, MR_NO_MEMORY, "out of memory");
    }
    enum mr_status status = parse_list(b, values, &count, &types);
    if (status == MR_OK) {
        status = mr_expr_add_in(b, op, at, values, count, types);
    }
    mr_free(values);
    return status;
}

static enum mr_status parse_binary(struct mr_expr_build *b, uint8_t least) {
    uint32_t at = b->token.at;
    enum mr_status status = parse_unary(b);
    while (status == MR_OK && between[b->token.kind].level >= least) {
        uint8_t level = between[b->token.kind].level;
        uint8_t op = between[b->token.kind].op;
        struct mr_token word = b->token;
        status = next(b);
        if (status == MR_OK && op == MR_OP_NOT_IN) {
            status = expect(b, MR_TOKEN_IN, "`in` behind `not`");
        }
        if (status != MR_OK) {
            return status;
        }
        if (op == MR_OP_IN || op == MR_OP_NOT_IN) {
            status = parse_in(b, op, at);
            continue;
        }
        char name[4] = {0};
        memcpy(name, b->lexer.text + word.at, word.len);
        status = parse_binary(b, (uint8_t)(level + 1));
        status = status == MR_OK ? mr_expr_add_op(b, op, at, name) : status;
    }
    return status;
}

static enum mr_status parse_choice(struct mr_expr_build *b) {
    uint32_t at = b->token.at;
    enum mr_status status = enter(b);
    if (status != MR_OK) {
        return status;
    }
    status = parse_binary(b, 1);
    if (status == MR_OK && b->token.kind == MR_TOKEN_QUESTION) {
        status = next(b);
        if (status == MR_OK) {
            status = parse_choice(b);
        }
        if (status == MR_OK) {
            status = expect(b, MR_TOKEN_COLON, "`:` and the other value");
        }
        if (status == MR_OK) {
            status = parse_choice(b);
        }
        if (status == MR_OK) {
            status = mr_expr_add_op(b, MR_OP_CHOOSE, at, "?");
        }
    }
    b->depth--;
    return status;
}

/* Something stands behind a complete expression: words of other languages get a hint. */
static enum mr_status refuse_rest(struct mr_expr_build *b) {
    static const char *const hints[][2] = {
        {"and", "&&"}, {"or", "||"}, {"AND", "&&"}, {"OR", "||"}, {"is", "=="}, {"IN", "in"},
    };
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        if (b->token.kind == MR_TOKEN_NAME && b->token.plain &&
            mr_bytes_equal(b->token.text, mr_bytes_text(hints[i][0]))) {
            return mr_lexer_refuse(&b->lexer, b->token.at,
                                   "expected an operator, found `%s`; did you mean `%s`?", hints[i][0],
                                   hints[i][1]);
        }
    }
    return unexpected(b, "an operator or the end");
}

static enum mr_status parse(struct mr_expr_build *b) {
    enum mr_status status = next(b);
    if (status == MR_OK) {
        status = parse_choice(b);
    }
    if (status == MR_OK && b->token.kind != MR_TOKEN_END) {
        status = refuse_rest(b);
    }
    return status == MR_OK ? mr_expr_finish(b) : status;
}

static enum mr_status check_text(struct mr_bytes text, struct mr_error *error) {
    if (text.len > MR_EXPR_TEXT_MAX) {
        return mr_error_set(error, MR_INVALID, "an expression of %zu bytes; at most %d", text.len,
                            MR_EXPR_TEXT_MAX);
    }
    if (!mr_utf8_valid(text)) {
        return mr_error_set(error, MR_INVALID, "the expression is not UTF-8");
    }
    return MR_OK;
}

enum mr_status mr_expr_open(struct mr_bytes text, const struct mr_expr_names *names,
                            struct mr_expr **ret, struct mr_error *error) {
    enum mr_status status = check_text(text, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_expr_build b;
    status = mr_expr_build_init(&b, text, names, error);
    if (status == MR_OK) {
        status = parse(&b);
    }
    if (status == MR_OK) {
        *ret = b.expr;
        b.expr = NULL;
    }
    mr_expr_build_finish(&b);
    return status;
}
