/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_BOOKS_H
#define LEDGER_BOOKS_H

/* The events of a storm, brought together: one account for each operation, connection and client. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/ledger/journal.h"
#include "tests/ledger/report.h"

#define BOOKS_OPS EVENT_OPS /* enum event_op, and its 0 */

struct book_client {
        uint32_t number;
        bool is_killed;
        bool is_left;
        bool is_stuck;
        bool is_crashed;
        bool is_aborted;
};

struct book_op {
        uint64_t id;
        uint64_t offset;
        uint64_t posted_ns;
        uint64_t seen_ns;
        uint64_t bytes;
        uint64_t hash;
        uint64_t head;
        uint64_t key;
        uint64_t to;      /* datagrams that are sent: the destination's place */
        uint64_t from;    /* datagrams that arrived: the sender's place, or 0 */
        uint32_t conn;    /* index into books.conns */
        uint32_t journal; /* in which it was posted */
        uint32_t order;
        uint32_t len;
        uint32_t seen_journal;
        uint32_t seen_place; /* of the record in that file */
        uint32_t n_records;
        uint32_t n_taken; /* datagrams that are sent: how often they were received */
        int32_t status;   /* of the first record */
        int32_t result;   /* of the call, if it has one */
        uint8_t op;
        uint8_t mode;
        uint8_t flags;
        uint8_t seen_mode;
        bool has_result;
        bool has_record;
        bool was_set;       /* its event, when its call had returned */
        bool was_truncated; /* as its record said */
};

/* The operations of one connection and kind, in posting order. */
struct book_group {
        struct book_op **ops; /* borrowed: a part of books.sorted */
        size_t n_ops;
};

struct book_conn {
        uint64_t number;
        uint32_t client; /* index into books.clients */
        uint64_t close_ns;
        uint64_t shutdown_ns[2]; /* of the receiving and of the sending side */
        uint64_t cancel_ns;
        uint64_t name; /* datagrams: its place, where it has told; else 0 */
        uint64_t name_ns;
        uint64_t shared_with; /* the number under which another session has the same socket, or 0 */
        struct book_group groups[BOOKS_OPS];
};

/* From numbers to places. */
struct book_index {
        uint64_t *keys; /* 0: free */
        uint32_t *values;
        size_t size; /* a power of two */
        size_t n;
};

struct book_journal {
        struct journal journal;
        struct book_op *ops;
        size_t n_ops;
        uint32_t client;
};

struct books {
        struct book_journal *journals;
        size_t n_journals;
        struct book_client *clients;
        size_t n_clients;
        size_t clients_size;
        struct book_conn *conns;
        size_t n_conns;
        size_t conns_size;
        struct book_index client_index;
        struct book_index conn_index;
        struct book_op **sorted;
        size_t n_ops;
        size_t n_events;
        uint64_t n_dropped; /* datagrams for which the kernel had no room, at most */
};

/*
 * Reads every event file of a directory.
 *
 * report: faults that show while reading: records without a post, files that contradict themselves.
 *
 * Returns 0 or -errno. The books are to be closed in either case.
 */
int books_load(struct books *books, const char *directory, struct report *report);

void books_close(struct books *books);

/* Returns the connection with this number, or NULL. */
struct book_conn *books_find_conn(const struct books *books, uint64_t number);

/* For a person: "recv 3:120". */
const char *books_describe(const struct book_op *op, char text[64]);

#endif
