/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ENGINE_ATTEMPT_H
#define DAEMON_WORKER_ENGINE_ATTEMPT_H

/* Tries what was requested, now or not at all. */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "daemon/worker/engine.h"

#define ATTEMPT_POLL_MASK 0xffffu /* the events that poll(2) knows; above are epoll's own flags */

struct attempt {
        const struct engine *engine; /* borrowed: whose statistics count the calls */
        timer_t guard;               /* ends an accept that waits all the same */
        bool has_guard;
};

/* To be called by the thread that makes the attempts. Takes SIGALRM over. Returns 0 or -errno. */
int attempt_init(struct attempt *attempt, const struct engine *engine);
void attempt_deinit(struct attempt *attempt);

/*
 * Tries a request once.
 *
 * Returns what it ends with (bytes, a close-on-exec descriptor, events, or -errno), or -EAGAIN when it would block.
 */
int32_t attempt_perform(struct attempt *attempt, struct request *request);

#endif
