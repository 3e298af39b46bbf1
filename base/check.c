/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <stdio.h>

_Noreturn void mr_check_failed(const char *condition, const char *file, int line) {
    (void)fprintf(stderr, "level=fatal event=assertion_failed at=%s:%d condition=\"%s\"\n", file,
                  line, condition);
    abort();
}
