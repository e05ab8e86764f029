/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_RESOLVE_H
#define DAEMON_WORKER_RESOLVE_H

/* Resolving: the one op that has no socket. */

#include "daemon/worker/session.h"

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
