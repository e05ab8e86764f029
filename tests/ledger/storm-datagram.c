/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The datagram sockets of a storm. Each worker has one for each address family that others find on the board and send
 * to, with several receives outstanding; further ones only send, with or without a peer.
 *
 * Invariant: what a socket's place is, the ledger learns before anybody can send to it, and once: a place that another
 * socket gets later is another account.
 *
 *   FREE --tend: bound, and on the board--> OPEN
 *   FREE --tend, without an address--> OPEN
 *   FREE --tend, with a peer--> CONNECTING --record of the connect--> OPEN, or CLOSED
 *   OPEN --budget used up: cancelled--> OPEN
 *   OPEN --budget used up, an error, or silence--> CLOSED --last record--> FREE
 */

#include <errno.h>
#include <netinet/in.h>

#include "tests/ledger/storm.h"

#define DATAGRAM_BUDGET 100
#define DATAGRAM_PILE 16

/* Mostly small, now and then empty or as large as an operation may be; never too short for its name. */
uint32_t storm_datagram_size(struct storm_random *random) {
        uint32_t kind = storm_pick(random, 32);

        if (kind == 0)
                return 0;
        if (kind < 3)
                return 8 + storm_pick(random, STORM_OP_SIZE - 8);
        return 8 + storm_pick(random, 1400);
}

/* Mostly enough for any, often too small, now and then nothing. */
uint32_t storm_datagram_room(struct storm_random *random) {
        uint32_t kind = storm_pick(random, 32);

        if (kind == 0)
                return 0;
        if (kind < 6)
                return 1 + storm_pick(random, 1000);
        return kind < 16 ? 1408 : STORM_OP_SIZE;
}

/* Receives that nothing may ever fill: so that something is pending in a moment. */
static void datagram_pile(struct storm_worker *worker, struct storm_conn *conn) {
        if (conn->want[EVENT_OP_RECVFROM] == 0)
                return;
        conn->want[EVENT_OP_RECVFROM] = DATAGRAM_PILE;
        storm_conn_feed(worker, conn, EVENT_OP_RECVFROM);
}

static void datagram_end(struct storm_worker *worker, struct storm_conn *conn) {
        uint32_t way = storm_pick(&worker->random, 100);

        if (way < 40 && !storm_worker_is_over(worker)) {
                storm_conn_cancel(worker, conn);
                conn->budget = 20 + storm_pick(&worker->random, 60);
                return;
        }
        if (way < 80)
                datagram_pile(worker, conn);
        storm_conn_close(worker, conn);
}

void storm_datagram_step(struct storm_worker *worker, struct storm_conn *conn) {
        if (conn->state != CONN_OPEN)
                return;
        if (conn->has_failed)
                storm_conn_close(worker, conn);
        else if (conn->budget == 0 || storm_worker_is_over(worker))
                datagram_end(worker, conn);
        if (conn->state != CONN_OPEN)
                return;
        storm_conn_feed(worker, conn, EVENT_OP_RECVFROM);
        /* Sends end at once, and would fill all buffers before anybody receives. */
        if (storm_pick(&worker->random, 5) == 0)
                storm_conn_feed(worker, conn, EVENT_OP_SENDTO);
}

static int datagram_bind(struct storm_worker *worker, uint64_t socket, bool is_v6, uint32_t *ret_place) {
        struct sockaddr_storage address;
        socklen_t len;
        int r;

        len = storm_place_address(is_v6 ? EVENT_PLACE_V6 : 0, &address);
        r = ovl_bind(worker->thread, socket, (struct sockaddr *) &address, len);
        /* The more room there is, the fewer datagrams are lost by right. */
        if (r == 0)
                r = ovl_setsockopt(worker->thread, socket, SOL_SOCKET, SO_RCVBUF, STORM_DATAGRAM_ROOM);
        len = sizeof(address);
        if (r == 0)
                r = ovl_getsockname(worker->thread, socket, (struct sockaddr *) &address, &len);
        if (r == 0)
                *ret_place = storm_address_place(&address);
        return r;
}

/* Opens a socket at a place, or with 0 at none, and returns its connection, locked; NULL: it failed, and said so. */
static struct storm_conn *datagram_open(struct storm_worker *worker, bool is_v6, bool is_bound,
                                        enum storm_conn_state state, uint32_t *ret_place) {
        struct storm_conn *conn = storm_conn_take(worker);
        uint64_t socket;
        int r;

        *ret_place = 0;
        if (!conn)
                return NULL;
        r = ovl_socket_open(worker->thread, is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, &socket);
        if (r == 0 && is_bound)
                r = datagram_bind(worker, socket, is_v6, ret_place);
        if (r == 0)
                r = storm_conn_init(worker, conn, socket, SOCK_DGRAM, state);
        if (r < 0) {
                storm_worker_failed(worker, "opening a datagram socket", r);
                pthread_mutex_unlock(&conn->lock);
                return NULL;
        }
        conn->is_v6 = is_v6;
        conn->want[EVENT_OP_RECVFROM] = (uint8_t) (4 + storm_pick(&worker->random, 8));
        conn->want[EVENT_OP_SENDTO] = (uint8_t) (1 + storm_pick(&worker->random, 3));
        conn->budget = DATAGRAM_BUDGET + storm_pick(&worker->random, 2 * DATAGRAM_BUDGET);
        if (is_bound)
                storm_mark(worker->journal, EVENT_NAME, 0, conn->number, *ret_place, 0);
        else
                conn->want[EVENT_OP_RECVFROM] = 0;
        return conn;
}

int storm_datagram_open(struct storm_worker *worker, bool is_v6) {
        unsigned at = (worker->client->slot * STORM_WORKERS + worker->index) * 2 + is_v6;
        struct storm_conn *conn;
        uint32_t place;

        conn = datagram_open(worker, is_v6, true, CONN_OPEN, &place);
        if (!conn)
                return -EAGAIN;
        conn->presence = &worker->is_receiving[is_v6];
        __atomic_store_n(conn->presence, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&worker->client->board->datagrams[at], place, __ATOMIC_RELEASE);
        storm_conn_step(worker, conn);
        pthread_mutex_unlock(&conn->lock);
        return 0;
}

/* Without an address it cannot receive; with a peer it receives what the peer sends. */
int storm_datagram_open_other(struct storm_worker *worker) {
        uint32_t peer = storm_board_pick(worker->client->board->datagrams, 0, &worker->random), place;
        bool is_bound = storm_pick(&worker->random, 2) == 0, has_peer = storm_pick(&worker->random, 3) > 0;
        struct storm_conn *conn;
        int r = 0;

        if (peer == 0)
                return -EAGAIN;
        conn = datagram_open(worker, peer & EVENT_PLACE_V6, is_bound, has_peer ? CONN_CONNECTING : CONN_OPEN, &place);
        if (!conn)
                return -EAGAIN;
        conn->peer = has_peer ? peer : 0;
        if (has_peer)
                r = storm_op_post(worker, conn, EVENT_OP_CONNECT, 0, 0, peer);
        if (r < 0)
                storm_conn_close(worker, conn);
        else
                storm_conn_step(worker, conn);
        pthread_mutex_unlock(&conn->lock);
        return r;
}
