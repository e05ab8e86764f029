/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Threads: who posts operations and gets their completions. The number that the daemon puts into records names one; its
 * channel carries them.
 *
 *   open -> closing   ovl_thread_close(): routines and APCs are dropped; operations are cancelled socket by socket,
 *                     except those that have no event and will go to a port, and their records awaited
 *   closing -> freed  the channel is closed. The first thread's channel stays, because it is the session's (session.c):
 *                     the next thread that is opened gets it, and the number with it
 *
 * Invariant: when a thread has been freed nothing refers to it, and every overlapped structure that it posted is free
 * or belongs to an operation that will go to a port.
 *
 * Rejected: finding the calling thread by itself (thread-local state is process-wide state).
 */

#include "client/c/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/c/apc.h"
#include "client/c/association.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/lane.h"
#include "client/c/pending.h"
#include "client/c/port.h"
#include "client/c/post-frame.h"
#include "client/c/request.h"
#include "client/c/routine.h"
#include "client/c/session.h"
#include "client/c/wait.h"

int thread_gone(struct ovl_thread *thread, const char *call) {
        int r;

        session_lock(thread->session);
        r = session_gone(thread->session, &thread->error, call);
        session_unlock(thread->session);
        return r;
}

/* Waits until the channel takes bytes. Meanwhile all channels are read: the daemon may be waiting for just that. */
static void thread_wait_output(struct ovl_thread *thread) {
        struct wait wait = { .thread = thread, .wants_all = true, .wants_output = true, .has_looked = true };

        session_lock(thread->session);
        wait_begin(&wait);
        if (!thread->session->is_gone)
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        session_unlock(thread->session);
}

int thread_send(struct ovl_thread *thread, const void *bytes, size_t len, int with_fd, const char *call) {
        size_t sent = 0;
        ssize_t n = 0;

        conduit_begin_sending(thread->conduit);
        while (sent < len && (n >= 0 || n == -EAGAIN)) {
                n = conduit_send(thread->conduit, (const uint8_t *) bytes + sent, len - sent, sent ? -1 : with_fd,
                                 thread);
                if (n == -EAGAIN)
                        thread_wait_output(thread);
                else if (n > 0)
                        sent += (size_t) n;
        }
        conduit_end_sending(thread->conduit, thread);
        if (sent == len)
                return 0;
        if (sent == 0 && conduit_refuses_fd(with_fd, n))
                return error_set(&thread->error, (int) n, 0, "%s: descriptor %d cannot be passed to overlapd: %s", call,
                                 with_fd, strerrordesc_np((int) -n));
        return thread_gone(thread, call);
}

/* --- Opening ---------------------------------------------------------------------------------------------------- */

static struct ovl_thread *thread_free(struct ovl_thread *thread) {
        if (!thread)
                return NULL;
        fd_close(thread->poll_fd);
        fd_close(thread->wake_fd);
        free(thread->payload);
        free(thread);
        return NULL;
}
DEFINE_CLEANUP(struct ovl_thread *, thread_free)

static int thread_new(struct ovl_session *session, struct ovl_thread **ret_thread) {
        _cleanup_(thread_free) struct ovl_thread *thread = NULL;

        thread = calloc(1, sizeof(*thread));
        if (!thread)
                return -ENOMEM;
        list_init(&thread->link);
        list_init(&thread->handles);
        message_arena_init(&thread->arena);
        thread->session = session;
        thread->owner = pthread_self();
        thread->poll_fd = -1;
        thread->polling.limit_ns = session->poll_ns;
        if (session->info.level == 0) {
                thread->payload = malloc(OVL_FRAME_POST_MAX);
                if (!thread->payload)
                        return -ENOMEM;
        }
        thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (thread->wake_fd < 0)
                return -errno;
        thread->poll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (thread->poll_fd < 0)
                return -errno;
        *ret_thread = take_ptr(thread);
        return 0;
}

static int thread_attach(struct ovl_thread *thread, struct ovl_error *error) {
        struct ovl_session *session = thread->session;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;
        struct conduit *conduit;
        Overlapd__Reply *reply;
        int r;

        attach.session = session->info.session;
        attach.secret = (ProtobufCBinaryData){ .len = session->secret_len, .data = session->secret };
        attach.what_case = OVERLAPD__ATTACH__WHAT_THREAD;
        attach.thread = thread->number;
        attach.tid = (uint32_t) gettid();
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = &attach;
        r = conduit_open(session, &request, &thread->arena, error, &conduit, &reply);
        if (r < 0)
                return r;
        r = conduit_add_lane(conduit, session_slots(session), &thread->arena, error);
        if (r < 0) {
                session_lock(session);
                conduit_unref(conduit);
                session_unlock(session);
                return r;
        }
        thread->conduit = conduit;
        session_lock(session);
        thread->conduit->thread = thread;
        thread->conduit->number = thread->number;
        conduit_attach(thread->conduit);
        session_unlock(session);
        return 0;
}

