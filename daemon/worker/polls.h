/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_POLLS_H
#define DAEMON_WORKER_POLLS_H

/* The polls of a socket: part of the module socket, and of nobody else. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/socket.h"

/* Events that a client may ask for. */
#define POLLS_EVENTS (OVL_POLL_IN | OVL_POLL_PRIORITY | OVL_POLL_OUT | OVL_POLL_ERROR | OVL_POLL_HUP)

/* Starts a poll: it is in flight from here on, unless what it looks for is known already. */
void polls_start(struct socket *socket, struct op *op, struct list *ended);

/* The request of a poll ended. Appends the op to `ended`, or starts it again. */
void polls_finish(struct socket *socket, struct op *op, int32_t result, struct list *ended);

/* No receive is posted any more: data that comes is told again. */
void polls_resume(struct socket *socket);

/* A refusal was taken from the kernel, and no receive is posted that is told of it. */
void polls_tell_refusal(struct socket *socket);

/* As socket_cancel(): those that match end when the engine says so. */
void polls_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                  const void *argument, unsigned reason, uint32_t *cancelled);

#endif
