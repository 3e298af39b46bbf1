/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Transport: the connections to a configured store. One for each thread that uses it.
 *
 * Errors      As mr_hiredis_open.
 */
#include "config/config.h"
#include "net/redis_transport.h"

enum mr_status mr_transport_open(const struct mr_config_store *store, struct mr_redis_transport **ret,
                                 struct mr_error *error) MR_MUST_CHECK;
