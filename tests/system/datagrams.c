/* SPDX-License-Identifier: Apache-2.0 */

/*
 * UDP: what is one datagram stays one datagram, in both directions, and what the network has to say of one of them ends
 * one operation and not the socket. The other end is an ordinary socket.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

static const int families[] = { AF_INET, AF_INET6 };

/* A client with a bound socket, and an ordinary one. */
struct udp {
        struct client client;
        uint64_t socket;
        int fd;
        struct sockaddr_storage address, peer; /* of the socket, of the ordinary one */
        socklen_t len;                         /* of either */
};

/* What a receive that asks for the sender has to give. */
struct udp_from {
        struct ovl_overlapped overlapped;
        struct sockaddr_storage address;
        socklen_t len;
};

static int udp_peer(int family, struct sockaddr_storage *ret_address) {
        socklen_t len = client_loopback(family, ret_address);
        int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) ret_address, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_address, &len), 0);
        return fd;
}

static void udp_start(struct udp *udp, int family) {
        *udp = (struct udp){ 0 };
        client_start(&udp->client);
        udp->fd = udp_peer(family, &udp->peer);
        assert_ok(ovl_socket_open(udp->client.thread, family, SOCK_DGRAM, &udp->socket));
        udp->len = client_loopback(family, &udp->address);
        assert_ok(ovl_bind(udp->client.thread, udp->socket, (struct sockaddr *) &udp->address, udp->len));
        assert_ok(ovl_getsockname(udp->client.thread, udp->socket, (struct sockaddr *) &udp->address, &udp->len));
}

static void udp_stop(struct udp *udp) {
        close(udp->fd);
        client_stop(&udp->client);
}

static void udp_connect(struct udp *udp, const struct sockaddr_storage *to) {
        struct ovl_overlapped connecting = { 0 };

        assert_ok(ovl_connect(udp->client.thread, udp->socket, (const struct sockaddr *) to, udp->len, 0, &connecting,
                              NULL));
        client_expect(&udp->client, &connecting, 0, 0);
}

static int udp_recvfrom(struct udp *udp, void *data, size_t len, unsigned flags, struct udp_from *from) {
        struct ovl_buffer buffer = { data, len };

        return ovl_recvfrom(udp->client.thread, udp->socket, &buffer, 1, flags, &from->address, &from->len,
                            &from->overlapped, NULL);
}

static int udp_sendto(struct udp *udp, const struct sockaddr_storage *to, void *data, size_t len,
                      struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { data, len };

        return ovl_sendto(udp->client.thread, udp->socket, &buffer, 1, 0, (const struct sockaddr *) to, udp->len,
                          overlapped, NULL);
}

/* The ordinary end sends to the socket. */
static void udp_give(const struct udp *udp, const void *data, size_t len) {
        assert_int_equal(sendto(udp->fd, data, len, 0, (const struct sockaddr *) &udp->address, udp->len), len);
}

/* The next datagram of an ordinary end is this one, from the socket. */
static void udp_expect(const struct udp *udp, int fd, const void *data, size_t len) {
        struct pollfd look = { .fd = fd, .events = POLLIN };
        struct sockaddr_storage from = { 0 };
        socklen_t from_len = sizeof(from);
        char bytes[2048];
        ssize_t n;

        assert_int_equal(poll(&look, 1, (int) (client_patience() / NS_PER_MS)), 1);
        n = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *) &from, &from_len);
        assert_int_equal(n, len);
        assert_memory_equal(bytes, data, len);
        assert_memory_equal(&from, &udp->address, udp->len);
}

static void udp_expect_from(struct udp *udp, struct udp_from *from, int status, size_t len) {
        client_expect(&udp->client, &from->overlapped, status, len);
        assert_int_equal(from->len, udp->len);
        assert_memory_equal(&from->address, &udp->peer, udp->len);
}

/* --- One is one ------------------------------------------------------------------------------------------------- */

static void datagrams_come(int family) {
        static const char *const texts[] = { "one", "two and more", "3", "the fourth", "five" };
        struct ovl_overlapped plain[2] = { 0 };
        struct udp_from from[3] = { 0 };
        struct udp udp;
        char *memory;

        udp_start(&udp, family);
        memory = udp.client.memory;
        ovl_cork(udp.client.thread);
        for (size_t i = 0; i < 5; i++) {
                if (i % 2 == 0)
                        assert_int_equal(udp_recvfrom(&udp, memory + 100 * i, 100, 0, &from[i / 2]), OVL_PENDING);
                else
                        assert_int_equal(client_recv(&udp.client, udp.socket, memory + 100 * i, 100, 0, &plain[i / 2]),
                                         OVL_PENDING);
        }
        assert_ok(ovl_uncork(udp.client.thread));
        for (size_t i = 0; i < 5; i++)
                udp_give(&udp, texts[i], strlen(texts[i]));
        for (size_t i = 0; i < 5; i++) {
                if (i % 2 == 0)
                        udp_expect_from(&udp, &from[i / 2], 0, strlen(texts[i]));
                else
                        client_expect(&udp.client, &plain[i / 2], 0, strlen(texts[i]));
                assert_memory_equal(memory + 100 * i, texts[i], strlen(texts[i]));
                assert_int_equal(memory[100 * i + strlen(texts[i])], 0);
        }
        udp_stop(&udp);
}

