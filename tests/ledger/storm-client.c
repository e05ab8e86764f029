/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One client of a storm: a session with six threads, each of which waits in its own way: two run completion routines,
 * one polls and waits for results, two take packets from a port, one waits for events.
 *
 * Invariant: a worker leaves in order only when nothing that it posted is in flight; a client that is told to leave
 * does so with whatever is in flight, and says so first. One that is killed says nothing.
 *
 *   start --session, port, threads--> running --driver: is_over--> ending --last record--> done
 *   running --driver: leave--> leaving: threads end with operations pending --> done
 *   ending --patience is at its end--> missing: the process exits, and the ledger names what never ended
 *
 * Rejected: waiting for ever. A lost record would then be a test that hangs instead of one that says what was lost.
 */

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/ledger/storm.h"

#define CLIENT_WAIT_NS (2 * NS_PER_MS)

/* --- For all ---------------------------------------------------------------------------------------------------- */

void storm_mark(struct journal *journal, enum event_kind kind, uint64_t id, uint64_t conn, uint64_t detail,
                int status) {
        journal_add(journal, (struct event){ .kind = kind,
                                             .id = id,
                                             .status = status,
                                             .body.mark = { .conn = conn, .detail = detail } });
}

bool storm_worker_is_over(const struct storm_worker *worker) {
        return __atomic_load_n(&worker->client->board->is_over, __ATOMIC_RELAXED) ||
               __atomic_load_n(&worker->client->is_aborted, __ATOMIC_RELAXED);
}

void storm_worker_failed(struct storm_worker *worker, const char *call, int status) {
        const struct ovl_error *error = ovl_thread_error(worker->thread);

        if (status == -ECONNABORTED) {
                if (__atomic_exchange_n(&worker->client->is_aborted, 1, __ATOMIC_RELAXED) != 0)
                        return;
                storm_mark(worker->journal, EVENT_ABORTED, worker->client->number, 0, error->reason, status);
                /* Seen in an operation, the reason is not told yet; a request is. */
                ovl_status(worker->thread, &(struct ovl_status){});
                fprintf(stderr, "storm: client %u, worker %u: the session was lost: %s\n", worker->client->number,
                        worker->index, error->text);
                return;
        }
        if (__atomic_exchange_n(&worker->client->has_failed, 1, __ATOMIC_RELAXED) == 0)
                fprintf(stderr, "storm: client %u, worker %u: %s returned %d (%s); last error %d: %s\n",
                        worker->client->number, worker->index, call, status, strerror(-status), error->status,
                        error->text);
}

socklen_t storm_place_address(uint32_t place, struct sockaddr_storage *ret_address) {
        struct sockaddr_in *v4 = (struct sockaddr_in *) ret_address;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) ret_address;

        memset(ret_address, 0, sizeof(*ret_address));
        if (place & EVENT_PLACE_V6) {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons((uint16_t) place);
                v6->sin6_addr = in6addr_loopback;
                return sizeof(*v6);
        }
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t) place);
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof(*v4);
}

uint32_t storm_address_place(const struct sockaddr_storage *address) {
        /* sin_port and sin6_port lie at the same place. */
        uint32_t port = ntohs(((const struct sockaddr_in *) address)->sin_port);

        if (address->ss_family != AF_INET && address->ss_family != AF_INET6)
                return 0;
        return port | (address->ss_family == AF_INET6 ? EVENT_PLACE_V6 : 0);
}

uint32_t storm_board_pick(const uint32_t places[STORM_PLACES], int family, struct storm_random *random) {
        unsigned start = storm_pick(random, STORM_PLACES);

        for (unsigned i = 0; i < STORM_PLACES; i++) {
                uint32_t place = __atomic_load_n(&places[(start + i) % STORM_PLACES], __ATOMIC_ACQUIRE);

                if (place != 0 && (family == 0 || (family == AF_INET6) == ((place & EVENT_PLACE_V6) != 0)))
                        return place;
        }
        return 0;
}

