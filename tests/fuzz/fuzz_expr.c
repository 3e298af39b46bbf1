/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes expressions: compiles any bytes, and evaluates what compiles over a few events of every
 * kind, twice: both must come out the same, and every value must be one of the invariants of expr.h.
 * What begins with a NUL is read as the CSV of a lookup table instead.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "event/expr.h"
#include "event/text.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 9, FIELDS = 3 };

static union mr_value values[FIELDS][ROWS];
static uint8_t kinds[FIELDS][ROWS];
static struct mr_column columns[FIELDS];
static const uint8_t body[] = "viewA1-2.5\xC3\xA9";

static void fill(void) {
    static const uint8_t all[ROWS] = {MR_VALUE_MISSING, MR_VALUE_NULL,   MR_VALUE_FALSE,
                                      MR_VALUE_TRUE,    MR_VALUE_INT,    MR_VALUE_DOUBLE,
                                      MR_VALUE_STRING,  MR_VALUE_STRING, MR_VALUE_OTHER};
    static const struct mr_text texts[FIELDS] = {{0, 5}, {5, 5}, {10, 2}};
    static const int64_t ints[FIELDS] = {17, INT64_MIN, INT64_MAX};
    static const double doubles[FIELDS] = {0.5, -0x1p63, 1e300};
    for (int f = 0; f < FIELDS; f++) {
        for (int r = 0; r < ROWS; r++) {
            kinds[f][r] = all[(r + f * 4) % ROWS];
            if (kinds[f][r] == MR_VALUE_STRING) {
                values[f][r].text = texts[(r + f) % FIELDS];
            } else if (kinds[f][r] == MR_VALUE_DOUBLE) {
                values[f][r].d = doubles[f];
            } else {
                values[f][r].i = ints[f];
            }
        }
        columns[f] = (struct mr_column){values[f], kinds[f]};
    }
}

static enum mr_status find_field(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                                 struct mr_error *error) {
    (void)ctx;
    MR_ASSERT(path.len > 0 && mr_utf8_valid(path));
    if (path.ptr[0] == 'x') {
        return mr_error_set(error, MR_INVALID, "no field");
    }
    ret->index = path.ptr[0] % FIELDS;
    return MR_OK;
}

static void check_value(const struct mr_expr_vector *v, const struct mr_expr_vector *again, uint32_t i,
                        uint8_t types) {
    uint8_t kind = v->kinds[i];
    MR_ASSERT(kind == again->kinds[i] && kind <= MR_VALUE_OTHER && kind != MR_VALUE_DIGITS);
    switch (kind) {
    case MR_VALUE_INT:
        MR_ASSERT(v->values[i].i == again->values[i].i && (types & MR_EXPR_NUMBER) != 0);
        break;
    case MR_VALUE_DOUBLE:
        MR_ASSERT(v->values[i].d == again->values[i].d && isfinite(v->values[i].d));
        MR_ASSERT((types & MR_EXPR_NUMBER) != 0);
        break;
    case MR_VALUE_STRING: {
        struct mr_bytes a = mr_bytes_of(v->values[i].text, v->lens[i]);
        struct mr_bytes b = mr_bytes_of(again->values[i].text, again->lens[i]);
        MR_ASSERT(mr_bytes_equal(a, b) && mr_utf8_valid(a) && (types & MR_EXPR_TEXT) != 0);
        break;
    }
    case MR_VALUE_TRUE:
    case MR_VALUE_FALSE:
        MR_ASSERT((types & MR_EXPR_BOOL) != 0);
        break;
    case MR_VALUE_OTHER:
        MR_ASSERT((types & MR_EXPR_OTHER) != 0);
        break;
    default:
        MR_ASSERT((types & MR_EXPR_NULL) != 0);
        break;
    }
}

static void evaluate(const struct mr_expr *expr) {
    static struct mr_expr_vector derived[1];
    struct mr_expr_scratch *scratch = NULL;
    struct mr_expr_vector *out = mr_alloc(2 * sizeof *out);
    struct mr_expr_rows rows = {.columns = columns, .body = body, .derived = derived, .count = ROWS};
    MR_ASSERT(out != NULL && mr_expr_scratch_open(&scratch) == MR_OK);
    MR_ASSERT(mr_expr_eval(expr, &rows, scratch, &out[0]) == MR_OK);
    MR_ASSERT(mr_expr_eval(expr, &rows, scratch, &out[1]) == MR_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        check_value(&out[0], &out[1], i, mr_expr_types(expr));
    }
    mr_expr_scratch_close(scratch);
    mr_free(out);
}

static struct mr_lookup *open_lookup(struct mr_bytes csv) {
    struct mr_lookup_options options = {MR_BYTES("k"), MR_BYTES("v"), 1000, 1 << 20};
    struct mr_lookup *lookup = NULL;
    struct mr_error error;
    enum mr_status status = mr_lookup_open(csv, &options, &lookup, &error);
    MR_ASSERT((status == MR_OK) == (lookup != NULL));
    return lookup;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0 && data[0] == 0) {
        struct mr_bytes value;
        struct mr_lookup *lookup = open_lookup(mr_bytes_of(data + 1, size - 1));
        MR_ASSERT(lookup == NULL || !mr_lookup_find(lookup, MR_BYTES("\xFF"), &value));
        mr_lookup_close(lookup);
        return 0;
    }
    fill();
    struct mr_lookup *lookup = open_lookup(MR_BYTES("k,v\n17,DE\nview,seen\n"));
    struct mr_expr_lookup named = {MR_BYTES("t"), lookup};
    struct mr_expr_names names = {find_field, NULL, &named, 1};
    struct mr_expr *expr = NULL;
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_expr_open(mr_bytes_of(data, size), &names, &expr, &error);
    MR_ASSERT((status == MR_OK) == (expr != NULL));
    MR_ASSERT(status == MR_OK || (status == MR_INVALID && error.text[0] != 0));
    if (expr != NULL) {
        evaluate(expr);
    }
    mr_expr_close(expr);
    mr_lookup_close(lookup);
    return 0;
}
