/* SPDX-License-Identifier: Apache-2.0 */

/* Polls: whatever the socket, any number of them, beside all other operations and without a place among them. */

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define POLLS_MANY 300

static int polls_post(struct client *client, uint64_t socket, unsigned events, unsigned flags,
                      struct ovl_overlapped *overlapped) {
        return ovl_poll(client->thread, socket, events, flags, overlapped, NULL);
}

static void polls_expect(struct client *client, struct ovl_overlapped *overlapped, unsigned events) {
        client_expect(client, overlapped, 0, 0);
        if (overlapped->value != events)
                fail_msg("the events are 0x%llx, not 0x%x", (unsigned long long) overlapped->value, events);
}

static void polls_expect_pending(struct client *client, uint64_t socket, unsigned events,
                                 struct ovl_overlapped *overlapped) {
        assert_int_equal(polls_post(client, socket, events, OVL_WANT_VERDICT, overlapped), OVL_PENDING);
}

/* All that wait for the same end with it, and it is still there for whoever takes it. */
static void polls_are_any_number(void **state) {
        struct ovl_overlapped polls[POLLS_MANY] = { 0 }, receiving = { 0 }, writable = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < POLLS_MANY; i++)
                assert_ok(polls_post(&client, socket, i % 2 ? POLLIN : POLLIN | POLLPRI, 0, &polls[i]));
        assert_int_equal(polls_post(&client, socket, POLLOUT, OVL_WANT_VERDICT, &writable), 0);
        polls_expect(&client, &writable, POLLOUT);
        for (size_t i = 0; i < POLLS_MANY; i++)
                assert_int_equal(polls[i].status, -EINPROGRESS);
        peer_write(fd, "x", 1);
        for (size_t i = 0; i < POLLS_MANY; i++)
                polls_expect(&client, &polls[i], POLLIN);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, 0, 1);
        close(fd);
        client_stop(&client);
}

/* A poll does not wait behind a receive, nor a receive behind a poll. */
static void polls_have_no_place_in_the_order(void **state) {
        struct ovl_overlapped poll = { 0 }, first = { 0 }, second = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 10, OVL_WAITALL, &first));
        polls_expect_pending(&client, socket, POLLPRI, &poll);
        assert_ok(client_recv(&client, socket, client.memory + 10, 10, 0, &second));
        peer_write(fd, "0123456789next", 14);
        client_expect(&client, &first, 0, 10);
        client_expect(&client, &second, 0, 4);
        assert_int_equal(poll.status, -EINPROGRESS);
        assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
        polls_expect(&client, &poll, POLLPRI);
        close(fd);
        client_stop(&client);
}

static void polls_tell_ends(void **state) {
        struct ovl_overlapped polls[2] = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        polls_expect_pending(&client, socket, POLLIN, &polls[0]);
        polls_expect_pending(&client, socket, 0, &polls[1]);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        polls_expect(&client, &polls[0], POLLIN | POLLHUP);
        polls_expect(&client, &polls[1], POLLHUP);
        close(fd);
        socket = client_pair(&client, AF_INET, &fd);
        polls_expect_pending(&client, socket, POLLIN, &polls[0]);
        peer_reset(fd);
        client_expect(&client, &polls[0], 0, 0);
        assert_int_equal(polls[0].value & (POLLERR | POLLHUP), POLLERR | POLLHUP);
        client_stop(&client);
}

static int peer_socket(int type) {
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        return fd;
}

static void polls_work_on_all_sockets(void **state) {
        struct ovl_overlapped poll = { 0 }, op = { 0 };
        struct sockaddr_storage address;
        _cleanup_fd_ int fd = -1;
        struct client client;
        uint64_t socket;
        socklen_t len;

        client_start(&client);
        /* A listener can be read when somebody has connected. */
        socket = client_listen(&client, AF_INET, &address, &len);
        polls_expect_pending(&client, socket, POLLIN, &poll);
        fd = peer_socket(SOCK_STREAM);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        polls_expect(&client, &poll, POLLIN);
        assert_ok(ovl_accept(client.thread, socket, 0, &op, NULL));
        client_expect(&client, &op, 0, 0);
        fd = fd_close(fd);
        /* One that was never connected is at its end already, says the kernel. */
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        assert_ok(polls_post(&client, socket, POLLIN | POLLOUT, 0, &poll));
        polls_expect(&client, &poll, POLLOUT | POLLHUP);
        /* A datagram socket. */
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        len = client_loopback(AF_INET, &address);
        assert_ok(ovl_bind(client.thread, socket, (struct sockaddr *) &address, len));
        len = sizeof(address);
        assert_ok(ovl_getsockname(client.thread, socket, (struct sockaddr *) &address, &len));
        polls_expect_pending(&client, socket, POLLIN, &poll);
        fd = peer_socket(SOCK_DGRAM);
        assert_int_equal(sendto(fd, "", 0, 0, (struct sockaddr *) &address, len), 0);
        polls_expect(&client, &poll, POLLIN);
        assert_ok(client_recv(&client, socket, client.memory, 1, 0, &op));
        client_expect(&client, &op, 0, 0);
        polls_expect_pending(&client, socket, POLLIN, &poll);
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), 1);
        client_expect(&client, &poll, -ECANCELED, 0);
        client_stop(&client);
}

