/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis row: a pane as the key of a hash and the arguments of the script that writes it.
 */
#include "sink/redis_row.h"

#include "base/check.h"
#include "base/json.h"
#include "base/key.h"
#include "base/time_text.h"

#include <math.h>
#include <stdio.h>

enum { NUMBER_TEXT = 40 };

/* ---- the key ---- */

static size_t count_digits(struct mr_bytes text, size_t at) {
    size_t i = at;
    while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9') {
        i++;
    }
    return i - at;
}

static bool is_number(struct mr_bytes text) {
    size_t i = text.len > 0 && text.ptr[0] == '-' ? 1 : 0;
    size_t digits = count_digits(text, i);
    if (digits == 0 || (digits > 1 && text.ptr[i] == '0')) {
        return false;
    }
    i += digits;
    if (i < text.len && text.ptr[i] == '.') {
        digits = count_digits(text, i + 1);
        if (digits == 0) {
            return false;
        }
        i += 1 + digits;
    }
    if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        i++;
        i += i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-');
        digits = count_digits(text, i);
        i += digits;
        return digits > 0 && i == text.len;
    }
    return i == text.len;
}

/* What stands bare for something that is no string. */
static bool needs_quotes(struct mr_bytes text) {
    static const char other[] = MR_KEY_OTHER_TEXT;
    bool like_other = text.len >= sizeof other - 1 && memcmp(text.ptr, other, sizeof other - 1) == 0;
    return like_other || is_number(text) || mr_bytes_equal(text, MR_BYTES("true")) ||
           mr_bytes_equal(text, MR_BYTES("false")) || mr_bytes_equal(text, MR_BYTES("null"));
}

static void append_string(struct mr_buf *buf, struct mr_bytes text) {
    bool quotes = needs_quotes(text);
    mr_buf_append_text(buf, quotes ? "\"" : "");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c < 0x20 || c == 0x7f || c == ':' || c == '%' || c == '"') {
            mr_buf_printf(buf, "%%%02X", c);
        } else {
            mr_buf_append_char(buf, (char)c);
        }
    }
    mr_buf_append_text(buf, quotes ? "\"" : "");
}

static void append_key_value(struct mr_buf *buf, const struct mr_key_value *value) {
    switch (value->tag) {
    case MR_KEY_NULL:
        mr_buf_append_text(buf, "null");
        return;
    case MR_KEY_TRUE:
    case MR_KEY_FALSE:
        mr_buf_append_text(buf, value->tag == MR_KEY_TRUE ? "true" : "false");
        return;
    case MR_KEY_NUMBER:
        mr_buf_append_bytes(buf, value->text);
        return;
    case MR_KEY_STRING:
        append_string(buf, value->text);
        return;
    case MR_KEY_OTHER:
    case MR_KEY_PANE:
        break;
    }
    MR_UNREACHABLE();
}

static void append_time(struct mr_buf *buf, int64_t ms) {
    char text[MR_TIME_TEXT_LEN + 1];
    if (mr_time_has_text(ms)) {
        mr_time_format(ms, text);
        mr_buf_append(buf, text, MR_TIME_TEXT_LEN);
    } else {
        mr_buf_printf(buf, "%lld", (long long)ms);
    }
}

/* What is behind the columns: nothing, or the index of a pane that is a row of its own. */
static bool append_index(struct mr_buf *buf, struct mr_bytes rest) {
    struct mr_key_value value;
    if (rest.len == 0) {
        return true;
    }
    if (!mr_key_next(&rest, &value) || value.tag != MR_KEY_PANE) {
        return false;
    }
    mr_buf_printf(buf, ":p%u", mr_key_read_pane(value.text));
    return rest.len == 0;
}

bool mr_redis_sink_key(struct mr_buf *ret, struct mr_bytes prefix, const struct mr_results_rule *rule,
                       const struct mr_pane *pane) {
    mr_buf_append_bytes(ret, prefix);
    mr_buf_append_bytes(ret, rule->name);
    mr_buf_append_char(ret, ':');
    append_time(ret, pane->window_start_ms);
    struct mr_bytes rest = pane->key;
    struct mr_key_value value;
    if (mr_key_is_other(pane->key)) {
        bool more = mr_key_next(&rest, &value);
        MR_ASSERT(more && value.text.len == 1);
        mr_buf_printf(ret, ":" MR_KEY_OTHER_TEXT ".%u", value.text.ptr[0]);
        return append_index(ret, rest);
    }
    for (uint32_t i = 0; i < rule->key_count; i++) {
        if (!mr_key_next(&rest, &value) || value.tag == MR_KEY_OTHER || value.tag == MR_KEY_PANE) {
            return false;
        }
        mr_buf_append_char(ret, ':');
        append_key_value(ret, &value);
    }
    return append_index(ret, rest);
}

