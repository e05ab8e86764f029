/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_LOBBY_H
#define DAEMON_MONITOR_LOBBY_H

/* Connections that cannot be served in this instant, and probably can in the next. */

#include <stdint.h>

#include "base/list.h"
#include "daemon/monitor/listener.h"

#define LOBBY_MAX 256u
#define LOBBY_PER_USER 128u
#define LOBBY_WAIT_MS 2000u

struct lobby_guest {
        struct list link;
        struct listener_peer peer;
        uint64_t deadline_ns;
};

struct lobby {
        struct list guests; /* in the order of their coming, and so of their deadlines */
        unsigned n_guests;
};

void lobby_init(struct lobby *lobby);

/* Closes who still waits. Takes a zeroed lobby. */
void lobby_deinit(struct lobby *lobby);

/*
 * Lets a connection wait.
 *
 * take_peer: taken, and left empty, on success.
 *
 * Returns 0, -EBUSY when too many wait already, or -ENOMEM.
 */
int lobby_enter(struct lobby *lobby, struct listener_peer *take_peer);

/* The guest leaves; what is left of its connection is closed. */
void lobby_leave(struct lobby *lobby, struct lobby_guest *guest);

/* How many of a user wait. */
unsigned lobby_count(const struct lobby *lobby, uid_t uid);

/* Returns when the first guest has waited too long, or 0 when nobody waits. */
uint64_t lobby_deadline_ns(const struct lobby *lobby);

#endif
