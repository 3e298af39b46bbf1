/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims the ids of a file in Redis or memcached, pipelined: a block of commands goes out before the answers to the
 * block before it are read, so that the server always has work. One connection.
 *
 *     redis       SET <32 hex> 1 NX PX <24 h>          +OK, or a null where the id was there
 *     memcached   add <32 hex> 0 <24 h> 1 · 1          STORED, NOT_STORED
 *
 * memcached answers with an error when it evicts too slowly: the id is not stored, and whether it was there is not said;
 * such answers count as refused.
 *
 * usage: peers_ids redis|memcached PORT FILE DEPTH
 */
#include "bench/peers/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND_MAX = 128, ANSWERS_MAX = 65536 };

struct protocol {
    const char *name;
    const char *before; /* the id */
    const char *after;
    const char *fresh; /* answers, without \r\n */
    const char *known;
    const char *refused; /* NULL: never */
};

static const struct protocol protocols[] = {
    {"redis", "*6\r\n$3\r\nSET\r\n$32\r\n",
     "\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nPX\r\n$8\r\n86400000\r\n", "+OK", "$-1", NULL},
    {"memcached", "add ", " 0 86400 1\r\n1\r\n", "STORED", "NOT_STORED",
     "SERVER_ERROR out of memory storing object"},
};

struct client {
    const struct protocol *protocol;
    const struct peer_file *file;
    int fd;
    char *block;
    size_t got;
    char answers[ANSWERS_MAX];
    struct peer_result result;
};

static void send_block(struct client *c, uint64_t first, uint64_t count) {
    size_t before = strlen(c->protocol->before);
    size_t after = strlen(c->protocol->after);
    char *at = c->block;
    for (uint64_t n = first; n < first + count; n++) {
        memcpy(at, c->protocol->before, before);
        memcpy(at + before, peer_file_id(c->file, n), PEER_ID_LEN);
        memcpy(at + before + PEER_ID_LEN, c->protocol->after, after);
        at += before + PEER_ID_LEN + after;
    }
    peer_send(c->fd, c->block, (size_t)(at - c->block));
    c->result.requests++;
    c->result.events += count;
}

static bool is(const char *line, size_t len, const char *answer) {
    return answer != NULL && len == strlen(answer) && memcmp(line, answer, len) == 0;
}

/* Takes the whole lines; at most `wanted`. Returns how many. */
static uint64_t take_lines(struct client *c, uint64_t wanted) {
    uint64_t taken = 0;
    const char *at = c->answers;
    const char *end = at + c->got;
    for (const char *cr;
         taken < wanted && (cr = memchr(at, '\r', (size_t)(end - at))) != NULL && cr + 1 < end;
         at = cr + 2) {
        bool known = is(at, (size_t)(cr - at), c->protocol->known);
        bool refused = is(at, (size_t)(cr - at), c->protocol->refused);
        if (!known && !refused && !is(at, (size_t)(cr - at), c->protocol->fresh)) {
            peer_die("%.*s", (int)(cr - at), at);
        }
        c->result.repeats += known;
        c->result.refused += refused;
        taken++;
    }
    c->got = (size_t)(end - at);
    memmove(c->answers, at, c->got);
    return taken;
}

static void receive_block(struct client *c, uint64_t count) {
    for (uint64_t taken = take_lines(c, count); taken < count;
         taken += take_lines(c, count - taken)) {
        c->got += peer_receive(c->fd, c->answers + c->got, sizeof c->answers - c->got);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        peer_die("usage: peers_ids redis|memcached PORT FILE DEPTH");
    }
    struct peer_file file;
    uint64_t depth = strtoull(argv[4], NULL, 10);
    static struct client c;
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        c.protocol = strcmp(argv[1], protocols[i].name) == 0 ? &protocols[i] : c.protocol;
    }
    c.block = depth == 0 || depth > 100000 ? NULL : malloc(depth * COMMAND_MAX);
    if (c.protocol == NULL || c.block == NULL) {
        peer_die("redis or memcached, a depth of 1 to 100,000");
    }
    peer_file_open(&file, argv[3]);
    c.result.judged = true;
    c.file = &file;
    c.fd = peer_connect((uint16_t)atoi(argv[2]));
    peer_begin(&c.result);
    uint64_t owed = 0; /* answers of the block before */
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
