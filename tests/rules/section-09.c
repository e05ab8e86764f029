/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Section 9 of docs/SEMANTICS.md: ioctls. Where addresses and routes change they are those of a network of the case's
 * own.
 */

#include <arpa/inet.h>
#include <netinet/in.h>

#include "proto/layout.h"
#include "tests/harness/netns.h"
#include "tests/rules/section.h"

static void section_09_start(struct section *section) {
        netns_enter();
        section_start(section);
}

/* Waits for a change of the addresses of the socket's family: pending means that it is waited for. */
static void section_09_watch(struct section *section, struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        overlapped->user = section;
        assert_int_equal(ovl_ioctl(section->client.thread, section->socket, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT,
                                   overlapped, routine),
                         OVL_PENDING);
}

/* Nothing comes of it. */
static void section_09_expect_nothing(struct section *section, struct ovl_overlapped *overlapped) {
        assert_int_equal(ovl_wait(section->client.thread, overlapped, SECTION_NOTHING, 0), -ETIMEDOUT);
}

static void section_09_by_event(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct ovl_event *event;
        struct section section;

        section_09_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        watching.event = event;
        section_09_watch(&section, &watching, NULL);
        assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, SECTION_NOTHING, 0, NULL), -ETIMEDOUT);
        netns_add_address("192.0.2.1");
        assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
        assert_int_equal(ovl_result(&watching), 0);
        netns_add_address("192.0.2.2");
        assert_int_equal(ovl_wait_events(section.client.thread, &event, 1, 0, SECTION_NOTHING, 0, NULL), -ETIMEDOUT);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_09_by_routine(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct section section;

        section_09_start(&section);
        section_09_watch(&section, &watching, section_count);
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        netns_add_address("192.0.2.1");
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        netns_add_address("192.0.2.2");
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(watching.status, 0);
        section_stop(&section);
}

static void section_09_by_port(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_09_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 9));
        section_09_watch(&section, &watching, NULL);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        netns_add_address("192.0.2.1");
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &watching);
        assert_int_equal(packet.key, 9);
        assert_int_equal(packet.status, 0);
        netns_add_address("192.0.2.2");
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_09_first_change_of_addresses(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct section section;

        section_09_start(&section);
        netns_add_address("192.0.2.1");
        /* What has changed before is no change, nor is an address that stays, or one of the other family. */
        section_09_watch(&section, &watching, NULL);
        netns_add_address("192.0.2.1");
        if (netns_has_ipv6())
                netns_add_address("2001:db8::1");
        section_09_expect_nothing(&section, &watching);
        netns_remove_address("192.0.2.1");
        client_expect(&section.client, &watching, 0, 0);
        section_09_watch(&section, &watching, NULL);
        section_09_expect_nothing(&section, &watching);
        netns_add_address("192.0.2.1");
        client_expect(&section.client, &watching, 0, 0);
        section_stop(&section);
}

/* Without a structure of its own a call waits for the change, or on a socket in non-blocking mode for nothing. */
static void section_09_synchronous_watch(void **state) {
        struct ovl_interface_info interfaces[4];
        struct section section;

        section_09_start(&section);
        assert_ok(ovl_set_nonblocking(section.client.thread, section.socket, 1));
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, OVL_ADDRESS_LIST_CHANGE, 0, NULL, NULL),
                         -EAGAIN);
        /* What is answered soon is waited for all the same. */
        assert_int_equal(ovl_interface_list(section.client.thread, section.socket, interfaces, 4, 0, NULL, NULL), 1);
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, OVL_BYTES_TO_READ, 0, NULL, NULL), 0);
        section_bring(&section, "five!");
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, OVL_BYTES_TO_READ, 0, NULL, NULL), 5);
        section_stop(&section);
}

