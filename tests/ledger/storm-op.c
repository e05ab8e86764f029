/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The operations of a storm: posting them and seeing them end, each written down at the moment that makes the account
 * true. A post is written before the call, so that a client that is killed within it leaves the post behind; a record
 * is written before anything else is done with it.
 *
 * Invariant: an operation is in flight between its post and the first time its end is seen; the connection's lock is
 * held while it is posted and while it is given back, so that a packet that another thread takes cannot overtake the
 * call that posted it. A second end is written down and otherwise ignored.
 *
 *   free --storm_op_post--> in flight --routine, packet or poll: storm_op_done--> free
 *   free --storm_op_post, and the call refuses--> free
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/ledger/pattern.h"
#include "tests/ledger/storm.h"

static struct storm_op *storm_op_take(struct storm_worker *worker) {
        struct storm_op *op;

        pthread_mutex_lock(&worker->lock);
        op = worker->free;
        if (op)
                worker->free = op->next_free;
        pthread_mutex_unlock(&worker->lock);
        return op;
}

static void storm_op_give(struct storm_op *op) {
        struct storm_worker *worker = op->worker;

        __atomic_store_n(&op->in_flight, false, __ATOMIC_RELAXED);
        __atomic_store_n(&op->conn, NULL, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&worker->n_out, 1, __ATOMIC_RELAXED);
        if (worker->mode == EVENT_MODE_PORT)
                __atomic_fetch_sub(&worker->client->n_port_out, 1, __ATOMIC_RELAXED);
        pthread_mutex_lock(&worker->lock);
        op->next_free = worker->free;
        worker->free = op;
        pthread_mutex_unlock(&worker->lock);
}

void storm_ops_init(struct storm_worker *worker) {
        uint8_t *memory = ovl_region_data(worker->region);

        for (unsigned i = 0; i < STORM_OPS; i++) {
                struct storm_op *op = &worker->ops[i];

                op->worker = worker;
                op->overlapped.user = op;
                op->memory = memory + (size_t) i * STORM_OP_SIZE;
                op->next_free = worker->free;
                worker->free = op;
        }
}

struct storm_op *storm_op_find(struct storm_worker *worker, const struct storm_conn *conn) {
        unsigned start = storm_pick(&worker->random, STORM_OPS);

        for (unsigned i = 0; i < STORM_OPS; i++) {
                struct storm_op *op = &worker->ops[(start + i) % STORM_OPS];

                if (__atomic_load_n(&op->conn, __ATOMIC_RELAXED) == conn)
                        return op;
        }
        return NULL;
}

/* Cuts `len` bytes into one to four buffers, some of them empty. */
static void storm_op_cut(struct storm_worker *worker, struct storm_op *op, uint32_t len) {
        uint32_t n_pieces = 1 + (storm_pick(&worker->random, 3) == 0 ? storm_pick(&worker->random, STORM_PIECES) : 0);
        uint32_t at = 0;

        op->len = len;
        op->n_pieces = n_pieces;
        for (uint32_t i = 0; i < n_pieces; i++) {
                uint32_t rest = len - at;
                uint32_t n = i + 1 == n_pieces ? rest : storm_pick(&worker->random, rest + 1);

                op->pieces[i] = (struct ovl_buffer){ .data = op->memory + at, .len = n };
                at += n;
        }
}

/* Routines of one connection must not run one within the other. */
static void storm_op_enter(struct storm_worker *worker, const struct storm_op *op) {
        uint64_t number = op->conn ? op->conn->number : 0;

        for (unsigned i = 0; i < worker->depth; i++)
                if (number != 0 && worker->running[i] == number)
                        storm_mark(worker->journal, EVENT_NESTED, 0, number, 0, 0);
        worker->running[worker->depth++] = number;
}

struct storm_worker *storm_worker_self(struct storm_worker *worker) {
        uint32_t tid = (uint32_t) gettid();

        for (unsigned i = 0; i < STORM_WORKERS; i++)
                if (__atomic_load_n(&worker->client->journals[i].header->tid, __ATOMIC_RELAXED) == tid)
                        return &worker->client->workers[i];
        return worker;
}

static void storm_op_routine(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct storm_op *op = overlapped->user;
        struct storm_worker *worker = storm_worker_self(op->worker);

        storm_op_enter(worker, op);
        storm_op_done(worker, op, EVENT_MODE_ROUTINE, 0);
        /* Now and then a routine waits alertably itself: routines of other connections may run within it. */
        if (worker->depth < STORM_DEPTH && storm_pick(&worker->random, 32) == 0)
                ovl_sleep(thread, 0);
        worker->depth--;
}

