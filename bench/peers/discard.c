/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd alone: receives a body, throws it away, answers 200. One epoll thread and the connection memory of
 * millrace's own server, so that what is between the two is what millrace does with the bytes.
 *
 * usage: peers_discard      prints {"port":N,"version":"…"} and serves until its standard input ends
 */
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

enum { CONNECTION_MEMORY = 32 * 1024, CONNECTIONS_MAX = 1024 }; /* as server/http.c */

static struct MHD_Response *answer;

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **state) {
    static int seen;
    (void)ctx, (void)url, (void)method, (void)version, (void)data;
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*len > 0) {
        *len = 0;
        return MHD_YES;
    }
    return MHD_queue_response(connection, MHD_HTTP_OK, answer);
}

int main(void) {
    static char body[] = "{}\n";
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    answer = MHD_create_response_from_buffer(sizeof body - 1, body, MHD_RESPMEM_PERSISTENT);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, NULL,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
        MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        daemon == NULL ? NULL : MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    if (answer == NULL || info == NULL) {
        (void)fprintf(stderr, "cannot start libmicrohttpd\n");
        return 1;
    }
    (void)printf("{\"port\":%u,\"version\":\"%s\"}\n", info->port, MHD_get_version());
    (void)fflush(stdout);
    char end;
    while (read(STDIN_FILENO, &end, 1) > 0) {
    }
    MHD_stop_daemon(daemon);
    MHD_destroy_response(answer);
    return 0;
}
