/* SPDX-License-Identifier: Apache-2.0 */

/* Completion routines, alertable waits, and several threads that read the same channels. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "tests/client/fake.h"

#define ROUTINE_LOG_MAX 64u

struct routine_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        uint8_t *data;
        pthread_t owner;
        struct ovl_overlapped *log[ROUTINE_LOG_MAX]; /* routines in the order in which they began */
        size_t n_log;
        unsigned depth;
        unsigned max_depth;
        struct ovl_overlapped *next; /* posted by the routine of the case "reposts" */
        size_t n_posted;
};

static void routine_start(struct routine_case *c) {
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        c->data = ovl_region_data(c->region);
        c->owner = pthread_self();
}

static void routine_stop(struct routine_case *c) {
        assert_ok(ovl_region_close(c->thread, c->region));
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
}

static void routine_log(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routine_case *c = overlapped->user;

        assert_true(pthread_equal(c->owner, pthread_self()));
        assert_int_not_equal(ovl_result(overlapped), -EINPROGRESS);
        assert_ptr_equal(thread, c->thread);
        assert_true(c->n_log < ROUTINE_LOG_MAX);
        c->log[c->n_log++] = overlapped;
}

static void routine_post(struct routine_case *c, uint64_t socket, struct ovl_overlapped *overlapped,
                         void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct ovl_buffer buffer = { c->data, 100 };

        overlapped->user = c;
        assert_int_equal(ovl_recv(c->thread, socket, &buffer, 1, 0, overlapped, routine), OVL_PENDING);
        fake_wait_entries(&c->fake, ++c->n_posted);
}

/* Returns a frame with records of some entries, which arrives as one. */
static void routine_complete(struct routine_case *c, const size_t *order, size_t n) {
        struct ovl_record records[16];

        for (size_t i = 0; i < n; i++)
                records[i] = fake_record(&c->fake, order[i], 0, i + 1);
        fake_send_records(&c->fake, 0, records, n);
}

static void routine_timeouts(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        uint64_t before;

        routine_start(&c);
        assert_int_equal(ovl_sleep(c.thread, 0), 0);
        before = now_ns();
        assert_int_equal(ovl_sleep(c.thread, 20 * NS_PER_MS), 0);
        assert_true(now_ns() - before >= 20 * NS_PER_MS);
        routine_post(&c, 1, &op, NULL);
        assert_int_equal(ovl_wait(c.thread, &op, 0, 0), -ETIMEDOUT);
        assert_int_equal(ovl_wait(c.thread, &op, NS_PER_MS, 1), -ETIMEDOUT);
        assert_int_equal(ovl_result(&op), -EINPROGRESS);
        routine_stop(&c);
}

static void routine_order(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped ops[4] = { 0 };

        routine_start(&c);
        for (size_t i = 0; i < 4; i++)
                routine_post(&c, i % 2, &ops[i], routine_log);
        routine_complete(&c, (size_t[]){ 2, 0, 3, 1 }, 4);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_log, 4);
        assert_ptr_equal(c.log[0], &ops[2]);
        assert_ptr_equal(c.log[1], &ops[0]);
        assert_ptr_equal(c.log[2], &ops[3]);
        assert_ptr_equal(c.log[3], &ops[1]);
        assert_int_equal(ops[2].bytes, 1);
        assert_int_equal(ovl_sleep(c.thread, 0), 0);
        routine_stop(&c);
}

/* A routine that waits alertably. Its socket's others must wait until it has returned. */
static void routine_nest(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routine_case *c = overlapped->user;

        routine_log(thread, overlapped);
        if (++c->depth > c->max_depth)
                c->max_depth = c->depth;
        ovl_sleep(thread, 0);
        c->depth--;
}

