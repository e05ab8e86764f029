/* SPDX-License-Identifier: Apache-2.0 */

/* Section 5 of docs/SEMANTICS.md: alertable waits. */

#include "tests/rules/section.h"

static int section_05_wait(struct section *section, struct ovl_event *event, uint64_t timeout_ns, int alertable) {
        return ovl_wait_events(section->client.thread, &event, 1, 0, timeout_ns, alertable, NULL);
}

/* An APC is queued all the time; each alertable wait runs it, and it is queued again. */
static void section_05_runs_where_it_may(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;
        unsigned n_ran = 0;
        size_t n;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        for (unsigned way = 0; way < 5; way++) {
                assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, way < 4 ? 10 : 20));
                /* These run nothing. */
                assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
                assert_ok(ovl_dispatch(section.client.thread));
                assert_int_equal(section_05_wait(&section, event, NS_PER_MS, 0), -ETIMEDOUT);
                assert_int_equal(ovl_wait(section.client.thread, &receiving, NS_PER_MS, 0), -ETIMEDOUT);
                assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, NS_PER_MS), -ETIMEDOUT);
                assert_int_equal(section.n_ran, n_ran);
                /* And these do. */
                if (way == 0)
                        assert_int_equal(ovl_sleep(section.client.thread, OVL_INFINITE), OVL_ALERTED);
                else if (way == 1)
                        assert_int_equal(section_05_wait(&section, event, OVL_INFINITE, 1), OVL_ALERTED);
                else if (way == 2)
                        assert_int_equal(ovl_wait(section.client.thread, &receiving, OVL_INFINITE, 1), OVL_ALERTED);
                else if (way == 3)
                        assert_int_equal(
                                ovl_port_wait_alertable(port, section.client.thread, &packet, 1, OVL_INFINITE, &n),
                                OVL_ALERTED);
                else
                        assert_int_equal(section_recv_sync(&section, 1, OVL_WAITALL), 10);
                assert_int_equal(section.n_ran, ++n_ran);
                client_expect(&section.client, &receiving, 0, 10);
        }
        ovl_port_close(port);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_05_sleeps_or_runs(void **state) {
        struct section section;
        uint64_t began_ns;

        section_start(&section);
        began_ns = now_ns();
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_true(now_ns() - began_ns >= SECTION_NOTHING);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        assert_int_equal(ovl_sleep(section.client.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_stop(&section);
}

static void section_05_an_apc_wins_at_the_entry(void **state) {
        static const uint64_t timeouts[] = { OVL_INFINITE, 2 * NS_PER_MS, 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        for (unsigned i = 0; i < 6; i++) {
                if (i % 2)
                        ovl_event_set(event);
                assert_ok(ovl_apc_queue(section.client.thread, section_apc, i));
                ovl_event_set(event);
                assert_int_equal(section_05_wait(&section, event, timeouts[i / 2], 1), OVL_ALERTED);
                assert_int_equal(section.n_ran, i + 1);
                assert_int_equal(section_05_wait(&section, event, 0, 1), 0); /* it was not consumed */
                assert_int_equal(section_05_wait(&section, event, 0, 1), -ETIMEDOUT);
        }
        ovl_event_close(event);
        section_stop(&section);
}

static struct ovl_event *section_05_event;

static void section_05_set(struct ovl_thread *thread, uint64_t argument) {
        ovl_event_set(section_05_event);
}

static void *section_05_alert(void *data) {
        struct section *section = data;

        assert_ok(ovl_apc_queue(section->client.thread, section_05_set, 0));
        return NULL;
}

static void section_05_the_apc_that_sets_comes_first(void **state) {
        struct section section;
        pthread_t other;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &section_05_event));
        assert_int_equal(pthread_create(&other, NULL, section_05_alert, &section), 0);
        assert_int_equal(section_05_wait(&section, section_05_event, client_patience(), 1), OVL_ALERTED);
        assert_int_equal(section_05_wait(&section, section_05_event, 0, 1), 0);
        pthread_join(other, NULL);
        ovl_event_close(section_05_event);
        section_stop(&section);
}

static void section_05_is_called_again(void **state) {
        struct ovl_overlapped first = { 0 }, second = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        second.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &first, section_count), OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, 0, &second, NULL), OVL_PENDING);
        peer_write(section.fd, "0123456789", 10);
        assert_int_equal(section_05_wait(&section, event, client_patience(), 1), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(ovl_result(&second), -EINPROGRESS);
        peer_write(section.fd, "0123456789", 10);
        assert_int_equal(section_05_wait(&section, event, client_patience(), 1), 0);
        assert_int_equal(second.bytes, 10);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_05_ports_of_ones_own_come_first(void **state) {
        const struct ovl_packet posted = { .key = 1 };
        struct ovl_packet packet;
        struct ovl_port *port;
        struct section section;
        size_t n = 0;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        /* A thread that took nothing from this port yet: the APC comes first, and does not change that. */
        assert_ok(ovl_port_post(port, &posted));
        for (unsigned i = 1; i <= 2; i++) {
                assert_ok(ovl_apc_queue(section.client.thread, section_apc, i));
                assert_int_equal(ovl_port_wait_alertable(port, section.client.thread, &packet, 1, 0, &n), OVL_ALERTED);
                assert_int_equal(section.n_ran, i);
        }
        assert_int_equal(ovl_port_wait_alertable(port, section.client.thread, &packet, 1, 0, &n), 0);
        assert_int_equal(n, 1);
        /* From then on packets come first. */
        assert_ok(ovl_port_post(port, &posted));
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 3));
        assert_int_equal(ovl_port_wait_alertable(port, section.client.thread, &packet, 1, 0, &n), 0);
        assert_int_equal(section.n_ran, 2);
        assert_int_equal(ovl_port_wait_alertable(port, section.client.thread, &packet, 1, 0, &n), OVL_ALERTED);
        assert_int_equal(section.n_ran, 3);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_05_others_run_nothing(void **state) {
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        assert_int_equal(section_05_wait(&section, event, 0, 0), -ETIMEDOUT);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        ovl_event_close(event);
        section_stop(&section);
}

