/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/groups.h"

#include "base/alloc.h"
#include "base/check.h"

enum {
    BLOCK_BYTES_FIRST = 256,
    BLOCK_BYTES = 64 * 1024,
    BLOCK_SHIFT = 13, /* a reference: block << 13 | offset in words of 8 bytes */
    BLOCK_MASK = (1 << BLOCK_SHIFT) - 1,
    BLOCKS_MAX = 1 << (32 - BLOCK_SHIFT),
    SEGMENT_WORDS_FIRST = 8,
    SEGMENT_WORDS = 1024,
    DEPTH_MAX = 22, /* leaves 10 bits of the hash to spread the slots of one segment */
};

static_assert(BLOCK_BYTES == 8 << BLOCK_SHIFT, "a reference reaches each word of a block");

/* slots[i]: hash << 32 | (reference + 1); 0: empty. With its header a segment fills whole size
 * classes. */
struct mr_group_segment {
    uint16_t slot_count;
    uint16_t used;
    uint32_t depth; /* its hashes agree in that many top bits */
    uint64_t slots[];
};

static_assert(sizeof(struct mr_group_segment) == 8, "one word");

void mr_groups_init(struct mr_groups *groups, uint32_t state_len) {
    MR_ASSERT(state_len % 8 == 0);
    *groups = (struct mr_groups){.state_len = state_len};
}

static inline const struct mr_group_block *block_at(const struct mr_groups *groups, uint32_t b) {
    MR_ASSERT(b < groups->block_count);
    return groups->blocks == NULL ? &groups->first : &groups->blocks[b];
}

static uint32_t directory_len(const struct mr_groups *groups) {
    return groups->directory == NULL ? 0 : UINT32_C(1) << groups->depth;
}

static struct mr_group_segment *segment_for(const struct mr_groups *groups, uint32_t hash) {
    return groups->directory == NULL ? groups->lone
                                     : groups->directory[hash >> (32 - groups->depth)];
}

/* Each segment once: the directory's entries for one segment lie together. */
void mr_groups_finish(struct mr_groups *groups) {
    const struct mr_group_segment *freed = NULL;
    for (uint32_t d = 0; d < directory_len(groups); d++) {
        struct mr_group_segment *segment = groups->directory[d];
        if (segment != freed) {
            freed = segment;
            mr_free(segment);
        }
    }
    mr_free(groups->directory);
    mr_free(groups->lone);
    for (uint32_t b = 0; b < groups->block_count; b++) {
        mr_free(block_at(groups, b)->ptr);
    }
    mr_free(groups->blocks);
    mr_groups_init(groups, groups->state_len);
}

static inline struct mr_group *group_at(const struct mr_groups *groups, uint32_t ref) {
    const struct mr_group_block *block = block_at(groups, ref >> BLOCK_SHIFT);
    uint32_t offset = (ref & BLOCK_MASK) * 8;
    MR_ASSERT(offset < block->used);
    return (struct mr_group *)(void *)(block->ptr + offset);
}

struct mr_group *mr_groups_at(const struct mr_groups *groups, uint32_t ref) {
    return group_at(groups, ref);
}

static uint32_t group_size(const struct mr_groups *groups, size_t key_len) {
    MR_ASSERT(key_len < BLOCK_BYTES);
    size_t size = sizeof(struct mr_group) + groups->state_len + key_len;
    return (uint32_t)((size + 7) & ~(size_t)7);
}

struct mr_group *mr_groups_next(const struct mr_groups *groups, uint32_t *ref) {
    uint32_t b = *ref >> BLOCK_SHIFT;
    if (b >= groups->block_count) {
        return NULL;
    }
    struct mr_group *group = group_at(groups, *ref);
    uint32_t end = (*ref & BLOCK_MASK) * 8 + group_size(groups, group->key_len);
    bool more = end < block_at(groups, b)->used;
    *ref = more ? *ref + group_size(groups, group->key_len) / 8 : (b + 1) << BLOCK_SHIFT;
    return group;
}

/* Inside a segment only the lower bits of hashes differ: the multiplication carries them upwards.
 * Does not read the segment, so that a slot can be prefetched. */
static uint32_t slot_of(uint32_t hash, uint32_t slot_count) {
    uint64_t spread = hash * UINT32_C(0x9E3779B1);
    return (uint32_t)(spread * slot_count >> 32);
}

