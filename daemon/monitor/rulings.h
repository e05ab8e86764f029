/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_RULINGS_H
#define DAEMON_MONITOR_RULINGS_H

/* The policy at work: what it says for each client that is connected, asked by all that act for them. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/monitor/facts.h"
#include "daemon/monitor/listener.h"
#include "daemon/monitor/outbox.h"
#include "daemon/monitor/policy.h"

#define RULINGS_WHY_SIZE (RULING_TEXT_SIZE + 64)

/* Where the rules come from, and what holds without any. */
struct rulings_source {
        const char *const *directories; /* ended by NULL. Borrowed. */
        bool is_own;                    /* the instance serves its own user */
};

struct rulings {
        struct rulings_source source;
        struct journal *journal; /* borrowed */
        struct policy *policy;
        struct facts facts;
        struct list clients;
        uint64_t last_number;
        uint64_t n_allowed, n_denied; /* questions that were decided here */
};

/* What is known of clients that are alike: of one user, unit and so on, on one worker. */
struct rulings_client {
        struct list link;
        struct listener_peer peer; /* without a connection */
        struct policy_subject subject;
        uint64_t number;
        unsigned worker;
        unsigned n_refs;
        struct ruling *ruling;
        int fd; /* the same as memory that is sealed; -1: everything is allowed */
};

void rulings_init(struct rulings *rulings, const struct rulings_source *source, sd_event *event,
                  struct journal *journal);

/* Takes a zeroed structure. */
void rulings_deinit(struct rulings *rulings);

/*
 * Reads the rules, and has them hold from now on.
 *
 * Returns 0; or -errno and, where there was memory for it, a text of one line for each error, which the caller frees.
 * The rules are then as before.
 */
int rulings_load(struct rulings *rulings, char **ret_errors);

/* What the policy is, in a line for the journal. Returns the text. */
const char *rulings_describe(const struct rulings *rulings, char text[RULINGS_WHY_SIZE]);

/* The client that the peer is, on a worker, for one more connection or session. Returns 0 or -errno. */
int rulings_ref(struct rulings *rulings, const struct listener_peer *peer, unsigned worker,
                struct rulings_client **ret_client);
struct rulings_client *rulings_ref_again(struct rulings_client *client);
struct rulings_client *rulings_unref(struct rulings_client *client);

/* Tells a worker what it may send for a client. is_new: a connection of his follows. Returns as outbox_push(). */
int rulings_tell_client(const struct rulings_client *client, struct outbox *outbox, bool is_new);

/* Tells a worker what is known of the machine. */
int rulings_tell_facts(const struct rulings *rulings, struct outbox *outbox);

/*
 * Decides.
 *
 * client: NULL: nobody knows who asks, and nothing is allowed.
 *
 * Returns whether it is allowed; if not, why.
 */
bool rulings_allow(struct rulings *rulings, const struct rulings_client *client, struct ruling_question *question,
                   char why[RULINGS_WHY_SIZE]);

/*
 * What the policy would say of somebody who need not be there.
 *
 * name: for which the address was found, by his word; NULL: none.
 *
 * Returns whether it is allowed, and what decides; or -ENOMEM.
 */
int rulings_try(struct rulings *rulings, const struct policy_subject *subject, struct ruling_question *question,
                const char *name, char why[RULING_TEXT_SIZE]);

/* Whether the client may do anything at all that needs the network, or sees it anyway. */
bool rulings_has_grant(const struct rulings_client *client);

/* Addresses were found for a name. Returns whether workers have to be told. */
bool rulings_learn(struct rulings *rulings, const char *name, const struct ovl_address *addresses, size_t n);

#endif
