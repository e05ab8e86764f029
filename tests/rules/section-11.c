/* SPDX-License-Identifier: Apache-2.0 */

/* Section 11 of docs/SEMANTICS.md: shutdown, close, cancel, exit. */

#include <fcntl.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "proto/layout.h"
#include "tests/rules/section.h"

#define SECTION_11_BIG (32u << 20)

/* --- Shutdown --------------------------------------------------------------------------------------------------- */

static void section_11_shut_receiving(void **state) {
        struct ovl_overlapped receiving[2] = { 0 }, late = { 0 };
        struct section section;

        section_start(&section);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], NULL), OVL_PENDING);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 2, OVL_WANT_VERDICT, &late, NULL), -ESHUTDOWN);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(ovl_result(&receiving[i]), -EINPROGRESS);
                peer_write(section.fd, "later", 5);
                client_expect(&section.client, &receiving[i], 0, 5);
                assert_memory_equal(section.client.memory + i * 10, "later", 5);
        }
        section_stop(&section);
}

static void section_11_shut_sending(void **state) {
        struct ovl_overlapped sending[3] = { 0 };
        struct ovl_region *region;
        struct section section;
        size_t big;
        char *bytes;

        section_start(&section);
        big = client_big(&section.client, section.socket, section.fd, SECTION_11_BIG);
        assert_ok(ovl_region_open(section.client.thread, 2 * big, &region));
        pattern_fill(ovl_region_data(region), 2 * big, 0);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(client_send(&section.client, section.socket,
                                             (char *) ovl_region_data(region) + i * big, big, OVL_WANT_VERDICT,
                                             &sending[i]),
                                 OVL_PENDING);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_WR));
        assert_int_equal(
                client_send(&section.client, section.socket, section.client.memory, 1, OVL_WANT_VERDICT, &sending[2]),
                -ESHUTDOWN);
        bytes = malloc(2 * big);
        peer_read(section.fd, bytes, 2 * big);
        pattern_check(bytes, 2 * big, 0);
        peer_expect_end(section.fd);
        free(bytes);
        for (size_t i = 0; i < 2; i++)
                client_expect(&section.client, &sending[i], 0, big);
        assert_ok(ovl_region_close(section.client.thread, region));
        section_stop(&section);
}

static void section_11_expect_no_packet(struct section *section, struct ovl_port *port) {
        struct ovl_packet packet;

        assert_int_equal(ovl_port_wait(port, section->client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
}

/* A datagram socket of the session that is bound, and its address. */
static uint64_t section_11_datagrams(struct section *section, struct sockaddr_storage *ret_address,
                                     socklen_t *ret_len) {
        uint64_t socket_id;

        assert_ok(ovl_socket_open(section->client.thread, AF_INET, SOCK_DGRAM, &socket_id));
        *ret_len = client_loopback(AF_INET, ret_address);
        assert_ok(ovl_bind(section->client.thread, socket_id, (struct sockaddr *) ret_address, *ret_len));
        *ret_len = sizeof(*ret_address);
        assert_ok(ovl_getsockname(section->client.thread, socket_id, (struct sockaddr *) ret_address, ret_len));
        return socket_id;
}

static void section_11_what_can_be_shut(void **state) {
        struct ovl_overlapped operation = { 0 }, pending = { 0 };
        struct ovl_buffer buffer;
        struct sockaddr_storage address;
        uint64_t listener, stream, datagrams;
        struct section section;
        struct ovl_port *port;
        socklen_t len;
        int fd;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        listener = client_listen(&section.client, AF_INET, &address, &len);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_int_equal(ovl_shutdown(section.client.thread, listener, SHUT_RDWR), -ENOTCONN);
        assert_int_equal(ovl_shutdown(section.client.thread, stream, SHUT_RDWR), -ENOTCONN);
        for (size_t i = 0; i < 2; i++)
                assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RDWR));
        peer_expect_end(section.fd);
        /* Datagrams, without a peer: what is pending goes on here, too. */
        datagrams = section_11_datagrams(&section, &address, &len);
        buffer = (struct ovl_buffer){ section.client.memory, 10 };
        assert_int_equal(client_recv(&section.client, datagrams, section.client.memory, 10, OVL_WANT_VERDICT, &pending),
                         OVL_PENDING);
        for (size_t i = 0; i < 2; i++)
                assert_ok(ovl_shutdown(section.client.thread, datagrams, SHUT_RD));
        assert_int_equal(
                client_recv(&section.client, datagrams, section.client.memory, 10, OVL_WANT_VERDICT, &operation),
                -ESHUTDOWN);
        assert_ok(ovl_sendto(section.client.thread, datagrams, &buffer, 1, 0, (struct sockaddr *) &address, len,
                             &operation, NULL));
        client_expect(&section.client, &operation, 0, 10);
        client_expect(&section.client, &pending, 0, 10);
        for (size_t i = 0; i < 2; i++)
                assert_ok(ovl_shutdown(section.client.thread, datagrams, SHUT_WR));
        assert_int_equal(ovl_sendto(section.client.thread, datagrams, &buffer, 1, OVL_WANT_VERDICT,
                                    (struct sockaddr *) &address, len, &operation, NULL),
                         -ESHUTDOWN);
        section_11_expect_no_packet(&section, port);
        fd = section.fd;
        section.fd = -1;
        close(fd);
        ovl_port_close(port);
        section_stop(&section);
}

