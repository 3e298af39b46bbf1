/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/exact.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"

#define FP_MASK 0xffffffu /* what a line keeps of a fingerprint's hi */
#define NO_SLOT UINT64_MAX

/* A body that is compiled once for each kind of table, where kind is constant: the usual one does not ask which it is.
 * Each stands alone, so that the compiler decides about it as if there were no other. */
#define OF_EACH_KIND __attribute__((always_inline)) static inline
#define NOINLINE     __attribute__((noinline))

enum {
    A_LINE = MR_EXACT_LINE,
    LOAD_NUM = 17, /* ids_max / slots = 17/30 = 0.57 */
    LOAD_DEN = 30,
    LOAD_DEN_CONTENTS = 27, /* 0.63: slots are larger */
    LINES_MIN = 32,
    SWEEP_EVERY = 32, /* new ids between two shares of the sweep */
    OPENINGS_PER_PASS = 128,
    TOGETHER = 16, /* ids */
    LATER_MAX = 8, /* ids */
    FULL = (1 << A_LINE) - 1,
    MARKS = 12,
    MARKS_MASK = (1 << MARKS) - 1,
    AWAY_MAX = 15, /* this far or farther */
};

static_assert(sizeof(struct mr_exact_line) == MR_CACHE_LINE, "24 bytes an id rest on it");
static_assert(MR_DEDUP_AHEAD % TOGETHER == 0, "none is left out");
static_assert(MARKS + 4 * A_LINE == 32, "marks and ways share a word");

static uint64_t lines_for(uint64_t ids_max, enum mr_exact_kind kind) {
    MR_ASSERT(ids_max > 0 && ids_max <= UINT64_C(1) << 41);
    uint64_t lines = ids_max * (kind == MR_EXACT_CONTENTS ? LOAD_DEN_CONTENTS : LOAD_DEN) / (LOAD_NUM * A_LINE) + 1;
    return lines < LINES_MIN ? LINES_MIN : lines;
}

static uint64_t lines_bytes(uint64_t lines) {
    return lines * sizeof(struct mr_exact_line);
}

static uint64_t contents_bytes(uint64_t lines) {
    return lines * A_LINE * sizeof(uint64_t);
}

uint64_t mr_exact_bytes_planned(uint64_t ids_max, enum mr_exact_kind kind) {
    uint64_t lines = lines_for(ids_max, kind);
    return lines_bytes(lines) + (kind == MR_EXACT_CONTENTS ? contents_bytes(lines) : 0);
}

enum mr_status mr_exact_open(struct mr_exact *exact, uint64_t ids_max, enum mr_exact_kind kind) {
    *exact = (struct mr_exact){.count = lines_for(ids_max, kind), .ids_max = ids_max};
    exact->slots = exact->count * A_LINE;
    MR_ASSERT(ids_max < exact->slots); /* I3 */
    exact->lines = mr_alloc_pages(lines_bytes(exact->count));
    if (exact->lines != NULL && kind == MR_EXACT_CONTENTS) {
        exact->contents = mr_alloc_pages(contents_bytes(exact->count));
    }
    if (exact->lines == NULL || (kind == MR_EXACT_CONTENTS && exact->contents == NULL)) {
        mr_exact_close(exact);
        return MR_NO_MEMORY;
    }
    return MR_OK;
}

void mr_exact_close(struct mr_exact *exact) {
    if (exact->lines != NULL) {
        mr_free_pages(exact->lines, lines_bytes(exact->count));
    }
    if (exact->contents != NULL) {
        mr_free_pages(exact->contents, contents_bytes(exact->count));
    }
    *exact = (struct mr_exact){0};
}

/* ---- lines ---- */

/* The high 56 bits of the fingerprint, mapped evenly to the lines. */
static inline uint64_t home_of(const struct mr_exact *exact, struct mr_fingerprint fp) {
    return (uint64_t)(((__uint128_t)(fp.hi << 8) * exact->count) >> 64);
}

static inline uint64_t after(const struct mr_exact *exact, uint64_t at) {
    return at + 1 == exact->count ? 0 : at + 1;
}

static inline uint8_t tag_of(uint32_t hi) {
    return (uint8_t)(hi >> 24);
}

