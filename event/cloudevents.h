/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * CloudEvents 1.0, HTTP binary mode: attributes in ce-* headers, data in the body.
 *
 * Idea        Binary mode is rewritten into the structured mode's JSON object, so that the decoder, the log
 *             and replay know one form only.
 *
 *                 ce-id: 1                    {"specversion":"1.0","id":"1","source":"/s",
 *                 ce-source: /s        ->      "type":"t","datacontenttype":"application/json",
 *                 ce-type: t                   "data":{"n":1}}
 *                 {"n":1}
 *
 *             A body of a JSON content type (or +json) is put in as it is, whatever it holds: if it is not
 *             JSON, decoding the event says so. Other bodies become data_base64. Header values are
 *             percent-decoded (HTTP protocol binding, section 3.1.3.2).
 * Errors      MR_INVALID with a text: a header value that is not UTF-8 after decoding, or a header twice.
 */
#include "base/bytes.h"

struct mr_ce_header {
    struct mr_bytes name; /* without "ce-", any case */
    struct mr_bytes value;
};

enum mr_status mr_cloudevents_structured(const struct mr_ce_header *headers, uint32_t header_count,
                                         struct mr_bytes content_type, struct mr_bytes data,
                                         struct mr_buf *ret, struct mr_error *error) MR_MUST_CHECK;
