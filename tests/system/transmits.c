/* SPDX-License-Identifier: Apache-2.0 */

/* Files that the daemon sends: in order, whole, whatever the peer does, and whatever the descriptor is. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/system/client.h"
#include "tests/system/hanging.h"
#include "tests/system/raw.h"

#define TRANSMITS_BIG ((6u << 20) + 321) /* more than a connection holds */
#define TRANSMITS_PIECE (256u << 10)     /* what the daemon reads at a time */
#define TRANSMITS_MANY 24u               /* more than it reads at the same time */

/* The level inline lends no files: that is a case of its own. */
static void transmits_start(struct client *client) {
        struct ovl_session_info info;

        client_start(client);
        ovl_session_info(client->session, &info);
        if (info.level > 0)
                return;
        client_stop(client);
        harness_skip("the level inline lends no files");
}

/* Begins a case of a file that hangs. Before its client: the process that serves the file must not have connections. */
static void transmits_hang(struct hanging *hanging) {
        const char *level = getenv("OVERLAPD_LEVEL");

        if (level && strcmp(level, "inline") == 0)
                harness_skip("the level inline lends no files");
        hanging_start(hanging);
}

/* A file with a pattern, open for reading only. */
static int transmits_make(size_t len) {
        _cleanup_free_ char *data = malloc(len + 1);
        _cleanup_free_ char *path = NULL;
        int fd;

        assert_non_null(data);
        assert_true(asprintf(&path, "%s/file-XXXXXX", harness_directory()) > 0);
        fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        pattern_fill(data, len, 0);
        assert_int_equal(write(fd, data, len), (ssize_t) len);
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

static uint64_t transmits_open(struct client *client, int take_fd) {
        uint64_t file;

        assert_ok(ovl_file_open(client->thread, take_fd, &file));
        close(take_fd);
        return file;
}

static int transmits_post(struct client *client, uint64_t socket, uint64_t file, uint64_t offset, uint64_t len,
                          unsigned flags, struct ovl_overlapped *overlapped) {
        return ovl_transmit_file(client->thread, socket, file, offset, len, NULL, NULL, flags, overlapped, NULL);
}

static void transmits_expect_bytes(int fd, size_t len, uint64_t offset) {
        _cleanup_free_ char *data = malloc(len + 1);

        assert_non_null(data);
        peer_read(fd, data, len);
        pattern_check(data, len, offset);
}

/* --- What is sent ----------------------------------------------------------------------------------------------- */

static void transmits_head_file_and_tail(void **state) {
        static const size_t sizes[] = {
                0, 1, 4096, TRANSMITS_PIECE - 1, TRANSMITS_PIECE, TRANSMITS_PIECE + 1, 3000000
        };
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer head, tail;
        struct client client;
        char words[16] = "";
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        memcpy(client.memory, "head tail", 9);
        head = (struct ovl_buffer){ client.memory, 4 };
        tail = (struct ovl_buffer){ client.memory + 5, 4 };
        for (size_t i = 0; i < HARNESS_N(sizes); i++) {
                file = transmits_open(&client, transmits_make(sizes[i]));
                assert_ok(ovl_transmit_file(client.thread, socket, file, 0, 0, &head, &tail, 0, &sending, NULL));
                peer_read(fd, words, 4);
                assert_memory_equal(words, "head", 4);
                transmits_expect_bytes(fd, sizes[i], 0);
                peer_read(fd, words, 4);
                assert_memory_equal(words, "tail", 4);
                client_expect(&client, &sending, 0, sizes[i] + 8);
                assert_ok(ovl_file_close(client.thread, file));
        }
        close(fd);
        client_stop(&client);
}

/* Memory that is too long to go along with the file leaves before and behind it all the same. */
static void transmits_long_head_and_tail(void **state) {
        enum {
                LEN = 400000
        };
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer head, tail;
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        pattern_fill(client.memory, 2 * LEN, 7);
        head = (struct ovl_buffer){ client.memory, LEN };
        tail = (struct ovl_buffer){ client.memory + LEN, LEN };
        file = transmits_open(&client, transmits_make(LEN));
        assert_ok(ovl_transmit_file(client.thread, socket, file, 100, 0, &head, &tail, 0, &sending, NULL));
        transmits_expect_bytes(fd, LEN, 7);
        transmits_expect_bytes(fd, LEN - 100, 100);
        transmits_expect_bytes(fd, LEN, 7 + LEN);
        client_expect(&client, &sending, 0, 3 * LEN - 100);
        close(fd);
        client_stop(&client);
}

static void transmits_parts_of_a_file(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        assert_ok(transmits_post(&client, socket, file, 1000, 500000, 0, &sending));
        transmits_expect_bytes(fd, 500000, 1000);
        client_expect(&client, &sending, 0, 500000);
        assert_ok(transmits_post(&client, socket, file, TRANSMITS_BIG - 10, 0, 0, &sending));
        transmits_expect_bytes(fd, 10, TRANSMITS_BIG - 10);
        client_expect(&client, &sending, 0, 10);
        /* Behind its end there is nothing. */
        assert_ok(transmits_post(&client, socket, file, TRANSMITS_BIG + 5, 0, 0, &sending));
        client_expect(&client, &sending, 0, 0);
        close(fd);
        client_stop(&client);
}

static void transmits_keep_their_place(void **state) {
        struct ovl_overlapped first = { 0 }, sending = { 0 }, again = { 0 }, last = { 0 };
        struct client client;
        char words[8] = "";
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        memcpy(client.memory, "onetwo", 6);
        assert_ok(client_send(&client, socket, client.memory, 3, 0, &first));
        assert_ok(transmits_post(&client, socket, file, 0, 0, 0, &sending));
        assert_ok(transmits_post(&client, socket, file, 0, 100, 0, &again));
        assert_ok(client_send(&client, socket, client.memory + 3, 3, 0, &last));
        peer_read(fd, words, 3);
        assert_memory_equal(words, "one", 3);
        transmits_expect_bytes(fd, TRANSMITS_BIG, 0);
        transmits_expect_bytes(fd, 100, 0);
        peer_read(fd, words, 3);
        assert_memory_equal(words, "two", 3);
        client_expect(&client, &first, 0, 3);
        client_expect(&client, &sending, 0, TRANSMITS_BIG);
        client_expect(&client, &again, 0, 100);
        client_expect(&client, &last, 0, 3);
        close(fd);
        client_stop(&client);
}

static void transmits_nothing(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket;
        char byte;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(transmits_post(&client, socket, 0, 0, 0, OVL_WANT_VERDICT, &sending), 0);
        client_expect(&client, &sending, 0, 0);
        assert_int_equal(ovl_transmit_packets(client.thread, socket, 0, NULL, 0, OVL_WANT_VERDICT, &sending, NULL), 0);
        client_expect(&client, &sending, 0, 0);
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
        close(fd);
        client_stop(&client);
}

/* --- Peers ------------------------------------------------------------------------------------------------------ */

/* As many peers as there are pieces, and more, read nothing: that is nothing to another. */
static void transmits_stalled_peers_stop_nobody(void **state) {
        struct ovl_overlapped stalled[TRANSMITS_MANY] = { 0 }, sending = { 0 };
        uint64_t sockets[TRANSMITS_MANY], socket, file;
        int fds[TRANSMITS_MANY], fd;
        struct client client;

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        for (size_t i = 0; i < TRANSMITS_MANY; i++) {
                sockets[i] = client_pair(&client, AF_INET, &fds[i]);
                assert_ok(transmits_post(&client, sockets[i], file, 0, 0, 0, &stalled[i]));
        }
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < 3; i++) {
                assert_ok(transmits_post(&client, socket, file, 0, 0, 0, &sending));
                transmits_expect_bytes(fd, TRANSMITS_BIG, 0);
                client_expect(&client, &sending, 0, TRANSMITS_BIG);
        }
        for (size_t i = 0; i < TRANSMITS_MANY; i++) {
                assert_int_equal(stalled[i].status, -EINPROGRESS);
                /* One that has ended its own sending is waited for like the others. */
                if (i % 2)
                        assert_int_equal(shutdown(fds[i], SHUT_WR), 0);
                transmits_expect_bytes(fds[i], TRANSMITS_BIG, 0);
                client_expect(&client, &stalled[i], 0, TRANSMITS_BIG);
                close(fds[i]);
        }
        close(fd);
        client_stop(&client);
}

