/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Addresses: in words, and of Unix sockets. Names of hosts are overlapd's affair, for it is its machine that they
 * lead to; even numbers go there, because the interface in fe80::1%eth0 is one of overlapd's network, not of ours.
 */

#include "client/nc/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static void address_format_unix(const struct sockaddr_un *address, socklen_t len, char *text) {
        size_t n = len > offsetof(struct sockaddr_un, sun_path) ? len - offsetof(struct sockaddr_un, sun_path) : 0;

        if (n == 0)
                snprintf(text, ADDRESS_TEXT_SIZE, "a socket without a name");
        else if (address->sun_path[0] == '\0')
                snprintf(text, ADDRESS_TEXT_SIZE, "@%.*s", (int) n - 1, address->sun_path + 1);
        else
                snprintf(text, ADDRESS_TEXT_SIZE, "%.*s", (int) n, address->sun_path);
}

const char *address_format(const struct address *address, char *text) {
        const struct sockaddr_in *inet = (const struct sockaddr_in *) &address->storage;
        const struct sockaddr_in6 *inet6 = (const struct sockaddr_in6 *) &address->storage;
        char host[INET6_ADDRSTRLEN];

        switch (address->len ? address->storage.ss_family : AF_UNSPEC) {
        case AF_INET:
                snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", inet_ntop(AF_INET, &inet->sin_addr, host, sizeof(host)),
                         ntohs(inet->sin_port));
                break;
        case AF_INET6:
                inet_ntop(AF_INET6, &inet6->sin6_addr, host, sizeof(host));
                if (inet6->sin6_scope_id)
                        snprintf(text, ADDRESS_TEXT_SIZE, "[%s%%%u]:%u", host, inet6->sin6_scope_id,
                                 ntohs(inet6->sin6_port));
                else
                        snprintf(text, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(inet6->sin6_port));
                break;
        case AF_UNIX:
                address_format_unix((const struct sockaddr_un *) &address->storage, address->len, text);
                break;
        default:
                snprintf(text, ADDRESS_TEXT_SIZE, "an unknown address");
                break;
        }
        return text;
}

int address_from_path(const char *path, struct address *ret_address) {
        struct address address = { 0 };
        struct sockaddr_un *name = (struct sockaddr_un *) &address.storage;
        char full[4096 + sizeof(name->sun_path) + 2] = "";
        size_t len;

        if (!path[0])
                return -EINVAL;
        if (path[0] != '/' && path[0] != '@') {
                if (!getcwd(full, 4096))
                        return -errno;
                strcat(full, "/");
        }
        if (strlen(path) >= sizeof(name->sun_path))
                return -ENAMETOOLONG;
        strcat(full, path);
        len = strlen(full);
        if (len >= sizeof(name->sun_path))
                return -ENAMETOOLONG;
        name->sun_family = AF_UNIX;
        memcpy(name->sun_path, full, len);
        address.len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len + (full[0] != '@'));
        if (full[0] == '@')
                name->sun_path[0] = '\0';
        *ret_address = address;
        return 0;
}

void address_any(int family, uint16_t port, struct address *ret_address) {
        struct sockaddr_in *inet = (struct sockaddr_in *) &ret_address->storage;
        struct sockaddr_in6 *inet6 = (struct sockaddr_in6 *) &ret_address->storage;

        *ret_address = (struct address){ .len = address_len(family) };
        ret_address->storage.ss_family = (sa_family_t) family;
        if (family == AF_INET)
                inet->sin_port = htons(port);
        else if (family == AF_INET6)
                inet6->sin6_port = htons(port);
}

socklen_t address_len(int family) {
        switch (family) {
        case AF_INET:
                return sizeof(struct sockaddr_in);
        case AF_INET6:
                return sizeof(struct sockaddr_in6);
        case AF_UNIX:
                return sizeof(sa_family_t);
        default:
                return sizeof(struct sockaddr_storage);
        }
}

void address_unmap(struct address *address) {
        const struct sockaddr_in6 inet6 = *(const struct sockaddr_in6 *) &address->storage;
        struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = inet6.sin6_port };

        if (address->len < sizeof(inet6) || inet6.sin6_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&inet6.sin6_addr))
                return;
        memcpy(&inet.sin_addr, &inet6.sin6_addr.s6_addr[12], sizeof(inet.sin_addr));
        memcpy(&address->storage, &inet, sizeof(inet));
        address->len = sizeof(inet);
}
