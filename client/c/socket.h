/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_SOCKET_H
#define CLIENT_SOCKET_H

/* Addresses as programs give them, and sockets as the daemon knows them. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "client/c/overlap.h"
#include "proto/layout.h"

struct association;

/*
 * Checks an address of the program and gives its wire form: of a Unix socket perhaps one without a name.
 *
 * call, purpose: for the error text: "ovl_bind", "bind to".
 *
 * Returns 0, or -EINVAL and the thread's error: its length does not fit its family, the family is none of ours, or it
 * is a relative path.
 */
int socket_pack_address(struct ovl_thread *thread, const struct sockaddr *address, socklen_t len, const char *call,
                        const char *purpose, struct ovl_address *ret_address);

/* Asks whether the session has the socket. Returns 0, or -EBADF or another -errno and the thread's error. */
int socket_probe(struct ovl_thread *thread, uint64_t socket, const char *call);

/* Remembers of a new socket what the library must know. Takes the association if it needs one. */
void socket_keep(struct ovl_thread *thread, uint64_t socket, bool is_non_overlapped,
                 struct association **take_association);

#endif
