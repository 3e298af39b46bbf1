/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the loading of ids: the input is a program of damages to what a small dedup has saved, its state and its chunks
 * of ids, and the options of the one that loads them; perhaps as those of one of two shards that become one. Loading is MR_OK or an error with a text; what was taken is a sound
 * state that goes on: it judges, forgets, and saved and loaded again it is the same.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "dedup/dedup.h"
#include "log/wire.h"

#include <stdlib.h>

enum { CHUNKS_MAX = 512, IDS_EACH = 32, BLOB_MAX = 4096, STEP = 8, ROUNDS = 30, HEADER = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct chunk {
    uint64_t generation;
    uint32_t count;
    struct mr_fingerprint ids[IDS_EACH];
};

/* What a checkpoint has on disk. */
struct kept {
    uint8_t blob[BLOB_MAX];
    size_t blob_len;
    struct chunk chunks[CHUNKS_MAX];
    uint32_t count;
};

static struct mr_fingerprint fp_of(uint64_t n) {
    uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (struct mr_fingerprint){.lo = x ^ x >> 29,
                                   .hi = (x * UINT64_C(0xbf58476d1ce4e5b9)) >> 8};
}

static struct mr_dedup *open_dedup(const struct mr_dedup_options *options) {
    struct mr_dedup *dedup = NULL;
    struct mr_error error;
    enum mr_status status = mr_dedup_open(options, &dedup, &error);
    MR_ASSERT(status == MR_OK);
    return dedup;
}

static void judge(struct mr_dedup *dedup, uint64_t from, uint32_t count, int64_t recorded_ms) {
    struct mr_fingerprint fps[IDS_EACH];
    uint32_t order[IDS_EACH];
    uint8_t duplicate[IDS_EACH];
    mr_dedup_advance(dedup, recorded_ms);
    uint64_t room = mr_dedup_room(dedup, recorded_ms);
    count = room < count ? (uint32_t)room : count;
    for (uint32_t i = 0; i < count; i++) {
        fps[i] = fp_of(from + i);
        order[i] = i;
    }
    enum mr_status status = mr_dedup_reserve(dedup, count);
    MR_ASSERT(status == MR_OK);
    mr_dedup_judge(dedup, fps, order, count, duplicate);
}

static void take(struct mr_dedup *dedup, struct kept *ret) {
    struct mr_dedup_chunk *chunk = mr_dedup_take(dedup, true);
    while (chunk != NULL) {
        struct mr_dedup_chunk *next = chunk->next;
        for (uint32_t from = 0; from < chunk->count; from += IDS_EACH) {
            uint32_t left = chunk->count - from;
            MR_ASSERT(ret->count < CHUNKS_MAX);
            struct chunk *to = &ret->chunks[ret->count++];
            to->generation = chunk->generation;
            to->count = left < IDS_EACH ? left : IDS_EACH;
            memcpy(to->ids, chunk->ids + from, to->count * sizeof to->ids[0]);
        }
        mr_free(chunk);
        chunk = next;
    }
}

static void save(const struct mr_dedup *dedup, struct kept *ret) {
    struct mr_buf blob;
    mr_buf_init(&blob, BLOB_MAX);
    mr_dedup_save(dedup, &blob);
    MR_ASSERT(!blob.failed);
    memcpy(ret->blob, blob.ptr, blob.len);
    ret->blob_len = blob.len;
    mr_buf_finish(&blob);
    uint64_t first = 0;
    enum mr_status status = mr_dedup_saved_first(mr_bytes_of(ret->blob, ret->blob_len), &first);
    MR_ASSERT(status == MR_OK && first == mr_dedup_first_generation(dedup));
}

static void make_sample(enum mr_dedup_mode mode, uint64_t first_id, struct kept *ret) {
    const struct mr_dedup_options options = {.mode = mode,
                                             .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                             .horizon_ms = 1000,
                                             .ids_max = 200,
                                             .error = 0.01};
    struct mr_dedup *dedup = open_dedup(&options);
    mr_dedup_journal(dedup, true);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        judge(dedup, first_id + i * 8u, 10, 5000 + i * 60);
    }
    take(dedup, ret);
    save(dedup, ret);
    mr_dedup_close(dedup);
}

