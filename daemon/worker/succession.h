/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SUCCESSION_H
#define DAEMON_WORKER_SUCCESSION_H

/* How a descriptor that a step of an op brought becomes a socket, and takes the place of another. */

#include "base/list.h"
#include "daemon/worker/op.h"

/* Puts what a renewal asks of the monitor into the scratch of the op. */
void succession_ask(struct op *op);

/* An op has left its socket with a descriptor. It goes on with it, or is among the ended. */
void succession_begin(struct op *op, struct list *ended);

/* An op has ended that was to bring a connection: the client has it now, or it is given up. */
void succession_end(struct op *op, struct list *ended);

#endif
