/* SPDX-License-Identifier: Apache-2.0 */

/* Section 16 of docs/SEMANTICS.md: what a layer with event-select needs of polls. */

#include "tests/rules/section.h"

static int section_16_poll(struct section *section, unsigned events, struct ovl_overlapped *overlapped) {
        return ovl_poll(section->client.thread, section->socket, events, OVL_WANT_VERDICT, overlapped, NULL);
}

/* Each poll tells once; the next one, which a receive enables, tells what is still there, or waits for more. */
static void section_16_polls_tell_once(void **state) {
        struct ovl_overlapped polling = { 0 }, receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_16_poll(&section, POLLIN, &polling), OVL_PENDING);
        peer_write(section.fd, "0123456789abcde", 15);
        client_expect(&section.client, &polling, 0, 0);
        assert_int_equal(polling.value, POLLIN);
        /* Taken in part: told anew when somebody asks. Taken wholly: not before more comes. */
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        client_expect(&section.client, &receiving, 0, 10);
        assert_int_equal(section_16_poll(&section, POLLIN, &polling), 0);
        assert_int_equal(polling.value, POLLIN);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(section_16_poll(&section, POLLIN, &polling), OVL_PENDING);
        assert_int_equal(ovl_wait(section.client.thread, &polling, SECTION_NOTHING, 0), -ETIMEDOUT);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &polling, 0, 0);
        assert_int_equal(polling.value, POLLIN);
        section_stop(&section);
}

/* The end of the other side is an event; one's own close is none. */
static void section_16_a_close_is_no_event(void **state) {
        struct ovl_overlapped polling = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_16_poll(&section, 0, &polling), OVL_PENDING);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        client_expect(&section.client, &polling, -ECANCELED, 0);
        assert_int_equal(polling.value, 0);
        close(section.fd);
        section.socket = client_pair(&section.client, AF_INET, &section.fd);
        assert_int_equal(section_16_poll(&section, 0, &polling), OVL_PENDING);
        assert_int_equal(shutdown(section.fd, SHUT_WR), 0);
        client_expect(&section.client, &polling, 0, 0);
        assert_int_equal(polling.value, POLLHUP);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "16.1 a poll tells once, and what is there", section_16_polls_tell_once },
                { "16.3 closing a socket is no event of it", section_16_a_close_is_no_event },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
