/* SPDX-License-Identifier: Apache-2.0 */
/* Hot: GET /v1/rules/{rule}/hot-keys: the keys that have had the most events lately, of all shards. */
#include "aggregate/hot.h"
#include "base/alloc.h"
#include "base/check.h"
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/rows.h"

#include <stdlib.h>

enum { N_DEFAULT = 10 };

/* What all shards have. A key is of one shard, but for the overflow group, which is one to a client. */
struct hot {
    struct mr_row *keys; /* revision: the error */
    uint32_t count;
    uint64_t events;
    int64_t since_ms; /* INT64_MIN: nothing has come */
};

static void add_key(struct hot *hot, const struct mr_row *row) {
    for (uint32_t i = 0; mr_key_is_other(row->key) && i < hot->count; i++) {
        if (mr_key_is_other(hot->keys[i].key)) {
            hot->keys[i].events += row->events;
            hot->keys[i].revision += row->revision;
            return;
        }
    }
    hot->keys[hot->count++] = *row;
}

static int by_events(const void *a, const void *b) {
    const struct mr_row *x = a;
    const struct mr_row *y = b;
    if (x->events != y->events) {
        return x->events > y->events ? -1 : 1;
    }
    return mr_bytes_compare(x->key, y->key);
}

/* keys: room for MR_HOT_KEYS of each shard. */
static void merge(struct hot *hot, const struct mr_ask *ask, uint32_t shards) {
    for (uint32_t i = 0; i < shards; i++) {
        struct mr_bytes rest = mr_buf_bytes(&ask->results[i].rows);
        struct mr_row row;
        bool whole = mr_row_next(&rest, &row);
        MR_ASSERT(whole); /* the shard's total */
        hot->events += row.events;
        hot->since_ms = row.window_start_ms; /* the same on all: recorded time is */
        while (mr_row_next(&rest, &row)) {
            MR_ASSERT(hot->count < shards * MR_HOT_KEYS);
            add_key(hot, &row);
        }
    }
    qsort(hot->keys, hot->count, sizeof *hot->keys, by_events);
}

static void write_key(struct mr_json *json, const struct mr_rule *rule, const struct hot *hot,
                      const struct mr_row *key) {
    mr_json_object_begin(json);
    mr_json_key(json, "key");
    mr_rows_json_key(json, rule, key->key);
    mr_json_key(json, "events");
    mr_json_uint(json, key->events);
    mr_json_key(json, "error");
    mr_json_uint(json, key->revision);
    mr_json_key(json, "share");
    mr_json_double(json, (double)key->events / (double)hot->events);
    mr_json_object_end(json);
}

static void write_answer(struct mr_response *response, const struct mr_rule *rule, const struct hot *hot, uint32_t n) {
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "rule");
    mr_json_string(&json, rule->name);
    mr_json_key(&json, "since_ms");
    if (hot->since_ms == INT64_MIN) {
        mr_json_null(&json);
    } else {
        mr_json_int(&json, hot->since_ms);
    }
    mr_json_key(&json, "events");
    mr_json_uint(&json, hot->events);
    mr_json_key(&json, "keys");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < hot->count && i < n; i++) {
        write_key(&json, rule, hot, &hot->keys[i]);
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
    (void)mr_reply_fits(response);
}

static void ask_and_answer(const struct mr_request *request, struct mr_response *response, uint32_t rule, uint32_t n) {
    struct mr_server *server = request->server;
    uint32_t shards = server->plan->shards;
    struct mr_ask ask = {.kind = MR_ASK_HOT, .scan = {.rule = rule}};
    struct hot hot = {.since_ms = INT64_MIN};
    enum mr_status status = mr_server_ask(server, &ask);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    for (uint32_t i = 0; i < shards; i++) {
        status = status == MR_OK ? ask.results[i].status : status;
    }
    hot.keys = mr_alloc((size_t)shards * MR_HOT_KEYS * sizeof *hot.keys);
    if (status != MR_OK || hot.keys == NULL) {
        mr_reply_not_asked(response, MR_NO_MEMORY);
    } else {
        merge(&hot, &ask, shards);
        write_answer(response, &server->plan->rules[rule], &hot, n);
    }
    mr_free(hot.keys);
    for (uint32_t i = 0; i < shards; i++) {
        mr_buf_finish(&ask.results[i].rows);
    }
}

void mr_route_hot(struct mr_request *request, struct mr_response *response) {
    static const char *const names[] = {"n"};
    struct mr_params params;
    struct mr_error error;
    uint32_t n = N_DEFAULT;
    uint32_t rule = mr_reply_rule(request, response);
    if (rule == UINT32_MAX) {
        return;
    }
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? mr_params_known(&params, names, 1, NULL, &error) : status;
    status = status == MR_OK ? mr_params_count(&params, "n", 1, MR_HOT_KEYS, &n, &error) : status;
    mr_params_finish(&params);
    if (status == MR_OK) {
        ask_and_answer(request, response, rule, n);
    } else {
        mr_reply_refuse(response, &error);
    }
}