/* Waits until the ordinary end has an error, and returns it; 0: it has none in time. */
static int section_11_error_of(int fd) {
        uint64_t deadline = harness_deadline(10);
        socklen_t len = sizeof(int);
        int error = 0;

        while (error == 0 && now_ns() < deadline) {
                struct pollfd poll_fd = { .fd = fd };

                poll(&poll_fd, 1, 10);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
        }
        return error;
}

/* The first socket has data that nobody received; to the second some comes when it is closed. */
static void section_11_a_close_with_data_resets(void **state) {
        struct section section;
        uint64_t other;
        int fd;

        section_start(&section);
        section_bring(&section, "five!");
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_WR));
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_int_not_equal(section_11_error_of(section.fd), 0);
        other = client_pair(&section.client, AF_INET, &fd);
        assert_ok(ovl_shutdown(section.client.thread, other, SHUT_WR));
        assert_ok(ovl_socket_close(section.client.thread, other));
        peer_expect_end(fd);
        peer_write(fd, "late!", 5);
        assert_int_not_equal(section_11_error_of(fd), 0);
        close(fd);
        section_stop(&section);
}

/* --- Close ------------------------------------------------------------------------------------------------------ */

static void section_11_expect_closed(struct section *section, struct ovl_overlapped *overlapped) {
        client_expect(&section->client, overlapped, -ECANCELED, 0);
        assert_int_equal(overlapped->reason, OVL_REASON_CLOSED);
}

/* A receive by its event, an accept by its routine, a datagram's by its packet, a poll by its status alone. */
static void section_11_a_close_ends_each(void **state) {
        struct ovl_overlapped receiving[3] = { 0 }, accepting = { 0 }, waiting = { 0 }, polling = { 0 };
        uint64_t listener, datagrams, polled;
        struct sockaddr_storage address;
        struct ovl_packet packet;
        struct ovl_event *event;
        struct section section;
        struct ovl_port *port;
        socklen_t len;
        int fd;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        listener = client_listen(&section.client, AF_INET, &address, &len);
        datagrams = section_11_datagrams(&section, &address, &len);
        polled = client_pair(&section.client, AF_INET, &fd);
        assert_ok(ovl_port_associate(section.client.thread, port, datagrams, 77));
        for (size_t i = 0; i < 3; i++) {
                receiving[i].event = i == 2 ? event : NULL;
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], NULL), OVL_PENDING);
        }
        accepting.user = &section;
        assert_int_equal(ovl_accept(section.client.thread, listener, OVL_WANT_VERDICT, &accepting, section_count),
                         OVL_PENDING);
        assert_int_equal(client_recv(&section.client, datagrams, section.client.memory, 10, OVL_WANT_VERDICT, &waiting),
                         OVL_PENDING);
        assert_int_equal(ovl_poll(section.client.thread, polled, POLLIN, OVL_WANT_VERDICT, &polling, NULL),
                         OVL_PENDING);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_ok(ovl_socket_close(section.client.thread, listener));
        assert_ok(ovl_socket_close(section.client.thread, datagrams));
        assert_ok(ovl_socket_close(section.client.thread, polled));
        for (size_t i = 0; i < 3; i++)
                section_11_expect_closed(&section, &receiving[i]);
        section_11_expect_closed(&section, &accepting);
        section_11_expect_closed(&section, &waiting);
        section_11_expect_closed(&section, &polling);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &waiting);
        assert_int_equal(packet.status, -ECANCELED);
        assert_int_equal(packet.key, 77);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_11_expect_no_packet(&section, port);
        assert_int_equal(ovl_sleep(section.client.thread, 0), 0);
        close(fd);
        ovl_port_close(port);
        ovl_event_close(event);
        section_stop(&section);
}

/* One that had an operation, and one that never had. */
static void section_11_a_close_alone_is_silent(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;
        uint64_t idle;
        int fd;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        idle = client_pair(&section.client, AF_INET, &fd);
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        assert_ok(ovl_port_associate(section.client.thread, port, idle, 2));
        section_bring(&section, "five!");
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_ok(ovl_socket_close(section.client.thread, idle));
        section_11_expect_no_packet(&section, port);
        close(fd);
        ovl_port_close(port);
        section_stop(&section);
}

