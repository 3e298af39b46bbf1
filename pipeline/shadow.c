/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow: what replay does otherwise when the log is another process's, perhaps a live one's, and the configuration is
 * not the one it was written under (docs/REPLAY.md).
 */
#include "base/check.h"
#include "config/change.h"
#include "pipeline/stations.h"

/* A bundle half written when it was looked at, and the next one behind it, look like damage; by then it is whole, and
 * reads well the second time. */
enum mr_status mr_shadow_record(struct mr_sequencer *s, struct mr_error *error) {
    enum mr_status status = mr_log_reader_next(s->replay, &s->replay_record, error);
    if (status == MR_CORRUPT) {
        status = mr_log_reader_next(s->replay, &s->replay_record, error);
    }
    return status == MR_OK && s->replay_record.lsn > s->shadow_to_lsn ? MR_END : status;
}

/* Where a store decides, events wait for the verdicts in the log; where none does, there are no verdicts. */
static enum mr_status compare_streams(const struct mr_plan *plan, const struct mr_config *then,
                                      struct mr_error *error) {
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        struct mr_bytes name = plan->streams[i].name;
        uint32_t old = mr_config_stream_index(then, name);
        bool claimed = old != UINT32_MAX && then->streams[old].dedup.mode == MR_CONFIG_REDIS;
        if (old != UINT32_MAX && claimed != plan->streams[i].claimed) {
            return mr_error_set(
                error, MR_MISMATCH,
                "streams.%.*s.dedup.mode is %s, but was %s when a part of the log was written: events of the "
                "one kind have verdicts of the shared store in the log, those of the other have not",
                (int)name.len, (const char *)name.ptr, claimed ? "not redis" : "redis",
                claimed ? "redis" : "not redis");
        }
    }
    return MR_OK;
}

enum mr_status mr_shadow_config(const struct mr_sequencer *s, struct mr_error *error) {
    struct mr_config *then = NULL;
    enum mr_status status = mr_config_parse_state(s->replay_record.payload, "a configuration in the log", &then, error);
    if (status == MR_OK) {
        status = compare_streams(s->pipeline->plan, then, error);
    }
    mr_config_close(then);
    return status;
}

enum mr_status mr_shadow_events(struct mr_sequencer *s, enum mr_status status, uint32_t events) {
    MR_ASSERT(status != MR_OK);
    if (status != MR_MISMATCH) {
        return status;
    }
    mr_counter_add(&s->shadow_gone, events);
    return MR_OK;
}

enum mr_status mr_shadow_verdicts(struct mr_sequencer *s, enum mr_status status, uint32_t events,
                                  struct mr_error *error) {
    MR_ASSERT(s->shadow || status == MR_MISMATCH);
    if (status == MR_OK) {
        return mr_error_set(error, MR_MISMATCH,
                            "the log has verdicts of a shared store for a stream whose dedup.mode is not redis");
    }
    if (status == MR_NOT_FOUND) { /* from before the log's beginning, or lost to damage */
        mr_counter_add(&s->shadow_unknown, events);
        return MR_OK;
    }
    return status == MR_MISMATCH ? MR_OK : status; /* counted when its events were met */
}
