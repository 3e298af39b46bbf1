/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: exactly the tokens whose hashes are configured are known, with their rights and streams;
 * what is not of the form `Bearer <token>` is told from an unknown token. Content types and
 * encodings are here too.
 */
#include "server/auth.h"

#include "base/check.h"
#include "server/media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_sha256(void **state) {
    (void)state;
    /* FIPS 180-2, appendix B.1 */
    static const uint8_t abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                    0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                    0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                    0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t hash[32];
    mr_sha256(MR_BYTES("abc"), hash);
    assert_memory_equal(hash, abc, 32);
}

static void test_local(void **state) {
    (void)state;
    static const struct {
        const char *host;
        const char *origin;
        bool local;
    } samples[] = {
        {"127.0.0.1:8080", "", true},
        {"127.0.0.1", "", true},
        {"[::1]:8080", "", true},
        {"localhost:8080", "", true},
        {"LocalHost", "", true},
        {"", "", true}, /* HTTP/1.0 */
        {"127.0.0.1:8080", "http://127.0.0.1:8080", true},
        {"[::1]:8080", "http://[::1]:8080", true},
        {"localhost:8080", "https://localhost:8080", true},
        {"127.0.0.1:8080", "http://127.0.0.1:8081", false},
        {"127.0.0.1:8080", "http://localhost:8080", false},
        {"127.0.0.1:8080", "http://page.example", false},
        {"127.0.0.1:8080", "null", false},
        {"127.0.0.1:8080", "http://", false},
        {"page.example:8080", "", false},
        {"page.example:8080", "http://page.example:8080", false}, /* its name resolves to 127.0.0.1 */
        {"127.0.0.1.page.example", "", false},
        {"localhost.page.example", "", false},
        {"notlocalhost", "", false},
        {":8080", "", false},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        bool local = mr_auth_is_local(mr_bytes_text(samples[i].host), mr_bytes_text(samples[i].origin));
        if (local != samples[i].local) {
            fail_msg("Host %s, Origin %s", samples[i].host, samples[i].origin);
        }
    }
}

