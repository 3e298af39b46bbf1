/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Expr lex: an expression's text as words, inside event/ only.
 *
 * Errors      Each says the position in front, in columns of characters from 1.
 */
#include "base/arena.h"
#include "event/expr_code.h"

enum mr_token_kind {
    MR_TOKEN_END,
    MR_TOKEN_NUMBER,
    MR_TOKEN_TEXT,
    MR_TOKEN_NAME, /* a path, or a function's name */
    MR_TOKEN_TRUE,
    MR_TOKEN_FALSE,
    MR_TOKEN_NULL,
    MR_TOKEN_NOT, /* the word, of `not in` */
    MR_TOKEN_IN,
    MR_TOKEN_OR, /* the first operator; those of two characters stand before their beginnings */
    MR_TOKEN_AND,
    MR_TOKEN_EQUAL,
    MR_TOKEN_UNEQUAL,
    MR_TOKEN_LESS_EQUAL,
    MR_TOKEN_GREATER_EQUAL,
    MR_TOKEN_LESS,
    MR_TOKEN_GREATER,
    MR_TOKEN_PLUS,
    MR_TOKEN_MINUS,
    MR_TOKEN_STAR,
    MR_TOKEN_SLASH,
    MR_TOKEN_PERCENT,
    MR_TOKEN_BANG,
    MR_TOKEN_QUESTION,
    MR_TOKEN_COLON,
    MR_TOKEN_COMMA,
    MR_TOKEN_OPEN,
    MR_TOKEN_CLOSE,
    MR_TOKEN_OPEN_LIST,
    MR_TOKEN_CLOSE_LIST,
    MR_TOKEN_COUNT
};

struct mr_token {
    enum mr_token_kind kind;
    uint32_t at; /* byte of the text */
    uint32_t len;
    struct mr_bytes text; /* TEXT: unescaped; NAME: the dotted path */
    bool plain;           /* NAME: one name without backquotes, as functions have */
};

struct mr_lexer {
    const uint8_t *text; /* with MR_PADDING zero bytes behind it */
    uint32_t len;
    uint32_t at;
    struct mr_arena *arena;
    struct mr_error *error;
};

/* The next token; END again and again behind the last. */
enum mr_status mr_lexer_next(struct mr_lexer *lexer, struct mr_token *ret) MR_MUST_CHECK;

/* MR_INVALID with "column N: " in front of the text. */
enum mr_status mr_lexer_refuse(const struct mr_lexer *lexer, uint32_t at, const char *format, ...)
    MR_PRINTF(3, 4);
