/* SPDX-License-Identifier: Apache-2.0 */

/* Which of the settings about quotas hold for whom. */

#include "daemon/monitor/allowances.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/harness.h"

static void allowances_expect_set(struct allowances *allowances, const char *section, const char *key,
                                  const char *value) {
        char problem[ALLOWANCES_TEXT_SIZE] = "";
        struct allowances_section *place = allowances_section(allowances, section, problem);

        if (!place || allowances_set(place, key, value, 1, problem) < 0)
                fail_msg("[%s] %s=%s: %s", section, key, value, problem);
}

static void allowances_expect_problem(struct allowances *allowances, const char *section, const char *key,
                                      const char *value, const char *expected) {
        char problem[ALLOWANCES_TEXT_SIZE] = "";
        struct allowances_section *place = allowances_section(allowances, section, problem);

        if (place)
                assert_int_equal(allowances_set(place, key, value, 1, problem), -EINVAL);
        if (!strstr(problem, expected))
                fail_msg("expected '%s' in '%s'", expected, problem);
}

static uint64_t allowances_of(const struct allowances *allowances, uid_t uid, const char *unit, enum limit_level level,
                              enum limit_slot slot) {
        struct limits limits;

        allowances_for(allowances, uid, unit, &limits);
        return limits.max[level][slot];
}

static void allowances_built_in(void **state) {
        struct allowances allowances;

        allowances_init(&allowances);
        assert_int_equal(allowances_of(&allowances, 1000, NULL, LIMIT_SESSION, LIMIT_SOCKETS), 4096);
        assert_int_equal(allowances_of(&allowances, 1000, "a.service", LIMIT_USER, LIMIT_SESSIONS), 64);
        assert_int_equal(allowances_of(&allowances, 1000, NULL, LIMIT_USER, LIMIT_MEMORY), 1u << 30);
        assert_true(allowances_of(&allowances, 1000, NULL, LIMIT_UNIT, LIMIT_OPS) == LIMIT_NONE);
        assert_true(allowances_exempt(&allowances, 0));
        assert_true(allowances_exempt(&allowances, geteuid()));
        assert_false(allowances_exempt(&allowances, 4711));
}

static void allowances_names_come_first(void **state) {
        struct allowances allowances;

        allowances_init(&allowances);
        allowances_expect_set(&allowances, "User 4711", "Sockets", "7");
        allowances_expect_set(&allowances, "User", "Sockets", "20");
        allowances_expect_set(&allowances, "User", "Memory", "3M");
        allowances_expect_set(&allowances, "Unit a.service", "Sockets", "0");
        allowances_expect_set(&allowances, "Unit", "Sockets", "unlimited");
        allowances_expect_set(&allowances, "User root", "Unlimited", "no");
        allowances_expect_set(&allowances, "User 4712", "Unlimited", "yes");
        assert_int_equal(allowances_of(&allowances, 4711, NULL, LIMIT_USER, LIMIT_SOCKETS), 7);
        assert_int_equal(allowances_of(&allowances, 4711, NULL, LIMIT_USER, LIMIT_MEMORY), 3u << 20);
        assert_int_equal(allowances_of(&allowances, 4712, NULL, LIMIT_USER, LIMIT_SOCKETS), 20);
        assert_int_equal(allowances_of(&allowances, 1, "a.service", LIMIT_UNIT, LIMIT_SOCKETS), 0);
        assert_true(allowances_of(&allowances, 1, "b.service", LIMIT_UNIT, LIMIT_SOCKETS) == LIMIT_NONE);
        assert_true(allowances_of(&allowances, 1, NULL, LIMIT_UNIT, LIMIT_SOCKETS) == LIMIT_NONE);
        /* Who is exempt is meant by what names his unit only. */
        allowances_expect_set(&allowances, "Unit", "Files", "3");
        assert_int_equal(allowances_of(&allowances, 4711, "b.service", LIMIT_UNIT, LIMIT_FILES), 3);
        assert_true(allowances_of(&allowances, 4712, "b.service", LIMIT_UNIT, LIMIT_FILES) == LIMIT_NONE);
        assert_int_equal(allowances_of(&allowances, 4712, "a.service", LIMIT_UNIT, LIMIT_SOCKETS), 0);
        assert_false(allowances_exempt(&allowances, 0));
        assert_true(allowances_exempt(&allowances, 4712));
        assert_false(allowances_exempt(&allowances, 4711));
        /* By name and by number it is the same user, and a later file wins. */
        allowances_begin_file(&allowances, "other.conf");
        allowances_expect_set(&allowances, "User 0", "Unlimited", "yes");
        assert_true(allowances_exempt(&allowances, 0));
        assert_int_equal(allowances.n_named, 4);
}

