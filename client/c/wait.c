/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a thread waits. It polls its own wake descriptor always, and besides the channels on which what it waits for may
 * come, as far as no other thread polls them already: the first to come leads a channel, later ones follow. Whoever
 * takes something in that concerns another thread makes that thread's wake descriptor readable.
 *
 * Invariants:
 * - A wake-up cannot be lost: the signal is a readable descriptor, which stays so until the thread has polled it, and
 *   what it announces was changed under the lock before.
 * - While a thread waits, each channel that it wants is led by some wait, or a signal is on its way to one that wants
 *   it: who leaves offers what it led to the others (wait_offer), and one that leaves with such a signal passes it on.
 * - No lock is held in poll.
 *
 *   none -> leader       wait_round(), when nobody leads; or when the channel is the thread's own; or, for the channel
 *                        of a port, when this thread came to wait later than the one who leads (it is served first)
 *   leader -> none       wait_end(), or another wait took the lead; or wait_round(), when the channel is not wanted
 *                        any more
 *
 * What comes into a lane makes no descriptor readable: a wait looks at the lanes of its channels for a while, as long
 * as that pays, then has the daemon ring, looks once more, and only then polls (wait_sleep).
 *
 * The lead is advice that spares wake-ups; correctness does not rest on it: reading is serialised in
 * conduit-receive.c, and two threads that poll the same descriptor are merely both woken.
 *
 * Rejected: condition variables (a thread that polls cannot wait for one), and a wait that always polls all channels
 * (each record would wake every waiting thread).
 */

#include "client/c/wait.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "client/c/conduit.h"
#include "client/c/event.h"
#include "client/c/lane.h"
#include "client/c/overlap.h"
#include "client/c/port.h"
#include "client/c/session.h"
#include "client/c/thread.h"

#define WAIT_SPINS 64u /* looks between two looks at the clock */

static inline void wait_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
}

/* --- Signals ---------------------------------------------------------------------------------------------------- */

void wait_signal(struct ovl_thread *thread, const struct ovl_thread *by) {
        static const uint64_t one = 1;
        ssize_t n;

        if (thread == by || thread->is_signalled)
                return;
        __atomic_store_n(&thread->is_signalled, true, __ATOMIC_RELAXED);
        /* An eventfd that holds nothing takes a one: this cannot fail, and not block. */
        do {
                n = write(thread->wake_fd, &one, sizeof(one));
        } while (n < 0 && errno == EINTR);
}

void wait_clear(struct ovl_thread *thread) {
        uint64_t value;
        ssize_t n;

        if (!thread->is_signalled)
                return;
        do {
                n = read(thread->wake_fd, &value, sizeof(value));
        } while (n < 0 && errno == EINTR);
        __atomic_store_n(&thread->is_signalled, false, __ATOMIC_RELAXED);
}

void wait_tell(struct ovl_thread *thread) {
        if (thread->has_news && thread->conduit->is_foreign)
                wait_signal(thread, NULL);
}

void wait_signal_all(struct ovl_session *session, const struct ovl_thread *by) {
        list_for_each(link, &session->threads)
                wait_signal(list_entry(link, struct ovl_thread, link), by);
}

void wait_signal_ended(struct ovl_session *session, const struct ovl_overlapped *overlapped,
                       const struct ovl_thread *by) {
        list_for_each(link, &session->waits) {
                struct wait *wait = list_entry(link, struct wait, link);

                if (wait->overlapped == overlapped)
                        wait_signal(wait->thread, by);
        }
}

/* --- Who watches what ------------------------------------------------------------------------------------------- */

static bool wait_wants(const struct wait *wait, const struct conduit *conduit) {
        if (conduit->is_closed || !conduit->is_attached)
                return false;
        if (wait->wants_all || conduit->thread == wait->thread || conduit == wait->other)
                return true;
        for (size_t i = 0; i < wait->n_events; i++)
                if (event_comes_by(wait->events[i], conduit))
                        return true;
        if (conduit->port)
                return conduit->port == wait->port ? port_has_room(wait->port) : wait->wants_ports;
        return conduit_brings_strays(conduit) && (wait->port || wait->wants_ports);
}

/* Whether an event of the wait may be set by what comes on channels that are not the thread's own. */
static bool wait_has_foreign_events(const struct wait *wait) {
        for (size_t i = 0; i < wait->n_events; i++)
                if (event_is_foreign(wait->events[i], wait->thread))
                        return true;
        return false;
}

void wait_offer(struct conduit *conduit, const struct ovl_thread *by) {
        if (conduit->leader || conduit->is_closed)
                return;
        list_for_each(link, &conduit->session->waits) {
                struct wait *wait = list_entry(link, struct wait, link);

                if (wait->thread != by && wait_wants(wait, conduit)) {
                        wait->is_offered = true;
                        wait_signal(wait->thread, by);
                        return;
                }
        }
}

