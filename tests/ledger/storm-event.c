/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Waiting for events. Every operation of the worker that waits so has an event of its own; another worker of the same
 * client waits for some of them, too, and whichever wait is satisfied writes the completion down.
 *
 * Invariant: an operation is given back by the one wait that took its signal. So a stranger waits only for events that
 * reset themselves, of which each signal releases one wait; manual ones are left to their worker.
 *
 *   reset --post--> reset --the operation ends--> set --wait, here or there: storm_op_done--> reset, or set until
 * reposted
 */

#include <errno.h>

#include "base/time.h"
#include "tests/ledger/storm.h"

#define EVENT_WAIT_NS (2 * NS_PER_MS)
#define EVENT_WAITED 64 /* the library's limit */

int storm_events_open(struct storm_worker *worker) {
        int r;

        for (unsigned i = 0; i < STORM_OPS; i++) {
                r = ovl_event_open(worker->client->session, 0, &worker->ops[i].events[0]);
                if (r == 0)
                        r = ovl_event_open(worker->client->session, OVL_EVENT_MANUAL, &worker->ops[i].events[1]);
                if (r < 0)
                        return r;
        }
        return 0;
}

void storm_events_close(struct storm_worker *worker) {
        for (unsigned i = 0; i < STORM_OPS; i++)
                for (unsigned manual = 0; manual < 2; manual++)
                        worker->ops[i].events[manual] = ovl_event_close(worker->ops[i].events[manual]);
}

/* Operations of `owner` in flight, at most `max`, from a random one on. Returns how many. */
static size_t event_collect(struct storm_worker *worker, struct storm_worker *owner, size_t max,
                            struct storm_op *ret_ops[EVENT_WAITED], struct ovl_event *ret_events[EVENT_WAITED]) {
        unsigned start = storm_pick(&worker->random, STORM_OPS);
        size_t n = 0;

        for (unsigned i = 0; i < STORM_OPS && n < max; i++) {
                struct storm_op *op = &owner->ops[(start + i) % STORM_OPS];
                struct ovl_event *event;

                if (!__atomic_load_n(&op->in_flight, __ATOMIC_ACQUIRE))
                        continue;
                event = __atomic_load_n(&op->event, __ATOMIC_RELAXED);
                if (!event || (worker != owner && event == op->events[1]))
                        continue;
                ret_ops[n] = op;
                ret_events[n++] = event;
        }
        return n;
}

static void event_wait(struct storm_worker *worker, struct storm_worker *owner, size_t max, bool all) {
        struct ovl_event *events[EVENT_WAITED];
        struct storm_op *ops[EVENT_WAITED];
        size_t n = event_collect(worker, owner, max, ops, events), at = 0;
        int r;

        if (n == 0)
                r = ovl_sleep(worker->thread, EVENT_WAIT_NS);
        else
                r = ovl_wait_events(worker->thread, events, n, all, EVENT_WAIT_NS, storm_pick(&worker->random, 2) == 0,
                                    &at);
        if (r < 0 && r != -ETIMEDOUT)
                storm_worker_failed(worker, "waiting for events", r);
        if (n == 0 || r != 0)
                return;
        for (size_t i = all ? 0 : at; i < (all ? n : at + 1); i++)
                storm_op_done(worker, ops[i], EVENT_MODE_EVENT, 0);
}

void storm_events_wait(struct storm_worker *worker) {
        bool all = storm_pick(&worker->random, 8) == 0;

        event_wait(worker, worker, all ? 2 + storm_pick(&worker->random, 2) : EVENT_WAITED, all);
}

void storm_events_wait_foreign(struct storm_worker *worker) {
        for (unsigned i = 0; i < STORM_WORKERS; i++)
                if (worker->client->workers[i].mode == EVENT_MODE_EVENT)
                        event_wait(worker, &worker->client->workers[i], 1 + storm_pick(&worker->random, 8), false);
}
