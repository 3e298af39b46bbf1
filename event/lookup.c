/* SPDX-License-Identifier: Apache-2.0 */
#include "event/lookup.h"

#include "base/alloc.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/hash.h"
#include "event/text.h"

enum { COLUMNS_MAX = 1000, ARENA_FIRST = 4096, ARENA_MAX = 1 << 20, SHOWN_MAX = 40 };

#define NO_COLUMN UINT32_MAX

static_assert(MR_LOOKUP_ROWS_MAX < UINT32_MAX / 4, "slots are numbered in 32 bits");

struct row {
    const uint8_t *key; /* the value stands right behind it */
    uint32_t key_len;
    uint32_t value_len;
    uint32_t line;
    uint32_t hash;
};

struct mr_lookup {
    struct mr_arena texts;
    struct mr_buf rows; /* struct row */
    uint32_t *slots;    /* row + 1; 0: empty */
    uint32_t mask;
    uint32_t count;
};

/* The file on its way to rows. */
struct reader {
    struct mr_lookup *lookup;
    const struct mr_lookup_options *options;
    struct mr_error *error;
    const uint8_t *p;
    const uint8_t *end;
    uint32_t line;       /* of p */
    uint32_t begin_line; /* of the record */
    uint32_t columns;    /* of the header */
    uint32_t key_column;
    uint32_t value_column;
    uint8_t *field; /* scratch: MR_LOOKUP_TEXT_MAX bytes */
};

static enum mr_status no_memory(struct mr_error *error) {
    return mr_error_set(error, MR_NO_MEMORY, "out of memory");
}

/* Adds a byte to the field; over the bound it is counted but not kept. */
static inline void put(const struct reader *r, size_t *len, uint8_t c) {
    if (*len < MR_LOOKUP_TEXT_MAX) {
        r->field[*len] = c;
    }
    (*len)++;
}

static enum mr_status read_quoted(struct reader *r, size_t *len) {
    uint32_t opened = r->line;
    for (r->p++; r->p < r->end; r->p++) {
        if (*r->p == '"') {
            if (r->p + 1 == r->end || r->p[1] != '"') {
                r->p++;
                return MR_OK;
            }
            r->p++;
        }
        r->line += *r->p == '\n';
        put(r, len, *r->p);
    }
    return mr_error_set(r->error, MR_INVALID, "line %u: the quote is not closed", opened);
}

static bool ends_field(const struct reader *r) {
    return r->p == r->end || *r->p == ',' || *r->p == '\n' || *r->p == '\r';
}

static enum mr_status read_plain(struct reader *r, size_t *len) {
    for (; !ends_field(r); r->p++) {
        if (*r->p == '"') {
            return mr_error_set(r->error, MR_INVALID,
                                "line %u: a quote inside a field that does not begin with one", r->line);
        }
        put(r, len, *r->p);
    }
    return MR_OK;
}

/* One field, in r->field; p is then at the comma, the line's end or the file's. */
static enum mr_status read_field(struct reader *r, struct mr_bytes *ret) {
    size_t len = 0;
    uint32_t line = r->line;
    bool quoted = r->p < r->end && *r->p == '"';
    enum mr_status status = quoted ? read_quoted(r, &len) : read_plain(r, &len);
    if (status != MR_OK) {
        return status;
    }
    if (!ends_field(r)) {
        return mr_error_set(r->error, MR_INVALID,
                            "line %u: expected a comma or the line's end behind the closing quote",
                            r->line);
    }
    if (len > MR_LOOKUP_TEXT_MAX) {
        return mr_error_set(r->error, MR_LIMIT, "line %u: a field of %zu bytes; at most %u", line, len,
                            MR_LOOKUP_TEXT_MAX);
    }
    *ret = mr_bytes_of(r->field, len);
    if (!mr_utf8_valid(*ret)) {
        return mr_error_set(r->error, MR_INVALID, "line %u: not UTF-8", line);
    }
    return MR_OK;
}

/* Behind a field: *ret_more: another one follows in the record. */
static enum mr_status end_field(struct reader *r, bool *ret_more) {
    *ret_more = r->p < r->end && *r->p == ',';
    if (r->p == r->end) {
        return MR_OK;
    }
    if (*r->p == '\r') {
        if (r->p + 1 == r->end || r->p[1] != '\n') {
            return mr_error_set(r->error, MR_INVALID,
                                "line %u: a carriage return without a line feed", r->line);
        }
        r->p++;
    }
    r->line += *r->p == '\n';
    r->p++;
    return MR_OK;
}

/* Empty lines are no records. False at the file's end. */
static bool begin_record(struct reader *r) {
    while (r->p < r->end && (*r->p == '\n' || (*r->p == '\r' && r->p + 1 < r->end && r->p[1] == '\n'))) {
        r->line += *r->p == '\n';
        r->p++;
    }
    r->begin_line = r->line;
    return r->p < r->end;
}

