/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_WORKER_H
#define DAEMON_WORKER_WORKER_H

/* A worker: serves the sessions of the shards that the monitor gives to it. */

#include <stdbool.h>
#include <stdint.h>

#include "base/polling.h"
#include "daemon/worker/control.h"
#include "daemon/worker/resources.h"
#include "proto/frame.h"

struct worker_options {
        int link_fd;          /* the worker's end of the link to the monitor. Taken. */
        const char *engine;   /* "auto", "uring" or "epoll" */
        unsigned poll_us;     /* how long to look for work before sleeping, while it pays; 0: never */
        const char *plant;    /* test builds: "lost-record", "doubled-record" or "swapped-bytes"; else NULL */
        const char *features; /* test builds: what is not used of the kernel, see engine-features.h; else NULL */
};

struct worker {
        struct resources resources;
        struct control control;
        struct list peers;
        struct list unopened;  /* peers that have not said hello */
        struct list graveyard; /* peers that are dead */
        struct polling polling;
        uint64_t started_ns;
        bool is_stopping;
        uint8_t scratch[FRAME_SIZE_MAX];
};

/*
 * Makes a worker on an engine.
 *
 * engine:        taken on success.
 * engine_reason: why it was chosen; borrowed.
 * link_fd:       taken on success.
 *
 * Returns 0 and the worker, or -errno.
 */
int worker_new(struct engine *engine, const char *engine_reason, int link_fd, enum plant plant,
               struct worker **ret_worker);

/* Ends all connections at once; in-flight requests die with the engine. Returns NULL. */
struct worker *worker_free(struct worker *worker);

/*
 * One turn: wait, reap, serve, publish, bury.
 *
 * may_sleep: false: look only at what is there.
 *
 * Returns 1; 0 when the worker has finished (it was stopped, or the monitor is gone); or -errno of the engine.
 */
int worker_turn(struct worker *worker, bool may_sleep);

/*
 * Runs a worker until the monitor stops it or is gone. Never opens, binds, connects, resolves, executes or logs: once
 * the engine is set up the process is locked down.
 *
 * Returns the exit status of the process: 0 after LINK_STOP or when the monitor is gone, 1 when it could not start (the
 * reason went to the monitor as the text of LINK_READY with a negative status).
 */
int worker_run(const struct worker_options *options);

#endif
