/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The sections of the settings that say how much clients may have:
 *
 *   [Session]  [Unit]  [User]  [Worker]   for each one
 *   [Unit NAME]  [User NAME]              for this one, instead
 *
 * A key that a section with a name does not have is as the section without one says, and that as is built in. Which
 * section a value comes from is decided when it is asked for, so the order of sections and files means nothing but that
 * of two files that set the same key of the same section the later one wins.
 *
 * The limits of a session are those of its tables in the worker: they can be lowered only.
 *
 * Rejected: a place beside the rules of the policy. Those are tried in turn and the first decides; how much somebody
 * may have is one number, wherever it stands.
 */

#include "daemon/monitor/allowances.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct allowance {
        uint64_t built_in;
        uint64_t max;     /* the largest that is allowed; 0: the level has no such key */
        bool may_be_none; /* "unlimited" is allowed */
};

#define ALLOWANCE_MANY UINT64_C(1000000000000)

static const struct allowance allowances_table[LIMIT_LEVELS][LIMIT_SLOTS] = {
        [LIMIT_SESSION] = {
                [LIMIT_SESSIONS] = { LIMIT_NONE, 0, false },
                [LIMIT_REGIONS] = { 64, 64, false },
                [LIMIT_MEMORY] = { 256 * MIB, ALLOWANCE_MANY, false },
                [LIMIT_SOCKETS] = { 4096, 4096, false },
                [LIMIT_LISTENERS] = { LIMIT_NONE, 0, false },
                [LIMIT_OPS] = { 16384, 16384, false },
                [LIMIT_FILES] = { 64, 64, false },
        },
        [LIMIT_UNIT] = {
                [LIMIT_SESSIONS] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_REGIONS] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_MEMORY] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_SOCKETS] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_LISTENERS] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_OPS] = { LIMIT_NONE, ALLOWANCE_MANY, true },
                [LIMIT_FILES] = { LIMIT_NONE, ALLOWANCE_MANY, true },
        },
        [LIMIT_USER] = {
                [LIMIT_SESSIONS] = { 64, ALLOWANCE_MANY, true },
                [LIMIT_REGIONS] = { 256, ALLOWANCE_MANY, true },
                [LIMIT_MEMORY] = { GIB, ALLOWANCE_MANY, true },
                [LIMIT_SOCKETS] = { 4096, ALLOWANCE_MANY, true },
                [LIMIT_LISTENERS] = { 64, ALLOWANCE_MANY, true },
                [LIMIT_OPS] = { 65536, ALLOWANCE_MANY, true },
                [LIMIT_FILES] = { 256, ALLOWANCE_MANY, true },
        },
        [LIMIT_WORKER] = {
                [LIMIT_SESSIONS] = { 8192, ALLOWANCE_MANY, true },
                [LIMIT_REGIONS] = { 32768, ALLOWANCE_MANY, true },
                [LIMIT_MEMORY] = { 64 * GIB, ALLOWANCE_MANY, true },
                [LIMIT_SOCKETS] = { 65536, ALLOWANCE_MANY, true },
                [LIMIT_LISTENERS] = { 8192, ALLOWANCE_MANY, true },
                [LIMIT_OPS] = { 1048576, ALLOWANCE_MANY, true },
                [LIMIT_FILES] = { 8192, ALLOWANCE_MANY, true },
        },
};

/* burst 0: the level has no such key. */
static const struct bucket_rate allowances_rates[LIMIT_LEVELS][LIMIT_RATES] = {
        [LIMIT_SESSION] = { [LIMIT_RATE_REQUESTS] = { 2000, 2000 } },
        [LIMIT_USER] = {
                [LIMIT_RATE_SESSIONS] = { 50, 100 },
                [LIMIT_RATE_CONNECTS] = { 1000, 2000 },
                [LIMIT_RATE_REQUESTS] = { 10000, 1000 },
        },
};

void allowances_init(struct allowances *allowances) {
        memset(allowances, 0, sizeof(*allowances));
        allowances->paths_len = 1;
        for (unsigned level = 0; level < LIMIT_LEVELS; level++)
                allowances->levels[level].level = (enum limit_level) level;
}

