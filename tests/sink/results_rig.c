/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/results_rig.h"

#include "base/check.h"
#include "base/file.h"
#include "base/key.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME(text)                                                                                 \
    { (const uint8_t *)(text), sizeof(text) - 1 }

static const struct mr_bytes views_keys[] = {NAME("campaign_id"), NAME("data.country")};
static const struct mr_bytes views_metrics[] = {NAME("views"), NAME("spend"), NAME("avg-price")};
static const struct mr_bytes panes_keys[] = {NAME("events"), NAME("say \"hi\"")};
static const struct mr_bytes panes_metrics[] = {NAME("Events"), NAME("_key")};
static const struct mr_bytes total_metrics[] = {NAME("n")};

const struct mr_results_rule rig_rules[RIG_RULES] = {
    {NAME("ad_views"), views_keys, 2, views_metrics, 3, NAME("window 10000 ms"), false, false, false, 0},
    {NAME("panes"), panes_keys, 2, panes_metrics, 2, NAME("window 60000 ms"), false, false, false, 0},
    {NAME("total"), NULL, 0, total_metrics, 1, NAME("window 1000 ms"), false, false, false, 0},
};

static const int64_t sizes_ms[RIG_RULES] = {10000, 60000, 1000};

uint64_t rig_random(uint64_t *state) { /* splitmix64, Sebastiano Vigna */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rig_below(uint64_t *state, uint64_t bound) {
    return rig_random(state) % bound;
}

int64_t rig_window_ms(uint32_t rule, uint64_t window) {
    return INT64_C(1700000040000) + (int64_t)window * sizes_ms[rule];
}

void rig_key(struct mr_buf *buf, uint32_t columns, uint64_t k) {
    static uint8_t longest[500];
    memset(longest, 'x', sizeof longest);
    const struct mr_key_value values[RIG_KEYS - 1] = {
        {MR_KEY_NULL, {NULL, 0}},
        {MR_KEY_TRUE, {NULL, 0}},
        {MR_KEY_FALSE, {NULL, 0}},
        {MR_KEY_NUMBER, MR_BYTES("17")},
        {MR_KEY_NUMBER, MR_BYTES("1.50")},
        {MR_KEY_NUMBER, MR_BYTES("99999999999999999999")},
        {MR_KEY_STRING, MR_BYTES("17")},
        {MR_KEY_STRING, MR_BYTES("")},
        {MR_KEY_STRING, MR_BYTES("a\0b")},
        {MR_KEY_STRING, MR_BYTES("D\xc3\xbcsseldorf")},
        {MR_KEY_STRING, mr_bytes_of(longest, sizeof longest)},
    };
    MR_ASSERT(k < RIG_KEYS);
    if (columns > 0 && k == RIG_KEYS - 1) {
        mr_key_append(buf, (struct mr_key_value){MR_KEY_OTHER, MR_BYTES("\x01")});
        return;
    }
    for (uint32_t i = 0; i < columns; i++) {
        mr_key_append(buf, values[(k + i * k) % (RIG_KEYS - 1)]);
    }
}

static struct mr_number random_number(uint64_t *random) {
    static const int64_t ints[] = {
        0, 1, -1, INT64_MAX, INT64_MIN, INT64_MAX - 1, (INT64_C(1) << 53) + 1, 42};
    static const double doubles[] = {
        0.0, -0.0, 1.0, 0.1, -1e300, 9007199254740992.0, 9223372036854775808.0, INFINITY};
    static const char texts[] = "[{\"a\":1}]\0Q";
    switch (rig_below(random, 8)) {
    case 4:
        return (struct mr_number){.kind = MR_NUMBER_BOOL, .i = (int64_t)rig_below(random, 2)};
    case 5:
    case 6: {
        uint32_t at = (uint32_t)rig_below(random, sizeof texts);
        return (struct mr_number){.kind = rig_below(random, 2) == 0 ? MR_NUMBER_TEXT : MR_NUMBER_JSON,
                                  .len = (uint32_t)sizeof texts - 1 - at, .text = (const uint8_t *)texts + at};
    }
    case 0:
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    case 1:
        return (struct mr_number){.kind = MR_NUMBER_DOUBLE, .d = doubles[rig_below(random, 8)]};
    case 2:
        return (struct mr_number){.kind = MR_NUMBER_OVERFLOW, .d = -1e19};
    case 3:
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = (int64_t)rig_random(random)};
    default:
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = ints[rig_below(random, 8)]};
    }
}

