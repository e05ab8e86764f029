/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The client of most stories: one session, one thread, one region. Its peers are ordinary sockets of the test process,
 * so that what crosses the wire is seen by something that knows nothing of overlapd.
 *
 * Every wait has a deadline, and a story that is over has given everything back: the daemon is compared with what it
 * held before the first client came.
 */

#include "tests/system/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"

#define CLIENT_PATIENCE_S 10

uint64_t client_patience(void) {
        return harness_deadline(CLIENT_PATIENCE_S) - now_ns();
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

void client_open(struct client *client, uint32_t credits) {
        struct ovl_session_options options = {
                .path = client->estate.daemon.path,
                .credits = credits,
                .name = "test",
        };
        struct ovl_error error = { 0 };
        int r;

        r = ovl_session_open(&options, &client->session, &error);
        if (r < 0)
                fail_msg("no session: %s", error.text);
        assert_ok(ovl_thread_open(client->session, &client->thread, &error));
        assert_ok(ovl_region_open(client->thread, CLIENT_MEMORY, &client->region));
        client->memory = ovl_region_data(client->region);
}

void client_close(struct client *client) {
        if (client->region)
                assert_ok(ovl_region_close(client->thread, client->region));
        client->region = NULL;
        client->thread = ovl_thread_close(client->thread);
        client->session = ovl_session_free(client->session);
}

void client_start(struct client *ret_client) {
        struct client client = { 0 };

        estate_start(&client.estate, NULL);
        client_open(&client, 0);
        *ret_client = client;
}

void client_stop(struct client *client) {
        client_close(client);
        estate_stop(&client->estate);
}

size_t client_big(struct client *client, uint64_t socket, int fd, size_t big) {
        struct ovl_session_info info;
        int narrow = 65536;

        ovl_session_info(client->session, &info);
        if (info.level > 0 || big <= OVL_INLINE_OP_LEN_MAX)
                return big;
        assert_ok(ovl_setsockopt(client->thread, socket, SOL_SOCKET, SO_SNDBUF, narrow));
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof(narrow)), 0);
        return OVL_INLINE_OP_LEN_MAX;
}

/* --- Operations ------------------------------------------------------------------------------------------------- */

int client_await(struct client *client, struct ovl_overlapped *overlapped) {
        int r;

        r = ovl_wait(client->thread, overlapped, client_patience(), 0);
        if (r != 0)
                fail_msg("an operation did not end: ovl_wait returned %d", r);
        return ovl_result(overlapped);
}

void client_expect(struct client *client, struct ovl_overlapped *overlapped, int status, uint64_t bytes) {
        int r = client_await(client, overlapped);

        if (r != status || overlapped->bytes != bytes)
                fail_msg("an operation ended with %d (%s) and %llu bytes, not with %d and %llu", r, strerror(-r),
                         (unsigned long long) overlapped->bytes, status, (unsigned long long) bytes);
}

int client_recv(struct client *client, uint64_t socket, void *data, size_t len, unsigned flags,
                struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { data, len };

        return ovl_recv(client->thread, socket, &buffer, 1, flags, overlapped, NULL);
}

int client_send(struct client *client, uint64_t socket, void *data, size_t len, unsigned flags,
                struct ovl_overlapped *overlapped) {
        struct ovl_buffer buffer = { data, len };

        return ovl_send(client->thread, socket, &buffer, 1, flags, overlapped, NULL);
}

/* --- Sockets ---------------------------------------------------------------------------------------------------- */

socklen_t client_loopback(int family, struct sockaddr_storage *ret_address) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

        memset(ret_address, 0, sizeof(*ret_address));
        if (family == AF_INET)
                memcpy(ret_address, &in, sizeof(in));
        else
                memcpy(ret_address, &in6, sizeof(in6));
        return family == AF_INET ? sizeof(in) : sizeof(in6);
}

