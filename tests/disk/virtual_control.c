/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test does to a virtual disk, past the operations of mr_disk.
 */
#include "base/check.h"
#include "tests/disk/virtual_parts.h"

#include <stdlib.h>

void virtual_disk_set_capacity(struct virtual_disk *vd, uint64_t bytes) {
    vd->capacity = bytes;
}

void virtual_disk_fail(struct virtual_disk *vd, uint64_t nth, unsigned kinds,
                       enum virtual_disk_times times, enum mr_status status) {
    MR_ASSERT(nth == 0 || status != MR_OK);
    vd->fail_nth = nth;
    vd->fail_kinds = kinds;
    vd->fail_times = times;
    vd->fail_status = status;
}

void virtual_disk_cut_power(struct virtual_disk *vd, uint64_t nth) {
    vd->cut_nth = nth;
}

bool virtual_disk_power(const struct virtual_disk *vd) {
    return vd->power;
}

/* Of each directory's operations a prefix. */
static void crash_names(struct virtual_disk *vd) {
    for (size_t i = 0; i < vd->name_change_count; i++) {
        struct name_change *c = &vd->name_changes[i];
        size_t first = 0;
        while (!virtual_same_dir(vd->name_changes[first].path, c->path)) {
            first++;
        }
        bool *stopped = &vd->name_changes[first].stopped;
        *stopped = *stopped || virtual_below(&vd->random, 3) == 0;
        if (*stopped) {
            vd->probes[VIRTUAL_DISK_PROBE_NAME_DROPPED]++;
        } else {
            virtual_change_name(&vd->durable, c);
            vd->probes[VIRTUAL_DISK_PROBE_NAME_KEPT]++;
        }
    }
    while (vd->name_change_count > 0) {
        virtual_forget_name_change(vd, vd->name_change_count - 1);
    }
    virtual_names_copy(&vd->seen, &vd->durable);
}

void virtual_disk_crash(struct virtual_disk *vd) {
    crash_names(vd);
    for (struct inode *inode = vd->inodes; inode != NULL; inode = inode->next) {
        virtual_inode_persist_some(inode, &vd->random, vd->probes);
        virtual_inode_forget_seen(inode);
        inode->handles = 0;
        inode->locked = false;
    }
    virtual_collect(vd);
    vd->epoch++;
    vd->power = true;
    vd->fail_nth = 0;
    vd->cut_nth = 0;
    virtual_mix(vd, &vd->epoch, sizeof vd->epoch);
}

uint64_t virtual_disk_op_count(const struct virtual_disk *vd, unsigned kinds) {
    uint64_t sum = 0;
    for (unsigned op = 0; op < VIRTUAL_DISK_OP_COUNT; op++) {
        sum += (kinds & (1u << op)) != 0 ? vd->counts[op] : 0;
    }
    return sum;
}

uint64_t virtual_disk_probe(const struct virtual_disk *vd, enum virtual_disk_probe which) {
    MR_ASSERT((unsigned)which < VIRTUAL_DISK_PROBE_COUNT);
    return vd->probes[which];
}

const char *virtual_disk_probe_text(enum virtual_disk_probe which) {
    static const char *const texts[VIRTUAL_DISK_PROBE_COUNT] = {
#define X(name, text) [VIRTUAL_DISK_PROBE_##name] = text,
        VIRTUAL_DISK_PROBES(X)
#undef X
    };
    MR_ASSERT((unsigned)which < VIRTUAL_DISK_PROBE_COUNT);
    return texts[which];
}

uint64_t virtual_disk_hash(const struct virtual_disk *vd) {
    return vd->hash;
}

static struct inode *inode_named(struct virtual_disk *vd, const char *path) {
    char *tidied = virtual_tidy(path);
    struct name *name = virtual_names_find(&vd->seen, tidied);
    free(tidied);
    MR_ASSERT(name != NULL);
    return name->inode;
}

struct mr_bytes virtual_disk_content(struct virtual_disk *vd, const char *path) {
    const struct inode *inode = inode_named(vd, path);
    return mr_bytes_of(inode->seen, inode->seen_size);
}

void virtual_disk_replace(struct virtual_disk *vd, const char *path, struct mr_bytes content) {
    virtual_inode_set(inode_named(vd, path), content.ptr, content.len);
}

void virtual_disk_flip(struct virtual_disk *vd, const char *path, uint64_t offset, uint8_t mask) {
    struct inode *inode = inode_named(vd, path);
    MR_ASSERT(offset < inode->seen_size);
    inode->seen[offset] ^= mask;
    if (offset < inode->durable_size) {
        inode->durable[offset] ^= mask;
    }
}

struct virtual_disk *virtual_disk_clone(const struct virtual_disk *vd, uint64_t seed) {
    struct virtual_disk *clone = virtual_disk_open(seed);
    clone->capacity = vd->capacity;
    for (size_t i = 0; i < vd->dirs.count; i++) {
        virtual_names_set(&clone->dirs, vd->dirs.items[i].path, NULL);
    }
    for (size_t i = 0; i < vd->seen.count; i++) {
        const struct inode *inode = vd->seen.items[i].inode;
        struct inode *copy = virtual_add_inode(clone);
        virtual_inode_set(copy, inode->seen, inode->seen_size);
        virtual_names_set(&clone->seen, vd->seen.items[i].path, copy);
    }
    virtual_names_copy(&clone->durable, &clone->seen);
    return clone;
}
