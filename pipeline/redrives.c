/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/redrives.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/pack.h"

#include <stdlib.h>

enum { CAP_FIRST = 64, SAVED_PLACE = 12 };

static bool is_place(const struct mr_redrive_place *slot, uint64_t lsn, uint32_t index) {
    return slot->lsn == lsn && slot->index == index;
}

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4). The places are this server's own numbers: nobody can aim at a slot. */
static uint32_t home_of(const struct mr_redrives *r, uint64_t lsn, uint32_t index) {
    uint64_t mixed = (lsn ^ (uint64_t)index << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) & (r->cap - 1);
}

/* The slot of the place, or the free one where it would be. */
static uint32_t slot_of(const struct mr_redrives *r, uint64_t lsn, uint32_t index) {
    uint32_t at = home_of(r, lsn, index);
    while (r->slots[at].lsn != 0 && !is_place(&r->slots[at], lsn, index)) {
        at = (at + 1) & (r->cap - 1);
    }
    return at;
}

void mr_redrives_finish(struct mr_redrives *redrives) {
    mr_free(redrives->slots);
    *redrives = (struct mr_redrives){.cap = 0};
}

bool mr_redrives_has(const struct mr_redrives *redrives, uint64_t lsn, uint32_t index) {
    MR_ASSERT(lsn > 0);
    return redrives->cap > 0 && redrives->slots[slot_of(redrives, lsn, index)].lsn != 0;
}

/* Another table of cap slots with the places from first_lsn on. */
static enum mr_status rebuild(struct mr_redrives *r, uint32_t cap, uint64_t first_lsn) {
    struct mr_redrives fresh = {.cap = cap, .first_lsn = first_lsn};
    fresh.slots = mr_alloc_zero(cap, sizeof *fresh.slots);
    if (fresh.slots == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < r->cap; i++) {
        const struct mr_redrive_place *old = &r->slots[i];
        if (old->lsn != 0 && old->lsn >= first_lsn) {
            fresh.slots[slot_of(&fresh, old->lsn, old->index)] = *old;
            fresh.count++;
        }
    }
    mr_free(r->slots);
    *r = fresh;
    return MR_OK;
}

static enum mr_status make_room(struct mr_redrives *r, uint64_t first_lsn) {
    if (r->count == MR_REDRIVES_MAX) {
        enum mr_status status = first_lsn > r->first_lsn ? rebuild(r, r->cap, first_lsn) : MR_LIMIT;
        return status == MR_OK && r->count == MR_REDRIVES_MAX ? MR_LIMIT : status;
    }
    if (r->count < r->cap / 4 * 3) {
        return MR_OK;
    }
    return rebuild(r, r->cap == 0 ? CAP_FIRST : r->cap * 2, r->first_lsn);
}

enum mr_status mr_redrives_add(struct mr_redrives *redrives, uint64_t lsn, uint32_t index,
                               uint64_t first_lsn) {
    MR_ASSERT(!mr_redrives_has(redrives, lsn, index));
    enum mr_status status = make_room(redrives, first_lsn);
    if (status != MR_OK) {
        return status;
    }
    redrives->slots[slot_of(redrives, lsn, index)] = (struct mr_redrive_place){lsn, index};
    redrives->count++;
    return MR_OK;
}

/* Those behind it move up, so that none is cut off from its home (Knuth, TAOCP 3, 6.4, algorithm R). */
void mr_redrives_remove(struct mr_redrives *redrives, uint64_t lsn, uint32_t index) {
    MR_ASSERT(mr_redrives_has(redrives, lsn, index));
    uint32_t mask = redrives->cap - 1;
    uint32_t hole = slot_of(redrives, lsn, index);
    for (uint32_t at = (hole + 1) & mask; redrives->slots[at].lsn != 0; at = (at + 1) & mask) {
        uint32_t home = home_of(redrives, redrives->slots[at].lsn, redrives->slots[at].index);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            redrives->slots[hole] = redrives->slots[at];
            hole = at;
        }
    }
    redrives->slots[hole] = (struct mr_redrive_place){.lsn = 0};
    redrives->count--;
}

static int by_place(const void *a, const void *b) {
    const struct mr_redrive_place *x = a;
    const struct mr_redrive_place *y = b;
    int by_lsn = (x->lsn > y->lsn) - (x->lsn < y->lsn);
    return by_lsn != 0 ? by_lsn : (x->index > y->index) - (x->index < y->index);
}

void mr_redrives_save(const struct mr_redrives *redrives, uint64_t first_lsn, struct mr_buf *ret) {
    struct mr_redrive_place *places = mr_alloc_zero(redrives->count + 1, sizeof *places);
    if (places == NULL) {
        ret->failed = true;
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < redrives->cap; i++) {
        if (redrives->slots[i].lsn != 0 && redrives->slots[i].lsn >= first_lsn) {
            places[count++] = redrives->slots[i];
        }
    }
    qsort(places, count, sizeof *places, by_place);
    for (uint32_t i = 0; i < count; i++) {
        mr_pack_u64(ret, places[i].lsn);
        mr_pack_u32(ret, places[i].index);
    }
    mr_free(places);
}

enum mr_status mr_redrives_load(struct mr_redrives *redrives, struct mr_bytes saved) {
    MR_ASSERT(redrives->count == 0);
    struct mr_unpack u = {.rest = saved};
    if (saved.len % SAVED_PLACE != 0) {
        return MR_CORRUPT;
    }
    while (u.rest.len > 0) {
        uint64_t lsn = mr_unpack_u64(&u);
        uint32_t index = mr_unpack_u32(&u);
        if (lsn == 0 || mr_redrives_has(redrives, lsn, index)) {
            return MR_CORRUPT;
        }
        enum mr_status status = mr_redrives_add(redrives, lsn, index, 0);
        if (status != MR_OK) {
            return status == MR_LIMIT ? MR_CORRUPT : status;
        }
    }
    return MR_OK;
}

void mr_redrives_check(const struct mr_redrives *redrives) {
    uint32_t count = 0;
    MR_ASSERT((redrives->cap & (redrives->cap - 1)) == 0);
    MR_ASSERT(redrives->count <= MR_REDRIVES_MAX && redrives->count <= redrives->cap / 4 * 3);
    for (uint32_t i = 0; i < redrives->cap; i++) {
        const struct mr_redrive_place *slot = &redrives->slots[i];
        count += slot->lsn != 0;
        MR_ASSERT(slot->lsn == 0 || slot_of(redrives, slot->lsn, slot->index) == i);
    }
    MR_ASSERT(count == redrives->count);
}
