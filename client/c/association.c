/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A port. The daemon says in each record whether it goes to a port, and with which key. Two kinds of ends carry no such
 * word, and the program still waits for a packet: an operation that is refused after the call said "pending", and one
 * that ends because the daemon was lost. For these, and to refuse a routine on a socket with a port at once, the
 * library remembers what it associated.
 *
 * The manner of synchronous calls: timeouts, whether they may block, and whether the socket has no other calls. Only
 * the library acts on it, so only the library knows it, and each session has its own, as it has its own port.
 *
 *   none -> open     ovl_port_associate() or, for the manner, whatever makes it another than that of all sockets
 *   open -> closed   ovl_socket_close(): a thread may post on the socket at the very moment at which another closes it,
 *                    and the refusal comes when the socket is gone for both sides
 *   closed -> none   ASSOCIATION_CLOSED_MAX further sockets were closed
 *
 * Rejected: looking the port up with every post (the record says it in all ordinary cases), and keeping closed ones for
 * ever (a server closes millions); timeouts as options of the kernel's socket (io_uring does not know them, and they
 * would be the other sessions', too).
 */

#include "client/c/association.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "client/c/overlap.h"

#define ASSOCIATION_CLOSED_MAX 4096u

static const struct manner manner_plain = { .recv_timeout_ns = OVL_INFINITE, .send_timeout_ns = OVL_INFINITE };

void association_init(struct association_table *table) {
        *table = (struct association_table){ 0 };
        list_init(&table->closed);
}

void association_deinit(struct association_table *table) {
        for (unsigned i = 0; i < ASSOCIATION_BUCKETS; i++) {
                while (table->buckets[i]) {
                        struct association *association = table->buckets[i];

                        table->buckets[i] = association->next;
                        free(association);
                }
        }
}

struct association *association_new(uint64_t socket) {
        struct association *association = calloc(1, sizeof(*association));

        if (!association)
                return NULL;
        list_init(&association->link);
        association->socket = socket;
        association->manner = manner_plain;
        return association;
}

/* Ids have an index in the lower half and a generation in the upper one: both must count. */
static unsigned association_bucket(uint64_t socket) {
        return (unsigned) ((socket * UINT64_C(0x9e3779b97f4a7c15)) >> 54) % ASSOCIATION_BUCKETS;
}

void association_add(struct association_table *table, struct association *take_association) {
        unsigned bucket = association_bucket(take_association->socket);

        take_association->next = table->buckets[bucket];
        table->buckets[bucket] = take_association;
        table->n_all++;
        if (take_association->manner.is_non_overlapped)
                __atomic_add_fetch(&table->n_non_overlapped, 1, __ATOMIC_RELAXED);
}

struct association *association_obtain(struct association_table *table, struct association **take_association) {
        struct association *association = association_find(table, (*take_association)->socket);

        if (!association) {
                association = take_ptr(*take_association);
                association_add(table, association);
        }
        return association;
}

struct association *association_find(const struct association_table *table, uint64_t socket) {
        struct association *association;

        if (table->n_all == 0)
                return NULL;
        association = table->buckets[association_bucket(socket)];
        while (association && association->socket != socket)
                association = association->next;
        return association;
}

static void association_free(struct association_table *table, struct association *association) {
        struct association **place = &table->buckets[association_bucket(association->socket)];

        while (*place != association)
                place = &(*place)->next;
        *place = association->next;
        list_unlink(&association->link);
        table->n_all--;
        if (association->manner.is_non_overlapped)
                __atomic_sub_fetch(&table->n_non_overlapped, 1, __ATOMIC_RELAXED);
        free(association);
}

void association_close_socket(struct association_table *table, uint64_t socket) {
        struct association *association = association_find(table, socket);

        if (!association || list_is_linked(&association->link))
                return;
        list_push_back(&table->closed, &association->link);
        table->n_closed++;
        if (table->n_closed > ASSOCIATION_CLOSED_MAX) {
                association_free(table, list_entry(list_first(&table->closed), struct association, link));
                table->n_closed--;
        }
}

void association_close_port(struct association_table *table, const struct ovl_port *port) {
        for (unsigned i = 0; i < ASSOCIATION_BUCKETS; i++)
                for (struct association *a = table->buckets[i]; a; a = a->next)
                        if (a->port == port)
                                a->port = NULL;
}

struct manner association_manner(const struct association_table *table, uint64_t socket) {
        const struct association *association = association_find(table, socket);

        return association ? association->manner : manner_plain;
}

bool manner_is_plain(const struct manner *manner) {
        return manner->recv_timeout_ns == OVL_INFINITE && manner->send_timeout_ns == OVL_INFINITE &&
               !manner->is_nonblocking && !manner->is_non_overlapped;
}
