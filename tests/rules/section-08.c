/* SPDX-License-Identifier: Apache-2.0 */

/* Section 8 of docs/SEMANTICS.md: sending on streams. */

#include "tests/rules/section.h"

static int section_08_send(struct section *section, uint64_t socket, const void *bytes, size_t len,
                           struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { section->client.memory, len };

        memcpy(section->client.memory, bytes, len);
        return ovl_send(section->client.thread, socket, &buffer, 1, OVL_WANT_VERDICT, overlapped, NULL);
}

static void section_08_leaves_whole_and_in_order(void **state) {
        enum {
                N = 16,
                LEN = CLIENT_MEMORY / N
        };
        struct ovl_overlapped sending[N] = { 0 };
        struct section section;
        static char received[N * LEN];

        section_start(&section);
        /* None of them fits into the connection as a whole. */
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 16384));
        pattern_fill(section.client.memory, CLIENT_MEMORY, 0);
        for (size_t i = 0; i < N; i++)
                assert_ok(client_send(&section.client, section.socket, section.client.memory + i * LEN, LEN, 0,
                                      &sending[i]));
        peer_read(section.fd, received, sizeof(received));
        pattern_check(received, sizeof(received), 0);
        for (size_t i = 0; i < N; i++)
                client_expect(&section.client, &sending[i], 0, LEN);
        section_stop(&section);
}

static void section_08_nothing_is_sent_for_nothing(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        char byte;

        section_start(&section);
        assert_int_equal(section_08_send(&section, section.socket, "", 0, &sending), 0);
        client_expect(&section.client, &sending, 0, 0);
        assert_int_equal(recv(section.fd, &byte, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
        section_stop(&section);
}

static void section_08_refusals(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        uint64_t stream;

        section_start(&section);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_int_equal(section_08_send(&section, stream, "1", 1, &sending), -ENOTCONN);
        assert_ok(ovl_socket_close(section.client.thread, stream));
        assert_int_equal(section_08_send(&section, stream, "1", 1, &sending), -EBADF);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_WR));
        assert_int_equal(section_08_send(&section, section.socket, "1", 1, &sending), -ESHUTDOWN);
        section_stop(&section);
}

static void section_08_after_a_reset(void **state) {
        struct ovl_overlapped operation = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &operation, NULL), OVL_PENDING);
        peer_reset(section.fd);
        section.fd = -1;
        client_expect(&section.client, &operation, -ECONNRESET, 0);
        assert_int_equal(section_08_send(&section, section.socket, "1", 1, &operation), -ECONNRESET);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &operation, NULL), -ECONNRESET);
        client_stop(&section.client);
}

static void section_08_flags(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        struct ovl_buffer parts[3];
        char got[2], urgent;

        section_start(&section);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, 1,
                                     OVL_PARTIAL | OVL_DONTROUTE | OVL_WANT_VERDICT, &sending),
                         0);
        client_expect(&section.client, &sending, 0, 1);
        peer_read(section.fd, got, 1);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, 1, 0x40000000, &sending),
                         -EOPNOTSUPP);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, 1, OVL_PEEK, &sending),
                         -EOPNOTSUPP);
        /* Only the last byte is urgent, wherever it lies. */
        memcpy(section.client.memory, "abc", 3);
        for (size_t n = 1; n <= 3; n++) {
                parts[0] = (struct ovl_buffer){ section.client.memory, n == 1 ? 3 : 2 };
                parts[1] = (struct ovl_buffer){ section.client.memory + 2, 1 };
                parts[2] = (struct ovl_buffer){ section.client.memory, 0 };
                assert_ok(ovl_send(section.client.thread, section.socket, parts, n, OVL_OOB, &sending, NULL));
                client_expect(&section.client, &sending, 0, 3);
                peer_read(section.fd, got, 2);
                assert_memory_equal(got, "ab", 2);
                assert_int_equal(recv(section.fd, &urgent, 1, MSG_OOB), 1);
                assert_int_equal(urgent, 'c');
        }
        section_stop(&section);
}

