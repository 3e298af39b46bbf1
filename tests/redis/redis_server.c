/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis/redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 20000, BUS = 10000, PORT_MIN = 20000, PORT_COUNT = 12000 };

static void nap_ms(long ms) {
    (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

bool redis_server_is_installed(void) {
    const char *path = getenv("PATH");
    const char *programs[] = {"redis-server", "redis-cli"};
    int found = 0;
    for (int i = 0; i < 2; i++) {
        char copy[4096];
        char *rest = copy;
        (void)snprintf(copy, sizeof copy, "%s", path == NULL ? "/usr/bin" : path);
        for (char *dir; (dir = strsep(&rest, ":")) != NULL;) {
            char file[4200];
            (void)snprintf(file, sizeof file, "%s/%s", dir, programs[i]);
            if (access(file, X_OK) == 0) {
                found++;
                break;
            }
        }
    }
    return found == 2;
}

/* ---- ports ---- */

static int try_port(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Free, and so is the one that a cluster's bus would take. Below those the kernel gives to clients. */
uint16_t redis_server_free_port(void) {
    static unsigned turn;
    for (;;) {
        uint16_t port = (uint16_t)(PORT_MIN + (unsigned)((unsigned)getpid() * 37 + turn++ * 7) % PORT_COUNT);
        int a = try_port(port);
        int b = try_port((uint16_t)(port + BUS));
        if (a >= 0) {
            (void)close(a);
        }
        if (b >= 0) {
            (void)close(b);
        }
        if (a >= 0 && b >= 0) {
            return port;
        }
    }
}

/* ---- asking ---- */

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Whether the reply is whole: a line, and for a text as many bytes as the line says. */
static bool is_whole(const char *reply, size_t len) {
    const char *end = memchr(reply, '\n', len);
    if (end == NULL || reply[0] != '$') {
        return end != NULL;
    }
    long size = strtol(reply + 1, NULL, 10);
    return size < 0 || len >= (size_t)(end - reply) + 1 + (size_t)size + 2;
}

bool redis_server_ask(const struct redis_server *server, const char *line, char *ret, size_t size) {
    int fd = connect_to(server->port);
    size_t len = 0;
    ret[0] = '\0';
    if (fd < 0) {
        return false;
    }
    bool sent = send(fd, line, strlen(line), MSG_NOSIGNAL) > 0 && send(fd, "\r\n", 2, MSG_NOSIGNAL) == 2;
    while (sent && len + 1 < size && !is_whole(ret, len)) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t got = poll(&poll_fd, 1, 2000) > 0 ? recv(fd, ret + len, size - 1 - len, 0) : -1;
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
        ret[len] = '\0';
    }
    (void)close(fd);
    return len > 0;
}

void redis_server_must(const struct redis_server *server, const char *line) {
    char reply[512];
    if (!redis_server_ask(server, line, reply, sizeof reply) || reply[0] == '-') {
        fail_msg("%s: %s: %s", server->address, line, reply);
    }
}

/* ---- one server ---- */

static void run_child(const struct redis_server *server) {
    const char *argv[REDIS_SERVER_ARGS_MAX + 1];
    for (uint32_t i = 0; i < server->arg_count; i++) {
        argv[i] = server->args[i];
    }
    argv[server->arg_count] = NULL;
    int null = open("/dev/null", O_RDWR);
    (void)dup2(null, 0);
    (void)dup2(null, 1);
    (void)dup2(null, 2);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)execvp("redis-server", (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* False: it ended, as when somebody took the port in between. */
static bool launch(struct redis_server *server) {
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        run_child(server);
    }
    char reply[256];
    for (int ms = 0; ms < PATIENCE_MS; ms += 10) {
        if (redis_server_ask(server, "PING", reply, sizeof reply) && strncmp(reply, "-LOADING", 8) != 0) {
            return true;
        }
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            server->pid = 0;
            return false;
        }
        nap_ms(10);
    }
    fail_msg("redis-server does not answer on %s", server->address);
    return false;
}

static void add_arg(struct redis_server *server, const char *arg) {
    assert_true(server->arg_count < REDIS_SERVER_ARGS_MAX && strlen(arg) < REDIS_SERVER_TEXT_MAX);
    (void)snprintf(server->args[server->arg_count++], REDIS_SERVER_TEXT_MAX, "%s", arg);
}

static void fill_args(struct redis_server *server, const char *const *args) {
    char port[8];
    (void)snprintf(port, sizeof port, "%u", server->port);
    (void)snprintf(server->address, sizeof server->address, "127.0.0.1:%u", server->port);
    const char *own[] = {"redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", server->dir, "--save", ""};
    server->arg_count = 0;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        add_arg(server, own[i]);
    }
    for (; args != NULL && *args != NULL; args++) {
        add_arg(server, *args);
    }
}

struct redis_server *redis_server_start(const char *const *args) {
    struct redis_server *server = calloc(1, sizeof *server);
    assert_non_null(server);
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(server->dir, sizeof server->dir, "%s/redis-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(server->dir));
    for (int attempt = 0; attempt < 5; attempt++) {
        server->port = redis_server_free_port();
        fill_args(server, args);
        if (launch(server)) {
            return server;
        }
    }
    fail_msg("redis-server does not start");
    return NULL;
}

void redis_server_signal(struct redis_server *server, int signal) {
    assert_true(server->pid > 0);
    assert_int_equal(kill(server->pid, signal), 0);
    if (signal == SIGKILL || signal == SIGTERM) {
        assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
        server->pid = 0;
    }
}

void redis_server_restart(struct redis_server *server) {
    assert_int_equal(server->pid, 0);
    assert_true(launch(server));
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *walk) {
    (void)about;
    (void)type;
    (void)walk;
    return remove(path);
}

void redis_server_stop(struct redis_server *server) {
    if (server == NULL) {
        return;
    }
    if (server->pid > 0) {
        redis_server_signal(server, SIGKILL);
    }
    (void)nftw(server->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(server);
}

/* ---- a cluster ---- */

static void create(const struct redis_cluster *cluster, uint32_t replicas_each) {
    char replicas[8];
    (void)snprintf(replicas, sizeof replicas, "%u", replicas_each);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *argv[REDIS_CLUSTER_MAX + 8] = {"redis-cli", "--cluster", "create"};
        int count = 3;
        for (uint32_t i = 0; i < cluster->count; i++) {
            argv[count++] = cluster->servers[i]->address;
        }
        argv[count++] = "--cluster-replicas";
        argv[count++] = replicas;
        argv[count++] = "--cluster-yes";
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, 0);
        (void)dup2(null, 1);
        (void)execvp("redis-cli", (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void redis_cluster_wait(const struct redis_cluster *cluster) {
    char reply[2048];
    for (int ms = 0; ms < PATIENCE_MS; ms += 20) {
        uint32_t fine = 0;
        for (uint32_t i = 0; i < cluster->count; i++) {
            const struct redis_server *server = cluster->servers[i];
            fine += server->pid == 0 || (redis_server_ask(server, "CLUSTER INFO", reply, sizeof reply) &&
                                         strstr(reply, "cluster_state:ok") != NULL);
        }
        if (fine == cluster->count) {
            return;
        }
        nap_ms(20);
    }
    fail_msg("the cluster does not come up");
}

struct redis_cluster *redis_cluster_start(uint32_t masters, uint32_t replicas_each) {
    static const char *const args[] = {"--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
                                       "--cluster-config-file", "nodes.conf", NULL};
    struct redis_cluster *cluster = calloc(1, sizeof *cluster);
    assert_non_null(cluster);
    cluster->masters = masters;
    cluster->count = masters * (1 + replicas_each);
    assert_true(cluster->count <= REDIS_CLUSTER_MAX);
    for (uint32_t i = 0; i < cluster->count; i++) {
        cluster->servers[i] = redis_server_start(args);
    }
    create(cluster, replicas_each);
    redis_cluster_wait(cluster);
    return cluster;
}

void redis_cluster_stop(struct redis_cluster *cluster) {
    if (cluster == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cluster->count; i++) {
        redis_server_stop(cluster->servers[i]);
    }
    free(cluster);
}
