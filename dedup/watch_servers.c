/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include "base/check.h"

#include <stdio.h>

/*
 * A slot that goes to another server was migrated, with its keys, or its server failed. It was a migration when the
 * server before still lives, as the same process with the same data, and is a master: then Redis itself moved
 * the keys. That is asked for in a check that begins after the move. In doubt (it is not connected, or the client has
 * forgotten it because it serves nothing any more) it was a failover: asserting recent claims once more does no harm.
 */
void mr_watch_disproved(struct mr_watch *w, struct mr_watch_server *server) {
    server->must_prove = false;
    mr_watch_suspect(w, server->good_ms);
    for (uint32_t i = 0; i < w->server_count; i++) {
        w->servers[i].suspect |= w->servers[i].heir;
        w->servers[i].heir = false;
    }
}

void mr_watch_proved(struct mr_watch *w, struct mr_watch_server *server) {
    server->must_prove = false;
    bool open = false;
    for (uint32_t i = 0; i < w->server_count; i++) {
        open |= w->servers[i].must_prove;
    }
    for (uint32_t i = 0; !open && i < w->server_count; i++) {
        w->servers[i].heir = false;
    }
}

/* The number is nobody's any more, or another server's: its own is gone. */
static void leave(struct mr_watch *w, uint32_t number) {
    struct mr_watch_server *server = &w->servers[number];
    bool served = server->must_prove;
    for (uint32_t t = 0; t < w->canary_count; t++) {
        struct mr_watch_canary *canary = &w->canaries[t];
        if (canary->server == number) {
            canary->server = MR_REDIS_NO_NODE;
            canary->orphan = true;
            served = true;
        }
    }
    if (served) {
        mr_watch_disproved(w, server);
    }
    uint32_t round = server->round.number; /* answers to whoever had this number may still come */
    *server = (struct mr_watch_server){.round = {.number = (round + 1) % MR_WATCH_ROUNDS}};
}

static void follow_session(struct mr_watch *w, struct mr_watch_server *server, uint64_t session) {
    if (server->session == session) {
        return;
    }
    server->session = session;
    server->passed_session = 0;
    server->round.session = 0;
    server->round.number = (server->round.number + 1) % MR_WATCH_ROUNDS;
    server->check_ns = w->now_ns;
}

static void move(struct mr_watch *w, struct mr_watch_canary *canary, uint32_t to) {
    struct mr_watch_server *heir = &w->servers[to];
    if (canary->server != MR_REDIS_NO_NODE) {
        struct mr_watch_server *from = &w->servers[canary->server];
        if (!from->must_prove) {
            from->round.session = 0; /* a check under way may have been answered before the move */
            from->round.number = (from->round.number + 1) % MR_WATCH_ROUNDS;
            from->check_ns = w->now_ns;
            from->must_prove = true;
        }
        heir->heir = true;
    }
    heir->suspect |= canary->orphan;
    canary->orphan = false;
    canary->server = to;
}

static void follow_map(struct mr_watch *w) {
    for (uint32_t t = 0; t < w->canary_count; t++) {
        struct mr_watch_canary *canary = &w->canaries[t];
        uint32_t now = mr_redis_node_of(w->options.redis, canary->slot);
        if (now != MR_REDIS_NO_NODE && now != canary->server) {
            move(w, canary, now);
        }
    }
}

/* What the client says of a number; it may be another server's by now. */
static void follow_server(struct mr_watch *w, uint32_t number) {
    struct mr_watch_server *server = &w->servers[number];
    struct mr_redis_node node;
    mr_redis_node(w->options.redis, number, &node);
    if (strcmp(server->address, node.address) != 0) {
        if (server->address[0] != '\0') {
            leave(w, number);
        }
        (void)snprintf(server->address, sizeof server->address, "%s", node.address); /* it fits */
        w->map_known = false;
    }
    server->slots = node.slots;
    follow_session(w, server, node.session);
}

void mr_watch_follow(struct mr_watch *w) {
    struct mr_redis *redis = w->options.redis;
    uint32_t count = mr_redis_nodes(redis);
    MR_ASSERT(count <= MR_REDIS_NODES_MAX);
    w->server_count = count > w->server_count ? count : w->server_count;
    for (uint32_t i = 0; i < count; i++) {
        follow_server(w, i);
    }
    uint64_t version = mr_redis_map_version(redis);
    if (!w->map_known || version != w->map_version) {
        follow_map(w);
        w->map_known = true;
        w->map_version = version;
    }
    for (uint32_t i = 0; i < w->server_count;
         i++) { /* one that slots went from, now or a while ago */
        if (w->servers[i].must_prove && w->servers[i].session == 0) {
            mr_watch_disproved(w, &w->servers[i]);
        }
    }
}
