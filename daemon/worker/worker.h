/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_WORKER_H
#define DAEMON_WORKER_WORKER_H

/* A worker: serves the sessions of the shards that the monitor gives to it. */

struct worker_options {
        int link_fd;        /* the worker's end of the link to the monitor. Taken. */
        const char *engine; /* "auto" or "uring" */
        const char *plant;  /* test builds: "lost-record", "doubled-record" or "swapped-bytes"; else NULL */
};

/*
 * Runs a worker until the monitor stops it or is gone. Never opens, binds, connects, resolves, executes or logs: once
 * the engine is set up the process is locked down.
 *
 * Returns the exit status of the process: 0 after LINK_STOP or when the monitor is gone, 1 when it could not start (the
 * reason went to the monitor as the text of LINK_READY with a negative status).
 */
int worker_run(const struct worker_options *options);

#endif
