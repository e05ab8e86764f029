/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The policy. There are no rules yet: access to the Unix socket is the grant, and the daemon says so when it starts.
 * Every request of a worker passes through here before the kernel sees it, so that rules have one place to stand in.
 *
 * One thing is not granted to everybody. Who connects to a Unix socket, or makes one in the file system, does it with
 * the rights and under the name of the daemon: a client of another user could reach what its own user may not, such as
 * the control sockets of other services, and be taken for the daemon there. So Unix addresses are for clients of the
 * daemon's own user, who gain nothing by it. The worker, which sends datagrams without asking, is told so with each
 * connection.
 *
 * Nor may others bring Unix sockets of their own. Bytes that are received from one can be accompanied by descriptors,
 * whatever the socket was told before: whoever keeps a copy of it can change that again. A descriptor that is received
 * is closed where it is received, and to close a lingering socket takes as long as its sender chose. Clients of the
 * daemon's own user can stop it in any case. Rejected: to receive the descriptors, and close them in the reaper, which
 * fails when there are more than the worker may have.
 */

#include "daemon/monitor/grant.h"

#include <unistd.h>

bool policy_allows_unix(uid_t uid) {
        return uid == geteuid();
}

bool policy_allows(const struct policy_request *request) {
        if (request->address && request->address->family == OVL_FAMILY_UNIX)
                return policy_allows_unix(request->uid);
        return true;
}

const char *policy_text(void) {
        return "no policy yet: members of group overlapd may use the network without limits; Unix sockets are for "
               "the daemon's own user";
}
