/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HARNESS_DAEMON_H
#define TESTS_HARNESS_DAEMON_H

/*
 * An overlapd of the running case. The environment says which: OVL_TEST_OVERLAPD is the path of the program,
 * OVL_TEST_ENGINE the engine (default: uring), OVL_TEST_FEATURES what it may use of the kernel (see
 * daemon/worker/engine-features.h; default: everything). Everything here asserts: a call returns when it has succeeded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define DAEMON_WORKERS_MAX 16

struct daemon {
        char path[64]; /* of its socket */
        char log[64];  /* file with its standard error */
        pid_t monitor; /* 0: not running */
};

/*
 * Starts a daemon and waits until it serves.
 *
 * arguments: further ones for its command line, ended by NULL; NULL: none. Borrowed.
 */
void daemon_start(struct daemon *ret_daemon, const char *const *arguments);

/*
 * Stops it with SIGTERM and checks that it exits with 0, that its workers have ended in order, that no process of it
 * remains, and that its socket is gone.
 */
void daemon_stop(struct daemon *daemon);

/* Kills the monitor with SIGKILL and waits until its workers have ended too. */
void daemon_kill(struct daemon *daemon);

/* The pids of the workers, after waiting for `n` of them. */
void daemon_workers(const struct daemon *daemon, pid_t *ret_pids, size_t n);

/* The pid of the only worker. */
pid_t daemon_worker(const struct daemon *daemon);

/* Waits until a process (the monitor or a worker) has exactly so many descriptors. */
void daemon_wait_fds(pid_t pid, int n_fds);

/* The descriptors of a process once their number has stayed the same for some looks. */
int daemon_count_fds(pid_t pid);

/* Waits until the daemon's standard error contains a text. */
void daemon_wait_log(const struct daemon *daemon, const char *text);

/* Whether the daemon's standard error contains a text now. */
bool daemon_log_has(const struct daemon *daemon, const char *text);

/* Opens a connection to the daemon. Returns the descriptor: the caller's, close-on-exec, blocking. */
int daemon_connect(const struct daemon *daemon);

#endif
