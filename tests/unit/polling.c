/* SPDX-License-Identifier: Apache-2.0 */

/* Looking before sleeping begins when it would have paid, and ends when it does not. */

#include "base/polling.h"

#include "tests/harness/harness.h"

#define LIMIT 50000u

/* One try to sleep at a time: returns whether it was looked for at all. */
static bool polling_try(struct polling *polling, uint64_t *now, bool finds, uint64_t sleep_ns) {
        bool looked = polling_looks(polling, *now);

        if (looked && finds) {
                *now += LIMIT / 2;
                assert_true(polling_looks(polling, *now));
                assert_true(polling_found(polling));
                return true;
        }
        if (looked) {
                *now += LIMIT;
                assert_false(polling_looks(polling, *now));
        }
        *now += sleep_ns;
        polling_slept(polling, sleep_ns);
        assert_false(polling_found(polling));
        return looked;
}

static void polling_never(void **state) {
        struct polling polling = { 0 };
        uint64_t now = 1000;

        for (unsigned i = 0; i < 100; i++)
                assert_false(polling_try(&polling, &now, true, 0));
}

/* Nobody looks before some sleeps were so short that looking would have spared them. */
static void polling_learns(void **state) {
        struct polling polling = { .limit_ns = LIMIT };
        uint64_t now = 1000;
        unsigned n = 0;

        while (!polling_try(&polling, &now, true, LIMIT / 10))
                assert_true(n++ < 10);
        assert_int_equal(n, POLLING_SCORE_PAYS);
        for (unsigned i = 0; i < 100; i++)
                assert_true(polling_try(&polling, &now, true, 0));
}

/* Who looks in vain gives up after a few times, and one with long sleeps never begins. */
static void polling_gives_up(void **state) {
        struct polling polling = { .limit_ns = LIMIT };
        uint64_t now = 1000;
        unsigned n = 0;

        for (unsigned i = 0; i < 100; i++)
                assert_false(polling_try(&polling, &now, true, 10 * LIMIT));
        for (unsigned i = 0; i < 100; i++)
                polling_try(&polling, &now, true, 1);
        while (polling_try(&polling, &now, false, 10 * LIMIT))
                assert_true(n++ < POLLING_SCORE_MAX);
        for (unsigned i = 0; i < 100; i++)
                assert_false(polling_try(&polling, &now, true, 10 * LIMIT));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "without a limit nobody looks", polling_never },
                { "looking begins when it pays", polling_learns },
                { "looking ends when it does not", polling_gives_up },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
