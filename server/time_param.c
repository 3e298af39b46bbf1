/* SPDX-License-Identifier: Apache-2.0 */
#include "server/time_param.h"

#include "base/check.h"
#include "base/time_text.h"
#include "server/params.h"

enum { TEXT_MAX = 64, DATE_LEN = 10, OFFSET_LEN = 6 };

/* "now", "now-1h", "now+5m". */
static bool parse_relative(struct mr_bytes text, int64_t now_ms, int64_t *ret) {
    if (text.len < 3 || memcmp(text.ptr, "now", 3) != 0) {
        return false;
    }
    if (text.len == 3) {
        *ret = now_ms;
        return true;
    }
    char sign = (char)text.ptr[3];
    int64_t distance = 0;
    if ((sign != '-' && sign != '+' && sign != ' ') ||
        !mr_duration_parse(mr_bytes_of(text.ptr + 4, text.len - 4), &distance)) {
        return false;
    }
    return sign == '-' ? !__builtin_sub_overflow(now_ms, distance, ret)
                       : !__builtin_add_overflow(now_ms, distance, ret);
}

static bool parse_epoch(struct mr_bytes text, int64_t *ret) {
    bool negative = text.len > 0 && text.ptr[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == text.len || text.len - at > 15) { /* 15 digits hold every year up to 9999 */
        return false;
    }
    int64_t value = 0;
    for (; at < text.len; at++) {
        if (text.ptr[at] < '0' || text.ptr[at] > '9') {
            return false;
        }
        value = value * 10 + (text.ptr[at] - '0');
    }
    *ret = negative ? -value : value;
    return true;
}

static bool parse_rfc3339(struct mr_bytes text, int64_t *ret) {
    char copy[TEXT_MAX];
    if (text.len < DATE_LEN || text.len > sizeof copy - sizeof "T00:00:00Z") {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    size_t len = text.len;
    if (len == DATE_LEN) {
        memcpy(copy + len, "T00:00:00Z", 10);
        len += 10;
    } else if (len > DATE_LEN + OFFSET_LEN && copy[len - OFFSET_LEN] == ' ') {
        copy[len - OFFSET_LEN] = '+'; /* 2026-11-22T06:54:00+01:00, decoded as a form */
    }
    return mr_time_parse(mr_bytes_of(copy, len), ret);
}

enum mr_status mr_time_param(const char *name, struct mr_bytes text, int64_t now_ms,
                             int64_t *ret_ms, struct mr_error *error) {
    int64_t ms = 0;
    bool understood =
        parse_relative(text, now_ms, &ms) || parse_epoch(text, &ms) || parse_rfc3339(text, &ms);
    if (!understood || !mr_time_has_text(ms)) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `%s`: `%s`; expected RFC 3339 "
                            "(2026-11-22T05:54:00Z), epoch milliseconds, now or now-1h%s",
                            name, mr_quote(text).text,
                            understood ? ", in the years 0 to 9999" : "");
    }
    MR_ASSERT(mr_time_has_text(ms));
    *ret_ms = ms;
    return MR_OK;
}
