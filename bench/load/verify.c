/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/verify.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/time_text.h"
#include "bench/load/reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { ANSWER_MAX = 1 << 30, TEXT_MAX = 64 << 10, SHOWN_MAX = 5, PAGE_ROWS = 10000, BEFORE_MS = 120000,
       SETTLE_TRIES = 200, SETTLE_MS = 50 };

void mr_load_verify_init(struct mr_load_verify *verify, const struct mr_load_options *options,
                         const struct mr_load_target *target, const struct mr_load_plan *plan,
                         const struct mr_load_events *events, const struct mr_load_names *names) {
    *verify = (struct mr_load_verify){
        .options = options, .target = target, .plan = plan, .events = events, .names = names,
        .stream = options->stream != NULL ? options->stream : names->stream,
        .rule = options->rule != NULL ? options->rule : names->rule,
    };
    mr_load_table_init(&verify->expected, names->kind);
    mr_buf_init(&verify->in, ANSWER_MAX);
    mr_buf_init(&verify->chunks, ANSWER_MAX);
    mr_buf_init(&verify->text, TEXT_MAX);
}

void mr_load_verify_finish(struct mr_load_verify *verify) {
    mr_load_table_finish(&verify->expected);
    mr_buf_finish(&verify->in);
    mr_buf_finish(&verify->chunks);
    mr_buf_finish(&verify->text);
}

__attribute__((format(printf, 2, 3))) static void mismatch(struct mr_load_verify *v, const char *format, ...) {
    char line[512];
    va_list args;
    v->mismatches++;
    if (v->mismatches > SHOWN_MAX) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args); /* cut is fine */
    va_end(args);
    mr_buf_printf(&v->text, "%s\n", line);
}

static enum mr_status get_counters(struct mr_load_verify *v, struct mr_load_counters *ret, struct mr_error *error) {
    char path[256];
    struct mr_load_answer answer;
    struct mr_bytes counters;
    (void)snprintf(path, sizeof path, "/v1/streams/%s", v->stream);
    enum mr_status status = mr_load_target_get_ok(v->target, path, &v->in, &v->chunks, &answer, error);
    if (status != MR_OK) {
        return status;
    }
    bool found = mr_load_member(answer.body, "counters", &counters) &&
                 mr_load_member_uint(counters, "received", &ret->received) &&
                 mr_load_member_uint(counters, "accepted", &ret->accepted) &&
                 mr_load_member_uint(counters, "duplicate", &ret->duplicate) &&
                 mr_load_member_uint(counters, "late", &ret->late) &&
                 mr_load_member_uint(counters, "rejected", &ret->rejected);
    return found ? MR_OK : mr_error_set(error, MR_MISMATCH, "GET %s: no counters in the answer", path);
}

static bool row_time(struct mr_bytes line, const char *name, int64_t *ret) {
    struct mr_bytes text;
    return mr_load_member(line, name, &text) && mr_time_parse(mr_load_unquoted(text), ret);
}

/* The sum in eighths, or the greatest: whole. */
static bool row_second(const struct mr_load_verify *v, struct mr_bytes line, int64_t *ret) {
    struct mr_bytes text;
    double value;
    if (!mr_load_member_in(line, "metrics", v->names->second, &text) || !mr_load_number(text, &value)) {
        return false;
    }
    value *= v->names->kind == MR_LOAD_SUM_EIGHTHS ? 8 : 1;
    if (fabs(value) > 9e15 || floor(value) < value) {
        return false;
    }
    *ret = (int64_t)value;
    return true;
}

bool mr_load_verify_row(const struct mr_load_verify *v, struct mr_bytes line, struct mr_load_row *ret,
                        const char **ret_problem) {
    struct mr_load_row row = {0};
    struct mr_bytes text;
    struct mr_bytes metrics;
    int64_t end_ms;
    uint64_t events;
    *ret_problem = "not a row of a rule";
    if (!row_time(line, "window_start", &row.window_ms) || !row_time(line, "window_end", &end_ms) ||
        !mr_load_member(line, "key", &text) || !mr_load_member(line, "metrics", &metrics) ||
        !mr_load_member_uint(line, "events", &events)) {
        return false;
    }
    *ret_problem = "a key that was never sent (the overflow group? then raise groups.max)";
    if (!mr_load_events_group(v->events, text, &row.group)) {
        return false;
    }
    *ret_problem = "not a window of 10 s";
    if (end_ms - row.window_ms != MR_LOAD_WINDOW_MS) {
        return false;
    }
    *ret_problem = "its count metric is missing, or is not the number of its events";
    if (!mr_load_member_uint(metrics, v->names->count, &row.count) || row.count != events || events == 0) {
        return false;
    }
    *ret_problem = "its second metric is missing, or no number that these events add up to";
    if (v->names->second != NULL && !row_second(v, line, &row.second)) {
        return false;
    }
    *ret = row;
    return true;
}