static void transmits_stall(struct client *client, uint64_t file, struct ovl_overlapped *sending, uint64_t *ret_socket,
                            int *ret_fd) {
        char byte;

        *ret_socket = client_pair(client, AF_INET, ret_fd);
        assert_ok(transmits_post(client, *ret_socket, file, 0, 0, 0, sending));
        assert_int_equal(recv(*ret_fd, &byte, 1, MSG_PEEK), 1);
}

static void transmits_end_with_cancel_close_and_reset(void **state) {
        struct ovl_overlapped sending = { 0 }, behind = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        transmits_stall(&client, file, &sending, &socket, &fd);
        assert_ok(client_send(&client, socket, client.memory, 10, 0, &behind));
        assert_int_equal(ovl_cancel(client.thread, socket, &sending), 1);
        assert_int_equal(client_await(&client, &sending), -ECANCELED);
        assert_true(sending.bytes > 0 && sending.bytes < TRANSMITS_BIG);
        transmits_expect_bytes(fd, sending.bytes, 0);
        client_expect(&client, &behind, 0, 10);
        close(fd);
        transmits_stall(&client, file, &sending, &socket, &fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_int_equal(client_await(&client, &sending), -ECANCELED);
        close(fd);
        transmits_stall(&client, file, &sending, &socket, &fd);
        assert_ok(client_send(&client, socket, client.memory, 10, 0, &behind));
        peer_reset(fd);
        assert_int_equal(client_await(&client, &sending), -ECONNRESET);
        client_expect(&client, &behind, -ECONNRESET, 0);
        assert_int_equal(transmits_post(&client, socket, file, 0, 0, OVL_WANT_VERDICT, &sending), -ECONNRESET);
        client_stop(&client);
}

/* The session ends in the middle: what is left is the daemon's to bury, and the peer sees the end. */
static void transmits_end_with_their_session(void **state) {
        struct ovl_overlapped sending[3] = { 0 };
        uint64_t sockets[3], file;
        struct client client;
        int fds[3];

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        for (size_t i = 0; i < HARNESS_N(fds); i++)
                transmits_stall(&client, file, &sending[i], &sockets[i], &fds[i]);
        client_stop(&client);
        for (size_t i = 0; i < HARNESS_N(fds); i++)
                close(fds[i]);
}

/* With a flag the end of the stream follows, and with another the socket is as new after that. */
static void transmits_go_on_as_a_disconnect(void **state) {
        struct ovl_overlapped sending = { 0 }, behind = { 0 }, receiving = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t socket, file, listener, other;
        socklen_t len;
        int fd;

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(transmits_post(&client, socket, file, 0, 0, OVL_REUSE | OVL_WANT_VERDICT, &sending),
                         -EOPNOTSUPP);
        assert_ok(transmits_post(&client, socket, file, 0, 0, OVL_DISCONNECT, &sending));
        assert_int_equal(transmits_post(&client, socket, file, 0, 0, OVL_WANT_VERDICT, &behind), -ESHUTDOWN);
        transmits_expect_bytes(fd, TRANSMITS_BIG, 0);
        client_expect(&client, &sending, 0, TRANSMITS_BIG);
        peer_expect_end(fd);
        peer_write(fd, "x", 1);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, 0, 1);
        close(fd);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(transmits_post(&client, socket, file, 0, 1000, OVL_DISCONNECT | OVL_REUSE, &sending));
        transmits_expect_bytes(fd, 1000, 0);
        peer_expect_end(fd);
        client_expect(&client, &sending, 0, 1000);
        close(fd);
        listener = client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_connect(client.thread, socket, (struct sockaddr *) &address, len, 0, &sending, NULL));
        client_expect(&client, &sending, 0, 0);
        assert_ok(ovl_accept(client.thread, listener, 0, &receiving, NULL));
        assert_int_equal(client_await(&client, &receiving), 0);
        other = receiving.value;
        assert_ok(transmits_post(&client, socket, 0, 0, 0, OVL_DISCONNECT, &sending));
        client_expect(&client, &sending, 0, 0);
        assert_ok(client_recv(&client, other, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, 0, 0);
        client_stop(&client);
}

