/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SYSTEM_ESTATE_H
#define TESTS_SYSTEM_ESTATE_H

/* A daemon and what it holds while nobody uses it: descriptors of both processes, and foreign memory of the worker. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/harness/daemon.h"

struct estate {
        struct daemon daemon;
        pid_t worker;
        int n_monitor_fds;
        int n_worker_fds;
        int n_worker_maps; /* shared memory files; -1: /proc does not show them to this user */
};

/* Starts a daemon with one worker and takes stock. arguments: as daemon_start(). */
void estate_start(struct estate *ret_estate, const char *const *arguments);

/* Takes stock anew: of a daemon whose worker was replaced. */
void estate_take_stock(struct estate *estate);

/* Waits until the daemon holds what it held, and no more. */
void estate_check(const struct estate *estate);

/* Checks, then stops the daemon. */
void estate_stop(struct estate *estate);

/* The mappings of a process that are shared memory files, or -1 when that cannot be seen. */
int estate_count_maps(pid_t pid);

/* Kibibytes of memory that a process alone has written to, or -1 when that cannot be seen. */
long estate_private_kib(pid_t pid);

#endif
