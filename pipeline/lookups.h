/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Lookups: removes what lookups' files once held (LOOKUP-… of pipeline/datadir.h), when nothing needs it any more.
 *
 * Idea        A content is needed by the configuration at hand, and by records of the log that were taken under one
 *             that names it. Which these are would be known by reading the log, which may be large, at every start.
 *             But when a start finds a content that its configuration does not name, all that comes behind the log's
 *             end of that moment is taken under others: it notes that end beside the content, and a later start, whose
 *             log begins behind it, removes both.
 *
 *                 log   | CONFIG a | … | CONFIG b | START |  …        LOOKUP-a.until says: START
 *                       └──── taken under a ─┘        └─ nothing here needs a: it goes when retention has come so far
 *
 * Invariants  I1 a note is removed, durably, before the log says that a configuration which names its content holds
 *             again (mr_datadir_keep_lookup).
 *             I2 no checkpoint needs what is removed: the log reaches back to the older of the two, and begins behind
 *             all that was taken under what is removed.
 */
#include "pipeline/data.h"

/* At the end of a start: the plan is the configuration's. Content that cannot be removed stays, and a report says so.
 * */
void mr_lookups_drop(struct mr_data *data);
