/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes a checkpoint's files. The first byte chooses:
 *   - a manifest whose body is the input, with a sound header: read, it is MR_OK or MR_CORRUPT, and what was taken is
 *     written again to the same bytes;
 *   - a manifest file that is the input;
 *   - a part: the input is a program of blocks and of damages to them, among them headers with sound checksums. Reading
 *     visits blocks of this part in their places only, and without damage all of them.
 */
#include "base/check.h"
#include "base/hash.h"
#include "log/manifest.h"
#include "log/numbered.h"
#include "log/wire.h"
#include "tests/disk/virtual_disk.h"

#include <stdlib.h>

enum { STEP = 8, BLOCK_LEN = 200, FILE_MAX = 16 << 10, HEADER = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(enum mr_status status) {
    MR_ASSERT(status == MR_OK);
}

static void put_file(struct virtual_disk *vd, const char *dir, uint64_t number,
                     struct mr_bytes content) {
    char path[MR_NUMBERED_PATH_MAX];
    struct mr_file *file;
    must(mr_disk_mkdir(virtual_disk_disk(vd), dir));
    must(mr_numbered_path(dir, "manifest", number, path));
    must(mr_file_open(virtual_disk_disk(vd), path, MR_FILE_CREATE_NEW, &file));
    must(mr_file_pwrite(file, content, 0));
    mr_file_close(file);
}

/* ---- manifests ---- */

static void check_manifest(struct virtual_disk *vd, uint64_t number, struct mr_bytes content) {
    struct mr_manifest manifest;
    struct mr_error error;
    char path[MR_NUMBERED_PATH_MAX];
    put_file(vd, "a", number, content);
    enum mr_status status = mr_manifest_read(virtual_disk_disk(vd), "a", number, &manifest, &error);
    MR_ASSERT(status == MR_OK || status == MR_CORRUPT || status == MR_MISMATCH);
    if (status != MR_OK) {
        return;
    }
    must(mr_disk_mkdir(virtual_disk_disk(vd), "b"));
    must(mr_manifest_write(virtual_disk_disk(vd), "b", &manifest, &error));
    must(mr_numbered_path("b", "manifest", number, path));
    MR_ASSERT(mr_bytes_equal(virtual_disk_content(vd, path), content));
    mr_manifest_finish(&manifest);
}

static void fuzz_body(struct virtual_disk *vd, struct mr_bytes body) {
    uint8_t *content = malloc(HEADER + body.len);
    MR_ASSERT(content != NULL);
    mr_wire_put_u32(content, 0x314d726du);
    mr_wire_put_u32(content + 4, 1);
    mr_wire_put_u64(content + 8, body.len);
    mr_wire_put_u64(content + 16, mr_hash64(body, mr_checksum(mr_bytes_of(content, 16))));
    if (body.len > 0) {
        memcpy(content + HEADER, body.ptr, body.len);
    }
    uint64_t number = body.len < 8 ? 1 : mr_wire_u64(body.ptr);
    check_manifest(vd, number, mr_bytes_of(content, HEADER + body.len));
    free(content);
}

/* ---- parts ---- */

struct part {
    uint8_t content[FILE_MAX];
    size_t len;
    uint64_t written; /* of it by the program, before damage */
    uint32_t blocks;
    bool damaged;
};

static const struct mr_part_id part_id = {.number = 3, .incarnation = 9, .kind = 1};

/* What encode_block of log/part.c writes, over any fields. */
static void forge(uint8_t *at, uint64_t payload_len, uint64_t offset, const uint8_t *payload,
                  size_t there) {
    memset(at, 0, MR_PART_BLOCK);
    mr_wire_put_u32(at, 0x3142726du);
    mr_wire_put_u64(at + 8, payload_len);
    mr_wire_put_u64(at + 16, 7);
    mr_wire_put_u64(at + 24, part_id.number);
    mr_wire_put_u64(at + 32, offset);
    size_t covered = payload_len < there ? (size_t)payload_len : there;
    mr_wire_put_u64(at + 40, mr_checksum(mr_bytes_of(payload, covered)));
    mr_wire_put_u64(at + 48, mr_hash64(mr_bytes_of(at, 48), part_id.incarnation));
}

static void damage(struct part *part, const uint8_t step[STEP]) {
    size_t at = (size_t)mr_wire_u16(step + 1) % part->len;
    size_t other = (size_t)mr_wire_u16(step + 3) % part->len;
    size_t count = step[5];
    count = count < part->len - at ? count : part->len - at;
    count = count < part->len - other ? count : part->len - other;
    part->damaged = true;
    switch (step[0] % 4) {
    case 0:
        part->content[at] ^= step[6];
        break;
    case 1:
        memmove(part->content + at, part->content + other, count);
        break;
    case 2:
        part->len = at + 1;
        break;
    default:
        at -= at % 8;
        if (part->len - at > MR_PART_BLOCK) {
            size_t there = part->len - at - MR_PART_BLOCK;
            uint64_t payload_len =
                step[6] == 255 ? UINT64_MAX - step[7] : step[6] * (uint64_t)step[7];
            forge(part->content + at, payload_len, step[5] == 0 ? other : at,
                  part->content + at + MR_PART_BLOCK, there);
        }
    }
}

static void write_part(struct virtual_disk *vd, uint8_t blocks, struct part *ret) {
    static const uint8_t payload[BLOCK_LEN * 8];
    struct mr_part_writer *writer;
    struct mr_error error;
    must(mr_disk_mkdir(virtual_disk_disk(vd), "a"));
    must(mr_part_create(virtual_disk_disk(vd), "a", &part_id, &writer, &error));
    ret->blocks = blocks % 8;
    for (uint32_t i = 0; i < ret->blocks; i++) {
        must(mr_part_append(writer, i, mr_bytes_of(payload, i * BLOCK_LEN / 3), &error));
    }
    must(mr_part_sync(writer, &error));
    ret->written = mr_part_len(writer);
    mr_part_close(writer);
    struct mr_bytes content = virtual_disk_content(vd, "a/part-0000000000000003");
    MR_ASSERT(content.len == ret->written && content.len <= FILE_MAX);
    memcpy(ret->content, content.ptr, content.len);
    ret->len = content.len;
}

struct visited {
    uint32_t blocks;
    uint64_t bytes;
    uint64_t hash; /* so that all of them are read */
};

static enum mr_status visit(void *ctx, uint64_t tag, struct mr_bytes payload) {
    struct visited *v = ctx;
    (void)tag;
    MR_ASSERT((uintptr_t)payload.ptr % 8 == 0);
    v->blocks++;
    v->bytes += MR_PART_BLOCK + payload.len;
    v->hash ^= mr_checksum(payload);
    return MR_OK;
}

static void fuzz_part(struct virtual_disk *vd, const uint8_t *data, size_t len) {
    struct part part = {.damaged = false};
    struct visited visited = {.blocks = 0};
    struct mr_error error;
    if (len < 2) {
        return;
    }
    write_part(vd, data[0], &part);
    uint64_t counts = data[1] == 0 ? part.written : part.written / 256 * data[1];
    for (size_t at = 2; at + STEP <= len && at < 32 * STEP; at += STEP) {
        damage(&part, data + at);
    }
    virtual_disk_replace(vd, "a/part-0000000000000003", mr_bytes_of(part.content, part.len));
    enum mr_status status =
        mr_part_read(virtual_disk_disk(vd), "a", &part_id, 0, counts, visit, &visited, &error);
    MR_ASSERT(status == MR_OK || status == MR_CORRUPT || status == MR_MISMATCH);
    MR_ASSERT(MR_PART_HEADER + visited.bytes <= counts || visited.blocks == 0);
    MR_ASSERT(mr_part_verify(virtual_disk_disk(vd), "a", &part_id, 0, counts, &error) == status);
    if (!part.damaged && counts == part.written) {
        MR_ASSERT(status == MR_OK && visited.blocks == part.blocks);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len == 0) {
        return 0;
    }
    struct virtual_disk *vd = virtual_disk_open(1);
    switch (data[0] % 3) {
    case 0:
        fuzz_body(vd, mr_bytes_of(data + 1, len - 1));
        break;
    case 1:
        check_manifest(vd, 1, mr_bytes_of(data + 1, len - 1));
        break;
    default:
        fuzz_part(vd, data + 1, len - 1);
    }
    virtual_disk_close(vd);
    return 0;
}
