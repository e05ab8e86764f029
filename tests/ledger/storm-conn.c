/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connections of a storm: each moves data both ways with several operations outstanding, and then ends in one of
 * the ways in which programs end their connections, most of them with operations pending.
 *
 * Invariant: posts of one direction that are not settled come from one thread. Only so does posting order exist: what
 * two threads post at once leaves on two channels. A port's connection is posted on by whichever thread takes the
 * packet, so either each of its posts asks for a verdict, or a thread posts only when nothing of another's is out.
 *
 *   FREE --tend: listen--> LISTENING --tend, now and then, or the end of the storm--> CLOSED
 *   FREE --tend: connect--> CONNECTING --record of the connect--> OPEN, or CLOSED
 *   FREE --record of an accept--> OPEN
 *   OPEN --budget used up--> FLUSHING --last record of a send--> HALF --end of the other's stream--> CLOSED
 *   OPEN --budget used up--> SHUT --last record--> CLOSED
 *   OPEN --budget used up, an error, or silence--> CLOSED --last record--> FREE
 *
 * Rejected: ending every connection in order. The interesting half of the daemon is what it does with operations that
 * are pending when their socket, their side of it, or their client goes.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/time.h"
#include "tests/ledger/storm.h"

#define CONN_SILENCE_NS (1000 * NS_PER_MS)
#define CONN_OVER_SILENCE_NS (300 * NS_PER_MS)
#define CONN_TEND_NS (4 * NS_PER_MS)
#define CONN_LISTENER_BUDGET 400
#define CONN_TARGET 6 /* connections that a worker wants to have */

static void conn_enter(struct storm_conn *conn, enum storm_conn_state state) {
        __atomic_store_n(&conn->state, state, __ATOMIC_RELAXED);
}

static unsigned conn_n_out(const struct storm_conn *conn) {
        unsigned n = 0;

        for (unsigned op = 1; op < EVENT_OPS; op++)
                n += conn->n_out[op];
        return n;
}

static void conn_free_if_done(struct storm_conn *conn) {
        if (conn->state == CONN_CLOSED && conn_n_out(conn) == 0)
                conn_enter(conn, CONN_FREE);
}

void storm_conn_close(struct storm_worker *worker, struct storm_conn *conn) {
        int r;

        if (conn->state == CONN_CLOSED || conn->state == CONN_FREE)
                return;
        storm_mark(worker->journal, EVENT_CLOSE, 0, conn->number, 0, 0);
        conn_enter(conn, CONN_CLOSED);
        if (conn->presence)
                __atomic_store_n(conn->presence, 0, __ATOMIC_RELAXED);
        r = ovl_socket_close(worker->thread, conn->socket);
        if (r < 0)
                storm_worker_failed(worker, "ovl_socket_close", r);
        conn_free_if_done(conn);
}

static void conn_shutdown(struct storm_worker *worker, struct storm_conn *conn, int how) {
        int r;

        storm_mark(worker->journal, EVENT_SHUTDOWN, 0, conn->number, (uint64_t) how, 0);
        r = ovl_shutdown(worker->thread, conn->socket, how);
        if (r == -ENOTCONN || r == -ECONNRESET || r == -EPIPE)
                conn->has_failed = true;
        else if (r < 0)
                storm_worker_failed(worker, "ovl_shutdown", r);
}

/* --- Posting ---------------------------------------------------------------------------------------------------- */

static bool conn_may_post(const struct storm_worker *worker, const struct storm_conn *conn, enum event_op op) {
        return worker->mode != EVENT_MODE_PORT || conn->is_settled || conn->n_out[op] == 0 || conn->last[op] == worker;
}

static unsigned conn_flags(struct storm_worker *worker, const struct storm_conn *conn, enum event_op op) {
        unsigned flags = 0;

        if (conn->is_settled || storm_pick(&worker->random, 32) == 0)
                flags |= EVENT_FLAG_VERDICT;
        if (op == EVENT_OP_RECV && storm_pick(&worker->random, 32) == 0)
                flags |= EVENT_FLAG_WAITALL;
        else if (op == EVENT_OP_RECVFROM && storm_pick(&worker->random, 16) == 0)
                flags |= EVENT_FLAG_PEEK;
        else if (op == EVENT_OP_RECV && storm_pick(&worker->random, 64) == 0)
                flags |= EVENT_FLAG_PEEK;
        return flags;
}