/* --- Packets ---------------------------------------------------------------------------------------------------- */

static uint64_t transmits_datagram_pair(struct client *client, int *ret_fd) {
        struct ovl_overlapped connecting = { 0 };
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        uint64_t socket;

        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
        assert_ok(ovl_socket_open(client->thread, AF_INET, SOCK_DGRAM, &socket));
        assert_ok(ovl_connect(client->thread, socket, (struct sockaddr *) &address, len, 0, &connecting, NULL));
        client_expect(client, &connecting, 0, 0);
        *ret_fd = fd;
        return socket;
}

static void transmits_expect_datagram(int fd, size_t len, uint64_t offset) {
        char data[8192];

        assert_int_equal(recv(fd, data, sizeof(data), 0), (ssize_t) len);
        pattern_check(data, len, offset);
}

static void transmits_packets_are_datagrams(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = transmits_datagram_pair(&client, &fd);
        file = transmits_open(&client, transmits_make(5000));
        pattern_fill(client.memory, 1000, 0);
        {
                const struct ovl_part parts[] = {
                        { .data = client.memory, .len = 100 },
                        { .offset = 100, .len = 50, .flags = OVL_FROM_FILE },
                        { .data = client.memory + 150, .len = 10, .flags = OVL_PACKET_END },
                        { .data = client.memory + 160, .len = 5, .flags = OVL_PACKET_END },
                        { .flags = OVL_PACKET_END },
                        { .offset = 165, .len = 10, .flags = OVL_FROM_FILE },
                        { .offset = 175, .flags = OVL_FROM_FILE },
                };

                assert_ok(
                        ovl_transmit_packets(client.thread, socket, file, parts, HARNESS_N(parts), 0, &sending, NULL));
        }
        client_expect(&client, &sending, 0, 5000);
        transmits_expect_datagram(fd, 160, 0);
        transmits_expect_datagram(fd, 5, 160);
        transmits_expect_datagram(fd, 0, 0);
        transmits_expect_datagram(fd, 4835, 165);
        close(fd);
        client_stop(&client);
}

