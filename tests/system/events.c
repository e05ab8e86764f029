/* SPDX-License-Identifier: Apache-2.0 */

/* Operations that set events: when, in which order, for whom; and cancelling those of one thread. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define EVENTS_SOCKETS 8u
#define EVENTS_ROUNDS 500u

/* Some connections, with a receive and an event each. */
struct events {
        struct client client;
        uint64_t sockets[EVENTS_SOCKETS];
        int fds[EVENTS_SOCKETS];
        struct ovl_event *events[EVENTS_SOCKETS];
        struct ovl_overlapped receiving[EVENTS_SOCKETS];
        size_t n;
};

static void events_start(struct events *events, size_t n, unsigned flags) {
        client_start(&events->client);
        events->n = n;
        for (size_t i = 0; i < n; i++) {
                events->sockets[i] = client_pair(&events->client, AF_INET, &events->fds[i]);
                assert_ok(ovl_event_open(events->client.session, flags, &events->events[i]));
                events->receiving[i].event = events->events[i];
        }
}

static void events_stop(struct events *events) {
        for (size_t i = 0; i < events->n; i++) {
                close(events->fds[i]);
                ovl_event_close(events->events[i]);
        }
        client_stop(&events->client);
}

static int events_receive(struct events *events, size_t i, unsigned flags) {
        return client_recv(&events->client, events->sockets[i], events->client.memory + 1000 * i, 1000, flags,
                           &events->receiving[i]);
}

static bool events_is_set(const struct ovl_overlapped *overlapped) {
        return ovl_event_poll(overlapped->event, NULL) == 1;
}

/* --- Indication ------------------------------------------------------------------------------------------------- */

/* SEMANTICS 3.10: any, the first in the array, and all, with operations on several sockets. */
static void events_of_several_operations(void **state) {
        struct events events = { 0 };
        size_t index = 99;

        events_start(&events, EVENTS_SOCKETS, 0);
        for (size_t round = 0; round < EVENTS_ROUNDS; round++) {
                size_t k = round * 5 % EVENTS_SOCKETS;

                for (size_t i = 0; i < EVENTS_SOCKETS; i++)
                        assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
                peer_write(events.fds[k], "first", 5);
                assert_int_equal(ovl_wait_events(events.client.thread, events.events, EVENTS_SOCKETS, 0,
                                                 client_patience(), 0, &index),
                                 0);
                assert_int_equal(index, k);
                assert_int_equal(ovl_result(&events.receiving[k]), 0);
                assert_int_equal(events.receiving[k].bytes, 5);
                assert_int_equal(ovl_wait_events(events.client.thread, events.events, EVENTS_SOCKETS, 0, 0, 0, &index),
                                 -ETIMEDOUT);
                ovl_event_set(events.events[k]);
                for (size_t i = 0; i < EVENTS_SOCKETS; i++)
                        if (i != k)
                                peer_write(events.fds[i], "rest", 4);
                assert_int_equal(ovl_wait_events(events.client.thread, events.events, EVENTS_SOCKETS, 1,
                                                 client_patience(), 0, &index),
                                 0);
                for (size_t i = 0; i < EVENTS_SOCKETS; i++) {
                        assert_int_equal(ovl_result(&events.receiving[i]), 0);
                        assert_false(events_is_set(&events.receiving[i]));
                }
        }
        events_stop(&events);
}

/* 1.1: when the call says that it is done, the event is set already. 1.2: when it says pending, it is not. */
static void events_are_set_when_the_call_returns(void **state) {
        struct events events = { 0 };
        unsigned n_done = 0;

        events_start(&events, 1, OVL_EVENT_MANUAL);
        for (size_t round = 0; round < EVENTS_ROUNDS; round++) {
                int r;

                if (round % 2)
                        peer_write(events.fds[0], "data", 4);
                r = events_receive(&events, 0, OVL_WANT_VERDICT);
                assert_ok(r);
                if (r == 0) {
                        n_done++;
                        assert_true(events_is_set(&events.receiving[0]));
                        assert_int_equal(events.receiving[0].bytes, 4);
                        continue;
                }
                assert_int_equal(r, OVL_PENDING);
                if (round % 2 == 0)
                        peer_write(events.fds[0], "late", 4);
                client_expect(&events.client, &events.receiving[0], 0, 4);
                assert_true(events_is_set(&events.receiving[0]));
        }
        assert_true(n_done > 0);
        events_stop(&events);
}

