/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Unix sockets, streams and datagrams: paths, abstract names and sockets that have neither. The other end is an
 * ordinary socket of the test, which shares the file system and the network namespace with the daemon.
 */

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/channel.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define UNIX_PATH_MAX sizeof(((struct sockaddr_un *) 0)->sun_path)

/* An address and its length, as programs pass them. */
struct name {
        struct sockaddr_un address;
        socklen_t len;
};

/* A path in the directory of the case; with len 0 as long as it is, else filled up to that many bytes. */
static struct name name_path(const char *file, size_t len) {
        struct name name = { .address.sun_family = AF_UNIX };
        char path[UNIX_PATH_MAX + 1];
        size_t n;

        n = (size_t) snprintf(path, sizeof(path), "%s/%s", harness_directory(), file);
        assert_true(n < sizeof(path) - 1);
        while (n < len)
                path[n++] = 'x';
        memcpy(name.address.sun_path, path, n);
        name.len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + (n < UNIX_PATH_MAX));
        return name;
}

/* An abstract name that no other case has. */
static struct name name_abstract(const char *suffix) {
        struct name name = { .address.sun_family = AF_UNIX };
        int n;

        n = snprintf(name.address.sun_path + 1, UNIX_PATH_MAX - 1, "overlapd-test-%d-%s", (int) getpid(), suffix);
        name.len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + (size_t) n);
        return name;
}

static const struct sockaddr *name_of(const struct name *name) {
        return (const struct sockaddr *) &name->address;
}

static int peer_bind(int type, const struct name *name) {
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, name_of(name), name->len), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 4), 0);
        return fd;
}

static uint64_t unix_open(struct client *client, int type) {
        uint64_t socket;

        assert_ok(ovl_socket_open(client->thread, AF_UNIX, type, &socket));
        return socket;
}

static int unix_connect(struct client *client, uint64_t socket, const struct name *name) {
        struct ovl_overlapped connecting = { 0 };

        assert_int_equal(ovl_connect(client->thread, socket, name_of(name), name->len, 0, &connecting, NULL),
                         OVL_PENDING);
        return client_await(client, &connecting);
}

static void unix_expect_name(struct client *client, uint64_t socket, bool peer, const struct name *name) {
        struct sockaddr_storage address = { 0 };
        socklen_t len = sizeof(address);

        if (peer)
                assert_ok(ovl_getpeername(client->thread, socket, (struct sockaddr *) &address, &len));
        else
                assert_ok(ovl_getsockname(client->thread, socket, (struct sockaddr *) &address, &len));
        assert_int_equal(len, name->len);
        assert_memory_equal(&address, &name->address, name->len);
}

/* Bytes go both ways, and so does the end. */
static void unix_exchange(struct client *client, uint64_t socket, int fd) {
        struct ovl_overlapped sending = { 0 }, receiving = { 0 };
        char data[5000];

        pattern_fill(client->memory, sizeof(data), 0);
        assert_ok(client_send(client, socket, client->memory, sizeof(data), 0, &sending));
        peer_read(fd, data, sizeof(data));
        pattern_check(data, sizeof(data), 0);
        client_expect(client, &sending, 0, sizeof(data));
        assert_ok(client_recv(client, socket, client->memory + 8192, sizeof(data), OVL_WAITALL, &receiving));
        peer_write(fd, data, sizeof(data));
        client_expect(client, &receiving, 0, sizeof(data));
        pattern_check(client->memory + 8192, sizeof(data), 0);
        assert_ok(ovl_shutdown(client->thread, socket, SHUT_WR));
        peer_expect_end(fd);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        assert_ok(client_recv(client, socket, client->memory, 10, 0, &receiving));
        client_expect(client, &receiving, 0, 0);
}

/* --- Streams ---------------------------------------------------------------------------------------------------- */

static void unix_reaches(const struct name *name) {
        const struct name unnamed = { .address.sun_family = AF_UNIX, .len = sizeof(sa_family_t) };
        _cleanup_fd_ int listener = peer_bind(SOCK_STREAM, name);
        _cleanup_fd_ int fd = -1;
        struct client client;
        uint64_t socket;

        client_start(&client);
        socket = unix_open(&client, SOCK_STREAM);
        unix_expect_name(&client, socket, false, &unnamed);
        assert_int_equal(unix_connect(&client, socket, name), 0);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        unix_expect_name(&client, socket, true, name);
        unix_exchange(&client, socket, fd);
        client_stop(&client);
}

