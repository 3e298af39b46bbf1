/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving: the walk over the groups, in slices, and what merge writes down before it changes it.
 *
 * A group as it was when the save began is known by its revision: not above the save's seq. One that
 * is above it was either written down by merge, or is new and not part of the save.
 */
#include "aggregate/combine_state.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/hash.h"

enum {
    RUN_BYTES = 64 * 1024,       /* a run ends there: waiting ones are handed out whole */
    WAITING_SLICE = 1024 * 1024, /* of what waits, in one slice; a run more */
};

static void end_run(struct mr_combine_run *run, struct mr_buf *buf) {
    if (run->run.count > 0 && !buf->failed) {
        memcpy(buf->ptr + run->at, &run->run, sizeof run->run);
    }
    run->run.count = 0;
}

static void begin_run(struct mr_combine_run *run, struct mr_buf *buf,
                      const struct mr_combine_window *window, uint64_t seq) {
    bool open = window->state == MR_WINDOW_OPEN || window->closed_seq > seq; /* at seq */
    end_run(run, buf);
    run->at = buf->len;
    run->run = (struct mr_saved_run){
        .rule = window->owner->rule->index,
        .state_len = window->owner->rule->state_len,
        .start_ms = window->start_ms,
        .closed_seq = open ? 0 : window->closed_seq,
        .closed = !open,
    };
    if (mr_buf_reserve(buf, sizeof run->run) != NULL) {
        buf->len += sizeof run->run;
    }
}

/* Behind the run's other groups, or into a run of its own. */
static void put_group(struct mr_combine_run *run, struct mr_buf *buf, uint64_t seq,
                      const struct mr_combine_window *window, const struct mr_group *group,
                      uint32_t ref) {
    const struct mr_rule *rule = window->owner->rule;
    MR_ASSERT(group->revision <= seq);
    if (run->run.count == 0 || run->run.rule != window->owner->rule->index ||
        run->run.start_ms != window->start_ms || run->run.len >= RUN_BYTES) {
        begin_run(run, buf, window, seq);
    }
    const uint8_t *state = (const uint8_t *)group + sizeof *group;
    struct mr_saved_group head = {
        .events = group->events,
        .revision = group->revision,
        .key_len = group->key_len,
        .ref = ref,
        .state_len = rule->grows ? mr_metric_encoded_len(rule->metrics, rule->metric_count, state) : rule->state_len,
        .panes = group->panes,
    };
    if (mr_combine_fires_early(rule)) {
        memcpy(&head.firing, state + rule->state_len, sizeof head.firing);
    }
    size_t size = mr_saved_group_size(&head);
    uint8_t *at = mr_buf_reserve(buf, size);
    if (at == NULL) {
        return;
    }
    memset(at + size - 8, 0, 8);
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    if (rule->grows) {
        mr_metric_encode(rule->metrics, rule->metric_count, state, at);
    } else {
        memcpy(at, state, head.state_len);
    }
    if (head.key_len > 0) {
        memcpy(at + head.state_len, state + window->groups.state_len, head.key_len);
    }
    buf->len += size;
    run->run.len += size;
    run->run.count++;
}

static bool walk_has_passed(const struct mr_combine_save *save,
                            const struct mr_combine_window *window, uint32_t ref) {
    uint32_t rule = window->owner->rule->index;
    if (rule != save->rule) {
        return rule < save->rule;
    }
    return window->start_ms != save->start_ms ? window->start_ms < save->start_ms : ref < save->ref;
}

void mr_combine_save_group(struct mr_combine *combine, const struct mr_combine_window *window,
                           const struct mr_group *group, uint32_t ref) {
    struct mr_combine_save *save = &combine->save;
    MR_ASSERT(window->state != MR_WINDOW_FINAL || window->final_seq > save->seq);
    if (!walk_has_passed(save, window, ref)) {
        put_group(&save->waiting_run, &save->waiting, save->seq, window, group, ref);
    }
}

