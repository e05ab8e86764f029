/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_RESOLVE_H
#define DAEMON_WORKER_RESOLVE_H

/* Resolving: the one op that has no socket. */

#include "daemon/worker/session.h"

#define RESOLVE_TEXT_MAX 320u /* bytes that resolve_copy() copies at most */

/* Copies bytes of client memory, which may begin anywhere, once. */
void resolve_copy(const struct iovec *from, uint8_t *to);

/*
 * Takes the name and the place for the addresses from an entry.
 *
 * Returns 0 when the op can be started, or -errno and the reason.
 */
int resolve_take(struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

/* Asks the monitor. If that is not possible the op is appended to `ended`. */
void resolve_start(struct op *op, struct list *ended);

/* The monitor answered. fd: memory with the addresses, or -1. Borrowed. */
void resolve_finish(struct op *op, const struct link_message *answer, int fd);

#endif
