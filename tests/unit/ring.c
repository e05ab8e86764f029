/* SPDX-License-Identifier: Apache-2.0 */

/* Places are found by number, around the end of the ring and around the end of the numbers. */

#include "proto/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

#define N 8u

static void *ring_memory(uint32_t n) {
        void *memory = aligned_alloc(64, ring_size(n));

        assert_non_null(memory);
        memset(memory, 0, ring_size(n));
        return memory;
}

static void ring_sizes(void **state) {
        assert_int_equal(ring_size(4), 8192);
        assert_int_equal(ring_size(64), 8192);
        assert_int_equal(ring_size(128), 4096 + 128 * 64);
        assert_int_equal(ring_size(32768), 4096 + 32768 * 64);
}

static void ring_numbers_of_places(void **state) {
        static const uint32_t bad[] = { 0, 1, 2, 3, 5, 6, 7, 9, 1000, 32767, 32769, 65536, 0x80000000, UINT32_MAX };

        for (size_t i = 0; i < HARNESS_N(bad); i++)
                assert_false(ring_n_is_valid(bad[i]));
        for (uint32_t n = 4; n <= 32768; n *= 2)
                assert_true(ring_n_is_valid(n));
}

/* What is written is read, and nothing else is touched, from a number on that wraps after a few steps. */
static void ring_keeps(uint32_t first) {
        _cleanup_free_ uint8_t *memory = ring_memory(N);
        uint8_t wrote[3 * RING_PLACE_SIZE], read[3 * RING_PLACE_SIZE];
        uint32_t head = first, tail = first;
        struct ring ring;

        ring_init(&ring, memory, N);
        for (unsigned round = 0; round < 100; round++) {
                size_t n = round % 3 + 1;

                for (size_t i = 0; i < n * RING_PLACE_SIZE; i++)
                        wrote[i] = (uint8_t) (round * 7 + i);
                ring_write(&ring, tail, wrote, n);
                tail += (uint32_t) n;
                assert_int_equal(tail - head, n);
                ring_read(&ring, head, read, n);
                assert_memory_equal(read, wrote, n * RING_PLACE_SIZE);
                head += (uint32_t) n;
        }
        for (size_t i = 0; i < OVL_LANE_DATA; i++)
                assert_int_equal(memory[i], 0);
        for (size_t i = OVL_LANE_DATA + N * RING_PLACE_SIZE; i < ring_size(N); i++)
                assert_int_equal(memory[i], 0);
}

static void ring_wraps(void **state) {
        ring_keeps(0);
        ring_keeps(5);
        ring_keeps(UINT32_MAX);
        ring_keeps(UINT32_MAX - 50);
        ring_keeps(0x7ffffff0);
}

/* A place is where its number modulo the number of places says, as the protocol has it. */
static void ring_places(void **state) {
        _cleanup_free_ uint8_t *memory = ring_memory(N);
        uint8_t place[RING_PLACE_SIZE];
        struct ring ring;

        ring_init(&ring, memory, N);
        for (uint32_t number = UINT32_MAX - N; number != N; number++) {
                memset(place, (int) (number & 0xff), sizeof(place));
                ring_write(&ring, number, place, 1);
                assert_memory_equal(memory + 4096 + (number % N) * 64, place, sizeof(place));
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sizes are those of the protocol", ring_sizes },
                { "numbers of places are powers of two", ring_numbers_of_places },
                { "rings wrap, and so do numbers", ring_wraps },
                { "places are those of the protocol", ring_places },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
