/* SPDX-License-Identifier: Apache-2.0 */
#include "log/part.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "log/numbered.h"
#include "log/wire.h"

#define MAGIC       0x3150726du /* "mrP1" read as a little-endian number */
#define BLOCK_MAGIC 0x3142726du /* "mrB1" */

enum {
    VERSION = 1,
    ALIGN = 8,
    AT_VERSION = 4,
    AT_KIND = 8,
    AT_NUMBER = 16,
    AT_INCARNATION = 24,
    AT_CHECK = 56,
    HEADER_LEN = 64, /* zeros behind it */

    AT_BLOCK_PAYLOAD_LEN = 8,
    AT_BLOCK_TAG = 16,
    AT_BLOCK_NUMBER = 24,
    AT_BLOCK_OFFSET = 32,
    AT_BLOCK_PAYLOAD_CHECK = 40,
    AT_BLOCK_CHECK = 48,
};

static_assert(AT_BLOCK_CHECK + 8 == MR_PART_BLOCK, "the check is the last field");
static_assert(MR_PART_BLOCK % ALIGN == 0 && MR_PART_HEADER % ALIGN == 0, "payloads are aligned");

struct mr_part_writer {
    struct mr_disk *disk;
    struct mr_file *file;
    struct mr_part_id id;
    uint64_t len;
    uint64_t synced; /* 0: not even the name */
    bool poisoned;
    size_t dir_len;
    char path[MR_NUMBERED_PATH_MAX]; /* of the file, behind the directory's dir_len bytes */
};

struct block {
    uint64_t payload_len;
    uint64_t tag;
    uint64_t payload_check;
};

static void encode_header(const struct mr_part_id *id, uint8_t ret[MR_PART_HEADER]) {
    memset(ret, 0, MR_PART_HEADER);
    mr_wire_put_u32(ret, MAGIC);
    mr_wire_put_u16(ret + AT_VERSION, VERSION);
    mr_wire_put_u32(ret + AT_KIND, id->kind);
    mr_wire_put_u64(ret + AT_NUMBER, id->number);
    mr_wire_put_u64(ret + AT_INCARNATION, id->incarnation);
    mr_wire_put_u64(ret + AT_CHECK, mr_checksum(mr_bytes_of(ret, AT_CHECK)));
}

/* The seed binds a block to its log, as number and offset do to its place. */
static void encode_block(const struct mr_part_id *id, uint64_t offset, const struct block *block,
                         uint8_t ret[MR_PART_BLOCK]) {
    memset(ret, 0, MR_PART_BLOCK);
    mr_wire_put_u32(ret, BLOCK_MAGIC);
    mr_wire_put_u64(ret + AT_BLOCK_PAYLOAD_LEN, block->payload_len);
    mr_wire_put_u64(ret + AT_BLOCK_TAG, block->tag);
    mr_wire_put_u64(ret + AT_BLOCK_NUMBER, id->number);
    mr_wire_put_u64(ret + AT_BLOCK_OFFSET, offset);
    mr_wire_put_u64(ret + AT_BLOCK_PAYLOAD_CHECK, block->payload_check);
    mr_wire_put_u64(ret + AT_BLOCK_CHECK,
                    mr_hash64(mr_bytes_of(ret, AT_BLOCK_CHECK), id->incarnation));
}

static uint64_t padded(uint64_t len) {
    return (len + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static void check(const struct mr_part_writer *writer) {
    MR_ASSERT(writer->len >= MR_PART_HEADER && writer->len % ALIGN == 0);
    MR_ASSERT(writer->synced <= writer->len);
}

/* ---- writing ---- */

enum mr_status mr_part_create(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                              struct mr_part_writer **ret, struct mr_error *error) {
    uint8_t header[MR_PART_HEADER];
    struct mr_part_writer *writer = mr_alloc(sizeof *writer);
    if (writer == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory for a part", dir);
    }
    *writer = (struct mr_part_writer){
        .disk = disk, .id = *id, .len = MR_PART_HEADER, .dir_len = strlen(dir)};
    enum mr_status status = mr_numbered_path(dir, "part", id->number, writer->path);
    if (status == MR_OK) {
        status = mr_file_open(disk, writer->path, MR_FILE_CREATE_NEW, &writer->file);
    }
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot make part %" PRIu64 ": %s", dir, id->number,
                           mr_status_text(status));
        goto fail;
    }
    mr_file_gather(writer->file);
    encode_header(id, header);
    status = mr_file_pwrite(writer->file, mr_bytes_of(header, sizeof header), 0);
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot write: %s", writer->path,
                           mr_status_text(status));
        mr_file_close(writer->file);
        (void)!mr_disk_unlink(disk, writer->path); /* if it stays, no manifest names it */
        goto fail;
    }
    check(writer);
    *ret = writer;
    return MR_OK;
fail:
    mr_free(writer);
    return status;
}

