/* SPDX-License-Identifier: Apache-2.0 */
#include "server/run_print.h"

#include "base/check.h"
#include "server/rows.h"

#include <stdio.h>

enum { OUT_BYTES = 1 << 20 /* of output written at once */ };

struct printer {
    bool csv;
    struct mr_rows_view view;
    struct mr_rows_fold fold;
    struct mr_buf out;
    bool broken; /* stdout is closed */
};

static void flush_out(struct printer *p) {
    if (p->out.len > 0 && fwrite(p->out.ptr, 1, p->out.len, stdout) != p->out.len) {
        p->broken = true;
    }
    mr_buf_clear(&p->out);
}

static bool print_row(void *ctx, const struct mr_row *row) {
    struct printer *p = ctx;
    if (p->csv) {
        mr_rows_csv(&p->out, &p->view, row);
    } else {
        struct mr_json json;
        mr_json_init(&json, &p->out);
        mr_buf_append_text(&p->out, "{\"rule\":");
        mr_json_string(&json, p->view.rule->name);
        size_t at = p->out.len;
        mr_rows_ndjson(&p->out, &p->view, row);
        if (!p->out.failed) {
            MR_ASSERT(p->out.ptr[at] == '{');
            p->out.ptr[at] = ','; /* the row's members follow the rule's name */
        }
    }
    if (p->out.len >= OUT_BYTES) {
        flush_out(p);
    }
    return !p->broken && !p->out.failed;
}

static bool take_stored(void *ctx, const struct mr_pane *pane) {
    struct printer *p = ctx;
    struct mr_row row = mr_rows_of_stored(pane);
    return mr_rows_fold_push(&p->fold, &row);
}

static enum mr_status print_rule(const struct mr_plan *plan, struct mr_results_reader *reader, uint32_t rule, bool csv,
                                 struct mr_error *error) {
    struct printer p = {.csv = csv, .view = {.rule = &plan->rules[rule], .metrics = MR_ROWS_METRICS_ALL}};
    mr_buf_init(&p.out, 64 << 20);
    if (mr_rows_fold_init(&p.fold, p.view.rule, print_row, &p) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory printing results");
    }
    if (csv) {
        mr_rows_csv_header(&p.out, &p.view);
    }
    struct mr_results_query query = {
        .rule = rule,
        .from_ms = INT64_MIN,
        .to_ms = INT64_MAX,
        .order = -1,
        .visit = take_stored,
        .ctx = &p,
    };
    enum mr_status status = mr_results_read(reader, &query, error);
    if (status == MR_OK) {
        mr_rows_fold_end(&p.fold);
        flush_out(&p);
        p.broken = p.broken || fflush(stdout) != 0;
    }
    if (status == MR_OK && p.fold.failed) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory printing results");
    }
    if (status == MR_OK && (p.broken || p.out.failed)) {
        status = mr_error_set(error, MR_IO, "cannot write to standard output");
    }
    mr_rows_fold_finish(&p.fold);
    mr_buf_finish(&p.out);
    return status;
}

enum mr_status mr_run_print(const struct mr_plan *plan, struct mr_results *results, uint32_t only, bool csv,
                            struct mr_error *error) {
    struct mr_results_reader *reader = NULL;
    if (mr_results_reader_open(results, &reader) != MR_OK) {
        return mr_error_set(error, MR_IO, "cannot read the results store again");
    }
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < plan->rule_count && status == MR_OK; i++) {
        if (only == UINT32_MAX || only == i) {
            status = print_rule(plan, reader, i, csv, error);
        }
    }
    mr_results_reader_close(reader);
    return status;
}
