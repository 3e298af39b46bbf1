/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Data directory: what is where on disk, and that one process at a time has it.
 *
 *     millrace-data/
 *       LOCK         locked while a process runs
 *       KEY          32 random bytes, or what cluster.secret says; 0600: fingerprints depend on it; losing it loses the
 *                    dedup horizon
 *       FORMAT       "millrace data, format 4" and a hash of KEY, so that another key is noticed
 *       EPOCH-<store> of the shared store that claims were made in (dedup/watch.h)
 *       SINK-<sink>  how far results have arrived there (pipeline/sinks.h)
 *       LOOKUP-<hash>-<length>  what a lookup's file held: events are decoded with it again in a replay
 *       LOOKUP-….until  up to which record of the log it may be needed; without: the configuration names it
 *       SHARDS       how many shards the results were made with
 *       REWOUND      is there while the results were wound back to the checkpoint and do not yet have all it has
 *       PROMOTED     before which bundle the log is read under the configuration that it holds (pipeline/promote.h)
 *       PROMOTING    is there while that is being changed; says what is done of it
 *       PROMOTE      which replay the next start is to promote (server/replay_mark.h)
 *       replays/     replays that were asked for over REST, a directory each (server/replays.h)
 *       log/         the event log
 *       dead/        the dead-letter log
 *       checkpoint/  parts and manifests of the last two checkpoints
 *       results.db   the results store (SQLite)
 *
 * Errors      MR_BUSY: another process. MR_MISMATCH: another format. MR_CORRUPT: data without its key.
 */
#include "base/file.h"
#include "base/hash.h"
#include "dedup/watch.h"

struct mr_datadir {
    struct mr_disk *disk;
    struct mr_file *lock;
    struct mr_hash_key key;
    char path[3072];
    char log_dir[3200];
    char dead_dir[3200];
    char checkpoint_dir[3200];
    char results_path[3200];
};

/* key: the one of the cluster that this node belongs to; NULL: the directory has its own. */
enum mr_status mr_datadir_open(struct mr_disk *disk, struct mr_bytes path, const struct mr_hash_key *key,
                               struct mr_datadir *ret, struct mr_error *error) MR_MUST_CHECK;
/* For who only reads beside the process that has it: takes no lock and makes nothing. MR_NOT_FOUND: no data
 * directory. */
enum mr_status mr_datadir_look(struct mr_disk *disk, struct mr_bytes path, struct mr_datadir *ret,
                               struct mr_error *error) MR_MUST_CHECK;
/* All 0: none yet. */
enum mr_status mr_datadir_read_epoch(struct mr_datadir *dir, struct mr_bytes store, struct mr_epoch *ret,
                                     struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_write_epoch(struct mr_datadir *dir, struct mr_bytes store,
                                      const struct mr_epoch *epoch, struct mr_error *error) MR_MUST_CHECK;
/* Appended to ret. MR_NOT_FOUND: none yet. A sink's file is its thread's alone. */
enum mr_status mr_datadir_read_sink(struct mr_datadir *dir, struct mr_bytes sink, struct mr_buf *ret,
                                    struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_write_sink(struct mr_datadir *dir, struct mr_bytes sink, struct mr_bytes content,
                                     struct mr_error *error) MR_MUST_CHECK;
/* Appended to ret. MR_NOT_FOUND, MR_CORRUPT. */
enum mr_status mr_datadir_read_lookup(struct mr_datadir *dir, uint64_t hash, uint64_t len, struct mr_buf *ret,
                                      struct mr_error *error) MR_MUST_CHECK;
/* From here on a configuration names it. */
enum mr_status mr_datadir_keep_lookup(struct mr_datadir *dir, struct mr_bytes content,
                                      struct mr_error *error) MR_MUST_CHECK;
/* The last record that may need it (pipeline/lookups.h). MR_NOT_FOUND: that is not known. */
enum mr_status mr_datadir_read_lookup_until(struct mr_datadir *dir, uint64_t hash, uint64_t len, uint64_t *ret_lsn,
                                            struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_write_lookup_until(struct mr_datadir *dir, uint64_t hash, uint64_t len, uint64_t lsn,
                                             struct mr_error *error) MR_MUST_CHECK;
/* With what is known of it: the content first. */
enum mr_status mr_datadir_drop_lookup(struct mr_datadir *dir, uint64_t hash, uint64_t len,
                                      struct mr_error *error) MR_MUST_CHECK;
/* The number of shards that the results were made with; 0: none yet. Which shard a group belongs to, and with that
 * which groups overflow, depends on it. */
enum mr_status mr_datadir_read_shards(struct mr_datadir *dir, uint32_t *ret,
                                      struct mr_error *error) MR_MUST_CHECK;
bool mr_datadir_is_rewound(struct mr_datadir *dir);
enum mr_status mr_datadir_set_rewound(struct mr_datadir *dir, bool rewound,
                                      struct mr_error *error) MR_MUST_CHECK;
/* 0: nothing was promoted. MR_BUSY: something is being, and was not finished. */
enum mr_status mr_datadir_read_promoted(struct mr_datadir *dir, uint64_t *ret, struct mr_error *error) MR_MUST_CHECK;
/* PROMOTED; PROMOTING, and that it is over: steps counts from 1, 0: over. Without the latter: 0. */
enum mr_status mr_datadir_write_promoted(struct mr_datadir *dir, uint64_t seq, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_write_promoting(struct mr_datadir *dir, uint32_t steps, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_read_promoting(struct mr_datadir *dir, uint32_t *ret, struct mr_error *error) MR_MUST_CHECK;
/* results.db and its companions get other names (results.db.before …), to be made anew. Nobody has the store open. */
enum mr_status mr_datadir_set_results_aside(struct mr_datadir *dir, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_datadir_write_shards(struct mr_datadir *dir, uint32_t shards,
                                       struct mr_error *error) MR_MUST_CHECK;
void mr_datadir_close(struct mr_datadir *dir);
