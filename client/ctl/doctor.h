/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_DOCTOR_H
#define CLIENT_CTL_DOCTOR_H

/* What overlapctl doctor looks at: each check is a function that tells what it found. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/c/overlap.h"
#include "client/ctl/ctl.h"

#define DOCTOR_TEXT_SIZE 1024
#define DOCTOR_REPAIR_SIZE 512
#define DOCTOR_FINDINGS_MAX 64u
#define DOCTOR_KILLED (-4096) /* who tries is killed by a filter */

enum doctor_verdict {
        DOCTOR_OK,
        DOCTOR_WARNING, /* it works, but not as well as it could */
        DOCTOR_PROBLEM, /* it does not work, or will not for long */
        DOCTOR_SKIPPED, /* it cannot be seen from here, or there is nothing to see */
};

struct doctor_finding {
        const char *check; /* borrowed */
        enum doctor_verdict verdict;
        char text[DOCTOR_TEXT_SIZE];     /* what was found, with its values */
        char repair[DOCTOR_REPAIR_SIZE]; /* the command that repairs it; empty: nothing to repair */
};

/* What checks learn, for those that follow. */
struct doctor {
        const struct ctl *ctl;
        const char *check; /* that is running */
        struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
        size_t n_findings;
        bool has_socket;  /* there is one at the path, and this process may connect to it */
        bool has_session; /* the daemon answers: `info` and the pids count */
        struct ovl_session_info info;
        char engine[16];
        char engine_reason[512];
        pid_t worker_pid; /* 0: not known */
        pid_t monitor_pid;
        bool is_service;      /* the socket is that of the system's service */
        bool is_user_service; /* or that of the user's own */
        bool has_unit;        /* the service manager knows overlapd's units */
        bool is_masked;       /* nobody may start its socket */
        uint64_t unit_nofile; /* LimitNOFILE= of the service; 0: not known */
        int io_uring_status;  /* of what was tried before the checks; 0, -errno, or DOCTOR_KILLED */
        int memfd_status;
        int unix_status;
};

struct doctor_check {
        const char *name;
        void (*run)(struct doctor *doctor);
};

/* Checks, in the order in which they are made; ended by one without a name. */
extern const struct doctor_check doctor_daemon_checks[];
extern const struct doctor_check doctor_service_checks[];
extern const struct doctor_check doctor_admin_checks[];
extern const struct doctor_check doctor_kernel_checks[];
extern const struct doctor_check doctor_cost_checks[];

/* Tells what was found: a sentence with its values. The next doctor_repair() belongs to it. */
__attribute__((format(printf, 3, 4))) void doctor_tell(struct doctor *doctor, enum doctor_verdict verdict,
                                                       const char *format, ...);

/* The command that repairs what was told last, as it is typed. What was told as fine has none. */
__attribute__((format(printf, 2, 3))) void doctor_repair(struct doctor *doctor, const char *format, ...);

/* What a command for root begins with: "sudo " for everybody else. */
const char *doctor_root(void);

/* A path as a shell takes it: in quotes where it needs them. Returns `to`. */
const char *doctor_quote(const char *path, char to[DOCTOR_REPAIR_SIZE]);

/* Tries what a filter may answer with a signal: see doctor-kernel.c. To be called before the checks. */
void doctor_try_kernel(struct doctor *doctor);

/*
 * Reads the first line of a file.
 *
 * Returns 0 and the line without its end, or -errno (-ENODATA: it is empty).
 */
int doctor_read_line(const char *path, char *ret_line, size_t size);

/* Reads a whole number from a file. Returns 0 or -errno. */
int doctor_read_number(const char *path, uint64_t *ret_number);

/* Finds "Name:  value" in /proc/PID/status, pid 0 being this process. Returns 0 and the value, or -errno. */
int doctor_read_status(pid_t pid, const char *name, char *ret_value, size_t size);

#endif
