/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/exact.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"

#define FP_HI_MASK (UINT64_MAX >> 8)

/* A body that is compiled once for each kind of table, where kind is constant: the usual one does not ask which it is.
 * Each stands alone, so that the compiler decides about it as if there were no other. */
#define OF_EACH_KIND __attribute__((always_inline)) static inline
#define NOINLINE     __attribute__((noinline))

enum {
    LOAD_NUM = 17, /* ids_max / slots = 17/24 = 0.71 */
    LOAD_DEN = 24,
    SLOTS_MIN = 128,
    SWEEP_EVERY_MAX = 32,
    OPENINGS_PER_PASS = 128,
    SLOTS_PER_LINE = MR_CACHE_LINE / sizeof(struct mr_exact_entry),
    NEXT_LINES_AHEAD = 4, /* ids */
    SWEEP_PREFETCH = 64,   /* slots: 16 lines */
};

static_assert(sizeof(struct mr_exact_entry) == 16, "24 bytes an id rest on it");
static_assert(MR_CACHE_LINE % sizeof(struct mr_exact_entry) == 0, "an entry lies in one line");

static uint64_t slots_for(uint64_t ids_max) {
    MR_ASSERT(ids_max > 0 && ids_max <= UINT64_C(1) << 41);
    uint64_t slots = ids_max * LOAD_DEN / LOAD_NUM + 1;
    return slots < SLOTS_MIN ? SLOTS_MIN : slots;
}

static uint64_t contents_bytes(uint64_t slots) {
    return slots * sizeof(uint64_t);
}

uint64_t mr_exact_bytes_planned(uint64_t ids_max, enum mr_exact_kind kind) {
    uint64_t slots = slots_for(ids_max);
    return slots * sizeof(struct mr_exact_entry) + (kind == MR_EXACT_CONTENTS ? contents_bytes(slots) : 0);
}

/* Above it the sweep hurries. */
static inline uint64_t crowded(const struct mr_exact *exact) {
    return exact->slots / 8 * 7;
}

enum mr_status mr_exact_open(struct mr_exact *exact, uint64_t ids_max, enum mr_exact_kind kind) {
    *exact = (struct mr_exact){.slots = slots_for(ids_max), .ids_max = ids_max};
    exact->entries = mr_alloc_pages(exact->slots * sizeof(struct mr_exact_entry));
    if (exact->entries != NULL && kind == MR_EXACT_CONTENTS) {
        exact->contents = mr_alloc_pages(contents_bytes(exact->slots));
    }
    if (exact->entries == NULL || (kind == MR_EXACT_CONTENTS && exact->contents == NULL)) {
        mr_exact_close(exact);
        return MR_NO_MEMORY;
    }
    uint64_t every = exact->slots / 128;
    exact->sweep_every = every > SWEEP_EVERY_MAX ? SWEEP_EVERY_MAX : every;
    MR_ASSERT(exact->sweep_every > 0);
    MR_ASSERT(ids_max < crowded(exact)); /* else the sweep would never rest */
    return MR_OK;
}

void mr_exact_close(struct mr_exact *exact) {
    if (exact->entries != NULL) {
        mr_free_pages(exact->entries, exact->slots * sizeof(struct mr_exact_entry));
    }
    if (exact->contents != NULL) {
        mr_free_pages(exact->contents, contents_bytes(exact->slots));
    }
    *exact = (struct mr_exact){0};
}

/* ---- slots ---- */

/* 56 bits of hi and 8 low ones of lo, mapped evenly to the slots; the shift drops an entry's
 * tag. */
static inline uint64_t home_of(uint64_t lo, uint64_t hi, uint64_t slots) {
    return (uint64_t)(((__uint128_t)(hi << 8 | (lo & 0xff)) * slots) >> 64);
}

static inline uint8_t tag_of(const struct mr_exact_entry *entry) {
    return (uint8_t)(entry->hi >> 56);
}

static inline uint64_t after(uint64_t slot, uint64_t slots) {
    return slot + 1 == slots ? 0 : slot + 1;
}

/* How far an entry at `slot` is from `home`, going around the end. */
static inline uint64_t distance(uint64_t home, uint64_t slot, uint64_t slots) {
    return slot >= home ? slot - home : slot + slots - home;
}

/* The slot of the live entry, or, when there is none, where a new one belongs (I1): before the
 * first entry that is nearer to its home than the searched one would be there. I3: it ends. */
