/* SPDX-License-Identifier: Apache-2.0 */

/* Events: how they are set and reset, what waits for them take, and who reads the channels meanwhile. */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/client/fake.h"

#define EVENT_PATIENCE (20 * NS_PER_S)

struct event_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct ovl_event *events[4]; /* 0, 1: reset themselves; 2, 3: manual */
        unsigned n_ran;
        size_t n_posted;
};

static void event_start(struct event_case *c) {
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        for (size_t i = 0; i < 4; i++)
                assert_ok(ovl_event_open(c->session, i < 2 ? 0 : OVL_EVENT_MANUAL, &c->events[i]));
}

static void event_stop(struct event_case *c) {
        for (size_t i = 0; i < 4; i++)
                assert_null(ovl_event_close(c->events[i]));
        ovl_region_close(c->thread, c->region);
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
}

static int event_wait_one(struct ovl_thread *thread, struct ovl_event *event, uint64_t timeout_ns) {
        return ovl_wait_events(thread, &event, 1, 0, timeout_ns, 0, NULL);
}

static void event_post(struct event_case *c, struct ovl_thread *thread, struct ovl_event *event,
                       struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { ovl_region_data(c->region), 100 };

        overlapped->event = event;
        assert_int_equal(ovl_recv(thread, 1, &buffer, 1, 0, overlapped, NULL), OVL_PENDING);
        fake_wait_entries(&c->fake, ++c->n_posted);
}

/* --- One thread ------------------------------------------------------------------------------------------------- */

/* SEMANTICS 3.2: a manual event stays set over two waits, one that resets itself satisfies exactly one. */
static void event_kinds(void **state) {
        struct event_case c = { 0 };
        struct ovl_event *event;
        uint64_t generation;

        event_start(&c);
        assert_int_equal(ovl_event_open(c.session, 4, &event), -EINVAL);
        assert_ok(ovl_event_open(c.session, OVL_EVENT_SET, &event));
        assert_int_equal(ovl_event_poll(event, &generation), 1);
        assert_int_equal(generation, 1);
        assert_int_equal(event_wait_one(c.thread, event, 0), 0);
        assert_int_equal(event_wait_one(c.thread, event, 0), -ETIMEDOUT);
        ovl_event_close(event);
        assert_null(ovl_event_close(NULL));

        assert_int_equal(ovl_event_poll(c.events[0], NULL), 0);
        ovl_event_set(c.events[0]);
        ovl_event_set(c.events[0]);
        assert_int_equal(event_wait_one(c.thread, c.events[0], OVL_INFINITE), 0);
        assert_int_equal(event_wait_one(c.thread, c.events[0], NS_PER_MS), -ETIMEDOUT);
        assert_non_null(strstr(ovl_thread_error(c.thread)->text, "ovl_wait_events"));

        ovl_event_set(c.events[2]);
        assert_int_equal(event_wait_one(c.thread, c.events[2], OVL_INFINITE), 0);
        assert_int_equal(event_wait_one(c.thread, c.events[2], 0), 0);
        ovl_event_reset(c.events[2]);
        assert_int_equal(event_wait_one(c.thread, c.events[2], 0), -ETIMEDOUT);
        event_stop(&c);
}

/* 3.10: 1 to 64 events; of several that are set the first in the array is taken. */
static void event_arrays(void **state) {
        struct event_case c = { 0 }, other = { 0 };
        struct ovl_event *many[65], *pair[2];
        struct ovl_overlapped op = { 0 };
        struct ovl_buffer buffer;
        size_t index = 99;

        event_start(&c);
        for (size_t i = 0; i < 65; i++)
                many[i] = c.events[2];
        assert_int_equal(ovl_wait_events(c.thread, many, 0, 0, 0, 0, NULL), -EINVAL);
        assert_int_equal(ovl_wait_events(c.thread, many, 65, 0, 0, 0, NULL), -EINVAL);
        assert_int_equal(ovl_wait_events(c.thread, many, 64, 0, 0, 0, NULL), -ETIMEDOUT);
        assert_int_equal(ovl_wait_events(c.thread, many, 2, 1, 0, 0, NULL), -EINVAL);
        assert_non_null(strstr(ovl_thread_error(c.thread)->text, "event 1 is event 0 again"));
        many[3] = NULL;
        assert_int_equal(ovl_wait_events(c.thread, many, 4, 0, 0, 0, NULL), -EINVAL);

        ovl_event_set(c.events[3]);
        ovl_event_set(c.events[1]);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 4, 0, 0, 0, &index), 0);
        assert_int_equal(index, 1);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 4, 0, 0, 0, &index), 0);
        assert_int_equal(index, 3);

        /* Another session's event is none: not for a wait, and not for an operation (3.8). */
        fake_open(&c.fake, &other.session, &other.thread, 0, NULL);
        assert_ok(ovl_event_open(other.session, 0, &pair[1]));
        pair[0] = c.events[0];
        assert_int_equal(ovl_wait_events(c.thread, pair, 2, 0, 0, 0, &index), -EINVAL);
        op.event = pair[1];
        buffer = (struct ovl_buffer){ ovl_region_data(c.region), 1 };
        assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &op, NULL), -EINVAL);
        assert_int_equal(index, 3);
        ovl_event_close(pair[1]);
        ovl_thread_close(other.thread);
        ovl_session_free(other.session);
        event_stop(&c);
}

