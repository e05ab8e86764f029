/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What clients post: receives, sends, accepts and connects of every shape, and now and then an entry that must be
 * refused, together with the reason that its record has to give.
 *
 * Buffers are taken from the client's regions, each by one operation at a time. When one is taken again, it must still
 * hold what it held when the record of its last operation was read: so a write after the record shows. The bytes of a
 * receive buffer are set to a canary before, so that a write beyond the count of the record shows, too.
 */

#include <stdlib.h>
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/model.h"

#define ENTRY_CANARY 0xa5
#define ENTRY_FRAME_MAX 8u
#define ENTRY_BACKLOG_MAX 200u

/* A frame that is being filled. */
struct post {
        struct channel *channel;
        struct random *random;
        size_t n_slots;
        uint8_t slots[ENTRY_FRAME_MAX * OVL_ENTRY_SLOTS_MAX * OVL_SLOT_SIZE];
};

uint64_t buffer_sum(const struct model_region *region, uint32_t buffer) {
        const uint8_t *data = region->data + (size_t) buffer * MODEL_BUFFER_SIZE;
        uint64_t sum = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < MODEL_BUFFER_SIZE; i += sizeof(uint64_t)) {
                uint64_t word;

                memcpy(&word, data + i, sizeof(word));
                sum = (sum ^ word) * UINT64_C(0x100000001b3);
        }
        return sum;
}

/* Returns the buffer, or MODEL_BUFFERS when all are used. */
static uint32_t region_take_buffer(struct model_region *region, struct random *random) {
        uint32_t first = (uint32_t) random_below(random, MODEL_BUFFERS);

        for (uint32_t i = 0; i < MODEL_BUFFERS; i++) {
                uint32_t buffer = (first + i) % MODEL_BUFFERS;
                struct buffer *place = &region->buffers[buffer];

                if (place->is_used)
                        continue;
                check(!place->is_sealed || place->sum == buffer_sum(region, buffer),
                      "buffer %u was written after its record", buffer);
                place->is_used = true;
                place->is_sealed = false;
                return buffer;
        }
        return MODEL_BUFFERS;
}

static struct model_region *client_region(struct client *client) {
        size_t first = random_below(&client->world->random, MODEL_REGIONS_MAX);

        for (size_t i = 0; i < MODEL_REGIONS_MAX; i++) {
                struct model_region *region = &client->regions[(first + i) % MODEL_REGIONS_MAX];

                if (region->number != 0 && !region->remove_asked)
                        return region;
        }
        return NULL;
}

static struct model_op *op_new(struct post *post, struct model_socket *socket) {
        struct world *world = post->channel->client->world;
        struct model_op *op = calloc(1, sizeof(*op));

        if (!op)
                abort();
        if (world->n_ops == world->n_ops_size) {
                world->n_ops_size = 2 * world->n_ops_size + 256;
                world->ops = realloc(world->ops, world->n_ops_size * sizeof(struct model_op *));
                if (!world->ops)
                        abort();
        }
        world->ops[world->n_ops++] = op;
        op->tag = (random_next(post->random) >> 33 << 32) | world->n_ops;
        op->channel = post->channel;
        op->client = post->channel->client;
        op->socket = socket;
        op->entry = ++post->channel->n_entries;
        op->vector_buffer = MODEL_BUFFERS;
        op->client->n_pending++;
        /* Entries of several channels are served in any order: this one may make one that was posted before lack. */
        op->number = world->n_ops;
        if (op->client->n_pending > op->client->n_credits)
                op->client->n_ops_lacking = world->n_ops;
        world->tally->n_entries++;
        return op;
}

static struct ovl_slice op_slice(const struct model_op *op, uint32_t i) {
        return (struct ovl_slice){
                .offset = (uint64_t) op->slices[i].buffer * MODEL_BUFFER_SIZE,
                .len = op->slices[i].len,
                .region = op->region->number,
        };
}

