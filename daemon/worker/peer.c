/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Input. Bytes are read into the inbox, which holds at least one whole frame of any kind, and frames are served from
 * there; when a frame cannot be served yet (its session has no room for more ops, or too many replies are unsent), it
 * stays, and nothing more is read: the client is held by its own socket.
 *
 * Output. Records are not copied into a buffer when they come into being: the ended ops are the queue. A frame of them
 * is packed when there is room to send; if the socket takes only a part, the same ops are packed again for the rest, so
 * that a client that does not read costs no memory beyond its ops. With a lane, records without payload go there, as
 * far as it has room, and all that is sent of them is the bell. What was left in the lanes of other connections is sent
 * from there. Replies leave after the records that preceded them.
 *
 * Life.  open -> ended (the client shut down its sending side: records still go out)
 *        open, ended -> dead (end of both sides, an error, or a kick; by peer_die()) -> buried by the worker
 */

#include "daemon/worker/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/killpoint.h"
#include "base/time.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/port.h"
#include "daemon/worker/rules.h"
#include "daemon/worker/thread.h"

#define PEER_RETRY_NS (10 * NS_PER_MS)
#define PEER_LEFT_MAX ((OVL_FRAME_RECORDS_MAX - sizeof(struct ovl_records_header)) / sizeof(struct ovl_record))

/* A frame that is to be sent. */
struct reply {
        struct list link;
        uint8_t *frame;
        size_t len;
        size_t n_sent;
        int fd; /* rides with the first byte, and is closed when the frame has left; -1: none */
};

static struct reply *reply_free(struct peer *peer, struct reply *reply) {
        list_unlink(&reply->link);
        peer_drop_fd(peer, reply->fd);
        free(reply->frame);
        free(reply);
        return NULL;
}

int peer_new(struct engine *engine, struct reaper *reaper, struct list *graveyard, int *take_fd,
             const struct link_peer *identity, int kind, struct peer **ret_peer) {
        struct peer *peer = calloc(1, sizeof(*peer));
        int r;

        if (!peer)
                return -ENOMEM;
        *peer = (struct peer){ .engine = engine, .reaper = reaper, .graveyard = graveyard, .identity = *identity };
        list_init(&peer->link);
        list_init(&peer->marked);
        list_init(&peer->publish);
        list_init(&peer->settle);
        list_init(&peer->awake);
        list_init(&peer->postponed);
        list_init(&peer->paused);
        list_init(&peer->dying);
        list_init(&peer->in_session);
        list_init(&peer->records);
        list_init(&peer->framed);
        list_init(&peer->left);
        list_init(&peer->replies);
        engine_file_init(&peer->file, *take_fd, kind);
        peer->inbox = malloc(FRAME_SIZE_MAX);
        r = peer->inbox ? engine->ops->attach(engine, &peer->file) : -ENOMEM;
        if (r < 0) {
                free(peer->inbox);
                free(peer);
                return r;
        }
        channel_allow_fds(*take_fd, 1);
        fd_take(take_fd);
        *ret_peer = peer;
        return 0;
}

struct peer *peer_free(struct peer *peer) {
        struct list *link;

        if (!peer)
                return NULL;
        while ((link = list_first(&peer->replies)))
                reply_free(peer, list_entry(link, struct reply, link));
        for (size_t i = 0; i < peer->n_fds; i++)
                peer_drop_fd(peer, peer->fds[i]);
        list_unlink(&peer->link);
        list_unlink(&peer->marked);
        list_unlink(&peer->publish);
        list_unlink(&peer->settle);
        list_unlink(&peer->awake);
        list_unlink(&peer->postponed);
        list_unlink(&peer->dying);
        list_unlink(&peer->in_session);
        peer_forget_left(peer);
        rules_unref(peer->rules);
        quota_unit_unref(peer->unit);
        lane_free(peer->lane);
        peer->engine->ops->detach(peer->engine, &peer->file);
        /* With it goes what was not read, and that may be descriptors. */
        peer_drop_fd(peer, peer->file.fd);
        free(peer->inbox);
        free(peer);
        return NULL;
}

