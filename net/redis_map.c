/* SPDX-License-Identifier: Apache-2.0 */
#include "net/redis_parts.h"

#define READ_EVERY_NS UINT64_C(60000000000)

/* ---- nodes ---- */

/* The lowest that is free; MR_REDIS_NO_NODE when all are taken. */
static uint32_t free_number(const struct mr_redis *r) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (!r->peers[i].used) {
            return i;
        }
    }
    return r->peer_count < MR_REDIS_NODES_MAX ? r->peer_count : MR_REDIS_NO_NODE;
}

uint32_t mr_redis_map_node(struct mr_redis *r, const struct mr_redis_address *address) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct mr_redis_peer *peer = &r->peers[i];
        if (peer->used && mr_redis_address_equal(&peer->link.address, address)) {
            peer->leaving = false;
            return i;
        }
    }
    uint32_t number = free_number(r);
    if (number == MR_REDIS_NO_NODE) {
        return number;
    }
    struct mr_redis_peer *peer = &r->peers[number];
    *peer = (struct mr_redis_peer){.used = true, .link = {.address = *address, .dry = true}};
    mr_redis_address_print(address, peer->text);
    r->peer_count += number == r->peer_count;
    return number;
}

/* Those who serve nothing go, but who was named by an ASK a while ago. */
static void let_go(struct mr_redis *r) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct mr_redis_peer *peer = &r->peers[i];
        peer->leaving = peer->used && peer->slots == 0 && r->now_ns >= peer->keep_until_ns;
    }
}

/* ---- slots ---- */

static void assign(struct mr_redis *r, uint32_t slot, uint8_t node) {
    struct mr_redis_map *map = &r->map;
    uint8_t before = map->slots[slot];
    if (before == node) {
        return;
    }
    if (before != MR_REDIS_SLOT_NOBODY) {
        r->peers[before].slots--;
    }
    if (node != MR_REDIS_SLOT_NOBODY) {
        r->peers[node].slots++;
    }
    map->unserved += (node == MR_REDIS_SLOT_NOBODY) - (before == MR_REDIS_SLOT_NOBODY);
    map->slots[slot] = node;
    map->version++;
}

void mr_redis_map_init(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    memset(map->slots, MR_REDIS_SLOT_NOBODY, sizeof map->slots);
    map->unserved = MR_REDIS_SLOTS;
    map->wanted = true;
    map->scout.dry = true;
    if (!r->options.cluster) {
        uint32_t node = mr_redis_map_node(r, &r->configured[0]);
        for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
            assign(r, slot, (uint8_t)node);
        }
    }
}

void mr_redis_map_moved(struct mr_redis *r, uint32_t node, uint32_t slot,
                        const struct mr_redis_address *address) {
    uint32_t target = mr_redis_map_node(r, address);
    if (target != MR_REDIS_NO_NODE) {
        assign(r, slot, (uint8_t)target);
    }
    if (!r->map.wanted) { /* who says so knows more than others, to whom it may not have got around */
        r->map.wanted = true;
        if (r->map.scout.state == MR_REDIS_LINK_DOWN) {
            r->map.candidate = r->options.address_count + node;
        }
    }
}

/* All or nothing: a reply that is wrong somewhere changes no slot. */
static enum mr_status take_map(struct mr_redis *r, const struct mr_redis_reply *reply,
                               struct mr_error *error) {
    struct mr_redis_map *map = &r->map;
    if (reply->type == MR_REDIS_FAILURE) {
        return mr_error_set(error, MR_IO, "CLUSTER SLOTS: %.*s", (int)(reply->text.len > 200 ? 200 : reply->text.len),
                            (const char *)reply->text.ptr);
    }
    if (reply->type != MR_REDIS_LIST || reply->count == 0) {
        return mr_error_set(error, MR_IO, "CLUSTER SLOTS: it knows of no slots");
    }
    struct mr_redis_range range;
    for (uint32_t i = 0; i < reply->count; i++) {
        enum mr_status status = mr_redis_range_parse(reply, i, map->scout.address.host, &range, error);
        if (status != MR_OK) {
            return status;
        }
    }
    memset(map->fresh, MR_REDIS_SLOT_NOBODY, sizeof map->fresh);
    for (uint32_t i = 0; i < reply->count; i++) {
        enum mr_status status = mr_redis_range_parse(reply, i, map->scout.address.host, &range, error);
        MR_ASSERT(status == MR_OK);
        uint32_t node = mr_redis_map_node(r, &range.master);
        if (node == MR_REDIS_NO_NODE) {
            return mr_error_set(error, MR_LIMIT, "more than %d masters", MR_REDIS_NODES_MAX);
        }
        memset(&map->fresh[range.first], (int)node, range.last - range.first + 1);
    }
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        assign(r, slot, map->fresh[slot]);
    }
    let_go(r);
    return MR_OK;
}

/* ---- the scout ---- */

static uint32_t candidate_count(const struct mr_redis *r) {
    return r->options.address_count + r->peer_count;
}

/* The address of the candidate; NULL: a number that no node has now. */
static const struct mr_redis_address *address_of(const struct mr_redis *r, uint32_t candidate) {
    if (candidate < r->options.address_count) {
        return &r->configured[candidate];
    }
    const struct mr_redis_peer *peer = &r->peers[candidate - r->options.address_count];
    return peer->used ? &peer->link.address : NULL;
}

