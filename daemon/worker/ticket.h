/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_TICKET_H
#define DAEMON_WORKER_TICKET_H

/* A request to the monitor that is under way. Embedded in whoever waits for the answer. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct link_message;

enum ticket_owner {
        TICKET_OP,
        TICKET_CALL,
        TICKET_RESOLVE, /* an op, too, but one without a socket */
        TICKET_LOOK,    /* likewise, an ioctl */
};

struct ticket {
        enum ticket_owner owner;
        struct list link;             /* among those that wait for room in the link */
        uint64_t number;              /* 0: not asked */
        struct link_message *message; /* borrowed: stays until the answer came */
        int fd;                       /* borrowed: rides along; -1: none */
        bool is_sent;
        bool cancel_wanted;
};

#endif
