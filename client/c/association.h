/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ASSOCIATION_H
#define CLIENT_ASSOCIATION_H

/* What a session associates with a socket: a completion port, and the manner of synchronous calls. All functions: under
 * the session's lock. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define ASSOCIATION_BUCKETS 1024u

struct ovl_port;

/* How synchronous calls on a socket go. */
struct manner {
        uint64_t recv_timeout_ns; /* OVL_INFINITE: none */
        uint64_t send_timeout_ns;
        bool is_nonblocking;
        bool is_non_overlapped; /* every call on it is synchronous */
};

struct association {
        struct association *next; /* in its bucket */
        struct list link;         /* in the list of those whose socket was closed; else in none */
        uint64_t socket;
        uint64_t key;
        struct ovl_port *port; /* borrowed; NULL: there is none, or it was closed */
        bool skips_done;       /* no packet for what has succeeded when its call returns 0 */
        struct manner manner;
};

struct association_table {
        struct association *buckets[ASSOCIATION_BUCKETS]; /* owned */
        uint32_t n_all;                                   /* those of closed sockets included */
        uint32_t n_closed;
        uint32_t n_non_overlapped; /* sockets of that manner; others may look without the lock */
        struct list closed;        /* in the order of closing */
};

void association_init(struct association_table *table);
void association_deinit(struct association_table *table);

/* Returns an association that is in no table, with nothing but the socket, for free() or the next two; NULL: no memory.
 */
struct association *association_new(uint64_t socket);
void association_add(struct association_table *table, struct association *take_association);

/* Returns the association of the socket. It is the one that was brought if there was none: then that is taken. */
struct association *association_obtain(struct association_table *table, struct association **take_association);

/* How synchronous calls on the socket go. */
struct manner association_manner(const struct association_table *table, uint64_t socket);

/* Whether it is the manner of all sockets of which nothing was said. */
bool manner_is_plain(const struct manner *manner);

/* Returns the association of a socket, also for a while after the socket was closed, or NULL. */
struct association *association_find(const struct association_table *table, uint64_t socket);

/* The socket was closed: the association is only kept for what is still under way. */
void association_close_socket(struct association_table *table, uint64_t socket);

/* The port was closed. */
void association_close_port(struct association_table *table, const struct ovl_port *port);

#endif
