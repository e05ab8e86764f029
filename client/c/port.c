/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Completion ports. Packets wait in a queue, threads wait on a stack: the earliest packet goes to the latest waiter,
 * whose caches are warm, and the others sleep on.
 *
 * Invariant: never are more than n_running_max threads given packets. A thread counts as running for the port from
 * which it took its latest packet until it waits on a port again; while it is blocked in the library (another wait, a
 * request) it does not count, and when it comes back it does, even if another was let in meanwhile.
 *
 *   queued -> given   port_serve(): there is a waiter, and room to run
 *   open -> closed    ovl_port_close(); waiters return -ECANCELED, packets that nobody took are dropped
 *
 * The structures that hold the packets of operations are part of their overlapped structures; only packets that the
 * program posts are allocated.
 *
 * Rejected: the concurrency value in the daemon (it cannot see who runs), and letting waiters take packets themselves
 * (the one that is awake would always be first, which is neither order).
 */

#include "client/c/port.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/c/association.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/overlap.h"
#include "client/c/pending.h"
#include "client/c/post-frame.h"
#include "client/c/request.h"
#include "client/c/routine.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"

struct ovl_port *port_unref(struct ovl_port *port) {
        if (port && --port->n_refs == 0)
                free(port);
        return NULL;
}

bool port_has_room(const struct ovl_port *port) {
        /* When the daemon is lost every wait returns, also behind threads that never come back. */
        return port->n_running < port->n_running_max || port->session->is_gone;
}

/* --- The queue -------------------------------------------------------------------------------------------------- */

void port_push(struct ovl_port *port, struct completion_packet *packet) {
        packet->next = NULL;
        if (port->last)
                port->last->next = packet;
        else
                port->first = packet;
        port->last = packet;
}

/* Takes the earliest packet out of the queue and gives what the program sees of it. */
static struct ovl_packet port_pop(struct ovl_port *port) {
        struct completion_packet *packet = port->first;
        struct ovl_packet taken = packet->packet;

        port->first = packet->next;
        if (!port->first)
                port->last = NULL;
        if (taken.reserved)
                free(packet);
        else
                completion_private(taken.overlapped)->state = COMPLETION_IDLE;
        taken.reserved = 0;
        return taken;
}

static void port_run(struct ovl_port *port, struct ovl_thread *thread) {
        port->n_running++;
        port->n_refs++;
        thread->port = port;
        thread->taken_from = port->number;
}

void port_serve(struct ovl_port *port, const struct ovl_thread *by) {
        while (port->first && port_has_room(port) && !list_is_empty(&port->waiters)) {
                struct wait *wait = list_entry(list_pop_front(&port->waiters), struct wait, waiters);

                while (port->first && wait->n_packets < wait->n_packets_max)
                        wait->packets[wait->n_packets++] = port_pop(port);
                port_run(port, wait->thread);
                wait_signal(wait->thread, by);
        }
        if (!port->session->is_gone || port->first)
                return;
        /* Nothing will ever come: also those must learn it who were asleep when the last packets were taken. */
        list_for_each(link, &port->waiters)
                wait_signal(list_entry(link, struct wait, waiters)->thread, by);
}

/* --- Who runs --------------------------------------------------------------------------------------------------- */

/* A place to run became free: whoever waits may take a packet, or watch for the next one. */
static void port_release(struct ovl_port *port, const struct ovl_thread *by) {
        port->n_running--;
        port_serve(port, by);
        if (port->conduit && port_has_room(port))
                wait_offer(port->conduit, by);
}

bool port_pause(struct ovl_thread *thread) {
        if (!thread->port)
                return false;
        port_release(thread->port, thread);
        return true;
}

void port_resume(struct ovl_thread *thread) {
        thread->port->n_running++;
}

void port_leave(struct ovl_thread *thread) {
        struct ovl_port *port = thread->port;

        if (!port)
                return;
        thread->port = NULL;
        port_release(port, thread);
        port_unref(port);
}

/* --- Opening and closing ---------------------------------------------------------------------------------------- */

static int port_attach(struct ovl_session *session, struct ovl_port *port, struct ovl_error *error) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;
        _cleanup_free_ struct message_arena *arena = NULL;
        struct conduit *conduit;
        Overlapd__Reply *reply;
        int r;

        arena = malloc(sizeof(*arena));
        if (!arena)
                return error_set(error, -ENOMEM, 0, "ovl_port_open: no memory");
        message_arena_init(arena);
        attach.session = session->info.session;
        attach.secret = (ProtobufCBinaryData){ .len = session->secret_len, .data = session->secret };
        attach.what_case = OVERLAPD__ATTACH__WHAT_PORT;
        attach.port = port->number;
        attach.tid = (uint32_t) gettid();
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = &attach;
        r = conduit_open(session, &request, arena, error, &conduit, &reply);
        if (r < 0)
                return r;
        r = conduit_add_lane(conduit, 0, arena, error);
        if (r == 0) {
                port->conduit = conduit;
                return 0;
        }
        session_lock(session);
        conduit_unref(conduit);
        session_unlock(session);
        return r;
}

