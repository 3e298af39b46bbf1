/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const texts[MR_STATUS_COUNT] = {
#define X(name, text) [MR_##name] = text,
    MR_STATUS_TABLE(X)
#undef X
};

const char *mr_status_text(enum mr_status status) {
    MR_ASSERT((unsigned)status < MR_STATUS_COUNT);
    return texts[status];
}

enum mr_status mr_error_set(struct mr_error *error, enum mr_status status, const char *format, ...) {
    MR_ASSERT(status != MR_OK);
    if (error == NULL) {
        return status;
    }
    error->status = status;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args); /* a cut text is still a text */
    va_end(args);
    return status;
}
