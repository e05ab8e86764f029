/* SPDX-License-Identifier: Apache-2.0 */

/* What one asks of sockets besides bytes: names, options, refusals in words, and that nobody else's can be reached. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

/* --- Names ------------------------------------------------------------------------------------------------------ */

static void sockets_tell_their_names(void **state) {
        struct sockaddr_storage name = { 0 }, other = { 0 };
        socklen_t len = sizeof(name), other_len = sizeof(other);
        struct client client;
        uint64_t socket, pair;
        int fd;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET6, SOCK_STREAM, &socket));
        assert_ok(ovl_getsockname(client.thread, socket, (struct sockaddr *) &name, &len));
        assert_int_equal(name.ss_family, AF_INET6);
        assert_int_equal(((struct sockaddr_in6 *) &name)->sin6_port, 0);
        len = sizeof(name);
        assert_int_equal(ovl_getpeername(client.thread, socket, (struct sockaddr *) &name, &len), -ENOTCONN);
        pair = client_pair(&client, AF_INET6, &fd);
        len = sizeof(name);
        assert_ok(ovl_getsockname(client.thread, pair, (struct sockaddr *) &name, &len));
        assert_int_equal(getpeername(fd, (struct sockaddr *) &other, &other_len), 0);
        assert_memory_equal(&name, &other, sizeof(struct sockaddr_in6));
        len = sizeof(name);
        other_len = sizeof(other);
        assert_ok(ovl_getpeername(client.thread, pair, (struct sockaddr *) &name, &len));
        assert_int_equal(getsockname(fd, (struct sockaddr *) &other, &other_len), 0);
        assert_memory_equal(&name, &other, sizeof(struct sockaddr_in6));
        close(fd);
        client_stop(&client);
}

/* --- Options ---------------------------------------------------------------------------------------------------- */

static void sockets_have_options(void **state) {
        static const struct {
                int family, level, name, set, get; /* get: what then is read; -1: at least what was set */
        } options[] = {
                { AF_INET, SOL_SOCKET, SO_REUSEADDR, 1, 1 },      { AF_INET, SOL_SOCKET, SO_REUSEPORT, 1, 1 },
                { AF_INET, SOL_SOCKET, SO_KEEPALIVE, 1, 1 },      { AF_INET, SOL_SOCKET, SO_KEEPALIVE, 0, 0 },
                { AF_INET, SOL_SOCKET, SO_SNDBUF, 65536, -1 },    { AF_INET, SOL_SOCKET, SO_RCVBUF, 65536, -1 },
                { AF_INET, SOL_SOCKET, SO_OOBINLINE, 1, 1 },      { AF_INET, IPPROTO_TCP, TCP_NODELAY, 1, 1 },
                { AF_INET, IPPROTO_TCP, TCP_CORK, 1, 1 },         { AF_INET, IPPROTO_TCP, TCP_KEEPIDLE, 77, 77 },
                { AF_INET, IPPROTO_TCP, TCP_KEEPINTVL, 7, 7 },    { AF_INET, IPPROTO_TCP, TCP_KEEPCNT, 4, 4 },
                { AF_INET, IPPROTO_TCP, TCP_USER_TIMEOUT, 9, 9 }, { AF_INET, IPPROTO_IP, IP_TOS, 16, 16 },
                { AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, 1, 1 },    { AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, 32, 32 },
        };
        struct client client;
        int value;

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(options); i++) {
                uint64_t socket;

                assert_ok(ovl_socket_open(client.thread, options[i].family, SOCK_STREAM, &socket));
                assert_ok(ovl_setsockopt(client.thread, socket, options[i].level, options[i].name, options[i].set));
                assert_ok(ovl_getsockopt(client.thread, socket, options[i].level, options[i].name, &value));
                if (options[i].get >= 0)
                        assert_int_equal(value, options[i].get);
                else
                        assert_true(value >= options[i].set);
                assert_ok(ovl_socket_close(client.thread, socket));
        }
        client_stop(&client);
}

/* HOSTILE 94. */
static void sockets_refuse_other_options(void **state) {
        static const int refused[][2] = {
                { SOL_SOCKET, SO_LINGER },       { SOL_SOCKET, SO_MARK },           { SOL_SOCKET, SO_BINDTODEVICE },
                { SOL_SOCKET, SO_RCVBUFFORCE },  { SOL_SOCKET, SO_ATTACH_FILTER },  { IPPROTO_TCP, TCP_ULP },
                { IPPROTO_TCP, TCP_REPAIR },     { IPPROTO_IP, IP_TRANSPARENT },    { IPPROTO_IPV6, IPV6_V6ONLY },
                { IPPROTO_TCP, TCP_CONGESTION }, { IPPROTO_TCP, TCP_DEFER_ACCEPT }, { -1, -1 },
        };
        struct client client;
        uint64_t socket;
        int value;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        for (size_t i = 0; i < HARNESS_N(refused); i++) {
                assert_int_equal(ovl_setsockopt(client.thread, socket, refused[i][0], refused[i][1], 1), -ENOPROTOOPT);
                assert_int_equal(ovl_getsockopt(client.thread, socket, refused[i][0], refused[i][1], &value),
                                 -ENOPROTOOPT);
        }
        assert_int_equal(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_ERROR, 1), -ENOPROTOOPT);
        assert_ok(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_ERROR, &value));
        assert_int_equal(value, 0);
        assert_int_equal(ovl_setsockopt(client.thread, socket, IPPROTO_TCP, TCP_KEEPIDLE, -1), -EINVAL);
        client_stop(&client);
}

