/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What clients do: everything that a busy program does with its sockets, and what no program should. A client that has
 * done the latter is expected to be thrown out; it does nothing more but read until the daemon has hung up everywhere.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/overlapd.pb-c.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

struct channel *client_channel(struct client *client, bool needs_thread) {
        size_t first;

        if (client->n_channels == 0)
                return NULL;
        first = random_below(&client->world->random, client->n_channels);
        for (size_t i = 0; i < client->n_channels; i++) {
                struct channel *channel = &client->channels[(first + i) % client->n_channels];

                if (channel->fd >= 0 && channel->is_attached && !channel->is_half_closed && !channel->has_ended &&
                    !(needs_thread && channel->is_port))
                        return channel;
        }
        return NULL;
}

static struct model_socket *client_socket(struct client *client) {
        if (client->n_sockets == 0)
                return NULL;
        return &client->sockets[random_below(&client->world->random, client->n_sockets)];
}

/* --- Sessions, threads and ports ------------------------------------------------------------------------------------
 */

struct client *action_new_client(struct world *world) {
        static const uint32_t credits[] = { 0, 4, 9, 33, 200 };
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        struct client *client = calloc(1, sizeof(*client));

        if (!client)
                abort();
        client->world = world;
        client->number = (unsigned) world->n_clients;
        list_init(&client->calls);
        world->clients[world->n_clients++] = client;
        wire_open(client)->number = ++client->next_number;
        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX + (uint32_t) random_below(&world->random, 2);
        hello.level = 1;
        hello.thread = client->channels[0].number;
        hello.credits = credits[random_below(&world->random, 5)];
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        world_trace(world, "client %u: hello, wants %u credits", client->number, hello.credits);
        wire_request(&client->channels[0], MODEL_HELLO, &request, -1);
        return client;
}

static void action_attach(struct client *client) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;
        struct channel *channel;
        size_t n_open = 0;

        for (size_t i = 0; i < client->n_channels; i++)
                n_open += client->channels[i].fd >= 0;
        if (client->n_channels == MODEL_CHANNELS_MAX || n_open >= MODEL_CHANNELS_NOW ||
            client->channels[0].is_half_closed || client->channels[0].fd < 0)
                return;
        channel = wire_open(client);
        channel->number = ++client->next_number;
        if (random_chance(&client->world->random, 8)) {
                channel->is_silent = true;
                return;
        }
        channel->is_port = random_chance(&client->world->random, 45);
        attach.session = client->session;
        attach.secret = (ProtobufCBinaryData){ .len = sizeof(client->secret), .data = client->secret };
        attach.what_case = channel->is_port ? OVERLAPD__ATTACH__WHAT_PORT : OVERLAPD__ATTACH__WHAT_THREAD;
        if (channel->is_port)
                attach.port = channel->number;
        else
                attach.thread = channel->number;
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = &attach;
        world_trace(client->world, "client %u: attaches channel %zu as %s", client->number, client->n_channels - 1,
                    channel->is_port ? "a port" : "a thread");
        wire_request(channel, MODEL_ATTACH, &request, -1);
}

/* --- Misbehaviour ---------------------------------------------------------------------------------------------------
 */

static void action_push(struct channel *channel, const struct ovl_frame_header *header, const void *body, size_t len) {
        uint8_t *bytes = malloc(sizeof(*header) + len);

        if (!bytes)
                abort();
        memcpy(bytes, header, sizeof(*header));
        memcpy(bytes + sizeof(*header), body, len);
        wire_push(channel, bytes, sizeof(*header) + len, -1);
}

/* The first two malformed messages are forgiven. */
static void action_strike(struct channel *channel) {
        static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
        struct ovl_frame_header header = { .body_len = sizeof(garbage), .kind = OVL_FRAME_CONTROL };

        if (channel->client->n_strikes >= 2)
                return;
        channel->client->n_strikes++;
        action_push(channel, &header, garbage, sizeof(garbage));
}

