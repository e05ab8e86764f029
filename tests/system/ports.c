/* SPDX-License-Identifier: Apache-2.0 */

/* Completion ports: who gets a packet, how many may run, and what goes wrong in words. */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define PORTS_THREADS 4
#define PORTS_SOCKETS 8
#define PORTS_ROUNDS 200

static void ports_associated_socket_gives_packets(void **state) {
        struct ovl_overlapped receiving = { 0 }, quiet = { 0 };
        struct ovl_packet packet;
        struct ovl_port *port;
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_port_open(client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(client.thread, port, socket, 0xfeedface12345678));
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, 0), -ETIMEDOUT);
        peer_write(fd, "packet", 6);
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, client_patience()), 1);
        assert_true(packet.key == 0xfeedface12345678);
        assert_ptr_equal(packet.overlapped, &receiving);
        assert_int_equal(packet.bytes, 6);
        assert_int_equal(packet.status, 0);
        /* A quiet operation gives none. */
        assert_ok(client_recv(&client, socket, client.memory, 10, OVL_QUIET, &quiet));
        peer_write(fd, "quiet", 5);
        client_expect(&client, &quiet, 0, 5);
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, 0), -ETIMEDOUT);
        /* One that fails does. */
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), 1);
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.status, -ECANCELED);
        ovl_port_close(port);
        close(fd);
        client_stop(&client);
}

static void ports_never(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        fail_msg("a routine ran although the socket has a port");
}

static void ports_refuse(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_port *port, *second;
        struct ovl_buffer buffer;
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        buffer = (struct ovl_buffer){ client.memory, 10 };
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_port_open(client.session, 1, &port, NULL));
        assert_ok(ovl_port_open(client.session, 1, &second, NULL));
        assert_ok(ovl_port_associate(client.thread, port, socket, 1));
        assert_int_equal(ovl_port_associate(client.thread, port, socket, 1), -EEXIST);
        assert_int_equal(ovl_port_associate(client.thread, second, socket, 1), -EEXIST);
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, "for life"));
        assert_int_equal(ovl_port_associate(client.thread, second, socket + 1, 1), -EBADF);
        assert_int_equal(ovl_recv(client.thread, socket, &buffer, 1, OVL_WANT_VERDICT, &receiving, ports_never),
                         -EINVAL);
        assert_int_equal(ovl_thread_error(client.thread)->reason, 6);
        assert_int_equal(client_recv(&client, socket, client.memory, 10, OVL_WANT_VERDICT, &receiving), OVL_PENDING);
        ovl_port_close(second);
        assert_ok(ovl_socket_close(client.thread, socket));
        ovl_port_close(port);
        close(fd);
        client_stop(&client);
}

static void ports_deliver_posts_in_order(void **state) {
        struct ovl_packet packet, packets[64];
        struct ovl_port *port;
        struct client client;
        size_t n = 0;

        client_start(&client);
        assert_ok(ovl_port_open(client.session, 2, &port, NULL));
        for (uint64_t i = 0; i < 1000; i++) {
                packet = (struct ovl_packet){ .key = i, .bytes = i * 3, .overlapped = (void *) (uintptr_t) (i * 8) };
                assert_ok(ovl_port_post(port, &packet));
        }
        while (n < 1000) {
                int r = ovl_port_wait(port, client.thread, packets, 64, client_patience());

                assert_true(r >= 1 && r <= 64);
                for (int i = 0; i < r; i++, n++) {
                        assert_int_equal(packets[i].key, n);
                        assert_int_equal(packets[i].bytes, n * 3);
                        assert_int_equal((uintptr_t) packets[i].overlapped, n * 8);
                }
        }
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, 0), -ETIMEDOUT);
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, NS_PER_MS), -ETIMEDOUT);
        ovl_port_close(port);
        client_stop(&client);
}

/* --- Many threads ----------------------------------------------------------------------------------------------- */

struct ports_crowd {
        struct client client;
        struct ovl_port *port;
        uint64_t sockets[PORTS_SOCKETS];
        int fds[PORTS_SOCKETS];
        struct ovl_overlapped receiving[PORTS_SOCKETS];
        atomic_int n_running, n_running_most, n_taken, n_ended;
        atomic_uint_least64_t n_bytes;
        unsigned concurrency;
};

static void ports_receive(struct ports_crowd *crowd, struct ovl_thread *thread, size_t i) {
        struct ovl_buffer buffer = { crowd->client.memory + i * 4096, 4096 };

        assert_ok(ovl_recv(thread, crowd->sockets[i], &buffer, 1, 0, &crowd->receiving[i], NULL));
}