void allowances_begin_file(struct allowances *allowances, const char *path) {
        size_t size = strlen(path) + 1;

        allowances->file = 0;
        if (size <= sizeof(allowances->paths) - allowances->paths_len) {
                allowances->file = allowances->paths_len;
                memcpy(allowances->paths + allowances->file, path, size);
                allowances->paths_len += (uint16_t) size;
        }
        for (unsigned level = 0; level < LIMIT_LEVELS; level++)
                memset(allowances->levels[level].set_at, 0, sizeof(allowances->levels[level].set_at));
        for (unsigned i = 0; i < allowances->n_named; i++)
                memset(allowances->named[i].set_at, 0, sizeof(allowances->named[i].set_at));
}

/* --- Sections ---------------------------------------------------------------------------------------------------- */

static int allowances_find_uid(const char *name, uid_t *ret_uid) {
        size_t n_digits = strspn(name, "0123456789");
        const struct passwd *user;
        unsigned long number;

        if (n_digits > 0 && n_digits <= 10 && name[n_digits] == '\0') {
                number = strtoul(name, NULL, 10);
                if (number >= UINT32_MAX)
                        return -EINVAL;
                *ret_uid = (uid_t) number;
                return 0;
        }
        user = getpwnam(name);
        if (!user)
                return -ENOENT;
        *ret_uid = user->pw_uid;
        return 0;
}

/* The level that a section is about, and the name behind it. Returns -ENOENT when it is about none. */
static int allowances_read_section(const char *section, enum limit_level *ret_level, const char **ret_name) {
        for (unsigned level = 0; level < LIMIT_LEVELS; level++) {
                size_t len = strlen(limit_sections[level]);

                if (strncmp(section, limit_sections[level], len) != 0 || (section[len] != '\0' && section[len] != ' '))
                        continue;
                *ret_level = (enum limit_level) level;
                *ret_name = section + len + strspn(section + len, " ");
                return 0;
        }
        return -ENOENT;
}

/* A user may have several names, and a number. */
static struct allowances_section *allowances_find(struct allowances *allowances, enum limit_level level,
                                                  const char *name, uid_t uid) {
        for (unsigned i = 0; i < allowances->n_named; i++) {
                struct allowances_section *section = &allowances->named[i];

                if (section->level != level)
                        continue;
                if (level == LIMIT_USER ? section->uid == uid : strcmp(section->name, name) == 0)
                        return section;
        }
        return NULL;
}

static struct allowances_section *allowances_add(struct allowances *allowances, enum limit_level level,
                                                 const char *name, uid_t uid, char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        struct allowances_section *section;

        if (allowances->n_named == ALLOWANCES_SECTIONS_MAX) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE,
                         "there are %u sections for users and units already, which is the limit",
                         ALLOWANCES_SECTIONS_MAX);
                return NULL;
        }
        section = &allowances->named[allowances->n_named++];
        *section = (struct allowances_section){ .level = level, .uid = uid };
        snprintf(section->name, sizeof(section->name), "%s", name);
        return section;
}

static struct allowances_section *allowances_look_for(struct allowances *allowances, const char *section,
                                                      char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        struct allowances_section *found;
        enum limit_level level;
        const char *name;
        uid_t uid = 0;

        if (allowances_read_section(section, &level, &name) < 0) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE,
                         "unknown; known are [Daemon], [Session], [Unit], [Unit NAME], [User], [User NAME] and "
                         "[Worker]");
                return NULL;
        }
        if (name[0] == '\0')
                return &allowances->levels[level];
        if (level != LIMIT_USER && level != LIMIT_UNIT) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "only [Unit NAME] and [User NAME] have a name");
                return NULL;
        }
        if (strlen(name) > ALLOWANCES_NAME_MAX) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "the name has %zu bytes, at most %u are allowed",
                         strlen(name), ALLOWANCES_NAME_MAX);
                return NULL;
        }
        if (level == LIMIT_USER && allowances_find_uid(name, &uid) < 0) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "'%s' is no user of this machine, by name or number", name);
                return NULL;
        }
        found = allowances_find(allowances, level, name, uid);
        return found ? found : allowances_add(allowances, level, name, uid, ret_problem);
}

struct allowances_section *allowances_section(struct allowances *allowances, const char *section,
                                              char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        struct allowances_section *found = allowances_look_for(allowances, section, ret_problem);

        if (found)
                found->file = allowances->file;
        return found;
}

/* --- Values ------------------------------------------------------------------------------------------------------ */