/* 3.10: a wait for all consumes nothing until all are set. */
static void event_all(void **state) {
        struct event_case c = { 0 };
        size_t index = 99;

        event_start(&c);
        ovl_event_set(c.events[0]);
        ovl_event_set(c.events[2]);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 3, 1, NS_PER_MS, 0, &index), -ETIMEDOUT);
        assert_int_equal(ovl_event_poll(c.events[0], NULL), 1);
        assert_int_equal(index, 99);
        ovl_event_set(c.events[1]);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 3, 1, OVL_INFINITE, 0, &index), 0);
        assert_int_equal(index, 0);
        assert_int_equal(ovl_event_poll(c.events[0], NULL), 0);
        assert_int_equal(ovl_event_poll(c.events[1], NULL), 0);
        assert_int_equal(ovl_event_poll(c.events[2], NULL), 1);
        event_stop(&c);
}

/* 3.1, 3.2, 2.4: reset at the start, set at the end, after the result; 6.8, 6.10: which can be asked for again. */
static void event_operations(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { 0 };

        event_start(&c);
        for (size_t i = 0; i < 4; i++) {
                ovl_event_set(c.events[i]);
                event_post(&c, c.thread, c.events[i], &op);
                assert_int_equal(ovl_event_poll(c.events[i], NULL), 0);
                assert_int_equal(event_wait_one(c.thread, c.events[i], 0), -ETIMEDOUT);
                fake_complete(&c.fake, i, 0, i + 7);
                assert_int_equal(event_wait_one(c.thread, c.events[i], EVENT_PATIENCE), 0);
                assert_int_equal(ovl_event_poll(c.events[i], NULL), i >= 2);
                for (int k = 0; k < 3; k++) {
                        assert_int_equal(ovl_result(&op), 0);
                        assert_int_equal(ovl_wait(c.thread, &op, OVL_INFINITE, 0), 0);
                }
                assert_int_equal(op.bytes, i + 7);
        }
        /* Waiting for the operation itself leaves the event alone. */
        event_post(&c, c.thread, c.events[0], &op);
        fake_complete(&c.fake, 4, -ECONNRESET, 0);
        assert_int_equal(ovl_wait(c.thread, &op, EVENT_PATIENCE, 0), 0);
        assert_int_equal(ovl_event_poll(c.events[0], NULL), 1);
        assert_int_equal(ovl_result(&op), -ECONNRESET);
        event_stop(&c);
}

/* 1.3, 3.1: what did not start does not set the event; it was reset if the operation came as far as the daemon. */
static void event_refusals(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        struct ovl_buffer buffer = { &op, 10 };
        struct ovl_record record;

        event_start(&c);
        op.event = c.events[2];
        ovl_event_set(op.event);
        assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &op, NULL), -EFAULT);
        assert_int_equal(ovl_event_poll(op.event, NULL), 1);
        /* Refused after the call: that is the operation's end, and indicated. */
        event_post(&c, c.thread, c.events[2], &op);
        record = fake_record(&c.fake, 0, -ENOTCONN, 0);
        record.flags = OVL_RECORD_REFUSED;
        fake_send_records(&c.fake, 0, &record, 1);
        assert_int_equal(event_wait_one(c.thread, op.event, EVENT_PATIENCE), 0);
        assert_int_equal(ovl_result(&op), -ENOTCONN);
        event_stop(&c);
}

static void event_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct event_case *c = overlapped->user;

        c->n_ran++;
}

