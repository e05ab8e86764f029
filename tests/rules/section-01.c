/* SPDX-License-Identifier: Apache-2.0 */

/* Section 1 of docs/SEMANTICS.md: what a posting call returns. */

#include "tests/rules/section.h"

static void section_01_done_is_indicated(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &event));
        section_bring(&section, "five!");
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_int_equal(receiving.status, 0);
        assert_int_equal(receiving.bytes, 5);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_01_one_indication_each(void **state) {
        struct ovl_overlapped receiving[12] = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < HARNESS_N(receiving); i++)
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], section_count),
                                 OVL_PENDING);
        peer_write(section.fd, "0123456789", 10); /* the first; the others by cancel, and by close */
        client_expect(&section.client, &receiving[0], 0, 10);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving[7]), 1);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        for (size_t i = 1; i < HARNESS_N(receiving); i++)
                client_expect(&section.client, &receiving[i], -ECANCELED, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, HARNESS_N(receiving));
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        section_stop(&section);
}

static void section_01_a_refusal_indicates_nothing(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct ovl_buffer array = { 0 };
        struct ovl_event *event;
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;
        char elsewhere[10];

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        receiving.event = event;
        /* No buffers; one that was never lent; a direction that was shut. */
        assert_int_equal(ovl_recv(section.client.thread, section.socket, &array, 0, 0, &receiving, NULL), -EINVAL);
        array = (struct ovl_buffer){ elsewhere, sizeof(elsewhere) };
        assert_int_equal(ovl_recv(section.client.thread, section.socket, &array, 1, 0, &receiving, NULL), -EFAULT);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), -ESHUTDOWN);
        assert_int_equal(receiving.bytes, 0xdead);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        ovl_port_close(port);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_01_pending_is_always_allowed(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        section_bring(&section, "five!");
        assert_int_equal(section_recv(&section, 0, 0, &receiving, section_count), OVL_PENDING);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(receiving.bytes, 5);
        section_stop(&section);
}

static void section_01_pending_writes_nothing(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead, .flags = 0xbe, .value = 0xef };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_int_equal(receiving.status, -EINPROGRESS);
        assert_int_equal(receiving.bytes, 0xdead);
        assert_int_equal(receiving.flags, 0xbe);
        assert_int_equal(receiving.value, 0xef);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(receiving.flags, 0);
        section_stop(&section);
}

/* Two datagrams: the sender's address is written with the completion. */
static void section_01_the_sender_comes_at_the_end(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct sockaddr_storage ours, from, before, theirs = { 0 };
        socklen_t len, from_len = 77, their_len = sizeof(theirs);
        struct ovl_buffer buffer;
        struct section section;
        uint64_t socket_id;
        int fd;

        section_start(&section);
        buffer = (struct ovl_buffer){ section.client.memory, 10 };
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_DGRAM, &socket_id));
        len = client_loopback(AF_INET, &ours);
        assert_ok(ovl_bind(section.client.thread, socket_id, (struct sockaddr *) &ours, len));
        len = sizeof(ours);
        assert_ok(ovl_getsockname(section.client.thread, socket_id, (struct sockaddr *) &ours, &len));
        memset(&from, 0x5a, sizeof(from));
        before = from;
        assert_int_equal(ovl_recvfrom(section.client.thread, socket_id, &buffer, 1, OVL_WANT_VERDICT, &from, &from_len,
                                      &receiving, NULL),
                         OVL_PENDING);
        assert_memory_equal(&from, &before, sizeof(from));
        assert_int_equal(from_len, 77);
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &ours, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &theirs, &their_len), 0);
        peer_write(fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_int_equal(from_len, their_len);
        assert_memory_equal(&from, &theirs, their_len);
        close(fd);
        section_stop(&section);
}

static void section_01_the_array_is_captured(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_buffer buffers[2];
        struct section section;

        section_start(&section);
        buffers[0] = (struct ovl_buffer){ section.client.memory, 3 };
        buffers[1] = (struct ovl_buffer){ section.client.memory + 100, 3 };
        assert_int_equal(ovl_recv(section.client.thread, section.socket, buffers, 2, 0, &receiving, NULL), OVL_PENDING);
        memset(buffers, 0xff, sizeof(buffers));
        peer_write(section.fd, "012345", 6);
        client_expect(&section.client, &receiving, 0, 6);
        assert_memory_equal(section.client.memory, "012", 3);
        assert_memory_equal(section.client.memory + 100, "345", 3);
        section_stop(&section);
}

static void section_01_no_buffers_are_no_receive(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(ovl_recv(section.client.thread, section.socket, NULL, 0, 0, &receiving, NULL), -EINVAL);
        section_stop(&section);
}

static void section_01_buffers_are_checked_at_the_call(void **state) {
        struct ovl_overlapped operation = { 0 };
        struct section section;
        struct ovl_buffer buffer;

        section_start(&section);
        /* Its last byte is outside. */
        buffer = (struct ovl_buffer){ section.client.memory + CLIENT_MEMORY - 9, 10 };
        assert_int_equal(ovl_recv(section.client.thread, section.socket, &buffer, 1, 0, &operation, NULL), -EFAULT);
        assert_int_equal(ovl_send(section.client.thread, section.socket, &buffer, 1, 0, &operation, NULL), -EFAULT);
        section_stop(&section);
}