/* 1.3, 3.1: an operation that the daemon refuses to the call resets the event and does not set it. */
static void events_of_refused_operations_stay_unset(void **state) {
        struct events events = { 0 };
        uint64_t unconnected;

        events_start(&events, 1, OVL_EVENT_MANUAL);
        assert_ok(ovl_socket_open(events.client.thread, AF_INET, SOCK_STREAM, &unconnected));
        ovl_event_set(events.events[0]);
        assert_int_equal(client_recv(&events.client, unconnected, events.client.memory, 10, OVL_WANT_VERDICT,
                                     &events.receiving[0]),
                         -ENOTCONN);
        assert_false(events_is_set(&events.receiving[0]));
        assert_int_equal(ovl_wait_events(events.client.thread, events.events, 1, 0, 0, 0, NULL), -ETIMEDOUT);
        assert_ok(ovl_socket_close(events.client.thread, unconnected));
        events_stop(&events);
}

/* 2.4: whoever sees the event sees the result and all bytes. */
static void *events_check_bytes(void *argument) {
        struct events *events = argument;
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(events->client.session, &thread, NULL));
        for (uint64_t round = 0; round < EVENTS_ROUNDS; round++) {
                assert_int_equal(ovl_wait_events(thread, events->events, 1, 0, client_patience(), 0, NULL), 0);
                assert_int_equal(events->receiving[0].status, 0);
                assert_int_equal(events->receiving[0].bytes, 1000);
                pattern_check(events->client.memory, 1000, round * 1000);
                ovl_event_set(events->events[1]);
        }
        ovl_thread_close(thread);
        return NULL;
}

static void events_show_results(void **state) {
        struct events events = { 0 };
        pthread_t checker;
        char data[1000];

        events_start(&events, 2, 0);
        assert_int_equal(pthread_create(&checker, NULL, events_check_bytes, &events), 0);
        for (uint64_t round = 0; round < EVENTS_ROUNDS; round++) {
                assert_int_equal(events_receive(&events, 0, OVL_WAITALL), OVL_PENDING);
                pattern_fill(data, sizeof(data), round * 1000);
                peer_write(events.fds[0], data, sizeof(data));
                assert_int_equal(
                        ovl_wait_events(events.client.thread, &events.events[1], 1, 0, client_patience(), 0, NULL), 0);
        }
        assert_int_equal(pthread_join(checker, NULL), 0);
        events_stop(&events);
}

/* Takes signals until the last one; each stands for one receive that has ended. */
struct events_taker {
        struct events *events;
        pthread_t thread;
        size_t *n_taken; /* by all takers */
        bool *is_over;
};

static void *events_take(void *argument) {
        struct events_taker *taker = argument;
        struct events *events = taker->events;
        struct ovl_thread *thread;
        size_t index;

        assert_ok(ovl_thread_open(events->client.session, &thread, NULL));
        while (ovl_wait_events(thread, events->events, EVENTS_SOCKETS, 0, client_patience(), 0, &index) == 0) {
                if (__atomic_load_n(taker->is_over, __ATOMIC_ACQUIRE)) {
                        /* Wakes the next one. */
                        ovl_event_set(events->events[index]);
                        break;
                }
                assert_int_equal(ovl_result(&events->receiving[index]), 0);
                __atomic_fetch_add(taker->n_taken, 1, __ATOMIC_RELEASE);
        }
        ovl_thread_close(thread);
        return NULL;
}

