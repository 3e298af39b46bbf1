/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Claims' script for the virtual Redis: what dedup/claims_script.h says, written again in C. */
#include "tests/redis/virtual_redis.h"

void claims_script_register(struct virtual_redis *v);
