/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Listening socket of the http layer: opened before libmicrohttpd gets it, made to refuse while its threads go on.
 *
 * Idea        libmicrohttpd is never told to stop listening. MHD_quiesce_daemon (0.9.75) takes the socket out of its
 *             threads' epoll sets while these may be doing the same, and who comes second finds nothing there and
 *             ends the process. So the socket stays theirs, and loses what makes it listen:
 *
 *             listening ──shutdown──▶ hung up ──connect──▶ connected to the sink
 *
 *             Hung up, epoll would report it again and again, and every thread would spin until the daemon stops.
 *             Connected to a socket of our own that never sends, it is silent.
 * Owner       The http layer; from the daemon's start on the descriptor is closed by MHD_stop_daemon.
 * Threads     Any, also beside the daemon's own.
 * Errors      open: MR_BUSY the port is in use; MR_INVALID no such address; MR_IO; with a text.
 */
#include "base/status.h"

#include <stdint.h>

struct mr_config;

enum mr_status mr_http_listen_open(const struct mr_config *config, int *ret_fd, uint16_t *ret_port,
                                   struct mr_error *error) MR_MUST_CHECK;
/* New connections are refused from here on. Returns the sink, to be closed behind the daemon; -1: there is none, which
 * costs processor time only. */
int mr_http_listen_refuse(int fd);
