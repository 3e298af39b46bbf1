/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check store: whether a store can be reached as it is described, and whether there is all that claiming ids in one takes.
 */
#include "config/load.h"

#include "base/check.h"
#include "config/value.h"

enum { DURATION_LEN_MAX = 64 };

/* One of two keys, or neither; *ret says that one of them is there. */
static enum mr_status one_of(const struct mr_load *load, const struct mr_node *key, const char *a,
                             const char *b, bool *ret) {
    bool has_a = mr_node_get(key->value, a) != NULL;
    bool has_b = mr_node_get(key->value, b) != NULL;
    if (has_a && has_b) {
        return mr_node_error(load->error, key, MR_INVALID,
                             "`%s` has both; expected one of `%s` and `%s`",
                             mr_show(key->text).text, a, b);
    }
    *ret = has_a || has_b;
    return MR_OK;
}

static enum mr_status check_tls(const struct mr_load *load, const struct mr_config_store *store,
                                const struct mr_node *key) {
    bool cert = store->tls_cert_file.len > 0;
    bool private_key = store->tls_key_file.len > 0;
    if (cert == private_key) {
        return MR_OK;
    }
    return mr_node_error(load->error, mr_node_get(key->value, "tls"), MR_INVALID,
                         "`tls` has `%s` without `%s`; expected both, or neither",
                         cert ? "cert_file" : "key_file", cert ? "key_file" : "cert_file");
}

static enum mr_status check_store(const struct mr_load *load, const struct mr_config_store *store,
                                  const struct mr_node *key) {
    bool password = false;
    enum mr_status status = one_of(load, key, "password", "password_file", &password);
    if (status == MR_OK && store->user.len > 0 && !password) {
        status = mr_node_error(load->error, mr_node_get(key->value, "user"), MR_INVALID,
                               "`user` without a password; expected one of `password` and "
                               "`password_file`");
    }
    if (status == MR_OK) {
        status = check_tls(load, store, key);
    }
    if (status == MR_OK && !store->cluster && store->node_count > 1) {
        status =
            mr_node_error(load->error, mr_node_get(key->value, "nodes")->value, MR_INVALID,
                          "`nodes`: %u of them; expected one, or cluster: true", store->node_count);
    }
    return status;
}

/* Streams and the cluster that they share ids with: both or neither. claiming: the first such stream. */
static enum mr_status check_cluster(const struct mr_load *load, const struct mr_node *claiming) {
    const struct mr_node *cluster = mr_node_get(load->root, "cluster");
    if (cluster != NULL && claiming == NULL) {
        return mr_node_error(load->error, cluster, MR_INVALID,
                             "`cluster`: only with a shared store; expected a stream with dedup: { "
                             "mode: redis }");
    }
    if (claiming == NULL) {
        return MR_OK;
    }
    const struct mr_node *mode =
        mr_node_get(mr_node_get(claiming->value, "dedup")->value, "mode")->value;
    if (cluster == NULL) {
        return mr_node_error(load->error, mode, MR_INVALID,
                             "`mode: redis` needs cluster: { name: NAME, secret_file: FILE }, the "
                             "same on all nodes");
    }
    const struct mr_node *node = mr_node_get(load->root, "node");
    if (node == NULL || mr_node_get(node->value, "id") == NULL) {
        return mr_node_error(
            load->error, mode, MR_INVALID,
            "`mode: redis` needs node: { id: NAME }, another one on each node: two "
            "of one name would take each other's claims for their own");
    }
    bool secret = load->state;
    enum mr_status status =
        secret ? MR_OK : one_of(load, cluster, "secret", "secret_file", &secret);
    if (status == MR_OK && !secret) {
        status = mr_node_error(load->error, cluster, MR_INVALID,
                               "`cluster` has neither; expected one of `secret` and `secret_file`");
    }
    return status;
}

/* When the store has lost claims they are asserted again from the log. */
static enum mr_status check_retain(const struct mr_load *load, const struct mr_config_stream *stream,
                                   const struct mr_node *key) {
    const struct mr_config *c = load->config;
    if (load->state || stream->dedup.mode != MR_CONFIG_REDIS || c->log.retain_ms >= stream->dedup.horizon_ms) {
        return MR_OK;
    }
    struct mr_buf retain;
    struct mr_buf horizon;
    mr_buf_init(&retain, DURATION_LEN_MAX);
    mr_buf_init(&horizon, DURATION_LEN_MAX);
    mr_value_show_duration(c->log.retain_ms, &retain);
    mr_value_show_duration(stream->dedup.horizon_ms, &horizon);
    const struct mr_node *log = mr_node_get(load->root, "log");
    const struct mr_node *at = log == NULL ? NULL : mr_node_get(log->value, "retain");
    at = at == NULL ? mr_node_get(mr_node_get(key->value, "dedup")->value, "horizon") : at;
    MR_ASSERT(at != NULL); /* the defaults fit */
    enum mr_status status =
        mr_node_error(load->error, at->value, MR_INVALID,
                      "`log.retain` %.*s is less than `streams.%s.dedup.horizon` %.*s; expected at least as much: claims "
                      "that Redis has lost are asserted again from the log",
                      (int)retain.len, (const char *)retain.ptr, mr_show(stream->name).text, (int)horizon.len,
                      (const char *)horizon.ptr);
    mr_buf_finish(&retain);
    mr_buf_finish(&horizon);
    return status;
}

enum mr_status mr_config_check_stores(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    enum mr_status status = MR_OK;
    const struct mr_node *key = load->stores == NULL ? NULL : load->stores->first;
    for (uint32_t i = 0; i < c->store_count && status == MR_OK; i++, key = key->next) {
        status = check_store(load, &c->stores[i], key);
    }
    const struct mr_node *claiming = NULL;
    key = load->streams->first;
    for (uint32_t i = 0; i < c->stream_count && claiming == NULL; i++, key = key->next) {
        claiming = c->streams[i].dedup.mode == MR_CONFIG_REDIS ? key : NULL;
    }
    key = load->streams->first;
    for (uint32_t i = 0; status == MR_OK && i < c->stream_count; i++, key = key->next) {
        status = check_retain(load, &c->streams[i], key);
    }
    return status != MR_OK ? status : check_cluster(load, claiming);
}