static void compare(struct mr_load_verify *v, const struct mr_load_row *row) {
    char group[128];
    char time[MR_TIME_TEXT_LEN + 1];
    struct mr_load_row *expected = mr_load_table_find(&v->expected, row->window_ms, row->group);
    double scale = v->names->kind == MR_LOAD_SUM_EIGHTHS ? 8 : 1;
    bool again = expected != NULL && expected->matched;
    bool equal = expected != NULL && !again && expected->count == row->count && expected->second == row->second;
    if (expected != NULL) {
        expected->matched = true;
    }
    if (equal) {
        return;
    }
    mr_load_events_show_group(v->events, row->group, group, sizeof group);
    mr_time_format(row->window_ms, time);
    if (expected == NULL || again) {
        mismatch(v, "window %s, %s: %" PRIu64 " events, %s", time, group, row->count,
                 again ? "a second row" : "but none was sent");
    } else {
        mismatch(v, "window %s, %s: %" PRIu64 " events, %.15g; expected %" PRIu64 ", %.15g", time, group, row->count,
                 (double)row->second / scale, expected->count, (double)expected->second / scale);
    }
}

/* One line: before the run it is added to what is expected, after it compared. */
static enum mr_status take_line(struct mr_load_verify *v, struct mr_bytes line, bool before, struct mr_error *error) {
    struct mr_load_row row;
    const char *problem;
    if (!mr_load_verify_row(v, line, &row, &problem)) {
        if (before) {
            return mr_error_set(error, MR_MISMATCH, "rule %s has a row that this workload cannot make: %s: %.*s", v->rule,
                                problem, (int)(line.len < 300 ? line.len : 300), (const char *)line.ptr);
        }
        mismatch(v, "%s: %.*s", problem, (int)(line.len < 300 ? line.len : 300), (const char *)line.ptr);
        return MR_OK;
    }
    if (before) {
        return mr_load_table_add(&v->expected, row.window_ms, row.group, row.count, row.second) == MR_OK
                   ? MR_OK
                   : mr_error_set(error, MR_NO_MEMORY, "no memory for the rows");
    }
    compare(v, &row);
    v->rows++;
    return MR_OK;
}

static enum mr_status take_page(struct mr_load_verify *v, struct mr_bytes body, bool before, struct mr_error *error) {
    size_t at = 0;
    enum mr_status status = MR_OK;
    while (at < body.len && status == MR_OK) {
        const uint8_t *newline = memchr(body.ptr + at, '\n', body.len - at);
        size_t end = newline == NULL ? body.len : (size_t)(newline - body.ptr);
        if (end > at) {
            status = take_line(v, mr_bytes_of(body.ptr + at, end - at), before, error);
        }
        at = end + 1;
    }
    return status;
}

static enum mr_status take_rows(struct mr_load_verify *v, bool before, struct mr_error *error) {
    char cursor[2048] = "";
    do {
        char path[sizeof cursor + 256];
        struct mr_load_answer answer;
        (void)snprintf(path, sizeof path, "/v1/rules/%s/windows?format=ndjson&state=all&limit=%d&from=%" PRId64 "%s%s",
                       v->rule, PAGE_ROWS, v->from_ms, cursor[0] != '\0' ? "&cursor=" : "", cursor);
        enum mr_status status = mr_load_target_get_ok(v->target, path, &v->in, &v->chunks, &answer, error);
        if (status == MR_OK && answer.cursor.len >= sizeof cursor) {
            status = mr_error_set(error, MR_LIMIT, "a cursor of %zu bytes", answer.cursor.len);
        }
        if (status == MR_OK) {
            memcpy(cursor, answer.cursor.ptr == NULL ? (const uint8_t *)"" : answer.cursor.ptr, answer.cursor.len);
            cursor[answer.cursor.len] = '\0';
            status = take_page(v, answer.body, before, error);
        }
        if (status != MR_OK) {
            return status;
        }
    } while (cursor[0] != '\0');
    return MR_OK;
}

enum mr_status mr_load_verify_begin(struct mr_load_verify *v, struct mr_error *error) {
    enum mr_status status = get_counters(v, &v->before, error);
    if (status != MR_OK || v->plan == NULL) {
        return status;
    }
    int64_t start_ms = v->plan->o.timed ? v->plan->o.start_ms : mr_clock_wall_ms(mr_clock_system());
    v->from_ms = mr_load_window_of(start_ms - v->plan->o.disorder_ms - BEFORE_MS);
    return take_rows(v, true, error);
}

