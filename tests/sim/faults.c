/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/faults.h"

#include "base/check.h"
#include "tests/sim/clients.h"
#include "tests/sim/life.h"
#include "tests/sim/queries.h"

enum {
    WRITES = 1u << VIRTUAL_DISK_WRITE | 1u << VIRTUAL_DISK_ALLOCATE,
    NAMES = 1u << VIRTUAL_DISK_RENAME | 1u << VIRTUAL_DISK_UNLINK | 1u << VIRTUAL_DISK_SYNC_DIR |
            1u << VIRTUAL_DISK_OPEN | 1u << VIRTUAL_DISK_TRUNCATE,
};

static const char checkpoint_dir[] = "data/checkpoint";

/* ---- the disk ---- */

static void remember(struct sim_world *w, enum sim_fault fault) {
    sim_faults_count(w); /* of the plan that this one replaces */
    w->disk_plan = (struct sim_plan){fault, virtual_disk_failed_count(w->disk, VIRTUAL_DISK_ALL)};
}

void sim_faults_plan_disk(struct sim_world *w, enum sim_fault fault, uint64_t nth, unsigned kinds,
                          enum mr_status status) {
    remember(w, fault);
    virtual_disk_fail_under(w->disk, NULL);
    virtual_disk_fail(w->disk, nth, kinds, VIRTUAL_DISK_ONCE, status);
}

static void break_under(struct sim_world *w, enum sim_fault fault, const char *dir) {
    remember(w, fault);
    virtual_disk_fail_under(w->disk, dir);
    virtual_disk_fail(w->disk, 1 + sim_below(&w->random, 4), WRITES | 1u << VIRTUAL_DISK_SYNC,
                      fault == SIM_LOG_BROKEN || sim_one_in(&w->random, 3) ? VIRTUAL_DISK_FOREVER
                                                                         : VIRTUAL_DISK_ONCE,
                      MR_IO);
}

static void fill_disk(struct sim_world *w) {
    if (w->full_until != 0) {
        return;
    }
    uint64_t room = sim_below(&w->random, 2 * w->settings.segment_bytes);
    virtual_disk_set_capacity(w->disk, virtual_disk_used(w->disk) + room);
    w->full_until = w->step + 100 + sim_below(&w->random, 800);
    w->full_restarts = w->restarts;
    w->full_refused = false;
}

static void wait_for_disk(void *ctx, enum virtual_disk_op op) {
    struct sim_world *w = ctx;
    (void)op;
    sim_world_pass_time(w, 1 + sim_below(&w->random, sim_one_in(&w->random, 20) ? 3000 : 50));
}

static void slow_disk(struct sim_world *w) {
    virtual_disk_slow(w->disk, VIRTUAL_DISK_ALL, 2 + sim_below(&w->random, 20), wait_for_disk, w);
}

/* ---- the store ---- */

static void fail_store(struct sim_world *w, enum sim_fault fault) {
    static const enum mr_status statuses[] = {MR_IO, MR_NO_SPACE, MR_BUSY};
    struct sim_random *r = &w->random;
    sim_faults_count(w);
    struct mr_memory_failure failure = {
        .ops = fault == SIM_STORE_UNSURE ? (uint32_t)MR_MEMORY_COMMIT : (uint32_t)MR_MEMORY_WRITES,
        .nth = 1 + sim_below(r, fault == SIM_STORE_UNSURE ? 3 : 20),
        .after = fault == SIM_STORE_UNSURE,
        .status = statuses[sim_below(r, 3)],
    };
    mr_memory_results_fail(w->store.results, &failure);
    w->store_plan = (struct sim_plan){fault, mr_memory_results_failures(w->store.results)};
}

/* ---- the clock ---- */

/* Recorded time follows 60 s ahead of the monotonic clock, and none back. */
static void jump_clock(struct sim_world *w, enum sim_fault fault) {
    int64_t little_ms = 1 + (int64_t)sim_below(&w->random, 10000);
    int64_t much_ms = 120000 + (int64_t)sim_below(&w->random, 3600000);
    bool far = fault == SIM_CLOCK_FAR_AHEAD || fault == SIM_CLOCK_FAR_BACK;
    bool ahead = fault == SIM_CLOCK_AHEAD || fault == SIM_CLOCK_FAR_AHEAD;
    int64_t by_ms = far ? much_ms : little_ms;
    w->clock.wall_ms += ahead ? by_ms : -by_ms;
    sim_hit(w, (enum sim_probe)fault);
}

/* ---- the process ---- */

