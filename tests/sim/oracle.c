/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What was promised, checked on what clients see.
 *
 * As each record or reply is read: it belongs to an operation or request of this client that has none yet, it came
 * where it had to come, what it says is possible, the bytes beyond its count are untouched, and a reply does not
 * overtake the records that it speaks of. What can only be told in the end is in books.c.
 *
 * What a client may have lost with a channel that it closed is excused, and its sockets' streams with it: only what can
 * be known is checked.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/overlapd.pb-c.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

#define ORACLE_CANARY 0xa5

#define TAG(op) ((unsigned long long) (op)->tag)

/* --- Records ------------------------------------------------------------------------------------------------------ */

static struct model_op *oracle_find_op(struct channel *channel, const struct ovl_record *record) {
        struct world *world = channel->client->world;
        size_t index = (size_t) (record->tag & UINT32_MAX) - 1;
        struct model_op *op;

        check(index < world->n_ops && world->ops[index]->tag == record->tag,
              "a record with tag %llx, which nobody posted", (unsigned long long) record->tag);
        op = world->ops[index];
        check(op->client == channel->client, "tag %llx: the record went to another client", TAG(op));
        check(!op->has_record, "tag %llx: a second record", TAG(op));
        return op;
}

/* Where the record had to go. */
static void oracle_check_route(const struct channel *channel, const struct model_op *op,
                               const struct ovl_record *record) {
        const struct client *client = channel->client;
        /* The heir is the first channel; when that is gone, the next one that is opened. */
        bool is_inherited =
                client->has_closed_channels && (channel == &client->channels[0] || client->channels[0].fd < 0);

        if (record->flags & OVL_RECORD_PORT) {
                check(op->socket && op->socket->was_associated && op->indication == OVL_INDICATE_PLAIN,
                      "tag %llx: goes to a port, and should not", TAG(op));
                check(!(record->flags & OVL_RECORD_REFUSED), "tag %llx: a refusal goes to a port", TAG(op));
                check(record->key == op->socket->port_key, "tag %llx: wrong port key", TAG(op));
                check((channel->is_port && channel->number == op->socket->port) || is_inherited,
                      "tag %llx: came on the wrong port", TAG(op));
                client->world->tally->n_through_ports++;
        } else {
                check(channel == op->channel || is_inherited, "tag %llx: came on another thread's channel", TAG(op));
                check(!op->socket || record->key == op->socket->id, "tag %llx: wrong key", TAG(op));
                if (channel != op->channel)
                        client->world->tally->n_inherited++;
        }
        check(record->thread == op->channel->number, "tag %llx: names thread %llu", TAG(op),
              (unsigned long long) record->thread);
}

/* The end that a connection came to, or will when a record that was not read yet is. */
static struct net_end *oracle_end_of(const struct model_op *op) {
        const struct world *world = op->client->world;

        if (op->code == OVL_OP_ACCEPT)
                return net_find_accepted(&world->net, op->tag);
        if (!op->socket || (op->socket->end && op->socket->end->connection))
                return op->socket ? op->socket->end : NULL;
        for (size_t i = 0; i < world->n_ops; i++) {
                const struct model_op *accept = world->ops[i];

                if (accept->code == OVL_OP_ACCEPT && accept->into == op->socket && !accept->has_record &&
                    net_find_accepted(&world->net, accept->tag))
                        return net_find_accepted(&world->net, accept->tag);
        }
        return op->socket->end;
}

static bool op_connection_broke(const struct model_op *op) {
        const struct net_end *end = oracle_end_of(op);

        return end && end->connection && (end->connection->was_reset || net_out(end)->is_broken);
}

