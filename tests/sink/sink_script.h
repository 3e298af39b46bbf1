/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The Redis sink's script for the virtual Redis: what sink/redis_sink.h says, written again in C. */
#include "tests/redis/virtual_redis.h"

void sink_script_register(struct virtual_redis *v);
