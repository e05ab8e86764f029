/* SPDX-License-Identifier: Apache-2.0 */

/* Section 7 of docs/SEMANTICS.md: receiving from streams. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/rules/section.h"

static void section_07_fills_in_order(void **state) {
        struct ovl_overlapped receiving[3] = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(section_recv(&section, i, 0, &receiving[i], NULL), OVL_PENDING);
        peer_write(section.fd, "0123456789abcdefghijABCDE", 25); /* one segment for all three */
        client_expect(&section.client, &receiving[0], 0, 10);
        client_expect(&section.client, &receiving[1], 0, 10);
        client_expect(&section.client, &receiving[2], 0, 5);
        assert_memory_equal(section.client.memory, "0123456789abcdefghijABCDE", 25);
        section_stop(&section);
}

static void section_07_ends_with_any_data(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "1", 1);
        client_expect(&section.client, &receiving, 0, 1);
        section_stop(&section);
}

static void section_07_scatters(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_buffer buffers[3];
        struct section section;
        char *memory;

        section_start(&section);
        memory = section.client.memory;
        memset(memory, '.', 60);
        for (size_t i = 0; i < 3; i++)
                buffers[i] = (struct ovl_buffer){ memory + 20 * i, 4 };
        assert_int_equal(ovl_recv(section.client.thread, section.socket, buffers, 3, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving, 0, 10);
        assert_memory_equal(memory, "0123................4567................89..................", 60);
        section_stop(&section);
}

static void section_07_the_end_is_no_error(void **state) {
        struct ovl_overlapped receiving[3] = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, i, 0, &receiving[i], NULL), OVL_PENDING);
        assert_int_equal(shutdown(section.fd, SHUT_WR), 0);
        client_expect(&section.client, &receiving[0], 0, 0);
        client_expect(&section.client, &receiving[1], 0, 0);
        assert_int_equal(section_recv(&section, 2, OVL_WANT_VERDICT, &receiving[2], NULL), 0);
        assert_int_equal(receiving[2].status, 0);
        assert_int_equal(receiving[2].bytes, 0);
        section_stop(&section);
}

static void section_07_no_room_takes_nothing(void **state) {
        struct ovl_overlapped probing[2] = { 0 }, receiving = { 0 };
        struct section section;
        struct ovl_buffer none;

        section_start(&section);
        none = (struct ovl_buffer){ section.client.memory, 0 };
        assert_int_equal(ovl_recv(section.client.thread, section.socket, &none, 1, OVL_WANT_VERDICT, &probing[0], NULL),
                         OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &probing[0], 0, 0);
        assert_ok(ovl_recv(section.client.thread, section.socket, &none, 1, OVL_WANT_VERDICT, &probing[1], NULL));
        client_expect(&section.client, &probing[1], 0, 0);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        client_expect(&section.client, &receiving, 0, 5);
        section_stop(&section);
}

static void section_07_a_look_takes_nothing(void **state) {
        struct ovl_overlapped looking[2] = { 0 }, receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_PEEK, &looking[0], NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &looking[0], 0, 5);
        assert_int_equal(section_recv(&section, 1, OVL_PEEK, &looking[1], NULL), OVL_PENDING);
        client_expect(&section.client, &looking[1], 0, 5);
        assert_int_equal(section_recv(&section, 2, 0, &receiving, NULL), OVL_PENDING);
        client_expect(&section.client, &receiving, 0, 5);
        assert_memory_equal(section.client.memory, "five!", 5);
        assert_memory_equal(section.client.memory + 10, "five!", 5);
        assert_memory_equal(section.client.memory + 20, "five!", 5);
        section_stop(&section);
}

