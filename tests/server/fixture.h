/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fixture: the real core of server/ on a free port, over a pipeline of thirty lines that judges on a thread of its own
 * (or at once, or not before it is told to), and a client that speaks bytes.
 *
 * The pipeline's verdicts: an id that begins with "dup" is D, with "late" L, else A.
 */
#include "server/server.h"

enum judge {
    JUDGE_THREAD, /* on the pipeline's thread */
    JUDGE_INLINE, /* inside mr_pipeline_submit: done comes before submit returns */
    JUDGE_HOLD,   /* not before fixture_release */
    JUDGE_REFUSE, /* with MR_REFUSAL_DISK_FULL */
    JUDGE_FULL,   /* submit and ask return false */
};

struct fixture {
    struct mr_config *config;
    struct mr_plan plan;
    struct mr_plan_stream streams[2];
    struct mr_server *server; /* NULL: could not be opened */
    struct mr_error error;
};

/* Streams clicks (schema: id, ts; numbers in ms) and views (observe). yaml_http: lines below `http:`, each
 * with two spaces in front; yaml_rest: more sections. */
void fixture_open(struct fixture *f, const char *yaml_http, const char *yaml_rest);
void fixture_open_port(struct fixture *f, uint16_t port);
void fixture_close(struct fixture *f);

void fixture_judge(enum judge judge);
/* What is held is judged, and is from now on. */
void fixture_release(void);
/* Waits until n batches or questions are held. */
void fixture_wait_held(uint32_t n);
void fixture_live(bool live);
/* Gives held batches back as the pipeline's close does: ABANDONED, questions closed. */
void fixture_abandon_held(void);

int client_open(const struct fixture *f);
void client_send(int fd, const void *ptr, size_t len);
void client_text(int fd, const char *text);
/* One whole response (status line, header, body by Content-Length), NUL-terminated, into a buffer of the fixture's that
 * the thread's next call reuses; "" when the server closed the connection first. */
const char *client_response(int fd, bool head);
/* All that comes until the server closes the connection. */
const char *client_all(int fd);
/* Whether the server has closed the connection (waits for it to do so). */
bool client_closed(int fd);
/* A connection of its own: sends text, returns the response. */
const char *client_once(const struct fixture *f, const char *text);
/* POST to a path with more header lines (each ends in \r\n) and a body. */
const char *client_post(const struct fixture *f, const char *path, const char *headers,
                        const void *body, size_t len);