static unsigned port_processors(void) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);

        return n > 0 ? (unsigned) n : 1;
}

OVL_API int ovl_port_open(struct ovl_session *session, unsigned concurrency, struct ovl_port **ret_port,
                          struct ovl_error *ret_error) {
        _cleanup_free_ struct ovl_port *port = NULL;
        int r = 0;

        port = calloc(1, sizeof(*port));
        if (!port)
                return error_set(ret_error, -ENOMEM, 0, "ovl_port_open: no memory");
        port->session = session;
        port->n_refs = 1;
        port->n_running_max = concurrency ? concurrency : port_processors();
        list_init(&port->waiters);
        session_lock(session);
        port->number = session_number(session);
        if (session->is_gone)
                r = session_gone(session, ret_error, "ovl_port_open");
        session_unlock(session);
        if (r < 0)
                return r;
        r = port_attach(session, port, ret_error);
        if (r < 0)
                return r;
        session_lock(session);
        port->conduit->number = port->number;
        port->conduit->port = port;
        conduit_attach(port->conduit);
        list_push_back(&session->ports, &port->link);
        wait_signal_all(session, NULL);
        session_unlock(session);
        *ret_port = take_ptr(port);
        return 0;
}

static void port_drop_packets(struct ovl_port *port) {
        while (port->first)
                port_pop(port);
}

/* What was to go to the port goes on, and may come another way. */
static void port_let_go(struct ovl_port *port) {
        struct ovl_session *session = port->session;
        const struct association *association;
        struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(&session->pending, &index))) {
                association = association_find(&session->associations, pending->socket);
                if (association && association->port == port && pending->indication == OVL_INDICATE_PLAIN)
                        pending_stray(&session->pending, pending);
        }
        association_close_port(&session->associations, port);
        if (session->pending.n_strays > 0)
                wait_signal_all(session, NULL);
}

OVL_API struct ovl_port *ovl_port_close(struct ovl_port *port) {
        struct ovl_session *session;
        struct conduit *conduit;

        if (!port)
                return NULL;
        session = port->session;
        session_lock(session);
        port->is_closed = true;
        port_drop_packets(port);
        list_for_each(link, &port->waiters)
                wait_signal(list_entry(link, struct wait, waiters)->thread, NULL);
        conduit = conduit_ref(port->conduit);
        session_unlock(session);
        /* Records that are under way still end their operations; packets of theirs are dropped. */
        conduit_close(port->conduit, NULL);
        session_lock(session);
        port_let_go(port);
        list_unlink(&port->link);
        conduit->port = NULL;
        conduit_unref(conduit);
        port->conduit = NULL;
        port_unref(port);
        session_unlock(session);
        return NULL;
}

OVL_API int ovl_port_associate(struct ovl_thread *thread, struct ovl_port *port, uint64_t socket, uint64_t key) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__PortAssociate associate = OVERLAPD__PORT_ASSOCIATE__INIT;
        _cleanup_free_ struct association *new_association = NULL;
        struct association *association;
        Overlapd__Reply *reply;
        int r;

        new_association = association_new(socket);
        if (!new_association)
                return error_set(&thread->error, -ENOMEM, 0, "ovl_port_associate: no memory");
        associate.socket = socket;
        associate.port = port->number;
        associate.key = key;
        request.what_case = OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE;
        request.port_associate = &associate;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_port_associate", &reply);
        if (r < 0)
                return r;
        session_lock(thread->session);
        association = association_obtain(&thread->session->associations, &new_association);
        association->port = port;
        association->key = key;
        session_unlock(thread->session);
        return 0;
}

OVL_API int ovl_port_skip(struct ovl_thread *thread, uint64_t socket) {
        struct ovl_session *session = thread->session;
        struct association *association;
        int r = 0;

        session_lock(session);
        association = association_find(&session->associations, socket);
        if (association && association->port && !list_is_linked(&association->link))
                association->skips_done = true;
        else
                r = error_set(&thread->error, -EINVAL, 0,
                              "ovl_port_skip: socket 0x%llx is associated with no port: associate it first",
                              (unsigned long long) socket);
        session_unlock(session);
        return r;
}