static void unix_reaches_paths(void **state) {
        struct name name = name_path("listener", 0);

        unix_reaches(&name);
}

/* A path that fills its place has no NUL. */
static void unix_reaches_the_longest_path(void **state) {
        struct name name = name_path("long-", UNIX_PATH_MAX);

        assert_int_equal(name.len, sizeof(struct sockaddr_un));
        unix_reaches(&name);
}

static void unix_reaches_abstract_names(void **state) {
        struct name name = name_abstract("listener"), with_nul = name_abstract("a\0b");

        unix_reaches(&name);
        /* To an abstract name a NUL is a byte like any other. */
        memcpy(with_nul.address.sun_path + with_nul.len - offsetof(struct sockaddr_un, sun_path), "\0b", 2);
        with_nul.len += 2;
        unix_reaches(&with_nul);
}

static void unix_serves(const struct name *name) {
        const struct name unnamed = { .address.sun_family = AF_UNIX, .len = sizeof(sa_family_t) };
        struct ovl_overlapped accepting[2] = { 0 };
        struct name peer_name = name_abstract("peer");
        _cleanup_fd_ int anonymous = -1, named = -1;
        struct client client;
        uint64_t listener;

        client_start(&client);
        listener = unix_open(&client, SOCK_STREAM);
        assert_int_equal(ovl_listen(client.thread, listener, 4), -EINVAL);
        assert_ok(ovl_bind(client.thread, listener, name_of(name), name->len));
        assert_ok(ovl_listen(client.thread, listener, 4));
        unix_expect_name(&client, listener, false, name);
        for (size_t i = 0; i < 2; i++)
                assert_ok(ovl_accept(client.thread, listener, 0, &accepting[i], NULL));
        anonymous = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(anonymous, name_of(name), name->len), 0);
        client_expect(&client, &accepting[0], 0, 0);
        unix_expect_name(&client, accepting[0].value, true, &unnamed);
        unix_expect_name(&client, accepting[0].value, false, name);
        unix_exchange(&client, accepting[0].value, anonymous);
        named = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(named, name_of(&peer_name), peer_name.len), 0);
        assert_int_equal(connect(named, name_of(name), name->len), 0);
        client_expect(&client, &accepting[1], 0, 0);
        unix_expect_name(&client, accepting[1].value, true, &peer_name);
        unix_exchange(&client, accepting[1].value, named);
        client_stop(&client);
}

static void unix_serves_paths(void **state) {
        struct name name = name_path("served", 0), longest = name_path("served-", UNIX_PATH_MAX);
        struct stat status;

        unix_serves(&name);
        unix_serves(&longest);
        /* The file stays, as with bind(2). */
        assert_int_equal(lstat(name.address.sun_path, &status), 0);
        assert_true(S_ISSOCK(status.st_mode));
        assert_int_equal(unlink(name.address.sun_path), 0);
}

static void unix_serves_abstract_names(void **state) {
        struct name name = name_abstract("served");

        unix_serves(&name);
}

/* A listener without room makes a connect wait; it can be cancelled meanwhile. */
static void unix_waits_for_a_full_listener(void **state) {
        struct ovl_overlapped connecting[2] = { 0 };
        struct name name = name_path("full", 0);
        _cleanup_fd_ int listener = -1, first = -1, second = -1, blocker = -1;
        struct client client;
        uint64_t sockets[2];

        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, name_of(&name), name.len), 0);
        assert_int_equal(listen(listener, 0), 0);
        blocker = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(blocker, name_of(&name), name.len), 0);
        client_start(&client);
        for (size_t i = 0; i < 2; i++) {
                sockets[i] = unix_open(&client, SOCK_STREAM);
                assert_int_equal(ovl_connect(client.thread, sockets[i], name_of(&name), name.len, OVL_WANT_VERDICT,
                                             &connecting[i], NULL),
                                 OVL_PENDING);
        }
        assert_int_equal(ovl_cancel(client.thread, sockets[0], &connecting[0]), 1);
        client_expect(&client, &connecting[0], -ECANCELED, 0);
        assert_int_equal(ovl_wait(client.thread, &connecting[1], 50 * NS_PER_MS, 0), -ETIMEDOUT);
        first = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(first >= 0);
        client_expect(&client, &connecting[1], 0, 0);
        second = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(second >= 0);
        unix_exchange(&client, sockets[1], second);
        client_stop(&client);
}

