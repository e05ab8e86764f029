/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_PORT_H
#define DAEMON_WORKER_PORT_H

/* A completion port, as the daemon sees it: a place where records of associated sockets are sent. */

#include <stdint.h>

#include "base/list.h"

struct peer;

struct port {
        struct list link;  /* in its session */
        uint64_t number;   /* chosen by the client */
        struct peer *peer; /* borrowed: its connection */
};

#endif
