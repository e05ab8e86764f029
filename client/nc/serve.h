/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_SERVE_H
#define CLIENT_NC_SERVE_H

#include "client/c/overlap.h"
#include "client/nc/connect.h"

/* overlap-nc -l: waits at overlapd for whoever comes. */
struct serve {
        struct door *door;            /* borrowed */
        struct local *input, *output; /* borrowed */
        struct address address;       /* where it waits */
        uint64_t socket;              /* that listens; 0: no more */
        struct ovl_overlapped accept;
        struct relay relay;
};

/*
 * Starts it; it stops the loop of the door when it has ended.
 *
 * Returns 0, or an exit status after it was said what is wrong.
 */
int serve_start(struct serve *serve, struct door *door, struct local *input, struct local *output);

#endif
