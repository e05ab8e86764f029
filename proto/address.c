/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The one place where a wire address becomes what the kernel is given, and back.
 *
 * Invariant: a wire address has exactly one form. Whatever its family does not use is zero, a path has no NUL inside,
 * so that two addresses that compare unequal byte by byte are not the same to the kernel: a policy may compare what it
 * was shown, and the kernel gets that same thing.
 *
 * A Unix path is carried without its final NUL. One that begins with NUL is an abstract name and may hold any byte.
 *
 * Rejected: passing a struct sockaddr on the wire. Its layout and its constants differ between machines, and the
 * kernel's idea of its length has surprises that each language would have to learn.
 */

#include "proto/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* Whether the bytes of the host from `len` on are zero. */
static bool address_rest_is_zero(const struct ovl_address *address, size_t len) {
        for (size_t i = len; i < sizeof(address->host); i++)
                if (address->host[i])
                        return false;
        return true;
}

static int address_to_inet(const struct ovl_address *address, struct sockaddr_storage *ret_kernel, socklen_t *ret_len) {
        struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons(address->port) };

        if (address->path_len || address->scope_id || !address_rest_is_zero(address, sizeof(inet.sin_addr)))
                return -EINVAL;
        memcpy(&inet.sin_addr, address->host, sizeof(inet.sin_addr));
        memset(ret_kernel, 0, sizeof(*ret_kernel));
        memcpy(ret_kernel, &inet, sizeof(inet));
        *ret_len = sizeof(inet);
        return 0;
}

static int address_to_inet6(const struct ovl_address *address, struct sockaddr_storage *ret_kernel,
                            socklen_t *ret_len) {
        struct sockaddr_in6 inet6 = {
                .sin6_family = AF_INET6,
                .sin6_port = htons(address->port),
                .sin6_scope_id = address->scope_id,
        };

        if (address->path_len || !address_rest_is_zero(address, sizeof(inet6.sin6_addr)))
                return -EINVAL;
        memcpy(&inet6.sin6_addr, address->host, sizeof(inet6.sin6_addr));
        memset(ret_kernel, 0, sizeof(*ret_kernel));
        memcpy(ret_kernel, &inet6, sizeof(inet6));
        *ret_len = sizeof(inet6);
        return 0;
}

static int address_to_unix(const struct ovl_address *address, struct sockaddr_storage *ret_kernel, socklen_t *ret_len) {
        struct sockaddr_un path = { .sun_family = AF_UNIX };
        size_t len = address->path_len;

        if (!len || len > sizeof(path.sun_path) || address->port || address->scope_id)
                return -EINVAL;
        if (!address_rest_is_zero(address, len))
                return -EINVAL;
        if (address->host[0] && memchr(address->host, '\0', len))
                return -EINVAL;
        memcpy(path.sun_path, address->host, len);
        memset(ret_kernel, 0, sizeof(*ret_kernel));
        memcpy(ret_kernel, &path, sizeof(path));
        /* The final NUL of a path counts where there is room for it; to an abstract name it would be a part. */
        if (address->host[0] && len < sizeof(path.sun_path))
                len++;
        *ret_len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len);
        return 0;
}

int address_to_kernel(const struct ovl_address *address, struct sockaddr_storage *ret_kernel, socklen_t *ret_len) {
        switch (address->family) {
        case OVL_FAMILY_INET:
                return address_to_inet(address, ret_kernel, ret_len);
        case OVL_FAMILY_INET6:
                return address_to_inet6(address, ret_kernel, ret_len);
        case OVL_FAMILY_UNIX:
                return address_to_unix(address, ret_kernel, ret_len);
        default:
                return -EAFNOSUPPORT;
        }
}

bool address_is_relative(const struct ovl_address *address) {
        return address->family == OVL_FAMILY_UNIX && address->path_len > 0 && address->host[0] != '\0' &&
               address->host[0] != '/';
}

