/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers name what they were given for, and never anything else. */

#include "base/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

#define N 1000

static void slots_number_names_its_object(void **state) {
        uint64_t numbers[N];
        struct slots slots;
        int objects[N];

        assert_ok(slots_init(&slots, N));
        for (size_t i = 0; i < N; i++) {
                assert_ok(slots_add(&slots, &objects[i], &numbers[i]));
                assert_true(numbers[i] != 0);
        }
        for (size_t i = 0; i < N; i++)
                assert_ptr_equal(slots_find(&slots, numbers[i]), &objects[i]);
        assert_int_equal(slots.n_used, N);
        slots_deinit(&slots);
}

static void slots_full_table_refuses(void **state) {
        uint64_t first, second, untouched = 42;
        struct slots slots;
        int objects[3];

        assert_ok(slots_init(&slots, 2));
        assert_ok(slots_add(&slots, &objects[0], &first));
        assert_ok(slots_add(&slots, &objects[1], &second));
        assert_int_equal(slots_add(&slots, &objects[2], &untouched), -ENFILE);
        assert_int_equal(untouched, 42);
        assert_ptr_equal(slots_remove(&slots, first), &objects[0]);
        assert_ok(slots_add(&slots, &objects[2], &untouched));
        assert_ptr_equal(slots_find(&slots, untouched), &objects[2]);
        slots_deinit(&slots);
}

static void slots_old_number_names_nothing(void **state) {
        uint64_t old, number;
        struct slots slots;
        int objects[2];

        assert_ok(slots_init(&slots, 4));
        assert_ok(slots_add(&slots, &objects[0], &old));
        assert_ptr_equal(slots_remove(&slots, old), &objects[0]);
        assert_null(slots_find(&slots, old));
        assert_null(slots_remove(&slots, old));
        for (size_t i = 0; i < N; i++) {
                assert_ok(slots_add(&slots, &objects[1], &number));
                assert_int_equal((uint32_t) number, (uint32_t) old);
                assert_true(number != old);
                assert_null(slots_find(&slots, old));
                assert_ptr_equal(slots_remove(&slots, number), &objects[1]);
        }
        slots_deinit(&slots);
}

static void slots_generation_wraps_without_zero(void **state) {
        struct slots slots;
        uint64_t number;
        int object;

        assert_ok(slots_init(&slots, 1));
        assert_ok(slots_add(&slots, &object, &number));
        slots.all[0].generation = UINT32_MAX;
        number = (uint64_t) UINT32_MAX << 32 | 1;
        assert_ptr_equal(slots_remove(&slots, number), &object);
        assert_ok(slots_add(&slots, &object, &number));
        assert_true(number != 0);
        assert_ptr_equal(slots_find(&slots, number), &object);
        slots_deinit(&slots);
}

/* HOSTILE 25: made-up numbers are like numbers that were never given. */
static void slots_forged_number_names_nothing(void **state) {
        struct slots slots;
        uint64_t number;
        int object;

        assert_ok(slots_init(&slots, 8));
        assert_null(slots_find(&slots, 0));
        assert_ok(slots_add(&slots, &object, &number));
        assert_null(slots_find(&slots, 0));
        assert_null(slots_find(&slots, UINT64_MAX));
        assert_null(slots_find(&slots, (uint32_t) number));
        assert_null(slots_find(&slots, number + 1));
        assert_null(slots_find(&slots, number + (1ull << 32)));
        assert_null(slots_find(&slots, number ^ (1ull << 63)));
        slots_deinit(&slots);
}

static void slots_walk_meets_each_once(void **state) {
        uint64_t numbers[N];
        struct slots slots;
        char met[N] = { 0 };
        uint32_t index = 0;
        size_t n_met = 0;
        char *object;

        assert_ok(slots_init(&slots, N));
        for (size_t i = 0; i < N; i++)
                assert_ok(slots_add(&slots, &met[i], &numbers[i]));
        for (size_t i = 0; i < N; i += 3)
                assert_ptr_equal(slots_remove(&slots, numbers[i]), &met[i]);
        while ((object = slots_next(&slots, &index))) {
                assert_int_equal(*object, 0);
                *object = 1;
                n_met++;
        }
        assert_int_equal(n_met, slots.n_used);
        for (size_t i = 0; i < N; i++)
                assert_int_equal(met[i], i % 3 != 0);
        slots_deinit(&slots);
}

/* Against a plain array, with a fixed sequence of choices. */
static void slots_agree_with_a_model(void **state) {
        struct {
                uint64_t number;
                void *object;
        } model[64] = { 0 };
        unsigned random = 1;
        struct slots slots;

        assert_ok(slots_init(&slots, HARNESS_N(model)));
        for (size_t i = 0; i < 100000; i++) {
                size_t at;

                random = random * 1664525u + 1013904223u;
                at = random >> 26;
                if (model[at].object) {
                        assert_ptr_equal(slots_find(&slots, model[at].number), model[at].object);
                        assert_ptr_equal(slots_remove(&slots, model[at].number), model[at].object);
                        model[at].object = NULL;
                } else {
                        assert_null(slots_find(&slots, model[at].number));
                        model[at].object = &model[at];
                        assert_ok(slots_add(&slots, model[at].object, &model[at].number));
                }
        }
        slots_deinit(&slots);
}

static void slots_deinit_twice_is_harmless(void **state) {
        struct slots slots;

        assert_ok(slots_init(&slots, 4));
        slots_deinit(&slots);
        slots_deinit(&slots);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "number-names-its-object", slots_number_names_its_object },
                { "full-table-refuses", slots_full_table_refuses },
                { "old-number-names-nothing", slots_old_number_names_nothing },
                { "generation-wraps-without-zero", slots_generation_wraps_without_zero },
                { "forged-number-names-nothing", slots_forged_number_names_nothing },
                { "walk-meets-each-once", slots_walk_meets_each_once },
                { "agree-with-a-model", slots_agree_with_a_model },
                { "deinit-twice-is-harmless", slots_deinit_twice_is_harmless },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
