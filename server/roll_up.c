/* SPDX-License-Identifier: Apache-2.0 */
#include "server/roll_up.h"

#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/key.h"
#include "base/time_text.h"

#include <stdlib.h>

enum { GROUPS_FIRST = 64, SCRATCH_FIRST = 4096, SCRATCH_MAX = 1 << 20, BLOCK_OVERHEAD = 16 };

/* The windows of one key, added up. */
struct mr_group_sum {
    uint8_t *block; /* live metrics, then the key */
    uint32_t key_len;
    bool final;
    uint64_t hash;
    uint64_t events;
    uint64_t revision;
    uint64_t windows;
    int64_t last_start_ms;
    size_t heap; /* of the sketches, as charged */
    struct mr_number number;
};

/* Keys as they stand in rows: all shards' overflow groups are one. */
static const uint8_t other_key[2] = {MR_KEY_OTHER, 0};

int64_t mr_step_floor(int64_t ms, int64_t step_ms) {
    MR_ASSERT(step_ms > 0);
    if (ms == INT64_MIN || ms == INT64_MAX) {
        return ms;
    }
    int64_t rest = ms % step_ms;
    int64_t start;
    return __builtin_sub_overflow(ms, rest < 0 ? rest + step_ms : rest, &start) ? INT64_MIN : start;
}

int64_t mr_step_ceil(int64_t ms, int64_t step_ms) {
    int64_t floor = mr_step_floor(ms, step_ms);
    int64_t ceil;
    if (floor == ms) {
        return ms;
    }
    return __builtin_add_overflow(floor, step_ms, &ceil) ? INT64_MAX : ceil;
}

int64_t mr_roll_up_open_from(const struct mr_rule *rule, int64_t step_ms, int64_t final_end_ms) {
    if (final_end_ms < MR_TIME_YEAR_0_MS) {
        return INT64_MIN;
    }
    if (final_end_ms >= MR_TIME_YEAR_10000_MS) {
        return INT64_MAX;
    }
    int64_t open = mr_step_floor(final_end_ms, step_ms);
    /* Where windows do not begin with steps, the last one of a step reaches into the next. */
    bool whole = mr_window_end(rule, mr_window_start(rule, open - 1)) <= final_end_ms;
    return whole ? open : open - step_ms;
}

void mr_roll_up_init(struct mr_roll_up *ret, const struct mr_rule *rule, int64_t step_ms) {
    MR_ASSERT(step_ms >= 0);
    *ret = (struct mr_roll_up){
        .rule = rule,
        .step_ms = step_ms,
        .limit = 1,
        .each = 1,
        .open_from_ms = INT64_MIN,
        .rows_max = MR_ROLL_UP_ROWS_MAX,
        .bytes_max = MR_ROLL_UP_BYTES_MAX,
        .groups_max = MR_ROLL_UP_GROUPS_MAX,
        .slice = MR_ROLL_UP_SLICE,
    };
    ret->scan.rule = rule->index;
    ret->scan.order = MR_SCAN_ORDER_WINDOW;
    mr_buf_init(&ret->next_key, MR_KEY_LEN_MAX);
    mr_buf_init(&ret->last_key, MR_KEY_LEN_MAX);
    mr_buf_init(&ret->aligned, MR_SCAN_BYTES_MAX);
    mr_buf_init(&ret->encoded, MR_SCAN_BYTES_MAX);
}

static void free_group(const struct mr_roll_up *r, struct mr_group_sum *group) {
    mr_metric_release(r->rule->metrics, r->rule->metric_count, group->block);
    mr_free(group->block);
}

static void clear_step(struct mr_roll_up *r) {
    for (uint32_t i = 0; i < r->group_count; i++) {
        free_group(r, &r->groups[i]);
    }
    r->group_count = 0;
    r->bytes = 0;
    r->in_step = false;
    r->pruned = false;
    if (r->slots != NULL) {
        memset(r->slots, 0, r->slot_count * sizeof *r->slots);
    }
}

void mr_roll_up_finish(struct mr_roll_up *r) {
    clear_step(r);
    mr_free(r->groups);
    mr_free(r->slots);
    r->groups = NULL;
    r->slots = NULL;
    r->group_cap = 0;
    r->slot_count = 0;
    mr_buf_finish(&r->next_key);
    mr_buf_finish(&r->last_key);
    mr_buf_finish(&r->aligned);
    mr_buf_finish(&r->encoded);
}

static bool fail(struct mr_roll_up *r, enum mr_status status) {
    r->status = status;
    return false;
}