/* --- Refusals --------------------------------------------------------------------------------------------------- */

/* Asserts that a posting call is refused at once. */
static void sockets_expect_refusal(struct client *client, uint64_t socket, int of_recv, int of_send) {
        struct ovl_overlapped overlapped = { 0 };

        assert_int_equal(client_recv(client, socket, client->memory, 1, OVL_WANT_VERDICT, &overlapped), of_recv);
        assert_int_equal(client_send(client, socket, client->memory, 1, OVL_WANT_VERDICT, &overlapped), of_send);
}

static void sockets_refuse_what_their_state_forbids(void **state) {
        struct ovl_overlapped overlapped = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t socket, listener, pair;
        socklen_t len;
        int fd;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        sockets_expect_refusal(&client, socket, -ENOTCONN, -ENOTCONN);
        assert_int_equal(ovl_accept(client.thread, socket, OVL_WANT_VERDICT, &overlapped, NULL), -EINVAL);
        assert_int_equal(ovl_shutdown(client.thread, socket, SHUT_WR), -ENOTCONN);
        listener = client_listen(&client, AF_INET, &address, &len);
        sockets_expect_refusal(&client, listener, -ENOTCONN, -ENOTCONN);
        assert_int_equal(ovl_connect(client.thread, listener, (struct sockaddr *) &address, len, OVL_WANT_VERDICT,
                                     &overlapped, NULL),
                         -EINVAL);
        assert_int_equal(ovl_bind(client.thread, listener, (struct sockaddr *) &address, len), -EINVAL);
        assert_ok(ovl_listen(client.thread, listener, 5));
        pair = client_pair(&client, AF_INET, &fd);
        assert_int_equal(ovl_connect(client.thread, pair, (struct sockaddr *) &address, len, OVL_WANT_VERDICT,
                                     &overlapped, NULL),
                         -EISCONN);
        assert_int_equal(ovl_listen(client.thread, pair, 5), -EINVAL);
        assert_int_equal(ovl_socket_open(client.thread, AF_NETLINK, SOCK_STREAM, &socket), -EAFNOSUPPORT);
        assert_int_equal(ovl_socket_open(client.thread, AF_INET, SOCK_RAW, &socket) < 0, 1);
        close(fd);
        client_stop(&client);
}

static void sockets_name_the_port_in_use(void **state) {
        struct sockaddr_storage address;
        char port[16];
        struct client client;
        uint64_t other;
        socklen_t len;

        client_start(&client);
        client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &other));
        assert_int_equal(ovl_bind(client.thread, other, (struct sockaddr *) &address, len), -EADDRINUSE);
        snprintf(port, sizeof(port), "127.0.0.1:%d", ntohs(((struct sockaddr_in *) &address)->sin_port));
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, port));
        /* An address that is not ours is refused as the kernel does. */
        ((struct sockaddr_in *) &address)->sin_addr.s_addr = inet_addr("192.0.2.1");
        assert_int_equal(ovl_bind(client.thread, other, (struct sockaddr *) &address, len), -EADDRNOTAVAIL);
        client_stop(&client);
}

static void sockets_addresses_must_fit(void **state) {
        struct ovl_overlapped overlapped = { 0 };
        struct sockaddr_storage in, in6;
        socklen_t in_len = client_loopback(AF_INET, &in), in6_len = client_loopback(AF_INET6, &in6);
        struct client client;
        uint64_t socket;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        assert_true(ovl_bind(client.thread, socket, (struct sockaddr *) &in6, in6_len) < 0);
        assert_true(ovl_connect(client.thread, socket, (struct sockaddr *) &in6, in6_len, OVL_WANT_VERDICT, &overlapped,
                                NULL) < 0);
        assert_true(ovl_bind(client.thread, socket, (struct sockaddr *) &in, 3) < 0);
        assert_ok(ovl_bind(client.thread, socket, (struct sockaddr *) &in, in_len));
        client_stop(&client);
}