/* Takes the buffers of an op as far as there are any. Returns whether there are. */
static bool op_take_buffers(struct model_op *op, struct random *random, bool is_vector) {
        uint32_t n = 1;

        op->region = client_region(op->client);
        if (!op->region)
                return false;
        if (is_vector) {
                op->vector_buffer = region_take_buffer(op->region, random);
                if (op->vector_buffer < MODEL_BUFFERS)
                        n += (uint32_t) random_below(random, MODEL_SLICES_MAX);
        }
        for (uint32_t i = 0; i < n; i++) {
                uint32_t buffer = region_take_buffer(op->region, random);

                if (buffer == MODEL_BUFFERS)
                        break;
                op->slices[i].buffer = buffer;
                op->slices[i].len =
                        is_vector && random_chance(random, 10) ? 0 : (uint32_t) random_size(random, MODEL_BUFFER_SIZE);
                op->len += op->slices[i].len;
                op->n_slices = i + 1;
        }
        if (op->n_slices > 0)
                return true;
        if (op->vector_buffer < MODEL_BUFFERS)
                op->region->buffers[op->vector_buffer].is_used = false;
        op->vector_buffer = MODEL_BUFFERS;
        op->region = NULL;
        return false;
}

static void op_fill_buffers(struct model_op *op, struct random *random) {
        size_t at = 0;

        op->data = calloc(1, op->len + 1);
        if (!op->data)
                abort();
        for (uint32_t i = 0; i < op->n_slices; i++) {
                uint8_t *place = op->region->data + (size_t) op->slices[i].buffer * MODEL_BUFFER_SIZE;

                if (op->code == OVL_OP_RECV || op->code == OVL_OP_ACCEPT) {
                        memset(place, ENTRY_CANARY, MODEL_BUFFER_SIZE);
                        continue;
                }
                for (uint32_t k = 0; k < op->slices[i].len; k++)
                        place[k] = op->data[at++] = (uint8_t) random_next(random);
        }
}

static void op_describe_buffers(struct model_op *op, struct ovl_entry *entry) {
        struct ovl_slice slices[MODEL_SLICES_MAX];

        if (op->n_slices == 0)
                return;
        if (op->vector_buffer == MODEL_BUFFERS) {
                entry->buffer = op_slice(op, 0);
                return;
        }
        for (uint32_t i = 0; i < op->n_slices; i++)
                slices[i] = op_slice(op, i);
        memcpy(op->region->data + (size_t) op->vector_buffer * MODEL_BUFFER_SIZE, slices,
               op->n_slices * sizeof(slices[0]));
        entry->flags |= OVL_ENTRY_VECTOR;
        entry->buffer = (struct ovl_slice){
                .offset = (uint64_t) op->vector_buffer * MODEL_BUFFER_SIZE,
                .len = (uint32_t) (op->n_slices * sizeof(slices[0])),
                .region = op->region->number,
        };
        op->client->world->tally->n_vectors++;
}

/* --- Entries that must be refused --------------------------------------------------------------------------------- */

/* Spoils a sound receive or send. */
static void entry_spoil(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        op->is_sound = false;
        switch (random_below(post->random, 9)) {
        case 0:
                entry->op = op->code = 200;
                op->expected = OVL_REASON_UNKNOWN_OP;
                break;
        case 1:
                entry->buffer.region = 63;
                op->expected = OVL_REASON_UNKNOWN_REGION;
                break;
        case 2:
                entry->buffer.offset = MODEL_REGION_SIZE - entry->buffer.len + 8;
                op->expected = OVL_REASON_OUTSIDE_REGION;
                break;
        case 3:
                entry->op_flags = 0x4000;
                op->expected = OVL_REASON_UNKNOWN_FLAGS;
                break;
        case 4:
                entry->other = 1 + random_below(post->random, 1000);
                op->expected = OVL_REASON_RESERVED_BITS;
                break;
        case 5:
                entry->indication = op->indication = 7;
                op->expected = OVL_REASON_BAD_INDICATION;
                break;
        case 6:
                entry->n_slots = 3;
                op->expected = OVL_REASON_RESERVED_BITS;
                break;
        case 7:
                entry->flags |= OVL_ENTRY_VECTOR;
                entry->buffer.len = 65 * sizeof(struct ovl_slice);
                op->expected = OVL_REASON_TOO_MANY_BUFFERS;
                break;
        default:
                entry->flags &= ~OVL_ENTRY_VECTOR;
                entry->buffer.len = OVL_SLICE_LEN_MAX + 1;
                op->expected = OVL_REASON_BUFFER_TOO_LONG;
                break;
        }
}

