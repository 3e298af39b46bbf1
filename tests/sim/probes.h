/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Probes: what goes wrong in a simulated run, and what must have been seen to happen.
 *
 * Idea        A fault that never strikes tests nothing. So each has a counter of how often it had its effect (not: was
 *             asked for), and `sim --probes` prints the sums and fails when one stayed at zero.
 */
#include "tests/sim/campaign.h"

#include <stdbool.h>
#include <stdint.h>

/* Faults: each seed chooses some of them and how often each comes (swarm testing: what is left out lets the others go
 * further). The first group is what becomes of unsynced writes when power goes. */
#define SIM_FAULTS(X)                                                                                      \
    X(WRITE_TORN, "an unsynced write came back torn")                                                      \
    X(WRITE_DROPPED, "an unsynced write was lost")                                                         \
    X(WRITE_ZEROED, "an unsynced write came back as zeros")                                                \
    X(TAIL_FLIPPED, "an unsynced write came back with a wrong bit")                                        \
    X(PROCESS_CRASH, "the process died")                                                                   \
    X(POWER_CUT, "power went in the middle of an operation")                                               \
    X(CRASH_IN_RECOVERY, "power went during a start")                                                      \
    X(MIDDLE_FLIPPED, "a synced record lost a bit: the start refused")                                     \
    X(WRITE_FAILED, "a write failed")                                                                      \
    X(SYNC_FAILED, "a sync failed")                                                                        \
    X(READ_FAILED, "a read failed")                                                                        \
    X(NAMES_FAILED, "a rename, unlink or sync of a directory failed")                                      \
    X(LOG_BROKEN, "the log's disk failed for good")                                                        \
    X(DEAD_LOG_FAILED, "the dead-letter log's disk failed")                                                \
    X(NO_SPACE_ONCE, "one operation met a full disk")                                                      \
    X(DISK_FULL, "the disk was full for a while, and appending went on by itself afterwards")              \
    X(DISK_SLOW, "an operation of the disk took long")                                                     \
    X(NO_MEMORY, "an allocation failed and the process with it")                                           \
    X(CLOCK_BACK, "the clock jumped back a little")                                                        \
    X(CLOCK_FAR_BACK, "the clock jumped back by much")                                                     \
    X(CLOCK_AHEAD, "the clock jumped ahead a little")                                                      \
    X(CLOCK_FAR_AHEAD, "the clock jumped ahead by much")                                                   \
    X(ANSWER_LOST, "a client did not hear the answer and sent all of it again")                            \
    X(REQUEST_TWICE, "a request was sent again while it was under way")                                    \
    X(BURST, "many requests came at once")                                                                 \
    X(STATION_STOPPED, "a station stood still and work piled up before it")                                \
    X(QUERY, "a question was asked and its answer compared with the model")                                \
    X(STORE_FAILED, "the results store failed")                                                            \
    X(STORE_UNSURE, "the results store failed after it had committed")                                     \
    X(STORE_LOST, "the results store was gone")                                                            \
    X(SHARDS_CHANGED, "the process started with another number of shards")                                 \
    X(CRASH_IN_CHECKPOINT, "power went while a checkpoint was written")                                    \
    X(CHECKPOINT_FAILED, "an operation of a checkpoint failed")                                            \
    X(CHECKPOINT_SPOILED, "the newest checkpoint was damaged: a start took the one before, or began at zero") \
    X(CONFIG_CHANGED, "the process started with another configuration")                                    \
    X(CHECKPOINTS_LOST, "no checkpoint was whole, and the log began later: the start refused")

/* What the faults, or plain work, must have led to. */
#define SIM_OUTCOMES(X)                                                                                    \
    X(WRITES_REORDERED, "a later unsynced write survived an earlier one")                                  \
    X(SHORT_WRITE, "a failed write left a part")                                                           \
    X(RENAME_LOST, "an unsynced rename was lost")                                                          \
    X(TAIL_CUT, "a start cut a torn tail")                                                                 \
    X(SEGMENT_POISONED, "a bundle was written again to a new segment")                                     \
    X(SEGMENTS, "the log had five segments or more")                                                       \
    X(UNSYNCED_LOST, "power took acknowledged records, as log.sync: off allows")                           \
    X(RESULTS_REWOUND, "the results went back to the checkpoint and were made again")                      \
    X(FAILED_KEPT, "a record whose append had failed was found by the start")                              \
    X(REFUSED_IDS, "a request was refused for want of room for ids")                                       \
    X(REFUSED_DISK, "a request was refused for want of disk space")                                        \
    X(REFUSED_LOG, "a request was refused because the log had failed")                                     \
    X(IDS_EXPIRED, "an id was forgotten behind its horizon")                                               \
    X(IDS_EVICTED, "an id was forgotten early for want of room")                                           \
    X(COUNTED_AGAIN, "an id came again behind its horizon and was counted")                                \
    X(DUPLICATE, "a duplicate was removed")                                                                \
    X(LATE, "an event was late")                                                                           \
    X(ADVANCED, "a producer said where a watermark is")                                                    \
    X(REDRIVEN, "a dead letter was redriven and counted")                                                  \
    X(REJECTED, "an event was rejected")                                                                   \
    X(RING_FULL, "a full ring held the sequencer back")                                                    \
    X(ASK_REFUSED, "too many questions at once")                                                           \
    X(ASK_CLOSED, "a question was closed unanswered")                                                      \
    X(CLOCK_HELD, "recorded time did not follow a jump of the clock")                                      \
    X(REPLAYED, "events were replayed")                                                                    \
    X(GROUPS_OTHER, "a group beyond the bound was counted under (other)")                                  \
    X(GROUPS_DROPPED, "events of a group beyond the bound were dropped")                                   \
    X(OBSERVED, "a duplicate was counted and let through")                                                 \
    X(CONFLICT, "a duplicate with another content became a dead letter")                                   \
    X(BLOOM_MISTOOK, "a filter took a new id for one it had seen")                                         \
    X(RULE_ANEW, "a rule began anew, with another definition")                                             \
    X(REPAIRED, "a damaged log was repaired, and went on without the record that was lost")                \
    X(CHECKPOINT_MADE, "a checkpoint was made")                                                            \
    X(FROM_CHECKPOINT, "a start began with a checkpoint")                                                  \
    X(FROM_OLDER, "a start began with the checkpoint before the newest, which was damaged")                \
    X(FROM_ZERO, "a start found no checkpoint whole and replayed all of the log")                          \
    X(LOG_TRIMMED, "segments of the log were removed behind a checkpoint")                                 \
    X(IDS_ANEW, "ids of a checkpoint were written anew for another number of shards")                      \
    X(TWIN_NEWEST, "a start from the newest checkpoint gave the same state")                               \
    X(TWIN_OLDER, "a start from the older checkpoint gave the same state")                                 \
    X(TWIN_ZERO, "a replay of the whole log gave the same state and the same rows")                        \
    X(TWIN_SHARDS, "a start with another number of shards gave the same rows")

#define SIM_PROBES(X) SIM_FAULTS(X) SIM_OUTCOMES(X)

enum sim_probe {
#define X(name, text) SIM_PROBE_##name,
    SIM_PROBES(X)
#undef X
        SIM_PROBE_COUNT
};

enum sim_fault {
#define X(name, text) SIM_##name,
    SIM_FAULTS(X)
#undef X
        SIM_FAULT_COUNT
};

const char *sim_probe_name(enum sim_probe probe);
extern const struct sim_probe_row sim_probe_rows[SIM_PROBE_COUNT];
