/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LOOKUP_H
#define CLIENT_LOOKUP_H

/*
 * A lookup: the place in shared memory where a question goes out and the answer comes in: a name and addresses, the
 * input of an ioctl and its output.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/list.h"
#include "client/c/overlap.h"
#include "proto/layout.h"

struct lookup_arena;
struct ovl_session;
struct ovl_thread;

/* What comes in. */
enum lookup_kind {
        LOOKUP_NOTHING,
        LOOKUP_ADDRESSES,
        LOOKUP_INTERFACES,
};

struct lookup {
        struct list link;            /* in a list of the session, while it is free */
        struct ovl_session *session; /* borrowed */
        struct lookup_arena *arena;  /* borrowed: whose memory it is */
        uint8_t *place;              /* the answer, and behind it the question */
        uint64_t offset;             /* of the place in its region */
        enum lookup_kind kind;
        void *rows;    /* borrowed: the caller's array, of what the kind says */
        size_t n_rows; /* that it has room for */
        size_t question_len;
};

/*
 * Takes a free place; makes more when there is none, and then blocks.
 *
 * n_rows: of this kind that the answer may have: as many as the protocol gives, at most.
 *
 * Returns 0, or -errno and the thread's error.
 */
int lookup_take(struct ovl_thread *thread, const char *call, enum lookup_kind kind, size_t n_rows,
                struct lookup **ret_lookup);

/* Puts the question there, and gives the two slices of the entry. rows: the caller's, for n_rows of the kind. */
void lookup_prepare(struct lookup *lookup, const void *question, size_t len, void *rows, struct ovl_entry *entry);

/* Level 0: takes the slices out of the entry again, and gives the question that goes along. */
void lookup_make_inline(struct lookup *lookup, struct ovl_entry *entry, struct ovl_buffer *ret_question);

/* Level 0: puts the answer there that came along, at most as many bytes as the entry asked for. */
void lookup_fill(struct lookup *lookup, const uint8_t *payload, uint64_t len);

/*
 * Gives the caller what has come: `bytes` of rows. Returns how many, or -EPROTO when they are none; and what they take
 * in the caller's array. Under the session's lock, as the next.
 */
int lookup_collect(struct lookup *lookup, uint64_t bytes, uint64_t *ret_bytes);

void lookup_release(struct lookup *lookup);

/* Frees all places of a session. */
void lookup_free_all(struct ovl_session *session);

#endif
