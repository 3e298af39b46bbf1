/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport on the network. hiredis finds the address, opens the socket and parses replies; the bytes in between
 * are moved here: one write and a few reads a step, under TLS or not.
 *
 *      send ─▶ out ─▶ write ┈┈▶ server ┈┈▶ read ─▶ redisReader ─▶ items, texts ─▶ next
 *
 * A name is looked up in open, which waits for the resolver: addresses in numbers do not.
 */
#include "net/redis_transport.h"

#include "base/alloc.h"
#include "base/check.h"
#include "net/hiredis_tls.h"

#include <hiredis/hiredis.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
    READ_BYTES = 16 << 10,
    READS_MAX = 16,            /* in one step, so that one server does not keep the others waiting */
    AHEAD_BYTES_MAX = 256 << 10, /* not read on while as much is here that nobody has taken */
    REPLY_ITEMS_MAX = 1 << 20,
    REPLY_DEPTH_MAX = 7, /* of lists in lists: what hiredis 0.14 can do; 1.0 has no bound */
    REPLY_BYTES_MAX = 16 << 20,
    KEPT_BYTES_MAX = 1 << 20, /* of memory for the next reply */
    POLLS_FIRST = 8,
};
#define OUT_BYTES_MAX ((size_t)1 << 30)

struct network {
    struct mr_redis_transport transport;
    struct mr_tls *tls; /* NULL: none */
    struct connection *connections;
    struct pollfd *polls;
    uint32_t poll_capacity;
    uint32_t count;
};

struct connection {
    struct mr_redis_connection connection;
    struct connection *previous;
    struct connection *following;
    redisContext *context; /* the socket; NULL when it could not be opened */
    redisReader *reader;
    struct mr_tls_session *tls;
    bool is_up; /* the socket, that is */
    bool dry;   /* no whole reply is here */
    struct mr_buf out;
    size_t out_done;
    struct mr_redis_reply *items; /* of the reply: the root, its children, theirs … */
    uint32_t item_count;
    uint32_t item_capacity;
    struct mr_buf texts;
    const char *refusal; /* why a reply is not taken; NULL: the reader knows */
    enum mr_status broken;
    struct mr_error error;
    char peer[MR_ERROR_TEXT_MAX / 2];
};

static struct connection *of(struct mr_redis_connection *connection) {
    return (struct connection *)connection;
}

static enum mr_status break_with(struct connection *c, enum mr_status status, const char *what) {
    c->broken = mr_error_set(&c->error, status, "%s: %s", c->peer, what);
    return c->broken;
}

/* ---- replies: hiredis calls these for each item; an object is the item's index and one ---- */

static struct mr_redis_reply *item_at(struct connection *c, const redisReadTask *task) {
    if (task->parent == NULL) {
        return &c->items[0];
    }
    uintptr_t parent = (uintptr_t)task->parent->obj - 1;
    MR_ASSERT(parent < c->item_count && c->items[parent].type == MR_REDIS_LIST);
    return &c->items[(size_t)c->items[parent].integer + (size_t)task->idx]; /* integer: see on_list */
}

static void *object_of(struct connection *c, const struct mr_redis_reply *item) {
    return (void *)((uintptr_t)(item - c->items) + 1);
}

static void *refuse(struct connection *c, const char *why) {
    c->refusal = why;
    return NULL;
}

static void *on_text(const redisReadTask *task, char *text, size_t len) {
    struct connection *c = task->privdata;
    struct mr_redis_reply *item = item_at(c, task);
    enum mr_redis_reply_type type = MR_REDIS_TEXT;
    if (task->type == REDIS_REPLY_STATUS || task->type == REDIS_REPLY_ERROR) {
        type = task->type == REDIS_REPLY_STATUS ? MR_REDIS_STATUS : MR_REDIS_FAILURE;
    } else if (task->type != REDIS_REPLY_STRING) {
        return refuse(c, "a reply of a kind that was not asked for");
    }
    /* texts may move while it grows: settle makes a pointer of the offset. */
    *item = (struct mr_redis_reply){.type = type, .integer = (int64_t)c->texts.len, .text = {NULL, len}};
    mr_buf_append(&c->texts, text, len);
    if (c->texts.failed) {
        return refuse(c, len > REPLY_BYTES_MAX - c->texts.len ? "a reply over 16 MiB" : "out of memory");
    }
    return object_of(c, item);
}

