/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_BLOCKING_H
#define CLIENT_BLOCKING_H

/* How a synchronous call waits for its operation. */

#include <stdbool.h>
#include <stdint.h>

#include "client/c/association.h"

struct ovl_entry;
struct ovl_overlapped;
struct ovl_thread;

/* A call that waits. Lives on the stack of its thread; guarded by the session's lock. */
struct blocking {
        struct blocking *outer; /* borrowed: the call in whose wait this one was made, by a routine or an APC */
        bool is_cancelled;      /* somebody wants its end */
};

/*
 * Waits alertably until a pending operation has ended. When its time is over, or another thread wants its end, it is
 * cancelled, and has ended all the same when this returns.
 *
 * timeout_ns: OVL_INFINITE; 0: it is cancelled at once.
 *
 * Returns 0 when it ended by itself, or what it was cancelled for: -ETIMEDOUT or -ECANCELED; by then it may have
 * succeeded.
 */
int blocking_await(struct ovl_thread *thread, uint64_t socket, struct ovl_overlapped *overlapped, uint64_t timeout_ns);

/* How long a call of this operation may wait on a socket of this manner: OVL_INFINITE; 0: not at all. */
uint64_t blocking_timeout(const struct manner *manner, const struct ovl_entry *entry);

#endif
