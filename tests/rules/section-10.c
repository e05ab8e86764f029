/* SPDX-License-Identifier: Apache-2.0 */

/* Section 10 of docs/SEMANTICS.md: datagrams. The ordinary end is a UDP socket. */

#include <netinet/in.h>

#include "base/cleanup.h"
#include "tests/rules/section.h"

/* The addresses of the two ends; that of the socket is of its section. */
struct section_10 {
        struct section section;
        struct sockaddr_storage address, peer;
        socklen_t len; /* of either */
};

/* A receive that asks for the sender. */
struct section_10_from {
        struct ovl_overlapped overlapped;
        struct sockaddr_storage address;
        socklen_t len;
};

static int section_10_ordinary(struct sockaddr_storage *ret_address) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        socklen_t len = client_loopback(AF_INET, ret_address);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) ret_address, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_address, &len), 0);
        return fd;
}

/* Another socket, with an address. */
static void section_10_open(struct section_10 *ten) {
        struct ovl_thread *thread = ten->section.client.thread;

        assert_ok(ovl_socket_open(thread, AF_INET, SOCK_DGRAM, &ten->section.socket));
        ten->len = client_loopback(AF_INET, &ten->address);
        assert_ok(ovl_bind(thread, ten->section.socket, (struct sockaddr *) &ten->address, ten->len));
        assert_ok(ovl_getsockname(thread, ten->section.socket, (struct sockaddr *) &ten->address, &ten->len));
}

static void section_10_start(struct section_10 *ten) {
        *ten = (struct section_10){ .section.poster = pthread_self() };
        client_start(&ten->section.client);
        ten->section.fd = section_10_ordinary(&ten->peer);
        section_10_open(ten);
}

static void section_10_connect(struct section_10 *ten) {
        struct ovl_overlapped connecting = { 0 };

        assert_ok(ovl_connect(ten->section.client.thread, ten->section.socket, (struct sockaddr *) &ten->peer, ten->len,
                              0, &connecting, NULL));
        client_expect(&ten->section.client, &connecting, 0, 0);
}

/* The ordinary end sends a datagram to the socket. */
static void section_10_give(const struct section_10 *ten, const char *text) {
        assert_int_equal(
                sendto(ten->section.fd, text, strlen(text), 0, (const struct sockaddr *) &ten->address, ten->len),
                strlen(text));
}

/* The next datagram of an ordinary end is this one, or none comes. */
static void section_10_expect(int fd, const char *text) {
        struct pollfd look = { .fd = fd, .events = POLLIN };
        char bytes[256];

        assert_int_equal(poll(&look, 1, (int) (client_patience() / NS_PER_MS)), 1);
        assert_int_equal(recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT), strlen(text));
        assert_memory_equal(bytes, text, strlen(text));
}

static void section_10_expect_none(int fd) {
        struct pollfd look = { .fd = fd, .events = POLLIN };

        assert_int_equal(poll(&look, 1, (int) (SECTION_NOTHING / NS_PER_MS)), 0);
}

static int section_10_recvfrom(struct section_10 *ten, uint64_t socket, size_t len, unsigned flags,
                               struct section_10_from *from) {
        struct ovl_buffer buffer = { ten->section.client.memory, len };

        return ovl_recvfrom(ten->section.client.thread, socket, &buffer, 1, flags, &from->address, &from->len,
                            &from->overlapped, NULL);
}

static int section_10_sendto(struct section_10 *ten, const struct sockaddr_storage *to,
                             const struct ovl_buffer *buffers, size_t n, struct ovl_overlapped *overlapped) {
        return ovl_sendto(ten->section.client.thread, ten->section.socket, buffers, n, 0, (const struct sockaddr *) to,
                          ten->len, overlapped, NULL);
}

