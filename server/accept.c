/* SPDX-License-Identifier: Apache-2.0 */
#include "server/accept.h"

#include "base/check.h"

static const struct {
    const char *name;
    const char *type; /* of type/subtype */
    const char *subtype;
    const char *sent;
} answers[MR_ANSWER_COUNT] = {
    [MR_ANSWER_JSON] = {"json", "application", "json", "application/json"},
    [MR_ANSWER_NDJSON] = {"ndjson", "application", "x-ndjson", "application/x-ndjson"},
    [MR_ANSWER_CSV] = {"csv", "text", "csv", "text/csv; charset=utf-8"},
    [MR_ANSWER_COLUMNS] = {"columns", "application", "json", "application/json"},
};

const char *mr_answer_media_type(enum mr_answer answer) {
    MR_ASSERT((unsigned)answer < MR_ANSWER_COUNT);
    return answers[answer].sent;
}

static enum mr_status choose_by_name(struct mr_bytes value, uint32_t formats, enum mr_answer *ret,
                                     struct mr_error *error) {
    char list[64] = "";
    for (uint32_t i = 0; i < formats; i++) {
        if (mr_bytes_equal(value, mr_bytes_text(answers[i].name))) {
            *ret = (enum mr_answer)i;
            return MR_OK;
        }
        mr_list_append(list, sizeof list, mr_bytes_text(answers[i].name));
    }
    return mr_error_set(error, MR_INVALID, "query parameter `format`: `%s`; expected one of %s",
                        mr_quote(value).text, list);
}

static struct mr_bytes trim(struct mr_bytes text) {
    while (text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        text = mr_bytes_of(text.ptr + 1, text.len - 1);
    }
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

/* What stands before the first `c`; the rest behind it goes to *rest. */
static struct mr_bytes cut_at(struct mr_bytes *rest, char c) {
    const uint8_t *at = rest->len == 0 ? NULL : memchr(rest->ptr, c, rest->len);
    struct mr_bytes front =
        mr_bytes_of(rest->ptr, at == NULL ? rest->len : (size_t)(at - rest->ptr));
    size_t taken = at == NULL ? front.len : front.len + 1;
    *rest = mr_bytes_of(rest->ptr + taken, rest->len - taken);
    return trim(front);
}

static bool is_word(struct mr_bytes given, const char *word) {
    if (given.len != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < given.len; i++) {
        uint8_t c = given.ptr[i];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        if (c != (uint8_t)word[i]) {
            return false;
        }
    }
    return true;
}

/* "q=0.5" in thousandths; 1000 for anything else. */
static uint32_t parse_weight(struct mr_bytes parameter) {
    if (parameter.len < 3 || (parameter.ptr[0] | 0x20) != 'q' || parameter.ptr[1] != '=') {
        return 1000;
    }
    if (parameter.ptr[2] != '0') {
        return 1000;
    }
    uint32_t weight = 0;
    uint32_t unit = 100;
    for (size_t i = 4; i < parameter.len && unit > 0; i++, unit /= 10) {
        uint8_t c = parameter.ptr[i];
        weight += c >= '0' && c <= '9' ? (uint32_t)(c - '0') * unit : 0;
    }
    return weight;
}

static bool range_fits(struct mr_bytes range, uint32_t answer) {
    struct mr_bytes subtype = range;
    struct mr_bytes type = cut_at(&subtype, '/');
    bool any = is_word(type, "*");
    return (any || is_word(type, answers[answer].type)) &&
           (is_word(subtype, "*") || (!any && is_word(subtype, answers[answer].subtype)));
}

static enum mr_status choose_by_header(struct mr_bytes accept, uint32_t formats,
                                       enum mr_answer *ret, struct mr_error *error) {
    uint32_t best = 0;
    struct mr_bytes rest = accept;
    while (rest.len > 0) {
        struct mr_bytes element = cut_at(&rest, ',');
        struct mr_bytes range = cut_at(&element, ';');
        uint32_t weight = 1000;
        while (element.len > 0) {
            uint32_t given = parse_weight(cut_at(&element, ';'));
            weight = given < weight ? given : weight;
        }
        for (uint32_t i = 0; i < formats && weight > best; i++) {
            if (range_fits(range, i)) {
                best = weight;
                *ret = (enum mr_answer)i;
            }
        }
    }
    if (best > 0) {
        return MR_OK;
    }
    return mr_error_set(error, MR_NOT_FOUND, "Accept: `%s`; this path has application/json, %s",
                        mr_quote(accept).text,
                        formats > MR_ANSWER_CSV ? "application/x-ndjson, text/csv"
                                                : "application/x-ndjson");
}

enum mr_status mr_answer_choose(const struct mr_params *params, struct mr_bytes accept,
                                uint32_t formats, enum mr_answer *ret, struct mr_error *error) {
    MR_ASSERT(formats > 0 && formats <= MR_ANSWER_COUNT);
    const struct mr_param *param = mr_params_find(params, "format");
    *ret = MR_ANSWER_JSON;
    if (param != NULL) {
        return choose_by_name(param->value, formats, ret, error);
    }
    if (trim(accept).len == 0) {
        return MR_OK;
    }
    return choose_by_header(accept, formats, ret, error);
}