static void test_find(void **state) {
    (void)state;
    static struct mr_config_token tokens[3];
    static struct mr_config config;
    static const struct {
        const char *header;
        enum mr_status status;
        int token;
    } samples[] = {
        {"Bearer first", MR_OK, 0},
        {"bearer second.2-x_~+/=", MR_OK, 1},
        {"BEARER   third", MR_OK, 2},
        {"Bearer fourth", MR_NOT_FOUND, 0},
        {"Bearer firs", MR_NOT_FOUND, 0},
        {"Bearer firstt", MR_NOT_FOUND, 0},
        {"Bearer First", MR_NOT_FOUND, 0},
        {"", MR_INVALID, 0},
        {"Bearer", MR_INVALID, 0},
        {"Bearer ", MR_INVALID, 0},
        {"Bearerfirst", MR_INVALID, 0},
        {"Basic first", MR_INVALID, 0},
        {"Bearer first ", MR_INVALID, 0},
        {"Bearer fi rst", MR_INVALID, 0},
        {"Bearer first,first", MR_INVALID, 0},
        {"first", MR_INVALID, 0},
    };
    mr_sha256(MR_BYTES("first"), tokens[0].sha256);
    mr_sha256(MR_BYTES("second.2-x_~+/="), tokens[1].sha256);
    mr_sha256(MR_BYTES("third"), tokens[2].sha256);
    config.auth.tokens = tokens;
    config.auth.token_count = 3;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const struct mr_config_token *token = NULL;
        enum mr_status status = mr_auth_find(&config, mr_bytes_text(samples[i].header), &token);
        assert_int_equal(status, samples[i].status);
        assert_ptr_equal(token, status == MR_OK ? &tokens[samples[i].token] : NULL);
    }
    /* One wrong bit anywhere in the hash is another token. */
    for (uint32_t bit = 0; bit < 256; bit++) {
        const struct mr_config_token *token = NULL;
        tokens[1].sha256[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum mr_status status = mr_auth_find(&config, MR_BYTES("Bearer second.2-x_~+/="), &token);
        assert_int_equal(status, MR_NOT_FOUND);
        tokens[1].sha256[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    const struct mr_config_token *token = tokens;
    config.auth.token_count = 0;
    assert_int_equal(mr_auth_find(&config, MR_BYTES(""), &token), MR_OK);
    assert_null(token);
}

static void test_long_token(void **state) {
    (void)state;
    static struct mr_config_token tokens[1];
    static struct mr_config config;
    char header[7 + MR_TOKEN_LEN_MAX + 1];
    memset(header, 'a', sizeof header);
    memcpy(header, "Bearer ", 7);
    mr_sha256(mr_bytes_of(header + 7, MR_TOKEN_LEN_MAX), tokens[0].sha256);
    config.auth.tokens = tokens;
    config.auth.token_count = 1;
    const struct mr_config_token *token = NULL;
    assert_int_equal(mr_auth_find(&config, mr_bytes_of(header, 7 + MR_TOKEN_LEN_MAX), &token),
                     MR_OK);
    assert_int_equal(mr_auth_find(&config, mr_bytes_of(header, sizeof header), &token), MR_INVALID);
}

static void test_rights(void **state) {
    (void)state;
    for (uint32_t rights = 0; rights < 8; rights++) {
        assert_true(mr_auth_may(rights, 0));
        assert_int_equal(mr_auth_may(rights, MR_RIGHT_INGEST), (rights & 1) != 0);
        assert_int_equal(mr_auth_may(rights, MR_RIGHT_QUERY), (rights & 2) != 0);
        assert_int_equal(mr_auth_may(rights, MR_RIGHT_ADMIN), (rights & 4) != 0);
        assert_int_equal(mr_auth_may(rights, MR_RIGHT_QUERY | MR_RIGHT_ADMIN), (rights & 6) != 0);
    }
    struct mr_config_token token = {.streams = {3, 5}, .stream_count = 2};
    struct mr_request request = {.token = NULL};
    assert_true(mr_request_may_use_stream(&request, 4));
    request.token = &token;
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(mr_request_may_use_stream(&request, i), i == 3 || i == 5);
    }
    token.all_streams = true;
    assert_true(mr_request_may_use_stream(&request, 4));
}

static void test_media_types(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int format; /* -1: refused */
        bool cloudevents;
        bool may_be_empty;
    } samples[] = {
        {"", MR_FORMAT_AUTO, false, true},
        {"application/json", MR_FORMAT_AUTO, false, false},
        {"Application/JSON", MR_FORMAT_AUTO, false, false},
        {" application/json ; charset=utf-8", MR_FORMAT_AUTO, false, false},
        {"application/json;charset=\"UTF-8\"", MR_FORMAT_AUTO, false, false},
        {"application/json;", MR_FORMAT_AUTO, false, false},
        {"application/json; x=y; charset=utf8", MR_FORMAT_AUTO, false, false},
        {"application/x-ndjson", MR_FORMAT_NDJSON, false, true},
        {"application/ndjson", MR_FORMAT_NDJSON, false, true},
        {"application/jsonl", MR_FORMAT_NDJSON, false, true},
        {"application/cloudevents+json; charset=UTF-8", MR_FORMAT_OBJECT, true, false},
        {"application/cloudevents-batch+json", MR_FORMAT_ARRAY, true, false},
        {"text/plain", MR_FORMAT_AUTO, false, true},
        {"application/octet-stream", MR_FORMAT_AUTO, false, true},
        {"application/x-www-form-urlencoded", MR_FORMAT_AUTO, false, true},
        {"text/html", -1, false, false},
        {"application/json; charset=latin1", -1, false, false},
        {"application/json; charset=utf-16; charset=utf-8", -1, false, false},
        {"application/json; charset=", -1, false, false},
        {"application/jsonx", -1, false, false},
        {"application", -1, false, false},
        {"multipart/form-data; boundary=x", -1, false, false},
        {"application/json, text/plain", -1, false, false},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct mr_media media;
        struct mr_error error = {.text = ""};
        enum mr_status status = mr_media_type(mr_bytes_text(samples[i].type), &media, &error);
        if (samples[i].format < 0) {
            assert_int_equal(status, MR_UNSUPPORTED);
            assert_true(error.text[0] != '\0');
            continue;
        }
        assert_int_equal(status, MR_OK);
        assert_int_equal(media.format, samples[i].format);
        assert_int_equal(media.cloudevents, samples[i].cloudevents);
        assert_int_equal(media.may_be_empty, samples[i].may_be_empty);
    }
}

static void test_encodings(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int encoding;
    } samples[] = {
        {"", MR_ENCODING_IDENTITY},
        {"identity", MR_ENCODING_IDENTITY},
        {"GZip", MR_ENCODING_GZIP},
        {"x-gzip", MR_ENCODING_GZIP},
        {"deflate", MR_ENCODING_DEFLATE},
        {" zstd ", MR_ENCODING_ZSTD},
        {"br", -1},
        {"gzip, zstd", -1},
        {"gzipp", -1},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        enum mr_encoding encoding;
        enum mr_status status = mr_media_encoding(mr_bytes_text(samples[i].name), &encoding, NULL);
        assert_int_equal(status, samples[i].encoding < 0 ? MR_UNSUPPORTED : MR_OK);
        assert_true(samples[i].encoding < 0 || (int)encoding == samples[i].encoding);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256), cmocka_unit_test(test_local),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_long_token),  cmocka_unit_test(test_rights),
        cmocka_unit_test(test_media_types), cmocka_unit_test(test_encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