static void allowances_name_each_mistake(void **state) {
        char name[ALLOWANCES_NAME_MAX + 8] = "Unit ";
        struct allowances allowances;

        allowances_init(&allowances);
        allowances_expect_problem(&allowances, "Users", "Sockets", "1", "unknown; known are [Daemon], [Session]");
        allowances_expect_problem(&allowances, "Session a", "Sockets", "1", "only [Unit NAME] and [User NAME] have a");
        allowances_expect_problem(&allowances, "User nobody-of-that-name", "Sockets", "1",
                                  "is no user of this machine");
        allowances_expect_problem(&allowances, "User 4294967295", "Sockets", "1", "is no user of this machine");
        memset(name + 5, 'a', ALLOWANCES_NAME_MAX + 1);
        allowances_expect_problem(&allowances, name, "Sockets", "1", "the name has 64 bytes, at most 63");
        allowances_expect_problem(&allowances, "Session", "Sockets", "4097",
                                  "Sockets=4097: must be a number from 0 to 4096");
        allowances_expect_problem(&allowances, "User", "Sockets", "many", "to 1000000000000, or unlimited");
        allowances_expect_problem(&allowances, "Worker", "Sockets", "1K", "Sockets=1K: must be");
        allowances_expect_problem(&allowances, "Worker", "Memory", "1T", "with K, M or G behind it or not");
        allowances_expect_problem(&allowances, "Unit", "Memory", "999999999999999G", "Memory=999999999999999G: must");
        allowances_expect_problem(&allowances, "Unit", "Regions", "", "Regions=: must be");
        allowances_expect_problem(&allowances, "Session", "Sessions", "1",
                                  "unknown key below [Session]; known are Regions=");
        allowances_expect_problem(&allowances, "Unit", "Unlimited", "yes", "unknown key below [Unit]");
        allowances_expect_problem(&allowances, "User 5", "Unlimited", "maybe", "must be yes or no");
        allowances_expect_problem(&allowances, "User", "ConnectsPerSecond", "0",
                                  "must be a number from 1 to 1000000, or");
        allowances_expect_problem(&allowances, "User", "ConnectsBurst", "unlimited",
                                  "must be a number from 1 to 1000000");
        allowances_expect_problem(&allowances, "Session", "ConnectsBurst", "1",
                                  "known are Regions= Memory= Sockets= "
                                  "Operations= Files= RequestsPerSecond= RequestsBurst=");
        allowances_expect_set(&allowances, "User", "Files", "1");
        allowances_expect_problem(&allowances, "User", "Files", "2", "Files=2: already set in line 1");
        for (unsigned i = allowances.n_named; i < ALLOWANCES_SECTIONS_MAX; i++) {
                snprintf(name, sizeof(name), "Unit %u", i);
                allowances_expect_set(&allowances, name, "Files", "1");
        }
        allowances_expect_problem(&allowances, "Unit more", "Files", "1", "there are 128 sections");
}

static void allowances_rates_hold(void **state) {
        struct allowances allowances;
        struct bucket_rate rate;
        struct limits limits;

        allowances_init(&allowances);
        rate = allowances_rate(&allowances, 4711, LIMIT_RATE_SESSIONS);
        assert_int_equal(rate.per_s, 50);
        assert_int_equal(rate.burst, 100);
        assert_int_equal(allowances_rate(&allowances, 0, LIMIT_RATE_SESSIONS).per_s, 0);
        allowances_expect_set(&allowances, "User", "SessionsPerSecond", "unlimited");
        allowances_expect_set(&allowances, "User", "ConnectsBurst", "7");
        allowances_expect_set(&allowances, "User 4711", "SessionsPerSecond", "5");
        allowances_expect_set(&allowances, "Session", "RequestsPerSecond", "9");
        assert_int_equal(allowances_rate(&allowances, 4711, LIMIT_RATE_SESSIONS).per_s, 5);
        assert_int_equal(allowances_rate(&allowances, 4712, LIMIT_RATE_SESSIONS).per_s, 0);
        allowances_for(&allowances, 4711, NULL, &limits);
        assert_int_equal(limits.rates[LIMIT_USER][LIMIT_RATE_CONNECTS].burst, 7);
        assert_int_equal(limits.rates[LIMIT_USER][LIMIT_RATE_CONNECTS].per_s, 1000);
        assert_int_equal(limits.rates[LIMIT_SESSION][LIMIT_RATE_REQUESTS].per_s, 9);
        assert_int_equal(limits.rates[LIMIT_SESSION][LIMIT_RATE_REQUESTS].burst, 2000);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "built in", allowances_built_in },
                { "names come first", allowances_names_come_first },
                { "rates", allowances_rates_hold },
                { "each mistake is named", allowances_name_each_mistake },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
