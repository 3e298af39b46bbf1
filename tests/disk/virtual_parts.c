/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/disk/virtual_parts.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>

enum { SECTOR = 512 };

void *virtual_need(void *ptr) {
    MR_ASSERT(ptr != NULL);
    return ptr;
}

char *virtual_copy_text(const char *text) {
    size_t len = strlen(text) + 1;
    return memcpy(virtual_need(malloc(len)), text, len);
}

uint64_t virtual_below(uint64_t *random, uint64_t bound) { /* splitmix64 */
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return bound == 0 ? 0 : (z ^ (z >> 31)) % bound;
}

char *virtual_tidy(const char *path) {
    char *tidied = virtual_need(malloc(strlen(path) + 1));
    size_t len = 0;
    for (const char *at = path; *at != '\0'; at++) {
        if (*at != '/' || len == 0 || tidied[len - 1] != '/') {
            tidied[len++] = *at;
        }
    }
    while (len > 1 && tidied[len - 1] == '/') {
        len--;
    }
    tidied[len] = '\0';
    return tidied;
}

size_t virtual_dir_len(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

bool virtual_same_dir(const char *a, const char *b) {
    return virtual_dir_len(a) == virtual_dir_len(b) && memcmp(a, b, virtual_dir_len(a)) == 0;
}

bool virtual_begins(const char *path, const char *prefix) {
    char *tidied = virtual_tidy(path);
    bool begins = strncmp(tidied, prefix, strlen(prefix)) == 0;
    free(tidied);
    return begins;
}

struct name *virtual_names_find(const struct names *names, const char *path) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].path, path) == 0) {
            return &names->items[i];
        }
    }
    return NULL;
}

void virtual_names_set(struct names *names, const char *path, struct inode *inode) {
    struct name *name = virtual_names_find(names, path);
    if (name != NULL) {
        name->inode = inode;
        return;
    }
    if (names->count == names->cap) {
        names->cap = names->cap == 0 ? 16 : names->cap * 2;
        names->items = virtual_need(realloc(names->items, names->cap * sizeof *names->items));
    }
    names->items[names->count++] = (struct name){virtual_copy_text(path), inode};
}

void virtual_names_remove(struct names *names, const char *path) {
    struct name *name = virtual_names_find(names, path);
    if (name != NULL) {
        free(name->path);
        *name = names->items[--names->count];
    }
}

void virtual_names_finish(struct names *names) {
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i].path);
    }
    free(names->items);
    *names = (struct names){0};
}

void virtual_names_copy(struct names *to, const struct names *from) {
    virtual_names_finish(to);
    for (size_t i = 0; i < from->count; i++) {
        virtual_names_set(to, from->items[i].path, from->items[i].inode);
    }
}

static void inode_reserve(struct inode *inode, uint64_t size) {
    if (size <= inode->cap) {
        return;
    }
    uint64_t cap = size < 2 * inode->cap ? 2 * inode->cap : size;
    inode->seen = virtual_need(realloc(inode->seen, cap));
    inode->durable = virtual_need(realloc(inode->durable, cap));
    memset(inode->seen + inode->cap, 0, cap - inode->cap);
    memset(inode->durable + inode->cap, 0, cap - inode->cap);
    inode->cap = cap;
}

static void put(uint8_t *content, uint64_t *size, uint64_t offset, const uint8_t *bytes,
                size_t len) {
    memcpy(content + offset, bytes, len);
    if (offset + len > *size) {
        *size = offset + len;
    }
}

static void resize(uint8_t *content, uint64_t *size, uint64_t to) {
    if (to < *size) {
        memset(content + to, 0, *size - to);
    }
    *size = to;
}

static struct change *add_change(struct inode *inode) {
    if (inode->change_count == inode->change_cap) {
        inode->change_cap = inode->change_cap == 0 ? 8 : inode->change_cap * 2;
        inode->changes =
            virtual_need(realloc(inode->changes, inode->change_cap * sizeof *inode->changes));
    }
    return &inode->changes[inode->change_count++];
}

void virtual_inode_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len) {
    if (len == 0) {
        return;
    }
    inode_reserve(inode, offset + len);
    put(inode->seen, &inode->seen_size, offset, bytes, len);
    inode->differs = true;
    struct change *c = add_change(inode);
    *c = (struct change){true, offset, len, virtual_need(malloc(len))};
    memcpy(c->bytes, bytes, len);
}

