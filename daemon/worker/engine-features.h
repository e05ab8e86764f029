/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ENGINE_FEATURES_H
#define DAEMON_WORKER_ENGINE_FEATURES_H

/*
 * What the engines use of the kernel where it has it. Everything is tried; test builds can leave out what an older
 * kernel lacks, so that its ways are tested on a newer one.
 */

#include <stdbool.h>
#include <stdint.h>

enum feature {
        FEATURE_COOP_TASKRUN,  /* 5.19 */
        FEATURE_DEFER_TASKRUN, /* 6.1, with IORING_SETUP_SINGLE_ISSUER, which is as old */
        FEATURE_FIXED_CANCEL,  /* 5.19: a cancel may carry the flag of registered files */
        FEATURE_EPOLL_PWAIT2,  /* 5.11; what is around the daemon may hide it */
};

struct features {
        uint32_t masked;            /* bit n: feature n is not used */
        uint64_t masked_operations; /* bit n: as if io_uring did not know operation n (IORING_OP_*) */
};

static inline bool features_has(const struct features *features, enum feature feature) {
        return !(features->masked & (UINT32_C(1) << feature));
}

/*
 * Reads what a test build was started with: a list, separated by commas, of a kernel (5.15, 6.1 or 6.18) and of what is
 * missing besides (-epoll_pwait2, or the name of an operation, such as -accept).
 *
 * list: NULL, as always in other builds: nothing is masked.
 *
 * Returns 0, or -EINVAL for a name that is not known.
 */
int features_parse(const char *list, struct features *ret_features);

#endif
