/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/lookups.h"

#include "base/check.h"
#include "base/report.h"

#include <inttypes.h>
#include <stdio.h>

enum { FOUND_MAX = 256 /* the rest at the next start */ };

struct content {
    uint64_t hash;
    uint64_t len;
};

struct dropping {
    struct mr_data *data;
    struct content found[FOUND_MAX];
    uint32_t count;
};

static enum mr_status on_name(void *ctx, const char *name) {
    struct dropping *d = ctx;
    struct content content;
    int end = 0;
    bool is = sscanf(name, "LOOKUP-%16" SCNx64 "-%" SCNu64 "%n", &content.hash, &content.len, &end) == 2 &&
              name[end] == '\0'; /* notes, which go with their content, do not end there */
    if (is && d->count < FOUND_MAX) {
        d->found[d->count++] = content;
    }
    return MR_OK;
}

static void leave_out(struct dropping *d, uint64_t hash, uint64_t len) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->found[i].hash != hash || d->found[i].len != len) {
            d->found[kept++] = d->found[i];
        }
    }
    d->count = kept;
}

/* One that the configuration does not name. */
static enum mr_status note_or_drop(const struct dropping *d, const struct content *content, struct mr_error *error) {
    struct mr_data *data = d->data;
    uint64_t until_lsn = 0;
    enum mr_status status = mr_datadir_read_lookup_until(&data->dir, content->hash, content->len, &until_lsn, error);
    if (status == MR_NOT_FOUND) {
        return mr_datadir_write_lookup_until(&data->dir, content->hash, content->len, mr_log_last_lsn(data->log),
                                             error);
    }
    if (status == MR_OK && mr_log_first_lsn(data->log) > until_lsn) {
        status = mr_datadir_drop_lookup(&data->dir, content->hash, content->len, error);
        if (status == MR_OK) {
            mr_report(MR_LEVEL_INFO, "lookup_dropped", "hash=%016" PRIx64 " bytes=%" PRIu64, content->hash,
                      content->len);
        }
    }
    return status;
}

void mr_lookups_drop(struct mr_data *data) {
    const struct mr_config *config = data->options.config;
    struct dropping d = {.data = data};
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_disk_list(data->options.disk, data->dir.path, on_name, &d);
    if (status != MR_OK) {
        d.count = 0; /* the next start looks again */
    }
    for (uint32_t i = 0; i < config->lookup_count; i++) {
        struct mr_bytes bytes = config->lookups[i].data;
        leave_out(&d, mr_checksum(bytes), bytes.len);
    }
    for (uint32_t i = 0; i < d.count; i++) {
        status = note_or_drop(&d, &d.found[i], &error);
        if (status != MR_OK) {
            char shown[MR_ERROR_TEXT_MAX];
            mr_report(MR_LEVEL_WARN, "lookup_kept", "reason=%s", mr_report_value(error.text, shown, sizeof shown));
        }
    }
}
