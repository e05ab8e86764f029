/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_POLICY_H
#define DAEMON_MONITOR_POLICY_H

/* The policy: the rules of the administrator, whom each is about, and what they come to for one client. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "daemon/ruling.h"

#define POLICY_RULES_MAX 8192u
#define POLICY_VALUES_MAX 64u    /* of one key of a rule */
#define POLICY_ATOMS_MAX 131072u /* networks times ports, of all rules */
#define POLICY_RULE_NAME_MAX 32u

/* Who asks, as the kernel and the service manager know it. Borrowed. */
struct policy_subject {
        uid_t uid;
        gid_t gid;
        const gid_t *groups;
        size_t n_groups;
        const char *unit;   /* of the system's service manager; NULL: none */
        const char *cgroup; /* path; NULL: unknown */
        bool is_elsewhere;  /* in another network namespace than the daemon, or in one that cannot be told */
};

enum policy_target_kind {
        POLICY_NETWORK,
        POLICY_NAME, /* "host.example", "*.example" */
        POLICY_OWN,  /* the machine's own addresses */
        POLICY_PATH, /* of a Unix socket; an abstract name begins with a NUL byte */
};

struct policy_target {
        enum policy_target_kind kind;
        struct ruling_key first;
        uint8_t prefix_len; /* of 128 */
        bool names_near;    /* it names the address, where that is one that a rule must name */
        size_t text_len;
        char *text; /* name or path */
};

struct policy_ports {
        uint16_t first, last;
};

struct policy_rule {
        char *name;
        char *place; /* FILE:LINE */
        bool is_allowing;
        bool is_for_all_users; /* User=* */
        uint8_t acts;          /* bits of enum ruling_act */
        uint8_t protocols;     /* bits of enum ruling_protocol */
        uid_t *users;
        gid_t *groups;
        char **units; /* patterns of fnmatch(3) */
        char **cgroups;
        struct policy_target *to; /* of connect, sendto and resolve; none: everywhere */
        struct policy_target *at; /* of listen */
        struct policy_ports *ports;
        size_t n_users, n_groups, n_units, n_cgroups, n_to, n_at, n_ports;
};

struct policy {
        struct policy_rule *rules; /* in the order in which they are tried */
        size_t n_rules;
        uid_t own_uid;
        bool is_own; /* of an instance that serves its own user: what no rule is about is allowed to him */
};

/* An empty policy. */
int policy_new(struct policy **ret_policy);
struct policy *policy_free(struct policy *policy);

/* A new rule at the end. Returns 0, -ENOMEM, or -E2BIG when there are POLICY_RULES_MAX. */
int policy_add(struct policy *policy, struct policy_rule **ret_rule);

/* The rule whose name it is, or NULL. */
const struct policy_rule *policy_find(const struct policy *policy, const char *name);

/* Adds a value to one of the arrays of a rule; `*array` is made longer. Returns its place, or NULL. */
void *policy_append(void *array, size_t *n, size_t size);

/* Whether the rule is about the client. */
bool policy_rule_covers(const struct policy_rule *rule, const struct policy_subject *subject);

/*
 * Compiles what the policy says of one client.
 *
 * Returns 0 and the ruling, to be freed by free(3); or -ENOMEM.
 */
int policy_compile(const struct policy *policy, const struct policy_subject *subject, struct ruling **ret_ruling);

/* How many elements a rule adds to a ruling, about. */
size_t policy_rule_weight(const struct policy_rule *rule);

/*
 * The numbers by which facts know a name: one for each form in which a rule of the policy means it.
 *
 * name: lower case, without a dot at its end.
 *
 * Returns how many, at most n_max.
 */
size_t policy_name_hashes(const struct policy *policy, const char *name, uint64_t *ret_hashes, size_t n_max);

#endif
