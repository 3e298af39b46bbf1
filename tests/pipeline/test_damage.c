/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage at rest: of a node that has stopped one file of its log, its dead letters or its checkpoints is damaged, at
 * every byte and in six ways, and it is started:
 *   1. it starts, and has lost nothing: ledger, state, rows and dead letters are what they were, every event sent
 *      again is a duplicate, what comes later is counted as if nothing had happened, it saves itself and starts again;
 *   2. or it refuses, with a text that names the file. Not where it need not: damage to a checkpoint is survived while
 *      the other one or the whole log is there, and so is damage to what no start reads.
 *   3. What cannot be told from a torn tail (log/log.h) may be lost: the bundles from the first damaged one on, when
 *      all of them are damaged; and a newest segment that is not there. Nothing else is lost with them, and sent again
 *      they are counted once.
 * The results store is as the node left it, or as after a crash before the last batches, or gone.
 *
 * DAMAGE_STEP=n does about every n-th damage only (default: a step that keeps the test short), DAMAGE_STEP=1 all.
 */
#include "base/dead.h"
#include "base/report.h"
#include "pipeline/dead_letters.h"
#include "tests/pipeline/specimen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BATCHES = SPECIMEN_BATCHES, SECTOR = 512, TEXT_MAX = 1 << 16, SHOWN_MAX = 20 };

enum damage { FLIP, ZERO, CUT, GARBAGE, SWAP, MISSING, DAMAGES };

static const char *const damage_names[DAMAGES] = {"flip",    "zero", "cut",
                                                  "garbage", "swap", "missing"};

struct sweep {
    struct specimen *specimen;
    struct mr_buf
        closed_rows; /* once all was sent again, and the closing batch: of the first trial */
    uint32_t tried;
    uint32_t started;
    uint32_t refused;
    uint32_t lost; /* started without the last batches */
    uint32_t wrong;
};

/* One start of a damaged node. */
struct trial {
    struct sweep *sweep;
    struct specimen *specimen;
    const struct specimen_file *file;
    enum damage damage;
    enum specimen_store store;
    size_t at;
    const uint8_t *content; /* damaged */
    size_t len;
    /* What follows from it. */
    uint32_t batches; /* so many there were up to the first damaged bundle */
    bool may_lose;    /* the ones behind */
    bool may_refuse;
};

/* ---- damage ---- */

static uint64_t random_number(uint64_t *random) {
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *random >> 32;
}

static void swap_blocks(uint8_t *content, size_t len, size_t at) {
    size_t block = len / 4 < SECTOR ? len / 4 : SECTOR;
    size_t other = at + block * (1 + at % 3);
    for (size_t i = 0; i < block && other + block <= len; i++) {
        uint8_t byte = content[at + i];
        content[at + i] = content[other + i];
        content[other + i] = byte;
    }
}

/* Returns the new length. */
static size_t do_damage(uint8_t *content, size_t len, enum damage damage, size_t at) {
    uint64_t random = at;
    switch (damage) {
    case FLIP:
        content[at] ^= (uint8_t)(1u << at % 8);
        break;
    case ZERO:
        memset(content + at, 0, len - at < SECTOR ? len - at : SECTOR);
        break;
    case GARBAGE:
        for (size_t i = at; i < len; i++) {
            content[i] = (uint8_t)random_number(&random);
        }
        break;
    case SWAP:
        swap_blocks(content, len, at);
        break;
    case CUT:
        return at;
    case MISSING:
    case DAMAGES:
        break;
    }
    return len;
}

static void wrong(struct trial *t, const char *what, const char *text) {
    if (t->sweep->wrong++ < SHOWN_MAX) {
        print_error("%s%s at %zu of %s, store %d: %s: %s\n",
                    t->specimen->trimmed ? "trimmed, " : "", damage_names[t->damage], t->at,
                    t->file->path, t->store, what, text);
    }
}

/* ---- what may follow ---- */

static bool touched(const struct trial *t, uint64_t from, uint64_t to) {
    return t->damage == MISSING || t->len < to ||
           memcmp(t->content + from, t->file->content.ptr + from, to - from) != 0;
}

/* Which batches were there before the first damaged bundle, whether all bundles from there on are damaged, and whether a
 * start reads what is damaged. */