static void section_11_what_was_taken_arrives(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        char bytes[60000];

        section_start(&section);
        pattern_fill(section.client.memory, sizeof(bytes), 0);
        assert_ok(client_send(&section.client, section.socket, section.client.memory, sizeof(bytes), 0, &sending));
        client_expect(&section.client, &sending, 0, sizeof(bytes));
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        peer_read(section.fd, bytes, sizeof(bytes));
        pattern_check(bytes, sizeof(bytes), 0);
        peer_expect_end(section.fd);
        section_stop(&section);
}

/* Another session with the same socket. */
static uint64_t section_11_invite(struct section *section, uint64_t socket, struct client *ret_guest) {
        *ret_guest = (struct client){ .estate = section->client.estate };
        client_open(ret_guest, 0);
        return client_join(&section->client, socket, ret_guest);
}

/* Two sessions post, one closes: what it posted goes on, also to its port. */
static void section_11_the_last_close_ends(void **state) {
        struct ovl_overlapped mine[4] = { 0 }, its[3] = { 0 };
        struct ovl_packet packet;
        struct section section;
        struct client guest;
        struct ovl_port *port;
        uint64_t joined;

        section_start(&section);
        joined = section_11_invite(&section, section.socket, &guest);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 33));
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &mine[i], NULL), OVL_PENDING);
                assert_int_equal(client_recv(&guest, joined, guest.memory + i * 10, 10, OVL_WANT_VERDICT, &its[i]),
                                 OVL_PENDING);
        }
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_int_equal(section_recv(&section, 3, OVL_WANT_VERDICT, &mine[3], NULL), -EBADF);
        section_11_expect_no_packet(&section, port);
        peer_write(section.fd, "mine", 4);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &mine[0]);
        assert_int_equal(packet.key, 33);
        assert_int_equal(packet.status, 0);
        assert_memory_equal(section.client.memory, "mine", 4);
        peer_write(section.fd, "its!!", 5);
        client_expect(&guest, &its[0], 0, 5);
        /* Who posted it can still end it. */
        assert_int_equal(ovl_cancel(section.client.thread, 0, &mine[1]), 1);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &mine[1]);
        assert_int_equal(mine[1].reason, OVL_REASON_CANCELLED);
        assert_int_equal(ovl_result(&mine[2]), -EINPROGRESS);
        assert_int_equal(ovl_result(&its[1]), -EINPROGRESS);
        assert_ok(ovl_socket_close(guest.thread, joined));
        for (size_t i = 1; i < 3; i++) {
                client_expect(&guest, &its[i], -ECANCELED, 0);
                assert_int_equal(its[i].reason, OVL_REASON_CLOSED);
        }
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &mine[2]);
        assert_int_equal(packet.key, 33);
        section_11_expect_closed(&section, &mine[2]);
        peer_expect_end(section.fd);
        ovl_port_close(port);
        client_close(&guest);
        section_stop(&section);
}

/* A thread of the program that waits for an operation of its own. */
struct section_11_waiter {
        struct section *section;
        pthread_t thread;
        uint64_t socket;
        unsigned kind;
        sem_t posted;
        int waited; /* what the wait returned */
        int status; /* of the operation */
};

static void *section_11_wait(void *data) {
        struct section_11_waiter *waiter = data;
        struct ovl_overlapped overlapped = { 0 };
        struct ovl_buffer buffer = { waiter->section->client.memory, 10 };
        struct ovl_thread *thread;
        int r = -EINVAL;

        assert_ok(ovl_thread_open(waiter->section->client.session, &thread, NULL));
        if (waiter->kind == 0)
                r = ovl_recv(thread, waiter->socket, &buffer, 1, OVL_WANT_VERDICT, &overlapped, NULL);
        else if (waiter->kind == 1)
                r = ovl_accept(thread, waiter->socket, OVL_WANT_VERDICT, &overlapped, NULL);
        else
                r = ovl_poll(thread, waiter->socket, POLLIN, OVL_WANT_VERDICT, &overlapped, NULL);
        assert_int_equal(r, OVL_PENDING);
        sem_post(&waiter->posted);
        waiter->waited = ovl_wait(thread, &overlapped, client_patience(), 0);
        waiter->status = ovl_result(&overlapped);
        ovl_thread_close(thread);
        return NULL;
}