/* The APC brings what the call waits for. With something there the call does not wait, and runs nothing. */
static void section_05_blocking_calls_are_alertable(void **state) {
        struct section section;
        uint64_t began_ns;

        section_start(&section);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, 7));
        assert_int_equal(ovl_poll(section.client.thread, section.socket, POLLIN, 0, NULL, NULL), POLLIN);
        assert_int_equal(section.n_ran, 1);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, 5));
        assert_int_equal(ovl_poll(section.client.thread, section.socket, POLLIN, 0, NULL, NULL), POLLIN);
        assert_int_equal(section_recv_sync(&section, 0, 0), 7);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(section_recv_sync(&section, 0, 0), 5);
        assert_int_equal(section.n_ran, 2);
        /* An APC that brings nothing does not end the call. */
        assert_ok(ovl_set_timeouts(section.client.thread, section.socket, SECTION_NOTHING, OVL_INFINITE));
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 3));
        began_ns = now_ns();
        assert_int_equal(section_recv_sync(&section, 0, 0), -ETIMEDOUT);
        assert_true(now_ns() - began_ns >= SECTION_NOTHING);
        assert_int_equal(section.n_ran, 3);
        section_stop(&section);
}

static struct section *section_05_current;

/* The call that it interrupts stands before its own in the queue. */
static void section_05_block_again(struct ovl_thread *thread, uint64_t argument) {
        section_apc_write(thread, 20);
        assert_int_equal(section_recv_sync(section_05_current, argument, OVL_WAITALL), 10);
}

static void section_05_blocks_within(void **state) {
        struct section section;

        section_start(&section);
        section_05_current = &section;
        assert_ok(ovl_apc_queue(section.client.thread, section_05_block_again, 1));
        assert_int_equal(section_recv_sync(&section, 0, OVL_WAITALL), 10);
        assert_memory_equal(section.client.memory, "0123456789abcdefghij", 20);
        assert_int_equal(ovl_cancel_blocked(section.client.thread), -ENOENT);
        section_stop(&section);
}

static void section_05_a_look_runs_nothing(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, 2 * NS_PER_MS, 1), -ETIMEDOUT);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        assert_int_equal(ovl_wait(section.client.thread, &receiving, 0, 1), -ETIMEDOUT);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, 2 * NS_PER_MS, 1), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "5.1 APCs run in alertable waits, and nowhere else", section_05_runs_where_it_may },
                { "5.2 a sleep ends in time, or with what it ran", section_05_sleeps_or_runs },
                { "5.3 an APC that is queued wins over an event that is set", section_05_an_apc_wins_at_the_entry },
                { "5.4 an APC that sets the event is told first", section_05_the_apc_that_sets_comes_first },
                { "5.5 a wait that was alerted is called again", section_05_is_called_again },
                { "5.6 packets come before APCs where the thread is of the port",
                  section_05_ports_of_ones_own_come_first },
                { "5.7 a wait that is not alertable runs nothing", section_05_others_run_nothing },
                { "5.8 blocking calls run APCs, and go on", section_05_blocking_calls_are_alertable },
                { "5.9 a blocking call within an APC within another is harmless", section_05_blocks_within },
                { "5.10 who only looks for a result runs nothing", section_05_a_look_runs_nothing },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
