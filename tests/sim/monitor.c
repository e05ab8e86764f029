/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The monitor's part, played by the test: it answers what the worker asks in any order, after any time, with success or
 * with an error; a connect that was cancelled is answered all the same, now and then with success, because the cancel
 * came too late.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "tests/sim/check.h"
#include "tests/sim/limit.h"
#include "tests/sim/model.h"

void monitor_init(struct world *world, enum plant plant) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                abort();
        world->link_fd = pair[0];
        list_init(&world->asks);
        if (worker_new(world->engine, "the test", pair[1], plant, &world->worker) < 0)
                abort();
}

static void ask_free(struct monitor_ask *ask) {
        list_unlink(&ask->link);
        fd_close(ask->fd);
        free(ask);
}

void monitor_deinit(struct world *world) {
        struct list *link;

        while ((link = list_first(&world->asks)))
                ask_free(list_entry(link, struct monitor_ask, link));
        world->link_fd = fd_close(world->link_fd);
}

static void monitor_send(struct world *world, const struct link_message *message, int with_fd) {
        int r = link_send(world->link_fd, message, with_fd);

        check(r == 0, "the worker does not read its link");
        world->n_moved++;
}

void monitor_set_limits(struct world *world, bool are_tight) {
        uint64_t *user = world->limits.body.limits.limits.max[LIMIT_USER];
        struct link_message news;

        world->limits = limits_message(1000, 1);
        if (are_tight && random_chance(&world->random, 60))
                user[LIMIT_OPS] = 1 + random_below(&world->random, 40);
        if (are_tight && random_chance(&world->random, 60))
                user[LIMIT_SOCKETS] = 1 + random_below(&world->random, 12);
        news = world->limits;
        news.body.limits.is_new = 0;
        monitor_send(world, &news, -1);
}

void monitor_give_channel(struct world *world, struct channel *channel, int take_fd) {
        struct link_message message = { .kind = LINK_CHANNEL }, ruling = { .kind = LINK_RULING };

        ruling.body.ruling.number = 1;
        ruling.body.ruling.is_new = ruling.body.ruling.is_open = 1;
        monitor_send(world, &ruling, -1);
        monitor_send(world, &world->limits, -1);
        channel->monitor_number = ++world->n_monitor_channels;
        message.body.peer =
                (struct link_peer){ .channel = channel->monitor_number, .shard = 1, .ruling = 1, .uid = 1000 };
        monitor_send(world, &message, take_fd);
        fd_close(take_fd);
}

void monitor_stop(struct world *world) {
        struct link_message message = { .kind = LINK_STOP };

        monitor_send(world, &message, -1);
}

static void monitor_cancel(struct world *world, uint64_t ticket) {
        list_for_each(link, &world->asks) {
                struct monitor_ask *ask = list_entry(link, struct monitor_ask, link);

                if (ask->message.ticket == ticket) {
                        check(ask->message.kind == LINK_CONNECT, "something else than a connect is cancelled");
                        ask->is_cancelled = true;
                        world->tally->n_connect_cancels++;
                }
        }
}

void monitor_read(struct world *world) {
        struct link_message message;
        int fd;

        while (link_receive(world->link_fd, &message, &fd) > 0) {
                struct monitor_ask *ask;

                world->n_moved++;
                switch (message.kind) {
                case LINK_CHANNEL_OPEN:
                        break;
                case LINK_CHANNEL_CLOSED:
                        world->n_monitor_closed++;
                        world_trace(world, "monitor: connection %llu was closed: %s",
                                    (unsigned long long) message.body.channel.channel, message.text);
                        break;
                case LINK_QUOTA:
                        world->tally->n_quotas++;
                        world_trace(world, "monitor: %s", message.text);
                        break;
                case LINK_CANCEL:
                        monitor_cancel(world, message.ticket);
                        break;
                default:
                        check(message.kind == LINK_SOCKET || message.kind == LINK_BIND || message.kind == LINK_LISTEN ||
                                      message.kind == LINK_CONNECT,
                              "the worker sent a message of kind %u", message.kind);
                        check((fd >= 0) == (message.kind != LINK_SOCKET), "a request with the wrong descriptors");
                        ask = calloc(1, sizeof(*ask));
                        if (!ask)
                                abort();
                        ask->message = message;
                        ask->fd = fd;
                        ask->hangs = message.kind == LINK_CONNECT && random_chance(&world->random, 25);
                        list_push_back(&world->asks, &ask->link);
                        break;
                }
        }
}

