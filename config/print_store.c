/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Print store: stores and secrets. Of a secret only the file it came from is told.
 */
#include "base/check.h"
#include "config/print.h"

/* The stores that streams use, by first use: so the state does not depend on how others stand among them. Returns how
 * many. */
static uint32_t stores_in_use(const struct mr_config *c, uint32_t ret[MR_STORES_MAX]) {
    uint32_t count = 0;
    bool used[MR_STORES_MAX] = {false};
    for (uint32_t i = 0; i < c->stream_count; i++) {
        uint32_t store = c->streams[i].dedup.store;
        if (c->streams[i].dedup.mode == MR_CONFIG_REDIS && !used[store]) {
            MR_ASSERT(store < c->store_count);
            used[store] = true;
            ret[count++] = store;
        }
    }
    return count;
}

void mr_option_print_stores(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    uint32_t stores[MR_STORES_MAX];
    uint32_t count = c->store_count;
    MR_ASSERT(count <= MR_STORES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        stores[i] = i;
    }
    if (p->state) {
        count = stores_in_use(c, stores);
    }
    if (count == 0) {
        return;
    }
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, '\n');
    p->depth++;
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_config_store *store = &c->stores[stores[i]];
        mr_print_named(p, MR_SCOPE_STORE, store->name, store);
    }
    p->depth--;
}

void mr_option_print_nodes(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_store *store = holder;
    mr_print_list(p, o->key, store->nodes, store->node_count);
}

void mr_option_print_store_tls(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_store *store = holder;
    bool files =
        store->tls_ca_file.len > 0 || store->tls_cert_file.len > 0 || store->tls_key_file.len > 0;
    mr_print_begin(p, o->key);
    if (!store->tls || !files) {
        mr_buf_printf(p->out, " %s\n", mr_choice_text(mr_choices_bool, store->tls));
        return;
    }
    mr_buf_append_char(p->out, '\n');
    p->depth++;
    mr_print_scope(p, MR_SCOPE_STORE_TLS, holder);
    p->depth--;
}

void mr_option_print_dedup_store(struct mr_print *p, const struct mr_option *o,
                                 const void *holder) {
    const struct mr_config_stream *stream = holder;
    MR_ASSERT(stream->dedup.store < p->config->store_count);
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    mr_print_text(p, p->config->stores[stream->dedup.store].name);
    mr_buf_append_char(p->out, '\n');
}

/* That there is one: whoever reads it back is told to write it. */
static void print_secret(struct mr_print *p, const char *key, struct mr_bytes secret,
                         struct mr_bytes file) {
    if (secret.len > 0 && file.len == 0) {
        mr_print_begin(p, key);
        mr_buf_append_text(p->out, " (set)\n");
    }
}

static void print_file(struct mr_print *p, const char *key, struct mr_bytes file) {
    if (file.len > 0) {
        mr_print_begin(p, key);
        mr_buf_append_char(p->out, ' ');
        mr_print_text(p, file);
        mr_buf_append_char(p->out, '\n');
    }
}

void mr_option_print_secret(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    print_secret(p, o->key, c->cluster.secret, c->cluster.secret_file);
}

void mr_option_print_secret_file(struct mr_print *p, const struct mr_option *o,
                                 const void *holder) {
    const struct mr_config *c = holder;
    print_file(p, o->key, c->cluster.secret_file);
}

void mr_option_print_password(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_store *store = holder;
    print_secret(p, o->key, store->password, store->password_file);
}

void mr_option_print_password_file(struct mr_print *p, const struct mr_option *o,
                                   const void *holder) {
    const struct mr_config_store *store = holder;
    print_file(p, o->key, store->password_file);
}
