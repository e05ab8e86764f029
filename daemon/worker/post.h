/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_POST_H
#define DAEMON_WORKER_POST_H

/* Posts: the way of a client's entries to ops. */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "daemon/worker/op.h"

struct peer;
struct session;

/*
 * Serves the slots of one POST frame, from the n-th on.
 *
 * body, len: of the frame, in memory that the client cannot reach.
 * n_done:    slots that were served; goes on from there in a further call.
 *
 * Returns 1 when all were served; 0 when the session has no free op, and is held until one is free again; -EPROTO and a
 * static text when the frame is malformed.
 */
int post_serve_frame(struct session *session, struct peer *peer, const uint8_t *body, size_t len, size_t *n_done,
                     const char **ret_problem);

/* Resolves one slice of an entry and pins its region. Returns 0, or -errno and the reason. */
int post_take_slice(struct session *session, struct op *op, const struct ovl_slice *slice, struct iovec *ret_part,
                    unsigned *ret_reason);

#endif
