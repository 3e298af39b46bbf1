/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Virtual disk: a mr_disk in memory that can lose power, fail, fill up and rot, from a seed.
 *
 * Idea        Each file has what programs see (page cache) and what is durable; between them the
 *             list of writes not yet synced. The same for names: what is seen, what is durable,
 *             and the operations of each directory not yet synced. Losing power keeps what is
 *             durable and a random part of the rest.
 *
 *                 write ──► seen ── sync ──► durable      crash: seen := durable + a part of
 *                             └─ unsynced ─┘                     the unsynced
 *
 * Crash       Each unsynced write or size change has a fate of its own: kept, dropped, or (a write)
 *             torn: each of its 512-byte sectors kept or dropped. Where a test asks for more
 *             (virtual_disk_set_fates): zeroed, the blocks are there but those never written before
 *             hold zeros; flipped, one bit of what it changed is wrong. Bytes that the write does
 *             not touch, or writes as they were, never change. Of each directory's unsynced
 *             operations a prefix is kept. Files opened before are dead: every operation on them
 *             is MR_IO; closing them is fine.
 * Failure     A failed write has written a random prefix; one that meets the capacity, what fitted. To a file that
 *             gathers (mr_file_gather) it is said late: that write succeeds, all later ones and every sync fail.
 *             A failed sync has made a random part durable (fates as in a crash) and forgets the
 *             rest, which stays seen: the next sync succeeds without it, as Linux does. A failed
 *             directory sync has made a prefix durable. Other failed operations changed nothing.
 * Owner       The opener. Files must be closed before the disk.
 * Threads     One, as the simulator has. Same seed and same calls, same bytes and same hash.
 * Memory      Straight from malloc, so that an injected failure of base/alloc hits the code under
 *             test.
 */
#include "base/file.h"

#define VIRTUAL_DISK_OPS(X)                                                                        \
    X(OPEN)                                                                                        \
    X(READ)                                                                                        \
    X(WRITE)                                                                                       \
    X(SYNC)                                                                                        \
    X(ALLOCATE)                                                                                    \
    X(TRUNCATE)                                                                                    \
    X(SIZE)                                                                                        \
    X(LOCK)                                                                                        \
    X(RENAME)                                                                                      \
    X(UNLINK)                                                                                      \
    X(MKDIR)                                                                                       \
    X(SYNC_DIR)                                                                                    \
    X(LIST)                                                                                        \
    X(FREE_BYTES)

enum virtual_disk_op {
#define X(name) VIRTUAL_DISK_##name,
    VIRTUAL_DISK_OPS(X)
#undef X
        VIRTUAL_DISK_OP_COUNT
};

#define VIRTUAL_DISK_ALL ((1u << VIRTUAL_DISK_OP_COUNT) - 1)
/* What changes something: where power may be cut. */
#define VIRTUAL_DISK_CHANGES                                                                       \
    (1u << VIRTUAL_DISK_WRITE | 1u << VIRTUAL_DISK_SYNC | 1u << VIRTUAL_DISK_ALLOCATE |            \
     1u << VIRTUAL_DISK_TRUNCATE | 1u << VIRTUAL_DISK_RENAME | 1u << VIRTUAL_DISK_UNLINK |         \
     1u << VIRTUAL_DISK_MKDIR | 1u << VIRTUAL_DISK_SYNC_DIR)

/* What happened at least once; a test asks, so that it knows it tested something. */
#define VIRTUAL_DISK_PROBES(X)                                                                     \
    X(WRITE_KEPT, "an unsynced write survived a crash")                                            \
    X(WRITE_DROPPED, "an unsynced write was lost")                                                 \
    X(WRITE_TORN, "an unsynced write was torn")                                                    \
    X(SIZE_DROPPED, "an unsynced size change was lost")                                            \
    X(NAME_KEPT, "an unsynced directory operation survived a crash")                               \
    X(NAME_DROPPED, "an unsynced directory operation was lost")                                    \
    X(SYNC_FAILED, "a sync failed with writes pending")                                            \
    X(SHORT_WRITE, "a failed write had written a part")                                            \
    X(FULL, "the disk was full")                                                                   \
    X(POWER_CUT, "power was cut")

/* The same of what happens only to a test that asks for it, or seldom. */
#define VIRTUAL_DISK_MORE_PROBES(X)                                                                \
    X(WRITE_ZEROED, "an unsynced write came back as zeros")                                        \
    X(WRITE_FLIPPED, "an unsynced write came back with a wrong bit")                               \
    X(WRITES_REORDERED, "an unsynced write survived, an earlier one of the file did not")          \
    X(RENAME_LOST, "an unsynced rename was lost")                                                  \
    X(SHORT_FULL, "a full disk took a part of a write")                                            \
    X(ROTTED, "a bit flipped at rest")                                                             \
    X(SLOW, "an operation took its time")                                                          \
    X(UNLINKED_KEPT, "a removed file was kept aside")

enum virtual_disk_probe {
#define X(name, text) VIRTUAL_DISK_PROBE_##name,
    VIRTUAL_DISK_PROBES(X)
#undef X
        VIRTUAL_DISK_PROBE_COUNT, /* of the first list */
    VIRTUAL_DISK_PROBE_BEFORE_MORE = VIRTUAL_DISK_PROBE_COUNT - 1,
#define X(name, text) VIRTUAL_DISK_PROBE_##name,
    VIRTUAL_DISK_MORE_PROBES(X)
#undef X
        VIRTUAL_DISK_PROBE_ALL /* how many there are */
};

