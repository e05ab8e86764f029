/* SPDX-License-Identifier: Apache-2.0 */

/* Synchronous calls: what they give, what ends them early, and that nothing is lost then. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define BLOCKING_PIECES 1500u
#define BLOCKING_PIECE 7u
#define BLOCKING_BIG (32u << 20)

struct blocking_story {
        struct client client;
        uint64_t socket;
        int fd;              /* the ordinary end */
        unsigned n_timeouts; /* so many calls of the story timed out */
};

static void blocking_start(struct blocking_story *story) {
        *story = (struct blocking_story){ 0 };
        client_start(&story->client);
        story->socket = client_pair(&story->client, AF_INET, &story->fd);
}

static void blocking_stop(struct blocking_story *story) {
        close(story->fd);
        client_stop(&story->client);
}

static int blocking_recv(struct blocking_story *story, size_t at, size_t len, unsigned flags) {
        return client_recv(&story->client, story->socket, story->client.memory + at, len, flags, NULL);
}

/* --- Nothing is lost -------------------------------------------------------------------------------------------- */

/* Pieces at intervals of about the timeout of who receives them, so that they race with it. */
static void *blocking_write(void *data) {
        struct blocking_story *story = data;
        uint64_t until;

        for (unsigned i = 0; i < BLOCKING_PIECES; i++) {
                char piece[BLOCKING_PIECE];

                pattern_fill(piece, sizeof(piece), i * BLOCKING_PIECE);
                peer_write(story->fd, piece, sizeof(piece));
                until = now_ns() + 50000 + (uint64_t) i * 7919 % 200000;
                /* However slow the machine is, some time out. */
                while (now_ns() < until || __atomic_load_n(&story->n_timeouts, __ATOMIC_RELAXED) < i / 100)
                        sched_yield();
        }
        return NULL;
}

static void blocking_timeouts_lose_no_byte(void **state) {
        size_t n_received = 0;
        struct blocking_story story;
        pthread_t writer;

        blocking_start(&story);
        assert_ok(ovl_set_timeouts(story.client.thread, story.socket, 100000, OVL_INFINITE));
        assert_int_equal(pthread_create(&writer, NULL, blocking_write, &story), 0);
        while (n_received < BLOCKING_PIECES * BLOCKING_PIECE) {
                int n = blocking_recv(&story, n_received, 100, story.n_timeouts % 2 ? OVL_WAITALL : 0);

                if (n == -ETIMEDOUT) {
                        __atomic_add_fetch(&story.n_timeouts, 1, __ATOMIC_RELAXED);
                        continue;
                }
                assert_true(n > 0);
                n_received += (size_t) n;
        }
        pthread_join(writer, NULL);
        assert_int_equal(n_received, BLOCKING_PIECES * BLOCKING_PIECE);
        pattern_check(story.client.memory, n_received, 0);
        blocking_stop(&story);
}

static void blocking_a_part_is_a_result(void **state) {
        struct blocking_story story;
        struct ovl_region *region;
        size_t big, len;
        char *bytes;
        int n;

        blocking_start(&story);
        assert_ok(ovl_set_timeouts(story.client.thread, story.socket, NS_PER_S / 2, NS_PER_S / 2));
        peer_write(story.fd, "four", 4);
        assert_int_equal(blocking_recv(&story, 0, 10, OVL_WAITALL), 4);
        assert_memory_equal(story.client.memory, "four", 4);
        big = client_big(&story.client, story.socket, story.fd, BLOCKING_BIG);
        assert_ok(ovl_region_open(story.client.thread, big, &region));
        pattern_fill(ovl_region_data(region), big, 0);
        n = client_send(&story.client, story.socket, ovl_region_data(region), big, 0, NULL);
        assert_true(n > 0 && (size_t) n < big);
        /* What the call says has left, and no more. */
        assert_ok(ovl_shutdown(story.client.thread, story.socket, SHUT_WR));
        len = (size_t) n;
        bytes = malloc(len);
        peer_read(story.fd, bytes, len);
        pattern_check(bytes, len, 0);
        peer_expect_end(story.fd);
        free(bytes);
        ovl_region_close(story.client.thread, region);
        blocking_stop(&story);
}

/* --- Mode, timeouts, and who has them --------------------------------------------------------------------------- */