static void section_07_waits_for_all(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WAITALL, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "0123", 4);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, SECTION_NOTHING, 0), -ETIMEDOUT);
        peer_write(section.fd, "456789", 6);
        client_expect(&section.client, &receiving, 0, 10);
        assert_memory_equal(section.client.memory, "0123456789", 10);
        /* The end of the stream ends it, with what has come. */
        assert_int_equal(section_recv(&section, 0, OVL_WAITALL, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "0123", 4);
        assert_int_equal(shutdown(section.fd, SHUT_WR), 0);
        client_expect(&section.client, &receiving, 0, 4);
        assert_int_equal(section_recv(&section, 0, OVL_WAITALL | OVL_PEEK | OVL_WANT_VERDICT, &receiving, NULL),
                         -EOPNOTSUPP);
        section_stop(&section);
}

static void section_07_parts_of_messages_are_none(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_PARTIAL, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "0123456789abcde", 15);
        client_expect(&section.client, &receiving, 0, 10);
        assert_int_equal(receiving.flags, 0);
        assert_int_equal(section_recv(&section, 0, OVL_PARTIAL, &receiving, NULL), OVL_PENDING);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(receiving.flags, 0);
        assert_int_equal(section_recv(&section, 0, OVL_WAITALL | OVL_PARTIAL | OVL_WANT_VERDICT, &receiving, NULL),
                         -EOPNOTSUPP);
        section_stop(&section);
}

static void section_07_urgent_data_is_apart(void **state) {
        struct ovl_overlapped receiving = { 0 }, urgent[2] = { 0 };
        struct section section;

        section_start(&section);
        /* Neither waits for the other, and both are filled in their own order. */
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, 1 + i, OVL_OOB | OVL_WANT_VERDICT, &urgent[i], NULL),
                                 OVL_PENDING);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(send(section.fd, i == 0 ? "!" : "?", 1, MSG_OOB), 1);
                client_expect(&section.client, &urgent[i], 0, 1);
        }
        assert_int_equal(section.client.memory[10], '!');
        assert_int_equal(section.client.memory[20], '?');
        assert_int_equal(ovl_wait(section.client.thread, &receiving, SECTION_NOTHING, 0), -ETIMEDOUT);
        /* Nor is it lost when the stream goes on behind it. */
        assert_int_equal(section_recv(&section, 1, OVL_OOB | OVL_WANT_VERDICT, &urgent[0], NULL), OVL_PENDING);
        assert_int_equal(send(section.fd, "...!", 4, MSG_OOB), 4);
        peer_write(section.fd, "five.", 5);
        client_expect(&section.client, &urgent[0], 0, 1);
        assert_int_equal(section.client.memory[10], '!');
        client_expect(&section.client, &receiving, 0, 3);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
        client_expect(&section.client, &receiving, 0, 5);
        /* There is none; and where it is in the stream there never is any. */
        assert_int_equal(section_recv(&section, 1, OVL_OOB | OVL_DONTWAIT | OVL_WANT_VERDICT, &urgent[0], NULL), 0);
        client_expect(&section.client, &urgent[0], -EAGAIN, 0);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_OOBINLINE, 1));
        assert_int_equal(section_recv(&section, 1, OVL_OOB | OVL_WANT_VERDICT, &urgent[0], NULL), -EINVAL);
        assert_int_equal(section_recv(&section, 1, OVL_OOB | OVL_WAITALL | OVL_WANT_VERDICT, &urgent[0], NULL),
                         -EOPNOTSUPP);
        section_stop(&section);
}

static void section_07_urgent_data_that_never_comes(void **state) {
        struct ovl_overlapped urgent[3] = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(section_recv(&section, i, OVL_OOB, &urgent[i], NULL), OVL_PENDING);
        assert_ok(ovl_cancel(section.client.thread, section.socket, &urgent[0]));
        client_expect(&section.client, &urgent[0], -ECANCELED, 0);
        assert_int_equal(send(section.fd, "!", 1, MSG_OOB), 1);
        assert_int_equal(shutdown(section.fd, SHUT_WR), 0);
        client_expect(&section.client, &urgent[1], 0, 1);
        client_expect(&section.client, &urgent[2], 0, 0);
        assert_int_equal(section_recv(&section, 0, OVL_OOB, &urgent[0], NULL), OVL_PENDING);
        peer_reset(section.fd);
        section.fd = -1;
        client_await(&section.client, &urgent[0]);
        client_stop(&section.client);
}

