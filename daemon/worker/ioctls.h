/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_IOCTLS_H
#define DAEMON_WORKER_IOCTLS_H

/* The ioctls of a socket: part of the module socket. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/socket.h"

/* Carries out an ioctl whose entry was checked, or asks the monitor. Appends the op to `ended`, if it has. */
void ioctls_start(struct socket *socket, struct op *op, struct list *ended);

/* The monitor answered. fd: memory with a list, or -1. Borrowed. Appends the op to `ended`. */
void ioctls_answer(struct op *op, const struct link_message *answer, int fd, struct list *ended);

/* As socket_cancel(). */
void ioctls_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled, struct list *ended);

/* An op of a handle is a record: a FLUSH that was posted behind it has one less to wait for. */
void ioctls_pass(struct socket *socket, const struct handle *handle, uint64_t serial, struct list *ended);

#endif
