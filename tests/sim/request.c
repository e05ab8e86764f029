/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The requests of a client about its regions and sockets, and what the model remembers of each: from the moment that a
 * request is made, not answered, the daemon may act on it, so that what it makes possible is noted at once.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/overlapd.pb-c.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

/* --- Regions --------------------------------------------------------------------------------------------------------
 */

static int memfd_make(uint64_t size, bool is_allocated) {
        int fd = memfd_create("sim", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || ftruncate(fd, (off_t) size) < 0)
                abort();
        if (is_allocated && posix_fallocate(fd, 0, (off_t) size) != 0)
                abort();
        return fd;
}

void request_add_region(struct channel *channel) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        struct client *client = channel->client;
        struct model_region *region;
        int fd;

        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        add.size = MODEL_REGION_SIZE;
        if (random_chance(&client->world->random, 10)) {
                /* Pages are missing, or the size is another one. */
                bool is_sparse = random_chance(&client->world->random, 50);

                if (!is_sparse)
                        add.size = 4096;
                wire_request(channel, MODEL_REGION_ADD_BAD, &request, memfd_make(MODEL_REGION_SIZE, !is_sparse));
                return;
        }
        if (client->n_regions == MODEL_REGIONS_MAX)
                return;
        region = &client->regions[client->n_regions++];
        fd = memfd_make(MODEL_REGION_SIZE, true);
        region->data = mmap(NULL, MODEL_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (region->data == MAP_FAILED)
                abort();
        wire_request(channel, MODEL_REGION_ADD, &request, fd)->region = region;
}

/*
 * Whether entries that use the region are on their way on another channel. The request would overtake them, and the
 * number that they carry could name the next region by then: a client must not do that.
 */
static bool region_is_overtaken(const struct channel *channel, const struct model_region *region) {
        const struct world *world = channel->client->world;

        for (size_t i = 0; i < world->n_ops && !world->is_ending; i++) {
                const struct model_op *op = world->ops[i];

                if (op->region == region && !op->has_record && op->channel != channel)
                        return true;
        }
        return false;
}

void request_remove_region(struct channel *channel, struct model_region *region) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove = OVERLAPD__REGION_REMOVE__INIT;

        if (region->number == 0 || region->remove_asked || region_is_overtaken(channel, region))
                return;
        region->remove_asked = true;
        remove.region = region->number;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove;
        world_trace(channel->client->world, "client %u: removes region %u", channel->client->number, region->number);
        wire_request(channel, MODEL_REGION_REMOVE, &request, -1)->region = region;
}

/* --- Sockets --------------------------------------------------------------------------------------------------------
 */

void request_open_socket(struct channel *channel) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open = OVERLAPD__SOCKET_OPEN__INIT;
        struct client *client = channel->client;

        /* One at a time, so that what the monitor makes can be told apart. */
        if (client->is_opening || client->n_sockets + 8 > MODEL_SOCKETS_MAX)
                return;
        client->is_opening = true;
        open.family = OVERLAPD__FAMILY__FAMILY_INET;
        open.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open;
        wire_request(channel, MODEL_OPEN_SOCKET, &request, -1);
}

void request_bind(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketBind bind = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        uint8_t host[4] = { 127, 0, 0, 1 };

        address.family = OVERLAPD__FAMILY__FAMILY_INET;
        address.host = (ProtobufCBinaryData){ .len = sizeof(host), .data = host };
        bind.socket = socket->id;
        bind.address = &address;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind;
        wire_request(channel, MODEL_BIND, &request, -1)->socket = socket;
}

void request_listen(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketListen listen = OVERLAPD__SOCKET_LISTEN__INIT;

        if (socket->is_connecting || socket->state == MODEL_CONNECTED)
                return;
        listen.socket = socket->id;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen;
        socket->is_connecting = true; /* no connect races with it */
        wire_request(channel, MODEL_LISTEN, &request, -1)->socket = socket;
}

void request_shutdown(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketShutdown shut = OVERLAPD__SOCKET_SHUTDOWN__INIT;

        shut.socket = socket->id;
        shut.direction = (Overlapd__Direction) (1 + random_below(&channel->client->world->random, 3));
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_SHUTDOWN;
        request.socket_shutdown = &shut;
        if (shut.direction != OVERLAPD__DIRECTION__DIRECTION_RECEIVE)
                socket->send_shut = true;
        if (shut.direction != OVERLAPD__DIRECTION__DIRECTION_SEND)
                socket->receive_shut = true;
        wire_request(channel, MODEL_SHUTDOWN, &request, -1)->socket = socket;
}

