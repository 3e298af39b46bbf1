/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters: events (or groups) that were not counted, kept with the reason.
 *
 * Shape       The payload of a DEAD record is entries one behind the other:
 *
 *                 | json_len u32 | stream u16 | reason u8 | zero u8 | json |
 *
 *             json is one object, by reason:
 *               late, future  {"reason","stream","lsn","index","time","watermark","rules":[…],"event":{…}}
 *               rejected      {"reason","code","stream","lsn","index","raw":"…"}
 *               conflict      {"reason","stream","lsn","index","time","event":{…}}
 *               groups        {"reason","stream","rules":[…],"seq","window_start","window_end","group":{…},"events"}
 *             lsn and index name the event in the log; seq names the bundle.
 */
#include "base/bytes.h"

#define MR_DEAD_REASON_TABLE(X)                                                                    \
    X(LATE, "late")         /* too late for the rules named */                                     \
    X(FUTURE, "future")     /* further ahead of recorded time than max_future */                   \
    X(REJECTED, "rejected") /* not well-formed, no id, out of bounds */                            \
    X(GROUPS, "groups")     /* dropped by a rule's bound on groups */                              \
    X(CONFLICT, "conflict") /* a duplicate with another content than what came first */

enum mr_dead_reason {
#define X(name, text) MR_DEAD_##name,
    MR_DEAD_REASON_TABLE(X)
#undef X
        MR_DEAD_REASON_COUNT
};

const char *mr_dead_reason_text(enum mr_dead_reason reason);

struct mr_dead {
    uint32_t stream;
    enum mr_dead_reason reason;
    struct mr_bytes json;
};

/* The stream's name in an entry's JSON: it says the stream for ever, unlike the number, which is the stream's place in
 * the configuration the entry was made under. Empty when it has none. */
struct mr_bytes mr_dead_stream(const struct mr_dead *dead);

/* Which event of the log the entry is about; false: it is about none (groups). */
bool mr_dead_place(const struct mr_dead *dead, uint64_t *ret_lsn, uint32_t *ret_index);

/* Starts an entry: returns where its header stands; the caller then appends the JSON to buf. */
size_t mr_dead_begin(struct mr_buf *buf, uint32_t stream, enum mr_dead_reason reason);
/* Fills in the length of the entry begun at `at`. */
void mr_dead_end(struct mr_buf *buf, size_t at);
/* Takes the first entry off *rest; false at the end or on malformed bytes. */
bool mr_dead_next(struct mr_bytes *rest, struct mr_dead *ret);
