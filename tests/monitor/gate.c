/* SPDX-License-Identifier: Apache-2.0 */

/* Who connects too often is kept out, ever longer, and nobody else is. */

#include "daemon/monitor/gate.h"

#include <errno.h>

#include "tests/harness/harness.h"

static const struct bucket_rate gate_rate = { .per_s = 50, .burst = 100 };

static int gate_try(struct gate *gate, uid_t uid, uint64_t now, uint64_t *ret_wait_ns) {
        bool begins;

        return gate_pass(gate, uid, &gate_rate, 0, now, ret_wait_ns, &begins);
}

/* Connects as long as it may, and once more. Returns for how long the user is kept out then. */
static uint64_t gate_storm(struct gate *gate, uid_t uid, uint64_t now, unsigned *ret_n) {
        uint64_t wait_ns = 0;
        bool begins = false;

        *ret_n = 0;
        while (gate_pass(gate, uid, &gate_rate, 0, now, &wait_ns, &begins) == 0)
                ++*ret_n;
        assert_true(begins);
        assert_int_equal(gate_pass(gate, uid, &gate_rate, 0, now, &wait_ns, &begins), -EBUSY);
        assert_false(begins);
        return wait_ns;
}

static void gate_keeps_out(void **state) {
        uint64_t now = 5 * NS_PER_S, wait_ns;
        struct gate gate;
        unsigned n;

        gate_init(&gate);
        assert_int_equal(gate_storm(&gate, 1000, now, &n), NS_PER_S);
        assert_int_equal(n, 100);
        assert_int_equal(gate_try(&gate, 1001, now, &wait_ns), 0);
        now += NS_PER_S - 1;
        assert_int_equal(gate_try(&gate, 1000, now, &wait_ns), -EBUSY);
        assert_int_equal(wait_ns, 1);
        /* Twice as long each time, to a minute. */
        for (uint64_t expected = 2; expected <= 120; expected *= 2) {
                now += wait_ns;
                wait_ns = gate_storm(&gate, 1000, now, &n);
                assert_int_equal(wait_ns, (expected < 60 ? expected : 60) * NS_PER_S);
                assert_true(n <= 100);
        }
        /* Forgotten a minute after the end. */
        now += wait_ns + GATE_PENALTY_MAX_NS - 1;
        assert_int_equal(gate_storm(&gate, 1000, now, &n), 60 * NS_PER_S);
        now += 60 * NS_PER_S + GATE_PENALTY_MAX_NS;
        assert_int_equal(gate_storm(&gate, 1000, now, &n), NS_PER_S);
        gate_deinit(&gate);
}

/* The thousand threads of a program are not a thousand sessions. */
static void gate_does_not_count_threads(void **state) {
        uint64_t now = 5 * NS_PER_S, wait_ns;
        struct gate gate;

        gate_init(&gate);
        for (unsigned i = 0; i < 1000; i++) {
                assert_int_equal(gate_try(&gate, 1000, now, &wait_ns), 0);
                gate_give_back(&gate, 1000, &gate_rate);
        }
        gate_give_back(&gate, 4711, &gate_rate);
        gate_deinit(&gate);
}

/* Of so many that came at once and have not said what they are, only those count that turn out to be sessions. */
static void gate_waits_to_know(void **state) {
        uint64_t now = 5 * NS_PER_S, wait_ns;
        struct gate gate;
        bool begins;

        gate_init(&gate);
        for (unsigned i = 0; i < 136; i++)
                assert_int_equal(gate_pass(&gate, 1000, &gate_rate, i, now, &wait_ns, &begins), 0);
        for (unsigned i = 0; i < 136; i++)
                gate_give_back(&gate, 1000, &gate_rate);
        for (unsigned i = 0; i < 136; i++)
                assert_int_equal(gate_pass(&gate, 1000, &gate_rate, i, now, &wait_ns, &begins), 0);
        /* Now they are sessions: there are no tokens, and holding back what some are gives as many as these, once. */
        assert_int_equal(gate_try(&gate, 1000, now, &wait_ns), -EBUSY);
        now += NS_PER_S;
        for (unsigned i = 0; i < 50 + 8; i++)
                assert_int_equal(gate_pass(&gate, 1000, &gate_rate, 8, now, &wait_ns, &begins), 0);
        assert_int_equal(gate_pass(&gate, 1000, &gate_rate, 8, now, &wait_ns, &begins), -EBUSY);
        gate_deinit(&gate);
}

static void gate_forgets(void **state) {
        const struct bucket_rate none = { 0 };
        uint64_t now = 500 * NS_PER_S, wait_ns;
        struct gate gate;
        bool begins;
        unsigned n = 0;

        gate_init(&gate);
        for (uid_t uid = 0; uid < 100; uid++)
                assert_int_equal(gate_try(&gate, uid, now, &wait_ns), 0);
        now += GATE_PENALTY_MAX_NS;
        assert_int_equal(gate_try(&gate, 4711, now, &wait_ns), 0);
        list_for_each(link, &gate.users)
                n++;
        assert_int_equal(n, 1);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(gate_pass(&gate, 4712, &none, 0, now, &wait_ns, &begins), 0);
        gate_deinit(&gate);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "keeps out", gate_keeps_out },
                { "threads do not count", gate_does_not_count_threads },
                { "waits to know what comes", gate_waits_to_know },
                { "forgets", gate_forgets },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