/* Events that an outage keeps undecided come later; all else is there when it was acknowledged. */
static enum mr_status settle(struct mr_load_verify *v, struct mr_load_counters *ret, struct mr_error *error) {
    for (int i = 0; i < SETTLE_TRIES; i++) {
        enum mr_status status = get_counters(v, ret, error);
        if (status != MR_OK || ret->received == ret->accepted + ret->duplicate + ret->late + ret->rejected) {
            return status;
        }
        struct timespec pause = {.tv_nsec = SETTLE_MS * 1000000L};
        (void)nanosleep(&pause, NULL); /* asking again early does no harm */
    }
    return MR_OK;
}

static void check_count(struct mr_load_verify *v, const char *who, const char *what, uint64_t got, uint64_t expected) {
    if (got != expected) {
        mismatch(v, "%s: %s %" PRIu64 ", expected %" PRIu64, who, what, got, expected);
    }
}

static void check_verdicts(struct mr_load_verify *v, const struct mr_load_sent *sent,
                           const struct mr_load_counters *now, const struct mr_load_verdicts *truth) {
    uint64_t taken = now->received - v->before.received;
    const struct mr_load_counters *a = &sent->answered;
    check_count(v, "server", "accepted", now->accepted - v->before.accepted, truth->accepted);
    check_count(v, "server", "late", now->late - v->before.late, truth->late);
    check_count(v, "server", "rejected", now->rejected - v->before.rejected, 0);
    check_count(v, "server", "duplicate", now->duplicate - v->before.duplicate, taken - truth->accepted - truth->late);
    if (taken < sent->slots || taken > sent->slots + sent->uncertain) {
        mismatch(v, "server: received %" PRIu64 ", sent %" PRIu64, taken, sent->slots);
    }
    /* What was taken by a sending whose answer was lost is a duplicate in the answer that came. */
    uint64_t own = a->duplicate - truth->duplicate;
    bool fits = a->duplicate >= truth->duplicate && own <= sent->uncertain &&
                a->accepted + a->late + own == truth->accepted + truth->late;
    if (!fits || (own == 0 && a->accepted != truth->accepted)) {
        mismatch(v, "answers: accepted %" PRIu64 ", duplicate %" PRIu64 ", late %" PRIu64 "; expected %" PRIu64
                    ", %" PRIu64 ", %" PRIu64, a->accepted, a->duplicate, a->late, truth->accepted, truth->duplicate,
                 truth->late);
    }
}

/* Without a truth: what was answered is what is counted. */
static void check_conservation(struct mr_load_verify *v, const struct mr_load_sent *sent,
                               const struct mr_load_counters *now) {
    const struct mr_load_counters *a = &sent->answered;
    uint64_t taken = now->received - v->before.received;
    if (taken < a->received || taken > a->received + sent->uncertain) {
        mismatch(v, "server: received %" PRIu64 ", sent %" PRIu64, taken, a->received);
    }
    if (sent->uncertain == 0) {
        check_count(v, "server", "accepted", now->accepted - v->before.accepted, a->accepted);
        check_count(v, "server", "duplicate", now->duplicate - v->before.duplicate, a->duplicate);
        check_count(v, "server", "late", now->late - v->before.late, a->late);
        check_count(v, "server", "rejected", now->rejected - v->before.rejected, a->rejected);
    }
}

static void check_missing(struct mr_load_verify *v) {
    for (uint64_t i = 0; i < v->expected.capacity; i++) {
        const struct mr_load_row *row = &v->expected.rows[i];
        if (row->count > 0 && !row->matched) {
            char group[128];
            char time[MR_TIME_TEXT_LEN + 1];
            mr_load_events_show_group(v->events, row->group, group, sizeof group);
            mr_time_format(row->window_ms, time);
            mismatch(v, "window %s, %s: no row; expected %" PRIu64 " events", time, group, row->count);
        }
    }
}

enum mr_status mr_load_verify_end(struct mr_load_verify *v, const struct mr_load_sent *sent, struct mr_error *error) {
    struct mr_load_counters now;
    enum mr_status status = settle(v, &now, error);
    if (status != MR_OK) {
        return status;
    }
    if (v->plan == NULL) {
        check_conservation(v, sent, &now);
        return MR_OK;
    }
    struct mr_load_verdicts truth;
    if (mr_load_truth(v->plan, v->events, sent->slots, &v->expected, &truth) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "no memory for the truth");
    }
    check_verdicts(v, sent, &now, &truth);
    status = take_rows(v, false, error);
    if (status != MR_OK) {
        return status;
    }
    check_missing(v);
    if (v->mismatches > SHOWN_MAX) {
        mr_buf_printf(&v->text, "… and %" PRIu64 " more\n", v->mismatches - SHOWN_MAX);
    }
    if (v->mismatches > 0 && sent->behind_ms > mr_load_options_lateness_ms(v->options)) {
        mr_buf_printf(&v->text, "note: a request was taken %.1f s of event time behind the newest: its events may rightly "
                                "be late. Use a lower --rate or --time-rate, or a longer allowed_lateness.\n",
                      (double)sent->behind_ms / 1000);
    }
    return MR_OK;
}
