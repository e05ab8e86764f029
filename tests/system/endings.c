/* SPDX-License-Identifier: Apache-2.0 */

/* How operations end that nobody let finish: cancelled, closed under, or abandoned with their thread or session. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define ENDINGS_ROUNDS 3000

/* --- Cancels ---------------------------------------------------------------------------------------------------- */

static void endings_cancel_one(void **state) {
        struct ovl_overlapped receiving[3] = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < 3; i++)
                assert_ok(client_recv(&client, socket, client.memory + i * 10, 10, 0, &receiving[i]));
        assert_int_equal(ovl_cancel(client.thread, socket, &receiving[1]), 1);
        assert_int_equal(ovl_result(&receiving[1]), -ECANCELED);
        assert_int_equal(ovl_result(&receiving[0]), -EINPROGRESS);
        assert_int_equal(ovl_cancel(client.thread, socket, &receiving[1]), -ENOENT);
        assert_int_equal(ovl_cancel(client.thread, socket, &receiving[0]), 1);
        assert_int_equal(ovl_result(&receiving[0]), -ECANCELED);
        peer_write(fd, "third", 5);
        client_expect(&client, &receiving[2], 0, 5);
        assert_memory_equal(client.memory + 20, "third", 5);
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), -ENOENT);
        close(fd);
        client_stop(&client);
}

static void endings_cancel_all(void **state) {
        struct ovl_overlapped receiving[20] = { 0 }, accepting[3] = { 0 }, later = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t socket, listener;
        socklen_t len;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        listener = client_listen(&client, AF_INET, &address, &len);
        for (size_t i = 0; i < 20; i++)
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[i]));
        for (size_t i = 0; i < 3; i++)
                assert_ok(ovl_accept(client.thread, listener, 0, &accepting[i], NULL));
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), 20);
        assert_int_equal(ovl_cancel(client.thread, listener, NULL), 3);
        for (size_t i = 0; i < 20; i++)
                assert_int_equal(ovl_result(&receiving[i]), -ECANCELED);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_result(&accepting[i]), -ECANCELED);
        peer_write(fd, "after", 5);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &later));
        client_expect(&client, &later, 0, 5);
        close(fd);
        client_stop(&client);
}

/* HOSTILE 79: either the data and no cancel, or the cancel and the data still in the socket. */
static void endings_cancel_races_with_data(void **state) {
        struct ovl_overlapped receiving = { 0 };
        size_t n_received = 0, n_cancelled = 0;
        struct client client;
        uint64_t socket;
        int fd, r;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < ENDINGS_ROUNDS; i++) {
                char byte;

                assert_ok(client_recv(&client, socket, client.memory, 16, 0, &receiving));
                pattern_fill(&byte, 1, i);
                peer_write(fd, &byte, 1);
                r = ovl_cancel(client.thread, socket, &receiving);
                /* Too late is told in two ways: the operation was found and ended by itself, or was not found. */
                assert_true(r == 1 || r == 0 || r == -ENOENT);
                assert_int_equal(ovl_result(&receiving), r == 1 ? -ECANCELED : 0);
                n_cancelled += r == 1;
                pattern_check(client.memory, receiving.bytes, n_received);
                n_received += receiving.bytes;
        }
        while (n_received < ENDINGS_ROUNDS) {
                assert_ok(client_recv(&client, socket, client.memory, 4096, 0, &receiving));
                assert_int_equal(client_await(&client, &receiving), 0);
                assert_true(receiving.bytes > 0);
                pattern_check(client.memory, receiving.bytes, n_received);
                n_received += receiving.bytes;
        }
        assert_int_equal(n_received, ENDINGS_ROUNDS);
        printf("%zu of %d receives were cancelled in time\n", n_cancelled, ENDINGS_ROUNDS);
        close(fd);
        client_stop(&client);
}

