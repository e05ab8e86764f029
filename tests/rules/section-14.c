/* SPDX-License-Identifier: Apache-2.0 */

/* Section 14 of docs/SEMANTICS.md: buffer sizes, and receive buffers of no bytes. */

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tests/rules/section.h"

static void section_14_expect_size(struct client *client, uint64_t socket, int size) {
        int value = -1;

        assert_ok(ovl_getsockopt(client->thread, socket, SOL_SOCKET, SO_RCVBUF, &value));
        if (size == 0)
                assert_int_equal(value, 0);
        else
                assert_true(value >= size);
}

static void section_14_the_size_is_told(void **state) {
        struct client client;
        uint64_t socket;

        client_start(&client);
        for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
                assert_ok(ovl_socket_open(client.thread, AF_INET, type, &socket));
                assert_ok(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_RCVBUF, 0));
                section_14_expect_size(&client, socket, 0);
                assert_ok(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_RCVBUF, 8192));
                section_14_expect_size(&client, socket, 8192);
        }
        client_stop(&client);
}

static void section_14_a_peer_stalls(void **state) {
        enum {
                LEN = CLIENT_MEMORY / 4
        };
        struct ovl_overlapped accepting = { 0 }, receiving = { 0 };
        static char bytes[LEN];
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener, stream;
        struct pollfd stalled;
        size_t sent = 0, received = 0;
        socklen_t len;

        client_start(&client);
        len = client_loopback(AF_INET, &address);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &listener));
        assert_ok(ovl_setsockopt(client.thread, listener, SOL_SOCKET, SO_RCVBUF, 0));
        assert_ok(ovl_bind(client.thread, listener, (struct sockaddr *) &address, len));
        assert_ok(ovl_listen(client.thread, listener, 1));
        len = sizeof(address);
        assert_ok(ovl_getsockname(client.thread, listener, (struct sockaddr *) &address, &len));
        stalled = (struct pollfd){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLOUT };
        assert_int_equal(setsockopt(stalled.fd, SOL_SOCKET, SO_SNDBUF, &(int){ 0 }, sizeof(int)), 0);
        assert_int_equal(connect(stalled.fd, (struct sockaddr *) &address, len), 0);
        assert_ok(ovl_accept(client.thread, listener, 0, &accepting, NULL));
        client_expect(&client, &accepting, 0, 0);
        stream = accepting.value;
        section_14_expect_size(&client, stream, 0);
        pattern_fill(bytes, LEN, 0);
        while (poll(&stalled, 1, 100) > 0) {
                ssize_t n = send(stalled.fd, bytes + sent, LEN - sent, MSG_DONTWAIT);

                if (n > 0)
                        sent += (size_t) n;
                assert_true(sent < LEN);
        }
        print_message("the peer stalled after %zu bytes\n", sent);
        assert_true(sent <= 65536);
        while (received < LEN) {
                struct ovl_buffer buffer = { client.memory + received, LEN - received };
                ssize_t n;

                if (sent < LEN) {
                        n = send(stalled.fd, bytes + sent, LEN - sent, MSG_DONTWAIT);
                        sent += n > 0 ? (size_t) n : 0;
                }
                assert_ok(ovl_recv(client.thread, stream, &buffer, 1, 0, &receiving, NULL));
                while (sent < LEN && ovl_wait(client.thread, &receiving, NS_PER_MS, 0) == -ETIMEDOUT) {
                        n = send(stalled.fd, bytes + sent, LEN - sent, MSG_DONTWAIT);
                        sent += n > 0 ? (size_t) n : 0;
                }
                assert_int_equal(client_await(&client, &receiving), 0);
                received += receiving.bytes;
        }
        pattern_check(client.memory, LEN, 0);
        close(stalled.fd);
        client_stop(&client);
}

/* A datagram socket of the session without a receive buffer, and an ordinary one that is connected to it. */
static uint64_t section_14_datagrams(struct client *client, int *ret_fd) {
        struct sockaddr_storage address;
        socklen_t len = client_loopback(AF_INET, &address);
        uint64_t socket_id;

        assert_ok(ovl_socket_open(client->thread, AF_INET, SOCK_DGRAM, &socket_id));
        assert_ok(ovl_bind(client->thread, socket_id, (struct sockaddr *) &address, len));
        len = sizeof(address);
        assert_ok(ovl_getsockname(client->thread, socket_id, (struct sockaddr *) &address, &len));
        *ret_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(*ret_fd, (struct sockaddr *) &address, len), 0);
        return socket_id;
}

static void section_14_datagrams_are_lost(void **state) {
        struct ovl_overlapped receiving[3] = { 0 };
        struct client client;
        uint64_t socket_id;
        int fd;

        client_start(&client);
        socket_id = section_14_datagrams(&client, &fd);
        peer_write(fd, "before", 6); /* it is in the buffer when that goes */
        assert_ok(ovl_setsockopt(client.thread, socket_id, SOL_SOCKET, SO_RCVBUF, 0));
        for (unsigned round = 0; round < 3; round++) {
                peer_write(fd, "lost", 4);
                for (size_t i = 0; i < 3; i++)
                        assert_int_equal(client_recv(&client, socket_id, client.memory + 10 * i, 10, OVL_WANT_VERDICT,
                                                     &receiving[i]),
                                         OVL_PENDING);
                peer_write(fd, "1", 1);
                peer_write(fd, "22", 2);
                peer_write(fd, "333", 3);
                for (size_t i = 0; i < 3; i++)
                        client_expect(&client, &receiving[i], 0, i + 1);
                /* A cancel is the end of a receive, too. */
                assert_int_equal(client_recv(&client, socket_id, client.memory, 10, OVL_WANT_VERDICT, &receiving[0]),
                                 OVL_PENDING);
                assert_ok(ovl_cancel(client.thread, socket_id, &receiving[0]));
                client_expect(&client, &receiving[0], -ECANCELED, 0);
        }
        /* With a buffer, what nobody waits for is kept. */
        assert_ok(ovl_setsockopt(client.thread, socket_id, SOL_SOCKET, SO_RCVBUF, 65536));
        peer_write(fd, "kept", 4);
        assert_ok(client_recv(&client, socket_id, client.memory, 10, 0, &receiving[0]));
        client_expect(&client, &receiving[0], 0, 4);
        close(fd);
        client_stop(&client);
}

