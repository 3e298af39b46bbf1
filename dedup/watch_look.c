/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdio.h>

#define DAY_MS       INT64_C(86400000)
#define PEER_MS      (DAY_MS)     /* a node not seen for so long is no peer */
#define FORGOTTEN_MS (7 * DAY_MS) /* and its fields are deleted */

/* ---- peers ---- */

static bool cut_prefix(struct mr_bytes *name, const char *prefix) {
    size_t len = strlen(prefix);
    if (name->len < len || memcmp(name->ptr, prefix, len) != 0) {
        return false;
    }
    *name = mr_bytes_of(name->ptr + len, name->len - len);
    return true;
}

static struct mr_watch_peer *find_peer(struct mr_watch *w, struct mr_bytes id) {
    for (uint32_t i = 0; i < w->store.peer_count; i++) {
        if (mr_bytes_equal(w->store.peers[i].id, id)) {
            return &w->store.peers[i];
        }
    }
    return NULL;
}

static enum mr_status grow(struct mr_watch_store *s) {
    if (s->peer_count < s->peer_capacity) {
        return MR_OK;
    }
    uint32_t capacity = s->peer_capacity == 0 ? 8 : s->peer_capacity * 2;
    struct mr_watch_peer *peers = mr_realloc(s->peers, capacity * sizeof *peers);
    if (peers == NULL) {
        return MR_NO_MEMORY;
    }
    s->peers = peers;
    s->peer_capacity = capacity;
    return MR_OK;
}

static void remove_peer(struct mr_watch_store *s, struct mr_watch_peer *peer) {
    mr_free((void *)(uintptr_t)peer->id.ptr); /* ours, made below */
    *peer = s->peers[--s->peer_count];
}

/* There is no end of ids in a place where every start makes a new one: who was seen longest ago makes room. */
static void make_room(struct mr_watch_store *s) {
    if (s->peer_count < MR_WATCH_PEERS_MAX) {
        return;
    }
    struct mr_watch_peer *oldest = &s->peers[0];
    for (uint32_t i = 1; i < s->peer_count; i++) {
        oldest = s->peers[i].seen_ms < oldest->seen_ms ? &s->peers[i] : oldest;
    }
    remove_peer(s, oldest);
}

static enum mr_status add_peer(struct mr_watch *w, struct mr_bytes id, int64_t seen_ms) {
    struct mr_watch_store *s = &w->store;
    uint64_t behind_ms = s->newest_ms > seen_ms ? (uint64_t)(s->newest_ms - seen_ms) : 0;
    make_room(s);
    uint8_t *copy = grow(s) == MR_OK ? mr_alloc(id.len + 1) : NULL;
    if (copy == NULL) {
        return MR_NO_MEMORY;
    }
    memcpy(copy, id.ptr, id.len);
    copy[id.len] = '\0';
    s->peers[s->peer_count++] = (struct mr_watch_peer){
        .id = {copy, id.len}, .seen_ms = seen_ms, .unseen_ns = behind_ms * 1000000};
    return MR_OK;
}

static bool is_time(struct mr_bytes value, int64_t *ret) {
    uint64_t number;
    if (!mr_watch_number(value, &number) || number > INT64_MAX) {
        return false;
    }
    *ret = (int64_t)number;
    return true;
}

/* A node found for the first time is as old as it is behind whoever wrote last: not behind our clock, for all may have been
 * without Redis. */
static void take_newest(struct mr_watch_store *s, const struct mr_redis_reply *reply) {
    s->newest_ms = 0;
    for (uint32_t i = 0; i < reply->count; i += 2) {
        struct mr_bytes name = reply->items[i].text;
        int64_t seen_ms;
        if (cut_prefix(&name, "node:") && is_time(reply->items[i + 1].text, &seen_ms) &&
            seen_ms > s->newest_ms) {
            s->newest_ms = seen_ms;
        }
    }
}

static enum mr_status take_peer(struct mr_watch *w, struct mr_bytes id, struct mr_bytes value) {
    struct mr_watch_store *s = &w->store;
    int64_t seen_ms;
    if (mr_bytes_equal(id, w->options.node) || !is_time(value, &seen_ms)) {
        return MR_OK;
    }
    int64_t age_ms = mr_clock_wall_ms(w->options.clock) - seen_ms;
    struct mr_watch_peer *peer = find_peer(w, id);
    if (age_ms > PEER_MS) {
        if (peer != NULL) {
            remove_peer(s, peer);
        }
        if (age_ms > FORGOTTEN_MS && s->forget.len == 0) {
            mr_buf_append_bytes(&s->forget, id); /* one with each look */
        }
        return MR_OK;
    }
    if (peer == NULL) {
        return add_peer(w, id, seen_ms);
    }
    if (peer->seen_ms != seen_ms) { /* whatever its clock says: that it changes means it lives */
        peer->seen_ms = seen_ms;
        peer->unseen_ns = 0;
    }
    return MR_OK;
}

