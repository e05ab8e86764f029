/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The calls that ask something of a socket, or of what the host knows of its networks.
 */

#include "client/c/post.h"

#include <assert.h>
#include <errno.h>

#include "client/c/error.h"
#include "client/c/lookup.h"
#include "client/c/session.h"
#include "client/c/thread.h"

static_assert((int) OVL_ADDRESS_LIST_CHANGE == OVL_IOCTL_ADDRESS_LIST_CHANGE &&
                      (int) OVL_BYTES_TO_READ == OVL_IOCTL_BYTES_TO_READ && (int) OVL_AT_MARK == OVL_IOCTL_AT_MARK &&
                      (int) OVL_FLUSH == OVL_IOCTL_FLUSH,
              "codes are the same on the wire");

OVL_API int ovl_ioctl(struct ovl_thread *thread, uint64_t socket, uint32_t code, unsigned flags,
                      struct ovl_overlapped *overlapped,
                      void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_ioctl",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = code },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_keep_alive(struct ovl_thread *thread, uint64_t socket, int on, uint32_t idle_ms, uint32_t interval_ms,
                           unsigned flags, struct ovl_overlapped *overlapped,
                           void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct ovl_keep_alive values = { .is_on = on != 0, .idle_ms = idle_ms, .interval_ms = interval_ms };
        struct post post = {
                .call = "ovl_keep_alive",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_KEEP_ALIVE_VALUES },
        };
        int r;

        if (on && (idle_ms == 0 || idle_ms > OVL_KEEP_ALIVE_MS_MAX || interval_ms == 0 ||
                   interval_ms > OVL_KEEP_ALIVE_MS_MAX))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_INPUT,
                                 "ovl_keep_alive: %u ms of silence and %u ms between probes: each is 1 to %u", idle_ms,
                                 interval_ms, OVL_KEEP_ALIVE_MS_MAX);
        r = lookup_take(thread, post.call, LOOKUP_NOTHING, 0, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, &values, sizeof(values), NULL, &post.entry);
        return post_submit_lookup(thread, &post);
}

OVL_API int ovl_route_change(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             unsigned flags, struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_route_change",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_ROUTING_INTERFACE_CHANGE },
        };
        int r;

        r = post_address(thread, &post, address, len, "watch the route to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_route_query(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                            struct sockaddr_storage *source, unsigned flags, struct ovl_overlapped *overlapped,
                            void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_route_query",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_ROUTING_INTERFACE_QUERY },
        };
        int r;

        if (!source)
                return error_set(&thread->error, -EFAULT, OVL_REASON_OUTPUT_TOO_SMALL,
                                 "ovl_route_query: no room for the address");
        r = post_address(thread, &post, address, len, "find the route to");
        if (r == 0)
                r = lookup_take(thread, post.call, LOOKUP_ADDRESSES, 1, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, NULL, 0, source, &post.entry);
        return post_submit_lookup(thread, &post);
}

static_assert((int) OVL_INTERFACE_IS_UP == OVL_INTERFACE_UP &&
                      (int) OVL_INTERFACE_HAS_BROADCAST == OVL_INTERFACE_BROADCAST &&
                      (int) OVL_INTERFACE_IS_LOOPBACK == OVL_INTERFACE_LOOPBACK &&
                      (int) OVL_INTERFACE_IS_POINT_TO_POINT == OVL_INTERFACE_POINT_TO_POINT &&
                      (int) OVL_INTERFACE_HAS_MULTICAST == OVL_INTERFACE_MULTICAST,
              "flags are the same on the wire");

OVL_API int ovl_interface_list(struct ovl_thread *thread, uint64_t socket, struct ovl_interface_info *interfaces,
                               size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                               void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_interface_list",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_INTERFACE_LIST },
        };
        int r;

        if (!interfaces || n == 0)
                return error_set(&thread->error, -EFAULT, OVL_REASON_OUTPUT_TOO_SMALL,
                                 "ovl_interface_list: no room for an interface");
        if (n > OVL_INTERFACES_MAX)
                n = OVL_INTERFACES_MAX;
        r = lookup_take(thread, post.call, LOOKUP_INTERFACES, n, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, NULL, 0, interfaces, &post.entry);
        return post_submit_lookup(thread, &post);
}
