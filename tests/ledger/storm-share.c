/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets that two sessions share: one process sends, another receives on the same connection. The ticket goes through
 * the board. For the ledger each of the two has a connection of its own, and EVENT_SHARED says that they are one
 * socket.
 *
 * Invariant: who offers a socket has posted no receive on it and posts none afterwards, whether or not anybody joins:
 * so all that arrives is what the other one receives.
 *
 *   mail: EMPTY --offer--> WRITTEN --ticket--> FULL --the session that it is for--> READ --joined, or not--> EMPTY
 *         WRITTEN, FULL or READ --driver, when the process is gone--> EMPTY
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/ledger/storm.h"

#define SHARE_ONE_IN 6

/* Takes the mail of a slot from one state into another. Returns whether it did. */
static bool share_turn(struct storm_mail *mail, uint32_t from, uint32_t to) {
        return __atomic_compare_exchange_n(&mail->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static int share_write(struct storm_worker *worker, struct storm_conn *conn, struct storm_mail *mail, unsigned slot) {
        uint64_t session = __atomic_load_n(&worker->client->board->sessions[slot], __ATOMIC_ACQUIRE);
        struct ovl_ticket ticket;
        int r;

        __atomic_store_n(&mail->from, worker->client->slot, __ATOMIC_RELAXED);
        if (session == 0)
                return -ESRCH;
        r = ovl_socket_share(worker->thread, conn->socket, session, &ticket);
        if (r < 0)
                return r;
        mail->session = session;
        mail->conn = conn->number;
        memcpy(mail->ticket, ticket.bytes, sizeof(mail->ticket));
        return 0;
}

void storm_share_offer(struct storm_worker *worker, struct storm_conn *conn) {
        unsigned slot = storm_pick(&worker->random, STORM_PEER);
        struct storm_mail *mail = &worker->client->board->mail[slot];
        int r;

        if (slot == worker->client->slot || storm_pick(&worker->random, SHARE_ONE_IN) > 0 ||
            !share_turn(mail, STORM_MAIL_EMPTY, STORM_MAIL_WRITTEN))
                return;
        r = share_write(worker, conn, mail, slot);
        __atomic_store_n(&mail->state, r == 0 ? STORM_MAIL_FULL : STORM_MAIL_EMPTY, __ATOMIC_RELEASE);
        if (r < 0 && r != -ESRCH && r != -EDQUOT)
                storm_worker_failed(worker, "ovl_socket_share", r);
        if (r < 0)
                return;
        conn->is_shared = true;
        conn->want[EVENT_OP_RECV] = 0;
}

static void share_join(struct storm_worker *worker, const struct storm_mail *mail) {
        struct storm_conn *conn = storm_conn_take(worker);
        struct ovl_ticket ticket;
        uint64_t socket;
        int r;

        if (!conn)
                return;
        memcpy(ticket.bytes, mail->ticket, sizeof(ticket.bytes));
        r = ovl_socket_join(worker->thread, &ticket, &socket);
        if (r == 0)
                r = storm_conn_init(worker, conn, socket, SOCK_STREAM, CONN_OPEN);
        if (r == 0) {
                storm_mark(worker->journal, EVENT_SHARED, 0, conn->number, mail->conn, 0);
                conn->is_shared = true;
                conn->want[EVENT_OP_SEND] = 0;
                storm_conn_step(worker, conn);
        } else if (r != -ENOENT) { /* the one that offered it has closed it */
                storm_worker_failed(worker, "ovl_socket_join", r);
        }
        pthread_mutex_unlock(&conn->lock);
}

void storm_share_join(struct storm_worker *worker) {
        struct storm_mail *mail = &worker->client->board->mail[worker->client->slot];
        uint64_t own = __atomic_load_n(&worker->client->board->sessions[worker->client->slot], __ATOMIC_RELAXED);

        if (!share_turn(mail, STORM_MAIL_FULL, STORM_MAIL_READ))
                return;
        if (mail->session == own)
                share_join(worker, mail);
        __atomic_store_n(&mail->state, STORM_MAIL_EMPTY, __ATOMIC_RELEASE);
}
