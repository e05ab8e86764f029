/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Order. Each direction has a queue; only its first op has a request in flight, so that receives fill and sends leave
 * in posting order, and bytes that the kernel moved can always be attributed. Ops behind the first may be served by the
 * same request: their buffers are appended to its own (`n_merged`), and what comes back is dealt out in order. Every op
 * still gets its own exact result.
 *
 *   OPEN -> CONNECTING        a connect is posted
 *   CONNECTING -> CONNECTED   the monitor says that the connection is made
 *   CONNECTING -> OPEN        ... that it is not
 *   OPEN -> LISTENING         the monitor was asked to listen, and did
 *   (accepted sockets begin as CONNECTED)
 *
 * A datagram socket is never CONNECTING: a connect only sets its peer, in its turn among the sends, as often as the
 * client likes, and none of its errors breaks anything. Its ops are never merged. What datagrams need besides is in
 * datagram.c; polls and ioctls, which have no place in a queue, are in polls.c and ioctls.c.
 *
 * What becomes of an earlier datagram is reported by the kernel to whoever comes next, and that may be a send. It is
 * never the send's: this one did not leave, and is tried once more. A refusal is the next receive's (refusals.c).
 *
 * A broken connection. The kernel reports the error once and the end of the stream from then on. The first error is
 * kept: sends end with it from then on, receives as soon as the kernel has no more data, so that what arrived before is
 * not lost.
 *
 * Sends are all or nothing. What the kernel took of an op is counted in op->done, and the rest is sent by the next
 * request; so are receives that wait for all. Rejected: MSG_WAITALL, which makes io_uring do that by itself. When the
 * connection is reset half-way it answers with what was moved before and drops the error, which the kernel reports only
 * once: a receive, behind it or in the other direction, would then read an orderly end of a stream that lost its tail.
 *
 * A Unix receiver whose queue is full tells nobody when it has room, unless it is the sender's peer. So a datagram to
 * it never waits in the kernel but is tried again by the clock. Rejected: letting the ring wait. The kernel (6.18) has
 * copied the datagram by the time that it finds the queue full, does not rewind, and when there is room sends an empty
 * one in its place.
 *
 * Shutting down the receiving side is never told to the kernel: that would end receives that are pending.
 *
 * Without a send buffer a send has not ended when the kernel has its bytes: it goes on to the queue QUEUE_SENT, and
 * from there, in order, as the peer acknowledges (acks.c). What is posted behind it does not wait for that.
 *
 * Steps. An op that does more than one thing goes from step to step (`op->steps`), and keeps its place in the queue
 * meanwhile: a connect with data sends before anything that is posted once the socket is connected. Where a step brings
 * a descriptor, the op leaves the queue with it, and what becomes of both is in succession.c.
 */

#include "daemon/worker/socket.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/killpoint.h"
#include "base/time.h"
#include "daemon/worker/acks.h"
#include "daemon/worker/datagram.h"
#include "daemon/worker/ioctls.h"
#include "daemon/worker/polls.h"
#include "daemon/worker/socket-request.h"
#include "daemon/worker/unbuffered.h"
#include "proto/address.h"

#define SOCKET_RETRIES_MAX 3u
#define SOCKET_REPEATS_MAX 8u
#define SOCKET_ERESTARTSYS 512 /* kernel-internal; must never be seen, and is harmless if it is */

int socket_init(struct socket *socket, struct engine *engine, struct ask *ask, int *take_fd, int family, int type,
                enum socket_state state) {
        int r;

        *socket = (struct socket){
                .engine = engine,
                .ask = ask,
                .family = family,
                .type = type,
                .state = state,
        };
        socket->refusals.is_told = socket_is_inet_datagram(socket);
        if (state == SOCKET_CONNECTED)
                socket->connected_at = now_ns();
        list_init(&socket->link);
        list_init(&socket->handles);
        list_init(&socket->retry);
        list_init(&socket->polls);
        list_init(&socket->ioctls);
        list_init(&socket->flushes);
        for (size_t i = 0; i < SOCKET_QUEUES; i++)
                list_init(&socket->queues[i].ops);
        engine_file_init(&socket->file, *take_fd, 0);
        r = engine->ops->attach(engine, &socket->file);
        if (r < 0)
                return r;
        fd_take(take_fd);
        return 0;
}

