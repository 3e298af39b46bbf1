/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/memory_results.h"

#include "base/bug.h"
#include "base/check.h"
#include "tests/sink/memory_order.h"

struct row {
    struct mr_pane pane; /* numbers, key and state lie behind it */
};

struct row_list {
    struct row **rows;
    size_t count;
    size_t cap;
};

struct step {
    struct row *put; /* NULL: finalize */
    struct mr_final final;
};

struct outbox_pane {
    uint64_t id;
    struct row *row;
};

struct memory {
    struct mr_results base;
    const struct mr_results_rule *rules;
    uint32_t rule_count;
    uint64_t incarnation;
    uint64_t outbox_panes_max;
    struct row_list *tables; /* by rule: sorted by window start, then key */
    struct outbox_pane *outbox;
    size_t outbox_count;
    size_t outbox_cap;
    uint64_t outbox_next;
    uint64_t flushed_seq;
    uint64_t epoch;
    bool in_transaction;
    struct step *steps;
    size_t step_count;
    size_t step_cap;
    struct mr_memory_failure failure;
    uint64_t failures;
};

static const struct mr_results_ops memory_ops;

static struct memory *memory_of(const struct mr_results *results) {
    MR_ASSERT(results->ops == &memory_ops);
    return (struct memory *)(uintptr_t)results;
}

/* Room for one more of size each. */
static void *grown(void *items, size_t count, size_t *cap, size_t size) {
    if (count == *cap) {
        *cap = *cap == 0 ? 16 : *cap * 2;
        items = realloc(items, *cap * size);
        MR_ASSERT(items != NULL);
    }
    return items;
}

static struct mr_bytes copied(uint8_t **at, struct mr_bytes from) {
    struct mr_bytes to = mr_bytes_of(*at, from.len);
    if (from.len > 0) {
        memcpy(*at, from.ptr, from.len);
        *at += from.len;
    }
    return to;
}

static bool is_text(const struct mr_number *number) {
    return number->kind == MR_NUMBER_TEXT || number->kind == MR_NUMBER_JSON;
}

static struct row *row_open(const struct mr_pane *pane) {
    size_t numbers = pane->number_count * sizeof *pane->numbers;
    size_t texts = 0;
    for (uint32_t i = 0; i < pane->number_count; i++) {
        texts += is_text(&pane->numbers[i]) ? pane->numbers[i].len : 0;
    }
    struct row *row = calloc(1, sizeof *row + numbers + texts + pane->key.len + pane->state.len);
    MR_ASSERT(row != NULL);
    row->pane = *pane;
    uint8_t *at = (uint8_t *)(row + 1);
    struct mr_bytes from = mr_bytes_of(pane->numbers, numbers);
    struct mr_number *to = (struct mr_number *)(uintptr_t)copied(&at, from).ptr;
    row->pane.numbers = pane->number_count == 0 ? NULL : to;
    for (uint32_t i = 0; i < pane->number_count; i++) {
        if (is_text(&to[i])) {
            to[i].text = copied(&at, mr_bytes_of(to[i].text, to[i].len)).ptr;
        }
    }
    row->pane.key = copied(&at, pane->key);
    row->pane.state = copied(&at, pane->state);
    return row;
}

/* Whether this call is the one that fails. */
static bool fails_now(struct memory *m, enum mr_memory_op op) {
    struct mr_memory_failure *f = &m->failure;
    if ((f->ops & op) == 0 || f->nth == 0) {
        return false;
    }
    if (f->nth > 1) {
        f->nth--;
        return false;
    }
    if (!f->forever) {
        f->nth = 0;
    }
    m->failures++;
    return true;
}

static void forget_steps(struct memory *m) {
    for (size_t i = 0; i < m->step_count; i++) {
        free(m->steps[i].put);
    }
    m->step_count = 0;
    m->in_transaction = false;
}

static int compare_place(const struct mr_pane *a, int64_t start_ms, struct mr_bytes key) {
    if (a->window_start_ms != start_ms) {
        return a->window_start_ms < start_ms ? -1 : 1;
    }
    return mr_bytes_compare(a->key, key);
}

