/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis/virtual_store.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>

enum { UNDOS = 1 << 16, BUCKETS_FIRST = 8 };

enum undo_kind { UNDO_KEY, UNDO_FIELD, UNDO_EXPIRE };

struct virtual_undo {
    enum undo_kind kind;
    uint64_t write;
    struct mr_bytes key;
    struct virtual_entry *before; /* KEY, FIELD: what was there; NULL: nothing */
    struct mr_bytes field;
    int64_t expire_ms;
};

void *virtual_redis_need(void *ptr) {
    MR_ASSERT(ptr != NULL);
    return ptr;
}

/* ---- tables ---- */

static struct mr_bytes copy(struct mr_bytes bytes) {
    uint8_t *ptr = virtual_redis_need(malloc(bytes.len + 1));
    if (bytes.len > 0) {
        memcpy(ptr, bytes.ptr, bytes.len);
    }
    return mr_bytes_of(ptr, bytes.len);
}

static void free_bytes(struct mr_bytes bytes) {
    free((void *)(uintptr_t)bytes.ptr);
}

static void free_entry(struct virtual_entry *e);

static void empty(struct virtual_table *t) {
    for (uint64_t i = 0; i < t->bucket_count; i++) {
        for (struct virtual_entry *e = t->buckets[i], *next; e != NULL; e = next) {
            next = e->next;
            free_entry(e);
        }
    }
    free(t->buckets);
    *t = (struct virtual_table){0};
}

static void free_entry(struct virtual_entry *e) {
    if (e == NULL) {
        return;
    }
    if (e->fields != NULL) {
        empty(e->fields);
        free(e->fields);
    }
    free_bytes(e->name);
    free_bytes(e->value);
    free(e);
}

/* Where the entry hangs, or would hang. */
static struct virtual_entry **place(const struct virtual_table *t, struct mr_bytes name, uint64_t hash) {
    struct virtual_entry **at = &t->buckets[hash & (t->bucket_count - 1)];
    while (*at != NULL && ((*at)->hash != hash || !mr_bytes_equal((*at)->name, name))) {
        at = &(*at)->next;
    }
    return at;
}

static struct virtual_entry *find(const struct virtual_table *t, struct mr_bytes name) {
    return t->bucket_count == 0 ? NULL : *place(t, name, mr_hash64(name, 0));
}

static void grow(struct virtual_table *t) {
    uint64_t count = t->bucket_count == 0 ? BUCKETS_FIRST : t->bucket_count * 2;
    struct virtual_entry **buckets = virtual_redis_need(calloc(count, sizeof(struct virtual_entry *)));
    for (uint64_t i = 0; i < t->bucket_count; i++) {
        for (struct virtual_entry *e = t->buckets[i], *next; e != NULL; e = next) {
            next = e->next;
            e->next = buckets[e->hash & (count - 1)];
            buckets[e->hash & (count - 1)] = e;
        }
    }
    free(t->buckets);
    t->buckets = buckets;
    t->bucket_count = count;
}

/* Puts it in; what was there under its name is returned, out of the table. */
static struct virtual_entry *swap_in(struct virtual_table *t, struct virtual_entry *e) {
    if (t->count >= t->bucket_count) {
        grow(t);
    }
    struct virtual_entry **at = place(t, e->name, e->hash);
    struct virtual_entry *before = *at;
    e->next = before == NULL ? NULL : before->next;
    *at = e;
    t->count += before == NULL;
    return before;
}

static struct virtual_entry *take_out(struct virtual_table *t, struct mr_bytes name) {
    if (t->bucket_count == 0) {
        return NULL;
    }
    struct virtual_entry **at = place(t, name, mr_hash64(name, 0));
    struct virtual_entry *e = *at;
    if (e != NULL) {
        *at = e->next;
        e->next = NULL;
        t->count--;
    }
    return e;
}

static struct virtual_entry *make(struct mr_bytes name, struct mr_bytes value) {
    struct virtual_entry *e = virtual_redis_need(calloc(1, sizeof *e));
    e->hash = mr_hash64(name, 0);
    e->name = copy(name);
    e->value = copy(value);
    return e;
}

void virtual_table_each(const struct virtual_table *t, bool (*visit)(void *ctx, struct virtual_entry *entry),
                        void *ctx) {
    for (uint64_t i = 0; i < t->bucket_count; i++) {
        for (struct virtual_entry *e = t->buckets[i]; e != NULL; e = e->next) {
            if (!visit(ctx, e)) {
                return;
            }
        }
    }
}

/* ---- the way back ---- */

static struct virtual_undo *undo_at(struct virtual_store *s, uint32_t i) {
    return &s->undos[(s->undo_first + i) % UNDOS];
}

static void free_undo(struct virtual_undo *u) {
    free_bytes(u->key);
    free_bytes(u->field);
    free_entry(u->before);
}

