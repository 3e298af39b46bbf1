/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/log/manifest_sample.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint64_t random_below(uint64_t *random, uint64_t bound) { /* splitmix64 */
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

void manifest_path(uint64_t number, char ret[128]) {
    (void)snprintf(ret, 128, "%s/manifest-%016" PRIu64, MANIFEST_DIR, number);
}

/* A function of its number and size: any manifest read can be compared without keeping it. */
enum mr_status manifest_build(uint64_t number, size_t size, struct mr_manifest *ret) {
    uint64_t random = number * 7919 + size;
    mr_manifest_init(ret);
    ret->number = number;
    ret->incarnation = random_below(&random, UINT64_MAX);
    ret->seq = random_below(&random, UINT64_MAX);
    ret->lsn = random_below(&random, 1000000);
    ret->needed_lsn = random_below(&random, 1000000);
    ret->recorded_ms = (int64_t)random_below(&random, UINT64_MAX);
    ret->shards = (uint32_t)(1 + random_below(&random, 64));
    uint64_t blobs = size / 2 + random_below(&random, size / 2 + 1);
    uint64_t parts = size / 2 + random_below(&random, size / 2 + 1);
    for (uint32_t i = 0; i < blobs; i++) {
        uint8_t bytes[300];
        size_t len = (size_t)random_below(&random, sizeof bytes + 1);
        for (size_t b = 0; b < len; b++) {
            bytes[b] = i % 3 == 2 ? 0 : (uint8_t)random_below(&random, 256);
        }
        struct mr_buf *buf = mr_manifest_add_blob(ret, i % 4, i / 4, i % 3);
        if (buf == NULL) {
            return MR_NO_MEMORY;
        }
        mr_buf_append(buf, bytes, len / 2);
        mr_buf_append(buf, bytes + len / 2, len - len / 2);
    }
    for (uint32_t i = 0; i < parts; i++) {
        struct mr_manifest_part part = {0};
        part.id.number = random_below(&random, 1000);
        part.id.incarnation = random_below(&random, UINT64_MAX);
        part.id.kind = (uint32_t)random_below(&random, 9);
        part.shard = (uint32_t)random_below(&random, 64);
        part.stream = (uint32_t)random_below(&random, 64);
        part.tag = random_below(&random, UINT64_MAX);
        part.len = random_below(&random, UINT64_MAX);
        if (mr_manifest_add_part(ret, &part) != MR_OK) {
            return MR_NO_MEMORY;
        }
    }
    return MR_OK;
}

void manifest_must_equal(const struct mr_manifest *a, const struct mr_manifest *b) {
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->incarnation, b->incarnation);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->lsn, b->lsn);
    assert_int_equal(a->needed_lsn, b->needed_lsn);
    assert_int_equal(a->recorded_ms, b->recorded_ms);
    assert_int_equal(a->shards, b->shards);
    assert_int_equal(a->blob_count, b->blob_count);
    assert_int_equal(a->part_count, b->part_count);
    for (uint32_t i = 0; i < a->blob_count; i++) {
        const struct mr_manifest_blob *x = &a->blobs[i];
        const struct mr_buf *found = mr_manifest_blob(b, x->kind, x->shard, x->stream);
        assert_ptr_equal(found, &b->blobs[i].bytes);
        assert_true(mr_bytes_equal(mr_buf_bytes(&x->bytes), mr_buf_bytes(found)));
    }
    for (uint32_t i = 0; i < a->part_count; i++) {
        const struct mr_manifest_part *x = &a->parts[i];
        const struct mr_manifest_part *y = &b->parts[i];
        assert_int_equal(x->id.number, y->id.number);
        assert_int_equal(x->id.incarnation, y->id.incarnation);
        assert_int_equal(x->id.kind, y->id.kind);
        assert_int_equal(x->shard, y->shard);
        assert_int_equal(x->stream, y->stream);
        assert_int_equal(x->tag, y->tag);
        assert_int_equal(x->len, y->len);
    }
}

enum mr_status manifest_write(struct mr_disk *disk, uint64_t number, size_t size,
                              struct mr_error *error) {
    struct mr_manifest manifest;
    enum mr_status status = manifest_build(number, size, &manifest);
    if (status == MR_OK) {
        status = mr_manifest_write(disk, MANIFEST_DIR, &manifest, error);
    }
    mr_manifest_finish(&manifest);
    return status;
}

/* Reads; what is read must be what was built. */
enum mr_status manifest_read(struct mr_disk *disk, uint64_t number, size_t size,
                             struct mr_error *error) {
    struct mr_manifest expected;
    struct mr_manifest got;
    enum mr_status status = mr_manifest_read(disk, MANIFEST_DIR, number, &got, error);
    if (status == MR_OK) {
        assert_int_equal(manifest_build(number, size, &expected), MR_OK);
        manifest_must_equal(&expected, &got);
        mr_manifest_finish(&expected);
        mr_manifest_finish(&got);
    } else {
        assert_int_equal(error->status, status);
    }
    return status;
}

struct virtual_disk *manifest_disk(uint64_t seed) {
    struct virtual_disk *vd = virtual_disk_open(seed);
    assert_int_equal(mr_disk_mkdir(virtual_disk_disk(vd), MANIFEST_DIR), MR_OK);
    return vd;
}