/* 3.5: beside a routine the event is neither reset nor set, and need not be one. */
static void event_beside_a_routine(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { .user = &c, .event = (struct ovl_event *) (uintptr_t) 8 };
        struct ovl_buffer buffer;

        event_start(&c);
        buffer = (struct ovl_buffer){ ovl_region_data(c.region), 100 };
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &op, event_count), OVL_PENDING);
                fake_wait_entries(&c.fake, i + 1);
                fake_complete(&c.fake, i, 0, 5);
                assert_int_equal(ovl_sleep(c.thread, EVENT_PATIENCE), OVL_ALERTED);
                assert_int_equal(c.n_ran, i + 1);
                op.event = c.events[2];
                ovl_event_set(op.event);
                if (i == 1)
                        assert_int_equal(ovl_event_poll(op.event, NULL), 1);
        }
        event_stop(&c);
}

/* An event may be closed while an operation or nobody needs it; the session may be over while one is in flight. */
static void event_closed_early(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct ovl_event *event;

        event_start(&c);
        assert_ok(ovl_event_open(c.session, 0, &event));
        event_post(&c, c.thread, event, &ops[0]);
        event_post(&c, c.thread, event, &ops[1]);
        ovl_event_close(event);
        fake_complete(&c.fake, 0, 0, 1);
        assert_int_equal(ovl_wait(c.thread, &ops[0], EVENT_PATIENCE, 0), 0);
        /* 11.17: the thread ends, and with it the operation. */
        event_stop(&c);
        assert_int_equal(ovl_result(&ops[1]), -ECANCELED);
}

/* The daemon is lost: the operation has ended, its event is set; what is not set will never be. */
static void event_daemon_gone(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { 0 };

        event_start(&c);
        event_post(&c, c.thread, c.events[0], &op);
        fake_hang_up(&c.fake, 0);
        assert_int_equal(event_wait_one(c.thread, c.events[0], OVL_INFINITE), 0);
        assert_int_equal(ovl_result(&op), -ECONNABORTED);
        assert_int_equal(event_wait_one(c.thread, c.events[0], OVL_INFINITE), -ECONNABORTED);
        ovl_event_set(c.events[0]);
        assert_int_equal(event_wait_one(c.thread, c.events[0], OVL_INFINITE), 0);
        event_stop(&c);
}

/* --- Alertable waits -------------------------------------------------------------------------------------------- */

static void event_apc_count(struct ovl_thread *thread, uint64_t argument) {
        struct event_case *c = (struct event_case *) (uintptr_t) argument;

        c->n_ran++;
}

static void event_apc_set(struct ovl_thread *thread, uint64_t argument) {
        struct event_case *c = (struct event_case *) (uintptr_t) argument;

        c->n_ran++;
        ovl_event_set(c->events[0]);
}

static void event_alertable(void **state) {
        static const uint64_t timeouts[] = { OVL_INFINITE, 2 * NS_PER_MS, 0 };
        struct event_case c = { 0 };
        uint64_t argument = (uint64_t) (uintptr_t) &c;

        event_start(&c);
        /* 5.3: an APC that is pending at entry wins over an event that is set, which stays so. */
        for (size_t i = 0; i < 3; i++) {
                c.n_ran = 0;
                ovl_event_set(c.events[0]);
                assert_ok(ovl_apc_queue(c.thread, event_apc_count, argument));
                /* 5.7: not in a wait that is not alertable. */
                assert_int_equal(ovl_wait_events(c.thread, &c.events[1], 1, 0, 0, 0, NULL), -ETIMEDOUT);
                assert_int_equal(c.n_ran, 0);
                assert_int_equal(ovl_wait_events(c.thread, c.events, 1, 0, timeouts[i], 1, NULL), OVL_ALERTED);
                assert_int_equal(c.n_ran, 1);
                assert_int_equal(ovl_wait_events(c.thread, c.events, 1, 0, timeouts[i], 1, NULL), 0);
        }
        /* 5.4, 5.5: an APC that sets the event ends the wait, and the next wait returns the event. */
        assert_ok(ovl_apc_queue(c.thread, event_apc_set, argument));
        assert_int_equal(ovl_wait_events(c.thread, c.events, 2, 0, OVL_INFINITE, 1, NULL), OVL_ALERTED);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 2, 0, OVL_INFINITE, 1, NULL), 0);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 2, 0, NS_PER_MS, 1, NULL), -ETIMEDOUT);
        event_stop(&c);
}

