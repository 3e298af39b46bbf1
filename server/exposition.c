/* SPDX-License-Identifier: Apache-2.0 */
#include "server/exposition.h"

#include "base/check.h"
#include "base/json.h"

#include <math.h>

static bool is_name(const char *name) {
    for (size_t i = 0; name[i] != '\0'; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) {
            return false;
        }
    }
    return name[0] != '\0';
}

void mr_exposition_init(struct mr_exposition *e, struct mr_buf *buf) {
    *e = (struct mr_exposition){.buf = buf};
}

/* HELP texts are ours: no backslash and no line end in them. */
void mr_exposition_family(struct mr_exposition *e, enum mr_exposition_type type, const char *name,
                          const char *help) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    MR_ASSERT(is_name(name) && strpbrk(help, "\\\n") == NULL);
    e->family = name;
    e->type = type;
    mr_buf_printf(e->buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

/* The length of the UTF-8 sequence at the front; 0: there is none. */
static size_t utf8_len(struct mr_bytes text) {
    uint8_t first = text.ptr[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (len == 1) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4 || text.len < len) {
        return 0;
    }
    uint32_t point = first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((text.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
        point = point << 6 | (text.ptr[i] & 0x3f);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    bool sound = point >= least[len] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    return sound ? len : 0;
}

static void append_value(struct mr_buf *buf, struct mr_bytes value) {
    mr_buf_append_char(buf, '"');
    size_t len = 1;
    for (size_t i = 0; i < value.len; i += len) {
        uint8_t c = value.ptr[i];
        len = utf8_len(mr_bytes_of(value.ptr + i, value.len - i));
        if (c == '\\' || c == '"') {
            mr_buf_append_char(buf, '\\');
            mr_buf_append_char(buf, (char)c);
        } else if (c == '\n') {
            mr_buf_append_text(buf, "\\n");
        } else if (len == 0) {
            mr_buf_append_text(buf, "\xEF\xBF\xBD");
            len = 1;
        } else {
            mr_buf_append(buf, value.ptr + i, len);
        }
    }
    mr_buf_append_char(buf, '"');
}

/* Name and labels; le: one more label, or NULL. */
static void begin_sample(struct mr_exposition *e, const char *suffix, const struct mr_label *labels,
                         uint32_t label_count, const char *le) {
    MR_ASSERT(e->family != NULL && label_count <= MR_LABELS_MAX);
    mr_buf_append_text(e->buf, e->family);
    mr_buf_append_text(e->buf, suffix);
    for (uint32_t i = 0; i < label_count; i++) {
        MR_ASSERT(is_name(labels[i].name));
        mr_buf_append_char(e->buf, i == 0 ? '{' : ',');
        mr_buf_append_text(e->buf, labels[i].name);
        mr_buf_append_char(e->buf, '=');
        append_value(e->buf, labels[i].value);
    }
    if (le != NULL) {
        mr_buf_printf(e->buf, "%cle=\"%s\"", label_count == 0 ? '{' : ',', le);
    }
    mr_buf_append_text(e->buf, label_count > 0 || le != NULL ? "} " : " ");
}

static void end_double(struct mr_exposition *e, double value) {
    char text[32];
    if (isnan(value)) {
        mr_buf_append_text(e->buf, "NaN");
    } else if (isinf(value)) {
        mr_buf_append_text(e->buf, value > 0 ? "+Inf" : "-Inf");
    } else {
        mr_buf_append(e->buf, text, mr_double_text(value, text));
    }
    mr_buf_append_char(e->buf, '\n');
}

static void end_uint(struct mr_exposition *e, uint64_t value) {
    mr_buf_printf(e->buf, "%llu\n", (unsigned long long)value);
}

void mr_exposition_uint(struct mr_exposition *e, const struct mr_label *labels,
                        uint32_t label_count, uint64_t value) {
    MR_ASSERT(e->type != MR_EXPOSE_HISTOGRAM);
    begin_sample(e, "", labels, label_count, NULL);
    end_uint(e, value);
}

void mr_exposition_double(struct mr_exposition *e, const struct mr_label *labels,
                          uint32_t label_count, double value) {
    MR_ASSERT(e->type != MR_EXPOSE_HISTOGRAM);
    begin_sample(e, "", labels, label_count, NULL);
    end_double(e, value);
}

/* Others may add meanwhile: each bucket is at least the one before, and +Inf, which equals the count, is read
 * last and at least them all. */
void mr_exposition_histogram(struct mr_exposition *e, const struct mr_label *labels,
                             uint32_t label_count, const struct mr_histogram *h,
                             const uint64_t *bounds, uint32_t bound_count, double unit) {
    MR_ASSERT(e->type == MR_EXPOSE_HISTOGRAM && unit > 0);
    uint64_t least = 0;
    for (uint32_t i = 0; i < bound_count; i++) {
        MR_ASSERT(i == 0 || bounds[i] > bounds[i - 1]);
        char le[32];
        le[mr_double_text((double)bounds[i] / unit, le)] = '\0';
        uint64_t below = mr_histogram_count_below(h, bounds[i]);
        least = below > least ? below : least;
        begin_sample(e, "_bucket", labels, label_count, le);
        end_uint(e, least);
    }
    uint64_t count = mr_histogram_count(h);
    least = count > least ? count : least;
    begin_sample(e, "_bucket", labels, label_count, "+Inf");
    end_uint(e, least);
    begin_sample(e, "_sum", labels, label_count, NULL);
    end_double(e, (double)mr_histogram_sum(h) / unit);
    begin_sample(e, "_count", labels, label_count, NULL);
    end_uint(e, least);
}