static enum mr_status take_column(struct reader *r, struct mr_bytes name, struct mr_bytes wanted,
                                  uint32_t *column) {
    if (!mr_bytes_equal(name, wanted)) {
        return MR_OK;
    }
    if (*column != NO_COLUMN) {
        return mr_error_set(r->error, MR_INVALID, "line %u: two columns are called `%.*s`", r->line,
                            (int)name.len, (const char *)name.ptr);
    }
    *column = r->columns;
    return MR_OK;
}

static enum mr_status read_header(struct reader *r) {
    r->key_column = NO_COLUMN;
    r->value_column = NO_COLUMN;
    if (!begin_record(r)) {
        return mr_error_set(r->error, MR_INVALID, "the file is empty: expected a header line");
    }
    for (bool more = true; more; r->columns++) {
        struct mr_bytes name;
        enum mr_status status = read_field(r, &name);
        if (status == MR_OK) {
            status = take_column(r, name, r->options->key, &r->key_column);
        }
        if (status == MR_OK) {
            status = take_column(r, name, r->options->value, &r->value_column);
        }
        if (status == MR_OK) {
            status = end_field(r, &more);
        }
        if (status != MR_OK) {
            return status;
        }
        if (r->columns == COLUMNS_MAX) {
            return mr_error_set(r->error, MR_LIMIT, "line %u: more than %d columns", r->begin_line,
                                COLUMNS_MAX);
        }
    }
    struct mr_bytes missing = r->key_column == NO_COLUMN ? r->options->key : r->options->value;
    if (r->key_column == NO_COLUMN || r->value_column == NO_COLUMN) {
        return mr_error_set(r->error, MR_INVALID, "line %u: the header has no column `%.*s`",
                            r->begin_line, (int)missing.len, (const char *)missing.ptr);
    }
    return MR_OK;
}

static enum mr_status over_bytes(const struct reader *r) {
    return mr_error_set(r->error, MR_LIMIT, "line %u: the table takes over %zu bytes of memory",
                        r->begin_line, r->options->bytes_max);
}

static enum mr_status add_row(struct reader *r, struct mr_bytes key, struct mr_bytes value) {
    struct mr_lookup *lookup = r->lookup;
    if (lookup->count == r->options->rows_max) {
        return mr_error_set(r->error, MR_LIMIT, "line %u: more than %u rows", r->begin_line,
                            r->options->rows_max);
    }
    if (lookup->texts.bytes + lookup->rows.cap > r->options->bytes_max) {
        return over_bytes(r);
    }
    uint8_t *texts = mr_arena_alloc(&lookup->texts, key.len + value.len);
    if (texts == NULL) {
        return no_memory(r->error);
    }
    memcpy(texts, key.ptr, key.len);
    memcpy(texts + key.len, value.ptr, value.len);
    struct row row = {
        .key = texts,
        .key_len = (uint32_t)key.len,
        .value_len = (uint32_t)value.len,
        .line = r->begin_line,
        .hash = (uint32_t)mr_hash64(mr_bytes_of(texts, key.len), 0),
    };
    mr_buf_append(&lookup->rows, &row, sizeof row);
    lookup->count++;
    return lookup->rows.failed ? no_memory(r->error) : MR_OK;
}

/* One record; its two fields are kept in copies until the record has ended well. */
static enum mr_status read_record(struct reader *r, uint8_t *key_copy, uint8_t *value_copy) {
    struct mr_bytes key = {key_copy, 0};
    struct mr_bytes value = {value_copy, 0};
    uint32_t column = 0;
    for (bool more = true; more; column++) {
        struct mr_bytes field;
        enum mr_status status = read_field(r, &field);
        if (status == MR_OK && column == r->key_column) {
            memcpy(key_copy, field.ptr, field.len);
            key.len = field.len;
        }
        if (status == MR_OK && column == r->value_column) {
            memcpy(value_copy, field.ptr, field.len);
            value.len = field.len;
        }
        if (status == MR_OK) {
            status = end_field(r, &more);
        }
        if (status != MR_OK) {
            return status;
        }
    }
    if (column != r->columns) {
        return mr_error_set(r->error, MR_INVALID, "line %u: %u fields; the header has %u",
                            r->begin_line, column, r->columns);
    }
    return add_row(r, key, value);
}

static struct row *rows_of(const struct mr_lookup *lookup) {
    return (struct row *)(void *)lookup->rows.ptr;
}

static struct mr_bytes key_of(const struct row *row) {
    return mr_bytes_of(row->key, row->key_len);
}

static struct mr_bytes value_of(const struct row *row) {
    return mr_bytes_of(row->key + row->key_len, row->value_len);
}

