/* SPDX-License-Identifier: Apache-2.0 */

/* Completion ports: order of packets and of waiters, the concurrency value, and ends that no record announces. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/client/fake.h"

#define PORT_SOCKET 5u
#define PORT_KEY 0xfeedu

struct port_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct ovl_port *port;
        unsigned connection;
        uint8_t *data;
        size_t n_posted;
};

static void port_start(struct port_case *c, unsigned concurrency) {
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        c->data = ovl_region_data(c->region);
        assert_ok(ovl_port_open(c->session, concurrency, &c->port, NULL));
        c->connection = c->fake.n_connections - 1;
        assert_ok(ovl_port_associate(c->thread, c->port, PORT_SOCKET, PORT_KEY));
}

static void port_stop(struct port_case *c) {
        ovl_port_close(c->port);
        assert_ok(ovl_region_close(c->thread, c->region));
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
}

static void port_post_op(struct port_case *c, struct ovl_overlapped *op) {
        struct ovl_buffer buffer = { c->data, 100 };

        assert_int_equal(ovl_recv(c->thread, PORT_SOCKET, &buffer, 1, 0, op, NULL), OVL_PENDING);
        fake_wait_entries(&c->fake, ++c->n_posted);
}

static void port_never(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        fail();
}

static void port_packets(void **state) {
        struct port_case c = { 0 };
        struct ovl_overlapped ops[3] = { 0 };
        struct ovl_packet packets[4], own = { .key = 9, .bytes = 77, .overlapped = (void *) 0x123, .status = -5 };
        struct ovl_buffer buffer;

        port_start(&c, 0);
        for (size_t i = 0; i < 3; i++)
                port_post_op(&c, &ops[i]);
        fake_complete_port(&c.fake, 1, c.connection, PORT_KEY, 0, 11);
        fake_complete_port(&c.fake, 0, c.connection, PORT_KEY, -ECONNRESET, 0);
        assert_int_equal(ovl_port_wait(c.port, c.thread, packets, 1, OVL_INFINITE), 1);
        assert_ptr_equal(packets[0].overlapped, &ops[1]);
        assert_int_equal(packets[0].key, PORT_KEY);
        assert_int_equal(packets[0].bytes, 11);
        assert_int_equal(packets[0].status, 0);
        assert_int_equal(packets[0].reserved, 0);
        assert_ok(ovl_port_post(c.port, &own));
        fake_complete_port(&c.fake, 2, c.connection, PORT_KEY, 0, 33);
        assert_int_equal(ovl_wait(c.thread, &ops[2], OVL_INFINITE, 0), 0);
        /* Packets are taken in the order in which they came, several at once. */
        assert_int_equal(ovl_port_wait(c.port, c.thread, packets, 4, OVL_INFINITE), 3);
        assert_ptr_equal(packets[0].overlapped, &ops[0]);
        assert_int_equal(packets[0].status, -ECONNRESET);
        assert_memory_equal(&packets[1], &own, sizeof(own));
        assert_ptr_equal(packets[2].overlapped, &ops[2]);
        assert_int_equal(ovl_port_wait(c.port, c.thread, packets, 4, 0), -ETIMEDOUT);
        assert_int_equal(ovl_port_wait(c.port, c.thread, packets, 4, NS_PER_MS), -ETIMEDOUT);
        assert_int_equal(ovl_port_wait(c.port, c.thread, packets, 0, 0), -EINVAL);
        buffer = (struct ovl_buffer){ c.data, 100 };
        assert_int_equal(ovl_recv(c.thread, PORT_SOCKET, &buffer, 1, 0, &ops[0], port_never), -EINVAL);
        port_stop(&c);
}

/* --- Waiting threads -------------------------------------------------------------------------------------------- */

struct port_worker {
        struct port_case *c;
        pthread_t thread;
        struct ovl_thread *own;
        struct ovl_packet packet;
        int result;
        sem_t took; /* posted when it has a packet */
        sem_t go;   /* waited for before it waits again */
        sem_t opened;
        bool stops;
        pid_t tid;
        struct ovl_overlapped *blocks_on; /* waited for in the library after the first packet */
};

static void *port_work(void *argument) {
        struct port_worker *worker = argument;

        worker->tid = gettid();
        assert_ok(ovl_thread_open(worker->c->session, &worker->own, NULL));
        sem_post(&worker->opened);
        sem_wait(&worker->go);
        while (!worker->stops) {
                worker->result = ovl_port_wait(worker->c->port, worker->own, &worker->packet, 1, OVL_INFINITE);
                sem_post(&worker->took);
                if (worker->result < 0)
                        break;
                sem_wait(&worker->go);
                if (worker->blocks_on) {
                        assert_int_equal(ovl_wait(worker->own, worker->blocks_on, 20 * NS_PER_S, 0), 0);
                        sem_post(&worker->took);
                        sem_wait(&worker->go);
                }
        }
        ovl_thread_close(worker->own);
        return NULL;
}

