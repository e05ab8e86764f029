/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_LIMIT_H
#define TESTS_SIM_LIMIT_H

/* What a worker without a monitor is told of how much its clients may have: what a session may, and no limit else. */

#include <string.h>

#include "daemon/link.h"

static inline struct link_message limits_message(uint32_t uid, uint64_t shard) {
        static const uint64_t session[LIMIT_SLOTS] = {
                [LIMIT_SESSIONS] = LIMIT_NONE,
                [LIMIT_REGIONS] = 64,
                [LIMIT_MEMORY] = UINT64_C(1) << 28,
                [LIMIT_SOCKETS] = 4096,
                [LIMIT_LISTENERS] = LIMIT_NONE,
                [LIMIT_OPS] = 16384,
                [LIMIT_FILES] = 64,
        };
        struct link_message message = { .kind = LINK_LIMITS };
        struct limits *limits = &message.body.limits.limits;

        message.body.limits.uid = uid;
        message.body.limits.shard = shard;
        message.body.limits.is_new = 1;
        memset(limits->max, 0xff, sizeof(limits->max));
        memcpy(limits->max[LIMIT_SESSION], session, sizeof(session));
        return message;
}

#endif
