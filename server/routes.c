/* SPDX-License-Identifier: Apache-2.0 */
#include "server/routes.h"

#include "base/check.h"
#include "server/guard.h"
#include "server/server.h"

/* What anybody with a token may know; what any client of ours needs to configure itself. */
#define ANY_RIGHT (MR_RIGHT_INGEST | MR_RIGHT_QUERY | MR_RIGHT_ADMIN)

/* clang-format off */
const struct mr_route mr_routes[] = {
    {MR_METHOD_POST, "/v1/streams/{stream}/events", MR_RIGHT_INGEST, MR_ROUTE_INGEST, NULL},
    {MR_METHOD_POST, "/v1/events", MR_RIGHT_INGEST, MR_ROUTE_INGEST, NULL},
    {MR_METHOD_GET, "/livez", 0, MR_ROUTE_QUICK, mr_route_livez},
    {MR_METHOD_GET, "/readyz", 0, MR_ROUTE_QUICK, mr_route_readyz},
    {MR_METHOD_GET, "/metrics", MR_RIGHT_QUERY, MR_ROUTE_QUICK, mr_route_metrics},
    {MR_METHOD_GET, "/", 0, MR_ROUTE_QUICK, mr_route_landing},
    {MR_METHOD_GET, "/openapi.yaml", 0, MR_ROUTE_QUICK, mr_route_openapi},
    {MR_METHOD_GET, "/v1/version", ANY_RIGHT, MR_ROUTE_QUICK, mr_route_version},
    {MR_METHOD_GET, "/v1/limits", ANY_RIGHT, MR_ROUTE_QUICK, mr_route_limits},
    {MR_METHOD_GET, "/v1/streams", MR_RIGHT_QUERY, MR_ROUTE_QUICK, mr_route_streams},
    {MR_METHOD_GET, "/v1/streams/{stream}", MR_RIGHT_QUERY, MR_ROUTE_QUICK, mr_route_stream},
    {MR_METHOD_GET, "/v1/streams/{stream}/events/{id}", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_seen},
    {MR_METHOD_POST, "/v1/streams/{stream}/watermark", MR_RIGHT_INGEST, MR_ROUTE_WORKER, mr_route_advance},
    {MR_METHOD_GET, "/v1/rules", MR_RIGHT_QUERY, MR_ROUTE_QUICK, mr_route_rules},
    {MR_METHOD_GET, "/v1/rules/{rule}", MR_RIGHT_QUERY, MR_ROUTE_QUICK, mr_route_rule},
    {MR_METHOD_GET, "/v1/rules/{rule}/windows", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_windows},
    {MR_METHOD_GET, "/v1/rules/{rule}/top", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_top},
    {MR_METHOD_GET, "/v1/rules/{rule}/stream", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_rule_stream},
    {MR_METHOD_GET, "/v1/rules/{rule}/hot-keys", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_hot},
    {MR_METHOD_GET, "/v1/dead-letters", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_dead_letters},
    {MR_METHOD_DELETE, "/v1/dead-letters", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_discard},
    {MR_METHOD_POST, "/v1/dead-letters/redrive", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_redrive},
    {MR_METHOD_GET, "/v1/dead-letters/{address}", MR_RIGHT_QUERY, MR_ROUTE_WORKER, mr_route_dead_letter},
    {MR_METHOD_DELETE, "/v1/dead-letters/{address}", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_discard_one},
    {MR_METHOD_POST, "/v1/dead-letters/{address}/redrive", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_redrive_one},
    {MR_METHOD_POST, "/v1/checkpoint", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_checkpoint},
    {MR_METHOD_GET, "/v1/replays", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replays},
    {MR_METHOD_POST, "/v1/replays", MR_RIGHT_ADMIN, MR_ROUTE_UPLOAD, mr_route_replay_start},
    {MR_METHOD_GET, "/v1/replays/{replay}", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replay},
    {MR_METHOD_DELETE, "/v1/replays/{replay}", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replay_remove},
    {MR_METHOD_GET, "/v1/replays/{replay}/compare", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replay_compare},
    {MR_METHOD_POST, "/v1/replays/{replay}/promote", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replay_promote},
    {MR_METHOD_DELETE, "/v1/replays/{replay}/promote", MR_RIGHT_ADMIN, MR_ROUTE_WORKER, mr_route_replay_keep},
};
/* clang-format on */

