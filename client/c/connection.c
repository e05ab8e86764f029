/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The calls by which connections begin and end, and the one that waits for what a socket is ready for.
 */

#include "client/c/post.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "client/c/association.h"
#include "client/c/error.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"

OVL_API int ovl_connect(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                        unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_connect",
                .needs_structure = true,
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_connect_send(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             const struct ovl_buffer *buffers, size_t n, unsigned flags,
                             struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_connect_send",
                .needs_structure = true,
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_connect_sync(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address,
                             socklen_t len) {
        struct post post = {
                .call = "ovl_connect_sync",
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        struct manner manner;
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        if (r < 0)
                return r;
        manner = post_manner(thread, &post);
        if (manner.is_nonblocking)
                return error_set(
                        &thread->error, -EOPNOTSUPP, 0,
                        "ovl_connect_sync: the socket is in non-blocking mode, and a connect that is cancelled "
                        "is none: ovl_connect() does not block");
        return post_block(thread, &post, &manner);
}

OVL_API int ovl_disconnect(struct ovl_thread *thread, uint64_t socket, unsigned flags,
                           struct ovl_overlapped *overlapped,
                           void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_disconnect",
                .flags = flags,
                .flags_known = OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_DISCONNECT },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_accept(struct ovl_thread *thread, uint64_t listener, unsigned flags, struct ovl_overlapped *overlapped,
                       void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_accept",
                .needs_structure = true,
                .flags = flags,
                .flags_known = OVL_DONTWAIT,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_accept_sync(struct ovl_thread *thread, uint64_t listener, uint64_t *ret_socket) {
        struct post post = {
                .call = "ovl_accept_sync",
                .ret_value = ret_socket,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_accept_into(struct ovl_thread *thread, uint64_t listener, uint64_t prepared,
                            const struct ovl_buffer *buffers, size_t n, struct ovl_accepted *accepted, unsigned flags,
                            struct ovl_overlapped *overlapped,
                            void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_accept_into",
                .needs_structure = true,
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = OVL_DONTWAIT,
                .overlapped = overlapped,
                .routine = routine,
                .accepted = accepted,
                .aux_len = accepted ? 2 * sizeof(struct ovl_address) : 0,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT, .other = prepared },
        };

        return post_submit(thread, &post);
}

static_assert(POLLIN == OVL_POLL_IN && POLLPRI == OVL_POLL_PRIORITY && POLLOUT == OVL_POLL_OUT &&
                      POLLERR == OVL_POLL_ERROR && POLLHUP == OVL_POLL_HUP,
              "events are the same on the wire");

OVL_API int ovl_poll(struct ovl_thread *thread, uint64_t socket, unsigned events, unsigned flags,
                     struct ovl_overlapped *overlapped, void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_poll",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_POLL, .other = events },
        };

        if (events & ~(unsigned) (POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP))
                return error_set(&thread->error, -EINVAL, OVL_REASON_UNKNOWN_FLAGS,
                                 "ovl_poll: 0x%x are no events that can be waited for: POLLIN, POLLPRI and POLLOUT are",
                                 events & ~(unsigned) (POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP));
        return post_submit(thread, &post);
}