static void action_misbehave(struct channel *channel) {
        static const struct {
                struct ovl_frame_header header;
                uint32_t body[2];
                size_t len;
        } frames[] = {
                { { .body_len = 8, .kind = 77 }, { 0, 0 }, 8 },
                { { .body_len = 8, .kind = OVL_FRAME_RECORDS }, { 1, 0 }, 8 },
                { { .body_len = UINT32_MAX, .kind = OVL_FRAME_CONTROL }, { 0, 0 }, 8 },
                { { .body_len = 8, .kind = OVL_FRAME_POST }, { 5, 0 }, 8 },
                { { .body_len = 8, .kind = OVL_FRAME_POST }, { 0, 0 }, 8 },
                { { .body_len = 4, .kind = OVL_FRAME_POST }, { 0, 0 }, 4 },
                { { .body_len = 4, .kind = OVL_FRAME_CONTROL, .n_fds = 1 }, { 0, 0 }, 4 },
                { { .body_len = 4, .kind = OVL_FRAME_CONTROL, .reserved = 3 }, { 0, 0 }, 4 },
        };
        size_t which = random_below(&channel->client->world->random, sizeof(frames) / sizeof(frames[0]));

        world_trace(channel->client->world, "client %u: misbehaves (%zu)", channel->client->number, which);
        action_push(channel, &frames[which].header, frames[which].body, frames[which].len);
        channel->client->is_kicked = true;
        channel->client->world->tally->n_kicked++;
        action_resume(channel->client);
        oracle_excuse(channel->client, NULL);
}

void action_vanish(struct client *client) {
        world_trace(client->world, "client %u: vanishes", client->number);
        oracle_excuse(client, NULL);
        for (size_t i = 0; i < client->n_channels; i++)
                wire_close(&client->channels[i]);
        client->is_gone = true;
}

/* Whether the session goes on without this channel: an attach that is under way must find it. */
static bool channel_has_twin(const struct channel *channel) {
        const struct client *client = channel->client;

        for (size_t i = 0; i < client->n_channels; i++) {
                const struct channel *twin = &client->channels[i];

                if (twin != channel && twin->fd >= 0 && twin->is_attached && !twin->is_half_closed)
                        return true;
        }
        return false;
}

static bool client_is_attaching(const struct client *client) {
        list_for_each(link, &client->calls) {
                if (list_entry(link, struct model_call, link)->kind == MODEL_ATTACH)
                        return true;
        }
        return false;
}

static void action_half_close(struct channel *channel) {
        if (!list_is_empty(&channel->outbox))
                return;
        if (client_is_attaching(channel->client) && !channel_has_twin(channel))
                return;
        world_trace(channel->client->world, "client %u: half-closes channel %ld", channel->client->number,
                    channel - channel->client->channels);
        shutdown(channel->fd, SHUT_WR);
        channel->is_half_closed = true;
        channel->client->has_closed_channels = true;
        channel->client->world->tally->n_half_closed++;
}

static void action_close_channel(struct channel *channel) {
        struct client *client = channel->client;

        if (channel == &client->channels[0] && random_chance(&client->world->random, 80))
                return;
        if (client_is_attaching(client) && !channel_has_twin(channel))
                return;
        world_trace(client->world, "client %u: closes channel %ld", client->number, channel - client->channels);
        oracle_excuse(client, channel);
        wire_close(channel);
        client->has_closed_channels = true;
}

static bool channel_has_calls(const struct channel *channel) {
        list_for_each(link, &channel->client->calls) {
                if (list_entry(link, struct model_call, link)->channel == channel)
                        return true;
        }
        return false;
}

