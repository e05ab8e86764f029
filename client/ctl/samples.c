/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Percentiles by nearest rank: each is a value that was measured, never one between two of them. Room is taken before
 * anything is measured, so that an allocation is no part of what is measured.
 */

#include "client/ctl/samples.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

int samples_init(struct samples *samples, size_t size) {
        uint64_t *values = calloc(size, sizeof(*values));

        if (!values)
                return -ENOMEM;
        *samples = (struct samples){ .values_ns = values, .size = size };
        return 0;
}

void samples_deinit(struct samples *samples) {
        free(take_ptr(samples->values_ns));
        samples->n = samples->size = 0;
}

void samples_add(struct samples *samples, uint64_t ns) {
        if (samples->n < samples->size)
                samples->values_ns[samples->n++] = ns;
}

static int samples_compare(const void *left, const void *right) {
        uint64_t a = *(const uint64_t *) left, b = *(const uint64_t *) right;

        return a < b ? -1 : a > b;
}

void samples_sort(struct samples *samples) {
        qsort(samples->values_ns, samples->n, sizeof(*samples->values_ns), samples_compare);
}

uint64_t samples_percentile(const struct samples *samples, unsigned percent) {
        size_t rank = (samples->n * percent + 99) / 100; /* the first is 1 */

        if (samples->n == 0)
                return 0;
        return samples->values_ns[rank > 0 ? rank - 1 : 0];
}
