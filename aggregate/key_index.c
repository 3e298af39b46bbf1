/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/key_index.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/limits.h"

enum { BLOCKS_FIRST = 4, BUCKETS_MIN = 16 };

/* Slots: blocks of pointers. */

enum mr_status mr_slots_reserve(struct mr_slots *slots) {
    if (slots->count < (uint64_t)slots->block_count * MR_SLOTS_BLOCK) {
        return MR_OK;
    }
    if (slots->block_count == slots->block_cap) {
        uint32_t cap = slots->block_cap == 0 ? BLOCKS_FIRST : slots->block_cap * 2;
        void ***blocks = mr_realloc(slots->blocks, cap * sizeof *blocks);
        if (blocks == NULL) {
            return MR_NO_MEMORY;
        }
        slots->blocks = blocks;
        slots->block_cap = cap;
    }
    void **block = mr_alloc(MR_SLOTS_BLOCK * sizeof *block);
    if (block == NULL) {
        return MR_NO_MEMORY;
    }
    slots->blocks[slots->block_count++] = block;
    return MR_OK;
}

void mr_slots_finish(struct mr_slots *slots) {
    for (uint32_t b = 0; b < slots->block_count; b++) {
        mr_free(slots->blocks[b]);
    }
    mr_free(slots->blocks);
    *slots = (struct mr_slots){0};
}

/* One block is kept in reserve, so that a count that wavers costs nothing. */
void mr_slots_pop(struct mr_slots *slots) {
    MR_ASSERT(slots->count > 0);
    slots->count--;
    while ((uint64_t)slots->block_count * MR_SLOTS_BLOCK > slots->count + 2 * MR_SLOTS_BLOCK) {
        mr_free(slots->blocks[--slots->block_count]);
    }
}

/* Keys: linear hashing. With 2^level <= buckets < 2^(level + 1), a key is in the bucket of its lower level + 1 bits,
 * or, while that one does not exist, of its lower level bits. The upper bits have chosen the shard. */

static uint64_t level_size(uint64_t buckets) {
    return UINT64_C(1) << (63 - __builtin_clzll(buckets));
}

static uint64_t bucket_of(const struct mr_key_index *index, uint64_t hash) {
    uint64_t size = level_size(index->buckets.count);
    uint64_t bucket = hash & (2 * size - 1);
    return bucket < index->buckets.count ? bucket : hash & (size - 1);
}

static struct mr_key_entry **chain(const struct mr_key_index *index, uint64_t bucket) {
    return (struct mr_key_entry **)(void *)mr_slot(&index->buckets, bucket);
}

struct mr_key_entry *mr_key_index_find(const struct mr_key_index *index, uint64_t hash, struct mr_bytes bytes) {
    if (index->buckets.count == 0) {
        return NULL;
    }
    struct mr_key_entry *key = *chain(index, bucket_of(index, hash));
    while (key != NULL && (key->hash != hash || !mr_bytes_equal(mr_bytes_of(key->bytes, key->len), bytes))) {
        key = key->next;
    }
    return key;
}

/* One bucket more: takes its share of the one it shares the lower bits with. Room has been reserved. */
static void split_bucket(struct mr_key_index *index) {
    uint64_t added = index->buckets.count++;
    *chain(index, added) = NULL;
    if (added < BUCKETS_MIN) {
        return; /* there are no keys yet */
    }
    uint64_t size = level_size(added);
    struct mr_key_entry **link = chain(index, added - size);
    while (*link != NULL) {
        struct mr_key_entry *key = *link;
        if ((key->hash & (2 * size - 1)) == added) {
            *link = key->next;
            key->next = *chain(index, added);
            *chain(index, added) = key;
        } else {
            link = &key->next;
        }
    }
}

static void join_bucket(struct mr_key_index *index) {
    uint64_t last = index->buckets.count - 1;
    struct mr_key_entry **link = chain(index, last - level_size(last));
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = *chain(index, last);
    mr_slots_pop(&index->buckets);
}

struct mr_key_entry *mr_key_index_add(struct mr_key_index *index, uint64_t hash, struct mr_bytes bytes) {
    MR_ASSERT(bytes.len <= MR_KEY_LEN_MAX);
    do {
        if (mr_slots_reserve(&index->buckets) != MR_OK) {
            return NULL;
        }
        if (index->buckets.count < BUCKETS_MIN || index->buckets.count < index->count) {
            split_bucket(index);
        }
    } while (index->buckets.count < BUCKETS_MIN);
    struct mr_key_entry *key = mr_alloc(sizeof *key + bytes.len);
    if (key == NULL) {
        return NULL;
    }
    struct mr_key_entry **first = chain(index, bucket_of(index, hash));
    *key = (struct mr_key_entry){.next = *first, .hash = hash, .len = (uint32_t)bytes.len};
    if (bytes.len > 0) {
        memcpy(key->bytes, bytes.ptr, bytes.len);
    }
    *first = key;
    index->count++;
    return key;
}

void mr_key_index_release(struct mr_key_index *index, struct mr_key_entry *key) {
    if (key->refs > 1) {
        key->refs--;
        return;
    }
    MR_ASSERT(key->root == NULL);
    struct mr_key_entry **link = chain(index, bucket_of(index, key->hash));
    while (*link != key) {
        link = &(*link)->next;
    }
    *link = key->next;
    mr_free(key);
    index->count--;
    for (uint32_t i = 0; i < 2 && index->buckets.count > BUCKETS_MIN && index->buckets.count > 2 * index->count; i++) {
        join_bucket(index); /* two a key: so they keep up */
    }
}

void mr_key_index_finish(struct mr_key_index *index) {
    MR_ASSERT(index->count == 0);
    mr_slots_finish(&index->buckets);
}

void mr_key_index_check_scan(const struct mr_key_index *index, uint64_t seed) {
    uint64_t all = 0;
    for (uint64_t b = 0; b < index->buckets.count; b++) {
        const struct mr_key_entry *key = *mr_slot(&index->buckets, b);
        for (; key != NULL; key = key->next, all++) {
            struct mr_bytes bytes = mr_bytes_of(key->bytes, key->len);
            MR_ASSERT(key->hash == mr_hash64(bytes, seed) && key->refs > 0);
            MR_ASSERT(mr_key_index_find(index, key->hash, bytes) == key);
        }
    }
    MR_ASSERT(all == index->count);
    MR_ASSERT(index->buckets.count <= (all < 8 ? 16 : 2 * all + 1) && index->buckets.count + 1 >= all);
}
