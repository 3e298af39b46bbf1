/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/journal.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void sim_journal_open(struct sim_world *w, uint64_t last_lsn, struct sim_journal *ret) {
    struct mr_error error;
    *ret = (struct sim_journal){.disk = virtual_disk_clone(w->disk, 0)};
    virtual_disk_put_back(ret->disk, w->disk);
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
