/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Datagrams. One of eight bytes or more names the connection that sent it and which of its datagrams it is, so that it
 * can be compared with its own account: sent at all, to this place, with these bytes, and not received before. Empty
 * ones, and ones that were cut below eight bytes, can only be counted: no place receives more than were sent to it.
 *
 * Invariant: a datagram may be lost on its way, and none may be added. Receives of one socket take datagrams in posting
 * order, and those of one sender arrive in the order in which it posted them: the loopback has one queue.
 *
 * Rejected: demanding that nothing is lost. A receiver that closes with datagrams in its kernel buffer loses them by
 * right. But one that goes on receiving what the same sender sent later has lost them only if the kernel had no room,
 * and it counts those.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ledger/datagram.h"
#include "tests/ledger/pattern.h"

/* What a place was sent, and has received. */
struct datagram_place {
        uint32_t n_sent;
        uint32_t n_sent_empty;
        uint32_t n_taken;
        uint32_t n_taken_empty;
};

/* How far a receiver is with one sender. */
struct datagram_source {
        uint64_t sender;
        uint64_t next; /* the lowest number that may come now */
};

struct datagram_walk {
        struct books *books;   /* borrowed, as are the next two */
        struct report *report; /* what is off */
        struct datagram_totals *totals;
        struct datagram_place *places; /* EVENT_PLACES of them */
        const struct book_conn *receiver;
        struct datagram_source *sources;
        size_t n_sources;
        size_t sources_size;
        uint64_t peeked; /* the datagram that was looked at last and is still there; 0: none that is known */
};

static bool datagram_is_taken(const struct book_op *op) {
        return op->n_records > 0 && (op->status == 0 || op->status == -EMSGSIZE);
}

/* Whether it may have left: it has, or nobody knows. */
static bool datagram_may_have_left(const struct book_op *op) {
        if (op->has_result && op->result < 0)
                return false;
        return op->n_records == 0 || op->status == 0 || op->status == -ECONNABORTED;
}

static struct datagram_source *datagram_source(struct datagram_walk *walk, uint64_t sender) {
        struct datagram_source *moved;

        for (size_t i = 0; i < walk->n_sources; i++)
                if (walk->sources[i].sender == sender)
                        return &walk->sources[i];
        if (walk->n_sources == walk->sources_size) {
                moved = realloc(walk->sources, (2 * walk->sources_size + 16) * sizeof(*moved));
                if (!moved)
                        return NULL;
                walk->sources = moved;
                walk->sources_size = 2 * walk->sources_size + 16;
        }
        walk->sources[walk->n_sources] = (struct datagram_source){ .sender = sender };
        return &walk->sources[walk->n_sources++];
}

/* The account of the datagram whose first bytes these are, or NULL. */
static struct book_op *datagram_find(const struct datagram_walk *walk, uint64_t head, struct book_conn **ret_sender) {
        uint64_t number = (head & ~PATTERN_DATAGRAM) >> PATTERN_SERIAL_BITS, serial = head & PATTERN_SERIAL_MASK;
        struct book_conn *sender = head & PATTERN_DATAGRAM ? books_find_conn(walk->books, number) : NULL;

        *ret_sender = sender;
        if (!sender || serial >= sender->groups[EVENT_OP_SENDTO].n_ops)
                return NULL;
        return sender->groups[EVENT_OP_SENDTO].ops[serial];
}

/* Returns whether bytes and length are those of the datagram that was sent. */
static bool datagram_compare(struct datagram_walk *walk, const struct book_op *op, const struct book_op *sent) {
        uint64_t hash = PATTERN_HASH_START, left = op->bytes;
        uint8_t bytes[4096];
        char text[64], other[64];

        for (uint64_t at = 0; left > 0;) {
                uint64_t n = left < sizeof(bytes) ? left : sizeof(bytes);

                pattern_fill(op->head, at, bytes, n);
                hash = pattern_hash(hash, bytes, n);
                at += n;
                left -= n;
        }
        if (hash != op->hash) {
                report_add(walk->report, REPORT_BYTES, "%s: its %llu bytes are not those of %s",
                           books_describe(op, text), (unsigned long long) op->bytes, books_describe(sent, other));
                return false;
        }
        if (op->status == 0 ? op->bytes == sent->len : op->bytes < sent->len && op->bytes == op->len)
                return true;
        report_add(walk->report, REPORT_BYTES, "%s: status %d, %llu bytes in a buffer of %u, and %s has %u",
                   books_describe(op, text), op->status, (unsigned long long) op->bytes, op->len,
                   books_describe(sent, other), sent->len);
        return false;
}

