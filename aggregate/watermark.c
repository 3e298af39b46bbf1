/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/watermark.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/hash.h"

enum { SLOTS = 4 * MR_SOURCES_MAX };

static_assert(MR_SOURCES_MAX < UINT16_MAX && MR_SOURCE_NAME_MAX <= UINT8_MAX, "numbers and lengths fit");

static int64_t saturating_sub(int64_t a, int64_t b) {
    int64_t ret;
    if (__builtin_sub_overflow(a, b, &ret)) {
        return b < 0 ? INT64_MAX : INT64_MIN;
    }
    return ret;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void mr_watermark_init(struct mr_watermark *w) {
    *w = (struct mr_watermark){INT64_MIN, INT64_MIN, INT64_MIN, NULL, 0, NULL};
}

void mr_watermark_finish(struct mr_watermark *w) {
    mr_free(w->sources);
    mr_free(w->slots);
    w->sources = NULL;
    w->slots = NULL;
    w->source_count = 0;
}

int64_t mr_watermark_limit(const struct mr_watermark_options *o, int64_t recorded_ms) {
    MR_ASSERT(o->max_future_ms >= 0);
    int64_t ret;
    return __builtin_add_overflow(recorded_ms, o->max_future_ms, &ret) ? INT64_MAX : ret;
}

void mr_watermark_observe(struct mr_watermark *w, const struct mr_watermark_options *o,
                          int64_t time_max_ms, int64_t recorded_ms) {
    MR_ASSERT(o->out_of_orderness_ms >= 0);
    if (time_max_ms == INT64_MIN) {
        return;
    }
    MR_ASSERT(time_max_ms <= mr_watermark_limit(o, recorded_ms)); /* I2 */
    w->time_max_ms = later(w->time_max_ms, time_max_ms);
    w->last_event_recorded_ms = later(w->last_event_recorded_ms, recorded_ms);
    if (!o->bounded && w->source_count == 0) {
        int64_t reached = saturating_sub(time_max_ms, o->out_of_orderness_ms);
        w->watermark_ms = later(w->watermark_ms, reached);
    }
}

static bool is_silent(int64_t last_event_recorded_ms, const struct mr_watermark_options *o, int64_t recorded_ms) {
    if (o->idle_timeout_ms == INT64_MAX || last_event_recorded_ms == INT64_MIN) {
        return false;
    }
    return saturating_sub(recorded_ms, last_event_recorded_ms) >= o->idle_timeout_ms;
}

/* Where a source is, if it is not silent. */
static int64_t place_of(const struct mr_source *source, const struct mr_watermark_options *o) {
    int64_t reached = source->time_max_ms == INT64_MIN ? INT64_MIN
                                                       : saturating_sub(source->time_max_ms, o->out_of_orderness_ms);
    return later(reached, source->advanced_ms);
}

const struct mr_source *mr_watermark_slowest(const struct mr_watermark *w, const struct mr_watermark_options *o,
                                             int64_t recorded_ms) {
    const struct mr_source *slowest = NULL;
    for (uint32_t i = 0; i < w->source_count; i++) {
        const struct mr_source *source = &w->sources[i];
        bool speaks = MR_BUG(SILENT_SOURCE_HOLDS) || !is_silent(source->last_event_recorded_ms, o, recorded_ms);
        if (speaks && (slowest == NULL || place_of(source, o) < place_of(slowest, o))) {
            slowest = source;
        }
    }
    return slowest;
}

/* A stream that has never had an event has no window to close: it stays where it is. */
int64_t mr_watermark_at(const struct mr_watermark *w, const struct mr_watermark_options *o,
                        int64_t recorded_ms) {
    MR_ASSERT(o->out_of_orderness_ms >= 0 && o->idle_timeout_ms >= 0);
    if (o->bounded) {
        return w->watermark_ms;
    }
    const struct mr_source *slowest = mr_watermark_slowest(w, o, recorded_ms);
    if (slowest != NULL) {
        return later(w->watermark_ms, place_of(slowest, o));
    }
    if (!is_silent(w->last_event_recorded_ms, o, recorded_ms)) {
        return w->watermark_ms;
    }
    return later(w->watermark_ms, saturating_sub(recorded_ms, o->out_of_orderness_ms));
}

void mr_watermark_tick(struct mr_watermark *w, const struct mr_watermark_options *o,
                       int64_t recorded_ms) {
    int64_t next = mr_watermark_at(w, o, recorded_ms);
    MR_ASSERT(next >= w->watermark_ms); /* I1 */
    w->watermark_ms = next;
}

void mr_watermark_end(struct mr_watermark *w) {
    w->watermark_ms = INT64_MAX;
}

/* ---- sources ---- */

static uint64_t hash_of(struct mr_bytes name) {
    return mr_hash64(name, 0);
}

static uint32_t slot_of(const struct mr_watermark *w, uint64_t hash) {
    uint32_t slot = (uint32_t)hash % SLOTS;
    while (w->slots[slot] != 0 && w->sources[w->slots[slot] - 1].hash != hash) {
        slot = (slot + 1) % SLOTS;
    }
    return slot;
}

static void index_sources(struct mr_watermark *w) {
    memset(w->slots, 0, SLOTS * sizeof w->slots[0]);
    for (uint32_t i = 0; i < w->source_count; i++) {
        w->slots[slot_of(w, w->sources[i].hash)] = (uint16_t)(i + 1);
    }
}

static bool make_room(struct mr_watermark *w) {
    if (w->sources != NULL) {
        return true;
    }
    w->sources = mr_alloc(MR_SOURCES_MAX * sizeof *w->sources);
    w->slots = mr_alloc_zero(SLOTS, sizeof w->slots[0]);
    if (w->sources == NULL || w->slots == NULL) {
        mr_watermark_finish(w);
        return false;
    }
    return true;
}

/* The place of one that was silent since before recorded_ms; NULL: none was. */
static struct mr_source *oldest_source(struct mr_watermark *w, int64_t recorded_ms) {
    struct mr_source *oldest = NULL;
    for (uint32_t i = 0; i < w->source_count; i++) {
        struct mr_source *source = &w->sources[i];
        bool older = oldest == NULL || source->last_event_recorded_ms < oldest->last_event_recorded_ms;
        oldest = source->last_event_recorded_ms < recorded_ms && older ? source : oldest;
    }
    return oldest;
}

static struct mr_source *add_source(struct mr_watermark *w, uint64_t hash, struct mr_bytes name, int64_t recorded_ms) {
    struct mr_source *source = w->source_count < MR_SOURCES_MAX ? &w->sources[w->source_count]
                                                                : oldest_source(w, recorded_ms);
    if (source == NULL) {
        w->sources[MR_SOURCES_MAX - 1].name_len = 0;
        return &w->sources[MR_SOURCES_MAX - 1]; /* shared by those that have no place */
    }
    bool replaced = source != &w->sources[w->source_count];
    *source = (struct mr_source){.hash = hash,
                                 .time_max_ms = INT64_MIN,
                                 .last_event_recorded_ms = INT64_MIN,
                                 .advanced_ms = INT64_MIN,
                                 .name_len = (uint8_t)(name.len < MR_SOURCE_NAME_MAX ? name.len : MR_SOURCE_NAME_MAX)};
    if (source->name_len > 0) {
        memcpy(source->name, name.ptr, source->name_len);
    }
    if (replaced) {
        index_sources(w);
    } else {
        w->slots[slot_of(w, hash)] = (uint16_t)++w->source_count;
    }
    return source;
}

static struct mr_source *find_or_add(struct mr_watermark *w, struct mr_bytes name, int64_t recorded_ms) {
    if (!make_room(w)) {
        return NULL;
    }
    uint64_t hash = hash_of(name);
    uint32_t at = w->slots[slot_of(w, hash)];
    return at != 0 ? &w->sources[at - 1] : add_source(w, hash, name, recorded_ms);
}

enum mr_status mr_watermark_observe_source(struct mr_watermark *w, struct mr_bytes source, int64_t time_ms,
                                           int64_t recorded_ms) {
    struct mr_source *s = find_or_add(w, source, recorded_ms);
    if (s == NULL) {
        return MR_NO_MEMORY;
    }
    s->time_max_ms = later(s->time_max_ms, time_ms);
    s->last_event_recorded_ms = later(s->last_event_recorded_ms, recorded_ms);
    return MR_OK;
}

enum mr_status mr_watermark_advance(struct mr_watermark *w, struct mr_bytes source, int64_t time_ms,
                                    int64_t recorded_ms) {
    if (source.ptr == NULL) {
        w->watermark_ms = later(w->watermark_ms, time_ms);
        return MR_OK;
    }
    struct mr_source *s = find_or_add(w, source, recorded_ms);
    if (s == NULL) {
        return MR_NO_MEMORY;
    }
    s->advanced_ms = later(s->advanced_ms, time_ms);
    s->last_event_recorded_ms = later(s->last_event_recorded_ms, recorded_ms); /* it has spoken */
    w->last_event_recorded_ms = later(w->last_event_recorded_ms, recorded_ms);
    return MR_OK;
}

void mr_watermark_save(const struct mr_watermark *w, struct mr_buf *ret) {
    mr_pack_i64(ret, w->watermark_ms);
    mr_pack_i64(ret, w->time_max_ms);
    mr_pack_i64(ret, w->last_event_recorded_ms);
    mr_pack_u32(ret, w->source_count);
    for (uint32_t i = 0; i < w->source_count; i++) {
        const struct mr_source *source = &w->sources[i];
        mr_pack_u64(ret, source->hash);
        mr_pack_i64(ret, source->time_max_ms);
        mr_pack_i64(ret, source->last_event_recorded_ms);
        mr_pack_i64(ret, source->advanced_ms);
        mr_pack_bytes(ret, mr_bytes_of(source->name, source->name_len));
    }
}

bool mr_watermark_load(struct mr_watermark *w, struct mr_unpack *u) {
    w->watermark_ms = mr_unpack_i64(u);
    w->time_max_ms = mr_unpack_i64(u);
    w->last_event_recorded_ms = mr_unpack_i64(u);
    uint32_t count = mr_unpack_u32(u);
    u->failed = u->failed || count > MR_SOURCES_MAX;
    if (u->failed || (count > 0 && !make_room(w))) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr_source source = {.hash = mr_unpack_u64(u)};
        source.time_max_ms = mr_unpack_i64(u);
        source.last_event_recorded_ms = mr_unpack_i64(u);
        source.advanced_ms = mr_unpack_i64(u);
        struct mr_bytes name = mr_unpack_bytes(u);
        u->failed = u->failed || name.len > MR_SOURCE_NAME_MAX || w->slots[slot_of(w, source.hash)] != 0;
        if (u->failed) {
            return false;
        }
        source.name_len = (uint8_t)name.len;
        if (name.len > 0) {
            memcpy(source.name, name.ptr, name.len);
        }
        w->sources[i] = source;
        w->source_count = i + 1;
        w->slots[slot_of(w, source.hash)] = (uint16_t)(i + 1);
    }
    return true;
}