static void section_07_a_hint_changes_nothing(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_PUSH_IMMEDIATE | OVL_WANT_VERDICT, &receiving, NULL),
                         OVL_PENDING);
        peer_write(section.fd, "five.", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(receiving.flags, 0);
        section_stop(&section);
}

static void section_07_does_not_wait(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;
        const unsigned now = OVL_DONTWAIT | OVL_WANT_VERDICT;
        struct ovl_buffer none;

        section_start(&section);
        none = (struct ovl_buffer){ section.client.memory, 0 };
        assert_int_equal(section_recv(&section, 0, now, &receiving[0], NULL), 0);
        client_expect(&section.client, &receiving[0], -EAGAIN, 0);
        assert_ok(ovl_recv(section.client.thread, section.socket, &none, 1, OVL_DONTWAIT, &receiving[0], NULL));
        client_expect(&section.client, &receiving[0], -EAGAIN, 0);
        section_bring(&section, "five.");
        assert_ok(ovl_recv(section.client.thread, section.socket, &none, 1, OVL_DONTWAIT, &receiving[0], NULL));
        client_expect(&section.client, &receiving[0], 0, 0);
        assert_int_equal(section_recv(&section, 0, now, &receiving[0], NULL), 0);
        client_expect(&section.client, &receiving[0], 0, 5);
        /* One that does not wait does not overtake either. */
        assert_int_equal(section_recv(&section, 0, OVL_WAITALL, &receiving[0], NULL), OVL_PENDING);
        peer_write(section.fd, "01234", 5);
        assert_int_equal(section_recv(&section, 1, now, &receiving[1], NULL), 0);
        client_expect(&section.client, &receiving[1], -EAGAIN, 0);
        peer_write(section.fd, "56789", 5);
        client_expect(&section.client, &receiving[0], 0, 10);
        assert_memory_equal(section.client.memory, "0123456789", 10);
        section_stop(&section);
}

static void section_07_needs_a_connection(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct sockaddr_storage address;
        struct section section;
        uint64_t stream;
        socklen_t len;

        section_start(&section);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_int_equal(client_recv(&section.client, stream, section.client.memory, 10, OVL_WANT_VERDICT, &receiving),
                         -ENOTCONN);
        stream = client_listen(&section.client, AF_INET, &address, &len);
        assert_int_equal(client_recv(&section.client, stream, section.client.memory, 10, OVL_WANT_VERDICT, &receiving),
                         -ENOTCONN);
        section_stop(&section);
}

/* Two threads of control: one sends a byte, the other posts a receive, and whoever is first, the first receive has it.
 */
static void section_07_does_not_overtake(void **state) {
        const char *rounds = getenv("OVL_TEST_ROUNDS");
        unsigned n = rounds ? (unsigned) atoi(rounds) : 2000;
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;
        pid_t peer;

        section_start(&section);
        fflush(NULL);
        peer = fork();
        assert_true(peer >= 0);
        if (peer == 0) {
                for (unsigned i = 0; i < n; i++) {
                        char byte;

                        if (send(section.fd, "12", 2, MSG_NOSIGNAL) != 2 || recv(section.fd, &byte, 1, 0) != 1)
                                _exit(1);
                }
                _exit(0);
        }
        for (unsigned i = 0; i < n; i++) {
                struct ovl_buffer buffers[2] = { { section.client.memory, 1 }, { section.client.memory + 1, 1 } };
                struct ovl_overlapped sending = { 0 };

                memset(section.client.memory, 0, 2);
                for (size_t k = 0; k < 2; k++)
                        assert_ok(ovl_recv(section.client.thread, section.socket, &buffers[k], 1, 0, &receiving[k],
                                           NULL));
                client_expect(&section.client, &receiving[1], 0, 1);
                client_expect(&section.client, &receiving[0], 0, 1);
                assert_memory_equal(section.client.memory, "12", 2);
                assert_ok(client_send(&section.client, section.socket, section.client.memory, 1, 0, &sending));
                client_expect(&section.client, &sending, 0, 1);
        }
        assert_int_equal(waitpid(peer, &(int){ 0 }, 0), peer);
        section_stop(&section);
}