static struct client *monitor_find_client(struct world *world, uint64_t session) {
        for (size_t i = 0; i < world->n_clients; i++) {
                if (world->clients[i]->session == session)
                        return world->clients[i];
        }
        check_fail("the worker asks on behalf of a session that does not exist");
}

/* A listener of the run that has room; NULL: there is none. */
static struct net_end *monitor_find_listener(struct world *world, struct net_link *connection) {
        list_for_each(link, &world->net.ends) {
                struct net_end *end = list_entry(link, struct net_end, link);

                if (end->is_listening && random_chance(&world->random, 50) && net_offer(end, connection))
                        return end;
        }
        return NULL;
}

static void monitor_connect(struct world *world, struct monitor_ask *ask, struct link_message *answer) {
        static const int errors[] = { ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, EACCES };
        struct net_end *end = net_find(&world->net, ask->fd);

        check(end, "a connect came with a descriptor that is no socket");
        if (ask->is_cancelled && random_chance(&world->random, 80)) {
                answer->status = -ECANCELED;
        } else if (end->is_listening || end->connection) {
                answer->status = -EISCONN;
        } else if (random_chance(&world->random, 15)) {
                answer->status = -errors[random_below(&world->random, 4)];
        } else {
                struct net_link *connection = net_connect(&world->net, end);

                if (random_chance(&world->random, 60))
                        monitor_find_listener(world, connection);
        }
}

/* Makes the answer. Returns a descriptor that rides along; the caller's to close. */
static int monitor_decide(struct world *world, struct monitor_ask *ask, struct link_message *answer) {
        bool refuses = random_chance(&world->random, 10);
        struct net_end *end;
        int fd = -1;

        switch (ask->message.kind) {
        case LINK_SOCKET:
                if (refuses) {
                        answer->status = -EACCES;
                        answer->reason = OVL_REASON_DENIED;
                } else {
                        struct client *client = monitor_find_client(world, ask->message.body.socket.session);

                        fd = net_open(&world->net, &end);
                        client->opened = end;
                }
                break;
        case LINK_BIND:
                answer->status = refuses ? -EADDRINUSE : 0;
                break;
        case LINK_LISTEN:
                end = net_find(&world->net, ask->fd);
                check(end, "a listen came with a descriptor that is no socket");
                if (end->connection)
                        answer->status = -EINVAL;
                else if (refuses)
                        answer->status = -EADDRINUSE;
                else
                        end->is_listening = true;
                break;
        default:
                monitor_connect(world, ask, answer);
                break;
        }
        return fd;
}

/* One of the first requests that can be answered; NULL: there is none. */
static struct monitor_ask *monitor_choose(struct world *world) {
        size_t n = random_below(&world->random, 4);
        struct monitor_ask *chosen = NULL;

        list_for_each(link, &world->asks) {
                struct monitor_ask *ask = list_entry(link, struct monitor_ask, link);

                if (ask->hangs && !ask->is_cancelled)
                        continue;
                chosen = ask;
                if (n-- == 0)
                        break;
        }
        return chosen;
}

bool monitor_answer(struct world *world) {
        struct link_message answer = { .kind = LINK_ANSWER };
        struct monitor_ask *ask = monitor_choose(world);
        int fd;

        if (!ask)
                return false;
        answer.ticket = ask->message.ticket;
        fd = monitor_decide(world, ask, &answer);
        if (answer.status < 0)
                snprintf(answer.text, sizeof(answer.text), "the test says no");
        world_trace(world, "monitor: answers kind %u with %d", ask->message.kind, answer.status);
        monitor_send(world, &answer, fd);
        fd_close(fd);
        ask_free(ask);
        return true;
}
