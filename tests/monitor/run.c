/* SPDX-License-Identifier: Apache-2.0 */

/* See run.h. The program is killed with the case that started it. */

#include "tests/monitor/run.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"

#define RUN_ARGUMENTS_MAX 32
#define RUN_PATIENCE_S 20

static void run_path(char path[128]) {
        snprintf(path, 128, "%s/said.log", harness_directory());
}

pid_t run_start(const char *const *arguments) {
        const char *line[RUN_ARGUMENTS_MAX] = { getenv("OVL_TEST_OVERLAPD") };
        char path[128];
        pid_t pid;
        int fd;

        assert_non_null(line[0]);
        for (size_t n = 1; *arguments && n < RUN_ARGUMENTS_MAX - 1; n++)
                line[n] = *arguments++;
        run_path(path);
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid > 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Who runs the tests may ignore signals, as nohup does. */
        for (int number = 1; number < NSIG; number++)
                signal(number, SIG_DFL);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        if (getenv("LISTEN_FDS")) {
                char self[16];

                snprintf(self, sizeof(self), "%d", (int) getpid());
                setenv("LISTEN_PID", self, 1);
        } else {
                /* What the test was started with is not the program's. */
                close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
        }
        execv(line[0], (char **) line);
        _exit(125);
}

int run_wait(pid_t pid) {
        int status;

        if (process_wait_end(pid, harness_deadline(RUN_PATIENCE_S)) < 0)
                fail_msg("overlapd (process %d) did not end; it said: %s", (int) pid, run_said());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *run_said(void) {
        static char said[RUN_SAID_SIZE];
        char path[128];
        ssize_t n = 0;

        run_path(path);
        {
                _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

                if (fd >= 0)
                        n = read(fd, said, sizeof(said) - 1);
        }
        said[n > 0 ? n : 0] = '\0';
        return said;
}

static bool run_has_said(void *data) {
        return strstr(run_said(), data);
}

void run_wait_said(const char *text) {
        if (!harness_wait(run_has_said, (void *) text, harness_deadline(RUN_PATIENCE_S)))
                fail_msg("overlapd never said '%s' but: %s", text, run_said());
}

void run_expect(const char *const *arguments, int status, const char *said) {
        int ended = run_wait(run_start(arguments));

        if (ended != status || (said && !strstr(run_said(), said)))
                fail_msg("exit status %d (expected %d); expected to hear '%s'; heard: %s", ended, status,
                         said ? said : "", run_said());
}
