/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rules, as they were read, and whom each is about.
 *
 * Whoever opens a socket for others takes the place of the kernel's own judgement: filters by user, by control group
 * and by network namespace see the daemon and not its client. So nothing is allowed that no rule allows, the addresses
 * of near services that trust their neighbours least of all, and a rule that allows by user or group covers only those
 * in the daemon's own network namespace: who was put elsewhere was meant to have no network, unless a rule names his
 * unit or control group. A rule that denies covers them wherever they are: nobody escapes it by being locked up.
 *
 * An instance that somebody started for himself ends with one more rule, which allows its own user what he could do
 * without it.
 *
 * Rejected: a default that allows, with a list of what is forbidden; rules that override each other by being more
 * precise, where nobody can tell which one decides without a calculation.
 */

#include "daemon/monitor/policy.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int policy_new(struct policy **ret_policy) {
        struct policy *policy = calloc(1, sizeof(*policy));

        if (!policy)
                return -ENOMEM;
        *ret_policy = policy;
        return 0;
}

static void policy_free_strings(char **strings, size_t n) {
        for (size_t i = 0; i < n; i++)
                free(strings[i]);
        free(strings);
}

static void policy_free_targets(struct policy_target *targets, size_t n) {
        for (size_t i = 0; i < n; i++)
                free(targets[i].text);
        free(targets);
}

static void policy_rule_deinit(struct policy_rule *rule) {
        free(rule->name);
        free(rule->place);
        free(rule->users);
        free(rule->groups);
        policy_free_strings(rule->units, rule->n_units);
        policy_free_strings(rule->cgroups, rule->n_cgroups);
        policy_free_targets(rule->to, rule->n_to);
        policy_free_targets(rule->at, rule->n_at);
        free(rule->ports);
}

struct policy *policy_free(struct policy *policy) {
        if (!policy)
                return NULL;
        for (size_t i = 0; i < policy->n_rules; i++)
                policy_rule_deinit(&policy->rules[i]);
        free(policy->rules);
        free(policy);
        return NULL;
}

/* Arrays grow by doubling: there is room until n is a power of two. */
void *policy_append(void *array, size_t *n, size_t size) {
        void **bytes = array;
        void *longer;

        if ((*n & (*n - 1)) == 0) {
                longer = reallocarray(*bytes, *n > 0 ? *n * 2 : 1, size);
                if (!longer)
                        return NULL;
                *bytes = longer;
        }
        memset((char *) *bytes + *n * size, 0, size);
        return (char *) *bytes + (*n)++ * size;
}

int policy_add(struct policy *policy, struct policy_rule **ret_rule) {
        struct policy_rule *rule;

        if (policy->n_rules >= POLICY_RULES_MAX)
                return -E2BIG;
        rule = policy_append(&policy->rules, &policy->n_rules, sizeof(*rule));
        if (!rule)
                return -ENOMEM;
        *ret_rule = rule;
        return 0;
}

const struct policy_rule *policy_find(const struct policy *policy, const char *name) {
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy->rules[i].name && strcmp(policy->rules[i].name, name) == 0)
                        return &policy->rules[i];
        return NULL;
}

/* --- Whom a rule is about ---------------------------------------------------------------------------------------- */

static bool policy_covers_user(const struct policy_rule *rule, uid_t uid) {
        bool covers = rule->is_for_all_users || rule->n_users == 0;

        for (size_t i = 0; i < rule->n_users && !covers; i++)
                covers = rule->users[i] == uid;
        return covers;
}

static bool policy_is_member(const struct policy_subject *subject, gid_t group) {
        bool is_member = subject->gid == group;

        for (size_t i = 0; i < subject->n_groups && !is_member; i++)
                is_member = subject->groups[i] == group;
        return is_member;
}

static bool policy_covers_group(const struct policy_rule *rule, const struct policy_subject *subject) {
        bool covers = rule->n_groups == 0;

        for (size_t i = 0; i < rule->n_groups && !covers; i++)
                covers = policy_is_member(subject, rule->groups[i]);
        return covers;
}

static bool policy_covers_unit(const struct policy_rule *rule, const char *unit) {
        bool covers = rule->n_units == 0;

        for (size_t i = 0; i < rule->n_units && !covers && unit; i++)
                covers = fnmatch(rule->units[i], unit, 0) == 0;
        return covers;
}

/* The control group itself, or one below it. */
static bool policy_is_within(const char *cgroup, const char *outer) {
        size_t len = strlen(outer);

        if (strcmp(outer, "/") == 0)
                return true;
        return strncmp(cgroup, outer, len) == 0 && (cgroup[len] == '\0' || cgroup[len] == '/');
}

static bool policy_covers_cgroup(const struct policy_rule *rule, const char *cgroup) {
        bool covers = rule->n_cgroups == 0;

        for (size_t i = 0; i < rule->n_cgroups && !covers && cgroup; i++)
                covers = policy_is_within(cgroup, rule->cgroups[i]);
        return covers;
}

bool policy_rule_covers(const struct policy_rule *rule, const struct policy_subject *subject) {
        if (rule->is_allowing && subject->is_elsewhere && rule->n_units == 0 && rule->n_cgroups == 0)
                return false;
        return policy_covers_user(rule, subject->uid) && policy_covers_group(rule, subject) &&
               policy_covers_unit(rule, subject->unit) && policy_covers_cgroup(rule, subject->cgroup);
}

/* --- Names ------------------------------------------------------------------------------------------------------- */

static bool policy_means(const struct policy *policy, const char *pattern) {
        for (size_t i = 0; i < policy->n_rules; i++) {
                const struct policy_rule *rule = &policy->rules[i];

                for (size_t j = 0; j < rule->n_to; j++)
                        if (rule->to[j].kind == POLICY_NAME && strcmp(rule->to[j].text, pattern) == 0)
                                return true;
        }
        return false;
}

size_t policy_name_hashes(const struct policy *policy, const char *name, uint64_t *ret_hashes, size_t n_max) {
        char pattern[RULING_NAME_MAX + 2];
        const char *dot = name;
        size_t n = 0;

        if (strlen(name) > RULING_NAME_MAX)
                return 0;
        if (n < n_max && policy_means(policy, name))
                ret_hashes[n++] = ruling_hash(name);
        while ((dot = strchr(dot, '.'))) {
                snprintf(pattern, sizeof(pattern), "*%s", dot++);
                if (n < n_max && policy_means(policy, pattern))
                        ret_hashes[n++] = ruling_hash(pattern);
        }
        return n;
}
