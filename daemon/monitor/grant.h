/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_GRANT_H
#define DAEMON_MONITOR_GRANT_H

/* Who may use the network, and how: the one place where the daemon says yes or no. */

#include <stdbool.h>
#include <sys/types.h>

#include "proto/layout.h"

enum policy_act {
        POLICY_OPEN,
        POLICY_BIND,
        POLICY_LISTEN,
        POLICY_CONNECT,
        POLICY_ADOPT, /* to bring sockets of its own: asked once for each connection, as the next */
        POLICY_RESOLVE,
        POLICY_LOOK,   /* at addresses, interfaces and routes, and at their changes */
        POLICY_EXPORT, /* to take sockets out, where nothing counts or limits them any more */
};

struct policy_request {
        enum policy_act act;
        uid_t uid;
        const char *unit; /* of the client, or NULL. Borrowed. */
        const struct ovl_address
                *address; /* what the kernel will be given; NULL where none belongs to the act. Borrowed. */
};

/* Whether the request may be carried out. */
bool policy_allows(const struct policy_request *request);

/* Whether a client may name Unix sockets, and bring its own: what a worker is told of its connection. */
bool policy_allows_unix(uid_t uid);

/* What the policy is, in a line for the journal. Static storage. */
const char *policy_text(void);

#endif
