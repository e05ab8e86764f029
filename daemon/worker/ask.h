/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ASK_H
#define DAEMON_WORKER_ASK_H

/*
 * The worker's side of the link to the monitor: what the worker may not do itself, it asks for. Answers come in any
 * order and are found by their ticket.
 */

#include "base/slots.h"
#include "daemon/link.h"
#include "daemon/worker/engine.h"
#include "daemon/worker/ticket.h"

struct ask {
        struct engine_file file; /* the link */
        struct engine *engine;   /* borrowed */
        struct slots tickets;
        struct list unsent;  /* tickets whose message, or whose cancel, found no room in the link */
        struct list reports; /* what found no room in the link either, at most two for a channel, a pulse and a page */
        struct list cancelled; /* tickets that were cancelled before they were sent: answered from here */
        uint64_t retry_ns;     /* when what is unsent is tried again although nothing says that there is room; 0: not */
        bool is_gone;          /* the monitor is */
};

/* link_fd: borrowed. kind: for the engine_file. Returns 0 or -ENOMEM, -ENFILE. */
int ask_init(struct ask *ask, struct engine *engine, int link_fd, int kind);
void ask_deinit(struct ask *ask);

/*
 * Asks. ticket->owner, message and fd are set by the caller; the message stays until the answer came.
 *
 * Returns 0, or -ENOBUFS when too many requests are under way. Exactly one answer follows, whatever happens.
 */
int ask_send(struct ask *ask, struct ticket *ticket);

/* Asks for the end of a connect that is under way; its answer follows in any case. */
void ask_cancel(struct ask *ask, struct ticket *ticket);

/* Tells the monitor something that has no answer: now, or when the link has room. Reports keep their order. */
void ask_report(struct ask *ask, const struct link_message *message);

/* The same with a descriptor, which is taken. */
void ask_report_with(struct ask *ask, const struct link_message *message, int take_fd);

/* The link can be written again, or retry_ns has come: sends what waits. */
void ask_flush(struct ask *ask);

/*
 * Takes the next message of the monitor.
 *
 * Returns 1 and a message: for LINK_ANSWER *ret_ticket is the ticket that it answers, which is free again, for
 * LINK_ARMED the one that it speaks of (messages about unknown tickets are dropped); *ret_fd a descriptor or -1, the
 * caller's to close. 0 when there is none, or -ECONNRESET when the monitor is gone.
 */
int ask_receive(struct ask *ask, struct link_message *ret_message, int *ret_fd, struct ticket **ret_ticket);

#endif