static void crash(struct sim_world *w, enum sim_fault fault) {
    struct sim_random *r = &w->random;
    struct sim_crash how = {.power = sim_one_in(r, 2)};
    switch (fault) {
    case SIM_PROCESS_CRASH:
        how.power = false;
        sim_hit(w, SIM_PROBE_PROCESS_CRASH);
        break;
    case SIM_CRASH_IN_RECOVERY:
        how.cut_nth = 1 + sim_below(r, 30);
        break;
    case SIM_MIDDLE_FLIPPED:
        how.rotten = true;
        how.repaired = mr_log_first_lsn(w->data.log) == 1 && sim_one_in(r, 2);
        break;
    case SIM_READ_FAILED:
        how.read_nth = 1 + sim_below(r, 60);
        break;
    case SIM_STORE_LOST:
        how.store_lost = mr_log_first_lsn(w->data.log) == 1; /* else it could not be made again */
        break;
    case SIM_CONFIG_CHANGED:
        how.configured = true;
        how.cut_nth = sim_one_in(r, 3) ? 1 + sim_below(r, 60) : 0;
        break;
    case SIM_CHECKPOINT_SPOILED:
        how.spoiled = true;
        how.spoiled_all = sim_one_in(r, mr_log_first_lsn(w->data.log) > 1 ? 2 : 4);
        break;
    case SIM_SHARDS_CHANGED:
        how.shards = 1 + (uint32_t)sim_below(r, 4);
        break;
    default:
        MR_UNREACHABLE();
    }
    sim_life_crash(w, &how);
}

static void starve(struct sim_world *w) {
    struct sim_random *r = &w->random;
    if (sim_one_in(r, 2)) {
        w->no_memory_steps = 1 + (uint32_t)sim_below(r, 30);
    } else {
        struct sim_crash how = {.no_memory_nth = 1 + sim_below(r, 120)};
        sim_life_crash(w, &how);
    }
}

static void stop_station(struct sim_world *w) {
    w->stopped_station = (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline));
    w->stopped_until = w->step + 50 + sim_below(&w->random, 1000);
    sim_queries_send(w, (uint32_t)sim_below(&w->random, 160));
}

/* ---- all ---- */

static void inject_disk(struct sim_world *w, enum sim_fault fault) {
    struct sim_random *r = &w->random;
    switch (fault) {
    case SIM_POWER_CUT:
        if (sim_one_in(r, 2)) { /* where a new segment gets its name */
            virtual_disk_cut_power_where(w->disk, 1, 1u << VIRTUAL_DISK_SYNC_DIR, NULL);
        } else {
            virtual_disk_cut_power(w->disk, 1 + sim_below(r, 10));
        }
        break;
    case SIM_CRASH_IN_CHECKPOINT:
        virtual_disk_cut_power_where(w->disk, 1 + sim_below(r, 12), VIRTUAL_DISK_CHANGES, checkpoint_dir);
        w->cut_in_checkpoint = true;
        break;
    case SIM_WRITE_FAILED:
        sim_faults_plan_disk(w, fault, 1 + sim_below(r, 4), WRITES, MR_IO);
        break;
    case SIM_SYNC_FAILED:
        sim_faults_plan_disk(w, fault, 1 + sim_below(r, 4), 1u << VIRTUAL_DISK_SYNC, MR_IO);
        break;
    case SIM_NAMES_FAILED:
        sim_faults_plan_disk(w, fault, 1 + sim_below(r, 3), NAMES, MR_IO);
        break;
    case SIM_LOG_BROKEN:
        break_under(w, fault, "data/log");
        break;
    case SIM_DEAD_LOG_FAILED:
        break_under(w, fault, "data/dead");
        break;
    case SIM_CHECKPOINT_FAILED:
        break_under(w, fault, checkpoint_dir);
        break;
    case SIM_NO_SPACE_ONCE:
        sim_faults_plan_disk(w, fault, 1 + sim_below(r, 4), WRITES, MR_NO_SPACE);
        break;
    case SIM_DISK_FULL:
        fill_disk(w);
        break;
    case SIM_DISK_SLOW:
        slow_disk(w);
        break;
    default:
        MR_UNREACHABLE();
    }
}