void virtual_inode_resize(struct inode *inode, uint64_t size) {
    inode_reserve(inode, size);
    inode->differs = true;
    resize(inode->seen, &inode->seen_size, size);
    *add_change(inode) = (struct change){false, size, 0, NULL};
}

static void forget_changes(struct inode *inode) {
    for (size_t i = 0; i < inode->change_count; i++) {
        free(inode->changes[i].bytes);
    }
    inode->change_count = 0;
}

static void persist(struct inode *inode, const struct change *c) {
    if (c->is_write) {
        put(inode->durable, &inode->durable_size, c->offset, c->bytes, c->len);
    } else {
        resize(inode->durable, &inode->durable_size, c->offset);
    }
}

void virtual_inode_persist(struct inode *inode) {
    for (size_t i = 0; i < inode->change_count; i++) {
        persist(inode, &inode->changes[i]);
    }
    inode->differs = inode->differs && inode->lost;
    forget_changes(inode);
}

/* Each sector of the write is kept or lost on its own. */
static void persist_torn(struct inode *inode, const struct change *c, uint64_t *random) {
    for (size_t done = 0; done < c->len;) {
        uint64_t at = c->offset + done;
        size_t len = SECTOR - (size_t)(at % SECTOR);
        len = len < c->len - done ? len : c->len - done;
        if (virtual_below(random, 2) == 0) {
            put(inode->durable, &inode->durable_size, at, c->bytes + done, len);
        }
        done += len;
    }
}

static bool all_zero(const uint8_t *bytes, size_t len) {
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* The blocks are there, as delayed allocation leaves them: those never written before hold zeros. */
static bool persist_zeroed(struct inode *inode, const struct change *c) {
    bool zeroed = false;
    for (size_t done = 0; done < c->len;) {
        uint64_t at = c->offset + done;
        size_t len = SECTOR - at % SECTOR;
        len = len < c->len - done ? len : c->len - done;
        if (all_zero(inode->durable + at, len)) {
            inode->durable_size = at + len > inode->durable_size ? at + len : inode->durable_size;
            zeroed = zeroed || !all_zero(c->bytes + done, len);
        } else {
            put(inode->durable, &inode->durable_size, at, c->bytes + done, len);
        }
        done += len;
    }
    return zeroed;
}

/* Only of bytes that the write changes: a disk that damages what was there before is another disk. */
static bool persist_flipped(struct inode *inode, const struct change *c, uint64_t *random) {
    size_t first = virtual_below(random, c->len);
    for (size_t i = 0; i < c->len; i++) {
        size_t at = (first + i) % c->len;
        if (inode->durable[c->offset + at] != c->bytes[at]) {
            persist(inode, c);
            inode->durable[c->offset + at] ^= (uint8_t)(1u << virtual_below(random, 8));
            return true;
        }
    }
    persist(inode, c);
    return false;
}

static enum virtual_disk_fate choose_fate(struct virtual_disk *vd) {
    uint64_t n = virtual_below(&vd->random, (uint64_t)__builtin_popcount(vd->fates));
    unsigned fate = 0;
    while ((vd->fates & (1u << fate)) == 0 || n-- > 0) {
        fate++;
    }
    return (enum virtual_disk_fate)fate;
}

static enum virtual_disk_probe persist_fated(struct inode *inode, const struct change *c,
                                             enum virtual_disk_fate fate, uint64_t *random) {
    if (fate == VIRTUAL_DISK_KEPT) {
        persist(inode, c);
        return VIRTUAL_DISK_PROBE_WRITE_KEPT;
    }
    if (!c->is_write) {
        return VIRTUAL_DISK_PROBE_SIZE_DROPPED;
    }
    switch (fate) {
    case VIRTUAL_DISK_TORN:
        persist_torn(inode, c, random);
        return VIRTUAL_DISK_PROBE_WRITE_TORN;
    case VIRTUAL_DISK_ZEROED:
        return persist_zeroed(inode, c) ? VIRTUAL_DISK_PROBE_WRITE_ZEROED
                                        : VIRTUAL_DISK_PROBE_WRITE_KEPT;
    case VIRTUAL_DISK_FLIPPED:
        return persist_flipped(inode, c, random) ? VIRTUAL_DISK_PROBE_WRITE_FLIPPED
                                                 : VIRTUAL_DISK_PROBE_WRITE_KEPT;
    default:
        return VIRTUAL_DISK_PROBE_WRITE_DROPPED;
    }
}

void virtual_inode_persist_some(struct inode *inode, struct virtual_disk *vd) {
    bool dropped = false;
    inode->lost = inode->lost || inode->change_count > 0;
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct change *c = &inode->changes[i];
        enum virtual_disk_probe met = persist_fated(inode, c, choose_fate(vd), &vd->random);
        vd->probes[met]++;
        bool reordered = dropped && c->is_write && met == VIRTUAL_DISK_PROBE_WRITE_KEPT;
        vd->probes[VIRTUAL_DISK_PROBE_WRITES_REORDERED] += reordered;
        dropped = dropped || met == VIRTUAL_DISK_PROBE_WRITE_DROPPED;
    }
    forget_changes(inode);
}