/* A completion routine of a record that has arrived is pending, too, whoever reads the channel (5.3). */
static void event_routine_wins(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { .user = &c };
        struct pollfd look = { .events = POLLIN };
        struct ovl_buffer buffer;

        event_start(&c);
        buffer = (struct ovl_buffer){ ovl_region_data(c.region), 100 };
        ovl_event_set(c.events[0]);
        assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &op, event_count), OVL_PENDING);
        fake_wait_entries(&c.fake, 1);
        fake_complete(&c.fake, 0, 0, 5);
        look.fd = ovl_thread_fd(c.thread);
        assert_int_equal(poll(&look, 1, 10000), 1);
        assert_int_equal(ovl_wait_events(c.thread, c.events, 1, 0, 0, 1, NULL), OVL_ALERTED);
        assert_int_equal(c.n_ran, 1);
        assert_int_equal(ovl_event_poll(c.events[0], NULL), 1);
        event_stop(&c);
}

/* --- Several threads -------------------------------------------------------------------------------------------- */

/* A thread that waits when it is told to. It is the owner of its ovl_thread, so it opens and closes it. */
struct event_waiter {
        struct event_case *c;
        struct ovl_event *const *events;
        size_t n;
        int all;
        int alertable;
        void (*run)(struct event_waiter *waiter);
        pthread_t thread;
        struct ovl_thread *own;
        unsigned tid;
        unsigned n_told; /* waits that it was told to do; UINT_MAX: to end */
        unsigned n_done;
        size_t index;
        int result;
};

