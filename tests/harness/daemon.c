/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fixture of the system tests: a daemon as an administrator would start it, with its socket and its log in the
 * directory of the case.
 *
 * Invariant: after daemon_stop() or daemon_kill() no process of that daemon exists and none is unreaped. The case is a
 * subreaper (see harness.c): when a monitor dies, its workers become children of the case and are awaited here.
 *
 * The daemon dies with the case (a parent death signal), and the harness prints the log when the case fails.
 */

#include "tests/harness/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"

#define DAEMON_ARGUMENTS_MAX 32
#define DAEMON_CHILDREN_MAX 64
#define DAEMON_PATIENCE_S 10
#define DAEMON_STEADY_LOOKS 25

/* --- Starting --------------------------------------------------------------------------------------------------- */

static void daemon_exec(const struct daemon *daemon, const char *program, const char *const *arguments)
        __attribute__((noreturn));
static void daemon_exec(const struct daemon *daemon, const char *program, const char *const *arguments) {
        const char *engine = getenv("OVL_TEST_ENGINE");
        const char *line[DAEMON_ARGUMENTS_MAX] = {
                program, "--socket", daemon->path, "--log", "stderr", "--engine", engine ? engine : "uring",
        };
        const char *features = getenv("OVL_TEST_FEATURES");
        size_t n = 7;
        int log_fd;

        if (features) {
                line[n++] = "--features";
                line[n++] = features;
        }
        while (arguments && *arguments && n < DAEMON_ARGUMENTS_MAX - 1)
                line[n++] = *arguments++;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        unsetenv("NOTIFY_SOCKET");
        unsetenv("LISTEN_FDS");
        unsetenv("LISTEN_PID");
        log_fd = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(log_fd, STDERR_FILENO);
        execv(program, (char **) line);
        fprintf(stderr, "cannot start %s: %s\n", program, strerror(errno));
        _exit(127);
}

static int daemon_try_connect(const struct daemon *daemon) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_fd_ int fd = -1;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon->path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        return fd_take(&fd);
}

/*
 * Whether the daemon serves, or has ended, which no wait would change. Not whether it accepts: it does that before its
 * workers are ready, and what they hold then is no measure of anything.
 */
