/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_SHM_H
#define PROTO_SHM_H

/*
 * The only way to read memory that another process can write at any instant: each word is loaded exactly once, into a
 * private copy, which is then checked and used.
 *
 * In a build with OVL_TEST_SHM the loads go through shm_test_load(), which a test defines: it may give every load
 * another value and scramble the place afterwards, so that a second load of the same word becomes a plain bug.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef OVL_TEST_SHM
uint64_t shm_test_load(const void *place, size_t size);
#endif

static inline uint32_t shm_load32(const void *place) {
#ifdef OVL_TEST_SHM
        return (uint32_t) shm_test_load(place, sizeof(uint32_t));
#else
        return __atomic_load_n((const uint32_t *) place, __ATOMIC_RELAXED);
#endif
}

static inline uint64_t shm_load64(const void *place) {
#ifdef OVL_TEST_SHM
        return shm_test_load(place, sizeof(uint64_t));
#else
        return __atomic_load_n((const uint64_t *) place, __ATOMIC_RELAXED);
#endif
}

/* As shm_load32(), and nothing that follows is read before it. */
static inline uint32_t shm_load32_acquire(const void *place) {
#ifdef OVL_TEST_SHM
        return (uint32_t) shm_test_load(place, sizeof(uint32_t));
#else
        return __atomic_load_n((const uint32_t *) place, __ATOMIC_ACQUIRE);
#endif
}

/* As shm_load32(), in one order with all other such loads, and with the stores of ring_announce(). */
static inline uint32_t shm_load32_ordered(const void *place) {
#ifdef OVL_TEST_SHM
        return (uint32_t) shm_test_load(place, sizeof(uint32_t));
#else
        return __atomic_load_n((const uint32_t *) place, __ATOMIC_SEQ_CST);
#endif
}

/* Copies `len` bytes (a multiple of 8, from a place aligned to 8), each word once. */
static inline void shm_copy(void *to, const void *from, size_t len) {
        uint64_t *words = to;
        const uint64_t *places = from;

        for (size_t i = 0; i < len / sizeof(uint64_t); i++)
                words[i] = shm_load64(&places[i]);
}

#endif
