/* SPDX-License-Identifier: Apache-2.0 */
#include "log/manifest.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/pack.h"
#include "log/numbered.h"
#include "log/wire.h"

#define MAGIC 0x314d726du /* "mrM1" read as a little-endian number */

enum {
    VERSION = 1,
    AT_VERSION = 4,
    AT_BODY_LEN = 8,
    AT_CHECK = 16,
    HEADER_LEN = 24,

    FIELDS_LEN =
        6 * 8 + 3 * 4, /* as packed: the manifest's own, a blob's without its bytes, a part's */
    BLOB_LEN = 4 * 4 + 8,
    PART_LEN = 4 * 8 + 3 * 4,
};

static const char temporary[] = "manifest.tmp";

/* ---- in memory ---- */

void mr_manifest_init(struct mr_manifest *manifest) {
    *manifest = (struct mr_manifest){0};
}

void mr_manifest_finish(struct mr_manifest *manifest) {
    for (uint32_t i = 0; i < manifest->blob_count; i++) {
        mr_buf_finish(&manifest->blobs[i].bytes);
    }
    mr_free(manifest->blobs);
    mr_free(manifest->parts);
    mr_manifest_init(manifest);
}

/* Room for one more behind count items. The capacity is the power of two at or above count, so it
 * is full when count is one. */
static bool grow(void **items, uint32_t count, size_t item_len) {
    if ((count & (count - 1)) != 0) {
        return true;
    }
    size_t cap = count == 0 ? 1 : (size_t)count * 2;
    void *grown = mr_realloc(*items, cap * item_len);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    return true;
}

struct mr_buf *mr_manifest_add_blob(struct mr_manifest *manifest, uint32_t kind, uint32_t shard,
                                    uint32_t stream) {
    void *blobs = manifest->blobs;
    MR_VERIFY(mr_manifest_blob(manifest, kind, shard, stream) == NULL);
    if (!grow(&blobs, manifest->blob_count, sizeof *manifest->blobs)) {
        return NULL;
    }
    manifest->blobs = blobs;
    struct mr_manifest_blob *blob = &manifest->blobs[manifest->blob_count++];
    *blob = (struct mr_manifest_blob){.kind = kind, .shard = shard, .stream = stream};
    mr_buf_init(&blob->bytes, MR_MANIFEST_BYTES_MAX);
    return &blob->bytes;
}

enum mr_status mr_manifest_add_part(struct mr_manifest *manifest,
                                    const struct mr_manifest_part *part) {
    void *parts = manifest->parts;
    if (!grow(&parts, manifest->part_count, sizeof *manifest->parts)) {
        return MR_NO_MEMORY;
    }
    manifest->parts = parts;
    manifest->parts[manifest->part_count++] = *part;
    return MR_OK;
}

const struct mr_buf *mr_manifest_blob(const struct mr_manifest *manifest, uint32_t kind,
                                      uint32_t shard, uint32_t stream) {
    for (uint32_t i = 0; i < manifest->blob_count; i++) {
        const struct mr_manifest_blob *blob = &manifest->blobs[i];
        if (blob->kind == kind && blob->shard == shard && blob->stream == stream) {
            return &blob->bytes;
        }
    }
    return NULL;
}

/* ---- as bytes ---- */

/* Over the header as well, so that a damaged version is not taken for another version. */
static uint64_t check_of(const uint8_t header[HEADER_LEN], struct mr_bytes body) {
    return mr_hash64(body, mr_checksum(mr_bytes_of(header, AT_CHECK)));
}

static void encode_header(struct mr_bytes body, uint8_t ret[HEADER_LEN]) {
    mr_wire_put_u32(ret, MAGIC);
    mr_wire_put_u32(ret + AT_VERSION, VERSION);
    mr_wire_put_u64(ret + AT_BODY_LEN, body.len);
    mr_wire_put_u64(ret + AT_CHECK, check_of(ret, body));
}

static void pack_part(struct mr_buf *buf, const struct mr_manifest_part *part) {
    mr_pack_u64(buf, part->id.number);
    mr_pack_u64(buf, part->id.incarnation);
    mr_pack_u32(buf, part->id.kind);
    mr_pack_u32(buf, part->shard);
    mr_pack_u32(buf, part->stream);
    mr_pack_u64(buf, part->tag);
    mr_pack_u64(buf, part->len);
}

