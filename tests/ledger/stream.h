/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_STREAM_H
#define LEDGER_STREAM_H

/* The judgement of bytes: what was received is what was sent, in order, whole and once. */

#include "tests/ledger/books.h"
#include "tests/ledger/report.h"

struct stream_totals {
        uint64_t n_streams;        /* from which something was received and compared */
        uint64_t n_ended;          /* of these: both ends were seen, so that the totals had to agree */
        uint64_t bytes_compared;   /* received and equal to the pattern */
        uint64_t bytes_unverified; /* received, but a killed client's cancel left open what was sent before them */
};

void stream_check(const struct books *books, struct report *report, struct stream_totals *ret_totals);

void stream_print(const struct stream_totals *totals);

#endif
