/* SPDX-License-Identifier: Apache-2.0 */

/* A process dies at the passage of the point that was named, at no other, and of SIGKILL. */

#include "base/killpoint.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/harness.h"

/* Runs a child that passes two points in turn, three times each. Returns how many passages it survived, or -1. */
static int killpoint_run(const char *wanted) {
        char passed;
        int n = 0, status, ends[2];
        pid_t pid;

        assert_int_equal(pipe(ends), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (wanted)
                        setenv("OVL_TEST_KILLPOINT", wanted, 1);
                for (int i = 0; i < 6; i++) {
                        if (i % 2)
                                KILLPOINT("second-point");
                        else
                                KILLPOINT("first-point");
                        if (write(ends[1], "x", 1) != 1)
                                _exit(1);
                }
                _exit(0);
        }
        close(ends[1]);
        while (read(ends[0], &passed, 1) == 1)
                n++;
        close(ends[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (n == 6)
                return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 6 : -1;
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? n : -1;
}

static void killpoint_kills_at_its_passage(void **state) {
        assert_int_equal(killpoint_run("first-point:1"), 0);
        assert_int_equal(killpoint_run("first-point:3"), 4);
        assert_int_equal(killpoint_run("second-point:1"), 1);
        assert_int_equal(killpoint_run("second-point:2"), 3);
        assert_int_equal(killpoint_run("second-point"), 1);
}

static void killpoint_spares_everybody_else(void **state) {
        assert_int_equal(killpoint_run(NULL), 6);
        assert_int_equal(killpoint_run("first-point:4"), 6);
        assert_int_equal(killpoint_run("first:1"), 6);
        assert_int_equal(killpoint_run("first-point-2:1"), 6);
        assert_int_equal(killpoint_run(":1"), 6);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "kills-at-its-passage", killpoint_kills_at_its_passage },
                { "spares-everybody-else", killpoint_spares_everybody_else },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
