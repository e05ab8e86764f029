/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_ADDRESS_H
#define CLIENT_NC_ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>

struct address {
        struct sockaddr_storage storage;
        socklen_t len; /* bytes of that; 0: none */
};

/* Enough for each address in words. */
#define ADDRESS_TEXT_SIZE 128

/* Writes an address as people do: 127.0.0.1:80, [::1]:80, /path, @name. Returns text. */
const char *address_format(const struct address *address, char *text);

/*
 * Makes the address of a Unix socket.
 *
 * path: what begins with @ is an abstract name; what does not begin with a slash is below the working directory.
 *
 * Returns 0, -ENAMETOOLONG, -EINVAL (nothing) or -errno (there is no working directory).
 */
int address_from_path(const char *path, struct address *ret_address);

/* The address of a family that stands for all of the machine's. */
void address_any(int family, uint16_t port, struct address *ret_address);

/* Makes an IPv4 address of one that is written as IPv6: ::ffff:127.0.0.1. Others stay as they are. */
void address_unmap(struct address *address);

/* The bytes of an address of this family. */
socklen_t address_len(int family);

#endif
