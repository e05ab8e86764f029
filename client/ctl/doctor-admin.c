/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the daemon says of itself, where this user may ask: that it is of another version than the tools beside it, that
 * it lacks workers or lost some, that its journal does not take its lines. Nobody needs that socket to use overlapd, so
 * that one may not ask is no finding.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/ctl/doctor.h"
#include "client/ctl/membership.h"
#include "client/ctl/summary.h"

/* Whether somebody listens there; question_connect() would say on standard error that nobody does. Returns 0 or -errno.
 */
static int admin_try(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_fd_ int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        return 0;
}

static void admin_tell_closed(struct doctor *doctor, int error) {
        char user[MEMBERSHIP_NAME_SIZE];

        if (error == -EACCES || error == -EPERM) {
                doctor_tell(
                        doctor, DOCTOR_SKIPPED,
                        "user %s may use the daemon, and not ask what it does: %s is for root and members of its group",
                        membership_user_name(geteuid(), user), doctor->ctl->admin_path);
                return;
        }
        doctor_tell(doctor, DOCTOR_WARNING, "the daemon answers, but cannot be asked what it does: %s: %s",
                    doctor->ctl->admin_path, strerrordesc_np(-error));
        if (doctor->is_service && doctor->has_unit)
                doctor_repair(doctor, "%ssystemctl enable --now overlapd-admin.socket", doctor_root());
}

/* The command that shows what a service wrote. */
static void admin_repair_by_journal(struct doctor *doctor) {
        if (doctor->is_service)
                doctor_repair(doctor, "%sjournalctl -xeu overlapd.service", doctor_root());
        else
                doctor_repair(doctor, "overlapctl log --any -n 50");
}

static void admin_tell(struct doctor *doctor, const struct summary *summary) {
        const Overlapd__AdminDaemon *said = &summary->said;
        size_t n_before = doctor->n_findings;

        if (strcmp(summary->version, OVERLAPD_VERSION) != 0) {
                doctor_tell(doctor, DOCTOR_WARNING, "the daemon is of version %s, and this program of %s",
                            summary->version, OVERLAPD_VERSION);
                if (doctor->is_service)
                        doctor_repair(doctor, "%ssystemctl restart overlapd.service", doctor_root());
        }
        if (said->workers_ready < said->workers_wanted) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "the daemon has %u of its %u workers: the others could not start",
                            said->workers_ready, said->workers_wanted);
                admin_repair_by_journal(doctor);
        }
        if (said->worker_deaths > 0) {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "%llu workers of the daemon have died: the sessions that they served were lost",
                            (unsigned long long) said->worker_deaths);
                admin_repair_by_journal(doctor);
        }
        if (doctor->is_service && said->rules == 0) {
                doctor_tell(
                        doctor, DOCTOR_WARNING,
                        "the policy has no rules, so nobody may use the network through the daemon: overlapd-policy(5) "
                        "has examples");
                doctor_repair(doctor,
                              "%seditor /etc/overlapd/policy.d/10-local.conf && %ssystemctl reload overlapd.service",
                              doctor_root(), doctor_root());
        }
        if (said->lines_lost > 0) {
                doctor_tell(doctor, DOCTOR_WARNING, "the journal did not take %llu lines of the daemon",
                            (unsigned long long) said->lines_lost);
                doctor_repair(doctor, "%ssystemctl restart systemd-journald.service", doctor_root());
        }
        if (doctor->n_findings == n_before)
                doctor_tell(doctor, DOCTOR_OK, "the daemon is of version %s as this program, %s, with %u of %u workers",
                            summary->version, summary->state, said->workers_ready, said->workers_wanted);
}

static void admin_check(struct doctor *doctor) {
        struct summary summary;
        int r;

        if (!doctor->has_session) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "the daemon cannot be asked what it does");
                return;
        }
        r = admin_try(doctor->ctl->admin_path);
        if (r < 0) {
                admin_tell_closed(doctor, r);
                return;
        }
        summary_get(doctor->ctl, -1, &summary);
        if (summary.has_daemon)
                admin_tell(doctor, &summary);
        else
                doctor_tell(doctor, DOCTOR_SKIPPED, "the daemon did not say what it does");
}

const struct doctor_check doctor_admin_checks[] = {
        { "status", admin_check },
        { 0 },
};
