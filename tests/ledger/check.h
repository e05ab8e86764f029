/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_CHECK_H
#define LEDGER_CHECK_H

/* The judgement of one operation at a time: records, threads, indications, order, statuses. */

#include "tests/ledger/books.h"
#include "tests/ledger/report.h"

/* What was counted on the way. Operations on ordinary sockets count only as such. */
struct check_totals {
        uint64_t n_ops[BOOKS_OPS];
        uint64_t n_all;     /* operations that started */
        uint64_t n_kernel;  /* on ordinary sockets */
        uint64_t n_refused; /* by their call */
        uint64_t n_records;
        uint64_t n_moved;          /* ended with bytes */
        uint64_t n_closed_under;   /* ended with -ECANCELED after their socket was closed */
        uint64_t n_shut_under;     /* were pending when their side was shut down */
        uint64_t n_cancelled;      /* ended with -ECANCELED on request, and the socket lived */
        uint64_t n_killed;         /* posted by a client that was killed */
        uint64_t n_killed_pending; /* of these: without a record when it was killed */
        uint64_t n_left_pending;   /* without a record when their session was freed */
        uint64_t n_mode[EVENT_MODES];
        uint64_t n_at_once; /* ended within their call */
        uint64_t n_shared;  /* on sockets that two sessions share */
};

void check_ops(const struct books *books, struct report *report, struct check_totals *ret_totals);

/* Demands the shares of the storm that the project promises. */
void check_mix(const struct check_totals *totals, struct report *report);

void check_print(const struct books *books, const struct check_totals *totals);

#endif
