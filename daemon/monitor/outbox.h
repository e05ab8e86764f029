/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_OUTBOX_H
#define DAEMON_MONITOR_OUTBOX_H

/* What the monitor has to tell a worker: sent at once where the link has room, else kept in order. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/link.h"

#define OUTBOX_CHANNELS_MAX 256u /* messages beyond which no new channel is taken */
/* Messages beyond which the worker is held to be stuck: two for each of its questions, and some besides. */
#define OUTBOX_MAX 20000u

struct outbox {
        int link_fd; /* a duplicate: the event loop watches the link's own number for what comes in */
        sd_event_source *writable;
        sd_event_source *later; /* instead, while a link that has room refuses; NULL: it never did */
        struct list queue;
        unsigned n_queued;
        bool is_broken; /* everything is discarded, because the worker is gone or has to go */
        bool is_gone;   /* the worker closed its end */
};

/* link_fd: the monitor's end of the link. Borrowed: it is duplicated. Returns 0 or -errno. */
int outbox_init(struct outbox *outbox, sd_event *event, int link_fd);
void outbox_deinit(struct outbox *outbox);

/*
 * Sends a message, or queues it.
 *
 * n_max:   -EAGAIN when so many messages wait already.
 * take_fd: a descriptor that rides along, or -1. Taken, on success only.
 *
 * Returns 0, -EAGAIN, -ENOMEM, or -EPIPE when the worker is gone.
 */
int outbox_push(struct outbox *outbox, const struct link_message *message, int take_fd, unsigned n_max);

/* Sends the end of a request, or what comes before it; the worker is given up when that is not possible. As above. */
int outbox_answer(struct outbox *outbox, const struct link_message *answer, int take_fd);

/* The same with a list, which travels as memory: a message is too short for it. Returns also -EMFILE and others. */
int outbox_answer_with(struct outbox *outbox, const struct link_message *answer, const void *list, size_t len);

/* Answers a request with an error, and its reason. */
int outbox_refuse(struct outbox *outbox, uint64_t ticket, int status, uint32_t reason);

/* What could not be pushed must not be missing in the middle: the worker is given up. */
void outbox_fail(struct outbox *outbox);

#endif