static void section_11_a_close_wakes(void **state) {
        struct section_11_waiter waiters[3];
        struct sockaddr_storage address;
        struct section section;
        socklen_t len;
        int fd;

        section_start(&section);
        for (unsigned i = 0; i < HARNESS_N(waiters); i++) {
                waiters[i] = (struct section_11_waiter){ .section = &section, .kind = i };
                waiters[i].socket = i == 0   ? section.socket
                                    : i == 1 ? client_listen(&section.client, AF_INET, &address, &len)
                                             : client_pair(&section.client, AF_INET, &fd);
                assert_int_equal(sem_init(&waiters[i].posted, 0, 0), 0);
                assert_int_equal(pthread_create(&waiters[i].thread, NULL, section_11_wait, &waiters[i]), 0);
                sem_wait(&waiters[i].posted);
        }
        for (unsigned i = 0; i < HARNESS_N(waiters); i++) {
                assert_ok(ovl_socket_close(section.client.thread, waiters[i].socket));
                pthread_join(waiters[i].thread, NULL);
                assert_int_equal(waiters[i].waited, 0);
                assert_int_equal(waiters[i].status, -ECANCELED);
                sem_destroy(&waiters[i].posted);
        }
        close(fd);
        section_stop(&section);
}

static void section_11_try_again(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;
        struct ovl_overlapped again = { 0 };

        assert_int_equal(ovl_result(overlapped), -ECANCELED);
        assert_int_equal(section_recv(section, 1, OVL_WANT_VERDICT, &again, NULL), -EBADF);
        assert_int_equal(ovl_shutdown(thread, section->socket, SHUT_WR), -EBADF);
        section->n_ran++;
}

static void section_11_a_closed_number_is_none(void **state) {
        struct ovl_overlapped receiving = { 0 }, late = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_11_try_again), OVL_PENDING);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &late, NULL), -EBADF);
        assert_int_equal(ovl_socket_close(section.client.thread, section.socket), -EBADF);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        section_stop(&section);
}

/* --- Cancel ----------------------------------------------------------------------------------------------------- */

static void section_11_recv_by(struct section *section, struct ovl_thread *thread, uint64_t socket, size_t place,
                               struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { section->client.memory + place * 10, 10 };

        assert_int_equal(ovl_recv(thread, socket, &buffer, 1, OVL_WANT_VERDICT, overlapped, NULL), OVL_PENDING);
}

static void section_11_a_thread_cancels_its_own(void **state) {
        struct ovl_overlapped mine = { 0 }, elsewhere = { 0 }, its = { 0 };
        struct ovl_thread *other;
        struct section section;
        uint64_t second;
        int fd;

        section_start(&section);
        second = client_pair(&section.client, AF_INET, &fd);
        assert_ok(ovl_thread_open(section.client.session, &other, NULL));
        section_11_recv_by(&section, section.client.thread, section.socket, 0, &mine);
        section_11_recv_by(&section, section.client.thread, second, 1, &elsewhere);
        section_11_recv_by(&section, other, section.socket, 2, &its);
        assert_int_equal(ovl_cancel_thread(section.client.thread, section.socket), 1);
        assert_int_equal(ovl_result(&mine), -ECANCELED);
        assert_int_equal(ovl_result(&elsewhere), -EINPROGRESS);
        assert_int_equal(ovl_result(&its), -EINPROGRESS);
        /* That there is nothing to cancel is no error. */
        assert_int_equal(ovl_cancel_thread(section.client.thread, section.socket), 0);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &its, 0, 5);
        ovl_thread_close(other);
        close(fd);
        section_stop(&section);
}

/* One operation of another thread; all of them; and what has ended already, or never was. */
static void section_11_anybody_cancels(void **state) {
        struct ovl_overlapped receiving[4] = { 0 }, later = { 0 };
        struct ovl_thread *other;
        struct section section;

        section_start(&section);
        assert_ok(ovl_thread_open(section.client.session, &other, NULL));
        for (size_t i = 0; i < HARNESS_N(receiving); i++)
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], section_count),
                                 OVL_PENDING);
        assert_int_equal(ovl_cancel(other, section.socket, &later), -ENOENT);
        assert_int_equal(ovl_cancel(other, section.socket, &receiving[2]), 1);
        client_expect(&section.client, &receiving[2], -ECANCELED, 0);
        assert_int_equal(receiving[2].reason, OVL_REASON_CANCELLED);
        assert_int_equal(ovl_result(&receiving[0]), -EINPROGRESS);
        assert_int_equal(ovl_result(&receiving[3]), -EINPROGRESS);
        assert_int_equal(ovl_cancel(other, section.socket, &receiving[2]), -ENOENT);
        assert_int_equal(ovl_cancel(other, section.socket, NULL), 3);
        assert_int_equal(ovl_cancel(other, section.socket, NULL), -ENOENT);
        assert_int_equal(section.n_ran, 0);
        /* Their routines run where they were posted, and the socket is as it was. */
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, HARNESS_N(receiving));
        section_bring(&section, "five!");
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &later, NULL), 0);
        assert_int_equal(ovl_cancel(other, section.socket, &later), -ENOENT);
        assert_int_equal(later.status, 0);
        ovl_thread_close(other);
        section_stop(&section);
}