/* Many threads wait for the same events, of operations that another thread posted: each end is taken once. */
static void events_are_waited_for_by_many(void **state) {
        struct events_taker takers[4];
        struct events events = { 0 };
        bool is_over = false;
        size_t n = 0;

        events_start(&events, EVENTS_SOCKETS, 0);
        for (size_t i = 0; i < EVENTS_SOCKETS; i++)
                assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
        for (size_t t = 0; t < 4; t++) {
                takers[t] = (struct events_taker){ .events = &events, .n_taken = &n, .is_over = &is_over };
                assert_int_equal(pthread_create(&takers[t].thread, NULL, events_take, &takers[t]), 0);
        }
        for (size_t round = 0; round < 200; round++) {
                for (size_t i = 0; i < EVENTS_SOCKETS; i++)
                        peer_write(events.fds[i], "x", 1);
                /* The takers read the channel of this thread, which does not wait. */
                while (__atomic_load_n(&n, __ATOMIC_ACQUIRE) < (round + 1) * EVENTS_SOCKETS)
                        sched_yield();
                for (size_t i = 0; i < EVENTS_SOCKETS; i++)
                        assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
        }
        __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
        ovl_event_set(events.events[0]);
        for (size_t t = 0; t < 4; t++)
                assert_int_equal(pthread_join(takers[t].thread, NULL), 0);
        assert_int_equal(n, 200 * EVENTS_SOCKETS);
        events_stop(&events);
}

/* A loop that knows nothing of the library: it polls the thread's descriptor and the event's. */
static void events_join_foreign_loops(void **state) {
        struct events events = { 0 };
        struct pollfd look[2] = { { .events = POLLIN }, { .events = POLLIN } };
        unsigned n = 0;

        events_start(&events, 1, 0);
        look[0].fd = ovl_thread_fd(events.client.thread);
        look[1].fd = ovl_event_export(events.events[0]);
        assert_ok(look[1].fd);
        assert_int_equal(events_receive(&events, 0, 0), OVL_PENDING);
        peer_write(events.fds[0], "0", 1);
        while (n < EVENTS_ROUNDS) {
                uint64_t generation;

                assert_int_equal(poll(look, 2, (int) (client_patience() / NS_PER_MS)) > 0, 1);
                if (look[0].revents)
                        assert_ok(ovl_dispatch(events.client.thread));
                if (!look[1].revents || ovl_event_poll(events.events[0], &generation) == 0)
                        continue;
                assert_int_equal(ovl_event_confirm(events.events[0], generation), 1);
                assert_int_equal(ovl_result(&events.receiving[0]), 0);
                assert_int_equal(events_receive(&events, 0, 0), OVL_PENDING);
                peer_write(events.fds[0], "1", 1);
                n++;
        }
        events_stop(&events);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

/* 11.13: when a cancel or a close returns, the status is there and the event is set. */
static void events_are_set_by_cancels_and_closes(void **state) {
        struct events events = { 0 };

        events_start(&events, 3, OVL_EVENT_MANUAL);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
        assert_int_equal(ovl_cancel(events.client.thread, events.sockets[0], &events.receiving[0]), 1);
        assert_true(events_is_set(&events.receiving[0]));
        assert_int_equal(ovl_cancel(events.client.thread, events.sockets[1], NULL), 1);
        assert_true(events_is_set(&events.receiving[1]));
        assert_false(events_is_set(&events.receiving[2]));
        /* 11.5: with its own indication. */
        assert_ok(ovl_socket_close(events.client.thread, events.sockets[2]));
        assert_true(events_is_set(&events.receiving[2]));
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_result(&events.receiving[i]), -ECANCELED);
        events_stop(&events);
}

struct events_other {
        struct events *events;
        struct ovl_overlapped receiving;
        struct ovl_event *event;
        unsigned is_posted;
};

/* Posts on the first socket in a thread of its own, and cancels what it posted. */
static void *events_post_and_cancel(void *argument) {
        struct events_other *other = argument;
        struct events *events = other->events;
        struct ovl_buffer buffer = { events->client.memory + 9000, 10 };
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(events->client.session, &thread, NULL));
        assert_int_equal(ovl_cancel_thread(thread, events->sockets[0]), 0);
        other->receiving.event = other->event;
        assert_int_equal(ovl_recv(thread, events->sockets[0], &buffer, 1, 0, &other->receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel_thread(thread, events->sockets[1]), 0);
        assert_int_equal(ovl_result(&other->receiving), -EINPROGRESS);
        assert_int_equal(ovl_cancel_thread(thread, events->sockets[0]), 1);
        assert_int_equal(ovl_result(&other->receiving), -ECANCELED);
        assert_int_equal(ovl_event_poll(other->event, NULL), 1);
        ovl_thread_close(thread);
        return NULL;
}