/* A kernel address may be shorter than its family's structure: what is missing is zero. */
static void address_copy_kernel(void *to, size_t size, const struct sockaddr *kernel, socklen_t len) {
        memset(to, 0, size);
        memcpy(to, kernel, len < size ? len : size);
}

static void address_from_inet(const struct sockaddr *kernel, socklen_t len, struct ovl_address *address) {
        struct sockaddr_in inet;

        address_copy_kernel(&inet, sizeof(inet), kernel, len);
        address->family = OVL_FAMILY_INET;
        address->port = ntohs(inet.sin_port);
        memcpy(address->host, &inet.sin_addr, sizeof(inet.sin_addr));
}

static void address_from_inet6(const struct sockaddr *kernel, socklen_t len, struct ovl_address *address) {
        struct sockaddr_in6 inet6;

        address_copy_kernel(&inet6, sizeof(inet6), kernel, len);
        address->family = OVL_FAMILY_INET6;
        address->port = ntohs(inet6.sin6_port);
        address->scope_id = inet6.sin6_scope_id;
        memcpy(address->host, &inet6.sin6_addr, sizeof(inet6.sin6_addr));
}

static void address_from_unix(const struct sockaddr *kernel, socklen_t len, struct ovl_address *address) {
        struct sockaddr_un path;
        size_t path_len = 0;

        address_copy_kernel(&path, sizeof(path), kernel, len);
        if (len > offsetof(struct sockaddr_un, sun_path))
                path_len = len - offsetof(struct sockaddr_un, sun_path);
        if (path_len > sizeof(path.sun_path))
                path_len = sizeof(path.sun_path);
        if (path_len && path.sun_path[0])
                path_len = strnlen(path.sun_path, path_len);
        address->family = OVL_FAMILY_UNIX;
        address->path_len = (uint8_t) path_len;
        memcpy(address->host, path.sun_path, path_len);
}

int address_from_kernel(const struct sockaddr *kernel, socklen_t len, struct ovl_address *ret_address) {
        struct ovl_address address = { 0 };

        if (len < sizeof(kernel->sa_family))
                return -EAFNOSUPPORT;
        switch (kernel->sa_family) {
        case AF_INET:
                address_from_inet(kernel, len, &address);
                break;
        case AF_INET6:
                address_from_inet6(kernel, len, &address);
                break;
        case AF_UNIX:
                address_from_unix(kernel, len, &address);
                break;
        default:
                return -EAFNOSUPPORT;
        }
        *ret_address = address;
        return 0;
}

/* A path may hold any byte; what would disturb a terminal or a journal line becomes a question mark. */
static void address_format_path(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]) {
        size_t len = address->path_len < sizeof(address->host) ? address->path_len : sizeof(address->host);

        if (!len) {
                snprintf(text, ADDRESS_TEXT_SIZE, "(unnamed)");
                return;
        }
        for (size_t i = 0; i < len; i++) {
                uint8_t byte = address->host[i];

                text[i] = byte < 0x20 || byte > 0x7e ? '?' : (char) byte;
        }
        if (!address->host[0])
                text[0] = '@';
        text[len] = '\0';
}

const char *address_format(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]) {
        char host[INET6_ADDRSTRLEN];

        switch (address->family) {
        case OVL_FAMILY_INET:
                inet_ntop(AF_INET, address->host, host, sizeof(host));
                snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, address->port);
                break;
        case OVL_FAMILY_INET6:
                inet_ntop(AF_INET6, address->host, host, sizeof(host));
                if (address->scope_id)
                        snprintf(text, ADDRESS_TEXT_SIZE, "[%s%%%u]:%u", host, address->scope_id, address->port);
                else
                        snprintf(text, ADDRESS_TEXT_SIZE, "[%s]:%u", host, address->port);
                break;
        case OVL_FAMILY_UNIX:
                address_format_path(address, text);
                break;
        default:
                snprintf(text, ADDRESS_TEXT_SIZE, "(no address)");
                break;
        }
        return text;
}