static inline bool is_live(const struct mr_exact *exact, uint32_t hi) {
    return exact->tag_state[tag_of(hi)] == MR_EXACT_TAG_LIVE;
}

/* The slots with live entries, a bit for each. Without branches: how many there are is as good as random. */
static inline uint32_t live_in(const struct mr_exact *exact, const struct mr_exact_line *line) {
    uint32_t live = 0;
#pragma GCC unroll 5
    for (uint32_t i = 0; i < A_LINE; i++) {
        live |= (uint32_t)is_live(exact, line->hi[i]) << i;
    }
    return live;
}

/* The slot of the fingerprint's live entry as a bit, or 0. */
static inline uint32_t look(const struct mr_exact *exact, const struct mr_exact_line *line, struct mr_fingerprint fp) {
    uint32_t same = 0;
#pragma GCC unroll 5
    for (uint32_t i = 0; i < A_LINE; i++) {
        bool equal = line->lo[i] == fp.lo;
        if (MR_BUG(FINGERPRINT_SHORT)) {
            equal = ((line->lo[i] ^ fp.lo) & 0xff) == 0;
        }
        same |= (uint32_t)equal << i;
    }
    if (same == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < A_LINE; i++) {
        bool equal = ((line->hi[i] ^ fp.hi) & FP_MASK) == 0 || MR_BUG(FINGERPRINT_SHORT);
        if ((same >> i & 1) != 0 && equal && is_live(exact, line->hi[i])) {
            return 1u << i;
        }
    }
    return 0;
}

/* Which of a line's marks an id has, as a bit. */
static inline uint32_t mark_of(uint64_t lo) {
    return 1u << ((lo & 0xffff) * MARKS >> 16);
}

static inline uint32_t away_of(const struct mr_exact_line *line, uint32_t i) {
    return line->marks_and_ways >> (MARKS + 4 * i) & AWAY_MAX;
}

static inline void set_away(struct mr_exact_line *line, uint32_t i, uint64_t away) {
    uint32_t way = away < AWAY_MAX ? (uint32_t)away : AWAY_MAX;
    uint32_t others = line->marks_and_ways & ~((uint32_t)AWAY_MAX << (MARKS + 4 * i));
    line->marks_and_ways = others | way << (MARKS + 4 * i);
}

/* ---- searching ---- */

/* Where an id is, or, when it is not found, where a new one goes. */
struct place {
    uint64_t slot; /* NO_SLOT: no line on the way has a free one */
    uint64_t at;   /* the line where the search ended */
    uint64_t away; /* of slot, or with NO_SLOT of at */
    bool found;
};

static inline uint64_t slot_of(uint64_t at, uint32_t bits) {
    return at * A_LINE + (uint32_t)__builtin_ctz(bits);
}

/* Behind the home, as far as lines have the id's mark (I1). */
NOINLINE static struct place find_beyond(const struct mr_exact *exact, struct mr_fingerprint fp, struct place place) {
    uint64_t away = 0;
    while ((exact->lines[place.at].marks_and_ways & mark_of(fp.lo)) != 0 && ++away < exact->count) {
        place.at = after(exact, place.at);
        const struct mr_exact_line *line = &exact->lines[place.at];
        uint32_t same = look(exact, line, fp);
        if (same != 0) {
            return (struct place){slot_of(place.at, same), place.at, away, true};
        }
        uint32_t live = live_in(exact, line);
        if (place.slot == NO_SLOT) {
            place.slot = live == FULL ? NO_SLOT : slot_of(place.at, ~live);
            place.away = away;
        }
    }
    return place;
}

/* ret_beyond: lines behind it come into play. */
static inline struct place find_home(const struct mr_exact *exact, struct mr_fingerprint fp, bool *ret_beyond) {
    uint64_t home = home_of(exact, fp);
    const struct mr_exact_line *line = &exact->lines[home];
    uint32_t same = look(exact, line, fp);
    *ret_beyond = false;
    if (same != 0) {
        return (struct place){slot_of(home, same), home, 0, true};
    }
    uint32_t live = live_in(exact, line);
    *ret_beyond = live == FULL || (line->marks_and_ways & mark_of(fp.lo)) != 0;
    return (struct place){live == FULL ? NO_SLOT : slot_of(home, ~live), home, 0, false};
}

