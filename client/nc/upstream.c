/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From an input of this process to a socket. What is read goes into a free slot of lent memory, which is posted at
 * once; while one slot is sent the next is read.
 *
 * Invariant: no more is read than there are free slots: a peer that does not read stops the reading of the input, and
 * memory is bounded. Sends leave in posting order, so the bytes keep theirs.
 *
 *   slot: free -> busy   the input had something, and it was posted
 *         busy -> free   its routine: everything was sent, or nothing more will be
 *   upstream: reading -> ended   the end of the input, an error on either side, or upstream_stop()
 *
 * A datagram has what one read brings. Rejected: joining short reads while sends are pending, which saves operations
 * but makes a terminal's lines wait for the network's answer.
 */

#include "client/nc/upstream.h"

#include <errno.h>

static void upstream_update(struct upstream *upstream);

static void upstream_fail(struct upstream *upstream, int status, unsigned reason, const char *what) {
        if (!upstream->failed) {
                upstream->status = status;
                upstream->reason = reason;
                upstream->failed = what;
        }
        upstream->is_ended = true;
}

static void upstream_sent(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct upstream *upstream = op->user;

        for (unsigned i = 0; i < UPSTREAM_SLOTS; i++)
                if (&upstream->slots[i].op == op)
                        upstream->slots[i].is_busy = false;
        upstream->n_pending--;
        if (op->status < 0) {
                upstream_fail(upstream, op->status, op->reason, "sending");
                upstream->is_peer_gone = op->status == -EPIPE || op->status == -ECONNRESET;
        }
        upstream_update(upstream);
        upstream->moved(upstream->user);
}

static int upstream_post(struct upstream *upstream, struct upstream_slot *slot, size_t len) {
        struct ovl_buffer buffer = { slot->data, len };
        int r;

        slot->op.user = upstream;
        if (upstream->peer)
                r = ovl_sendto(upstream->loop->thread, upstream->socket, &buffer, 1, 0,
                               (const struct sockaddr *) &upstream->peer->storage, upstream->peer->len, &slot->op,
                               upstream_sent);
        else
                r = ovl_send(upstream->loop->thread, upstream->socket, &buffer, 1, 0, &slot->op, upstream_sent);
        if (r < 0)
                return r;
        slot->is_busy = true;
        upstream->n_pending++;
        return 0;
}

static struct upstream_slot *upstream_find_slot(struct upstream *upstream) {
        for (unsigned i = 0; i < UPSTREAM_SLOTS; i++)
                if (!upstream->slots[i].is_busy)
                        return &upstream->slots[i];
        return NULL;
}

static void upstream_read(struct upstream *upstream) {
        struct upstream_slot *slot;
        ssize_t n;
        int r;

        while (!upstream->is_ended && (slot = upstream_find_slot(upstream))) {
                n = local_read(upstream->input, slot->data, upstream->max);
                if (n == -EAGAIN)
                        return;
                if (n < 0)
                        return upstream_fail(upstream, (int) n, 0, "reading the input");
                if (n == 0) {
                        upstream->is_ended = true;
                        return;
                }
                upstream->n_bytes += (size_t) n;
                r = upstream_post(upstream, slot, (size_t) n);
                if (r < 0)
                        return upstream_fail(upstream, r, 0, "sending");
        }
}

static void upstream_ready(struct source *source, short events) {
        struct upstream *upstream = list_entry(source, struct upstream, source);

        upstream_read(upstream);
        upstream_update(upstream);
        upstream->moved(upstream->user);
}

static void upstream_update(struct upstream *upstream) {
        bool has_peer = !upstream->peer || upstream->peer->len > 0;

        if (upstream->is_ended)
                loop_remove(upstream->loop, &upstream->source);
        upstream->source.events = has_peer && upstream_find_slot(upstream) ? POLLIN : 0;
}

void upstream_init(struct upstream *upstream, struct loop *loop, struct local *input, char *data, size_t slot_size,
                   void (*moved)(void *user), void *user) {
        *upstream = (struct upstream){ .loop = loop, .input = input, .max = slot_size, .moved = moved, .user = user };
        source_init(&upstream->source, input->fd, upstream_ready);
        for (unsigned i = 0; i < UPSTREAM_SLOTS; i++)
                upstream->slots[i].data = data + i * slot_size;
}

void upstream_start(struct upstream *upstream) {
        int r = 0;

        if (upstream->input->fd < 0)
                upstream->is_ended = true;
        if (!upstream->is_ended)
                r = loop_add(upstream->loop, &upstream->source);
        if (r < 0)
                upstream_fail(upstream, r, 0, "reading the input");
        upstream_update(upstream);
}

void upstream_stop(struct upstream *upstream) {
        upstream->is_ended = true;
        upstream_update(upstream);
}

bool upstream_is_done(const struct upstream *upstream) {
        return upstream->is_ended && upstream->n_pending == 0;
}