static void section_08_is_taken_whole_or_not(void **state) {
        struct ovl_overlapped sending[2] = { 0 };
        struct section section;
        static char received[CLIENT_MEMORY];

        section_start(&section);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 16384));
        pattern_fill(section.client.memory, CLIENT_MEMORY, 0);
        /* There is room for some of it, and so it is taken; the rest leaves in its turn. */
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, CLIENT_MEMORY,
                                     OVL_DONTWAIT | OVL_WANT_VERDICT, &sending[0]),
                         OVL_PENDING);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, 1,
                                     OVL_DONTWAIT | OVL_WANT_VERDICT, &sending[1]),
                         0);
        client_expect(&section.client, &sending[1], -EAGAIN, 0);
        peer_read(section.fd, received, CLIENT_MEMORY);
        pattern_check(received, CLIENT_MEMORY, 0);
        client_expect(&section.client, &sending[0], 0, CLIENT_MEMORY);
        section_stop(&section);
}

static void section_08_pends_without_room(void **state) {
        enum {
                N = 8,
                LEN = CLIENT_MEMORY / N
        };
        struct ovl_overlapped sending[N] = { 0 };
        static char received[N * LEN];
        struct section section;
        unsigned n_pending = 0;

        section_start(&section);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 65536));
        pattern_fill(section.client.memory, CLIENT_MEMORY, 0);
        for (size_t i = 0; i < N; i++) {
                int r = client_send(&section.client, section.socket, section.client.memory + i * LEN, LEN,
                                    OVL_WANT_VERDICT, &sending[i]);

                assert_true(r == 0 || r == OVL_PENDING);
                assert_true(r == OVL_PENDING || n_pending == 0);
                n_pending += r == OVL_PENDING;
        }
        assert_true(n_pending > 0);
        peer_read(section.fd, received, sizeof(received));
        pattern_check(received, sizeof(received), 0);
        for (size_t i = 0; i < N; i++)
                client_expect(&section.client, &sending[i], 0, LEN);
        section_stop(&section);
}

/* A send that the kernel has taken whole, and of which the peer has room for a part. */
static void section_08_send_unacknowledged(struct section *section, size_t len, struct ovl_overlapped *sending) {
        assert_ok(ovl_setsockopt(section->client.thread, section->socket, SOL_SOCKET, SO_SNDBUF, 400000));
        assert_ok(ovl_setsockopt(section->client.thread, section->socket, SOL_SOCKET, SO_SNDBUF, 0));
        pattern_fill(section->client.memory, len, 0);
        assert_int_equal(
                client_send(&section->client, section->socket, section->client.memory, len, OVL_WANT_VERDICT, sending),
                OVL_PENDING);
}

static void section_08_waits_for_acknowledgements(void **state) {
        enum {
                LEN = 250000
        };
        struct ovl_overlapped sending[3] = { 0 };
        struct section section;
        static char received[LEN + 10];
        int size = -1;

        section_start(&section);
        section_08_send_unacknowledged(&section, LEN, &sending[0]);
        assert_ok(ovl_getsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, &size));
        assert_int_equal(size, 0);
        pattern_fill(section.client.memory + LEN, 10, LEN);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory + LEN, 10, 0, &sending[1]),
                         OVL_PENDING);
        assert_int_equal(client_send(&section.client, section.socket, section.client.memory, 0, 0, &sending[2]),
                         OVL_PENDING);
        assert_int_equal(ovl_sleep(section.client.thread, 4 * SECTION_NOTHING), 0);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_result(&sending[i]), -EINPROGRESS);
        peer_read(section.fd, received, sizeof(received));
        pattern_check(received, sizeof(received), 0);
        client_expect(&section.client, &sending[0], 0, LEN);
        client_expect(&section.client, &sending[1], 0, 10);
        client_expect(&section.client, &sending[2], 0, 0);
        /* With a buffer it ends when the kernel has it. */
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 400000));
        assert_ok(client_send(&section.client, section.socket, section.client.memory, LEN, 0, &sending[0]));
        client_expect(&section.client, &sending[0], 0, LEN);
        section_stop(&section);
}

