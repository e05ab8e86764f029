/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Polls. A poll takes nothing, so it needs no place in an order: each is a request of its own, in flight from the
 * instant it was posted, and any number of them may be.
 *
 *   FREE -> ACTIVE    it is posted
 *   ACTIVE -> ENDED   the engine found an event, or found it cancelled
 *
 * Invariant: a poll in the list is in flight, so a socket whose file has nothing in flight has no poll.
 *
 * What comes while receives are posted is theirs, and only what they leave is told: as long as there are any, a poll
 * does not look for data.
 *
 *   looking for data -> not     a receive was posted meanwhile: what was found may be the receive's
 *   not -> looking              the last receive has ended
 *
 * A refusal that the kernel has given away, and that the next receive will be told of, is an ERROR to whoever looks for
 * data: the receive would not wait.
 *
 * That the other side has ended its sending is told as HUP: a poll of the ring reports it whether or not anybody asked,
 * and an engine that did not would be told apart from it by its results.
 */

#include "daemon/worker/polls.h"

#include <errno.h>
#include <poll.h>

static const struct {
        uint32_t wire;
        uint32_t kernel;
} polls_events[] = {
        { OVL_POLL_IN, POLLIN },     { OVL_POLL_PRIORITY, POLLPRI },        { OVL_POLL_OUT, POLLOUT },
        { OVL_POLL_ERROR, POLLERR }, { OVL_POLL_HUP, POLLHUP | POLLRDHUP },
};

static uint32_t polls_to_kernel(uint64_t wire) {
        uint32_t events = POLLERR | POLLHUP | POLLRDHUP;

        for (size_t i = 0; i < sizeof(polls_events) / sizeof(polls_events[0]); i++)
                if (wire & polls_events[i].wire)
                        events |= polls_events[i].kernel;
        return events;
}

/* What was not asked for is not told, but for the two that always are. */
static uint64_t polls_from_kernel(uint64_t asked, uint32_t kernel) {
        uint64_t events = 0;

        for (size_t i = 0; i < sizeof(polls_events) / sizeof(polls_events[0]); i++)
                if (kernel & polls_events[i].kernel)
                        events |= polls_events[i].wire;
        return events & (asked | OVL_POLL_ERROR | OVL_POLL_HUP);
}

static void polls_request(struct socket *socket, struct op *op) {
        op->request.kind = REQUEST_POLL;
        op->request.file = &socket->file;
        op->request.parts = &op->one;
        op->request.flags = 0;
        op->request.events = polls_to_kernel(op->events);
        if (!list_is_empty(&socket->queues[DIRECTION_IN].ops))
                op->request.events &= ~(uint32_t) POLLIN;
        op->n_seen = socket->n_receives;
        socket->engine->ops->start(socket->engine, op);
}

static void polls_end(struct socket *socket, struct op *op, int status, unsigned reason, struct list *ended) {
        list_unlink(&op->link);
        socket->n_ops--;
        op_end(op, status, reason, 0);
        list_push_back(ended, &op->link);
}

static bool polls_finds_refusal(const struct socket *socket, const struct op *op) {
        return (op->events & OVL_POLL_IN) && socket->refusals.n > 0 && list_is_empty(&socket->queues[DIRECTION_IN].ops);
}

void polls_start(struct socket *socket, struct op *op, struct list *ended) {
        op->state = OP_ACTIVE;
        op->socket = socket;
        list_push_back(&socket->polls, &op->link);
        socket->n_ops++;
        if (polls_finds_refusal(socket, op)) {
                op->value = OVL_POLL_ERROR;
                polls_end(socket, op, 0, OVL_REASON_NONE, ended);
        } else {
                polls_request(socket, op);
        }
}

void polls_finish(struct socket *socket, struct op *op, int32_t result, struct list *ended) {
        if (result > 0 && op->n_seen != socket->n_receives)
                result &= ~POLLIN;
        if (result > 0)
                op->value = polls_from_kernel(op->events, (uint32_t) result);
        if (polls_finds_refusal(socket, op))
                op->value |= OVL_POLL_ERROR;
        if (op->value != 0)
                polls_end(socket, op, 0, OVL_REASON_NONE, ended);
        else if (op->cancel != 0)
                polls_end(socket, op, -ECANCELED, op->cancel, ended);
        else if (result >= 0 || result == -ECANCELED || result == -EINTR || result == -EAGAIN)
                polls_request(socket, op);
        else
                polls_end(socket, op, result, OVL_REASON_NONE, ended);
}

void polls_resume(struct socket *socket) {
        list_for_each(link, &socket->polls) {
                struct op *op = list_entry(link, struct op, link);

                if ((op->events & OVL_POLL_IN) && !(op->request.events & POLLIN))
                        socket->engine->ops->cancel(socket->engine, op);
        }
}

void polls_tell_refusal(struct socket *socket) {
        list_for_each(link, &socket->polls) {
                struct op *op = list_entry(link, struct op, link);

                if (polls_finds_refusal(socket, op))
                        socket->engine->ops->cancel(socket->engine, op);
        }
}

void polls_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                  const void *argument, unsigned reason, uint32_t *cancelled) {
        list_for_each(link, &socket->polls) {
                struct op *op = list_entry(link, struct op, link);

                if (op->cancel != 0 || (matches && !matches(op, argument)))
                        continue;
                op->cancel = (uint16_t) reason;
                op->cancelled = cancelled;
                socket->engine->ops->cancel(socket->engine, op);
        }
}
