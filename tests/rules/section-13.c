/* SPDX-License-Identifier: Apache-2.0 */

/* Section 13 of docs/SEMANTICS.md: accepts with data, connects with data, disconnects, files. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/rules/section.h"

#define SECTION_13_KEY 0x1234567812345678u

/* A listener of the client, a socket that may be prepared for it, and where connections go. */
struct meeting {
        struct section section;
        uint64_t listener;
        uint64_t prepared;
        struct sockaddr_storage address;
        socklen_t len;
};

static uint64_t meeting_socket(struct meeting *meeting, int family, int type) {
        uint64_t id;

        assert_ok(ovl_socket_open(meeting->section.client.thread, family, type, &id));
        return id;
}

static void meeting_start(struct meeting *meeting) {
        section_start(&meeting->section);
        meeting->listener = client_listen(&meeting->section.client, AF_INET, &meeting->address, &meeting->len);
        meeting->prepared = meeting_socket(meeting, AF_INET, SOCK_STREAM);
}

static void meeting_stop(struct meeting *meeting) {
        section_stop(&meeting->section);
}

/* An ordinary socket that connects, and is accepted or waits for it. */
static int meeting_join(const struct meeting *meeting) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *) &meeting->address, meeting->len), 0);
        return fd;
}

/* Accepts into the prepared socket with room for `len` bytes at the start of the client's memory. */
static int meeting_accept(struct meeting *meeting, uint64_t prepared, size_t len, struct ovl_accepted *accepted,
                          struct ovl_overlapped *accepting) {
        struct ovl_buffer buffer = { meeting->section.client.memory, len };

        return ovl_accept_into(meeting->section.client.thread, meeting->listener, prepared, &buffer, len > 0, accepted,
                               OVL_WANT_VERDICT, accepting, NULL);
}

static void meeting_expect(struct meeting *meeting, struct ovl_overlapped *overlapped, int status, uint64_t bytes) {
        client_expect(&meeting->section.client, overlapped, status, bytes);
}

/* Waits until the accept that the socket is prepared for has its connection. */
static void meeting_await_connection(struct meeting *meeting) {
        uint64_t deadline = harness_deadline(10);
        uint32_t seconds;

        do {
                assert_ok(ovl_connect_time(meeting->section.client.thread, meeting->prepared, &seconds));
                assert_true(now_ns() < deadline);
        } while (seconds == OVL_NOT_CONNECTED);
}

/* What the socket gets and sends is that of the ordinary end. */
static void meeting_expect_connected(struct meeting *meeting, uint64_t socket, int fd) {
        struct ovl_overlapped operation = { 0 };
        char *memory = meeting->section.client.memory;
        char bytes[3];

        assert_ok(client_recv(&meeting->section.client, socket, memory, 3, OVL_WAITALL, &operation));
        peer_write(fd, "in!", 3);
        meeting_expect(meeting, &operation, 0, 3);
        assert_memory_equal(memory, "in!", 3);
        memcpy(memory, "out", 3);
        assert_ok(client_send(&meeting->section.client, socket, memory, 3, 0, &operation));
        meeting_expect(meeting, &operation, 0, 3);
        peer_read(fd, bytes, 3);
        assert_memory_equal(bytes, "out", 3);
}

