/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files of settings of any kind. What is refused leaves the settings as they were, and says in which line; what is
 * taken is within its limits.
 */

#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/config.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_look(const struct config *config) {
        fuzz_check(config->socket[0] == '/' && strnlen(config->socket, sizeof(config->socket)) < sizeof(config->socket),
                   "%.*s", (int) sizeof(config->socket), config->socket);
        fuzz_check(config->n_workers >= 1 && config->n_workers <= CONFIG_WORKERS_MAX, "%u", config->n_workers);
        fuzz_check(config->poll_us <= CONFIG_POLL_US_MAX, "%u", config->poll_us);
        fuzz_check(strcmp(config->engine, "auto") == 0 || strcmp(config->engine, "uring") == 0 ||
                           strcmp(config->engine, "epoll") == 0,
                   "%s", config->engine);
        fuzz_check(config->policy[0] == '/' || strcmp(config->policy, "own") == 0 ||
                           strcmp(config->policy, "system") == 0,
                   "%s", config->policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
        const char *path = fuzz_write("overlapd.conf", bytes, len);
        _cleanup_free_ char *errors = NULL;
        struct config config, before;
        int r;

        /* Bytes between members count, too. */
        memset(&config, 0, sizeof(config));
        config_init(&config);
        memcpy(&before, &config, sizeof(config));
        r = config_load(&config, path, true, &errors);
        if (r < 0) {
                fuzz_check(errors && strncmp(errors, path, strlen(path)) == 0, "%d: %s", r, errors ? errors : "(none)");
                fuzz_check(memcmp(&before, &config, sizeof(config)) == 0, "refused, but changed: %s", errors);
        }
        fuzz_look(&config);
        return 0;
}