static unsigned event_get(const unsigned *word) {
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void event_put(unsigned *word, unsigned value) {
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void event_wait_once(struct event_waiter *waiter) {
        waiter->result = ovl_wait_events(waiter->own, waiter->events, waiter->n, waiter->all, EVENT_PATIENCE,
                                         waiter->alertable, &waiter->index);
}

static void *event_live(void *argument) {
        struct event_waiter *waiter = argument;
        unsigned n_told;

        assert_ok(ovl_thread_open(waiter->c->session, &waiter->own, NULL));
        event_put(&waiter->tid, (unsigned) gettid());
        event_put(&waiter->n_done, 1);
        while ((n_told = event_get(&waiter->n_told)) != UINT_MAX) {
                if (n_told == waiter->n_done) {
                        waiter->run(waiter);
                        event_put(&waiter->n_done, n_told + 1);
                }
                sched_yield();
        }
        ovl_thread_close(waiter->own);
        return NULL;
}

static void event_begin(struct event_waiter *waiter) {
        waiter->run = waiter->run ? waiter->run : event_wait_once;
        assert_int_equal(pthread_create(&waiter->thread, NULL, event_live, waiter), 0);
        while (event_get(&waiter->n_done) == 0)
                sched_yield();
}

static void event_tell(struct event_waiter *waiter) {
        event_put(&waiter->n_told, event_get(&waiter->n_done));
}

/* Waits until it has done what it was told. */
static int event_await(struct event_waiter *waiter) {
        while (event_get(&waiter->n_done) == event_get(&waiter->n_told))
                sched_yield();
        return waiter->result;
}

static void event_end(struct event_waiter *waiter) {
        event_put(&waiter->n_told, UINT_MAX);
        assert_int_equal(pthread_join(waiter->thread, NULL), 0);
}

/* Each signal of an event that resets itself releases one of the threads that wait; a manual one releases all. */
static void event_many_wait(void **state) {
        struct event_case c = { 0 };
        struct event_waiter waiters[8];

        event_start(&c);
        for (size_t i = 0; i < 8; i++) {
                waiters[i] = (struct event_waiter){ .c = &c, .n = 1 };
                event_begin(&waiters[i]);
        }
        for (int manual = 0; manual < 2; manual++) {
                struct ovl_event **event = &c.events[2 * manual];

                for (size_t i = 0; i < 8; i++) {
                        waiters[i].events = event;
                        event_tell(&waiters[i]);
                }
                for (size_t i = 0; i < (manual ? 1 : 8); i++) {
                        ovl_event_set(*event);
                        while (!manual && ovl_event_poll(*event, NULL))
                                sched_yield();
                }
                for (size_t i = 0; i < 8; i++)
                        assert_int_equal(event_await(&waiters[i]), 0);
                assert_int_equal(ovl_event_poll(*event, NULL), manual);
                ovl_event_reset(*event);
        }
        for (size_t i = 0; i < 8; i++)
                event_end(&waiters[i]);
        event_stop(&c);
}

#define EVENT_ROUNDS 100000u

/* Half of a game of two threads, which each wait for the other's event: none of the signals may get lost. */
static void event_play(struct event_waiter *player) {
        for (size_t i = 0; i < EVENT_ROUNDS; i++) {
                player->result = ovl_wait_events(player->own, player->events, 1, 0, EVENT_PATIENCE, 0, NULL);
                if (player->result != 0)
                        break;
                ovl_event_set(player->events == player->c->events ? player->c->events[1] : player->c->events[0]);
        }
}

static void event_ping_pong(void **state) {
        struct event_case c = { 0 };
        struct event_waiter players[2];

        event_start(&c);
        for (size_t i = 0; i < 2; i++) {
                players[i] = (struct event_waiter){ .c = &c, .events = &c.events[i], .run = event_play };
                event_begin(&players[i]);
                event_tell(&players[i]);
        }
        ovl_event_set(c.events[0]);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(event_await(&players[i]), 0);
                event_end(&players[i]);
        }
        event_stop(&c);
}

struct event_storm {
        struct event_case *c;
        bool is_over;
};

static void *event_reset_always(void *argument) {
        struct event_storm *storm = argument;

        while (!__atomic_load_n(&storm->is_over, __ATOMIC_ACQUIRE))
                ovl_event_reset(storm->c->events[2]);
        return NULL;
}

/* A set that is followed by a reset at once releases who was waiting: each round waits until a set was seen. */
static void event_wait_always(struct event_waiter *waiter) {
        for (size_t i = 0; i < EVENT_ROUNDS / 100; i++) {
                waiter->result = ovl_wait_events(waiter->own, waiter->events, 1, 0, EVENT_PATIENCE, 0, NULL);
                if (waiter->result != 0)
                        break;
        }
        __atomic_fetch_add(&waiter->c->n_ran, 1, __ATOMIC_RELEASE);
}

static void event_set_and_reset(void **state) {
        struct event_case c = { 0 };
        struct event_storm storm = { .c = &c };
        struct event_waiter waiters[3];
        pthread_t resetter;

        event_start(&c);
        assert_int_equal(pthread_create(&resetter, NULL, event_reset_always, &storm), 0);
        for (size_t i = 0; i < 3; i++) {
                waiters[i] = (struct event_waiter){ .c = &c, .events = &c.events[2], .run = event_wait_always };
                event_begin(&waiters[i]);
                event_tell(&waiters[i]);
        }
        while (event_get(&c.n_ran) < 3) {
                ovl_event_set(c.events[2]);
                ovl_event_reset(c.events[2]);
        }
        __atomic_store_n(&storm.is_over, true, __ATOMIC_RELEASE);
        pthread_join(resetter, NULL);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(event_await(&waiters[i]), 0);
                event_end(&waiters[i]);
        }
        event_stop(&c);
}

/* Takes both of two events, or neither, until it is told to stop. */
static void event_take_both(struct event_waiter *waiter) {
        size_t n = 0;

        while (waiter->result == 0) {
                waiter->result = ovl_wait_events(waiter->own, waiter->events, 2, 1, EVENT_PATIENCE, 1, NULL);
                n += waiter->result == 0;
        }
        waiter->index = n;
}

static void event_stop_taking(struct ovl_thread *thread, uint64_t argument) {
}

static void event_all_at_once(void **state) {
        struct event_case c = { 0 };
        struct event_waiter waiters[3];
        size_t n = 0;

        event_start(&c);
        for (size_t i = 0; i < 3; i++) {
                waiters[i] = (struct event_waiter){ .c = &c, .events = c.events, .run = event_take_both };
                event_begin(&waiters[i]);
                event_tell(&waiters[i]);
        }
        for (size_t i = 0; i < EVENT_ROUNDS / 10; i++) {
                ovl_event_set(c.events[i % 2]);
                /* One alone is never consumed. */
                assert_int_equal(ovl_event_poll(c.events[i % 2], NULL), 1);
                ovl_event_set(c.events[1 - i % 2]);
                while (ovl_event_poll(c.events[0], NULL))
                        sched_yield();
                assert_int_equal(ovl_event_poll(c.events[1], NULL), 0);
        }
        for (size_t i = 0; i < 3; i++) {
                assert_ok(ovl_apc_queue(waiters[i].own, event_stop_taking, 0));
                assert_int_equal(event_await(&waiters[i]), OVL_ALERTED);
                n += waiters[i].index;
                event_end(&waiters[i]);
        }
        assert_int_equal(n, EVENT_ROUNDS / 10);
        event_stop(&c);
}

