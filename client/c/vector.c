/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An operation with several buffers names an array of slices, which the daemon reads when it takes the entry; one that
 * asks for addresses or messages names room for them, into which the daemon writes before its record. Both need a
 * place in shared memory that nobody else uses meanwhile. The places are of one size, with room for both, in regions of
 * the library's own that no caller's buffer can lie in.
 *
 * Invariants: a place belongs to at most one operation in flight. The stack of free places is private memory: the
 * daemon can scribble over the places, but not over the account. Arrays are never read back; addresses are copied out
 * once, when the record has come.
 *
 * Rejected: the array in the caller's own region (a caller could not see what it must not touch), and a place a thread
 * (an operation on a port outlives its thread).
 */

#include "client/c/vector.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/error.h"
#include "client/c/region.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "proto/shm.h"

#define VECTOR_ARRAY_SIZE (OVL_SLICES_MAX * sizeof(struct ovl_slice))
#define VECTOR_SLOT_SIZE (VECTOR_ARRAY_SIZE + VECTOR_AUX_SIZE)
#define VECTOR_SLOTS_FIRST 64u
#define VECTOR_SLOTS_MAX 4096u /* of one arena */

struct vector_arena *vector_arena_free(struct vector_arena *arena) {
        if (!arena)
                return NULL;
        region_free(arena->region);
        free(arena);
        return NULL;
}
DEFINE_CLEANUP(struct vector_arena *, vector_arena_free)

/* Each arena has four times the places of the one before: the number of regions is limited. */
static uint32_t vector_next_size(struct ovl_session *session) {
        uint32_t n_slots = VECTOR_SLOTS_FIRST;

        session_lock(session);
        list_for_each(link, &session->vectors)
                if (n_slots < VECTOR_SLOTS_MAX)
                        n_slots *= 4;
        session_unlock(session);
        return n_slots;
}

int vector_grow(struct ovl_thread *thread, const char *call) {
        _cleanup_(vector_arena_free) struct vector_arena *arena = NULL;
        uint32_t n_slots = vector_next_size(thread->session);
        int r;

        arena = calloc(1, sizeof(*arena) + n_slots * sizeof(arena->free[0]));
        if (!arena)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", call);
        list_init(&arena->link);
        r = region_open(thread, n_slots * VECTOR_SLOT_SIZE, call, &arena->region);
        if (r < 0)
                return r;
        arena->n_slots = n_slots;
        for (arena->n_free = 0; arena->n_free < n_slots; arena->n_free++)
                arena->free[arena->n_free] = n_slots - 1 - arena->n_free;
        session_lock(thread->session);
        list_push_front(&thread->session->vectors, &arena->link);
        session_unlock(thread->session);
        arena = NULL;
        return 0;
}

int vector_take(struct ovl_session *session, struct vector_arena **ret_arena, uint32_t *ret_slot) {
        list_for_each(link, &session->vectors) {
                struct vector_arena *arena = list_entry(link, struct vector_arena, link);

                if (arena->n_free == 0)
                        continue;
                *ret_slot = arena->free[--arena->n_free];
                *ret_arena = arena;
                return 0;
        }
        return -EAGAIN;
}

const struct ovl_slice *vector_slices(const struct vector_arena *arena, uint32_t slot) {
        return (const struct ovl_slice *) (arena->region->data + slot * VECTOR_SLOT_SIZE);
}

void vector_put_slices(struct vector_arena *arena, uint32_t slot, const struct ovl_slice *slices, size_t n,
                       struct ovl_slice *ret_array) {
        memcpy(arena->region->data + slot * VECTOR_SLOT_SIZE, slices, n * sizeof(*slices));
        *ret_array = (struct ovl_slice){
                .offset = slot * VECTOR_SLOT_SIZE,
                .len = (uint32_t) (n * sizeof(*slices)),
                .region = arena->region->number,
        };
}

void vector_put_aux(struct vector_arena *arena, uint32_t slot, const void *bytes, size_t len,
                    struct ovl_slice *ret_place) {
        uint64_t offset = slot * VECTOR_SLOT_SIZE + VECTOR_ARRAY_SIZE;

        assert(len <= VECTOR_AUX_SIZE);
        if (bytes)
                memcpy(arena->region->data + offset, bytes, len);
        *ret_place = (struct ovl_slice){ .offset = offset, .len = (uint32_t) len, .region = arena->region->number };
}

void vector_get_aux(const struct vector_arena *arena, uint32_t slot, uint64_t *ret_words) {
        shm_copy(ret_words, arena->region->data + slot * VECTOR_SLOT_SIZE + VECTOR_ARRAY_SIZE, VECTOR_AUX_SIZE);
}

void vector_release(struct vector_arena *arena, uint32_t slot) {
        arena->free[arena->n_free++] = slot;
}
