/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_RESOLVER_RESOLVER_H
#define DAEMON_RESOLVER_RESOLVER_H

/* The resolver: a process that looks names up for the monitor, and does nothing else. */

/*
 * Answers queries until the monitor is gone.
 *
 * fd: the resolver's end of the socket. Taken.
 *
 * Returns the exit status of the process.
 */
int resolver_run(int take_fd);

#endif
