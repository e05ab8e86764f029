/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One operation at a time. Each that started must have exactly one record, in the way and for the thread that its post
 * asked for, with a status that something in the books explains. Only two things excuse a missing record: the client
 * was killed, or it freed its session; nothing excuses a second one.
 *
 * Invariant: what is judged here needs no bytes; those are judged in stream.c.
 *
 * Rejected: accepting any errno that the kernel may give. A status is explained by a mark in the books (a close, a
 * shutdown, a cancel, a peer) or it is off; a list of harmless errors would hide the first wrong one.
 */

#include <errno.h>
#include <stdio.h>

#include "tests/ledger/check.h"

static bool check_started(const struct book_op *op) {
        return op->mode != EVENT_MODE_KERNEL && !(op->has_result && op->result < 0);
}

static void check_records(const struct book_op *op, const struct book_client *client, struct report *report) {
        bool excused = client->is_killed || client->is_left || client->is_crashed;
        char text[64];

        if (op->n_records > 1)
                report_add(report, REPORT_DOUBLED, "%s: %u records", books_describe(op, text), op->n_records);
        if (op->n_records > 0 && op->has_result && op->result < 0)
                report_add(report, REPORT_FORGED, "%s: refused by its call (%d), and yet a record with status %d",
                           books_describe(op, text), op->result, op->status);
        if (op->n_records == 0 && check_started(op) && !excused)
                report_add(report, REPORT_LOST, "%s: no record (mode %u, order %u, %u bytes)", books_describe(op, text),
                           op->mode, op->order, op->len);
}

/*
 * Routines and raw records belong to the thread that posted; ports, events and results to any thread of the same
 * client.
 */
static void check_thread(const struct books *books, const struct book_op *op, struct report *report) {
        const struct book_journal *posted = &books->journals[op->journal], *seen = &books->journals[op->seen_journal];
        char text[64];

        if (seen->client != posted->client)
                report_add(report, REPORT_THREAD, "%s: posted by client %u, seen by client %u",
                           books_describe(op, text), posted->journal.header->client, seen->journal.header->client);
        else if (op->mode != EVENT_MODE_PORT && op->mode != EVENT_MODE_PLAIN && op->mode != EVENT_MODE_EVENT &&
                 seen->journal.header->tid != posted->journal.header->tid)
                report_add(report, REPORT_THREAD, "%s: posted by thread %u, indicated in thread %u",
                           books_describe(op, text), posted->journal.header->tid, seen->journal.header->tid);
        if (op->seen_mode != op->mode)
                report_add(report, REPORT_INDICATION, "%s: posted with indication %u, indicated as %u",
                           books_describe(op, text), op->mode, op->seen_mode);
        if (op->key != 0 && op->key != books->conns[op->conn].number)
                report_add(report, REPORT_INDICATION, "%s: key %llx instead of %llx", books_describe(op, text),
                           (unsigned long long) op->key, (unsigned long long) books->conns[op->conn].number);
}

/* A call that says that the operation is done was asked for a verdict, and its event is set. */
static void check_at_once(const struct book_op *op, struct report *report) {
        char text[64];

        if (op->mode == EVENT_MODE_KERNEL || !op->has_result || op->result < 0)
                return;
        if (!(op->flags & EVENT_FLAG_VERDICT))
                report_add(report, REPORT_INDICATION, "%s: its call returned %d, and nobody asked for a verdict",
                           books_describe(op, text), op->result);
        if (op->mode == EVENT_MODE_EVENT && !op->was_set)
                report_add(report, REPORT_INDICATION, "%s: its call said that it is done, and its event was not set",
                           books_describe(op, text));
}

static bool check_before(uint64_t mark_ns, const struct book_op *op) {
        return mark_ns != 0 && mark_ns <= op->seen_ns;
}