void peer_die(struct peer *peer, const char *why) {
        if (peer->is_dead)
                return;
        peer->is_dead = true;
        list_push_back(peer->graveyard, &peer->dying);
        snprintf(peer->why, sizeof(peer->why), "%s", why);
}

/* --- Input ------------------------------------------------------------------------------------------------------ */

static void peer_compact(struct peer *peer) {
        memmove(peer->inbox, peer->inbox + peer->n_taken, peer->n_filled - peer->n_taken);
        peer->n_filled -= peer->n_taken;
        peer->n_taken = 0;
}

/* Descriptors that no frame claims are held until one does; more than one frame may need is an attack. */
static void peer_keep_fds(struct peer *peer, const int *fds, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (peer->n_fds < CHANNEL_FDS_MAX) {
                        peer->fds[peer->n_fds++] = fds[i];
                        continue;
                }
                peer_drop_fd(peer, fds[i]);
                peer_die(peer, "more descriptors than its frames announce");
        }
        if (n > 0 && reaper_is_behind(peer->reaper, peer->identity.uid))
                peer_die(peer, "more descriptors came while closing those of this user hangs: stop the file system "
                               "that does not answer");
}

static bool peer_has_frame(const struct peer *peer) {
        struct ovl_frame_header header;
        const char *problem;

        return frame_find(peer->inbox + peer->n_taken, peer->n_filled - peer->n_taken, FRAME_FROM_CLIENT, &header,
                          &problem) != 0;
}

/* The client sends no more. If it does not listen either, the connection is over, once what it sent was looked at. */
static void peer_end_input(struct peer *peer) {
        struct pollfd hang_up = { .fd = peer->file.fd };

        peer->has_ended = true;
        if (poll(&hang_up, 1, 0) <= 0)
                return;
        peer->is_gone = true;
        if (!peer_has_frame(peer))
                peer_die(peer, "");
}

void peer_fill(struct peer *peer) {
        int fds[CHANNEL_FDS_ALL];
        size_t n_fds = 0;
        ssize_t n;

        if (peer->is_dead || peer->has_ended)
                return;
        /* One receive brings the descriptors of one frame: those that came must be claimed before the next ones. */
        if (peer->n_fds > 0 && peer_has_frame(peer))
                return;
        peer_compact(peer);
        if (peer->n_filled == FRAME_SIZE_MAX)
                return;
        peer->engine->stats->system_calls++;
        n = channel_receive_all(peer->file.fd, peer->inbox + peer->n_filled, FRAME_SIZE_MAX - peer->n_filled, fds,
                                &n_fds);
        if (n > 0)
                peer->n_filled += (size_t) n;
        else if (n == 0)
                peer_end_input(peer);
        else if (n == -EMSGSIZE)
                peer_die(peer, "more descriptors at once than the worker can take");
        else if (n != -EAGAIN && n != -EINTR)
                peer_die(peer, n == -ECONNRESET ? "" : strerror((int) -n));
        if (n_fds > CHANNEL_FDS_MAX)
                peer_die(peer, "more descriptors at once than any frame may carry");
        peer_keep_fds(peer, fds, n_fds);
}

int peer_next_frame(struct peer *peer, struct ovl_frame_header *ret_header, const uint8_t **ret_body,
                    const char **ret_problem) {
        const uint8_t *bytes = peer->inbox + peer->n_taken;
        int r;

        r = frame_find(bytes, peer->n_filled - peer->n_taken, FRAME_FROM_CLIENT, ret_header, ret_problem);
        if (r <= 0)
                return r;
        if (ret_header->n_fds > peer->n_fds) {
                *ret_problem = "a frame announces descriptors that did not come with it";
                return -EPROTO;
        }
        *ret_body = bytes + sizeof(*ret_header);
        return 1;
}

