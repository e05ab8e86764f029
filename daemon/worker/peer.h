/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_PEER_H
#define DAEMON_WORKER_PEER_H

/* A peer: one connection of a client, with what came in and has not been looked at, and what is to go out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/reaper.h"
#include "daemon/worker/engine.h"
#include "daemon/worker/op.h"
#include "proto/channel.h"
#include "proto/frame.h"

struct lane;
struct port;
struct rules_entry;
struct session;
struct thread;

#define PEER_REPLIES_MAX 64u /* unsent replies above which no more is read */

struct peer {
        struct list link;       /* among all peers of the worker */
        struct list marked;     /* among those that have something to be served */
        struct list publish;    /* among those that have something to send */
        struct list settle;     /* among those that wait for a verdict */
        struct list awake;      /* among those with a lane that is looked at */
        struct list postponed;  /* among those that try to send again by the clock */
        struct list paused;     /* among those of which nothing is read for a while */
        uint64_t resume_ns;     /* until then */
        struct list dying;      /* among those that are to be buried */
        struct list *graveyard; /* borrowed: the head of these */
        struct engine_file file;
        struct engine *engine; /* borrowed */
        struct reaper *reaper; /* borrowed */
        struct link_peer identity;
        struct rules_entry *rules; /* what the policy says of it. A reference, or NULL: it allows nothing */
        struct quota_unit *unit;   /* that pays for its sessions. A reference; NULL: there was no memory for it */
        struct session *session;   /* borrowed; NULL before the hello */
        struct thread *thread;     /* borrowed; one of these two is set with the session */
        struct port *port;
        struct list in_session; /* or among those that have not said hello */
        uint64_t deadline_ns;   /* of the hello */

        /* in */
        uint8_t *inbox; /* FRAME_SIZE_MAX bytes, touched as they are used */
        size_t n_taken; /* bytes at the start of the inbox that were looked at */
        size_t n_filled;
        int fds[CHANNEL_FDS_MAX]; /* that came and no frame has claimed */
        size_t n_fds;
        size_t n_slots_done; /* of the POST frame that comes next: slots that were served before the session was full */
        size_t n_payload_done; /* and bytes of payload that belong to these */
        bool is_held;          /* what is in the inbox waits until the client has read, or its session has room */
        bool has_ended;        /* the client will send no more */
        bool is_gone;          /* its side is closed altogether, and what it sent before was not looked at yet */
        uint8_t n_strikes;     /* malformed messages */
        uint64_t strikes_since;

        /* out */
        struct list records; /* ended ops, in order */
        struct list framed;  /* of these, those in the frame that is being sent: before the others */
        struct list left;    /* lanes of connections that are gone, with records that are to go out here. Owned */
        struct list replies;
        size_t n_replies;
        struct lane *lane;  /* owned; where records without payload go; NULL: into frames, like the others */
        size_t n_framed;    /* ops in `framed`; 0: none is being sent */
        uint32_t n_left;    /* that frame is one of so many records of the first lane in `left`, and of nothing else */
        bool frame_settles; /* that frame ends with a settled record */
        bool frame_bells;   /* that frame is the bell of the lane, and nothing else */
        bool bell_is_due;
        uint64_t bell_value; /* records that waited when it was due */
        size_t n_sent;       /* bytes of it */
        uint64_t retry_ns; /* when to try again what the kernel refused for want of resources; 0: it refused nothing */

        /* a send that goes on in the next entry */
        bool is_continuing;       /* there is one */
        struct ovl_entry opening; /* its first entry; flags: also those of the further ones */
        struct payload gathered;  /* what has come of it */

        /* verdicts */
        uint64_t n_entries;   /* ever taken */
        uint64_t n_settled;   /* of these, settled: what the client was told last, or is being told */
        uint64_t n_wished;    /* the last entry that wants a verdict */
        uint64_t settle_turn; /* the turn in which settle_wish was taken */
        uint64_t settle_wish; /* entries that are settled when the next turn has ended */
        uint64_t settle_mark; /* entries that are settled */
        uint32_t n_arming;    /* ops that are not armed: while there are some, no more is settled */

