/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simdjson's On-Demand, used as its documentation says is fastest: fields asked for in their order, strings as views.
 * On-Demand checks only what it walks over: what is behind the last field asked for is not looked at.
 */
#include "bench/peers/decode.h"

#include <cstring>
#include <simdjson.h>
#include <string>

using namespace simdjson;

/* One for each way: its memory is kept from body to body. */
static ondemand::parser stream_parser;
static ondemand::parser line_parser;

template <typename Document> static bool take(Document &&document, peer_columns *columns) {
    const size_t i = columns->count;
    std::string_view id;
    std::string_view key;
    ondemand::object event;
    if (i == columns->cap || document.get_object().get(event) ||
        event.find_field("id").get_string().get(id) ||
        event.find_field("ts").get_int64().get(columns->times[i]) ||
        event.find_field("key").get_string().get(key) ||
        event.find_field("value").get_double().get(columns->values[i])) {
        return false;
    }
    columns->ids[i] = id.data();
    columns->id_lens[i] = static_cast<uint32_t>(id.size());
    columns->keys[i] = key.data();
    columns->key_lens[i] = static_cast<uint32_t>(key.size());
    columns->count++;
    return true;
}

size_t peer_simdjson_padding(void) {
    return SIMDJSON_PADDING;
}

const char *peer_simdjson_version(void) {
    static const std::string text =
        std::string(SIMDJSON_STRINGIFY(SIMDJSON_VERSION)) + " " + get_active_implementation()->name();
    return text.c_str();
}

bool peer_simdjson_can_run(void) {
    return __builtin_cpu_supports("avx2") != 0;
}

bool peer_simdjson_stream(const char *ptr, size_t len, peer_columns *columns) {
    columns->count = 0;
    stream_parser.threaded = false; /* one core against one core */
    ondemand::document_stream stream;
    if (stream_parser.iterate_many(ptr, len, len).get(stream)) {
        return false;
    }
    for (auto document : stream) {
        if (document.error() || !take(document.value_unsafe(), columns)) {
            return false;
        }
    }
    return true;
}

bool peer_simdjson_lines(const char *ptr, size_t len, peer_columns *columns) {
    columns->count = 0;
    for (const char *at = ptr; at < ptr + len;) {
        const char *end = static_cast<const char *>(memchr(at, '\n', static_cast<size_t>(ptr + len - at)));
        const size_t line = static_cast<size_t>(end - at);
        /* The lines behind it are its padding. */
        ondemand::document document;
        if (line_parser.iterate(padded_string_view(at, line, line + SIMDJSON_PADDING)).get(document) ||
            !take(document, columns)) {
            return false;
        }
        at = end + 1;
    }
    return true;
}
