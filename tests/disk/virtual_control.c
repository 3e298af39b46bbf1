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

static void set_text(char **to, const char *text) {
    char *copy = text == NULL ? NULL : virtual_tidy(text);
    free(*to);
    *to = copy;
}

void virtual_disk_fail_under(struct virtual_disk *vd, const char *prefix) {
    set_text(&vd->fail_prefix, prefix);
}

void virtual_disk_slow(struct virtual_disk *vd, unsigned kinds, uint64_t one_in,
                       void (*wait)(void *ctx, enum virtual_disk_op op), void *ctx) {
    MR_ASSERT(kinds == 0 || (one_in > 0 && wait != NULL));
    vd->slow_kinds = kinds;
    vd->slow_one_in = one_in;
    vd->slow_wait = wait;
    vd->slow_ctx = ctx;
}

void virtual_disk_set_fates(struct virtual_disk *vd, unsigned fates) {
    MR_ASSERT(fates != 0 && (fates & ~VIRTUAL_DISK_FATES_ALL) == 0);
    vd->fates = fates;
}

void virtual_disk_cut_power(struct virtual_disk *vd, uint64_t nth) {
    virtual_disk_cut_power_where(vd, nth, VIRTUAL_DISK_CHANGES, NULL);
}

void virtual_disk_cut_power_where(struct virtual_disk *vd, uint64_t nth, unsigned kinds,
                                  const char *prefix) {
    vd->cut_nth = nth;
    vd->cut_kinds = kinds;
    set_text(&vd->cut_prefix, prefix);
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
            vd->probes[VIRTUAL_DISK_PROBE_RENAME_LOST] += c->from != NULL;
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
        virtual_inode_persist_some(inode, vd);
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

static uint64_t sum_of(const uint64_t counts[VIRTUAL_DISK_OP_COUNT], unsigned kinds) {
    uint64_t sum = 0;
    for (unsigned op = 0; op < VIRTUAL_DISK_OP_COUNT; op++) {
        sum += (kinds & (1u << op)) != 0 ? counts[op] : 0;
    }
    return sum;
}

uint64_t virtual_disk_op_count(const struct virtual_disk *vd, unsigned kinds) {
    return sum_of(vd->counts, kinds);
}

uint64_t virtual_disk_failed_count(const struct virtual_disk *vd, unsigned kinds) {
    return sum_of(vd->failed_counts, kinds);
}

uint64_t virtual_disk_probe(const struct virtual_disk *vd, enum virtual_disk_probe which) {
    MR_ASSERT((unsigned)which < VIRTUAL_DISK_PROBE_ALL);
    return vd->probes[which];
}

const char *virtual_disk_probe_text(enum virtual_disk_probe which) {
    static const char *const texts[VIRTUAL_DISK_PROBE_ALL] = {
#define X(name, text) [VIRTUAL_DISK_PROBE_##name] = text,
        VIRTUAL_DISK_PROBES(X) VIRTUAL_DISK_MORE_PROBES(X)
#undef X
    };
    MR_ASSERT((unsigned)which < VIRTUAL_DISK_PROBE_ALL);
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

/* What was done to the name and is not durable yet shall not come back. */
static void forget_name(struct virtual_disk *vd, const char *path) {
    for (size_t i = vd->name_change_count; i-- > 0;) {
        struct name_change *c = &vd->name_changes[i];
        if (c->from != NULL && strcmp(c->from, path) == 0) {
            free(c->from);
            c->from = NULL;
        }
        if (strcmp(c->path, path) == 0) {
            virtual_forget_name_change(vd, i);
        }
    }
    virtual_names_remove(&vd->seen, path);
    virtual_names_remove(&vd->durable, path);
}

void virtual_disk_put(struct virtual_disk *vd, const char *path, struct mr_bytes content) {
    char *tidied = virtual_tidy(path);
    forget_name(vd, tidied);
    struct inode *inode = virtual_add_inode(vd);
    virtual_inode_set(inode, content.ptr, content.len);
    virtual_names_set(&vd->seen, tidied, inode);
    virtual_names_set(&vd->durable, tidied, inode);
    free(tidied);
    virtual_collect(vd);
}

void virtual_disk_remove(struct virtual_disk *vd, const char *path) {
    char *tidied = virtual_tidy(path);
    forget_name(vd, tidied);
    free(tidied);
    virtual_collect(vd);
}

bool virtual_disk_exists(const struct virtual_disk *vd, const char *path) {
    char *tidied = virtual_tidy(path);
    bool there = virtual_names_find(&vd->seen, tidied) != NULL;
    free(tidied);
    return there;
}

void virtual_disk_flip(struct virtual_disk *vd, const char *path, uint64_t offset, uint8_t mask) {
    struct inode *inode = inode_named(vd, path);
    MR_ASSERT(offset < inode->seen_size);
    inode->seen[offset] ^= mask;
    if (offset < inode->durable_size) {
        inode->durable[offset] ^= mask;
    }
}

uint64_t virtual_disk_rot(struct virtual_disk *vd, const char *path, uint64_t from, uint64_t to,
                          uint8_t *ret_mask) {
    MR_ASSERT(from < to);
    uint64_t offset = from + virtual_below(&vd->random, to - from);
    *ret_mask = (uint8_t)(1u << virtual_below(&vd->random, 8));
    virtual_disk_flip(vd, path, offset, *ret_mask);
    vd->probes[VIRTUAL_DISK_PROBE_ROTTED]++;
    return offset;
}

struct virtual_disk *virtual_disk_clone(const struct virtual_disk *vd, uint64_t seed) {
    struct virtual_disk *clone = virtual_disk_open(seed);
    clone->capacity = vd->capacity;
    clone->fates = vd->fates;
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

void virtual_disk_keep_unlinked(struct virtual_disk *vd, const char *prefix) {
    set_text(&vd->keep_prefix, prefix);
}

bool virtual_disk_has_unlinked(const struct virtual_disk *vd) {
    return vd->kept.count > 0;
}

void virtual_disk_put_back(struct virtual_disk *vd, const struct virtual_disk *from) {
    for (size_t i = 0; i < from->kept.count; i++) {
        const struct name *name = &from->kept.items[i];
        if (virtual_names_find(&vd->seen, name->path) != NULL) {
            continue;
        }
        struct inode *copy = virtual_add_inode(vd);
        virtual_inode_set(copy, name->inode->seen, name->inode->seen_size);
        virtual_names_set(&vd->seen, name->path, copy);
        virtual_names_set(&vd->durable, name->path, copy);
    }
}
