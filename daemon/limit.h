/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_LIMIT_H
#define DAEMON_LIMIT_H

/*
 * How much clients may have: what is counted, and at which levels. The monitor knows the limits, a worker counts. Both
 * were built together.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bucket.h"

/* What is counted. */
enum limit_slot {
        LIMIT_SESSIONS,
        LIMIT_REGIONS,
        LIMIT_MEMORY,  /* bytes that are lent, and the daemon's halves of lanes */
        LIMIT_SOCKETS, /* also those that accepts will make */
        LIMIT_LISTENERS,
        LIMIT_OPS,   /* in flight */
        LIMIT_FILES, /* that are lent to be sent */
        LIMIT_SLOTS,
};

/* Who pays, from the smallest to the largest: what is taken is taken at a level and at all behind it. */
enum limit_level {
        LIMIT_SESSION,
        LIMIT_UNIT, /* the sessions of one user in one unit: a shard */
        LIMIT_USER,
        LIMIT_WORKER, /* everybody */
        LIMIT_LEVELS,
};

#define LIMIT_NONE UINT64_MAX

/* What is not had but done, so many times a second. */
enum limit_rate {
        LIMIT_RATE_SESSIONS, /* opened: the monitor counts these itself */
        LIMIT_RATE_CONNECTS,
        LIMIT_RATE_REQUESTS, /* of all kinds */
        LIMIT_RATES,
};

/* All that can be refused: slots, and behind them rates. */
#define LIMIT_KINDS (LIMIT_SLOTS + LIMIT_RATES)

struct limits {
        uint64_t max[LIMIT_LEVELS][LIMIT_SLOTS];
        struct bucket_rate rates[LIMIT_LEVELS][LIMIT_RATES];
        bool is_exempt; /* of user and worker nothing is asked, but all is counted */
};

/* What a kind is called, and what can be done about it. */
struct limit_name {
        const char *key;    /* of the setting; of a rate, PerSecond and Burst stand behind it */
        const char *noun;   /* plural */
        const char *advice; /* for who has too much of it */
};

extern const struct limit_name limit_names[LIMIT_KINDS];

/* The section of the settings that limits a level. */
extern const char *const limit_sections[LIMIT_LEVELS];

#endif
