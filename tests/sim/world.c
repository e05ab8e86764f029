/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One run: a worker, a monitor, clients and peers in one process and one thread. Each step lets one of them do one
 * thing; the seed chooses whom and what. Nothing depends on the clock, on addresses or on descriptor numbers, so that a
 * seed always gives the same run.
 *
 *   busy -> quiet     nothing new is begun, everybody reads and answers, until the worker would sleep for ever: then
 *                     every operation that has no record must really be stuck
 *   quiet -> closed   the clients close all that they have, and get all that they are owed
 *   busy -> stopped   the monitor stops the worker in the middle of everything
 *   busy -> deserted  all clients vanish at once
 *   -> over           nothing is left: no op, no socket, no session, no descriptor
 */

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "daemon/worker/session.h"
#include "tests/sim/check.h"
#include "tests/sim/model.h"

#define WORLD_QUIET_TURNS_MAX 200000u
#define NS_PER_MS_ UINT64_C(1000000)

void world_trace(struct world *world, const char *format, ...) {
        va_list arguments;

        if (!world->is_traced)
                return;
        printf("%6u  ", world->step);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf("\n");
}

static size_t world_count_fds(void) {
        DIR *directory = opendir("/proc/self/fd");
        size_t n = 0;

        if (!directory)
                abort();
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

/* --- Set-up ------------------------------------------------------------------------------------------------------- */

static struct sim_temper world_temper(struct random *random) {
        static const unsigned lazy[] = { 0, 20, 60, 85 };
        static const unsigned brief[] = { 0, 30, 80 };
        static const unsigned faulty[] = { 0, 0, 1, 6 };

        return (struct sim_temper){
                .lazy = lazy[random_below(random, 4)],
                .brief = brief[random_below(random, 3)],
                .faulty = faulty[random_below(random, 4)],
        };
}

static void world_init(struct world *world, const struct world_options *options, struct tally *tally) {
        struct sim_temper temper;

        *world = (struct world){ .random.state = options->seed, .tally = tally, .is_traced = options->is_traced };
        message_arena_init(&world->arena);
        net_init(&world->net, &world->random);
        temper = world_temper(&world->random);
        world->engine = engine_sim_new(&world->net, &world->random, temper, &tally->engine);
        monitor_init(world, options->plant);
        monitor_set_limits(world, random_chance(&world->random, 30));
}

static void world_deinit(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                struct client *client = world->clients[i];

                for (size_t k = 0; k < client->n_regions; k++)
                        munmap(client->regions[k].data, MODEL_REGION_SIZE);
                free(client);
        }
        for (size_t i = 0; i < world->n_ops; i++) {
                free(world->ops[i]->data);
                free(world->ops[i]);
        }
        free(world->ops);
        monitor_deinit(world);
        net_deinit(&world->net);
}

/* --- Steps -------------------------------------------------------------------------------------------------------- */

/* The side of a connection that the test plays, or -1. */
static int world_played_side(const struct net_link *connection) {
        for (int side = 0; side < 2; side++) {
                if (!connection->ends[side] && !(side == 1 && connection->is_queued))
                        return side;
        }
        return -1;
}

static void world_play_link(struct world *world, struct net_link *connection, int side) {
        struct net_pipe *out = &connection->pipes[!side];
        struct net_pipe *in = &connection->pipes[side];
        uint8_t bytes[4096];
        size_t n = net_pipe_room(out);
        size_t dice = random_below(&world->random, 200);

        if (dice == 0) {
                net_reset(connection);
        } else if (dice < 3) {
                out->has_ended = true;
        } else if (dice == 3) {
                out->has_ended = in->is_broken = true;
        } else if (dice < 110 && !out->has_ended && n > 0) {
                n = 1 + random_below(&world->random, n < sizeof(bytes) ? n : sizeof(bytes));
                for (size_t i = 0; i < n; i++)
                        bytes[i] = (uint8_t) random_next(&world->random);
                net_pipe_write(out, bytes, n);
        } else if (net_pipe_unread(in) > 0) {
                in->n_taken += 1 + random_below(&world->random, net_pipe_unread(in));
        }
}

