/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client's connections, byte by byte. What is to be sent waits in an outbox and leaves in pieces whose sizes the seed
 * chooses, so that frames arrive cut at any place; what arrives is cut into frames here by hand, not by the daemon's
 * code.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "proto/channel.h"
#include "proto/overlapd.pb-c.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

#define WIRE_BUFFER_MIN 4096

struct channel *wire_open(struct client *client) {
        struct channel *channel = &client->channels[client->n_channels++];
        int small = WIRE_BUFFER_MIN;
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                abort();
        if (random_chance(&client->world->random, 50))
                setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        *channel = (struct channel){ .client = client, .fd = pair[0] };
        channel->inbox = malloc(MODEL_INBOX_SIZE);
        if (!channel->inbox)
                abort();
        list_init(&channel->outbox);
        monitor_give_channel(client->world, channel, pair[1]);
        return channel;
}

static void out_frame_free(struct out_frame *frame) {
        list_unlink(&frame->link);
        fd_close(frame->fd);
        free(frame->bytes);
        free(frame);
}

void wire_close(struct channel *channel) {
        struct list *link;

        while ((link = list_first(&channel->outbox)))
                out_frame_free(list_entry(link, struct out_frame, link));
        free(channel->inbox);
        channel->inbox = NULL;
        channel->fd = fd_close(channel->fd);
}

void wire_push(struct channel *channel, uint8_t *bytes, size_t len, int fd) {
        struct out_frame *frame = calloc(1, sizeof(*frame));

        if (!frame)
                abort();
        *frame = (struct out_frame){ .bytes = bytes, .len = len, .fd = fd };
        list_push_back(&channel->outbox, &frame->link);
}

void wire_flush(struct channel *channel, size_t limit) {
        struct list *link;

        while (channel->fd >= 0 && limit > 0 && (link = list_first(&channel->outbox))) {
                struct out_frame *frame = list_entry(link, struct out_frame, link);
                size_t left = frame->len - frame->n_sent;
                struct iovec part = { frame->bytes + frame->n_sent, left < limit ? left : limit };
                ssize_t n = channel_send(channel->fd, &part, 1, frame->n_sent == 0 ? frame->fd : -1);

                if (n == -EAGAIN)
                        return;
                if (n < 0) {
                        /* The daemon has hung up; reading will say so. */
                        while ((link = list_first(&channel->outbox)))
                                out_frame_free(list_entry(link, struct out_frame, link));
                        return;
                }
                frame->n_sent += (size_t) n;
                limit -= (size_t) n;
                channel->client->world->n_moved += (size_t) n;
                if (frame->n_sent == frame->len)
                        out_frame_free(frame);
        }
}

static void wire_serve_records(struct channel *channel, const uint8_t *body, size_t len) {
        struct ovl_records_header header;

        check(len >= sizeof(header), "a RECORDS frame is shorter than its header");
        memcpy(&header, body, sizeof(header));
        check(header.n_records > 0 && len == sizeof(header) + header.n_records * sizeof(struct ovl_record),
              "a RECORDS frame of %zu bytes says that it has %u records", len, header.n_records);
        for (uint32_t i = 0; i < header.n_records; i++) {
                struct ovl_record record;

                memcpy(&record, body + sizeof(header) + i * sizeof(record), sizeof(record));
                oracle_record(channel, &record);
        }
}

static void wire_serve_control(struct channel *channel, const uint8_t *body, size_t len) {
        struct world *world = channel->client->world;
        Overlapd__FromDaemon *message;
        ProtobufCMessage *unpacked;
        const char *problem = "";
        int r;

        r = message_unpack(&world->arena, &overlapd__from_daemon__descriptor, body, len, &unpacked, &problem);
        check(r == 0, "the daemon sent a malformed message: %s", problem);
        message = (Overlapd__FromDaemon *) unpacked;
        if (message->what_case == OVERLAPD__FROM_DAEMON__WHAT_REPLY) {
                oracle_reply(channel, message->reply);
                return;
        }
        check(message->what_case == OVERLAPD__FROM_DAEMON__WHAT_NOTICE, "neither a reply nor a notice");
        world_trace(world, "client %u: notice on channel %ld: %s", channel->client->number,
                    channel - channel->client->channels, message->notice->text);
        check(!message->notice->closing || channel->client->is_kicked || channel->is_silent || world->worker_has_ended,
              "the client was thrown out without having done anything: %s", message->notice->text);
}

static void wire_cut(struct channel *channel) {
        struct ovl_frame_header header;
        size_t at = 0;

        while (channel->n_in - at >= sizeof(header)) {
                const uint8_t *body = channel->inbox + at + sizeof(header);

                memcpy(&header, channel->inbox + at, sizeof(header));
                check(header.reserved == 0 && header.n_fds == 0 && header.body_len > 0, "a bad frame header");
                check(header.body_len <= OVL_FRAME_RECORDS_MAX, "a frame of %u bytes", header.body_len);
                if (channel->n_in - at - sizeof(header) < header.body_len)
                        break;
                if (header.kind == OVL_FRAME_RECORDS)
                        wire_serve_records(channel, body, header.body_len);
                else if (header.kind == OVL_FRAME_CONTROL)
                        wire_serve_control(channel, body, header.body_len);
                else
                        check_fail("a frame of kind %u", header.kind);
                at += sizeof(header) + header.body_len;
        }
        memmove(channel->inbox, channel->inbox + at, channel->n_in - at);
        channel->n_in -= at;
}

void wire_read(struct channel *channel) {
        while (channel->fd >= 0 && !channel->has_ended) {
                ssize_t n = recv(channel->fd, channel->inbox + channel->n_in, MODEL_INBOX_SIZE - channel->n_in,
                                 MSG_DONTWAIT);

                if (n < 0 && errno == EAGAIN)
                        return;
                channel->client->world->n_moved++;
                if (n <= 0) {
                        channel->has_ended = true;
                        oracle_end(channel);
                        return;
                }
                channel->n_in += (size_t) n;
                wire_cut(channel);
        }
}

struct model_call *wire_request(struct channel *channel, enum call_kind kind, Overlapd__Request *request, int take_fd) {
        struct client *client = channel->client;
        struct model_call *call = calloc(1, sizeof(*call));
        void *frame;
        ssize_t len;

        if (!call)
                abort();
        request->id = ++client->next_call;
        *call = (struct model_call){
                .kind = kind,
                .channel = channel,
                .id = request->id,
                .n_ops = client->world->n_ops,
        };
        list_push_back(&client->calls, &call->link);
        len = message_pack_frame(&request->base, take_fd >= 0 ? 1 : 0, &frame);
        if (len < 0)
                abort();
        wire_push(channel, frame, (size_t) len, take_fd);
        return call;
}
