/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in streams and rules: the bytes of config/examples/default.yaml, put in when the
 * program is built (script/embed.sh), so that the example cannot differ from what happens without a
 * file.
 */
#include "config/load.h"

#include "config/default_yaml.h"

struct mr_bytes mr_config_default_yaml(void) {
    return mr_bytes_of(default_yaml, sizeof default_yaml);
}
