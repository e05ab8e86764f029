/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/limit.h"

const struct limit_name limit_names[LIMIT_SLOTS] = {
        [LIMIT_SESSIONS] = { "Sessions", "sessions", "end one" },
        [LIMIT_REGIONS] = { "Regions", "regions", "remove one" },
        [LIMIT_MEMORY] = { "Memory", "bytes of lent memory", "remove regions, or end threads and ports" },
        [LIMIT_SOCKETS] = { "Sockets", "sockets, with those that accepts will make", "close some" },
        [LIMIT_LISTENERS] = { "Listeners", "listening sockets", "close one" },
        [LIMIT_OPS] = { "Operations", "operations in flight", "wait for some, or cancel them" },
        [LIMIT_FILES] = { "Files", "lent files", "remove one" },
};

const char *const limit_sections[LIMIT_LEVELS] = {
        [LIMIT_SESSION] = "Session",
        [LIMIT_UNIT] = "Unit",
        [LIMIT_USER] = "User",
        [LIMIT_WORKER] = "Worker",
};
