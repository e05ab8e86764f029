/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_PROBE_H
#define CLIENT_NC_PROBE_H

#include "client/nc/dial.h"

/* overlap-nc -z: says where somebody listens, one port after the other. */
struct probe {
        struct door *door; /* borrowed */
        struct dial dial;
        struct timer timer;
        struct ovl_overlapped answer; /* to a datagram */
        void *piece;                  /* where that would go */
        uint16_t port;                /* that is being tried */
        bool was_found;
};

/* Starts it; it stops the loop of the door when it has ended: with success if any port was found. */
void probe_start(struct probe *probe, struct door *door);

#endif
