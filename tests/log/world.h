/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * World: a log on a virtual disk beside the model of what it must hold.
 *
 * The model is a list of records: those acknowledged, and those that a recovery found of a bundle
 * that was not (they then stay for ever). Payloads are a function of seq, index and length, so
 * that any record can be checked without keeping it. START records are not in the model; their
 * place is checked by the chain.
 */
#include "log/log.h"
#include "tests/disk/virtual_disk.h"

struct expected {
    uint64_t seq;
    uint32_t index;
    uint32_t count;
    size_t len;
    int64_t recorded_ms;
};

enum { WORLD_BUNDLE_MAX = 8, WORLD_MAYBE_MAX = 8 };

struct bundle {
    uint64_t seq;
    uint32_t count;
    int64_t recorded_ms;
    size_t len[WORLD_BUNDLE_MAX];
};

struct world {
    struct virtual_disk *vd;
    struct mr_log *log; /* NULL: closed */
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    uint64_t from_lsn;
    bool sync;
    uint64_t random;
    int64_t now_ms;
    struct expected *truth;
    size_t truth_len;
    size_t truth_cap;
    struct bundle maybe[WORLD_MAYBE_MAX]; /* not acknowledged since the last one that was */
    size_t maybe_len;
};

#define WORLD_DIR "data/log"

void world_init(struct world *w, uint64_t seed, uint64_t segment_bytes);
void world_finish(struct world *w);
uint64_t world_below(struct world *w, uint64_t bound);

enum mr_status world_open(struct world *w, struct mr_error *error);
void world_close(struct world *w);
/* Power goes; the log is closed with its disk. */
void world_crash(struct world *w);

struct bundle world_bundle(struct world *w, size_t len_max);
/* Appends and moves the model. */
enum mr_status world_append(struct world *w, const struct bundle *b, struct mr_error *error);

/* Reads the whole log and fails the test unless it is the model and, behind it, at most a part of
 * a bundle that was not acknowledged. What is there then is the model. */
void world_check(struct world *w);
/* The same of any disk, reading dir; what is found is not taken over. Returns how many records were
 * read; a status other than MR_OK in *ret_status when reading ended with it. At least `least`
 * records of the model must be there; all that are there must be the model's, or of a maybe behind
 * it. */
size_t world_compare(const struct world *w, struct mr_disk *disk, const char *dir, size_t least,
                     enum mr_status *ret_status, struct mr_error *error);

void world_payload(uint64_t seq, uint32_t index, uint8_t *ret, size_t len);