static void section_11_a_cancel_is_done_when_it_returns(void **state) {
        struct ovl_overlapped receiving = { 0 }, counted = { 0 };
        struct ovl_event *event;
        struct section section;

        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &event));
        for (unsigned round = 1; round <= 100; round++) {
                receiving.event = event;
                assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
                assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &counted, section_count), OVL_PENDING);
                assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving), 1);
                assert_int_equal(ovl_result(&receiving), -ECANCELED);
                assert_int_equal(ovl_event_poll(event, NULL), 1);
                assert_int_equal(ovl_cancel(section.client.thread, section.socket, &counted), 1);
                assert_int_equal(ovl_result(&counted), -ECANCELED);
                assert_int_equal(section.n_ran, round - 1);
                assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
                assert_int_equal(section.n_ran, round);
        }
        ovl_event_close(event);
        section_stop(&section);
}

static void section_11_an_accept_is_the_listeners(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage address;
        uint64_t listener, prepared;
        struct section section;
        socklen_t len;

        section_start(&section);
        listener = client_listen(&section.client, AF_INET, &address, &len);
        assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_STREAM, &prepared));
        assert_int_equal(ovl_accept_into(section.client.thread, listener, prepared, NULL, 0, NULL, OVL_WANT_VERDICT,
                                         &accepting, NULL),
                         OVL_PENDING);
        assert_int_equal(ovl_cancel(section.client.thread, prepared, NULL), -ENOENT);
        assert_int_equal(ovl_cancel(section.client.thread, prepared, &accepting), -ENOENT);
        assert_int_equal(ovl_cancel_thread(section.client.thread, prepared), 0);
        assert_int_equal(ovl_wait(section.client.thread, &accepting, SECTION_NOTHING, 0), -ETIMEDOUT);
        assert_ok(ovl_socket_close(section.client.thread, prepared));
        section_11_expect_closed(&section, &accepting);
        section_stop(&section);
}

/* --- Cancels that race ------------------------------------------------------------------------------------------ */

#define SECTION_11_RACE_MAX 64u

/* How often, as the environment says; the catalogue wants ten thousand. */
static unsigned section_11_rounds(void) {
        const char *text = getenv("OVL_TEST_ROUNDS");

        return text ? (unsigned) strtoul(text, NULL, 10) : 2000;
}

/* The other end: writes a piece for each turn that it is given, and in the end says how much that was. */
struct section_11_race {
        int fd;
        unsigned n_rounds;
        sem_t turn;
        uint64_t n_written;
};

static void *section_11_write(void *data) {
        struct section_11_race *race = data;
        char bytes[SECTION_11_RACE_MAX];

        for (unsigned round = 0; round < race->n_rounds; round++) {
                size_t len = 1 + round * 31 % SECTION_11_RACE_MAX;

                sem_wait(&race->turn);
                pattern_fill(bytes, len, race->n_written);
                peer_write(race->fd, bytes, len);
                race->n_written += len;
        }
        shutdown(race->fd, SHUT_WR);
        return NULL;
}

/* Waits a little, and never the same: the cancel and the data are to meet in all ways. */
static void section_11_dither(unsigned round) {
        uint64_t until = now_ns() + round % 16 * 5 * UINT64_C(1000);

        while (now_ns() < until)
                ;
}

static void section_11_cancels_lose_no_byte(void **state) {
        struct section_11_race race = { .n_rounds = section_11_rounds() };
        struct ovl_overlapped receiving = { 0 };
        unsigned n_cancelled = 0, n_partial = 0;
        uint64_t n_received = 0;
        struct section section;
        pthread_t writer;
        int r;

        section_start(&section);
        race.fd = section.fd;
        assert_int_equal(sem_init(&race.turn, 0, 0), 0);
        assert_int_equal(pthread_create(&writer, NULL, section_11_write, &race), 0);
        for (unsigned round = 0; round < race.n_rounds; round++) {
                /* Some wait for more than a piece, so that they are cancelled half-way. */
                assert_int_equal(client_recv(&section.client, section.socket, section.client.memory,
                                             2 * SECTION_11_RACE_MAX, round % 3 == 0 ? OVL_WAITALL : 0, &receiving),
                                 OVL_PENDING);
                sem_post(&race.turn);
                section_11_dither(round);
                r = ovl_cancel(section.client.thread, section.socket, &receiving);
                assert_true(r == 1 || r == 0 || r == -ENOENT);
                assert_int_equal(client_await(&section.client, &receiving), r == 1 ? -ECANCELED : 0);
                pattern_check(section.client.memory, receiving.bytes, n_received);
                n_received += receiving.bytes;
                n_cancelled += r == 1;
                n_partial += r == 1 && receiving.bytes > 0;
        }
        do {
                assert_ok(client_recv(&section.client, section.socket, section.client.memory, 4096, 0, &receiving));
                assert_int_equal(client_await(&section.client, &receiving), 0);
                pattern_check(section.client.memory, receiving.bytes, n_received);
                n_received += receiving.bytes;
        } while (receiving.bytes > 0);
        pthread_join(writer, NULL);
        assert_int_equal(n_received, race.n_written);
        printf("# %u of %u receives were cancelled, %u of them with some bytes\n", n_cancelled, race.n_rounds,
               n_partial);
        sem_destroy(&race.turn);
        section_stop(&section);
}