/* --- Sound entries ------------------------------------------------------------------------------------------------ */

static bool socket_is_sound(const struct model_op *op) {
        const struct model_socket *socket = op->socket;

        if (socket->close_asked || (op->indication == OVL_INDICATE_ROUTINE && socket->was_associated))
                return false;
        if (op->code == OVL_OP_ACCEPT)
                return socket->state == MODEL_LISTENING;
        return socket->state == MODEL_CONNECTED &&
               !(op->code == OVL_OP_RECV ? socket->receive_shut : socket->send_shut);
}

static void post_transfer(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        bool is_empty = random_chance(post->random, 6);

        op->code = random_chance(post->random, 55) ? OVL_OP_RECV : OVL_OP_SEND;
        if (!is_empty && op_take_buffers(op, post->random, random_chance(post->random, 25)))
                op_fill_buffers(op, post->random);
        op_describe_buffers(op, entry);
        if (op->code == OVL_OP_RECV && op->len > 0 && random_chance(post->random, 25)) {
                op->flags = random_chance(post->random, 40) ? OVL_MESSAGE_PEEK : OVL_MESSAGE_WAITALL;
                entry->op_flags = op->flags;
        }
        op->is_sound = socket_is_sound(op);
        if (op->n_slices > 0 && !op->socket->close_asked && random_chance(post->random, 7))
                entry_spoil(post, op, entry);
}

static void post_poll(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        op->code = OVL_OP_POLL;
        op->flags = (uint32_t) random_below(post->random, 2) * OVL_POLL_IN +
                    (uint32_t) random_below(post->random, 2) * OVL_POLL_OUT;
        entry->other = op->flags;
        op->was_unconnected = op->socket->state != MODEL_CONNECTED;
        op->is_sound =
                !op->socket->close_asked && !(op->indication == OVL_INDICATE_ROUTINE && op->socket->was_associated);
}

/* The buffers of an operation that need not have any. */
static void post_first_data(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        if (!random_chance(post->random, 40) || !op_take_buffers(op, post->random, random_chance(post->random, 25)))
                return;
        op_fill_buffers(op, post->random);
        op_describe_buffers(op, entry);
}

/* A socket that may be the connection, or may not. */
static void post_prepared(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        struct client *client = op->client;

        if (!random_chance(post->random, 40))
                return;
        op->into = &client->sockets[random_below(post->random, client->n_sockets)];
        entry->other = op->into->id;
        op->is_sound = false;
}

static void post_accept(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        op->code = OVL_OP_ACCEPT;
        op->is_sound = socket_is_sound(op);
        post_first_data(post, op, entry);
        post_prepared(post, op, entry);
}

static void post_disconnect(struct model_op *op) {
        op->code = OVL_OP_DISCONNECT;
        op->socket->send_shut = true;
}

static void post_connect(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        op->code = OVL_OP_CONNECT;
        post_first_data(post, op, entry);
        op->socket->is_connecting = true;
        entry->n_slots = 2;
        entry->address.family = OVL_FAMILY_INET;
        entry->address.port = 80;
        entry->address.host[0] = 127;
        entry->address.host[3] = 1;
}