static int storm_op_call(struct storm_worker *worker, struct storm_conn *conn, struct storm_op *op, uint32_t place) {
        void (*routine)(struct ovl_thread *, struct ovl_overlapped *) =
                worker->mode == EVENT_MODE_ROUTINE ? storm_op_routine : NULL;
        struct sockaddr_storage address;
        socklen_t address_len = storm_place_address(place, &address);
        unsigned flags = 0;

        if (op->flags & EVENT_FLAG_VERDICT)
                flags |= OVL_WANT_VERDICT;
        if (op->flags & EVENT_FLAG_WAITALL)
                flags |= OVL_WAITALL;
        if (op->flags & EVENT_FLAG_PEEK)
                flags |= OVL_PEEK;
        if (op->mode != worker->mode)
                flags |= OVL_QUIET;
        op->from_len = 0;
        if (op->op == EVENT_OP_RECVFROM && storm_pick(&worker->random, 4) > 0)
                return ovl_recvfrom(worker->thread, conn->socket, op->pieces, op->n_pieces, flags, &op->from,
                                    &op->from_len, &op->overlapped, routine);
        if (op->op == EVENT_OP_SENDTO && place != 0)
                return ovl_sendto(worker->thread, conn->socket, op->pieces, op->n_pieces, flags,
                                  (struct sockaddr *) &address, address_len, &op->overlapped, routine);
        switch (op->op) {
        case EVENT_OP_RECV:
        case EVENT_OP_RECVFROM:
                return ovl_recv(worker->thread, conn->socket, op->pieces, op->n_pieces, flags, &op->overlapped,
                                routine);
        case EVENT_OP_SEND:
        case EVENT_OP_SENDTO:
                return ovl_send(worker->thread, conn->socket, op->pieces, op->n_pieces, flags, &op->overlapped,
                                routine);
        case EVENT_OP_ACCEPT:
                return ovl_accept(worker->thread, conn->socket, flags, &op->overlapped, routine);
        default:
                return ovl_connect(worker->thread, conn->socket, (struct sockaddr *) &address, address_len, flags,
                                   &op->overlapped, routine);
        }
}

/* The event that the operation is to set. One that asks for a verdict has one that nobody else resets. */
static struct ovl_event *storm_op_event(struct storm_worker *worker, const struct storm_op *op) {
        if (op->mode != EVENT_MODE_EVENT)
                return NULL;
        return op->events[op->flags & EVENT_FLAG_VERDICT ? 1 : storm_pick(&worker->random, 2)];
}

static void storm_op_write_result(struct storm_worker *worker, const struct storm_op *op, int result) {
        struct event event = { .kind = EVENT_RESULT, .id = op->id, .status = result };

        if (op->mode == EVENT_MODE_EVENT && result == 0 && ovl_event_poll(op->overlapped.event, NULL) == 1)
                event.flags = EVENT_FLAG_SET;
        journal_add(worker->journal, event);
}

static void storm_op_fill(struct storm_worker *worker, struct storm_conn *conn, struct storm_op *op, uint32_t len) {
        storm_op_cut(worker, op, len);
        if (op->op == EVENT_OP_SEND)
                pattern_fill(conn->number, conn->offset, op->memory, len);
        else if (op->op == EVENT_OP_SENDTO)
                pattern_fill(pattern_datagram(conn->number, conn->order[EVENT_OP_SENDTO]), 0, op->memory, len);
        else
                memset(op->memory, 0xee, len);
}

static void storm_op_write_post(struct storm_worker *worker, struct storm_conn *conn, struct storm_op *op,
                                uint32_t place) {
        struct event event = {
                .op = op->op,
                .mode = op->mode,
                .flags = op->flags,
                .body.post = { .conn = conn->number,
                               .offset = conn->offset,
                               .order = conn->order[op->op]++,
                               .len = op->len,
                               .to = place },
        };

        op->id = journal_post(worker->journal, event);
        __atomic_fetch_add(&worker->client->board->posts[worker->client->slot], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&worker->client->board->steps[worker->client->slot], 1, __ATOMIC_RELAXED);
}

