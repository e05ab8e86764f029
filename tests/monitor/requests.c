/* SPDX-License-Identifier: Apache-2.0 */

/* What a worker asks the monitor for: sockets, addresses, connections; and what it must not ask for. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/link.h"
#include "tests/harness/daemon.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/monitor/client.h"

static const char *requests_format(const char *format, int number) {
        static char text[128];

        snprintf(text, sizeof(text), format, number);
        return text;
}

/* A TCP listener of the test's own on the loopback. */
static int requests_listen(int backlog, int *ret_port) {
        struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(name);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        assert_int_equal(bind(fd, (struct sockaddr *) &name, sizeof(name)), 0);
        assert_int_equal(listen(fd, backlog), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &name, &len), 0);
        *ret_port = ntohs(name.sin_port);
        return fd;
}

static void requests_make_connections(const char *host, int family) {
        struct daemon daemon;
        char line[128];
        int server, client, port, n_fds;

        daemon_start(&daemon, NULL);
        server = daemon_connect(&daemon);
        client = daemon_connect(&daemon);
        client_expect(server, "open 1", 0, "");
        client_expect(client, "open 2", 0, "");
        n_fds = daemon_count_fds(daemon.monitor);
        client_expect(server, requests_format("socket %d 1", family), 0, "");
        client_expect(client, requests_format("socket %d 1", family), 0, "");
        snprintf(line, sizeof(line), "bind %s 0", host);
        client_expect(server, line, 0, "");
        client_expect(server, "listen 8", 0, "");
        port = atoi(client_ask(server, "name"));
        assert_true(port > 0);
        snprintf(line, sizeof(line), "connect %s %d", host, port);
        client_expect(client, line, 0, "");
        assert_int_equal(atoi(client_ask(client, "flags")) & O_NONBLOCK, 0);
        client_expect(client, line, -EISCONN, "already connected");
        daemon_wait_fds(daemon.monitor, n_fds);
        close(server);
        close(client);
        daemon_stop(&daemon);
}

static void requests_work_over_ipv4(void **state) {
        requests_make_connections("127.0.0.1", AF_INET);
}

static void requests_work_over_ipv6(void **state) {
        requests_make_connections("::1", AF_INET6);
}

static void requests_are_checked(void **state) {
        _cleanup_fd_ int listener_fd = -1;
        struct daemon daemon;
        int fd, port;

        daemon_start(&daemon, NULL);
        listener_fd = requests_listen(1, &port);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 16 3", -EAFNOSUPPORT, "only Unix (1), IPv4 (2)");
        client_expect(fd, "socket 17 3", -EAFNOSUPPORT, "family 17");
        client_expect(fd, "socket 1 5", -ESOCKTNOSUPPORT, "only streams");
        client_expect(fd, "socket 2 3", -ESOCKTNOSUPPORT, "type 3");
        client_expect(fd, "socket 2 1", 0, "");
        client_expect(fd, "listen 1", -EINVAL, "bind the socket to an address first");
        client_expect(fd, "bind ::1 0", -EAFNOSUPPORT, "IPv6 address does not fit an IPv4 socket");
        client_expect(fd, "bind nonsense 0", -EAFNOSUPPORT, "malformed");
        client_expect(fd, "connect nonsense 0", -EAFNOSUPPORT, "malformed");
        client_expect(fd, requests_format("bind 127.0.0.1 %d", port), -EADDRINUSE,
                      "see who holds it with `ss -ltnp sport");
        client_expect(fd, "bind 192.0.2.1 0", -EADDRNOTAVAIL, "no such address");
        close(fd);
        daemon_stop(&daemon);
}

static void requests_explain_refusals(void **state) {
        struct daemon daemon;
        int fd, port;

        daemon_start(&daemon, NULL);
        close(requests_listen(1, &port));
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 2 1", 0, "");
        client_expect(fd, requests_format("connect 127.0.0.1 %d", port), -ECONNREFUSED,
                      "Connection refused: nobody listens there");
        daemon_wait_log(&daemon, requests_format("(client pid %d, uid ", (int) getpid()));
        close(fd);
        daemon_stop(&daemon);
}

/* A connection to a listener whose queue is full neither succeeds nor fails: the kernel drops its SYN. */
static void requests_fill(int port, int fds[4]) {
        struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons((uint16_t) port) };

        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        for (int i = 0; i < 4; i++) {
                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_ok(fds[i]);
                assert_true(connect(fds[i], (struct sockaddr *) &name, sizeof(name)) == 0 || errno == EINPROGRESS);
        }
}

static bool requests_are_silent(int fd) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };

        return poll(&wait, 1, 0) == 0;
}

static void requests_can_be_cancelled(void **state) {
        _cleanup_fd_ int full_fd = -1, open_fd = -1;
        int fds[4], fd, full_port, open_port, n_fds;
        char reply[CLIENT_REPLY_SIZE];
        struct daemon daemon;

        full_fd = requests_listen(0, &full_port);
        open_fd = requests_listen(8, &open_port);
        requests_fill(full_port, fds);
        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 2 1", 0, "");
        n_fds = daemon_count_fds(daemon.monitor);
        client_say(fd, requests_format("connect 127.0.0.1 %d", full_port));
        daemon_wait_fds(daemon.monitor, n_fds + 1);
        assert_true(requests_are_silent(fd));
        client_say(fd, "cancel");
        assert_int_equal(client_hear(fd, reply), 1);
        assert_int_equal(atoi(reply), -ECANCELED);
        daemon_wait_fds(daemon.monitor, n_fds);
        client_say(fd, "cancel");
        client_expect(fd, requests_format("connect 127.0.0.1 %d", open_port), 0, "");
        client_say(fd, "cancel");
        client_expect(fd, requests_format("connect 127.0.0.1 %d", open_port), -EISCONN, "");
        close(fd);
        daemon_stop(&daemon);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}

