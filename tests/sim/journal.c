/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/journal.h"

#include "base/check.h"
#include "log/segment.h"

#include <stdio.h>
#include <stdlib.h>

struct putting {
    const struct sim_world *world;
    struct virtual_disk *copy;
    char empty[4096]; /* a segment's path; "": none */
};

/* A segment that was removed because it could not be made holds no record, and its number was given again. */
static enum mr_status find_empty(void *ctx, const char *name) {
    struct putting *p = ctx;
    char path[sizeof p->empty];
    struct mr_record record;
    uint64_t check;
    (void)snprintf(path, sizeof path, "data/log/%s", name); /* fits */
    if (virtual_disk_exists(p->world->disk, path) || !virtual_disk_exists(p->copy, path)) {
        return MR_OK;
    }
    struct mr_bytes content = virtual_disk_content(p->copy, path);
    if (content.len < MR_SEGMENT_HEADER + MR_RECORD_HEADER ||
        mr_record_decode(content.ptr + MR_SEGMENT_HEADER, &record, &check) != MR_OK) {
        memcpy(p->empty, path, sizeof path);
    }
    return MR_OK;
}

void sim_journal_put_back(const struct sim_world *w, struct virtual_disk *copy) {
    struct putting p = {.world = w, .copy = copy};
    virtual_disk_put_back(copy, w->disk);
    do {
        p.empty[0] = 0;
        enum mr_status status = mr_disk_list(virtual_disk_disk(copy), "data/log", find_empty, &p);
        MR_ASSERT(status == MR_OK);
        if (p.empty[0] != 0) {
            virtual_disk_remove(copy, p.empty);
        }
    } while (p.empty[0] != 0);
}

void sim_journal_open(struct sim_world *w, uint64_t last_lsn, struct sim_journal *ret) {
    struct mr_error error;
    *ret = (struct sim_journal){.disk = virtual_disk_clone(w->disk, 0)};
    sim_journal_put_back(w, ret->disk);
    enum mr_status status = mr_log_reader_open(virtual_disk_disk(ret->disk), "data/log", 1, &ret->reader, &error);
    if (status != MR_OK) {
        SIM_FAILS("the log cannot be read: %s", error.text);
    }
    if (last_lsn != UINT64_MAX) {
        mr_log_reader_limit(ret->reader, last_lsn);
    }
}

bool sim_journal_next(struct sim_journal *journal, struct mr_record *ret) {
    struct mr_error error;
    enum mr_status status = mr_log_reader_next(journal->reader, ret, &error);
    if (status != MR_OK && status != MR_END) {
        SIM_FAILS("the log cannot be read: %s", error.text);
    }
    return status == MR_OK;
}

void sim_journal_close(struct sim_journal *journal) {
    mr_log_reader_close(journal->reader);
    virtual_disk_close(journal->disk);
}