static inline uint64_t probe(const struct mr_exact *exact, struct mr_fingerprint fp,
                             bool *ret_found) {
    const struct mr_exact_entry *entries = exact->entries;
    uint64_t slots = exact->slots;
    uint64_t slot = home_of(fp.lo, fp.hi, slots);
    *ret_found = false;
    for (uint64_t away = 0; entries[slot].hi != 0; away++) {
        uint64_t lo = entries[slot].lo;
        uint64_t hi = entries[slot].hi;
        bool same = lo == fp.lo && (hi & FP_HI_MASK) == fp.hi;
        if (MR_BUG(FINGERPRINT_SHORT)) {
            same = ((lo ^ fp.lo) & 0xff) == 0;
        }
        if (same && exact->tag_state[hi >> 56] == MR_EXACT_TAG_LIVE) {
            *ret_found = true;
            break;
        }
        if (distance(home_of(lo, hi, slots), slot, slots) < away) {
            break;
        }
        slot = after(slot, slots);
    }
    return slot;
}

/* Puts a new entry where probe said, and moves those from there on up by one, to the first slot
 * that is empty or dead. */
OF_EACH_KIND void put(struct mr_exact *exact, uint64_t slot, struct mr_fingerprint fp, uint8_t tag, uint64_t content,
                      enum mr_exact_kind kind) {
    struct mr_exact_entry carried = {.lo = fp.lo, .hi = (uint64_t)tag << 56 | fp.hi};
    struct mr_exact_entry *entries = exact->entries;
    for (;;) {
        struct mr_exact_entry there = entries[slot];
        entries[slot] = carried;
        if (kind == MR_EXACT_CONTENTS) {
            uint64_t content_there = exact->contents[slot];
            exact->contents[slot] = content;
            content = content_there;
        }
        if (exact->tag_state[tag_of(&there)] != MR_EXACT_TAG_LIVE) {
            carried = there;
            break;
        }
        carried = there;
        slot = after(slot, exact->slots);
    }
    if (carried.hi != 0) {
        exact->tag_used[tag_of(&carried)]--;
        exact->dead--;
        exact->used--;
    }
    exact->tag_used[tag]++;
    exact->used++;
}

/* The first slot of [at, end) that is dead, or end. */
static inline uint64_t skip_to_dead(const struct mr_exact *exact, uint64_t at, uint64_t end) {
    MR_ASSERT(at <= end && end <= exact->slots);
    const struct mr_exact_entry *entries = exact->entries;
    while (at < end && exact->tag_state[entries[at].hi >> 56] != MR_EXACT_TAG_DEAD) {
        at++;
    }
    return at;
}

/* Takes out the dead entry at `first` and those behind it, and moves the live ones down, each as
 * far as to its home, so that I1 holds again:
 *
 *     slot  4    5    6    7    8    9         x is dead; a letter's number is its home
 *          |a4 | x4 |b4 |c6 | x7 |d9 |
 *          |a4 |b4 |    |c6 |    |d9 |         b moves by the one slot that is free, c is at home
 *
 * Ends where nothing behind has to move: returns that slot. */
OF_EACH_KIND uint64_t compact(struct mr_exact *exact, uint64_t first, enum mr_exact_kind kind) {
    struct mr_exact_entry *entries = exact->entries;
    uint64_t slots = exact->slots;
    uint64_t removed = 0;
    uint64_t gap = 0; /* free slots directly below `at`, which entries may move into */
    uint64_t at = first;
    do {
        struct mr_exact_entry entry = entries[at];
        uint8_t tag = tag_of(&entry);
        if (exact->tag_state[tag] == MR_EXACT_TAG_DEAD) {
            exact->tag_used[tag]--;
            removed++;
            gap++;
            entries[at] = (struct mr_exact_entry){0, 0};
            if (kind == MR_EXACT_CONTENTS) {
                exact->contents[at] = 0;
            }
        } else {
            uint64_t away = distance(home_of(entry.lo, entry.hi, slots), at, slots);
            gap = away < gap ? away : gap;
            gap = tag == 0 ? 0 : gap;
            uint64_t to = at >= gap ? at - gap : at + slots - gap;
            entries[at] = (struct mr_exact_entry){0, 0}; /* before the next line: gap may be 0 */
            entries[to] = entry;
            if (kind == MR_EXACT_CONTENTS) {
                uint64_t content = exact->contents[at];
                exact->contents[at] = 0;
                exact->contents[to] = content;
            }
        }
        at = after(at, slots);
    } while (gap > 0);
    MR_ASSERT(removed > 0 && removed <= exact->dead);
    exact->dead -= removed;
    exact->used -= removed;
    return at;
}

/* The lines where the next share begins: by then they have left the cache, and a stream of reads
 * this short is over before the hardware has recognized it. */