static inline struct place find(const struct mr_exact *exact, struct mr_fingerprint fp) {
    bool beyond;
    struct place place = find_home(exact, fp, &beyond);
    return beyond ? find_beyond(exact, fp, place) : place;
}

/* The first free slot behind a search that saw none; marks the lines on the way. I3: there is one. */
NOINLINE static struct place overflow(struct mr_exact *exact, struct mr_fingerprint fp, struct place place) {
    uint32_t live = FULL;
    while (live == FULL) {
        exact->lines[place.at].marks_and_ways |= mark_of(fp.lo);
        place.at = after(exact, place.at);
        place.away++;
        live = live_in(exact, &exact->lines[place.at]);
    }
    place.slot = slot_of(place.at, ~live);
    return place;
}

OF_EACH_KIND void put(struct mr_exact *exact, struct place place, struct mr_fingerprint fp, uint8_t tag,
                      uint64_t content, enum mr_exact_kind kind) {
    if (__builtin_expect(place.slot == NO_SLOT, 0)) {
        place = overflow(exact, fp, place);
    }
    struct mr_exact_line *line = &exact->lines[place.slot / A_LINE];
    uint32_t i = (uint32_t)(place.slot % A_LINE);
    uint8_t was = tag_of(line->hi[i]);
    exact->tag_used[was]--; /* of tag 0, too: nobody asks for that one */
    exact->tag_used[tag]++;
    exact->dead -= was != 0;
    exact->used += was == 0;
    line->lo[i] = fp.lo;
    line->hi[i] = (uint32_t)tag << 24 | (uint32_t)(fp.hi & FP_MASK);
    set_away(line, i, place.away);
    if (kind == MR_EXACT_CONTENTS) {
        exact->contents[place.slot] = content;
    }
}

/* ---- the sweep ---- */

/* Which of its marks a line needs: those of the live entries above that had to pass it. They also had to pass, and to
 * mark, all lines between. */
static uint32_t needed_marks(const struct mr_exact *exact, uint64_t at, uint32_t marks) {
    uint32_t needed = 0;
    for (uint64_t way = 1; marks != 0 && way < exact->count; way++) {
        at = after(exact, at);
        const struct mr_exact_line *line = &exact->lines[at];
        for (uint32_t i = 0; i < A_LINE; i++) {
            uint32_t away = away_of(line, i);
            if ((away >= way || away == AWAY_MAX) && is_live(exact, line->hi[i])) {
                needed |= marks & mark_of(line->lo[i]);
            }
        }
        marks &= line->marks_and_ways & ~needed;
    }
    return needed;
}

/* Takes out what is dead in a line. */
OF_EACH_KIND void clean(struct mr_exact *exact, uint64_t at, enum mr_exact_kind kind) {
    struct mr_exact_line *line = &exact->lines[at];
    for (uint32_t i = 0; i < A_LINE; i++) {
        uint8_t tag = tag_of(line->hi[i]);
        if (__builtin_expect(exact->tag_state[tag] == MR_EXACT_TAG_DEAD, 0)) {
            exact->tag_used[tag]--;
            exact->dead--;
            exact->used--;
            line->lo[i] = 0;
            line->hi[i] = 0;
            set_away(line, i, 0);
            if (kind == MR_EXACT_CONTENTS) {
                exact->contents[at * A_LINE + i] = 0;
            }
        }
    }
}

/* The lines of the next share: by then they have left the cache, and a stream of reads this short is over before the
 * hardware has recognized it. */
static inline void prefetch_sweep(const struct mr_exact *exact, uint64_t lines) {
    uint64_t left = exact->count - exact->sweep_at;
    lines = lines < left ? lines : left;
    for (uint64_t i = 0; i < lines; i++) {
        __builtin_prefetch(&exact->lines[exact->sweep_at + i]);
    }
}

OF_EACH_KIND bool sweep(struct mr_exact *exact, uint64_t lines, enum mr_exact_kind kind) {
    uint64_t todo = lines < exact->sweep_left ? lines : exact->sweep_left;
    for (uint64_t n = 0; n < todo; n++) {
        uint64_t at = exact->sweep_at;
        clean(exact, at, kind);
        uint32_t marks = exact->lines[at].marks_and_ways & MARKS_MASK;
        if (marks != 0) {
            uint32_t needed = needed_marks(exact, at, marks);
            exact->lines[at].marks_and_ways &= ~(marks & ~needed);
        }
        exact->sweep_at = after(exact, at);
    }
    exact->sweep_left -= todo;
    bool paid = exact->sweep_left == 0 || lines >= exact->sweep_debt;
    exact->sweep_debt = paid ? 0 : exact->sweep_debt - lines;
    return exact->sweep_left > 0;
}