uint64_t client_listen(struct client *client, int family, struct sockaddr_storage *ret_address, socklen_t *ret_len) {
        socklen_t len = client_loopback(family, ret_address);
        uint64_t socket;

        assert_ok(ovl_socket_open(client->thread, family, SOCK_STREAM, &socket));
        assert_ok(ovl_bind(client->thread, socket, (struct sockaddr *) ret_address, len));
        assert_ok(ovl_listen(client->thread, socket, 64));
        *ret_len = sizeof(*ret_address);
        assert_ok(ovl_getsockname(client->thread, socket, (struct sockaddr *) ret_address, ret_len));
        return socket;
}

static int peer_listen(int family, struct sockaddr_storage *ret_address, socklen_t *ret_len) {
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        *ret_len = client_loopback(family, ret_address);
        assert_int_equal(bind(fd, (struct sockaddr *) ret_address, *ret_len), 0);
        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_address, ret_len), 0);
        return fd;
}

uint64_t client_number(const struct client *client) {
        struct ovl_session_info info;

        ovl_session_info(client->session, &info);
        return info.session;
}

uint64_t client_join(struct client *host, uint64_t socket, struct client *guest) {
        struct ovl_ticket ticket;
        uint64_t joined;

        assert_ok(ovl_socket_share(host->thread, socket, client_number(guest), &ticket));
        assert_ok(ovl_socket_join(guest->thread, &ticket, &joined));
        return joined;
}

uint64_t client_pair(struct client *client, int family, int *ret_fd) {
        struct ovl_overlapped connecting = { 0 };
        struct sockaddr_storage address;
        _cleanup_fd_ int listener = -1;
        uint64_t socket;
        socklen_t len;
        int one = 1;

        listener = peer_listen(family, &address, &len);
        assert_ok(ovl_socket_open(client->thread, family, SOCK_STREAM, &socket));
        assert_ok(ovl_connect(client->thread, socket, (struct sockaddr *) &address, len, 0, &connecting, NULL));
        client_expect(client, &connecting, 0, 0);
        *ret_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(*ret_fd >= 0);
        assert_int_equal(setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
        return socket;
}

/* --- The ordinary end ------------------------------------------------------------------------------------------- */

static void peer_poll(int fd, short events) {
        struct pollfd look = { .fd = fd, .events = events };

        if (poll(&look, 1, (int) (client_patience() / NS_PER_MS)) != 1)
                fail_msg("the peer waited in vain to %s", events == POLLIN ? "read" : "write");
}

void peer_write(int fd, const void *data, size_t len) {
        const char *from = data;

        while (len > 0) {
                ssize_t n;

                peer_poll(fd, POLLOUT);
                n = send(fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        continue;
                assert_true(n > 0);
                from += n;
                len -= (size_t) n;
        }
}

void peer_read(int fd, void *data, size_t len) {
        char *to = data;

        while (len > 0) {
                ssize_t n;

                peer_poll(fd, POLLIN);
                n = recv(fd, to, len, MSG_DONTWAIT);
                if (n == 0)
                        fail_msg("the stream ended %zu bytes too early", len);
                assert_true(n > 0);
                to += n;
                len -= (size_t) n;
        }
}

void peer_expect_end(int fd) {
        char byte;

        peer_poll(fd, POLLIN);
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

void peer_reset(int fd) {
        struct linger now = { .l_onoff = 1 };

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
        close(fd);
}

/* --- Patterns --------------------------------------------------------------------------------------------------- */

static uint8_t pattern_byte(uint64_t offset) {
        return (uint8_t) ((offset * 0x9e3779b97f4a7c15u) >> 56);
}

void pattern_fill(void *data, size_t len, uint64_t offset) {
        uint8_t *bytes = data;

        for (size_t i = 0; i < len; i++)
                bytes[i] = pattern_byte(offset + i);
}

void pattern_check(const void *data, size_t len, uint64_t offset) {
        const uint8_t *bytes = data;

        for (size_t i = 0; i < len; i++)
                if (bytes[i] != pattern_byte(offset + i))
                        fail_msg("byte %llu of the stream is 0x%02x, not 0x%02x", (unsigned long long) (offset + i),
                                 bytes[i], pattern_byte(offset + i));
}
