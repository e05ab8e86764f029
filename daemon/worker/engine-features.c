/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A mask only takes away: what the running kernel lacks stays missing, whatever was asked for. 6.18 takes nothing away,
 * because nothing is used that came after 6.1.
 */

#include "daemon/worker/engine-features.h"

#include <errno.h>
#include <stddef.h>

#ifdef OVL_TEST_HOOKS
#include <liburing.h>
#include <string.h>

#include "base/cleanup.h"

#define FEATURES_BIT(n) (UINT64_C(1) << (n))

struct features_name {
        const char *name;
        struct features features;
};

static const struct features_name features_names[] = {
        { "5.15",
          { FEATURES_BIT(FEATURE_COOP_TASKRUN) | FEATURES_BIT(FEATURE_DEFER_TASKRUN) |
                    FEATURES_BIT(FEATURE_FIXED_CANCEL),
            0 } },
        { "6.1", { 0, 0 } },
        { "6.18", { 0, 0 } },
        { "-epoll_pwait2", { FEATURES_BIT(FEATURE_EPOLL_PWAIT2), 0 } },
        { "-recv", { 0, FEATURES_BIT(IORING_OP_RECV) } },
        { "-send", { 0, FEATURES_BIT(IORING_OP_SEND) } },
        { "-accept", { 0, FEATURES_BIT(IORING_OP_ACCEPT) } },
};

static int features_add(const char *name, struct features *features) {
        for (size_t i = 0; i < sizeof(features_names) / sizeof(features_names[0]); i++) {
                if (strcmp(name, features_names[i].name) != 0)
                        continue;
                features->masked |= features_names[i].features.masked;
                features->masked_operations |= features_names[i].features.masked_operations;
                return 0;
        }
        return -EINVAL;
}

int features_parse(const char *list, struct features *ret_features) {
        _cleanup_free_ char *copy = list ? strdup(list) : NULL;
        struct features features = { 0 };
        char *rest = NULL;
        int r;

        if (list && !copy)
                return -ENOMEM;
        for (char *name = copy ? strtok_r(copy, ",", &rest) : NULL; name; name = strtok_r(NULL, ",", &rest)) {
                r = features_add(name, &features);
                if (r < 0)
                        return r;
        }
        *ret_features = features;
        return 0;
}

#else

int features_parse(const char *list, struct features *ret_features) {
        if (list)
                return -EINVAL;
        *ret_features = (struct features){ 0 };
        return 0;
}

#endif
