/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/limit.h"

const struct limit_name limit_names[LIMIT_KINDS] = {
        [LIMIT_SESSIONS] = { "Sessions", "sessions", "end one" },
        [LIMIT_REGIONS] = { "Regions", "regions", "remove one" },
        [LIMIT_MEMORY] = { "Memory", "bytes of lent memory", "remove regions, or end threads and ports" },
        [LIMIT_SOCKETS] = { "Sockets", "sockets, with those that accepts will make", "close some" },
        [LIMIT_LISTENERS] = { "Listeners", "listening sockets", "close one" },
        [LIMIT_OPS] = { "Operations", "operations in flight", "wait for some, or cancel them" },
        [LIMIT_FILES] = { "Files", "lent files", "remove one" },
        [LIMIT_SLOTS + LIMIT_RATE_SESSIONS] = { "Sessions", "new sessions", "keep them" },
        [LIMIT_SLOTS + LIMIT_RATE_CONNECTS] = { "Connects", "connects and lookups", "wait a moment" },
        [LIMIT_SLOTS +
                LIMIT_RATE_REQUESTS] = { "Requests", "requests", "nothing is lost, they are served more slowly" },
};

const char *const limit_sections[LIMIT_LEVELS] = {
        [LIMIT_SESSION] = "Session",
        [LIMIT_UNIT] = "Unit",
        [LIMIT_USER] = "User",
        [LIMIT_WORKER] = "Worker",
};
