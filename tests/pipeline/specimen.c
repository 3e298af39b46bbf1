/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/pipeline/specimen.h"

#include "log/manifest.h"
#include "log/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    EVENTS = 4,
    KEYS = 3,
    PAD = 20 << 10,
    SEGMENT = 36 << 10, /* two padded batches do not fit */
    TEXT_MAX = 1 << 16,
};

static const int64_t epoch_ms = INT64_C(1700000000000);

const char *const specimen_rooms[SPECIMEN_ROOMS] = {"data/log", "data/dead", "data/checkpoint"};

static const char yaml[] =
    "node: { data_dir: data, shards: 2 }\n"
    "limits: { body: 64KiB, inflated: 64KiB, event: 32KiB, batch_events: 1000, in_flight: 1MiB }\n"
    "log: { segment: 1200KiB, reserve: 0 }\n"
    "checkpoint: { every: 1d }\n"
    "streams: { s: { id: id, time: { field: ts, format: ms },\n"
    "  dedup: { mode: exact, horizon: 24h, ids: 1000 },\n"
    "  watermark: { out_of_orderness: 0s, idle_timeout: off } } }\n"
    "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
    "  allowed_lateness: 5s, metrics: { n: count, total: { sum: value } } } }\n";

/* ---- the events ---- */

static bool is_padded(uint32_t batch) {
    return batch == 3 || batch == 5 || batch == 9;
}

uint32_t specimen_too_late(uint32_t batch) {
    return batch == 8 || batch == 10;
}

uint32_t specimen_rejected(uint32_t batch) {
    return batch % 4 == 1;
}

uint32_t specimen_accepted(uint32_t batch) {
    bool again = batch >= 1 && batch < SPECIMEN_BATCHES;
    return EVENTS + (batch >= 5) + (batch >= 1 && !again);
}

static void add_event(struct mr_buf *body, const char *id, int64_t ts, uint32_t value, size_t pad) {
    mr_buf_printf(body, "{\"id\":\"%s\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%u,\"pad\":\"", id,
                  (long long)ts, value % KEYS, value);
    for (size_t i = 0; i < pad; i++) {
        mr_buf_append(body, "x", 1);
    }
    mr_buf_append(body, "\"}\n", 3);
}

bool specimen_send(struct node *node, uint32_t batch) {
    struct mr_buf body;
    char id[16];
    int64_t ts = epoch_ms + (int64_t)batch * 1000;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < EVENTS; i++) {
        (void)snprintf(id, sizeof id, "%u-%u", batch, i);
        add_event(&body, id, ts + i, batch * EVENTS + i, is_padded(batch) && i == 0 ? PAD : 0);
    }
    if (batch >= 1) { /* again; behind the closing batch it is new */
        (void)snprintf(id, sizeof id, "%u-0", batch - 1);
        add_event(&body, id, ts, 999, 0);
    }
    if (batch >=
        5) { /* a window fires once more: one of those before, or one from before a checkpoint */
        (void)snprintf(id, sizeof id, "%u-late", batch);
        add_event(&body, id, ts - (batch % 2 == 0 ? 2000 : 5000), 1000 + batch, 0);
    }
    if (specimen_too_late(batch) > 0) {
        (void)snprintf(id, sizeof id, "%u-dead", batch);
        add_event(&body, id, ts - 8000, 2000 + batch, 0);
    }
    if (specimen_rejected(batch) > 0) {
        mr_buf_printf(&body, "{\"ts\":%lld,\"key\":\"%u-none\"}\n", (long long)ts, batch);
    }
    return node_send(node, &body);
}

/* ---- what a node says ---- */

struct row_text {
    struct mr_buf text;
    bool with_final;
};

static void append_hex(struct mr_buf *text, struct mr_bytes bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        mr_buf_printf(text, "%02x", bytes.ptr[i]);
    }
}

static bool add_row(void *ctx, const struct mr_pane *row) {
    struct row_text *rows = ctx;
    mr_buf_printf(&rows->text, "%lld ", (long long)row->window_start_ms);
    append_hex(&rows->text, row->key);
    mr_buf_printf(&rows->text, " %llu ", (unsigned long long)row->events);
    append_hex(&rows->text, row->state);
    mr_buf_printf(&rows->text, "%s\n", rows->with_final && row->final ? " final" : "");
    return true;
}

