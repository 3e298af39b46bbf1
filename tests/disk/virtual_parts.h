/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The parts of the virtual disk (virtual_disk.h): files' content, seen and durable, names, the
 * disk itself.
 *
 * Owner       virtual_disk.c (the operations) and virtual_control.c (what tests do); nobody else
 *             includes this.
 */
#include "tests/disk/virtual_disk.h"

/* A change of a file that is not durable yet. */
struct change {
    bool is_write;
    uint64_t offset; /* of a write; the new size otherwise */
    size_t len;
    uint8_t *bytes;
};

struct inode {
    uint8_t *seen;
    uint8_t *durable;
    uint64_t seen_size;
    uint64_t durable_size;
    uint64_t cap; /* of both; zeros behind the sizes */
    struct change *changes;
    size_t change_count;
    size_t change_cap;
    bool differs; /* seen and durable may: something was changed since they were made equal */
    bool lost;    /* a failed sync forgot changes, so that no sync makes them equal */
    uint32_t handles; /* of this epoch */
    bool locked;
    bool reached; /* mark of collect */
    struct inode *next;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name *items;
    size_t count;
    size_t cap;
};

/* A directory operation that is not durable yet: path now names inode (NULL: nothing), and so does
 * not `from` (NULL: no rename) any more. */
struct name_change {
    char *path;
    char *from;
    struct inode *inode;
    bool stopped; /* scratch of crash, on a directory's first change */
};

struct virtual_disk {
    struct mr_disk disk;
    uint64_t random;
    uint64_t hash;
    uint64_t capacity;
    uint32_t epoch; /* grows with each crash */
    uint32_t files_open;
    bool power;
    struct inode *inodes;
    struct names seen;
    struct names durable;
    struct names dirs; /* inode NULL; durable at once, as mr_disk_mkdir promises */
    struct name_change *name_changes;
    size_t name_change_count;
    size_t name_change_cap;
    uint64_t counts[VIRTUAL_DISK_OP_COUNT];
    uint64_t probes[VIRTUAL_DISK_PROBE_ALL];
    uint64_t fail_nth; /* 0: off */
    unsigned fail_kinds;
    enum virtual_disk_times fail_times;
    enum mr_status fail_status;
    char *fail_prefix; /* NULL: any path */
    uint64_t failed_counts[VIRTUAL_DISK_OP_COUNT];
    uint64_t cut_nth; /* 0: off */
    unsigned cut_kinds;
    char *cut_prefix; /* NULL: any path */
    unsigned fates;
    unsigned slow_kinds;
    uint64_t slow_one_in;
    void (*slow_wait)(void *ctx, enum virtual_disk_op op);
    void *slow_ctx;
    char *keep_prefix;  /* NULL: nothing is kept aside */
    struct names kept;  /* their inodes are in no list */
};

/* malloc's answer, which must not be NULL. */
void *virtual_need(void *ptr);
char *virtual_copy_text(const char *text);
/* The path without doubled and trailing slashes, so that a file has one name. */
char *virtual_tidy(const char *path);
size_t virtual_dir_len(const char *path);
bool virtual_same_dir(const char *a, const char *b);
bool virtual_begins(const char *path, const char *prefix);
/* A number below bound, from splitmix64. */
uint64_t virtual_below(uint64_t *random, uint64_t bound);

struct name *virtual_names_find(const struct names *names, const char *path);
void virtual_names_set(struct names *names, const char *path, struct inode *inode);
void virtual_names_remove(struct names *names, const char *path);
void virtual_names_copy(struct names *to, const struct names *from);
void virtual_names_finish(struct names *names);

void virtual_inode_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len);
void virtual_inode_resize(struct inode *inode, uint64_t size);
void virtual_inode_persist(struct inode *inode); /* all changes: a sync */
/* What a power cut or a failed sync leaves of the changes; none is left to sync. */
void virtual_inode_persist_some(struct inode *inode, struct virtual_disk *vd);
void virtual_inode_forget_seen(struct inode *inode); /* seen becomes durable */
void virtual_inode_set(struct inode *inode, const uint8_t *bytes, uint64_t size);
void virtual_inode_free(struct inode *inode);

void virtual_mix(struct virtual_disk *vd, const void *bytes, size_t len); /* into the hash */
void virtual_change_name(struct names *names, const struct name_change *c);
void virtual_forget_name_change(struct virtual_disk *vd, size_t i);
struct inode *virtual_add_inode(struct virtual_disk *vd);
/* Keeps a copy aside when the test asked for it: the path is about to name something else. */
void virtual_keep(struct virtual_disk *vd, const char *path);
/* Frees the files that have no name, no coming name and no handle. */
void virtual_collect(struct virtual_disk *vd);