static void section_09_close_ends_a_watch(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_09_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 9));
        section_09_watch(&section, &watching, NULL);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &watching);
        assert_int_equal(packet.status, -ECANCELED);
        netns_add_address("192.0.2.1");
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_09_watch_route(struct section *section, const char *to, struct ovl_overlapped *overlapped) {
        struct sockaddr_in address = { .sin_family = AF_INET };

        assert_int_equal(inet_pton(AF_INET, to, &address.sin_addr), 1);
        assert_int_equal(ovl_route_change(section->client.thread, section->socket, (struct sockaddr *) &address,
                                          sizeof(address), OVL_WANT_VERDICT, overlapped, NULL),
                         OVL_PENDING);
}

static void section_09_first_change_of_a_route(void **state) {
        struct ovl_overlapped watching = { 0 }, other = { 0 };
        struct section section;

        section_09_start(&section);
        section_09_watch_route(&section, "198.51.100.1", &watching);
        section_09_watch_route(&section, "198.51.100.2", &other);
        section_09_expect_nothing(&section, &watching);
        netns_add_route("198.51.100.1");
        client_expect(&section.client, &watching, 0, 0);
        /* Another one was not meant, nor one that is replaced by itself; and the first was told once. */
        section_09_expect_nothing(&section, &other);
        section_09_watch_route(&section, "198.51.100.1", &watching);
        netns_add_route("198.51.100.1");
        section_09_expect_nothing(&section, &watching);
        netns_remove_route("198.51.100.1");
        client_expect(&section.client, &watching, 0, 0);
        netns_add_route("198.51.100.1");
        section_09_expect_nothing(&section, &other);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &other), 1);
        client_expect(&section.client, &other, -ECANCELED, 0);
        section_stop(&section);
}

/* What the socket itself knows is a number, and no bytes; what is written somewhere is counted. */
static void section_09_counts_of_bytes(void **state) {
        struct ovl_overlapped looking = { 0 }, listing = { 0 };
        struct ovl_interface_info interfaces[8];
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_09_start(&section);
        netns_add_address("192.0.2.1");
        section_bring(&section, "five!");
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 9));
        assert_int_equal(
                ovl_ioctl(section.client.thread, section.socket, OVL_BYTES_TO_READ, OVL_WANT_VERDICT, &looking, NULL),
                0);
        assert_int_equal(looking.value, 5);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, 0), 1);
        assert_ptr_equal(packet.overlapped, &looking);
        assert_int_equal(packet.bytes, 0);
        assert_int_equal(looking.bytes, 0);
        assert_int_equal(ovl_interface_list(section.client.thread, section.socket, interfaces, 8, 0, &listing, NULL),
                         OVL_PENDING);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &listing);
        assert_int_equal(packet.status, 0);
        assert_int_equal(listing.value, 2);
        assert_int_equal(packet.bytes, 2 * sizeof(interfaces[0]));
        assert_int_equal(listing.bytes, 2 * sizeof(interfaces[0]));
        assert_string_equal(interfaces[0].name, "lo");
        assert_int_equal(interfaces[0].flags & (OVL_INTERFACE_IS_UP | OVL_INTERFACE_IS_LOOPBACK),
                         OVL_INTERFACE_IS_UP | OVL_INTERFACE_IS_LOOPBACK);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_09_room_for_the_output(void **state) {
        struct ovl_interface_info interfaces[2];
        struct ovl_overlapped listing = { 0 };
        struct section section;

        section_09_start(&section);
        netns_add_address("192.0.2.1");
        assert_int_equal(
                ovl_interface_list(section.client.thread, section.socket, NULL, 0, OVL_WANT_VERDICT, &listing, NULL),
                -EFAULT);
        memset(interfaces, 0xa5, sizeof(interfaces));
        assert_int_equal(ovl_interface_list(section.client.thread, section.socket, interfaces, 1, 0, &listing, NULL),
                         OVL_PENDING);
        client_expect(&section.client, &listing, -ERANGE, 0);
        assert_int_equal(listing.value, 2);
        for (size_t i = 0; i < sizeof(interfaces); i++)
                assert_int_equal(((unsigned char *) interfaces)[i], 0xa5);
        section_stop(&section);
}

