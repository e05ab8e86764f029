/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One process a case. The parent prints TAP and judges; the child runs the case under cmocka and then looks at what the
 * case left behind.
 *
 * Invariant: when a case is over nothing of it remains: no process (parent and child are both subreapers, so whoever
 * loses its parent becomes a child here, is seen, and is killed), no file, no descriptor.
 *
 * A case:  parent forks -> child runs the function -> child checks descriptors and children -> exits with its status
 *          parent sees the end, or the deadline and kills the group -> prints the result, and the output if it failed.
 *
 * Output goes to a memory file rather than to a pipe: a grandchild that outlives the case cannot keep it open, and
 * nobody needs to read while the case runs. A failed assertion aborts the process, and the signal handlers that cmocka
 * installs are undone: a crash then ends the process as a crash, and a sanitizer's report is not lost.
 *
 * Rejected: cmocka's own group runner over all cases: one crash would hide the rest, and its cases share descriptors,
 * children and address space.
 */

#include "tests/harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/process.h"

#define HARNESS_LIMIT_S 30u
#define HARNESS_SKIP 77
#define HARNESS_OTHER_USER 65534 /* nobody, and nogroup */
#define HARNESS_OUTPUT_MAX (256 * 1024)
#define HARNESS_LOOK_MS 2
#define HARNESS_N_SIGNALS 5u /* that cmocka catches */
#define HARNESS_DIRECTORY "OVL_TEST_DIRECTORY"

/* --- For cases -------------------------------------------------------------------------------------------------- */

void harness_skip(const char *reason) {
        fflush(NULL);
        dprintf(STDOUT_FILENO, "\n%s\n", reason);
        _exit(HARNESS_SKIP);
}

const char *harness_directory(void) {
        return getenv(HARNESS_DIRECTORY);
}

void harness_want_other_user(void) {
        if (geteuid() != 0)
                harness_skip("only root can become another user");
        assert_int_equal(chmod(harness_directory(), 0755), 0);
}

pid_t harness_fork_other_user(void) {
        pid_t pid;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid > 0)
                return pid;
        assert_int_equal(setgid(HARNESS_OTHER_USER), 0);
        assert_int_equal(setuid(HARNESS_OTHER_USER), 0);
        return 0;
}

void harness_expect_child(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

uint64_t harness_deadline(unsigned seconds) {
        const char *slowness = getenv("OVL_TEST_SLOWNESS");
        unsigned factor = slowness ? (unsigned) atoi(slowness) : 1;

        return now_ns() + seconds * (factor ? factor : 1) * NS_PER_S;
}

bool harness_wait(bool (*condition)(void *data), void *data, uint64_t deadline_ns) {
        while (!condition(data)) {
                if (now_ns() >= deadline_ns)
                        return false;
                poll(NULL, 0, HARNESS_LOOK_MS);
        }
        return true;
}

/* --- The child -------------------------------------------------------------------------------------------------- */

static bool harness_left_children(void) {
        pid_t pids[16];
        size_t n = process_children(getpid(), pids, HARNESS_N(pids));

        if (!n)
                return false;
        fprintf(stderr, "the case left %zu child processes:\n", n);
        for (size_t i = 0; i < n && i < HARNESS_N(pids); i++)
                process_print(pids[i]);
        return true;
}

static bool harness_left_fds(int n_before) {
        int n_after = process_count_fds(getpid());

        if (n_after == n_before)
                return false;
        fprintf(stderr, "the case began with %d descriptors and ended with %d:\n", n_before, n_after);
        process_print_fds(getpid());
        return true;
}

/* What crosses cmocka to the case: the signal handlers of before. */
struct harness_case {
        const struct harness_test *test;
        struct sigaction handlers[HARNESS_N_SIGNALS];
};

static const int harness_signals[HARNESS_N_SIGNALS] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };

