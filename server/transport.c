/* SPDX-License-Identifier: Apache-2.0 */
#include "server/transport.h"

enum mr_status mr_transport_open(const struct mr_config_store *s, struct mr_redis_transport **ret,
                                 struct mr_error *error) {
    struct mr_redis_tls tls = {
        .on = s->tls,
        .ca_file = s->tls_ca_file.len > 0 ? (const char *)s->tls_ca_file.ptr : NULL,
        .cert_file = s->tls_cert_file.len > 0 ? (const char *)s->tls_cert_file.ptr : NULL,
        .key_file = s->tls_key_file.len > 0 ? (const char *)s->tls_key_file.ptr : NULL,
    };
    return mr_hiredis_open(&tls, ret, error);
}