struct mr_buf specimen_rows(const struct node *node, bool with_final) {
    struct row_text rows = {.with_final = with_final};
    mr_buf_init(&rows.text, TEXT_MAX);
    mr_memory_results_each(node->results, 0, add_row, &rows);
    assert_false(rows.text.failed);
    return rows.text;
}

bool specimen_flush(struct node *node) {
    struct mr_ask ask = {.kind = MR_ASK_FLUSH};
    return node_ask(node, &ask);
}

bool specimen_save(struct node *node) {
    struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT};
    return node_ask(node, &ask) && ask.status == MR_OK;
}

/* ---- its life ---- */

static bool copy_row(void *ctx, const struct mr_pane *row) {
    assert_int_equal(mr_results_put(ctx, row), MR_OK);
    return true;
}

static struct mr_results *copy_results(const struct specimen *specimen, struct mr_results *from) {
    struct mr_results *copy = node_open_results(&specimen->node);
    if (mr_results_flushed_seq(from) > 0) {
        assert_int_equal(mr_results_begin(copy), MR_OK);
        mr_memory_results_each(from, 0, copy_row, copy);
        assert_int_equal(mr_results_commit(copy, mr_results_flushed_seq(from)), MR_OK);
    }
    return copy;
}

struct mr_results *specimen_results(const struct specimen *specimen, enum specimen_store store) {
    return copy_results(specimen, specimen->stores[store]);
}

static void take_snapshot(struct node *node, struct snapshot *ret) {
    assert_true(specimen_flush(node));
    mr_pipeline_stream_stats(node->pipeline, 0, &ret->stats);
    ret->hash = mr_pipeline_state_hash_scan(node->pipeline);
    ret->rows = specimen_rows(node, false);
}

static void start(struct node *node) {
    struct mr_error error;
    if (node_start(node, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(node_become_live(node));
}

static void send(struct specimen *specimen, uint32_t batch) {
    struct node *node = &specimen->node;
    take_snapshot(node, &specimen->at[batch]);
    assert_true(specimen_send(node, batch));
    assert_int_equal(node->answer.accepted, specimen_accepted(batch));
    assert_int_equal(node->answer.duplicate, batch >= 1);
    assert_int_equal(node->answer.late, specimen_too_late(batch));
    assert_int_equal(node->answer.rejected, specimen_rejected(batch));
    specimen->at[batch].answer = node->answer;
}

/* The key decides which shard an id belongs to: with this one the same files come out each time. */
static void write_key(struct virtual_disk *disk) {
    static const char key[] = "0123456789abcdef0123456789abcdef";
    struct mr_file *file;
    assert_int_equal(mr_disk_mkdir(virtual_disk_disk(disk), "data"), MR_OK);
    assert_int_equal(mr_file_open(virtual_disk_disk(disk), "data/KEY", MR_FILE_CREATE_NEW, &file),
                     MR_OK);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(key, sizeof key - 1), 0), MR_OK);
    mr_file_close(file);
}

static void run_node(struct specimen *specimen) {
    struct node *node = &specimen->node;
    start(node);
    for (uint32_t i = 0; i < SPECIMEN_BATCHES; i++) {
        send(specimen, i);
        if (i == 2 || i == 6 || i == 7) {
            assert_true(specimen_flush(node) && specimen_save(node));
        }
        if (i == 6) {
            node_stop(node);
            start(node);
        }
        if (i == 7) {
            specimen->stores[SPECIMEN_BEHIND] = copy_results(specimen, node->results);
        }
    }
    take_snapshot(node, &specimen->at[SPECIMEN_BATCHES]);
    node_stop(node);
    specimen->stores[SPECIMEN_WHOLE] = node->results;
    specimen->stores[SPECIMEN_GONE] = node_open_results(node);
    specimen->disk = node->disk;
    specimen->wall_ms = node->clock.wall_ms;
    node->disk = NULL;
    node->results = NULL;
}

/* ---- its files ---- */

struct listing {
    struct specimen *specimen;
    enum specimen_room room;
};

static enum mr_status add_file(void *ctx, const char *name) {
    struct listing *l = ctx;
    assert_true(l->specimen->file_count < SPECIMEN_FILES_MAX);
    struct specimen_file *file = &l->specimen->files[l->specimen->file_count++];
    *file = (struct specimen_file){.room = l->room};
    int len = snprintf(file->path, sizeof file->path, "%s/%s", specimen_rooms[l->room], name);
    assert_true(len > 0 && (size_t)len < sizeof file->path);
    return MR_OK;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct specimen_file *)a)->path, ((const struct specimen_file *)b)->path);
}

