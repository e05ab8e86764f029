/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_JOURNAL_H
#define DAEMON_MONITOR_JOURNAL_H

/* The lines that the daemon writes for a person: to the systemd journal with fields, or to stderr. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define JOURNAL_WINDOW_LINES 1000u /* lines that may be written in one window */
#define JOURNAL_WINDOW_S 10u
#define JOURNAL_CAUSE_LINES 100u /* of these, of one kind about the clients of one user */
#define JOURNAL_CAUSES 64u       /* that are told apart; the rest shares the last place */
#define JOURNAL_SAMPLE_SIZE 160

enum journal_target {
        JOURNAL_TO_STDERR,
        JOURNAL_TO_JOURNAL,
};

/* Lines of one kind, and of one rule, about the clients of one user. */
struct journal_cause {
        const char *message_id;
        uid_t uid;
        uint64_t rule;    /* a hash of its name */
        unsigned n_lines; /* 0: the place is free */
        unsigned n_suppressed;
        char sample[JOURNAL_SAMPLE_SIZE]; /* the first line that was suppressed */
};

struct journal {
        enum journal_target target;
        int max_priority; /* LOG_*: less urgent lines are not written */
        int fd;           /* through which lines leave to the journal; -1: none yet */
        const char *socket_path;
        bool is_copied; /* lines go there also where they go to stderr */
        uint64_t window_start_ns;
        unsigned n_in_window;
        unsigned n_suppressed;
        unsigned n_lost;      /* that the journal did not take at once, and was not told of */
        uint64_t n_lost_ever; /* likewise, since the start */
        struct journal_cause causes[JOURNAL_CAUSES];
};

/* What a session came to. */
struct journal_totals {
        uint64_t duration_ns;
        uint64_t n_ops;
        uint64_t n_sockets;
        uint64_t bytes_received;
        uint64_t bytes_sent;
};

/* What a line is about. Fields that are zero or NULL are left out. */
struct journal_fields {
        const char *message_id; /* one of events.h */
        uint64_t session;
        bool has_client; /* client_uid counts, and client_pid where it is not 0 */
        pid_t client_pid;
        uid_t client_uid;
        const char *client_unit;
        const char *client_cgroup;
        bool has_client_thread; /* client_thread counts */
        bool has_client_op;     /* likewise */
        uint64_t client_thread; /* by the client's own numbers */
        uint64_t client_socket;
        uint64_t client_op;
        int error;               /* -errno */
        const char *protocol;    /* tcp, udp or unix */
        const char *rule;        /* of the policy, that decided */
        const char *remote;      /* the addresses that it is about */
        const char *remote_name; /* that the client had asked for, and that stood for the remote address */
        const char *local;
        pid_t worker_pid;
        const char *engine;
        const struct journal_totals *totals;
};

/* Returns the place where lines go unless somebody asks: the journal when stderr leads there, else stderr. */
enum journal_target journal_default_target(void);

void journal_init(struct journal *journal, enum journal_target target, int max_priority);
void journal_deinit(struct journal *journal);

/*
 * Writes one line, and never waits. More than JOURNAL_WINDOW_LINES within JOURNAL_WINDOW_S, or JOURNAL_CAUSE_LINES of
 * one message id about one user's clients, are counted instead, and the counts are written with the first line of a
 * later window. Control characters in the text are replaced. Keeps errno.
 *
 * fields: what the line is about, or NULL.
 */
__attribute__((format(printf, 4, 5))) void journal_write(struct journal *journal, int priority,
                                                         const struct journal_fields *fields, const char *format, ...);

/* Writes what and each line of a text as lines of their own, as journal_write() does: "what: a line of the text". */
void journal_write_each(struct journal *journal, int priority, const struct journal_fields *fields, const char *what,
                        const char *text);

/* Writes how many lines were suppressed of late, if any were. */
void journal_finish(struct journal *journal);

/* Replaces what is not printable, so that nobody's text can forge a line or steer a terminal. */
void journal_clean(char *text);

#endif
