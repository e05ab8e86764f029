/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ROUTINE_H
#define CLIENT_ROUTINE_H

/* Completion routines and APCs: the queue of a thread, and alertable waits. */

#include <stdbool.h>
#include <stdint.h>

struct ovl_thread;

/* What a thread's queue holds: the completion routine of an operation, or an APC. */
struct routine_item {
        struct routine_item *next;
        uint64_t socket; /* of the operation: routines of one socket are never nested. 0: it has none */
        bool is_apc;     /* part of a struct apc, which the queue owns; else of an operation's overlapped structure */
};

/* Queues an item behind all others. Under the session's lock. */
void routine_push(struct ovl_thread *thread, struct routine_item *item, const struct ovl_thread *by);

/* Drops the APCs that name a function of the session. Under the session's lock. */
void routine_drop_function(struct ovl_thread *thread, uint64_t function);

/* Empties the queue without running anything. Under the session's lock. */
void routine_drop_all(struct ovl_thread *thread);

/* Whether a routine or an APC is queued that may run now. By the owner, or while it waits. Under the session's lock. */
bool routine_is_ready(const struct ovl_thread *thread);

/* Runs all that may run, those included that are queued meanwhile. By the thread's owner, without the lock. */
void routine_run_all(struct ovl_thread *thread);

#endif