static void routine_nesting(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped ops[6] = { 0 };
        static const uint64_t sockets[6] = { 1, 1, 2, 1, 2, 3 };

        routine_start(&c);
        for (size_t i = 0; i < 6; i++)
                routine_post(&c, sockets[i], &ops[i], routine_nest);
        routine_complete(&c, (size_t[]){ 0, 1, 2, 3, 4, 5 }, 6);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_log, 6);
        /* 0 (socket 1) lets 2 (socket 2) run, which lets 5 (socket 3) run; then 4, then those of socket 1 in order. */
        assert_ptr_equal(c.log[0], &ops[0]);
        assert_ptr_equal(c.log[1], &ops[2]);
        assert_ptr_equal(c.log[2], &ops[5]);
        assert_ptr_equal(c.log[3], &ops[4]);
        assert_ptr_equal(c.log[4], &ops[1]);
        assert_ptr_equal(c.log[5], &ops[3]);
        assert_int_equal(c.max_depth, 3);
        routine_stop(&c);
}

/* A routine whose post is done at once queues a routine that runs in the same wait. */
static void routine_repost(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routine_case *c = overlapped->user;
        struct ovl_overlapped *next = c->next;

        routine_log(thread, overlapped);
        if (!next)
                return;
        c->next = NULL;
        routine_post(c, 1, next, routine_repost);
        fake_complete(&c->fake, c->n_posted - 1, 0, 5);
        assert_int_equal(ovl_dispatch(thread), 1);
        assert_int_equal(c->n_log, 1);
}

static void routine_reposts(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped first = { 0 }, second = { 0 };

        routine_start(&c);
        c.next = &second;
        routine_post(&c, 1, &first, routine_repost);
        fake_complete(&c.fake, 0, 0, 5);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_log, 2);
        assert_ptr_equal(c.log[1], &second);
        routine_stop(&c);
}

static void routine_waits(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped routine = { 0 }, plain = { 0 };

        routine_start(&c);
        routine_post(&c, 1, &routine, routine_log);
        routine_post(&c, 2, &plain, NULL);
        routine_complete(&c, (size_t[]){ 1, 0 }, 2);
        /* A wait that is not alertable runs nothing. */
        assert_int_equal(ovl_wait(c.thread, &plain, OVL_INFINITE, 0), 0);
        assert_int_equal(ovl_wait(c.thread, &routine, OVL_INFINITE, 0), 0);
        assert_int_equal(c.n_log, 0);
        /* The routine that is queued wins over the object that is there. */
        assert_int_equal(ovl_wait(c.thread, &plain, OVL_INFINITE, 1), OVL_ALERTED);
        assert_int_equal(c.n_log, 1);
        assert_int_equal(ovl_wait(c.thread, &plain, OVL_INFINITE, 1), 0);
        routine_stop(&c);
}

static void routine_embedded(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        struct pollfd poll_fd = { .events = POLLIN };

        routine_start(&c);
        poll_fd.fd = ovl_thread_fd(c.thread);
        routine_post(&c, 1, &op, routine_log);
        assert_int_equal(poll(&poll_fd, 1, 0), 0);
        fake_complete(&c.fake, 0, 0, 5);
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        assert_int_equal(ovl_dispatch(c.thread), 1);
        assert_int_equal(c.n_log, 0);
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(poll(&poll_fd, 1, 0), 0);
        routine_stop(&c);
}

static void routine_apc(struct ovl_thread *thread, uint64_t argument) {
        (*(unsigned *) (uintptr_t) argument)++;
}