static enum mr_status refuse_poisoned(const struct mr_part_writer *writer, struct mr_error *error) {
    return mr_error_set(error, MR_IO, "%s: failed before, not to be written any more",
                        writer->path);
}

enum mr_status mr_part_append(struct mr_part_writer *writer, uint64_t tag, struct mr_bytes payload,
                              struct mr_error *error) {
    static const uint8_t zeros[ALIGN];
    uint8_t header[MR_PART_BLOCK];
    check(writer);
    if (writer->poisoned) {
        return refuse_poisoned(writer, error);
    }
    if (payload.len > MR_PART_BLOCK_MAX) {
        return mr_error_set(error, MR_LIMIT, "%s: a block of %zu bytes is over %u", writer->path,
                            payload.len, MR_PART_BLOCK_MAX);
    }
    struct block block = {payload.len, tag, mr_checksum(payload)};
    encode_block(&writer->id, writer->len, &block, header);
    const struct iovec iov[] = {
        {header, sizeof header},
        {(void *)(uintptr_t)payload.ptr, payload.len}, /* iovec has no const; only read */
        {(void *)(uintptr_t)zeros, padded(payload.len) - payload.len},
    };
    enum mr_status status = mr_file_pwritev(writer->file, iov, 3, writer->len);
    if (status != MR_OK) {
        writer->poisoned = true;
        return mr_error_set(error, status, "%s: offset %" PRIu64 ": cannot write: %s", writer->path,
                            writer->len, mr_status_text(status));
    }
    writer->len += sizeof header + padded(payload.len);
    check(writer);
    return MR_OK;
}

/* The name, so that it is there when a manifest says so. */
static enum mr_status sync_dir(struct mr_part_writer *writer) {
    writer->path[writer->dir_len] = '\0';
    enum mr_status status = mr_disk_sync_dir(writer->disk, writer->path);
    writer->path[writer->dir_len] = '/';
    return status;
}

enum mr_status mr_part_sync(struct mr_part_writer *writer, struct mr_error *error) {
    check(writer);
    if (writer->poisoned) {
        return refuse_poisoned(writer, error);
    }
    if (writer->synced == writer->len) {
        return MR_OK;
    }
    enum mr_status status = mr_file_sync(writer->file);
    if (status == MR_OK && writer->synced == 0) {
        status = sync_dir(writer);
    }
    if (status != MR_OK) {
        writer->poisoned = true;
        return mr_error_set(error, status, "%s: cannot sync: %s", writer->path,
                            mr_status_text(status));
    }
    writer->synced = writer->len;
    return MR_OK;
}

uint64_t mr_part_number(const struct mr_part_writer *writer) {
    return writer->id.number;
}

uint64_t mr_part_len(const struct mr_part_writer *writer) {
    return writer->len;
}

uint64_t mr_part_synced(const struct mr_part_writer *writer) {
    return writer->synced;
}

bool mr_part_poisoned(const struct mr_part_writer *writer) {
    return writer->poisoned;
}

void mr_part_close(struct mr_part_writer *writer) {
    if (writer != NULL) {
        check(writer);
        mr_file_close(writer->file);
        mr_free(writer);
    }
}

/* ---- reading ---- */

struct reading {
    struct mr_file *file;
    const struct mr_part_id *id;
    uint64_t offset; /* of the next block */
    uint64_t len;    /* of what counts */
    struct mr_buf buf;
    char path[MR_NUMBERED_PATH_MAX];
};

static enum mr_status corrupt(const struct reading *r, uint64_t offset, const char *what,
                              struct mr_error *error) {
    return mr_error_set(error, MR_CORRUPT, "%s: offset %" PRIu64 ": %s", r->path, offset, what);
}

/* len bytes, all of which must be there. */
static enum mr_status read_at(struct reading *r, void *ret, size_t len, uint64_t offset,
                              struct mr_error *error) {
    size_t got = 0;
    enum mr_status status = mr_file_pread(r->file, ret, len, offset, &got);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: offset %" PRIu64 ": cannot read: %s", r->path,
                            offset, mr_status_text(status));
    }
    return got == len ? MR_OK : corrupt(r, offset + got, "cut short", error);
}

/* A header is sound when it is, to the byte, what the writer of this part wrote; the rest is to
 * say why not. */
static enum mr_status read_header(struct reading *r, struct mr_error *error) {
    uint8_t header[MR_PART_HEADER];
    uint8_t expected[MR_PART_HEADER];
    enum mr_status status = read_at(r, header, sizeof header, 0, error);
    if (status != MR_OK) {
        return status;
    }
    encode_header(r->id, expected);
    if (memcmp(header, expected, sizeof header) == 0) {
        return MR_OK;
    }
    if (mr_wire_u32(header) != MAGIC ||
        mr_wire_u64(header + AT_CHECK) != mr_checksum(mr_bytes_of(header, AT_CHECK))) {
        return corrupt(r, 0, "bad part header", error);
    }
    /* The check stands at the same place in every version, so that an unknown version is told
     * from damage. */
    if (mr_wire_u16(header + AT_VERSION) != VERSION) {
        return mr_error_set(error, MR_MISMATCH, "%s: written by another version of the format",
                            r->path);
    }
    if (memcmp(header, expected, HEADER_LEN) != 0) {
        return corrupt(r, 0, "the header is of another part", error);
    }
    return corrupt(r, HEADER_LEN, "bytes behind the part header", error);
}