static void datagrams_come_one_by_one(void **state) {
        for (size_t f = 0; f < HARNESS_N(families); f++)
                datagrams_come(families[f]);
}

/* Sends that wait together leave as they were posted, each as itself. */
static void datagrams_leave_one_by_one(void **state) {
        struct ovl_overlapped sending[40] = { 0 };
        struct udp udp;
        char *memory;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                udp_start(&udp, families[f]);
                memory = udp.client.memory;
                udp_connect(&udp, &udp.peer);
                pattern_fill(memory, 4096, 0);
                ovl_cork(udp.client.thread);
                for (size_t i = 0; i < 40; i++) {
                        int r = i % 3 == 0 ? udp_sendto(&udp, &udp.peer, memory + i, i, &sending[i])
                                           : client_send(&udp.client, udp.socket, memory + i, i, 0, &sending[i]);

                        assert_int_equal(r, OVL_PENDING);
                }
                assert_ok(ovl_uncork(udp.client.thread));
                for (size_t i = 0; i < 40; i++) {
                        client_expect(&udp.client, &sending[i], 0, i);
                        udp_expect(&udp, udp.fd, memory + i, i);
                }
                udp_stop(&udp);
        }
}

static void datagrams_gather_and_scatter(void **state) {
        struct ovl_overlapped sending[2] = { 0 }, receiving = { 0 };
        struct ovl_buffer buffers[64];
        struct udp_from from = { 0 };
        struct udp udp;
        char *memory;

        udp_start(&udp, AF_INET);
        memory = udp.client.memory;
        pattern_fill(memory, 640, 0);
        for (size_t i = 0; i < 64; i++)
                buffers[i] = (struct ovl_buffer){ memory + 10 * i, i == 5 ? 0 : 10 };
        buffers[5] = (struct ovl_buffer){ memory + 50, 10 };
        assert_ok(ovl_sendto(udp.client.thread, udp.socket, buffers, 64, 0, (struct sockaddr *) &udp.peer, udp.len,
                             &sending[0], NULL));
        client_expect(&udp.client, &sending[0], 0, 640);
        udp_expect(&udp, udp.fd, memory, 640);
        udp_connect(&udp, &udp.peer);
        buffers[1].len = 0;
        assert_ok(ovl_send(udp.client.thread, udp.socket, buffers, 3, 0, &sending[1], NULL));
        client_expect(&udp.client, &sending[1], 0, 20);
        memmove(memory + 10, memory + 20, 10);
        udp_expect(&udp, udp.fd, memory, 20);

        /* 64 parts and a sender. */
        memset(memory, 0, 640);
        buffers[1].len = 10;
        assert_ok(ovl_recvfrom(udp.client.thread, udp.socket, buffers, 64, 0, &from.address, &from.len,
                               &from.overlapped, NULL));
        assert_ok(ovl_recv(udp.client.thread, udp.socket, buffers + 30, 2, 0, &receiving, NULL));
        udp_give(&udp, "0123456789abcdefghi", 19);
        udp_expect_from(&udp, &from, 0, 19);
        assert_memory_equal(memory, "0123456789abcdefghi", 20);
        udp_give(&udp, "ABCDEFGHIJK", 11);
        client_expect(&udp.client, &receiving, 0, 11);
        assert_memory_equal(memory + 300, "ABCDEFGHIJK", 12);
        udp_stop(&udp);
}

/* --- Too long, and nothing at all ------------------------------------------------------------------------------- */

static void datagrams_are_cut_and_say_so(void **state) {
        struct ovl_overlapped plain = { 0 };
        struct ovl_buffer buffers[3];
        struct udp_from from = { 0 };
        struct udp udp;
        char *memory;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                udp_start(&udp, families[f]);
                memory = udp.client.memory;
                for (size_t i = 0; i < 3; i++)
                        buffers[i] = (struct ovl_buffer){ memory + 100 * i, 2 };
                udp_give(&udp, "too long", 8);
                assert_ok(udp_recvfrom(&udp, memory, 3, 0, &from));
                udp_expect_from(&udp, &from, -EMSGSIZE, 3);
                assert_int_equal(from.overlapped.flags & OVL_TRUNCATED, OVL_TRUNCATED);
                assert_memory_equal(memory, "too\0", 4);

                udp_give(&udp, "too long", 8);
                assert_ok(ovl_recvfrom(udp.client.thread, udp.socket, buffers, 3, 0, &from.address, &from.len,
                                       &from.overlapped, NULL));
                udp_expect_from(&udp, &from, -EMSGSIZE, 6);
                assert_int_equal(from.overlapped.flags & OVL_TRUNCATED, OVL_TRUNCATED);
                assert_memory_equal(memory, "to", 2);
                assert_memory_equal(memory + 100, "o \0", 3);
                assert_memory_equal(memory + 200, "lo\0", 3);

                udp_give(&udp, "too long", 8);
                assert_ok(client_recv(&udp.client, udp.socket, memory, 7, 0, &plain));
                client_expect(&udp.client, &plain, -EMSGSIZE, 7);
                assert_int_equal(plain.flags & OVL_TRUNCATED, OVL_TRUNCATED);

                /* One that just fits was not cut, and nothing of the others is left. */
                udp_give(&udp, "it fits!", 8);
                assert_ok(client_recv(&udp.client, udp.socket, memory, 8, 0, &plain));
                client_expect(&udp.client, &plain, 0, 8);
                assert_int_equal(plain.flags & OVL_TRUNCATED, 0);
                assert_memory_equal(memory, "it fits!", 8);
                udp_stop(&udp);
        }
}

