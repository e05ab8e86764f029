/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_LOCKDOWN_H
#define DAEMON_WORKER_LOCKDOWN_H

/*
 * Locks the process down for good: from here on it can use the descriptors that it has or is given, and do nothing
 * else. No socket, bind, connect, listen, accept, open, exec, fork, thread, ring, or executable memory: trying is
 * death.
 *
 * Returns 0 or -errno.
 */
int lockdown_worker(void);

#endif