/* A send that is cut off says how much has left, and no more than that arrives. */
static void section_11_cancelled_sends_tell(void **state) {
        struct ovl_overlapped sending = { 0 }, behind = { 0 };
        struct ovl_region *region;
        struct section section;
        size_t big;
        char *bytes;

        section_start(&section);
        big = client_big(&section.client, section.socket, section.fd, SECTION_11_BIG);
        assert_ok(ovl_region_open(section.client.thread, big, &region));
        pattern_fill(ovl_region_data(region), big, 0);
        assert_int_equal(
                client_send(&section.client, section.socket, ovl_region_data(region), big, OVL_WANT_VERDICT, &sending),
                OVL_PENDING);
        assert_int_equal(
                client_send(&section.client, section.socket, ovl_region_data(region), big, OVL_WANT_VERDICT, &behind),
                OVL_PENDING);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, NULL), 2);
        assert_int_equal(sending.status, -ECANCELED);
        assert_true(sending.bytes > 0 && sending.bytes < big);
        client_expect(&section.client, &behind, -ECANCELED, 0);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_WR));
        bytes = malloc(sending.bytes);
        peer_read(section.fd, bytes, sending.bytes);
        pattern_check(bytes, sending.bytes, 0);
        peer_expect_end(section.fd);
        free(bytes);
        assert_ok(ovl_region_close(section.client.thread, region));
        section_stop(&section);
}

/* --- Exits ------------------------------------------------------------------------------------------------------ */

static void section_11_a_thread_that_ends(void **state) {
        struct ovl_overlapped plain = { 0 }, evented = { 0 }, counted = { 0 };
        struct ovl_thread *thread;
        struct ovl_event *event;
        struct section section;
        struct ovl_buffer buffer;

        section_start(&section);
        buffer = (struct ovl_buffer){ section.client.memory, 10 };
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_thread_open(section.client.session, &thread, NULL));
        evented.event = event;
        counted.user = &section;
        section_11_recv_by(&section, thread, section.socket, 0, &plain);
        section_11_recv_by(&section, thread, section.socket, 1, &evented);
        assert_int_equal(ovl_recv(thread, section.socket, &buffer, 1, OVL_WANT_VERDICT, &counted, section_count),
                         OVL_PENDING);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&plain), -ECANCELED);
        assert_int_equal(ovl_result(&evented), -ECANCELED);
        assert_int_equal(ovl_result(&counted), -ECANCELED);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(section.n_ran, 0);
        ovl_event_close(event);
        section_stop(&section);
}

/* What has nobody but the port to tell goes on; what has an event, or no packet, ends with its thread. */
static void section_11_a_thread_that_leaves_packets(void **state) {
        struct ovl_overlapped plain = { 0 }, evented = { 0 }, quiet = { 0 };
        struct ovl_packet packet;
        struct ovl_thread *thread;
        struct ovl_event *event;
        struct section section;
        struct ovl_buffer buffer;
        struct ovl_port *port;

        section_start(&section);
        buffer = (struct ovl_buffer){ section.client.memory + 30, 10 };
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 5));
        assert_ok(ovl_thread_open(section.client.session, &thread, NULL));
        evented.event = event;
        section_11_recv_by(&section, thread, section.socket, 0, &evented);
        section_11_recv_by(&section, thread, section.socket, 1, &plain);
        assert_int_equal(ovl_recv(thread, section.socket, &buffer, 1, OVL_WANT_VERDICT | OVL_QUIET, &quiet, NULL),
                         OVL_PENDING);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&quiet), -ECANCELED);
        assert_int_equal(ovl_result(&evented), -ECANCELED);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &evented);
        assert_int_equal(packet.status, -ECANCELED);
        assert_int_equal(ovl_result(&plain), -EINPROGRESS);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &plain);
        assert_int_equal(packet.key, 5);
        assert_int_equal(packet.bytes, 5);
        assert_memory_equal(section.client.memory + 10, "five!", 5);
        ovl_port_close(port);
        ovl_event_close(event);
        section_stop(&section);
}