static void post_to_socket(struct post *post, struct model_op *op, struct ovl_entry *entry) {
        struct model_socket *socket = op->socket;

        entry->socket = socket->id;
        if (socket->is_closed)
                op->expected = OVL_REASON_UNKNOWN_SOCKET;
        if (random_chance(post->random, 8)) {
                post_poll(post, op, entry);
        } else if (socket->state == MODEL_LISTENING && random_chance(post->random, 90)) {
                post_accept(post, op, entry);
        } else if (socket->state == MODEL_OPEN && random_chance(post->random, 80)) {
                post_connect(post, op, entry);
        } else if (socket->state == MODEL_CONNECTED && random_chance(post->random, 1)) {
                post_disconnect(op);
        } else {
                post_transfer(post, op, entry);
        }
}

static struct model_socket *client_any_socket(struct client *client) {
        struct random *random = &client->world->random;
        struct model_socket *socket = NULL;

        if (client->n_sockets == 0 || random_chance(random, 2))
                return NULL;
        for (int i = 0; i < 4; i++) {
                socket = &client->sockets[random_below(random, client->n_sockets)];
                if (!socket->close_asked && (socket->state != MODEL_OPEN || random_chance(random, 30)))
                        break;
        }
        return socket;
}

static void post_entry(struct post *post) {
        struct model_op *op = op_new(post, client_any_socket(post->channel->client));
        struct ovl_entry entry = { .tag = op->tag, .n_slots = 1 };

        op->indication = (uint8_t) random_below(post->random, 3);
        if (op->socket && op->socket->was_associated && op->indication == OVL_INDICATE_ROUTINE &&
            random_chance(post->random, 80))
                op->indication = OVL_INDICATE_PLAIN;
        entry.indication = op->indication;
        if (random_chance(post->random, 30)) {
                entry.flags |= OVL_ENTRY_WANT_VERDICT;
                post->channel->n_wished = op->entry;
        }
        if (op->socket) {
                post_to_socket(post, op, &entry);
        } else {
                entry.socket = UINT64_C(0x7fffffff00000001) + random_below(post->random, 5);
                op->code = OVL_OP_RECV;
                op->expected = OVL_REASON_UNKNOWN_SOCKET;
        }
        if (entry.op == 0)
                entry.op = op->code;
        world_trace(op->client->world,
                    "client %u: posts tag %llx op %u socket %llx len %zu flags %x as entry %llu of %ld%s",
                    op->client->number, (unsigned long long) op->tag, op->code, (unsigned long long) entry.socket,
                    op->len, op->flags, (unsigned long long) op->entry, op->channel - op->client->channels,
                    op->expected ? " (bad)" : "");
        memcpy(post->slots + post->n_slots * OVL_SLOT_SIZE, &entry, entry.n_slots * OVL_SLOT_SIZE);
        post->n_slots += entry.n_slots;
}

void entry_post(struct channel *channel) {
        struct post post = { .channel = channel, .random = &channel->client->world->random };
        struct ovl_post_header header = { 0 };
        struct ovl_frame_header frame = { .kind = OVL_FRAME_POST };
        size_t n = random_size(post.random, ENTRY_FRAME_MAX);
        uint8_t *bytes;

        if (channel->client->n_pending > channel->client->n_credits + ENTRY_BACKLOG_MAX)
                return;
        while (n-- > 0)
                post_entry(&post);
        header.n_slots = (uint32_t) post.n_slots;
        frame.body_len = (uint32_t) (sizeof(header) + post.n_slots * OVL_SLOT_SIZE);
        bytes = malloc(sizeof(frame) + frame.body_len);
        if (!bytes)
                abort();
        memcpy(bytes, &frame, sizeof(frame));
        memcpy(bytes + sizeof(frame), &header, sizeof(header));
        memcpy(bytes + sizeof(frame) + sizeof(header), post.slots, post.n_slots * OVL_SLOT_SIZE);
        wire_push(channel, bytes, sizeof(frame) + frame.body_len, -1);
}
