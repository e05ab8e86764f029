/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_SYNTHETIC_H
#define LEDGER_SYNTHETIC_H

/* Event files written by hand, and judged: for the ledger's own tests. Everything here asserts. */

#include "tests/ledger/apc.h"
#include "tests/ledger/books.h"
#include "tests/ledger/check.h"
#include "tests/ledger/datagram.h"
#include "tests/ledger/report.h"
#include "tests/ledger/stream.h"

#define SYNTHETIC_FILES 4 /* 0: the driver; 1 and 2: threads of client 1; 3: a thread of client 2 */

struct synthetic {
        char directory[128];
        struct journal files[SYNTHETIC_FILES];
        uint64_t posts[16]; /* numbers of the operations, in order of posting */
        unsigned n_posts;
        struct report report;
        struct check_totals totals;
        struct stream_totals streams;
        struct datagram_totals datagrams;
        struct apc_totals apcs;
};

/* Makes empty files. */
void synthetic_open(struct synthetic *ret_synthetic);

/* Reads and judges the files, and removes them. */
void synthetic_judge(struct synthetic *synthetic);

/* Writes a post, and returns its number. */
uint64_t synthetic_post(struct synthetic *synthetic, unsigned file, struct event event);

/* Writes a record, indicated by a routine. */
void synthetic_record(struct synthetic *synthetic, unsigned file, uint64_t id, int status, uint64_t bytes);

void synthetic_mark(struct synthetic *synthetic, unsigned file, enum event_kind kind, uint64_t id, uint64_t conn,
                    uint64_t detail);

#endif
