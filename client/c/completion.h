/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_COMPLETION_H
#define CLIENT_COMPLETION_H

/* How an operation ends: from a record to its indication. All functions: under the session's lock. */

#include <assert.h>
#include <stdint.h>

#include "base/list.h"
#include "client/c/overlap.h"
#include "client/c/routine.h"
#include "proto/layout.h"

struct conduit;
struct pending;
struct ovl_session;
struct ovl_thread;

enum completion_state {
        COMPLETION_IDLE = 0,
        COMPLETION_IN_FLIGHT = 1,
        COMPLETION_QUEUED = 2, /* a routine waits to run, or a packet to be taken */
};

/* A packet in the queue of a port. */
struct completion_packet {
        struct completion_packet *next;
        struct ovl_packet packet; /* packet.reserved != 0: was allocated, and is freed when it is taken */
};

/* What the library keeps in ovl_overlapped.reserved. */
struct completion_private {
        union {
                struct {
                        struct routine_item item;
                        void (*routine)(struct ovl_thread *thread, struct ovl_overlapped *overlapped);
                } routine;
                struct completion_packet packet;
        };
        uint64_t tag;
        uint32_t state; /* enum completion_state */
};
static_assert(sizeof(struct completion_private) <= sizeof(((struct ovl_overlapped *) 0)->reserved),
              "the library's part fits into the room that callers give");

static inline struct completion_private *completion_private(const struct ovl_overlapped *overlapped) {
        return (struct completion_private *) (uintptr_t) overlapped->reserved;
}

/* The overlapped structure that the library's part belongs to. */
static inline struct ovl_overlapped *completion_overlapped(struct completion_private *private) {
        return list_entry(private, struct ovl_overlapped, reserved);
}

/*
 * Ends the operation that a record names.
 *
 * payload: the bytes that came with it, record->payload_len of them.
 * by:      who took the record in; NULL: not known.
 *
 * Returns 0, or -EPROTO and a static text when no honest daemon sends such a record through this conduit.
 */
int completion_take(struct conduit *conduit, const struct ovl_record *record, const uint8_t *payload,
                    struct ovl_thread *by, const char **ret_problem);

/* Ends every pending operation of a session that is gone. */
void completion_abort_all(struct ovl_session *session, struct ovl_thread *by);

#endif
