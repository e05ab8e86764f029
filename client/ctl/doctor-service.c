/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the service manager says of overlapd's units. It is asked by systemctl(1), which finds the manager in every case
 * that there is (root without a message bus, a user's own manager), and which an administrator would ask next.
 *
 * Which manager is asked follows from the path of the socket: the units of the system and of a user each have a path of
 * their own; a daemon that somebody started by hand has no unit, and nothing is asked.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/ctl/doctor.h"

#define SERVICE_SOCKET "/run/overlapd/overlapd.sock"
#define SERVICE_SOCKET_OF_USER "overlapd/overlapd.sock" /* below $XDG_RUNTIME_DIR */
#define SERVICE_PATIENCE_NS (5 * NS_PER_S)
#define SERVICE_ANSWER_SIZE 4096
#define SERVICE_PROPERTIES                                                                                             \
        "--property=LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,NeedDaemonReload,LimitNOFILE"

extern char **environ;

/* One unit, as systemctl shows it. */
struct service_unit {
        const char *name;
        char answer[SERVICE_ANSWER_SIZE]; /* NAME=VALUE lines */
};

/* Reads to the end of a pipe, but not beyond a time. Returns 0 or -errno. */
static int service_read(int fd, char *ret_bytes, size_t size) {
        uint64_t deadline_ns = now_ns() + SERVICE_PATIENCE_NS;
        size_t len = 0;

        while (len + 1 < size) {
                struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
                uint64_t now = now_ns();
                ssize_t n;

                if (now >= deadline_ns)
                        return -ETIMEDOUT;
                if (poll(&poll_fd, 1, (int) ((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
                        continue;
                n = read(fd, ret_bytes + len, size - 1 - len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                len += (size_t) n;
        }
        ret_bytes[len] = '\0';
        return 0;
}

/* Starts a program with its standard output in a pipe. Returns 0 or -errno. */
static int service_spawn(const char *const *arguments, int output_fd, pid_t *ret_pid) {
        posix_spawn_file_actions_t actions;
        int r;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawnp(ret_pid, arguments[0], &actions, NULL, (char **) arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* Returns 0, -EIO when systemctl fails, or another -errno. */
static int service_ask(bool is_user, struct service_unit *unit) {
        const char *arguments[] = {
                "systemctl", is_user ? "--user" : "--system", "show", "--no-pager", SERVICE_PROPERTIES, unit->name, NULL
        };
        _cleanup_fd_ int reading_fd = -1, writing_fd = -1;
        int fds[2], status = 0, r;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        reading_fd = fds[0];
        writing_fd = fds[1];
        r = service_spawn(arguments, writing_fd, &pid);
        if (r < 0)
                return r;
        writing_fd = fd_close(writing_fd);
        r = service_read(reading_fd, unit->answer, sizeof(unit->answer));
        if (r < 0)
                kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r < 0)
                return r;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* The value of a property: "" where it is not there. */
static const char *service_value(const struct service_unit *unit, const char *name, char *to, size_t size) {
        size_t len = strlen(name);

        to[0] = '\0';
        for (const char *line = unit->answer; *line; line += strcspn(line, "\n"), line += *line == '\n')
                if (strncmp(line, name, len) == 0 && line[len] == '=')
                        snprintf(to, size, "%.*s", (int) strcspn(line + len + 1, "\n"), line + len + 1);
        return to;
}

static bool service_is(const struct service_unit *unit, const char *name, const char *value) {
        char found[256];

        return strcmp(service_value(unit, name, found, sizeof(found)), value) == 0;
}

/* --- What is told of them ---------------------------------------------------------------------------------------- */

/* What a systemctl command begins with. */
static const char *service_command(const struct doctor *doctor) {
        if (doctor->is_user_service)
                return "systemctl --user";
        return geteuid() == 0 ? "systemctl" : "sudo systemctl";
}

static void service_tell_socket(struct doctor *doctor, const struct service_unit *unit) {
        char active[256], file[256], result[256];

        service_value(unit, "ActiveState", active, sizeof(active));
        service_value(unit, "UnitFileState", file, sizeof(file));
        if (strcmp(active, "active") != 0) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "%s is %s (result: %s): nobody can connect", unit->name, active,
                            service_value(unit, "Result", result, sizeof(result)));
                doctor_repair(doctor, "%s enable --now %s", service_command(doctor), unit->name);
        } else if (strcmp(file, "enabled") != 0) {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "%s is active, but %s: after the next boot nobody can connect until it is started",
                            unit->name, file[0] ? file : "not installed");
                doctor_repair(doctor, "%s enable %s", service_command(doctor), unit->name);
        } else {
                doctor_tell(doctor, DOCTOR_OK, "%s is active and enabled", unit->name);
        }
}

static void service_tell_service(struct doctor *doctor, const struct service_unit *unit) {
        const char *journal = doctor->is_user_service ? "journalctl --user -xeu" : "journalctl -xeu";
        char active[256], result[256], restarts[256];

        service_value(unit, "ActiveState", active, sizeof(active));
        service_value(unit, "Result", result, sizeof(result));
        service_value(unit, "NRestarts", restarts, sizeof(restarts));
        if (strcmp(active, "failed") == 0) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "%s has failed (result: %s): %s%s %s says why", unit->name, result,
                            doctor->is_user_service ? "" : doctor_root(), journal, unit->name);
                doctor_repair(doctor, "%s reset-failed %s && %s restart %s", service_command(doctor), unit->name,
                              service_command(doctor), unit->name);
        } else if (strcmp(active, "active") == 0 && restarts[0] && strcmp(restarts, "0") != 0) {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "%s is active, but was restarted %s times after it had ended by "
                            "itself: its journal says why",
                            unit->name, restarts);
                doctor_repair(doctor, "%s%s %s", doctor->is_user_service ? "" : doctor_root(), journal, unit->name);
        } else if (strcmp(active, "active") == 0 || strcmp(active, "reloading") == 0) {
                doctor_tell(doctor, DOCTOR_OK, "%s is %s", unit->name, active);
        } else {
                doctor_tell(doctor, DOCTOR_OK, "%s is %s: the first client starts it", unit->name, active);
        }
}

static void service_tell_reload(struct doctor *doctor, const struct service_unit *unit) {
        if (!service_is(unit, "NeedDaemonReload", "yes"))
                return;
        doctor_tell(doctor, DOCTOR_WARNING, "the files of %s have changed since systemd read them", unit->name);
        doctor_repair(doctor, "%s daemon-reload && %s restart %s", service_command(doctor), service_command(doctor),
                      unit->name);
}

static void service_tell_unknown(struct doctor *doctor, const struct service_unit *unit, int error) {
        if (error == -ENOENT)
                doctor_tell(doctor, DOCTOR_SKIPPED, "there is no systemctl to ask about %s", unit->name);
        else if (error == -ETIMEDOUT)
                doctor_tell(doctor, DOCTOR_WARNING, "systemctl did not say within 5 s how %s does", unit->name);
        else
                doctor_tell(doctor, DOCTOR_SKIPPED, "systemctl cannot tell how %s does (%s)", unit->name,
                            error == -EIO ? "it failed" : strerrordesc_np(-error));
}

/* Returns whether there is such a unit, and it was asked. */
static bool service_look(struct doctor *doctor, struct service_unit *unit) {
        char load[256];
        int r;

        r = service_ask(doctor->is_user_service, unit);
        if (r < 0) {
                service_tell_unknown(doctor, unit, r);
                return false;
        }
        service_value(unit, "LoadState", load, sizeof(load));
        if (strcmp(load, "loaded") == 0)
                return true;
        if (strcmp(load, "masked") == 0) {
                doctor->is_masked = doctor->is_masked || strcmp(unit->name, "overlapd.socket") == 0;
                doctor_tell(doctor, DOCTOR_PROBLEM, "%s is masked: somebody has forbidden to start it", unit->name);
                doctor_repair(doctor, "%s unmask %s", service_command(doctor), unit->name);
        } else if (strcmp(load, "not-found") == 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "there is no unit %s: overlapd is not installed as a service",
                            unit->name);
        } else {
                doctor_tell(doctor, DOCTOR_PROBLEM, "%s cannot be loaded (%s)", unit->name, load);
                doctor_repair(doctor, "systemd-analyze verify %s", unit->name);
        }
        return false;
}

static bool service_is_of_user(const char *path) {
        const char *folder = getenv("XDG_RUNTIME_DIR");
        char own[256];

        if (!folder)
                return false;
        snprintf(own, sizeof(own), "%s/%s", folder, SERVICE_SOCKET_OF_USER);
        return strcmp(own, path) == 0;
}

static void service_check(struct doctor *doctor) {
        struct service_unit socket = { .name = "overlapd.socket" }, service = { .name = "overlapd.service" };
        char limit[64];

        doctor->is_service = strcmp(doctor->ctl->socket_path, SERVICE_SOCKET) == 0;
        doctor->is_user_service = service_is_of_user(doctor->ctl->socket_path);
        if (!doctor->is_service && !doctor->is_user_service) {
                doctor_tell(doctor, DOCTOR_SKIPPED,
                            "%s is the socket of no service: whoever started overlapd knows "
                            "how it does",
                            doctor->ctl->socket_path);
                return;
        }
        if (sd_booted() <= 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "systemd does not run this machine");
                return;
        }
        if (service_look(doctor, &socket)) {
                doctor->has_unit = true;
                service_tell_socket(doctor, &socket);
                service_tell_reload(doctor, &socket);
        }
        if (!service_look(doctor, &service))
                return;
        doctor->has_unit = true;
        service_tell_service(doctor, &service);
        service_tell_reload(doctor, &service);
        service_value(&service, "LimitNOFILE", limit, sizeof(limit));
        doctor->unit_nofile = strcmp(limit, "infinity") == 0 ? UINT64_MAX : strtoull(limit, NULL, 10);
}

const struct doctor_check doctor_service_checks[] = {
        { "service", service_check },
        { 0 },
};