static bool check_explained(const struct books *books, const struct book_op *op, int status) {
        const struct book_conn *conn = &books->conns[op->conn];
        const struct book_client *client = &books->clients[conn->client];
        bool moves = op->op == EVENT_OP_RECV || op->op == EVENT_OP_SEND;
        bool is_datagram = op->op == EVENT_OP_RECVFROM || op->op == EVENT_OP_SENDTO;
        unsigned side = op->op == EVENT_OP_SEND;

        switch (status) {
        case 0:
                return true;
        case -ECANCELED:
                return check_before(conn->close_ns, op) || check_before(conn->cancel_ns, op) || client->is_left;
        case -EBADF:
                return check_before(conn->close_ns, op);
        case -ESHUTDOWN:
                return moves && check_before(conn->shutdown_ns[side], op);
        case -EPIPE:
                return op->op == EVENT_OP_SEND;
        case -ECONNRESET:
                return moves || op->op == EVENT_OP_CONNECT;
        case -EMSGSIZE:
                return op->op == EVENT_OP_RECVFROM && op->was_truncated && op->bytes == op->len;
        case -ECONNREFUSED: /* a receive: an earlier datagram was; a send on a Unix socket that has a peer: this one */
                if (op->op == EVENT_OP_RECVFROM)
                        return conn->groups[EVENT_OP_SENDTO].n_ops > 0;
                return op->op == EVENT_OP_CONNECT || (is_datagram && conn->groups[EVENT_OP_CONNECT].n_ops > 0);
        case -EADDRNOTAVAIL:
        case -ETIMEDOUT:
                return op->op == EVENT_OP_CONNECT;
        case -ECONNABORTED:
                return client->is_aborted;
        default:
                return false;
        }
}

static void check_status(const struct books *books, const struct book_op *op, struct report *report) {
        bool is_peek = op->flags & EVENT_FLAG_PEEK, is_send = op->op == EVENT_OP_SEND || op->op == EVENT_OP_SENDTO;
        char text[64];

        if (!check_explained(books, op, op->status))
                report_add(report, REPORT_STATUS, "%s: status %d, which nothing explains (mode %u, order %u, %u bytes)",
                           books_describe(op, text), op->status, op->mode, op->order, op->len);
        if (op->bytes > op->len)
                report_add(report, REPORT_BYTES, "%s: %llu bytes in a buffer of %u", books_describe(op, text),
                           (unsigned long long) op->bytes, op->len);
        if (is_send && op->status == 0 && op->bytes != op->len)
                report_add(report, REPORT_BYTES, "%s: ended well with %llu of %u bytes", books_describe(op, text),
                           (unsigned long long) op->bytes, op->len);
        if (op->op == EVENT_OP_RECV && op->status < 0 && op->bytes > 0 && (is_peek || op->status == -EBADF))
                report_add(report, REPORT_STATUS, "%s: status %d and yet %llu bytes", books_describe(op, text),
                           op->status, (unsigned long long) op->bytes);
        if (op->op == EVENT_OP_RECVFROM && op->status < 0 && op->status != -EMSGSIZE && op->bytes > 0)
                report_add(report, REPORT_STATUS, "%s: status %d and yet %llu bytes", books_describe(op, text),
                           op->status, (unsigned long long) op->bytes);
        if (op->was_truncated && op->status != -EMSGSIZE)
                report_add(report, REPORT_STATUS, "%s: status %d, and said to be truncated", books_describe(op, text),
                           op->status);
}

/*
 * What another session does to a shared socket comes at any time, and what is refused or cancelled for it may be told
 * before what is still in flight.
 */
static bool check_may_come_early(const struct book_conn *conn, const struct book_op *op) {
        return conn->shared_with != 0 && (op->status == -ESHUTDOWN || op->status == -ECANCELED);
}

/*
 * Posts are numbered without gaps; routines of one socket and direction run in posting order, unless one was picked out
 * to be cancelled, or the session was lost and the library ended what was pending.
 */