void peer_consume_frame(struct peer *peer, const struct ovl_frame_header *header) {
        peer->n_taken += sizeof(*header) + header->body_len;
        peer->n_slots_done = 0;
        peer->n_payload_done = 0;
}

void peer_drop_fd(struct peer *peer, int fd) {
        reaper_close(peer->reaper, fd, peer->identity.uid);
}

int peer_claim_fd(struct peer *peer) {
        int fd;

        if (peer->n_fds == 0)
                return -1;
        fd = peer->fds[0];
        memmove(peer->fds, peer->fds + 1, --peer->n_fds * sizeof(*peer->fds));
        return fd;
}

void peer_drop_continued(struct peer *peer) {
        payload_release(&peer->gathered);
        peer->is_continuing = false;
}

void peer_await_input(struct peer *peer) {
        struct engine_file *file = &peer->file;

        if (peer->is_dead || (file->armed[DIRECTION_IN] && (!file->only_hang_up || peer->has_ended)))
                return;
        if (!file->armed[DIRECTION_IN])
                file->only_hang_up = peer->has_ended;
        peer->engine->ops->arm(peer->engine, file, DIRECTION_IN);
}

void peer_await_hang_up(struct peer *peer) {
        if (peer->is_dead || peer->file.armed[DIRECTION_IN])
                return;
        peer->file.only_hang_up = true;
        peer->engine->ops->arm(peer->engine, &peer->file, DIRECTION_IN);
}

/* --- Output ----------------------------------------------------------------------------------------------------- */

int peer_push_frame(struct peer *peer, void *take_frame, size_t len, int take_fd) {
        struct reply *reply = calloc(1, sizeof(*reply));

        if (!reply) {
                peer_drop_fd(peer, take_fd);
                free(take_frame);
                return -ENOMEM;
        }
        reply->frame = take_frame;
        reply->len = len;
        reply->fd = take_fd;
        list_push_back(&peer->replies, &reply->link);
        peer->n_replies++;
        return 0;
}

bool peer_settle(struct peer *peer, uint64_t turn) {
        if (peer->n_arming > 0)
                return false;
        if (peer->settle_turn < turn)
                peer->settle_mark = peer->settle_wish;
        if (peer->n_wished <= peer->settle_mark)
                return false;
        peer->settle_turn = turn;
        peer->settle_wish = peer->n_entries;
        return true;
}

static void op_pack_record(const struct op *op, struct ovl_record *ret_record) {
        *ret_record = (struct ovl_record){
                .tag = op->tag,
                .thread = op->thread,
                .key = op->key,
                .sequence = op->sequence,
                .bytes = op->bytes,
                .value = op->value,
                .status = op->status,
                .flags = op->record_flags,
                .reason = op->reason,
                .kind = op->kind,
                .op = op->code,
                .indication = op->indication,
                .payload_len = op->payload_len,
        };
}

static struct lane *peer_first_left(const struct peer *peer) {
        struct list *link = list_first(&peer->left);

        return link ? list_entry(link, struct lane, link) : NULL;
}

void peer_forget_left(struct peer *peer) {
        struct lane *lane;

        while ((lane = peer_first_left(peer)))
                lane_free(lane);
}

/* The first of the ops that wait goes with the frame that is being made. */
static void peer_add_to_frame(struct peer *peer) {
        list_push_back(&peer->framed, list_pop_front(&peer->records));
        peer->n_framed++;
}

/*
 * Chooses what the next frame says: as many ended ops as it holds with their payloads, and at the end of them a verdict
 * that is due. One op with the longest payload and a verdict always fit.
 */
