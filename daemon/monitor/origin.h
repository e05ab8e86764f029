/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_ORIGIN_H
#define DAEMON_MONITOR_ORIGIN_H

/* Where a client comes from: its control group, and the unit of systemd that this is. */

#include <sys/types.h>

/*
 * Finds the control group of a process without looking into its /proc.
 *
 * root: where control groups are mounted; NULL: where they are on this machine.
 *
 * Returns 0 and the path below the root, with its leading slash, the caller's to free; -ESRCH when no group has the
 * process, -EXFULL when there are more groups than are looked at, or another -errno.
 */
int origin_find_cgroup(const char *root, pid_t pid, char **ret_cgroup);

/* Finds the system unit of a control group. Returns 0 and its name, the caller's to free, -ENXIO when it is of none. */
int origin_unit_of(const char *cgroup, char **ret_unit);

/*
 * Finds the control group and the unit of who is connected, as libsystemd does, or without /proc where that is hidden.
 *
 * fd:  the connection.
 * pid: of its peer.
 *
 * What is not known is given as NULL; otherwise it is the caller's to free.
 */
void origin_find(int fd, pid_t pid, char **ret_cgroup, char **ret_unit);

#endif
