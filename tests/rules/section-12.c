/* SPDX-License-Identifier: Apache-2.0 */

/* Section 12 of docs/SEMANTICS.md: completion ports. */

#include "tests/rules/section.h"

#include <stdatomic.h>

#define SECTION_12_KEY 0xfeedface12345678u

/* A section whose socket has a port. */
static struct ovl_port *section_12_start(struct section *section) {
        struct ovl_port *port;

        section_start(section);
        assert_ok(ovl_port_open(section->client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section->client.thread, port, section->socket, SECTION_12_KEY));
        return port;
}

static void section_12_stop(struct section *section, struct ovl_port *port) {
        ovl_port_close(port);
        section_stop(section);
}

static void section_12_expect(struct section *section, struct ovl_port *port, const struct ovl_overlapped *overlapped,
                              int status, uint64_t bytes) {
        struct ovl_packet packet;

        assert_int_equal(ovl_port_wait(port, section->client.thread, &packet, 1, client_patience()), 1);
        assert_true(packet.key == SECTION_12_KEY);
        assert_ptr_equal(packet.overlapped, overlapped);
        assert_int_equal(packet.status, status);
        assert_int_equal(packet.bytes, bytes);
}

static void section_12_expect_none(struct section *section, struct ovl_port *port) {
        struct ovl_packet packet;

        assert_int_equal(ovl_port_wait(port, section->client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
}

static void section_12_one_association(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_port *port, *other;
        struct section section;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_open(section.client.session, 1, &other, NULL));
        /* Also what was posted before goes there. */
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, SECTION_12_KEY));
        assert_int_equal(ovl_port_associate(section.client.thread, other, section.socket, 1), -EEXIST);
        assert_int_equal(ovl_port_associate(section.client.thread, port, section.socket, 1), -EEXIST);
        peer_write(section.fd, "five!", 5);
        section_12_expect(&section, port, &receiving, 0, 5);
        ovl_port_close(other);
        section_12_stop(&section, port);
}

static void section_12_packets(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_port *port;
        struct section section;

        port = section_12_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        section_12_expect_none(&section, port);
        peer_write(section.fd, "five!", 5);
        section_12_expect(&section, port, &receiving, 0, 5);
        /* Done at once is no exception, nor is what fails; what never started has none. */
        section_bring(&section, "six!!!");
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
        section_12_expect(&section, port, &receiving, 0, 6);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, NULL), 1);
        section_12_expect(&section, port, &receiving, -ECANCELED, 0);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), -ESHUTDOWN);
        section_12_expect_none(&section, port);
        section_12_stop(&section, port);
}

static void section_12_timeout_writes_nothing(void **state) {
        struct ovl_packet packet, before;
        struct section section;
        struct ovl_port *port;

        port = section_12_start(&section);
        memset(&packet, 0x5a, sizeof(packet));
        before = packet;
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, NS_PER_MS), -ETIMEDOUT);
        assert_memory_equal(&packet, &before, sizeof(packet));
        section_12_stop(&section, port);
}

static void section_12_event_and_packet(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        struct ovl_event *event;
        struct ovl_port *port;

        port = section_12_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        section_12_expect(&section, port, &receiving, 0, 5);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        ovl_event_close(event);
        section_12_stop(&section, port);
}

static void section_12_verbatim_in_order(void **state) {
        struct ovl_packet packet, packets[8];
        struct section section;
        struct ovl_port *port;
        int n;

        port = section_12_start(&section);
        for (uint64_t i = 0; i < 11; i++) {
                packet = (struct ovl_packet){
                        .key = i - 1, .bytes = ~i, .overlapped = (void *) (uintptr_t) (i * 3), .status = -(int) i
                };
                assert_ok(ovl_port_post(port, &packet));
        }
        for (uint64_t i = 0; i < 11;) {
                n = ovl_port_wait(port, section.client.thread, packets, 8, client_patience());
                assert_int_equal(n, i == 0 ? 8 : 3);
                for (int k = 0; k < n; k++, i++) {
                        assert_true(packets[k].key == i - 1 && packets[k].bytes == ~i);
                        assert_int_equal((uintptr_t) packets[k].overlapped, i * 3);
                        assert_int_equal(packets[k].status, -(int) i);
                }
        }
        assert_int_equal(ovl_port_wait(port, section.client.thread, packets, 0, 0), -EINVAL);
        section_12_stop(&section, port);
}

