/* SPDX-License-Identifier: Apache-2.0 */
#include "net/redis.h"

#include "base/alloc.h"
#include "net/redis_parts.h"

enum { STRINGS_CHUNK = 1024, STRINGS_CHUNK_MAX = 64 << 10 };

/* ---- opening ---- */

/* Anything else Redis refuses as a connection's name. */
static bool is_name(struct mr_bytes name) {
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '!' || name.ptr[i] > '~') {
            return false;
        }
    }
    return true;
}

static enum mr_status check_options(const struct mr_redis_options *o, struct mr_error *error) {
    MR_ASSERT(o->transport != NULL && o->clock != NULL);
    if (o->address_count == 0 || (!o->cluster && o->address_count != 1)) {
        return mr_error_set(error, MR_INVALID, o->cluster ? "a cluster needs at least one address"
                                                          : "a single server has exactly one address");
    }
    if (o->user.len > 0 && o->password.len == 0) {
        return mr_error_set(error, MR_INVALID, "a user needs a password");
    }
    if (!is_name(o->name)) {
        return mr_error_set(error, MR_INVALID, "the connection's name has a space or a strange character");
    }
    if (o->timeout_ns == 0 || o->retry_min_ns == 0 || o->retry_max_ns < o->retry_min_ns || o->bytes_max == 0) {
        return mr_error_set(error, MR_INVALID, "timeout, retry and bytes are positive, and retry_min is the lesser");
    }
    return MR_OK;
}

static enum mr_status copy_text(struct mr_redis *r, struct mr_bytes *text) {
    if (text->len == 0) {
        *text = (struct mr_bytes){0};
        return MR_OK;
    }
    *text = mr_arena_copy(&r->strings, *text);
    return text->ptr == NULL ? MR_NO_MEMORY : MR_OK;
}

static enum mr_status copy_options(struct mr_redis *r, struct mr_error *error) {
    struct mr_redis_options *o = &r->options;
    r->configured = mr_arena_alloc(&r->strings, o->address_count * sizeof *r->configured);
    if (r->configured == NULL || copy_text(r, &o->user) != MR_OK || copy_text(r, &o->password) != MR_OK ||
        copy_text(r, &o->name) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    for (uint32_t i = 0; i < o->address_count; i++) {
        enum mr_status status = mr_redis_address_parse(o->addresses[i], r->configured[i].host,
                                                       &r->configured[i].port, error);
        if (status != MR_OK) {
            return status;
        }
    }
    o->addresses = NULL; /* the caller's */
    return MR_OK;
}

enum mr_status mr_redis_open(const struct mr_redis_options *options, struct mr_redis **ret,
                             struct mr_error *error) {
    enum mr_status status = check_options(options, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_redis *r = mr_alloc_zero(1, sizeof *r);
    if (r == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    r->options = *options;
    r->random = options->seed;
    mr_arena_init(&r->strings, STRINGS_CHUNK, STRINGS_CHUNK_MAX);
    status = copy_options(r, error);
    if (status != MR_OK) {
        mr_redis_close(r);
        return status;
    }
    r->now_ns = mr_clock_mono_ns(options->clock);
    mr_redis_map_init(r);
    *ret = r;
    return MR_OK;
}

void mr_redis_close(struct mr_redis *r) {
    if (r == NULL) {
        return;
    }
    for (uint32_t i = 0; i < r->peer_count; i++) {
        mr_redis_peer_forget(&r->peers[i]);
    }
    mr_redis_connection_close(r->map.scout.connection);
    mr_arena_finish(&r->strings);
    mr_free(r);
}

/* ---- stepping ---- */

bool mr_redis_step(struct mr_redis *r) {
    r->now_ns = mr_clock_mono_ns(r->options.clock);
    bool moved = mr_redis_map_step(r);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        moved |= mr_redis_peer_step(r, &r->peers[i]);
    }
    return moved;
}

void mr_redis_wait(struct mr_redis *r, uint64_t timeout_ns) {
    uint64_t due_ns = mr_redis_map_due_ns(r);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        uint64_t peer_ns = mr_redis_peer_due_ns(r, &r->peers[i]);
        due_ns = peer_ns < due_ns ? peer_ns : due_ns;
    }
    uint64_t now_ns = mr_clock_mono_ns(r->options.clock);
    if (due_ns <= now_ns) {
        return;
    }
    uint64_t left_ns = due_ns - now_ns;
    mr_redis_transport_wait(r->options.transport, left_ns < timeout_ns ? left_ns : timeout_ns);
}

/* ---- commands and answers ---- */

enum mr_status mr_redis_send(struct mr_redis *r, uint32_t node, const struct mr_redis_command *command) {
    return node < r->peer_count ? mr_redis_peer_send(r, &r->peers[node], command) : MR_AGAIN;
}

bool mr_redis_next(struct mr_redis *r, struct mr_redis_answer *ret) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        uint32_t node = r->turn + i < r->peer_count ? r->turn + i : r->turn + i - r->peer_count;
        if (mr_redis_peer_next(r, node, ret)) {
            r->turn = node;
            return true;
        }
    }
    return false;
}

/* ---- questions ---- */

uint32_t mr_redis_nodes(const struct mr_redis *r) {
    return r->peer_count;
}

void mr_redis_node(const struct mr_redis *r, uint32_t node, struct mr_redis_node *ret) {
    MR_ASSERT(node < r->peer_count);
    const struct mr_redis_peer *peer = &r->peers[node];
    *ret = (struct mr_redis_node){
        .address = peer->text,
        .session = peer->link.session,
        .unanswered_bytes = peer->unanswered_bytes,
        .unanswered = peer->tags.count,
        .slots = peer->slots,
        .trouble = peer->link.trouble,
    };
}

bool mr_redis_is_up(const struct mr_redis *r) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].slots > 0 && r->peers[i].link.state != MR_REDIS_LINK_UP) {
            return false;
        }
    }
    return r->map.unserved == 0;
}

uint32_t mr_redis_node_of(const struct mr_redis *r, uint32_t slot) {
    MR_ASSERT(slot < MR_REDIS_SLOTS);
    uint8_t node = r->map.slots[slot];
    return node == MR_REDIS_SLOT_NOBODY ? MR_REDIS_NO_NODE : node;
}

uint64_t mr_redis_map_version(const struct mr_redis *r) {
    return r->map.version;
}

const char *mr_redis_map_trouble(const struct mr_redis *r) {
    return r->map.scout.trouble;
}

void mr_redis_stats(const struct mr_redis *r, struct mr_redis_stats *ret) {
    *ret = r->stats;
}

void mr_redis_check(const struct mr_redis *r) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        mr_redis_peer_check(r, &r->peers[i]);
    }
    mr_redis_map_check(r);
    MR_ASSERT(r->options.cluster || r->peer_count == 1);
}