static inline void prefetch_sweep(const struct mr_exact *exact) {
    uint64_t end = exact->sweep_at + SWEEP_PREFETCH;
    end = end < exact->slots ? end : exact->slots;
    for (uint64_t slot = exact->sweep_at; slot < end; slot += SLOTS_PER_LINE) {
        __builtin_prefetch(&exact->entries[slot]);
    }
}

OF_EACH_KIND bool sweep(struct mr_exact *exact, uint64_t slots, enum mr_exact_kind kind) {
    uint64_t at = exact->sweep_at;
    MR_ASSERT(at < exact->slots);
    for (uint64_t visited = 0; visited < slots && exact->dead > 0;) {
        uint64_t left = slots - visited;
        uint64_t end = left < exact->slots - at ? at + left : exact->slots;
        uint64_t dead = skip_to_dead(exact, at, end);
        visited += dead - at;
        at = dead < exact->slots ? dead : 0;
        if (dead < end) {
            at = compact(exact, dead, kind);
            visited += distance(dead, at, exact->slots);
        }
    }
    exact->sweep_at = at;
    bool paid = exact->dead == 0 || slots >= exact->sweep_debt;
    exact->sweep_debt = paid ? 0 : exact->sweep_debt - slots;
    return exact->dead > 0;
}

NOINLINE static bool sweep_ids(struct mr_exact *exact, uint64_t slots) {
    return sweep(exact, slots, MR_EXACT_IDS);
}

NOINLINE static bool sweep_contents(struct mr_exact *exact, uint64_t slots) {
    return sweep(exact, slots, MR_EXACT_CONTENTS);
}

bool mr_exact_sweep(struct mr_exact *exact, uint64_t slots) {
    return exact->contents == NULL ? sweep_ids(exact, slots) : sweep_contents(exact, slots);
}

/* ---- tags ---- */

void mr_exact_tag_open(struct mr_exact *exact, uint8_t tag) {
    MR_ASSERT(tag != 0 && exact->tag_state[tag] != MR_EXACT_TAG_LIVE);
    if (exact->sweep_debt > 0) {
        /* Whether anything dead is left does not matter here. */
        (void)mr_exact_sweep(exact, exact->sweep_debt);
    }
    exact->sweep_debt = exact->dead > 0 ? exact->slots / OPENINGS_PER_PASS + 1 : 0;
    MR_ASSERT(exact->tag_used[tag] == 0);
    exact->tag_state[tag] = MR_EXACT_TAG_LIVE;
}

void mr_exact_tag_kill(struct mr_exact *exact, uint8_t tag) {
    MR_ASSERT(exact->tag_state[tag] == MR_EXACT_TAG_LIVE);
    exact->tag_state[tag] = MR_EXACT_TAG_DEAD;
    exact->dead += exact->tag_used[tag];
    MR_ASSERT(exact->dead <= exact->used);
}

/* ---- judging ---- */

/* The home's line, and that of its content. */
OF_EACH_KIND void prefetch(const struct mr_exact *exact, struct mr_fingerprint fp, enum mr_exact_kind kind) {
    uint64_t home = home_of(fp.lo, fp.hi, exact->slots);
    __builtin_prefetch(&exact->entries[home]);
    if (kind == MR_EXACT_CONTENTS) {
        __builtin_prefetch(&exact->contents[home]);
    }
}

/* The two lines behind it, which a new id reaches more often than not (the second where many are dead: 6 % of a full
 * table's time). Later than the first, so that they don't all wait for the same page translation (10 % at 4 M ids). */
static inline void prefetch_next_lines(const struct mr_exact *exact, struct mr_fingerprint fp) {
    uint64_t slot = home_of(fp.lo, fp.hi, exact->slots) + SLOTS_PER_LINE;
    slot = slot + SLOTS_PER_LINE < exact->slots ? slot : 0;
    __builtin_prefetch(&exact->entries[slot]);
    __builtin_prefetch(&exact->entries[slot + SLOTS_PER_LINE]);
}

/* The share of the sweep that one new id brings with it, in chunks: a chunk reads memory in a
 * row. */
OF_EACH_KIND void sweep_share(struct mr_exact *exact, enum mr_exact_kind kind) {
    if (++exact->sweep_wait < exact->sweep_every) {
        return;
    }
    exact->sweep_wait = 0;
    if (exact->dead > 0) {
        uint64_t pace = exact->used > crowded(exact) ? MR_EXACT_SWEEP_PACE : 1;
        (void)(kind == MR_EXACT_IDS ? sweep_ids(exact, exact->sweep_every * pace)
                                    : sweep_contents(exact, exact->sweep_every * pace));
        prefetch_sweep(exact);
    }
    MR_ASSERT(exact->used <= exact->slots - exact->slots / 32);
}

