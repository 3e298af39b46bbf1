/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores, the cluster, and their secrets: the texts of secrets never stand in a message.
 */
#include "config/load.h"

#include "base/check.h"

#include <stdio.h>

enum { SECRET_LEN_MIN = 16, SECRET_LEN_MAX = 4096, NEWLINE_LEN_MAX = 2, REDIS_PORT = 6379 };

/* What mr_config_print writes for a secret that it leaves out. */
static const char left_out[] = "(set)";

enum mr_status mr_load_store_names(struct mr_load *load) {
    const struct mr_node *key = mr_node_get(load->root, "stores");
    enum mr_status status =
        key == NULL ? MR_OK : mr_load_names(load, key, MR_STORES_MAX, &load->stores);
    if (status != MR_OK || load->stores == NULL || load->stores->count == 0) {
        return status;
    }
    struct mr_config *config = load->config;
    config->stores = mr_load_array(load, load->stores->count, sizeof *config->stores);
    if (config->stores == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = load->stores->first; n != NULL; n = n->next) {
        status = mr_load_copy(load, n->text, &config->stores[config->store_count].name);
        if (status != MR_OK) {
            return status;
        }
        config->store_count++;
    }
    return MR_OK;
}

enum mr_status mr_option_load_stores(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config *config = holder;
    MR_ASSERT(load->stores == NULL || key->value == load->stores);
    const struct mr_node *n = load->stores == NULL ? NULL : load->stores->first;
    for (uint32_t i = 0; n != NULL; n = n->next, i++) {
        enum mr_status status = mr_load_scope(load, MR_SCOPE_STORE, n, &config->stores[i]);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr_option_load_dedup_store(struct mr_load *load, const struct mr_node *key,
                                          void *holder) {
    struct mr_config_stream *stream = holder;
    const struct mr_config *c = load->config;
    struct mr_named stores = {c->stores, sizeof *c->stores, c->store_count};
    enum mr_status status = mr_load_scalar(load, key, key->value, "the name of a store");
    return status != MR_OK
               ? status
               : mr_load_named(load, key->value, "store", &stores, &stream->dedup.store);
}

/* An address with its port, in the one form that all addresses have. */
static enum mr_status load_node(struct mr_load *load, const struct mr_node *item,
                                struct mr_bytes *ret) {
    struct mr_bytes host;
    uint16_t port;
    if (!mr_value_node(item->text, REDIS_PORT, &host, &port)) {
        return mr_node_error(load->error, item, MR_INVALID,
                             "`nodes: %s`; expected HOST:PORT such as redis-1:6379, 10.0.0.1:6379 "
                             "or [::1]:6379, or HOST for port 6379",
                             mr_show(item->text).text);
    }
    char text[280];
    int len = snprintf(text, sizeof text, "%.*s:%u", (int)host.len, (const char *)host.ptr, port);
    MR_ASSERT(len > 0 && (size_t)len < sizeof text);
    return mr_load_copy(load, mr_bytes_of(text, (size_t)len), ret);
}

enum mr_status mr_option_load_nodes(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config_store *store = holder;
    enum mr_status status = mr_load_list(load, key, MR_STORE_NODES_MAX,
                                         "a list of 1 to 32 such as [\"10.0.0.1:6379\"]");
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        status = load_node(load, item, &store->nodes[i]);
        for (uint32_t j = 0; status == MR_OK && j < i; j++) {
            if (mr_bytes_equal(store->nodes[j], store->nodes[i])) {
                status = mr_node_error(load->error, item, MR_INVALID, "`%s` is here twice",
                                       mr_show(item->text).text);
            }
        }
        store->node_count = i + 1;
    }
    return status;
}

enum mr_status mr_option_load_store_tls(struct mr_load *load, const struct mr_node *key,
                                        void *holder) {
    struct mr_config_store *store = holder;
    const struct mr_node *value = key->value;
    static const char expected[] =
        "true, false, or { ca_file: FILE, cert_file: FILE, key_file: FILE }";
    if (value->kind == MR_NODE_MAPPING) {
        store->tls = true;
        return mr_load_scope(load, MR_SCOPE_STORE_TLS, key, holder);
    }
    enum mr_status status = mr_load_scalar(load, key, value, expected);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_choice *choice = mr_choice_find(mr_choices_bool, value->text);
    if (choice == NULL) {
        return mr_node_error(load->error, value, MR_INVALID, "`tls: %s`; expected %s",
                             mr_show(value->text).text, expected);
    }
    store->tls = choice->value != 0;
    return MR_OK;
}

/* A secret that stands in the configuration itself. */
static enum mr_status load_secret(struct mr_load *load, const struct mr_node *key, size_t min,
                                  struct mr_bytes *ret) {
    const struct mr_node *value = key->value;
    char expected[40];
    (void)snprintf(expected, sizeof expected, "%zu to %d bytes", min, SECRET_LEN_MAX);
    enum mr_status status = mr_load_scalar(load, key, value, expected);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_shown name = mr_show(key->text);
    if (mr_bytes_equal(value->text, mr_bytes_text(left_out))) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`%s: %s` says that there is one, not which: it was printed so; write "
                             "it here, or use %s_file",
                             name.text, left_out, name.text);
    }
    if (value->text.len < min || value->text.len > SECRET_LEN_MAX) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: %zu bytes; expected %s",
                             name.text, value->text.len, expected);
    }
    return mr_load_copy(load, value->text, ret);
}