static void peer_begin_frame(struct peer *peer) {
        size_t len = sizeof(struct ovl_records_header) + sizeof(struct ovl_record);
        const struct lane *left = peer_first_left(peer);
        struct list *link;

        if (left) {
                peer->n_left = lane_n_left(left) < PEER_LEFT_MAX ? lane_n_left(left) : PEER_LEFT_MAX;
                return;
        }
        if (peer->lane) {
                peer->frame_bells = peer->bell_is_due;
                peer->bell_is_due = false;
                return;
        }
        while ((link = list_first(&peer->records))) {
                len += sizeof(struct ovl_record) + list_entry(link, struct op, link)->payload_len;
                if (len > OVL_FRAME_RECORDS_MAX)
                        return;
                peer_add_to_frame(peer);
        }
        if (peer->n_settled < peer->settle_mark) {
                peer->frame_settles = true;
                peer->n_settled = peer->settle_mark;
        }
}

static uint8_t *record_pack(const struct ovl_record *record, uint8_t *to) {
        memcpy(to, record, sizeof(*record));
        return to + sizeof(*record);
}

/* What ended. Returns where it ends. */
static uint8_t *peer_pack_records(const struct peer *peer, uint8_t *to) {
        struct ovl_record record;

        for (uint32_t i = 0; i < peer->n_left; i++) {
                lane_peek(peer_first_left(peer), i, &record);
                to = record_pack(&record, to);
        }
        list_for_each(link, &peer->framed) {
                op_pack_record(list_entry(link, struct op, link), &record);
                to = record_pack(&record, to);
        }
        return to;
}

/* What is no op's: a verdict, a bell. */
static uint8_t *peer_pack_signals(const struct peer *peer, uint8_t *to) {
        struct ovl_record record;

        if (peer->frame_settles) {
                record = (struct ovl_record){ .kind = OVL_RECORD_SETTLED, .value = peer->n_settled };
                to = record_pack(&record, to);
        }
        if (peer->frame_bells) {
                record = (struct ovl_record){
                        .kind = OVL_RECORD_WAITING,
                        .thread = peer->thread ? peer->thread->number
                                  : peer->port ? peer->port->number
                                               : 0,
                        .value = peer->bell_value,
                };
                to = record_pack(&record, to);
        }
        return to;
}

/* The payloads follow the records, in the same order. */
static uint8_t *peer_pack_payloads(const struct peer *peer, uint8_t *to) {
        list_for_each(link, &peer->framed) {
                const struct op *op = list_entry(link, struct op, link);

                payload_copy(&op->payload, to, op->payload_len);
                to += op->payload_len;
        }
        return to;
}

/* Packs that frame; always the same bytes until it was sent. */
static size_t peer_pack_frame(struct peer *peer, uint8_t *scratch) {
        size_t n_records = peer->n_left + peer->n_framed + peer->frame_settles + peer->frame_bells;
        struct ovl_records_header header = { .n_records = (uint32_t) n_records };
        uint8_t *body = scratch + sizeof(struct ovl_frame_header);
        uint8_t *to = body + sizeof(header);
        size_t body_len;

        memcpy(body, &header, sizeof(header));
        to = peer_pack_records(peer, to);
        to = peer_pack_signals(peer, to);
        to = peer_pack_payloads(peer, to);
        body_len = (size_t) (to - body);
        frame_pack_header(scratch, OVL_FRAME_RECORDS, (uint32_t) body_len, 0);
        return sizeof(struct ovl_frame_header) + body_len;
}

/*
 * A channel that has room may refuse all the same: the user has as many descriptors in flight as it may, in this
 * process or in another, or memory is short. No event tells the end of that, and the client is not to blame.
 */
static void peer_bear_refusal(struct peer *peer, int error) {
        if (error == -ETOOMANYREFS || error == -ENOBUFS || error == -ENOMEM)
                peer->retry_ns = now_ns() + PEER_RETRY_NS;
        else if (error == -EAGAIN && !peer->file.armed[DIRECTION_OUT])
                peer->engine->ops->arm(peer->engine, &peer->file, DIRECTION_OUT);
        else if (error != -EAGAIN)
                peer_die(peer, error == -EPIPE || error == -ECONNRESET ? "" : strerror(-error));
}

