/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl log: what the daemon wrote into the journal, a line an entry.
 *
 * Which entries are the daemon's is decided by fields that journald sets itself (_SYSTEMD_UNIT and its like), for
 * anybody may write an entry that says of itself that it is overlapd's. Only --any believes that.
 *
 * An administrator who may not read the journal sees an empty one: libsystemd leaves out the files that it cannot open
 * and says nothing. So the files are looked at here, and who finds some that cannot be read is told who may.
 *
 * Rejected: running journalctl, whose output is either for people, without what the daemon's fields say, or for
 * programs.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/ctl/ctl.h"
#include "client/ctl/log-line.h"
#include "client/ctl/log-options.h"
#include "client/ctl/membership.h"

#define LOG_UNIT "overlapd.service"

DEFINE_CLEANUP(sd_journal *, sd_journal_close)

/* --- Whether it can be read -------------------------------------------------------------------------------------- */

/* Counts journal files whose names begin so, in a folder; those that can be read are counted in both. */
static void log_count_files(const char *folder, const char *prefix, unsigned *n_files, unsigned *n_readable) {
        DIR *stream = opendir(folder);
        struct dirent *entry;

        while (stream && (entry = readdir(stream))) {
                const char *suffix = strstr(entry->d_name, ".journal");

                if (!suffix || strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
                        continue;
                ++*n_files;
                *n_readable += faccessat(dirfd(stream), entry->d_name, R_OK, AT_EACCESS) == 0;
        }
        if (stream)
                closedir(stream);
}

static int log_complain_unreadable(void) {
        const struct group *group = getgrnam("systemd-journal");
        char user[MEMBERSHIP_NAME_SIZE];

        membership_user_name(geteuid(), user);
        if (group && membership_of(group->gr_gid) == MEMBERSHIP_LATER)
                ctl_complain(
                        "user %s may read the journal, but this login is older than that: log in again, or start a "
                        "shell by 'newgrp systemd-journal'",
                        user);
        else
                ctl_complain(
                        "user %s may not read the system's journal: 'usermod -aG systemd-journal %s' as root, and log "
                        "in again; or run this as root",
                        user, user);
        return CTL_LOST;
}

/* Returns 0 when there is something to read, or the exit status after the complaint. */
static int log_check_system(const struct log_options *log) {
        static const char *const places[] = { "/var/log/journal", "/run/log/journal" };
        unsigned n_files = 0, n_readable = 0;
        char folder[128], machine[SD_ID128_STRING_MAX];
        sd_id128_t id;

        if (sd_id128_get_machine(&id) < 0)
                return 0;
        sd_id128_to_string(id, machine);
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
                snprintf(folder, sizeof(folder), "%s/%s", places[i], machine);
                log_count_files(folder, log->is_own ? "" : "system", &n_files, &n_readable);
        }
        if (n_readable > 0)
                return 0;
        if (n_files > 0)
                return log_complain_unreadable();
        ctl_complain(
                "there is no journal on this machine: a daemon that was started by hand writes to its standard error, "
                "and 'overlapctl log -D DIR' reads files of another machine");
        return CTL_LOST;
}

static int log_check_directory(const char *directory) {
        unsigned n_files = 0, n_readable = 0;

        log_count_files(directory, "", &n_files, &n_readable);
        if (n_files == 0 || n_readable > 0)
                return 0; /* the files may also be one folder below */
        ctl_complain("-D %s: none of its %u files of a journal can be read by this user: run this as root", directory,
                     n_files);
        return CTL_LOST;
}

static int log_check_files(const struct log_options *log) {
        for (size_t i = 0; i < log->n_files; i++)
                if (access(log->files[i], R_OK) < 0) {
                        ctl_complain("--file %s: %s", log->files[i], strerror(errno));
                        return CTL_LOST;
                }
        return 0;
}

/* Returns 0, or the exit status after the complaint. */
static int log_open(const struct log_options *log, sd_journal **ret_journal) {
        int r;

        if (log->directory)
                r = log_check_directory(log->directory);
        else if (log->n_files > 0)
                r = log_check_files(log);
        else
                r = log_check_system(log);
        if (r != 0)
                return r;
        if (log->directory)
                r = sd_journal_open_directory(ret_journal, log->directory, 0);
        else if (log->n_files > 0)
                r = sd_journal_open_files(ret_journal, (const char **) log->files, 0);
        else
                r = sd_journal_open(ret_journal, SD_JOURNAL_LOCAL_ONLY);
        if (r < 0) {
                ctl_complain("%s cannot be read as a journal: %s",
                             log->directory      ? log->directory
                             : log->n_files == 1 ? log->files[0]
                             : log->n_files > 1  ? "one of the files"
                                                 : "the system's journal",
                             strerrordesc_np(-r));
                return CTL_LOST;
        }
        return 0;
}