/* Whether its node could not be reached lately: the scout would only wait there. */
static bool looks_down(const struct mr_redis *r, const struct mr_redis_address *address) {
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct mr_redis_peer *peer = &r->peers[i];
        if (peer->used && mr_redis_address_equal(&peer->link.address, address)) {
            return peer->link.state != MR_REDIS_LINK_UP && peer->link.trouble[0] != '\0';
        }
    }
    return false;
}

/* The configured addresses, then the nodes, then the configured ones again; one that looks down only when all do. */
static void choose(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    uint32_t count = candidate_count(r);
    for (uint32_t i = 0; i < 2 * count; i++, map->candidate++) {
        map->candidate = map->candidate >= count ? 0 : map->candidate;
        const struct mr_redis_address *address = address_of(r, map->candidate);
        if (address != NULL && (i >= count || !looks_down(r, address))) {
            map->scout.address = *address;
            return;
        }
    }
    MR_UNREACHABLE(); /* there is a configured one */
}

static uint64_t read_due_ns(const struct mr_redis *r) {
    const struct mr_redis_map *map = &r->map;
    if (map->read_ns == 0) {
        return 0; /* it has never been read */
    }
    return map->read_ns + (map->wanted ? r->options.retry_min_ns : READ_EVERY_NS);
}

/* The next candidate is asked at once; when all have failed, patience grows. */
static void give_up_on_candidate(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    map->candidate++;
    if (++map->tried < candidate_count(r)) {
        map->scout.retry_at_ns = 0;
        map->scout.delay_ns = 0;
    } else {
        map->tried = 0;
    }
}

static void finish_read(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    mr_redis_connection_close(map->scout.connection);
    map->scout = (struct mr_redis_link){.address = map->scout.address, .dry = true};
    map->tried = 0;
    map->read_ns = r->now_ns;
    r->stats.map_reads++;
}

/* Logged in: asks, and takes the answer. Returns whether the scout is still fine. */
static bool ask(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    if (!map->asked) {
        const struct mr_bytes argv[2] = {MR_BYTES("CLUSTER"), MR_BYTES("SLOTS")};
        enum mr_status status = mr_redis_connection_send(map->scout.connection, argv, 2);
        if (status != MR_OK) {
            mr_redis_link_break(r, &map->scout, "%s", mr_status_text(status));
            return false;
        }
        map->asked = true;
    }
    struct mr_redis_reply reply;
    if (mr_redis_connection_next(map->scout.connection, &reply)) {
        struct mr_error error;
        if (take_map(r, &reply, &error) != MR_OK) {
            mr_redis_link_break(r, &map->scout, "%s", error.text);
            return false;
        }
        finish_read(r);
        return true;
    }
    if (r->now_ns - map->scout.opened_ns >= r->options.timeout_ns) {
        r->stats.timeouts++;
        mr_redis_link_break(r, &map->scout, "CLUSTER SLOTS: no reply within %llu ms",
                            (unsigned long long)(r->options.timeout_ns / 1000000));
        return false;
    }
    return true;
}

bool mr_redis_map_step(struct mr_redis *r) {
    struct mr_redis_map *map = &r->map;
    struct mr_redis_link *scout = &map->scout;
    if (!r->options.cluster) {
        return false;
    }
    if (scout->state == MR_REDIS_LINK_DOWN) {
        if (r->now_ns < read_due_ns(r) || r->now_ns < scout->retry_at_ns) {
            return false;
        }
        choose(r);
        map->wanted = false;
        map->asked = false;
    }
    uint64_t reads = r->stats.map_reads;
    uint64_t failures = r->stats.failures;
    bool moved = mr_redis_link_step(r, scout);
    if (scout->state == MR_REDIS_LINK_UP) {
        (void)ask(r); /* the counters tell */
    }
    if (r->stats.failures != failures) {
        map->wanted = true;
        give_up_on_candidate(r);
    }
    return moved || r->stats.failures != failures || r->stats.map_reads != reads;
}

uint64_t mr_redis_map_due_ns(const struct mr_redis *r) {
    const struct mr_redis_link *scout = &r->map.scout;
    if (!r->options.cluster) {
        return UINT64_MAX;
    }
    if (scout->state != MR_REDIS_LINK_DOWN) {
        return scout->opened_ns + r->options.timeout_ns;
    }
    uint64_t due_ns = read_due_ns(r);
    return due_ns > scout->retry_at_ns ? due_ns : scout->retry_at_ns;
}

void mr_redis_map_check(const struct mr_redis *r) {
    uint32_t slots[MR_REDIS_NODES_MAX] = {0};
    uint32_t unserved = 0;
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        uint8_t node = r->map.slots[slot];
        unserved += node == MR_REDIS_SLOT_NOBODY;
        if (node != MR_REDIS_SLOT_NOBODY) {
            MR_ASSERT(node < r->peer_count && r->peers[node].used);
            slots[node]++;
        }
    }
    MR_ASSERT(unserved == r->map.unserved);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        MR_ASSERT(slots[i] == r->peers[i].slots);
        MR_ASSERT(!r->peers[i].leaving || slots[i] == 0);
    }
}
