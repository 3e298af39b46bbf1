/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lookups: loading and printing them. A file's bytes are kept as they are; event/ reads the table in them.
 *
 * In a state text `file` is the hash and length of the bytes, so that a file of another content is another
 * configuration wherever it lies. Nobody gains by making two contents of one hash: 64 bits do.
 */
#include "base/check.h"
#include "base/hash.h"
#include "config/load.h"
#include "config/print.h"

#include <stdio.h>

#define CONTENT "xxh3-%016llx-%llu"

enum { CONTENT_MAX = 64 };

enum mr_status mr_option_load_lookups(struct mr_load *load, const struct mr_node *key,
                                      void *holder) {
    struct mr_config *config = holder;
    const struct mr_node *lookups;
    enum mr_status status = mr_load_names(load, key, MR_LOOKUPS_MAX, &lookups);
    if (status != MR_OK || lookups == NULL || lookups->count == 0) {
        return status;
    }
    config->lookups = mr_load_array(load, lookups->count, sizeof *config->lookups);
    if (config->lookups == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = lookups->first; n != NULL && status == MR_OK; n = n->next) {
        struct mr_config_lookup *lookup = &config->lookups[config->lookup_count];
        status = mr_load_copy(load, n->text, &lookup->name);
        if (status == MR_OK) {
            status = mr_load_scope(load, MR_SCOPE_LOOKUP, n, lookup);
        }
        config->lookup_count++;
    }
    return status;
}

static enum mr_status cannot_read(const struct mr_load *load, const struct mr_node *value,
                                  enum mr_status status) {
    return mr_node_error(load->error, value, MR_INVALID, "`file: %s`: cannot be read: %s",
                         mr_show(value->text).text, mr_status_text(status));
}

static enum mr_status read_bytes(struct mr_load *load, const struct mr_node *value,
                                 struct mr_file *file, struct mr_config_lookup *lookup) {
    uint64_t size;
    enum mr_status status = mr_file_size(file, &size);
    if (status != MR_OK) {
        return cannot_read(load, value, status);
    }
    if (size > MR_LOOKUP_BYTES_MAX) {
        static_assert(MR_LOOKUP_BYTES_MAX == 256 * MR_MIB, "said below");
        return mr_node_error(load->error, value, MR_INVALID,
                             "`file: %s`: %llu bytes; expected at most 256MiB",
                             mr_show(value->text).text, (unsigned long long)size);
    }
    uint8_t *bytes = mr_arena_alloc(load->arena, size + 1); /* also an empty file has an address */
    if (bytes == NULL) {
        return mr_load_no_memory(load);
    }
    size_t len;
    status = mr_file_pread(file, bytes, size, 0, &len);
    if (status != MR_OK) {
        return cannot_read(load, value, status);
    }
    lookup->data = mr_bytes_of(bytes, len);
    lookup->data_len = len;
    lookup->data_hash = mr_checksum(lookup->data);
    return MR_OK;
}

/* "xxh3-0123456789abcdef-17" of a state text. */
static enum mr_status load_content(const struct mr_load *load, const struct mr_node *value,
                                   struct mr_config_lookup *lookup) {
    unsigned long long hash = 0;
    unsigned long long len = 0;
    int end = 0;
    const char *text = (const char *)value->text.ptr;
    bool read = sscanf(text, "xxh3-%16llx-%20llu%n", &hash, &len, &end) == 2;
    char again[CONTENT_MAX];
    (void)snprintf(again, sizeof again, CONTENT, hash, len); /* 44 bytes at most */
    if (!read || !mr_bytes_equal(value->text, mr_bytes_text(again))) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`file: %s`; expected the hash and length of its content",
                             mr_show(value->text).text);
    }
    lookup->data_hash = hash;
    lookup->data_len = len;
    return MR_OK;
}

enum mr_status mr_option_load_lookup_file(struct mr_load *load, const struct mr_node *key,
                                          void *holder) {
    struct mr_config_lookup *lookup = holder;
    const struct mr_node *value = key->value;
    enum mr_status status = mr_load_scalar(load, key, value, "a file path");
    if (status != MR_OK) {
        return status;
    }
    if (load->state) {
        return load_content(load, value, lookup);
    }
    if (load->disk == NULL || memchr(value->text.ptr, 0, value->text.len) != NULL) {
        return mr_node_error(load->error, value, MR_INVALID, "`file`: expected a file path");
    }
    status = mr_load_copy(load, value->text, &lookup->file);
    if (status != MR_OK) {
        return status;
    }
    struct mr_file *file;
    status = mr_file_open(load->disk, (const char *)lookup->file.ptr, MR_FILE_READ, &file);
    if (status != MR_OK) {
        return status == MR_NO_MEMORY ? mr_load_no_memory(load) : cannot_read(load, value, status);
    }
    status = read_bytes(load, value, file, lookup);
    mr_file_close(file);
    return status;
}

void mr_option_print_lookups(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    if (c->lookup_count == 0) {
        return;
    }
    mr_print_begin(p, o->key);
    mr_print_end(p);
    p->depth++;
    for (uint32_t i = 0; i < c->lookup_count; i++) {
        mr_print_named(p, MR_SCOPE_LOOKUP, c->lookups[i].name, &c->lookups[i]);
    }
    p->depth--;
}

void mr_option_print_lookup_file(struct mr_print *p, const struct mr_option *o,
                                 const void *holder) {
    const struct mr_config_lookup *lookup = holder;
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    if (p->state) {
        mr_buf_printf(p->out, CONTENT, (unsigned long long)lookup->data_hash,
                      (unsigned long long)lookup->data_len);
    } else {
        mr_print_text(p, lookup->file);
    }
    mr_print_end(p);
}