static void section_12_the_listeners_key(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage address;
        struct section section;
        struct ovl_port *port;
        uint64_t listener;
        socklen_t len;
        int fd;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        listener = client_listen(&section.client, AF_INET, &address, &len);
        assert_ok(ovl_port_associate(section.client.thread, port, listener, SECTION_12_KEY));
        assert_int_equal(ovl_accept(section.client.thread, listener, 0, &accepting, NULL), OVL_PENDING);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        section_12_expect(&section, port, &accepting, 0, 0);
        close(fd);
        section_12_stop(&section, port);
}

struct section_12_waiter {
        struct section *section;
        struct ovl_port *port;
        pthread_barrier_t barrier;
        int result;
};

static void *section_12_wait(void *data) {
        struct section_12_waiter *waiter = data;
        struct ovl_thread *thread;
        struct ovl_packet packet;

        assert_ok(ovl_thread_open(waiter->section->client.session, &thread, NULL));
        pthread_barrier_wait(&waiter->barrier);
        waiter->result = ovl_port_wait(waiter->port, thread, &packet, 1, client_patience());
        ovl_thread_close(thread);
        return NULL;
}

static void section_12_close_wakes(void **state) {
        struct section_12_waiter waiter = { 0 };
        struct section section;
        pthread_t other;

        waiter.port = section_12_start(&section);
        waiter.section = &section;
        pthread_barrier_init(&waiter.barrier, NULL, 2);
        assert_int_equal(pthread_create(&other, NULL, section_12_wait, &waiter), 0);
        pthread_barrier_wait(&waiter.barrier);
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0); /* it sleeps by now */
        ovl_port_close(waiter.port);
        pthread_join(other, NULL);
        pthread_barrier_destroy(&waiter.barrier);
        assert_int_equal(waiter.result, -ECANCELED);
        section_stop(&section);
}

static void section_12_is_not_alertable(void **state) {
        struct section section;
        struct ovl_port *port;

        port = section_12_start(&section);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        section_12_expect_none(&section, port);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_12_stop(&section, port);
}

/* A datagram socket whose every receive goes to the port; section->fd sends to it. */
static void section_12_datagrams(struct section *section, struct ovl_port *port) {
        struct sockaddr_storage address;
        socklen_t len;

        assert_ok(ovl_socket_open(section->client.thread, AF_INET, SOCK_DGRAM, &section->socket));
        len = client_loopback(AF_INET, &address);
        assert_ok(ovl_bind(section->client.thread, section->socket, (struct sockaddr *) &address, len));
        len = sizeof(address);
        assert_ok(ovl_getsockname(section->client.thread, section->socket, (struct sockaddr *) &address, &len));
        close(section->fd);
        section->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(section->fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(ovl_port_skip(section->client.thread, section->socket), -EINVAL);
        assert_ok(ovl_port_associate(section->client.thread, port, section->socket, SECTION_12_KEY));
        assert_ok(ovl_port_skip(section->client.thread, section->socket));
}

static void section_12_no_packet_for_what_is_done(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_port *port;
        struct section section;
        struct ovl_event *event;
        int r;

        port = section_12_start(&section);
        assert_ok(ovl_port_skip(section.client.thread, section.socket));
        assert_ok(ovl_port_skip(section.client.thread, section.socket));
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        /* Done: no packet, and the structure is free at once. Its event is set all the same. */
        receiving.event = event;
        for (unsigned i = 0; i < 2; i++) {
                section_bring(&section, "five!");
                assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
                assert_int_equal(receiving.bytes, 5);
                assert_int_equal(ovl_event_poll(event, NULL), 1);
        }
        section_12_expect_none(&section, port);
        receiving.event = NULL;
        /* Pending, or said to be: a packet. */
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        section_12_expect(&section, port, &receiving, 0, 5);
        section_bring(&section, "five!");
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        section_12_expect(&section, port, &receiving, 0, 5);
        /* What fails gives one, also at once. */
        section_12_datagrams(&section, port);
        assert_int_equal(send(section.fd, "longer than ten", 15, 0), 15);
        r = section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL);
        assert_true(r == 0 || r == OVL_PENDING);
        section_12_expect(&section, port, &receiving, -EMSGSIZE, 10);
        ovl_event_close(event);
        section_12_expect_none(&section, port);
        section_12_stop(&section, port);
}

