/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl doctor: why a program cannot use overlapd here, or not as well as it could. Runs without the daemon and
 * without root, and changes nothing: what is to be changed is printed as a command, for the administrator to judge.
 *
 * Each check is a small function of a table; it tells what it found, with the values it saw, also where all is well, so
 * that the output can be sent to somebody who was not there. A check that cannot see something says so and concludes
 * nothing.
 *
 *   doctor-service.c  what the service manager says
 *   doctor-daemon.c   the socket, who may connect, what answers, and its limits
 *   doctor-admin.c    what the daemon says of itself, where it may be asked
 *   doctor-kernel.c   what the kernel has and allows
 *   doctor-cost.c     what clocks and sleeping processors cost
 *
 * Rejected: repairing by itself. A tool that is run to look must be safe to run.
 */

#include "client/ctl/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/ctl/output.h"

#define DOCTOR_FILE_SIZE 8192

const char doctor_help[] =
        "Usage: overlapctl doctor [--json]\n"
        "\n"
        "Looks for what keeps programs from using overlapd on this machine, or makes it slow, and says how each "
        "finding\n"
        "is repaired. Changes nothing; needs neither root nor a running daemon.\n"
        "\n"
        "With --quiet only problems and warnings are told. Exit status: 0 no problem (there may be warnings),\n"
        "1 problems.\n";

/* --- For the checks ---------------------------------------------------------------------------------------------- */

void doctor_tell(struct doctor *doctor, enum doctor_verdict verdict, const char *format, ...) {
        struct doctor_finding *finding;
        va_list arguments;

        if (doctor->n_findings == DOCTOR_FINDINGS_MAX)
                return;
        finding = &doctor->findings[doctor->n_findings++];
        *finding = (struct doctor_finding){ .check = doctor->check, .verdict = verdict };
        va_start(arguments, format);
        vsnprintf(finding->text, sizeof(finding->text), format, arguments);
        va_end(arguments);
        output_clean(finding->text, finding->text, sizeof(finding->text));
}

void doctor_repair(struct doctor *doctor, const char *format, ...) {
        struct doctor_finding *finding = &doctor->findings[doctor->n_findings - 1];
        va_list arguments;

        if (finding->verdict == DOCTOR_OK)
                return;
        va_start(arguments, format);
        vsnprintf(finding->repair, sizeof(finding->repair), format, arguments);
        va_end(arguments);
        output_clean(finding->repair, finding->repair, sizeof(finding->repair));
}

const char *doctor_root(void) {
        return geteuid() == 0 ? "" : "sudo ";
}

const char *doctor_quote(const char *path, char to[DOCTOR_REPAIR_SIZE]) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=";
        size_t at = 0;

        if (path[0] && path[strspn(path, plain)] == '\0') {
                snprintf(to, DOCTOR_REPAIR_SIZE, "%s", path);
                return to;
        }
        to[at++] = '\'';
        for (; *path && at + 6 < DOCTOR_REPAIR_SIZE; path++)
                at += (size_t) snprintf(to + at, DOCTOR_REPAIR_SIZE - at, *path == '\'' ? "'\\''" : "%c", *path);
        snprintf(to + at, DOCTOR_REPAIR_SIZE - at, "'");
        return to;
}

/* Returns the bytes that were read, which end with NUL, or -errno. */
static ssize_t doctor_read(const char *path, char *ret_bytes, size_t size) {
        _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, ret_bytes, size - 1);
        if (n < 0)
                return -errno;
        ret_bytes[n] = '\0';
        return n;
}

int doctor_read_line(const char *path, char *ret_line, size_t size) {
        ssize_t n = doctor_read(path, ret_line, size);

        if (n < 0)
                return (int) n;
        ret_line[strcspn(ret_line, "\n")] = '\0';
        return ret_line[0] ? 0 : -ENODATA;
}

int doctor_read_number(const char *path, uint64_t *ret_number) {
        char line[64], *end;
        unsigned long long number;
        int r;

        r = doctor_read_line(path, line, sizeof(line));
        if (r < 0)
                return r;
        errno = 0;
        number = strtoull(line, &end, 10);
        if (line[0] < '0' || line[0] > '9' || errno || (*end != '\0' && *end != ' ' && *end != '\t'))
                return -EINVAL;
        *ret_number = number;
        return 0;
}

