/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_APC_H
#define CLIENT_APC_H

/* APCs: functions that somebody wants a thread to call. All functions but the last: under the session's lock. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "client/c/routine.h"

struct conduit;
struct ovl_record;
struct ovl_session;
struct ovl_thread;

#define APC_HANDLE_SIZE 16u

/* One APC in the queue of a thread. */
struct apc {
        struct routine_item item;
        void (*function)(struct ovl_thread *thread, uint64_t argument);
        uint64_t argument;
        uint64_t number; /* of the function, for one that came from the daemon */
        bool is_remote;
};

/* A function that other processes may name. */
struct apc_function {
        uint64_t number;
        void (*function)(struct ovl_thread *thread, uint64_t argument);
};

/* What a session knows of APCs. All zero is empty. */
struct apc_table {
        struct apc_function *functions; /* owned; in the order of their numbers */
        size_t n_functions;
        size_t n_functions_held;
        size_t n_remote; /* APCs from the daemon in all queues of the session */
};

/* A handle that was opened for a thread. */
struct apc_handle {
        struct list link; /* in thread->handles */
        uint8_t bytes[APC_HANDLE_SIZE];
};

void apc_table_deinit(struct apc_table *table);

/* Returns NULL. */
struct apc *apc_free(struct ovl_session *session, struct apc *apc);

/*
 * Queues the APC that a record brings.
 *
 * Returns NULL, or what is wrong with the record.
 */
const char *apc_take(struct conduit *conduit, const struct ovl_record *record, struct ovl_thread *by);

/* The thread is being closed: nobody may use its channel for it any more. By its owner, without the lock. */
void apc_close_handles(struct ovl_thread *thread);

#endif
