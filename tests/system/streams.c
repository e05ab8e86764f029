/* SPDX-License-Identifier: Apache-2.0 */

/* How bytes flow: order, exact results, and what begins and ends a stream. */

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

/* --- Beginnings ------------------------------------------------------------------------------------------------- */

/* Both ends of the connection belong to the session: whatever one sends the other receives, and names agree. */
static void streams_connect(int family) {
        struct ovl_overlapped accepting = { 0 }, connecting = { 0 }, receiving = { 0 }, sending = { 0 };
        struct sockaddr_storage address, local, peer;
        socklen_t len, local_len = sizeof(local), peer_len = sizeof(peer);
        struct client client;
        uint64_t listener, socket;

        client_start(&client);
        listener = client_listen(&client, family, &address, &len);
        assert_int_equal(ovl_accept(client.thread, listener, 0, &accepting, NULL), OVL_PENDING);
        assert_ok(ovl_socket_open(client.thread, family, SOCK_STREAM, &socket));
        assert_ok(ovl_connect(client.thread, socket, (struct sockaddr *) &address, len, 0, &connecting, NULL));
        client_expect(&client, &connecting, 0, 0);
        client_expect(&client, &accepting, 0, 0);
        assert_ok(ovl_getsockname(client.thread, socket, (struct sockaddr *) &local, &local_len));
        assert_ok(ovl_getpeername(client.thread, accepting.value, (struct sockaddr *) &peer, &peer_len));
        assert_int_equal(local_len, len);
        assert_int_equal(peer_len, len);
        assert_memory_equal(&local, &peer, len);
        assert_ok(client_recv(&client, accepting.value, client.memory, 100, 0, &receiving));
        strcpy(client.memory + 100, "over loopback");
        assert_ok(client_send(&client, socket, client.memory + 100, 13, 0, &sending));
        client_expect(&client, &sending, 0, 13);
        client_expect(&client, &receiving, 0, 13);
        assert_memory_equal(client.memory, "over loopback", 13);
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_ok(ovl_socket_close(client.thread, accepting.value));
        assert_ok(ovl_socket_close(client.thread, listener));
        client_stop(&client);
}

static void streams_over_ipv4(void **state) {
        streams_connect(AF_INET);
}

static void streams_over_ipv6(void **state) {
        streams_connect(AF_INET6);
}

static void streams_accepts_are_served_in_order(void **state) {
        struct ovl_overlapped accepting[8] = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener;
        socklen_t len;
        int fds[8];

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        for (size_t i = 0; i < 8; i++)
                assert_ok(ovl_accept(client.thread, listener, 0, &accepting[i], NULL));
        for (size_t i = 0; i < 8; i++) {
                struct sockaddr_storage mine, peer;
                socklen_t mine_len = sizeof(mine), peer_len = sizeof(peer);

                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &address, len), 0);
                client_expect(&client, &accepting[i], 0, 0);
                assert_int_equal(getsockname(fds[i], (struct sockaddr *) &mine, &mine_len), 0);
                assert_ok(ovl_getpeername(client.thread, accepting[i].value, (struct sockaddr *) &peer, &peer_len));
                assert_memory_equal(&mine, &peer, mine_len);
                for (size_t k = i + 1; k < 8; k++)
                        assert_int_equal(ovl_result(&accepting[k]), -EINPROGRESS);
        }
        for (size_t i = 0; i < 8; i++)
                close(fds[i]);
        client_stop(&client);
}

/* --- Receives --------------------------------------------------------------------------------------------------- */

static void streams_receives_fill_in_order(void **state) {
        static const size_t lens[] = { 10, 10, 10, 5 };
        struct ovl_overlapped receiving[5] = { 0 };
        struct client client;
        uint64_t socket;
        char data[35];
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(client_recv(&client, socket, client.memory + i * 10, 10, 0, &receiving[i]),
                                 OVL_PENDING);
        pattern_fill(data, sizeof(data), 0);
        peer_write(fd, data, sizeof(data));
        for (size_t i = 0; i < 4; i++)
                client_expect(&client, &receiving[i], 0, lens[i]);
        pattern_check(client.memory, 35, 0);
        assert_int_equal(ovl_result(&receiving[4]), -EINPROGRESS);
        peer_write(fd, "!", 1);
        client_expect(&client, &receiving[4], 0, 1);
        assert_int_equal(client.memory[40], '!');
        close(fd);
        client_stop(&client);
}