static void pane_init(struct rig_pane *p, uint32_t rule, uint64_t window, uint64_t k) {
    const struct mr_results_rule *r = &rig_rules[rule];
    mr_buf_init(&p->key, 4096);
    rig_key(&p->key, r->key_count, k);
    MR_ASSERT(!p->key.failed);
    p->pane = (struct mr_pane){
        .rule = rule,
        .timing = MR_TIMING_ON_TIME,
        .window_start_ms = rig_window_ms(rule, window),
        .window_end_ms = rig_window_ms(rule, window + 1),
        .key = mr_buf_bytes(&p->key),
        .state = mr_bytes_of(p->state, sizeof p->state),
        .numbers = p->numbers,
        .number_count = r->metric_count,
    };
}

void rig_pane_random(struct rig_pane *p, uint64_t *random, uint64_t revision) {
    pane_init(p, (uint32_t)rig_below(random, RIG_RULES), rig_below(random, RIG_WINDOWS),
              rig_below(random, RIG_KEYS));
    for (uint32_t i = 0; i < p->pane.number_count; i++) {
        p->numbers[i] = random_number(random);
    }
    for (size_t i = 0; i < sizeof p->state; i++) {
        p->state[i] = (uint8_t)rig_random(random);
    }
    p->pane.revision = revision;
    p->pane.events = rig_below(random, 1000);
    p->pane.final = rig_below(random, 4) == 0;
    p->pane.timing = (enum mr_timing)rig_below(random, 3);
    p->pane.index = rig_below(random, 8) == 0 ? UINT32_MAX : (uint32_t)rig_below(random, 3);
    p->pane.state.len = 8 * rig_below(random, 4);
}

void rig_pane_simple(struct rig_pane *p, uint32_t rule, uint64_t k, uint64_t revision,
                     int64_t value) {
    pane_init(p, rule, 0, k);
    for (uint32_t i = 0; i < p->pane.number_count; i++) {
        p->numbers[i] = (struct mr_number){.kind = MR_NUMBER_INT, .i = value};
    }
    memcpy(p->state, &value, sizeof value);
    p->pane.state.len = sizeof value;
    p->pane.revision = revision;
    p->pane.events = 1;
}

void rig_pane_finish(struct rig_pane *p) {
    mr_buf_finish(&p->key);
}

void rig_dir_init(struct rig_dir *dir) {
    const char *parent = getenv("TMPDIR");
    (void)snprintf(dir->dir, sizeof dir->dir, "%.100s/millrace-test-XXXXXX",
                   parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(dir->dir));
    (void)snprintf(dir->path, sizeof dir->path, "%s/results.db", dir->dir);
}

static void remove_files(const struct rig_dir *dir) {
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char path[200];
        (void)snprintf(path, sizeof path, "%s%s", dir->path, ends[i]);
        (void)unlink(path); /* most are not there */
    }
}

void rig_dir_finish(struct rig_dir *dir) {
    remove_files(dir);
    assert_int_equal(rmdir(dir->dir), 0);
}

void rig_file_read(const struct rig_dir *dir, struct mr_buf *ret) {
    assert_int_equal(mr_disk_read_all(mr_disk_system(), dir->path, ret), MR_OK);
}

void rig_file_write(const struct rig_dir *dir, struct mr_bytes bytes) {
    struct mr_file *file = NULL;
    remove_files(dir);
    assert_int_equal(mr_file_open(mr_disk_system(), dir->path, MR_FILE_CREATE, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, bytes, 0), MR_OK);
    mr_file_close(file);
}

void rig_limit_files(uint64_t bytes, bool kills) {
    struct rlimit limit;
    MR_ASSERT(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    (void)signal(SIGXFSZ, kills ? SIG_DFL : SIG_IGN);
    MR_ASSERT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

bool rig_survives(bool (*run)(void *ctx), void *ctx) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        bool fine = setrlimit(RLIMIT_CORE, &none) == 0 && run(ctx);
        _exit(fine ? 0 : 1);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFSIGNALED(result) ? WTERMSIG(result) == SIGXFSZ : WEXITSTATUS(result) == 0);
    return !WIFSIGNALED(result);
}

struct mr_results_sqlite_options rig_options(const struct rig_dir *dir) {
    return (struct mr_results_sqlite_options){
        .path = dir->path,
        .incarnation = 0xabc,
        .rules = rig_rules,
        .rule_count = RIG_RULES,
        .outbox_panes_max = 1000,
    };
}

