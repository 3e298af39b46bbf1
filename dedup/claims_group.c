/* SPDX-License-Identifier: Apache-2.0 */
/* From claims that wait to a wave: their ids by place, each once, cut into commands. */
#include "dedup/claims_parts.h"

#include "base/alloc.h"

enum {
    ENTRIES_MIN = 1024,
    MEMBERS_MIN = 64,
    SEEN_MIN = 256,
    KEY_WEIGHT =
        8, /* ids of the key layout gain nothing from large waves, and the watch's checks wait behind them */
};

static_assert((MR_CLAIM_BUCKETS & (MR_CLAIM_BUCKETS - 1)) == 0, "bucket_of masks");

/* Other bits than those that choose the shard: a claim may hold the ids of one shard only. */
uint32_t mr_claims_bucket_of(struct mr_fingerprint fp) {
    return (uint32_t)(fp.hi & (MR_CLAIM_BUCKETS - 1));
}

/* ---- memory: grows with the largest wave so far ---- */

static uint32_t grown(uint32_t cap, uint64_t need, uint32_t min) {
    uint64_t wanted = cap < min ? min : (uint64_t)cap * 2;
    wanted = wanted < need ? need : wanted;
    MR_ASSERT(wanted <= UINT32_MAX / 2);
    return (uint32_t)wanted;
}

/* What has grown already when a later one fails is just larger than its cap says. */
static bool reserve_entries(struct mr_claims_wave *wave, uint64_t need) {
    if (need <= wave->entry_cap) {
        return true;
    }
    uint32_t cap = grown(wave->entry_cap, need, ENTRIES_MIN);
    void *entries = mr_realloc(wave->entries, cap * sizeof *wave->entries);
    wave->entries = entries != NULL ? entries : wave->entries;
    void *marks = entries == NULL ? NULL : mr_realloc(wave->marks, cap);
    wave->marks = marks != NULL ? marks : wave->marks;
    void *commands =
        marks == NULL ? NULL : mr_realloc(wave->commands, cap * sizeof *wave->commands);
    if (commands == NULL) {
        return false;
    }
    wave->commands = commands;
    wave->entry_cap = cap;
    return true;
}

static bool reserve_member(struct mr_claims_wave *wave) {
    if (wave->member_count < wave->member_cap) {
        return true;
    }
    uint32_t cap = grown(wave->member_cap, 0, MEMBERS_MIN);
    void *members = mr_realloc(wave->members, cap * sizeof *wave->members);
    if (members == NULL) {
        return false;
    }
    wave->members = members;
    wave->member_cap = cap;
    return true;
}

static bool reserve_seen(struct mr_claims *claims, uint32_t entries) {
    uint32_t need = SEEN_MIN;
    while (need < 2 * entries) {
        need *= 2;
    }
    if (need <= claims->seen_cap) {
        return true;
    }
    void *seen = mr_realloc(claims->seen, need * sizeof *claims->seen);
    if (seen == NULL) {
        return false;
    }
    claims->seen = seen;
    claims->seen_cap = need;
    return true;
}

/* ---- members ---- */

/* A wave has one step of each stream, so that a place has one key. The log's time does not go back, so few are turned
 * away, and those are next. */
static bool is_of_step(const struct mr_claims *claims, struct mr_claims_wave *wave,
                       const struct mr_claim *claim) {
    const struct mr_claims_own_stream *stream = &claims->streams[claim->stream];
    int64_t step = claim->recorded_ms / stream->horizon_ms;
    int64_t *of_wave = &wave->steps[claim->stream];
    *of_wave = *of_wave < 0 ? step : *of_wave;
    return stream->layout == MR_CLAIM_KEY || *of_wave == step;
}

static void take_members(struct mr_claims *claims, struct mr_claims_queue *queue,
                         struct mr_claims_wave *wave) {
    for (uint32_t s = 0; s < claims->stream_count; s++) {
        wave->steps[s] = -1;
    }
    uint8_t number = (uint8_t)(wave - claims->waves + 1);
    uint64_t ids = 0;
    uint64_t weight = 0;
    struct mr_claim *claim = queue->fresh;
    for (; claim != NULL; claim = claim->next) {
        if (claim->wave != 0 || claim->undecided == 0) {
            continue;
        }
        bool key = claims->streams[claim->stream].layout == MR_CLAIM_KEY;
        ids += claim->undecided;
        weight += (uint64_t)claim->undecided * (key ? KEY_WEIGHT : 1);
        if ((weight > claims->wave_ids && wave->member_count > 0) ||
            !is_of_step(claims, wave, claim) || !reserve_entries(wave, ids) ||
            !reserve_member(wave)) {
            break;
        }
        claim->wave = number;
        claim->member = wave->member_count;
        wave->members[wave->member_count++] =
            (struct mr_claims_member){claim, claim->lsn, claim->stream, claim->once};
    }
    queue->fresh = claim;
}

/* ---- places ---- */

/* Returns the first place, as in `next`. */
static uint32_t count_places(struct mr_claims *claims, const struct mr_claims_wave *wave) {
    uint32_t first = 0;
    uint32_t *end = &first;
    for (uint32_t m = 0; m < wave->member_count; m++) {
        const struct mr_claim *claim = wave->members[m].claim;
        const struct mr_fingerprint *ids = claim->ids;
        const uint32_t *order = claim->order;
        const uint8_t *outcomes = claim->outcomes;
        struct mr_claims_place *places = claims->places + claim->stream * MR_CLAIM_BUCKETS;
        for (uint32_t k = 0; k < claim->count; k++) {
            if (outcomes[k] != MR_CLAIM_NONE) {
                continue;
            }
            struct mr_claims_place *place = &places[mr_claims_bucket_of(ids[order[k]])];
            if (place->count++ == 0) {
                place->next = 0;
                *end = (uint32_t)(place - claims->places) + 1;
                end = &place->next;
            }
        }
    }
    return first;
}

