/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/lines.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"

#define FILE_MAX (UINT64_C(4) << 30)

/* Behind the line that begins at `at`; whether it holds anything. */
static size_t skip_line(struct mr_bytes text, size_t at, bool *ret_event) {
    const uint8_t *newline = memchr(text.ptr + at, '\n', text.len - at);
    size_t end = newline == NULL ? text.len : (size_t)(newline - text.ptr);
    *ret_event = false;
    for (size_t i = at; i < end && !*ret_event; i++) {
        uint8_t c = text.ptr[i];
        *ret_event = c != ' ' && c != '\t' && c != '\r';
    }
    return newline == NULL ? end : end + 1;
}

enum mr_status mr_load_lines_open_text(struct mr_load_lines *lines, struct mr_buf *text,
                                       uint32_t batch) {
    MR_ASSERT(batch > 0);
    *lines = (struct mr_load_lines){.text = *text, .batch = batch};
    *text = (struct mr_buf){0};
    struct mr_bytes all = mr_buf_bytes(&lines->text);
    bool event;
    for (size_t at = 0; at < all.len; lines->lines += event) {
        at = skip_line(all, at, &event);
    }
    lines->batches = (lines->lines + batch - 1) / batch;
    if (lines->batches == 0) {
        mr_load_lines_close(lines);
        return MR_INVALID;
    }
    lines->starts = mr_alloc((lines->batches + 1) * sizeof *lines->starts);
    if (lines->starts == NULL) {
        mr_load_lines_close(lines);
        return MR_NO_MEMORY;
    }
    uint64_t count = 0;
    for (size_t at = 0; at < all.len;) {
        size_t start = at;
        at = skip_line(all, at, &event);
        if (event && count % batch == 0) {
            lines->starts[count / batch] = start;
        }
        count += event;
    }
    MR_ASSERT(count == lines->lines);
    lines->starts[lines->batches] = all.len;
    return MR_OK;
}

enum mr_status mr_load_lines_open(struct mr_load_lines *lines, const char *path, uint32_t batch,
                                  struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, FILE_MAX);
    *lines = (struct mr_load_lines){0};
    enum mr_status status = mr_disk_read_all(mr_disk_system(), path, &text);
    if (status != MR_OK) {
        mr_buf_finish(&text);
        return mr_error_set(error, status, "%s: %s", path, mr_status_text(status));
    }
    status = mr_load_lines_open_text(lines, &text, batch);
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s: %s", path,
                                          status == MR_INVALID ? "no line in it" : mr_status_text(status));
}

void mr_load_lines_close(struct mr_load_lines *lines) {
    mr_buf_finish(&lines->text);
    mr_free(lines->starts);
    *lines = (struct mr_load_lines){0};
}

struct mr_bytes mr_load_lines_batch(const struct mr_load_lines *lines, uint64_t k,
                                    uint32_t *ret_events) {
    uint64_t b = k % lines->batches;
    uint64_t before = b * lines->batch;
    uint64_t left = lines->lines - before;
    *ret_events = left < lines->batch ? (uint32_t)left : lines->batch;
    return mr_bytes_of(lines->text.ptr + lines->starts[b], lines->starts[b + 1] - lines->starts[b]);
}
