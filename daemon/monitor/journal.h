/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_JOURNAL_H
#define DAEMON_MONITOR_JOURNAL_H

/* The lines that the daemon writes for a person: to the systemd journal with fields, or to stderr. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#define JOURNAL_WINDOW_LINES 200u /* lines that may be written in one window */
#define JOURNAL_WINDOW_S 10u
#define JOURNAL_CLIENT_LINES 20u /* of these, about the clients of one user */
#define JOURNAL_CAUSE_LINES 5u   /* of these, because of one rule of the policy */
#define JOURNAL_CAUSES 32u       /* users and rules that are told apart; the rest shares the last place */
#define JOURNAL_USERS 16u        /* users that are told apart; the rest shares the last place */

enum journal_target {
        JOURNAL_TO_STDERR,
        JOURNAL_TO_JOURNAL,
};

struct journal {
        enum journal_target target;
        int max_priority; /* LOG_*: less urgent lines are not written */
        uint64_t window_start_ns;
        unsigned n_in_window;
        unsigned n_suppressed;
        struct {
                uint64_t cause;
                unsigned n_lines;
        } causes[JOURNAL_CAUSES]; /* likewise */
        struct {
                uid_t uid;
                unsigned n_lines;
        } users[JOURNAL_USERS]; /* n_lines 0: the place is free */
};

/* What a line is about. Fields that are zero or NULL are left out. */
struct journal_fields {
        const char *message_id; /* one of events.h */
        uint64_t session;
        bool has_client; /* client_pid and client_uid count */
        pid_t client_pid;
        uid_t client_uid;
        const char *client_unit;
        int error;          /* -errno */
        const char *remote; /* the network address that it is about */
        const char *rule;   /* of the policy, that decided */
};

/* Returns the place where lines go unless somebody asks: the journal when stderr leads there, else stderr. */
enum journal_target journal_default_target(void);

void journal_init(struct journal *journal, enum journal_target target, int max_priority);

/*
 * Writes one line. More than JOURNAL_WINDOW_LINES within JOURNAL_WINDOW_S, or JOURNAL_CLIENT_LINES about one user's
 * clients, or JOURNAL_CAUSE_LINES of these because of one rule, are counted instead, and the count is written with the
 * first line of a later window. Control characters in the text are replaced. Keeps errno.
 *
 * fields: what the line is about, or NULL.
 */
__attribute__((format(printf, 4, 5))) void journal_write(struct journal *journal, int priority,
                                                         const struct journal_fields *fields, const char *format, ...);

/* Writes how many lines were suppressed of late, if any were. */
void journal_finish(struct journal *journal);

/* Replaces what is not printable, so that nobody's text can forge a line or steer a terminal. */
void journal_clean(char *text);

#endif
