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

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "8.1 8.2 sends leave whole and in order", section_08_leaves_whole_and_in_order },
                { "8.3 a send that does not wait is taken whole or not at all", section_08_is_taken_whole_or_not },
                { "8.7 nothing is sent for nothing", section_08_nothing_is_sent_for_nothing },
                { "8.8 sends are refused by state", section_08_refusals },
                { "8.8 after a reset both directions fail", section_08_after_a_reset },
                { "8.11 the flags of sends", section_08_flags },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
