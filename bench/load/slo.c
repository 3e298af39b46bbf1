/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/slo.h"

#include "base/check.h"
#include "bench/load/reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static const struct {
    const char *text;
    enum mr_load_op op;
} ops[] = {{"<=", MR_LOAD_AT_MOST}, {">=", MR_LOAD_AT_LEAST}, {"==", MR_LOAD_EQUAL},
           {"!=", MR_LOAD_UNEQUAL}, {"<", MR_LOAD_LESS},      {">", MR_LOAD_MORE}};

static const struct {
    const char *text;
    enum mr_load_unit unit;
    double scale;
} units[] = {
    {"ns", MR_LOAD_NS, 1},          {"us", MR_LOAD_NS, 1e3},
    {"ms", MR_LOAD_NS, 1e6},        {"s", MR_LOAD_NS, 1e9},
    {"", MR_LOAD_BYTES, 1},         {"B", MR_LOAD_BYTES, 1},
    {"KiB", MR_LOAD_BYTES, 1024},   {"MiB", MR_LOAD_BYTES, 1 << 20},
    {"GiB", MR_LOAD_BYTES, 1 << 30}, {"", MR_LOAD_COUNT, 1},
    {"k", MR_LOAD_COUNT, 1e3},      {"M", MR_LOAD_COUNT, 1e6},
};

static struct mr_bytes trim(struct mr_bytes text) {
    while (text.len > 0 && text.ptr[0] == ' ') {
        text = mr_bytes_of(text.ptr + 1, text.len - 1);
    }
    while (text.len > 0 && text.ptr[text.len - 1] == ' ') {
        text.len--;
    }
    return text;
}

static bool split_op(struct mr_bytes text, struct mr_load_term *ret, struct mr_bytes *ret_bound) {
    for (size_t at = 1; at < text.len; at++) {
        for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
            size_t len = strlen(ops[i].text);
            if (text.len - at >= len && memcmp(text.ptr + at, ops[i].text, len) == 0) {
                ret->name = trim(mr_bytes_of(text.ptr, at));
                ret->op = ops[i].op;
                *ret_bound = trim(mr_bytes_of(text.ptr + at + len, text.len - at - len));
                return true;
            }
        }
    }
    return false;
}

static bool read_bound(struct mr_bytes text, enum mr_load_unit unit, double *ret) {
    size_t digits = 0;
    while (digits < text.len && (text.ptr[digits] == '.' || (text.ptr[digits] >= '0' && text.ptr[digits] <= '9'))) {
        digits++;
    }
    double number;
    if (digits == 0 || !mr_load_number(mr_bytes_of(text.ptr, digits), &number)) {
        return false;
    }
    struct mr_bytes behind = trim(mr_bytes_of(text.ptr + digits, text.len - digits));
    bool counted = unit != MR_LOAD_NS && unit != MR_LOAD_BYTES;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].unit == (counted ? MR_LOAD_COUNT : unit) && mr_bytes_equal(behind, mr_bytes_text(units[i].text))) {
            *ret = number * units[i].scale;
            return true;
        }
    }
    return false;
}

static enum mr_status parse_term(struct mr_bytes text, struct mr_load_term *ret, struct mr_error *error) {
    static const struct mr_load_tally empty;
    /* Only names and units are asked for: no value is read from it but zeros. */
    struct mr_load_result names = {.measured = (struct mr_load_tally *)&empty};
    struct mr_bytes bound;
    double unused;
    int len = (int)text.len;
    const char *shown = (const char *)text.ptr;
    *ret = (struct mr_load_term){.text = text};
    if (text.len == 0) {
        return mr_error_set(error, MR_INVALID, "--slo: an empty term; expected such as p99<50ms");
    }
    if (!split_op(text, ret, &bound)) {
        return mr_error_set(error, MR_INVALID, "--slo `%.*s`: expected name, one of < <= > >= == !=, and a number", len, shown);
    }
    if (!mr_load_result_value(&names, ret->name, &unused, &ret->unit)) {
        const char *near = mr_load_result_suggest(ret->name);
        return mr_error_set(error, MR_INVALID, "--slo `%.*s`: unknown name `%.*s`%s%s%s", len, shown, (int)ret->name.len,
                            (const char *)ret->name.ptr, near != NULL ? "; did you mean `" : "; see docs/BENCH.md",
                            near != NULL ? near : "", near != NULL ? "`?" : "");
    }
    if (!read_bound(bound, ret->unit, &ret->bound)) {
        return mr_error_set(error, MR_INVALID, "--slo `%.*s`: expected a number %s", len, shown,
                            ret->unit == MR_LOAD_NS      ? "and its unit, such as 50ms (ns, us, ms, s)"
                            : ret->unit == MR_LOAD_BYTES ? "of bytes, such as 500MiB"
                                                         : "such as 0, 1.5, 100k or 2M");
    }
    return MR_OK;
}

enum mr_status mr_load_slo_parse(struct mr_load_slo *ret, const char *text, struct mr_error *error) {
    ret->count = 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        if (ret->count == MR_LOAD_SLO_TERMS) {
            return mr_error_set(error, MR_INVALID, "--slo: more than %d terms", MR_LOAD_SLO_TERMS);
        }
        enum mr_status status = parse_term(trim(mr_bytes_of(text, len)), &ret->terms[ret->count], error);
        if (status != MR_OK) {
            return status;
        }
        ret->count++;
        if (text[len] == '\0') {
            return MR_OK;
        }
        text += len + 1;
    }
}

bool mr_load_slo_holds(const struct mr_load_term *term, const struct mr_load_result *result,
                       double *ret_value) {
    enum mr_load_unit unit;
    double value;
    bool known = mr_load_result_value(result, term->name, &value, &unit);
    MR_ASSERT(known && unit == term->unit);
    *ret_value = value;
    if (isnan(value)) {
        return false;
    }
    switch (term->op) {
    case MR_LOAD_LESS:
        return value < term->bound;
    case MR_LOAD_AT_MOST:
        return value <= term->bound;
    case MR_LOAD_MORE:
        return value > term->bound;
    case MR_LOAD_AT_LEAST:
        return value >= term->bound;
    case MR_LOAD_EQUAL:
        return value >= term->bound && value <= term->bound;
    case MR_LOAD_UNEQUAL:
        return value < term->bound || value > term->bound;
    }
    MR_UNREACHABLE();
}

void mr_load_show_count(uint64_t count, char ret[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, count);
    char *to = ret;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            *to++ = ',';
        }
        *to++ = digits[i];
    }
    *to = '\0';
}

void mr_load_show(double value, enum mr_load_unit unit, char *ret, size_t cap) {
    char count[32];
    if (isnan(value)) {
        (void)snprintf(ret, cap, "not measured");
        return;
    }
    switch (unit) {
    case MR_LOAD_NS:
        (void)snprintf(ret, cap, value < 1e4 ? "%.2f us" : value < 1e6 ? "%.0f us" : value < 1e9 ? "%.2f ms" : "%.2f s",
                       value < 1e6 ? value / 1e3 : value < 1e9 ? value / 1e6 : value / 1e9);
        return;
    case MR_LOAD_BYTES:
        (void)snprintf(ret, cap, "%.1f MiB", value / (1 << 20));
        return;
    case MR_LOAD_CPU:
    case MR_LOAD_PLAIN:
        (void)snprintf(ret, cap, "%.3f s", value);
        return;
    case MR_LOAD_COUNT:
    case MR_LOAD_PER_SECOND:
        mr_load_show_count((uint64_t)value, count);
        (void)snprintf(ret, cap, "%s", count);
        return;
    }
    MR_UNREACHABLE();
}
