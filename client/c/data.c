/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The calls that move bytes: of streams, of datagrams, and of datagrams with what else they have.
 */

#include "client/c/post.h"

#include <assert.h>
#include <errno.h>

#include "client/c/error.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/vector.h"

OVL_API int ovl_recv(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped,
                     void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recv",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_IN | OVL_OOB | OVL_WAITALL,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_RECV },
        };

        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recv: no buffer: a receive that only waits for data has one of 0 bytes");
        return post_submit(thread, &post);
}

OVL_API int ovl_send(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped,
                     void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_send",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT | OVL_OOB | OVL_PARTIAL,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_SEND },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_recvfrom(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                         unsigned flags, struct sockaddr_storage *from, socklen_t *from_len,
                         struct ovl_overlapped *overlapped,
                         void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recvfrom",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_IN,
                .overlapped = overlapped,
                .routine = routine,
                .from = from,
                .from_len = from_len,
                .aux_len = from ? sizeof(struct ovl_address) : 0,
                .entry = { .socket = socket, .op = OVL_OP_RECVFROM },
        };

        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvfrom: no buffer: one of 0 bytes takes a datagram, too");
        if (!from != !from_len)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvfrom: room for an address without room for its length, or the other way "
                                 "round: give both or neither");
        return post_submit(thread, &post);
}

OVL_API int ovl_sendto(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                       unsigned flags, const struct sockaddr *address, socklen_t len, struct ovl_overlapped *overlapped,
                       void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_sendto",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_SENDTO },
        };
        int r;

        r = post_address(thread, &post, address, len, "send to");
        return r < 0 ? r : post_submit(thread, &post);
}

static_assert((int) OVL_TRUNCATED == OVL_RECEIVED_TRUNCATED &&
                      (int) OVL_CONTROL_TRUNCATED == OVL_RECEIVED_CONTROL_TRUNCATED &&
                      (int) OVL_BROADCAST == OVL_RECEIVED_BROADCAST && (int) OVL_MULTICAST == OVL_RECEIVED_MULTICAST,
              "flags are the same on the wire");

OVL_API int ovl_recvmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        struct ovl_received *received, unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recvmsg",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = OVL_PEEK,
                .overlapped = overlapped,
                .routine = routine,
                .received = received,
                .entry = { .socket = socket, .op = OVL_OP_RECVMSG },
        };

        if (!received || (!received->control && received->control_len > 0))
                return error_set(&thread->error, -EFAULT, OVL_REASON_BAD_MESSAGE, "ovl_recvmsg: no place for %s",
                                 received ? "control items" : "what the datagram has");
        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvmsg: no buffer: one of 0 bytes takes a datagram, too");
        /* There is room for all items that can come. */
        post.aux_len = sizeof(struct ovl_message) + received->control_len;
        if (post.aux_len > VECTOR_AUX_SIZE)
                post.aux_len = VECTOR_AUX_SIZE;
        return post_submit(thread, &post);
}

OVL_API int ovl_sendmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        unsigned flags, const struct sockaddr *address, socklen_t len, const void *control,
                        size_t control_len, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_sendmsg",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT,
                .overlapped = overlapped,
                .routine = routine,
                .control = control_len > 0 ? control : NULL,
                .aux_len = control_len,
                .entry = { .socket = socket, .op = OVL_OP_SENDMSG },
        };
        int r;

        if (!control && control_len > 0)
                return error_set(&thread->error, -EFAULT, OVL_REASON_BAD_CONTROL, "ovl_sendmsg: %zu bytes at NULL",
                                 control_len);
        if (control_len > OVL_CONTROL_LEN_MAX)
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_CONTROL,
                                 "ovl_sendmsg: %zu bytes of control items, and a message has at most %u", control_len,
                                 OVL_CONTROL_LEN_MAX);
        r = address ? post_address(thread, &post, address, len, "send to") : 0;
        return r < 0 ? r : post_submit(thread, &post);
}
