/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_PORT_H
#define CLIENT_PORT_H

/* A completion port: packets in the order in which they came, and threads that wait for them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct completion_packet;
struct conduit;
struct ovl_session;
struct ovl_thread;
struct wait;

/* All but the constant part is guarded by the session's lock; all functions are called under it. */
struct ovl_port {
        struct ovl_session *session; /* borrowed */
        struct conduit *conduit;     /* one reference */
        uint64_t number;
        unsigned n_running_max; /* the concurrency value */

        struct list link; /* in session->ports */
        unsigned n_refs;
        bool is_closed;
        unsigned n_running;  /* threads that took a packet and neither came back nor wait elsewhere */
        struct list waiters; /* struct wait, the latest first */
        struct completion_packet *first;
        struct completion_packet *last;
};

struct ovl_port *port_unref(struct ovl_port *port);

/* Queues a packet; port_serve() hands it out. */
void port_push(struct ovl_port *port, struct completion_packet *packet);

/* Hands packets to waiting threads, as long as there are both and the concurrency value allows it. */
void port_serve(struct ovl_port *port, const struct ovl_thread *by);

/* Whether one more thread may take a packet. */
bool port_has_room(const struct ovl_port *port);

/* The thread blocks, and does not count as running meanwhile. Returns whether it did: port_resume() is then due. */
bool port_pause(struct ovl_thread *thread);
void port_resume(struct ovl_thread *thread);

/* The thread no longer works for the port from which it took its latest packet. */
void port_leave(struct ovl_thread *thread);

#endif
