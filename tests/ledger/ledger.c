/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ledger: reads the event files of a storm and says whether every operation and every byte is accounted for. It is
 * a process of its own and shares nothing with the bookkeeping that it judges: not the library's, not the daemon's, and
 * of the storm's only the layout of the files.
 *
 *   ledger [--mix] [--expect KIND] DIRECTORY
 *
 * --mix demands the shares of the big storm; --expect demands that exactly this kind of fault is found: then, and only
 * then, the exit status is 0.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/ledger/books.h"
#include "tests/ledger/check.h"
#include "tests/ledger/report.h"
#include "tests/ledger/stream.h"

static int ledger_usage(void) {
        fprintf(stderr, "usage: ledger [--mix] [--expect KIND] DIRECTORY\n");
        return 2;
}

static int ledger_judge(const char *directory, int mix, struct report *report) {
        cleanup(books_close) struct books books = {};
        struct stream_totals streams;
        struct check_totals totals;
        int r;

        r = books_load(&books, directory, report);
        if (r < 0) {
                fprintf(stderr, "ledger: cannot read the event files in %s: %s\n", directory, strerror(-r));
                report_print(report);
                return r;
        }
        check_ops(&books, report, &totals);
        stream_check(&books, report, &streams);
        if (mix)
                check_mix(&totals, report);
        check_print(&books, &totals);
        stream_print(&streams);
        report_print(report);
        return 0;
}

int main(int argc, char **argv) {
        const struct option options[] = {
                { "mix", no_argument, NULL, 'm' },
                { "expect", required_argument, NULL, 'e' },
                {},
        };
        struct report report = {};
        int mix = 0, expect = -1, option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (option == 'm')
                        mix = 1;
                else if (option == 'e')
                        expect = report_kind(optarg);
                else
                        return ledger_usage();
                if (option == 'e' && expect < 0)
                        return ledger_usage();
        }
        if (optind != argc - 1)
                return ledger_usage();
        r = ledger_judge(argv[optind], mix, &report);
        if (r < 0)
                return 2;
        if (expect < 0)
                return report_total(&report) > 0;
        r = report_is(&report, (enum report_kind) expect);
        printf("ledger: expected %s: %s\n", report_name((enum report_kind) expect), r ? "found" : "NOT found");
        return !r;
}
