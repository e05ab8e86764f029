/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams. The bytes that a connection sent are its sends in posting order, each with as many bytes as its record says
 * have left; the bytes that a connection received are its receives in posting order. The first eight bytes received
 * name the connection that sent them. A cursor walks over the sends and gives the bytes that must come next; their hash
 * must be the one that the storm took of the bytes that came.
 *
 * Invariant: the cursor only moves forward, and never past what was sent.
 *
 *   unnamed --first eight bytes received--> named --receive--> named
 *   named --receive of nothing, status 0--> ended: the totals must agree
 *   named --send whose fate a killed client took with it--> open: what follows is counted as unverified
 *
 * Rejected: comparing in the storm only. A storm that computes offsets and bytes wrongly would agree with itself.
 */

#include <errno.h>
#include <stdio.h>

#include "tests/ledger/pattern.h"
#include "tests/ledger/stream.h"

/* A place in what a connection sent. */
struct stream_cursor {
        const struct book_conn *sender; /* borrowed */
        size_t send;                    /* which of its sends */
        uint64_t within;                /* bytes of that send that are behind */
        bool is_open;                   /* what follows is not known */
};

struct stream {
        const struct books *books; /* borrowed */
        struct report *report;     /* borrowed */
        const struct book_conn *receiver;
        struct stream_cursor cursor;
        uint64_t received;
        bool has_ended;  /* an end of the stream was received */
        bool has_failed; /* a receive failed: what follows is no orderly end */
        bool is_short;   /* a receive that waits for all got less: nothing may follow */
};

/*
 * Whether an operation started, and what it moved was never learnt: its record is missing, its session was lost, or it
 * is a send that failed with its connection, of which nobody knows what arrived.
 */
static bool stream_is_due(const struct book_op *op) {
        if (op->n_records > 0)
                return op->status == -ECONNABORTED ||
                       (op->op == EVENT_OP_SEND && op->status < 0 && op->status != -ECANCELED);
        return !(op->has_result && op->result < 0);
}

/* How many bytes of a send have left, as far as anybody knows. */
static uint64_t stream_sent(const struct book_op *op) {
        if (stream_is_due(op))
                return op->len;
        return op->n_records > 0 ? op->bytes : 0;
}

/*
 * Such a send may have left in full, in part or not at all. As long as none could be cancelled, those behind it can
 * only leave after all of it; once one could, what follows is open.
 */
static bool stream_is_open_at(const struct stream_cursor *cursor, const struct book_op *op) {
        return stream_is_due(op) && cursor->sender->cancel_ns != 0;
}

/* Hashes the next `len` bytes that must come. Returns 1, or 0 when fewer were sent or what was sent is not known. */
static int stream_expect(struct stream_cursor *cursor, uint64_t len, uint64_t *ret_hash) {
        const struct book_group *sends = &cursor->sender->groups[EVENT_OP_SEND];
        uint64_t hash = PATTERN_HASH_START;
        uint8_t bytes[4096];

        while (len > 0) {
                const struct book_op *op;
                uint64_t n;

                if (cursor->send == sends->n_ops)
                        return 0;
                op = sends->ops[cursor->send];
                if (stream_is_open_at(cursor, op)) {
                        cursor->is_open = true;
                        return 0;
                }
                n = stream_sent(op) - cursor->within;
                if (n == 0) {
                        cursor->send++;
                        cursor->within = 0;
                        continue;
                }
                n = n < len ? n : len;
                n = n < sizeof(bytes) ? n : sizeof(bytes);
                pattern_fill(cursor->sender->number, op->offset + cursor->within, bytes, n);
                hash = pattern_hash(hash, bytes, n);
                cursor->within += n;
                len -= n;
        }
        *ret_hash = hash;
        return 1;
}

/* The number that the first bytes carry, pieced together from as many receives as it takes; 0 when fewer came. */
static uint64_t stream_name(const struct book_group *receives) {
        uint64_t name = 0;
        unsigned have = 0;

        for (size_t i = 0; i < receives->n_ops && have < 8; i++) {
                const struct book_op *op = receives->ops[i];
                uint64_t n = op->n_records > 0 && !(op->flags & EVENT_FLAG_PEEK) ? op->bytes : 0;

                if (stream_is_due(op))
                        return 0;
                for (uint64_t byte = 0; byte < n && byte < 8 && have < 8; byte++)
                        name |= ((op->head >> (8 * byte)) & 0xff) << (8 * have++);
        }
        return have == 8 ? name : 0;
}