void mr_groups_prefetch_slot(const struct mr_groups *groups, uint32_t hash) {
    if (groups->directory != NULL) {
        const struct mr_group_segment *segment = segment_for(groups, hash);
        __builtin_prefetch(&segment->slots[slot_of(hash, SEGMENT_WORDS - 1)]);
    }
}

/* By words, without a call, the last one over bytes of the one before: equal hashes have brought us here, so it is
 * nearly always the whole length. */
static inline bool keys_equal(const uint8_t *a, const uint8_t *b, size_t len) {
    if (len < 8) {
        return len == 0 || memcmp(a, b, len) == 0;
    }
    for (size_t at = 0;; at = at + 16 <= len ? at + 8 : len - 8) {
        uint64_t x;
        uint64_t y;
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y || at + 8 == len) {
            return x == y;
        }
    }
}

static inline bool has_key(const struct mr_groups *groups, const struct mr_group *group, struct mr_bytes key) {
    return group->key_len == key.len && keys_equal(mr_group_key(group, groups->state_len).ptr, key.ptr, key.len);
}

/* In a directory all have the full size: known without the cache miss for the header. */
static inline uint32_t slot_count_of(const struct mr_groups *groups, const struct mr_group_segment *segment) {
    return groups->directory != NULL ? SEGMENT_WORDS - 1 : segment->slot_count;
}

uint32_t mr_groups_seek(const struct mr_groups *groups, uint32_t hash) {
    const struct mr_group_segment *segment = segment_for(groups, hash);
    if (segment == NULL) {
        return MR_GROUPS_NONE;
    }
    uint32_t slot_count = slot_count_of(groups, segment);
    uint32_t i = slot_of(hash, slot_count);
    while (segment->slots[i] != 0 && (uint32_t)(segment->slots[i] >> 32) != hash) {
        i = i + 1 == slot_count ? 0 : i + 1;
    }
    if (segment->slots[i] == 0) {
        return MR_GROUPS_NONE;
    }
    uint32_t ref = (uint32_t)segment->slots[i] - 1;
    const uint8_t *group = (const uint8_t *)group_at(groups, ref);
    __builtin_prefetch(group);
    __builtin_prefetch(group + 64);
    return ref;
}

struct mr_group *mr_groups_of_key(const struct mr_groups *groups, uint32_t ref, struct mr_bytes key) {
    struct mr_group *group = ref == MR_GROUPS_NONE ? NULL : group_at(groups, ref);
    return group != NULL && has_key(groups, group, key) ? group : NULL;
}

struct mr_group *mr_groups_find(const struct mr_groups *groups, uint32_t hash, struct mr_bytes key,
                                uint32_t *ret_ref) {
    const struct mr_group_segment *segment = segment_for(groups, hash);
    if (segment == NULL) {
        return NULL;
    }
    uint32_t slot_count = slot_count_of(groups, segment);
    for (uint32_t i = slot_of(hash, slot_count);; i = i + 1 == slot_count ? 0 : i + 1) {
        uint64_t slot = segment->slots[i];
        if (slot == 0) {
            return NULL;
        }
        if ((uint32_t)(slot >> 32) == hash) {
            uint32_t ref = (uint32_t)slot - 1;
            struct mr_group *group = group_at(groups, ref);
            if (has_key(groups, group, key)) {
                *ret_ref = ref;
                return group;
            }
        }
    }
}

static struct mr_group_segment *segment_open(struct mr_groups *groups, uint32_t words,
                                             uint32_t depth) {
    struct mr_group_segment *segment = mr_alloc_zero(words, sizeof(uint64_t));
    if (segment == NULL) {
        return NULL;
    }
    segment->slot_count = (uint16_t)(words - 1);
    segment->depth = depth;
    groups->bytes += words * sizeof(uint64_t);
    return segment;
}

static void segment_close(struct mr_groups *groups, struct mr_group_segment *segment) {
    groups->bytes -= (segment->slot_count + 1U) * sizeof(uint64_t);
    mr_free(segment);
}

static void segment_put(struct mr_group_segment *segment, uint64_t slot) {
    uint32_t i = slot_of((uint32_t)(slot >> 32), segment->slot_count);
    while (segment->slots[i] != 0) {
        i = i + 1 == segment->slot_count ? 0 : i + 1;
    }
    segment->slots[i] = slot;
    segment->used++;
    MR_ASSERT(segment->used < segment->slot_count); /* a search ends at an empty slot */
}

static bool segment_full(const struct mr_group_segment *segment) {
    return (segment->used + 1U) * 4 > segment->slot_count * 3U;
}

