/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/spoil.h"

#include "base/check.h"
#include "log/manifest.h"
#include "log/segment.h"

static const char checkpoint_dir[] = "data/checkpoint";

enum { MANIFESTS_MAX = 8 };

/* Looks at a copy: listing changes the disk. */
uint32_t sim_spoil_list(const struct virtual_disk *disk, uint64_t *ret, uint32_t cap) {
    struct virtual_disk *copy = virtual_disk_clone(disk, 0);
    struct mr_manifest_list list;
    struct mr_error error;
    enum mr_status status = mr_manifest_list(virtual_disk_disk(copy), checkpoint_dir, &list, &error);
    MR_ASSERT(status == MR_OK);
    uint32_t skipped = list.manifest_count > cap ? list.manifest_count - cap : 0;
    uint32_t count = list.manifest_count - skipped;
    if (count > 0) {
        memcpy(ret, list.manifests + skipped, count * sizeof *ret);
    }
    mr_manifest_list_finish(&list);
    virtual_disk_close(copy);
    return count;
}

static void path_of(const char *kind, uint64_t number, char ret[MR_NUMBERED_PATH_MAX]) {
    enum mr_status status = mr_numbered_path(checkpoint_dir, kind, number, ret);
    MR_ASSERT(status == MR_OK);
}

void sim_spoil_remove_manifest(struct virtual_disk *disk, uint64_t number) {
    char path[MR_NUMBERED_PATH_MAX];
    path_of("manifest", number, path);
    virtual_disk_remove(disk, path);
}

uint64_t sim_spoil_newest_lsn(const struct virtual_disk *disk) {
    uint64_t numbers[MANIFESTS_MAX];
    uint32_t count = sim_spoil_list(disk, numbers, MANIFESTS_MAX);
    struct virtual_disk *copy = virtual_disk_clone(disk, 0);
    uint64_t lsn = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct mr_manifest m;
        struct mr_error error;
        mr_manifest_init(&m);
        enum mr_status status =
            mr_manifest_read(virtual_disk_disk(copy), checkpoint_dir, numbers[i], &m, &error);
        lsn = status == MR_OK && m.lsn > lsn ? m.lsn : lsn;
        mr_manifest_finish(&m);
    }
    virtual_disk_close(copy);
    return lsn;
}

/* Parts and all. */
static bool is_sound(struct virtual_disk *disk, uint64_t number, uint64_t *ret_seq) {
    struct mr_manifest m;
    struct mr_error error;
    mr_manifest_init(&m);
    enum mr_status status = mr_manifest_read(virtual_disk_disk(disk), checkpoint_dir, number, &m, &error);
    for (uint32_t i = 0; status == MR_OK && i < m.part_count; i++) {
        status = mr_part_verify(virtual_disk_disk(disk), checkpoint_dir, &m.parts[i].id, 0, m.parts[i].len,
                                &error);
    }
    *ret_seq = m.seq;
    mr_manifest_finish(&m);
    return status == MR_OK;
}

/* A bit, the end, or all of the first len bytes. */
static void damage(struct sim_world *w, struct sim_spoil *spoil, const char *path, uint64_t len) {
    struct sim_spoiled *file = &spoil->files[spoil->count++];
    struct mr_bytes content = virtual_disk_content(w->disk, path);
    MR_ASSERT(len > 0 && len <= content.len);
    memcpy(file->path, path, strlen(path) + 1);
    mr_buf_init(&file->content, SIZE_MAX / 2);
    mr_buf_append_bytes(&file->content, content);
    MR_ASSERT(!file->content.failed);
    uint8_t mask;
    switch (sim_below(&w->random, 4)) {
    case 0:
        virtual_disk_remove(w->disk, path);
        break;
    case 1:
        virtual_disk_put(w->disk, path, mr_bytes_of(file->content.ptr, sim_below(&w->random, len)));
        break;
    default:
        (void)virtual_disk_rot(w->disk, path, 0, len, &mask);
        break;
    }
}

/* The manifest or one of its parts. */
static void damage_one(struct sim_world *w, struct sim_spoil *spoil, uint64_t number) {
    struct virtual_disk *copy = virtual_disk_clone(w->disk, 0);
    char path[MR_NUMBERED_PATH_MAX];
    struct mr_manifest m;
    struct mr_error error;
    path_of("manifest", number, path);
    uint64_t len = virtual_disk_content(w->disk, path).len;
    mr_manifest_init(&m);
    enum mr_status status = mr_manifest_read(virtual_disk_disk(copy), checkpoint_dir, number, &m, &error);
    uint64_t seq;
    if (status == MR_OK && m.part_count > 0 && !sim_one_in(&w->random, 3) && is_sound(copy, number, &seq)) {
        const struct mr_manifest_part *part = &m.parts[sim_below(&w->random, m.part_count)];
        path_of("part", part->id.number, path);
        len = part->len;
    }
    if (len > 0) {
        damage(w, spoil, path, len);
    }
    mr_manifest_finish(&m);
    virtual_disk_close(copy);
}

static bool is_trimmed(struct virtual_disk *disk) {
    struct mr_segments segments = {0};
    struct mr_error error;
    enum mr_status status = mr_segments_list(virtual_disk_disk(disk), "data/log", &segments, &error);
    bool trimmed = status == MR_OK && segments.count > 0 && segments.items[0].first_lsn > 1;
    mr_segments_finish(&segments);
    return trimmed;
}

void sim_spoil_undo(struct sim_world *w, struct sim_spoil *spoil) {
    while (spoil->count > 0) {
        struct sim_spoiled *file = &spoil->files[--spoil->count];
        virtual_disk_put(w->disk, file->path, mr_buf_bytes(&file->content));
        mr_buf_finish(&file->content);
    }
}

bool sim_spoil_apply(struct sim_world *w, bool all, struct sim_spoil *ret) {
    uint64_t numbers[MANIFESTS_MAX];
    uint32_t count = sim_spoil_list(w->disk, numbers, MANIFESTS_MAX);
    *ret = (struct sim_spoil){.count = 0};
    if (count == 0) {
        return false;
    }
    ret->newest = numbers[count - 1];
    damage_one(w, ret, ret->newest);
    for (uint32_t i = 0; all && i + 1 < count && ret->count < SIM_SPOILED_MAX; i++) {
        damage_one(w, ret, numbers[i]);
    }
    struct virtual_disk *copy = virtual_disk_clone(w->disk, 0);
    for (uint32_t i = count; ret->sound == 0 && i-- > 0;) {
        ret->sound = is_sound(copy, numbers[i], &ret->seq) ? numbers[i] : 0;
    }
    ret->trimmed = is_trimmed(copy);
    virtual_disk_close(copy);
    if (ret->sound == ret->newest) {
        sim_spoil_undo(w, ret); /* a bit between two checked places: nobody will see it */
        return false;
    }
    return true;
}

void sim_spoil_finish(struct sim_spoil *spoil) {
    while (spoil->count > 0) {
        mr_buf_finish(&spoil->files[--spoil->count].content);
    }
}