/* Mostly small, now and then empty or as large as an operation may be. */
uint32_t storm_size(struct storm_random *random) {
        uint32_t kind = storm_pick(random, 64);

        if (kind == 0)
                return 0;
        if (kind < 4)
                return 1 + storm_pick(random, STORM_OP_SIZE);
        if (kind < 16)
                return 1 + storm_pick(random, 4096);
        return 1 + storm_pick(random, 1024);
}

/* --- Workers ---------------------------------------------------------------------------------------------------- */

static void worker_wait_routines(struct storm_worker *worker) {
        struct storm_op *op = &worker->ops[storm_pick(&worker->random, STORM_OPS)];
        int r;

        /* Waiting for one operation runs the routines of all: also its own, unless that one is waited for first. */
        if (op->in_flight && storm_pick(&worker->random, 4) == 0)
                r = ovl_wait(worker->thread, &op->overlapped, CLIENT_WAIT_NS, 1);
        else
                r = ovl_sleep(worker->thread, CLIENT_WAIT_NS);
        if (r < 0 && r != -ETIMEDOUT)
                storm_worker_failed(worker, "an alertable wait", r);
}

/* Takes the results of operations that nothing announces. Returns how many, and one that is still pending, or NULL. */
static unsigned worker_poll(struct storm_worker *worker, struct storm_op **ret_pending) {
        unsigned n_done = 0;
        int r;

        *ret_pending = NULL;
        r = ovl_dispatch(worker->thread);
        if (r < 0)
                storm_worker_failed(worker, "ovl_dispatch", r);
        for (unsigned i = 0; i < STORM_OPS; i++) {
                struct storm_op *op = &worker->ops[i];

                if (op->mode != EVENT_MODE_PLAIN || !op->in_flight)
                        continue;
                if (ovl_result(&op->overlapped) == -EINPROGRESS) {
                        *ret_pending = op;
                        continue;
                }
                storm_op_done(worker, op, EVENT_MODE_PLAIN, 0);
                n_done++;
        }
        return n_done;
}

static void worker_wait_results(struct storm_worker *worker) {
        struct pollfd ready = { .fd = ovl_thread_fd(worker->thread), .events = POLLIN };
        struct storm_op *pending;
        int r;

        if (worker_poll(worker, &pending) > 0)
                return;
        if (storm_pick(&worker->random, 3) == 0) {
                storm_events_wait_foreign(worker);
                return;
        }
        if (!pending || storm_pick(&worker->random, 2) == 0) {
                poll(&ready, 1, CLIENT_WAIT_NS / NS_PER_MS);
                return;
        }
        r = ovl_wait(worker->thread, &pending->overlapped, CLIENT_WAIT_NS, storm_pick(&worker->random, 2) == 0);
        if (r < 0 && r != -ETIMEDOUT)
                storm_worker_failed(worker, "ovl_wait", r);
}

static void worker_wait_packets(struct storm_worker *worker) {
        struct ovl_packet packets[STORM_PACKETS];
        size_t max = 1 + storm_pick(&worker->random, STORM_PACKETS);
        struct storm_op *pending;
        int r;

        worker_poll(worker, &pending);
        r = ovl_port_wait(worker->client->port, worker->thread, packets, max, CLIENT_WAIT_NS);
        if (r == -ETIMEDOUT)
                return;
        if (r < 0) {
                storm_worker_failed(worker, "ovl_port_wait", r);
                return;
        }
        for (int i = 0; i < r; i++)
                storm_op_done(worker, packets[i].overlapped->user, EVENT_MODE_PORT, packets[i].key);
}

/* Whether nothing is left to wait for, or patience is. */
static bool worker_is_done(struct storm_worker *worker) {
        uint64_t now = now_ns();
        bool is_empty;

        if (worker->mode == EVENT_MODE_PORT)
                is_empty = __atomic_load_n(&worker->client->n_port_out, __ATOMIC_RELAXED) == 0;
        else
                is_empty = __atomic_load_n(&worker->n_out, __ATOMIC_RELAXED) == 0;
        if (is_empty && storm_conns_count(worker->conns) == 0)
                return true;
        if (worker->over_ns == 0)
                worker->over_ns = now;
        if (now < worker->over_ns + worker->client->patience_s * NS_PER_S)
                return false;
        __atomic_store_n(&worker->client->is_missing, 1, __ATOMIC_RELAXED);
        return true;
}

