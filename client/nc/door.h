/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_DOOR_H
#define CLIENT_NC_DOOR_H

#include <stddef.h>
#include <stdint.h>

#include "client/nc/address.h"
#include "client/nc/loop.h"
#include "client/nc/options.h"
#include "client/nc/pool.h"

struct ovl_session;
struct ovl_thread;

/* The way through overlapd: what every mode needs. */
struct door {
        const struct options *options; /* borrowed */
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct loop loop;
        struct pool pool;
        struct address source; /* that sockets are bound to; len 0: none */
};

/*
 * Opens a session.
 *
 * options: borrowed for the life of the door.
 *
 * Returns 0, or an exit status after it was said what is wrong.
 */
int door_open(struct door *door, const struct options *options);

/* NULL and one that was not opened are fine. */
void door_close(struct door *door);

/*
 * Finds an address of a host, as overlapd's machine knows it, and waits for it. To be bound to: only the first counts.
 *
 * Returns 0, or an exit status after it was said what is wrong.
 */
int door_find(struct door *door, const char *host, int family, uint16_t port, struct address *ret_address);

/* Says that a name was not found, and why. Returns the exit status. */
int door_tell_not_found(struct door *door, const char *host, int family, int status, unsigned reason);

/*
 * Says that a request on the thread failed.
 *
 * what:    what was to be done, as in "cannot WHAT AT ADDRESS: why".
 * address: left out where the text names it.
 *
 * Returns the exit status.
 */
int door_tell_refused(struct door *door, const char *what, const char *at, const struct address *address);

/* Says that somebody can connect from now on, and where: with -v, and to the service manager if it started this. */
void door_tell_ready(struct door *door, const struct address *address);

/* Opens a socket of a family and binds it to the source, if there is one. Returns 0 or -errno. */
int door_socket(struct door *door, int family, uint64_t *ret_socket);

#endif