static uint32_t conn_len(struct storm_worker *worker, const struct storm_conn *conn, enum event_op op) {
        switch (op) {
        case EVENT_OP_ACCEPT:
                return 0;
        case EVENT_OP_RECVFROM:
                return storm_datagram_room(&worker->random);
        case EVENT_OP_SENDTO:
                return storm_datagram_size(&worker->random);
        case EVENT_OP_SEND:
                if (conn->is_narrow)
                        return 1 + storm_pick(&worker->random, STORM_OP_SIZE);
                return storm_size(&worker->random);
        default:
                return storm_size(&worker->random);
        }
}

/* Returns whether one more was posted. */
static bool conn_post(struct storm_worker *worker, struct storm_conn *conn, enum event_op op) {
        uint32_t place = 0;
        int r;

        if (!conn_may_post(worker, conn, op))
                return false;
        if (op == EVENT_OP_SENDTO && (conn->peer == 0 || storm_pick(&worker->random, 4) == 0)) {
                place = storm_board_pick(worker->client->board->datagrams, conn->is_v6 ? AF_INET6 : AF_INET,
                                         &worker->random);
                if (place == 0)
                        return false;
        }
        r = storm_op_post(worker, conn, op, conn_len(worker, conn, op), conn_flags(worker, conn, op), place);
        if (r == 0)
                return true;
        if (r == -EPIPE || r == -ECONNRESET || r == -ESHUTDOWN || r == -ENOTCONN)
                conn->has_failed = true;
        else if (r != -EAGAIN && r != -ENOBUFS)
                storm_worker_failed(worker, "a post", r);
        return false;
}

void storm_conn_feed(struct storm_worker *worker, struct storm_conn *conn, enum event_op op) {
        bool is_corked = storm_pick(&worker->random, 4) == 0;
        int r;

        if (op == EVENT_OP_RECV && conn->has_ended)
                return;
        /* Without verdicts a port's connection is fed in bursts, so that several are out and still in order. */
        if (worker->mode == EVENT_MODE_PORT && !conn->is_settled && conn->n_out[op] > 0)
                return;
        if (is_corked)
                ovl_cork(worker->thread);
        while (conn->n_out[op] < conn->want[op] && !conn->has_failed && conn_post(worker, conn, op))
                conn->budget -= conn->budget > 0;
        if (is_corked && (r = ovl_uncork(worker->thread)) < 0)
                storm_worker_failed(worker, "ovl_uncork", r);
}

static bool conn_is_wanted(const struct storm_conn *conn, enum event_op op) {
        return conn->want[op] > 0 && !conn->has_failed && !(op == EVENT_OP_RECV && conn->has_ended);
}

/* More than the other side will ever fill: so that much is pending in a moment. */
static void conn_pile(struct storm_worker *worker, struct storm_conn *conn) {
        unsigned n_receives = 12 + storm_pick(&worker->random, 20), n_sends = storm_pick(&worker->random, 4);

        for (unsigned i = 0; i < n_receives && conn_is_wanted(conn, EVENT_OP_RECV); i++)
                if (!conn_post(worker, conn, EVENT_OP_RECV))
                        break;
        for (unsigned i = 0; i < n_sends && conn_is_wanted(conn, EVENT_OP_SEND); i++)
                if (!conn_post(worker, conn, EVENT_OP_SEND))
                        break;
}

/* --- Ending ----------------------------------------------------------------------------------------------------- */

void storm_conn_cancel(struct storm_worker *worker, struct storm_conn *conn) {
        struct storm_op *op = storm_pick(&worker->random, 2) == 0 ? storm_op_find(worker, conn) : NULL;
        int r;

        storm_mark(worker->journal, EVENT_CANCEL, op ? op->id : 0, conn->number, 0, 0);
        r = ovl_cancel(worker->thread, conn->socket, op ? &op->overlapped : NULL);
        if (r < 0 && r != -ENOENT)
                storm_worker_failed(worker, "ovl_cancel", r);
}

static void conn_shut_under(struct storm_worker *worker, struct storm_conn *conn) {
        static const int hows[] = { 0, 1, 2, 2 }; /* SHUT_RD, SHUT_WR, SHUT_RDWR */
        int how = hows[storm_pick(&worker->random, 4)];

        conn_pile(worker, conn);
        conn_shutdown(worker, conn, how);
        conn_enter(conn, how == 1 && !conn->is_shared ? CONN_HALF : CONN_SHUT);
}

static void conn_end(struct storm_worker *worker, struct storm_conn *conn) {
        uint32_t way = storm_pick(&worker->random, 100);

        if (way < 36) {
                conn_pile(worker, conn);
                storm_conn_close(worker, conn);
        } else if (way < 76) {
                conn_shut_under(worker, conn);
        } else if (way < 90) {
                conn_enter(conn, CONN_FLUSHING);
        } else {
                storm_conn_cancel(worker, conn);
                conn->budget = 5 + storm_pick(&worker->random, 20);
        }
}