#define SECTION_12_RACES 400u

struct section_12_race {
        struct section *section;
        struct ovl_port *port;
        atomic_uint n_packets;
};

static void *section_12_take(void *data) {
        struct section_12_race *race = data;
        struct ovl_thread *thread;
        struct ovl_packet packet;

        assert_ok(ovl_thread_open(race->section->client.session, &thread, NULL));
        while (ovl_port_wait(race->port, thread, &packet, 1, client_patience()) == 1 && packet.overlapped)
                atomic_fetch_add(&race->n_packets, 1);
        ovl_thread_close(thread);
        return NULL;
}

static bool section_12_has_come(void *data) {
        return ovl_result(data) != -EINPROGRESS;
}

/* Another thread takes in what goes to the port while the call waits for its verdict: one of both tells the end. */
static void section_12_one_of_both_tells(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section_12_race race = { 0 };
        struct section section;
        unsigned n_pending = 0;
        pthread_t other;
        int r;

        race.port = section_12_start(&section);
        race.section = &section;
        assert_ok(ovl_port_skip(section.client.thread, section.socket));
        assert_int_equal(pthread_create(&other, NULL, section_12_take, &race), 0);
        for (unsigned i = 0; i < SECTION_12_RACES; i++) {
                struct ovl_overlapped *mine = &receiving[i % 2];

                peer_write(section.fd, "x", 1);
                while ((r = section_recv(&section, i % 2, OVL_WANT_VERDICT, mine, NULL)) == -EBUSY)
                        continue;
                assert_true(r == 0 || r == OVL_PENDING);
                n_pending += r == OVL_PENDING;
                assert_true(harness_wait(section_12_has_come, mine, harness_deadline(10)));
        }
        assert_ok(ovl_port_post(race.port, &(struct ovl_packet){ 0 }));
        pthread_join(other, NULL);
        assert_int_equal(atomic_load(&race.n_packets), n_pending);
        section_12_stop(&section, race.port);
}

/* --- Several threads at one port -------------------------------------------------------------------------------- */

/* Waits for one packet when it is told to. */
struct section_12_worker {
        struct section *section;
        struct ovl_port *port;
        pthread_t pthread;
        pthread_barrier_t barrier;
        pid_t tid;
        atomic_uint n_taken;
        uint64_t key;
};

static void *section_12_work(void *data) {
        struct section_12_worker *worker = data;
        struct ovl_thread *thread;
        struct ovl_packet packet;

        worker->tid = gettid();
        assert_ok(ovl_thread_open(worker->section->client.session, &thread, NULL));
        pthread_barrier_wait(&worker->barrier);
        assert_int_equal(ovl_port_wait(worker->port, thread, &packet, 1, client_patience()), 1);
        worker->key = packet.key;
        atomic_fetch_add(&worker->n_taken, 1);
        assert_ok(ovl_apc_queue(worker->section->client.thread, section_apc, packet.key));
        pthread_barrier_wait(&worker->barrier);
        ovl_thread_close(thread);
        return NULL;
}

