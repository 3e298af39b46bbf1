/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Probes of the cluster's simulation: what goes wrong, and what must have been seen to happen. As in probes.h each has
 * a counter of how often it had its effect.
 */
#include "tests/sim/campaign.h"

#include <stdint.h>

/* Faults; each seed chooses some. Those from LOST_ALL on lose claims, and belong to seeds of their own. */
#define CLUSTER_FAULTS(X)                                                                                  \
    X(PROCESS_CRASH, "a node's process died")                                                              \
    X(POWER_LOST, "a node lost power")                                                                     \
    X(POWER_CUT, "a node lost power in the middle of an operation")                                        \
    X(CRASH_IN_RECOVERY, "a node lost power during its start, or soon after")                              \
    X(QUIET_RESTART, "a node died with nothing under way: its ledger and state were the same again")       \
    X(NODE_AWAY, "a node stayed away for a while")                                                         \
    X(CHECKPOINT, "a checkpoint was made when asked for")                                                  \
    X(STATION_STOPPED, "a station stood still")                                                            \
    X(DISK_FULL, "a disk was full for a while")                                                            \
    X(DISK_FAILED, "an operation of a disk failed")                                                        \
    X(NO_MEMORY, "an allocation failed and the process with it")                                           \
    X(TIME, "time passed with nobody doing anything")                                                      \
    X(ANSWER_LOST, "a client did not hear the answer")                                                     \
    X(BURST, "many requests came at once")                                                                 \
    X(REDIS_SLOW, "Redis answered late")                                                                   \
    X(REDIS_CUT, "a connection to Redis broke; the command may have been executed")                        \
    X(REDIS_HANGS, "Redis neither executed nor answered for a while")                                      \
    X(REDIS_RESTARTED, "Redis was started again, with its data")                                           \
    X(REDIS_REFUSES, "Redis refused commands: OOM, LOADING, TRYAGAIN, CLUSTERDOWN …")                      \
    X(REDIS_OUTAGE, "all of Redis was away for long")                                                      \
    X(REDIS_POLICY, "the eviction policy was changed and set back")                                        \
    X(REDIS_SLOTS, "a slot moved to another server")                                                       \
    X(REDIS_MOVED, "a replica took over, with all the data")                                               \
    X(LOST_ALL, "Redis lost everything: FLUSHALL, or a start without its data")                            \
    X(LOST_WRITES, "a replica took over that lagged")                                                      \
    X(LOST_KEYS, "Redis evicted keys")

#define CLUSTER_OUTCOMES(X)                                                                                \
    X(PENDING, "a client was told that its events are pending")                                            \
    X(REFUSED_AWAY, "a request was refused, the store being away")                                         \
    X(REFUSED_UNDECIDED, "a request was sent away undecided")                                              \
    X(UNDECIDED_AT_START, "a start found undecided events in the log")                                     \
    X(UNDECIDED_IN_CHECKPOINT, "a start found undecided events in its checkpoint")                         \
    X(CRASH_IN_REPLAY, "a node died in the middle of its replay")                                          \
    X(CLAIM_MINE, "a claim found that it was made already")                                                \
    X(CLAIM_REPEATED, "a command was sent again")                                                          \
    X(DUPLICATE, "a duplicate was removed")                                                                \
    X(DUPLICATE_ELSEWHERE, "a duplicate of another node's event was removed")                              \
    X(LATE, "an event that won its claim was late")                                                        \
    X(SUSPECTED, "a node asserted recent claims")                                                          \
    X(LOST, "a node asserted all its claims")                                                              \
    X(REPAIRED, "an assertion put a claim back")                                                           \
    X(KEPT, "an assertion found its claim there")                                                          \
    X(COUNTED_TWICE, "an id was counted twice after a loss, and a node said so")                           \
    X(PEERS_MISSING, "a recovery did not wait for a node that was away")                                   \
    X(ALONE, "a node counted an id without asking")                                                        \
    X(ALONE_TWICE, "another node counted it, too")                                                         \
    X(ASKED_OTHERS, "another node was asked for what one had counted alone")                                \
    X(OUTAGE_QUIET, "a node kept nothing of its clients in an outage")                                     \
    X(LOG_TRIMMED, "segments of a log were removed")                                                       \
    X(FROM_CHECKPOINT, "a start began with a checkpoint")                                                  \
    X(TAIL_CUT, "a start cut a torn tail")                                                                 \
    X(TWIN, "a replay of a whole log gave the same ledger and rows")

#define CLUSTER_PROBES(X) CLUSTER_FAULTS(X) CLUSTER_OUTCOMES(X)

enum cluster_probe {
#define X(name, text) CLUSTER_PROBE_##name,
    CLUSTER_PROBES(X)
#undef X
        CLUSTER_PROBE_COUNT
};

enum cluster_fault {
#define X(name, text) CLUSTER_##name,
    CLUSTER_FAULTS(X)
#undef X
        CLUSTER_FAULT_COUNT
};

const char *cluster_probe_name(enum cluster_probe probe);
extern const struct sim_probe_row cluster_probe_rows[CLUSTER_PROBE_COUNT];
