/* SPDX-License-Identifier: Apache-2.0 */

/* How long a worker knows the rules of a client: see daemon/worker/rules.c. */

#include "daemon/worker/rules.h"
#include "daemon/link.h"
#include "tests/harness/harness.h"

static void rules_announce(struct rules *rules, uint64_t number) {
        struct link_message message = { .kind = LINK_RULING };

        message.body.ruling.number = number;
        message.body.ruling.is_new = true;
        message.body.ruling.is_open = true;
        rules_take(rules, &message, -1);
}

/* The last connection goes while the next one is on its way: that finds what was sent before it. */
static void rules_wait_for_whom_they_know(void **state) {
        struct rules_entry *entry, *again;
        struct rules rules;

        rules_init(&rules);
        rules_announce(&rules, 1);
        entry = rules_claim(&rules, 1);
        assert_non_null(entry);
        rules_announce(&rules, 1);
        /* A session of the first connection has them, too. */
        again = rules_ref(&rules, 1);
        rules_unref(entry);
        rules_unref(again);
        entry = rules_claim(&rules, 1);
        assert_non_null(entry);
        rules_unref(entry);
        assert_null(rules_claim(&rules, 1));
        rules_deinit(&rules);
}

/* What was announced and never came is found out with the next. */
static void rules_forget_who_never_came(void **state) {
        struct rules rules;

        rules_init(&rules);
        rules_announce(&rules, 1);
        rules_announce(&rules, 2);
        assert_null(rules_claim(&rules, 1));
        rules_unref(rules_claim(&rules, 2));
        assert_null(rules_claim(&rules, 2));
        rules_deinit(&rules);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "rules wait for whom they know", rules_wait_for_whom_they_know },
                { "rules forget who never came", rules_forget_who_never_came },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
