/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The origin of a client. libsystemd reads it from /proc/PID/cgroup, which the service does not see: ProtectProc= hides
 * the processes of others, as it shall. The lists of processes in the control groups themselves are everybody's to
 * read, so the process is looked for there. That costs a file for each group, once for a connection.
 *
 * Invariant: the unit is named by the first directories of the path, which only the service manager makes. What a user
 * makes below a unit that was delegated to him, and how he calls it, changes nothing; how many groups he makes is
 * bounded for each unit, so that nobody else's connection waits for them: a client that hides in more is of no unit.
 *
 * Rejected: asking systemd over D-Bus, which would let each connection wait for two more processes; SO_PEERPIDFD with
 * PIDFD_GET_INFO, which tells the number of the group, alone, for it needs Linux 6.13.
 */

#include "daemon/monitor/origin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "base/cleanup.h"

#define ORIGIN_GROUPS_MAX 4096u     /* that are looked at for one process */
#define ORIGIN_UNIT_GROUPS_MAX 512u /* of these, within one unit */
#define ORIGIN_PATH_SIZE 1024

struct origin_search {
        pid_t pid;
        unsigned n_groups;
        char path[ORIGIN_PATH_SIZE]; /* below the root, of the group that is looked at */
};

static void origin_fclose(FILE *file) {
        if (file)
                fclose(file);
}
DEFINE_CLEANUP(FILE *, origin_fclose)

static void origin_closedir(DIR *directory) {
        if (directory)
                closedir(directory);
}
DEFINE_CLEANUP(DIR *, origin_closedir)

static bool origin_ends_with(const char *text, size_t len, const char *suffix) {
        size_t suffix_len = strlen(suffix);

        return len > suffix_len && memcmp(text + len - suffix_len, suffix, suffix_len) == 0;
}

static bool origin_is_slice(const char *name) {
        return origin_ends_with(name, strlen(name), ".slice");
}

/* Returns 1 when the group has the process, 0 when not or when it cannot be read: another one will not have it, too. */
static int origin_has_process(const struct origin_search *search, int group_fd) {
        _cleanup_(origin_fclose) FILE *file = NULL;
        int fd, pid;

        fd = openat(group_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return 0;
        file = fdopen(fd, "re");
        if (!file) {
                close(fd);
                return 0;
        }
        while (fscanf(file, "%d", &pid) == 1)
                if (pid == search->pid)
                        return 1;
        return 0;
}

static int origin_search(struct origin_search *search, int take_fd, unsigned *n_unit_groups);

static int origin_search_child(struct origin_search *search, int group_fd, const char *name, unsigned *n_unit_groups) {
        size_t len = strlen(search->path);
        unsigned n_own = 0;
        int fd, r;

        if (len + strlen(name) + 2 > sizeof(search->path))
                return -ENAMETOOLONG;
        fd = openat(group_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -ESRCH;
        search->path[len] = '/';
        strcpy(search->path + len + 1, name);
        /* What is no slice is a unit, and all below it belongs to it. */
        if (!n_unit_groups && !origin_is_slice(name))
                n_unit_groups = &n_own;
        r = origin_search(search, fd, n_unit_groups);
        if (r < 0)
                search->path[len] = '\0';
        return r;
}

/* n_unit_groups: those of the unit that this is within, or NULL. */
static int origin_search(struct origin_search *search, int take_fd, unsigned *n_unit_groups) {
        _cleanup_(origin_closedir) DIR *directory = NULL;
        struct dirent *entry;
        int result = -ESRCH;

        directory = fdopendir(take_fd);
        if (!directory) {
                close(take_fd);
                return -ENOMEM;
        }
        if (++search->n_groups > ORIGIN_GROUPS_MAX || (n_unit_groups && ++*n_unit_groups > ORIGIN_UNIT_GROUPS_MAX))
                return -EXFULL;
        if (origin_has_process(search, dirfd(directory)))
                return 0;
        while ((entry = readdir(directory))) {
                int r;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                r = origin_search_child(search, dirfd(directory), entry->d_name, n_unit_groups);
                if (r == 0)
                        return 0;
                if (r != -ESRCH)
                        result = r;
                /* The rest of a unit with too many groups, or of all of them, is not looked at either. */
                if (r == -EXFULL && (n_unit_groups || search->n_groups > ORIGIN_GROUPS_MAX))
                        return r;
        }
        return result;
}

int origin_find_cgroup(const char *root, pid_t pid, char **ret_cgroup) {
        static const char *const roots[] = { "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };
        struct origin_search search = { .pid = pid };
        char *cgroup;
        int fd = -1, r;

        if (root)
                fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]) && !root && fd < 0; i++)
                fd = open(roots[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = origin_search(&search, fd, NULL);
        if (r < 0)
                return r;
        cgroup = strdup(search.path[0] != '\0' ? search.path : "/");
        if (!cgroup)
                return -ENOMEM;
        *ret_cgroup = cgroup;
        return 0;
}

int origin_unit_of(const char *cgroup, char **ret_unit) {
        static const char *const suffixes[] = { ".service", ".scope", ".socket", ".mount", ".swap" };

        while (*cgroup == '/') {
                const char *name = cgroup + 1;
                size_t len = strcspn(name, "/");

                cgroup = name + len;
                if (origin_ends_with(name, len, ".slice"))
                        continue;
                /* systemd puts this before names that the kernel would take for its own. */
                if (name[0] == '_') {
                        name++;
                        len--;
                }
                for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
                        if (!origin_ends_with(name, len, suffixes[i]))
                                continue;
                        *ret_unit = strndup(name, len);
                        return *ret_unit ? 0 : -ENOMEM;
                }
                return -ENXIO;
        }
        return -ENXIO;
}

void origin_find(int fd, pid_t pid, char **ret_cgroup, char **ret_unit) {
        char *cgroup = NULL, *unit = NULL;

        if (sd_peer_get_cgroup(fd, &cgroup) < 0) {
                cgroup = NULL;
                /* Its process cannot be seen from here. */
                if (pid > 0 && origin_find_cgroup(NULL, pid, &cgroup) < 0)
                        cgroup = NULL;
        }
        if (!cgroup || origin_unit_of(cgroup, &unit) < 0)
                unit = NULL;
        *ret_cgroup = cgroup;
        *ret_unit = unit;
}
