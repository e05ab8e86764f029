/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entries from a lane. They take the same way as those of frames; what differs is that a client that stops being served
 * is not held by its socket, but by its ring, which it cannot fill further.
 */

#include <errno.h>

#include "daemon/worker/lane.h"
#include "daemon/worker/post.h"
#include "daemon/worker/session.h"

/* Serves the next entry. Returns 1; 0 when there is none; -EAGAIN or -EPROTO as post_serve_lane(). */
static int post_serve_next(struct session *session, struct peer *peer, struct list *ended, const char **ret_problem) {
        struct ovl_entry entry;
        int r;

        r = lane_next(peer->lane, &entry, ret_problem);
        if (r <= 0)
                return r;
        if (!peer->thread) {
                *ret_problem = "an entry is in the lane of a port: only threads post";
                return -EPROTO;
        }
        r = post_entry(session, peer, &entry, NULL, ended, ret_problem);
        if (r == 0) {
                session->is_held = true;
                return -EAGAIN;
        }
        if (r > 0)
                lane_consume(peer->lane, &entry);
        return r;
}

int post_serve_lane(struct session *session, struct peer *peer, unsigned max, const char **ret_problem) {
        struct list ended;
        unsigned n = 0;
        int r = 1;

        list_init(&ended);
        while (n < max) {
                r = post_serve_next(session, peer, &ended, ret_problem);
                if (r <= 0)
                        break;
                n++;
        }
        if (n > 0)
                lane_tell(peer->lane);
        session_indicate_all(&ended);
        return r < 0 && (r != -EAGAIN || n == 0) ? r : (int) n;
}
