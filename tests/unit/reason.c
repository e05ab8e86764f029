/* SPDX-License-Identifier: Apache-2.0 */

/* Reasons: each number means one thing, and each has words. */

#include "proto/reason.h"

#include <string.h>

#include "proto/layout.h"
#include "tests/harness/harness.h"

static const struct {
        const char *name;
        unsigned number;
        const char *text;
} reasons[] = {
#define REASON_ROW(name, number, text) { #name, number, text },
        OVL_REASONS(REASON_ROW)
#undef REASON_ROW
};

static void reason_numbers_are_unique_and_small(void **state) {
        for (size_t i = 0; i < HARNESS_N(reasons); i++) {
                assert_true(reasons[i].number <= UINT16_MAX);
                for (size_t j = 0; j < i; j++) {
                        assert_int_not_equal(reasons[i].number, reasons[j].number);
                        assert_string_not_equal(reasons[i].name, reasons[j].name);
                        assert_string_not_equal(reasons[i].text, reasons[j].text);
                }
        }
}

static void reason_every_number_has_words(void **state) {
        for (size_t i = 0; i < HARNESS_N(reasons); i++) {
                assert_string_equal(reason_text(reasons[i].number), reasons[i].text);
                assert_true(strlen(reasons[i].text) >= 10);
        }
        for (unsigned number = 0; number < 70000; number++)
                assert_non_null(reason_text(number));
        assert_non_null(reason_text(UINT32_MAX));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "numbers-are-unique-and-small", reason_numbers_are_unique_and_small },
                { "every-number-has-words", reason_every_number_has_words },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
