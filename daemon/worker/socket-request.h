/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SOCKET_REQUEST_H
#define DAEMON_WORKER_SOCKET_REQUEST_H

/* The request of the first op of a queue. */

#include "daemon/worker/socket.h"

/* Describes what the op asks of the kernel, and appends the buffers of those behind it that can share the request. */
void socket_request(struct socket *socket, struct queue *queue, struct op *op);

/* The MSG_* flags of an op's system calls. */
int socket_request_flags(const struct op *op);

/* A piece of a file must not wait for a peer; bytes that others follow need not leave by themselves. */
void socket_request_transmit(struct socket *socket, struct op *op);

/*
 * Whether a receive waits for data without taking it: where it has no room, and beside receives of urgent data, which
 * have to be served before the stream is received beyond their byte.
 */
bool socket_only_looks(const struct socket *socket, const struct op *op);

#endif
