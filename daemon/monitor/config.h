/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_CONFIG_H
#define DAEMON_MONITOR_CONFIG_H

/* The daemon's settings: from a file, and from the command line, which wins. */

#include <stdbool.h>

#include "daemon/monitor/allowances.h"
#include "daemon/monitor/journal.h"

#define CONFIG_NAME "overlapd/overlapd.conf"
#define CONFIG_PATH "/etc/" CONFIG_NAME
#define CONFIG_SOCKET "/run/overlapd/overlapd.sock"
#define CONFIG_WORKERS_MAX 64u
#define CONFIG_POLL_US 50u
#define CONFIG_POLL_US_MAX 1000u
#define CONFIG_SOCKET_PATH_MAX 107u
#define CONFIG_POLICY_MAX 255u
#define CONFIG_SECTION "Daemon"
#define CONFIG_VALUE_SIZE 256 /* of config_format() */
#define CONFIG_PLACE_SIZE 256

enum config_key {
        CONFIG_KEY_SOCKET,
        CONFIG_KEY_ENGINE,
        CONFIG_KEY_WORKERS,
        CONFIG_KEY_LOG,
        CONFIG_KEY_POLL,
        CONFIG_KEY_POLICY,
        CONFIG_N_KEYS,
};

struct config {
        bool is_set[CONFIG_N_KEYS]; /* somebody chose; else the value is the default */
        char socket[CONFIG_SOCKET_PATH_MAX + 1];
        char engine[16];
        unsigned n_workers;
        unsigned poll_us; /* how long workers look for work before they sleep, while it pays; 0: never */
        char policy[CONFIG_POLICY_MAX + 1]; /* where rules are: "system", "own", or a directory */
        enum journal_target log;
        char places[CONFIG_N_KEYS][CONFIG_PLACE_SIZE]; /* where each value is from, for people; empty: nobody chose */
        struct allowances allowances;
};

void config_init(struct config *config);

/*
 * Sets one value.
 *
 * Returns 0, or -EINVAL and a static text that says what is allowed; the settings are then as before.
 */
int config_set(struct config *config, enum config_key key, const char *value, const char **ret_allowed);

/* Notes where the value of a key is from. */
__attribute__((format(printf, 3, 4))) void config_place(struct config *config, enum config_key key, const char *format,
                                                        ...);

/* The name of a key, and its value, as files have them. The latter returns the text. */
const char *config_key_name(enum config_key key);
const char *config_format(const struct config *config, enum config_key key, char text[CONFIG_VALUE_SIZE]);

/*
 * Reads settings over those that are there.
 *
 * is_required: a missing file is an error. Otherwise it may be missing, and where it is CONFIG_PATH, below whatever
 * root, it stands for all files of the system's settings: see dropin_find().
 *
 * Returns 0, or -errno and a text of one line for each error (file, line, key, value, what is allowed), which the
 * caller frees; it is NULL where there was no memory for it. The settings are changed only when all of every file is
 * right.
 */
int config_load(struct config *config, const char *path, bool is_required, char **ret_errors);

#endif