static void conn_step_listener(struct storm_worker *worker, struct storm_conn *conn) {
        if (storm_worker_is_over(worker) || conn->order[EVENT_OP_ACCEPT] >= CONN_LISTENER_BUDGET) {
                storm_conn_close(worker, conn);
                return;
        }
        while (conn->n_out[EVENT_OP_ACCEPT] < 4)
                if (!conn_post(worker, conn, EVENT_OP_ACCEPT))
                        return;
}

void storm_conn_step(struct storm_worker *worker, struct storm_conn *conn) {
        bool is_over = storm_worker_is_over(worker), may_fail = conn->state >= CONN_OPEN && conn->state < CONN_CLOSED;

        if (conn->is_datagram) {
                storm_datagram_step(worker, conn);
                conn_free_if_done(conn);
                return;
        }
        if (conn->state == CONN_LISTENING)
                conn_step_listener(worker, conn);
        if (conn->state == CONN_OPEN && (conn->budget == 0 || is_over) && !conn->has_failed)
                conn_end(worker, conn);
        if (conn->state == CONN_OPEN || conn->state == CONN_FLUSHING || conn->state == CONN_HALF)
                storm_conn_feed(worker, conn, EVENT_OP_RECV);
        if (conn->state == CONN_OPEN)
                storm_conn_feed(worker, conn, EVENT_OP_SEND);
        if (conn->state == CONN_FLUSHING && conn->n_out[EVENT_OP_SEND] == 0) {
                conn_shutdown(worker, conn, 1);
                conn_enter(conn, conn->is_shared ? CONN_SHUT : CONN_HALF);
        }
        if (conn->state == CONN_OPEN && conn->has_ended && conn->n_out[EVENT_OP_SEND] == 0)
                storm_conn_close(worker, conn);
        if (conn->state == CONN_HALF && conn->has_ended && conn->n_out[EVENT_OP_SEND] == 0)
                storm_conn_close(worker, conn);
        if (conn->state == CONN_SHUT && conn_n_out(conn) == 0)
                storm_conn_close(worker, conn);
        if (may_fail && conn->has_failed)
                storm_conn_close(worker, conn);
        conn_free_if_done(conn);
}

/* Whether the worker posts on this connection: who only waited for its event must not. */
static bool conn_is_of(const struct storm_worker *worker, const struct storm_conn *conn) {
        return conn >= worker->conns->all && conn < worker->conns->all + STORM_CONNS;
}

static void conn_open(struct storm_worker *worker, struct storm_conn *conn) {
        conn_enter(conn, CONN_OPEN);
        if (!conn->is_datagram)
                storm_share_offer(worker, conn);
}

void storm_conn_op_ended(struct storm_worker *worker, struct storm_conn *conn, enum event_op op, int status,
                         bool is_end) {
        conn->has_ended |= is_end;
        if (op == EVENT_OP_CONNECT && conn->state == CONN_CONNECTING) {
                if (status == 0)
                        conn_open(worker, conn);
                else
                        storm_conn_close(worker, conn);
        }
        /* A datagram socket goes on after a datagram that was cut, or not taken at its peer. */
        if (status < 0 && status != -ECANCELED &&
            !(conn->is_datagram && (status == -EMSGSIZE || status == -ECONNREFUSED)))
                conn->has_failed = true;
        if (conn_is_of(worker, conn) && !__atomic_load_n(&worker->client->is_leaving, __ATOMIC_RELAXED))
                storm_conn_step(worker, conn);
        else
                conn_free_if_done(conn);
}

/* --- Opening ---------------------------------------------------------------------------------------------------- */

struct storm_conn *storm_conn_take(struct storm_worker *worker) {
        unsigned start = storm_pick(&worker->random, STORM_CONNS);

        for (unsigned i = 0; i < STORM_CONNS; i++) {
                struct storm_conn *conn = &worker->conns->all[(start + i) % STORM_CONNS];

                if (pthread_mutex_trylock(&conn->lock) != 0)
                        continue;
                if (conn->state == CONN_FREE)
                        return conn;
                pthread_mutex_unlock(&conn->lock);
        }
        return NULL;
}

/* What a socket may refuse only when its connection is gone already. */
static void conn_set(struct storm_worker *worker, struct storm_conn *conn, int level, int option, int value) {
        int r;

        r = ovl_setsockopt(worker->thread, conn->socket, level, option, value);
        if (r < 0)
                storm_worker_failed(worker, "ovl_setsockopt", r);
}

