/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_TOP_SAMPLE_H
#define CLIENT_CTL_TOP_SAMPLE_H

/* What the daemon does at this time: its sessions, and how much each moved since the sample before. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/ctl/ctl.h"
#include "client/ctl/summary.h"

#define TOP_UNIT_SIZE 128

/* By what rows are sorted, the greatest first. */
enum top_sort {
        TOP_BY_BYTES,
        TOP_BY_OPS,
        TOP_BY_RECEIVED,
        TOP_BY_SENT,
        TOP_BY_SOCKETS,
        TOP_BY_IN_FLIGHT,
        TOP_BY_AGE,
        TOP_N_SORTS,
};

/* One session. Totals are those of its life. */
struct top_row {
        uint64_t session;
        uint32_t worker;
        pid_t pid;
        uid_t uid;
        bool is_known; /* else pid, uid and unit are not */
        char unit[TOP_UNIT_SIZE];
        const char *state; /* static: open, held or ending */
        uint64_t age_ns;
        uint32_t sockets;
        uint32_t ops; /* in flight */
        uint32_t credits;
        uint64_t entries;
        uint64_t bytes_received;
        uint64_t bytes_sent;
        double ops_s; /* in a second: since the sample before, or since its begin where there is none */
        double received_s;
        double sent_s;
};

struct top_sample {
        uint64_t taken_ns; /* of CLOCK_MONOTONIC; 0: none */
        uint64_t interval_ns;
        struct summary summary;
        struct top_row *rows; /* heap */
        size_t n_rows;
        size_t n_rows_size;
        bool is_partial; /* the daemon left some out */
        double ops_s;    /* of all workers; 0 until there are two samples */
        double received_s;
        double sent_s;
};

void top_sample_deinit(struct top_sample *sample);

/*
 * Asks the daemon.
 *
 * fd:     of question_connect(). Borrowed.
 * before: the sample before; its taken_ns is 0 where there is none. Borrowed, and its rows are sorted anew.
 *
 * Returns CTL_DONE and a sample, to be deinitialized; or another exit status after the complaint, and nothing.
 */
int top_sample_take(const struct ctl *ctl, int fd, struct top_sample *before, struct top_sample *ret_sample);

void top_sample_sort(struct top_sample *sample, enum top_sort sort);

/* Its name, static; and the other way: TOP_N_SORTS where there is none of that name. */
const char *top_sort_name(enum top_sort sort);
enum top_sort top_sort_find(const char *name);

#endif