/* The worker dies while the kernel still connects for it: the monitor gives its descriptor up. */
static void requests_end_with_their_worker(void **state) {
        _cleanup_fd_ int full_fd = -1;
        int fds[4], fd, full_port, n_fds;
        struct daemon daemon;

        full_fd = requests_listen(0, &full_port);
        requests_fill(full_port, fds);
        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 2 1", 0, "");
        n_fds = daemon_count_fds(daemon.monitor);
        client_say(fd, requests_format("connect 127.0.0.1 %d", full_port));
        daemon_wait_fds(daemon.monitor, n_fds + 1);
        client_say(fd, "exit 3");
        client_expect_end(fd);
        close(fd);
        daemon_wait_log(&daemon, "exit status 3; 1 connections ended");
        daemon_wait_fds(daemon.monitor, n_fds);
        daemon_stop(&daemon);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}

/* One misdeed, one worker: it is killed, its connections end, its successor serves. */
static void requests_condemn(const char *misdeed, const char *said) {
        struct daemon daemon;
        int fd;

        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_say(fd, misdeed);
        client_expect_end(fd);
        close(fd);
        daemon_wait_log(&daemon, said);
        daemon_wait_log(&daemon, "died: signal 9");
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        close(fd);
        daemon_stop(&daemon);
}

static void requests_of_unknown_kinds_condemn(void **state) {
        requests_condemn("kind 99", "sent a message of kind 99");
        requests_condemn("kind 0", "sent a message of kind 0");
        requests_condemn("kind 1", "sent a message of kind 1");
}

static void requests_with_wrong_descriptors_condemn(void **state) {
        requests_condemn("short", "sent bytes that are no message");
        requests_condemn("bare", "sent a request without its descriptor");
        requests_condemn("memory", "sent a descriptor that is no socket of the kinds that clients have");
}

static void requests_against_the_tables_condemn(void **state) {
        requests_condemn("quota 200", "reported a quota of kind 200");
        requests_condemn("alien", "reported a channel that it does not have");
        requests_condemn("open 2", "reported twice that a channel is open");
        requests_condemn(requests_format("kind %d", LINK_READY), "said twice that it is ready");
}

static void requests_with_a_ticket_in_use_condemn(void **state) {
        int fds[4], full_port, full_fd = requests_listen(0, &full_port), fd;
        struct daemon daemon;

        requests_fill(full_port, fds);
        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 2 1", 0, "");
        client_say(fd, requests_format("connect 127.0.0.1 %d", full_port));
        client_say(fd, "ticket");
        client_expect_end(fd);
        daemon_wait_log(&daemon, "sent the ticket of a connect that is in progress");
        daemon_wait_log(&daemon, "died: signal 9");
        close(fd);
        daemon_stop(&daemon);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        close(full_fd);
}

/* Neither the monitor's memory nor its descriptors grow with the appetite of a worker, and others are served meanwhile.
 */
static void requests_that_flood_are_paced(void **state) {
        struct daemon daemon;
        int fd, other, n_fds;

        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        n_fds = daemon_count_fds(daemon.monitor);
        for (int i = 0; i < 20; i++)
                client_ask(fd, "flood 20000");
        other = daemon_connect(&daemon);
        client_expect(other, "open 2", 0, "");
        client_expect(other, "socket 2 1", 0, "");
        daemon_wait_fds(daemon.monitor, n_fds);
        close(other);
        close(fd);
        daemon_stop(&daemon);
        assert_false(daemon_log_has(&daemon, "killed"));
}

/* What a worker that was taken over leaves behind on its link keeps nobody waiting. */
static void requests_that_linger_keep_nobody(void **state) {
        _cleanup_fd_ int listener_fd = -1;
        struct daemon daemon;
        int fd, port;

        listener_fd = requests_listen(8, &port);
        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_expect(fd, "socket 2 1", 0, "");
        client_expect(fd, requests_format("connect 127.0.0.1 %d", port), 0, "");
        client_say(fd, "linger");
        client_expect_end(fd);
        close(fd);
        daemon_wait_log(&daemon, "sent bytes that are no message");
        daemon_wait_log(&daemon, "died: signal 9");
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        close(fd);
        daemon_stop(&daemon);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sockets open, bind, listen and connect over IPv4", requests_work_over_ipv4 },
                { "sockets open, bind, listen and connect over IPv6", requests_work_over_ipv6 },
                { "requests are checked", requests_are_checked },
                { "refusals are explained and written down", requests_explain_refusals },
                { "a connect can be cancelled", requests_can_be_cancelled },
                { "a connect ends with its worker", requests_end_with_their_worker },
                { "messages of unknown kinds condemn a worker", requests_of_unknown_kinds_condemn },
                { "wrong descriptors condemn a worker", requests_with_wrong_descriptors_condemn },
                { "false reports condemn a worker", requests_against_the_tables_condemn },
                { "requests that flood are paced", requests_that_flood_are_paced },
                { "a ticket in use condemns", requests_with_a_ticket_in_use_condemn },
                { "a connection that lingers keeps nobody waiting", requests_that_linger_keep_nobody },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
