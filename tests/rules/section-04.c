/* SPDX-License-Identifier: Apache-2.0 */

/* Section 4 of docs/SEMANTICS.md: completion routines and APCs. */

#include "tests/rules/section.h"

static void *section_04_bystander(void *data) {
        struct section *section = data;
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(section->client.session, &thread, NULL));
        assert_int_equal(ovl_sleep(thread, SECTION_NOTHING), 0);
        ovl_thread_close(thread);
        return NULL;
}

static void section_04_runs_in_the_posting_thread(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        pthread_t other;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, section_count), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        /* Neither in another thread, nor in a wait that is not alertable. */
        assert_int_equal(pthread_create(&other, NULL, section_04_bystander, &section), 0);
        client_expect(&section.client, &receiving, 0, 5);
        pthread_join(other, NULL);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_stop(&section);
}

static void section_04_is_queued_and_not_called(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        section_bring(&section, "five!");
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_count), 0);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_stop(&section);
}

static void section_04_is_not_queued_for_a_refusal(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_count), -ESHUTDOWN);
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(section.n_ran, 0);
        section_stop(&section);
}

static void section_04_note(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        section->order[section->n_ran++] = 1000;
}

static void section_04_is_first_in_first_out(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving[0], section_04_note), OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, 0, &receiving[1], section_04_note), OVL_PENDING);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving[0], 0, 10);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 2));
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving[1], 0, 10);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 3));
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_memory_equal(section.order, ((unsigned[]){ 1, 1000, 2, 1000, 3 }), 5 * sizeof(unsigned));
        assert_int_equal(section.n_ran, 5);
        section_stop(&section);
}

/* Asks for one more: it is done at once, and its routine runs in the same wait. */
static void section_04_go_on(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        assert_int_equal(overlapped->status, 0);
        if (++section->n_ran < 20)
                assert_int_equal(section_recv(section, 0, OVL_WANT_VERDICT, overlapped, section_04_go_on), 0);
}

static void section_04_one_wait_drains_the_queue(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        char bytes[200];

        section_start(&section);
        memset(bytes, 'x', sizeof(bytes));
        bytes[199] = '\0';
        section_bring(&section, bytes);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_04_go_on), 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 20);
        section_stop(&section);
}

static unsigned section_04_depth;

/* Waits in itself: the APC may run there, the routine of the same socket may not. */
static void section_04_nest(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        assert_int_equal(section_04_depth, 0);
        section_04_depth++;
        section->order[section->n_ran++] = 100;
        while (ovl_sleep(thread, SECTION_NOTHING) == OVL_ALERTED)
                continue;
        section->order[section->n_ran++] = 200;
        section_04_depth--;
}

static void section_04_routines_of_a_socket_do_not_nest(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;

        section_start(&section);
        section_bring(&section, "0123456789abcdef");
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[0], section_04_nest), 0);
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &receiving[1], section_04_nest), 0);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 7));
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_memory_equal(section.order, ((unsigned[]){ 100, 7, 200, 100, 200 }), 5 * sizeof(unsigned));
        section_stop(&section);
}

static void section_04_routine_and_port_exclude_each_other(void **state) {
        struct ovl_overlapped early = { 0 }, late = { 0 };
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        /* One that was posted before the association goes its own way. */
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &early, section_count), OVL_PENDING);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &late, section_count), -EINVAL);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(early.bytes, 5);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_04_nothing_runs_for_no_function(void **state) {
        struct section section;

        section_start(&section);
        assert_ok(ovl_apc_queue(section.client.thread, NULL, 0));
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        section_stop(&section);
}

struct section_04_target {
        struct ovl_thread *thread;
        struct ovl_thread_handle handle;
};

static bool section_04_is_refused(void *data) {
        struct section_04_target *target = data;

        return ovl_apc_queue_remote(target->thread, &target->handle, 5, 3) == -ESRCH;
}

/* What is queued meanwhile is lost: the daemon learns of the thread's end by its connection. */
static void section_04_apcs_end_with_their_thread(void **state) {
        struct section_04_target target;
        struct ovl_thread *thread;
        struct section section;

        section_start(&section);
        target.thread = section.client.thread;
        assert_ok(ovl_function_register(section.client.thread, 5, section_apc));
        assert_ok(ovl_thread_open(section.client.session, &thread, NULL));
        assert_ok(ovl_thread_handle_open(thread, &target.handle));
        assert_ok(ovl_apc_queue(thread, section_apc, 1));
        assert_ok(ovl_apc_queue_remote(section.client.thread, &target.handle, 5, 2));
        ovl_thread_close(thread);
        assert_int_equal(section.n_ran, 0);
        assert_true(harness_wait(section_04_is_refused, &target, harness_deadline(10)));
        assert_int_equal(section.n_ran, 0);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "4.1 a routine runs in the thread that posted", section_04_runs_in_the_posting_thread },
                { "4.3 a routine is queued and not called", section_04_is_queued_and_not_called },
                { "4.4 a refusal queues no routine", section_04_is_not_queued_for_a_refusal },
                { "4.5 routines and APCs run in the order of their ends", section_04_is_first_in_first_out },
                { "4.6 one wait drains the queue", section_04_one_wait_drains_the_queue },
                { "4.7 routines of a socket do not nest", section_04_routines_of_a_socket_do_not_nest },
                { "4.10 4.11 a routine and a port exclude each other", section_04_routine_and_port_exclude_each_other },
                { "4.13 APCs end with their thread", section_04_apcs_end_with_their_thread },
                { "4.14 no function is nothing to run", section_04_nothing_runs_for_no_function },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
