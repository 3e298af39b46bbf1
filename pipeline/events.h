/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Events: the payload of EVENTS records, to and from batches.
 *
 * Shape       0 version u8 (1)   1 format u8   2 cloudevents u8   3 name_len u8
 *             4 events u32: how many the body has
 *             8 event_bytes_max u32: limits.event when the body was decoded: it decided what was too long
 *            12 zero u32
 *            16 stream name, name_len bytes; then the body
 * Owner       A decoder: one thread.
 * Errors      MR_CORRUPT: not such a payload. MR_MISMATCH: a stream that is not configured. MR_NO_MEMORY.
 */
#include "log/record.h"
#include "pipeline/plan.h"

#define MR_EVENTS_HEADER 16

/* The fixed part; the stream's name and the body follow. */
void mr_events_header(const struct mr_batch *batch, const struct mr_plan *plan,
                      uint8_t ret[MR_EVENTS_HEADER]);

struct mr_events {
    uint32_t stream;
    uint32_t count;
    enum mr_format format;
    bool cloudevents;
    uint32_t event_bytes_max;
    struct mr_bytes body;
};

/* With MR_MISMATCH count is written, too. */
enum mr_status mr_events_parse(const struct mr_plan *plan, const struct mr_record *record,
                               struct mr_events *ret, struct mr_error *error) MR_MUST_CHECK;

struct mr_events_decoder;
enum mr_status mr_events_decoder_open(const struct mr_plan *plan,
                                      struct mr_events_decoder **ret) MR_MUST_CHECK;
void mr_events_decoder_close(struct mr_events_decoder *decoder); /* NULL is fine */
/* The batch as it was, with lsn, recorded_ms and stream; its done closes it: nobody waits for an answer. payload: the
 * memory of record's payload, which becomes the batch's and is empty then; NULL or empty: the body is copied. */
enum mr_status mr_events_decode(struct mr_events_decoder *decoder, const struct mr_record *record,
                                struct mr_buf *payload, struct mr_batch **ret, struct mr_error *error) MR_MUST_CHECK;