/* --- Packets ---------------------------------------------------------------------------------------------------- */

/* Waits until the port served this thread. Returns 0, or why there will be nothing. Under the lock. */
static int port_wait(struct ovl_port *port, struct wait *wait, uint64_t deadline) {
        int r = 0;

        for (;;) {
                port_serve(port, wait->thread);
                if (wait->n_packets > 0)
                        return 0;
                if (wait->is_alertable && routine_is_ready(wait->thread))
                        return OVL_ALERTED;
                if (port->is_closed)
                        return -ECANCELED;
                if (port->session->is_gone && !port->first)
                        return -ECONNABORTED;
                if (r < 0)
                        return r;
                r = wait_round(wait, deadline);
        }
}

static int port_explain(struct ovl_thread *thread, int r) {
        switch (r) {
        case OVL_ALERTED:
                return r;
        case -ECONNABORTED:
                return session_gone(thread->session, &thread->error, "ovl_port_wait");
        case -ECANCELED:
                return error_set(&thread->error, r, 0, "ovl_port_wait: the port was closed");
        default:
                return error_set(&thread->error, r, 0, "ovl_port_wait: no packet came in time");
        }
}

/* Waits as the latest of the port's waiters. Under the lock. */
static int port_wait_among(struct ovl_port *port, struct wait *wait, uint64_t deadline) {
        int r;

        port->n_refs++;
        wait_begin(wait);
        list_push_front(&port->waiters, &wait->waiters);
        /* Only now: the place that becomes free is first of all this thread's own. */
        port_leave(wait->thread);
        r = port_wait(port, wait, deadline);
        list_unlink(&wait->waiters);
        wait_end(wait);
        if (r != 0)
                r = port_explain(wait->thread, r);
        port_unref(port);
        return r;
}

OVL_API int ovl_port_wait(struct ovl_port *port, struct ovl_thread *thread, struct ovl_packet *ret_packets, size_t max,
                          uint64_t timeout_ns) {
        struct ovl_session *session = thread->session;
        struct wait wait = {
                .thread = thread,
                .port = port,
                .packets = ret_packets,
                .n_packets_max = max < INT32_MAX ? max : INT32_MAX,
        };
        uint64_t deadline;
        int r;

        if (max == 0)
                return error_set(&thread->error, -EINVAL, 0, "ovl_port_wait: room for no packet");
        post_flush(thread, "ovl_port_wait");
        deadline = wait_deadline(timeout_ns);
        session_lock(session);
        r = port_wait_among(port, &wait, deadline);
        session_unlock(session);
        return r < 0 ? r : (int) wait.n_packets;
}

OVL_API int ovl_port_wait_alertable(struct ovl_port *port, struct ovl_thread *thread, struct ovl_packet *ret_packets,
                                    size_t max, uint64_t timeout_ns, size_t *ret_n) {
        struct ovl_session *session = thread->session;
        struct wait wait = {
                .thread = thread,
                .port = port,
                .packets = ret_packets,
                .n_packets_max = max < INT32_MAX ? max : INT32_MAX,
                .is_alertable = true,
        };
        uint64_t deadline;
        int r;

        if (max == 0)
                return error_set(&thread->error, -EINVAL, 0, "ovl_port_wait_alertable: room for no packet");
        post_flush(thread, "ovl_port_wait_alertable");
        deadline = wait_deadline(timeout_ns);
        conduit_take_in(thread->conduit, thread);
        session_lock(session);
        wait_tell(thread);
        /* A thread that takes from this port already gets packets that are there before anything else. */
        if (thread->taken_from != port->number && routine_is_ready(thread))
                r = OVL_ALERTED;
        else
                r = port_wait_among(port, &wait, deadline);
        session_unlock(session);
        if (r == OVL_ALERTED)
                routine_run_all(thread);
        else if (r == 0)
                *ret_n = wait.n_packets;
        return r;
}

OVL_API int ovl_port_post(struct ovl_port *port, const struct ovl_packet *packet) {
        _cleanup_free_ struct completion_packet *queued = NULL;
        int r = 0;

        queued = calloc(1, sizeof(*queued));
        if (!queued)
                return -ENOMEM;
        queued->packet = *packet;
        queued->packet.reserved = 1;
        session_lock(port->session);
        if (port->is_closed) {
                r = -ECANCELED;
        } else {
                port_push(port, take_ptr(queued));
                port_serve(port, NULL);
        }
        session_unlock(port->session);
        return r;
}
