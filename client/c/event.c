/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events: objects that are set or not, which operations set when they end, and for which threads wait. An event belongs
 * to a session, and its lock guards it.
 *
 *   unset -> set    ovl_event_set(), or an operation that names the event ended
 *   set -> unset    ovl_event_reset(); an operation that names it starts; or, for an event that resets itself, a wait
 * is satisfied by it or ovl_event_confirm() takes the signal
 *
 * Invariants:
 * - Whoever sets an event decides at once, under the lock, which waits are satisfied, the earliest first, and takes the
 *   signal for them: a wait is satisfied also when the event is reset before its thread is awake, an event that resets
 *   itself releases one wait, and a wait for all takes either all its signals or none. A wait for which a routine was
 *   queued first is over, and takes nothing.
 * - An operation, and a wait, keep the event: it may be closed at any time.
 * - The descriptor of an exported event is readable exactly while the event is set.
 *
 * A wait reads the channels on which the records may come that set its events. Which those are an event knows by a
 * count and the number of the thread that posted: nearly always it is the waiting thread itself.
 *
 * Rejected: an eventfd for each event (a system call for each completion), waiters that look for themselves when they
 * are woken (a set that is followed by a reset would be missed), and events without a session (each would need a lock
 * of its own, and a wait for all would have to take them all).
 */

#include "client/c/event.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/overlap.h"
#include "client/c/pending.h"
#include "client/c/post-frame.h"
#include "client/c/routine.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/layout.h"

#define EVENT_WAIT_MAX 64u /* events that one wait may name */

static struct ovl_event *event_unref(struct ovl_event *event) {
        if (--event->n_refs > 0)
                return NULL;
        fd_close(event->fd);
        free(event);
        return NULL;
}

/* --- Set and reset ---------------------------------------------------------------------------------------------- */

/* Makes the descriptor tell the state. It holds one or nothing, so that neither call blocks or fails. */
static void event_show(const struct ovl_event *event) {
        uint64_t value = 1;
        ssize_t n;

        if (event->fd < 0)
                return;
        do {
                n = event->is_set ? write(event->fd, &value, sizeof(value)) : read(event->fd, &value, sizeof(value));
        } while (n < 0 && errno == EINTR);
}

static void event_change(struct ovl_event *event, bool is_set) {
        if (event->is_set == is_set)
                return;
        event->is_set = is_set;
        event_show(event);
}

/* A wait was satisfied by it. */
static void event_consume(struct ovl_event *event) {
        if (!event->is_manual)
                event_change(event, false);
}

static bool event_is_named(const struct ovl_event *event, const struct wait *wait) {
        for (size_t i = 0; i < wait->n_events; i++)
                if (wait->events[i] == event)
                        return true;
        return false;
}

/* Satisfies the wait if its events are set: takes all that it wants, or nothing. */
static void event_try(struct wait *wait) {
        size_t i = 0;

        while (i < wait->n_events && wait->events[i]->is_set == wait->wants_all_events)
                i++;
        if ((i == wait->n_events) != wait->wants_all_events)
                return;
        wait->outcome = WAIT_SATISFIED;
        wait->index = wait->wants_all_events ? 0 : i;
        if (!wait->wants_all_events)
                event_consume(wait->events[i]);
        for (i = 0; wait->wants_all_events && i < wait->n_events; i++)
                event_consume(wait->events[i]);
}

void event_set(struct ovl_event *event, const struct ovl_thread *by) {
        struct list *waits = &event->session->waits;

        event->generation++;
        event_change(event, true);
        if (event->n_waits == 0)
                return;
        /* The list has the latest wait first. */
        for (struct list *link = waits->previous; link != waits && event->is_set; link = link->previous) {
                struct wait *wait = list_entry(link, struct wait, link);

                if (wait->outcome != WAIT_OPEN || !event_is_named(event, wait))
                        continue;
                event_try(wait);
                if (wait->outcome != WAIT_OPEN)
                        wait_signal(wait->thread, by);
        }
}

