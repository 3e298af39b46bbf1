/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis slots: the texts and replies of Redis Cluster that say who serves what. Pure functions.
 *
 * Errors      MR_CORRUPT with a text: it is not what Redis sends.
 */
#include "net/redis.h"

struct mr_redis_address {
    char host[MR_REDIS_ADDRESS_MAX];
    uint16_t port;
};

struct mr_redis_range {
    uint32_t first;
    uint32_t last;
    struct mr_redis_address master;
};

bool mr_redis_address_equal(const struct mr_redis_address *a, const struct mr_redis_address *b);
/* "host:port", "[v6]:port". */
void mr_redis_address_print(const struct mr_redis_address *address, char ret[MR_REDIS_ADDRESS_MAX]);

/* Item i of the reply to CLUSTER SLOTS. A host that the server does not know itself is the one that was asked. */
enum mr_status mr_redis_range_parse(const struct mr_redis_reply *reply, uint32_t i, const char *host_asked,
                                    struct mr_redis_range *ret, struct mr_error *error) MR_MUST_CHECK;

/* "MOVED 3999 127.0.0.1:6381" and "ASK …"; false: it is another error. */
bool mr_redis_redirect_parse(struct mr_bytes text, const char *host_asked, bool *ret_asked,
                             uint32_t *ret_slot, struct mr_redis_address *ret_address);
