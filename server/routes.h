/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Routes: the table of all paths. One row a route; 404, 405 with Allow, rights and metrics labels come from it.
 */
#include "server/request.h"

/* UPLOAD: as WORKER, with a body as long as a configuration may be. */
enum mr_route_kind { MR_ROUTE_QUICK, MR_ROUTE_WORKER, MR_ROUTE_UPLOAD, MR_ROUTE_INGEST };

struct mr_route {
    enum mr_method method;
    const char *pattern; /* "/v1/rules/{rule}/windows": a {…} matches one segment */
    uint32_t right;      /* of enum mr_right; 0: nobody needs a token */
    enum mr_route_kind kind;
    mr_handler *handler; /* NULL for INGEST */
};

extern const struct mr_route mr_routes[];
extern const uint32_t mr_route_count;

/* The route of a path, with its parameters; NULL with *ret_allow NULL: 404; NULL with a text: 405. Parameters
 * are percent-decoded into scratch. HEAD finds GET's route. */
const struct mr_route *mr_route_find(enum mr_method method, struct mr_bytes path, struct mr_buf *scratch,
                                     struct mr_bytes params[MR_PATH_PARAMS_MAX], const char **ret_allow);

/* Handlers, by file. server/pages.c: streams, rules, limits, version, health, landing page. */
mr_handler mr_route_landing;      /* GET / */
mr_handler mr_route_livez;
mr_handler mr_route_readyz;
mr_handler mr_route_version;
mr_handler mr_route_limits;
mr_handler mr_route_streams;      /* GET /v1/streams */
mr_handler mr_route_stream;       /* GET /v1/streams/{stream} */
mr_handler mr_route_rules;
mr_handler mr_route_rule;
mr_handler mr_route_openapi;      /* GET /openapi.yaml */
/* server/query.c */
mr_handler mr_route_windows;      /* GET /v1/rules/{rule}/windows */
/* server/top.c */
mr_handler mr_route_top;          /* GET /v1/rules/{rule}/top */
/* server/rule_stream.c */
mr_handler mr_route_rule_stream;  /* GET /v1/rules/{rule}/stream */
/* server/hot.c */
mr_handler mr_route_hot;          /* GET /v1/rules/{rule}/hot-keys */
/* server/seen.c */
mr_handler mr_route_seen;         /* GET /v1/streams/{stream}/events/{id} */
mr_handler mr_route_advance;      /* POST /v1/streams/{stream}/watermark */
/* server/dead.c */
mr_handler mr_route_dead_letters; /* GET /v1/dead-letters */
/* server/dead_one.c */
mr_handler mr_route_dead_letter;  /* GET /v1/dead-letters/{address} */
/* server/discard.c */
mr_handler mr_route_discard;      /* DELETE /v1/dead-letters */
mr_handler mr_route_discard_one;  /* DELETE /v1/dead-letters/{address} */
/* server/redrive.c */
mr_handler mr_route_redrive;      /* POST /v1/dead-letters/redrive */
mr_handler mr_route_redrive_one;  /* POST /v1/dead-letters/{address}/redrive */
/* server/metrics.c */
mr_handler mr_route_metrics;
/* server/checkpoint.c */
mr_handler mr_route_checkpoint;
/* server/replay_routes.c */
mr_handler mr_route_replays;        /* GET /v1/replays */
mr_handler mr_route_replay_start;   /* POST /v1/replays */
mr_handler mr_route_replay;         /* GET /v1/replays/{replay} */
mr_handler mr_route_replay_remove;  /* DELETE /v1/replays/{replay} */
mr_handler mr_route_replay_compare; /* GET /v1/replays/{replay}/compare */
mr_handler mr_route_replay_promote; /* POST /v1/replays/{replay}/promote */
mr_handler mr_route_replay_keep;    /* DELETE /v1/replays/{replay}/promote */
/* Known, not in this version: 501. */
mr_handler mr_route_later;