static void datagrams_may_be_empty(void **state) {
        struct ovl_overlapped sending[3] = { 0 }, receiving = { 0 };
        struct udp_from from = { 0 };
        struct udp udp;

        udp_start(&udp, AF_INET6);
        assert_ok(ovl_sendto(udp.client.thread, udp.socket, NULL, 0, 0, (struct sockaddr *) &udp.peer, udp.len,
                             &sending[0], NULL));
        client_expect(&udp.client, &sending[0], 0, 0);
        udp_expect(&udp, udp.fd, "", 0);
        udp_connect(&udp, &udp.peer);
        assert_ok(client_send(&udp.client, udp.socket, udp.client.memory, 0, 0, &sending[1]));
        assert_ok(client_send(&udp.client, udp.socket, "", 0, 0, &sending[2]));
        client_expect(&udp.client, &sending[1], 0, 0);
        client_expect(&udp.client, &sending[2], 0, 0);
        udp_expect(&udp, udp.fd, "", 0);
        udp_expect(&udp, udp.fd, "", 0);

        udp_give(&udp, "", 0);
        udp_give(&udp, "five!", 5);
        assert_ok(udp_recvfrom(&udp, udp.client.memory, 100, 0, &from));
        udp_expect_from(&udp, &from, 0, 0);
        assert_ok(client_recv(&udp.client, udp.socket, udp.client.memory, 100, 0, &receiving));
        client_expect(&udp.client, &receiving, 0, 5);
        udp_stop(&udp);
}

/* A receive without room takes a datagram like any other. */
static void datagrams_are_taken_by_empty_receives(void **state) {
        struct ovl_overlapped empty = { 0 }, receiving = { 0 };
        struct udp_from from = { 0 };
        struct udp udp;

        udp_start(&udp, AF_INET);
        assert_ok(client_recv(&udp.client, udp.socket, udp.client.memory, 0, 0, &empty));
        assert_ok(udp_recvfrom(&udp, NULL, 0, 0, &from));
        assert_ok(client_recv(&udp.client, udp.socket, udp.client.memory, 10, 0, &receiving));
        udp_give(&udp, "first", 5);
        udp_give(&udp, "", 0);
        udp_give(&udp, "third", 5);
        client_expect(&udp.client, &empty, -EMSGSIZE, 0);
        assert_int_equal(empty.flags & OVL_TRUNCATED, OVL_TRUNCATED);
        udp_expect_from(&udp, &from, 0, 0);
        assert_int_equal(from.overlapped.flags & OVL_TRUNCATED, 0);
        client_expect(&udp.client, &receiving, 0, 5);
        assert_memory_equal(udp.client.memory, "third", 5);
        udp_stop(&udp);
}

static void datagrams_of_too_many_bytes_do_not_leave(void **state) {
        struct ovl_overlapped sending[3] = { 0 };
        struct ovl_buffer halves[2];
        struct udp udp;
        int r;

        udp_start(&udp, AF_INET);
        halves[0] = halves[1] = (struct ovl_buffer){ udp.client.memory, 35000 };
        /* Where the bytes would have to travel in a frame the call itself refuses them. */
        r = udp_sendto(&udp, &udp.peer, udp.client.memory, 70000, &sending[0]);
        assert_true(r >= 0 || r == -EMSGSIZE);
        if (r >= 0)
                client_expect(&udp.client, &sending[0], -EMSGSIZE, 0);
        assert_int_equal(sending[0].flags & OVL_TRUNCATED, 0);
        udp_connect(&udp, &udp.peer);
        assert_ok(ovl_send(udp.client.thread, udp.socket, halves, 2, 0, &sending[1], NULL));
        client_expect(&udp.client, &sending[1], -EMSGSIZE, 0);
        /* Nothing was sent: what comes is the first. */
        memcpy(udp.client.memory, "small", 5);
        assert_ok(client_send(&udp.client, udp.socket, udp.client.memory, 5, 0, &sending[2]));
        client_expect(&udp.client, &sending[2], 0, 5);
        udp_expect(&udp, udp.fd, "small", 5);
        udp_stop(&udp);
}

