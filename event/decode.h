/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Decode: bytes in, batch out. Pure: the same body, schema and format give the same batch, on any
 * machine and with any of its code paths; HTTP, files, replay and the fuzzer all call it.
 *
 * Idea        One strict walk over each event that keeps only the schema's fields. Producers repeat
 *             themselves, so the walk first guesses that the bytes between two values are the same as in
 *             the event before, compares them as words, and falls back to parsing where they differ.
 *
 *                 {"id":"4f…","ts":1700000000123,"key":"/page/17",…}
 *                 ^^^^^^^    ^^^^^^              ^^^^^^^^          compared with the last event's
 *
 *             With AVX2, events that are alike are taken in runs besides (event/run.h), into the same batch.
 *
 * Checks      All of RFC 8259, valid UTF-8, no lone surrogates, depth <= MR_JSON_DEPTH_MAX, no used field
 *             twice in an event, over the whole event, used or not. Numbers that are used must fit: ints
 *             of use NUMBER become int64 when they have neither fraction nor exponent and fit, else a
 *             finite double (overflow is refused). An id that is a number keeps its exact text: 17 and
 *             "17" are one id. Times: RFC 3339 strings; numbers, or strings of digits, in the schema's
 *             unit (fractions allowed, floored to ms); outside [MR_TIME_MIN_MS, MR_TIME_MAX_MS) refused.
 *             Fields of use ANY take every value. Then the schema's expressions are evaluated.
 * Formats     AUTO looks at the first byte that is not white space: '[' ARRAY; '{' OBJECT if one value is
 *             followed by white space only, else NDJSON.
 *             NDJSON: lines end in \n or \r\n; empty or blank lines are skipped but counted for `line`.
 *             A broken line is one rejected event and harms no neighbour.
 *             ARRAY: a syntax error (bad UTF-8 and too many levels among them) ends it: the events before
 *             it are taken, one rejected event stands for the rest. Elements that are well-formed but not
 *             objects are rejected one by one.
 *             OBJECT: the whole body is one value; broken, it is one rejected event.
 *             A blank body (AUTO, NDJSON) and [] are batches of no events. Depth counts from the event.
 *             Of an event's errors, one of syntax comes first, else the first in the order of its bytes,
 *             else what is missing, else what an expression makes of it. lines are counted from 1 to the
 *             event's first byte.
 * Owner       body is taken over by the batch on success and left with the caller on failure; it must
 *             have MR_PADDING bytes of capacity behind its length.
 * Threads     A decoder belongs to one thread (it keeps the prediction and scratch); schemas are shared.
 * Errors      Of the request, not of an event: MR_INVALID (not parseable at all: not UTF-8 text, first
 *             byte neither '{' nor '[', a byte order mark), MR_LIMIT (more than events_max
 *             events, body over 1 GiB), MR_NO_MEMORY. Broken events are in the batch: verdict R and an error entry.
 * Cost        Goal: <= 30 ns for a 125-byte event of six fields where the order repeats.
 */
#include "event/batch.h"
#include "event/schema.h"

enum mr_format { MR_FORMAT_AUTO, MR_FORMAT_NDJSON, MR_FORMAT_ARRAY, MR_FORMAT_OBJECT };

struct mr_decoder;

/* Which code path; AUTO takes the best this machine has. PORTABLE is there for tests and other CPUs. */
enum mr_decode_path { MR_DECODE_AUTO, MR_DECODE_PORTABLE, MR_DECODE_AVX2 };

/* MR_UNSUPPORTED when the machine lacks the path. */
enum mr_status mr_decoder_open(enum mr_decode_path path, struct mr_decoder **ret) MR_MUST_CHECK;
void mr_decoder_close(struct mr_decoder *decoder);

enum mr_status mr_decode(struct mr_decoder *decoder, const struct mr_schema *schema,
                         enum mr_format format, struct mr_buf *body, struct mr_batch **ret,
                         struct mr_error *error) MR_MUST_CHECK;

/* Tests and measurements: whether the order of fields is predicted (it is, from open). The batches are
 * the same. */
void mr_decoder_predict(struct mr_decoder *decoder, bool on);

/* Tests: how many events were taken in runs of alike ones so far (event/run.h); 0 without AVX2. */
uint64_t mr_decoder_taken(const struct mr_decoder *decoder);

/* MR_OK: the bytes are exactly one JSON value, with white space around it at most. MR_INVALID and a text,
 * MR_NO_MEMORY. Needs no padding. Depth counts from the value. */
enum mr_status mr_json_value_check(struct mr_bytes bytes, struct mr_error *error) MR_MUST_CHECK;

/* The fingerprint that an event with these id parts gets: for `was this id seen` queries.
 * parts[i].ptr NULL: absent (never the last); part_count is the schema's id_parts (asserted). */
struct mr_fingerprint mr_decode_fingerprint(const struct mr_schema *schema,
                                            const struct mr_bytes *parts, uint32_t part_count);
