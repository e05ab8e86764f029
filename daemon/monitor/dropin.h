/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_DROPIN_H
#define DAEMON_MONITOR_DROPIN_H

/* Which files of settings or rules count, of those that vendor, machine and administrator have put in their places. */

#include <stddef.h>
#include <stdio.h>

#include "daemon/monitor/ini-file.h"

#define DROPIN_FILES_MAX 1024u

struct dropin_files {
        char **paths; /* in the order in which they are read: later ones win */
        size_t n_paths;
};

void dropin_files_deinit(struct dropin_files *files);

/*
 * Finds the files of a name, as systemd does for its own: one NAME of /etc, /run or /usr/lib, the first that is there,
 * and then each *.conf of NAME.d in these three, sorted by their names, where one in an earlier place hides those of
 * the same name in later ones. A link to /dev/null hides likewise, and is not read.
 *
 * root:   what is put before these places; empty in a running daemon.
 * name:   as overlapd/overlapd.conf.
 * errors: gets a line for each place that cannot be looked into.
 *
 * Returns 0, -E2BIG when there are more than DROPIN_FILES_MAX, or another -errno.
 */
int dropin_find(const char *root, const char *name, FILE *errors, struct dropin_files *ret_files);

/*
 * The same with each *.conf of these folders alone: NULL-ended, the one that hides before those that are hidden.
 *
 * trust: whose the folders may be.
 */
int dropin_find_in(const char *const *folders, enum ini_file_trust trust, FILE *errors, struct dropin_files *ret_files);

#endif