/* To whom it was sent, and from where, in so far as both ends have told their places. */
static void datagram_check_places(struct datagram_walk *walk, const struct book_op *op, const struct book_op *sent,
                                  const struct book_conn *sender) {
        char text[64], other[64];

        if (walk->receiver->name != 0 && sent->to != 0 && sent->to != walk->receiver->name)
                report_add(walk->report, REPORT_BYTES, "%s: at place %llx, and %s was sent to %llx",
                           books_describe(op, text), (unsigned long long) walk->receiver->name,
                           books_describe(sent, other), (unsigned long long) sent->to);
        if (op->from == 0 || sender->name == 0)
                return;
        walk->totals->n_addressed++;
        if (op->from != sender->name)
                report_add(walk->report, REPORT_INDICATION, "%s: from place %llx, and %s was sent from %llx",
                           books_describe(op, text), (unsigned long long) op->from, books_describe(sent, other),
                           (unsigned long long) sender->name);
}

/* What was looked at stays the first in the socket, and the next receive takes it. */
static void datagram_check_peek(struct datagram_walk *walk, const struct book_op *op) {
        char text[64];

        if (walk->peeked != 0 && walk->peeked != op->head)
                report_add(walk->report, REPORT_ORDER, "%s: %llx, and before it %llx was looked at and is not taken",
                           books_describe(op, text), (unsigned long long) op->head, (unsigned long long) walk->peeked);
        walk->peeked = op->flags & EVENT_FLAG_PEEK ? op->head : 0;
}

/* Whether a datagram came to where the receiver was, so that nothing but a lack of room keeps it from there. */
static bool datagram_has_come(const struct book_conn *receiver, const struct book_op *sent) {
        return receiver->name != 0 && sent->to == receiver->name && sent->posted_ns > receiver->name_ns &&
               sent->n_records > 0 && sent->status == 0 && sent->len > 0 && sent->n_taken == 0;
}

static void datagram_check_order(struct datagram_walk *walk, const struct book_op *op, struct book_op *sent,
                                 const struct book_conn *sender) {
        struct datagram_source *source = datagram_source(walk, sender->number);
        uint64_t serial = op->head & PATTERN_SERIAL_MASK;
        bool is_peek = op->flags & EVENT_FLAG_PEEK, is_again;
        char text[64], other[64];

        if (!source)
                return;
        is_again = !is_peek && serial + 1 == source->next;
        if (serial < source->next && !is_again)
                report_add(walk->report, REPORT_ORDER, "%s: %s arrived after number %llu of the same connection",
                           books_describe(op, text), books_describe(sent, other),
                           (unsigned long long) (source->next - 1));
        if (is_peek)
                return;
        for (uint64_t i = source->next; i < serial; i++)
                walk->totals->n_overtaken += datagram_has_come(walk->receiver, sender->groups[EVENT_OP_SENDTO].ops[i]);
        source->next = serial + 1;
        if (sent->n_taken++ > 0)
                report_add(walk->report, REPORT_DOUBLED, "%s: %s was received before", books_describe(op, text),
                           books_describe(sent, other));
}

static void datagram_check_named(struct datagram_walk *walk, const struct book_op *op) {
        struct book_conn *sender;
        struct book_op *sent = datagram_find(walk, op->head, &sender);
        char text[64];

        if (!sent || !datagram_may_have_left(sent)) {
                report_add(walk->report, REPORT_BYTES, "%s: datagram %llx was never sent", books_describe(op, text),
                           (unsigned long long) op->head);
                return;
        }
        if (!datagram_compare(walk, op, sent)) {
                /* Which datagram that was is not known. */
                walk->peeked = 0;
                return;
        }
        datagram_check_places(walk, op, sent, sender);
        datagram_check_peek(walk, op);
        datagram_check_order(walk, op, sent, sender);
}

static void datagram_count(struct datagram_walk *walk, const struct book_op *op) {
        struct datagram_place *place = &walk->places[walk->receiver->name % EVENT_PLACES];
        bool is_empty = op->status == 0 && op->bytes == 0;

        walk->totals->n_truncated += op->status == -EMSGSIZE;
        if (op->flags & EVENT_FLAG_PEEK) {
                walk->totals->n_peeked++;
                return;
        }
        walk->totals->n_taken++;
        walk->totals->n_empty += is_empty;
        walk->totals->n_unnamed += !is_empty && op->bytes < 8;
        place->n_taken++;
        place->n_taken_empty += is_empty;
}

static void datagram_walk(struct datagram_walk *walk) {
        const struct book_group *receives = &walk->receiver->groups[EVENT_OP_RECVFROM];

        walk->n_sources = 0;
        walk->peeked = 0;
        for (size_t i = 0; i < receives->n_ops; i++) {
                const struct book_op *op = receives->ops[i];
                bool is_refused = op->has_result && op->result < 0;

                /* What a receive without a record took is not known. */
                if (op->n_records == 0 && !is_refused)
                        walk->peeked = 0;
                if (!datagram_is_taken(op))
                        continue;
                datagram_count(walk, op);
                if (op->bytes >= 8)
                        datagram_check_named(walk, op);
                else
                        walk->peeked = 0;
        }
}

