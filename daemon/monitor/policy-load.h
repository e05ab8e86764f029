/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_POLICY_LOAD_H
#define DAEMON_MONITOR_POLICY_LOAD_H

/* Reads the rules from files: overlapd-policy(5). */

#include "daemon/monitor/policy.h"

/* Where the system's rules are, ended by NULL: what stands earlier hides files of the same name in those behind. */
extern const char *const policy_system_directories[];

/*
 * Reads all rules of some directories: the files *.conf, in the order of their names, whichever directory they are in.
 *
 * directories: ended by NULL. A directory that does not exist has no files.
 *
 * Returns 0 and the policy; or -errno and a text of one line for each error (file, line, key, value, what is allowed),
 * which the caller frees; it is NULL where there was no memory for it. Nothing is loaded unless all is right.
 */
int policy_load(const char *const *directories, struct policy **ret_policy, char **ret_errors);

#endif
