/* SPDX-License-Identifier: Apache-2.0 */

/* Section 4 of docs/SEMANTICS.md: completion routines and APCs. */

#include "tests/rules/section.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

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

/* --- What a routine is told ------------------------------------------------------------------------------------- */

static void section_04_told(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        assert_ptr_equal(thread, section->client.thread);
        section->order[section->n_ran++] = (unsigned) overlapped->bytes;
}

static void section_04_routines_are_told_the_end(void **state) {
        struct ovl_overlapped whole = { 0 }, cut = { 0 }, cancelled = { 0 };
        struct sockaddr_storage address;
        struct section section;
        socklen_t len;

        section_start(&section);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_DGRAM, &section.socket));
        len = client_loopback(AF_INET, &address);
        assert_ok(ovl_bind(section.client.thread, section.socket, (struct sockaddr *) &address, len));
        len = sizeof(address);
        assert_ok(ovl_getsockname(section.client.thread, section.socket, (struct sockaddr *) &address, &len));
        close(section.fd);
        section.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(section.fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(section_recv(&section, 0, 0, &whole, section_04_told), OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, 0, &cut, section_04_told), OVL_PENDING);
        assert_int_equal(section_recv(&section, 2, 0, &cancelled, section_04_told), OVL_PENDING);
        assert_int_equal(send(section.fd, "five!", 5, 0), 5);
        assert_int_equal(send(section.fd, "longer than ten", 15, 0), 15);
        client_expect(&section.client, &whole, 0, 5);
        assert_int_equal(client_await(&section.client, &cut), -EMSGSIZE);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &cancelled), 1);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 3);
        assert_memory_equal(section.order, ((unsigned[]){ 5, 10, 0 }), 3 * sizeof(unsigned));
        assert_int_equal(whole.flags, 0);
        assert_int_equal(cut.flags, OVL_TRUNCATED);
        assert_int_equal(cancelled.status, -ECANCELED);
        section_stop(&section);
}

/* What ended first is told first, whichever was posted first: the receive was, and ends last. */
static void section_04_each_runs_once(void **state) {
        struct ovl_overlapped receiving = { 0 }, sending = { 0 };
        struct ovl_buffer buffer;
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, section_04_told), OVL_PENDING);
        sending.user = &section;
        buffer = (struct ovl_buffer){ section.client.memory + 100, 7 };
        assert_int_equal(ovl_send(section.client.thread, section.socket, &buffer, 1, 0, &sending, section_04_told),
                         OVL_PENDING);
        client_expect(&section.client, &sending, 0, 7);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_memory_equal(section.order, ((unsigned[]){ 7, 5 }), 2 * sizeof(unsigned));
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(section.n_ran, 2);
        section_stop(&section);
}

/* A wait for the operation itself ends with it, also where a routine is still to run. */
static void section_04_results_can_be_looked_at(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_count), OVL_PENDING);
        assert_int_equal(ovl_result(&receiving), -EINPROGRESS);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, 0, 0), -ETIMEDOUT);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, NS_PER_MS, 0), -ETIMEDOUT);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, client_patience(), 0), 0);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, client_patience(), 0), 0);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(ovl_result(&receiving), 0);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, client_patience(), 0), 0);
        section_stop(&section);
}

/* --- An APC behind an event ------------------------------------------------------------------------------------- */

struct section_04_alarm {
        struct section *section;
        struct ovl_event *event;
        pid_t sleeper;
};

static void *section_04_ring(void *data) {
        const struct section_04_alarm *alarm = data;

        section_await_asleep(alarm->sleeper);
        ovl_event_set(alarm->event);
        assert_ok(ovl_apc_queue(alarm->section->client.thread, section_apc, 1));
        return NULL;
}

static void *section_04_bring(void *data) {
        const struct section_04_alarm *alarm = data;

        section_await_asleep(alarm->sleeper);
        peer_write(alarm->section->fd, "0123456789abcdefghij", 20);
        return NULL;
}

static void section_04_stays_queued_behind_an_event(void **state) {
        struct ovl_overlapped with_event = { 0 }, with_routine = { 0 };
        struct section_04_alarm alarm = { .sleeper = gettid() };
        struct section section;
        pthread_t other;

        section_start(&section);
        alarm.section = &section;
        assert_ok(ovl_event_open(section.client.session, 0, &alarm.event));
        assert_int_equal(pthread_create(&other, NULL, section_04_ring, &alarm), 0);
        assert_int_equal(ovl_wait_events(section.client.thread, &alarm.event, 1, 0, client_patience(), 1, NULL), 0);
        assert_int_equal(section.n_ran, 0);
        pthread_join(other, NULL);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        /* So with two operations that end at once. */
        with_event.event = alarm.event;
        assert_int_equal(section_recv(&section, 0, 0, &with_event, NULL), OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &with_routine, section_count), OVL_PENDING);
        assert_int_equal(pthread_create(&other, NULL, section_04_bring, &alarm), 0);
        assert_int_equal(ovl_wait_events(section.client.thread, &alarm.event, 1, 0, client_patience(), 1, NULL), 0);
        assert_int_equal(section.n_ran, 1);
        pthread_join(other, NULL);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 2);
        ovl_event_close(alarm.event);
        section_stop(&section);
}

/* --- A server that is nothing but routines ---------------------------------------------------------------------- */

#define SECTION_04_MESSAGE 10u
#define SECTION_04_WINDOW 16u

struct section_04_echo {
        struct section section;
        struct ovl_overlapped receiving, sending;
        unsigned n_messages; /* that the peer sends */
        uint64_t n_echoed;   /* bytes */
        unsigned n_routines;
        bool has_ended;
        uintptr_t highest, lowest; /* of the stack, in a routine */
};

