/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_PENDING_H
#define CLIENT_PENDING_H

/* The operations of a session that are in flight. All functions: under the session's lock. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/slots.h"
#include "proto/layout.h"

struct association;
struct ovl_accepted;
struct ovl_event;
struct ovl_overlapped;
struct ovl_received;
struct ovl_thread;
struct lookup;
struct vector_arena;

/* One operation in flight. */
struct pending {
        uint64_t tag;
        struct ovl_overlapped *overlapped; /* borrowed until the operation ends */
        struct ovl_thread *thread;         /* borrowed: who posted it; NULL: that thread was closed */
        uint64_t thread_number;
        uint64_t socket;
        uint64_t bytes_max;          /* what the record may say at most */
        struct vector_arena *vector; /* borrowed: where its array of slices or its address lies; NULL: it has none */
        uint32_t vector_slot;
        uint32_t aux_len;        /* bytes beside those of the buffers that come with the record */
        struct ovl_event *event; /* one reference; NULL: none */
        struct lookup
                *lookup; /* borrowed: of an operation on a name, and of an ioctl with input or output; else NULL */
        struct association *heir;      /* owned: of an accept whose socket inherits the manner of the listener */
        struct ovl_slice slice;        /* level 0: the buffer, or the array of slices */
        struct sockaddr_storage *from; /* borrowed: where the caller wants the sender's address; NULL: nowhere */
        socklen_t *from_len;           /* borrowed, goes with `from` */
        struct ovl_accepted
                *accepted; /* borrowed: where the caller wants the addresses of a connection; NULL: nowhere */
        struct ovl_received *received; /* borrowed: where the caller wants what a message has; NULL: nowhere */
        void *control;                 /* borrowed, goes with `received`: where it wants control items */
        bool is_inline;                /* level 0: what it moves travels in the frames */
        bool is_lent;                  /* level 0: its buffers will be written to */
        bool is_gathered;              /* level 0: the slice is an array of slices */
        uint8_t op;                    /* enum ovl_op */
        uint8_t indication;            /* enum ovl_indication */
        bool wants_verdict;            /* the posting call waits */
        bool is_waited;                /* some wait has this operation as its object */
        bool is_stray;     /* its record may come on the session's first channel: its port or thread ended */
        bool is_cancelled; /* the thread that posted it is being closed and asked for its end */
        bool is_orphan;    /* the same, and its socket was closed here while others hold it */
};

struct pending_table {
        struct slots slots;
        struct pending *all; /* one for each slot, at the same index */
        uint32_t n_strays;
};

/* n_max: the session's credits. Returns 0 or -ENOMEM. */
int pending_init(struct pending_table *table, uint32_t n_max);
void pending_deinit(struct pending_table *table);

/* Returns a zeroed operation with its tag, or NULL when no credit is left. Never allocates. */
struct pending *pending_add(struct pending_table *table);

/* Returns the operation, or NULL when the tag names none. Any 64-bit number may be asked for. */
struct pending *pending_find(const struct pending_table *table, uint64_t tag);

/* The operation goes on without the thread that posted it, or without the port that it was to go to. */
void pending_stray(struct pending_table *table, struct pending *pending);

/* Returns the credit. The tag names nothing from here on. */
void pending_remove(struct pending_table *table, struct pending *pending);

/* Walks the table: returns the operation at or after *index and moves the index behind it; NULL at the end. */
struct pending *pending_next(const struct pending_table *table, uint32_t *index);

#endif
