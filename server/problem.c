/* SPDX-License-Identifier: Apache-2.0 */
#include "server/problem.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_MAX = 1024 };

static const struct {
    unsigned int status;
    const char *phrase;
} phrases[] = {
    {200, "OK"},
    {202, "Accepted"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *mr_status_phrase(unsigned int status) {
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return "Error";
}

void mr_problem_members(struct mr_json *json, unsigned int status, const char *detail) {
    mr_json_key(json, "type");
    mr_json_text(json, "about:blank");
    mr_json_key(json, "title");
    mr_json_text(json, mr_status_phrase(status));
    mr_json_key(json, "status");
    mr_json_uint(json, status);
    mr_json_key(json, "detail");
    mr_json_text(json, detail);
}

static void write_problem(struct mr_response *response, unsigned int status, const uint64_t *limit,
                          const char *format, va_list args) {
    MR_ASSERT(status >= 400 && status <= 599);
    char detail[DETAIL_MAX];
    int len = vsnprintf(detail, sizeof detail, format, args);
    MR_ASSERT(len >= 0);
    struct mr_json json;
    mr_buf_clear(&response->body);
    response->status = status;
    response->content_type = "application/problem+json";
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_problem_members(&json, status, detail);
    if (limit != NULL) {
        mr_json_key(&json, "limit");
        mr_json_uint(&json, *limit);
    }
    mr_json_object_end(&json);
    if (response->body.failed) {
        mr_buf_clear(&response->body); /* the status says the most important thing */
    }
}

void mr_problem(struct mr_response *response, unsigned int status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    write_problem(response, status, NULL, format, args);
    va_end(args);
}

void mr_problem_limit(struct mr_response *response, unsigned int status, uint64_t limit,
                      const char *format, ...) {
    va_list args;
    va_start(args, format);
    write_problem(response, status, &limit, format, args);
    va_end(args);
}