/* Nothing of a block's header is believed before its check. */
static enum mr_status read_block_header(struct reading *r, struct block *ret,
                                        struct mr_error *error) {
    uint8_t header[MR_PART_BLOCK];
    uint8_t expected[MR_PART_BLOCK];
    if (r->len - r->offset < sizeof header) {
        return corrupt(r, r->offset, "no room for a block header", error);
    }
    enum mr_status status = read_at(r, header, sizeof header, r->offset, error);
    if (status != MR_OK) {
        return status;
    }
    struct block block = {
        .payload_len = mr_wire_u64(header + AT_BLOCK_PAYLOAD_LEN),
        .tag = mr_wire_u64(header + AT_BLOCK_TAG),
        .payload_check = mr_wire_u64(header + AT_BLOCK_PAYLOAD_CHECK),
    };
    encode_block(r->id, r->offset, &block, expected);
    if (memcmp(header, expected, sizeof header) != 0) {
        return corrupt(r, r->offset, "bad block header, or of another place", error);
    }
    if (block.payload_len > MR_PART_BLOCK_MAX ||
        padded(block.payload_len) > r->len - r->offset - sizeof header) {
        return corrupt(r, r->offset, "the block is longer than the part", error);
    }
    *ret = block;
    return MR_OK;
}

static enum mr_status read_block(struct reading *r, mr_part_visit *visit, void *ctx,
                                 struct mr_error *error) {
    struct block block = {0};
    enum mr_status status = read_block_header(r, &block, error);
    if (status != MR_OK) {
        return status;
    }
    uint64_t at = r->offset + MR_PART_BLOCK;
    size_t len = (size_t)block.payload_len;
    size_t padding = (size_t)padded(len) - len;
    static const uint8_t zeros[ALIGN];
    mr_buf_clear(&r->buf);
    uint8_t *payload = mr_buf_reserve(&r->buf, len + padding);
    if (payload == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory for a block of %zu bytes", r->path,
                            len);
    }
    status = read_at(r, payload, len + padding, at, error);
    if (status != MR_OK) {
        return status;
    }
    if (mr_checksum(mr_bytes_of(payload, len)) != block.payload_check) {
        return corrupt(r, at, "the block's checksum is wrong", error);
    }
    if (memcmp(payload + len, zeros, padding) != 0) {
        return corrupt(r, at + len, "bytes behind the block", error);
    }
    r->offset = at + len + padding;
    MR_ASSERT(r->offset <= r->len);
    return visit == NULL ? MR_OK : visit(ctx, block.tag, mr_bytes_of(payload, len));
}

static enum mr_status open_part(struct mr_disk *disk, const char *dir, struct reading *r,
                                struct mr_error *error) {
    uint64_t size = 0;
    enum mr_status status = mr_numbered_path(dir, "part", r->id->number, r->path);
    if (status == MR_OK) {
        status = mr_file_open(disk, r->path, MR_FILE_READ, &r->file);
    }
    if (status == MR_NOT_FOUND) {
        return corrupt(r, 0, "the file is missing", error);
    }
    if (status == MR_OK) {
        status = mr_file_size(r->file, &size);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s/part-%" PRIu64 ": cannot open: %s", dir,
                            r->id->number, mr_status_text(status));
    }
    return size < r->len ? corrupt(r, size, "cut short", error) : MR_OK;
}

enum mr_status mr_part_read(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                            uint64_t from, uint64_t len, mr_part_visit *visit, void *ctx,
                            struct mr_error *error) {
    struct reading r = {.id = id, .offset = from == 0 ? MR_PART_HEADER : from, .len = len};
    mr_buf_init(&r.buf, MR_PART_BLOCK_MAX);
    enum mr_status status = open_part(disk, dir, &r, error);
    if (status == MR_OK && r.offset > len) {
        status = corrupt(&r, r.offset, "outside of what counts", error);
    }
    if (status == MR_OK) {
        status = read_header(&r, error);
    }
    while (status == MR_OK && r.offset < len) {
        status = read_block(&r, visit, ctx, error);
    }
    mr_buf_finish(&r.buf);
    mr_file_close(r.file);
    return status;
}

enum mr_status mr_part_verify(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                              uint64_t from, uint64_t len, struct mr_error *error) {
    return mr_part_read(disk, dir, id, from, len, NULL, NULL, error);
}