static void section_13_what_an_accept_takes(void **state) {
        struct ovl_overlapped accepting = { 0 }, other = { 0 };
        struct sockaddr_storage loopback;
        struct meeting meeting;
        struct ovl_thread *thread;
        struct ovl_buffer buffer;
        uint64_t listener, bound;
        char elsewhere[10];

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        listener = meeting.listener;
        bound = meeting_socket(&meeting, AF_INET, SOCK_STREAM);
        assert_ok(ovl_bind(thread, bound, (struct sockaddr *) &loopback, client_loopback(AF_INET, &loopback)));
        /* No listener; no socket; and those that cannot be the connection. */
        meeting.listener = meeting.section.socket;
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 0, NULL, &accepting), -EINVAL);
        meeting.listener = listener;
        assert_int_equal(meeting_accept(&meeting, 999, 0, NULL, &accepting), -EBADF);
        assert_int_equal(meeting_accept(&meeting, meeting.section.socket, 0, NULL, &accepting), -EINVAL);
        assert_int_equal(meeting_accept(&meeting, listener, 0, NULL, &accepting), -EINVAL);
        assert_int_equal(meeting_accept(&meeting, bound, 0, NULL, &accepting), -EINVAL);
        assert_int_equal(meeting_accept(&meeting, meeting_socket(&meeting, AF_INET6, SOCK_STREAM), 0, NULL, &accepting),
                         -EINVAL);
        assert_int_equal(meeting_accept(&meeting, meeting_socket(&meeting, AF_INET, SOCK_DGRAM), 0, NULL, &accepting),
                         -EINVAL);
        buffer = (struct ovl_buffer){ elsewhere, sizeof(elsewhere) };
        assert_int_equal(ovl_accept_into(thread, listener, meeting.prepared, &buffer, 1, NULL, 0, &accepting, NULL),
                         -EFAULT);
        /* None of that has taken it; what is prepared does nothing else. */
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 0, NULL, &accepting), OVL_PENDING);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 0, NULL, &other), -EINVAL);
        assert_int_equal(ovl_connect(thread, meeting.prepared, (struct sockaddr *) &meeting.address, meeting.len,
                                     OVL_WANT_VERDICT, &other, NULL),
                         -EINVAL);
        assert_int_equal(ovl_bind(thread, meeting.prepared, (struct sockaddr *) &loopback, sizeof(struct sockaddr_in)),
                         -EINVAL);
        assert_int_equal(ovl_listen(thread, meeting.prepared, 1), -EINVAL);
        assert_int_equal(client_recv(&meeting.section.client, meeting.prepared, meeting.section.client.memory, 1,
                                     OVL_WANT_VERDICT, &other),
                         -ENOTCONN);
        /* And is as it was when the accept has ended without a connection. */
        assert_int_equal(ovl_cancel(thread, listener, &accepting), 1);
        assert_int_equal(accepting.status, -ECANCELED);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 0, NULL, &accepting), OVL_PENDING);
        close(meeting_join(&meeting));
        meeting_expect(&meeting, &accepting, 0, 0);
        meeting_stop(&meeting);
}

static void section_13_when_an_accept_ends(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct meeting meeting;
        int fd;

        meeting_start(&meeting);
        /* Without room: with the connection. */
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 0, NULL, &accepting), OVL_PENDING);
        fd = meeting_join(&meeting);
        meeting_expect(&meeting, &accepting, 0, 0);
        assert_true(accepting.value == meeting.prepared);
        meeting_expect_connected(&meeting, meeting.prepared, fd);
        close(fd);
        /* With room: with the first bytes, however few. */
        meeting.prepared = meeting_socket(&meeting, AF_INET, SOCK_STREAM);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 100, NULL, &accepting), OVL_PENDING);
        fd = meeting_join(&meeting);
        assert_int_equal(ovl_wait(meeting.section.client.thread, &accepting, SECTION_NOTHING, 0), -ETIMEDOUT);
        peer_write(fd, "!", 1);
        meeting_expect(&meeting, &accepting, 0, 1);
        assert_true(accepting.value == meeting.prepared);
        assert_memory_equal(meeting.section.client.memory, "!", 1);
        meeting_expect_connected(&meeting, meeting.prepared, fd);
        close(fd);
        /* Or with the end of the stream. */
        meeting.prepared = meeting_socket(&meeting, AF_INET, SOCK_STREAM);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 100, NULL, &accepting), OVL_PENDING);
        close(meeting_join(&meeting));
        meeting_expect(&meeting, &accepting, 0, 0);
        assert_true(accepting.value == meeting.prepared);
        meeting_stop(&meeting);
}

static void section_13_data_and_addresses(void **state) {
        struct ovl_overlapped accepting = { .bytes = 0xdead };
        struct ovl_accepted accepted, before;
        struct sockaddr_storage theirs = { 0 };
        socklen_t len = sizeof(theirs);
        struct ovl_buffer buffers[2];
        struct meeting meeting;
        char *memory;
        int fd;

        meeting_start(&meeting);
        memory = meeting.section.client.memory;
        memset(&accepted, 0x5a, sizeof(accepted));
        before = accepted;
        buffers[0] = (struct ovl_buffer){ memory, 3 };
        buffers[1] = (struct ovl_buffer){ memory + 100, 100 };
        assert_int_equal(ovl_accept_into(meeting.section.client.thread, meeting.listener, meeting.prepared, buffers, 2,
                                         &accepted, OVL_WANT_VERDICT, &accepting, NULL),
                         OVL_PENDING);
        fd = meeting_join(&meeting);
        meeting_await_connection(&meeting);
        assert_int_equal(accepting.bytes, 0xdead);
        assert_memory_equal(&accepted, &before, sizeof(accepted));
        peer_write(fd, "firstdata", 9);
        meeting_expect(&meeting, &accepting, 0, 9);
        assert_memory_equal(memory, "fir", 3);
        assert_memory_equal(memory + 100, "stdata", 6);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &theirs, &len), 0);
        assert_int_equal(accepted.local_len, meeting.len);
        assert_memory_equal(&accepted.local, &meeting.address, meeting.len);
        assert_int_equal(accepted.remote_len, len);
        assert_memory_equal(&accepted.remote, &theirs, len);
        close(fd);
        meeting_stop(&meeting);
}

