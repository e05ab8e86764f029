/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_POST_H
#define DAEMON_WORKER_POST_H

/* Posts: the way of a client's entries to ops. */

#include <stddef.h>
#include <stdint.h>

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

#endif
