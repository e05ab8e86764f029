/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The call that connects to a name. What the name stands for is the daemon's affair: the program learns it, if it wants
 * to, when it is connected.
 */

#include "client/c/post.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/c/association.h"
#include "client/c/error.h"
#include "client/c/lookup.h"
#include "client/c/thread.h"
#include "proto/text.h"

#define CONNECT_NAME_MAX (OVL_RESOLVE_NAME_MAX + 1 + OVL_SERVICE_NAME_MAX)

/* Reads a service that is the number of a port. Returns whether it is one; 0 and what is too large is none. */
static bool connect_name_read_port(const char *service, uint16_t *ret_port) {
        size_t n_digits = strspn(service, "0123456789");
        unsigned long port = strtoul(service, NULL, 10);

        if (service[n_digits] != '\0' || n_digits > 5 || port == 0 || port > UINT16_MAX)
                return false;
        *ret_port = (uint16_t) port;
        return true;
}

/* Puts name and service together as the wire has them. Returns how many bytes these are, or -errno. */
static int connect_name_pack(struct ovl_thread *thread, const char *name, const char *service,
                             char ret_text[CONNECT_NAME_MAX], uint16_t *ret_port) {
        size_t name_len = strlen(name), service_len = strlen(service);

        if (!text_is_host_name(name, name_len))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_NAME,
                                 "ovl_connect_name: '%.64s' (%zu bytes) is no host name or address", name, name_len);
        memcpy(ret_text, name, name_len);
        if (connect_name_read_port(service, ret_port))
                return (int) name_len;
        if (!text_is_service_name(service, service_len))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_NAME,
                                 "ovl_connect_name: '%.64s' is neither a port (1 to 65535) nor the name of a service",
                                 service);
        ret_text[name_len] = '\0';
        memcpy(ret_text + name_len + 1, service, service_len);
        return (int) (name_len + 1 + service_len);
}

/* Without a structure: a connect that is cancelled is none, so it cannot be asked for without waiting. */
static int connect_name_block(struct ovl_thread *thread, struct post *post) {
        struct manner manner = post_manner(thread, post);

        if (manner.is_nonblocking)
                return error_set(
                        &thread->error, -EOPNOTSUPP, 0,
                        "ovl_connect_name: the socket is in non-blocking mode, and a connect that is cancelled "
                        "is none: with an overlapped structure it does not block");
        return post_submit_lookup(thread, post);
}

OVL_API int ovl_connect_name(struct ovl_thread *thread, uint64_t socket, const char *name, const char *service,
                             uint32_t timeout_ms, unsigned flags, struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_connect_name",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_CONNECT_NAME },
        };
        char text[CONNECT_NAME_MAX];
        uint16_t port = 0;
        int len, r;

        len = connect_name_pack(thread, name, service, text, &port);
        if (len < 0)
                return len;
        post.entry.other = OVL_NAME(port, timeout_ms);
        r = lookup_take(thread, post.call, LOOKUP_NOTHING, 0, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, text, (size_t) len, NULL, &post.entry);
        return overlapped ? post_submit_lookup(thread, &post) : connect_name_block(thread, &post);
}
