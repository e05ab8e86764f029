/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Questions to /proc. Every answer is a snapshot: who needs a state waits for it with a deadline.
 *
 * Rejected: /proc/PID/task/TID/children, which is an option of the kernel's configuration; the parent is in every stat.
 */

#include "tests/harness/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"

static void process_close_directory(DIR **directory) {
        if (*directory)
                closedir(*directory);
}

#define _cleanup_directory_ cleanup(process_close_directory)

/* Reads /proc/PID/stat: the name stands in parentheses and may hold any character. */
static int process_stat(pid_t pid, char name[32], char *ret_state, pid_t *ret_parent) {
        char path[64], text[512];
        _cleanup_fd_ int fd = -1;
        char *open, *close;
        ssize_t n;
        int parent;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return -ESRCH;
        text[n] = '\0';
        open = strchr(text, '(');
        close = strrchr(text, ')');
        if (!open || !close || sscanf(close + 1, " %c %d", ret_state, &parent) != 2)
                return -EBADMSG;
        snprintf(name, 32, "%.*s", (int) (close - open - 1), open + 1);
        *ret_parent = parent;
        return 0;
}

size_t process_children(pid_t parent, pid_t *ret_pids, size_t max) {
        _cleanup_directory_ DIR *directory = opendir("/proc");
        struct dirent *entry;
        size_t n = 0;

        while (directory && (entry = readdir(directory))) {
                pid_t pid = atoi(entry->d_name), its_parent;
                char name[32], state;

                if (pid <= 0 || process_stat(pid, name, &state, &its_parent) < 0 || its_parent != parent)
                        continue;
                if (n < max)
                        ret_pids[n] = pid;
                n++;
        }
        return n;
}

static DIR *process_open_fds(pid_t pid) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        return opendir(path);
}

int process_count_fds(pid_t pid) {
        _cleanup_directory_ DIR *directory = process_open_fds(pid);
        struct dirent *entry;
        int n = 0;

        if (!directory)
                return -errno;
        while ((entry = readdir(directory)))
                if (entry->d_name[0] != '.')
                        n++;
        return pid == getpid() ? n - 1 : n;
}

void process_print_fds(pid_t pid) {
        _cleanup_directory_ DIR *directory = process_open_fds(pid);
        struct dirent *entry;

        while (directory && (entry = readdir(directory))) {
                char target[256];
                ssize_t n;

                if (entry->d_name[0] == '.')
                        continue;
                n = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
                if (n < 0)
                        continue;
                target[n] = '\0';
                if (pid != getpid() || atoi(entry->d_name) != dirfd(directory))
                        fprintf(stderr, "  descriptor %s of process %d: %s\n", entry->d_name, pid, target);
        }
}

/* Whether every thread of a process is stopped. */
static bool process_is_stopped(pid_t pid) {
        _cleanup_directory_ DIR *directory = NULL;
        struct dirent *entry;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        directory = opendir(path);
        while (directory && (entry = readdir(directory))) {
                char name[32], state = 'T';
                pid_t parent;

                if (atoi(entry->d_name) > 0 && process_stat(atoi(entry->d_name), name, &state, &parent) == 0 &&
                    state != 'T')
                        return false;
        }
        return directory != NULL;
}

int process_stop(pid_t pid, uint64_t deadline_ns) {
        if (kill(pid, SIGSTOP) < 0)
                return -errno;
        while (!process_is_stopped(pid)) {
                if (now_ns() >= deadline_ns)
                        return -ETIMEDOUT;
                poll(NULL, 0, 1);
        }
        return 0;
}

void process_print(pid_t pid) {
        char name[32], state;
        pid_t parent;

        if (process_stat(pid, name, &state, &parent) < 0)
                fprintf(stderr, "  process %d: gone\n", pid);
        else
                fprintf(stderr, "  process %d: %s, state %c, child of %d\n", pid, name, state, parent);
}

int process_wait_end(pid_t pid, uint64_t deadline_ns) {
        struct pollfd poll_fd = { .events = POLLIN };
        _cleanup_fd_ int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        int r;

        if (fd < 0)
                return 0;
        poll_fd.fd = fd;
        do {
                uint64_t now = now_ns();
                uint64_t left_ms = now < deadline_ns ? (deadline_ns - now) / NS_PER_MS + 1 : 0;

                r = poll(&poll_fd, 1, (int) left_ms);
        } while (r < 0 && errno == EINTR);
        return r > 0 ? 0 : -ETIMEDOUT;
}
