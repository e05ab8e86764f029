/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_CONNECT_H
#define CLIENT_NC_CONNECT_H

#include "client/nc/dial.h"
#include "client/nc/local.h"
#include "client/nc/relay.h"

/* overlap-nc HOST PORT: one connection for standard input and output. */
struct connect {
        struct door *door;            /* borrowed */
        struct local *input, *output; /* borrowed */
        struct dial dial;
        struct relay relay;
};

/* Starts it; it stops the loop of the door when it has ended. */
void connect_start(struct connect *connect, struct door *door, struct local *input, struct local *output);

/* The manner of a relay of standard input and output, as the options want it. */
void connect_manner(const struct options *options, const struct local *input, struct relay_manner *ret_manner);

/* The exit status of a relay that has ended. */
int connect_exit(const struct relay *relay);

#endif