static void section_08_the_buffer_is_free_at_the_end(void **state) {
        enum {
                LEN = CLIENT_MEMORY / 2,
                STEP = 4096
        };
        struct ovl_overlapped sending = { 0 };
        static char received[LEN];
        struct section section;
        size_t n = 0;

        section_start(&section);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 16384));
        pattern_fill(section.client.memory, LEN, 0);
        assert_ok(client_send(&section.client, section.socket, section.client.memory, LEN, 0, &sending));
        for (; n < LEN && ovl_wait(section.client.thread, &sending, 0, 0) == -ETIMEDOUT; n += STEP)
                peer_read(section.fd, received + n, STEP);
        client_expect(&section.client, &sending, 0, LEN);
        memset(section.client.memory, '!', LEN);
        peer_read(section.fd, received + n, LEN - n);
        pattern_check(received, LEN, 0);
        section_stop(&section);
}

static void section_08_while_connecting(void **state) {
        struct ovl_overlapped connecting = { 0 }, operation = { 0 };
        struct sockaddr_storage address;
        struct section section;
        int listener, fillers[3];
        uint64_t stream;
        socklen_t len;

        section_start(&section);
        /* Nobody accepts, and no further connection is made. */
        len = client_loopback(AF_INET, &address);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 0), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        for (size_t i = 0; i < 3; i++) {
                fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                connect(fillers[i], (struct sockaddr *) &address, len);
        }
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_int_equal(ovl_connect(section.client.thread, stream, (struct sockaddr *) &address, len, OVL_WANT_VERDICT,
                                     &connecting, NULL),
                         OVL_PENDING);
        assert_int_equal(section_08_send(&section, stream, "1", 1, &operation), -ENOTCONN);
        assert_int_equal(client_recv(&section.client, stream, section.client.memory, 1, OVL_WANT_VERDICT, &operation),
                         -ENOTCONN);
        assert_int_equal(ovl_connect(section.client.thread, stream, (struct sockaddr *) &address, len, OVL_WANT_VERDICT,
                                     &operation, NULL),
                         -EALREADY);
        assert_int_equal(connecting.status, -EINPROGRESS);
        assert_ok(ovl_socket_close(section.client.thread, stream));
        client_expect(&section.client, &connecting, -ECANCELED, 0);
        for (size_t i = 0; i < 3; i++)
                close(fillers[i]);
        close(listener);
        section_stop(&section);
}

static void section_08_a_reset_in_the_middle(void **state) {
        struct ovl_overlapped sending[4] = { 0 };
        struct section section;

        section_start(&section);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 16384));
        assert_int_equal(setsockopt(section.fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)), 0);
        /* The first has been sent in part. */
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(client_send(&section.client, section.socket, section.client.memory, CLIENT_MEMORY,
                                             OVL_WANT_VERDICT, &sending[i]),
                                 OVL_PENDING);
        peer_reset(section.fd);
        for (size_t i = 0; i < 4; i++)
                client_expect(&section.client, &sending[i], -ECONNRESET, 0);
        client_stop(&section.client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "8.1 8.2 sends leave whole and in order", section_08_leaves_whole_and_in_order },
                { "8.3 a send that does not wait is taken whole or not at all", section_08_is_taken_whole_or_not },
                { "8.4 a send pends while there is no room", section_08_pends_without_room },
                { "8.5 without a buffer a send waits for its acknowledgement", section_08_waits_for_acknowledgements },
                { "8.6 the buffer is free when the send has ended", section_08_the_buffer_is_free_at_the_end },
                { "8.9 a socket that is being connected", section_08_while_connecting },
                { "8.10 a reset in the middle of sends", section_08_a_reset_in_the_middle },
                { "8.7 nothing is sent for nothing", section_08_nothing_is_sent_for_nothing },
                { "8.8 sends are refused by state", section_08_refusals },
                { "8.8 after a reset both directions fail", section_08_after_a_reset },
                { "8.11 the flags of sends", section_08_flags },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
