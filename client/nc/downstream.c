/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a socket to an output of this process. Several receives are always posted, so that the next one fills while the
 * last one is written.
 *
 * Invariant: bytes are written in the order in which their receives were posted, which is also that of their routines;
 * a receive is posted again only when its bytes were written, so a slow output stops the peer, and memory is bounded.
 *
 *   slot: free -> posted   while the stream goes on
 *         posted -> full   its routine; at the end of the stream, or after an error, it is full of nothing
 *         full -> free     its bytes were written, in turn
 *   downstream: receiving -> ended    the end of the stream, or an error: what came before is still written
 *               writing -> dropping   nobody reads the output any more. Receiving goes on: were the socket closed with
 *                                     data in it, the kernel would reset the connection, and cut off what we sent
 */

#include "client/nc/downstream.h"

#include <errno.h>
#include <string.h>

#include "client/nc/report.h"

static void downstream_post_all(struct downstream *downstream);
static void downstream_write(struct downstream *downstream);

static void downstream_fail(struct downstream *downstream, int status, unsigned reason, const char *what) {
        if (!downstream->failed) {
                downstream->status = status;
                downstream->reason = reason;
                downstream->failed = what;
        }
        downstream->is_ended = true;
}

/* Whether a datagram is wanted; whoever sent it is the peer from now on. */
static bool downstream_admit(struct downstream *downstream, const struct downstream_slot *slot) {
        struct address *peer = downstream->peer;

        if (!peer)
                return true;
        if (peer->len && !downstream->is_of_all)
                return peer->len == slot->from.len && memcmp(&peer->storage, &slot->from.storage, peer->len) == 0;
        *peer = slot->from;
        return true;
}

/* What an operation that has ended means. */
static void downstream_take(struct downstream *downstream, struct downstream_slot *slot) {
        const struct ovl_overlapped *op = &slot->op;

        slot->at = slot->len = 0;
        if (downstream->is_ended)
                return;
        if (op->status < 0 && !(op->flags & OVL_TRUNCATED)) {
                /* Of everybody to whom one sends, one may be gone. */
                if (op->status != -ECONNREFUSED || !downstream->is_of_all)
                        downstream_fail(downstream, op->status, op->reason, "receiving");
        } else if (downstream->is_datagram) {
                slot->len = downstream_admit(downstream, slot) ? op->bytes : 0;
                if (op->flags & OVL_TRUNCATED)
                        report("a datagram was longer than %zu bytes: the rest of it is lost", downstream->slot_size);
        } else if (op->bytes == 0) {
                downstream->is_ended = true;
        } else {
                slot->len = op->bytes;
        }
        downstream->n_bytes += slot->len;
}

static void downstream_received(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct downstream *downstream = op->user;

        downstream->n_pending--;
        for (unsigned i = 0; i < DOWNSTREAM_SLOTS; i++) {
                struct downstream_slot *slot = &downstream->slots[i];

                if (&slot->op == op) {
                        downstream_take(downstream, slot);
                        slot->state = DOWNSTREAM_FULL;
                        downstream->n_full++;
                }
        }
        downstream_write(downstream);
        downstream_post_all(downstream);
        downstream->moved(downstream->user);
}

static int downstream_post(struct downstream *downstream, struct downstream_slot *slot) {
        struct ovl_thread *thread = downstream->loop->thread;
        struct ovl_buffer buffer = { slot->data, downstream->slot_size };
        int r;

        slot->op.user = downstream;
        if (downstream->is_datagram)
                r = ovl_recvfrom(thread, downstream->socket, &buffer, 1, 0, &slot->from.storage, &slot->from.len,
                                 &slot->op, downstream_received);
        else
                r = ovl_recv(thread, downstream->socket, &buffer, 1, 0, &slot->op, downstream_received);
        if (r < 0)
                return r;
        slot->state = DOWNSTREAM_POSTED;
        downstream->n_pending++;
        return 0;
}

/* Free slots lie behind those that are posted or full. */
static void downstream_post_all(struct downstream *downstream) {
        unsigned n = downstream->n_pending + downstream->n_full;
        int r;

        for (; n < DOWNSTREAM_SLOTS && !downstream->is_ended; n++) {
                r = downstream_post(downstream, &downstream->slots[(downstream->head + n) % DOWNSTREAM_SLOTS]);
                if (r < 0)
                        downstream_fail(downstream, r, 0, "receiving");
        }
}

/* Writes what is left of the first slot. Returns whether it is done. */
static bool downstream_write_slot(struct downstream *downstream, struct downstream_slot *slot) {
        ssize_t n;

        while (slot->at < slot->len && !downstream->is_dropped) {
                n = local_write(downstream->output, slot->data + slot->at, slot->len - slot->at);
                if (n == -EAGAIN)
                        return false;
                if (n < 0 && n != -EPIPE && n != -ECONNRESET)
                        downstream_fail(downstream, (int) n, 0, "writing the output");
                if (n < 0)
                        downstream->is_dropped = true;
                else
                        slot->at += (size_t) n;
        }
        return true;
}

static void downstream_write(struct downstream *downstream) {
        struct downstream_slot *slot = &downstream->slots[downstream->head];

        while (slot->state == DOWNSTREAM_FULL && downstream_write_slot(downstream, slot)) {
                slot->state = DOWNSTREAM_FREE;
                downstream->n_full--;
                downstream->head = (downstream->head + 1) % DOWNSTREAM_SLOTS;
                slot = &downstream->slots[downstream->head];
        }
        downstream->source.events = slot->state == DOWNSTREAM_FULL ? POLLOUT : 0;
        downstream->source.is_watched = !downstream->is_dropped;
        if (downstream->is_dropped)
                loop_remove(downstream->loop, &downstream->source);
}

static void downstream_ready(struct source *source, short events) {
        struct downstream *downstream = list_entry(source, struct downstream, source);

        /* Nobody reads any more; a terminal or a socket may still take what is there, and says no itself. */
        if (!(events & POLLOUT) && events & (POLLERR | POLLHUP | POLLNVAL))
                downstream->is_dropped = true;
        downstream_write(downstream);
        downstream_post_all(downstream);
        downstream->moved(downstream->user);
}

void downstream_init(struct downstream *downstream, struct loop *loop, struct local *output, char *data,
                     size_t slot_size, void (*moved)(void *user), void *user) {
        *downstream = (struct downstream){
                .loop = loop, .output = output, .slot_size = slot_size, .moved = moved, .user = user
        };
        source_init(&downstream->source, output->fd, downstream_ready);
        for (unsigned i = 0; i < DOWNSTREAM_SLOTS; i++)
                downstream->slots[i].data = data + i * slot_size;
}

void downstream_start(struct downstream *downstream) {
        int r = 0;

        downstream->is_dropped = downstream->output->fd < 0;
        if (!downstream->is_dropped)
                r = loop_add(downstream->loop, &downstream->source);
        if (r < 0)
                downstream_fail(downstream, r, 0, "watching the output");
        downstream_write(downstream);
        downstream_post_all(downstream);
}

void downstream_end(struct downstream *downstream) {
        downstream->is_ended = true;
}

void downstream_stop(struct downstream *downstream) {
        downstream->is_ended = downstream->is_dropped = true;
        downstream_write(downstream);
}

bool downstream_is_done(const struct downstream *downstream) {
        return downstream->is_ended && downstream->n_full == 0;
}
