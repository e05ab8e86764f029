/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The two system calls of a channel, with everything that is easy to forget about passed descriptors in one place.
 *
 * Invariant: every descriptor that the kernel put into this process is either returned or closed here. When the kernel
 * had to cut the list (more came than there is room for, or this process may open no more), a part of the list did
 * arrive; which part cannot be told, so all of it is closed and the caller learns that it happened.
 *
 * A stream glues writes together: the descriptors that one receive brings belong to a frame that begins somewhere in
 * the bytes of that receive. Frames say how many are theirs, and both come in order, so the receiver keeps the
 * descriptors in a queue and lets each frame take its own.
 *
 * Rejected: blocking variants and retries after a signal: with MSG_DONTWAIT neither call waits, so none interrupts it.
 */

#include "proto/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"

union channel_control {
        char bytes[CMSG_SPACE(CHANNEL_FDS_ALL * sizeof(int))];
        struct cmsghdr align;
};

/* Collects the descriptors of a message. */
static size_t channel_collect_fds(struct msghdr *message, int fds[CHANNEL_FDS_ALL]) {
        size_t n_fds = 0;

        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
                size_t n;

                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n && n_fds < CHANNEL_FDS_ALL; i++)
                        memcpy(&fds[n_fds++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        }
        return n_fds;
}

ssize_t channel_receive_all(int fd, void *buffer, size_t size, int fds[CHANNEL_FDS_ALL], size_t *ret_n_fds) {
        union channel_control control;
        struct iovec part = { buffer, size };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        ssize_t n;

        *ret_n_fds = 0;
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -errno;
        *ret_n_fds = channel_collect_fds(&message, fds);
        return message.msg_flags & MSG_CTRUNC ? -EMSGSIZE : n;
}

ssize_t channel_receive(int fd, void *buffer, size_t size, int fds[CHANNEL_FDS_MAX], size_t *ret_n_fds) {
        int all[CHANNEL_FDS_ALL];
        size_t n_fds;
        ssize_t n;

        n = channel_receive_all(fd, buffer, size, all, &n_fds);
        if (n == -EMSGSIZE || n_fds > CHANNEL_FDS_MAX) {
                for (size_t i = 0; i < n_fds; i++)
                        fd_close(all[i]);
                return -EMSGSIZE;
        }
        if (n < 0)
                return n;
        memcpy(fds, all, n_fds * sizeof(*fds));
        *ret_n_fds = n_fds;
        return n;
}

ssize_t channel_send(int fd, const struct iovec *parts, size_t n_parts, int with_fd) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct msghdr message = { .msg_iov = (struct iovec *) parts, .msg_iovlen = n_parts };
        ssize_t n;

        if (with_fd >= 0) {
                struct cmsghdr *header;

                message.msg_control = control.bytes;
                message.msg_controllen = sizeof(control.bytes);
                header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(header), &with_fd, sizeof(int));
        }
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        return n < 0 ? -errno : n;
}

int channel_allow_fds(int fd, int allow) {
        return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &allow, sizeof(allow)) < 0 ? -errno : 0;
}