/* --- Which entries ----------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static int log_match(sd_journal *journal, const char *format, ...) {
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        return sd_journal_add_match(journal, text, 0);
}

/* Matches of one field are alternatives, those of several all hold. Returns 0 or -errno. */
static int log_choose(const struct log_options *log, sd_journal *journal) {
        bool is_about_clients = log->unit[0] || log->has_uid || log->session[0] || log->is_refused;
        int r;

        if (log->is_any)
                r = log_match(journal, "SYSLOG_IDENTIFIER=overlapd");
        else if (log->is_own)
                r = log_match(journal, "_SYSTEMD_USER_UNIT=" LOG_UNIT);
        else
                r = log_match(journal, "_SYSTEMD_UNIT=" LOG_UNIT);
        if (r >= 0 && log->is_own)
                r = log_match(journal, "_UID=%u", (unsigned) getuid());
        if (r >= 0 && log->unit[0])
                r = log_match(journal, "CLIENT_UNIT=%s", log->unit);
        if (r >= 0 && log->has_uid)
                r = log_match(journal, "CLIENT_UID=%u", (unsigned) log->uid);
        if (r >= 0 && log->session[0])
                r = log_match(journal, "SESSION=%s", log->session);
        for (size_t i = 0; r >= 0 && log->is_refused && log_line_refusals[i]; i++)
                r = log_match(journal, "MESSAGE_ID=%s", log_line_refusals[i]);
        if (r < 0 || is_about_clients || log->is_any || log->is_own)
                return r;
        /* What the service manager says of the service belongs to its story. */
        r = sd_journal_add_disjunction(journal);
        if (r >= 0)
                r = log_match(journal, "UNIT=" LOG_UNIT);
        return r < 0 ? r : log_match(journal, "_PID=1");
}

/* Goes before the first entry that is to be shown, so that the next one is it. Returns 0 or -errno. */
static int log_seek(const struct log_options *log, sd_journal *journal) {
        int r;

        if (log->n_lines == LOG_ALL && log->since_us > 0)
                return sd_journal_seek_realtime_usec(journal, log->since_us);
        if (log->n_lines == LOG_ALL)
                return sd_journal_seek_head(journal);
        if (log->until_us != UINT64_MAX)
                r = sd_journal_seek_realtime_usec(journal, log->until_us + 1);
        else
                r = sd_journal_seek_tail(journal);
        /* One more than are shown; where there are not so many, all are. */
        if (r >= 0)
                r = sd_journal_previous_skip(journal, log->n_lines + 1);
        if (r >= 0 && (uint64_t) r <= log->n_lines)
                return sd_journal_seek_head(journal);
        return r;
}

/* --- Showing them ------------------------------------------------------------------------------------------------ */

/* Shows what there is from here on. Returns how many lines were shown, or -errno. */
static int log_show(const struct ctl *ctl, const struct log_options *log, sd_journal *journal) {
        int r, n = 0;

        while ((r = sd_journal_next(journal)) > 0) {
                uint64_t us;

                r = sd_journal_get_realtime_usec(journal, &us);
                if (r >= 0 && us > log->until_us)
                        break;
                if (r >= 0 && us >= log->since_us && !ctl->is_quiet)
                        r = log_line_print(journal, ctl->is_json);
                if (r < 0 && r != -EBADMSG && r != -ENODATA)
                        return r;
                n += us >= log->since_us && n < INT_MAX;
        }
        if (fflush(stdout) == EOF)
                return -errno;
        return r < 0 ? r : n;
}

/* Waits until the journal has grown. Returns 0, or -errno: -EPIPE when nobody reads any more what is shown. */
static int log_wait(sd_journal *journal) {
        for (;;) {
                struct pollfd poll_fds[] = {
                        { .fd = sd_journal_get_fd(journal), .events = (short) sd_journal_get_events(journal) },
                        { .fd = STDOUT_FILENO },
                };
                uint64_t until_us, now_us;
                struct timespec now;
                int r, timeout_ms = -1;

                r = sd_journal_get_timeout(journal, &until_us);
                if (r >= 0 && until_us != UINT64_MAX) {
                        clock_gettime(CLOCK_MONOTONIC, &now);
                        now_us = (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
                        timeout_ms = until_us > now_us ? (int) ((until_us - now_us) / 1000) + 1 : 0;
                }
                if (poll(poll_fds, 2, timeout_ms) < 0 && errno != EINTR)
                        return -errno;
                if (poll_fds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
                        return -EPIPE;
                r = sd_journal_process(journal);
                if (r < 0)
                        return r;
                if (r != SD_JOURNAL_NOP)
                        return 0;
        }
}

static int log_follow(const struct ctl *ctl, const struct log_options *log, sd_journal *journal) {
        int r = 0;

        while (r >= 0) {
                r = log_wait(journal);
                if (r >= 0)
                        r = log_show(ctl, log, journal);
        }
        if (r == -EPIPE)
                return CTL_DONE;
        ctl_complain("the journal cannot be followed: %s", strerrordesc_np(-r));
        return CTL_FAILED;
}

int log_main(const struct ctl *ctl, int argc, char *argv[]) {
        struct log_options log = { .until_us = UINT64_MAX };
        _cleanup_(sd_journal_close) sd_journal *journal = NULL;
        int r;

        r = log_options_parse(&log, argc, argv);
        if (r == 0)
                r = log_open(&log, &journal);
        if (r != 0)
                return r;
        r = log_choose(&log, journal);
        if (r >= 0 && log.is_followed)
                r = sd_journal_get_fd(journal); /* from here on it is watched, so that nothing falls into a gap */
        if (r >= 0)
                r = log_seek(&log, journal);
        if (r >= 0)
                r = log_show(ctl, &log, journal);
        if (r < 0) {
                ctl_complain("the journal cannot be read: %s", strerrordesc_np(-r));
                return CTL_FAILED;
        }
        if (log.is_followed)
                return log_follow(ctl, &log, journal);
        if (r == 0 && !ctl->is_quiet)
                ctl_complain("nothing is found in the journal that fits");
        return r == 0 ? CTL_FAILED : CTL_DONE;
}
