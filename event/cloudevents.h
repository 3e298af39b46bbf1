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
 *             A body of a JSON content type (or +json) is put in as it is, once it is known to be exactly
 *             one JSON value: otherwise data such as  1,"id":"2"  would bring members of its own. Other
 *             bodies become data_base64; without a content type, those that are no JSON value do. An
 *             empty body is no data. Header values lose double quotes and are percent-decoded (HTTP
 *             protocol binding, section 3.1.3.2).
 *             The data may hold line feeds: decode the result as MR_FORMAT_OBJECT.
 * Owner       The caller owns ret; the object is appended, and MR_PADDING bytes stay free behind it.
 * Errors      ret keeps its length. MR_INVALID with a text: a header that names no attribute (letters and
 *             digits; not data or datacontenttype), is there twice or is not UTF-8 after decoding; data
 *             of a JSON type that is not one JSON value. MR_LIMIT: over ret's cap_max. MR_NO_MEMORY.
 */
#include "base/bytes.h"

struct mr_ce_header {
    struct mr_bytes name; /* without "ce-", any case */
    struct mr_bytes value;
};

enum mr_status mr_cloudevents_structured(const struct mr_ce_header *headers, uint32_t header_count,
                                         struct mr_bytes content_type, struct mr_bytes data,
                                         struct mr_buf *ret, struct mr_error *error) MR_MUST_CHECK;
