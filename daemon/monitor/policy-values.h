/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_POLICY_VALUES_H
#define DAEMON_MONITOR_POLICY_VALUES_H

/* The values of the policy's keys. */

#include "daemon/monitor/policy.h"

#define POLICY_KEYS "User=, Group=, Unit=, Cgroup=, Action=, Protocol=, To=, At=, Port="

/*
 * Adds one word of a key's value to a rule.
 *
 * Returns 0; -ENOENT when there is no such key; -EINVAL and a static text that says what is allowed; or -ENOMEM.
 */
int policy_take_word(struct policy_rule *rule, const char *key, const char *word, const char **ret_allowed);

#endif
