/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_faults.h"

#include "base/check.h"
#include "net/redis.h"
#include "tests/redis/virtual_parts.h" /* the policy, and whose the slots are */
#include "tests/sim/cluster_clients.h"
#include "tests/sim/cluster_life.h"

enum { WRITES = 1u << VIRTUAL_DISK_WRITE | 1u << VIRTUAL_DISK_ALLOCATE | 1u << VIRTUAL_DISK_SYNC };

#define SECOND_NS UINT64_C(1000000000)

static uint64_t later(struct cluster_world *w, uint64_t min_ms, uint64_t max_ms) {
    return w->clock.mono_ns + (min_ms + sim_below(&w->random, max_ms - min_ms)) * 1000000;
}

/* ---- nodes ---- */

static struct cluster_node *choose_node(struct cluster_world *w) {
    return &w->nodes[sim_below(&w->random, w->settings.nodes)];
}

static void crash(struct cluster_world *w, struct cluster_node *node, enum cluster_fault fault) {
    struct sim_random *r = &w->random;
    struct cluster_crash how = {.power = sim_one_in(r, 2)};
    switch (fault) {
    case CLUSTER_PROCESS_CRASH:
        how.power = false;
        break;
    case CLUSTER_POWER_LOST:
        how.power = true;
        break;
    case CLUSTER_CRASH_IN_RECOVERY:
        how.cut_nth = 1 + sim_below(r, 40);
        break;
    case CLUSTER_NODE_AWAY: /* sometimes longer than the others wait for it */
        how.away_ns = (1 + sim_below(r, sim_one_in(r, 4) ? 150 : 10)) * SECOND_NS;
        break;
    default:
        MR_UNREACHABLE();
    }
    cluster_hit(w, (enum cluster_probe)fault);
    cluster_life_crash(node, &how);
}

static void checkpoint_is_done(struct mr_ask *ask, void *ctx) {
    struct cluster_node *node = ctx;
    node->checkpoint_asked = false;
    node->world->probes[CLUSTER_PROBE_CHECKPOINT] += !ask->closed && ask->status == MR_OK;
}

static void ask_for_checkpoint(struct cluster_node *node) {
    if (node->checkpoint_asked || !mr_pipeline_live(node->pipeline)) {
        return;
    }
    node->checkpoint = (struct mr_ask){.kind = MR_ASK_CHECKPOINT, .done = checkpoint_is_done, .ctx = node};
    node->checkpoint_asked = mr_pipeline_checkpoint(node->pipeline, &node->checkpoint);
}

static void stop_station(struct cluster_world *w, const struct cluster_node *node) {
    w->stopped_node = node->index;
    w->stopped_station = (uint32_t)sim_below(&w->random, mr_pipeline_stations(node->pipeline));
    w->stopped_until = w->step + 100 + sim_below(&w->random, 2000);
    cluster_hit(w, CLUSTER_PROBE_STATION_STOPPED);
}

static void fail_disk(struct cluster_world *w, struct cluster_node *node) {
    static const enum mr_status statuses[] = {MR_IO, MR_IO, MR_NO_SPACE};
    virtual_disk_fail(node->disk, 1 + sim_below(&w->random, 4), WRITES, VIRTUAL_DISK_ONCE,
                      statuses[sim_below(&w->random, 3)]);
    node->disk_failed = true;
}

static void fill_disk(struct cluster_world *w, struct cluster_node *node) {
    uint64_t room = sim_below(&w->random, 2 * w->settings.segment_bytes);
    virtual_disk_set_capacity(node->disk, virtual_disk_used(node->disk) + room);
    node->full_until_ns = later(w, 500, 20000);
}

static void inject_node(struct cluster_world *w, enum cluster_fault fault) {
    struct cluster_node *node = choose_node(w);
    if (node->pipeline == NULL) {
        return;
    }
    switch (fault) {
    case CLUSTER_POWER_CUT:
        virtual_disk_cut_power(node->disk, 1 + sim_below(&w->random, 10));
        break;
    case CLUSTER_QUIET_RESTART:
        cluster_life_restart_quietly(node);
        break;
    case CLUSTER_CHECKPOINT:
        ask_for_checkpoint(node);
        break;
    case CLUSTER_STATION_STOPPED:
        stop_station(w, node);
        break;
    case CLUSTER_DISK_FULL:
        fill_disk(w, node);
        break;
    case CLUSTER_DISK_FAILED:
        fail_disk(w, node);
        break;
    case CLUSTER_NO_MEMORY:
        node->no_memory_steps = 1 + (uint32_t)sim_below(&w->random, 20);
        break;
    default:
        crash(w, node, fault);
        break;
    }
}

