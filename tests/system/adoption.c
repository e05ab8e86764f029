/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets that come into the daemon and leave it. Whatever else comes as a descriptor is refused by name and closed
 * where nobody waits for it; a stream loses no byte on either way.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

/* --- What is accepted ------------------------------------------------------------------------------------------- */

/* Two ordinary connected TCP sockets. */
static void adoption_pair(int ret_fds[2]) {
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);

        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(ret_fds[0], (struct sockaddr *) &address, len), 0);
        ret_fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(ret_fds[1] >= 0);
        close(listener);
}

/* The same: one of them, and the other. */
static int adoption_pair_one(int *ret_other) {
        int fds[2];

        adoption_pair(fds);
        *ret_other = fds[1];
        return fds[0];
}

/* Gives the daemon a socket, and keeps nothing of it. */
static uint64_t adoption_give(struct client *client, int take_fd) {
        uint64_t socket;
        int r;

        r = ovl_socket_adopt(client->thread, take_fd, &socket);
        if (r < 0)
                fail_msg("not adopted: %s", ovl_thread_error(client->thread)->text);
        close(take_fd);
        return socket;
}

/* Both directions of an adopted stream. */
static void adoption_talk(struct client *client, uint64_t socket, int fd) {
        struct ovl_overlapped receiving = { 0 }, sending = { 0 };

        assert_int_equal(client_recv(client, socket, client->memory, 100, 0, &receiving), OVL_PENDING);
        peer_write(fd, "ping", 4);
        client_expect(client, &receiving, 0, 4);
        assert_ok(client_send(client, socket, client->memory, 4, 0, &sending));
        client_expect(client, &sending, 0, 4);
        peer_read(fd, client->memory + 100, 4);
        assert_memory_equal(client->memory + 100, "ping", 4);
        assert_ok(ovl_socket_close(client->thread, socket));
        peer_expect_end(fd);
        close(fd);
}

static void adoption_of_streams(void **state) {
        struct client client;
        int fds[2];

        client_start(&client);
        adoption_pair(fds);
        adoption_talk(&client, adoption_give(&client, fds[0]), fds[1]);
        adoption_pair(fds);
        assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        adoption_talk(&client, adoption_give(&client, fds[0]), fds[1]);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        adoption_talk(&client, adoption_give(&client, fds[0]), fds[1]);
        client_stop(&client);
}

static void adoption_of_a_listener(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET6, &address);
        struct client client;
        uint64_t listener;
        int fd;

        client_start(&client);
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(fd, 4), 0);
        listener = adoption_give(&client, fd);
        assert_ok(ovl_getsockname(client.thread, listener, (struct sockaddr *) &address, &len));
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(ovl_accept(client.thread, listener, 0, &accepting, NULL), OVL_PENDING);
        client_expect(&client, &accepting, 0, 0);
        adoption_talk(&client, accepting.value, fd);
        client_stop(&client);
}

