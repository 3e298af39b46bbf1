/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Handlers that stand in for the real ones where a test links the core of server/ alone: each answers with its own
 * name and the request's parameters.
 */
#include "server/problem.h"
#include "server/routes.h"

#define STAND_IN(name)                                                                             \
    void name(struct mr_request *request, struct mr_response *response) {                          \
        struct mr_json json;                                                                       \
        mr_json_init(&json, &response->body);                                                      \
        mr_json_object_begin(&json);                                                               \
        mr_json_key(&json, "handler");                                                             \
        mr_json_text(&json, #name);                                                                \
        mr_json_key(&json, "param");                                                               \
        mr_json_string(&json, request->params[0]);                                                 \
        mr_json_key(&json, "query");                                                               \
        mr_json_string(&json, request->query);                                                     \
        mr_json_key(&json, "reader");                                                              \
        mr_json_bool(&json, request->reader != NULL);                                              \
        mr_json_object_end(&json);                                                                 \
    }

STAND_IN(mr_route_advance)
STAND_IN(mr_route_checkpoint)
STAND_IN(mr_route_landing)
STAND_IN(mr_route_livez)
STAND_IN(mr_route_readyz)
STAND_IN(mr_route_version)
STAND_IN(mr_route_limits)
STAND_IN(mr_route_streams)
STAND_IN(mr_route_stream)
STAND_IN(mr_route_rules)
STAND_IN(mr_route_rule)
STAND_IN(mr_route_openapi)
STAND_IN(mr_route_rule_stream)
STAND_IN(mr_route_windows)
STAND_IN(mr_route_top)
STAND_IN(mr_route_hot)
#ifndef HANDLERS_WITHOUT_SEEN
STAND_IN(mr_route_seen)
#endif
STAND_IN(mr_route_dead_letters)
STAND_IN(mr_route_redrive)
STAND_IN(mr_route_discard)
STAND_IN(mr_route_dead_letter)
STAND_IN(mr_route_discard_one)
STAND_IN(mr_route_redrive_one)
STAND_IN(mr_route_metrics)
STAND_IN(mr_route_replay)
STAND_IN(mr_route_replay_compare)
STAND_IN(mr_route_replay_keep)
STAND_IN(mr_route_replay_promote)
STAND_IN(mr_route_replay_remove)
STAND_IN(mr_route_replay_start)
STAND_IN(mr_route_replays)
