/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Faults, counted and told. Every fault counts; only the first are kept in words, because one bug in the daemon shows
 * in thousands of operations and the first twenty say as much as all.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/ledger/report.h"

static const char *const report_names[REPORT_KINDS] = {
        [REPORT_LOST] = "lost",     [REPORT_DOUBLED] = "doubled",       [REPORT_FORGED] = "forged",
        [REPORT_THREAD] = "thread", [REPORT_INDICATION] = "indication", [REPORT_ORDER] = "order",
        [REPORT_BYTES] = "bytes",   [REPORT_STATUS] = "status",         [REPORT_ABORTED] = "aborted",
        [REPORT_STUCK] = "stuck",   [REPORT_CRASHED] = "crashed",       [REPORT_FILE] = "file",
        [REPORT_MIX] = "mix",
};

const char *report_name(enum report_kind kind) {
        return report_names[kind];
}

int report_kind(const char *name) {
        for (int kind = 0; kind < REPORT_KINDS; kind++)
                if (strcmp(report_names[kind], name) == 0)
                        return kind;
        return -EINVAL;
}

void report_add(struct report *report, enum report_kind kind, const char *format, ...) {
        va_list arguments;

        report->n[kind]++;
        if (report->n_lines == REPORT_LINES || report->n[kind] > REPORT_LINES_KIND)
                return;
        va_start(arguments, format);
        vsnprintf(report->lines[report->n_lines], REPORT_LINE_SIZE, format, arguments);
        va_end(arguments);
        report->n_lines++;
}

uint64_t report_total(const struct report *report) {
        uint64_t total = 0;

        for (int kind = 0; kind < REPORT_KINDS; kind++)
                total += report->n[kind];
        return total;
}

/*
 * A lost record leaves its client waiting. A doubled record makes a library that checks its tags give the session up,
 * and with it whatever was pending there. Swapped bytes disturb nothing else.
 */
int report_is(const struct report *report, enum report_kind planted) {
        uint64_t explained = report->n[planted];

        if (planted == REPORT_LOST)
                explained += report->n[REPORT_STUCK];
        if (planted == REPORT_DOUBLED)
                explained += report->n[REPORT_ABORTED];
        if (planted == REPORT_LOST && report->n[REPORT_LOST] == 0)
                return 0;
        return explained > 0 && explained == report_total(report);
}

void report_print(const struct report *report) {
        uint64_t total = report_total(report);

        if (total == 0) {
                printf("ledger: nothing off\n");
                return;
        }
        printf("ledger: %llu off:", (unsigned long long) total);
        for (int kind = 0; kind < REPORT_KINDS; kind++)
                if (report->n[kind] > 0)
                        printf(" %llu %s", (unsigned long long) report->n[kind], report_names[kind]);
        printf("\n");
        for (unsigned i = 0; i < report->n_lines; i++)
                printf("  %s\n", report->lines[i]);
        if (total > report->n_lines)
                printf("  and %llu more\n", (unsigned long long) (total - report->n_lines));
}