static void adoption_of_an_unconnected_socket(void **state) {
        struct ovl_overlapped connecting = { 0 };
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        struct client client;
        uint64_t socket_id;
        int listener;

        client_start(&client);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 4), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        socket_id = adoption_give(&client, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        assert_int_equal(client_recv(&client, socket_id, client.memory, 1, OVL_WANT_VERDICT, &connecting), -ENOTCONN);
        assert_ok(ovl_connect(client.thread, socket_id, (struct sockaddr *) &address, len, 0, &connecting, NULL));
        client_expect(&client, &connecting, 0, 0);
        adoption_talk(&client, socket_id, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        close(listener);
        client_stop(&client);
}

/* What the reply says of each kind. */
static void adoption_says_what_came(void **state) {
        static const struct {
                int family, type;
        } kinds[] = {
                { AF_INET, SOCK_STREAM }, { AF_INET6, SOCK_STREAM }, { AF_UNIX, SOCK_STREAM },
                { AF_INET, SOCK_DGRAM },  { AF_INET6, SOCK_DGRAM },  { AF_UNIX, SOCK_DGRAM },
        };
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketAdopt adopt = OVERLAPD__SOCKET_ADOPT__INIT;
        struct estate estate;
        struct raw *raw;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT;
        request.socket_adopt = &adopt;
        for (size_t i = 0; i < HARNESS_N(kinds); i++) {
                _cleanup_fd_ int fd = socket(kinds[i].family, kinds[i].type | SOCK_CLOEXEC, 0);

                assert_true(fd >= 0);
                assert_int_equal(raw_call(raw, &request, fd), 0);
                assert_int_equal(raw->reply->socket_taken->family, kinds[i].family);
                assert_int_equal(raw->reply->socket_taken->type, kinds[i].type);
                assert_false(raw->reply->socket_taken->listens);
                request.id = 0;
        }
        raw_close(raw);
        estate_stop(&estate);
}

/* --- What is refused -------------------------------------------------------------------------------------------- */

static int adoption_file(int flags) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), "%s/file", harness_directory());
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        close(fd);
        return open(path, flags | O_CLOEXEC);
}

static int adoption_pipe(void) {
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        close(fds[0]);
        return fds[1];
}

/* A connect that nobody answers: the queue of the listener is full. */
static int adoption_connecting(int ret_fillers[3]) {
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        int fd = -1;

        ret_fillers[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(ret_fillers[0], (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(ret_fillers[0], 0), 0);
        assert_int_equal(getsockname(ret_fillers[0], (struct sockaddr *) &address, &len), 0);
        for (size_t i = 1; i < 3; i++) {
                ret_fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                connect(ret_fillers[i], (struct sockaddr *) &address, len);
        }
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), -1);
        assert_int_equal(errno, EINPROGRESS);
        return fd;
}

static void adoption_expect_refusal(struct raw *raw, int take_fd, const char *text) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketAdopt adopt = OVERLAPD__SOCKET_ADOPT__INIT;
        _cleanup_fd_ int fd = take_fd;

        /* Not every kernel or user may have all kinds. */
        if (fd < 0)
                return;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT;
        request.socket_adopt = &adopt;
        assert_int_equal(raw_call(raw, &request, fd), -EBADFD);
        assert_int_equal(raw->reply->reason, OVL_REASON_BAD_DESCRIPTOR);
        if (!strstr(raw->reply->text, text))
                fail_msg("'%s' does not say '%s'", raw->reply->text, text);
}

/* HOSTILE 64, 66. A ring of io_uring cannot be passed at all. */
static void adoption_refuses_all_else(void **state) {
        struct estate estate;
        int fillers[3];
        struct raw *raw;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        adoption_expect_refusal(raw, adoption_file(O_RDWR), "a file");
        adoption_expect_refusal(raw, adoption_file(O_PATH), "O_PATH");
        adoption_expect_refusal(raw, open("/dev/zero", O_RDWR | O_CLOEXEC), "a file");
        adoption_expect_refusal(raw, open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a file");
        adoption_expect_refusal(raw, open("/proc/self/mem", O_RDWR | O_CLOEXEC), "a file");
        adoption_expect_refusal(raw, adoption_pipe(), "a pipe");
        adoption_expect_refusal(raw, epoll_create1(EPOLL_CLOEXEC), "a file");
        adoption_expect_refusal(raw, eventfd(0, EFD_CLOEXEC), "a file");
        adoption_expect_refusal(raw, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "a file");
        adoption_expect_refusal(raw, (int) syscall(SYS_pidfd_open, getpid(), 0), "a file");
        adoption_expect_refusal(raw, inotify_init1(IN_CLOEXEC), "a file");
        adoption_expect_refusal(raw, raw_memfd(4096), "memory");
        adoption_expect_refusal(raw, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "another family");
        adoption_expect_refusal(raw, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "another type");
        adoption_expect_refusal(raw, socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), "another type");
        adoption_expect_refusal(raw, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE), "another protocol");
        adoption_expect_refusal(raw, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262 /* MPTCP */), "another protocol");
        adoption_expect_refusal(raw, adoption_connecting(fillers), "connecting");
        for (size_t i = 0; i < 3; i++)
                close(fillers[i]);
        adoption_expect_refusal(raw, fcntl(raw->fd, F_DUPFD_CLOEXEC, 3), "a connection to overlapd");
        assert_int_equal(raw_status(raw), 0);
        raw_close(raw);
        estate_stop(&estate);
}

