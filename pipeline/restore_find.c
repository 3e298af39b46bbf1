/* SPDX-License-Identifier: Apache-2.0 */
/* Restore, finding it: the newest sound checkpoint of a directory, and what lies there besides. */
#include "pipeline/restore.h"

#include "base/pack.h"
#include "base/report.h"
#include "pipeline/stations.h"

static enum mr_status verify_parts(const struct mr_restored *r, const struct mr_manifest *m, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < m->part_count; i++) {
        status = mr_part_verify(r->disk, r->dir, &m->parts[i].id, 0, m->parts[i].len, error);
    }
    return status;
}

static enum mr_status read_flusher(struct mr_restored *r, struct mr_error *error) {
    const struct mr_buf *blob = mr_manifest_blob(&r->newest, MR_BLOB_FLUSHER, 0, 0);
    struct mr_unpack u = {.rest = blob == NULL ? mr_bytes_of(NULL, 0) : mr_buf_bytes(blob), .failed = blob == NULL};
    r->dead_seq = mr_unpack_u64(&u);
    r->dead_lsn = mr_unpack_u64(&u);
    return mr_unpack_end(&u) ? MR_OK : mr_error_set(error, MR_CORRUPT, "%s: the flusher's part cannot be read", r->dir);
}

/* One manifest from the list, newest first, into the first free place; a damaged one is passed over. The parts of the
 * one before are read only when it is needed. */
static enum mr_status consider(struct mr_restored *r, uint64_t number, struct mr_error *error) {
    struct mr_manifest *m = r->newest.number == 0 ? &r->newest : &r->before;
    enum mr_status status = mr_manifest_read(r->disk, r->dir, number, m, error);
    if (status == MR_OK && m == &r->newest) {
        status = verify_parts(r, m, error);
    }
    if (status != MR_CORRUPT) {
        return status;
    }
    mr_manifest_finish(m);
    mr_manifest_init(m);
    if (r->damage.status == MR_OK) {
        r->damage = *error;
    }
    char quoted[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "checkpoint_damaged", "number=%llu reason=%s action=\"the one before it is taken\"",
              (unsigned long long)number, mr_report_value(error->text, quoted, sizeof quoted));
    return MR_OK;
}

enum mr_status mr_restored_open(struct mr_disk *disk, const char *dir, struct mr_restored *ret,
                                struct mr_error *error) {
    *ret = (struct mr_restored){.disk = disk, .dir = dir, .next_manifest = 1, .next_part = 1};
    mr_manifest_init(&ret->newest);
    mr_manifest_init(&ret->before);
    struct mr_manifest_list list;
    enum mr_status status = mr_disk_mkdir(disk, dir);
    if (status != MR_OK) {
        return mr_error_set(error, status, "cannot make %s: %s", dir, mr_status_text(status));
    }
    status = mr_manifest_list(disk, dir, &list, error);
    if (status != MR_OK) {
        return status;
    }
    for (uint32_t i = list.manifest_count; status == MR_OK && i-- > 0 && ret->before.number == 0;) {
        status = consider(ret, list.manifests[i], error);
    }
    if (list.manifest_count > 0) {
        ret->next_manifest = list.manifests[list.manifest_count - 1] + 1;
    }
    if (list.part_count > 0) {
        ret->next_part = list.parts[list.part_count - 1] + 1;
    }
    mr_manifest_list_finish(&list);
    if (status == MR_OK && ret->newest.number != 0) {
        status = read_flusher(ret, error);
    }
    if (status != MR_OK) {
        mr_restored_finish(ret);
    }
    return status;
}

enum mr_status mr_restored_open_replay(struct mr_disk *disk, const char *dir, struct mr_restored *restored,
                                       struct mr_error *error) {
    mr_restored_finish(restored);
    enum mr_status status = mr_restored_open(disk, dir, restored, error);
    return status == MR_OK && restored->newest.number == 0
               ? mr_error_set(error, MR_NOT_FOUND, "%s has no checkpoint: replay again", dir)
               : status;
}

void mr_restored_finish(struct mr_restored *restored) {
    mr_manifest_finish(&restored->newest);
    mr_manifest_finish(&restored->before);
}

static bool names(const struct mr_manifest *m, uint64_t part) {
    for (uint32_t i = 0; i < m->part_count; i++) {
        if (m->parts[i].id.number == part) {
            return true;
        }
    }
    return false;
}

enum mr_status mr_restored_tidy(const struct mr_restored *restored, struct mr_error *error) {
    struct mr_manifest_list list;
    enum mr_status status = mr_manifest_list(restored->disk, restored->dir, &list, error);
    if (status != MR_OK) {
        return status;
    }
    bool removed = false;
    for (uint32_t i = 0; status == MR_OK && i < list.manifest_count; i++) {
        uint64_t number = list.manifests[i];
        if (number != restored->newest.number && number != restored->before.number) {
            status = mr_manifest_remove(restored->disk, restored->dir, number);
            removed = true;
        }
    }
    if (status == MR_OK && removed) { /* before their parts go, and their numbers are given again */
        status = mr_disk_sync_dir(restored->disk, restored->dir);
    }
    for (uint32_t i = 0; status == MR_OK && i < list.part_count; i++) {
        if (!names(&restored->newest, list.parts[i]) && !names(&restored->before, list.parts[i])) {
            status = mr_part_remove(restored->disk, restored->dir, list.parts[i]);
        }
    }
    mr_manifest_list_finish(&list);
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s: cannot remove what is not needed: %s", restored->dir,
                                          mr_status_text(status));
}

struct mr_bytes mr_restored_config(const struct mr_restored *restored) {
    const struct mr_buf *blob = mr_manifest_blob(&restored->newest, MR_BLOB_CONFIG, 0, 0);
    return blob == NULL ? mr_bytes_of(NULL, 0) : mr_buf_bytes(blob);
}
