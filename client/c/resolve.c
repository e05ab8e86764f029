/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The call that asks for the addresses of a name.
 */

#include "client/c/post.h"

#include <errno.h>
#include <string.h>

#include "client/c/error.h"
#include "client/c/lookup.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "proto/text.h"

static int resolve_check(struct ovl_thread *thread, const char *name, int family, int type, size_t n) {
        if (!text_is_host_name(name, strlen(name)))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_NAME,
                                 "ovl_resolve: '%.64s' (%zu bytes) is no host name or address", name, strlen(name));
        if (family != AF_UNSPEC && family != AF_INET && family != AF_INET6)
                return error_set(&thread->error, -EAFNOSUPPORT, 0,
                                 "ovl_resolve: family %d is none of AF_UNSPEC, AF_INET and AF_INET6", family);
        if (type != 0 && type != SOCK_STREAM && type != SOCK_DGRAM)
                return error_set(&thread->error, -ESOCKTNOSUPPORT, 0,
                                 "ovl_resolve: type %d is none of 0, SOCK_STREAM and SOCK_DGRAM", type);
        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0, "ovl_resolve: no room for an address");
        return 0;
}

OVL_API int ovl_resolve(struct ovl_thread *thread, const char *name, int family, int type, uint16_t port,
                        struct sockaddr_storage *addresses, size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_resolve",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .op = OVL_OP_RESOLVE, .other = OVL_RESOLVE(family, type, port) },
        };
        int r;

        r = resolve_check(thread, name, family, type, n);
        if (r < 0)
                return r;
        if (n > OVL_RESOLVE_ADDRESSES_MAX)
                n = OVL_RESOLVE_ADDRESSES_MAX;
        r = lookup_take(thread, post.call, LOOKUP_ADDRESSES, n, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, name, strlen(name), addresses, &post.entry);
        return post_submit_lookup(thread, &post);
}