/* --- Operations ------------------------------------------------------------------------------------------------- */

void event_start(struct ovl_event *event, const struct pending *pending) {
        event->n_refs++;
        event_change(event, false);
        if (event->n_ops++ == 0) {
                event->poster = pending->thread_number;
                event->has_posters = false;
        } else if (event->poster != pending->thread_number) {
                event->has_posters = true;
        }
        if (pending->indication == OVL_INDICATE_PLAIN)
                event->n_plain_ops++;
        if (event->n_waits == 0)
                return;
        /* Those that wait for it already have one more channel to watch. */
        list_for_each(link, &event->session->waits) {
                struct wait *wait = list_entry(link, struct wait, link);

                if (event_is_named(event, wait))
                        wait_signal(wait->thread, NULL);
        }
}

void event_end(struct ovl_event *event, const struct pending *pending) {
        event->n_ops--;
        if (pending->indication == OVL_INDICATE_PLAIN)
                event->n_plain_ops--;
        event_unref(event);
}

bool event_comes_by(const struct ovl_event *event, const struct conduit *conduit) {
        if (event->n_ops == 0)
                return false;
        /* What goes to a port comes on its channel, or on the first one if the port or the thread was closed. */
        if (event->n_plain_ops > 0 && (conduit->port || conduit_brings_strays(conduit)))
                return true;
        if (conduit->port || !conduit->thread)
                return false;
        return event->has_posters || conduit->number == event->poster;
}

bool event_is_foreign(const struct ovl_event *event, const struct ovl_thread *thread) {
        const struct ovl_session *session = thread->session;

        if (event->n_ops == 0)
                return false;
        return event->has_posters || event->poster != thread->number ||
               (event->n_plain_ops > 0 && (!list_is_empty(&session->ports) || session->pending.n_strays > 0));
}

/* --- The program's side ----------------------------------------------------------------------------------------- */

OVL_API int ovl_event_open(struct ovl_session *session, unsigned flags, struct ovl_event **ret_event) {
        struct ovl_event *event;

        if (flags & ~(unsigned) (OVL_EVENT_MANUAL | OVL_EVENT_SET))
                return -EINVAL;
        event = calloc(1, sizeof(*event));
        if (!event)
                return -ENOMEM;
        event->session = session;
        event->is_manual = flags & OVL_EVENT_MANUAL;
        event->is_set = flags & OVL_EVENT_SET;
        event->generation = event->is_set ? 1 : 0;
        event->n_refs = 1;
        event->fd = -1;
        *ret_event = event;
        return 0;
}

OVL_API struct ovl_event *ovl_event_close(struct ovl_event *event) {
        struct ovl_session *session;

        if (!event)
                return NULL;
        session = event->session;
        session_lock(session);
        event_unref(event);
        session_unlock(session);
        return NULL;
}

OVL_API void ovl_event_set(struct ovl_event *event) {
        session_lock(event->session);
        event_set(event, NULL);
        session_unlock(event->session);
}

OVL_API void ovl_event_reset(struct ovl_event *event) {
        session_lock(event->session);
        event_change(event, false);
        session_unlock(event->session);
}

OVL_API int ovl_event_poll(struct ovl_event *event, uint64_t *ret_generation) {
        bool is_set;

        session_lock(event->session);
        is_set = event->is_set;
        if (ret_generation)
                *ret_generation = event->generation;
        session_unlock(event->session);
        return is_set;
}

