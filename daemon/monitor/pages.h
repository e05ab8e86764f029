/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_PAGES_H
#define DAEMON_MONITOR_PAGES_H

/* Pages of what one worker holds: asked for by whoever shows them to an administrator, one at a time. */

#include <stdbool.h>

#include "daemon/link.h"
#include "daemon/monitor/outbox.h"
#include "daemon/snapshot.h"

/* An fd of -1 and zeroes: nobody has asked. */
struct pages {
        uint64_t owner;  /* who wants the answer; 0: nobody any more */
        uint64_t ticket; /* of the latest question */
        bool is_asked;   /* and was not answered */
        bool has_come;   /* the answer, and the owner has not taken it */
        int status;      /* what it says: 0 or -errno */
        int fd;          /* what came with it: sealed memory; -1: nothing */
};

/* The worker is gone: whoever waits gets -EPIPE. */
void pages_end(struct pages *pages);

/*
 * Asks for a page.
 *
 * owner: a number that is not 0, under which the answer can be taken.
 *
 * Returns 0; -EBUSY while another question is under way; or as outbox_push().
 */
int pages_ask(struct pages *pages, struct outbox *outbox, uint64_t owner, const struct snapshot_query *query);

/* The owner wants nothing any more. */
void pages_forget(struct pages *pages, uint64_t owner);

/* The worker answers. fd: borrowed. Returns 0, or -EBADMSG when this is no answer to the question. */
int pages_answer(struct pages *pages, const struct link_message *message, int fd);

/*
 * Takes the answer to a query of that kind.
 *
 * Returns 1 and the page, checked, which the caller frees; 0 when it has not come; -EPIPE when the worker is gone;
 * -EBADMSG when no honest worker would have answered so; what the worker says that went wrong; or -ENOMEM.
 */
int pages_take(struct pages *pages, uint64_t owner, const struct snapshot_query *query,
               struct snapshot_page **ret_page);

#endif