static void worker_wait(struct storm_worker *worker) {
        switch (worker->mode) {
        case EVENT_MODE_ROUTINE:
                worker_wait_routines(worker);
                return;
        case EVENT_MODE_PLAIN:
                worker_wait_results(worker);
                return;
        case EVENT_MODE_EVENT:
                storm_events_wait(worker);
                return;
        default:
                worker_wait_packets(worker);
        }
}

static void worker_loop(struct storm_worker *worker) {
        while (!__atomic_load_n(&worker->client->is_leaving, __ATOMIC_RELAXED)) {
                if (storm_worker_is_over(worker) && worker_is_done(worker))
                        return;
                storm_conns_tend(worker);
                storm_apc_tend(worker);
                worker_wait(worker);
                if (__atomic_load_n(&worker->client->board->leave[worker->client->slot], __ATOMIC_RELAXED))
                        __atomic_store_n(&worker->client->is_leaving, 1, __ATOMIC_RELAXED);
        }
}

static void *worker_main(void *data) {
        struct storm_worker *worker = data;
        struct storm_client *client = worker->client;
        struct ovl_error error = {};
        int r;

        journal_start(worker->journal);
        r = ovl_thread_open(client->session, &worker->thread, &error);
        if (r == 0)
                r = ovl_region_open(worker->thread, (size_t) STORM_OPS * STORM_OP_SIZE, &worker->region);
        if (r == 0 && worker->mode == EVENT_MODE_EVENT)
                r = storm_events_open(worker);
        if (r == 0)
                r = storm_apc_open(worker);
        if (r == -ECONNABORTED) {
                /* What another worker has met already ended the session of all of them. */
                if (__atomic_exchange_n(&client->is_aborted, 1, __ATOMIC_RELAXED) == 0)
                        storm_mark(worker->journal, EVENT_ABORTED, client->number, 0, error.reason, r);
                return NULL;
        }
        if (r < 0) {
                fprintf(stderr, "storm: client %u: cannot start worker %u: %s (%s)\n", client->number, worker->index,
                        strerror(-r), error.text);
                __atomic_store_n(&client->has_failed, 1, __ATOMIC_RELAXED);
                return NULL;
        }
        storm_ops_init(worker);
        worker_loop(worker);
        if (__atomic_load_n(&client->is_missing, __ATOMIC_RELAXED))
                return NULL;
        if (__atomic_load_n(&client->is_leaving, __ATOMIC_RELAXED))
                storm_mark(worker->journal, EVENT_LEFT, client->number, 0, 0, 0);
        storm_apc_close(worker);
        worker->thread = ovl_thread_close(worker->thread);
        storm_mark(worker->journal, EVENT_END, 0, 0, 0, 0);
        return NULL;
}

/* --- The process ------------------------------------------------------------------------------------------------ */

static void client_init_worker(struct storm_client *client, unsigned index) {
        static const enum event_mode modes[STORM_WORKERS] = {
                EVENT_MODE_ROUTINE, EVENT_MODE_ROUTINE, EVENT_MODE_PLAIN,
                EVENT_MODE_PORT,    EVENT_MODE_PORT,    EVENT_MODE_EVENT
        };
        struct storm_worker *worker = &client->workers[index];

        worker->client = client;
        worker->journal = &client->journals[index];
        worker->index = index;
        worker->mode = modes[index];
        worker->random.state = client->seed * STORM_WORKERS + index;
        worker->conns = worker->mode == EVENT_MODE_PORT ? &client->port_conns : &worker->own_conns;
        pthread_mutex_init(&worker->lock, NULL);
        pthread_mutex_init(&worker->thread_lock, NULL);
        for (unsigned i = 0; i < STORM_CONNS; i++)
                pthread_mutex_init(&worker->own_conns.all[i].lock, NULL);
}

