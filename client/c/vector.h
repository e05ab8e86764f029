/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_VECTOR_H
#define CLIENT_VECTOR_H

/* Places in shared memory for what an operation needs beyond its buffers: arrays of slices, and addresses. */

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "proto/layout.h"

struct ovl_region;
struct ovl_session;
struct ovl_thread;

struct vector_arena {
        struct list link;          /* in session->vectors */
        struct ovl_region *region; /* owned; in no list: no caller's buffer lies in it */
        uint32_t n_slots;
        uint32_t n_free;
        uint32_t free[]; /* the first n_free are slots that nobody uses */
};

/* Makes more places; blocks. Returns 0, or -errno and the thread's error. */
int vector_grow(struct ovl_thread *thread, const char *call);

/*
 * Takes a free place. Under the session's lock, as everything below.
 *
 * Returns 0, and the arena and slot for vector_release(), or -EAGAIN when no place is free: vector_grow().
 */
int vector_take(struct ovl_session *session, struct vector_arena **ret_arena, uint32_t *ret_slot);

/* Puts an array of slices into a place, and gives the slice that names it. */
void vector_put_slices(struct vector_arena *arena, uint32_t slot, const struct ovl_slice *slices, size_t n,
                       struct ovl_slice *ret_array);

#define VECTOR_ADDRESSES_MAX 2u

/* Gives the slice that names the room for `n` addresses in a place. */
void vector_put_addresses(struct vector_arena *arena, uint32_t slot, unsigned n, struct ovl_slice *ret_place);

/* Copies the addresses out that the daemon wrote there. They may be anything. */
void vector_get_addresses(const struct vector_arena *arena, uint32_t slot, unsigned n,
                          struct ovl_address *ret_addresses);

/* The slices at a place. Of use only where nobody else can write them: at level 0. */
const struct ovl_slice *vector_slices(const struct vector_arena *arena, uint32_t slot);

void vector_release(struct vector_arena *arena, uint32_t slot);

struct vector_arena *vector_arena_free(struct vector_arena *arena);

#endif