static bool no_memory(struct mr_roll_up *r) {
    return fail(r, mr_error_set(r->error, MR_NO_MEMORY, "no memory for the roll-up"));
}

static bool refuse_bytes(struct mr_roll_up *r) {
    return fail(r, mr_error_set(r->error, MR_LIMIT,
                                "too many bytes to add up at a time (more than %zu); narrow the question with "
                                "`from` and `to` or a key%s",
                                r->bytes_max, r->by_metric ? "" : ", or ask for fewer rows with `limit`"));
}

static struct mr_bytes key_of(const struct mr_roll_up *r, const struct mr_group_sum *group) {
    return mr_bytes_of(group->block + r->rule->state_len, group->key_len);
}

/* As rows are given: <0, a first. */
static int compare_keys(const struct mr_roll_up *r, struct mr_bytes a, struct mr_bytes b) {
    int order = mr_bytes_compare(a, b);
    return r->scan.descending ? -order : order;
}

static uint32_t *slot_of(const struct mr_roll_up *r, uint64_t hash, struct mr_bytes key) {
    MR_ASSERT(r->group_count < r->slot_count);
    uint32_t at = (uint32_t)hash & (r->slot_count - 1);
    while (r->slots[at] != 0) {
        const struct mr_group_sum *group = &r->groups[r->slots[at] - 1];
        if (group->hash == hash && mr_bytes_equal(key_of(r, group), key)) {
            break;
        }
        at = (at + 1) & (r->slot_count - 1);
    }
    return &r->slots[at];
}

static void index_groups(struct mr_roll_up *r) {
    memset(r->slots, 0, r->slot_count * sizeof *r->slots);
    for (uint32_t i = 0; i < r->group_count; i++) {
        *slot_of(r, r->groups[i].hash, key_of(r, &r->groups[i])) = i + 1;
    }
}

/* Room for one more group. false: no memory. */
static bool make_room(struct mr_roll_up *r) {
    if (r->group_count < r->group_cap) {
        return true;
    }
    uint32_t cap = r->group_cap == 0 ? GROUPS_FIRST : r->group_cap * 2;
    struct mr_group_sum *groups = mr_realloc(r->groups, cap * sizeof *groups);
    if (groups == NULL) {
        return no_memory(r);
    }
    r->groups = groups;
    uint32_t *slots = mr_alloc_zero(2 * (size_t)cap, sizeof *slots);
    if (slots == NULL) {
        return no_memory(r);
    }
    mr_free(r->slots);
    r->slots = slots;
    r->slot_count = 2 * cap;
    r->group_cap = cap;
    index_groups(r);
    return true;
}

static int by_key(const void *a, const void *b, void *ctx) {
    const struct mr_roll_up *r = ctx;
    return compare_keys(r, key_of(r, a), key_of(r, b));
}

static int by_number(const void *a, const void *b, void *ctx) {
    const struct mr_roll_up *r = ctx;
    const struct mr_group_sum *x = a;
    const struct mr_group_sum *y = b;
    int order = mr_number_compare(y->number, x->number);
    return order != 0 ? order : mr_bytes_compare(key_of(r, x), key_of(r, y));
}

static void sort_by_key(struct mr_roll_up *r) {
    if (r->group_count > 1) {
        qsort_r(r->groups, r->group_count, sizeof *r->groups, by_key, r);
    }
}

static size_t charge_of(const struct mr_roll_up *r, const struct mr_group_sum *group) {
    return sizeof *group + 2 * sizeof *r->slots + BLOCK_OVERHEAD + r->rule->state_len + group->key_len + group->heap;
}

/* How many groups of this step may be wanted: one more than may be given, to know whether there is more. */
static uint32_t wanted(const struct mr_roll_up *r) {
    return r->limit - r->count + 1;
}

/* Forgets the groups that come behind those that may be wanted. */
static bool prune(struct mr_roll_up *r) {
    uint32_t keep = wanted(r);
    if (r->by_metric || r->group_count < 2 * (uint64_t)keep) {
        return true;
    }
    sort_by_key(r);
    while (r->group_count > keep) {
        struct mr_group_sum *group = &r->groups[--r->group_count];
        r->bytes -= charge_of(r, group);
        free_group(r, group);
    }
    index_groups(r);
    mr_buf_clear(&r->last_key);
    mr_buf_append_bytes(&r->last_key, key_of(r, &r->groups[keep - 1]));
    r->pruned = true;
    return !r->last_key.failed || no_memory(r);
}