static void datagrams_can_be_peeked_at(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct udp_from from = { 0 };
        struct udp udp;
        char *memory;

        udp_start(&udp, AF_INET);
        memory = udp.client.memory;
        udp_give(&udp, "first", 5);
        udp_give(&udp, "second", 6);
        for (unsigned i = 0; i < 2; i++) {
                assert_ok(udp_recvfrom(&udp, memory + 10 * i, 10, OVL_PEEK, &from));
                udp_expect_from(&udp, &from, 0, 5);
        }
        assert_ok(client_recv(&udp.client, udp.socket, memory + 20, 2, OVL_PEEK, &receiving));
        client_expect(&udp.client, &receiving, -EMSGSIZE, 2);
        assert_int_equal(receiving.flags & OVL_TRUNCATED, OVL_TRUNCATED);
        assert_ok(client_recv(&udp.client, udp.socket, memory + 30, 10, 0, &receiving));
        client_expect(&udp.client, &receiving, 0, 5);
        assert_memory_equal(memory, "first\0\0\0\0\0first\0\0\0\0\0fi\0\0\0\0\0\0\0\0first", 35);
        assert_ok(client_recv(&udp.client, udp.socket, memory, 10, 0, &receiving));
        client_expect(&udp.client, &receiving, 0, 6);
        assert_memory_equal(memory, "second", 6);
        udp_stop(&udp);
}

/* --- Peers ------------------------------------------------------------------------------------------------------ */

/* A destination counts for one datagram; the peer can be changed, in the order of the sends. */
static void datagrams_go_where_they_are_sent(void **state) {
        struct ovl_overlapped connecting[2] = { 0 }, sending[4] = { 0 };
        struct sockaddr_storage other_address, name = { 0 };
        socklen_t name_len = sizeof(name);
        _cleanup_fd_ int other = -1;
        struct udp udp;
        char *memory;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                udp_start(&udp, families[f]);
                other = udp_peer(families[f], &other_address);
                memory = udp.client.memory;
                memcpy(memory, "0123", 4);
                ovl_cork(udp.client.thread);
                assert_ok(ovl_connect(udp.client.thread, udp.socket, (struct sockaddr *) &udp.peer, udp.len, 0,
                                      &connecting[0], NULL));
                assert_ok(client_send(&udp.client, udp.socket, memory, 1, 0, &sending[0]));
                assert_ok(udp_sendto(&udp, &other_address, memory + 1, 1, &sending[1]));
                assert_ok(ovl_connect(udp.client.thread, udp.socket, (struct sockaddr *) &other_address, udp.len, 0,
                                      &connecting[1], NULL));
                assert_ok(client_send(&udp.client, udp.socket, memory + 2, 1, 0, &sending[2]));
                assert_ok(udp_sendto(&udp, &udp.peer, memory + 3, 1, &sending[3]));
                assert_ok(ovl_uncork(udp.client.thread));
                for (size_t i = 0; i < 4; i++)
                        client_expect(&udp.client, &sending[i], 0, 1);
                client_expect(&udp.client, &connecting[0], 0, 0);
                client_expect(&udp.client, &connecting[1], 0, 0);
                udp_expect(&udp, udp.fd, "0", 1);
                udp_expect(&udp, other, "1", 1);
                udp_expect(&udp, other, "2", 1);
                udp_expect(&udp, udp.fd, "3", 1);
                name_len = sizeof(name);
                assert_ok(ovl_getpeername(udp.client.thread, udp.socket, (struct sockaddr *) &name, &name_len));
                assert_memory_equal(&name, &other_address, udp.len);
                other = fd_close(other);
                udp_stop(&udp);
        }
}

static void datagrams_need_a_destination(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct udp udp;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                udp_start(&udp, families[f]);
                assert_ok(client_send(&udp.client, udp.socket, udp.client.memory, 1, 0, &sending));
                client_expect(&udp.client, &sending, -EDESTADDRREQ, 0);
                udp_stop(&udp);
        }
}