static void oracle_check_refusal(const struct model_op *op, const struct ovl_record *record) {
        struct tally *tally = op->client->world->tally;

        check(record->status < 0 && record->bytes == 0 && record->value == 0, "tag %llx: a refusal that did something",
              TAG(op));
        tally->n_refused++;
        if (record->reason == OVL_REASON_CREDITS) {
                check(op->number <= op->client->n_ops_lacking,
                      "tag %llx: refused for want of credits, but there were some", TAG(op));
                tally->n_credit_refusals++;
                return;
        }
        if (record->reason == OVL_REASON_UNKNOWN_SOCKET && op->socket && op->socket->close_asked)
                return;
        if (record->reason == OVL_REASON_UNKNOWN_REGION && op->region && op->region->remove_asked)
                return;
        if (op->expected) {
                check(record->reason == op->expected, "tag %llx: refused for reason %u instead of %u", TAG(op),
                      record->reason, op->expected);
                return;
        }
        if (!op->is_sound || op_connection_broke(op) || op->socket->close_asked || op->socket->send_shut ||
            op->socket->receive_shut || op->socket->was_associated || (op->region && op->region->remove_asked))
                return;
        check_fail("tag %llx: refused with status %d, reason %u, and nothing was wrong with it", TAG(op),
                   record->status, record->reason);
}

/* The end of its channel ends what a thread posted, but for its sends. */
static bool op_may_be_cancelled(const struct model_op *op) {
        bool is_left = op->channel->fd < 0 || op->channel->has_ended;

        return op->socket->cancel_asked || op->socket->close_asked || (is_left && op->code != OVL_OP_SEND) ||
               (op->into && op->into->close_asked) || op->client->is_kicked || op->client->world->worker_has_ended;
}

/* An accept has brought a connection into the socket, whose old kernel socket took what was pending with it. */
static bool op_may_be_replaced(const struct model_op *op) {
        const struct world *world = op->client->world;

        for (size_t i = 0; i < world->n_ops; i++) {
                const struct model_op *accept = world->ops[i];

                if (accept->code == OVL_OP_ACCEPT && accept->into == op->socket && accept != op)
                        return true;
        }
        return false;
}

static void oracle_check_failure(const struct model_op *op, const struct ovl_record *record) {
        struct tally *tally = op->client->world->tally;

        switch (-record->status) {
        case ECANCELED:
                check(op_may_be_cancelled(op) || (record->reason == OVL_REASON_REPLACED && op_may_be_replaced(op)),
                      "tag %llx: cancelled, and nobody asked for it", TAG(op));
                tally->n_cancelled++;
                tally->n_partly_cancelled += record->bytes > 0;
                break;
        case ECONNRESET:
                check(op_connection_broke(op), "tag %llx: reset, and the connection is whole", TAG(op));
                check(op->code != OVL_OP_SEND || record->bytes == 0, "tag %llx: reset, and yet %llu bytes sent",
                      TAG(op), (unsigned long long) record->bytes);
                tally->n_broken++;
                break;
        case ENOBUFS:
        case ENOMEM:
                check(op->code == OVL_OP_SEND || op->code == OVL_OP_RECV || op->code == OVL_OP_POLL || op->len > 0,
                      "tag %llx: no memory", TAG(op));
                tally->n_wanting++;
                break;
        default:
                check(op->code == OVL_OP_CONNECT, "tag %llx: ended with status %d", TAG(op), record->status);
                break;
        }
}

/* A poll tells what was asked for, and what always is told; and only what has been there. */
static void oracle_check_poll(const struct model_op *op, const struct ovl_record *record) {
        const struct net_end *end = oracle_end_of(op);
        uint64_t events = record->value;

        op->client->world->tally->n_polled++;
        check(events != 0, "tag %llx: a poll that found nothing", TAG(op));
        check((events & ~(uint64_t) (op->flags | OVL_POLL_ERROR | OVL_POLL_HUP)) == 0,
              "tag %llx: events %llx, and %x were asked for", TAG(op), (unsigned long long) events, op->flags);
        if (!end || !end->connection || end->is_listening)
                return;
        check(!(events & OVL_POLL_IN) || net_in(end)->n_written > 0 || net_in(end)->has_ended,
              "tag %llx: can be read, and nothing was ever written", TAG(op));
        check(!(events & OVL_POLL_HUP) || net_in(end)->has_ended || op->socket->state != MODEL_CONNECTED ||
                      op->was_unconnected,
              "tag %llx: the end of a connection that goes on", TAG(op));
}

