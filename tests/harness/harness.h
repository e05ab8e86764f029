/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HARNESS_HARNESS_H
#define TESTS_HARNESS_HARNESS_H

/*
 * The frame of every test program: cases in processes of their own, with a time limit, checked for what they leave
 * behind, reported as TAP. Inside a case: cmocka's assertions.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

struct harness_test {
        const char *name;
        void (*function)(void **state); /* the argument is not used */
        unsigned limit_s;               /* seconds; 0: 30 */
};

#define HARNESS_N(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Runs the cases: all, or those that the command line names; `--list` only prints their names.
 *
 * A case fails when an assertion fails, when it dies, when it passes its time limit (its process group is killed; the
 * environment's OVL_TEST_SLOWNESS multiplies limits), when it ends with more or fewer descriptors than it began with,
 * when it leaves child processes (orphaned grandchildren become its children), or when a leak checker complains. The
 * output of a case that fails is printed, and the files *.log of its directory after it.
 *
 * Returns the exit status for main(): 0 when every case passed or was skipped.
 */
int harness_main(int argc, char **argv, const struct harness_test *tests, size_t n_tests);

/* Ends the running case as skipped. reason: one line. */
void harness_skip(const char *reason) __attribute__((noreturn));

/* The running case's own empty directory: its path is short, and it is removed with all that is in it. */
const char *harness_directory(void);

/* Skips the case where it cannot become another user, and lets other users into its directory. */
void harness_want_other_user(void);

/* Forks, and makes the child another user. Returns 0 in the child, which ends with _exit(0); in the case its id. */
pid_t harness_fork_other_user(void);

/* Waits for a child, and asserts that it ended with 0. */
void harness_expect_child(pid_t pid);

/* now_ns() plus so many seconds, multiplied by OVL_TEST_SLOWNESS. */
uint64_t harness_deadline(unsigned seconds);

/*
 * Waits until a condition holds: looks, and looks again every few milliseconds. For what no descriptor announces.
 *
 * Returns whether it held before the deadline.
 */
bool harness_wait(bool (*condition)(void *data), void *data, uint64_t deadline_ns);

/* Asserts that a call returned 0 or more; prints what it returned otherwise. */
#define assert_ok(call)                                                                                                \
        do {                                                                                                           \
                long long ok_ = (long long) (call);                                                                    \
                if (ok_ < 0)                                                                                           \
                        fail_msg("%s returned %lld (%s)", #call, ok_, strerror((int) -ok_));                           \
        } while (0)

#endif
