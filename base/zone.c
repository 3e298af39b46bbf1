/* SPDX-License-Identifier: Apache-2.0 */
#include "base/zone.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/wide.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum { SHIFTS_MAX = 4096, DAY_S = 86400, MS = 1000 };

/* From at_ms on the local clock is UTC plus offset_ms. */
struct shift {
    int64_t at_ms;
    int64_t offset_ms;
};

struct mr_zone {
    uint32_t count; /* at least 1 */
    struct shift shifts[];
};

static int64_t offset_s(int64_t at_s) {
    time_t t = (time_t)at_s;
    struct tm tm;
    return localtime_r(&t, &tm) == NULL ? 0 : (int64_t)tm.tm_gmtoff;
}

/* The first second in (from, to] at which the offset is another one than at `from`; there is one at `to`. */
static int64_t find_shift(int64_t from, int64_t to) {
    int64_t before = offset_s(from);
    while (to - from > 1) {
        int64_t middle = from + (to - from) / 2;
        if (offset_s(middle) == before) {
            from = middle;
        } else {
            to = middle;
        }
    }
    return to;
}

/* Clocks stay as they are for more than a day. */
static uint32_t find_shifts(struct shift *shifts) {
    int64_t at = MR_TIME_MIN_MS / MS - 2 * DAY_S;
    int64_t end = MR_TIME_MAX_MS / MS + 2 * DAY_S;
    uint32_t count = 0;
    shifts[count++] = (struct shift){INT64_MIN, offset_s(at) * MS};
    for (; at < end; at += DAY_S) {
        int64_t from = at;
        while (count < SHIFTS_MAX && offset_s(from) != offset_s(at + DAY_S)) {
            from = find_shift(from, at + DAY_S);
            shifts[count++] = (struct shift){from * MS, offset_s(from) * MS};
        }
    }
    return count;
}

/* A name such as Europe/Berlin, of a file in one of the places where zones lie. */
static bool is_known(const char *name) {
    static const char *const places[] = {"/usr/share/zoneinfo", "/usr/lib/zoneinfo"};
    char path[128];
    struct stat st;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int len = snprintf(path, sizeof path, "%s/%s", places[i], name);
        if (len > 0 && (size_t)len < sizeof path && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            return true;
        }
    }
    return false;
}

static bool is_name(struct mr_bytes name) {
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        bool other = (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+' || c == '/';
        if (!letter && !(i > 0 && other)) {
            return false;
        }
    }
    return name.len > 0 && name.len <= MR_ZONE_NAME_MAX;
}

bool mr_zone_is_known(struct mr_bytes name) {
    char text[MR_ZONE_NAME_MAX + 1] = "";
    if (!is_name(name)) {
        return false;
    }
    memcpy(text, name.ptr, name.len);
    return is_known(text);
}

enum mr_status mr_zone_open(struct mr_bytes name, struct mr_zone **ret, struct mr_error *error) {
    if (!mr_zone_is_known(name)) {
        return mr_error_set(error, MR_INVALID,
                            "no time zone `%.*s` on this machine; expected a name such as Europe/Berlin (package tzdata)",
                            (int)(name.len < MR_ZONE_NAME_MAX ? name.len : MR_ZONE_NAME_MAX), (const char *)name.ptr);
    }
    char text[MR_ZONE_NAME_MAX + 1] = "";
    memcpy(text, name.ptr, name.len);
    struct mr_zone *zone = mr_alloc(sizeof *zone + SHIFTS_MAX * sizeof zone->shifts[0]);
    const char *was = getenv("TZ");
    char *before = was == NULL ? NULL : strdup(was);
    if (zone == NULL || (was != NULL && before == NULL) || setenv("TZ", text, 1) != 0) {
        mr_free(zone);
        free(before);
        return mr_error_set(error, MR_NO_MEMORY, "out of memory reading time zone %s", text);
    }
    tzset();
    zone->count = find_shifts(zone->shifts);
    if (before != NULL) {
        (void)setenv("TZ", before, 1); /* it had room for it before */
    } else {
        (void)unsetenv("TZ");
    }
    tzset();
    free(before);
    *ret = zone;
    return MR_OK;
}

void mr_zone_close(struct mr_zone *zone) {
    mr_free(zone);
}

/* The shift that holds at time_ms. */
static const struct shift *shift_at(const struct mr_zone *zone, __int128_t time_ms) {
    uint32_t low = 0;
    uint32_t high = zone->count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (zone->shifts[middle].at_ms <= time_ms) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &zone->shifts[low];
}

/* The first instant at which the local clock shows local_ms or more. */
static __int128_t instant_of(const struct mr_zone *zone, __int128_t local_ms) {
    const struct shift *last = &zone->shifts[zone->count - 1];
    const struct shift *s = shift_at(zone, local_ms - MR_ZONE_SHIFT_MAX_MS);
    while (s < last && (__int128_t)s[1].at_ms + s->offset_ms <= local_ms) {
        s++; /* it ends before its clock shows it */
    }
    __int128_t at = local_ms - s->offset_ms;
    return at < s->at_ms ? s->at_ms : at;
}

/* The local time of the last boundary at or before time_ms. A clock that was put back may show less than that of a
 * boundary it has passed. */
static __int128_t local_floor(const struct mr_zone *zone, int64_t time_ms, int64_t size_ms, int64_t offset_ms) {
    MR_ASSERT(size_ms > 0);
    __int128_t local_ms = (__int128_t)time_ms + shift_at(zone, time_ms)->offset_ms;
    __int128_t at = mr_wide_floor(local_ms - offset_ms, size_ms) + offset_ms;
    while (instant_of(zone, at + size_ms) <= time_ms) {
        at += size_ms;
    }
    return at;
}

int64_t mr_zone_floor(const struct mr_zone *zone, int64_t time_ms, int64_t size_ms, int64_t offset_ms) {
    return mr_wide_saturate(instant_of(zone, local_floor(zone, time_ms, size_ms, offset_ms)));
}

int64_t mr_zone_next(const struct mr_zone *zone, int64_t time_ms, int64_t size_ms, int64_t offset_ms) {
    return mr_wide_saturate(instant_of(zone, local_floor(zone, time_ms, size_ms, offset_ms) + size_ms));
}
