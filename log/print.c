/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `millrace log list|dump`: what the files say, for people (aligned text) and programs (JSON
 * lines). Reads only, and as recovery would: the same walk, the same verdict.
 */
#include "log/log.h"

#include "base/check.h"
#include "base/json.h"
#include "base/time_text.h"
#include "log/recover.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    PAYLOAD_SHOWN = 200,
    LINE_MAX_BYTES = 8192, /* 200 bytes escaped are at most 1,200 */
    TIME_CAP = 32,
};

struct printer {
    FILE *out;
    bool json;
    struct mr_buf line;
};

/* RFC 3339 where there is such a year, the number else; "-" where no time is known. */
static const char *time_text(int64_t ms, char ret[TIME_CAP]) {
    if (ms == 0) {
        (void)snprintf(ret, TIME_CAP, "-");
    } else if (mr_time_has_text(ms)) {
        mr_time_format(ms, ret);
    } else {
        (void)snprintf(ret, TIME_CAP, "%" PRId64, ms);
    }
    return ret;
}

static enum mr_status put_line(struct printer *p) {
    mr_buf_append_char(&p->line, '\n');
    if (p->line.failed) {
        return MR_NO_MEMORY;
    }
    bool written = fwrite(p->line.ptr, 1, p->line.len, p->out) == p->line.len;
    mr_buf_clear(&p->line);
    return written ? MR_OK : MR_IO;
}

static void json_uint(struct mr_json *json, const char *key, uint64_t value) {
    mr_json_key(json, key);
    mr_json_uint(json, value);
}

static void json_text(struct mr_json *json, const char *key, const char *value) {
    mr_json_key(json, key);
    mr_json_text(json, value);
}

/* Printable ASCII as it is, the rest as \n, \t, \\ and \xHH, so that a terminal gets nothing to
 * obey. */
static void put_escaped(struct mr_buf *buf, struct mr_bytes bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t c = bytes.ptr[i];
        if (c == '\n') {
            mr_buf_append_text(buf, "\\n");
        } else if (c == '\t') {
            mr_buf_append_text(buf, "\\t");
        } else if (c == '\\') {
            mr_buf_append_text(buf, "\\\\");
        } else if (c >= 0x20 && c < 0x7f) {
            mr_buf_append_char(buf, (char)c);
        } else {
            mr_buf_printf(buf, "\\x%02x", c);
        }
    }
}

/* For people: what the bytes of its payload mean. */
static void put_payload(struct mr_buf *buf, const struct mr_record *record, size_t shown) {
    if (record->type == MR_RECORD_GAP) {
        mr_buf_printf(buf, "lsn %" PRIu64 " to %" PRIu64 " lost", record->lsn,
                      record->lsn + record->lsn_count - 1);
        return;
    }
    put_escaped(buf, mr_bytes_of(record->payload.ptr, shown));
    mr_buf_append_text(buf, shown < record->payload.len ? " ..." : "");
}

static enum mr_status dump_record(void *ctx, const struct mr_record *record) {
    struct printer *p = ctx;
    char time[TIME_CAP];
    size_t shown = record->payload.len < PAYLOAD_SHOWN ? record->payload.len : PAYLOAD_SHOWN;
    time_text(record->recorded_ms, time);
    if (!p->json) {
        mr_buf_printf(&p->line,
                      "%12" PRIu64 " %10" PRIu64 " %4" PRIu32 "/%-4" PRIu32 " %-6s %-24s %8zu  ",
                      record->lsn, record->seq, record->bundle_index + 1, record->bundle_count,
                      mr_record_type_name(record->type), time, record->payload.len);
        put_payload(&p->line, record, shown);
        return put_line(p);
    }
    struct mr_json json;
    mr_json_init(&json, &p->line);
    mr_json_object_begin(&json);
    json_uint(&json, "lsn", record->lsn);
    json_uint(&json, "seq", record->seq);
    json_uint(&json, "index", record->bundle_index);
    json_uint(&json, "count", record->bundle_count);
    json_text(&json, "type", mr_record_type_name(record->type));
    mr_json_key(&json, "recorded_ms");
    mr_json_int(&json, record->recorded_ms);
    json_text(&json, "recorded", time);
    json_uint(&json, "segment", record->segment);
    if (record->type == MR_RECORD_GAP) {
        json_uint(&json, "lost", record->lsn_count);
    }
    json_uint(&json, "payload_len", record->payload.len);
    mr_json_key(&json, "payload");
    mr_json_string(&json, mr_bytes_of(record->payload.ptr, shown));
    mr_json_key(&json, "cut");
    mr_json_bool(&json, shown < record->payload.len);
    mr_json_object_end(&json);
    return put_line(p);
}

