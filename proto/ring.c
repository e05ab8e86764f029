/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A ring of places of one size, numbered modulo 2^32; number n is at place n modulo their number, a power of two, so
 * that the numbers may wrap. One side writes places and then says up to which number; the other reads them and says
 * what it is done with. Each keeps its own count in private memory and believes of the other's only what can be.
 */

#include "proto/ring.h"

#include <string.h>

#define RING_PAGE 4096u

_Static_assert(RING_PLACE_SIZE == OVL_SLOT_SIZE && RING_PLACE_SIZE == sizeof(struct ovl_record),
               "slots and records are of one size");

void ring_init(struct ring *ring, void *memory, uint32_t n) {
        *ring = (struct ring){ .places = (uint8_t *) memory + OVL_LANE_DATA, .mask = n - 1 };
}

bool ring_n_is_valid(uint32_t n) {
        return n >= RING_SLOTS_MIN && n <= RING_SLOTS_MAX && (n & (n - 1)) == 0;
}

size_t ring_size(uint32_t n) {
        size_t size = OVL_LANE_DATA + (size_t) n * RING_PLACE_SIZE;

        return (size + RING_PAGE - 1) / RING_PAGE * RING_PAGE;
}

static uint8_t *ring_place(const struct ring *ring, uint32_t number) {
        return ring->places + (size_t) (number & ring->mask) * RING_PLACE_SIZE;
}

void ring_write(const struct ring *ring, uint32_t number, const void *from, size_t n) {
        for (size_t i = 0; i < n; i++)
                memcpy(ring_place(ring, number + (uint32_t) i), (const uint8_t *) from + i * RING_PLACE_SIZE,
                       RING_PLACE_SIZE);
}

void ring_read(const struct ring *ring, uint32_t number, void *to, size_t n) {
        for (size_t i = 0; i < n; i++)
                shm_copy((uint8_t *) to + i * RING_PLACE_SIZE, ring_place(ring, number + (uint32_t) i),
                         RING_PLACE_SIZE);
}