/* The first row at or behind the place. */
static size_t lower_bound(const struct row_list *list, int64_t start_ms, struct mr_bytes key) {
    size_t low = 0;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_place(&list->rows[middle]->pane, start_ms, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void append_outbox(struct memory *m, const struct mr_pane *pane, bool retraction) {
    if (m->outbox_panes_max > 0) {
        m->outbox = grown(m->outbox, m->outbox_count, &m->outbox_cap, sizeof *m->outbox);
        m->outbox[m->outbox_count] = (struct outbox_pane){m->outbox_next++, row_open(pane)};
        m->outbox[m->outbox_count++].row->pane.retraction = retraction;
    }
}

static void apply_retraction(struct memory *m, struct row_list *list, size_t i, bool found, uint64_t revision) {
    if (found && list->rows[i]->pane.revision <= revision) {
        append_outbox(m, &list->rows[i]->pane, true);
        free(list->rows[i]);
        list->count--;
        memmove(&list->rows[i], &list->rows[i + 1], (list->count - i) * sizeof *list->rows);
    }
}

static bool says_the_same(const struct mr_pane *a, const struct mr_pane *b) {
    return a->window_end_ms == b->window_end_ms && a->events == b->events && mr_bytes_equal(a->state, b->state);
}

/* Takes the row. */
static void apply_put(struct memory *m, struct row *row) {
    struct row_list *list = &m->tables[row->pane.rule];
    size_t i = lower_bound(list, row->pane.window_start_ms, row->pane.key);
    bool found = i < list->count && compare_place(&list->rows[i]->pane, row->pane.window_start_ms, row->pane.key) == 0;
    if (row->pane.retraction) {
        apply_retraction(m, list, i, found, row->pane.revision);
        free(row);
        return;
    }
    if (found && list->rows[i]->pane.revision >= row->pane.revision && !MR_BUG(REVISION_NOT_GUARDED)) {
        free(row);
        return;
    }
    if (found && m->rules[row->pane.rule].retracting && !says_the_same(&list->rows[i]->pane, &row->pane)) {
        append_outbox(m, &list->rows[i]->pane, true);
    }
    append_outbox(m, &row->pane, false);
    if (found) {
        row->pane.final = row->pane.final || list->rows[i]->pane.final;
        free(list->rows[i]);
    } else {
        list->rows = grown(list->rows, list->count, &list->cap, sizeof *list->rows);
        memmove(&list->rows[i + 1], &list->rows[i], (list->count - i) * sizeof *list->rows);
        list->count++;
    }
    list->rows[i] = row;
}

static void apply_final(struct memory *m, const struct mr_final *final) {
    struct row_list *list = &m->tables[final->rule];
    for (size_t i = 0; i < list->count; i++) {
        struct mr_pane *pane = &list->rows[i]->pane;
        pane->final = pane->final || pane->window_end_ms <= final->end_ms;
    }
}

static void prune_outbox(struct memory *m) {
    if (m->outbox_count <= m->outbox_panes_max) {
        return;
    }
    size_t gone = m->outbox_count - (size_t)m->outbox_panes_max;
    for (size_t i = 0; i < gone; i++) {
        free(m->outbox[i].row);
    }
    m->outbox_count -= gone;
    memmove(m->outbox, m->outbox + gone, m->outbox_count * sizeof *m->outbox);
}

static void apply(struct memory *m, uint64_t flushed_seq) {
    for (size_t i = 0; i < m->step_count; i++) {
        if (m->steps[i].put != NULL) {
            apply_put(m, m->steps[i].put);
        } else {
            apply_final(m, &m->steps[i].final);
        }
    }
    m->step_count = 0;
    m->in_transaction = false;
    m->flushed_seq = flushed_seq;
    prune_outbox(m);
}

static enum mr_status memory_begin(struct mr_results *results) {
    struct memory *m = memory_of(results);
    MR_ASSERT(!m->in_transaction);
    if (fails_now(m, MR_MEMORY_BEGIN)) {
        return m->failure.status;
    }
    m->in_transaction = true;
    return MR_OK;
}

static enum mr_status add_step(struct memory *m, enum mr_memory_op op, struct step step) {
    MR_ASSERT(m->in_transaction);
    m->steps = grown(m->steps, m->step_count, &m->step_cap, sizeof *m->steps);
    m->steps[m->step_count++] = step;
    if (fails_now(m, op)) {
        forget_steps(m);
        return m->failure.status;
    }
    return MR_OK;
}

static enum mr_status memory_put(struct mr_results *results, const struct mr_pane *pane) {
    struct memory *m = memory_of(results);
    MR_ASSERT(pane->rule < m->rule_count);
    MR_ASSERT(pane->retraction || pane->number_count == m->rules[pane->rule].metric_count);
    return add_step(m, MR_MEMORY_PUT, (struct step){.put = row_open(pane)});
}

static enum mr_status memory_finalize(struct mr_results *results, uint32_t rule, int64_t end_ms) {
    struct memory *m = memory_of(results);
    MR_ASSERT(rule < m->rule_count);
    return add_step(m, MR_MEMORY_FINALIZE, (struct step){.final = {rule, end_ms}});
}

static enum mr_status memory_commit(struct mr_results *results, uint64_t flushed_seq) {
    struct memory *m = memory_of(results);
    MR_ASSERT(m->in_transaction);
    MR_ASSERT(flushed_seq >= m->flushed_seq);
    bool fails = fails_now(m, MR_MEMORY_COMMIT);
    if (fails && !m->failure.after) {
        forget_steps(m);
        return m->failure.status;
    }
    apply(m, flushed_seq);
    mr_memory_results_check(results);
    return fails ? m->failure.status : MR_OK;
}

static void memory_rollback(struct mr_results *results) {
    forget_steps(memory_of(results));
}

static uint64_t memory_flushed_seq(struct mr_results *results) {
    return memory_of(results)->flushed_seq;
}

static bool is_aside(const struct memory *m, uint32_t rule) {
    uint32_t i = 0;
    while (!mr_bytes_equal(m->rules[i].name, m->rules[rule].name)) {
        i++;
    }
    return i < rule;
}

/* The last revision of the rule that a rewind to seq leaves. */
static uint64_t last_left(const struct memory *m, uint32_t rule, uint64_t seq) {
    if (!is_aside(m, rule)) {
        return seq;
    }
    return m->rules[rule].generation > seq ? 0 : UINT64_MAX;
}

static void rewind_table(struct memory *m, uint32_t rule, uint64_t seq) {
    struct row_list *list = &m->tables[rule];
    uint64_t last = last_left(m, rule, seq);
    size_t left = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct row *row = list->rows[i];
        if (row->pane.revision > last) {
            free(row);
        } else {
            row->pane.final = row->pane.final && is_aside(m, rule);
            list->rows[left++] = row;
        }
    }
    list->count = left;
}

static void rewind_outbox(struct memory *m, uint64_t seq) {
    size_t left = 0;
    for (size_t i = 0; i < m->outbox_count; i++) {
        const struct mr_pane *pane = &m->outbox[i].row->pane;
        if (pane->revision > last_left(m, pane->rule, seq)) {
            free(m->outbox[i].row);
        } else {
            m->outbox[left++] = m->outbox[i];
        }
    }
    m->outbox_count = left;
}

static enum mr_status memory_rewind(struct mr_results *results, uint64_t seq) {
    struct memory *m = memory_of(results);
    MR_ASSERT(!m->in_transaction);
    bool fails = fails_now(m, MR_MEMORY_REWIND);
    if (fails && !m->failure.after) {
        return m->failure.status;
    }
    for (uint32_t r = 0; r < m->rule_count; r++) {
        rewind_table(m, r, seq);
    }
    rewind_outbox(m, seq);
    m->epoch++;
    m->flushed_seq = seq;
    mr_memory_results_check(results);
    return fails ? m->failure.status : MR_OK;
}

static const char *memory_error_text(struct mr_results *results) {
    return memory_of(results)->failures == 0 ? "" : "failed by plan";
}

static enum mr_status memory_reader_open(struct mr_results *results,
                                         struct mr_results_reader **ret) {
    struct mr_results_reader *reader = calloc(1, sizeof *reader);
    MR_ASSERT(reader != NULL);
    reader->results = results;
    *ret = reader;
    return MR_OK;
}

static void memory_reader_close(struct mr_results_reader *reader) {
    free(reader);
}

static bool matches(const struct mr_results_query *q, const struct mr_pane *row) {
    if (row->window_start_ms < q->from_ms || row->window_start_ms >= q->to_ms ||
        (q->final_only && !row->final) || (q->open_only && row->final)) {
        return false;
    }
    if (!q->has_after) {
        return true;
    }
    int place = compare_place(row, q->after_start_ms, q->after_key);
    return q->descending ? place < 0 : place > 0;
}

/* Rows in window order go in one by one behind those that are not greater: equal ones stay in
 * order. */
static void insert_sorted(struct row_list *list, struct row *row, uint32_t metric,
                          bool descending) {
    list->rows = grown(list->rows, list->count, &list->cap, sizeof *list->rows);
    size_t i = list->count++;
    for (; i > 0; i--) {
        int order =
            mr_memory_compare_number(&list->rows[i - 1]->pane.numbers[metric], &row->pane.numbers[metric]);
        if (descending ? order >= 0 : order <= 0) {
            break;
        }
        list->rows[i] = list->rows[i - 1];
    }
    list->rows[i] = row;
}

static enum mr_status may_read(struct memory *m, struct mr_error *error) {
    return fails_now(m, MR_MEMORY_READ) ? mr_error_set(error, m->failure.status, "failed by plan") : MR_OK;
}

static enum mr_status memory_read(struct mr_results_reader *reader,
                                  const struct mr_results_query *q, struct mr_error *error) {
    struct memory *m = memory_of(reader->results);
    MR_ASSERT(q->rule < m->rule_count);
    if (fails_now(m, MR_MEMORY_READ)) {
        return mr_error_set(error, m->failure.status, "failed by plan");
    }
    const struct row_list *table = &m->tables[q->rule];
    struct row_list found = {0};
    for (size_t i = 0; i < table->count; i++) {
        bool backwards = q->order < 0 && q->descending;
        struct row *row = table->rows[backwards ? table->count - 1 - i : i];
        if (!matches(q, &row->pane)) {
            continue;
        }
        if (q->order >= 0) {
            insert_sorted(&found, row, (uint32_t)q->order, q->descending);
            continue;
        }
        found.rows = grown(found.rows, found.count, &found.cap, sizeof *found.rows);
        found.rows[found.count++] = row;
    }
    bool more = true;
    for (size_t i = 0; i < found.count && more; i++) {
        struct mr_pane row = found.rows[i]->pane;
        row.numbers = NULL;
        row.number_count = 0;
        more = q->visit(q->ctx, &row);
    }
    free(found.rows);
    return MR_OK;
}

/* Panes of ids behind first up to last, of that rule or (UINT32_MAX) of all. Returns where it stopped. */
static uint64_t visit_panes(const struct memory *m, uint64_t first, uint64_t last, uint32_t rule,
                            mr_results_outbox_visit visit, void *ctx) {
    for (size_t i = 0; i < m->outbox_count; i++) {
        uint64_t id = m->outbox[i].id;
        struct mr_pane pane = m->outbox[i].row->pane;
        pane.numbers = NULL;
        pane.number_count = 0;
        bool wanted = id > first && id <= last && (rule == UINT32_MAX || rule == pane.rule);
        if (wanted && !visit(ctx, id, &pane)) {
            return id;
        }
    }
    return last;
}

static enum mr_status memory_read_outbox(struct mr_results_reader *reader, uint64_t after_id,
                                         mr_results_outbox_visit visit, void *ctx,
                                         struct mr_error *error) {
    struct memory *m = memory_of(reader->results);
    enum mr_status status = may_read(m, error);
    if (status == MR_OK) {
        (void)visit_panes(m, after_id, UINT64_MAX, UINT32_MAX, visit, ctx); /* where is not asked */
    }
    return status;
}

static enum mr_status memory_read_outbox_rule(struct mr_results_reader *reader, uint32_t rule, uint64_t after_id,
                                              mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                              struct mr_error *error) {
    struct memory *m = memory_of(reader->results);
    MR_ASSERT(rule < m->rule_count);
    enum mr_status status = may_read(m, error);
    if (status == MR_OK) {
        uint64_t newest = m->outbox_next - 1;
        uint64_t oldest = m->outbox_count == 0 ? m->outbox_next : m->outbox[0].id;
        uint64_t first = after_id < oldest ? oldest - 1 : after_id;
        uint64_t last = first + MR_RESULTS_LOOK_MAX < newest ? first + MR_RESULTS_LOOK_MAX : newest;
        *ret_id = first < last ? visit_panes(m, first, last, rule, visit, ctx) : first;
    }
    return status;
}

static enum mr_status memory_read_state(struct mr_results_reader *reader, struct mr_results_state *ret,
                                        struct mr_error *error) {
    struct memory *m = memory_of(reader->results);
    if (fails_now(m, MR_MEMORY_READ)) {
        return mr_error_set(error, m->failure.status, "failed by plan");
    }
    *ret = (struct mr_results_state){
        .incarnation = m->incarnation,
        .epoch = m->epoch,
        .oldest_id = m->outbox_count == 0 ? m->outbox_next : m->outbox[0].id,
        .newest_id = m->outbox_next - 1,
    };
    return MR_OK;
}

static enum mr_status memory_read_open_from(struct mr_results_reader *reader, uint32_t rule,
                                            int64_t *ret_ms, struct mr_error *error) {
    struct memory *m = memory_of(reader->results);
    MR_ASSERT(rule < m->rule_count);
    if (fails_now(m, MR_MEMORY_READ)) {
        return mr_error_set(error, m->failure.status, "failed by plan");
    }
    *ret_ms = INT64_MAX;
    for (size_t i = m->tables[rule].count; i > 0; i--) {
        const struct mr_pane *row = &m->tables[rule].rows[i - 1]->pane;
        *ret_ms = row->final ? *ret_ms : row->window_start_ms;
    }
    return MR_OK;
}

static void memory_close(struct mr_results *results) {
    struct memory *m = memory_of(results);
    forget_steps(m);
    for (uint32_t r = 0; r < m->rule_count; r++) {
        for (size_t i = 0; i < m->tables[r].count; i++) {
            free(m->tables[r].rows[i]);
        }
        free(m->tables[r].rows);
    }
    for (size_t i = 0; i < m->outbox_count; i++) {
        free(m->outbox[i].row);
    }
    free(m->tables);
    free(m->outbox);
    free(m->steps);
    free(m);
}

static const struct mr_results_ops memory_ops = {
    .begin = memory_begin,
    .put = memory_put,
    .finalize = memory_finalize,
    .commit = memory_commit,
    .rollback = memory_rollback,
    .flushed_seq = memory_flushed_seq,
    .rewind = memory_rewind,
    .reader_open = memory_reader_open,
    .reader_close = memory_reader_close,
    .read = memory_read,
    .read_outbox = memory_read_outbox,
    .read_outbox_rule = memory_read_outbox_rule,
    .read_state = memory_read_state,
    .read_open_from = memory_read_open_from,
    .error_text = memory_error_text,
    .close = memory_close,
};

struct mr_results *mr_memory_results_open(const struct mr_memory_results_options *options) {
    struct memory *m = calloc(1, sizeof *m);
    MR_ASSERT(m != NULL);
    m->base.ops = &memory_ops;
    m->rules = options->rules;
    m->rule_count = options->rule_count;
    m->outbox_panes_max = options->outbox_panes_max;
    m->outbox_next = 1;
    m->incarnation = options->incarnation;
    m->epoch = options->epoch != 0 ? options->epoch : 1;
    m->tables = calloc(options->rule_count + 1, sizeof *m->tables);
    MR_ASSERT(m->tables != NULL);
    return &m->base;
}

void mr_memory_results_crash(struct mr_results *results) {
    forget_steps(memory_of(results));
}

void mr_memory_results_fail(struct mr_results *results, const struct mr_memory_failure *failure) {
    MR_ASSERT(failure->nth == 0 || failure->status != MR_OK);
    memory_of(results)->failure = *failure;
}

uint64_t mr_memory_results_failures(const struct mr_results *results) {
    return memory_of(results)->failures;
}

void mr_memory_results_each(struct mr_results *results, uint32_t rule,
                            bool (*visit)(void *ctx, const struct mr_pane *row), void *ctx) {
    const struct memory *m = memory_of(results);
    MR_ASSERT(rule < m->rule_count);
    bool more = true;
    for (size_t i = 0; i < m->tables[rule].count && more; i++) {
        more = visit(ctx, &m->tables[rule].rows[i]->pane);
    }
}

uint64_t mr_memory_results_count(const struct mr_results *results, uint32_t rule) {
    const struct memory *m = memory_of(results);
    MR_ASSERT(rule < m->rule_count);
    return m->tables[rule].count;
}

void mr_memory_results_check(const struct mr_results *results) {
    const struct memory *m = memory_of(results);
    MR_ASSERT(m->in_transaction || m->step_count == 0);
    MR_ASSERT(m->outbox_count <= m->outbox_panes_max);
    for (uint32_t r = 0; r < m->rule_count; r++) {
        const struct row_list *list = &m->tables[r];
        for (size_t i = 1; i < list->count; i++) {
            const struct mr_pane *next = &list->rows[i]->pane;
            MR_VERIFY(compare_place(&list->rows[i - 1]->pane, next->window_start_ms, next->key) <
                      0);
        }
    }
}