void virtual_inode_forget_seen(struct inode *inode) {
    if (inode->differs && inode->cap > 0) {
        memcpy(inode->seen, inode->durable, inode->cap);
    }
    inode->seen_size = inode->durable_size;
    inode->differs = false;
    inode->lost = false;
}

void virtual_inode_set(struct inode *inode, const uint8_t *bytes, uint64_t size) {
    forget_changes(inode);
    inode_reserve(inode, size);
    resize(inode->seen, &inode->seen_size, 0);
    resize(inode->durable, &inode->durable_size, 0);
    if (size > 0) {
        put(inode->seen, &inode->seen_size, 0, bytes, size);
        put(inode->durable, &inode->durable_size, 0, bytes, size);
    }
}

void virtual_inode_free(struct inode *inode) {
    forget_changes(inode);
    free(inode->changes);
    free(inode->seen);
    free(inode->durable);
    free(inode);
}

void virtual_mix(struct virtual_disk *vd, const void *bytes, size_t len) {
    vd->hash = mr_hash64(mr_bytes_of(bytes, len), vd->hash);
}

void virtual_change_name(struct names *names, const struct name_change *c) {
    if (c->from != NULL) {
        virtual_names_remove(names, c->from);
    }
    if (c->inode != NULL) {
        virtual_names_set(names, c->path, c->inode);
    } else {
        virtual_names_remove(names, c->path);
    }
}

void virtual_forget_name_change(struct virtual_disk *vd, size_t i) {
    free(vd->name_changes[i].path);
    free(vd->name_changes[i].from);
    vd->name_change_count--;
    memmove(&vd->name_changes[i], &vd->name_changes[i + 1],
            (vd->name_change_count - i) * sizeof *vd->name_changes);
}

struct inode *virtual_add_inode(struct virtual_disk *vd) {
    struct inode *inode = virtual_need(calloc(1, sizeof *inode));
    inode->next = vd->inodes;
    vd->inodes = inode;
    return inode;
}

void virtual_keep(struct virtual_disk *vd, const char *path) {
    const struct name *name = virtual_names_find(&vd->seen, path);
    if (name == NULL || vd->keep_prefix == NULL || !virtual_begins(path, vd->keep_prefix)) {
        return;
    }
    struct name *kept = virtual_names_find(&vd->kept, path);
    if (kept == NULL) {
        virtual_names_set(&vd->kept, path, virtual_need(calloc(1, sizeof(struct inode))));
        kept = virtual_names_find(&vd->kept, path);
    }
    virtual_inode_set(kept->inode, name->inode->seen, name->inode->seen_size);
    vd->probes[VIRTUAL_DISK_PROBE_UNLINKED_KEPT]++;
}

static void mark(const struct names *names) {
    for (size_t i = 0; i < names->count; i++) {
        names->items[i].inode->reached = true;
    }
}

void virtual_collect(struct virtual_disk *vd) {
    mark(&vd->seen);
    mark(&vd->durable);
    for (size_t i = 0; i < vd->name_change_count; i++) {
        if (vd->name_changes[i].inode != NULL) {
            vd->name_changes[i].inode->reached = true;
        }
    }
    for (struct inode **at = &vd->inodes; *at != NULL;) {
        struct inode *inode = *at;
        if (inode->reached || inode->handles > 0) {
            inode->reached = false;
            at = &inode->next;
        } else {
            *at = inode->next;
            virtual_inode_free(inode);
        }
    }
}
