/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_REPORT_H
#define CLIENT_NC_REPORT_H

#include <stddef.h>

/* Exit statuses, as the manual page has them. */
enum report_exit {
        REPORT_DONE = 0,
        REPORT_FAILED = 1, /* the network, a name, the policy, standard input or output */
        REPORT_USAGE = 2,  /* the command line */
        REPORT_LOST = 3,   /* overlapd: it cannot be reached, or was lost */
};

/* Writes one line, "overlap-nc: ...", to standard error. */
__attribute__((format(printf, 1, 2))) void report(const char *format, ...);

#endif