/* Gives the thread a channel: the session's first when nobody has it, or else one of its own. */
static int thread_connect(struct ovl_thread *thread, struct ovl_error *error) {
        struct ovl_session *session = thread->session;
        int r = 0;

        session_lock(session);
        if (session->is_gone) {
                r = session_gone(session, error, "ovl_thread_open");
        } else if (!session->first->thread) {
                session->first->thread = thread;
                thread->conduit = conduit_ref(session->first);
                thread->number = session->first->number;
        } else {
                thread->number = session_number(session);
        }
        session_unlock(session);
        if (r < 0 || thread->conduit)
                return r;
        return thread_attach(thread, error);
}

/* Gives the channel up. */
static void thread_disconnect(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        struct conduit *conduit = thread->conduit;
        bool is_first;

        session_lock(session);
        list_unlink(&thread->link);
        conduit->thread = NULL;
        is_first = conduit == session->first;
        if (is_first) {
                /* The next thread that gets the channel may be one that waits in the library alone. */
                __atomic_store_n(&conduit->is_foreign, false, __ATOMIC_RELAXED);
                if (conduit->lane && conduit->n_asleep == 0)
                        lane_awaken(conduit->lane);
                conduit_unref(conduit);
                wait_signal_all(session, thread);
        }
        session_unlock(session);
        if (!is_first)
                conduit_close(conduit, NULL);
        thread->conduit = NULL;
}

static int thread_watch(struct ovl_thread *thread) {
        struct epoll_event event = { .events = EPOLLIN };
        int r;

        r = epoll_ctl(thread->poll_fd, EPOLL_CTL_ADD, thread->wake_fd, &event);
        if (r < 0)
                return -errno;
        r = epoll_ctl(thread->poll_fd, EPOLL_CTL_ADD, thread->conduit->fd, &event);
        return r < 0 ? -errno : 0;
}

OVL_API int ovl_thread_open(struct ovl_session *session, struct ovl_thread **ret_thread, struct ovl_error *ret_error) {
        _cleanup_(thread_free) struct ovl_thread *thread = NULL;
        int r;

        r = thread_new(session, &thread);
        if (r < 0)
                return error_set(ret_error, r, 0, "ovl_thread_open: %s", strerrordesc_np(-r));
        r = thread_connect(thread, ret_error);
        if (r < 0)
                return r;
        r = thread_watch(thread);
        if (r < 0) {
                thread_disconnect(thread);
                return error_set(ret_error, r, 0, "ovl_thread_open: cannot watch the connection: %s",
                                 strerrordesc_np(-r));
        }
        session_lock(session);
        list_push_back(&session->threads, &thread->link);
        session_unlock(session);
        *ret_thread = take_ptr(thread);
        return 0;
}

/* --- Closing ---------------------------------------------------------------------------------------------------- */

/* Whether an operation ends with the thread that posted it. */
static bool thread_ends(const struct ovl_thread *thread, const struct pending *pending) {
        const struct association *association;

        if (pending->thread != thread)
                return false;
        if (pending->indication != OVL_INDICATE_PLAIN || pending->event)
                return true;
        association = association_find(&thread->session->associations, pending->socket);
        return !association || !association->port;
}

/* Finds the next operation that is to be cancelled, and notes that it and those like it are. Under the lock. */
static bool thread_next_cancel(struct ovl_thread *thread, Overlapd__Cancel *cancel) {
        struct pending_table *table = &thread->session->pending;
        const struct pending *found = NULL;
        struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(table, &index))) {
                if (pending->is_cancelled || !thread_ends(thread, pending))
                        continue;
                if (found && (found->socket != pending->socket || cancel->which_case != OVERLAPD__CANCEL__WHICH_THREAD))
                        continue;
                pending->is_cancelled = true;
                if (found)
                        continue;
                found = pending;
                cancel->socket = pending->socket;
                if (pending->is_orphan)
                        cancel->socket = 0;
                if (cancel->socket == 0 || association_find(&thread->session->associations, pending->socket)) {
                        /* Others of this thread on this socket may go to the port, and live on. 0 means all sockets. */
                        cancel->which_case = OVERLAPD__CANCEL__WHICH_TAG;
                        cancel->tag = pending->tag;
                } else {
                        cancel->which_case = OVERLAPD__CANCEL__WHICH_THREAD;
                        cancel->thread = thread->number;
                }
        }
        return found;
}

