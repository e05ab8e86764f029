/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_RULES_H
#define DAEMON_WORKER_RULES_H

/* What the policy says of the worker's clients: of what a worker does without asking the monitor. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/ruling.h"

struct ask;

struct rules {
        struct list all;                  /* struct rules_entry */
        const struct ruling_facts *facts; /* a mapping; NULL: none came */
        size_t facts_len;
};

/* The ruling about clients that are alike. It stays while connections or sessions refer to it. */
struct rules_entry {
        struct list link;
        struct rules *rules; /* borrowed */
        uint64_t number;
        const struct ruling *ruling; /* a mapping; NULL: all is allowed, or nothing */
        size_t ruling_len;
        bool is_open;
        unsigned n_refs;
        bool is_announced; /* a connection of it follows, which finds it also when all others have gone meanwhile */
        uint64_t told_ns;  /* when the monitor was told of a refusal last */
        uint32_t n_untold; /* refusals since then */
};

void rules_init(struct rules *rules);

/* Takes a zeroed structure. */
void rules_deinit(struct rules *rules);

/* Takes a LINK_RULING. take_fd: closed in any case; -1: none. */
void rules_take(struct rules *rules, const struct link_message *message, int take_fd);

/* Takes a LINK_FACTS. Likewise. */
void rules_take_facts(struct rules *rules, int take_fd);

/* The ruling of a number, for one more that refers to it; NULL where there is none: nothing is allowed. */
struct rules_entry *rules_ref(struct rules *rules, uint64_t number);

/* The same for the connection that was announced with it. */
struct rules_entry *rules_claim(struct rules *rules, uint64_t number);

struct rules_entry *rules_ref_again(struct rules_entry *entry);
struct rules_entry *rules_unref(struct rules_entry *entry);

/*
 * Whether a session may send to an address; if not, why. The monitor is told of a refusal, now and then. Allocates
 * nothing.
 */
bool rules_allow_send(struct rules_entry *entry, struct ask *ask, uint64_t session, const struct link_asker *asker,
                      const struct ovl_address *address, char why[LINK_TEXT_SIZE]);

/* Whether a session may export sockets; if not, why. */
bool rules_allow_export(const struct rules_entry *entry, char why[RULING_TEXT_SIZE]);

#endif