/* 4.15, 5.4: whichever comes first ends the wait; the other one stays. */
static void event_or_apc(void **state) {
        struct event_case c = { 0 };
        struct event_waiter waiter = { .c = &c, .events = c.events, .n = 1, .alertable = 1 };
        uint64_t argument = (uint64_t) (uintptr_t) &c;

        event_start(&c);
        event_begin(&waiter);
        for (size_t i = 0; i < 500; i++) {
                bool apc_first = i % 2;

                c.n_ran = 0;
                event_tell(&waiter);
                if (apc_first)
                        assert_ok(ovl_apc_queue(waiter.own, event_apc_count, argument));
                ovl_event_set(c.events[0]);
                if (!apc_first)
                        assert_ok(ovl_apc_queue(waiter.own, event_apc_count, argument));
                event_await(&waiter);
                /* What did not end the wait is still there. */
                if (apc_first)
                        assert_int_equal(waiter.result, OVL_ALERTED);
                assert_int_equal(c.n_ran, waiter.result == OVL_ALERTED);
                assert_int_equal(ovl_event_poll(c.events[0], NULL), waiter.result == OVL_ALERTED);
                ovl_event_reset(c.events[0]);
                if (waiter.result == OVL_ALERTED)
                        continue;
                event_tell(&waiter);
                assert_int_equal(event_await(&waiter), OVL_ALERTED);
                assert_int_equal(c.n_ran, 1);
        }
        event_end(&waiter);
        event_stop(&c);
}

/* The record comes on the channel of a thread that is busy: who waits for the event reads it. */
static void event_of_another_thread(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct event_waiter waiters[2];

        event_start(&c);
        event_post(&c, c.thread, c.events[0], &ops[0]);
        for (size_t i = 0; i < 2; i++) {
                waiters[i] = (struct event_waiter){ .c = &c, .events = &c.events[i], .n = 1 };
                event_begin(&waiters[i]);
                event_tell(&waiters[i]);
        }
        /* Posted after the wait began: the waiter has one more channel to read. */
        event_post(&c, c.thread, c.events[1], &ops[1]);
        fake_complete(&c.fake, 1, 0, 1);
        assert_int_equal(event_await(&waiters[1]), 0);
        assert_int_equal(ovl_result(&ops[1]), 0);
        fake_complete(&c.fake, 0, 0, 1);
        assert_int_equal(event_await(&waiters[0]), 0);
        assert_int_equal(ovl_result(&ops[0]), 0);
        for (size_t i = 0; i < 2; i++)
                event_end(&waiters[i]);
        event_stop(&c);
}

/* Operations of two threads set one event: whoever waits sees both. */
static void event_of_several_threads(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct ovl_thread *threads[2];
        size_t i;

        event_start(&c);
        for (i = 0; i < 2; i++)
                assert_ok(ovl_thread_open(c.session, &threads[i], NULL));
        for (i = 0; i < 2; i++)
                event_post(&c, threads[i], c.events[0], &ops[i]);
        for (i = 0; i < 2; i++) {
                fake_complete(&c.fake, 1 - i, 0, 1);
                assert_int_equal(event_wait_one(c.thread, c.events[0], EVENT_PATIENCE), 0);
                assert_int_equal(ovl_result(&ops[1 - i]), 0);
        }
        for (i = 0; i < 2; i++)
                ovl_thread_close(threads[i]);
        event_stop(&c);
}

/* Whether a thread of this process is asleep in the kernel. */
static bool event_is_asleep(pid_t tid) {
        char path[64], text[256] = "";
        const char *state;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
        file = fopen(path, "re");
        assert_non_null(file);
        assert_non_null(fgets(text, sizeof(text), file));
        fclose(file);
        state = strrchr(text, ')');
        assert_non_null(state);
        return state[2] == 'S';
}

/* The waiter was told to wait, and does. */
static void event_tell_asleep(struct event_waiter *waiter) {
        event_tell(waiter);
        while (!event_is_asleep((pid_t) event_get(&waiter->tid)))
                sched_yield();
}

/*
 * A wait that watched the channel of a busy thread goes on, and wants it no more, because what it wanted from there has
 * come: the other wait that wants it must learn that now nobody watches.
 */
