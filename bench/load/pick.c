/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/pick.h"

#include "base/alloc.h"
#include "base/check.h"

#include <math.h>

static uint32_t cut_of(double width) {
    double cut = width * 4294967296.0;
    return cut >= 4294967295.0 ? UINT32_MAX : (uint32_t)cut;
}

/* Vose: widths are probabilities times count; a column narrower than 1 is filled up by a wider one. work has room for
 * count: narrow ones grow from its front, wide ones from its end. */
static void fill(struct mr_load_column *columns, double *widths, uint32_t *work, uint32_t count) {
    uint32_t narrow = 0;
    uint32_t wide = count;
    for (uint32_t i = 0; i < count; i++) {
        columns[i] = (struct mr_load_column){UINT32_MAX, i};
        if (widths[i] < 1) {
            work[narrow++] = i;
        } else {
            work[--wide] = i;
        }
    }
    while (narrow > 0 && wide < count) {
        uint32_t small = work[--narrow];
        uint32_t large = work[wide];
        columns[small] = (struct mr_load_column){cut_of(widths[small]), large};
        widths[large] -= 1 - widths[small];
        if (widths[large] < 1) {
            wide++;
            work[narrow++] = large;
        }
    }
    /* What is left is 1 wide but for rounding, and keeps its own key. */
}

/* Takes widths over. */
static enum mr_status open_widths(struct mr_load_pick *pick, double *widths, uint32_t count) {
    struct mr_load_column *columns = mr_alloc(count * sizeof *columns);
    uint32_t *work = mr_alloc(count * sizeof *work);
    enum mr_status status = columns == NULL || work == NULL ? MR_NO_MEMORY : MR_OK;
    if (status == MR_OK) {
        fill(columns, widths, work, count);
        *pick = (struct mr_load_pick){columns, count};
    } else {
        mr_free(columns);
    }
    mr_free(work);
    mr_free(widths);
    return status;
}

enum mr_status mr_load_pick_open_zipf(struct mr_load_pick *pick, uint32_t count, double theta) {
    MR_ASSERT(count > 0 && count <= MR_LOAD_KEYS_MAX && theta >= 0);
    double *widths = mr_alloc(count * sizeof *widths);
    if (widths == NULL) {
        return MR_NO_MEMORY;
    }
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        widths[i] = pow((double)i + 1, -theta);
        sum += widths[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        widths[i] *= count / sum;
    }
    return open_widths(pick, widths, count);
}

enum mr_status mr_load_pick_open_hot(struct mr_load_pick *pick, uint32_t count, double share) {
    MR_ASSERT(count > 0 && count <= MR_LOAD_KEYS_MAX && share >= 0 && share <= 1);
    double *widths = mr_alloc(count * sizeof *widths);
    if (widths == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        widths[i] = count == 1 ? 1 : i == 0 ? share * count : (1 - share) * count / (count - 1);
    }
    return open_widths(pick, widths, count);
}

void mr_load_pick_close(struct mr_load_pick *pick) {
    mr_free(pick->columns);
    *pick = (struct mr_load_pick){0};
}
