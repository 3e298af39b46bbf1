/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that schemas refuse what they must with a text that says why, copy what they are given,
 * and find each of the most fields there can be.
 */
#include "help.h"

static void assert_refused(const struct mr_schema_options *options, const char *text) {
    struct mr_schema *schema = NULL;
    struct mr_error error = {.status = MR_OK};
    assert_int_equal(mr_schema_open(options, &schema, &error), MR_INVALID);
    assert_null(schema);
    if (strstr(error.text, text) == NULL) {
        fail_msg("%s", error.text);
    }
}

static void refuses_bad_paths(void **state) {
    static const char *const paths[][2] = {
        {"", "empty path"},
        {".a", "a name in the path is empty"},
        {"a.", "a name in the path is empty"},
        {"a..b", "a name in the path is empty"},
        {".", "a name in the path is empty"},
        {"a.b.c.d.e.f.g.h.i", "more than 8 names"},
        {"a\xFF", "not UTF-8"},
        {"id.part", "/id is used itself and is the parent of the used /id/part"},
        {"k.x.y", "/k is used itself and is the parent of the used /k/x"},
        {"time.x", "/time is used itself"},
        {"d", "/d is used itself and is the parent of the used /d/e"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct mr_schema_options options = usual_options();
        struct mr_field fields[7];
        memcpy(fields, options.fields, 6 * sizeof fields[0]);
        fields[6] = (struct mr_field){mr_bytes_text(paths[i][0]), MR_FIELD_KEY};
        options.fields = fields;
        options.field_count = 7;
        assert_refused(&options, paths[i][1]);
    }
    char longest[300];
    memset(longest, 'a', sizeof longest);
    struct mr_schema_options options = usual_options();
    options.id[0] = mr_bytes_of(longest, 256);
    assert_refused(&options, "longer than 255 bytes");
    options.id[0] = mr_bytes_of(longest, 255);
    mr_schema_close(open_schema(&options));
}

static void refuses_bad_options(void **state) {
    (void)state;
    struct mr_schema_options options = usual_options();
    options.id_parts = MR_ID_PARTS_MAX + 1;
    assert_refused(&options, "an id of 5 parts");
    options = usual_options();
    options.field_count = MR_FIELDS_MAX + 1;
    assert_refused(&options, "129 fields");
    options = usual_options();
    options.time.len = 0;
    options.missing_time = MR_MISSING_REJECT;
    assert_refused(&options, "no time field");
    options.missing_time = MR_MISSING_ACCEPT;
    mr_schema_close(open_schema(&options));
    options = usual_options();
    options.shards = 0;
    assert_refused(&options, "0 shards");
    options.shards = MR_SHARDS_MAX + 1;
    assert_refused(&options, "65 shards");
    options = usual_options();
    options.cloudevents = true;
    options.id[0] = MR_BYTES("source.id");
    assert_refused(&options, "/source is used itself and is the parent of the used /source/id");
    options = usual_options();
    options.events_max = 0;
    assert_refused(&options, "limits");
}

/* The options live in the schema: what was given may change and go. */
static void copies_its_options(void **state) {
    (void)state;
    struct mr_schema_options options = usual_options();
    char path[] = "data.x";
    struct mr_field field = {mr_bytes_text(path), MR_FIELD_NUMBER};
    options.fields = &field;
    options.field_count = 1;
    struct mr_schema *schema = open_schema(&options);
    memset(path, '?', sizeof path - 1);
    field.use = MR_FIELD_KEY;
    const struct mr_schema_options *kept = mr_schema_options(schema);
    assert_true(mr_bytes_equal(kept->fields[0].path, MR_BYTES("data.x")));
    assert_int_equal(kept->fields[0].use, MR_FIELD_NUMBER);
    assert_true(mr_bytes_equal(kept->stream, MR_BYTES("test")));
    assert_memory_equal(&kept->secret, &options.secret, sizeof options.secret);
    mr_schema_close(schema);
    mr_schema_close(NULL);
}

/* 128 fields 8 levels deep, found in order and backwards. */
static void finds_all_of_many_fields(void **state) {
    (void)state;
    char paths[MR_FIELDS_MAX][64];
    struct mr_field fields[MR_FIELDS_MAX];
    struct mr_buf body;
    mr_buf_init(&body, 1 << 20);
    for (int backwards = 0; backwards < 2; backwards++) {
        mr_buf_append_text(&body, "{\"id\":1");
        for (int n = 0; n < MR_FIELDS_MAX; n++) {
            int i = backwards ? MR_FIELDS_MAX - 1 - n : n;
            (void)snprintf(paths[i], sizeof paths[i], "a%d.b.c.d.e.f.g.field_number_%d", i,
                           i); /* fits */
            fields[i] = (struct mr_field){mr_bytes_text(paths[i]), MR_FIELD_NUMBER};
            mr_buf_printf(
                &body,
                ",\"a%d\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"field_number_%d\":%d}}}}}}}",
                i, i, i);
        }
        mr_buf_append_text(&body, "}\n");
    }
    struct mr_schema_options options = usual_options();
    options.fields = fields;
    options.field_count = MR_FIELDS_MAX;
    struct mr_schema *schema = open_schema(&options);
    struct variants variants;
    struct mr_batch *batch;
    variants_open(&variants);
    assert_int_equal(
        decode_all(&variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL), MR_OK);
    assert_int_equal(batch->order_count, 2);
    for (int i = 0; i < MR_FIELDS_MAX; i++) {
        assert_true(batch->column[i].values[0].i == i && batch->column[i].values[1].i == i);
    }
    mr_batch_close(batch);
    variants_close(&variants);
    mr_schema_close(schema);
    mr_buf_finish(&body);
}

/* Pointers as in RFC 6901, cut at a character. */
static void writes_pointers(void **state) {
    (void)state;
    static const char *const paths[][2] = {
        {"a.b", "/a/b"},
        {"a/b.c~d", "/a~1b/c~0d"},
        {"\xC3\xA9.x", "/\xC3\xA9/x"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "a\xC3\xA9\xC3\xA9\xC3\xA9.x",
         "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aa\xE2\x80\xA6"},
    };
    struct variants variants;
    variants_open(&variants);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct mr_schema_options options = usual_options();
        options.id[0] = mr_bytes_text(paths[i][0]);
        struct mr_schema *schema = open_schema(&options);
        struct mr_batch *batch;
        assert_int_equal(
            decode_all(&variants, schema, MR_FORMAT_AUTO, MR_BYTES("{}"), &batch, NULL), MR_OK);
        assert_string_equal(batch->errors[0].pointer, paths[i][1]);
        mr_batch_close(batch);
        mr_schema_close(schema);
    }
    variants_close(&variants);
}

static void names_reject_codes(void **state) {
    (void)state;
    assert_string_equal(mr_reject_code(MR_REJECT_BAD_JSON), "bad_json");
    assert_string_equal(mr_reject_code(MR_REJECT_BAD_CLOUDEVENT), "bad_cloudevent");
    for (int i = 0; i < MR_REJECT_COUNT; i++) {
        assert_true(strlen(mr_reject_code((enum mr_reject)i)) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_bad_paths),  cmocka_unit_test(refuses_bad_options),
        cmocka_unit_test(copies_its_options), cmocka_unit_test(finds_all_of_many_fields),
        cmocka_unit_test(writes_pointers),    cmocka_unit_test(names_reject_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