int doctor_read_status(pid_t pid, const char *name, char *ret_value, size_t size) {
        char path[64] = "/proc/self/status", bytes[DOCTOR_FILE_SIZE], wanted[64];
        const char *found;
        ssize_t n;

        if (pid > 0)
                snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        n = doctor_read(path, bytes, sizeof(bytes));
        if (n < 0)
                return (int) n;
        snprintf(wanted, sizeof(wanted), "\n%s:", name);
        found = strstr(bytes, wanted);
        if (!found)
                return -ENODATA;
        found += strlen(wanted);
        found += strspn(found, " \t");
        snprintf(ret_value, size, "%.*s", (int) strcspn(found, "\n"), found);
        return 0;
}

/* --- The verb ---------------------------------------------------------------------------------------------------- */

static void doctor_run(struct doctor *doctor, const struct doctor_check *checks) {
        for (; checks->name; checks++) {
                doctor->check = checks->name;
                checks->run(doctor);
        }
}

static const char *doctor_verdict(enum doctor_verdict verdict) {
        static const char *const words[] = { "ok", "warning", "problem", "skipped" };

        return words[verdict];
}

static size_t doctor_count(const struct doctor *doctor, enum doctor_verdict verdict) {
        size_t n = 0;

        for (size_t i = 0; i < doctor->n_findings; i++)
                n += doctor->findings[i].verdict == verdict;
        return n;
}

/* Whoever wants it quiet is told of problems and warnings alone. */
static bool doctor_is_told(const struct doctor *doctor, const struct doctor_finding *finding) {
        return !doctor->ctl->is_quiet || finding->verdict == DOCTOR_WARNING || finding->verdict == DOCTOR_PROBLEM;
}

static void doctor_print(const struct doctor *doctor) {
        size_t n_problems = doctor_count(doctor, DOCTOR_PROBLEM), n_warnings = doctor_count(doctor, DOCTOR_WARNING);

        for (size_t i = 0; i < doctor->n_findings; i++) {
                const struct doctor_finding *finding = &doctor->findings[i];

                if (!doctor_is_told(doctor, finding))
                        continue;
                printf("%-8s %-11s %s\n", doctor_verdict(finding->verdict), finding->check, finding->text);
                if (finding->repair[0])
                        printf("%-8s %-11s %s\n", "", "  repair:", finding->repair);
        }
        if (doctor->ctl->is_quiet)
                return;
        if (n_problems + n_warnings == 0)
                puts("\nNothing is wrong.");
        else
                printf("\n%zu problem%s, %zu warning%s.\n", n_problems, n_problems == 1 ? "" : "s", n_warnings,
                       n_warnings == 1 ? "" : "s");
}

static int doctor_print_json(const struct doctor *doctor) {
        struct json_object *all = output_json_object(), *findings = output_json_array();

        for (size_t i = 0; i < doctor->n_findings; i++) {
                const struct doctor_finding *finding = &doctor->findings[i];
                struct json_object *part;

                if (!doctor_is_told(doctor, finding))
                        continue;
                part = output_json_object();
                output_json_string(part, "check", finding->check);
                output_json_string(part, "verdict", doctor_verdict(finding->verdict));
                output_json_string(part, "found", finding->text);
                output_json_string(part, "repair", finding->repair);
                output_json_append(findings, part);
        }
        output_json_add(all, "findings", findings);
        output_json_number(all, "problems", doctor_count(doctor, DOCTOR_PROBLEM));
        output_json_number(all, "warnings", doctor_count(doctor, DOCTOR_WARNING));
        return output_json_print(all);
}

int doctor_main(const struct ctl *ctl, int argc, char *argv[]) {
        _cleanup_free_ struct doctor *doctor = calloc(1, sizeof(*doctor));
        int r;

        r = ctl_take_nothing(argc, argv);
        if (r != 0)
                return r;
        if (!doctor) {
                ctl_complain("no memory");
                return CTL_FAILED;
        }
        doctor->ctl = ctl;
        doctor_try_kernel(doctor);
        /* Where asking for a socket kills, these would, too: also to look up the name of a user takes one. */
        if (doctor->unix_status != DOCTOR_KILLED) {
                doctor_run(doctor, doctor_service_checks);
                doctor_run(doctor, doctor_daemon_checks);
                doctor_run(doctor, doctor_admin_checks);
        }
        doctor_run(doctor, doctor_kernel_checks);
        doctor_run(doctor, doctor_cost_checks);
        if (!ctl->is_json)
                doctor_print(doctor);
        else if (doctor_print_json(doctor) < 0)
                return CTL_FAILED;
        return doctor_count(doctor, DOCTOR_PROBLEM) > 0 ? CTL_FAILED : CTL_DONE;
}