int storm_op_post(struct storm_worker *worker, struct storm_conn *conn, enum event_op kind, uint32_t len,
                  unsigned flags, uint32_t place) {
        bool is_aborted = __atomic_load_n(&worker->client->is_aborted, __ATOMIC_RELAXED);
        struct storm_op *op = is_aborted ? NULL : storm_op_take(worker);
        int r;

        if (!op)
                return -EAGAIN;
        op->op = kind;
        op->flags = flags;
        op->mode = worker->mode;
        /*
         * Closing a thread cancels a send that its socket's port does not hear of, and none behind it: whoever leaves
         * with such a send pending tears the stream, by right.
         */
        if (worker->mode == EVENT_MODE_PORT && storm_pick(&worker->random, 16) == 0 &&
            !(kind == EVENT_OP_SEND && worker->client->is_leaver))
                op->mode = EVENT_MODE_PLAIN;
        storm_op_fill(worker, conn, op, len);
        storm_op_write_post(worker, conn, op, place != 0 ? place : conn->peer);
        op->overlapped.event = storm_op_event(worker, op);
        __atomic_store_n(&op->event, op->overlapped.event, __ATOMIC_RELAXED);
        __atomic_store_n(&op->in_flight, true, __ATOMIC_RELEASE);
        __atomic_store_n(&op->conn, conn, __ATOMIC_RELAXED);
        __atomic_fetch_add(&worker->n_out, 1, __ATOMIC_RELAXED);
        if (worker->mode == EVENT_MODE_PORT)
                __atomic_fetch_add(&worker->client->n_port_out, 1, __ATOMIC_RELAXED);
        r = storm_op_call(worker, conn, op, place);
        if (r != OVL_PENDING)
                storm_op_write_result(worker, op, r);
        if (r < 0) {
                storm_op_give(op);
                return r;
        }
        __atomic_fetch_add(&worker->client->board->n_posts, 1, __ATOMIC_RELAXED);
        conn->n_out[kind]++;
        conn->last[kind] = worker;
        conn->moved_ns = now_ns();
        if (kind == EVENT_OP_SEND)
                conn->offset += len;
        return 0;
}

/* Hashes what a receive says it has brought; a count that is too large is the ledger's to find. */
static void storm_op_hash(const struct storm_op *op, uint64_t bytes, struct event *event) {
        uint64_t left = bytes < op->len ? bytes : op->len, hash = PATTERN_HASH_START;

        memcpy(&event->body.record.head, op->memory, left < 8 ? left : 8);
        for (uint32_t i = 0; i < op->n_pieces; i++) {
                uint64_t n = op->pieces[i].len < left ? op->pieces[i].len : left;

                hash = pattern_hash(hash, op->pieces[i].data, n);
                left -= n;
        }
        event->body.record.hash = hash;
}

void storm_op_done(struct storm_worker *worker, struct storm_op *op, enum event_mode mode, uint64_t key) {
        int status = ovl_result(&op->overlapped);
        uint64_t bytes = op->overlapped.bytes, value = op->overlapped.value;
        bool is_first = op->in_flight, is_end = op->op == EVENT_OP_RECV && op->len > 0 && status == 0 && bytes == 0;
        enum event_op kind = op->op;
        struct event event = {
                .kind = EVENT_RECORD,
                .op = op->op,
                .mode = mode,
                .id = op->id,
                .status = status,
                .body.record = { .bytes = bytes, .key = key },
        };
        struct storm_conn *conn = op->conn;

        if (op->op == EVENT_OP_RECV || op->op == EVENT_OP_RECVFROM)
                storm_op_hash(op, bytes, &event);
        if (op->op == EVENT_OP_RECVFROM && op->from_len > 0)
                event.body.record.from = storm_address_place(&op->from);
        if (op->overlapped.flags & OVL_TRUNCATED)
                event.flags = EVENT_FLAG_TRUNCATED;
        journal_add(worker->journal, event);
        __atomic_fetch_add(&worker->client->board->steps[worker->client->slot], 1, __ATOMIC_RELAXED);
        if (!is_first || !conn)
                return;
        /* Before its memory can be used again: where the library gave the session up, the daemon did not, and sends. */
        if (status == -ECONNABORTED)
                storm_worker_failed(worker, "an operation", status);
        pthread_mutex_lock(&conn->lock);
        storm_op_give(op);
        conn->n_out[kind]--;
        conn->moved_ns = now_ns();
        storm_conn_op_ended(worker, conn, kind, status, is_end);
        pthread_mutex_unlock(&conn->lock);
        if (kind == EVENT_OP_ACCEPT && status == 0)
                storm_conn_adopt(worker, value);
}