static bool daemon_is_decided(void *data) {
        struct daemon *daemon = data;
        siginfo_t end = { 0 };

        if (daemon_log_has(daemon, " serves at "))
                return true;
        return waitid(P_PID, (id_t) daemon->monitor, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid != 0;
}

void daemon_start(struct daemon *ret_daemon, const char *const *arguments) {
        const char *program = getenv("OVL_TEST_OVERLAPD");
        static const char *const names[] = { "s", "t", "u", "v" }; /* one for each daemon of the case */
        struct daemon daemon = { 0 };
        struct stat status;
        size_t at = 0;

        if (!program)
                fail_msg("OVL_TEST_OVERLAPD does not name an overlapd: run this test through meson test");
        do {
                assert_true(at < HARNESS_N(names));
                snprintf(daemon.path, sizeof(daemon.path), "%s/%s", harness_directory(), names[at]);
                snprintf(daemon.log, sizeof(daemon.log), "%s/overlapd-%s.log", harness_directory(), names[at]);
                at++;
        } while (stat(daemon.log, &status) == 0);
        fflush(NULL);
        daemon.monitor = fork();
        assert_true(daemon.monitor >= 0);
        if (daemon.monitor == 0)
                daemon_exec(&daemon, program, arguments);
        if (!harness_wait(daemon_is_decided, &daemon, harness_deadline(DAEMON_PATIENCE_S)))
                fail_msg("overlapd did not serve at %s in time", daemon.path);
        if (waitpid(daemon.monitor, NULL, WNOHANG) != 0)
                fail_msg("overlapd ended before it served: see its log below");
        *ret_daemon = daemon;
}

int daemon_connect(const struct daemon *daemon) {
        int fd = daemon_try_connect(daemon);

        assert_ok(fd);
        return fd;
}

/* --- Stopping --------------------------------------------------------------------------------------------------- */

/* Waits for processes that lost their parent, which made them children of the case. */
static void daemon_reap(const pid_t *pids, size_t n) {
        uint64_t deadline_ns = harness_deadline(DAEMON_PATIENCE_S);

        for (size_t i = 0; i < n; i++) {
                if (process_wait_end(pids[i], deadline_ns) < 0)
                        fail_msg("worker %d outlived its monitor", pids[i]);
                waitpid(pids[i], NULL, 0);
        }
}

static bool daemon_is_among(pid_t pid, const pid_t *pids, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (pids[i] == pid)
                        return true;
        return false;
}

/*
 * A worker that is killed while its leaks are looked for leaves a child behind, the leak sanitizer's own: it ends, and
 * is reaped here like the workers.
 */
static void daemon_reap_others(const pid_t *before, size_t n_before) {
        pid_t pids[DAEMON_CHILDREN_MAX];
        size_t n = process_children(getpid(), pids, DAEMON_CHILDREN_MAX);

        for (size_t i = 0; i < n && i < DAEMON_CHILDREN_MAX; i++)
                if (!daemon_is_among(pids[i], before, n_before))
                        daemon_reap(&pids[i], 1);
}

/* The monitor says how a worker has ended where it was not in order; where it says everything, of each. */
static void daemon_check_end(const struct daemon *daemon, pid_t worker) {
        char ended[64], in_order[96];

        snprintf(ended, sizeof(ended), "worker %d ended: ", worker);
        snprintf(in_order, sizeof(in_order), "%sexit status 0", ended);
        if (daemon_log_has(daemon, ended) && !daemon_log_has(daemon, in_order))
                fail_msg("worker %d did not end in order", worker);
}

void daemon_stop(struct daemon *daemon) {
        pid_t workers[DAEMON_WORKERS_MAX];
        struct stat file;
        size_t n_workers;
        int status;

        n_workers = process_children(daemon->monitor, workers, DAEMON_WORKERS_MAX);
        assert_true(n_workers <= DAEMON_WORKERS_MAX);
        assert_int_equal(kill(daemon->monitor, SIGTERM), 0);
        if (process_wait_end(daemon->monitor, harness_deadline(DAEMON_PATIENCE_S)) < 0)
                fail_msg("overlapd (process %d) did not end after SIGTERM", daemon->monitor);
        assert_int_equal(waitpid(daemon->monitor, &status, 0), daemon->monitor);
        daemon->monitor = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                fail_msg("overlapd ended with wait status 0x%x after SIGTERM, not with exit status 0", status);
        for (size_t i = 0; i < n_workers; i++)
                if (process_wait_end(workers[i], 0) < 0)
                        fail_msg("worker %d outlived its monitor, which exited in order", workers[i]);
        daemon_reap(workers, n_workers);
        for (size_t i = 0; i < n_workers; i++)
                daemon_check_end(daemon, workers[i]);
        if (lstat(daemon->path, &file) == 0)
                fail_msg("overlapd left its socket %s behind", daemon->path);
}

void daemon_kill(struct daemon *daemon) {
        pid_t workers[DAEMON_WORKERS_MAX], before[DAEMON_CHILDREN_MAX];
        size_t n_workers, n_before;

        n_before = process_children(getpid(), before, DAEMON_CHILDREN_MAX);
        n_workers = process_children(daemon->monitor, workers, DAEMON_WORKERS_MAX);
        assert_true(n_workers <= DAEMON_WORKERS_MAX && n_before <= DAEMON_CHILDREN_MAX);
        assert_int_equal(kill(daemon->monitor, SIGKILL), 0);
        assert_int_equal(waitpid(daemon->monitor, NULL, 0), daemon->monitor);
        daemon->monitor = 0;
        daemon_reap(workers, n_workers);
        daemon_reap_others(before, n_before);
}

/* --- Looking ---------------------------------------------------------------------------------------------------- */

struct daemon_look {
        const struct daemon *daemon;
        pid_t pid;
        int n_fds;
        unsigned n_same;
        pid_t *pids;
        size_t n;
        const char *text;
};

static bool daemon_has_workers(void *data) {
        struct daemon_look *look = data;

        return process_children(look->daemon->monitor, look->pids, look->n) == look->n;
}

void daemon_workers(const struct daemon *daemon, pid_t *ret_pids, size_t n) {
        struct daemon_look look = { .daemon = daemon, .pids = ret_pids, .n = n };

        if (!harness_wait(daemon_has_workers, &look, harness_deadline(DAEMON_PATIENCE_S)))
                fail_msg("overlapd never had exactly %zu workers", n);
}

pid_t daemon_worker(const struct daemon *daemon) {
        pid_t pid;

        daemon_workers(daemon, &pid, 1);
        return pid;
}

static bool daemon_has_fds(void *data) {
        struct daemon_look *look = data;

        return process_count_fds(look->pid) == look->n_fds;
}

void daemon_wait_fds(pid_t pid, int n_fds) {
        struct daemon_look look = { .pid = pid, .n_fds = n_fds };

        if (harness_wait(daemon_has_fds, &look, harness_deadline(DAEMON_PATIENCE_S)))
                return;
        process_print_fds(pid);
        fail_msg("process %d has %d descriptors, not %d", pid, process_count_fds(pid), n_fds);
}

static bool daemon_is_steady(void *data) {
        struct daemon_look *look = data;
        int n_fds = process_count_fds(look->pid);

        look->n_same = n_fds == look->n_fds ? look->n_same + 1 : 0;
        look->n_fds = n_fds;
        return look->n_same >= DAEMON_STEADY_LOOKS;
}

int daemon_count_fds(pid_t pid) {
        struct daemon_look look = { .pid = pid, .n_fds = -1 };

        if (!harness_wait(daemon_is_steady, &look, harness_deadline(DAEMON_PATIENCE_S)))
                fail_msg("the number of descriptors of process %d keeps changing", pid);
        return look.n_fds;
}

bool daemon_log_has(const struct daemon *daemon, const char *text) {
        _cleanup_free_ char *log = NULL;
        _cleanup_fd_ int fd = -1;
        struct stat status;
        ssize_t n;

        fd = open(daemon->log, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status) < 0)
                return false;
        log = malloc((size_t) status.st_size + 1);
        if (!log)
                return false;
        n = read(fd, log, (size_t) status.st_size);
        log[n > 0 ? n : 0] = '\0';
        return strstr(log, text) != NULL;
}

static bool daemon_has_said(void *data) {
        struct daemon_look *look = data;

        return daemon_log_has(look->daemon, look->text);
}

void daemon_wait_log(const struct daemon *daemon, const char *text) {
        struct daemon_look look = { .daemon = daemon, .text = text };

        if (!harness_wait(daemon_has_said, &look, harness_deadline(DAEMON_PATIENCE_S)))
                fail_msg("overlapd never said: %s", text);
}
