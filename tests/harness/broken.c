/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Cases that must fail, each in another way. tests/check/harness.py runs them and fails when one passes: a harness that
 * overlooks something makes every other test worthless, and nothing else would show it.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/harness.h"

static void broken_assertion(void **state) {
        assert_int_equal(1, 2);
}

static void broken_crash(void **state) {
        raise(SIGSEGV);
}

static void broken_exit(void **state) {
        _exit(3);
}

static void broken_hang(void **state) {
        for (;;)
                pause();
}

static void broken_open(void **state) {
        assert_true(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static void broken_close(void **state) {
        close(STDIN_FILENO);
}

static void broken_child(void **state) {
        if (fork() == 0)
                for (;;)
                        pause();
}

/* The child that is left is a grandchild in a session of its own, whose parent is gone. */
static void broken_orphan(void **state) {
        pid_t pid = fork();

        if (pid == 0) {
                setsid();
                if (fork() == 0)
                        for (;;)
                                pause();
                _exit(0);
        }
        while (kill(pid, 0) == 0)
                if (waitpid(pid, NULL, 0) == pid)
                        break;
}

static void broken_leak(void **state) {
        static void *volatile place;

        place = malloc(1000);
        assert_non_null(place);
        place = NULL;
}

static void broken_not_at_all(void **state) {
}

static void broken_skip(void **state) {
        harness_skip("there is a reason");
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "assertion", broken_assertion },   { "crash", broken_crash },   { "exit", broken_exit },
                { "hang", broken_hang, 1 },          { "open", broken_open },     { "close", broken_close },
                { "child", broken_child },           { "orphan", broken_orphan }, { "leak", broken_leak },
                { "not-at-all", broken_not_at_all }, { "skip", broken_skip },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