void mr_watch_peers_free(struct mr_watch *w) {
    while (w->store.peer_count > 0) {
        remove_peer(&w->store, &w->store.peers[0]);
    }
    mr_free(w->store.peers);
}

/* ---- what they believe ---- */

static bool names(struct mr_bytes identities, uint64_t identity) {
    char hex[17];
    (void)snprintf(hex, sizeof hex, "%016llx", (unsigned long long)identity);
    while (identities.len > 0) {
        if (mr_bytes_equal(mr_watch_word(&identities), mr_bytes_text(hex))) {
            return true;
        }
    }
    return false;
}

/* "1700000000000 0 0123456789abcdef …": when, how many keys were evicted, and the identities of all servers. */
static bool believes(const struct mr_watch *w, struct mr_bytes good) {
    (void)mr_watch_word(&good);
    (void)mr_watch_word(&good);
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        if (server->suspect && server->slots > 0 &&
            !(server->known && names(good, server->identity))) {
            return false;
        }
    }
    return true;
}

static void take_own_good(struct mr_watch_resume *resume, struct mr_bytes good) {
    uint64_t ms;
    uint64_t evicted;
    if (!mr_watch_number(mr_watch_word(&good), &ms) || ms > INT64_MAX ||
        !mr_watch_number(mr_watch_word(&good), &evicted)) {
        return;
    }
    resume->known = true;
    resume->count = 0;
    resume->good_ms = (int64_t)ms;
    resume->evicted = evicted;
    while (good.len > 0 && resume->count < MR_REDIS_NODES_MAX) {
        struct mr_bytes word = mr_watch_word(&good);
        uint64_t identity = 0;
        for (size_t i = 0; i < word.len; i++) {
            int digit = mr_hex_digit(word.ptr[i]);
            identity = identity << 4 | (uint64_t)(digit < 0 ? 0 : digit);
        }
        resume->identities[resume->count++] = identity;
    }
}

/* ---- the reply ---- */

static int shown(struct mr_bytes text) {
    enum { SHOWN_MAX = 200 };
    return text.len < SHOWN_MAX ? (int)text.len : SHOWN_MAX;
}

/* Somebody must decide which of the two is right; the store's key is the only place that says so. */
static void compare(struct mr_watch *w, const char *what, struct mr_bytes there,
                    struct mr_bytes here) {
    if (mr_bytes_equal(there, here) || w->mismatch[0] != '\0') {
        return;
    }
    (void)snprintf(w->mismatch, sizeof w->mismatch,
                   "%s of the nodes that share %.*s is \"%.*s\", and here \"%.*s\": start this "
                   "node with the same, "
                   "or stop all nodes, delete that key, and start them all with the new one",
                   what, (int)w->store.key.len, (const char *)w->store.key.ptr, shown(there),
                   (const char *)there.ptr, shown(here), (const char *)here.ptr);
}

static enum mr_status take_epoch(struct mr_watch *w, struct mr_bytes value, struct mr_epoch *ret) {
    if (mr_watch_unhex(value, ret)) {
        return MR_OK;
    }
    (void)snprintf(w->store.trouble, sizeof w->store.trouble,
                   "%.*s holds an epoch that is none: delete this key, and all nodes assert their "
                   "claims again",
                   (int)w->store.key.len, (const char *)w->store.key.ptr);
    return MR_CORRUPT;
}

static enum mr_status take_field(struct mr_watch *w, struct mr_bytes name, struct mr_bytes value) {
    struct mr_watch_look *look = &w->store.look;
    static const char *const epochs[] = {"epoch", "recovering", "marked", "ready"};
    struct mr_epoch *const into[] = {&look->epoch, &look->recovering, &look->marked, &look->ready};
    for (size_t i = 0; i < sizeof epochs / sizeof epochs[0]; i++) {
        if (mr_bytes_equal(name, mr_bytes_text(epochs[i]))) {
            return take_epoch(w, value, into[i]);
        }
    }
    if (mr_bytes_equal(name, MR_BYTES("shape"))) {
        look->has_shape = true;
        compare(w, "the shape (streams, layout, horizons)", value, w->options.shape);
    } else if (mr_bytes_equal(name, MR_BYTES("key_hash"))) {
        char hex[17];
        (void)snprintf(hex, sizeof hex, "%016llx", (unsigned long long)w->options.key_hash);
        look->has_key = true;
        compare(w, "the hash of the key", value, mr_bytes_text(hex));
    } else if (mr_bytes_equal(name, w->store.field_asserted)) {
        (void)mr_watch_unhex(value, &look->asserted); /* "-": none */
    } else if (mr_bytes_equal(name, w->store.field_good)) {
        if (!w->store.has_looked) {
            take_own_good(&w->resume, value);
        }
    } else if (cut_prefix(&name, "node:")) {
        return take_peer(w, name, value);
    }
    return MR_OK;
}