static void harness_call(void **state) {
        struct harness_case *running = *state;

        for (size_t i = 0; i < HARNESS_N_SIGNALS; i++)
                sigaction(harness_signals[i], &running->handlers[i], NULL);
        running->test->function(state);
}

static void harness_run_child(const struct harness_test *test, int output_fd) __attribute__((noreturn));
static void harness_run_child(const struct harness_test *test, int output_fd) {
        struct harness_case running = { .test = test };
        const struct CMUnitTest unit = {
                .name = test->name,
                .test_func = harness_call,
                .initial_state = &running,
        };
        int null_fd, n_fds, status;

        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null_fd, STDIN_FILENO);
        dup2(output_fd, STDOUT_FILENO);
        dup2(output_fd, STDERR_FILENO);
        close(null_fd);
        close(output_fd);

        for (size_t i = 0; i < HARNESS_N_SIGNALS; i++)
                sigaction(harness_signals[i], NULL, &running.handlers[i]);
        n_fds = process_count_fds(getpid());
        status = _cmocka_run_group_tests(test->name, &unit, 1, NULL, NULL) == 0 ? 0 : 1;
        fflush(NULL);
        if (harness_left_fds(n_fds))
                status = 1;
        if (harness_left_children())
                status = 1;
        exit(status);
}

/* --- The parent ------------------------------------------------------------------------------------------------- */

static void harness_print_diagnostics(const char *text, size_t len) {
        while (len) {
                const char *newline = memchr(text, '\n', len);
                size_t line_len = newline ? (size_t) (newline - text) : len;

                printf("# %.*s\n", (int) line_len, text);
                line_len += newline != NULL;
                text += line_len;
                len -= line_len;
        }
}

/* Reads the last part of a file; the result is NUL-terminated and the caller's. */
static char *harness_read_tail(int fd, size_t *ret_len) {
        off_t size = lseek(fd, 0, SEEK_END), start;
        char *text;
        ssize_t n;

        start = size > HARNESS_OUTPUT_MAX ? size - HARNESS_OUTPUT_MAX : 0;
        text = malloc((size_t) (size - start) + 1);
        if (!text)
                abort();
        n = pread(fd, text, (size_t) (size - start), start);
        *ret_len = n > 0 ? (size_t) n : 0;
        text[*ret_len] = '\0';
        return text;
}

static int harness_print_log(const char *path, const struct stat *status, int type, struct FTW *walk) {
        size_t path_len = strlen(path), len;
        _cleanup_free_ char *text = NULL;
        _cleanup_fd_ int fd = -1;

        if (type != FTW_F || path_len < 4 || strcmp(path + path_len - 4, ".log") != 0)
                return 0;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        text = harness_read_tail(fd, &len);
        printf("# --- %s\n", path + walk->base);
        harness_print_diagnostics(text, len);
        return 0;
}

static int harness_remove(const char *path, const struct stat *status, int type, struct FTW *walk) {
        remove(path);
        return 0;
}

/* Kills whatever the case left: its group, and orphans that came to us from outside of its group. */
static bool harness_sweep(pid_t group) {
        bool found = false;
        pid_t pids[64];
        size_t n;

        kill(-group, SIGKILL);
        while ((n = process_children(getpid(), pids, HARNESS_N(pids)))) {
                for (size_t i = 0; i < n && i < HARNESS_N(pids); i++) {
                        found = true;
                        kill(pids[i], SIGKILL);
                        waitpid(pids[i], NULL, 0);
                }
        }
        return found;
}