static void check_order(const struct books *books, const struct book_conn *conn, const struct book_group *group,
                        struct report *report) {
        const struct book_op *last = NULL;
        char text[64];

        for (size_t i = 0; i < group->n_ops; i++) {
                const struct book_op *op = group->ops[i];

                if (op->order != i) {
                        report_add(report, REPORT_FILE, "%s: order %u, expected %zu", books_describe(op, text),
                                   op->order, i);
                        return;
                }
                if (conn->cancel_ns != 0 || op->n_records == 0 || !check_started(op) || op->status == -ECONNABORTED ||
                    check_may_come_early(conn, op) || (op->mode != EVENT_MODE_ROUTINE && op->mode != EVENT_MODE_RAW))
                        continue;
                if (last && last->seen_journal == op->seen_journal && last->seen_place > op->seen_place)
                        report_add(report, REPORT_ORDER,
                                   "%s: order %u, status %d, %llu bytes, indicated before order %u, status %d, "
                                   "%llu bytes (connection %llx)",
                                   books_describe(op, text), op->order, op->status, (unsigned long long) op->bytes,
                                   last->order, last->status, (unsigned long long) last->bytes,
                                   (unsigned long long) conn->number);
                last = op;
        }
}

static void check_count(const struct books *books, const struct book_op *op, struct check_totals *totals) {
        const struct book_conn *conn = &books->conns[op->conn];
        const struct book_client *client = &books->clients[conn->client];
        unsigned side = op->op == EVENT_OP_SEND;
        bool is_pending = op->n_records == 0, cancelled = op->n_records > 0 && op->status == -ECANCELED;
        uint64_t shutdown_ns = op->op <= EVENT_OP_SEND ? conn->shutdown_ns[side] : 0;

        if (op->mode == EVENT_MODE_KERNEL)
                totals->n_kernel++;
        else if (!check_started(op))
                totals->n_refused++;
        if (!check_started(op))
                return;
        totals->n_all++;
        totals->n_ops[op->op]++;
        totals->n_mode[op->mode]++;
        totals->n_records += op->n_records;
        totals->n_at_once += op->has_result && op->result == 0;
        totals->n_shared += conn->shared_with != 0;
        totals->n_moved += op->bytes > 0;
        totals->n_closed_under += cancelled && check_before(conn->close_ns, op) && op->posted_ns < conn->close_ns;
        totals->n_cancelled += cancelled && !check_before(conn->close_ns, op);
        totals->n_shut_under +=
                shutdown_ns != 0 && op->posted_ns < shutdown_ns && (is_pending || op->seen_ns > shutdown_ns);
        totals->n_killed += client->is_killed;
        totals->n_killed_pending += client->is_killed && is_pending;
        totals->n_left_pending += client->is_left && !client->is_killed && is_pending;
}

void check_ops(const struct books *books, struct report *report, struct check_totals *ret_totals) {
        struct check_totals totals = {};

        for (size_t i = 0; i < books->n_journals; i++) {
                const struct book_journal *file = &books->journals[i];

                for (size_t j = 0; j < file->n_ops; j++) {
                        const struct book_op *op = &file->ops[j];

                        check_count(books, op, &totals);
                        check_records(op, &books->clients[file->client], report);
                        check_at_once(op, report);
                        if (op->n_records == 0)
                                continue;
                        check_thread(books, op, report);
                        if (op->mode != EVENT_MODE_KERNEL)
                                check_status(books, op, report);
                }
        }
        for (size_t i = 0; i < books->n_conns; i++)
                for (unsigned op = 1; op < BOOKS_OPS; op++)
                        check_order(books, &books->conns[i], &books->conns[i].groups[op], report);
        *ret_totals = totals;
}

static double check_share(uint64_t part, uint64_t all) {
        return all > 0 ? 100.0 * (double) part / (double) all : 0;
}