/* As many as the session has credits for, and then one more. */
static void section_01_a_quota_refuses(void **state) {
        struct ovl_overlapped receiving[9] = { 0 };
        struct ovl_session_info info;
        struct ovl_event *event;
        struct section section;
        struct client client;
        uint64_t socket_id;
        size_t last;
        int fd;

        section_start(&section);
        client = section.client;
        client_open(&client, HARNESS_N(receiving) - 1);
        ovl_session_info(client.session, &info);
        assert_true(info.credits < HARNESS_N(receiving));
        last = info.credits;
        assert_ok(ovl_event_open(client.session, OVL_EVENT_MANUAL, &event));
        socket_id = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < last; i++)
                assert_int_equal(client_recv(&client, socket_id, client.memory, 10, OVL_WANT_VERDICT, &receiving[i]),
                                 OVL_PENDING);
        receiving[last].event = event;
        assert_int_equal(client_recv(&client, socket_id, client.memory, 10, OVL_WANT_VERDICT, &receiving[last]),
                         -ENOBUFS);
        peer_write(fd, "0123456789", 10);
        client_expect(&client, &receiving[0], 0, 10);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        assert_int_equal(client_recv(&client, socket_id, client.memory, 10, OVL_WANT_VERDICT, &receiving[last]),
                         OVL_PENDING);
        close(fd);
        for (size_t i = 1; i <= last; i++)
                client_expect(&client, &receiving[i], 0, 0);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_ok(ovl_socket_close(client.thread, socket_id));
        ovl_event_close(event);
        client_close(&client);
        section_stop(&section);
}

static void section_01_the_mode_is_for_synchronous_calls(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_ok(ovl_set_nonblocking(section.client.thread, section.socket, 1));
        assert_int_equal(section_recv_sync(&section, 0, 0), -EAGAIN);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_int_equal(section_recv_sync(&section, 1, 0), -EAGAIN);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, SECTION_NOTHING, 0), -ETIMEDOUT);
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving, 0, 10);
        section_bring(&section, "five!");
        assert_int_equal(section_recv_sync(&section, 1, 0), 5);
        assert_memory_equal(section.client.memory + 10, "five!", 5);
        section_stop(&section);
}

/* Whether there is something to wait for or not; an APC of its own brings what it waits for. */
static void section_01_without_a_structure_it_is_synchronous(void **state) {
        struct ovl_packet packet;
        struct ovl_buffer buffer;
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        for (unsigned i = 0; i < 2; i++) {
                buffer = (struct ovl_buffer){ section.client.memory, 10 };
                section_bring(&section, "five!");
                assert_int_equal(ovl_recv(section.client.thread, section.socket, &buffer, 1, 0, NULL, section_count),
                                 5);
                assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, 7));
                assert_int_equal(ovl_recv(section.client.thread, section.socket, &buffer, 1, 0, NULL, section_count),
                                 7);
                assert_int_equal(section.n_ran, i + 1);
                if (i == 0)
                        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        }
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, 0), -ETIMEDOUT);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_01_timeouts_are_for_synchronous_calls(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        uint64_t began_ns;

        section_start(&section);
        assert_ok(ovl_set_timeouts(section.client.thread, section.socket, 2 * NS_PER_MS, 2 * NS_PER_MS));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        began_ns = now_ns();
        assert_int_equal(section_recv_sync(&section, 1, 0), -ETIMEDOUT);
        assert_true(now_ns() - began_ns >= 2 * NS_PER_MS);
        assert_int_equal(ovl_wait(section.client.thread, &receiving, SECTION_NOTHING, 0), -ETIMEDOUT);
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving, 0, 10);
        section_stop(&section);
}

static void section_01_done_at_once_runs_nothing(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        section_bring(&section, "five!");
        assert_ok(ovl_apc_queue(section.client.thread, section_apc, 1));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "1.1 done means indicated", section_01_done_is_indicated },
                { "1.2 what is pending is indicated once", section_01_one_indication_each },
                { "1.3 what did not start is never indicated", section_01_a_refusal_indicates_nothing },
                { "1.4 pending is allowed where data is there", section_01_pending_is_always_allowed },
                { "1.5 pending writes nothing but the status", section_01_pending_writes_nothing },
                { "1.7 the sender's address comes at the end", section_01_the_sender_comes_at_the_end },
                { "1.8 the array of buffers is captured", section_01_the_array_is_captured },
                { "1.9 a receive without buffers is none", section_01_no_buffers_are_no_receive },
                { "1.10 buffers are checked at the call", section_01_buffers_are_checked_at_the_call },
                { "1.11 a quota refuses, and gives way", section_01_a_quota_refuses },
                { "1.12 the mode is for synchronous calls", section_01_the_mode_is_for_synchronous_calls },
                { "1.13 a call without a structure is synchronous", section_01_without_a_structure_it_is_synchronous },
                { "1.14 timeouts are for synchronous calls", section_01_timeouts_are_for_synchronous_calls },
                { "1.15 a call that is done at once runs nothing", section_01_done_at_once_runs_nothing },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
