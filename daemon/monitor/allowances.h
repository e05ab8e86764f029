/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_ALLOWANCES_H
#define DAEMON_MONITOR_ALLOWANCES_H

/* How much clients may have, as the settings say: for each session, unit, user and worker, and for some by name. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/limit.h"

#define ALLOWANCES_SECTIONS_MAX 128u /* for units and users by name */
#define ALLOWANCES_NAME_MAX 63u
#define ALLOWANCES_TEXT_SIZE 400
#define ALLOWANCES_PATHS_SIZE 16384u
#define ALLOWANCES_PLACE_SIZE 256

/* The keys of a section: one for each slot, two for each rate, and one more. */
enum {
        ALLOWANCES_UNLIMITED = LIMIT_SLOTS, /* of users */
        ALLOWANCES_PER_S,
        ALLOWANCES_BURST = ALLOWANCES_PER_S + LIMIT_RATES,
        ALLOWANCES_KEYS = ALLOWANCES_BURST + LIMIT_RATES,
};

/* What one section says. */
struct allowances_section {
        enum limit_level level;
        char name[ALLOWANCES_NAME_MAX + 1]; /* of the user or unit; empty: all of the level */
        uid_t uid;                          /* of the user that has a name */
        bool is_set[ALLOWANCES_KEYS];
        uint64_t values[ALLOWANCES_KEYS];
        unsigned set_at[ALLOWANCES_KEYS]; /* the line of the present file that did so; 0: none */
        uint16_t file;                    /* the present one: where its path is in `paths` */
        uint16_t files[ALLOWANCES_KEYS];  /* where each value is from, for people */
        unsigned lines[ALLOWANCES_KEYS];
};

struct allowances {
        struct allowances_section levels[LIMIT_LEVELS];
        struct allowances_section named[ALLOWANCES_SECTIONS_MAX];
        unsigned n_named;
        uint16_t file; /* the present one */
        uint16_t paths_len;
        char paths[ALLOWANCES_PATHS_SIZE]; /* of files, each ended by NUL; first an empty one, for those with no room */
};

/* One value, for people. */
struct allowances_value {
        char section[ALLOWANCES_NAME_MAX + 16];
        char key[32];
        char value[24];
        char place[ALLOWANCES_PLACE_SIZE]; /* FILE:LINE; empty: it is built in */
};

/* Sets what holds where the settings say nothing. */
void allowances_init(struct allowances *allowances);

/* Another file begins, whose keys count for more. path: for people. */
void allowances_begin_file(struct allowances *allowances, const char *path);

/*
 * Finds the place of a section, or makes it.
 *
 * Returns it, or NULL and a text that says what is wrong with it.
 */
struct allowances_section *allowances_section(struct allowances *allowances, const char *section,
                                              char ret_problem[ALLOWANCES_TEXT_SIZE]);

/* Sets one value, in the line of the present file. Returns 0, or -EINVAL and a text that says what is wrong. */
int allowances_set(struct allowances_section *section, const char *key, const char *value, unsigned line,
                   char ret_problem[ALLOWANCES_TEXT_SIZE]);

/*
 * Walks all values that hold: those of each level, and those that sections with a name set.
 *
 * index: where to go on; at first 0.
 *
 * Returns false at the end.
 */
bool allowances_next(const struct allowances *allowances, unsigned *index, struct allowances_value *ret_value);

/* Whether a user is asked for nothing but what is the session's own, or his unit's by name: root and the daemon's user,
 * unless it says else.
 */
bool allowances_exempt(const struct allowances *allowances, uid_t uid);

/* How often a user may do something. There is no limit where he is exempt. */
struct bucket_rate allowances_rate(const struct allowances *allowances, uid_t uid, enum limit_rate rate);

/* What holds for the sessions of a user in a unit (NULL: none). */
void allowances_for(const struct allowances *allowances, uid_t uid, const char *unit, struct limits *ret_limits);

#endif