static void streams_scatter_and_gather(void **state) {
        struct ovl_overlapped receiving = { 0 }, sending = { 0 };
        struct ovl_buffer buffers[65];
        struct client client;
        size_t at = 0, sum = 0;
        uint64_t socket;
        char data[64 * 65 / 2];
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET6, &fd);
        for (size_t i = 0; i < 65; i++) {
                buffers[i] = (struct ovl_buffer){ client.memory + at, i + 1 };
                at += 2 * (i + 1);
                sum += i < 64 ? i + 1 : 0;
        }
        assert_int_equal(ovl_recv(client.thread, socket, buffers, 65, 0, &receiving, NULL), -EMSGSIZE);
        assert_ok(ovl_recv(client.thread, socket, buffers, 64, OVL_WAITALL, &receiving, NULL));
        pattern_fill(data, sum, 0);
        peer_write(fd, data, sum);
        client_expect(&client, &receiving, 0, sum);
        at = 0;
        for (size_t i = 0; i < 64; at += buffers[i].len, i++)
                pattern_check(buffers[i].data, buffers[i].len, at);
        assert_ok(ovl_send(client.thread, socket, buffers, 64, 0, &sending, NULL));
        client_expect(&client, &sending, 0, sum);
        peer_read(fd, data, sum);
        pattern_check(data, sum, 0);
        close(fd);
        client_stop(&client);
}

static void streams_empty_receive_consumes_nothing(void **state) {
        struct ovl_overlapped empty = { 0 }, full = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(client_recv(&client, socket, client.memory, 0, OVL_WANT_VERDICT, &empty), OVL_PENDING);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &full));
        peer_write(fd, "abc", 3);
        client_expect(&client, &empty, 0, 0);
        client_expect(&client, &full, 0, 3);
        assert_memory_equal(client.memory, "abc", 3);
        assert_ok(client_recv(&client, socket, client.memory, 0, 0, &empty));
        close(fd);
        client_expect(&client, &empty, 0, 0);
        client_stop(&client);
}

static void streams_peek_leaves_the_data(void **state) {
        struct ovl_overlapped peeking[2] = { 0 }, taking = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 4, OVL_PEEK, &peeking[0]));
        assert_ok(client_recv(&client, socket, client.memory + 10, 8, OVL_PEEK, &peeking[1]));
        assert_ok(client_recv(&client, socket, client.memory + 20, 10, 0, &taking));
        peer_write(fd, "abcdef", 6);
        client_expect(&client, &peeking[0], 0, 4);
        client_expect(&client, &peeking[1], 0, 6);
        client_expect(&client, &taking, 0, 6);
        assert_memory_equal(client.memory, "abcd", 4);
        assert_memory_equal(client.memory + 10, "abcdef", 6);
        assert_memory_equal(client.memory + 20, "abcdef", 6);
        close(fd);
        client_stop(&client);
}

static void streams_waitall_fills_the_buffers(void **state) {
        struct ovl_overlapped whole = { 0 }, cut = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 10, OVL_WAITALL, &whole));
        assert_ok(client_recv(&client, socket, client.memory + 10, 10, OVL_WAITALL, &cut));
        for (size_t i = 0; i < 9; i++) {
                pattern_fill(client.memory + 100, 1, i);
                peer_write(fd, client.memory + 100, 1);
        }
        assert_int_equal(ovl_dispatch(client.thread), 0);
        assert_int_equal(ovl_result(&whole), -EINPROGRESS);
        pattern_fill(client.memory + 100, 4, 9);
        peer_write(fd, client.memory + 100, 4);
        client_expect(&client, &whole, 0, 10);
        close(fd);
        client_expect(&client, &cut, 0, 3);
        pattern_check(client.memory, 13, 0);
        client_stop(&client);
}

/* --- Sends ------------------------------------------------------------------------------------------------------ */

#define STREAMS_BIG (64u << 20)

/* 64 MiB to a peer that reads in its own time: one record, and not before everything has left. */
static void streams_big_send_is_whole(void **state) {
        struct ovl_overlapped sending = { 0 };
        _cleanup_free_ char *piece = malloc(1 << 20);
        struct ovl_region *region;
        struct client client;
        uint64_t socket;
        size_t big;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, socket, fd, STREAMS_BIG);
        assert_ok(ovl_region_open(client.thread, big, &region));
        pattern_fill(ovl_region_data(region), big, 0);
        assert_ok(client_send(&client, socket, ovl_region_data(region), big, 0, &sending));
        for (uint64_t at = 0; at < big; at += 1 << 20) {
                if (at < big / 4) {
                        assert_ok(ovl_dispatch(client.thread));
                        assert_int_equal(ovl_result(&sending), -EINPROGRESS);
                }
                peer_read(fd, piece, 1 << 20);
                pattern_check(piece, 1 << 20, at);
        }
        client_expect(&client, &sending, 0, big);
        close(fd);
        assert_ok(ovl_region_close(client.thread, region));
        client_stop(&client);
}

