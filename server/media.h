/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Media: what Content-Type and Content-Encoding of an ingest request mean.
 *
 * Shape       application/json                            AUTO; an empty body is no JSON
 *             application/x-ndjson, …/ndjson, …/jsonl     NDJSON
 *             application/cloudevents+json                OBJECT, CloudEvents
 *             application/cloudevents-batch+json          ARRAY, CloudEvents
 *             absent, text/plain, application/octet-stream, application/x-www-form-urlencoded    AUTO
 *
 * Threads     Pure functions.
 * Errors      MR_UNSUPPORTED with a text: another type, a charset other than utf-8, another encoding. 415.
 */
#include "base/codec.h"
#include "event/decode.h"

/* For the Accept-Encoding header of a 415. */
#define MR_ACCEPT_ENCODING "identity, gzip, deflate, zstd"

struct mr_media {
    enum mr_format format;
    bool cloudevents;  /* structured mode: the schema that asks for CloudEvents' attributes */
    bool may_be_empty; /* an empty body is a batch without events */
};

enum mr_status mr_media_type(struct mr_bytes content_type, struct mr_media *ret,
                             struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_media_encoding(struct mr_bytes content_encoding, enum mr_encoding *ret,
                                 struct mr_error *error) MR_MUST_CHECK;