static void section_13_the_prepared_socket_is_whole(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage name = { 0 }, theirs = { 0 };
        socklen_t len = sizeof(name), their_len = sizeof(theirs);
        struct ovl_thread *thread;
        struct meeting meeting;
        uint32_t seconds;
        int fd, value;

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        assert_ok(ovl_setsockopt(thread, meeting.listener, IPPROTO_TCP, TCP_NODELAY, 1));
        assert_ok(ovl_setsockopt(thread, meeting.prepared, SOL_SOCKET, SO_KEEPALIVE, 1));
        assert_ok(ovl_connect_time(thread, meeting.prepared, &seconds));
        assert_int_equal(seconds, OVL_NOT_CONNECTED);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting), OVL_PENDING);
        assert_ok(ovl_connect_time(thread, meeting.prepared, &seconds));
        assert_int_equal(seconds, OVL_NOT_CONNECTED);
        fd = meeting_join(&meeting);
        meeting_await_connection(&meeting);
        peer_write(fd, "1", 1);
        meeting_expect(&meeting, &accepting, 0, 1);
        assert_ok(ovl_connect_time(thread, meeting.prepared, &seconds));
        assert_true(seconds < 60);
        assert_ok(ovl_getpeername(thread, meeting.prepared, (struct sockaddr *) &name, &len));
        assert_int_equal(getsockname(fd, (struct sockaddr *) &theirs, &their_len), 0);
        assert_memory_equal(&name, &theirs, their_len);
        assert_ok(ovl_getsockopt(thread, meeting.prepared, IPPROTO_TCP, TCP_NODELAY, &value));
        assert_int_not_equal(value, 0);
        assert_ok(ovl_getsockopt(thread, meeting.prepared, SOL_SOCKET, SO_KEEPALIVE, &value));
        assert_int_equal(value, 0);
        assert_ok(ovl_shutdown(thread, meeting.prepared, SHUT_WR));
        peer_expect_end(fd);
        close(fd);
        meeting_stop(&meeting);
}

static void section_13_closing_what_is_prepared(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct ovl_thread *thread;
        struct meeting meeting;
        int fd;

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        /* Before there is a connection, and while its first data is waited for; a cancel there finds nothing. */
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting), OVL_PENDING);
        assert_int_equal(ovl_cancel(thread, meeting.prepared, NULL), -ENOENT);
        assert_ok(ovl_socket_close(thread, meeting.prepared));
        meeting_expect(&meeting, &accepting, -ECANCELED, 0);
        meeting.prepared = meeting_socket(&meeting, AF_INET, SOCK_STREAM);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting), OVL_PENDING);
        fd = meeting_join(&meeting);
        meeting_await_connection(&meeting);
        assert_int_equal(ovl_cancel(thread, meeting.prepared, NULL), -ENOENT);
        assert_ok(ovl_socket_close(thread, meeting.prepared));
        meeting_expect(&meeting, &accepting, -ECANCELED, 0);
        peer_expect_end(fd);
        close(fd);
        /* What has ended before the close has succeeded. */
        meeting.prepared = meeting_socket(&meeting, AF_INET, SOCK_STREAM);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting), OVL_PENDING);
        fd = meeting_join(&meeting);
        peer_write(fd, "1", 1);
        meeting_expect(&meeting, &accepting, 0, 1);
        assert_ok(ovl_socket_close(thread, meeting.prepared));
        assert_int_equal(accepting.status, 0);
        close(fd);
        meeting_stop(&meeting);
}

