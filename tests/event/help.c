/* SPDX-License-Identifier: Apache-2.0 */
#include "help.h"

void variants_open(struct variants *v) {
    static const enum mr_decode_path paths[] = {MR_DECODE_PORTABLE, MR_DECODE_AVX2};
    v->count = 0;
    for (uint32_t i = 0; i < VARIANTS_MAX; i++) {
        struct mr_decoder *decoder = NULL;
        enum mr_status status = mr_decoder_open(paths[i / 2], &decoder);
        if (status == MR_UNSUPPORTED) {
            continue;
        }
        assert_int_equal(status, MR_OK);
        mr_decoder_predict(decoder, i % 2 == 0);
        v->decoder[v->count++] = decoder;
    }
    assert_true(v->count >= 2);
}

void variants_close(struct variants *v) {
    for (uint32_t i = 0; i < v->count; i++) {
        mr_decoder_close(v->decoder[i]);
    }
}

enum mr_status decode_with(struct mr_decoder *decoder, const struct mr_schema *schema,
                           enum mr_format format, struct mr_bytes body, struct mr_batch **ret,
                           struct mr_error *error) {
    struct mr_buf buf;
    mr_buf_init(&buf, body.len + MR_PADDING);
    buf.ptr = mr_alloc(body.len + MR_PADDING);
    assert_non_null(buf.ptr);
    buf.cap = body.len + MR_PADDING;
    buf.len = body.len;
    if (body.len > 0) {
        memcpy(buf.ptr, body.ptr, body.len);
    }
    memset(buf.ptr + body.len, '"', MR_PADDING); /* what stands there must not matter */
    *ret = NULL;
    enum mr_status status = mr_decode(decoder, schema, format, &buf, ret, error);
    assert_int_equal(status == MR_OK, *ret != NULL);
    mr_buf_finish(&buf);
    return status;
}

static void assert_same_errors(const struct mr_batch *a, const struct mr_batch *b) {
    assert_int_equal(a->error_count, b->error_count);
    assert_int_equal(a->errors_truncated, b->errors_truncated);
    for (uint32_t i = 0; i < a->error_count; i++) {
        assert_int_equal(a->errors[i].index, b->errors[i].index);
        assert_int_equal(a->errors[i].line, b->errors[i].line);
        assert_int_equal(a->errors[i].reject, b->errors[i].reject);
        assert_string_equal(a->errors[i].pointer, b->errors[i].pointer);
        assert_string_equal(a->errors[i].detail, b->errors[i].detail);
    }
}

static void assert_same_array(const void *a, const void *b, size_t len) {
    assert_int_equal(len > 0 ? memcmp(a, b, len) : 0, 0);
}

void assert_same_batch(const struct mr_batch *a, const struct mr_batch *b) {
    size_t n = a->count;
    assert_int_equal(a->format, b->format);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->rejected, b->rejected);
    assert_int_equal(a->order_count, b->order_count);
    assert_int_equal(a->arrivals, b->arrivals);
    assert_true(a->time_max_ms == b->time_max_ms);
    assert_same_array(a->fps, b->fps, n * sizeof *a->fps);
    assert_same_array(a->times_ms, b->times_ms, n * sizeof *a->times_ms);
    assert_same_array(a->spans, b->spans, n * sizeof *a->spans);
    assert_same_array(a->verdicts, b->verdicts, n);
    assert_same_array(a->order, b->order, a->order_count * sizeof *a->order);
    assert_int_equal(a->has_id != NULL, b->has_id != NULL);
    assert_same_array(a->has_id, b->has_id, a->has_id != NULL ? n : 0);
    for (uint32_t c = 0; c < a->columns; c++) {
        assert_same_array(a->column[c].values, b->column[c].values, n * sizeof(union mr_value));
        assert_same_array(a->column[c].kinds, b->column[c].kinds, n);
    }
    assert_int_equal(a->unescaped.len, b->unescaped.len);
    assert_same_array(a->unescaped.ptr, b->unescaped.ptr, a->unescaped.len);
    assert_same_errors(a, b);
}

enum mr_status decode_all(struct variants *v, const struct mr_schema *schema, enum mr_format format,
                          struct mr_bytes body, struct mr_batch **ret, struct mr_error *error) {
    struct mr_error local = {.status = MR_OK};
    error = error == NULL ? &local : error;
    enum mr_status first = decode_with(v->decoder[0], schema, format, body, ret, error);
    if (*ret != NULL) {
        mr_batch_check(*ret, mr_schema_options(schema)->shards);
    }
    for (uint32_t i = 1; i < v->count; i++) {
        struct mr_batch *other;
        struct mr_error other_error = {.status = MR_OK};
        enum mr_status status =
            decode_with(v->decoder[i], schema, format, body, &other, &other_error);
        assert_int_equal(status, first);
        if (status == MR_OK) {
            assert_same_batch(*ret, other);
        } else {
            assert_string_equal(error->text, other_error.text);
        }
        mr_batch_close(other);
    }
    return first;
}

static const struct mr_field usual_fields[] = {
    {{(const uint8_t *)"k", 1}, MR_FIELD_KEY},    {{(const uint8_t *)"n", 1}, MR_FIELD_NUMBER},
    {{(const uint8_t *)"d.e", 3}, MR_FIELD_KEY},  {{(const uint8_t *)"d.f.g", 5}, MR_FIELD_NUMBER},
    {{(const uint8_t *)"b", 1}, MR_FIELD_NUMBER}, {{(const uint8_t *)"b", 1}, MR_FIELD_KEY},
};

struct mr_schema_options usual_options(void) {
    struct mr_schema_options options = {
        .stream = MR_BYTES("test"),
        .id = {MR_BYTES("id")},
        .id_parts = 1,
        .time = MR_BYTES("time"),
        .time_format = MR_TIME_MS,
        .missing_time = MR_MISSING_ACCEPT,
        .fields = usual_fields,
        .field_count = 6,
        .event_bytes_max = 1 << 20,
        .events_max = 10000,
        .shards = 3,
    };
    for (int i = 0; i < MR_SECRET_LEN; i++) {
        options.secret.bytes[i] = (uint8_t)(i * 37 + 11);
    }
    return options;
}

struct mr_schema *open_schema(const struct mr_schema_options *options) {
    struct mr_schema *schema = NULL;
    struct mr_error error = {.status = MR_OK};
    enum mr_status status = mr_schema_open(options, &schema, &error);
    if (status != MR_OK) {
        fail_msg("schema: %s", error.text);
    }
    return schema;
}

enum mr_reject reject_of(const struct mr_batch *batch, uint32_t i) {
    assert_true(i < batch->count && !batch->errors_truncated);
    for (uint32_t k = 0; k < batch->error_count; k++) {
        if (batch->errors[k].index == i) {
            assert_int_equal(batch->verdicts[i], MR_VERDICT_REJECTED);
            return batch->errors[k].reject;
        }
    }
    assert_int_equal(batch->verdicts[i], MR_VERDICT_NONE);
    return MR_REJECT_NONE;
}

uint64_t random_next(uint64_t *state) {
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
