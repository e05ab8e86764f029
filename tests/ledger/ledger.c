/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ledger: reads the event files of a storm and says whether every operation and every byte is accounted for. It is
 * a process of its own and shares nothing with the bookkeeping that it judges: not the library's, not the daemon's, and
 * of the storm's only the layout of the files.
 *
 *   ledger [--mix] [--expect KIND] [--show CONNECTION] DIRECTORY
 *
 * --mix demands the shares of the big storm; --expect demands that exactly this kind of fault is found: then, and only
 * then, the exit status is 0. --show also prints all that is known of one connection (a number in hexadecimal).
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/ledger/apc.h"
#include "tests/ledger/books.h"
#include "tests/ledger/check.h"
#include "tests/ledger/datagram.h"
#include "tests/ledger/report.h"
#include "tests/ledger/stream.h"

static int ledger_usage(void) {
        fprintf(stderr, "usage: ledger [--mix] [--expect KIND] [--show CONNECTION] DIRECTORY\n");
        return 2;
}

static void ledger_show_op(const struct book_op *op, uint64_t start_ns) {
        char text[64];

        printf("  %12.6f %-18s order %u, %u bytes at %llu, mode %u, flags %u, result %d, %u records",
               (double) (op->posted_ns - start_ns) / 1e9, books_describe(op, text), op->order, op->len,
               (unsigned long long) op->offset, op->mode, op->flags, op->has_result ? op->result : 1, op->n_records);
        if (op->n_records > 0)
                printf(": %.6f in %u, status %d, %llu bytes, head %llx", (double) (op->seen_ns - start_ns) / 1e9,
                       op->seen_journal, op->status, (unsigned long long) op->bytes, (unsigned long long) op->head);
        printf("\n");
}

static double ledger_after(uint64_t mark_ns, uint64_t start_ns) {
        return mark_ns > 0 ? (double) (mark_ns - start_ns) / 1e9 : 0;
}

static void ledger_show(const struct books *books, uint64_t number) {
        const struct book_conn *conn = books_find_conn(books, number);
        uint64_t start_ns = 0;

        if (!conn)
                return;
        for (unsigned op = 1; op < BOOKS_OPS; op++)
                for (size_t i = 0; i < conn->groups[op].n_ops; i++)
                        if (start_ns == 0 || conn->groups[op].ops[i]->posted_ns < start_ns)
                                start_ns = conn->groups[op].ops[i]->posted_ns;
        printf("connection %llx of client %u: closed %.6f, shut %.6f %.6f, cancelled %.6f, shared with %llx, from %llu "
               "ns\n",
               (unsigned long long) number, books->clients[conn->client].number, ledger_after(conn->close_ns, start_ns),
               ledger_after(conn->shutdown_ns[0], start_ns), ledger_after(conn->shutdown_ns[1], start_ns),
               ledger_after(conn->cancel_ns, start_ns), (unsigned long long) conn->shared_with,
               (unsigned long long) start_ns);
        for (unsigned op = 1; op < BOOKS_OPS; op++)
                for (size_t i = 0; i < conn->groups[op].n_ops; i++)
                        ledger_show_op(conn->groups[op].ops[i], start_ns);
}

static int ledger_judge(const char *directory, int mix, uint64_t show, struct report *report) {
        cleanup(books_close) struct books books = {};
        struct datagram_totals datagrams;
        struct stream_totals streams;
        struct check_totals totals;
        struct apc_totals apcs;
        int r;

        r = books_load(&books, directory, report);
        if (r < 0) {
                fprintf(stderr, "ledger: cannot read the event files in %s: %s\n", directory, strerror(-r));
                report_print(report);
                return r;
        }
        check_ops(&books, report, &totals);
        stream_check(&books, report, &streams);
        datagram_check(&books, report, &datagrams);
        apc_check(&books, report, &apcs);
        if (mix) {
                check_mix(&totals, report);
                datagram_mix(&datagrams, report);
                apc_mix(&apcs, totals.n_all, report);
        }
        if (show > 0)
                ledger_show(&books, show);
        check_print(&books, &totals);
        stream_print(&streams);
        datagram_print(&datagrams);
        apc_print(&apcs);
        report_print(report);
        return 0;
}

int main(int argc, char **argv) {
        const struct option options[] = {
                { "mix", no_argument, NULL, 'm' },
                { "expect", required_argument, NULL, 'e' },
                { "show", required_argument, NULL, 's' },
                {},
        };
        struct report report = {};
        int mix = 0, expect = -1, option, r;
        uint64_t show = 0;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (option == 'm')
                        mix = 1;
                else if (option == 'e')
                        expect = report_kind(optarg);
                else if (option == 's')
                        show = strtoull(optarg, NULL, 16);
                else
                        return ledger_usage();
                if (option == 'e' && expect < 0)
                        return ledger_usage();
        }
        if (optind != argc - 1)
                return ledger_usage();
        r = ledger_judge(argv[optind], mix, show, &report);
        if (r < 0)
                return 2;
        if (expect < 0)
                return report_total(&report) > 0;
        r = report_is(&report, (enum report_kind) expect);
        printf("ledger: expected %s: %s\n", report_name((enum report_kind) expect), r ? "found" : "NOT found");
        return !r;
}
