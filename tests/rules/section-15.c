/* SPDX-License-Identifier: Apache-2.0 */

/* Section 15 of docs/SEMANTICS.md: creating and duplicating sockets. */

#include "tests/rules/section.h"

/* A listening socket that is not overlapped, and its address. */
static uint64_t section_15_listen(struct section *section, struct sockaddr_storage *ret_address, socklen_t *ret_len) {
        struct ovl_thread *thread = section->client.thread;
        uint64_t listener;
        socklen_t len;

        assert_ok(ovl_socket_open(thread, AF_INET, SOCK_STREAM | OVL_NON_OVERLAPPED, &listener));
        len = client_loopback(AF_INET, ret_address);
        assert_ok(ovl_bind(thread, listener, (struct sockaddr *) ret_address, len));
        assert_ok(ovl_listen(thread, listener, 1));
        *ret_len = sizeof(*ret_address);
        assert_ok(ovl_getsockname(thread, listener, (struct sockaddr *) ret_address, ret_len));
        return listener;
}

/* In place of the section's socket one that is not overlapped: accepted by a listener that is not. */
static void section_15_start(struct section *section) {
        struct sockaddr_storage address;
        uint64_t listener;
        socklen_t len;

        section_start(section);
        close(section->fd);
        listener = section_15_listen(section, &address, &len);
        section->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(section->fd, (struct sockaddr *) &address, len), 0);
        assert_ok(ovl_accept_sync(section->client.thread, listener, &section->socket));
}

static bool section_15_is_overlapped(struct section *section, uint64_t socket) {
        struct ovl_port *port;
        int r;

        assert_ok(ovl_port_open(section->client.session, 1, &port, NULL));
        r = ovl_port_associate(section->client.thread, port, socket, 1);
        ovl_port_close(port);
        return r == 0;
}

static void section_15_is_overlapped_unless_asked(void **state) {
        struct section section;
        uint64_t opened;

        section_start(&section);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &opened));
        assert_true(section_15_is_overlapped(&section, opened));
        assert_true(section_15_is_overlapped(&section, section.socket)); /* accepted by such a one */
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_DGRAM | OVL_NON_OVERLAPPED, &opened));
        assert_false(section_15_is_overlapped(&section, opened));
        section_stop(&section);
        section_15_start(&section);
        assert_false(section_15_is_overlapped(&section, section.socket));
        assert_ok(ovl_disconnect(section.client.thread, section.socket, OVL_REUSE, NULL, NULL));
        assert_false(section_15_is_overlapped(&section, section.socket)); /* it is as new, and as it was opened */
        section_stop(&section);
}

/* The call waits, whatever the mode: an APC, which runs in it, brings what it waits for. */
static void section_15_all_calls_are_synchronous(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct ovl_event *event;
        struct section section;

        section_15_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &event));
        assert_ok(ovl_set_nonblocking(section.client.thread, section.socket, 1));
        assert_int_equal(section_recv_sync(&section, 0, 0), -EAGAIN);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, 7));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), 0);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(ovl_result(&receiving), 0);
        assert_int_equal(receiving.bytes, 7);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_ok(ovl_apc_queue(section.client.thread, section_apc_write, 5));
        assert_int_equal(section_recv(&section, 0, 0, &receiving, section_count), 0);
        assert_int_equal(receiving.bytes, 5);
        assert_int_equal(section.n_ran, 2);
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_15_has_no_port(void **state) {
        struct section section;
        struct ovl_port *port;

        section_15_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_int_equal(ovl_port_associate(section.client.thread, port, section.socket, 1), -EINVAL);
        section_bring(&section, "five!");
        assert_int_equal(section_recv_sync(&section, 0, 0), 5);
        ovl_port_close(port);
        section_stop(&section);
}

/* --- Sockets that sessions share -------------------------------------------------------------------------------- */