static void oracle_check_success(const struct model_op *op, const struct ovl_record *record) {
        struct tally *tally = op->client->world->tally;
        const struct net_end *end = oracle_end_of(op);
        bool is_at_end;

        tally->n_done++;
        check(record->reason == OVL_REASON_NONE, "tag %llx: success for a reason", TAG(op));
        if (op->code == OVL_OP_POLL)
                oracle_check_poll(op, record);
        if (op->code == OVL_OP_SEND || op->code == OVL_OP_CONNECT)
                check(record->bytes == op->len, "tag %llx: sent %llu of %zu bytes", TAG(op),
                      (unsigned long long) record->bytes, op->len);
        tally->n_disconnected += op->code == OVL_OP_DISCONNECT;
        tally->n_first += (op->code == OVL_OP_ACCEPT || op->code == OVL_OP_CONNECT) && record->bytes > 0;
        if (op->code != OVL_OP_RECV && op->code != OVL_OP_ACCEPT)
                return;
        check(end && end->connection, "tag %llx: received on a socket that was never connected", TAG(op));
        is_at_end = net_in(end)->has_ended;
        check(record->bytes > 0 || op->len == 0 || is_at_end, "tag %llx: the end of a stream that goes on", TAG(op));
        check(!(op->flags & OVL_MESSAGE_WAITALL) || record->bytes == op->len || is_at_end,
              "tag %llx: wanted all %zu bytes and got %llu", TAG(op), op->len, (unsigned long long) record->bytes);
        tally->n_ends_of_stream += record->bytes == 0 && op->len > 0;
        tally->n_peeked += (op->flags & OVL_MESSAGE_PEEK) != 0;
        tally->n_whole += (op->flags & OVL_MESSAGE_WAITALL) != 0;
}

/* Takes what was received out of the buffers, and looks behind it. What was sent must be what it was. */
static void oracle_take_buffers(struct model_op *op, const struct ovl_record *record) {
        size_t left = (size_t) record->bytes, at = 0;

        for (uint32_t i = 0; i < op->n_slices; i++) {
                struct buffer *buffer = &op->region->buffers[op->slices[i].buffer];
                const uint8_t *place = op->region->data + (size_t) op->slices[i].buffer * MODEL_BUFFER_SIZE;
                size_t n = left < op->slices[i].len ? left : op->slices[i].len;

                if (op->code == OVL_OP_RECV || op->code == OVL_OP_ACCEPT) {
                        memcpy(op->data + at, place, n);
                        for (size_t k = n; k < MODEL_BUFFER_SIZE; k++)
                                check(place[k] == ORACLE_CANARY,
                                      "tag %llx: byte %zu behind what was received was written", TAG(op), k - n);
                        at += n;
                        left -= n;
                } else if (op->code == OVL_OP_SEND || op->code == OVL_OP_CONNECT) {
                        check(memcmp(op->data + at, place, op->slices[i].len) == 0,
                              "tag %llx: what is sent was written", TAG(op));
                        at += op->slices[i].len;
                }
                buffer->is_used = false;
                buffer->is_sealed = true;
                buffer->sum = buffer_sum(op->region, op->slices[i].buffer);
        }
        if (op->vector_buffer < MODEL_BUFFERS)
                op->region->buffers[op->vector_buffer].is_used = false;
}

static void oracle_add_socket(struct client *client, struct model_op *op, const struct ovl_record *record) {
        struct net_end *end = net_find_accepted(&client->world->net, op->tag);

        if (op->into && record->value == 0 && op->into->close_asked)
                return; /* the close was too late for the accept, but not for its connection */
        check(end && record->value != 0, "tag %llx: accepted nothing", TAG(op));
        client->world->tally->n_accepted++;
        if (op->into) {
                check(record->value == op->into->id, "tag %llx: accepted into another socket", TAG(op));
                client->world->tally->n_prepared++;
        } else {
                if (client->n_sockets == MODEL_SOCKETS_MAX)
                        return;
                op->into = &client->sockets[client->n_sockets++];
                *op->into = (struct model_socket){ .id = record->value };
        }
        op->into->end = end;
        op->into->state = MODEL_CONNECTED;
}

