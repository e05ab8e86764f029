/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_CTL_H
#define CLIENT_CTL_CTL_H

/* What all verbs of overlapctl have in common. */

#include <stdbool.h>

/* Exit statuses, as the manual page has them. */
enum ctl_exit {
        CTL_DONE = 0,
        CTL_FAILED = 1, /* the answer is no: denied by the policy, not healthy, nothing found */
        CTL_USAGE = 2,  /* the command line */
        CTL_LOST = 3,   /* overlapd: it cannot be reached, may not be asked, or was lost */
};

struct ctl {
        const char *socket_path; /* where clients connect; never NULL */
        const char *admin_path;  /* where administrators connect; never NULL */
        bool is_json;
        bool is_quiet; /* nothing but errors and the exit status */
};

/*
 * A verb.
 *
 * argv[0] is the verb itself, and optind is 1: getopt_long(3) may follow at once. The common options are gone.
 *
 * Returns the exit status.
 */
typedef int ctl_verb_main(const struct ctl *ctl, int argc, char *argv[]);

ctl_verb_main status_main, list_main, policy_main, metrics_main, config_main;
ctl_verb_main doctor_main, log_main, ping_main, top_main;

extern const char status_help[], list_help[], policy_help[], metrics_help[], config_help[];
extern const char doctor_help[], log_help[], ping_help[], top_help[];

/* Writes one line, "overlapctl: ...", to standard error. */
__attribute__((format(printf, 1, 2))) void ctl_complain(const char *format, ...);

/* The same for a wrong command line, with where help is. Returns CTL_USAGE. */
__attribute__((format(printf, 2, 3))) int ctl_complain_usage(const char *verb, const char *format, ...);

/*
 * For what getopt_long(3) does not take: an option that there is not (it returned '?'), or a value that is missing
 * (':'). Returns CTL_USAGE.
 */
int ctl_complain_option(const char *verb, int option, char *argv[]);

/* For a verb without arguments and options of its own. Returns 0, or CTL_USAGE after the complaint. */
int ctl_take_nothing(int argc, char *argv[]);

#endif