static void section_15_share(struct section *section, struct client *ret_guest) {
        section_start(section);
        *ret_guest = (struct client){ .estate = section->client.estate };
        client_open(ret_guest, 0);
}

static void section_15_a_ticket_is_for_one(void **state) {
        struct ovl_ticket ticket;
        struct client guest, stranger;
        struct section section;
        uint64_t joined, other;
        int value;

        section_15_share(&section, &guest);
        stranger = guest;
        client_open(&stranger, 0);
        /* What is wrong with the socket is said first. */
        assert_int_equal(ovl_socket_share(section.client.thread, 999, 999, &ticket), -EBADF);
        assert_int_equal(ovl_socket_share(section.client.thread, section.socket, 999, &ticket), -ESRCH);
        assert_ok(ovl_socket_share(section.client.thread, section.socket, client_number(&guest), &ticket));
        assert_int_equal(ovl_socket_join(stranger.thread, &ticket, &other), -ENOENT);
        assert_ok(ovl_socket_join(guest.thread, &ticket, &joined));
        assert_int_equal(ovl_socket_join(guest.thread, &ticket, &other), -ENOENT);
        /* Options, states and data are those of the one socket. */
        assert_ok(ovl_setsockopt(guest.thread, joined, SOL_SOCKET, SO_KEEPALIVE, 1));
        assert_ok(ovl_getsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_KEEPALIVE, &value));
        assert_int_equal(value, 1);
        section_bring(&section, "five!");
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_WR));
        peer_expect_end(section.fd);
        {
                struct ovl_overlapped operation = { 0 };

                assert_int_equal(client_send(&guest, joined, guest.memory, 1, OVL_WANT_VERDICT, &operation),
                                 -ESHUTDOWN);
                assert_ok(client_recv(&guest, joined, guest.memory, 10, 0, &operation));
                client_expect(&guest, &operation, 0, 5);
        }
        /* The kernel's socket goes with the last. */
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_ok(ovl_getsockopt(guest.thread, joined, SOL_SOCKET, SO_KEEPALIVE, &value));
        client_close(&stranger);
        client_close(&guest);
        section_stop(&section);
}

static void section_15_all_posts_stand_in_one_queue(void **state) {
        struct ovl_overlapped receiving[12] = { 0 };
        struct section section;
        struct client guest;
        uint64_t joined;
        char bytes[10];

        section_15_share(&section, &guest);
        joined = client_join(&section.client, section.socket, &guest);
        for (size_t i = 0; i < HARNESS_N(receiving); i++) {
                struct client *who = i % 2 ? &guest : &section.client;

                assert_int_equal(client_recv(who, i % 2 ? joined : section.socket, who->memory + i * 10, 10,
                                             OVL_WANT_VERDICT, &receiving[i]),
                                 OVL_PENDING);
        }
        /* Who posted it cancels it, and nobody else. */
        assert_int_equal(ovl_cancel(guest.thread, joined, &receiving[4]), -ENOENT);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving[4]), 1);
        for (size_t i = 0; i < HARNESS_N(receiving); i++) {
                struct client *who = i % 2 ? &guest : &section.client;

                if (i == 4)
                        continue;
                memset(bytes, 'a' + (int) i, sizeof(bytes));
                peer_write(section.fd, bytes, sizeof(bytes));
                client_expect(who, &receiving[i], 0, 10);
                assert_memory_equal(who->memory + i * 10, bytes, 10);
        }
        client_close(&guest);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "15.1 a socket is overlapped unless it was asked for otherwise",
                  section_15_is_overlapped_unless_asked },
                { "15.2 all calls on a socket that is not overlapped are synchronous",
                  section_15_all_calls_are_synchronous },
                { "15.3 a socket that is not overlapped has no port", section_15_has_no_port },
                { "15.4 a ticket is for one session, once, and for all of the socket", section_15_a_ticket_is_for_one },
                { "15.5 the posts of all sessions stand in one queue", section_15_all_posts_stand_in_one_queue },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