struct mr_results *rig_open(const struct mr_results_sqlite_options *options) {
    struct mr_results *results = NULL;
    struct mr_error error = {0};
    if (mr_results_sqlite_open(options, &results, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    return results;
}

void rig_read_init(struct rig_read *read) {
    *read = (struct rig_read){.stop = 0};
    mr_buf_init(&read->rows, 64u << 20);
}

void rig_read_finish(struct rig_read *read) {
    mr_buf_finish(&read->rows);
}

static bool keep_row(void *ctx, const struct mr_pane *row) {
    struct rig_read *read = ctx;
    mr_pane_append(&read->rows, row);
    read->count++;
    return read->count != read->stop;
}

struct mr_results_query rig_query_all(uint32_t rule, struct rig_read *read) {
    return (struct mr_results_query){
        .rule = rule,
        .from_ms = INT64_MIN,
        .to_ms = INT64_MAX,
        .order = -1,
        .visit = keep_row,
        .ctx = read,
    };
}

void rig_read(struct mr_results *results, struct mr_results_query query, struct rig_read *read) {
    struct mr_results_reader *reader = NULL;
    struct mr_error error = {0};
    query.visit = keep_row;
    query.ctx = read;
    mr_buf_clear(&read->rows);
    read->count = 0;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    enum mr_status status = mr_results_read(reader, &query, &error);
    if (status != MR_OK) {
        fail_msg("%s", error.text);
    }
    mr_results_reader_close(reader);
    assert_false(read->rows.failed);
}

static bool keep_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct rig_read *read = ctx;
    mr_buf_append(&read->rows, &id, sizeof id);
    return keep_row(ctx, pane);
}

void rig_read_outbox(struct mr_results *results, uint64_t after_id, struct rig_read *read) {
    struct mr_results_reader *reader = NULL;
    struct mr_error error = {0};
    mr_buf_clear(&read->rows);
    read->count = 0;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    enum mr_status status = mr_results_read_outbox(reader, after_id, keep_pane, read, &error);
    if (status != MR_OK) {
        fail_msg("%s", error.text);
    }
    mr_results_reader_close(reader);
    assert_false(read->rows.failed);
}

void rig_read_everything(struct mr_results *results, struct rig_read *read) {
    struct rig_read part;
    rig_read_init(&part);
    mr_buf_clear(&read->rows);
    read->count = 0;
    for (uint32_t rule = 0; rule <= RIG_RULES; rule++) {
        if (rule < RIG_RULES) {
            rig_read(results, rig_query_all(rule, &part), &part);
        } else {
            rig_read_outbox(results, 0, &part);
        }
        mr_buf_append_bytes(&read->rows, mr_buf_bytes(&part.rows));
        read->count += part.count;
    }
    rig_read_finish(&part);
    assert_false(read->rows.failed);
}

void rig_assert_same(const struct rig_read *a, const struct rig_read *b) {
    assert_int_equal(a->count, b->count);
    assert_true(mr_bytes_equal(mr_buf_bytes(&a->rows), mr_buf_bytes(&b->rows)));
}

void rig_assert_query(const struct rig_dir *dir, const char *sql, const char *want) {
    struct mr_buf rows;
    struct mr_error error = {0};
    mr_buf_init(&rows, 1 << 20);
    if (mr_results_sqlite_query(dir->path, sql, &rows, &error) != MR_OK) {
        fail_msg("%s: %s", sql, error.text);
    }
    mr_buf_append_char(&rows, 0);
    assert_string_equal((const char *)rows.ptr, want);
    mr_buf_finish(&rows);
}

struct mr_pane rig_row(const struct rig_read *read, uint64_t i) {
    struct mr_bytes rest = mr_buf_bytes(&read->rows);
    struct mr_pane row = {0};
    for (uint64_t n = 0; n <= i; n++) {
        assert_true(mr_pane_next(&rest, &row));
    }
    return row;
}

uint64_t rig_count(struct mr_results *results, uint32_t rule) {
    struct rig_read read;
    rig_read_init(&read);
    rig_read(results, rig_query_all(rule, &read), &read);
    uint64_t count = read.count;
    rig_read_finish(&read);
    return count;
}

void rig_store(struct mr_results *results, const struct mr_pane *panes, size_t count,
               uint64_t seq) {
    assert_int_equal(mr_results_begin(results), MR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(mr_results_put(results, &panes[i]), MR_OK);
    }
    assert_int_equal(mr_results_commit(results, seq), MR_OK);
}
