/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/dead_letter.h"

#include "base/check.h"
#include "base/json.h"
#include "base/key.h"
#include "base/time_text.h"

void mr_dead_letter_time(struct mr_json *json, const char *name, int64_t time_ms) {
    mr_json_key(json, name);
    if (!mr_time_has_text(time_ms)) {
        mr_json_null(json);
        return;
    }
    char text[MR_TIME_TEXT_LEN + 1];
    mr_time_format(time_ms, text);
    mr_json_text(json, text);
}

void mr_dead_letter_place(struct mr_json *json, struct mr_bytes stream_name, uint64_t lsn, uint32_t index) {
    mr_json_key(json, "stream");
    mr_json_string(json, stream_name);
    mr_json_key(json, "lsn");
    mr_json_uint(json, lsn);
    mr_json_key(json, "index");
    mr_json_uint(json, index);
}

void mr_dead_letter_event(struct mr_buf *buf, const struct mr_dead_letter *letter) {
    const struct mr_batch *batch = letter->batch;
    MR_ASSERT(letter->event < batch->count);
    size_t at = mr_dead_begin(buf, batch->stream, letter->reason);
    struct mr_json json;
    mr_json_init(&json, buf);
    mr_json_object_begin(&json);
    mr_json_key(&json, "reason");
    mr_json_text(&json, mr_dead_reason_text(letter->reason));
    mr_dead_letter_place(&json, letter->stream_name, batch->lsn, letter->event);
    mr_dead_letter_time(&json, "time", batch->times_ms[letter->event]);
    mr_dead_letter_time(&json, "watermark", letter->watermark_ms);
    mr_json_key(&json, "rules");
    mr_json_array_begin(&json);
    for (uint32_t r = 0; r < letter->rule_count; r++) {
        mr_json_string(&json, letter->rules[r]->name);
    }
    mr_json_array_end(&json);
    mr_json_key(&json, "event");
    mr_json_raw(&json, mr_batch_event(batch, letter->event));
    mr_json_object_end(&json);
    mr_dead_end(buf, at);
}

void mr_dead_letter_key(struct mr_json *json, const struct mr_rule *rule, struct mr_bytes key) {
    mr_json_object_begin(json);
    for (uint32_t c = 0; c < rule->key_count; c++) {
        struct mr_key_value value;
        bool ok = mr_key_next(&key, &value);
        MR_ASSERT(ok && value.tag != MR_KEY_OTHER); /* the overflow group is never dropped */
        mr_json_key_bytes(json, rule->key_names[c]);
        switch (value.tag) {
        case MR_KEY_STRING:
            mr_json_string(json, value.text);
            break;
        case MR_KEY_NUMBER:
            mr_json_raw(json, value.text);
            break;
        case MR_KEY_TRUE:
        case MR_KEY_FALSE:
            mr_json_bool(json, value.tag == MR_KEY_TRUE);
            break;
        case MR_KEY_NULL:
        case MR_KEY_OTHER:
        case MR_KEY_PANE:
            mr_json_null(json);
            break;
        }
    }
    MR_ASSERT(key.len == 0);
    mr_json_object_end(json);
}
