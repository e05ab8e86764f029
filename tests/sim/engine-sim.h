/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_ENGINE_SIM_H
#define SIM_ENGINE_SIM_H

/* The engine that performs everything itself, as badly as the kernel is allowed to, under a seed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/engine.h"
#include "tests/sim/net.h"
#include "tests/sim/random.h"

/* How badly, in percent. */
struct sim_temper {
        unsigned lazy;   /* a request that could go on does not yet */
        unsigned brief;  /* a transfer is shorter than it could be */
        unsigned faulty; /* a request fails for want of memory or descriptors, is interrupted, or is broken off */
};

/* What has happened, so that a test can tell that it tried everything. */
struct sim_counts {
        uint64_t n_requests;
        uint64_t n_faults;
        uint64_t n_resets;
        uint64_t n_late_cancels; /* requests that ended with a result although they were to be cancelled */
        uint64_t n_cancels;
        uint64_t n_short;
};

/*
 * Makes the engine. Its sockets are the ends of `net`; every other descriptor is a real one, whose readiness is asked
 * of the kernel without waiting.
 *
 * net, random, counts: borrowed.
 */
struct engine *engine_sim_new(struct net *net, struct random *random, struct sim_temper temper,
                              struct sim_counts *counts);

/* Whether the last wait found nothing that could ever happen without help from outside. */
bool engine_sim_is_asleep(const struct engine *engine);

/* No more faults, delays and short transfers: for the end of a run. */
void engine_sim_calm_down(struct engine *engine);

#endif
