/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What can only be told when nothing moves any more. While it is quiet: every operation without a record really cannot
 * go on, every request is answered, every verdict is given. In the end: in the order of the sequence numbers, the bytes
 * of all records of a direction are the bytes that went through the connection, none more and none less; what one
 * channel posted ended in posting order; cancels were counted exactly.
 *
 * The truth is the log of each connection's pipes, in which nothing is forgotten, and not the daemon's account of it.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

#define TAG(op) ((unsigned long long) (op)->tag)

/* --- Quiet -------------------------------------------------------------------------------------------------------- */

/* Whether the monitor has a connect of this socket that nobody has cancelled. */
static bool op_hangs(const struct model_op *op) {
        const struct world *world = op->client->world;

        list_for_each(link, &world->asks) {
                const struct monitor_ask *ask = list_entry(link, struct monitor_ask, link);

                if (ask->message.kind == LINK_CONNECT && !ask->is_cancelled &&
                    net_find(&world->net, ask->fd) == op->socket->end)
                        return true;
        }
        return false;
}

/* Whether a poll has something to tell. */
static bool op_finds_events(const struct model_op *op, const struct net_end *end) {
        if (end->is_listening)
                return (op->flags & OVL_POLL_IN) && end->n_backlog > 0;
        if (!end->connection || end->error || net_in(end)->has_ended)
                return true;
        return ((op->flags & OVL_POLL_IN) && net_pipe_unread(net_in(end)) > 0) ||
               ((op->flags & OVL_POLL_OUT) && (net_pipe_room(net_out(end)) > 0 || net_out(end)->is_broken));
}

/* A connect sends, too, once it has connected. */
static bool op_is_sending(const struct model_op *op) {
        const struct net_end *end = op->socket->end;

        return op->code == OVL_OP_SEND || (op->code == OVL_OP_CONNECT && op->len > 0 && end && end->connection);
}

static bool op_is_stuck(const struct model_op *op) {
        const struct net_end *end = op->socket ? op->socket->end : NULL;

        if (!op->socket || op->socket->is_closed)
                return false;
        if (op->channel->is_left && !op->socket->was_associated && !op_is_sending(op))
                return false;
        if (op->code == OVL_OP_CONNECT && op_hangs(op))
                return true;
        if (!end)
                return false;
        if (op->code == OVL_OP_POLL)
                return !op_finds_events(op, end);
        if (op->code == OVL_OP_ACCEPT) {
                const struct net_end *accepted = net_find_accepted(&op->client->world->net, op->tag);

                if (!accepted)
                        return end->n_backlog == 0;
                end = accepted;
        }
        if (!end->connection)
                return false;
        if (op->code == OVL_OP_RECV || op->code == OVL_OP_ACCEPT)
                return net_pipe_unread(net_in(end)) == 0 && !net_in(end)->has_ended;
        return net_pipe_room(net_out(end)) == 0 && !net_out(end)->is_broken;
}

/* A region stays as long as an operation that cannot go on may use it. */
static bool call_is_stuck(const struct model_call *call) {
        const struct world *world = call->channel->client->world;

        for (size_t i = 0; call->kind == MODEL_REGION_REMOVE && i < world->n_ops; i++) {
                if (!world->ops[i]->has_record && world->ops[i]->region == call->region)
                        return true;
        }
        return false;
}

static void books_check_calls(const struct client *client) {
        list_for_each(link, &client->calls) {
                const struct model_call *call = list_entry(link, struct model_call, link);

                check(call_is_stuck(call), "client %u: request %u of kind %d is not answered", client->number, call->id,
                      (int) call->kind);
        }
}

void books_check_quiet(struct world *world) {
        for (size_t i = 0; i < world->n_ops; i++) {
                const struct model_op *op = world->ops[i];

                if (op->has_record || op->is_optional || op->client->is_gone)
                        continue;
                check(op_is_stuck(op), "tag %llx of client %u: could go on, or should be over, and is not", TAG(op),
                      op->client->number);
        }
        for (size_t i = 0; i < world->n_clients; i++)
                books_check_calls(world->clients[i]);
        for (size_t i = 0; i < world->n_clients; i++) {
                for (size_t k = 0; k < world->clients[i]->n_channels; k++) {
                        const struct channel *channel = &world->clients[i]->channels[k];

                        check(channel->fd < 0 || channel->n_wished <= channel->n_settled || world->clients[i]->is_gone,
                              "client %u: entry %llu of channel %zu waits for its verdict", (unsigned) i,
                              (unsigned long long) channel->n_wished, k);
                }
        }
}

/* --- The whole ---------------------------------------------------------------------------------------------------- */

static int op_compare_sequence(const void *left, const void *right) {
        const struct model_op *const *a = left;
        const struct model_op *const *b = right;

        if ((*a)->record.sequence != (*b)->record.sequence)
                return (*a)->record.sequence < (*b)->record.sequence ? -1 : 1;
        return 0;
}

/* Which of the two directions an operation on this socket moved bytes in, named by its plain operation; 0: none. */
static uint8_t op_moves(const struct model_op *op, const struct model_socket *socket) {
        if (op->code == OVL_OP_ACCEPT)
                return op->into == socket && op->record.status == 0 ? OVL_OP_RECV : 0;
        if (op->socket != socket)
                return 0;
        return op->code == OVL_OP_CONNECT ? OVL_OP_SEND : op->code;
}

static bool op_counts(const struct model_op *op, const struct model_socket *socket) {
        return op->socket == socket && op->has_record && !(op->record.flags & OVL_RECORD_REFUSED);
}