static void section_11_a_thread_leaves_others_alone(void **state) {
        struct ovl_overlapped mine = { 0 }, its = { 0 }, sending = { 0 };
        struct ovl_thread *thread;
        struct section section;
        struct ovl_buffer buffer;
        char bytes[60000];

        section_start(&section);
        assert_ok(ovl_thread_open(section.client.session, &thread, NULL));
        section_11_recv_by(&section, section.client.thread, section.socket, 0, &mine);
        section_11_recv_by(&section, thread, section.socket, 1, &its);
        buffer = (struct ovl_buffer){ section.client.memory + 1000, sizeof(bytes) };
        pattern_fill(buffer.data, buffer.len, 0);
        assert_ok(ovl_send(thread, section.socket, &buffer, 1, 0, &sending, NULL));
        client_expect(&section.client, &sending, 0, sizeof(bytes));
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&its), -ECANCELED);
        assert_int_equal(ovl_result(&mine), -EINPROGRESS);
        peer_read(section.fd, bytes, sizeof(bytes));
        pattern_check(bytes, sizeof(bytes), 0);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &mine, 0, 5);
        section_stop(&section);
}

/* A process that joins the socket, posts between the case's own operations, and is killed with a socket of its own. */
static void section_11_doomed(struct client *guest, int from, int to) {
        static struct ovl_overlapped receiving[2], accepting;
        struct sockaddr_storage address;
        struct ovl_ticket ticket;
        uint64_t number, socket_id, listener;
        struct ovl_port *port;
        socklen_t len;

        client_open(guest, 0);
        number = client_number(guest);
        assert_int_equal(write(to, &number, sizeof(number)), sizeof(number));
        assert_int_equal(read(from, &ticket, sizeof(ticket)), sizeof(ticket));
        assert_ok(ovl_socket_join(guest->thread, &ticket, &socket_id));
        /* With a port they outlive their thread, and end with the process alone. */
        assert_ok(ovl_port_open(guest->session, 1, &port, NULL));
        assert_ok(ovl_port_associate(guest->thread, port, socket_id, 1));
        listener = client_listen(guest, AF_INET, &address, &len);
        assert_int_equal(ovl_accept(guest->thread, listener, OVL_WANT_VERDICT, &accepting, NULL), OVL_PENDING);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(client_recv(guest, socket_id, guest->memory, 10, OVL_WANT_VERDICT, &receiving[i]),
                                 OVL_PENDING);
        assert_int_equal(write(to, &address, sizeof(address)), sizeof(address));
        pause();
}

static pid_t section_11_fork(const struct section *section, int ret_fds[2]) {
        int to[2], from[2];
        pid_t pid;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                struct client guest = { .estate = section->client.estate };

                section_11_doomed(&guest, to[0], from[1]);
                _exit(1);
        }
        close(to[0]);
        close(from[1]);
        ret_fds[0] = from[0];
        ret_fds[1] = to[1];
        return pid;
}

/* Waits until nobody listens there any more. */
static void section_11_await_refusal(const struct sockaddr_storage *address) {
        uint64_t deadline = harness_deadline(10);
        int fd, r;

        do {
                assert_true(now_ns() < deadline);
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                r = connect(fd, (const struct sockaddr *) address, sizeof(struct sockaddr_in));
                close(fd);
        } while (r == 0);
}

static void section_11_a_process_that_ends(void **state) {
        struct ovl_overlapped mine = { 0 }, late = { 0 };
        struct sockaddr_storage address;
        struct ovl_status status;
        struct ovl_ticket ticket;
        struct section section;
        uint64_t number;
        int fds[2];
        pid_t pid;

        section_start(&section);
        pid = section_11_fork(&section, fds);
        assert_int_equal(read(fds[0], &number, sizeof(number)), sizeof(number));
        assert_ok(ovl_socket_share(section.client.thread, section.socket, number, &ticket));
        assert_int_equal(write(fds[1], &ticket, sizeof(ticket)), sizeof(ticket));
        assert_int_equal(read(fds[0], &address, sizeof(address)), sizeof(address));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &mine, NULL), OVL_PENDING);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        section_11_await_refusal(&address);
        do
                assert_ok(ovl_status(section.client.thread, &status));
        while (status.sessions > 1);
        assert_int_equal(status.ops_in_flight, 1);
        assert_int_equal(status.sockets, 1);
        /* Its receives were first in the queue, and take nothing. */
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &mine, 0, 5);
        assert_memory_equal(section.client.memory, "five!", 5);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &late, NULL), OVL_PENDING);
        close(fds[0]);
        close(fds[1]);
        section_stop(&section);
}

/* --- Synchronous calls ------------------------------------------------------------------------------------------ */

/* A further thread of the session, which makes one synchronous call. */
struct section_11 {
        struct section section;
        struct ovl_thread *blocker;
        pthread_t thread;
        uint64_t listener; /* 0: it receives */
        int result;
        unsigned reason;
};

static void *section_11_block(void *data) {
        struct section_11 *test = data;
        struct ovl_buffer buffer = { test->section.client.memory + 10, 10 };
        uint64_t accepted;

        if (test->listener)
                test->result = ovl_accept_sync(test->blocker, test->listener, &accepted);
        else
                test->result = ovl_recv(test->blocker, test->section.socket, &buffer, 1, 0, NULL, NULL);
        test->reason = ovl_thread_error(test->blocker)->reason;
        return NULL;
}