static void conn_init_options(struct storm_worker *worker, struct storm_conn *conn) {
        conn->is_narrow = storm_pick(&worker->random, 8) == 0;
        if (conn->is_narrow) {
                conn_set(worker, conn, SOL_SOCKET, SO_SNDBUF, 4096);
                conn_set(worker, conn, SOL_SOCKET, SO_RCVBUF, 4096);
        }
        if (storm_pick(&worker->random, 4) == 0)
                conn_set(worker, conn, IPPROTO_TCP, TCP_NODELAY, 1);
}

int storm_conn_init(struct storm_worker *worker, struct storm_conn *conn, uint64_t socket, int type,
                    enum storm_conn_state state) {
        struct storm_client *client = worker->client;
        int r;

        conn->number = ((uint64_t) client->number << 24) + __atomic_add_fetch(&client->n_conns, 1, __ATOMIC_RELAXED);
        conn->socket = socket;
        conn_enter(conn, state);
        conn->presence = NULL;
        conn->offset = 0;
        memset(conn->order, 0, sizeof(conn->order));
        memset(conn->last, 0, sizeof(conn->last));
        memset(conn->want, 0, sizeof(conn->want));
        conn->is_datagram = type == SOCK_DGRAM;
        conn->is_narrow = false;
        conn->peer = 0;
        conn->is_v6 = false;
        conn->is_shared = false;
        conn->moved_ns = now_ns();
        conn->budget = 16 + storm_pick(&worker->random, 52);
        conn->want[conn->is_datagram ? EVENT_OP_RECVFROM : EVENT_OP_RECV] =
                (uint8_t) (1 + storm_pick(&worker->random, 6));
        conn->want[conn->is_datagram ? EVENT_OP_SENDTO : EVENT_OP_SEND] =
                (uint8_t) (1 + storm_pick(&worker->random, 4));
        conn->is_settled = worker->mode == EVENT_MODE_PORT && storm_pick(&worker->random, 3) == 0;
        conn->has_ended = false;
        conn->has_failed = false;
        if (state != CONN_LISTENING && !conn->is_datagram)
                conn_init_options(worker, conn);
        if (worker->mode != EVENT_MODE_PORT)
                return 0;
        r = ovl_port_associate(worker->thread, client->port, socket, conn->number);
        if (r < 0)
                storm_worker_failed(worker, "ovl_port_associate", r);
        return r;
}

void storm_conn_adopt(struct storm_worker *worker, uint64_t socket) {
        struct storm_conn *conn = storm_conn_take(worker);
        int r;

        if (!conn) {
                r = ovl_socket_close(worker->thread, socket);
                if (r < 0)
                        storm_worker_failed(worker, "ovl_socket_close", r);
                return;
        }
        r = storm_conn_init(worker, conn, socket, SOCK_STREAM, CONN_OPEN);
        if (r == 0)
                conn_open(worker, conn);
        if (r == 0 && !__atomic_load_n(&worker->client->is_leaving, __ATOMIC_RELAXED))
                storm_conn_step(worker, conn);
        pthread_mutex_unlock(&conn->lock);
}

static int conn_open_socket(struct storm_worker *worker, int family, uint64_t *ret_socket) {
        int r;

        r = ovl_socket_open(worker->thread, family, SOCK_STREAM, ret_socket);
        if (r < 0)
                storm_worker_failed(worker, "ovl_socket_open", r);
        return r;
}

int storm_conn_connect(struct storm_worker *worker) {
        uint32_t place = storm_board_pick(worker->client->board->places, 0, &worker->random);
        struct sockaddr_storage address;
        struct storm_conn *conn;
        uint64_t socket;
        int r;

        conn = place ? storm_conn_take(worker) : NULL;
        if (!conn)
                return -EAGAIN;
        storm_place_address(place, &address);
        r = conn_open_socket(worker, address.ss_family, &socket);
        if (r == 0)
                r = storm_conn_init(worker, conn, socket, SOCK_STREAM, CONN_CONNECTING);
        if (r == 0) {
                r = storm_op_post(worker, conn, EVENT_OP_CONNECT, 0, 0, place);
                if (r < 0 || storm_pick(&worker->random, 40) == 0)
                        storm_conn_close(worker, conn);
                else if (storm_pick(&worker->random, 40) == 0)
                        storm_conn_cancel(worker, conn);
        }
        pthread_mutex_unlock(&conn->lock);
        return r;
}