static void adoption_needs_a_descriptor(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketAdopt adopt = OVERLAPD__SOCKET_ADOPT__INIT;
        struct client client;
        struct raw *raw;
        uint64_t socket;

        client_start(&client);
        assert_int_equal(ovl_socket_adopt(client.thread, -1, &socket), -EBADF);
        assert_int_equal(ovl_socket_adopt(client.thread, 1000, &socket), -EBADF);
        assert_ok(ovl_status(client.thread, &(struct ovl_status){ 0 }));
        raw = raw_open(&client.estate.daemon, 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT;
        request.socket_adopt = &adopt;
        raw_send(raw, &request, -1);
        raw_expect_kick(raw, OVL_REASON_BAD_FRAME, "descriptors");
        raw_close(raw);
        client_stop(&client);
}

/* HOSTILE 65: the last close of an adopted socket takes as long as the client chose, and holds up nobody. */
static void adoption_of_a_lingering_socket(void **state) {
        struct linger forever = { .l_onoff = 1, .l_linger = 1000 };
        static char bytes[1 << 20];
        struct client client, other;
        uint64_t socket;
        int fds[2];

        client_start(&client);
        other = client;
        client_open(&other, 0);
        adoption_pair(fds);
        while (send(fds[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                continue;
        assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &forever, sizeof(forever)), 0);
        assert_ok(ovl_socket_adopt(other.thread, fds[0], &socket));
        close(fds[0]);
        assert_ok(ovl_socket_close(other.thread, socket));
        assert_ok(ovl_status(client.thread, &(struct ovl_status){ 0 }));
        client_close(&other);
        assert_ok(ovl_status(client.thread, &(struct ovl_status){ 0 }));
        peer_reset(fds[1]);
        client_stop(&client);
}

/* It does not hold up the closing of other descriptors either: they would pile up until the worker can have no more. */
static void adoption_of_lingering_sockets_leaves_room(void **state) {
        struct linger forever = { .l_onoff = 1, .l_linger = 1000 };
        static char bytes[1 << 20];
        struct client client;
        uint64_t socket;
        int fds[2], other;

        client_start(&client);
        for (size_t i = 0; i < 3; i++) {
                int n_fds = daemon_count_fds(client.estate.worker);

                adoption_pair(fds);
                while (send(fds[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                        continue;
                assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &forever, sizeof(forever)), 0);
                socket = adoption_give(&client, fds[0]);
                assert_ok(ovl_socket_close(client.thread, socket));
                fds[0] = adoption_pair_one(&other);
                adoption_talk(&client, adoption_give(&client, fds[0]), other);
                daemon_wait_fds(client.estate.worker, n_fds);
                peer_reset(fds[1]);
        }
        client_stop(&client);
}

/* The same for connections that an adopted listener accepted: they linger as it does. */
static void adoption_of_a_lingering_listener(void **state) {
        struct linger forever = { .l_onoff = 1, .l_linger = 1000 };
        struct ovl_overlapped accepting = { 0 }, sending = { 0 };
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        struct client client, other;
        uint64_t listener;
        int fd;

        client_start(&client);
        other = client;
        client_open(&other, 0);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &forever, sizeof(forever)), 0);
        assert_int_equal(listen(fd, 4), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
        listener = adoption_give(&other, fd);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(ovl_accept(other.thread, listener, 0, &accepting, NULL), OVL_PENDING);
        client_expect(&other, &accepting, 0, 0);
        assert_ok(client_send(&other, accepting.value, other.memory, CLIENT_MEMORY, 0, &sending));
        assert_ok(ovl_socket_close(other.thread, accepting.value));
        assert_ok(ovl_status(client.thread, &(struct ovl_status){ 0 }));
        client_close(&other);
        assert_ok(ovl_status(client.thread, &(struct ovl_status){ 0 }));
        peer_reset(fd);
        client_stop(&client);
}

/* In a child: another user, who was let in by the mode of the socket. */
static void adoption_by_another_user(const char *path) {
        struct ovl_session_options options = { .path = path };
        struct ovl_session *session;
        struct ovl_thread *thread;
        uint64_t socket;
        int pair[2];

        assert_ok(ovl_session_open(&options, &session, NULL));
        assert_ok(ovl_thread_open(session, &thread, NULL));
        for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
                assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
                assert_int_equal(ovl_socket_adopt(thread, pair[0], &socket), -EACCES);
                assert_int_equal(ovl_thread_error(thread)->reason, OVL_REASON_DENIED);
                assert_non_null(strstr(ovl_thread_error(thread)->text, "Unix"));
                close(pair[0]);
                if (type == SOCK_STREAM)
                        assert_int_equal(read(pair[1], &socket, 1), 0); /* nothing of it stayed there */
                close(pair[1]);
        }
        adoption_pair(pair);
        assert_ok(ovl_socket_adopt(thread, pair[0], &socket));
}

/* HOSTILE 65: what comes along with the bytes of a Unix socket is the worker's to close, and may take for ever. */
static void adoption_of_unix_sockets_is_for_one_user(void **state) {
        struct client client;
        pid_t pid;

        harness_want_other_user();
        client_start(&client);
        assert_int_equal(chmod(client.estate.daemon.path, 0666), 0);
        pid = harness_fork_other_user();
        if (pid == 0) {
                adoption_by_another_user(client.estate.daemon.path);
                _exit(0);
        }
        harness_expect_child(pid);
        client_stop(&client);
}

/* --- Out -------------------------------------------------------------------------------------------------------- */

static void adoption_export_cancels_and_keeps_data(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client client;
        uint64_t socket;
        char bytes[8];
        int peer, fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &peer);
        assert_int_equal(client_recv(&client, socket, client.memory, 8, OVL_WANT_VERDICT, &receiving), OVL_PENDING);
        assert_ok(ovl_socket_export(client.thread, socket, &fd));
        client_expect(&client, &receiving, -ECANCELED, 0);
        assert_int_equal(receiving.reason, OVL_REASON_EXPORTED);
        assert_int_equal(ovl_socket_export(client.thread, socket, &fd), -EBADF);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
        peer_write(peer, "come", 4);
        peer_read(fd, bytes, 4);
        assert_memory_equal(bytes, "come", 4);
        peer_write(fd, "back", 4);
        peer_read(peer, bytes, 4);
        assert_memory_equal(bytes, "back", 4);
        close(fd);
        peer_expect_end(peer);
        close(peer);
        client_stop(&client);
}

