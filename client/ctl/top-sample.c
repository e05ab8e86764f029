/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon counts, and never says how fast: rates are made here, from two samples and the time between them. A
 * session that was not there before has done all of its work since it began, so its first rate is that of its life; the
 * same holds for every session of the very first sample.
 *
 * The successor of a worker that died begins to count anew, from zero. A worker that did not answer, before or now, has
 * no rate: what it did meanwhile was not done in this interval alone.
 */

#include "client/ctl/top-sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"

#define TOP_RATE_MAX 1e18

struct top_taking {
        struct top_sample *sample;
        bool has_failed; /* there was no memory */
};

static const char *const top_sort_names[TOP_N_SORTS] = {
        [TOP_BY_BYTES] = "bytes", [TOP_BY_OPS] = "ops",         [TOP_BY_RECEIVED] = "received",
        [TOP_BY_SENT] = "sent",   [TOP_BY_SOCKETS] = "sockets", [TOP_BY_IN_FLIGHT] = "in-flight",
        [TOP_BY_AGE] = "age",
};

const char *top_sort_name(enum top_sort sort) {
        return top_sort_names[sort];
}

enum top_sort top_sort_find(const char *name) {
        enum top_sort sort = 0;

        while (sort < TOP_N_SORTS && strcmp(top_sort_names[sort], name) != 0)
                sort++;
        return sort;
}

void top_sample_deinit(struct top_sample *sample) {
        free(take_ptr(sample->rows));
        *sample = (struct top_sample){ 0 };
}

static int top_sample_make_room(struct top_sample *sample) {
        size_t size = sample->n_rows_size ? sample->n_rows_size * 2 : 64;
        struct top_row *rows;

        if (sample->n_rows < sample->n_rows_size)
                return 0;
        rows = reallocarray(sample->rows, size, sizeof(*rows));
        if (!rows)
                return -ENOMEM;
        sample->rows = rows;
        sample->n_rows_size = size;
        return 0;
}

static void top_sample_add(const Overlapd__AdminReply *reply, void *data) {
        const Overlapd__AdminSession *session = reply->session;
        struct top_taking *taking = data;
        struct top_row *row;

        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT_SESSION || !session->owner || taking->has_failed)
                return;
        if (top_sample_make_room(taking->sample) < 0) {
                taking->has_failed = true;
                return;
        }
        row = &taking->sample->rows[taking->sample->n_rows++];
        *row = (struct top_row){
                .session = session->owner->session,
                .worker = session->owner->worker,
                .is_known = session->owner->is_known,
                .pid = (pid_t) session->owner->pid,
                .uid = session->owner->uid,
                .state = session->is_ending ? "ending"
                         : session->is_held ? "held"
                                            : "open",
                .age_ns = session->age_ns,
                .sockets = session->sockets,
                .ops = session->ops,
                .credits = session->credits,
                .entries = session->entries,
                .bytes_received = session->bytes_received,
                .bytes_sent = session->bytes_sent,
        };
        if (session->owner->unit)
                output_clean(session->owner->unit, row->unit, sizeof(row->unit));
}

/* --- Rates ------------------------------------------------------------------------------------------------------- */

/* No rate is so great that it could not be shown as a whole number. */
static double top_rate(uint64_t now, uint64_t before, uint64_t ns) {
        double rate;

        if (ns == 0)
                return 0;
        rate = (double) (now >= before ? now - before : now) * (double) NS_PER_S / (double) ns;
        return rate < TOP_RATE_MAX ? rate : TOP_RATE_MAX;
}

static int top_compare_sessions(const void *left, const void *right) {
        const struct top_row *a = left, *b = right;

        return a->session < b->session ? -1 : a->session > b->session;
}

static void top_sample_rate_rows(struct top_sample *sample, struct top_sample *before) {
        struct top_row none = { 0 };

        if (before->n_rows > 0)
                qsort(before->rows, before->n_rows, sizeof(*before->rows), top_compare_sessions);
        for (size_t i = 0; i < sample->n_rows; i++) {
                struct top_row *row = &sample->rows[i];
                const struct top_row *old = NULL;
                uint64_t ns = sample->interval_ns;

                if (before->n_rows > 0)
                        old = bsearch(row, before->rows, before->n_rows, sizeof(*row), top_compare_sessions);
                if (!old) {
                        old = &none;
                        ns = row->age_ns;
                }
                row->ops_s = top_rate(row->entries, old->entries, ns);
                row->received_s = top_rate(row->bytes_received, old->bytes_received, ns);
                row->sent_s = top_rate(row->bytes_sent, old->bytes_sent, ns);
        }
}

