/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ROUTINE_H
#define CLIENT_ROUTINE_H

/* Completion routines: the queue of a thread, and alertable waits. */

#include <stdbool.h>

struct ovl_overlapped;
struct ovl_thread;

/* Queues the completion routine of an operation that ended. Under the session's lock. */
void routine_push(struct ovl_thread *thread, struct ovl_overlapped *overlapped, const struct ovl_thread *by);

/* Empties the queue without running anything. Under the session's lock. */
void routine_drop_all(struct ovl_thread *thread);

/* Whether a routine is queued that may run now. Under the session's lock. */
bool routine_is_ready(const struct ovl_thread *thread);

/* Runs all that may run, those included that are queued meanwhile. By the thread's owner, without the lock. */
void routine_run_all(struct ovl_thread *thread);

#endif
