/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way to the daemon, step by step: a socket at the path; a process that may connect to it; somebody who answers;
 * the engine that it runs on; and the limits under which it does.
 *
 * What the kernel says is asked of the kernel (access(2), connect(2)); modes and groups are only read to explain it.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/ctl/doctor.h"
#include "client/ctl/membership.h"
#include "client/ctl/output.h"

#define DAEMON_NOFILE_MIN 65536u /* sockets, channels, regions and lanes of all clients */
#define DAEMON_DROP_IN "/etc/systemd/system/overlapd.service.d/zz-limits.conf"
#define DAEMON_DEFAULT_SOCKET "/run/overlapd/overlapd.sock"

static const char *daemon_type(mode_t mode) {
        switch (mode & S_IFMT) {
        case S_IFREG:
                return "a regular file";
        case S_IFDIR:
                return "a directory";
        case S_IFIFO:
                return "a pipe";
        default:
                return "a device";
        }
}

/* How a daemon is started that has this socket. */
static void daemon_repair_start(struct doctor *doctor) {
        char quoted[DOCTOR_REPAIR_SIZE];

        if (doctor->is_user_service && doctor->has_unit)
                doctor_repair(doctor, "systemctl --user enable --now overlapd.socket");
        else if (doctor->is_service && doctor->is_masked)
                doctor_repair(doctor, "%ssystemctl unmask overlapd.socket && %ssystemctl enable --now overlapd.socket",
                              doctor_root(), doctor_root());
        else if (doctor->is_service && doctor->has_unit)
                doctor_repair(doctor, "%ssystemctl enable --now overlapd.socket", doctor_root());
        else if (doctor->is_service)
                doctor_repair(doctor, "overlapd --private -- COMMAND");
        else if (access(DAEMON_DEFAULT_SOCKET, F_OK) == 0 && getenv("OVERLAPD_SOCKET"))
                doctor_repair(doctor, "unset OVERLAPD_SOCKET");
        else
                doctor_repair(doctor, "overlapd --socket %s", doctor_quote(doctor->ctl->socket_path, quoted));
}

/* The folder of a path that this process cannot enter. Returns false where there is none. */
static bool daemon_find_closed(const char *path, char *ret_folder, size_t size) {
        for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
                snprintf(ret_folder, size, "%.*s", slash == path ? 1 : (int) (slash - path), path);
                if (faccessat(AT_FDCWD, ret_folder, X_OK, AT_EACCESS) < 0 && errno == EACCES)
                        return true;
        }
        return false;
}

static void daemon_tell_missing(struct doctor *doctor, const char *path, int error) {
        char folder[256] = "", user[MEMBERSHIP_NAME_SIZE], quoted[DOCTOR_REPAIR_SIZE];

        if (error == EACCES && daemon_find_closed(path, folder, sizeof(folder))) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "user %s cannot enter %s on the way to %s",
                            membership_user_name(geteuid(), user), folder, path);
                /* Elsewhere the folder may be closed with reason. */
                if (doctor->is_service)
                        doctor_repair(doctor, "%schmod a+x %s", doctor_root(), doctor_quote(folder, quoted));
                else
                        doctor_repair(doctor, "overlapd --private -- COMMAND");
        } else if (error == ENAMETOOLONG || strlen(path) >= sizeof(((struct sockaddr_un *) NULL)->sun_path)) {
                doctor_tell(doctor, DOCTOR_PROBLEM,
                            "the path of the socket has %zu bytes, and the kernel takes at most 107", strlen(path));
                doctor_repair(doctor, "export OVERLAPD_SOCKET=" DAEMON_DEFAULT_SOCKET);
        } else {
                doctor_tell(doctor, DOCTOR_PROBLEM, "there is no socket at %s (%s): no overlapd was started with it",
                            path, strerrordesc_np(error));
                daemon_repair_start(doctor);
        }
}

/* What is in the way of a service is put aside. Elsewhere it may be anything, and was named by mistake. */
static void daemon_repair_place(struct doctor *doctor) {
        const char *path = doctor->ctl->socket_path;
        char quoted[DOCTOR_REPAIR_SIZE];

        if (doctor->is_user_service)
                doctor_repair(doctor, "mv -i %s /tmp/ && systemctl --user restart overlapd.socket",
                              doctor_quote(path, quoted));
        else if (doctor->is_service)
                doctor_repair(doctor, "%smv -i %s /tmp/ && %ssystemctl restart overlapd.socket", doctor_root(), path,
                              doctor_root());
        else
                doctor_repair(doctor, "export OVERLAPD_SOCKET=" DAEMON_DEFAULT_SOCKET);
}