/* What a worker said before; NULL: nothing, or it is another one now. */
static const Overlapd__AdminWorker *top_find_worker(const struct summary *summary,
                                                    const Overlapd__AdminWorker *worker) {
        for (size_t i = 0; i < summary->n_workers; i++)
                if (summary->workers[i].said.index == worker->index)
                        return &summary->workers[i].said;
        return NULL;
}

static void top_sample_rate_workers(struct top_sample *sample, const struct top_sample *before) {
        static const Overlapd__AdminWorker none = OVERLAPD__ADMIN_WORKER__INIT;

        for (size_t i = 0; i < sample->summary.n_workers; i++) {
                const Overlapd__AdminWorker *now = &sample->summary.workers[i].said, *old;

                old = top_find_worker(&before->summary, now);
                if (old && old->pid != now->pid)
                        old = &none;
                else if (!old || !old->is_counted)
                        continue;
                if (!now->is_counted)
                        continue;
                sample->ops_s += top_rate(now->entries, old->entries, sample->interval_ns);
                sample->received_s += top_rate(now->bytes_received, old->bytes_received, sample->interval_ns);
                sample->sent_s += top_rate(now->bytes_sent, old->bytes_sent, sample->interval_ns);
        }
}

static void top_sample_rate(struct top_sample *sample, struct top_sample *before) {
        if (before->taken_ns > 0) {
                sample->interval_ns = sample->taken_ns - before->taken_ns;
                top_sample_rate_workers(sample, before);
        }
        top_sample_rate_rows(sample, before);
}

/* --- Order ------------------------------------------------------------------------------------------------------- */

static double top_row_value(const struct top_row *row, enum top_sort sort) {
        switch (sort) {
        case TOP_BY_OPS:
                return row->ops_s;
        case TOP_BY_RECEIVED:
                return row->received_s;
        case TOP_BY_SENT:
                return row->sent_s;
        case TOP_BY_SOCKETS:
                return row->sockets;
        case TOP_BY_IN_FLIGHT:
                return row->ops;
        case TOP_BY_AGE:
                return (double) row->age_ns;
        default:
                return row->received_s + row->sent_s;
        }
}

static int top_compare_rows(const void *left, const void *right, void *data) {
        enum top_sort sort = *(enum top_sort *) data;
        double a = top_row_value(left, sort), b = top_row_value(right, sort);

        if (a == b)
                return top_compare_sessions(left, right);
        return a > b ? -1 : 1;
}

void top_sample_sort(struct top_sample *sample, enum top_sort sort) {
        if (sample->n_rows > 0)
                qsort_r(sample->rows, sample->n_rows, sizeof(*sample->rows), top_compare_rows, &sort);
}

/* --- Asking ------------------------------------------------------------------------------------------------------ */

int top_sample_take(const struct ctl *ctl, int fd, struct top_sample *before, struct top_sample *ret_sample) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        Overlapd__AdminList list = OVERLAPD__ADMIN_LIST__INIT;
        cleanup(top_sample_deinit) struct top_sample sample = { 0 };
        struct top_taking taking = { .sample = &sample };
        int status;

        status = summary_get(ctl, fd, &sample.summary);
        if (!sample.summary.has_daemon)
                return status;
        sample.is_partial = status != CTL_DONE;
        list.kind = OVERLAPD__ADMIN_KIND__ADMIN_SESSIONS;
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_LIST;
        request.list = &list;
        sample.taken_ns = now_ns();
        status = question_ask(ctl, fd, &request, top_sample_add, &taking);
        if (taking.has_failed) {
                ctl_complain("no memory for %zu sessions", sample.n_rows);
                return CTL_FAILED;
        }
        sample.is_partial = sample.is_partial || status != CTL_DONE;
        top_sample_rate(&sample, before);
        *ret_sample = sample;
        sample.rows = NULL;
        return CTL_DONE;
}
