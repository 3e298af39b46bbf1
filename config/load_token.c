/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens. Their texts never stand in a message: somebody will write the secret where its hash
 * belongs.
 */
#include "config/load.h"

#include "base/check.h"

enum { HASH_FILE_MAX = 4096 };

enum mr_status mr_option_load_tokens(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config *config = holder;
    enum mr_status status = mr_load_names(load, key, MR_TOKENS_MAX, &load->tokens);
    if (status != MR_OK || load->tokens == NULL || load->tokens->count == 0) {
        return status;
    }
    config->auth.tokens = mr_load_array(load, load->tokens->count, sizeof *config->auth.tokens);
    if (config->auth.tokens == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = load->tokens->first; n != NULL && status == MR_OK; n = n->next) {
        struct mr_config_token *token = &config->auth.tokens[config->auth.token_count];
        token->all_streams = true;
        status = mr_load_copy(load, n->text, &token->name);
        if (status == MR_OK) {
            status = mr_load_scope(load, MR_SCOPE_TOKEN, n, token);
        }
        config->auth.token_count++;
    }
    return status;
}

enum mr_status mr_option_load_sha256(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config_token *token = holder;
    enum mr_status status = mr_load_scalar(load, key, key->value, "64 hexadecimal digits");
    if (status == MR_OK && !mr_value_sha256(key->value->text, token->sha256)) {
        return mr_node_error(
            load->error, key->value, MR_INVALID,
            "`sha256`: expected 64 hexadecimal digits: the SHA-256 of the token, not the "
            "token");
    }
    return status;
}

static enum mr_status read_hash(struct mr_load *load, const struct mr_node *value,
                                struct mr_buf *text, uint8_t ret[32]) {
    const char *path = (const char *)value->text.ptr;
    enum mr_status status = mr_disk_read_all(load->disk, path, text);
    if (status == MR_NO_MEMORY) {
        return mr_load_no_memory(load);
    }
    if (status != MR_OK && status != MR_LIMIT) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`sha256_file: %s`: cannot be read: %s", mr_show(value->text).text,
                             mr_status_text(status));
    }
    if (status == MR_LIMIT || !mr_value_sha256(mr_buf_bytes(text), ret)) {
        return mr_node_error(
            load->error, value, MR_INVALID,
            "`sha256_file: %s`: expected a file of 64 hexadecimal digits: the SHA-256 of "
            "the token, not the token",
            mr_show(value->text).text);
    }
    return MR_OK;
}

enum mr_status mr_option_load_sha256_file(struct mr_load *load, const struct mr_node *key,
                                          void *holder) {
    struct mr_config_token *token = holder;
    enum mr_status status = mr_load_scalar(load, key, key->value, "a file path");
    if (status != MR_OK) {
        return status;
    }
    if (load->disk == NULL || memchr(key->value->text.ptr, 0, key->value->text.len) != NULL) {
        return mr_node_error(load->error, key->value, MR_INVALID,
                             "`sha256_file`: expected a file path");
    }
    struct mr_buf text;
    mr_buf_init(&text, HASH_FILE_MAX);
    status = read_hash(load, key->value, &text, token->sha256);
    mr_buf_finish(&text);
    return status;
}

enum mr_status mr_option_load_allow(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config_token *token = holder;
    static const char expected[] = "a list of ingest, query, admin";
    enum mr_status status = mr_load_list(load, key, 3, expected);
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        const struct mr_choice *choice = mr_choice_find(mr_choices_right, item->text);
        if (choice == NULL) {
            const char *near = mr_choice_suggest(mr_choices_right, item->text);
            return mr_node_error(load->error, item, MR_INVALID, "`allow: %s`; expected %s%s",
                                 mr_show(item->text).text, expected, mr_load_near(near).text);
        }
        token->rights |= (uint32_t)choice->value;
    }
    return status;
}

enum mr_status mr_option_load_token_streams(struct mr_load *load, const struct mr_node *key,
                                            void *holder) {
    struct mr_config_token *token = holder;
    enum mr_status status =
        mr_load_list(load, key, MR_STREAMS_MAX, "a list of streams; left out, it is all of them");
    token->all_streams = false;
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        status = mr_load_stream_name(load, item, &token->streams[i]);
        for (uint32_t j = 0; status == MR_OK && j < i; j++) {
            if (token->streams[j] == token->streams[i]) {
                status = mr_node_error(load->error, item, MR_INVALID, "`%s` is here twice",
                                       mr_show(item->text).text);
            }
        }
        token->stream_count = i + 1;
    }
    return status;
}