NOINLINE static bool sweep_ids(struct mr_exact *exact, uint64_t lines) {
    return sweep(exact, lines, MR_EXACT_IDS);
}

NOINLINE static bool sweep_contents(struct mr_exact *exact, uint64_t lines) {
    return sweep(exact, lines, MR_EXACT_CONTENTS);
}

static bool sweep_lines(struct mr_exact *exact, uint64_t lines) {
    return exact->contents == NULL ? sweep_ids(exact, lines) : sweep_contents(exact, lines);
}

bool mr_exact_sweep(struct mr_exact *exact, uint64_t slots) {
    return sweep_lines(exact, slots / A_LINE + 1);
}

/* ---- tags ---- */

void mr_exact_tag_open(struct mr_exact *exact, uint8_t tag) {
    MR_ASSERT(tag != 0 && exact->tag_state[tag] != MR_EXACT_TAG_LIVE);
    if (exact->sweep_debt > 0) {
        /* Whether more is left does not matter here. */
        (void)sweep_lines(exact, exact->sweep_debt);
    }
    exact->sweep_debt = exact->sweep_left > 0 ? exact->count / OPENINGS_PER_PASS + 1 : 0;
    MR_ASSERT(exact->tag_used[tag] == 0); /* I4 */
    exact->tag_state[tag] = MR_EXACT_TAG_LIVE;
}

void mr_exact_tag_kill(struct mr_exact *exact, uint8_t tag) {
    MR_ASSERT(exact->tag_state[tag] == MR_EXACT_TAG_LIVE);
    exact->tag_state[tag] = MR_EXACT_TAG_DEAD;
    exact->dead += exact->tag_used[tag];
    exact->sweep_left = exact->count; /* a whole pass from here sees every entry of the tag */
    MR_ASSERT(exact->dead <= exact->used);
}

/* ---- judging ---- */

/* The home's line, and that of its content. */
OF_EACH_KIND void prefetch(const struct mr_exact *exact, struct mr_fingerprint fp, enum mr_exact_kind kind) {
    uint64_t home = home_of(exact, fp);
    __builtin_prefetch(&exact->lines[home]);
    if (kind == MR_EXACT_CONTENTS) {
        __builtin_prefetch(&exact->contents[home * A_LINE]);
    }
}

/* Those of some ids at once: their page walks go side by side, while one alone holds up what comes behind it (a quarter of
 * filling). Not more than 16: a core waits for some two dozen lines at a time. */
OF_EACH_KIND void prefetch_some(const struct mr_exact *exact, const struct mr_dedup_batch *batch, uint64_t from,
                                enum mr_exact_kind kind) {
    const struct mr_fingerprint *fps = batch->fps;
    const uint32_t *order = batch->order;
    if (from + TOGETHER <= batch->count) {
#pragma GCC unroll 16
        for (uint64_t i = 0; i < TOGETHER; i++) {
            prefetch(exact, fps[order[from + i]], kind);
        }
        return;
    }
    for (uint64_t k = from; k < batch->count; k++) {
        prefetch(exact, fps[order[k]], kind);
    }
}

/* The share of the sweep that new ids bring with them, in chunks: a chunk reads memory in a row. */
NOINLINE static void sweep_share(struct mr_exact *exact, enum mr_exact_kind kind) {
    exact->sweep_wait -= SWEEP_EVERY;
    if (exact->sweep_left > 0) {
        const uint64_t lines = SWEEP_EVERY / MR_EXACT_SWEEP_PACE;
        (void)(kind == MR_EXACT_IDS ? sweep_ids(exact, lines) : sweep_contents(exact, lines));
        prefetch_sweep(exact, lines);
    }
}

static inline uint8_t compare(uint64_t first, uint64_t content) {
    return first != 0 && content != 0 && first != content ? MR_DEDUP_CONFLICT : MR_DEDUP_DUPLICATE;
}