        bool is_dead;   /* the connection is over; bury it */
        bool is_buried; /* it belongs to nobody any more; only the engine is not done with it */
        char why[160];  /* for the journal; empty: an orderly end */
};

/*
 * graveyard: the list to which a peer that dies is appended. Borrowed.
 * fd:        taken on success.
 *
 * Returns 0 and the peer, -ENOMEM, or -ENFILE.
 */
int peer_new(struct engine *engine, struct reaper *reaper, struct list *graveyard, int *take_fd,
             const struct link_peer *identity, int kind, struct peer **ret_peer);

/* Nothing is in flight, and nothing is queued. Returns NULL. */
struct peer *peer_free(struct peer *peer);

/* Reads what is there, as far as the inbox has room. Marks the peer dead when the connection is. */
void peer_fill(struct peer *peer);

/*
 * Looks at the next whole frame of the inbox, which stays there until peer_consume_frame().
 *
 * Returns 1, the header and the body, which stays valid until peer_fill(); 0 when there is none; or -EPROTO and a
 * static text. Its descriptors are the first of those that peer_claim_fd() gives.
 */
int peer_next_frame(struct peer *peer, struct ovl_frame_header *ret_header, const uint8_t **ret_body,
                    const char **ret_problem);
void peer_consume_frame(struct peer *peer, const struct ovl_frame_header *header);

/* Asks to be told when more can be read, unless the client has ended or the inbox must be served first. */
void peer_await_input(struct peer *peer);

/* The same of its end alone, while nothing more of it is read. */
void peer_await_hang_up(struct peer *peer);

/* The oldest descriptor that no frame has claimed, or -1. The caller's to close: peer_drop_fd(). */
int peer_claim_fd(struct peer *peer);

/* Closes a descriptor that this client passed, or was to get. fd: taken; -1 is fine. */
void peer_drop_fd(struct peer *peer, int fd);

/* Queues a whole frame. frame, fd: taken, also on failure. fd: rides with it; -1: none. */
int peer_push_frame(struct peer *peer, void *take_frame, size_t len, int take_fd);

/*
 * Sends records, and then replies, as far as the socket has room; asks for a wake-up when it has none. Where it has
 * room and the kernel lacks something else, retry_ns says when to try again.
 *
 * scratch: FRAME_SIZE_MAX bytes.
 * sent:    ops whose records were sent are appended to it.
 */
void peer_publish_records(struct peer *peer, uint8_t *scratch, struct list *sent);
void peer_publish_replies(struct peer *peer);

/* Forgets the lanes that were left to it. */
void peer_forget_left(struct peer *peer);

/* Forgets a send of which the rest will not come: it was never taken. */
void peer_drop_continued(struct peer *peer);

/* Whether a verdict is wanted, or is about to be sent. */
static inline bool peer_awaits_verdict(const struct peer *peer) {
        return list_is_linked(&peer->settle) || peer->n_settled < peer->settle_mark;
}

static inline bool peer_has_output(const struct peer *peer) {
        return !list_is_empty(&peer->records) || !list_is_empty(&peer->replies) || !list_is_empty(&peer->left) ||
               peer->n_framed > 0 || peer->frame_settles || peer->n_settled < peer->settle_mark;
}

/* Whether the inbox takes more. */
static inline bool peer_has_input_room(const struct peer *peer) {
        return peer->n_filled - peer->n_taken < FRAME_SIZE_MAX;
}

/*
 * Whether records wait for room in the lane. (What is in a frame, because it has payload or from before there was a
 * lane, waits for the socket.)
 */
static inline bool peer_wants_room(const struct peer *peer) {
        const struct list *first = list_first(&peer->records);

        return peer->lane && first && list_entry(first, struct op, link)->payload_len == 0 && peer->n_framed == 0 &&
               !peer->frame_settles;
}

/*
 * At the end of each turn in which a verdict is wanted: what was taken in an earlier turn has had its chance to end,
 * and is settled, unless one of them is not armed yet: see session_arm(). Returns whether to ask again.
 */
bool peer_settle(struct peer *peer, uint64_t turn);

/* The connection is over, and is buried at the end of the turn: `why` goes to the journal. */
void peer_die(struct peer *peer, const char *why);

#endif