/* The slot of a key: its row's, or the empty one where it would be. */
static inline uint32_t find_slot(const struct mr_lookup *lookup, struct mr_bytes key, uint32_t hash) {
    uint32_t slot = hash & lookup->mask;
    while (lookup->slots[slot] != 0) {
        const struct row *row = &rows_of(lookup)[lookup->slots[slot] - 1];
        if (row->hash == hash && mr_bytes_equal(key_of(row), key)) {
            break;
        }
        slot = (slot + 1) & lookup->mask;
    }
    return slot;
}

static enum mr_status refuse_twice(const struct reader *r, const struct row *first,
                                   const struct row *second) {
    struct mr_bytes key = key_of(first);
    int len = (int)(key.len > SHOWN_MAX ? mr_utf8_cut(key.ptr, SHOWN_MAX) : key.len);
    return mr_error_set(r->error, MR_INVALID,
                        "line %u: the key `%.*s` has another value than in line %u", second->line, len,
                        (const char *)key.ptr, first->line);
}

/* Slots for all rows; a row that says the same again is not kept. */
static enum mr_status index_rows(struct reader *r) {
    struct mr_lookup *lookup = r->lookup;
    uint32_t size = 16;
    while (size < 2 * lookup->count) {
        size *= 2;
    }
    lookup->mask = size - 1;
    if (mr_lookup_bytes(lookup) > r->options->bytes_max) {
        return over_bytes(r);
    }
    lookup->slots = mr_alloc_zero(size, sizeof *lookup->slots);
    if (lookup->slots == NULL) {
        return no_memory(r->error);
    }
    struct row *rows = rows_of(lookup);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lookup->count; i++) {
        uint32_t slot = find_slot(lookup, key_of(&rows[i]), rows[i].hash);
        uint32_t there = lookup->slots[slot];
        if (there == 0) {
            rows[kept] = rows[i];
            lookup->slots[slot] = ++kept;
        } else if (!mr_bytes_equal(value_of(&rows[there - 1]), value_of(&rows[i]))) {
            return refuse_twice(r, &rows[there - 1], &rows[i]);
        }
    }
    lookup->count = kept;
    return MR_OK;
}

static enum mr_status read_file(struct reader *r) {
    uint8_t *scratch = mr_alloc(3 * (size_t)MR_LOOKUP_TEXT_MAX);
    if (scratch == NULL) {
        return no_memory(r->error);
    }
    r->field = scratch;
    if (r->end - r->p >= 3 && memcmp(r->p, "\xEF\xBB\xBF", 3) == 0) {
        r->p += 3;
    }
    enum mr_status status = read_header(r);
    while (status == MR_OK && begin_record(r)) {
        status = read_record(r, scratch + MR_LOOKUP_TEXT_MAX, scratch + 2 * (size_t)MR_LOOKUP_TEXT_MAX);
    }
    mr_free(scratch);
    return status == MR_OK ? index_rows(r) : status;
}

enum mr_status mr_lookup_open(struct mr_bytes csv, const struct mr_lookup_options *options,
                              struct mr_lookup **ret, struct mr_error *error) {
    MR_ASSERT(options->rows_max <= MR_LOOKUP_ROWS_MAX);
    struct mr_lookup *lookup = mr_alloc_zero(1, sizeof *lookup);
    if (lookup == NULL) {
        return no_memory(error);
    }
    mr_arena_init(&lookup->texts, ARENA_FIRST, ARENA_MAX);
    mr_buf_init(&lookup->rows, (size_t)MR_LOOKUP_ROWS_MAX * sizeof(struct row));
    struct reader r = {
        .lookup = lookup,
        .options = options,
        .error = error,
        .p = csv.ptr,
        .end = csv.ptr + csv.len,
        .line = 1,
    };
    enum mr_status status = read_file(&r);
    if (status != MR_OK) {
        mr_lookup_close(lookup);
        return status;
    }
    *ret = lookup;
    return MR_OK;
}

void mr_lookup_close(struct mr_lookup *lookup) {
    if (lookup != NULL) {
        mr_arena_finish(&lookup->texts);
        mr_buf_finish(&lookup->rows);
        mr_free(lookup->slots);
        mr_free(lookup);
    }
}

bool mr_lookup_find(const struct mr_lookup *lookup, struct mr_bytes key, struct mr_bytes *ret) {
    uint32_t slot = find_slot(lookup, key, (uint32_t)mr_hash64(key, 0));
    uint32_t there = lookup->slots[slot];
    if (there == 0) {
        return false;
    }
    *ret = value_of(&rows_of(lookup)[there - 1]);
    return true;
}

uint32_t mr_lookup_rows(const struct mr_lookup *lookup) {
    return lookup->count;
}

size_t mr_lookup_bytes(const struct mr_lookup *lookup) {
    return sizeof *lookup + lookup->texts.bytes + lookup->rows.cap +
           ((size_t)lookup->mask + 1) * sizeof *lookup->slots;
}