/* 11.11: only what the calling thread posted on this socket, whatever the others have pending there. */
static void events_cancel_of_one_thread(void **state) {
        struct events events = { 0 };
        struct events_other other = { .events = &events };
        pthread_t thread;

        events_start(&events, 2, OVL_EVENT_MANUAL);
        assert_ok(ovl_event_open(events.client.session, 0, &other.event));
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
        assert_int_equal(pthread_create(&thread, NULL, events_post_and_cancel, &other), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(ovl_result(&events.receiving[0]), -EINPROGRESS);
        peer_write(events.fds[0], "mine", 4);
        client_expect(&events.client, &events.receiving[0], 0, 4);
        assert_int_equal(ovl_cancel_thread(events.client.thread, events.sockets[1]), 1);
        assert_true(events_is_set(&events.receiving[1]));
        assert_int_equal(ovl_cancel_thread(events.client.thread, 0xdead), -EBADF);
        ovl_event_close(other.event);
        events_stop(&events);
}

/* 11.16, 11.20: a cancel that races with data loses no byte, with several receives that take it one after the other. */
static void events_cancel_loses_no_byte(void **state) {
        struct ovl_overlapped receiving[3] = { 0 };
        struct events events = { 0 };
        uint64_t n_sent = 0, n_received = 0;
        char data[7];

        events_start(&events, 1, OVL_EVENT_MANUAL);
        for (size_t round = 0; round < 2000; round++) {
                size_t len = 1 + round % sizeof(data);

                for (size_t i = 0; i < 3; i++) {
                        receiving[i].event = events.events[0];
                        assert_int_equal(client_recv(&events.client, events.sockets[0], events.client.memory + 10 * i,
                                                     2, 0, &receiving[i]),
                                         OVL_PENDING);
                }
                pattern_fill(data, len, n_sent);
                peer_write(events.fds[0], data, len);
                n_sent += len;
                assert_true(ovl_cancel_thread(events.client.thread, events.sockets[0]) >= 0);
                assert_int_equal(ovl_event_poll(events.events[0], NULL), 1);
                for (size_t i = 0; i < 3; i++) {
                        int r = ovl_result(&receiving[i]);

                        assert_true(r == 0 || r == -ECANCELED);
                        assert_true(r == 0 || receiving[i].bytes == 0);
                        pattern_check(events.client.memory + 10 * i, receiving[i].bytes, n_received);
                        n_received += receiving[i].bytes;
                }
        }
        while (n_received < n_sent) {
                assert_ok(events_receive(&events, 0, 0));
                assert_int_equal(client_await(&events.client, &events.receiving[0]), 0);
                pattern_check(events.client.memory, events.receiving[0].bytes, n_received);
                n_received += events.receiving[0].bytes;
        }
        assert_int_equal(n_received, n_sent);
        events_stop(&events);
}

/* A thread that leaves operations behind. */
struct events_leaver {
        struct events *events;
        struct ovl_overlapped with_event;
        struct ovl_overlapped without;
};

static void *events_leave(void *argument) {
        struct events_leaver *leaver = argument;
        struct events *events = leaver->events;
        struct ovl_buffer buffer = { events->client.memory, 10 };
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(events->client.session, &thread, NULL));
        leaver->with_event.event = events->events[0];
        assert_int_equal(ovl_recv(thread, events->sockets[0], &buffer, 1, 0, &leaver->with_event, NULL), OVL_PENDING);
        assert_int_equal(ovl_recv(thread, events->sockets[0], &buffer, 1, 0, &leaver->without, NULL), OVL_PENDING);
        ovl_thread_close(thread);
        return NULL;
}