static const char *state_of(const struct mr_segment_summary *s, enum mr_status status) {
    return status != MR_OK ? "corrupt" : s->dirty_end > s->end ? "torn" : "sound";
}

static enum mr_status list_segment(struct printer *p, const struct mr_segment_summary *s,
                                   enum mr_status status) {
    char name[MR_SEGMENT_NAME_MAX];
    char first[TIME_CAP];
    char last[TIME_CAP];
    mr_segment_name(&s->segment, name);
    time_text(s->first_ms, first);
    time_text(s->last_ms, last);
    if (!p->json) {
        mr_buf_printf(
            &p->line,
            "%-30s %12" PRIu64 " %10" PRIu64 " %12" PRIu64 " %12" PRIu64 " %-24s %-24s %s", name,
            s->last_lsn, s->records, s->end, s->segment.size, first, last, state_of(s, status));
        if (s->lost > 0) {
            mr_buf_printf(&p->line, ", %" PRIu64 " lost", s->lost);
        }
        return put_line(p);
    }
    struct mr_json json;
    mr_json_init(&json, &p->line);
    mr_json_object_begin(&json);
    json_text(&json, "name", name);
    json_uint(&json, "segment", s->segment.number);
    json_uint(&json, "first_lsn", s->segment.first_lsn);
    json_uint(&json, "first_seq", s->segment.first_seq);
    json_uint(&json, "last_lsn", s->last_lsn);
    json_uint(&json, "last_seq", s->last_seq);
    json_uint(&json, "records", s->records);
    json_uint(&json, "bytes_used", s->end);
    json_uint(&json, "bytes", s->segment.size);
    json_uint(&json, "torn_bytes", s->dirty_end - s->end);
    json_uint(&json, "lost_lsns", s->lost);
    json_text(&json, "first_recorded", first);
    json_text(&json, "last_recorded", last);
    json_text(&json, "state", state_of(s, status));
    mr_json_object_end(&json);
    return put_line(p);
}

static enum mr_status walk(struct mr_disk *disk, const char *dir, struct printer *p, bool records,
                           struct mr_error *error) {
    struct mr_segments segments;
    enum mr_status status = mr_segments_list(disk, dir, &segments, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_chain chain = {0};
    for (uint32_t i = 0; status == MR_OK && i < segments.count; i++) {
        struct mr_segment_summary summary;
        struct mr_error found = {.status = MR_OK};
        if (chain.next_lsn != segments.items[i].first_lsn) {
            chain = mr_recover_chain(&segments, i);
        }
        status = mr_recover_segment(disk, dir, &segments, i, &chain, records ? dump_record : NULL,
                                    p, &summary, &found);
        if (status == MR_NOT_FOUND && i + 1 < segments.count) {
            status = MR_OK; /* the appender beside us removed it: it was among the oldest */
            continue;
        }
        enum mr_status put = records ? MR_OK : list_segment(p, &summary, status);
        if (status != MR_OK) {
            (void)mr_error_set(error, status, "%s",
                               found.status != MR_OK ? found.text : "cannot write the output");
        } else if (put != MR_OK) {
            status = mr_error_set(error, put, "cannot write the output");
        }
    }
    mr_segments_finish(&segments);
    return status;
}

static enum mr_status print(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                            bool records, const char *head, struct mr_error *error) {
    struct printer p = {.out = stdio, .json = json};
    MR_ASSERT(stdio != NULL);
    mr_buf_init(&p.line, LINE_MAX_BYTES);
    enum mr_status status = MR_OK;
    if (!json) {
        mr_buf_append_text(&p.line, head);
        status = put_line(&p);
        if (status != MR_OK) {
            (void)mr_error_set(error, status, "cannot write the output");
        }
    }
    if (status == MR_OK) {
        status = walk(disk, dir, &p, records, error);
    }
    mr_buf_finish(&p.line);
    return status;
}

enum mr_status mr_log_list(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                           struct mr_error *error) {
    char head[256];
    (void)snprintf(head, sizeof head, "%-30s %12s %10s %12s %12s %-24s %-24s %s", "segment",
                   "last lsn", "records", "used", "bytes", "first recorded", "last recorded",
                   "state");
    return print(disk, dir, json, stdio, false, head, error);
}

enum mr_status mr_log_dump(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                           struct mr_error *error) {
    char head[256];
    (void)snprintf(head, sizeof head, "%12s %10s %4s/%-4s %-6s %-24s %8s  %s", "lsn", "seq", "n",
                   "of", "type", "recorded", "bytes", "payload");
    return print(disk, dir, json, stdio, true, head, error);
}
