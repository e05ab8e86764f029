/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Completion routines and APCs, and the waits in which they run.
 *
 * Invariants: a routine runs in the thread that posted its operation, in the order in which the operations ended, and
 * never inside another routine of the same socket: a routine that waits alertably lets only routines of other sockets
 * and APCs run, and those of its own socket stay queued in their order. APCs stand in the same queue. It is a chain
 * through the overlapped structures, so that a record never needs memory, and through the APCs, which are allocated.
 *
 *   queued -> running    an alertable wait; each goes on until nothing is left that may run
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

#include "base/list.h"
#include "client/c/apc.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/pending.h"
#include "client/c/post-frame.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"

/* --- The queue -------------------------------------------------------------------------------------------------- */

static struct ovl_overlapped *routine_overlapped(struct routine_item *item) {
        return completion_overlapped(list_entry(item, struct completion_private, routine.item));
}

static struct apc *routine_apc(struct routine_item *item) {
        return list_entry(item, struct apc, item);
}

static bool routine_is_running(const struct ovl_thread *thread, uint64_t socket) {
        const struct thread_running *running = thread->running;

        if (socket == 0)
                return false;
        while (running && running->socket != socket)
                running = running->outer;
        return running;
}

/* Finds the first that may run. Returns NULL if there is none; *ret_previous is what stays in front of it. */
static struct routine_item *routine_find(const struct ovl_thread *thread, struct routine_item **ret_previous) {
        struct routine_item *item = thread->first_routine, *previous = NULL;

        while (item && !item->is_apc && routine_is_running(thread, item->socket)) {
                previous = item;
                item = item->next;
        }
        *ret_previous = previous;
        return item;
}

bool routine_is_ready(const struct ovl_thread *thread) {
        struct routine_item *previous;

        return routine_find(thread, &previous);
}

void routine_push(struct ovl_thread *thread, struct routine_item *item, const struct ovl_thread *by) {
        item->next = NULL;
        if (thread->last_routine)
                thread->last_routine->next = item;
        else
                thread->first_routine = item;
        thread->last_routine = item;
        thread->has_news = true;
        /* What comes first ends the wait: an event that is set from here on stays set. */
        if (thread->wait && thread->wait->is_alertable && thread->wait->outcome == WAIT_OPEN &&
            routine_is_ready(thread))
                thread->wait->outcome = WAIT_ALERTED;
        wait_signal(thread, by);
}

static void routine_take(struct ovl_thread *thread, struct routine_item *item, struct routine_item *previous) {
        if (previous)
                previous->next = item->next;
        else
                thread->first_routine = item->next;
        if (!item->next)
                thread->last_routine = previous;
}

/* The item left the queue: an operation is idle from here on, an APC is no more. */
static void routine_release(struct ovl_thread *thread, struct routine_item *item) {
        if (item->is_apc)
                apc_free(thread->session, routine_apc(item));
        else
                completion_private(routine_overlapped(item))->state = COMPLETION_IDLE;
}

void routine_drop_all(struct ovl_thread *thread) {
        struct routine_item *item;

        while ((item = thread->first_routine)) {
                routine_take(thread, item, NULL);
                routine_release(thread, item);
        }
}

void routine_drop_function(struct ovl_thread *thread, uint64_t function) {
        struct routine_item *item = thread->first_routine, *previous = NULL, *next;

        for (; item; item = next) {
                next = item->next;
                if (!item->is_apc || !routine_apc(item)->is_remote || routine_apc(item)->number != function) {
                        previous = item;
                        continue;
                }
                routine_take(thread, item, previous);
                routine_release(thread, item);
        }
}

/* Runs the completion routine of an operation; those of its socket stay queued meanwhile. */
static void routine_run(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        const struct completion_private *private = completion_private(overlapped);
        struct thread_running running = { .outer = thread->running, .socket = private->routine.item.socket };

        thread->running = &running;
        /* From here on the structure is the program's again. */
        private->routine.routine(thread, overlapped);
        thread->running = running.outer;
}

void routine_run_all(struct ovl_thread *thread) {
        for (;;) {
                struct ovl_overlapped *overlapped = NULL;
                struct routine_item *item, *previous;
                struct apc apc = { 0 };

                session_lock(thread->session);
                item = routine_find(thread, &previous);
                if (item) {
                        routine_take(thread, item, previous);
                        if (item->is_apc)
                                apc = *routine_apc(item);
                        else
                                overlapped = routine_overlapped(item);
                        routine_release(thread, item);
                }
                session_unlock(thread->session);
                if (!item)
                        return;
                if (overlapped)
                        routine_run(thread, overlapped);
                else
                        apc.function(thread, apc.argument);
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
        thread->has_news = false;
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

        if (!overlapped)
                return error_set(&thread->error, -EINVAL, 0, "ovl_wait: no overlapped structure");
        post_flush(thread, "ovl_wait");
        /* Who only looks is not in a wait. */
        alertable = alertable && timeout_ns > 0;
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