static void section_13_closing_the_listener(void **state) {
        struct ovl_overlapped accepting[2] = { 0 };
        struct meeting meeting;
        int fd;

        meeting_start(&meeting);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting[0]), OVL_PENDING);
        assert_int_equal(meeting_accept(&meeting, 0, 1, NULL, &accepting[1]), OVL_PENDING);
        fd = meeting_join(&meeting);
        meeting_await_connection(&meeting);
        assert_ok(ovl_socket_close(meeting.section.client.thread, meeting.listener));
        meeting_expect(&meeting, &accepting[0], -ECANCELED, 0);
        meeting_expect(&meeting, &accepting[1], -ECANCELED, 0);
        peer_expect_end(fd);
        close(fd);
        /* The prepared socket is none the worse for it. */
        meeting.listener = client_listen(&meeting.section.client, AF_INET, &meeting.address, &meeting.len);
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting[0]), OVL_PENDING);
        fd = meeting_join(&meeting);
        peer_write(fd, "1", 1);
        meeting_expect(&meeting, &accepting[0], 0, 1);
        close(fd);
        meeting_stop(&meeting);
}

static void section_13_accepts_share_one_order(void **state) {
        struct ovl_overlapped accepting[3] = { 0 };
        struct meeting meeting;
        struct ovl_thread *thread;
        int first, second, third;

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting[0]), OVL_PENDING);
        assert_int_equal(ovl_accept(thread, meeting.listener, OVL_WANT_VERDICT, &accepting[1], NULL), OVL_PENDING);
        assert_int_equal(meeting_accept(&meeting, 0, 0, NULL, &accepting[2]), OVL_PENDING);
        first = meeting_join(&meeting);
        meeting_await_connection(&meeting);
        second = meeting_join(&meeting);
        meeting_expect(&meeting, &accepting[1], 0, 0); /* although the first still waits for data */
        third = meeting_join(&meeting);
        meeting_expect(&meeting, &accepting[2], 0, 0);
        assert_int_equal(ovl_result(&accepting[0]), -EINPROGRESS);
        peer_write(first, "1", 1);
        meeting_expect(&meeting, &accepting[0], 0, 1);
        meeting_expect_connected(&meeting, meeting.prepared, first);
        meeting_expect_connected(&meeting, accepting[1].value, second);
        meeting_expect_connected(&meeting, accepting[2].value, third);
        close(first);
        close(second);
        close(third);
        meeting_stop(&meeting);
}

static void section_13_the_listeners_key(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct ovl_packet packet = { 0 };
        struct ovl_thread *thread;
        struct meeting meeting;
        struct ovl_port *port;
        int fd;

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        assert_ok(ovl_port_open(meeting.section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(thread, port, meeting.listener, SECTION_13_KEY));
        assert_ok(ovl_port_associate(thread, port, meeting.prepared, 236));
        assert_int_equal(meeting_accept(&meeting, meeting.prepared, 1, NULL, &accepting), OVL_PENDING);
        fd = meeting_join(&meeting);
        peer_write(fd, "1", 1);
        assert_int_equal(ovl_port_wait(port, thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &accepting);
        assert_true(packet.key == SECTION_13_KEY);
        /* The prepared socket has kept its own port. */
        assert_ok(client_recv(&meeting.section.client, meeting.prepared, meeting.section.client.memory, 1, 0,
                              &accepting));
        peer_write(fd, "2", 1);
        assert_int_equal(ovl_port_wait(port, thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.key, 236);
        close(fd);
        ovl_port_close(port);
        meeting_stop(&meeting);
}

/* An ordinary listener. */
static int section_13_listen(struct sockaddr_storage *ret_address, socklen_t *ret_len) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        *ret_len = client_loopback(AF_INET, ret_address);
        assert_int_equal(bind(fd, (struct sockaddr *) ret_address, *ret_len), 0);
        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_address, ret_len), 0);
        return fd;
}

static int section_13_connect(struct meeting *meeting, uint64_t socket, size_t len, struct ovl_overlapped *connecting) {
        struct ovl_buffer buffer = { meeting->section.client.memory, len };

        return ovl_connect_send(meeting->section.client.thread, socket, (struct sockaddr *) &meeting->address,
                                meeting->len, &buffer, len > 0, OVL_WANT_VERDICT, connecting, NULL);
}

