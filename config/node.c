/* SPDX-License-Identifier: Apache-2.0 */
#include "config/node.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

const struct mr_node *mr_node_get(const struct mr_node *mapping, const char *key) {
    if (mapping == NULL || mapping->kind != MR_NODE_MAPPING) {
        return NULL;
    }
    struct mr_bytes wanted = mr_bytes_text(key);
    for (const struct mr_node *n = mapping->first; n != NULL; n = n->next) {
        MR_ASSERT(n->value != NULL);
        if (mr_bytes_equal(n->text, wanted)) {
            return n;
        }
    }
    return NULL;
}

const struct mr_node *mr_node_item(const struct mr_node *node, uint32_t i) {
    if (node->kind == MR_NODE_SCALAR) {
        return i == 0 ? node : NULL;
    }
    MR_ASSERT(node->kind == MR_NODE_SEQUENCE);
    const struct mr_node *item = node->first;
    while (item != NULL && i > 0) {
        item = item->next;
        i--;
    }
    return item;
}

uint32_t mr_node_items(const struct mr_node *node) {
    return node->kind == MR_NODE_SCALAR ? 1 : node->count;
}

bool mr_node_empty(const struct mr_node *node) {
    return node->kind == MR_NODE_SCALAR && !node->quoted && node->text.len == 0;
}

enum mr_status mr_node_error(struct mr_error *error, const struct mr_node *at,
                             enum mr_status status, const char *format, ...) {
    MR_ASSERT(status != MR_OK);
    char text[MR_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args); /* a text cut short is still a message */
    va_end(args);
    return mr_error_set(error, status, "%s:%u:%u: %s", at->file, at->line, at->column, text);
}

struct mr_shown mr_show(struct mr_bytes text) {
    struct mr_shown shown;
    enum { ROOM = (int)sizeof shown.text - 4, ESCAPE = 4 }; /* "..." and the NUL; \xNN */
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool control = c < 0x20 || c == 0x7f;
        size_t need = control ? ESCAPE : 1;
        if (at + need > ROOM) {
            /* Not in the middle of a character of UTF-8. */
            while (at > 0 && i < text.len && (text.ptr[i] & 0xc0) == 0x80) {
                at--;
                i--;
            }
            memcpy(shown.text + at, "...", 3);
            at += 3;
            break;
        }
        if (control) {
            (void)snprintf(shown.text + at, ESCAPE + 1, "\\x%02x", c);
        } else {
            shown.text[at] = (char)c;
        }
        at += need;
    }
    MR_ASSERT(at < sizeof shown.text);
    shown.text[at] = 0;
    return shown;
}
