/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishes the lines of a file to a JetStream stream of a nats-server, each with its id as Nats-Msg-Id, and counts the
 * acknowledgements, those that say duplicate apart. One connection; a block goes out before the acknowledgements of the
 * block before it are read. Makes the stream when it is not there.
 *
 * usage: peers_nats PORT FILE DEPTH WINDOW_S
 *        WINDOW_S: how long the server keeps ids (duplicate_window)
 */
#include "bench/peers/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NATS/1.0, Nats-Msg-Id: and the id, an empty line */
enum { MESSAGE_MAX = 1024, INPUT_MAX = 1 << 20, HEADER_LEN = 10 + 13 + PEER_ID_LEN + 2 + 2 };

struct client {
    const struct peer_file *file;
    int fd;
    char *block;
    size_t at; /* of what was received, still to be read */
    size_t got;
    char input[INPUT_MAX + 1];
    struct peer_result result;
};

static void receive_some(struct client *c) {
    memmove(c->input, c->input + c->at, c->got - c->at);
    c->got -= c->at;
    c->at = 0;
    if (c->got == INPUT_MAX) {
        peer_die("a message too long");
    }
    c->got += peer_receive(c->fd, c->input + c->got, INPUT_MAX - c->got);
    c->input[c->got] = '\0';
}

/* The next line, without \r\n; valid until the next call. */
static char *next_line(struct client *c, size_t *ret_len) {
    for (;;) {
        char *line = c->input + c->at;
        char *end = memmem(line, c->got - c->at, "\r\n", 2);
        if (end != NULL) {
            *end = '\0';
            *ret_len = (size_t)(end - line);
            c->at += *ret_len + 2;
            return line;
        }
        receive_some(c);
    }
}

/* The payload of the next message to the inbox; answers pings meanwhile. */
static const char *next_message(struct client *c) {
    for (;;) {
        size_t len;
        char *line = next_line(c, &len);
        if (strncmp(line, "PING", 4) == 0) {
            peer_send(c->fd, "PONG\r\n", 6);
        } else if (strncmp(line, "-ERR", 4) == 0) {
            peer_die("%s", line);
        } else if (strncmp(line, "MSG ", 4) == 0 || strncmp(line, "HMSG ", 5) == 0) {
            if (line[0] == 'H') {
                peer_die("no JetStream answered");
            }
            size_t body = strtoul(strrchr(line, ' ') + 1, NULL, 10);
            while (c->got - c->at < body + 2) {
                receive_some(c);
            }
            char *payload = c->input + c->at;
            payload[body] = '\0';
            c->at += body + 2;
            return payload;
        }
    }
}

static void open_stream(struct client *c, const char *window_s) {
    char text[512];
    char config[320];
    int len = snprintf(
        config, sizeof config,
        "{\"name\":\"EVENTS\",\"subjects\":[\"events\"],\"storage\":\"file\",\"retention\":"
        "\"limits\","
        "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\"num_replicas\":1,"
        "\"duplicate_window\":%lld}",
        strtoll(window_s, NULL, 10) * 1000000000);
    size_t info_len;
    if (strncmp(next_line(c, &info_len), "INFO ", 5) != 0) {
        peer_die("not a nats-server");
    }
    int text_len = snprintf(
        text, sizeof text,
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"
        "SUB inbox 1\r\nPUB $JS.API.STREAM.CREATE.EVENTS inbox %d\r\n%s\r\n",
        len, config);
    peer_send(c->fd, text, (size_t)text_len);
    const char *answer = next_message(c);
    if (strstr(answer, "\"error\"") != NULL) {
        peer_die("%s", answer);
    }
}

static void send_block(struct client *c, uint64_t first, uint64_t count) {
    char *at = c->block;
    for (uint64_t n = first; n < first + count; n++) {
        const char *line = c->file->ptr + c->file->lines[n];
        size_t len = c->file->lines[n + 1] - c->file->lines[n] - 1; /* without the newline */
        if (len > MESSAGE_MAX - 200) {
            peer_die("a line of %zu bytes", len);
        }
        at += sprintf(at, "HPUB events inbox %d %zu\r\nNATS/1.0\r\nNats-Msg-Id: %.*s\r\n\r\n",
                      HEADER_LEN, HEADER_LEN + len, PEER_ID_LEN, peer_file_id(c->file, n));
        memcpy(at, line, len);
        memcpy(at + len, "\r\n", 2);
        at += len + 2;
    }
    peer_send(c->fd, c->block, (size_t)(at - c->block));
    c->result.requests++;
    c->result.events += count;
}

static void receive_block(struct client *c, uint64_t count) {
    for (; count > 0; count--) {
        const char *ack = next_message(c);
        if (strstr(ack, "\"seq\"") == NULL || strstr(ack, "\"error\"") != NULL) {
            peer_die("%s", ack);
        }
        c->result.repeats += strstr(ack, "\"duplicate\"") != NULL;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        peer_die("usage: peers_nats PORT FILE DEPTH WINDOW_S");
    }
    struct peer_file file;
    uint64_t depth = strtoull(argv[3], NULL, 10);
    static struct client c;
    c.block = depth == 0 || depth > 10000 ? NULL : malloc(depth * MESSAGE_MAX);
    if (c.block == NULL) {
        peer_die("a depth of 1 to 10,000");
    }
    peer_file_open(&file, argv[2]);
    c.result.judged = true;
    c.file = &file;
    c.fd = peer_connect((uint16_t)atoi(argv[1]));
    open_stream(&c, argv[4]);
    peer_begin(&c.result);
    uint64_t owed = 0; /* acknowledgements of the block before */
    for (uint64_t n = 0; n < file.count; n += depth) {
        uint64_t count = file.count - n < depth ? file.count - n : depth;
        send_block(&c, n, count);
        receive_block(&c, owed);
        owed = count;
    }
    receive_block(&c, owed);
    peer_report(&c.result);
    free(c.block);
    return 0;
}
