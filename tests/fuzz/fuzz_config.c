/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz config: any bytes as a configuration. Either an error that says where, or a configuration
 * that prints, reads back and prints the same. Files are out of reach (disk NULL).
 */
#include "base/check.h"
#include "config/change.h"
#include "config/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char env[][32] = {"A=1", "B=x\ny: {", "EMPTY="};
static char *const environment[] = {env[0], env[1], env[2], NULL};

static struct mr_buf show(const struct mr_config *config, bool state) {
    struct mr_buf text;
    mr_buf_init(&text, 64u << 20);
    if (state) {
        mr_config_print_state(config, &text);
    } else {
        mr_config_print(config, &text);
    }
    MR_ASSERT(!text.failed);
    return text;
}

static void same(const struct mr_config *a, const struct mr_config *b, bool state) {
    struct mr_buf text_a = show(a, state);
    struct mr_buf text_b = show(b, state);
    MR_ASSERT(mr_bytes_equal(mr_buf_bytes(&text_a), mr_buf_bytes(&text_b)));
    mr_buf_finish(&text_a);
    mr_buf_finish(&text_b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mr_parse_options options = {.name = "f", .environment = environment};
    struct mr_config *config = NULL;
    struct mr_error error = {0};
    enum mr_status status =
        mr_config_parse_with(mr_bytes_of(data, size), &options, &config, &error);
    if (status != MR_OK) {
        MR_ASSERT(config == NULL && error.status == status && error.text[0] == 'f');
        MR_ASSERT(status == MR_INVALID || status == MR_UNSUPPORTED || status == MR_LIMIT);
        return 0;
    }
    struct mr_buf printed = show(config, false);
    struct mr_config *again = NULL;
    status = mr_config_parse_with(mr_buf_bytes(&printed), &options, &again, &error);
    if (status == MR_OK) {
        same(config, again, false);
        same(config, again, true);
        mr_config_close(again);
    } else { /* secrets that do not come from a file are not printed */
        MR_ASSERT(status == MR_INVALID && strstr(error.text, "(set)") != NULL);
    }
    struct mr_buf state = show(config, true);
    status = mr_config_parse_state(mr_buf_bytes(&state), "f", &again, &error);
    MR_ASSERT(status == MR_OK);
    same(config, again, true);
    mr_config_close(again);
    mr_buf_finish(&state);
    mr_config_close(config);
    mr_buf_finish(&printed);
    return 0;
}