/* The group of a key; NULL with status MR_OK: it is not wanted. */
static struct mr_group_sum *find_group(struct mr_roll_up *r, struct mr_bytes key) {
    uint64_t hash = mr_hash64(key, r->rule->key_seed);
    if (r->slot_count > 0) {
        uint32_t slot = *slot_of(r, hash, key);
        if (slot != 0) {
            return &r->groups[slot - 1];
        }
    }
    if (r->pruned && compare_keys(r, key, mr_buf_bytes(&r->last_key)) > 0) {
        return NULL;
    }
    if (r->group_count == r->groups_max) {
        (void)fail(r, mr_error_set(r->error, MR_LIMIT,
                                   "too many groups to add up at a time (more than %u); narrow the question with a key",
                                   r->groups_max));
        return NULL;
    }
    if (!prune(r) || !make_room(r)) {
        return NULL;
    }
    uint8_t *block = mr_alloc_zero(1, r->rule->state_len + key.len + 1);
    if (block == NULL) {
        (void)no_memory(r);
        return NULL;
    }
    if (key.len > 0) {
        memcpy(block + r->rule->state_len, key.ptr, key.len);
    }
    *slot_of(r, hash, key) = r->group_count + 1; /* before it is there: the search looks at those before it only */
    struct mr_group_sum *group = &r->groups[r->group_count++];
    *group = (struct mr_group_sum){.block = block, .key_len = (uint32_t)key.len, .hash = hash, .final = true};
    r->bytes += charge_of(r, group);
    return group;
}

static bool add_state(struct mr_roll_up *r, struct mr_group_sum *group, struct mr_bytes state) {
    const struct mr_rule *rule = r->rule;
    if ((uintptr_t)state.ptr % 8 != 0) {
        mr_buf_clear(&r->aligned);
        mr_buf_append_bytes(&r->aligned, state);
        state = mr_buf_bytes(&r->aligned);
    }
    if (r->aligned.failed ||
        mr_metric_merge(rule->metrics, rule->metric_count, group->block, state) != MR_OK) {
        return no_memory(r);
    }
    if (rule->grows) {
        size_t heap = mr_metric_heap(rule->metrics, rule->metric_count, group->block);
        r->bytes = r->bytes - group->heap + heap;
        group->heap = heap;
    }
    return r->bytes <= r->bytes_max || refuse_bytes(r);
}

static struct mr_bytes row_key(const struct mr_roll_up *r, const struct mr_row *row) {
    if (mr_key_is_other(row->key)) {
        return mr_bytes_of(other_key, sizeof other_key);
    }
    bool has_pane = r->rule->trigger.panes == MR_DISCARDING;
    MR_ASSERT(!has_pane || row->key.len >= MR_KEY_PANE_LEN);
    return mr_bytes_of(row->key.ptr, row->key.len - (has_pane ? MR_KEY_PANE_LEN : 0));
}

static bool is_behind_resume(const struct mr_roll_up *r, struct mr_bytes key) {
    return !r->resumed || !r->resume_has_key || r->step_start_ms != r->resume_step_ms ||
           compare_keys(r, key, r->resume_key) > 0;
}

static bool add_row(struct mr_roll_up *r, const struct mr_row *row) {
    struct mr_bytes key = row_key(r, row);
    if (!is_behind_resume(r, key)) {
        return true;
    }
    struct mr_group_sum *group = find_group(r, key);
    if (group == NULL) {
        return r->status == MR_OK;
    }
    bool another = group->windows == 0 || group->last_start_ms != row->window_start_ms;
    group->windows += another;
    group->last_start_ms = row->window_start_ms;
    group->events += row->events;
    group->revision = row->revision > group->revision ? row->revision : group->revision;
    group->final = group->final && row->final;
    return add_state(r, group, row->state);
}

static bool encode(struct mr_roll_up *r, const struct mr_group_sum *group) {
    const struct mr_rule *rule = r->rule;
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, group->block);
    mr_buf_clear(&r->encoded);
    uint8_t *at = mr_buf_reserve(&r->encoded, len);
    if (at == NULL) {
        return no_memory(r);
    }
    mr_metric_encode(rule->metrics, rule->metric_count, group->block, at);
    r->encoded.len = len;
    return true;
}