/* An operation without a record may have moved bytes: its client cannot close the socket any more. */
static bool socket_is_busy(const struct world *world, const struct model_socket *socket) {
        for (size_t i = 0; i < world->n_ops; i++) {
                if (world->ops[i]->socket == socket && !world->ops[i]->has_record)
                        return true;
        }
        return false;
}

/* The records of one direction, in the order in which they came about, against what went through the connection. */
static void books_check_stream(const struct client *client, const struct model_socket *socket, struct model_op **ops,
                               size_t n_ops, uint8_t code) {
        const struct net_pipe *pipe = code == OVL_OP_RECV ? net_in(socket->end) : net_out(socket->end);
        size_t n_moved = code == OVL_OP_RECV ? pipe->n_taken : pipe->n_written;
        size_t at = 0, untold = 0;

        for (size_t i = 0; i < n_ops; i++) {
                const struct model_op *op = ops[i];
                size_t n = (size_t) op->record.bytes;

                if ((op->record.flags & OVL_RECORD_REFUSED) || op_moves(op, socket) != code)
                        continue;
                /* The first send that the reset ended may have left in part, and does not say how far. */
                if (code == OVL_OP_SEND && op->record.status == -ECONNRESET && untold == 0)
                        untold = op->len;
                if (n == 0)
                        continue;
                check(at + n <= pipe->n_written, "tag %llx: more bytes than went through the connection", TAG(op));
                check(memcmp(pipe->log + at, op->data, n) == 0,
                      "tag %llx: its %zu bytes are not those of the stream from %zu on", TAG(op), n, at);
                if (!(op->flags & OVL_MESSAGE_PEEK))
                        at += n;
        }
        if (socket_is_busy(client->world, socket))
                return;
        check(at <= n_moved && n_moved - at <= untold,
              "client %u, socket %llx: the records tell of %zu bytes %s, the connection of %zu", client->number,
              (unsigned long long) socket->id, at, code == OVL_OP_RECV ? "received" : "sent", n_moved);
}

/* Polls stand in no queue, and an accept with room for data leaves it before it ends. */
static bool op_has_order(const struct model_op *op) {
        return op->code != OVL_OP_POLL && !(op->code == OVL_OP_ACCEPT && op->len > 0);
}

/* What one channel posted on a socket in one direction, and was not cancelled, ended in posting order. */
static void books_check_order(struct model_op **ops, size_t n_ops) {
        for (size_t i = 0; i < n_ops; i++) {
                const struct model_op *op = ops[i];

                if (!op->socket || !op_has_order(op) || (op->record.flags & OVL_RECORD_REFUSED) ||
                    op->record.status == -ECANCELED)
                        continue;
                for (size_t k = i + 1; k < n_ops; k++) {
                        const struct model_op *later = ops[k];

                        if (later->socket != op->socket || later->code != op->code || later->channel != op->channel ||
                            !op_has_order(later) || (later->record.flags & OVL_RECORD_REFUSED) ||
                            later->record.status == -ECANCELED)
                                continue;
                        check(later->entry > op->entry, "tag %llx ended after tag %llx, which was posted later",
                              TAG(later), TAG(op));
                        break;
                }
        }
}

static void books_check_socket(const struct client *client, const struct model_socket *socket, struct model_op **ops,
                               size_t n_ops) {
        uint32_t n_cancelled = 0;

        if (socket->is_blurred)
                return;
        if (socket->end && socket->end->connection) {
                books_check_stream(client, socket, ops, n_ops, OVL_OP_RECV);
                books_check_stream(client, socket, ops, n_ops, OVL_OP_SEND);
        }
        for (size_t i = 0; i < n_ops; i++)
                n_cancelled += op_counts(ops[i], socket) && ops[i]->record.status == -ECANCELED &&
                               ops[i]->record.reason == OVL_REASON_CANCELLED;
        check(n_cancelled == socket->n_cancelled, "socket %llx: %u operations were cancelled, the replies say %u",
              (unsigned long long) socket->id, n_cancelled, socket->n_cancelled);
}

static void books_check_client(struct client *client, struct model_op **ops, size_t n_ops) {
        bool is_whole = !client->is_gone && !client->is_kicked && !client->has_closed_channels;

        qsort(ops, n_ops, sizeof(*ops), op_compare_sequence);
        for (size_t i = 0; i < n_ops; i++) {
                uint64_t previous = i > 0 ? ops[i - 1]->record.sequence : 0;

                check(ops[i]->record.sequence > previous, "tag %llx: sequence number %llu twice", TAG(ops[i]),
                      (unsigned long long) ops[i]->record.sequence);
                check(!is_whole || ops[i]->record.sequence == previous + 1,
                      "client %u: the record with number %llu is lost", client->number,
                      (unsigned long long) previous + 1);
        }
        books_check_order(ops, n_ops);
        for (size_t i = 0; i < client->n_sockets; i++)
                books_check_socket(client, &client->sockets[i], ops, n_ops);
}

void books_check_all(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                _cleanup_free_ struct model_op **ops = calloc(world->n_ops + 1, sizeof(*ops));
                size_t n_ops = 0;

                if (!ops)
                        abort();
                for (size_t k = 0; k < world->n_ops; k++) {
                        if (world->ops[k]->client == world->clients[i] && world->ops[k]->has_record)
                                ops[n_ops++] = world->ops[k];
                }
                books_check_client(world->clients[i], ops, n_ops);
        }
}