static bool wait_may_lead(const struct wait *wait, const struct conduit *conduit) {
        const struct wait *leader = conduit->leader;

        if (!leader || conduit->thread == wait->thread)
                return true;
        return conduit->port && conduit->port == wait->port && conduit->port == leader->port &&
               wait->serial > leader->serial;
}

/* Makes room for more. A session has as many channels as it has threads and ports. Returns whether it did. */
static bool wait_grow(struct wait *wait) {
        size_t n = 4 * wait->n_leads_held;
        struct conduit **leads;
        struct pollfd *polls;

        leads = calloc(n, sizeof(*leads));
        polls = calloc(n + 1, sizeof(*polls));
        if (!leads || !polls) {
                free(leads);
                free(polls);
                return false;
        }
        memcpy(leads, wait->leads, wait->n_leads * sizeof(*leads));
        if (wait->leads != wait->leads_few) {
                free(wait->leads);
                free(wait->polls);
        }
        wait->leads = leads;
        wait->polls = polls;
        wait->n_leads_held = n;
        return true;
}

static void wait_lead(struct wait *wait, struct conduit *conduit) {
        if (conduit->leader == wait || !wait_wants(wait, conduit) || !wait_may_lead(wait, conduit))
                return;
        /* Without memory it is not led by this wait: others may, and the thread that it belongs to does. */
        if (wait->n_leads == wait->n_leads_held && !wait_grow(wait))
                return;
        conduit->leader = wait;
        wait->leads[wait->n_leads++] = conduit_ref(conduit);
}

static void wait_lead_wanted(struct wait *wait) {
        struct ovl_session *session = wait->thread->session;

        wait_lead(wait, wait->thread->conduit);
        if (wait->other)
                wait_lead(wait, wait->other);
        if (wait->port)
                wait_lead(wait, wait->port->conduit);
        if (wait->port || wait->wants_ports)
                wait_lead(wait, session->first);
        if (!wait->wants_ports && !wait->wants_all && !wait_has_foreign_events(wait))
                return;
        list_for_each(link, &session->conduits)
                wait_lead(wait, list_entry(link, struct conduit, link));
}

static void wait_unlead(struct wait *wait, struct conduit *conduit) {
        if (conduit->leader == wait) {
                conduit->leader = NULL;
                wait_offer(conduit, wait->thread);
        }
        conduit_unref(conduit);
}

/* Lets go what another wait has taken over, and what this one wants no more. */
static void wait_unlead_unwanted(struct wait *wait) {
        size_t n = 0;

        for (size_t i = 0; i < wait->n_leads; i++) {
                struct conduit *conduit = wait->leads[i];

                if (conduit->leader == wait && wait_wants(wait, conduit))
                        wait->leads[n++] = conduit;
                else
                        wait_unlead(wait, conduit);
        }
        wait->n_leads = n;
}

static void wait_unlead_all(struct wait *wait) {
        while (wait->n_leads > 0)
                wait_unlead(wait, wait->leads[--wait->n_leads]);
        if (!wait->is_offered)
                return;
        list_for_each(link, &wait->thread->session->conduits)
                wait_offer(list_entry(link, struct conduit, link), wait->thread);
}

/* --- Waiting ---------------------------------------------------------------------------------------------------- */

uint64_t wait_deadline(uint64_t timeout_ns) {
        uint64_t now;

        if (timeout_ns == OVL_INFINITE)
                return OVL_INFINITE;
        now = now_ns();
        return timeout_ns < OVL_INFINITE - now ? now + timeout_ns : OVL_INFINITE;
}

void wait_begin(struct wait *wait) {
        struct ovl_session *session = wait->thread->session;

        /* What it announced is seen now: the caller looks after this. */
        wait_clear(wait->thread);
        wait->serial = ++session->n_waits;
        wait->leads = wait->leads_few;
        wait->polls = wait->polls_few;
        wait->n_leads_held = WAIT_LEADS_FEW;
        list_init(&wait->waiters);
        list_push_front(&session->waits, &wait->link);
        wait->thread->wait = wait;
        if (wait->other)
                conduit_ref(wait->other);
}

void wait_end(struct wait *wait) {
        wait->thread->wait = NULL;
        list_unlink(&wait->link);
        wait_unlead_all(wait);
        if (wait->leads != wait->leads_few) {
                free(wait->leads);
                free(wait->polls);
        }
        wait->other = conduit_unref(wait->other);
        wait_tell(wait->thread);
}

/* Polls. Returns the number of descriptors with events, 0 also after a signal, or -ETIMEDOUT. */
static int wait_poll(struct pollfd *polls, size_t n_polls, uint64_t deadline_ns) {
        struct timespec timeout;
        uint64_t left = 0, now;
        int n;

        if (deadline_ns != OVL_INFINITE) {
                now = now_ns();
                if (now >= deadline_ns)
                        return -ETIMEDOUT;
                left = deadline_ns - now;
                timeout.tv_sec = (time_t) (left / NS_PER_S);
                timeout.tv_nsec = (long) (left % NS_PER_S);
        }
        n = ppoll(polls, n_polls, deadline_ns == OVL_INFINITE ? NULL : &timeout, NULL);
        if (n < 0)
                return 0;
        return n == 0 ? -ETIMEDOUT : n;
}