/* Says in words why a case failed, or NULL when it passed or was skipped. */
static const char *harness_judge(int status, bool in_time, char text[128]) {
        if (!in_time)
                return "it passed its time limit and was killed";
        if (WIFSIGNALED(status)) {
                snprintf(text, 128, "it was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
                return text;
        }
        if (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == HARNESS_SKIP)
                return NULL;
        snprintf(text, 128, "it exited with status %d", WEXITSTATUS(status));
        return text;
}

/* The last line of the output of a skipped case is the reason. */
static const char *harness_skip_reason(char *output, size_t len) {
        char *newline;

        while (len && output[len - 1] == '\n')
                output[--len] = '\0';
        newline = strrchr(output, '\n');
        return newline ? newline + 1 : output;
}

static bool harness_report(size_t number, const char *name, int status, const char *failure, int output_fd,
                           const char *directory) {
        _cleanup_free_ char *output = NULL;
        size_t len;

        output = harness_read_tail(output_fd, &len);
        if (!failure && WEXITSTATUS(status) == HARNESS_SKIP) {
                printf("ok %zu - %s # SKIP %s\n", number, name, harness_skip_reason(output, len));
                return true;
        }
        printf("%s %zu - %s\n", failure ? "not ok" : "ok", number, name);
        if (failure) {
                printf("# %s: %s\n", name, failure);
                harness_print_diagnostics(output, len);
                nftw(directory, harness_print_log, 8, FTW_PHYS);
        }
        return !failure;
}

static pid_t harness_fork(const struct harness_test *test, int output_fd) {
        pid_t pid;

        fflush(NULL);
        pid = fork();
        if (pid < 0)
                abort();
        if (pid == 0)
                harness_run_child(test, output_fd);
        setpgid(pid, pid);
        return pid;
}

static bool harness_run(const struct harness_test *test, size_t number) {
        uint64_t deadline_ns = harness_deadline(test->limit_s ? test->limit_s : HARNESS_LIMIT_S);
        char directory[] = "/tmp/ovl-XXXXXX", text[128];
        _cleanup_fd_ int output_fd = -1;
        const char *failure;
        int status = 0;
        bool in_time, passed;
        pid_t pid;

        output_fd = memfd_create("output", MFD_CLOEXEC);
        if (output_fd < 0 || fcntl(output_fd, F_SETFL, O_APPEND) < 0 || !mkdtemp(directory))
                abort();
        setenv(HARNESS_DIRECTORY, directory, 1);
        pid = harness_fork(test, output_fd);
        in_time = process_wait_end(pid, deadline_ns) == 0;
        if (!in_time)
                kill(-pid, SIGKILL);
        waitpid(pid, &status, 0);
        failure = harness_judge(status, in_time, text);
        if (harness_sweep(pid) && !failure)
                failure = "processes that it started outlived it and were killed";
        passed = harness_report(number, test->name, status, failure, output_fd, directory);
        nftw(directory, harness_remove, 8, FTW_DEPTH | FTW_PHYS);
        fflush(stdout);
        return passed;
}

static bool harness_is_wanted(const char *name, int argc, char **argv) {
        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], name) == 0)
                        return true;
        return argc <= 1;
}

static bool harness_names_are_known(int argc, char **argv, const struct harness_test *tests, size_t n_tests) {
        for (int i = 1; i < argc; i++) {
                size_t at = 0;

                while (at < n_tests && strcmp(tests[at].name, argv[i]) != 0)
                        at++;
                if (at == n_tests) {
                        fprintf(stderr, "there is no case %s here: see %s --list\n", argv[i], argv[0]);
                        return false;
                }
        }
        return true;
}

int harness_main(int argc, char **argv, const struct harness_test *tests, size_t n_tests) {
        size_t n_wanted = 0, number = 0;
        bool passed = true;

        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
                for (size_t i = 0; i < n_tests; i++)
                        puts(tests[i].name);
                return 0;
        }
        if (!harness_names_are_known(argc, argv, tests, n_tests))
                return 2;
        for (size_t i = 0; i < n_tests; i++)
                n_wanted += harness_is_wanted(tests[i].name, argc, argv);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        printf("1..%zu\n", n_wanted);
        for (size_t i = 0; i < n_tests; i++)
                if (harness_is_wanted(tests[i].name, argc, argv) && !harness_run(&tests[i], ++number))
                        passed = false;
        return passed ? 0 : 1;
}