/* Takes over the entry; copies the names. */
static void note(struct virtual_store *s, enum undo_kind kind, struct mr_bytes key, struct mr_bytes field,
                 struct virtual_entry *before, int64_t expire_ms) {
    if (s->undos == NULL) {
        s->undos = virtual_redis_need(malloc(UNDOS * sizeof *s->undos));
    }
    if (s->undo_count == UNDOS) {
        free_undo(undo_at(s, 0));
        s->undo_first = (s->undo_first + 1) % UNDOS;
        s->undo_count--;
    }
    *undo_at(s, s->undo_count++) =
        (struct virtual_undo){kind, s->write, copy(key), before, copy(field), expire_ms};
}

static void take_back(struct virtual_store *s, struct virtual_undo *u) {
    struct virtual_table *t = &s->keys;
    if (u->kind != UNDO_KEY) {
        struct virtual_entry *key = find(t, u->key);
        MR_ASSERT(key != NULL); /* what came later is taken back already */
        if (u->kind == UNDO_EXPIRE) {
            key->expire_ms = u->expire_ms;
            return;
        }
        t = key->fields;
    }
    free_entry(u->before != NULL ? swap_in(t, u->before)
                                 : take_out(t, u->kind == UNDO_KEY ? u->key : u->field));
    u->before = NULL;
}

uint32_t virtual_store_take_back(struct virtual_store *s, uint32_t writes) {
    uint32_t taken = 0;
    uint64_t write = 0;
    while (s->undo_count > 0) {
        struct virtual_undo *u = undo_at(s, s->undo_count - 1);
        if (u->write != write && taken == writes) {
            break;
        }
        taken += u->write != write;
        write = u->write;
        take_back(s, u);
        free_undo(u);
        s->undo_count--;
    }
    return taken;
}

/* ---- keys ---- */

static void forget_notes(struct virtual_store *s) {
    while (s->undo_count > 0) {
        free_undo(undo_at(s, --s->undo_count));
    }
}

void virtual_store_finish(struct virtual_store *s) {
    empty(&s->keys);
    forget_notes(s);
    free(s->undos);
    *s = (struct virtual_store){0};
}

void virtual_store_begin(struct virtual_store *s) {
    s->write++;
}

struct virtual_entry *virtual_store_find(struct virtual_store *s, struct mr_bytes key, int64_t now_ms) {
    struct virtual_entry *e = find(&s->keys, key);
    if (e != NULL && e->expire_ms != 0 && e->expire_ms <= now_ms) {
        virtual_store_remove(s, key);
        return NULL;
    }
    return e;
}

void virtual_store_set(struct virtual_store *s, struct mr_bytes key, struct mr_bytes value, int64_t expire_ms) {
    struct virtual_entry *e = make(key, value);
    e->expire_ms = expire_ms;
    note(s, UNDO_KEY, key, (struct mr_bytes){0}, swap_in(&s->keys, e), 0);
}

void virtual_store_remove(struct virtual_store *s, struct mr_bytes key) {
    struct virtual_entry *e = take_out(&s->keys, key);
    if (e != NULL) {
        note(s, UNDO_KEY, e->name, (struct mr_bytes){0}, e, 0);
    }
}

void virtual_store_expire(struct virtual_store *s, struct virtual_entry *key, int64_t expire_ms) {
    note(s, UNDO_EXPIRE, key->name, (struct mr_bytes){0}, NULL, key->expire_ms);
    key->expire_ms = expire_ms;
}

struct virtual_entry *virtual_store_field(struct virtual_entry *key, struct mr_bytes field) {
    return key->fields == NULL ? NULL : find(key->fields, field);
}

void virtual_store_set_field(struct virtual_store *s, struct mr_bytes key, struct mr_bytes field,
                             struct mr_bytes value) {
    struct virtual_entry *hash = find(&s->keys, key);
    if (hash == NULL) {
        hash = make(key, (struct mr_bytes){0});
        hash->fields = virtual_redis_need(calloc(1, sizeof *hash->fields));
        note(s, UNDO_KEY, key, (struct mr_bytes){0}, swap_in(&s->keys, hash), 0);
    }
    note(s, UNDO_FIELD, key, field, swap_in(hash->fields, make(field, value)), 0);
}

void virtual_store_remove_field(struct virtual_store *s, struct virtual_entry *key, struct mr_bytes field) {
    struct virtual_entry *e = take_out(key->fields, field);
    if (e != NULL) {
        note(s, UNDO_FIELD, key->name, field, e, 0);
    }
    if (key->fields->count == 0) {
        virtual_store_remove(s, key->name);
    }
}

void virtual_store_clear(struct virtual_store *s) {
    for (uint64_t i = 0; i < s->keys.bucket_count; i++) {
        while (s->keys.buckets[i] != NULL) {
            virtual_store_remove(s, s->keys.buckets[i]->name);
        }
    }
}

void virtual_store_move(struct virtual_store *from, struct virtual_store *to, struct mr_bytes key) {
    struct virtual_entry *e = take_out(&from->keys, key);
    if (e != NULL) {
        free_entry(swap_in(&to->keys, e));
    }
    forget_notes(from); /* they may speak of the key */
    forget_notes(to);
}
