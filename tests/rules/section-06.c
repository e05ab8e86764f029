/* SPDX-License-Identifier: Apache-2.0 */

/* Section 6 of docs/SEMANTICS.md: results are read through the overlapped structure. */

#include "tests/rules/section.h"

static void section_06_asks_again(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "four", 4);
        for (int i = 0; i < 3; i++)
                client_expect(&section.client, &receiving, 0, 4);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "6.8 a result can be asked for again and again", section_06_asks_again },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