static void event_unwatched(void **state) {
        struct event_case c = { 0 };
        struct ovl_event *both[2];
        struct event_waiter first = { .c = &c, .events = both, .n = 2, .all = 1 };
        struct event_waiter second = { .c = &c, .events = &c.events[1], .n = 1 };

        event_start(&c);
        both[0] = c.events[2];
        both[1] = c.events[0];
        event_begin(&first);
        event_begin(&second);
        for (size_t i = 0; i < 5; i++) {
                struct ovl_overlapped ops[2] = { 0 };

                event_post(&c, c.thread, both[0], &ops[0]);
                event_post(&c, c.thread, c.events[1], &ops[1]);
                event_tell_asleep(&first);
                event_tell_asleep(&second);
                fake_complete(&c.fake, c.n_posted - 2, 0, 1);
                while (ovl_event_poll(both[0], NULL) == 0)
                        sched_yield();
                fake_complete(&c.fake, c.n_posted - 1, 0, 1);
                assert_int_equal(event_await(&second), 0);
                ovl_event_set(both[1]);
                assert_int_equal(event_await(&first), 0);
        }
        event_end(&second);
        event_end(&first);
        event_stop(&c);
}

/* Waits for an event again and again, each time for a moment. */
static void event_wait_shortly(struct event_waiter *waiter) {
        while (event_get(&waiter->c->n_ran) == 0)
                assert_int_equal(event_wait_one(waiter->own, waiter->c->events[3], 50000), -ETIMEDOUT);
}

/* However waits that give up hand the channel of a busy thread on, whoever stays sees what comes there. */
static void event_passers_by(void **state) {
        struct event_case c = { 0 };
        struct event_waiter waiter = { .c = &c, .events = &c.events[0], .n = 1 }, passers[3];
        struct ovl_overlapped op, other = { 0 };

        event_start(&c);
        event_post(&c, c.thread, c.events[3], &other);
        event_begin(&waiter);
        for (size_t i = 0; i < HARNESS_N(passers); i++) {
                passers[i] = (struct event_waiter){ .c = &c, .run = event_wait_shortly };
                event_begin(&passers[i]);
                event_tell(&passers[i]);
        }
        for (size_t i = 0; i < EVENT_ROUNDS / 100; i++) {
                op = (struct ovl_overlapped){ 0 };
                event_post(&c, c.thread, c.events[0], &op);
                event_tell(&waiter);
                for (size_t k = 0; k < i % 50; k++)
                        sched_yield();
                fake_complete(&c.fake, c.n_posted - 1, 0, 1);
                assert_int_equal(event_await(&waiter), 0);
        }
        event_put(&c.n_ran, 1);
        for (size_t i = 0; i < HARNESS_N(passers); i++)
                event_end(&passers[i]);
        event_end(&waiter);
        event_stop(&c);
}

/* 19: with a port and an event both are indicated, the event although nobody waits on the port. */
static void event_and_port(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        struct ovl_packet packet;
        struct ovl_port *port;

        event_start(&c);
        assert_ok(ovl_port_open(c.session, 0, &port, NULL));
        assert_ok(ovl_port_associate(c.thread, port, 1, 55));
        event_post(&c, c.thread, c.events[0], &op);
        fake_complete_port(&c.fake, 0, 1, 55, 0, 9);
        assert_int_equal(event_wait_one(c.thread, c.events[0], EVENT_PATIENCE), 0);
        assert_int_equal(ovl_port_wait(port, c.thread, &packet, 1, 0), 1);
        assert_ptr_equal(packet.overlapped, &op);
        ovl_port_close(port);
        event_stop(&c);
}

/* --- Foreign loops ---------------------------------------------------------------------------------------------- */

static bool event_is_readable(int fd) {
        struct pollfd look = { .fd = fd, .events = POLLIN };

        return poll(&look, 1, 0) == 1;
}

