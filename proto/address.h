/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_ADDRESS_H
#define PROTO_ADDRESS_H

/* Addresses between their wire form and the kernel's. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "proto/layout.h"

#define ADDRESS_TEXT_SIZE 160 /* room for address_format(), NUL included */

/*
 * Checks a wire address and gives the kernel's form.
 *
 * Returns 0; -EAFNOSUPPORT for a family that is not one of enum ovl_family; -EINVAL when a field that the family does
 * not use is not zero, or a path is empty or longer than 108 bytes.
 */
int address_to_kernel(const struct ovl_address *address, struct sockaddr_storage *ret_kernel, socklen_t *ret_len);

/*
 * Whether the address is the path of a Unix socket that is not absolute: what it names depends on the working directory
 * of whoever looks, which for the daemon is nobody's business. An abstract name is not a path.
 */
bool address_is_relative(const struct ovl_address *address);

/* Returns 0, or -EAFNOSUPPORT. A kernel address without a host (an unbound or unnamed socket) keeps its family. */
int address_from_kernel(const struct sockaddr *kernel, socklen_t len, struct ovl_address *ret_address);

/* Writes the address as a person writes it: 192.0.2.1:80, [2001:db8::1]:80, [fe80::1%2]:80, a path, @abstract. */
const char *address_format(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]);

#endif