/* 11.17, 19: on a socket with a port, an operation with an event ends with its thread; one without goes on. */
static void events_end_with_their_thread(void **state) {
        struct events events = { 0 };
        struct events_leaver leaver = { .events = &events };
        struct ovl_packet packets[2];
        struct ovl_port *port;
        pthread_t thread;

        events_start(&events, 1, 0);
        assert_ok(ovl_port_open(events.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(events.client.thread, port, events.sockets[0], 5));
        assert_int_equal(pthread_create(&thread, NULL, events_leave, &leaver), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(ovl_wait_events(events.client.thread, events.events, 1, 0, 0, 0, NULL), 0);
        assert_int_equal(ovl_result(&leaver.with_event), -ECANCELED);
        assert_int_equal(ovl_port_wait(port, events.client.thread, packets, 2, client_patience()), 1);
        assert_ptr_equal(packets[0].overlapped, &leaver.with_event);
        assert_int_equal(packets[0].status, -ECANCELED);
        peer_write(events.fds[0], "goes on", 7);
        assert_int_equal(ovl_port_wait(port, events.client.thread, packets, 2, client_patience()), 1);
        assert_ptr_equal(packets[0].overlapped, &leaver.without);
        assert_int_equal(packets[0].bytes, 7);
        ovl_port_close(port);
        events_stop(&events);
}

/* The worker dies: what was pending has ended, and its events are set. */
static void events_are_set_when_the_daemon_dies(void **state) {
        struct events events = { 0 };

        events_start(&events, 2, 0);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(events_receive(&events, i, 0), OVL_PENDING);
        daemon_kill(&events.client.estate.daemon);
        assert_int_equal(ovl_wait_events(events.client.thread, events.events, 2, 1, client_patience(), 0, NULL), 0);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(ovl_result(&events.receiving[i]), -ECONNABORTED);
        assert_int_equal(ovl_wait_events(events.client.thread, events.events, 2, 1, OVL_INFINITE, 0, NULL),
                         -ECONNABORTED);
        for (size_t i = 0; i < 2; i++) {
                close(events.fds[i]);
                ovl_event_close(events.events[i]);
        }
        ovl_region_close(events.client.thread, events.client.region);
        ovl_thread_close(events.client.thread);
        ovl_session_free(events.client.session);
}

#define EVENTS_THREADS 80

/* More threads have posted than a wait watches without further ado: whichever channel it comes by, it is heard. */
static void events_of_many_threads(void **state) {
        struct ovl_overlapped receiving[EVENTS_THREADS] = { 0 };
        struct ovl_thread *threads[EVENTS_THREADS];
        struct events events = { 0 };
        struct ovl_event *event;
        struct ovl_buffer buffer;

        events_start(&events, 1, 0);
        assert_ok(ovl_event_open(events.client.session, 0, &event));
        for (size_t i = 0; i < EVENTS_THREADS; i++) {
                assert_ok(ovl_thread_open(events.client.session, &threads[i], NULL));
                receiving[i].event = event;
                buffer = (struct ovl_buffer){ events.client.memory + i, 1 };
                assert_int_equal(
                        ovl_recv(threads[i], events.sockets[0], &buffer, 1, OVL_WANT_VERDICT, &receiving[i], NULL),
                        OVL_PENDING);
        }
        for (size_t i = 0; i < EVENTS_THREADS; i++) {
                peer_write(events.fds[0], "x", 1);
                assert_int_equal(ovl_wait_events(events.client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
                assert_int_equal(ovl_result(&receiving[i]), 0);
        }
        for (size_t i = 0; i < EVENTS_THREADS; i++)
                ovl_thread_close(threads[i]);
        ovl_event_close(event);
        events_stop(&events);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "of several operations", events_of_several_operations, 60 },
                { "are set when the call returns", events_are_set_when_the_call_returns, 60 },
                { "of refused operations stay unset", events_of_refused_operations_stay_unset, 0 },
                { "show results", events_show_results, 60 },
                { "of many threads", events_of_many_threads, 60 },
                { "are waited for by many", events_are_waited_for_by_many, 60 },
                { "join foreign loops", events_join_foreign_loops, 60 },
                { "are set by cancels and closes", events_are_set_by_cancels_and_closes, 0 },
                { "a thread cancels what it posted", events_cancel_of_one_thread, 0 },
                { "a thread's cancel loses no byte", events_cancel_loses_no_byte, 60 },
                { "end with their thread", events_end_with_their_thread, 0 },
                { "are set when the daemon dies", events_are_set_when_the_daemon_dies, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