static void section_04_echo_note(struct section_04_echo *echo) {
        uintptr_t here = (uintptr_t) __builtin_frame_address(0);

        if (!echo->highest || here > echo->highest)
                echo->highest = here;
        if (!echo->lowest || here < echo->lowest)
                echo->lowest = here;
        echo->n_routines++;
}

static void section_04_echo_receive(struct section_04_echo *echo);

static void section_04_echo_sent(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section_04_echo *echo = overlapped->user;

        section_04_echo_note(echo);
        assert_int_equal(overlapped->status, 0);
        echo->n_echoed += overlapped->bytes;
        section_04_echo_receive(echo);
}

static void section_04_echo_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section_04_echo *echo = overlapped->user;
        struct ovl_buffer buffer = { echo->section.client.memory, overlapped->bytes };
        int r;

        section_04_echo_note(echo);
        assert_int_equal(overlapped->status, 0);
        echo->has_ended = overlapped->bytes == 0;
        if (echo->has_ended)
                return;
        echo->sending.user = echo;
        r = ovl_send(thread, echo->section.socket, &buffer, 1, echo->n_routines % 3 == 0 ? OVL_WANT_VERDICT : 0,
                     &echo->sending, section_04_echo_sent);
        assert_true(r == 0 || r == OVL_PENDING);
}

static void section_04_echo_receive(struct section_04_echo *echo) {
        struct ovl_buffer buffer = { echo->section.client.memory, SECTION_04_MESSAGE };
        int r;

        echo->receiving.user = echo;
        /* With data there it is done within the call, and its routine still runs only after this one. */
        r = ovl_recv(echo->section.client.thread, echo->section.socket, &buffer, 1,
                     echo->n_routines % 5 ? OVL_WANT_VERDICT : 0, &echo->receiving, section_04_echo_received);
        assert_true(r == 0 || r == OVL_PENDING);
}

/* Keeps a window of messages under way, so that the server finds some without waiting. */
static void *section_04_echo_peer(void *data) {
        struct section_04_echo *echo = data;
        char out[SECTION_04_WINDOW * SECTION_04_MESSAGE], in[sizeof(out)];

        for (unsigned i = 0; i < echo->n_messages; i += SECTION_04_WINDOW) {
                pattern_fill(out, sizeof(out), (uint64_t) i * SECTION_04_MESSAGE);
                peer_write(echo->section.fd, out, sizeof(out));
                peer_read(echo->section.fd, in, sizeof(in));
                pattern_check(in, sizeof(in), (uint64_t) i * SECTION_04_MESSAGE);
        }
        assert_int_equal(shutdown(echo->section.fd, SHUT_WR), 0);
        return NULL;
}

static void section_04_echoes_from_routines(void **state) {
        const char *rounds = getenv("OVL_TEST_ROUNDS");
        static struct section_04_echo echo;
        uint64_t began_ns, took_ns;
        pthread_t peer;

        echo.n_messages = rounds ? (unsigned) strtoul(rounds, NULL, 10) : 2000;
        section_start(&echo.section);
        assert_ok(ovl_setsockopt(echo.section.client.thread, echo.section.socket, IPPROTO_TCP, TCP_NODELAY, 1));
        began_ns = now_ns();
        assert_int_equal(pthread_create(&peer, NULL, section_04_echo_peer, &echo), 0);
        section_04_echo_receive(&echo);
        while (!echo.has_ended)
                assert_int_equal(ovl_sleep(echo.section.client.thread, client_patience()), OVL_ALERTED);
        took_ns = now_ns() - began_ns;
        pthread_join(peer, NULL);
        assert_true(echo.n_echoed >= (uint64_t) echo.n_messages * SECTION_04_MESSAGE);
        /* Each runs at the depth of the first, however many posted the next. */
        if (echo.highest - echo.lowest > 1024)
                fail_msg("the stack grew by %zu bytes in %u routines", (size_t) (echo.highest - echo.lowest),
                         echo.n_routines);
        fprintf(stderr, "%u messages in %.2f s, %u routines, %zu bytes between their stacks\n", echo.n_messages,
                (double) took_ns / (double) NS_PER_S, echo.n_routines, (size_t) (echo.highest - echo.lowest));
        section_stop(&echo.section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "4.1 a routine runs in the thread that posted", section_04_runs_in_the_posting_thread },
                { "4.2 a routine is told how its operation ended", section_04_routines_are_told_the_end },
                { "4.3 a routine is queued and not called", section_04_is_queued_and_not_called },
                { "4.4 a refusal queues no routine", section_04_is_not_queued_for_a_refusal },
                { "4.5 routines and APCs run in the order of their ends", section_04_is_first_in_first_out },
                { "4.6 one wait drains the queue", section_04_one_wait_drains_the_queue },
                { "4.7 routines of a socket do not nest", section_04_routines_of_a_socket_do_not_nest },
                { "4.8 a server may be nothing but routines", section_04_echoes_from_routines, 600 },
                { "4.9 each operation's routine runs once, in the order of the ends", section_04_each_runs_once },
                { "4.10 4.11 a routine and a port exclude each other", section_04_routine_and_port_exclude_each_other },
                { "4.12 the result of one with a routine can be looked at", section_04_results_can_be_looked_at },
                { "4.13 APCs end with their thread", section_04_apcs_end_with_their_thread },
                { "4.14 no function is nothing to run", section_04_nothing_runs_for_no_function },
                { "4.15 what is queued after the event stays queued", section_04_stays_queued_behind_an_event },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
