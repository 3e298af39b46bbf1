/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Plan later: refuses what a configuration can say and the stations cannot do. Private to pipeline/ and its tests.
 *
 * Errors      MR_UNSUPPORTED with a text that names the option.
 */
#include "config/config.h"

enum mr_status mr_plan_later(const struct mr_config *config, struct mr_error *error) MR_MUST_CHECK;