/* HOSTILE 78: what had left is told exactly. */
static void endings_cancelled_send_tells_what_left(void **state) {
        struct ovl_overlapped sending[2] = { 0 };
        struct ovl_region *region;
        _cleanup_free_ char *data = NULL;
        struct client client;
        size_t big;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, socket, fd, 32u << 20);
        assert_ok(ovl_region_open(client.thread, big, &region));
        pattern_fill(ovl_region_data(region), big, 0);
        assert_ok(client_send(&client, socket, ovl_region_data(region), big, 0, &sending[0]));
        assert_ok(client_send(&client, socket, ovl_region_data(region), big, 0, &sending[1]));
        peer_read(fd, client.memory, 1000);
        pattern_check(client.memory, 1000, 0);
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), 2);
        client_expect(&client, &sending[1], -ECANCELED, 0);
        assert_int_equal(ovl_result(&sending[0]), -ECANCELED);
        assert_true(sending[0].bytes >= 1000 && sending[0].bytes < big);
        assert_ok(ovl_shutdown(client.thread, socket, SHUT_WR));
        data = malloc(sending[0].bytes);
        peer_read(fd, data, sending[0].bytes - 1000);
        pattern_check(data, sending[0].bytes - 1000, 1000);
        peer_expect_end(fd);
        close(fd);
        assert_ok(ovl_region_close(client.thread, region));
        client_stop(&client);
}

/* --- Closes ----------------------------------------------------------------------------------------------------- */

/* HOSTILE 80 and 81: the records are there before the close returns. */
static void endings_close_ends_what_is_pending(void **state) {
        struct ovl_overlapped receiving[4] = { 0 }, sending = { 0 }, accepting = { 0 };
        struct sockaddr_storage address;
        struct ovl_region *region;
        struct client client;
        uint64_t socket, listener;
        socklen_t len;
        size_t big;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, socket, fd, 32u << 20);
        listener = client_listen(&client, AF_INET6, &address, &len);
        assert_ok(ovl_region_open(client.thread, big, &region));
        for (size_t i = 0; i < 4; i++)
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[i]));
        assert_ok(client_send(&client, socket, ovl_region_data(region), big, 0, &sending));
        assert_ok(ovl_accept(client.thread, listener, 0, &accepting, NULL));
        assert_ok(ovl_socket_close(client.thread, socket));
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(ovl_result(&receiving[i]), -ECANCELED);
        assert_int_equal(ovl_result(&sending), -ECANCELED);
        assert_ok(ovl_socket_close(client.thread, listener));
        assert_int_equal(ovl_result(&accepting), -ECANCELED);
        assert_ok(ovl_region_close(client.thread, region));
        close(fd);
        client_stop(&client);
}

static void endings_closed_socket_is_unknown(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        struct client client;
        uint64_t socket;
        int fd, value;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_int_equal(ovl_socket_close(client.thread, socket), -EBADF);
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, "closed"));
        assert_int_equal(client_recv(&client, socket, client.memory, 10, OVL_WANT_VERDICT, &receiving), -EBADF);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, -EBADF, 0);
        assert_int_equal(ovl_shutdown(client.thread, socket, SHUT_WR), -EBADF);
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), -EBADF);
        assert_int_equal(ovl_getsockname(client.thread, socket, (struct sockaddr *) &address, &len), -EBADF);
        assert_int_equal(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_KEEPALIVE, &value), -EBADF);
        assert_int_equal(ovl_socket_close(client.thread, 0), -EBADF);
        assert_int_equal(ovl_socket_close(client.thread, UINT64_MAX), -EBADF);
        peer_expect_end(fd);
        close(fd);
        client_stop(&client);
}

/* The number of a socket that is gone never names another one. */
static void endings_socket_numbers_are_not_reused(void **state) {
        struct client client;
        uint64_t first, other;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &first));
        assert_ok(ovl_socket_close(client.thread, first));
        for (size_t i = 0; i < 200; i++) {
                assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &other));
                assert_true(other != first);
                assert_ok(ovl_socket_close(client.thread, other));
        }
        client_stop(&client);
}