/* A lone segment doubles until it has its full size. */
static bool grow_lone(struct mr_groups *groups) {
    struct mr_group_segment *old = groups->lone;
    uint32_t words = old == NULL ? SEGMENT_WORDS_FIRST : (old->slot_count + 1U) * 2;
    struct mr_group_segment *segment = segment_open(groups, words, 0);
    if (segment == NULL) {
        return false;
    }
    groups->lone = segment;
    if (old != NULL) {
        for (uint32_t i = 0; i < old->slot_count; i++) {
            if (old->slots[i] != 0) {
                segment_put(segment, old->slots[i]);
            }
        }
        groups->moved += old->slot_count;
        segment_close(groups, old);
    }
    return true;
}

/* Each entry becomes two. */
static bool double_directory(struct mr_groups *groups) {
    MR_ASSERT(groups->depth < DEPTH_MAX); /* hashes are seeded: nobody can make this many agree */
    uint32_t old_len = groups->directory == NULL ? 1 : directory_len(groups);
    struct mr_group_segment **directory = mr_alloc((size_t)old_len * 2 * sizeof(void *));
    if (directory == NULL) {
        return false;
    }
    for (uint32_t d = 0; d < old_len; d++) {
        struct mr_group_segment *segment =
            groups->directory == NULL ? groups->lone : groups->directory[d];
        directory[2 * d] = segment;
        directory[2 * d + 1] = segment;
    }
    groups->bytes += (groups->directory == NULL ? 2 : old_len) * sizeof(void *);
    groups->moved += old_len * 2;
    mr_free(groups->directory);
    groups->directory = directory;
    groups->lone = NULL;
    groups->depth++;
    return true;
}

static bool split_segment(struct mr_groups *groups, uint32_t hash) {
    struct mr_group_segment *old = segment_for(groups, hash);
    if (old->depth == groups->depth && !double_directory(groups)) {
        return false;
    }
    uint32_t depth = old->depth + 1;
    struct mr_group_segment *left = segment_open(groups, SEGMENT_WORDS, depth);
    struct mr_group_segment *right = segment_open(groups, SEGMENT_WORDS, depth);
    if (left == NULL || right == NULL) {
        if (left != NULL) {
            segment_close(groups, left);
        }
        if (right != NULL) {
            segment_close(groups, right);
        }
        return false;
    }
    for (uint32_t i = 0; i < old->slot_count; i++) {
        if (old->slots[i] != 0) {
            bool bit = (old->slots[i] >> (64 - depth) & 1) != 0;
            segment_put(bit ? right : left, old->slots[i]);
        }
    }
    uint32_t span = UINT32_C(1) << (groups->depth - depth); /* directory entries of each half */
    uint32_t from = (hash >> (32 - groups->depth)) & ~(2 * span - 1);
    for (uint32_t d = 0; d < span; d++) {
        groups->directory[from + d] = left;
        groups->directory[from + span + d] = right;
    }
    groups->moved += old->slot_count + 2 * span;
    segment_close(groups, old);
    return true;
}

/* Room for one more entry where hash belongs. */
static bool index_reserve(struct mr_groups *groups, uint32_t hash) {
    for (;;) {
        const struct mr_group_segment *segment = segment_for(groups, hash);
        if (segment != NULL && !segment_full(segment)) {
            return true;
        }
        bool small = segment == NULL || segment->slot_count + 1 < SEGMENT_WORDS;
        if (!(small ? grow_lone(groups) : split_segment(groups, hash))) {
            return false;
        }
    }
}

/* The first block moves when it doubles: references stay, pointers do not. */
static bool grow_first_block(struct mr_groups *groups, uint32_t need) {
    uint32_t cap = groups->first.cap == 0 ? BLOCK_BYTES_FIRST : groups->first.cap;
    while (cap < need) {
        cap *= 2;
    }
    MR_ASSERT(cap <= BLOCK_BYTES);
    uint8_t *ptr = mr_realloc(groups->first.ptr, cap);
    if (ptr == NULL) {
        return false;
    }
    groups->bytes += cap - groups->first.cap;
    groups->first.ptr = ptr;
    groups->first.cap = cap;
    groups->block_count = 1;
    return true;
}

static bool grow_block_list(struct mr_groups *groups) {
    uint32_t cap = groups->block_cap == 0 ? 4 : groups->block_cap * 2;
    struct mr_group_block *blocks = mr_realloc(groups->blocks, cap * sizeof *blocks);
    if (blocks == NULL) {
        return false;
    }
    if (groups->blocks == NULL) {
        blocks[0] = groups->first;
    }
    groups->bytes += (cap - groups->block_cap) * sizeof *blocks;
    groups->blocks = blocks;
    groups->block_cap = cap;
    return true;
}