static void pack_body(struct mr_buf *buf, const struct mr_manifest *m) {
    mr_pack_u64(buf, m->number);
    mr_pack_u64(buf, m->incarnation);
    mr_pack_u64(buf, m->seq);
    mr_pack_u64(buf, m->lsn);
    mr_pack_u64(buf, m->needed_lsn);
    mr_pack_i64(buf, m->recorded_ms);
    mr_pack_u32(buf, m->shards);
    mr_pack_u32(buf, m->blob_count);
    mr_pack_u32(buf, m->part_count);
    for (uint32_t i = 0; i < m->blob_count; i++) {
        const struct mr_manifest_blob *blob = &m->blobs[i];
        MR_ASSERT(blob->zero == 0);
        mr_pack_u32(buf, blob->kind);
        mr_pack_u32(buf, blob->shard);
        mr_pack_u32(buf, blob->stream);
        mr_pack_u32(buf, blob->zero);
        mr_pack_bytes(buf, mr_buf_bytes(&blob->bytes));
    }
    for (uint32_t i = 0; i < m->part_count; i++) {
        pack_part(buf, &m->parts[i]);
    }
}

static uint64_t body_len_of(const struct mr_manifest *m) {
    uint64_t len = FIELDS_LEN + (uint64_t)m->part_count * PART_LEN;
    for (uint32_t i = 0; i < m->blob_count; i++) {
        len += BLOB_LEN + m->blobs[i].bytes.len;
    }
    return len;
}

/* The body into buf, which has room for just that. */
static enum mr_status encode_body(const struct mr_manifest *m, struct mr_buf *ret) {
    uint64_t len = body_len_of(m);
    for (uint32_t i = 0; i < m->blob_count; i++) {
        if (m->blobs[i].bytes.failed) { /* what it holds is not all that was put in */
            return MR_NO_MEMORY;
        }
    }
    if (len > MR_MANIFEST_BYTES_MAX) {
        return MR_LIMIT;
    }
    mr_buf_init(ret, (size_t)len);
    if (mr_buf_reserve(ret, (size_t)len) == NULL) {
        return MR_NO_MEMORY;
    }
    pack_body(ret, m);
    MR_ASSERT(!ret->failed && ret->len == len);
    return MR_OK;
}

static enum mr_status unpack_blob(struct mr_unpack *u, struct mr_manifest *m) {
    uint32_t kind = mr_unpack_u32(u);
    uint32_t shard = mr_unpack_u32(u);
    uint32_t stream = mr_unpack_u32(u);
    uint32_t zero = mr_unpack_u32(u);
    struct mr_bytes bytes = mr_unpack_bytes(u);
    if (u->failed || zero != 0 || mr_manifest_blob(m, kind, shard, stream) != NULL) {
        return MR_CORRUPT;
    }
    struct mr_buf *buf = mr_manifest_add_blob(m, kind, shard, stream);
    if (buf != NULL) {
        mr_buf_append_bytes(buf, bytes);
    }
    return buf == NULL || buf->failed ? MR_NO_MEMORY : MR_OK;
}

static enum mr_status unpack_part(struct mr_unpack *u, struct mr_manifest *m) {
    struct mr_manifest_part part = {0};
    part.id.number = mr_unpack_u64(u);
    part.id.incarnation = mr_unpack_u64(u);
    part.id.kind = mr_unpack_u32(u);
    part.shard = mr_unpack_u32(u);
    part.stream = mr_unpack_u32(u);
    part.tag = mr_unpack_u64(u);
    part.len = mr_unpack_u64(u);
    return u->failed ? MR_CORRUPT : mr_manifest_add_part(m, &part);
}

/* The counts are not believed: memory is taken for what was really there, one by one. */
static enum mr_status decode_body(struct mr_bytes body, struct mr_manifest *m) {
    struct mr_unpack u = {.rest = body};
    enum mr_status status = MR_OK;
    m->number = mr_unpack_u64(&u);
    m->incarnation = mr_unpack_u64(&u);
    m->seq = mr_unpack_u64(&u);
    m->lsn = mr_unpack_u64(&u);
    m->needed_lsn = mr_unpack_u64(&u);
    m->recorded_ms = mr_unpack_i64(&u);
    m->shards = mr_unpack_u32(&u);
    uint32_t blob_count = mr_unpack_u32(&u);
    uint32_t part_count = mr_unpack_u32(&u);
    for (uint32_t i = 0; status == MR_OK && i < blob_count; i++) {
        status = unpack_blob(&u, m);
    }
    for (uint32_t i = 0; status == MR_OK && i < part_count; i++) {
        status = unpack_part(&u, m);
    }
    return status == MR_OK && !mr_unpack_end(&u) ? MR_CORRUPT : status;
}

