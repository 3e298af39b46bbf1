/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: a slice is checked and its groups gathered by window. */
#include "aggregate/loading.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/key.h"

#include <inttypes.h>

/* What one call of load_slice works on. */
struct job {
    struct mr_combine *combine;
    struct mr_combine_loading *loading;
    struct mr_saved_slice slice;
    struct mr_error *error;
    uint64_t dropped_events;
};

/* A run, checked, and where its groups go: into piece, which is NULL if the rule is gone. */
struct run {
    struct mr_saved_run head;
    struct mr_combine_rule *rule; /* NULL: gone */
    struct mr_load_piece *piece;
    size_t count;
    bool final; /* now: only what is unsaid is taken */
    bool left_out; /* it begins too early */
};

enum mr_status mr_loading_no_memory(struct mr_error *error) {
    return mr_error_set(error, MR_NO_MEMORY, "groups of a checkpoint: %s",
                        mr_status_text(MR_NO_MEMORY));
}

enum mr_status mr_combine_load_begin(struct mr_combine *combine, const struct mr_combine_load *load,
                                     struct mr_error *error) {
    MR_ASSERT(!combine->advanced && !combine->merging && combine->loading == NULL);
    MR_ASSERT(load->rule_map_len <= MR_RULES_MAX);
    MR_ASSERT(combine->shard < load->shards && load->shards <= MR_SHARDS_MAX);
    struct mr_combine_loading *loading = mr_alloc_zero(1, sizeof *loading);
    if (loading == NULL) {
        return mr_loading_no_memory(error);
    }
    combine->loading = loading;
    loading->seq = load->seq;
    loading->shards = load->shards;
    loading->rule_map_len = load->rule_map_len;
    loading->rule_map = mr_alloc((load->rule_map_len + 1) * sizeof *loading->rule_map);
    loading->windows = mr_alloc_zero(combine->rule_count + 1, sizeof *loading->windows);
    if (loading->rule_map == NULL || loading->windows == NULL) {
        mr_combine_load_stop(combine);
        return mr_loading_no_memory(error);
    }
    for (uint32_t i = 0; i < load->rule_map_len; i++) {
        loading->rule_map[i] = load->rule_map[i];
        MR_ASSERT(load->rule_map[i] == UINT32_MAX || load->rule_map[i] < combine->rule_count);
    }
    for (uint32_t s = 0; s < combine->stream_count; s++) {
        combine->watermarks_ms[s] = load->watermarks_ms[s];
    }
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        mr_timeline_init(&loading->windows[r]);
        cr->said_final_end_ms = mr_window_final_end(cr->rule, mr_combine_watermark(combine, cr));
        struct mr_sessions_load sessions = {load->seq, mr_combine_watermark(combine, cr), load->shards};
        if (cr->slices != NULL) {
            cr->slices_open_ms = mr_window_first_open(cr->rule, mr_combine_watermark(combine, cr));
            cr->slices_next_ms = cr->slices_open_ms;
            mr_slices_advance(cr->slices, cr->slices_open_ms);
        }
        if (cr->sessions != NULL && mr_sessions_load_begin(cr->sessions, &sessions, error) != MR_OK) {
            return MR_NO_MEMORY;
        }
    }
    combine->seq = load->seq;
    combine->advanced = true;
    return MR_OK;
}

void mr_load_free_pieces(struct mr_load_window *window) {
    while (window->first != NULL) {
        struct mr_load_piece *piece = window->first;
        window->first = piece->next;
        mr_free(piece);
    }
    window->last = NULL;
}

void mr_combine_load_stop(struct mr_combine *combine) {
    struct mr_combine_loading *loading = combine->loading;
    if (loading == NULL) {
        return;
    }
    for (uint32_t r = 0; loading->windows != NULL && r < combine->rule_count; r++) {
        struct mr_timeline *windows = &loading->windows[r];
        struct mr_load_window *window = mr_timeline_ceil(windows, INT64_MIN);
        while (window != NULL) {
            struct mr_load_window *next = mr_load_window_after(windows, window->start_ms);
            mr_load_free_pieces(window);
            mr_free(window);
            window = next;
        }
        mr_timeline_finish(windows);
    }
    mr_free(loading->windows);
    mr_free(loading->rule_map);
    mr_free(loading);
    combine->loading = NULL;
}

