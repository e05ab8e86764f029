/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory that somebody else writes is read once (HOSTILE 33). Here every load scrambles the place that it read: a
 * second load of the same word would see other bytes, and the copy would not be what was there at first.
 */

#include "proto/shm.h"

#include <string.h>

#include "proto/layout.h"
#include "tests/harness/harness.h"

#define SCRAMBLED 0xa5

/* The loads of the running case. A case is one thread of one process, and the interface has no other way in. */
static size_t n_loads;

uint64_t shm_test_load(const void *place, size_t size) {
        uint64_t value = 0;

        assert_int_equal((uintptr_t) place % size, 0);
        memcpy(&value, place, size);
        memset((void *) place, SCRAMBLED, size);
        n_loads++;
        return value;
}

static void assert_scrambled(const void *bytes, size_t len) {
        for (size_t i = 0; i < len; i++)
                assert_int_equal(((const uint8_t *) bytes)[i], SCRAMBLED);
}

static void shm_words_are_loaded_once(void **state) {
        _Alignas(8) uint8_t memory[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

        assert_int_equal(shm_load32(&memory[0]), 0x04030201);
        assert_int_equal(shm_load32_acquire(&memory[4]), 0x08070605);
        assert_int_equal(shm_load64(&memory[8]), 0x100f0e0d0c0b0a09);
        assert_int_equal(n_loads, 3);
        assert_scrambled(memory, sizeof(memory));
}

static void shm_entry_is_copied_once(void **state) {
        union {
                struct ovl_entry entry;
                uint64_t words[sizeof(struct ovl_entry) / 8];
        } shared, expected;
        struct ovl_entry copy;

        for (unsigned n_slots = 1; n_slots <= OVL_ENTRY_SLOTS_MAX; n_slots++) {
                size_t len = n_slots * OVL_SLOT_SIZE;

                for (size_t i = 0; i < HARNESS_N(shared.words); i++)
                        expected.words[i] = shared.words[i] = 0x0101010101010101 * (i + 1);
                memset(&copy, 0, sizeof(copy));
                n_loads = 0;
                shm_copy(&copy, &shared.entry, len);
                assert_memory_equal(&copy, &expected, len);
                assert_int_equal(n_loads, len / 8);
                assert_scrambled(&shared, len);
                for (size_t i = len; i < sizeof(copy); i++)
                        assert_int_equal(((uint8_t *) &copy)[i], 0);
                assert_memory_equal((uint8_t *) &shared + len, (uint8_t *) &expected + len, sizeof(shared) - len);
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "words-are-loaded-once", shm_words_are_loaded_once },
                { "entry-is-copied-once", shm_entry_is_copied_once },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
