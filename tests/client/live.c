/* SPDX-License-Identifier: Apache-2.0 */

/* The library and the daemon together: bytes through real sockets, each way of being told, and each way to end. */

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "client/c/overlap.h"
#include "proto/layout.h"
#include "tests/harness/daemon.h"
#include "tests/harness/harness.h"

#define LIVE_SIZE (4u << 20)

struct live_case {
        struct daemon daemon;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        uint8_t *data;
        uint64_t a; /* a connected pair */
        uint64_t b;
        unsigned n_ran;
};

#define LIVE_OK(c, call)                                                                                               \
        do {                                                                                                           \
                int live_ = (call);                                                                                    \
                if (live_ < 0)                                                                                         \
                        fail_msg("%s: %s", #call, ovl_thread_error((c)->thread)->text);                                \
        } while (0)

static void live_connect_pair(struct live_case *c, int family, uint64_t *ret_a, uint64_t *ret_b) {
        struct sockaddr_storage name = { .ss_family = (sa_family_t) family };
        socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        struct ovl_overlapped accept = { 0 }, connect = { 0 };
        uint64_t listener, a;

        if (family == AF_INET)
                ((struct sockaddr_in *) &name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                ((struct sockaddr_in6 *) &name)->sin6_addr = in6addr_loopback;
        LIVE_OK(c, ovl_socket_open(c->thread, family, SOCK_STREAM, &listener));
        LIVE_OK(c, ovl_bind(c->thread, listener, (struct sockaddr *) &name, len));
        LIVE_OK(c, ovl_listen(c->thread, listener, 5));
        len = sizeof(name);
        LIVE_OK(c, ovl_getsockname(c->thread, listener, (struct sockaddr *) &name, &len));
        LIVE_OK(c, ovl_socket_open(c->thread, family, SOCK_STREAM, &a));
        assert_int_equal(ovl_accept(c->thread, listener, 0, &accept, NULL), OVL_PENDING);
        assert_int_equal(ovl_connect(c->thread, a, (struct sockaddr *) &name, len, 0, &connect, NULL), OVL_PENDING);
        LIVE_OK(c, ovl_wait(c->thread, &connect, 20 * NS_PER_S, 0));
        LIVE_OK(c, ovl_wait(c->thread, &accept, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_result(&connect), 0);
        assert_int_equal(ovl_result(&accept), 0);
        LIVE_OK(c, ovl_socket_close(c->thread, listener));
        *ret_a = a;
        *ret_b = accept.value;
}

static void live_start(struct live_case *c) {
        struct ovl_session_options options = { .path = c->daemon.path, .name = "live" };
        struct ovl_error error;

        daemon_start(&c->daemon, NULL);
        if (ovl_session_open(&options, &c->session, &error) < 0)
                fail_msg("%s", error.text);
        if (ovl_thread_open(c->session, &c->thread, &error) < 0)
                fail_msg("%s", error.text);
        LIVE_OK(c, ovl_region_open(c->thread, LIVE_SIZE, &c->region));
        c->data = ovl_region_data(c->region);
        live_connect_pair(c, AF_INET, &c->a, &c->b);
}

static void live_stop(struct live_case *c) {
        LIVE_OK(c, ovl_socket_close(c->thread, c->a));
        LIVE_OK(c, ovl_socket_close(c->thread, c->b));
        LIVE_OK(c, ovl_region_close(c->thread, c->region));
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        daemon_stop(&c->daemon);
}

static void live_ran(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct live_case *c = overlapped->user;

        c->n_ran++;
}

/* Sends with scattered buffers, receives into others, over both families. */
static void live_bytes(void **state) {
        struct live_case c = { 0 };
        struct ovl_overlapped send = { 0 }, recv = { 0 };
        struct ovl_buffer from[64], to[3];
        size_t done = 0, len = 0;
        uint64_t a6, b6;

        live_start(&c);
        live_connect_pair(&c, AF_INET6, &a6, &b6);
        for (size_t i = 0; i < 1u << 20; i++)
                c.data[i] = (uint8_t) (i * 7 + i / 256);
        for (size_t i = 0; i < 64; i++) {
                from[i] = (struct ovl_buffer){ c.data + len, 100 + i * 300 };
                len += from[i].len;
        }
        for (int family = 0; family < 2; family++) {
                uint64_t in = family ? a6 : c.a, out = family ? b6 : c.b;

                memset(c.data + (2u << 20), 0, 1u << 20);
                assert_int_equal(ovl_send(c.thread, in, from, 64, 0, &send, NULL), OVL_PENDING);
                for (done = 0; done < len; done += recv.bytes) {
                        uint8_t *place = c.data + (2u << 20) + done;

                        to[0] = (struct ovl_buffer){ place, 1000 };
                        to[1] = (struct ovl_buffer){ place + 1000, 1 };
                        to[2] = (struct ovl_buffer){ place + 1001, 200000 };
                        assert_int_equal(ovl_recv(c.thread, out, to, 3, 0, &recv, NULL), OVL_PENDING);
                        LIVE_OK(&c, ovl_wait(c.thread, &recv, 20 * NS_PER_S, 0));
                        assert_int_equal(ovl_result(&recv), 0);
                        assert_true(recv.bytes > 0);
                }
                LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
                assert_int_equal(send.bytes, len);
                assert_int_equal(done, len);
                assert_memory_equal(c.data, c.data + (2u << 20), len);
        }
        /* The end of the stream. */
        LIVE_OK(&c, ovl_shutdown(c.thread, a6, SHUT_WR));
        assert_int_equal(ovl_recv(c.thread, b6, to, 1, 0, &recv, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &recv, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_result(&recv), 0);
        assert_int_equal(recv.bytes, 0);
        live_stop(&c);
}

static void live_verdicts(void **state) {
        struct live_case c = { 0 };
        struct ovl_overlapped send = { 0 }, recv = { .user = &c }, bad = { 0 };
        struct ovl_buffer buffer;
        int r;

        live_start(&c);
        buffer = (struct ovl_buffer){ c.data, 100 };
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, OVL_WANT_VERDICT, &recv, live_ran), OVL_PENDING);
        r = ovl_send(c.thread, c.b, &buffer, 1, OVL_WANT_VERDICT, &send, NULL);
        assert_true(r == 0 || r == OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_sleep(c.thread, 20 * NS_PER_S), OVL_ALERTED);
        assert_int_equal(c.n_ran, 1);
        assert_int_equal(recv.bytes, 100);
        assert_int_equal(ovl_recv(c.thread, 12345, &buffer, 1, OVL_WANT_VERDICT, &bad, NULL), -EBADF);
        assert_int_equal(ovl_thread_error(c.thread)->reason, OVL_REASON_UNKNOWN_SOCKET);
        assert_int_equal(ovl_recv(c.thread, 12345, &buffer, 1, 0, &bad, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &bad, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_result(&bad), -EBADF);
        /* A receive of 0 bytes ends when there is data, and leaves it there. */
        buffer.len = 0;
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &recv, NULL), OVL_PENDING);
        buffer.len = 3;
        assert_int_equal(ovl_send(c.thread, c.b, &buffer, 1, 0, &send, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &recv, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_result(&recv), 0);
        assert_int_equal(recv.bytes, 0);
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &recv, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &recv, 20 * NS_PER_S, 0));
        assert_int_equal(recv.bytes, 3);
        LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
        live_stop(&c);
}

