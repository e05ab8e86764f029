/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_APC_H
#define DAEMON_WORKER_APC_H

/* Who may queue an APC to which thread, and which functions may be called there: handles, grants, numbers. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define APC_HANDLE_SIZE 16u
#define APC_HANDLES_MAX 1024u   /* that one session has open */
#define APC_GRANTS_MAX 64u      /* sessions that one handle is given to */
#define APC_FUNCTIONS_MAX 1024u /* that one session has registered */
#define APC_BUCKETS 1024u

struct thread;

/* What a session has to do with APCs. Embedded in it. */
struct apc_party {
        struct list handles; /* struct apc_handle, that it opened. Owned */
        struct list grants;  /* struct apc_grant, that it was given. Owned by their handles */
        uint32_t n_handles;
        uint32_t n_functions;
        uint64_t *functions; /* in their order; APC_FUNCTIONS_MAX of them, or NULL: none was ever registered. Owned */
};

struct apc_handle {
        struct list link;        /* in its party */
        struct list bucket;      /* in the table */
        struct list grants;      /* owned */
        struct apc_party *owner; /* borrowed */
        struct thread *thread;   /* borrowed; NULL: it has ended */
        uint32_t n_grants;
        uint8_t bytes[APC_HANDLE_SIZE];
};

/* The handles of all sessions of a worker. */
struct apc_table {
        struct list buckets[APC_BUCKETS];
};

void apc_table_init(struct apc_table *table);

void apc_party_init(struct apc_party *party);

/* Closes the party's handles, and gives up those that it was given. */
void apc_party_deinit(struct apc_party *party);

/* Returns 0 and a handle with bytes that nobody can guess, -EDQUOT, -ENOMEM, or -EIO when there is no randomness. */
int apc_open(struct apc_table *table, struct apc_party *owner, struct thread *thread, struct apc_handle **ret_handle);

/* Returns NULL. */
struct apc_handle *apc_close(struct apc_handle *handle);

/*
 * Finds a handle by its bytes.
 *
 * party: who presents it: the owner, or one that it was given to. For anybody else there is no such handle.
 *
 * Returns NULL if there is none.
 */
struct apc_handle *apc_find(struct apc_table *table, const struct apc_party *party, const uint8_t *bytes, size_t len);

/* Lets another party use the handle. Returns 0 (also when it may already), -EDQUOT or -ENOMEM. */
int apc_give(struct apc_handle *handle, struct apc_party *party);

/* The thread has ended: its handles are kept, and name nothing. */
void apc_forget_thread(struct apc_party *party, const struct thread *thread);

/* Returns 0 (also when the number was registered before), -EDQUOT or -ENOMEM. */
int apc_register(struct apc_party *party, uint64_t function);

/* Returns 0 or -ENOENT. */
int apc_unregister(struct apc_party *party, uint64_t function);

bool apc_has_function(const struct apc_party *party, uint64_t function);

#endif