static void section_10_one_is_one(void **state) {
        static const char *const texts[] = { "one", "fourth", "9" };
        struct ovl_overlapped receiving[3] = { 0 };
        struct section_10 ten;

        section_10_start(&ten);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(section_recv(&ten.section, i, OVL_WANT_VERDICT, &receiving[i], NULL), OVL_PENDING);
        for (size_t i = 0; i < 3; i++)
                section_10_give(&ten, texts[i]);
        for (size_t i = 0; i < 3; i++) {
                client_expect(&ten.section.client, &receiving[i], 0, strlen(texts[i]));
                assert_memory_equal(ten.section.client.memory + 10 * i, texts[i], strlen(texts[i]));
        }
        section_stop(&ten.section);
}

/* It is a completion, and indicated: to an event, to a routine, and to a port, whether or not it had to be waited for.
 */
static void section_10_too_long(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_packet packet;
        struct ovl_event *event;
        struct ovl_port *port;
        struct section_10 ten;
        int r;

        section_10_start(&ten);
        assert_ok(ovl_event_open(ten.section.client.session, 0, &event));
        receiving.event = event;
        for (unsigned i = 0; i < 2; i++) {
                if (i == 1)
                        section_10_give(&ten, "0123456789too long");
                assert_ok(section_recv(&ten.section, 0, OVL_WANT_VERDICT, &receiving, NULL));
                if (i == 0)
                        section_10_give(&ten, "0123456789too long");
                assert_int_equal(ovl_wait_events(ten.section.client.thread, &event, 1, 0, client_patience(), 0, NULL),
                                 0);
                client_expect(&ten.section.client, &receiving, -EMSGSIZE, 10);
                assert_int_equal(receiving.flags & OVL_TRUNCATED, OVL_TRUNCATED);
                assert_memory_equal(ten.section.client.memory, "0123456789", 11);
        }
        receiving.event = ovl_event_close(event);
        section_10_give(&ten, "0123456789too long");
        assert_ok(section_recv(&ten.section, 0, OVL_WANT_VERDICT, &receiving, section_count));
        assert_int_equal(ovl_sleep(ten.section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(ten.section.n_ran, 1);

        assert_ok(ovl_port_open(ten.section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(ten.section.client.thread, port, ten.section.socket, 7));
        section_10_give(&ten, "0123456789too long");
        assert_ok(section_recv(&ten.section, 0, OVL_WANT_VERDICT, &receiving, NULL));
        r = ovl_port_wait(port, ten.section.client.thread, &packet, 1, client_patience());
        assert_int_equal(r, 1);
        assert_int_equal(packet.status, -EMSGSIZE);
        assert_int_equal(packet.bytes, 10);

        /* The rest of it is lost: what comes next is the next. */
        section_10_give(&ten, "next");
        assert_ok(section_recv(&ten.section, 0, 0, &receiving, NULL));
        assert_int_equal(ovl_port_wait(port, ten.section.client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.status, 0);
        assert_int_equal(packet.bytes, 4);
        ovl_port_close(port);
        section_stop(&ten.section);
}

static void section_10_cut_from_whom(void **state) {
        struct section_10_from from = { 0 };
        struct section_10 ten;

        section_10_start(&ten);
        for (unsigned i = 0; i < 2; i++) {
                memset(&from.address, 0xee, sizeof(from.address));
                if (i == 1)
                        section_10_give(&ten, "too long");
                assert_ok(section_10_recvfrom(&ten, ten.section.socket, 3, OVL_WANT_VERDICT, &from));
                if (i == 0)
                        section_10_give(&ten, "too long");
                client_expect(&ten.section.client, &from.overlapped, -EMSGSIZE, 3);
                assert_int_equal(from.len, ten.len);
                assert_memory_equal(&from.address, &ten.peer, ten.len);
        }
        section_stop(&ten.section);
}

static void section_10_needs_a_name(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section_10_from from = { 0 };
        struct sockaddr_in *address;
        struct section_10 ten;
        struct ovl_buffer ask;

        section_10_start(&ten);
        assert_ok(ovl_socket_open(ten.section.client.thread, AF_INET, SOCK_DGRAM, &ten.section.socket));
        assert_int_equal(section_recv(&ten.section, 0, OVL_WANT_VERDICT, &sending, NULL), -EINVAL);
        assert_int_equal(section_10_recvfrom(&ten, ten.section.socket, 10, OVL_WANT_VERDICT, &from), -EINVAL);
        ask = (struct ovl_buffer){ ten.section.client.memory, 3 };
        memcpy(ask.data, "ask", 3);
        assert_ok(section_10_sendto(&ten, &ten.peer, &ask, 1, &sending));
        client_expect(&ten.section.client, &sending, 0, 3);
        section_10_expect(ten.section.fd, "ask");
        /* Sending gave it a name, to which the answer comes. */
        assert_ok(ovl_getsockname(ten.section.client.thread, ten.section.socket, (struct sockaddr *) &ten.address,
                                  &ten.len));
        address = (struct sockaddr_in *) &ten.address;
        assert_int_not_equal(address->sin_port, 0);
        address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(section_10_recvfrom(&ten, ten.section.socket, 10, OVL_WANT_VERDICT, &from), OVL_PENDING);
        section_10_give(&ten, "answer");
        client_expect(&ten.section.client, &from.overlapped, 0, 6);
        section_stop(&ten.section);
}

/* Nobody has the port that a datagram goes to: one receive is told, whether it is pending or comes later, with a peer
 * and without one, and no send. The next receive works; and whoever switches it off hears of nothing.
 */
static void section_10_nobody_is_there(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section_10_from from = { 0 };
        struct ovl_thread *thread;
        struct section_10 ten;
        struct ovl_buffer byte;

        section_10_start(&ten);
        thread = ten.section.client.thread;
        byte = (struct ovl_buffer){ ten.section.client.memory + 50, 1 };
        close(section_10_ordinary(&ten.peer));
        for (unsigned i = 0; i < 8; i++) {
                bool is_pending = i & 1, has_peer = i & 2, is_off = i & 4;
                uint64_t socket = ten.section.socket;

                if (is_off)
                        assert_ok(ovl_setsockopt(thread, socket, IPPROTO_IP, IP_RECVERR, 0));
                if (has_peer)
                        section_10_connect(&ten);
                if (is_pending)
                        assert_int_equal(section_10_recvfrom(&ten, socket, 10, OVL_WANT_VERDICT, &from), OVL_PENDING);
                assert_ok(section_10_sendto(&ten, &ten.peer, &byte, 1, &sending));
                client_expect(&ten.section.client, &sending, 0, 1);
                section_10_expect_none(ten.section.fd); /* the answer has had time to come */
                if (!is_pending)
                        assert_ok(section_10_recvfrom(&ten, socket, 10, OVL_WANT_VERDICT, &from));
                if (!is_off) {
                        client_expect(&ten.section.client, &from.overlapped, -ECONNREFUSED, 0);
                        assert_int_equal(section_10_recvfrom(&ten, socket, 10, OVL_WANT_VERDICT, &from), OVL_PENDING);
                }
                /* One datagram, one refusal. */
                assert_int_equal(ovl_wait(thread, &from.overlapped, SECTION_NOTHING, 0), -ETIMEDOUT);
                if (has_peer) {
                        assert_int_equal(ovl_cancel(thread, socket, &from.overlapped), 1);
                        client_expect(&ten.section.client, &from.overlapped, -ECANCELED, 0);
                } else {
                        section_10_give(&ten, "alive");
                        client_expect(&ten.section.client, &from.overlapped, 0, 5);
                }
                assert_ok(ovl_socket_close(thread, socket));
                section_10_open(&ten);
        }
        section_stop(&ten.section);
}

/* What became of an earlier datagram does not end a send. */
static void section_10_refused_ends_no_send(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section_10 ten;

        section_10_start(&ten);
        close(section_10_ordinary(&ten.peer));
        section_10_connect(&ten);
        for (unsigned i = 0; i < 6; i++) {
                if (i == 3)
                        assert_ok(ovl_setsockopt(ten.section.client.thread, ten.section.socket, IPPROTO_IP, IP_RECVERR,
                                                 0));
                assert_ok(client_send(&ten.section.client, ten.section.socket, ten.section.client.memory, 1, 0,
                                      &sending));
                client_expect(&ten.section.client, &sending, 0, 1);
        }
        section_stop(&ten.section);
}

static void section_10_empty(void **state) {
        struct ovl_overlapped receiving[3] = { 0 }, sending = { 0 };
        struct section_10 ten;

        section_10_start(&ten);
        assert_int_equal(section_recv(&ten.section, 0, OVL_WANT_VERDICT, &receiving[0], NULL), OVL_PENDING);
        section_10_give(&ten, "");
        client_expect(&ten.section.client, &receiving[0], 0, 0);
        section_10_give(&ten, "");
        section_10_give(&ten, "five!");
        for (size_t i = 1; i < 3; i++) {
                assert_ok(section_recv(&ten.section, i, OVL_WANT_VERDICT, &receiving[i], NULL));
                client_expect(&ten.section.client, &receiving[i], 0, i == 1 ? 0 : 5);
        }
        assert_memory_equal(ten.section.client.memory + 20, "five!", 5);
        assert_ok(section_10_sendto(&ten, &ten.peer, NULL, 0, &sending));
        client_expect(&ten.section.client, &sending, 0, 0);
        section_10_expect(ten.section.fd, "");
        section_stop(&ten.section);
}

static void section_10_gathers(void **state) {
        struct ovl_overlapped sending[4] = { 0 };
        struct ovl_buffer parts[3], halves[2];
        struct section_10 ten;
        char *memory;
        int r;

        section_10_start(&ten);
        memory = ten.section.client.memory;
        memcpy(memory, "one....two....three", 19);
        parts[0] = (struct ovl_buffer){ memory, 3 };
        parts[1] = (struct ovl_buffer){ memory + 7, 3 };
        parts[2] = (struct ovl_buffer){ memory + 14, 5 };
        assert_ok(section_10_sendto(&ten, &ten.peer, parts, 3, &sending[0]));
        client_expect(&ten.section.client, &sending[0], 0, 11);
        section_10_expect(ten.section.fd, "onetwothree");
        section_10_connect(&ten);
        assert_ok(ovl_send(ten.section.client.thread, ten.section.socket, parts, 3, 0, &sending[1], NULL));
        client_expect(&ten.section.client, &sending[1], 0, 11);
        section_10_expect(ten.section.fd, "onetwothree");

        /* What is too long for one does not become two. Where it would travel in a frame the call itself refuses it. */
        halves[0] = halves[1] = (struct ovl_buffer){ memory, 35000 };
        assert_ok(ovl_send(ten.section.client.thread, ten.section.socket, halves, 2, 0, &sending[2], NULL));
        client_expect(&ten.section.client, &sending[2], -EMSGSIZE, 0);
        r = section_10_sendto(&ten, &ten.peer, halves, 2, &sending[3]);
        if (r >= 0)
                client_expect(&ten.section.client, &sending[3], -EMSGSIZE, 0);
        else
                assert_int_equal(r, -EMSGSIZE);
        section_10_expect_none(ten.section.fd);
        section_stop(&ten.section);
}

static void section_10_looks(void **state) {
        struct ovl_overlapped looking = { 0 };
        struct section_10 ten;
        char *place;

        section_10_start(&ten);
        section_10_give(&ten, "first");
        section_10_give(&ten, "second");
        for (size_t i = 0; i < 3; i++) {
                place = ten.section.client.memory + 10 * i;
                assert_ok(section_recv(&ten.section, i, i < 2 ? OVL_PEEK : 0, &looking, NULL));
                client_expect(&ten.section.client, &looking, 0, 5);
                assert_memory_equal(place, "first", 5);
        }
        assert_ok(section_recv(&ten.section, 0, 0, &looking, NULL));
        client_expect(&ten.section.client, &looking, 0, 6);
        assert_memory_equal(ten.section.client.memory, "second", 6);
        section_stop(&ten.section);
}

/* A destination counts for one datagram. Where its port is 0 it has nobody to go to, and that is no error. */
static void section_10_goes_where_it_is_sent(void **state) {
        struct sockaddr_storage other_address, nowhere;
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer to_peer, to_other;
        _cleanup_fd_ int other = -1;
        struct section_10 ten;

        section_10_start(&ten);
        other = section_10_ordinary(&other_address);
        memcpy(ten.section.client.memory, "AB", 2);
        to_peer = (struct ovl_buffer){ ten.section.client.memory, 1 };
        to_other = (struct ovl_buffer){ ten.section.client.memory + 1, 1 };
        assert_ok(client_send(&ten.section.client, ten.section.socket, to_peer.data, 1, 0, &sending));
        client_expect(&ten.section.client, &sending, -EDESTADDRREQ, 0);
        section_10_connect(&ten);
        assert_ok(section_10_sendto(&ten, &other_address, &to_other, 1, &sending));
        client_expect(&ten.section.client, &sending, 0, 1);
        section_10_expect(other, "B");
        assert_ok(client_send(&ten.section.client, ten.section.socket, to_peer.data, 1, 0, &sending));
        client_expect(&ten.section.client, &sending, 0, 1);
        section_10_expect(ten.section.fd, "A");
        nowhere = other_address;
        ((struct sockaddr_in *) &nowhere)->sin_port = 0;
        assert_ok(section_10_sendto(&ten, &nowhere, &to_other, 1, &sending));
        client_expect(&ten.section.client, &sending, 0, 1);
        section_10_expect_none(other);
        section_10_expect_none(ten.section.fd);
        section_stop(&ten.section);
}

static void section_10_ends_with_its_socket(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section_10_from from = { 0 };
        struct section_10 ten;

        section_10_start(&ten);
        assert_int_equal(section_10_recvfrom(&ten, ten.section.socket, 10, OVL_WANT_VERDICT, &from), OVL_PENDING);
        assert_int_equal(section_recv(&ten.section, 1, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_ok(ovl_socket_close(ten.section.client.thread, ten.section.socket));
        client_expect(&ten.section.client, &from.overlapped, -ECANCELED, 0);
        assert_int_equal(from.len, 0);
        client_expect(&ten.section.client, &receiving, -ECANCELED, 0);
        section_stop(&ten.section);
}

/*
 * One datagram, with what there is beside it. Where that has no room the status says so, the datagram is complete, and
 * a synchronous call says how long it is. The length of the items is told by the completion, and no call takes no
 * header.
 */
static void section_10_messages(void **state) {
        struct ovl_received received = { 0 };
        struct ovl_overlapped overlapped = { 0 };
        struct ovl_thread *thread;
        uint64_t control[8];
        struct ovl_item item;
        struct section_10 ten;
        struct ovl_buffer buffer;
        size_t at = 0;

        section_10_start(&ten);
        thread = ten.section.client.thread;
        buffer = (struct ovl_buffer){ ten.section.client.memory, 10 };
        assert_ok(ovl_setsockopt(thread, ten.section.socket, IPPROTO_IP, IP_PKTINFO, 1));
        assert_int_equal(ovl_recvmsg(thread, ten.section.socket, &buffer, 1, NULL, 0, &overlapped, NULL), -EFAULT);
        assert_int_equal(
                ovl_recvmsg(thread, ten.section.socket, &buffer, 1, &received, OVL_DONTWAIT, &overlapped, NULL),
                -EOPNOTSUPP);

        received = (struct ovl_received){ .control = control, .control_len = sizeof(control) };
        assert_int_equal(
                ovl_recvmsg(thread, ten.section.socket, &buffer, 1, &received, OVL_WANT_VERDICT, &overlapped, NULL),
                OVL_PENDING);
        assert_int_equal(received.control_len, sizeof(control));
        section_10_give(&ten, "whole");
        client_expect(&ten.section.client, &overlapped, 0, 5);
        assert_int_equal(received.control_len, 32);
        assert_memory_equal(&received.address, &ten.peer, ten.len);
        assert_int_equal(ovl_item_next(control, received.control_len, &at, &item), 1);
        assert_int_equal(item.type, OVL_PACKET_INFO);
        assert_int_equal(((struct sockaddr_in *) &item.address)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));

        /* With data waiting and a routine it is pending all the same, and the routine sees the status. */
        section_10_give(&ten, "whole");
        received = (struct ovl_received){ .control = control, .control_len = 8 };
        overlapped.user = &ten.section;
        assert_ok(ovl_recvmsg(thread, ten.section.socket, &buffer, 1, &received, OVL_PEEK, &overlapped, section_count));
        assert_int_equal(ovl_sleep(thread, client_patience()), OVL_ALERTED);
        assert_int_equal(ten.section.n_ran, 1);
        client_expect(&ten.section.client, &overlapped, -EMSGSIZE, 5);
        assert_int_equal(overlapped.flags, OVL_CONTROL_TRUNCATED);
        assert_memory_equal(ten.section.client.memory, "whole", 5);

        /* Synchronous. */
        received = (struct ovl_received){ .control = control, .control_len = 8 };
        assert_int_equal(ovl_recvmsg(thread, ten.section.socket, &buffer, 1, &received, 0, NULL, NULL), -EMSGSIZE);
        assert_int_equal(received.bytes, 5);
        assert_int_equal(received.flags, OVL_CONTROL_TRUNCATED);
        section_stop(&ten.section);
}

/* Control data that goes along with a datagram counts for it, and for no other. */
static void section_10_sends_messages(void **state) {
        const struct ovl_item hops = { .type = OVL_HOP_LIMIT, .value = 9 };
        struct ovl_received received = { 0 };
        struct ovl_overlapped sending = { 0 };
        uint64_t control[8], socket;
        struct ovl_thread *thread;
        struct section_10 ten;
        struct ovl_buffer buffer;
        struct ovl_item item;
        size_t len = 0, at;

        section_10_start(&ten);
        thread = ten.section.client.thread;
        buffer = (struct ovl_buffer){ ten.section.client.memory, 4 };
        socket = ten.section.socket;
        ten.peer = ten.address;
        section_10_open(&ten);
        assert_ok(ovl_setsockopt(thread, socket, IPPROTO_IP, IP_RECVTTL, 1));
        assert_ok(ovl_item_put(control, sizeof(control), &len, &hops));
        for (unsigned i = 0; i < 2; i++) {
                assert_ok(ovl_sendmsg(thread, ten.section.socket, &buffer, 1, 0, (struct sockaddr *) &ten.peer, ten.len,
                                      control, i == 0 ? len : 0, &sending, NULL));
                client_expect(&ten.section.client, &sending, 0, 4);
                received = (struct ovl_received){ .control = control, .control_len = sizeof(control) };
                assert_int_equal(ovl_recvmsg(thread, socket, &buffer, 1, &received, 0, NULL, NULL), 4);
                at = 0;
                assert_int_equal(ovl_item_next(control, received.control_len, &at, &item), 1);
                assert_int_equal(item.value, i == 0 ? 9 : 64);
        }
        section_stop(&ten.section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "10.1 one receive takes one datagram, in posting order", section_10_one_is_one },
                { "10.2 a datagram that is too long is cut and indicated", section_10_too_long },
                { "10.3 a datagram that is cut has a sender", section_10_cut_from_whom },
                { "10.4 a receive needs a name, a send gives one", section_10_needs_a_name },
                { "10.5 a receive is told that nobody was there", section_10_nobody_is_there },
                { "10.5 a send is not told of earlier datagrams", section_10_refused_ends_no_send },
                { "10.6 an empty datagram is a datagram", section_10_empty },
                { "10.7 a send gathers one datagram, or sends nothing", section_10_gathers },
                { "10.8 a look leaves the datagram", section_10_looks },
                { "10.9 a datagram goes where it is sent", section_10_goes_where_it_is_sent },
                { "10.10 a close ends the receives", section_10_ends_with_its_socket },
                { "10.11 a message brings what there is beside it", section_10_messages },
                { "10.11 a message takes along what is beside it", section_10_sends_messages },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