/* A number, and for memory what it is of. */
static int allowances_parse(const char *value, bool is_memory, uint64_t *ret_number) {
        size_t n_digits = strspn(value, "0123456789");
        unsigned shift = 0;
        uint64_t number;

        if (n_digits == 0 || n_digits > 15)
                return -EINVAL;
        number = strtoull(value, NULL, 10);
        switch (is_memory ? value[n_digits] : '\0') {
        case 'K':
                shift = 10;
                break;
        case 'M':
                shift = 20;
                break;
        case 'G':
                shift = 30;
                break;
        default:
                break;
        }
        if (value[n_digits + (shift > 0)] != '\0' || number > (UINT64_MAX >> shift))
                return -EINVAL;
        *ret_number = number << shift;
        return 0;
}

static int allowances_refuse_key(enum limit_level level, const char *key, const char *value,
                                 char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        size_t len =
                (size_t) snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "%.40s=%.40s: unknown key below [%s]; known are",
                                  key, value, limit_sections[level]);

        for (unsigned slot = 0; slot < LIMIT_SLOTS && len < ALLOWANCES_TEXT_SIZE; slot++)
                if (allowances_table[level][slot].max > 0)
                        len += (size_t) snprintf(ret_problem + len, ALLOWANCES_TEXT_SIZE - len,
                                                 " %s=", limit_names[slot].key);
        for (unsigned rate = 0; rate < LIMIT_RATES && len < ALLOWANCES_TEXT_SIZE; rate++)
                if (allowances_rates[level][rate].burst > 0)
                        len += (size_t) snprintf(ret_problem + len, ALLOWANCES_TEXT_SIZE - len,
                                                 " %sPerSecond= %sBurst=", limit_names[LIMIT_SLOTS + rate].key,
                                                 limit_names[LIMIT_SLOTS + rate].key);
        if (level == LIMIT_USER && len < ALLOWANCES_TEXT_SIZE)
                snprintf(ret_problem + len, ALLOWANCES_TEXT_SIZE - len, " Unlimited=");
        return -EINVAL;
}

static int allowances_take_slot(enum limit_level level, unsigned slot, const char *value, uint64_t *ret_value,
                                char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        const struct allowance *allowance = &allowances_table[level][slot];

        if (allowance->may_be_none && strcmp(value, "unlimited") == 0) {
                *ret_value = LIMIT_NONE;
                return 0;
        }
        if (allowances_parse(value, slot == LIMIT_MEMORY, ret_value) == 0 && *ret_value <= allowance->max)
                return 0;
        snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "%s=%.80s: must be a number from 0 to %llu%s%s",
                 limit_names[slot].key, value, (unsigned long long) allowance->max,
                 slot == LIMIT_MEMORY ? ", with K, M or G behind it or not" : "",
                 allowance->may_be_none ? ", or unlimited" : "");
        return -EINVAL;
}

static int allowances_take_rate(const char *key, const char *value, bool is_burst, uint64_t *ret_value,
                                char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        if (!is_burst && strcmp(value, "unlimited") == 0) {
                *ret_value = 0;
                return 0;
        }
        _Static_assert(BUCKET_PER_S_MAX == BUCKET_BURST_MAX, "one text tells of both");
        if (allowances_parse(value, false, ret_value) == 0 && *ret_value >= 1 && *ret_value <= BUCKET_PER_S_MAX)
                return 0;
        snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "%.40s=%.80s: must be a number from 1 to %u%s", key, value,
                 BUCKET_PER_S_MAX, is_burst ? "" : ", or unlimited");
        return -EINVAL;
}

static int allowances_take_unlimited(const char *value, uint64_t *ret_value, char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        *ret_value = strcmp(value, "yes") == 0;
        if (*ret_value || strcmp(value, "no") == 0)
                return 0;
        snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "Unlimited=%.80s: must be yes or no", value);
        return -EINVAL;
}

/* Returns ALLOWANCES_KEYS when the level has no such key. */
static unsigned allowances_find_key(enum limit_level level, const char *key) {
        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                if (strcmp(key, limit_names[slot].key) == 0 && allowances_table[level][slot].max > 0)
                        return slot;
        for (unsigned rate = 0; rate < LIMIT_RATES; rate++) {
                const char *name = limit_names[LIMIT_SLOTS + rate].key;
                size_t len = strlen(name);

                if (allowances_rates[level][rate].burst == 0 || strncmp(key, name, len) != 0)
                        continue;
                if (strcmp(key + len, "PerSecond") == 0)
                        return ALLOWANCES_PER_S + rate;
                if (strcmp(key + len, "Burst") == 0)
                        return ALLOWANCES_BURST + rate;
        }
        return level == LIMIT_USER && strcmp(key, "Unlimited") == 0 ? ALLOWANCES_UNLIMITED : ALLOWANCES_KEYS;
}