void action_close_cleanly(struct client *client) {
        struct channel *heir = &client->channels[0];

        if (heir->fd < 0 || heir->is_half_closed || heir->has_ended)
                return;
        for (size_t i = 1; i < client->n_channels; i++) {
                struct channel *channel = &client->channels[i];

                if (channel->fd < 0 || channel->has_ended || channel_has_calls(channel) ||
                    random_chance(&client->world->random, 50))
                        continue;
                world_trace(client->world, "client %u: cleanly closes channel %zu", client->number, i);
                wire_close(channel);
                channel->is_left = true;
                client->has_closed_channels = true;
        }
}

void action_resume(struct client *client) {
        for (size_t i = 0; i < client->n_channels; i++)
                client->channels[i].is_paused = false;
}

/* --- The choice -----------------------------------------------------------------------------------------------------
 */

static void action_on_socket(struct channel *channel, struct model_socket *socket) {
        switch (random_below(&channel->client->world->random, 12)) {
        case 0:
                request_bind(channel, socket);
                break;
        case 1:
        case 2:
                if (socket->state == MODEL_OPEN && !socket->is_connecting)
                        request_listen(channel, socket);
                break;
        case 3:
                if (socket->state == MODEL_CONNECTED && random_chance(&channel->client->world->random, 30))
                        request_shutdown(channel, socket);
                break;
        case 4:
                if (random_chance(&channel->client->world->random, 40))
                        request_close_socket(channel, socket);
                break;
        case 5:
        case 6:
                if (random_chance(&channel->client->world->random, 40))
                        request_associate(channel, socket);
                break;
        case 7:
                request_ask(channel, socket);
                break;
        default:
                if (!socket->is_closed)
                        request_cancel(channel, socket);
                break;
        }
}

static void action_rarely(struct channel *channel) {
        struct client *client = channel->client;

        switch (random_below(&client->world->random, 24)) {
        case 0:
                action_misbehave(channel);
                break;
        case 1:
                action_vanish(client);
                client->world->tally->n_vanished++;
                break;
        case 2:
                action_half_close(channel);
                break;
        case 3:
        case 4:
                action_close_channel(channel);
                break;
        case 5:
        case 6:
                action_strike(channel);
                break;
        case 7:
        case 8:
                if (client->n_regions > 0)
                        request_remove_region(
                                channel, &client->regions[random_below(&client->world->random, client->n_regions)]);
                break;
        case 9:
                request_ask_often(channel);
                break;
        default:
                action_attach(client);
                break;
        }
}

static void action_of_channel(struct channel *channel) {
        struct client *client = channel->client;
        struct random *random = &client->world->random;
        struct model_socket *socket = client_socket(client);
        size_t dice = random_below(random, 100);

        if (dice < 60 && !channel->is_port)
                entry_post(channel);
        else if (dice < 66 || client->n_regions < 2)
                request_add_region(channel);
        else if (dice < 78 || client->n_sockets < 4)
                request_open_socket(channel);
        else if (dice < 94 && socket)
                action_on_socket(channel, socket);
        else
                action_rarely(channel);
}

static bool client_has_hung_up(const struct client *client) {
        for (size_t i = 0; i < client->n_channels; i++) {
                if (client->channels[i].fd >= 0 && !client->channels[i].has_ended)
                        return false;
        }
        return true;
}

void action_of_client(struct client *client) {
        struct random *random = &client->world->random;
        struct channel *channel = client_channel(client, random_chance(random, 85));

        for (size_t i = 0; i < client->n_channels; i++) {
                struct channel *each = &client->channels[i];

                if (each->fd < 0)
                        continue;
                if (random_chance(random, 70))
                        wire_flush(each, random_size(random, 4096));
                if (!each->is_paused)
                        wire_read(each);
                if (!client->is_kicked && random_chance(random, each->is_paused ? 3 : 1))
                        each->is_paused = !each->is_paused;
                if (each->has_ended) {
                        wire_close(each);
                        client->has_closed_channels = true;
                }
        }
        if (client_has_hung_up(client))
                action_vanish(client);
        else if (channel && !client->is_kicked && !client->world->is_ending && channel->fd >= 0 && !channel->has_ended)
                action_of_channel(channel);
}