/* What is found out of one id; returns whether it is new. */
OF_EACH_KIND bool settle(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint64_t k, struct place place,
                         uint8_t tag, enum mr_exact_kind kind) {
    if (!place.found) {
        put(exact, place, batch->fps[batch->order[k]], tag, kind == MR_EXACT_CONTENTS ? batch->contents[k] : 0, kind);
        exact->sweep_wait++;
    }
    if (kind == MR_EXACT_CONTENTS && place.found) {
        batch->duplicate[k] = compare(exact->contents[place.slot], batch->contents[k]);
    } else {
        batch->duplicate[k] = place.found;
    }
    return !place.found;
}

/*
 * Ids that must be looked for behind their home wait until there are some: then what one waits for, others do meanwhile.
 * In order, and all before the next sweep: until then what sends an id on from its home sends on its copies, too, so
 * that the first of equal ids is the one that counts.
 */
struct later {
    uint32_t count;
    uint32_t k[LATER_MAX];
};

/* How many were new. */
NOINLINE static uint64_t settle_later(struct mr_exact *exact, const struct mr_dedup_batch *batch, struct later *later,
                                   uint8_t tag, enum mr_exact_kind kind) {
    uint64_t new_ids = 0;
    for (uint32_t i = 0; i < later->count; i++) {
        uint32_t k = later->k[i];
        new_ids += settle(exact, batch, k, find(exact, batch->fps[batch->order[k]]), tag, kind);
    }
    later->count = 0;
    while (exact->sweep_wait >= SWEEP_EVERY) {
        sweep_share(exact, kind);
    }
    return new_ids;
}

static inline bool must_settle(const struct mr_exact *exact, const struct later *later, uint64_t new_ids,
                               uint64_t new_max) {
    return later->count == LATER_MAX || new_ids + later->count == new_max || exact->sweep_wait >= SWEEP_EVERY;
}

OF_EACH_KIND void put_off(const struct mr_exact *exact, struct later *later, uint32_t k, uint64_t home,
                          enum mr_exact_kind kind) {
    uint64_t next = after(exact, home);
    __builtin_prefetch(&exact->lines[next]);
    if (kind == MR_EXACT_CONTENTS) {
        __builtin_prefetch(&exact->contents[next * A_LINE]);
    }
    later->k[later->count++] = k;
}

OF_EACH_KIND uint32_t judge(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from, uint8_t tag,
                            uint64_t new_max, uint64_t *ret_new, enum mr_exact_kind kind) {
    MR_ASSERT(new_max == 0 || exact->tag_state[tag] == MR_EXACT_TAG_LIVE);
    MR_ASSERT(new_max <= exact->ids_max - (exact->used - exact->dead));
    for (uint64_t k = from; k < from + (uint64_t)MR_DEDUP_AHEAD; k += TOGETHER) {
        prefetch_some(exact, batch, k, kind);
    }
    struct later later = {.count = 0};
    uint64_t new_ids = 0;
    uint64_t k = from;
    for (; k < batch->count; k++) {
        if ((k - from) % TOGETHER == 0) {
            prefetch_some(exact, batch, k + MR_DEDUP_AHEAD, kind);
        }
        struct mr_fingerprint fp = batch->fps[batch->order[k]];
        MR_ASSERT(fp.hi <= UINT64_MAX >> 8);
        if (__builtin_expect(must_settle(exact, &later, new_ids, new_max), 0)) {
            new_ids += settle_later(exact, batch, &later, tag, kind);
        }
        bool beyond;
        struct place place = find_home(exact, fp, &beyond);
        if (__builtin_expect(beyond, 0)) {
            if (new_ids < new_max) {
                put_off(exact, &later, (uint32_t)k, place.at, kind);
                continue;
            }
            place = find_beyond(exact, fp, place);
        }
        if (!place.found && new_ids == new_max) {
            break;
        }
        new_ids += settle(exact, batch, k, place, tag, kind);
    }
    new_ids += settle_later(exact, batch, &later, tag, kind);
    *ret_new = new_ids;
    return (uint32_t)k;
}

NOINLINE static uint32_t judge_ids(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from,
                                   uint8_t tag, uint64_t new_max, uint64_t *ret_new) {
    return judge(exact, batch, from, tag, new_max, ret_new, MR_EXACT_IDS);
}

