/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the decoder: the first byte chooses format and schema, the rest is the body, twice over:
 * once fresh and once on a decoder that has just seen it, so that all of it is predicted, and what is
 * alike is taken in runs (event/run.h; AVX2 only). Portable
 * and AVX2, predicting and not, must give the same batch, which must pass mr_batch_check; what is
 * accepted as an object must be one JSON value. Half of the schemas have expressions.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "event/decode.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VARIANTS = 4 };

static struct mr_schema *open_schema(unsigned number) {
    const struct mr_field fields[] = {
        {MR_BYTES("k"), MR_FIELD_KEY},   {MR_BYTES("n"), MR_FIELD_NUMBER},
        {MR_BYTES("d.e"), MR_FIELD_KEY}, {MR_BYTES("d.f.g"), MR_FIELD_NUMBER},
        {MR_BYTES("b"), MR_FIELD_KEY},   {MR_BYTES("b"), MR_FIELD_NUMBER},
    };
    const struct mr_schema_derived derived[] = {{.name = MR_BYTES("low"), .text = MR_BYTES("lower(k)")}};
    const struct mr_schema_expr exprs[] = {
        {MR_BYTES("where"), MR_BYTES("k == 'a' && (n > 0 || b)"), MR_EXPR_WHERE},
        {MR_BYTES("key"), MR_BYTES("b ? low : d.e"), MR_FIELD_KEY},
        {MR_BYTES("number"), MR_BYTES("n * 2 + length(low)"), MR_FIELD_NUMBER},
        {MR_BYTES("any"), MR_BYTES("coalesce(low, d.f.g, `~~`)"), MR_FIELD_ANY},
    };
    struct mr_schema_options options = {
        .stream = MR_BYTES("fuzz"),
        .id = {MR_BYTES("id")},
        .id_parts = 1,
        .time = MR_BYTES("time"),
        .time_format = (enum mr_time_format)(number % 5),
        .missing_time = MR_MISSING_ACCEPT,
        .fields = fields,
        .field_count = 6,
        .event_bytes_max = 4096,
        .events_max = 1000,
        .shards = 1 + number % 3,
        .cloudevents = number % 4 == 3,
    };
    if (number % 8 >= 4) {
        options.derived = derived;
        options.derived_count = 1;
        options.exprs = exprs;
        options.expr_count = 4;
    }
    if (number % 2 == 1) {
        options.id[0] = MR_BYTES("source");
        options.id[1] = MR_BYTES("id");
        options.id_parts = 2;
        options.missing_id = MR_MISSING_ACCEPT;
    }
    struct mr_schema *schema = NULL;
    enum mr_status status = mr_schema_open(&options, &schema, NULL);
    MR_ASSERT(status == MR_OK);
    return schema;
}

static enum mr_status decode(struct mr_decoder *decoder, const struct mr_schema *schema,
                             enum mr_format format, struct mr_bytes body, struct mr_batch **ret) {
    struct mr_buf buf;
    mr_buf_init(&buf, body.len + MR_PADDING);
    buf.ptr = mr_alloc(body.len + MR_PADDING);
    MR_ASSERT(buf.ptr != NULL);
    buf.cap = body.len + MR_PADDING;
    buf.len = body.len;
    if (body.len > 0) {
        memcpy(buf.ptr, body.ptr, body.len);
    }
    *ret = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(decoder, schema, format, &buf, ret, &error);
    mr_buf_finish(&buf);
    return status;
}

static bool same(const void *a, const void *b, size_t len) {
    return len == 0 || memcmp(a, b, len) == 0;
}

static void assert_same(const struct mr_batch *a, const struct mr_batch *b) {
    size_t n = a->count;
    MR_ASSERT(a->count == b->count && a->rejected == b->rejected && a->format == b->format);
    MR_ASSERT(same(a->fps, b->fps, n * sizeof *a->fps));
    MR_ASSERT(same(a->times_ms, b->times_ms, n * sizeof *a->times_ms));
    MR_ASSERT(same(a->spans, b->spans, n * sizeof *a->spans));
    MR_ASSERT(same(a->verdicts, b->verdicts, n));
    MR_ASSERT(same(a->order, b->order, a->order_count * sizeof *a->order));
    MR_ASSERT((a->has_id == NULL) == (b->has_id == NULL));
    MR_ASSERT(a->has_id == NULL || same(a->has_id, b->has_id, n));
    for (uint32_t c = 0; c < a->columns; c++) {
        MR_ASSERT(same(a->column[c].values, b->column[c].values, n * sizeof(union mr_value)));
        MR_ASSERT(same(a->column[c].kinds, b->column[c].kinds, n));
    }
    MR_ASSERT(a->unescaped.len == b->unescaped.len);
    MR_ASSERT(same(a->unescaped.ptr, b->unescaped.ptr, a->unescaped.len));
    MR_ASSERT(a->error_count == b->error_count);
    for (uint32_t i = 0; i < a->error_count; i++) {
        MR_ASSERT(a->errors[i].reject == b->errors[i].reject &&
                  a->errors[i].line == b->errors[i].line);
        MR_ASSERT(strcmp(a->errors[i].detail, b->errors[i].detail) == 0);
        MR_ASSERT(strcmp(a->errors[i].pointer, b->errors[i].pointer) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    enum mr_format format = (enum mr_format)(data[0] & 3);
    struct mr_schema *schema = open_schema(data[0] >> 2);
    struct mr_bytes body = {data + 1, size - 1};
    struct mr_batch *first = NULL;
    enum mr_status first_status = MR_OK;
    for (int v = 0; v < VARIANTS; v++) {
        struct mr_decoder *decoder = NULL;
        enum mr_status status =
            mr_decoder_open(v / 2 == 0 ? MR_DECODE_PORTABLE : MR_DECODE_AVX2, &decoder);
        if (status == MR_UNSUPPORTED) {
            continue;
        }
        MR_ASSERT(status == MR_OK);
        mr_decoder_predict(decoder, v % 2 == 0);
        for (int again = 0; again < 2; again++) {
            struct mr_batch *batch;
            status = decode(decoder, schema, format, body, &batch);
            if (v == 0 && again == 0) {
                first = batch;
                first_status = status;
            } else {
                MR_ASSERT(status == first_status && (batch == NULL) == (first == NULL));
            }
            if (batch != NULL && batch != first) {
                assert_same(first, batch);
                mr_batch_close(batch);
            }
        }
        mr_decoder_close(decoder);
    }
    if (first != NULL) {
        mr_batch_check(first, mr_schema_options(schema)->shards);
        if (first->format == MR_FORMAT_OBJECT && first->rejected == 0) {
            MR_ASSERT(mr_json_value_check(body, NULL) == MR_OK);
        }
    }
    mr_batch_close(first);
    mr_schema_close(schema);
    return 0;
}
