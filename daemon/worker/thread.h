/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_THREAD_H
#define DAEMON_WORKER_THREAD_H

/* A thread, as the daemon sees it: an originator of operations, and where their records are sent. */

#include <stdint.h>

#include "base/list.h"

struct peer;

struct thread {
        struct list link;  /* in its session */
        uint64_t number;   /* chosen by the client */
        uint32_t tid;      /* the kernel's, for diagnosis only */
        struct peer *peer; /* borrowed: its connection */
};

#endif