/* What may become of an unsynced write. */
enum virtual_disk_fate {
    VIRTUAL_DISK_KEPT,
    VIRTUAL_DISK_TORN,
    VIRTUAL_DISK_DROPPED,
    VIRTUAL_DISK_ZEROED,
    VIRTUAL_DISK_FLIPPED,
    VIRTUAL_DISK_FATE_COUNT
};

#define VIRTUAL_DISK_FATES_USUAL                                                                   \
    (1u << VIRTUAL_DISK_KEPT | 1u << VIRTUAL_DISK_TORN | 1u << VIRTUAL_DISK_DROPPED)
#define VIRTUAL_DISK_FATES_ALL ((1u << VIRTUAL_DISK_FATE_COUNT) - 1)

enum virtual_disk_times { VIRTUAL_DISK_ONCE, VIRTUAL_DISK_FOREVER };

struct virtual_disk;

/* Never NULL: out of memory ends the test. */
struct virtual_disk *virtual_disk_open(uint64_t seed);
void virtual_disk_close(struct virtual_disk *vd); /* NULL is fine */
struct mr_disk *virtual_disk_disk(struct virtual_disk *vd);

/* The bytes all files together may have; 0: no bound. May be set below what they have: then nothing
 * grows until it is raised or enough is removed. */
void virtual_disk_set_capacity(struct virtual_disk *vd, uint64_t bytes);
uint64_t virtual_disk_used(const struct virtual_disk *vd); /* the bytes they have */
/* Lets the nth (1: the next) operation of the kinds (bits 1 << VIRTUAL_DISK_…) fail with status,
 * once or from then on. nth 0: no more failures. */
void virtual_disk_fail(struct virtual_disk *vd, uint64_t nth, unsigned kinds,
                       enum virtual_disk_times times, enum mr_status status);
/* The plan of virtual_disk_fail is for paths that begin with prefix only; NULL: for all again. */
void virtual_disk_fail_under(struct virtual_disk *vd, const char *prefix);
/* One in `one_in` operations of the kinds, at random, calls wait before it begins: there the test's
 * clock goes on. kinds 0: not any more. */
void virtual_disk_slow(struct virtual_disk *vd, unsigned kinds, uint64_t one_in,
                       void (*wait)(void *ctx, enum virtual_disk_op op), void *ctx);
/* Bits 1 << enum virtual_disk_fate, at least one; VIRTUAL_DISK_FATES_USUAL at first. */
void virtual_disk_set_fates(struct virtual_disk *vd, unsigned fates);
/* In the nth changing operation from now power goes: it fails half done, and so does all after it
 * until virtual_disk_crash. nth 0: not any more. */
void virtual_disk_cut_power(struct virtual_disk *vd, uint64_t nth);
/* The same in the nth operation of the kinds on a path that begins with prefix (NULL: any). */
void virtual_disk_cut_power_where(struct virtual_disk *vd, uint64_t nth, unsigned kinds,
                                  const char *prefix);
bool virtual_disk_power(const struct virtual_disk *vd); /* is on */
/* Power goes (if it has not) and comes back; failures and cuts planned are forgotten. */
void virtual_disk_crash(struct virtual_disk *vd);

/* Operations of the kinds so far, failed ones included. */
uint64_t virtual_disk_op_count(const struct virtual_disk *vd, unsigned kinds);
/* Those that failed by plan. */
uint64_t virtual_disk_failed_count(const struct virtual_disk *vd, unsigned kinds);
uint64_t virtual_disk_probe(const struct virtual_disk *vd, enum virtual_disk_probe probe);
const char *virtual_disk_probe_text(enum virtual_disk_probe probe);
/* Of all operations, their data and results so far. */
uint64_t virtual_disk_hash(const struct virtual_disk *vd);

/* Past the operations, seen and durable alike. The path must name a file. */
struct mr_bytes virtual_disk_content(struct virtual_disk *vd, const char *path);
void virtual_disk_replace(struct virtual_disk *vd, const char *path, struct mr_bytes content);
/* A file with this content, whether or not there was one; and: there is none. Nobody has it open. */
void virtual_disk_put(struct virtual_disk *vd, const char *path, struct mr_bytes content);
void virtual_disk_remove(struct virtual_disk *vd, const char *path);
bool virtual_disk_exists(const struct virtual_disk *vd, const char *path); /* as it is seen */
void virtual_disk_flip(struct virtual_disk *vd, const char *path, uint64_t offset, uint8_t mask);
/* Flips a random bit of the bytes [from, to); *ret_mask undoes it with virtual_disk_flip. */
uint64_t virtual_disk_rot(struct virtual_disk *vd, const char *path, uint64_t from, uint64_t to,
                          uint8_t *ret_mask);
/* A disk with the files as they are seen now, all durable, without failures planned. */
struct virtual_disk *virtual_disk_clone(const struct virtual_disk *vd, uint64_t seed);

/* From now on a file whose path begins with prefix is kept aside when it is unlinked (or a rename
 * takes its name), as it is then seen; the last of each path. */
void virtual_disk_keep_unlinked(struct virtual_disk *vd, const char *prefix);
bool virtual_disk_has_unlinked(const struct virtual_disk *vd);
/* Puts what `from` kept aside onto vd, durable, where vd has no file of that path: in a clone of
 * `from`, nothing was ever removed. */
void virtual_disk_put_back(struct virtual_disk *vd, const struct virtual_disk *from);