int allowances_set(struct allowances_section *section, const char *key, const char *value, unsigned line,
                   char ret_problem[ALLOWANCES_TEXT_SIZE]) {
        unsigned number = allowances_find_key(section->level, key);
        uint64_t taken = 0;
        int r;

        if (number == ALLOWANCES_KEYS)
                return allowances_refuse_key(section->level, key, value, ret_problem);
        if (section->set_at[number] > 0) {
                snprintf(ret_problem, ALLOWANCES_TEXT_SIZE, "%s=%.80s: already set in line %u", key, value,
                         section->set_at[number]);
                return -EINVAL;
        }
        section->set_at[number] = line;
        if (number == ALLOWANCES_UNLIMITED)
                r = allowances_take_unlimited(value, &taken, ret_problem);
        else if (number >= ALLOWANCES_PER_S)
                r = allowances_take_rate(key, value, number >= ALLOWANCES_BURST, &taken, ret_problem);
        else
                r = allowances_take_slot(section->level, number, value, &taken, ret_problem);
        if (r < 0)
                return r;
        section->values[number] = taken;
        section->is_set[number] = true;
        section->files[number] = section->file;
        section->lines[number] = line;
        return 0;
}

/* --- What holds -------------------------------------------------------------------------------------------------- */

static const struct allowances_section *allowances_named(const struct allowances *allowances, enum limit_level level,
                                                         const char *unit, uid_t uid) {
        if (level == LIMIT_USER)
                return allowances_find((struct allowances *) allowances, level, "", uid);
        if (level == LIMIT_UNIT && unit)
                return allowances_find((struct allowances *) allowances, level, unit, 0);
        return NULL;
}

/* --- For people --------------------------------------------------------------------------------------------------- */

/* What a level has of a key without anybody's saying. Returns false when it has no such key, or nothing to say. */
static bool allowances_built_in(enum limit_level level, unsigned key, uint64_t *ret_value) {
        const struct bucket_rate *rate;

        if (key < LIMIT_SLOTS) {
                *ret_value = allowances_table[level][key].built_in;
                return allowances_table[level][key].max > 0;
        }
        if (key == ALLOWANCES_UNLIMITED)
                return false;
        rate = &allowances_rates[level][(key - ALLOWANCES_PER_S) % LIMIT_RATES];
        *ret_value = key < ALLOWANCES_BURST ? rate->per_s : rate->burst;
        return rate->burst > 0;
}

static void allowances_format_key(unsigned key, char *to, size_t size) {
        if (key < LIMIT_SLOTS)
                snprintf(to, size, "%s", limit_names[key].key);
        else if (key == ALLOWANCES_UNLIMITED)
                snprintf(to, size, "Unlimited");
        else
                snprintf(to, size, "%s%s", limit_names[LIMIT_SLOTS + (key - ALLOWANCES_PER_S) % LIMIT_RATES].key,
                         key < ALLOWANCES_BURST ? "PerSecond" : "Burst");
}

/* As it is read: memory in the largest unit of which it is a multiple. */
static void allowances_format_value(unsigned key, uint64_t value, char *to, size_t size) {
        static const char units[] = { '\0', 'K', 'M', 'G' };
        unsigned unit = 0;

        if (key == ALLOWANCES_UNLIMITED) {
                snprintf(to, size, "%s", value ? "yes" : "no");
                return;
        }
        if (key < LIMIT_SLOTS ? value == LIMIT_NONE : key < ALLOWANCES_BURST && value == 0) {
                snprintf(to, size, "unlimited");
                return;
        }
        while (key == LIMIT_MEMORY && unit < 3 && value > 0 && value % 1024 == 0) {
                value /= 1024;
                unit++;
        }
        snprintf(to, size, "%llu%.1s", (unsigned long long) value, &units[unit]);
}