static enum mr_status read_secret(struct mr_load *load, const struct mr_node *key, size_t min,
                                  struct mr_buf *text, struct mr_bytes *ret) {
    const struct mr_node *value = key->value;
    enum mr_status status = mr_disk_read_all(load->disk, (const char *)value->text.ptr, text);
    if (status == MR_NO_MEMORY) {
        return mr_load_no_memory(load);
    }
    if (status != MR_OK && status != MR_LIMIT) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`: cannot be read: %s",
                             mr_show(key->text).text, mr_show(value->text).text,
                             mr_status_text(status));
    }
    struct mr_bytes secret = mr_buf_bytes(text);
    if (secret.len > 0 && secret.ptr[secret.len - 1] == '\n') {
        secret.len--;
        secret.len -= secret.len > 0 && secret.ptr[secret.len - 1] == '\r';
    }
    if (status == MR_LIMIT || secret.len < min || secret.len > SECRET_LEN_MAX) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`%s: %s`: expected a file of %zu to %d bytes, and a newline",
                             mr_show(key->text).text, mr_show(value->text).text, min,
                             SECRET_LEN_MAX);
    }
    return mr_load_copy(load, secret, ret);
}

/* A secret from a file; the file is what is printed. */
static enum mr_status load_secret_file(struct mr_load *load, const struct mr_node *key, size_t min,
                                       struct mr_bytes *ret, struct mr_bytes *ret_file) {
    const struct mr_node *value = key->value;
    enum mr_status status = mr_load_scalar(load, key, value, "a file path");
    if (status != MR_OK) {
        return status;
    }
    if (load->disk == NULL || memchr(value->text.ptr, 0, value->text.len) != NULL) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: expected a file path",
                             mr_show(key->text).text);
    }
    struct mr_buf text;
    mr_buf_init(&text, SECRET_LEN_MAX + NEWLINE_LEN_MAX);
    status = read_secret(load, key, min, &text, ret);
    mr_buf_finish(&text);
    return status != MR_OK ? status : mr_load_copy(load, value->text, ret_file);
}

enum mr_status mr_option_load_secret(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config *config = holder;
    return load_secret(load, key, SECRET_LEN_MIN, &config->cluster.secret);
}

enum mr_status mr_option_load_secret_file(struct mr_load *load, const struct mr_node *key,
                                          void *holder) {
    struct mr_config *config = holder;
    return load_secret_file(load, key, SECRET_LEN_MIN, &config->cluster.secret,
                            &config->cluster.secret_file);
}

enum mr_status mr_option_load_password(struct mr_load *load, const struct mr_node *key,
                                       void *holder) {
    struct mr_config_store *store = holder;
    return load_secret(load, key, 1, &store->password);
}

enum mr_status mr_option_load_password_file(struct mr_load *load, const struct mr_node *key,
                                            void *holder) {
    struct mr_config_store *store = holder;
    return load_secret_file(load, key, 1, &store->password, &store->password_file);
}
