/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From the first op of a queue to a request of the engine: what is asked of the kernel, with which flags, and whose
 * buffers the request has besides. Ops behind the first share it where nothing but their bytes matters (`n_merged`).
 */

#include "daemon/worker/socket-request.h"

#include <poll.h>
#include <string.h>

#include "daemon/worker/datagram.h"
#include "daemon/worker/transmit.h"

/* Whether an op's bytes may share a request with those of its neighbours. */
static bool op_can_merge(const struct op *op) {
        return op->len > op->done && op->message_flags == 0 && op->cancel == 0 && !socket_is_datagram(op->socket) &&
               (op->code == OVL_OP_RECV || op->code == OVL_OP_SEND);
}

/*
 * Whether a receive waits for data without taking it: where it has no room, and beside receives of urgent data, which
 * have to be served before the stream is received beyond their byte.
 */
bool socket_only_looks(const struct socket *socket, const struct op *op) {
        if (socket_is_datagram(socket))
                return false;
        return op->len == 0 || op_is_urgent(op) || !list_is_empty(&socket->queues[QUEUE_URGENT].ops);
}

/* Appends the buffers of the ops behind the first to the request of the first. */
static void queue_merge(struct queue *queue, struct op *first, struct stats *stats) {
        struct iovec *parts = first->scratch;
        uint64_t len = first->len - first->done;
        uint32_t n = first->n_parts;

        if (!op_can_merge(first) || first->link.next == &queue->ops)
                return;
        memmove(parts, first->parts, n * sizeof(*parts));
        for (struct list *link = first->link.next; link != &queue->ops; link = link->next) {
                struct op *op = list_entry(link, struct op, link);

                if (!op_can_merge(op) || n + op->n_parts > OVL_SLICES_MAX || len + op->len > OVL_SLICE_LEN_MAX)
                        break;
                memcpy(&parts[n], op->parts, op->n_parts * sizeof(*parts));
                n += op->n_parts;
                len += op->len;
                op->state = OP_ACTIVE;
                first->n_merged++;
                stats->merged_ops++;
        }
        if (first->parts != &first->one)
                first->parts = parts;
        first->request.parts = parts;
        first->request.n_parts = n;
}

int socket_request_flags(const struct op *op) {
        int flags = op_sends(op) ? MSG_NOSIGNAL : 0;

        if (op_receives(op) && (op->message_flags & OVL_MESSAGE_PEEK))
                flags |= MSG_PEEK;
        if (op_sends(op) && (op->message_flags & OVL_MESSAGE_DONTROUTE) && !op_form(op)->transmits)
                flags |= MSG_DONTROUTE;
        if ((op_sends(op) && socket_is_unix_datagram(op->socket)) || op_must_not_wait(op))
                flags |= MSG_DONTWAIT;
        return flags;
}

/*
 * Only the last byte of a send is urgent. It leaves by itself: the kernel calls the last byte that it took the urgent
 * one, and may take fewer than there are. Parts of nothing are dropped at both ends: a request of nothing else would
 * move nothing, again and again.
 */
static void request_leave_last_byte(struct request *request, struct op *op) {
        struct iovec *most = op->parts == &op->one ? op->scratch : &op->one;

        while (op->n_parts > 1 && op->parts[op->n_parts - 1].iov_len == 0)
                op->n_parts--;
        for (; op->n_parts > 1 && op->parts->iov_len == 0; op->n_parts--)
                op->parts++;
        request->parts = op->parts;
        request->n_parts = op->n_parts;
        if (op->len - op->done == 1) {
                request->flags |= MSG_OOB;
        } else if (op->n_parts > 1) {
                request->n_parts = op->n_parts - 1;
        } else {
                *most = (struct iovec){ op->parts->iov_base, op->parts->iov_len - 1 };
                request->parts = most;
        }
}

void socket_request(struct socket *socket, struct queue *queue, struct op *op) {
        struct request *request = &op->request;

        request->file = &socket->file;
        request->parts = op->parts;
        request->n_parts = op->n_parts;
        op->n_merged = 0;
        if (op_step(op) == STEP_ACCEPT) {
                request->kind = REQUEST_ACCEPT;
                request->message = (struct msghdr){ 0 };
                if (op->wants_sender) {
                        request->message.msg_name = datagram_name(op);
                        request->message.msg_namelen = sizeof(struct sockaddr_storage);
                }
        } else if (op_sends(op)) {
                request->kind = REQUEST_SEND;
        } else {
                /* Without room a stream is only looked at; a datagram is taken. */
                request->kind = socket_only_looks(socket, op) ? REQUEST_POLL : REQUEST_RECV;
        }
        queue_merge(queue, op, socket->engine->stats);
        if (socket_is_datagram(socket))
                datagram_request(op);
        request->flags = socket_request_flags(op);
        request->events = (op_is_urgent(op) ? POLLPRI : POLLIN) | POLLRDHUP;
        if (op_sends(op) && (op->message_flags & OVL_MESSAGE_OOB))
                request_leave_last_byte(request, op);
}

/* A piece of a file must not wait for a peer; bytes that others follow need not leave by themselves. */
void socket_request_transmit(struct socket *socket, struct op *op) {
        struct request *request = &op->request;

        request->file = &socket->file;
        request->kind = REQUEST_SEND;
        if (socket_is_datagram(socket))
                datagram_request(op);
        request->flags = socket_request_flags(op) | (transmit_is_urgent(op) ? MSG_DONTWAIT : 0) |
                         (transmit_goes_on(op) ? MSG_MORE : 0);
}
