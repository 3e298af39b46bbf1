/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to the servers: by a test's hand, or at random. */
#include "tests/redis/virtual_parts.h"

static struct virtual_server *at(struct virtual_redis *v, uint32_t server) {
    MR_ASSERT(server < v->server_count);
    return &v->servers[server];
}

void virtual_redis_set_delay(struct virtual_redis *v, uint32_t server, uint64_t min_ns, uint64_t max_ns) {
    MR_ASSERT(min_ns <= max_ns);
    at(v, server)->delay_min_ns = min_ns;
    at(v, server)->delay_max_ns = max_ns;
}

void virtual_redis_cut_before(struct virtual_redis *v, uint32_t server, uint32_t nth) {
    at(v, server)->cut_before = nth;
}

void virtual_redis_cut_after(struct virtual_redis *v, uint32_t server, uint32_t nth) {
    at(v, server)->cut_after = nth;
}

static void break_all(struct virtual_redis *v, uint32_t server, const char *why) {
    for (struct virtual_connection *c = v->connections; c != NULL; c = c->next) {
        if (c->server == server) {
            virtual_redis_break(c, why);
        }
    }
}

void virtual_redis_cut_all(struct virtual_redis *v, uint32_t server) {
    break_all(v, server, "the connection was reset");
}

void virtual_redis_answer(struct virtual_redis *v, uint32_t server, const char *failure, uint32_t n) {
    at(v, server)->failure = failure;
    at(v, server)->failures = n;
}

void virtual_redis_hang(struct virtual_redis *v, uint32_t server, bool on) {
    struct virtual_server *s = at(v, server);
    s->awake_ns = s->hangs && !on ? mr_clock_mono_ns(v->options.clock) : s->awake_ns;
    s->hangs = on;
}

/* ---- data that goes ---- */

void virtual_redis_down(struct virtual_redis *v, uint32_t server) {
    at(v, server)->up = false;
    break_all(v, server, "the server went down");
}

static void start_again(struct virtual_redis *v, struct virtual_server *s) {
    s->up = true;
    s->hangs = false;
    s->loaded_count = 0;
    s->failures = 0;
    virtual_redis_new_id(v, s->run_id);
}

void virtual_redis_up(struct virtual_redis *v, uint32_t server, enum virtual_redis_data data) {
    struct virtual_server *s = at(v, server);
    MR_ASSERT(!s->up);
    if (data == VIRTUAL_REDIS_EMPTY) {
        v->probes[VIRTUAL_REDIS_PROBE_DATA_LOST] += s->store.keys.count > 0;
        virtual_store_finish(&s->store);
        virtual_redis_new_id(v, s->replication_id);
    }
    start_again(v, s);
}

bool virtual_redis_is_up(const struct virtual_redis *v, uint32_t server) {
    return v->servers[server].up;
}

static void lose(struct virtual_redis *v, struct virtual_server *s, uint32_t writes) {
    v->probes[VIRTUAL_REDIS_PROBE_WRITE_LOST] += virtual_store_take_back(&s->store, writes);
}

void virtual_redis_fail_over(struct virtual_redis *v, uint32_t server, uint32_t lost_writes) {
    struct virtual_server *s = at(v, server);
    break_all(v, server, "the server failed over");
    lose(v, s, lost_writes);
    virtual_redis_new_id(v, s->replication_id);
    start_again(v, s);
}

void virtual_redis_take_over(struct virtual_redis *v, uint32_t from, uint32_t to, uint32_t lost_writes) {
    struct virtual_server *old = at(v, from);
    struct virtual_server *new = at(v, to);
    MR_ASSERT(from != to && new->up);
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) { /* or its own data would go */
        MR_ASSERT(v->slot_server[slot] != to && v->slot_to[slot] != to);
    }
    virtual_store_finish(&new->store);
    new->store = old->store;
    old->store = (struct virtual_store){0};
    lose(v, new, lost_writes);
    virtual_redis_new_id(v, new->replication_id);
    new->is_replica = false;
    old->is_replica = true;
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        if (v->slot_server[slot] == from) {
            v->slot_server[slot] = (uint8_t)to;
        }
        if (v->slot_to[slot] == from) {
            v->slot_to[slot] = (uint8_t)to;
        }
    }
}

void virtual_redis_flush(struct virtual_redis *v, uint32_t server) {
    virtual_store_clear(&at(v, server)->store);
}

/* ---- keys at random ---- */

struct choice {
    struct virtual_entry *entry;
    uint64_t skip;
    uint32_t slot;
    bool any_slot;
};

static bool choose(void *ctx, struct virtual_entry *entry) {
    struct choice *choice = ctx;
    if (!choice->any_slot && mr_redis_slot(entry->name) != choice->slot) {
        return true;
    }
    choice->entry = entry;
    return choice->skip-- > 0;
}

void virtual_redis_evict(struct virtual_redis *v, uint32_t server, uint32_t n) {
    struct virtual_server *s = at(v, server);
    for (; n > 0 && s->store.keys.count > 0; n--) {
        struct choice choice = {.skip = virtual_redis_below(v, s->store.keys.count), .any_slot = true};
        virtual_table_each(&s->store.keys, choose, &choice);
        virtual_store_begin(&s->store);
        virtual_store_remove(&s->store, choice.entry->name);
        s->evicted++;
        v->probes[VIRTUAL_REDIS_PROBE_EVICTED]++;
    }
}

/* ---- slots that move ---- */

void virtual_redis_migrate_begin(struct virtual_redis *v, uint32_t slot, uint32_t to) {
    MR_ASSERT(slot < MR_REDIS_SLOTS && v->options.masters > 0 && v->slot_server[slot] != to);
    at(v, to)->is_replica = false;
    v->slot_to[slot] = (uint8_t)to;
}