/* Returns false when the section has nothing to say of the key. */
static bool allowances_show(const struct allowances *allowances, const struct allowances_section *section, unsigned key,
                            struct allowances_value *ret_value) {
        bool has_name = section->name[0] != '\0';
        uint64_t value = section->values[key];

        if (!section->is_set[key] && (has_name || !allowances_built_in(section->level, key, &value)))
                return false;
        *ret_value = (struct allowances_value){ 0 };
        snprintf(ret_value->section, sizeof(ret_value->section), "%s%s%s", limit_sections[section->level],
                 has_name ? " " : "", section->name);
        allowances_format_key(key, ret_value->key, sizeof(ret_value->key));
        allowances_format_value(key, value, ret_value->value, sizeof(ret_value->value));
        if (section->is_set[key])
                snprintf(ret_value->place, sizeof(ret_value->place), "%s:%u", allowances->paths + section->files[key],
                         section->lines[key]);
        return true;
}

bool allowances_next(const struct allowances *allowances, unsigned *index, struct allowances_value *ret_value) {
        while (*index < (LIMIT_LEVELS + allowances->n_named) * ALLOWANCES_KEYS) {
                unsigned place = *index / ALLOWANCES_KEYS, key = (*index)++ % ALLOWANCES_KEYS;

                if (allowances_show(allowances,
                                    place < LIMIT_LEVELS ? &allowances->levels[place]
                                                         : &allowances->named[place - LIMIT_LEVELS],
                                    key, ret_value))
                        return true;
        }
        return false;
}

bool allowances_exempt(const struct allowances *allowances, uid_t uid) {
        const struct allowances_section *named = allowances_named(allowances, LIMIT_USER, NULL, uid);
        const struct allowances_section *all = &allowances->levels[LIMIT_USER];

        if (named && named->is_set[ALLOWANCES_UNLIMITED])
                return named->values[ALLOWANCES_UNLIMITED];
        if (uid == 0 || uid == geteuid())
                return true;
        return all->is_set[ALLOWANCES_UNLIMITED] && all->values[ALLOWANCES_UNLIMITED];
}

/* The section with the name decides, then the one without, then what is built in. */
static uint64_t allowances_value(const struct allowances_section *named, const struct allowances_section *all,
                                 unsigned key, uint64_t built_in) {
        if (named && named->is_set[key])
                return named->values[key];
        return all->is_set[key] ? all->values[key] : built_in;
}

static struct bucket_rate allowances_rate_of(const struct allowances *allowances, enum limit_level level, uid_t uid,
                                             enum limit_rate rate) {
        const struct allowances_section *named = allowances_named(allowances, level, NULL, uid);
        const struct allowances_section *all = &allowances->levels[level];
        const struct bucket_rate *built_in = &allowances_rates[level][rate];

        return (struct bucket_rate){
                .per_s = (uint32_t) allowances_value(named, all, ALLOWANCES_PER_S + rate, built_in->per_s),
                .burst = (uint32_t) allowances_value(named, all, ALLOWANCES_BURST + rate, built_in->burst),
        };
}

struct bucket_rate allowances_rate(const struct allowances *allowances, uid_t uid, enum limit_rate rate) {
        if (allowances_exempt(allowances, uid))
                return (struct bucket_rate){ 0 };
        return allowances_rate_of(allowances, LIMIT_USER, uid, rate);
}

void allowances_for(const struct allowances *allowances, uid_t uid, const char *unit, struct limits *ret_limits) {
        static const struct allowances_section nobody = { .level = LIMIT_UNIT };

        memset(ret_limits, 0, sizeof(*ret_limits));
        ret_limits->is_exempt = allowances_exempt(allowances, uid);
        for (unsigned level = 0; level < LIMIT_LEVELS; level++) {
                const struct allowances_section *all = &allowances->levels[level];
                const struct allowances_section *named =
                        allowances_named(allowances, (enum limit_level) level, unit, uid);

                /* Who is exempt is not meant by what holds for every unit, but by what names his. */
                if (level == LIMIT_UNIT && ret_limits->is_exempt)
                        all = &nobody;
                for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                        ret_limits->max[level][slot] =
                                allowances_value(named, all, slot, allowances_table[level][slot].built_in);
                for (unsigned rate = 0; rate < LIMIT_RATES; rate++)
                        ret_limits->rates[level][rate] =
                                allowances_rate_of(allowances, (enum limit_level) level, uid, (enum limit_rate) rate);
        }
}