static void streams_queued_sends_have_exact_results(void **state) {
        struct ovl_overlapped sending[100] = { 0 };
        struct ovl_status before, after;
        struct client client;
        uint64_t socket;
        size_t at = 0;
        char data[101 * 50];
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        pattern_fill(client.memory, sizeof(data), 0);
        assert_ok(ovl_status(client.thread, &before));
        ovl_cork(client.thread);
        for (size_t i = 0; i < 100; at += i, i++)
                assert_int_equal(client_send(&client, socket, client.memory + at, i, 0, &sending[i]), OVL_PENDING);
        assert_ok(ovl_uncork(client.thread));
        for (size_t i = 0; i < 100; i++)
                client_expect(&client, &sending[i], 0, i);
        peer_read(fd, data, at);
        pattern_check(data, at, 0);
        assert_ok(ovl_status(client.thread, &after));
        assert_true(after.bytes_sent - before.bytes_sent == at);
        assert_true(after.entries - before.entries == 100);
        close(fd);
        client_stop(&client);
}

/* What queues behind a send that fills the socket shares requests, and nobody sees it in the results. */
static void streams_merged_sends_have_exact_results(void **state) {
        struct ovl_overlapped first = { 0 }, sending[40] = { 0 };
        _cleanup_free_ char *data = malloc(CLIENT_MEMORY);
        struct ovl_status status;
        struct ovl_region *region;
        struct client client;
        uint64_t socket;
        size_t big, at;
        char *memory;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        at = big = client_big(&client, socket, fd, 16u << 20);
        assert_ok(ovl_region_open(client.thread, big + CLIENT_MEMORY, &region));
        memory = ovl_region_data(region);
        pattern_fill(memory, big + CLIENT_MEMORY, 0);
        assert_ok(client_send(&client, socket, memory, big, 0, &first));
        for (size_t i = 0; i < 40; at += i * 100 + 1, i++)
                assert_ok(client_send(&client, socket, memory + at, i * 100 + 1, 0, &sending[i]));
        for (size_t left = at; left > 0;) {
                size_t n = left < CLIENT_MEMORY ? left : CLIENT_MEMORY;

                peer_read(fd, data, n);
                pattern_check(data, n, at - left);
                left -= n;
        }
        client_expect(&client, &first, 0, big);
        for (size_t i = 0; i < 40; i++)
                client_expect(&client, &sending[i], 0, i * 100 + 1);
        assert_ok(ovl_status(client.thread, &status));
        assert_true(status.merged_ops > 0);
        close(fd);
        assert_ok(ovl_region_close(client.thread, region));
        client_stop(&client);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

static void streams_end_reaches_all_receives(void **state) {
        struct ovl_overlapped receiving[3] = { 0 }, sending = { 0 };
        struct client client;
        uint64_t socket;
        char data[4];
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < 3; i++)
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[i]));
        shutdown(fd, SHUT_WR);
        for (size_t i = 0; i < 3; i++)
                client_expect(&client, &receiving[i], 0, 0);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[0]));
        client_expect(&client, &receiving[0], 0, 0);
        memcpy(client.memory, "back", 4);
        assert_ok(client_send(&client, socket, client.memory, 4, 0, &sending));
        client_expect(&client, &sending, 0, 4);
        peer_read(fd, data, 4);
        assert_memory_equal(data, "back", 4);
        close(fd);
        client_stop(&client);
}

/* HOSTILE 75. */
static void streams_reset_ends_each_once(void **state) {
        struct ovl_overlapped receiving[2] = { 0 }, sending[2] = { 0 }, later = { 0 };
        struct ovl_region *region;
        struct client client;
        uint64_t socket;
        size_t big;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, socket, fd, 32u << 20);
        assert_ok(ovl_region_open(client.thread, big, &region));
        for (size_t i = 0; i < 2; i++) {
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving[i]));
                assert_ok(client_send(&client, socket, ovl_region_data(region), big, 0, &sending[i]));
        }
        peer_read(fd, client.memory + 4096, 100);
        peer_reset(fd);
        for (size_t i = 0; i < 2; i++) {
                client_expect(&client, &receiving[i], -ECONNRESET, 0);
                assert_int_equal(client_await(&client, &sending[i]), -ECONNRESET);
        }
        assert_int_equal(client_send(&client, socket, client.memory, 1, OVL_WANT_VERDICT, &later), -ECONNRESET);
        assert_int_equal(client_recv(&client, socket, client.memory, 1, OVL_WANT_VERDICT, &later), -ECONNRESET);
        assert_ok(client_recv(&client, socket, client.memory, 1, 0, &later));
        client_expect(&client, &later, -ECONNRESET, 0);
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_ok(ovl_region_close(client.thread, region));
        client_stop(&client);
}