static void daemon_check_socket(struct doctor *doctor) {
        char user[MEMBERSHIP_NAME_SIZE], group[MEMBERSHIP_NAME_SIZE];
        const char *path = doctor->ctl->socket_path;
        struct stat status;

        if (stat(path, &status) < 0) {
                daemon_tell_missing(doctor, path, errno);
        } else if (!S_ISSOCK(status.st_mode)) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "%s is %s, and no socket", path, daemon_type(status.st_mode));
                daemon_repair_place(doctor);
        } else {
                doctor->has_socket = true;
                doctor_tell(doctor, DOCTOR_OK, "%s is a socket of mode %04o, of user %s and group %s", path,
                            (unsigned) (status.st_mode & 07777), membership_user_name(status.st_uid, user),
                            membership_group_name(status.st_gid, group));
        }
}

/* --- Who may connect --------------------------------------------------------------------------------------------- */

static void daemon_tell_forbidden(struct doctor *doctor, const struct stat *status) {
        char user[MEMBERSHIP_NAME_SIZE], group[MEMBERSHIP_NAME_SIZE], quoted[DOCTOR_REPAIR_SIZE];
        const char *path = doctor->ctl->socket_path;
        enum membership membership = membership_of(status->st_gid);

        membership_user_name(getuid(), user);
        membership_group_name(status->st_gid, group);
        if (!doctor->is_service && !(status->st_mode & S_IWGRP) && status->st_uid != geteuid()) {
                char owner[MEMBERSHIP_NAME_SIZE];

                doctor_tell(doctor, DOCTOR_PROBLEM,
                            "user %s may not connect: this overlapd was started by user %s, and serves nobody else",
                            user, membership_user_name(status->st_uid, owner));
                doctor_repair(doctor, "overlapd --private -- COMMAND");
        } else if (!(status->st_mode & S_IWGRP) || status->st_uid == geteuid() || membership == MEMBERSHIP_NOW) {
                doctor_tell(doctor, DOCTOR_PROBLEM,
                            "user %s may not connect: the mode of %s is %04o, and should be 0660", user, path,
                            (unsigned) (status->st_mode & 07777));
                if (doctor->is_service && doctor->has_unit)
                        doctor_repair(doctor,
                                      "%ssystemctl revert overlapd.socket && %ssystemctl restart overlapd.socket",
                                      doctor_root(), doctor_root());
                else
                        doctor_repair(doctor, "%schmod 0660 %s", doctor_root(), doctor_quote(path, quoted));
        } else if (membership == MEMBERSHIP_LATER) {
                doctor_tell(doctor, DOCTOR_PROBLEM,
                            "user %s is in the group %s, but this login is older than that: log in "
                            "again, or start a shell that has the group",
                            user, group);
                doctor_repair(doctor, "newgrp %s", group);
        } else {
                doctor_tell(doctor, DOCTOR_PROBLEM,
                            "user %s is not in the group %s, whose members may connect; log in again after the repair",
                            user, group);
                doctor_repair(doctor, "%susermod -aG %s %s", doctor_root(), group, user);
        }
}

static void daemon_check_permission(struct doctor *doctor) {
        char user[MEMBERSHIP_NAME_SIZE], quoted[DOCTOR_REPAIR_SIZE];
        struct stat status;

        if (!doctor->has_socket || stat(doctor->ctl->socket_path, &status) < 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "there is no socket that somebody could connect to");
                return;
        }
        if (faccessat(AT_FDCWD, doctor->ctl->socket_path, W_OK, AT_EACCESS) < 0) {
                doctor->has_socket = false;
                daemon_tell_forbidden(doctor, &status);
                return;
        }
        membership_user_name(geteuid(), user);
        if (doctor->is_service && status.st_mode & S_IWOTH) {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "user %s may connect, and so may everybody: the mode of %s is %04o, and should be 0660",
                            user, doctor->ctl->socket_path, (unsigned) (status.st_mode & 07777));
                doctor_repair(doctor, "%schmod 0660 %s", doctor_root(), doctor_quote(doctor->ctl->socket_path, quoted));
        } else {
                doctor_tell(doctor, DOCTOR_OK, "user %s may connect", user);
        }
}

