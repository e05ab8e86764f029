/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Event files written by hand. A case writes what a storm might have written, with one thing wrong in it or nothing,
 * and looks at what the ledger makes of it.
 *
 * Invariant: the files are those of journal.c, written with its functions: a case cannot write what a storm could not.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/ledger/synthetic.h"

void synthetic_open(struct synthetic *synthetic) {
        static const uint32_t clients[SYNTHETIC_FILES] = { 0, 1, 1, 2 };

        *synthetic = (struct synthetic){};
        snprintf(synthetic->directory, sizeof(synthetic->directory), "%s/XXXXXX", harness_directory());
        assert_non_null(mkdtemp(synthetic->directory));
        for (uint32_t i = 0; i < SYNTHETIC_FILES; i++) {
                assert_int_equal(journal_create(&synthetic->files[i], synthetic->directory, i, clients[i], 64), 0);
                synthetic->files[i].header->tid = 1000 + i;
        }
}

static void synthetic_close(struct synthetic *synthetic) {
        char path[160];

        for (unsigned i = 0; i < SYNTHETIC_FILES; i++) {
                journal_close(&synthetic->files[i]);
                snprintf(path, sizeof(path), "%s/%06u.journal", synthetic->directory, i);
                assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(rmdir(synthetic->directory), 0);
}

uint64_t synthetic_post(struct synthetic *synthetic, unsigned file, struct event event) {
        uint64_t id = journal_post(&synthetic->files[file], event);

        synthetic->posts[synthetic->n_posts++] = id;
        return id;
}

void synthetic_record(struct synthetic *synthetic, unsigned file, uint64_t id, int status, uint64_t bytes) {
        journal_add(&synthetic->files[file], (struct event){
                                                     .kind = EVENT_RECORD,
                                                     .mode = EVENT_MODE_ROUTINE,
                                                     .id = id,
                                                     .status = status,
                                                     .body.record = { .bytes = bytes },
                                             });
}

void synthetic_mark(struct synthetic *synthetic, unsigned file, enum event_kind kind, uint64_t id, uint64_t conn,
                    uint64_t detail) {
        journal_add(&synthetic->files[file],
                    (struct event){ .kind = kind, .id = id, .body.mark = { .conn = conn, .detail = detail } });
}

void synthetic_judge(struct synthetic *synthetic) {
        cleanup(books_close) struct books books = {};

        assert_int_equal(books_load(&books, synthetic->directory, &synthetic->report), 0);
        check_ops(&books, &synthetic->report, &synthetic->totals);
        stream_check(&books, &synthetic->report, &synthetic->streams);
        datagram_check(&books, &synthetic->report, &synthetic->datagrams);
        apc_check(&books, &synthetic->report, &synthetic->apcs);
        synthetic_close(synthetic);
}