static enum mr_status corrupt(const struct job *job, const char *what) {
    return mr_error_set(job->error, MR_CORRUPT,
                        "groups of shard %" PRIu32 ", slice %" PRIu32 ": %s", job->slice.shard,
                        job->slice.index, what);
}

/* Nothing in it can be believed. */
static enum mr_status no_slice(const struct job *job, const char *what) {
    return mr_error_set(job->error, MR_CORRUPT, "groups of a checkpoint: %s", what);
}

/* Takes the header of the first slice in *rest and checks it; *ret_body: what follows, and of the
 * last slice not the counters. */
static enum mr_status take_slice(struct job *job, struct mr_bytes *rest,
                                 struct mr_bytes *ret_body) {
    struct mr_saved_slice *slice = &job->slice;
    if (rest->len < sizeof *slice) {
        return no_slice(job, "cut short");
    }
    struct mr_saved_slice seen;
    memcpy(&seen, rest->ptr, sizeof seen);
    bool known = seen.magic == MR_SAVED_MAGIC || seen.magic == MR_SAVED_MAGIC_2;
    if (!known || seen.len < sizeof seen || seen.len > rest->len) {
        return no_slice(job, "not a slice, or cut short");
    }
    size_t len = (size_t)seen.len;
    if (mr_checksum(mr_bytes_of(rest->ptr + sizeof seen.checksum, len - sizeof seen.checksum)) !=
        seen.checksum) {
        return no_slice(job, "the checksum does not match");
    }
    *slice = seen;
    if (slice->shard >= MR_SHARDS_MAX || slice->last > 1 || slice->seq != job->loading->seq ||
        slice->rule_count != job->loading->rule_map_len) {
        return corrupt(job, "of another checkpoint");
    }
    size_t tail = slice->last ? slice->rule_count * sizeof(struct mr_saved_counters) : 0;
    if (len - sizeof *slice < tail) {
        return corrupt(job, "too short for its counters");
    }
    *ret_body = mr_bytes_of(rest->ptr + sizeof *slice, len - sizeof *slice - tail);
    *rest = mr_bytes_of(rest->ptr + len, rest->len - len);
    job->loading->saved[slice->shard].seen++;
    if (slice->last) {
        job->loading->saved[slice->shard].all = slice->index + 1;
    }
    return MR_OK;
}

/* What is wrong with a run's header; NULL: nothing. */
static const char *wrong_with_run(const struct job *job, const struct run *run, size_t left) {
    const struct mr_saved_run *head = &run->head;
    if (head->count == 0 || head->len > left || head->len % 8 != 0 || head->state_len % 8 != 0) {
        return "a run's length is wrong";
    }
    if (head->closed > 1 || head->closed_seq > job->loading->seq ||
        (head->closed_seq > 0 && head->closed == 0)) {
        return "a window's state is wrong";
    }
    if (run->rule == NULL) {
        return NULL;
    }
    const struct mr_rule *rule = run->rule->rule;
    if (head->state_len != rule->state_len || rule->window.kind == MR_WINDOW_SESSION ||
        mr_window_start(rule, head->start_ms) != head->start_ms) {
        return "a window is not one of its rule's";
    }
    int64_t watermark = mr_combine_watermark(job->combine, run->rule);
    if (!run->left_out && mr_window_closed(rule, head->start_ms, watermark) != (head->closed == 1)) {
        return "a window was open that the watermark has closed, or the other way round";
    }
    return NULL;
}

static bool key_fits(const struct mr_rule *rule, struct mr_bytes key) {
    if (mr_key_is_other(key)) {
        return key.ptr[1] < MR_SHARDS_MAX;
    }
    for (uint32_t c = 0; c < rule->key_count; c++) {
        struct mr_key_value value;
        if (!mr_key_next(&key, &value) || value.tag == MR_KEY_OTHER || value.tag == MR_KEY_PANE) {
            return false;
        }
    }
    return key.len == 0;
}