/* A socket that nobody can find receives nothing; one that is about to send can be found. */
static void datagrams_find_only_named_sockets(void **state) {
        struct ovl_overlapped sending = { 0 }, receiving = { 0 };
        struct udp_from from = { 0 };
        struct udp udp;
        char *memory;

        udp_start(&udp, AF_INET);
        memory = udp.client.memory;
        assert_ok(ovl_socket_open(udp.client.thread, AF_INET, SOCK_DGRAM, &udp.socket));
        assert_int_equal(client_recv(&udp.client, udp.socket, memory, 10, OVL_WANT_VERDICT, &receiving), -EINVAL);
        assert_int_equal(ovl_thread_error(udp.client.thread)->reason, 14); /* NOT_CONNECTED */
        assert_int_equal(udp_recvfrom(&udp, memory, 10, OVL_WANT_VERDICT, &from), -EINVAL);
        ovl_cork(udp.client.thread);
        memcpy(memory, "ask", 3);
        assert_ok(udp_sendto(&udp, &udp.peer, memory, 3, &sending));
        assert_ok(udp_recvfrom(&udp, memory + 10, 10, 0, &from));
        assert_ok(ovl_uncork(udp.client.thread));
        client_expect(&udp.client, &sending, 0, 3);
        udp.len = sizeof(udp.address);
        assert_ok(ovl_getsockname(udp.client.thread, udp.socket, (struct sockaddr *) &udp.address, &udp.len));
        assert_true(((struct sockaddr_in *) &udp.address)->sin_port != 0);
        ((struct sockaddr_in *) &udp.address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        udp_expect(&udp, udp.fd, "ask", 3);
        udp_give(&udp, "answer", 6);
        udp_expect_from(&udp, &from, 0, 6);
        udp_stop(&udp);
}

/* --- What the network says -------------------------------------------------------------------------------------- */

/* An earlier datagram was refused: the receive that is pending ends with that, the socket goes on. */
static void datagrams_that_are_refused_end_one_receive(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct udp_from from[2] = { 0 };
        struct sockaddr_storage nobody;
        struct udp udp;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                memset(from, 0, sizeof(from));
                udp_start(&udp, families[f]);
                close(udp_peer(families[f], &nobody));
                udp_connect(&udp, &nobody);
                assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from[0]), OVL_PENDING);
                assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from[1]), OVL_PENDING);
                assert_ok(client_send(&udp.client, udp.socket, udp.client.memory, 1, 0, &sending));
                client_expect(&udp.client, &sending, 0, 1);
                client_expect(&udp.client, &from[0].overlapped, -ECONNREFUSED, 0);
                assert_int_equal(from[0].len, 0);
                assert_int_equal(from[1].overlapped.status, -EINPROGRESS);
                udp_connect(&udp, &udp.peer);
                udp_give(&udp, "alive", 5);
                udp_expect_from(&udp, &from[1], 0, 5);
                udp_stop(&udp);
        }
}

/* Each of several datagrams that were refused ends one receive, also where the socket has no peer. */
static void datagrams_that_are_refused_end_as_many_receives(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct udp_from from[3] = { 0 };
        struct sockaddr_storage nobody;
        struct udp udp;

        for (size_t f = 0; f < HARNESS_N(families); f++) {
                memset(from, 0, sizeof(from));
                udp_start(&udp, families[f]);
                close(udp_peer(families[f], &nobody));
                for (size_t i = 0; i < 3; i++)
                        assert_ok(udp_recvfrom(&udp, udp.client.memory + 10 * i, 10, OVL_WANT_VERDICT, &from[i]));
                for (size_t i = 0; i < 2; i++) {
                        assert_ok(udp_sendto(&udp, &nobody, udp.client.memory + 50, 1, &sending));
                        client_expect(&udp.client, &sending, 0, 1);
                }
                for (size_t i = 0; i < 2; i++) {
                        client_expect(&udp.client, &from[i].overlapped, -ECONNREFUSED, 0);
                        assert_int_equal(from[i].len, 0);
                }
                udp_give(&udp, "alive", 5);
                udp_expect_from(&udp, &from[2], 0, 5);
                udp_stop(&udp);
        }
}

/* Where no receive is posted, the next ones are told: no send is, with or without a peer, and the socket goes on. */
static void datagrams_that_are_refused_end_no_send(void **state) {
        struct ovl_overlapped sending = { 0 }, polling = { 0 };
        struct udp_from from = { 0 };
        struct sockaddr_storage nobody;
        struct udp udp;
        int error;

        for (size_t f = 0; f < 4; f++) {
                udp_start(&udp, families[f / 2]);
                close(udp_peer(families[f / 2], &nobody));
                if (f % 2)
                        udp_connect(&udp, &nobody);
                for (size_t i = 0; i < 4; i++) {
                        assert_ok(udp_sendto(&udp, &nobody, udp.client.memory, 1, &sending));
                        client_expect(&udp.client, &sending, 0, 1);
                }
                memcpy(udp.client.memory, "alive", 5);
                assert_ok(udp_sendto(&udp, &udp.peer, udp.client.memory, 5, &sending));
                client_expect(&udp.client, &sending, 0, 5);
                udp_expect(&udp, udp.fd, "alive", 5);
                assert_ok(ovl_poll(udp.client.thread, udp.socket, POLLIN, 0, &polling, NULL));
                client_expect(&udp.client, &polling, 0, 0);
                assert_int_equal(polling.value, POLLERR);
                assert_ok(ovl_getsockopt(udp.client.thread, udp.socket, SOL_SOCKET, SO_ERROR, &error));
                assert_int_equal(error, ECONNREFUSED);
                for (size_t i = 0; i < 3; i++) {
                        assert_ok(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from));
                        client_expect(&udp.client, &from.overlapped, -ECONNREFUSED, 0);
                }
                assert_ok(ovl_getsockopt(udp.client.thread, udp.socket, SOL_SOCKET, SO_ERROR, &error));
                assert_int_equal(error, 0);
                assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from), OVL_PENDING);
                if (f % 2)
                        udp_connect(&udp, &udp.peer);
                udp_give(&udp, "alive", 5);
                udp_expect_from(&udp, &from, 0, 5);
                udp_stop(&udp);
        }
}