/* Reads all led channels without waiting. Without the lock. */
static void wait_look(struct wait *wait) {
        for (size_t i = 0; i < wait->n_leads; i++)
                conduit_look(wait->leads[i], wait->thread);
}

static bool wait_has_lane(const struct wait *wait) {
        for (size_t i = 0; i < wait->n_leads; i++)
                if (wait->leads[i]->lane)
                        return true;
        return false;
}

/* Whether something is in a lane, or somebody has signalled. */
static bool wait_has_news(const struct wait *wait) {
        for (size_t i = 0; i < wait->n_leads; i++)
                if (wait->leads[i]->lane && lane_has_news(wait->leads[i]->lane))
                        return true;
        return __atomic_load_n(&wait->thread->is_signalled, __ATOMIC_RELAXED);
}

/* Looks for a while, as long as that has paid lately. Returns whether something is there. Without the lock. */
static bool wait_spin(struct wait *wait, uint64_t deadline_ns) {
        struct polling *polling = &wait->thread->polling;
        uint64_t now = now_ns();

        while (now < deadline_ns && polling_looks(polling, now)) {
                for (unsigned i = 0; i < WAIT_SPINS; i++) {
                        if (wait_has_news(wait)) {
                                polling_found(polling);
                                return true;
                        }
                        wait_relax();
                }
                now = now_ns();
        }
        return false;
}

/* Has the daemon ring for what comes into the lanes. Returns false when something has come. Under the lock. */
static bool wait_fall_asleep(struct wait *wait) {
        bool is_quiet = true;

        for (size_t i = 0; i < wait->n_leads; i++)
                is_quiet = conduit_fall_asleep(wait->leads[i]) && is_quiet;
        return is_quiet;
}

static void wait_awaken(struct wait *wait) {
        for (size_t i = 0; i < wait->n_leads; i++)
                conduit_awaken(wait->leads[i]);
}

/*
 * Polls until something happens. What is in a lane makes no descriptor readable unless the daemon was told that it
 * must: so it is looked for between telling and polling. Returns as wait_poll(). Without the lock.
 */
static int wait_sleep(struct wait *wait, uint64_t deadline_ns) {
        struct ovl_session *session = wait->thread->session;
        uint64_t since;
        bool is_quiet;
        int n = 0;

        if (wait_has_lane(wait)) {
                if (wait->thread->polling.limit_ns > 0 && wait_spin(wait, deadline_ns)) {
                        wait_look(wait);
                        return 0;
                }
                since = now_ns();
                session_lock(session);
                is_quiet = wait_fall_asleep(wait);
                session_unlock(session);
                if (is_quiet)
                        n = wait_poll(wait->polls, wait->n_leads + 1, deadline_ns);
                else if (since >= deadline_ns)
                        n = -ETIMEDOUT;
                session_lock(session);
                wait_awaken(wait);
                session_unlock(session);
                polling_slept(&wait->thread->polling, now_ns() - since);
                wait_look(wait);
        } else {
                n = wait_poll(wait->polls, wait->n_leads + 1, deadline_ns);
        }
        for (size_t i = 0; n > 0 && i < wait->n_leads; i++)
                if (wait->polls[i + 1].revents & (POLLIN | POLLHUP | POLLERR))
                        conduit_take_in(wait->leads[i], wait->thread);
        return n;
}

int wait_round(struct wait *wait, uint64_t deadline_ns) {
        struct ovl_thread *thread = wait->thread;
        struct ovl_session *session = thread->session;
        bool is_paused;
        int n;

        wait->is_offered = false;
        wait_unlead_unwanted(wait);
        wait_lead_wanted(wait);
        if (!wait->has_looked) {
                /* A busy program finds its records here and is spared the poll. */
                wait->has_looked = true;
                session_unlock(session);
                wait_look(wait);
                session_lock(session);
                return 0;
        }
        wait->polls[0] = (struct pollfd){ .fd = thread->wake_fd, .events = POLLIN };
        for (size_t i = 0; i < wait->n_leads; i++) {
                struct conduit *conduit = wait->leads[i];
                bool is_output = wait->wants_output && conduit == thread->conduit;

                wait->polls[i + 1] =
                        (struct pollfd){ .fd = conduit->fd, .events = (short) (POLLIN | (is_output ? POLLOUT : 0)) };
        }
        is_paused = port_pause(thread);
        session_unlock(session);
        n = wait_sleep(wait, deadline_ns);
        session_lock(session);
        if (is_paused)
                port_resume(thread);
        /* However it was heard of: what it announced is seen now. */
        wait_clear(thread);
        return n < 0 ? n : 0;
}