static void unix_ends_with_its_peer(void **state) {
        struct ovl_overlapped receiving = { 0 }, sending = { 0 };
        struct name name = name_abstract("ends");
        _cleanup_fd_ int listener = peer_bind(SOCK_STREAM, &name);
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = unix_open(&client, SOCK_STREAM);
        assert_int_equal(unix_connect(&client, socket, &name), 0);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        close(fd);
        client_expect(&client, &receiving, 0, 0);
        assert_ok(client_send(&client, socket, client.memory, 10, 0, &sending));
        client_expect(&client, &sending, -ECONNRESET, 0);
        client_stop(&client);
}

/* Sends one byte and, with it, a descriptor. Returns whether the kernel let it through. */
static bool peer_give_descriptor(int fd, int gift) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec part = { "x", 1 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };

        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.align), &gift, sizeof(gift));
        if (sendmsg(fd, &message, MSG_NOSIGNAL) == 1)
                return true;
        assert_int_equal(errno, EPERM);
        return false;
}

/* HOSTILE 61: they are refused where the kernel can do that; else the byte comes, and nothing stays with the daemon. */
static void unix_takes_no_descriptors(void **state) {
        static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
        struct client client;

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(types); i++) {
                struct name name = name_abstract(types[i] == SOCK_STREAM ? "stream" : "datagram");
                struct ovl_overlapped accepting = { 0 }, receiving = { 0 };
                uint64_t receiver = unix_open(&client, types[i]);
                _cleanup_fd_ int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);

                assert_ok(ovl_bind(client.thread, receiver, name_of(&name), name.len));
                if (types[i] == SOCK_STREAM) {
                        assert_ok(ovl_listen(client.thread, receiver, 1));
                        assert_ok(ovl_accept(client.thread, receiver, 0, &accepting, NULL));
                }
                assert_int_equal(connect(fd, name_of(&name), name.len), 0);
                if (types[i] == SOCK_STREAM) {
                        client_expect(&client, &accepting, 0, 0);
                        receiver = accepting.value;
                }
                if (!peer_give_descriptor(fd, STDIN_FILENO))
                        peer_write(fd, "x", 1);
                assert_ok(client_recv(&client, receiver, client.memory, 10, 0, &receiving));
                client_expect(&client, &receiving, 0, 1);
                assert_int_equal(client.memory[0], 'x');
        }
        client_stop(&client);
}

/* A TCP socket whose last close waits for a peer that does not read; that peer, too. */
static int peer_lingering(int *ret_peer) {
        struct linger forever = { .l_onoff = 1, .l_linger = 1000 };
        _cleanup_fd_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        static char bytes[1 << 20];
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        *ret_peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                continue;
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &forever, sizeof(forever)), 0);
        return fd;
}

/*
 * HOSTILE 65: a descriptor that comes along with bytes, even before the connection is accepted, is not the worker's to
 * close. Before Linux 6.16 nobody can prevent that.
 */
