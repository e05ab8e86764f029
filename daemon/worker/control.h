/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_CONTROL_H
#define DAEMON_WORKER_CONTROL_H

/* The cold side of a session: one function for each message of overlapd.proto. */

#include "daemon/worker/peer.h"
#include "daemon/worker/resources.h"
#include "daemon/worker/ticket.h"
#include "proto/frame.h"
#include "proto/message.h"

struct control {
        struct resources *resources; /* borrowed */
        const char *engine_reason;   /* borrowed: for the hello and the status */
        struct list asked;           /* calls that wait for the monitor */
        struct list waiting;         /* calls that wait for the end of ops */
        struct message_arena arena;
};

void control_init(struct control *control, struct resources *resources, const char *engine_reason);

/* Nothing is under way any more, or nobody cares. */
void control_deinit(struct control *control);

/* Serves one CONTROL frame: queues its reply now, or remembers what it waits for. May kick the peer. */
void control_serve(struct control *control, struct peer *peer, const struct ovl_frame_header *header,
                   const uint8_t *body);

/* The monitor answered a call. fd: taken; -1: none. */
void control_answer(struct control *control, struct ticket *ticket, const struct link_message *answer, int take_fd);

/* Replies to the calls whose ops have ended; their records were queued before. */
void control_settle(struct control *control);

/* The peer is about to go: nobody is left to reply to. */
void control_forget_peer(struct control *control, struct peer *peer);

/*
 * Throws a client out: tells it why, as far as its socket has room, and ends all its connections.
 *
 * text: for the client and for the journal.
 */
void control_kick(struct control *control, struct peer *peer, int status, unsigned reason, const char *text);

#endif