static int conn_publish(struct storm_worker *worker, uint64_t socket, bool is_v6, unsigned at) {
        struct sockaddr_storage address;
        socklen_t len;
        int r;

        len = storm_place_address(is_v6 ? EVENT_PLACE_V6 : 0, &address);
        r = ovl_bind(worker->thread, socket, (struct sockaddr *) &address, len);
        if (r == 0)
                r = ovl_listen(worker->thread, socket, 64);
        len = sizeof(address);
        if (r == 0)
                r = ovl_getsockname(worker->thread, socket, (struct sockaddr *) &address, &len);
        if (r < 0) {
                storm_worker_failed(worker, "opening a listener", r);
                return r;
        }
        __atomic_store_n(&worker->client->board->places[at], storm_address_place(&address), __ATOMIC_RELEASE);
        return 0;
}

int storm_conn_listen(struct storm_worker *worker, bool is_v6) {
        unsigned at = (worker->client->slot * STORM_WORKERS + worker->index) * 2 + is_v6;
        struct storm_conn *conn = storm_conn_take(worker);
        uint64_t socket;
        int r;

        if (!conn)
                return -EAGAIN;
        r = conn_open_socket(worker, is_v6 ? AF_INET6 : AF_INET, &socket);
        if (r == 0)
                r = conn_publish(worker, socket, is_v6, at);
        if (r == 0)
                r = storm_conn_init(worker, conn, socket, SOCK_STREAM, CONN_LISTENING);
        if (r == 0) {
                conn->presence = &worker->is_listening[is_v6];
                __atomic_store_n(conn->presence, 1, __ATOMIC_RELAXED);
                conn->is_settled = worker->mode == EVENT_MODE_PORT;
                storm_conn_step(worker, conn);
        }
        pthread_mutex_unlock(&conn->lock);
        return r;
}

/* --- Tending ---------------------------------------------------------------------------------------------------- */

unsigned storm_conns_count(const struct storm_conns *conns) {
        unsigned n = 0;

        for (unsigned i = 0; i < STORM_CONNS; i++)
                n += __atomic_load_n(&conns->all[i].state, __ATOMIC_RELAXED) != CONN_FREE;
        return n;
}

static void conn_tend(struct storm_worker *worker, struct storm_conn *conn, uint64_t now) {
        uint64_t silence_ns = storm_worker_is_over(worker) ? CONN_OVER_SILENCE_NS : CONN_SILENCE_NS;

        if (conn->state == CONN_FREE || conn->state == CONN_CLOSED)
                return;
        if (conn->state != CONN_LISTENING && now > conn->moved_ns + silence_ns)
                storm_conn_close(worker, conn);
        else
                storm_conn_step(worker, conn);
}

/* Listeners and receivers of datagrams, one an address family; each is replaced once it has been closed. */
static void conn_tend_listeners(struct storm_worker *worker) {
        unsigned first = (worker->client->slot * STORM_WORKERS + worker->index) * 2;

        for (unsigned is_v6 = 0; is_v6 < 2; is_v6++) {
                if (__atomic_load_n(&worker->is_listening[is_v6], __ATOMIC_RELAXED))
                        continue;
                __atomic_store_n(&worker->client->board->places[first + is_v6], 0, __ATOMIC_RELEASE);
                if (!storm_worker_is_over(worker))
                        storm_conn_listen(worker, is_v6);
        }
        for (unsigned is_v6 = 0; is_v6 < 2; is_v6++) {
                if (__atomic_load_n(&worker->is_receiving[is_v6], __ATOMIC_RELAXED))
                        continue;
                __atomic_store_n(&worker->client->board->datagrams[first + is_v6], 0, __ATOMIC_RELEASE);
                if (!storm_worker_is_over(worker))
                        storm_datagram_open(worker, is_v6);
        }
}

void storm_conns_tend(struct storm_worker *worker) {
        unsigned target = worker->mode == EVENT_MODE_PORT ? 2 * CONN_TARGET : CONN_TARGET;
        uint64_t now = now_ns();

        if (now < worker->tended_ns + CONN_TEND_NS)
                return;
        worker->tended_ns = now;
        conn_tend_listeners(worker);
        for (unsigned i = 0; i < STORM_CONNS; i++) {
                struct storm_conn *conn = &worker->conns->all[i];

                if (pthread_mutex_trylock(&conn->lock) != 0)
                        continue;
                conn_tend(worker, conn, now);
                pthread_mutex_unlock(&conn->lock);
        }
        if (storm_worker_is_over(worker) || storm_conns_count(worker->conns) >= target + 4)
                return;
        if (storm_pick(&worker->random, 10) == 0)
                storm_datagram_open_other(worker);
        else
                storm_conn_connect(worker);
        storm_share_join(worker);
}