static void unix_descriptors_hold_up_nobody(void **state) {
        struct name name = name_abstract("gift");
        struct ovl_overlapped accepting = { 0 }, receiving = { 0 };
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer = -1;
        struct client client;
        uint64_t listener;
        int gift;

        if (channel_allow_fds(fd, 1) < 0)
                return;
        client_start(&client);
        listener = unix_open(&client, SOCK_STREAM);
        assert_ok(ovl_bind(client.thread, listener, name_of(&name), name.len));
        assert_ok(ovl_listen(client.thread, listener, 1));
        assert_int_equal(connect(fd, name_of(&name), name.len), 0);
        gift = peer_lingering(&peer);
        assert_false(peer_give_descriptor(fd, gift));
        peer_reset(peer);
        peer = -1;
        close(gift);
        peer_write(fd, "x", 1);
        assert_ok(ovl_accept(client.thread, listener, 0, &accepting, NULL));
        client_expect(&client, &accepting, 0, 0);
        assert_ok(client_recv(&client, accepting.value, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, 0, 1);
        client_stop(&client);
}

/* --- Datagrams -------------------------------------------------------------------------------------------------- */

static int unix_recvfrom(struct client *client, uint64_t socket, void *data, size_t len, struct sockaddr_storage *from,
                         socklen_t *from_len, struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { data, len };

        return ovl_recvfrom(client->thread, socket, &buffer, 1, 0, from, from_len, overlapped, NULL);
}

static void unix_exchanges_datagrams(const struct name *ours, const struct name *theirs) {
        struct ovl_overlapped sending[2] = { 0 }, receiving = { 0 };
        struct sockaddr_storage from;
        struct ovl_buffer parts[2];
        _cleanup_fd_ int fd = peer_bind(SOCK_DGRAM, theirs);
        struct client client;
        socklen_t from_len;
        uint64_t socket;
        char data[20];

        client_start(&client);
        socket = unix_open(&client, SOCK_DGRAM);
        assert_ok(ovl_bind(client.thread, socket, name_of(ours), ours->len));
        memcpy(client.memory, "gathered", 8);
        parts[0] = (struct ovl_buffer){ client.memory, 3 };
        parts[1] = (struct ovl_buffer){ client.memory + 3, 5 };
        assert_ok(ovl_sendto(client.thread, socket, parts, 2, 0, name_of(theirs), theirs->len, &sending[0], NULL));
        assert_ok(ovl_sendto(client.thread, socket, NULL, 0, 0, name_of(theirs), theirs->len, &sending[1], NULL));
        client_expect(&client, &sending[0], 0, 8);
        client_expect(&client, &sending[1], 0, 0);
        assert_int_equal(recv(fd, data, sizeof(data), MSG_DONTWAIT), 8);
        assert_memory_equal(data, "gathered", 8);
        assert_int_equal(recv(fd, data, sizeof(data), MSG_DONTWAIT), 0);

        assert_int_equal(sendto(fd, "answer", 6, 0, name_of(ours), ours->len), 6);
        assert_int_equal(sendto(fd, "", 0, 0, name_of(ours), ours->len), 0);
        assert_ok(unix_recvfrom(&client, socket, client.memory, 3, &from, &from_len, &receiving));
        client_expect(&client, &receiving, -EMSGSIZE, 3);
        assert_int_equal(receiving.flags & OVL_TRUNCATED, OVL_TRUNCATED);
        assert_int_equal(from_len, theirs->len);
        assert_memory_equal(&from, &theirs->address, theirs->len);
        assert_ok(unix_recvfrom(&client, socket, client.memory, 3, &from, &from_len, &receiving));
        client_expect(&client, &receiving, 0, 0);
        assert_int_equal(from_len, theirs->len);
        client_stop(&client);
}

static void unix_exchanges_datagrams_by_path(void **state) {
        struct name ours = name_path("ours", 0), theirs = name_path("theirs", UNIX_PATH_MAX);

        unix_exchanges_datagrams(&ours, &theirs);
}

static void unix_exchanges_datagrams_by_name(void **state) {
        struct name ours = name_abstract("ours"), theirs = name_abstract("theirs");

        unix_exchanges_datagrams(&ours, &theirs);
}

/* The kernel finds a name for who wants any; who has none is nobody, and can be found by nobody. */
static void unix_names_may_be_missing(void **state) {
        const struct name unnamed = { .address.sun_family = AF_UNIX, .len = sizeof(sa_family_t) };
        struct ovl_overlapped sending = { 0 }, receiving = { 0 };
        struct sockaddr_storage from = { 0 }, any = { 0 };
        socklen_t from_len = 1, any_len = sizeof(any);
        struct client client;
        uint64_t bound, nameless;

        client_start(&client);
        bound = unix_open(&client, SOCK_DGRAM);
        nameless = unix_open(&client, SOCK_DGRAM);
        assert_ok(ovl_bind(client.thread, bound, name_of(&unnamed), unnamed.len));
        assert_ok(ovl_getsockname(client.thread, bound, (struct sockaddr *) &any, &any_len));
        assert_true(any_len > unnamed.len && ((struct sockaddr_un *) &any)->sun_path[0] == '\0');
        assert_ok(ovl_sendto(client.thread, nameless, NULL, 0, 0, (struct sockaddr *) &any, any_len, &sending, NULL));
        client_expect(&client, &sending, 0, 0);
        assert_ok(unix_recvfrom(&client, bound, client.memory, 3, &from, &from_len, &receiving));
        client_expect(&client, &receiving, 0, 0);
        assert_int_equal(from_len, 0);
        /* Sending has given it no name: it still cannot receive. */
        assert_int_equal(client_recv(&client, nameless, client.memory, 1, OVL_WANT_VERDICT, &receiving), -EINVAL);
        assert_ok(client_send(&client, nameless, client.memory, 1, 0, &sending));
        client_expect(&client, &sending, -EDESTADDRREQ, 0);
        assert_int_equal(ovl_sendto(client.thread, bound, NULL, 0, 0, name_of(&unnamed), unnamed.len, &sending, NULL),
                         -EINVAL);
        client_stop(&client);
}

/* The peer is gone: that is said of each datagram, and another peer can be chosen. */
static void unix_datagrams_survive_their_peer(void **state) {
        struct name first = name_path("first", 0), second = name_path("second", 0);
        struct ovl_overlapped sending = { 0 };
        _cleanup_fd_ int gone = -1, fd = -1;
        struct client client;
        uint64_t socket;
        char byte;

        gone = peer_bind(SOCK_DGRAM, &first);
        fd = peer_bind(SOCK_DGRAM, &second);
        client_start(&client);
        socket = unix_open(&client, SOCK_DGRAM);
        assert_int_equal(unix_connect(&client, socket, &first), 0);
        gone = fd_close(gone);
        assert_ok(client_send(&client, socket, client.memory, 1, 0, &sending));
        client_expect(&client, &sending, -ECONNREFUSED, 0);
        assert_int_equal(unix_connect(&client, socket, &first), -ECONNREFUSED);
        assert_int_equal(unix_connect(&client, socket, &second), 0);
        assert_ok(client_send(&client, socket, client.memory, 1, 0, &sending));
        client_expect(&client, &sending, 0, 1);
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
        client_stop(&client);
}

/* A receiver whose queue is full makes a send wait, and the next ones behind it; each can be cancelled. */
static void unix_datagrams_wait_for_a_full_receiver(void **state) {
        struct ovl_overlapped sending[600] = { 0 };
        struct name name = name_path("full", 0);
        _cleanup_fd_ int fd = peer_bind(SOCK_DGRAM, &name);
        struct client client;
        size_t n_sent = 0;
        uint64_t socket;
        uint32_t number;

        client_start(&client);
        socket = unix_open(&client, SOCK_DGRAM);
        for (uint32_t i = 0; i < HARNESS_N(sending); i++) {
                struct ovl_buffer buffer = { client.memory + 4 * i, sizeof(i) };

                memcpy(buffer.data, &i, sizeof(i));
                assert_ok(
                        ovl_sendto(client.thread, socket, &buffer, 1, 0, name_of(&name), name.len, &sending[i], NULL));
        }
        client_expect(&client, &sending[0], 0, 4);
        assert_int_equal(sending[HARNESS_N(sending) - 1].status, -EINPROGRESS);
        assert_int_equal(ovl_cancel(client.thread, socket, &sending[HARNESS_N(sending) - 1]), 1);
        for (; n_sent < HARNESS_N(sending) - 1; n_sent++) {
                struct pollfd look = { .fd = fd, .events = POLLIN };

                assert_int_equal(poll(&look, 1, (int) (client_patience() / NS_PER_MS)), 1);
                assert_int_equal(recv(fd, &number, sizeof(number), MSG_DONTWAIT), sizeof(number));
                assert_int_equal(number, n_sent);
                client_expect(&client, &sending[n_sent], 0, 4);
        }
        assert_int_equal(recv(fd, &number, sizeof(number), MSG_DONTWAIT), -1);
        client_stop(&client);
}

/* --- Refusals --------------------------------------------------------------------------------------------------- */

static void unix_refuses_relative_paths(void **state) {
        struct name relative = { .address = { AF_UNIX, "somewhere/s" }, .len = sizeof(struct sockaddr_un) };
        struct ovl_overlapped op = { 0 };
        const struct ovl_error *error;
        struct client client;
        uint64_t stream, datagram;

        client_start(&client);
        error = ovl_thread_error(client.thread);
        stream = unix_open(&client, SOCK_STREAM);
        datagram = unix_open(&client, SOCK_DGRAM);
        assert_int_equal(ovl_bind(client.thread, stream, name_of(&relative), relative.len), -EINVAL);
        assert_non_null(strstr(error->text, "somewhere/s is relative"));
        assert_non_null(strstr(error->text, "begin it with /"));
        assert_int_equal(ovl_connect(client.thread, stream, name_of(&relative), relative.len, 0, &op, NULL), -EINVAL);
        assert_non_null(strstr(error->text, "begin it with /"));
        assert_int_equal(ovl_sendto(client.thread, datagram, NULL, 0, 0, name_of(&relative), relative.len, &op, NULL),
                         -EINVAL);
        assert_non_null(strstr(error->text, "begin it with /"));
        client_stop(&client);
}

static void unix_refusals_say_what_to_do(void **state) {
        struct name name = name_path("taken", 0), nowhere = name_path("no/where", 0), other = name_path("stream", 0);
        int fd = peer_bind(SOCK_DGRAM, &name), listener = peer_bind(SOCK_STREAM, &other);
        struct client client;
        uint64_t stream, datagram;

        client_start(&client);
        stream = unix_open(&client, SOCK_STREAM);
        datagram = unix_open(&client, SOCK_DGRAM);
        assert_int_equal(ovl_bind(client.thread, stream, name_of(&name), name.len), -EADDRINUSE);
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, "ss -lxp"));
        assert_int_equal(ovl_bind(client.thread, stream, name_of(&nowhere), nowhere.len), -ENOENT);
        assert_int_equal(unix_connect(&client, stream, &nowhere), -ENOENT);
        assert_int_equal(unix_connect(&client, stream, &name), -EPROTOTYPE);
        assert_int_equal(unix_connect(&client, datagram, &other), -EPROTOTYPE);
        assert_int_equal(ovl_listen(client.thread, datagram, 1), -EOPNOTSUPP);
        assert_int_equal(ovl_socket_open(client.thread, AF_UNIX, SOCK_SEQPACKET, &stream), -ESOCKTNOSUPPORT);
        assert_int_equal(ovl_socket_open(client.thread, AF_NETLINK, SOCK_DGRAM, &stream), -EAFNOSUPPORT);
        client_stop(&client);
        close(fd);
        close(listener);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "streams reach paths", unix_reaches_paths },
                { "streams reach the longest path", unix_reaches_the_longest_path },
                { "streams reach abstract names", unix_reaches_abstract_names },
                { "streams are served at paths", unix_serves_paths },
                { "streams are served at abstract names", unix_serves_abstract_names },
                { "streams wait for a full listener", unix_waits_for_a_full_listener },
                { "streams end with their peer", unix_ends_with_its_peer },
                { "descriptors are not taken", unix_takes_no_descriptors },
                { "descriptors hold up nobody", unix_descriptors_hold_up_nobody },
                { "datagrams go by path", unix_exchanges_datagrams_by_path },
                { "datagrams go by abstract name", unix_exchanges_datagrams_by_name },
                { "names may be missing", unix_names_may_be_missing },
                { "datagram sockets survive their peer", unix_datagrams_survive_their_peer },
                { "datagrams wait for a full receiver", unix_datagrams_wait_for_a_full_receiver },
                { "relative paths are refused", unix_refuses_relative_paths },
                { "refusals say what to do", unix_refusals_say_what_to_do },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
