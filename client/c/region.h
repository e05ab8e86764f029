/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_REGION_H
#define CLIENT_REGION_H

/* A region: memory that is shared with the daemon. */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "client/c/overlap.h"
#include "proto/layout.h"

struct ovl_region {
        /* Constant. */
        struct ovl_session *session; /* borrowed */
        uint8_t *data;
        size_t size;
        uint32_t number;

        /* Guarded by the session's lock. */
        uint32_t n_loans; /* level 0: buffers in it that an operation will write to */
        struct list link; /* in session->regions */
};

/* Makes sealable memory of allocated blocks. name: for diagnosis. Returns 0 and a descriptor, or -errno. */
int region_make(size_t size, const char *name, int *ret_fd);

/* Makes a region that is in no list: no buffer may lie in it yet. call: for the error text. */
int region_open(struct ovl_thread *thread, size_t size, const char *call, struct ovl_region **ret_region);

/* Unmaps. The daemon's own mapping is its own affair. Returns NULL. */
struct ovl_region *region_free(struct ovl_region *region);

/* Gives the slice of a buffer. Returns 0, or -EFAULT when it lies in no region. Under the session's lock. */
int region_find_slice(struct ovl_session *session, const struct ovl_buffer *buffer, struct ovl_slice *ret_slice);

DEFINE_CLEANUP(struct ovl_region *, region_free)

#endif
