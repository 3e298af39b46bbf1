/* SPDX-License-Identifier: Apache-2.0 */
#include "base/report.h"

#include "base/check.h"
#include "base/time_text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MAX_LEN = 4096, /* what a pipe takes in one piece (PIPE_BUF), so that lines never mix */
    EVENTS_MAX = 128,    /* event names are constants of the program; over it see find_limit */
    BURST_MAX = 10,
    VALUE_CAP_MIN = 8,
};

static const uint64_t window_ns = UINT64_C(10000000000);

/* How often one event was reported in its window, which began with the first report. */
struct limit {
    const char *event;
    enum mr_level level; /* of the latest */
    uint64_t begin_ns;
    uint64_t count; /* BURST_MAX of these were written */
};

/* Made in main before threads start, and constant after. */
static int report_fd = STDERR_FILENO;
static enum mr_level report_least = MR_LEVEL_INFO;
static struct mr_clock *report_clock; /* NULL: the system's */

/* Reports are rare, and a lock is what keeps them so. */
static pthread_mutex_t limits_lock = PTHREAD_MUTEX_INITIALIZER;
static struct limit limits[EVENTS_MAX];
static uint32_t limit_count;

static void lock(void) {
    int failed = pthread_mutex_lock(&limits_lock);
    MR_ASSERT(failed == 0);
}

static void unlock(void) {
    int failed = pthread_mutex_unlock(&limits_lock);
    MR_ASSERT(failed == 0);
}

void mr_report_configure(int fd, enum mr_level least, struct mr_clock *clock) {
    MR_ASSERT(fd >= -1 && least <= MR_LEVEL_ERROR);
    lock();
    report_fd = fd;
    report_least = least;
    report_clock = clock;
    limit_count = 0;
    unlock();
}

static struct mr_clock *clock_in_use(void) {
    return report_clock == NULL ? mr_clock_system() : report_clock;
}

static bool is_control(uint8_t c) {
    return c < 0x20 || c == 0x7F;
}

static bool is_event_name(const char *event) {
    size_t len = strspn(event, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && event[len] == 0;
}

/* One line, one write(). The values are escaped by the caller; a control character that still got
 * here would forge a line or drive the terminal, so it is made visible and harmless. */
static void write_line(enum mr_level level, const char *event, const char *fields) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LINE_MAX_LEN];
    char ts[MR_TIME_TEXT_LEN + 1];
    mr_time_format(mr_clock_wall_ms(clock_in_use()), ts);
    int wanted = snprintf(line, sizeof line, "ts=%s level=%s event=%s%s%s", ts, names[level], event,
                          fields[0] == 0 ? "" : " ", fields);
    MR_ASSERT(wanted > 0);
    size_t len = (size_t)wanted;
    if (len > sizeof line - 1) {
        len = sizeof line - 1 - 4;
        while (((uint8_t)line[len] & 0xC0) == 0x80) { /* not within a character */
            len--;
        }
        memcpy(line + len, " ...", 4);
        len += 4;
    }
    for (size_t i = 0; i < len; i++) {
        line[i] = is_control((uint8_t)line[i]) ? '?' : line[i];
    }
    line[len] = '\n';
    ssize_t written = write(report_fd, line, len + 1);
    (void)written; /* there is nobody left to tell */
}

static bool window_ended(const struct limit *limit, uint64_t now_ns) {
    return now_ns - limit->begin_ns >= window_ns;
}

static uint64_t suppressed(const struct limit *limit) {
    return limit->count > BURST_MAX ? limit->count - BURST_MAX : 0;
}

/* Takes out of the table one event that has something suppressed to be said, its window being over
 * (or at once, if `all`). */
static bool take_unsaid(uint64_t now_ns, bool all, struct limit *ret) {
    bool found = false;
    lock();
    for (uint32_t i = 0; i < limit_count && !found; i++) {
        struct limit *limit = &limits[i];
        if (suppressed(limit) > 0 && (all || window_ended(limit, now_ns))) {
            *ret = *limit;
            *limit = limits[--limit_count];
            found = true;
        }
    }
    unlock();
    return found;
}

static void say_suppressed(bool all) {
    struct limit limit;
    uint64_t now_ns = mr_clock_mono_ns(clock_in_use());
    while (take_unsaid(now_ns, all, &limit)) {
        char fields[32];
        (void)snprintf(fields, sizeof fields, "suppressed=%llu",
                       (unsigned long long)suppressed(&limit));
        write_line(limit.level, limit.event, fields);
    }
}