static bool reserve_items(struct connection *c, size_t more) {
    size_t need = c->item_count + more;
    if (need <= c->item_capacity) {
        return true;
    }
    size_t capacity = c->item_capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    struct mr_redis_reply *items = mr_realloc(c->items, capacity * sizeof *items);
    if (items == NULL) {
        return false;
    }
    c->items = items;
    c->item_capacity = (uint32_t)capacity;
    return true;
}

static void *take_list(const redisReadTask *task, size_t count) {
    struct connection *c = task->privdata;
    if (task->type != REDIS_REPLY_ARRAY) {
        return refuse(c, "a reply of a kind that was not asked for");
    }
    int depth = 1;
    for (const redisReadTask *t = task->parent; t != NULL; t = t->parent) {
        depth++;
    }
    if (depth > REPLY_DEPTH_MAX) {
        return refuse(c, "a reply nested too deep");
    }
    if (count > REPLY_ITEMS_MAX - c->item_count) {
        return refuse(c, "a reply of over a million items");
    }
    if (!reserve_items(c, count)) {
        return refuse(c, "out of memory");
    }
    /* The children stand together behind what there is; settle makes a pointer of their index. */
    struct mr_redis_reply *item = item_at(c, task);
    *item = (struct mr_redis_reply){.type = MR_REDIS_LIST, .integer = c->item_count, .count = (uint32_t)count};
    for (size_t i = 0; i < count; i++) {
        c->items[c->item_count + i] = (struct mr_redis_reply){.type = MR_REDIS_NIL};
    }
    c->item_count += (uint32_t)count;
    return object_of(c, item);
}

static void *on_integer(const redisReadTask *task, long long value) {
    struct connection *c = task->privdata;
    struct mr_redis_reply *item = item_at(c, task);
    *item = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = value};
    return object_of(c, item);
}

static void *on_nil(const redisReadTask *task) {
    struct connection *c = task->privdata;
    struct mr_redis_reply *item = item_at(c, task);
    *item = (struct mr_redis_reply){.type = MR_REDIS_NIL};
    return object_of(c, item);
}

static void on_free(void *object) {
    (void)object; /* an index */
}

/* Version 1 counts in another type, and knows kinds of replies that only come when HELLO 3 was said. */
#if HIREDIS_MAJOR >= 1
static void *on_list(const redisReadTask *task, size_t count) {
    return take_list(task, count);
}

static void *on_double(const redisReadTask *task, double value, char *text, size_t len) {
    (void)value;
    (void)text;
    (void)len;
    return refuse(task->privdata, "a reply of a kind that was not asked for");
}

static void *on_bool(const redisReadTask *task, int value) {
    (void)value;
    return refuse(task->privdata, "a reply of a kind that was not asked for");
}
#else
static void *on_list(const redisReadTask *task, int count) {
    return count < 0 ? NULL : take_list(task, (size_t)count);
}
#endif

static redisReplyObjectFunctions reply_functions = {
    .createString = on_text,
    .createArray = on_list,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
#if HIREDIS_MAJOR >= 1
    .createDouble = on_double,
    .createBool = on_bool,
#endif
};

/* Offsets become pointers, now that nothing moves any more. */
static void settle(struct connection *c) {
    for (uint32_t i = 0; i < c->item_count; i++) {
        struct mr_redis_reply *item = &c->items[i];
        if (item->type == MR_REDIS_LIST) {
            item->items = c->items + item->integer;
            item->integer = 0;
        } else if (item->type != MR_REDIS_INTEGER && item->type != MR_REDIS_NIL) {
            item->text.ptr = item->text.len == 0 ? (const uint8_t *)"" : c->texts.ptr + item->integer;
            item->integer = 0;
        }
    }
}

