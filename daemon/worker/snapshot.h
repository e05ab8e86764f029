/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SNAPSHOT_H
#define DAEMON_WORKER_SNAPSHOT_H

/* What the worker holds, for an administrator. */

#include "daemon/snapshot.h"
#include "daemon/worker/resources.h"

/*
 * Makes the page that the query asks for.
 *
 * Returns 0 and the descriptor of sealed memory with a struct snapshot_page, the caller's; -EINVAL for a kind that
 * there is not; -ENOMEM, -EMFILE or another -errno of memfd_create(2).
 */
int snapshot_make(const struct resources *resources, const struct snapshot_query *query, int *ret_fd);

#endif
