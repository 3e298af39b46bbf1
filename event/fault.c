/* SPDX-License-Identifier: Apache-2.0 */
#include "event/fault.h"

#include "base/check.h"
#include "event/text.h"

#include <stdio.h>

static void tell_found(const struct mr_walk *walk, struct mr_line *line) {
    const uint8_t *at = walk->fault.at;
    char found[32];
    if (at == walk->end || (*at == '\n' && (walk->space >> '\n' & 1) == 0)) {
        mr_line_add_text(line, ", found the end");
        return;
    }
    if (*at >= 0x20 && *at < 0x7F) {
        (void)snprintf(found, sizeof found, ", found '%c'", *at); /* fits */
    } else {
        (void)snprintf(found, sizeof found, ", found byte 0x%02X", *at); /* fits */
    }
    mr_line_add_text(line, found);
}

static void tell_syntax(const struct mr_walk *walk, struct mr_bytes event, struct mr_line *line) {
    char place[64];
    mr_line_add_text(line, "expected ");
    mr_line_add_text(line, walk->fault.text);
    long long byte = walk->fault.at - event.ptr + 1;
    (void)snprintf(place, sizeof place, " at byte %lld of the event", byte); /* fits */
    mr_line_add_text(line, place);
    tell_found(walk, line);
}

static void tell_length(const struct mr_walk *walk, struct mr_bytes event, struct mr_line *line) {
    char text[96];
    (void)snprintf(text, sizeof text, "%zu bytes, the limit of one event is %u", event.len,
                   walk->schema->options.event_bytes_max); /* fits */
    mr_line_add_text(line, text);
}

void mr_fault_tell(const struct mr_walk *walk, struct mr_bytes event, struct mr_event_error *ret) {
    const struct mr_fault *fault = &walk->fault;
    MR_ASSERT(fault->reject > MR_REJECT_NONE && fault->reject < MR_REJECT_COUNT);
    ret->reject = fault->reject;
    mr_tree_pointer(walk->schema, fault->node, ret->pointer, sizeof ret->pointer);
    struct mr_line line;
    mr_line_init(&line, ret->detail, sizeof ret->detail);
    if (fault->reject == MR_REJECT_TOO_LONG) {
        tell_length(walk, event, &line);
    } else if (fault->syntax) {
        tell_syntax(walk, event, &line);
    } else {
        mr_line_add_text(&line, fault->text);
        if (fault->len > 0) {
            mr_line_add_text(&line, ": ");
            mr_line_add(&line, fault->at,
                        fault->len); /* part of a well-formed event: valid UTF-8 */
        }
    }
    MR_VERIFY(mr_utf8_valid(mr_bytes_text(ret->detail)));
    MR_VERIFY(mr_utf8_valid(mr_bytes_text(ret->pointer)));
}