/* ---- the arguments ---- */

static void put_argument(struct mr_redis_row *row, struct mr_bytes text) {
    uint32_t len = (uint32_t)text.len;
    mr_buf_append(&row->bytes, &len, sizeof len);
    mr_buf_append_bytes(&row->bytes, text);
    row->count++;
}

static void put_uint(struct mr_redis_row *row, uint64_t value) {
    char text[NUMBER_TEXT];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    put_argument(row, mr_bytes_of(text, (size_t)len));
}

static void put_time(struct mr_redis_row *row, const char *name, int64_t ms) {
    char text[MR_TIME_TEXT_LEN + 1];
    if (mr_time_has_text(ms)) {
        mr_time_format(ms, text);
        put_argument(row, mr_bytes_text(name));
        put_argument(row, mr_bytes_of(text, MR_TIME_TEXT_LEN));
    }
}

static void put_group(struct mr_redis_row *row, const struct mr_results_rule *rule, struct mr_bytes key) {
    bool other = mr_key_is_other(key);
    struct mr_key_value value = {.tag = MR_KEY_STRING, .text = MR_BYTES(MR_KEY_OTHER_TEXT)};
    for (uint32_t i = 0; i < rule->key_count; i++) {
        bool more = other || mr_key_next(&key, &value);
        MR_ASSERT(more && value.tag != MR_KEY_OTHER); /* mr_redis_sink_key has seen it */
        if (value.tag == MR_KEY_NULL) {
            continue;
        }
        put_argument(row, rule->key_names[i]);
        bool text = value.tag == MR_KEY_STRING || value.tag == MR_KEY_NUMBER;
        put_argument(row, text                        ? value.text
                          : value.tag == MR_KEY_TRUE ? MR_BYTES("true")
                                                      : MR_BYTES("false"));
    }
}

static void put_number(struct mr_redis_row *row, struct mr_bytes name, const struct mr_number *number) {
    char text[NUMBER_TEXT];
    struct mr_bytes value = mr_bytes_of(text, 0);
    switch (number->kind) {
    case MR_NUMBER_NULL:
        return;
    case MR_NUMBER_INT:
        value.len = (size_t)snprintf(text, sizeof text, "%lld", (long long)number->i);
        break;
    case MR_NUMBER_DOUBLE:
    case MR_NUMBER_OVERFLOW:
        if (!isfinite(number->d)) {
            return;
        }
        value.len = mr_double_text(number->d, text);
        break;
    case MR_NUMBER_BOOL:
        value = number->i != 0 ? MR_BYTES("true") : MR_BYTES("false");
        break;
    case MR_NUMBER_TEXT:
    case MR_NUMBER_JSON:
        value = mr_bytes_of(number->text, number->len);
        break;
    }
    put_argument(row, name);
    put_argument(row, value);
}

static void put_overflow(struct mr_redis_row *row, const struct mr_results_rule *rule,
                         const struct mr_pane *pane) {
    struct mr_buf names;
    mr_buf_init(&names, MR_REDIS_ROW_BYTES_MAX);
    for (uint32_t i = 0; i < pane->number_count; i++) {
        if (pane->numbers[i].kind == MR_NUMBER_OVERFLOW) {
            mr_buf_append_text(&names, names.len == 0 ? "" : ",");
            mr_buf_append_bytes(&names, rule->metric_names[i]);
        }
    }
    if (names.len > 0) {
        put_argument(row, MR_BYTES("_overflow"));
        put_argument(row, mr_buf_bytes(&names));
    }
    row->bytes.failed = row->bytes.failed || names.failed;
    mr_buf_finish(&names);
}

void mr_redis_row_init(struct mr_redis_row *row) {
    *row = (struct mr_redis_row){0};
    mr_buf_init(&row->bytes, MR_REDIS_ROW_BYTES_MAX);
}

void mr_redis_row_finish(struct mr_redis_row *row) {
    mr_buf_finish(&row->bytes);
}

static bool put_key(struct mr_redis_row *row, struct mr_bytes prefix, const struct mr_results_rule *rule,
                    const struct mr_pane *pane) {
    uint32_t len = 0;
    mr_buf_append(&row->bytes, &len, sizeof len);
    bool valid = mr_redis_sink_key(&row->bytes, prefix, rule, pane);
    if (!row->bytes.failed) {
        len = (uint32_t)(row->bytes.len - sizeof len);
        memcpy(row->bytes.ptr, &len, sizeof len);
    }
    row->count = 1;
    return valid;
}