static void blocking_connections(void **state) {
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener, from, to;
        socklen_t len;

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_set_nonblocking(client.thread, listener, 1));
        assert_int_equal(ovl_accept_sync(client.thread, listener, &to), -EAGAIN);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &from));
        assert_ok(ovl_set_nonblocking(client.thread, from, 1));
        assert_int_equal(ovl_connect_sync(client.thread, from, (struct sockaddr *) &address, len), -EOPNOTSUPP);
        assert_ok(ovl_set_nonblocking(client.thread, from, 0));
        assert_int_equal(ovl_connect_sync(client.thread, from, (struct sockaddr *) &address, len), 0);
        assert_int_equal(ovl_poll(client.thread, listener, POLLIN, 0, NULL, NULL), POLLIN);
        assert_int_equal(ovl_accept_sync(client.thread, listener, &to), 0);
        /* It has the mode of its listener. */
        assert_int_equal(client_recv(&client, to, client.memory, 10, 0, NULL), -EAGAIN);
        assert_int_equal(client_send(&client, from, client.memory, 0, 0, NULL), 0);
        assert_int_equal(client_send(&client, from, memcpy(client.memory, "hello", 5), 5, 0, NULL), 5);
        assert_int_equal(ovl_poll(client.thread, to, POLLIN, 0, NULL, NULL), POLLIN);
        assert_int_equal(client_recv(&client, to, client.memory + 10, 10, 0, NULL), 5);
        assert_memory_equal(client.memory + 10, "hello", 5);
        /* Nobody listens any more. */
        assert_ok(ovl_socket_close(client.thread, listener));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &from));
        assert_int_equal(ovl_connect_sync(client.thread, from, (struct sockaddr *) &address, len), -ECONNREFUSED);
        assert_int_equal(ovl_connect(client.thread, from, (struct sockaddr *) &address, len, 0, NULL, NULL), -EINVAL);
        client_stop(&client);
}

static void blocking_sessions_have_their_own(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_session_info info;
        struct client host, guest;
        struct ovl_ticket ticket;
        uint64_t listener, joined, accepted;
        struct sockaddr_storage address;
        socklen_t len;
        int fd;

        client_start(&host);
        guest = host;
        client_open(&guest, 0);
        assert_ok(ovl_socket_open(host.thread, AF_INET, SOCK_STREAM | OVL_NON_OVERLAPPED, &listener));
        len = client_loopback(AF_INET, &address);
        assert_ok(ovl_bind(host.thread, listener, (struct sockaddr *) &address, len));
        assert_ok(ovl_listen(host.thread, listener, 1));
        len = sizeof(address);
        assert_ok(ovl_getsockname(host.thread, listener, (struct sockaddr *) &address, &len));
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        assert_ok(ovl_accept_sync(host.thread, listener, &accepted));
        assert_ok(ovl_set_nonblocking(host.thread, accepted, 1));
        ovl_session_info(guest.session, &info);
        assert_ok(ovl_socket_share(host.thread, accepted, info.session, &ticket));
        assert_ok(ovl_socket_join(guest.thread, &ticket, &joined));
        assert_ok(ovl_set_timeouts(guest.thread, joined, NS_PER_MS, NS_PER_MS));
        assert_int_equal(client_recv(&host, accepted, host.memory, 10, 0, NULL), -EAGAIN);
        assert_int_equal(client_recv(&guest, joined, guest.memory, 10, 0, NULL), -ETIMEDOUT);
        /* That the socket is not overlapped the guest was told. */
        peer_write(fd, "five!", 5);
        assert_int_equal(client_recv(&guest, joined, guest.memory, 10, 0, &receiving), 0);
        assert_int_equal(receiving.bytes, 5);
        close(fd);
        client_close(&guest);
        client_stop(&host);
}

/* --- What they give, and what is refused ------------------------------------------------------------------------ */

static void blocking_datagrams(void **state) {
        struct sockaddr_storage address, from;
        socklen_t len, from_len;
        struct client client;
        struct ovl_buffer buffer;
        uint64_t sockets[2];

        client_start(&client);
        for (size_t i = 0; i < 2; i++) {
                assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &sockets[i]));
                len = client_loopback(AF_INET, &address);
                assert_ok(ovl_bind(client.thread, sockets[i], (struct sockaddr *) &address, len));
                len = sizeof(address);
                assert_ok(ovl_getsockname(client.thread, sockets[i], (struct sockaddr *) &address, &len));
        }
        memcpy(client.memory, "0123456789", 10);
        buffer = (struct ovl_buffer){ client.memory, 10 };
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(ovl_sendto(client.thread, sockets[0], &buffer, 1, 0, (struct sockaddr *) &address, len,
                                            NULL, NULL),
                                 10);
        buffer = (struct ovl_buffer){ client.memory + 20, 20 };
        assert_int_equal(ovl_recvfrom(client.thread, sockets[1], &buffer, 1, 0, &from, &from_len, NULL, NULL), 10);
        assert_ok(ovl_getsockname(client.thread, sockets[0], (struct sockaddr *) &address, &len));
        assert_int_equal(from_len, len);
        assert_memory_equal(&from, &address, len);
        buffer.len = 4;
        assert_int_equal(ovl_recvfrom(client.thread, sockets[1], &buffer, 1, 0, &from, &from_len, NULL, NULL),
                         -EMSGSIZE);
        assert_memory_equal(client.memory + 20, "0123", 4);
        client_stop(&client);
}

static void blocking_names(void **state) {
        struct sockaddr_storage addresses[2];
        struct client client;

        client_start(&client);
        assert_int_equal(ovl_resolve(client.thread, "127.0.0.1", AF_INET, SOCK_STREAM, 80, addresses, 2, 0, NULL, NULL),
                         1);
        assert_int_equal(addresses[0].ss_family, AF_INET);
        client_stop(&client);
}