static void oracle_check_settled(struct channel *channel, const struct ovl_record *record) {
        check(!channel->is_port, "a verdict came on a port");
        check(record->value > channel->n_settled, "a verdict on %llu entries after one on %llu",
              (unsigned long long) record->value, (unsigned long long) channel->n_settled);
        check(record->value <= channel->n_entries, "a verdict on more entries than there are");
        channel->n_settled = record->value;
        world_trace(channel->client->world, "client %u: verdict on %llu entries of channel %ld",
                    channel->client->number, (unsigned long long) record->value, channel - channel->client->channels);
        channel->client->world->tally->n_settled++;
}

static void oracle_end_op(struct channel *channel, struct model_op *op, const struct ovl_record *record) {
        struct client *client = channel->client;

        op->has_record = true;
        op->record = *record;
        client->n_pending--;
        check(record->bytes <= op->len, "tag %llx: %llu bytes of %zu", TAG(op), (unsigned long long) record->bytes,
              op->len);
        if (record->flags & OVL_RECORD_REFUSED)
                oracle_check_refusal(op, record);
        else
                check(op->expected == 0, "tag %llx: should have been refused for reason %u", TAG(op), op->expected);
        oracle_take_buffers(op, record);
        if (op->code == OVL_OP_CONNECT && op->socket && !(record->flags & OVL_RECORD_REFUSED)) {
                op->socket->is_connecting = false;
                if (record->status == 0)
                        op->socket->state = MODEL_CONNECTED;
        }
        if (record->flags & OVL_RECORD_REFUSED)
                return;
        client->world->tally->n_bytes += record->bytes;
        client->world->tally->n_connected += op->code == OVL_OP_CONNECT && record->status == 0;
        if (record->status < 0)
                oracle_check_failure(op, record);
        else
                oracle_check_success(op, record);
        if (op->code == OVL_OP_ACCEPT && record->status == 0)
                oracle_add_socket(client, op, record);
        else if (op->code != OVL_OP_POLL || record->status < 0)
                check(record->value == 0, "tag %llx: a value", TAG(op));
}

void oracle_record(struct channel *channel, const struct ovl_record *record) {
        struct model_op *op;

        check(record->reserved == 0 && record->payload_len == 0, "a record with reserved fields");
        if (record->kind == OVL_RECORD_SETTLED) {
                oracle_check_settled(channel, record);
                return;
        }
        check(record->kind == OVL_RECORD_COMPLETION, "a record of kind %u", record->kind);
        op = oracle_find_op(channel, record);
        world_trace(
                channel->client->world,
                "client %u: record of tag %llx on channel %ld: status %d reason %u bytes %llu flags %x sequence %llu",
                channel->client->number, TAG(op), channel - channel->client->channels, record->status, record->reason,
                (unsigned long long) record->bytes, record->flags, (unsigned long long) record->sequence);
        check(record->op == op->code && record->indication == op->indication, "tag %llx: another operation", TAG(op));
        oracle_check_route(channel, op, record);
        check(record->sequence > channel->last_sequence || channel->client->has_closed_channels,
              "tag %llx: the sequence numbers of a channel do not grow", TAG(op));
        channel->last_sequence = record->sequence;
        /*
         * What the verdict had declared pending is neither refused nor over at once. Of a record for a port it says
         * nothing, also where that comes here because the port is gone.
         */
        if (op->channel == channel && channel->n_settled >= op->entry && !(record->flags & OVL_RECORD_PORT))
                check(!(record->flags & (OVL_RECORD_REFUSED | OVL_RECORD_IMMEDIATE)),
                      "tag %llx: its record came after the verdict that it is pending", TAG(op));
        oracle_end_op(channel, op, record);
}

