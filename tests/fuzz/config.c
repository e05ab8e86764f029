/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files of settings of any kind. What is refused leaves the settings as they were, and says in which line; what is
 * taken is within its limits.
 */

#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/config.h"
#include "tests/fuzz/fuzz.h"

/* What anybody may have is a number that the page allows. */
static void fuzz_look_at_limits(const struct limits *limits) {
        static const uint64_t session_max[LIMIT_SLOTS] = {
                [LIMIT_SESSIONS] = LIMIT_NONE,
                [LIMIT_REGIONS] = 64,
                [LIMIT_MEMORY] = LIMIT_NONE,
                [LIMIT_SOCKETS] = 4096,
                [LIMIT_LISTENERS] = LIMIT_NONE,
                [LIMIT_OPS] = 16384,
                [LIMIT_FILES] = 64,
        };

        fuzz_check(limits->max[LIMIT_SESSION][LIMIT_OPS] >= 1, "no credits");
        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                fuzz_check(limits->max[LIMIT_SESSION][slot] <= session_max[slot], "slot %u", slot);
        for (unsigned level = 0; level < LIMIT_LEVELS; level++)
                for (unsigned rate = 0; rate < LIMIT_RATES; rate++)
                        fuzz_check(limits->rates[level][rate].per_s <= BUCKET_PER_S_MAX &&
                                           limits->rates[level][rate].burst <= BUCKET_BURST_MAX &&
                                           (limits->rates[level][rate].per_s == 0 ||
                                            limits->rates[level][rate].burst >= 1),
                                   "level %u, rate %u: %u, %u", level, rate, limits->rates[level][rate].per_s,
                                   limits->rates[level][rate].burst);
}

static void fuzz_look_at_allowances(const struct allowances *allowances) {
        static const uid_t uids[] = { 0, 1, 7 };

        fuzz_check(allowances->n_named <= ALLOWANCES_SECTIONS_MAX, "%u", allowances->n_named);
        for (unsigned i = 0; i < 2 * sizeof(uids) / sizeof(uids[0]); i++) {
                struct limits limits;

                allowances_for(allowances, uids[i / 2], i % 2 ? "a.service" : NULL, &limits);
                fuzz_look_at_limits(&limits);
        }
}

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
        fuzz_look_at_allowances(&config->allowances);
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