int socket_release(struct socket *socket) {
        assert(socket_is_idle(socket)); /* the kernel would go on with a file that is somebody else's number */
        socket->engine->ops->detach(socket->engine, &socket->file);
        return fd_take(&socket->file.fd);
}

void socket_deinit(struct socket *socket) {
        if (socket->file.fd < 0)
                return;
        socket->engine->stats->system_calls++;
        fd_close(socket_release(socket));
}

/*
 * The bytes that a record tells of. Of a send whose connection broke, nobody knows how many arrived; after anything
 * else the stream goes on, and what was moved must be counted.
 */
static uint64_t op_told(const struct op *op, int error) {
        bool is_lost = op_sends(op) && !op_transmits(op) && error != 0 && error == op->socket->error;

        return is_lost ? 0 : op->done;
}

static void socket_end(struct socket *socket, struct op *op, int status, unsigned reason, uint64_t bytes,
                       struct list *ended) {
        if (op_transmits(op))
                transmit_stop(op);
        list_unlink(&op->link);
        socket->n_ops--;
        op_end(op, status, reason, bytes);
        list_push_back(ended, &op->link);
}

static bool error_breaks_connection(int error) {
        switch (-error) {
        case ECONNRESET:
        case ECONNABORTED:
        case EPIPE:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case EHOSTDOWN:
        case ENETUNREACH:
        case ENETDOWN:
        case ENOTCONN:
                return true;
        default:
                return false;
        }
}

/* A reset that finds our side already closed by the peer shows as EPIPE on a send. */
static int socket_fail(struct socket *socket, struct queue *queue, int error) {
        if (socket_is_datagram(socket) || !error_breaks_connection(error))
                return error;
        if (!socket->error)
                socket->error = error == -EPIPE || error == -ENOTCONN ? -ECONNRESET : error;
        queue->has_failed = true;
        return socket->error;
}