/* Greatest first. A metric may hold texts, which only its values tell. */
static bool sort_by_metric(struct mr_roll_up *r) {
    struct mr_arena scratch;
    mr_arena_init(&scratch, SCRATCH_FIRST, SCRATCH_MAX);
    bool fine = true;
    for (uint32_t i = 0; fine && i < r->group_count; i++) {
        struct mr_group_sum *group = &r->groups[i];
        fine = encode(r, group);
        if (!fine) {
            break;
        }
        group->number = mr_metric_finish(r->rule->metrics, r->metric, mr_buf_bytes(&r->encoded), &scratch);
        if (group->number.kind == MR_NUMBER_TEXT || group->number.kind == MR_NUMBER_JSON) {
            struct mr_bytes name = r->rule->metrics[r->metric].name;
            fine = fail(r, mr_error_set(r->error, MR_INVALID,
                                        "metric `%.*s` has values that are no numbers here: the greatest are not known",
                                        (int)name.len, (const char *)name.ptr));
        }
        mr_arena_reset(&scratch);
    }
    mr_arena_finish(&scratch);
    if (fine && r->group_count > 1) {
        qsort_r(r->groups, r->group_count, sizeof *r->groups, by_number, r);
    }
    return fine;
}

static bool give(struct mr_roll_up *r, const struct mr_group_sum *group) {
    if (!encode(r, group)) {
        return false;
    }
    struct mr_row row = {
        .window_start_ms = r->step_ms == 0 ? r->scan.from_ms : r->step_start_ms,
        .window_end_ms = r->step_ms == 0 ? r->scan.to_ms : r->step_start_ms + r->step_ms,
        .events = group->events,
        .revision = group->revision,
        .final = group->final && r->step_ms > 0 && r->step_start_ms < r->open_from_ms,
        .key = key_of(r, group),
        .state = mr_buf_bytes(&r->encoded),
    };
    r->count++;
    r->stopped = !r->visit(r->ctx, &row, group->windows);
    return !r->stopped;
}

/* The next page begins here. key NULL: with the first of the step. */
static bool end_page(struct mr_roll_up *r, int64_t step_start_ms, const struct mr_group_sum *last) {
    r->more = true;
    r->stopped = true;
    r->next_step_ms = step_start_ms;
    r->next_has_key = last != NULL;
    mr_buf_clear(&r->next_key);
    if (last != NULL) {
        mr_buf_append_bytes(&r->next_key, key_of(r, last));
    }
    return r->next_key.failed ? no_memory(r) : false;
}

static bool give_by_metric(struct mr_roll_up *r) {
    if (!sort_by_metric(r)) {
        return false;
    }
    uint32_t most = r->group_count < r->each ? r->group_count : r->each;
    for (uint32_t i = 0; i < most; i++) {
        if (r->count == r->limit) {
            return fail(r, mr_error_set(r->error, MR_LIMIT,
                                        "more than %u rows; expected a smaller `n`, a longer `step` or a shorter range",
                                        r->limit));
        }
        if (!give(r, &r->groups[i])) {
            return false;
        }
    }
    return true;
}

static bool give_by_key(struct mr_roll_up *r) {
    sort_by_key(r);
    for (uint32_t i = 0; i < r->group_count; i++) {
        if (r->count == r->limit) {
            MR_ASSERT(i > 0); /* a step begins only while there is room */
            return end_page(r, r->step_start_ms, &r->groups[i - 1]);
        }
        if (!give(r, &r->groups[i])) {
            return false;
        }
    }
    return true;
}

/* Gives the step's rows. false: the page ends here, or an error. */
static bool end_step(struct mr_roll_up *r) {
    bool on = !r->in_step || (r->by_metric ? give_by_metric(r) : give_by_key(r));
    clear_step(r);
    return on;
}

/* false: the page is full before this step. */
static bool begin_step(struct mr_roll_up *r, int64_t step_start_ms) {
    r->steps_before += r->in_step;
    if (!end_step(r)) {
        return false;
    }
    if (!r->by_metric && r->count == r->limit) {
        return end_page(r, step_start_ms, NULL);
    }
    r->in_step = true;
    r->step_start_ms = step_start_ms;
    return true;
}

/* So many rows were read that the page ends, before this step if there was another. */
static bool read_enough(struct mr_roll_up *r) {
    if (!r->by_metric && r->steps_before > 0) {
        return end_page(r, r->step_start_ms, NULL);
    }
    return fail(r, mr_error_set(r->error, MR_LIMIT,
                                "too many rows to add up (more than %llu); narrow the question with `from` and `to` "
                                "or a key%s",
                                (unsigned long long)r->rows_max, r->step_ms > 0 ? ", or take a shorter `step`" : ""));
}

static bool on_row(struct mr_roll_up *r, const struct mr_row *row) {
    int64_t step = r->step_ms == 0 ? 0 : mr_step_floor(row->window_start_ms, r->step_ms);
    if (!r->in_step || step != r->step_start_ms) {
        MR_ASSERT(!r->in_step || r->scan.descending == (step < r->step_start_ms));
        if (!begin_step(r, step)) {
            return false;
        }
    }
    r->rows_read++;
    return r->rows_read > r->rows_max ? read_enough(r) : add_row(r, row);
}

