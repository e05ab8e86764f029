/* SPDX-License-Identifier: Apache-2.0 */

/* Percentiles by nearest rank. */

#include "client/ctl/samples.h"

#include <string.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

static void samples_fill(struct samples *samples, const uint64_t *values, size_t n) {
        assert_ok(samples_init(samples, n));
        for (size_t i = 0; i < n; i++)
                samples_add(samples, values[i]);
        samples_sort(samples);
}

static void samples_are_values_that_were_measured(void **state) {
        static const uint64_t values[] = { 50, 15, 40, 20, 35 };
        static const struct {
                unsigned percent;
                uint64_t value;
        } expected[] = { { 0, 15 },  { 1, 15 },  { 20, 15 }, { 21, 20 }, { 30, 20 }, { 40, 20 },
                         { 50, 35 }, { 60, 35 }, { 61, 40 }, { 99, 50 }, { 100, 50 } };
        cleanup(samples_deinit) struct samples samples;

        samples_fill(&samples, values, HARNESS_N(values));
        for (size_t i = 0; i < HARNESS_N(expected); i++)
                assert_int_equal(samples_percentile(&samples, expected[i].percent), expected[i].value);
}

static void samples_of_one_are_that_one(void **state) {
        static const uint64_t value = UINT64_MAX;
        cleanup(samples_deinit) struct samples samples;

        samples_fill(&samples, &value, 1);
        for (unsigned percent = 0; percent <= 100; percent++)
                assert_true(samples_percentile(&samples, percent) == UINT64_MAX);
}

static void samples_of_none_are_zero(void **state) {
        cleanup(samples_deinit) struct samples samples;

        assert_ok(samples_init(&samples, 3));
        samples_sort(&samples);
        assert_int_equal(samples_percentile(&samples, 50), 0);
}

static void samples_without_room_are_not_taken(void **state) {
        cleanup(samples_deinit) struct samples samples;

        assert_ok(samples_init(&samples, 2));
        for (uint64_t i = 1; i <= 5; i++)
                samples_add(&samples, i);
        samples_sort(&samples);
        assert_int_equal(samples.n, 2);
        assert_int_equal(samples_percentile(&samples, 100), 2);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "percentiles are values that were measured", samples_are_values_that_were_measured },
                { "of one sample all percentiles are it", samples_of_one_are_that_one },
                { "of none they are zero", samples_of_none_are_zero },
                { "what finds no room is not taken", samples_without_room_are_not_taken },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
