/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ASSOCIATION_H
#define CLIENT_ASSOCIATION_H

/* Which socket has which completion port. All functions: under the session's lock. */

#include <stdint.h>

#include "base/list.h"

#define ASSOCIATION_BUCKETS 1024u

struct ovl_port;

struct association {
        struct association *next; /* in its bucket */
        struct list link;         /* in the list of those whose socket was closed; else in none */
        uint64_t socket;
        uint64_t key;
        struct ovl_port *port; /* borrowed; NULL: the port was closed */
};

struct association_table {
        struct association *buckets[ASSOCIATION_BUCKETS]; /* owned */
        uint32_t n_all;                                   /* those of closed sockets included */
        uint32_t n_closed;
        struct list closed; /* in the order of closing */
};

void association_init(struct association_table *table);
void association_deinit(struct association_table *table);

/* Returns an association that is in no table, for association_add() or free(); NULL: no memory. */
struct association *association_new(struct ovl_port *port, uint64_t socket, uint64_t key);
void association_add(struct association_table *table, struct association *take_association);

/* Returns the association of a socket, also for a while after the socket was closed, or NULL. */
struct association *association_find(const struct association_table *table, uint64_t socket);

/* The socket was closed: the association is only kept for what is still under way. */
void association_close_socket(struct association_table *table, uint64_t socket);

/* The port was closed. */
void association_close_port(struct association_table *table, const struct ovl_port *port);

#endif