static void find_records(struct specimen_file *file) {
    uint64_t at = MR_SEGMENT_HEADER;
    uint64_t payload_check;
    uint32_t number;
    bool finished;
    struct mr_record record;
    assert_true(mr_segment_name_parse(file->name, &file->first_lsn, &number, &finished));
    assert_true(finished);
    while (at + MR_RECORD_HEADER <= file->content.len &&
           mr_record_decode(file->content.ptr + at, &record, &payload_check) == MR_OK) {
        uint64_t to = at + mr_record_size(record.payload.len);
        assert_true(file->record_count < SPECIMEN_RECORDS_MAX);
        assert_int_equal(record.bundle_count, 1); /* so a record is a bundle */
        file->records[file->record_count++] =
            (struct specimen_record){at, to, record.type == MR_RECORD_EVENTS};
        at = to;
    }
}

static bool names_part(const struct mr_manifest *m, const char *name) {
    char part[48];
    for (uint32_t i = 0; i < m->part_count; i++) {
        (void)snprintf(part, sizeof part, "part-%016llu",
                       (unsigned long long)m->parts[i].id.number);
        if (strcmp(part, name) == 0) {
            return true;
        }
    }
    return false;
}

static void look_at_checkpoints(struct specimen *specimen) {
    struct mr_restored restored;
    struct mr_error error;
    uint32_t shared = 0;
    assert_int_equal(mr_restored_open(virtual_disk_disk(specimen->disk),
                                      specimen_rooms[SPECIMEN_CHECKPOINT], &restored, &error),
                     MR_OK);
    assert_true(restored.newest.number > restored.before.number && restored.before.number > 0);
    specimen->lsn = restored.newest.lsn;
    specimen->dead_lsn = restored.dead_lsn;
    for (uint32_t i = 0; i < specimen->file_count; i++) {
        struct specimen_file *file = &specimen->files[i];
        file->shared =
            names_part(&restored.newest, file->name) && names_part(&restored.before, file->name);
        shared += file->shared;
    }
    assert_true(shared > 0);
    mr_restored_finish(&restored);
}

static void find_files(struct specimen *specimen) {
    for (enum specimen_room room = SPECIMEN_LOG; room < SPECIMEN_ROOMS; room++) {
        struct listing l = {specimen, room};
        assert_int_equal(
            mr_disk_list(virtual_disk_disk(specimen->disk), specimen_rooms[room], add_file, &l),
            MR_OK);
    }
    qsort(specimen->files, specimen->file_count, sizeof specimen->files[0], by_path);
    uint32_t segments = 0;
    uint32_t batches = 0;
    for (uint32_t i = 0; i < specimen->file_count; i++) {
        struct specimen_file *file = &specimen->files[i];
        file->name = strrchr(file->path, '/') + 1;
        file->content = virtual_disk_content(specimen->disk, file->path);
        if (file->room == SPECIMEN_CHECKPOINT) {
            continue;
        }
        find_records(file);
        file->newest = i + 1 == specimen->file_count || file[1].room != file->room;
        segments += file->room == SPECIMEN_LOG;
        for (uint32_t k = 0; k < file->record_count; k++) {
            batches += file->room == SPECIMEN_LOG && file->records[k].events;
        }
    }
    specimen->batches_gone = SPECIMEN_BATCHES - batches;
    look_at_checkpoints(specimen);
    assert_int_equal(segments, specimen->trimmed ? 2 : 3);
}

/* ---- life ---- */

struct specimen *specimen_open(bool trimmed) {
    struct specimen *specimen = calloc(1, sizeof *specimen);
    assert_non_null(specimen);
    struct node *node = &specimen->node;
    specimen->trimmed = trimmed;
    node_open(node, yaml, epoch_ms);
    node->config->log.segment_bytes = SEGMENT; /* smaller than anybody may say */
    node->config->log.retain_bytes = trimmed ? 1 : UINT64_MAX;
    write_key(node->disk);
    run_node(specimen);
    find_files(specimen);
    return specimen;
}

void specimen_close(struct specimen *specimen) {
    for (uint32_t i = 0; i <= SPECIMEN_BATCHES; i++) {
        mr_buf_finish(&specimen->at[i].rows);
    }
    for (enum specimen_store i = SPECIMEN_WHOLE; i < SPECIMEN_STORES; i++) {
        mr_results_close(specimen->stores[i]);
    }
    virtual_disk_close(specimen->disk);
    node_close(&specimen->node);
    free(specimen);
}
