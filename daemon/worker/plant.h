/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_PLANT_H
#define DAEMON_WORKER_PLANT_H

/*
 * Faults that test builds can plant into one record, for the ledger to find. In release builds nothing is left of them.
 */

#include <stdbool.h>

struct op;
struct session;

#ifdef OVL_TEST_HOOKS
/* Whether the record of this op is to be lost. */
bool plant_loses(struct session *session, const struct op *op);

/* Appends the record of this op to its peer once more; where the first brings payload, the second has none. */
void plant_doubles(struct session *session, const struct op *op);

/* Exchanges two bytes of what this op received. */
void plant_swaps(struct session *session, const struct op *op);

/* Whether an APC that is queued to this session is to be lost, or to be queued twice. */
bool plant_loses_apc(struct session *session);
bool plant_doubles_apc(struct session *session);
#else
static inline bool plant_loses(struct session *session, const struct op *op) {
        return false;
}

static inline void plant_doubles(struct session *session, const struct op *op) {
}

static inline void plant_swaps(struct session *session, const struct op *op) {
}

static inline bool plant_loses_apc(struct session *session) {
        return false;
}

static inline bool plant_doubles_apc(struct session *session) {
        return false;
}
#endif

#endif