static inline uint8_t compare(uint64_t first, uint64_t content) {
    return first != 0 && content != 0 && first != content ? MR_DEDUP_CONFLICT : MR_DEDUP_DUPLICATE;
}

OF_EACH_KIND uint32_t judge(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from, uint8_t tag,
                            uint64_t new_max, uint64_t *ret_new, enum mr_exact_kind kind) {
    const struct mr_fingerprint *fps = batch->fps;
    const uint32_t *order = batch->order;
    uint64_t count = batch->count;
    MR_ASSERT(new_max == 0 || exact->tag_state[tag] == MR_EXACT_TAG_LIVE);
    MR_ASSERT(new_max <= exact->ids_max - (exact->used - exact->dead));
    for (uint64_t k = from; k < count && k < from + (uint64_t)MR_DEDUP_AHEAD; k++) {
        prefetch(exact, fps[order[k]], kind);
    }
    uint64_t new_ids = 0;
    uint64_t k = from;
    for (; k < count; k++) {
        if (k + MR_DEDUP_AHEAD < count) {
            prefetch(exact, fps[order[k + MR_DEDUP_AHEAD]], kind);
        }
        if (k + NEXT_LINES_AHEAD < count) {
            prefetch_next_lines(exact, fps[order[k + NEXT_LINES_AHEAD]]);
        }
        struct mr_fingerprint fp = fps[order[k]];
        MR_ASSERT(fp.hi <= FP_HI_MASK);
        bool found;
        uint64_t slot = probe(exact, fp, &found);
        if (!found) {
            if (new_ids == new_max) {
                break;
            }
            put(exact, slot, fp, tag, kind == MR_EXACT_CONTENTS ? batch->contents[k] : 0, kind);
            new_ids++;
            sweep_share(exact, kind);
        }
        if (kind == MR_EXACT_CONTENTS && found) {
            batch->duplicate[k] = compare(exact->contents[slot], batch->contents[k]);
        } else {
            batch->duplicate[k] = found;
        }
    }
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
    MR_ASSERT(fp.hi <= FP_HI_MASK);
    bool found;
    uint64_t slot = probe(exact, fp, &found);
    return found ? tag_of(&exact->entries[slot]) : 0;
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
        const struct mr_exact_entry *entry = &exact->entries[slot];
        uint8_t tag = tag_of(entry);
        if (exact->tag_state[tag] == MR_EXACT_TAG_LIVE) {
            uint64_t content = exact->contents == NULL ? 0 : mix(exact->contents[slot]);
            sum += mix(mix(mix(entry->lo) + (entry->hi & FP_HI_MASK)) + tag_salt[tag] + content);
        }
    }
    return sum;
}

/* I1 and I2 for one entry: on the way from its home are only entries whose homes are not behind its
 * own, and none of them is a live one of the same fingerprint. */
static void check_entry(const struct mr_exact *exact, uint64_t at) {
    const struct mr_exact_entry *entry = &exact->entries[at];
    bool live = exact->tag_state[tag_of(entry)] == MR_EXACT_TAG_LIVE;
    uint64_t home = home_of(entry->lo, entry->hi, exact->slots);
    for (uint64_t slot = home; slot != at; slot = after(slot, exact->slots)) {
        const struct mr_exact_entry *other = &exact->entries[slot];
        MR_ASSERT(other->hi != 0);
        uint64_t other_home = home_of(other->lo, other->hi, exact->slots);
        MR_ASSERT(distance(other_home, slot, exact->slots) >= distance(home, slot, exact->slots));
        bool same = other->lo == entry->lo && ((other->hi ^ entry->hi) & FP_HI_MASK) == 0;
        MR_ASSERT(!(same && live && exact->tag_state[tag_of(other)] == MR_EXACT_TAG_LIVE));
    }
}

void mr_exact_check_scan(const struct mr_exact *exact) {
    uint64_t tag_used[MR_EXACT_TAGS] = {0};
    for (uint64_t slot = 0; slot < exact->slots; slot++) {
        const struct mr_exact_entry *entry = &exact->entries[slot];
        tag_used[tag_of(entry)]++;
        if (tag_of(entry) == 0) {
            MR_ASSERT(entry->hi == 0 && entry->lo == 0);
            MR_ASSERT(exact->contents == NULL || exact->contents[slot] == 0);
        } else {
            check_entry(exact, slot);
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
    MR_ASSERT(used - dead <= exact->ids_max);
    MR_ASSERT(used <= exact->slots - exact->slots / 32);
}
