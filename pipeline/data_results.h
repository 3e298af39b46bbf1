/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Data, the results store: brought to where log and checkpoint are. For data.c alone.
 *
 *     opened ─▶ settle (back to the checkpoint, if it cannot be trusted beyond) ─▶ pipeline loaded ─▶ complete ─▶ say change
 */
#include "pipeline/data.h"

/* Compares the store with log and checkpoint, and winds it back where it must. MR_AGAIN: it lacks what the checkpoint
 * relies on, and the log is whole: start from zero. */
enum mr_status mr_data_settle_results(struct mr_data *data, struct mr_error *error) MR_MUST_CHECK;
/* After a rewind, with the checkpoint loaded. */
enum mr_status mr_data_complete_results(struct mr_data *data, const struct mr_pipeline *pipeline,
                                        struct mr_error *error) MR_MUST_CHECK;
/* With a checkpoint of another configuration loaded: what its late data was kept back for, and that windows are final which
 * were not, for no bundle will say so. */
enum mr_status mr_data_say_change(struct mr_data *data, const struct mr_pipeline *pipeline,
                                  struct mr_error *error) MR_MUST_CHECK;
