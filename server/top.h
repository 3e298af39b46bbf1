/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Top: GET /v1/rules/{rule}/top: the keys with the greatest numbers over a range, or over each step of it.
 *
 * Idea        All of the range's windows of a key are added up (server/roll_up.h), whether they are open or final.
 */
#include "server/envelope.h"
#include "server/gather.h"
#include "server/roll_up.h"

/* Runs a roll-up, whose limits and resume_* are set, over what the envelope's question asks for, and shows its rows:
 * from the beginning of the envelope up to its end. The question's state is that of steps: `final` has those that are,
 * `open` the others. false: the response is a problem. */
bool mr_top_roll_up(struct mr_gather *gather, struct mr_envelope *envelope, struct mr_roll_up *roll_up);