/* ---- on disk ---- */

static enum mr_status join(const char *dir, const char *name, char ret[MR_NUMBERED_PATH_MAX]) {
    int len = snprintf(ret, MR_NUMBERED_PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < MR_NUMBERED_PATH_MAX ? MR_OK : MR_LIMIT;
}

/* A file made new: pages of an older one may be what a failed sync left behind. */
static enum mr_status write_temporary(struct mr_disk *disk, const char *path,
                                      struct mr_bytes body) {
    uint8_t header[HEADER_LEN];
    struct mr_file *file;
    encode_header(body, header);
    const struct iovec iov[] = {
        {header, sizeof header},
        {(void *)(uintptr_t)body.ptr, body.len}, /* iovec has no const; only read */
    };
    enum mr_status status = mr_disk_unlink(disk, path);
    if (status != MR_OK && status != MR_NOT_FOUND) {
        return status;
    }
    status = mr_file_open(disk, path, MR_FILE_CREATE_NEW, &file);
    if (status != MR_OK) {
        return status;
    }
    status = mr_file_pwritev(file, iov, 2, 0);
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    mr_file_close(file);
    if (status != MR_OK) {
        (void)!mr_disk_unlink(disk, path); /* to give the space back; the next list does it too */
    }
    return status;
}

enum mr_status mr_manifest_write(struct mr_disk *disk, const char *dir,
                                 const struct mr_manifest *manifest, struct mr_error *error) {
    char path[MR_NUMBERED_PATH_MAX];
    char unfinished[MR_NUMBERED_PATH_MAX];
    struct mr_buf body = {0};
    enum mr_status status = mr_numbered_path(dir, "manifest", manifest->number, path);
    if (status == MR_OK) {
        status = join(dir, temporary, unfinished);
    }
    if (status == MR_OK) {
        status = encode_body(manifest, &body);
    }
    if (status == MR_OK) {
        status = write_temporary(disk, unfinished, mr_buf_bytes(&body));
    }
    mr_buf_finish(&body);
    if (status == MR_OK) {
        status = mr_disk_rename(disk, unfinished, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    return status == MR_OK
               ? MR_OK
               : mr_error_set(error, status, "%s: cannot write manifest %" PRIu64 ": %s", dir,
                              manifest->number, mr_status_text(status));
}

static enum mr_status corrupt(const char *path, const char *what, struct mr_error *error) {
    return mr_error_set(error, MR_CORRUPT, "%s: %s", path, what);
}

/* The file's body into ret. Its length is believed when it is the file's, so that the memory asked
 * for is at most what lies on the disk. */
static enum mr_status read_body(struct mr_file *file, const char *path, struct mr_buf *ret,
                                struct mr_error *error) {
    uint8_t header[HEADER_LEN];
    uint64_t size = 0;
    size_t len = 0;
    enum mr_status status = mr_file_size(file, &size);
    if (status == MR_OK) {
        status = mr_file_pread(file, header, sizeof header, 0, &len);
    }
    if (status != MR_OK) {
        goto fail;
    }
    if (len < sizeof header || mr_wire_u32(header) != MAGIC) {
        return corrupt(path, "not a manifest", error);
    }
    uint64_t body_len = mr_wire_u64(header + AT_BODY_LEN);
    if (body_len != size - sizeof header || body_len > MR_MANIFEST_BYTES_MAX) {
        return corrupt(path, "it has another length than it says", error);
    }
    mr_buf_init(ret, (size_t)body_len);
    uint8_t *body = mr_buf_reserve(ret, (size_t)body_len);
    if (body == NULL) {
        status = MR_NO_MEMORY;
        goto fail;
    }
    status = mr_file_pread(file, body, (size_t)body_len, sizeof header, &ret->len);
    if (status != MR_OK) {
        goto fail;
    }
    if (ret->len < body_len ||
        mr_wire_u64(header + AT_CHECK) != check_of(header, mr_buf_bytes(ret))) {
        return corrupt(path, "the checksum is wrong", error);
    }
    if (mr_wire_u32(header + AT_VERSION) != VERSION) {
        return mr_error_set(error, MR_MISMATCH, "%s: written by another version of the format",
                            path);
    }
    return MR_OK;
fail:
    return mr_error_set(error, status, "%s: cannot read: %s", path, mr_status_text(status));
}

enum mr_status mr_manifest_read(struct mr_disk *disk, const char *dir, uint64_t number,
                                struct mr_manifest *ret, struct mr_error *error) {
    char path[MR_NUMBERED_PATH_MAX];
    struct mr_manifest manifest;
    struct mr_buf body = {0};
    struct mr_file *file = NULL;
    mr_manifest_init(&manifest);
    enum mr_status status = mr_numbered_path(dir, "manifest", number, path);
    if (status == MR_OK) {
        status = mr_file_open(disk, path, MR_FILE_READ, &file);
    }
    if (status == MR_NOT_FOUND) {
        return corrupt(path, "the file is missing", error);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot open manifest %" PRIu64 ": %s", dir, number,
                            mr_status_text(status));
    }
    status = read_body(file, path, &body, error);
    mr_file_close(file);
    if (status == MR_OK) {
        status = decode_body(mr_buf_bytes(&body), &manifest);
        if (status != MR_OK) {
            (void)mr_error_set(error, status, "%s: cannot decode: %s", path,
                               mr_status_text(status));
        } else if (manifest.number != number) {
            status = corrupt(path, "it is of another checkpoint", error);
        }
    }
    mr_buf_finish(&body);
    if (status != MR_OK) {
        mr_manifest_finish(&manifest);
        return status;
    }
    *ret = manifest;
    return MR_OK;
}

/* ---- the directory ---- */

struct listing {
    struct mr_manifest_list list;
    bool unfinished; /* a temporary file lies there */
};

static enum mr_status add_number(uint64_t **numbers, uint32_t *count, uint64_t number) {
    void *items = *numbers;
    if (!grow(&items, *count, sizeof **numbers)) {
        return MR_NO_MEMORY;
    }
    *numbers = items;
    (*numbers)[(*count)++] = number;
    return MR_OK;
}

static enum mr_status add_name(void *ctx, const char *name) {
    struct listing *found = ctx;
    uint64_t number;
    if (mr_numbered_parse(name, "manifest", &number)) {
        return add_number(&found->list.manifests, &found->list.manifest_count, number);
    }
    if (mr_numbered_parse(name, "part", &number)) {
        return add_number(&found->list.parts, &found->list.part_count, number);
    }
    found->unfinished = found->unfinished || strcmp(name, temporary) == 0;
    return MR_OK; /* other names are not ours */
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort(uint64_t *numbers, uint32_t count) {
    if (count > 1) {
        qsort(numbers, count, sizeof *numbers, ascending);
    }
}

static enum mr_status remove_temporary(struct mr_disk *disk, const char *dir) {
    char path[MR_NUMBERED_PATH_MAX];
    enum mr_status status = join(dir, temporary, path);
    return status == MR_OK ? mr_disk_unlink(disk, path) : status;
}

enum mr_status mr_manifest_list(struct mr_disk *disk, const char *dir, struct mr_manifest_list *ret,
                                struct mr_error *error) {
    struct listing found = {0};
    /* First: a process killed before it synced the directory leaves names that are seen, and would
     * go with the power after somebody relied on them. */
    enum mr_status status = mr_disk_sync_dir(disk, dir);
    if (status == MR_OK) {
        status = mr_disk_list(disk, dir, add_name, &found);
    }
    if (status == MR_OK && found.unfinished) {
        status = remove_temporary(disk, dir);
    }
    if (status != MR_OK && status != MR_NOT_FOUND) {
        mr_manifest_list_finish(&found.list);
        return mr_error_set(error, status, "%s: cannot list: %s", dir, mr_status_text(status));
    }
    sort(found.list.manifests, found.list.manifest_count);
    sort(found.list.parts, found.list.part_count);
    *ret = found.list;
    return MR_OK;
}

void mr_manifest_list_finish(struct mr_manifest_list *list) {
    mr_free(list->manifests);
    mr_free(list->parts);
    *list = (struct mr_manifest_list){0};
}

static enum mr_status remove_numbered(struct mr_disk *disk, const char *dir, const char *kind,
                                      uint64_t number) {
    char path[MR_NUMBERED_PATH_MAX];
    enum mr_status status = mr_numbered_path(dir, kind, number, path);
    if (status == MR_OK) {
        status = mr_disk_unlink(disk, path);
    }
    return status == MR_NOT_FOUND ? MR_OK : status;
}

enum mr_status mr_manifest_remove(struct mr_disk *disk, const char *dir, uint64_t number) {
    return remove_numbered(disk, dir, "manifest", number);
}

enum mr_status mr_part_remove(struct mr_disk *disk, const char *dir, uint64_t number) {
    return remove_numbered(disk, dir, "part", number);
}