/* ---- Redis ---- */

static uint32_t choose_server(struct cluster_world *w) {
    return (uint32_t)sim_below(&w->random, w->settings.servers);
}

static void take_down(struct cluster_world *w, uint32_t server, uint64_t until_ns) {
    if (virtual_redis_is_up(w->redis, server)) {
        virtual_redis_down(w->redis, server);
    }
    w->down_until_ns[server] = until_ns;
}

static void take_all_down(struct cluster_world *w, uint64_t until_ns) {
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        take_down(w, i, until_ns);
    }
    cluster_hit(w, CLUSTER_PROBE_REDIS_OUTAGE);
}

static void refuse(struct cluster_world *w, uint32_t server) {
    static const char *const failures[] = {
        "OOM command not allowed when used memory > 'maxmemory'.",
        "LOADING Redis is loading the dataset in memory",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    };
    uint64_t which = sim_below(&w->random, sizeof failures / sizeof *failures);
    virtual_redis_answer(w->redis, server, failures[which], 1 + (uint32_t)sim_below(&w->random, 30));
}

static void set_policy(struct cluster_world *w, const char *policy) {
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        struct virtual_server *s = &w->redis->servers[i];
        (void)snprintf(s->policy, sizeof s->policy, "%s", policy); /* fits */
    }
}

/* The slot of a bucket's canary, where there is something to move, or any. */
static void move_slot(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    if (w->slot_until_ns != 0) {
        return;
    }
    char tag[32];
    (void)snprintf(tag, sizeof tag, "c/s0/%u", (unsigned)sim_below(r, 256)); /* fits */
    w->slot = sim_one_in(r, 4) ? (uint32_t)sim_below(r, MR_REDIS_SLOTS) : mr_redis_slot(mr_bytes_text(tag));
    uint32_t to = choose_server(w);
    if (to != virtual_redis_master_of(w->redis, w->slot)) {
        virtual_redis_migrate_begin(w->redis, w->slot, to);
        w->slot_until_ns = later(w, 100, 10000);
        cluster_hit(w, CLUSTER_PROBE_REDIS_SLOTS);
    }
}

static bool serves(const struct cluster_world *w, uint32_t server) {
    bool any = false;
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS && !any; slot++) {
        any = w->redis->slot_server[slot] == server || w->redis->slot_to[slot] == server;
    }
    return any;
}

/* false: there is no replica to take over. */
static bool take_over(struct cluster_world *w, uint32_t lost_writes) {
    uint32_t to = 0;
    while (to < w->settings.servers && (serves(w, to) || !virtual_redis_is_up(w->redis, to))) {
        to++;
    }
    uint32_t from = choose_server(w);
    if (to == w->settings.servers || from == to || !serves(w, from)) {
        return false;
    }
    virtual_redis_take_over(w->redis, from, to, lost_writes);
    return true;
}

static void inject_redis(struct cluster_world *w, enum cluster_fault fault) {
    struct sim_random *r = &w->random;
    uint32_t server = choose_server(w);
    uint64_t delay_ns = sim_below(r, (uint64_t)w->settings.timeout_ms) * 500000;
    switch (fault) {
    case CLUSTER_REDIS_SLOW:
        virtual_redis_set_delay(w->redis, server, delay_ns / 10, delay_ns);
        w->slow_until_ns = later(w, 100, 20000);
        cluster_hit(w, CLUSTER_PROBE_REDIS_SLOW);
        break;
    case CLUSTER_REDIS_CUT:
        (sim_one_in(r, 2) ? virtual_redis_cut_before : virtual_redis_cut_after)(w->redis, server,
                                                                                1 + (uint32_t)sim_below(r, 30));
        break;
    case CLUSTER_REDIS_HANGS:
        virtual_redis_hang(w->redis, server, true);
        w->hangs_until_ns[server] = later(w, 10, sim_one_in(r, 2) ? 1000 : 15000);
        cluster_hit(w, CLUSTER_PROBE_REDIS_HANGS);
        break;
    case CLUSTER_REDIS_RESTARTED:
        take_down(w, server, later(w, 1, 2000));
        cluster_hit(w, CLUSTER_PROBE_REDIS_RESTARTED);
        break;
    case CLUSTER_REDIS_REFUSES:
        refuse(w, server);
        break;
    case CLUSTER_REDIS_OUTAGE:
        take_all_down(w, later(w, 2000, sim_one_in(r, 4) ? 90000 : 10000));
        break;
    case CLUSTER_REDIS_POLICY:
        set_policy(w, "allkeys-lru");
        w->policy_until_ns = later(w, 10, 10000);
        cluster_hit(w, CLUSTER_PROBE_REDIS_POLICY);
        break;
    case CLUSTER_REDIS_SLOTS:
        move_slot(w);
        break;
    case CLUSTER_REDIS_MOVED:
        w->probes[CLUSTER_PROBE_REDIS_MOVED] += take_over(w, 0);
        break;
    default:
        MR_UNREACHABLE();
    }
}