/* What the thread itself took in, in a request, a wait or a routine, is news for its loop, too: once. */
static void routine_embedded_requests(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped ops[4] = { 0 };
        struct pollfd look = { .events = POLLIN };
        unsigned n_apcs = 0;
        uint64_t socket;

        routine_start(&c);
        look.fd = ovl_thread_fd(c.thread);
        routine_post(&c, 1, &ops[0], routine_log);
        fake_complete(&c.fake, 0, 0, 1);
        assert_ok(ovl_socket_open(c.thread, AF_INET, SOCK_STREAM, &socket));
        assert_int_equal(ovl_result(&ops[0]), 0);
        assert_int_equal(poll(&look, 1, 0), 1);
        assert_ok(ovl_dispatch(c.thread));
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(poll(&look, 1, 0), 0);

        /* An operation that is indicated by its status, taken in by a wait for another one. */
        routine_post(&c, 1, &ops[1], NULL);
        routine_post(&c, 2, &ops[2], NULL);
        routine_complete(&c, (size_t[]){ 1, 2 }, 2);
        assert_int_equal(ovl_wait(c.thread, &ops[2], 10 * NS_PER_S, 0), 0);
        assert_int_equal(poll(&look, 1, 0), 1);
        assert_ok(ovl_dispatch(c.thread));
        assert_int_equal(poll(&look, 1, 0), 0);

        /* An APC to itself. */
        assert_ok(ovl_apc_queue(c.thread, routine_apc, (uintptr_t) &n_apcs));
        assert_int_equal(poll(&look, 1, 0), 1);
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(n_apcs, 1);
        ovl_dispatch(c.thread);
        assert_int_equal(poll(&look, 1, 0), 0);

        /* Requests without news wake no loop. */
        routine_post(&c, 1, &ops[3], routine_log);
        assert_ok(ovl_socket_open(c.thread, AF_INET, SOCK_STREAM, &socket));
        assert_int_equal(poll(&look, 1, 0), 0);
        fake_complete(&c.fake, 3, 0, 1);
        assert_int_equal(ovl_sleep(c.thread, 10 * NS_PER_S), OVL_ALERTED);
        routine_stop(&c);
}

static void routine_name_log(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routine_case *c = overlapped->user;

        routine_log(thread, overlapped);
        if (c->n_log == 1)
                assert_int_equal(ovl_sleep(thread, 10 * NS_PER_S), OVL_ALERTED);
}

/* Names have no socket: a routine may wait for the routine of another name. */
static void routine_names_nest(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct sockaddr_storage addresses[2];

        routine_start(&c);
        for (size_t i = 0; i < 2; i++) {
                ops[i].user = &c;
                assert_int_equal(ovl_resolve(c.thread, "example.org", AF_INET, 0, 0, &addresses[i], 1, 0, &ops[i],
                                             routine_name_log),
                                 OVL_PENDING);
        }
        fake_wait_entries(&c.fake, 2);
        for (size_t i = 0; i < 2; i++)
                fake_complete(&c.fake, i, -ENOENT, 0);
        assert_int_equal(ovl_sleep(c.thread, 10 * NS_PER_S), OVL_ALERTED);
        assert_int_equal(c.n_log, 2);
        routine_stop(&c);
}

/* --- Several threads -------------------------------------------------------------------------------------------- */

/* Waits, in a thread of its own, for operations of another. */
struct routine_helper {
        struct routine_case *c;
        struct ovl_overlapped *op;
        pthread_t thread;
        int result;
};

static void *routine_help(void *argument) {
        struct routine_helper *helper = argument;
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(helper->c->session, &thread, NULL));
        helper->result = ovl_wait(thread, helper->op, 20 * NS_PER_S, 0);
        ovl_thread_close(thread);
        return NULL;
}

static void routine_other_drains(void **state) {
        struct routine_case c = { 0 };
        struct ovl_overlapped routine = { 0 }, plain = { 0 };
        struct routine_helper helper = { .c = &c, .op = &plain };
        struct pollfd poll_fd = { .events = POLLIN };

        routine_start(&c);
        routine_post(&c, 1, &routine, routine_log);
        routine_post(&c, 2, &plain, NULL);
        routine_complete(&c, (size_t[]){ 0, 1 }, 2);
        /* This thread is busy; another one reads its channel, and must not run its routine. */
        pthread_create(&helper.thread, NULL, routine_help, &helper);
        pthread_join(helper.thread, NULL);
        assert_int_equal(helper.result, 0);
        assert_int_equal(ovl_result(&plain), 0);
        assert_int_equal(ovl_result(&routine), 0);
        assert_int_equal(c.n_log, 0);
        /* A foreign loop is told although the connection itself has nothing left to read. */
        poll_fd.fd = ovl_thread_fd(c.thread);
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        ovl_dispatch(c.thread);
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(c.n_log, 1);
        routine_stop(&c);
}