static void section_09_codes_that_there_are_not(void **state) {
        struct ovl_overlapped asking = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, 4711, OVL_WANT_VERDICT, &asking, NULL),
                         -EOPNOTSUPP);
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, 4711, 0, &asking, NULL), OVL_PENDING);
        client_expect(&section.client, &asking, -EOPNOTSUPP, 0);
        section_stop(&section);
}

static void section_09_bad_parameters(void **state) {
        struct ovl_overlapped asking, before;
        struct ovl_event *event;
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL | OVL_EVENT_SET, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 9));
        asking = (struct ovl_overlapped){
                .user = &section,
                .event = event,
                .bytes = 0xdeadbeef,
                .value = 0xdeadbeef,
                .status = 4711,
                .flags = 0xbeef,
                .reason = 0xdead,
        };
        before = asking;
        assert_int_equal(ovl_keep_alive(section.client.thread, section.socket, 1, 0, 1000, 0, &asking, NULL), -EINVAL);
        assert_int_equal(ovl_keep_alive(section.client.thread, section.socket, 1, 1000, UINT32_MAX, 0, &asking, NULL),
                         -EINVAL);
        assert_memory_equal(&asking, &before, sizeof(asking));
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        ovl_event_close(event);
        ovl_port_close(port);
        section_stop(&section);
}

/* What was queued never arrives, and all is told before the flush is. */
static void section_09_flush(void **state) {
        struct ovl_overlapped receiving[2] = { 0 }, sending[2] = { 0 }, flushing = { 0 };
        struct section section;
        size_t big;

        section_start(&section);
        big = client_big(&section.client, section.socket, section.fd, CLIENT_MEMORY);
        assert_ok(ovl_setsockopt(section.client.thread, section.socket, SOL_SOCKET, SO_SNDBUF, 16384));
        for (int i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, (size_t) i, OVL_WANT_VERDICT, &receiving[i], NULL),
                                 OVL_PENDING);
        /* The second cannot begin before the first has left, which nobody reads. */
        while (client_send(&section.client, section.socket, section.client.memory, big, OVL_WANT_VERDICT,
                           &sending[0]) == 0)
                continue;
        assert_int_equal(client_send(&section.client, section.socket, "", 0, OVL_WANT_VERDICT, &sending[1]),
                         OVL_PENDING);
        assert_int_equal(ovl_ioctl(section.client.thread, section.socket, OVL_FLUSH, 0, &flushing, NULL), OVL_PENDING);
        client_expect(&section.client, &flushing, 0, 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(ovl_result(&receiving[i]), -ECANCELED);
                assert_int_equal(ovl_result(&sending[i]), -ECANCELED);
        }
        /* The socket goes on. */
        peer_write(section.fd, "five!", 5);
        assert_int_equal(section_recv(&section, 0, 0, &receiving[0], NULL), OVL_PENDING);
        client_expect(&section.client, &receiving[0], 0, 5);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "9.1 a change is indicated by an event, once", section_09_by_event },
                { "9.1 a change is indicated by a routine, once", section_09_by_routine },
                { "9.1 a change is indicated at a port, once", section_09_by_port },
                { "9.2 the first change of the addresses ends a watch", section_09_first_change_of_addresses },
                { "9.2 a call that does not wait sees no change", section_09_synchronous_watch },
                { "9.3 a close ends a watch", section_09_close_ends_a_watch },
                { "9.4 the first change of a route ends a watch", section_09_first_change_of_a_route },
                { "9.5 only what is written is counted", section_09_counts_of_bytes },
                { "9.6 there must be room for the output", section_09_room_for_the_output },
                { "9.7 codes that there are not", section_09_codes_that_there_are_not },
                { "9.8 bad parameters leave the structure alone", section_09_bad_parameters },
                { "9.9 a flush ends all that is pending", section_09_flush },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
