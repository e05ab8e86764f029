/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_POLLING_H
#define BASE_POLLING_H

/*
 * Whether to look for work a little longer before sleeping. To wake a processor that sleeps costs ten times as much as
 * an operation; to look in vain costs whoever else wants the processor. So it is done only while it pays: what the last
 * sleeps and looks have shown decides, and one that has nothing to do soon sleeps at once and for good.
 */

#include <stdbool.h>
#include <stdint.h>

#define POLLING_SCORE_MAX 8u
#define POLLING_SCORE_PAYS 4u

struct polling {
        uint64_t limit_ns; /* how long to look; 0: never */
        uint64_t until_ns; /* while looking: when to give up; 0: not looking */
        unsigned score;    /* grows when looking paid or would have paid */
};

/* Whether to look once more instead of sleeping. */
static inline bool polling_looks(struct polling *polling, uint64_t now) {
        if (polling->limit_ns == 0)
                return false;
        if (polling->until_ns == 0) {
                if (polling->score < POLLING_SCORE_PAYS)
                        return false;
                polling->until_ns = now + polling->limit_ns;
                return true;
        }
        if (now < polling->until_ns)
                return true;
        polling->until_ns = 0;
        polling->score = polling->score > 2 ? polling->score - 2 : 0;
        return false;
}

/* There was something to do. Returns whether looking for it has spared a sleep. */
static inline bool polling_found(struct polling *polling) {
        bool has_paid = polling->until_ns > 0;

        if (has_paid && polling->score < POLLING_SCORE_MAX)
                polling->score++;
        polling->until_ns = 0;
        return has_paid;
}

/* A sleep has ended. */
static inline void polling_slept(struct polling *polling, uint64_t slept_ns) {
        if (slept_ns > polling->limit_ns)
                polling->score -= polling->score > 0;
        else if (polling->score < POLLING_SCORE_MAX)
                polling->score++;
}

#endif