void mr_combine_save_begin(struct mr_combine *combine, uint64_t seq) {
    MR_ASSERT(!combine->merging && !combine->firing && combine->dead_count == 0);
    MR_ASSERT(!combine->save.under_way && combine->loading == NULL);
    MR_ASSERT(!combine->advanced || seq >= combine->seq);
    struct mr_buf waiting = combine->save.waiting;
    MR_ASSERT(waiting.cap == 0 && !waiting.failed);
    combine->save = (struct mr_combine_save){
        .under_way = true, .seq = seq, .start_ms = INT64_MIN, .waiting = waiting};
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        cr->saved = (struct mr_saved_counters){
            .applied = mr_counter_read(&cr->stats.applied),
            .dropped = mr_counter_read(&cr->stats.dropped),
            .overflow = mr_counter_read(&cr->stats.overflow),
            .panes = mr_counter_read(&cr->stats.panes),
        };
        if (cr->sessions != NULL) {
            mr_sessions_save_begin(cr->sessions, seq);
        }
        if (cr->slices != NULL) {
            mr_slices_save_begin(cr->slices, seq);
        }
    }
}

/* Moves whole runs from what waits to ret; true: nothing waits any more. */
static bool take_waiting(struct mr_combine_save *save, struct mr_buf *ret) {
    struct mr_buf *waiting = &save->waiting;
    end_run(&save->waiting_run, waiting);
    size_t end = save->waiting_at;
    while (end < waiting->len && end - save->waiting_at < WAITING_SLICE) {
        struct mr_saved_run run;
        memcpy(&run, waiting->ptr + end, sizeof run);
        end += sizeof run + (size_t)run.len;
    }
    MR_ASSERT(end <= waiting->len);
    if (end > save->waiting_at) {
        mr_buf_append(ret, waiting->ptr + save->waiting_at, end - save->waiting_at);
    }
    save->waiting_at = end;
    size_t left = waiting->len - end;
    if (left <= end) { /* else the buffer would grow as long as merge is as fast as we are */
        if (left > 0) {
            memcpy(waiting->ptr, waiting->ptr + end, left);
        }
        waiting->len = left;
        save->waiting_at = 0;
    }
    return left == 0;
}

/* The window the walk is in, or comes to; NULL: it is through. */
static const struct mr_combine_window *window_ahead(struct mr_combine *combine) {
    struct mr_combine_save *save = &combine->save;
    while (save->rule < combine->rule_count) {
        const struct mr_combine_window *window =
            mr_timeline_ceil(&combine->rules[save->rule].windows, save->start_ms);
        if (window != NULL) {
            MR_ASSERT(save->ref == 0 || window->start_ms == save->start_ms);
            save->start_ms = window->start_ms;
            return window;
        }
        save->rule++;
        save->start_ms = INT64_MIN;
        save->ref = 0;
    }
    return NULL;
}

static void leave_window(struct mr_combine_save *save) {
    bool last = save->start_ms == INT64_MAX;
    save->rule += last;
    save->start_ms = last ? INT64_MIN : save->start_ms + 1;
    save->ref = 0;
}

/* A run that is no window's. */
static struct mr_combine_run begin_part(const struct mr_combine_rule *cr, uint32_t what, struct mr_buf *ret) {
    struct mr_combine_run run = {.at = ret->len};
    run.run = (struct mr_saved_run){
        .rule = cr->rule->index, .state_len = cr->rule->state_len, .closed = what, .count = 1};
    if (mr_buf_reserve(ret, sizeof run.run) != NULL) {
        ret->len += sizeof run.run;
    }
    return run;
}

/* The same of slices; without any there is no run. */
static bool save_slices(struct mr_combine *combine, uint32_t budget, struct mr_buf *ret) {
    bool all = true;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_slices *slices = combine->rules[r].slices;
        if (slices == NULL || !mr_slices_saving(slices)) {
            continue;
        }
        struct mr_combine_run run = begin_part(&combine->rules[r], MR_SAVED_SLICES, ret);
        bool failed = false;
        size_t begin = ret->len;
        bool done = mr_slices_save(slices, budget, ret, &run.run.count, &failed);
        ret->failed = ret->failed || failed;
        run.run.len = ret->len - begin;
        if (run.run.count > 0) {
            end_run(&run, ret);
        } else if (!ret->failed) {
            ret->len = run.at;
        }
        all = all && done;
    }
    return all;
}

/* A slice of each rule's sessions, as a run of its own; true: all of them have been written. */
static bool save_sessions(struct mr_combine *combine, uint32_t budget, struct mr_buf *ret) {
    bool all = true;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_sessions *sessions = combine->rules[r].sessions;
        if (sessions == NULL || !mr_sessions_saving(sessions)) {
            continue;
        }
        struct mr_combine_run run = begin_part(&combine->rules[r], MR_SAVED_SESSIONS, ret);
        bool done = false;
        size_t begin = ret->len;
        if (mr_sessions_save(sessions, budget, ret, &done) != MR_OK) {
            ret->failed = true;
            return false;
        }
        run.run.len = ret->len - begin;
        end_run(&run, ret);
        all = all && done;
    }
    return all;
}