uint32_t virtual_redis_migrate_keys(struct virtual_redis *v, uint32_t slot, uint32_t n) {
    MR_ASSERT(v->slot_to[slot] != VIRTUAL_SLOT_STAYS);
    struct virtual_store *from = &v->servers[v->slot_server[slot]].store;
    struct virtual_store *to = &v->servers[v->slot_to[slot]].store;
    uint32_t moved = 0;
    for (; moved < n; moved++) {
        struct choice choice = {.slot = slot};
        virtual_table_each(&from->keys, choose, &choice);
        if (choice.entry == NULL) {
            break;
        }
        virtual_store_move(from, to, choice.entry->name);
    }
    return moved;
}

void virtual_redis_migrate_end(struct virtual_redis *v, uint32_t slot) {
    uint8_t to = v->slot_to[slot];
    if (to != VIRTUAL_SLOT_STAYS && to != v->slot_server[slot]) {
        (void)virtual_redis_migrate_keys(v, slot, UINT32_MAX);
        v->slot_server[slot] = to;
    }
    v->slot_to[slot] = VIRTUAL_SLOT_STAYS;
}

uint32_t virtual_redis_master_of(const struct virtual_redis *v, uint32_t slot) {
    return v->slot_server[slot];
}

/* ---- at random ---- */

static uint32_t below32(struct virtual_redis *v, uint32_t bound) {
    return (uint32_t)virtual_redis_below(v, bound);
}

static void order_failure(struct virtual_redis *v, uint32_t server) {
    static const char *const failures[] = {
        "OOM command not allowed when used memory > 'maxmemory'.",
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    };
    uint32_t count = sizeof failures / sizeof failures[0];
    virtual_redis_answer(v, server, failures[below32(v, count)], 1 + below32(v, 20));
}

static void slots_fault(struct virtual_redis *v) {
    uint32_t slot = below32(v, MR_REDIS_SLOTS);
    struct virtual_server *s = &v->servers[v->slot_server[slot]];
    struct choice choice = {.skip = s->store.keys.count == 0 ? 0 : virtual_redis_below(v, s->store.keys.count),
                            .any_slot = true};
    virtual_table_each(&s->store.keys, choose, &choice); /* where nothing is, nothing happens */
    if (choice.entry != NULL) {
        slot = mr_redis_slot(choice.entry->name);
    }
    if (v->slot_to[slot] == VIRTUAL_SLOT_STAYS) {
        uint32_t to = below32(v, v->server_count);
        if (to != v->slot_server[slot]) {
            virtual_redis_migrate_begin(v, slot, to);
        }
    } else if (virtual_redis_below(v, 2) == 0) {
        (void)virtual_redis_migrate_keys(v, slot, 1 + below32(v, 4));
    } else {
        virtual_redis_migrate_end(v, slot);
    }
}

static void take_over_at_random(struct virtual_redis *v, uint32_t from, bool harmless) {
    uint32_t to = below32(v, v->server_count);
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        slots += v->slot_server[slot] == to || v->slot_to[slot] == to;
    }
    if (slots == 0 && to != from && v->servers[to].up) {
        virtual_redis_take_over(v, from, to, harmless ? 0 : below32(v, 10));
    }
}

static void losing_fault(struct virtual_redis *v, uint32_t server) {
    switch (virtual_redis_below(v, 4)) {
    case 0:
        virtual_redis_flush(v, server);
        break;
    case 1:
        virtual_redis_evict(v, server, 1 + below32(v, 10));
        break;
    case 2:
        if (v->servers[server].up) {
            virtual_redis_down(v, server);
        }
        virtual_redis_up(v, server, VIRTUAL_REDIS_EMPTY);
        break;
    default:
        virtual_redis_fail_over(v, server, below32(v, 10));
        break;
    }
}

void virtual_redis_fault(struct virtual_redis *v, bool harmless) {
    uint32_t server = below32(v, v->server_count);
    struct virtual_server *s = &v->servers[server];
    uint64_t delay_ns;
    switch (virtual_redis_below(v, harmless ? 8 : 9)) {
    case 0:
        delay_ns = virtual_redis_below(v, 50000000);
        virtual_redis_set_delay(v, server, delay_ns / 10, delay_ns);
        break;
    case 1:
        virtual_redis_cut_before(v, server, 1 + below32(v, 20));
        break;
    case 2:
        virtual_redis_cut_after(v, server, 1 + below32(v, 20));
        break;
    case 3:
        virtual_redis_cut_all(v, server);
        break;
    case 4:
        order_failure(v, server);
        break;
    case 5:
        virtual_redis_hang(v, server, !s->hangs);
        break;
    case 6:
        if (s->up) {
            virtual_redis_down(v, server);
        } else {
            virtual_redis_up(v, server, VIRTUAL_REDIS_KEPT);
        }
        break;
    case 7:
        if (v->options.masters > 0 && virtual_redis_below(v, 4) == 0) {
            take_over_at_random(v, server, harmless);
        } else if (v->options.masters > 0) {
            slots_fault(v);
        }
        break;
    default:
        losing_fault(v, server);
        break;
    }
}

void virtual_redis_heal(struct virtual_redis *v) {
    for (uint32_t i = 0; i < v->server_count; i++) {
        struct virtual_server *s = &v->servers[i];
        if (!s->up) {
            virtual_redis_up(v, i, VIRTUAL_REDIS_KEPT);
        }
        virtual_redis_hang(v, i, false);
        s->cut_before = 0;
        s->cut_after = 0;
        s->failures = 0;
        s->delay_min_ns = 0;
        s->delay_max_ns = 0;
    }
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS && v->options.masters > 0; slot++) {
        virtual_redis_migrate_end(v, slot);
    }
}