#define ROUTINE_ROUNDS 300u

/* Waits for the same operations as the owner, round after round: who reads and who is woken changes all the time. */
struct routine_race {
        struct routine_case *c;
        struct ovl_overlapped *ops;
};

static void *routine_race(void *argument) {
        struct routine_race *race = argument;
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(race->c->session, &thread, NULL));
        for (size_t i = 0; i < ROUTINE_ROUNDS; i++)
                assert_int_equal(ovl_wait(thread, &race->ops[i], 20 * NS_PER_S, 0), 0);
        ovl_thread_close(thread);
        return NULL;
}

static void *routine_serve(void *argument) {
        struct routine_race *race = argument;

        for (size_t i = 0; i < ROUTINE_ROUNDS; i++) {
                fake_wait_entries(&race->c->fake, i + 1);
                fake_complete(&race->c->fake, i, 0, 1);
        }
        return NULL;
}

static void routine_two_wait(void **state) {
        struct routine_case c = { .fake = { .credits = 1024 } };
        struct routine_race race = { .c = &c };
        struct ovl_buffer buffer;
        pthread_t waiters[2], server;

        race.ops = calloc(ROUTINE_ROUNDS, sizeof(*race.ops));
        routine_start(&c);
        buffer = (struct ovl_buffer){ c.data, 100 };
        for (size_t i = 0; i < ROUTINE_ROUNDS; i++)
                assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &race.ops[i], NULL), OVL_PENDING);
        pthread_create(&waiters[0], NULL, routine_race, &race);
        pthread_create(&waiters[1], NULL, routine_race, &race);
        pthread_create(&server, NULL, routine_serve, &race);
        for (size_t i = 0; i < ROUTINE_ROUNDS; i++)
                assert_int_equal(ovl_wait(c.thread, &race.ops[i], 20 * NS_PER_S, 0), 0);
        pthread_join(waiters[0], NULL);
        pthread_join(waiters[1], NULL);
        pthread_join(server, NULL);
        routine_stop(&c);
        free(race.ops);
}

/* Posts and sleeps in a thread of its own, with others doing the same. */
static void *routine_echo(void *argument) {
        struct routine_case *shared = argument;
        struct routine_case c = { .session = shared->session, .owner = pthread_self(), .data = shared->data };
        struct ovl_overlapped op = { .user = &c };
        struct ovl_buffer buffer = { shared->data, 100 };

        assert_ok(ovl_thread_open(c.session, &c.thread, NULL));
        for (size_t i = 0; i < 50; i++) {
                assert_int_equal(ovl_recv(c.thread, 9, &buffer, 1, 0, &op, routine_log), OVL_PENDING);
                assert_int_equal(ovl_sleep(c.thread, 20 * NS_PER_S), OVL_ALERTED);
                assert_int_equal(c.n_log, 1);
                c.n_log = 0;
        }
        ovl_thread_close(c.thread);
        return NULL;
}

static void routine_many_threads(void **state) {
        struct routine_case c = { 0 };
        pthread_t threads[4];

        routine_start(&c);
        for (size_t i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, routine_echo, &c);
        for (size_t i = 0; i < 200; i++) {
                fake_wait_entries(&c.fake, i + 1);
                fake_complete(&c.fake, i, 0, 1);
        }
        for (size_t i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        routine_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "timeouts", routine_timeouts, 0 },
                { "order", routine_order, 0 },
                { "nesting", routine_nesting, 0 },
                { "reposts", routine_reposts, 0 },
                { "waits", routine_waits, 0 },
                { "embedded", routine_embedded, 0 },
                { "embedded-requests", routine_embedded_requests, 0 },
                { "names-nest", routine_names_nest, 0 },
                { "other-drains", routine_other_drains, 0 },
                { "two-wait", routine_two_wait, 0 },
                { "many-threads", routine_many_threads, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