static void judge_segment(struct trial *t) {
    const struct specimen *specimen = t->specimen;
    const struct specimen_file *file = t->file;
    bool log = file->room == SPECIMEN_LOG;
    uint64_t needed =
        t->store == SPECIMEN_GONE ? 1 : (log ? specimen->lsn : specimen->dead_lsn) + 1;
    bool read = file->newest || file[1].first_lsn > needed;
    bool header = touched(t, 0, file->records[0].from) || t->len < file->content.len;
    bool any = false;
    bool all = file->newest;
    t->batches = specimen->batches_gone;
    for (const struct specimen_file *f = specimen->files; f <= file; f++) {
        for (uint32_t i = 0; i < f->record_count && f->room == file->room; i++) {
            bool hit = f == file && touched(t, f->records[i].from, f->records[i].to);
            all = all && (hit || !any);
            any = any || hit;
            t->batches += !any && f->records[i].events;
        }
    }
    t->may_lose = log && any && all;
    /* A swap may leave a whole later bundle at another place: the proof that it was not torn. */
    bool proof = !all || !log || t->damage == SWAP;
    t->may_refuse = header || (any && read && proof);
}

static void judge(struct trial *t) {
    t->may_refuse = t->specimen->trimmed && t->file->shared;
    t->may_lose = false;
    if (t->file->room != SPECIMEN_CHECKPOINT) {
        judge_segment(t);
    }
}

/* ---- dead letters ---- */

/* Every entry's JSON, one behind the other. */
static void add_dead(void *ctx, const struct mr_dead *entry) {
    mr_buf_append_bytes(ctx, entry->json);
}

static enum mr_status read_dead(struct node *node, struct mr_buf *ret) {
    struct mr_error error;
    struct mr_dead_page page = {.stream = UINT32_MAX,
                                .reason = -1,
                                .limit = 1000,
                                .last_lsn = mr_pipeline_dead_lsn(node->pipeline),
                                .visit = add_dead,
                                .ctx = ret};
    mr_buf_init(ret, TEXT_MAX);
    enum mr_status status = mr_dead_letters_read(virtual_disk_disk(node->disk),
                                                 specimen_rooms[SPECIMEN_DEAD], &page, &error);
    mr_buf_append(ret, "", 1);
    assert_false(ret->failed || page.more);
    return status;
}