void sim_faults_inject(struct sim_world *w) {
    enum sim_fault fault = sim_settings_fault(&w->settings, &w->random);
    if (fault != SIM_FAULT_COUNT) {
        sim_say(w, sim_probe_name((enum sim_probe)fault), 0);
    }
    switch (fault) {
    case SIM_PROCESS_CRASH:
    case SIM_CRASH_IN_RECOVERY:
    case SIM_MIDDLE_FLIPPED:
    case SIM_READ_FAILED:
    case SIM_STORE_LOST:
    case SIM_SHARDS_CHANGED:
    case SIM_CHECKPOINT_SPOILED:
    case SIM_CONFIG_CHANGED:
        crash(w, fault);
        break;
    case SIM_NO_MEMORY:
        starve(w);
        break;
    case SIM_CLOCK_BACK:
    case SIM_CLOCK_FAR_BACK:
    case SIM_CLOCK_AHEAD:
    case SIM_CLOCK_FAR_AHEAD:
        jump_clock(w, fault);
        break;
    case SIM_STORE_FAILED:
    case SIM_STORE_UNSURE:
        fail_store(w, fault);
        break;
    case SIM_STATION_STOPPED:
        stop_station(w);
        break;
    case SIM_BURST:
        sim_clients_burst(w);
        break;
    case SIM_QUERY:
        sim_queries_send(w, 1);
        break;
    case SIM_ANSWER_LOST:
    case SIM_REQUEST_TWICE:
    case SIM_FAULT_COUNT:
        break; /* the clients' own, clients.c; or the seed has none */
    default:
        inject_disk(w, fault);
        break;
    }
}

void sim_faults_pass(struct sim_world *w) {
    if (w->full_until != 0 && w->step >= w->full_until) {
        virtual_disk_set_capacity(w->disk, 0);
        w->full_until = 0;
    }
    if (w->step % 64 == 0 && sim_one_in(&w->random, 8)) {
        virtual_disk_slow(w->disk, 0, 0, NULL, NULL);
    }
}

void sim_faults_count(struct sim_world *w) {
    if (w->cut_in_checkpoint && !virtual_disk_power(w->disk)) {
        sim_hit(w, SIM_PROBE_CRASH_IN_CHECKPOINT);
        w->cut_in_checkpoint = false;
    }
    uint64_t disk = virtual_disk_failed_count(w->disk, VIRTUAL_DISK_ALL);
    w->probes[w->disk_plan.fault] += disk - w->disk_plan.failures_before;
    w->disk_plan.failures_before = disk;
    uint64_t store = mr_memory_results_failures(w->store.results);
    if (store > w->store_plan.failures_before) { /* a store made anew begins at 0 */
        w->probes[w->store_plan.fault] += store - w->store_plan.failures_before;
    }
    w->store_plan.failures_before = store;
}

void sim_faults_clear(struct sim_world *w) {
    sim_faults_count(w);
    virtual_disk_fail(w->disk, 0, 0, VIRTUAL_DISK_ONCE, MR_IO);
    virtual_disk_fail_under(w->disk, NULL);
    virtual_disk_cut_power(w->disk, 0);
    virtual_disk_slow(w->disk, 0, 0, NULL, NULL);
    virtual_disk_set_capacity(w->disk, 0);
    mr_memory_results_fail(w->store.results, &(struct mr_memory_failure){.nth = 0});
    w->cut_in_checkpoint = false;
    w->full_until = 0;
    w->stopped_until = 0;
    w->no_memory_steps = 0;
}

void sim_faults_collect(struct sim_world *w) {
    static const struct {
        enum virtual_disk_probe from;
        enum sim_probe to;
    } pairs[] = {
        {VIRTUAL_DISK_PROBE_WRITE_TORN, SIM_PROBE_WRITE_TORN},
        {VIRTUAL_DISK_PROBE_WRITE_DROPPED, SIM_PROBE_WRITE_DROPPED},
        {VIRTUAL_DISK_PROBE_WRITE_ZEROED, SIM_PROBE_WRITE_ZEROED},
        {VIRTUAL_DISK_PROBE_WRITE_FLIPPED, SIM_PROBE_TAIL_FLIPPED},
        {VIRTUAL_DISK_PROBE_WRITES_REORDERED, SIM_PROBE_WRITES_REORDERED},
        {VIRTUAL_DISK_PROBE_SHORT_WRITE, SIM_PROBE_SHORT_WRITE},
        {VIRTUAL_DISK_PROBE_RENAME_LOST, SIM_PROBE_RENAME_LOST},
        {VIRTUAL_DISK_PROBE_POWER_CUT, SIM_PROBE_POWER_CUT},
        {VIRTUAL_DISK_PROBE_SLOW, SIM_PROBE_DISK_SLOW},
    };
    sim_faults_count(w);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        w->probes[pairs[i].to] += virtual_disk_probe(w->disk, pairs[i].from);
    }
}
