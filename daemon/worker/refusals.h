/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_REFUSALS_H
#define DAEMON_WORKER_REFUSALS_H

/* Refusals: what the network answers to datagrams that were sent earlier. */

#include <stdbool.h>
#include <stdint.h>

struct socket;

/* Embedded in its socket; on anything but IPv4 and IPv6 datagrams all of it stays zero. */
struct refusals {
        bool is_told;   /* a receive ends with each; else nobody hears of them */
        bool has_queue; /* the kernel keeps them in its error queue, and that is ours to read */
        uint32_t n;     /* that no receive was told of */
};

/* Of a socket that was opened here: refusals are told, whether or not it will have a peer. */
void refusals_start(struct socket *socket);

/* Leaves the kernel's socket as one that nobody has asked to keep refusals. */
void refusals_stop(struct socket *socket);

/* Whether refusals are told from here on. Those that no receive was told of are forgotten. Returns 0 or -errno. */
int refusals_set(struct socket *socket, bool is_told);

/*
 * A request on the socket, a receive or a send, failed with this error. Takes what the kernel has kept of refusals.
 *
 * Returns whether it was only told what became of earlier datagrams: then it is to be tried again.
 */
bool refusals_explain(struct socket *socket, bool is_receive, int error);

/* Takes what the kernel has kept, and returns whether a receive is to end with one. */
bool refusals_look(struct socket *socket);

/* One of them is told: there must be one. */
int refusals_tell(struct socket *socket);

#endif