static void scatter(struct mr_claims *claims, struct mr_claims_wave *wave) {
    struct mr_claims_entry *entries = wave->entries;
    for (uint32_t m = 0; m < wave->member_count; m++) {
        const struct mr_claim *claim = wave->members[m].claim;
        const struct mr_fingerprint *ids = claim->ids;
        const uint32_t *order = claim->order;
        const uint8_t *outcomes = claim->outcomes;
        struct mr_claims_place *places = claims->places + claim->stream * MR_CLAIM_BUCKETS;
        for (uint32_t k = 0; k < claim->count; k++) {
            if (outcomes[k] == MR_CLAIM_NONE) {
                struct mr_fingerprint fp = ids[order[k]];
                entries[places[mr_claims_bucket_of(fp)].count++] =
                    (struct mr_claims_entry){fp, m, k};
            }
        }
    }
}

/* The same id twice: the first stands for both. Returns how many stand for themselves. */
static uint32_t mark_repeats(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t first,
                             uint32_t end) {
    uint32_t cap = SEEN_MIN;
    while (cap < 2 * (end - first)) {
        cap *= 2;
    }
    MR_ASSERT(cap <= claims->seen_cap);
    uint32_t *seen = claims->seen;
    memset(seen, 0, cap * sizeof *seen);
    uint32_t alone = 0;
    for (uint32_t i = first; i < end; i++) {
        struct mr_claims_entry *e = &wave->entries[i];
        MR_ASSERT(e->fp.hi >> 56 == 0);
        uint32_t at = (uint32_t)e->fp.lo & (cap - 1);
        while (seen[at] != 0 && !mr_fingerprint_equal(wave->entries[seen[at] - 1].fp, e->fp)) {
            at = (at + 1) & (cap - 1);
        }
        wave->marks[i] = seen[at] == 0 ? MR_CLAIM_NONE : MR_CLAIMS_REPEATS;
        if (seen[at] == 0) {
            seen[at] = i + 1;
            alone++;
        } else {
            e->fp.lo = seen[at] - 1;
        }
    }
    return alone;
}

/* ---- commands ---- */

static void add_command(struct mr_claims_wave *wave, uint32_t place, uint32_t first, uint32_t end,
                        uint32_t ids) {
    MR_ASSERT(wave->command_count < wave->entry_cap && first < end && ids > 0 &&
              ids <= MR_CLAIMS_COMMAND_IDS);
    wave->commands[wave->command_count++] = (struct mr_claims_command){
        .first = first, .count = end - first, .ids = ids, .place = place};
}

static void cut_bucket(struct mr_claims_wave *wave, uint32_t place, uint32_t first, uint32_t end) {
    uint32_t ids = 0;
    for (uint32_t i = first; i < end; i++) {
        bool alone = wave->marks[i] != MR_CLAIMS_REPEATS;
        if (alone && ids == MR_CLAIMS_COMMAND_IDS) {
            add_command(wave, place, first, i, ids);
            first = i;
            ids = 0;
        }
        ids += alone;
    }
    add_command(wave, place, first, end, ids);
}

static void cut(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t place,
                uint32_t first, uint32_t end) {
    uint32_t alone = mark_repeats(claims, wave, first, end);
    if (claims->streams[place / MR_CLAIM_BUCKETS].layout == MR_CLAIM_KEY) {
        for (uint32_t i = first; i < end; i++) {
            if (wave->marks[i] != MR_CLAIMS_REPEATS) {
                add_command(wave, place, i, i + 1, 1);
            }
        }
    } else if (alone <= MR_CLAIMS_COMMAND_IDS) {
        add_command(wave, place, first, end, alone);
    } else {
        cut_bucket(wave, place, first, end);
    }
}

static void release_members(struct mr_claims_queue *queue, struct mr_claims_wave *wave) {
    for (uint32_t m = 0; m < wave->member_count; m++) {
        wave->members[m].claim->wave = 0;
    }
    wave->member_count = 0;
    queue->fresh = queue->first;
}

bool mr_claims_group(struct mr_claims *claims, struct mr_claims_queue *queue,
                     struct mr_claims_wave *wave) {
    MR_ASSERT(!wave->open);
    wave->entry_count = 0;
    wave->member_count = 0;
    wave->command_count = 0;
    wave->part_count = 0;
    take_members(claims, queue, wave);
    uint32_t head = count_places(claims, wave);
    uint32_t most = 0;
    for (uint32_t p = head; p != 0; p = claims->places[p - 1].next) {
        struct mr_claims_place *place = &claims->places[p - 1];
        uint32_t count = place->count;
        most = count > most ? count : most;
        place->count = wave->entry_count;
        wave->entry_count += count;
    }
    MR_ASSERT(wave->entry_count <= wave->entry_cap);
    bool fits = wave->member_count > 0 && reserve_seen(claims, most);
    if (fits) {
        scatter(claims, wave);
    } else {
        release_members(queue, wave);
    }
    uint32_t first = 0;
    for (uint32_t p = head; p != 0; p = claims->places[p - 1].next) {
        struct mr_claims_place *place = &claims->places[p - 1];
        if (fits) {
            cut(claims, wave, p - 1, first, place->count);
            first = place->count;
        }
        place->count = 0;
    }
    MR_ASSERT(!fits || first == wave->entry_count);
    return fits;
}
