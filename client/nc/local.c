/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ends of this process: standard input and output, whatever they are, and the connections that --local accepts.
 *
 * Invariant: neither reading nor writing blocks where that would stop the other direction, and no mode is changed that
 * somebody else sees: O_NONBLOCK belongs to the open file, which the shell and the program before us in the pipe have,
 * too. So sockets are used with MSG_DONTWAIT; pipes and terminals are opened once more through /proc, which gives an
 * open file of our own; and where that fails (no /proc, somebody else's terminal) a pipe is written no more than
 * PIPE_BUF bytes at a time, and only when it says that it has room: for so much it then has.
 *
 * The end of a stream that came from the network is passed on by closing the output, or by shutting it down where both
 * directions are one socket. Standard descriptors are not just closed but lead to /dev/null from then on, so that no
 * later descriptor takes their number.
 *
 * Rejected: O_NONBLOCK on what we were given; RWF_NOWAIT, which pipes know only since Linux 6.5; splice(2), which
 * needs a pipe and a socket of our own, and we have no socket.
 */

#include "client/nc/local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Puts an open file of our own in the place of this one. Returns 0 or -errno: nothing has changed. */
static int local_open_again(int fd, int access) {
        _cleanup_fd_ int again = -1;
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (again < 0)
                return -errno;
        return dup3(again, fd, O_CLOEXEC) < 0 ? -errno : 0;
}

static void local_open_standard(struct local *ret_local, int fd, int access) {
        struct stat about;

        *ret_local = (struct local){ .fd = fd, .is_terminal = isatty(fd) };
        if (fstat(fd, &about) < 0)
                return;
        if (S_ISSOCK(about.st_mode))
                ret_local->kind = LOCAL_SOCKET;
        else if (S_ISFIFO(about.st_mode) || ret_local->is_terminal)
                ret_local->kind = local_open_again(fd, access) < 0 ? LOCAL_TRICKLE : LOCAL_OPENED;
}

void local_open_input(struct local *ret_local, bool is_closed) {
        if (is_closed)
                *ret_local = (struct local){ .fd = -1 };
        else
                local_open_standard(ret_local, STDIN_FILENO, O_RDONLY);
}

void local_open_output(struct local *ret_local, bool is_closed) {
        struct stat input, output;

        if (is_closed) {
                *ret_local = (struct local){ .fd = -1 };
                return;
        }
        local_open_standard(ret_local, STDOUT_FILENO, O_WRONLY);
        ret_local->is_shut_down = ret_local->kind == LOCAL_SOCKET && fstat(STDIN_FILENO, &input) == 0 &&
                                  fstat(STDOUT_FILENO, &output) == 0 && input.st_dev == output.st_dev &&
                                  input.st_ino == output.st_ino;
}

void local_open_connection(struct local *ret_input, struct local *ret_output, int take_fd) {
        *ret_input = (struct local){ .fd = take_fd, .kind = LOCAL_SOCKET, .is_owned = true };
        *ret_output = (struct local){ .fd = take_fd, .kind = LOCAL_SOCKET, .is_shut_down = true };
}

ssize_t local_read(struct local *local, void *data, size_t size) {
        ssize_t n;

        if (local->fd < 0)
                return 0;
        if (local->kind == LOCAL_TRICKLE && !local_is_readable(local))
                return -EAGAIN;
        do
                n = local->kind == LOCAL_SOCKET ? recv(local->fd, data, size, MSG_DONTWAIT)
                                                : read(local->fd, data, size);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EIO && local->is_terminal)
                return 0; /* it was hung up */
        return n < 0 ? -errno : n;
}

static bool local_is_ready(const struct local *local, short events) {
        struct pollfd fd = { .fd = local->fd, .events = events };

        return poll(&fd, 1, 0) > 0;
}

bool local_is_readable(const struct local *local) {
        return local->fd >= 0 && local_is_ready(local, POLLIN);
}

ssize_t local_write(struct local *local, const void *data, size_t len) {
        ssize_t n;

        if (local->fd < 0)
                return -EPIPE;
        if (local->kind == LOCAL_TRICKLE) {
                if (!local_is_ready(local, POLLOUT))
                        return -EAGAIN;
                if (len > PIPE_BUF)
                        len = PIPE_BUF;
        }
        do
                n = local->kind == LOCAL_SOCKET ? send(local->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                                : write(local->fd, data, len);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* Closes a descriptor; a standard one keeps its number. */
static void local_abandon(struct local *local) {
        _cleanup_fd_ int nothing = -1;

        if (local->fd > STDERR_FILENO) {
                if (local->is_owned)
                        close(local->fd);
        } else if (local->fd >= 0) {
                nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
                if (nothing < 0 || dup3(nothing, local->fd, O_CLOEXEC) < 0)
                        close(local->fd);
        }
        local->fd = -1;
}

void local_end_output(struct local *local) {
        if (local->fd >= 0 && local->is_shut_down)
                shutdown(local->fd, SHUT_WR);
        local_abandon(local);
}

void local_close(struct local *local) {
        local_abandon(local);
}
