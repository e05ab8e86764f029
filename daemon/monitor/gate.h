/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_GATE_H
#define DAEMON_MONITOR_GATE_H

/* How fast users may open sessions: who connects too often is kept out for a while. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bucket.h"
#include "base/list.h"

#define GATE_PENALTY_NS NS_PER_S            /* the first; each that follows soon is twice as long */
#define GATE_PENALTY_MAX_NS (60 * NS_PER_S) /* the longest, and how long it takes to be forgotten */

struct gate {
        struct list users;
};

void gate_init(struct gate *gate);

/* Takes a zeroed structure. */
void gate_deinit(struct gate *gate);

/*
 * Asks whether a connection of a user may come in.
 *
 * n_unknown: of his that came in, or wait, and have not opened anything yet.
 * now:       ns of the clock that deadlines use.
 *
 * Returns 0; -EBUSY when he is kept out, with the ns that it will last still, and whether it begins only now; or
 * -ENOMEM.
 */
int gate_pass(struct gate *gate, uid_t uid, const struct bucket_rate *rate, unsigned n_unknown, uint64_t now,
              uint64_t *ret_wait_ns, bool *ret_begins);

/* The connection has opened no session: it belongs to one that is there, and counts for nothing. */
void gate_give_back(struct gate *gate, uid_t uid, const struct bucket_rate *rate);

#endif