NOINLINE static uint32_t judge_contents(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from,
                                        uint8_t tag, uint64_t new_max, uint64_t *ret_new) {
    return judge(exact, batch, from, tag, new_max, ret_new, MR_EXACT_CONTENTS);
}

uint32_t mr_exact_judge(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from,
                        uint8_t tag, uint64_t new_max, uint64_t *ret_new) {
    MR_ASSERT((batch->contents != NULL) == (exact->contents != NULL));
    return exact->contents == NULL ? judge_ids(exact, batch, from, tag, new_max, ret_new)
                                   : judge_contents(exact, batch, from, tag, new_max, ret_new);
}

uint8_t mr_exact_find(const struct mr_exact *exact, struct mr_fingerprint fp) {
    MR_ASSERT(fp.hi <= UINT64_MAX >> 8);
    struct place place = find(exact, fp);
    return place.found ? tag_of(exact->lines[place.slot / A_LINE].hi[place.slot % A_LINE]) : 0;
}

/* ---- scans ---- */

/* A bijection of 64 bits that mixes well (the finalizer of SplitMix64). */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t mr_exact_hash_scan(const struct mr_exact *exact, const uint64_t tag_salt[MR_EXACT_TAGS]) {
    uint64_t sum = 0;
    for (uint64_t slot = 0; slot < exact->slots; slot++) {
        const struct mr_exact_line *line = &exact->lines[slot / A_LINE];
        uint32_t hi = line->hi[slot % A_LINE];
        if (is_live(exact, hi)) {
            uint64_t content = exact->contents == NULL ? 0 : mix(exact->contents[slot]);
            sum += mix(mix(mix(line->lo[slot % A_LINE]) + (hi & FP_MASK)) + tag_salt[tag_of(hi)] + content);
        }
    }
    return sum;
}

/* I1 and I2 for one live entry: on the way from its home all lines have its mark, and none has a live one of the same
 * fingerprint. */
static void check_entry(const struct mr_exact *exact, uint64_t at, uint32_t i) {
    const struct mr_exact_line *line = &exact->lines[at];
    struct mr_fingerprint fp = {.lo = line->lo[i], .hi = line->hi[i] & FP_MASK};
    uint64_t away = away_of(line, i);
    uint64_t home = (at + exact->count - away % exact->count) % exact->count;
    for (uint64_t way = 0; way < away && away < AWAY_MAX; way++, home = after(exact, home)) {
        MR_ASSERT(look(exact, &exact->lines[home], fp) == 0);
        MR_ASSERT((exact->lines[home].marks_and_ways & mark_of(fp.lo)) != 0);
    }
    MR_ASSERT(look(exact, line, fp) == 1u << i);
}

void mr_exact_check_scan(const struct mr_exact *exact) {
    uint64_t tag_used[MR_EXACT_TAGS] = {0};
    for (uint64_t slot = 0; slot < exact->slots; slot++) {
        const struct mr_exact_line *line = &exact->lines[slot / A_LINE];
        uint32_t i = (uint32_t)(slot % A_LINE);
        tag_used[tag_of(line->hi[i])]++;
        if (tag_of(line->hi[i]) == 0) {
            MR_ASSERT(line->hi[i] == 0 && line->lo[i] == 0 && away_of(line, i) == 0);
            MR_ASSERT(exact->contents == NULL || exact->contents[slot] == 0);
        } else if (is_live(exact, line->hi[i])) {
            check_entry(exact, slot / A_LINE, i);
        }
    }
    uint64_t used = 0;
    uint64_t dead = 0;
    for (uint32_t tag = 1; tag < MR_EXACT_TAGS; tag++) {
        MR_ASSERT(tag_used[tag] == exact->tag_used[tag]);
        MR_ASSERT(tag_used[tag] == 0 || exact->tag_state[tag] != MR_EXACT_TAG_UNUSED);
        used += tag_used[tag];
        dead += exact->tag_state[tag] == MR_EXACT_TAG_DEAD ? tag_used[tag] : 0;
    }
    MR_ASSERT(used == exact->used && dead == exact->dead);
    MR_ASSERT(dead == 0 || exact->sweep_left > 0);
    MR_ASSERT(used - dead <= exact->ids_max);
}