static bool op_next(struct mr_redis_connection *connection, struct mr_redis_reply *ret) {
    struct connection *c = of(connection);
    if (c->broken != MR_OK || c->reader == NULL || c->dry) {
        return false;
    }
    void *object = NULL;
    if (c->reader->ridx == -1) { /* a new one begins */
        if (c->texts.cap > KEPT_BYTES_MAX) {
            mr_buf_finish(&c->texts);
        }
        mr_buf_clear(&c->texts);
        c->item_count = 1;
    }
    if (redisReaderGetReply(c->reader, &object) != REDIS_OK) {
        bool no_memory = c->refusal != NULL ? strcmp(c->refusal, "out of memory") == 0
                                            : c->reader->err == REDIS_ERR_OOM;
        (void)break_with(c, no_memory ? MR_NO_MEMORY : MR_CORRUPT,
                         c->refusal != NULL ? c->refusal : c->reader->errstr); /* step says it */
        return false;
    }
    c->dry = object == NULL;
    if (object == NULL) {
        return false;
    }
    settle(c);
    *ret = c->items[0];
    return true;
}

/* ---- commands ---- */

/* "$3\r\n" and the like. */
static uint8_t *put_count(uint8_t *at, char kind, size_t count) {
    uint8_t digits[20];
    size_t len = 0;
    do {
        digits[len++] = (uint8_t)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    *at++ = (uint8_t)kind;
    while (len > 0) {
        *at++ = digits[--len];
    }
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static enum mr_status op_send(struct mr_redis_connection *connection, const struct mr_bytes *argv,
                              uint32_t argc) {
    enum { COUNT_LEN_MAX = 23, END_LEN = 2 };
    struct connection *c = of(connection);
    if (c->broken != MR_OK) {
        return MR_OK; /* dropped */
    }
    size_t len_max = COUNT_LEN_MAX;
    for (uint32_t i = 0; i < argc; i++) {
        len_max += COUNT_LEN_MAX + argv[i].len + END_LEN;
    }
    uint8_t *at = mr_buf_reserve(&c->out, len_max);
    if (at == NULL) {
        c->out.failed = false; /* what is in it stays good */
        return MR_NO_MEMORY;
    }
    at = put_count(at, '*', argc);
    for (uint32_t i = 0; i < argc; i++) {
        at = put_count(at, '$', argv[i].len);
        if (argv[i].len > 0) {
            memcpy(at, argv[i].ptr, argv[i].len);
            at += argv[i].len;
        }
        *at++ = '\r';
        *at++ = '\n';
    }
    c->out.len = (size_t)(at - c->out.ptr);
    return MR_OK;
}

/* ---- the socket ---- */

/* Bytes read or written; 0: none now (MR_OK), or never again. */
struct moved {
    size_t len;
    enum mr_status status;
    const char *what;
};

static struct moved after_call(ssize_t len) {
    if (len > 0) {
        return (struct moved){(size_t)len, MR_OK, ""};
    }
    if (len == 0) {
        return (struct moved){0, MR_IO, "the server closed the connection"};
    }
    bool later = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    return (struct moved){0, later ? MR_OK : MR_IO, strerror(errno)};
}

static struct moved write_some(struct connection *c) {
    struct mr_bytes rest = {c->out.ptr + c->out_done, c->out.len - c->out_done};
    if (c->tls != NULL) {
        struct moved moved = {.what = mr_tls_trouble(c->tls)};
        moved.status = mr_tls_write(c->tls, rest, &moved.len);
        return moved;
    }
    return after_call(send(c->context->fd, rest.ptr, rest.len, MSG_NOSIGNAL | MSG_DONTWAIT));
}

static struct moved read_some(struct connection *c, uint8_t bytes[READ_BYTES]) {
    if (c->tls != NULL) {
        struct moved moved = {.what = mr_tls_trouble(c->tls)};
        moved.status = mr_tls_read(c->tls, bytes, READ_BYTES, &moved.len);
        return moved;
    }
    return after_call(recv(c->context->fd, bytes, READ_BYTES, MSG_DONTWAIT));
}

/* Whether the connection is made, or has failed, by now. */
static enum mr_status step_connect(struct connection *c) {
    struct pollfd poll_fd = {.fd = c->context->fd, .events = POLLOUT};
    if (poll(&poll_fd, 1, 0) <= 0) {
        return MR_AGAIN;
    }
    int failure = 0;
    socklen_t len = sizeof failure;
    if (getsockopt(c->context->fd, SOL_SOCKET, SO_ERROR, &failure, &len) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        return break_with(c, MR_IO, strerror(failure));
    }
    c->is_up = true;
    return MR_OK;
}

static struct moved step_write(struct connection *c) {
    if (c->out_done == c->out.len) {
        return (struct moved){0, MR_OK, ""};
    }
    struct moved moved = write_some(c);
    c->out_done += moved.len;
    if (c->out_done == c->out.len) {
        c->out_done = 0;
        mr_buf_clear(&c->out);
    } else if (c->out_done > c->out.len / 2) { /* less is moved than was written */
        memmove(c->out.ptr, c->out.ptr + c->out_done, c->out.len - c->out_done);
        c->out.len -= c->out_done;
        c->out_done = 0;
    }
    return moved;
}

static struct moved step_read(struct connection *c) {
    uint8_t bytes[READ_BYTES];
    struct moved sum = {.what = ""};
    for (int i = 0; i < READS_MAX && (c->dry || c->reader->len < AHEAD_BYTES_MAX); i++) {
        struct moved moved = read_some(c, bytes);
        if (moved.status != MR_OK && c->dry) {
            return moved;
        }
        if (moved.len == 0) { /* an end is told once the replies before it are taken: it is met again then */
            break;
        }
        if (redisReaderFeed(c->reader, (const char *)bytes, moved.len) != REDIS_OK) {
            return (struct moved){0, MR_NO_MEMORY, c->reader->errstr};
        }
        if (c->reader->len - c->reader->pos > REPLY_BYTES_MAX) {
            return (struct moved){0, MR_CORRUPT, "a reply over 16 MiB"};
        }
        c->dry = false;
        sum.len += moved.len;
    }
    return sum;
}

/* Connects, writes, reads. A failed write is told only when nothing can be read: replies may have come before it. */
static enum mr_status step(struct connection *c) {
    if (!c->is_up) {
        enum mr_status status = step_connect(c);
        if (status != MR_OK) {
            return status;
        }
    }
    struct moved out = step_write(c);
    struct moved in = step_read(c);
    if (in.status != MR_OK) {
        return break_with(c, in.status, in.what);
    }
    if (out.status != MR_OK && in.len == 0 && c->dry) {
        return break_with(c, out.status, out.what);
    }
    return out.len > 0 || in.len > 0 ? MR_OK : MR_AGAIN;
}

static enum mr_status op_step(struct mr_redis_connection *connection, struct mr_error *error) {
    struct connection *c = of(connection);
    enum mr_status status = c->broken != MR_OK ? c->broken : step(c);
    if (c->broken != MR_OK && error != NULL) {
        *error = c->error;
    }
    return status;
}

/* ---- opening and closing ---- */

static enum mr_status reserve_poll(struct network *n) {
    if (n->count < n->poll_capacity) {
        return MR_OK;
    }
    uint32_t capacity = n->poll_capacity == 0 ? POLLS_FIRST : n->poll_capacity * 2;
    struct pollfd *polls = mr_realloc(n->polls, capacity * sizeof *polls);
    if (polls == NULL) {
        return MR_NO_MEMORY;
    }
    n->polls = polls;
    n->poll_capacity = capacity;
    return MR_OK;
}

static void release(struct connection *c) {
    mr_tls_session_close(c->tls);
    if (c->reader != NULL) {
        redisReaderFree(c->reader);
    }
    if (c->context != NULL) {
        redisFree(c->context);
    }
    mr_buf_finish(&c->out);
    mr_buf_finish(&c->texts);
    mr_free(c->items);
    mr_free(c);
}

static void op_close(struct mr_redis_connection *connection) {
    struct connection *c = of(connection);
    struct network *n = (struct network *)connection->transport;
    if (c->previous != NULL) {
        c->previous->following = c->following;
    } else {
        n->connections = c->following;
    }
    if (c->following != NULL) {
        c->following->previous = c->previous;
    }
    n->count--;
    release(c);
}

/* A connection to nowhere yet. */
static struct connection *make(struct network *n, const char *host, uint16_t port) {
    enum { ITEMS_FIRST = 16 };
    struct connection *c = mr_alloc_zero(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->connection.transport = &n->transport;
    c->dry = true;
    mr_buf_init(&c->out, OUT_BYTES_MAX);
    mr_buf_init(&c->texts, REPLY_BYTES_MAX);
    (void)snprintf(c->peer, sizeof c->peer, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
    c->items = mr_alloc(ITEMS_FIRST * sizeof *c->items);
    c->item_capacity = ITEMS_FIRST;
    c->item_count = 1;
    c->reader = redisReaderCreateWithFunctions(&reply_functions);
    if (c->items == NULL || c->reader == NULL) {
        release(c);
        return NULL;
    }
    c->reader->privdata = c;
    c->reader->maxbuf = KEPT_BYTES_MAX;
    return c;
}

static enum mr_status begin(struct network *n, struct connection *c, const char *host, uint16_t port,
                            struct mr_error *error) {
    c->context = redisConnectNonBlock(host, port);
    if (c->context == NULL || c->context->err == REDIS_ERR_OOM) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", c->peer);
    }
    if (c->context->err == REDIS_ERR_OTHER) { /* the resolver's text */
        return mr_error_set(error, MR_INVALID, "%s: %s", c->peer, c->context->errstr);
    }
    if (c->context->err != 0) { /* refused at once, as on the loopback */
        (void)break_with(c, MR_IO, c->context->errstr);
        return MR_OK;
    }
    int on = 1;
    (void)setsockopt(c->context->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* slower at worst */
    return n->tls == NULL ? MR_OK : mr_tls_session_open(n->tls, c->context->fd, host, &c->tls, error);
}

static enum mr_status op_open(struct mr_redis_transport *transport, const char *host, uint16_t port,
                              struct mr_redis_connection **ret, struct mr_error *error) {
    struct network *n = (struct network *)transport;
    struct connection *c = reserve_poll(n) == MR_OK ? make(n, host, port) : NULL;
    if (c == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    enum mr_status status = begin(n, c, host, port, error);
    if (status != MR_OK) {
        release(c);
        return status;
    }
    c->following = n->connections;
    if (c->following != NULL) {
        c->following->previous = c;
    }
    n->connections = c;
    n->count++;
    *ret = &c->connection;
    return MR_OK;
}

/* ---- the transport ---- */

static bool wants_write(const struct connection *c) {
    bool has_out = !c->is_up || c->out_done < c->out.len;
    return has_out && (c->tls == NULL || !c->is_up || !mr_tls_waits_for_bytes(c->tls));
}

static void op_wait(struct mr_redis_transport *transport, uint64_t timeout_ns) {
    struct network *n = (struct network *)transport;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                               .tv_nsec = (long)(timeout_ns % 1000000000u)};
    uint32_t count = 0;
    for (struct connection *c = n->connections; c != NULL; c = c->following) {
        if (c->broken != MR_OK || !c->dry) {
            return; /* it can move now */
        }
        short events = wants_write(c) ? POLLIN | POLLOUT : POLLIN;
        n->polls[count++] = (struct pollfd){.fd = c->context->fd, .events = events};
    }
    MR_ASSERT(count == n->count);
    (void)ppoll(n->polls, count, &timeout, NULL); /* a signal, too, only makes it early */
}

static void op_finish(struct mr_redis_transport *transport) {
    struct network *n = (struct network *)transport;
    MR_ASSERT(n->count == 0);
    mr_tls_close(n->tls);
    mr_free(n->polls);
    mr_free(n);
}

enum mr_status mr_hiredis_open(const struct mr_redis_tls *tls, struct mr_redis_transport **ret,
                               struct mr_error *error) {
    static const struct mr_redis_transport_ops ops = {
        .open = op_open,
        .send = op_send,
        .step = op_step,
        .next = op_next,
        .close = op_close,
        .wait = op_wait,
        .finish = op_finish,
    };
    struct network *n = mr_alloc_zero(1, sizeof *n);
    if (n == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    n->transport.ops = &ops;
    enum mr_status status = tls->on ? mr_tls_open(tls, &n->tls, error) : MR_OK;
    if (status != MR_OK) {
        mr_free(n);
        return status;
    }
    *ret = &n->transport;
    return MR_OK;
}