#define ADOPTION_STREAM (4u << 20)

static void *adoption_write_stream(void *argument) {
        static char bytes[ADOPTION_STREAM];

        pattern_fill(bytes, sizeof(bytes), 0);
        peer_write(*(int *) argument, bytes, sizeof(bytes));
        return NULL;
}

/* A stream is read in turns by the daemon and by this process, while it comes. */
static void adoption_loses_no_byte(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client client;
        uint64_t socket, at = 0;
        pthread_t writer;
        int peer, fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &peer);
        assert_int_equal(pthread_create(&writer, NULL, adoption_write_stream, &peer), 0);
        while (at < ADOPTION_STREAM) {
                size_t left = ADOPTION_STREAM - at, len = left < 50000 ? left : 50000;

                assert_int_equal(client_recv(&client, socket, client.memory, len, 0, &receiving), OVL_PENDING);
                assert_ok(ovl_socket_export(client.thread, socket, &fd));
                client_await(&client, &receiving);
                pattern_check(client.memory, receiving.bytes, at);
                at += receiving.bytes;
                left = ADOPTION_STREAM - at;
                len = left < 30000 ? left : 30000;
                peer_read(fd, client.memory, len);
                pattern_check(client.memory, len, at);
                at += len;
                socket = adoption_give(&client, fd);
        }
        pthread_join(writer, NULL);
        close(peer);
        client_stop(&client);
}