static void polls_end_when_asked_to(void **state) {
        struct ovl_overlapped polls[4] = { 0 }, receiving = { 0 };
        struct ovl_thread *thread;
        struct ovl_error error;
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_thread_open(client.session, &thread, &error));
        for (size_t i = 0; i < 3; i++)
                polls_expect_pending(&client, socket, POLLIN, &polls[i]);
        assert_int_equal(ovl_poll(thread, socket, POLLIN, OVL_WANT_VERDICT, &polls[3], NULL), OVL_PENDING);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        assert_int_equal(ovl_cancel(client.thread, socket, &polls[1]), 1);
        client_expect(&client, &polls[1], -ECANCELED, 0);
        assert_int_equal(polls[1].value, 0);
        assert_int_equal(ovl_cancel(client.thread, socket, &polls[1]), -ENOENT);
        /* With the thread that posted it; what others posted goes on. */
        ovl_thread_close(thread);
        assert_int_equal(polls[3].status, -ECANCELED);
        assert_int_equal(polls[0].status, -EINPROGRESS);
        assert_int_equal(receiving.status, -EINPROGRESS);
        /* With the socket. */
        assert_ok(ovl_socket_close(client.thread, socket));
        client_expect(&client, &polls[0], -ECANCELED, 0);
        client_expect(&client, &polls[2], -ECANCELED, 0);
        client_expect(&client, &receiving, -ECANCELED, 0);
        assert_int_equal(polls_post(&client, socket, POLLIN, OVL_WANT_VERDICT, &polls[0]), -EBADF);
        close(fd);
        client_stop(&client);
}

static void polls_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        ++*(unsigned *) overlapped->user;
}

static void polls_are_indicated(void **state) {
        struct ovl_overlapped by_routine = { 0 }, by_port = { 0 };
        struct ovl_packet packet;
        struct ovl_error error;
        struct ovl_port *port;
        struct client client;
        unsigned n_run = 0;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        by_routine.user = &n_run;
        assert_ok(ovl_poll(client.thread, socket, POLLIN, 0, &by_routine, polls_count));
        peer_write(fd, "x", 1);
        assert_int_equal(ovl_sleep(client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(n_run, 1);
        polls_expect(&client, &by_routine, POLLIN);
        assert_ok(ovl_port_open(client.session, 0, &port, &error));
        assert_ok(ovl_port_associate(client.thread, port, socket, 5));
        assert_ok(polls_post(&client, socket, POLLIN | POLLOUT, 0, &by_port));
        assert_int_equal(ovl_port_wait(port, client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &by_port);
        polls_expect(&client, &by_port, POLLIN | POLLOUT);
        ovl_port_close(port);
        close(fd);
        client_stop(&client);
}

static void polls_know_their_events(void **state) {
        struct ovl_overlapped poll = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(polls_post(&client, socket, POLLNVAL, 0, &poll), -EINVAL);
        assert_int_equal(polls_post(&client, socket, POLLRDHUP, 0, &poll), -EINVAL);
        assert_int_equal(polls_post(&client, socket, POLLIN, OVL_PEEK, &poll), -EOPNOTSUPP);
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "any number of polls may be pending", polls_are_any_number },
                { "polls have no place in the order", polls_have_no_place_in_the_order },
                { "polls tell ends", polls_tell_ends },
                { "polls work on all sockets", polls_work_on_all_sockets },
                { "polls end when asked to", polls_end_when_asked_to },
                { "polls are indicated", polls_are_indicated },
                { "polls know their events", polls_know_their_events },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
