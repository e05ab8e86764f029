/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ACKS_H
#define DAEMON_WORKER_ACKS_H

/* A TCP socket without a send buffer: part of the module socket, and of who sets its options. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/socket.h"

/* Sends that are posted from here on end when they are acknowledged, or when the kernel has them. */
void acks_set(struct socket *socket, bool are_awaited);

/* Whether an op of the sending side that is done otherwise is to wait: for what it sent, or behind one that waits. */
bool acks_are_awaited(const struct socket *socket, const struct op *op);

/* Somebody waits: the queue QUEUE_SENT is looked at again in a while. */
void acks_expect(struct socket *socket);

/* How many of the bytes that the socket has sent the peer has acknowledged. */
uint64_t acks_count(struct socket *socket);

/* Whether the connection is over: what is not acknowledged will never be. */
bool acks_never_come(struct socket *socket);

#endif
