/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_WAIT_H
#define CLIENT_WAIT_H

/* How a thread waits in the library, and how it is woken. All functions: under the session's lock. */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define WAIT_LEADS_FEW 16u /* connections that a wait watches without allocating */

struct conduit;
struct ovl_event;
struct ovl_overlapped;
struct ovl_packet;
struct ovl_port;
struct ovl_session;
struct ovl_thread;

/* What became of a wait for events: decided by whoever set the event or queued the routine, under the lock. */
enum wait_outcome {
        WAIT_OPEN,
        WAIT_SATISFIED, /* the events were set, and those that reset themselves were reset for this wait */
        WAIT_ALERTED,   /* a routine or an APC came first */
};

/* A thread that waits. Lives on its stack. The caller fills the first part and calls wait_begin(). */
struct wait {
        struct ovl_thread *thread;               /* who waits */
        struct conduit *other;                   /* also wanted: the channel of the thread that posted. Borrowed */
        const struct ovl_overlapped *overlapped; /* whose end wakes this wait; NULL: none */
        struct ovl_port *port;                   /* the port that is waited for; NULL: none */
        bool wants_ports;                        /* also wanted: the channels of all ports */
        bool wants_all;                          /* also wanted: every channel */
        bool wants_output;                       /* wake when the thread's channel takes bytes again */
        struct ovl_packet *packets;              /* a wait for a port: room for what it is given */
        size_t n_packets_max;
        size_t n_packets; /* given */

        bool is_alertable;               /* a wait for events or packets that routines end */
        struct ovl_event *const *events; /* a wait for events: n of them. Borrowed */
        size_t n_events;
        bool wants_all_events; /* all of them must be set, not any */
        enum wait_outcome outcome;
        size_t index; /* satisfied: the event that was set */

        struct list link;    /* in session->waits */
        struct list waiters; /* in port->waiters */
        uint64_t serial;     /* a later wait has a higher one */
        bool has_looked;     /* the channels were read without waiting */
        bool is_offered;     /* was told that nobody watches some channel, and has not looked for it */
        struct conduit **leads;
        struct pollfd *polls; /* one more than there are leads */
        size_t n_leads;
        size_t n_leads_held; /* room */
        struct conduit *leads_few[WAIT_LEADS_FEW];
        struct pollfd polls_few[WAIT_LEADS_FEW + 1];
};

/* When a wait ends that begins now. */
uint64_t wait_deadline(uint64_t timeout_ns);

void wait_begin(struct wait *wait);

/*
 * Waits until something may have changed, and takes in what arrived; the lock is released meanwhile. The caller looks
 * whether what it waits for has come, before the first call and after each.
 *
 * Returns 0, or -ETIMEDOUT.
 */
int wait_round(struct wait *wait, uint64_t deadline_ns);

/* Hands the channels that this wait watched to others that want them. */
void wait_end(struct wait *wait);

/* Wakes a thread: the wait that it is in, or else its next one, looks again. by: who calls; never wakes itself. */
void wait_signal(struct ovl_thread *thread, const struct ovl_thread *by);

/* Forgets a signal. */
void wait_clear(struct ovl_thread *thread);

/*
 * A loop that is not the library's sleeps elsewhere: it hears also of what its thread found itself, unless that was in
 * a call that looks for just that. By the owner, when it is in no wait.
 */
void wait_tell(struct ovl_thread *thread);

/* Wakes every waiting thread: the set of channels changed, or the session is gone. */
void wait_signal_all(struct ovl_session *session, const struct ovl_thread *by);

/* Wakes those that wait for the end of this operation. */
void wait_signal_ended(struct ovl_session *session, const struct ovl_overlapped *overlapped,
                       const struct ovl_thread *by);

/* Nobody watches this channel: wakes one who wants it. */
void wait_offer(struct conduit *conduit, const struct ovl_thread *by);

#endif
