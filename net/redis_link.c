/* SPDX-License-Identifier: Apache-2.0 */
#include "net/redis_parts.h"

#include <stdarg.h>
#include <stdio.h>

/* A number below bound: SplitMix64 (Steele, Lea, Flood). */
static uint64_t random_below(struct mr_redis *r, uint64_t bound) {
    uint64_t z = r->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint64_t)(((__uint128_t)(z ^ z >> 31) * bound) >> 64);
}

void mr_redis_link_break(struct mr_redis *r, struct mr_redis_link *link, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(link->trouble, sizeof link->trouble, format, args); /* cut at its capacity */
    va_end(args);
    mr_redis_connection_close(link->connection);
    link->connection = NULL;
    link->state = MR_REDIS_LINK_DOWN;
    link->session = 0;
    link->dry = true;
    uint64_t min = r->options.retry_min_ns;
    uint64_t max = r->options.retry_max_ns;
    uint64_t delay = link->delay_ns == 0 ? min : link->delay_ns;
    link->retry_at_ns = r->now_ns + delay - random_below(r, delay / 2 + 1);
    link->delay_ns = delay > max / 2 ? max : delay * 2;
    r->stats.failures++;
}

/* ---- log-in: AUTH, CLIENT SETNAME, and PING, whose reply says that the server is there for us ---- */

static uint32_t auth_count(const struct mr_redis *r) {
    return r->options.password.len > 0;
}

static uint32_t login_count(const struct mr_redis *r) {
    return auth_count(r) + (r->options.name.len > 0) + 1;
}

static enum mr_status send_login(const struct mr_redis *r, struct mr_redis_connection *c) {
    const struct mr_redis_options *o = &r->options;
    enum mr_status status = MR_OK;
    if (o->password.len > 0) {
        struct mr_bytes argv[3] = {MR_BYTES("AUTH"), o->user, o->password};
        struct mr_bytes short_argv[2] = {argv[0], argv[2]};
        status = o->user.len > 0 ? mr_redis_connection_send(c, argv, 3)
                                 : mr_redis_connection_send(c, short_argv, 2);
    }
    if (status == MR_OK && o->name.len > 0) {
        struct mr_bytes argv[3] = {MR_BYTES("CLIENT"), MR_BYTES("SETNAME"), o->name};
        status = mr_redis_connection_send(c, argv, 3);
    }
    if (status == MR_OK) {
        struct mr_bytes argv[1] = {MR_BYTES("PING")};
        status = mr_redis_connection_send(c, argv, 1);
    }
    return status;
}

static void open_link(struct mr_redis *r, struct mr_redis_link *link) {
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_redis_transport_open(r->options.transport, link->address.host,
                                                    link->address.port, &link->connection, &error);
    if (status == MR_OK) {
        status = send_login(r, link->connection);
    } else {
        link->connection = NULL;
    }
    if (status != MR_OK) {
        mr_redis_link_break(r, link, "%s", error.text[0] != '\0' ? error.text : mr_status_text(status));
        return;
    }
    link->state = MR_REDIS_LINK_LOGIN;
    link->opened_ns = r->now_ns;
    link->replies = 0;
    link->dry = true;
    r->stats.connects++;
}

static bool begins(struct mr_bytes text, struct mr_bytes with) {
    return text.len >= with.len && memcmp(text.ptr, with.ptr, with.len) == 0;
}

/* A user who may not call PING or CLIENT (NOPERM) is logged in all the same. */
static bool is_refused(const struct mr_redis *r, uint32_t nth, const struct mr_redis_reply *reply) {
    return reply->type == MR_REDIS_FAILURE &&
           (nth < auth_count(r) || begins(reply->text, MR_BYTES("NOAUTH")) ||
            begins(reply->text, MR_BYTES("LOADING")));
}

static void take_login(struct mr_redis *r, struct mr_redis_link *link) {
    struct mr_redis_reply reply;
    while (link->replies < login_count(r)) {
        if (!mr_redis_connection_next(link->connection, &reply)) {
            link->dry = true;
            return;
        }
        if (is_refused(r, link->replies, &reply)) {
            mr_redis_link_break(r, link, "log-in: %.*s", (int)(reply.text.len > 200 ? 200 : reply.text.len),
                                (const char *)reply.text.ptr);
            return;
        }
        link->replies++;
    }
    link->state = MR_REDIS_LINK_UP;
    link->session = ++r->sessions;
    link->delay_ns = 0;
}

bool mr_redis_link_step(struct mr_redis *r, struct mr_redis_link *link) {
    bool moved = false;
    if (link->state == MR_REDIS_LINK_DOWN) {
        if (r->now_ns < link->retry_at_ns) {
            return false;
        }
        open_link(r, link);
        moved = true;
    }
    if (link->state == MR_REDIS_LINK_DOWN) {
        return moved;
    }
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_redis_connection_step(link->connection, &error);
    if (status != MR_OK && status != MR_AGAIN) {
        mr_redis_link_break(r, link, "%s", error.text[0] != '\0' ? error.text : mr_status_text(status));
        return true;
    }
    if (status == MR_OK) {
        link->dry = false;
        moved = true;
    }
    if (link->state == MR_REDIS_LINK_LOGIN) {
        take_login(r, link);
    }
    if (link->state == MR_REDIS_LINK_LOGIN && r->now_ns - link->opened_ns >= r->options.timeout_ns) {
        r->stats.timeouts++;
        mr_redis_link_break(r, link, "not connected within %llu ms",
                            (unsigned long long)(r->options.timeout_ns / 1000000));
        return true;
    }
    return moved;
}

uint64_t mr_redis_link_due_ns(const struct mr_redis *r, const struct mr_redis_link *link) {
    switch (link->state) {
    case MR_REDIS_LINK_DOWN:
        return link->retry_at_ns;
    case MR_REDIS_LINK_LOGIN:
        return link->opened_ns + r->options.timeout_ns;
    case MR_REDIS_LINK_UP:
        return UINT64_MAX;
    }
    MR_UNREACHABLE();
}