/* Nobody is told who does not want to be. */
static void datagrams_to_nobody_may_be_lost_in_silence(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct udp_from from = { 0 };
        struct sockaddr_storage nobody;
        struct udp udp;
        int value;

        for (size_t f = 0; f < 4; f++) {
                int level = f / 2 ? IPPROTO_IPV6 : IPPROTO_IP, name = f / 2 ? IPV6_RECVERR : IP_RECVERR;

                udp_start(&udp, families[f / 2]);
                assert_ok(ovl_getsockopt(udp.client.thread, udp.socket, level, name, &value));
                assert_int_equal(value, 1);
                close(udp_peer(families[f / 2], &nobody));
                if (f % 2)
                        udp_connect(&udp, &nobody);
                /* One that is there already is forgotten. */
                assert_ok(udp_sendto(&udp, &nobody, udp.client.memory, 1, &sending));
                client_expect(&udp.client, &sending, 0, 1);
                assert_ok(ovl_setsockopt(udp.client.thread, udp.socket, level, name, 0));
                assert_ok(ovl_getsockopt(udp.client.thread, udp.socket, level, name, &value));
                assert_int_equal(value, 0);
                assert_ok(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from));
                for (size_t i = 0; i < 3; i++) {
                        assert_ok(udp_sendto(&udp, &nobody, udp.client.memory, 1, &sending));
                        client_expect(&udp.client, &sending, 0, 1);
                }
                if (f % 2)
                        udp_connect(&udp, &udp.peer);
                udp_give(&udp, "alive", 5);
                udp_expect_from(&udp, &from, 0, 5);
                /* And whoever changes his mind is told. */
                assert_ok(ovl_setsockopt(udp.client.thread, udp.socket, level, name, 1));
                if (f % 2)
                        udp_connect(&udp, &nobody);
                assert_ok(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from));
                assert_ok(udp_sendto(&udp, &nobody, udp.client.memory, 1, &sending));
                client_expect(&udp.client, &sending, 0, 1);
                client_expect(&udp.client, &from.overlapped, -ECONNREFUSED, 0);
                udp_stop(&udp);
        }
}

/* What is too long leaves something in the queue of refusals, which is none, and keeps no receive from being served. */
static void datagrams_that_are_too_long_are_no_refusals(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct udp_from from = { 0 };
        struct ovl_buffer halves[2];
        struct udp udp;

        udp_start(&udp, AF_INET);
        udp_connect(&udp, &udp.peer);
        assert_ok(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from));
        halves[0] = halves[1] = (struct ovl_buffer){ udp.client.memory + 100, 35000 };
        for (size_t i = 0; i < 3; i++) {
                assert_ok(ovl_send(udp.client.thread, udp.socket, halves, 2, 0, &sending, NULL));
                client_expect(&udp.client, &sending, -EMSGSIZE, 0);
        }
        udp_give(&udp, "alive", 5);
        udp_expect_from(&udp, &from, 0, 5);
        udp_stop(&udp);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

static void datagrams_awaited_end_with_the_socket(void **state) {
        struct ovl_overlapped plain[3] = { 0 };
        struct udp_from from[3] = { 0 };
        struct udp udp;

        udp_start(&udp, AF_INET);
        for (size_t i = 0; i < 3; i++) {
                assert_ok(udp_recvfrom(&udp, udp.client.memory, 10, 0, &from[i]));
                assert_ok(client_recv(&udp.client, udp.socket, udp.client.memory + 10, 10, 0, &plain[i]));
        }
        /* One in the middle is cancelled: those around it are not disturbed. */
        assert_int_equal(ovl_cancel(udp.client.thread, udp.socket, &plain[0]), 1);
        client_expect(&udp.client, &plain[0], -ECANCELED, 0);
        udp_give(&udp, "a", 1);
        udp_give(&udp, "b", 1);
        udp_expect_from(&udp, &from[0], 0, 1);
        udp_expect_from(&udp, &from[1], 0, 1);
        assert_ok(ovl_socket_close(udp.client.thread, udp.socket));
        client_expect(&udp.client, &plain[1], -ECANCELED, 0);
        client_expect(&udp.client, &plain[2], -ECANCELED, 0);
        client_expect(&udp.client, &from[2].overlapped, -ECANCELED, 0);
        assert_int_equal(from[2].len, 0);
        assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 10, OVL_WANT_VERDICT, &from[0]), -EBADF);
        udp_stop(&udp);
}

static void datagrams_stop_when_shut_down(void **state) {
        struct ovl_overlapped op = { 0 };
        struct udp udp;

        udp_start(&udp, AF_INET);
        udp_connect(&udp, &udp.peer);
        assert_ok(ovl_shutdown(udp.client.thread, udp.socket, SHUT_WR));
        assert_int_equal(client_send(&udp.client, udp.socket, udp.client.memory, 1, OVL_WANT_VERDICT, &op), -ESHUTDOWN);
        udp_give(&udp, "still", 5);
        assert_ok(client_recv(&udp.client, udp.socket, udp.client.memory, 10, 0, &op));
        client_expect(&udp.client, &op, 0, 5);
        assert_ok(ovl_shutdown(udp.client.thread, udp.socket, SHUT_RD));
        assert_int_equal(client_recv(&udp.client, udp.socket, udp.client.memory, 1, OVL_WANT_VERDICT, &op), -ESHUTDOWN);
        udp_stop(&udp);
}