static bool add_block(struct mr_groups *groups) {
    MR_ASSERT(groups->block_count < BLOCKS_MAX - 1);
    if (groups->block_count >= groups->block_cap && !grow_block_list(groups)) {
        return false;
    }
    uint8_t *ptr = mr_alloc(BLOCK_BYTES);
    if (ptr == NULL) {
        return false;
    }
    groups->blocks[groups->block_count++] = (struct mr_group_block){.ptr = ptr, .cap = BLOCK_BYTES};
    groups->bytes += BLOCK_BYTES;
    return true;
}

/* The last block, with room for size more bytes; NULL when out of memory. Called last, when nothing
 * can fail any more: no block stays empty, which mr_groups_next relies on. */
static struct mr_group_block *block_reserve(struct mr_groups *groups, uint32_t size) {
    MR_ASSERT(size <= BLOCK_BYTES);
    if (groups->blocks == NULL) {
        uint32_t need = groups->first.used + size;
        if (need <= groups->first.cap || (need <= BLOCK_BYTES && grow_first_block(groups, need))) {
            return &groups->first;
        }
        if (need <= BLOCK_BYTES) {
            return NULL;
        }
    } else {
        struct mr_group_block *last = &groups->blocks[groups->block_count - 1];
        if (size <= last->cap - last->used) {
            return last;
        }
    }
    return add_block(groups) ? &groups->blocks[groups->block_count - 1] : NULL;
}

enum mr_status mr_groups_add(struct mr_groups *groups, uint32_t hash, struct mr_bytes key,
                             struct mr_group **ret, uint32_t *ret_ref) {
    groups->moved = 0;
    uint32_t size = group_size(groups, key.len);
    if (!index_reserve(groups, hash)) {
        return MR_NO_MEMORY;
    }
    struct mr_group_block *block = block_reserve(groups, size);
    if (block == NULL) {
        return MR_NO_MEMORY;
    }
    uint32_t ref = (groups->block_count - 1) << BLOCK_SHIFT | block->used / 8;
    uint8_t *at = block->ptr + block->used;
    memset(at, 0, size);
    struct mr_group *group = (struct mr_group *)(void *)at;
    group->key_len = (uint32_t)key.len;
    if (key.len > 0) {
        memcpy(at + sizeof *group + groups->state_len, key.ptr, key.len);
    }
    block->used += size;
    segment_put(segment_for(groups, hash), (uint64_t)hash << 32 | (ref + 1));
    groups->count++;
    *ret = group;
    *ret_ref = ref;
    return MR_OK;
}

static void check_index(const struct mr_groups *groups) {
    uint64_t used = groups->lone == NULL ? 0 : groups->lone->used;
    const struct mr_group_segment *last = NULL;
    for (uint32_t d = 0; d < directory_len(groups); d++) {
        const struct mr_group_segment *segment = groups->directory[d];
        MR_ASSERT(segment->depth <= groups->depth && segment->slot_count == SEGMENT_WORDS - 1);
        used += segment == last ? 0 : segment->used;
        last = segment;
    }
    MR_ASSERT(used == groups->count);
    MR_ASSERT(groups->directory == NULL || groups->lone == NULL);
}

void mr_groups_check_scan(const struct mr_groups *groups,
                          uint32_t (*hash_of)(struct mr_bytes key, uint64_t seed), uint64_t seed) {
    check_index(groups);
    uint32_t at = 0;
    uint32_t count = 0;
    for (;;) {
        uint32_t ref = at;
        const struct mr_group *group = mr_groups_next(groups, &at);
        if (group == NULL) {
            break;
        }
        MR_ASSERT(at > ref); /* I1 */
        struct mr_bytes key = mr_group_key(group, groups->state_len);
        uint32_t found = 0;
        MR_ASSERT(mr_groups_find(groups, hash_of(key, seed), key, &found) == group); /* I2 */
        MR_ASSERT(found == ref);
        count++;
    }
    MR_ASSERT(count == groups->count);
    size_t bytes = groups->block_cap * sizeof *groups->blocks;
    for (uint32_t b = 0; b < groups->block_count; b++) {
        MR_ASSERT(block_at(groups, b)->used <= block_at(groups, b)->cap);
        bytes += block_at(groups, b)->cap;
    }
    MR_ASSERT(groups->bytes >= bytes); /* I3: the rest is the index */
}
