/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_VECTOR_H
#define CLIENT_VECTOR_H

/* Places in shared memory for what an operation needs beyond its buffers: arrays of slices, addresses, messages. */

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

/* Bytes of the room for what goes and comes beside the buffers: addresses, or what a message has. A multiple of 8. */
#define VECTOR_AUX_SIZE 256u

/* Gives the slice that names so much of that room in a place, and puts there what is not NULL. */
void vector_put_aux(struct vector_arena *arena, uint32_t slot, const void *bytes, size_t len,
                    struct ovl_slice *ret_place);

/* Copies out what the daemon wrote there, VECTOR_AUX_SIZE bytes, each word once. It may be anything. */
void vector_get_aux(const struct vector_arena *arena, uint32_t slot, uint64_t *ret_words);

/* The slices at a place. Of use only where nobody else can write them: at level 0. */
const struct ovl_slice *vector_slices(const struct vector_arena *arena, uint32_t slot);

void vector_release(struct vector_arena *arena, uint32_t slot);

struct vector_arena *vector_arena_free(struct vector_arena *arena);

#endif