/* ---- losses ---- */

static void lose_all(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    bool empty = sim_one_in(r, 2);
    bool one = sim_one_in(r, 2);
    uint32_t only = choose_server(w);
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        if (one && i != only) {
            continue;
        }
        if (!empty || w->down_until_ns[i] != 0) {
            virtual_redis_flush(w->redis, i);
            continue;
        }
        virtual_redis_down(w->redis, i);
        virtual_redis_up(w->redis, i, VIRTUAL_REDIS_EMPTY);
    }
    w->lost_ns = w->clock.mono_ns;
}

static bool lose_writes(struct cluster_world *w) {
    uint32_t writes = 1 + (uint32_t)sim_below(&w->random, 40);
    if (w->settings.masters > 0 && sim_one_in(&w->random, 2)) {
        return take_over(w, writes);
    }
    uint32_t server = choose_server(w);
    if (!virtual_redis_is_up(w->redis, server)) {
        return false;
    }
    virtual_redis_fail_over(w->redis, server, writes);
    return true;
}

/* Sometimes the policy is set back before anybody has seen it. */
static void lose_keys(struct cluster_world *w) {
    if (sim_one_in(&w->random, 2)) {
        set_policy(w, "allkeys-lru");
        w->policy_until_ns = later(w, 10, 5000);
    }
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        virtual_redis_evict(w->redis, i, 1 + (uint32_t)sim_below(&w->random, 400));
    }
}

/* A loss hurts most where claims are half decided, or decided and not yet in the log. false: nobody claims anything now. */
static bool prepare_loss(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    struct cluster_node *node = choose_node(w);
    if (node->pipeline == NULL || !mr_pipeline_live(node->pipeline) || !cluster_life_is_strict(node)) {
        return false;
    }
    cluster_clients_burst(w, node->index, (uint32_t)sim_below(r, 5), later(w, 3000, 15000));
    uint32_t claimer = mr_pipeline_stations(node->pipeline) - 1;
    (void)cluster_life_run(node, 0);
    for (uint64_t n = sim_below(r, 30); n > 0; n--) {
        (void)cluster_life_run(node, claimer);
        cluster_world_pass_time(w, sim_below(r, 3));
    }
    w->stopped_node = node->index;
    w->stopped_station = sim_one_in(r, 4) ? claimer : 0;
    w->stopped_until = w->step + sim_below(r, 80000 / w->settings.pace_ms); /* a recovery takes 5 s or more */
    return true;
}

static void inject_loss(struct cluster_world *w, enum cluster_fault fault) {
    if (w->losses == w->settings.losses) {
        return;
    }
    bool lost = true;
    if (!prepare_loss(w) && !sim_one_in(&w->random, 4)) {
        return;
    }
    if (fault == CLUSTER_LOST_ALL) {
        lose_all(w);
    } else if (fault == CLUSTER_LOST_WRITES) {
        lost = lose_writes(w);
    } else {
        lose_keys(w);
    }
    w->losses += lost;
    w->probes[fault] += lost;
}

/* ---- all ---- */

