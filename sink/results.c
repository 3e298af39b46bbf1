/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/results.h"

#include "base/check.h"

enum mr_status mr_results_begin(struct mr_results *results) {
    return results->ops->begin(results);
}

enum mr_status mr_results_put(struct mr_results *results, const struct mr_pane *pane) {
    MR_ASSERT(pane->window_start_ms < pane->window_end_ms);
    MR_ASSERT(pane->revision > 0); /* 0 would mean flushed before the first bundle */
    MR_ASSERT(!pane->retraction || pane->number_count == 0);
    return results->ops->put(results, pane);
}

enum mr_status mr_results_finalize(struct mr_results *results, uint32_t rule, int64_t end_ms) {
    return results->ops->finalize(results, rule, end_ms);
}

enum mr_status mr_results_commit(struct mr_results *results, uint64_t flushed_seq) {
    MR_ASSERT(flushed_seq >= mr_results_flushed_seq(results));
    return results->ops->commit(results, flushed_seq);
}

void mr_results_rollback(struct mr_results *results) {
    results->ops->rollback(results);
}

uint64_t mr_results_flushed_seq(struct mr_results *results) {
    return results->ops->flushed_seq(results);
}

enum mr_status mr_results_rewind(struct mr_results *results, uint64_t seq) {
    MR_ASSERT(seq <= mr_results_flushed_seq(results));
    return results->ops->rewind(results, seq);
}

const char *mr_results_error_text(struct mr_results *results) {
    return results->ops->error_text(results);
}

enum mr_status mr_results_reader_open(struct mr_results *results, struct mr_results_reader **ret) {
    return results->ops->reader_open(results, ret);
}

void mr_results_reader_close(struct mr_results_reader *reader) {
    if (reader != NULL) {
        reader->results->ops->reader_close(reader);
    }
}

enum mr_status mr_results_read(struct mr_results_reader *reader,
                               const struct mr_results_query *query, struct mr_error *error) {
    MR_ASSERT(query->visit != NULL);
    MR_ASSERT(query->order < 0 || !query->has_after); /* a cursor is a place in window order */
    MR_ASSERT(!(query->final_only && query->open_only));
    return reader->results->ops->read(reader, query, error);
}

enum mr_status mr_results_read_outbox(struct mr_results_reader *reader, uint64_t after_id,
                                      mr_results_outbox_visit visit, void *ctx,
                                      struct mr_error *error) {
    MR_ASSERT(visit != NULL);
    return reader->results->ops->read_outbox(reader, after_id, visit, ctx, error);
}

enum mr_status mr_results_read_outbox_rule(struct mr_results_reader *reader, uint32_t rule, uint64_t after_id,
                                           mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                           struct mr_error *error) {
    MR_ASSERT(visit != NULL);
    return reader->results->ops->read_outbox_rule(reader, rule, after_id, visit, ctx, ret_id, error);
}

enum mr_status mr_results_read_state(struct mr_results_reader *reader, struct mr_results_state *ret,
                                     struct mr_error *error) {
    return reader->results->ops->read_state(reader, ret, error);
}

enum mr_status mr_results_read_open_from(struct mr_results_reader *reader, uint32_t rule,
                                         int64_t *ret_ms, struct mr_error *error) {
    return reader->results->ops->read_open_from(reader, rule, ret_ms, error);
}

void mr_results_close(struct mr_results *results) {
    if (results != NULL) {
        results->ops->close(results);
    }
}
