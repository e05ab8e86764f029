/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ENGINE_RING_H
#define DAEMON_WORKER_ENGINE_RING_H

/* A ring that can do no more than the engine needs. */

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/engine-features.h"

struct ring {
        struct io_uring io;
        struct features features;
        bool is_set_up;
        bool requires_files; /* every submission must name a registered file */
        const char *missing; /* an operation that the kernel does not know; NULL: it knows them all */
        uint32_t n_max;      /* requests that may be in flight at once */
        int *free_files;     /* a stack of free indices of the file table */
        uint32_t n_free_files;
};

/*
 * Opens a ring and restricts it for good.
 *
 * Returns 0; or -errno and the step that the kernel refused, and `missing` where that is the cause.
 */
int ring_open(struct ring *ring, const struct features *features, const char **ret_step);
void ring_close(struct ring *ring);

/* Registers a file. Returns its index, -ENFILE when there is no room, or another -errno. */
int ring_attach(struct ring *ring, int fd);
void ring_detach(struct ring *ring, int index);

/* Prepares the cancel of what was submitted with this data. Its own completion has data 0. */
void ring_prepare_cancel(const struct ring *ring, struct io_uring_sqe *sqe, uint64_t data);

#endif