static void damage(struct kept *kept, const uint8_t step[STEP]) {
    size_t at = kept->blob_len == 0 ? 0 : mr_wire_u16(step + 2) % kept->blob_len;
    size_t word = at - at % 8;
    struct chunk *chunk = &kept->chunks[step[1] % kept->count];
    switch (step[0] % 8) {
    case 0:
        kept->blob[at] ^= step[4];
        break;
    case 1:
        mr_wire_put_u64(kept->blob + word, (uint64_t)(int64_t)(int8_t)step[4] << step[5] % 57);
        break;
    case 2:
        mr_wire_put_u64(kept->blob + word,
                        mr_wire_u64(kept->blob + word) + (uint64_t)(int64_t)(int8_t)step[4]);
        break;
    case 3:
        kept->blob_len = at;
        break;
    case 4:
        chunk->generation += (uint64_t)(int64_t)(int8_t)step[4];
        break;
    case 5:
        chunk->count = step[4] % (IDS_EACH + 1);
        break;
    case 6:
        chunk->ids[step[2] % IDS_EACH].hi ^= (uint64_t)step[4] << step[5] % 64;
        break;
    default:
        *chunk = kept->chunks[step[4] % kept->count];
    }
}

static enum mr_status load_ids(struct mr_dedup *dedup, const struct kept *kept, uint32_t saved,
                               struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < kept->count && status == MR_OK; i++) {
        const struct chunk *chunk = &kept->chunks[i];
        status =
            mr_dedup_load_ids(dedup, saved, chunk->generation, chunk->ids, NULL, chunk->count, error);
    }
    return status;
}

/* other: of a second shard, or NULL. */
static enum mr_status load(struct mr_dedup *dedup, const struct kept *kept,
                           const struct kept *other, bool moved) {
    struct mr_bytes blobs[2] = {mr_bytes_of(kept->blob, kept->blob_len)};
    struct mr_error error = {.text = ""};
    if (other != NULL) {
        blobs[1] = mr_bytes_of(other->blob, other->blob_len);
    }
    enum mr_status status = mr_dedup_load_begin(dedup, blobs, other == NULL ? 1 : 2, &error);
    if (moved && status == MR_OK) {
        mr_dedup_journal(dedup, true);
    }
    if (status == MR_OK) {
        status = load_ids(dedup, kept, 0, &error);
    }
    if (status == MR_OK && other != NULL) {
        status = load_ids(dedup, other, 1, &error);
    }
    if (status == MR_OK) {
        status = mr_dedup_load_end(dedup, moved, &error);
    }
    MR_ASSERT(status == MR_OK || error.text[0] != '\0');
    MR_ASSERT(status == MR_OK || status == MR_CORRUPT || status == MR_FULL ||
              status == MR_MISMATCH);
    return status;
}

/* What was taken is loaded once more, from the chunks that count now, and goes on. */
static void check(struct mr_dedup *dedup, const struct mr_dedup_options *options, struct kept *kept,
                  bool moved) {
    mr_dedup_check_scan(dedup);
    if (moved) {
        kept->count = 0;
        take(dedup, kept);
    }
    save(dedup, kept);
    struct mr_dedup *again = open_dedup(options);
    enum mr_status status = load(again, kept, NULL, false);
    MR_ASSERT(status == MR_OK);
    MR_ASSERT(mr_dedup_state_hash_scan(again) == mr_dedup_state_hash_scan(dedup));
    mr_dedup_close(again);
    mr_dedup_journal(dedup, false);
    for (uint32_t i = 0; i < 4; i++) {
        judge(dedup, i * 8u, 10, 7000 + i * 300);
        (void)mr_dedup_sweep(dedup, 100);
        mr_dedup_check_scan(dedup);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const uint64_t ids[] = {200, 300, 100, 40};
    static struct kept samples[2][2];
    static struct kept kept;
    for (unsigned i = 0; i < 4 && samples[1][1].blob_len == 0; i++) {
        make_sample((enum mr_dedup_mode)(i / 2), i % 2 * 10000, &samples[i / 2][i % 2]);
    }
    if (len < HEADER) {
        return 0;
    }
    const struct mr_dedup_options options = {
        .mode = (enum mr_dedup_mode)(data[1] % 8 < 2 ? data[1] % 8 : data[0] % 2),
        .when_full = data[2] % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
        .horizon_ms = data[3] % 4 == 0 ? 500 + data[3] : 1000,
        .ids_max = ids[data[2] / 2 % 4],
        .error = 0.01};
    bool moved = data[2] / 8 % 2 == 1;
    kept = samples[data[0] % 2][0];
    for (size_t at = HEADER; at + STEP <= len && at < 64 * STEP; at += STEP) {
        damage(&kept, data + at);
    }
    struct mr_dedup *dedup = open_dedup(&options);
    const struct kept *other = moved && data[2] / 16 % 2 == 1 ? &samples[data[0] % 2][1] : NULL;
    if (load(dedup, &kept, other, moved) == MR_OK) {
        check(dedup, &options, &kept, moved);
    }
    mr_dedup_close(dedup);
    return 0;
}