enum mr_status mr_redis_row_set(struct mr_redis_row *row, const struct mr_redis_row_target *target,
                                const struct mr_results_rule *rule, const struct mr_pane *pane) {
    static const char *const timings[3] = {"EARLY", "ON_TIME", "LATE"};
    MR_ASSERT(pane->retraction || pane->number_count == rule->metric_count);
    mr_buf_clear(&row->bytes);
    row->revision = pane->revision;
    row->epoch = target->epoch;
    row->rank = pane->retraction ? MR_REDIS_RETRACTED : pane->final ? MR_REDIS_FINAL : MR_REDIS_OPEN;
    if (!put_key(row, target->prefix, rule, pane)) {
        return MR_CORRUPT;
    }
    put_uint(row, target->epoch);
    put_uint(row, pane->revision);
    put_uint(row, row->rank);
    if (target->ttl_ms != INT64_MAX) {
        put_uint(row, (uint64_t)target->ttl_ms);
    } else if (pane->retraction) {
        put_uint(row, MR_REDIS_TOMBSTONE_MS);
    } else {
        put_argument(row, MR_BYTES(""));
    }
    if (pane->retraction) {
        return row->bytes.failed ? MR_NO_MEMORY : MR_OK;
    }
    put_time(row, "window_start", pane->window_start_ms);
    put_time(row, "window_end", pane->window_end_ms);
    put_group(row, rule, pane->key);
    for (uint32_t i = 0; i < pane->number_count; i++) {
        put_number(row, rule->metric_names[i], &pane->numbers[i]);
    }
    put_argument(row, MR_BYTES("events"));
    put_uint(row, pane->events);
    put_argument(row, MR_BYTES("pane"));
    put_uint(row, pane->index);
    put_argument(row, MR_BYTES("timing"));
    put_argument(row, mr_bytes_text(timings[pane->timing]));
    put_overflow(row, rule, pane);
    return row->bytes.failed ? MR_NO_MEMORY : MR_OK;
}

struct mr_bytes mr_redis_row_key(const struct mr_redis_row *row) {
    uint32_t len;
    MR_ASSERT(row->count > 0 && row->bytes.len > sizeof len);
    memcpy(&len, row->bytes.ptr, sizeof len);
    return mr_bytes_of(row->bytes.ptr + sizeof len, len);
}

void mr_redis_row_arguments(const struct mr_redis_row *row, struct mr_bytes *ret) {
    const uint8_t *at = row->bytes.ptr;
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t len;
        memcpy(&len, at, sizeof len);
        ret[i] = mr_bytes_of(at + sizeof len, len);
        at += sizeof len + len;
    }
    MR_ASSERT(at == row->bytes.ptr + row->bytes.len);
}

bool mr_redis_row_is_newer(const struct mr_redis_row *a, const struct mr_redis_row *b) {
    if (a->epoch != b->epoch) {
        return a->epoch > b->epoch;
    }
    return a->revision != b->revision ? a->revision > b->revision : a->rank > b->rank;
}

/* ---- the script ---- */

/* Numbers are decimal texts: those of the same length compare as texts, and Lua's numbers end at 2^53. What the hash
 * had goes first, or a metric that is null now would stay. A hash without `final` is what a retraction left: a column
 * may be called `retracted`, none is called `final`. */
static const char script[] =
    "-- millrace: the newest result of a group, see sink/redis_sink.h\n"
    "local key, epoch, revision, rank = KEYS[1], ARGV[1], ARGV[2], ARGV[3]\n"
    "local function later(a, b) return #a > #b or (#a == #b and a > b) end\n"
    "local old = redis.call('HMGET', key, '_epoch', 'revision', 'final', 'retracted')\n"
    "if old[1] and old[2] and (old[3] or old[4]) then\n"
    "    if later(old[1], epoch) then return -1 end\n"
    "    if old[1] == epoch then\n"
    "        if later(old[2], revision) then return 0 end\n"
    "        if old[2] == revision and (old[3] or '2') >= rank then return 0 end\n"
    "    end\n"
    "    redis.call('DEL', key)\n"
    "elseif redis.call('EXISTS', key) == 1 then\n"
    "    return redis.error_reply('WRONGTYPE this hash is not one that millrace wrote')\n"
    "end\n"
    "if rank == '2' then\n"
    "    redis.call('HSET', key, '_epoch', epoch, 'revision', revision, 'retracted', '1')\n"
    "else\n"
    "    redis.call('HSET', key, '_epoch', epoch, 'revision', revision, 'final', rank, unpack(ARGV, 5))\n"
    "end\n"
    "if ARGV[4] ~= '' then redis.call('PEXPIRE', key, ARGV[4]) end\n"
    "return 1\n";

const char mr_redis_sink_sha[41] = "84562fb62e3f59159bc8465b3860bf2f152a8a43";

struct mr_bytes mr_redis_sink_script(void) {
    return mr_bytes_of(script, sizeof script - 1);
}
