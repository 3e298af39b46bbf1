/* SPDX-License-Identifier: Apache-2.0 */
#include "net/hiredis_tls.h"

#include "base/check.h"

#ifdef MR_REDIS_TLS

#include "base/alloc.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { TROUBLE_MAX = 200 };

struct mr_tls {
    SSL_CTX *context;
    char *server_name; /* NULL: as connected */
};

struct mr_tls_session {
    SSL *ssl;
    bool waits_for_bytes;
    char trouble[TROUBLE_MAX];
};

/* The first reason in OpenSSL's queue, which is emptied. */
static const char *reason(void) {
    unsigned long code = ERR_get_error();
    const char *text = code == 0 ? NULL : ERR_reason_error_string(code);
    ERR_clear_error();
    return text == NULL ? "no reason given" : text;
}

static enum mr_status load(SSL_CTX *context, const struct mr_redis_tls *o, struct mr_error *error) {
    if (o->ca_file != NULL ? SSL_CTX_load_verify_locations(context, o->ca_file, NULL) != 1
                           : SSL_CTX_set_default_verify_paths(context) != 1) {
        return mr_error_set(error, MR_INVALID, "authorities of TLS, %s: %s",
                            o->ca_file != NULL ? o->ca_file : "the system's", reason());
    }
    if (o->cert_file != NULL && SSL_CTX_use_certificate_chain_file(context, o->cert_file) != 1) {
        return mr_error_set(error, MR_INVALID, "certificate %s: %s", o->cert_file, reason());
    }
    const char *key_file = o->key_file != NULL ? o->key_file : o->cert_file;
    if (o->cert_file != NULL && (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1 ||
                                 SSL_CTX_check_private_key(context) != 1)) {
        return mr_error_set(error, MR_INVALID, "key %s: %s", key_file, reason());
    }
    return MR_OK;
}

static char *copy_name(const char *name) {
    size_t size = strlen(name) + 1;
    char *copy = mr_alloc(size);
    return copy == NULL ? NULL : memcpy(copy, name, size);
}

enum mr_status mr_tls_open(const struct mr_redis_tls *options, struct mr_tls **ret, struct mr_error *error) {
    struct mr_tls *tls = mr_alloc_zero(1, sizeof *tls);
    if (tls == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    enum mr_status status = MR_NO_MEMORY;
    tls->context = SSL_CTX_new(TLS_client_method());
    tls->server_name = options->server_name == NULL ? NULL : copy_name(options->server_name);
    if (tls->context == NULL || (options->server_name != NULL && tls->server_name == NULL)) {
        (void)mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
        goto fail;
    }
    (void)SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION); /* a known constant */
    (void)SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    status = load(tls->context, options, error);
    if (status != MR_OK) {
        goto fail;
    }
    *ret = tls;
    return MR_OK;
fail:
    mr_tls_close(tls);
    return status;
}

void mr_tls_close(struct mr_tls *tls) {
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        mr_free(tls->server_name);
        mr_free(tls);
    }
}

/* The certificate must be for it; a name is also told to the server (SNI). */
static bool expect_name(SSL *ssl, const char *name) {
    uint8_t address[16];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

enum mr_status mr_tls_session_open(struct mr_tls *tls, int fd, const char *host, struct mr_tls_session **ret,
                                   struct mr_error *error) {
    struct mr_tls_session *session = mr_alloc_zero(1, sizeof *session);
    if (session != NULL) {
        session->ssl = SSL_new(tls->context);
    }
    if (session == NULL || session->ssl == NULL || SSL_set_fd(session->ssl, fd) != 1 ||
        !expect_name(session->ssl, tls->server_name != NULL ? tls->server_name : host)) {
        mr_tls_session_close(session);
        ERR_clear_error();
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    SSL_set_connect_state(session->ssl);
    *ret = session;
    return MR_OK;
}

void mr_tls_session_close(struct mr_tls_session *session) {
    if (session != NULL) {
        SSL_free(session->ssl);
        mr_free(session);
    }
}

static enum mr_status judge(struct mr_tls_session *s, int result) {
    int kind = SSL_get_error(s->ssl, result);
    int failure = errno;
    s->waits_for_bytes = kind == SSL_ERROR_WANT_READ;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        return MR_OK;
    }
    long verified = SSL_get_verify_result(s->ssl);
    const char *what = verified != X509_V_OK         ? X509_verify_cert_error_string(verified)
                       : kind == SSL_ERROR_SSL       ? reason()
                       : kind == SSL_ERROR_SYSCALL && failure != 0 ? strerror(failure)
                                                     : "the server closed the connection";
    (void)snprintf(s->trouble, sizeof s->trouble, "TLS: %s", what);
    ERR_clear_error();
    return MR_IO;
}

/* OpenSSL writes without MSG_NOSIGNAL: the signal of a closed socket is caught here, and here only. */
struct quiet {
    sigset_t before;
    bool was_pending;
};

static sigset_t pipe_signal(void) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGPIPE);
    return set;
}