static void port_worker_start(struct port_case *c, struct port_worker *worker) {
        *worker = (struct port_worker){ .c = c };
        sem_init(&worker->took, 0, 0);
        sem_init(&worker->go, 0, 0);
        sem_init(&worker->opened, 0, 0);
        assert_int_equal(pthread_create(&worker->thread, NULL, port_work, worker), 0);
        sem_wait(&worker->opened);
}

static bool port_took(void *data) {
        struct port_worker *worker = data;
        int value;

        sem_getvalue(&worker->took, &value);
        return value > 0;
}

/* Whether a worker is asleep in the wait: nothing else in it polls, and no descriptor announces it. */
static bool port_is_asleep(void *data) {
        struct port_worker *worker = data;
        char path[64], line[64] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int) worker->tid);
        file = fopen(path, "re");
        if (!file)
                harness_skip("the kernel does not show in which system call a thread is");
        if (!fgets(line, sizeof(line), file))
                line[0] = '\0';
        fclose(file);
        return atoi(line) == SYS_ppoll;
}

static void port_post_own(struct port_case *c, uint64_t key) {
        struct ovl_packet packet = { .key = key };

        assert_ok(ovl_port_post(c->port, &packet));
}

/* Lets a worker wait, and returns once it is asleep. */
static void port_worker_wait(struct port_worker *worker) {
        sem_post(&worker->go);
        assert_true(harness_wait(port_is_asleep, worker, harness_deadline(20)));
}

static void port_worker_took(struct port_worker *worker, uint64_t key) {
        assert_true(harness_wait(port_took, worker, harness_deadline(20)));
        sem_wait(&worker->took);
        assert_int_equal(worker->result, 1);
        assert_int_equal(worker->packet.key, key);
}

static void port_worker_stop(struct port_worker *worker) {
        worker->stops = true;
        sem_post(&worker->go);
        pthread_join(worker->thread, NULL);
}

static void port_concurrency_one(void **state) {
        struct port_case c = { 0 };
        struct port_worker a, b;
        struct ovl_overlapped op = { 0 };

        port_start(&c, 1);
        port_worker_start(&c, &a);
        port_worker_start(&c, &b);
        port_worker_wait(&a);
        port_post_own(&c, 1000);
        port_worker_took(&a, 1000);
        /* a runs: b gets nothing until a comes back or blocks in the library. */
        port_worker_wait(&b);
        port_post_own(&c, 1);
        port_post_own(&c, 2);
        /* a comes back; it is the last that came to wait, and is served first. */
        sem_post(&a.go);
        port_worker_took(&a, 1);
        assert_false(port_took(&b));
        port_post_op(&c, &op);
        a.blocks_on = &op;
        sem_post(&a.go);
        port_worker_took(&b, 2);
        fake_complete_port(&c.fake, 0, c.connection, PORT_KEY, 0, 1);
        assert_true(harness_wait(port_took, &a, harness_deadline(20)));
        port_worker_stop(&a);
        port_worker_stop(&b);
        port_stop(&c);
}

static void port_lifo(void **state) {
        enum {
                N = 3
        };
        struct port_case c = { 0 };
        struct port_worker workers[N];
        struct ovl_overlapped op = { 0 };

        port_start(&c, N + 1);
        for (size_t i = 0; i < N; i++)
                port_worker_start(&c, &workers[i]);
        for (size_t i = 0; i < N; i++)
                port_worker_wait(&workers[i]);
        port_post_own(&c, 10);
        port_worker_took(&workers[2], 10);
        /* A record is served like a packet of one's own. */
        port_post_op(&c, &op);
        fake_complete_port(&c.fake, 0, c.connection, PORT_KEY, 0, 1);
        port_worker_took(&workers[1], PORT_KEY);
        port_worker_wait(&workers[2]);
        port_post_own(&c, 11);
        port_worker_took(&workers[2], 11);
        port_post_own(&c, 12);
        port_worker_took(&workers[0], 12);
        for (size_t i = 0; i < N; i++)
                port_worker_stop(&workers[i]);
        port_stop(&c);
}

static void port_close_wakes(void **state) {
        struct port_case c = { 0 };
        struct port_worker workers[2];

        port_start(&c, 1);
        for (size_t i = 0; i < 2; i++) {
                port_worker_start(&c, &workers[i]);
                port_worker_wait(&workers[i]);
        }
        ovl_port_close(c.port);
        for (size_t i = 0; i < 2; i++) {
                pthread_join(workers[i].thread, NULL);
                assert_int_equal(workers[i].result, -ECANCELED);
        }
        c.port = NULL;
        port_stop(&c);
}

#define PORT_MANY 2000u

