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
 * Crash       Each unsynced write or size change is kept, dropped, or (a write) torn: each of its
 *             512-byte sectors kept or dropped. Of each directory's unsynced operations a prefix
 *             is kept. Files opened before are dead: every operation on them is MR_IO; closing
 *             them is fine.
 * Failure     A failed write has written a random prefix. A failed sync has made a random part
 *             durable and forgets the rest, which stays seen: the next sync succeeds without it,
 *             as Linux does. A failed directory sync has made a prefix durable. Other failed
 *             operations changed nothing.
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

enum virtual_disk_probe {
#define X(name, text) VIRTUAL_DISK_PROBE_##name,
    VIRTUAL_DISK_PROBES(X)
#undef X
        VIRTUAL_DISK_PROBE_COUNT
};

enum virtual_disk_times { VIRTUAL_DISK_ONCE, VIRTUAL_DISK_FOREVER };

struct virtual_disk;

/* Never NULL: out of memory ends the test. */
struct virtual_disk *virtual_disk_open(uint64_t seed);
void virtual_disk_close(struct virtual_disk *vd); /* NULL is fine */
struct mr_disk *virtual_disk_disk(struct virtual_disk *vd);

/* The bytes all files together may have; 0: no bound. */
void virtual_disk_set_capacity(struct virtual_disk *vd, uint64_t bytes);
/* Lets the nth (1: the next) operation of the kinds (bits 1 << VIRTUAL_DISK_…) fail with status,
 * once or from then on. nth 0: no more failures. */
void virtual_disk_fail(struct virtual_disk *vd, uint64_t nth, unsigned kinds,
                       enum virtual_disk_times times, enum mr_status status);
/* In the nth changing operation from now power goes: it fails half done, and so does all after it
 * until virtual_disk_crash. nth 0: not any more. */
void virtual_disk_cut_power(struct virtual_disk *vd, uint64_t nth);
bool virtual_disk_power(const struct virtual_disk *vd); /* is on */
/* Power goes (if it has not) and comes back; failures and cuts planned are forgotten. */
void virtual_disk_crash(struct virtual_disk *vd);

/* Operations of the kinds so far, failed ones included. */
uint64_t virtual_disk_op_count(const struct virtual_disk *vd, unsigned kinds);
uint64_t virtual_disk_probe(const struct virtual_disk *vd, enum virtual_disk_probe probe);
const char *virtual_disk_probe_text(enum virtual_disk_probe probe);
/* Of all operations, their data and results so far. */
uint64_t virtual_disk_hash(const struct virtual_disk *vd);

/* Past the operations, seen and durable alike. The path must name a file. */
struct mr_bytes virtual_disk_content(struct virtual_disk *vd, const char *path);
void virtual_disk_replace(struct virtual_disk *vd, const char *path, struct mr_bytes content);
void virtual_disk_flip(struct virtual_disk *vd, const char *path, uint64_t offset, uint8_t mask);
/* A disk with the files as they are seen now, all durable, without failures planned. */
struct virtual_disk *virtual_disk_clone(const struct virtual_disk *vd, uint64_t seed);
