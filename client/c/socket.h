/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_SOCKET_H
#define CLIENT_SOCKET_H

/* Addresses as programs give them. */

#include <sys/socket.h>

#include "proto/layout.h"

/* Returns 0, -EINVAL for an address that is too short for its family, or -EAFNOSUPPORT. */
int socket_pack_address(const struct sockaddr *address, socklen_t len, struct ovl_address *ret_address);

#endif
