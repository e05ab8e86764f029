/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_SAMPLES_H
#define CLIENT_CTL_SAMPLES_H

/* Durations that were measured, and what is told of them. */

#include <stddef.h>
#include <stdint.h>

struct samples {
        uint64_t *values_ns; /* heap; in the order in which they came until samples_sort() */
        size_t n;
        size_t size; /* room */
};

/* Returns 0 or -ENOMEM. size: how many there will be, 1 or more. */
int samples_init(struct samples *samples, size_t size);
void samples_deinit(struct samples *samples);

/* Adds one. What finds no room is not taken. */
void samples_add(struct samples *samples, uint64_t ns);

/* To be called once, before samples_percentile(). */
void samples_sort(struct samples *samples);

/* The smallest value that so many percent of all do not exceed: 0 is the least of all, 100 the greatest. 0 of none. */
uint64_t samples_percentile(const struct samples *samples, unsigned percent);

#endif