static void streams_shutdown_lets_sends_leave(void **state) {
        struct ovl_overlapped sending[3] = { 0 }, later = { 0 }, receiving = { 0 };
        _cleanup_free_ char *data = malloc(12u << 20);
        struct ovl_region *region;
        struct client client;
        uint64_t socket;
        size_t big;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, socket, fd, 4u << 20);
        assert_ok(ovl_region_open(client.thread, 3 * big, &region));
        pattern_fill(ovl_region_data(region), 3 * big, 0);
        for (size_t i = 0; i < 3; i++)
                assert_ok(
                        client_send(&client, socket, (char *) ovl_region_data(region) + i * big, big, 0, &sending[i]));
        assert_ok(ovl_shutdown(client.thread, socket, SHUT_WR));
        assert_int_equal(client_send(&client, socket, client.memory, 1, OVL_WANT_VERDICT, &later), -ESHUTDOWN);
        peer_read(fd, data, 3 * big);
        pattern_check(data, 3 * big, 0);
        peer_expect_end(fd);
        for (size_t i = 0; i < 3; i++)
                client_expect(&client, &sending[i], 0, big);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        peer_write(fd, "still", 5);
        client_expect(&client, &receiving, 0, 5);
        close(fd);
        assert_ok(ovl_region_close(client.thread, region));
        client_stop(&client);
}

static void streams_receive_shutdown_keeps_pending(void **state) {
        struct ovl_overlapped receiving = { 0 }, later = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        assert_ok(ovl_shutdown(client.thread, socket, SHUT_RD));
        assert_int_equal(client_recv(&client, socket, client.memory, 1, OVL_WANT_VERDICT, &later), -ESHUTDOWN);
        peer_write(fd, "kept", 4);
        client_expect(&client, &receiving, 0, 4);
        assert_memory_equal(client.memory, "kept", 4);
        close(fd);
        client_stop(&client);
}

static void streams_accept_does_not_wait(void **state) {
        struct ovl_overlapped accepting = { 0 }, polling = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener;
        socklen_t len;
        int fd;

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(ovl_accept(client.thread, listener, OVL_DONTWAIT | OVL_WANT_VERDICT, &accepting, NULL),
                                 0);
                client_expect(&client, &accepting, -EAGAIN, 0);
        }
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        assert_ok(ovl_poll(client.thread, listener, POLLIN, 0, &polling, NULL));
        client_expect(&client, &polling, 0, 0);
        assert_int_equal(ovl_accept(client.thread, listener, OVL_DONTWAIT | OVL_WANT_VERDICT, &accepting, NULL), 0);
        client_expect(&client, &accepting, 0, 0);
        assert_true(accepting.value != 0);
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a stream over IPv4", streams_over_ipv4 },
                { "a stream over IPv6", streams_over_ipv6 },
                { "accepts are served in posting order", streams_accepts_are_served_in_order },
                { "receives fill in posting order from one segment", streams_receives_fill_in_order },
                { "64 buffers are scattered to and gathered from", streams_scatter_and_gather },
                { "a receive of nothing consumes nothing", streams_empty_receive_consumes_nothing },
                { "a peek leaves the data", streams_peek_leaves_the_data },
                { "a receive that waits for all ends full or at the end", streams_waitall_fills_the_buffers },
                { "a send of 64 MiB to a slow reader is whole", streams_big_send_is_whole, 60 },
                { "queued sends have exact results", streams_queued_sends_have_exact_results },
                { "merged sends have exact results", streams_merged_sends_have_exact_results },
                { "the end of the stream reaches all receives", streams_end_reaches_all_receives },
                { "a reset ends each operation once", streams_reset_ends_each_once },
                { "a shutdown lets queued sends leave", streams_shutdown_lets_sends_leave },
                { "a shutdown of receiving keeps what is pending", streams_receive_shutdown_keeps_pending },
                { "an accept that does not wait", streams_accept_does_not_wait },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
