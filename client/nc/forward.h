/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_FORWARD_H
#define CLIENT_NC_FORWARD_H

#include <sys/stat.h>

#include "client/nc/dial.h"
#include "client/nc/local.h"
#include "client/nc/relay.h"

/* overlap-nc --local: everybody who comes to a local socket is connected to the host. */
struct forward {
        struct door *door; /* borrowed */
        struct address address;
        struct source listener;
        struct source signals;
        struct list connections;
        unsigned n_connections, max_connections;
        dev_t device; /* of the Unix socket's file, which is removed at the end if it is still the same */
        ino_t inode;
        bool is_made; /* the file */
};

/*
 * Starts it; it stops the loop of the door at SIGTERM, SIGINT or SIGHUP.
 *
 * Returns 0, or an exit status after it was said what is wrong.
 */
int forward_start(struct forward *forward, struct door *door);

/* Closes everything, and removes the socket's file. After the door's operations have ended. */
void forward_stop(struct forward *forward);

#endif