static void live_ends(void **state) {
        struct live_case c = { 0 };
        struct ovl_overlapped ops[5] = { 0 };
        struct ovl_thread *other;
        struct ovl_buffer buffer;
        uint64_t a, b;

        live_start(&c);
        live_connect_pair(&c, AF_INET, &a, &b);
        buffer = (struct ovl_buffer){ c.data, 100 };
        /* Cancelled one by one and together. */
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(ovl_recv(c.thread, a, &buffer, 1, 0, &ops[i], NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(c.thread, a, &ops[2]), 1);
        assert_int_equal(ovl_result(&ops[2]), -ECANCELED);
        assert_int_equal(ovl_cancel(c.thread, a, &ops[2]), -ENOENT);
        assert_int_equal(ovl_cancel(c.thread, a, NULL), 4);
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(ovl_result(&ops[i]), -ECANCELED);
        /* Ended by another thread's cancel, by the close of the thread, and by the close of the socket. */
        LIVE_OK(&c, ovl_thread_open(c.session, &other, NULL));
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_recv(other, a, &buffer, 1, OVL_WANT_VERDICT, &ops[i], NULL), OVL_PENDING);
        assert_int_equal(ovl_recv(c.thread, a, &buffer, 1, 0, &ops[3], NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(c.thread, a, &ops[0]), 1);
        assert_int_equal(ovl_result(&ops[0]), -ECANCELED);
        assert_int_equal(ovl_result(&ops[1]), -EINPROGRESS);
        ovl_thread_close(other);
        assert_int_equal(ovl_result(&ops[1]), -ECANCELED);
        assert_int_equal(ovl_result(&ops[2]), -ECANCELED);
        assert_int_equal(ovl_result(&ops[3]), -EINPROGRESS);
        LIVE_OK(&c, ovl_socket_close(c.thread, a));
        assert_int_equal(ovl_result(&ops[3]), -ECANCELED);
        assert_int_equal(ovl_socket_close(c.thread, a), -EBADF);
        LIVE_OK(&c, ovl_socket_close(c.thread, b));
        live_stop(&c);
}

static void live_port(void **state) {
        struct live_case c = { 0 };
        struct ovl_overlapped recv[3] = { 0 }, send = { 0 };
        struct ovl_thread *other;
        struct ovl_port *port;
        struct ovl_packet packets[4];
        struct ovl_buffer buffer;

        live_start(&c);
        buffer = (struct ovl_buffer){ c.data, 100 };
        LIVE_OK(&c, ovl_port_open(c.session, 0, &port, NULL));
        LIVE_OK(&c, ovl_port_associate(c.thread, port, c.a, 99));
        assert_int_equal(ovl_port_associate(c.thread, port, c.a, 98), -EEXIST);
        /* An operation on a port outlives its thread. */
        LIVE_OK(&c, ovl_thread_open(c.session, &other, NULL));
        assert_int_equal(ovl_recv(other, c.a, &buffer, 1, OVL_WANT_VERDICT, &recv[0], NULL), OVL_PENDING);
        ovl_thread_close(other);
        assert_int_equal(ovl_send(c.thread, c.b, &buffer, 1, 0, &send, NULL), OVL_PENDING);
        assert_int_equal(ovl_port_wait(port, c.thread, packets, 4, 20 * NS_PER_S), 1);
        assert_ptr_equal(packets[0].overlapped, &recv[0]);
        assert_int_equal(packets[0].key, 99);
        assert_int_equal(packets[0].bytes, 100);
        LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
        assert_int_equal(ovl_send(c.thread, c.b, &buffer, 1, 0, &send, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
        /* There is data: done, and the packet is there. Or pending, when the daemon saw the data later. */
        if (ovl_recv(c.thread, c.a, &buffer, 1, OVL_WANT_VERDICT, &recv[1], NULL) == 0)
                assert_int_equal(ovl_port_wait(port, c.thread, packets, 4, 0), 1);
        else
                assert_int_equal(ovl_port_wait(port, c.thread, packets, 4, 20 * NS_PER_S), 1);
        assert_ptr_equal(packets[0].overlapped, &recv[1]);
        /* Cancelled: a packet like any other. */
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &recv[2], NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(c.thread, c.a, &recv[2]), 1);
        assert_int_equal(ovl_port_wait(port, c.thread, packets, 4, 20 * NS_PER_S), 1);
        assert_int_equal(packets[0].status, -ECANCELED);
        /* Closed with an operation pending on it: that ends at its thread. */
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &recv[0], NULL), OVL_PENDING);
        ovl_port_close(port);
        assert_int_equal(ovl_send(c.thread, c.b, &buffer, 1, 0, &send, NULL), OVL_PENDING);
        LIVE_OK(&c, ovl_wait(c.thread, &recv[0], 20 * NS_PER_S, 0));
        assert_int_equal(recv[0].bytes, 100);
        LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
        live_stop(&c);
}