/* --- Replies ------------------------------------------------------------------------------------------------------ */

static bool op_comes_here(const struct model_op *op, const struct channel *channel) {
        return op->channel == channel && !(op->socket && op->socket->was_associated);
}

/* The records that a reply speaks of came before it, as far as both come on one channel. */
static void oracle_check_overtaking(const struct model_call *call) {
        struct world *world = call->channel->client->world;

        for (size_t i = 0; i < call->n_ops; i++) {
                const struct model_op *op = world->ops[i];
                bool matches;

                if (op->has_record || op->client != call->channel->client || !op_comes_here(op, call->channel))
                        continue;
                if (call->kind == MODEL_REGION_REMOVE)
                        matches = op->region == call->region;
                else
                        matches = op->socket == call->socket && (call->tag == 0 || call->tag == op->tag) &&
                                  (call->thread == 0 || call->thread == op->channel->number);
                check(!matches, "tag %llx: the reply to a request that ended it has overtaken its record", TAG(op));
        }
}

static void oracle_reply_hello(struct client *client, const Overlapd__HelloReply *hello) {
        client->is_open = true;
        client->session = hello->session;
        client->n_credits = hello->credits;
        client->channels[0].is_attached = true;
        check(hello->secret.len == sizeof(client->secret), "a secret of %zu bytes", hello->secret.len);
        memcpy(client->secret, hello->secret.data, sizeof(client->secret));
}

static void oracle_reply_open(struct client *client, const Overlapd__Reply *reply) {
        client->is_opening = false;
        check((reply->status == 0) == (client->opened != NULL), "an open of which the monitor knows nothing");
        if (reply->status == 0 && client->n_sockets < MODEL_SOCKETS_MAX)
                client->sockets[client->n_sockets++] = (struct model_socket){
                        .id = reply->socket_open->socket,
                        .end = client->opened,
                };
        client->opened = NULL;
}

static void oracle_reply_region(struct model_call *call, const Overlapd__Reply *reply) {
        switch (call->kind) {
        case MODEL_REGION_ADD:
                check(reply->status == 0, "a good region was refused: %s", reply->text);
                call->region->number = reply->region_add->region;
                break;
        case MODEL_REGION_ADD_BAD:
                check(reply->status == -EBADFD && reply->reason == OVL_REASON_BAD_MEMORY, "a bad region was taken");
                break;
        default:
                check(reply->status == 0, "a region cannot be removed: %s", reply->text);
                call->region->is_removed = true;
                oracle_check_overtaking(call);
                break;
        }
}

static void oracle_reply_socket(struct model_call *call, const Overlapd__Reply *reply) {
        struct model_socket *socket = call->socket;

        switch (call->kind) {
        case MODEL_LISTEN:
                /* An accept may have brought it a connection meanwhile. */
                if (reply->status == 0 && socket->state != MODEL_CONNECTED)
                        socket->state = MODEL_LISTENING;
                break;
        case MODEL_CLOSE:
                check(reply->status == 0, "a socket cannot be closed: %s", reply->text);
                socket->is_closed = true;
                oracle_check_overtaking(call);
                break;
        case MODEL_ASSOCIATE:
                check(reply->status != 0 || socket->port == call->number, "a socket with two ports");
                break;
        default:
                check(reply->status == 0 || reply->status == -ENOENT || reply->status == -EBADF, "cancel: status %d",
                      reply->status);
                if (reply->status == 0)
                        socket->n_cancelled += reply->cancel->cancelled;
                if (reply->status == 0 || reply->status == -ENOENT)
                        oracle_check_overtaking(call);
                break;
        }
}

