/* SPDX-License-Identifier: Apache-2.0 */

/* Section 3 of docs/SEMANTICS.md: events. */

#include "tests/rules/section.h"

static int section_03_wait(struct section *section, struct ovl_event *const *events, size_t n, int all,
                           size_t *ret_index) {
        return ovl_wait_events(section->client.thread, events, n, all, 0, 0, ret_index);
}

static void section_03_is_reset_at_the_start(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL | OVL_EVENT_SET, &event));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        /* Also by an operation that the daemon refuses. */
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), -ESHUTDOWN);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_03_is_set_at_the_end(void **state) {
        static const unsigned flags[] = { 0, OVL_EVENT_MANUAL };
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < HARNESS_N(flags); i++) {
                assert_ok(ovl_event_open(section.client.session, flags[i], &event));
                receiving.event = event;
                assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
                assert_int_equal(section_03_wait(&section, &event, 1, 0, NULL), -ETIMEDOUT);
                peer_write(section.fd, "five!", 5);
                assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
                assert_int_equal(receiving.bytes, 5);
                assert_int_equal(section_03_wait(&section, &event, 1, 0, NULL), flags[i] ? 0 : -ETIMEDOUT);
                ovl_event_close(event);
        }
        section_stop(&section);
}

static void section_03_a_routine_leaves_it_alone(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct ovl_event *events[2];
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL | OVL_EVENT_SET, &events[0]));
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &events[1]));
        for (size_t i = 0; i < 2; i++) {
                receiving[i].event = events[i];
                assert_int_equal(section_recv(&section, i, 0, &receiving[i], section_count), OVL_PENDING);
        }
        assert_int_equal(ovl_event_poll(events[0], NULL), 1);
        peer_write(section.fd, "01234567890123456789", 20);
        while (section.n_ran < 2)
                assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(ovl_event_poll(events[0], NULL), 1);
        assert_int_equal(ovl_event_poll(events[1], NULL), 0);
        ovl_event_close(events[0]);
        ovl_event_close(events[1]);
        section_stop(&section);
}

static void section_03_quiet_keeps_the_packet_only(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_SET, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, OVL_QUIET, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        ovl_port_close(port);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_03_a_stranger_is_refused(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;
        struct client other;

        section_start(&section);
        other = section.client;
        client_open(&other, 0);
        assert_ok(ovl_event_open(other.session, 0, &event));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), -EINVAL);
        /* With a routine nobody looks at it. */
        assert_int_equal(section_recv(&section, 0, 0, &receiving, section_count), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        ovl_event_close(event);
        client_close(&other);
        section_stop(&section);
}

static void section_03_waits_for_many(void **state) {
        struct ovl_event *events[65];
        struct section section;
        size_t index = 77;

        section_start(&section);
        for (size_t i = 0; i < HARNESS_N(events); i++)
                assert_ok(ovl_event_open(section.client.session, 0, &events[i]));
        assert_int_equal(section_03_wait(&section, events, 0, 0, NULL), -EINVAL);
        assert_int_equal(section_03_wait(&section, events, 65, 0, NULL), -EINVAL);
        ovl_event_set(events[9]);
        ovl_event_set(events[4]);
        assert_int_equal(section_03_wait(&section, events, 64, 0, &index), 0);
        assert_int_equal(index, 4);
        /* All or nothing: the one that is set stays so. */
        assert_int_equal(section_03_wait(&section, events + 8, 2, 1, &index), -ETIMEDOUT);
        assert_int_equal(ovl_event_poll(events[9], NULL), 1);
        ovl_event_set(events[8]);
        assert_int_equal(section_03_wait(&section, events + 8, 2, 1, &index), 0);
        assert_int_equal(ovl_event_poll(events[8], NULL) + ovl_event_poll(events[9], NULL), 0);
        for (size_t i = 0; i < HARNESS_N(events); i++)
                ovl_event_close(events[i]);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "3.1 an event is reset at the start", section_03_is_reset_at_the_start },
                { "3.2 an event is set at the end", section_03_is_set_at_the_end },
                { "3.5 a routine leaves the event alone", section_03_a_routine_leaves_it_alone },
                { "3.7 quiet keeps back the packet only", section_03_quiet_keeps_the_packet_only },
                { "3.8 an event that cannot be used is refused", section_03_a_stranger_is_refused },
                { "3.10 waits for many events", section_03_waits_for_many },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