/* Whether so many operations are in flight as there should be: the daemon has taken that of the other thread, too. */
static bool section_11_is_blocked(void *data) {
        struct section_11 *test = data;
        struct ovl_status status;

        assert_ok(ovl_status(test->section.client.thread, &status));
        return status.ops_in_flight == 1;
}

static void section_11_start_block(struct section_11 *test) {
        assert_ok(ovl_thread_open(test->section.client.session, &test->blocker, NULL));
        assert_int_equal(pthread_create(&test->thread, NULL, section_11_block, test), 0);
}

static void section_11_join(struct section_11 *test) {
        pthread_join(test->thread, NULL);
        ovl_thread_close(test->blocker);
}

static void section_11_a_close_ends_blocking_calls(void **state) {
        struct section_11 test = { 0 };
        struct sockaddr_storage address;
        socklen_t len;

        section_start(&test.section);
        for (int i = 0; i < 2; i++) {
                section_11_start_block(&test);
                assert_true(harness_wait(section_11_is_blocked, &test, harness_deadline(10)));
                assert_ok(ovl_socket_close(test.section.client.thread, test.listener ?: test.section.socket));
                section_11_join(&test);
                assert_int_equal(test.result, -ECANCELED);
                assert_int_equal(test.reason, OVL_REASON_CLOSED);
                test.listener = client_listen(&test.section.client, AF_INET, &address, &len);
        }
        section_stop(&test.section);
}

/* The thread waits in a call as soon as one can be told to end. */
static bool section_11_cancels(void *data) {
        struct section_11 *test = data;

        return ovl_cancel_blocked(test->blocker) == 0;
}

static void section_11_cancels_a_blocking_call(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section_11 test = { 0 };
        struct ovl_packet packet;
        struct ovl_port *port;

        section_start(&test.section);
        assert_ok(ovl_port_open(test.section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(test.section.client.thread, port, test.section.socket, 1));
        assert_int_equal(section_recv(&test.section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel_blocked(test.section.client.thread), -ENOENT);
        section_11_start_block(&test);
        assert_true(harness_wait(section_11_cancels, &test, harness_deadline(10)));
        pthread_join(test.thread, NULL);
        assert_int_equal(test.result, -ECANCELED);
        assert_int_equal(test.reason, OVL_REASON_CANCELLED);
        assert_int_equal(ovl_cancel_blocked(test.blocker), -ENOENT);
        ovl_thread_close(test.blocker);
        assert_int_equal(ovl_port_wait(port, test.section.client.thread, &packet, 1, SECTION_NOTHING), -ETIMEDOUT);
        peer_write(test.section.fd, "0123456789", 10);
        assert_int_equal(ovl_port_wait(port, test.section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &receiving);
        assert_int_equal(packet.bytes, 10);
        ovl_port_close(port);
        section_stop(&test.section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "11.1 what is pending survives a shutdown of receiving", section_11_shut_receiving },
                { "11.2 sends leave before the end of the stream", section_11_shut_sending },
                { "11.3 what can be shut down, and how often", section_11_what_can_be_shut },
                { "11.4 a close with data that nobody received resets", section_11_a_close_with_data_resets },
                { "11.5 a close ends what is pending, each in its way", section_11_a_close_ends_each },
                { "11.6 a close with nothing pending is silent", section_11_a_close_alone_is_silent },
                { "11.7 what was taken arrives after a close", section_11_what_was_taken_arrives },
                { "11.8 the last close of a shared socket ends what is pending", section_11_the_last_close_ends },
                { "11.9 a close wakes who waits", section_11_a_close_wakes },
                { "11.9 a close ends synchronous calls", section_11_a_close_ends_blocking_calls },
                { "11.10 a closed number is none, also in a routine", section_11_a_closed_number_is_none },
                { "11.11 a thread cancels its own", section_11_a_thread_cancels_its_own },
                { "11.12 any thread cancels one or all", section_11_anybody_cancels },
                { "11.13 a cancel is done when it returns", section_11_a_cancel_is_done_when_it_returns },
                { "11.14 an accept belongs to its listener", section_11_an_accept_is_the_listeners },
                { "11.15 a synchronous call can be cancelled, and only that", section_11_cancels_a_blocking_call },
                { "11.16 11.20 cancels that race with data lose no byte", section_11_cancels_lose_no_byte, 600 },
                { "11.20 a send that is cut off tells what left", section_11_cancelled_sends_tell },
                { "11.17 what a thread posted ends with it", section_11_a_thread_that_ends },
                { "11.17 what only a port is told goes on", section_11_a_thread_that_leaves_packets },
                { "11.18 the end of a thread leaves the others alone", section_11_a_thread_leaves_others_alone },
                { "11.19 what a process had ends with it", section_11_a_process_that_ends },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