const uint32_t mr_route_count = sizeof mr_routes / sizeof mr_routes[0];
static_assert(sizeof mr_routes / sizeof mr_routes[0] < MR_ROUTES_MAX,
              "one slot of mr_server.routes is left for requests without a route");

/* By a mask of the methods that a path has: 1 GET, 2 POST, 4 DELETE. */
static const char *const allows[8] = {
    NULL,     "GET, HEAD",         "POST",         "GET, HEAD, POST",
    "DELETE", "GET, HEAD, DELETE", "POST, DELETE", "GET, HEAD, POST, DELETE",
};

static uint32_t method_mask(enum mr_method method) {
    switch (method) {
    case MR_METHOD_GET:
    case MR_METHOD_HEAD:
        return 1;
    case MR_METHOD_POST:
        return 2;
    case MR_METHOD_DELETE:
        return 4;
    case MR_METHOD_COUNT:
        break;
    }
    return 0;
}

/* Matches one segment behind each '/', undecoded; a {…} takes any segment that is not empty. */
static bool matches(const char *pattern, struct mr_bytes path,
                    struct mr_bytes ret_raw[MR_PATH_PARAMS_MAX]) {
    size_t at = 0;
    uint32_t param = 0;
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (at == path.len || path.ptr[at] != (uint8_t)*pattern) {
                return false;
            }
            at++;
            pattern++;
            continue;
        }
        size_t start = at;
        while (at < path.len && path.ptr[at] != '/') {
            at++;
        }
        if (at == start) {
            return false;
        }
        MR_ASSERT(param < MR_PATH_PARAMS_MAX);
        ret_raw[param++] = mr_bytes_of(path.ptr + start, at - start);
        pattern = strchr(pattern, '}');
        MR_ASSERT(pattern != NULL);
        pattern++;
    }
    return at == path.len;
}

/* Decoding never lengthens, so with room for the path no append moves an earlier parameter. */
static bool decode_params(const struct mr_bytes raw[MR_PATH_PARAMS_MAX], size_t path_len,
                          struct mr_buf *scratch, struct mr_bytes params[MR_PATH_PARAMS_MAX]) {
    if (mr_buf_reserve(scratch, path_len) == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < MR_PATH_PARAMS_MAX; i++) {
        size_t start = scratch->len;
        if (!mr_percent_decode(raw[i], scratch)) {
            return false;
        }
        params[i] = mr_bytes_of(scratch->ptr + start, scratch->len - start);
    }
    return !scratch->failed;
}

const struct mr_route *mr_route_find(enum mr_method method, struct mr_bytes path,
                                     struct mr_buf *scratch,
                                     struct mr_bytes params[MR_PATH_PARAMS_MAX],
                                     const char **ret_allow) {
    uint32_t others = 0;
    uint32_t wanted = method_mask(method);
    *ret_allow = NULL;
    for (uint32_t i = 0; i < mr_route_count; i++) {
        struct mr_bytes raw[MR_PATH_PARAMS_MAX] = {{0}};
        if (!matches(mr_routes[i].pattern, path, raw)) {
            continue;
        }
        if (method_mask(mr_routes[i].method) != wanted) {
            others |= method_mask(mr_routes[i].method);
            continue;
        }
        return decode_params(raw, path.len, scratch, params) ? &mr_routes[i] : NULL;
    }
    *ret_allow = allows[others];
    return NULL;
}

void mr_route_later(struct mr_request *request, struct mr_response *response) {
    mr_problem(response, 501, "%.*s is known, but not in this version", (int)request->path.len,
               (const char *)request->path.ptr);
}
