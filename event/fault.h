/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fault: a refused event told to a person, inside event/ only.
 */
#include "event/walk.h"

/* Fills pointer and detail of *ret from walk->fault. event is the refused event as sent. */
void mr_fault_tell(const struct mr_walk *walk, struct mr_bytes event, struct mr_event_error *ret);