static void *adoption_read_stream(void *argument) {
        static char bytes[CLIENT_MEMORY * 8];

        peer_read(*(int *) argument, bytes, sizeof(bytes));
        for (size_t i = 0; i < 8; i++)
                pattern_check(bytes + i * CLIENT_MEMORY, CLIENT_MEMORY, 0);
        return NULL;
}

/* More than the kernel holds is queued: it leaves before the socket does. */
static void adoption_export_sends_what_is_queued(void **state) {
        static struct ovl_overlapped sending[8];
        struct client client;
        pthread_t reader;
        uint64_t socket;
        char byte = 'x';
        int peer, fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &peer);
        pattern_fill(client.memory, CLIENT_MEMORY, 0);
        for (size_t i = 0; i < HARNESS_N(sending); i++)
                assert_ok(client_send(&client, socket, client.memory, CLIENT_MEMORY, 0, &sending[i]));
        assert_int_equal(pthread_create(&reader, NULL, adoption_read_stream, &peer), 0);
        assert_ok(ovl_socket_export(client.thread, socket, &fd));
        for (size_t i = 0; i < HARNESS_N(sending); i++)
                client_expect(&client, &sending[i], 0, CLIENT_MEMORY);
        peer_write(fd, "after", 5);
        pthread_join(reader, NULL);
        peer_read(peer, &byte, 1);
        assert_int_equal(byte, 'a');
        close(fd);
        close(peer);
        client_stop(&client);
}

/* What tells of refused datagrams is set on sockets that are opened here; a socket from elsewhere is its owner's. */
static void adoption_leaves_error_queues_alone(void **state) {
        _cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), exported = -1;
        struct client client;
        int value = -1;
        socklen_t len = sizeof(value);
        uint64_t socket;

        client_start(&client);
        assert_ok(ovl_socket_adopt(client.thread, fd, &socket));
        assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_RECVERR, &value, &len), 0);
        assert_int_equal(value, 0);
        assert_ok(ovl_setsockopt(client.thread, socket, IPPROTO_IP, IP_RECVERR, 1));
        assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_RECVERR, &value, &len), 0);
        assert_int_equal(value, 1);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_ok(ovl_socket_export(client.thread, socket, &exported));
        assert_int_equal(getsockopt(exported, IPPROTO_IP, IP_RECVERR, &value, &len), 0);
        assert_int_equal(value, 0);
        client_stop(&client);
}

/* What its buffer was here is no concern of who has the socket after the daemon: he receives again. */
static void adoption_leaves_datagrams(void **state) {
        struct sockaddr_storage address;
        struct client client;
        uint64_t socket_number;
        char byte = 0;
        socklen_t len;
        int fd, peer;

        client_start(&client);
        for (unsigned is_stopped = 0; is_stopped < 2; is_stopped++) {
                fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                len = client_loopback(AF_INET, &address);
                assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
                assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
                assert_int_equal(connect(peer, (struct sockaddr *) &address, len), 0);
                assert_ok(ovl_socket_adopt(client.thread, fd, &socket_number));
                assert_ok(ovl_setsockopt(client.thread, socket_number, SOL_SOCKET, SO_RCVBUF, 0));
                assert_int_equal(send(peer, "a", 1, 0), 1);
                assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1); /* nobody receives there */
                if (is_stopped) {
                        ovl_region_close(client.thread, client.region);
                        client.region = NULL;
                        daemon_stop(&client.estate.daemon);
                        client_close(&client);
                } else {
                        assert_ok(ovl_socket_close(client.thread, socket_number));
                        daemon_wait_fds(client.estate.worker, client.estate.n_worker_fds + 1);
                }
                assert_int_equal(send(peer, "b", 1, 0), 1);
                assert_int_equal(recv(fd, &byte, 1, 0), 1);
                assert_int_equal(byte, 'b');
                close(fd);
                close(peer);
        }
}