static bool is_mine(const struct job *job, const struct mr_rule *rule, struct mr_bytes key) {
    uint32_t shards = job->loading->shards;
    if (shards == 1) {
        return true;
    }
    uint32_t owner = mr_key_is_other(key) ? key.ptr[1] % shards
                                          : mr_rule_shard(mr_hash64(key, rule->key_seed), shards);
    return owner == job->combine->shard;
}

/* Takes the first group off *rest. */
static enum mr_status take_group(struct job *job, struct run *run, struct mr_bytes *rest) {
    struct mr_saved_group head;
    if (rest->len < sizeof head) {
        return corrupt(job, "a run is cut short");
    }
    memcpy(&head, rest->ptr, sizeof head);
    uint64_t size = mr_saved_group_size(&head);
    if (head.key_len > MR_KEY_LEN_MAX || head.state_len % 8 != 0 || size > rest->len) {
        return corrupt(job, "a group is cut short");
    }
    if (head.revision > job->loading->seq || ((head.panes & MR_GROUP_UNSAID) != 0 && run->head.closed == 0)) {
        return corrupt(job, "a group's head is wrong");
    }
    const uint8_t *at = rest->ptr;
    *rest = mr_bytes_of(at + size, rest->len - (size_t)size);
    if (run->rule == NULL) {
        job->dropped_events += head.events;
        return MR_OK;
    }
    const struct mr_rule *rule = run->rule->rule;
    struct mr_bytes key = mr_bytes_of(at + sizeof head + head.state_len, head.key_len);
    if (!key_fits(rule, key)) {
        return corrupt(job, "a key is not one of its rule's");
    }
    bool discards = rule->trigger.panes == MR_DISCARDING;
    if ((head.events == 0 && !discards) ||
        mr_metric_check(rule->metrics, rule->metric_count, mr_bytes_of(at + sizeof head, head.state_len)) != MR_OK) {
        return corrupt(job, "a group's state is not one of its rule's");
    }
    if (job->slice.magic == MR_SAVED_MAGIC_2 && run->head.closed == 1 && !rule->trigger.late &&
        head.revision > run->head.closed_seq) {
        head.panes |= MR_GROUP_UNSAID;
    }
    bool wanted = run->piece != NULL && (!run->final || (head.panes & MR_GROUP_UNSAID) != 0);
    if (wanted && is_mine(job, rule, key)) {
        memcpy(run->piece->groups + run->piece->len, at, (size_t)size);
        memcpy(run->piece->groups + run->piece->len, &head, sizeof head);
        run->piece->len += (size_t)size;
        run->count++;
    }
    return MR_OK;
}

static struct mr_load_window *find_or_add_window(struct mr_timeline *windows, int64_t start_ms) {
    struct mr_load_window *window = mr_timeline_find(windows, start_ms);
    if (window != NULL) {
        return window;
    }
    window = mr_alloc_zero(1, sizeof *window);
    if (window == NULL) {
        return NULL;
    }
    window->start_ms = start_ms;
    if (mr_timeline_insert(windows, start_ms, window) != MR_OK) {
        mr_free(window);
        return NULL;
    }
    return window;
}

/* Hands the run's piece over to its window. */
static enum mr_status gather(struct job *job, struct run *run) {
    if (run->piece->len == 0) {
        return MR_OK;
    }
    struct mr_load_window *window =
        find_or_add_window(&job->loading->windows[run->rule->rule->index], run->head.start_ms);
    if (window == NULL) {
        return mr_loading_no_memory(job->error);
    }
    /* A shard on which the window was first seen when its end had passed says 0. */
    uint64_t closed_seq = run->head.closed_seq;
    if (closed_seq > 0 && window->closed_seq > 0 && closed_seq != window->closed_seq) {
        return corrupt(job, "a window was closed twice");
    }
    window->closed_seq = closed_seq > 0 ? closed_seq : window->closed_seq;
    window->count += run->count;
    /* Mostly for other shards: what they take is not paid for here. */
    struct mr_load_piece *cut = run->piece->len < run->head.len
                                    ? mr_realloc(run->piece, sizeof *cut + run->piece->len)
                                    : NULL;
    run->piece = cut == NULL ? run->piece : cut;
    *(window->first == NULL ? &window->first : &window->last->next) = run->piece;
    window->last = run->piece;
    run->piece = NULL;
    return MR_OK;
}