/* Sends what is left of a frame; fd: rides with its first byte. Returns whether all of it has left. */
static bool peer_send(struct peer *peer, const uint8_t *frame, size_t len, int fd, size_t *n_sent) {
        while (*n_sent < len) {
                struct iovec part = { (void *) (frame + *n_sent), len - *n_sent };
                ssize_t n;

                peer->engine->stats->system_calls++;
                n = channel_send(peer->file.fd, &part, 1, *n_sent == 0 ? fd : -1);
                if (n == -EINTR)
                        continue;
                if (n < 0) {
                        peer_bear_refusal(peer, (int) n);
                        return false;
                }
                *n_sent += (size_t) n;
                peer->retry_ns = 0;
        }
        return true;
}

static void peer_end_frame(struct peer *peer, struct list *sent) {
        struct lane *left = peer_first_left(peer);

        peer->engine->stats->records += peer->n_framed;
        list_splice_back(sent, &peer->framed);
        peer->n_framed = 0;
        if (peer->n_left > 0) {
                lane_drop(left, peer->n_left);
                if (lane_n_left(left) == 0)
                        lane_free(left);
        }
        peer->n_left = 0;
        peer->frame_settles = peer->frame_bells = false;
        peer->n_sent = 0;
}

static bool peer_is_within_frame(const struct peer *peer) {
        return peer->n_left > 0 || peer->n_framed > 0 || peer->frame_settles || peer->frame_bells;
}

/*
 * Puts records into the lane, as far as it has room, and says there what is settled. One that has payload goes by a
 * frame, and those behind it after that.
 */
static void peer_publish_lane(struct peer *peer, struct list *sent) {
        struct ovl_record record;
        struct list *link;

        if (peer->n_framed > 0 || peer->frame_settles)
                return;
        while ((link = list_first(&peer->records))) {
                const struct op *op = list_entry(link, struct op, link);

                if (op->payload_len > 0 && !peer_is_within_frame(peer))
                        peer_add_to_frame(peer);
                if (op->payload_len > 0)
                        break;
                op_pack_record(op, &record);
                if (!lane_put(peer->lane, &record))
                        break;
                KILLPOINT("peer-publish");
                peer->engine->stats->records++;
                list_push_back(sent, list_pop_front(&peer->records));
        }
        if (!link)
                peer->n_settled = peer->settle_mark;
        if (lane_publish(peer->lane, peer->n_settled)) {
                peer->bell_is_due = true;
                peer->bell_value = lane_n_waiting(peer->lane);
        }
}

/* A reply of which a part has left must be finished before any record. */
static bool peer_is_within_reply(const struct peer *peer) {
        struct list *first = list_first(&peer->replies);

        return first && list_entry(first, struct reply, link)->n_sent > 0;
}

void peer_publish_records(struct peer *peer, uint8_t *scratch, struct list *sent) {
        if (peer->lane)
                peer_publish_lane(peer, sent);
        if (peer_is_within_reply(peer))
                peer_publish_replies(peer);
        while (!peer->is_dead && !peer_is_within_reply(peer)) {
                size_t len;

                if (!peer_is_within_frame(peer))
                        peer_begin_frame(peer);
                if (!peer_is_within_frame(peer))
                        return;
                KILLPOINT("peer-publish");
                len = peer_pack_frame(peer, scratch);
                if (!peer_send(peer, scratch, len, -1, &peer->n_sent))
                        return;
                peer_end_frame(peer, sent);
                if (peer->lane)
                        peer_publish_lane(peer, sent);
        }
}

void peer_publish_replies(struct peer *peer) {
        struct list *link;

        if (peer_is_within_frame(peer) || peer_wants_room(peer))
                return;
        while (!peer->is_dead && (link = list_first(&peer->replies))) {
                struct reply *reply = list_entry(link, struct reply, link);

                if (!peer_send(peer, reply->frame, reply->len, reply->fd, &reply->n_sent))
                        return;
                reply_free(peer, reply);
                peer->n_replies--;
        }
}