/* Starts a worker, and returns when it is asleep in its wait. */
static void section_12_worker_start(struct section_12_worker *worker, struct section *section, struct ovl_port *port) {
        *worker = (struct section_12_worker){ .section = section, .port = port };
        pthread_barrier_init(&worker->barrier, NULL, 2);
        assert_int_equal(pthread_create(&worker->pthread, NULL, section_12_work, worker), 0);
        pthread_barrier_wait(&worker->barrier);
        section_await_asleep(worker->tid);
}

static void section_12_worker_stop(struct section_12_worker *worker) {
        pthread_barrier_wait(&worker->barrier);
        pthread_join(worker->pthread, NULL);
        pthread_barrier_destroy(&worker->barrier);
}

static bool section_12_has_taken(void *data) {
        struct section_12_worker *worker = data;

        return atomic_load(&worker->n_taken) > 0;
}

static void section_12_post(struct ovl_port *port, uint64_t key) {
        assert_ok(ovl_port_post(port, &(struct ovl_packet){ .key = key }));
}

/* The first packet goes to the thread that came last to wait, the next one to the one before it. */
static void section_12_latest_waiter_first(void **state) {
        struct section_12_worker workers[3];
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 3, &port, NULL));
        for (unsigned i = 0; i < 3; i++)
                section_12_worker_start(&workers[i], &section, port);
        for (unsigned i = 0; i < 3; i++)
                section_12_post(port, 100 + i);
        for (unsigned i = 0; i < 3; i++)
                section_12_worker_stop(&workers[i]);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(workers[i].key, 102 - i);
        ovl_port_close(port);
        section_stop(&section);
}

/* As many run as may: one. It makes place when it waits for something else, and takes it back afterwards. */
static void section_12_as_many_as_may_run(void **state) {
        struct section_12_worker first, second;
        struct section section;
        struct ovl_port *port;
        struct ovl_packet packet;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        section_12_post(port, 1);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.key, 1);
        section_12_worker_start(&first, &section, port);
        section_12_worker_start(&second, &section, port);
        section_12_post(port, 2);
        section_12_post(port, 3);
        assert_false(harness_wait(section_12_has_taken, &second, now_ns() + SECTION_NOTHING));
        /* Asleep in another wait: the place is free, for one. */
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.order[0], 2);
        assert_int_equal(second.key, 2);
        assert_false(harness_wait(section_12_has_taken, &first, now_ns() + SECTION_NOTHING));
        /* Both run now that one came back: one of them has to leave, and the other to wait, before the next may. */
        section_12_worker_stop(&second);
        assert_false(harness_wait(section_12_has_taken, &first, now_ns() + SECTION_NOTHING));
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, 0), 1);
        assert_int_equal(packet.key, 3);
        section_12_post(port, 4);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(first.key, 4);
        section_12_worker_stop(&first);
        ovl_port_close(port);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "12.1 a socket has one port for its life", section_12_one_association },
                { "12.2 12.3 whatever started gives a packet", section_12_packets },
                { "12.4 a wait that ends in vain writes nothing", section_12_timeout_writes_nothing },
                { "12.5 an event and a packet are both given", section_12_event_and_packet },
                { "12.6 packets go to who came last to wait", section_12_latest_waiter_first },
                { "12.7 no more threads run than may", section_12_as_many_as_may_run },
                { "12.8 12.10 packets come verbatim, in order, many at a time", section_12_verbatim_in_order },
                { "12.9 what is done when its call returns gives no packet", section_12_no_packet_for_what_is_done },
                { "12.9 the call or a packet tells the end, never both", section_12_one_of_both_tells },
                { "12.11 an accept has the key of its listener", section_12_the_listeners_key },
                { "12.12 closing a port wakes who waits", section_12_close_wakes },
                { "12.13 the plain wait runs no APC", section_12_is_not_alertable },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
