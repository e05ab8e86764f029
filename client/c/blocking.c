/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Synchronous calls: posting calls without an overlapped structure, those on sockets that are not overlapped, and the
 * few that are nothing else. Below them is the same operation as ever, whose structure is the call's own; so it stands
 * in the socket's queues among all others.
 *
 *   posted -> over         the verdict says that it was refused or is done: nothing was waited for, and no APC runs
 *   posted -> blocked      it is pending: the thread waits alertably
 *   blocked -> blocked     routines and APCs ran: the call goes on
 *   blocked -> over        its record came
 *   blocked -> cancelled   its time is over, the socket is in non-blocking mode, or ovl_cancel_blocked()
 *   cancelled -> over      its record came, and may well say that it succeeded: then it has
 *
 * Invariants: the call returns when its operation has ended, and not before, so nothing refers to its stack any more;
 * what was moved is never answered with an error that hides it. A routine or an APC may make a synchronous call while
 * one waits: it is a wait within a wait, as any other.
 *
 * Rejected: timeouts in the daemon (each entry would carry one, and the worker keep a clock for it, for what a wait
 * here has anyway); a cancel from the thread that wants the call's end (its connection may be ahead of the entry: the
 * thread that waits cancels by itself, behind what it posted).
 */

#include "client/c/blocking.h"

#include <errno.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "client/c/association.h"
#include "client/c/error.h"
#include "client/c/overlap.h"
#include "client/c/routine.h"
#include "client/c/session.h"
#include "client/c/socket.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/layout.h"

uint64_t blocking_timeout(const struct manner *manner, const struct ovl_entry *entry) {
        switch (entry->op) {
        case OVL_OP_POLL:
        case OVL_OP_RESOLVE:
                return OVL_INFINITE;
        case OVL_OP_RECV:
        case OVL_OP_RECVFROM:
        case OVL_OP_RECVMSG:
        case OVL_OP_ACCEPT:
                return manner->is_nonblocking ? 0 : manner->recv_timeout_ns;
        case OVL_OP_SEND:
        case OVL_OP_SENDTO:
        case OVL_OP_SENDMSG:
        case OVL_OP_CONNECT:
        case OVL_OP_CONNECT_NAME:
        case OVL_OP_TRANSMIT_FILE:
        case OVL_OP_TRANSMIT_PACKETS:
                return manner->is_nonblocking ? 0 : manner->send_timeout_ns;
        case OVL_OP_IOCTL:
                /* Questions are answered soon; only a change may never come. */
                if (entry->other != OVL_IOCTL_ADDRESS_LIST_CHANGE && entry->other != OVL_IOCTL_ROUTING_INTERFACE_CHANGE)
                        return OVL_INFINITE;
                return manner->is_nonblocking ? 0 : OVL_INFINITE;
        default:
                return manner->is_nonblocking ? 0 : OVL_INFINITE;
        }
}

/* Waits until something is to be done. Returns 0 (it has ended), OVL_ALERTED, -ETIMEDOUT or -ECANCELED. */
static int blocking_wait(struct wait *wait, const struct blocking *blocking, const struct ovl_overlapped *overlapped,
                         uint64_t deadline) {
        int r = 0;

        for (;;) {
                if (ovl_result(overlapped) != -EINPROGRESS)
                        return 0;
                if (routine_is_ready(wait->thread))
                        return OVL_ALERTED;
                if (blocking->is_cancelled)
                        return -ECANCELED;
                if (r < 0)
                        return r;
                r = wait_round(wait, deadline);
        }
}

static int blocking_round(struct ovl_thread *thread, const struct blocking *blocking,
                          const struct ovl_overlapped *overlapped, uint64_t deadline) {
        struct wait wait = { .thread = thread };
        int r;

        session_lock(thread->session);
        wait_begin(&wait);
        r = blocking_wait(&wait, blocking, overlapped, deadline);
        wait_end(&wait);
        session_unlock(thread->session);
        return r;
}

static void blocking_change(struct ovl_thread *thread, struct blocking *blocking) {
        session_lock(thread->session);
        thread->blocking = blocking;
        session_unlock(thread->session);
}

int blocking_await(struct ovl_thread *thread, uint64_t socket, struct ovl_overlapped *overlapped, uint64_t timeout_ns) {
        struct blocking blocking = { .outer = thread->blocking };
        uint64_t deadline = wait_deadline(timeout_ns);
        int r = -ETIMEDOUT;

        if (timeout_ns > 0) {
                blocking_change(thread, &blocking);
                while ((r = blocking_round(thread, &blocking, overlapped, deadline)) == OVL_ALERTED)
                        routine_run_all(thread);
                blocking_change(thread, blocking.outer);
        }
        if (r < 0) {
                ovl_cancel(thread, socket, overlapped);
                /* Whatever came of that: the structure is free. */
                ovl_wait(thread, overlapped, OVL_INFINITE, 0);
        }
        return r;
}

OVL_API int ovl_cancel_blocked(struct ovl_thread *thread) {
        int r = -ENOENT;

        session_lock(thread->session);
        if (thread->blocking) {
                thread->blocking->is_cancelled = true;
                wait_signal(thread, NULL);
                r = 0;
        }
        session_unlock(thread->session);
        return r;
}

/* --- The manner of a socket ------------------------------------------------------------------------------------- */

/* Changes how synchronous calls on a socket go, if there is such a socket. */
static int blocking_set(struct ovl_thread *thread, uint64_t socket, const char *call,
                        void (*change)(struct manner *manner, const struct manner *wanted),
                        const struct manner *wanted) {
        _cleanup_free_ struct association *new_association = NULL;
        struct association_table *table = &thread->session->associations;
        int r;

        new_association = association_new(socket);
        if (!new_association)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", call);
        r = socket_probe(thread, socket, call);
        if (r < 0)
                return r;
        session_lock(thread->session);
        change(&association_obtain(table, &new_association)->manner, wanted);
        session_unlock(thread->session);
        return 0;
}

static void blocking_set_timeouts(struct manner *manner, const struct manner *wanted) {
        manner->recv_timeout_ns = wanted->recv_timeout_ns;
        manner->send_timeout_ns = wanted->send_timeout_ns;
}

static void blocking_set_mode(struct manner *manner, const struct manner *wanted) {
        manner->is_nonblocking = wanted->is_nonblocking;
}

OVL_API int ovl_set_timeouts(struct ovl_thread *thread, uint64_t socket, uint64_t recv_ns, uint64_t send_ns) {
        struct manner wanted = { .recv_timeout_ns = recv_ns, .send_timeout_ns = send_ns };

        return blocking_set(thread, socket, "ovl_set_timeouts", blocking_set_timeouts, &wanted);
}

OVL_API int ovl_set_nonblocking(struct ovl_thread *thread, uint64_t socket, int is_nonblocking) {
        struct manner wanted = { .is_nonblocking = is_nonblocking };

        return blocking_set(thread, socket, "ovl_set_nonblocking", blocking_set_mode, &wanted);
}