/* Writes up to budget groups; true: the walk is through. A window costs as much as a group: there
 * may be many that have nothing for us. */
static bool walk(struct mr_combine *combine, uint32_t budget, struct mr_buf *ret) {
    struct mr_combine_save *save = &combine->save;
    struct mr_combine_run run = {0};
    const struct mr_combine_window *window = NULL;
    for (; budget > 0; budget--) {
        window = window == NULL ? window_ahead(combine) : window;
        if (window == NULL) {
            break;
        }
        bool was_final = window->state == MR_WINDOW_FINAL && window->final_seq <= save->seq;
        was_final = was_final || (MR_BUG(CHECKPOINT_LOSES_LATE) && window->closed_seq != 0);
        uint32_t ref = save->ref;
        const struct mr_group *group =
            was_final ? NULL : mr_groups_next(&window->groups, &save->ref);
        if (group == NULL) {
            leave_window(save);
            window = NULL;
        } else if (group->revision <= save->seq) {
            put_group(&run, ret, save->seq, window, group, ref);
        }
    }
    end_run(&run, ret);
    return save->rule == combine->rule_count;
}

static void put_counters(const struct mr_combine *combine, struct mr_buf *ret) {
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        mr_buf_append(ret, &combine->rules[r].saved, sizeof combine->rules[r].saved);
    }
}

static void end_slice(const struct mr_combine *combine, size_t begin, bool last,
                      struct mr_buf *buf) {
    struct mr_saved_slice slice = {
        .magic = MR_SAVED_MAGIC,
        .index = combine->save.slices,
        .len = buf->len - begin,
        .seq = combine->save.seq,
        .shard = combine->shard,
        .rule_count = combine->rule_count,
        .last = last,
    };
    uint8_t *at = buf->ptr + begin;
    memcpy(at, &slice, sizeof slice);
    slice.checksum = mr_checksum(
        mr_bytes_of(at + sizeof slice.checksum, (size_t)slice.len - sizeof slice.checksum));
    memcpy(at, &slice.checksum, sizeof slice.checksum);
}

enum mr_status mr_combine_save(struct mr_combine *combine, uint32_t budget, struct mr_buf *ret,
                               bool *ret_done) {
    struct mr_combine_save *save = &combine->save;
    MR_ASSERT(save->under_way && budget > 0);
    size_t begin = ret->len;
    if (mr_buf_reserve(ret, sizeof(struct mr_saved_slice)) != NULL) {
        ret->len += sizeof(struct mr_saved_slice);
    }
    bool sessions = save_sessions(combine, budget, ret);
    bool groups = !save->waiting.failed && take_waiting(save, ret) && walk(combine, budget, ret);
    bool done = save_slices(combine, budget, ret) && groups && sessions;
    if (done) {
        put_counters(combine, ret);
    }
    if (ret->failed || save->waiting.failed) {
        save->waiting.failed = true; /* a slice is missing: no further one may succeed */
        return MR_NO_MEMORY;
    }
    end_slice(combine, begin, done, ret);
    save->slices++;
    if (done) {
        mr_combine_save_stop(combine);
    }
    *ret_done = done;
    return MR_OK;
}

bool mr_combine_saving(const struct mr_combine *combine) {
    return combine->save.under_way;
}

size_t mr_combine_save_waiting(const struct mr_combine *combine) {
    size_t waiting = combine->save.waiting.len - combine->save.waiting_at;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        const struct mr_combine_rule *cr = &combine->rules[r];
        waiting += cr->sessions == NULL ? 0 : mr_sessions_save_waiting(cr->sessions);
        waiting += cr->slices == NULL ? 0 : mr_slices_save_waiting(cr->slices);
    }
    return waiting;
}

void mr_combine_save_stop(struct mr_combine *combine) {
    struct mr_combine_save *save = &combine->save;
    save->under_way = false;
    save->waiting_at = 0;
    mr_buf_finish(&save->waiting);
    for (uint32_t r = 0; combine->rules != NULL && r < combine->rule_count; r++) {
        if (combine->rules[r].sessions != NULL) {
            mr_sessions_save_stop(combine->rules[r].sessions);
        }
        if (combine->rules[r].slices != NULL) {
            mr_slices_save_stop(combine->rules[r].slices);
        }
    }
}
