/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HARNESS_PROCESS_H
#define TESTS_HARNESS_PROCESS_H

/* What /proc tells of processes: children and descriptors. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes up to `max` pids of the children of `parent`, zombies included, and returns how many there are in all. */
size_t process_children(pid_t parent, pid_t *ret_pids, size_t max);

/* Counts the open descriptors of a process (without the one that counts), or returns -errno. */
int process_count_fds(pid_t pid);

/* Prints the open descriptors of a process and what they are, a line each, to stderr. */
void process_print_fds(pid_t pid);

/* Stops a process with SIGSTOP, and waits until each of its threads stands still. Returns 0, or -ETIMEDOUT. */
int process_stop(pid_t pid, uint64_t deadline_ns);

/* Prints pid, state and name of a process to stderr. */
void process_print(pid_t pid);

/*
 * Waits for a process to end, however it is related to the caller. deadline_ns: of now_ns().
 * Returns 0, or -ETIMEDOUT. A child is not reaped.
 */
int process_wait_end(pid_t pid, uint64_t deadline_ns);

#endif
