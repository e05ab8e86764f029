/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BUCKET_H
#define BASE_BUCKET_H

/*
 * A token bucket: so many tokens a second, and as many as fit at once. Of the tokens nothing is kept but the moment at
 * which all of them would be there, so that nothing is added up and nothing drifts. The rate may change between two
 * calls: what was taken by another one never counts for more than all that fit now.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

struct bucket {
        uint64_t full_ns; /* when it is full again; what is past: it is full */
};

/* How often, and how many at once. */
struct bucket_rate {
        uint32_t per_s; /* 0: there is no limit; at most BUCKET_PER_S_MAX */
        uint32_t burst; /* at least 1, at most BUCKET_BURST_MAX */
};

#define BUCKET_PER_S_MAX 1000000u
#define BUCKET_BURST_MAX 1000000u

static inline uint64_t bucket_step_ns(const struct bucket_rate *rate) {
        return NS_PER_S / rate->per_s;
}

/* Whether there is a token at this moment. now: ns of a clock that does not go back. */
static inline bool bucket_has(struct bucket *bucket, const struct bucket_rate *rate, uint64_t now) {
        uint64_t most_ns;

        if (rate->per_s == 0 || bucket->full_ns <= now)
                return true;
        most_ns = rate->burst * bucket_step_ns(rate);
        if (bucket->full_ns - now > most_ns)
                bucket->full_ns = now + most_ns;
        return bucket->full_ns - now <= most_ns - bucket_step_ns(rate);
}

/* Takes a token. Returns whether there was one. */
static inline bool bucket_take(struct bucket *bucket, const struct bucket_rate *rate, uint64_t now) {
        if (!bucket_has(bucket, rate, now))
                return false;
        if (rate->per_s > 0)
                bucket->full_ns = (bucket->full_ns > now ? bucket->full_ns : now) + bucket_step_ns(rate);
        return true;
}

/* Gives one back. */
static inline void bucket_give(struct bucket *bucket, const struct bucket_rate *rate) {
        uint64_t step_ns = rate->per_s > 0 ? bucket_step_ns(rate) : 0;

        bucket->full_ns = bucket->full_ns > step_ns ? bucket->full_ns - step_ns : 0;
}

/* When so many tokens will be there, or all that fit. */
static inline uint64_t bucket_when(const struct bucket *bucket, const struct bucket_rate *rate, uint32_t n) {
        uint64_t rest;

        if (rate->per_s == 0)
                return 0;
        rest = n < rate->burst ? (rate->burst - n) * bucket_step_ns(rate) : 0;
        return bucket->full_ns > rest ? bucket->full_ns - rest : 0;
}

#endif