static void datagram_count_sent(struct datagram_walk *walk, const struct book_conn *sender) {
        const struct book_group *sends = &sender->groups[EVENT_OP_SENDTO];

        for (size_t i = 0; i < sends->n_ops; i++) {
                const struct book_op *op = sends->ops[i];
                struct datagram_place *place = &walk->places[op->to % EVENT_PLACES];

                if (!datagram_may_have_left(op))
                        continue;
                walk->totals->n_sent += op->n_records > 0 && op->status == 0;
                place->n_sent++;
                place->n_sent_empty += op->len == 0;
        }
}

/* Place 0 holds what has not told where it is, or where it went. */
static void datagram_check_counts(const struct datagram_walk *walk) {
        uint64_t n_nowhere = walk->places[0].n_sent;

        for (uint32_t at = 1; at < EVENT_PLACES && n_nowhere == 0; at++) {
                const struct datagram_place *place = &walk->places[at];

                if (place->n_taken > place->n_sent || place->n_taken_empty > place->n_sent_empty)
                        report_add(walk->report, REPORT_BYTES,
                                   "place %x: %u datagrams were received, %u of them empty; %u were sent there, %u of "
                                   "them empty",
                                   at, place->n_taken, place->n_taken_empty, place->n_sent, place->n_sent_empty);
        }
}

/* Those that were cut below their names were received, too, and nobody knows which they were. */
static void datagram_check_overtaken(const struct datagram_walk *walk) {
        const struct datagram_totals *totals = walk->totals;

        if (totals->n_overtaken > totals->n_unnamed + walk->books->n_dropped)
                report_add(walk->report, REPORT_LOST,
                           "%llu datagrams were overtaken by later ones; %llu were cut below their names, and the "
                           "kernel had no room for %llu",
                           (unsigned long long) totals->n_overtaken, (unsigned long long) totals->n_unnamed,
                           (unsigned long long) walk->books->n_dropped);
}

void datagram_check(struct books *books, struct report *report, struct datagram_totals *ret_totals) {
        struct datagram_totals totals = {};
        struct datagram_walk walk = { .books = books, .report = report, .totals = &totals };

        walk.places = calloc(EVENT_PLACES, sizeof(*walk.places));
        for (size_t i = 0; i < books->n_conns && walk.places; i++)
                datagram_count_sent(&walk, &books->conns[i]);
        for (size_t i = 0; i < books->n_conns && walk.places; i++) {
                walk.receiver = &books->conns[i];
                datagram_walk(&walk);
        }
        if (walk.places)
                datagram_check_counts(&walk);
        if (walk.places)
                datagram_check_overtaken(&walk);
        else
                report_add(report, REPORT_FILE, "no memory to judge datagrams");
        totals.n_lost = totals.n_sent > totals.n_taken ? totals.n_sent - totals.n_taken : 0;
        free(walk.places);
        free(walk.sources);
        *ret_totals = totals;
}

void datagram_mix(const struct datagram_totals *totals, struct report *report) {
        if (totals->n_taken * 2 < totals->n_sent)
                report_add(report, REPORT_MIX, "only %llu of %llu datagrams were received; half of them are demanded",
                           (unsigned long long) totals->n_taken, (unsigned long long) totals->n_sent);
        if (totals->n_truncated * 50 < totals->n_taken || totals->n_peeked * 100 < totals->n_taken ||
            totals->n_empty * 100 < totals->n_taken)
                report_add(
                        report, REPORT_MIX,
                        "of %llu datagrams only %llu were cut, %llu looked at and %llu empty; 2 %%, 1 %% and 1 %% are "
                        "demanded",
                        (unsigned long long) totals->n_taken, (unsigned long long) totals->n_truncated,
                        (unsigned long long) totals->n_peeked, (unsigned long long) totals->n_empty);
}

void datagram_print(const struct datagram_totals *totals) {
        printf("  %-44s %10llu\n", "datagrams sent", (unsigned long long) totals->n_sent);
        printf("  %-44s %10llu\n", "datagrams received", (unsigned long long) totals->n_taken);
        printf("  %-44s %10llu\n", "  of these empty", (unsigned long long) totals->n_empty);
        printf("  %-44s %10llu\n", "  of these cut to less than a name", (unsigned long long) totals->n_unnamed);
        printf("  %-44s %10llu\n", "datagrams looked at", (unsigned long long) totals->n_peeked);
        printf("  %-44s %10llu\n", "datagrams cut by their buffers", (unsigned long long) totals->n_truncated);
        printf("  %-44s %10llu\n", "datagrams with their sender's address", (unsigned long long) totals->n_addressed);
        printf("  %-44s %10llu\n", "datagrams that nobody received", (unsigned long long) totals->n_lost);
        printf("  %-44s %10llu\n", "  of these overtaken by later ones", (unsigned long long) totals->n_overtaken);
}