OVL_API int ovl_event_export(struct ovl_event *event) {
        int r = 0;

        session_lock(event->session);
        if (event->fd < 0) {
                event->fd = eventfd(event->is_set ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
                r = event->fd < 0 ? -errno : 0;
        }
        if (r == 0)
                r = event->fd;
        session_unlock(event->session);
        return r;
}

OVL_API int ovl_event_confirm(struct ovl_event *event, uint64_t generation) {
        bool is_current;

        session_lock(event->session);
        is_current = event->is_set && event->generation == generation;
        if (is_current)
                event_change(event, false);
        session_unlock(event->session);
        return is_current;
}

/* --- Waiting ---------------------------------------------------------------------------------------------------- */

static int event_check_wait(struct ovl_thread *thread, struct ovl_event *const *events, size_t n, bool all) {
        if (n == 0 || n > EVENT_WAIT_MAX)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_wait_events: %zu events, and a wait takes 1 to %u: wait for some of them, or let "
                                 "several operations set one event",
                                 n, EVENT_WAIT_MAX);
        for (size_t i = 0; i < n; i++) {
                if (!events[i] || events[i]->session != thread->session)
                        return error_set(&thread->error, -EINVAL, 0,
                                         "ovl_wait_events: event %zu is %s: all must be of the session of the thread",
                                         i, events[i] ? "another session's" : "NULL");
                for (size_t k = 0; all && k < i; k++)
                        if (events[k] == events[i])
                                return error_set(&thread->error, -EINVAL, 0,
                                                 "ovl_wait_events: event %zu is event %zu again: a wait for all names "
                                                 "each once",
                                                 i, k);
        }
        return 0;
}

/* Takes in what the daemon has sent to this thread, so that a routine that is due is known to be. */
static void event_look(struct ovl_thread *thread) {
        conduit_take_in(thread->conduit, thread);
        session_lock(thread->session);
        wait_tell(thread);
        session_unlock(thread->session);
}

/* Waits until the wait is decided. Under the lock. */
static int event_wait(struct wait *wait, uint64_t deadline) {
        struct ovl_thread *thread = wait->thread;
        int r = 0;

        for (;;) {
                if (wait->outcome != WAIT_OPEN)
                        return wait->outcome == WAIT_ALERTED ? OVL_ALERTED : 0;
                if (thread->session->is_gone)
                        return session_gone(thread->session, &thread->error, "ovl_wait_events");
                if (r < 0)
                        return error_set(&thread->error, r, 0, "ovl_wait_events: the events were not set in time");
                r = wait_round(wait, deadline);
        }
}

static void event_begin_wait(struct wait *wait) {
        for (size_t i = 0; i < wait->n_events; i++) {
                wait->events[i]->n_refs++;
                wait->events[i]->n_waits++;
        }
        wait_begin(wait);
}

static void event_end_wait(struct wait *wait) {
        wait_end(wait);
        for (size_t i = 0; i < wait->n_events; i++) {
                wait->events[i]->n_waits--;
                event_unref(wait->events[i]);
        }
}

OVL_API int ovl_wait_events(struct ovl_thread *thread, struct ovl_event *const *events, size_t n, int all,
                            uint64_t timeout_ns, int alertable, size_t *ret_index) {
        struct ovl_session *session = thread->session;
        struct wait wait = {
                .thread = thread,
                .events = events,
                .n_events = n,
                .wants_all_events = all,
                .is_alertable = alertable,
        };
        uint64_t deadline;
        int r;

        r = event_check_wait(thread, events, n, all);
        if (r < 0)
                return r;
        post_flush(thread, "ovl_wait_events");
        deadline = wait_deadline(timeout_ns);
        if (alertable)
                event_look(thread);
        session_lock(session);
        if (alertable && routine_is_ready(thread)) {
                r = OVL_ALERTED;
        } else {
                event_try(&wait);
                if (wait.outcome == WAIT_OPEN) {
                        event_begin_wait(&wait);
                        r = event_wait(&wait, deadline);
                        event_end_wait(&wait);
                }
        }
        session_unlock(session);
        if (r == OVL_ALERTED)
                routine_run_all(thread);
        else if (r == 0 && ret_index)
                *ret_index = wait.index;
        return r;
}