static void transmits_packets_on_a_stream(void **state) {
        struct ovl_part parts[64] = { 0 };
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        file = transmits_open(&client, transmits_make(64 * 10007));
        pattern_fill(client.memory, 64 * 10007, 0);
        for (size_t i = 0; i < HARNESS_N(parts); i++) {
                if (i % 3 != 1)
                        parts[i] = (struct ovl_part){ .offset = i * 10007, .flags = OVL_FROM_FILE };
                else
                        parts[i] = (struct ovl_part){ .data = client.memory + i * 10007, .flags = OVL_PACKET_END };
                parts[i].len = 10007;
        }
        assert_ok(ovl_transmit_packets(client.thread, socket, file, parts, HARNESS_N(parts), 0, &sending, NULL));
        transmits_expect_bytes(fd, 64 * 10007, 0);
        client_expect(&client, &sending, 0, 64 * 10007);
        close(fd);
        client_stop(&client);
}

static void transmits_a_packet_that_is_too_long(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        socket = transmits_datagram_pair(&client, &fd);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        for (size_t len = 70000; len < TRANSMITS_BIG; len *= 10) {
                const struct ovl_part parts[] = {
                        { .len = 20, .flags = OVL_FROM_FILE | OVL_PACKET_END },
                        { .len = len, .flags = OVL_FROM_FILE },
                };

                assert_ok(ovl_transmit_packets(client.thread, socket, file, parts, 2, 0, &sending, NULL));
                client_expect(&client, &sending, -EMSGSIZE, 20);
                transmits_expect_datagram(fd, 20, 0);
        }
        close(fd);
        client_stop(&client);
}

/* Nobody has the port: that is told to receives. Packets leave all the same, each of them, as single sends do. */
static void transmits_packets_that_are_refused(void **state) {
        struct ovl_overlapped sending = { 0 }, receiving = { 0 };
        struct ovl_part parts[64] = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        transmits_start(&client);
        socket = transmits_datagram_pair(&client, &fd);
        close(fd);
        for (size_t i = 0; i < HARNESS_N(parts); i++)
                parts[i] = (struct ovl_part){ .data = client.memory, .len = 10, .flags = OVL_PACKET_END };
        for (unsigned i = 0; i < 3; i++) {
                assert_ok(ovl_transmit_packets(client.thread, socket, 0, parts, HARNESS_N(parts), 0, &sending, NULL));
                client_expect(&client, &sending, 0, 10 * HARNESS_N(parts));
        }
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        client_expect(&client, &receiving, -ECONNREFUSED, 0);
        client_stop(&client);
}

/* --- Files that are not what they should be --------------------------------------------------------------------- */

static void transmits_of_too_little(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer head;
        struct client client;
        uint64_t socket, file;
        char byte;
        int fd;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        file = transmits_open(&client, transmits_make(1000));
        head = (struct ovl_buffer){ client.memory, CLIENT_MEMORY };
        assert_ok(ovl_transmit_file(client.thread, socket, file, 0, 1001, &head, NULL, 0, &sending, NULL));
        client_expect(&client, &sending, -ENODATA, 0);
        assert_ok(transmits_post(&client, socket, file, 1001, 1, 0, &sending));
        client_expect(&client, &sending, -ENODATA, 0);
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
        close(fd);
        client_stop(&client);
}

static void transmits_of_a_file_that_shrinks(void **state) {
        struct ovl_overlapped sending = { 0 };
        int fd, memory = memfd_create("shrinks", MFD_CLOEXEC);
        _cleanup_free_ char *data = malloc(TRANSMITS_BIG);
        struct client client;
        uint64_t socket, file;
        char path[64];

        transmits_start(&client);
        assert_int_equal(ftruncate(memory, TRANSMITS_BIG), 0);
        pattern_fill(data, TRANSMITS_BIG, 0);
        assert_int_equal(write(memory, data, TRANSMITS_BIG), TRANSMITS_BIG);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
        file = transmits_open(&client, open(path, O_RDONLY | O_CLOEXEC));
        transmits_stall(&client, file, &sending, &socket, &fd);
        assert_int_equal(ftruncate(memory, 1), 0);
        close(memory);
        while (ovl_result(&sending) == -EINPROGRESS) {
                ssize_t n = recv(fd, data, TRANSMITS_BIG, MSG_DONTWAIT);

                assert_true(n > 0 || errno == EAGAIN);
                ovl_dispatch(client.thread);
        }
        assert_int_equal(sending.status, -ENODATA);
        assert_true(sending.bytes > 0 && sending.bytes < TRANSMITS_BIG);
        close(fd);
        client_stop(&client);
}