/* A run that sessions wrote. */
static enum mr_status take_sessions(struct job *job, const struct run *run, struct mr_bytes bytes) {
    if (run->rule == NULL) {
        uint64_t events = 0;
        enum mr_status status = mr_sessions_saved_events(bytes, &events, job->error);
        job->dropped_events += events;
        return status;
    }
    return run->rule->sessions == NULL ? corrupt(job, "sessions of a rule that has none")
                                       : mr_sessions_load_slice(run->rule->sessions, bytes, job->error);
}

/* Takes the first leaf of a run that slices wrote off *rest. */
static enum mr_status take_leaf(struct job *job, const struct run *run, struct mr_bytes *rest) {
    struct mr_saved_leaf head;
    if (rest->len < sizeof head) {
        return corrupt(job, "a run is cut short");
    }
    memcpy(&head, rest->ptr, sizeof head);
    uint64_t size = mr_saved_leaf_size(&head);
    if (head.key_len > MR_KEY_LEN_MAX || head.state_len % 8 != 0 || size > rest->len) {
        return corrupt(job, "a slice is cut short");
    }
    struct mr_slices_loaded loaded = {
        .start_ms = head.start_ms,
        .events = head.events,
        .revision = head.revision,
        .shard = job->slice.shard,
        .ordinal = head.ordinal,
        .state = mr_bytes_of(rest->ptr + sizeof head, head.state_len),
        .key = mr_bytes_of(rest->ptr + sizeof head + head.state_len, head.key_len),
    };
    *rest = mr_bytes_of(rest->ptr + size, rest->len - (size_t)size);
    job->dropped_events += run->rule == NULL ? head.events : 0;
    if (run->rule == NULL) {
        return MR_OK;
    }
    const struct mr_rule *rule = run->rule->rule;
    int64_t start_ms = MR_TIME_MIN_MS;
    int64_t end_ms;
    if (head.start_ms >= 0 && head.start_ms <= MR_TIME_MAX_MS) {
        mr_window_slice(rule, head.start_ms, &start_ms, &end_ms);
    }
    bool left_out = job->loading->begins_ms != NULL && start_ms < run->rule->slices_open_ms; /* in no window but such */
    if (start_ms != head.start_ms || (start_ms < run->rule->slices_open_ms && !left_out) || head.events == 0 ||
        head.revision > job->loading->seq) {
        return corrupt(job, "a slice's head is wrong");
    }
    if (!key_fits(rule, loaded.key) || mr_metric_check(rule->metrics, rule->metric_count, loaded.state) != MR_OK) {
        return corrupt(job, "a slice's key or state is not one of its rule's");
    }
    bool wanted = !left_out && is_mine(job, rule, loaded.key);
    enum mr_status status = wanted ? mr_slices_load(run->rule->slices, &loaded) : MR_OK;
    if (status == MR_CORRUPT) {
        return corrupt(job, "two values for one slice and key");
    }
    return status == MR_OK ? MR_OK : mr_loading_no_memory(job->error);
}

/* A run that slices wrote. */
static enum mr_status take_slices(struct job *job, const struct run *run, struct mr_bytes bytes) {
    if (run->rule != NULL && (run->rule->slices == NULL || run->head.state_len != run->rule->rule->state_len)) {
        return corrupt(job, "slices of a rule that has none");
    }
    enum mr_status status = MR_OK;
    for (uint32_t k = 0; k < run->head.count && status == MR_OK; k++) {
        status = take_leaf(job, run, &bytes);
    }
    return status == MR_OK && bytes.len > 0 ? corrupt(job, "a run is longer than its slices") : status;
}