static void stream_receive(struct stream *stream, const struct book_op *op, struct stream_totals *totals) {
        struct stream_cursor cursor = stream->cursor;
        uint64_t hash;
        char text[64];
        int r;

        if (stream->has_ended || stream->is_short)
                report_add(stream->report, REPORT_ORDER, "%s: %llu bytes after the end of the stream",
                           books_describe(op, text), (unsigned long long) op->bytes);
        r = cursor.is_open ? 0 : stream_expect(&cursor, op->bytes, &hash);
        if (cursor.is_open)
                totals->bytes_unverified += op->bytes;
        else if (r == 0)
                report_add(stream->report, REPORT_BYTES, "%s: stream %llx, bytes %llu to %llu were never sent",
                           books_describe(op, text), (unsigned long long) cursor.sender->number,
                           (unsigned long long) stream->received, (unsigned long long) (stream->received + op->bytes));
        else if (hash != op->hash)
                report_add(stream->report, REPORT_BYTES, "%s: stream %llx, bytes %llu to %llu are not those sent",
                           books_describe(op, text), (unsigned long long) cursor.sender->number,
                           (unsigned long long) stream->received, (unsigned long long) (stream->received + op->bytes));
        else
                totals->bytes_compared += op->bytes;
        if (op->flags & EVENT_FLAG_PEEK)
                return;
        stream->cursor = cursor;
        stream->received += op->bytes;
}

/* An orderly end says that everything arrived: what the sender's records count is what the receiver's count. */
static void stream_check_total(struct stream *stream, struct stream_totals *totals) {
        const struct book_group *sends = &stream->cursor.sender->groups[EVENT_OP_SEND];
        uint64_t sent = 0;

        if (!stream->has_ended || stream->cursor.is_open)
                return;
        for (size_t i = 0; i < sends->n_ops; i++) {
                const struct book_op *op = sends->ops[i];

                if (stream_is_due(op))
                        return;
                sent += op->n_records > 0 ? op->bytes : 0;
        }
        totals->n_ended++;
        if (sent != stream->received)
                report_add(stream->report, REPORT_BYTES,
                           "stream %llx: %llu bytes sent, %llu received before its orderly end (by %llx)",
                           (unsigned long long) stream->cursor.sender->number, (unsigned long long) sent,
                           (unsigned long long) stream->received, (unsigned long long) stream->receiver->number);
}

static bool stream_is_end(const struct stream *stream, const struct book_op *op) {
        bool is_shut = stream->receiver->shutdown_ns[0] != 0 && stream->receiver->shutdown_ns[0] <= op->seen_ns;

        return op->status == 0 && op->bytes == 0 && op->len > 0 && !is_shut && !stream->has_failed;
}

static bool stream_is_short(const struct stream *stream, const struct book_op *op) {
        bool is_shut = stream->receiver->shutdown_ns[0] != 0 && stream->receiver->shutdown_ns[0] <= op->seen_ns;

        return op->status == 0 && (op->flags & EVENT_FLAG_WAITALL) && op->bytes < op->len && !is_shut;
}

static void stream_check_one(const struct books *books, const struct book_conn *receiver, struct report *report,
                             struct stream_totals *totals) {
        struct stream stream = { .books = books, .report = report, .receiver = receiver };
        const struct book_group *receives = &receiver->groups[EVENT_OP_RECV];
        uint64_t name = stream_name(receives);

        if (name == 0) {
                for (size_t i = 0; i < receives->n_ops; i++)
                        totals->bytes_unverified += receives->ops[i]->bytes;
                return;
        }
        totals->n_streams++;
        stream.cursor.sender = books_find_conn(books, name);
        if (!stream.cursor.sender) {
                report_add(report, REPORT_BYTES, "connection %llx received bytes of a stream %llx that does not exist",
                           (unsigned long long) receiver->number, (unsigned long long) name);
                return;
        }
        for (size_t i = 0; i < receives->n_ops; i++) {
                const struct book_op *op = receives->ops[i];

                /* What a receive without a record took out of the stream is not known, nor is what comes after it. */
                stream.cursor.is_open |= stream_is_due(op);
                if (op->n_records == 0)
                        continue;
                if (op->bytes > 0)
                        stream_receive(&stream, op, totals);
                stream.has_failed |= op->status < 0 && op->status != -ECANCELED;
                stream.has_ended |= stream_is_end(&stream, op);
                stream.is_short |= stream_is_short(&stream, op);
        }
        stream_check_total(&stream, totals);
}

void stream_check(const struct books *books, struct report *report, struct stream_totals *ret_totals) {
        struct stream_totals totals = {};

        for (size_t i = 0; i < books->n_conns; i++)
                stream_check_one(books, &books->conns[i], report, &totals);
        *ret_totals = totals;
}

void stream_print(const struct stream_totals *totals) {
        printf("  %-44s %10llu\n", "streams compared", (unsigned long long) totals->n_streams);
        printf("  %-44s %10llu\n", "  of these to their orderly end", (unsigned long long) totals->n_ended);
        printf("  %-44s %10llu\n", "bytes received and right", (unsigned long long) totals->bytes_compared);
        printf("  %-44s %10llu\n", "bytes whose origin died with a client",
               (unsigned long long) totals->bytes_unverified);
}