static uint32_t count_of(const struct mr_buf *text, uint32_t batch, const char *what) {
    char word[32];
    uint32_t count = 0;
    (void)snprintf(word, sizeof word, "\"%u-%s", batch, what);
    for (const char *at = (const char *)text->ptr; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Each once, and what has no id once more when it was sent again. Those of batches that the log has lost are there from
 * before, and come again. */
static void check_dead(struct trial *t, struct node *node, uint32_t batches, uint32_t again) {
    struct mr_buf text;
    enum mr_status status = read_dead(node, &text);
    if (status != MR_OK) {
        wrong(t, "dead letters", mr_status_text(status));
    }
    for (uint32_t i = 0; status == MR_OK && i < BATCHES; i++) {
        uint32_t more = i >= batches ? again : 0;
        uint32_t late = count_of(&text, i, "dead");
        uint32_t rejected = count_of(&text, i, "none");
        bool late_right = late >= specimen_too_late(i) && late <= specimen_too_late(i) * (1 + more);
        bool rejected_right = rejected == specimen_rejected(i) * (1 + again);
        if (!late_right || !rejected_right) {
            wrong(t, "dead letters", late_right ? "rejected" : "late");
            break;
        }
    }
    mr_buf_finish(&text);
}

/* ---- what must be so ---- */

static bool same_ledger(const struct mr_stream_stats *a, const struct mr_stream_stats *b) {
    return a->received == b->received && a->accepted == b->accepted &&
           a->duplicate == b->duplicate && a->late == b->late && a->future == b->future &&
           a->rejected == b->rejected && a->dedup_ids == b->dedup_ids;
}

static bool same(const struct mr_buf *a, const struct mr_buf *b) {
    return mr_bytes_equal(mr_buf_bytes(a), mr_buf_bytes(b));
}

/* Returns how many batches the node has, judged by its ledger. */
static uint32_t check_start(struct trial *t, struct node *node) {
    const struct snapshot *at = t->specimen->at;
    struct mr_stream_stats stats;
    mr_pipeline_stream_stats(node->pipeline, 0, &stats);
    uint32_t batches = BATCHES;
    while (batches > 0 && at[batches].stats.received > stats.received) {
        batches--;
    }
    if (batches < BATCHES && !(t->may_lose && batches >= t->batches)) {
        wrong(t, "lost", "acknowledged batches");
    }
    if (!same_ledger(&stats, &at[batches].stats)) {
        wrong(t, "ledger", "");
    }
    if (mr_pipeline_state_hash_scan(node->pipeline) != at[batches].hash) {
        wrong(t, "state", "");
    }
    struct mr_buf rows = specimen_rows(node, false);
    if (!same(&rows, &at[batches].rows)) {
        wrong(t, "rows", batches < BATCHES ? "without the last batches" : "");
    }
    mr_buf_finish(&rows);
    check_dead(t, node, batches, 0);
    return batches;
}

static void check_sent_again(struct trial *t, struct node *node, uint32_t batches) {
    for (uint32_t i = 0; i < BATCHES; i++) {
        struct node_answer was = t->specimen->at[i].answer;
        if (i < batches) {
            was.duplicate += was.accepted + was.late;
            was.accepted = 0;
            was.late = 0;
        }
        bool sent = specimen_send(node, i);
        const struct node_answer *is = &node->answer;
        if (!sent || is->accepted != was.accepted || is->duplicate != was.duplicate ||
            is->late != was.late || is->rejected != was.rejected) {
            wrong(t, "verdicts", "");
        }
    }
    if (!specimen_send(node, SPECIMEN_CLOSING) || !specimen_flush(node)) {
        wrong(t, "stopped", "");
        return;
    }
    struct mr_buf rows = specimen_rows(node, true);
    if (t->sweep->closed_rows.len == 0) {
        mr_buf_append_bytes(&t->sweep->closed_rows, mr_buf_bytes(&rows));
    } else if (!same(&rows, &t->sweep->closed_rows)) {
        wrong(t, "rows at the end", "");
    }
    mr_buf_finish(&rows);
    check_dead(t, node, batches, 1);
}

/* A node that came up saves itself, and comes up again. */
static void check_goes_on(struct trial *t, struct node *node) {
    struct mr_stream_stats before;
    struct mr_stream_stats after;
    struct mr_error error;
    if (node->pipeline == NULL || !specimen_save(node)) {
        wrong(t, "no checkpoint", "");
        return;
    }
    mr_pipeline_stream_stats(node->pipeline, 0, &before);
    node_stop(node);
    if (node_start(node, &error) != MR_OK || !node_become_live(node)) {
        wrong(t, "no second start", error.text);
        return;
    }
    mr_pipeline_stream_stats(node->pipeline, 0, &after);
    uint64_t accepted =
        t->specimen->at[BATCHES].stats.accepted + specimen_accepted(SPECIMEN_CLOSING);
    if (!same_ledger(&before, &after) || before.accepted != accepted ||
        before.received != before.accepted + before.duplicate + before.late + before.rejected) {
        wrong(t, "ledger at the end", "");
    }
}

static void check_refused(struct trial *t, enum mr_status status, const struct mr_error *error) {
    const char *name = t->damage == MISSING ? specimen_rooms[t->file->room] : t->file->name;
    t->sweep->refused++;
    if (status != MR_CORRUPT && status != MR_MISMATCH) {
        wrong(t, mr_status_text(status), error->text);
    } else if (!t->may_refuse) {
        wrong(t, "refused", error->text);
    } else if (strstr(error->text, name) == NULL) {
        wrong(t, "names no file", error->text);
    }
}

/* ---- trials ---- */

static void start_damaged(struct trial *t) {
    struct node *node = &t->specimen->node;
    struct mr_error error;
    judge(t);
    node->results = specimen_results(t->specimen, t->store);
    node->clock.wall_ms = t->specimen->wall_ms;
    t->sweep->tried++;
    enum mr_status status = node_start(node, &error);
    if (status == MR_OK && !node_become_live(node)) {
        status = mr_pipeline_failure(node->pipeline, &error);
    }
    if (status != MR_OK) {
        check_refused(t, status, &error);
    } else if (!specimen_flush(node)) {
        wrong(t, "stopped", "");
    } else {
        t->sweep->started++;
        uint32_t batches = check_start(t, node);
        t->sweep->lost += batches < BATCHES;
        check_sent_again(t, node, batches);
        check_goes_on(t, node);
    }
    node_stop(node);
    mr_results_close(node->results);
    node->results = NULL;
}

static void start_copy(struct trial *t) {
    struct virtual_disk *disk = virtual_disk_clone(t->specimen->disk, 1);
    if (t->damage == MISSING) {
        const char *dir = specimen_rooms[t->file->room];
        assert_int_equal(mr_disk_unlink(virtual_disk_disk(disk), t->file->path), MR_OK);
        assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(disk), dir), MR_OK);
    } else {
        virtual_disk_replace(disk, t->file->path, mr_bytes_of(t->content, t->len));
    }
    t->specimen->node.disk = disk;
    start_damaged(t);
    virtual_disk_close(disk);
    t->specimen->node.disk = NULL;
}

