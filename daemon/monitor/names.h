/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_NAMES_H
#define DAEMON_MONITOR_NAMES_H

/* Names: what clients want to have resolved, and the resolver process that is asked for it. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/monitor/connector.h"
#include "daemon/monitor/journal.h"
#include "daemon/monitor/outbox.h"
#include "daemon/resolver/query.h"

#define NAMES_PENDING_MAX 1024u /* queries of all clients */
#define NAMES_PENDING_OF_USER_MAX (NAMES_PENDING_MAX / 2)
#define NAMES_LATE_S 30u   /* until a client is told to try again */
#define NAMES_STUCK_S 120u /* until a resolver that does not answer is killed */

struct names {
        sd_event *event;         /* borrowed */
        struct journal *journal; /* borrowed */
        struct rulings *rulings; /* borrowed */
        struct list waiting;     /* queries that the resolver does not have yet, in order */
        struct list running;     /* that it has */
        unsigned n_pending;      /* of both */
        unsigned n_running;
        uint64_t n_queries; /* ever made: their numbers */
        pid_t pid;          /* of the resolver; 0: it does not run */
        int fd;             /* on which it is asked; -1 */
        sd_event_source *answer_source;
        sd_event_source *child_source;
        sd_event_source *tick; /* while queries are pending */
};

void names_init(struct names *names, sd_event *event, struct journal *journal, struct rulings *rulings);

/* Kills the resolver and waits for its end; nobody is answered. Takes a zeroed structure. */
void names_deinit(struct names *names);

/*
 * Resolves a name on behalf of a worker's client.
 *
 * outbox:  where the answer goes, now or later. Borrowed until then, or until names_forget().
 * message: a LINK_RESOLVE.
 *
 * Returns 0; -EBADMSG and a static text when no honest worker would have sent this; or another -errno when the answer
 * could not be given.
 */
int names_ask(struct names *names, struct outbox *outbox, const struct link_message *message,
              const struct connector_client *client, const char **ret_problem);

/*
 * Resolves a name for the monitor itself, on behalf of a client, if the policy lets the client have it resolved. The
 * journal is told if not.
 *
 * asked: without its number.
 * found: is called once, with data, also before this returns; unless names_give_up() comes first.
 *
 * Returns 0; 1 and the address, when the name is one as one writes it; -EACCES and why; -ENOENT for an address of
 * another family; -ENOBUFS when too many names are asked for; or -ENOMEM. In these cases found() is not called.
 */
int names_look_up(struct names *names, const struct resolver_query *asked, const struct connector_client *client,
                  struct ovl_address *ret_address, char why[RULINGS_WHY_SIZE],
                  void (*found)(void *data, const struct resolver_answer *answer), void *data);

/* Nobody waits for what was asked with this data. */
void names_give_up(struct names *names, const void *data);

/* A name as rules have it: lower case, without a dot at its end. Returns it. */
const char *names_normalize(const char *name, char normal[OVL_RESOLVE_NAME_MAX + 1]);

/* Ends a query: it is answered with -ECANCELED. A ticket that names nothing was answered already. */
void names_cancel(struct names *names, struct outbox *outbox, uint64_t ticket);

/* The worker is gone: nobody waits for its answers. */
void names_forget(struct names *names, const struct outbox *outbox);

#endif
