/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_SUMMARY_H
#define CLIENT_CTL_SUMMARY_H

/* What the daemon says of itself and its workers: for status, metrics, and whatever else shows numbers. */

#include <json-c/json.h>
#include <stddef.h>

#include "client/ctl/ctl.h"
#include "proto/admin.pb-c.h"

#define SUMMARY_WORKERS_MAX 64u
#define SUMMARY_TEXT_SIZE 256

/* Strings are copies, cleaned. */
struct summary_worker {
        Overlapd__AdminWorker said; /* its strings are not to be read */
        char state[16];
        char engine[16];
        char engine_reason[SUMMARY_TEXT_SIZE];
};

struct summary {
        Overlapd__AdminDaemon said; /* likewise */
        char version[32];
        char state[16];
        char socket_path[128];
        char engine_wanted[16];
        char policy[SUMMARY_TEXT_SIZE];
        size_t n_workers;
        struct summary_worker workers[SUMMARY_WORKERS_MAX];
        bool has_daemon;
        Overlapd__AdminWorker totals; /* of all that were counted */
};

/*
 * Asks for it.
 *
 * fd: of question_connect(), borrowed; or -1: for a connection of its own.
 *
 * Returns as question_ask(). Where that is CTL_DONE has_daemon is set; otherwise it says whether there is something to
 * show.
 */
int summary_get(const struct ctl *ctl, int fd, struct summary *ret_summary);

/* All of it. The caller's. */
struct json_object *summary_to_json(const struct summary *summary);

#endif
