/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_FACTS_H
#define DAEMON_MONITOR_FACTS_H

/* What the policy has to know of the machine: its own addresses, and those that were found for names in rules. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "daemon/monitor/journal.h"
#include "daemon/monitor/netlink.h"
#include "daemon/ruling.h"

#define FACTS_FOUND_MAX 4096u
#define FACTS_FRESH_S 60u   /* found again so soon after it was found last is no news */
#define FACTS_FOUND_S 3600u /* how long an address counts as one of a name since it was found */

struct facts {
        sd_event *event;         /* borrowed */
        struct journal *journal; /* borrowed */
        struct netlink changes;
        sd_event_source *source;
        struct ruling_own *own;
        size_t n_own;
        struct ruling_found *found; /* in the order of their finding */
        size_t n_found;
        struct ruling_facts *known; /* all of it, as it is decided by */
        int fd;                     /* the same as memory that is sealed */
        bool is_watching;
        bool has_news;  /* workers do not have it yet */
        bool is_behind; /* something was learned that was not published */
};

void facts_init(struct facts *facts, sd_event *event, struct journal *journal);
void facts_deinit(struct facts *facts);

/* Begins to follow the machine's addresses; until then each address may be its own. Returns 0 or -errno. */
int facts_watch(struct facts *facts);

/* Takes in what the kernel has told. To be called before a decision. */
void facts_refresh(struct facts *facts);

/* An address was found for a name, or is still one of it. */
void facts_learn(struct facts *facts, uint64_t name, const struct ovl_address *address);

/* Puts what was learned where it is decided by. Returns 0 or -errno. */
int facts_publish(struct facts *facts);

/*
 * What would be known if an address had been found for these names, too. Nothing is remembered.
 *
 * address: NULL where there are no names.
 *
 * Returns the facts, to be freed by free(3), or NULL.
 */
struct ruling_facts *facts_imagine(const struct facts *facts, const uint64_t *names, size_t n_names,
                                   const struct ovl_address *address);

/* Makes sealed memory of some bytes. Returns its descriptor, or -errno. */
int facts_seal(const void *bytes, size_t len, const char *name);

#endif