static void sockets_connect_is_refused(void **state) {
        struct ovl_overlapped connecting = { 0 }, again = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t socket, listener;
        socklen_t len;

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_socket_close(client.thread, listener));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        assert_ok(ovl_connect(client.thread, socket, (struct sockaddr *) &address, len, 0, &connecting, NULL));
        client_expect(&client, &connecting, -ECONNREFUSED, 0);
        /* The socket may be tried again. */
        assert_ok(ovl_connect(client.thread, socket, (struct sockaddr *) &address, len, 0, &again, NULL));
        client_expect(&client, &again, -ECONNREFUSED, 0);
        client_stop(&client);
}

/* A listener whose backlog is full swallows connects: they stay pending until they are cancelled or closed under. */
static void sockets_connect_is_cancelled(void **state) {
        struct ovl_overlapped connecting[2] = { 0 }, second = { 0 };
        struct sockaddr_storage address;
        int fillers[8], listener;
        struct client client;
        uint64_t sockets[2];
        socklen_t len;

        client_start(&client);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        len = client_loopback(AF_INET, &address);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 0), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        for (size_t i = 0; i < 8; i++) {
                fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                connect(fillers[i], (struct sockaddr *) &address, len);
        }
        for (size_t i = 0; i < 2; i++) {
                assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &sockets[i]));
                assert_int_equal(ovl_connect(client.thread, sockets[i], (struct sockaddr *) &address, len,
                                             OVL_WANT_VERDICT, &connecting[i], NULL),
                                 OVL_PENDING);
        }
        assert_int_equal(ovl_connect(client.thread, sockets[0], (struct sockaddr *) &address, len, OVL_WANT_VERDICT,
                                     &second, NULL),
                         -EALREADY);
        assert_int_equal(ovl_cancel(client.thread, sockets[0], NULL), 1);
        assert_int_equal(ovl_result(&connecting[0]), -ECANCELED);
        assert_int_equal(ovl_result(&connecting[1]), -EINPROGRESS);
        assert_ok(ovl_socket_close(client.thread, sockets[1]));
        assert_int_equal(ovl_result(&connecting[1]), -ECANCELED);
        for (size_t i = 0; i < 8; i++)
                close(fillers[i]);
        close(listener);
        client_stop(&client);
}

/* HOSTILE 87: connections wait in the kernel while nobody accepts. */
static void sockets_backlog_waits_in_the_kernel(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener;
        socklen_t len;
        int n_fds, fds[40];

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        n_fds = daemon_count_fds(client.estate.worker);
        for (size_t i = 0; i < 40; i++) {
                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &address, len), 0);
        }
        assert_int_equal(daemon_count_fds(client.estate.worker), n_fds);
        for (size_t i = 0; i < 40; i++) {
                assert_ok(ovl_accept(client.thread, listener, 0, &accepting, NULL));
                client_expect(&client, &accepting, 0, 0);
                close(fds[i]);
        }
        client_stop(&client);
}

/* --- Strangers -------------------------------------------------------------------------------------------------- */

/* HOSTILE 25 and I6: the numbers of another session are like numbers that never were. */
static void sockets_of_others_are_unknown(void **state) {
        struct ovl_overlapped overlapped = { 0 };
        struct client client, other;
        uint64_t socket;
        int fd;

        client_start(&client);
        other = client;
        client_open(&other, 0);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(ovl_socket_close(other.thread, socket), -EBADF);
        assert_int_equal(ovl_shutdown(other.thread, socket, SHUT_RDWR), -EBADF);
        assert_int_equal(ovl_cancel(other.thread, socket, NULL), -EBADF);
        assert_int_equal(client_recv(&other, socket, other.memory, 1, OVL_WANT_VERDICT, &overlapped), -EBADF);
        assert_int_equal(client_send(&other, socket, other.memory, 1, OVL_WANT_VERDICT, &overlapped), -EBADF);
        client_close(&other);
        memcpy(client.memory, "mine", 4);
        assert_ok(client_send(&client, socket, client.memory, 4, 0, &overlapped));
        client_expect(&client, &overlapped, 0, 4);
        peer_read(fd, client.memory + 10, 4);
        assert_memory_equal(client.memory + 10, "mine", 4);
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sockets tell their names", sockets_tell_their_names },
                { "each option is set and read", sockets_have_options },
                { "options that are not listed are refused", sockets_refuse_other_options },
                { "what the state of a socket forbids is refused", sockets_refuse_what_their_state_forbids },
                { "a port in use is named", sockets_name_the_port_in_use },
                { "addresses must fit the socket", sockets_addresses_must_fit },
                { "a connect that is refused says so, each time", sockets_connect_is_refused },
                { "a connect that hangs is cancelled or closed under", sockets_connect_is_cancelled },
                { "connections wait in the kernel while nobody accepts", sockets_backlog_waits_in_the_kernel },
                { "sockets of another session are unknown", sockets_of_others_are_unknown },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