/* The entry of an event, new if need be. Full: the entry whose window began first makes room, and
 * what it suppressed is not said; the table is larger than the program has events. */
static struct limit *find_limit(const char *event, uint64_t now_ns) {
    struct limit *oldest = &limits[0];
    for (uint32_t i = 0; i < limit_count; i++) {
        if (strcmp(limits[i].event, event) == 0) {
            return &limits[i];
        }
        oldest = limits[i].begin_ns < oldest->begin_ns ? &limits[i] : oldest;
    }
    struct limit *fresh = limit_count < EVENTS_MAX ? &limits[limit_count++] : oldest;
    *fresh = (struct limit){.event = event, .begin_ns = now_ns};
    return fresh;
}

static bool admit(enum mr_level level, const char *event) {
    uint64_t now_ns = mr_clock_mono_ns(clock_in_use());
    lock();
    struct limit *limit = find_limit(event, now_ns);
    if (window_ended(limit, now_ns)) {
        limit->begin_ns = now_ns; /* say_suppressed came before: nothing unsaid is lost */
        limit->count = 0;
    }
    limit->count++;
    limit->level = level;
    bool admitted = limit->count <= BURST_MAX;
    unlock();
    return admitted;
}

void mr_report(enum mr_level level, const char *event, const char *format, ...) {
    MR_ASSERT(level <= MR_LEVEL_ERROR);
    MR_ASSERT(is_event_name(event));
    if (report_fd < 0 || level < report_least) {
        return;
    }
    say_suppressed(false);
    if (!admit(level, event)) {
        return;
    }
    char fields[LINE_MAX_LEN];
    va_list args;
    va_start(args, format);
    int wanted =
        vsnprintf(fields, sizeof fields, format, args); /* cut by write_line, which says so */
    va_end(args);
    MR_ASSERT(wanted >= 0);
    write_line(level, event, fields);
}

void mr_report_flush(void) {
    if (report_fd >= 0) {
        say_suppressed(true);
    }
}

/* The length of the UTF-8 sequence at the front of text, 0 when it is none or a C1 control
 * character, which some terminals obey. */
static size_t utf8_printable(const uint8_t *text) {
    uint8_t first = text[0];
    size_t len = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    uint8_t least = first == 0xE0 || first == 0xC2 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (first < 0xC2 || first > 0xF4) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) { /* the NUL at the end is no continuation byte */
        if (text[i] < least || text[i] > most) {
            return 0;
        }
        least = 0x80;
        most = 0xBF;
    }
    return len;
}

/* Writes the first character of text as it is to be shown; returns the length, and how much of the
 * text that was. */
static size_t show(const uint8_t *text, char ret[4], size_t *ret_taken) {
    static const char hex[] = "0123456789abcdef";
    uint8_t c = text[0];
    size_t len = c < 0x80 ? 0 : utf8_printable(text);
    if (len > 0 || (c < 0x80 && !is_control(c) && c != '"' && c != '\\')) {
        *ret_taken = len > 0 ? len : 1;
        memcpy(ret, text, *ret_taken);
        return *ret_taken;
    }
    *ret_taken = 1;
    ret[0] = '\\';
    ret[1] = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : (char)c;
    if (ret[1] != (char)c || c == '"' || c == '\\') {
        return 2;
    }
    ret[1] = 'x';
    ret[2] = hex[c >> 4];
    ret[3] = hex[c & 15];
    return 4;
}

const char *mr_report_value(const char *text, char *ret, size_t cap) {
    MR_ASSERT(cap >= VALUE_CAP_MIN);
    const uint8_t *at = (const uint8_t *)text;
    size_t len = 0;
    size_t cut = 1; /* the last place where ..." and NUL still fit */
    ret[len++] = '"';
    while (*at != 0) {
        char shown[4];
        size_t taken;
        size_t shown_len = show(at, shown, &taken);
        if (len + 5 <= cap) {
            cut = len;
        }
        if (len + shown_len + 2 > cap) {
            MR_ASSERT(cut + 5 <= cap);
            memcpy(ret + cut, "...\"", 5);
            return ret;
        }
        memcpy(ret + len, shown, shown_len);
        len += shown_len;
        at += taken;
    }
    memcpy(ret + len, "\"", 2);
    return ret;
}
