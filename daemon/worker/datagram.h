/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_DATAGRAM_H
#define DAEMON_WORKER_DATAGRAM_H

/* What the request of one datagram needs beyond its buffers, and what comes back beyond its bytes. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "daemon/worker/op.h"

/* Where the destination of an op is put when its entry is taken, and the engine puts the sender's address. */
struct sockaddr_storage *datagram_name(const struct op *op);

/* Where the kernel's control data of an op is: OP_CONTROL_SIZE bytes, behind the name. */
uint8_t *datagram_control(const struct op *op);

/* Whether an op sends to port 0 and not too much: nobody is there, and nothing is given to the kernel. */
bool datagram_is_for_nobody(const struct op *op);

/* Prepares the request of an op that receives or sends one datagram; its parts are set. */
void datagram_request(struct op *op);

/*
 * The request moved a datagram. Writes the sender's address where the client wants it, and what a message has besides,
 * also when the datagram was cut.
 *
 * bytes: of it, that are in the buffers.
 *
 * Returns 0, or -EMSGSIZE when it was longer than the buffers, or its items than their place: the record then says so.
 */
int datagram_finish(struct op *op, uint32_t bytes);

/* What a failure of a request means: the same whatever the family. */
int datagram_status(const struct op *op, int status);

#endif