/* A port is closed while records are on their way to it: every operation still ends. */
static void live_port_close_race(void **state) {
        enum {
                N = 200
        };
        struct live_case c = { 0 };
        struct ovl_overlapped *ops = calloc(N, sizeof(*ops)), send = { 0 };
        struct ovl_buffer buffer;

        live_start(&c);
        buffer = (struct ovl_buffer){ c.data, 1 };
        for (unsigned round = 0; round < 20; round++) {
                struct ovl_port *port;
                uint64_t a, b;

                live_connect_pair(&c, AF_INET, &a, &b);
                LIVE_OK(&c, ovl_port_open(c.session, 0, &port, NULL));
                LIVE_OK(&c, ovl_port_associate(c.thread, port, a, 1));
                memset(ops, 0, N * sizeof(*ops));
                for (size_t i = 0; i < N; i++)
                        assert_int_equal(ovl_recv(c.thread, a, &buffer, 1, 0, &ops[i], NULL), OVL_PENDING);
                buffer.len = N;
                assert_int_equal(ovl_send(c.thread, b, &buffer, 1, 0, &send, NULL), OVL_PENDING);
                buffer.len = 1;
                ovl_port_close(port);
                for (size_t i = 0; i < N; i++) {
                        LIVE_OK(&c, ovl_wait(c.thread, &ops[i], 20 * NS_PER_S, 0));
                        assert_int_equal(ovl_result(&ops[i]), 0);
                        assert_int_equal(ops[i].bytes, 1);
                }
                LIVE_OK(&c, ovl_wait(c.thread, &send, 20 * NS_PER_S, 0));
                LIVE_OK(&c, ovl_socket_close(c.thread, a));
                LIVE_OK(&c, ovl_socket_close(c.thread, b));
        }
        live_stop(&c);
        free(ops);
}