static void blocking_refusals(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct blocking_story story;
        char outside[16];

        blocking_start(&story);
        assert_int_equal(client_recv(&story.client, story.socket, outside, 16, 0, NULL), -EFAULT);
        assert_int_equal(client_recv(&story.client, story.socket + 1, story.client.memory, 16, 0, NULL), -EBADF);
        assert_int_equal(blocking_recv(&story, 0, 10, 1u << 30), -EOPNOTSUPP);
        assert_int_equal(ovl_set_timeouts(story.client.thread, story.socket + 1, 1, 1), -EBADF);
        assert_int_equal(ovl_set_nonblocking(story.client.thread, story.socket + 1, 1), -EBADF);
        assert_int_equal(ovl_set_nonblocking(story.client.thread, 0, 1), -EBADF);
        assert_int_equal(ovl_accept(story.client.thread, story.socket, 0, NULL, NULL), -EINVAL);
        /* What waits under a cork leaves before the call waits. */
        ovl_cork(story.client.thread);
        assert_ok(client_recv(&story.client, story.socket, story.client.memory, 5, 0, &receiving));
        peer_write(story.fd, "firstsecond", 11);
        assert_int_equal(blocking_recv(&story, 10, 10, 0), 6);
        assert_ok(ovl_uncork(story.client.thread));
        client_expect(&story.client, &receiving, 0, 5);
        assert_memory_equal(story.client.memory + 10, "second", 6);
        close(story.fd);
        story.fd = -1;
        assert_int_equal(blocking_recv(&story, 0, 10, 0), 0);
        assert_ok(ovl_shutdown(story.client.thread, story.socket, SHUT_RD));
        assert_int_equal(blocking_recv(&story, 0, 10, 0), -ESHUTDOWN);
        blocking_stop(&story);
}

static struct blocking_story *blocking_current;

/* While a routine of the socket runs no other of it may; a call that waits is no routine. */
static void blocking_in_a_routine(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        assert_int_equal(blocking_recv(blocking_current, 10, 6, OVL_WAITALL), 6);
        assert_memory_equal(blocking_current->client.memory + 10, "second", 6);
        *(int *) overlapped->user += 1;
}

static void blocking_within_routines(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct blocking_story story;
        struct ovl_buffer buffer;
        int n_ran = 0;

        blocking_start(&story);
        blocking_current = &story;
        receiving.user = &n_ran;
        buffer = (struct ovl_buffer){ story.client.memory, 5 };
        assert_ok(ovl_recv(story.client.thread, story.socket, &buffer, 1, 0, &receiving, blocking_in_a_routine));
        peer_write(story.fd, "firstsecond", 11);
        assert_int_equal(ovl_sleep(story.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(n_ran, 1);
        blocking_stop(&story);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

static void blocking_kill(struct ovl_thread *thread, uint64_t argument) {
        daemon_kill(&blocking_current->client.estate.daemon);
}

static void blocking_ends_with_the_daemon(void **state) {
        struct blocking_story story;

        blocking_start(&story);
        blocking_current = &story;
        assert_ok(ovl_apc_queue(story.client.thread, blocking_kill, 0));
        assert_int_equal(blocking_recv(&story, 0, 10, 0), -ECONNABORTED);
        assert_int_equal(blocking_recv(&story, 0, 10, 0), -ECONNABORTED);
        assert_int_equal(ovl_cancel_blocked(story.client.thread), -ENOENT);
        close(story.fd);
        ovl_region_close(story.client.thread, story.client.region);
        ovl_thread_close(story.client.thread);
        ovl_session_free(story.client.session);
}

/* The socket is closed by an APC of the very call that waits on it. */
static void blocking_close(struct ovl_thread *thread, uint64_t argument) {
        assert_ok(ovl_socket_close(thread, argument));
}

static void blocking_ends_with_the_socket(void **state) {
        struct blocking_story story;

        blocking_start(&story);
        assert_ok(ovl_apc_queue(story.client.thread, blocking_close, story.socket));
        assert_int_equal(blocking_recv(&story, 0, 10, 0), -ECANCELED);
        assert_int_equal(ovl_thread_error(story.client.thread)->reason, OVL_REASON_CLOSED);
        assert_int_equal(blocking_recv(&story, 0, 10, 0), -EBADF);
        blocking_stop(&story);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "timeouts that race with data lose no byte", blocking_timeouts_lose_no_byte, 120 },
                { "what was moved before a timeout is the result", blocking_a_part_is_a_result },
                { "connections", blocking_connections },
                { "sessions that share a socket have their own mode", blocking_sessions_have_their_own },
                { "datagrams, with addresses", blocking_datagrams },
                { "names", blocking_names },
                { "refusals", blocking_refusals },
                { "within a routine", blocking_within_routines },
                { "the daemon dies", blocking_ends_with_the_daemon },
                { "an APC closes the socket", blocking_ends_with_the_socket },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
