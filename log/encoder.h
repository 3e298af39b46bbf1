/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Encoder: a bundle's records as one vector for pwritev.
 *
 *     |header|payload in parts|padding|header|payload|…|zeros written ahead|
 *
 * Owner       The log: scratch that grows with the largest bundle. Payloads and entries stay the
 *             caller's.
 * Errors      MR_NO_MEMORY from reserve: nothing changed.
 */
#include "log/log.h"

struct mr_encoder {
    uint8_t (*headers)[MR_RECORD_HEADER];
    struct iovec *iov;
    int iov_count;
    uint32_t cap; /* entries there is room for */
};

size_t mr_encoder_payload_len(const struct mr_log_entry *entry);
void mr_encoder_finish(struct mr_encoder *encoder);
enum mr_status mr_encoder_reserve(struct mr_encoder *encoder, uint32_t count) MR_MUST_CHECK;
/* The bundle anew; there is room. Of *first type and bundle's index and count are not looked at; the entries get their
 * lsns. */
void mr_encoder_bundle(struct mr_encoder *encoder, const struct mr_record *first,
                       struct mr_log_entry *entries, uint32_t count);
/* Adds zeros behind a small bundle that ends at `end` of a file of size bytes when its blocks were not written up to
 * there. Returns up to where they are then. */
uint64_t mr_encoder_zeros(struct mr_encoder *encoder, uint64_t bundle_bytes, uint64_t end,
                          uint64_t written_end, uint64_t size);