static void section_14_data_waits(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;
        uint64_t socket_id;
        int fd;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "1", 1);
        client_expect(&section.client, &receiving, 0, 1);
        /* No receive is posted any more. */
        section_bring(&section, "five.");
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), 0);
        client_expect(&section.client, &receiving, 0, 5);
        assert_memory_equal(section.client.memory, "five.", 5);
        /* Nor is a datagram lost. */
        socket_id = section_14_datagrams(&section.client, &fd);
        assert_int_equal(
                client_recv(&section.client, socket_id, section.client.memory, 10, OVL_WANT_VERDICT, &receiving),
                OVL_PENDING);
        peer_write(fd, "1", 1);
        client_expect(&section.client, &receiving, 0, 1);
        peer_write(fd, "22", 2);
        assert_ok(client_recv(&section.client, socket_id, section.client.memory, 10, 0, &receiving));
        client_expect(&section.client, &receiving, 0, 2);
        close(fd);
        section_stop(&section);
}

static void section_14_operations_run_out(void **state) {
        enum {
                MOST = 20000
        };
        static struct ovl_overlapped receiving[MOST];
        struct section section;
        size_t n = 0;
        int r;

        section_start(&section);
        while ((r = section_recv(&section, 0, n % 64 == 63 ? OVL_WANT_VERDICT : 0, &receiving[n], NULL)) == OVL_PENDING)
                assert_true(++n < MOST);
        assert_int_equal(r, -ENOBUFS);
        /* One that has ended makes room for one. */
        peer_write(section.fd, "1", 1);
        client_expect(&section.client, &receiving[0], 0, 1);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[0], NULL), OVL_PENDING);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving[n], NULL), -ENOBUFS);
        assert_ok(ovl_cancel(section.client.thread, section.socket, NULL));
        section_stop(&section);
}

/* Looks through what a process has mapped, but for what is larger than anything that is of interest. */
static void section_14_search(pid_t pid, const void *bytes, size_t len, bool *ret_is_shared, bool *ret_is_private) {
        enum {
                MOST = 64 << 20
        };
        _cleanup_free_ char *copy = malloc(MOST);
        _cleanup_fd_ int memory = -EBADF;
        char path[64], line[512];
        FILE *maps;

        *ret_is_shared = *ret_is_private = false;
        snprintf(path, sizeof(path), "/proc/%d/mem", (int) pid);
        memory = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
        maps = fopen(path, "re");
        assert_true(copy && memory >= 0 && maps);
        while (fgets(line, sizeof(line), maps)) {
                unsigned long from, to;
                ssize_t n;

                assert_int_equal(sscanf(line, "%lx-%lx", &from, &to), 2);
                if (to - from > MOST)
                        continue;
                n = pread(memory, copy, to - from, (off_t) from);
                if (n > 0 && memmem(copy, (size_t) n, bytes, len))
                        *(strstr(line, "/memfd:") ? ret_is_shared : ret_is_private) = true;
        }
        fclose(maps);
}

/* What was received is nowhere in the worker but in the memory that was lent. */
static void section_14_nothing_is_copied(void **state) {
        const char *level = getenv("OVERLAPD_LEVEL");
        struct ovl_overlapped receiving = { 0 };
        bool is_shared, is_private;
        struct section section;
        char sent[40000];
        pid_t worker;

        if (level && strcmp(level, "inline") == 0)
                harness_skip("at the level inline the bytes come in frames");
        if (geteuid() != 0)
                harness_skip("only root may read the worker's memory");
        section_start(&section);
        worker = daemon_worker(&section.client.estate.daemon);
        pattern_fill(sent, sizeof(sent), 1u << 20);
        assert_int_equal(client_recv(&section.client, section.socket, section.client.memory, sizeof(sent), OVL_WAITALL,
                                     &receiving),
                         OVL_PENDING);
        peer_write(section.fd, sent, sizeof(sent));
        client_expect(&section.client, &receiving, 0, sizeof(sent));
        assert_memory_equal(section.client.memory, sent, sizeof(sent));
        section_14_search(worker, sent + 20000, 64, &is_shared, &is_private);
        assert_true(is_shared);
        assert_false(is_private);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "14.1 a receive buffer of no bytes is told as such", section_14_the_size_is_told },
                { "14.2 without a buffer a peer stalls and loses nothing", section_14_a_peer_stalls },
                { "14.3 without a buffer datagrams are lost", section_14_datagrams_are_lost },
                { "14.4 with a buffer data waits", section_14_data_waits },
                { "14.5 what is received lies in its buffer alone", section_14_nothing_is_copied },
                { "14.6 operations run out, and come back", section_14_operations_run_out },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
