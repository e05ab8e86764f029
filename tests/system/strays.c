/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Descriptors that nobody takes (promise 5): they came with bytes that are not read any more, were too many, or belong
 * to a connection that is refused. The last reference to each is the daemon's, and closing it lasts as long as its
 * sender likes.
 */

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/channel.h"
#include "tests/harness/harness.h"
#include "tests/system/raw.h"

#define STRAYS_MAX 8

/* A connection of which nobody takes what was sent, and that lingers for it. */
static int strays_make(int *ret_listener_fd) {
        const struct linger forever = { .l_onoff = 1, .l_linger = 1000 };
        struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(name);
        int listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char bytes[65536] = { 0 };

        assert_int_equal(bind(listener_fd, (struct sockaddr *) &name, len), 0);
        assert_int_equal(listen(listener_fd, 1), 0);
        assert_int_equal(getsockname(listener_fd, (struct sockaddr *) &name, &len), 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &name, len), 0);
        while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &forever, sizeof(forever)), 0);
        *ret_listener_fd = listener_fd;
        return fd;
}

/* Sends a byte with several times the same descriptor and another one behind them, of which this was the last. */
static bool strays_send(int channel_fd, int fd, size_t n, int take_last) {
        union {
                char bytes[CMSG_SPACE(STRAYS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec part = { "x", 1 };
        struct msghdr message = { .msg_iov = &part,
                                  .msg_iovlen = 1,
                                  .msg_control = control.bytes,
                                  .msg_controllen = CMSG_SPACE((n + 1) * sizeof(int)) };
        int fds[STRAYS_MAX];
        ssize_t sent;

        for (size_t i = 0; i < n; i++)
                fds[i] = fd;
        fds[n] = take_last;
        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                                     .cmsg_type = SCM_RIGHTS,
                                                     .cmsg_len = CMSG_LEN((n + 1) * sizeof(int)) };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, (n + 1) * sizeof(int));
        sent = sendmsg(channel_fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
                assert_int_equal(errno, EPERM); /* since Linux 6.16 such a thing need not get there */
                setsockopt(take_last, SOL_SOCKET, SO_LINGER, &(struct linger){ 0 }, sizeof(struct linger));
        }
        close(take_last);
        return sent > 0;
}

/* The worker does not read what comes behind a frame that ends the connection. */
static void strays_unread(void **state) {
        const uint8_t bad[16] = { 0xff, 0xff, 0xff, 0xff };
        struct raw *raw, *other;
        struct daemon daemon;
        int listener_fds[2];

        daemon_start(&daemon, NULL);
        other = raw_open(&daemon, 0);
        raw = raw_open(&daemon, 0);
        assert_int_equal(kill(daemon_worker(&daemon), SIGSTOP), 0);
        assert_true(raw_write(raw, bad, sizeof(bad), -1));
        /* One receive takes bytes up to the first descriptor. */
        for (size_t i = 0; i < HARNESS_N(listener_fds); i++)
                assert_true(strays_send(raw->fd, -1, 0, strays_make(&listener_fds[i])));
        assert_int_equal(kill(daemon_worker(&daemon), SIGCONT), 0);
        raw_expect_end(raw);
        for (int i = 0; i < 10; i++)
                assert_ok(raw_status(other));
        raw_close(raw);
        raw_close(other);
        for (size_t i = 0; i < HARNESS_N(listener_fds); i++)
                close(listener_fds[i]);
        daemon_stop(&daemon);
}

/* More came at once than any frame has. */
static void strays_too_many(void **state) {
        struct raw *raw, *other;
        struct daemon daemon;
        int listener_fd;

        daemon_start(&daemon, NULL);
        other = raw_open(&daemon, 0);
        for (size_t n = CHANNEL_FDS_MAX; n < STRAYS_MAX; n++) {
                raw = raw_open(&daemon, 0);
                strays_send(raw->fd, raw->fd, n, strays_make(&listener_fd));
                raw_expect_end(raw);
                for (int i = 0; i < 10; i++)
                        assert_ok(raw_status(other));
                raw_close(raw);
                close(listener_fd);
        }
        raw_close(other);
        daemon_stop(&daemon);
}

/* The monitor reads nothing of a connection that it refuses, here for want of a worker that takes it. */
static void strays_refused(void **state) {
        struct raw *other, *waiting[32], *raw;
        struct daemon daemon;
        int listener_fd;

        daemon_start(&daemon, NULL);
        other = raw_open(&daemon, 0);
        assert_int_equal(kill(daemon_worker(&daemon), SIGSTOP), 0);
        for (size_t i = 0; i < HARNESS_N(waiting); i++)
                waiting[i] = raw_connect(&daemon);
        raw = raw_connect(&daemon);
        strays_send(raw->fd, -1, 0, strays_make(&listener_fd));
        daemon_wait_log(&daemon, "connection refused: 32 connections have not opened a session yet");
        raw_expect_end(raw);
        assert_int_equal(kill(daemon_worker(&daemon), SIGCONT), 0);
        raw_socket(other, OVL_FAMILY_INET);
        for (size_t i = 0; i < HARNESS_N(waiting); i++)
                raw_close(waiting[i]);
        raw_close(raw);
        raw_close(other);
        close(listener_fd);
        daemon_stop(&daemon);
}

/* Likewise where descriptors cannot be kept out: Linux before 6.16. */
static void strays_refused_later(void **state) {
        setenv("OVL_TEST_FDS_COME", "1", 1);
        strays_refused(state);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "behind the end", strays_unread },
                { "too many", strays_too_many },
                { "of a connection that is refused", strays_refused },
                { "of a connection that is refused, on an older kernel", strays_refused_later },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