/* --- Threads, sessions, regions --------------------------------------------------------------------------------- */

static void endings_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        ++*(int *) overlapped->user;
}

static void endings_thread_close_ends_its_own(void **state) {
        struct ovl_overlapped mine = { 0 }, its[3] = { 0 };
        struct ovl_thread *thread;
        struct client client;
        uint64_t socket;
        int fd, n_called = 0;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_thread_open(client.session, &thread, NULL));
        assert_true(ovl_thread_number(thread) != ovl_thread_number(client.thread));
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &mine));
        for (size_t i = 0; i < 3; i++) {
                struct ovl_buffer buffer = { client.memory + 100, 10 };

                its[i].user = &n_called;
                assert_ok(ovl_recv(thread, socket, &buffer, 1, 0, &its[i], i == 0 ? NULL : endings_count));
        }
        ovl_thread_close(thread);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_result(&its[i]), -ECANCELED);
        assert_int_equal(n_called, 0);
        assert_int_equal(ovl_result(&mine), -EINPROGRESS);
        peer_write(fd, "mine", 4);
        client_expect(&client, &mine, 0, 4);
        close(fd);
        client_stop(&client);
}

/* What goes to a port outlives its thread, and then ends with the session. */
static void endings_session_ends_with_pending_operations(void **state) {
        struct ovl_overlapped receiving[50] = { 0 }, accepting[3] = { 0 };
        struct sockaddr_storage address;
        struct ovl_port *port;
        struct client client;
        uint64_t socket, listener;
        socklen_t len;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        listener = client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_port_open(client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(client.thread, port, listener, 1));
        for (size_t i = 0; i < 50; i++)
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[i]));
        for (size_t i = 0; i < 3; i++)
                assert_ok(ovl_accept(client.thread, listener, 0, &accepting[i], NULL));
        client.thread = ovl_thread_close(client.thread);
        for (size_t i = 0; i < 50; i++)
                assert_int_equal(ovl_result(&receiving[i]), -ECANCELED);
        assert_int_equal(ovl_result(&accepting[2]), -EINPROGRESS);
        assert_ok(ovl_thread_open(client.session, &client.thread, NULL));
        ovl_port_close(port);
        client_close(&client);
        peer_expect_end(fd);
        close(fd);
        estate_stop(&client.estate);
}

/* A region is given back only when no operation uses it any more. */
static void endings_region_close_waits(void **state) {
        struct ovl_overlapped receiving = { 0 }, later = { 0 };
        struct ovl_region *region;
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_region_open(client.thread, 8192, &region));
        assert_ok(client_recv(&client, socket, ovl_region_data(region), 8192, 0, &receiving));
        peer_write(fd, "x", 1);
        assert_ok(ovl_region_close(client.thread, region));
        assert_int_equal(ovl_result(&receiving), 0);
        assert_int_equal(receiving.bytes, 1);
        assert_int_equal(client_recv(&client, socket, client.memory, 10, 0, &later), OVL_PENDING);
        assert_int_equal(ovl_cancel(client.thread, socket, &later), 1);
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "one operation is cancelled, others go on", endings_cancel_one },
                { "all operations of a socket are cancelled", endings_cancel_all },
                { "a cancel that races with data loses no byte", endings_cancel_races_with_data, 60 },
                { "a cancelled send tells what had left", endings_cancelled_send_tells_what_left },
                { "a close ends what is pending before it returns", endings_close_ends_what_is_pending },
                { "a closed socket is unknown", endings_closed_socket_is_unknown },
                { "socket numbers are not used again", endings_socket_numbers_are_not_reused },
                { "a thread that closes ends its own operations", endings_thread_close_ends_its_own },
                { "a session ends with pending operations", endings_session_ends_with_pending_operations },
                { "closing a region waits for its operations", endings_region_close_waits },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
