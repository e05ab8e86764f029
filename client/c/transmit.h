/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_TRANSMIT_H
#define CLIENT_TRANSMIT_H

/* What a transmit sends: memory, and ranges of a file. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/c/overlap.h"
#include "proto/layout.h"

struct transmit {
        const struct ovl_part *parts; /* borrowed */
        size_t n_parts;
        bool has_range; /* they are the head and the tail of a range of the file */
        uint64_t len;   /* of that range; 0: to the end */
};

/* The array that an entry names: of slices, or of elements, which have the same size. */
union transmit_array {
        struct ovl_slice slices[OVL_SLICES_MAX];
        struct ovl_element elements[OVL_SLICES_MAX];
};

/* What can be seen without the shared state. Returns 0, or -errno and the thread's error. */
int transmit_check(struct ovl_thread *thread, const struct transmit *transmit, const char *call);

/*
 * Makes the array. Under the session's lock.
 *
 * ret_bytes: what the operation sends at most.
 *
 * Returns how many places of the array are used, or -errno and the thread's error.
 */
int transmit_describe(struct ovl_thread *thread, const struct transmit *transmit, const char *call,
                      union transmit_array *ret_array, uint64_t *ret_bytes);

#endif
