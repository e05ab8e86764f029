/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Asynchronous procedure calls. Each has a number, which is the argument that the function gets, so that the thread in
 * which it runs can write down which one it was. One that its call said is queued runs exactly once, in the thread that
 * it is for, and those that one thread queued to another, in the same way, run in that order.
 *
 * Invariant: what excuses a call that did not run says so in the books: its thread was killed, left, or had begun to
 * end before the call that queued it returned; nothing excuses one that ran twice, elsewhere, or after it was refused.
 *
 *   EVENT_APC --EVENT_QUEUED, status 0--> due --EVENT_RUN--> run --EVENT_RUN--> doubled
 *   EVENT_APC --EVENT_QUEUED, refused--> must not run
 *   EVENT_APC --killed within the call--> may run, once
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tests/ledger/apc.h"

struct apc {
        uint64_t queued_ns;
        uint32_t target;
        uint32_t n_runs;
        int32_t status;
        bool is_remote;
        bool has_status;
};

/* What one thread queued, and when it began to end. */
struct apc_file {
        struct apc *apcs;
        size_t n;
        uint64_t ending_ns;    /* 0: it did not */
        uint64_t withdrawn_ns; /* when its handle was first closed; 0: never */
};

struct apc_walk {
        const struct books *books; /* borrowed, as are the next two */
        struct report *report;
        struct apc_totals *totals;
        struct apc_file *files; /* one for each of the books' */
        uint64_t *last;         /* of a target: place of the last call that ran, plus 1; two for each source */
};

static const char *apc_describe(uint64_t id, char text[64]) {
        snprintf(text, 64, "apc %u:%llu", event_id_journal(id), (unsigned long long) event_id_place(id));
        return text;
}

static struct apc *apc_find(const struct apc_walk *walk, uint64_t id) {
        uint32_t source = event_id_journal(id);

        if (source >= walk->books->n_journals || event_id_place(id) >= walk->files[source].n)
                return NULL;
        return &walk->files[source].apcs[event_id_place(id)];
}

static int apc_open_file(struct apc_walk *walk, size_t at) {
        const struct journal *journal = &walk->books->journals[at].journal;
        struct apc_file *file = &walk->files[at];
        uint64_t n_events = journal_n_events(journal), n = 0;

        for (uint64_t i = 0; i < n_events; i++)
                n += journal->events[i].kind == EVENT_APC;
        file->apcs = calloc(n + 1, sizeof(*file->apcs));
        if (!file->apcs)
                return -ENOMEM;
        for (uint64_t i = 0; i < n_events; i++) {
                const struct event *event = &journal->events[i];
                struct apc *apc;

                if (event->kind == EVENT_ENDING)
                        file->ending_ns = event->time_ns;
                if (event->kind == EVENT_WITHDRAWN && file->withdrawn_ns == 0)
                        file->withdrawn_ns = event->time_ns;
                if (event->kind == EVENT_APC)
                        file->apcs[file->n++] = (struct apc){ .target = event->body.apc.target,
                                                              .is_remote = event->body.apc.is_remote };
                apc = event->kind == EVENT_QUEUED ? apc_find(walk, event->id) : NULL;
                if (!apc || event_id_journal(event->id) != at)
                        continue;
                apc->has_status = true;
                apc->status = event->status;
                apc->queued_ns = event->time_ns;
        }
        return 0;
}

/* Takes in that a call runs in the thread of file `at`. */
static void apc_run(struct apc_walk *walk, uint32_t at, uint64_t id) {
        struct apc *apc = apc_find(walk, id);
        uint64_t *last;
        char text[64];

        if (!apc) {
                report_add(walk->report, REPORT_FORGED, "file %u: an APC %llx runs that nobody queued", at,
                           (unsigned long long) id);
                return;
        }
        walk->totals->n_run[apc->is_remote]++;
        if (apc->target != at)
                report_add(walk->report, REPORT_THREAD, "%s: for the thread of file %u, run in that of file %u",
                           apc_describe(id, text), apc->target, at);
        if (apc->has_status && apc->status < 0 && apc->status != -ECONNABORTED)
                report_add(walk->report, REPORT_FORGED, "%s: its call refused it (%d), and yet it ran",
                           apc_describe(id, text), apc->status);
        if (apc->n_runs++ > 0)
                report_add(walk->report, REPORT_DOUBLED, "%s: ran %u times", apc_describe(id, text), apc->n_runs);
        last = &walk->last[2 * event_id_journal(id) + apc->is_remote];
        if (apc->n_runs == 1 && event_id_place(id) + 1 < *last)
                report_add(walk->report, REPORT_ORDER, "%s: ran after number %llu of the same thread",
                           apc_describe(id, text), (unsigned long long) (*last - 1));
        *last = event_id_place(id) + 1;
}

