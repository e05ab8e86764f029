/* SPDX-License-Identifier: Apache-2.0 */

/* Bytes and descriptors arrive, and no descriptor is ever lost in this process (HOSTILE 62, 63). */

#include "proto/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"

static void channel_pair(int ends[2]) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void channel_send_text(int fd, const char *text, int with_fd) {
        struct iovec part = { (void *) text, strlen(text) };

        assert_int_equal(channel_send(fd, &part, 1, with_fd), strlen(text));
}

/* Sends `n` copies of one descriptor with one byte, as no client of ours would. */
static void channel_send_many(int fd, int with_fd, size_t n) {
        union {
                char bytes[CMSG_SPACE(64 * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec part = { "x", 1 };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes };
        struct cmsghdr *header;

        assert_true(n <= 64);
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(n * sizeof(int));
        for (size_t i = 0; i < n; i++)
                memcpy(CMSG_DATA(header) + i * sizeof(int), &with_fd, sizeof(int));
        assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), 1);
}

static void channel_carries_bytes(void **state) {
        struct iovec parts[2] = { { "hel", 3 }, { "lo", 2 } };
        int ends[2], fds[CHANNEL_FDS_MAX];
        size_t n_fds = 42;
        char buffer[16];

        channel_pair(ends);
        assert_int_equal(channel_send(ends[0], parts, 2, -1), 5);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 5);
        assert_memory_equal(buffer, "hello", 5);
        assert_int_equal(n_fds, 0);
        close(ends[0]);
        close(ends[1]);
}

static void channel_carries_a_descriptor(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX], null_fd;
        struct stat sent, received;
        size_t n_fds;
        char buffer[16];

        channel_pair(ends);
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        channel_send_text(ends[0], "x", null_fd);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 1);
        assert_int_equal(n_fds, 1);
        assert_int_equal(fstat(null_fd, &sent), 0);
        assert_int_equal(fstat(fds[0], &received), 0);
        assert_int_equal(sent.st_rdev, received.st_rdev);
        assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
        close(fds[0]);
        close(null_fd);
        close(ends[0]);
        close(ends[1]);
}

static void channel_brings_as_many_as_fit(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX];
        size_t n_fds;
        char buffer[16];

        channel_pair(ends);
        channel_send_many(ends[0], ends[0], CHANNEL_FDS_MAX);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 1);
        assert_int_equal(n_fds, CHANNEL_FDS_MAX);
        for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
        close(ends[0]);
        close(ends[1]);
}

static void channel_closes_all_of_too_many(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX], n_before;
        size_t n_fds = 42;
        char buffer[16];

        channel_pair(ends);
        n_before = process_count_fds(getpid());
        for (size_t n = CHANNEL_FDS_MAX + 1; n <= 64; n++) {
                channel_send_many(ends[0], ends[0], n);
                assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), -EMSGSIZE);
                assert_int_equal(n_fds, 42);
                assert_int_equal(process_count_fds(getpid()), n_before);
        }
        close(ends[0]);
        close(ends[1]);
}

/* The process has room for one descriptor more, three come: the kernel delivers a part of the list. */
static void channel_closes_all_when_the_process_is_full(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX], n_before, highest;
        struct rlimit limit, before;
        size_t n_fds;
        char buffer[16];

        channel_pair(ends);
        channel_send_many(ends[0], ends[0], 3);
        n_before = process_count_fds(getpid());
        highest = dup(ends[0]);
        close(highest);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        limit = before;
        limit.rlim_cur = (rlim_t) highest + 1;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), -EMSGSIZE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(process_count_fds(getpid()), n_before);
        close(ends[0]);
        close(ends[1]);
}

static void channel_says_when_there_is_nothing(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX];
        size_t n_fds;
        char buffer[16];

        channel_pair(ends);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), -EAGAIN);
        channel_send_text(ends[0], "last", -1);
        close(ends[0]);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 4);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 0);
        assert_int_equal(n_fds, 0);
        close(ends[1]);
}

static void channel_send_fills_and_says_so(void **state) {
        static char block[65536];
        struct iovec part = { block, sizeof(block) };
        int ends[2], fds[CHANNEL_FDS_MAX];
        size_t sent = 0, received = 0, n_fds;
        ssize_t n;

        channel_pair(ends);
        while ((n = channel_send(ends[0], &part, 1, -1)) > 0)
                sent += (size_t) n;
        assert_int_equal(n, -EAGAIN);
        while ((n = channel_receive(ends[1], block, sizeof(block), fds, &n_fds)) > 0)
                received += (size_t) n;
        assert_int_equal(n, -EAGAIN);
        assert_int_equal(sent, received);
        close(ends[0]);
        close(ends[1]);
}

/* SIGPIPE would end the case. */
static void channel_peer_that_left_is_an_error(void **state) {
        struct iovec part = { "x", 1 };
        int ends[2];

        channel_pair(ends);
        close(ends[1]);
        assert_int_equal(channel_send(ends[0], &part, 1, -1), -EPIPE);
        close(ends[0]);
}

static void channel_passing_can_be_switched_off(void **state) {
        int ends[2], fds[CHANNEL_FDS_MAX], r;
        size_t n_fds;
        char buffer[16];
        struct iovec part = { "x", 1 };

        channel_pair(ends);
        r = channel_allow_fds(ends[1], 0);
        if (r == -ENOPROTOOPT) {
                close(ends[0]);
                close(ends[1]);
                harness_skip("this kernel is older than 6.16: it cannot refuse descriptors");
        }
        assert_ok(r);
        assert_int_equal(channel_send(ends[0], &part, 1, ends[0]), -EPERM);
        assert_ok(channel_allow_fds(ends[1], 1));
        assert_int_equal(channel_send(ends[0], &part, 1, ends[0]), 1);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), fds, &n_fds), 1);
        assert_int_equal(n_fds, 1);
        close(fds[0]);
        close(ends[0]);
        close(ends[1]);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "carries-bytes", channel_carries_bytes },
                { "carries-a-descriptor", channel_carries_a_descriptor },
                { "brings-as-many-as-fit", channel_brings_as_many_as_fit },
                { "closes-all-of-too-many", channel_closes_all_of_too_many },
                { "closes-all-when-the-process-is-full", channel_closes_all_when_the_process_is_full },
                { "says-when-there-is-nothing", channel_says_when_there_is_nothing },
                { "send-fills-and-says-so", channel_send_fills_and_says_so },
                { "peer-that-left-is-an-error", channel_peer_that_left_is_an_error },
                { "passing-can-be-switched-off", channel_passing_can_be_switched_off },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
