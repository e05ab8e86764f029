/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_REGION_H
#define DAEMON_WORKER_REGION_H

/* A region: memory that a client lent to the daemon. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "daemon/worker/quota.h"

struct region {
        uint8_t *data;        /* NULL: no region is here */
        size_t size;          /* bytes */
        uint32_t n_loans;     /* ops that the kernel or the daemon may use the memory for */
        bool is_leaving;      /* takes no further op, goes with the last loan */
        struct charge charge; /* of its bytes */
        struct charge place;  /* of a region; a lane is none */
};

/*
 * Accepts a descriptor as a region, in the only order that is safe (each step is explained at its place).
 *
 * fd:    borrowed; may be anything at all.
 * size:  bytes, as the client declared.
 * quota: pays for its bytes.
 *
 * Returns 0; -EDQUOT and why (ret_refusal may be NULL); or -EBADFD and a static text that says what is wrong with the
 * descriptor; -ENOMEM.
 */
int region_init(struct region *region, int fd, uint64_t size, struct quota *quota, struct quota_refusal *ret_refusal,
                const char **ret_problem);

/*
 * Unmaps the region. Nothing may be on loan: the kernel would write into whatever is mapped there next. Test builds
 * stop at such a mistake; others leave the memory mapped for ever, which is the lesser evil.
 */
void region_deinit(struct region *region);

/* Whether the bytes lie within the region; gives their place. */
bool region_resolve(const struct region *region, uint64_t offset, uint64_t len, struct iovec *ret_part);

#endif
