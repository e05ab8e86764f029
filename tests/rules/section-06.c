/* SPDX-License-Identifier: Apache-2.0 */

/* Section 6 of docs/SEMANTICS.md: results are read through the overlapped structure. */

#include "tests/rules/section.h"

static void section_06_says_how_it_ended(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, i, 0, &receiving[i], NULL), OVL_PENDING);
        assert_int_equal(ovl_result(&receiving[0]), -EINPROGRESS);
        peer_write(section.fd, "0123456789", 10);
        assert_int_equal(ovl_wait(section.client.thread, &receiving[0], client_patience(), 0), 0);
        assert_int_equal(ovl_result(&receiving[0]), 0);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving[1]), 1);
        /* The wait has succeeded, the operation has not. */
        assert_int_equal(ovl_wait(section.client.thread, &receiving[1], client_patience(), 0), 0);
        assert_int_equal(ovl_result(&receiving[1]), -ECANCELED);
        section_stop(&section);
}

static void section_06_looks_without_waiting(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_result(&receiving), -EINPROGRESS);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, 0, 0), -ETIMEDOUT);
        assert_int_equal(receiving.bytes, 0xdead);
        section_stop(&section);
}

static void *section_06_write(void *data) {
        struct section *section = data;

        usleep(20000); /* the case should be asleep, but need not */
        peer_write(section->fd, "five!", 5);
        return NULL;
}

/* Also where its event was set by somebody else. */
static void section_06_waits_and_runs_nothing(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;
        pthread_t writer;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &event));
        for (int i = 0; i < 3; i++) {
                receiving.event = i == 1 ? event : NULL;
                assert_int_equal(section_recv(&section, 0, i == 2 ? OVL_QUIET : 0, &receiving, NULL), OVL_PENDING);
                assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
                if (i == 1)
                        ovl_event_set(event);
                assert_int_equal(pthread_create(&writer, NULL, section_06_write, &section), 0);
                assert_int_equal(ovl_wait(section.client.thread, &receiving, OVL_INFINITE, 0), 0);
                pthread_join(writer, NULL);
                assert_int_equal(ovl_result(&receiving), 0);
                assert_int_equal(section.n_ran, 0);
        }
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_06_none_is_refused(void **state) {
        struct ovl_overlapped never = { .status = -EINPROGRESS }, receiving = { 0 };
        struct section section;
        struct client stranger;

        section_start(&section);
        stranger = section.client;
        client_open(&stranger, 0);
        assert_int_equal(ovl_wait(section.client.thread, NULL, 0, 0), -EINVAL);
        assert_int_equal(ovl_wait(section.client.thread, &never, OVL_INFINITE, 0), -EINVAL);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_wait(stranger.thread, &receiving, OVL_INFINITE, 0), -EINVAL);
        client_close(&stranger);
        section_stop(&section);
}

static void section_06_bytes_are_always_told(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving), 1);
        client_expect(&section.client, &receiving, -ECANCELED, 0);
        receiving.bytes = 0xdead;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_reset(section.fd);
        client_expect(&section.client, &receiving, -ECONNRESET, 0);
        section.fd = -1;
        section_stop(&section);
}

/* Nothing of the program's is written for them. */
static void section_06_flags_are_apart(void **state) {
        struct ovl_overlapped receiving = { .flags = 0xbe };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(receiving.flags, 0xbe);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(receiving.flags, 0);
        assert_int_equal(receiving.value, 0);
        assert_ptr_equal(receiving.user, &section);
        section_stop(&section);
}

/* --- Again and again -------------------------------------------------------------------------------------------- */

struct section_06 {
        struct section section;
        struct ovl_overlapped receiving;
};

static void *section_06_ask(void *data) {
        struct section_06 *test = data;
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(test->section.client.session, &thread, NULL));
        for (int i = 0; i < 3; i++) {
                assert_int_equal(ovl_wait(thread, &test->receiving, client_patience(), 0), 0);
                assert_int_equal(ovl_result(&test->receiving), 0);
                assert_int_equal(test->receiving.bytes, 4);
        }
        ovl_thread_close(thread);
        return NULL;
}

static void section_06_asks_again(void **state) {
        struct section_06 test = { 0 };
        pthread_t other;

        section_start(&test.section);
        assert_int_equal(section_recv(&test.section, 0, 0, &test.receiving, NULL), OVL_PENDING);
        peer_write(test.section.fd, "four", 4);
        client_expect(&test.section.client, &test.receiving, 0, 4);
        assert_int_equal(pthread_create(&other, NULL, section_06_ask, &test), 0);
        for (int i = 0; i < 3; i++)
                client_expect(&test.section.client, &test.receiving, 0, 4);
        pthread_join(other, NULL);
        section_stop(&test.section);
}

static void section_06_looks_before_it_waits(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
        assert_int_equal(ovl_event_poll(event, NULL), 0); /* the signal is used up */
        assert_int_equal(ovl_wait(section.client.thread, &receiving, OVL_INFINITE, 0), 0);
        ovl_event_close(event);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "6.1 a result says whether and how it ended", section_06_says_how_it_ended },
                { "6.2 what is pending is told without waiting", section_06_looks_without_waiting },
                { "6.3 a wait is for the operation, and runs nothing", section_06_waits_and_runs_nothing },
                { "6.4 what is no operation is refused", section_06_none_is_refused },
                { "6.5 the bytes are told of failures, too", section_06_bytes_are_always_told },
                { "6.6 flags have a place of their own", section_06_flags_are_apart },
                { "6.8 a result can be asked for again and again", section_06_asks_again },
                { "6.10 a signal that was taken does not make a result wait", section_06_looks_before_it_waits },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