/* The descriptor says whether the event is set; the generation says whether the loop has heard of this signal. */
static void event_export(void **state) {
        struct event_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        uint64_t first, second;
        int fd, manual_fd;

        event_start(&c);
        fd = ovl_event_export(c.events[0]);
        assert_ok(fd);
        assert_int_equal(ovl_event_export(c.events[0]), fd);
        assert_false(event_is_readable(fd));
        ovl_event_set(c.events[0]);
        assert_true(event_is_readable(fd));
        /* A thread takes the signal before the loop acts: what the loop was told is stale. */
        assert_int_equal(event_wait_one(c.thread, c.events[0], 0), 0);
        assert_false(event_is_readable(fd));
        assert_int_equal(ovl_event_poll(c.events[0], &first), 0);
        assert_int_equal(ovl_event_confirm(c.events[0], first), 0);
        /* And set anew: the old signal cannot be taken for the new one. */
        ovl_event_set(c.events[0]);
        assert_int_equal(ovl_event_confirm(c.events[0], first), 0);
        assert_true(event_is_readable(fd));
        assert_int_equal(ovl_event_poll(c.events[0], &second), 1);
        assert_int_not_equal(first, second);
        assert_int_equal(ovl_event_confirm(c.events[0], second), 1);
        assert_int_equal(ovl_event_confirm(c.events[0], second), 0);
        assert_false(event_is_readable(fd));
        assert_int_equal(event_wait_one(c.thread, c.events[0], 0), -ETIMEDOUT);

        /* A signal that comes while the loop works on the one before is not lost with it. */
        ovl_event_set(c.events[2]);
        manual_fd = ovl_event_export(c.events[2]);
        assert_true(event_is_readable(manual_fd));
        assert_int_equal(ovl_event_poll(c.events[2], &first), 1);
        ovl_event_set(c.events[2]);
        assert_int_equal(ovl_event_confirm(c.events[2], first), 0);
        assert_true(event_is_readable(manual_fd));
        assert_int_equal(ovl_event_poll(c.events[2], &second), 1);
        assert_int_equal(ovl_event_confirm(c.events[2], second), 1);
        assert_false(event_is_readable(manual_fd));

        /* An operation resets it and sets it, once the loop has dispatched. */
        ovl_event_set(c.events[2]);
        event_post(&c, c.thread, c.events[2], &op);
        assert_false(event_is_readable(manual_fd));
        fake_complete(&c.fake, 0, 0, 3);
        while (ovl_dispatch(c.thread) == 0)
                poll(&(struct pollfd){ .fd = ovl_thread_fd(c.thread), .events = POLLIN }, 1, 10000);
        assert_true(event_is_readable(manual_fd));
        event_stop(&c);
}

static void *event_set_often(void *argument) {
        struct event_case *c = argument;

        for (size_t i = 0; i < EVENT_ROUNDS / 10; i++)
                ovl_event_set(c->events[2]);
        return NULL;
}

/* However signals and confirmations meet, the last signal is heard of. */
static void event_export_race(void **state) {
        struct event_case c = { 0 };
        struct pollfd look = { .events = POLLIN };
        uint64_t generation = 0;
        pthread_t setter;

        event_start(&c);
        look.fd = ovl_event_export(c.events[2]);
        assert_ok(look.fd);
        assert_int_equal(pthread_create(&setter, NULL, event_set_often, &c), 0);
        while (generation < EVENT_ROUNDS / 10) {
                assert_int_equal(poll(&look, 1, 20000), 1);
                if (ovl_event_poll(c.events[2], &generation) == 1)
                        ovl_event_confirm(c.events[2], generation);
        }
        pthread_join(setter, NULL);
        assert_int_equal(ovl_event_poll(c.events[2], NULL), 0);
        assert_int_equal(poll(&look, 1, 0), 0);
        event_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "kinds", event_kinds, 0 },
                { "arrays", event_arrays, 0 },
                { "all", event_all, 0 },
                { "operations", event_operations, 0 },
                { "refusals", event_refusals, 0 },
                { "beside-a-routine", event_beside_a_routine, 0 },
                { "closed-early", event_closed_early, 0 },
                { "daemon-gone", event_daemon_gone, 0 },
                { "alertable", event_alertable, 0 },
                { "routine-wins", event_routine_wins, 0 },
                { "many-wait", event_many_wait, 0 },
                { "ping-pong", event_ping_pong, 120 },
                { "set-and-reset", event_set_and_reset, 120 },
                { "all-at-once", event_all_at_once, 120 },
                { "event-or-apc", event_or_apc, 0 },
                { "of-another-thread", event_of_another_thread, 0 },
                { "of-several-threads", event_of_several_threads, 0 },
                { "unwatched", event_unwatched, 0 },
                { "passers-by", event_passers_by, 120 },
                { "and-port", event_and_port, 0 },
                { "export", event_export, 0 },
                { "export-race", event_export_race, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