void cluster_faults_inject(struct cluster_world *w) {
    enum cluster_fault fault = cluster_settings_fault(&w->settings, &w->random);
    if (fault != CLUSTER_FAULT_COUNT && fault != CLUSTER_ANSWER_LOST) {
        cluster_say(w, CLUSTER_NODES_MAX, cluster_probe_name((enum cluster_probe)fault), 0);
    }
    switch (fault) {
    case CLUSTER_FAULT_COUNT:
    case CLUSTER_ANSWER_LOST:
        break; /* the seed has none, or it is the clients' own */
    case CLUSTER_TIME:
        cluster_world_pass_time(w, sim_below(&w->random, 10000));
        cluster_hit(w, CLUSTER_PROBE_TIME);
        break;
    case CLUSTER_BURST:
        cluster_clients_burst(w, choose_node(w)->index, 0, 0);
        break;
    case CLUSTER_LOST_ALL:
    case CLUSTER_LOST_WRITES:
    case CLUSTER_LOST_KEYS:
        inject_loss(w, fault);
        break;
    default:
        if (fault >= CLUSTER_REDIS_SLOW) {
            inject_redis(w, fault);
        } else {
            inject_node(w, fault);
        }
        break;
    }
}

static bool is_over(const struct cluster_world *w, uint64_t *until_ns) {
    bool over = *until_ns != 0 && w->clock.mono_ns >= *until_ns;
    *until_ns = over ? 0 : *until_ns;
    return over;
}

static void pass_redis(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        if (is_over(w, &w->down_until_ns[i])) {
            virtual_redis_up(w->redis, i, VIRTUAL_REDIS_KEPT);
        }
        if (is_over(w, &w->hangs_until_ns[i])) {
            virtual_redis_hang(w->redis, i, false);
        }
    }
    if (is_over(w, &w->slow_until_ns)) {
        for (uint32_t i = 0; i < w->settings.servers; i++) {
            virtual_redis_set_delay(w->redis, i, 0, 0);
        }
    }
    if (is_over(w, &w->policy_until_ns)) {
        set_policy(w, "noeviction");
    }
    if (is_over(w, &w->slot_until_ns)) {
        virtual_redis_migrate_end(w->redis, w->slot);
    } else if (w->slot_until_ns != 0 && sim_one_in(&w->random, 100)) {
        (void)virtual_redis_migrate_keys(w->redis, w->slot, 1);
    }
}

void cluster_faults_pass(struct cluster_world *w) {
    pass_redis(w);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        if (is_over(w, &w->nodes[i].full_until_ns)) {
            virtual_disk_set_capacity(w->nodes[i].disk, 0);
        }
    }
}

void cluster_faults_clear_node(struct cluster_node *node) {
    virtual_disk_fail(node->disk, 0, 0, VIRTUAL_DISK_ONCE, MR_IO);
    virtual_disk_cut_power(node->disk, 0);
    virtual_disk_set_capacity(node->disk, 0);
    node->full_until_ns = 0;
    node->no_memory_steps = 0;
}

void cluster_faults_clear(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        cluster_faults_clear_node(&w->nodes[i]);
    }
    virtual_redis_heal(w->redis);
    set_policy(w, "noeviction");
    memset(w->down_until_ns, 0, sizeof w->down_until_ns);
    memset(w->hangs_until_ns, 0, sizeof w->hangs_until_ns);
    w->slow_until_ns = 0;
    w->policy_until_ns = 0;
    w->slot_until_ns = 0;
    w->stopped_until = 0;
}

void cluster_faults_collect(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        const struct virtual_disk *disk = w->nodes[i].disk;
        w->probes[CLUSTER_PROBE_DISK_FAILED] += virtual_disk_failed_count(disk, VIRTUAL_DISK_ALL);
        w->probes[CLUSTER_PROBE_DISK_FULL] += virtual_disk_probe(disk, VIRTUAL_DISK_PROBE_FULL);
        w->probes[CLUSTER_PROBE_POWER_CUT] += virtual_disk_probe(disk, VIRTUAL_DISK_PROBE_POWER_CUT);
        w->probes[CLUSTER_PROBE_LOG_TRIMMED] += virtual_disk_has_unlinked(disk);
    }
    w->probes[CLUSTER_PROBE_REDIS_CUT] += virtual_redis_probe(w->redis, VIRTUAL_REDIS_PROBE_CUT_BEFORE) +
                                          virtual_redis_probe(w->redis, VIRTUAL_REDIS_PROBE_CUT_AFTER);
    w->probes[CLUSTER_PROBE_REDIS_REFUSES] += virtual_redis_probe(w->redis, VIRTUAL_REDIS_PROBE_FAILED);
}
