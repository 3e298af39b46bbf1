/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replay promote: what a replay has left in dir takes the place of what a node has: by command, and by a start that
 * finds it marked (server/replay_mark.h).
 */
#include "server/replay_note.h"

/* Whether it may be, as far as its note says. MR_UNSUPPORTED with a text: it would lose something. */
enum mr_status mr_replay_may_promote(const struct mr_replay_note *note, const char *dir,
                                     struct mr_error *error) MR_MUST_CHECK;
/* As mr_promote. */
enum mr_status mr_replay_promote(const struct mr_config *config, struct mr_bytes data_dir, const char *dir,
                                 const struct mr_replay_note *note, struct mr_error *error) MR_MUST_CHECK;
