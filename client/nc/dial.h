/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_DIAL_H
#define CLIENT_NC_DIAL_H

#include "client/c/overlap.h"
#include "client/nc/door.h"

#define DIAL_TEXT_SIZE (ADDRESS_TEXT_SIZE + 256)

/* One attempt to reach a host. */
struct dial {
        struct door *door; /* borrowed */
        uint16_t port;
        struct ovl_overlapped op;
        struct address address; /* that was reached; of a Unix socket also that is to be */
        uint64_t socket;
        struct timer timer;
        bool is_late;
        void (*ended)(struct dial *dial, int status);
};

/*
 * Starts to reach the host of the options.
 *
 * port:  of it; unused for Unix sockets.
 * ended: called once, later, last of all: it may free the dial. With status REPORT_DONE `socket` is connected and the
 *        caller's; otherwise it was said what is wrong.
 */
void dial_start(struct dial *dial, struct door *door, uint16_t port, void (*ended)(struct dial *dial, int status));

#endif