static void world_play_peers(struct world *world) {
        size_t n = random_below(&world->random, 1 + world->net.n_links);
        struct net_end *end;
        struct list *link;
        int side;

        for (link = world->net.links.next; link != &world->net.links && n > 0; n--)
                link = link->next;
        if (link != &world->net.links) {
                struct net_link *connection = list_entry(link, struct net_link, link);

                side = world_played_side(connection);
                if (side >= 0)
                        world_play_link(world, connection, side);
        }
        if (!random_chance(&world->random, 15))
                return;
        list_for_each(end_link, &world->net.ends) {
                end = list_entry(end_link, struct net_end, link);
                if (end->is_listening && !end->is_closed && end->n_backlog < NET_BACKLOG_MAX &&
                    random_chance(&world->random, 50))
                        net_offer(end, net_connect(&world->net, NULL));
        }
}

static void world_turn(struct world *world, bool may_sleep) {
        int r = worker_turn(world->worker, may_sleep);

        if (r == 1) {
                list_for_each(link, &world->worker->resources.sessions)
                        world->tally->n_held += list_entry(link, struct session, link)->is_held;
                world->tally->n_starved += !list_is_empty(&world->worker->resources.starved);
                list_for_each(link, &world->worker->resources.quotas.users)
                        world->tally->n_unpaid += !list_is_empty(&list_entry(link, struct quota_user, link)->unpaid);
                return;
        }
        check(r == 0, "the worker ended with %d", r);
        world->worker_has_ended = true;
}

static struct client *world_client(struct world *world) {
        struct client *here[MODEL_CLIENTS_MAX];
        size_t n = 0;

        for (size_t i = 0; i < world->n_clients; i++) {
                if (!world->clients[i]->is_gone)
                        here[n++] = world->clients[i];
        }
        if (n < MODEL_CLIENTS_NOW && world->n_clients < MODEL_CLIENTS_MAX && random_chance(&world->random, n ? 5 : 100))
                return action_new_client(world);
        return n > 0 ? here[random_below(&world->random, n)] : NULL;
}

static void world_step(struct world *world) {
        size_t dice = random_below(&world->random, 100);
        struct client *client;

        world->step++;
        if (dice < 50) {
                client = world_client(world);
                if (client)
                        action_of_client(client);
        } else if (dice < 60) {
                monitor_read(world);
                monitor_answer(world);
        } else if (dice < 72) {
                world_play_peers(world);
        } else if (dice < 97) {
                world_turn(world, false);
        } else if (dice < 99 || !random_chance(&world->random, 10)) {
                check_advance_clock(NS_PER_MS_ * (1 + random_below(&world->random, 150)));
        } else {
                monitor_set_limits(world, random_chance(&world->random, 50));
        }
}

/* --- Ends --------------------------------------------------------------------------------------------------------- */

static void world_let_clients_read(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                struct client *client = world->clients[i];

                if (client->is_gone)
                        continue;
                action_resume(client);
                for (size_t k = 0; k < client->n_channels; k++) {
                        if (client->channels[k].fd >= 0)
                                wire_flush(&client->channels[k], SIZE_MAX);
                }
                action_of_client(client);
        }
}

/* Lets everybody finish what is under way, until nothing more can happen by itself. */
static void world_quieten(struct world *world) {
        world->is_ending = true;
        engine_sim_calm_down(world->engine);
        monitor_set_limits(world, false);
        for (unsigned n = 0;; n++) {
                uint64_t n_moved = world->n_moved;
                bool has_answered;

                check(n < WORLD_QUIET_TURNS_MAX, "the worker never comes to rest");
                world->step++;
                world_let_clients_read(world);
                monitor_read(world);
                has_answered = monitor_answer(world);
                world_turn(world, true);
                if (engine_sim_is_asleep(world->engine) && world->n_moved == n_moved && !has_answered)
                        break;
        }
        books_check_quiet(world);
}

static void world_close_channels(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                if (!world->clients[i]->is_gone && !world->clients[i]->is_kicked)
                        action_close_cleanly(world->clients[i]);
        }
}