/* Threads come and go with operations under way; each finds all of its operations ended. */
static void *live_come_and_go(void *argument) {
        struct live_case *c = argument;
        struct ovl_overlapped ops[20] = { 0 };
        struct ovl_buffer buffer = { c->data, 10 };

        for (unsigned round = 0; round < 20; round++) {
                struct ovl_thread *thread;

                assert_ok(ovl_thread_open(c->session, &thread, NULL));
                memset(ops, 0, sizeof(ops));
                for (size_t i = 0; i < 20; i++)
                        assert_int_equal(
                                ovl_recv(thread, i % 2 ? c->a : c->b, &buffer, 1, 0, &ops[i], i % 3 ? NULL : live_ran),
                                OVL_PENDING);
                ovl_thread_close(thread);
                for (size_t i = 0; i < 20; i++)
                        assert_int_not_equal(ovl_result(&ops[i]), -EINPROGRESS);
        }
        return NULL;
}

static void live_threads(void **state) {
        struct live_case c = { 0 };
        pthread_t threads[4];

        live_start(&c);
        for (size_t i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, live_come_and_go, &c);
        for (size_t i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(c.n_ran, 0);
        live_stop(&c);
}

/* Everything is posted under one cork, more than the connection holds, while the daemon's answers pile up. */
static void live_flood(void **state) {
        struct live_case c = { 0 };
        struct ovl_session_info info;
        struct ovl_overlapped *ops;
        struct ovl_buffer buffer;
        size_t n;

        live_start(&c);
        ovl_session_info(c.session, &info);
        n = info.credits;
        ops = calloc(n, sizeof(*ops));
        buffer = (struct ovl_buffer){ c.data, 1 };
        for (unsigned round = 0; round < 3; round++) {
                ovl_cork(c.thread);
                for (size_t i = 0; i < n; i++)
                        LIVE_OK(&c, ovl_send(c.thread, 4711, &buffer, 1, 0, &ops[i], NULL));
                ovl_uncork(c.thread);
                for (size_t i = 0; i < n; i++) {
                        LIVE_OK(&c, ovl_wait(c.thread, &ops[i], 20 * NS_PER_S, 0));
                        assert_int_equal(ovl_result(&ops[i]), -EBADF);
                }
        }
        live_stop(&c);
        free(ops);
}

/* The worker dies with operations of every kind in flight. */
static void live_worker_killed(void **state) {
        struct live_case c = { 0 };
        struct ovl_overlapped plain = { 0 }, routine = { .user = &c }, packet = { 0 };
        struct ovl_port *port;
        struct ovl_packet packets[2];
        struct ovl_buffer buffer;
        pid_t worker;

        live_start(&c);
        worker = daemon_worker(&c.daemon);
        buffer = (struct ovl_buffer){ c.data, 100 };
        LIVE_OK(&c, ovl_port_open(c.session, 1, &port, NULL));
        LIVE_OK(&c, ovl_port_associate(c.thread, port, c.b, 7));
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &plain, NULL), OVL_PENDING);
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &routine, live_ran), OVL_PENDING);
        assert_int_equal(ovl_recv(c.thread, c.b, &buffer, 1, 0, &packet, NULL), OVL_PENDING);
        kill(worker, SIGKILL);
        assert_int_equal(ovl_port_wait(port, c.thread, packets, 2, 20 * NS_PER_S), 1);
        assert_int_equal(packets[0].status, -ECONNABORTED);
        assert_int_equal(packets[0].key, 7);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(ovl_result(&plain), -ECONNABORTED);
        assert_int_equal(ovl_result(&routine), -ECONNABORTED);
        assert_int_equal(ovl_recv(c.thread, c.a, &buffer, 1, 0, &plain, NULL), -ECONNABORTED);
        ovl_port_close(port);
        assert_int_equal(ovl_region_close(c.thread, c.region), -ECONNABORTED);
        ovl_thread_close(c.thread);
        ovl_session_free(c.session);
        daemon_wait_log(&c.daemon, "died: signal 9");
        daemon_stop(&c.daemon);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "bytes", live_bytes, 0 },
                { "verdicts", live_verdicts, 0 },
                { "ends", live_ends, 0 },
                { "port", live_port, 0 },
                { "port-close-race", live_port_close_race, 0 },
                { "threads", live_threads, 0 },
                { "flood", live_flood, 60 },
                { "worker-killed", live_worker_killed, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