/* --- Indications ------------------------------------------------------------------------------------------------ */

static void datagrams_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        ++*(unsigned *) overlapped->user;
}

/* One that was cut is a completion like any other: its routine runs, its packet comes, and both see all of it. */
static void datagrams_that_are_cut_are_indicated(void **state) {
        struct ovl_buffer buffer = { 0 };
        struct udp_from from = { 0 };
        struct ovl_packet packet;
        struct ovl_error error;
        struct ovl_port *port;
        unsigned n_run = 0;
        struct udp udp;

        udp_start(&udp, AF_INET);
        buffer = (struct ovl_buffer){ udp.client.memory, 2 };
        from.overlapped.user = &n_run;
        assert_ok(ovl_recvfrom(udp.client.thread, udp.socket, &buffer, 1, 0, &from.address, &from.len, &from.overlapped,
                               datagrams_count));
        udp_give(&udp, "long", 4);
        assert_int_equal(ovl_sleep(udp.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(n_run, 1);
        udp_expect_from(&udp, &from, -EMSGSIZE, 2);

        assert_ok(ovl_port_open(udp.client.session, 0, &port, &error));
        assert_ok(ovl_port_associate(udp.client.thread, port, udp.socket, 77));
        memset(&from, 0, sizeof(from));
        assert_ok(udp_recvfrom(&udp, udp.client.memory, 2, 0, &from));
        udp_give(&udp, "long", 4);
        assert_int_equal(ovl_port_wait(port, udp.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &from.overlapped);
        assert_int_equal(packet.key, 77);
        assert_int_equal(packet.status, -EMSGSIZE);
        assert_int_equal(packet.bytes, 2);
        assert_int_equal(from.overlapped.flags & OVL_TRUNCATED, OVL_TRUNCATED);
        assert_memory_equal(&from.address, &udp.peer, udp.len);
        ovl_port_close(port);
        udp_stop(&udp);
}

/* --- Refusals --------------------------------------------------------------------------------------------------- */

static void datagrams_refuse_what_is_for_streams(void **state) {
        struct sockaddr_storage inet6;
        struct ovl_overlapped op = { 0 };
        struct udp_from from = { 0 };
        struct udp udp;
        int r;

        udp_start(&udp, AF_INET);
        assert_int_equal(ovl_listen(udp.client.thread, udp.socket, 1), -EOPNOTSUPP);
        assert_int_equal(ovl_accept(udp.client.thread, udp.socket, OVL_WANT_VERDICT, &op, NULL), -EOPNOTSUPP);
        assert_int_equal(ovl_thread_error(udp.client.thread)->reason, 2); /* OP_NOT_FOR_SOCKET */
        r = client_recv(&udp.client, udp.socket, udp.client.memory, 1, OVL_WAITALL | OVL_WANT_VERDICT, &op);
        assert_int_equal(r, -EOPNOTSUPP);
        assert_int_equal(ovl_thread_error(udp.client.thread)->reason, 3); /* UNKNOWN_FLAGS */
        r = ovl_sendto(udp.client.thread, udp.socket, NULL, 0, OVL_WANT_VERDICT, (struct sockaddr *) &inet6,
                       client_loopback(AF_INET6, &inet6), &op, NULL);
        assert_int_equal(r, -EAFNOSUPPORT);
        r = ovl_sendto(udp.client.thread, udp.socket, NULL, 0, 0, (struct sockaddr *) &udp.peer, 3, &op, NULL);
        assert_int_equal(r, -EINVAL);
        r = ovl_recvfrom(udp.client.thread, udp.socket, NULL, 0, 0, &from.address, &from.len, &op, NULL);
        assert_int_equal(r, -EINVAL);
        r = ovl_recvfrom(udp.client.thread, udp.socket, &(struct ovl_buffer){ udp.client.memory, 1 }, 1, 0,
                         &from.address, NULL, &op, NULL);
        assert_int_equal(r, -EINVAL);
        assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 1, OVL_WAITALL, &from), -EOPNOTSUPP);
        assert_int_equal(udp_recvfrom(&udp, &r, 1, 0, &from), -EFAULT);

        /* And the other way round. */
        assert_ok(ovl_socket_open(udp.client.thread, AF_INET, SOCK_STREAM, &udp.socket));
        assert_int_equal(udp_recvfrom(&udp, udp.client.memory, 1, OVL_WANT_VERDICT, &from), -EOPNOTSUPP);
        assert_int_equal(ovl_thread_error(udp.client.thread)->reason, 2);
        assert_ok(udp_sendto(&udp, &udp.peer, udp.client.memory, 1, &op));
        client_expect(&udp.client, &op, -EOPNOTSUPP, 0);
        udp_stop(&udp);
}

static void datagrams_have_options(void **state) {
        static const struct {
                int family, level, name, set;
        } options[] = {
                { AF_INET, SOL_SOCKET, SO_BROADCAST, 1 },
                { AF_INET, SOL_SOCKET, SO_REUSEADDR, 1 },
                { AF_INET, IPPROTO_IP, IP_TTL, 7 },
                { AF_INET, IPPROTO_IP, IP_TOS, 16 },
                { AF_INET, IPPROTO_IP, IP_MULTICAST_TTL, 9 },
                { AF_INET, IPPROTO_IP, IP_MULTICAST_LOOP, 0 },
                { AF_INET6, SOL_SOCKET, SO_BROADCAST, 1 },
                { AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, 1 },
                { AF_INET6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7 },
                { AF_INET6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 9 },
                { AF_INET6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0 },
                { AF_INET, IPPROTO_IP, IP_RECVERR, 0 },
                { AF_INET6, IPPROTO_IPV6, IPV6_RECVERR, 0 },
        };
        static const struct {
                int family, type, level, name;
        } refused[] = {
                { AF_INET, SOCK_DGRAM, IPPROTO_TCP, TCP_NODELAY },
                { AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_KEEPALIVE },
                { AF_INET, SOCK_DGRAM, IPPROTO_IPV6, IPV6_V6ONLY },
                { AF_INET, SOCK_STREAM, SOL_SOCKET, SO_BROADCAST },
                { AF_INET, SOCK_STREAM, IPPROTO_IP, IP_MULTICAST_TTL },
                { AF_INET6, SOCK_STREAM, IPPROTO_IPV6, IPV6_MULTICAST_LOOP },
                { AF_UNIX, SOCK_DGRAM, SOL_SOCKET, SO_REUSEADDR },
                { AF_UNIX, SOCK_DGRAM, IPPROTO_IP, IP_RECVERR },
                { AF_INET, SOCK_STREAM, IPPROTO_IP, IP_RECVERR },
                { AF_UNIX, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY },
        };
        struct client client;
        uint64_t socket;
        int value;

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(options); i++) {
                assert_ok(ovl_socket_open(client.thread, options[i].family, SOCK_DGRAM, &socket));
                assert_ok(ovl_setsockopt(client.thread, socket, options[i].level, options[i].name, options[i].set));
                assert_ok(ovl_getsockopt(client.thread, socket, options[i].level, options[i].name, &value));
                assert_int_equal(value, options[i].set);
                assert_ok(ovl_socket_close(client.thread, socket));
        }
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_int_equal(ovl_setsockopt(client.thread, socket, IPPROTO_IP, IP_TTL, 256), -EINVAL);
        assert_int_equal(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_ERROR, 0), -ENOPROTOOPT);
        for (size_t i = 0; i < HARNESS_N(refused); i++) {
                const struct ovl_error *error = ovl_thread_error(client.thread);

                assert_ok(ovl_socket_open(client.thread, refused[i].family, refused[i].type, &socket));
                assert_int_equal(ovl_setsockopt(client.thread, socket, refused[i].level, refused[i].name, 1),
                                 -ENOPROTOOPT);
                assert_int_equal(error->reason, 2); /* OP_NOT_FOR_SOCKET */
                assert_non_null(strstr(error->text, "means nothing to a socket of"));
                assert_int_equal(ovl_getsockopt(client.thread, socket, refused[i].level, refused[i].name, &value),
                                 -ENOPROTOOPT);
                assert_ok(ovl_socket_close(client.thread, socket));
        }
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "datagrams come one by one", datagrams_come_one_by_one },
                { "datagrams leave one by one", datagrams_leave_one_by_one },
                { "datagrams gather and scatter", datagrams_gather_and_scatter },
                { "datagrams are cut and say so", datagrams_are_cut_and_say_so },
                { "datagrams may be empty", datagrams_may_be_empty },
                { "datagrams are taken by empty receives", datagrams_are_taken_by_empty_receives },
                { "datagrams of too many bytes do not leave", datagrams_of_too_many_bytes_do_not_leave },
                { "datagrams can be peeked at", datagrams_can_be_peeked_at },
                { "datagrams go where they are sent", datagrams_go_where_they_are_sent },
                { "datagrams need a destination", datagrams_need_a_destination },
                { "datagrams find only sockets with a name", datagrams_find_only_named_sockets },
                { "datagrams that are refused end one receive", datagrams_that_are_refused_end_one_receive },
                { "datagrams that are refused end as many receives", datagrams_that_are_refused_end_as_many_receives },
                { "datagrams that are refused end no send", datagrams_that_are_refused_end_no_send },
                { "datagrams to nobody may be lost in silence", datagrams_to_nobody_may_be_lost_in_silence },
                { "datagrams that are too long are no refusals", datagrams_that_are_too_long_are_no_refusals },
                { "datagrams that are awaited end with the socket", datagrams_awaited_end_with_the_socket },
                { "datagrams stop when shut down", datagrams_stop_when_shut_down },
                { "datagrams that are cut are indicated", datagrams_that_are_cut_are_indicated },
                { "datagrams refuse what is for streams", datagrams_refuse_what_is_for_streams },
                { "datagrams have options", datagrams_have_options },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
