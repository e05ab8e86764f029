/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_QUOTA_H
#define DAEMON_WORKER_QUOTA_H

/*
 * Who pays for what. A charge is embedded in the thing that it pays for, is taken before the thing is made, and goes
 * when the thing goes.
 */

#include <errno.h>
#include <stdint.h>

struct quota {
        uint64_t limit;
        uint64_t used;
};

struct charge {
        struct quota *quota; /* borrowed; NULL: nothing is charged */
        uint64_t amount;
};

/* Returns 0, or -EDQUOT when the amount is not left. An amount that would overflow is not left. */
static inline int charge_take(struct charge *charge, struct quota *quota, uint64_t amount) {
        if (amount > quota->limit - quota->used)
                return -EDQUOT;
        quota->used += amount;
        *charge = (struct charge){ .quota = quota, .amount = amount };
        return 0;
}

static inline void charge_release(struct charge *charge) {
        if (charge->quota)
                charge->quota->used -= charge->amount;
        *charge = (struct charge){ 0 };
}

/* Hands the charge over to another owner. */
static inline struct charge charge_move(struct charge *charge) {
        struct charge moved = *charge;

        *charge = (struct charge){ 0 };
        return moved;
}

#endif