struct port_crowd {
        struct port_case *c;
        sem_t *ended;
        pthread_t thread;
        size_t n_taken;
        uint64_t sum;
};

static void *port_crowd_work(void *argument) {
        struct port_crowd *crowd = argument;
        struct ovl_packet packets[3];
        struct ovl_thread *thread;
        int n;

        assert_ok(ovl_thread_open(crowd->c->session, &thread, NULL));
        while ((n = ovl_port_wait(crowd->c->port, thread, packets, 3, 20 * NS_PER_S)) > 0) {
                for (int i = 0; i < n; i++) {
                        crowd->sum += packets[i].bytes;
                        __atomic_add_fetch(&crowd->n_taken, 1, __ATOMIC_RELEASE);
                        if (packets[i].key == 0) {
                                ovl_thread_close(thread);
                                sem_post(crowd->ended);
                                return NULL;
                        }
                }
        }
        fail();
        return NULL;
}

static size_t port_crowd_count(const struct port_crowd crowd[4]) {
        size_t n = 0;

        for (size_t i = 0; i < 4; i++)
                n += __atomic_load_n(&crowd[i].n_taken, __ATOMIC_ACQUIRE);
        return n;
}

static bool port_crowd_has_all(void *data) {
        return port_crowd_count(data) == PORT_MANY;
}

static bool port_crowd_has_ended(void *data) {
        struct port_crowd *crowd = data;

        return sem_trywait(crowd->ended) == 0;
}

/* Every packet is taken exactly once, whoever reads and whoever is woken. */
static void port_crowd(void **state) {
        struct port_case c = { .fake = { .credits = PORT_MANY } };
        struct port_crowd crowd[4];
        sem_t ended;
        struct ovl_overlapped *ops = calloc(PORT_MANY, sizeof(*ops));
        struct ovl_buffer buffer;
        uint64_t sum = 0;

        port_start(&c, 2);
        sem_init(&ended, 0, 0);
        buffer = (struct ovl_buffer){ c.data, 1 };
        for (size_t i = 0; i < 4; i++) {
                crowd[i] = (struct port_crowd){ .c = &c, .ended = &ended };
                pthread_create(&crowd[i].thread, NULL, port_crowd_work, &crowd[i]);
        }
        /* From here on somebody reads what is sent: an unread connection holds few records. */
        fake_wait_requests(&c.fake, OVERLAPD__REQUEST__WHAT_ATTACH, 5);
        for (size_t i = 0; i < PORT_MANY; i++) {
                assert_int_equal(ovl_send(c.thread, PORT_SOCKET, &buffer, 1, 0, &ops[i], NULL), OVL_PENDING);
                fake_wait_entries(&c.fake, i + 1);
                fake_complete_port(&c.fake, i, c.connection, PORT_KEY, 0, i % 2);
        }
        /* What is posted here would overtake records that nobody has read yet. */
        assert_true(harness_wait(port_crowd_has_all, crowd, harness_deadline(20)));
        /* The last packets end the workers; each must be able to get but one of them. */
        for (size_t i = 0; i < 4; i++) {
                struct ovl_packet last = { .bytes = 1000000 };
                uint64_t deadline = harness_deadline(20);

                assert_ok(ovl_port_post(c.port, &last));
                assert_true(harness_wait(port_crowd_has_ended, crowd, deadline));
        }
        for (size_t i = 0; i < 4; i++) {
                pthread_join(crowd[i].thread, NULL);
                sum += crowd[i].sum;
        }
        assert_int_equal(port_crowd_count(crowd), PORT_MANY + 4);
        assert_int_equal(sum, PORT_MANY / 2 + 4000000);
        port_stop(&c);
        free(ops);
}

/* --- Ends that no record sends to the port ---------------------------------------------------------------------- */

static void port_refused(void **state) {
        struct port_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct ovl_packet packet;
        struct ovl_record record;

        port_start(&c, 0);
        port_post_op(&c, &ops[0]);
        port_post_op(&c, &ops[1]);
        record = fake_record(&c.fake, 0, -ENOTCONN, 0);
        record.flags = OVL_RECORD_REFUSED;
        fake_send_records(&c.fake, 0, &record, 1);
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, OVL_INFINITE), 1);
        assert_ptr_equal(packet.overlapped, &ops[0]);
        assert_int_equal(packet.key, PORT_KEY);
        assert_int_equal(packet.status, -ENOTCONN);
        /* Also when the socket was closed between the post and its refusal. */
        assert_ok(ovl_socket_close(c.thread, PORT_SOCKET));
        record = fake_record(&c.fake, 1, -EBADF, 0);
        record.flags = OVL_RECORD_REFUSED;
        fake_send_records(&c.fake, 0, &record, 1);
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, OVL_INFINITE), 1);
        assert_ptr_equal(packet.overlapped, &ops[1]);
        port_stop(&c);
}

