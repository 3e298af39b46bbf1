/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis server: real redis-server processes for tests, each with a directory of its own, on free ports of the loopback.
 *
 * Owner       start to stop. A server dies with the test's process, whatever becomes of that.
 * Errors      A test that cannot start a server fails; redis_server_is_installed says whether it can at all.
 * Time        start waits until the server answers.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { REDIS_SERVER_ARGS_MAX = 24, REDIS_SERVER_TEXT_MAX = 128, REDIS_CLUSTER_MAX = 12 };

struct redis_server {
    pid_t pid; /* 0: not running */
    uint16_t port;
    char address[REDIS_SERVER_TEXT_MAX]; /* "127.0.0.1:40123" */
    char dir[REDIS_SERVER_TEXT_MAX];
    char args[REDIS_SERVER_ARGS_MAX][REDIS_SERVER_TEXT_MAX];
    uint32_t arg_count;
};

/* Else the caller prints "skipped" and passes. */
bool redis_server_is_installed(void);

/* A free port, for what a server listens on besides. */
uint16_t redis_server_free_port(void);

/* More arguments, NULL-terminated: "--requirepass", "x", NULL. NULL: none. */
struct redis_server *redis_server_start(const char *const *args);
/* SIGKILL and SIGTERM: waits until it is gone; it can be started again. SIGSTOP, SIGCONT. */
void redis_server_signal(struct redis_server *server, int signal);
/* Once it is gone: the same port, directory and arguments. */
void redis_server_restart(struct redis_server *server);
void redis_server_stop(struct redis_server *server); /* and removes its directory; NULL is fine */

/* One command in a line ("CLUSTER MYID"), over a connection of its own; ret: the first reply as it came,
 * cut at its size. False: no connection, or none within two seconds. */
bool redis_server_ask(const struct redis_server *server, const char *line, char *ret, size_t size);
/* The same, which must not fail; "+OK" is nothing to look at. */
void redis_server_must(const struct redis_server *server, const char *line);

struct redis_cluster {
    struct redis_server *servers[REDIS_CLUSTER_MAX]; /* masters first */
    uint32_t count;
    uint32_t masters;
};

struct redis_cluster *redis_cluster_start(uint32_t masters, uint32_t replicas_each);
void redis_cluster_stop(struct redis_cluster *cluster);
/* Until every running server says cluster_state:ok. */
void redis_cluster_wait(const struct redis_cluster *cluster);