struct slice {
    struct mr_roll_up *r;
    int64_t last_start_ms;
    struct mr_buf last_key;
};

static bool on_slice_row(void *ctx, const struct mr_row *row) {
    struct slice *slice = ctx;
    slice->last_start_ms = row->window_start_ms;
    mr_buf_clear(&slice->last_key);
    mr_buf_append_bytes(&slice->last_key, row->key);
    return slice->last_key.failed ? no_memory(slice->r) : on_row(slice->r, row);
}

/* Reads and merges one slice. *ret_more: rows are left behind it. */
static enum mr_status read_slice(struct mr_roll_up *r, struct mr_scan *scan, struct slice *slice,
                                 struct mr_buf *after, bool *ret_more) {
    struct mr_merge_source *sources = NULL;
    uint32_t source_count = 0;
    enum mr_status status = r->read(r->ctx, scan, &sources, &source_count);
    if (status != MR_OK) {
        return status;
    }
    struct mr_merge m = {.scan = scan, .rule = r->rule, .limit = r->slice, .visit = on_slice_row, .ctx = slice};
    status = mr_merge_run(&m, sources, source_count);
    if (status != MR_OK) {
        return mr_error_set(r->error, status, "no memory for the roll-up");
    }
    *ret_more = m.more && !r->stopped && r->status == MR_OK;
    if (!*ret_more) {
        return r->status;
    }
    if (m.count == 0) {
        return mr_error_set(r->error, MR_LIMIT, "a row is longer than %u bytes", MR_SCAN_BYTES_MAX);
    }
    mr_buf_clear(after);
    mr_buf_append_bytes(after, mr_merge_place(scan, mr_buf_bytes(&slice->last_key)));
    scan->has_after = true;
    scan->after_start_ms = slice->last_start_ms;
    scan->after_key = mr_buf_bytes(after);
    return after->failed ? mr_error_set(r->error, MR_NO_MEMORY, "no memory for the roll-up") : MR_OK;
}

/* The scan of the first slice. */
static struct mr_scan first_scan(const struct mr_roll_up *r) {
    struct mr_scan scan = r->scan;
    scan.state = MR_SCAN_ALL;
    scan.limit = r->slice + MR_MERGE_SLACK;
    scan.has_after = false;
    if (r->resumed && scan.descending) {
        int64_t end = r->resume_step_ms + r->step_ms;
        scan.to_ms = end < scan.to_ms ? end : scan.to_ms;
    } else if (r->resumed) {
        scan.from_ms = r->resume_step_ms > scan.from_ms ? r->resume_step_ms : scan.from_ms;
    }
    return scan;
}

enum mr_status mr_roll_up_run(struct mr_roll_up *r, struct mr_error *error) {
    MR_ASSERT(r->limit > 0 && r->each > 0 && r->slice > 0 && r->scan.order == MR_SCAN_ORDER_WINDOW);
    MR_ASSERT(!r->resumed || (r->step_ms > 0 && !r->by_metric));
    MR_ASSERT(r->step_ms > 0 || r->by_metric);
    struct mr_scan scan = first_scan(r);
    struct slice slice = {.r = r};
    struct mr_buf after;
    mr_buf_init(&slice.last_key, MR_KEY_LEN_MAX);
    mr_buf_init(&after, MR_KEY_LEN_MAX);
    r->error = error;
    bool more = scan.from_ms < scan.to_ms;
    enum mr_status status = MR_OK;
    while (more && status == MR_OK) {
        status = read_slice(r, &scan, &slice, &after, &more);
    }
    if (status == MR_OK && !r->stopped) {
        (void)end_step(r);
        status = r->status;
    }
    mr_buf_finish(&slice.last_key);
    mr_buf_finish(&after);
    mr_roll_up_check(r);
    return status;
}

void mr_roll_up_check(const struct mr_roll_up *r) {
    MR_ASSERT(r->count <= r->limit && r->group_count <= r->group_cap && r->slot_count == 2 * r->group_cap);
    MR_ASSERT(!r->more || !r->by_metric);
    size_t bytes = 0;
    for (uint32_t i = 0; i < r->group_count; i++) {
        bytes += charge_of(r, &r->groups[i]);
        MR_ASSERT(*slot_of(r, r->groups[i].hash, key_of(r, &r->groups[i])) == i + 1);
    }
    MR_ASSERT(bytes == r->bytes);
}