void request_close_socket(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose close_request = OVERLAPD__SOCKET_CLOSE__INIT;

        if (socket->close_asked)
                return;
        socket->close_asked = true;
        close_request.socket = socket->id;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        request.socket_close = &close_request;
        world_trace(channel->client->world, "client %u: closes socket %llx", channel->client->number,
                    (unsigned long long) socket->id);
        wire_request(channel, MODEL_CLOSE, &request, -1)->socket = socket;
}

void request_associate(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__PortAssociate associate = OVERLAPD__PORT_ASSOCIATE__INIT;
        struct client *client = channel->client;
        struct channel *port = NULL;
        struct model_call *call;

        for (size_t i = 0; i < client->n_channels; i++) {
                if (client->channels[i].is_port && client->channels[i].is_attached && client->channels[i].fd >= 0)
                        port = &client->channels[i];
        }
        if (!port || socket->was_associated)
                return;
        socket->was_associated = true;
        socket->port = port->number;
        socket->port_key = random_next(&client->world->random);
        associate.socket = socket->id;
        associate.port = socket->port;
        associate.key = socket->port_key;
        request.what_case = OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE;
        request.port_associate = &associate;
        call = wire_request(channel, MODEL_ASSOCIATE, &request, -1);
        call->socket = socket;
        call->number = socket->port;
}

void request_cancel(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        struct world *world = channel->client->world;
        struct model_call *call;

        cancel.socket = socket->id;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
        cancel.all = true;
        if (random_chance(&world->random, 40)) {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_THREAD;
                cancel.thread = 1 + random_below(&world->random, channel->client->next_number);
        }
        if (world->n_ops > 0 && random_chance(&world->random, 40)) {
                size_t back = random_below(&world->random, world->n_ops < 64 ? world->n_ops : 64);
                const struct model_op *op = world->ops[world->n_ops - 1 - back];

                cancel.which_case = OVERLAPD__CANCEL__WHICH_TAG;
                cancel.tag = op->tag;
                if (op->client == channel->client && op->socket)
                        socket = op->socket;
                cancel.socket = socket->id;
        }
        socket->cancel_asked = true;
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        world_trace(world, "client %u: cancels on socket %llx, %s %llx", channel->client->number,
                    (unsigned long long) socket->id,
                    cancel.which_case == OVERLAPD__CANCEL__WHICH_TAG      ? "tag"
                    : cancel.which_case == OVERLAPD__CANCEL__WHICH_THREAD ? "thread"
                                                                          : "all",
                    (unsigned long long) cancel.tag);
        call = wire_request(channel, MODEL_CANCEL, &request, -1);
        call->socket = socket;
        if (cancel.which_case == OVERLAPD__CANCEL__WHICH_TAG)
                call->tag = cancel.tag;
        if (cancel.which_case == OVERLAPD__CANCEL__WHICH_THREAD)
                call->thread = cancel.thread;
}

void request_ask(struct channel *channel, struct model_socket *socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        Overlapd__SocketName name = OVERLAPD__SOCKET_NAME__INIT;
        Overlapd__SocketOptionGet get = OVERLAPD__SOCKET_OPTION_GET__INIT;
        enum call_kind kind = MODEL_OTHER;

        switch (random_below(&channel->client->world->random, 4)) {
        case 0:
                request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
                request.status = &status;
                break;
        case 1:
                name.socket = socket->id;
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
                request.socket_name = &name;
                break;
        case 2:
                get.socket = socket->id;
                get.option = OVERLAPD__OPTION__OPTION_NO_DELAY;
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET;
                request.socket_option_get = &get;
                break;
        default:
                kind = MODEL_UNKNOWN;
                break;
        }
        wire_request(channel, kind, &request, -1);
}

/* More requests at once than the daemon keeps replies for. */
void request_ask_often(struct channel *channel) {
        channel->is_paused = true;
        for (int i = 0; i < 150; i++) {
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;
                Overlapd__Status status = OVERLAPD__STATUS__INIT;

                request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
                request.status = &status;
                wire_request(channel, MODEL_OTHER, &request, -1);
        }
}
