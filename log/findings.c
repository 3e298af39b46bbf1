/* SPDX-License-Identifier: Apache-2.0 */
#include "log/findings.h"

#include "base/json.h"
#include "log/rewrite.h"

#include <inttypes.h>
#include <stdio.h>

enum { LINE_CAP = 8192 }; /* a path may be 4,096 bytes */

static void put_line(struct mr_findings *findings, struct mr_buf *line) {
    mr_buf_append_char(line, '\n');
    enum mr_status status = MR_OK;
    if (line->failed) {
        status = MR_NO_MEMORY;
    } else if (fwrite(line->ptr, 1, line->len, findings->stdio) != line->len) {
        status = MR_IO;
    }
    findings->status = findings->status == MR_OK ? status : findings->status;
    mr_buf_finish(line);
}

static void json_uint(struct mr_json *json, const char *key, uint64_t value) {
    mr_json_key(json, key);
    mr_json_uint(json, value);
}

static void json_text(struct mr_json *json, const char *key, const char *value) {
    mr_json_key(json, key);
    mr_json_text(json, value);
}

static void put_json(struct mr_buf *line, const char *name, const struct mr_finding *f) {
    struct mr_json json;
    mr_json_init(&json, line);
    mr_json_object_begin(&json);
    json_text(&json, "name", name);
    json_uint(&json, "offset", f->offset);
    json_text(&json, "what", f->what);
    if (f->lsn_count > 0) {
        json_uint(&json, "first_lost_lsn", f->lsn);
    }
    json_uint(&json, "lost_lsns", f->lsn_count);
    json_uint(&json, "quarantined_bytes", f->bytes);
    if (f->bytes > 0) {
        json_text(&json, "quarantine", f->quarantine);
    }
    mr_json_object_end(&json);
}

static void put_text(struct mr_buf *line, const char *name, const struct mr_finding *f) {
    mr_buf_printf(line, "%s: offset %" PRIu64 ": %s", name, f->offset, f->what);
    if (f->lsn_count > 0) {
        mr_buf_printf(line, ": lsn %" PRIu64 " to %" PRIu64 " lost", f->lsn,
                      f->lsn + f->lsn_count - 1);
    }
    if (f->bytes > 0) {
        mr_buf_printf(line, ": %" PRIu64 " bytes to " MR_QUARANTINE "/%s", f->bytes, f->quarantine);
    }
}

void mr_findings_add(struct mr_findings *findings, const struct mr_finding *finding) {
    char name[MR_SEGMENT_NAME_MAX];
    struct mr_buf line;
    mr_segment_name(finding->segment, name);
    mr_buf_init(&line, LINE_CAP);
    if (findings->json) {
        put_json(&line, name, finding);
    } else {
        put_text(&line, name, finding);
    }
    put_line(findings, &line);
    findings->sum.damages++;
    findings->sum.lost_lsns += finding->lsn_count;
    findings->sum.quarantined_bytes += finding->bytes;
}

enum mr_status mr_findings_end(struct mr_findings *findings, const char *dir, uint64_t first_lsn,
                               uint64_t last_lsn, struct mr_error *error) {
    const struct mr_log_repair *sum = &findings->sum;
    struct mr_buf line;
    mr_buf_init(&line, LINE_CAP);
    if (findings->json) {
        struct mr_json json;
        mr_json_init(&json, &line);
        mr_json_object_begin(&json);
        json_text(&json, "log", dir);
        json_uint(&json, "segments", sum->segments);
        json_uint(&json, "first_lsn", first_lsn);
        json_uint(&json, "last_lsn", last_lsn);
        json_uint(&json, "damages", sum->damages);
        json_uint(&json, "lost_lsns", sum->lost_lsns);
        json_uint(&json, "quarantined_bytes", sum->quarantined_bytes);
        mr_json_object_end(&json);
    } else {
        mr_buf_printf(&line, "%s: %" PRIu64 " segments, lsn %" PRIu64 " to %" PRIu64 ": ", dir,
                      sum->segments, first_lsn, last_lsn);
        if (sum->damages == 0) {
            mr_buf_append_text(&line, "sound, nothing to repair");
        } else {
            mr_buf_printf(&line,
                          "%" PRIu64 " damages repaired, %" PRIu64 " records lost, %" PRIu64
                          " bytes in %s/" MR_QUARANTINE,
                          sum->damages, sum->lost_lsns, sum->quarantined_bytes, dir);
        }
    }
    put_line(findings, &line);
    if (findings->status == MR_OK && fflush(findings->stdio) != 0) {
        findings->status = MR_IO;
    }
    return findings->status == MR_OK
               ? MR_OK
               : mr_error_set(error, findings->status, "cannot write the output: %s",
                              mr_status_text(findings->status));
}