static void section_07_after_a_reset(void **state) {
        struct ovl_overlapped receiving[3] = { 0 }, sending = { 0 };
        struct section section;
        int error = -1;

        section_start(&section);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], NULL), OVL_PENDING);
        peer_reset(section.fd);
        for (size_t i = 0; i < 3; i++)
                client_expect(&section.client, &receiving[i], -ECONNRESET, 0);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[0], NULL), -ECONNRESET);
        assert_int_equal(
                client_send(&section.client, section.socket, section.client.memory, 1, OVL_WANT_VERDICT, &sending),
                -ECONNRESET);
        assert_ok(ovl_getsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_ERROR, &error));
        assert_int_equal(error, 0);
        client_stop(&section.client);
}

static void section_07_data_before_a_reset(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        int status;

        section_start(&section);
        section_bring(&section, "0123456789");
        peer_reset(section.fd);
        assert_ok(section_recv(&section, 0, 0, &receiving, NULL));
        status = client_await(&section.client, &receiving);
        if (status == 0) {
                assert_int_equal(receiving.bytes, 10);
                assert_ok(section_recv(&section, 0, 0, &receiving, NULL));
                status = client_await(&section.client, &receiving);
        }
        assert_int_equal(status, -ECONNRESET);
        assert_int_equal(receiving.bytes, 0);
        client_stop(&section.client);
}

static void section_07_what_is_received_is_not_told(void **state) {
        struct ovl_overlapped receiving[2] = { 0 }, polling = { 0 };
        struct section section;

        section_start(&section);
        /* Whichever of the two was there first. */
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[0], NULL), OVL_PENDING);
        assert_int_equal(ovl_poll(section.client.thread, section.socket, POLLIN, OVL_WANT_VERDICT, &polling, NULL),
                         OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &receiving[1], NULL), OVL_PENDING);
        for (size_t i = 0; i < 2; i++) {
                peer_write(section.fd, "0123456789", 10);
                client_expect(&section.client, &receiving[i], 0, 10);
                assert_int_equal(ovl_wait(section.client.thread, &polling, SECTION_NOTHING, 0), -ETIMEDOUT);
        }
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[0], NULL), OVL_PENDING);
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving[0], 0, 10);
        assert_int_equal(ovl_wait(section.client.thread, &polling, SECTION_NOTHING, 0), -ETIMEDOUT);
        /* What no receive takes is told. */
        peer_write(section.fd, "x", 1);
        client_expect(&section.client, &polling, 0, 0);
        assert_int_equal(polling.value, POLLIN);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "7.1 receives fill in posting order", section_07_fills_in_order },
                { "7.3 a receive ends with any data", section_07_ends_with_any_data },
                { "7.4 a receive fills its buffers one after the other", section_07_scatters },
                { "7.5 the end of the stream is no error", section_07_the_end_is_no_error },
                { "7.8 a receive without room takes nothing", section_07_no_room_takes_nothing },
                { "7.9 a look takes nothing", section_07_a_look_takes_nothing },
                { "7.10 a receive that waits for all", section_07_waits_for_all },
                { "7.2 a receive does not overtake", section_07_does_not_overtake, 600 },
                { "7.6 a reset ends all receives, and what follows fails", section_07_after_a_reset },
                { "7.7 data before a reset, or the reset", section_07_data_before_a_reset },
                { "7.15 16.2 what a receive takes is not told", section_07_what_is_received_is_not_told },
                { "7.11 parts of messages mean nothing to a stream", section_07_parts_of_messages_are_none },
                { "7.12 urgent data is received apart", section_07_urgent_data_is_apart },
                { "7.12 urgent data that never comes", section_07_urgent_data_that_never_comes },
                { "7.13 a hint changes nothing", section_07_a_hint_changes_nothing },
                { "7.2 a receive that does not wait does not overtake", section_07_does_not_wait },
                { "7.14 a receive needs a connection", section_07_needs_a_connection },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
