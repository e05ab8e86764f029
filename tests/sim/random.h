/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

/* The one source of every decision of a run: the same seed gives the same run. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
        uint64_t state;
};

static inline uint64_t random_next(struct random *random) {
        uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

/* 0 to n - 1; n is at least 1. */
static inline size_t random_below(struct random *random, size_t n) {
        return (size_t) (random_next(random) % n);
}

static inline bool random_chance(struct random *random, unsigned percent) {
        return random_below(random, 100) < percent;
}

/* Most often small, sometimes up to n; at least 1. */
static inline size_t random_size(struct random *random, size_t n) {
        size_t most = random_chance(random, 50) ? n : n / 16 + 1;

        return 1 + random_below(random, most);
}

#endif