static void oracle_settle_call(struct model_call *call, const Overlapd__Reply *reply) {
        struct client *client = call->channel->client;

        switch (call->kind) {
        case MODEL_HELLO:
                check(reply->status == 0 && reply->hello, "no session: %s", reply->text);
                oracle_reply_hello(client, reply->hello);
                break;
        case MODEL_ATTACH:
                check(reply->status == 0, "a channel is not attached: %s", reply->text);
                call->channel->is_attached = true;
                break;
        case MODEL_REGION_ADD:
        case MODEL_REGION_ADD_BAD:
        case MODEL_REGION_REMOVE:
                oracle_reply_region(call, reply);
                break;
        case MODEL_OPEN_SOCKET:
                oracle_reply_open(client, reply);
                break;
        case MODEL_LISTEN:
        case MODEL_CLOSE:
        case MODEL_ASSOCIATE:
        case MODEL_CANCEL:
                oracle_reply_socket(call, reply);
                break;
        case MODEL_UNKNOWN:
                check(reply->status == -EOPNOTSUPP, "an unknown request ended with status %d", reply->status);
                break;
        default:
                break;
        }
}

void oracle_reply(struct channel *channel, const Overlapd__Reply *reply) {
        struct client *client = channel->client;

        client->world->n_moved++;
        world_trace(client->world, "client %u: reply %u on channel %ld: %d %s", client->number, reply->id,
                    channel - client->channels, reply->status, reply->text);
        check((reply->status == 0) == (reply->text[0] == '\0'), "an error without a text, or a text without an error");
        if (reply->id == 0) {
                check(client->n_strikes > 0 && reply->reason == OVL_REASON_BAD_FRAME, "a strike for nothing");
                return;
        }
        list_for_each(link, &client->calls) {
                struct model_call *call = list_entry(link, struct model_call, link);

                if (call->id != reply->id)
                        continue;
                check(call->channel == channel, "the reply %u came on another channel", reply->id);
                oracle_settle_call(call, reply);
                list_unlink(&call->link);
                free(call);
                return;
        }
        if (!client->is_kicked)
                check_fail("a reply to request %u, which has had one or was never made", reply->id);
}

/* --- Ends --------------------------------------------------------------------------------------------------------- */

void oracle_excuse(struct client *client, const struct channel *channel) {
        struct world *world = client->world;

        for (size_t i = 0; i < world->n_ops; i++) {
                struct model_op *op = world->ops[i];

                if (op->client != client || op->has_record)
                        continue;
                if (channel && op->channel != channel &&
                    !(op->socket && op->socket->was_associated && channel->is_port) && channel != &client->channels[0])
                        continue;
                op->is_optional = true;
                if (op->socket)
                        op->socket->is_blurred = true;
        }
        list_for_each_safe(link, &client->calls) {
                struct model_call *call = list_entry(link, struct model_call, link);

                if (channel && call->channel != channel)
                        continue;
                if (call->socket)
                        call->socket->is_blurred = true;
                if (call->kind == MODEL_OPEN_SOCKET)
                        client->is_opening = true; /* for ever: what it opened is not known */
                list_unlink(&call->link);
                free(call);
        }
}

void oracle_end(struct channel *channel) {
        struct client *client = channel->client;

        world_trace(client->world, "client %u: the daemon hung up on channel %ld", client->number,
                    channel - client->channels);
        if (client->is_kicked || channel->is_silent || client->world->worker_has_ended)
                return;
        if (!channel->is_half_closed) {
                monitor_read(client->world); /* why, for the trace */
                check_fail("client %u: the daemon hung up on connection %llu, and nobody knows why", client->number,
                           (unsigned long long) channel->monitor_number);
        }
        for (size_t i = 0; i < client->world->n_ops; i++) {
                const struct model_op *op = client->world->ops[i];

                check(!op_comes_here(op, channel) || op->has_record || op->is_optional,
                      "tag %llx: its channel ended before its record", TAG(op));
        }
        list_for_each(link, &client->calls)
                check(list_entry(link, struct model_call, link)->channel != channel,
                      "a channel ended before the reply to request %u", list_entry(link, struct model_call, link)->id);
}