/* asserted:<id> and good:<id>, when all ids are known. */
static void take_word_of_peer(struct mr_watch *w, struct mr_bytes name, struct mr_bytes value) {
    bool asserted = cut_prefix(&name, "asserted:");
    if (!asserted && !cut_prefix(&name, "good:")) {
        return;
    }
    struct mr_watch_peer *peer = find_peer(w, name);
    struct mr_epoch epoch;
    if (peer == NULL) {
        return;
    }
    if (asserted) {
        peer->asserted =
            mr_watch_unhex(value, &epoch) && mr_epoch_equal(&epoch, &w->store.look.epoch);
    } else {
        peer->believes = believes(w, value);
    }
}

static bool is_sound(const struct mr_redis_reply *reply) {
    if (reply->type != MR_REDIS_LIST || reply->count % 2 != 0) {
        return false;
    }
    for (uint32_t i = 0; i < reply->count; i++) {
        if (reply->items[i].type != MR_REDIS_TEXT) {
            return false;
        }
    }
    return true;
}

enum mr_status mr_watch_look_read(struct mr_watch *w, const struct mr_redis_reply *reply) {
    struct mr_watch_store *s = &w->store;
    if (!is_sound(reply)) {
        (void)snprintf(s->trouble, sizeof s->trouble,
                       "HGETALL %.*s gave no fields: this Redis cannot be used", (int)s->key.len,
                       (const char *)s->key.ptr);
        return MR_CORRUPT;
    }
    /* A time in which nobody could look says little about who lives: it counts as two checks. */
    uint64_t gap_ns = w->now_ns - s->looked_ns;
    gap_ns = gap_ns < 2 * w->check_ns ? gap_ns : 2 * w->check_ns;
    for (uint32_t i = 0; i < s->peer_count; i++) {
        s->peers[i].unseen_ns += gap_ns;
        s->peers[i].asserted = false;
        s->peers[i].believes = false;
    }
    s->looked_ns = w->now_ns;
    s->first_look_ns = s->has_looked ? s->first_look_ns : w->now_ns;
    s->look = (struct mr_watch_look){0};
    take_newest(s, reply);
    mr_buf_clear(&s->forget);
    for (uint32_t i = 0; i < reply->count; i += 2) {
        enum mr_status status = take_field(w, reply->items[i].text, reply->items[i + 1].text);
        if (status != MR_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < reply->count; i += 2) {
        take_word_of_peer(w, reply->items[i].text, reply->items[i + 1].text);
    }
    s->has_looked = true;
    return MR_OK;
}

/* ---- who is waited for ---- */

const struct mr_watch_peer *mr_watch_awaited(const struct mr_watch *w, bool recovering) {
    uint64_t patience_ns = (uint64_t)w->options.peers_ms * 1000000;
    if (w->now_ns - w->store.first_look_ns < 2 * w->check_ns) {
        patience_ns = UINT64_MAX; /* who lives has had no time to show it */
    }
    for (uint32_t i = 0; i < w->store.peer_count; i++) {
        const struct mr_watch_peer *peer = &w->store.peers[i];
        bool done = recovering ? peer->asserted : peer->believes;
        if (!done && peer->unseen_ns < patience_ns) {
            return peer;
        }
    }
    return NULL;
}

bool mr_watch_has_settled(const struct mr_watch *w) {
    bool recovering = mr_epoch_equal(&w->store.look.recovering, &w->target);
    uint64_t wait_ns =
        2 * w->check_ns; /* who runs, looks twice in that time and says that it is there */
    if (recovering && !w->store.knows_peers) {
        uint64_t peers_ns = (uint64_t)w->options.peers_ms * 1000000;
        wait_ns = peers_ns > wait_ns ? peers_ns : wait_ns;
    }
    return w->now_ns - w->target_ns >= wait_ns;
}
