/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_RING_H
#define PROTO_RING_H

/* Rings of places of 64 bytes in shared memory, and the words that go with them: what both ends of a lane share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/shm.h"

#define RING_PLACE_SIZE 64u
#define RING_SLOTS_MIN 4u
#define RING_SLOTS_MAX 32768u

/* Where a ring lies. All of it is private: what the other side writes over the geometry has no effect. */
struct ring {
        uint8_t *places; /* borrowed */
        uint32_t mask;   /* the number of places - 1 */
};

/* memory: of a lane, with its header. n: places, a power of two. */
void ring_init(struct ring *ring, void *memory, uint32_t n);

/* Whether a submission ring may have so many places. */
bool ring_n_is_valid(uint32_t n);

/* Bytes of the memory of a lane with so many places: header, places, and what makes it a multiple of 4,096. */
size_t ring_size(uint32_t n);

/* Writes the places from `number` on, which may be around the end. Only a place that the reader is done with. */
void ring_write(const struct ring *ring, uint32_t number, const void *from, size_t n);

/* Copies the places from `number` on, each word once. */
void ring_read(const struct ring *ring, uint32_t number, void *to, size_t n);

/*
 * Words. One that only says how far its writer has come is stored with release order and loaded with acquire order
 * (shm_load32_acquire). Where falling asleep is at stake, each side writes its own word and then reads the other's, and
 * at least one of them must see what the other wrote: all four accesses are sequentially consistent. (A fence between
 * store and load does the same; thread sanitizers do not understand fences.)
 *
 *   the sleeper: ring_announce(own asleep, 1), then ring_look(the other's tail)
 *   the waker:   ring_announce(own tail, ...), then ring_look(the other's asleep)
 */
static inline void ring_store(uint32_t *word, uint32_t value) {
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline void ring_announce(uint32_t *word, uint32_t value) {
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline uint32_t ring_look(const uint32_t *word) {
        return shm_load32_ordered(word);
}

#endif
