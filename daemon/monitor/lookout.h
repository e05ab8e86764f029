/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_LOOKOUT_H
#define DAEMON_MONITOR_LOOKOUT_H

/* The lookout: what clients ask of the machine's addresses, interfaces and routes, and of their changes. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/monitor/connector.h"
#include "daemon/monitor/journal.h"
#include "daemon/monitor/netlink.h"
#include "daemon/monitor/outbox.h"

#define LOOKOUT_WATCHES_MAX 1024u /* changes that all clients wait for */
#define LOOKOUT_WATCHES_OF_USER_MAX (LOOKOUT_WATCHES_MAX / 2)

struct lookout_address;

struct lookout {
        sd_event *event;          /* borrowed */
        struct journal *journal;  /* borrowed */
        struct netlink questions; /* while it is needed, as the next */
        struct netlink changes;   /* what the kernel tells; closed while nobody waits for a change */
        sd_event_source *changes_source;
        struct list watches; /* who waits for a change */
        unsigned n_watches;
        struct lookout_address *addresses; /* that the machine has, as far as the changes were read. Owned */
        size_t n_addresses, n_addresses_held;
        bool has_complained; /* of what it may not see */
};

void lookout_init(struct lookout *lookout, sd_event *event, struct journal *journal);

/* Nobody is answered. Takes a zeroed structure. */
void lookout_deinit(struct lookout *lookout);

/*
 * Looks on behalf of a worker's client, now or at the next change.
 *
 * outbox:  where the answer goes, and before it, where a change is waited for, LINK_ARMED. Borrowed until it was
 *          answered, or until lookout_forget().
 * message: a LINK_LOOK.
 *
 * Returns 0; -EBADMSG and a static text when no honest worker would have sent this; or another -errno when the answer
 * could not be given.
 */
int lookout_ask(struct lookout *lookout, struct outbox *outbox, const struct link_message *message,
                const struct connector_client *client, const char **ret_problem);

/* Ends a wait for a change: it is answered with -ECANCELED. A ticket that names nothing was answered already. */
void lookout_cancel(struct lookout *lookout, struct outbox *outbox, uint64_t ticket);

/* The worker is gone: nobody waits for its answers. */
void lookout_forget(struct lookout *lookout, const struct outbox *outbox);

#endif
