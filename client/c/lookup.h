/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LOOKUP_H
#define CLIENT_LOOKUP_H

/* A lookup: the place in shared memory where a name goes out and addresses come in. */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/list.h"
#include "client/c/overlap.h"
#include "proto/layout.h"

struct lookup_arena;
struct ovl_session;
struct ovl_thread;

struct lookup {
        struct list link;                   /* in session->lookups, while it is free */
        struct ovl_session *session;        /* borrowed */
        struct lookup_arena *arena;         /* borrowed: whose memory it is */
        uint8_t *place;                     /* the addresses, and behind them the name */
        uint64_t offset;                    /* of the place in its region */
        struct sockaddr_storage *addresses; /* borrowed: the caller's array */
        size_t n_addresses;                 /* that it has room for */
        size_t name_len;
};

/* Takes a free place; makes more when there is none, and then blocks. Returns 0, or -errno and the thread's error. */
int lookup_take(struct ovl_thread *thread, const char *call, struct lookup **ret_lookup);

/* Puts the name there, and gives the two slices of the entry. n_addresses: at most OVL_RESOLVE_ADDRESSES_MAX. */
void lookup_prepare(struct lookup *lookup, const char *name, size_t name_len, struct sockaddr_storage *addresses,
                    size_t n_addresses, struct ovl_entry *entry);

/* Level 0: takes the slices out of the entry again, and gives the name that goes along. */
void lookup_make_inline(struct lookup *lookup, struct ovl_entry *entry, struct ovl_buffer *ret_name);

/* Level 0: puts the addresses there that came along, at most as many bytes as the entry asked for. */
void lookup_fill(struct lookup *lookup, const uint8_t *payload, uint64_t len);

/*
 * Gives the caller what has come: `bytes` of addresses. Returns how many, or -EPROTO when they are none. Under the
 * session's lock, as the next.
 */
int lookup_collect(struct lookup *lookup, uint64_t bytes);

void lookup_release(struct lookup *lookup);

/* Frees all places of a session. */
void lookup_free_all(struct ovl_session *session);

#endif
