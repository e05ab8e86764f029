/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_REPORT_H
#define LEDGER_REPORT_H

/* What the ledger found to be off: a count for each kind of fault, and the first ones in words. */

#include <stdint.h>

enum report_kind {
        REPORT_LOST,       /* a post that is pending for ever: no record, and none can come any more */
        REPORT_DOUBLED,    /* more than one record for a post */
        REPORT_FORGED,     /* a record that belongs to no post, or to one that was refused by its call */
        REPORT_THREAD,     /* a record seen by a thread that it was not for */
        REPORT_INDICATION, /* a record that came in another way than the post asked for */
        REPORT_ORDER,      /* a record or a byte count that posting order does not allow */
        REPORT_BYTES,      /* bytes that differ from the pattern, are missing, or came from nowhere */
        REPORT_STATUS,     /* a status that nothing explains */
        REPORT_ABORTED,    /* the library gave up a session although the daemon lived */
        REPORT_STUCK,      /* a client made no progress */
        REPORT_CRASHED,    /* a client or the daemon died unasked */
        REPORT_FILE,       /* event files that contradict themselves: a bug of the storm */
        REPORT_MIX,        /* the storm did not reach the demanded shares */
        REPORT_KINDS,
};

#define REPORT_LINES 20
#define REPORT_LINES_KIND 8 /* of one kind, so that a frequent fault does not hide a rare one */
#define REPORT_LINE_SIZE 256

struct report {
        uint64_t n[REPORT_KINDS];
        unsigned n_lines;
        char lines[REPORT_LINES][REPORT_LINE_SIZE];
};

const char *report_name(enum report_kind kind);

/* Returns the kind, or -EINVAL for an unknown name. */
int report_kind(const char *name);

void report_add(struct report *report, enum report_kind kind, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

uint64_t report_total(const struct report *report);

/*
 * Whether what was found is what a planted fault must lead to: that kind, and no other that it does not explain.
 *
 * Returns 1 or 0.
 */
int report_is(const struct report *report, enum report_kind planted);

/* Prints the faults, or "ledger: nothing off". */
void report_print(const struct report *report);

#endif
