/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_SPAWN_H
#define DAEMON_MONITOR_SPAWN_H

/* Starts processes: workers, the resolver, and the command of a private instance. */

#include <sys/resource.h>
#include <sys/types.h>

#define SPAWN_LINK_FD 3 /* where a worker finds its end of the link, and the resolver its socket */

struct spawn_worker {
        const char *engine;    /* borrowed */
        unsigned poll_us;      /* see CONFIG_KEY_POLL */
        const char *plant;     /* borrowed; test builds, else NULL */
        const char *features;  /* borrowed; test builds, else NULL */
        const char *killpoint; /* borrowed; test builds: value of OVL_TEST_KILLPOINT for the worker, else NULL */
};

/*
 * Starts this executable again as a worker, which dies with the monitor.
 *
 * Returns 0, the process, and the monitor's end of its link; or -errno.
 */
int spawn_worker(const struct spawn_worker *worker, pid_t *ret_pid, int *ret_link_fd);

/*
 * Starts this executable again as the resolver, which dies with the monitor.
 *
 * Returns 0, the process, and the monitor's end of the socket on which it is asked; or -errno.
 */
int spawn_resolver(pid_t *ret_pid, int *ret_fd);

/*
 * Starts a command as the caller would have found it: signals, their mask and the limit of descriptors as they were.
 *
 * argv:        ends with NULL; argv[0] is looked up in PATH.
 * socket_path: becomes OVERLAPD_SOCKET.
 * n_files:     the limit of descriptors that the command gets.
 *
 * Returns 0 and the process, or the -errno with which it could not be executed.
 */
int spawn_command(char *const argv[], const char *socket_path, const struct rlimit *n_files, pid_t *ret_pid);

#endif
