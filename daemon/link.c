/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The link. Invariant: whatever comes over it, and wherever it is closed, closing waits for nobody. The last reference
 * to a socket may be the one that came here, and how long it lingers the choice of a worker that was taken over.
 */

#include "daemon/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "proto/channel.h"

int link_send(int link_fd, const struct link_message *message, int with_fd) {
        struct iovec part = { (void *) message, sizeof(*message) };
        ssize_t n;

        n = channel_send(link_fd, &part, 1, with_fd);
        return n < 0 ? (int) n : 0;
}

int link_close(int fd) {
        const struct linger none = { 0 };

        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        return fd_close(fd);
}

static void cleanup_link_close(int *fd) {
        link_close(*fd);
}

/* Closes all descriptors of a packet but the first, which it returns; -1 when there is none. */
static int link_take_fd(struct msghdr *packet) {
        int first = -1;

        for (struct cmsghdr *header = CMSG_FIRSTHDR(packet); header; header = CMSG_NXTHDR(packet, header)) {
                size_t n;

                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
                        if (first < 0)
                                first = fd;
                        else
                                link_close(fd);
                }
        }
        return first;
}

int link_receive(int link_fd, struct link_message *ret_message, int *ret_fd) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct link_message message;
        struct iovec part = { &message, sizeof(message) };
        struct msghdr packet = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        cleanup(cleanup_link_close) int fd = -1;
        ssize_t n;

        n = recvmsg(link_fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -errno;
        fd = link_take_fd(&packet);
        if (n == 0)
                return 0;
        if (n != sizeof(message) || (packet.msg_flags & MSG_TRUNC) || (fd >= 0 && (packet.msg_flags & MSG_CTRUNC)))
                return -EBADMSG;
        /* A descriptor came, and this process may have no more: the message is as good as any. */
        if (packet.msg_flags & MSG_CTRUNC)
                fd = -EMFILE;
        message.text[sizeof(message.text) - 1] = '\0';
        if (message.kind == LINK_READY)
                message.body.ready.reason[sizeof(message.body.ready.reason) - 1] = '\0';
        *ret_message = message;
        *ret_fd = fd_take(&fd);
        return 1;
}
