/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Completion routines and the waits in which they run.
 *
 * Invariants: a routine runs in the thread that posted its operation, in the order in which the operations ended, and
 * never inside another routine of the same socket: a routine that waits alertably lets only routines of other sockets
 * run, and those of its own stay queued in their order. The queue is a chain through the overlapped structures, so a
 * record never needs memory.
 *
 *   queued -> running    ovl_sleep(), or an alertable ovl_wait(); each goes on until nothing is left that may run
 *   running -> done      the routine returns
 *   queued -> dropped    ovl_thread_close()
 *
 * Routines that are queued when an alertable wait begins win over the object that is waited for, as they do elsewhere.
 *
 * Rejected: running routines inside ovl_dispatch() or requests (a program must know where its routines can run), and a
 * flag on the socket while one of its routines runs (the library keeps no sockets; the chain of running routines on the
 * stack says the same).
 */

#include "client/c/routine.h"

#include <errno.h>

#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/pending.h"
#include "client/c/post.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"

/* --- The queue -------------------------------------------------------------------------------------------------- */

void routine_push(struct ovl_thread *thread, struct ovl_overlapped *overlapped, const struct ovl_thread *by) {
        completion_private(overlapped)->routine.next = NULL;
        if (thread->last_routine)
                completion_private(thread->last_routine)->routine.next = overlapped;
        else
                thread->first_routine = overlapped;
        thread->last_routine = overlapped;
        wait_signal(thread, by);
}

void routine_drop_all(struct ovl_thread *thread) {
        while (thread->first_routine) {
                struct completion_private *private = completion_private(thread->first_routine);

                thread->first_routine = private->routine.next;
                private->state = COMPLETION_IDLE;
        }
        thread->last_routine = NULL;
}

static bool routine_is_running(const struct ovl_thread *thread, uint64_t socket) {
        const struct thread_running *running = thread->running;

        while (running && running->socket != socket)
                running = running->outer;
        return running;
}

/* Finds the first that may run. Returns NULL if there is none; *ret_previous is what stays in front of it. */
static struct ovl_overlapped *routine_find(const struct ovl_thread *thread, struct ovl_overlapped **ret_previous) {
        struct ovl_overlapped *overlapped = thread->first_routine, *previous = NULL;

        while (overlapped && routine_is_running(thread, completion_private(overlapped)->routine.socket)) {
                previous = overlapped;
                overlapped = completion_private(overlapped)->routine.next;
        }
        *ret_previous = previous;
        return overlapped;
}

bool routine_is_ready(const struct ovl_thread *thread) {
        struct ovl_overlapped *previous;

        return routine_find(thread, &previous);
}

static struct ovl_overlapped *routine_pop(struct ovl_thread *thread) {
        struct ovl_overlapped *overlapped, *previous, *next;

        overlapped = routine_find(thread, &previous);
        if (!overlapped)
                return NULL;
        next = completion_private(overlapped)->routine.next;
        if (previous)
                completion_private(previous)->routine.next = next;
        else
                thread->first_routine = next;
        if (!next)
                thread->last_routine = previous;
        completion_private(overlapped)->state = COMPLETION_IDLE;
        return overlapped;
}

void routine_run_all(struct ovl_thread *thread) {
        struct ovl_overlapped *overlapped;

        for (;;) {
                struct thread_running running = { .outer = thread->running };

                session_lock(thread->session);
                overlapped = routine_pop(thread);
                session_unlock(thread->session);
                if (!overlapped)
                        return;
                running.socket = completion_private(overlapped)->routine.socket;
                thread->running = &running;
                /* From here on the structure is the program's again. */
                completion_private(overlapped)->routine.routine(thread, overlapped);
                thread->running = running.outer;
        }
}

/* --- Alertable waits -------------------------------------------------------------------------------------------- */

/* Waits for a routine that may run. Returns OVL_ALERTED, 0 on timeout, or -ECONNABORTED. */
static int routine_wait(struct ovl_thread *thread, uint64_t deadline) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread };
        int r = 0, timeout = 0;

        session_lock(session);
        wait_begin(&wait);
        for (;;) {
                if (routine_is_ready(thread)) {
                        r = OVL_ALERTED;
                        break;
                }
                if (session->is_gone) {
                        r = session_gone(session, &thread->error, "ovl_sleep");
                        break;
                }
                if (timeout < 0)
                        break;
                timeout = wait_round(&wait, deadline);
        }
        wait_end(&wait);
        session_unlock(session);
        return r;
}

OVL_API int ovl_sleep(struct ovl_thread *thread, uint64_t timeout_ns) {
        int r;

        post_flush(thread, "ovl_sleep");
        r = routine_wait(thread, wait_deadline(timeout_ns));
        if (r == OVL_ALERTED)
                routine_run_all(thread);
        return r;
}

OVL_API int ovl_result(const struct ovl_overlapped *overlapped) {
        /* Pairs with the release store of the completion. */
        return __atomic_load_n(&overlapped->status, __ATOMIC_ACQUIRE);
}

/* Notes in the operation that it is waited for, and where its record may come. Returns 0, or -EINVAL. */
static int routine_note_wait(struct wait *wait, struct ovl_overlapped *overlapped) {
        struct ovl_thread *thread = wait->thread;
        struct pending *pending;

        pending = pending_find(&thread->session->pending, completion_private(overlapped)->tag);
        if (!pending || pending->overlapped != overlapped)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_wait: the operation was not posted in this session, or its structure was "
                                 "overwritten");
        pending->is_waited = true;
        wait->overlapped = overlapped;
        wait->other = pending->thread ? pending->thread->conduit : NULL;
        wait->wants_ports = pending->indication == OVL_INDICATE_PLAIN;
        return 0;
}

/* Waits for an operation that is in flight. Under the lock. */
static int routine_wait_for(struct wait *wait, struct ovl_overlapped *overlapped, uint64_t deadline, bool alertable) {
        int r = 0;

        for (;;) {
                if (alertable && routine_is_ready(wait->thread))
                        return OVL_ALERTED;
                if (ovl_result(overlapped) != -EINPROGRESS)
                        return 0;
                if (r < 0)
                        return error_set(&wait->thread->error, r, 0, "ovl_wait: the operation did not end in time");
                r = wait_round(wait, deadline);
        }
}

OVL_API int ovl_wait(struct ovl_thread *thread, struct ovl_overlapped *overlapped, uint64_t timeout_ns, int alertable) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread };
        uint64_t deadline;
        int r;

        post_flush(thread, "ovl_wait");
        deadline = wait_deadline(timeout_ns);
        session_lock(session);
        if (alertable && routine_is_ready(thread)) {
                r = OVL_ALERTED;
        } else if (ovl_result(overlapped) != -EINPROGRESS) {
                r = 0;
        } else {
                r = routine_note_wait(&wait, overlapped);
                if (r == 0) {
                        wait_begin(&wait);
                        r = routine_wait_for(&wait, overlapped, deadline, alertable);
                        wait_end(&wait);
                }
        }
        session_unlock(session);
        if (r == OVL_ALERTED)
                routine_run_all(thread);
        return r;
}
