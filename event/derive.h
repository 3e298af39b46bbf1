/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Derive: a schema's expressions, from their texts to columns of a batch, inside event/ only.
 *
 * Idea        When a body is decoded, its events are taken a chunk at a time: first the derived fields
 *             that something needs, each once, then the expressions, whose values go to their columns.
 *
 *                 columns │ price  8 │ derived: net = price * 0.8 │ where: net > 5 │ column 3: TRUE
 *
 * Shape       Texts that were made lie in a buffer of their own while expressions still point into the
 *             unescaped texts, and go behind those at the end. Equal ones are mostly kept once: a small
 *             cache by content, so that the same body gives the same bytes everywhere.
 * Owner       The scratch belongs to a decoder.
 * Errors      compile: as mr_schema_open. run: MR_NO_MEMORY; events whose keys cannot be are rejected.
 */
#include "event/build.h"

struct mr_derive_scratch;

void mr_derive_scratch_close(struct mr_derive_scratch *scratch); /* NULL is fine */

/* Compiles what options hold: fills hidden, derived, exprs. */
enum mr_status mr_derive_compile(struct mr_schema *schema, struct mr_error *error);
/* Closes them. */
void mr_derive_forget(struct mr_schema *schema);

/* Evaluates all of a batch whose events are decoded; *scratch is made when it is NULL. */
enum mr_status mr_derive_run(struct mr_derive_scratch **scratch, struct mr_build *b);