/* More than one operation sends; a sparse file costs nothing. */
static void transmits_of_too_much(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        char path[64];
        uint64_t socket, file;
        int fd, memory = memfd_create("long", MFD_CLOEXEC);

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(ftruncate(memory, (off_t) 3 << 30), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
        file = transmits_open(&client, open(path, O_RDONLY | O_CLOEXEC));
        close(memory);
        assert_int_equal(transmits_post(&client, socket, file, 0, UINT64_C(2147483647), 0, &sending), -EMSGSIZE);
        assert_int_equal(transmits_post(&client, socket, file, INT64_MAX, 5, OVL_WANT_VERDICT, &sending), -EINVAL);
        assert_ok(transmits_post(&client, socket, file, 0, 0, 0, &sending));
        client_expect(&client, &sending, -EMSGSIZE, 0);
        assert_ok(transmits_post(&client, socket, file, (UINT64_C(3) << 30) - 9, 0, 0, &sending));
        client_expect(&client, &sending, 0, 9);
        close(fd);
        client_stop(&client);
}

static void transmits_refuse(struct client *client, int take_fd, const char *text) {
        uint64_t file;
        int r;

        assert_true(take_fd >= 0);
        r = ovl_file_open(client->thread, take_fd, &file);
        if (r != -EBADFD || !strstr(ovl_thread_error(client->thread)->text, text))
                fail_msg("%d, \"%s\", and not \"%s\"", r, ovl_thread_error(client->thread)->text, text);
        close(take_fd);
}

static void transmits_refuse_what_is_no_file(void **state) {
        struct client client;
        uint64_t file;
        int ends[2];
        int fd;

        transmits_start(&client);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        transmits_refuse(&client, ends[0], "no regular file");
        transmits_refuse(&client, ends[1], "reading only");
        transmits_refuse(&client, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "reading only");
        transmits_refuse(&client, eventfd(0, EFD_CLOEXEC), "reading only");
        transmits_refuse(&client, memfd_create("memory", MFD_CLOEXEC), "reading only");
        transmits_refuse(&client, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a folder");
        transmits_refuse(&client, open("/dev/null", O_RDONLY | O_CLOEXEC), "no regular file");
        transmits_refuse(&client, open("/dev/zero", O_RDONLY | O_CLOEXEC), "no regular file");
        transmits_refuse(&client, open("/proc/self/status", O_RDONLY | O_CLOEXEC), "makes it up");
        transmits_refuse(&client, open("/proc/self/exe", O_PATH | O_CLOEXEC), "reading only");
        fd = transmits_make(10);
        assert_int_equal(ovl_file_open(client.thread, fd + 100, &file), -EBADF);
        close(fd);
        client_stop(&client);
}

static void transmits_files_come_and_go(void **state) {
        struct ovl_overlapped sending = { 0 };
        uint64_t files[64], file, socket;
        struct client client;
        int fd, peer;

        transmits_start(&client);
        socket = client_pair(&client, AF_INET, &peer);
        fd = transmits_make(10);
        for (size_t i = 0; i < HARNESS_N(files); i++)
                assert_ok(ovl_file_open(client.thread, fd, &files[i]));
        assert_int_equal(ovl_file_open(client.thread, fd, &file), -EDQUOT);
        for (size_t i = 0; i < HARNESS_N(files); i++)
                assert_ok(ovl_file_close(client.thread, files[i]));
        assert_int_equal(ovl_file_close(client.thread, files[0]), -ENOENT);
        assert_int_equal(ovl_file_close(client.thread, 0), -ENOENT);
        assert_int_equal(transmits_post(&client, socket, files[0], 0, 0, OVL_WANT_VERDICT, &sending), -EBADF);
        assert_ok(ovl_file_open(client.thread, fd, &file));
        close(fd);
        close(peer);
        client_stop(&client);
}

/* A file that is taken back goes when the last operation has ended that uses it. */
static void transmits_outlive_nothing(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct client client;
        uint64_t socket, file;
        int fd;

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        transmits_stall(&client, file, &sending, &socket, &fd);
        assert_int_equal(ovl_cancel(client.thread, socket, &sending), 1);
        assert_ok(ovl_file_close(client.thread, file));
        assert_int_equal(sending.status, -ECANCELED);
        close(fd);
        client_stop(&client);
}

/* --- Files whose reads hang ------------------------------------------------------------------------------------- */

static uint64_t transmits_open_path(struct client *client, const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        return transmits_open(client, fd);
}

static void transmits_expect_served(struct client *client, uint64_t file) {
        struct ovl_overlapped sending = { 0 };
        uint64_t socket;
        int fd;

        socket = client_pair(client, AF_INET, &fd);
        assert_ok(transmits_post(client, socket, file, 0, 0, 0, &sending));
        transmits_expect_bytes(fd, TRANSMITS_BIG, 0);
        client_expect(client, &sending, 0, TRANSMITS_BIG);
        assert_ok(ovl_socket_close(client->thread, socket));
        close(fd);
}

static void transmits_of_a_file_that_hangs(void **state) {
        struct ovl_overlapped hanging_ops[4] = { 0 };
        uint64_t sockets[4], slow, file;
        struct ovl_overlapped behind = { 0 };
        struct hanging hanging;
        struct client client;
        int fds[4];

        transmits_hang(&hanging);
        transmits_start(&client);
        slow = transmits_open_path(&client, hanging.path);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        hanging_set(&hanging, true);
        for (size_t i = 0; i < 4; i++) {
                sockets[i] = client_pair(&client, AF_INET, &fds[i]);
                assert_ok(transmits_post(&client, sockets[i], slow, 0, 0, 0, &hanging_ops[i]));
        }
        assert_ok(client_send(&client, sockets[0], client.memory, 10, 0, &behind));
        hanging_await(&hanging, 2);
        transmits_expect_served(&client, file);
        /* One that is read and one that waits to be end at once, and what stands behind them goes on. */
        assert_int_equal(ovl_cancel(client.thread, sockets[0], &hanging_ops[0]), 1);
        client_expect(&client, &hanging_ops[0], -ECANCELED, 0);
        client_expect(&client, &behind, 0, 10);
        assert_ok(ovl_socket_close(client.thread, sockets[3]));
        client_expect(&client, &hanging_ops[3], -ECANCELED, 0);
        assert_ok(ovl_socket_close(client.thread, sockets[1]));
        client_expect(&client, &hanging_ops[1], -ECANCELED, 0);
        assert_int_equal(ovl_cancel(client.thread, sockets[2], NULL), 1);
        client_expect(&client, &hanging_ops[2], -ECANCELED, 0);
        assert_ok(ovl_file_close(client.thread, slow));
        transmits_expect_served(&client, file);
        hanging_set(&hanging, false);
        for (size_t i = 0; i < 4; i++)
                close(fds[i]);
        client_stop(&client);
        hanging_stop(&hanging);
}

/* Its reads hang, and fail: the operation, which has sent nothing, says so, and the next one finds the file whole. */
static void transmits_of_a_file_that_fails(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct ovl_buffer head;
        struct hanging hanging;
        struct client client;
        uint64_t socket, slow;
        int fd;

        transmits_hang(&hanging);
        transmits_start(&client);
        head = (struct ovl_buffer){ client.memory, 100 };
        slow = transmits_open_path(&client, hanging.path);
        socket = client_pair(&client, AF_INET, &fd);
        hanging_set(&hanging, true);
        assert_ok(ovl_transmit_file(client.thread, socket, slow, 0, 0, &head, NULL, 0, &sending, NULL));
        hanging_await(&hanging, 1);
        hanging_set(&hanging, false);
        client_expect(&client, &sending, -EIO, 0);
        assert_ok(transmits_post(&client, socket, slow, 0, 0, 0, &sending));
        transmits_expect_bytes(fd, HANGING_LEN, 0);
        client_expect(&client, &sending, 0, HANGING_LEN);
        close(fd);
        client_stop(&client);
        hanging_stop(&hanging);
}

/* Whose reads all hang stops himself; others of the same user go on, and so does he when they have come back. */
static void transmits_of_many_files_that_hang(void **state) {
        struct ovl_overlapped sending[4] = { 0 }, waiting = { 0 };
        uint64_t sockets[5], slow[2], file;
        struct hanging hanging;
        struct client client, other;
        int fds[5];

        transmits_hang(&hanging);
        transmits_start(&client);
        other = client;
        client_open(&other, 0);
        file = transmits_open(&client, transmits_make(TRANSMITS_BIG));
        for (size_t i = 0; i < 2; i++)
                slow[i] = transmits_open_path(&client, hanging.path);
        hanging_set(&hanging, true);
        for (size_t i = 0; i < 5; i++)
                sockets[i] = client_pair(&client, AF_INET, &fds[i]);
        for (size_t i = 0; i < 4; i++)
                assert_ok(transmits_post(&client, sockets[i], slow[i % 2], 0, 0, 0, &sending[i]));
        hanging_await(&hanging, 4);
        assert_ok(transmits_post(&client, sockets[4], file, 0, 10, 0, &waiting));
        transmits_expect_served(&other, transmits_open(&other, transmits_make(TRANSMITS_BIG)));
        assert_int_equal(ovl_result(&waiting), -EINPROGRESS);
        hanging_set(&hanging, false);
        client_expect(&client, &waiting, 0, 10);
        for (size_t i = 0; i < 4; i++)
                client_expect(&client, &sending[i], -EIO, 0);
        for (size_t i = 0; i < 5; i++)
                close(fds[i]);
        client_close(&other);
        client_stop(&client);
        hanging_stop(&hanging);
}

/* The session is over while the read is not: the daemon keeps the file until then, and nothing else. */
static void transmits_hang_beyond_their_session(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct hanging hanging;
        struct client client;
        uint64_t socket, slow;
        int fd;

        transmits_hang(&hanging);
        transmits_start(&client);
        slow = transmits_open_path(&client, hanging.path);
        socket = client_pair(&client, AF_INET, &fd);
        hanging_set(&hanging, true);
        assert_ok(transmits_post(&client, socket, slow, 0, 0, 0, &sending));
        hanging_await(&hanging, 1);
        client_close(&client);
        peer_expect_end(fd);
        daemon_wait_fds(client.estate.worker, client.estate.n_worker_fds + 1);
        client_open(&client, 0);
        transmits_expect_served(&client, transmits_open(&client, transmits_make(TRANSMITS_BIG)));
        hanging_set(&hanging, false);
        close(fd);
        client_stop(&client);
        hanging_stop(&hanging);
}

/* The daemon is stopped while a file is read, and others wait for their turn: it ends in order. */
static void transmits_wait_when_the_daemon_stops(void **state) {
        struct ovl_overlapped sending[4] = { 0 };
        struct hanging hanging;
        struct client client;
        uint64_t socket, slow;
        int fds[4], status;
        pid_t monitor;

        transmits_hang(&hanging);
        transmits_start(&client);
        monitor = client.estate.daemon.monitor;
        slow = transmits_open_path(&client, hanging.path);
        hanging_set(&hanging, true);
        for (size_t i = 0; i < HARNESS_N(fds); i++) {
                socket = client_pair(&client, AF_INET, &fds[i]);
                assert_ok(transmits_post(&client, socket, slow, 0, 0, 0, &sending[i]));
        }
        hanging_await(&hanging, 2);
        assert_int_equal(kill(monitor, SIGTERM), 0);
        for (size_t i = 0; i < HARNESS_N(fds); i++) {
                client_expect(&client, &sending[i], -ECONNABORTED, 0);
                close(fds[i]);
        }
        hanging_set(&hanging, false);
        /* A second signal, which daemon_stop() would send, kills the worker. */
        assert_ok(process_wait_end(monitor, harness_deadline(10)));
        assert_int_equal(waitpid(monitor, &status, 0), monitor);
        assert_int_equal(status, 0);
        assert_false(daemon_log_has(&client.estate.daemon, "ended: signal"));
        ovl_region_close(client.thread, client.region);
        ovl_thread_close(client.thread);
        ovl_session_free(client.session);
        hanging_stop(&hanging);
}

struct transmits_opener {
        struct client *client;
        int fd;
        int status;
};

static void *transmits_open_elsewhere(void *argument) {
        struct transmits_opener *opener = argument;
        uint64_t file;

        opener->status = ovl_file_open(opener->client->thread, opener->fd, &file);
        return NULL;
}

/* Already the question what it is may hang: that is the affair of who asked, and nobody else's. */
static void transmits_of_what_cannot_be_looked_at(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileAdd file_add = OVERLAPD__FILE_ADD__INIT;
        struct transmits_opener opener;
        struct client client, other;
        struct hanging hanging;
        pthread_t thread;
        struct raw *raw;

        transmits_hang(&hanging);
        transmits_start(&client);
        other = client;
        client_open(&other, 0);
        opener = (struct transmits_opener){ &other, open(hanging.path, O_RDONLY | O_CLOEXEC), 0 };
        hanging_set(&hanging, true);
        assert_int_equal(pthread_create(&thread, NULL, transmits_open_elsewhere, &opener), 0);
        hanging_await(&hanging, 1);
        transmits_expect_served(&client, transmits_open(&client, transmits_make(TRANSMITS_BIG)));
        /* One that is not waited for any more: its session is over at once. */
        raw = raw_open(&client.estate.daemon, 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_ADD;
        request.file_add = &file_add;
        raw_send(raw, &request, opener.fd);
        hanging_await(&hanging, 2);
        raw_close(raw);
        hanging_set(&hanging, false);
        pthread_join(thread, NULL);
        assert_int_equal(opener.status, -EBADFD);
        close(opener.fd);
        client_close(&other);
        client_stop(&client);
        hanging_stop(&hanging);
}

/* --- Refusals --------------------------------------------------------------------------------------------------- */

static void transmits_refused_by_state(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct ovl_part part = { .flags = OVL_FROM_FILE };
        struct client client;
        uint64_t stream, datagram, file;
        int fd;

        transmits_start(&client);
        file = transmits_open(&client, transmits_make(10));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &datagram));
        assert_int_equal(transmits_post(&client, stream, file, 0, 0, OVL_WANT_VERDICT, &sending), -ENOTCONN);
        assert_int_equal(transmits_post(&client, stream, 0, 0, 0, OVL_WANT_VERDICT, &sending), -ENOTCONN);
        assert_int_equal(transmits_post(&client, datagram, file, 0, 0, OVL_WANT_VERDICT, &sending), -ENOTCONN);
        assert_int_equal(
                ovl_transmit_packets(client.thread, datagram, file, &part, 1, OVL_WANT_VERDICT, &sending, NULL),
                -ENOTCONN);
        stream = client_pair(&client, AF_INET, &fd);
        assert_int_equal(ovl_transmit_packets(client.thread, stream, 0, &part, 1, OVL_WANT_VERDICT, &sending, NULL),
                         -EBADF);
        part.flags = 0x10;
        assert_int_equal(ovl_transmit_packets(client.thread, stream, file, &part, 1, 0, &sending, NULL), -EINVAL);
        assert_ok(ovl_shutdown(client.thread, stream, SHUT_WR));
        assert_int_equal(transmits_post(&client, stream, file, 0, 0, OVL_WANT_VERDICT, &sending), -ESHUTDOWN);
        close(fd);
        client_stop(&client);
}

static void transmits_need_a_level(void **state) {
        struct ovl_overlapped sending = { 0 };
        struct ovl_session_info info;
        struct client client;
        uint64_t socket, file;
        int fd, peer;

        client_start(&client);
        ovl_session_info(client.session, &info);
        if (info.level == 0) {
                fd = transmits_make(10);
                assert_int_equal(ovl_file_open(client.thread, fd, &file), -EOPNOTSUPP);
                socket = client_pair(&client, AF_INET, &peer);
                assert_int_equal(transmits_post(&client, socket, 0, 0, 0, 0, &sending), -EOPNOTSUPP);
                assert_string_equal(ovl_reason_text(ovl_thread_error(client.thread)->reason),
                                    "this needs a higher protocol level than the session has: ask for it in the hello");
                close(peer);
                close(fd);
        }
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "head, file and tail leave in this order", transmits_head_file_and_tail },
                { "a long head and a long tail", transmits_long_head_and_tail },
                { "parts of a file", transmits_parts_of_a_file },
                { "transmits keep their place among sends", transmits_keep_their_place },
                { "nothing is sent of nothing", transmits_nothing },
                { "stalled peers stop nobody else", transmits_stalled_peers_stop_nobody },
                { "cancel, close and reset end a transmit", transmits_end_with_cancel_close_and_reset },
                { "transmits end with their session", transmits_end_with_their_session },
                { "a transmit goes on as a disconnect", transmits_go_on_as_a_disconnect },
                { "packets are datagrams", transmits_packets_are_datagrams },
                { "packets on a stream", transmits_packets_on_a_stream },
                { "a packet that is too long", transmits_a_packet_that_is_too_long },
                { "packets that are refused", transmits_packets_that_are_refused },
                { "a file that is too short is refused whole", transmits_of_too_little },
                { "a file that shrinks ends the transmit", transmits_of_a_file_that_shrinks },
                { "a file that is too long is refused whole", transmits_of_too_much },
                { "what is no file is refused", transmits_refuse_what_is_no_file },
                { "files come and go", transmits_files_come_and_go },
                { "a file that is taken back", transmits_outlive_nothing },
                { "a file whose reads hang", transmits_of_a_file_that_hangs },
                { "a file whose reads fail", transmits_of_a_file_that_fails },
                { "many files whose reads hang", transmits_of_many_files_that_hang },
                { "a read that outlives its session", transmits_hang_beyond_their_session },
                { "files wait when the daemon stops", transmits_wait_when_the_daemon_stops },
                { "a file that cannot be looked at", transmits_of_what_cannot_be_looked_at },
                { "transmits are refused by state", transmits_refused_by_state },
                { "the level inline lends no files", transmits_need_a_level },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
