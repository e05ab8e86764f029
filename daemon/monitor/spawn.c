/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Spawning: how the monitor gets its workers and its resolver, and a private instance its command.
 *
 * Invariant: a worker or resolver starts with exactly four descriptors (nothing, stderr twice, its link), no signal
 * blocked or ignored, in a session of its own (a Ctrl-C at the terminal is the monitor's to handle), and it cannot
 * outlive the monitor. The service manager's variables are not passed on: a worker that was taken over must not speak
 * for the unit.
 *
 * A worker is this executable again: fork and exec instead of fork alone, so that it inherits no memory of the monitor
 * (its address-space layout included) and its addresses say nothing about the monitor's.
 *
 * Between fork and exec only what is safe there is called: the monitor's other threads close descriptors, and have no
 * lock that is needed there. Rejected: posix_spawn, which cannot set the death signal.
 */

#include "daemon/monitor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"

#define SPAWN_FAILED 126
#define SPAWN_LINK_SIZE (1 << 20) /* bytes that may wait in each direction */

static void spawn_unblock_signals(void) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static void spawn_reset_signals(void) {
        for (int number = 1; number < NSIG; number++)
                signal(number, SIG_DFL);
        spawn_unblock_signals();
}

static void spawn_clean_environment(const char *killpoint) {
        static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC",  "WATCHDOG_PID",      "LISTEN_FDS",
                                             "LISTEN_PID",    "LISTEN_FDNAMES", "OVL_TEST_KILLPOINT" };

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                unsetenv(names[i]);
        if (killpoint)
                setenv("OVL_TEST_KILLPOINT", killpoint, 1);
}

/* A worker holds everybody's sockets: it may have as many descriptors as this process is allowed at most. */
static void spawn_raise_files(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
}

static int spawn_arrange_fds(int link_fd) {
        int null_fd;

        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0)
                return -errno;
        if (dup2(null_fd, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
                return -errno;
        if (link_fd == SPAWN_LINK_FD) {
                if (fcntl(link_fd, F_SETFD, 0) < 0)
                        return -errno;
        } else if (dup2(link_fd, SPAWN_LINK_FD) < 0) {
                return -errno;
        }
        return close_range(SPAWN_LINK_FD + 1, ~0u, 0) < 0 ? -errno : 0;
}

/* The child becomes this executable again, with its end of a socket and nothing else. */
static _Noreturn void spawn_become(char *const argv[], pid_t monitor, int link_fd, const char *killpoint) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* The monitor may have died before the line above. */
        if (getppid() != monitor)
                _exit(SPAWN_FAILED);
        spawn_reset_signals();
        setsid();
        spawn_clean_environment(killpoint);
        spawn_raise_files();
        if (spawn_arrange_fds(link_fd) < 0)
                _exit(SPAWN_FAILED);
        execv("/proc/self/exe", argv);
        _exit(SPAWN_FAILED);
}

/* Reports and requests come in bursts; what does not fit has to be queued by whoever sends. Best effort. */
static void spawn_widen_link(const int pair[2]) {
        int size = SPAWN_LINK_SIZE;

        for (int i = 0; i < 2; i++)
                if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* Starts this executable again; gives the monitor's end of a socket whose other end the child has. */
static int spawn_self(char *const argv[], const char *killpoint, pid_t *ret_pid, int *ret_fd) {
        _cleanup_fd_ int ours = -1, theirs = -1;
        pid_t monitor = getpid(), pid;
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        spawn_widen_link(pair);
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                spawn_become(argv, monitor, theirs, killpoint);
        *ret_pid = pid;
        *ret_fd = fd_take(&ours);
        return 0;
}

int spawn_worker(const struct spawn_worker *worker, pid_t *ret_pid, int *ret_link_fd) {
        char poll_us[16];
        char *argv[11] = { "overlapd", "--worker", "--engine", (char *) worker->engine, "--poll-us", poll_us };
        size_t n = 6;

        snprintf(poll_us, sizeof(poll_us), "%u", worker->poll_us);
        if (worker->plant) {
                argv[n++] = "--plant";
                argv[n++] = (char *) worker->plant;
        }
        if (worker->features) {
                argv[n++] = "--features";
                argv[n++] = (char *) worker->features;
        }
        return spawn_self(argv, worker->killpoint, ret_pid, ret_link_fd);
}

int spawn_resolver(pid_t *ret_pid, int *ret_fd) {
        static char *const argv[] = { "overlapd", "--resolver", NULL };

        return spawn_self(argv, NULL, ret_pid, ret_fd);
}

static _Noreturn void spawn_become_command(char *const argv[], const char *socket_path, const struct rlimit *n_files,
                                           int report_fd) {
        int r;

        signal(SIGPIPE, SIG_DFL);
        spawn_unblock_signals();
        setrlimit(RLIMIT_NOFILE, n_files);
        if (setenv("OVERLAPD_SOCKET", socket_path, 1) < 0 || unsetenv("LISTEN_FDS") < 0 || unsetenv("LISTEN_PID") < 0)
                r = errno;
        else {
                execvp(argv[0], argv);
                r = errno;
        }
        if (write(report_fd, &r, sizeof(r)) < 0)
                _exit(SPAWN_FAILED);
        _exit(SPAWN_FAILED);
}

/* The pipe closes with a successful exec and brings a number with a failed one. */
int spawn_command(char *const argv[], const char *socket_path, const struct rlimit *n_files, pid_t *ret_pid) {
        _cleanup_fd_ int read_fd = -1, write_fd = -1;
        int ends[2], failure;
        ssize_t n;
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        read_fd = ends[0];
        write_fd = ends[1];
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                spawn_become_command(argv, socket_path, n_files, write_fd);
        write_fd = fd_close(write_fd);
        do
                n = read(read_fd, &failure, sizeof(failure));
        while (n < 0 && errno == EINTR);
        if (n == (ssize_t) sizeof(failure)) {
                waitpid(pid, NULL, 0);
                return -failure;
        }
        *ret_pid = pid;
        return 0;
}