/* --- Who answers ------------------------------------------------------------------------------------------------- */

static void daemon_tell_no_answer(struct doctor *doctor, int error, const char *text) {
        const char *user = doctor->is_user_service ? " --user" : "",
                   *root = doctor->is_user_service ? "" : doctor_root();

        doctor_tell(doctor, DOCTOR_PROBLEM, "%s", text);
        if (error == -EINVAL && getenv("OVERLAPD_LEVEL"))
                doctor_repair(doctor, "unset OVERLAPD_LEVEL");
        else if (doctor->memfd_status < 0 && error == doctor->memfd_status)
                doctor_repair(doctor, "export OVERLAPD_LEVEL=inline");
        else if (error == -EPROTONOSUPPORT)
                doctor_repair(doctor,
                              "%sapt install --only-upgrade overlapd liboverlap0 && %ssystemctl restart overlapd",
                              doctor_root(), doctor_root());
        else if (error == -EBUSY)
                doctor_repair(doctor, "overlapctl list sessions");
        else if (error == -ECONNREFUSED && (doctor->is_masked || !doctor->has_unit))
                daemon_repair_start(doctor);
        else if (error == -ECONNREFUSED)
                doctor_repair(doctor, "%ssystemctl%s restart overlapd.socket overlapd.service", root, user);
        else if (doctor->is_service || doctor->is_user_service)
                doctor_repair(doctor, "%sjournalctl%s -xeu overlapd.service", root, user);
        else
                doctor_repair(doctor,
                              "overlapctl log --any -n 50    (or where who started it sees its standard error)");
}

/* The monitor is the parent of its workers. */
static pid_t daemon_find_monitor(pid_t worker) {
        char value[64];

        if (worker <= 0 || doctor_read_status(worker, "PPid", value, sizeof(value)) < 0)
                return 0;
        return (pid_t) atoi(value);
}

static void daemon_learn(struct doctor *doctor, struct ovl_session *session, struct ovl_thread *thread) {
        struct ovl_status status;

        ovl_session_info(session, &doctor->info);
        snprintf(doctor->engine, sizeof(doctor->engine), "%s", doctor->info.engine);
        snprintf(doctor->engine_reason, sizeof(doctor->engine_reason), "%s", doctor->info.engine_reason);
        doctor->info.engine = doctor->engine;
        doctor->info.engine_reason = doctor->engine_reason;
        doctor->has_session = true;
        if (ovl_status(thread, &status) >= 0)
                doctor->worker_pid = (pid_t) status.worker_pid;
        doctor->monitor_pid = daemon_find_monitor(doctor->worker_pid);
}

static void daemon_check_answer(struct doctor *doctor) {
        struct ovl_session_options options = { .path = doctor->ctl->socket_path, .name = "overlapctl" };
        struct ovl_session *session = NULL;
        struct ovl_thread *thread = NULL;
        struct ovl_error error = { 0 };
        int r;

        if (!doctor->has_socket || doctor->unix_status < 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "it cannot be reached");
                return;
        }
        if (doctor->memfd_status == DOCTOR_KILLED)
                options.level = "inline"; /* as the finding about it advises: other levels would end us */
        r = ovl_session_open(&options, &session, &error);
        if (r >= 0)
                r = ovl_thread_open(session, &thread, &error);
        if (r < 0) {
                daemon_tell_no_answer(doctor, r, error.text);
        } else {
                daemon_learn(doctor, session, thread);
                doctor_tell(doctor, DOCTOR_OK,
                            "it answers, and grants the level %s, %u operations in flight and %u sockets; "
                            "worker %d",
                            output_level(doctor->info.level), doctor->info.credits, doctor->info.sockets,
                            (int) doctor->worker_pid);
        }
        ovl_thread_close(thread);
        ovl_session_free(session);
}

