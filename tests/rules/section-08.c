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

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "8.1 8.2 sends leave whole and in order", section_08_leaves_whole_and_in_order },
                { "8.7 nothing is sent for nothing", section_08_nothing_is_sent_for_nothing },
                { "8.8 sends are refused by state", section_08_refusals },
                { "8.8 after a reset both directions fail", section_08_after_a_reset },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