static void try(struct sweep *sweep, const struct specimen_file *file, enum damage damage,
                size_t at, enum specimen_store store) {
    size_t len = file->content.len;
    uint8_t *content = malloc(len);
    assert_non_null(content);
    memcpy(content, file->content.ptr, len);
    struct trial t = {.sweep = sweep,
                      .specimen = sweep->specimen,
                      .file = file,
                      .damage = damage,
                      .store = store,
                      .at = at,
                      .content = content,
                      .len = do_damage(content, len, damage, at)};
    if (damage == MISSING || t.len < len || memcmp(content, file->content.ptr, len) != 0) {
        start_copy(&t);
    }
    free(content);
}

/* In a long run of one byte every place is as good as another. */
static bool is_dull(struct mr_bytes content, size_t at) {
    enum { AROUND = 8, ONE_IN = 509 };
    if (at < AROUND || at + AROUND >= content.len || at % ONE_IN == 0) {
        return false;
    }
    for (size_t i = at - AROUND; i <= at + AROUND; i++) {
        if (content.ptr[i] != content.ptr[at]) {
            return false;
        }
    }
    return true;
}

static void try_missing(struct sweep *sweep, const struct specimen_file *file, uint32_t stores) {
    /* The store and the log's beginning both gone: the node cannot know that rows are missing. */
    bool first = file->room == SPECIMEN_LOG && file->first_lsn == 1;
    for (uint32_t store = 0; store < stores; store++) {
        if (!first || store != SPECIMEN_GONE) {
            try(sweep, file, MISSING, 0, (enum specimen_store)store);
        }
    }
}

static void try_all(bool trimmed, uint64_t step) {
    const char *told = getenv("DAMAGE_STEP");
    step = told != NULL ? strtoull(told, NULL, 10) : step;
    struct sweep sweep = {.specimen = specimen_open(trimmed)};
    mr_buf_init(&sweep.closed_rows, TEXT_MAX);
    uint32_t stores = trimmed ? SPECIMEN_GONE : SPECIMEN_STORES;
    uint64_t random = 1;
    for (uint32_t i = 0; i < sweep.specimen->file_count; i++) {
        const struct specimen_file *file = &sweep.specimen->files[i];
        try_missing(&sweep, file, stores);
        for (size_t at = 0; at < file->content.len; at++) {
            for (enum damage d = FLIP; d < MISSING && !is_dull(file->content, at); d++) {
                uint64_t drawn = random_number(&random);
                if (drawn % step == 0) {
                    try(&sweep, file, d, at, (enum specimen_store)(drawn / step % stores));
                }
            }
        }
    }
    print_message(
        "%u damages in %u files: %u starts, %u of them without the last batches; %u refused\n",
        sweep.tried, sweep.specimen->file_count, sweep.started, sweep.lost, sweep.refused);
    assert_int_equal(sweep.wrong, 0);
    assert_true(sweep.lost > 0 && sweep.refused > 0 && sweep.started > sweep.refused / 2);
    mr_buf_finish(&sweep.closed_rows);
    specimen_close(sweep.specimen);
}

static void a_whole_log(void **state) {
    (void)state;
    try_all(false, 241);
}

static void a_trimmed_log(void **state) {
    (void)state;
    try_all(true, 601);
}

int main(void) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_log),
        cmocka_unit_test(a_trimmed_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