/* What broke the connection, where no other op was told of it before. 0: nothing did. */
static int socket_take_error(struct socket *socket, struct queue *queue) {
        socklen_t len = sizeof(int);
        int error = 0;

        if (!socket->error && getsockopt(socket->file.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
                return socket_fail(socket, queue, -error);
        return socket->error;
}

/* A send has left: it ends when the peer has acknowledged it, and what was sent before. */
static void socket_await_ack(struct socket *socket, struct op *op) {
        op->state = OP_QUEUED;
        list_unlink(&op->link);
        list_push_back(&socket->queues[QUEUE_SENT].ops, &op->link);
        acks_expect(socket);
}

/* A step of an op was done: it waits for the next one where it stands, or has ended. */
static void socket_advance(struct socket *socket, struct op *op, struct list *ended) {
        unsigned left = op->steps & ~op_step(op);

        if (left == 0 && socket_queue(socket, op) == &socket->queues[DIRECTION_OUT] && acks_are_awaited(socket, op)) {
                socket_await_ack(socket, op);
                return;
        }
        if (left == 0) {
                socket_end(socket, op, 0, OVL_REASON_NONE, op->done, ended);
                return;
        }
        op->steps = (uint8_t) left;
        op->state = OP_QUEUED;
}

/* A send fails behind others that have left: they fail first. */
static void socket_end_sent(struct socket *socket, struct list *ended) {
        list_for_each_safe(link, &socket->queues[QUEUE_SENT].ops) {
                struct op *op = list_entry(link, struct op, link);

                socket_end(socket, op, socket->error, OVL_REASON_NONE, op_told(op, socket->error), ended);
        }
}

/* What the peer has acknowledged ends; of a connection that broke, all that it has not. */
static void socket_take_acks(struct socket *socket, struct list *ended) {
        struct queue *sent = &socket->queues[QUEUE_SENT];
        uint64_t acknowledged;
        struct list *link;

        sent->retry_at = 0;
        if (list_is_empty(&sent->ops))
                return;
        acknowledged = socket->error ? 0 : acks_count(socket);
        while (!socket->error && (link = list_first(&sent->ops))) {
                struct op *op = list_entry(link, struct op, link);

                if (op->sent_to > acknowledged)
                        break;
                socket->acks_pause = 0;
                socket_end(socket, op, 0, OVL_REASON_NONE, op->done, ended);
        }
        if (!list_is_empty(&sent->ops) && !socket->error && acks_never_come(socket)) {
                socket_take_error(socket, sent);
                if (!socket->error)
                        socket->error = -ECONNRESET;
        }
        if (socket->error)
                socket_end_sent(socket, ended);
        if (!list_is_empty(&sent->ops))
                acks_expect(socket);
}

/* An op goes on elsewhere, with what its step brought. */
static void socket_leave(struct socket *socket, struct op *op, struct list *ended) {
        list_unlink(&op->link);
        socket->n_ops--;
        op->state = OP_QUEUED;
        list_push_back(ended, &op->link);
}

/* Whether the present step is the monitor's. */
static bool op_asks(const struct op *op) {
        return op_step(op) == STEP_CONNECT || op_step(op) == STEP_RENEW;
}

/* What is asked of the monitor was put into the scratch of the op when its entry was taken. */
static void socket_start_question(struct socket *socket, struct op *op, struct list *ended) {
        int r;

        op->ticket.owner = TICKET_OP;
        op->ticket.message = op_question(op);
        op->ticket.message->asker = op_asker(op);
        op->ticket.fd = op_step(op) == STEP_CONNECT ? socket->file.fd : -1;
        r = ask_send(socket->ask, &op->ticket);
        if (r < 0) {
                socket->queues[DIRECTION_OUT].active = NULL;
                if (socket->state == SOCKET_CONNECTING)
                        socket->state = SOCKET_OPEN;
                socket_end(socket, op, r, OVL_REASON_QUOTA, op->done, ended);
        }
}

/* A connection that broke has no end to be sent, and what takes its place needs none. */
static void socket_start_shut(struct socket *socket, struct op *op, struct list *ended) {
        int r = socket->engine->ops->shutdown(socket->engine, &socket->file, SHUT_WR);

        if (r < 0 && !(op->steps & STEP_RENEW))
                socket_end(socket, op, socket->error ? socket->error : r, OVL_REASON_NONE, op->done, ended);
        else
                socket_advance(socket, op, ended);
}

/* The op waits for its file, has a request in flight, is at its next step, or has ended. */
static void queue_start_transmit(struct socket *socket, struct queue *queue, struct op *op, struct list *ended) {
        unsigned reason = OVL_REASON_NONE;
        int r;

        if (transmit_is_done(op)) {
                socket_advance(socket, op, ended);
                return;
        }
        queue->active = op;
        op->state = OP_ACTIVE;
        r = transmit_start(op, &reason);
        if (r > 0) {
                socket_request_transmit(socket, op);
                KILLPOINT("socket-start");
                socket->engine->ops->start(socket->engine, op);
        } else if (r < 0) {
                queue->active = NULL;
                socket_end(socket, op, r, reason, op->done, ended);
        }
}

static void socket_finish_send_side(struct socket *socket) {
        struct queue *queue = &socket->queues[DIRECTION_OUT];

        if (queue->is_shut && list_is_empty(&queue->ops) && !socket->is_closing && !socket_is_datagram(socket))
                socket->engine->ops->shutdown(socket->engine, &socket->file, SHUT_WR);
}

/* Takes the urgent byte, if it is there: the kernel has no receive that waits for it. Returns 1, 0 or -errno. */
static int urgent_take(struct op *op) {
        struct msghdr message = { .msg_iov = op->parts, .msg_iovlen = op->n_parts };
        ssize_t n;

        if (op->len == 0)
                return -EAGAIN;
        op->socket->engine->stats->system_calls++;
        n = recvmsg(op->socket->file.fd, &message, socket_request_flags(op) | MSG_OOB | MSG_DONTWAIT);
        return n < 0 ? -errno : (int) n;
}

/* Returns whether the op has ended. */
static bool socket_try_urgent(struct socket *socket, struct op *op, struct list *ended) {
        if (urgent_take(op) > 0) {
                socket->bytes_received++;
                socket_end(socket, op, 0, OVL_REASON_NONE, 1, ended);
        } else if (op_must_not_wait(op)) {
                socket_end(socket, op, -EAGAIN, OVL_REASON_WOULD_WAIT, 0, ended);
        } else {
                return false;
        }
        return true;
}

/*
 * The stream is about to be received. The kernel forgets an urgent byte that is next in the stream and was not taken by
 * then; a receive that begins before the byte ends there.
 */
static void socket_save_urgent(struct socket *socket) {
        struct op *op = socket->queues[QUEUE_URGENT].active;

        if (!op || op->done > 0 || urgent_take(op) <= 0)
                return;
        op->done = 1;
        socket->bytes_received++;
        socket->engine->ops->cancel(socket->engine, op);
}

/* A receive is in the kernel that knows nothing of urgent data: it is called back, and begins again. */
static void socket_make_way(struct socket *socket) {
        struct op *op = socket->queues[DIRECTION_IN].active;

        if (op && op->request.kind == REQUEST_RECV && op->cancel == 0)
                socket->engine->ops->cancel(socket->engine, op);
}

/* Starts the first op of a queue, if none is in flight. */
static void queue_start(struct socket *socket, struct queue *queue, struct list *ended) {
        struct list *link;

        while (!queue->active && (link = list_first(&queue->ops))) {
                struct op *op = list_entry(link, struct op, link);

                if (queue->retry_at > 0 || op->is_unpaid)
                        return;
                /* What is posted from here on is refused at once: what was posted before must have ended. */
                if ((op_sends(op) && socket->error) || (op_receives(op) && queue->has_failed)) {
                        if (op_sends(op))
                                socket_end_sent(socket, ended);
                        socket_end(socket, op, socket->error, OVL_REASON_NONE, op_told(op, socket->error), ended);
                        continue;
                }
                if (op_receives(op) && socket->refusals.n > 0) {
                        socket_end(socket, op, refusals_tell(socket), OVL_REASON_NONE, 0, ended);
                        continue;
                }
                if (op_transmits(op)) {
                        queue_start_transmit(socket, queue, op, ended);
                        continue;
                }
                if (op_sends(op) && op->len == 0 && !socket_is_datagram(socket)) {
                        socket_advance(socket, op, ended);
                        continue;
                }
                if (datagram_is_for_nobody(op)) {
                        socket_end(socket, op, 0, OVL_REASON_NONE, op->len, ended);
                        continue;
                }
                if (op_step(op) == STEP_SHUT && !list_is_empty(&socket->queues[QUEUE_SENT].ops))
                        return;
                if (op_step(op) == STEP_SHUT) {
                        socket_start_shut(socket, op, ended);
                        continue;
                }
                if (op_is_urgent(op) && socket_try_urgent(socket, op, ended))
                        continue;
                queue->active = op;
                op->state = OP_ACTIVE;
                if (op_asks(op)) {
                        socket_start_question(socket, op, ended);
                        continue;
                }
                socket_request(socket, queue, op);
                KILLPOINT("socket-start");
                socket->engine->ops->start(socket->engine, op);
        }
        if (queue == &socket->queues[DIRECTION_OUT])
                socket_finish_send_side(socket);
        if (queue == &socket->queues[DIRECTION_IN] && list_is_empty(&queue->ops)) {
                unbuffered_ignore(socket);
                polls_resume(socket);
        }
}

/* The queue was changed, or its time has come. */
static void queue_go_on(struct socket *socket, struct queue *queue, struct list *ended) {
        if (queue != &socket->queues[QUEUE_SENT]) {
                queue_start(socket, queue, ended);
                return;
        }
        socket_take_acks(socket, ended);
        queue_start(socket, &socket->queues[DIRECTION_OUT], ended);
}

void socket_post(struct socket *socket, struct op *op, struct list *ended) {
        struct queue *queue;

        if (op->code == OVL_OP_POLL) {
                polls_start(socket, op, ended);
                return;
        }
        if (op->code == OVL_OP_IOCTL) {
                ioctls_start(socket, op, ended);
                return;
        }
        queue = socket_queue(socket, op);
        if (queue == &socket->queues[DIRECTION_IN]) {
                socket->n_receives++;
                unbuffered_listen(socket);
        }
        op->state = OP_QUEUED;
        op->socket = socket;
        op->n_merged = 0;
        list_push_back(&queue->ops, &op->link);
        socket->n_ops++;
        if (op_step(op) == STEP_CONNECT && !socket_is_datagram(socket))
                socket->state = SOCKET_CONNECTING;
        if (op->steps & STEP_SHUT)
                queue->is_shut = true;
        /* A receive that was taken had one; a connect gives one, and so does a send that leaves, except from Unix. */
        if (socket_is_datagram(socket) && (socket->family != AF_UNIX || !op_sends(op)) && !datagram_is_for_nobody(op))
                socket->has_name = true;
        /* It may not overtake, and it may not wait for its turn. */
        if (op_must_not_wait(op) && list_first(&queue->ops) != &op->link)
                socket_end(socket, op, -EAGAIN, OVL_REASON_WOULD_WAIT, 0, ended);
        else
                queue_start(socket, queue, ended);
        if (socket->queues[QUEUE_URGENT].active == op)
                socket_make_way(socket);
}

/* --- Results ---------------------------------------------------------------------------------------------------- */

/* The bytes of an op that were transferred leave its buffers: a further request begins behind them. */
static void op_advance(struct op *op, uint64_t bytes) {
        op->done += bytes;
        while (bytes > 0) {
                size_t step = bytes < op->parts->iov_len ? (size_t) bytes : op->parts->iov_len;

                op->parts->iov_base = (uint8_t *) op->parts->iov_base + step;
                op->parts->iov_len -= step;
                bytes -= step;
                if (op->parts->iov_len == 0 && op->n_parts > 1) {
                        op->parts++;
                        op->n_parts--;
                }
        }
}

static bool op_is_done(const struct op *op) {
        if (op->done == op->len)
                return true;
        return op_receives(op) && op->done > 0 && !(op->message_flags & OVL_MESSAGE_WAITALL);
}

/* Deals out what one request transferred to the ops that it served, in order. */
static void socket_deal(struct socket *socket, struct op *first, uint64_t bytes, struct list *ended) {
        struct queue *queue = socket_queue(socket, first);
        uint32_t n_served = first->n_merged + 1;
        struct list *link = queue->ops.next;

        first->n_merged = 0;
        for (; n_served > 0; n_served--) {
                struct op *op = list_entry(link, struct op, link);
                uint64_t left = op->len - op->done;
                uint64_t step = bytes < left ? bytes : left;

                link = link->next;
                op->state = OP_QUEUED;
                bytes -= step;
                op_advance(op, step);
                op->sent_to = socket->bytes_sent - bytes;
                if (op_is_done(op))
                        socket_advance(socket, op, ended);
        }
}

/* The request of these ops transferred nothing more: they are in the queue again. */
static void socket_undo(struct socket *socket, struct op *first) {
        struct list *link = socket_queue(socket, first)->ops.next;

        for (uint32_t n = first->n_merged + 1; n > 0; n--, link = link->next)
                list_entry(link, struct op, link)->state = OP_QUEUED;
        first->n_merged = 0;
}

/* Ops that were to be cancelled and whose request is over end now, with what was transferred before. */
static void queue_end_cancelled(struct socket *socket, struct queue *queue, struct list *ended) {
        list_for_each_safe(link, &queue->ops) {
                struct op *op = list_entry(link, struct op, link);

                if (op->cancel != 0 && op->state == OP_QUEUED)
                        socket_end(socket, op, -ECANCELED, op->cancel, op->done, ended);
        }
}

/*
 * Whether a request met what became of earlier datagrams, and is to be tried again. The receive in flight is called
 * back to be told of a refusal; if it brings a datagram all the same, the next one is told.
 */
static bool socket_met_refusal(struct socket *socket, struct op *op, int error) {
        struct queue *in = &socket->queues[DIRECTION_IN];

        if (!socket_is_datagram(socket) || !refusals_explain(socket, op_receives(op), error))
                return false;
        if (op_sends(op) && ++op->n_repeats > SOCKET_REPEATS_MAX)
                return false;
        if (socket->refusals.n > 0 && list_is_empty(&in->ops))
                polls_tell_refusal(socket);
        else if (socket->refusals.n > 0 && in->active && in->active->cancel == 0)
                socket->engine->ops->cancel(socket->engine, in->active);
        return true;
}

/* Whether the kernel lacks memory, or a receiver room, only for the moment: the op is tried again, after 1 to 100 ms.
 */
static bool socket_retries(struct queue *queue, struct op *op, int32_t result) {
        static const uint64_t pauses_ns[SOCKET_RETRIES_MAX] = { NS_PER_MS, 10 * NS_PER_MS, 100 * NS_PER_MS };

        if (result == -EAGAIN && op_sends(op) && (op->request.flags & MSG_DONTWAIT)) {
                queue->retry_at = now_ns() + NS_PER_MS;
                return true;
        }
        if (result == -EINTR || result == -EAGAIN || result == -SOCKET_ERESTARTSYS)
                return true;
        if (op_step(op) == STEP_ACCEPT && result == -ECONNABORTED)
                return true;
        if (socket_met_refusal(op->socket, op, result))
                return true;
        if (op_step(op) == STEP_ACCEPT && (result == -EMFILE || result == -ENFILE)) {
                queue->retry_at = now_ns() + 100 * NS_PER_MS;
                return true;
        }
        if ((result != -ENOBUFS && result != -ENOMEM) || op->n_retries >= SOCKET_RETRIES_MAX)
                return false;
        queue->retry_at = now_ns() + pauses_ns[op->n_retries++];
        return true;
}

static void socket_finish_failure(struct socket *socket, struct op *op, int32_t result, struct list *ended) {
        struct queue *queue = socket_queue(socket, op);
        int status;

        socket_undo(socket, op);
        if (result == -EAGAIN && op_must_not_wait(op) && op->cancel == 0) {
                socket_end(socket, op, result, OVL_REASON_WOULD_WAIT, 0, ended);
                return;
        }
        if (result == -ECANCELED || socket_retries(queue, op, result))
                return;
        status = op_step(op) == STEP_ACCEPT ? result : socket_fail(socket, queue, result);
        if (op_sends(op) && socket->error)
                socket_end_sent(socket, ended);
        if (socket_is_datagram(socket))
                status = datagram_status(op, status);
        socket_end(socket, op, status, OVL_REASON_NONE, op_told(op, status), ended);
}

/* The end of the stream reaches all receives that the request served. */
static void socket_finish_end_of_stream(struct socket *socket, struct op *first, struct list *ended) {
        struct queue *queue = socket_queue(socket, first);
        uint32_t n_served = first->n_merged + 1;

        if (socket->error)
                queue->has_failed = true;
        for (; n_served > 0; n_served--) {
                struct op *op = list_entry(queue->ops.next, struct op, link);

                socket_end(socket, op, socket->error && op->done == 0 ? socket->error : 0, OVL_REASON_NONE, op->done,
                           ended);
        }
}

static void socket_finish_connect(struct socket *socket, struct op *op, int32_t result, unsigned reason,
                                  struct list *ended) {
        /* It may listen by now: the monitor was asked for that first, and the connect failed for it. */
        if (socket->state == SOCKET_CONNECTING && result == 0)
                socket->connected_at = now_ns();
        if (socket->state == SOCKET_CONNECTING)
                socket->state = result == 0 ? SOCKET_CONNECTED : SOCKET_OPEN;
        else if (socket_is_datagram(socket) && result == 0)
                socket->state = SOCKET_CONNECTED;
        if (result == -ECANCELED)
                reason = op->cancel;
        if (result == 0)
                socket_advance(socket, op, ended);
        else
                socket_end(socket, op, result, reason, 0, ended);
}

static void socket_finish_renewal(struct socket *socket, struct op *op, int32_t result, unsigned reason,
                                  struct list *ended) {
        if (result == 0)
                socket_leave(socket, op, ended);
        else
                socket_end(socket, op, result, result == -ECANCELED ? op->cancel : reason, op->done, ended);
}

static void socket_finish_transfer(struct socket *socket, struct op *op, int32_t result, struct list *ended) {
        if (op_receives(op))
                socket->bytes_received += (uint32_t) result;
        else
                socket->bytes_sent += (uint32_t) result;
        if (socket_is_datagram(socket))
                socket_end(socket, op, datagram_finish(op, (uint32_t) result), OVL_REASON_NONE, (uint32_t) result,
                           ended);
        else if (op->message_flags & OVL_MESSAGE_PEEK)
                socket_end(socket, op, 0, OVL_REASON_NONE, (uint32_t) result, ended);
        else
                socket_deal(socket, op, (uint32_t) result, ended);
}

static void socket_finish_transmit(struct socket *socket, struct op *op, int32_t result, struct list *ended) {
        result = transmit_finish(op, result);
        if (result < 0) {
                socket_finish_failure(socket, op, result, ended);
                return;
        }
        op->state = OP_QUEUED;
        /* What follows is tried as often as this. */
        op->n_repeats = op->n_retries = 0;
        socket->bytes_sent += (uint32_t) result;
        op->sent_to = socket->bytes_sent;
        if (transmit_is_done(op))
                socket_advance(socket, op, ended);
}

/* The poll of a receive of urgent data ended. What is told may be taken by others, who share the socket. */
static void socket_finish_urgent(struct socket *socket, struct op *op, int32_t events, struct list *ended) {
        int r;

        op->state = OP_QUEUED;
        if (op->done > 0 || (op->len == 0 && events > 0 && (events & POLLPRI))) {
                socket_end(socket, op, 0, OVL_REASON_NONE, op->done, ended);
                return;
        }
        r = events > 0 && op->cancel == 0 ? urgent_take(op) : -EAGAIN;
        if (r > 0) {
                socket->bytes_received++;
                socket_end(socket, op, 0, OVL_REASON_NONE, 1, ended);
        } else if (events < 0 || op->cancel != 0) {
                socket_finish_failure(socket, op, events < 0 ? events : -ECANCELED, ended);
        } else if (socket_has_option(socket, SO_OOBINLINE)) {
                socket_end(socket, op, -EINVAL, OVL_REASON_OOB_INLINE, 0, ended);
        } else if (r == 0 || (events & (POLLHUP | POLLERR | POLLRDHUP))) {
                socket_end(socket, op, socket_take_error(socket, socket_queue(socket, op)), OVL_REASON_NONE, 0, ended);
        }
}

/* There is something to receive, beside receives of urgent data. */
static void socket_receive_now(struct socket *socket, struct op *op) {
        socket_save_urgent(socket);
        socket_queue(socket, op)->active = op;
        op->request.kind = REQUEST_RECV;
        op->request.flags |= MSG_DONTWAIT;
        socket->engine->ops->start(socket->engine, op);
}

void socket_read(struct socket *socket, struct op *op, struct list *ended) {
        struct queue *queue = socket_queue(socket, op);
        unsigned reason = OVL_REASON_NONE;
        int r;

        r = transmit_read(op, &reason);
        if (r > 0) {
                socket_request_transmit(socket, op);
                KILLPOINT("socket-start");
                socket->engine->ops->start(socket->engine, op);
                return;
        }
        queue->active = NULL;
        op->state = OP_QUEUED;
        if (r < 0)
                socket_end(socket, op, r, reason, op->done, ended);
        queue_start(socket, queue, ended);
}

void socket_finish(struct socket *socket, struct op *op, int32_t result, unsigned reason, struct list *ended) {
        struct queue *queue;

        KILLPOINT("socket-finish");
        if (op->code == OVL_OP_POLL) {
                polls_finish(socket, op, result, ended);
                return;
        }
        queue = socket_queue(socket, op);
        queue->active = NULL;
        if (op_step(op) == STEP_CONNECT) {
                socket_finish_connect(socket, op, result, reason, ended);
        } else if (op_step(op) == STEP_RENEW) {
                socket_finish_renewal(socket, op, result, reason, ended);
        } else if (op_is_urgent(op)) {
                socket_finish_urgent(socket, op, result, ended);
        } else if (op_transmits(op)) {
                socket_finish_transmit(socket, op, result, ended);
        } else if (result < 0) {
                socket_finish_failure(socket, op, result, ended);
        } else if (op->request.kind == REQUEST_ACCEPT) {
                op->fd = result;
                socket_leave(socket, op, ended);
        } else if (op->request.kind == REQUEST_POLL && op->len > op->done && op->cancel == 0) {
                socket_receive_now(socket, op);
        } else if (op->request.kind == REQUEST_POLL && op->len > 0) {
                socket_undo(socket, op);
        } else if (op->request.kind == REQUEST_POLL) {
                socket_end(socket, op, 0, OVL_REASON_NONE, 0, ended);
        } else if (result == 0 && op_receives(op) && !socket_is_datagram(socket)) {
                socket_finish_end_of_stream(socket, op, ended);
        } else {
                socket_finish_transfer(socket, op, result, ended);
        }
        queue_end_cancelled(socket, queue, ended);
        if (queue == &socket->queues[DIRECTION_OUT])
                socket_take_acks(socket, ended);
        queue_start(socket, queue, ended);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

/*
 * Marks what is to end.
 *
 * ret_is_stopping: whether something in flight is to end, since now or before.
 *
 * Returns whether something in flight is to end since now.
 */
static bool queue_mark_cancelled(struct queue *queue, bool (*matches)(const struct op *op, const void *argument),
                                 const void *argument, unsigned reason, uint32_t *cancelled, bool *ret_is_stopping) {
        bool is_in_flight = false, is_stopping = false;

        list_for_each(link, &queue->ops) {
                struct op *op = list_entry(link, struct op, link);

                if (op->cancel == 0 && (!matches || matches(op, argument))) {
                        op->cancel = (uint16_t) reason;
                        op->cancelled = cancelled;
                        is_in_flight |= op->state == OP_ACTIVE;
                }
                is_stopping |= op->cancel != 0 && op->state == OP_ACTIVE;
        }
        *ret_is_stopping = is_stopping;
        return is_in_flight;
}

/* The first op waits for its file, and is to end: nothing of the kernel's keeps it. */
static void queue_stop_waiting(struct socket *socket, struct queue *queue, struct list *ended) {
        queue->active->state = OP_QUEUED;
        queue->active = NULL;
        queue_end_cancelled(socket, queue, ended);
}

void socket_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled, struct list *ended) {
        polls_cancel(socket, matches, argument, reason, cancelled);
        ioctls_cancel(socket, matches, argument, reason, cancelled, ended);
        /* What has left ends before what has not. */
        for (size_t i = SOCKET_QUEUES; i-- > 0;) {
                struct queue *queue = &socket->queues[i];
                bool is_stopping, is_in_flight;

                is_in_flight = queue_mark_cancelled(queue, matches, argument, reason, cancelled, &is_stopping);
                /* Records keep the order of the queue: what is behind the request in flight ends with it. */
                if (!is_stopping)
                        queue_end_cancelled(socket, queue, ended);
                if (!queue->active)
                        queue->retry_at = 0;
                if (is_in_flight && op_asks(queue->active))
                        ask_cancel(socket->ask, &queue->active->ticket);
                else if (is_in_flight && transmit_waits(queue->active))
                        queue_stop_waiting(socket, queue, ended);
                else if (is_in_flight)
                        socket->engine->ops->cancel(socket->engine, queue->active);
                queue_go_on(socket, queue, ended);
        }
}

/* A datagram socket has no end to send: it takes no more operations, whether or not it has a peer. */
static bool socket_can_be_shut(const struct socket *socket) {
        return socket->state == SOCKET_CONNECTED || socket_is_datagram(socket);
}

int socket_shut_send(struct socket *socket) {
        if (!socket_can_be_shut(socket))
                return -ENOTCONN;
        if (!socket->queues[DIRECTION_OUT].is_shut) {
                socket->queues[DIRECTION_OUT].is_shut = true;
                socket_finish_send_side(socket);
        }
        return 0;
}

int socket_shut_receive(struct socket *socket) {
        if (!socket_can_be_shut(socket))
                return -ENOTCONN;
        socket->queues[DIRECTION_IN].is_shut = true;
        return 0;
}

void socket_retry(struct socket *socket, uint64_t now, struct list *ended) {
        for (size_t i = 0; i < SOCKET_QUEUES; i++) {
                struct queue *queue = &socket->queues[i];

                if (queue->retry_at == 0 || queue->retry_at > now)
                        continue;
                queue->retry_at = 0;
                queue_go_on(socket, queue, ended);
        }
}

uint64_t socket_retry_at(const struct socket *socket) {
        uint64_t earliest = UINT64_MAX;

        for (size_t i = 0; i < SOCKET_QUEUES; i++)
                if (socket->queues[i].retry_at > 0 && socket->queues[i].retry_at < earliest)
                        earliest = socket->queues[i].retry_at;
        return earliest;
}

void socket_resume(struct socket *socket, struct op *op, struct list *ended) {
        queue_start(socket, socket_queue(socket, op), ended);
}