/*
 * The socket is not known any more: it was closed here, and what is still in flight goes on because others hold it. The
 * daemon finds it by its tag.
 */
static void thread_adopt_orphans(struct ovl_thread *thread, uint64_t socket) {
        struct pending *pending;
        uint32_t index = 0;

        session_lock(thread->session);
        while ((pending = pending_next(&thread->session->pending, &index))) {
                if (pending->thread != thread || pending->socket != socket || pending->is_orphan)
                        continue;
                pending->is_orphan = true;
                pending->is_cancelled = false;
        }
        session_unlock(thread->session);
}

/* Asks for the end of all operations that end with the thread. What is already over is no error. */
static void thread_cancel(struct ovl_thread *thread) {
        bool found = true;
        int r;

        while (found) {
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;
                Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
                Overlapd__Reply *reply;

                session_lock(thread->session);
                found = thread_next_cancel(thread, &cancel);
                session_unlock(thread->session);
                if (!found)
                        break;
                request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
                request.cancel = &cancel;
                r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_CANCEL, "ovl_thread_close", &reply);
                if (r == -EBADF && cancel.socket != 0)
                        thread_adopt_orphans(thread, cancel.socket);
        }
}

static bool thread_has_pending(const struct ovl_thread *thread) {
        const struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(&thread->session->pending, &index)))
                if (thread_ends(thread, pending))
                        return true;
        return false;
}

/* Waits until all operations have ended that end with the thread; the others are from now on nobody's. */
static void thread_wait_ended(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .wants_ports = true };
        struct pending *pending;
        uint32_t index = 0;

        session_lock(session);
        wait_begin(&wait);
        while (!session->is_gone && thread_has_pending(thread))
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        while ((pending = pending_next(&session->pending, &index))) {
                if (pending->thread != thread)
                        continue;
                pending->thread = NULL;
                pending_stray(&session->pending, pending);
        }
        if (session->pending.n_strays > 0)
                wait_signal_all(session, thread);
        session_unlock(session);
}

OVL_API struct ovl_thread *ovl_thread_close(struct ovl_thread *thread) {
        if (!thread)
                return NULL;
        post_flush(thread, "ovl_thread_close");
        session_lock(thread->session);
        thread->is_closing = true;
        routine_drop_all(thread);
        port_leave(thread);
        session_unlock(thread->session);
        thread_cancel(thread);
        thread_wait_ended(thread);
        apc_close_handles(thread);
        thread_disconnect(thread);
        return thread_free(thread);
}

/* --- What a thread can tell ------------------------------------------------------------------------------------- */

OVL_API const struct ovl_error *ovl_thread_error(const struct ovl_thread *thread) {
        return &thread->error;
}

OVL_API uint64_t ovl_thread_number(const struct ovl_thread *thread) {
        return thread->number;
}

/*
 * A foreign loop may sleep at any time, and the library is not told: from now on the daemon rings the bell whenever it
 * puts something into the lane and what it rang for before has been taken. What is there already rings for itself.
 */
OVL_API int ovl_thread_fd(const struct ovl_thread *thread) {
        struct conduit *conduit = thread->conduit;

        session_lock(thread->session);
        if (!conduit->is_foreign) {
                __atomic_store_n(&conduit->is_foreign, true, __ATOMIC_RELAXED);
                if ((conduit->lane && !lane_fall_asleep(conduit->lane)) || thread->has_news)
                        wait_signal(conduit->thread, NULL);
        }
        session_unlock(thread->session);
        return thread->poll_fd;
}

/* Takes in what there is. The connection is looked at when the lane has nothing: it may have ended. */
static size_t thread_take_in(struct conduit *conduit, struct ovl_thread *by) {
        size_t n = conduit_look(conduit, by);

        return n > 0 ? n : conduit_take_in(conduit, by);
}

OVL_API int ovl_dispatch(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        struct ovl_thread *by = pthread_equal(pthread_self(), thread->owner) ? thread : NULL;
        struct conduit *conduit;
        size_t n;
        int r = 0;

        session_lock(session);
        if (by)
                wait_clear(thread);
        conduit = conduit_ref(thread->conduit);
        session_unlock(session);
        n = thread_take_in(conduit, by);
        session_lock(session);
        conduit_unref(conduit);
        if (by)
                thread->has_news = false;
        if (session->is_gone)
                r = session_gone(session, by ? &thread->error : NULL, "ovl_dispatch");
        session_unlock(session);
        return r < 0 ? r : (int) n;
}
