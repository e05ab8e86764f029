/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_ADMIN_ANSWER_H
#define DAEMON_MONITOR_ADMIN_ANSWER_H

/* The answer to one question of an administrator: made piece by piece, as it is sent. */

#include <stdbool.h>

#include "daemon/monitor/config.h"
#include "daemon/monitor/crew.h"
#include "daemon/monitor/rulings.h"
#include "daemon/snapshot.h"
#include "proto/admin.pb-c.h"

#define ADMIN_TEXT_SIZE 512
#define ADMIN_NAME_SIZE 256

/* What the monitor itself knows, and changes. */
struct admin_about {
        const struct config *config; /* borrowed: as it is in force */
        const char *socket_path;     /* borrowed */
        const char *state;           /* starting, serving or stopping: static storage */
        uint64_t started_ns;
        uint64_t n_accepted; /* connections of clients */
        uint64_t n_refused;
        uint64_t n_reloads;
};

/* What is asked. Borrowed. */
struct admin_sources {
        const struct admin_about *about;
        struct crew *crew;
        struct shards *shards;
        struct rulings *rulings;
        const struct journal *journal;
};

/* Whole frames that are to be sent. */
struct admin_out {
        uint8_t *bytes;
        size_t size;
        size_t len;
        size_t sent;
};

struct admin_answer {
        const struct admin_sources *sources; /* borrowed */
        uint64_t owner;                      /* of the pages that it asks for */
        struct admin_out out;
        bool is_open;   /* it was begun, and its last frame is not in `out` */
        bool is_status; /* counts of all workers, else a list */
        bool is_asked;  /* the worker was asked for a page */
        unsigned worker;
        struct snapshot_query query;
        char *unit; /* only what belongs to it; NULL: all */
        uint64_t limit;
        uint64_t n_given;
        int status; /* of the last frame */
        char text[ADMIN_TEXT_SIZE];
};

void admin_answer_init(struct admin_answer *answer, const struct admin_sources *sources, uint64_t owner);
void admin_answer_deinit(struct admin_answer *answer);

/* Begins the answer to a question. Returns 0 or -ENOMEM. */
int admin_answer_begin(struct admin_answer *answer, const Overlapd__AdminRequest *request);

/*
 * Goes on with it, until there is something to be sent.
 *
 * Returns 0; -EAGAIN when a worker has to answer first; or -ENOMEM.
 */
int admin_answer_go_on(struct admin_answer *answer);

/* The worker that is waited for does not answer: the rest of the answer will say so. */
void admin_answer_skip(struct admin_answer *answer);

/* Instead of all that is left: one frame that says what was wrong. Returns 0 or -ENOMEM. */
int admin_answer_refuse(struct admin_answer *answer, int status, const char *text);

/* For the parts of the answer. Returns 0 or -ENOMEM. */
int admin_answer_push(struct admin_answer *answer, Overlapd__AdminReply *reply);

/*
 * A text from elsewhere, as a message may have it: UTF-8, where it is, and no control characters. Paths of ours are
 * from elsewhere, too. Return `text`, or `to`.
 */
char *admin_clean_in_place(char *text);
char *admin_clean(const char *text, char to[ADMIN_NAME_SIZE]);

/* One item of a list (admin-list.c). Returns 0; -E2BIG when there are as many as were asked for; or -ENOMEM. */
int admin_list_show(struct admin_answer *answer, const struct snapshot_item *item);

/* What the policy would say (admin-policy.c). Returns 0; -EINVAL and a text in the answer; or -ENOMEM. */
int admin_policy_test(struct admin_answer *answer, const Overlapd__AdminPolicyTest *test);

#endif
