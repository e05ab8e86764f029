/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The forms are those that journalctl(1) takes and people use; its own reader is not part of libsystemd's interface.
 *
 * Invariant: a text means one point in time or is refused. A day that there is not (February 30th) is no day of March.
 */

#include "client/ctl/when.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WHEN_US_PER_S UINT64_C(1000000)
#define WHEN_DAY_S 86400

static const struct when_unit {
        const char *name;
        uint64_t s;
} when_units[] = {
        { "s", 1 },
        { "sec", 1 },
        { "second", 1 },
        { "seconds", 1 },
        { "m", 60 },
        { "min", 60 },
        { "minute", 60 },
        { "minutes", 60 },
        { "h", 3600 },
        { "hour", 3600 },
        { "hours", 3600 },
        { "d", WHEN_DAY_S },
        { "day", WHEN_DAY_S },
        { "days", WHEN_DAY_S },
        { "w", 7 * WHEN_DAY_S },
        { "week", 7 * WHEN_DAY_S },
        { "weeks", 7 * WHEN_DAY_S },
};

/* So many digits, and a number up to `max`. Moves *text behind them. */
static bool when_digits(const char **text, unsigned n_digits, int min, int max, int *ret_number) {
        int number = 0;

        for (unsigned i = 0; i < n_digits; i++) {
                if (!isdigit((unsigned char) (*text)[i]))
                        return false;
                number = number * 10 + ((*text)[i] - '0');
        }
        if (number < min || number > max)
                return false;
        *text += n_digits;
        *ret_number = number;
        return true;
}

static bool when_sign(const char **text, char sign) {
        if (**text != sign)
                return false;
        (*text)++;
        return true;
}

/* HH:MM[:SS] */
static bool when_clock(const char **text, struct tm *tm) {
        if (!when_digits(text, 2, 0, 23, &tm->tm_hour) || !when_sign(text, ':') ||
            !when_digits(text, 2, 0, 59, &tm->tm_min))
                return false;
        tm->tm_sec = 0;
        return !when_sign(text, ':') || when_digits(text, 2, 0, 59, &tm->tm_sec);
}

/* YYYY-MM-DD */
static bool when_date(const char **text, struct tm *tm) {
        if (!when_digits(text, 4, 1970, 9999, &tm->tm_year) || !when_sign(text, '-') ||
            !when_digits(text, 2, 1, 12, &tm->tm_mon) || !when_sign(text, '-') ||
            !when_digits(text, 2, 1, 31, &tm->tm_mday))
                return false;
        tm->tm_year -= 1900;
        tm->tm_mon--;
        return true;
}

static int when_from_calendar(const struct tm *tm, bool is_utc, uint64_t *ret_us) {
        struct tm made = *tm;
        time_t s;

        made.tm_isdst = -1;
        s = is_utc ? timegm(&made) : mktime(&made);
        if (s < 0 || made.tm_mday != tm->tm_mday || made.tm_mon != tm->tm_mon)
                return -EINVAL;
        *ret_us = (uint64_t) s * WHEN_US_PER_S;
        return 0;
}

/* A date, a time of today, or both. */
static int when_parse_calendar(const char *text, const struct tm *today, uint64_t *ret_us) {
        struct tm tm = *today;
        const char *at = text;
        bool has_clock = true, is_utc;

        tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
        if (when_date(&at, &tm)) {
                has_clock = *at == ' ' || *at == 'T';
                at += has_clock;
        } else {
                at = text;
                tm = *today;
        }
        if (has_clock && !when_clock(&at, &tm))
                return -EINVAL;
        is_utc = when_sign(&at, 'Z');
        return *at ? -EINVAL : when_from_calendar(&tm, is_utc, ret_us);
}

static int when_parse_day(const struct tm *today, int days_ago, uint64_t *ret_us) {
        struct tm tm = *today;
        time_t s;

        tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
        tm.tm_mday -= days_ago;
        tm.tm_isdst = -1;
        s = mktime(&tm);
        if (s < 0)
                return -EINVAL;
        *ret_us = (uint64_t) s * WHEN_US_PER_S;
        return 0;
}

static bool when_unit(const char **text, uint64_t *ret_s) {
        size_t len = strspn(*text, "abcdefghijklmnopqrstuvwxyz");

        for (size_t i = 0; i < sizeof(when_units) / sizeof(when_units[0]); i++) {
                if (strlen(when_units[i].name) != len || strncmp(when_units[i].name, *text, len) != 0)
                        continue;
                *text += len;
                *ret_s = when_units[i].s;
                return true;
        }
        return false;
}

/* Numbers and units, one after the other: before now. */
static int when_parse_passed(const char *text, uint64_t now_us, uint64_t *ret_us) {
        uint64_t passed_s = 0, s;

        text += *text == '-';
        if (*text == '\0')
                return -EINVAL;
        while (*text && strcmp(text, "ago") != 0) {
                unsigned long long number;
                char *end;

                errno = 0;
                number = isdigit((unsigned char) *text) ? strtoull(text, &end, 10) : 0;
                if (!isdigit((unsigned char) *text) || errno)
                        return -EINVAL;
                text = end + strspn(end, " ");
                if (!when_unit(&text, &s) || __builtin_mul_overflow(s, number, &s) ||
                    __builtin_add_overflow(passed_s, s, &passed_s))
                        return -EINVAL;
                text += strspn(text, " ");
        }
        if (passed_s > now_us / WHEN_US_PER_S)
                return -EINVAL;
        *ret_us = now_us - passed_s * WHEN_US_PER_S;
        return 0;
}

static int when_parse_seconds(const char *text, uint64_t *ret_us) {
        unsigned long long s;
        char *end;

        errno = 0;
        s = strtoull(text, &end, 10);
        if (!isdigit((unsigned char) text[0]) || *end || errno || s > UINT64_MAX / WHEN_US_PER_S)
                return -EINVAL;
        *ret_us = s * WHEN_US_PER_S;
        return 0;
}

int when_parse(const char *text, uint64_t now_us, uint64_t *ret_us) {
        time_t now = (time_t) (now_us / WHEN_US_PER_S);
        struct tm today;

        if (!localtime_r(&now, &today) || text[0] == '\0')
                return -EINVAL;
        if (strcmp(text, "now") == 0) {
                *ret_us = now_us;
                return 0;
        }
        if (strcmp(text, "today") == 0 || strcmp(text, "yesterday") == 0)
                return when_parse_day(&today, text[0] == 'y', ret_us);
        if (text[0] == '@')
                return when_parse_seconds(text + 1, ret_us);
        if (when_parse_calendar(text, &today, ret_us) == 0)
                return 0;
        if (!isdigit((unsigned char) text[0]) && text[0] != '-')
                return -EINVAL;
        return when_parse_passed(text, now_us, ret_us);
}
