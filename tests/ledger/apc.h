/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_APC_H
#define LEDGER_APC_H

/* The judgement of asynchronous procedure calls: each that was queued runs once, in its thread, and in its turn. */

#include "tests/ledger/books.h"
#include "tests/ledger/report.h"

struct apc_totals {
        uint64_t n_queued[2]; /* with success: within their process, and through the daemon */
        uint64_t n_run[2];
        uint64_t n_refused; /* by their call */
        uint64_t n_excused; /* queued and not run: their thread was killed, had ended, or was lost */
};

void apc_check(const struct books *books, struct report *report, struct apc_totals *ret_totals);

/* Demands so many that ran, within processes and through the daemon, for the operations of the storm. */
void apc_mix(const struct apc_totals *totals, uint64_t n_ops, struct report *report);

void apc_print(const struct apc_totals *totals);

#endif