static void quiet_begin(struct quiet *quiet) {
    sigset_t set = pipe_signal();
    sigset_t pending;
    quiet->was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    int failed = pthread_sigmask(SIG_BLOCK, &set, &quiet->before);
    MR_ASSERT(failed == 0);
}

static void quiet_end(const struct quiet *quiet) {
    sigset_t set = pipe_signal();
    if (!quiet->was_pending) {
        while (sigtimedwait(&set, NULL, &(struct timespec){0}) == -1 && errno == EINTR) {
        }
    }
    int failed = pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    MR_ASSERT(failed == 0);
}

enum mr_status mr_tls_write(struct mr_tls_session *session, struct mr_bytes bytes, size_t *ret_len) {
    struct quiet quiet;
    quiet_begin(&quiet);
    ERR_clear_error();
    errno = 0;
    int result = SSL_write(session->ssl, bytes.ptr, bytes.len > INT_MAX ? INT_MAX : (int)bytes.len);
    session->waits_for_bytes = false;
    enum mr_status status = result > 0 ? MR_OK : judge(session, result);
    quiet_end(&quiet);
    *ret_len = result > 0 ? (size_t)result : 0;
    return status;
}

enum mr_status mr_tls_read(struct mr_tls_session *session, void *bytes, size_t len, size_t *ret_len) {
    MR_ASSERT(len <= INT_MAX);
    struct quiet quiet; /* a handshake, or its renewal, writes too */
    quiet_begin(&quiet);
    ERR_clear_error();
    errno = 0;
    bool write_waits = session->waits_for_bytes;
    int result = SSL_read(session->ssl, bytes, (int)len);
    enum mr_status status = result > 0 ? MR_OK : judge(session, result);
    session->waits_for_bytes = result <= 0 && write_waits; /* it says what a write waits for */
    quiet_end(&quiet);
    *ret_len = result > 0 ? (size_t)result : 0;
    return status;
}

bool mr_tls_waits_for_bytes(const struct mr_tls_session *session) {
    return session->waits_for_bytes;
}

const char *mr_tls_trouble(const struct mr_tls_session *session) {
    return session->trouble;
}

bool mr_hiredis_has_tls(void) {
    return true;
}

#else

enum mr_status mr_tls_open(const struct mr_redis_tls *options, struct mr_tls **ret, struct mr_error *error) {
    (void)options;
    (void)ret;
    return mr_error_set(error, MR_UNSUPPORTED, "TLS to Redis: this millrace was built without OpenSSL (libssl-dev)");
}

void mr_tls_close(struct mr_tls *tls) {
    MR_ASSERT(tls == NULL);
}

enum mr_status mr_tls_session_open(struct mr_tls *tls, int fd, const char *host, struct mr_tls_session **ret,
                                   struct mr_error *error) {
    (void)tls;
    (void)fd;
    (void)host;
    (void)ret;
    (void)error;
    MR_UNREACHABLE(); /* mr_tls_open made none */
}

void mr_tls_session_close(struct mr_tls_session *session) {
    MR_ASSERT(session == NULL);
}

enum mr_status mr_tls_write(struct mr_tls_session *session, struct mr_bytes bytes, size_t *ret_len) {
    (void)session;
    (void)bytes;
    (void)ret_len;
    MR_UNREACHABLE();
}

enum mr_status mr_tls_read(struct mr_tls_session *session, void *bytes, size_t len, size_t *ret_len) {
    (void)session;
    (void)bytes;
    (void)len;
    (void)ret_len;
    MR_UNREACHABLE();
}

bool mr_tls_waits_for_bytes(const struct mr_tls_session *session) {
    (void)session;
    MR_UNREACHABLE();
}

const char *mr_tls_trouble(const struct mr_tls_session *session) {
    (void)session;
    MR_UNREACHABLE();
}

bool mr_hiredis_has_tls(void) {
    return false;
}

#endif