static void adoption_export_needs_to_be_alone(void **state) {
        struct client client, other;
        struct ovl_session_info info;
        struct ovl_ticket ticket;
        uint64_t socket, joined;
        int peer, fd;

        client_start(&client);
        other = client;
        client_open(&other, 0);
        ovl_session_info(other.session, &info);
        socket = client_pair(&client, AF_INET, &peer);
        assert_ok(ovl_socket_share(client.thread, socket, info.session, &ticket));
        assert_ok(ovl_socket_join(other.thread, &ticket, &joined));
        assert_ok(ovl_socket_share(client.thread, socket, info.session, &ticket));
        assert_int_equal(ovl_socket_export(client.thread, socket, &fd), -EBUSY);
        assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_OUT_OF_ORDER);
        assert_ok(ovl_socket_close(other.thread, joined));
        assert_ok(ovl_socket_export(client.thread, socket, &fd));
        assert_int_equal(ovl_socket_join(other.thread, &ticket, &joined), -ENOENT);
        close(fd);
        close(peer);
        client_close(&other);
        client_stop(&client);
}

/* A client that asks for its socket and dies: before the sends have left, and before the reply was read. */
static void adoption_export_of_a_dead_client(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketExport export = OVERLAPD__SOCKET_EXPORT__INIT;
        struct ovl_entry entry = { .op = OVL_OP_SEND, .n_slots = 1, .buffer = { 0, 64u << 20, 1 } };
        struct estate estate;

        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT;
        request.socket_export = &export;
        estate_start(&estate, NULL);
        for (unsigned is_stuck = 0; is_stuck < 2; is_stuck++) {
                struct raw *raw = raw_open(&estate.daemon, 0);
                _cleanup_fd_ int memory_fd = raw_memfd(64u << 20);
                _cleanup_fd_ int peer = -1;

                assert_int_equal(raw_region_add(raw, memory_fd, 64u << 20), 1);
                export.socket = entry.socket = raw_pair(raw, &peer);
                if (is_stuck)
                        raw_post(raw, &entry, 1);
                request.id = 0;
                raw_send(raw, &request, -1);
                raw_close(raw);
                estate_check(&estate);
        }
        estate_stop(&estate);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "connected streams are adopted", adoption_of_streams },
                { "a listener is adopted", adoption_of_a_listener },
                { "an unconnected socket is adopted", adoption_of_an_unconnected_socket },
                { "the reply says what came", adoption_says_what_came },
                { "all other descriptors are refused by name", adoption_refuses_all_else },
                { "no descriptor is no request", adoption_needs_a_descriptor },
                { "a lingering socket holds up nobody", adoption_of_a_lingering_socket },
                { "lingering sockets leave room for others", adoption_of_lingering_sockets_leaves_room, 60 },
                { "a lingering listener holds up nobody", adoption_of_a_lingering_listener, 20 },
                { "Unix sockets of other users stay outside", adoption_of_unix_sockets_is_for_one_user },
                { "export cancels what waits, and keeps what comes", adoption_export_cancels_and_keeps_data },
                { "export sends what is queued", adoption_export_sends_what_is_queued },
                { "in and out again no byte is lost", adoption_loses_no_byte, 60 },
                { "adoption leaves error queues alone", adoption_leaves_error_queues_alone },
                { "adoption leaves datagrams to others", adoption_leaves_datagrams },
                { "export needs the socket alone", adoption_export_needs_to_be_alone },
                { "a client dies with its export under way", adoption_export_of_a_dead_client },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
