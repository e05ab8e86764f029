/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_LOCKDOWN_H
#define DAEMON_WORKER_LOCKDOWN_H

/* Which engine the worker is on: each needs calls that the other must not have. */
enum lockdown {
        LOCKDOWN_URING,
        LOCKDOWN_EPOLL,
};

/*
 * Gives up every capability, for good. Capabilities belong to a thread: call it before the first further one is made.
 *
 * Returns 0 or -errno.
 */
int lockdown_drop_capabilities(void);

/*
 * Locks the process down for good: from here on it can use the descriptors that it has or is given, and do nothing
 * else; on epoll, accept and transfer by system calls, on io_uring by the ring that it has. No socket, bind, connect,
 * listen, open, exec, fork, thread, ring, or executable memory: trying is death.
 *
 * Returns 0 or -errno.
 */
int lockdown_worker(enum lockdown lockdown);

#endif
