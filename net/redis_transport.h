/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis transport: connections that carry commands out and replies in, passed in like the disk and the clock, so that
 * a simulator can stand where the network is. net/hiredis.c is the real one, and the one user of hiredis.
 *
 * Idea        Nothing here waits, but wait. A connection is opened at once and connects while it is stepped; commands
 *             may be sent before it is up. Replies come in the order of commands. A connection that has broken once
 *             stays broken: it is closed and another one opened, so that a late reply cannot answer another command.
 * Shape       A command is a list of binary-safe arguments, copied by send. A reply is a tree; it and all it points to
 *             belong to the connection, until the next call of next, step or close of that connection.
 * Owner       One thread for a transport and all its connections.
 * Errors      step: MR_OK: something moved; MR_AGAIN: nothing to do now; MR_IO, MR_NO_MEMORY, MR_CORRUPT (not the
 *             protocol): broken, with a text that says what and with whom. send: MR_OK or MR_NO_MEMORY, which sends
 *             nothing; what is sent to a broken connection is dropped. open: MR_NO_MEMORY, MR_INVALID (no such name).
 */
#include "base/bytes.h"

enum mr_redis_reply_type {
    MR_REDIS_NIL,
    MR_REDIS_STATUS,  /* text: OK, PONG, … */
    MR_REDIS_FAILURE, /* text: "MOVED 3999 127.0.0.1:6381" */
    MR_REDIS_TEXT,
    MR_REDIS_INTEGER,
    MR_REDIS_LIST,
};

struct mr_redis_reply {
    enum mr_redis_reply_type type;
    int64_t integer;
    struct mr_bytes text;
    const struct mr_redis_reply *items; /* LIST */
    uint32_t count;
};

struct mr_redis_transport;
struct mr_redis_connection;

struct mr_redis_transport_ops {
    enum mr_status (*open)(struct mr_redis_transport *, const char *host, uint16_t port,
                           struct mr_redis_connection **ret, struct mr_error *);
    enum mr_status (*send)(struct mr_redis_connection *, const struct mr_bytes *argv, uint32_t argc);
    enum mr_status (*step)(struct mr_redis_connection *, struct mr_error *);
    bool (*next)(struct mr_redis_connection *, struct mr_redis_reply *ret);
    void (*close)(struct mr_redis_connection *);
    void (*wait)(struct mr_redis_transport *, uint64_t timeout_ns);
    void (*finish)(struct mr_redis_transport *);
};

/* An implementation's struct begins with this. */
struct mr_redis_transport {
    const struct mr_redis_transport_ops *ops;
};

/* And its connections with this. */
struct mr_redis_connection {
    struct mr_redis_transport *transport;
};

static inline enum mr_status mr_redis_transport_open(struct mr_redis_transport *t, const char *host,
                                                     uint16_t port,
                                                     struct mr_redis_connection **ret,
                                                     struct mr_error *error) {
    return t->ops->open(t, host, port, ret, error);
}

static inline enum mr_status mr_redis_connection_send(struct mr_redis_connection *c,
                                                      const struct mr_bytes *argv, uint32_t argc) {
    return c->transport->ops->send(c, argv, argc);
}

/* Writes what can be written and reads what is there. */
static inline enum mr_status mr_redis_connection_step(struct mr_redis_connection *c,
                                                      struct mr_error *error) {
    return c->transport->ops->step(c, error);
}

/* Takes the next reply; false: none is there yet. */
static inline bool mr_redis_connection_next(struct mr_redis_connection *c,
                                            struct mr_redis_reply *ret) {
    return c->transport->ops->next(c, ret);
}

static inline void mr_redis_connection_close(struct mr_redis_connection *c) { /* NULL is fine */
    if (c != NULL) {
        c->transport->ops->close(c);
    }
}

/* Until a connection can move, or timeout_ns has passed. May be early. */
static inline void mr_redis_transport_wait(struct mr_redis_transport *t, uint64_t timeout_ns) {
    t->ops->wait(t, timeout_ns);
}

/* All connections are closed. NULL is fine. */
static inline void mr_redis_transport_finish(struct mr_redis_transport *t) {
    if (t != NULL) {
        t->ops->finish(t);
    }
}

struct mr_redis_tls {
    bool on;
    const char *ca_file; /* NULL: the system's */
    const char *cert_file; /* NULL: none is shown */
    const char *key_file;
    const char *server_name; /* NULL: as connected */
};

/* The network. MR_UNSUPPORTED with a text: TLS is asked for, and this was built without OpenSSL. MR_INVALID: a file of
 * it cannot be used. */
enum mr_status mr_hiredis_open(const struct mr_redis_tls *tls, struct mr_redis_transport **ret,
                               struct mr_error *error) MR_MUST_CHECK;
/* Whether this build can do TLS: for the configuration's check. */
bool mr_hiredis_has_tls(void);