/* Returns whether there was anything to close. */
static bool world_close_sockets(struct world *world) {
        bool was_any = false;

        for (size_t i = 0; i < world->n_clients; i++) {
                struct client *client = world->clients[i];
                struct channel *channel = client->is_gone ? NULL : client_channel(client, false);

                for (size_t k = 0; channel && k < client->n_sockets; k++) {
                        was_any = was_any || !client->sockets[k].close_asked;
                        request_close_socket(channel, &client->sockets[k]);
                }
                for (size_t k = 0; channel && k < client->n_regions; k++) {
                        was_any = was_any || (client->regions[k].number && !client->regions[k].remove_asked);
                        request_remove_region(channel, &client->regions[k]);
                }
        }
        return was_any;
}

static void world_check_quotas(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                const struct client *client = world->clients[i];

                if (client->is_gone || client->is_kicked || client->has_closed_channels || client->is_opening)
                        continue;
                list_for_each(link, &world->worker->resources.sessions) {
                        const struct session *session = list_entry(link, struct session, link);

                        if (session->number != client->session)
                                continue;
                        check(session->n_ops == 0 && session->n_started == 0,
                              "client %u: %u ops and %u credits are used", client->number, session->n_ops,
                              session->n_started);
                        check(session->quota.used[LIMIT_SOCKETS] == 0 || client->n_sockets == MODEL_SOCKETS_MAX,
                              "client %u: %llu sockets are charged", client->number,
                              (unsigned long long) session->quota.used[LIMIT_SOCKETS]);
                        check(session->quota.used[LIMIT_MEMORY] == 0, "client %u: %llu bytes are charged",
                              client->number, (unsigned long long) session->quota.used[LIMIT_MEMORY]);
                }
        }
}

static void world_desert(struct world *world) {
        for (size_t i = 0; i < world->n_clients; i++) {
                if (!world->clients[i]->is_gone)
                        action_vanish(world->clients[i]);
        }
        world_quieten(world);
}

static void world_stop(struct world *world) {
        world->is_ending = true;
        monitor_stop(world);
        for (unsigned n = 0; !world->worker_has_ended; n++) {
                check(n < 100, "the worker does not stop");
                world_turn(world, true);
        }
        world_let_clients_read(world);
        world_let_clients_read(world);
        for (size_t i = 0; i < world->n_clients; i++) {
                if (!world->clients[i]->is_gone)
                        action_vanish(world->clients[i]);
        }
}

static void world_finish(struct world *world) {
        size_t dice = random_below(&world->random, 100);

        world_trace(world, "--- the end, %zu of 100", dice);
        if (dice < 15) {
                world_stop(world);
                return;
        }
        if (dice < 80) {
                world_quieten(world);
                if (random_chance(&world->random, 50)) {
                        world_close_channels(world);
                        world_quieten(world);
                }
                /* What closing a listener was too late for is accepted, and must be closed, too. */
                while (world_close_sockets(world))
                        world_quieten(world);
                world_check_quotas(world);
                books_check_all(world);
        }
        world_desert(world);
        books_check_all(world);
        check(world->worker->resources.stats.n_ops == 0, "%u ops are left", world->worker->resources.stats.n_ops);
        check(world->worker->resources.stats.n_sockets == 0, "%u sockets are left",
              world->worker->resources.stats.n_sockets);
        check(world->worker->resources.stats.n_sessions == 0, "%u sessions are left",
              world->worker->resources.stats.n_sessions);
        check(world->n_monitor_channels == world->n_monitor_closed, "of %llu channels %llu are reported closed",
              (unsigned long long) world->n_monitor_channels, (unsigned long long) world->n_monitor_closed);
}

void world_run(const struct world_options *options, struct tally *tally) {
        size_t n_fds = world_count_fds();
        struct world world;
        unsigned n_steps;

        world_init(&world, options, tally);
        n_steps = options->n_steps ? options->n_steps : 300 + (unsigned) random_below(&world.random, 2500);
        while (n_steps-- > 0)
                world_step(&world);
        world_finish(&world);
        tally->n_merged += world.worker->resources.stats.merged_ops;
        tally->n_runs++;
        world.worker = worker_free(world.worker);
        world_deinit(&world);
        check(world_count_fds() == n_fds, "%zu descriptors instead of %zu", world_count_fds(), n_fds);
}