void check_mix(const struct check_totals *totals, struct report *report) {
        const struct {
                const char *name;
                uint64_t n;
                double share;
        } demands[] = {
                { "moved data", totals->n_moved, 30 },
                { "were closed under", totals->n_closed_under, 5 },
                { "were shut down under", totals->n_shut_under, 5 },
                { "were posted by a client that was killed", totals->n_killed, 5 },
                { "waited for an event", totals->n_mode[EVENT_MODE_EVENT], 4 },
                { "were to receive datagrams", totals->n_ops[EVENT_OP_RECVFROM], 3 },
                { "were to send datagrams", totals->n_ops[EVENT_OP_SENDTO], 3 },
                { "were on sockets of two sessions", totals->n_shared, 0.5 },
                { "were cancelled", totals->n_cancelled, 0.1 },
        };

        for (size_t i = 0; i < sizeof(demands) / sizeof(demands[0]); i++)
                if (check_share(demands[i].n, totals->n_all) < demands[i].share)
                        report_add(report, REPORT_MIX, "only %.2f %% of the operations %s; %.1f %% are demanded",
                                   check_share(demands[i].n, totals->n_all), demands[i].name, demands[i].share);
}

static void check_print_line(const char *name, uint64_t n, uint64_t all) {
        printf("  %-44s %10llu  %6.2f %%\n", name, (unsigned long long) n, check_share(n, all));
}

void check_print(const struct books *books, const struct check_totals *totals) {
        unsigned n_killed = 0, n_left = 0;

        for (size_t i = 0; i < books->n_clients; i++) {
                n_killed += books->clients[i].is_killed;
                n_left += books->clients[i].is_left;
        }
        printf("ledger: %zu events of %zu threads in %zu processes; %u killed, %u left their session\n",
               books->n_events, books->n_journals, books->n_clients, n_killed, n_left);
        check_print_line("operations that started", totals->n_all, totals->n_all);
        check_print_line("  receives", totals->n_ops[EVENT_OP_RECV], totals->n_all);
        check_print_line("  sends", totals->n_ops[EVENT_OP_SEND], totals->n_all);
        check_print_line("  accepts", totals->n_ops[EVENT_OP_ACCEPT], totals->n_all);
        check_print_line("  connects", totals->n_ops[EVENT_OP_CONNECT], totals->n_all);
        check_print_line("  datagrams to receive", totals->n_ops[EVENT_OP_RECVFROM], totals->n_all);
        check_print_line("  datagrams to send", totals->n_ops[EVENT_OP_SENDTO], totals->n_all);
        check_print_line("  by routine", totals->n_mode[EVENT_MODE_ROUTINE], totals->n_all);
        check_print_line("  by port", totals->n_mode[EVENT_MODE_PORT], totals->n_all);
        check_print_line("  by event", totals->n_mode[EVENT_MODE_EVENT], totals->n_all);
        check_print_line("  polled or waited for", totals->n_mode[EVENT_MODE_PLAIN], totals->n_all);
        check_print_line("  raw, without the library", totals->n_mode[EVENT_MODE_RAW], totals->n_all);
        check_print_line("on sockets of two sessions", totals->n_shared, totals->n_all);
        check_print_line("ended within their call", totals->n_at_once, totals->n_all);
        check_print_line("records", totals->n_records, totals->n_all);
        check_print_line("moved data", totals->n_moved, totals->n_all);
        check_print_line("closed under (ended by it)", totals->n_closed_under, totals->n_all);
        check_print_line("shut down under", totals->n_shut_under, totals->n_all);
        check_print_line("cancelled", totals->n_cancelled, totals->n_all);
        check_print_line("posted by a client that was then killed", totals->n_killed, totals->n_all);
        check_print_line("  of these pending at its death", totals->n_killed_pending, totals->n_all);
        check_print_line("pending when their session was freed", totals->n_left_pending, totals->n_all);
        check_print_line("refused by their call", totals->n_refused, totals->n_all);
        check_print_line("transfers on ordinary sockets", totals->n_kernel, totals->n_all);
}
