/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_MONITOR_RUN_H
#define TESTS_MONITOR_RUN_H

/* Runs overlapd (OVL_TEST_OVERLAPD) as a person does: arguments in, exit status and what it said out. */

#include <stddef.h>
#include <sys/types.h>

#define RUN_SAID_SIZE 16384

/* Starts it; stdout and stderr go to the file `said.log` of the case's directory. arguments: ended by NULL. */
pid_t run_start(const char *const *arguments);

/* Waits for its end and returns the exit status, or 128 and the number of the signal. */
int run_wait(pid_t pid);

/* What it has said so far. Static storage. */
const char *run_said(void);

/* Waits until it has said this. */
void run_wait_said(const char *text);

/* Runs it to its end and checks the exit status and, where not NULL, that it said this. */
void run_expect(const char *const *arguments, int status, const char *said);

#define RUN(...) ((const char *const[]){ __VA_ARGS__, NULL })

#endif