static void port_gone(void **state) {
        struct port_case c = { 0 };
        struct port_worker worker;
        struct ovl_overlapped ops[2] = { 0 };
        struct ovl_packet packet;

        port_start(&c, 1);
        port_worker_start(&c, &worker);
        port_post_op(&c, &ops[0]);
        port_post_op(&c, &ops[1]);
        port_worker_wait(&worker);
        fake_hang_up(&c.fake, c.connection);
        port_worker_took(&worker, PORT_KEY);
        assert_int_equal(worker.packet.status, -ECONNABORTED);
        /* The worker runs and does not come back; this thread gets the other packet all the same. */
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, OVL_INFINITE), 1);
        assert_int_equal(packet.status, -ECONNABORTED);
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, OVL_INFINITE), -ECONNABORTED);
        port_worker_stop(&worker);
        ovl_port_close(c.port);
        assert_int_equal(ovl_region_close(c.thread, c.region), -ECONNABORTED);
        ovl_thread_close(c.thread);
        ovl_session_free(c.session);
        fake_stop(&c.fake);
}

/* What was under way to a port that is closed comes by the first channel, and ends the operation. */
static void port_late_record(void **state) {
        struct port_case c = { 0 };
        struct ovl_overlapped op = { 0 };

        port_start(&c, 0);
        port_post_op(&c, &op);
        ovl_port_close(c.port);
        c.port = NULL;
        fake_complete_port(&c.fake, 0, 0, PORT_KEY, 0, 50);
        assert_int_equal(ovl_wait(c.thread, &op, OVL_INFINITE, 0), 0);
        assert_int_equal(op.bytes, 50);
        port_stop(&c);
}

struct port_verdict {
        struct port_case *c;
        pthread_t thread;
};

static void *port_verdict_answer(void *argument) {
        struct port_verdict *verdict = argument;

        fake_wait_entries(&verdict->c->fake, 1);
        fake_complete_port(&verdict->c->fake, 0, verdict->c->connection, PORT_KEY, 0, 50);
        fake_settle(&verdict->c->fake, 0, 1);
        return NULL;
}

static void port_verdict(void **state) {
        struct port_case c = { 0 };
        struct port_verdict verdict = { .c = &c };
        struct ovl_overlapped op = { 0 };
        struct ovl_packet packet;
        struct ovl_buffer buffer;

        port_start(&c, 0);
        buffer = (struct ovl_buffer){ c.data, 100 };
        pthread_create(&verdict.thread, NULL, port_verdict_answer, &verdict);
        /* Done, and the packet is already there although it came by another channel than the verdict. */
        assert_int_equal(ovl_recv(c.thread, PORT_SOCKET, &buffer, 1, OVL_WANT_VERDICT, &op, NULL), 0);
        pthread_join(verdict.thread, NULL);
        assert_int_equal(ovl_result(&op), 0);
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, 0), 1);
        assert_ptr_equal(packet.overlapped, &op);
        port_stop(&c);
}

/* An operation that will go to a port outlives the thread that posted it; one that is quiet does not. */
static void port_outlives_thread(void **state) {
        struct port_case c = { 0 };
        struct ovl_overlapped op = { 0 }, quiet = { 0 };
        struct ovl_thread *poster;
        struct ovl_packet packet;
        struct ovl_buffer buffer;

        port_start(&c, 0);
        buffer = (struct ovl_buffer){ c.data, 100 };
        assert_ok(ovl_thread_open(c.session, &poster, NULL));
        assert_int_equal(ovl_recv(poster, PORT_SOCKET, &buffer, 1, 0, &op, NULL), OVL_PENDING);
        assert_int_equal(ovl_recv(poster, PORT_SOCKET, &buffer, 1, OVL_QUIET, &quiet, NULL), OVL_PENDING);
        fake_wait_entries(&c.fake, 2);
        ovl_thread_close(poster);
        assert_int_equal(ovl_result(&quiet), -ECANCELED);
        assert_int_equal(ovl_result(&op), -EINPROGRESS);
        fake_complete_port(&c.fake, 0, c.connection, PORT_KEY, 0, 50);
        assert_int_equal(ovl_port_wait(c.port, c.thread, &packet, 1, OVL_INFINITE), 1);
        assert_ptr_equal(packet.overlapped, &op);
        port_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "packets", port_packets, 0 }, { "concurrency-one", port_concurrency_one, 0 },
                { "lifo", port_lifo, 0 },       { "close-wakes", port_close_wakes, 0 },
                { "crowd", port_crowd, 60 },    { "refused", port_refused, 0 },
                { "gone", port_gone, 0 },       { "late-record", port_late_record, 0 },
                { "verdict", port_verdict, 0 }, { "outlives-thread", port_outlives_thread, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
