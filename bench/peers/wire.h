/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Wire: what the clients of bench/peers share: the file of events, a blocking socket, one line of result.
 *
 * Idea        Every client sends the same bytes, prepared before its clock starts; none shares code with the
 *             server that it is compared with.
 * Shape       A file of lines as peers_events writes them. Line n is [lines[n], lines[n + 1]), its newline included;
 *             its id is the 32 hex digits behind {"id":".
 * Errors      Clients are short programs: peer_die prints why and ends with 1.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEER_ID_AT = 7, PEER_ID_LEN = 32 };

struct peer_file {
    const char *ptr;
    size_t *lines; /* count + 1 offsets */
    uint64_t count;
};

struct peer_result {
    uint64_t events;
    uint64_t requests;
    uint64_t repeats; /* events that the server said it had seen before */
    uint64_t refused; /* that it did not take, and did not judge */
    bool judged;      /* false: it does not look */
    double began_s;
    double began_cpu_s;
};

/* Reads and indexes the file; every page is in memory afterwards. Never given back. */
void peer_file_open(struct peer_file *file, const char *path);

static inline const char *peer_file_id(const struct peer_file *file, uint64_t n) {
    return file->ptr + file->lines[n] + PEER_ID_AT;
}

int peer_connect(uint16_t port); /* on loopback, blocking */
void peer_send(int fd, const char *data, size_t len);
size_t peer_receive(int fd, char *to, size_t cap); /* at least a byte */

/* begin: everything is prepared. report: every answer is there; one line of JSON on stdout: the counts, and
 * the wall time and this process's CPU time since begin; then waits until standard input ends. */
void peer_begin(struct peer_result *result);
void peer_report(const struct peer_result *result);
_Noreturn void peer_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