/* What is left of an orderly client: regions go once the sockets of the port, which outlive its threads, are closed. */
static int client_leave(struct storm_client *client) {
        struct ovl_thread *thread = NULL;
        struct ovl_error error = {};
        int r;

        r = ovl_thread_open(client->session, &thread, &error);
        if (r < 0 && __atomic_load_n(&client->is_aborted, __ATOMIC_RELAXED))
                return 0;
        if (r < 0) {
                fprintf(stderr, "storm: client %u: cannot open a thread to leave with: %s\n", client->number,
                        error.text);
                return r;
        }
        for (unsigned i = 0; i < STORM_CONNS; i++) {
                struct storm_conn *conn = &client->port_conns.all[i];

                if (conn->state != CONN_FREE && conn->state != CONN_CLOSED)
                        ovl_socket_close(thread, conn->socket);
        }
        for (unsigned i = 0; i < STORM_WORKERS; i++) {
                storm_events_close(&client->workers[i]);
                if (!client->workers[i].region)
                        continue;
                r = ovl_region_close(thread, client->workers[i].region);
                if (r < 0 && !__atomic_load_n(&client->is_aborted, __ATOMIC_RELAXED))
                        fprintf(stderr, "storm: client %u: ovl_region_close: %s\n", client->number, strerror(-r));
        }
        client->port = ovl_port_close(client->port);
        ovl_thread_close(thread);
        client->session = ovl_session_free(client->session);
        return 0;
}

static int client_open(struct storm_client *client) {
        static const char *const levels[STORM_LEVELS] = { "inline", "shared", "ring" };
        unsigned level = client->level < 0 ? client->number % STORM_LEVELS : (unsigned) client->level;
        struct ovl_session_options options = { .path = client->path, .name = "storm", .level = levels[level] };
        struct ovl_session_info info;
        struct ovl_error error = {};
        int r;

        /* Some have so few credits that posts are refused now and then. */
        if (client->slot >= STORM_STEADY && client->number % 5 == 0)
                options.credits = 200;
        /* Some of those that might look for completions before they sleep do not. */
        if (client->number % 4 == 0)
                options.poll_us = OVL_POLL_NEVER;
        r = ovl_session_open(&options, &client->session, &error);
        if (r == 0)
                r = ovl_port_open(client->session, 2, &client->port, &error);
        if (r < 0) {
                fprintf(stderr, "storm: client %u: cannot open a session: %s (%s)\n", client->number, strerror(-r),
                        error.text);
                return r;
        }
        ovl_session_info(client->session, &info);
        __atomic_store_n(&client->board->sessions[client->slot], info.session, __ATOMIC_RELEASE);
        return info.level == level ? 0 : -EPROTO;
}

int storm_client_run(struct storm_client *client) {
        pthread_t threads[STORM_WORKERS];
        int r;

        client->workers = calloc(STORM_WORKERS, sizeof(*client->workers));
        if (!client->workers || client_open(client) < 0)
                return STORM_EXIT_FAILED;
        for (unsigned i = 0; i < STORM_CONNS; i++)
                pthread_mutex_init(&client->port_conns.all[i].lock, NULL);
        for (unsigned i = 0; i < STORM_WORKERS; i++)
                client_init_worker(client, i);
        for (unsigned i = 0; i < STORM_WORKERS; i++)
                if (pthread_create(&threads[i], NULL, worker_main, &client->workers[i]) != 0)
                        return STORM_EXIT_FAILED;
        for (unsigned i = 0; i < STORM_WORKERS; i++)
                pthread_join(threads[i], NULL);
        if (client->is_missing)
                return STORM_EXIT_MISSING;
        r = client_leave(client);
        free(client->workers);
        return r < 0 || client->has_failed ? STORM_EXIT_FAILED : 0;
}