static void daemon_check_engine(struct doctor *doctor) {
        bool is_wish = strcmp(doctor->engine_reason, "it was asked for") == 0;

        if (!doctor->has_session) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "only the daemon knows on which engine it runs");
        } else if (strcmp(doctor->engine, "uring") == 0 || is_wish) {
                doctor_tell(doctor, DOCTOR_OK, "the daemon runs on %s: %s", doctor->engine, doctor->engine_reason);
        } else {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "the daemon runs on %s, which does the same and costs more, because: %s; the repair of "
                            "io_uring "
                            "below counts for its next start",
                            doctor->engine, doctor->engine_reason);
                if (doctor->is_service && doctor->has_unit)
                        doctor_repair(doctor, "%ssystemctl restart overlapd.service", doctor_root());
        }
}

/* --- Its limits -------------------------------------------------------------------------------------------------- */

/* The soft limit of a process. Returns 0 or -errno. */
static int daemon_read_limit(pid_t pid, const char *name, uint64_t *ret_limit) {
        char path[64], line[256];
        int r = -ENODATA;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/limits", (int) pid);
        file = fopen(path, "re");
        if (!file)
                return -errno;
        while (r < 0 && fgets(line, sizeof(line), file)) {
                const char *value;

                if (strncmp(line, name, strlen(name)) != 0)
                        continue;
                value = line + strlen(name) + strspn(line + strlen(name), " ");
                *ret_limit = strncmp(value, "unlimited", 9) == 0 ? UINT64_MAX : strtoull(value, NULL, 10);
                r = 0;
        }
        fclose(file);
        return r;
}

static const char *daemon_limit_text(uint64_t limit, char to[32]) {
        if (limit == UINT64_MAX)
                snprintf(to, 32, "unlimited");
        else
                snprintf(to, 32, "%llu", (unsigned long long) limit);
        return to;
}

static void daemon_repair_nofile(struct doctor *doctor) {
        if (doctor->is_service)
                doctor_repair(
                        doctor,
                        "printf '[Service]\\nLimitNOFILE=1048576\\n' | %sinstall -D -m 644 /dev/stdin " DAEMON_DROP_IN
                        " && %ssystemctl daemon-reload && %ssystemctl restart overlapd.service",
                        doctor_root(), doctor_root(), doctor_root());
        else
                doctor_repair(doctor, "ulimit -n %u    (in the shell that starts overlapd)", DAEMON_NOFILE_MIN);
}

static void daemon_check_limits(struct doctor *doctor) {
        char nofile_text[32], unit_text[32], memlock_text[32] = "not known";
        uint64_t nofile = 0, memlock;
        pid_t pid = doctor->worker_pid;
        bool is_read;

        is_read = pid > 0 && daemon_read_limit(pid, "Max open files", &nofile) >= 0;
        if (is_read && daemon_read_limit(pid, "Max locked memory", &memlock) >= 0)
                daemon_limit_text(memlock, memlock_text);
        if (!is_read)
                nofile = doctor->unit_nofile;
        if (nofile == 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "the limits of the daemon cannot be seen from here");
        } else if (nofile < DAEMON_NOFILE_MIN && doctor->unit_nofile >= DAEMON_NOFILE_MIN) {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "the daemon may open %s descriptors, though its unit asks for %s: what runs this machine "
                            "allows "
                            "no more, as a container may; at least %u are advised",
                            daemon_limit_text(nofile, nofile_text), daemon_limit_text(doctor->unit_nofile, unit_text),
                            DAEMON_NOFILE_MIN);
                doctor_repair(doctor, "systemd-nspawn --rlimit=RLIMIT_NOFILE=1048576 ...    (or, of Docker and Podman: "
                                      "--ulimit nofile=1048576)");
        } else if (nofile < DAEMON_NOFILE_MIN) {
                doctor_tell(
                        doctor, DOCTOR_WARNING,
                        "the daemon may open %s descriptors, and needs one for each socket, channel and region of all "
                        "its clients: at least %u are advised",
                        daemon_limit_text(nofile, nofile_text), DAEMON_NOFILE_MIN);
                daemon_repair_nofile(doctor);
        } else {
                doctor_tell(doctor, DOCTOR_OK, "the daemon may open %s descriptors%s%s",
                            daemon_limit_text(nofile, nofile_text),
                            is_read ? "; bytes of locked memory: " : " (LimitNOFILE= of its unit)",
                            is_read ? memlock_text : "");
        }
}

const struct doctor_check doctor_daemon_checks[] = {
        { "socket", daemon_check_socket }, { "permission", daemon_check_permission }, { "daemon", daemon_check_answer },
        { "engine", daemon_check_engine }, { "limits", daemon_check_limits },         { 0 },
};
