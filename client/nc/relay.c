/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both directions of one connection, and what the end of one means for the other.
 *
 *   running -> closing   both directions are done; or one failed and all that came was written; or a deadline
 *   closing -> ended     the socket is closed and its last operation has said so: memory and structures are free
 *
 * Invariant: the end of one direction alone never throws away what the other still carries. In particular data that
 * came before an error, or before overlapd was lost, is written before anything ends.
 *
 * What the end of the input means is the manner's choice (-N, -q); the end of the stream is always passed on, by ending
 * the output. With `ends_with_peer` it also ends the relay, but not while the input has more: whoever sends a file with
 * -l gets it sent to its end even when the receiver has ended its own sending before.
 *
 * All changes come through relay_moved(), which looks at the state as a whole: no event needs to know what others did.
 */

#include "client/nc/relay.h"

#include <errno.h>
#include <sys/socket.h>

#include "client/nc/report.h"

#define RELAY_SLOT_SIZE (POOL_PIECE_SIZE / (UPSTREAM_SLOTS + DOWNSTREAM_SLOTS))
#define RELAY_DATAGRAM_SIZE 16384u /* of what is read: longer ones seldom arrive */

static void relay_finish(struct relay *relay) {
        if (relay->up.n_pending > 0 || relay->down.n_pending > 0)
                return;
        pool_give(relay->pool, relay->piece);
        relay->piece = NULL;
        loop_release(relay->loop);
        relay->ended(relay);
}

void relay_close(struct relay *relay, int status) {
        if (relay->is_closing)
                return;
        relay->is_closing = true;
        relay->status = status;
        relay->is_unheard = relay->down.is_dropped;
        loop_clear(&relay->begin);
        loop_clear(&relay->idle);
        loop_clear(&relay->quit);
        upstream_stop(&relay->up);
        downstream_stop(&relay->down);
        ovl_socket_close(relay->loop->thread, relay->socket);
        relay_finish(relay);
}

static void relay_tell(struct relay *relay, int status, unsigned reason, const char *what) {
        char why[256];

        if (status == -ECONNABORTED && loop_is_lost(relay->loop))
                return;
        report("%s failed: %s", what, loop_why(relay->loop, status, reason, why, sizeof(why)));
}

/*
 * Something failed: what came before is still written. A send that fails because the peer is gone also waits for what
 * the peer said before it went, and for its end.
 */
static void relay_check_failures(struct relay *relay) {
        struct downstream *down = &relay->down;
        struct upstream *up = &relay->up;

        if (!up->failed && !down->failed)
                return;
        if (up->failed && !up->is_peer_gone)
                downstream_end(down);
        if (!down->is_ended || (down->n_full > 0 && !down->is_dropped))
                return;
        if (down->failed)
                relay_tell(relay, down->status, down->reason, down->failed);
        else
                relay_tell(relay, up->status, up->reason, up->failed);
        relay_close(relay, down->failed ? down->status : up->status);
}

static void relay_end_input(struct relay *relay) {
        relay->is_up_done = true;
        if (relay->manner.is_shut && !relay->manner.is_datagram && !relay->up.failed)
                ovl_shutdown(relay->loop->thread, relay->socket, SHUT_WR);
        if (relay->manner.quit_ns != OVL_INFINITE)
                loop_set(relay->loop, &relay->quit, relay->loop->now_ns + relay->manner.quit_ns);
}

static void relay_end_output(struct relay *relay) {
        relay->is_down_done = true;
        loop_remove(relay->loop, &relay->down.source);
        if (!relay->manner.is_kept)
                local_end_output(relay->output);
}

/* Whether the directions leave nothing to do. */
static bool relay_is_over(struct relay *relay) {
        bool has_reader = !relay->down.is_dropped;

        if (relay->is_up_done && (relay->is_down_done || !has_reader))
                return true;
        return relay->is_down_done && relay->manner.ends_with_peer && relay->up.n_pending == 0 &&
               !local_is_readable(relay->input);
}

static void relay_moved(void *user) {
        struct relay *relay = user;

        if (relay->is_closing) {
                relay_finish(relay);
                return;
        }
        relay->active_ns = relay->loop->now_ns;
        if (relay->manner.is_datagram && relay->peer.len && !relay->up.source.events)
                upstream_start(&relay->up);
        relay_check_failures(relay);
        if (relay->is_closing)
                return;
        if (!relay->is_up_done && upstream_is_done(&relay->up))
                relay_end_input(relay);
        if (!relay->is_down_done && downstream_is_done(&relay->down))
                relay_end_output(relay);
        if (relay_is_over(relay))
                relay_close(relay, 0);
}

/* Nothing came or went for as long as it may; what was due to leave is lost, and that is an error. */
static void relay_idle(struct timer *timer) {
        struct relay *relay = list_entry(timer, struct relay, idle);
        uint64_t at = relay->active_ns + relay->manner.timeout_ns;

        if (at > relay->loop->now_ns) {
                loop_set(relay->loop, timer, at);
                return;
        }
        if (relay->up.n_pending > 0 || relay->down.n_full > 0) {
                report("%s took nothing within the time of -w", relay->up.n_pending > 0 ? "the peer" : "the output");
                relay_close(relay, -ETIMEDOUT);
        } else {
                relay_close(relay, 0);
        }
}

static void relay_quit(struct timer *timer) {
        relay_close(list_entry(timer, struct relay, quit), 0);
}

/* The loop is what everything begins from, so that nobody is told of an end before the start has returned. */
static void relay_begin(struct timer *timer) {
        struct relay *relay = list_entry(timer, struct relay, begin);

        downstream_start(&relay->down);
        upstream_start(&relay->up);
        if (relay->manner.timeout_ns != OVL_INFINITE)
                loop_set(relay->loop, &relay->idle, relay->loop->now_ns + relay->manner.timeout_ns);
        relay_moved(relay);
}

static void relay_init(struct relay *relay) {
        struct address *peer = relay->manner.is_datagram && !relay->manner.has_peer ? &relay->peer : NULL;
        char *data = relay->piece;

        timer_init(&relay->begin, relay_begin);
        timer_init(&relay->idle, relay_idle);
        timer_init(&relay->quit, relay_quit);
        upstream_init(&relay->up, relay->loop, relay->input, data, RELAY_SLOT_SIZE, relay_moved, relay);
        downstream_init(&relay->down, relay->loop, relay->output, data + UPSTREAM_SLOTS * RELAY_SLOT_SIZE,
                        RELAY_SLOT_SIZE, relay_moved, relay);
        relay->up.socket = relay->down.socket = relay->socket;
        relay->up.peer = relay->down.peer = peer;
        relay->down.is_datagram = relay->manner.is_datagram;
        relay->down.is_of_all = relay->manner.is_of_all;
        if (relay->manner.is_datagram)
                relay->up.max = RELAY_DATAGRAM_SIZE;
}

int relay_start(struct relay *relay, struct loop *loop, struct pool *pool, const struct relay_manner *manner,
                struct local *input, struct local *output, uint64_t take_socket, void (*ended)(struct relay *relay)) {
        int r;

        *relay = (struct relay){
                .loop = loop,
                .pool = pool,
                .manner = *manner,
                .input = input,
                .output = output,
                .socket = take_socket,
                .active_ns = loop->now_ns,
                .ended = ended,
        };
        r = pool_take(pool, &relay->piece);
        if (r < 0)
                return r;
        relay_init(relay);
        loop_hold(loop);
        loop_set(loop, &relay->begin, loop->now_ns);
        return 0;
}