static int section_13_take(int listener) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void section_13_connect_and_send(void **state) {
        enum {
                LEN = 60000
        };
        struct ovl_overlapped connecting = { 0 }, sending = { 0 };
        static char received[LEN + 3];
        struct ovl_packet packet;
        struct meeting meeting;
        struct ovl_port *port;
        uint64_t socket;
        char *memory;
        int listener, fd;

        meeting_start(&meeting);
        memory = meeting.section.client.memory;
        socket = meeting.prepared;
        assert_ok(ovl_port_open(meeting.section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(meeting.section.client.thread, port, socket, SECTION_13_KEY));
        assert_int_equal(section_13_connect(&meeting, meeting.listener, 1, &connecting), -EINVAL);
        assert_int_equal(section_13_connect(&meeting, meeting.section.socket, 1, &connecting), -EISCONN);
        listener = section_13_listen(&meeting.address, &meeting.len);
        /* The socket is not bound: connecting gives it an address. */
        pattern_fill(memory, LEN, 0);
        assert_ok(section_13_connect(&meeting, socket, LEN, &connecting));
        fd = section_13_take(listener);
        meeting_expect(&meeting, &connecting, 0, LEN);
        assert_int_equal(ovl_port_wait(port, meeting.section.client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.bytes, LEN);
        memcpy(memory, "end", 3);
        assert_ok(client_send(&meeting.section.client, socket, memory, 3, OVL_QUIET, &sending));
        peer_read(fd, received, LEN + 3);
        pattern_check(received, LEN, 0);
        assert_memory_equal(received + LEN, "end", 3);
        meeting_expect(&meeting, &sending, 0, 3);
        assert_int_equal(section_13_connect(&meeting, socket, 1, &connecting), -EISCONN);
        close(fd);
        close(listener);
        ovl_port_close(port);
        meeting_stop(&meeting);
}

static void section_13_refused_and_again(void **state) {
        struct ovl_overlapped connecting = { 0 };
        struct meeting meeting;
        int listener, fd;
        char bytes[2];

        meeting_start(&meeting);
        listener = section_13_listen(&meeting.address, &meeting.len);
        close(listener);
        assert_ok(section_13_connect(&meeting, meeting.prepared, 2, &connecting));
        meeting_expect(&meeting, &connecting, -ECONNREFUSED, 0);
        listener = section_13_listen(&meeting.address, &meeting.len);
        memcpy(meeting.section.client.memory, "ok", 2);
        assert_ok(section_13_connect(&meeting, meeting.prepared, 2, &connecting));
        fd = section_13_take(listener);
        meeting_expect(&meeting, &connecting, 0, 2);
        peer_read(fd, bytes, 2);
        assert_memory_equal(bytes, "ok", 2);
        close(fd);
        close(listener);
        meeting_stop(&meeting);
}

static void section_13_connected_is_whole(void **state) {
        struct ovl_overlapped connecting = { 0 };
        struct sockaddr_storage name = { 0 };
        socklen_t len = sizeof(name);
        struct ovl_thread *thread;
        struct meeting meeting;
        uint32_t seconds;
        int listener, fd;

        meeting_start(&meeting);
        thread = meeting.section.client.thread;
        listener = section_13_listen(&meeting.address, &meeting.len);
        assert_int_equal(ovl_getpeername(thread, meeting.prepared, (struct sockaddr *) &name, &len), -ENOTCONN);
        assert_ok(section_13_connect(&meeting, meeting.prepared, 0, &connecting));
        meeting_expect(&meeting, &connecting, 0, 0);
        len = sizeof(name);
        assert_ok(ovl_getpeername(thread, meeting.prepared, (struct sockaddr *) &name, &len));
        assert_memory_equal(&name, &meeting.address, meeting.len);
        assert_ok(ovl_connect_time(thread, meeting.prepared, &seconds));
        assert_true(seconds < 60);
        fd = section_13_take(listener);
        assert_ok(ovl_shutdown(thread, meeting.prepared, SHUT_WR));
        peer_expect_end(fd);
        close(fd);
        close(listener);
        meeting_stop(&meeting);
}

static int section_13_disconnect(struct meeting *meeting, uint64_t socket, unsigned flags,
                                 struct ovl_overlapped *disconnecting) {
        return ovl_disconnect(meeting->section.client.thread, socket, OVL_WANT_VERDICT | flags, disconnecting, NULL);
}

static void section_13_disconnect_ends_the_stream(void **state) {
        struct ovl_overlapped disconnecting = { 0 }, sending = { 0 };
        struct section *section;
        struct meeting meeting;
        size_t big;
        char *bytes;

        meeting_start(&meeting);
        section = &meeting.section;
        assert_int_equal(section_13_disconnect(&meeting, meeting.prepared, 0, &disconnecting), -ENOTCONN);
        assert_int_equal(section_13_disconnect(&meeting, meeting.listener, 0, &disconnecting), -ENOTCONN);
        /* Behind a send that the connection cannot hold, and before the end. */
        big = client_big(&section->client, section->socket, section->fd, CLIENT_MEMORY);
        pattern_fill(section->client.memory, big, 0);
        assert_ok(ovl_setsockopt(section->client.thread, section->socket, SOL_SOCKET, SO_SNDBUF, 16384));
        assert_ok(client_send(&section->client, section->socket, section->client.memory, big, 0, &sending));
        assert_ok(section_13_disconnect(&meeting, section->socket, 0, &disconnecting));
        assert_int_equal(client_send(&section->client, section->socket, section->client.memory, 1, OVL_WANT_VERDICT,
                                     &(struct ovl_overlapped){ 0 }),
                         -ESHUTDOWN);
        bytes = malloc(big);
        assert_non_null(bytes);
        peer_read(section->fd, bytes, big);
        pattern_check(bytes, big, 0);
        free(bytes);
        peer_expect_end(section->fd);
        meeting_expect(&meeting, &sending, 0, big);
        meeting_expect(&meeting, &disconnecting, 0, 0);
        /* The other direction goes on, and it is the same connection. */
        assert_ok(section_recv(section, 0, 0, &sending, NULL));
        peer_write(section->fd, "five!", 5);
        meeting_expect(&meeting, &sending, 0, 5);
        assert_int_equal(section_13_connect(&meeting, section->socket, 0, &sending), -EISCONN);
        assert_ok(section_13_disconnect(&meeting, section->socket, 0, &disconnecting));
        meeting_expect(&meeting, &disconnecting, 0, 0);
        meeting_stop(&meeting);
}

static void section_13_disconnect_and_reuse(void **state) {
        struct ovl_overlapped operation = { 0 }, disconnecting = { 0 };
        struct ovl_packet packet;
        struct section *section;
        struct meeting meeting;
        struct ovl_port *port;
        int fd;

        meeting_start(&meeting);
        section = &meeting.section;
        assert_ok(ovl_port_open(section->client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section->client.thread, port, section->socket, SECTION_13_KEY));
        assert_int_equal(section_recv(section, 0, OVL_WANT_VERDICT | OVL_QUIET, &operation, NULL), OVL_PENDING);
        assert_ok(section_13_disconnect(&meeting, section->socket, OVL_REUSE | OVL_QUIET, &disconnecting));
        meeting_expect(&meeting, &disconnecting, 0, 0);
        meeting_expect(&meeting, &operation, -ECANCELED, 0);
        peer_expect_end(section->fd);
        /* The same number, with its port, accepts... */
        assert_int_equal(section_recv(section, 0, OVL_WANT_VERDICT, &operation, NULL), -ENOTCONN);
        assert_int_equal(meeting_accept(&meeting, section->socket, 2, NULL, &operation), OVL_PENDING);
        fd = meeting_join(&meeting);
        peer_write(fd, "ab", 2);
        meeting_expect(&meeting, &operation, 0, 2);
        assert_ok(section_recv(section, 0, 0, &operation, NULL));
        peer_write(fd, "five!", 5);
        assert_int_equal(ovl_port_wait(port, section->client.thread, &packet, 1, client_patience()), 1);
        assert_true(packet.key == SECTION_13_KEY);
        assert_int_equal(packet.bytes, 5);
        /* ... and, once more disconnected, connects. */
        assert_ok(section_13_disconnect(&meeting, section->socket, OVL_REUSE | OVL_QUIET, &disconnecting));
        meeting_expect(&meeting, &disconnecting, 0, 0);
        peer_expect_end(fd);
        close(fd);
        fd = section_13_listen(&meeting.address, &meeting.len);
        assert_ok(section_13_connect(&meeting, section->socket, 2, &operation));
        assert_int_equal(ovl_port_wait(port, section->client.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.status, 0);
        assert_int_equal(packet.bytes, 2);
        close(fd);
        ovl_port_close(port);
        meeting_stop(&meeting);
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

#define SECTION_13_FILE 300000 /* bytes: more than are read at a time */

/* A file of a pattern that the session has; or 0 at the level inline, which has none: that it says so is its case. */
static uint64_t section_13_file(struct section *section) {
        static char pattern[SECTION_13_FILE];
        struct ovl_session_info info;
        char path[128];
        uint64_t file = 0;
        int fd;

        snprintf(path, sizeof(path), "%s/file", harness_directory());
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        pattern_fill(pattern, SECTION_13_FILE, 0);
        assert_int_equal(write(fd, pattern, SECTION_13_FILE), SECTION_13_FILE);
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        ovl_session_info(section->client.session, &info);
        if (info.level > 0)
                assert_ok(ovl_file_open(section->client.thread, fd, &file));
        else
                assert_int_equal(ovl_file_open(section->client.thread, fd, &file), -EOPNOTSUPP);
        close(fd);
        return file;
}

static void section_13_expect_bytes(int fd, const char *before, size_t offset, size_t len, const char *behind) {
        static char bytes[SECTION_13_FILE + 100];
        size_t n_before = strlen(before), n_behind = strlen(behind);

        peer_read(fd, bytes, n_before + len + n_behind);
        assert_memory_equal(bytes, before, n_before);
        pattern_check(bytes + n_before, len, offset);
        assert_memory_equal(bytes + n_before + len, behind, n_behind);
}

static void section_13_transmit_in_order(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer head, tail;
        struct section section;
        struct ovl_thread *thread;
        uint64_t file;

        section_start(&section);
        thread = section.client.thread;
        file = section_13_file(&section);
        if (file != 0) {
                memcpy(section.client.memory, "headtail!", 9);
                head = (struct ovl_buffer){ section.client.memory, 4 };
                tail = (struct ovl_buffer){ section.client.memory + 4, 5 };
                assert_ok(ovl_transmit_file(thread, section.socket, file, 0, 0, &head, &tail, 0, &sending, NULL));
                section_13_expect_bytes(section.fd, "head", 0, SECTION_13_FILE, "tail!");
                client_expect(&section.client, &sending, 0, SECTION_13_FILE + 9);
                assert_ok(ovl_transmit_file(thread, section.socket, file, 1000, 0, NULL, NULL, 0, &sending, NULL));
                section_13_expect_bytes(section.fd, "", 1000, SECTION_13_FILE - 1000, "");
                client_expect(&section.client, &sending, 0, SECTION_13_FILE - 1000);
                assert_ok(ovl_transmit_file(thread, section.socket, file, 1000, 10, NULL, &tail, 0, &sending, NULL));
                section_13_expect_bytes(section.fd, "", 1000, 10, "tail!");
                client_expect(&section.client, &sending, 0, 15);
                assert_int_equal(ovl_transmit_file(thread, section.socket, 0, 0, 0, NULL, NULL, OVL_WANT_VERDICT,
                                                   &sending, NULL),
                                 0);
                client_expect(&section.client, &sending, 0, 0);
        }
        section_stop(&section);
}

static void section_13_transmit_refused(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        struct ovl_thread *thread;
        uint64_t file, stream, datagram;

        section_start(&section);
        thread = section.client.thread;
        file = section_13_file(&section);
        if (file != 0) {
                assert_ok(ovl_socket_open(thread, AF_INET, SOCK_STREAM, &stream));
                assert_ok(ovl_socket_open(thread, AF_INET, SOCK_DGRAM, &datagram));
                assert_int_equal(
                        ovl_transmit_file(thread, stream, file, 0, 0, NULL, NULL, OVL_WANT_VERDICT, &sending, NULL),
                        -ENOTCONN);
                assert_int_equal(
                        ovl_transmit_file(thread, datagram, file, 0, 0, NULL, NULL, OVL_WANT_VERDICT, &sending, NULL),
                        -ENOTCONN);
                assert_int_equal(ovl_transmit_file(thread, section.socket, file, 0, 0x7fffffff, NULL, NULL,
                                                   OVL_WANT_VERDICT, &sending, NULL),
                                 -EMSGSIZE);
                /* The longest is one that is not refused, but this file has fewer bytes. */
                assert_ok(
                        ovl_transmit_file(thread, section.socket, file, 0, 0x7ffffffe, NULL, NULL, 0, &sending, NULL));
                client_expect(&section.client, &sending, -ENODATA, 0);
        }
        section_stop(&section);
}

static void section_13_transmit_and_disconnect(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct meeting meeting;
        struct section *section = &meeting.section;
        struct ovl_thread *thread;
        uint64_t file;
        int fd;

        meeting_start(&meeting);
        thread = section->client.thread;
        file = section_13_file(section);
        if (file != 0) {
                assert_int_equal(ovl_transmit_file(thread, section->socket, file, 0, 0, NULL, NULL,
                                                   OVL_REUSE | OVL_WANT_VERDICT, &sending, NULL),
                                 -EOPNOTSUPP);
                assert_ok(ovl_transmit_file(thread, section->socket, file, 0, 0, NULL, NULL, OVL_DISCONNECT | OVL_REUSE,
                                            &sending, NULL));
                section_13_expect_bytes(section->fd, "", 0, SECTION_13_FILE, "");
                peer_expect_end(section->fd);
                client_expect(&section->client, &sending, 0, SECTION_13_FILE);
                assert_int_equal(meeting_accept(&meeting, section->socket, 0, NULL, &sending), OVL_PENDING);
                fd = meeting_join(&meeting);
                meeting_expect(&meeting, &sending, 0, 0);
                meeting_expect_connected(&meeting, section->socket, fd);
                close(fd);
        }
        meeting_stop(&meeting);
}

static void section_13_packets_on_a_stream(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct section section;
        uint64_t file;

        section_start(&section);
        file = section_13_file(&section);
        if (file != 0) {
                const struct ovl_part parts[] = {
                        { .data = section.client.memory, .len = 4 },
                        { .offset = 100, .len = 200000, .flags = OVL_FROM_FILE | OVL_PACKET_END },
                        { .data = section.client.memory + 4, .len = 5 },
                };

                memcpy(section.client.memory, "headtail!", 9);
                assert_ok(
                        ovl_transmit_packets(section.client.thread, section.socket, file, parts, 3, 0, &sending, NULL));
                section_13_expect_bytes(section.fd, "head", 100, 200000, "tail!");
                client_expect(&section.client, &sending, 0, 200009);
        }
        section_stop(&section);
}

static void section_13_packets_are_datagrams(void **state) {
        struct ovl_overlapped operation = { 0 };
        struct sockaddr_storage address;
        struct section section;
        socklen_t len = client_loopback(AF_INET, &address);
        uint64_t file, datagram;
        char bytes[100];
        int fd;

        section_start(&section);
        file = section_13_file(&section);
        if (file != 0) {
                const struct ovl_part parts[] = {
                        { .data = section.client.memory, .len = 4 },
                        { .offset = 100, .len = 10, .flags = OVL_FROM_FILE | OVL_PACKET_END },
                        { .data = section.client.memory + 4, .len = 5 },
                };

                fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
                assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
                assert_ok(ovl_socket_open(section.client.thread, AF_INET, SOCK_DGRAM, &datagram));
                assert_int_equal(ovl_transmit_packets(section.client.thread, datagram, file, parts, 3, OVL_WANT_VERDICT,
                                                      &operation, NULL),
                                 -ENOTCONN);
                assert_ok(ovl_connect(section.client.thread, datagram, (struct sockaddr *) &address, len, 0, &operation,
                                      NULL));
                client_expect(&section.client, &operation, 0, 0);
                memcpy(section.client.memory, "headtail!", 9);
                assert_ok(ovl_transmit_packets(section.client.thread, datagram, file, parts, 3, 0, &operation, NULL));
                client_expect(&section.client, &operation, 0, 19);
                assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), 14);
                assert_memory_equal(bytes, "head", 4);
                pattern_check(bytes + 4, 10, 100);
                assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), 5);
                assert_memory_equal(bytes, "tail!", 5);
                close(fd);
        }
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "13.1 what an accept takes is checked", section_13_what_an_accept_takes },
                { "13.2 an accept ends with the connection, or with its first data", section_13_when_an_accept_ends },
                { "13.3 data and addresses come with the completion", section_13_data_and_addresses },
                { "13.4 the prepared socket is a whole connection", section_13_the_prepared_socket_is_whole },
                { "13.5 closing the prepared socket ends the accept", section_13_closing_what_is_prepared },
                { "13.5 closing the listener ends its accepts", section_13_closing_the_listener },
                { "13.6 accepts of all kinds share one order", section_13_accepts_share_one_order },
                { "13.6 an accept has the key of its listener", section_13_the_listeners_key },
                { "13.7 a connect sends its data first", section_13_connect_and_send },
                { "13.8 a refused socket connects again", section_13_refused_and_again },
                { "13.9 a connected socket is whole at once", section_13_connected_is_whole },
                { "13.10 a disconnect sends the end behind all else", section_13_disconnect_ends_the_stream },
                { "13.10 a socket is used again", section_13_disconnect_and_reuse },
                { "13.11 head, file and tail leave in this order", section_13_transmit_in_order },
                { "13.11 what is not transmitted", section_13_transmit_refused },
                { "13.11 a transmit disconnects", section_13_transmit_and_disconnect },
                { "13.12 packets follow each other on a stream", section_13_packets_on_a_stream },
                { "13.12 packets are datagrams", section_13_packets_are_datagrams },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
