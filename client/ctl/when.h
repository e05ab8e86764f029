/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_WHEN_H
#define CLIENT_CTL_WHEN_H

/* Points in time as people write them. */

#include <stdint.h>

#define WHEN_FORMS                                                                                                     \
        "YYYY-MM-DD [HH:MM[:SS]], HH:MM[:SS] of today, now, today, yesterday, a time that has passed (90s, 15min, "    \
        "2h, "                                                                                                         \
        "\"1h 30min ago\", 3d, 1w), or @SECONDS since 1970"

/*
 * Reads a point in time, which is of the local time zone unless it ends with Z.
 *
 * now_us: the present, in microseconds since 1970: "today" and times that have passed count from it.
 *
 * Returns 0, or -EINVAL when it is none (WHEN_FORMS says what is), or before 1970.
 */
int when_parse(const char *text, uint64_t now_us, uint64_t *ret_us);

#endif
