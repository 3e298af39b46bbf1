/* SPDX-License-Identifier: Apache-2.0 */
#include "server/input.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RAW_CAP = 64 << 10 };

struct mr_input {
    const char *path;
    int fd;
    struct mr_codec *codec; /* NULL: plain */
    uint64_t read;
    uint64_t size;
    bool ended; /* of the file */
    struct mr_bytes rest; /* raw bytes not yet given out or inflated */
    uint8_t raw[RAW_CAP];
};

static enum mr_status fill(struct mr_input *input, struct mr_error *error) {
    MR_ASSERT(input->rest.len == 0);
    ssize_t n;
    do {
        n = read(input->fd, input->raw, sizeof input->raw);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return mr_error_set(error, MR_IO, "%s: %s", input->path, strerror(errno));
    }
    input->ended = n == 0;
    input->read += (uint64_t)n;
    input->rest = mr_bytes_of(input->raw, (size_t)n);
    return MR_OK;
}

static enum mr_encoding encoding_of(struct mr_bytes start) {
    if (start.len >= 2 && start.ptr[0] == 0x1f && start.ptr[1] == 0x8b) {
        return MR_ENCODING_GZIP;
    }
    if (start.len >= 4 && memcmp(start.ptr, "\x28\xb5\x2f\xfd", 4) == 0) {
        return MR_ENCODING_ZSTD;
    }
    return MR_ENCODING_IDENTITY;
}

static enum mr_status begin(struct mr_input *input, struct mr_error *error) {
    enum mr_status status = fill(input, error);
    if (status != MR_OK) {
        return status;
    }
    enum mr_encoding encoding = encoding_of(input->rest);
    if (encoding == MR_ENCODING_IDENTITY) {
        return MR_OK;
    }
    status = mr_codec_open(&input->codec);
    if (status == MR_OK) {
        status = mr_codec_stream_begin(input->codec, encoding);
    }
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s: %s", input->path, mr_status_text(status));
}

enum mr_status mr_input_open(const char *path, struct mr_input **ret, struct mr_error *error) {
    struct mr_input *input = mr_alloc_zero(1, sizeof *input);
    if (input == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening %s", path);
    }
    bool standard = strcmp(path, "-") == 0;
    input->path = standard ? "standard input" : path;
    input->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (input->fd < 0) {
        enum mr_status status = errno == ENOENT ? MR_NOT_FOUND : MR_IO;
        (void)mr_error_set(error, status, "%s: %s", path, strerror(errno));
        mr_free(input);
        return status;
    }
    struct stat st;
    if (fstat(input->fd, &st) == 0 && S_ISREG(st.st_mode)) {
        input->size = (uint64_t)st.st_size;
    }
    enum mr_status status = begin(input, error);
    if (status != MR_OK) {
        mr_input_close(input);
        return status;
    }
    *ret = input;
    return MR_OK;
}

void mr_input_close(struct mr_input *input) {
    if (input == NULL) {
        return;
    }
    mr_codec_close(input->codec);
    if (input->fd != STDIN_FILENO) {
        (void)close(input->fd); /* only read from */
    }
    mr_free(input);
}

static size_t copy(struct mr_input *input, uint8_t *buf, size_t cap) {
    size_t len = input->rest.len < cap ? input->rest.len : cap;
    if (len > 0) {
        memcpy(buf, input->rest.ptr, len);
        input->rest = mr_bytes_of(input->rest.ptr + len, input->rest.len - len);
    }
    return len;
}

static enum mr_status say_path(const struct mr_input *input, struct mr_error *error,
                               const struct mr_error *cause) {
    return mr_error_set(error, cause->status, "%s: %s", input->path, cause->text);
}

enum mr_status mr_input_read(struct mr_input *input, uint8_t *buf, size_t cap, size_t *ret_len,
                             struct mr_error *error) {
    MR_ASSERT(cap > 0);
    for (;;) {
        if (input->rest.len == 0 && !input->ended) {
            enum mr_status status = fill(input, error);
            if (status != MR_OK) {
                return status;
            }
        }
        struct mr_error cause;
        size_t len = 0;
        enum mr_status status = MR_OK;
        if (input->codec == NULL) {
            len = copy(input, buf, cap);
        } else {
            status = mr_codec_stream_next(input->codec, &input->rest, buf, cap, &len, &cause);
        }
        bool over = input->ended && input->rest.len == 0 && len == 0;
        if (status == MR_OK && over && input->codec != NULL) {
            status = mr_codec_stream_end(input->codec, &cause);
        }
        if (status != MR_OK) {
            return say_path(input, error, &cause);
        }
        if (len > 0 || over) {
            *ret_len = len;
            return MR_OK;
        }
    }
}

void mr_input_progress(const struct mr_input *input, uint64_t *ret_done, uint64_t *ret_total) {
    *ret_done = input->read;
    *ret_total = input->size;
}
