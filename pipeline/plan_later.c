/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plan later: what a configuration can say and the stations cannot do. One clause each: whoever teaches the stations
 * deletes it, and the file with the last one.
 */
#include "pipeline/plan_later.h"

static enum mr_status later(struct mr_error *error, const char *where, struct mr_bytes name,
                            const char *option) {
    return mr_error_set(error, MR_UNSUPPORTED, "`%s.%.*s.%s`: %s", where, (int)name.len,
                        (const char *)name.ptr, option, mr_status_text(MR_UNSUPPORTED));
}

static enum mr_status stream_later(const struct mr_config_stream *s, struct mr_error *error) {
    if (s->dedup.conflicts) {
        return later(error, "streams", s->name, "dedup.conflicts: detect");
    }
    return MR_OK;
}

enum mr_status mr_plan_later(const struct mr_config *config, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < config->stream_count; i++) {
        status = stream_later(&config->streams[i], error);
    }
    return status;
}
