/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Virtual store: the data of one virtual server: strings and hashes that expire, and the way back over the last writes.
 *
 * Idea        Each change first notes what was there before; a replica that lagged is the store with the last notes
 *             taken back. A key that goes is moved into its note, so that a hash is never copied.
 * Owner       The caller owns the struct. Bytes returned are valid until the next change.
 */
#include "base/bytes.h"

struct virtual_table;

struct virtual_entry { /* a key, or a hash's field */
    struct virtual_entry *next;
    uint64_t hash;
    struct mr_bytes name;
    struct mr_bytes value;
    struct virtual_table *fields; /* NULL: a string */
    int64_t expire_ms;            /* 0: never */
};

struct virtual_table {
    struct virtual_entry **buckets;
    uint64_t bucket_count; /* a power of two, or 0 */
    uint64_t count;
};

struct virtual_undo;

struct virtual_store {
    struct virtual_table keys;
    struct virtual_undo *undos; /* a ring of the last ones */
    uint32_t undo_first;
    uint32_t undo_count;
    uint64_t write; /* the number of the command under way */
};

/* malloc's answer, which must not be NULL. */
void *virtual_redis_need(void *ptr);

void virtual_store_finish(struct virtual_store *s); /* empty, and usable again */
/* A command begins: what changes from now on is taken back together. */
void virtual_store_begin(struct virtual_store *s);
/* NULL: none, or it has expired. */
struct virtual_entry *virtual_store_find(struct virtual_store *s, struct mr_bytes key, int64_t now_ms);
/* A string, whatever was there. */
void virtual_store_set(struct virtual_store *s, struct mr_bytes key, struct mr_bytes value, int64_t expire_ms);
void virtual_store_remove(struct virtual_store *s, struct mr_bytes key);
void virtual_store_expire(struct virtual_store *s, struct virtual_entry *key, int64_t expire_ms);
/* The hash is made when it is missing, and removed with its last field. */
struct virtual_entry *virtual_store_field(struct virtual_entry *key, struct mr_bytes field);
void virtual_store_set_field(struct virtual_store *s, struct mr_bytes key, struct mr_bytes field,
                             struct mr_bytes value);
void virtual_store_remove_field(struct virtual_store *s, struct virtual_entry *key, struct mr_bytes field);
void virtual_store_clear(struct virtual_store *s);
/* Takes back the last so many writing commands, as far as it remembers; returns how many. */
uint32_t virtual_store_take_back(struct virtual_store *s, uint32_t writes);
/* Moves a key to another store. Neither remembers what was before. */
void virtual_store_move(struct virtual_store *from, struct virtual_store *to, struct mr_bytes key);

/* Calls visit for each entry until it returns false; nothing may change meanwhile. */
void virtual_table_each(const struct virtual_table *t, bool (*visit)(void *ctx, struct virtual_entry *entry),
                        void *ctx);