/* Takes the first run off *rest. */
static enum mr_status take_run(struct job *job, struct mr_bytes *rest) {
    struct run run = {0};
    if (rest->len < sizeof run.head) {
        return corrupt(job, "a run is cut short");
    }
    memcpy(&run.head, rest->ptr, sizeof run.head);
    size_t left = rest->len - sizeof run.head;
    if (run.head.rule >= job->loading->rule_map_len) {
        return corrupt(job, "a run of no rule");
    }
    uint32_t index = job->loading->rule_map[run.head.rule];
    run.rule = index == UINT32_MAX ? NULL : &job->combine->rules[index];
    run.left_out =
        run.rule != NULL && job->loading->begins_ms != NULL && run.head.start_ms < job->loading->begins_ms[index];
    if ((run.head.closed == MR_SAVED_SESSIONS || run.head.closed == MR_SAVED_SLICES) && run.head.len <= left) {
        struct mr_bytes bytes = mr_bytes_of(rest->ptr + sizeof run.head, (size_t)run.head.len);
        *rest = mr_bytes_of(bytes.ptr + bytes.len, left - bytes.len);
        return run.head.closed == MR_SAVED_SLICES ? take_slices(job, &run, bytes) : take_sessions(job, &run, bytes);
    }
    const char *wrong = wrong_with_run(job, &run, left);
    if (wrong != NULL) {
        return corrupt(job, wrong);
    }
    /* Final already, under a lateness that is shorter now: the results store has it, but for what is unsaid. */
    run.final = run.rule != NULL && mr_window_final(run.rule->rule, run.head.start_ms,
                                                    mr_combine_watermark(job->combine, run.rule));
    if (run.rule != NULL && !run.left_out) {
        run.piece = mr_alloc(sizeof *run.piece + (size_t)run.head.len);
        if (run.piece == NULL) {
            return mr_loading_no_memory(job->error);
        }
        *run.piece = (struct mr_load_piece){.shard = job->slice.shard};
    }
    struct mr_bytes groups = mr_bytes_of(rest->ptr + sizeof run.head, (size_t)run.head.len);
    *rest = mr_bytes_of(groups.ptr + groups.len, left - groups.len);
    enum mr_status status = MR_OK;
    for (uint32_t k = 0; k < run.head.count && status == MR_OK; k++) {
        status = take_group(job, &run, &groups);
    }
    if (status == MR_OK && groups.len > 0) {
        status = corrupt(job, "a run is longer than its groups");
    }
    if (status == MR_OK && run.piece != NULL) {
        status = gather(job, &run);
    }
    mr_free(run.piece);
    return status;
}

static void add_counters(const struct job *job, const uint8_t *at) {
    for (uint32_t i = 0; i < job->slice.rule_count; i++) {
        struct mr_saved_counters saved;
        memcpy(&saved, at + i * sizeof saved, sizeof saved);
        uint32_t index = job->loading->rule_map[i];
        if (index != UINT32_MAX) {
            struct mr_combine_rule_stats *stats = &job->combine->rules[index].stats;
            mr_counter_add(&stats->applied, saved.applied);
            mr_counter_add(&stats->dropped, saved.dropped);
            mr_counter_add(&stats->overflow, saved.overflow);
            mr_counter_add(&stats->panes, saved.panes);
        }
    }
}

enum mr_status mr_combine_load_slice(struct mr_combine *combine, struct mr_bytes slice,
                                     bool counters, uint64_t *ret_dropped_events,
                                     struct mr_error *error) {
    MR_ASSERT(combine->loading != NULL);
    struct job job = {.combine = combine, .loading = combine->loading, .error = error};
    do {
        struct mr_bytes body = {0};
        enum mr_status status = take_slice(&job, &slice, &body);
        while (status == MR_OK && body.len > 0) {
            status = take_run(&job, &body);
        }
        if (status != MR_OK) {
            return status;
        }
        if (counters && job.slice.last) {
            add_counters(&job, body.ptr);
        }
    } while (slice.len > 0);
    *ret_dropped_events = job.dropped_events;
    return MR_OK;
}
