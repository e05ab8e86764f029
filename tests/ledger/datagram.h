/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_DATAGRAM_H
#define LEDGER_DATAGRAM_H

/* The judgement of datagrams: each that arrived was sent, to here, and comes once, whole or cut, and in order. */

#include "tests/ledger/books.h"
#include "tests/ledger/report.h"

struct datagram_totals {
        uint64_t n_sent;      /* their records say so */
        uint64_t n_taken;     /* received, not only peeked at */
        uint64_t n_peeked;    /* looked at */
        uint64_t n_truncated; /* of those received or looked at */
        uint64_t n_empty;     /* of those received: without a byte */
        uint64_t n_unnamed;   /* of those received: cut so short that nobody knows which they were */
        uint64_t n_addressed; /* whose sender's address was told, and right */
        uint64_t n_lost;      /* sent, and not received by anybody */
        uint64_t n_overtaken; /* of those: a later one of the same sender was received by that receiver */
};

/* Counts on the way how often each datagram was received: the books' n_taken. */
void datagram_check(struct books *books, struct report *report, struct datagram_totals *ret_totals);

/* Demands that most datagrams arrive, and that some are cut, empty or looked at. */
void datagram_mix(const struct datagram_totals *totals, struct report *report);

void datagram_print(const struct datagram_totals *totals);

#endif
