/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/merged.h"

#include "base/alloc.h"

#define STATE_BYTES_MAX (64u << 20)

enum mr_status mr_merged_init(struct mr_merged *merged, const struct mr_rule *rule) {
    *merged = (struct mr_merged){.rule = rule, .live = mr_alloc_zero(1, rule->state_len)};
    mr_buf_init(&merged->encoded, STATE_BYTES_MAX);
    mr_buf_init(&merged->aligned, STATE_BYTES_MAX);
    return merged->live == NULL ? MR_NO_MEMORY : MR_OK;
}

enum mr_status mr_merged_add(struct mr_merged *merged, struct mr_bytes state) {
    const struct mr_rule *rule = merged->rule;
    if ((uintptr_t)state.ptr % 8 != 0) {
        mr_buf_clear(&merged->aligned);
        mr_buf_append_bytes(&merged->aligned, state);
        if (merged->aligned.failed) {
            return MR_NO_MEMORY;
        }
        state = mr_buf_bytes(&merged->aligned);
    }
    return mr_metric_merge(rule->metrics, rule->metric_count, merged->live, state);
}

struct mr_bytes mr_merged_state(struct mr_merged *merged) {
    const struct mr_rule *rule = merged->rule;
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, merged->live);
    mr_buf_clear(&merged->encoded);
    uint8_t *at = mr_buf_reserve(&merged->encoded, len);
    if (at == NULL) {
        return mr_bytes_of(NULL, 0);
    }
    mr_metric_encode(rule->metrics, rule->metric_count, merged->live, at);
    merged->encoded.len = len;
    return mr_buf_bytes(&merged->encoded);
}

void mr_merged_reset(struct mr_merged *merged) {
    mr_metric_release(merged->rule->metrics, merged->rule->metric_count, merged->live);
}

void mr_merged_finish(struct mr_merged *merged) {
    if (merged->live != NULL) {
        mr_merged_reset(merged);
    }
    mr_free(merged->live);
    merged->live = NULL;
    mr_buf_finish(&merged->encoded);
    mr_buf_finish(&merged->aligned);
}
