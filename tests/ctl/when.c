/* SPDX-License-Identifier: Apache-2.0 */

/* Points in time as people write them, on Friday the 27th of November 2026, 12:34:56 in Berlin. */

#include "client/ctl/when.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/harness/harness.h"

#define NOW UINT64_C(1795779296250000)
#define MIDNIGHT UINT64_C(1795734000)

static void when_is(const char *text, uint64_t expected_us) {
        uint64_t us = 0;

        if (when_parse(text, NOW, &us) != 0 || us != expected_us)
                fail_msg("\"%s\" is %llu, and should be %llu", text, (unsigned long long) us,
                         (unsigned long long) expected_us);
}

static void when_in_berlin(void) {
        setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
        tzset();
}

static void when_calendar(void **state) {
        when_in_berlin();
        when_is("2026-11-27", MIDNIGHT * 1000000);
        when_is("2026-11-27 00:00", MIDNIGHT * 1000000);
        when_is("2026-11-27 08:15:30", (MIDNIGHT + 8 * 3600 + 15 * 60 + 30) * 1000000);
        when_is("2026-11-27T08:15", (MIDNIGHT + 8 * 3600 + 15 * 60) * 1000000);
        when_is("2026-11-27T08:15:30Z", (MIDNIGHT + 9 * 3600 + 15 * 60 + 30) * 1000000);
        when_is("2024-02-29", UINT64_C(1709161200) * 1000000);
        when_is("2026-07-01", UINT64_C(1782856800) * 1000000); /* summer time */
        when_is("08:15", (MIDNIGHT + 8 * 3600 + 15 * 60) * 1000000);
        when_is("23:59:59", (MIDNIGHT + 86399) * 1000000);
        when_is("1970-01-01T00:00Z", 0);
}

static void when_words(void **state) {
        when_in_berlin();
        when_is("now", NOW);
        when_is("today", MIDNIGHT * 1000000);
        when_is("yesterday", (MIDNIGHT - 86400) * 1000000);
        when_is("@1795779296", NOW / 1000000 * 1000000);
        when_is("@0", 0);
}

static void when_passed(void **state) {
        static const struct {
                const char *text;
                uint64_t s;
        } passed[] = {
                { "90s", 90 },    { "-90s", 90 },           { "15min", 900 },    { "15 minutes ago", 900 },
                { "2h", 7200 },   { "1h 30min ago", 5400 }, { "1h30min", 5400 }, { "3d", 259200 },
                { "1w", 604800 }, { "1 week", 604800 },     { "0s", 0 },         { "1795779296s", 1795779296 },
        };

        when_in_berlin();
        for (size_t i = 0; i < HARNESS_N(passed); i++)
                when_is(passed[i].text, NOW - passed[i].s * 1000000);
}

static void when_none(void **state) {
        static const char *const none[] = {
                "",
                " ",
                "-",
                "ago",
                "5",
                "5 ago x",
                "soon",
                "2026-13-01",
                "2026-00-10",
                "2026-02-30",
                "2025-02-29",
                "2026-11-31",
                "2026-1-1",
                "1969-12-31",
                "24:00",
                "12:60",
                "12:00:60",
                "12",
                "12:0",
                "2026-11-27 ",
                "2026-11-27x",
                "5 fortnights",
                "@",
                "@-1",
                "@1x",
                "@99999999999999999999",
                "-5",
                "99999999999999999999s",
                "9999999999w",
                "2026-11-27 10",
                "now ",
                "1795779297s",
                "10:00ZZ",
                "18446744073709551615w",
        };
        uint64_t us = 42;

        when_in_berlin();
        for (size_t i = 0; i < HARNESS_N(none); i++) {
                if (when_parse(none[i], NOW, &us) == 0)
                        fail_msg("\"%s\" was taken for %llu", none[i], (unsigned long long) us);
                assert_int_equal(us, 42);
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "dates and times of the day", when_calendar },
                { "words, and seconds since 1970", when_words },
                { "times that have passed", when_passed },
                { "what is no time is refused", when_none },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