static void *ports_serve(void *data) {
        struct ports_crowd *crowd = data;
        struct ovl_thread *thread;
        struct ovl_packet packet;

        assert_ok(ovl_thread_open(crowd->client.session, &thread, NULL));
        while (ovl_port_wait(crowd->port, thread, &packet, 1, client_patience()) == 1) {
                int n_running = atomic_fetch_add(&crowd->n_running, 1) + 1;
                int most = atomic_load(&crowd->n_running_most);

                while (n_running > most && !atomic_compare_exchange_weak(&crowd->n_running_most, &most, n_running))
                        continue;
                atomic_fetch_add(&crowd->n_taken, 1);
                if (!packet.overlapped) {
                        atomic_fetch_sub(&crowd->n_running, 1);
                        break;
                }
                assert_int_equal(packet.status, 0);
                assert_ptr_equal(packet.overlapped, &crowd->receiving[packet.key]);
                atomic_fetch_add(&crowd->n_bytes, packet.bytes);
                if (packet.bytes == 0)
                        atomic_fetch_add(&crowd->n_ended, 1);
                /* Posting does not block on anything but the socket: it counts as running. */
                atomic_fetch_sub(&crowd->n_running, 1);
                if (packet.bytes > 0)
                        ports_receive(crowd, thread, packet.key);
        }
        ovl_thread_close(thread);
        return NULL;
}

static bool ports_all_ended(void *data) {
        struct ports_crowd *crowd = data;

        return atomic_load(&crowd->n_ended) == PORTS_SOCKETS;
}

static void ports_serve_many_threads(void **state) {
        static struct ports_crowd crowd;
        pthread_t threads[PORTS_THREADS];
        char data[512] = { 0 };

        client_start(&crowd.client);
        assert_ok(ovl_port_open(crowd.client.session, 2, &crowd.port, NULL));
        for (size_t i = 0; i < PORTS_SOCKETS; i++) {
                crowd.sockets[i] = client_pair(&crowd.client, AF_INET, &crowd.fds[i]);
                assert_ok(ovl_port_associate(crowd.client.thread, crowd.port, crowd.sockets[i], i));
        }
        for (size_t i = 0; i < PORTS_THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ports_serve, &crowd), 0);
        for (size_t i = 0; i < PORTS_SOCKETS; i++)
                ports_receive(&crowd, crowd.client.thread, i);
        for (size_t round = 0; round < PORTS_ROUNDS; round++)
                for (size_t i = 0; i < PORTS_SOCKETS; i++)
                        peer_write(crowd.fds[i], data, sizeof(data));
        for (size_t i = 0; i < PORTS_SOCKETS; i++)
                shutdown(crowd.fds[i], SHUT_WR);
        assert_true(harness_wait(ports_all_ended, &crowd, harness_deadline(20)));
        for (size_t i = 0; i < PORTS_THREADS; i++)
                assert_ok(ovl_port_post(crowd.port, &(struct ovl_packet){ 0 }));
        for (size_t i = 0; i < PORTS_THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(atomic_load(&crowd.n_bytes), PORTS_SOCKETS * PORTS_ROUNDS * sizeof(data));
        assert_true(atomic_load(&crowd.n_running_most) <= 2);
        for (size_t i = 0; i < PORTS_SOCKETS; i++)
                close(crowd.fds[i]);
        ovl_port_close(crowd.port);
        client_stop(&crowd.client);
}

static void *ports_wait_for_the_end(void *data) {
        struct ports_crowd *crowd = data;
        struct ovl_thread *thread;
        struct ovl_packet packet;

        assert_ok(ovl_thread_open(crowd->client.session, &thread, NULL));
        atomic_fetch_add(&crowd->n_running, 1);
        assert_int_equal(ovl_port_wait(crowd->port, thread, &packet, 1, client_patience()), -ECANCELED);
        ovl_thread_close(thread);
        return NULL;
}

static bool ports_all_wait(void *data) {
        struct ports_crowd *crowd = data;

        return atomic_load(&crowd->n_running) == PORTS_THREADS;
}

static void ports_close_ends_waits(void **state) {
        static struct ports_crowd crowd;
        pthread_t threads[PORTS_THREADS];

        client_start(&crowd.client);
        assert_ok(ovl_port_open(crowd.client.session, 0, &crowd.port, NULL));
        for (size_t i = 0; i < PORTS_THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ports_wait_for_the_end, &crowd), 0);
        assert_true(harness_wait(ports_all_wait, &crowd, harness_deadline(10)));
        ovl_port_close(crowd.port);
        for (size_t i = 0; i < PORTS_THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        client_stop(&crowd.client);
}

/* What a thread posted on a socket with a port goes on when the thread has ended. */
static void ports_operations_outlive_their_thread(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_thread *thread;
        struct ovl_packet packet;
        struct ovl_buffer buffer;
        struct ovl_port *port;
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        buffer = (struct ovl_buffer){ client.memory, 10 };
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_port_open(client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(client.thread, port, socket, 7));
        assert_ok(ovl_thread_open(client.session, &thread, NULL));
        assert_ok(ovl_recv(thread, socket, &buffer, 1, 0, &receiving, NULL));
        ovl_thread_close(thread);
        peer_write(fd, "alive", 5);
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.key, 7);
        assert_int_equal(packet.status, 0);
        assert_int_equal(packet.bytes, 5);
        ovl_port_close(port);
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "operations on an associated socket give packets", ports_associated_socket_gives_packets },
                { "associations are for life and exclude routines", ports_refuse },
                { "what is posted is delivered in order", ports_deliver_posts_in_order },
                { "many threads serve one port, few at a time", ports_serve_many_threads, 60 },
                { "closing a port ends the waits on it", ports_close_ends_waits },
                { "operations for a port outlive their thread", ports_operations_outlive_their_thread },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