static void apc_run_file(struct apc_walk *walk, uint32_t at) {
        const struct journal *journal = &walk->books->journals[at].journal;
        uint64_t n_events = journal_n_events(journal);

        for (size_t i = 0; i < 2 * walk->books->n_journals; i++)
                walk->last[i] = 0;
        for (uint64_t i = 0; i < n_events; i++)
                if (journal->events[i].kind == EVENT_RUN)
                        apc_run(walk, at, journal->events[i].id);
}

static bool apc_is_excused(const struct apc_walk *walk, const struct apc *apc) {
        const struct book_client *client = &walk->books->clients[walk->books->journals[apc->target].client];
        uint64_t ending_ns = walk->files[apc->target].ending_ns;

        return client->is_killed || client->is_left || client->is_crashed || client->is_aborted ||
               (ending_ns != 0 && apc->queued_ns >= ending_ns);
}

/* A call may be refused when its thread has ended, or its handle was closed, or too many wait there. */
static void apc_check_refusal(const struct apc_walk *walk, const struct apc *apc, uint64_t id) {
        uint64_t withdrawn_ns = walk->files[apc->target].withdrawn_ns;
        char text[64];

        if (apc->status == -ECONNABORTED || apc->status == -ENOBUFS || apc_is_excused(walk, apc) ||
            (apc->status == -EBADF && withdrawn_ns != 0 && withdrawn_ns <= apc->queued_ns))
                return;
        report_add(walk->report, REPORT_STATUS, "%s: refused with %d, which nothing explains (%s, file %u)",
                   apc_describe(id, text), apc->status, apc->is_remote ? "by the daemon" : "locally", apc->target);
}

static void apc_settle(struct apc_walk *walk, uint32_t at) {
        const struct apc_file *file = &walk->files[at];
        char text[64];

        for (size_t i = 0; i < file->n; i++) {
                const struct apc *apc = &file->apcs[i];

                if (apc->target >= walk->books->n_journals) {
                        report_add(walk->report, REPORT_FILE, "%s: for the thread of file %u, which does not exist",
                                   apc_describe(event_id(at, i), text), apc->target);
                        continue;
                }
                if (apc->has_status && apc->status < 0) {
                        walk->totals->n_refused++;
                        apc_check_refusal(walk, apc, event_id(at, i));
                }
                if (!apc->has_status || apc->status < 0)
                        continue;
                walk->totals->n_queued[apc->is_remote]++;
                if (apc->n_runs > 0)
                        continue;
                if (apc_is_excused(walk, apc))
                        walk->totals->n_excused++;
                else
                        report_add(walk->report, REPORT_LOST, "%s: queued %s for the thread of file %u, never ran",
                                   apc_describe(event_id(at, i), text), apc->is_remote ? "by the daemon" : "locally",
                                   apc->target);
        }
}

static int apc_walk(struct apc_walk *walk) {
        int r;

        for (size_t i = 0; i < walk->books->n_journals; i++) {
                r = apc_open_file(walk, i);
                if (r < 0)
                        return r;
        }
        for (uint32_t i = 0; i < walk->books->n_journals; i++)
                apc_run_file(walk, i);
        for (uint32_t i = 0; i < walk->books->n_journals; i++)
                apc_settle(walk, i);
        return 0;
}

void apc_check(const struct books *books, struct report *report, struct apc_totals *ret_totals) {
        _cleanup_free_ struct apc_file *files = calloc(books->n_journals + 1, sizeof(*files));
        _cleanup_free_ uint64_t *last = calloc(2 * books->n_journals + 1, sizeof(*last));
        struct apc_totals totals = {};
        struct apc_walk walk = { .books = books, .report = report, .totals = &totals, .files = files, .last = last };

        if (!files || !last || apc_walk(&walk) < 0)
                report_add(report, REPORT_FILE, "no memory to judge APCs");
        for (size_t i = 0; i < books->n_journals && files; i++)
                free(files[i].apcs);
        *ret_totals = totals;
}

void apc_mix(const struct apc_totals *totals, uint64_t n_ops, struct report *report) {
        if (totals->n_run[0] * 100 < n_ops || totals->n_run[1] * 500 < n_ops)
                report_add(
                        report, REPORT_MIX,
                        "only %llu APCs ran within their process and %llu through the daemon; 1 %% and 0.2 %% of the "
                        "operations are demanded",
                        (unsigned long long) totals->n_run[0], (unsigned long long) totals->n_run[1]);
}

void apc_print(const struct apc_totals *totals) {
        printf("  %-44s %10llu\n", "APCs queued within a process", (unsigned long long) totals->n_queued[0]);
        printf("  %-44s %10llu\n", "APCs queued through the daemon", (unsigned long long) totals->n_queued[1]);
        printf("  %-44s %10llu\n", "APCs run", (unsigned long long) (totals->n_run[0] + totals->n_run[1]));
        printf("  %-44s %10llu\n", "APCs that died with their thread", (unsigned long long) totals->n_excused);
        printf("  %-44s %10llu\n", "APCs refused by their call", (unsigned long long) totals->n_refused);
}
